//! The status of an object: worked out as a whole, written when it changed, and only then.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::errors::{self, Error};
use super::guard::Guarded;
use super::objects::Object;
use crate::api::condition::{READY, Reason, STALLED, STREAMING, Status, VALIDATED, find, reason, set_condition};
use crate::api::{AccessKeyStatus, AlertReceiverStatus, StreamSubscriptionStatus};

/// What all statuses have.
pub(super) trait ObjectStatus: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// The conditions.
    fn conditions(&self) -> &[Condition];
    /// The same with these conditions, speaking of this generation.
    fn with(self, conditions: Vec<Condition>, generation: Option<i64>) -> Self;
}

macro_rules! object_status {
    ($($status:ty),*) => {$(
        impl ObjectStatus for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn with(mut self, conditions: Vec<Condition>, generation: Option<i64>) -> Self {
                self.conditions = conditions;
                self.observed_generation = generation;
                self
            }
        }
    )*};
}

object_status!(AccessKeyStatus, AlertReceiverStatus, StreamSubscriptionStatus);

/// Whether something holds, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) status: Status,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Claim {
    /// Says that something holds or not.
    pub(super) fn new(status: impl Into<Status>, reason: Reason, message: impl Into<String>) -> Self {
        Self { status: status.into(), reason, message: message.into() }
    }
}

/// What a reconciliation found; the conditions are made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) validated: Claim,
    pub(super) ready: Claim,
    pub(super) streaming: Option<Claim>,
    pub(super) stalled: bool,
}

impl Verdict {
    /// The spec makes sense and the object does what it says.
    pub(super) fn ready(message: impl Into<String>) -> Self {
        Self { ready: Claim::new(true, reason::READY, message), ..Self::accepted() }
    }

    /// The spec makes sense, but the object does not work. `stalled` where a person must act.
    pub(super) fn not_ready(reason: Reason, message: impl Into<String>, stalled: bool) -> Self {
        Self { ready: Claim::new(false, reason, message), stalled, ..Self::accepted() }
    }

    /// The spec cannot be used: a person must change it.
    pub(super) fn refused(reason: Reason, message: impl Into<String>) -> Self {
        let claim = Claim::new(false, reason, message);
        Self { validated: claim.clone(), ready: claim, streaming: None, stalled: true }
    }

    /// The object could not be looked at; what is known of its validity stays unsaid.
    pub(super) fn failed(error: &Error) -> Self {
        let message = format!("{error}. {}", remedy(error.reason()));
        Self::not_ready(error.reason(), message.trim_end(), error.needs_a_person())
    }

    /// The same with a claim about the stream.
    pub(super) fn streaming(self, claim: Claim) -> Self {
        Self { streaming: Some(claim), ..self }
    }

    /// Whether `Ready` is another than in these conditions, in its status or its reason.
    pub(super) fn is_news(&self, before: &[Condition]) -> bool {
        let was = find(before, READY).map(|was| (was.status.as_str(), was.reason.as_str()));
        was != Some((self.ready.status.as_str(), self.ready.reason.as_str()))
    }

    fn accepted() -> Self {
        let validated = Claim::new(true, reason::ACCEPTED, "The spec makes sense.");
        let ready = Claim::new(Status::Unknown, reason::PROGRESSING, "");
        Self { validated, ready, streaming: None, stalled: false }
    }

    /// The conditions, where these were there before.
    pub(super) fn conditions(&self, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
        let stalled = if self.stalled {
            Claim { status: Status::True, ..self.ready.clone() }
        } else {
            Claim::new(false, reason::NOT_STALLED, "Nobody needs to do anything.")
        };
        let claims = [
            (READY, Some(&self.ready)),
            (VALIDATED, Some(&self.validated)),
            (STREAMING, self.streaming.as_ref()),
            (STALLED, Some(&stalled)),
        ];
        let mut conditions = Vec::new();
        for (name, claim) in claims {
            let Some(claim) = claim else { continue };
            conditions.extend(find(before, name).cloned());
            set_condition(&mut conditions, name, claim.status, claim.reason, &claim.message, generation, now);
        }
        conditions
    }
}

fn remedy(reason: Reason) -> &'static str {
    if reason == reason::FORBIDDEN {
        "Give Weir's role the right to do so; it is tried again every minute."
    } else {
        ""
    }
}

/// Writes the status, as the one who owns all of it.
///
/// An object that is gone, or was made anew under the same name, is left alone: its own reconciliation comes.
pub(super) async fn write<K: Object>(
    api: &Api<Guarded<K>>,
    metadata: &ObjectMeta,
    status: &K::Status,
) -> Result<(), Error> {
    let name = metadata.name.as_deref().ok_or(Error::Incomplete("name"))?;
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": metadata.uid},
        "status": status,
    });
    let params = PatchParams::apply(K::MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(&patch)).await {
        Err(error) if !errors::is_not_found(&error) && !errors::is_conflict(&error) => {
            Err(Error::api(format!("write the status of {} {name}", K::kind(&())))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_stalled_says_why_and_what_is_not_says_so() {
        let conditions = Verdict::refused(reason::INVALID, "spec.ttl is empty").conditions(&[], Some(4), at(1));
        let stalled = find(&conditions, STALLED).unwrap();
        assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "Invalid"));
        assert_eq!(find(&conditions, READY).unwrap().observed_generation, Some(4));
        let conditions = Verdict::ready("It works.").conditions(&conditions, Some(5), at(2));
        assert_eq!(find(&conditions, STALLED).unwrap().reason, "NotStalled");
    }

    #[test]
    fn the_same_verdict_gives_the_same_conditions_later() {
        let verdict = Verdict::ready("It works.");
        let first = verdict.conditions(&[], Some(1), at(1));
        assert_eq!(verdict.conditions(&first, Some(1), at(9)), first);
    }

    #[test]
    fn a_claim_that_is_no_longer_made_disappears() {
        let streaming =
            Verdict::ready("").streaming(Claim::new(true, reason::STREAMING, "")).conditions(&[], None, at(1));
        assert!(find(&streaming, STREAMING).is_some());
        assert!(find(&Verdict::ready("").conditions(&streaming, None, at(2)), STREAMING).is_none());
    }
}
