//! The closed sets of values that a metric label may take.
//!
//! A label never holds text from outside: each value is a variant of an enum here, so the number of series is
//! known when the program is compiled.

use super::Category;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use std::fmt::Write as _;

/// Declares an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value as it stands in the exposition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// What kind of data a stream carries.
    Service {
        /// Lines of text.
        Log = "log",
        /// Samples of a metrics source.
        Metrics = "metrics",
        /// What happened to pods and containers.
        Signal = "signal",
        /// Bytes as they came.
        Raw = "raw",
    }
}

label! {
    /// Why records were dropped before a reader could have them.
    Dropped {
        /// The reader was slower than the ring is long; it was told by a gap signal.
        ReaderBehind = "reader_behind",
        /// The server-side filter of the subscription left them out.
        Filtered = "filtered",
        /// The key's limit of records or bytes per second.
        RateLimit = "rate_limit",
        /// A line longer than the limit lost its tail.
        Truncated = "truncated",
        /// History was full or older than asked for.
        History = "history",
        /// A newer one took its place before a slow client of the metrics socket had taken it.
        Superseded = "superseded",
    }
}

label! {
    /// What became of a point that was to be kept as history.
    HistoryOutcome {
        /// Stored as the newest of its series.
        Stored = "stored",
        /// Took the place of one with the same time.
        Replaced = "replaced",
        /// Older than the newest of its series, and dropped.
        Late = "late",
        /// Of a series too many, and dropped.
        Refused = "refused",
        /// Given up for newer ones, at the bound of the bytes.
        Evicted = "evicted",
    }
}

label! {
    /// What became of a point that was to be kept on disk.
    HistoryDiskOutcome {
        /// Written.
        Written = "written",
        /// Left out: the disk was full, failed, or was too slow.
        Dropped = "dropped",
    }
}

label! {
    /// The kinds of receivers of alerts.
    AlertKind {
        /// Standard output.
        Stdout = "stdout",
        /// A webhook of any kind.
        Webhook = "webhook",
        /// Slack.
        Slack = "slack",
        /// Discord.
        Discord = "discord",
        /// Telegram.
        Telegram = "telegram",
        /// PagerDuty.
        PagerDuty = "pager_duty",
        /// ntfy.
        Ntfy = "ntfy",
        /// Mail through an SMTP server.
        Email = "email",
        /// SendGrid.
        SendGrid = "send_grid",
        /// There is no such receiver.
        Unknown = "unknown",
    }
}

label! {
    /// What became of an alert for one receiver. All but the first are drops.
    AlertOutcome {
        /// The receiver has accepted it.
        Delivered = "delivered",
        /// The receiver refused it for good, or cannot be used as it is.
        Refused = "refused",
        /// It may not be sent to where the receiver says.
        NotAllowed = "not_allowed",
        /// It was tried for as long as an alert is worth telling.
        Expired = "expired",
        /// Too many waited for the receiver already.
        QueueFull = "queue_full",
        /// The receiver is suspended.
        Suspended = "suspended",
        /// There is no receiver of that name.
        NoReceiver = "no_receiver",
        /// The receiver was removed, or Weir was stopped, while it waited.
        Stopped = "stopped",
    }
}

label! {
    /// What Weir asks of an API server or kubelet.
    UpstreamKind {
        /// A connection that stays and delivers.
        Follow = "follow",
        /// A request for what is there already.
        Backlog = "backlog",
        /// A short question, such as whether a container still runs.
        Probe = "probe",
    }
}

label! {
    /// How a request to an upstream ended.
    Outcome {
        /// Answered as hoped.
        Ok = "ok",
        /// Refused for lack of permission (401 or 403).
        Denied = "denied",
        /// What was asked for is not there (404 or 410).
        Gone = "gone",
        /// The upstream asked for patience (429 or 503).
        Busy = "busy",
        /// No answer in time.
        Timeout = "timeout",
        /// Any other failure.
        Error = "error",
    }
}

label! {
    /// Why a connection to an upstream was made again.
    Reconnect {
        /// The upstream ended the response although the container still runs.
        EndedEarly = "ended_early",
        /// The connection broke.
        Broken = "broken",
        /// Nothing arrived for so long that the connection was taken for dead.
        Silent = "silent",
        /// The request was refused and is tried again.
        Refused = "refused",
        /// The container restarted, so its log is a new one.
        ContainerRestart = "container_restart",
    }
}

