//! Changes of pods: a world in which containers live, a watch that shows some of it, and what must be told.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::super::change::{Arrival, Watched};
use crate::record::{Event, Level, Signal, Time};
use crate::source::pods::info::{ContainerInfo, Ending, PodFailure, PodInfo, Run};

const NOW: Time = Time(1_000);

/// What may happen in the world. Containers are numbered; what makes no sense then does not happen.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Start(usize),
    Ready(usize, bool),
    End(usize, How),
    Wait(usize, &'static str),
    Evict,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Well,
    Badly,
    OutOfMemory,
}

fn happens() -> impl Strategy<Value = Happens> {
    let how = prop_oneof![Just(How::Well), Just(How::Badly), Just(How::OutOfMemory)];
    let reasons = vec!["CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "ContainerCreating"];
    prop_oneof![
        5 => (0..2_usize).prop_map(Happens::Start),
        4 => (0..2_usize, any::<bool>()).prop_map(|(at, ready)| Happens::Ready(at, ready)),
        5 => (0..2_usize, how).prop_map(|(at, how)| Happens::End(at, how)),
        3 => (0..2_usize, prop::sample::select(reasons)).prop_map(|(at, reason)| Happens::Wait(at, reason)),
        1 => Just(Happens::Evict),
        1 => Just(Happens::Delete),
    ]
}

/// How many times the watch shows a picture: not at all, once, or again.
fn shown() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0_usize), 3 => Just(1), 1 => Just(3)]
}

fn pod() -> PodInfo {
    let container = |name: &str| ContainerInfo { name: name.into(), ..ContainerInfo::default() };
    PodInfo {
        namespace: "n".into(),
        name: "p".into(),
        uid: "u".into(),
        containers: vec![container("c0"), container("c1")],
        ..PodInfo::default()
    }
}

/// The id of a run is its container and number; its exit code tells the number again, and never that it went well.
fn happen(pod: &mut PodInfo, what: Happens) {
    match what {
        Happens::Start(at) => {
            let container = &mut pod.containers[at];
            let number = match container.run.take() {
                Some(run) if !run.terminated => {
                    container.run = Some(run);
                    return;
                }
                Some(run) => {
                    container.before = run.ending.map(|ending| Box::new((run.container_id, ending)));
                    run.restarts + 1
                }
                None => 0,
            };
            container.restarts = number;
            container.waiting = None;
            let id = format!("c{at}-{number}");
            container.run = Some(Run { container_id: id, restarts: number, ..Run::default() });
        }
        Happens::Ready(at, ready) => {
            let container = &mut pod.containers[at];
            container.ready = ready && container.run.as_ref().is_some_and(|run| !run.terminated);
        }
        Happens::End(at, how) => {
            let container = &mut pod.containers[at];
            let Some(run) = container.run.as_mut().filter(|run| !run.terminated) else { return };
            let (reason, code) = match how {
                How::Well => ("Completed", 0),
                How::Badly => ("Error", 1 + run.restarts),
                How::OutOfMemory => ("OOMKilled", 137),
            };
            run.terminated = true;
            run.ending = Some(Ending { reason: reason.into(), exit_code: code, time: Some(Time(run.restarts.into())) });
            container.ready = false;
        }
        Happens::Wait(at, reason) => {
            let container = &mut pod.containers[at];
            if container.run.as_ref().is_none_or(|run| run.terminated) {
                container.waiting = Some(reason.into());
            }
        }
        Happens::Evict => {
            let failure = PodFailure { reason: "Evicted".into(), message: String::new(), evicted: true };
            pod.failure.get_or_insert(Box::new(failure));
        }
        Happens::Delete => pod.deleting = true,
    }
}

fn all_in_view(_: &PodInfo, _: &ContainerInfo) -> bool {
    true
}

fn of<'s>(signals: &'s [Signal], container: &str, event: Event) -> Vec<&'s Signal> {
    let about = |signal: &&Signal| signal.origin.as_ref().is_some_and(|origin| origin.container == container);
    signals.iter().filter(about).filter(|signal| signal.event == event).collect()
}

