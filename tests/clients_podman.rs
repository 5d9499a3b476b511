//! The source `containers` against a real engine, whose times have whole seconds only: the hardest case of leaving out
//! what was seen.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails, with what it waited for")]

mod podman;

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::record::Time;
use weir::source::push::Uploads;
use weir::source::{Outside, OutsidePolicy, Sources, Wish};
use weir::stream::{Delivery, LiveStream, ReadFrom, Reader, RingLimits};
use weir::telemetry::Metrics;

use podman::{LONG, Podman};

/// What is read of the source.
struct Reading {
    reader: Reader,
    /// The signals that came, to say what was going on.
    told: Vec<String>,
}

impl Reading {
    /// At least so many lines: those that come together are taken together.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let next = tokio::time::timeout(LONG, self.reader.next()).await;
            let next = next.unwrap_or_else(|_| {
                panic!("{} of {count} lines in time: {lines:?}; told so far: {:?}", lines.len(), self.told)
            });
            match next {
                Delivery::Records { batch, .. } => {
                    let text = |line| String::from_utf8_lossy(batch.text(line)).into_owned();
                    lines.extend(batch.lines().iter().map(text));
                }
                Delivery::Signal { signal, .. } => self.told.push(signal.text.to_string()),
                other => panic!("{other:?}"),
            }
        }
        lines
    }
}

#[tokio::test]
async fn containers_of_podman_are_followed_across_restarts_of_the_engine_and_of_themselves() {
    let mut podman = Podman::new();
    podman.serve().await;
    let metrics = Metrics::new();
    let policy = Arc::new(OutsidePolicy::open(Some(podman.socket())));
    let outside = Outside { policy, ..Outside::closed(Arc::clone(&metrics)) };
    let sources = Sources { pods: None, metrics: None, outside, uploads: Uploads::closed(metrics) };
    let spec = serde_json::from_value(json!({"containers": {"names": ["count-.*"]}})).expect("a source");
    let wish = Wish { visible: Arc::new(|_, _| true), now: Time::now(), stream: None, stopped: &[], history: None };
    let source = sources.build(&spec, &Default::default(), wish).expect("it is allowed");
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let mut reading = Reading { reader: Reader::open(Arc::clone(&stream), ReadFrom::Oldest), told: Vec::new() };
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(Arc::clone(&source).run(stream, cancel.clone()));
    let mut listed = source.listed();
    tokio::time::timeout(LONG, listed.wait_for(|listed| *listed)).await.expect("a list in time").expect("a source");

    let count = "i=0; while [ $i -lt 80 ]; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.1; done";
    podman.run("count-1", count).await;
    let mut read = reading.lines(20).await;
    podman.stop_serving().await;
    podman.serve().await;
    let rest = 160 - read.len();
    read.extend(reading.lines(rest).await);
    for writer in ["out", "err"] {
        let of: Vec<_> = read.iter().filter(|line| line.starts_with(writer)).cloned().collect();
        assert_eq!(of, (0..80).map(|number| format!("{writer} {number}")).collect::<Vec<_>>());
    }
    // Its last line comes before its end, and to start what still runs does nothing.
    podman.do_it(&["wait", "count-1"]).await;
    podman.do_it(&["start", "count-1"]).await;
    assert!(reading.lines(2).await.contains(&"out 0".to_owned()), "the next run is followed");

    podman.do_it(&["rm", "-f", "-t", "0", "count-1"]).await;
    let mut targets = source.targets();
    tokio::time::timeout(LONG, targets.wait_for(|targets| *targets == 0)).await.expect("it is gone").expect("a source");
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
    podman.stop_serving().await;
}
