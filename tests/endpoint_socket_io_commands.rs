//! Commands over Socket.IO: what each malformed or forbidden one is answered with, in which order they are carried out,
//! and that each is noted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;
mod socket_io;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use weir::worker::Command;

use rest::{Setup, reader};
use socket_io::owner::{Owner, commander, with};
use socket_io::{Client, Way};

const NAMESPACE: &str = "/subscription-commands";

#[tokio::test]
async fn each_command_has_its_answer_and_each_fault_its_code() {
    let owner = Arc::new(Owner::default());
    let endpoint = with(&owner, Setup::default()).await;
    let key = commander(&endpoint);
    for way in [Way::WebSocket, Way::Polling] {
        let mut client = Client::open(&endpoint, way).await;
        client.enter(NAMESPACE, json!({"token": key})).await;
        let table: [(Value, Option<u64>); 15] = [
            (json!({"labId": "uid-cart", "command": 0}), None),
            (json!(r#"{"subscriptionId":"uid-cart","command":1}"#), None),
            (json!({"labId": "uid-cart", "command": 3, "node": "cart-0+web"}), None),
            (json!({"labId": "uid-feed", "command": 2, "node": "http"}), None),
            (json!("{"), Some(5422)),
            (json!([]), Some(5422)),
            (json!(null), Some(5422)),
            (json!({"labId": "uid-cart"}), Some(5422)),
            (json!({"labId": 7, "command": 0}), Some(5422)),
            (json!({"labId": "uid-cart", "command": 9}), Some(5422)),
            (json!({"labId": "uid-cart", "command": 2}), Some(5422)),
            (json!({"labId": "uid-none", "command": 0}), Some(5404)),
            (json!({"labId": "uid-cart", "command": 2, "node": "none+none"}), Some(5404)),
            (json!({"labId": "uid-other", "command": 0}), Some(5403)),
            (json!({"labId": "uid-broken", "command": 0}), Some(5001)),
        ];
        for (payload, code) in table {
            let answer = client.command(payload.clone()).await;
            match code {
                None => assert_eq!(answer, json!({"payload": null}), "{payload}"),
                Some(code) => {
                    assert_eq!(answer["code"], code, "{payload}: {answer}");
                    assert!(!answer["message"].as_str().unwrap().is_empty());
                }
            }
        }
        // Without an argument, with two, with another name, with a binary part, without a callback.
        client.say(&format!("42{NAMESPACE},1[\"data\"]")).await;
        assert_eq!(client.ack(1).await["code"], 5422);
        client.say(&format!("42{NAMESPACE},2[\"data\",{{}},{{}}]")).await;
        assert_eq!(client.ack(2).await["code"], 5422);
        client.say(&format!("42{NAMESPACE},3[\"deploy\",{{\"labId\":\"uid-cart\",\"command\":0}}]")).await;
        assert_eq!(client.ack(3).await["code"], 5422);
        client.say(&format!("451-{NAMESPACE},4[\"data\",{{\"_placeholder\":true,\"num\":0}}]")).await;
        client.say_bytes(b"\x00").await;
        assert_eq!(client.ack(4).await["code"], 5422);
        client.say(&format!("42{NAMESPACE},[\"data\",{{\"labId\":\"uid-cart\",\"command\":0}}]")).await;
        let (name, parts) = client.event(NAMESPACE).await;
        assert_eq!((name.as_str(), &parts[0]["code"]), ("error", &json!(5422)));
    }
    let of_one_way =
        [Command::Deploy, Command::Destroy, Command::Start("cart-0+web".into()), Command::Stop("http".into())];
    assert_eq!(*owner.done.lock(), [of_one_way.clone(), of_one_way].concat());
    let noted = owner.noted.lock();
    // Notes are written behind the answer, so the very last may be missing; it is one that was refused.
    assert!(noted.iter().filter(|(_, _, done)| *done).count() == 8, "{noted:?}");
    assert!(noted.iter().any(|(_, command, done)| !done && *command == Command::Deploy), "{noted:?}");
    assert!(noted.iter().all(|(by, ..)| by.starts_with("shop/commander (sha256:") && !by.contains(&key)), "{noted:?}");
}

#[tokio::test]
async fn a_second_command_on_a_subscription_waits_for_nobody_and_is_refused() {
    let lets = Arc::new(Semaphore::new(0));
    let owner = Arc::new(Owner { lets: Some(Arc::clone(&lets)), ..Owner::default() });
    let endpoint = with(&owner, Setup::default()).await;
    let key = commander(&endpoint);
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter(NAMESPACE, json!({"token": key})).await;
    client.say(&format!("42{NAMESPACE},1{}", json!(["data", {"labId": "uid-cart", "command": 0}]))).await;
    let mut other = Client::open(&endpoint, Way::WebSocket).await;
    other.enter(NAMESPACE, json!({"token": key})).await;
    // Two tasks: the first may begin after the second has asked. One of the two is refused, and the other waits.
    other.say(&format!("42{NAMESPACE},2{}", json!(["data", {"labId": "uid-cart", "command": 1}]))).await;
    let refused = tokio::select! {
        answer = client.ack(1) => answer,
        answer = other.ack(2) => answer,
    };
    assert_eq!(refused["code"], 5002, "{refused}");
    assert!(owner.done.lock().is_empty(), "the answer of the other comes after its effect");
    lets.add_permits(1);
    let done = tokio::select! {
        answer = client.ack(1) => answer,
        answer = other.ack(2) => answer,
    };
    assert_eq!((done, owner.done.lock().len()), (json!({"payload": null}), 1));
    lets.add_permits(1);
    other.say(&format!("42{NAMESPACE},3{}", json!(["data", {"labId": "uid-cart", "command": 1}]))).await;
    assert_eq!(other.ack(3).await, json!({"payload": null}));
}

#[tokio::test]
async fn a_key_that_may_command_no_more_is_put_out() {
    let owner = Arc::new(Owner::default());
    let endpoint = with(&owner, Setup::default()).await;
    let key = commander(&endpoint);
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter(NAMESPACE, json!({"token": key})).await;
    endpoint.key("shop/commander", &reader());
    assert_eq!(client.event(NAMESPACE).await.0, "end");
    assert_eq!(client.hear().await, format!("1{NAMESPACE},"));
    client.say(&format!("42{NAMESPACE},1{}", json!(["data", {"labId": "uid-cart", "command": 0}]))).await;
    client.enter("/status-messages", json!({"token": key})).await;
    assert!(owner.done.lock().is_empty());
}
