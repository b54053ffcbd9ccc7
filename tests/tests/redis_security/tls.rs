//! TLS to Redis: trusted servers, the errors for untrusted ones, and the absence of a fallback.

use std::{net::SocketAddr, path::Path};

use base64::Engine as _;
use common::connection::{error::ConnectionError, url::RedisAccess};
use redis::aio::MultiplexedConnection;
use stack::{
    CertificatePlan, Certificates, Listen, RedisOptions, RedisServer, Service, probe::http_status,
};
use system_tests::{SOON, eventually, logged, process::process};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::support::{DAY, ask, certificates, enter, now};

fn server(certificates: &Certificates, wanted: &str) -> RedisServer {
    let args = ["--tls-auth-clients", wanted].map(str::to_owned).to_vec();
    let options =
        RedisOptions { certificates: Some(certificates.clone()), args, ..RedisOptions::default() };
    RedisServer::start(options).expect("a Redis with TLS")
}

/// A server that changes to a bad certificate, and a connection from before the change.
async fn turned_bad(
    good: &Certificates,
    bad: &Certificates,
) -> (RedisServer, MultiplexedConnection) {
    let server = server(good, "optional");
    let mut connection = enter(&server.url(), &access(good, None)).await.expect("trusted");
    show(&mut connection, bad).await;
    (server, connection)
}

/// Sets the certificate of the server.
async fn show(redis: &mut MultiplexedConnection, certificates: &Certificates) {
    show_files(redis, &certificates.server(), &certificates.server_key()).await;
}

async fn show_files(redis: &mut MultiplexedConnection, certificate: &Path, key: &Path) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("tls-cert-file").arg(certificate.to_str());
    set.arg("tls-key-file").arg(key.to_str());
    let () = set.query_async(redis).await.expect("it is set");
}

fn access(ca: &Certificates, client: Option<&Certificates>) -> RedisAccess {
    RedisAccess {
        redis_tls_ca: Some(ca.ca()),
        redis_tls_cert: client.map(Certificates::client),
        redis_tls_key: client.map(Certificates::client_key),
        ..RedisAccess::default()
    }
}

async fn error(url: &str, access: &RedisAccess) -> ConnectionError {
    match enter(url, access).await {
        Ok(_) => panic!("{url} was trusted"),
        Err(error) => error,
    }
}

/// The error, which must report an untrusted server and contain this text.
async fn distrusted(url: &str, access: &RedisAccess, expected: &str) {
    let error = error(url, access).await;
    assert!(matches!(error, ConnectionError::Insecure { .. }), "{url}: {error:?}");
    let text = error.to_string();
    assert!(text.contains("cannot be trusted") && text.contains(expected), "{url}: {text}");
}

async fn trusted(url: &str, access: &RedisAccess) {
    let mut redis = enter(url, access).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    ask(&mut redis, "SET a 1").await.expect("it works");
}

