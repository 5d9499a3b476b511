//! Records that are kept on disk: what went through a stream can be read after Weir was killed and started anew, then what is
//! live, each line once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod numbered;
mod streams;

use std::time::{Duration, Instant};

use numbered::read;
use reqwest::Client;
use streams::{PATIENCE, Serving};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A stream of what is sent to a port.
fn listening(port: u16, history: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {{name: syslog}}\n\
         spec: {{source: {{tcp: {{address: '127.0.0.1:{port}', listen: true}}}}, history: {history}}}\n"
    )
}

async fn send(port: u16, numbers: std::ops::Range<u32>) {
    let end = Instant::now() + PATIENCE;
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => break socket,
            Err(_) => assert!(Instant::now() < end, "nobody listens"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let text: String = numbers.map(|number| format!("line {number}\n")).collect();
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_kill_then_what_is_live_each_line_once() {
    // Another provider cannot have been installed in this process.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let http = Client::builder().no_proxy().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut serving = Serving::start(home.path(), &listening(port, "{storage: Disk, fsync: Always}"), &[]).await;
    let past = format!("{}/api/v1/streams/default/syslog?fromStart=true", serving.url);
    send(port, 0..5000).await;
    assert_eq!(read(&past, &serving.token(), 4999).await, (0..5000).collect::<Vec<_>>());
    // All of it is on disk when the counter says so.
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = http.get(format!("{}/metrics", serving.url)).send().await.unwrap().text().await.unwrap();
        let line =
            metrics.lines().find(|line| line.starts_with("weir_history_disk_records_total{outcome=\"written\"}"));
        let written = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default();
        if written >= 5000 {
            break;
        }
        assert!(Instant::now() < end, "{written} are written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    serving.kill().await;
    serving.restart().await;
    send(port, 5000..6000).await;
    assert_eq!(read(&past, &serving.token(), 5999).await, (0..6000).collect::<Vec<_>>());
    let token = serving.token();
    let reading = read(&past, &token, 6999);
    let (all, ()) = tokio::join!(reading, send(port, 6000..7000));
    assert_eq!(all, (0..7000).collect::<Vec<_>>());
}
