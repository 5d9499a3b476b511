//! What was seen last of one origin, so that reading again from about there neither loses nor doubles a line.
//!
//! Logs are asked for again by time, in whole seconds, and two writers of one log (stdout and stderr) may stand a
//! few microseconds out of order. So the end of what was seen is remembered line by line: behind the
//! horizon everything counts as seen, within the window a line is known by its time and text, past it all is new.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::record::{Batch, Time};

/// How far out of order the lines of one origin may stand, in nanoseconds.
const DISORDER: i64 = 100_000_000;

/// Lines remembered at most, so that memory is bounded however fast an origin writes. An origin that writes
/// more within [`DISORDER`] is exact as long as no line stands further out of order than these reach back.
const MOST_LINES: usize = 16_384;

/// The end of what was seen of one origin: of each line its time and a hash of its text, 16 bytes in all. The lines
/// themselves are let go, so that who reads a long past slowly holds no more of it than what is on its way.
#[derive(Clone, Debug)]
pub struct Trail {
    most_lines: usize,
    hasher: RandomState,
    recent: VecDeque<(Time, u64)>,
    oldest: Option<Time>,
    newest: Option<Time>,
    /// The newest time of what was seen and is no longer remembered line by line.
    forgotten: Option<Time>,
    /// What stands before the oldest line counts as seen.
    closed: bool,
}

impl Default for Trail {
    fn default() -> Self {
        Self::remembering(MOST_LINES)
    }
}

impl Trail {
    pub(super) fn remembering(most_lines: usize) -> Self {
        Self {
            most_lines,
            hasher: RandomState::default(),
            recent: VecDeque::new(),
            oldest: None,
            newest: None,
            forgotten: None,
            closed: false,
        }
    }

    /// Remembers that a batch was seen.
    pub fn note(&mut self, batch: &Arc<Batch>) {
        let Some(newest) = batch.newest() else { return };
        self.oldest = self.oldest.or(batch.oldest());
        self.newest = self.newest.max(Some(newest));
        let settled = self.settled();
        // Of a large batch, most is forgotten at once: so it is not remembered first.
        let late = batch.len().saturating_sub(self.most_lines);
        let (early, rest) = batch.lines().split_at(late);
        if !early.is_empty() {
            let (remembered, lines) = (self.recent.drain(..).map(|(time, _)| time), early.iter().map(|line| line.time));
            self.forgotten = self.forgotten.max(remembered.chain(lines).max());
        }
        for line in rest {
            if Some(line.time) < settled && self.recent.is_empty() {
                self.forgotten = self.forgotten.max(Some(line.time));
                continue;
            }
            self.recent.push_back((line.time, self.hasher.hash_one(batch.text(line))));
        }
        while let Some(&(time, _)) = self.recent.front()
            && (Some(time) < settled || self.recent.len() > self.most_lines)
        {
            self.recent.pop_front();
            self.forgotten = self.forgotten.max(Some(time));
        }
    }

    /// The time before which no line comes any more.
    fn settled(&self) -> Option<Time> {
        self.newest.map(|newest| newest.plus_nanos(-DISORDER))
    }

    /// The time before which every line was seen, or stands before the trail's beginning and is not wanted.
    /// Where nothing was forgotten, lines are known one by one. What was forgotten early, for want of room, ends between two times: with its newest nanosecond. Only
    /// where that is also the newest seen, its lines may come again: twice is better than never.
    fn horizon(&self) -> Time {
        match (self.forgotten, self.newest, self.settled()) {
            (Some(forgotten), Some(newest), Some(settled)) => forgotten.plus_nanos(1).min(newest).max(settled),
            (None, Some(_), Some(settled)) if self.closed => self.oldest.unwrap_or(settled).max(settled),
            _ => self.oldest.map_or(Time(i64::MIN), |oldest| oldest.plus_nanos(-DISORDER)),
        }
    }

    /// Says that everything before what was noted counts as seen, though it was never noted: the log was read
    /// from its last lines on, to learn where it ends.
    pub fn close_before(&mut self) {
        self.closed = true;
    }

    /// Says that more was seen before what was noted, long ago, and is not remembered.
    pub fn goes_back(&mut self) {
        self.forgotten = self.forgotten.max(Some(Time(i64::MIN)));
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// The newest time that was seen.
    pub fn newest(&self) -> Option<Time> {
        self.newest
    }

    /// The time from which the origin must be asked again so that everything unseen comes: the whole second
    /// that holds the horizon, because the API server knows no smaller step.
    pub fn ask_again_from(&self) -> Option<Time> {
        self.settled().map(Time::floor_second)
    }

    /// The window to put what comes again through.
    pub fn window(&self) -> SeenWindow {
        let Some(newest) = self.newest else {
            return SeenWindow::default();
        };
        let mut seen: HashMap<(Time, u64), u32> = HashMap::new();
        for line in &self.recent {
            *seen.entry(*line).or_default() += 1;
        }
        SeenWindow {
            hasher: self.hasher.clone(),
            seen,
            horizon: self.horizon(),
            newest: Some(newest),
            matched: false,
            passed: false,
        }
    }
}

/// Tells lines that were seen from lines that are new. Made by [`Trail::window`].
#[derive(Clone, Debug, Default)]
pub struct SeenWindow {
    hasher: RandomState,
    seen: HashMap<(Time, u64), u32>,
    /// Lines before this were seen.
    horizon: Time,
    newest: Option<Time>,
    matched: bool,
    passed: bool,
}

impl SeenWindow {
    /// Whether a line that comes (again) is new. Each line seen once is refused once.
    pub fn is_new(&mut self, time: Time, text: &[u8]) -> bool {
        let Some(newest) = self.newest else {
            return true;
        };
        if time > newest {
            self.passed |= time > newest.plus_nanos(DISORDER);
            return true;
        }
        if time < self.horizon {
            self.matched = true;
            return false;
        }
        match self.seen.get_mut(&(time, self.hasher.hash_one(text))) {
            Some(count) if *count > 0 => {
                *count -= 1;
                self.matched = true;
                false
            }
            _ => true,
        }
    }

    /// The new lines of a batch.
    pub fn admit(&mut self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        batch.retain(|line, text| self.is_new(line.time, text))
    }

    /// Whether all that comes from now on is new, so that the window can be dropped.
    pub fn passed(&self) -> bool {
        self.passed || self.newest.is_none()
    }

    /// Whether anything that was seen came again: where not, what stood between may be lost.
    pub fn joined(&self) -> bool {
        self.matched || self.newest.is_none()
    }
}
