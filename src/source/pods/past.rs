//! The past of containers: one request each, read at the reader's pace, taken up again where it breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt};

use super::container::Member;
use super::follow::{Backoff, Stage};
use super::hub::FollowHub;
use super::info::RunFate;
use super::log_api::{ContainerLog, LogAsk, LogBody, LogError};
use super::parse::LogParser;
use crate::record::{Batch, Event, Level, Line, LineLimit, Origin, Signal, Time};
use crate::stream::{BacklogItem, From, SeenWindow, Start, Trail};
use crate::telemetry::Category;

/// How long a container's follow may take to know where it begins.
const READY: Duration = Duration::from_secs(10);

/// How often a broken request is taken up again without progress.
const ATTEMPTS: u32 = 10;

/// What a subscription keeps of the lines: its filter and its longest line.
#[derive(Debug, Default)]
pub(super) struct LogCut {
    /// Keep lines that match one of these, where there are any.
    pub include: Option<regex::bytes::RegexSet>,
    /// Drop lines that match one of these.
    pub exclude: Option<regex::bytes::RegexSet>,
    /// Cut lines to this.
    pub limit: LineLimit,
}

impl LogCut {
    /// The lines that are kept; the batch itself where that is all of them.
    pub fn apply(&self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        let kept = if self.include.is_none() && self.exclude.is_none() {
            Arc::clone(batch)
        } else {
            batch.retain(|_, text| self.keeps(text))?
        };
        Some(kept.clip(self.limit))
    }

    fn keeps(&self, text: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(text))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(text))
    }
}

/// The past of one container.
pub(super) fn of_member(
    hub: Arc<FollowHub>,
    member: Member,
    cut: Arc<LogCut>,
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
        let previous = previous.map(|origin| PastLog::new(&hub, origin, Arc::clone(&cut), from, Which::Previous));
        let which = match hub.index().fate(&member.origin.pod_uid, &member.origin.container, &member.run) {
            RunFate::Running => Which::Running,
            RunFate::Replaced { next: true } => Which::Previous,
            RunFate::Terminated | RunFate::Replaced { .. } | RunFate::Gone => Which::Ended,
        };
        let present = present.then(|| PastLog::new(&hub, member.origin, cut, from, which));
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
    log: ContainerLog,
    limit: LineLimit,
    cut: Arc<LogCut>,
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
    fn new(hub: &FollowHub, origin: Arc<Origin>, cut: Arc<LogCut>, from: From, which: Which) -> Self {
        Self {
            log: hub.log(&origin),
            limit: hub.line_limit(),
            cut,
            from,
            which,
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
        let Some((body, parser)) = &mut self.request else {
            let body = self.log.fetch(self.ask()).await?;
            self.window = self.trail.window();
            self.request = Some((body, LogParser::new(Arc::clone(&self.log.origin), self.limit)));
            return Ok(());
        };
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

    fn take(&mut self, batch: &Arc<Batch>) {
        let Some(new) = self.window.admit(batch) else { return };
        self.failures = 0;
        self.trail.note(&new);
        let wanted = match self.from.start {
            Start::At(time) => new.retain(|line: &Line, _| line.time >= time),
            _ => Some(new),
        };
        if let Some(kept) = wanted.and_then(|wanted| self.cut.apply(&wanted)) {
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
