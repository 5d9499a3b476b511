//! `/socket.io/`: Socket.IO 5 over Engine.IO 4, by WebSocket and by long-polling. Every kind of message has its own
//! namespace.
//!
//! | file | what it does |
//! |---|---|
//! | `service` | the requests below `/socket.io/`, and which of them the engine gets |
//! | `hall` | what sessions say, and who is let into which namespace |
//! | `session`, `sessions` | one session; how many there are |
//! | `packet` | packets of Socket.IO as text |
//! | `outlet` | what is sent to one session; slow clients |
//! | `window` | how much is on its way to a client that polls |
//! | `place` | which namespaces there are |
//! | `admit` | keys, and what a client is told that is not let in |
//! | `guest` | one client in one namespace: until when it may stay |
//! | `logs`, `backlog`, `since` | lines |
//! | `news` | status messages and updates |
//! | `commands`, `answer` | commands and their acks |
//!
//! The engine (handshakes, transports, upgrades, pings) is a library. The layer of Socket.IO on it is here, because what
//! is promised needs its inside: which place of a session's buffer is taken by what, and that a namespace that was asked
//! for in vain leaves nothing behind.

mod admit;
mod answer;
mod backlog;
mod commands;
mod guest;
mod hall;
mod logs;
mod news;
mod outlet;
mod packet;
mod place;
mod service;
mod session;
mod sessions;
mod since;
mod window;

use std::time::Duration;

pub use service::SocketIo;

/// The least that [`SocketIoOptions::buffer`] may be.
pub const LEAST_BUFFER: usize = outlet::LEAST_BUFFER;

/// The least that [`SocketIoOptions::poll_packets`] may be.
pub const LEAST_POLL: usize = outlet::LEAST_POLL;

/// How Socket.IO is served; every field but the times is an option of the command line.
#[derive(Clone, Debug)]
pub struct SocketIoOptions {
    /// Whether it is served at all; true.
    pub enabled: bool,
    /// Whether payloads of events are wrapped as `{"payload":…}`; false.
    pub envelope: bool,
    /// Bytes of one request or message of a client, and of what is gathered for one poll; 100,000.
    pub payload_bytes: usize,
    /// Packets that are kept for a client that does not take them yet; 128.
    pub buffer: usize,
    /// Packets of one answer to a poll; 16, because `python-engineio` gives a session up whose answer has more
    /// (`Payload.max_decode_packets`).
    pub poll_packets: usize,
    /// Namespaces that one session may be in; 64.
    pub namespaces_per_socket: usize,
    /// Sessions in all; 4,096.
    pub sockets: usize,
    /// Sessions from one address (one /64 for IPv6); 1,024.
    pub sockets_per_source: usize,
    /// Places in namespaces that are held with one key; 4,096.
    pub sockets_per_key: usize,
    /// Lines of one backlog; 10,000. What is above comes as data.
    pub backlog_lines: usize,
    /// Bytes of one backlog; 1 MiB.
    pub backlog_bytes: usize,
    /// How often the engine pings; 25 s.
    pub ping_every: Duration,
    /// How long a client may take to answer a ping; 20 s.
    pub ping_timeout: Duration,
    /// How long a session may be in no namespace; 10 s.
    pub outside: Duration,
    /// How long a client may take nothing of what is sent, or send half a request; 30 s.
    pub stall: Duration,
}

impl Default for SocketIoOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            envelope: false,
            payload_bytes: 100_000,
            buffer: 128,
            poll_packets: 16,
            namespaces_per_socket: 64,
            sockets: 4096,
            sockets_per_source: 1024,
            sockets_per_key: 4096,
            backlog_lines: 10_000,
            backlog_bytes: 1024 * 1024,
            ping_every: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            outside: Duration::from_secs(10),
            stall: Duration::from_secs(30),
        }
    }
}
