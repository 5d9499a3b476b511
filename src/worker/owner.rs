//! What the endpoint asks of whoever owns the objects: the cluster's API server, or a folder of manifests.

use std::pin::Pin;

use crate::api::condition::{Reason, Status};
use crate::api::{AccessKey, AccessKeySpec};
use crate::stream::StreamName;
use crate::telemetry::Category;

/// The answer to a wish, later.
pub type OwnerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, OwnerError>> + Send + 'a>>;

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

    /// All objects and what is the case with each; none where the objects say so themselves.
    fn objects(&self) -> Option<Vec<ObjectView>> {
        None
    }
}
