//! What is sent to one session, and what happens when its client is slow.
//!
//! The engine keeps a bounded number of packets for each session, and its own pings need a place there: one that finds
//! none ends the session. So data takes only what leaves places free, and waits otherwise, with its cursor in the ring
//! and nothing in memory. Large packets wait until hardly anything else is kept. Where the client polls, no more is kept
//! than it takes of one answer.

use std::sync::Arc;
use std::time::Duration;

use engineioxide::TransportType;
use engineioxide::socket::{DisconnectReason, Permit, Socket};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep};

use super::SocketIoOptions;
use super::session::Session;

/// Places that data leaves free for pings, answers and ends.
const SPARE: usize = 8;
/// A packet above this many bytes is large.
const LARGE: usize = 4 * 1024;
/// Packets that may still be kept where a large one is added.
const BESIDE_LARGE: usize = 4;
/// Least and most wait before it is looked again whether there is room.
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(25);

/// The least that a session's buffer may hold.
pub(crate) const LEAST_BUFFER: usize = 2 * SPARE;

/// Packets of an answer to a poll that data leaves to others.
const SPARE_OF_A_POLL: usize = 4;

/// The least that one answer to a poll may hold.
pub(crate) const LEAST_POLL: usize = 2 * SPARE_OF_A_POLL;

/// The session is over, or its client takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Where packets for one session go.
#[derive(Clone)]
pub(super) struct Outlet {
    socket: Arc<Socket<Session>>,
    places: usize,
    /// Messages that may be kept for a client that polls.
    poll: usize,
    stall: Duration,
}

enum Room<'a> {
    Free(Permit<'a>),
    Full,
    Gone,
}

impl Outlet {
    /// The outlet of a session that is served with these options.
    pub(super) fn new(socket: Arc<Socket<Session>>, options: &SocketIoOptions) -> Self {
        let poll = options.poll_packets.saturating_sub(SPARE_OF_A_POLL);
        Self { socket, places: options.buffer, poll, stall: options.stall }
    }

    /// Sends what is small and rare, in the places that data leaves free. A client that leaves no room for it asks for
    /// more than it takes, and its session is closed.
    pub(super) fn answer(&self, packet: String) {
        if self.is_polled() {
            self.socket.data.window().squeeze_in();
        }
        if let Err(TrySendError::Full(_)) = self.socket.emit(packet) {
            tracing::debug!(session = %self.socket.id, "A Socket.IO client asks and takes no answers; its session is closed");
            self.close(DisconnectReason::TransportError);
        }
    }

    /// Sends data, as soon as there is room; the packet is empty then. It is still whole where the future is dropped before,
    /// and nothing of it was sent.
    ///
    /// # Errors
    /// [`Gone`] where the session is over, also because its client took nothing for too long.
    pub(super) async fn data(&self, packet: &mut String) -> Result<(), Gone> {
        let (mut wait, mut since) = (*LOOK.start(), None);
        loop {
            let answered = self.socket.data.window().next_answer();
            match self.room(packet.len()) {
                Room::Free(place) => {
                    place.emit(std::mem::take(packet).into());
                    return Ok(());
                }
                Room::Gone => return Err(Gone),
                Room::Full => {}
            }
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.stall {
                tracing::info!(session = %self.socket.id, stall = ?self.stall, "A Socket.IO client takes nothing of what is sent; its session is closed");
                self.close(DisconnectReason::TransportError);
                return Err(Gone);
            }
            tokio::select! {
                () = answered => {}
                () = sleep(wait) => {}
            }
            wait = (wait * 2).min(*LOOK.end());
        }
    }

    /// Ends the session and everything in it.
    pub(super) fn close(&self, reason: DisconnectReason) {
        self.socket.data.end();
        self.socket.close(reason);
    }

    fn is_polled(&self) -> bool {
        self.socket.transport_type() == TransportType::Polling
    }

    /// A place for a packet of so many bytes, where the client takes one more, and as many stay free as must.
    fn room(&self, bytes: usize) -> Room<'_> {
        if !self.is_polled() {
            return self.place(bytes);
        }
        let window = self.socket.data.window();
        if !window.enter(self.poll) {
            return if self.socket.is_closed() { Room::Gone } else { Room::Full };
        }
        let room = self.place(bytes);
        if !matches!(room, Room::Free(_)) {
            window.leave();
        }
        room
    }

    fn place(&self, bytes: usize) -> Room<'_> {
        let free = if bytes > LARGE { self.places.saturating_sub(BESIDE_LARGE) } else { SPARE + 1 };
        let mut places = Vec::with_capacity(free);
        for _ in 0..free.max(1) {
            match self.socket.reserve() {
                Ok(place) => places.push(place),
                Err(TrySendError::Full(())) => return Room::Full,
                Err(TrySendError::Closed(())) => return Room::Gone,
            }
        }
        places.pop().map_or(Room::Full, Room::Free)
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("session", &self.socket.id).finish_non_exhaustive()
    }
}
