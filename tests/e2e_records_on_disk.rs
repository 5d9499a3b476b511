//! Records of pods that are kept on disk: an operator that is killed has them when it is back, though the pod and its log on
//! the node are gone meanwhile; then what a new pod writes, each line once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

mod cluster;
mod numbered;

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::json;
use tokio::process::{Child, Command};
use weir::api::{AccessKey, StreamSubscription};

use cluster::{Cluster, until};
use numbered::read;

/// The operator as it is run, with a folder of its own.
fn operator(cluster: &Cluster, port: u16, home: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "--namespaces", &cluster.namespace, "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--data-dir").arg(home.join("data")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.kill_on_drop(true).spawn().unwrap()
}

/// A pod that writes numbered lines and ends.
async fn write(cluster: &Cluster, pod: &str, from: u32, to: u32) {
    cluster.run(pod, &format!("i={from}; while [ $i -lt {to} ]; do echo line $i; i=$((i+1)); done")).await;
}

#[tokio::test]
async fn records_of_a_pod_that_is_gone_outlive_a_kill_of_the_operator() {
    let cluster = Cluster::new("disk").await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("data")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut weir = operator(&cluster, port, home.path());
    let grants = json!([{"services": ["Log"], "scopes": ["View"]}]);
    cluster.apply::<AccessKey>("reader", json!({"spec": {"grants": grants}})).await;
    let history = json!({"storage": "Disk", "fsync": "Always"});
    cluster.apply::<StreamSubscription>("kept", json!({"spec": {"source": {"podLogs": {}}, "history": history}})).await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "accesskey/reader"]).await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "streamsubscription/kept"]).await;
    let secret = cluster.api::<Secret>().get("reader").await.unwrap();
    let token = String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap();
    let url = format!("http://127.0.0.1:{port}/api/v1/streams/{}/kept", cluster.namespace);

    let past = format!("{url}?fromStart=true");
    write(&cluster, "first", 0, 1000).await;
    assert_eq!(read(&past, &token, 999).await, (0..1000).collect::<Vec<_>>());
    // What readers got is on disk when the counter says so.
    until("all lines are on disk", || async {
        let page = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.ok()?.text().await.ok()?;
        let written = page.lines().find_map(|line| {
            line.strip_prefix("weir_history_disk_records_total{outcome=\"written\"} ")?.parse::<u64>().ok()
        });
        written.filter(|written| *written >= 1000)
    })
    .await;
    cluster.delete::<Pod>("first").await;
    until("the pod is gone", || async { cluster.api::<Pod>().get_opt("first").await.ok()?.is_none().then_some(()) })
        .await;
    weir.kill().await.unwrap();

    let mut weir = operator(&cluster, port, home.path());
    until("it serves the stream again", || async {
        let answer = reqwest::Client::new().get(&url).bearer_auth(&token).send();
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.ok()?.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    assert_eq!(read(&past, &token, 999).await, (0..1000).collect::<Vec<_>>());
    let reading = read(&past, &token, 1999);
    let (all, ()) = tokio::join!(reading, write(&cluster, "second", 1000, 2000));
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    weir.kill().await.unwrap();
}
