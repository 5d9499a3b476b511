//! What Weir remembers of a pod: a fraction of the object, so that a large cluster fits in a small memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::api::PodFacts;
use crate::api::pattern::GroupKind;
use crate::record::{ContainerKind, Origin};

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
    /// How it ended, for people: `Error, exit code 1`.
    pub ending: Option<String>,
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

impl ContainerInfo {
    fn new(name: &str, kind: ContainerKind, statuses: &[ContainerStatus]) -> Self {
        let status = statuses.iter().find(|status| status.name == name);
        Self { name: name.to_owned(), kind, run: status.and_then(Run::from_status) }
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
            ending: ended.map(|ended| {
                let reason = ended.reason.as_deref().unwrap_or("Terminated");
                format!("{reason}, exit code {}", ended.exit_code)
            }),
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
