//! A store under random use.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

/// Ten minutes as they came, buckets of a minute up to an hour.
fn options() -> SeriesOptions {
    SeriesOptions {
        full_age: Duration::from_secs(600),
        bucket: Duration::from_secs(60),
        keep: Duration::from_secs(3600),
        ..SeriesOptions::default()
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So many points of a series, so many milliseconds apart.
    Append(usize, i64, Vec<f64>),
    /// A point so many milliseconds before the newest.
    Late(usize, i64, f64),
    /// Time passes.
    Pass(i64),
}

/// Whole numbers, so that sums are the same in whatever order, and some that are easily lost.
fn some_value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => (-500..500i32).prop_map(f64::from), 1 => Just(-0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
}

fn some_op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![Just(1000), Just(5000), Just(60_000), 1..20_000i64, 1..400_000i64];
    prop_oneof![
        6 => (0..3usize, step, proptest::collection::vec(some_value(), 1..200)).prop_map(|(s, d, v)| Op::Append(s, d, v)),
        2 => (0..3usize, 0..5000i64, some_value()).prop_map(|(s, d, v)| Op::Late(s, d, v)),
        1 => (0..2_000_000i64).prop_map(Op::Pass),
    ]
}

/// Everything that was ever stored.
#[derive(Default)]
struct Oracle {
    series: BTreeMap<usize, Vec<(i64, f64)>>,
    /// The latest time that each series knows of.
    now: BTreeMap<usize, i64>,
}

impl Oracle {
    fn append(&mut self, series: usize, time: i64, value: f64) -> Tally {
        let mut tally = Tally::default();
        let full = i64::try_from(options().full_age.as_millis()).expect("small");
        let points = self.series.entry(series).or_default();
        let newest = points.last().map_or(i64::MIN, |(time, _)| *time);
        if !value.is_finite() {
            tally.not_finite = 1;
        } else if time < newest {
            tally.late = 1;
        } else if time == newest {
            // What is no longer held as it came cannot be replaced.
            let held = self.now.get(&series).is_none_or(|now| newest >= now - full);
            if held {
                points.pop();
                points.push((time, value));
                tally.replaced = 1;
            } else {
                tally.late = 1;
            }
        } else {
            points.push((time, value));
            let now = self.now.entry(series).or_insert(time);
            *now = time.max(*now);
            tally.stored = 1;
        }
        tally
    }

    fn pass(&mut self, now: i64) {
        self.now.values_mut().for_each(|known| *known = now.max(*known));
    }

    /// A series that is no longer held begins anew. Without a bound in bytes all of it must be too old to be kept.
    fn forget(&mut self, series: usize, evicted: bool) {
        if let Some((points, now)) = self.series.remove(&series).zip(self.now.remove(&series)) {
            let newest = points.last().map_or(i64::MIN, |(time, _)| *time);
            assert!(evicted || newest <= now - 3_600_000, "series {series} of {newest} was lost at {now}");
        }
    }

    fn read(&self, series: usize, window: &Window, aggregate: Aggregate) -> Vec<(i64, u64)> {
        let (start, end) = (window.start.millis(), window.end.millis());
        let step = i64::try_from(window.step.as_millis()).expect("small");
        let mut steps: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        let points = self.series.get(&series).into_iter().flatten();
        for (time, value) in points.filter(|(time, _)| (start..=end).contains(time)) {
            steps.entry(time.div_euclid(step) * step).or_default().push(*value);
        }
        let fold = |values: &[f64]| {
            let sum = values[1..].iter().fold(values[0], |sum, value| sum + value);
            match aggregate {
                Aggregate::Avg => sum / values.len() as f64,
                Aggregate::Min => values.iter().copied().min_by(f64::total_cmp).expect("some"),
                Aggregate::Max => values.iter().copied().max_by(f64::total_cmp).expect("some"),
                Aggregate::Sum => sum,
                Aggregate::Count => values.len() as f64,
                Aggregate::Last => values[values.len() - 1],
            }
        };
        steps.into_iter().map(|(time, values)| (time, fold(&values).to_bits())).collect()
    }
}

/// The least multiple of `unit` that is not below `time`.
fn up(time: i64, unit: i64) -> i64 {
    time.div_euclid(unit) * unit + if time.rem_euclid(unit) == 0 { 0 } else { unit }
}

struct Run {
    store: SeriesStore,
    oracle: Oracle,
    clock: i64,
    /// Whether it may forget what is not too old.
    forgets: bool,
}

