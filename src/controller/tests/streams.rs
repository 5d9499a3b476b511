//! What the controller of `StreamSubscription`s asks and writes.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api_server::Scenario::{Publish, Vanish, WriteStatus};
use super::api_server::{ApiServer, Call, Scenario};
use crate::api::StreamSubscription;
use crate::controller::guard::Guarded;
use crate::controller::shared::Shared;
use crate::controller::{ClusterSecrets, ControllerConfig, Error, firings, subscription};
use crate::record::{Batch, Origin, Time};
use crate::rule::{Firing, Reach, ReceiverName, Receivers, ReceiversConfig};
use crate::source::Sources;
use crate::source::pods::{FollowHub, HubConfig, IndexScope, PodIndex};
use crate::stream::{Catalogue, StreamName};
use crate::telemetry::Metrics;
use crate::worker::{Alarms, Declared, Supervisor, SupervisorConfig};

/// A controller, the API server it talks to, and the streams that it declares. Their pods are never listed.
struct House {
    server: ApiServer,
    _pods: ApiServer,
    context: Arc<subscription::Context>,
    alarms: Arc<Alarms>,
    writer: Writer<Guarded<StreamSubscription>>,
}

impl House {
    fn new() -> Self {
        let (client, server) = ApiServer::new();
        let (pods_client, pods) = ApiServer::new();
        let writer = Writer::default();
        let config = Arc::new(ControllerConfig::new("weir-system"));
        let shared = Shared::new(client, config, writer.as_reader(), Metrics::new());
        let declared = declared(pods_client);
        let alarms = alarms(&ApiServer::new().0);
        let reported = Mutex::default();
        let context = Arc::new(subscription::Context { shared, declared, alarms: Arc::clone(&alarms), reported });
        Self { server, _pods: pods, context, alarms, writer }
    }

    async fn reconcile(
        &mut self,
        object: &Value,
        expected: impl IntoIterator<Item = Scenario>,
    ) -> (Result<(), Error>, Vec<Call>) {
        let object: Guarded<StreamSubscription> = serde_json::from_value(object.clone()).unwrap();
        self.writer.apply_watcher_event(&Event::Apply(object.clone()));
        let work = subscription::reconcile(Arc::new(object), Arc::clone(&self.context));
        let (outcome, calls) = self.server.expect(expected, work).await;
        (outcome.map(drop), calls)
    }

    fn is_at_work(&self) -> bool {
        self.context.declared.observe(&StreamName::new("shop", "carts")).is_some()
    }
}

/// Alarms whose receivers' secrets are read through `client`, and which reach the public services alone.
pub(super) fn alarms(client: &kube::Client) -> Arc<Alarms> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ReceiversConfig::new(Reach::public_and(vec![]));
    let (metrics, tracker, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
    let secrets = Arc::new(ClusterSecrets::new(client.clone()));
    Alarms::new("weir-0", Receivers::new(config, secrets, metrics, tracker, cancel).unwrap())
}

fn declared(client: kube::Client) -> Arc<Declared> {
    let (metrics, tracker, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
    let index = PodIndex::start(&client, &IndexScope::Cluster, &tracker, &cancel);
    let hub =
        FollowHub::new(client, index, HubConfig::default(), Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let supervisor = Supervisor::new(
        Sources::of_logs(hub, Arc::clone(&metrics)),
        SupervisorConfig::default(),
        metrics,
        tracker.clone(),
        cancel,
    );
    Declared::new(supervisor, Arc::new(Catalogue::default()), tracker)
}

fn carts(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "StreamSubscription",
        "metadata": {"name": "carts", "namespace": "shop", "uid": "sub-uid", "generation": 1},
        "spec": {"source": {"podLogs": {"selection": {"groups": ["deployment+cart"]}}}},
    });
    change(&mut object);
    object
}

fn with_status(mut object: Value, call: &Call) -> Value {
    object["status"] = call.body["status"].clone();
    object
}

#[tokio::test]
async fn a_subscription_is_put_to_work_and_told_to_be_on_its_way() {
    let mut house = House::new();
    let (outcome, calls) = house.reconcile(&carts(|_| {}), [WriteStatus]).await;
    outcome.unwrap();
    assert!(house.is_at_work());
    assert_eq!(calls[0].condition("Validated"), ("True", "Accepted"));
    assert_eq!(calls[0].condition("Ready"), ("False", "Progressing"));
    assert_eq!(calls[0].condition("Streaming"), ("Unknown", "Progressing"));
    assert_eq!(calls[0].condition("Stalled").0, "False");
    assert_eq!(calls[0].body["status"]["streamName"], "shop/carts");
    house.reconcile(&with_status(carts(|_| {}), &calls[0]), []).await.0.unwrap();
}

