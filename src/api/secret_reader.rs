//! How secrets that specs refer to are read: the question, without its answer, so that all who ask are below all who
//! answer.

use futures::future::BoxFuture;
use secrecy::SecretString;

use super::SecretKeyRef;
use crate::telemetry::Category;

/// Reads secrets that specs refer to. In a cluster these are Secrets, elsewhere files.
pub trait SecretReader: Send + Sync {
    /// The value, as it is now: asked for again whenever it is needed, so that a changed secret is taken up.
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>>;
}

/// Why a secret cannot be had. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none of that name, or it has no such key.
    #[error("{0}")]
    Missing(String),
    /// Weir may not read it.
    #[error("{0}")]
    Denied(String),
    /// It cannot be read now.
    #[error("{0}")]
    Unavailable(String),
}

impl SecretError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Missing(_) => Category::Invalid,
            Self::Denied(_) => Category::Denied,
            Self::Unavailable(_) => Category::Unavailable,
        }
    }
}

/// For a process that has no secrets.
#[derive(Clone, Copy, Debug)]
pub struct NoSecrets;

impl SecretReader for NoSecrets {
    fn read<'a>(
        &'a self,
        _namespace: &'a str,
        secret: &'a SecretKeyRef,
    ) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let text = format!("the secret {} cannot be read: this process has no access to secrets", secret.name);
        Box::pin(async { Err(SecretError::Missing(text)) })
    }
}
