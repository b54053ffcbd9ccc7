//! Simulated connections: each command takes time, and may be lost, delayed or followed by a crash.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use common::{
    clock::Millis,
    simulation::{Connecting, Decision, Environment, ProcessId},
};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    coverage::Coverage,
    plan::{CrashPoint, Fault, Moment},
    redis::{Bytes, Outcome, Redis, Reply, parse_command},
    story,
    world::{AUDITOR, Server, Waiting, World},
};

/// The size of the buffer of a connection in each direction.
const BUFFER_BYTES: usize = 1 << 20;
/// The longest time of a request or a reply of the auditor.
const AUDITOR_MICROS: u64 = 4_000;

/// A request to open a connection.
pub struct Dial {
    process: ProcessId,
    server: usize,
    answer: oneshot::Sender<DuplexStream>,
}

/// The outside of the simulated processes.
pub struct Outside {
    world: Rc<World>,
    dials: mpsc::UnboundedSender<Dial>,
    coverage: Option<Rc<Coverage>>,
    /// Whether decisions are observed.
    observes: Cell<bool>,
}

impl Outside {
    /// The outside of the processes of a world, and the connections that they request.
    pub fn new(
        world: Rc<World>,
        coverage: Option<Rc<Coverage>>,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Dial>) {
        let (dials, requested) = mpsc::unbounded_channel();
        let observes = Cell::new(coverage.is_some() || world.tells());
        (Rc::new(Self { world, dials, coverage, observes }), requested)
    }
}

impl Environment for Outside {
    fn now_millis(&self, process: ProcessId) -> Millis {
        let processes = self.world.processes.borrow();
        let offset = processes.get(&process).map_or(0, |it| it.clock_offset);
        self.world.now().saturating_add_signed(offset)
    }

    /// Hosts are named `p<process>.s<server>`.
    fn connect(&self, host: &str) -> Connecting {
        let parsed = host.strip_prefix('p').and_then(|it| it.split_once(".s"));
        let numbers = parsed.and_then(|(p, s)| Some((p.parse().ok()?, s.parse().ok()?)));
        let (answer, answered) = oneshot::channel();
        if let Some((process, server)) = numbers {
            // Without a receiver the history is over.
            let _ = self.dials.send(Dial { process, server, answer });
        }
        Box::pin(async { answered.await.map_err(|_| io::ErrorKind::ConnectionRefused.into()) })
    }

    fn observes_decisions(&self) -> bool {
        self.observes.get()
    }

    fn decided(&self, process: ProcessId, decision: &Decision<'_>) {
        if let Some(coverage) = &self.coverage {
            coverage.record(decision);
        }
        self.world.tell(&self.world.name(process), || story::decision(decision));
    }
}

/// Opens the requested connections.
pub async fn accept(world: Rc<World>, mut dials: mpsc::UnboundedReceiver<Dial>) {
    while let Some(Dial { process, server, answer }) = dials.recv().await {
        let world = Rc::clone(&world);
        tokio::task::spawn_local(async move {
            // The remaining tasks of a crashed process wait for ever.
            let process_life = world.processes.borrow().get(&process).map(|it| it.life.clone());
            let process_life = process_life.unwrap_or_default();
            if process_life.is_cancelled() {
                std::future::pending::<()>().await;
            }
            // Two connections of one process are never opened at the same instant.
            sleep(Duration::from_millis(1)).await;
            if world.servers[server].is_down.get() {
                return;
            }
            let server_life = world.servers[server].life.borrow().clone();
            let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
            if answer.send(theirs).is_err() {
                return;
            }
            let mut connection =
                Connection { world: &world, process, server, stream: ours, received: Vec::new() };
            tokio::select! {
                biased;
                () = process_life.cancelled() => {}
                () = server_life.cancelled() => {}
                () = connection.serve() => {}
            }
            if process_life.is_cancelled() && !server_life.is_cancelled() {
                connection.deliver_the_rest();
            }
        });
    }
}

struct Connection<'a> {
    world: &'a Rc<World>,
    process: ProcessId,
    server: usize,
    stream: DuplexStream,
    /// What the process wrote, from the first command on that has not run.
    received: Vec<u8>,
}

/// What becomes of a connection after a command.
enum Fate {
    Continues(Reply),
    Breaks,
    Hangs,
}

