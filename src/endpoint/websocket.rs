//! One WebSocket with its limits: message size, pings, silence, draining, and a close that says why.

use super::drain::Drain;
use crate::telemetry::Category;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

/// Text that many sockets can send without copying it: a clone is a reference count.
pub use tokio_tungstenite::tungstenite::Utf8Bytes as Text;

/// What one socket may cost, and when it counts as dead. How long a write may stall is one of
/// [`Limits`](super::Limits).
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Bytes of one message from the client; 64 KiB. More closes with 1009.
    pub message_bytes: usize,
    /// How often the server pings; 25 s.
    pub ping_every: Duration,
    /// How long a client may be silent, pongs included; 60 s.
    pub silent: Duration,
    /// How long a client may take until its first accepted start; 60 s.
    pub start_within: Duration,
    /// How long the client has to answer a close; 2 s.
    pub close_within: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            ping_every: Duration::from_secs(25),
            silent: Duration::from_secs(60),
            start_within: Duration::from_secs(60),
            close_within: Duration::from_secs(2),
        }
    }
}

/// A close code, and a reason that says what to do, in at most 123 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    code: u16,
    reason: String,
}

impl Close {
    /// This code, and the reason cut to what a close frame can carry.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        const MOST: usize = 123;
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MOST));
        Self { code, reason }
    }

    /// 1000: everything that was asked for has been sent.
    pub fn done(reason: impl Into<String>) -> Self {
        Self::new(1000, reason)
    }

    /// The code of this category: 1008, 1011 or 1013.
    pub fn because(category: Category, reason: impl Into<String>) -> Self {
        Self::new(category.close_code(), reason)
    }

    /// The close code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// What the client reads.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Why a socket came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed it.
    Left,
    /// The connection broke, or the client took nothing of what was sent.
    Gone,
    /// A message over the limit.
    TooBig,
    /// A text frame that is not UTF-8.
    NotText,
    /// Bytes that are not the protocol.
    Malformed,
    /// Nothing came from the client for too long.
    Silent,
    /// The client never started anything.
    NeverStarted,
    /// Weir is shutting down.
    Draining,
}

impl End {
    /// What to tell the client, where it can still hear.
    pub fn close(self) -> Option<Close> {
        Some(match self {
            Self::Left | Self::Gone => return None,
            Self::TooBig => Close::new(1009, "the message is too big; send less at once"),
            Self::NotText => Close::new(1007, "a text message must be UTF-8"),
            Self::Malformed => Close::new(1002, "these bytes are not the WebSocket protocol"),
            Self::Silent => Close::new(1008, "nothing was heard, not even a pong; connect again"),
            Self::NeverStarted => Close::new(1008, "nothing was started; send a start message after connecting"),
            Self::Draining => Close::new(1001, "the server is shutting down; connect again"),
        })
    }
}

/// What [`Socket::next`] came back with.
#[derive(Debug)]
pub enum Event<T> {
    /// A text message from the client.
    Text(Text),
    /// A binary message from the client.
    Binary(Bytes),
    /// The work that was handed in has finished.
    Work(T),
    /// The socket has come to its end; call [`Socket::end`] after what is queued.
    End(End),
}

/// One WebSocket. A session owns it and alternates between [`Socket::next`] and sending.
///
/// ```text
/// loop {
///     match socket.next(batch_is_ready()).await {
///         Event::Text(text) => answer it with feed, then flush
///         Event::Work(batch) => feed each message of it, then flush once
///         Event::End(end) => { feed what is queued; socket.end(end).await; break }
///         Event::Binary(_) => refuse it
///     }
/// }
/// ```
///
/// Nothing is queued here beyond one buffer of 32 KiB and one message: a slow client makes `feed` and `flush`
/// wait, and one that takes nothing at all ends them with [`End::Gone`].
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    limits: SocketLimits,
    drain: Drain,
    heard: Instant,
    next_ping: Instant,
    start_by: Option<Instant>,
    broken: bool,
}

impl Socket {
    pub(super) async fn new(upgraded: Upgraded, limits: SocketLimits, drain: Drain) -> Self {
        /// Most sockets are idle most of the time; large buffers would be held by each of them.
        const READ: usize = 4 * 1024;
        const WRITE: usize = 32 * 1024;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(WRITE)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let now = Instant::now();
        Self {
            stream,
            heard: now,
            next_ping: now + limits.ping_every,
            start_by: Some(now + limits.start_within),
            limits,
            drain,
            broken: false,
        }
    }

    /// Something was started: the limit on sockets that start nothing no longer holds.
    pub fn started(&mut self) {
        self.start_by = None;
    }

