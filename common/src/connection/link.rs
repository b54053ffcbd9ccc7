//! One connection to one Redis server, opened again on demand.

use std::{sync::Arc, time::Duration};

use redis::{
    Pipeline, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::time::Instant;

use crate::{
    connection::{
        connect::connect,
        error::ConnectionError,
        lag::STREAM_ENDS,
        memory::MemoryFacts,
        refusals::has_refusal_by_server,
        replies::{accept, info_field, info_text},
        url::RedisUrl,
    },
    planted,
};

/// The minimum age of a connection before a refusing server causes a new one: a server that stays a
/// replica is not flooded with connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// How often a link to a primary checks that its server still is one.
const ROLE_INTERVAL: Duration = Duration::from_secs(2);
/// A connection that is opened when it is first needed, and again after it broke or its server
/// refused to serve.
#[derive(Debug)]
pub struct Link {
    url: RedisUrl,
    answer_timeout: Duration,
    connection: Option<Connection>,
    /// Whether a replica is refused. Writing commands detect a replica without it.
    primary_only: bool,
    /// The `run_id` of the server process behind the connection that was opened at this time.
    run_id: Option<(Instant, Arc<str>)>,
}

/// An open connection.
#[derive(Clone, Debug)]
struct Connection {
    handle: MultiplexedConnection,
    /// The time of opening, which also distinguishes the connection from earlier and later ones.
    opened: Instant,
    /// The time of the last query for the server's role.
    role_asked: Option<Instant>,
}

/// A pipeline in flight on a connection.
pub(super) struct Exchange {
    connection: Connection,
    asks_role: bool,
}

impl Exchange {
    /// Whether the exchange failed because a connection that was open at its start was closed
    /// meanwhile.
    pub(super) fn was_closed(&self, begun: Instant, error: &ConnectionError) -> bool {
        let ConnectionError::Away { source, .. } = error else { return false };
        self.connection.opened < begun && source.is_io_error() && !source.is_timeout()
    }

    /// Sends the commands in one write, preceded by a query for the server's role if that is due.
    pub(super) async fn run(&mut self, commands: &Pipeline) -> redis::RedisResult<Vec<Value>> {
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
    /// A link with this timeout for answers.
    pub fn new(url: RedisUrl, answer_timeout: Duration) -> Self {
        Self { url, answer_timeout, connection: None, primary_only: false, run_id: None }
    }

    /// Refuses a server that is a replica. Reads succeed on a replica, but may return stale data
    /// for ever, so the role is queried on each new connection and every two seconds of use.
    #[must_use]
    pub fn primary_only(mut self) -> Self {
        self.primary_only = true;
        self
    }

    /// The address of the Redis server, without the password.
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// Sends the commands in one write and returns their answers; errors of single commands are
    /// [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Away`] or [`ConnectionError::NotServing`]; the next call reconnects. The
    /// next call also reconnects after an answer that concerns the whole server, such as
    /// `READONLY`.
    pub async fn send(&mut self, commands: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
        let mut exchange = self.begin().await?;
        let answers = exchange.run(commands).await;
        self.end(&exchange, answers)
    }

    /// Sends commands, and sends read-only commands once more if the connection turns out to be
    /// closed: Redis may have restarted, or closed it while it was idle. Other commands are sent
    /// once, as in [`Link::send`].
    ///
    /// # Errors
    ///
    /// As [`Link::send`].
    pub async fn read(&mut self, commands: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
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

    /// Returns the connection for an exchange, and opens it if there is none.
    pub(super) async fn begin(&mut self) -> Result<Exchange, ConnectionError> {
        if self.connection.is_none() {
            let handle = connect(&self.url, self.answer_timeout).await?;
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

    /// Processes the answers of an exchange, and drops the connection if it is no longer usable.
    pub(super) fn end(
        &mut self,
        exchange: &Exchange,
        answers: redis::RedisResult<Vec<Value>>,
    ) -> Result<Vec<Value>, ConnectionError> {
        let opened = exchange.connection.opened;
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(source) => {
                self.connection.take_if(|it| it.opened == opened);
                return Err(ConnectionError::Away { address: self.address(), source });
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

    /// Makes the next command resolve the name again and reconnect, unless the connection is new.
    pub(crate) fn renew(&mut self) {
        self.connection.take_if(|it| it.opened.elapsed() >= RECONNECT_AFTER);
    }

    /// Fails if the server reports that it is a replica.
    fn check_role(&mut self, opened: Instant, info: &str) -> Result<(), ConnectionError> {
        if info_field(info, "role") != Some("slave") {
            return Ok(());
        }
        self.retire(opened);
        let primary = info_field(info, "master_host").unwrap_or("another server");
        let port = info_field(info, "master_port").unwrap_or("?");
        Err(ConnectionError::NotServing {
            address: self.address(),
            command: "us",
            reason: format!("it is a replica of {primary}:{port}"),
        })
    }

    /// Drops the connection that was opened at this time, unless it is so new that another one
    /// would lead to the same server. The role is queried again in any case.
    fn retire(&mut self, opened: Instant) {
        if let Some(connection) = self.connection.as_mut().filter(|it| it.opened == opened) {
            connection.role_asked = None;
            self.connection.take_if(|it| it.opened.elapsed() >= RECONNECT_AFTER);
        }
    }

    /// The `run_id` of the server process behind the connection, which stays the same until the
    /// connection breaks. A restarted server has a different one.
    ///
    /// # Errors
    ///
    /// As [`Link::ask`].
    pub async fn run_id(&mut self) -> Result<Arc<str>, ConnectionError> {
        let opened = self.connection.as_ref().map(|connection| connection.opened);
        if let Some((known, run_id)) = &self.run_id
            && Some(*known) == opened
        {
            return Ok(Arc::clone(run_id));
        }
        let mut ask = redis::cmd("INFO");
        ask.arg("server");
        let info = info_text(self.ask("INFO", ask).await?);
        let field = if planted!("a restart goes unnoticed") { "role" } else { "run_id" };
        let run_id: Arc<str> = info_field(&info, field).unwrap_or("-").into();
        let opened = self.connection.as_ref().map(|connection| connection.opened);
        self.run_id = opened.map(|opened| (opened, Arc::clone(&run_id)));
        Ok(run_id)
    }

    /// Sends one command.
    ///
    /// # Errors
    ///
    /// As [`Link::send`], and [`ConnectionError::Refused`] if the answer is an error.
    pub async fn ask(
        &mut self,
        name: &'static str,
        command: redis::Cmd,
    ) -> Result<Value, ConnectionError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let value = self.send(&pipeline).await?.pop().unwrap_or(Value::Nil);
        self.accept(name, value)
    }

    /// Converts an error reply into an error.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Refused`].
    pub fn accept(&self, command: &'static str, value: Value) -> Result<Value, ConnectionError> {
        match value {
            Value::ServerError(_) => accept(&self.url, command, value),
            value => Ok(value),
        }
    }

    /// Converts a line of a reply, a code and a sentence, into an error.
    pub(crate) fn error_of(&self, command: &'static str, line: &str) -> ConnectionError {
        let line = format!("-{}\r\n", line.replace(['\r', '\n'], " "));
        let value = redis::parse_redis_value(line.as_bytes()).unwrap_or(Value::Nil);
        match accept(&self.url, command, value) {
            Err(error) => error,
            Ok(_) => ConnectionError::Refused { address: self.address(), command, message: line },
        }
    }

    /// Checks that the server is a primary, does not evict data and is new enough. Returns its
    /// memory usage.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::NotServing`] for a replica, [`ConnectionError::Unsuitable`] for a server
    /// that must not be used; otherwise as [`Link::ask`].
    pub async fn check_server(&mut self) -> Result<MemoryFacts, ConnectionError> {
        let text = info_text(self.ask("INFO", redis::cmd("INFO")).await?);
        if let Some(opened) = self.connection.as_ref().map(|it| it.opened) {
            self.check_role(opened, &text)?;
        }
        let field = |name: &str| info_field(&text, name);
        let unsuitable =
            |reason: String| ConnectionError::Unsuitable { address: self.address(), reason };
        if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
            return Err(unsuitable(format!(
                "its maxmemory-policy is {policy}, which would drop data when memory runs short; \
                 set it to noeviction"
            )));
        }
        let version = field("redis_version").unwrap_or("7.0");
        let number = |component: Option<&str>| {
            component.and_then(|component| component.parse::<u32>().ok()).unwrap_or(0)
        };
        let mut parts = version.split('.');
        if (number(parts.next()), number(parts.next())) < (6, 2) {
            return Err(unsuitable(format!(
                "it is version {version}; 6.2 is the oldest supported version"
            )));
        }
        Ok(MemoryFacts::from_info(&text))
    }

    /// The name of the Redis user that this link uses.
    pub fn user(&self) -> &str {
        self.url.user()
    }
}

/// Whether the commands are read-only, so that they can be sent twice.
pub(super) fn reads(commands: &Pipeline) -> bool {
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
