//! A Redis server in memory: one call is one command, with the time as an argument. It reads no
//! clock, uses no randomness and does no input or output.
//!
//! It knows the commands that the services send, with the replies and errors of Redis 6.2, of 7.0,
//! or of 7.2 and later. `tests/redis.rs` compares it with real servers.
//!
//! - [`Redis::run`] runs a command (`commands.rs` has the table of commands). Scripts run in Lua 5.1
//!   as in Redis (`script.rs`).
//! - A command that has to wait answers [`Outcome::Blocked`]. The caller runs it again
//!   ([`Redis::run_again`]) after each change of one of its keys ([`Redis::take_touched`]).
//! - The state of a connection (transactions, WATCH, the name of a client) is not part of this
//!   module: each command stands alone. MULTI and EXEC belong into a type for a connection that
//!   queues commands and then runs them one after the other with [`Redis::run`].

mod arguments;
mod cjson;
mod claim;
mod collections;
mod commands;
mod entry_id;
mod group;
mod group_commands;
mod keys;
mod listpack;
mod lua;
mod lua_library;
mod lua_values;
mod pending;
mod protocol;
mod read;
mod reply;
mod script;
mod server_commands;
mod sorted_sets;
mod stream;
mod stream_commands;
mod stream_info;
mod strings;
mod value;
mod waiting;

use std::{collections::BTreeMap, rc::Rc};

pub use entry_id::EntryId;
pub use group::{Consumer, Group, Pending};
pub use lua::{patch_scripts, unmatched_patches};
pub use protocol::parse_command;
pub use reply::Reply;
use reply::Stop;
use stream::NodeLimits;
pub use stream::{Fields, Stream};
use value::Keyspace;
pub use value::{Hash, List, SortedSet, Value};

/// A string of any bytes.
pub type Bytes = Vec<u8>;

/// The version of Redis whose behaviour is simulated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// Redis 6.2.
    V6_2,
    /// Redis 7.0.
    V7_0,
    /// Redis 7.2 and later, and Valkey.
    V7_2,
}

/// The result of a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The reply.
    Reply(Reply),
    /// The command has to wait, and changed no data. The caller runs it again after each change of its keys,
    /// until `millis` are over (0: for ever), and then replies [`Redis::reply_after_timeout`].
    Blocked {
        /// The time limit in milliseconds.
        millis: u64,
    },
}

/// An entry that was added to a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The stream.
    pub key: Rc<[u8]>,
    /// The id of the entry.
    pub id: EntryId,
    /// Its fields and values.
    pub fields: Fields,
}

/// A Redis server. A clone is a snapshot, which shares all values until they change.
#[derive(Clone, Debug)]
pub struct Redis {
    version: Version,
    run_id: String,
    node_limits: NodeLimits,
    data: Keyspace,
    scripts: BTreeMap<String, Rc<[u8]>>,
    appended: Rc<Vec<Appended>>,
    out_of_memory: bool,
    answers_acl: bool,
    started: Option<u64>,
    /// The time of the current command.
    now: u64,
    script: ScriptState,
    /// Whether the current command was blocked before.
    is_repeated: bool,
}

/// Whether a script runs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum ScriptState {
    #[default]
    NotRunning,
    Running,
    /// A script runs that has already written; no later command is refused for lack of memory.
    RunningAfterWrite,
}

impl Redis {
    /// An empty server.
    #[must_use]
    pub fn new(version: Version, run_id: &str) -> Self {
        Self {
            version,
            run_id: run_id.to_owned(),
            node_limits: NodeLimits {
                entries: 100,
                bytes: 4096,
                counts_new_entry: version >= Version::V7_0,
            },
            data: Keyspace::default(),
            scripts: BTreeMap::new(),
            appended: Rc::default(),
            out_of_memory: false,
            answers_acl: true,
            started: None,
            now: 0,
            script: ScriptState::NotRunning,
            is_repeated: false,
        }
    }

    /// The server with `stream-node-max-entries` of this number, and `stream-node-max-bytes 0`.
    #[must_use]
    pub fn with_node_entries(mut self, entries: usize) -> Self {
        self.node_limits = NodeLimits { entries, bytes: 0, ..self.node_limits };
        self
    }

    /// Runs a command at this time, in milliseconds since 1970.
    pub fn run(&mut self, now: u64, command: &[Bytes]) -> Outcome {
        self.now = now;
        self.started.get_or_insert(now);
        self.data.remove_expired(now);
        match self.execute(command) {
            Ok(reply) => Outcome::Reply(reply),
            Err(Stop::Error(text)) => Outcome::Reply(Reply::Error(text.into_owned())),
            Err(Stop::Blocked { millis }) => Outcome::Blocked { millis },
        }
    }

    /// Takes the keys of streams and lists that changed since the last call.
    pub fn take_touched(&mut self) -> Vec<Rc<[u8]>> {
        self.data.take_touched()
    }

    /// Restarts the server with another run id: it forgets the loaded scripts and keeps the data.
    pub fn restart(&mut self, run_id: &str) {
        self.scripts.clear();
        run_id.clone_into(&mut self.run_id);
        self.started = None;
    }

    /// Whether commands that may take memory are refused, alone and as the first write of a script.
    pub fn set_out_of_memory(&mut self, yes: bool) {
        self.out_of_memory = yes;
    }

    /// Whether permissions can be asked for (by default, and the user has all of them); otherwise
    /// ACL is an unknown command, and scripts have no `redis.acl_check_cmd`.
    pub fn set_answers_acl(&mut self, yes: bool) {
        self.answers_acl = yes;
    }

    /// All keys with their values, in the order of the keys. Keys that have expired since the last
    /// command are included.
    pub fn keys(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.data.iter()
    }

    /// The value of a key.
    #[must_use]
    pub fn get_value(&self, key: &[u8]) -> Option<&Value> {
        self.data.get(key)
    }

    /// All entries that were ever added to streams since FLUSHALL, including those that were
    /// removed.
    #[must_use]
    pub fn appended(&self) -> &[Appended] {
        &self.appended
    }
}
