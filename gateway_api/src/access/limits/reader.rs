//! Reads that are charged to a client.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use axum::extract::FromRequestParts;
use common::{
    connection::shared_link::Meter, http::problem::Problem, process::service::REQUEST_TIMEOUT,
};
use http::request::Parts;

use super::{client::Client, limiter::Limiter};

/// The number of bytes that a request may read; each further number of as many bytes counts as another
/// request.
const BYTES_PER_REQUEST: usize = 64 * 1024;

/// Reads on behalf of a client and charges the client for the bytes: an extension of each request, and an
/// extractor.
#[derive(Clone)]
pub struct MeteredReader {
    limiter: Arc<Limiter>,
    client: Client,
    so_far: Arc<SoFar>,
}

/// The bytes that a request has read so far.
#[derive(Default)]
struct SoFar {
    has_begun: AtomicBool,
    bytes: AtomicUsize,
}

impl MeteredReader {
    pub(super) fn new(limiter: &Arc<Limiter>, client: &Client) -> Self {
        Self { limiter: Arc::clone(limiter), client: client.clone(), so_far: Arc::default() }
    }

    /// The client of these reads.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Reads when the client has a permit, and counts the bytes. The cost of a read is known only afterwards,
    /// so the first read of a request waits until earlier reads are counted, and is refused if the client
    /// has read too much by then. Further reads of the same request are not refused, because the request
    /// may have had an effect already.
    ///
    /// # Errors
    ///
    /// 429: the client has read too much. 504: the read took too long.
    pub(crate) async fn read<T>(
        &self,
        what: &str,
        reading: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        // Boxed, because futures that read for a page are large, and each enclosing future would be as large.
        let reading = Box::pin(reading);
        let permitted = async {
            let _permit = self.limiter.reads.permit(&self.client).await;
            self.begin()?;
            // Counts on drop, so that the bytes of an aborted request count too.
            let charge = Charge { reader: self, meter: Meter::default() };
            Ok(charge.meter.count(reading).await)
        };
        let late = || Problem::timeout(format!("{what} was not read in time"));
        tokio::time::timeout(REQUEST_TIMEOUT, permitted).await.unwrap_or_else(|_| Err(late()))
    }

    /// Checks the client's rate. Before another service reads for the client only this is called: a permit
    /// would be held for the duration of the call, and reads of other clients would wait for it.
    ///
    /// # Errors
    ///
    /// 429: the client has read too much.
    pub(crate) fn begin(&self) -> Result<(), Problem> {
        if self.so_far.has_begun.swap(true, Relaxed) {
            return Ok(());
        }
        self.limiter.check_debt(&self.client)
    }

    /// Counts the bytes that were read here or by another service, or sent again.
    pub(crate) fn charge(&self, bytes: usize) {
        let before = self.so_far.bytes.fetch_add(bytes, Relaxed);
        let requests = (before + bytes) / BYTES_PER_REQUEST - before / BYTES_PER_REQUEST;
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        match &self.client {
            _ if requests == 0 => {}
            Client::ThisMachine => {}
            Client::Address(site) => self.limiter.addresses.charge(site, requests),
            Client::Subject(name) => self.limiter.subjects.charge(name, requests),
        }
    }
}

struct Charge<'a> {
    reader: &'a MeteredReader,
    meter: Meter,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.reader.charge(self.meter.bytes());
    }
}

impl<S: Sync> FromRequestParts<S> for MeteredReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Happens only if the router lacks the limits.
        let missing = || Problem::internal("the request did not pass the limits");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}
