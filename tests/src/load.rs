//! Clients that place orders continuously.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Client, System, eventually, place_until_accepted};

/// Clients that place orders continuously, and repeat each with its key until it is accepted.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<()>,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    within: Duration,
}

impl Load {
    /// Starts this number of clients, which pause after each order. `body` returns the body for the number
    /// of a client and of its order. Each order has to be accepted within the time.
    pub fn start(
        system: &System,
        clients: usize,
        pause: Duration,
        within: Duration,
        body: impl Fn(usize, usize) -> Value + Clone + Send + Sync + 'static,
    ) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            accepted: Arc::default(),
            stopped: Arc::default(),
            within,
        };
        for client in 0..clients {
            let (gateways, body) = (system.stack.gateway_urls(), body.clone());
            let (accepted, stopped) = (Arc::clone(&load.accepted), Arc::clone(&load.stopped));
            load.clients.spawn(async move {
                let http = Client::default();
                let mut number = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let key = common::random::new_id().to_string();
                    let body = body(client, number);
                    place_until_accepted(&http, &gateways, &key, &body, within).await;
                    accepted.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                    tokio::time::sleep(pause).await;
                }
            });
        }
        load
    }

    /// Waits until this number of further orders is accepted.
    pub async fn more(&self, orders: usize) {
        let goal = self.accepted.load(Ordering::Relaxed) + orders;
        eventually("orders are accepted", self.within, async || {
            let accepted = self.accepted.load(Ordering::Relaxed);
            if accepted >= goal { Ok(()) } else { Err(format!("{accepted} of {goal}")) }
        })
        .await;
    }

    /// Stops the clients after their current orders, and returns the number of accepted orders.
    pub async fn stop(self) -> usize {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.accepted.load(Ordering::Relaxed)
    }
}
