//! One container, from when it is first seen until it is removed, run after run: the engine keeps one log for all of
//! its runs, so that one trail is enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Unsettled;
use super::engine::{Engine, EngineError, Inspected, LogAsk, next_bytes};
use super::frames::LogReader;
use crate::record::{Batch, Event, Level, Origin, Signal, Time};
use crate::source::Sieve;
use crate::source::pods::{Backoff, END_LINES};
use crate::stream::{LiveStream, SeenWindow, Trail};
use crate::telemetry::{Category, Metrics, Reconnect, ReconnectLabels, Service, ServiceLabels};

/// The longest wait before the engine is asked again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long a container that was removed may take to give the rest of its log.
const REST: Duration = Duration::from_secs(10);

/// Where a container's log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// It came after the source began: with its first line.
    Beginning,
    /// It was there already: with its last lines, this many.
    Tail(u64),
}

/// What the list of containers says of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How often it was seen to start, or to be there: whoever waits looks again when this changes.
    pub looks: u64,
    /// It was removed.
    pub removed: bool,
}

/// Follows one container.
pub(super) struct Follow {
    pub engine: Arc<Engine>,
    pub stream: Arc<LiveStream>,
    pub sieve: Arc<Sieve>,
    pub metrics: Arc<Metrics>,
    pub origin: Arc<Origin>,
    pub first: First,
    /// Held until what is written comes, or the engine has said why it will not give it.
    pub unsettled: Option<Unsettled>,
    pub seen: watch::Receiver<Seen>,
}

/// How far a follow has come.
#[derive(Default)]
struct Progress {
    trail: Trail,
    /// The run that was told of.
    told: Option<String>,
    /// The run of which everything has come.
    drained: Option<String>,
    /// That its log cannot be read was told.
    refused: bool,
}

impl Follow {
    /// Runs until the container is removed. Cancelled by dropping.
    pub async fn run(mut self) {
        let mut progress = Progress::default();
        let mut backoff = Backoff::new(LONGEST_WAIT);
        if let First::Tail(lines) = self.first {
            // A container that does not run now is followed from where its log ends.
            while let Err(error) = self.begin(lines, &mut progress).await {
                if error.is_gone() || self.seen.borrow_and_update().removed {
                    return;
                }
                if error.is_its_answer() {
                    self.unsettled = None;
                }
                self.failed(&error, &mut progress);
                self.pause(&mut backoff).await;
            }
        }
        self.unsettled = None;
        while !self.seen.borrow_and_update().removed {
            let before = progress.trail.newest();
            let removed = removed(self.seen.clone());
            let step = tokio::select! {
                step = self.step(&mut progress) => step,
                () = async { removed.await; tokio::time::sleep(REST).await } => break,
            };
            if progress.trail.newest() != before {
                backoff.reset();
            }
            match step {
                Ok(true) => {
                    // All has come; what is next is seen by whoever listens to the engine.
                    if self.seen.changed().await.is_err() {
                        return;
                    }
                    backoff.reset();
                }
                // Mostly a container that ended, whose status is on its way.
                Ok(false) => self.pause(&mut backoff).await,
                Err(error) if error.is_gone() => break,
                Err(error) => {
                    self.failed(&error, &mut progress);
                    self.pause(&mut backoff).await;
                }
            }
        }
        if progress.told.is_some() {
            self.tell(Level::Info, Event::Deleted, format!("Container DELETED: {}", self.origin.container));
        }
    }

    /// Waits, or until something happens to the container.
    async fn pause(&self, backoff: &mut Backoff) {
        let mut seen = self.seen.clone();
        tokio::select! {
            () = backoff.wait() => {}
            Ok(()) = seen.changed() => {}
        }
    }

    /// Reads the last lines of what is there, to know what is old; those that are wanted are published.
    async fn begin(&mut self, wanted: u64, progress: &mut Progress) -> Result<(), EngineError> {
        let now = self.engine.inspect(&self.origin.container_id).await?;
        let wanted = if now.running { wanted } else { 0 };
        // Where lines are published as they are read, the container comes before them; else once its end is known, so
        // that whoever is told of it gets all that is written from then on.
        if !now.running {
            progress.drained = Some(now.started.clone());
        } else if wanted >= END_LINES {
            self.tell_run(&now, progress);
        }
        let ask = LogAsk { tail: Some(wanted.max(END_LINES)), ..LogAsk::default() };
        let mut body = self.engine.log(&self.origin.container_id, ask).await?;
        if wanted >= END_LINES {
            // However long they are: what comes after them is published as they are.
            self.unsettled = None;
        }
        let mut reader = LogReader::new(&self.origin, now.tty, self.sieve.limit());
        // Where fewer are wanted than are read, they must be counted from the end: no more than END_LINES are held.
        let (mut held, mut lines) = (Vec::new(), 0);
        let mut trail = Trail::default();
        loop {
            let bytes = match next_bytes(&mut body).await {
                Ok(bytes) => bytes,
                // What was published must not come again: the follow takes up the rest.
                Err(error) if wanted >= END_LINES && !trail.is_empty() => {
                    tracing::debug!(container = %self.origin.container, %error, "the last lines broke off");
                    None
                }
                Err(error) => return Err(error),
            };
            let batch = match &bytes {
                Some(bytes) => reader.push(bytes).map_err(|_| NOT_FRAMES)?,
                // Half a line of a container that runs comes again, whole.
                None if now.running => None,
                None => reader.rest(),
            };
            if let Some(batch) = batch {
                trail.note(&batch);
                lines += batch.len() as u64;
                if wanted >= END_LINES {
                    self.publish(&batch);
                } else {
                    held.push(batch);
                }
            }
            if bytes.is_none() {
                break;
            }
        }
        if now.running {
            self.tell_run(&now, progress);
        }
        let mut skip = lines.saturating_sub(wanted);
        for batch in &held {
            let old = skip.min(batch.len() as u64);
            skip -= old;
            if let Some(rest) = batch.skip(old as usize) {
                self.publish(&rest);
            }
        }
        trail.close_before();
        progress.trail = trail;
        Ok(())
    }

