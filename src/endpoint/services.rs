//! What the routes need of the floors below, put together once and shared by all of them.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret;

use super::credentials::{KeyInUrl, Presented};
use super::drain::Drain;
use super::health::Readiness;
use super::origin;
use super::reply::Problem;
use super::socket_io::SocketIoOptions;
use super::sse::EventLimits;
use super::websocket::SocketLimits;
use crate::access::{Authoriser, Denied, Key, KeyRing, Tickets};
use crate::record::Time;
use crate::telemetry::{AuthFailure, Category, Metrics};
use crate::worker::{Declared, Inventory, ObjectOwner};

/// How the endpoint behaves; every field is an option of the command line.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// A further path on which the session socket is served, and under which its REST part is repeated; `/kwirth`.
    pub root_path: String,
    /// Pages that may connect, beside those of the same origin; `*` for all.
    pub allowed_origins: Vec<String>,
    /// Whether a key may stand in a URL.
    pub key_in_url: KeyInUrl,
    /// Whether the server's own numbers may be watched on the metrics socket without a key; false.
    pub public_metrics: bool,
    /// After how long a silence the metrics socket sends a heartbeat; 30 s.
    pub heartbeat: std::time::Duration,
    /// Limits of one socket.
    pub socket: SocketLimits,
    /// How Socket.IO is served.
    pub socket_io: SocketIoOptions,
    /// How responses of events behave.
    pub events: EventLimits,
    /// Instances that one socket may run at a time; 256.
    pub instances_per_socket: usize,
    /// Instances that wait, in all, for their clients to come back; 1,024.
    pub waiting_instances: usize,
    /// How long an instance waits for a client whose connection was lost; 60 s.
    pub reconnect_within: std::time::Duration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            root_path: "/kwirth".into(),
            allowed_origins: Vec::new(),
            key_in_url: KeyInUrl::default(),
            public_metrics: false,
            heartbeat: std::time::Duration::from_secs(30),
            socket: SocketLimits::default(),
            socket_io: SocketIoOptions::default(),
            events: EventLimits::default(),
            instances_per_socket: 256,
            waiting_instances: 1024,
            reconnect_within: std::time::Duration::from_secs(60),
        }
    }
}

/// What Weir says of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    /// The namespace it runs in.
    pub namespace: String,
    /// Whether it runs in a cluster.
    pub in_cluster: bool,
    /// The cluster's name, as configured.
    pub cluster_name: String,
}

/// Everything that routes are made of.
pub struct Services {
    /// The keys.
    pub keyring: Arc<KeyRing>,
    /// Decides what a key may have.
    pub authoriser: Authoriser,
    /// Single-use tickets for clients that cannot set headers.
    pub tickets: Tickets,
    /// The declared streams and, through their supervisor, all others.
    pub declared: Arc<Declared>,
    /// What there is to watch; none where no cluster is connected.
    pub inventory: Option<Inventory>,
    /// Whoever owns the objects; none where they cannot be changed.
    pub owner: Option<Arc<dyn ObjectOwner>>,
    /// Weir's own counters.
    pub metrics: Arc<Metrics>,
    /// How the endpoint stops.
    pub drain: Drain,
    /// Whether it can serve.
    pub readiness: Readiness,
    /// What it says of itself.
    pub info: ServerInfo,
    /// How it behaves.
    pub options: EndpointOptions,
}

impl Services {
    /// The key of a presented string; a refusal is counted.
    ///
    /// # Errors
    /// [`Denied`] where there is no such key or it counts no more.
    pub fn authenticate(&self, presented: &str) -> Result<Arc<Key>, Denied> {
        let key = self.keyring.authenticate(presented, Time::now());
        key.inspect_err(|denied| self.count_refusal(denied))
    }

    /// The key of a request; a refusal is counted.
    ///
    /// # Errors
    /// [`Denied`] where nothing was presented, or it is not, or no longer, good.
    pub fn authenticate_request(&self, presented: Option<&Presented>) -> Result<Arc<Key>, Denied> {
        let key = match presented {
            None => Err(Denied::Missing),
            Some(Presented::Key(key)) => self.keyring.authenticate(key.expose_secret(), Time::now()),
            Some(Presented::Ticket(ticket)) => self.tickets.redeem(ticket.expose_secret(), Time::now()),
        };
        key.inspect_err(|denied| self.count_refusal(denied))
    }

    /// Counts a refusal that is about a key or what it grants.
    pub fn count_refusal(&self, denied: &Denied) {
        if let Some(reason) = denied.auth_failure() {
            self.metrics.auth_failed(reason);
        }
    }

    /// Refuses a page that may not connect. A request without `Origin` comes from no page.
    ///
    /// # Errors
    /// [`Problem`] 403, which names the option.
    pub fn check_origin(&self, headers: &http::HeaderMap) -> Result<(), Problem> {
        if origin::request_allowed(headers, &self.options.allowed_origins) {
            return Ok(());
        }
        self.metrics.auth_failed(AuthFailure::Origin);
        let text = "pages of this origin may not connect; the operator allows them with --allowed-origins";
        Err(Problem::new(Category::Denied, text))
    }
}

/// A refusal as HTTP tells it: 401 where the key itself is missing or wrong, 429 where it has too much open, else by
/// its category.
impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::unauthenticated(),
            denied if denied.is_about_the_key() => Self::wrong_key(denied.to_string()),
            denied @ (Denied::TooManyConnections { .. }
            | Denied::TooManyStreams { .. }
            | Denied::TooManyTickets { .. }) => Self::with_status(StatusCode::TOO_MANY_REQUESTS, denied.to_string())
                .header(RETRY_AFTER, HeaderValue::from_static("5")),
            denied => Self::new(denied.category(), denied.to_string()),
        }
    }
}
