//! Numbered logs across everything that cuts them: each number comes exactly once, or a signal says that lines are
//! missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use served::{Cluster, Served, Socket, log_start, numbers};

/// Runs one of the cluster's own tools.
async fn hack(arguments: &[&str]) {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(format!("{root}/hack/cluster"));
    let output = command.args(arguments).stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "hack/cluster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What came over a socket until `last`: lines, and signals other than those that tell of containers.
struct Received {
    lines: Vec<String>,
    signals: Vec<Value>,
}

async fn receive(socket: &mut Socket, last: &str) -> Received {
    let mut received = Received { lines: Vec::new(), signals: Vec::new() };
    loop {
        let message = socket.next().await.unwrap_or_else(|close| panic!("closed with {close:?}"));
        match message["type"].as_str() {
            Some("data") => {
                let text = message["text"].as_str().unwrap();
                received.lines.extend(text.lines().map(str::to_owned));
                if received.lines.last().is_some_and(|line| line == last) {
                    return received;
                }
            }
            _ => received.signals.push(message),
        }
    }
}

#[tokio::test]
async fn a_restarted_apiserver_costs_and_doubles_no_line() {
    let cluster = Cluster::new("apiserver").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    cluster.run("count", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; usleep 4000; done; sleep 600").await;
    cluster.started("count").await;
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    let cuts = async {
        for _ in 0..2 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            hack(&["restart-apiserver", "--down-for", "1"]).await;
        }
    };
    let (received, ()) = tokio::join!(receive(&mut socket, "3000"), cuts);
    assert_eq!(received.lines, numbers(1, 3000));
    let told = |word: &str| received.signals.iter().any(|signal| signal["text"].as_str().unwrap().contains(word));
    assert!(told("reconnecting") && told("followed again"), "the cut is told: {:?}", received.signals);
    weir.stop().await;
}

#[tokio::test]
async fn a_log_whose_past_is_still_being_read_survives_a_restarted_apiserver() {
    let cluster = Cluster::new("apiserver-past").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    cluster.run("many", "seq 1 200000; sleep 600").await;
    cluster.started("many").await;
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "many", json!({"fromStart": true}))).await;
    let (received, ()) = tokio::join!(receive(&mut socket, "200000"), hack(&["restart-apiserver"]));
    assert_eq!(received.lines, numbers(1, 200_000));
    weir.stop().await;
}

#[tokio::test]
async fn rotation_costs_no_line_that_the_node_still_gives() {
    let cluster = Cluster::new("rotation").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    // Faster than any kubelet rotates: those look every ten seconds.
    cluster.run("count", "i=0; while [ $i -lt 3500 ]; do i=$((i+1)); echo $i; usleep 4000; done; sleep 600").await;
    cluster.started("count").await;
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    let rotations = async {
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_secs(4)).await;
            hack(&["rotate-log", &cluster.namespace, "count", "main"]).await;
        }
    };
    let (received, ()) = tokio::join!(receive(&mut socket, "3500"), rotations);
    let signals: Vec<_> = received.signals.iter().map(|signal| signal["text"].to_string()).collect();
    assert_eq!(received.lines, numbers(1, 3500), "{signals:#?}");
    weir.stop().await;
}

#[tokio::test]
async fn a_restarted_container_is_followed_again_with_nothing_lost_or_doubled() {
    let cluster = Cluster::new("restart").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "crash", json!({}))).await;
    // Each run writes and ends at once: its log must be read though it is over before it is known.
    let script = "for i in $(seq 1 500); do echo $HOSTNAME $i; done; exit 3";
    cluster.run_pod("crash", json!({}), &[("main", script)], "Always").await;
    let expected: Vec<String> = (1..=500).map(|i| format!("crash {i}")).collect();
    for run in 0..3 {
        let lines = socket.lines_until(|line| line == "crash 500").await;
        assert_eq!(lines, expected, "run {run}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_gives_its_last_lines_and_is_told() {
    let cluster = Cluster::new("delete").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    cluster.run("count", "trap 'echo last words; exit 0' TERM; for i in $(seq 1 100); do echo $i; done; while true; do sleep 0.1; done").await;
    cluster.started("count").await;
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    assert_eq!(socket.lines_until(|line| line == "100").await, numbers(1, 100));
    cluster.pods().delete("count", &kube::api::DeleteParams::default().grace_period(10)).await.unwrap();
    assert_eq!(socket.lines_until(|_| true).await, ["last words"]);
    let signal = socket.until("the deletion", |message| message["event"] == "delete").await;
    let text = format!("Container DELETED: {}/count/main", cluster.namespace);
    assert_eq!((signal["text"].as_str(), signal["level"].as_str()), (Some(text.as_str()), Some("info")));
    served::until("the upstream is released", || async { (weir.hub.follows() == 0).then_some(()) }).await;
    weir.stop().await;
}

#[tokio::test]
async fn a_line_longer_than_the_runtime_writes_at_once_comes_as_one() {
    let cluster = Cluster::new("long").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    // 40,000 bytes: the runtime writes them in three parts.
    cluster.run("long", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short; head -c 200000 /dev/zero | tr '\\0' y; echo; echo end; sleep 600").await;
    cluster.started("long").await;
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "long", json!({"fromStart": true}))).await;
    let lines = socket.lines_until(|line| line == "end").await;
    assert_eq!(lines.iter().map(|line| line.len()).collect::<Vec<_>>()[..2], [40_000, 5], "parts joined");
    assert!(lines[0].bytes().all(|byte| byte == b'x'), "no time of a part within the line");
    assert!(lines[2].starts_with("yyy") && lines[2].ends_with("… [line truncated]") && lines[2].len() < 70_000);
    assert_eq!(lines[3], "end");
    weir.stop().await;
}
