//! Changes of Secrets, as reasons to look at the objects that use them: keys whose tokens they hold, receivers whose
//! addresses.
//!
//! Only the metadata of Secrets is watched, and nothing of it is kept: what an object needs is read when the object is
//! looked at. All Secrets are watched, not only labelled ones, because a spec may name any and a change of a token must
//! take effect at once. One watch serves all controllers of a place.

use std::sync::Arc;

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use super::guard::Guarded;
use super::nudges::all;
use super::objects::{Object, Objects, backoff, id, reference};
use super::pulse::Pulse;
use super::retry::Id;

/// What became of Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One came, changed or went.
    One(Id),
    /// They were listed anew: any may have changed or gone meanwhile.
    Any,
}

/// Watches Secrets and tells of each change, until dropped.
pub(super) async fn tell(api: Api<PartialObjectMeta<Secret>>, pulse: Arc<Pulse>, changes: Sender<Change>) {
    let told = watcher(api, watcher::Config::default()).backoff(backoff()).for_each(|event| {
        pulse.feel(&event);
        let change = match event {
            Ok(Event::Apply(secret) | Event::Delete(secret)) => Some(Change::One(id(&secret))),
            Ok(Event::InitDone) => Some(Change::Any),
            _ => None,
        };
        // When Weir stops, nobody may be listening.
        let _ = change.map(|change| changes.send(change));
        future::ready(())
    });
    told.await;
}

/// The objects that are to be looked at because a Secret changed that they use: `uses` is asked with its name. All of them
/// where it is not known which Secrets did.
pub(super) fn concerned<K: Object>(
    changes: Receiver<Change>,
    objects: Objects<K>,
    uses: impl Fn(&K, &str) -> bool + Send + 'static,
) -> impl Stream<Item = ObjectRef<Guarded<K>>> + Send {
    stream::unfold(changes, |mut changes| async move {
        match changes.recv().await {
            Ok(change) => Some((change, changes)),
            Err(RecvError::Lagged(_)) => Some((Change::Any, changes)),
            Err(RecvError::Closed) => None,
        }
    })
    .map(move |change| {
        stream::iter(match change {
            Change::Any => all(&objects),
            Change::One(secret) => users_of(&objects, &secret, &uses),
        })
    })
    .flatten()
}

