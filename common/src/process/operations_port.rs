//! The private operations port: `/healthz`, `/readyz`, `/metrics`, and the query of a container's
//! health check.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use prometheus_client::registry::Registry;

use crate::{connection::health::Health, http::request::unknown_path};

/// The content of the operations port.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) health: Arc<Health>,
    pub(crate) registry: Registry,
}

pub(crate) fn router(operations: Arc<Operations>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .with_state(operations)
}

async fn ready(State(operations): State<Arc<Operations>>) -> (StatusCode, String) {
    let (status, state) = match operations.health.ready() {
        Ok(()) => (StatusCode::OK, "ready"),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let notices = operations.health.notices();
    let lines = std::iter::once(state).chain(notices.iter().map(String::as_str));
    (status, lines.map(|line| format!("{line}\n")).collect())
}

async fn metrics(State(operations): State<Arc<Operations>>) -> impl IntoResponse {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &operations.registry)
        .expect("a String takes everything");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text)
}

/// Queries the readiness of the service at this address.
pub(crate) fn is_ready(address: SocketAddr) -> bool {
    let local = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let ask = || -> std::io::Result<bool> {
        let timeout = Duration::from_secs(2);
        let address = SocketAddr::new(local, address.port());
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
