//! The source `podSignals`: what happens to the pods and containers of a selection, and the Kubernetes Events of them
//! and of what owns them.
//!
//! ```text
//!   PodIndex ── pictures of pods ──► change: what is different? ──┐
//!                                                                 ├──► filter ──► LiveStream
//!   KubeEvents ── Events, each once ──► place: is it in view? ────┘
//! ```

mod change;
mod filter;
mod occurrence;
mod place;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch as tokio_watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::change::{Arrival, Watched, subject};
pub use self::filter::SignalFilter;
use self::occurrence::Occurrence;
use self::place::{Departed, Owners, Place, Waiting};
pub(super) use self::watch::KubeEvents;
use self::watch::{Heard, Subscription};
use super::index::{PodChange, PodIndex};
use super::info::{ContainerInfo, PodInfo};
use crate::api::CompiledSelection;
use crate::record::{ContainerKind, Event, Level, Origin, Signal, Time};
use crate::source::{Source, Visible};
use crate::stream::{Backlog, LiveStream};

/// How long the list of pods may take before that is told.
const LISTED: Duration = Duration::from_secs(15);

/// How often Events are looked at again that came before their pods.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What to tell.
pub struct PodSignalsConfig {
    /// Which pods and containers.
    pub selection: CompiledSelection,
    /// Narrows the selection.
    pub visible: Visible,
    /// Whether changes of pods and containers are told.
    pub pods: bool,
    /// Whether Kubernetes Events are told.
    pub events: bool,
    /// Which of the signals.
    pub filter: SignalFilter,
}

/// The signals of a selection.
pub struct PodSignals {
    index: Arc<PodIndex>,
    config: PodSignalsConfig,
    view: Mutex<View>,
    targets: tokio_watch::Sender<usize>,
    listed: tokio_watch::Sender<bool>,
}

/// What is in view now.
#[derive(Default)]
struct View {
    pods: HashMap<String, Watched>,
    /// Pods' UIDs by those that the kubelet knows them by, where these are others.
    mirrors: HashMap<Box<str>, String>,
    owners: Owners,
    departed: Departed,
    waiting: Waiting,
    containers: usize,
}

impl PodSignals {
    /// A source that has not begun yet.
    pub fn new(index: Arc<PodIndex>, config: PodSignalsConfig) -> Arc<Self> {
        let (targets, listed) = (tokio_watch::channel(0).0, tokio_watch::channel(false).0);
        Arc::new(Self { index, config, view: Mutex::default(), targets, listed })
    }