/// Which runs the pictures show to have ended, and how.
fn ends_in(pictures: &[Arc<PodInfo>], container: usize) -> BTreeSet<(i64, String, i32)> {
    let shows = |pod: &Arc<PodInfo>| {
        let container = &pod.containers[container];
        let present = container.run.as_ref().and_then(|run| run.ending.clone());
        let before = container.before.as_deref().map(|(_, ending)| ending.clone());
        [present, before].into_iter().flatten().collect::<Vec<_>>()
    };
    let key = |ending: Ending| (ending.time.unwrap().0, ending.reason, ending.exit_code);
    pictures.iter().flat_map(shows).map(key).collect()
}

fn waits_in(pictures: &[Arc<PodInfo>], container: usize) -> usize {
    let waits = pictures.iter().filter_map(|pod| {
        let container = &pod.containers[container];
        let run = container.run.as_ref().map(|run| run.restarts);
        let reason = container.waiting.clone().filter(|reason| reason != "ContainerCreating")?;
        Some((run, reason))
    });
    waits.collect::<BTreeSet<_>>().len()
}

/// Whether a reader who knows nothing but the signals takes the container for ready; no signal repeats what he knows.
fn readiness(signals: &[Signal], container: &str) -> bool {
    let mut ready = false;
    for signal in signals.iter().filter(|signal| signal.origin.as_ref().unwrap().container == container) {
        match signal.event {
            Event::Ready => assert!(!std::mem::replace(&mut ready, true), "ready was told twice"),
            Event::NotReady => assert!(std::mem::replace(&mut ready, false), "not ready was told twice"),
            Event::Restarted | Event::Terminated | Event::OomKilled => ready = false,
            _ => {}
        }
    }
    ready
}

proptest! {
    #[test]
    fn everything_that_the_pictures_show_is_told_once(
        story in prop::collection::vec((happens(), shown()), 0..60),
    ) {
        let mut world = pod();
        let mut pictures = vec![Arc::new(world.clone())];
        for (what, times) in story {
            happen(&mut world, what);
            // A list that comes again makes new pictures of the same.
            pictures.extend((0..times).map(|_| Arc::new(world.clone())));
        }
        let (mut watched, mut told) = Watched::enter(&pictures[0], Arrival::New, &all_in_view, NOW);
        for picture in &pictures[1..] {
            told.extend(watched.advance(picture, &all_in_view, NOW));
        }
        told.extend(watched.leave(&all_in_view, NOW));

        let last = pictures.last().unwrap();
        for (at, container) in last.containers.iter().enumerate() {
            let name = container.name.as_str();
            for event in [Event::Added, Event::Deleted] {
                prop_assert_eq!(of(&told, name, event).len(), 1);
            }
            let restarts: u32 = of(&told, name, Event::Restarted).iter().map(|signal| signal.count.unwrap()).sum();
            prop_assert_eq!(i64::from(restarts), i64::from(container.restarts));

            let ends: Vec<_> =
                [Event::Terminated, Event::OomKilled].iter().flat_map(|event| of(&told, name, *event)).collect();
            let key = |signal: &&Signal| (signal.time.0, signal.reason.clone().unwrap(), signal.exit_code.unwrap());
            prop_assert_eq!(ends.iter().map(key).collect::<BTreeSet<_>>(), ends_in(&pictures, at));
            prop_assert_eq!(ends.len(), ends_in(&pictures, at).len(), "no end twice");
            for end in ends {
                prop_assert_eq!(end.event == Event::OomKilled, end.reason.as_deref() == Some("OOMKilled"));
                prop_assert_eq!(end.level == Level::Error, end.event == Event::OomKilled);
            }
            prop_assert_eq!(of(&told, name, Event::Waiting).len(), waits_in(&pictures, at));
            if !last.deleting {
                prop_assert_eq!(readiness(&told, name), container.ready);
            }
        }
        let evictions = of(&told, "", Event::Evicted).len();
        prop_assert_eq!(evictions, usize::from(pictures.iter().any(|pod| pod.failure.is_some())));
    }

    #[test]
    fn what_a_known_pod_has_gone_through_before_is_no_news(
        before in prop::collection::vec(happens(), 0..40),
        repeats in 1..4,
    ) {
        let mut world = pod();
        before.into_iter().for_each(|what| happen(&mut world, what));
        let world = Arc::new(world);
        let (mut watched, mut told) = Watched::enter(&world, Arrival::Known, &all_in_view, NOW);
        for _ in 0..repeats {
            told.extend(watched.advance(&world, &all_in_view, NOW));
        }
        prop_assert!(told.iter().all(|signal| signal.event == Event::Added), "{told:?}");
        prop_assert_eq!(told.len(), 2);
    }
}

