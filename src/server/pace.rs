//! How long a connection may keep us waiting: for the head of a request a short time, between two requests a long one.
//!
//! Resource servers keep their connections and ask now and then; a client that sends a head byte by byte only means harm. One
//! watch for each connection tells them apart by three marks, which cost a request three looks at the clock.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;

/// How long a connection may be idle; longer than reverse proxies keep theirs (60 s is common), so that it is they who
/// close and never a request that meets a closed connection.
const IDLE: Duration = Duration::from_secs(75);

/// Where a connection stands, and since when: the milliseconds since its start, times four, plus one of the marks.
#[derive(Debug)]
pub(super) struct Pace {
    protocol: Protocol,
    idle: Duration,
    start: Instant,
    mark: AtomicU64,
    /// Requests under way: one at a time with HTTP/1, streams with HTTP/2.
    open: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// One request under way, until it is dropped: answered, or reset by the client.
#[derive(Debug)]
pub(super) struct UnderWay<P: Deref<Target = Pace>>(P);

impl<P: Deref<Target = Pace>> Drop for UnderWay<P> {
    fn drop(&mut self) {
        // Marked before it is counted off, so that with none open the mark is never older than the last end.
        self.0.set(WAITING);
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

/// Nothing has come since the last answer.
const WAITING: u64 = 0;
/// Something came that is no whole head yet. A new connection begins so.
const HEAD: u64 = 1;

impl Pace {
    pub(super) fn new(protocol: Protocol) -> Pace {
        Pace { protocol, idle: IDLE, start: Clock::monotonic(), mark: AtomicU64::new(HEAD), open: AtomicUsize::new(0) }
    }

    pub(super) fn request_began(&self) -> UnderWay<&Pace> {
        self.open.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// The answer of a request goes on after its head, for as long as this is held.
    pub(super) fn answer_goes_on(self: &Arc<Pace>) -> UnderWay<Arc<Pace>> {
        self.open.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Between the requests of HTTP/2 there are pings and their answers, which are no heads.
    fn bytes_came(&self) {
        let waiting = || self.open.load(Ordering::Relaxed) == 0 && self.mark.load(Ordering::Relaxed) % 4 == WAITING;
        if self.protocol == Protocol::Http1 && waiting() {
            self.set(HEAD);
        }
    }

    fn set(&self, mark: u64) {
        self.mark.store(Clock::since(self.start).as_millis() as u64 * 4 + mark, Ordering::Relaxed);
    }

    /// Resolves when the connection has kept us waiting for too long, with the reason for the log.
    pub(super) async fn outstayed(&self, patience: Duration) -> &'static str {
        loop {
            let open = self.open.load(Ordering::Acquire);
            let mark = self.mark.load(Ordering::Relaxed);
            let waited = Clock::since(self.start).saturating_sub(Duration::from_millis(mark / 4));
            let (left, reason) = match mark % 4 {
                // The body of a request and its answer have deadlines of their own.
                _ if open > 0 => (patience, ""),
                HEAD => (patience.saturating_sub(waited), "the head of a request took too long"),
                _ => (self.idle.saturating_sub(waited), "no request came"),
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
        let pace = Pace::new(Protocol::Http1);
        assert!(outstays(&pace).await, "a new connection that says nothing");
        let request = pace.request_began();
        pace.bytes_came();
        assert!(!outstays(&pace).await, "the body of a request");
        drop(request);
        assert!(!outstays(&pace).await, "a connection kept for later");
        pace.bytes_came();
        assert!(outstays(&pace).await, "a second head that does not end");
    }

    #[tokio::test]
    async fn a_connection_without_streams_idles_out_whatever_it_pings() {
        let pace = Pace { idle: 3 * PATIENCE, ..Pace::new(Protocol::Http2) };
        let (first, second) = (pace.request_began(), pace.request_began());
        drop(first);
        assert!(!outstays(&pace).await, "one of two streams is open");
        drop(second);
        let pings = async {
            loop {
                pace.bytes_came();
                tokio::time::sleep(PATIENCE / 5).await;
            }
        };
        let began = Clock::monotonic();
        tokio::select! {
            reason = pace.outstayed(PATIENCE) => assert_eq!(reason, "no request came"),
            () = pings => {}
        }
        assert!(Clock::since(began) >= 2 * PATIENCE);
    }
}
