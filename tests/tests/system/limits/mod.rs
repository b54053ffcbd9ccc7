//! The limits of the gateway: rates, requests in flight, sizes, hosts, TLS.

mod permits;
mod rates;
mod requests;
mod tls;

use std::net::SocketAddr;

use serde_json::Value;
use stack::Service;
use system_tests::{SOON, System};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// A system whose gateway has these environment variables, and the address of its gateway.
async fn start(env: &[(&str, &str)]) -> (System, SocketAddr) {
    let mut system = System::start_with_gateway_env(env).await;
    let gateway = system.first(Service::Gateway).http.expect("an address");
    (system, gateway)
}

/// The complete answer until the server closes the connection.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    let mut answer = Vec::new();
    let talk = async {
        // The request may be refused before all of it is received.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(SOON, talk).await.expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn raw(gateway: SocketAddr, text: &str) -> String {
    talk(TcpStream::connect(gateway).await.expect("a connection"), text).await
}

/// The status and the body's type and field; an empty body has neither.
fn outline(answer: &str) -> (u16, String, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or("").to_owned();
    (status, text("type").replace("urn:problem-type:orders:", ""), text("field"))
}

const HOST: &str = "Host: localhost\r\nConnection: close\r\n";