impl Connection<'_> {
    async fn serve(&mut self) {
        let world = self.world;
        let process = world.processes.borrow().get(&self.process).map(|it| it.transit_micros);
        let transit = process.unwrap_or(AUDITOR_MICROS);
        let mut replies = Vec::new();
        loop {
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            sleep(world.micros(0..transit)).await;
            while let Some((words, used)) = parse_command(&self.received) {
                // Now and then the command of another connection comes between two of one write.
                if world.interleaves() {
                    sleep(world.micros(0..10_000)).await;
                }
                match self.handle(&words, used, &mut replies).await {
                    Fate::Continues(reply) => {
                        let from = replies.len();
                        reply.encode(&mut replies);
                        world.digest(&replies[from..]);
                    }
                    Fate::Breaks => return,
                    Fate::Hangs => return std::future::pending().await,
                }
            }
            world.digest(&world.elapsed().as_millis().to_le_bytes());
            if !replies.is_empty() {
                sleep(world.micros(0..transit)).await;
                if self.stream.write_all(&replies).await.is_err() {
                    return;
                }
                replies.clear();
            }
        }
    }

    /// Removes the first command of what the process wrote, which has run.
    fn take(&mut self, bytes: usize) {
        self.world.digest(&self.received[..bytes]);
        self.received.drain(..bytes);
    }

    /// Runs what a process wrote before it died. A system delivers that, most often.
    fn deliver_the_rest(&mut self) {
        if !self.world.delivers_the_rest() {
            return;
        }
        while let Some(Ok(1..)) = self.stream.read_buf(&mut self.received).now_or_never() {}
        while let Some((words, used)) = parse_command(&self.received) {
            self.take(used);
            let outcome = self.world.run(self.server, &words, false);
            self.world.tell(&self.world.name(self.process), || {
                format!("s{} FROM THE DEAD: {}", self.server, story::command(&words))
            });
            // A blocking command ends with its client, and so do the commands behind it.
            if matches!(outcome, Outcome::Blocked { .. }) {
                return;
            }
        }
    }

    /// Runs one command, with the faults that strike it.
    async fn handle(&mut self, words: &[Bytes], bytes: usize, replies: &mut Vec<u8>) -> Fate {
        let (world, intensity) = (self.world, self.world.plan.intensity);
        // The auditor's commands come after the end.
        let number = if self.process == AUDITOR { 0 } else { world.next_command() };
        let crashes = |moment| world.plan.crash_at == Some(CrashPoint { command: number, moment });
        let (process, server) = (self.process, self.server);
        let lost = |what: &str| {
            world.tell(&world.name(process), || {
                format!("s{server} {what}: {}", story::command(words))
            });
        };
        if crashes(Moment::Before)
            || crashes(Moment::Written)
            || world.strikes(Fault::Crash, 0.001 * intensity)
        {
            world.crash(self.process);
            return Fate::Breaks;
        }
        if world.strikes(Fault::RequestLost, 0.002 * intensity) {
            lost("REQUEST LOST");
            return Fate::Breaks;
        }
        if world.strikes(Fault::Delay, 0.002 * intensity) {
            lost("DELAYED");
            sleep(world.micros(10_000..6_000_000)).await;
        }
        let Some(reply) = self.run(words, replies).await else { return Fate::Breaks };
        self.take(bytes);
        world.tell(&world.name(self.process), || {
            format!("s{} {} => {}", self.server, story::command(words), story::reply(words, &reply))
        });
        if crashes(Moment::After) || world.strikes(Fault::Crash, 0.001 * intensity) {
            world.crash(self.process);
            return Fate::Breaks;
        }
        if world.strikes(Fault::ReplyLost, 0.002 * intensity) {
            lost("REPLY LOST");
            return Fate::Breaks;
        }
        if world.strikes(Fault::HalfOpen, 0.000_5 * intensity) {
            lost("NO REPLY EVER");
            return Fate::Hangs;
        }
        Fate::Continues(reply)
    }

    /// Runs one command; a blocking one is tried again whenever the data changes. `None` if the
    /// client is gone.
    async fn run(&mut self, words: &[Bytes], replies: &mut Vec<u8>) -> Option<Reply> {
        let world = self.world;
        let millis = match world.run(self.server, words, false) {
            Outcome::Reply(reply) => return Some(reply),
            Outcome::Blocked { millis } => millis,
        };
        let waits = Waits::begin(&world.servers[self.server], words);
        // Earlier replies of the same write do not wait for this one.
        if !replies.is_empty() {
            self.stream.write_all(replies).await.ok()?;
            replies.clear();
        }
        let end = match millis {
            0 => Instant::now() + Duration::from_secs(1 << 30),
            millis => Instant::now() + Duration::from_millis(millis),
        };
        let replied = async {
            loop {
                waits.changed.notified().await;
                if let Outcome::Reply(reply) = world.run(self.server, words, true) {
                    return reply;
                }
            }
        };
        let replied = timeout_at(end, replied).await;
        Some(replied.unwrap_or_else(|_| Redis::reply_after_timeout(words)))
    }
}

/// A command among those that wait, until it is dropped.
struct Waits<'a> {
    server: &'a Server,
    changed: Rc<Notify>,
}

impl<'a> Waits<'a> {
    fn begin(server: &'a Server, words: &[Bytes]) -> Self {
        let changed = Rc::new(Notify::new());
        let waiting = Waiting { words: words.to_vec(), changed: Rc::clone(&changed) };
        server.waiting.borrow_mut().push(waiting);
        Self { server, changed }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.server.waiting.borrow_mut().retain(|it| !Rc::ptr_eq(&it.changed, &self.changed));
    }
}
