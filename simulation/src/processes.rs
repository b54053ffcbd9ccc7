//! The processes: instances of the four stream services, which start again after they end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use clap::Parser as _;
use common::{
    connection::{topology::Sources, url::RedisUrl},
    contract::streams::topics,
    engine::EngineHandle,
    process::service::ServiceContext,
    schema::stream::Topic,
    simulation::{ProcessId, as_process},
};
use inventory_service::stock::Stock;
use msg_service::notification::Notifications;
use order_service::order::Orders;
use tokio::{sync::mpsc, task::spawn_local, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    plan::Fault,
    world::{Process, World},
};

/// The longest time of a request or a reply on the network.
const TRANSIT_MICROS: u64 = 4_000;
/// The longest time of a request or a reply of a slow instance.
const SLOW_MICROS: u64 = 10_000;
/// The longest time that a supervisor takes to start a process again.
const RESTART_MICROS: u64 = 1_000_000;
/// The greatest difference between two clocks, in milliseconds.
const CLOCK_OFFSET_MAX: usize = 5_000;

/// A running instance.
struct Instance {
    topic: Topic,
    number: usize,
    context: ServiceContext,
    /// Present for instances of order_service.
    orders: Option<EngineHandle<Orders>>,
}

/// All instances.
pub struct Processes {
    world: Rc<World>,
    running: RefCell<BTreeMap<ProcessId, Instance>>,
    started: RefCell<BTreeMap<(Topic, usize), u32>>,
    /// The number of the last instance; replacements get new numbers.
    last_number: Cell<usize>,
}

impl Processes {
    /// Starts the instances of the plan, and keeps them running. Crashed ones come from `crashes`.
    pub fn start(world: &Rc<World>, crashes: mpsc::UnboundedReceiver<ProcessId>) -> Rc<Self> {
        let processes = Rc::new(Self {
            world: Rc::clone(world),
            running: RefCell::default(),
            started: RefCell::default(),
            last_number: Cell::new(world.plan.instances),
        });
        for topic in topics::ALL {
            for number in 1..=world.plan.instances {
                processes.launch(topic, number);
            }
        }
        spawn_local(Rc::clone(&processes).restart_crashed(crashes));
        processes
    }

    /// The topology, as the processes of a history see it: the host names the process and the server.
    pub fn sources(world: &World, process: ProcessId) -> Sources {
        Sources::new(&topics::ALL, |topic| {
            let url = format!("redis://p{process}.s{}:6379", world.server_of(topic));
            url.parse::<RedisUrl>().expect("it is a URL")
        })
    }

    /// A random instance of order_service that runs now.
    pub fn order_service(&self) -> Option<EngineHandle<Orders>> {
        let running = self.running.borrow();
        let handles: Vec<_> = running.values().filter_map(|it| it.orders.as_ref()).collect();
        (!handles.is_empty()).then(|| handles[self.world.pick(handles.len())].clone())
    }

    /// The largest number of decisions about one input of the running instances, rounded up to a
    /// bucket of `engine_tries`.
    pub fn most_tries(&self) -> u64 {
        let running = self.running.borrow();
        running.values().map(|it| most_tries(&it.context.metrics())).max().unwrap_or(0)
    }

    /// Stops a random process in an orderly way; it starts again.
    pub fn stop_one(self: &Rc<Self>) {
        let picked = {
            let running = self.running.borrow();
            let number = self.world.pick(running.len().max(1));
            running.keys().nth(number).copied()
        };
        let Some(process) = picked else { return };
        let processes = Rc::clone(self);
        spawn_local(async move {
            let context = processes.running.borrow().get(&process).map(|it| it.context.clone());
            let Some(context) = context else { return };
            let world = &processes.world;
            world.tell(&world.name(process), || "receives SIGTERM".to_owned());
            let stopped = context.stop().await;
            drop(context);
            world.tell(&world.name(process), || format!("has stopped: {stopped:?}"));
            processes.end(process).await;
        });
    }

    /// Forgets a process that has ended, and starts its successor.
    async fn end(self: &Rc<Self>, process: ProcessId) {
        let Some(Instance { topic, number, context, .. }) =
            self.running.borrow_mut().remove(&process)
        else {
            return;
        };
        if let Some(process) = self.world.processes.borrow().get(&process) {
            process.life.cancel();
        }
        // With the context its tasks are dropped, each at the await where it is.
        as_process(process, || drop(context));
        sleep(self.world.micros(1_000..RESTART_MICROS)).await;
        // Sometimes another instance takes its place, with a name of its own.
        if self.world.is_faulty.get() && self.world.pick(4) == 0 {
            self.last_number.set(self.last_number.get() + 1);
            return self.launch(topic, self.last_number.get());
        }
        self.launch(topic, number);
    }

