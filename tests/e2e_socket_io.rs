//! Commands of Socket.IO on a real cluster: each changes the object's `spec`, is done once that has taken effect, and
//! stands in an Event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use weir::api::StreamSubscription;
use weir::api::condition::{READY, find};
use weir::controller::ClusterOwner;
use weir::record::{Origin, node_name};
use weir::stream::StreamName;
use weir::worker::{Command, ObjectOwner, Order, OwnerError};

use cluster::{Cluster, Operator, until};

/// Counts without end, some ten lines a second.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

async fn subscription(cluster: &Cluster) -> StreamSubscription {
    cluster.api::<StreamSubscription>().get("s").await.unwrap()
}

fn order(object: &StreamSubscription, cluster: &Cluster, command: Command) -> Order {
    Order {
        stream: StreamName::new(&cluster.namespace, "s"),
        uid: object.uid().unwrap(),
        command,
        by: "test/key (sha256:01234567)".into(),
    }
}

fn followed(operator: &Operator, name: &StreamName) -> Vec<String> {
    let name_of = |origin: &std::sync::Arc<Origin>| node_name(&origin.pod, &origin.container);
    operator.declared.roster(name).iter().map(name_of).collect()
}

#[tokio::test]
async fn commands_change_the_spec_and_are_done_when_that_has_taken_effect() {
    let cluster = Cluster::new("commands").await;
    let operator = Operator::start(&cluster).await;
    for pod in ["one", "two"] {
        let container = json!({"name": "main", "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
            "command": ["sh", "-c", COUNT]});
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        cluster.apply::<Pod>(pod, json!({ "spec": spec })).await;
    }
    cluster.apply::<StreamSubscription>("s", json!({"spec": {"source": {"podLogs": {}}}})).await;
    let name = StreamName::new(&cluster.namespace, "s");
    let nodes = until("both pods are followed", || async {
        let nodes = followed(&operator, &name);
        (nodes.len() == 2).then_some(nodes)
    })
    .await;
    let object = subscription(&cluster).await;
    let owner = ClusterOwner::new(cluster.client.clone(), &cluster.namespace);
    let give = async |command: Command| owner.command(&order(&object, &cluster, command)).await;

    // Stop and start a node: the other goes on being followed.
    give(Command::Stop(nodes[0].clone())).await.unwrap();
    assert_eq!(subscription(&cluster).await.spec.stopped_nodes, [nodes[0].clone()]);
    until("the stopped node is released", || async { (followed(&operator, &name) == nodes[1..]).then_some(()) }).await;
    give(Command::Stop(nodes[0].clone())).await.unwrap();
    give(Command::Start(nodes[0].clone())).await.unwrap();
    assert!(subscription(&cluster).await.spec.stopped_nodes.is_empty());
    until("it is followed again", || async { (followed(&operator, &name) == nodes).then_some(()) }).await;

    // Destroy: nothing is at work when that is answered. Deploy: something is.
    give(Command::Destroy).await.unwrap();
    assert!(subscription(&cluster).await.spec.suspend && operator.declared.observe(&name).is_none());
    assert_eq!(operator.declared.known(&object.uid().unwrap()).unwrap().stream, name, "it can still be commanded");
    give(Command::Deploy).await.unwrap();
    assert!(!subscription(&cluster).await.spec.suspend && operator.declared.observe(&name).is_some());

    // Deploy what runs already: another stream, as its epoch says.
    let epoch = || operator.declared.catalogue().locate(&name).unwrap().stream.epoch();
    let before = epoch();
    give(Command::Deploy).await.unwrap();
    assert!(epoch() > before);
    assert!(subscription(&cluster).await.spec.restarted_at.is_some());

    // What is another object by now, or does not work, says so.
    let stranger = Order { uid: "another".into(), ..order(&object, &cluster, Command::Destroy) };
    assert!(matches!(owner.command(&stranger).await, Err(OwnerError::NotFound(_))));
    let broken =
        json!({"spec": {"source": {"podLogs": {"selection": {"namespaces": ["elsewhere"]}}}, "suspend": true}});
    cluster.apply::<StreamSubscription>("s", broken).await;
    let error = give(Command::Deploy).await.unwrap_err();
    assert!(error.to_string().contains("NotAllowed"), "{error}");
    let ready = subscription(&cluster).await.status.unwrap().conditions;
    assert_eq!(find(&ready, READY).unwrap().reason, "NotAllowed");
    operator.stop().await;
}

#[tokio::test]
async fn each_command_is_an_event_that_names_the_key_and_what_came_of_it() {
    let cluster = Cluster::new("audit").await;
    cluster.apply::<StreamSubscription>("s", json!({"spec": {"source": {"podLogs": {}}}})).await;
    let object = subscription(&cluster).await;
    let owner = ClusterOwner::new(cluster.client.clone(), &cluster.namespace).signing_as(Some("weir-0".into()));
    owner.audit(&order(&object, &cluster, Command::Deploy), Ok(())).await;
    owner.audit(&order(&object, &cluster, Command::Destroy), Err("the key does not grant it")).await;
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let told = |reason: &str| {
        let mut of_reason = events.iter().filter(|event| event.reason.as_deref() == Some(reason));
        of_reason.next().unwrap_or_else(|| panic!("no Event {reason}: {events:?}"))
    };
    let (done, failed) = (told("CommandDone"), told("CommandFailed"));
    assert_eq!(done.note.as_deref(), Some("The key test/key (sha256:01234567) asked for deploy; it was done."));
    assert_eq!((done.type_.as_deref(), failed.type_.as_deref()), (Some("Normal"), Some("Warning")));
    assert!(failed.note.as_ref().unwrap().ends_with("it was not done: the key does not grant it"));
    assert_eq!(done.regarding.as_ref().unwrap().uid, object.uid());
}
