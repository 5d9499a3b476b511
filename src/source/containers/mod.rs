//! The source `containers`: the logs of containers of a Docker Engine, as they come and go.
//!
//! ```text
//!   events, then the list ──► Containers ── one Follow per container ──► Engine
//!                                                │ batches
//!                                                ▼
//!                                            LiveStream
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `engine` | the engine's API over its socket |
//! | `frames` | bytes of a log to batches; the frames of two writers |
//! | `follow` | one container, run after run, across cuts |
//! | `look_back` | the last lines that are there, without a stream |

mod engine;
mod follow;
mod frames;
mod look_back;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::look_back::{LastLines, LoggedContainer, LookBack, LookBackError};

use self::engine::{Engine, EngineError, Event as EngineEvent, Listed};
use self::follow::{First, Follow, LONGEST_WAIT, Seen};
use super::pods::Backoff;
use super::{Sieve, Source};
use crate::api::pattern::NamePattern;
use crate::record::{Event, Level, Origin, Signal, Time};
use crate::stream::{Backlog, LiveStream};
use crate::telemetry::Metrics;

/// Most containers that one stream follows: each costs a connection and its buffers.
const MOST_CONTAINERS: usize = 1000;

/// What to follow and how.
pub struct ContainersConfig {
    /// The socket of the engine.
    pub socket: PathBuf,
    /// Which containers, by their names.
    pub names: Vec<NamePattern>,
    /// Which of them not, as `host+container`.
    pub stopped: Vec<String>,
    /// How many of the last lines of each container that runs already.
    pub tail_lines: u64,
    /// What is kept of the lines.
    pub sieve: Sieve,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The logs of containers of a Docker Engine.
pub struct Containers {
    engine: Arc<Engine>,
    names: Vec<NamePattern>,
    stopped: Vec<String>,
    tail_lines: u64,
    sieve: Arc<Sieve>,
    metrics: Arc<Metrics>,
    host: String,
    followed: Mutex<HashMap<String, Followed>>,
    targets: watch::Sender<usize>,
    /// That all that was there at first is followed, so that what is written from now on comes.
    listed: watch::Sender<bool>,
}

/// Held by who does not follow yet what was there at first; nothing is ever sent.
type Unsettled = mpsc::Sender<Infallible>;

struct Followed {
    origin: Arc<Origin>,
    seen: watch::Sender<Seen>,
}

/// What the tasks of one run share.
struct Running<'a> {
    stream: &'a Arc<LiveStream>,
    tasks: &'a TaskTracker,
    cancel: &'a CancellationToken,
}

