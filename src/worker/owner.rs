//! What the endpoint asks of whoever owns the objects: the cluster's API server, or a folder of manifests.

use std::pin::Pin;

use super::command::Order;
use crate::api::condition::{Reason, Status};
use crate::api::{AccessKey, AccessKeySpec};
use crate::stream::StreamName;
use crate::telemetry::Category;

/// The answer to a wish, later.
pub type OwnerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, OwnerError>> + Send + 'a>>;

/// A note that is being written.
pub type AuditFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Why a wish was not granted.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// There is no such object.
    #[error("{0} does not exist")]
    NotFound(String),
    /// An object of that name is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// The wish is not valid.
    #[error("{0}")]
    Invalid(String),
    /// Weir itself may not do that: its role lacks the right, or its configuration forbids it.
    #[error("{0}")]
    Denied(String),
    /// The owner cannot be reached.
    #[error("the objects cannot be reached now: {0}")]
    Unavailable(String),
}

impl OwnerError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::NotFound(_) | Self::Exists(_) | Self::Invalid(_) => Category::Invalid,
            Self::Denied(_) => Category::Denied,
            Self::Unavailable(_) => Category::Unavailable,
        }
    }
}

/// A key as an administrator sees it. The token is there only right after the key was made.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// The object.
    pub object: AccessKey,
    /// The token, where the question was for it.
    pub token: Option<secrecy::SecretString>,
}

/// What is the case with an object, where its owner keeps no status in the object itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectView {
    /// Its kind, or `File` for what declares objects.
    pub kind: &'static str,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it does what it says.
    pub ready: Status,
    /// Why.
    pub reason: Reason,
    /// The same for people, with what to do.
    pub message: String,
}

/// What to do with a key.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// Make it; it must not exist.
    Create(AccessKeySpec),
    /// Replace its spec; it must exist.
    Replace(AccessKeySpec),
    /// Delete it.
    Delete,
}

/// Changes objects for clients who may. Implemented by the two ways in which objects arrive.
pub trait ObjectOwner: Send + Sync {
    /// The namespace in which administrators' keys live.
    fn namespace(&self) -> &str;

    /// All keys of that namespace, without their tokens.
    fn keys(&self) -> OwnerFuture<'_, Vec<KeyView>>;

    /// One key of that namespace, with its token.
    fn key<'a>(&'a self, name: &'a str) -> OwnerFuture<'a, KeyView>;

    /// Changes a key of that namespace; the key as it is then, with its token where it was made.
    fn change_key<'a>(&'a self, name: &'a str, change: KeyChange) -> OwnerFuture<'a, Option<KeyView>>;

    /// Suspends a subscription or lets it run again; done when it has taken effect on the object.
    fn suspend<'a>(&'a self, name: &'a StreamName, suspend: bool) -> OwnerFuture<'a, ()>;

    /// Carries out a command on a subscription; done when it has taken effect.
    ///
    /// # Errors
    /// Where this owner carries out none, the subscription is not there, or what it became does not work.
    fn command<'a>(&'a self, order: &'a Order) -> OwnerFuture<'a, ()> {
        let text =
            format!("the StreamSubscription {} takes no commands here; change it where it is kept", order.stream);
        Box::pin(async { Err(OwnerError::Denied(text)) })
    }

    /// Notes with the subscription who asked for what and what came of it, where such notes are kept.
    fn audit<'a>(&'a self, _order: &'a Order, _outcome: Result<(), &'a str>) -> AuditFuture<'a> {
        Box::pin(async {})
    }

    /// All objects and what is the case with each; none where the objects say so themselves.
    fn objects(&self) -> Option<Vec<ObjectView>> {
        None
    }
}
