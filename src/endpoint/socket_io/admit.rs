//! Who is let into a namespace, and what those are told who are not.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::super::services::Services;
use super::super::subscriptions::{Sees, reading};
use super::hall::Hall;
use super::place::{LogPlace, Place, is_container};
use super::sessions::OfKey;
use super::since::Wish;
use crate::access::{ConnectionPermit, Denied, Key, StreamPermit, following};
use crate::api::{Scope, Service};
use crate::stream::{Located, StreamName};
use crate::telemetry::AuthFailure;

/// What a client is told that is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No key came.
    Unauthorized,
    /// The key is unknown, or counts no more.
    InvalidToken,
    /// The key is good and does not grant this.
    NoAccess,
    /// There is no such namespace.
    InvalidNamespace,
    /// Something that was asked for beside the key makes no sense.
    Invalid(&'static str),
    /// A limit is reached.
    Limit(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "Unauthorized",
            Self::InvalidToken => "Invalid Token",
            Self::NoAccess => "No Access",
            Self::InvalidNamespace => "Invalid namespace",
            Self::Invalid(what) => what,
            Self::Limit(what) => what,
        })
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::Unauthorized,
            Denied::TooManyConnections { .. } | Denied::TooManyStreams { .. } => Self::Limit(denied.to_string()),
            denied if denied.is_about_the_key() => Self::InvalidToken,
            _ => Self::NoAccess,
        }
    }
}

/// What a client is in a namespace for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// Status messages.
    Status,
    /// What changed.
    Updates,
    /// To give commands.
    Commands,
    /// Lines of a stream, or of one container of it.
    Logs { stream: StreamName, service: Service, container: Option<String> },
}

/// What a place in a namespace holds: of the key's own limits, and of the endpoint's.
pub(super) type Permits = (ConnectionPermit, Option<StreamPermit>, OfKey);

/// A client that is let in.
pub(super) struct Admitted {
    pub(super) key: Arc<Key>,
    pub(super) purpose: Purpose,
    pub(super) permits: Permits,
    /// The lines that are wanted.
    pub(super) wish: Option<(Wish, Located)>,
}

/// Looks at what a client presents.
///
/// # Errors
/// [`Refusal`]; whether a namespace is there is told to those only who could be in it.
pub(super) fn admit(
    hall: &Arc<Hall>,
    place: &Place,
    auth: Option<&Value>,
    origin: Option<&str>,
) -> Result<Admitted, Refusal> {
    let services = hall.services();
    let key = services.authenticate(token(auth))?;
    key.allows_origin(origin).inspect_err(|denied| services.count_refusal(denied))?;
    let (purpose, located) = purpose(services, &key, place)?;
    let wish = match located {
        Some(located) => Some((Wish::of(auth).map_err(Refusal::Invalid)?, located)),
        None => None,
    };
    let of_key = hall.keys().take(key.id());
    let of_key = of_key.ok_or_else(|| Refusal::Limit("Too Many Sockets: close some of this key".to_owned()))?;
    let stream = wish.as_ref().map(|_| key.usage().open_stream()).transpose()?;
    let permits = (key.usage().connect()?, stream, of_key);
    Ok(Admitted { key, purpose, permits, wish })
}

/// The key that stands in `auth`; empty where none does.
fn token(auth: Option<&Value>) -> &str {
    auth.and_then(|auth| auth.get("token")).and_then(Value::as_str).unwrap_or_default()
}

fn purpose(services: &Services, key: &Key, place: &Place) -> Result<(Purpose, Option<Located>), Refusal> {
    let purpose = match place {
        Place::Status => Purpose::Status,
        Place::Updates => Purpose::Updates,
        Place::Commands => Purpose::Commands,
        Place::Logs(place) => return log_purpose(services, key, place),
    };
    authorise(services, key, &purpose)?;
    Ok((purpose, None))
}

fn log_purpose(services: &Services, key: &Key, place: &LogPlace) -> Result<(Purpose, Option<Located>), Refusal> {
    let stream = place.stream(&services.declared).ok_or(Refusal::InvalidNamespace)?;
    let located = services.declared.catalogue().locate(&stream);
    let lines = |service| matches!(service, Service::Log | Service::Raw);
    let located = located.filter(|located| lines(located.service));
    let sees = reading(services, key, &stream, located.as_ref().map(|located| located.service));
    if sees.inspect_err(|denied| services.count_refusal(denied))? != Sees::Records {
        services.metrics.auth_failed(AuthFailure::NotGranted);
        return Err(Refusal::NoAccess);
    }
    let located = located.ok_or(Refusal::InvalidNamespace)?;
    if let Some(id) = &place.container
        && !follows(services, &stream, id)
    {
        return Err(Refusal::InvalidNamespace);
    }
    let purpose = Purpose::Logs { stream, service: located.service, container: place.container.clone() };
    Ok((purpose, Some(located)))
}

/// Whether a stream follows a container now.
pub(super) fn follows(services: &Services, stream: &StreamName, container: &str) -> bool {
    services.declared.roster(stream).iter().any(|origin| is_container(origin, container))
}

/// Whether a key may be where a client is.
///
/// # Errors
/// What the key lacks.
pub(super) fn authorise(services: &Services, key: &Key, purpose: &Purpose) -> Result<(), Denied> {
    const ALL: [Service; 4] = [Service::Log, Service::Metrics, Service::Signal, Service::Raw];
    let any = |scope: &dyn Fn(Service) -> Scope| {
        let may = |service| services.authoriser.authorise_service(key, service, scope(service));
        let (first, others) = (may(Service::Log), &ALL[1..]);
        first.or_else(|denied| others.iter().find_map(|service| may(*service).ok()).ok_or(denied))
    };
    let may = match purpose {
        Purpose::Status | Purpose::Updates => any(&following),
        Purpose::Commands => any(&|_| Scope::Command),
        Purpose::Logs { stream, service, .. } => match reading(services, key, stream, Some(*service))? {
            Sees::Records => Ok(()),
            Sees::Signals => Err(Denied::NotGranted { what: format!("the lines of the stream `{stream}`") }),
        },
    };
    may.inspect_err(|denied| services.count_refusal(denied))
}
