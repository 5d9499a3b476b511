//! When a rule may fire: windows, cooldowns and alerts on their way, for each rule and source by themselves.
//!
//! The present is a parameter everywhere. What is remembered is bounded: of the sources that are too many, the one that
//! was silent the longest is forgotten, and may then fire again before its cooldown is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::api::text::Threshold;
use crate::record::Time;

/// How many pairs of rule and source a stream remembers.
const MOST_ENTRIES: usize = 4096;
/// How many times of matches they hold together, of eight bytes each.
const MOST_TIMES: usize = 128 * 1024;
/// How long a rule is quiet after an alert that every receiver failed to take, where its cooldown is not shorter: a
/// flood of matches shall not become a flood of attempts.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How often a rule may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often it must match, and in how long.
    pub threshold: Option<Threshold>,
    /// How long it is quiet after an alert.
    pub cooldown: Duration,
}

/// Which rule, by its place among the rules of its stream, and which source, by its path.
type Key = (usize, Arc<str>);

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A receiver has it.
    Accepted,
    /// There was nobody to give it to.
    Nobody,
    /// All receivers failed to take it.
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    /// When it matched last, at most as often as the threshold counts.
    times: VecDeque<Time>,
    /// The alert that is on its way and was not accepted yet.
    on_its_way: Option<u64>,
    quiet_until: Option<Instant>,
}

/// The windows and cooldowns of all rules of a stream.
#[derive(Debug)]
pub struct Ledger {
    paces: Vec<Pace>,
    entries: LruCache<Key, Entry>,
    times: usize,
    last: u64,
}

impl Ledger {
    /// An empty ledger for rules of these paces.
    pub fn new(paces: Vec<Pace>) -> Self {
        Self { paces, entries: LruCache::unbounded(), times: 0, last: 0 }
    }

    /// A rule matched a record that was written at `time`. The number of the alert where it fires: the last so many
    /// matches lie within the window, it is not quiet, and no alert is on its way that nobody has accepted.
    pub fn matched(&mut self, rule: usize, source: &Arc<str>, time: Time, now: Instant) -> Option<u64> {
        let pace = *self.paces.get(rule)?;
        let key = (rule, Arc::clone(source));
        self.entries.get_or_insert_mut(key.clone(), Entry::default);
        self.bound();
        let entry = self.entries.peek_mut(&key)?;
        let before = entry.times.len();
        let enough = pace.threshold.is_none_or(|threshold| entry.count(threshold, time));
        self.times = self.times + entry.times.len() - before;
        let quiet = entry.quiet_until.is_some_and(|until| now < until);
        if !enough || quiet || entry.on_its_way.is_some() {
            return None;
        }
        self.times -= entry.times.len();
        entry.times.clear();
        self.last += 1;
        entry.on_its_way = Some(self.last);
        Some(self.last)
    }

    /// An alert was accepted, or has come to its end. Only the first word about an alert counts.
    pub fn settle(&mut self, rule: usize, source: &Arc<str>, alert: u64, standing: Standing, now: Instant) {
        let Some(pace) = self.paces.get(rule) else { return };
        let Some(entry) = self.entries.peek_mut(&(rule, Arc::clone(source))) else { return };
        if entry.on_its_way != Some(alert) {
            return;
        }
        entry.on_its_way = None;
        entry.quiet_until = now.checked_add(match standing {
            Standing::Accepted | Standing::Nobody => pace.cooldown,
            Standing::Failed => pace.cooldown.min(AFTER_FAILURE),
        });
    }

    /// Forgets those that were silent the longest until what is left is within bounds; the newest always stays.
    fn bound(&mut self) {
        while self.entries.len() > 1 && (self.entries.len() > MOST_ENTRIES || self.times >= MOST_TIMES) {
            let Some((_, entry)) = self.entries.pop_lru() else { return };
            self.times -= entry.times.len();
        }
    }

    /// How many pairs of rule and source, and how many times, are remembered.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.entries.len(), self.times)
    }
}

impl Entry {
    /// Notes a match; whether the first of the last so many was written no longer before it than the window is long.
    fn count(&mut self, threshold: Threshold, time: Time) -> bool {
        let count = usize::try_from(threshold.count).unwrap_or(usize::MAX);
        self.times.push_back(time);
        if self.times.len() > count {
            self.times.pop_front();
        }
        let (Some(first), Some(last)) = (self.times.front(), self.times.back()) else { return false };
        let span = i128::from(last.0) - i128::from(first.0);
        self.times.len() >= count && u128::try_from(span).unwrap_or_default() <= threshold.within.as_nanos()
    }
}
