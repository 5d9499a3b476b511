//! Socket.IO with clients that others have written: `socket.io-client` in Node.js and in a page, `python-socketio`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod clients;
mod rest;
mod socket_io;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::process::Command;
use weir::endpoint::services::EndpointOptions;
use weir::endpoint::socket_io::SocketIoOptions;
use weir::stream::RingLimits;

use clients::{CLIENTS, node_modules, python, run};
use rest::{Setup, lines};
use socket_io::owner::{Owner, commander, with};

#[derive(Clone, Copy, Debug)]
enum Client {
    Node,
    Python,
    Browser,
}

#[rstest]
#[case::node_by_websocket(Client::Node, "websocket", 100_000)]
#[case::node_by_polling(Client::Node, "polling", 100_000)]
#[case::python_by_websocket(Client::Python, "websocket", 20_000)]
#[case::python_by_polling(Client::Python, "polling", 20_000)]
#[case::browser(Client::Browser, "", 20_000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_refused_reads_every_line_once_and_gives_commands(
    #[case] client: Client,
    #[case] transport: &str,
    #[case] all: usize,
) {
    let page = "<!doctype html><title>A page of the server</title>";
    let owner = Arc::new(Owner::default());
    // Most lines come one by one. And `python-engineio`, where it is refused before its request was answered, waits with a
    // last poll until the server ends the session.
    let outside = Duration::from_secs(2);
    let socket_io = SocketIoOptions { backlog_lines: 500, outside, ..SocketIoOptions::default() };
    let options = Some(EndpointOptions { socket_io, ..EndpointOptions::default() });
    let endpoint = with(&owner, Setup { page: Some(page), options, ..Setup::default() }).await;
    let key = commander(&endpoint);
    let limits = RingLimits { records: 1_000_000, bytes: 256 << 20, age: None };
    let stream = endpoint.stream("shop/logs", limits).stream;
    let url = format!("http://{}", endpoint.address);
    let script = |name: &str| Path::new(CLIENTS).join(name);
    let mut command = match client {
        Client::Python => {
            let mut command = Command::new(python().await);
            command.arg(script("socket_io.py")).arg(&url);
            command
        }
        Client::Node => {
            let mut command = Command::new("node");
            command.arg(script("socket-io.mjs")).arg(node_modules().await).arg(&url);
            command
        }
        Client::Browser => {
            let mut command = Command::new("node");
            command.arg(script("socket-io-browser.mjs")).arg(node_modules().await).arg(format!("{url}/page"));
            command
        }
    };
    command.args([&key, &all.to_string(), "10", transport]);
    // Lines are written for as long as the client reads: some are there before it, some come while it is away.
    let writer = tokio::spawn(async move {
        for first in (0..all).step_by(100) {
            stream.publish(lines((first..first + 100).map(|n| format!("line {n}"))));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The stream lives as long as its writer.
        std::future::pending::<()>().await;
    });
    let said: Value = serde_json::from_str(&run(&mut command).await).unwrap();
    writer.abort();
    assert_eq!(said["refusals"], json!(["Unauthorized", "Invalid Token", "No Access", "Invalid namespace"]));
    assert_eq!(said["lines"], all);
    assert_eq!(said["acks"], json!([0, 0, 5404, 5404, 5403, 5001, 5422]));
    assert_eq!(owner.done.lock().len(), 2);
}
