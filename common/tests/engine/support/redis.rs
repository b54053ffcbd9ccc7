//! A redis-server, and a client that is independent of the one under test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{
    contract::streams,
    schema::{entity::Entity, stored_form, stream::Stream},
};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use serde_json::Value as Json;
use stack::{Listen, RedisOptions, RedisServer};

use super::ledger::{Counter, Deposit, Deposited, Receipt};

/// A running server for this test only, removed on drop.
pub(crate) struct Redis {
    server: Arc<Mutex<RedisServer>>,
    url: String,
    client: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) fields: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    /// A field as text.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.fields.get(name)?).ok()
    }

    /// The JSON object in the field `entity`.
    pub(crate) fn entity(&self) -> Json {
        serde_json::from_str(self.field("entity").expect("an entity")).expect("JSON")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the files of a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for file in fs::read_dir(from).expect("readable") {
        let file = file.expect("readable").path();
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
    }
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

impl Redis {
    /// Starts a server with full durability.
    pub(crate) fn start() -> Self {
        Self::start_with(RedisOptions::default())
    }

    pub(crate) fn start_with(options: RedisOptions) -> Self {
        let server = RedisServer::start(options).expect("a redis-server");
        let url = server.url();
        let client = redis::Client::open(url.as_str()).expect("a URL");
        Self { server: Arc::new(Mutex::new(server)), url, client, connection: Mutex::default() }
    }

    /// Starts a server on a TCP port, so that a replica can find it.
    pub(crate) fn start_at_port() -> Self {
        let args = ["--repl-diskless-sync-delay", "0"].map(str::to_owned).to_vec();
        Self::start_with(RedisOptions { listen: Listen::FreePort, args, ..RedisOptions::default() })
    }

    /// The TCP port of the server.
    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// The number of connections that it has ever accepted.
    pub(crate) async fn connections(&self) -> u64 {
        let info: String = self.ask("INFO stats").await;
        let count = info.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        count.expect("a count").trim().parse().expect("a number")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The directory of the append-only files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        lock(&self.server).data_dir().to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        lock(&self.server).kill().expect("it can be killed");
    }

    /// A power loss: SIGKILL, restoration of the saved append-only files, and a restart. Usable
    /// where nothing can be awaited.
    pub(crate) fn power_loss(&self, saved: PathBuf) -> Box<dyn FnOnce() + Send> {
        let server = Arc::clone(&self.server);
        Box::new(move || {
            let mut server = lock(&server);
            server.kill().expect("it can be killed");
            let data = server.data_dir().join("appendonlydir");
            fs::remove_dir_all(&data).expect("removed");
            copy(&saved, &data);
            server.restart().expect("a redis-server");
        })
    }

    /// Drops the connection to a server that has ended.
    pub(crate) fn reconnect(&self) {
        lock(&self.connection).take();
    }

    /// SIGSTOP: the server accepts connections and does not answer.
    pub(crate) fn hang(&self) {
        let pid = lock(&self.server).pid().to_string();
        let hung = std::process::Command::new("kill").args(["-STOP", &pid]).status();
        assert!(hung.expect("kill is there").success());
    }

    /// SIGKILL and a restart on the same data, while other tasks continue.
    pub(crate) async fn restart(&self) {
        let server = Arc::clone(&self.server);
        let restarted = tokio::task::spawn_blocking(move || lock(&server).restart());
        restarted.await.expect("it does not panic").expect("a redis-server");
        lock(&self.connection).take();
    }

    /// A blocking connection, usable where nothing can be awaited.
    pub(crate) fn blocking(&self) -> redis::Connection {
        self.client.get_connection().expect("a connection")
    }

    /// Runs a command, and reconnects after a broken connection.
    pub(crate) async fn try_run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let reply = command.query_async(&mut self.try_connection().await?).await;
        if let Err(error) = &reply
            && error.code().is_none()
        {
            lock(&self.connection).take();
        }
        reply
    }

    async fn try_connection(&self) -> RedisResult<MultiplexedConnection> {
        let known = lock(&self.connection).clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let timeout = Some(Duration::from_secs(30));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(timeout)
            .set_response_timeout(timeout);
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(lock(&self.connection).insert(made).clone())
    }

    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let reply = self.try_run(command).await;
        reply.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a command as another user.
    pub(crate) async fn run_as<T: FromRedisValue>(
        &self,
        user: &str,
        password: &str,
        command: &Cmd,
    ) -> T {
        let mut connection =
            self.client.get_multiplexed_async_connection().await.expect("a connection");
        let auth = redis::cmd("AUTH").arg(user).arg(password).to_owned();
        auth.exec_async(&mut connection).await.expect("the user is let in");
        let reply = command.query_async(&mut connection).await;
        reply.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a command given as a line.
    pub(crate) async fn ask<T: FromRedisValue>(&self, line: &str) -> T {
        self.run(&command(line)).await
    }

    /// Runs a command and ignores its answer.
    pub(crate) async fn execute(&self, line: &str) {
        self.ask::<redis::Value>(line).await;
    }

    /// Appends an entry with this JSON like any service, and returns its id.
    pub(crate) async fn append(&self, stream: Stream, entity: &str) -> String {
        self.append_fields(stream, &[("event_id", b"e"), ("entity", entity.as_bytes())]).await
    }

    pub(crate) async fn append_fields(&self, stream: Stream, fields: &[(&str, &[u8])]) -> String {
        let mut add = redis::cmd("XADD");
        add.arg(stream.key()).arg("*");
        for (name, value) in fields {
            add.arg(*name).arg(*value);
        }
        self.run(&add).await
    }

    /// Appends a deposit for the ledger.
    pub(crate) async fn deposit(&self, deposit: &Deposit) -> String {
        self.append(streams::ORDER_CREATED, &deposit.json()).await
    }

    /// Appends many deposits in one round trip.
    pub(crate) async fn deposit_all(&self, deposits: impl IntoIterator<Item = Deposit>) {
        let mut pipeline = redis::pipe();
        for deposit in deposits {
            let add = pipeline.cmd("XADD").arg(streams::ORDER_CREATED.key()).arg("*");
            add.arg("entity").arg(deposit.json()).ignore();
        }
        let sent: RedisResult<()> =
            pipeline.query_async(&mut self.try_connection().await.expect("a connection")).await;
        sent.expect("all are appended");
    }

    /// Appends entries atomically, so that a reader finds all of them or none, and returns their
    /// ids.
    pub(crate) async fn append_at_once<'a>(
        &self,
        stream: Stream,
        entities: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<String> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for entity in entities {
            pipeline.cmd("XADD").arg(stream.key()).arg("*").arg("entity").arg(entity);
        }
        let mut connection = self.try_connection().await.expect("a connection");
        pipeline.query_async(&mut connection).await.expect("all are appended")
    }

    /// Like [`append_at_once`](Self::append_at_once), for deposits.
    pub(crate) async fn deposit_at_once(&self, deposits: &[Deposit]) -> Vec<String> {
        let entities: Vec<String> = deposits.iter().map(Deposit::json).collect();
        self.append_at_once(streams::ORDER_CREATED, entities.iter().map(|it| it.as_bytes())).await
    }

    /// Puts the stream into the state after the clock was set back: all deliveries lie in the
    /// future. The server must allow DEBUG.
    pub(crate) async fn deliver_in_the_future(&self, stream: Stream) {
        let key = stream.key();
        let full: BTreeMap<String, redis::Value> =
            self.ask(&format!("XINFO STREAM {key} FULL")).await;
        let groups: Vec<BTreeMap<String, redis::Value>> =
            FromRedisValue::from_redis_value(full["groups"].clone()).expect("groups");
        let pending: Vec<(String, String, u64, u64)> =
            FromRedisValue::from_redis_value(groups[0]["pending"].clone()).expect("entries");
        assert!(!pending.is_empty());
        let mut dump: Vec<u8> = self.ask(&format!("DUMP {key}")).await;
        for (_, _, delivered, _) in pending {
            let (now, later) = (delivered.to_le_bytes(), (delivered + 3_600_000).to_le_bytes());
            for at in 0..dump.len() - 8 {
                if dump[at..at + 8] == now {
                    dump[at..at + 8].copy_from_slice(&later);
                }
            }
        }
        self.execute("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1").await;
        let mut restore = redis::cmd("RESTORE");
        restore.arg(key).arg(0).arg(dump).arg("REPLACE");
        self.run::<()>(&restore).await;
    }

    pub(crate) async fn entries(&self, stream: Stream) -> Vec<Entry> {
        type Flat = Vec<(String, Vec<(String, Vec<u8>)>)>;
        let entries: Flat = self.ask(&format!("XRANGE {} - +", stream.key())).await;
        let entry =
            |(id, fields): (String, Vec<_>)| Entry { id, fields: fields.into_iter().collect() };
        entries.into_iter().map(entry).collect()
    }

    /// The number of entries that are pending in the ledger's group; `None` without the group.
    pub(crate) async fn pending(&self, stream: Stream) -> Option<usize> {
        let pending = command(&format!("XPENDING {} inventory_service", stream.key()));
        let summary: redis::Value = self.try_run(&pending).await.ok()?;
        match summary {
            redis::Value::Array(parts) => match parts.first() {
                Some(redis::Value::Int(count)) => usize::try_from(*count).ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the ledger's group has received and acknowledged every entry of the stream.
    pub(crate) async fn is_through(&self, stream: Stream) -> bool {
        let groups = command(&format!("XINFO GROUPS {}", stream.key()));
        let Ok(groups) = self.try_run::<Vec<BTreeMap<String, redis::Value>>>(&groups).await else {
            return false;
        };
        let last =
            self.entries(stream).await.pop().map_or_else(|| "0-0".to_owned(), |entry| entry.id);
        groups.iter().any(|group| {
            let text = |name| String::from_redis_value(group[name].clone()).expect("text");
            text("name") == "inventory_service"
                && text("pending") == "0"
                && text("last-delivered-id") == last
        })
    }

    pub(crate) async fn stored<E: Entity>(&self, id: &E::Id) -> Option<E> {
        let text: Option<String> = self.ask(&format!("GET {}{id}", E::KIND.prefix)).await;
        let text = text?;
        let (version, json) = stored_form::parse(&text).expect("a version");
        assert!(version > 0, "{text}");
        Some(serde_json::from_str(json).expect("an entity"))
    }

    /// The total of this counter.
    pub(crate) async fn total(&self, counter: &str) -> Option<u64> {
        self.stored::<Counter>(counter).await.map(|counter| counter.total)
    }

    /// All receipts, checked against all totals and all events: each deposit has had its whole
    /// effect exactly once.
    pub(crate) async fn audited(&self) -> BTreeMap<String, Receipt> {
        let mut receipts = BTreeMap::new();
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for key in self.ask::<Vec<String>>("KEYS {inventory}:receipt:*").await {
            let id = key.trim_start_matches("{inventory}:receipt:");
            let receipt = self.stored::<Receipt>(id).await.expect("it was listed");
            *sums.entry(receipt.counter.clone()).or_default() += receipt.amount;
            receipts.insert(id.to_owned(), receipt);
        }
        for (counter, sum) in &sums {
            assert_eq!(self.total(counter).await, Some(*sum), "the total of {counter}");
        }
        let mut announced: Vec<String> = Vec::new();
        for entry in self.entries(streams::INVENTORY_CHECK).await {
            let event: Deposited = serde_json::from_value(entry.entity()).expect("an event");
            announced.push(event.id);
        }
        announced.sort_unstable();
        assert!(announced.iter().eq(receipts.keys()), "each deposit is announced once");
        let mut listed: Vec<String> = self.ask("LRANGE {inventory}:counters 0 -1").await;
        listed.sort_unstable();
        assert!(listed.iter().eq(sums.keys()), "each counter is listed once: {listed:?}");
        receipts
    }

    /// How often each command ran since the last `CONFIG RESETSTAT`, including calls within
    /// scripts.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask("INFO commandstats").await;
        let start = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().expect("a number"))
    }
}
