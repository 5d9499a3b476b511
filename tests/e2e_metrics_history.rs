//! History of the metrics of pods on a real cluster: what was read live can be asked for afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

mod served;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use served::{Cluster, Served, until};
use weir::api::StreamSubscriptionSpec;
use weir::stream::{Delivery, ReadFrom, Reader, RingLimits, StreamName};
use weir::worker::{HistoryPlan, Job, Sight};

const MEMORY: &str = "container_memory_working_set_bytes";

#[tokio::test]
async fn what_was_read_live_can_be_asked_for_afterwards() {
    let cluster = Cluster::new("history").await;
    cluster.run("idle", "sleep 1000").await;
    cluster.started("idle").await;
    let weir = Served::new(&cluster).await;
    let selection = json!({"namespaces": [cluster.namespace], "view": "Container"});
    let metrics = json!({"selection": selection, "interval": "2s", "metrics": [MEMORY]});
    let spec: StreamSubscriptionSpec = serde_json::from_value(json!({"source": {"podMetrics": metrics}})).unwrap();
    let (name, declared) = (StreamName::new(served::OPERATOR, "usage"), &weir.services.declared);
    declared.declare(&name, "uid", Job::new(&spec, RingLimits::default(), Sight::Selected).unwrap()).unwrap();
    declared.record(&name, HistoryPlan::of(&spec).unwrap());
    // Three readings with numbers, as a client gets them.
    let mut reader = Reader::open(declared.catalogue().locate(&name).unwrap().stream, ReadFrom::Oldest);
    let (mut live, mut readings): (BTreeMap<(String, i64), f64>, usize) = (BTreeMap::new(), 0);
    while readings < 3 {
        let Delivery::Reading { reading, .. } = reader.next().await else { continue };
        let values = reading.assets().iter().filter_map(|asset| Some((asset.name.clone(), asset.values[0]?)));
        let before = live.len();
        live.extend(values.map(|(asset, value)| ((asset, reading.time().millis()), value)));
        readings += usize::from(live.len() > before);
    }
    let key = weir.key("metrics", json!({"grants": [{"services": ["Metrics"], "scopes": ["Stream"]}]}));
    let url = format!(
        "http://{}/api/v1/metrics/history?stream={name}&name={MEMORY}&interval=0.001&aggregate=last",
        weir.address
    );
    let told = until("history of all that was read", || async {
        let response = reqwest::Client::new().get(&url).bearer_auth(&key).send().await.unwrap();
        let text = response.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let told = points(&answer);
        live.keys().all(|point| told.contains_key(point)).then_some(told)
    })
    .await;
    for (point, value) in &live {
        assert_eq!(told[point].to_bits(), value.to_bits(), "{point:?}");
    }
    weir.stop().await;
}

/// The values of an answer by asset and time in milliseconds.
fn points(answer: &Value) -> BTreeMap<(String, i64), f64> {
    let mut points = BTreeMap::new();
    for curve in answer.as_array().into_iter().flatten() {
        for point in curve["data_points"].as_array().unwrap() {
            let time: jiff::Timestamp = point["timestamp"].as_str().unwrap().parse().unwrap();
            let asset = curve["asset"].as_str().unwrap().to_owned();
            points.insert((asset, time.as_millisecond()), point["value"].as_f64().unwrap());
        }
    }
    points
}