#[tokio::test]
async fn targets_that_change_all_the_time_are_reported_once_in_an_interval() {
    let mut house = House::new();
    let reported = |targets: i32| {
        carts(|object| {
            object["status"] = json!({"observedGeneration": 1, "targets": targets});
        })
    };
    house.reconcile(&reported(5), [WriteStatus]).await.0.unwrap();
    house.reconcile(&reported(7), []).await.0.unwrap();
    let mut changed = reported(7);
    changed["metadata"]["generation"] = 2.into();
    house.reconcile(&changed, [WriteStatus]).await.0.unwrap();
}

#[tokio::test]
async fn an_invalid_one_is_withdrawn_and_says_everything_that_is_wrong() {
    let mut house = House::new();
    house.reconcile(&carts(|_| {}), [WriteStatus]).await.0.unwrap();
    let broken = carts(|object| {
        object["spec"]["source"]["podLogs"]["selection"]["groups"] = json!(["(["]);
        object["spec"]["filter"] = json!({"include": ["("]});
    });
    let (_, calls) = house.reconcile(&broken, [WriteStatus, Publish("Invalid")]).await;
    assert!(!house.is_at_work());
    assert_eq!(calls[0].condition("Stalled"), ("True", "Invalid"));
    let message = calls[0].message("Validated");
    assert!(message.contains("selection.groups[0]") && message.contains("spec.filter.include[0]"), "{message}");
}

