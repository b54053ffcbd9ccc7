//! Keeps abuse away from what is behind: who asks too often, too much at once, or for another site.
//!
//! Two layers. `outside` is the outermost of all and works by addresses, before anybody knows who
//! asks; `inside` comes after authentication and counts what each [`Subject`] asks.

mod client;
mod headers;
mod rate;
mod site;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use clap::Args;
use common::{
    network::{Network, Site},
    problem::Problem,
    server::{Peer, Place, Places, keep},
};
use http::{Method, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::{
    client::ForwardedHeader,
    rate::{Rate, Rates},
    site::{HostName, Hosts},
};
use crate::web;

/// The longest path with its query, in bytes.
const URI_LIMIT: usize = 8 * 1024;
/// The part of all requests in flight that may be one subject's.
const SHARE: usize = 4;

/// How much clients may ask.
#[derive(Args, Clone, Debug)]
pub struct GuardConfig {
    /// How many requests are worked on at once, until their answer is sent; more are turned away
    /// (503). One subject may have a quarter of them (429)
    #[arg(long, env, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_in_flight: u32,
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
}

/// Who is authenticated: an extension of the request, where somebody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject(pub Box<str>);

/// What both layers know.
pub struct Guard {
    places: Arc<Semaphore>,
    addresses: Rates,
    subjects: Rates,
    subjects_places: Arc<Places<Box<str>>>,
    trusted_proxies: Vec<Network>,
    forwarded_header: ForwardedHeader,
    hosts: Hosts,
}

impl Guard {
    /// The guard of a gateway that listens there.
    pub fn new(config: &GuardConfig, listens: SocketAddr) -> Arc<Self> {
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
            places: Arc::new(Semaphore::new(in_flight)),
            addresses,
            subjects,
            subjects_places: Places::new(in_flight.div_ceil(SHARE)),
            trusted_proxies: config.trusted_proxies.clone(),
            forwarded_header: config.forwarded_header,
            hosts: Hosts::new(&config.allowed_hosts, listens.ip()),
        })
    }

    /// Looks at a request before anything else does, and gives it a place unless it needs none.
    fn admit(
        &self,
        request: &Request,
        peer: Option<Peer>,
    ) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let (uri, headers) = (request.uri(), request.headers());
        let behind_proxy = peer.is_some_and(|peer| {
            self.trusted_proxies.iter().any(|network| network.contains(peer.address.ip()))
        });
        if let Some(peer) = peer
            && !is_fixed(uri.path())
        {
            self.count_address(peer, behind_proxy, request)?;
        }
        if uri.path_and_query().map_or(0, |it| it.as_str().len()) > URI_LIMIT {
            let limit = format!("at most {URI_LIMIT} bytes of path and query are taken");
            return Err(Problem::uri_too_long(limit));
        }
        // Which of them counts is not for us to guess (RFC 9112, section 3.2).
        if headers.get_all(header::HOST).iter().nth(1).is_some() {
            return Err(Problem::bad_request("send one Host header, not several").at("Host"));
        }
        // A proxy that is trusted has looked at the name, or has set it.
        if !behind_proxy {
            self.hosts.check(headers)?;
        }
        site::check_origin(request.method(), headers, behind_proxy)?;
        if is_stream(request) {
            return Ok(None);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let crowded = |_| Problem::unavailable("too many requests are in hand; try again");
        Ok(Some(place.map_err(crowded)?))
    }

    fn count_address(
        &self,
        peer: Peer,
        behind_proxy: bool,
        request: &Request,
    ) -> Result<(), Problem> {
        let address = peer.address.ip();
        if !behind_proxy {
            // Whoever is on this machine has other means to keep it busy.
            if Network::LOOPBACK.iter().any(|network| network.contains(address)) {
                return Ok(());
            }
            return self.addresses.count(Site::from(address), request);
        }
        let (header, proxies) = (self.forwarded_header, &self.trusted_proxies);
        let client = client::address(address, request.headers(), header, proxies);
        self.addresses.count(Site::from(client), request)
    }

    /// Counts what a subject asks, and gives it one of its places unless it needs none.
    fn count_subject(
        &self,
        subject: &Subject,
        request: &Request,
    ) -> Result<Option<Place<Box<str>>>, Problem> {
        if is_fixed(request.uri().path()) {
            return Ok(None);
        }
        self.subjects.count(&*subject.0, request)?;
        if is_stream(request) {
            return Ok(None);
        }
        let crowded = || Problem {
            retry_after: Some(1),
            ..Problem::too_many_requests("too many of your requests are in hand; try again")
        };
        self.subjects_places.take(subject.0.clone()).map(Some).ok_or_else(crowded)
    }
}

/// Streams are open for long, and have limits of their own.
fn is_stream(request: &Request) -> bool {
    request.method() == Method::GET && request.uri().path() == "/events"
}

/// Files that are part of the program: a page loads many at once, and they cost nothing.
fn is_fixed(path: &str) -> bool {
    path.starts_with("/assets/") || path.starts_with("/docs/")
}

/// The outermost layer.
pub(crate) async fn outside(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    // A browser that once was told so would go to no other port of this machine by HTTP any more.
    let strict = peer.is_some_and(|peer| peer.tls) && !site::names_this_machine(request.headers());
    let mut response = match guard.admit(&request, peer) {
        Ok(place) => kept(next.run(request).await, place),
        Err(problem) => refuse(problem, &request),
    };
    headers::complete(response.headers_mut(), strict);
    response
}

/// The layer behind authentication: nothing happens to a request without a [`Subject`].
pub(crate) async fn inside(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(subject) = request.extensions().get::<Subject>() else {
        return next.run(request).await;
    };
    match guard.count_subject(subject, &request) {
        Ok(place) => kept(next.run(request).await, place),
        Err(problem) => refuse(problem, &request),
    }
}

/// The answer keeps its place until it is sent: what a client does not take is in our memory.
fn kept<T: Send + Unpin + 'static>(answer: Response, place: Option<T>) -> Response {
    match place {
        Some(place) => answer.map(|body| keep(body, place)),
        None => answer,
    }
}

/// A page for browsers, JSON for programs. The body is not read, so the connection may have to end.
fn refuse(problem: Problem, request: &Request) -> Response {
    if web::negotiate::wants_html(request.headers()) {
        return web::html(Err(problem));
    }
    let mut response = problem.into_response();
    response.headers_mut().insert(header::VARY, http::HeaderValue::from_static("accept"));
    response
}
