//! The bytes of one connection, whatever is spoken over it.
//!
//! [`Stream`] lies between the socket (or TLS) and hyper, and stays underneath after an upgrade. So what it
//! guarantees holds for every protocol: its place under the caps is taken for exactly as long as the socket is
//! open, an abort reaches it, a client that dribbles a request head is dropped, and so is one that takes nothing
//! of what is written to it.

use super::drain::Drain;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Who is at the other end; an extension of every request (`warp::ext::get::<Peer>()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address as the socket sees it; behind a proxy, the proxy's.
    pub address: SocketAddr,
    /// Counts up from 1 with each connection of this process.
    pub connection: u64,
}

/// How many connections are open, in all and per source.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    per_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One taken place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    pub(super) fn new(total: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { total, per_source, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, or `None` where a cap is reached.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = source_of(address);
        let mut taken = self.taken.lock();
        let here = taken.by_source.get(&source).copied().unwrap_or(0);
        if taken.total >= self.total || here >= self.per_source {
            return None;
        }
        taken.total += 1;
        taken.by_source.insert(source, here + 1);
        Some(Place { places: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total -= 1;
        if let Some(here) = taken.by_source.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 customer is given.
pub(super) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// How many requests of a connection are being answered. While any is, what the client sends is no head.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Busy until the guard is dropped.
    pub(super) fn enter(&self) -> BusyGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// See [`Busy::enter`].
#[derive(Debug)]
pub(super) struct BusyGuard(Busy);

impl BusyGuard {
    /// Busy for ever: the connection no longer carries requests.
    pub(super) fn upgraded(self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Headers that are sent behind a body, once it is known what they are: an extension of a response. They are sent to
/// clients that asked for such (`TE: trailers`), where a `Trailer` header names them.
#[derive(Debug, Clone, Default)]
pub(super) struct Trailers(pub(super) Arc<OnceLock<HeaderMap>>);

/// A response body that keeps its connection busy until it has been sent.
#[derive(Debug)]
pub(super) struct Answering<B> {
    pub(super) body: Pin<Box<B>>,
    pub(super) guard: Option<BusyGuard>,
    pub(super) trailers: Option<Trailers>,
}

impl<B: Body> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        if frame.is_none() {
            let trailers = self.trailers.take().and_then(|trailers| trailers.0.get().cloned());
            if let Some(trailers) = trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            self.guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket of one connection, with its place, its head timeout and its abort.
pub(super) struct Stream<T> {
    io: T,
    busy: Busy,
    timeouts: Timeouts,
    head_deadline: Option<Pin<Box<Sleep>>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    drain: Drain,
    _keep: Keep,
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the first byte of a request head to its last.
    pub(super) head: Duration,
    /// From a write that cannot go on to the first byte that is taken.
    pub(super) stall: Duration,
}

/// What lives exactly as long as the socket.
pub(super) type Keep = (Place, crate::telemetry::Connected, tokio_util::task::task_tracker::TaskTrackerToken);

impl<T> Stream<T> {
    /// Wraps a fresh connection. The first request head is due from now.
    pub(super) fn new(io: T, busy: Busy, timeouts: Timeouts, drain: Drain, keep: Keep) -> Self {
        Self {
            io,
            busy,
            timeouts,
            head_deadline: Some(Box::pin(tokio::time::sleep(timeouts.head))),
            write_deadline: None,
            aborted: Box::pin(drain.closed().clone().cancelled_owned()),
            drain,
            _keep: keep,
        }
    }

    /// Whether the head that is being read is overdue. Registers the waker for when it will be.
    fn poll_head_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if self.busy.is_busy() {
            self.head_deadline = None;
        }
        self.head_deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    /// Bytes came. If no request is being answered, they begin a head, which now has its time to be complete.
    fn heard(&mut self) {
        if self.busy.is_busy() {
            self.head_deadline = None;
        } else if self.head_deadline.is_none() {
            let due = Instant::now() + self.timeouts.head;
            self.head_deadline = Some(Box::pin(tokio::time::sleep_until(due)));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending if self.poll_head_overdue(cx) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head did not arrive in time")))
            }
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.heard();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<T> Stream<T> {
    /// Passes on what a write came to, and turns one that has stalled for too long into an error.
    fn watched<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if self.drain.closed().is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let stall = self.timeouts.stall;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what is sent")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watched(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watched(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_take_the_places_of_others_and_gives_its_own_back() {
        let places = Places::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = places.take(a);
        let second = places.take(a);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(a).is_none(), "the source's cap");
        let third = places.take(b);
        assert!(third.is_some());
        assert!(places.take(b).is_none(), "the cap of all");
        drop((first, second));
        assert!(places.take(a).is_some());
        drop(third);
        assert!(places.taken.lock().by_source.is_empty());
    }

    #[test]
    fn one_ipv6_network_counts_as_one_source() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