#[tokio::test]
async fn what_a_source_cannot_do_is_refused() {
    let mut house = House::new();
    let push = carts(|object| object["spec"] = json!({"source": {"push": {}}, "filter": {"include": ["a"]}}));
    let (_, calls) = house.reconcile(&push, [WriteStatus, Publish("Invalid")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Invalid"));
    assert!(calls[0].message("Ready").contains("framing"), "{}", calls[0].message("Ready"));
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn history_on_disk_is_refused_where_the_operator_has_no_folder_for_it() {
    let mut house = House::new();
    let on_disk = carts(|object| {
        object["spec"] = json!({"source": {"podMetrics": {"metrics": ["a"]}}, "history": {"storage": "Disk"}});
    });
    let (_, calls) = house.reconcile(&on_disk, [WriteStatus, Publish("NotAllowed")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "NotAllowed"));
    assert!(calls[0].message("Ready").contains("persistence.enabled"), "{}", calls[0].message("Ready"));
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn a_tenant_reaches_only_its_own_namespace() {
    let mut house = House::new();
    let nosy = carts(|object| object["spec"]["source"]["podLogs"]["selection"]["namespaces"] = json!(["bank"]));
    let (_, calls) = house.reconcile(&nosy, [WriteStatus, Publish("NotAllowed")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "NotAllowed"));
    assert!(calls[0].message("Ready").contains("operator's namespace"), "{}", calls[0].message("Ready"));
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn a_suspended_one_is_withdrawn() {
    let mut house = House::new();
    house.reconcile(&carts(|_| {}), [WriteStatus]).await.0.unwrap();
    let suspended = carts(|object| object["spec"]["suspend"] = true.into());
    let (_, calls) = house.reconcile(&suspended, [WriteStatus, Publish("Suspended")]).await;
    assert_eq!(calls[0].condition("Ready"), ("False", "Suspended"));
    assert_eq!(calls[0].condition("Stalled").0, "False");
    assert_eq!(calls[0].body["status"]["targets"], 0);
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn a_malformed_one_is_withdrawn_and_reported_on_itself() {
    let mut house = House::new();
    house.reconcile(&carts(|_| {}), [WriteStatus]).await.0.unwrap();
    let malformed = carts(|object| object["spec"]["source"]["podLogs"]["maxLineBytes"] = "many".into());
    let (_, calls) = house.reconcile(&malformed, [WriteStatus, Publish("Malformed")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Malformed"));
    assert!(calls[0].message("Ready").contains("spec.source.podLogs.maxLineBytes"), "{}", calls[0].message("Ready"));
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn while_the_api_server_is_away_streams_run() {
    let mut house = House::new();
    let (outcome, _) = house.reconcile(&carts(|_| {}), [Vanish]).await;
    assert!(outcome.is_err());
    assert!(house.is_at_work());
}

fn with_rule(fields: Value) -> Value {
    let mut rule = json!({"name": "oops", "text": "oops", "receivers": ["ops"]});
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    carts(|object| object["spec"]["rules"] = json!([rule]))
}

#[tokio::test]
async fn rules_watch_the_stream_and_a_change_of_them_is_no_change_for_readers() {
    let mut house = House::new();
    house.reconcile(&with_rule(json!({})), [WriteStatus]).await.0.unwrap();
    let name = StreamName::new("shop", "carts");
    let located = house.context.declared.catalogue().locate(&name).unwrap();
    let mut firings = house.alarms.firings();
    let origin = || Arc::new(Origin { namespace: "shop".into(), pod: "cart-1".into(), ..Origin::default() });
    let publish = |text: &'static str| located.stream.publish(Arc::new(Batch::of_text(origin(), Time::now(), text)));
    publish("oops");
    assert_eq!(firings.try_recv().unwrap().source, "shop/cart-1/");

    house.reconcile(&with_rule(json!({"text": "help"})), [WriteStatus]).await.0.unwrap();
    publish("oops");
    assert!(firings.try_recv().is_err(), "the old rule is gone");
    publish("help");
    assert_eq!(firings.try_recv().unwrap().stream, name);
    assert!(located.stream.ended().is_none() && located.gate.closed().now_or_never().is_none());
}

#[tokio::test]
async fn a_rule_that_cannot_be_used_is_told_and_the_stream_withdrawn() {
    let mut house = House::new();
    let wrong = with_rule(json!({"message": "{who}"}));
    let (_, calls) = house.reconcile(&wrong, [WriteStatus, Publish("Invalid")]).await;
    assert!(calls[0].message("Ready").contains("spec.rules[0].message names {who}"), "{}", calls[0].message("Ready"));
    assert!(!house.is_at_work());
}

#[tokio::test]
async fn a_receiver_that_is_missing_stops_no_stream_and_is_told_until_it_is_there() {
    let mut house = House::new();
    let object = with_rule(json!({}));
    let (_, calls) = house.reconcile(&object, [WriteStatus]).await;
    assert!(house.is_at_work());
    assert_eq!(calls[0].condition("Validated"), ("True", "Accepted"));
    let subscription: StreamSubscription = serde_json::from_value(object).unwrap();
    assert_eq!(house.context.missing(&subscription), ["ops"]);
    house.alarms.receivers().set(ReceiverName::new("bank", "ops"), Default::default());
    assert_eq!(house.context.missing(&subscription), ["ops"], "of another namespace");
    house.alarms.receivers().set(ReceiverName::new("shop", "ops"), Default::default());
    assert!(house.context.missing(&subscription).is_empty());
}

#[tokio::test]
async fn a_receiver_that_comes_is_a_reason_to_look_at_those_that_name_it() {
    let mut house = House::new();
    house.reconcile(&with_rule(json!({})), [WriteStatus]).await.0.unwrap();
    let receivers = house.alarms.receivers();
    let concerned = firings::concerned(receivers.changes(), house.writer.as_reader());
    for (namespace, name) in [("bank", "ops"), ("shop", "other"), ("shop", "ops")] {
        receivers.set(ReceiverName::new(namespace, name), Default::default());
    }
    let concerned: Vec<_> = concerned.take(1).collect().await;
    assert_eq!((concerned[0].namespace.as_deref(), concerned[0].name.as_str()), (Some("shop"), "carts"));
}

#[tokio::test]
async fn a_rule_that_fires_is_an_event_without_the_record_and_a_storm_is_one() {
    let mut house = House::new();
    house.reconcile(&with_rule(json!({})), [WriteStatus]).await.0.unwrap();
    let (sender, firings) = tokio::sync::broadcast::channel(16);
    for stream in ["carts", "carts", "unknown", "carts"] {
        let (stream, rule) = (StreamName::new("shop", stream), "oops".to_owned());
        sender.send(Firing { stream, rule, source: "shop/cart-1/web".to_owned() }).unwrap();
    }
    drop(sender);
    let telling = firings::tell(firings, Arc::clone(&house.context));
    let (_, calls) = house.server.expect([Publish("RuleFired")], telling).await;
    assert_eq!(calls[0].body["note"], "The rule oops fired on a record of shop/cart-1/web.");
    assert_eq!((&calls[0].body["type"], &calls[0].body["regarding"]["name"]), (&json!("Warning"), &json!("carts")));
}
