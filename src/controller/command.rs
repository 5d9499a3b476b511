//! Commands of clients on subscriptions: a change of the object's spec, so that it survives and everybody sees it, and
//! then the wait until it has taken effect.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::errors::is_conflict;
use super::events::{Gravity, News};
use super::guard::Guarded;
use super::owner::{ClusterOwner, LOOK_AGAIN, MANAGER, checked, refused};
use crate::api::StreamSubscription;
use crate::api::condition::{READY, STALLED, find, is_true, reason, summary as summary_of};
use crate::record::Time;
use crate::worker::{Command, Order, OwnerError};

/// How long a change may take to have its effect.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a change is tried again that others were faster than.
const ATTEMPTS: usize = 5;

type Subscriptions = Api<Guarded<StreamSubscription>>;

/// Carries out a command on a subscription; done when its controller has.
pub(super) async fn carry_out(owner: &ClusterOwner, order: &Order) -> Result<(), OwnerError> {
    let what = what(order);
    checked(&order.stream.namespace, &what)?;
    checked(&order.stream.name, &what)?;
    let api: Subscriptions = Api::namespaced(owner.client().clone(), &order.stream.namespace);
    for _ in 0..ATTEMPTS {
        let object = get(&api, order).await?;
        let mut spec = object.spec.clone();
        let applied = order.command.apply(&mut spec, Time::now());
        if !applied.map_err(|error| OwnerError::Invalid(format!("{what}: {error}")))? {
            return effect(&api, order, object.metadata.generation).await;
        }
        let patch = json!({
            // Whoever changed it meanwhile is not overwritten.
            "metadata": {"uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version},
            "spec": {
                "suspend": spec.suspend,
                "stoppedNodes": if spec.stopped_nodes.is_empty() { None } else { Some(spec.stopped_nodes) },
                "restartedAt": spec.restarted_at,
            },
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&order.stream.name, &params, &Patch::Merge(&patch)).await {
            Ok(Guarded::Readable(object)) => return effect(&api, order, object.metadata.generation).await,
            Ok(Guarded::Malformed(malformed)) => return Err(OwnerError::Invalid(malformed.error)),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(refused(&what)(error)),
        }
    }
    Err(OwnerError::Unavailable(format!("{what} is changed by others all the time; try again")))
}

/// Waits until the controller has looked at this generation, and says what came of it.
async fn effect(api: &Subscriptions, order: &Order, generation: Option<i64>) -> Result<(), OwnerError> {
    let looked = async {
        loop {
            let object = get(api, order).await?;
            if let Some(outcome) = outcome(&object, &order.command, generation) {
                return outcome;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| {
        let what = what(order);
        Err(OwnerError::Unavailable(format!(
            "{what} was changed, and that had no effect within {PATIENCE:?}; look at it"
        )))
    })
}

/// What came of a command, where that is known yet.
fn outcome(object: &StreamSubscription, command: &Command, generation: Option<i64>) -> Option<Result<(), OwnerError>> {
    let status = object.status.as_ref().filter(|status| status.observed_generation >= generation)?;
    let ready = find(&status.conditions, READY)?;
    let stopping = matches!(command, Command::Destroy | Command::Stop(_));
    if ready.status == "True" || (stopping && ready.reason == reason::SUSPENDED.as_str()) {
        return Some(Ok(()));
    }
    let failed = is_true(&status.conditions, STALLED) || ready.reason == reason::SUSPENDED.as_str();
    failed.then(|| Err(OwnerError::Invalid(summary_of(&status.conditions))))
}

async fn get(api: &Subscriptions, order: &Order) -> Result<StreamSubscription, OwnerError> {
    match api.get(&order.stream.name).await.map_err(refused(&what(order)))? {
        Guarded::Readable(object) if object.uid().as_deref() == Some(&order.uid) => Ok(object),
        Guarded::Readable(_) => Err(OwnerError::NotFound(what(order))),
        Guarded::Malformed(malformed) => Err(OwnerError::Invalid(malformed.error)),
    }
}

fn what(order: &Order) -> String {
    format!("the StreamSubscription {}", order.stream)
}

/// Tells in an Event who asked for what and what came of it.
pub(super) async fn audit(owner: &ClusterOwner, order: &Order, outcome: Result<(), &str>) {
    let about = ObjectReference {
        api_version: Some(StreamSubscription::api_version(&()).into_owned()),
        kind: Some(StreamSubscription::kind(&()).into_owned()),
        name: Some(order.stream.name.clone()),
        namespace: Some(order.stream.namespace.clone()),
        uid: Some(order.uid.clone()),
        ..ObjectReference::default()
    };
    owner.announcer().tell(&about, news(order, outcome)).await;
}

fn news(order: &Order, outcome: Result<(), &str>) -> News {
    let node = order.command.node().map(|node| format!(" of the node {node}")).unwrap_or_default();
    let asked = format!("The key {} asked for {}{node}", order.by, order.command.as_str());
    match outcome {
        Ok(()) => News {
            gravity: Gravity::Normal,
            action: "Command",
            reason: reason::COMMAND_DONE,
            note: format!("{asked}; it was done."),
        },
        Err(why) => News {
            gravity: Gravity::Warning,
            action: "Command",
            reason: reason::COMMAND_FAILED,
            note: format!("{asked}; it was not done: {why}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::Value;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": "2026-01-31T12:00:00Z"})
    }

    #[rstest]
    #[case::not_looked_at(2, condition(READY, "True", "Ready"), Command::Deploy, None)]
    #[case::deployed(3, condition(READY, "True", "Ready"), Command::Deploy, Some(true))]
    #[case::starting(3, condition(READY, "False", "Progressing"), Command::Deploy, None)]
    #[case::destroyed(3, condition(READY, "False", "Suspended"), Command::Destroy, Some(true))]
    #[case::suspended_by_others(3, condition(READY, "False", "Suspended"), Command::Deploy, Some(false))]
    #[case::stopped(3, condition(READY, "True", "Ready"), Command::Stop("a+b".into()), Some(true))]
    fn a_command_is_done_when_its_generation_has_been_looked_at(
        #[case] observed: i64,
        #[case] ready: Value,
        #[case] command: Command,
        #[case] done: Option<bool>,
    ) {
        let object = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "StreamSubscription", "metadata": {"name": "cart"},
            "spec": {"source": {"podLogs": {"selection": {}}}},
            "status": {"observedGeneration": observed, "conditions": [ready]},
        });
        let object: StreamSubscription = serde_json::from_value(object).unwrap();
        assert_eq!(outcome(&object, &command, Some(3)).map(|outcome| outcome.is_ok()), done);
    }

    #[test]
    fn an_event_says_who_asked_for_what_and_what_came_of_it() {
        let order = Order {
            stream: crate::stream::StreamName::new("shop", "cart"),
            uid: "u".into(),
            command: Command::Stop("cart-0+web".into()),
            by: "shop/team (sha256:0123abcd)".into(),
        };
        let done = news(&order, Ok(()));
        assert_eq!(
            done.note,
            "The key shop/team (sha256:0123abcd) asked for stop of the node cart-0+web; it was done."
        );
        assert_eq!(news(&order, Err("no")).reason, reason::COMMAND_FAILED);
    }
}
