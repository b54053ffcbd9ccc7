//! The readiness of a process, and whether commands to it have a chance of success.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing::{debug, error, info, warn};

use crate::{clock::now_millis, connection::error::ConnectionError};

/// The time in milliseconds after which continuous failures make new commands fail at once.
const AWAY_AFTER_MILLIS: u64 = 1_000;
/// The time in milliseconds during which a failure that needs an operator is not logged again.
const LOG_REPEAT_MILLIS: u64 = 60_000;

/// The health of one process. The process is ready once each component has started, and as long as
/// Redis serves all of them.
#[derive(Debug, Default)]
pub struct Health {
    components: Mutex<Vec<Arc<Component>>>,
    /// Notices that `/readyz` shows while the process is ready, by topic.
    notices: Mutex<BTreeMap<String, String>>,
    reported: Arc<ReportedFailures>,
}

/// The logged failures that need an operator, each with the time until which it is not repeated.
#[derive(Debug, Default)]
struct ReportedFailures(Mutex<HashMap<String, u64>>);

impl ReportedFailures {
    /// Whether this failure should be logged now.
    fn should_log(&self, text: &str, now: u64) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain(|_, until| now < *until);
        if reported.contains_key(text) {
            return false;
        }
        reported.insert(text.to_owned(), now + LOG_REPEAT_MILLIS);
        true
    }
}

/// A component of the process that needs a Redis server. Components fail and recover independently:
/// a reader may get answers from the very server that refuses the engine's commits.
#[derive(Debug)]
pub struct Component {
    name: &'static str,
    begun: AtomicBool,
    /// The start of the failures in milliseconds since 1970; 0 if the last command succeeded.
    failing_since: AtomicU64,
    /// The last failure. A long failure is logged once and not every second.
    last_failure: Mutex<LastFailure>,
    reported: Arc<ReportedFailures>,
}

/// A failure since the last success.
#[derive(Debug, Default)]
struct LastFailure {
    text: String,
    /// Whether it was logged. If so, its end is logged as well.
    is_logged: bool,
}

impl Health {
    /// Registers a component by its name in the log, e.g. `the engine`.
    pub fn component(&self, name: &'static str) -> Arc<Component> {
        self.register(name, false)
    }

    /// Registers a component that the process does not wait for at the start: its first command may
    /// come much later.
    pub fn background_component(&self, name: &'static str) -> Arc<Component> {
        self.register(name, true)
    }

    fn register(&self, name: &'static str, begun: bool) -> Arc<Component> {
        let component = Arc::new(Component {
            name,
            begun: AtomicBool::new(begun),
            failing_since: AtomicU64::new(0),
            last_failure: Mutex::default(),
            reported: Arc::clone(&self.reported),
        });
        self.components().push(Arc::clone(&component));
        component
    }

    fn components(&self) -> MutexGuard<'_, Vec<Arc<Component>>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or removes a notice for operators that does not affect readiness.
    pub fn set_notice(&self, about: &str, notice: Option<String>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Some(notice) => drop(notices.insert(about.to_owned(), notice)),
            None => drop(notices.remove(about)),
        }
    }

    /// The notices for operators that do not affect readiness.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.values().cloned().collect()
    }

    /// Whether the last command of some component failed.
    pub fn redis_is_failing(&self) -> bool {
        self.components().iter().any(|component| component.is_failing())
    }

    /// Checks whether the process is ready.
    ///
    /// # Errors
    ///
    /// A short reason for operators.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.redis_is_failing() {
            Err("Redis is failing, see the log")
        } else if !self.components().iter().all(|component| component.begun.load(Ordering::Relaxed))
        {
            Err("starting")
        } else {
            Ok(())
        }
    }
}

impl Component {
    /// Records that a Redis command succeeded.
    pub fn answered(&self) {
        self.begun.store(true, Ordering::Relaxed);
        if !self.is_failing() {
            return;
        }
        let since = self.failing_since.swap(0, Ordering::Relaxed);
        let away = now_millis().saturating_sub(since);
        if std::mem::take(&mut *self.last_failure()).is_logged {
            info!(after_ms = away, "Redis answers {} again", self.name);
        }
    }

    /// Records that a Redis command failed and will be retried. Each different failure is logged
    /// once.
    ///
    /// A failure that needs an operator (a permission, a password, a certificate) is logged as an
    /// error, and only once a minute for all components together: a component may succeed with all
    /// commands but one.
    pub fn failed(&self, error: &ConnectionError) {
        // The time of the first failure is kept.
        let now = now_millis();
        let _ = self.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let text = error.to_string();
        let mut last_failure = self.last_failure();
        if last_failure.text == text {
            return;
        }
        let mut is_logged = true;
        if !error.is_lasting() {
            warn!("{}: {text}; trying again until it answers", self.name);
        } else if self.reported.should_log(&text, now) {
            error!("{}: {text}; trying again until it does", self.name);
        } else {
            is_logged = last_failure.is_logged;
        }
        *last_failure = LastFailure { text, is_logged };
    }

    /// Like [`failed`](Self::failed), for a component whose Redis the engine or a reader monitors
    /// as well: those report an unreachable server, and this component reports only failures that
    /// need an operator.
    pub fn denied(&self, error: &ConnectionError) {
        if error.is_lasting() {
            self.failed(error);
        } else {
            debug!("{}: {error}", self.name);
        }
    }

    fn last_failure(&self) -> MutexGuard<'_, LastFailure> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the component cannot work, for another reason than Redis.
    pub fn stopped(&self) {
        self.begun.store(false, Ordering::Relaxed);
    }

    /// Whether the last command failed.
    pub fn is_failing(&self) -> bool {
        self.failing_since.load(Ordering::Relaxed) != 0
    }

    /// Whether commands have failed for so long that waiting is pointless.
    pub fn is_away(&self) -> bool {
        let since = self.failing_since.load(Ordering::Relaxed);
        since != 0 && now_millis().saturating_sub(since) > AWAY_AFTER_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(command: &'static str) -> ConnectionError {
        let (address, user) = ("a:1".to_owned(), "order".to_owned());
        ConnectionError::Denied { address, user, command, reason: "no".to_owned() }
    }

    fn away() -> ConnectionError {
        let source = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        ConnectionError::Away { address: "a:1".to_owned(), source }
    }

    #[test]
    fn a_denied_background_component_ends_readiness_until_it_succeeds() {
        let health = Health::default();
        let background = health.background_component("a background");
        assert_eq!(health.ready(), Ok(()), "the start does not wait for it");
        background.denied(&away());
        assert_eq!(health.ready(), Ok(()), "other components report that");
        background.denied(&denied("XTRIM"));
        assert!(health.ready().is_err());
        background.answered();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn the_same_failure_is_logged_by_one_component_and_once_a_minute() {
        let health = Health::default();
        let (one, other) = (health.component("one"), health.component("other"));
        one.failed(&denied("AUTH"));
        other.failed(&denied("AUTH"));
        assert!(one.last_failure().is_logged && !other.last_failure().is_logged);
        other.failed(&denied("XACK"));
        assert!(other.last_failure().is_logged);
        let reported = ReportedFailures::default();
        assert!(
            reported.should_log("a", 0)
                && !reported.should_log("a", LOG_REPEAT_MILLIS - 1)
                && reported.should_log("a", LOG_REPEAT_MILLIS)
        );
    }
}
