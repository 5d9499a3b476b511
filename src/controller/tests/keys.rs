//! What the controller of `AccessKey`s asks and writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::controller::Action;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::api_server::Scenario::{ChangeSecret, MakeSecret, Publish, ReadSecret, Refuse, Vanish, WriteStatus};
use super::api_server::{ApiServer, Call, Scenario};
use crate::access::{Denied, KeyRing, Token};
use crate::api::AccessKey;
use crate::controller::access_key::{Context, reconcile};
use crate::controller::guard::Guarded;
use crate::controller::shared::Shared;
use crate::controller::{ControllerConfig, Error};
use crate::record::Time;
use crate::telemetry::Metrics;

const TOKEN: &str = "weir_0123456789abcdef0123456789abcdef";

/// A controller, the API server it talks to, and the key ring it fills.
struct House {
    server: ApiServer,
    context: Arc<Context>,
    writer: Writer<Guarded<AccessKey>>,
}

impl House {
    fn new() -> Self {
        let (client, server) = ApiServer::new();
        let writer = Writer::default();
        let config = Arc::new(ControllerConfig::new("weir-system"));
        let shared = Shared::new(client, config, writer.as_reader(), Metrics::new());
        let nudges = broadcast::channel(8).0;
        Self { server, context: Arc::new(Context { shared, ring: KeyRing::new(), nudges }), writer }
    }

    async fn reconcile(
        &mut self,
        object: &Value,
        expected: impl IntoIterator<Item = Scenario>,
    ) -> (Result<Action, Error>, Vec<Call>) {
        let object: Guarded<AccessKey> = serde_json::from_value(object.clone()).unwrap();
        self.writer.apply_watcher_event(&Event::Apply(object.clone()));
        let work = reconcile(Arc::new(object), Arc::clone(&self.context));
        self.server.expect(expected, work).await
    }

    fn authenticate(&self, token: &str) -> Result<(), Denied> {
        self.context.ring.authenticate(token, Time::now()).map(drop)
    }
}

fn key(change: impl FnOnce(&mut Value)) -> Value {
    let mut key = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "AccessKey",
        "metadata": {
            "name": "dashboard", "namespace": "shop", "uid": "key-uid", "generation": 1,
            "creationTimestamp": "2026-11-01T00:00:00Z",
        },
        "spec": {"grants": [{"services": ["Log"], "scopes": ["View"]}]},
    });
    change(&mut key);
    key
}

/// The Secret that belongs to that key, changed.
fn secret(change: impl FnOnce(&mut Secret)) -> Scenario {
    let mut secret: Secret = serde_json::from_value(json!({
        "metadata": {
            "name": "dashboard", "namespace": "shop", "resourceVersion": "7", "creationTimestamp": "2026-11-01T00:00:01Z",
            "labels": {"app.kubernetes.io/managed-by": "weir", "weir.dev/access-key": "dashboard"},
            "annotations": {"weir.dev/rotated-at": "2026-11-02T00:00:00Z", "weir.dev/format": "Plain"},
            "ownerReferences": [{
                "apiVersion": "weir.dev/v1alpha1", "kind": "AccessKey", "name": "dashboard", "uid": "key-uid",
                "controller": true,
            }],
        },
    }))
    .unwrap();
    secret.data = Some(BTreeMap::from([("token".to_owned(), ByteString(TOKEN.into()))]));
    change(&mut secret);
    ReadSecret(Some(Box::new(secret)))
}

/// The object as it is after that status was written.
fn with_status(mut object: Value, call: &Call) -> Value {
    object["status"] = call.body["status"].clone();
    object
}

fn token_in(call: &Call) -> String {
    let data: ByteString = serde_json::from_value(call.body["data"]["token"].clone()).unwrap();
    String::from_utf8(data.0).unwrap()
}

