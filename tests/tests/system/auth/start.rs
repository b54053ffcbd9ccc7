//! Configurations that would admit all callers, or none.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, ErrorKind},
    net::TcpListener,
    process::{Command, Stdio},
};

use stack::{Profile, Service, StackOptions, binaries};
use system_tests::{SOON, System, eventually};

use super::{AUDIENCE, SECRET};

const HERE: &str = "127.0.0.1:0";
const ISSUER: &str = "https://issuer.example";

#[test]
fn missing_and_dangerous_settings_exit_64_and_are_named() {
    let binaries = binaries::build(Profile::Debug).expect("binaries");
    let (gateway, order) = (Service::Gateway, Service::Order);
    let (secret, issuer) = (("ORDER_SERVICE_SECRET", SECRET), ("OIDC_ISSUER", ISSUER));
    let audience = ("OIDC_AUDIENCE", AUDIENCE);
    let required = ("AUTH_MODE", "required");
    let off = ("AUTH_MODE", "off");
    let (nowhere, anywhere) = (("HTTP_ADDR", "0.0.0.0:0"), ("AUTH_OFF_ANYWHERE", "false"));
    type Row<'a> = (&'a str, Service, Vec<(&'a str, &'a str)>, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("nothing is said", gateway, vec![], "ORDER_SERVICE_SECRET"),
        ("nothing is said", order, vec![], "ORDER_SERVICE_SECRET"),
        ("no secret", gateway, vec![required, issuer, audience], "ORDER_SERVICE_SECRET"),
        ("no secret", order, vec![required], "ORDER_SERVICE_SECRET"),
        ("no issuer", gateway, vec![required, secret, audience], "OIDC_ISSUER"),
        ("no audience", gateway, vec![required, secret, issuer], "OIDC_AUDIENCE"),
        (
            "an empty issuer",
            gateway,
            vec![required, secret, audience, ("OIDC_ISSUER", "")],
            "OIDC_ISSUER",
        ),
        (
            "an issuer in the clear",
            gateway,
            vec![required, secret, audience, ("OIDC_ISSUER", "http://issuer.example")],
            "OIDC_ISSUER",
        ),
        (
            "no such file of keys",
            gateway,
            vec![required, secret, issuer, audience, ("OIDC_JWKS_FILE", "/nowhere/keys.json")],
            "OIDC_JWKS_FILE",
        ),
        (
            "a short secret",
            gateway,
            vec![required, ("ORDER_SERVICE_SECRET", "marker-short")],
            "ORDER_SERVICE_SECRET",
        ),
        (
            "a short secret",
            order,
            vec![required, ("ORDER_SERVICE_SECRET", "marker-short")],
            "ORDER_SERVICE_SECRET",
        ),
        (
            "a secret file that is not there",
            order,
            vec![required, ("ORDER_SERVICE_SECRET_FILE", "/nowhere/secret")],
            "ORDER_SERVICE_SECRET_FILE",
        ),
        ("off for other hosts", gateway, vec![off, nowhere, anywhere], "AUTH_MODE"),
        ("off for other hosts", order, vec![off, nowhere, anywhere], "AUTH_MODE"),
        ("off on [::]", gateway, vec![off, ("HTTP_ADDR", "[::]:0"), anywhere], "AUTH_MODE"),
    ];
    for (name, service, env, variable) in rows {
        let name = format!("{service}: {name}");
        let mut command = Command::new(binaries.join(service.name()));
        let command = command.env_clear().env("HTTP_ADDR", HERE).envs(env);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{name}: {said}");
        assert!(said.starts_with(&format!("bad configuration: {variable}: ")), "{name}: {said}");
        assert!(!said.contains("marker"), "{name}: {said}");
    }
}

/// A proxy gets the name of the provider, and then an encrypted connection.
#[test]
fn a_provider_elsewhere_is_reached_through_the_proxy_of_the_environment() {
    let binaries = binaries::build(Profile::Debug).expect("binaries");
    for (issuer, no_proxy, proxied) in
        [(ISSUER, "", true), (ISSUER, "issuer.example", false), ("http://127.0.0.1:9", "", false)]
    {
        let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", proxy.local_addr().expect("its address"));
        let mut gateway = Command::new(binaries.join(Service::Gateway.name()))
            .env_clear()
            .envs([("HTTP_ADDR", HERE), ("OPS_ADDR", HERE), ("REDIS_URL", "redis://127.0.0.1:9")])
            .envs([("ORDER_SERVICE_SECRET", SECRET), ("OIDC_AUDIENCE", AUDIENCE)])
            .envs([("OIDC_ISSUER", issuer), ("NO_PROXY", no_proxy)])
            .envs([("HTTPS_PROXY", &address), ("HTTP_PROXY", &address)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let log = gateway.stdout.take().expect("its output");
        if proxied {
            let (mut client, _) = proxy.accept().expect("a client");
            let mut line = String::new();
            BufReader::new(&mut client).read_line(&mut line).expect("a request");
            assert_eq!(line, "CONNECT issuer.example:443 HTTP/1.1\r\n");
        } else {
            let failed = |line: &String| line.contains("the provider cannot be reached");
            let mut lines = BufReader::new(log).lines().map(|line| line.expect("text"));
            lines.find(failed).expect("the fetch fails");
            proxy.set_nonblocking(true).expect("set");
            let error = proxy.accept().expect_err("the proxy has no client");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        gateway.kill().expect("killed");
        gateway.wait().expect("ended");
    }
}

#[tokio::test]
async fn auth_mode_off_needs_an_explicit_setting_for_other_machines_and_warns() {
    let port = stack::ports::free();
    let env = [("HTTP_ADDR", format!("0.0.0.0:{port}")), ("AUTH_OFF_ANYWHERE", "true".to_owned())];
    let env = BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value)));
    let options = StackOptions {
        gateway_port: Some(port),
        service_env: BTreeMap::from([(Service::Gateway, env)]),
        ..StackOptions::default()
    };
    let system = System::start_with(options).await;
    system.report().await;
    eventually("a warning", SOON, async || {
        let logs = system.logs(Service::Gateway);
        let warns = logs.contains("AUTH_MODE=off: REQUESTS ARE NOT AUTHENTICATED");
        if warns { Ok(()) } else { Err(logs) }
    })
    .await;
}
