//! The Redis keys of the engine besides streams and entities.
//!
//! All keys of a topic carry its hash tag, so they share one slot of a Redis Cluster and one script
//! can change them together.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::schema::{
    entity::Kind,
    stream::{Stream, Topic},
};

/// The kind of marks, whose presence is their only content; the caller builds their keys.
pub(crate) static MARK: Kind =
    Kind { prefix: "", index: None, updates: None, announces_new: false };

/// The lowest and the highest member with this prefix, in the syntax of `ZLEXCOUNT` and
/// `ZREVRANGEBYLEX`; the empty prefix stands for all members.
pub fn lex_range(prefix: &str) -> (String, String) {
    let Some((last, before)) = prefix.as_bytes().split_last() else {
        return ("-".to_owned(), "+".to_owned());
    };
    debug_assert!(last.is_ascii() && prefix.is_char_boundary(before.len()));
    let beyond = char::from(last + 1);
    (format!("[{prefix}"), format!("({}{beyond}", &prefix[..before.len()]))
}

/// The identity of the owner's store: `{<topic>}:store`, a
/// [`StoreId`](crate::engine::store_id::StoreId). The readers of the owner's streams may read it as
/// well.
pub fn store(owner: Topic) -> String {
    format!("{{{}}}:store", owner.name())
}

/// The lease of an instance that lost a conflict: `{<topic>}:lease`. See `commit.lua`.
pub(crate) fn lease(owner: Topic) -> String {
    format!("{{{}}}:lease", owner.name())
}

/// The list on which an instance waits for the lease: `{<topic>}:lease:<instance>`. See
/// `acquire_lease.lua`.
pub(crate) fn lease_queue(owner: Topic, instance: &str) -> String {
    format!("{{{}}}:lease:{instance}", owner.name())
}

/// The key of a test write, which finds out whether the owner's Redis accepts writes:
/// `{<topic>}:probe`. Expires at once.
pub(crate) fn probe(owner: Topic) -> String {
    format!("{{{}}}:probe", owner.name())
}

/// The owner's checkpoints in the streams of other owners' Redis: `{<topic>}:bookmarks`, a hash
/// with a field per stream.
pub fn checkpoints(owner: Topic) -> String {
    format!("{{{}}}:bookmarks", owner.name())
}

/// The idempotency record of a dead letter: `{<topic>}:dead:<stream>:<entry>`, so that none is
/// written twice.
pub fn dead_letter(owner: Topic, stream: Stream, entry: impl fmt::Display) -> Key {
    Key(format!("{{{}}}:dead:{stream}:{entry}", owner.name()).into())
}

/// The number of processes of the owner that died while they handled only this entry:
/// `{<topic>}:suspect:<stream>:<entry>`, a number that expires.
pub fn suspect(owner: Topic, stream: Stream, entry: impl fmt::Display) -> String {
    format!("{{{}}}:suspect:{stream}:{entry}", owner.name())
}

/// The key of one entity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of the entity of this kind with this id.
    pub fn new(kind: &Kind, id: &(impl fmt::Display + ?Sized)) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(kind.prefix.len() + 36);
        text.push_str(kind.prefix);
        write!(text, "{id}").expect("a String takes everything");
        Self(text.into())
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
