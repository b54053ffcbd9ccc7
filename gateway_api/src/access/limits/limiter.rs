//! The state and the decisions of both layers.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use axum::{body::HttpBody as _, extract::Request, response::Response};
use common::http::{
    network::Network,
    problem::Problem,
    server::{Connection, KeyedPermit, KeyedPermits, Peer},
};
use http::{HeaderMap, Method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    body::{self, LARGE_BODIES},
    budget::{Budget, Full, Hold},
    client::{CLIENT_SHARES, Client, Embedded},
    config::LimitsConfig,
    forwarded::{self, ForwardedHeader},
    rate::Rates,
    reads::ReadQueues,
};

/// The maximum length of path and query, in bytes.
const URI_LIMIT: usize = 8 * 1024;
/// The maximum wait for the permit of a client that was disconnected to free it.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of reads that run at once.
const CONCURRENT_READS: usize = 4;
/// Answers up to this size in bytes are not counted: a connection buffers about as much.
const SMALL_ANSWER: u64 = 64 * 1024;

/// The state of the limits, shared by both layers.
pub struct Limiter {
    permits: Arc<Semaphore>,
    pub(super) addresses: Rates,
    pub(super) subjects: Rates,
    /// The share of all permits that each client may have.
    shares: Arc<KeyedPermits<Client>>,
    hasher: RandomState,
    pub(super) reads: Arc<ReadQueues>,
    unsent: Arc<Budget>,
    bodies: Arc<Budget>,
    trusted_proxies: Vec<Network>,
    forwarded_header: ForwardedHeader,
}

/// The permits of a request in flight.
pub(super) struct Taken {
    /// `None` for event streams, which are open for long and have limits of their own.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    _share: Option<KeyedPermit<Client>>,
}

impl Limiter {
    /// The limiter of a gateway.
    pub fn new(config: &LimitsConfig) -> Arc<Self> {
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
            shares: KeyedPermits::new(in_flight.div_ceil(CLIENT_SHARES)),
            hasher: RandomState::new(),
            reads: ReadQueues::new(CONCURRENT_READS),
            bodies: Budget::new(LARGE_BODIES),
            unsent: Budget::new(usize::try_from(config.max_unsent_bytes).unwrap_or(usize::MAX)),
            trusted_proxies: config.trusted_proxies.clone(),
            forwarded_header: config.forwarded_header,
        })
    }

    /// Checks a request before all other checks.
    fn check(&self, request: &Request, client: &Client) -> Result<(), Problem> {
        let uri = request.uri();
        if let Client::Address(site) = client
            && !is_fixed(uri.path())
        {
            self.addresses.count(site, request)?;
        }
        if uri.path_and_query().map_or(0, |it| it.as_str().len()) > URI_LIMIT {
            let limit = format!("path and query may have at most {URI_LIMIT} bytes");
            return Err(Problem::uri_too_long(limit));
        }
        Ok(())
    }

    /// Admits a request when it has arrived completely; it takes no permits before. Returns the request with
    /// its body, the memory permit of the body, and the permits of the request.
    pub(super) async fn admit(
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

    /// Takes a permit of the client's share; this machine's share is all. If none is left, disconnects a
    /// client that has one and does not receive its response.
    pub(super) async fn share(
        &self,
        client: &Client,
        connection: Option<&Connection>,
    ) -> Result<Option<KeyedPermit<Client>>, Problem> {
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

    /// Takes a permit. If none is free, disconnects a client that has one and does not receive its response.
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

    /// The number of a client's share of the permits that connections keep.
    pub(super) fn number(&self, client: &Client) -> u64 {
        // Two clients with the same number would share it, which is improbable with 64 bits and a secret key.
        self.hasher.hash_one(client)
    }

    /// The client of a request before authentication. This machine is exempt, because its users can
    /// overload the gateway by other means.
    pub(super) fn client(&self, peer: &Peer, headers: &HeaderMap) -> Client {
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

    /// Refuses a client whose reads have cost more than its rate allows.
    pub(super) fn check_debt(&self, client: &Client) -> Result<(), Problem> {
        match client {
            Client::ThisMachine => Ok(()),
            Client::Address(site) => self.addresses.check_debt(site),
            Client::Subject(name) => self.subjects.check_debt(name),
        }
    }

    /// Counts a large answer against the memory limit until the client has received it. Only reads have
    /// large answers, so a refusal leaves no effect behind.
    pub(super) fn hold(&self, client: &Client, answer: &Response) -> Result<Option<Hold>, Problem> {
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
                    "you have not received the responses to your other requests; receive them, then \
                     try again",
                )
            },
            Full::All => Problem::unavailable(
                "too many responses wait for slow clients; try again",
            ),
        })
    }

    /// Counts a request of a subject; returns whether it takes a permit of the subject's share.
    pub(super) fn count_subject(&self, name: &str, request: &Request) -> Result<bool, Problem> {
        if is_fixed(request.uri().path()) {
            return Ok(false);
        }
        self.subjects.count(name, request)?;
        Ok(!is_stream(request))
    }
}

/// Disconnects a client, of this share if one is given, that has a permit and does not receive its response;
/// then returns the freed permit.
async fn of_stalled<T>(
    connection: Option<&Connection>,
    share: Option<u64>,
    freed: impl Future<Output = T>,
) -> Option<T> {
    if !connection?.cut_stalled(share) {
        return None;
    }
    tokio::time::timeout(PERMIT_TIMEOUT, freed).await.ok()
}

/// Whether the request opens an event stream.
fn is_stream(request: &Request) -> bool {
    request.method() == Method::GET && request.uri().path() == "/events"
}

/// Whether the path is a file of the program: a page loads many of them at once, and they cost no memory.
fn is_fixed(path: &str) -> bool {
    path.starts_with("/assets/") || path.starts_with("/docs/")
}

fn crowded() -> Problem {
    Problem {
        retry_after: Some(1),
        ..Problem::too_many_requests("too many of your requests are in flight; try again")
    }
}
