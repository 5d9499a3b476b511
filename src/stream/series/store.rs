//! All series of one stream, within bounds.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::chunk::Chunk;
use super::query::{Aggregate, Curve, Cut, QueryError, Select, Window};
use super::timeline::{Ages, Appended, Excerpt, Timeline};
use crate::record::{Reading, Time};

/// The name of a series within its store: what it is about, and what was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The asset, such as a container's name; empty for the whole.
    pub asset: String,
    /// The metric.
    pub metric: String,
}

impl SeriesKey {
    /// The series of this metric of this asset.
    pub fn new(asset: impl Into<String>, metric: impl Into<String>) -> Self {
        Self { asset: asset.into(), metric: metric.into() }
    }
}

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesOptions {
    /// How long points are kept as they came, at least; up to twice that where they come seldom.
    pub full_age: Duration,
    /// The width of a bucket, into which older points go.
    pub bucket: Duration,
    /// How long anything is kept.
    pub keep: Duration,
    /// Most series.
    pub series: usize,
    /// Most bytes of memory. The oldest goes first.
    pub bytes: usize,
}

impl Default for SeriesOptions {
    /// An hour, then buckets of a minute up to a day; 10,000 series, 32 MiB.
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        let bucket = Duration::from_secs(60);
        Self { full_age: hour, bucket, keep: 24 * hour, series: 10_000, bytes: 32 * 1024 * 1024 }
    }
}

impl SeriesOptions {
    fn ages(&self) -> Ages {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1);
        Ages { full: millis(self.full_age.min(self.keep)), bucket: millis(self.bucket), keep: millis(self.keep) }
    }
}

/// Memory that several stores share.
///
/// While they need more than there is, each one that has more than its even share gives up its oldest, with its next
/// point or when time passes. So together they never hold more than twice the budget, and soon no more than it.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    used: AtomicUsize,
    stores: AtomicUsize,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, used: AtomicUsize::new(0), stores: AtomicUsize::new(0) })
    }

    /// How much is in use, in bytes.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What a store may have now.
    fn share(&self) -> usize {
        if self.used() <= self.bytes {
            return self.bytes;
        }
        self.bytes / self.stores.load(Ordering::Relaxed).max(1)
    }
}

/// What became of points that were appended, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stored as the newest of their series.
    pub stored: u64,
    /// Took the place of one with the same time.
    pub replaced: u64,
    /// Older than the newest of their series, and dropped.
    pub late: u64,
    /// No finite numbers, and dropped.
    pub not_finite: u64,
    /// Of a series too many, and dropped.
    pub refused: u64,
    /// Older rows that were given up to stay within the bytes.
    pub evicted: u64,
}

impl Tally {
    fn count(&mut self, appended: Appended) {
        let counter = match appended {
            Appended::Stored => &mut self.stored,
            Appended::Replaced => &mut self.replaced,
            Appended::Late => &mut self.late,
            Appended::NotFinite => &mut self.not_finite,
            Appended::Refused => &mut self.refused,
        };
        *counter += 1;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.stored += more.stored;
        self.replaced += more.replaced;
        self.late += more.late;
        self.not_finite += more.not_finite;
        self.refused += more.refused;
        self.evicted += more.evicted;
    }
}

/// The series of one stream. Every call is short and none waits, so it may be made from async code.
#[derive(Debug)]
pub struct SeriesStore {
    held: Mutex<Held>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Held {
    options: SeriesOptions,
    /// By asset, then by metric.
    assets: HashMap<Box<str>, HashMap<Box<str>, Box<Timeline>>>,
    series: usize,
    /// What all of it costs; see [`cost`].
    bytes: usize,
    /// Until this time no series is silent long enough to make room for another, in milliseconds.
    crowded_until: i64,
}

/// What a series costs beside its timeline and names, in bytes: its place in tables that may be half empty, and what the
/// allocator needs.
const PLACE_COST: usize = 128;
/// Each time that the bytes are passed, an eighth of them is freed, so that it is not done for every point.
const SLACK: usize = 8;
/// A series is let in where each may have so many bytes; with less, one would only drive out another.
const LEAST_BYTES: usize = 2 * 1024;

impl Default for SeriesStore {
    fn default() -> Self {
        Self::new(SeriesOptions::default())
    }
}

impl SeriesStore {
    /// A store with these bounds, and none shared with others.
    pub fn new(options: SeriesOptions) -> Self {
        Self::within(options, Budget::new(usize::MAX))
    }

    /// A store with these bounds that shares a budget with others.
    pub fn within(options: SeriesOptions, budget: Arc<Budget>) -> Self {
        budget.stores.fetch_add(1, Ordering::Relaxed);
        let held = Held { options, assets: HashMap::new(), series: 0, bytes: 0, crowded_until: i64::MIN };
        Self { held: Mutex::new(held), budget }
    }

    /// Appends a point.
    pub fn append(&self, key: &SeriesKey, time: Time, value: f64) -> Tally {
        self.change(|held, tally| tally.count(held.append(&key.asset, &key.metric, time.millis(), value)))
    }

