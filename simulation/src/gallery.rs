//! The gallery: planted bugs, each of which the simulation must find.

use crate::{
    contention,
    history::{Setup, run},
    plan::{Course, Fault, Plan, Scenario},
    redis::unmatched_patches,
};

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bug {
    /// The mistake in words; also the name in [`planted!`](common::planted).
    pub name: &'static str,
    /// Replacements in the scripts; none for a bug in Rust.
    pub patches: &'static [(&'static str, &'static str)],
    /// The number of histories within which it is found.
    pub budget: u64,
    /// The bias of these histories.
    pub bias: Bias,
}

/// A hole of an earlier version that is closed.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// What happened.
    pub what: &'static str,
    /// The histories in which it happened.
    pub bias: Bias,
    /// The number of their seeds, from 1.
    pub seeds: u64,
    /// The planted bug that opens the hole again.
    pub bug: &'static str,
}

/// The holes in exactly-once effects that were found from outside and closed, as fixed seeds.
pub static HOLES: &[Hole] = &[
    Hole {
        what: "a commit is written by half because a stream has used up its ids",
        bias: Bias::OneServer(&[Fault::IdsExhausted]),
        seeds: 40,
        bug: "exhausted ids are not checked",
    },
    Hole {
        what: "a commit is written by half because a key has another type",
        bias: Bias::OneServer(&[Fault::OtherType]),
        seeds: 60,
        bug: "the type of a key is not checked",
    },
    Hole {
        what: "entries that a process holds outlive their data",
        bias: Bias::OneServer(&[Fault::Flushed, Fault::Delay]),
        seeds: 80,
        bug: "entries of lost data are handled",
    },
    Hole {
        what: "pending entries that were deleted are never asked for again",
        bias: Bias::OneServer(&[Fault::EntryDeleted]),
        seeds: 60,
        bug: "an overdue order is not resent",
    },
    Hole {
        what: "entries of a dead instance are not taken over when the clock of Redis is set back",
        bias: Bias::OneServer(&[Fault::Crash, Fault::ClocksApart]),
        seeds: 60,
        bug: "abandoned entries are not taken over",
    },
    Hole {
        what: "one key of the wrong type stops a service, or its inputs are lost",
        bias: Bias::OneServer(&[Fault::OtherType, Fault::OutOfMemory, Fault::IdsExhausted]),
        seeds: 60,
        bug: "a refused input counts",
    },
];

/// The bias of the histories that look for a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bias {
    /// Nothing: they are those of the seeds.
    None,
    /// All orders have this course, and these faults happen.
    Course(Course, &'static [Fault]),
    /// Several instances work on the same entities under constant load.
    Contention,
    /// One server for all topics has these faults.
    OneServer(&'static [Fault]),
    /// The message server is apart, and alone has these faults.
    MessageServer(&'static [Fault]),
}

/// The result of a hunt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A history failed.
    By {
        /// The number of the history, from 1.
        run: u64,
        /// Its failure.
        failure: String,
    },
    /// A history failed with the bug, and without it as well.
    AlsoWithout {
        /// The number of the history, from 1.
        run: u64,
        /// Its failure without the bug.
        failure: String,
    },
    /// No history of the budget failed.
    Never,
    /// No script contained this text, which is to be replaced.
    NotPlanted(String),
}

/// Runs histories until one fails with the bug, and not without it.
pub fn hunt(bug: &'static Bug) -> Found {
    let setup = Setup { tells: false, bug: Some(bug) };
    for seed in 1..=bug.budget {
        let plan = bug.bias.plan(seed);
        let Some(failure) = run(&plan, setup, None).failure else { continue };
        return match run(&plan, Setup::default(), None).failure {
            None => Found::By { run: seed, failure },
            Some(failure) => Found::AlsoWithout { run: seed, failure },
        };
    }
    match unmatched_patches().into_iter().next() {
        Some(pattern) => Found::NotPlanted(pattern),
        None => Found::Never,
    }
}

impl Bug {
    /// Whether the bug is planted in Rust, with [`planted!`](common::planted).
    pub fn is_in_rust(&self) -> bool {
        self.patches.is_empty()
    }
}

impl Bias {
    /// The plan of a history with this bias.
    pub fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::of_seed(seed, 20);
        let faults = |faults: &[Fault]| faults.iter().copied().collect();
        match self {
            Self::None => {}
            Self::Course(course, of) => {
                (plan.scenario, plan.faults) = (Scenario::Only(course), faults(of));
            }
            Self::Contention => return contention::plan(seed),
            Self::OneServer(of) => {
                (plan.isolated, plan.loses_at, plan.faults) = (false, None, faults(of));
            }
            Self::MessageServer(of) => {
                (plan.isolated, plan.loses_at, plan.faults) = (true, Some(3), faults(of));
            }
        }
        plan
    }
}

/// A bug in a script.
pub const fn script(
    name: &'static str,
    patches: &'static [(&'static str, &'static str)],
    budget: u64,
) -> Bug {
    Bug { name, patches, budget, bias: Bias::None }
}

impl Bug {
    const fn with(self, bias: Bias) -> Self {
        Self { bias, ..self }
    }
}

const fn rust(name: &'static str, budget: u64) -> Bug {
    script(name, &[], budget)
}

