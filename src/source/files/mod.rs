//! The source `files`: the lines of files on this machine, as they are written, rotated, emptied and replaced.
//!
//! ```text
//!   inotify ──► Inbox ──► Follower: which file stands where, what continues what
//!   a look now and then ─────┘          │ turns
//!                                       ▼
//!                                     Tail: a piece, cut in place ──► Feed ──► LiveStream
//!                                       │ positions
//!                                       ▼
//!                                     Store
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `selection` | which paths are wanted, and which folders may hold them |
//! | `changes` | what the system tells; bounded |
//! | `follower` | files come, go, and take each other's names |
//! | `succession`, `rotation` | where a file is begun, and what is read before it |
//! | `reading` | turns, open files, half lines |
//! | `tail`, `print` | one file: pieces to lines; how it is known again |
//! | `gate` | opens what may be opened |
//! | `checkpoint`, `memory`, `keeping` | positions, on disk and of what is not there now |
//! | `feed` | lines, signals, and who is in the stream |
//!
//! All that waits for the disk is done in turns on the runtime's threads for that, one turn of a source at a time; between
//! turns a source holds no thread. It never waits for a reader.

mod changes;
mod checkpoint;
mod feed;
mod follower;
mod gate;
mod keeping;
mod memory;
mod print;
mod reading;
mod rotation;
mod selection;
mod succession;
mod tail;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::changes::{Inbox, Watches};
use self::checkpoint::Store;
use self::feed::{Feed, Members};
use self::follower::Follower;
use self::gate::Gate;
use self::selection::Selection;
use super::{Allowed, Sieve, Source};
use crate::record::{Event, Level, LineLimit, Origin, Signal, Time};
use crate::stream::{Backlog, LiveStream, StreamName};
use crate::telemetry::Metrics;

/// Pieces of 256 KiB that are read in one turn of a source: enough to be fast, few enough to end soon.
const TURN: usize = 64;
/// The pause between two turns where little comes: what is told meanwhile is looked at together.
const PAUSE: Duration = Duration::from_millis(10);
/// How often it is asked whether another has let go of the positions.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// After so long it is told that another holds the positions.
const TELL_HELD: Duration = Duration::from_secs(10);

/// How files are followed: bounds, and how often what is looked at.
#[derive(Clone, Copy, Debug)]
pub struct FilesLimits {
    /// Files that one stream follows at most.
    pub files: usize,
    /// Folders that one look reads at most.
    pub folders: usize,
    /// Files that are open at the same time at most.
    pub open_files: usize,
    /// How often files are looked at of which the system does not tell, and those that lost their names.
    pub poll: Duration,
    /// How often everything is looked at, whatever is told.
    pub look: Duration,
    /// How long half a line waits for its end.
    pub half: Duration,
    /// How long a file without a name must be silent to be closed.
    pub linger: Duration,
    /// How long a name may be free between two files.
    pub grace: Duration,
    /// How long a file must be silent to be closed; it is opened again when it is written to.
    pub idle: Duration,
    /// How often positions are saved at most.
    pub save: Duration,
}

impl Default for FilesLimits {
    fn default() -> Self {
        Self {
            files: 20_000,
            folders: 10_000,
            open_files: usual_open_files(),
            poll: Duration::from_secs(1),
            look: Duration::from_secs(10),
            half: Duration::from_secs(5),
            linger: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            idle: Duration::from_secs(300),
            save: Duration::from_secs(1),
        }
    }
}

/// An eighth of what the process may open, at most 4096: other sources and clients need theirs.
fn usual_open_files() -> usize {
    #[cfg(target_os = "linux")]
    let most = {
        use procfs::process::{LimitValue, Process};
        let limits = Process::myself().and_then(|process| process.limits());
        limits.ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => usize::try_from(most).ok(),
            LimitValue::Unlimited => None,
        })
    };
    #[cfg(not(target_os = "linux"))]
    let most: Option<usize> = None;
    (most.unwrap_or(1024) / 8).clamp(16, 4096)
}

/// What to follow and how.
pub struct FilesConfig {
    /// Absolute paths and globs.
    pub paths: Vec<String>,
    /// Begin with the first line of files that exist already, where nothing is known of them.
    pub from_start: bool,
    /// What is kept of the lines.
    pub sieve: Sieve,
    /// The folders below which files may be read.
    pub allowed: Allowed<PathBuf>,
    /// Where positions are kept, and for which declared stream; none to begin anew each time.
    pub positions: Option<(PathBuf, StreamName)>,
    /// Bounds.
    pub limits: FilesLimits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why files cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A glob cannot be read.
    #[error("{0}")]
    Glob(#[from] globset::Error),
    /// The operator does not allow it.
    #[error(
        "{0} is not below a folder that the operator allows files to be read from; ask for it to be added to --outside-files"
    )]
    NotAllowed(PathBuf),
}

