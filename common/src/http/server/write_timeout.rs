//! A connection that is closed if its client does not read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::connections::Connection;

/// Fails if too little could be written for too long: less than [`STEP`](super::connections::STEP)
/// while data waits. The kernel is even coarser: it reports room only when about a third of its
/// buffer is free.
pub(super) struct Paced<S> {
    stream: S,
    connection: Connection,
    timeout: Duration,
    /// Runs while data waits to be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, connection: Connection, timeout: Duration) -> Self {
        Self { stream, connection, timeout, stalled: None }
    }

    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &written {
            if self.connection.takes(*result.as_ref().unwrap_or(&0)) {
                self.stalled = None;
            }
            return written;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read its response",
            ))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has nothing to flush: hyper calls this when all data have been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stalled = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{interval, timeout},
    };

    use super::{super::connections::Connections, *};
    use crate::http::network::Site;

    fn paced(timeout: Duration, buffer: usize) -> (Paced<DuplexStream>, DuplexStream) {
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let entry = Connections::new(1).enter(Site::from(address), None).unwrap();
        // Unlike a socket, it reports each byte of room.
        let (server, client) = duplex(buffer);
        (Paced::new(server, entry.connection.clone(), timeout), client)
    }

    #[tokio::test]
    async fn a_client_that_reads_a_trickle_is_disconnected() {
        let (mut server, mut client) = paced(Duration::from_millis(300), 1_024);
        let mut pace = interval(Duration::from_millis(5));
        let taking = async {
            loop {
                client.read_u8().await.unwrap();
                pace.tick().await;
            }
        };
        let written = async {
            tokio::select! {
                written = server.write_all(&[0; 64 * 1024]) => written,
                () = taking => unreachable!("it goes on for ever"),
            }
        };
        let written = timeout(Duration::from_secs(30), written).await.expect("it is cut off");
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn time_without_waiting_data_does_not_count() {
        let (mut server, mut client) = paced(Duration::from_secs(1), 16);
        // In total, data wait for longer than the timeout.
        for _ in 0..4 {
            let writing = async {
                server.write_all(&[0; 32]).await.unwrap();
                server.flush().await.unwrap();
            };
            let taking = async {
                sleep(Duration::from_millis(400)).await;
                client.read_exact(&mut [0; 32]).await.unwrap();
            };
            tokio::join!(writing, taking);
        }
    }
}
