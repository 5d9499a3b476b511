//! Reading the past: from the log, then from the ring what is not in the log yet.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::format::{self, Kept};
use super::{Archive, Opened};
use crate::record::{Batch, Event, Level, Origin, Signal, Time};
use crate::stream::segment::{Found, SegmentView};
use crate::stream::{Backlog, BacklogItem, BacklogStream, From, Item, LiveStream, Seq, Start};

/// Bytes of the log that are read at a time.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Whose lines are counted together. Signals count beside the lines of the same origin.
type Whose = (bool, Option<Arc<Origin>>);

impl Backlog for Archive {
    fn fetch(&self, from: From) -> BacklogStream {
        if from.start == Start::Now {
            return stream::empty().boxed();
        }
        let (mut opened, live, tracker) = (self.opened.clone(), Arc::clone(&self.stream), self.tracker.clone());
        let begin = async move {
            let opened = opened.wait_for(Option::is_some).await.ok().and_then(|opened| opened.clone());
            let reading = tracker.spawn_blocking(move || Reading::begin(opened, &live, from)).await;
            let reading = reading.unwrap_or_else(|_| Ok(Reading::default()));
            let steps = stream::unfold(Some(reading.map_err(|error| failed(&error))), move |step| {
                let tracker = tracker.clone();
                async move {
                    match step? {
                        Err(told) => Some((vec![told], None)),
                        Ok(mut reading) => {
                            let stepped = tracker.spawn_blocking(move || reading.step().map(|items| (items, reading)));
                            match stepped.await.ok()? {
                                Ok((None, _)) => None,
                                Ok((Some(items), reading)) => Some((items, Some(Ok(reading)))),
                                Err(error) => Some((vec![failed(&error)], None)),
                            }
                        }
                    }
                }
            });
            steps.flat_map(stream::iter)
        };
        stream::once(begin).flatten().boxed()
    }
}

fn told(text: impl Into<String>) -> BacklogItem {
    BacklogItem::Signal(Arc::new(Signal::new(Level::Warning, Event::Gap, Time::now(), text)))
}

fn failed(error: &io::Error) -> BacklogItem {
    tracing::warn!(%error, "History cannot be read from disk");
    told("the history on disk cannot be read; it goes on with what is live")
}

/// One past on its way to a reader.
#[derive(Debug, Default)]
struct Reading {
    view: Option<SegmentView>,
    place: u64,
    end: u64,
    /// What the ring holds beyond the log.
    ring: VecDeque<Kept>,
    since: Option<Time>,
    /// So many of whose lines are left out still.
    skip: HashMap<Whose, u64>,
}

impl Reading {
    fn begin(opened: Option<Opened>, live: &LiveStream, from: From) -> io::Result<Self> {
        let since = match from.start {
            Start::At(time) => Some(time),
            Start::Beginning | Start::Now => None,
        };
        let written = opened.as_ref().map(|opened| *opened.written.lock());
        // The ring comes after: what is written meanwhile is in it, and left out of what the log gives.
        let ring = beyond(live, written.map_or(Seq(0), |written| written.seq));
        let mut reading = Self { ring, since, ..Self::default() };
        if let (Some(opened), Some(written)) = (opened, written) {
            let start = since.map_or(0, |since| opened.view.since(since.millis()));
            (reading.place, reading.end) = (start.max(opened.view.bounds().0), written.place);
            reading.view = Some(opened.view);
        }
        if let Some(lines) = from.lines {
            reading.keep_newest(lines)?;
        }
        Ok(reading)
    }

    /// Leaves out all but the newest lines of each origin. Goes back by whole segments, the newest one at least, until it has
    /// found as many of each origin that it sees: one that wrote nothing since is not looked for through all of the past.
    fn keep_newest(&mut self, lines: u64) -> io::Result<()> {
        let (mut counts, mut looked, since) = (HashMap::new(), false, self.since);
        self.ring.iter().for_each(|kept| count(&mut counts, kept, since));
        if let Some(view) = &self.view {
            for (base, end) in view.segments().into_iter().rev() {
                let (base, end) = (base.max(self.place), end.min(self.end));
                if base >= end {
                    continue;
                }
                if looked && counts.values().all(|count| *count >= lines) {
                    self.place = end;
                    break;
                }
                let mut place = base;
                while place < end {
                    let (found, next) = read(view, place, end)?;
                    found.iter().for_each(|kept| count(&mut counts, kept, since));
                    // Signals of the stream itself are no reason to stop.
                    looked |= found.iter().any(|kept| !matches!(kept, Kept::Signal(signal) if signal.origin.is_none()));
                    place = next;
                }
            }
        }
        counts.retain(|_, count| {
            *count = count.saturating_sub(lines);
            *count > 0
        });
        self.skip = counts;
        Ok(())
    }

