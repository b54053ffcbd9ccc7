//! A name that leads to one server now and to another one later, like a DNS name or a load
//! balancer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::Redis;

/// New connections lead to the current server; open ones stay where they are.
pub(crate) struct Name {
    url: String,
    port: Arc<Mutex<u16>>,
    task: JoinHandle<()>,
}

impl Name {
    /// A name that leads to this server.
    pub(crate) async fn of(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let port = Arc::new(Mutex::new(redis.port()));
        let target = Arc::clone(&port);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = *target.lock().unwrap_or_else(PoisonError::into_inner);
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { url, port, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn leads_to(&self, redis: &Redis) {
        *self.port.lock().unwrap_or_else(PoisonError::into_inner) = redis.port();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.task.abort();
    }
}