/// What does not change while files are followed.
#[derive(Debug)]
struct Plan {
    selection: Arc<Selection>,
    gate: Gate,
    from_start: bool,
    limit: LineLimit,
    limits: FilesLimits,
}

/// The lines of files.
pub struct Files {
    plan: Arc<Plan>,
    sieve: Arc<Sieve>,
    members: Arc<Members>,
    positions: Option<(PathBuf, StreamName)>,
    metrics: Arc<Metrics>,
}

impl Files {
    /// A source that has not begun yet.
    ///
    /// # Errors
    /// Where a glob cannot be read, or a path is not allowed.
    pub fn new(config: FilesConfig) -> Result<Arc<Self>, FilesError> {
        let selection = Selection::new(&config.paths)?;
        let gate = Gate::new(&config.allowed);
        if let Some(folder) = selection.folders().find(|folder| !gate.may_hold(folder)) {
            return Err(FilesError::NotAllowed(folder.to_owned()));
        }
        let plan = Plan {
            selection: Arc::new(selection),
            gate,
            from_start: config.from_start,
            limit: config.sieve.limit(),
            limits: config.limits,
        };
        Ok(Arc::new(Self {
            plan: Arc::new(plan),
            sieve: Arc::new(config.sieve),
            members: Arc::default(),
            positions: config.positions,
            metrics: config.metrics,
        }))
    }

    fn feed(&self, stream: &Arc<LiveStream>) -> Feed {
        Feed::new(Arc::clone(stream), Arc::clone(&self.sieve), Arc::clone(&self.members), &self.metrics)
    }

    async fn follow(&self, stream: Arc<LiveStream>, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let Some(store) = cancel.run_until_cancelled(self.hold_positions(&stream, &tasks)).await else { return };
        let (plan, feed) = (Arc::clone(&self.plan), self.feed(&stream));
        let inbox = Arc::new(Inbox::default());
        let told = Arc::clone(&inbox);
        let mut follower = in_turn(&tasks, move || {
            let watches = Watches::new(&told, &plan.selection);
            Follower::new(plan, feed, watches, store, Instant::now())
        })
        .await;
        while !cancel.is_cancelled() {
            let changed = inbox.take();
            let (back, rest) = in_turn(&tasks, move || {
                let now = Instant::now();
                follower.look(changed, now);
                follower.read(TURN, now);
                follower.tick(now);
                let rest = follower.rest(now);
                (follower, rest)
            })
            .await;
            follower = back;
            if rest.is_zero() {
                continue;
            }
            let wait = async {
                tokio::time::sleep(PAUSE.min(rest)).await;
                let _ = tokio::time::timeout(rest, inbox.told()).await;
            };
            cancel.run_until_cancelled(wait).await;
        }
        in_turn(&tasks, move || follower.save(Instant::now())).await;
    }

    /// Takes hold of the positions, once nobody else has them: where a subscription was changed, its old source ends
    /// while the new one begins.
    async fn hold_positions(&self, stream: &LiveStream, tasks: &TaskTracker) -> Option<Store> {
        let (folder, name) = self.positions.clone()?;
        let began = Instant::now();
        let mut told = false;
        loop {
            let (folder, name) = (folder.clone(), name.clone());
            let tell = |level, reason, text| {
                stream.signal(Signal::new(level, Event::SourceError, Time::now(), text).because(reason));
            };
            match in_turn(tasks, move || Store::open(&folder, &name)).await {
                Ok(Some(store)) => return Some(store),
                Ok(None) if began.elapsed() > TELL_HELD && !std::mem::replace(&mut told, true) => {
                    let text = "Another Weir keeps the positions of this stream; files are followed once it ends. Give each \
                                Weir a folder of state of its own.";
                    tell(Level::Error, "PositionsHeld", text.to_owned());
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "positions in files cannot be kept");
                    let text = format!(
                        "The positions in files cannot be kept ({error}): after a restart files are begun with anew. See \
                         that Weir may write to its folder of state."
                    );
                    tell(Level::Error, "PositionsNotSaved", text);
                    return None;
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// Does what waits for the disk. A panic in it goes on here, for whoever keeps the source at work.
async fn in_turn<T: Send + 'static>(tasks: &TaskTracker, work: impl FnOnce() -> T + Send + 'static) -> T {
    match tasks.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and whoever waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}

impl Source for Files {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            // After a failure it begins anew.
            self.members.clear();
            self.members.listed.send_replace(false);
            self.follow(stream, cancel).await;
            self.members.clear();
        }
        .boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.members.targets.subscribe()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.members.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        self.members.roster()
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("paths", &self.plan.selection.patterns()).finish_non_exhaustive()
    }
}
