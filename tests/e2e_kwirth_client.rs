//! A published client library (`@jfvilas/kwirth-common`) reads a log: its enums, its key classes, its words.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_published_client_library_reads_a_log() {
    let folder = node_modules().await;
    let cluster = Cluster::new("kwirth").await;
    cluster.run("count", "for i in $(seq 1 40); do echo $i; done; sleep 600").await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    // A key in the form that these clients read, as an AccessKey with `format: Kwirth` has it.
    let spec = json!({"format": "Kwirth", "grants": [{"services": ["Log"], "scopes": ["View"],
        "pods": {"namespaces": [cluster.namespace]}}]});
    let spec: AccessKeySpec = serde_json::from_value(spec).unwrap();
    let token = Token::for_spec(&mut rand::rng(), &spec, None);
    let record = KeyRecord::new(KeyId::new(OPERATOR, "kwirth"), "uid", Time::now(), None, &spec, token.digest());
    weir.keyring.upsert(record.unwrap());

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
