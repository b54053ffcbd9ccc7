//! Ended sessions. A session is a cookie that each gateway can open, so a copy of it is refused only at the
//! gateway that knows of its end.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;

/// The maximum number of remembered ended sessions; about 100 bytes each.
const REMEMBERED_SESSIONS: usize = 10_000;

/// The sessions that ended at this gateway before their tokens expired. At the maximum, the subject with the
/// most sessions loses its oldest one, so that a subject with many sign-outs cannot displace the ended
/// sessions of others.
#[derive(Debug)]
pub(super) struct Ended {
    most: usize,
    known: Mutex<EndedSessions>,
    changes: watch::Sender<()>,
}

#[derive(Default, Debug)]
struct EndedSessions {
    /// The number of the next session that ends.
    next: u64,
    /// The sessions by the hashes of their tokens.
    sessions: HashMap<Name, EndedSession>,
}

#[derive(Debug)]
struct EndedSession {
    subject: Name,
    /// The number of the session in the order of their ends.
    number: u64,
    /// The time of expiry of its token.
    expires: u64,
}

/// A hash that identifies a token or a subject.
type Name = [u8; 32];

impl Default for Ended {
    fn default() -> Self {
        Self::new(REMEMBERED_SESSIONS)
    }
}

impl Ended {
    fn new(most: usize) -> Self {
        Self { most, known: Mutex::default(), changes: watch::Sender::new(()) }
    }

    /// Ends the subject's session with this token, which expires then.
    pub(super) fn end(&self, subject: &str, token: &str, expires: u64, now: u64) {
        let mut known = self.known();
        known.sessions.retain(|_, session| session.expires > now);
        if known.sessions.len() >= self.most {
            known.forget_one();
        }
        let number = known.next;
        known.next += 1;
        known
            .sessions
            .insert(name(token), EndedSession { subject: name(subject), number, expires });
        drop(known);
        self.changes.send_replace(());
    }

    /// Whether the session with this token has ended.
    pub(super) fn has(&self, token: &str) -> bool {
        let known = self.known();
        !known.sessions.is_empty() && known.sessions.contains_key(&name(token))
    }

    /// Waits until the session with this token has ended.
    pub(super) async fn wait_for(&self, token: &str) {
        let mut changes = self.changes.subscribe();
        while !self.has(token) && changes.changed().await.is_ok() {}
    }

    fn known(&self) -> MutexGuard<'_, EndedSessions> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndedSessions {
    /// Forgets the oldest session of the subject that has most; among equals, the oldest of all.
    fn forget_one(&mut self) {
        let mut subjects: HashMap<Name, (usize, Reverse<u64>, Name)> = HashMap::new();
        for (token, session) in &self.sessions {
            let of_subject = subjects.entry(session.subject);
            let (count, oldest, its_token) =
                of_subject.or_insert((0, Reverse(session.number), *token));
            *count += 1;
            if session.number < oldest.0 {
                (*oldest, *its_token) = (Reverse(session.number), *token);
            }
        }
        if let Some((_, _, token)) = subjects.into_values().max() {
            self.sessions.remove(&token);
        }
    }
}

fn name(text: &str) -> Name {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_ends_many_sessions_evicts_only_its_own() {
        let ended = Ended::new(10);
        ended.end("one", "one's", 600, 0);
        ended.end("two", "two's", 600, 0);
        for number in 0..100 {
            ended.end("many", &format!("many's {number}"), 600, 0);
        }
        assert!(ended.has("one's") && ended.has("two's"));
        let of_many = (0..100).filter(|number| ended.has(&format!("many's {number}")));
        assert_eq!(of_many.collect::<Vec<_>>(), Vec::from_iter(92..100), "its last ones");
        // If all subjects have equally many, the first session that ended is forgotten.
        for number in 0..7 {
            ended.end(&number.to_string(), &number.to_string(), 600, 0);
        }
        assert!(ended.has("one's") && ended.has("many's 99") && !ended.has("many's 98"));
        ended.end("another", "another's", 600, 0);
        assert!(!ended.has("one's") && ended.has("two's") && ended.has("another's"));
        // Expired entries are removed.
        ended.end("late", "late's", 1_200, 600);
        assert_eq!(ended.known().sessions.len(), 1);
        assert!(ended.has("late's"));
    }
}
