//! The source `podLogs`: the logs of all containers of a selection, as they come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::container::{ContainerTask, First, Member, Seen};
use super::hub::FollowHub;
use super::index::PodChange;
use super::info::PodInfo;
use super::past;
use crate::api::CompiledSelection;
use crate::record::{ContainerKind, Event, Level, Origin, Signal, Time};
use crate::source::{Sieve, Source, Visible};
use crate::stream::{Backlog, BacklogItem, BacklogStream, From, LiveStream};

/// How many containers' pasts are read at the same time.
const PASTS: usize = 8;

/// How long the list of pods may take before a reader's past is given up.
const LISTED: Duration = Duration::from_secs(15);

/// What to follow and how.
pub struct PodLogsConfig {
    /// Which pods and containers.
    pub selection: CompiledSelection,
    /// Narrows the selection.
    pub visible: Visible,
    /// What is kept of the lines.
    pub sieve: Sieve,
    /// Where to begin in containers that run already.
    pub start: From,
}

/// The logs of a selection.
pub struct PodLogs {
    hub: Arc<FollowHub>,
    selection: CompiledSelection,
    visible: Visible,
    sieve: Arc<Sieve>,
    start: From,
    containers: Mutex<HashMap<ContainerKey, Followed>>,
    targets: watch::Sender<usize>,
    listed: watch::Sender<bool>,
}

/// A pod's UID and a container's name.
type ContainerKey = (String, String);

struct Followed {
    seen: watch::Sender<Seen>,
    member: Arc<watch::Sender<Option<Member>>>,
}

impl PodLogs {
    /// A source that has not begun yet.
    pub fn new(hub: Arc<FollowHub>, config: PodLogsConfig) -> Arc<Self> {
        Arc::new(Self {
            hub,
            selection: config.selection,
            visible: config.visible,
            sieve: Arc::new(config.sieve),
            start: config.start,
            containers: Mutex::default(),
            targets: watch::channel(0).0,
            listed: watch::channel(false).0,
        })
    }

    async fn follow_until(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let cancel = cancel.child_token();
        let _guard = cancel.clone().drop_guard();
        cancel.run_until_cancelled(self.follow(&stream, &tasks, &cancel)).await;
        cancel.cancel();
        tasks.close();
        tasks.wait().await;
        self.containers.lock().clear();
    }

