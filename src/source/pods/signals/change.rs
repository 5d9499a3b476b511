//! What a change of a pod tells: one picture of it and the next become signals.
//!
//! A watch may repeat pictures, leave some out and begin anew. So nothing here counts events: each signal comes from a
//! difference between two pictures, and a picture that comes again tells nothing.

use std::sync::Arc;

use crate::record::{Event, Level, Origin, Signal, Time};
use crate::source::pods::info::{ContainerInfo, Ending, PodInfo};

/// Whether a container of a pod is in view.
pub(super) type InView<'v> = &'v dyn Fn(&PodInfo, &ContainerInfo) -> bool;

/// What is the matter with a pod that comes into view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was made just now: all that it has gone through since is news.
    New,
    /// It was there before: what it is now is no news.
    Known,
}

/// A pod in view, as it was told last.
#[derive(Debug)]
pub(super) struct Watched {
    pod: Arc<PodInfo>,
    /// Why containers wait, as told since their present run began. The kubelet goes back and forth between some
    /// reasons, such as `ErrImagePull` and `ImagePullBackOff`.
    waits: Vec<Wait>,
    /// How many of its containers are in view.
    seen: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Wait {
    container: String,
    reason: String,
}

/// What waiting containers say while all is well.
const PATIENCE: [&str; 2] = ["ContainerCreating", "PodInitializing"];

impl Watched {
    /// The pod comes into view.
    pub(super) fn enter(pod: &Arc<PodInfo>, arrival: Arrival, view: InView<'_>, now: Time) -> (Self, Vec<Signal>) {
        let in_view = pod.containers.iter().filter(|container| view(pod, container));
        let mut told: Vec<Signal> = in_view.map(|container| added(pod, container, now)).collect();
        let mut watched = Self { pod: Arc::clone(pod), waits: Vec::new(), seen: told.len() };
        match arrival {
            Arrival::Known => pod.containers.iter().for_each(|container| drop(watched.waits_anew(container))),
            Arrival::New => {
                watched.pod = Arc::new(unborn(pod));
                told.extend(watched.advance(pod, view, now));
            }
        }
        (watched, told)
    }

    /// The pod as it was told last.
    pub(super) fn pod(&self) -> &Arc<PodInfo> {
        &self.pod
    }

    /// How many of its containers are in view.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// The pod has changed and is in view still.
    pub(super) fn advance(&mut self, pod: &Arc<PodInfo>, view: InView<'_>, now: Time) -> Vec<Signal> {
        let before = std::mem::replace(&mut self.pod, Arc::clone(pod));
        let (mut told, unborn) = (Vec::new(), ContainerInfo::default());
        self.seen = 0;
        for after in &pod.containers {
            let known = before.container(&after.name);
            let (was, is) = (known.is_some_and(|known| view(&before, known)), view(pod, after));
            match (was, is) {
                (false, true) => told.push(added(pod, after, now)),
                (true, false) => told.push(deleted(pod, after, now)),
                _ => {}
            }
            self.seen += usize::from(is);
            // A container that was there out of view is as it is.
            if is && (was || known.is_none()) {
                let change = Change { pod, before: known.unwrap_or(&unborn), after, now };
                self.changed(&change, &mut told);
            } else {
                drop(self.waits_anew(after));
            }
        }
        if before.failure.is_none() && self.seen > 0 {
            told.extend(failed(pod, now));
        }
        told
    }

    /// The pod goes out of view, or is gone.
    pub(super) fn leave(&self, view: InView<'_>, now: Time) -> Vec<Signal> {
        let in_view = self.pod.containers.iter().filter(|container| view(&self.pod, container));
        in_view.map(|container| deleted(&self.pod, container, now)).collect()
    }

    fn changed(&mut self, change: &Change<'_>, told: &mut Vec<Signal>) {
        let Change { pod, before, after, now } = *change;
        change.ends(told);
        let begun = after.restarts > before.restarts || run_id(before) != run_id(after);
        if begun {
            self.waits.retain(|wait| wait.container != after.name);
        }
        if let Some(reason) = self.waits_anew(after) {
            let text = format!("Container WAITING: {} ({reason})", path(pod, after));
            let signal = Signal::new(Level::Error, Event::Waiting, now, text);
            told.push(signal.about(&subject(pod, &after.name)).because(reason));
        }
        // Who ended and began again between two pictures was not ready meanwhile.
        if after.ready && (!before.ready || begun) {
            let text = format!("Container READY: {}", path(pod, after));
            told.push(Signal::new(Level::Info, Event::Ready, now, text).about(&subject(pod, &after.name)));
        }
        // Whoever has ended, or is on the way out, cannot be ready, and that has been told.
        if before.ready && !after.ready && !begun && runs(after) && !pod.deleting {
            let text = format!("Container NOT READY: {}", path(pod, after));
            told.push(Signal::new(Level::Warning, Event::NotReady, now, text).about(&subject(pod, &after.name)));
        }
    }

    /// Why a container waits, where that was not told since its present run began; it counts as told from now on.
    fn waits_anew(&mut self, container: &ContainerInfo) -> Option<String> {
        let reason = container.waiting.clone().filter(|reason| !PATIENCE.contains(&reason.as_str()))?;
        let wait = Wait { container: container.name.clone(), reason: reason.clone() };
        let anew = !self.waits.contains(&wait);
        if anew {
            self.waits.push(wait);
        }
        anew.then_some(reason)
    }
}

/// A container in two pictures.
#[derive(Clone, Copy)]
struct Change<'c> {
    pod: &'c PodInfo,
    before: &'c ContainerInfo,
    after: &'c ContainerInfo,
    now: Time,
}

