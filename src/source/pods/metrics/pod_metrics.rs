//! The source `podMetrics`: numbers about a selection's pods, at once and then every interval.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Known, Seen};
use super::formula::Formula;
use super::kubelet::ScrapeError;
use super::members::Members;
use super::samples::NodePage;
use super::scrape::{Flight, LISTED, MetricsHub, Scrape};
use super::view::head;
use crate::api::source::{MetricsMode, ScrapeVia};
use crate::api::{CompiledSelection, PodSelection};
use crate::record::{Asset, Event, Level, Origin, Reading, ReadingHead, Signal, Time};
use crate::source::pods::PodInfo;
use crate::source::pods::index::PodChange;
use crate::source::{Source, Visible};
use crate::stream::{Backlog, LiveStream};

/// How often a snapshot that waits for a rate looks again, and how long it does.
const SNAPSHOT_STEP: Duration = Duration::from_secs(5);
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// How many names a signal spells out.
const SPELLED_OUT: usize = 10;

/// What to measure and how.
pub struct PodMetricsConfig {
    /// Which pods and containers, and what one value stands for.
    pub selection: PodSelection,
    /// The same, compiled.
    pub compiled: CompiledSelection,
    /// Narrows the selection.
    pub visible: Visible,
    /// Names of metrics, in the order in which they are given.
    pub metrics: Vec<String>,
    /// Time between two readings.
    pub interval: Duration,
    /// Whether all is summed into one asset.
    pub aggregate: bool,
    /// Once, or every interval.
    pub mode: MetricsMode,
    /// The way to the kubelets; none for the usual one.
    pub via: Option<ScrapeVia>,
}

/// The metrics of a selection.
pub struct PodMetrics {
    hub: Arc<MetricsHub>,
    config: PodMetricsConfig,
    head: Arc<ReadingHead>,
    via: ScrapeVia,
    members: Mutex<Members>,
    targets: watch::Sender<usize>,
    listed: watch::Sender<bool>,
}

/// A scrape of each node: done in time, or still on its way.
type Scrapes = Vec<(Arc<str>, Result<Arc<Scrape>, Flight>)>;

/// What a run of the source remembers.
struct Run {
    board: Board,
    /// Nodes that cannot be scraped, and why.
    failing: HashMap<Arc<str>, ScrapeError>,
    /// Scrapes that did not come in time, which may fail between two rounds.
    late: HashMap<Arc<str>, Flight>,
    told_fallback: bool,
    told_unknown: bool,
    begun: Instant,
    finished: bool,
}

impl PodMetrics {
    /// A source that has not begun yet.
    pub fn new(hub: Arc<MetricsHub>, config: PodMetricsConfig) -> Arc<Self> {
        Arc::new(Self {
            head: Arc::new(head(&config.selection, &config.metrics)),
            via: config.via.unwrap_or(hub.options().via),
            members: Mutex::new(Members::new(config.compiled.clone(), Arc::clone(&config.visible))),
            targets: watch::channel(0).0,
            listed: watch::channel(false).0,
            hub,
            config,
        })
    }

    async fn measure_until(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) {
        let user = Arc::clone(&self.hub).enlist();
        cancel.run_until_cancelled(self.measure(&stream)).await;
        self.members.lock().clear();
        drop(user);
    }