impl Containers {
    /// A source that has not begun yet.
    pub fn new(config: ContainersConfig) -> Arc<Self> {
        Arc::new(Self {
            engine: Arc::new(Engine::new(config.socket)),
            names: config.names,
            stopped: config.stopped,
            tail_lines: config.tail_lines,
            sieve: Arc::new(config.sieve),
            metrics: config.metrics,
            host: sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned()),
            followed: Mutex::default(),
            targets: watch::channel(0).0,
            listed: watch::channel(false).0,
        })
    }

    async fn follow_until(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        self.listed.send_replace(false);
        let cancel = cancel.child_token();
        let _guard = cancel.clone().drop_guard();
        let running = Running { stream: &stream, tasks: &tasks, cancel: &cancel };
        cancel.run_until_cancelled(self.watch_engine(&running)).await;
        cancel.cancel();
        tasks.close();
        tasks.wait().await;
        self.followed.lock().clear();
        self.targets.send_replace(0);
    }

    /// Knows which containers there are, for ever, whether the engine is there or not.
    async fn watch_engine(&self, running: &Running<'_>) {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let (mut away, mut first) = (false, First::Tail(self.tail_lines));
        loop {
            let mut answered = false;
            let ended = self.session(running, &mut first, &mut away, &mut answered).await;
            if answered {
                backoff.reset();
            }
            let why = ended.map_or_else(|error| error.to_string(), |()| "it ended the list of events".to_owned());
            tracing::info!(%why, "the Docker Engine is away; connecting again");
            if !std::mem::replace(&mut away, true) {
                let text = format!("The Docker Engine is away; reconnecting. Nothing is lost that it keeps. ({why})");
                running.stream.signal(Signal::new(Level::Warning, Event::Reconnecting, Time::now(), text));
            }
            backoff.wait().await;
        }
    }

    /// Listens to the engine until it ends.
    async fn session(
        &self,
        running: &Running<'_>,
        first: &mut First,
        away: &mut bool,
        answered: &mut bool,
    ) -> Result<(), EngineError> {
        self.engine.greet().await?;
        // What starts while the list is made is in both.
        let mut events = self.engine.events().await?;
        let list = self.engine.list().await?;
        // What is not known when the engine comes back has come since.
        match std::mem::replace(first, First::Beginning) {
            First::Tail(_) => self.take_first_list(list, running),
            First::Beginning => self.take_list(list, First::Beginning, None, running),
        }
        *answered = true;
        if std::mem::take(away) {
            let text = "The Docker Engine is back; its containers are followed again.";
            running.stream.signal(Signal::new(Level::Info, Event::Reconnected, Time::now(), text));
        }
        while let Some(event) = events.next().await? {
            match event.action.as_str() {
                "start" => self.take_start(event, running),
                "destroy" | "remove" => self.remove(&event.id),
                "rename" => self.take_list(self.engine.list().await?, First::Tail(self.tail_lines), None, running),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what is there at first; it is told that it is followed once it is.
    fn take_first_list(&self, list: Vec<Listed>, running: &Running<'_>) {
        let (unsettled, mut settled) = mpsc::channel(1);
        self.take_list(list, First::Tail(self.tail_lines), Some(unsettled), running);
        let (listed, cancel) = (self.listed.clone(), running.cancel.clone());
        running.tasks.spawn(cancel.run_until_cancelled_owned(async move {
            // Nothing comes: it ends when nobody holds the other end.
            let _: Option<Infallible> = settled.recv().await;
            listed.send_replace(true);
        }));
    }

    fn take_list(&self, list: Vec<Listed>, first: First, unsettled: Option<Unsettled>, running: &Running<'_>) {
        let is_wanted = |id: &str| list.iter().any(|listed| listed.id == id && self.wants(&listed.name));
        let gone: Vec<String> = self.followed.lock().keys().filter(|id| !is_wanted(id)).cloned().collect();
        gone.iter().for_each(|id| self.remove(id));
        for listed in list {
            self.look(&listed.id, &listed.name, first, unsettled.clone(), running);
        }
    }

    fn take_start(&self, event: EngineEvent, running: &Running<'_>) {
        self.look(&event.id, &event.name, First::Beginning, None, running);
    }

    fn wants(&self, name: &str) -> bool {
        let stopped = format!("{}+{name}", self.host);
        self.names.iter().any(|pattern| pattern.matches(name)) && !self.stopped.contains(&stopped)
    }

    /// A container is there, or has started: follows it, or tells whoever follows it already.
    fn look(&self, id: &str, name: &str, first: First, unsettled: Option<Unsettled>, running: &Running<'_>) {
        if !self.wants(name) {
            return;
        }
        let mut followed = self.followed.lock();
        if let Some(known) = followed.get(id) {
            return known.seen.send_modify(|seen| seen.looks += 1);
        }
        if followed.len() >= MOST_CONTAINERS {
            tracing::warn!(container = %name, "more containers than are followed");
            let text = format!("{name} is not followed: a stream follows {MOST_CONTAINERS} containers. Name fewer.");
            return running.stream.signal(Signal::new(Level::Error, Event::SourceError, Time::now(), text));
        }
        let origin = Arc::new(Origin {
            pod: self.host.clone(),
            container: name.to_owned(),
            container_id: id.to_owned(),
            ..Origin::default()
        });
        let (sender, seen) = watch::channel(Seen::default());
        let follow = Follow {
            engine: Arc::clone(&self.engine),
            stream: Arc::clone(running.stream),
            sieve: Arc::clone(&self.sieve),
            metrics: Arc::clone(&self.metrics),
            origin: Arc::clone(&origin),
            first,
            unsettled,
            seen,
        };
        followed.insert(id.to_owned(), Followed { origin, seen: sender });
        self.targets.send_replace(followed.len());
        let cancel = running.cancel.clone();
        running.tasks.spawn(async move { cancel.run_until_cancelled(follow.run()).await });
    }

    /// A container was removed, or has a name that is not wanted. What it wrote last is read as long as it can be.
    fn remove(&self, id: &str) {
        let mut followed = self.followed.lock();
        if let Some(known) = followed.remove(id) {
            known.seen.send_modify(|seen| seen.removed = true);
            self.targets.send_replace(followed.len());
        }
    }
}

impl Source for Containers {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        self.follow_until(stream, cancel).boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.targets.subscribe()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        let mut origins: Vec<_> = self.followed.lock().values().map(|known| Arc::clone(&known.origin)).collect();
        origins.sort_by_key(|origin| origin.path());
        origins
    }
}

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers").field("names", &self.names).finish_non_exhaustive()
    }
}
