//! The body of a request: whether it was read before the request was answered, and whether the
//! handler is waiting for more of it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Request,
    body::{Body, Frame, Incoming, SizeHint},
};

use super::connections::Connection;

/// A request's body that records its end, and when its reader waits for the client.
pub(super) struct Watched {
    body: Incoming,
    is_read: Arc<AtomicBool>,
    connection: Connection,
}

/// Wraps the body of a request. Returns whether the body has been read to its end.
pub(super) fn watch(
    request: Request<Incoming>,
    connection: &Connection,
) -> (Request<Watched>, Arc<AtomicBool>) {
    let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let watched =
        |body| Watched { body, is_read: Arc::clone(&is_read), connection: connection.clone() };
    (request.map(watched), is_read)
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.connection.set_waits_for_body(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.connection.takes(frame.data_ref().map_or(0, Bytes::len));
        }
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.connection.set_waits_for_body(false);
    }
}
