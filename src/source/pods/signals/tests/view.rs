//! What is in view: pods by their selection, Events by the pods that they are about.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use rstest::rstest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::occurrence::Occurrence;
use super::super::watch::{Heard, KubeEvents};
use super::super::{PodSignals, PodSignalsConfig, SignalFilter};
use crate::api::PodSelection;
use crate::source::Source;
use crate::source::pods::index::{IndexScope, PodIndex};
use crate::stream::{Item, LiveStream, RingLimits};

/// A cluster of which nothing is asked: pods and Events come from the test.
struct World {
    index: Arc<PodIndex>,
    signals: Arc<PodSignals>,
    stream: Arc<LiveStream>,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl World {
    fn new(selection: Value, events: bool) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let client = Client::new(nobody, "default");
        let remembered = NonZeroUsize::MIN;
        let events_watch = KubeEvents::new(client, IndexScope::Cluster, remembered, tracker.clone(), cancel.clone());
        let index = Arc::new(PodIndex::empty(0, events_watch));
        let selection: PodSelection = serde_json::from_value(selection).unwrap();
        let config = PodSignalsConfig {
            selection: selection.compile().unwrap(),
            visible: Arc::new(|_, container| container != "hidden"),
            pods: true,
            events,
            filter: SignalFilter::default(),
        };
        let signals = PodSignals::new(Arc::clone(&index), config);
        let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
        Self { index, signals, stream, cancel, tracker }
    }

    /// Lets the source run until it has listed its pods.
    async fn begin(&self) {
        let run = Arc::clone(&self.signals).run(Arc::clone(&self.stream), self.cancel.child_token());
        self.tracker.spawn(run);
        self.signals.listed().wait_for(|listed| *listed).await.unwrap();
    }

    fn apply(&self, name: &str, more: Value) {
        self.index.apply(&serde_json::from_value(pod(name, more)).unwrap());
    }

    /// What was told since the last time, once the source has nothing left to do.
    async fn told(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let entries = self.stream.snapshot();
        let text = |item: &Item| match item {
            Item::Signal(signal) => signal.text.clone(),
            other => panic!("{other:?}"),
        };
        entries.iter().map(|entry| text(&entry.item)).collect()
    }
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "main"}, {"name": "hidden"}]}});
    pod["metadata"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pod
}

fn about(kind: &str, name: &str, fields: Value) -> Heard {
    let uid = if kind == "Pod" { format!("uid-{name}") } else { String::from("uid") };
    let mut object = json!({"kind": kind, "namespace": "n", "name": name, "uid": uid});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let event = json!({"metadata": {"uid": "e"}, "involvedObject": object, "message": "Hear!"});
    Heard::Event(Arc::new(Occurrence::of(serde_json::from_value(event).unwrap()).unwrap()))
}

fn owner(kind: &str, name: &str) -> Value {
    json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "o", "controller": true}],
        "labels": {"pod-template-hash": "5d9"}})
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_told_of_from_when_it_comes_into_view_until_it_leaves() {
    let world = World::new(json!({"labelSelector": {"matchLabels": {"app": "in"}}}), false);
    world.apply("p", json!({"labels": {"app": "in"}}));
    world.begin().await;
    assert_eq!(world.signals.roster().len(), 1);
    assert_eq!(*world.signals.targets().borrow(), 1);
    for app in ["out", "out", "in", "in", "out"] {
        world.apply("p", json!({"labels": {"app": app}}));
        // The watch is cut and lists the same again.
        world.apply("p", json!({"labels": {"app": app}}));
    }
    let (add, delete) = ("Container ADDED: n/p/main", "Container DELETED: n/p/main");
    assert_eq!(world.told().await, [add, delete, add, delete]);
    assert!(world.signals.roster().is_empty());
    assert_eq!(*world.signals.targets().borrow(), 0);
    world.index.delete("uid-p", None);
    assert_eq!(world.told().await.len(), 4, "it was out of view");
}

