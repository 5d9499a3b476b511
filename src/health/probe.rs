//! One request, and whether its answer is a good one.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustls_platform_verifier::BuilderVerifierExt;

use super::config::{CheckUrl, HealthError};
use crate::telemetry::Outcome;

/// The longest reason that is repeated, in bytes.
const REASON_BYTES: usize = 200;

/// Why a request does not count as answered. The text holds nothing of the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// No answer in time.
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    /// An answer with this status.
    #[error("it answered with status {0}")]
    Status(u16),
    /// No connection.
    #[error("no connection could be made: {0}")]
    Connect(String),
    /// A connection that broke, or was no HTTP.
    #[error("the request failed: {0}")]
    Broken(String),
}

impl Miss {
    /// How the request ended, as it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout(_) => Outcome::Timeout,
            Self::Status(401 | 403) => Outcome::Denied,
            Self::Status(404 | 410) => Outcome::Gone,
            Self::Status(429 | 503) => Outcome::Busy,
            _ => Outcome::Error,
        }
    }
}

/// Asks addresses, each time over a connection of its own: one that stays could hide that no new one can be made.
#[derive(Clone, Debug)]
pub struct Prober(reqwest::Client);

impl Prober {
    /// With the system's roots. Redirects are an answer and are not followed.
    ///
    /// # Errors
    /// [`HealthError::Client`] where the system's roots cannot be read.
    pub fn new() -> Result<Self, HealthError> {
        let failed = |error: &dyn Error| HealthError::Client(reason(error));
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|error| failed(&error))?
            .with_no_client_auth();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
            .map_err(|error| failed(&error))
    }

    /// Asks once. An answer of 2xx or 3xx is a good one, whatever it holds.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub async fn ask(&self, url: &CheckUrl, timeout: Duration) -> Result<(), Miss> {
        let answer = tokio::time::timeout(timeout, self.0.get(url.whole()).send()).await;
        let answer = answer.map_err(|_| Miss::Timeout(timeout))?.map_err(|error| miss(&error, timeout))?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() { Ok(()) } else { Err(Miss::Status(status.as_u16())) }
    }
}

fn miss(error: &reqwest::Error, timeout: Duration) -> Miss {
    if error.is_timeout() {
        Miss::Timeout(timeout)
    } else if error.is_connect() {
        Miss::Connect(reason(error))
    } else {
        Miss::Broken(reason(error))
    }
}

/// The innermost reason: those around it repeat the address.
fn reason(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let mut text = inner.to_string();
    // The outermost alone may be one that names the address.
    if error.source().is_none() && text.contains("://") {
        text = "the request could not be sent".to_owned();
    }
    crate::record::cut_text(&mut text, REASON_BYTES);
    text
}
