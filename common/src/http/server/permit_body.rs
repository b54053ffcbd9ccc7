//! A response body that holds a value, such as a permit, until the client has read nearly all of
//! it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// The maximum size of a chunk. The connection buffers a few chunks more than the client has read,
/// so this determines how much of an answer may be in flight when the value is dropped.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// A body that holds a `T` until its last chunk is passed on. Chunks are copies: a large answer is
/// freed with its last chunk, not when that has arrived.
struct PermitBody<T> {
    body: Body,
    /// The rest of a frame of the body that exceeded a chunk.
    rest: Bytes,
    _permit: T,
}

/// A body that holds a value until it is sent, except for the buffers of the connection.
pub fn hold_permit<T: Send + Unpin + 'static>(body: Body, permit: T) -> Body {
    Body::new(PermitBody { body, rest: Bytes::new(), _permit: permit })
}

impl<T: Unpin> HttpBody for PermitBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) if data.len() > CHUNK_BYTES => this.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = this.rest.len().min(CHUNK_BYTES);
        let chunk = Bytes::copy_from_slice(&this.rest.split_to(length));
        if this.rest.is_empty() {
            this.rest = Bytes::new();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_complete_and_its_value_is_dropped_with_the_last_chunk() {
        for length in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES - 1] {
            let whole: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let permit = Arc::new(());
            let mut body = hold_permit(Body::from(whole.clone()), Arc::clone(&permit));
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            let mut taken = Vec::new();
            while !body.is_end_stream() {
                assert_eq!(Arc::strong_count(&permit), 2, "{} of {length}", taken.len());
                let left = body.size_hint().exact();
                assert_eq!(left, Some((length - taken.len()) as u64));
                let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(data.len() <= CHUNK_BYTES);
                taken.extend_from_slice(&data);
            }
            drop(body);
            assert_eq!((taken, Arc::strong_count(&permit)), (whole, 1));
        }
    }
}