/// A pod as a kubelet reports it.
fn reported(status: Value) -> Arc<PodInfo> {
    let object = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]}, "status": status});
    Arc::new(PodInfo::from_pod(&serde_json::from_value(object).unwrap()).unwrap())
}

fn container(state: Value, last: Value, restarts: u32, id: &str, ready: bool) -> Value {
    json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": restarts,
        "containerID": id, "state": state, "lastState": last}]})
}

fn ended(reason: &str, code: i32, id: &str) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "containerID": id,
        "finishedAt": "2026-01-31T12:00:00Z"}})
}

fn told(statuses: Vec<Value>) -> Vec<(Level, Event, String)> {
    let mut pictures = statuses.into_iter().map(reported);
    let (mut watched, mut told) = Watched::enter(&pictures.next().unwrap(), Arrival::New, &all_in_view, NOW);
    pictures.for_each(|pod| told.extend(watched.advance(&pod, &all_in_view, NOW)));
    let brief = |signal: Signal| (signal.level, signal.event, signal.text);
    told.into_iter().skip(1).map(brief).collect()
}

#[rstest]
#[case::crash_loop(vec![
    container(json!({"running": {}}), json!({}), 0, "a", true),
    container(ended("Error", 3, "a"), json!({}), 0, "a", false),
    container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended("Error", 3, "a"), 0, "a", false),
    container(ended("Error", 3, "a"), json!({}), 0, "a", false),
    container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended("Error", 3, "a"), 0, "a", false),
    container(json!({"running": {}}), ended("Error", 3, "a"), 1, "b", true),
], vec![
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
    (Level::Warning, Event::Terminated, "Container TERMINATED: n/p/c (Error, exit code 3)"),
    (Level::Error, Event::Waiting, "Container WAITING: n/p/c (CrashLoopBackOff)"),
    (Level::Warning, Event::Restarted, "Container RESTARTED: n/p/c, restart 1"),
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
])]
#[case::out_of_memory_and_three_restarts_at_once(vec![
    container(json!({"running": {}}), json!({}), 0, "a", true),
    container(json!({"running": {}}), ended("OOMKilled", 137, "c"), 3, "d", false),
], vec![
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
    (Level::Error, Event::OomKilled, "Container OOM-KILLED: n/p/c (OOMKilled, exit code 137)"),
    (Level::Warning, Event::Restarted, "Container RESTARTED: n/p/c, restart 3, 3 since it was last told of"),
])]
#[case::a_job_that_is_done(vec![
    container(json!({"running": {}}), json!({}), 0, "a", true),
    container(ended("Completed", 0, "a"), json!({}), 0, "a", false),
], vec![
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
    (Level::Info, Event::Terminated, "Container TERMINATED: n/p/c (Completed, exit code 0)"),
])]
#[case::a_probe_that_fails_and_recovers(vec![
    container(json!({"running": {}}), json!({}), 0, "a", true),
    container(json!({"running": {}}), json!({}), 0, "a", false),
    container(json!({"running": {}}), json!({}), 0, "a", true),
], vec![
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
    (Level::Warning, Event::NotReady, "Container NOT READY: n/p/c"),
    (Level::Info, Event::Ready, "Container READY: n/p/c"),
])]
#[case::an_image_that_is_not_there(vec![
    container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0, "", false),
    container(json!({"waiting": {"reason": "ErrImagePull"}}), json!({}), 0, "", false),
    container(json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}), 0, "", false),
    container(json!({"waiting": {"reason": "ErrImagePull"}}), json!({}), 0, "", false),
    container(json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}), 0, "", false),
], vec![
    (Level::Error, Event::Waiting, "Container WAITING: n/p/c (ErrImagePull)"),
    (Level::Error, Event::Waiting, "Container WAITING: n/p/c (ImagePullBackOff)"),
])]
#[case::evicted_by_its_node(vec![
    json!({"phase": "Running"}),
    json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}),
    json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}),
], vec![(Level::Error, Event::Evicted, "Pod EVICTED: n/p (Evicted: The node was low on memory.)")])]
#[case::about_to_be_evicted(vec![
    json!({"phase": "Running"}),
    json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "EvictionByEvictionAPI"}]}),
], vec![(Level::Error, Event::Evicted, "Pod EVICTED: n/p (EvictionByEvictionAPI)")])]
#[case::too_late(vec![
    json!({"phase": "Running"}),
    json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
], vec![(Level::Error, Event::Terminated, "Pod FAILED: n/p (DeadlineExceeded)")])]
fn a_kubelets_reports_become_signals(
    #[case] statuses: Vec<Value>,
    #[case] expected: Vec<(Level, Event, &'static str)>,
) {
    let expected: Vec<_> = expected.into_iter().map(|(level, event, text)| (level, event, text.to_owned())).collect();
    assert_eq!(told(statuses), expected);
}