fn named(host: &str, server: &RedisServer) -> String {
    server.url().replace("127.0.0.1", host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_only_with_the_right_authority_name_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    let other = certificates(dir.path(), "other", 1, 10);
    let redis = server(&good, "optional");
    for host in ["127.0.0.1", "localhost"] {
        trusted(&named(host, &redis), &access(&good, None)).await;
        trusted(&named(host, &redis), &access(&good, Some(&good))).await;
    }
    let unknown = "signed by no known authority; REDIS_TLS_CA";
    distrusted(&redis.url(), &access(&other, None), unknown).await;
    // The system's own authorities, if there are any, have not signed the certificate.
    let nothing: common::connection::url::RedisUrl = redis.url().parse().unwrap();
    match RedisAccess::default().for_servers([&nothing]) {
        Ok(_) => distrusted(&redis.url(), &RedisAccess::default(), unknown).await,
        Err(error) => assert_eq!(error.variable, "REDIS_TLS_CA"),
    }
    // 127.0.0.2 is this machine as well.
    let elsewhere = server_on_all(&good);
    distrusted(
        &named("127.0.0.2", &elsewhere),
        &access(&good, None),
        "for another host than the one in the URL: for localhost, 127.0.0.1, ::1, redis, redis_inventory",
    )
    .await;
}

/// The server also listens on addresses that are not in its certificate.
fn server_on_all(certificates: &Certificates) -> RedisServer {
    let args = ["--bind", "127.0.0.1", "127.0.0.2"].map(str::to_owned).to_vec();
    let options =
        RedisOptions { certificates: Some(certificates.clone()), args, ..RedisOptions::default() };
    RedisServer::start(options).expect("a Redis with TLS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_expired_or_is_not_valid_yet_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    for (name, ago, validity, expected) in
        [("expired", 10_i64, 9_u32, "has expired"), ("not-yet", -5, 9, "is not valid yet")]
    {
        let bad = certificates_from(dir.path(), name, ago, validity);
        let (redis, _connection) = turned_bad(&good, &bad).await;
        // The authority's certificate has the same validity and the same error.
        distrusted(&redis.url(), &access(&bad, None), expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_wrong_kind_is_named_with_the_right_kind() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let ours = rcgen::KeyPair::generate().unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&ours).unwrap();
    let plain = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let nameless = plain.self_signed(&ours).unwrap();
    let (good_ca, own) = (good.ca(), dir.path().join("own.pem"));
    // Documents of other programs recommend trusting the certificate itself; one of version 1 cannot even
    // be an authority.
    for (certificate, ca, expected) in [
        (authority.pem(), &own, "one of an authority, as a self-signed one often is"),
        (nameless.pem(), &own, "its certificate names no host"),
        (
            of_version_1(authority.der()),
            &good_ca,
            "of an old version of X.509; it needs one of version 3",
        ),
    ] {
        let redis = server(&good, "optional");
        let mut connection = enter(&redis.url(), &access(&good, None)).await.expect("trusted");
        let key = dir.path().join("own.key");
        std::fs::write(&own, &certificate).unwrap();
        std::fs::write(&key, ours.serialize_pem()).unwrap();
        show_files(&mut connection, &own, &key).await;
        let trust = RedisAccess { redis_tls_ca: Some(ca.clone()), ..RedisAccess::default() };
        distrusted(&redis.url(), &trust, expected).await;
    }
}

/// The certificate (DER) with another version, as PEM. Its signature, which is wrong then, is not checked
/// any more.
fn of_version_1(certificate: &[u8]) -> String {
    let mut der = certificate.to_vec();
    let version_3 = [0xa0, 3, 2, 1, 2];
    let version = der.windows(5).position(|bytes| bytes == version_3).expect("a version");
    der[version + 4] = 0;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap()).collect();
    format!(
        "-----BEGIN CERTIFICATE-----
{}
-----END CERTIFICATE-----
",
        lines.join(
            "
"
        )
    )
}

/// Certificates that are valid from this number of days ago, which may be negative.
fn certificates_from(dir: &Path, name: &str, ago: i64, validity: u32) -> Certificates {
    let days = |days: i64| DAY * u32::try_from(days.abs()).unwrap();
    let now = now();
    let plan = CertificatePlan {
        from: if ago < 0 { now + days(ago) } else { now - days(ago) },
        validity: DAY * validity,
        ..CertificatePlan::for_days(1)
    };
    Certificates::make(&dir.join(name), &plan).expect("certificates")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_client_certificate_is_sent_or_its_setting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    let other = certificates(dir.path(), "other", 1, 10);
    let redis = server(&good, "yes");
    trusted(&redis.url(), &access(&good, Some(&good))).await;
    distrusted(&redis.url(), &access(&good, None), "REDIS_TLS_CERT and REDIS_TLS_KEY").await;
    let strange = RedisAccess { redis_tls_ca: Some(good.ca()), ..access(&other, Some(&other)) };
    distrusted(&redis.url(), &strange, "certificate of REDIS_TLS_CERT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_kind_of_port_is_named_and_nothing_falls_back() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    let options = RedisOptions { listen: Listen::FreePort, ..RedisOptions::default() };
    let plain = RedisServer::start(options).expect("a Redis");
    let url = plain.url().replace("redis://", "rediss://");
    for _ in 0..5 {
        // The answer of a plain server to TLS varies with the random bytes in the handshake.
        distrusted(&url, &access(&good, None), "a port without TLS, its URL begins with redis://")
            .await;
    }
    let tls = server(&good, "optional");
    let url = tls.url().replace("rediss://", "redis://");
    distrusted(&url, &RedisAccess::default(), "it speaks TLS; its URL begins with rediss://").await;
    let strict = server(&good, "yes");
    let url = strict.url().replace("rediss://", "redis://");
    distrusted(&url, &RedisAccess::default(), "it speaks TLS; its URL begins with rediss://").await;
    // A server that only disconnects is unavailable, not untrusted.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    tokio::spawn(async move { while silent.accept().await.is_ok() {} });
    let said = error(&url, &RedisAccess::default()).await;
    assert!(matches!(said, ConnectionError::Away { .. }), "{said}");
    // A listener without TLS receives no command.
    let spy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = spy.local_addr().unwrap().port();
    let listen = tokio::spawn(async move {
        let (mut stream, _) = spy.accept().await.unwrap();
        let mut heard = vec![0; 65_536];
        let length = stream.read(&mut heard).await.unwrap();
        heard.truncate(length);
        heard
    });
    let url = format!("rediss://order:open-sesame@127.0.0.1:{port}");
    error(&url, &access(&good, None)).await;
    let heard = listen.await.unwrap();
    let text = String::from_utf8_lossy(&heard);
    assert!(heard[0] == 0x16 && !text.contains("AUTH") && !text.contains("open-sesame"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reports_an_untrusted_redis_once_and_is_ready_after_the_repair() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificates(dir.path(), "good", 1, 10);
    let expired = certificates_from(dir.path(), "expired", 10, 9);
    let (redis, mut connection) = turned_bad(&good, &expired).await;
    let authorities = dir.path().join("both.pem");
    let both = [good.ca(), expired.ca()].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&authorities, both.concat()).unwrap();
    let ops = format!("127.0.0.1:{}", stack::ports::free());
    let env = [
        ("REDIS_URL", &*redis.url()),
        ("REDIS_TLS_CA", authorities.to_str().unwrap()),
        ("OPS_ADDR", &ops),
    ];
    let service = process(dir.path(), Service::Message, &env, &[]);
    logged("its certificate has expired", || service.logs()).await;
    let ops: SocketAddr = ops.parse().unwrap();
    assert_eq!(http_status(ops, "/readyz").unwrap(), 503);
    assert!(service.logs().lines().count() < 10, "{}", service.logs());
    show(&mut connection, &good).await;
    eventually("it is ready", SOON, async || match http_status(ops, "/readyz") {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}\n{}", service.logs())),
    })
    .await;
}
