//! The source `podLogs`: the logs of all containers of a selection, as they come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::container::{ContainerTask, First, Member, Seen};
use super::hub::FollowHub;
use super::index::PodChange;
use super::info::PodInfo;
use super::past::{self, LogCut};
use crate::api::{CompiledSelection, PodFacts};
use crate::record::{ContainerKind, Event, Level, LineLimit, Origin, Signal, Time};
use crate::stream::{Backlog, BacklogItem, BacklogStream, From, LiveStream};

/// How many containers' pasts are read at the same time.
const PASTS: usize = 8;

/// How long the list of pods may take before a reader's past is given up.
const LISTED: Duration = Duration::from_secs(15);

/// Whether a container of a pod may be seen: what a key grants, or anything else that narrows a selection.
pub type Visible = Arc<dyn Fn(&PodFacts<'_>, &str) -> bool + Send + Sync>;

/// What to follow and how.
pub struct PodLogsConfig {
    /// Which pods and containers.
    pub selection: CompiledSelection,
    /// Narrows the selection.
    pub visible: Visible,
    /// Keep lines that match one of these, where there are any.
    pub include: Option<regex::bytes::RegexSet>,
    /// Drop lines that match one of these.
    pub exclude: Option<regex::bytes::RegexSet>,
    /// Cut lines to this.
    pub line_limit: LineLimit,
    /// Where to begin in containers that run already.
    pub start: From,
}

/// The logs of a selection.
pub struct PodLogs {
    hub: Arc<FollowHub>,
    selection: CompiledSelection,
    visible: Visible,
    cut: Arc<LogCut>,
    start: From,
    containers: Mutex<HashMap<ContainerKey, Followed>>,
    targets: watch::Sender<usize>,
    listed: watch::Sender<bool>,
}

/// A pod's UID and a container's name.
type ContainerKey = (String, String);

struct Followed {
    seen: watch::Sender<Seen>,
    member: Arc<Mutex<Option<Member>>>,
}

impl PodLogs {
    /// A source that has not begun yet.
    pub fn new(hub: Arc<FollowHub>, config: PodLogsConfig) -> Arc<Self> {
        let limit = LineLimit(config.line_limit.0.min(hub.line_limit().0));
        let cut = LogCut { include: config.include, exclude: config.exclude, limit };
        Arc::new(Self {
            hub,
            selection: config.selection,
            visible: config.visible,
            cut: Arc::new(cut),
            start: config.start,
            containers: Mutex::default(),
            targets: watch::channel(0).0,
            listed: watch::channel(false).0,
        })
    }

    /// How many containers are followed now, and every change of that.
    pub fn targets(&self) -> watch::Receiver<usize> {
        self.targets.subscribe()
    }

    /// Whether the pods have been listed, so that [`targets`](Self::targets) is true.
    pub fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    /// Follows the selection into `stream` until `cancel`; returns when everything behind it is released.
    pub async fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) {
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
        self.listed.send_replace(true);
        loop {
            match changes.recv().await {
                Ok(PodChange::Applied(pod)) => self.apply(&pod, First::Beginning, stream, &spawn),
                Ok(PodChange::Deleted(pod)) => self.remove(&pod.uid),
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
                let member = Arc::default();
                spawn(ContainerTask {
                    hub: Arc::clone(&self.hub),
                    stream: Arc::clone(stream),
                    cut: Arc::clone(&self.cut),
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

    /// The containers that are followed now, sorted. Each is announced by a signal after it stands here, and stands
    /// here no more when its end is announced: whoever reads first and then looks here misses none.
    pub fn roster(&self) -> Vec<Arc<Origin>> {
        let mut origins: Vec<_> = self.members().into_iter().map(|member| member.origin).collect();
        origins.sort_by_key(|origin| origin.path());
        origins
    }

    fn members(&self) -> Vec<Member> {
        self.containers.lock().values().filter_map(|followed| followed.member.lock().clone()).collect()
    }
}

impl std::fmt::Debug for PodLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodLogs").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// The past of a [`PodLogs`], kept apart so that it can outlive the borrow.
#[derive(Debug)]
pub struct PodLogsPast(pub Arc<PodLogs>);

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
                .map(move |member| past::of_member(Arc::clone(&logs.hub), member, Arc::clone(&logs.cut), from));
            stream::iter(pasts).flatten_unordered(PASTS).boxed()
        })
        .flatten()
        .boxed()
    }
}
