//! TLS: certificates, their replacement, and unusable ones.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::pem;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use stack::Service;
use system_tests::{SOON, System, eventually, logged};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{outline, raw, start, talk};

/// Writes a new certificate for localhost, and returns it.
fn certificate(directory: &Path, expired: bool) -> CertificateDer<'static> {
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned(), "shop.example".to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), made.pem()).unwrap();
    made.der().clone()
}

/// A TLS connection to the server with this certificate.
async fn encrypted(
    gateway: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(pem::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(gateway).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    stream.map_err(|error| error.to_string())
}

async fn https(
    gateway: SocketAddr,
    trusted: &CertificateDer<'static>,
    host: &str,
) -> Result<String, String> {
    let stream = encrypted(gateway, trusted).await?;
    let text = format!("GET /flow HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Ok(talk(stream, &text).await)
}

/// A system whose gateway serves with the certificate of [`certificate`].
async fn with_certificate(directory: &Path) -> (System, SocketAddr) {
    let path = |name: &str| directory.join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let hosts = "localhost,shop.example";
    start(&[("TLS_CERT", &cert), ("TLS_KEY", &key), ("ALLOWED_HOSTS", hosts)]).await
}

#[tokio::test]
async fn a_certificate_is_replaced_under_traffic_and_a_bad_one_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path(), false);
    let (system, gateway) = with_certificate(directory.path()).await;
    let answer = https(gateway, &first, "localhost").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "not for this machine: {answer}");
    let answer = https(gateway, &first, "shop.example").await.unwrap();
    assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    // Plain HTTP gets an explanation.
    let answer = raw(gateway, "GET /flow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(outline(&answer), (400, "https-required".to_owned(), String::new()), "{answer}");

    let second = certificate(directory.path(), false);
    eventually("the second certificate", SOON, async || {
        // No request fails, with either certificate.
        let (old, new) =
            (https(gateway, &first, "localhost").await, https(gateway, &second, "localhost").await);
        assert!(old.is_ok() || new.is_ok() || https(gateway, &second, "localhost").await.is_ok());
        new.map(drop)
    })
    .await;
    std::fs::write(directory.path().join("cert.pem"), "nonsense").unwrap();
    logged("the certificate was not replaced: TLS_CERT", || system.logs(Service::Gateway)).await;
    assert!(https(gateway, &second, "localhost").await.is_ok());
    let logs = system.logs(Service::Gateway);
    assert!(logs.contains("listening on https://"), "{logs}");
    assert!(!logs.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn requests_go_on_while_the_certificate_changes() {
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path(), false);
    let (_system, gateway) = with_certificate(directory.path()).await;
    // A connection that stays open during the change.
    let mut stream = encrypted(gateway, &first).await.unwrap();
    let changed = AtomicBool::new(false);
    let second = certificate(directory.path(), false);
    let traffic = async {
        let mut buffer = vec![0; 64 * 1024];
        while !changed.load(Ordering::Relaxed) {
            stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..count].starts_with(b"HTTP/1.1 404"), "{count}");
        }
    };
    let change = async {
        eventually("the second certificate", SOON, async || {
            https(gateway, &second, "localhost").await.map(drop)
        })
        .await;
        changed.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, change);
}

#[tokio::test]
async fn an_expired_certificate_is_used_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let made = certificate(directory.path(), true);
    let (system, gateway) = with_certificate(directory.path()).await;
    let refused = https(gateway, &made, "localhost").await.unwrap_err();
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    let logs = system.logs(Service::Gateway);
    assert!(logs.contains("has expired; clients will refuse it"), "{logs}");
}

#[test]
fn an_unusable_certificate_exits_64_and_names_its_variable() {
    let binaries = stack::binaries::build(stack::Profile::Debug).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    certificate(directory.path(), false);
    std::fs::rename(path("key.pem"), path("other-key.pem")).unwrap();
    certificate(directory.path(), false);
    std::fs::write(path("nonsense.pem"), "nonsense").unwrap();
    let (cert, key, other) = (path("cert.pem"), path("key.pem"), path("other-key.pem"));
    let (nonsense, none) = (path("nonsense.pem"), path("none.pem"));
    type Env<'a> = Vec<(&'a str, &'a str)>;
    let rows: [(&str, Env<'_>, &str); 13] = [
        ("no key", vec![("TLS_CERT", &cert)], "TLS_KEY: "),
        ("no certificate", vec![("TLS_KEY", &key)], "TLS_CERT: "),
        ("no such certificate", vec![("TLS_CERT", &none), ("TLS_KEY", &key)], "TLS_CERT: "),
        ("no such key", vec![("TLS_CERT", &cert), ("TLS_KEY", &none)], "TLS_KEY: "),
        ("no PEM", vec![("TLS_CERT", &nonsense), ("TLS_KEY", &key)], "TLS_CERT: "),
        ("another's key", vec![("TLS_CERT", &cert), ("TLS_KEY", &other)], "TLS_KEY: "),
        ("a bad rate", vec![("RATE_PER_ADDRESS", "many")], "RATE_PER_ADDRESS: "),
        ("a bad subject's rate", vec![("RATE_PER_SUBJECT", "0/s")], "RATE_PER_SUBJECT: "),
        ("a bad write rate", vec![("WRITE_RATE_PER_SUBJECT", "1")], "WRITE_RATE_PER_SUBJECT: "),
        ("a bad percentage", vec![("MAX_MEMORY_PERCENT", "100")], "MAX_MEMORY_PERCENT: "),
        ("a bad network", vec![("TRUSTED_PROXIES", "10.0.0.0/33")], "TRUSTED_PROXIES: "),
        ("no permits", vec![("MAX_IN_FLIGHT", "0")], "MAX_IN_FLIGHT: "),
        ("little memory", vec![("MAX_UNSENT_BYTES", "8388607")], "MAX_UNSENT_BYTES: "),
    ];
    for (name, env, complaint) in rows {
        let mut command = Command::new(binaries.join(Service::Gateway.name()));
        let output = command.env_clear().envs(env).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{name}: {said}");
        assert!(said.starts_with(&format!("bad configuration: {complaint}")), "{name}: {said}");
        assert!(!said.contains("many\n"), "{name}: {said}");
    }
}
