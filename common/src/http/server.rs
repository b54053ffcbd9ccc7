//! An HTTP server, with or without TLS, for clients that may be slow, many or hostile. The gateway,
//! order_service and every operations port use it.
//!
//! Every phase of a connection has a time limit: the handshake, a request's head, its body
//! ([`crate::http::request::BODY_TIMEOUT`]), idle time between requests (which answers announce),
//! and the reading of the answer. The size of a head is limited, and so is the number of
//! connections, in total and per client. If there is no room for another connection, the server
//! closes a useless one, such as one whose body has not arrived. Requests for another host, or by a
//! page of another site, are refused here.

mod admission;
mod connection_timeouts;
mod connections;
mod host_name;
mod keyed_permits;
mod options;
mod permit_body;
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
    connection_timeouts::{PhaseTimeouts, PhaseTracker, TrackedBody, TrackedStream},
    connections::{Connections, Entry},
    options::CONNECTIONS,
    write_timeout::Paced,
};
pub use self::{
    admission::names_this_machine,
    connections::{Connection, Keeping},
    host_name::HostName,
    keyed_permits::{KeyedPermit, KeyedPermits},
    options::{HEADER_TIMEOUT, KEEP_ALIVE, Peer, ServerOptions},
    permit_body::{CHUNK_BYTES, hold_permit},
};
use crate::http::{
    network::{Network, Site},
    problem::{PROBLEM_JSON, Problem},
};

/// The maximum number of connections to an operations port.
const OPERATIONS_CONNECTIONS: usize = 64;
/// The number of file descriptors for other purposes than connections.
const OTHER_FILES: u64 = 256;
/// The number of file descriptors for [`CONNECTIONS`] and other purposes.
const FILE_LIMIT: u64 = CONNECTIONS as u64 + OTHER_FILES;
/// The number of connections that wait in the kernel to be accepted.
const ACCEPT_BACKLOG: u32 = 1_024;
/// The kernel's send buffer of a connection. It limits the memory for a client that does not read,
/// and lets the server notice such a client.
const SEND_BUFFER: u32 = 256 * 1024;
/// The bounds of that time, in milliseconds.
pub const KEEP_ALIVE_MS: RangeInclusive<u64> = 10_000..=3_600_000;
/// The time limit for an orderly end of a connection that exceeded a time limit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a request's head in bytes, with room for tokens and cookies.
pub const HEAD_LIMIT: usize = 32 * 1024;
/// The maximum size of a connection's buffers for the answer and for the request's head in bytes,
/// besides the kernel's buffers.
const CONNECTION_BUFFER: usize = 64 * 1024;
/// The part of the shutdown's time limit that is for requests in flight. A complete request takes
/// less: see [`crate::process::service::REQUEST_TIMEOUT`].
const CLIENT_TIMEOUT: Duration = Duration::from_secs(7);
/// The pause after a failure to accept a connection.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: the type of a handshake record.
const TLS_HANDSHAKE: u8 = 22;

/// Serves an operations port until the future is dropped.
pub(crate) async fn serve_operations(
    listener: TcpListener,
    address: SocketAddr,
    allowed_hosts: Vec<HostName>,
    router: Router,
    keep_alive: Duration,
) -> anyhow::Result<()> {
    let options = ServerOptions {
        connections: OPERATIONS_CONNECTIONS,
        allowed_hosts,
        is_private: true,
        keep_alive,
        ..ServerOptions::default()
    };
    serve(listener, Server::new(router, address, options, None, CancellationToken::new())).await
}

/// Answers 500 if a handler panics. One such layer encloses everything; a second one further inside
/// makes that answer visible to the layers in between.
pub fn survive_panics<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(CatchPanicLayer::custom(|_| {
        // The panic is already in the log.
        Problem::internal("the request was not completed").into_response()
    }))
}

/// Listens on the address of a variable.
pub(crate) fn listen(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address).with_context(|| format!("{variable}: cannot listen on {address}"))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the size.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

/// Raises the soft limit of open files. The usual 1,024 is meant for programs that use select(2),
/// and would limit the number of connections here. Returns the resulting limit.
pub(crate) fn allow_files() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!("the limit of open files cannot be read: {error}");
            return FILE_LIMIT;
        }
    };
    let files = soft.max(FILE_LIMIT.min(hard));
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, files, hard) {
        warn!("the limit of open files cannot be raised: {error}");
        return soft;
    }
    if files < FILE_LIMIT {
        let connections = connections_within(files);
        warn!("only {files} files may be open: {connections} connections are served at once");
    }
    files
}

/// The maximum number of connections for this limit of open files, less those for other purposes.
pub(crate) fn connections_within(files: u64) -> usize {
    let files = files.saturating_sub(OTHER_FILES).max(files / 2);
    usize::try_from(files).unwrap_or(usize::MAX)
}

