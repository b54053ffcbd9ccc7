//! One link that many tasks use concurrently for reads.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex as Guarded, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{Pipeline, Value};
use tokio::{sync::Mutex, time::Instant};
use tracing::error;

use crate::{
    connection::{
        circuit_breaker::CircuitBreaker,
        error::ConnectionError,
        link::{Link, reads},
        memory::MemoryFacts,
        replies::{accept, is_error},
        url::RedisUrl,
    },
    schema::{entity::Entity, json::from_object, keys::Key, stored_form},
};

/// How long an unreadable key is not logged again.
const UNREADABLE_SILENCE: Duration = Duration::from_secs(60);
/// The number of unreadable keys that are remembered for that.
const UNREADABLE_KEYS: usize = 1_000;

/// A link that many tasks use concurrently for reads.
#[derive(Debug)]
pub struct SharedLink {
    pub(super) link: Mutex<Link>,
    url: RedisUrl,
    /// Makes reads from a server that hangs fail at once, instead of after [`READ_TIMEOUT`].
    breaker: CircuitBreaker,
    /// Unreadable keys that were logged, and the time of that.
    unreadable: Guarded<HashMap<String, Instant>>,
}

tokio::task_local! {
    static METER: Meter;
}

/// Counts the bytes of entities, lists and other replies that a future reads through
/// [`SharedLink`]s.
#[derive(Clone, Default, Debug)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Counts the bytes that this future reads.
    pub async fn count<T>(&self, reading: impl Future<Output = T>) -> T {
        METER.scope(self.clone(), reading).await
    }

    /// The number of bytes read so far.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts answers for the current future.
    fn add(answers: &[Value]) {
        fn length(value: &Value) -> usize {
            match value {
                Value::BulkString(bytes) => bytes.len(),
                Value::Array(values) => values.iter().map(length).sum(),
                _ => 0,
            }
        }
        // Most reads run without a meter.
        let _ = METER.try_with(|meter| {
            meter.0.fetch_add(answers.iter().map(length).sum(), Ordering::Relaxed)
        });
    }
}

/// The timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

impl SharedLink {
    /// A link that connects at its first use, to a primary only.
    pub fn new(url: RedisUrl) -> Self {
        let link = Mutex::new(Link::new(url.clone(), READ_TIMEOUT).primary_only());
        Self { link, url, breaker: CircuitBreaker::default(), unreadable: Guarded::default() }
    }

    /// The address of the Redis server, without the password.
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// The name of the Redis user that this link uses.
    pub fn user(&self) -> &str {
        self.url.user()
    }

    /// Sends the commands in one write and returns their answers.
    ///
    /// # Errors
    ///
    /// The server is away, or one of the answers is an error. A key with another type than the
    /// command expects is [`ConnectionError::Unreadable`].
    pub async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
        let answers = self.answers(commands).await?;
        let accepted = answers.into_iter().zip(commands.cmd_iter());
        accepted.map(|(answer, command)| self.accept(command, answer)).collect()
    }

    /// The answers to the commands, errors of single commands among them.
    ///
    /// # Errors
    ///
    /// The server is away.
    pub async fn answers(&self, commands: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
        let away = |reason| ConnectionError::Away {
            address: self.url.to_string(),
            source: io::Error::new(io::ErrorKind::TimedOut, reason).into(),
        };
        let Some(call) = self.breaker.call() else {
            return Err(away("it did not answer in time a moment ago"));
        };
        // Only one task connects at a time, so tasks that wait for it need a timeout as well.
        let answers = tokio::time::timeout(READ_TIMEOUT, self.exchange(commands)).await;
        let answers = answers.unwrap_or_else(|_| Err(away("it did not answer in time")));
        let is_late = match &answers {
            Err(ConnectionError::Away { source, .. }) => source.is_timeout(),
            _ => false,
        };
        call.ends(!is_late);
        answers.inspect(|answers| Meter::add(answers))
    }

    /// Like [`Link::read`].
    async fn exchange(&self, commands: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
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

    /// Converts an error reply into an error; a type error names the key.
    fn accept(&self, command: &redis::Cmd, answer: Value) -> Result<Value, ConnectionError> {
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

    fn unreadable(&self, key: String, reason: String) -> ConnectionError {
        ConnectionError::Unreadable { address: self.url.to_string(), key, reason }
    }

    /// Like [`Link::check_server`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_server`].
    pub async fn check_server(&self) -> Result<MemoryFacts, ConnectionError> {
        self.link.lock().await.check_server().await
    }

    /// Reads one entity.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`]; [`ConnectionError::Unreadable`] if the stored value is not such an
    /// entity.
    pub async fn get<E: Entity>(&self, id: &E::Id) -> Result<Option<E>, ConnectionError> {
        let mut pipeline = Pipeline::with_capacity(1);
        let key = Key::new(E::KIND, id);
        pipeline.cmd("GET").arg(key.as_str());
        let Some(Value::BulkString(stored)) = self.send(&pipeline).await?.pop() else {
            return Ok(None);
        };
        let entity = document(&stored).and_then(entity);
        entity.map(Some).map_err(|reason| self.unreadable(key.to_string(), reason))
    }

    /// Reads the entities with these ids, in this order. Missing entities are skipped. Unreadable
    /// ones are skipped as well, with an error in the log that names the key.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`].
    pub async fn get_all<E: Entity<Id: Sized>>(
        &self,
        ids: impl IntoIterator<Item = E::Id>,
    ) -> Result<Vec<E>, ConnectionError> {
        let key = |id: E::Id| Key::new(E::KIND, &id).as_str().as_bytes().to_vec();
        let found = self.read_all(ids.into_iter().map(key).collect(), entity).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads the documents at these keys, in this order. Missing and unreadable documents are
    /// `None`; the log names unreadable keys.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`].
    pub async fn read_all<T>(
        &self,
        keys: Vec<Vec<u8>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<Option<T>>, ConnectionError> {
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

    /// Reports those of these keys whose value is not a string: MGET shows them as absent.
    async fn report_wrong_types(&self, absent: &[&Vec<u8>]) -> Result<(), ConnectionError> {
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
                Err(ConnectionError::Unreadable { key, reason, .. }) => self.leave_out(key, reason),
                accepted => drop(accepted?),
            }
        }
        Ok(())
    }

    /// Logs an unreadable key, once a minute.
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

/// The document in the stored form of an entity, `<version> <JSON>`.
fn document(stored: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(stored).map_err(|_| "it is not UTF-8".to_owned())?;
    let document = stored_form::parse(text).map(|(_, document)| document);
    document.ok_or_else(|| "it has no version and no document".to_owned())
}

/// The entity in its document.
fn entity<E: Entity>(document: &str) -> Result<E, String> {
    from_object(document)
}
