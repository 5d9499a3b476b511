//! One container of a selection, from when it is first seen until it is gone: its runs, one after another.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::ending::{explained, violent_end};
use super::follow::Stage;
use super::hub::{Attachment, FollowHub, RunStart, Sink};
use super::info::{PodInfo, Run};
use super::past;
use crate::record::{Batch, Event, Level, Origin, Signal, Time};
use crate::source::Sieve;
use crate::stream::{BacklogItem, From, LiveStream, SeenWindow, Trail};

use futures::StreamExt;

/// How long a container that was deleted, or has restarted, may take to give the rest of its log.
const REST: Duration = Duration::from_secs(10);

/// What may wait, in bytes, while the past of a container is read: what is beyond is a gap.
const HELD_BYTES: usize = 4 * 1024 * 1024;

/// What is known of a container now. The pod is replaced by a newer picture of itself; `removed` comes last.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub pod: Arc<PodInfo>,
    pub removed: bool,
}

/// A container that is followed, for those who want its past.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub origin: Arc<Origin>,
    pub run: Run,
    pub stage: watch::Receiver<Stage>,
}

/// Follows a container through all its runs.
pub(super) struct ContainerTask {
    pub hub: Arc<FollowHub>,
    pub stream: Arc<LiveStream>,
    pub sieve: Arc<Sieve>,
    pub container: String,
    pub seen: watch::Receiver<Seen>,
    /// Where to begin in the run that is there already; later runs are followed from their first line.
    pub first: First,
    pub member: Arc<watch::Sender<Option<Member>>>,
}

/// Where a container's first run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// It started after the selection did: with its first line.
    Beginning,
    /// It was there already: as the subscription says.
    AsAsked(From),
}

impl ContainerTask {
    /// Runs until the container is gone. Cancelled by dropping.
    pub async fn run(mut self) {
        let mut last: Option<Run> = None;
        while let Some((pod, run)) = self.next_run(last.as_ref()).await {
            self.follow_run(&pod, &run, last.as_ref()).await;
            last = Some(run);
        }
        let Some(run) = last else { return };
        let pod = Arc::clone(&self.seen.borrow().pod);
        let origin = pod.origin(&self.container, &run);
        // A reader that comes now must not be told of it as of something that is there.
        self.member.send_replace(None);
        let text = format!("Container DELETED: {}", origin.path());
        let signal = Signal::new(Level::Info, Event::Deleted, Time::now(), text).about(&origin);
        let ended = pod.container(&self.container).and_then(|container| container.ending_of(&run.container_id));
        let signal = explained(signal, ended);
        self.stream.signal(match &pod.failure {
            Some(failure) => signal.because(&*failure.reason),
            None => signal,
        });
    }

    /// Waits for a run that is not `last`; `None` when the container is gone.
    async fn next_run(&mut self, last: Option<&Run>) -> Option<(Arc<PodInfo>, Run)> {
        loop {
            let seen = self.seen.borrow_and_update().clone();
            let run = seen.pod.container(&self.container).and_then(|container| container.run.clone());
            if let Some(run) = run.filter(|run| last.is_none_or(|last| last.container_id != run.container_id)) {
                return Some((seen.pod, run));
            }
            if seen.removed {
                return None;
            }
            self.seen.changed().await.ok()?;
        }
    }

    async fn follow_run(&mut self, pod: &Arc<PodInfo>, run: &Run, last: Option<&Run>) {
        let origin = pod.origin(&self.container, run);
        let past = match (last.is_none(), self.first) {
            (true, First::AsAsked(from)) => Some(from),
            _ => None,
        };
        let start = if past.is_some() { RunStart::Now } else { RunStart::Beginning };
        let sink = Arc::new(StreamSink::new(Arc::clone(&self.stream), Arc::clone(&self.sieve)));
        // What comes while the past is read has to wait for it.
        sink.hold();
        let attachment = self.hub.attach(&origin, run, start, Arc::clone(&sink) as Arc<dyn Sink>);
        // A run that another selection follows already has said its first lines; they are read again.
        let past = past
            .or((!attachment.created()).then_some(From { start: crate::stream::Start::Beginning, ..From::default() }));
        let member = Member { origin: Arc::clone(&origin), run: run.clone(), stage: attachment.stage() };
        self.member.send_replace(Some(member));
        // After it stands in the roster, before its first line: a reader that comes in between finds it in both.
        self.tell_start(pod, run, last);
        let work = async {
            let trail = match past.filter(From::wants_past) {
                Some(from) => self.publish_past(from).await,
                None => Trail::default(),
            };
            sink.release(trail);
            done(&attachment).await;
        };
        // Once the run is over for Kubernetes, the rest has a bounded time to come.
        let over = run_over(self.seen.clone(), &self.container, run);
        tokio::select! {
            () = work => {}
            () = async { over.await; tokio::time::sleep(REST).await } => {}
        }
        self.tell_violent_end(run, &origin);
    }