#[tokio::test]
async fn a_new_key_gets_a_secret_and_then_a_status() {
    let mut house = House::new();
    let expected = [ReadSecret(None), MakeSecret, Publish("TokenCreated"), WriteStatus, Publish("Ready")];
    let (outcome, calls) = house.reconcile(&key(|_| {}), expected).await;
    assert_eq!(outcome.unwrap(), Action::await_change());

    let made = &calls[1];
    assert_eq!(made.path, "/api/v1/namespaces/shop/secrets");
    assert_eq!(made.body["type"], "Opaque");
    assert_eq!(made.body["metadata"]["labels"]["weir.dev/access-key"], "dashboard");
    assert_eq!(made.body["metadata"]["ownerReferences"][0]["uid"], "key-uid");
    let token = token_in(made);
    assert_eq!(house.authenticate(&token), Ok(()));

    let status = &calls[3];
    assert_eq!(status.condition("Ready"), ("True", "Ready"));
    assert_eq!(status.condition("Validated"), ("True", "Accepted"));
    assert_eq!(status.condition("Stalled"), ("False", "NotStalled"));
    assert_eq!(status.body["status"]["observedGeneration"], 1);
    assert_eq!(status.body["status"]["secretName"], "dashboard");
    assert_eq!(status.body["status"]["fingerprint"], Token::parse(&token).unwrap().digest().fingerprint());
    let all = format!("{:?}", calls[2..].iter().map(|call| call.body.to_string()).collect::<Vec<_>>());
    assert!(!all.contains(&token[5..]), "the token must not leave the Secret");
}

#[tokio::test]
async fn what_did_not_change_is_not_written() {
    let mut house = House::new();
    let (_, calls) = house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await;
    let settled = with_status(key(|_| {}), &calls[1]);
    house.reconcile(&settled, [secret(|_| {})]).await.0.unwrap();
    assert_eq!(house.authenticate(TOKEN), Ok(()));
}

#[tokio::test]
async fn a_labelled_secret_without_owner_is_adopted_with_its_token() {
    let mut house = House::new();
    let orphan = secret(|secret| secret.metadata.owner_references = None);
    let rotating = key(|key| key["metadata"]["annotations"] = json!({"weir.dev/rotate": "1"}));
    let expected = [orphan, ChangeSecret, Publish("TokenCreated"), WriteStatus, Publish("Ready")];
    let (_, calls) = house.reconcile(&rotating, expected).await;
    assert_eq!(token_in(&calls[1]), TOKEN);
    assert_eq!(calls[1].body["metadata"]["ownerReferences"][0]["uid"], "key-uid");
    assert_eq!(calls[1].body["metadata"]["annotations"]["weir.dev/rotate"], "1");
    assert_eq!(house.authenticate(TOKEN), Ok(()));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let not_labelled = secret(|secret| secret.metadata.labels = None);
    let of_another = secret(|secret| {
        let owner = &mut secret.metadata.owner_references.as_mut().unwrap()[0];
        (owner.kind, owner.uid) = ("Deployment".into(), "another".into());
    });
    for foreign in [not_labelled, of_another] {
        let mut house = House::new();
        let (_, calls) = house.reconcile(&key(|_| {}), [foreign, WriteStatus, Publish("SecretConflict")]).await;
        assert_eq!(calls[1].condition("Ready"), ("False", "SecretConflict"));
        assert_eq!(calls[1].condition("Stalled"), ("True", "SecretConflict"));
        assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
    }
}

#[tokio::test]
async fn a_secret_of_an_earlier_key_of_that_name_is_waited_out() {
    let mut house = House::new();
    let earlier = secret(|secret| secret.metadata.owner_references.as_mut().unwrap()[0].uid = "another".into());
    let (outcome, calls) = house.reconcile(&key(|_| {}), [earlier, WriteStatus]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "Progressing"));
    assert_ne!(outcome.unwrap(), Action::await_change());
}

#[tokio::test]
async fn the_annotation_gives_a_new_token_once() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let rotating = key(|key| key["metadata"]["annotations"] = json!({"weir.dev/rotate": "again"}));
    let expected = [secret(|_| {}), ChangeSecret, Publish("TokenRotated"), WriteStatus, Publish("Ready")];
    let (_, calls) = house.reconcile(&rotating, expected).await;
    let token = token_in(&calls[1]);
    assert_eq!(calls[1].body["metadata"]["resourceVersion"], "7");
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
    assert_eq!(house.authenticate(&token), Ok(()));

    let answered = secret(|secret| {
        secret.data = Some(BTreeMap::from([("token".to_owned(), ByteString(token.clone().into()))]));
        secret.metadata.annotations = serde_json::from_value(calls[1].body["metadata"]["annotations"].clone()).unwrap();
    });
    house.reconcile(&with_status(rotating, &calls[3]), [answered]).await.0.unwrap();
}

