//! The plan of one history: everything that follows from its seed, and what a shrinker takes away.

use std::{collections::BTreeSet, fmt, str::FromStr};

use common::{consumer::trimmer::Retention, engine};

use crate::redis::Version;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A process dies before or after one of its commands, and starts again.
    Crash,
    /// A connection breaks, and a command does not arrive.
    RequestLost,
    /// A connection breaks, and the reply to a command does not arrive.
    ReplyLost,
    /// A connection stays open, and no further reply arrives.
    HalfOpen,
    /// A command takes long.
    Delay,
    /// A process receives SIGTERM, finishes its work, and starts again.
    GracefulStop,
    /// The clocks of processes and servers differ.
    ClocksApart,
    /// A server restarts: its connections break, and its loaded scripts are gone.
    Restart,
    /// A server has no memory for writes for a while.
    OutOfMemory,
    /// A key holds another type for a while.
    OtherType,
    /// A stream has used up its ids for a while.
    IdsExhausted,
    /// An operator sets a consumer group back to the beginning.
    GroupSetBack,
    /// An operator destroys a consumer group.
    GroupDestroyed,
    /// An operator removes a consumer from its group, with its pending entries.
    ConsumerRemoved,
    /// An operator deletes an entry that is pending.
    EntryDeleted,
    /// A client publishes an entry that no service can handle.
    Poison,
    /// A server restarts without its last writes.
    TailLost,
    /// A server loses all its data.
    Flushed,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::RequestLost,
        Self::ReplyLost,
        Self::HalfOpen,
        Self::Delay,
        Self::GracefulStop,
        Self::ClocksApart,
        Self::Restart,
        Self::OutOfMemory,
        Self::OtherType,
        Self::IdsExhausted,
        Self::GroupSetBack,
        Self::GroupDestroyed,
        Self::ConsumerRemoved,
        Self::EntryDeleted,
        Self::Poison,
        Self::TailLost,
        Self::Flushed,
    ];

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::RequestLost => "request-lost",
            Self::ReplyLost => "reply-lost",
            Self::HalfOpen => "half-open",
            Self::Delay => "delay",
            Self::GracefulStop => "graceful-stop",
            Self::ClocksApart => "clocks-apart",
            Self::Restart => "restart",
            Self::OutOfMemory => "out-of-memory",
            Self::OtherType => "other-type",
            Self::IdsExhausted => "ids-exhausted",
            Self::GroupSetBack => "group-set-back",
            Self::GroupDestroyed => "group-destroyed",
            Self::ConsumerRemoved => "consumer-removed",
            Self::EntryDeleted => "entry-deleted",
            Self::Poison => "poison",
            Self::TailLost => "tail-lost",
            Self::Flushed => "flushed",
        }
    }

    /// Whether acknowledged data may be lost.
    pub const fn loses_data(self) -> bool {
        matches!(self, Self::TailLost | Self::Flushed)
    }

    /// Whether the fault happens to a command, and not to a server or a process as a whole.
    pub const fn strikes_commands(self) -> bool {
        matches!(
            self,
            Self::Crash | Self::RequestLost | Self::ReplyLost | Self::HalfOpen | Self::Delay
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The moment of a crash at a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Moment {
    /// Neither the command nor what was written behind it has an effect.
    Before,
    /// The command has its effect, and what was written behind it has none.
    After,
    /// The command and what was written behind it have their effects: the process dies after it has
    /// written them.
    Written,
}

impl Moment {
    /// All moments.
    pub const ALL: [Self; 3] = [Self::Before, Self::After, Self::Written];
}

/// A point at which a process crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashPoint {
    /// The number of the command, counted over all processes from 1.
    pub command: u64,
    /// The moment of the crash.
    pub moment: Moment,
}

/// The sizes and intervals of the services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// The limits of the engines.
    pub limits: engine::Limits,
    /// The limits of inventory_service.
    pub stock: inventory_service::Limits,
    /// The retention of each stream.
    pub retention: Retention,
    /// The interval between trims, in milliseconds.
    pub trim_millis: u64,
    /// The idle time after which pending entries are taken over, in milliseconds.
    pub claim_idle_millis: u64,
    /// The time after which an order without an answer is resent, in milliseconds.
    pub resend_after_millis: u64,
    /// The number of entries in a node of a stream, which trimming removes as a whole.
    pub node_entries: usize,
}

impl Scale {
    /// The sizes and intervals of production.
    pub fn production() -> Self {
        Self {
            limits: engine::Limits::default(),
            stock: inventory_service::Limits::default(),
            retention: Retention::default(),
            trim_millis: 30_000,
            claim_idle_millis: 15_000,
            resend_after_millis: 60_000,
            node_entries: 100,
        }
    }

    /// The sizes of production and short intervals.
    pub fn quick() -> Self {
        Self {
            retention: Retention { entries: 4, ..Retention::default() },
            trim_millis: 2_000,
            claim_idle_millis: 1_500,
            resend_after_millis: 1_500,
            node_entries: 4,
            ..Self::production()
        }
    }

