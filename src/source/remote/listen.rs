//! Accepts connections of senders, such as those of syslog, and reads what they send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::error::RemoteError;
use super::framing::Framing;
use super::life::{Link, Over, Session};
use super::network::{at, keep_alive};
use super::tcp::READ;
use crate::api::duration;
use crate::record::{Event, Level, Origin};
use crate::source::feed::Feed;

/// How many senders may be connected to one source: each costs up to a line of memory.
pub(super) const SENDERS: usize = 256;
/// After an accept that failed, because the system had nothing left to give, it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// One address, listened on.
pub(super) struct Listen {
    host: String,
    port: u16,
    most: usize,
    /// A sender that sends nothing for so long is disconnected.
    idle: Duration,
    /// Where it listens, for those that let the system choose a port.
    #[cfg(test)]
    pub bound: Option<tokio::sync::watch::Sender<Option<SocketAddr>>>,
}

impl Listen {
    pub fn new(host: String, port: u16, idle: Duration) -> Self {
        Self {
            host,
            port,
            most: SENDERS,
            idle,
            #[cfg(test)]
            bound: None,
        }
    }

    /// The same, with room for another number of senders.
    #[cfg(test)]
    pub fn with_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    async fn accept(&mut self, link: &mut Link) -> Result<Over, RemoteError> {
        let failed = |error| RemoteError::Listen { at: at(&self.host, self.port), error };
        let listener = TcpListener::bind((self.host.as_str(), self.port)).await.map_err(failed)?;
        #[cfg(test)]
        if let Some(bound) = &self.bound {
            bound.send_replace(listener.local_addr().ok());
        }
        link.connected();
        let mut senders = FuturesUnordered::new();
        let mut full = false;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) if senders.len() < self.most => {
                        full = false;
                        senders.push(Sender::of(link, self.port, peer).read(stream, self.idle));
                    }
                    Ok(_) => {
                        link.metrics().connections_refused.inc();
                        if !std::mem::replace(&mut full, true) {
                            link.full(self.most);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a sender could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some((sender, ended)) = senders.next() => sender.gone(link, ended, self.idle),
            }
        }
    }
}

impl Session for Listen {
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>> {
        self.accept(link).boxed()
    }
}

impl Link {
    fn full(&self, most: usize) {
        let text = format!(
            "{most} senders are connected, and no more are accepted until one leaves; spread them over several \
             subscriptions."
        );
        self.signal(Level::Warning, Event::SourceError, self.origin(), text, "TooManyConnections");
    }
}

/// How a sender's connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The sender ended it, or it broke.
    Left,
    /// The sender was silent for too long.
    Idle,
}

/// One sender that is connected.
struct Sender {
    origin: Arc<Origin>,
    feed: Feed,
    /// Both are there for as long as the sender is.
    member: super::members::Member,
    _connected: super::members::Connected,
}

impl Sender {
    fn of(link: &Link, port: u16, peer: SocketAddr) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let origin = Origin { pod: peer.to_string(), container: format!("tcp/{port}"), ..Origin::default() };
        let origin = Arc::new(origin);
        let member = link.members().join(&origin);
        let text = format!("Remote source ADDED: {}", origin.pod);
        link.signal(Level::Info, Event::Added, &origin, text, "");
        Self { feed: link.feed_of(&origin), _connected: link.members().connect(), member, origin }
    }

    /// Reads until the sender leaves, or says nothing for as long as `idle`.
    async fn read(mut self, mut stream: TcpStream, idle: Duration) -> (Self, Ended) {
        keep_alive(&stream);
        let mut framing = Framing::default();
        let mut buffer = BytesMut::with_capacity(READ);
        let ended = loop {
            buffer.clear();
            match tokio::time::timeout(idle, stream.read_buf(&mut buffer)).await {
                Ok(Ok(0)) => {
                    framing.finish(&mut self.feed, false);
                    break Ended::Left;
                }
                Ok(Ok(_)) => framing.push(&mut self.feed, &buffer),
                Ok(Err(error)) => {
                    tracing::debug!(sender = %self.origin.pod, %error, "a sender's connection broke");
                    framing.finish(&mut self.feed, true);
                    break Ended::Left;
                }
                Err(_) => {
                    framing.finish(&mut self.feed, true);
                    break Ended::Idle;
                }
            }
        };
        (self, ended)
    }

    fn gone(self, link: &Link, ended: Ended, idle: Duration) {
        let Self { origin, member, .. } = self;
        drop(member);
        let mut text = format!("Remote source DELETED: {}", origin.pod);
        let reason = match ended {
            Ended::Left => "",
            Ended::Idle => {
                link.metrics().senders_idle.inc();
                text.push_str(&format!(", which sent nothing for {} (idleTimeout)", duration::format(idle)));
                "Idle"
            }
        };
        link.signal(Level::Info, Event::Deleted, &origin, text, reason);
    }
}