#[rstest]
#[case::a_pod_in_view("Pod", "in-1", json!({}), true)]
#[case::its_container("Pod", "in-1", json!({"fieldPath": "spec.containers{main}"}), true)]
#[case::a_container_that_may_not_be_seen("Pod", "in-1", json!({"fieldPath": "spec.containers{hidden}"}), false)]
#[case::a_pod_out_of_view("Pod", "out-1", json!({}), false)]
#[case::by_its_name("Pod", "in-1", json!({"uid": null}), true)]
#[case::an_unknown_pod("Pod", "who", json!({}), false)]
#[case::an_earlier_pod_of_that_name("Pod", "in-1", json!({"uid": "uid-before"}), false)]
#[case::a_static_pod("Pod", "static", json!({"uid": "of-the-kubelet"}), true)]
#[case::what_owns_it("ReplicaSet", "in-5d9", json!({}), true)]
#[case::what_owns_that("Deployment", "in", json!({}), true)]
#[case::another_owner("Deployment", "out", json!({}), false)]
#[case::one_of_another_namespace("Deployment", "in", json!({"namespace": "other"}), false)]
#[case::one_of_another_kind("StatefulSet", "in", json!({}), false)]
#[case::a_node("Node", "in-1", json!({}), false)]
#[tokio::test(start_paused = true)]
async fn an_event_is_told_where_its_object_is_in_view(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] fields: Value,
    #[case] expected: bool,
) {
    let world = World::new(json!({"pods": ["in-.*", "static"]}), true);
    world.apply("in-1", owner("ReplicaSet", "in-5d9"));
    world.apply("out-1", owner("ReplicaSet", "out-5d9"));
    world.apply("static", json!({"annotations": {"kubernetes.io/config.mirror": "of-the-kubelet"}}));
    world.begin().await;
    let before = world.told().await.len();
    world.signals.hear(Ok(about(kind, name, fields)), &world.stream);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let told = world.told().await;
    assert_eq!(told.len() - before, usize::from(expected), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_may_come_before_its_pod_and_after_it() {
    let world = World::new(json!({"pods": ["p"]}), true);
    world.begin().await;
    for event in [about("Pod", "p", json!({})), about("ReplicaSet", "r-5d9", json!({}))] {
        world.signals.hear(Ok(event), &world.stream);
    }
    assert!(world.told().await.is_empty());
    world.apply("p", owner("ReplicaSet", "r-5d9"));
    let told = ["Container ADDED: n/p/main", "Pod n/p: Hear!", "ReplicaSet n/r-5d9: Hear!"];
    assert_eq!(world.told().await, told);
    world.index.delete("uid-p", None);
    assert_eq!(world.told().await.len(), 4);
    for event in [about("Pod", "p", json!({})), about("Deployment", "r", json!({}))] {
        world.signals.hear(Ok(event), &world.stream);
    }
    assert_eq!(world.told().await.len(), 6, "it has only just gone");
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.signals.hear(Ok(about("Pod", "p", json!({}))), &world.stream);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.told().await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn events_are_watched_while_somebody_wants_them() {
    let world = World::new(json!({}), true);
    assert!(!world.index.watches_events());
    world.begin().await;
    assert!(world.index.watches_events());
    world.cancel.cancel();
    world.tracker.close();
    world.tracker.wait().await;
    assert!(!world.index.watches_events());
    let without = World::new(json!({}), false);
    without.begin().await;
    assert!(!without.index.watches_events());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_told() {
    let world = World::new(json!({}), true);
    world.begin().await;
    world.signals.hear(Ok(Heard::Lost("forbidden".into())), &world.stream);
    world.signals.hear(Ok(Heard::Back), &world.stream);
    world.signals.hear(Err(7), &world.stream);
    let told = world.told().await;
    let says = ["cannot be watched: forbidden", "watched again", "7 Kubernetes Events"];
    assert_eq!(told.len(), says.len());
    assert!(told.iter().zip(says).all(|(told, says)| told.contains(says)), "{told:?}");
}