    async fn measure(&self, stream: &LiveStream) {
        self.wait_for_lists(stream).await;
        let mut run = self.begin();
        let (pods, mut changes) = self.hub.index().follow();
        self.apply_all(&pods, stream);
        self.listed.send_replace(true);
        self.take_up(&mut run);
        let mut next = run.begun;
        let mut scraping: Option<(Time, BoxFuture<'static, Scrapes>)> = None;
        while !run.finished {
            let idle = scraping.is_none();
            let scraped = async {
                match &mut scraping {
                    Some((_, scrapes)) => scrapes.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                scrapes = scraped => {
                    let asked = scraping.take().map_or_else(Time::now, |(asked, _)| asked);
                    self.publish(&mut run, asked, scrapes, stream);
                    next = Instant::now() + self.until_next(Time::now());
                }
                change = changes.recv() => match change {
                    Ok(PodChange::Added(pod) | PodChange::Applied(pod)) => self.apply_all(&[pod], stream),
                    Ok(PodChange::Deleted(pod)) => self.change(stream, |members| members.remove(&pod.uid)),
                    Err(broadcast::error::RecvError::Closed) => return,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let (pods, receiver) = self.hub.index().follow();
                        changes = receiver;
                        self.change(stream, |members| members.keep_only(&pods));
                        self.apply_all(&pods, stream);
                    }
                },
                () = tokio::time::sleep_until(next), if idle => {
                    scraping = Some((Time::now(), self.scrape(&run)));
                }
            }
        }
        stream.end("The snapshot is complete.");
        std::future::pending().await
    }

    fn begin(&self) -> Run {
        let PodMetricsConfig { selection, compiled, metrics, aggregate, .. } = &self.config;
        Run {
            board: Board::new(selection, compiled.clone(), metrics, *aggregate),
            failing: HashMap::new(),
            late: HashMap::new(),
            told_fallback: false,
            told_unknown: false,
            begun: Instant::now(),
            finished: false,
        }
    }

    /// Waits until the pods and the nodes are known, and says so where that takes long.
    async fn wait_for_lists(&self, stream: &LiveStream) {
        while !self.hub.index().synced(LISTED).await {
            let text = "The pods cannot be listed yet: the API server does not answer. Weir goes on trying.";
            stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
        }
        let mut told = None;
        while let Err(trouble) = self.hub.nodes().listed(LISTED).await {
            if told.replace(trouble) != Some(trouble) {
                let text = format!("The nodes cannot be listed: {trouble}. Weir goes on trying.");
                stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
            }
        }
    }

    fn apply_all(&self, pods: &[Arc<PodInfo>], stream: &LiveStream) {
        self.change(stream, |members| pods.iter().flat_map(|pod| members.apply(pod)).collect());
    }

    /// Changes who is in the stream, and tells of it. A container stands in the roster before it is announced: whoever
    /// reads first and then looks there misses none.
    fn change(&self, stream: &LiveStream, change: impl FnOnce(&mut Members) -> Vec<Signal>) {
        let (signals, count) = {
            let mut members = self.members.lock();
            (change(&mut members), members.len())
        };
        signals.into_iter().for_each(|signal| stream.signal(signal));
        self.targets.send_if_modified(|targets| std::mem::replace(targets, count) != count);
    }

    /// Scrapes the nodes on which something is selected, or all. What does not come in time is left out.
    fn scrape(&self, run: &Run) -> BoxFuture<'static, Scrapes> {
        let seen = self.members.lock().seen();
        let mut nodes: BTreeSet<Arc<str>> = seen.iter().map(|one| one.pod.node.as_str().into()).collect();
        if run.board.formulas().iter().any(Formula::needs_all_nodes) {
            nodes.extend(self.hub.nodes().names().into_iter().map(Arc::from));
        }
        let step = self.step();
        let now = Instant::now();
        let not_before = now.checked_sub(step / 2).unwrap_or(now);
        let deadline = now + step * 4 / 5;
        let scrapes = nodes.into_iter().map(|node| {
            let flight = self.hub.scrape(&node, self.via, not_before);
            async move {
                let done = tokio::time::timeout_at(deadline, flight.clone()).await;
                (node, done.map_err(|_| flight))
            }
        });
        join_all(scrapes.collect::<Vec<_>>()).boxed()
    }

    /// Takes what is known of the nodes already as the base of the first rates.
    fn take_up(&self, run: &mut Run) {
        let seen = self.members.lock().seen();
        let nodes = self.hub.nodes().names().into_iter().map(Arc::from);
        let pages = nodes.filter_map(|node| Some((Arc::clone(&node), self.hub.held(&node, self.via)?))).collect();
        self.round(run, &seen, &pages);
    }

    fn round(&self, run: &mut Run, seen: &[Seen], pages: &HashMap<Arc<str>, Arc<NodePage>>) -> Vec<Asset> {
        let nodes = self.hub.nodes();
        let names: Vec<Arc<str>> = nodes.names().into_iter().map(Arc::from).collect();
        let capacities = pages.keys().map(|node| (Arc::clone(node), nodes.capacity(node))).collect();
        let known = Known {
            pages,
            capacities: &capacities,
            cluster: nodes.cluster_capacity(),
            nodes: &names,
            names: self.hub.names(),
        };
        run.board.round(seen, &known)
    }

    fn publish(&self, run: &mut Run, asked: Time, scrapes: Scrapes, stream: &LiveStream) {
        let pages = take_pages(run, scrapes, stream);
        self.tell_what_is_missing(run, &pages, stream);
        let seen = self.members.lock().seen();
        let assets = self.round(run, &seen, &pages);
        if self.config.mode == MetricsMode::Snapshot {
            if run.begun.elapsed() < self.patience() && lacks_a_rate(&assets, run.board.formulas()) {
                return;
            }
            run.finished = true;
        }
        self.hub.count_reading();
        stream.publish_reading(Arc::new(Reading::new(Arc::clone(&self.head), asked, assets)));
    }