impl Run {
    fn new(options: SeriesOptions) -> Self {
        let (start, forgets) = (1_795_211_409_123, options.bytes < SeriesOptions::default().bytes);
        Self { store: SeriesStore::new(options), oracle: Oracle::default(), clock: start, forgets }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(series, distance, values) => {
                for value in values {
                    self.clock += distance;
                    self.append(*series, self.clock, *value);
                }
            }
            Op::Late(series, before, value) => {
                let newest = self.oracle.series.get(series).and_then(|points| points.last()).map(|(time, _)| *time);
                if let Some(newest) = newest {
                    self.append(*series, newest - before, *value);
                }
            }
            Op::Pass(time) => {
                self.clock += time;
                let _ = self.store.sweep(Time::from_millis(self.clock));
                self.oracle.pass(self.clock);
            }
        }
    }

    fn append(&mut self, series: usize, time: i64, value: f64) {
        if !self.store.series().contains(&key(series)) {
            self.oracle.forget(series, self.forgets);
        }
        let tally = self.store.append(&key(series), Time::from_millis(time), value);
        let expected = self.oracle.append(series, time, value);
        assert_eq!(Tally { evicted: 0, ..tally }, expected, "series {series}, {value} at {time}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_held_says_the_same_as_all_that_ever_came(ops in proptest::collection::vec(some_op(), 1..25)) {
        let mut run = Run::new(options());
        for op in &ops {
            run.apply(op);
        }
        for series in 0..3 {
            let Some(&now) = run.oracle.now.get(&series) else { continue };
            let full = window(now - 600_000, now, 1);
            prop_assert_eq!(
                read(&run.store, series, &full, Aggregate::Last),
                run.oracle.read(series, &full, Aggregate::Last),
                "at full resolution every point is there, bit for bit"
            );
            for (aggregate, minutes) in [Aggregate::ALL, Aggregate::ALL].concat().into_iter().zip([1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 7, 7]) {
                let step = minutes * MINUTE;
                let coarse = window(up(now - 3_600_000, step), now, step);
                prop_assert_eq!(
                    read(&run.store, series, &coarse, aggregate),
                    run.oracle.read(series, &coarse, aggregate),
                    "over both resolutions, {:?} of {} minutes", aggregate, minutes
                );
            }
            let old = window(now - 100_000_000, now - 3_600_000 - 2 * MINUTE, MINUTE);
            prop_assert_eq!(read(&run.store, series, &old, Aggregate::Count), vec![], "older than is kept");
        }
    }

    #[test]
    fn the_bytes_stay_within_their_bound_and_the_newest_stays(
        ops in proptest::collection::vec(some_op(), 1..40), bytes in 8_192..20_000usize,
    ) {
        let mut run = Run::new(SeriesOptions { bytes, ..options() });
        for op in &ops {
            run.apply(op);
            let (_, _, held) = run.store.held();
            prop_assert!(held <= bytes, "{} of {}", held, bytes);
            // A sweep that comes too late for anything counts all anew.
            let before = run.store.held();
            let _ = run.store.sweep(Time(0));
            prop_assert_eq!(run.store.held(), before);
        }
        for series in 0..3 {
            let Some(&now) = run.oracle.now.get(&series) else { continue };
            let full = window(now - 600_000, now, 1);
            let (found, all) = (read(&run.store, series, &full, Aggregate::Last), run.oracle.read(series, &full, Aggregate::Last));
            prop_assert!(all.ends_with(&found), "only the oldest is given up");
        }
    }
}

#[test]
fn numbers_that_are_easily_lost_are_kept() {
    let store = SeriesStore::default();
    let values = [-0.0, 0.0, f64::MIN_POSITIVE / 4.0, -f64::MIN_POSITIVE, f64::MAX, f64::EPSILON, 0.1 + 0.2];
    for (at, value) in (0..).zip(values) {
        assert_eq!(store.append(&key(0), Time::from_millis(at), value), Tally { stored: 1, ..Tally::default() });
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(store.append(&key(0), Time::from_millis(100), value), Tally { not_finite: 1, ..Tally::default() });
    }
    for aggregate in [Aggregate::Last, Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Sum] {
        let found = read(&store, 0, &window(0, 1000, 1), aggregate);
        assert_eq!(found, (0..).zip(values.map(f64::to_bits)).collect::<Vec<_>>(), "{aggregate:?}");
    }
}

