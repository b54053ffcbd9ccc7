//! Rate and concurrency limits of the gateway.
//!
//! Two layers. `outside` is the outermost of all and limits each address before
//! authentication; `inside` comes after authentication and limits each [`Subject`]. Requests for another
//! host or by pages of other sites do not come here: the server refuses them (`common::http::server`).
//!
//! Limits also count what a request costs: handlers read through the [`Reader`] of the request, in turn
//! with the reads of other clients, and what they read counts as further requests.

mod body;
mod budget;
mod forwarded;
mod headers;
mod rate;
mod reads;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use clap::Args;
use common::{
    connection::link::Meter,
    http::{
        network::{Network, Site},
        problem::Problem,
        server::{Connection, HostName, PIECE, Peer, Place, Places, keep, names_this_machine},
    },
    process::service::REQUEST_PATIENCE,
};
use http::{HeaderMap, Method, header, request::Parts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::{
    body::LARGE_BODIES,
    budget::{Budget, Full, Hold},
    forwarded::ForwardedHeader,
    rate::{Rate, Rates},
    reads::Reads,
};
use crate::web;

/// The longest path with its query, in bytes.
const URI_LIMIT: usize = 8 * 1024;
/// The part of all requests in flight, and of all answers in memory, that may be one subject's, and one
/// address's.
const SHARE: usize = 4;
/// How long a request waits for the permit of a client that was cut off for it.
const PERMIT_PATIENCE: Duration = Duration::from_secs(1);
/// How many reads there are at once.
const READS: usize = 4;
/// What a request may read without counting as a further one, in bytes; each time as much counts as one
/// more.
const BYTES_PER_REQUEST: usize = 64 * 1024;
/// Answers up to this size are not counted, in bytes: a connection buffers about as much.
const SMALL_ANSWER: u64 = 64 * 1024;

/// How much clients may ask.
#[derive(Args, Clone, Debug)]
pub struct GuardConfig {
    /// How many requests are worked on at once, until their answer is sent; more are turned away
    /// (503). Each subject and each address (IPv6: /64; loopback is exempt) may have a quarter of
    /// them (429)
    #[arg(long, env, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_in_flight: u32,
    /// How much memory large answers may take that clients have not taken yet, in bytes; more are
    /// refused (503). One subject or address may have a quarter of it (429)
    #[arg(long, env, default_value = "67108864", value_parser = clap::value_parser!(u64).range(8_388_608..=1_099_511_627_776))]
    max_unsent_bytes: u64,
    /// How often one address (IPv6: /64) may ask: 100/s, 100/s:500 with how many at once, or off.
    /// Loopback is exempt
    #[arg(long, env, default_value = "100/s:500")]
    rate_per_address: Rate,
    /// How often one authenticated subject may ask, wherever from
    #[arg(long, env, default_value = "100/s:500")]
    rate_per_subject: Rate,
    /// How much one address may change: what is no GET costs 1, and 1 more for each 256 bytes of its
    /// body [default: 50/s:500, or off if RATE_PER_ADDRESS is]
    #[arg(long, env)]
    write_rate_per_address: Option<Rate>,
    /// How much one authenticated subject may change [default: 50/s:500, or off if RATE_PER_SUBJECT is]
    #[arg(long, env)]
    write_rate_per_subject: Option<Rate>,
    /// The most connections of one address (IPv6: /64), 0 for any number; loopback and trusted
    /// proxies are exempt
    #[arg(long, env, default_value = "256")]
    connections_per_address: usize,
    /// Addresses and networks (10.0.0.0/8) of proxies that are believed, separated by commas
    #[arg(long, env, value_delimiter = ',')]
    trusted_proxies: Vec<Network>,
    /// The header in which they say whom they heard from
    #[arg(long, env, value_enum, default_value = "x-forwarded-for")]
    forwarded_header: ForwardedHeader,
    /// Names by which clients may reach the gateway, separated by commas, or * [default: those of
    /// this machine if HTTP_ADDR is loopback, else *]
    #[arg(long, env, value_delimiter = ',')]
    allowed_hosts: Vec<HostName>,
}

impl GuardConfig {
    /// The most connections of one address.
    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address
    }

    /// To whom that does not apply.
    pub fn exempt(&self) -> Vec<Network> {
        Network::LOOPBACK.into_iter().chain(self.trusted_proxies.iter().copied()).collect()
    }

    /// Proxies whose forwarding header is trusted.
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Names by which clients may reach the gateway, if they are configured.
    pub fn allowed_hosts(&self) -> &[HostName] {
        &self.allowed_hosts
    }
}

/// Who is authenticated: an extension of the request, where somebody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject(pub Box<str>);

/// Marks an answer that is part of the program: however long a client takes for it, it costs no memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded;