    /// Follows while it runs, or reads the rest once it does not; whether all has come.
    async fn step(&self, progress: &mut Progress) -> Result<bool, EngineError> {
        let now = self.engine.inspect(&self.origin.container_id).await?;
        let drained = progress.drained.as_ref() == Some(&now.started);
        if !now.running && (drained || !now.has_run()) {
            return Ok(true);
        }
        self.tell_run(&now, progress);
        let read = self.read(now.running, now.tty, &mut progress.trail).await;
        let reason = match &read {
            Ok(()) => Reconnect::EndedEarly,
            Err(EngineError::Refused { .. }) => Reconnect::Refused,
            Err(_) => Reconnect::Broken,
        };
        if now.running {
            self.metrics.upstream_reconnects.get_or_create(&ReconnectLabels { reason }).inc();
        }
        read?;
        progress.refused = false;
        if !now.running {
            progress.drained = Some(now.started.clone());
            self.tell_end(&now);
        }
        Ok(!now.running)
    }

    /// One request, from where the trail ends.
    async fn read(&self, follow: bool, tty: bool, trail: &mut Trail) -> Result<(), EngineError> {
        let mut window = trail.window();
        let ask = LogAsk { follow, since: trail.ask_again_from(), tail: None };
        let mut body = self.engine.log(&self.origin.container_id, ask).await?;
        let mut reader = LogReader::new(&self.origin, tty, self.sieve.limit());
        while let Some(bytes) = next_bytes(&mut body).await? {
            if let Some(batch) = reader.push(&bytes).map_err(|_| NOT_FRAMES)? {
                self.take(&batch, &mut window, trail);
            }
        }
        // Half a line of a container that runs comes again, whole, as it goes on.
        if let (false, Some(batch)) = (follow, reader.rest()) {
            self.take(&batch, &mut window, trail);
        }
        Ok(())
    }

    fn take(&self, batch: &Arc<Batch>, window: &mut SeenWindow, trail: &mut Trail) {
        if window.passed() {
            trail.note(batch);
            return self.publish(batch);
        }
        let Some(new) = window.admit(batch) else { return };
        if !window.joined() {
            let name = &self.origin.container;
            tracing::warn!(container = %name, "the log was rotated while it was not followed; lines may be lost");
            let text = format!(
                "The log of {name} was rotated while it could not be read: lines written in between may be missing. A \
                 larger max-size or max-file of the engine's log driver makes this rarer."
            );
            self.tell(Level::Warning, Event::Gap, text);
            *window = SeenWindow::default();
        }
        trail.note(&new);
        self.publish(&new);
    }

    fn publish(&self, batch: &Arc<Batch>) {
        let Some(kept) = self.sieve.apply(batch) else { return };
        let log = ServiceLabels { service: Service::Log };
        self.metrics.records.get_or_create(&log).inc_by(kept.len() as u64);
        self.metrics.bytes.get_or_create(&log).inc_by(kept.text_len() as u64);
        self.stream.publish(kept);
    }

    fn failed(&self, error: &EngineError, progress: &mut Progress) {
        let name = &self.origin.container;
        tracing::debug!(container = %name, %error, "the log was cut; connecting again");
        // An engine that is away is told of once for all containers; that it will not give this log is not.
        if error.is_its_answer() && !std::mem::replace(&mut progress.refused, true) {
            let level = if error.category() == Category::Invalid { Level::Error } else { Level::Warning };
            self.tell(
                level,
                Event::SourceError,
                format!("The log of {name} cannot be read: {error}. Weir goes on trying."),
            );
        }
    }

    fn tell_run(&self, now: &Inspected, progress: &mut Progress) {
        let name = &self.origin.container;
        match progress.told.replace(now.started.clone()) {
            None => self.tell(Level::Info, Event::Added, format!("Container ADDED: {name}")),
            Some(before) if before != now.started => {
                self.tell(Level::Warning, Event::Restarted, format!("Container RESTARTED: {name}"));
            }
            Some(_) => {}
        }
    }

    fn tell_end(&self, now: &Inspected) {
        let (name, code) = (&self.origin.container, now.exit_code);
        let (level, event, why) = match (now.oom_killed, code) {
            (true, _) => (Level::Error, Event::OomKilled, ", because memory ran out"),
            (false, 0) => (Level::Info, Event::Terminated, ""),
            (false, _) => (Level::Warning, Event::Terminated, ""),
        };
        let text = format!("Container TERMINATED: {name}, exit code {code}{why}");
        self.stream.signal(Signal::new(level, event, Time::now(), text).about(&self.origin).exit_code(code));
    }

    fn tell(&self, level: Level, event: Event, text: String) {
        self.stream.signal(Signal::new(level, event, Time::now(), text).about(&self.origin));
    }
}

/// Waits until the container is removed.
async fn removed(mut seen: watch::Receiver<Seen>) {
    if seen.wait_for(|seen| seen.removed).await.is_err() {
        // Nobody listens to the engine any more: the whole source is ending.
        std::future::pending().await
    }
}

/// What is asked for as a log and comes as something else.
pub(super) const NOT_FRAMES: EngineError = EngineError::Answer("the log does not come in frames");
