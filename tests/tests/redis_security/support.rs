//! Servers with users and certificates, and single processes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use common::{
    connection::{
        error::ConnectionError,
        url::{RedisAccess, RedisUrl},
    },
    schema::stream::Topic,
};
use redis::{Cmd, Value, aio::MultiplexedConnection};
use stack::{
    CertificatePlan, Certificates, Profile, RedisOptions, RedisServer, RedisUsers, Service,
    ServiceProcess, binaries, ports,
    process::{Output, ServiceCommand},
};
use system_tests::SOON;
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

    /// One that keeps this topic alone.
    pub(crate) fn start_of(topic: Topic) -> Self {
        let topics = ("REDIS_TOPICS".to_owned(), topic.name().to_owned());
        Self::launch(|text| text, [topics].into())
    }

    /// With an ACL file that is changed before.
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

    /// A process of the service that is this user there.
    pub(crate) fn process(&self, dir: &Path, service: Service) -> ServiceProcess {
        let user = service.redis_user();
        let file = self.users.password_file(user).display().to_string();
        process(dir, service, &[("REDIS_URL", &self.url_of(user)), ("REDIS_PASSWORD_FILE", &file)])
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

/// Certificates that are valid from so many days ago until so many days from now.
pub(crate) fn certificates(dir: &Path, name: &str, ago: u32, left: u32) -> Certificates {
    let plan = CertificatePlan {
        from: SystemTime::now() - DAY * ago,
        validity: DAY * (ago + left),
        ..CertificatePlan::for_days(1)
    };
    Certificates::make(&dir.join(name), &plan).expect("certificates")
}

/// A command from a line, its words separated by blanks.
pub(crate) fn command(line: &str) -> Cmd {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

/// Runs a command given as a line; an error as its text.
pub(crate) async fn ask(redis: &mut MultiplexedConnection, line: &str) -> Result<Value, String> {
    command(line).query_async(redis).await.map_err(|error| error.to_string())
}

/// One process with nothing but these variables, its log in the directory.
pub(crate) fn process(dir: &Path, service: Service, env: &[(&str, &str)]) -> ServiceProcess {
    process_with(dir, service, env, &[])
}

pub(crate) fn process_with(
    dir: &Path,
    service: Service,
    env: &[(&str, &str)],
    args: &[&'static str],
) -> ServiceProcess {
    let program = binaries::build(Profile::Debug).expect("the services are built");
    let log = Output::File(log_of(dir, service));
    let mut command = ServiceCommand::new(service.name(), program.join(service.name()), log)
        .args(args)
        .env("OPS_ADDR", format!("127.0.0.1:{}", ports::free()));
    if service.has_http() {
        command = command
            .env("HTTP_ADDR", format!("127.0.0.1:{}", ports::free()))
            .env("AUTH_MODE", "off");
    }
    for (name, value) in env {
        command = command.env(*name, *value);
    }
    ServiceProcess::spawn(command).expect("it starts")
}

fn log_of(dir: &Path, service: Service) -> PathBuf {
    dir.join(format!("{service}-{}.log", ports::free()))
}

/// How such a process ends, and what it said.
pub(crate) fn run(
    service: Service,
    env: &[(&str, &str)],
    args: &[&'static str],
) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = process_with(dir.path(), service, env, args);
    let status = process.wait(SOON).unwrap_or_else(|error| panic!("{error}\n{}", process.logs()));
    (status.code(), process.logs())
}