/// Whose request it is, as far as limits go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Client {
    /// An unauthenticated client on this machine.
    ThisMachine,
    Address(Site),
    Subject(Box<str>),
}

/// Reads what is stored for a client: an extension of each request, and an extractor.
#[derive(Clone)]
pub struct Reader {
    guard: Arc<Guard>,
    client: Client,
    so_far: Arc<SoFar>,
}

/// The bytes that a request has read so far.
#[derive(Default)]
struct SoFar {
    has_begun: AtomicBool,
    bytes: AtomicUsize,
}

impl Reader {
    fn new(guard: &Arc<Guard>, client: &Client) -> Self {
        Self { guard: Arc::clone(guard), client: client.clone(), so_far: Arc::default() }
    }

    /// Whose reads these are.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Reads when it is the client's turn, and counts what was read. The cost of a read is known only
    /// after it, so a request waits with its first one until those before it are counted, and is refused
    /// if the client has read too much by then. Further reads of the same request are not refused: it may
    /// have changed something by then.
    ///
    /// # Errors
    ///
    /// 429: the client has read too much. 504: it took too long.
    pub(crate) async fn read<T>(
        &self,
        what: &str,
        reading: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        // Futures that read for a page are large, and every future around one would have room for it.
        let reading = Box::pin(reading);
        let in_turn = async {
            let _turn = self.guard.reads.turn(&self.client).await;
            self.begin()?;
            // Dropped, it counts also what a request has read that was given up.
            let charge = Charge { reader: self, meter: Meter::default() };
            Ok(charge.meter.count(reading).await)
        };
        let late = || Problem::timeout(format!("{what} was not read in time"));
        tokio::time::timeout(REQUEST_PATIENCE, in_turn).await.unwrap_or_else(|_| Err(late()))
    }

    /// Begins to read. Before another service reads for the client this is called by itself: a turn would
    /// be held for as long as that service takes, and reads of other clients would wait for it.
    ///
    /// # Errors
    ///
    /// 429: the client has read too much.
    pub(crate) fn begin(&self) -> Result<(), Problem> {
        if self.so_far.has_begun.swap(true, Relaxed) {
            return Ok(());
        }
        self.guard.check_debt(&self.client)
    }

    /// Counts what was read, here or by another service, or told again.
    pub(crate) fn charge(&self, bytes: usize) {
        let before = self.so_far.bytes.fetch_add(bytes, Relaxed);
        let requests = (before + bytes) / BYTES_PER_REQUEST - before / BYTES_PER_REQUEST;
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        match &self.client {
            _ if requests == 0 => {}
            Client::ThisMachine => {}
            Client::Address(site) => self.guard.addresses.charge(site, requests),
            Client::Subject(name) => self.guard.subjects.charge(name, requests),
        }
    }
}

struct Charge<'a> {
    reader: &'a Reader,
    meter: Meter,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.reader.charge(self.meter.bytes());
    }
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Only where the guard was forgotten.
        let nobody = || Problem::internal("nobody knows whose request it is");
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody)
    }
}

/// What both layers know.
pub struct Guard {
    permits: Arc<Semaphore>,
    addresses: Rates,
    subjects: Rates,
    /// The part of all permits that each client may have.
    shares: Arc<Places<Client>>,
    hasher: RandomState,
    reads: Arc<Reads>,
    unsent: Arc<Budget>,
    bodies: Arc<Budget>,
    trusted_proxies: Vec<Network>,
    forwarded_header: ForwardedHeader,
}

/// What a request takes while it is in flight.
struct Taken {
    /// Streams have none: they are open for long, and have limits of their own.
    permit: Option<OwnedSemaphorePermit>,
    _share: Option<Place<Client>>,
}

