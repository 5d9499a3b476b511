//! The watch of Kubernetes Events: one for all who want them, for as long as somebody does.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event as KubeEvent;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::occurrence::{Memory, News, Occurrence};
use crate::record::Time;
use crate::source::pods::index::IndexScope;

/// Events that a stream may be behind before it misses some and says so.
const QUEUED: usize = 4096;

/// How much older than the last sign of life an Event may be that is found when a watch begins anew: clocks differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// What the watch tells.
#[derive(Clone, Debug)]
pub(in crate::source::pods) enum Heard {
    /// An Event happened, or happened again.
    Event(Arc<Occurrence>),
    /// Events cannot be watched, and why.
    Lost(Arc<str>),
    /// They can be watched again.
    Back,
}

/// The Events of all namespaces in scope.
pub(in crate::source::pods) struct KubeEvents {
    client: Client,
    scope: IndexScope,
    remembered: NonZeroUsize,
    tracker: TaskTracker,
    cancel: CancellationToken,
    running: Mutex<Option<Running>>,
}

struct Running {
    heard: broadcast::Sender<Heard>,
    subscribers: usize,
    cancel: CancellationToken,
}

impl KubeEvents {
    /// Watches nothing yet; its tasks will belong to `tracker` and end with `cancel`.
    pub(in crate::source::pods) fn new(
        client: Client,
        scope: IndexScope,
        remembered: NonZeroUsize,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { client, scope, remembered, tracker, cancel, running: Mutex::default() })
    }

    /// What happens from now on. The first who asks starts the watch, and it ends with the last.
    pub(super) fn subscribe(self: &Arc<Self>) -> Subscription {
        let mut running = self.running.lock();
        let running = running.get_or_insert_with(|| self.start());
        running.subscribers += 1;
        Subscription { events: Arc::clone(self), heard: running.heard.subscribe() }
    }

    /// Whether somebody wants Events now.
    pub(in crate::source::pods) fn is_running(&self) -> bool {
        self.running.lock().is_some()
    }

    fn start(&self) -> Running {
        let (heard, cancel) = (broadcast::channel(QUEUED).0, self.cancel.child_token());
        let memory = Arc::new(Mutex::new(Memory::new(self.remembered)));
        let apis: Vec<Api<KubeEvent>> = match &self.scope {
            IndexScope::Cluster => vec![Api::all(self.client.clone())],
            IndexScope::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced(self.client.clone(), name)).collect()
            }
        };
        for api in apis {
            let filter = NewsFilter::new(Arc::clone(&memory), Time::now());
            let watch = watch(api, filter, heard.clone());
            self.tracker.spawn(cancel.clone().run_until_cancelled_owned(watch));
        }
        Running { heard, subscribers: 0, cancel }
    }

    fn leave(&self) {
        let mut running = self.running.lock();
        if let Some(now) = running.as_mut() {
            now.subscribers -= 1;
            if now.subscribers == 0 {
                now.cancel.cancel();
                *running = None;
            }
        }
    }
}

impl std::fmt::Debug for KubeEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeEvents").field("running", &self.is_running()).finish_non_exhaustive()
    }
}

/// A stream's hold on the watch.
pub(super) struct Subscription {
    events: Arc<KubeEvents>,
    /// What happens.
    pub(super) heard: broadcast::Receiver<Heard>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.events.leave();
    }
}

async fn watch(api: Api<KubeEvent>, mut filter: NewsFilter, heard: broadcast::Sender<Heard>) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut well = true;
    while let Some(event) = events.next().await {
        match (std::mem::replace(&mut well, event.is_ok()), &event) {
            (true, Err(error)) => {
                tracing::warn!(%error, "the watch of Kubernetes Events failed; trying again");
                let _ = heard.send(Heard::Lost(error.to_string().into()));
            }
            (false, Ok(_)) => drop(heard.send(Heard::Back)),
            _ => {}
        }
        if let Some(occurrence) = event.ok().and_then(|event| filter.take(event, Time::now())) {
            let _ = heard.send(Heard::Event(Arc::new(occurrence)));
        }
    }
}

/// Lets through what is new: no Event twice, and none from before the watch.
#[derive(Debug)]
pub(super) struct NewsFilter {
    memory: Arc<Mutex<Memory>>,
    /// What a list holds and is not remembered is new where it happened from here on. Set while a list is read.
    horizon: Option<Time>,
    /// When the watch last showed that it was well.
    last: Time,
}

impl NewsFilter {
    /// What happens from `begin` on.
    pub(super) fn new(memory: Arc<Mutex<Memory>>, begin: Time) -> Self {
        // Most Events tell their time in whole seconds.
        Self { memory, horizon: Some(begin.floor_second()), last: begin }
    }

    /// What a watch tells, where it is news. A list that comes again has what happened since the watch was cut.
    pub(super) fn take(&mut self, event: watcher::Event<KubeEvent>, now: Time) -> Option<Occurrence> {
        let (event, horizon) = match event {
            watcher::Event::Init => {
                let clocks = i64::try_from(CLOCKS.as_nanos()).unwrap_or(i64::MAX);
                self.horizon.get_or_insert(self.last.plus_nanos(-clocks));
                return None;
            }
            watcher::Event::InitApply(event) => (event, self.horizon),
            watcher::Event::InitDone => {
                (self.horizon, self.last) = (None, now);
                return None;
            }
            watcher::Event::Apply(event) => {
                self.last = now;
                (event, None)
            }
            watcher::Event::Delete(gone) => {
                self.last = now;
                self.memory.lock().forget(gone.metadata.uid.as_deref().unwrap_or_default());
                return None;
            }
        };
        let occurrence = Occurrence::of(event)?;
        let news = match self.memory.lock().note(&occurrence) {
            News::None => false,
            News::Again => true,
            News::First => horizon.is_none_or(|horizon| occurrence.time >= horizon),
        };
        news.then_some(occurrence)
    }
}
