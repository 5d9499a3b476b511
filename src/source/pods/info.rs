//! What Weir remembers of a pod: a fraction of the object, so that a large cluster fits in a small memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use crate::api::PodFacts;
use crate::api::pattern::GroupKind;
use crate::record::{ContainerKind, Origin, REASON_BYTES, Time};

/// A pod, as far as streams need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID: tells two pods of one name apart.
    pub uid: String,
    /// Node, empty while not scheduled.
    pub node: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The controllers the pod belongs to, the nearest first: a Deployment's pod belongs to the
    /// ReplicaSet and to the Deployment.
    pub groups: Vec<(GroupKind, String)>,
    /// All containers of all three lists, in the order of the spec.
    pub containers: Vec<ContainerInfo>,
    /// When it was made.
    pub created: Time,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Why it failed as a whole, or is sent off its node.
    pub failure: Option<Box<PodFailure>>,
    /// The UID by which the kubelet's Events know it, where that is another: a static pod's.
    pub mirror: Option<Box<str>>,
}

/// Why a pod failed as a whole, or is sent off its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    /// One word, such as `Evicted` or `DeadlineExceeded`.
    pub reason: String,
    /// A sentence, cut to a bounded length.
    pub message: String,
    /// Whether its node had to be without it, by no fault of its containers.
    pub evicted: bool,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Name.
    pub name: String,
    /// Which list it stands in.
    pub kind: ContainerKind,
    /// The present run, once the container has started for the first time.
    pub run: Option<Run>,
    /// How the run before the present one ended, and its id, while the runtime knows it.
    pub before: Option<Box<(String, Ending)>>,
    /// How often the container was started again, by the kubelet's count.
    pub restarts: i32,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it waits to be started, where it does: `CrashLoopBackOff`.
    pub waiting: Option<String>,
}

/// One run of a container, from its start to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The runtime's id, such as `containerd://…`.
    pub container_id: String,
    /// How many runs came before it.
    pub restarts: i32,
    /// Whether the run has ended.
    pub terminated: bool,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// How a run ended. Shown as people read it: `Error, exit code 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The runtime's word: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// The exit code of the first process; 128 and the number of the signal that killed it.
    pub exit_code: i32,
    /// When, in whole seconds, by the node's clock.
    pub time: Option<Time>,
}

impl Ending {
    /// Whether memory ran out.
    pub fn out_of_memory(&self) -> bool {
        self.reason == "OOMKilled"
    }

    fn of(ended: &ContainerStateTerminated) -> Self {
        Self {
            reason: bounded(ended.reason.as_deref().unwrap_or("Terminated"), REASON_BYTES),
            exit_code: ended.exit_code,
            time: ended.finished_at.as_ref().map(|time| Time::from_jiff(time.0)),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, exit code {}", self.reason, self.exit_code)
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunFate {
    /// It runs, as far as is known.
    Running,
    /// It has ended and no other has begun.
    Terminated,
    /// Another run has begun; `next` tells whether it is the very next, so that the ended run's log is still kept.
    Replaced {
        /// Whether exactly one run has begun since.
        next: bool,
    },
    /// The pod is gone.
    Gone,
}

impl PodInfo {
    /// Reads a pod. `None` for one without name, namespace or UID, which no API server sends.
    pub fn from_pod(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let labels = meta.labels.clone().unwrap_or_default();
        let mut containers = Vec::new();
        if let Some(spec) = spec {
            let statuses = |list: Option<&Option<Vec<ContainerStatus>>>| list.cloned().flatten().unwrap_or_default();
            let init = statuses(status.map(|status| &status.init_container_statuses));
            let regular = statuses(status.map(|status| &status.container_statuses));
            let ephemeral = statuses(status.map(|status| &status.ephemeral_container_statuses));
            let names = spec.init_containers.iter().flatten().map(|container| &container.name);
            containers.extend(names.map(|name| ContainerInfo::new(name, ContainerKind::Init, &init)));
            let names = spec.containers.iter().map(|container| &container.name);
            containers.extend(names.map(|name| ContainerInfo::new(name, ContainerKind::Regular, &regular)));
            let names = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
            containers.extend(names.map(|name| ContainerInfo::new(name, ContainerKind::Ephemeral, &ephemeral)));
        }
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            groups: groups_of(pod, &labels),
            labels,
            containers,
            created: meta.creation_timestamp.as_ref().map(|time| Time::from_jiff(time.0)).unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            failure: status.and_then(PodFailure::of).map(Box::new),
            mirror: meta.annotations.as_ref().and_then(|all| all.get(MIRROR)).map(|uid| uid.as_str().into()),
        })
    }

    /// What selections and grants look at.
    pub fn facts(&self) -> PodFacts<'_> {
        PodFacts { namespace: &self.namespace, pod: &self.name, labels: &self.labels, groups: &self.groups }
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerInfo> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The origin of what a run of a container writes.
    pub fn origin(&self, container: &str, run: &Run) -> Arc<Origin> {
        Arc::new(Origin {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            container: container.to_owned(),
            pod_uid: self.uid.clone(),
            container_id: run.container_id.clone(),
            node: self.node.clone(),
        })
    }
}

/// What the annotation of a static pod's picture in the API server is called; its value is the UID that the kubelet
/// gave the pod (k8s.io/api/core/v1, `MirrorPodAnnotationKey`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How much of a pod's message is kept, in bytes.
const MESSAGE_BYTES: usize = 512;

/// Reasons of failed pods that were sent off their node (the kubelet's eviction, preemption and shutdown managers).
const EVICTIONS: [&str; 6] = ["Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"];

impl PodFailure {
    /// A pod that failed with a reason of its own, or that is about to be disrupted: preempted, evicted, tainted away
    /// (condition `DisruptionTarget`, from Kubernetes 1.26 on).
    fn of(status: &PodStatus) -> Option<Self> {
        let failed = status.phase.as_deref() == Some("Failed");
        if let Some(reason) = status.reason.as_deref().filter(|reason| failed && !reason.is_empty()) {
            let message = status.message.as_deref().unwrap_or_default();
            return Some(Self::new(reason, message, EVICTIONS.contains(&reason)));
        }
        let mut conditions = status.conditions.iter().flatten();
        let target =
            conditions.find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")?;
        let reason = target.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or("DisruptionTarget");
        Some(Self::new(reason, target.message.as_deref().unwrap_or_default(), true))
    }