/// Serves each connection in its own task. After the shutdown, requests in flight are answered;
/// clients that do not complete their requests are disconnected after [`CLIENT_TIMEOUT`].
pub(crate) async fn serve(listener: TcpListener, server: Server) -> anyhow::Result<()> {
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            () = server.shutdown.cancelled() => break,
            // Removes finished connections.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely the file descriptors are exhausted, so other connections have to
                    // end first.
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
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

/// The state that all connections share.
pub(crate) struct Server {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    admission: Admission,
    refuse: fn(Problem, &Parts, Peer) -> Response<Body>,
    connections: Arc<Connections>,
    /// The maximum number of connections of a client.
    of_client: Option<usize>,
    exempt: Vec<Network>,
    write_timeout: Duration,
    phase_timeouts: PhaseTimeouts,
    /// The header that announces how long an idle connection is kept open.
    keep_alive: HeaderValue,
    shutdown: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        router: Router,
        address: SocketAddr,
        options: ServerOptions,
        acceptor: Option<TlsAcceptor>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            router: survive_panics(router),
            acceptor,
            admission: Admission::new(&options, address.ip()),
            refuse: options.refuse,
            connections: Connections::new(options.connections),
            of_client: (options.connections_per_client > 0)
                .then_some(options.connections_per_client),
            exempt: options.exempt,
            write_timeout: options.write_timeout,
            phase_timeouts: PhaseTimeouts {
                head: options.head_timeout,
                keep_alive: options.keep_alive,
            },
            keep_alive: announcement(options.keep_alive),
            shutdown,
        }
    }

    /// Serves a connection until it ends, or until another one needs its room.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, entry: Entry) {
        tokio::select! {
            () = self.to_its_end(stream, address, &entry.connection) => {}
            () = entry.connection.cut() => debug!("a connection was cut off in favour of another"),
        }
    }

    async fn to_its_end(&self, stream: TcpStream, address: SocketAddr, connection: &Connection) {
        // Without this option answers are only delayed, so its failure is ignored.
        let _ = stream.set_nodelay(true);
        let stream = Paced::new(stream, connection.clone(), self.write_timeout);
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
        let phase = PhaseTracker::new(self.phase_timeouts);
        let stream = TrackedStream::new(stream, &phase);
        let service = service_fn(|request| self.answer(&router, request, peer, connection, &phase));
        let mut http = http1::Builder::new();
        // hyper has a single limit for heads and for the time between requests; this server has
        // two.
        http.header_read_timeout(None::<Duration>)
            .max_header_size(HEAD_LIMIT)
            .max_buf_size(CONNECTION_BUFFER);
        let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            // The time limits are checked after the events that reset them.
            biased;
            ended = served.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
            () = phase.timed_out() => {
                if !phase.is_idle() {
                    debug!("the head of a request took too long");
                    return;
                }
                served.as_mut().graceful_shutdown();
                // The connection only has to be closed.
                timeout(CLOSE_TIMEOUT, served).await.unwrap_or(Ok(()))
            }
        };
        // The client disconnected, read nothing, or did not send HTTP.
        if let Err(error) = ended {
            debug!("a connection broke: {error}");
        }
    }

    /// Answers a request. A request whose body has no length in advance is the last of its
    /// connection: otherwise a client could hide a second request behind it with ambiguous framing
    /// (RFC 9112, section 6.1: a Content-Length beside a transfer coding is ignored, and hyper has
    /// removed it). The same holds for a request that was answered before its body was read: hyper
    /// then closes the connection, and the answer has to announce that. The server reads the rest
    /// of the body for a while, so that the answer reaches the client. All other answers announce
    /// how long the connection is kept open.
    async fn answer(
        &self,
        router: &TowerToHyperService<Router>,
        mut request: Request<Incoming>,
        peer: Peer,
        connection: &Connection,
        phase: &Arc<PhaseTracker>,
    ) -> Result<Response<TrackedBody>, Infallible> {
        phase.begin_answer();
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
            phase.leave_rest();
        }
        let headers = response.headers_mut();
        if is_chunked || !is_read || self.shutdown.is_cancelled() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if is_kept {
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert("keep-alive", self.keep_alive.clone());
        }
        Ok(response.map(|body| phase.track(body)))
    }

    /// Answers 503 to a connection beyond the limit, if that is possible without waiting.
    fn turn_away(&self, stream: TcpStream, why: &str) {
        debug!("a connection was turned away: {why}");
        if self.acceptor.is_none() {
            let problem = Problem::unavailable(why);
            // The answer is optional, so a failure is ignored.
            let _ = stream.into_std().and_then(|mut it| it.write(&plain_answer(&problem)));
        }
    }
}

/// The value of the header `Keep-Alive` (RFC 2068, section 19.7.1.1).
fn announcement(keep_alive: Duration) -> HeaderValue {
    let text = format!("timeout={}", keep_alive.as_secs());
    HeaderValue::from_str(&text).expect("it is plain")
}

/// Whether the client requests that the connection ends with the answer.
fn asks_to_close<B>(request: &Request<B>) -> bool {
    let options = request.headers().get_all(header::CONNECTION).iter();
    let mut options = options.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// A problem as a plain HTTP response, for clients that are not served otherwise.
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

/// Sends the last answer and reads what the client still sends: if the connection were closed
/// first, the kernel would discard the answer.
async fn answer_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(HEAD_LIMIT as u64);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}
