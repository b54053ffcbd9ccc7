//! Serves HTTP, with or without TLS, to clients that may be slow, many or hostile.
//!
//! What a client may take its time for is bounded: the handshake, a request's head, its body
//! ([`crate::http::BODY_PATIENCE`]), silence between requests, and the taking of its answer. So is
//! how large a head may be, and how many connections there are, altogether and of one client.

mod kept;
mod patience;
mod places;
pub mod tls;

use std::{convert::Infallible, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, body::Body, response::IntoResponse as _};
use http::{HeaderValue, Request, Response, header};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
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
use tracing::{debug, info, warn};

pub use self::{
    kept::keep,
    places::{Place, Places},
};
use self::{patience::Paced, tls::Tls};
use crate::{
    network::{Network, Site},
    problem::{PROBLEM_JSON, Problem},
    service::Life,
};

/// The most connections at once; others wait to be accepted.
const CONNECTIONS: usize = 4_096;
/// The file descriptors for [`CONNECTIONS`] and all else.
const FILES: u64 = CONNECTIONS as u64 + 256;
/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: u32 = 1_024;
/// What the kernel keeps of an answer, so that a client which does not read is noticed, and costs
/// no more than this.
const SEND_BUFFER: u32 = 256 * 1024;
/// How long the head of a request may take to arrive, and a kept-alive connection may be silent.
pub const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes: tokens and cookies have room.
pub const HEAD_LIMIT: usize = 32 * 1024;
/// How much of an answer a connection has in hand besides the kernel's buffer, in bytes, and of a
/// request's head.
const BUFFER: usize = 64 * 1024;
/// How much of the shutdown's time requests in hand have. A complete one takes less: see
/// [`crate::service::REQUEST_PATIENCE`].
const CLIENT_PATIENCE: Duration = Duration::from_secs(7);
/// How long to wait before accepting connections again when that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// The first byte of a TLS connection: the type of a handshake's record.
const TLS_HANDSHAKE: u8 = 22;

/// How a service is served.
#[derive(Debug)]
pub struct Serving {
    /// HTTPS instead of HTTP.
    pub tls: Option<Tls>,
    /// The most connections of one client, an IPv4 address or an IPv6 /64; 0: any number.
    pub connections_per_client: usize,
    /// Clients to whom that does not apply.
    pub exempt: Vec<Network>,
    /// How long a client may take nothing of what it asked for.
    pub write_patience: Duration,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            tls: None,
            connections_per_client: 0,
            exempt: Vec::new(),
            write_patience: Duration::from_secs(30),
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

impl Life {
    /// Serves HTTP until the shutdown; requests in hand are answered first.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn serve(&self, address: SocketAddr, router: Router) -> anyhow::Result<()> {
        self.serve_as(address, router, Serving::default()).await
    }

    /// The same in a certain way.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn serve_as(
        &self,
        address: SocketAddr,
        router: Router,
        serving: Serving,
    ) -> anyhow::Result<()> {
        let listener =
            listen(address).with_context(|| format!("HTTP_ADDR: cannot listen on {address}"))?;
        allow_files();
        let scheme = if serving.tls.is_some() { "https" } else { "http" };
        info!("listening on {scheme}://{address}");
        let acceptor = serving.tls.as_ref().map(Tls::acceptor);
        if let Some(tls) = serving.tls {
            self.spawn("the certificate watch", tls.keep_up(self.shutdown.clone()));
        }
        let server = Server {
            router: survive_panics(router),
            acceptor,
            places: Places::new(serving.connections_per_client),
            counts: serving.connections_per_client > 0,
            exempt: serving.exempt,
            write_patience: serving.write_patience,
            shutdown: self.shutdown.clone(),
        };
        self.spawn("the HTTP server", serve(listener, server));
        Ok(())
    }
}

/// Answers 500 where a handler panics. All that is served is under one such layer; another one
/// further inside lets layers in between see that answer.
pub fn survive_panics<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(CatchPanicLayer::custom(|_| {
        // The panic itself is in the log already.
        Problem::internal("the request was not completed").into_response()
    }))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The usual soft limit of 1,024 open files is meant for programs that use select(2); here it would
/// keep out connections.
fn allow_files() {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let files = soft.max(FILES.min(hard));
        setrlimit(Resource::RLIMIT_NOFILE, files, hard).map(|()| files)
    });
    match allowed {
        Ok(files) if files >= FILES => {}
        Ok(files) => warn!("only {files} files may be open: there may be too few for connections"),
        Err(error) => warn!("the limit of open files cannot be raised: {error}"),
    }
}

/// Serves each connection in a task of its own. After the shutdown, requests in hand are answered;
/// clients that do not send the rest of what they began are cut off after [`CLIENT_PATIENCE`].
async fn serve(listener: TcpListener, server: Server) -> anyhow::Result<()> {
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            () = server.shutdown.cancelled() => break,
            // Those that ended are forgotten.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: others have to end first.
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let counts = server.counts && !server.exempt.iter().any(|it| it.contains(address.ip()));
        let place = counts.then(|| server.places.take(Site::from(address.ip())));
        match place {
            Some(None) => server.turn_away(stream),
            taken => {
                let place = taken.flatten();
                connections.spawn(Arc::clone(&server).connection(stream, address, place));
            }
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    if timeout(CLIENT_PATIENCE, finish).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// What all connections have in common.
struct Server {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    places: Arc<Places<Site>>,
    /// Whether the connections of a client are counted.
    counts: bool,
    exempt: Vec<Network>,
    write_patience: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves a connection to its end.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        _place: Option<Place<Site>>,
    ) {
        // Answers leave at once instead of waiting for company; without it they are only later.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.acceptor else {
            let stream = Paced::new(stream, self.write_patience);
            return self.requests(stream, Peer { address, tls: false }).await;
        };
        match timeout(HANDSHAKE_PATIENCE, self.handshake(acceptor, stream)).await {
            Ok(Some(stream)) => self.requests(stream, Peer { address, tls: true }).await,
            Ok(None) => {}
            Err(_) => debug!("a TLS handshake took too long"),
        }
    }

    async fn handshake(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
    ) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok_and(|read| read == 1) && first[0] != TLS_HANDSHAKE {
            let problem = Problem::https_required("use https:// at this address");
            answer_and_close(stream, &plain_answer(&problem)).await;
            return None;
        }
        match acceptor.accept(Paced::new(stream, self.write_patience)).await {
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
    ) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request| answer(&router, request, peer));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            .max_header_size(HEAD_LIMIT)
            .max_buf_size(BUFFER);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // A client that went away, took nothing, or sent something that is not HTTP.
        if let Err(error) = ended {
            debug!("a connection broke: {error}");
        }
    }

    /// Tells a client that it has too many connections, if it can be told without waiting.
    fn turn_away(&self, stream: TcpStream) {
        debug!("a client has too many connections");
        if self.acceptor.is_none() {
            let problem = Problem::unavailable("too many connections from your address");
            // It is as well without.
            let _ = stream.into_std().and_then(|mut it| it.write(&plain_answer(&problem)));
        }
    }
}

/// A request's answer. One whose body has no length that is known beforehand is the last of its
/// connection: nobody can smuggle another behind it by framing it in two ways (RFC 9112, section
/// 6.1: a Content-Length beside it does not count, and hyper has taken it away).
async fn answer(
    router: &TowerToHyperService<Router>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Infallible> {
    let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
    request.extensions_mut().insert(peer);
    let mut response = router.call(request).await?;
    if is_last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
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
async fn answer_and_close(mut stream: TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(HEAD_LIMIT as u64);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}
