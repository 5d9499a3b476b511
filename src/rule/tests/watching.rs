//! A stream that is watched: what its readers, its receivers and the counters are told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast;

use super::{Office, WRITTEN, quick, receiver, rule};
use crate::api::RuleSpec;
use crate::record::{Batch, Event, Level, Line, Origin, Regarding, Signal, Time};
use crate::rule::{Firing, Identity, ReceiverName, RuleSet, Subject, Watch, WatchContext};
use crate::stream::{Item, LiveStream, RingLimits, StreamName, TapGuard};
use crate::telemetry::{AlertKind, AlertOutcome};

struct Watched {
    office: Office,
    stream: LiveStream,
    firings: broadcast::Receiver<Firing>,
    _tap: TapGuard,
}

fn origin(pod: &str) -> Arc<Origin> {
    Arc::new(Origin { namespace: "shop".into(), pod: pod.into(), container: "web".into(), ..Origin::default() })
}

impl Watched {
    fn with(rules: &[RuleSpec]) -> Self {
        Self::of(Subject::Records, rules)
    }

    fn of(subject: Subject, rules: &[RuleSpec]) -> Self {
        let office = Office::open(quick());
        office.receivers.set(ReceiverName::new("shop", "ops"), receiver(json!({"stdout": {}})));
        // Another tenant's receiver of the same name hears nothing.
        office.receivers.set(ReceiverName::new("bank", "ops"), receiver(json!({"stdout": {}, "suspend": true})));
        let stream = LiveStream::new(RingLimits::default(), 1);
        let (sender, firings) = broadcast::channel(16);
        let context = WatchContext {
            identity: Identity::new("weir-0"),
            stream: StreamName::new("shop", "carts"),
            subject,
            receivers: Arc::clone(&office.receivers),
            firings: sender,
        };
        let tap = stream.tap(Arc::new(Watch::new(RuleSet::compile(rules).unwrap(), context)));
        Self { office, stream, firings, _tap: tap }
    }

    fn publish(&self, pod: &str, lines: &[(&str, Time)]) {
        let (mut data, mut table) = (Vec::new(), Vec::new());
        for (text, time) in lines {
            let start = data.len();
            data.extend_from_slice(text.as_bytes());
            table.push(Line::new(start..data.len(), *time, false));
        }
        self.stream.publish(Arc::new(Batch::new(origin(pod), Bytes::from(data), table)));
    }

    fn signals(&self) -> Vec<Arc<Signal>> {
        let signal = |item| match item {
            Item::Signal(signal) => Some(signal),
            Item::Records(_) | Item::Reading(_) => None,
        };
        self.stream.snapshot().into_iter().filter_map(|entry| signal(entry.item)).collect()
    }
}

fn seconds(seconds: i64) -> Time {
    WRITTEN.plus_nanos(seconds * 1_000_000_000)
}

#[tokio::test]
async fn a_rule_that_fires_is_a_signal_behind_its_record_a_count_and_an_alert() {
    let mut watched = Watched::with(&[rule(json!({"text": "oops"}))]);
    watched.publish("cart-1", &[("fine", WRITTEN), ("oops\u{7} it broke", WRITTEN)]);
    let office = &watched.office;
    office.until(AlertKind::Stdout, AlertOutcome::Delivered, 1).await;
    assert_eq!(office.paper.text(), "[2026-11-03 09:30:00 UTC] ALERT [weir-0] [oops]: oops\\u{7} it broke\n");
    assert_eq!(office.metrics.rules_fired.get(), 1);
    assert_eq!(office.counted(AlertKind::Stdout, AlertOutcome::Suspended), 0);
    let signals = watched.signals();
    assert_eq!(signals.len(), 1);
    let signal = &signals[0];
    assert_eq!(
        (signal.level, signal.event, signal.reason.as_deref()),
        (Level::Warning, Event::RuleFired, Some("oops"))
    );
    assert_eq!(signal.origin.as_ref().unwrap().pod, "cart-1");
    assert_eq!(signal.text, "The rule oops fired: oops\\u{7} it broke");
    assert!(matches!(watched.stream.snapshot()[0].item, Item::Records(_)), "behind the record");
    let firing = watched.firings.try_recv().unwrap();
    assert_eq!((firing.rule.as_str(), firing.source.as_str()), ("oops", "shop/cart-1/web"));
    watched.office.close().await;
}

