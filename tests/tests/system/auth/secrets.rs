//! order_service accepts only the gateway, and secrets are never shown.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use stack::{Profile, Service, binaries};
use system_tests::{SOON, System, order_body};

use super::{SECRET, Site, assert_problem, now, provider::Signer, with};

/// The variables whose whole values are secret.
const SECRETS: [&str; 4] =
    ["ORDER_SERVICE_SECRET", "OIDC_CLIENT_SECRET", "SESSION_SECRET", "REDIS_PASSWORD"];

#[tokio::test]
async fn order_service_refuses_calls_without_the_gateways_secret() {
    let mut site = Site::start().await;
    let http = site.system.first(Service::Order).http.expect("it has HTTP");
    let client = site.system.client.clone();
    let token = site.token("admin");
    let bearer = super::bearer(&token);
    let prefix = &SECRET[..SECRET.len() - 1];
    let rows: [(&str, Vec<(&str, &str)>); 6] = [
        ("nothing", vec![]),
        ("a token", vec![("Authorization", &bearer)]),
        ("a wrong secret", vec![("X-Gateway-Secret", "wrong-0123456789")]),
        ("an empty secret", vec![("X-Gateway-Secret", "")]),
        ("most of the secret", vec![("X-Gateway-Secret", prefix)]),
        ("the secret elsewhere", vec![("Authorization", SECRET)]),
    ];
    let url = format!("http://{http}/order");
    for (name, headers) in rows {
        let answer = client.post(&url, &order_body(&["204"], "101"), &headers).await;
        let answer = answer.expect("order_service answers");
        assert_problem(name, &answer, 401, "unauthenticated");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, "X-Gateway-Secret realm=\"order_service\"", "{name}");
    }
    let shown = [("X-Gateway-Secret", SECRET)];
    let answer = client.post(&url, &order_body(&["204"], "101"), &shown).await;
    assert!(answer.expect("order_service answers").status != StatusCode::UNAUTHORIZED);
    let orders = site.ask(&token, Method::GET, "/orders", &Value::Null).await.json();
    assert!(orders["orders"].as_array().expect("a list").len() <= 1, "{orders}");
}

#[tokio::test]
async fn order_service_accepts_only_the_gateway_also_without_authentication() {
    let mut system = System::start().await;
    system.init_data().await;
    let http = system.first(Service::Order).http.expect("it has HTTP");
    let url = format!("http://{http}/order");
    let body = order_body(&["204"], "101");
    let refused = system.client.post(&url, &body, &[]).await.expect("order_service answers");
    assert_problem("nothing", &refused, 401, "unauthenticated");
    let taken = system.as_gateway().post(&url, &body, &[]).await.expect("order_service answers");
    assert_eq!(taken.status, StatusCode::OK, "{}", taken.text());
    system.place(&["204"], "101").await;
}

#[test]
fn containers_that_start_concurrently_share_one_lasting_secret() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gateway-secret.sh");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let begin_with = |options: &[&str], file: &Path| {
        let mut command = Command::new("/bin/sh");
        command.arg(&script).args(options).arg("cat").arg(file);
        command.env("ORDER_SERVICE_SECRET_FILE", file);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell")
    };
    let begin = |file: &Path| begin_with(&[], file);
    // A gateway, which makes no secret.
    let gateway = begin_with(&["--wait"], &file);
    let said = |it: Child| it.wait_with_output().expect("it ends");
    let all: Vec<Child> = (0..8).map(|_| begin(&file)).collect();
    let all: Vec<Vec<u8>> = all.into_iter().map(|it| said(it).stdout).collect();
    let secret = fs::read(&file).unwrap();
    assert_eq!(secret.len(), 44, "32 bytes in base64");
    assert!(all.iter().all(|it| *it == secret), "{all:?}");
    assert_eq!(said(gateway).stdout, secret, "the gateway");
    assert_eq!(said(begin(&file)).stdout, secret, "the next start");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    let nowhere = said(begin(&directory.path().join("none/secret")));
    assert_eq!(nowhere.status.code(), Some(64));
    let complaint = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(complaint.starts_with("bad configuration: ORDER_SERVICE_SECRET_FILE: "), "{complaint}");
}

#[tokio::test]
async fn secrets_and_tokens_are_in_no_log_no_metric_and_no_help() {
    let mut site = Site::start().await;
    let claims = with(&site.claims("operator", "admin"), "marker", json!("a-marker"));
    let good = site.signer.token(&claims);
    let expired = site.signer.token(&with(&claims, "exp", json!(now() - 600)));
    let strange = Signer::ed25519("stranger").token(&claims);
    for (token, status) in [(&good, 200), (&expired, 401), (&strange, 401)] {
        let answer = site.ask(token, Method::GET, "/report", &Value::Null).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let path = format!("/report?access_token={good}");
    let answer = site.send(Method::GET, &path, &[], &Value::Null).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = site.ask(&good, Method::POST, "/order", &order_body(&["204"], "101")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let garbage = [("Authorization", "Bearer marker-of-garbage")];
    let answer = site.send(Method::GET, "/report", &garbage, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);

    // Their signatures as well: a token without its signature is useless.
    let mut hidden = vec![SECRET, "marker-of-garbage"];
    for token in [&good, &expired, &strange] {
        hidden.push(token);
        hidden.extend(token.split('.').skip(1));
    }
    let assert_hidden = |source: &str, text: &str| {
        assert!(!text.is_empty(), "{source} says nothing");
        for secret in &hidden {
            assert!(!text.contains(secret), "{source} shows {secret}:\n{text}");
        }
    };
    let directory = binaries::build(Profile::Debug).expect("binaries");
    for service in Service::ALL {
        let ops = site.system.first(service).ops;
        let metrics = site.system.client.get(&format!("http://{ops}/metrics")).await;
        assert_hidden(&format!("{service}'s metrics"), &metrics.expect("metrics").text());
        for option in ["-h", "--help"] {
            // The help shows the values of all variables except these.
            let mut command = Command::new(directory.join(service.name()));
            let url = format!("redis://user:{SECRET}@127.0.0.1:1");
            for variable in SECRETS {
                command.env(variable, SECRET);
            }
            let command = command.arg(option).env("REDIS_URL", &url).env("ORDER_REDIS_URL", url);
            let output = command.output().expect("it runs");
            let said = [output.stdout, output.stderr].concat();
            assert_hidden(&format!("{service} {option}"), &String::from_utf8_lossy(&said));
        }
    }
    for service in Service::ALL {
        // Lines are written with a delay; an ended process has written all of them.
        let process = &mut site.system.first(service).process;
        process.terminate().expect("it can be asked to end");
        process.wait(SOON).expect("it ends");
        let logs = site.system.logs(service);
        let refuses = service == Service::Gateway;
        assert_eq!(logs.contains("a token was refused"), refuses, "{service}: {logs}");
        assert_hidden(&format!("{service}'s log"), &logs);
    }
}
