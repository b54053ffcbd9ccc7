//! One connection to one Redis, made again whenever it is needed and missing.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex as Guarded, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    ErrorKind, Pipeline, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::error;

pub use crate::connection::url::{Access, RedisAccess, RedisUrl};
use crate::{
    connection::{
        circuit_breaker::CircuitBreaker,
        connect::connect,
        health::Part,
        lag::STREAM_ENDS,
        memory::MemoryFacts,
        permissions::{self, Right},
        refusals::{has_refusal_by_server, is_about_server},
    },
    contract::{entity::Entity, json::from_object, keys::Key},
};

/// How old a connection is at least before a server that does not serve makes us open another one:
/// a server that stays a replica is not flooded with connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// How often a link to a primary looks whether its server still is one.
const ROLE_INTERVAL: Duration = Duration::from_secs(2);
/// For how long an unreadable key is not logged again.
const UNREADABLE_SILENCE: Duration = Duration::from_secs(60);
/// How many unreadable keys are remembered for that.
const UNREADABLE_KEYS: usize = 1_000;

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection, or it broke, or the answer took too long. Whether a command that was under
    /// way had its effect is not known.
    #[error("the Redis at {address} is away: {source}")]
    Away {
        /// Which Redis.
        address: String,
        /// What happened.
        source: redis::RedisError,
    },
    /// It answered, but not with what was asked for.
    #[error("the Redis at {address} refused {command}: {message}")]
    Refused {
        /// Which Redis.
        address: String,
        /// What was asked.
        command: &'static str,
        /// Its error.
        message: String,
    },
    /// The server serves no such command, though another one may: it is a replica, it is loading, or it
    /// is cut off. The connection is dropped, and the next one goes to where the name leads by then.
    #[error("the Redis at {address} does not serve {command}: {reason}")]
    NotServing {
        /// Which Redis.
        address: String,
        /// What was asked.
        command: &'static str,
        /// What it says of itself.
        reason: String,
    },
    /// A key holds something that this system did not write there.
    #[error("what is stored at {key} in the Redis at {address} cannot be read: {reason}")]
    Unreadable {
        /// Which Redis.
        address: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// It does not know us, or we may not do that.
    #[error("the Redis at {address} denies {command} to the user {user}: {reason}")]
    Denied {
        /// Which Redis.
        address: String,
        /// Who we are there.
        user: String,
        /// What was asked.
        command: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// TLS was asked for and cannot be had, or the other way round. Nothing was sent in the clear instead.
    #[error("the Redis at {address} cannot be trusted: {reason}")]
    Insecure {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// It would lose data, is too old, or does not let us do what we have to.
    #[error("the Redis at {address} cannot be used: {reason}")]
    Unsuitable {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl LinkError {
    /// Whether it is so until a person mends it: a right, a password, a certificate.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Insecure { .. })
    }
}

/// A connection that is made when it is first needed, and again after it broke or its server refused
/// to serve.
#[derive(Debug)]
pub struct Link {
    url: RedisUrl,
    patience: Duration,
    connection: Option<Connection>,
    /// Whether a replica is refused. Commands that write find out without it.
    primary_only: bool,
    /// The `run_id` of the process behind the connection that was opened then.
    run_id: Option<(Instant, Arc<str>)>,
}

/// An open connection.
#[derive(Clone, Debug)]
struct Connection {
    handle: MultiplexedConnection,
    /// When it was opened; also tells it from the ones before and after it.
    opened: Instant,
    /// When its server was last asked for its role.
    role_asked: Option<Instant>,
}

/// Commands on their way through a connection.
struct Exchange {
    connection: Connection,
    asks_role: bool,
}

impl Exchange {
    /// Whether it failed because its connection, which was open when it began, is closed by now.
    fn was_closed(&self, begun: Instant, error: &LinkError) -> bool {
        let is_closed = |error: &LinkError| matches!(error, LinkError::Away { source, .. } if source.is_io_error() && !source.is_timeout());
        self.connection.opened < begun && is_closed(error)
    }

    /// Sends the commands in one write, behind a question for the server's role if that is due.
    async fn run(&mut self, commands: &Pipeline) -> redis::RedisResult<Vec<Value>> {
        let handle = &mut self.connection.handle;
        if !self.asks_role {
            return handle.req_packed_commands(commands, 0, commands.len()).await;
        }
        let mut asking = Pipeline::with_capacity(commands.len() + 1);
        asking.cmd("INFO").arg("replication");
        for command in commands.cmd_iter() {
            asking.add_command(command.clone());
        }
        handle.req_packed_commands(&asking, 0, asking.len()).await
    }
}

impl Link {
    /// A link that waits this long for an answer.
    pub fn new(url: RedisUrl, patience: Duration) -> Self {
        Self { url, patience, connection: None, primary_only: false, run_id: None }
    }

    /// Refuses a server that is a replica. Reads succeed there as well, but what they show may be stale
    /// for ever, so the role is asked for on each new connection and every two seconds of use.
    #[must_use]
    pub fn primary_only(mut self) -> Self {
        self.primary_only = true;
        self
    }

    /// Which Redis, without its password.
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// Sends the commands in one write and gives their answers, errors of single commands among
    /// them as [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// [`LinkError::Away`] or [`LinkError::NotServing`]; the next call connects anew. It also does after an
    /// answer that is about the server, such as `READONLY`.
    pub async fn send(&mut self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut exchange = self.begin().await?;
        let answers = exchange.run(commands).await;
        self.end(&exchange, answers)
    }

    /// Sends commands that change nothing, and does so again at once if the connection turns out to be
    /// closed: Redis may have been started anew, or have closed it while it was idle. Other commands are
    /// sent once, as by [`Link::send`].
    ///
    /// # Errors
    ///
    /// As [`Link::send`].
    pub async fn read(&mut self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let begun = Instant::now();
        let mut exchange = self.begin().await?;
        let answers = exchange.run(commands).await;
        match self.end(&exchange, answers) {
            Err(error) if exchange.was_closed(begun, &error) && reads(commands) => {
                self.send(commands).await
            }
            answers => answers,
        }
    }

    /// Takes the connection for an exchange, and opens it where there is none.
    async fn begin(&mut self) -> Result<Exchange, LinkError> {
        if self.connection.is_none() {
            let handle = connect(&self.url, self.patience).await?;
            let opened = Instant::now();
            self.connection = Some(Connection { handle, opened, role_asked: None });
        }
        let connection = self.connection.as_mut().expect("it was just made");
        let is_due = connection.role_asked.is_none_or(|at| at.elapsed() >= ROLE_INTERVAL);
        let asks_role = self.primary_only && is_due;
        if asks_role {
            connection.role_asked = Some(Instant::now());
        }
        Ok(Exchange { connection: connection.clone(), asks_role })
    }

    /// Takes the answers of an exchange, and drops its connection if that is of no use any more.
    fn end(
        &mut self,
        exchange: &Exchange,
        answers: redis::RedisResult<Vec<Value>>,
    ) -> Result<Vec<Value>, LinkError> {
        let opened = exchange.connection.opened;
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(source) => {
                self.connection.take_if(|it| it.opened == opened);
                return Err(LinkError::Away { address: self.address(), source });
            }
        };
        if exchange.asks_role && !answers.is_empty() {
            self.check_role(opened, &info_text(answers.remove(0)))?;
        }
        if has_refusal_by_server(&answers) {
            self.retire(opened);
        }
        Ok(answers)
    }

    /// Has the next command resolve the name again and connect anew, unless the connection is new.
    pub(crate) fn renew(&mut self) {
        self.connection.take_if(|it| it.opened.elapsed() >= RECONNECT_AFTER);
    }

    /// Fails if the server says that it is a replica.
    fn check_role(&mut self, opened: Instant, info: &str) -> Result<(), LinkError> {
        if info_field(info, "role") != Some("slave") {
            return Ok(());
        }
        self.retire(opened);
        let primary = info_field(info, "master_host").unwrap_or("another server");
        let port = info_field(info, "master_port").unwrap_or("?");
        Err(LinkError::NotServing {
            address: self.address(),
            command: "us",
            reason: format!("it is a replica of {primary}:{port}"),
        })
    }

    /// Drops the connection that was opened then, unless it is so new that another one would lead to
    /// the same server. Its role is asked for again in any case.
    fn retire(&mut self, opened: Instant) {
        if let Some(connection) = self.connection.as_mut().filter(|it| it.opened == opened) {
            connection.role_asked = None;
            self.connection.take_if(|it| it.opened.elapsed() >= RECONNECT_AFTER);
        }
    }

    /// The `run_id` of the server process behind the connection, which every command runs in until the
    /// connection breaks. A server that was started anew has another one.
    ///
    /// # Errors
    ///
    /// As [`Link::ask`].
    pub async fn run_id(&mut self) -> Result<Arc<str>, LinkError> {
        let opened = self.connection.as_ref().map(|connection| connection.opened);
        if let Some((known, run_id)) = &self.run_id
            && Some(*known) == opened
        {
            return Ok(Arc::clone(run_id));
        }
        let mut ask = redis::cmd("INFO");
        ask.arg("server");
        let info = info_text(self.ask("INFO", ask).await?);
        let run_id: Arc<str> = info_field(&info, "run_id").unwrap_or("-").into();
        let opened = self.connection.as_ref().map(|connection| connection.opened);
        self.run_id = opened.map(|opened| (opened, Arc::clone(&run_id)));
        Ok(run_id)
    }

    /// Sends one command.
    ///
    /// # Errors
    ///
    /// As [`Link::send`], and [`LinkError::Refused`] if the answer is an error.
    pub async fn ask(
        &mut self,
        name: &'static str,
        command: redis::Cmd,
    ) -> Result<Value, LinkError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let value = self.send(&pipeline).await?.pop().unwrap_or(Value::Nil);
        self.accept(name, value)
    }

    /// Turns an error answer into an error.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`].
    pub fn accept(&self, command: &'static str, value: Value) -> Result<Value, LinkError> {
        match value {
            Value::ServerError(_) => accept(&self.url, command, value),
            value => Ok(value),
        }
    }

    /// The error that this line of an answer stands for: a code and a sentence.
    pub(crate) fn error_of(&self, command: &'static str, line: &str) -> LinkError {
        let line = format!("-{}\r\n", line.replace(['\r', '\n'], " "));
        let value = redis::parse_redis_value(line.as_bytes()).unwrap_or(Value::Nil);
        match accept(&self.url, command, value) {
            Err(error) => error,
            Ok(_) => LinkError::Refused { address: self.address(), command, message: line },
        }
    }

    /// Checks that the server is a primary, keeps what it is given, and is new enough; gives how much
    /// of its memory is used.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotServing`] for a replica, [`LinkError::Unsuitable`] for a server that must not be
    /// used; otherwise as [`Link::ask`].
    pub async fn check_server(&mut self) -> Result<MemoryFacts, LinkError> {
        let text = info_text(self.ask("INFO", redis::cmd("INFO")).await?);
        if let Some(opened) = self.connection.as_ref().map(|it| it.opened) {
            self.check_role(opened, &text)?;
        }
        let field = |name: &str| info_field(&text, name);
        let unsuitable = |reason: String| LinkError::Unsuitable { address: self.address(), reason };
        if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
            return Err(unsuitable(format!(
                "its maxmemory-policy is {policy}, which would drop orders when memory runs short; \
                 set it to noeviction"
            )));
        }
        let version = field("redis_version").unwrap_or("7.0");
        let number =
            |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
        let mut parts = version.split('.');
        if (number(parts.next()), number(parts.next())) < (6, 2) {
            return Err(unsuitable(format!(
                "it is version {version}; 6.2 is the oldest that will do"
            )));
        }
        Ok(MemoryFacts::from_info(&text))
    }

    /// Checks that we have these rights; where that cannot be found out, says so once.
    ///
    /// # Errors
    ///
    /// [`LinkError::Unsuitable`] if one is missing; otherwise as [`Link::ask`].
    pub async fn check_rights(&mut self, rights: &[Right]) -> Result<(), LinkError> {
        permissions::check(self, rights).await
    }

    /// The name of the Redis user that this link uses.
    pub fn user(&self) -> &str {
        self.url.user()
    }
}