    async fn follow_until(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.follow(&stream)).await;
        *self.view.lock() = View::default();
    }

    async fn follow(&self, stream: &LiveStream) {
        // Before the pods, so that none is missed between.
        let mut events = self.config.events.then(|| self.index.events().subscribe());
        let begun = Time::now();
        while !self.index.synced(LISTED).await {
            let text = "The pods cannot be listed yet: the API server does not answer. Weir goes on trying.";
            stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
        }
        let (pods, mut changes) = self.index.follow();
        // After a panic: what went meanwhile is told, what is there is not told again.
        self.look_at_all(&pods, None, stream);
        self.listed.send_replace(true);
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Pods first: an Event is about what there is.
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(change) => self.change(&change, stream),
                    Err(broadcast::error::RecvError::Closed) => return,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let (pods, receiver) = self.index.follow();
                        changes = receiver;
                        self.look_at_all(&pods, Some(begun), stream);
                    }
                },
                heard = hear(events.as_mut()) => self.hear(heard, stream),
                _ = look_again.tick(), if self.view.lock().waiting.any() => self.look_again(stream),
            }
        }
    }

    fn change(&self, change: &PodChange, stream: &LiveStream) {
        let signals = match change {
            PodChange::Added(pod) => self.apply(pod, Arrival::New),
            PodChange::Applied(pod) => self.apply(pod, Arrival::Known),
            PodChange::Deleted(pod) => {
                // The last picture may show what none before did.
                let mut signals = self.advance(pod);
                signals.extend(self.remove(&pod.uid));
                signals
            }
        };
        self.tell_changes(signals, stream);
    }

    /// All pods there are: those that are not among them are gone. One that was made since `begun` is new.
    fn look_at_all(&self, pods: &[Arc<PodInfo>], begun: Option<Time>, stream: &LiveStream) {
        let there: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        let gone: Vec<String> =
            self.view.lock().pods.keys().filter(|uid| !there.contains(uid.as_str())).cloned().collect();
        let mut signals: Vec<Signal> = gone.iter().flat_map(|uid| self.remove(uid)).collect();
        for pod in pods {
            let new = begun.is_some_and(|begun| pod.created >= begun);
            signals.extend(self.apply(pod, if new { Arrival::New } else { Arrival::Known }));
        }
        self.tell_changes(signals, stream);
    }

    /// A picture of a pod. `arrival` counts where it was not in view before.
    fn apply(&self, pod: &Arc<PodInfo>, arrival: Arrival) -> Vec<Signal> {
        let seen = pod.containers.iter().any(|container| self.sees(pod, container));
        let known = self.view.lock().pods.contains_key(&pod.uid);
        match (known, seen) {
            (false, false) => Vec::new(),
            (true, true) => self.advance(pod),
            (true, false) => self.remove(&pod.uid),
            (false, true) => {
                let (watched, signals) =
                    Watched::enter(pod, arrival, &|pod, container| self.sees(pod, container), Time::now());
                let mut view = self.view.lock();
                view.enter(pod, watched);
                self.note_targets(&view);
                signals
            }
        }
    }

    fn advance(&self, pod: &Arc<PodInfo>) -> Vec<Signal> {
        let mut view = self.view.lock();
        let sees = |pod: &PodInfo, container: &ContainerInfo| self.sees(pod, container);
        let signals = view.advance(&pod.uid, |watched| watched.advance(pod, &sees, Time::now()));
        self.note_targets(&view);
        signals.unwrap_or_default()
    }

    fn remove(&self, uid: &str) -> Vec<Signal> {
        let mut view = self.view.lock();
        let Some(watched) = view.leave(uid, Instant::now()) else { return Vec::new() };
        self.note_targets(&view);
        watched.leave(&|pod, container| self.sees(pod, container), Time::now())
    }

    fn tell_changes(&self, signals: Vec<Signal>, stream: &LiveStream) {
        let told = signals.into_iter().filter(|signal| self.config.pods && self.config.filter.admits_change(signal));
        told.for_each(|signal| stream.signal(signal));
    }

    fn hear(&self, heard: Result<Heard, u64>, stream: &LiveStream) {
        let own = |level, event, text: String| stream.signal(Signal::new(level, event, Time::now(), text));
        match heard {
            Ok(Heard::Event(occurrence)) => {
                if self.place(&occurrence, stream) == Place::Unknown {
                    self.view.lock().waiting.push(occurrence, Instant::now());
                }
            }
            Ok(Heard::Lost(why)) => {
                let text = format!("Kubernetes Events cannot be watched: {why}. Weir goes on trying.");
                own(Level::Warning, Event::SourceError, text);
            }
            Ok(Heard::Back) => own(Level::Info, Event::Reconnected, "Kubernetes Events are watched again.".into()),
            Err(missed) => {
                let text = format!("{missed} Kubernetes Events came too fast to be looked at; some may belong here.");
                own(Level::Warning, Event::Gap, text);
            }
        }
    }

    fn look_again(&self, stream: &LiveStream) {
        let waiting = self.view.lock().waiting.take(Instant::now());
        let undecided = waiting.into_iter().filter(|(_, event)| self.place(event, stream) == Place::Unknown).collect();
        self.view.lock().waiting.put_back(undecided);
    }

    /// Tells an Event where the object it is about is in view.
    fn place(&self, event: &Arc<Occurrence>, stream: &LiveStream) -> Place {
        let (place, about) = self.placed(event);
        if place == Place::InView {
            let signal = event.signal();
            if self.config.filter.admits_event(&signal, &event.kind) {
                stream.signal(match about {
                    Some(origin) => signal.about(&origin),
                    None => signal,
                });
            }
        }
        place
    }

    fn placed(&self, event: &Occurrence) -> (Place, Option<Arc<Origin>>) {
        if event.object.kind != "Pod" {
            return (self.view.lock().owner(&event.object, Instant::now()), None);
        }
        let pod = self.index.pod(&event.object_uid).or_else(|| self.view.lock().pod(event, Instant::now()));
        let Some(pod) = pod else { return (Place::Unknown, None) };
        let container = event.container.as_deref();
        let named = |candidate: &&ContainerInfo| container.is_none_or(|name| candidate.name == name);
        let seen = pod.containers.iter().filter(named).any(|container| self.sees(&pod, container));
        let origin = seen.then(|| subject(&pod, container.unwrap_or_default()));
        (if seen { Place::InView } else { Place::Elsewhere }, origin)
    }

    fn sees(&self, pod: &PodInfo, container: &ContainerInfo) -> bool {
        let selection = &self.config.selection;
        let listed = match container.kind {
            ContainerKind::Regular => true,
            ContainerKind::Init => selection.init_containers,
            ContainerKind::Ephemeral => selection.ephemeral_containers,
        };
        let facts = pod.facts();
        listed
            && selection.matches(&facts)
            && selection.matches_container(&pod.name, &container.name)
            && (self.config.visible)(&facts, &container.name)
    }

    fn note_targets(&self, view: &View) {
        self.targets.send_if_modified(|targets| std::mem::replace(targets, view.containers) != view.containers);
    }
}

impl Source for PodSignals {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        self.follow_until(stream, cancel).boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn targets(&self) -> tokio_watch::Receiver<usize> {
        self.targets.subscribe()
    }

    fn listed(&self) -> tokio_watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        let view = self.view.lock();
        let pods = view.pods.values().map(Watched::pod);
        let containers = pods.flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
        let mut roster: Vec<_> = containers
            .filter(|(pod, container)| self.sees(pod, container))
            .map(|(pod, container)| change::added(pod, container, Time::now()))
            .filter(|signal| self.config.pods && self.config.filter.admits_change(signal))
            .filter_map(|signal| signal.origin)
            .collect();
        roster.sort_by_key(|origin| origin.path());
        roster
    }
}

impl std::fmt::Debug for PodSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodSignals").field("selection", &self.config.selection).finish_non_exhaustive()
    }
}

/// The next Event, or how many were missed. Never, where none are wanted.
async fn hear(events: Option<&mut Subscription>) -> Result<Heard, u64> {
    let Some(events) = events else { return std::future::pending().await };
    match events.heard.recv().await {
        Ok(heard) => Ok(heard),
        Err(broadcast::error::RecvError::Lagged(missed)) => Err(missed),
        // The process is ending.
        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
    }
}
