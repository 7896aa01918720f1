//! How long a connection may keep us waiting: for the head of a request a short time, between two requests a long one.
//!
//! Resource servers keep their connections and ask now and then; a client that sends a head byte by byte only means harm. One
//! watch for each connection tells them apart by three marks, which cost a request three looks at the clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;

/// How long an HTTP/1 connection may be idle; longer than reverse proxies keep theirs (60 s is common), so that it is they who
/// close and never a request that meets a closed connection.
const IDLE: Duration = Duration::from_secs(75);

/// Where a connection stands, and since when: the milliseconds since its start, times four, plus one of the marks.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    mark: AtomicU64,
}

/// Nothing has come since the last answer.
const WAITING: u64 = 0;
/// Something came that is no whole head yet. A new connection begins so.
const HEAD: u64 = 1;
/// A request is being served; its body and its answer have deadlines of their own.
const BUSY: u64 = 2;

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { start: Clock::monotonic(), mark: AtomicU64::new(HEAD) }
    }

    pub(super) fn request_began(&self) {
        self.set(BUSY);
    }

    pub(super) fn request_ended(&self) {
        self.set(WAITING);
    }

    fn bytes_came(&self) {
        if self.mark.load(Ordering::Relaxed) % 4 == WAITING {
            self.set(HEAD);
        }
    }

    fn set(&self, mark: u64) {
        self.mark.store(Clock::since(self.start).as_millis() as u64 * 4 + mark, Ordering::Relaxed);
    }

    /// Resolves when the connection has kept us waiting for too long, with the reason for the log.
    pub(super) async fn outstayed(&self, patience: Duration) -> &'static str {
        loop {
            let mark = self.mark.load(Ordering::Relaxed);
            let waited = Clock::since(self.start).saturating_sub(Duration::from_millis(mark / 4));
            let (left, reason) = match mark % 4 {
                HEAD => (patience.saturating_sub(waited), "the head of a request took too long"),
                WAITING => (IDLE.saturating_sub(waited), "no request came"),
                _ => (patience, ""),
            };
            if left.is_zero() {
                return reason;
            }
            // A head that begins while this sleeps may take no longer than one that begins before.
            tokio::time::sleep(left.min(patience).max(Duration::from_millis(1))).await;
        }
    }
}

/// A stream that tells its [`Pace`] when something was read.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Paced<S> {
        Paced { stream, pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pace.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    async fn outstays(pace: &Pace) -> bool {
        tokio::time::timeout(Duration::from_millis(250), pace.outstayed(PATIENCE)).await.is_ok()
    }

    #[tokio::test]
    async fn only_heads_are_hurried() {
        let pace = Pace::new();
        assert!(outstays(&pace).await, "a new connection that says nothing");
        pace.request_began();
        pace.bytes_came();
        assert!(!outstays(&pace).await, "the body of a request");
        pace.request_ended();
        assert!(!outstays(&pace).await, "a connection kept for later");
        pace.bytes_came();
        assert!(outstays(&pace).await, "a second head that does not end");
    }
}
