//! Which containers a stream is about now, and what it tells of their coming and going.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::board::Seen;
use crate::api::CompiledSelection;
use crate::record::{ContainerKind, Event, Level, Origin, Signal, Time};
use crate::source::Visible;
use crate::source::pods::ending::{explained, violent_end};
use crate::source::pods::{PodInfo, Run};

/// The pods of a selection.
pub(super) struct Members {
    selection: CompiledSelection,
    visible: Visible,
    pods: HashMap<String, Member>,
    running: usize,
}

struct Member {
    pod: Arc<PodInfo>,
    /// By name, those that have run at least once since they were first seen running.
    containers: HashMap<String, Container>,
    whole: bool,
}

struct Container {
    origin: Arc<Origin>,
    running: bool,
}

impl Members {
    pub fn new(selection: CompiledSelection, visible: Visible) -> Self {
        Self { selection, visible, pods: HashMap::new(), running: 0 }
    }

    /// Takes a pod as it is now, and gives what readers are to be told.
    pub fn apply(&mut self, pod: &Arc<PodInfo>) -> Vec<Signal> {
        if !self.selection.matches(&pod.facts()) {
            return self.remove(&pod.uid);
        }
        let (selection, visible) = (&self.selection, &self.visible);
        let wants = |name: &str| selection.matches_container(&pod.name, name) && visible(&pod.facts(), name);
        let listed = |kind| match kind {
            ContainerKind::Regular => true,
            ContainerKind::Init => selection.init_containers,
            ContainerKind::Ephemeral => selection.ephemeral_containers,
        };
        let regular = pod.containers.iter().filter(|container| container.kind == ContainerKind::Regular);
        let whole = regular.clone().all(|container| wants(&container.name));
        let member = self.pods.entry(pod.uid.clone()).or_insert_with(|| Member {
            pod: Arc::clone(pod),
            containers: HashMap::new(),
            whole,
        });
        (member.pod, member.whole) = (Arc::clone(pod), whole);
        let mut signals = Vec::new();
        for container in pod.containers.iter().filter(|container| listed(container.kind) && wants(&container.name)) {
            if let Some(run) = &container.run {
                let before = member.running();
                signals.extend(member.note(&container.name, run));
                self.running = self.running + member.running() - before;
            }
        }
        signals
    }

    /// Takes out a pod that is gone or no longer selected.
    pub fn remove(&mut self, uid: &str) -> Vec<Signal> {
        let Some(member) = self.pods.remove(uid) else { return Vec::new() };
        self.running -= member.running();
        let mut gone: Vec<_> = member.containers.into_values().map(|container| container.origin).collect();
        gone.sort_by_key(|origin| origin.path());
        gone.iter().map(|origin| told(Level::Info, Event::Deleted, origin, "DELETED", "")).collect()
    }

    /// Takes out all pods that are not among these.
    pub fn keep_only(&mut self, pods: &[Arc<PodInfo>]) -> Vec<Signal> {
        let there: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        let gone: Vec<String> = self.pods.keys().filter(|uid| !there.contains(uid.as_str())).cloned().collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.pods.clear();
        self.running = 0;
    }

    /// The containers that run, sorted.
    pub fn roster(&self) -> Vec<Arc<Origin>> {
        let containers = self.pods.values().flat_map(|member| member.containers.values());
        let mut roster: Vec<_> =
            containers.filter(|container| container.running).map(|container| Arc::clone(&container.origin)).collect();
        roster.sort_by_key(|origin| origin.path());
        roster
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.running
    }

    /// The pods of which something runs.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = |member: &Member| {
            let running = member.containers.iter().filter(|(_, container)| container.running);
            let mut containers: Vec<String> = running.map(|(name, _)| name.clone()).collect();
            containers.sort_unstable();
            let seen = Seen { pod: Arc::clone(&member.pod), containers, whole: member.whole };
            (!seen.containers.is_empty()).then_some(seen)
        };
        self.pods.values().filter_map(seen).collect()
    }
}

impl Member {
    fn running(&self) -> usize {
        self.containers.values().filter(|container| container.running).count()
    }

    /// A container that had ended before it was first seen is not told of: there is nothing to measure.
    fn note(&mut self, name: &str, run: &Run) -> Option<Signal> {
        let Some(known) = self.containers.get_mut(name) else {
            let origin = self.pod.origin(name, run);
            let signal = told(Level::Info, Event::Added, &origin, "ADDED", "");
            let container = Container { origin, running: true };
            return (!run.terminated).then(|| {
                self.containers.insert(name.to_owned(), container);
                signal
            });
        };
        let another = known.origin.container_id != run.container_id;
        let was_running = std::mem::replace(&mut known.running, !run.terminated);
        if another {
            let ended = self.pod.container(name).and_then(|container| container.ending_of(&known.origin.container_id));
            known.origin = self.pod.origin(name, run);
            let how = ended.map(|ended| format!(" (it had ended: {ended})")).unwrap_or_default();
            let times = format!(", restart {}{how}", run.restarts);
            return Some(explained(told(Level::Warning, Event::Restarted, &known.origin, "RESTARTED", &times), ended));
        }
        if was_running && run.terminated {
            let ended = run.ending.as_ref();
            let how = ended.map(|ended| format!(" ({ended})")).unwrap_or_default();
            let plain = || explained(told(Level::Info, Event::Terminated, &known.origin, "TERMINATED", &how), ended);
            return Some(violent_end(&self.pod, &known.origin, ended).unwrap_or_else(plain));
        }
        None
    }
}

fn told(level: Level, event: Event, origin: &Arc<Origin>, what: &str, more: &str) -> Signal {
    let text = format!("Container {what}: {}{more}", origin.path());
    Signal::new(level, event, Time::now(), text).about(origin)
}
