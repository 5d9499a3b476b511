//! `weir tail` against a server that breaks connections wherever it hurts.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::server::{Client, PATIENCE, Server, millis_of};

const KEY: &str = "weir_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";

fn tail(server: &Server, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("tail").args(arguments).args(["--url", &format!("http://{}", server.address)]);
    command.env_clear().env("WEIR_KEY", KEY);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// Waits for the end; what was printed. The key is nowhere in it.
async fn end(child: Child) -> (Option<i32>, Vec<String>, String) {
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end in time").unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!out.contains(KEY) && !err.contains(KEY), "the key is shown: {err}");
    (status.code(), out.lines().map(str::to_owned).collect(), err)
}

fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("cart-{} main | line {number}", number % 3)).collect()
}

async fn accept_and_send(server: &Server, instance: &str, numbers: impl IntoIterator<Item = u32>) -> (Client, Value) {
    let mut client = server.accept().await;
    let request = client.accept_start(instance).await;
    client.lines(instance, numbers).await;
    (client, request)
}

#[tokio::test]
async fn a_server_that_sends_again_from_a_time_is_gone_on_with() {
    let server = Server::start().await;
    let child = tail(&server, &["shop/cart", "--from-start"]);
    let (client, start) = accept_and_send(&server, "one", 1..=500).await;
    assert_eq!(start["subscription"], "shop/cart");
    assert_eq!(start["accessKey"], KEY);
    assert_eq!(start["data"], json!({"timestamp": true, "fromStart": true, "previous": false}));
    client.drop_it().await;

    let mut client = server.accept().await;
    let request = client.asked("reconnect").await;
    assert_eq!((&request["instance"], &request["reconnectKey"]), (&json!("one"), &json!("rk-one")));
    let since = request["data"]["startTime"].as_i64().unwrap();
    assert!(since <= millis_of(498) && since >= millis_of(300), "{since}");
    client.answer("reconnect", "one", json!({"text": "Reconnected", "startTime": since})).await;
    client.lines("one", 350..=900).await;
    client.close(1000, "done").await;

    let (code, out, err) = end(child).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, numbered(1..=900));
    assert!(err.contains("connection was lost") || err.contains("connection was closed"), "{err}");
    assert!(!err.contains('\u{1b}'), "no colours away from a terminal");
}

#[tokio::test]
async fn one_that_goes_on_after_what_it_sent_is_started_again_from_what_arrived() {
    let server = Server::start().await;
    let child = tail(&server, &["-n", "shop", "-g", "deployment+cart", "--tail", "100"]);
    let (client, start) = accept_and_send(&server, "one", 1..=50).await;
    let selected = ["view", "namespace", "group", "scope"].map(|field| start[field].as_str().unwrap());
    assert_eq!(selected, ["group", "shop", "deployment+cart", "view"]);
    assert_eq!(start["data"]["maxMessages"], 100);
    client.drop_it().await;

    // What was on its way when the connection broke, 51 to 60, the server has sent, and nobody has got.
    let mut client = server.accept().await;
    client.asked("reconnect").await;
    client.answer("reconnect", "one", json!({"text": "Reconnected"})).await;
    client.lines("one", 61..=70).await;
    assert_eq!(client.asked("stop").await["instance"], "one");
    client.answer("stop", "one", json!({"text": "Log instance stopped"})).await;
    let start = client.accept_start("two").await;
    assert!(start["data"]["startTime"].as_i64().unwrap() <= millis_of(48));
    assert_eq!(start["data"].get("maxMessages"), None);
    client.lines("two", 20..=100).await;
    client.close(1000, "done").await;

    let (code, out, err) = end(child).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, numbered(1..=100));
}

