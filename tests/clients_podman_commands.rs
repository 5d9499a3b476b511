//! Commands over Socket.IO on containers of a real engine: `weir watch`, a Podman, and a client of both namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod podman;
mod rest;
mod socket_io;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};

use podman::{LONG, Podman};
use rest::send;
use socket_io::{Client, Way};
use streams::Serving;

const COMMANDS: &str = "/subscription-commands";
const LOGS: &str = "/logs/default.shop";
const SHOP: &str = "apiVersion: weir.dev/v1alpha1\nkind: StreamSubscription\nmetadata: {name: shop}\n\
    spec: {source: {containers: {names: [web, job]}}}\n";

/// What the server says of the subscription, once it follows both containers.
async fn shop(serving: &Serving) -> Value {
    let authorization = format!("Bearer {}", serving.token());
    let headers = [("authorization", authorization.as_str())];
    let followed = async {
        loop {
            let path = "/api/v1/subscriptions/default/shop";
            let mut answer = send(serving.address(), "GET", path, &headers, "").await;
            let shop: Value = serde_json::from_str(&answer.rest().await).unwrap_or_default();
            if shop["listed"] == true && shop["targets"] == 2 {
                return shop;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, followed).await.expect("both are followed in time")
}

/// A client that reads the lines from when it came.
async fn reading(serving: &Serving) -> Client {
    let mut client = Client::dial(serving.address(), Way::WebSocket).await;
    client.enter(LOGS, json!({"token": serving.token()})).await;
    client
}

/// Has containers write lines, and reads until all of them have come, each once and no others.
async fn exchange(podman: &Podman, client: &mut Client, said: &[(&str, &str)]) {
    said.iter().for_each(|(container, line)| podman.say(container, line));
    hear(client, said).await;
}

/// Reads until lines have come that were written already, each once and no others.
async fn hear(client: &mut Client, said: &[(&str, &str)]) {
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        match client.event(LOGS).await {
            (name, parts) if name == "backlog" => heard.extend(parts[0].as_array().unwrap().clone()),
            (name, parts) if name == "data" => heard.extend(parts),
            (name, _) => assert_eq!(name, "signal"),
        }
    }
    let mut wanted: Vec<_> = said.iter().map(|(_, line)| json!(line)).collect();
    heard.sort_by_key(Value::to_string);
    wanted.sort_by_key(Value::to_string);
    assert_eq!(heard, wanted);
}

#[tokio::test]
async fn commands_stop_and_start_a_container_and_lines_of_the_other_come_all_the_while() {
    let mut podman = Podman::new();
    podman.serve().await;
    podman.run_parrot("web").await;
    podman.run_parrot("job").await;
    let home = tempfile::tempdir().unwrap();
    let serving = Serving::start(home.path(), SHOP, &["--docker-socket", podman.socket().to_str().unwrap()]).await;
    let shop = shop(&serving).await;
    let web = shop["nodes"].as_array().unwrap().iter().find(|node| node["node"].as_str().unwrap().ends_with("+web"));
    let web = web.unwrap_or_else(|| panic!("{shop}"));
    let mut desk = Client::dial(serving.address(), Way::WebSocket).await;
    desk.enter(COMMANDS, json!({"token": serving.token()})).await;
    let mut reader = reading(&serving).await;
    exchange(&podman, &mut reader, &[("web", "web at first"), ("job", "job at first")]).await;

    for (way, node) in [("by name", &web["node"]), ("by id", &web["id"])] {
        let order = |command: u8| json!({"subscriptionId": shop["uid"], "command": command, "node": node});
        podman.say("job", "job before the stop");
        assert_eq!(desk.command(order(2)).await, json!({"payload": null}));
        let silent = format!("web while it is stopped {way}");
        podman.say("web", &silent);
        hear(&mut reader, &[("job", "job before the stop")]).await;
        exchange(&podman, &mut reader, &[("job", "job goes on"), ("job", "job goes further")]).await;
        let alone = format!("/logs/default.shop/{}", web["node"].as_str().unwrap());
        let refused = desk.ask_in(&alone, json!({"token": serving.token()})).await;
        assert_eq!(refused, format!("4{alone},{{\"message\":\"Invalid namespace\"}}"));
        podman.until_logged("web", &silent).await;

        podman.say("job", "job before the start");
        assert_eq!(desk.command(order(3)).await, json!({"payload": null}));
        hear(&mut reader, &[("job", "job before the start")]).await;
        exchange(&podman, &mut reader, &[("web", "web again"), ("job", "job again")]).await;
        exchange(&podman, &mut reader, &[("web", "web once more"), ("job", "job once more")]).await;
    }
    serving.stop().await;
    podman.stop_serving().await;
}
