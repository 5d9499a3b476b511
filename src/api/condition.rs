//! Conditions: what an object's status says, and why.
//!
//! Every `reason` that Weir ever writes is a constant here, so that people can look each one up and
//! programs can rely on it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The object does what it says. `False` means "in progress or impossible"; see the reason.
pub const READY: &str = "Ready";
/// The spec makes sense and everything in it is implemented.
pub const VALIDATED: &str = "Validated";
/// Records can arrive: the source is running.
pub const STREAMING: &str = "Streaming";
/// A person must act; waiting will not help.
pub const STALLED: &str = "Stalled";

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Status {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Why a condition is what it is: one word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(&'static str);

impl Reason {
    /// As it is written in a condition or an Event.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// All reasons that Weir writes, in conditions and Events.
pub mod reason {
    use super::Reason;

    macro_rules! reasons {
        ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
            $($(#[$doc])* pub const $name: Reason = Reason($text);)*
            /// Every reason, for documentation and tests.
            pub const ALL: &[Reason] = &[$($name),*];
        };
    }

    reasons! {
        /// All is well.
        READY = "Ready";
        /// The spec makes sense.
        ACCEPTED = "Accepted";
        /// Being worked on; look again in a moment.
        PROGRESSING = "Progressing";
        /// The spec makes no sense; the message says where and what to do.
        INVALID = "Invalid";
        /// The object cannot be read at all: a field has a value of the wrong kind.
        MALFORMED = "Malformed";
        /// The spec asks for something that this version does not do.
        NOT_IMPLEMENTED = "NotImplemented";
        /// The spec asks for something that the operator's configuration or the namespace does not allow.
        NOT_ALLOWED = "NotAllowed";
        /// `suspend` is true.
        SUSPENDED = "Suspended";
        /// The key's time is over.
        EXPIRED = "Expired";
        /// A Secret, or a key in it, does not exist.
        SECRET_MISSING = "SecretMissing";
        /// A Secret exists, but what it holds cannot be used.
        SECRET_INVALID = "SecretInvalid";
        /// A Secret of the wanted name exists and belongs to something else.
        SECRET_CONFLICT = "SecretConflict";
        /// The same token is in another AccessKey too.
        DUPLICATE_TOKEN = "DuplicateToken";
        /// A rule names an AlertReceiver that does not exist.
        RECEIVER_MISSING = "ReceiverMissing";
        /// The selection matches no pod now; matching pods are followed when they start.
        NO_MATCHING_PODS = "NoMatchingPods";
        /// Nothing is there to be read now; what comes is read.
        WAITING = "Waiting";
        /// All targets are followed.
        STREAMING = "Streaming";
        /// Some targets are followed and some cannot be.
        DEGRADED = "Degraded";
        /// The source cannot be reached; it is tried again and again.
        SOURCE_UNAVAILABLE = "SourceUnavailable";
        /// The API server refused what Weir must do; a permission is missing.
        FORBIDDEN = "Forbidden";
        /// The API server cannot be reached.
        API_UNAVAILABLE = "ApiUnavailable";
        /// A limit of the operator is reached.
        LIMIT_REACHED = "LimitReached";
        /// The object is being deleted.
        DELETING = "Deleting";
        /// Nothing stands in the way.
        NOT_STALLED = "NotStalled";
        /// A token was made (Event).
        TOKEN_CREATED = "TokenCreated";
        /// A token was replaced by a new one (Event).
        TOKEN_ROTATED = "TokenRotated";
        /// A rule of a subscription fired (Event).
        RULE_FIRED = "RuleFired";
        /// A client's command was carried out (Event).
        COMMAND_DONE = "CommandDone";
        /// A client's command was refused or failed (Event).
        COMMAND_FAILED = "CommandFailed";
        /// A pod or container is followed from now on (Event).
        TARGET_ADDED = "TargetAdded";
        /// A pod or container is not followed any more (Event).
        TARGET_REMOVED = "TargetRemoved";
        /// A mistake in Weir itself; please report it.
        INTERNAL = "Internal";
    }
}

/// Longest message that Kubernetes accepts in a condition, in characters.
const MAX_MESSAGE: usize = 32_768;

/// Sets one condition. `lastTransitionTime` changes only when the status does, so that writing the same
/// state twice writes the same bytes.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: Status,
    reason: Reason,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let existing = conditions.iter().position(|c| c.type_ == type_);
    let since = existing
        .and_then(|i| conditions.get(i))
        .filter(|c| c.status == status.as_str())
        .map_or(now, |c| c.last_transition_time.0);
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        observed_generation,
        last_transition_time: Time(since),
    };
    match existing.and_then(|i| conditions.get_mut(i)) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}

/// The condition of this type, if it is there.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of this type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == Status::True.as_str())
}

/// One line for people: `Ready` with its reason and message, or that nothing is known yet.
pub fn summary(conditions: &[Condition]) -> String {
    match find(conditions, READY) {
        None => "not reconciled yet".to_owned(),
        Some(c) if c.message.is_empty() => format!("Ready={} ({})", c.status, c.reason),
        Some(c) => format!("Ready={} ({}): {}", c.status, c.reason, c.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_changes_only_with_the_status() {
        let mut all = Vec::new();
        set_condition(&mut all, READY, Status::Unknown, reason::PROGRESSING, "a", Some(1), at(1));
        for (status, now, since) in [
            (Status::Unknown, 2, 1),
            (Status::True, 3, 3),
            (Status::True, 4, 3),
            (Status::False, 5, 5),
            (Status::True, 6, 6),
        ] {
            set_condition(&mut all, READY, status, reason::ACCEPTED, "b", Some(now), at(now));
            let [ready] = all.as_slice() else { panic!("{all:?}") };
            assert_eq!(ready.last_transition_time.0, at(since), "{status:?} at {now}");
            assert_eq!((ready.reason.as_str(), ready.observed_generation), ("Accepted", Some(now)));
        }
    }

    #[test]
    fn conditions_of_other_types_stay() {
        let mut all = Vec::new();
        set_condition(&mut all, READY, Status::True, reason::READY, "", None, at(1));
        set_condition(&mut all, STALLED, Status::False, reason::NOT_STALLED, "", None, at(2));
        set_condition(&mut all, READY, Status::False, reason::INVALID, "x", None, at(3));
        assert_eq!(all.len(), 2);
        assert!(!is_true(&all, READY) && !is_true(&all, STALLED) && !is_true(&all, STREAMING));
        assert_eq!(summary(&all), "Ready=False (Invalid): x");
        assert_eq!(summary(&[]), "not reconciled yet");
    }

    #[test]
    fn messages_fit_into_a_condition() {
        let mut all = Vec::new();
        let long = "ä".repeat(MAX_MESSAGE + 1);
        set_condition(&mut all, READY, Status::False, reason::INVALID, &long, None, at(1));
        assert_eq!(all[0].message.chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn reasons_are_words_that_kubernetes_accepts_and_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in reason::ALL {
            let text = reason.as_str();
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()), "{text}");
            assert!(seen.insert(text), "{text} twice");
        }
    }
}