#[tokio::test]
async fn a_server_that_was_away_and_knows_nothing_any_more_is_asked_anew() {
    let server = Server::start().await;
    let child = tail(&server, &["-p", "cart-.*", "--output", "raw"]);
    let (client, _) = accept_and_send(&server, "one", 1..=3).await;
    client.close(1001, "the server is shutting down; connect again").await;
    server.refuse().await;

    // It does not know its keys yet.
    let mut client = server.accept().await;
    client.asked("reconnect").await;
    client.answer("reconnect", "one", json!({"level": "error", "text": "Instance not found"})).await;
    client.asked("start").await;
    client.answer("start", "", json!({"level": "error", "text": "Invalid API key"})).await;
    let mut client = server.accept().await;
    client.accept_start("two").await;
    client.lines("two", 2..=5).await;
    client.close(1000, "").await;

    let (code, out, err) = end(child).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, (1..=5).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert!(
        err.contains("shutting down") && err.contains("Invalid API key") && err.contains("connected again"),
        "{err}"
    );
}

#[tokio::test]
async fn an_instance_that_ended_by_itself_is_started_again_on_the_same_connection() {
    let server = Server::start().await;
    let child = tail(&server, &["shop/cart", "-o", "raw"]);
    let (mut client, _) = accept_and_send(&server, "one", 1..=2).await;
    client.signal("one", "warning", "The subscription was changed").await;
    assert_eq!(client.asked("continue").await["instance"], "one");
    client.answer("continue", "one", json!({"level": "error", "text": "Instance not found"})).await;
    client.accept_start("two").await;
    client.lines("two", 2..=3).await;
    client.signal("two", "error", "Access denied: the key has expired").await;
    client.asked("continue").await;
    client.answer("continue", "two", json!({"level": "error", "text": "Instance not found"})).await;
    client.asked("start").await;
    client.answer("start", "", json!({"level": "error", "text": "Access denied: the key has expired"})).await;

    let (code, out, err) = end(child).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(out, ["line 1", "line 2", "line 3"]);
    assert!(err.contains("The subscription was changed") && err.contains("error: Access denied"), "{err}");
}

#[tokio::test]
async fn what_is_refused_or_cut_ends_with_1_and_the_servers_reason() {
    let server = Server::start().await;
    let child = tail(&server, &["shop/cart"]);
    let mut client = server.accept().await;
    client.asked("start").await;
    client.answer("start", "", json!({"level": "error", "text": "Access denied: no grant has it"})).await;
    let (code, out, err) = end(child).await;
    assert_eq!((code, out.len()), (Some(1), 0));
    assert!(err.contains("error: Access denied: no grant has it"), "{err}");

    let child = tail(&server, &["shop/cart", "--output", "json"]);
    let (client, _) = accept_and_send(&server, "one", [1]).await;
    client.close(1008, "the key was suspended").await;
    let (code, out, err) = end(child).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("the key was suspended"), "{err}");
    let line: Value = serde_json::from_str(&out[0]).unwrap();
    let expected = json!({"namespace": "shop", "pod": "cart-1", "container": "main",
        "time": "2026-01-31T12:00:00.010000000Z", "text": "line 1"});
    assert_eq!(line, expected);
}

#[tokio::test]
async fn a_server_that_was_never_there_ends_with_1_and_what_to_check() {
    let server = Server::start().await;
    let child = tail(&server, &["shop/cart"]);
    server.refuse().await;
    let (code, _, err) = end(child).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("check --url"), "{err}");
}

#[tokio::test]
async fn lines_come_at_once_and_a_reader_that_leaves_ends_it_quietly() {
    let server = Server::start().await;
    let mut child = tail(&server, &["shop/cart", "--timestamps", "--color", "always"]);
    let (mut client, _) = accept_and_send(&server, "one", [1]).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.starts_with("\u{1b}[") && line.ends_with("2026-01-31T12:00:00.010000000Z line 1"), "{line:?}");
    drop(lines);
    client.lines("one", 2..=3).await;
    let (code, _, err) = end(child).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(!err.contains("error"), "{err}");
}

#[tokio::test]
async fn the_key_may_come_from_a_file() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{}\n", KEY.replace("weir_", "file_"))).unwrap();
    let child = tail(&server, &["shop/cart", "--key-file", file.to_str().unwrap()]);
    let (client, start) = accept_and_send(&server, "one", []).await;
    assert_eq!(start["accessKey"], KEY.replace("weir_", "file_"));
    client.close(1000, "").await;
    assert_eq!(end(child).await.0, Some(0));
}