impl Guard {
    /// The guard of a gateway.
    pub fn new(config: &GuardConfig) -> Arc<Self> {
        let addresses = Rates::new(
            config.rate_per_address,
            config.write_rate_per_address,
            ["RATE_PER_ADDRESS", "WRITE_RATE_PER_ADDRESS"],
        );
        let subjects = Rates::new(
            config.rate_per_subject,
            config.write_rate_per_subject,
            ["RATE_PER_SUBJECT", "WRITE_RATE_PER_SUBJECT"],
        );
        let in_flight = config.max_in_flight as usize;
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(in_flight)),
            addresses,
            subjects,
            shares: Places::new(in_flight.div_ceil(SHARE)),
            hasher: RandomState::new(),
            reads: Reads::new(READS),
            bodies: Budget::new(LARGE_BODIES),
            unsent: Budget::new(usize::try_from(config.max_unsent_bytes).unwrap_or(usize::MAX)),
            trusted_proxies: config.trusted_proxies.clone(),
            forwarded_header: config.forwarded_header,
        })
    }

    /// Looks at a request before anything else does.
    fn check(&self, request: &Request, client: &Client) -> Result<(), Problem> {
        let uri = request.uri();
        if let Client::Address(site) = client
            && !is_fixed(uri.path())
        {
            self.addresses.count(site, request)?;
        }
        if uri.path_and_query().map_or(0, |it| it.as_str().len()) > URI_LIMIT {
            let limit = format!("at most {URI_LIMIT} bytes of path and query are taken");
            return Err(Problem::uri_too_long(limit));
        }
        Ok(())
    }

    /// Lets a request in once all of it has arrived: until then it takes nothing that others may need. Gives
    /// it with its body, the memory of that, and what the request takes.
    async fn admit(
        &self,
        request: Request,
        client: &Client,
    ) -> Result<(Request, Option<Hold>, Taken), Problem> {
        self.check(&request, client)?;
        let (request, body) = body::receive(request, client, &self.bodies).await?;
        if is_stream(&request) {
            return Ok((request, body, Taken { permit: None, _share: None }));
        }
        let connection = request.extensions().get::<Connection>().cloned();
        let share = self.share(client, connection.as_ref()).await?;
        let permit = Some(self.permit(connection.as_ref()).await?);
        Ok((request, body, Taken { permit, _share: share }))
    }

    /// Takes a part of the client's share of the permits; this machine's share is all. If none is left,
    /// cuts off a connection that has one and does not take its response.
    async fn share(
        &self,
        client: &Client,
        connection: Option<&Connection>,
    ) -> Result<Option<Place<Client>>, Problem> {
        if *client == Client::ThisMachine {
            return Ok(None);
        }
        if let Some(part) = self.shares.take(client.clone()) {
            return Ok(Some(part));
        }
        let freed = self.shares.wait(client.clone());
        let part = of_stalled(connection, Some(self.number(client)), freed).await;
        part.map(Some).ok_or_else(crowded)
    }

    /// Takes a permit. If none is free, cuts off a connection that has one and does not take its response.
    async fn permit(
        &self,
        connection: Option<&Connection>,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Ok(permit);
        }
        let permit = of_stalled(connection, None, permits.acquire_owned()).await;
        let busy = || Problem::unavailable("too many requests are in flight; try again");
        permit.and_then(Result::ok).ok_or_else(busy)
    }

    /// The number of a client's share of what connections keep.
    fn number(&self, client: &Client) -> u64 {
        // Two clients of one number share it: with 64 bits and a secret key that is no concern.
        self.hasher.hash_one(client)
    }

    /// Whose request it is as long as nobody is authenticated. This machine itself has other means to keep
    /// the gateway busy.
    fn client(&self, peer: &Peer, headers: &HeaderMap) -> Client {
        let address = peer.address.ip();
        let within = |networks: &[Network]| networks.iter().any(|it| it.contains(address));
        if within(&self.trusted_proxies) {
            let (header, proxies) = (self.forwarded_header, &self.trusted_proxies);
            return Client::Address(forwarded::address(address, headers, header, proxies).into());
        }
        if within(&Network::LOOPBACK) {
            return Client::ThisMachine;
        }
        Client::Address(address.into())
    }

    /// Refuses a client whose reads have cost more than it may ask.
    fn check_debt(&self, client: &Client) -> Result<(), Problem> {
        match client {
            Client::ThisMachine => Ok(()),
            Client::Address(site) => self.addresses.check_debt(site),
            Client::Subject(name) => self.subjects.check_debt(name),
        }
    }

    /// Counts a large answer against the limit of those in memory until it is taken. Only reads have
    /// such answers, so nothing has happened if it is refused.
    fn hold(&self, client: &Client, answer: &Response) -> Result<Option<Hold>, Problem> {
        let bytes = answer.body().size_hint().exact().unwrap_or(0);
        if bytes <= SMALL_ANSWER || answer.extensions().get::<Embedded>().is_some() {
            return Ok(None);
        }
        let client = answer.extensions().get::<Client>().unwrap_or(client);
        let hold = self.unsent.hold(client, usize::try_from(bytes).unwrap_or(usize::MAX));
        hold.map(Some).map_err(|full| match full {
            Full::Client => Problem {
                retry_after: Some(1),
                ..Problem::too_many_requests(
                    "you have not taken the answers to your other requests; take them, then try again",
                )
            },
            Full::All => Problem::unavailable(
                "too many answers wait for their clients to take them; try again",
            ),
        })
    }

    /// Counts what a subject asks; gives whether it takes a part of the subject's share of the permits.
    fn count_subject(&self, name: &str, request: &Request) -> Result<bool, Problem> {
        if is_fixed(request.uri().path()) {
            return Ok(false);
        }
        self.subjects.count(name, request)?;
        Ok(!is_stream(request))
    }
}