/// The text of an answer to INFO.
pub fn info_text(answer: Value) -> String {
    match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}

/// A field of the text of INFO.
fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn accept(url: &RedisUrl, command: &'static str, value: Value) -> Result<Value, LinkError> {
    let Value::ServerError(error) = value else { return Ok(value) };
    let address = url.to_string();
    let denied = |reason: String| {
        let user = url.user().to_owned();
        LinkError::Denied { address: address.clone(), user, command, reason }
    };
    Err(match error.code() {
        code if code == "NOPERM" || error.details().is_some_and(is_denial_within_script) => {
            denied(format!(
                "{}; deploy/redis/users.acl has the rights that each service needs",
                error.details().unwrap_or("it has no right to")
            ))
        }
        "NOAUTH" => denied(
            "it wants a user name and a password: the name belongs into the URL (redis://order@host:6379), the \
             password into REDIS_PASSWORD or REDIS_PASSWORD_FILE"
                .to_owned(),
        ),
        _ => {
            let about_server = is_about_server(&error);
            let message = redis::RedisError::from(error).to_string();
            match about_server {
                true => LinkError::NotServing { address, command, reason: message },
                false => LinkError::Refused { address, command, message },
            }
        }
    })
}

/// Whether a script may be run, but not all that it runs: Redis 7.0 has no code of its own for that.
fn is_denial_within_script(message: &str) -> bool {
    ["The user executing the script can't", "ACL failure in script"]
        .iter()
        .any(|begin| message.starts_with(begin))
}

