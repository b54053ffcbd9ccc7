//! The world of one history: servers, processes, the clock, and chance.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use common::{
    clock::Millis,
    contract::{order::Order, streams::topics},
    schema::stream::Topic,
    simulation::ProcessId,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    plan::{CrashPoint, Fault, Moment, Plan},
    redis::{Bytes, Outcome, Redis, Reply},
};

/// The time at the beginning of each history: 2026-01-01.
pub const BEGINNING: Millis = 1_767_225_600_000;
/// The number of the process that reads the servers at the end of a history.
pub const AUDITOR: ProcessId = 0;
/// The number of commands after which a history has failed: a healthy one needs far fewer.
const COMMANDS_MAX: u64 = 400_000;

/// A simulated server.
#[derive(Debug)]
pub struct Server {
    /// Its data.
    pub redis: RefCell<Redis>,
    /// The commands that wait for a change of their keys.
    pub waiting: RefCell<Vec<Waiting>>,
    /// The life of its process, which ends at a restart.
    pub life: RefCell<CancellationToken>,
    /// Whether it refuses connections, because its process is down.
    pub is_down: Cell<bool>,
    /// The difference between its clock and the true time, in milliseconds.
    pub clock_offset: Cell<i64>,
}

/// A command that waits for a change of one of its keys.
#[derive(Debug)]
pub struct Waiting {
    /// The words of the command, which contain the keys.
    pub words: Vec<Bytes>,
    /// Notified when one of the keys changes.
    pub changed: Rc<Notify>,
}

/// A simulated process.
#[derive(Clone, Debug)]
pub struct Process {
    /// The name in stories, e.g. `inventory_service-2 (3)` for its third life.
    pub name: Rc<str>,
    /// Its life, which ends with a crash.
    pub life: CancellationToken,
    /// The difference between its clock and the true time, in milliseconds.
    pub clock_offset: i64,
    /// The longest time of its requests and replies on the network, in microseconds.
    pub transit_micros: u64,
}

/// An answer to a client, which a later failure must not undo.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The order as it was answered.
    pub answer: Order,
    /// The true time of the request.
    pub asked: Millis,
    /// The true time of the answer.
    pub at: Millis,
}

/// Entries that were taken from their groups, or that no service can handle.
#[derive(Clone, Default, Debug)]
pub struct Tampered {
    /// The streams and ids of pending entries that an operator deleted, or whose consumer it removed.
    pub taken: BTreeSet<(String, String)>,
    /// The ids of the orders, products, customers, deliveries and deposits of these entries: what the
    /// entries would have caused for them may be missing.
    pub subjects: BTreeSet<String>,
    /// The streams and ids of entries that no service can handle.
    pub poison: BTreeSet<(String, String)>,
}

/// A loss of acknowledged data.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The server.
    pub server: usize,
    /// The true time of the surviving copy; 0 if there is none.
    pub copy: Millis,
    /// The true time of the loss.
    pub at: Millis,
}

/// The world of one history.
#[derive(Debug)]
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// The servers: one, or one for each topic.
    pub servers: Vec<Server>,
    /// The processes that ever lived.
    pub processes: RefCell<BTreeMap<ProcessId, Process>>,
    /// Processes that have just crashed.
    pub crashes: mpsc::UnboundedSender<ProcessId>,
    /// Whether faults still happen.
    pub is_faulty: Cell<bool>,
    /// The number of each kind of fault that happened.
    pub faults: RefCell<BTreeMap<Fault, u64>>,
    /// The answers to clients.
    pub promises: RefCell<Vec<Promise>>,
    /// The losses of data.
    pub losses: RefCell<Vec<Loss>>,
    /// The ids of the messages that were sent before a loss of data.
    pub sent_before: RefCell<Vec<String>>,
    /// What operators and clients did to entries.
    pub tampered: RefCell<Tampered>,
    /// Whether a fault is under way that lasts for a while.
    pub is_operating: Cell<bool>,
    /// The number of events that clients published.
    pub published: Cell<u64>,
    /// The requests of clients that have no answer yet.
    pub requests: Cell<usize>,
    /// The failure that was noticed during the history.
    pub failure: RefCell<Option<String>>,
    network: RefCell<fastrand::Rng>,
    chance: RefCell<fastrand::Rng>,
    start: Instant,
    ordinal: Cell<u64>,
    commands: Cell<u64>,
    digest: Cell<u64>,
    story: Option<RefCell<Vec<String>>>,
}

