//! What can go wrong with a remote end, each with what to do about it.

use std::time::Duration;

use crate::api::SecretError;
use crate::api::host::Forbidden;
use crate::telemetry::{Category, Outcome, Reconnect};

/// Why there is no connection, or no longer. The texts are shown to readers: they hold neither secrets, nor queries of
/// addresses, nor what names resolve to.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The operator's list does not have the host.
    #[error("{0} is not among the hosts that the operator allows; ask for it to be added to --outside-hosts")]
    Host(String),
    /// The host is allowed and leads to where nobody may go.
    #[error("{host} leads to {}; Weir never connects to that", .why.as_str())]
    Address {
        /// The host.
        host: String,
        /// What the address is.
        why: Forbidden,
    },
    /// The name is not known.
    #[error("the name {host} cannot be resolved ({error}); check its spelling and the DNS")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        error: std::io::Error,
    },
    /// Nobody answers there.
    #[error("{at} cannot be connected to ({error}); check that it is running and reachable from here")]
    Connect {
        /// Host and port.
        at: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// It took too long.
    #[error("{0} does not answer in time; check that it is running and that no firewall is in between")]
    Timeout(String),
    /// No secure connection.
    #[error("no secure connection to {at} ({text}); check its certificate and that it speaks TLS")]
    Tls {
        /// Host and port.
        at: String,
        /// What is wrong.
        text: String,
    },
    /// The system's roots cannot be read.
    #[error("the system's root certificates cannot be read ({0}); install the package ca-certificates")]
    Roots(String),
    /// Another answer than success.
    #[error("the server answered {code}; {}", remedy(*.code))]
    Status {
        /// The HTTP status.
        code: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It is no stream of events.
    #[error("the server does not answer with text/event-stream; use mode Lines, or check the address")]
    ContentType,
    /// It leads in circles, or nowhere.
    #[error("the server redirects {0}; use the address where the stream really is")]
    Redirect(&'static str),
    /// A secret for a header cannot be had.
    #[error("a secret for the headers cannot be had: {0}")]
    Secret(#[from] SecretError),
    /// A header's value cannot be sent.
    #[error("the value of the header {0} holds characters that no header may hold; check its Secret")]
    Header(String),
    /// The handshake failed.
    #[error("the WebSocket handshake failed ({0}); check that the address is that of a WebSocket")]
    Handshake(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What it sent is more than is taken at once.
    #[error("the server sent a message of more than {0} bytes; send smaller ones")]
    TooLarge(usize),
    /// It is silent even when asked.
    #[error("the server does not answer pings any more")]
    Silent,
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {at} ({error}); check that the address is this machine's and that nobody else uses the port"
    )]
    Listen {
        /// The address.
        at: String,
        /// What the system says.
        error: std::io::Error,
    },
}

fn remedy(code: u16) -> &'static str {
    match code {
        401 | 403 => "check the credentials in the headers",
        404 | 410 => "check the path of the address",
        429 => "it asks for patience: Weir asks later",
        500.. => "look into the server's own log",
        _ => "check the address and the headers",
    }
}

impl RemoteError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Host(_) | Self::Address { .. } => Category::Denied,
            Self::Secret(error) => error.category(),
            Self::Status { code: 401 | 403, .. } => Category::Denied,
            Self::Header(_) | Self::ContentType | Self::Redirect(_) => Category::Invalid,
            _ => Category::Unavailable,
        }
    }

    /// The error as one word for programs. What has the same word is told once.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) | Self::Address { .. } => "NotAllowed",
            Self::Lookup { .. } => "NameNotResolved",
            Self::Connect { .. } => "ConnectFailed",
            Self::Timeout(_) => "Timeout",
            Self::Tls { .. } => "TlsFailed",
            Self::Roots(_) => "NoRootCertificates",
            Self::Status { code: 401 | 403, .. } => "Denied",
            Self::Status { code: 404 | 410, .. } => "NotFound",
            Self::Status { code: 429 | 503, .. } => "Busy",
            Self::Status { .. } => "UnexpectedStatus",
            Self::ContentType => "WrongContentType",
            Self::Redirect(_) => "Redirected",
            Self::Secret(_) => "SecretNotReadable",
            Self::Header(_) => "HeaderNotSendable",
            Self::Handshake(_) => "HandshakeFailed",
            Self::Broken(_) => "ConnectionBroken",
            Self::TooLarge(_) => "MessageTooLarge",
            Self::Silent => "Silent",
            Self::Listen { .. } => "ListenFailed",
        }
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Status { code: 401 | 403, .. } => Outcome::Denied,
            Self::Status { code: 404 | 410, .. } => Outcome::Gone,
            Self::Status { code: 429 | 503, .. } => Outcome::Busy,
            Self::Timeout(_) => Outcome::Timeout,
            _ => Outcome::Error,
        }
    }

    pub(super) fn reconnect(&self) -> Reconnect {
        match self {
            Self::Silent => Reconnect::Silent,
            Self::Broken(_) | Self::TooLarge(_) => Reconnect::Broken,
            _ => Reconnect::Refused,
        }
    }
}