impl Change<'_> {
    /// Runs that ended, and starts, in the order in which they happened.
    fn ends(&self, told: &mut Vec<Signal>) {
        let (before, after) = (self.before, self.after);
        let earlier = after.before.as_deref().filter(|(id, _)| run_id(before) != run_id(after) && !ended(before, id));
        if let Some((_, ending)) = earlier {
            told.push(self.end(ending));
        }
        if after.restarts > before.restarts {
            told.push(self.restart((after.restarts - before.restarts).unsigned_abs()));
        }
        let run = after.run.as_ref().filter(|run| run.terminated && !ended(before, &run.container_id));
        if let Some(ending) = run.and_then(|run| run.ending.as_ref()) {
            told.push(self.end(ending));
        }
    }

    fn end(&self, ending: &Ending) -> Signal {
        let (level, event, what) = match ending {
            ending if ending.out_of_memory() => (Level::Error, Event::OomKilled, "OOM-KILLED"),
            ending if ending.exit_code == 0 || self.pod.deleting => (Level::Info, Event::Terminated, "TERMINATED"),
            _ => (Level::Warning, Event::Terminated, "TERMINATED"),
        };
        let text = format!("Container {what}: {} ({ending})", path(self.pod, self.after));
        let signal = Signal::new(level, event, ending.time.unwrap_or(self.now), text);
        signal.about(&subject(self.pod, &self.after.name)).because(&*ending.reason).exit_code(ending.exit_code)
    }

    fn restart(&self, times: u32) -> Signal {
        let after = self.after;
        let mut text = format!("Container RESTARTED: {}, restart {}", path(self.pod, after), after.restarts);
        if times > 1 {
            text.push_str(&format!(", {times} since it was last told of"));
        }
        // The run that ended is the one before, or, where no other has begun yet, the present one.
        let ending = after.before.as_deref().map(|(_, ending)| ending);
        let ending = ending.or_else(|| after.run.as_ref().and_then(|run| run.ending.as_ref()));
        let signal = Signal::new(Level::Warning, Event::Restarted, self.now, text);
        let signal = signal.about(&subject(self.pod, &after.name)).times(times);
        match ending {
            Some(ending) => signal.because(&*ending.reason).exit_code(ending.exit_code),
            None => signal,
        }
    }
}

/// A pod of which nothing has been told.
fn unborn(pod: &PodInfo) -> PodInfo {
    let unborn = |container: &ContainerInfo| ContainerInfo {
        name: container.name.clone(),
        kind: container.kind,
        ..ContainerInfo::default()
    };
    PodInfo { containers: pod.containers.iter().map(unborn).collect(), failure: None, ..pod.clone() }
}

/// What is told of a container that comes into view.
pub(super) fn added(pod: &PodInfo, container: &ContainerInfo, now: Time) -> Signal {
    let text = format!("Container ADDED: {}", path(pod, container));
    Signal::new(Level::Info, Event::Added, now, text).about(&subject(pod, &container.name))
}

fn deleted(pod: &PodInfo, container: &ContainerInfo, now: Time) -> Signal {
    let text = format!("Container DELETED: {}", path(pod, container));
    let mut signal = Signal::new(Level::Info, Event::Deleted, now, text).about(&subject(pod, &container.name));
    let run = container.run.as_ref().filter(|run| run.terminated);
    if let Some(ending) = run.and_then(|run| run.ending.as_ref()) {
        signal = signal.because(&*ending.reason).exit_code(ending.exit_code);
    }
    match &pod.failure {
        Some(failure) => signal.because(&*failure.reason),
        None => signal,
    }
}

/// What is told of a pod that failed as a whole, or is sent off its node.
fn failed(pod: &PodInfo, now: Time) -> Option<Signal> {
    let failure = pod.failure.as_deref()?;
    let (event, what) = if failure.evicted { (Event::Evicted, "EVICTED") } else { (Event::Terminated, "FAILED") };
    let colon = if failure.message.is_empty() { "" } else { ": " };
    let text = format!("Pod {what}: {}/{} ({}{colon}{})", pod.namespace, pod.name, failure.reason, failure.message);
    Some(Signal::new(Level::Error, event, now, text).about(&subject(pod, "")).because(&*failure.reason))
}

fn run_id(container: &ContainerInfo) -> Option<&str> {
    container.run.as_ref().map(|run| run.container_id.as_str())
}

fn runs(container: &ContainerInfo) -> bool {
    container.run.as_ref().is_some_and(|run| !run.terminated)
}

/// Whether a picture shows the end of this run.
fn ended(container: &ContainerInfo, container_id: &str) -> bool {
    container.ending_of(container_id).is_some()
}

fn path(pod: &PodInfo, container: &ContainerInfo) -> String {
    format!("{}/{}/{}", pod.namespace, pod.name, container.name)
}

/// Whom a signal concerns: a container through all its runs, or, with an empty name, the whole pod.
pub(super) fn subject(pod: &PodInfo, container: &str) -> Arc<Origin> {
    Arc::new(Origin {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.to_owned(),
        pod_uid: pod.uid.clone(),
        ..Origin::default()
    })
}
