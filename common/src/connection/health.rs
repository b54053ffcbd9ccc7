//! Whether a process is ready, and whether it is worth sending it commands.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing::{debug, error, info, warn};

use crate::{clock::now_millis, connection::error::ConnectionError};

/// After so many milliseconds of failures new commands are refused at once.
const AWAY_AFTER: u64 = 1_000;
/// For so many milliseconds a failure that a person has to mend is not logged again.
const SILENCE: u64 = 60_000;

/// The state of one process: ready once each of its parts has begun to work, and as long as Redis
/// does what they ask for.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<Vec<Arc<Component>>>,
    /// What `/readyz` says besides that the process is ready, by what it is about.
    notices: Mutex<BTreeMap<String, String>>,
    said: Arc<Said>,
}

/// What a person has to mend and some part has said, with the time until which none says it again.
#[derive(Debug, Default)]
struct Said(Mutex<HashMap<String, u64>>);

impl Said {
    /// Whether it is to be said now.
    fn is_news(&self, text: &str, now: u64) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, until| now < *until);
        if said.contains_key(text) {
            return false;
        }
        said.insert(text.to_owned(), now + SILENCE);
        true
    }
}

/// A part of the process that needs a Redis. Parts fail and recover by themselves: a reader may get
/// answers from the very server that refuses the engine's commits.
#[derive(Debug)]
pub struct Component {
    name: &'static str,
    begun: AtomicBool,
    /// When the failures began, in milliseconds since 1970; 0 if the last command succeeded.
    failing_since: AtomicU64,
    /// The failure that it met last: a long one is told once and not each second.
    told: Mutex<Told>,
    said: Arc<Said>,
}

/// A failure since the last success.
#[derive(Debug, Default)]
struct Told {
    text: String,
    /// It was logged, so that its end is logged, too.
    loud: bool,
}

impl Health {
    /// Registers a part by its name in the log, e.g. `the engine`.
    pub fn component(&self, name: &'static str) -> Arc<Component> {
        self.register(name, false)
    }

    /// Registers a part that nobody waits for at the start: it may be long until it has something to do.
    pub fn background_component(&self, name: &'static str) -> Arc<Component> {
        self.register(name, true)
    }

    fn register(&self, name: &'static str, begun: bool) -> Arc<Component> {
        let component = Arc::new(Component {
            name,
            begun: AtomicBool::new(begun),
            failing_since: AtomicU64::new(0),
            told: Mutex::default(),
            said: Arc::clone(&self.said),
        });
        self.parts().push(Arc::clone(&component));
        component
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Component>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or takes back what a person is to know though the process is ready.
    pub fn set_notice(&self, about: &str, notice: Option<String>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Some(notice) => drop(notices.insert(about.to_owned(), notice)),
            None => drop(notices.remove(about)),
        }
    }

    /// What a person is to know though the process is ready.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.values().cloned().collect()
    }

    /// Whether some part's last command failed.
    pub fn redis_is_failing(&self) -> bool {
        self.parts().iter().any(|component| component.is_failing())
    }

    /// Why the process is not ready, or `Ok`.
    ///
    /// # Errors
    ///
    /// A short reason for people.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.redis_is_failing() {
            Err("trouble with Redis, see the log")
        } else if !self.parts().iter().all(|component| component.begun.load(Ordering::Relaxed)) {
            Err("starting")
        } else {
            Ok(())
        }
    }
}

impl Component {
    /// Redis did what it was asked to do.
    pub fn answered(&self) {
        self.begun.store(true, Ordering::Relaxed);
        if !self.is_failing() {
            return;
        }
        let since = self.failing_since.swap(0, Ordering::Relaxed);
        let away = now_millis().saturating_sub(since);
        if std::mem::take(&mut *self.told()).loud {
            info!(after_ms = away, "Redis answers {} again", self.name);
        }
    }

    /// Redis did not; the part tries again. Each different failure is logged once.
    ///
    /// What a person has to mend (a right, a password, a certificate) is an error. It is not logged
    /// again within a minute, whichever part meets it: a part may succeed with all but one command.
    pub fn failed(&self, error: &ConnectionError) {
        // The time of the first failure stays.
        let now = now_millis();
        let _ = self.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let text = error.to_string();
        let mut told = self.told();
        if told.text == text {
            return;
        }
        let mut loud = true;
        if !error.is_lasting() {
            warn!("{}: {text}; trying again until it answers", self.name);
        } else if self.said.is_news(&text, now) {
            error!("{}: {text}; trying again until it does", self.name);
        } else {
            loud = told.loud;
        }
        *told = Told { text, loud };
    }

    /// As [`failed`](Self::failed), for a part whose Redis the engine or a reader watches, too: those
    /// tell that it is away, this one only what a person has to mend.
    pub fn denied(&self, error: &ConnectionError) {
        if error.is_lasting() {
            self.failed(error);
        } else {
            debug!("{}: {error}", self.name);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It cannot do its work, for another reason than Redis.
    pub fn stopped(&self) {
        self.begun.store(false, Ordering::Relaxed);
    }

    /// Whether the last command failed.
    pub fn is_failing(&self) -> bool {
        self.failing_since.load(Ordering::Relaxed) != 0
    }

    /// Whether commands have failed for so long that it is not worth waiting.
    pub fn is_away(&self) -> bool {
        let since = self.failing_since.load(Ordering::Relaxed);
        since != 0 && now_millis().saturating_sub(since) > AWAY_AFTER
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
    fn what_is_denied_to_a_helper_ends_the_readiness_until_it_succeeds() {
        let health = Health::default();
        let helper = health.background_component("a helper");
        assert_eq!(health.ready(), Ok(()), "nobody waits for it");
        helper.denied(&away());
        assert_eq!(health.ready(), Ok(()), "others tell that");
        helper.denied(&denied("XTRIM"));
        assert!(health.ready().is_err());
        helper.answered();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn the_same_trouble_is_said_by_one_part_and_once_a_minute() {
        let health = Health::default();
        let (one, other) = (health.component("one"), health.component("other"));
        one.failed(&denied("AUTH"));
        other.failed(&denied("AUTH"));
        assert!(one.told().loud && !other.told().loud);
        other.failed(&denied("XACK"));
        assert!(other.told().loud);
        let said = Said::default();
        assert!(
            said.is_news("a", 0) && !said.is_news("a", SILENCE - 1) && said.is_news("a", SILENCE)
        );
    }
}
