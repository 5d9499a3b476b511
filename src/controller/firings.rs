//! Rules and what concerns them of other objects: Events for those that fire, and receivers that come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use lru::LruCache;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::events::Gravity;
use super::guard::Guarded;
use super::nudges::all;
use super::objects::{Objects, id, reference};
use super::subscription::Context;
use crate::api::StreamSubscription;
use crate::api::condition::reason;
use crate::rule::{Firing, ReceiverName};

/// Least time between two Events about one rule: the stream and the receivers are told each time, an Event is for those who
/// look at the object.
const EVENT_EVERY: Duration = Duration::from_secs(60);
/// Least time between two Events about any rules, so that a storm of alerts is no storm of writes.
const ANY_EVENT_EVERY: Duration = Duration::from_millis(200);
/// How many rules are remembered for that.
const MOST_RULES: usize = 4096;

/// Tells of rules that fire, on their subscriptions, until the channel is closed.
pub(super) async fn tell(mut firings: Receiver<Firing>, context: Arc<Context>) {
    let mut told = LruCache::unbounded();
    loop {
        match firings.recv().await {
            Ok(firing) if is_due(&mut told, &firing, Instant::now()) => {
                if tell_one(&firing, &context).await {
                    tokio::time::sleep(ANY_EVENT_EVERY).await;
                }
            }
            // What was missed is counted, and told in the streams and to the receivers.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Whether the last Event about the rule is long enough ago.
fn is_due(told: &mut LruCache<(String, String), Instant>, firing: &Firing, now: Instant) -> bool {
    let key = (firing.stream.to_string(), firing.rule.clone());
    if told.get(&key).is_some_and(|last| now.duration_since(*last) < EVENT_EVERY) {
        return false;
    }
    told.put(key, now);
    while told.len() > MOST_RULES {
        told.pop_lru();
    }
    true
}

/// Whether the subscription is one of this controller, and was told of.
async fn tell_one(firing: &Firing, context: &Context) -> bool {
    let id = (firing.stream.namespace.clone(), firing.stream.name.clone());
    let Some(object) = context.shared.objects.get(&reference::<StreamSubscription>(&id)) else { return false };
    let Guarded::Readable(subscription) = object.as_ref() else { return false };
    // Who may read Events may not be one who may read the stream.
    let note = format!("The rule {} fired on a record of {}.", firing.rule, firing.source);
    context.shared.tell(&subscription.metadata, Gravity::Warning, "Watch", reason::RULE_FIRED, note).await;
    true
}

/// The subscriptions whose rules name a receiver that came or went.
pub(super) fn concerned(
    changes: Receiver<ReceiverName>,
    objects: Objects<StreamSubscription>,
) -> impl Stream<Item = ObjectRef<Guarded<StreamSubscription>>> + Send {
    stream::unfold(changes, |mut changes| async move {
        match changes.recv().await {
            Ok(name) => Some((Some(name), changes)),
            Err(RecvError::Lagged(_)) => Some((None, changes)),
            Err(RecvError::Closed) => None,
        }
    })
    .map(move |name| {
        stream::iter(match name {
            Some(name) => naming(&objects, &name),
            None => all(&objects),
        })
    })
    .flatten()
}

fn naming(
    objects: &Objects<StreamSubscription>,
    receiver: &ReceiverName,
) -> Vec<ObjectRef<Guarded<StreamSubscription>>> {
    let names = |object: &Guarded<StreamSubscription>| match object {
        Guarded::Readable(subscription) => {
            subscription.metadata.namespace.as_ref() == Some(&receiver.namespace)
                && subscription.spec.rules.iter().any(|rule| rule.receivers.contains(&receiver.name))
        }
        Guarded::Malformed(_) => false,
    };
    let found = objects.state_filter(names);
    found.iter().map(|object| reference::<StreamSubscription>(&id(object.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamName;

    #[test]
    fn an_event_about_a_rule_comes_once_in_a_minute_and_other_rules_have_their_own() {
        let (mut told, start) = (LruCache::unbounded(), Instant::now());
        let firing = |rule: &str| Firing {
            stream: StreamName::new("shop", "carts"),
            rule: rule.to_owned(),
            source: "shop/cart-1/web".to_owned(),
        };
        let mut due = |rule, seconds| is_due(&mut told, &firing(rule), start + Duration::from_secs(seconds));
        assert_eq!(
            [due("a", 0), due("a", 59), due("b", 59), due("a", 60), due("a", 61)],
            [true, false, true, true, false]
        );
    }

    #[test]
    fn what_is_remembered_of_rules_is_bounded() {
        let mut told = LruCache::unbounded();
        for at in 0..MOST_RULES + 10 {
            let stream = StreamName::new("shop", "carts");
            is_due(&mut told, &Firing { stream, rule: at.to_string(), source: String::new() }, Instant::now());
        }
        assert_eq!(told.len(), MOST_RULES);
    }
}