#[test]
fn what_a_reporter_wrote_is_bounded() {
    let long = "ä".repeat(10_000);
    let pod = reported(json!({"phase": "Failed", "reason": long, "message": long}));
    let failure = pod.failure.as_ref().unwrap();
    assert!(failure.reason.len() <= 128 && failure.message.len() <= 512);
    let status = container(ended(&long, 1, "a"), json!({}), 0, "a", false);
    let text = told(vec![status]).pop().unwrap().2;
    assert!(text.len() < 256, "{}", text.len());
}

#[test]
fn the_end_of_a_pod_that_is_deleted_is_no_fault() {
    let running = reported(container(json!({"running": {}}), json!({}), 0, "a", true));
    let mut last = PodInfo::clone(&reported(container(ended("Error", 143, "a"), json!({}), 0, "a", false)));
    last.deleting = true;
    let (mut watched, _) = Watched::enter(&running, Arrival::Known, &all_in_view, NOW);
    let mut told = watched.advance(&Arc::new(last), &all_in_view, NOW);
    told.extend(watched.leave(&all_in_view, NOW));
    let brief: Vec<_> = told.iter().map(|signal| (signal.level, signal.event, signal.exit_code)).collect();
    assert_eq!(brief, [(Level::Info, Event::Terminated, Some(143)), (Level::Info, Event::Deleted, Some(143))]);
}

#[test]
fn a_container_out_of_view_is_never_told_of() {
    let only_first = |_: &PodInfo, container: &ContainerInfo| container.name == "c0";
    let mut world = pod();
    let (mut watched, mut told) = Watched::enter(&Arc::new(world.clone()), Arrival::New, &only_first, NOW);
    for what in [Happens::Start(0), Happens::Start(1), Happens::End(1, How::OutOfMemory), Happens::Evict] {
        happen(&mut world, what);
        told.extend(watched.advance(&Arc::new(world.clone()), &only_first, NOW));
    }
    told.extend(watched.leave(&only_first, NOW));
    let events: Vec<_> = told.iter().map(|signal| signal.event).collect();
    assert_eq!(events, [Event::Added, Event::Evicted, Event::Deleted]);
    assert_eq!(watched.seen(), 1);
}