fn users_of<K: Object>(
    objects: &Objects<K>,
    (namespace, name): &Id,
    uses: &impl Fn(&K, &str) -> bool,
) -> Vec<ObjectRef<Guarded<K>>> {
    let concerned = |object: &Guarded<K>| match object {
        Guarded::Readable(object) => object.meta().namespace.as_ref() == Some(namespace) && uses(object, name),
        Guarded::Malformed(_) => false,
    };
    let found = objects.state_filter(concerned);
    found.iter().map(|object| reference::<K>(&id(object.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;
    use crate::api::{AccessKey, AlertReceiver};
    use crate::controller::objects::Place;
    use crate::controller::{alert_receiver, secret};
    use http::{Request, Response};
    use kube::Client;
    use kube::runtime::reflector::store::Writer;
    use rstest::rstest;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use tokio::sync::broadcast;

    fn store<K: Object + DeserializeOwned>(objects: &[(&str, &str, Value)]) -> Objects<K> {
        let mut writer = Writer::default();
        for (namespace, name, spec) in objects {
            let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        writer.as_reader()
    }

    fn one(namespace: &str, name: &str) -> Change {
        Change::One((namespace.to_owned(), name.to_owned()))
    }

    /// The objects that are to be looked at after these changes, where so many of them fit into the channel.
    async fn concerned_by<K: Object>(
        objects: Objects<K>,
        uses: fn(&K, &str) -> bool,
        changes: &[Change],
        capacity: usize,
    ) -> Vec<String> {
        let (sender, receiver) = broadcast::channel(capacity);
        for change in changes {
            sender.send(change.clone()).unwrap();
        }
        drop(sender);
        let found =
            concerned(receiver, objects, uses).map(|object| format!("{}/{}", object.namespace.unwrap(), object.name));
        let mut found: Vec<_> = found.collect().await;
        found.sort();
        found
    }

    /// An API server with one Secret, which changes once and is then deleted.
    fn server() -> Client {
        let secret = |version: &str| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"namespace": "shop", "name": "own", "resourceVersion": version}});
        let answer = move |request: Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            async move {
                let lines = match () {
                    () if !query.contains("watch=true") => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"}, "items": [secret("1")]}).to_string(),
                    () if query.contains("resourceVersion=1") => {
                        let events = [json!({"type": "MODIFIED", "object": secret("2")}), json!({"type": "DELETED", "object": secret("3")})];
                        events.map(|event| format!("{event}\n")).concat()
                    }
                    // Nothing more happens.
                    () => future::pending().await,
                };
                Ok::<_, Infallible>(Response::new(kube::client::Body::from(lines.into_bytes())))
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_list_tells_that_any_may_have_changed_and_each_change_of_the_secret_that_it_did() {
        let (client, (sender, mut changes)) = (server(), broadcast::channel(8));
        let pulse = Pulse::new::<Secret>(&client, &Place::Cluster);
        let told = async {
            let mut told = Vec::new();
            while told.len() < 3 {
                told.push(changes.recv().await.unwrap());
            }
            told
        };
        let told = tokio::select! {
            told = tokio::time::timeout(Duration::from_secs(10), told) => told.expect("it takes too long"),
            () = tell(Api::all(client), Arc::clone(&pulse), sender) => panic!("the watch ended"),
        };
        assert_eq!(told, [Change::Any, one("shop", "own"), one("shop", "own")]);
        assert_eq!(pulse.verdict(), Ok(()), "readiness knows that Secrets are watched");
    }

    #[rstest]
    #[case::a_secret_that_keys_use(vec![one("shop", "own")], 8, &["shop/ci", "shop/own"])]
    #[case::a_secret_that_none_uses(vec![one("shop", "other"), one("mall", "own")], 8, &[])]
    #[case::a_new_list(vec![Change::Any], 8, &["bank/own", "shop/ci", "shop/own"])]
    #[case::changes_that_were_missed(vec![one("mall", "own"); 3], 2, &["bank/own", "shop/ci", "shop/own"])]
    #[tokio::test]
    async fn these_keys_are_looked_at_after(
        #[case] changes: Vec<Change>,
        #[case] capacity: usize,
        #[case] wanted: &[&str],
    ) {
        let named = json!({"grants": [], "secretRef": {"name": "own", "key": "k"}});
        let made = json!({"grants": []});
        let keys = [("shop", "own", made.clone()), ("shop", "ci", named), ("bank", "own", made)];
        let uses = |key: &AccessKey, name: &str| secret::name_of(key) == name;
        assert_eq!(concerned_by(store(&keys), uses, &changes, capacity).await, wanted);
    }

    #[rstest]
    #[case::an_address(json!({"slack": {"urlSecretRef": {"name": "s", "key": "k"}}}), true)]
    #[case::an_address_of_a_webhook(json!({"webhook": {"urlSecretRef": {"name": "s", "key": "k"}}}), true)]
    #[case::a_header(
        json!({"webhook": {"url": "https://a.example", "headers": [{"name": "x", "valueFrom": {"name": "s", "key": "k"}}]}}),
        true
    )]
    #[case::a_token(json!({"telegram": {"botTokenSecretRef": {"name": "s", "key": "k"}, "chatId": "1"}}), true)]
    #[case::another_secret(json!({"slack": {"urlSecretRef": {"name": "other", "key": "s"}}}), false)]
    #[case::no_secret(json!({"stdout": {}}), false)]
    #[tokio::test]
    async fn a_receiver_is_looked_at_when_a_secret_changes_that_is_its(
        #[case] spec: Value,
        #[case] is_looked_at: bool,
    ) {
        let receivers = store::<AlertReceiver>(&[("shop", "ops", spec.clone()), ("bank", "ops", spec)]);
        let wanted: &[&str] = if is_looked_at { &["shop/ops"] } else { &[] };
        assert_eq!(concerned_by(receivers, alert_receiver::uses, &[one("shop", "s")], 8).await, wanted);
    }
}