#[test]
fn a_reading_is_appended_by_asset_and_what_it_does_not_know_is_a_gap() {
    use crate::record::{Asset, Reading, ReadingHead};
    use std::sync::Arc;
    let head = Arc::new(ReadingHead { names: vec!["cpu".into(), "memory".into()], ..ReadingHead::default() });
    let asset = |name: &str, values| Asset { name: name.into(), values, ..Asset::default() };
    let store = SeriesStore::default();
    for (second, cpu) in [(0, Some(1.0)), (1, None), (2, Some(3.0))] {
        let assets = vec![asset("a", vec![cpu, Some(7.0)]), asset("b", vec![None, Some(f64::NAN)])];
        let tally = store.append_reading(&Reading::new(Arc::clone(&head), Time::from_millis(second * 1000), assets));
        assert_eq!(tally, Tally { stored: 1 + u64::from(cpu.is_some()), ..Tally::default() });
    }
    assert_eq!(store.series(), [SeriesKey::new("a", "cpu"), SeriesKey::new("a", "memory")]);
    let select = Select { asset: Some("a"), metric: Some("cpu") };
    let curves = store.query(select, &window(0, 5000, 1000), Aggregate::Last).expect("it makes sense");
    let times: Vec<_> = curves[0].points.iter().map(|point| point.time.millis()).collect();
    assert_eq!((curves.len(), times), (1, vec![0, 2000]));
}

#[test]
fn a_series_too_many_is_refused_until_one_was_silent_for_as_long_as_points_are_kept_as_they_came() {
    let store = SeriesStore::new(SeriesOptions { series: 2, ..options() });
    let append = |series, second: i64| store.append(&key(series), Time::from_millis(second * 1000), 1.0);
    let (stored, refused) = (Tally { stored: 1, ..Tally::default() }, Tally { refused: 1, ..Tally::default() });
    assert_eq!([append(0, 0), append(1, 100), append(2, 200), append(2, 600)], [stored, stored, refused, refused]);
    assert_eq!(append(1, 601), stored);
    assert_eq!((append(2, 601), store.series()), (stored, vec![key(1), key(2)]), "the silent one made room");
    assert_eq!(append(0, 602), refused);
}

#[test]
fn stores_that_share_a_budget_each_keep_their_even_share_at_least() {
    let budget = Budget::new(60_000);
    let stores: Vec<_> = (0..3).map(|_| SeriesStore::within(options(), budget.clone())).collect();
    let fill = |store: &SeriesStore, from: i64, points: i64| {
        (from..from + points).fold(Tally::default(), |mut tally, at| {
            let value = f64::from_bits((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 2);
            tally += store.append(&key(0), Time::from_millis(at * 10), value);
            tally
        })
    };
    assert_eq!(fill(&stores[0], 0, 5000).evicted, 0, "alone it may have nearly all");
    let before = stores[0].held().2;
    assert!(before > 40_000, "{before}");
    assert_eq!(fill(&stores[1], 0, 1500).evicted, 0, "less than its share");
    fill(&stores[2], 0, 1500);
    assert!(stores[0].sweep(Time::from_millis(50_000)).evicted > 0, "the one with more than its share gives up");
    assert!(budget.used() <= 60_000, "{}", budget.used());
    assert_eq!(budget.used(), stores.iter().map(|store| store.held().2).sum::<usize>());
    drop(stores);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_series_that_went_silent_is_still_there_in_buckets() {
    let store = SeriesStore::default();
    for second in 0..10 {
        let _ = store.append(&key(0), Time::from_millis(second * 1000), second as f64);
    }
    let _ = store.sweep(Time::from_millis(3_640_000));
    assert_eq!(read(&store, 0, &window(0, 9000, 5000), Aggregate::Avg), [(0, 4.5f64.to_bits())]);
}

/// The figures that the pages name.
#[test]
fn an_hour_of_points_takes_few_bytes() {
    let bytes_a_point = |value: &dyn Fn(i64) -> f64| {
        let store = SeriesStore::default();
        let empty = {
            let _ = store.append(&key(0), Time(0), 0.0);
            store.held().2
        };
        for at in 1..=720 {
            let _ = store.append(&key(0), Time::from_millis(at * 5000 + at % 3), value(at));
        }
        (store.held().2 - empty) as f64 / 720.0
    };
    let steady = bytes_a_point(&|_| 4_194_304.0);
    let whole = bytes_a_point(&|at| (at * 7919 % 1000) as f64);
    let fractions = bytes_a_point(&|at| (at * 7919 % 1000) as f64 / 10.0);
    assert!(steady < 3.0 && whole < 5.0 && fractions < 10.0, "{steady:.2} {whole:.2} {fractions:.2}");
}
