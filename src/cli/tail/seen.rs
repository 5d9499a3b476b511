//! What was shown, so that reading again from a little earlier shows nothing twice.
//!
//! For each container: behind its horizon everything counts as shown, between the horizon and its newest line a
//! line is known by its time and text, past that all is new.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::record::Time;

/// How far out of order the lines of one container may stand, in nanoseconds.
const WINDOW: i64 = 1_000_000_000;
/// Lines of one container that are remembered at most.
const MOST_LINES: usize = 16_384;
/// How far one container may be behind the others and still be resumed exactly.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// What was shown of all containers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    containers: HashMap<Box<str>, Trail>,
    newest: Option<Time>,
    oldest: Option<Time>,
    /// The oldest line that was shown before the log was resumed.
    floor: Option<Time>,
}

/// The end of what was shown of one container.
#[derive(Debug)]
struct Trail {
    newest: Time,
    /// Everything up to here counts as shown.
    horizon: Time,
    recent: VecDeque<(Time, u64)>,
    /// While the past comes again.
    again: Option<Again>,
}

/// What was shown of a past that comes again.
#[derive(Debug)]
struct Again {
    /// Lines that may come, and how often.
    counts: HashMap<(Time, u64), u32>,
    /// The newest of them.
    until: Time,
}

impl Seen {
    /// Where to read again from, so that nothing is missed; the past then comes again, and [`Seen::is_new`] tells
    /// what of it was shown. `None` where nothing was shown.
    pub fn resume(&mut self) -> Option<Time> {
        let newest = self.newest?;
        let back = newest.plus_nanos(-i64::try_from(LOOK_BACK.as_nanos()).unwrap_or(i64::MAX));
        let slowest = self.containers.values().map(|trail| trail.newest).min().unwrap_or(newest);
        for trail in self.containers.values_mut() {
            trail.begin_again();
        }
        self.floor = self.oldest;
        Some(slowest.max(back).plus_nanos(-WINDOW))
    }

    /// Whether a line was not shown before. It counts as shown from now on.
    pub fn is_new(&mut self, container: &str, time: Time, text: &str) -> bool {
        let line = (time, self.hasher.hash_one(text));
        let Some(trail) = self.containers.get_mut(container) else {
            // Resumed, what a silent container wrote before anything shown was never asked for. At first everything
            // was: containers tell their pasts in any order.
            if self.floor.is_some_and(|floor| time < floor) {
                return false;
            }
            self.forget_the_silent();
            self.containers.insert(container.into(), Trail::beginning_with(line));
            self.note(time);
            return true;
        };
        let new = trail.is_new(line);
        if new {
            self.note(time);
        }
        new
    }

    fn note(&mut self, time: Time) {
        self.newest = self.newest.max(Some(time));
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
    }

    /// What was shown longer ago than [`Seen::resume`] ever looks back cannot come again.
    fn forget_the_silent(&mut self) {
        let Some(newest) = self.newest else { return };
        let past = newest.plus_nanos(-i64::try_from(LOOK_BACK.as_nanos()).unwrap_or(i64::MAX) - 2 * WINDOW);
        self.containers.retain(|_, trail| trail.newest >= past);
    }
}

impl Trail {
    fn beginning_with(line: (Time, u64)) -> Self {
        let (time, _) = line;
        Self { newest: time, horizon: time.plus_nanos(-1), recent: VecDeque::from([line]), again: None }
    }

    fn begin_again(&mut self) {
        let mut counts = HashMap::new();
        for line in &self.recent {
            *counts.entry(*line).or_insert(0) += 1;
        }
        self.again = Some(Again { counts, until: self.newest });
    }

    fn is_new(&mut self, line: (Time, u64)) -> bool {
        let (time, _) = line;
        if let Some(again) = &mut self.again {
            if time <= self.horizon {
                return false;
            }
            if let Some(count) = again.counts.get_mut(&line).filter(|count| **count > 0) {
                *count -= 1;
                return false;
            }
            if time > again.until.plus_nanos(WINDOW) {
                self.again = None;
            }
        }
        self.recent.push_back(line);
        self.newest = self.newest.max(time);
        let kept = self.newest.plus_nanos(-WINDOW);
        while let Some((oldest, _)) = self.recent.front().copied()
            && (self.recent.len() > MOST_LINES || oldest < kept)
        {
            self.recent.pop_front();
            self.horizon = self.horizon.max(oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// A log of two containers, one of which repeats its lines within one nanosecond.
    fn log() -> Vec<(&'static str, Time, String)> {
        let lines = (0..400_i64).flat_map(|n| {
            let twin = ("a", Time(n * 20 * MS), "same".to_owned());
            [
                ("a", Time(n * 20 * MS), format!("a{n}")),
                twin.clone(),
                twin,
                ("b", Time(n * 20 * MS + 7), format!("b{n}")),
            ]
        });
        lines.collect()
    }

    #[test]
    fn wherever_a_log_is_cut_each_line_is_shown_once() {
        let log = log();
        for cut in (1..log.len()).step_by(13) {
            let mut seen = Seen::default();
            let mut shown: Vec<_> = log[..cut].iter().filter(|(c, time, text)| seen.is_new(c, *time, text)).collect();
            let from = seen.resume().unwrap();
            let again = log.iter().filter(|(_, time, _)| *time >= from);
            shown.extend(again.filter(|(c, time, text)| seen.is_new(c, *time, text)));
            assert!(shown.into_iter().eq(log.iter()), "cut at {cut}");
        }
    }

    #[test]
    fn at_first_the_past_of_each_container_is_new_however_old() {
        let mut seen = Seen::default();
        assert!(seen.is_new("a", Time(500 * MS), "young"));
        assert!(seen.is_new("b", Time(300 * MS), "old"));
        assert!(seen.is_new("b", Time(400 * MS), "less old"));
    }

    #[test]
    fn what_was_before_the_first_line_shown_stays_unshown() {
        let mut seen = Seen::default();
        assert!(seen.is_new("a", Time(500 * MS), "ten"));
        let from = seen.resume().unwrap();
        assert!(from < Time(0));
        assert!(!seen.is_new("a", Time(400 * MS), "nine"));
        assert!(!seen.is_new("silent", Time(300 * MS), "old"));
        assert!(!seen.is_new("a", Time(500 * MS), "ten"));
        assert!(seen.is_new("silent", Time(600 * MS), "new"));
    }

    #[test]
    fn a_container_that_lags_is_resumed_where_it_stands() {
        let mut seen = Seen::default();
        assert!(seen.is_new("slow", Time(0), "1"));
        assert!(seen.is_new("fast", Time(30_000 * MS), "1"));
        assert!(seen.resume().unwrap() < Time(0));
        assert!(seen.is_new("slow", Time(1), "2"));
    }

    #[test]
    fn memory_is_bounded_by_lines_and_by_containers_that_speak() {
        let mut seen = Seen::default();
        for n in 0..200_000_i64 {
            let name = format!("pod-{}", n / 100);
            assert!(seen.is_new(&name, Time(n * 10 * MS), "line"));
        }
        assert!(seen.containers.len() < 100, "{}", seen.containers.len());
        for n in 0..20_000_i64 {
            assert!(seen.is_new("burst", Time(3_000_000 * MS), &n.to_string()));
        }
        assert_eq!(seen.containers["burst"].recent.len(), MOST_LINES);
    }
}