    /// Appends all numbers of a reading; what is absent in it is a gap.
    pub fn append_reading(&self, reading: &Reading) -> Tally {
        let (time, names) = (reading.time().millis(), &reading.head().names);
        self.change(|held, tally| {
            for asset in reading.assets() {
                for (name, value) in names.iter().zip(&asset.values) {
                    if let Some(value) = value {
                        tally.count(held.append(&asset.name, name, time, *value));
                    }
                }
            }
        })
    }

    /// Lets the time pass, also for series that get no points any longer: downsamples, forgets, and drops series of
    /// which nothing is left. Call it about once a minute.
    pub fn sweep(&self, now: Time) -> Tally {
        self.change(|held, _| held.sweep(now.millis()))
    }

    /// Changes the bounds.
    pub fn set_options(&self, options: SeriesOptions) -> Tally {
        self.change(|held, _| {
            held.options = options;
            held.crowded_until = i64::MIN;
        })
    }

    /// The points of the series that are selected, sorted by their keys.
    ///
    /// # Errors
    /// [`QueryError`] where the window makes no sense, or the answer would be too large.
    pub fn query(&self, select: Select<'_>, window: &Window, aggregate: Aggregate) -> Result<Vec<Curve>, QueryError> {
        let cut = Cut::of(window)?;
        let mut excerpts: Vec<(SeriesKey, Excerpt)> = {
            let held = self.held.lock();
            let ages = held.options.ages();
            let found = held.select(select);
            found
                .map(|(asset, metric, line)| (SeriesKey::new(asset, metric), line.excerpt(cut.start, cut.end, ages)))
                .collect()
        };
        excerpts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (series, mut left) = (excerpts.len(), window.max_points);
        let mut curves = Vec::with_capacity(series);
        for (key, excerpt) in excerpts {
            let points = cut.read(&excerpt, aggregate, left).ok_or_else(|| cut.too_many(series))?;
            left -= points.len();
            curves.push(Curve { key, points });
        }
        Ok(curves)
    }

    /// The keys of all series, sorted.
    pub fn series(&self) -> Vec<SeriesKey> {
        let held = self.held.lock();
        let mut keys: Vec<_> =
            held.select(Select::default()).map(|(asset, metric, _)| SeriesKey::new(asset, metric)).collect();
        keys.sort();
        keys
    }

    /// How many series there are, how many rows (points and buckets), and what they cost in bytes.
    pub fn held(&self) -> (usize, u64, usize) {
        let held = self.held.lock();
        (held.series, held.select(Select::default()).map(|(_, _, line)| line.rows()).sum(), held.bytes)
    }

