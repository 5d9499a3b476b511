//! Why somebody does not get something, in words that say what to do.

use chrono::SecondsFormat;

use super::token::TokenError;
use crate::record::Time;
use crate::telemetry::{AuthFailure, Category};

/// A refusal. No message ever holds the key that was presented.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No key came with the request.
    #[error("no access key was given: send one as `Authorization: Bearer KEY` or in the start message")]
    Missing,
    /// What was presented cannot be a key at all.
    #[error("{0}; copy it again from its Secret")]
    Malformed(#[from] TokenError),
    /// No AccessKey has this token.
    #[error("the access key is not known here: it may have been rotated or deleted; ask for a new one")]
    Unknown,
    /// The key's time is over.
    #[error("the access key expired at {}: ask for a new one", .at.to_chrono().to_rfc3339_opts(SecondsFormat::Secs, true))]
    Expired {
        /// When it expired.
        at: Time,
    },
    /// `spec.suspend` is set.
    #[error("the access key is suspended: whoever owns its AccessKey must set `suspend: false`")]
    Suspended,
    /// The AccessKey was deleted while the key was in use.
    #[error("the access key was deleted: ask for a new one")]
    Deleted,
    /// The AccessKey has a new token since.
    #[error("the access key was rotated: read the new one from its Secret")]
    Rotated,
    /// An older AccessKey has the same token, and that one counts.
    #[error("the access key is shared with an older AccessKey: give this one a Secret of its own")]
    Conflicting,
    /// The key's object changed while the request ran.
    #[error("the access key was changed meanwhile: ask again")]
    Changed,
    /// The key is good, but it does not grant this.
    #[error("the access key does not grant {what}: add it to `grants` of its AccessKey")]
    NotGranted {
        /// What was asked for, in the requester's own words, shortened.
        what: String,
    },
    /// The request itself makes no sense: no scope, one that its service does not have, too many names.
    #[error("{why}")]
    Invalid {
        /// What is wrong and what to write instead.
        why: String,
    },
    /// A page asked from an Origin that the key does not list.
    #[error("the access key may not be used by pages from this origin: add it to `allowedOrigins` of its AccessKey")]
    OriginNotAllowed,
    /// `limits.connections` are open.
    #[error("the access key has {limit} connections open, its limit: close one or raise `limits.connections`")]
    TooManyConnections {
        /// The limit that is reached.
        limit: u32,
    },
    /// `limits.streams` are running.
    #[error("the access key has {limit} streams running, its limit: stop one or raise `limits.streams`")]
    TooManyStreams {
        /// The limit that is reached.
        limit: u32,
    },
    /// Too many tickets wait to be redeemed.
    #[error("too many tickets wait to be used: try again in {retry_seconds} seconds")]
    TooManyTickets {
        /// Seconds after which the oldest are gone.
        retry_seconds: u32,
    },
    /// A ticket that was never issued, is used up or too old.
    #[error("the ticket is not valid: it works once and for 30 seconds; ask for a new one")]
    BadTicket,
}

impl Denied {
    /// The category shared by the log, the close code and the HTTP status.
    pub const fn category(&self) -> Category {
        match self {
            Self::Invalid { .. } => Category::Invalid,
            Self::TooManyConnections { .. }
            | Self::TooManyStreams { .. }
            | Self::TooManyTickets { .. }
            | Self::Changed => Category::Unavailable,
            _ => Category::Denied,
        }
    }

    /// Whether the key (or ticket) itself is no good, whatever was asked: `401`, or close code 1008. Where false, the
    /// key is fine and only this request is refused: `403`, `400` or `429`, and a socket stays open.
    pub const fn is_about_the_key(&self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::Malformed(_)
                | Self::Unknown
                | Self::Expired { .. }
                | Self::Suspended
                | Self::Deleted
                | Self::Rotated
                | Self::Conflicting
                | Self::BadTicket
        )
    }

    /// A short, stable name for logs and metric labels.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Malformed(_) => "Malformed",
            Self::Unknown => "Unknown",
            Self::Expired { .. } => "Expired",
            Self::Suspended => "Suspended",
            Self::Deleted => "Deleted",
            Self::Rotated => "Rotated",
            Self::Conflicting => "Conflicting",
            Self::Changed => "Changed",
            Self::NotGranted { .. } => "NotGranted",
            Self::Invalid { .. } => "Invalid",
            Self::OriginNotAllowed => "OriginNotAllowed",
            Self::TooManyConnections { .. } => "TooManyConnections",
            Self::TooManyStreams { .. } => "TooManyStreams",
            Self::TooManyTickets { .. } => "TooManyTickets",
            Self::BadTicket => "BadTicket",
        }
    }

    /// Under which label the refusal of a client is counted; `None` where it is a limit or a slip, not an attempt.
    pub const fn auth_failure(&self) -> Option<AuthFailure> {
        Some(match self {
            Self::Missing => AuthFailure::Missing,
            Self::Malformed(_) => AuthFailure::Malformed,
            Self::Unknown | Self::Deleted | Self::Rotated | Self::Conflicting | Self::BadTicket => AuthFailure::Unknown,
            Self::Expired { .. } => AuthFailure::Expired,
            Self::Suspended => AuthFailure::Suspended,
            Self::NotGranted { .. } => AuthFailure::NotGranted,
            Self::OriginNotAllowed => AuthFailure::Origin,
            _ => return None,
        })
    }

    /// A refusal of `what`, which comes from a client: control characters are taken out and 200 characters kept.
    pub(super) fn not_granted(what: impl AsRef<str>) -> Self {
        const KEPT: usize = 200;
        let what = what.as_ref();
        let mut shown: String = what.chars().filter(|c| !c.is_control()).take(KEPT).collect();
        if what.chars().nth(KEPT).is_some() {
            shown.push('…');
        }
        Self::NotGranted { what: shown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Denied::Missing, Category::Denied, true)]
    #[case(Denied::Unknown, Category::Denied, true)]
    #[case(Denied::Malformed(TokenError::TooShort), Category::Denied, true)]
    #[case(Denied::Suspended, Category::Denied, true)]
    #[case(Denied::BadTicket, Category::Denied, true)]
    #[case(Denied::not_granted("x"), Category::Denied, false)]
    #[case(Denied::OriginNotAllowed, Category::Denied, false)]
    #[case(Denied::Invalid { why: String::new() }, Category::Invalid, false)]
    #[case(Denied::TooManyStreams { limit: 1 }, Category::Unavailable, false)]
    #[case(Denied::Changed, Category::Unavailable, false)]
    fn every_refusal_knows_its_category(#[case] denied: Denied, #[case] category: Category, #[case] about_key: bool) {
        assert_eq!(denied.category(), category);
        assert_eq!(denied.is_about_the_key(), about_key);
    }

    #[test]
    fn what_a_client_wrote_is_shortened_and_harmless() {
        let Denied::NotGranted { what } = Denied::not_granted(format!("a\nb\u{1b}{}", "x".repeat(5000))) else {
            unreachable!()
        };
        assert!(what.starts_with("abx"));
        assert!(what.chars().count() <= 201);
    }
}
