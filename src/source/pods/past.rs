//! The past of containers: one request each, read at the reader's pace, taken up again where it breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt};

use super::container::Member;
use super::follow::{Backoff, Stage};
use super::hub::FollowHub;
use super::info::{Run, RunFate};
use super::log_api::{ContainerLog, LogAsk, LogBody, LogError};
use super::parse::LogParser;
use crate::record::{Batch, Event, Level, Line, LineLimit, Origin, Signal, Time};
use crate::source::Sieve;
use crate::stream::{BacklogItem, From, SeenWindow, Start, Trail};
use crate::telemetry::Category;

/// How long a container's follow may take to know where it begins.
const READY: Duration = Duration::from_secs(10);

/// How often a broken request is taken up again without progress.
const ATTEMPTS: u32 = 10;

/// The past of one container.
pub(super) fn of_member(
    hub: Arc<FollowHub>,
    member: Member,
    sieve: Arc<Sieve>,
    from: From,
) -> impl Stream<Item = BacklogItem> + Send + Unpin + 'static {
    stream::once(async move {
        let mut stage = member.stage.clone();
        let ready = stage.wait_for(|stage| *stage >= Stage::Live);
        let ready = tokio::time::timeout(READY, ready).await.is_ok_and(|stage| stage.is_ok());
        if !ready {
            let text = format!("The past of {} cannot be had now; what comes next is delivered.", member.origin.path());
            let signal = Signal::new(Level::Warning, Event::SourceError, Time::now(), text).about(&member.origin);
            return stream::iter([BacklogItem::Signal(Arc::new(signal))]).boxed();
        }
        let present = from.start != Start::Now;
        let previous = (from.previous && member.run.restarts > 0).then(|| previous_origin(&member.origin));
        let previous = previous.map(|origin| PastLog::new(&hub, origin, Arc::clone(&sieve), from, None));
        let present = present.then(|| PastLog::new(&hub, member.origin, sieve, from, Some(member.run)));
        let logs = stream::iter(previous.into_iter().chain(present));
        logs.map(PastLog::into_stream).flatten().boxed()
    })
    .flatten()
    .boxed()
}

/// The run before has an id that is not known here; its lines must not be taken for those of the present run.
fn previous_origin(origin: &Arc<Origin>) -> Arc<Origin> {
    Arc::new(Origin { container_id: format!("{}~previous", origin.container_id), ..Origin::clone(origin) })
}

/// Which run's log is read, and so whether an unfinished last line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Previous,
    Ended,
    Running,
}

/// Reads one run's log once, across cuts.
struct PastLog {
    hub: Arc<FollowHub>,
    /// The run, where it is not the one before the present.
    run: Option<Run>,
    log: ContainerLog,
    limit: LineLimit,
    sieve: Arc<Sieve>,
    from: From,
    which: Which,
    trail: Trail,
    window: SeenWindow,
    request: Option<(LogBody, LogParser)>,
    ready: VecDeque<BacklogItem>,
    failures: u32,
    backoff: Backoff,
    over: bool,
}

impl PastLog {
    fn new(hub: &Arc<FollowHub>, origin: Arc<Origin>, sieve: Arc<Sieve>, from: From, run: Option<Run>) -> Self {
        Self {
            hub: Arc::clone(hub),
            run,
            log: hub.log(&origin),
            limit: hub.line_limit(),
            sieve,
            from,
            which: Which::Previous,
            trail: Trail::default(),
            window: SeenWindow::default(),
            request: None,
            ready: VecDeque::new(),
            failures: 0,
            backoff: Backoff::new(Duration::from_secs(5)),
            over: false,
        }
    }

    fn into_stream(self) -> impl Stream<Item = BacklogItem> + Send {
        stream::unfold(self, |mut log| async move { log.next().await.map(|item| (item, log)) })
    }

    async fn next(&mut self) -> Option<BacklogItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.read_more().await {
                self.failed(&error).await;
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), LogError> {
        let Some((body, parser)) = &mut self.request else { return self.begin().await };
        let first = body.next_soon().await;
        let end = body.gather(first, parser).await;
        let batch = parser.batch();
        // Half a line of a running container comes again, whole, as it goes on; so does one that a break cut.
        let ended = matches!(end, Some(Ok(())));
        let rest = if ended && self.which != Which::Running { parser.rest() } else { None };
        batch.iter().chain(&rest).for_each(|batch| self.take(batch));
        self.over = ended;
        end.unwrap_or(Ok(()))
    }

    /// Asks for the log, or for the rest of it.
    ///
    /// Not as a follow, though a server gives a long log faster that way: it then sends each line by itself, which costs
    /// this process several times as much as the line.
    async fn begin(&mut self) -> Result<(), LogError> {
        self.which = self.fate();
        let body = self.log.fetch(self.ask()).await?;
        self.window = self.trail.window();
        self.request = Some((body, LogParser::new(Arc::clone(&self.log.origin), self.limit)));
        Ok(())
    }

    fn fate(&self) -> Which {
        let Some(run) = &self.run else { return Which::Previous };
        let origin = &self.log.origin;
        match self.hub.index().fate(&origin.pod_uid, &origin.container, run) {
            RunFate::Running => Which::Running,
            RunFate::Replaced { next: true } => Which::Previous,
            RunFate::Terminated | RunFate::Replaced { .. } | RunFate::Gone => Which::Ended,
        }
    }

    fn take(&mut self, batch: &Arc<Batch>) {
        let Some(new) = self.window.admit(batch) else { return };
        self.failures = 0;
        self.trail.note(&new);
        let wanted = match self.from.start {
            Start::At(time) => new.retain(|line: &Line, _| line.time >= time),
            _ => Some(new),
        };
        if let Some(kept) = wanted.and_then(|wanted| self.sieve.apply(&wanted)) {
            self.ready.push_back(BacklogItem::Records(kept));
        }
    }

    fn ask(&self) -> LogAsk {
        let previous = self.which == Which::Previous;
        if let Some(again) = self.trail.ask_again_from() {
            return LogAsk { previous, since: Some(again), ..LogAsk::default() };
        }
        let since = match self.from.start {
            Start::At(time) => Some(time.floor_second()),
            Start::Beginning | Start::Now => None,
        };
        LogAsk { previous, since, tail: self.from.lines, ..LogAsk::default() }
    }

    async fn failed(&mut self, error: &LogError) {
        self.request = None;
        self.failures += 1;
        let path = self.log.origin.path();
        tracing::debug!(origin = %path, %error, "reading the past of a log failed");
        if error.category() == Category::Unavailable && self.failures < ATTEMPTS {
            return self.backoff.wait().await;
        }
        self.over = true;
        // A run whose log is gone has no past; that is no fault.
        if error.category() != Category::Invalid {
            let text = format!("The past of {path} could not be read to its end; lines may be missing.");
            let signal = Signal::new(Level::Warning, Event::Gap, Time::now(), text).about(&self.log.origin);
            self.ready.push_back(BacklogItem::Signal(Arc::new(signal)));
        }
    }
}
