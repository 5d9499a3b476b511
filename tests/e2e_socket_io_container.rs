//! A container's own namespace of Socket.IO on a real cluster: there while the container is followed, with its lines alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use weir::stream::{RingLimits, StreamName};
use weir::worker::{Job, Sight};

use served::{Cluster, Served, until};

/// Says who it is without end, some ten times a second.
fn chatter(name: &str) -> String {
    format!("i=0; while :; do i=$((i+1)); echo {name} $i; sleep 0.1; done")
}

#[tokio::test]
async fn a_containers_namespace_has_its_lines_alone_and_goes_with_it() {
    let cluster = Cluster::new("container-namespace").await;
    for pod in ["one", "two"] {
        cluster.run(pod, &chatter(pod)).await;
        cluster.started(pod).await;
    }
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let spec = json!({"source": {"podLogs": {"selection": {"namespaces": [cluster.namespace]}}}});
    let spec = serde_json::from_value(spec).unwrap();
    let job = Job::new(&spec, RingLimits::default(), Sight::Selected).unwrap();
    let name = StreamName::new(&cluster.namespace, "s");
    let declared = &weir.services.declared;
    declared.note(&name, "uid-s", &spec);
    declared.declare(&name, "uid-s", job).unwrap();
    let id = until("both are followed", || async {
        let roster = declared.roster(&name);
        let one = roster.iter().find(|origin| origin.pod == "one")?;
        (roster.len() == 2).then(|| one.container_id.clone())
    })
    .await;

    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", weir.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let places = ["/logs/uid-s/one+main".to_owned(), format!("/logs/uid-s/{}", id.replace('/', "%2F"))];
    for place in &places {
        let auth = json!({ "token": key });
        socket.send(Message::text(format!("40{place},{auth}"))).await.unwrap();
    }
    let (mut lines, mut ended, mut deleted) = ([0, 0], [false, false], false);
    while ended != [true, true] {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), socket.next()).await;
        let Message::Text(text) = next.expect("something comes").unwrap().unwrap() else { continue };
        if text.as_str() == "2" {
            socket.send(Message::text("3")).await.unwrap();
        }
        assert!(!text.starts_with("44"), "{text}");
        for (at, place) in places.iter().enumerate() {
            let Some(event) = text.strip_prefix(&format!("42{place},")) else { continue };
            let event: Vec<Value> = serde_json::from_str(event).unwrap();
            match event[0].as_str().unwrap() {
                "data" => {
                    assert!(event[1].as_str().unwrap().starts_with("one "), "{event:?}");
                    lines[at] += 1;
                }
                "end" => {
                    assert_eq!(event[1]["text"], "The container is gone.");
                    ended[at] = true;
                }
                _ => {}
            }
        }
        if !deleted && lines.iter().all(|lines| *lines >= 5) {
            cluster.delete("one").await;
            deleted = true;
        }
    }
    assert!(deleted, "it did not end before");
    let auth = json!({ "token": key });
    socket.send(Message::text(format!("40{},{auth}", places[0]))).await.unwrap();
    loop {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
        if text.starts_with(&format!("44{},", places[0])) {
            assert!(text.contains("Invalid namespace"), "{text}");
            break;
        }
    }
}
