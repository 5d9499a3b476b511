//! Rates, against a model that knows what truly happened.

use proptest::prelude::*;

use super::super::rate::Counter;
use super::super::samples::Point;
use crate::record::Time;

/// What happens between two scrapes.
#[derive(Clone, Debug)]
struct Step {
    /// Milliseconds that pass.
    millis: u32,
    /// How much the counter grows.
    grows: u32,
    /// Whether it begins anew before it grows.
    restarts: bool,
    /// Whether cAdvisor measures. If not, a scrape finds the sample before.
    measured: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (1..60_000u32, 0..1_000_000u32, prop::bool::weighted(0.15), prop::bool::weighted(0.7))
        .prop_map(|(millis, grows, restarts, measured)| Step { millis, grows, restarts, measured })
}

proptest! {
    /// The truth is what grew since the sample before, or since the last restart after it; divided by the time between
    /// the two samples, however often they were scraped.
    #[test]
    fn a_rate_is_what_grew_between_two_samples(steps in prop::collection::vec(step(), 1..60), told in any::<bool>()) {
        let (mut counter, mut run, mut value, mut now) = (Counter::default(), 1u64, 0u64, 0i64);
        let (mut sample, mut expected, mut since, mut begun_anew) = (None, None, 0u64, false);
        let mut last: Option<(i64, u64)> = None;
        for step in steps {
            now += i64::from(step.millis);
            if step.restarts {
                (run, value, since, begun_anew) = (run + 1, 0, 0, true);
            }
            value += u64::from(step.grows);
            since += u64::from(step.grows);
            if step.measured {
                if let Some((then, seen)) = last {
                    // A counter that has outgrown what it was does not show its restart, unless the run says so.
                    let grown = if begun_anew && !told && value >= seen { value - seen } else { since };
                    expected = Some(grown as f64 / ((now - then) as f64 / 1e3));
                }
                last = Some((now, value));
                (since, begun_anew) = (0, false);
                sample = Some((run, Point { value: value as f64, time: Time(now * 1_000_000) }));
            }
            if let Some((run, point)) = sample {
                let rate = counter.note(if told { run } else { 0 }, point);
                match (rate, expected) {
                    (Some(rate), Some(expected)) => prop_assert!((rate - expected).abs() <= expected * 1e-9),
                    (rate, expected) => prop_assert_eq!(rate, expected),
                }
            }
        }
    }
}

#[test]
fn the_first_rate_needs_two_samples_and_the_same_sample_changes_nothing() {
    let mut counter = Counter::default();
    let at = |value: f64, second: i64| Point { value, time: Time(second * 1_000_000_000) };
    assert_eq!(counter.note(1, at(10.0, 10)), None);
    assert_eq!(counter.note(1, at(10.0, 10)), None);
    assert_eq!(counter.note(1, at(30.0, 20)), Some(2.0));
    assert_eq!(counter.note(1, at(30.0, 20)), Some(2.0));
    assert_eq!(counter.note(1, at(25.0, 15)), Some(2.0), "an older page says nothing new");
    assert_eq!(counter.note(1, at(30.0, 30)), Some(0.0));
    assert_eq!(counter.note(2, at(50.0, 40)), Some(5.0), "another run began at zero");
    assert_eq!(counter.note(0, at(70.0, 50)), Some(2.0), "a page that does not tell runs apart");
}
