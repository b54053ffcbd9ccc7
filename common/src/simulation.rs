//! The seam for the deterministic simulation, which exists with the feature `simulation` only.
//!
//! A simulation runs all processes of the system on one thread, in a runtime whose clock is paused.
//! It replaces what comes from outside a process: the time of day, random ids and connections to
//! servers. It also observes decisions. Everything else is the code of production.

use std::{
    cell::{Cell, RefCell},
    fmt::Debug,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::DuplexStream;
use uuid::Uuid;

/// Milliseconds since 1970, as in `clock`, which asks this module for the time.
type Millis = u64;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

/// The outside of the simulated processes.
pub trait Environment {
    /// The clock of a process, in milliseconds since 1970.
    fn now_millis(&self, process: ProcessId) -> Millis;

    /// Opens a connection to the server with this host name.
    fn connect(&self, host: &str) -> Connecting;

    /// Whether [`Environment::decided`] is of use.
    fn observes_decisions(&self) -> bool;

    /// Receives a decision of a process.
    fn decided(&self, process: ProcessId, decision: &Decision<'_>);
}

/// The number of a simulated process.
pub type ProcessId = u32;

/// A decision: its input, the entities that it read, and its result.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The name of the topic whose owner decided.
    pub topic: &'static str,
    /// The input.
    pub input: &'a dyn Debug,
    /// The keys of the named entities, each with its document if it exists.
    pub entities: Vec<(String, Option<String>)>,
    /// The keys of the entities to write, each with its new document.
    pub puts: Vec<(String, String)>,
    /// The streams of the events to publish.
    pub events: Vec<&'static str>,
}

thread_local! {
    static ENVIRONMENT: RefCell<Option<Rc<dyn Environment>>> = const { RefCell::new(None) };
    static PROCESS: Cell<ProcessId> = const { Cell::new(0) };
    static PLANTED: Cell<&'static str> = const { Cell::new("") };
}

/// Replaces the outside of all processes on this thread; `None` restores the real one.
pub fn set_environment(environment: Option<Rc<dyn Environment>>) {
    ENVIRONMENT.set(environment);
}

/// Plants the bug with this name on this thread; the empty name plants none.
pub fn plant(bug: &'static str) {
    PLANTED.set(bug);
}

/// Whether the bug with this name is planted; see [`planted!`](crate::planted).
pub fn is_planted(bug: &str) -> bool {
    PLANTED.get() == bug
}

/// The process whose code runs now.
pub fn process() -> ProcessId {
    PROCESS.get()
}

/// Runs code as this process.
pub fn as_process<T>(process: ProcessId, run: impl FnOnce() -> T) -> T {
    let before = PROCESS.replace(process);
    let result = run();
    PROCESS.set(before);
    result
}

/// A task of a process.
pub(crate) struct Task<F> {
    process: ProcessId,
    future: Pin<Box<F>>,
}

/// Makes a task of the current process, which stays one of this process wherever it is polled.
pub(crate) fn task<F: Future>(process: ProcessId, future: F) -> Task<F> {
    Task { process, future: Box::pin(future) }
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { process, future } = &mut *self;
        as_process(*process, || future.as_mut().poll(context))
    }
}

fn environment() -> Option<Rc<dyn Environment>> {
    ENVIRONMENT.with_borrow(Clone::clone)
}

/// Whether this thread simulates.
pub(crate) fn is_active() -> bool {
    ENVIRONMENT.with_borrow(Option::is_some)
}

pub(crate) fn now_millis() -> Option<Millis> {
    environment().map(|it| it.now_millis(process()))
}

pub(crate) fn new_id() -> Option<Uuid> {
    let random = || uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
    is_active().then(random)
}

pub(crate) fn connect(host: &str) -> Option<Connecting> {
    environment().map(|it| it.connect(host))
}

/// Reports a decision, if the environment observes decisions.
pub(crate) fn decided<'a>(decision: impl FnOnce() -> Decision<'a>) {
    if let Some(environment) = environment().filter(|it| it.observes_decisions()) {
        environment.decided(process(), &decision());
    }
}
