//! Follows one run of one container until it has ended, across every cut, losing and doubling nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hub::{HubConfig, RunStart, Sink};
use super::index::PodIndex;
use super::info::{Run, RunFate};
use super::log_api::{ContainerLog, LogAsk, LogError, LogKind};
use super::parse::LogParser;
use crate::record::{Batch, Event, Level, Origin, Signal, Time};
use crate::stream::{SeenWindow, Trail};
use crate::telemetry::{Category, Metrics, Reconnect, ReconnectLabels, Service, ServiceLabels};

/// How far a follow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It does not know yet where it begins.
    Starting,
    /// All that is written from here on will come.
    Live,
    /// The run has ended and all of it has come.
    Done,
}

/// How many lines from the end tell where a follow begins: more than one, because lines of two writers may stand
/// a little out of order.
pub(in crate::source) const END_LINES: u64 = 16;

/// The first wait before connecting again.
const BACKOFF: Duration = Duration::from_millis(200);

/// One container run, followed.
pub(super) struct Follow {
    log: ContainerLog,
    run: Run,
    config: HubConfig,
    sinks: Mutex<Sinks>,
    stage: watch::Sender<Stage>,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Sinks {
    next_id: u64,
    list: Vec<(u64, Arc<dyn Sink>)>,
}

/// How one request for the log ended.
enum Cut {
    /// The server ended it in good order.
    Ended,
    /// It broke.
    Broke(LogError),
    /// It was silent while the container was not, or the server could not be reached beside it.
    Stuck,
}

impl Follow {
    pub fn new(
        log: ContainerLog,
        run: Run,
        config: HubConfig,
        metrics: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> Self {
        let stage = watch::channel(Stage::Starting).0;
        Self { log, run, config, sinks: Mutex::default(), stage, cancel, metrics }
    }

    pub fn origin(&self) -> &Arc<Origin> {
        &self.log.origin
    }

    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    pub fn add(&self, sink: Arc<dyn Sink>) -> u64 {
        let mut sinks = self.sinks.lock();
        sinks.next_id += 1;
        let id = sinks.next_id;
        sinks.list.push((id, sink));
        id
    }

    /// Takes a sink out; whether it was the last.
    pub fn remove(&self, id: u64) -> bool {
        let mut sinks = self.sinks.lock();
        sinks.list.retain(|(other, _)| *other != id);
        sinks.list.is_empty()
    }

    fn publish(&self, batch: &Arc<Batch>) {
        let log = ServiceLabels { service: Service::Log };
        self.metrics.records.get_or_create(&log).inc_by(batch.len() as u64);
        self.metrics.bytes.get_or_create(&log).inc_by(batch.text_len() as u64);
        self.sinks.lock().list.iter().for_each(|(_, sink)| sink.records(batch));
    }

    fn signal(&self, level: Level, event: Event, text: String) {
        let signal = Signal::new(level, event, Time::now(), text).about(self.origin());
        self.sinks.lock().list.iter().for_each(|(_, sink)| sink.signal(signal.clone()));
    }

    /// Follows until the run has ended and all of it has come. Cancelled by dropping.
    pub async fn run(&self, index: &PodIndex, start: RunStart) {
        let mut trail = Trail::default();
        if start == RunStart::Now {
            if self.run.terminated {
                self.stage.send_replace(Stage::Done);
                return;
            }
            self.find_end(index, &mut trail).await;
        }
        self.stage.send_replace(Stage::Live);
        self.follow(index, &mut trail).await;
        self.stage.send_replace(Stage::Done);
    }

    /// Learns where the log ends now, so that what comes later is known to be new.
    async fn find_end(&self, index: &PodIndex, trail: &mut Trail) {
        let mut backoff = Backoff::new(self.config.backoff_max);
        loop {
            match self.last_lines(END_LINES).await {
                Ok(batch) => {
                    if let Some(batch) = batch {
                        trail.note(&batch);
                        trail.close_before();
                    }
                    return;
                }
                Err(error) if self.fate(index) != RunFate::Running => {
                    tracing::debug!(origin = %self.origin().path(), %error, "the run ended before it was followed");
                    return;
                }
                Err(error) => {
                    tracing::debug!(origin = %self.origin().path(), %error, "cannot tell where the log ends; again");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn follow(&self, index: &PodIndex, trail: &mut Trail) {
        let mut backoff = Backoff::new(self.config.backoff_max);
        let mut told = false;
        loop {
            let before = trail.newest();
            let cut = self.one_request(trail, &mut told).await;
            if trail.newest() != before {
                backoff.reset();
            }
            match self.fate(index) {
                RunFate::Running => {}
                fate => return self.catch_up(fate, trail).await,
            }
            let reason = match &cut {
                Cut::Ended => Reconnect::EndedEarly,
                Cut::Broke(LogError::Refused { .. }) => Reconnect::Refused,
                Cut::Broke(_) => Reconnect::Broken,
                Cut::Stuck => Reconnect::Silent,
            };
            self.metrics.upstream_reconnects.get_or_create(&ReconnectLabels { reason }).inc();
            // An answer that ended in good order is mostly a container that ended and whose status is on its way.
            if let (Cut::Broke(_) | Cut::Stuck, false) = (&cut, told) {
                told = true;
                self.tell_cut(&cut);
            }
            backoff.wait().await;
        }
    }

    fn tell_cut(&self, cut: &Cut) {
        let why = match cut {
            Cut::Broke(error) => error.to_string(),
            Cut::Stuck => "it was silent while the container wrote".to_owned(),
            Cut::Ended => "it ended".to_owned(),
        };
        let path = self.origin().path();
        tracing::info!(origin = %path, %why, "the follow was cut; connecting again");
        // The reason may hold addresses of the cluster, which readers need not know.
        let text =
            format!("The connection to the log of {path} was lost; reconnecting. Nothing is lost that the node keeps.");
        self.signal(Level::Warning, Event::Reconnecting, text);
    }

    fn fate(&self, index: &PodIndex) -> RunFate {
        index.fate(&self.origin().pod_uid, &self.origin().container, &self.run)
    }

    /// Follows with one request until it ends, from where the trail ends.
    async fn one_request(&self, trail: &mut Trail, told: &mut bool) -> Cut {
        let mut window = trail.window();
        let since = trail.ask_again_from();
        let ask = LogAsk { follow: true, since, kind: LogKind::Follow, ..LogAsk::default() };
        let mut parser = LogParser::new(Arc::clone(self.origin()), self.config.line_limit);
        let mut pace = Pace::default();
        let mut body = match self.patiently(trail, &pace, self.log.open(ask)).await {
            Some(Ok(body)) => body,
            Some(Err(error)) => return Cut::Broke(error),
            None => return Cut::Stuck,
        };
        if std::mem::take(told) {
            let text = format!("The log of {} is followed again.", self.origin().path());
            self.signal(Level::Info, Event::Reconnected, text);
        }
        loop {
            let Some(first) = self.patiently(trail, &pace, body.next()).await else { return Cut::Stuck };
            pace.note(Instant::now());
            let end = body.gather(first, &mut parser).await;
            if let Some(batch) = parser.batch() {
                self.take(&batch, &mut window, trail);
            }
            // What is left is half a line: it comes again, whole.
            match end {
                None => {}
                Some(Ok(())) => return Cut::Ended,
                Some(Err(error)) => return Cut::Broke(error),
            }
        }
    }

    fn take(&self, batch: &Arc<Batch>, window: &mut SeenWindow, trail: &mut Trail) {
        if window.passed() {
            trail.note(batch);
            return self.publish(batch);
        }
        let Some(new) = window.admit(batch) else { return };
        if !window.joined() {
            self.tell_gap();
            *window = SeenWindow::default();
        }
        trail.note(&new);
        self.publish(&new);
    }

    fn tell_gap(&self) {
        let path = self.origin().path();
        tracing::warn!(origin = %path, "the log was rotated while it was not followed; lines may be lost");
        let text = format!(
            "The log of {path} was rotated while the connection was lost: lines written in between may be missing. \
             A larger containerLogMaxSize on the node makes this rarer."
        );
        self.signal(Level::Warning, Event::Gap, text);
    }

    /// The run has ended: reads what the follow has not brought.
    async fn catch_up(&self, fate: RunFate, trail: &mut Trail) {
        let previous = match fate {
            RunFate::Gone => return,
            RunFate::Running | RunFate::Terminated => false,
            RunFate::Replaced { next: true } => true,
            RunFate::Replaced { next: false } => {
                let text = format!(
                    "{} restarted more than once; the end of an earlier run may be missing.",
                    self.origin().path()
                );
                return self.signal(Level::Warning, Event::Gap, text);
            }
        };
        let mut backoff = Backoff::new(self.config.backoff_max);
        for _ in 0..8 {
            match self.read_rest(previous, trail).await {
                Ok(()) => return,
                Err(error) if error.category() == Category::Unavailable => backoff.wait().await,
                // The kubelet has removed the log; what was there has mostly come already.
                Err(error) => return tracing::debug!(origin = %self.origin().path(), %error, "no rest of the log"),
            }
        }
        let text = format!("The end of the log of {} could not be read; lines may be missing.", self.origin().path());
        self.signal(Level::Warning, Event::Gap, text);
    }

    async fn read_rest(&self, previous: bool, trail: &mut Trail) -> Result<(), LogError> {
        let mut window = trail.window();
        let ask = LogAsk { previous, since: trail.ask_again_from(), ..LogAsk::default() };
        let mut parser = LogParser::new(Arc::clone(self.origin()), self.config.line_limit);
        let mut body = self.log.fetch(ask).await?;
        loop {
            let first = body.next_soon().await;
            let end = body.gather(first, &mut parser).await;
            if let Some(batch) = parser.batch() {
                self.take(&batch, &mut window, trail);
            }
            if let Some(end) = end {
                end?;
                break;
            }
        }
        if let Some(batch) = parser.rest() {
            self.take(&batch, &mut window, trail);
        }
        Ok(())
    }

    /// Waits for `future` as long as the container is silent. `None` when the container is not, so that the
    /// connection must be dead, or when the server cannot be reached otherwise either.
    async fn patiently<T>(&self, trail: &Trail, pace: &Pace, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        let mut idle = pace.patience(self.config.idle_probe);
        loop {
            if let Ok(value) = tokio::time::timeout(idle, &mut future).await {
                return Some(value);
            }
            match self.last_lines(1).await {
                Ok(last) if last.as_deref().and_then(Batch::newest) > trail.newest() => {
                    // It may just have been written; then it is on its way.
                    return tokio::time::timeout(idle.min(Duration::from_secs(1)), &mut future).await.ok();
                }
                Ok(_) => idle = (idle * 2).min(self.config.idle_probe_max),
                Err(_) => return None,
            }
        }
    }

    async fn last_lines(&self, lines: u64) -> Result<Option<Arc<Batch>>, LogError> {
        self.log.last_lines(lines, self.config.line_limit).await
    }
}

/// How often a container writes, so that one which wrote a hundred times a second is not waited for as long as one
/// that writes once an hour: kubelets before 1.29 stop following, without a word, where a log is rotated.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    mean: Option<Duration>,
}

impl Pace {
    fn note(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.duration_since(last);
            // One long silence does not make a slow writer.
            let usual = self.mean.map_or(gap, |mean| gap.min(mean * 4));
            self.mean = Some(self.mean.unwrap_or(usual).mul_f64(0.875) + usual.mul_f64(0.125));
        }
    }

    /// How long a silence may last before it is looked into: many times the usual, within half a second and `most`.
    fn patience(&self, most: Duration) -> Duration {
        let least = Duration::from_millis(500).min(most);
        self.mean.map_or(most, |mean| (mean * 16).clamp(least, most))
    }
}

/// Growing waits with jitter (between half and all of the wait).
pub(in crate::source) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(max: Duration) -> Self {
        Self { next: BACKOFF.min(max), max }
    }

    pub fn reset(&mut self) {
        self.next = BACKOFF.min(self.max);
    }

    pub async fn wait(&mut self) {
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.max);
        tokio::time::sleep(wait).await;
    }
}
