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

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::look_back::{LastLines, LoggedContainer, LookBack, LookBackError};

use self::engine::{Engine, EngineError, Event as EngineEvent, Listed};
use self::follow::{First, Follow, LONGEST_WAIT, Seen};
use super::pods::Backoff;
use super::{Sieve, Source};
use crate::api::pattern::NamePattern;
use crate::record::{Event, Level, Origin, Signal, Time, node_name};
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
    tail_lines: u64,
    sieve: Arc<Sieve>,
    metrics: Arc<Metrics>,
    host: String,
    nodes: Mutex<Nodes>,
    /// Some are to be followed again.
    again: Notify,
    targets: watch::Sender<usize>,
    /// That all that was there at first, or was started again, is followed, so that what is written from now on comes.
    listed: watch::Sender<bool>,
}

/// Held by who does not follow yet what was there at first; nothing is ever sent.
type Unsettled = mpsc::Sender<Infallible>;

/// The containers of the selection.
#[derive(Default)]
struct Nodes {
    /// Those that are followed, by their ids.
    followed: HashMap<String, Followed>,
    /// Those that are not, as `host+container`.
    stopped: Vec<String>,
    /// Names of those that are to be followed again, once the engine is asked what there is.
    starting: HashSet<String>,
    /// How often some were to be followed again.
    starts: u64,
}

struct Followed {
    origin: Arc<Origin>,
    seen: watch::Sender<Seen>,
    stream: Arc<LiveStream>,
    cancel: CancellationToken,
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
            tail_lines: config.tail_lines,
            sieve: Arc::new(config.sieve),
            metrics: config.metrics,
            host: sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned()),
            nodes: Mutex::new(Nodes { stopped: config.stopped, ..Nodes::default() }),
            again: Notify::new(),
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
        self.nodes.lock().followed.clear();
        self.targets.send_replace(0);
    }

    /// Knows which containers there are, for ever, whether the engine is there or not.
    async fn watch_engine(self: &Arc<Self>, running: &Running<'_>) {
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
        self: &Arc<Self>,
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
        self.take_list(list, std::mem::replace(first, First::Beginning), running);
        *answered = true;
        if std::mem::take(away) {
            let text = "The Docker Engine is back; its containers are followed again.";
            running.stream.signal(Signal::new(Level::Info, Event::Reconnected, Time::now(), text));
        }
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => self.take_event(event, running).await?,
                    None => return Ok(()),
                },
                // What is not known then has come since, and its event is on its way.
                () = self.again.notified() => self.take_list(self.engine.list().await?, First::Beginning, running),
            }
        }
    }

    async fn take_event(self: &Arc<Self>, event: EngineEvent, running: &Running<'_>) -> Result<(), EngineError> {
        match event.action.as_str() {
            "start" => self.look(&event.id, &event.name, First::Beginning, None, running),
            "destroy" | "remove" => self.remove(&event.id),
            "rename" => self.take_list(self.engine.list().await?, First::Tail(self.tail_lines), running),
            _ => {}
        }
        Ok(())
    }

    /// Takes what is there now. Where it was not told yet that all is followed, that is told once it is.
    fn take_list(self: &Arc<Self>, list: Vec<Listed>, first: First, running: &Running<'_>) {
        let (starting, starts) = {
            let mut nodes = self.nodes.lock();
            let gone = |id: &String, _: &mut Followed| !list.iter().any(|one| one.id == *id && self.wants(&one.name));
            nodes.followed.extract_if(gone).for_each(|(_, known)| known.removed());
            self.targets.send_replace(nodes.followed.len());
            (std::mem::take(&mut nodes.starting), nodes.starts)
        };
        let unsettled = (!*self.listed.borrow()).then(|| self.settle(starts, running));
        for Listed { id, name } in list {
            // Of one that is started again the past was read, or is not wanted.
            let started = first == First::Beginning && starting.contains(&name);
            self.look(&id, &name, if started { First::Tail(0) } else { first }, unsettled.clone(), running);
        }
    }

    /// It is told that all is followed once nobody holds any longer what this gives, unless more is to be followed then.
    fn settle(self: &Arc<Self>, starts: u64, running: &Running<'_>) -> Unsettled {
        let (unsettled, mut settled) = mpsc::channel(1);
        let (this, cancel) = (Arc::clone(self), running.cancel.clone());
        running.tasks.spawn(cancel.run_until_cancelled_owned(async move {
            // Nothing comes: it ends when nobody holds the other end.
            let _: Option<Infallible> = settled.recv().await;
            let nodes = this.nodes.lock();
            if nodes.starts == starts {
                this.listed.send_replace(true);
            }
        }));
        unsettled
    }

    fn wants(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }

    /// What a container is called in the list of those that are stopped.
    fn node(&self, name: &str) -> String {
        node_name(&self.host, name)
    }

    /// A container is there, or has started: follows it, or tells whoever follows it already.
    fn look(&self, id: &str, name: &str, first: First, unsettled: Option<Unsettled>, running: &Running<'_>) {
        if !self.wants(name) {
            return;
        }
        let mut nodes = self.nodes.lock();
        if nodes.stopped.contains(&self.node(name)) {
            return;
        }
        let followed = &mut nodes.followed;
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
        let (stream, cancel) = (Arc::clone(running.stream), running.cancel.child_token());
        followed.insert(id.to_owned(), Followed { origin, seen: sender, stream, cancel: cancel.clone() });
        self.targets.send_replace(followed.len());
        running.tasks.spawn(async move { cancel.run_until_cancelled(follow.run()).await });
    }

    /// A container was removed, or has a name that is not wanted. What it wrote last is read as long as it can be.
    fn remove(&self, id: &str) {
        let mut nodes = self.nodes.lock();
        if let Some(known) = nodes.followed.remove(id) {
            known.removed();
            self.targets.send_replace(nodes.followed.len());
        }
    }
}

impl Followed {
    fn removed(&self) {
        self.seen.send_modify(|seen| seen.removed = true);
    }

    /// It is followed no longer, from now on.
    fn stop(&self) {
        self.cancel.cancel();
        let text = format!("Container STOPPED: {} is not followed until it is started", self.origin.container);
        self.stream.signal(Signal::new(Level::Info, Event::Deleted, Time::now(), text).about(&self.origin));
    }
}

impl Source for Containers {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        self.follow_until(stream, cancel).boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn set_stopped(&self, stopped: &[String]) {
        let mut nodes = self.nodes.lock();
        let before = std::mem::replace(&mut nodes.stopped, stopped.to_vec());
        let ends = |_: &String, known: &mut Followed| stopped.contains(&self.node(&known.origin.container));
        let ended: Vec<_> = nodes.followed.extract_if(ends).collect();
        if !ended.is_empty() {
            self.targets.send_replace(nodes.followed.len());
        }
        let own = self.node("");
        let started = before.iter().filter(|node| !stopped.contains(node)).filter_map(|node| node.strip_prefix(&own));
        let started: Vec<String> = started.map(str::to_owned).collect();
        if !started.is_empty() {
            nodes.starting.extend(started);
            nodes.starts += 1;
            self.listed.send_replace(false);
            self.again.notify_one();
        }
        drop(nodes);
        ended.iter().for_each(|(_, known)| known.stop());
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.targets.subscribe()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        let mut origins: Vec<_> = self.nodes.lock().followed.values().map(|known| Arc::clone(&known.origin)).collect();
        origins.sort_by_key(|origin| origin.path());
        origins
    }
}

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers").field("names", &self.names).finish_non_exhaustive()
    }
}