    /// The next items; none at the end.
    fn step(&mut self) -> io::Result<Option<Vec<BacklogItem>>> {
        while let Some(view) = self.view.clone().filter(|_| self.place < self.end) {
            let (found, next) = read(&view, self.place, self.end)?;
            let lost = next - self.place - found.iter().map(units).sum::<u64>().min(next - self.place);
            self.place = next;
            let mut items: Vec<_> = found.into_iter().filter_map(|kept| self.wanted(kept)).collect();
            if lost > 0 && self.since.is_none() && self.skip.is_empty() {
                items.insert(0, told(format!("{lost} records are missing: history on disk no longer has them")));
            }
            if !items.is_empty() {
                return Ok(Some(items));
            }
        }
        while let Some(kept) = self.ring.pop_front() {
            if let Some(item) = self.wanted(kept) {
                return Ok(Some(vec![item]));
            }
        }
        Ok(None)
    }

    fn wanted(&mut self, kept: Kept) -> Option<BacklogItem> {
        let since = self.since;
        match kept {
            Kept::Records(batch) => {
                let batch = batch.retain(|line, _| since.is_none_or(|since| line.time >= since))?;
                let skip = self.skip.get_mut(&(false, Some(Arc::clone(batch.origin()))));
                match skip {
                    None => Some(BacklogItem::Records(batch)),
                    Some(skip) => {
                        let off = (*skip).min(batch.len() as u64);
                        *skip -= off;
                        batch.skip(usize::try_from(off).ok()?).map(BacklogItem::Records)
                    }
                }
            }
            Kept::Signal(signal) => {
                if since.is_some_and(|since| signal.time < since) {
                    return None;
                }
                match self.skip.get_mut(&(true, signal.origin.clone())).filter(|skip| **skip > 0) {
                    Some(skip) => {
                        *skip -= 1;
                        None
                    }
                    None => Some(BacklogItem::Signal(signal)),
                }
            }
        }
    }
}

fn units(kept: &Kept) -> u64 {
    match kept {
        Kept::Records(batch) => batch.len() as u64,
        Kept::Signal(_) => 1,
    }
}

fn count(counts: &mut HashMap<Whose, u64>, kept: &Kept, since: Option<Time>) {
    let (whose, more) = match kept {
        Kept::Records(batch) => {
            let lines = batch.lines().iter().filter(|line| since.is_none_or(|since| line.time >= since)).count();
            ((false, Some(Arc::clone(batch.origin()))), lines as u64)
        }
        Kept::Signal(signal) => {
            ((true, signal.origin.clone()), u64::from(since.is_none_or(|since| signal.time >= since)))
        }
    };
    if more > 0 {
        *counts.entry(whose).or_default() += more;
    }
}

/// What a log holds from a place on, as much as is read at a time, and the place that follows.
fn read(view: &SegmentView, place: u64, end: u64) -> io::Result<(Vec<Kept>, u64)> {
    let (mut kept, mut next) = (Vec::new(), place);
    for found in view.read(place, READ_BYTES)? {
        match found {
            Found::Record { place, .. } if place >= end => return Ok((kept, end)),
            Found::Record { place, units, data, .. } => {
                kept.extend(format::read(&data));
                next = place + u64::from(units);
            }
            Found::Gap { next: after } => next = after.min(end),
            Found::End => next = end,
        }
    }
    Ok((kept, next.max(place + 1)))
}

/// What a ring holds from a number on.
fn beyond(live: &LiveStream, seq: Seq) -> VecDeque<Kept> {
    let mut kept = VecDeque::new();
    let entries = live.snapshot();
    if let Some(missed) =
        entries.first().and_then(|entry| entry.first.0.checked_sub(seq.0)).filter(|missed| *missed > 0)
    {
        let text = format!("{missed} records are missing: the disk was slower than the stream");
        kept.push_back(Kept::Signal(Arc::new(Signal::new(Level::Warning, Event::Gap, Time::now(), text))));
    }
    for entry in entries {
        let before = usize::try_from(seq.0.saturating_sub(entry.first.0)).unwrap_or(usize::MAX);
        match entry.item {
            Item::Records(batch) => {
                let rest: Option<Arc<Batch>> =
                    if before == 0 { Some(batch) } else { batch.skip(before.min(batch.len())) };
                kept.extend(rest.map(Kept::Records));
            }
            Item::Signal(signal) if before == 0 => kept.push_back(Kept::Signal(signal)),
            Item::Signal(_) | Item::Reading(_) => {}
        }
    }
    kept
}