    /// Says once where values come from, and which names there are none of.
    fn tell_what_is_missing(&self, run: &mut Run, pages: &HashMap<Arc<str>, Arc<NodePage>>, stream: &LiveStream) {
        let warn = |text: String| stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
        if let Some((node, _)) = pages.iter().find(|(_, page)| page.fallback).filter(|_| !run.told_fallback) {
            run.told_fallback = true;
            warn(format!(
                "cAdvisor knows no containers on node {node}: CPU and memory come from the kubelet's resource metrics, \
                 all other values are absent. The same holds for other nodes in this state."
            ));
        }
        if pages.is_empty() || std::mem::replace(&mut run.told_unknown, true) {
            return;
        }
        let known = |formula: &Formula| formula.sources().iter().any(|name| self.hub.names().find(name).is_some());
        let asked = run.board.formulas().iter().zip(&self.config.metrics);
        let unknown: Vec<&str> =
            asked.filter(|(formula, _)| !known(formula)).map(|(_, name)| name.as_str()).take(SPELLED_OUT).collect();
        if !unknown.is_empty() {
            warn(format!(
                "No node gives {} now; until one does the values are absent. GET /metrics/list names what there is.",
                unknown.join(", ")
            ));
        }
    }

    /// Time between two scrapes.
    fn step(&self) -> Duration {
        match self.config.mode {
            MetricsMode::Stream => self.config.interval,
            MetricsMode::Snapshot => self.config.interval.min(SNAPSHOT_STEP),
        }
    }

    /// How long a snapshot waits for a second sample, without which there is no rate.
    fn patience(&self) -> Duration {
        self.config.interval.min(SNAPSHOT_PATIENCE)
    }

    /// Until the next multiple of the interval since the epoch, so that streams with one interval meet in one scrape;
    /// never less than half of it.
    fn until_next(&self, now: Time) -> Duration {
        let step = self.step().as_nanos().max(1);
        let past = u128::from(now.0.unsigned_abs()) % step;
        let left = step - past;
        let wait = if left * 2 < step { left + step } else { left };
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// The pages that came; what did not come is told of, when a node begins to fail and when it is back.
fn take_pages(run: &mut Run, scrapes: Scrapes, stream: &LiveStream) -> HashMap<Arc<str>, Arc<NodePage>> {
    let mut pages = HashMap::new();
    run.failing.retain(|node, _| scrapes.iter().any(|(scraped, _)| scraped == node));
    for (node, late) in std::mem::take(&mut run.late) {
        if let Some(Err(error)) = late.peek().map(|scrape| &scrape.outcome) {
            note_failure(run, node, error, stream);
        }
    }
    for (node, scrape) in scrapes {
        match scrape.as_ref().map(|scrape| &scrape.outcome) {
            Ok(Ok(page)) => {
                if run.failing.remove(&node).is_some() {
                    let text = format!("Node {node} is scraped again.");
                    stream.signal(Signal::new(Level::Info, Event::Reconnected, Time::now(), text));
                }
                pages.insert(node, Arc::clone(page));
            }
            Ok(Err(error)) => note_failure(run, node, error, stream),
            Err(late) => {
                run.late.insert(node, late.clone());
            }
        }
    }
    pages
}

fn note_failure(run: &mut Run, node: Arc<str>, error: &ScrapeError, stream: &LiveStream) {
    if run.failing.contains_key(&node) {
        return;
    }
    let text = format!("Node {node} cannot be scraped: {error}. Its values are absent; Weir goes on trying.");
    stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
    run.failing.insert(node, error.clone());
}

/// Whether nothing has a value yet for something that needs two samples.
fn lacks_a_rate(assets: &[Asset], formulas: &[Formula]) -> bool {
    let missing = |at: usize| assets.iter().all(|asset| asset.values.get(at).is_none_or(Option::is_none));
    !assets.is_empty() && formulas.iter().enumerate().any(|(at, formula)| formula.is_rate() && missing(at))
}

impl Source for PodMetrics {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        async move { self.measure_until(stream, cancel).await }.boxed()
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
        self.members.lock().roster()
    }
}

impl std::fmt::Debug for PodMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodMetrics").field("metrics", &self.config.metrics).finish_non_exhaustive()
    }
}
