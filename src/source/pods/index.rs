//! The pods there are: one watch for all selections, kept as [`PodInfo`].

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::info::{PodInfo, Run, RunFate};
use super::signals::KubeEvents;

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexScope {
    /// All of them.
    Cluster,
    /// These alone; the rights to others are not needed.
    Namespaces(Vec<String>),
}

/// A change of one pod.
#[derive(Clone, Debug)]
pub(super) enum PodChange {
    /// The pod is new.
    Added(Arc<PodInfo>),
    /// The pod has changed.
    Applied(Arc<PodInfo>),
    /// The pod is gone; this is the last that is known of it.
    Deleted(Arc<PodInfo>),
}

/// How often a watch that failed is asked after.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Changes that a slow follower of the index may be behind before it has to look at all pods again.
const CHANGES: usize = 1024;

/// How the pods and what happens to them are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// How many Kubernetes Events are remembered, so that none is told twice.
    pub events_remembered: NonZeroUsize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        const EVENTS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
        Self { events_remembered: EVENTS }
    }
}

/// All pods in scope, as they are known now.
#[derive(Debug)]
pub struct PodIndex {
    events: Arc<KubeEvents>,
    pods: RwLock<HashMap<String, Arc<PodInfo>>>,
    changes: broadcast::Sender<PodChange>,
    /// How many watches have not listed their pods yet.
    unsynced: watch::Sender<usize>,
    healthy: AtomicUsize,
    watches: usize,
}

impl PodIndex {
    /// Begins to watch, in tasks of `tracker` that end with `cancel`.
    pub fn start(client: &Client, scope: &IndexScope, tracker: &TaskTracker, cancel: &CancellationToken) -> Arc<Self> {
        Self::start_with(client, scope, IndexConfig::default(), tracker, cancel)
    }

    /// The same with limits of the caller's own.
    pub fn start_with(
        client: &Client,
        scope: &IndexScope,
        config: IndexConfig,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Arc<Self> {
        let apis: Vec<(Option<String>, Api<Pod>)> = match scope {
            IndexScope::Cluster => vec![(None, Api::all(client.clone()))],
            IndexScope::Namespaces(names) => {
                names.iter().map(|name| (Some(name.clone()), Api::namespaced(client.clone(), name))).collect()
            }
        };
        let (remembered, tasks) = (config.events_remembered, tracker.clone());
        let events = KubeEvents::new(client.clone(), scope.clone(), remembered, tasks, cancel.clone());
        let index = Arc::new(Self::empty(apis.len(), events));
        for (namespace, api) in apis {
            let (index, cancel) = (Arc::clone(&index), cancel.clone());
            tracker.spawn(async move { cancel.run_until_cancelled(index.watch(api, namespace)).await });
        }
        index
    }

    pub(super) fn empty(watches: usize, events: Arc<KubeEvents>) -> Self {
        Self {
            events,
            pods: RwLock::default(),
            changes: broadcast::channel(CHANGES).0,
            unsynced: watch::channel(watches).0,
            healthy: AtomicUsize::new(0),
            watches,
        }
    }

    /// Waits until every watch has listed its pods once; `false` if that takes longer than `limit`.
    pub async fn synced(&self, limit: Duration) -> bool {
        let mut unsynced = self.unsynced.subscribe();
        tokio::time::timeout(limit, unsynced.wait_for(|left| *left == 0)).await.is_ok_and(|ok| ok.is_ok())
    }

    /// Whether every watch is connected as far as is known.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed) == self.watches && *self.unsynced.borrow() == 0
    }

    /// All pods, in no order.
    pub fn pods(&self) -> Vec<Arc<PodInfo>> {
        self.pods.read().values().cloned().collect()
    }

    /// The pod of this UID.
    pub fn pod(&self, uid: &str) -> Option<Arc<PodInfo>> {
        self.pods.read().get(uid).cloned()
    }