#[tokio::test]
async fn a_rule_is_quiet_for_its_cooldown_for_each_source_by_itself() {
    let watched = Watched::with(&[rule(json!({"text": "oops", "cooldown": "1h", "message": "{source}"}))]);
    for _ in 0..5 {
        watched.publish("cart-1", &[("oops", WRITTEN); 20]);
        watched.publish("cart-2", &[("oops", WRITTEN); 20]);
        watched.office.until(AlertKind::Stdout, AlertOutcome::Delivered, 2).await;
    }
    assert_eq!(watched.office.metrics.rules_fired.get(), 2);
    let text = watched.office.paper.text();
    assert!(text.contains("shop/cart-1/web") && text.contains("shop/cart-2/web"), "{text}");
    watched.office.close().await;
}

#[tokio::test]
async fn a_threshold_counts_by_the_times_of_the_records() {
    let slow = [("oops", seconds(0)), ("oops", seconds(10)), ("oops", seconds(20)), ("oops", seconds(30))];
    let quick = [("oops", seconds(40)), ("fine", seconds(40)), ("oops", seconds(41)), ("oops", seconds(42))];
    let watched = Watched::with(&[rule(json!({"text": "oops", "threshold": "3 in 2s", "message": "many: {line}"}))]);
    watched.publish("cart-1", &slow);
    assert_eq!(watched.signals().len(), 0);
    watched.publish("cart-1", &quick);
    assert_eq!(watched.signals().len(), 1);
    watched.office.until(AlertKind::Stdout, AlertOutcome::Delivered, 1).await;
    watched.office.close().await;
}

#[tokio::test]
async fn several_rules_fire_on_one_record_and_a_rule_tells_all_of_its_receivers() {
    let rules = [
        rule(json!({"name": "a", "text": "oops", "receivers": ["ops", "missing", "ops2"]})),
        rule(json!({"name": "b", "pattern": "o{2}ps", "receivers": ["ops2"]})),
        rule(json!({"name": "c", "text": "fine"})),
    ];
    let watched = Watched::with(&rules);
    let office = &watched.office;
    office.receivers.set(ReceiverName::new("shop", "ops2"), receiver(json!({"stdout": {}})));
    watched.publish("cart-1", &[("oops", WRITTEN)]);
    office.until(AlertKind::Stdout, AlertOutcome::Delivered, 3).await;
    assert_eq!(office.counted(AlertKind::Unknown, AlertOutcome::NoReceiver), 1);
    let told: Vec<_> = watched.signals().iter().map(|signal| signal.reason.clone().unwrap()).collect();
    assert_eq!(told, ["a", "b"]);
    watched.office.close().await;
}

#[tokio::test]
async fn the_signals_of_a_stream_of_signals_are_watched_and_none_else_are() {
    let killed = || {
        let signal = Signal::new(Level::Error, Event::OomKilled, WRITTEN, "Memory ran out.").because("OOMKilled");
        signal.about(&origin("cart-1"))
    };
    let event = || {
        let object = Regarding { kind: "Job".into(), namespace: "shop".into(), name: "nightly".into() };
        Signal::new(Level::Warning, Event::Kubernetes, WRITTEN, "Job shop/nightly: it failed").regarding(object, 1)
    };
    let rules =
        [rule(json!({"pattern": "^oom-killed OOMKilled: |: it failed|^rule-fired", "message": "{source}: {line}"}))];
    let watched = Watched::of(Subject::Signals, &rules);
    for signal in [killed(), event(), Signal::new(Level::Info, Event::Ready, WRITTEN, "")] {
        watched.stream.signal(signal);
    }
    watched.office.until(AlertKind::Stdout, AlertOutcome::Delivered, 2).await;
    let said = watched.office.paper.text();
    assert!(said.contains("shop/cart-1/web: oom-killed OOMKilled: Memory ran out.\n"), "{said}");
    assert!(said.contains("shop/Job/nightly: kubernetes-event: Job shop/nightly: it failed\n"), "{said}");
    watched.office.close().await;

    let watched = Watched::with(&rules);
    watched.stream.signal(killed());
    assert_eq!(watched.office.metrics.rules_fired.get(), 0);
    watched.office.close().await;
}

#[tokio::test]
async fn a_watch_that_is_taken_off_sees_nothing_more() {
    let Watched { office, stream, firings: _firings, _tap: tap } = Watched::with(&[rule(json!({"text": "oops"}))]);
    drop(tap);
    stream.publish(Arc::new(Batch::of_text(origin("cart-1"), WRITTEN, "oops")));
    tokio::time::sleep(Duration::ZERO).await;
    assert_eq!(office.metrics.rules_fired.get(), 0);
    office.close().await;
}
