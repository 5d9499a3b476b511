//! When rules may fire, compared with a ledger that keeps everything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::api::text::Threshold;
use crate::record::Time;
use crate::rule::ledger::AFTER_FAILURE;
use crate::rule::{Ledger, Pace, Standing};

const COOLDOWN: Duration = Duration::from_secs(60);

fn pace(threshold: Option<(u32, u64)>, cooldown: Duration) -> Pace {
    let threshold = threshold.map(|(count, seconds)| Threshold { count, within: Duration::from_secs(seconds) });
    Pace { threshold, cooldown }
}

fn at(seconds: f64) -> Time {
    Time((seconds * 1e9) as i64)
}

/// A ledger of one rule and one source, and when it began.
struct One(Ledger, Arc<str>, Instant);

impl One {
    fn new(pace: Pace) -> Self {
        Self(Ledger::new(vec![pace]), "a".into(), Instant::now())
    }

    fn after(&self, seconds: u64) -> Instant {
        self.2 + Duration::from_secs(seconds)
    }

    fn matched(&mut self, seconds: u64) -> Option<u64> {
        let now = self.after(seconds);
        self.0.matched(0, &self.1, at(seconds as f64), now)
    }

    fn settle(&mut self, alert: u64, standing: Standing, seconds: u64) {
        let now = self.after(seconds);
        self.0.settle(0, &self.1, alert, standing, now);
    }
}

#[test]
fn a_cooldown_begins_when_a_receiver_has_the_alert_and_nothing_fires_before() {
    let mut ledger = One::new(pace(None, COOLDOWN));
    let first = ledger.matched(0).unwrap();
    assert_eq!([ledger.matched(1), ledger.matched(500)], [None, None], "it is on its way");
    ledger.settle(first, Standing::Accepted, 500);
    assert_eq!(ledger.matched(559), None);
    let second = ledger.matched(560).unwrap();
    ledger.settle(first, Standing::Failed, 561);
    assert_eq!(ledger.matched(10_000), None, "only the alert that is on its way can be settled");
    ledger.settle(second, Standing::Accepted, 10_000);
}

#[test]
fn an_alert_that_nobody_took_is_followed_by_a_pause_that_is_short() {
    let mut ledger = One::new(pace(None, COOLDOWN));
    let first = ledger.matched(0).unwrap();
    ledger.settle(first, Standing::Failed, 5);
    assert_eq!(ledger.matched(5 + AFTER_FAILURE.as_secs() - 1), None);
    let second = ledger.matched(5 + AFTER_FAILURE.as_secs()).unwrap();
    ledger.settle(second, Standing::Nobody, 20);
    assert_eq!(ledger.matched(79), None, "where there is nobody, all of the cooldown counts");
    assert!(ledger.matched(80).is_some());
}

#[test]
fn a_threshold_fires_with_the_last_of_enough_matches_and_counts_anew() {
    let mut ledger = One::new(pace(Some((3, 10)), Duration::ZERO));
    assert_eq!([ledger.matched(0), ledger.matched(5), ledger.matched(11)], [None, None, None]);
    let alert = ledger.matched(15).unwrap();
    ledger.settle(alert, Standing::Accepted, 15);
    assert_eq!([ledger.matched(15), ledger.matched(16)], [None, None]);
    assert!(ledger.matched(25).is_some());
}

#[test]
fn sources_do_not_count_for_each_other() {
    let mut ledger = Ledger::new(vec![pace(Some((2, 10)), COOLDOWN)]);
    let (a, b, now): (Arc<str>, Arc<str>, _) = ("a".into(), "b".into(), Instant::now());
    assert_eq!(ledger.matched(0, &a, at(0.0), now), None);
    assert_eq!(ledger.matched(0, &b, at(0.0), now), None);
    assert!(ledger.matched(0, &a, at(1.0), now).is_some());
    assert!(ledger.matched(0, &b, at(1.0), now).is_some());
    assert_eq!(ledger.matched(7, &b, at(1.0), now), None, "there is no such rule");
}

