//! Development certificates: their names, the permissions of the keys, and that no file is
//! overwritten.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use stack::{CertificatePlan, Certificates, RedisUsers};

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn keys_are_readable_for_their_owner_only_and_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("tls");
    let made = Certificates::make(&dir, &CertificatePlan::for_days(30)).expect("made");
    assert_eq!(mode(&dir), 0o700);
    for key in [made.server_key(), made.client_key()] {
        assert_eq!(mode(&key), 0o600);
        assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    }
    for certificate in [made.ca(), made.server(), made.client()] {
        assert_eq!(mode(&certificate), 0o644);
        let text = fs::read_to_string(&certificate).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
    }
    let before = fs::read(made.server_key()).unwrap();
    let error = Certificates::make(&dir, &CertificatePlan::for_days(30)).expect_err("refused");
    assert!(error.to_string().contains("ca.pem is there already"), "{error}");
    fs::remove_file(made.ca()).unwrap();
    let error = Certificates::make(&dir, &CertificatePlan::for_days(30)).expect_err("refused");
    assert!(error.to_string().contains("server.pem is there already"), "{error}");
    assert_eq!(fs::read(made.server_key()).unwrap(), before);
}

#[test]
fn an_invalid_server_name_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("tls");
    let with = |name: &str| {
        let mut plan = CertificatePlan::for_days(1);
        plan.names.push(name.to_owned());
        Certificates::make(&dir, &plan)
    };
    let wrong = ["not a host!", "", "https://redis", "redis:6379", "127.0.0.256", "a..b", "host."];
    for name in wrong {
        let error = with(name).expect_err(name).to_string();
        let message = format!("{name:?} is neither a DNS name nor an IP address");
        assert!(error.ends_with(&message), "{error}");
        assert!(!dir.exists(), "{name}");
    }
    for name in ["redis-1.example.com", "redis_account", "10.0.0.7", "2001:db8::7"] {
        with(name).expect(name);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn keys_for_containers_are_readable_in_a_directory_closed_to_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("secrets");
    let plan = CertificatePlan { shared_with_containers: true, ..CertificatePlan::for_days(30) };
    let made = Certificates::make(&dir, &plan).expect("made");
    assert_eq!((mode(&dir), mode(&made.server_key())), (0o700, 0o644));
    let users = RedisUsers::make_passwords(&dir, true).expect("made");
    assert_eq!(mode(&users.password_file("order")), 0o644);
}

#[test]
fn a_set_is_kept_until_shortly_before_its_expiry_and_then_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("tls");
    let authority = |set: &Certificates| fs::read(set.ca()).expect("an authority");
    let first = Certificates::ensure(&dir, &CertificatePlan::for_days(30)).expect("made");
    let was = authority(&first);
    let second = Certificates::ensure(&dir, &CertificatePlan::for_days(30)).expect("kept");
    assert_eq!(authority(&second), was);
    fs::remove_dir_all(&dir).unwrap();
    let short = CertificatePlan {
        from: CertificatePlan::for_days(1).from,
        validity: Duration::from_secs(23 * 3_600),
        ..CertificatePlan::for_days(1)
    };
    let was = authority(&Certificates::ensure(&dir, &short).expect("made"));
    let renewed = Certificates::ensure(&dir, &CertificatePlan::for_days(30)).expect("renewed");
    assert_ne!(authority(&renewed), was);
}

#[test]
fn every_user_has_a_separate_password_that_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("users");
    let users = RedisUsers::ensure(&dir).expect("made");
    let all = || -> Vec<String> {
        let files = RedisUsers::names().map(|user| users.password_file(user));
        files.map(|file| fs::read_to_string(file).expect("a password")).collect()
    };
    let before = all();
    let mut different = before.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!((before.len(), different.len()), (6, 6));
    assert!(RedisUsers::names().all(|user| mode(&users.password_file(user)) == 0o600));
    RedisUsers::ensure(&dir).expect("kept");
    assert_eq!(all(), before);
}
