//! `deploy/redis/entrypoint.sh` alone, with `echo` in the place of the server.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const USERS: [&str; 6] = ["ORDER", "INVENTORY", "ACCOUNT", "MESSAGE", "GATEWAY", "OPERATOR"];
/// SHA-256 of `open-sesame`.
const HASH: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

/// A variable with its value, or without one to unset it.
type Change<'a> = (&'a str, Option<&'a str>);

/// Runs the script with passwords for all users, except for these changes.
fn run(dir: &Path, changes: &[Change<'_>]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/redis/entrypoint.sh");
    let mut command = Command::new("/bin/sh");
    command.arg(script).args(["echo", "--port", "1"]);
    command.env("REDIS_ACL_FILE", dir.join("rendered.acl"));
    for user in USERS {
        command.env(format!("REDIS_{user}_PASSWORD"), "open-sesame");
    }
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().expect("a shell")
}

#[test]
fn the_server_gets_hashes_for_all_forms_of_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let path = file.display().to_string();
    for text in ["open-sesame", "open-sesame\n", "open-sesame\r\n"] {
        fs::write(&file, text).unwrap();
        let changes = [("REDIS_ORDER_PASSWORD", None), ("REDIS_ORDER_PASSWORD_FILE", Some(&*path))];
        let output = run(dir.path(), &changes);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rendered = dir.path().join("rendered.acl");
        assert_eq!(said.trim(), format!("--port 1 --aclfile {}", rendered.display()), "{output:?}");
        let acl = fs::read_to_string(&rendered).unwrap();
        assert_eq!(acl.matches(HASH).count(), 6, "{acl}");
        assert!(acl.lines().all(|line| line.starts_with("user ")), "{acl}");
        assert!(!acl.contains("open-sesame") && !acl.contains('<'), "{acl}");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(rendered.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_server_of_one_topic_grants_no_permission_for_other_topics() {
    let dir = tempfile::tempdir().unwrap();
    let rendered = |topics: Option<&str>| {
        let output = run(dir.path(), &[("REDIS_TOPICS", topics)]);
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(dir.path().join("rendered.acl")).unwrap()
    };
    let topics = ["order", "inventory", "account", "message"];
    let whole = rendered(None);
    assert_eq!(rendered(Some("order inventory account message")), whole);
    for topic in topics {
        let acl = rendered(Some(topic));
        assert_eq!(acl.lines().count(), whole.lines().count(), "{acl}");
        for other in topics.into_iter().filter(|it| *it != topic) {
            assert!(!acl.contains(&format!("{{{other}}}")), "{other} at {topic}: {acl}");
        }
        let runs_scripts = acl.lines().filter(|line| line.contains("+eval"));
        let runs_scripts: Vec<&str> = runs_scripts.collect();
        assert!(matches!(&runs_scripts[..], [own] if own.starts_with(&format!("user {topic} "))));
    }
    let output = run(dir.path(), &[("REDIS_TOPICS", Some("order orders"))]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("bad configuration: REDIS_TOPICS: there is no topic orders"), "{said}");
}

#[test]
fn a_missing_or_duplicate_password_exits_64_and_names_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "\n").unwrap();
    let (path, missing) = (file.display().to_string(), dir.path().join("missing"));
    let missing = missing.display().to_string();
    let template = dir.path().join("template.acl");
    fs::write(&template, "user somebody on <somebody>\n").unwrap();
    let template = template.display().to_string();
    for user in USERS {
        let (variable, of_file) =
            (format!("REDIS_{user}_PASSWORD"), format!("REDIS_{user}_PASSWORD_FILE"));
        let cases: [(&[Change<'_>], &str); 5] = [
            (&[(&variable, None)], &format!("{variable}: there is no password")),
            (&[(&variable, Some(""))], &format!("{variable}: there is no password")),
            (&[(&of_file, Some(&path))], &format!("{of_file}: {variable} is given as well")),
            (&[(&variable, None), (&of_file, Some(&path))], &format!("{of_file}: there is no")),
            (&[(&variable, None), (&of_file, Some(&missing))], &format!("{of_file}: cannot read")),
        ];
        for (changes, expected) in cases {
            let output = run(dir.path(), changes);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(64), "{changes:?}: {said}");
            assert!(
                said.contains(&format!("bad configuration: {expected}")),
                "{changes:?}: {said}"
            );
            assert!(!said.contains("open-sesame"), "{said}");
        }
    }
    let output = run(dir.path(), &[("REDIS_ACL_TEMPLATE", Some(&template))]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}
