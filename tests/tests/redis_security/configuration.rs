//! Invalid settings: each ends the process with 64 and is named.

use std::fs;

use stack::Service;
use system_tests::process::run;

use crate::support::certificates;

/// The expected variable in the error, the settings, and a part of the reason.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);

#[test]
fn a_bad_password_or_certificate_exits_64_and_names_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = certificates(dir.path(), "good", 1, 1);
    let other = certificates(dir.path(), "other", 1, 1);
    let path = |path: std::path::PathBuf| path.display().to_string();
    let (ca, cert, key) = (path(good.ca()), path(good.client()), path(good.client_key()));
    let other_key = path(other.client_key());
    let missing = path(dir.path().join("missing.pem"));
    let (empty, text) = (write("empty.pem", b""), write("text.pem", b"not a certificate\n"));
    let garbled =
        write("garbled.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let half = write("half.pem", b"-----BEGIN CERTIFICATE-----\nMIIB");
    let (blank, binary) = (write("blank", b"\n"), write("binary", &[0xff, 0xfe]));
    const TLS: (&str, &str) = ("REDIS_URL", "rediss://localhost:1");
    const USER: (&str, &str) = ("REDIS_URL", "redis://order@localhost:1");
    let cases: Vec<Case<'_>> = vec![
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &missing)], "missing.pem"),
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &empty)], "there is no certificate in it"),
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &text)], "there is no certificate in it"),
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &key)], "there is no certificate in it"),
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &garbled)], "garbled.pem"),
        ("REDIS_TLS_CA", vec![TLS, ("REDIS_TLS_CA", &half)], "half.pem"),
        (
            "REDIS_TLS_CERT",
            vec![TLS, ("REDIS_TLS_CA", &ca), ("REDIS_TLS_CERT", &missing), ("REDIS_TLS_KEY", &key)],
            "missing.pem",
        ),
        (
            "REDIS_TLS_KEY",
            vec![
                TLS,
                ("REDIS_TLS_CA", &ca),
                ("REDIS_TLS_CERT", &cert),
                ("REDIS_TLS_KEY", &missing),
            ],
            "missing.pem",
        ),
        (
            "REDIS_TLS_KEY",
            vec![TLS, ("REDIS_TLS_CA", &ca), ("REDIS_TLS_CERT", &cert), ("REDIS_TLS_KEY", &text)],
            "text.pem",
        ),
        (
            "REDIS_TLS_KEY",
            vec![
                TLS,
                ("REDIS_TLS_CA", &ca),
                ("REDIS_TLS_CERT", &cert),
                ("REDIS_TLS_KEY", &other_key),
            ],
            "does not match the certificate",
        ),
        (
            "REDIS_TLS_KEY",
            vec![TLS, ("REDIS_TLS_CA", &ca), ("REDIS_TLS_CERT", &cert)],
            "name the file of its key as well",
        ),
        (
            "REDIS_TLS_CERT",
            vec![TLS, ("REDIS_TLS_CA", &ca), ("REDIS_TLS_KEY", &key)],
            "name the file of its certificate as well",
        ),
        ("REDIS_TLS_CA", vec![("REDIS_TLS_CA", &ca)], "rediss://, and there is none"),
        (
            "REDIS_TLS_CERT",
            vec![("REDIS_TLS_CERT", &cert), ("REDIS_TLS_KEY", &key)],
            "rediss://, and there is none",
        ),
        ("REDIS_URL", vec![("REDIS_URL", "rediss://localhost:1/#insecure")], "always checked"),
        ("REDIS_PASSWORD", vec![USER], "the user name order and no password"),
        ("REDIS_PASSWORD", vec![USER, ("REDIS_PASSWORD", "")], "it is empty"),
        ("REDIS_PASSWORD_FILE", vec![USER, ("REDIS_PASSWORD_FILE", &missing)], "missing.pem"),
        ("REDIS_PASSWORD_FILE", vec![USER, ("REDIS_PASSWORD_FILE", &blank)], "it is empty"),
        ("REDIS_PASSWORD_FILE", vec![USER, ("REDIS_PASSWORD_FILE", &binary)], "binary"),
        (
            "REDIS_PASSWORD_FILE",
            vec![USER, ("REDIS_PASSWORD_FILE", &blank), ("REDIS_PASSWORD", "x")],
            "leave out one",
        ),
        ("REDIS_PASSWORD", vec![("REDIS_PASSWORD", "open-sesame")], "and there is none"),
        (
            "REDIS_PASSWORD",
            vec![("REDIS_URL", "redis://a:b@localhost:1"), ("REDIS_PASSWORD", "open-sesame")],
            "and there is none",
        ),
        (
            "ACCOUNT_REDIS_URL",
            vec![("ACCOUNT_REDIS_URL", "rediss://h:1/#insecure")],
            "always checked",
        ),
    ];
    for service in [Service::Gateway, Service::Order, Service::Message] {
        for (variable, env, reason) in &cases {
            let (code, said) = run(service, env, &[]);
            assert_eq!(code, Some(64), "{service} {env:?}: {said}");
            assert!(
                said.starts_with(&format!("bad configuration: {variable}: ")),
                "{service} {env:?}: {said}"
            );
            assert!(said.contains(reason), "{service} {env:?}: no {reason:?} in {said}");
            assert!(!said.contains("open-sesame"), "{said}");
        }
    }
}

#[test]
fn secrets_in_flags_are_refused_and_the_error_names_the_alternative() {
    const URL: &str = "redis://order:open-sesame@localhost:1";
    let of_all = [
        (["--redis-password", "open-sesame"], "REDIS_PASSWORD", "REDIS_PASSWORD_FILE"),
        (["--redis-url", URL], "REDIS_URL", "REDIS_PASSWORD_FILE"),
        (["--message-redis-url", URL], "MESSAGE_REDIS_URL", "REDIS_PASSWORD_FILE"),
    ];
    let between = ["--order-service-secret", "open-sesame-open-sesame"];
    let between = (between, "ORDER_SERVICE_SECRET", "ORDER_SERVICE_SECRET_FILE");
    let of_gateway = [
        between,
        (["--session-secret", "open-sesame"], "SESSION_SECRET", "SESSION_SECRET_FILE"),
        (["--oidc-client-secret", "open-sesame"], "OIDC_CLIENT_SECRET", "OIDC_CLIENT_SECRET_FILE"),
    ];
    let refused = |said: &str, flag: &str, variable: &str, instead: &str| {
        let begin = format!("bad configuration: {variable}: no ");
        assert!(said.starts_with(&begin), "{flag}: {said}");
        for part in [flag, &format!("set the variable {variable}"), instead] {
            assert!(said.contains(part), "{flag}: no {part:?} in {said}");
        }
        assert!(!said.contains("open-sesame"), "{said}");
    };
    for service in Service::ALL {
        let more: &[_] = match service {
            Service::Gateway => &of_gateway,
            Service::Order => &of_gateway[..1],
            _ => &[],
        };
        for (args, variable, instead) in of_all.iter().chain(more) {
            let (code, said) = run(service, &[], args);
            assert_eq!(code, Some(64), "{service} {args:?}: {said}");
            refused(&said, args[0], variable, instead);
        }
        // A URL without a password is not a secret.
        let (code, said) = run(service, &[], &["--redis-url", "redis://localhost:1", "--version"]);
        assert_eq!(code, Some(0), "{said}");
    }
}
