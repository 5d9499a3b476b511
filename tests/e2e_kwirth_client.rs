//! A published client library (`@jfvilas/kwirth-common`) reads a log, and metrics: its enums, its key classes, its words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod served;

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;
use weir::access::{KeyId, KeyRecord, Token};
use weir::api::AccessKeySpec;
use weir::record::Time;

use clients::{CLIENTS, node_modules, run};
use served::{Cluster, OPERATOR, Served, numbers};

/// A key in the form that these clients read, as an AccessKey with `format: Kwirth` has it.
fn kwirth_key(weir: &Served, grant: &Value) -> Token {
    let spec: AccessKeySpec = serde_json::from_value(json!({"format": "Kwirth", "grants": [grant]})).unwrap();
    let token = Token::for_spec(&mut rand::rng(), &spec, None);
    let record = KeyRecord::new(KeyId::new(OPERATOR, "kwirth"), "uid", Time::now(), None, &spec, token.digest());
    weir.keyring.upsert(record.unwrap());
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_client_library_reads_a_log() {
    let folder = node_modules().await;
    let cluster = Cluster::new("kwirth").await;
    cluster.run("count", "for i in $(seq 1 40); do echo $i; done; sleep 600").await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    let pods = json!({"namespaces": [cluster.namespace]});
    let token = kwirth_key(&weir, &json!({"services": ["Log"], "scopes": ["View"], "pods": pods}));

    let url = format!("ws://{}/kwirth", weir.address);
    let mut node = Command::new("node");
    node.arg(Path::new(CLIENTS).join("kwirth.mjs")).arg(&folder);
    node.args([&url, token.expose(), &cluster.namespace, "count", "40"]);
    let printed = run(&mut node).await;
    let messages: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    assert_eq!((&messages[0]["action"], &messages[0]["text"]), (&json!("ping"), &json!("OK")));
    assert_eq!((&messages[1]["action"], &messages[1]["text"]), (&json!("start"), &json!("Instance Config accepted")));
    let data = messages.iter().filter(|message| message["msgtype"] == "logmessage");
    let lines: Vec<String> = data
        .flat_map(|message| message["text"].as_str().unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(lines, numbers(1, 40));
    assert!(messages.iter().any(|message| message["text"] == "Log instance stopped"));
    let closed = messages.last().unwrap();
    assert_eq!((&closed["closed"], &closed["scopes"]), (&json!(true), &json!("view")), "the key can be read");
    assert!(!printed.contains(token.expose()), "the key is not sent back");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_client_library_reads_metrics_and_changes_which() {
    let folder = node_modules().await;
    let cluster = Cluster::new("kwirth-metrics").await;
    cluster.run("burn", "while :; do :; done").await;
    cluster.started("burn").await;
    let weir = Served::new(&cluster).await;
    let pods = json!({"namespaces": [cluster.namespace]});
    let token = kwirth_key(&weir, &json!({"services": ["Metrics"], "scopes": ["Stream"], "pods": pods}));

    let (cpu, memory) = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes");
    let url = format!("ws://{}/kwirth", weir.address);
    let mut node = Command::new("node");
    node.arg(Path::new(CLIENTS).join("kwirth-metrics.mjs")).arg(&folder);
    node.args([&url, token.expose(), &cluster.namespace, "burn", cpu, memory]);
    let printed = run(&mut node).await;
    let messages: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    assert_eq!((&messages[0]["action"], &messages[0]["text"]), (&json!("start"), &json!("Instance Config accepted")));
    let modified = messages.iter().position(|message| message["text"] == "Metrics modified").expect("it is modified");
    let is_reading = |message: &&Value| message["msgtype"] == "metricsmessageresponse";
    let (before, after) = messages.split_at(modified);
    assert_eq!(before.iter().find(is_reading).unwrap()["timestamp"], 0);
    for (part, name) in [(before, cpu), (after, memory)] {
        let last = part.iter().rfind(is_reading).unwrap();
        let values = &last["assets"][0]["values"];
        assert_eq!((&values[0]["metricName"], values.as_array().unwrap().len()), (&json!(name), 1), "{last}");
        assert!(values[0]["metricValue"].as_f64().unwrap() > 0.0, "{last}");
        assert_eq!(last["instance"], messages[0]["instance"]);
    }
    assert_eq!(messages.last().unwrap()["text"], "Metrics instance stopped");
    weir.stop().await;
}