    async fn follow(&self, stream: &Arc<LiveStream>, tasks: &TaskTracker, cancel: &CancellationToken) {
        let index = Arc::clone(self.hub.index());
        while !index.synced(LISTED).await {
            let text = "The pods cannot be listed yet: the API server does not answer. Weir goes on trying.";
            stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
        }
        let spawn = |task: ContainerTask| {
            let cancel = cancel.clone();
            tasks.spawn(async move { cancel.run_until_cancelled(task.run()).await });
        };
        let (pods, mut changes) = index.follow();
        for pod in pods {
            self.apply(&pod, First::AsAsked(self.start), stream, &spawn);
        }
        self.begun().await;
        self.listed.send_replace(true);
        loop {
            match changes.recv().await {
                Ok(PodChange::Added(pod) | PodChange::Applied(pod)) => {
                    self.apply(&pod, First::Beginning, stream, &spawn)
                }
                Ok(PodChange::Deleted(pod)) => {
                    self.note_last(&pod);
                    self.remove(&pod.uid);
                }
                Err(broadcast::error::RecvError::Closed) => return,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let (pods, receiver) = index.follow();
                    changes = receiver;
                    self.remove_all_but(&pods);
                    pods.iter().for_each(|pod| self.apply(pod, First::Beginning, stream, &spawn));
                }
            }
        }
    }

    fn apply(&self, pod: &Arc<PodInfo>, first: First, stream: &Arc<LiveStream>, spawn: &impl Fn(ContainerTask)) {
        if !self.selection.matches(&pod.facts()) {
            // Its labels may have changed.
            return self.remove(&pod.uid);
        }
        let mut containers = self.containers.lock();
        for container in &pod.containers {
            let key = (pod.uid.clone(), container.name.clone());
            let seen = Seen { pod: Arc::clone(pod), removed: false };
            if let Some(followed) = containers.get(&key) {
                followed.seen.send_replace(seen);
            } else if self.wants(pod, &container.name, container.kind) {
                // A container that has not started when it is first seen has nothing that could be missed.
                let first = if container.run.is_some() { first } else { First::Beginning };
                let (sender, receiver) = watch::channel(seen);
                let member = Arc::new(watch::channel(None).0);
                spawn(ContainerTask {
                    hub: Arc::clone(&self.hub),
                    stream: Arc::clone(stream),
                    sieve: Arc::clone(&self.sieve),
                    container: container.name.clone(),
                    seen: receiver,
                    first,
                    member: Arc::clone(&member),
                });
                containers.insert(key, Followed { seen: sender, member });
            }
        }
        self.note_targets(&containers);
    }

    fn wants(&self, pod: &PodInfo, container: &str, kind: ContainerKind) -> bool {
        let listed = match kind {
            ContainerKind::Regular => true,
            ContainerKind::Init => self.selection.init_containers,
            ContainerKind::Ephemeral => self.selection.ephemeral_containers,
        };
        listed && self.selection.matches_container(&pod.name, container) && (self.visible)(&pod.facts(), container)
    }

    /// The last picture of a pod may show how its runs ended.
    fn note_last(&self, pod: &Arc<PodInfo>) {
        let run_of = |pod: &PodInfo, name: &str| Some(pod.container(name)?.run.as_ref()?.container_id.clone());
        let containers = self.containers.lock();
        for ((_, name), followed) in containers.iter().filter(|((uid, _), _)| *uid == pod.uid) {
            let same = run_of(&followed.seen.borrow().pod, name) == run_of(pod, name);
            if same {
                followed.seen.send_modify(|seen| seen.pod = Arc::clone(pod));
            }
        }
    }

    fn remove(&self, uid: &str) {
        let mut containers = self.containers.lock();
        containers.retain(|(pod, _), followed| {
            if pod == uid {
                followed.seen.send_modify(|seen| seen.removed = true);
            }
            pod != uid
        });
        self.note_targets(&containers);
    }

    fn remove_all_but(&self, pods: &[Arc<PodInfo>]) {
        let gone: Vec<String> = self
            .containers
            .lock()
            .keys()
            .map(|(uid, _)| uid.clone())
            .filter(|uid| !pods.iter().any(|pod| pod.uid == *uid))
            .collect();
        gone.iter().for_each(|uid| self.remove(uid));
    }

    fn note_targets(&self, containers: &HashMap<ContainerKey, Followed>) {
        self.targets.send_if_modified(|targets| std::mem::replace(targets, containers.len()) != containers.len());
    }

    /// Waits until every container that has a run is followed: whoever asks for the past asks those.
    async fn begun(&self) {
        let waiting: Vec<_> = {
            let containers = self.containers.lock();
            let running = |((_, name), followed): (&ContainerKey, &Followed)| {
                let seen = followed.seen.borrow();
                let runs = seen.pod.container(name).is_some_and(|container| container.run.is_some());
                runs.then(|| followed.member.subscribe())
            };
            containers.iter().filter_map(running).collect()
        };
        for mut member in waiting {
            // One that is gone meanwhile has nothing to give.
            let _ = member.wait_for(Option::is_some).await;
        }
    }

    fn members(&self) -> Vec<Member> {
        self.containers.lock().values().filter_map(|followed| followed.member.borrow().clone()).collect()
    }
}

impl Source for PodLogs {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        self.follow_until(stream, cancel).boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        Some(Arc::new(PodLogsPast(self)))
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.targets.subscribe()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        let mut origins: Vec<_> = self.members().into_iter().map(|member| member.origin).collect();
        origins.sort_by_key(|origin| origin.path());
        origins
    }
}

impl std::fmt::Debug for PodLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodLogs").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// The past of a [`PodLogs`], kept apart so that it can outlive the borrow.
#[derive(Debug)]
struct PodLogsPast(Arc<PodLogs>);

impl Backlog for PodLogsPast {
    fn fetch(&self, from: From) -> BacklogStream {
        let logs = Arc::clone(&self.0);
        stream::once(async move {
            let mut listed = logs.listed();
            let in_time = tokio::time::timeout(LISTED, listed.wait_for(|listed| *listed)).await;
            if !in_time.is_ok_and(|listed| listed.is_ok()) {
                let text = "The past cannot be had: the pods could not be listed. What comes next is delivered.";
                let signal = Signal::new(Level::Warning, Event::SourceError, Time::now(), text);
                return stream::iter([BacklogItem::Signal(Arc::new(signal))]).boxed();
            }
            let pasts = logs
                .members()
                .into_iter()
                .map(move |member| past::of_member(Arc::clone(&logs.hub), member, Arc::clone(&logs.sieve), from));
            stream::iter(pasts).flatten_unordered(PASTS).boxed()
        })
        .flatten()
        .boxed()
    }
}
