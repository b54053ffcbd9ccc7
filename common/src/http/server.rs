//! Serves HTTP, with or without TLS, to clients that may be slow, many or hostile: the gateway,
//! order_service and every operations port.
//!
//! What a client may take its time for is bounded: the handshake, a request's head, its body
//! ([`crate::http::request::BODY_TIMEOUT`]), silence between requests (which answers announce), and the taking of its
//! answer. So is how large a head may be, and how many connections there are, altogether and of one client.
//! Where there is no room for another connection, one that is of no use is cut off, such as one whose body has
//! not arrived. A request for another host, or by a page of another site, goes no further than this.

mod admission;
mod connections;
mod kept;
mod keyed_permits;
mod silence;
pub mod tls;
mod unread;
mod write_timeout;

use std::{
    convert::Infallible,
    io::Write as _,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, body::Body, response::IntoResponse as _};
use http::{HeaderValue, Request, Response, Version, header, request::Parts};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, warn};

use self::{
    admission::Admission,
    connections::{Connections, Entry},
    silence::{Answered, Followed, Limits, Silence},
    tls::Tls,
    write_timeout::Paced,
};
pub use self::{
    admission::{HostName, names_this_machine},
    connections::{Connection, Keeping},
    kept::{PIECE, keep},
    keyed_permits::{KeyedPermit, KeyedPermits},
};
use crate::http::{
    network::{Network, Site},
    problem::{PROBLEM_JSON, Problem},
};

/// The most connections at once.
const CONNECTIONS: usize = 4_096;
/// The same for an operations port.
const OPERATIONS_CONNECTIONS: usize = 64;
/// The file descriptors for all else.
const OTHER_FILES: u64 = 256;
/// The file descriptors for [`CONNECTIONS`] and all else.
const FILES: u64 = CONNECTIONS as u64 + OTHER_FILES;
/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: u32 = 1_024;
/// What the kernel keeps of an answer, so that a client which does not read is noticed, and costs
/// no more than this.
const SEND_BUFFER: u32 = 256 * 1024;
/// How long the head of a request may take to arrive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept after an answer if nothing else is configured. Balancers and proxies
/// commonly use connections again for 60 s; one that we close first can cost them a request.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The bounds of that, in milliseconds.
pub const KEEP_ALIVE_MS: RangeInclusive<u64> = 10_000..=3_600_000;
/// How long a connection that ends for its silence may take to do so in order.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes: tokens and cookies have room.
pub const HEAD_LIMIT: usize = 32 * 1024;
/// How much of an answer a connection has in hand besides the kernel's buffer, in bytes, and of a
/// request's head.
const BUFFER: usize = 64 * 1024;
/// How much of the shutdown's time requests in hand have. A complete one takes less: see
/// [`crate::process::service::REQUEST_TIMEOUT`].
const CLIENT_TIMEOUT: Duration = Duration::from_secs(7);
/// How long to wait before accepting connections again when that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: the type of a handshake's record.
const TLS_HANDSHAKE: u8 = 22;

/// How a service is served.
#[derive(Debug)]
pub struct Serving {
    /// HTTPS instead of HTTP.
    pub tls: Option<Tls>,
    /// The most connections. Another one takes the place of the one that is missed least.
    pub connections: usize,
    /// The most connections of one client, an IPv4 address or an IPv6 /64; 0: any number. Another one of
    /// that client takes the place of the one that is missed least.
    pub connections_per_client: usize,
    /// Clients to whom that does not apply.
    pub exempt: Vec<Network>,
    /// How long a client may take nothing of what it asked for.
    pub write_patience: Duration,
    /// How long the head of a request may take to arrive.
    pub head_patience: Duration,
    /// How long a connection is kept after an answer.
    pub keep_alive: Duration,
    /// The names by which clients may reach it, or `*`; if there are none, those of this machine where it
    /// listens on a loopback address, and any elsewhere.
    pub allowed_hosts: Vec<HostName>,
    /// It is for a private network: elsewhere than on a loopback address, addresses and names of such
    /// networks take the place of any, and the names above are further ones.
    pub is_private: bool,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// Pages of other sites may link to what it serves: only what changes something is refused to them.
    pub has_pages: bool,
    /// The answer to a request that goes no further.
    pub refuse: fn(Problem, &Parts, Peer) -> Response<Body>,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            tls: None,
            connections: CONNECTIONS,
            connections_per_client: 0,
            exempt: Vec::new(),
            write_patience: Duration::from_secs(30),
            head_patience: HEADER_TIMEOUT,
            keep_alive: KEEP_ALIVE,
            allowed_hosts: Vec::new(),
            is_private: false,
            trusted_proxies: Vec::new(),
            has_pages: false,
            refuse: |problem, _, _| problem.into_response(),
        }
    }
}

