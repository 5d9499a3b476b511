//! What a stream of metrics tells of its containers: why values end, and each once.

use std::sync::Arc;

use crate::record::{Event, Level, Signal};
use crate::source::pods::info::{Ending, PodFailure};
use crate::source::pods::metrics::members::Members;
use crate::source::pods::{ContainerInfo, PodInfo, Run};

fn ending(reason: &str, exit_code: i32) -> Option<Ending> {
    Some(Ending { reason: reason.into(), exit_code, time: None })
}

/// A pod of one container, in this run, which has ended where `ended` says how.
fn pod(run: &str, restarts: i32, ended: Option<Ending>) -> PodInfo {
    let run = Run { container_id: run.into(), restarts, terminated: ended.is_some(), ending: ended };
    let main = ContainerInfo { name: "main".into(), run: Some(run), ..ContainerInfo::default() };
    PodInfo {
        namespace: "shop".into(),
        name: "cart".into(),
        uid: "1".into(),
        containers: vec![main],
        ..PodInfo::default()
    }
}

fn told(pictures: impl IntoIterator<Item = PodInfo>) -> Vec<(Event, Level, Option<String>, Option<i32>)> {
    let mut members = Members::new(crate::api::PodSelection::default().compile().unwrap(), Arc::new(|_, _| true));
    let signals = pictures.into_iter().flat_map(|pod| members.apply(&Arc::new(pod)));
    let said = |signal: Signal| (signal.event, signal.level, signal.reason, signal.exit_code);
    signals.map(said).collect()
}

#[test]
fn memory_that_ran_out_is_told_once_and_as_such() {
    let killed = || pod("a", 0, ending("OOMKilled", 137));
    let expected = [
        (Event::Added, Level::Info, None, None),
        (Event::OomKilled, Level::Error, Some("OOMKilled".into()), Some(137)),
    ];
    assert_eq!(told([pod("a", 0, None), killed(), killed()]), expected);
}

#[test]
fn an_eviction_is_told_with_its_reason() {
    let mut evicted = pod("a", 0, ending("Error", 143));
    let failure = PodFailure { reason: "Evicted".into(), message: "disk".into(), evicted: true };
    evicted.failure = Some(Box::new(failure));
    let said = told([pod("a", 0, None), evicted]);
    assert_eq!(said[1..], [(Event::Evicted, Level::Error, Some("Evicted".into()), Some(143))]);
}

#[test]
fn a_restart_says_how_the_run_before_ended() {
    let mut again = pod("b", 1, None);
    again.containers[0].before = Some(Box::new(("a".into(), ending("Error", 3).unwrap())));
    let said = told([pod("a", 0, None), again]);
    assert_eq!(said[1..], [(Event::Restarted, Level::Warning, Some("Error".into()), Some(3))]);
}

#[test]
fn an_end_in_good_order_is_no_alarm() {
    let said = told([pod("a", 0, None), pod("a", 0, ending("Completed", 0))]);
    assert_eq!(said[1..], [(Event::Terminated, Level::Info, Some("Completed".into()), Some(0))]);
}
