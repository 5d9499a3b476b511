//! What goes wrong with rules, and with telling of them.

use std::time::Duration;

use crate::api::duration::DurationError;
use crate::api::message::MessageError;
use crate::api::pattern::PatternError;
use crate::api::text::ThresholdError;
use crate::api::{SecretError, SecretKeyRef};
use crate::telemetry::Category;

/// Why rules cannot be used. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither a text nor a pattern, or both.
    #[error("the rule {0} needs either text or pattern")]
    Nothing(String),
    /// A pattern does not compile.
    #[error("the pattern of the rule {rule} {source}")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: PatternError,
    },
    /// A threshold cannot be read.
    #[error("the threshold of the rule {rule} {source}")]
    Threshold {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: ThresholdError,
    },
    /// A cooldown cannot be read.
    #[error("the cooldown of the rule {rule} {source}")]
    Cooldown {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: DurationError,
    },
    /// A message cannot be filled in.
    #[error("the message of the rule {rule} {source}")]
    Message {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: MessageError,
    },
    /// All patterns together compile to more than is allowed.
    #[error("the patterns of all rules together are too big once compiled; use fewer or smaller repetitions")]
    TooBig,
}

impl RuleError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        Category::Invalid
    }
}

/// Why receivers cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate that shall be trusted besides the system's cannot be read.
    #[error("a certificate to be trusted for alerts cannot be read; give it as PEM")]
    Certificate,
    /// The client for HTTP cannot be made.
    #[error("alerts cannot be sent over HTTP: the system's certificates cannot be used")]
    Client,
}

/// Why an alert was not delivered. Holds no address and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A secret cannot be read.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// What the receiver is made of cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The receiver may not be reached from here.
    #[error("{0}")]
    NotAllowed(String),
    /// The service says no, and would again.
    #[error("the service refuses the alert: {0}")]
    Refused(String),
    /// The service asks for patience, or has a fault.
    #[error("the service does not take the alert now: {answer}")]
    Busy {
        /// What it says.
        answer: String,
        /// How long it wants to be left alone, where it says.
        wait: Option<Duration>,
    },
    /// The service cannot be reached.
    #[error("the service cannot be reached: {0}")]
    Unreachable(String),
    /// The service did not answer in time.
    #[error("the service did not answer within {}", crate::api::duration::format(*.0))]
    Timeout(Duration),
}

impl Failure {
    /// Whether the same may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Busy { .. } | Self::Unreachable(_) | Self::Timeout(_) => true,
            Self::Invalid(_) | Self::NotAllowed(_) | Self::Refused(_) => false,
        }
    }

    /// The same of an address that stands in a Secret: it says in which, as the address itself is not shown.
    pub(super) fn of_address_in(self, SecretKeyRef { name, key }: &SecretKeyRef) -> Self {
        let told = |text| format!("the address in the Secret {name} (key {key}) cannot be used: {text}");
        match self {
            Self::Invalid(text) => Self::Invalid(told(text)),
            Self::NotAllowed(text) => Self::NotAllowed(told(text)),
            other => other,
        }
    }

    /// How long the service wants to be left alone, where it says.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Secret(error) => error.category(),
            Self::Invalid(_) => Category::Invalid,
            Self::NotAllowed(_) | Self::Refused(_) => Category::Denied,
            Self::Busy { .. } | Self::Unreachable(_) | Self::Timeout(_) => Category::Unavailable,
        }
    }
}
