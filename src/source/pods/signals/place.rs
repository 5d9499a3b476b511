//! Whether the object of a Kubernetes Event is in view.
//!
//! Events and pods come by two watches. An Event may come before the pod that it is about, or after it has gone, so
//! both are given a little time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::View;
use super::change::Watched;
use super::occurrence::Occurrence;
use crate::api::pattern::GroupKind;
use crate::record::Regarding;
use crate::source::pods::info::PodInfo;

/// How long an Event waits for the object that it is about.
const EARLY: Duration = Duration::from_secs(5);

/// How long after its end a pod's Events are told.
const LATE: Duration = Duration::from_secs(15);

/// How many Events wait, and how many pods are remembered that have gone. What is beyond is taken to be out of view.
const MOST: usize = 4096;

/// Where the object of an Event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In view.
    InView,
    /// Out of view.
    Elsewhere,
    /// Nobody knows it yet.
    Unknown,
}

/// What owns the pods in view, with the number of those pods.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<(String, GroupKind, String), usize>);

impl Owners {
    fn add(&mut self, pod: &PodInfo) {
        for (kind, name) in &pod.groups {
            *self.0.entry((pod.namespace.clone(), *kind, name.clone())).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: &PodInfo) {
        for (kind, name) in &pod.groups {
            let key = (pod.namespace.clone(), *kind, name.clone());
            if let Some(pods) = self.0.get_mut(&key) {
                *pods -= 1;
                if *pods == 0 {
                    self.0.remove(&key);
                }
            }
        }
    }

    fn has(&self, namespace: &str, kind: GroupKind, name: &str) -> bool {
        self.0.contains_key(&(namespace.to_owned(), kind, name.to_owned()))
    }
}

/// Pods that were in view until just now, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(Instant, Arc<PodInfo>)>);

impl Departed {
    fn add(&mut self, pod: &Arc<PodInfo>, now: Instant) {
        while self.0.front().is_some_and(|(since, _)| now.duration_since(*since) > LATE) || self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, Arc::clone(pod)));
    }

    fn find(&self, now: Instant, wanted: impl Fn(&PodInfo) -> bool) -> Option<&Arc<PodInfo>> {
        let late = |since: &Instant| now.duration_since(*since) > LATE;
        self.0.iter().rev().take_while(|(since, _)| !late(since)).map(|(_, pod)| pod).find(|pod| wanted(pod))
    }
}

/// Events that wait for the object that they are about, each with the end of its wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(Instant, Arc<Occurrence>)>);

impl Waiting {
    /// Whether any waits.
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// An Event waits from now on.
    pub(super) fn push(&mut self, event: Arc<Occurrence>, now: Instant) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((now + EARLY, event));
    }

    /// All whose time is not over, to be looked at again.
    pub(super) fn take(&mut self, now: Instant) -> VecDeque<(Instant, Arc<Occurrence>)> {
        self.0.retain(|(until, _)| *until > now);
        std::mem::take(&mut self.0)
    }

    /// Those that wait on.
    pub(super) fn put_back(&mut self, undecided: VecDeque<(Instant, Arc<Occurrence>)>) {
        self.0 = undecided;
    }
}

impl View {
    /// A pod comes into view.
    pub(super) fn enter(&mut self, pod: &Arc<PodInfo>, watched: Watched) {
        self.owners.add(pod);
        if let Some(mirror) = &pod.mirror {
            self.mirrors.insert(mirror.clone(), pod.uid.clone());
        }
        self.containers += watched.seen();
        self.pods.insert(pod.uid.clone(), watched);
    }

    /// A pod in view has changed: `change` takes the new picture.
    pub(super) fn advance<T>(&mut self, uid: &str, change: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        let watched = self.pods.get_mut(uid)?;
        let (before, seen) = (Arc::clone(watched.pod()), watched.seen());
        let changed = change(watched);
        self.containers = self.containers + watched.seen() - seen;
        // It may have been adopted, or let go.
        if before.groups != watched.pod().groups {
            self.owners.add(watched.pod());
            self.owners.remove(&before);
        }
        Some(changed)
    }

    /// A pod goes out of view.
    pub(super) fn leave(&mut self, uid: &str, now: Instant) -> Option<Watched> {
        let watched = self.pods.remove(uid)?;
        let pod = watched.pod();
        self.owners.remove(pod);
        if let Some(mirror) = &pod.mirror {
            self.mirrors.remove(mirror);
        }
        self.containers -= watched.seen();
        self.departed.add(pod, now);
        Some(watched)
    }

    /// The pod of an Event, where the index does not have it: one that has gone, a static pod, or, for an Event that
    /// tells no UID, the one of that name.
    pub(super) fn pod(&self, event: &Occurrence, now: Instant) -> Option<Arc<PodInfo>> {
        if event.object_uid.is_empty() {
            let object = &event.object;
            let is = |pod: &PodInfo| pod.namespace == object.namespace && pod.name == object.name;
            return self.pods.values().map(Watched::pod).find(|pod| is(pod)).cloned();
        }
        let mirrored = self.mirrors.get(event.object_uid.as_str()).and_then(|uid| self.pods.get(uid));
        let departed = || self.departed.find(now, |pod| pod.uid == event.object_uid);
        mirrored.map(Watched::pod).or_else(departed).cloned()
    }

    /// Where the owner of pods is.
    pub(super) fn owner(&self, object: &Regarding, now: Instant) -> Place {
        let Some(kind) = GroupKind::parse(&object.kind) else { return Place::Elsewhere };
        let owned = |pod: &PodInfo| {
            pod.namespace == object.namespace && pod.groups.iter().any(|(of, name)| *of == kind && *name == object.name)
        };
        if self.owners.has(&object.namespace, kind, &object.name) || self.departed.find(now, owned).is_some() {
            Place::InView
        } else {
            Place::Unknown
        }
    }
}