    fn new(reason: &str, message: &str, evicted: bool) -> Self {
        Self { reason: bounded(reason, REASON_BYTES), message: bounded(message, MESSAGE_BYTES), evicted }
    }
}

/// A text that was made outside, cut to at most `bytes`.
fn bounded(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

impl ContainerInfo {
    fn new(name: &str, kind: ContainerKind, statuses: &[ContainerStatus]) -> Self {
        let Some(status) = statuses.iter().find(|status| status.name == name) else {
            return Self { name: name.to_owned(), kind, ..Self::default() };
        };
        let run = Run::from_status(status);
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let other = |id: &String| run.as_ref().is_none_or(|run| run.container_id != *id);
        let before = last.and_then(|last| Some((last.container_id.clone().filter(other)?, Ending::of(last))));
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        Self {
            name: name.to_owned(),
            kind,
            run,
            before: before.map(Box::new),
            restarts: status.restart_count,
            ready: status.ready,
            waiting: waiting.and_then(|waiting| Some(bounded(waiting.reason.as_deref()?, REASON_BYTES))),
        }
    }

    /// How the run of this id ended, where that is known.
    pub fn ending_of(&self, container_id: &str) -> Option<&Ending> {
        match (&self.run, self.before.as_deref()) {
            (Some(run), _) if run.container_id == container_id => run.ending.as_ref(),
            (_, Some((id, ending))) if id == container_id => Some(ending),
            _ => None,
        }
    }
}

impl Run {
    /// The run that a status tells of. `None` before the first start, and while a container waits to start
    /// again it is the run that ended.
    fn from_status(status: &ContainerStatus) -> Option<Self> {
        let state = status.state.as_ref();
        let ended = state
            .and_then(|state| state.terminated.as_ref())
            .or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.as_ref()));
        let running = state.is_some_and(|state| state.running.is_some());
        let ended = ended.filter(|_| !running);
        let container_id = status
            .container_id
            .clone()
            .filter(|id| !id.is_empty())
            .or_else(|| ended.and_then(|ended| ended.container_id.clone()))?;
        if !running && ended.is_none() {
            return None;
        }
        let waiting = state.is_some_and(|state| state.waiting.is_some());
        Some(Self {
            container_id,
            // While a container waits for its next start, some kubelets have counted that start already.
            restarts: status.restart_count,
            terminated: !running || waiting,
            ending: ended.map(Ending::of),
        })
    }
}

/// The controllers that a pod belongs to. A Deployment is known by its ReplicaSet's name, which ends in the
/// pod's `pod-template-hash` (apps/v1 Deployment controller), so that ReplicaSets need not be watched.
fn groups_of(pod: &Pod, labels: &BTreeMap<String, String>) -> Vec<(GroupKind, String)> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else { return Vec::new() };
    let Some(kind) = GroupKind::parse(&owner.kind) else { return Vec::new() };
    let deployment = (kind == GroupKind::ReplicaSet)
        .then(|| labels.get("pod-template-hash"))
        .flatten()
        .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    let mut groups = vec![(kind, owner.name.clone())];
    groups.extend(deployment.map(|name| (GroupKind::Deployment, name.to_owned())));
    groups
}