/// Cuts off a connection that keeps something, of this share if one is given, and whose client does not take
/// its response; then gives what becomes free.
async fn of_stalled<T>(
    connection: Option<&Connection>,
    share: Option<u64>,
    freed: impl Future<Output = T>,
) -> Option<T> {
    if !connection?.cut_stalled(share) {
        return None;
    }
    tokio::time::timeout(PERMIT_PATIENCE, freed).await.ok()
}

/// Whether it asks for a stream.
fn is_stream(request: &Request) -> bool {
    request.method() == Method::GET && request.uri().path() == "/events"
}

/// Files that are part of the program: a page loads many at once, and they cost nothing.
fn is_fixed(path: &str) -> bool {
    path.starts_with("/assets/") || path.starts_with("/docs/")
}

fn crowded() -> Problem {
    Problem {
        retry_after: Some(1),
        ..Problem::too_many_requests("too many of your requests are in flight; try again")
    }
}

/// The outermost layer.
pub(crate) async fn outside(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let strict = is_strict(request.extensions().get::<Peer>(), request.headers());
    let html = web::negotiate::wants_html(request.headers());
    let connection = request.extensions().get::<Connection>().cloned();
    let peer = request.extensions().get::<Peer>();
    let client = peer.map_or(Client::ThisMachine, |peer| guard.client(peer, request.headers()));
    let mut response = match guard.admit(request, &client).await {
        Ok((mut request, body, taken)) => {
            request.extensions_mut().insert(Reader::new(&guard, &client));
            let answer = next.run(request).await;
            drop(body);
            match guard.hold(&client, &answer) {
                Ok(hold) => {
                    let keeps = taken.permit.is_some() || hold.is_some();
                    // A client that takes nothing of it can be cut off in favour of others.
                    let keeps = keeps.then(|| {
                        let clients = [Some(&client), answer.extensions().get::<Client>()];
                        let shares = clients.into_iter().flatten().map(|it| guard.number(it));
                        (taken, hold, connection.map(|it| it.keep(shares.collect())))
                    });
                    kept(answer, keeps)
                }
                Err(problem) => {
                    let kind = answer.headers().get(header::CONTENT_TYPE);
                    refuse(problem, kind.is_some_and(|it| it.as_bytes().starts_with(b"text/html")))
                }
            }
        }
        Err(problem) => refuse(problem, html),
    };
    headers::complete(response.headers_mut(), strict);
    response
}

/// The answer to a request that the server lets go no further.
pub(crate) fn refused(problem: Problem, request: &Parts, peer: Peer) -> Response {
    let mut response = refuse(problem, web::negotiate::wants_html(&request.headers));
    headers::complete(response.headers_mut(), is_strict(Some(&peer), &request.headers));
    response
}

/// Whether the response has `Strict-Transport-Security`. Not for the names of this machine: a browser would then
/// use HTTPS for every other port of it, too.
fn is_strict(peer: Option<&Peer>, headers: &HeaderMap) -> bool {
    peer.is_some_and(|peer| peer.tls) && !names_this_machine(headers)
}

/// The layer behind authentication: nothing happens to a request without a [`Subject`].
pub(crate) async fn inside(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(subject) = request.extensions().get::<Subject>() else {
        return next.run(request).await;
    };
    let client = Client::Subject(subject.0.clone());
    let html = web::negotiate::wants_html(request.headers());
    let connection = request.extensions().get::<Connection>().cloned();
    let share = match guard.count_subject(&subject.0, &request) {
        Ok(true) => guard.share(&client, connection.as_ref()).await,
        Ok(false) => Ok(None),
        Err(problem) => Err(problem),
    };
    match share {
        Ok(share) => {
            request.extensions_mut().insert(Reader::new(&guard, &client));
            let mut answer = next.run(request).await;
            // For the layer outside, which counts large answers.
            answer.extensions_mut().insert(client);
            kept(answer, share)
        }
        Err(problem) => refuse(problem, html),
    }
}

/// The answer keeps what its request has taken until it is sent: what a client does not take is in our
/// memory. Not so what is part of the program, nor what is so small that the connection's own buffer takes it.
fn kept<T: Send + Unpin + 'static>(answer: Response, taken: Option<T>) -> Response {
    let is_small = |body: &Body| body.size_hint().upper().is_some_and(|size| size <= PIECE as u64);
    let is_free = answer.extensions().get::<Embedded>().is_some() || is_small(answer.body());
    match taken.filter(|_| !is_free) {
        Some(taken) => answer.map(|body| keep(body, taken)),
        None => answer,
    }
}

/// A page for browsers, JSON for programs. The body is not read, so the connection may have to end.
fn refuse(problem: Problem, html: bool) -> Response {
    if html {
        return web::html(Err(problem));
    }
    let mut response = problem.into_response();
    response.headers_mut().insert(header::VARY, http::HeaderValue::from_static("accept"));
    response
}
