//! One series: its points at full resolution, and what older ones came to.
//!
//! ```text
//!   ◄──────────────── keep ──────────────────►
//!   ┌───────────── buckets ─────┬─── points ──┐
//!   │ count, sum, min, max, last│ time, value │ newest
//!   └───────────────────────────┴─────────────┘
//!                                ◄─ full_age ─►
//! ```
//!
//! Each point stands in one of the two, never in both: a complete chunk of points becomes buckets when its newest point is
//! older than `full_age`.

use super::chunk::{Chunk, Row};
use super::run::Run;

/// The times of a series' life, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ages {
    pub(super) full: i64,
    pub(super) bucket: i64,
    pub(super) keep: i64,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the newest of its series now.
    Stored,
    /// It has the time of the newest and took its place.
    Replaced,
    /// It is older than the newest of its series and was dropped.
    Late,
    /// It is no finite number and was dropped: neither a bucket nor JSON could hold it.
    NotFinite,
    /// Its series would be one too many, and none is silent long enough to make room; it was dropped.
    Refused,
}

/// What a query reads of a series: shared chunks, so that nothing waits while they are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Excerpt {
    pub(super) buckets: Vec<Chunk<5>>,
    pub(super) points: Vec<Chunk<1>>,
    /// Before this time nothing counts any more, in milliseconds.
    pub(super) horizon: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Timeline {
    points: Run<1>,
    /// The numbers of a bucket are its count, sum, min, max, last; its time is its start.
    buckets: Run<5>,
    /// The time of the newest point that ever came.
    newest: i64,
    /// The latest time that is known to have come.
    now: i64,
}

impl Timeline {
    /// A series whose first point will not be older than `time`.
    pub(super) fn new() -> Self {
        Self { points: Run::default(), buckets: Run::default(), newest: i64::MIN, now: i64::MIN }
    }

    /// The time of the newest point that ever came.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    pub(super) fn append(&mut self, time: i64, value: f64, ages: Ages) -> Appended {
        if time < self.newest {
            return Appended::Late;
        }
        if time == self.newest {
            // A point that was downsampled already stays as it is.
            let Some(last) = self.points.last() else { return Appended::Late };
            last.values = [value];
            return Appended::Replaced;
        }
        self.newest = time;
        self.points.push(Row { time, values: [value] }, ages.full);
        self.age(time, ages);
        Appended::Stored
    }

    /// Takes over a chunk of points; nothing happens where it is not newer than what there is.
    pub(super) fn restore_points(&mut self, chunk: Chunk<1>, ages: Ages) {
        if chunk.start > self.newest {
            self.newest = chunk.end;
            self.points.push_chunk(chunk);
            self.age(self.newest, ages);
        }
    }

    /// Takes over a chunk of buckets; nothing happens where it is not newer than what there is.
    pub(super) fn restore_buckets(&mut self, chunk: Chunk<5>, ages: Ages) {
        if chunk.start > self.newest {
            self.newest = chunk.end;
            self.buckets.push_chunk(chunk);
            self.age(self.newest, ages);
        }
    }

    /// Lets the time pass: downsamples what is older than `full`, forgets what is older than `keep`.
    pub(super) fn age(&mut self, now: i64, ages: Ages) {
        self.now = self.now.max(now);
        let full = self.now.saturating_sub(ages.full);
        // A series that is silent has no next point that would complete its chunk.
        if self.newest < full && !self.points.is_empty() {
            self.points.flush();
        }
        while self.points.oldest().is_some_and(|chunk| chunk.end < full) {
            if let Some(chunk) = self.points.pop() {
                self.downsample(&chunk, ages);
            }
        }
        let horizon = self.horizon(ages);
        if self.newest.saturating_add(ages.bucket) <= horizon {
            (self.points, self.buckets) = (Run::default(), Run::default());
        }
        while self.buckets.oldest().is_some_and(|chunk| chunk.end.saturating_add(ages.bucket) <= horizon) {
            self.buckets.pop();
        }
    }

    fn horizon(&self, ages: Ages) -> i64 {
        self.now.saturating_sub(ages.keep)
    }

    fn downsample(&mut self, chunk: &Chunk<1>, ages: Ages) {
        if chunk.end < self.horizon(ages) {
            return;
        }
        for Row { time, values: [value] } in chunk.rows() {
            let start = time.div_euclid(ages.bucket).saturating_mul(ages.bucket);
            match self.buckets.last() {
                // A bucket from before the width was changed may begin later than this one would.
                Some(bucket) if bucket.time >= start => merge(&mut bucket.values, value),
                _ => self.buckets.push(Row { time: start, values: [1.0, value, value, value, value] }, i64::MAX),
            }
        }
    }

    /// What may hold points from `start` to `end`, both included.
    pub(super) fn excerpt(&self, start: i64, end: i64, ages: Ages) -> Excerpt {
        let horizon = self.horizon(ages);
        let start = start.max(horizon);
        Excerpt { buckets: self.buckets.chunks(start, end), points: self.points.chunks(start, end), horizon }
    }

    /// Everything that is held: buckets, then points.
    pub(super) fn everything(&self) -> (Vec<Chunk<5>>, Vec<Chunk<1>>) {
        (self.buckets.chunks(i64::MIN, i64::MAX), self.points.chunks(i64::MIN, i64::MAX))
    }

    /// The end and the cost of each complete chunk.
    pub(super) fn chunk_costs(&self) -> impl Iterator<Item = (i64, usize)> {
        let buckets = self.buckets.sealed().map(|chunk| (chunk.end, chunk.cost()));
        buckets.chain(self.points.sealed().map(|chunk| (chunk.end, chunk.cost())))
    }

    /// Forgets all complete chunks that end at or before `time`; says how many rows that were.
    pub(super) fn forget(&mut self, time: i64) -> u64 {
        let mut rows = 0;
        while self.buckets.oldest().is_some_and(|chunk| chunk.end <= time) {
            rows += self.buckets.pop().map_or(0, |chunk| u64::from(chunk.count));
        }
        while self.points.oldest().is_some_and(|chunk| chunk.end <= time) {
            rows += self.points.pop().map_or(0, |chunk| u64::from(chunk.count));
        }
        rows
    }

    /// How many rows there are: points and buckets.
    pub(super) fn rows(&self) -> u64 {
        self.points.rows() + self.buckets.rows()
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.buckets.is_empty()
    }

    /// What it costs to hold, in bytes.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>() + self.points.cost() + self.buckets.cost()
    }
}

fn merge([count, sum, min, max, last]: &mut [f64; 5], value: f64) {
    *count += 1.0;
    *sum += value;
    *min = if value.total_cmp(min).is_lt() { value } else { *min };
    *max = if value.total_cmp(max).is_gt() { value } else { *max };
    *last = value;
}