#[tokio::test]
async fn a_deleted_secret_gives_a_new_token() {
    let mut house = House::new();
    let (_, calls) = house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await;
    let settled = with_status(key(|_| {}), &calls[1]);
    let expected = [ReadSecret(None), MakeSecret, Publish("TokenRotated"), WriteStatus];
    let (_, calls) = house.reconcile(&settled, expected).await;
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
    assert_eq!(house.authenticate(&token_in(&calls[1])), Ok(()));
}

#[tokio::test]
async fn another_form_is_another_token() {
    let mut house = House::new();
    let kwirth = key(|key| key["spec"]["format"] = "Kwirth".into());
    let expected = [secret(|_| {}), ChangeSecret, Publish("TokenRotated"), WriteStatus, Publish("Ready")];
    let (_, calls) = house.reconcile(&kwirth, expected).await;
    let token = token_in(&calls[1]);
    assert!(token.contains("|permanent|view:"), "{token}");
    assert_eq!(house.authenticate(&token), Ok(()));
}

#[tokio::test]
async fn a_conflict_with_a_faster_writer_is_an_error_and_tried_again() {
    let mut house = House::new();
    let rotating = key(|key| key["metadata"]["annotations"] = json!({"weir.dev/rotate": "1"}));
    let (outcome, _) = house.reconcile(&rotating, [secret(|_| {}), Refuse(409)]).await;
    assert!(outcome.unwrap_err().to_string().contains("change the Secret dashboard"));
}

#[tokio::test]
async fn an_invalid_spec_takes_the_key_out() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let broken = key(|key| {
        key["spec"]["ttl"] = "soon".into();
        key["spec"]["grants"][0]["scopes"] = json!([]);
    });
    let (_, calls) = house.reconcile(&broken, [WriteStatus, Publish("Invalid")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Invalid"));
    assert_eq!(calls[0].condition("Stalled"), ("True", "Invalid"));
    let message = calls[0].message("Ready");
    assert!(message.contains("spec.ttl") && message.contains("spec.grants[0].scopes"), "{message}");
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
}

#[tokio::test]
async fn suspend_and_expiry_are_told_and_enforced() {
    let mut house = House::new();
    let suspended = key(|key| key["spec"]["suspend"] = true.into());
    let (_, calls) = house.reconcile(&suspended, [secret(|_| {}), WriteStatus, Publish("Suspended")]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "Suspended"));
    assert_eq!(calls[1].condition("Stalled").0, "False");
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Suspended));

    let over = key(|key| key["spec"]["expiresAt"] = "2026-11-02T00:00:00Z".into());
    let (_, calls) = house.reconcile(&over, [secret(|_| {}), WriteStatus, Publish("Expired")]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "Expired"));
    assert!(matches!(house.authenticate(TOKEN), Err(Denied::Expired { .. })));
}

#[tokio::test]
async fn a_ttl_counts_from_the_rotation_and_the_key_is_looked_at_when_it_ends() {
    let mut house = House::new();
    let short = key(|key| key["spec"]["ttl"] = "1h".into());
    let now = Time::now();
    let fresh = secret(|secret| {
        let annotations = secret.metadata.annotations.as_mut().unwrap();
        annotations.insert("weir.dev/rotated-at".into(), now.to_jiff().to_string());
    });
    let (outcome, calls) = house.reconcile(&short, [fresh, WriteStatus, Publish("Ready")]).await;
    let end: jiff::Timestamp = serde_json::from_value(calls[1].body["status"]["expiresAt"].clone()).unwrap();
    assert_eq!(Time::from_jiff(end), now.plus_nanos(3_600_000_000_000));
    assert_ne!(outcome.unwrap(), Action::await_change());
}