/// A link that many tasks read through at once.
#[derive(Debug)]
pub struct SharedLink {
    link: Mutex<Link>,
    url: RedisUrl,
    /// Reads of a server that hangs fail at once, instead of keeping their callers for [`READ_PATIENCE`].
    breaker: CircuitBreaker,
    /// Unreadable keys that were logged, and when.
    unreadable: Guarded<HashMap<String, Instant>>,
}

tokio::task_local! {
    static METER: Meter;
}

/// Counts the bytes of entities, lists and all else that a future reads through [`SharedLink`]s.
#[derive(Clone, Default, Debug)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Counts what this future reads.
    pub async fn count<T>(&self, reading: impl Future<Output = T>) -> T {
        METER.scope(self.clone(), reading).await
    }

    /// How much was read so far.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts answers for the future that waits for them.
    fn add(answers: &[Value]) {
        fn length(value: &Value) -> usize {
            match value {
                Value::BulkString(bytes) => bytes.len(),
                Value::Array(values) => values.iter().map(length).sum(),
                _ => 0,
            }
        }
        // Most reads are not counted.
        let _ = METER.try_with(|meter| {
            meter.0.fetch_add(answers.iter().map(length).sum(), Ordering::Relaxed)
        });
    }
}

/// How long a read may take.
const READ_PATIENCE: Duration = Duration::from_secs(3);

