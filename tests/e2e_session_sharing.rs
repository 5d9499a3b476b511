//! One upstream connection for each container, whoever reads it, and nobody pays for a slow reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket, log_start, numbers, until};
use weir::stream::RingLimits;
use weir::worker::SupervisorConfig;

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// How many times a log was asked for to be followed; a series that is not there yet counts as none.
fn follows(weir: &Served) -> f64 {
    let text = weir.services.metrics.encode(weir::telemetry::Exposition::Prometheus);
    let series = text.lines().filter(|line| line.starts_with("weir_upstream_requests_total{"));
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    series.filter(|line| line.contains("=\"follow\"")).map(count).sum()
}

async fn counting(name: &str) -> (Cluster, Served, String) {
    let cluster = Cluster::new(name).await;
    cluster.run_pod("count", json!({"app": "count"}), &[("main", COUNT), ("side", "sleep 600")], "Never").await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    (cluster, weir, key)
}

/// A start that reads one container from its first line.
fn one_container(key: &str, cluster: &Cluster) -> Value {
    let mut start = log_start(key, &cluster.namespace, "count", json!({"fromStart": true}));
    start["container"] = json!("main");
    start
}

/// Reads at least `least` lines: every number from the first on exactly once.
async fn reads_all(socket: &mut Socket, least: usize) {
    let mut lines = Vec::new();
    while lines.len() < least {
        let message = socket.next().await.unwrap();
        if message["type"] == "data" && message["container"] == "main" {
            lines.extend(message["text"].as_str().unwrap().lines().map(str::to_owned));
        }
    }
    assert_eq!(lines, numbers(1, lines.len() as u32));
}

#[tokio::test]
async fn all_readers_of_a_container_share_one_upstream_connection() {
    let (cluster, weir, key) = counting("fifty").await;
    for readers in [2, 50] {
        let before = follows(&weir);
        let mut sockets = Vec::new();
        for _ in 0..readers {
            let mut socket = weir.connect().await;
            socket.start(one_container(&key, &cluster)).await;
            sockets.push(socket);
        }
        futures::future::join_all(sockets.iter_mut().map(|socket| reads_all(socket, 60))).await;
        assert_eq!(weir.metric("weir_upstream_follows"), 1.0);
        assert_eq!(follows(&weir) - before, 1.0, "for {readers} readers");
        assert_eq!(weir.services.declared.supervisor().workers(), 1);
        for socket in &mut sockets {
            socket.0.close(None).await.unwrap();
        }
        until("all is released", || async { (weir.metric("weir_upstream_follows") == 0.0).then_some(()) }).await;
    }
    assert_eq!(weir.services.declared.supervisor().workers(), 0);
    weir.stop().await;
}

#[tokio::test]
async fn selections_that_overlap_share_the_connections_of_what_they_have_in_common() {
    let (cluster, weir, key) = counting("overlap").await;
    let mut sockets = Vec::new();
    let mut selections: Vec<Value> = (0..4).map(|_| one_container(&key, &cluster)).collect();
    selections[1]["container"] = json!("");
    selections[2]["container"] = json!("count+main");
    selections[3]["pod"] = json!("");
    selections[3]["view"] = json!("namespace");
    selections[3]["labelSelector"] = json!("app=count");
    for selection in selections {
        let mut socket = weir.connect().await;
        socket.start(selection).await;
        reads_all(&mut socket, 20).await;
        sockets.push(socket);
    }
    assert_eq!(weir.services.declared.supervisor().workers(), 4);
    // Two containers, so two connections, for four selections.
    assert_eq!(weir.metric("weir_upstream_follows"), 2.0);
    assert_eq!(weir.hub.follows(), 2);
    weir.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_lines_it_missed_and_slows_nobody() {
    const LAST: usize = 200_000;
    let cluster = Cluster::new("slow").await;
    let ring = RingLimits { records: 5_000, bytes: 8 * 1024 * 1024, age: None };
    let workers = SupervisorConfig { ring, ..SupervisorConfig::default() };
    let weir = Served::with(&cluster, Default::default(), Default::default(), workers).await;
    let key = weir.reader_key();
    let start = || log_start(&key, &cluster.namespace, "fast", json!({}));
    let mut slow = weir.connect().await;
    slow.start(start()).await;
    let mut brisk = weir.connect().await;
    brisk.start(start()).await;
    // Long lines, so that no buffer of the system takes them all in.
    let pad = "x".repeat(100);
    let count = format!("for (i = 1; i <= {LAST}; i++) print i, \"{pad}\"; print \"last\"");
    let script = format!("awk 'BEGIN {{ {count} }}'; sleep 600");
    cluster.run("fast", &script).await;

    // Whoever keeps up misses nothing, though the other reads nothing at all meanwhile.
    let mut next = 1;
    brisk
        .until("the last line", |message| {
            assert_ne!(message["event"], "other", "{message}");
            let text = message["text"].as_str().filter(|_| message["type"] == "data").unwrap_or_default();
            for line in text.lines().filter(|line| *line != "last") {
                assert_eq!(line.split(' ').next().unwrap(), next.to_string());
                next += 1;
            }
            text.ends_with("last\n")
        })
        .await;
    assert_eq!(next, LAST + 1);

    // The other gets the rest of what was under way, gaps that say how many, and what the ring still holds.
    let (mut next, mut gaps) = (1, 0);
    slow.until("the last line", |message| {
        let text = message["text"].as_str().unwrap_or_default();
        if message["level"] == "warning" && text.contains("records are missing") {
            let missed: usize = text.split(' ').next().unwrap().parse().unwrap();
            next += missed;
            gaps += 1;
        }
        if message["type"] != "data" {
            return false;
        }
        for line in text.lines().filter(|line| *line != "last") {
            assert_eq!(line.split(' ').next().unwrap(), next.to_string(), "after {gaps} gaps");
            next += 1;
        }
        text.ends_with("last\n")
    })
    .await;
    assert_eq!(next, LAST + 1, "what came and what the gaps say add up");
    assert!(gaps > 0);
    assert!(weir.metric("weir_gaps_total") >= 1.0);
    weir.stop().await;
}
