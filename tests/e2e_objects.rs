//! Weir's objects on a real cluster: what is applied takes effect, and the status says what is the case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use weir::access::{Denied, Key, KeyId, KeyState, Token};
use weir::api::condition::find;
use weir::api::crds::{Variant, crds};
use weir::api::{AccessKey, AlertReceiver, StreamSubscription};
use weir::controller::ClusterOwner;
use weir::record::Time;
use weir::stream::StreamName;
use weir::worker::{KeyChange, ObjectOwner, OwnerError};

use cluster::{Cluster, Line, Operator, apply_definition, until};

/// What "within a second" may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn reader() -> Value {
    json!({"spec": {"grants": [{"services": ["Log"], "scopes": ["View"]}]}})
}

/// A key whose spec has this, too.
fn reader_with(more: &Value) -> Value {
    let mut key = reader();
    key["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

async fn key(cluster: &Cluster, name: &str) -> AccessKey {
    cluster.api::<AccessKey>().get(name).await.unwrap()
}

fn is(conditions: &[Condition], name: &str, status: &str, reason: &str) -> bool {
    find(conditions, name).is_some_and(|c| c.status == status && c.reason == reason)
}

/// Waits until a condition of a key is so.
async fn key_is(cluster: &Cluster, name: &str, condition: &str, status: &str, reason: &str) -> AccessKey {
    until(&format!("{name}: {condition}={status} ({reason})"), || async {
        let key = key(cluster, name).await;
        let conditions = key.status.clone()?.conditions;
        let current = find(&conditions, condition)?.observed_generation == key.metadata.generation;
        (current && is(&conditions, condition, status, reason)).then_some(key)
    })
    .await
}

async fn subscription_is(
    cluster: &Cluster,
    name: &str,
    condition: &str,
    status: &str,
    reason: &str,
) -> StreamSubscription {
    until(&format!("{name}: {condition}={status} ({reason})"), || async {
        let object = cluster.api::<StreamSubscription>().get(name).await.unwrap();
        let conditions = object.status.clone()?.conditions;
        is(&conditions, condition, status, reason).then_some(object)
    })
    .await
}

async fn token_in(cluster: &Cluster, secret: &str) -> String {
    let secret = cluster.api::<Secret>().get(secret).await.unwrap();
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

fn authenticate(operator: &Operator, token: &str) -> Result<Arc<Key>, Denied> {
    operator.keyring.authenticate(token, Time::now())
}

/// How a key ends, and that it does so soon.
async fn ended(key: &Key) -> KeyState {
    tokio::time::timeout(SOON, key.ended()).await.expect("the key ends soon")
}

#[tokio::test]
async fn a_key_gets_a_token_that_works_and_kubectl_can_wait_for_it() {
    let cluster = Cluster::new("key").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("first", reader()).await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", "accesskey/first"]).await;

    let token = token_in(&cluster, "first").await;
    let status = key(&cluster, "first").await.status.unwrap();
    assert_eq!(status.fingerprint, Some(Token::parse(&token).unwrap().digest().fingerprint()));
    assert_eq!(status.secret_name.as_deref(), Some("first"));
    assert_eq!(status.observed_generation, Some(1));
    assert!(authenticate(&operator, &token).is_ok());

    let described = cluster.kubectl(&["describe", "accesskey", "first"]).await;
    assert!(described.contains("TokenCreated") && described.contains("The key can be used."), "{described}");
    assert!(!described.contains(&token), "the token is in its Secret only");
    let listed = cluster.kubectl(&["get", "weir"]).await;
    assert!(listed.contains("first") && listed.contains("Ready"), "{listed}");
    operator.stop().await;
}

#[tokio::test]
async fn a_settled_object_is_left_in_peace() {
    let cluster = Cluster::new("peace").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("calm", reader()).await;
    cluster.apply::<StreamSubscription>("calm", json!({"spec": {"source": {"podLogs": {}}}})).await;
    key_is(&cluster, "calm", "Ready", "True", "Ready").await;
    subscription_is(&cluster, "calm", "Ready", "True", "Ready").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let versions = || async {
        let stream = cluster.api::<StreamSubscription>().get("calm").await.unwrap();
        (key(&cluster, "calm").await.resource_version(), stream.resource_version())
    };
    let before = versions().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(versions().await, before);
    operator.stop().await;
}

#[tokio::test]
async fn a_token_is_rotated_by_annotation_and_by_deleting_its_secret() {
    let cluster = Cluster::new("rotate").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("k", reader()).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    let first = token_in(&cluster, "k").await;
    let used = authenticate(&operator, &first).unwrap();

    cluster.kubectl(&["annotate", "accesskey", "k", "weir.dev/rotate=1"]).await;
    assert_eq!(ended(&used).await, KeyState::Rotated);
    let second = token_in(&cluster, "k").await;
    assert_ne!(second, first);
    assert!(authenticate(&operator, &first).is_err());
    let used = authenticate(&operator, &second).unwrap();

    cluster.delete::<Secret>("k").await;
    assert_eq!(ended(&used).await, KeyState::Rotated);
    let third = until("a new Secret", || async { cluster.api::<Secret>().get_opt("k").await.unwrap() }).await;
    let third = String::from_utf8(third.data.unwrap()["token"].0.clone()).unwrap();
    assert!(authenticate(&operator, &third).is_ok());
    let fingerprint = Token::parse(&third).unwrap().digest().fingerprint();
    until("the status shows the new token", || async {
        let status = key(&cluster, "k").await.status?;
        (status.fingerprint.as_ref() == Some(&fingerprint)).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(token_in(&cluster, "k").await, third, "nothing rotates twice");
    operator.stop().await;
}

#[tokio::test]
async fn suspending_cuts_and_resuming_lets_in_again() {
    let cluster = Cluster::new("suspend").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("k", reader()).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    let token = token_in(&cluster, "k").await;
    let used = authenticate(&operator, &token).unwrap();
    cluster.merge::<AccessKey>("k", json!({"spec": {"suspend": true}})).await;
    assert_eq!(ended(&used).await, KeyState::Suspended);
    key_is(&cluster, "k", "Ready", "False", "Suspended").await;
    cluster.merge::<AccessKey>("k", json!({"spec": {"suspend": false}})).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    assert!(authenticate(&operator, &token).is_ok());
    operator.stop().await;
}

#[tokio::test]
async fn a_key_ends_on_time_and_its_status_says_so() {
    let cluster = Cluster::new("expiry").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("short", reader_with(&json!({"ttl": "2s"}))).await;
    key_is(&cluster, "short", "Ready", "True", "Ready").await;
    let used = authenticate(&operator, &token_in(&cluster, "short").await).unwrap();
    assert_eq!(ended(&used).await, KeyState::Expired);
    key_is(&cluster, "short", "Ready", "False", "Expired").await;
    key_is(&cluster, "short", "Stalled", "True", "Expired").await;
    cluster.kubectl(&["annotate", "accesskey", "short", "weir.dev/rotate=1"]).await;
    key_is(&cluster, "short", "Ready", "True", "Ready").await;
    operator.stop().await;
}

#[tokio::test]
async fn an_invalid_object_says_what_is_wrong_while_others_go_on() {
    let cluster = Cluster::new("invalid").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("bad", reader_with(&json!({"expiresAt": "2026-01-01T00:00:00Z", "ttl": "1h"}))).await;
    cluster.apply::<AccessKey>("good", reader()).await;
    let bad = key_is(&cluster, "bad", "Validated", "False", "Invalid").await.status.unwrap();
    assert!(is(&bad.conditions, "Stalled", "True", "Invalid"));
    assert!(find(&bad.conditions, "Ready").unwrap().message.contains("set one of them"));
    key_is(&cluster, "good", "Ready", "True", "Ready").await;

    let unframed = json!({"spec": {"source": {"push": {}}, "filter": {"include": ["a"]}}});
    cluster.apply::<StreamSubscription>("unframed", unframed).await;
    subscription_is(&cluster, "unframed", "Validated", "False", "Invalid").await;
    let nosy = json!({"spec": {"source": {"podLogs": {"selection": {"namespaces": ["kube-system"]}}}}});
    cluster.apply::<StreamSubscription>("nosy", nosy).await;
    subscription_is(&cluster, "nosy", "Validated", "False", "NotAllowed").await;
    cluster.apply::<AlertReceiver>("ops", json!({"spec": {"stdout": {}}})).await;
    until("the receiver is ready", || async {
        let conditions = cluster.api::<AlertReceiver>().get("ops").await.unwrap().status?.conditions;
        is(&conditions, "Ready", "True", "Ready").then_some(())
    })
    .await;
    operator.stop().await;
}

/// The schema of a newer version may let through what this one cannot read.
// It changes a definition for the whole cluster, so nothing else may run beside it: `alone` says so to the runner.
#[tokio::test]
async fn a_malformed_object_alone_is_reported_while_others_go_on() {
    let cluster = Cluster::new("malformed").await;
    let operator = Operator::start(&cluster).await;
    let strict = crds(Variant::Compat).into_iter().find(|crd| crd.spec.names.kind == "AlertReceiver").unwrap();
    let mut lax = json!(strict);
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    apply_definition(&cluster.client, &lax).await;
    let broken = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "AlertReceiver", "metadata": {"name": "broken"},
        "spec": {"stdout": {}, "suspend": "perhaps"}});
    let file = std::env::temp_dir().join(format!("{}.json", cluster.namespace));
    std::fs::write(&file, broken.to_string()).unwrap();
    until("the lax definition is in force", || async {
        let arguments = ["apply", "--validate=false", "-f"];
        let mut command = tokio::process::Command::new("kubectl");
        command.args(["-n", &cluster.namespace]).args(arguments).arg(&file);
        command.output().await.unwrap().status.success().then_some(())
    })
    .await;
    std::fs::remove_file(&file).unwrap();
    let reported = until("the malformed object is reported on itself", || async {
        let listed = cluster.kubectl(&["get", "alertreceiver", "broken", "-o", "json"]).await;
        let object: Value = serde_json::from_str(&listed).unwrap();
        let conditions: Vec<Condition> = serde_json::from_value(object["status"]["conditions"].clone()).ok()?;
        is(&conditions, "Validated", "False", "Malformed").then_some(conditions)
    });
    let reported = reported.await;
    apply_definition(&cluster.client, &json!(strict)).await;
    let message = &find(&reported, "Ready").unwrap().message;
    assert!(message.contains("spec.suspend"), "{message}");
    assert!(cluster.kubectl(&["describe", "alertreceiver", "broken"]).await.contains("Malformed"));

    cluster.apply::<AlertReceiver>("fine", json!({"spec": {"stdout": {}}})).await;
    until("another one is looked at", || async {
        cluster.api::<AlertReceiver>().get("fine").await.unwrap().status.map(drop)
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_deleted_key_ends_at_once_and_its_secret_goes_with_it() {
    let cluster = Cluster::new("delete").await;
    let operator = Operator::start(&cluster).await;
    cluster.apply::<AccessKey>("k", reader()).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    let used = authenticate(&operator, &token_in(&cluster, "k").await).unwrap();
    cluster.delete::<AccessKey>("k").await;
    assert_eq!(ended(&used).await, KeyState::Deleted);
    until("the Secret is gone", || async {
        cluster.api::<Secret>().get_opt("k").await.unwrap().is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_refused_until_it_is_handed_over() {
    let cluster = Cluster::new("foreign").await;
    let operator = Operator::start(&cluster).await;
    let token = "a-token-that-somebody-else-has-written-0000";
    cluster.kubectl(&["create", "secret", "generic", "k", &format!("--from-literal=token={token}")]).await;
    cluster.apply::<AccessKey>("k", reader()).await;
    key_is(&cluster, "k", "Stalled", "True", "SecretConflict").await;
    assert!(authenticate(&operator, token).is_err());
    cluster.kubectl(&["label", "secret", "k", "weir.dev/access-key=k"]).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    assert!(authenticate(&operator, token).is_ok());
    let secret = cluster.api::<Secret>().get("k").await.unwrap();
    assert_eq!(secret.owner_references()[0].kind, AccessKey::kind(&()));
    operator.stop().await;
}

#[tokio::test]
async fn a_named_secret_may_come_later_and_change_at_any_time() {
    let cluster = Cluster::new("named").await;
    let operator = Operator::start(&cluster).await;
    let named = json!({"secretRef": {"name": "vault", "key": "token"}});
    cluster.apply::<AccessKey>("k", reader_with(&named)).await;
    key_is(&cluster, "k", "Ready", "False", "SecretMissing").await;
    let (one, two) = ("a-token-made-elsewhere-0000000000000001", "a-token-made-elsewhere-0000000000000002");
    cluster.apply::<Secret>("vault", json!({"stringData": {"token": one}})).await;
    key_is(&cluster, "k", "Ready", "True", "Ready").await;
    let used = authenticate(&operator, one).unwrap();
    cluster.apply::<Secret>("vault", json!({"stringData": {"token": two}})).await;
    assert_eq!(ended(&used).await, KeyState::Rotated);
    assert!(authenticate(&operator, two).is_ok());
    cluster.delete::<Secret>("vault").await;
    key_is(&cluster, "k", "Ready", "False", "SecretMissing").await;
    assert!(authenticate(&operator, two).is_err());
    operator.stop().await;
}

#[tokio::test]
async fn a_subscription_follows_pods_and_says_so_within_a_second() {
    let cluster = Cluster::new("stream").await;
    let operator = Operator::start(&cluster).await;
    let name = StreamName::new(&cluster.namespace, "all");
    cluster.apply::<StreamSubscription>("all", json!({"spec": {"source": {"podLogs": {}}}})).await;
    subscription_is(&cluster, "all", "Streaming", "False", "NoMatchingPods").await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", "streamsubscription/all"]).await;

    cluster.run("talker", "while true; do echo here; sleep 1; done").await;
    let following = || async { (operator.declared.observe(&name)?.targets == 1).then_some(()) };
    until("the pod is followed", following).await;
    let begin = Instant::now();
    let object = subscription_is(&cluster, "all", "Streaming", "True", "Streaming").await;
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(object.status.unwrap().targets, Some(1));

    cluster.merge::<StreamSubscription>("all", json!({"spec": {"suspend": true}})).await;
    subscription_is(&cluster, "all", "Ready", "False", "Suspended").await;
    assert!(operator.declared.observe(&name).is_none());
    cluster.merge::<StreamSubscription>("all", json!({"spec": {"suspend": false}})).await;
    subscription_is(&cluster, "all", "Ready", "True", "Ready").await;
    cluster.delete::<StreamSubscription>("all").await;
    until("the stream is withdrawn", || async { operator.declared.observe(&name).is_none().then_some(()) }).await;
    operator.stop().await;
}

#[tokio::test]
async fn while_the_api_server_is_away_all_stays_and_what_was_missed_is_made_up_for() {
    let cluster = Cluster::new("away").await;
    let (client, line) = Line::new().await;
    let operator = Operator::start_with(&cluster, client).await;
    cluster.apply::<AccessKey>("stays", reader()).await;
    cluster.apply::<AccessKey>("goes", reader()).await;
    cluster.apply::<StreamSubscription>("goes", json!({"spec": {"source": {"podLogs": {}}}})).await;
    key_is(&cluster, "stays", "Ready", "True", "Ready").await;
    key_is(&cluster, "goes", "Ready", "True", "Ready").await;
    subscription_is(&cluster, "goes", "Ready", "True", "Ready").await;
    let [stays, goes] = [token_in(&cluster, "stays").await, token_in(&cluster, "goes").await];
    let name = StreamName::new(&cluster.namespace, "goes");

    line.cut();
    until("the checks notice", || async { (!operator.is_ready()).then_some(()) }).await;
    cluster.delete::<AccessKey>("goes").await;
    cluster.delete::<StreamSubscription>("goes").await;
    cluster.apply::<AccessKey>("comes", reader()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(authenticate(&operator, &stays).is_ok() && authenticate(&operator, &goes).is_ok());
    assert!(operator.declared.observe(&name).is_some());

    line.mend();
    key_is(&cluster, "comes", "Ready", "True", "Ready").await;
    until("the deleted ones are gone", || async {
        (authenticate(&operator, &goes).is_err() && operator.declared.observe(&name).is_none()).then_some(())
    })
    .await;
    assert!(authenticate(&operator, &stays).is_ok());
    until("the checks pass again", || async { operator.is_ready().then_some(()) }).await;
    operator.stop().await;
}

#[tokio::test]
async fn administrators_manage_keys_and_streams_through_the_owner() {
    let cluster = Cluster::new("owner").await;
    let operator = Operator::start(&cluster).await;
    let owner = ClusterOwner::new(cluster.client.clone(), &cluster.namespace);
    let spec: weir::api::AccessKeySpec = serde_json::from_value(reader()["spec"].clone()).unwrap();

    let made = owner.change_key("k", KeyChange::Create(spec.clone())).await.unwrap().unwrap();
    let token = made.token.unwrap();
    assert!(authenticate(&operator, token.expose_secret()).is_ok());
    let twice = owner.change_key("k", KeyChange::Create(spec.clone())).await;
    assert!(matches!(twice, Err(OwnerError::Exists(_))), "{twice:?}");
    let read = owner.key("k").await.unwrap().token.unwrap();
    assert_eq!(read.expose_secret(), token.expose_secret());

    let suspended = weir::api::AccessKeySpec { suspend: true, ..spec };
    owner.change_key("k", KeyChange::Replace(suspended)).await.unwrap();
    key_is(&cluster, "k", "Ready", "False", "Suspended").await;
    assert_eq!(owner.keys().await.unwrap().len(), 1);
    owner.change_key("k", KeyChange::Delete).await.unwrap();
    assert!(matches!(owner.key("k").await, Err(OwnerError::NotFound(_))));
    assert!(matches!(owner.key("../secrets/k").await, Err(OwnerError::Invalid(_))));
    let id = KeyId::new(&cluster.namespace, "k");
    until("the key is gone", || async { operator.keyring.get(&id).is_none().then_some(()) }).await;

    cluster.apply::<StreamSubscription>("s", json!({"spec": {"source": {"podLogs": {}}}})).await;
    owner.suspend(&StreamName::new(&cluster.namespace, "s"), true).await.unwrap();
    subscription_is(&cluster, "s", "Ready", "False", "Suspended").await;
    operator.stop().await;
}
