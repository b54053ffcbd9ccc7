//! Sessions whose owner has signed out. A session is a cookie that each gateway can open, so a copy of it
//! is refused only where it is known that it is over: at this gateway.

use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use tokio::sync::watch;

use super::remembered::Remembered;

/// How many ended sessions are remembered; some 100 bytes each.
const REMEMBERED: usize = 10_000;

/// The sessions that ended at this gateway before their tokens did.
#[derive(Debug)]
pub(super) struct Ended {
    sessions: Mutex<Remembered<[u8; 32]>>,
    changes: watch::Sender<()>,
}

impl Default for Ended {
    fn default() -> Self {
        Self { sessions: Mutex::new(Remembered::new(REMEMBERED)), changes: watch::Sender::new(()) }
    }
}

impl Ended {
    /// Ends the session with this token, which expires then.
    pub(super) fn end(&self, token: &str, expires: u64, now: u64) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.add(name(token), expires, now);
        drop(sessions);
        self.changes.send_replace(());
    }

    /// Whether the session with this token has ended.
    pub(super) fn has(&self, token: &str) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        !sessions.is_empty() && sessions.has(&name(token))
    }

    /// Waits until the session with this token has ended.
    pub(super) async fn wait_for(&self, token: &str) {
        let mut changes = self.changes.subscribe();
        while !self.has(token) && changes.changed().await.is_ok() {}
    }
}

/// Names a token without keeping it.
fn name(token: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    name
}
