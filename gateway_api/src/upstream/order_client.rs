//! The gateway's client of order_service: persistent connections, several instances, retries.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    contract::{
        ids::OrderId,
        order_routes::{self, OrderAction},
        route::Route,
    },
    http::{problem::Problem, request::GATEWAY_SECRET, server::KEEP_ALIVE_MS},
    secret::{ExposeSecret as _, Secret},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, uri};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tracing::{debug, error};

use super::outbox::{HttpClient, Outbox, Outgoing};

/// The timeout of a call, including retries. Longer than the timeouts of order_service itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of one attempt if there are other instances.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The time for which an instance that failed is tried last, in milliseconds.
const INSTANCE_COOLDOWN_MILLIS: u64 = 5_000;
/// The number of attempts of a call, unless there are more instances.
const ATTEMPT_LIMIT: usize = 3;

/// The URL of an instance of order_service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderServiceUrl(uri::Authority);

impl FromStr for OrderServiceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected http://host:port".to_owned();
        let uri: Uri = text.parse().map_err(|_| form())?;
        let plain = uri.scheme() == Some(&uri::Scheme::HTTP) && matches!(uri.path(), "" | "/");
        match uri.authority() {
            // Credentials would appear in --help and in logs, without any use.
            Some(authority)
                if plain && uri.query().is_none() && !authority.as_str().contains('@') =>
            {
                Ok(Self(authority.clone()))
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for OrderServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// A call to order_service: one of its routes, never a path of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderCall {
    /// Places an order.
    Place,
    /// Shows the order.
    Show(OrderId),
    /// Requests an action for the order.
    Act(OrderAction, OrderId),
}

impl OrderCall {
    fn route(self) -> Route {
        match self {
            Self::Place => order_routes::PLACE,
            Self::Show(_) => order_routes::SHOW,
            Self::Act(action, _) => action.route(),
        }
    }

    fn path(self) -> String {
        let route = self.route();
        self.order().map_or_else(|| route.path.to_owned(), |id| route.path_of(id))
    }

    /// The order of the call, if it exists already.
    pub(crate) fn order(self) -> Option<OrderId> {
        match self {
            Self::Place => None,
            Self::Show(id) | Self::Act(_, id) => Some(id),
        }
    }
}

/// Calls the instances of order_service in rotation.
#[derive(Debug)]
pub(crate) struct OrderClient {
    instances: Vec<Instance>,
    /// The shared secret that order_service expects.
    secret: Option<HeaderValue>,
    next: AtomicUsize,
    begun: Instant,
}

/// An instance of order_service, and the end of its cooldown in milliseconds.
#[derive(Debug)]
struct Instance {
    url: OrderServiceUrl,
    outbox: Outbox,
    cooldown_until: AtomicU64,
}

impl OrderClient {
    /// A client of these instances, at least one, that sends them the secret. It starts a task for
    /// each of them.
    pub(crate) fn new(instances: Vec<OrderServiceUrl>, secret: Option<&Secret>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client: HttpClient = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the KEEP_ALIVE_MS of order_service.
            .pool_idle_timeout(Duration::from_millis(KEEP_ALIVE_MS.start() / 2))
            .build(connector);
        let limit = attempt_timeout(instances.len());
        let instance = |url: OrderServiceUrl| {
            let outbox = Outbox::start(client.clone(), url.0.clone(), limit);
            Instance { url, outbox, cooldown_until: AtomicU64::new(0) }
        };
        let instances = instances.into_iter().map(instance).collect();
        let secret = secret.and_then(|secret| HeaderValue::from_str(secret.expose_secret()).ok());
        let secret = secret.map(|mut secret| {
            secret.set_sensitive(true);
            secret
        });
        Self { instances, secret, next: AtomicUsize::new(0), begun: Instant::now() }
    }

    /// Makes the call, and repeats it at another instance if one cannot be reached, disconnects or hangs.
    /// Repetition is safe: reads have no effects, and all other calls have an `Idempotency-Key`.
    ///
    /// # Errors
    ///
    /// 503: no instance could be reached. 504: none answered in time.
    pub(crate) async fn call(
        &self,
        call: OrderCall,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Problem> {
        match tokio::time::timeout(CALL_TIMEOUT, self.try_all(call, headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Problem::timeout(
                "order_service did not answer in time; repeat the request, a POST with the \
                 same Idempotency-Key",
            )),
        }
    }

    async fn try_all(
        &self,
        call: OrderCall,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Problem> {
        let order = self.order();
        let timeout = attempt_timeout(order.len());
        let mut refusal = None;
        for attempt in 0..ATTEMPT_LIMIT.max(order.len()) {
            let instance = order[attempt % order.len()];
            let answer = self.try_one(&instance.outbox, call, headers, body.clone());
            match tokio::time::timeout(timeout, answer).await {
                // Another instance may be available.
                Ok(Ok(answer)) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    refusal = Some(answer);
                }
                Ok(Ok(answer)) if answer.status() == StatusCode::UNAUTHORIZED => {
                    error!(
                        instance = %instance.url,
                        "order_service does not accept this gateway's ORDER_SERVICE_SECRET"
                    );
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    debug!(instance = %instance.url, "order_service cannot be reached: {error:#}");
                }
                Err(_) => debug!(instance = %instance.url, "order_service hangs"),
            }
            let until = self.now().saturating_add(INSTANCE_COOLDOWN_MILLIS);
            instance.cooldown_until.store(until, Ordering::Relaxed);
            if refusal.is_some() && attempt + 1 >= order.len() {
                break;
            }
        }
        refusal.ok_or_else(|| {
            Problem::unavailable(
                "order_service is not available; repeat the request, a POST with the same \
                 Idempotency-Key",
            )
        })
    }

    /// All instances in rotation, recently failed ones last.
    fn order(&self) -> Vec<&Instance> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.instances.len();
        let (before, from) = self.instances.split_at(first);
        let now = self.now();
        let (ready, cooling): (Vec<&Instance>, Vec<&Instance>) = from
            .iter()
            .chain(before)
            .partition(|instance| instance.cooldown_until.load(Ordering::Relaxed) <= now);
        [ready, cooling].concat()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn try_one(
        &self,
        outbox: &Outbox,
        call: OrderCall,
        headers: &HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        let mut headers = headers.clone();
        if let Some(secret) = &self.secret {
            headers.insert(GATEWAY_SECRET, secret.clone());
        }
        if call == OrderCall::Place {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        let (method, path) = (call.route().method, call.path());
        outbox.send(Outgoing { method, path, headers, body }).await
    }
}

/// The timeout of one attempt. A single instance gets the whole time.
fn attempt_timeout(instances: usize) -> Duration {
    if instances > 1 { ATTEMPT_TIMEOUT } else { CALL_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_plain_http_url() {
        for good in ["http://127.0.0.1:5001", "http://order_service:5001/"] {
            assert!(good.parse::<OrderServiceUrl>().is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1:5001",
            "https://a",
            "http://a/b",
            "http://a?b",
            "http://a:b@c",
            "",
            "order_service",
        ] {
            assert!(bad.parse::<OrderServiceUrl>().is_err(), "{bad}");
        }
    }
}