/// Who is at the other end of a connection: an extension of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address: the client's, or that of a proxy before us.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Serves an operations port for as long as this is polled.
pub(crate) async fn serve_operations(
    listener: TcpListener,
    address: SocketAddr,
    allowed_hosts: Vec<HostName>,
    router: Router,
    keep_alive: Duration,
) -> anyhow::Result<()> {
    let serving = Serving {
        connections: OPERATIONS_CONNECTIONS,
        allowed_hosts,
        is_private: true,
        keep_alive,
        ..Serving::default()
    };
    serve(listener, Server::new(router, address, serving, None, CancellationToken::new())).await
}

/// Answers 500 where a handler panics. All that is served is under one such layer; another one
/// further inside lets layers in between see that answer.
pub fn survive_panics<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(CatchPanicLayer::custom(|_| {
        // The panic itself is in the log already.
        Problem::internal("the request was not completed").into_response()
    }))
}

/// Listens on the address that a variable names.
pub(crate) fn listen(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address).with_context(|| format!("{variable}: cannot listen on {address}"))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The usual soft limit of 1,024 open files is meant for programs that use select(2); here it would
/// keep out connections. Gives how many files may be open.
pub(crate) fn allow_files() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!("the limit of open files cannot be read: {error}");
            return FILES;
        }
    };
    let files = soft.max(FILES.min(hard));
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, files, hard) {
        warn!("the limit of open files cannot be raised: {error}");
        return soft;
    }
    if files < FILES {
        let connections = connections_within(files);
        warn!("only {files} files may be open: {connections} connections are served at once");
    }
    files
}

/// The most connections for this limit of open files, of which some are needed for other things.
pub(crate) fn connections_within(files: u64) -> usize {
    let files = files.saturating_sub(OTHER_FILES).max(files / 2);
    usize::try_from(files).unwrap_or(usize::MAX)
}