#[test]
fn what_is_remembered_is_bounded_whatever_comes() {
    let mut ledger = Ledger::new(vec![pace(Some((10_000, 1_000_000)), COOLDOWN)]);
    let now = Instant::now();
    for source in 0..40 {
        let source: Arc<str> = source.to_string().into();
        for second in 0..9_999 {
            assert_eq!(ledger.matched(0, &source, at(f64::from(second)), now), None);
        }
    }
    let (_, times) = ledger.held();
    assert!(times <= 128 * 1024, "{times}");
    let mut ledger = Ledger::new(vec![pace(None, COOLDOWN)]);
    for source in 0..20_000 {
        ledger.matched(0, &source.to_string().into(), at(0.0), now);
    }
    assert_eq!(ledger.held().0, 4096);
}

#[derive(Clone, Debug)]
enum Step {
    Match { rule: usize, source: usize, earlier: u64 },
    Settle { which: usize, standing: Standing },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let standing = prop::sample::select(vec![Standing::Accepted, Standing::Nobody, Standing::Failed]);
    prop_oneof![
        6 => (0..3_usize, 0..3_usize, 0..3_u64).prop_map(|(rule, source, earlier)| Step::Match { rule, source, earlier }),
        2 => (0..4_usize, standing).prop_map(|(which, standing)| Step::Settle { which, standing }),
        2 => (0..30_u64).prop_map(Step::Pass),
    ]
}

/// Keeps every match and every alert.
#[derive(Default)]
struct Oracle {
    matches: Vec<i64>,
    open: Option<u64>,
    quiet_until: u64,
}

proptest! {
    #[test]
    fn a_ledger_decides_as_one_that_keeps_everything(steps in prop::collection::vec(step(), 0..200)) {
        let paces = [pace(None, COOLDOWN), pace(Some((3, 10)), Duration::from_secs(20)), pace(Some((1, 1)), Duration::ZERO)];
        let mut ledger = Ledger::new(paces.to_vec());
        let sources: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        let mut oracles: HashMap<(usize, usize), Oracle> = HashMap::new();
        let (start, mut now, mut issued) = (Instant::now(), 1_000_u64, Vec::new());
        for step in steps {
            let instant = start + Duration::from_secs(now);
            match step {
                Step::Pass(seconds) => now += seconds,
                Step::Match { rule, source, earlier } => {
                    let written = i64::try_from(now - earlier).unwrap();
                    let fired = ledger.matched(rule, &sources[source], Time(written * 1_000_000_000), instant);
                    let oracle = oracles.entry((rule, source)).or_default();
                    oracle.matches.push(written);
                    let enough = paces[rule].threshold.is_none_or(|threshold| {
                        let (count, within) = (threshold.count as usize, threshold.within.as_secs() as i64);
                        let before = oracle.matches.len().checked_sub(count);
                        before.is_some_and(|first| written - oracle.matches[first] <= within)
                    });
                    let fires = enough && oracle.open.is_none() && now >= oracle.quiet_until;
                    prop_assert_eq!(fired.is_some(), fires);
                    if let Some(number) = fired {
                        oracle.matches.clear();
                        oracle.open = Some(number);
                        issued.push((rule, source, number));
                    }
                }
                Step::Settle { which, standing } => {
                    let Some(&(rule, source, number)) = issued.iter().rev().nth(which) else { continue };
                    ledger.settle(rule, &sources[source], number, standing, instant);
                    let oracle = oracles.get_mut(&(rule, source)).unwrap();
                    if oracle.open == Some(number) {
                        oracle.open = None;
                        let cooldown = paces[rule].cooldown;
                        let pause = if standing == Standing::Failed { cooldown.min(AFTER_FAILURE) } else { cooldown };
                        oracle.quiet_until = now + pause.as_secs();
                    }
                }
            }
        }
    }
}
