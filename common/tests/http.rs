//! The HTTP server that services share.

use std::{convert::Infallible, future::pending, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use common::{
    connection::topology::Sources,
    contract::streams::topics,
    http::server::{HEADER_TIMEOUT, ServerOptions},
    process::service::ServiceContext,
};
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

async fn panicking() -> &'static str {
    panic!("an internal secret")
}

async fn serve(router: Router, options: ServerOptions) -> (ServiceContext, SocketAddr) {
    let nowhere = "redis://127.0.0.1:1".parse().unwrap();
    let context =
        ServiceContext::new(Sources::new(&topics::ALL, |_| Clone::clone(&nowhere)), "one");
    let address = ([127, 0, 0, 1], stack::ports::free()).into();
    context.serve_as(address, router, options).await.unwrap();
    (context, address)
}

#[tokio::test]
async fn a_panic_is_answered_without_details_and_the_next_request_is_served() {
    let router =
        Router::new().route("/panic", get(panicking)).route("/fine", get(|| async { "fine" }));
    let (context, address) = serve(router, ServerOptions::default()).await;
    let ask = async |path: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("/panic").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
    assert!(ask("/fine").await.ends_with("fine"));
    context.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_without_reading_the_body_announces_the_end_of_the_connection() {
    let router = Router::new()
        .route("/unread", post(|| async { "fine" }))
        .route("/read", post(|_: Bytes| async { "fine" }));
    let (context, address) = serve(router, ServerOptions::default()).await;
    for (path, host, body, ends) in [
        ("/read", "localhost", "body", false),
        ("/unread", "localhost", "body", true),
        ("/unread", "localhost", "", false),
        ("/none", "localhost", "body", true),
        ("/read", "elsewhere.example", "body", true),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        client.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let count = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
        assert_eq!(answer.contains("connection: close"), ends, "{path} {host} {body:?}: {answer}");
        // The connection ends as announced, or serves the next request.
        let next = "POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(next.as_bytes()).await;
        let served = client.read(&mut [0; 64]).await.is_ok_and(|count| count > 0);
        assert_eq!(served, !ends, "{path} {host} {body:?}");
    }
    context.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_still_sends_its_body_gets_the_complete_answer() {
    let router = Router::new().route("/unread", post(|| async { "x".repeat(100_000) }));
    let (context, address) = serve(router, ServerOptions::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = "POST /unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|it| it == b"\r\n\r\n") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    // Like many clients, it reads nothing more before it has sent everything.
    for _ in 0..10 {
        client.write_all(&[b'x'; 6_000]).await.expect("the connection is not broken");
    }
    client.read_to_end(&mut answer).await.expect("the rest of the answer, and an end in order");
    assert!(answer.ends_with(&[b'x'; 100_000]), "{} bytes", answer.len());
    context.stop().await.unwrap();
}

/// A client that received one answer, and the head of that answer.
async fn served(address: SocketAddr, version: &str, more: &str) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /fine {version}\r\nHost: localhost\r\n{more}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|it| it == b"fine") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    (client, String::from_utf8(answer).unwrap().to_lowercase())
}

#[tokio::test]
async fn an_idle_connection_outlives_the_limit_of_a_head_and_answers_announce_it() {
    let router = Router::new().route("/fine", get(|| async { "fine" }));
    let (head_timeout, keep_alive) = (Duration::from_millis(200), Duration::from_secs(3));
    let options = ServerOptions { head_timeout, keep_alive, ..ServerOptions::default() };
    let (context, address) = serve(router, options).await;
    let ends = async |mut client: TcpStream| {
        let begun = tokio::time::Instant::now();
        let read = tokio::time::timeout(Duration::from_secs(30), client.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
        begun.elapsed()
    };
    let (idle, answer) = served(address, "HTTP/1.1", "").await;
    assert!(answer.contains("\r\nkeep-alive: timeout=3\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    let (mut slow, _) = served(address, "HTTP/1.1", "").await;
    let begin = async |client: &mut TcpStream| client.write_all(b"GET /fine HT").await.unwrap();
    let slow = async {
        begin(&mut slow).await;
        ends(slow).await
    };
    let mut first = TcpStream::connect(address).await.unwrap();
    let first = async {
        begin(&mut first).await;
        ends(first).await
    };
    let (idle, slow, first) = tokio::join!(ends(idle), slow, first);
    assert!(idle > keep_alive.mul_f32(0.9), "{idle:?}");
    for head in [slow, first] {
        assert!(head < keep_alive / 2, "{head:?}");
    }
    // A connection that ends is not announced as kept.
    for (version, more) in [("HTTP/1.1", "Connection: close\r\n"), ("HTTP/1.0", "")] {
        let (client, answer) = served(address, version, more).await;
        assert!(!answer.contains("keep-alive"), "{answer}");
        assert!(ends(client).await < keep_alive / 2);
    }
    context.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_answer_does_not_count_as_idle_time() {
    let answer = || async {
        let chunk = |at: u32| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let last = at == 9;
            Some((Ok::<_, Infallible>(if last { "fine" } else { "more" }), at + 1))
                .filter(|_| at < 10)
        };
        Body::from_stream(stream::unfold(0, chunk))
    };
    let router = Router::new().route("/fine", get(answer));
    let limit = Duration::from_millis(300);
    let options =
        ServerOptions { head_timeout: limit, keep_alive: limit, ..ServerOptions::default() };
    let (context, address) = serve(router, options).await;
    let (_, answer) = served(address, "HTTP/1.1", "").await;
    assert_eq!(answer.matches("more").count(), 9, "{answer}");
    context.stop().await.unwrap();
}

/// A stream behind an answer's body that reports its drop.
struct ReportsItsDrop(mpsc::UnboundedSender<()>);

impl Drop for ReportsItsDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let endless = move || {
        let open = ReportsItsDrop(ends.clone());
        async move {
            Body::from_stream(stream::repeat_with(move || {
                let _kept = &open;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
            }))
        }
    };
    let router = Router::new().route("/endless", get(endless));
    let options =
        ServerOptions { write_timeout: Duration::from_millis(300), ..ServerOptions::default() };
    let (context, address) = serve(router, options).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The client reads nothing until the server drops the rest of the answer.
    let cut_off = tokio::time::timeout(Duration::from_secs(30), ended.recv()).await;
    cut_off.expect("it is cut off");
    let rest =
        async { while client.read(&mut [0; 64 * 1024]).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(30), rest).await.expect("an end of the connection");
    // A client that reads is served without an end.
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(client.read(&mut buffer).await.unwrap() > 0);
    }
    drop(client);
    context.stop().await.unwrap();
}

#[tokio::test]
async fn the_connections_of_one_client_are_limited() {
    let router = Router::new().route("/", get(|| async { "fine" }));
    let (begins, mut begun) = mpsc::unbounded_channel();
    let slow = async move || {
        begins.send(()).unwrap();
        pending::<&str>().await
    };
    let router = router.route("/slow", get(slow));
    let options = ServerOptions { connections_per_client: 2, ..ServerOptions::default() };
    let (context, address) = serve(router, options).await;
    let idle = async || {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let count = client.read(&mut [0; 4_096]).await.unwrap();
        assert!(count > 0);
        client
    };
    // An idle connection is closed in favour of another.
    let mut first = idle().await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(idle().await);
    }
    let ended = tokio::time::timeout(HEADER_TIMEOUT / 2, first.read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    // Connections with a working handler are not.
    for client in &mut kept {
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        begun.recv().await.unwrap();
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("too many connections from your address"), "{answer}");
    kept.pop();
    // The slot is free as soon as the server has noticed.
    let served = async {
        loop {
            let mut client = TcpStream::connect(address).await.unwrap();
            let _ = client
                .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await;
            let mut answer = String::new();
            if client.read_to_string(&mut answer).await.is_ok() && answer.ends_with("fine") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), served).await.expect("a free permit");
    drop(kept);
    context.stop().await.unwrap();
}

#[tokio::test]
async fn without_room_a_connection_with_an_incomplete_body_is_replaced() {
    let router = Router::new().route("/", post(|body: String| async { body }));
    let (context, address) =
        serve(router, ServerOptions { connections: 2, ..ServerOptions::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                    Content-Length: 4\r\n\r\nf";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        let count = client.read(&mut buffer).await.unwrap();
        assert!(buffer[..count].starts_with(b"HTTP/1.1 100"), "a handler waits for the body");
        slow.push(client);
    }
    let mut client = TcpStream::connect(address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("fine"), "{answer}");
    // The connection without progress for longer is closed, and the other one is answered.
    assert!(matches!(slow[0].read(&mut [0; 16]).await, Ok(0) | Err(_)));
    slow[1].write_all(b"ine").await.unwrap();
    let mut status = [0; 12];
    slow[1].read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    drop(slow);
    context.stop().await.unwrap();
}

#[tokio::test]
async fn without_room_a_useless_connection_is_replaced() {
    let router = Router::new().route("/", get(|| async { "fine" }));
    let (context, address) =
        serve(router, ServerOptions { connections: 4, ..ServerOptions::default() }).await;
    // Half a head each; the server accepts all of them, and more.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        slow.push(client);
    }
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    // Long before the time limit of a head.
    let read = tokio::time::timeout(HEADER_TIMEOUT / 2, client.read_to_string(&mut answer));
    read.await.expect("an answer in time").unwrap();
    assert!(answer.ends_with("fine"), "{answer}");
    // The first connections were closed.
    let ended = tokio::time::timeout(HEADER_TIMEOUT / 2, slow[0].read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    drop(slow);
    context.stop().await.unwrap();
}