    /// What became of a container's run.
    pub fn fate(&self, pod_uid: &str, container: &str, run: &Run) -> RunFate {
        let Some(pod) = self.pod(pod_uid) else { return RunFate::Gone };
        match pod.container(container).and_then(|container| container.run.as_ref()) {
            None => RunFate::Gone,
            Some(now) if now.container_id != run.container_id => {
                RunFate::Replaced { next: now.restarts <= run.restarts + 1 }
            }
            Some(now) if now.terminated => RunFate::Terminated,
            Some(_) => RunFate::Running,
        }
    }

    /// The Kubernetes Events of the same namespaces.
    pub(super) fn events(&self) -> &Arc<KubeEvents> {
        &self.events
    }

    /// Whether Kubernetes Events are watched now: they are while somebody wants them.
    pub fn watches_events(&self) -> bool {
        self.events.is_running()
    }

    /// The pods there are, and every change from then on.
    pub(super) fn follow(&self) -> (Vec<Arc<PodInfo>>, broadcast::Receiver<PodChange>) {
        // The lock keeps a change from standing in neither.
        let pods = self.pods.read();
        (pods.values().cloned().collect(), self.changes.subscribe())
    }

    async fn watch(self: Arc<Self>, api: Api<Pod>, namespace: Option<String>) {
        let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
        let mut listing: Option<HashSet<String>> = None;
        let mut synced = false;
        let mut well = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // A watch that is back says nothing until something changes.
                () = tokio::time::sleep(LOOK_AGAIN), if !well && synced => {
                    let answers = api.list(&ListParams::default().limit(1)).await.is_ok();
                    self.note_health(&mut well, answers);
                    continue;
                }
            };
            let Some(event) = event else { return };
            self.note_health(&mut well, event.is_ok());
            match event {
                Ok(watcher::Event::Init) => listing = Some(HashSet::new()),
                Ok(watcher::Event::InitApply(pod)) => {
                    let uid = self.apply(&pod);
                    listing.get_or_insert_default().extend(uid);
                }
                Ok(watcher::Event::InitDone) => {
                    self.keep_only(&listing.take().unwrap_or_default(), namespace.as_deref());
                    if !std::mem::replace(&mut synced, true) {
                        self.unsynced.send_modify(|left| *left -= 1);
                    }
                }
                Ok(watcher::Event::Apply(pod)) => {
                    self.apply(&pod);
                }
                Ok(watcher::Event::Delete(pod)) => {
                    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                    self.delete(uid, PodInfo::from_pod(&pod));
                }
                Err(error) => {
                    tracing::warn!(%error, ?namespace, "the watch of pods failed; trying again");
                }
            }
        }
    }

    fn note_health(&self, well: &mut bool, now: bool) {
        match (std::mem::replace(well, now), now) {
            (false, true) => self.healthy.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.healthy.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    pub(super) fn apply(&self, pod: &Pod) -> Option<String> {
        let info = Arc::new(PodInfo::from_pod(pod)?);
        let uid = info.uid.clone();
        let mut pods = self.pods.write();
        let before = pods.insert(uid.clone(), Arc::clone(&info));
        match before {
            None => drop(self.changes.send(PodChange::Added(info))),
            Some(before) if before != info => drop(self.changes.send(PodChange::Applied(info))),
            Some(_) => {}
        }
        Some(uid)
    }

    pub(super) fn delete(&self, uid: &str, last: Option<PodInfo>) {
        let mut pods = self.pods.write();
        if let Some(gone) = pods.remove(uid) {
            let _ = self.changes.send(PodChange::Deleted(last.map_or(gone, Arc::new)));
        }
    }

    /// After a new list: what was known of this watch's namespaces and is not in the list is gone.
    fn keep_only(&self, listed: &HashSet<String>, namespace: Option<&str>) {
        let gone: Vec<String> = self
            .pods
            .read()
            .values()
            .filter(|pod| namespace.is_none_or(|namespace| pod.namespace == namespace))
            .filter(|pod| !listed.contains(&pod.uid))
            .map(|pod| pod.uid.clone())
            .collect();
        gone.iter().for_each(|uid| self.delete(uid, None));
    }
}