impl World {
    /// The world of a plan. `tells` records a story.
    pub fn new(plan: Plan, crashes: mpsc::UnboundedSender<ProcessId>, tells: bool) -> Self {
        let seed = plan.seed;
        let count = if plan.isolated { 4 } else { 1 };
        let server = |number: u64| {
            let redis = Redis::new(plan.version, &run_id(number));
            let mut redis = redis.with_node_entries(plan.scale.node_entries);
            redis.set_answers_acl(plan.answers_acl);
            Server {
                redis: RefCell::new(redis),
                waiting: RefCell::default(),
                life: RefCell::default(),
                is_down: Cell::new(false),
                clock_offset: Cell::new(0),
            }
        };
        Self {
            servers: (0..count).map(server).collect(),
            processes: RefCell::default(),
            crashes,
            is_faulty: Cell::new(true),
            faults: RefCell::default(),
            promises: RefCell::default(),
            losses: RefCell::default(),
            sent_before: RefCell::default(),
            tampered: RefCell::default(),
            is_operating: Cell::new(false),
            published: Cell::new(0),
            requests: Cell::new(0),
            failure: RefCell::default(),
            network: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x6e65_7477)),
            chance: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x6368_616e)),
            start: Instant::now(),
            ordinal: Cell::new(0),
            commands: Cell::new(0),
            digest: Cell::new(0xcbf2_9ce4_8422_2325),
            story: tells.then(RefCell::default),
            plan,
        }
    }

    /// The true time.
    pub fn now(&self) -> Millis {
        BEGINNING + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time on the clock of a server.
    pub fn server_time(&self, server: usize) -> Millis {
        self.now().saturating_add_signed(self.servers[server].clock_offset.get())
    }

    /// Whether a server has lost data that it had acknowledged.
    pub fn has_lost_data(&self) -> bool {
        !self.losses.borrow().is_empty()
    }

    /// Whether one of several servers has lost data that others know the consequences of. msg_service
    /// causes nothing at others.
    pub fn owners_are_apart(&self) -> bool {
        let owners = [topics::ORDER, topics::INVENTORY, topics::ACCOUNT];
        self.plan.isolated && owners.into_iter().any(|topic| self.has_lost(topic))
    }

    /// Whether the server of this topic has lost data.
    pub fn has_lost(&self, topic: Topic) -> bool {
        let server = self.server_of(topic);
        self.losses.borrow().iter().any(|loss| loss.server == server)
    }

    /// The number of the server of a topic.
    pub fn server_of(&self, topic: Topic) -> usize {
        let all = topics::ALL;
        let index = all.iter().position(|it| *it == topic).unwrap_or(0);
        if self.plan.isolated { index } else { 0 }
    }

    /// A random duration on the network, in microseconds.
    pub fn micros(&self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.network.borrow_mut().u64(range))
    }

    /// A random number below a limit, for choices of clients and operators.
    pub fn pick(&self, below: usize) -> usize {
        self.chance.borrow_mut().usize(..below)
    }

    /// Whether the network interleaves the commands of other connections here.
    pub fn interleaves(&self) -> bool {
        self.network.borrow_mut().u8(..) < 8
    }

    /// Whether what a process wrote before it died is delivered.
    pub fn delivers_the_rest(&self) -> bool {
        match self.plan.crash_at {
            Some(CrashPoint { moment, .. }) => moment == Moment::Written,
            None => self.network.borrow_mut().bool(),
        }
    }

    /// Whether a fault of this kind happens now, with these odds. It has a number in the history, by
    /// which a shrinker leaves it out.
    pub fn strikes(&self, fault: Fault, odds: f64) -> bool {
        if !self.is_faulty.get() || !self.plan.faults.contains(&fault) {
            return false;
        }
        if self.chance.borrow_mut().f64() >= odds {
            return false;
        }
        let ordinal = self.ordinal.get();
        self.ordinal.set(ordinal + 1);
        if self.plan.without.contains(&ordinal) {
            return false;
        }
        *self.faults.borrow_mut().entry(fault).or_default() += 1;
        true
    }

    /// The number of faults so far, those that were left out included.
    pub fn ordinals(&self) -> u64 {
        self.ordinal.get()
    }

    /// The number of the next command.
    pub fn next_command(&self) -> u64 {
        let number = self.commands.get() + 1;
        self.commands.set(number);
        if number == COMMANDS_MAX {
            self.fail(format!("the history does not end within {COMMANDS_MAX} commands"));
        }
        number
    }

    /// The number of commands so far.
    pub fn commands(&self) -> u64 {
        self.commands.get()
    }

    /// Records a failure; the first one counts.
    pub fn fail(&self, reason: String) {
        self.tell("oracle", || reason.clone());
        self.failure.borrow_mut().get_or_insert(reason);
    }

    /// Ends the life of a process.
    pub fn crash(&self, process: ProcessId) {
        if let Some(it) = self.processes.borrow().get(&process)
            && !it.life.is_cancelled()
        {
            self.tell(&it.name, || "CRASHES".to_owned());
            it.life.cancel();
            let _ = self.crashes.send(process);
        }
    }

    /// The name of a process.
    pub fn name(&self, process: ProcessId) -> Rc<str> {
        let known = self.processes.borrow().get(&process).map(|it| Rc::clone(&it.name));
        known.unwrap_or_else(|| "auditor".into())
    }

    /// Runs a command on a server; `again` if it was blocked before.
    pub fn run(&self, server: usize, words: &[Bytes], again: bool) -> Outcome {
        let server_now = self.server_time(server);
        let it = &self.servers[server];
        let mut redis = it.redis.borrow_mut();
        let outcome = match again {
            true => redis.run_again(server_now, words),
            false => redis.run(server_now, words),
        };
        let touched = redis.take_touched();
        if !touched.is_empty() {
            for waiting in &*it.waiting.borrow() {
                if touched.iter().any(|key| waiting.words.iter().any(|word| **word == **key)) {
                    waiting.changed.notify_one();
                }
            }
        }
        outcome
    }

    /// Runs a command of an operator or a client, without faults.
    pub fn operate(&self, server: usize, words: &[&str]) -> Reply {
        if self.servers[server].is_down.get() {
            return Reply::Error("the server is down".into());
        }
        let bytes: Vec<Bytes> = words.iter().map(|it| it.as_bytes().to_vec()).collect();
        let reply = match self.run(server, &bytes, false) {
            Outcome::Reply(reply) => reply,
            Outcome::Blocked { .. } => Reply::Nil,
        };
        self.tell("operator", || format!("s{server} {} => {reply:?}", words.join(" ")));
        reply
    }

    /// Adds bytes to the digest of the history.
    pub fn digest(&self, bytes: &[u8]) {
        let mut digest = self.digest.get();
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = digest.rotate_left(5) ^ u64::from_le_bytes(word);
            digest = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.digest.set(digest);
    }

    /// The digest of everything that went over connections, with its times.
    pub fn digest_so_far(&self) -> u64 {
        self.digest.get()
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether a story is recorded.
    pub fn tells(&self) -> bool {
        self.story.is_some()
    }

    /// Adds a line to the story.
    pub fn tell(&self, who: &str, line: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            let mut text = String::new();
            let at = self.elapsed().as_secs_f64();
            // Writing to a String cannot fail.
            let _ = write!(text, "{at:>8.3} s  {who:<24} {}", line());
            story.borrow_mut().push(text);
        }
    }

    /// Takes the story.
    pub fn take_story(&self) -> Vec<String> {
        self.story.as_ref().map_or_else(Vec::new, RefCell::take)
    }

    /// A new run id for a server process.
    pub fn new_run_id(&self) -> String {
        run_id(self.chance.borrow_mut().u64(1 << 20..))
    }
}

fn run_id(number: u64) -> String {
    format!("{number:040x}")
}