    /// An end that explains why the log breaks off: memory ran out, or the pod had to leave its node.
    fn tell_violent_end(&self, run: &Run, origin: &Arc<Origin>) {
        // The index knows first.
        let pod = self.hub.index().pod(&origin.pod_uid).unwrap_or_else(|| Arc::clone(&self.seen.borrow().pod));
        let ended = pod.container(&self.container).and_then(|container| container.ending_of(&run.container_id));
        if let Some(signal) = violent_end(&pod, origin, ended) {
            self.stream.signal(signal);
        }
    }

    async fn publish_past(&self, from: From) -> Trail {
        let mut trail = Trail::default();
        let Some(member) = self.member.borrow().clone() else { return trail };
        let mut items = past::of_member(Arc::clone(&self.hub), member, Arc::clone(&self.sieve), from);
        while let Some(item) = items.next().await {
            match item {
                BacklogItem::Records(batch) => {
                    trail.note(&batch);
                    self.stream.publish(batch);
                }
                BacklogItem::Signal(signal) => self.stream.signal(Signal::clone(&signal)),
            }
        }
        trail.close_before();
        trail
    }

    fn tell_start(&self, pod: &PodInfo, run: &Run, last: Option<&Run>) {
        let origin = pod.origin(&self.container, run);
        match last {
            None => self.tell(Level::Info, Event::Added, &origin, "Container ADDED: "),
            Some(_) => {
                let ended = last.and_then(|last| pod.container(&self.container)?.ending_of(&last.container_id));
                let ended = ended.or_else(|| last.and_then(|last| last.ending.as_ref()));
                let why = ended.map(|ended| format!(" (it had ended: {ended})")).unwrap_or_default();
                let text = format!("Container RESTARTED: {}, restart {}{why}", origin.path(), run.restarts);
                let signal = Signal::new(Level::Warning, Event::Restarted, Time::now(), text).about(&origin);
                self.stream.signal(explained(signal, ended));
            }
        }
    }

    fn tell(&self, level: Level, event: Event, origin: &Arc<Origin>, text: &str) {
        let text = format!("{text}{}", origin.path());
        self.stream.signal(Signal::new(level, event, Time::now(), text).about(origin));
    }
}

/// Waits until the whole run has come.
async fn done(attachment: &Attachment) {
    let _ = attachment.stage().wait_for(|stage| *stage == Stage::Done).await;
}

/// Waits until Kubernetes says that the run is over.
async fn run_over(mut seen: watch::Receiver<Seen>, container: &str, run: &Run) {
    let over = |seen: &Seen| {
        let now = seen.pod.container(container).and_then(|container| container.run.as_ref());
        seen.removed || now.is_none_or(|now| now.container_id != run.container_id)
    };
    let _ = seen.wait_for(over).await;
}

/// Puts what a follow brings into a stream, sieved.
struct StreamSink {
    stream: Arc<LiveStream>,
    sieve: Arc<Sieve>,
    state: Mutex<SinkState>,
}

enum SinkState {
    /// The past is being read: batches wait.
    Holding { batches: Vec<Arc<Batch>>, bytes: usize, missed: u64 },
    /// The past has been read: what it said is left out.
    Joining(SeenWindow),
    /// All that comes is new.
    Live,
}

impl StreamSink {
    fn new(stream: Arc<LiveStream>, sieve: Arc<Sieve>) -> Self {
        Self { stream, sieve, state: Mutex::new(SinkState::Live) }
    }

    fn hold(&self) {
        *self.state.lock() = SinkState::Holding { batches: Vec::new(), bytes: 0, missed: 0 };
    }

    fn release(&self, past: Trail) {
        let mut state = self.state.lock();
        let window = SinkState::Joining(past.window());
        let SinkState::Holding { batches, missed, .. } = std::mem::replace(&mut *state, window) else { return };
        if missed > 0 {
            self.stream.signal(Signal::gap(missed, Time::now()));
        }
        batches.iter().for_each(|batch| self.take(&mut state, batch));
    }

    fn take(&self, state: &mut SinkState, batch: &Arc<Batch>) {
        match state {
            SinkState::Live => self.stream.publish(Arc::clone(batch)),
            SinkState::Joining(window) => {
                if let Some(new) = window.admit(batch) {
                    self.stream.publish(new);
                }
                if window.passed() {
                    *state = SinkState::Live;
                }
            }
            SinkState::Holding { batches, bytes, missed } => {
                if *bytes + batch.cost() > HELD_BYTES {
                    *missed += batch.len() as u64;
                } else {
                    *bytes += batch.cost();
                    batches.push(Arc::clone(batch));
                }
            }
        }
    }
}

impl Sink for StreamSink {
    fn records(&self, batch: &Arc<Batch>) {
        if let Some(batch) = self.sieve.apply(batch) {
            self.take(&mut self.state.lock(), &batch);
        }
    }

    fn signal(&self, signal: Signal) {
        self.stream.signal(signal);
    }
}
