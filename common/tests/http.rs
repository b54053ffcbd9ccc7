//! The HTTP server that services share.

use axum::{Router, routing::get};
use common::{config::Sources, service::Life};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn panicking() -> &'static str {
    panic!("a secret of the inside")
}

#[tokio::test]
async fn a_handler_that_panics_answers_a_problem_that_tells_nothing_and_the_next_one_is_served() {
    let nowhere = "redis://127.0.0.1:1".parse().unwrap();
    let life = Life::new(Sources::new(|_| Clone::clone(&nowhere)), "one");
    let router =
        Router::new().route("/panic", get(panicking)).route("/fine", get(|| async { "fine" }));
    let address = ([127, 0, 0, 1], stack::ports::free()).into();
    life.serve(address, router).await.unwrap();
    let ask = async |path: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
    life.stop().await.unwrap();
}
