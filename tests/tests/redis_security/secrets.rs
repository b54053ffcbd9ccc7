//! Passwords appear only in their own files.

use std::{fs, path::Path};

use common::connection::url::{RedisAccess, RedisUrl};
use stack::{RedisUsers, Service, StackOptions};
use system_tests::{
    System, logged,
    process::{process, run},
};

use crate::support::{Guarded, ask};

const MARKER: &str = "open-sesame-3141";

/// The arguments and, if permitted, the variables of our child processes.
fn arguments() -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter(|it| it.file_name().to_string_lossy().parse::<u32>().is_ok());
    let texts = pids.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    texts.map(|text| String::from_utf8_lossy(&text).replace('\0', " ") + "\n").collect()
}

/// The contents of all files below a directory, except the files of the passwords.
fn written(dir: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all += &written(&path);
        } else if !path.parent().unwrap().ends_with("users") {
            all += &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default());
        }
    }
    all
}

#[tokio::test]
async fn no_password_appears_in_logs_metrics_arguments_or_files() {
    let options = StackOptions {
        acl: true,
        tls: true,
        env: [("LOG_LEVEL".to_owned(), "trace".to_owned())].into(),
        ..StackOptions::default()
    };
    let system = System::start_with(options).await;
    system.init_data().await;
    system.order(&["204"], "101").await;
    let mut shown = arguments() + &written(system.stack.dir());
    for instance in system.stack.instances() {
        for path in ["/metrics", "/readyz", "/nothing"] {
            let url = format!("http://{}{path}", instance.ops);
            shown += &system.client.get(&url).await.unwrap().text();
        }
    }
    for path in ["/report", "/flow", "/openapi.json", "/orders"] {
        shown += &system.get(path).await.text();
    }
    assert!(shown.contains("order_service") && shown.contains("user order on #"), "{shown}");
    for user in RedisUsers::names() {
        let file = system.stack.dir().join("users").join(format!("redis-{user}"));
        let password = fs::read_to_string(file).unwrap();
        assert!(password.len() > 30);
        assert!(!shown.contains(&password), "the password of {user} shows");
    }
}

#[tokio::test]
async fn no_password_appears_in_errors_debug_output_or_help() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, MARKER).unwrap();
    let file = file.display().to_string();
    let own = redis.url_of("order");
    let within = format!("{own}&pass={MARKER}");
    let ways: [&[(&str, &str)]; 3] = [
        &[("REDIS_URL", &own), ("REDIS_PASSWORD", MARKER)],
        &[("REDIS_URL", &own), ("REDIS_PASSWORD_FILE", &file)],
        &[("REDIS_URL", &within)],
    ];
    for right in [false, true] {
        if right {
            ask(&mut operator, &format!("ACL SETUSER order >{MARKER}")).await.unwrap();
        }
        for env in ways {
            let env = [env, &[("LOG_LEVEL", "trace")]].concat();
            let process = process(dir.path(), Service::Order, &env, &[]);
            let expected = if right {
                "grants all required permissions"
            } else {
                "wrong user name or password"
            };
            logged(expected, || process.logs()).await;
            assert!(!process.logs().contains(MARKER), "{}", process.logs());
            let (code, help) = run(Service::Order, &env, &["--help"]);
            assert_eq!(code, Some(0));
            assert!(help.contains("REDIS_PASSWORD") && !help.contains(MARKER), "{help}");
        }
    }
    let url: RedisUrl = within.parse().unwrap();
    let access = RedisAccess { redis_password: Some(MARKER.into()), ..Default::default() };
    let own: RedisUrl = own.parse().unwrap();
    let entrance = access.for_servers([&own]).unwrap();
    let shown = format!("{url} {url:?} {access:?} {entrance:?} {:?}", own.with(&entrance).unwrap());
    assert!(!shown.contains(MARKER), "{shown}");
}