impl SharedLink {
    /// A link that connects when it is first used, to a primary only.
    pub fn new(url: RedisUrl) -> Self {
        let link = Mutex::new(Link::new(url.clone(), READ_PATIENCE).primary_only());
        Self { link, url, breaker: CircuitBreaker::default(), unreadable: Guarded::default() }
    }

    /// Which Redis, without its password.
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// The name of the Redis user that this link uses.
    pub fn user(&self) -> &str {
        self.url.user()
    }

    /// Sends the commands in one write and gives their answers.
    ///
    /// # Errors
    ///
    /// The server is away, or one of the answers is an error. A key of another type than its command
    /// takes is [`LinkError::Unreadable`].
    pub async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let answers = self.answers(commands).await?;
        let accepted = answers.into_iter().zip(commands.cmd_iter());
        accepted.map(|(answer, command)| self.accept(command, answer)).collect()
    }

    /// The answers to the commands, errors of single commands among them.
    ///
    /// # Errors
    ///
    /// The server is away.
    pub async fn answers(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let away = |reason| LinkError::Away {
            address: self.url.to_string(),
            source: io::Error::new(io::ErrorKind::TimedOut, reason).into(),
        };
        let Some(call) = self.breaker.call() else {
            return Err(away("it did not answer in time a moment ago"));
        };
        // Connecting is one at a time: those that wait for it must not wait for ever.
        let answers = tokio::time::timeout(READ_PATIENCE, self.exchange(commands)).await;
        let answers = answers.unwrap_or_else(|_| Err(away("it did not answer in time")));
        let is_late = match &answers {
            Err(LinkError::Away { source, .. }) => source.is_timeout(),
            _ => false,
        };
        call.ends(!is_late);
        answers.inspect(|answers| Meter::add(answers))
    }

    /// As [`Link::read`].
    async fn exchange(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let begun = Instant::now();
        let mut exchange = self.link.lock().await.begin().await?;
        let answers = exchange.run(commands).await;
        let answers = self.link.lock().await.end(&exchange, answers);
        match answers {
            Err(error) if exchange.was_closed(begun, &error) && reads(commands) => {
                let mut again = self.link.lock().await.begin().await?;
                let answers = again.run(commands).await;
                self.link.lock().await.end(&again, answers)
            }
            answers => answers,
        }
    }

    /// Turns an error answer into an error; one about the type of a key names the key.
    fn accept(&self, command: &redis::Cmd, answer: Value) -> Result<Value, LinkError> {
        if !is_error(&answer, "WRONGTYPE") {
            return accept(&self.url, "a read", answer);
        }
        let word = |number| match command.args_iter().nth(number) {
            Some(redis::Arg::Simple(word)) => String::from_utf8_lossy(word).into_owned(),
            _ => String::new(),
        };
        let reason = format!("it is of another type than {} takes", word(0));
        Err(self.unreadable(word(1), reason))
    }

    fn unreadable(&self, key: String, reason: String) -> LinkError {
        LinkError::Unreadable { address: self.url.to_string(), key, reason }
    }

    /// As [`Link::check_rights`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_rights`].
    pub async fn check_rights(&self, rights: &[Right]) -> Result<(), LinkError> {
        self.link.lock().await.check_rights(rights).await
    }

    /// As [`Link::check_server`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_server`].
    pub async fn check_server(&self) -> Result<MemoryFacts, LinkError> {
        self.link.lock().await.check_server().await
    }

    /// Reads one entity.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`]; [`LinkError::Unreadable`] if what is stored is not such an entity.
    pub async fn get<E: Entity>(&self, id: &E::Id) -> Result<Option<E>, LinkError> {
        let mut pipeline = Pipeline::with_capacity(1);
        let key = Key::new(E::kind(), id);
        pipeline.cmd("GET").arg(key.as_str());
        let Some(Value::BulkString(stored)) = self.send(&pipeline).await?.pop() else {
            return Ok(None);
        };
        let entity = document(&stored).and_then(entity);
        entity.map(Some).map_err(|reason| self.unreadable(key.to_string(), reason))
    }

    /// Reads the entities with these ids, in their order; those that do not exist are left out, and
    /// those that cannot be read as well, with an error in the log that names the key.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`].
    pub async fn get_all<E: Entity<Id: Sized>>(
        &self,
        ids: impl IntoIterator<Item = E::Id>,
    ) -> Result<Vec<E>, LinkError> {
        let key = |id: E::Id| Key::new(E::kind(), &id).as_str().as_bytes().to_vec();
        let found = self.read_all(ids.into_iter().map(key).collect(), entity).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads the documents at these keys, in their order: `None` where there is none, and where it cannot
    /// be read, with an error in the log that names the key.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`].
    pub async fn read_all<T>(
        &self,
        keys: Vec<Vec<u8>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<Option<T>>, LinkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("MGET").arg(&keys);
        let Some(Value::Array(values)) = self.send(&pipeline).await?.pop() else {
            return Ok(Vec::new());
        };
        let mut absent = Vec::new();
        let mut found = Vec::with_capacity(values.len());
        for (key, value) in keys.iter().zip(values) {
            found.push(match value {
                Value::BulkString(stored) => match document(&stored).and_then(&parse) {
                    Ok(parsed) => Some(parsed),
                    Err(reason) => {
                        self.leave_out(String::from_utf8_lossy(key).into_owned(), reason);
                        None
                    }
                },
                _ => {
                    absent.push(key);
                    None
                }
            });
        }
        self.report_wrong_types(&absent).await?;
        Ok(found)
    }

    /// Reports those of these keys that hold something else than a string: MGET shows them as absent.
    async fn report_wrong_types(&self, absent: &[&Vec<u8>]) -> Result<(), LinkError> {
        if absent.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(absent.len());
        for key in absent {
            pipeline.cmd("GET").arg(key);
        }
        for (answer, command) in self.answers(&pipeline).await?.into_iter().zip(pipeline.cmd_iter())
        {
            match self.accept(command, answer) {
                Err(LinkError::Unreadable { key, reason, .. }) => self.leave_out(key, reason),
                accepted => drop(accepted?),
            }
        }
        Ok(())
    }

    /// Reports a key that cannot be read, once a minute.
    fn leave_out(&self, key: String, reason: String) {
        let mut logged = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(&key).is_some_and(|at| at.elapsed() < UNREADABLE_SILENCE) {
            return;
        }
        if logged.len() >= UNREADABLE_KEYS {
            logged.clear();
        }
        logged.insert(key.clone(), Instant::now());
        error!("{}; it is left out", self.unreadable(key, reason));
    }
}

