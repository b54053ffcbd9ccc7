//! Commands that wait for data: XREAD, XREADGROUP and BLPOP.

use super::{
    Bytes, EntryId, Outcome, Redis, Reply, Stream, Version,
    arguments::{is, timeout_in_seconds},
    read::Read,
};

/// The errors of waiting readers before 7.2.
const GROUP_DELETED: &str =
    "NOGROUP the consumer group this client was blocked on no longer exists";
const STREAM_DELETED: &str = "UNBLOCKED the stream key no longer exists";

impl Redis {
    /// Runs a command again that was blocked. It differs from [`Redis::run`] where a real server
    /// answers otherwise after a wait: for keys and groups that were deleted or replaced meanwhile.
    pub fn run_again(&mut self, now: u64, command: &[Bytes]) -> Outcome {
        self.is_repeated = true;
        let outcome = self.run(now, command);
        self.is_repeated = false;
        match outcome {
            Outcome::Reply(Reply::Error(text)) => self.outcome_of_failed_wait(command, text),
            outcome => outcome,
        }
    }

    /// The reply to a blocked command whose time is over.
    #[must_use]
    pub fn reply_after_timeout(_command: &[Bytes]) -> Reply {
        Reply::NilArray
    }

    /// The outcome for a blocked command that fails with this error when it is run again.
    pub(super) fn outcome_of_failed_wait(&self, words: &[Bytes], text: String) -> Outcome {
        let is_group_read = is(&words[0], "xreadgroup");
        if is_group_read && self.version >= Version::V7_2 {
            return Outcome::Reply(Reply::Error(text));
        }
        let Ok(read) = Read::parse(self, words, is_group_read) else {
            // BLPOP does not look at keys of other types.
            let timeout = words.last().and_then(|word| timeout_in_seconds(word).ok());
            return Outcome::Blocked { millis: timeout.unwrap_or(0) };
        };
        let group = read.group.map_or(&b""[..], |(group, _)| group);
        let error = read.keys.iter().filter(|_| is_group_read).find_map(|key| {
            match self.data.read::<Stream>(key) {
                Ok(Some(stream)) if stream.groups.contains_key(group) => None,
                Ok(Some(_)) => Some(GROUP_DELETED),
                Ok(None) | Err(_) if self.version == Version::V7_0 => Some(STREAM_DELETED),
                Ok(None) | Err(_) => None,
            }
        });
        match error {
            Some(error) => Outcome::Reply(Reply::Error(error.to_owned())),
            None => Outcome::Blocked { millis: read.block_millis.unwrap_or(0) },
        }
    }

    /// The command to run again if this one was blocked: `$` stands for the last id at the time of
    /// the first attempt.
    #[must_use]
    pub fn command_to_repeat(&self, command: &[Bytes]) -> Vec<Bytes> {
        let mut repeated = command.to_vec();
        let Ok(read) = Read::parse(self, command, false) else { return repeated };
        let first = command.len() - read.ids.len();
        for (at, key) in read.keys.iter().enumerate().filter(|(at, _)| read.ids[*at] == b"$") {
            let stream = self.data.read::<Stream>(key).ok().flatten();
            let last = stream.map_or(EntryId::ZERO, |stream| stream.last_id);
            repeated[first + at] = last.to_string().into_bytes();
        }
        repeated
    }
}
