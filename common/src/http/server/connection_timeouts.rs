//! The timeouts of an inactive connection, in the middle of a request's head and between requests,
//! and the end of a connection whose client is still sending.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// How long, after the last answer, the rest of an unread body is received: if a connection is
/// closed while its client sends, the answer may be lost (RFC 9112, section 9.6).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum size of that rest in bytes.
const LINGER_LIMIT_BYTES: usize = 1024 * 1024;

/// The timeouts of a connection's phases.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhaseTimeouts {
    /// The timeout for a head, from its first byte on; for the first head, from the start of the
    /// connection on.
    pub(super) head: Duration,
    /// The timeout for the start of the next request.
    pub(super) keep_alive: Duration,
}

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A head has been in transit since this time.
    Head(Instant),
    /// A request is being answered. Its body and the reading of the answer have their own limits.
    Answer,
    /// The last answer was sent at this time, and no byte of another request has arrived.
    Idle(Instant),
}

/// The tracked state of a connection. Its phase changes only while the connection is polled.
#[derive(Debug)]
pub(super) struct PhaseTracker {
    timeouts: PhaseTimeouts,
    phase: Mutex<Phase>,
    /// Whether the last request was answered before its body was read.
    leaves_rest: AtomicBool,
}

impl PhaseTracker {
    /// The state of a new connection.
    pub(super) fn new(timeouts: PhaseTimeouts) -> Arc<Self> {
        let phase = Mutex::new(Phase::Head(Instant::now()));
        Arc::new(Self { timeouts, phase, leaves_rest: AtomicBool::new(false) })
    }

    /// Records that a whole head has arrived: the request is being answered from now on.
    pub(super) fn begin_answer(&self) {
        *self.phase() = Phase::Answer;
    }

    /// Records that the connection ends with this answer, and that its client may still send a
    /// body.
    pub(super) fn leave_rest(&self) {
        self.leaves_rest.store(true, Relaxed);
    }

    /// Wraps the body of the answer; its drop records that the answer is sent.
    pub(super) fn track(self: &Arc<Self>, body: Body) -> TrackedBody {
        TrackedBody { body, tracker: Arc::clone(self) }
    }

    /// Whether the connection is between two requests.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.phase(), Phase::Idle(_))
    }

    /// Resolves when a timeout expires; must be polled after everything that may change the
    /// phase.
    pub(super) async fn timed_out(&self) {
        let mut sleep = std::pin::pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|context| self.poll_timed_out(sleep.as_mut(), context)).await;
    }

    fn poll_timed_out(&self, mut sleep: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = match *self.phase() {
            Phase::Head(since) => since + self.timeouts.head,
            Phase::Answer => return Poll::Pending,
            Phase::Idle(since) => since + self.timeouts.keep_alive,
        };
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.poll(context)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of a tracked connection.
pub(super) struct TrackedStream<S> {
    stream: S,
    tracker: Arc<PhaseTracker>,
    /// The received size of an unread body after the last answer, and the deadline for it.
    rest: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> TrackedStream<S> {
    pub(super) fn new(stream: S, tracker: &Arc<PhaseTracker>) -> Self {
        Self { stream, tracker: Arc::clone(tracker), rest: None }
    }

    /// Records that more of the last answer was written: until then the client is not inactive.
    fn is_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..)))
            && let Phase::Idle(since) = &mut *self.tracker.phase()
        {
            *since = Instant::now();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> TrackedStream<S> {
    /// Resolves when the client has sent everything, too much, or for too long.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (taken, end) = self.rest.get_or_insert_with(|| (0, Box::pin(sleep(LINGER_TIMEOUT))));
        let mut chunk = [0; 4096];
        while *taken < LINGER_LIMIT_BYTES {
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(context, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => *taken += chunk.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return end.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let mut phase = self.tracker.phase();
        if buffer.filled().len() > before && matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(Instant::now());
        }
        drop(phase);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.is_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.is_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        if self.tracker.leaves_rest.load(Relaxed) {
            ready!(self.poll_rest(context));
        }
        Poll::Ready(Ok(()))
    }
}

/// The body of an answer, whose drop ends the answer.
pub(super) struct TrackedBody {
    body: Body,
    tracker: Arc<PhaseTracker>,
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        *self.tracker.phase() = Phase::Idle(Instant::now());
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
