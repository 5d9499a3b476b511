//! What the source promises, on a real disk.

mod follow;
mod model;
mod rules_of_names;
mod safety;
mod size;

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::changes::{Changed, Watches};
use super::checkpoint::Store;
use super::feed::{Feed, Members};
use super::follower::Follower;
use super::gate::Gate;
use super::selection::Selection;
use super::{Files, FilesConfig, FilesError, FilesLimits, Plan};
use crate::api::FilterSpec;
use crate::record::{Event, LineLimit, Signal};
use crate::source::{Allowed, Sieve, Source as _};
use crate::stream::{Delivery, LiveStream, ReadFrom, Reader, RingLimits, StreamName};
use crate::telemetry::Metrics;

/// Long enough for anything on this machine; never waited for when things are well.
const LONG: Duration = Duration::from_secs(60);

/// A ring that holds whatever a test writes.
const ROOMY: RingLimits = RingLimits { records: u64::MAX, bytes: usize::MAX, age: None };

/// What a test says of a follower.
#[derive(Clone)]
struct Options {
    paths: Vec<String>,
    from_start: bool,
    limit: usize,
    limits: FilesLimits,
    positions: Option<PathBuf>,
}

impl Options {
    fn of(root: &Path, patterns: &[&str]) -> Self {
        let paths = patterns.iter().map(|pattern| root.join(pattern).to_string_lossy().into_owned()).collect();
        Self { paths, from_start: false, limit: 64 * 1024, limits: FilesLimits::default(), positions: None }
    }

    fn name() -> StreamName {
        StreamName::new("default", "files")
    }
}

/// A follower whose time stands still unless it is moved on, and that is told nothing: it looks at everything each time.
struct Stepped {
    options: Options,
    follower: Option<Follower>,
    reader: Reader,
    stream: Arc<LiveStream>,
    now: Instant,
    signals: VecDeque<Arc<Signal>>,
}

impl Stepped {
    fn new(options: Options) -> Self {
        let (stream, reader) = stream();
        let mut stepped =
            Self { options, follower: None, reader, stream, now: Instant::now(), signals: VecDeque::new() };
        stepped.start();
        stepped
    }

    /// Begins, as after a start of Weir.
    fn start(&mut self) {
        let selection = Arc::new(Selection::new(&self.options.paths).unwrap());
        let plan = Arc::new(Plan {
            selection,
            gate: Gate::new(&Allowed::Everything),
            from_start: self.options.from_start,
            limit: LineLimit(self.options.limit),
            limits: self.options.limits,
        });
        let metrics = Metrics::new();
        let sieve = Sieve::new(&FilterSpec::default(), plan.limit, &metrics).unwrap();
        let members = Arc::<Members>::default();
        let feed = Feed::new(Arc::clone(&self.stream), Arc::new(sieve), members, &metrics);
        let positions = self.options.positions.as_ref();
        let store = positions.map(|folder| Store::open(folder, &Options::name()).unwrap().expect("nobody else has it"));
        self.follower = Some(Follower::new(plan, feed, Watches::none(), store, self.now));
    }

    /// Ends in good order.
    fn stop(&mut self) {
        self.follower.take().unwrap().save(self.now);
    }

    /// Ends as with kill -9.
    fn kill(&mut self) {
        self.follower = None;
    }

    /// Looks at everything and reads all that there is.
    fn turn(&mut self) {
        let follower = self.follower.as_mut().unwrap();
        follower.look(Changed { everything: true, ..Changed::default() }, self.now);
        while follower.read(64, self.now) {}
        follower.tick(self.now);
        while follower.read(64, self.now) {}
    }

    /// Lets time pass, with a look in every second of it.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.turn();
        }
    }

    /// All lines that came since the last time.
    fn lines(&mut self) -> Vec<String> {
        self.records().into_iter().map(|(_, text)| text).collect()
    }

    /// The same, with the file that each is said to be from.
    fn records(&mut self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        while let Some(delivery) = self.reader.try_next() {
            match delivery {
                Delivery::Records { batch, .. } => lines.extend(batch.lines().iter().map(|line| {
                    let text = String::from_utf8_lossy(batch.text(line)).into_owned();
                    (batch.origin().container.clone(), if line.truncated { text + "…" } else { text })
                })),
                Delivery::Signal { signal, .. } => self.signals.push_back(signal),
                other => panic!("{other:?}"),
            }
        }
        lines
    }

    /// What was told since the last time: what happened, the reason, and the name of the file.
    fn told(&mut self) -> Vec<(Event, String, String)> {
        assert!(self.records().is_empty(), "lines that nobody looked at");
        let name = |signal: &Signal| {
            let path = signal.origin.as_ref().map(|origin| PathBuf::from(&origin.container));
            path.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
        };
        let told = |signal: Arc<Signal>| (signal.event, signal.reason.clone().unwrap_or_default(), name(&signal));
        self.signals.drain(..).map(told).collect()
    }
}

fn stream() -> (Arc<LiveStream>, Reader) {
    let stream = Arc::new(LiveStream::new(ROOMY, 1));
    let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
    (stream, reader)
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn truncate(path: &Path) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// A source at work as Weir runs it, and a reader of its stream.
struct House {
    reader: Reader,
    cancel: CancellationToken,
    tasks: TaskTracker,
    source: Arc<Files>,
}

impl House {
    fn new(options: &Options) -> Self {
        Self::allowed(options, Allowed::Everything).unwrap()
    }

    fn allowed(options: &Options, allowed: Allowed<PathBuf>) -> Result<Self, FilesError> {
        let metrics = Metrics::new();
        let source = Files::new(FilesConfig {
            paths: options.paths.clone(),
            from_start: options.from_start,
            sieve: Sieve::new(&FilterSpec::default(), LineLimit(options.limit), &metrics).unwrap(),
            allowed,
            positions: options.positions.clone().map(|folder| (folder, Options::name())),
            limits: options.limits,
            metrics,
        })?;
        let (stream, reader) = stream();
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&source).run(stream, cancel.clone()));
        Ok(Self { reader, cancel, tasks, source })
    }

    async fn listed(&self) {
        let mut listed = self.source.listed();
        tokio::time::timeout(LONG, listed.wait_for(|listed| *listed)).await.expect("a list in time").unwrap();
    }

    /// So many lines, without the signals between them.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match tokio::time::timeout(LONG, self.reader.next()).await {
                Ok(Delivery::Records { batch, .. }) => lines
                    .extend(batch.lines().iter().map(|line| String::from_utf8_lossy(batch.text(line)).into_owned())),
                Ok(_) => {}
                Err(_) => panic!("{} of {count} lines came; the last is {:?}", lines.len(), lines.last()),
            }
        }
        lines
    }

    /// Waits for a signal, and throws away what stands before it.
    async fn signal(&mut self, event: Event) -> Arc<Signal> {
        loop {
            match tokio::time::timeout(LONG, self.reader.next()).await.expect("a signal in time") {
                Delivery::Signal { signal, .. } if signal.event == event => return signal,
                Delivery::End(end) => panic!("{end:?}"),
                _ => {}
            }
        }
    }

    async fn end(self) {
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(LONG, self.tasks.wait()).await.expect("it ends");
        assert_eq!(*self.source.targets().borrow(), 0);
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}
