//! Kubernetes Events: read from both of their forms, each told once.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Event as KubeEvent;
use kube::runtime::watcher::Event as Told;
use parking_lot::Mutex;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::super::SignalFilter;
use super::super::occurrence::{Memory, Occurrence};
use super::super::watch::NewsFilter;
use crate::api::PodSignalsSource;
use crate::record::{Event, Level, Signal, Time, encode};

const SECOND: i64 = 1_000_000_000;

fn at(second: i64) -> String {
    Time(second * SECOND).rfc3339()
}

fn event(uid: &str, count: i32, second: i64) -> KubeEvent {
    let object = json!({"metadata": {"name": uid, "namespace": "n", "uid": uid}, "type": "Warning",
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p", "uid": "u"}, "reason": "BackOff",
        "message": "text", "count": count, "lastTimestamp": at(second)});
    serde_json::from_value(object).unwrap()
}

fn filter(remembered: usize, begin: i64) -> NewsFilter {
    let memory = Memory::new(NonZeroUsize::new(remembered).unwrap());
    NewsFilter::new(Arc::new(Mutex::new(memory)), Time(begin * SECOND))
}

#[rstest]
#[case::of_the_core_group(json!({"count": 4, "firstTimestamp": at(1), "lastTimestamp": at(9)}), 4, 9)]
#[case::of_the_events_group(json!({"eventTime": at(1), "series": {"count": 7, "lastObservedTime": at(8)}}), 7, 8)]
#[case::a_single_one(json!({"eventTime": at(3), "count": null}), 1, 3)]
#[case::without_any_time(json!({}), 1, 2)]
#[case::with_a_count_that_makes_no_sense(json!({"count": -5}), 1, 2)]
fn both_forms_of_events_are_read(#[case] fields: Value, #[case] count: u32, #[case] second: i64) {
    let mut object = json!({"metadata": {"uid": "e", "namespace": "n", "creationTimestamp": at(2)}, "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p", "fieldPath": "spec.containers{web}"},
        "reason": "Pulled", "message": "There."});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let occurrence = Occurrence::of(serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(occurrence.container.as_deref(), Some("web"));
    let told: Value = serde_json::from_slice(&encode::signal_json(&occurrence.signal())).unwrap();
    let expected = json!({"level": "info", "event": "kubernetes-event", "time": at(second), "reason": "Pulled",
        "regarding": {"kind": "Pod", "namespace": "n", "name": "p"}, "count": count, "text": "Pod n/p: There."});
    assert_eq!(told, expected);
}

#[test]
fn what_a_reporter_wrote_is_bounded() {
    let long = "ä".repeat(100_000);
    let mut event = event("e", 1, 1);
    (event.message, event.reason, event.type_) = (Some(long.clone()), Some(long.clone()), Some(long.clone()));
    (event.involved_object.kind, event.involved_object.name) = (Some(long.clone()), Some(long));
    assert!(Occurrence::of(event).unwrap().signal().cost() < 4096);
}

#[test]
fn an_event_is_told_again_only_when_it_has_happened_again() {
    let mut filter = filter(8, 100);
    let mut take = |told| filter.take(told, Time(200 * SECOND)).is_some();
    assert!(!take(Told::Init) && !take(Told::InitApply(event("old", 3, 99))));
    assert!(take(Told::InitApply(event("young", 1, 100))), "it happened since the beginning");
    assert!(!take(Told::InitDone));
    for (uid, count, news) in [
        ("old", 3, false),
        ("old", 4, true),
        ("old", 4, false),
        ("young", 1, false),
        ("new", 1, true),
        ("new", 1, false),
        ("new", 5, true),
        ("new", 2, false),
    ] {
        assert_eq!(take(Told::Apply(event(uid, count, 1))), news, "{uid} {count}");
    }
    // The watch was cut: the list has what happened meanwhile, and what was told.
    assert!(!take(Told::Init));
    for (uid, count, second, news) in
        [("old", 4, 150, false), ("young", 2, 190, true), ("meanwhile", 1, 199, true), ("forgotten", 1, 99, false)]
    {
        assert_eq!(take(Told::InitApply(event(uid, count, second))), news, "{uid} {count}");
    }
    // The same again, because reading the list failed in its middle.
    assert!(!take(Told::Init) && !take(Told::InitApply(event("meanwhile", 1, 199))));
    assert!(take(Told::InitApply(event("second", 1, 199))) && !take(Told::InitDone));
    // What the API server has forgotten may be forgotten here, too.
    assert!(!take(Told::Delete(event("new", 5, 1))) && take(Told::Apply(event("new", 1, 1))));
}

proptest! {
    #[test]
    fn no_event_is_told_twice_and_none_is_forgotten_within_the_bound(
        story in prop::collection::vec((0..6_u8, 1..4_i32, any::<bool>()), 0..80),
    ) {
        let mut filter = filter(6, 0);
        let now = Time(SECOND);
        filter.take(Told::Init, now);
        filter.take(Told::InitDone, now);
        // The oracle: the highest count of each that was shown.
        let mut highest: HashMap<u8, i32> = HashMap::new();
        for (uid, count, cut) in story {
            let known = highest.entry(uid).or_default();
            let news = count > *known;
            *known = count.max(*known);
            let shown = event(&uid.to_string(), count, 1);
            let told = if cut {
                filter.take(Told::Init, now);
                let told = filter.take(Told::InitApply(shown), now);
                filter.take(Told::InitDone, now);
                told
            } else {
                filter.take(Told::Apply(shown), now)
            };
            prop_assert_eq!(told.is_some(), news);
        }
    }
}

#[test]
fn only_so_many_events_are_remembered() {
    let mut filter = filter(2, 0);
    let now = Time(SECOND);
    filter.take(Told::InitDone, now);
    let mut news = |uid: &str| filter.take(Told::Apply(event(uid, 1, 1)), now).is_some();
    assert!(news("a") && news("b") && !news("a") && news("c"));
    assert!(!news("a"), "it was asked after last");
    assert!(news("b"), "it was forgotten for the third");
}

#[rstest]
#[case::all(json!({}), [true, true, true])]
#[case::levels(json!({"levels": ["Error", "Warning"]}), [false, true, true])]
#[case::level(json!({"levels": ["Info"]}), [true, false, false])]
#[case::reasons(json!({"reasons": ["OOMKilled"]}), [false, true, false])]
#[case::a_pattern(json!({"reasons": ["OOM.*|Back.*"]}), [false, true, true])]
#[case::no_part_of_a_reason(json!({"reasons": ["OOM", "Back"]}), [false, false, false])]
#[case::types(json!({"types": ["Warning"]}), [false, true, true])]
#[case::type_of_what_is_well(json!({"types": ["Normal"]}), [true, false, false])]
#[case::together(json!({"types": ["Warning"], "reasons": ["BackOff"]}), [false, false, true])]
fn filters_choose_by_level_reason_and_type(#[case] spec: Value, #[case] expected: [bool; 3]) {
    let spec: PodSignalsSource = serde_json::from_value(spec).unwrap();
    let filter = SignalFilter::of(&spec).unwrap();
    let added = Signal::new(Level::Info, Event::Added, Time(0), "");
    let killed = Signal::new(Level::Error, Event::OomKilled, Time(0), "").because("OOMKilled");
    let backs_off = Occurrence::of(event("e", 1, 1)).unwrap();
    let admitted = [
        filter.admits_change(&added),
        filter.admits_change(&killed),
        filter.admits_event(&backs_off.signal(), &backs_off.kind),
    ];
    assert_eq!(admitted, expected);
}
