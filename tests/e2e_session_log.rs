//! Logs of real pods over the session socket: every view, every dialect, nothing lost, nothing doubled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::json;

use served::{Cluster, Served, log_start, numbers};

#[tokio::test]
async fn a_log_is_read_from_its_first_line_and_then_live() {
    let cluster = Cluster::new("from-start").await;
    let weir = Served::new(&cluster).await;
    cluster
        .run(
            "count",
            "for i in $(seq 1 50); do echo $i; done; for i in $(seq 51 80); do sleep 0.05; echo $i; done; sleep 600",
        )
        .await;
    cluster.started("count").await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    assert_eq!(socket.lines_until(|line| line == "80").await, numbers(1, 80));
    weir.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_created_later_streams_from_its_first_line() {
    let cluster = Cluster::new("late").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "late-.*", json!({}))).await;
    cluster.run("late-1", "for i in $(seq 1 200); do echo $i; done; sleep 600").await;
    assert_eq!(socket.lines_until(|line| line == "200").await, numbers(1, 200));
    weir.stop().await;
}