/// All planted bugs.
pub static BUGS: &[Bug] = &[
    script(
        "any version of an existing entity is accepted",
        &[(
            "as_seen = expected ~= '' and sub(found, 1, #expected) == expected",
            "as_seen = expected ~= ''",
        )],
        400,
    ),
    script(
        "an entity that exists is accepted as absent",
        &[(
            "as_seen = expected ~= '' and sub(found, 1, #expected) == expected",
            "as_seen = sub(found, 1, #expected) == expected",
        )],
        400,
    ),
    script(
        "a conflict is reported as a commit",
        &[("reply[group] = conflict or 1", "reply[group] = 1")],
        400,
    ),
    script(
        "entities of a group in conflict are written",
        &[(
            "for surplus = written, mark + 1, -1 do writes[surplus] = nil end\n    written = mark",
            "",
        )],
        400,
    ),
    script(
        "events of a group in conflict are published",
        &[(
            "if all_committed or is_committed(owner) then",
            "if all_committed or reply[tonumber(ARGV[owner])] ~= 0 then",
        )],
        400,
    ),
    script(
        "entities are written without their events",
        &[(
            "if all_committed or is_committed(owner) then",
            "if is_committed(owner) and ARGV[owner] == '1' then",
        )],
        400,
    ),
    script(
        "the type of a key is not checked",
        &[("if found ~= kind and found ~= 'none' then", "if false then")],
        400,
    ),
    script(
        "exhausted ids are not checked",
        &[(
            "if sequence and #sequence == 20 and sequence > '18446744073709000000' then",
            "if false then",
        )],
        400,
    ),
    script(
        "another store is accepted",
        &[("if store ~= '' and standing[1] ~= store then", "if false then")],
        400,
    )
    .with(Bias::OneServer(&[Fault::Flushed])),
    script(
        "the trimmer ignores pending entries",
        &[("if less(oldest, needed) then needed = oldest end", "")],
        400,
    ),
    script(
        "the trimmer ignores missing groups",
        &[("if not seen[ARGV[at]] then return 0 end", "")],
        1_500,
    ),
    script(
        "the trimmer ignores undelivered entries",
        &[("local needed = of['last-delivered-id']", "local needed = '18446744073709551615-0'")],
        400,
    ),
    script(
        "a status set keeps the former members",
        &[(
            "call(command, key, unpack(ARGV, first, last))",
            "if command ~= 'ZREM' then call(command, key, unpack(ARGV, first, last)) end",
        )],
        400,
    ),
    script(
        "an order is not in the index",
        &[(
            "call(command, key, unpack(ARGV, first, last))",
            "if command ~= 'RPUSH' then call(command, key, unpack(ARGV, first, last)) end",
        )],
        400,
    ),
    script(
        "consumers with pending entries are removed",
        &[("if of.pending == 0 and of.idle > tonumber(ARGV[1]) then", "if of.idle > 100 then")],
        400,
    ),
    rust("acknowledged before the commit", 400),
    rust("a commit without a reply counts", 400),
    rust("losers do not queue for the lease", 5).with(Bias::Contention),
    rust("a refused input counts", 400),
    rust("a conflict counts as a commit", 400),
    rust("a dead letter has no record", 400),
    rust("entries of lost data are handled", 400)
        .with(Bias::OneServer(&[Fault::Flushed, Fault::TailLost])),
    rust("a restart goes unnoticed", 1_000).with(Bias::OneServer(&[Fault::TailLost, Fault::Delay])),
    rust("abandoned entries are not taken over", 400),
    rust("a group begins at the end", 400),
    rust("missing groups are not created again", 400),
    rust("a checkpoint ignores pending entries", 1_000).with(Bias::MessageServer(&[
        Fault::TailLost,
        Fault::Delay,
        Fault::HalfOpen,
        Fault::ReplyLost,
    ])),
    rust("a group is not set back to its checkpoint", 400)
        .with(Bias::MessageServer(&[Fault::TailLost])),
    rust("forgotten entries are decided again", 400).with(Bias::MessageServer(&[Fault::Flushed])),
    rust("a payment has no record", 400),
    rust("an order is refunded twice", 400),
    rust("a deposit has no record", 400),
    rust("each charge is a new one", 400),
    rust("a cancellation that comes first is forgotten by payments", 400),
    rust("a refund is confirmed only once", 2_000).with(Bias::Course(
        Course::Cancelled,
        &[Fault::EntryDeleted, Fault::Crash, Fault::Delay, Fault::RequestLost],
    )),
    rust("stock of another attempt is released", 400)
        .with(Bias::Course(Course::UnpaidThenPaid, &[Fault::GroupSetBack, Fault::GroupDestroyed])),
    rust("a cancellation releases shipped stock", 400),
    rust("a cancellation that comes first is forgotten by stock", 400),
    rust("a release forgets its stock", 400),
    rust("a cancelled order stays in its queues", 400),
    rust("a release has no record", 400),
    rust("stock is reserved again", 400),
    rust("a resent order gets no answer", 1_000),
    rust("a shipment is not confirmed", 400),
    rust("a shipment has no record", 400),
    rust("a restock has no record", 400),
    rust("a restock fills no backorders", 1_000),
    rust("the last result counts, whatever its rank", 400),
    rust("a resend has no attempt", 400),
    rust("an overdue order is not resent", 400),
    rust("a repeated request is a new one", 400),
    rust("a new try is the same attempt", 400),
    rust("a shipped order can be cancelled", 400),
    rust("a message has no record", 400),
    rust("a remembered state needs no check", 1_000),
];
