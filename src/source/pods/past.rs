//! The past of containers: one request each, read at the reader's pace, taken up again where it breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt};

use super::container::Member;
use super::follow::{Backoff, END_LINES, Stage};
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

/// A tail of more lines than this is a long one.
const LONG_TAIL: u64 = 10_000;

/// How long a long log may pause before it is asked for otherwise.
const PAUSE: Duration = Duration::from_secs(3);

/// The end of a long log, found before it is read.
///
/// A kubelet serves a long log in two thirds of the time, for two thirds of its processor time, when it is asked to
/// follow it: otherwise the API server holds back what the kubelet flushes line by line. A follow has no end, so its
/// reader must know the last line.
#[derive(Debug)]
struct LastLine {
    time: Time,
    text: Vec<u8>,
    /// How many lines like it are still to come: one, but for a writer who repeats itself faster than its clock.
    left: usize,
}

impl LastLine {
    fn of(batch: &Batch) -> Option<Self> {
        let last = batch.lines().last()?;
        let same = |line: &&Line| line.time == last.time && batch.text(line) == batch.text(last);
        let left = batch.lines().iter().filter(same).count();
        Some(Self { time: last.time, text: batch.text(last).to_vec(), left })
    }

    /// Whether it has come with these lines, or must have been missed.
    fn reached(&mut self, batch: &Batch) -> Reached {
        if batch.newest() < Some(self.time) {
            return Reached::NotYet;
        }
        let same = |line: &&Line| line.time == self.time && batch.text(line) == self.text;
        self.left = self.left.saturating_sub(batch.lines().iter().filter(same).count());
        match self.left {
            0 => Reached::Yes,
            _ if batch.newest() > Some(self.time) => Reached::Missed,
            _ => Reached::NotYet,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    NotYet,
    Yes,
    /// Later lines came without it: the log was rotated meanwhile.
    Missed,
}

/// How a log is read.
#[derive(Debug)]
enum Way {
    /// Not chosen yet.
    Open,
    /// As a follow, up to this line.
    Until(LastLine),
    /// As far as the server gives it.
    ToItsEnd,
}

/// Reads one run's log once, across cuts.
struct PastLog {
    hub: Arc<FollowHub>,
    /// The run, where it is not the one before the present.
    run: Option<Run>,
    way: Way,
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
            way: Way::Open,
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
        let first = match self.way {
            Way::Until(_) => tokio::time::timeout(PAUSE, body.next()).await.unwrap_or(None),
            Way::Open | Way::ToItsEnd => body.next_soon().await,
        };
        let end = body.gather(first, parser).await;
        let batch = parser.batch();
        // Half a line of a running container comes again, whole, as it goes on; so does one that a break cut.
        let ended = matches!(end, Some(Ok(())));
        let to_its_end = matches!(self.way, Way::ToItsEnd);
        let rest = if ended && to_its_end && self.which != Which::Running { parser.rest() } else { None };
        batch.iter().chain(&rest).for_each(|batch| self.take(batch));
        match &mut self.way {
            Way::Until(last) => match batch.map_or(Reached::NotYet, |batch| last.reached(&batch)) {
                Reached::Yes => self.over = true,
                Reached::NotYet if !ended => {}
                Reached::NotYet | Reached::Missed => (self.way, self.request) = (Way::ToItsEnd, None),
            },
            Way::Open | Way::ToItsEnd => self.over = ended,
        }
        end.unwrap_or(Ok(()))
    }

    /// Asks for the log, or for the rest of it.
    async fn begin(&mut self) -> Result<(), LogError> {
        self.which = self.fate();
        if self.which != Which::Running {
            self.way = Way::ToItsEnd;
        }
        if matches!(self.way, Way::Open) {
            let last = if self.is_long() { self.log.last_lines(END_LINES, self.limit).await? } else { None };
            self.way = last.and_then(|last| LastLine::of(&last)).map_or(Way::ToItsEnd, Way::Until);
        }
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

    /// Whether so much may be asked for that it matters how.
    fn is_long(&self) -> bool {
        self.from.start == Start::Beginning && self.from.lines.is_none_or(|lines| lines > LONG_TAIL)
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
        let follow = matches!(self.way, Way::Until(_));
        if let Some(again) = self.trail.ask_again_from() {
            return LogAsk { follow, previous, since: Some(again), ..LogAsk::default() };
        }
        let since = match self.from.start {
            Start::At(time) => Some(time.floor_second()),
            Start::Beginning | Start::Now => None,
        };
        LogAsk { follow, previous, since, tail: self.from.lines, ..LogAsk::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Origin;
    use rstest::rstest;

    fn batch(lines: &[(i64, &str)]) -> Batch {
        let (mut data, mut table) = (Vec::new(), Vec::new());
        for (time, text) in lines {
            let start = data.len();
            data.extend_from_slice(text.as_bytes());
            table.push(Line::new(start..data.len(), Time(*time), false));
        }
        Batch::new(Arc::new(Origin::default()), data.into(), table)
    }

    #[rstest]
    #[case::before(&[vec![(1, "a"), (8, "b")]], Reached::NotYet)]
    #[case::there(&[vec![(1, "a")], vec![(9, "end")]], Reached::Yes)]
    #[case::with_more_behind(&[vec![(9, "end"), (10, "later")]], Reached::Yes)]
    #[case::another_line_of_the_same_time(&[vec![(9, "other")]], Reached::NotYet)]
    #[case::rotated_away(&[vec![(1, "a")], vec![(10, "later")]], Reached::Missed)]
    fn the_last_line_is_known_when_it_comes(#[case] batches: &[Vec<(i64, &str)>], #[case] expected: Reached) {
        let mut last = LastLine::of(&batch(&[(7, "end"), (9, "x"), (9, "end")])).unwrap();
        let reached: Vec<_> = batches.iter().map(|lines| last.reached(&batch(lines))).collect();
        assert_eq!(reached.last(), Some(&expected), "{reached:?}");
        assert!(reached[..reached.len() - 1].iter().all(|reached| *reached == Reached::NotYet));
    }

    #[test]
    fn a_last_line_that_stands_there_twice_has_come_when_both_have() {
        let mut last = LastLine::of(&batch(&[(9, "end"), (9, "end")])).unwrap();
        assert_eq!(last.reached(&batch(&[(8, "a"), (9, "end")])), Reached::NotYet);
        assert_eq!(last.reached(&batch(&[(9, "end")])), Reached::Yes);
    }

    #[test]
    fn an_empty_log_has_no_last_line() {
        assert!(LastLine::of(&batch(&[])).is_none());
    }
}