/// Whether the commands change nothing, so that they can be sent twice.
fn reads(commands: &Pipeline) -> bool {
    const READS: [&[u8]; 11] = [
        b"INFO",
        b"GET",
        b"MGET",
        b"LLEN",
        b"LRANGE",
        b"ZLEXCOUNT",
        b"ZREVRANGEBYLEX",
        b"ZRANGEBYLEX",
        b"TYPE",
        b"XINFO",
        b"XLEN",
    ];
    commands.cmd_iter().all(|command| {
        let mut words = command.args_iter().map(|word| match word {
            redis::Arg::Simple(word) => Some(word),
            _ => None,
        });
        match words.next().flatten() {
            Some(b"EVAL") => words.next().flatten() == Some(STREAM_ENDS.as_bytes()),
            Some(name) => READS.contains(&name),
            None => false,
        }
    })
}

/// The document in the stored form of an entity, `<version> <JSON>`.
fn document(stored: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(stored).map_err(|_| "it is not UTF-8".to_owned())?;
    let document = text.split_once(' ').map(|(_, document)| document);
    document.ok_or_else(|| "it has no version and no document".to_owned())
}

/// The entity in its document.
fn entity<E: Entity>(document: &str) -> Result<E, String> {
    from_object(document)
}

/// Whether an answer is this kind of error.
pub(crate) fn is_error(value: &Value, code: &str) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == code)
}

/// Whether an answer says that the script is not known there.
pub(crate) fn is_noscript(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if redis::RedisError::from(error.clone()).kind()
        == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Waits until the server answers; `false` if the shutdown came first.
///
/// # Errors
///
/// The server must not be used, see [`Link::check_server`] and [`Link::check_rights`]. A replica is asked
/// again: its name may lead elsewhere later.
pub(crate) async fn await_server(
    link: &mut Link,
    rights: &[Right],
    part: &Part,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut backoff = Backoff::default();
    loop {
        let usable = match link.check_server().await {
            Ok(_) => link.check_rights(rights).await,
            Err(error) => Err(error),
        };
        match usable {
            Ok(()) => return Ok(true),
            Err(error @ LinkError::Unsuitable { .. }) => return Err(error.into()),
            Err(error) => part.failed(&error),
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

/// Waits longer and longer, up to a second, a little different each time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    pub async fn wait(&mut self) {
        let ceiling = 20u64.saturating_mul(1 << self.failures.min(6)).min(1_000);
        self.failures += 1;
        let jittered = fastrand::u64(ceiling / 2..=ceiling);
        tokio::time::sleep(Duration::from_millis(jittered)).await;
    }
}
