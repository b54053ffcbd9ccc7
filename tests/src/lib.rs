//! Support for the tests of the whole system.
//!
//! Owns: [`System`], a private Redis, or one for each topic, with any number of instances of the five debug
//! binaries; [`client`], an HTTP client; [`streams`], access to its streams; [`events`], a client of its
//! event streams; [`Load`], clients that place orders continuously; [`signing_in`], a system with an OpenID
//! provider; [`eventually`], for waiting on conditions. All processes that a test starts end with it.

pub mod client;
pub mod events;
pub mod load;
pub mod process;
pub mod signing_in;
pub mod streams;
mod system;

use std::time::{Duration, Instant};

pub use self::{
    client::{Answer, Ask, Client, order_body, place_until_accepted, request, unread},
    load::Load,
    process::{env, signal},
    streams::{Entry, calls, command, database, info, publish, run},
    system::{System, is_final},
};

/// The timeout of steps that usually take a moment: machines that run tests are busy.
pub const SOON: Duration = Duration::from_secs(30);

/// Repeats a check until it returns `Ok`, and returns its value.
///
/// # Panics
///
/// The check did not succeed in time; the message contains the last reason.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        match check().await {
            Ok(answer) => return answer,
            Err(reason) if Instant::now() >= deadline => {
                panic!("{what}: not within {within:?}: {reason}")
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until a log contains a text.
///
/// # Panics
///
/// It did not in time; the message contains the log.
pub async fn logged(text: &str, mut log: impl FnMut() -> String) {
    eventually(&format!("{text:?} in the log"), SOON, async || {
        let log = log();
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}
