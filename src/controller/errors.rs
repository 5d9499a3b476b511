//! What goes wrong between the controllers and the API server.

use http::StatusCode;

use crate::api::condition::{Reason, reason};
use crate::telemetry::Category;

/// Why an object could not be made true. The object is tried again, later and later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do what was asked of it.
    #[error("could not {doing}: {}", summary(.source))]
    Api {
        /// What was being done: `read the Secret shop/dashboard`.
        doing: String,
        /// What came back.
        #[source]
        source: kube::Error,
    },
    /// An object came without something that the API server always sets.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// The worker cannot take anything now.
    #[error(transparent)]
    Worker(#[from] crate::worker::JobError),
}

impl Error {
    /// Turns the client's error into one that says what was being done.
    pub(super) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api { doing, source }
    }

    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Api { source, .. } => category(source),
            Self::Incomplete(_) => Category::Internal,
            Self::Worker(error) => error.category(),
        }
    }

    /// The reason for the object's conditions.
    pub(super) fn reason(&self) -> Reason {
        match self.category() {
            Category::Denied => reason::FORBIDDEN,
            Category::Unavailable => reason::API_UNAVAILABLE,
            Category::Invalid => reason::INVALID,
            Category::Internal => reason::INTERNAL,
        }
    }

    /// Whether a person must act before this can work.
    pub(super) fn needs_a_person(&self) -> bool {
        matches!(self.category(), Category::Denied | Category::Invalid)
    }
}

/// The HTTP status that the API server answered with, if it did.
pub(super) fn code(error: &kube::Error) -> Option<StatusCode> {
    match error {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    }
}

/// Whether the object that was spoken of does not exist.
pub(super) fn is_not_found(error: &kube::Error) -> bool {
    code(error) == Some(StatusCode::NOT_FOUND)
}

/// Whether somebody else was faster, or the object is another one by now.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    code(error) == Some(StatusCode::CONFLICT)
}

/// Whom an answer of the API server concerns.
pub(super) fn category(error: &kube::Error) -> Category {
    match code(error) {
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Category::Denied,
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => Category::Invalid,
        Some(_) => Category::Unavailable,
        None => match error {
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Category::Internal,
            _ => Category::Unavailable,
        },
    }
}

/// The answer in one line for people, without the addresses that the client's own text may hold.
pub(super) fn summary(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            format!("the API server says: {}", status.message)
        }
        kube::Error::Api(status) => format!("the API server answers {}", status.code),
        kube::Error::SerdeError(error) => format!("the answer cannot be read: {error}"),
        _ => "the API server cannot be reached".to_owned(),
    }
}
