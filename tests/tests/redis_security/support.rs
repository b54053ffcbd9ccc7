//! Servers with users and certificates.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    clock::now_millis,
    connection::{
        error::ConnectionError,
        url::{RedisAccess, RedisUrl},
    },
    schema::stream::Topic,
};
use redis::{Value, aio::MultiplexedConnection};
use stack::{
    CertificatePlan, Certificates, RedisOptions, RedisServer, RedisUsers, Service, ServiceProcess,
};
use system_tests::{SOON, command, process::process};
use tempfile::TempDir;

/// One day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A Redis with the users of the shipped ACL file, or of another.
pub(crate) struct Guarded {
    pub(crate) server: RedisServer,
    pub(crate) users: RedisUsers,
    _dir: TempDir,
}

impl Guarded {
    pub(crate) fn start() -> Self {
        Self::start_with(|text| text)
    }

    /// A server of only this topic.
    pub(crate) fn start_of(topic: Topic) -> Self {
        let topics = ("REDIS_TOPICS".to_owned(), topic.name().to_owned());
        Self::launch(|text| text, [topics].into())
    }

    /// A server with a changed ACL file.
    pub(crate) fn start_with(change: impl FnOnce(String) -> String) -> Self {
        Self::launch(change, BTreeMap::new())
    }

    fn launch(change: impl FnOnce(String) -> String, env: BTreeMap<String, String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let users = RedisUsers::ensure(&dir.path().join("users")).expect("users");
        let shipped = std::fs::read_to_string(dir.path().join("users/users.acl")).expect("a file");
        let template = dir.path().join("changed.acl");
        std::fs::write(&template, change(shipped)).expect("written");
        let users = users.with_template(template);
        let options = RedisOptions { users: Some(users.clone()), env, ..RedisOptions::default() };
        Self { server: RedisServer::start(options).expect("a Redis"), users, _dir: dir }
    }

    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("{}?user={user}", self.server.url())
    }

    pub(crate) fn access_of(&self, user: &str) -> RedisAccess {
        let redis_password_file = Some(self.users.password_file(user));
        RedisAccess { redis_password_file, ..RedisAccess::default() }
    }

    /// A connection as this user.
    pub(crate) async fn connect(&self, user: &str) -> MultiplexedConnection {
        enter(&self.url_of(user), &self.access_of(user)).await.expect("let in")
    }

    /// A process of the service, with its user of this server.
    pub(crate) fn process(&self, dir: &Path, service: Service) -> ServiceProcess {
        let user = service.redis_user();
        let file = self.users.password_file(user).display().to_string();
        process(
            dir,
            service,
            &[("REDIS_URL", &self.url_of(user)), ("REDIS_PASSWORD_FILE", &file)],
            &[],
        )
    }
}

/// Connects with these settings, as a service does.
pub(crate) async fn enter(
    url: &str,
    access: &RedisAccess,
) -> Result<MultiplexedConnection, ConnectionError> {
    let url: RedisUrl = url.parse().expect("a URL");
    let access = access.for_servers([&url]).expect("settings");
    url.with(&access).expect("a password").connect(SOON).await
}

/// The time of day.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now_millis())
}

/// Certificates that are valid from this number of days ago until this number of days from now.
pub(crate) fn certificates(dir: &Path, name: &str, ago: u32, left: u32) -> Certificates {
    let plan = CertificatePlan {
        from: now() - DAY * ago,
        validity: DAY * (ago + left),
        ..CertificatePlan::for_days(1)
    };
    Certificates::make(&dir.join(name), &plan).expect("certificates")
}

/// Runs a command given as a line; an error as its text.
pub(crate) async fn ask(redis: &mut MultiplexedConnection, line: &str) -> Result<Value, String> {
    command(line).query_async(redis).await.map_err(|error| error.to_string())
}