#[tokio::test]
async fn a_named_secret_is_used_and_never_changed() {
    let mut house = House::new();
    let named = key(|key| {
        key["spec"]["secretRef"] = json!({"name": "vault", "key": "token"});
        key["metadata"]["annotations"] = json!({"weir.dev/rotate": "1"});
    });
    let (_, calls) = house.reconcile(&named, [ReadSecret(None), WriteStatus, Publish("SecretMissing")]).await;
    assert_eq!(calls[1].condition("Stalled"), ("True", "SecretMissing"));
    assert!(calls[1].message("Ready").contains("kubectl -n shop create secret generic vault"));

    let foreign = || {
        secret(|secret| {
            secret.metadata.labels = None;
            secret.metadata.owner_references = None;
        })
    };
    let (_, calls) = house.reconcile(&named, [foreign(), WriteStatus, Publish("Ready")]).await;
    assert_eq!(calls[1].condition("Ready"), ("True", "Ready"));
    assert!(calls[1].message("Ready").contains("weir.dev/rotate has no effect"));
    assert_eq!(house.authenticate(TOKEN), Ok(()));

    let short = secret(|secret| drop(secret.data.as_mut().unwrap().insert("token".into(), ByteString("x".into()))));
    let (_, calls) = house.reconcile(&named, [short, WriteStatus, Publish("SecretInvalid")]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "SecretInvalid"));
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
}

#[tokio::test]
async fn two_keys_with_one_token_the_younger_is_told() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let younger = key(|key| {
        key["metadata"]["name"] = "thief".into();
        key["metadata"]["creationTimestamp"] = "2026-11-03T00:00:00Z".into();
        key["spec"]["secretRef"] = json!({"name": "dashboard", "key": "token"});
    });
    let (_, calls) = house.reconcile(&younger, [secret(|_| {}), WriteStatus, Publish("DuplicateToken")]).await;
    assert_eq!(calls[1].condition("Stalled"), ("True", "DuplicateToken"));
    assert!(!calls[1].message("Ready").contains("dashboard"), "the other key may be a stranger's");
}

#[tokio::test]
async fn a_malformed_object_is_reported_on_itself_and_opens_nothing() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let malformed = key(|key| key["spec"]["grants"][0]["services"] = json!(["Smell"]));
    let (_, calls) = house.reconcile(&malformed, [WriteStatus, Publish("Malformed")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Malformed"));
    assert!(calls[0].message("Ready").contains("spec.grants[0].services[0]"), "{}", calls[0].message("Ready"));
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
    house.reconcile(&with_status(malformed, &calls[0]), []).await.0.unwrap();
}

#[tokio::test]
async fn while_the_api_server_is_away_keys_stay_as_they_were() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let (outcome, _) = house.reconcile(&key(|_| {}), [Vanish]).await;
    assert!(outcome.unwrap_err().to_string().contains("the API server cannot be reached"));
    assert_eq!(house.authenticate(TOKEN), Ok(()));
}

#[tokio::test]
async fn a_refusal_is_shown_on_the_object() {
    let mut house = House::new();
    let (outcome, calls) = house.reconcile(&key(|_| {}), [Refuse(403), WriteStatus, Publish("Forbidden")]).await;
    assert!(outcome.is_err());
    assert_eq!(calls[1].condition("Stalled"), ("True", "Forbidden"));
    assert!(calls[1].message("Ready").contains("Give Weir's role the right"), "{}", calls[1].message("Ready"));
}

#[tokio::test]
async fn a_key_that_was_deleted_meanwhile_does_not_come_back() {
    let mut house = House::new();
    let object: Guarded<AccessKey> = serde_json::from_value(key(|_| {})).unwrap();
    let work = reconcile(Arc::new(object), Arc::clone(&house.context));
    house.server.expect([secret(|_| {}), WriteStatus, Publish("Ready")], work).await.0.unwrap();
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
}

#[tokio::test]
async fn a_key_on_its_way_out_opens_nothing() {
    let mut house = House::new();
    house.reconcile(&key(|_| {}), [secret(|_| {}), WriteStatus, Publish("Ready")]).await.0.unwrap();
    let leaving = key(|key| key["metadata"]["deletionTimestamp"] = "2026-11-03T00:00:00Z".into());
    let (_, calls) = house.reconcile(&leaving, [WriteStatus, Publish("Deleting")]).await;
    assert_eq!(calls[0].condition("Ready"), ("False", "Deleting"));
    assert_eq!(house.authenticate(TOKEN), Err(Denied::Unknown));
}
