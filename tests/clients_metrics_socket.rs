//! The metrics socket with clients that others have written: Node.js, Python, and a page in a browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod clients;
mod rest;

use std::path::Path;
use std::process::Stdio;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use weir::api::{AccessKeySpec, Grant, Scope, Service};

use clients::{CLIENTS, node_modules, python};
use rest::{Endpoint, PATIENCE, Setup, start};

/// Who watches.
#[derive(Clone, Copy, Debug)]
enum Client {
    Node,
    Python,
    /// A page that offers its key as a subprotocol.
    Browser,
    /// A page that gets itself a ticket.
    BrowserWithTicket,
}

impl Client {
    async fn command(self, endpoint: &Endpoint, key: &str) -> Command {
        let (script, folder) = (|name: &str| Path::new(CLIENTS).join(name), endpoint.address);
        let (socket, page) = (format!("ws://{folder}/ws/metrics"), format!("http://{folder}/page"));
        let (program, arguments) = match self {
            Self::Python => (python().await, vec![script("metrics.py"), socket.into(), key.into()]),
            Self::Node => ("node".into(), vec![script("metrics.mjs"), node_modules().await, socket.into(), key.into()]),
            Self::Browser | Self::BrowserWithTicket => {
                let how = if matches!(self, Self::Browser) { "subprotocol" } else { "ticket" };
                let script = script("metrics-browser.mjs");
                ("node".into(), vec![script, node_modules().await, page.into(), key.into(), how.into()])
            }
        };
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// What the client prints until it ends. The server begins to drain once the client has got all that it asked for.
async fn transcript(command: &mut Command, endpoint: &Endpoint) -> Vec<Value> {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("see hack/README.md for what is needed: {error}"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["ready"] == true {
            endpoint.services.drain.begin();
        } else {
            said.push(message);
        }
    }
    assert!(child.wait().await.unwrap().success(), "the client failed after {said:?}");
    said
}

fn of_type<'v>(said: &'v [Value], kind: &str) -> Vec<&'v Value> {
    said.iter().filter(|message| message["type"] == kind).collect()
}

#[rstest]
#[case::node(Client::Node)]
#[case::python(Client::Python)]
#[case::browser(Client::Browser)]
#[case::browser_with_a_ticket(Client::BrowserWithTicket)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_watches_subscribes_and_is_told_of_the_end(#[case] client: Client) {
    let page = "<!doctype html><title>A page of the server</title>";
    let endpoint = start(Setup { page: Some(page), ..Setup::default() }).await;
    let grant = Grant { services: vec![Service::Metrics], scopes: vec![Scope::Snapshot], ..Grant::default() };
    let key = endpoint.key("shop/watcher", &AccessKeySpec { grants: vec![grant], ..AccessKeySpec::default() });
    let mut command = client.command(&endpoint, &key).await;
    let said = tokio::time::timeout(2 * PATIENCE, transcript(&mut command, &endpoint)).await.expect("it hangs");

    assert_eq!(said[0]["type"], "Snapshot");
    assert!(said[0]["success_rate"].is_number() && said[0]["requests_total"].as_u64() >= Some(1));
    let errors = of_type(&said, "Error");
    assert_eq!(errors[0]["message"], "Invalid subscription: missing field `metrics`");
    let mut series: Vec<_> = of_type(&said, "TimeSeries");
    series.sort_by_key(|message| message["metric_name"].to_string());
    assert_eq!((series.len(), &series[0]["metric_name"]), (2, &json!("gaps_total")));
    assert!(series.iter().all(|message| message["data_points"][0]["value"].is_number()));
    let chosen: Vec<_> =
        of_type(&said, "Snapshot").into_iter().filter(|message| message.get("success_rate").is_none()).collect();
    assert_eq!(chosen.len(), 2);
    assert_eq!(chosen[1].as_object().unwrap().len(), 4, "type, timestamp and the two that were asked for");
    assert_eq!(errors.last().unwrap()["message"], "Weir is shutting down; connect again.");
    let closed = said.last().unwrap();
    assert_eq!(
        (&closed["closed"], &closed["reason"]),
        (&json!(1001), &json!("the server is shutting down; connect again"))
    );
    if matches!(client, Client::Browser) {
        assert_eq!(closed["protocol"], "weir", "the key is not sent back");
    }
}