/// Serves each connection in a task of its own. After the shutdown, requests in hand are answered;
/// clients that do not send the rest of what they began are cut off after [`CLIENT_TIMEOUT`].
pub(crate) async fn serve(listener: TcpListener, server: Server) -> anyhow::Result<()> {
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            () = server.shutdown.cancelled() => break,
            // Those that ended are forgotten.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: others have to end first.
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let site = Site::from(address.ip());
        let is_exempt = server.exempt.iter().any(|it| it.contains(address.ip()));
        let limit = server.of_client.filter(|_| !is_exempt);
        match server.connections.enter(site, limit) {
            Ok(entry) => {
                connections.spawn(Arc::clone(&server).connection(stream, address, entry));
            }
            Err(no_room) => server.turn_away(stream, &no_room.to_string()),
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    if timeout(CLIENT_TIMEOUT, finish).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// What all connections have in common.
pub(crate) struct Server {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    admission: Admission,
    refuse: fn(Problem, &Parts, Peer) -> Response<Body>,
    connections: Arc<Connections>,
    /// The most connections of a client.
    of_client: Option<usize>,
    exempt: Vec<Network>,
    write_patience: Duration,
    silence: Limits,
    /// How the answers announce the time for which a connection is kept.
    keep_alive: HeaderValue,
    shutdown: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        router: Router,
        address: SocketAddr,
        serving: Serving,
        acceptor: Option<TlsAcceptor>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            router: survive_panics(router),
            acceptor,
            admission: Admission::new(&serving, address.ip()),
            refuse: serving.refuse,
            connections: Connections::new(serving.connections),
            of_client: (serving.connections_per_client > 0)
                .then_some(serving.connections_per_client),
            exempt: serving.exempt,
            write_patience: serving.write_patience,
            silence: Limits { head: serving.head_patience, keep_alive: serving.keep_alive },
            keep_alive: announcement(serving.keep_alive),
            shutdown,
        }
    }

    /// Serves a connection to its end, or until another one needs its room.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, entry: Entry) {
        tokio::select! {
            () = self.to_its_end(stream, address, &entry.connection) => {}
            () = entry.connection.cut() => debug!("a connection was cut off in favour of another"),
        }
    }

    async fn to_its_end(&self, stream: TcpStream, address: SocketAddr, connection: &Connection) {
        // Answers leave at once instead of waiting for company; without it they are only later.
        let _ = stream.set_nodelay(true);
        let stream = Paced::new(stream, connection.clone(), self.write_patience);
        let Some(acceptor) = &self.acceptor else {
            return self.requests(stream, Peer { address, tls: false }, connection).await;
        };
        match timeout(HANDSHAKE_TIMEOUT, self.handshake(acceptor, stream)).await {
            Ok(Some(stream)) => {
                self.requests(stream, Peer { address, tls: true }, connection).await;
            }
            Ok(None) => {}
            Err(_) => debug!("a TLS handshake took too long"),
        }
    }

    async fn handshake(
        &self,
        acceptor: &TlsAcceptor,
        stream: Paced<TcpStream>,
    ) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        let mut first = [0];
        let peeked = stream.get_ref().peek(&mut first).await;
        if peeked.is_ok_and(|read| read == 1) && first[0] != TLS_HANDSHAKE {
            let problem = Problem::https_required("use https:// at this address");
            answer_and_close(stream, &plain_answer(&problem)).await;
            return None;
        }
        match acceptor.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                debug!("a TLS handshake failed: {error}");
                None
            }
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        connection: &Connection,
    ) {
        let router = TowerToHyperService::new(self.router.clone());
        let silence = Silence::new(self.silence);
        let stream = Followed::new(stream, &silence);
        let service =
            service_fn(|request| self.answer(&router, request, peer, connection, &silence));
        let mut http = http1::Builder::new();
        // hyper has one limit for heads and for the time between requests: ours are two.
        http.header_read_timeout(None::<Duration>).max_header_size(HEAD_LIMIT).max_buf_size(BUFFER);
        let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            // The silence is looked at after what breaks it.
            biased;
            ended = served.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
            () = silence.too_long() => {
                if !silence.is_idle() {
                    debug!("the head of a request took too long");
                    return;
                }
                served.as_mut().graceful_shutdown();
                // It has nothing left to do but to close.
                timeout(FAREWELL, served).await.unwrap_or(Ok(()))
            }
        };
        // A client that went away, took nothing, or sent something that is not HTTP.
        if let Err(error) = ended {
            debug!("a connection broke: {error}");
        }
    }

    /// A request's answer. One whose body has no length that is known beforehand is the last of its
    /// connection: nobody can smuggle another behind it by framing it in two ways (RFC 9112, section
    /// 6.1: a Content-Length beside it does not count, and hyper has taken it away). So is one that was answered
    /// before its body was read: hyper ends the connection then, and the answer has to announce it. What the
    /// client still sends is taken for a while, so that the answer reaches it. All others announce how long the
    /// connection is kept.
    async fn answer(
        &self,
        router: &TowerToHyperService<Router>,
        mut request: Request<Incoming>,
        peer: Peer,
        connection: &Connection,
        silence: &Arc<Silence>,
    ) -> Result<Response<Answered>, Infallible> {
        silence.is_asked();
        let is_kept = request.version() == Version::HTTP_11 && !asks_to_close(&request);
        let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let admitted = self.admission.check(&mut request, peer);
        let (mut request, is_read) = unread::watch(request, connection);
        let mut response = match admitted {
            Ok(()) => {
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(connection.clone());
                connection.set_busy(true);
                let answered = router.call(request).await;
                connection.set_busy(false);
                answered?
            }
            Err(problem) => (self.refuse)(problem, &request.into_parts().0, peer),
        };
        let is_read = is_read.load(Relaxed);
        if !is_read {
            silence.leave_rest();
        }
        let headers = response.headers_mut();
        if is_chunked || !is_read || self.shutdown.is_cancelled() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if is_kept {
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert("keep-alive", self.keep_alive.clone());
        }
        Ok(response.map(|body| silence.answered(body)))
    }

    /// Answers 503 to a connection beyond the limit, if that is possible without waiting.
    fn turn_away(&self, stream: TcpStream, why: &str) {
        debug!("a connection was turned away: {why}");
        if self.acceptor.is_none() {
            let problem = Problem::unavailable(why);
            // It is as well without.
            let _ = stream.into_std().and_then(|mut it| it.write(&plain_answer(&problem)));
        }
    }
}

/// The value of the header `Keep-Alive` (RFC 2068, section 19.7.1.1).
fn announcement(keep_alive: Duration) -> HeaderValue {
    let text = format!("timeout={}", keep_alive.as_secs());
    HeaderValue::from_str(&text).expect("it is plain")
}

/// Whether the client wants the connection to end with the answer.
fn asks_to_close<B>(request: &Request<B>) -> bool {
    let options = request.headers().get_all(header::CONNECTION).iter();
    let mut options = options.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// A problem as an answer in plain HTTP, for who is not served otherwise.
fn plain_answer(problem: &Problem) -> Vec<u8> {
    let status = http::StatusCode::from_u16(problem.status).unwrap_or_default();
    let body = serde_json::to_string(problem).expect("it has string keys only");
    let retry = problem.retry_after.map_or_else(String::new, |it| format!("retry-after: {it}\r\n"));
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {length}\r\n{retry}\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Says the last word and takes what the client still sends: closing before would make the kernel
/// throw the answer away.
async fn answer_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(HEAD_LIMIT as u64);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}