    async fn restart_crashed(self: Rc<Self>, mut crashes: mpsc::UnboundedReceiver<ProcessId>) {
        while let Some(process) = crashes.recv().await {
            let processes = Rc::clone(&self);
            spawn_local(async move { processes.end(process).await });
        }
    }

    fn launch(self: &Rc<Self>, topic: Topic, number: usize) {
        let world = &self.world;
        let process = {
            let mut all = world.processes.borrow_mut();
            let process = ProcessId::try_from(all.len() + 1).expect("there are few processes");
            let mut started = self.started.borrow_mut();
            let life = started.entry((topic, number)).or_default();
            *life += 1;
            let name = format!("{}-{number} ({life})", topic.service());
            let clock_offset = clock_offset(world);
            let life = CancellationToken::new();
            let is_slow = world.plan.slow_instance == Some(number);
            let transit_micros = if is_slow { SLOW_MICROS } else { TRANSIT_MICROS };
            all.insert(process, Process { name: name.into(), life, clock_offset, transit_micros });
            process
        };
        world.tell(&world.name(process), || "starts".to_owned());
        let instance = as_process(process, || self.wire(topic, number, process));
        self.running.borrow_mut().insert(process, instance);
        let processes = Rc::clone(self);
        spawn_local(async move { processes.watch(process).await });
    }

    /// Waits until a task of a process ends, and with it the process, as in production.
    async fn watch(self: Rc<Self>, process: ProcessId) {
        let context = self.running.borrow().get(&process).map(|it| it.context.clone());
        let Some(context) = context else { return };
        let life = self.world.processes.borrow()[&process].life.clone();
        let ended = tokio::select! {
            biased;
            () = life.cancelled() => return,
            () = context.shutdown.cancelled() => return,
            ended = context.any_task_ends() => ended,
        };
        let reason = ended.err().map_or_else(String::new, |error| format!("{error:#}"));
        drop(context);
        let name = self.world.name(process);
        self.world.tell(&name, || format!("ENDS: {reason}"));
        if reason.contains("panicked") {
            self.world.fail(format!("{name}: {reason}"));
        }
        self.end(process).await;
    }

    fn wire(&self, topic: Topic, number: usize, process: ProcessId) -> Instance {
        let scale = &self.world.plan.scale;
        let sources = Self::sources(&self.world, process);
        let mut context = ServiceContext::new(sources, &format!("{}-{number}", topic.service()));
        context.claim_idle_ms = scale.claim_idle_millis;
        context.retention = scale.retention;
        context.trim_interval = Duration::from_millis(scale.trim_millis);
        context.limits = scale.limits;
        let mut orders = None;
        match topic {
            topics::ORDER => {
                let resend_after = scale.resend_after_millis.to_string();
                let config = order_service::Config::parse_from([
                    "order_service",
                    "--resend-after-ms",
                    &resend_after,
                    "--max-backlog",
                    "off",
                    "--max-memory-percent",
                    "off",
                    "--max-open-orders",
                    "0",
                ]);
                orders = Some(order_service::wire(&config, &context).engine);
            }
            topics::INVENTORY => {
                let stock = Stock { limits: scale.stock };
                context.start_engine(stock, inventory_service::subscriptions());
            }
            topics::ACCOUNT => {
                let wallet = account_service::wallet::Wallet;
                context.start_engine(wallet, account_service::subscriptions());
            }
            _ => {
                context.start_engine(Notifications::default(), msg_service::subscriptions());
            }
        }
        Instance { topic, number, context, orders }
    }
}

/// The upper bound of the last bucket of `engine_tries` that is not empty.
fn most_tries(metrics: &str) -> u64 {
    let (mut most, mut below) = (0, 0);
    for line in metrics.lines() {
        let Some(bucket) = line.strip_prefix("engine_tries_bucket{le=\"") else { continue };
        let Some((bound, count)) = bucket.split_once("\"} ") else { continue };
        let count: u64 = count.parse().unwrap_or(0);
        if count > below {
            // The last bucket has no bound.
            most = bound.parse::<f64>().map_or(u64::MAX, |bound| bound as u64);
        }
        below = count;
    }
    most
}

/// The offset of a new clock.
fn clock_offset(world: &World) -> i64 {
    if !world.plan.faults.contains(&Fault::ClocksApart) {
        return 0;
    }
    let offset = i64::try_from(world.pick(2 * CLOCK_OFFSET_MAX)).unwrap_or(0);
    offset - i64::try_from(CLOCK_OFFSET_MAX).unwrap_or(0)
}