    /// Small sizes and short intervals, so that what is rare in production happens often.
    fn small(rng: &mut fastrand::Rng) -> Self {
        let mut one = |of: &[usize]| of[rng.usize(..of.len())];
        let batch_keys = one(&[16, 40, 2_000]);
        let limits = engine::Limits {
            batch_inputs: one(&[1, 3, 8, 256]),
            batch_keys,
            batch_kib: one(&[2, 8, 2_048]),
            queue_inputs: one(&[2, 8, 1_024]),
            queue_kib: u32::try_from(one(&[4, 16, 8_192])).unwrap_or(4),
            small_batch: one(&[1, 16]),
            lease_millis: one(&[5, 50, 500]) as u64,
            contended_after: one(&[1, 2, 4]) as u32,
            halve_after: one(&[1, 2, 4]) as u32,
            remembered: one(&[0, 2, 2_048]),
        };
        let stock = inventory_service::Limits {
            fills: one(&[1, 2, 300]),
            pages: one(&[1, 2, 64]),
            entities: (batch_keys / 4).min(500),
            ..inventory_service::Limits::default()
        };
        Self {
            limits,
            stock,
            retention: Retention { entries: one(&[0, 2, 20]) as u64, ..Retention::default() },
            trim_millis: one(&[1_000, 3_000]) as u64,
            claim_idle_millis: one(&[1_500, 3_000]) as u64,
            resend_after_millis: one(&[2_000, 4_000]) as u64,
            node_entries: one(&[1, 4, 100]),
        }
    }
}

/// What the orders of a history go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Each order has a random course.
    Mixed,
    /// All orders have this course.
    Only(Course),
}

/// The course of an order, as its customer and the warehouse intend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// It is filled and paid.
    Paid,
    /// Stock is short until a restock.
    Short,
    /// The balance is too low until a top-up; then it is paid.
    UnpaidThenPaid,
    /// It is cancelled after a while of any length.
    Cancelled,
    /// It is shipped and completed.
    Shipped,
    /// Its customer and the warehouse request anything at any time, and repeat the order itself.
    Restless,
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paid => "paid",
            Self::Short => "short",
            Self::UnpaidThenPaid => "unpaid-then-paid",
            Self::Cancelled => "cancelled",
            Self::Shipped => "shipped",
            Self::Restless => "restless",
        })
    }
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.to_string() == text);
        found.ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("the courses are {}", names.join(", "))
        })
    }
}

impl Course {
    /// All courses.
    pub const ALL: [Self; 6] = [
        Self::Paid,
        Self::Short,
        Self::UnpaidThenPaid,
        Self::Cancelled,
        Self::Shipped,
        Self::Restless,
    ];
}

/// The plan of one history.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The seed of all randomness.
    pub seed: u64,
    /// The number of orders.
    pub orders: usize,
    /// What the orders go through.
    pub scenario: Scenario,
    /// Whether each topic has a server of its own.
    pub isolated: bool,
    /// The number of instances of each service.
    pub instances: usize,
    /// The instance of each service whose connections are slow, if there is one.
    pub slow_instance: Option<usize>,
    /// The number of decisions that an input takes at most, if it is limited.
    pub tries_max: Option<u64>,
    /// The version of the servers.
    pub version: Version,
    /// Whether the servers can be asked about permissions.
    pub answers_acl: bool,
    /// The sizes and intervals of the services.
    pub scale: Scale,
    /// The kinds of faults that happen.
    pub faults: BTreeSet<Fault>,
    /// The only server that loses data, if they are four.
    pub loses_at: Option<usize>,
    /// A factor for the frequency of faults of commands.
    pub intensity: f64,
    /// Faults that do not happen, by their number in the history.
    pub without: BTreeSet<u64>,
    /// The orders that are not placed, by their number.
    pub without_orders: BTreeSet<usize>,
    /// The one crash of the history, instead of random ones.
    pub crash_at: Option<CrashPoint>,
    /// The time in which orders are placed and faults happen, in milliseconds.
    pub millis: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64, orders: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x706c_616e);
        let (mut faults, intensity) = (BTreeSet::new(), [0.0, 0.3, 1.0, 2.0][rng.usize(..4)]);
        let loses = rng.u8(..5) == 0;
        for fault in Fault::ALL {
            if rng.bool() && (loses || !fault.loses_data()) {
                faults.insert(fault);
            }
        }
        // One history in eight is quiet.
        if rng.u8(..8) == 0 {
            faults.clear();
        }
        let isolated = rng.bool();
        let versions = [Version::V6_2, Version::V7_0, Version::V7_2];
        Self {
            seed,
            orders,
            scenario: Scenario::Mixed,
            isolated,
            loses_at: (isolated && rng.bool()).then(|| rng.usize(..4)),
            instances: 1 + rng.usize(..2),
            slow_instance: None,
            tries_max: None,
            version: versions[rng.usize(..3)],
            answers_acl: rng.u8(..8) == 0,
            scale: Scale::small(&mut rng),
            faults,
            intensity,
            without: BTreeSet::new(),
            without_orders: BTreeSet::new(),
            crash_at: None,
            millis: [1_000, 3_000][rng.usize(..2)],
        }
    }

    /// The plan in words.
    pub fn describe(&self) -> String {
        let servers = if self.isolated { "four servers" } else { "one server" };
        let list =
            |what: Vec<String>| if what.is_empty() { "none".to_owned() } else { what.join(", ") };
        let faults = list(self.faults.iter().map(ToString::to_string).collect());
        let orders = self.orders - self.without_orders.len();
        format!(
            "seed {}: {orders} orders, {servers} ({:?}), {} instances of each service; faults: {faults}, {} \
             of them left out\n{:?}",
            self.seed,
            self.version,
            self.instances,
            self.without.len(),
            self.scale
        )
    }

    /// The same plan with the sizes and intervals of production, over a longer time.
    #[must_use]
    pub fn at_true_scale(&self) -> Self {
        Self { scale: Scale::production(), millis: self.millis * 10, ..self.clone() }
    }
}