label! {
    /// What of the machine and its neighbours is watched.
    Watched {
        /// Another system, asked over HTTP.
        SystemCheck = "system_check",
        /// The machine's own resources.
        Resources = "resources",
        /// A sign of life, sent over HTTP.
        Heartbeat = "heartbeat",
    }
}

label! {
    /// A page of a kubelet's metrics.
    ScrapedPage {
        /// `/metrics/cadvisor`
        Cadvisor = "cadvisor",
        /// `/metrics/resource`
        Resource = "resource",
    }
}

label! {
    /// How a client is connected.
    Transport {
        /// Any accepted connection, whatever it carries; those below are counted here as well.
        Http = "http",
        /// An upgraded WebSocket.
        WebSocket = "websocket",
        /// A response of server-sent events.
        Sse = "sse",
        /// A session of Socket.IO, over whatever it is carried.
        SocketIo = "socket_io",
    }
}

label! {
    /// Which part of the endpoint a request was for. Never its path, which comes from outside.
    Route {
        /// The session socket.
        Session = "session",
        /// The metrics socket.
        MetricsSocket = "metrics_socket",
        /// Socket.IO.
        SocketIo = "socket_io",
        /// Declared streams, as events or lines.
        Streams = "streams",
        /// The list of declared streams.
        Subscriptions = "subscriptions",
        /// Streams that producers upload.
        Uploads = "uploads",
        /// What numbers were.
        History = "history",
        /// Tickets.
        Tickets = "tickets",
        /// Access keys managed over REST.
        Keys = "keys",
        /// What clients of the session protocol ask before they connect.
        Config = "config",
        /// Health checks.
        Health = "health",
        /// The scrape of these metrics.
        Scrape = "scrape",
        /// Anything else; most often paths that there are not.
        Other = "other",
    }
}

label! {
    /// The first digit of an HTTP status.
    CodeClass {
        /// 1xx; here that is a connection that became a WebSocket.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl CodeClass {
    /// The class of a status.
    pub fn of(status: http::StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// Whether the request failed.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::ClientError | Self::ServerError)
    }
}

label! {
    /// Why a client was not let in.
    AuthFailure {
        /// No key was presented.
        Missing = "missing",
        /// A header or parameter that cannot hold a key, or several keys at once.
        Malformed = "malformed",
        /// No such key or ticket.
        Unknown = "unknown",
        /// The key's time is over.
        Expired = "expired",
        /// The key is suspended.
        Suspended = "suspended",
        /// The key is good but does not grant this.
        NotGranted = "not_granted",
        /// The page that opened the connection is not on the list of origins.
        Origin = "origin",
    }
}

label! {
    /// The kinds of Weir's own objects; also the names of their controllers.
    Kind {
        /// `AccessKey`.
        AccessKey = "access_key",
        /// `StreamSubscription`.
        StreamSubscription = "stream_subscription",
        /// `AlertReceiver`.
        AlertReceiver = "alert_receiver",
    }
}

label! {
    /// What waits for its turn somewhere in Weir.
    Queue {
        /// AccessKeys that changed and were not looked at since.
        AccessKeys = "access_keys",
        /// StreamSubscriptions that changed and were not looked at since.
        StreamSubscriptions = "stream_subscriptions",
        /// AlertReceivers that changed and were not looked at since.
        AlertReceivers = "alert_receivers",
        /// Tickets that were issued and not used yet.
        Tickets = "tickets",
        /// Alerts that wait for their receivers.
        Alerts = "alerts",
    }
}

impl Queue {
    /// The objects of a kind that wait to be looked at.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::AccessKey => Self::AccessKeys,
            Kind::StreamSubscription => Self::StreamSubscriptions,
            Kind::AlertReceiver => Self::AlertReceivers,
        }
    }
}

label! {
    /// The `Ready` condition of an object.
    Readiness {
        /// `Ready=True`.
        Ready = "true",
        /// `Ready=False`.
        NotReady = "false",
        /// Not reconciled yet.
        Unknown = "unknown",
    }
}

impl EncodeLabelValue for Category {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        })
    }
}
