//! Whether a process is ready, and whether it is worth sending it commands.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tracing::{error, info, warn};

use crate::{engine::now_millis, redis_link::LinkError};

/// After so many milliseconds of failures new commands are refused at once.
const AWAY_AFTER: u64 = 1_000;
/// For so many milliseconds a failure that a person has to mend is not logged again.
const SILENCE: u64 = 60_000;

/// The state of one process: ready once each of its parts has begun to work, and as long as Redis
/// does what they ask for.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<Vec<Arc<Part>>>,
}

/// A part of the process that needs a Redis. Parts fail and recover by themselves: a reader may get
/// answers from the very server that refuses the engine's commits.
#[derive(Debug)]
pub struct Part {
    name: &'static str,
    begun: AtomicBool,
    /// When the failures began, in milliseconds since 1970; 0 if the last command succeeded.
    failing_since: AtomicU64,
    /// The failure that was logged last: a long one is told once and not each second.
    told: Mutex<Told>,
}

/// A failure that was logged.
#[derive(Debug, Default)]
struct Told {
    text: String,
    /// Since the last success.
    now: bool,
    /// Until when it is not logged again though there was a success since; 0 if it is.
    silent_until: u64,
}

impl Health {
    /// Registers a part by its name in the log, e.g. `the engine`.
    pub fn part(&self, name: &'static str) -> Arc<Part> {
        let part = Arc::new(Part {
            name,
            begun: AtomicBool::new(false),
            failing_since: AtomicU64::new(0),
            told: Mutex::default(),
        });
        self.parts().push(Arc::clone(&part));
        part
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some part's last command failed.
    pub fn redis_is_failing(&self) -> bool {
        self.parts().iter().any(|part| part.is_failing())
    }

    /// Why the process is not ready, or `Ok`.
    ///
    /// # Errors
    ///
    /// A short reason for people.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.redis_is_failing() {
            Err("trouble with Redis, see the log")
        } else if !self.parts().iter().all(|part| part.begun.load(Ordering::Relaxed)) {
            Err("starting")
        } else {
            Ok(())
        }
    }
}

impl Part {
    /// Redis did what it was asked to do.
    pub fn answered(&self) {
        self.begun.store(true, Ordering::Relaxed);
        if !self.is_failing() {
            return;
        }
        let since = self.failing_since.swap(0, Ordering::Relaxed);
        let away = now_millis().saturating_sub(since);
        let mut told = self.told();
        if std::mem::take(&mut told.now) {
            info!(after_ms = away, "Redis answers {} again", self.name);
        }
        if told.silent_until == 0 {
            told.text.clear();
        }
    }

    /// Redis did not; the part tries again. Each different failure is logged once.
    ///
    /// What a person has to mend (a right, a password, a certificate) is an error. It is not logged
    /// again when it comes back within a minute: a part may succeed with all but one command.
    pub fn failed(&self, error: &LinkError) {
        // The time of the first failure stays.
        let now = now_millis();
        let _ = self.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let text = error.to_string();
        let mut told = self.told();
        if told.text == text && (told.now || now < told.silent_until) {
            return;
        }
        let lasting = matches!(error, LinkError::Denied { .. } | LinkError::Insecure { .. });
        if lasting {
            error!("{}: {text}; trying again until it does", self.name);
        } else {
            warn!("{}: {text}; trying again until it answers", self.name);
        }
        *told = Told { text, now: true, silent_until: if lasting { now + SILENCE } else { 0 } };
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