    /// Waits for the client or for `work`, whichever is first; pings meanwhile.
    ///
    /// When the client is first, `work` is dropped where it stands: it must lose nothing by that (a read from a
    /// cursor does not). Dropping the returned future loses nothing either.
    pub async fn next<T>(&mut self, work: impl Future<Output = T>) -> Event<T> {
        tokio::pin!(work);
        let draining = self.drain.draining().clone();
        loop {
            if self.next_ping <= Instant::now() {
                self.next_ping = Instant::now() + self.limits.ping_every;
                if let Err(end) = self.ping().await {
                    return Event::End(end);
                }
            }
            let deadline = self.deadline();
            // The client is heard first: what it sent must count before its silence does.
            let message = tokio::select! {
                biased;
                () = draining.cancelled() => return Event::End(End::Draining),
                message = self.stream.next() => message,
                value = &mut work => return Event::Work(value),
                () = sleep_until(deadline) => match self.overdue() {
                    Some(end) => return Event::End(end),
                    None => continue,
                },
            };
            self.heard = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => return Event::Text(text),
                Some(Ok(Message::Binary(bytes))) => return Event::Binary(bytes),
                Some(Ok(Message::Close(_))) | None => return Event::End(End::Left),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Event::End(self.broke(&error)),
            }
        }
    }

    /// Adds a message to the buffer, writing out what no longer fits. Nothing is sure to leave before
    /// [`Socket::flush`].
    ///
    /// # Errors
    /// [`End::Gone`] or [`End::Left`]: the client can no longer be reached.
    pub async fn feed(&mut self, text: Text) -> Result<(), End> {
        self.push(Some(Message::Text(text))).await
    }

    /// Writes out everything that was fed. Waits for a slow client; gives up on one that takes nothing.
    ///
    /// # Errors
    /// As [`Socket::feed`].
    pub async fn flush(&mut self) -> Result<(), End> {
        self.push(None).await
    }

    /// Sends one message at once.
    ///
    /// # Errors
    /// As [`Socket::feed`].
    pub async fn send(&mut self, text: Text) -> Result<(), End> {
        self.feed(text).await?;
        self.flush().await
    }

    /// Ends the socket the way that fits: closes it, or completes the close that the client began.
    pub async fn end(mut self, end: End) {
        match end.close() {
            Some(close) => self.close(close).await,
            None => {
                let _ = timeout(self.limits.close_within, self.flush()).await;
            }
        }
    }

    /// Sends what was fed, then the close, then waits a moment for the client's answer, so that nothing that is
    /// still on its way is lost to a reset.
    pub async fn close(mut self, close: Close) {
        tracing::debug!(code = close.code, reason = close.reason, "A WebSocket is closed");
        let frame = CloseFrame { code: CloseCode::from(close.code), reason: close.reason.into() };
        if self.push(Some(Message::Close(Some(frame)))).await.is_err() || self.flush().await.is_err() {
            return;
        }
        let _ = timeout(self.limits.close_within, self.hear_out()).await;
    }

    /// Reads until the client has answered the close, or what is left of a message that broke the protocol.
    async fn hear_out(&mut self) {
        const MOST: u64 = 1024 * 1024;
        if self.broken {
            let io = self.stream.get_mut();
            if io.shutdown().await.is_ok() {
                let _ = tokio::io::copy(&mut io.take(MOST), &mut tokio::io::sink()).await;
            }
        } else {
            while let Some(Ok(_)) = self.stream.next().await {}
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.push(Some(Message::Ping(Bytes::new()))).await?;
        self.flush().await
    }

    /// Feeds a message, or flushes where there is none.
    async fn push(&mut self, message: Option<Message>) -> Result<(), End> {
        /// A write that had to wait this long went on because the client took bytes: it is alive.
        const WAITED: Duration = Duration::from_secs(1);
        let began = Instant::now();
        let result = match message {
            Some(message) => self.stream.feed(message).await,
            None => self.stream.flush().await,
        };
        if began.elapsed() >= WAITED {
            self.heard = Instant::now();
        }
        result.map_err(|error| self.broke(&error))
    }

    /// When the next thing is due that only the clock brings about.
    fn deadline(&self) -> Instant {
        let silent = self.heard + self.limits.silent;
        self.start_by.map_or(silent, |by| by.min(silent)).min(self.next_ping)
    }

    fn overdue(&self) -> Option<End> {
        let now = Instant::now();
        if self.heard + self.limits.silent <= now {
            Some(End::Silent)
        } else if self.start_by.is_some_and(|by| by <= now) {
            Some(End::NeverStarted)
        } else {
            None
        }
    }

    fn broke(&mut self, error: &WsError) -> End {
        self.broken = true;
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => End::Left,
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => End::TooBig,
            WsError::Utf8(_) => End::NotText,
            WsError::Protocol(_) | WsError::Capacity(_) | WsError::AttackAttempt => End::Malformed,
            _ => End::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame_and_stays_text() {
        let close = Close::new(1008, "ü".repeat(100));
        assert_eq!(close.reason().len(), 122);
        for end in [End::TooBig, End::NotText, End::Malformed, End::Silent, End::NeverStarted, End::Draining] {
            assert!(end.close().unwrap().reason().len() <= 123);
        }
    }
}