    /// Appends points of one time that were on disk, by the same rules as any.
    pub(super) fn restore<'a>(&self, time: i64, points: impl Iterator<Item = (&'a SeriesKey, f64)>) {
        self.change(|held, tally| {
            points.for_each(|(key, value)| tally.count(held.append(&key.asset, &key.metric, time, value)));
        });
    }

    /// Takes over a chunk of points that was on disk; nothing happens where it is not newer than what there is.
    pub(super) fn restore_points(&self, key: &SeriesKey, chunk: Chunk<1>) {
        self.change(|held, _| held.restore(key, |line, ages| line.restore_points(chunk, ages)));
    }

    /// Takes over a chunk of buckets that was on disk; nothing happens where it is not newer than what there is.
    pub(super) fn restore_buckets(&self, key: &SeriesKey, chunk: Chunk<5>) {
        self.change(|held, _| held.restore(key, |line, ages| line.restore_buckets(chunk, ages)));
    }

    /// Everything that is held of these series: buckets, then points.
    pub(super) fn everything<'a>(&self, keys: &'a [SeriesKey]) -> Vec<(&'a SeriesKey, Vec<Chunk<5>>, Vec<Chunk<1>>)> {
        let held = self.held.lock();
        let line = |key: &SeriesKey| held.assets.get(&*key.asset)?.get(&*key.metric).map(|line| line.everything());
        keys.iter().filter_map(|key| line(key).map(|(buckets, points)| (key, buckets, points))).collect()
    }

    /// Makes a change, then brings the bytes back within the bounds.
    fn change(&self, change: impl FnOnce(&mut Held, &mut Tally)) -> Tally {
        let (mut tally, mut held) = (Tally::default(), self.held.lock());
        let before = held.bytes;
        change(&mut held, &mut tally);
        self.settle(before, held.bytes);
        let most = held.options.bytes.min(self.budget.share());
        if held.bytes > most {
            let before = held.bytes;
            tally.evicted = held.evict(most - most / SLACK);
            self.settle(before, held.bytes);
        }
        tally
    }

    fn settle(&self, before: usize, after: usize) {
        if after >= before {
            self.budget.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

impl Drop for SeriesStore {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held.get_mut().bytes, Ordering::Relaxed);
        self.budget.stores.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a series costs in all, in bytes.
fn cost(asset: &str, metric: &str, line: &Timeline) -> usize {
    PLACE_COST + asset.len() + metric.len() + line.cost()
}

impl Held {
    fn select<'a>(&'a self, select: Select<'a>) -> impl Iterator<Item = (&'a str, &'a str, &'a Timeline)> {
        let assets = self.assets.iter().filter(move |(asset, _)| select.asset.is_none_or(|wanted| wanted == &***asset));
        assets.flat_map(move |(asset, lines)| {
            let lines = lines.iter().filter(move |(metric, _)| select.metric.is_none_or(|wanted| wanted == &***metric));
            lines.map(move |(metric, line)| (&**asset, &**metric, &**line))
        })
    }

    fn append(&mut self, asset: &str, metric: &str, time: i64, value: f64) -> Appended {
        if !value.is_finite() {
            return Appended::NotFinite;
        }
        let ages = self.options.ages();
        if let Some(line) = self.assets.get_mut(asset).and_then(|lines| lines.get_mut(metric)) {
            let before = line.cost();
            let appended = line.append(time, value, ages);
            self.bytes = self.bytes - before + line.cost();
            return appended;
        }
        if self.series >= self.most_series() && !self.make_room(time) {
            return Appended::Refused;
        }
        let mut line = Box::new(Timeline::new());
        let appended = line.append(time, value, ages);
        self.bytes += cost(asset, metric, &line);
        self.series += 1;
        self.assets.entry(asset.into()).or_default().insert(metric.into(), line);
        appended
    }

    fn restore(&mut self, key: &SeriesKey, restore: impl FnOnce(&mut Timeline, Ages)) {
        let known = self.assets.get(&*key.asset).is_some_and(|lines| lines.contains_key(&*key.metric));
        if !known && self.series >= self.most_series() {
            return;
        }
        let ages = self.options.ages();
        let lines = self.assets.entry(key.asset.as_str().into()).or_default();
        let line = lines.entry(key.metric.as_str().into()).or_insert_with(|| Box::new(Timeline::new()));
        let before = if known { cost(&key.asset, &key.metric, line) } else { 0 };
        restore(line, ages);
        self.bytes = self.bytes - before + cost(&key.asset, &key.metric, line);
        self.series += usize::from(!known);
    }

    fn most_series(&self) -> usize {
        self.options.series.min(self.options.bytes / LEAST_BYTES)
    }

    /// Drops the series that is silent longest, where that is longer than points are kept as they came.
    fn make_room(&mut self, now: i64) -> bool {
        if now < self.crowded_until {
            return false;
        }
        let ages = self.options.ages();
        let silent = self.select(Select::default()).min_by_key(|(_, _, line)| line.newest());
        let silent = silent.map(|(asset, metric, line)| (SeriesKey::new(asset, metric), line.newest()));
        let Some((key, newest)) = silent else { return false };
        let free_at = newest.saturating_add(ages.full);
        if free_at >= now {
            self.crowded_until = free_at;
            return false;
        }
        self.retain(|asset, metric, _| asset != key.asset || metric != key.metric);
        true
    }

    /// Keeps the series that `keep` wants, and counts all anew.
    fn retain(&mut self, mut keep: impl FnMut(&str, &str, &mut Timeline) -> bool) {
        let (mut bytes, mut series) = (0, 0);
        self.assets.retain(|asset, lines| {
            lines.retain(|metric, line| {
                let kept = keep(asset, metric, line);
                if kept {
                    bytes += cost(asset, metric, line);
                    series += 1;
                }
                kept
            });
            !lines.is_empty()
        });
        (self.bytes, self.series) = (bytes, series);
    }

    fn sweep(&mut self, now: i64) {
        let ages = self.options.ages();
        self.retain(|_, _, line| {
            line.age(now, ages);
            !line.is_empty()
        });
    }

    /// Gives up the oldest until no more than `target` bytes are left: first complete chunks, then whole series, those
    /// that are silent longest first. Says how many rows that were.
    fn evict(&mut self, target: usize) -> u64 {
        let mut rows = 0;
        let chunks = self.select(Select::default()).flat_map(|(_, _, line)| line.chunk_costs());
        if let Some(horizon) = horizon(chunks.collect(), self.bytes.saturating_sub(target)) {
            self.retain(|_, _, line| {
                rows += line.forget(horizon);
                !line.is_empty()
            });
        }
        let mut left = self.bytes.saturating_sub(target);
        let lines = self.select(Select::default());
        let lines = lines.map(|(asset, metric, line)| (line.newest(), cost(asset, metric, line)));
        if let Some(horizon) = horizon(lines.collect(), left) {
            // All that were in one reading are equally old: no more of them go than must.
            self.retain(|asset, metric, line| {
                let kept = line.newest() > horizon || left == 0;
                if !kept {
                    left = left.saturating_sub(cost(asset, metric, line));
                    rows += line.rows();
                }
                kept
            });
        }
        rows
    }
}

/// The time up to which all must go so that at least `bytes` are freed; `None` where nothing must.
fn horizon(mut costs: Vec<(i64, usize)>, bytes: usize) -> Option<i64> {
    if bytes == 0 {
        return None;
    }
    costs.sort_unstable_by_key(|(end, _)| *end);
    let mut freed = 0;
    let found = costs.iter().find(|(_, cost)| {
        freed += cost;
        freed >= bytes
    });
    found.or(costs.last()).map(|(end, _)| *end)
}
