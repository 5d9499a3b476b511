//! What is asked of series, and what is refused.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn store(series: usize, points: i64) -> SeriesStore {
    let store = SeriesStore::default();
    for at in 0..points {
        for series in 0..series {
            let _ = store.append(&key(series), Time::from_millis(at * 1000), at as f64);
        }
    }
    store
}

#[rstest]
#[case::avg(Aggregate::Avg, 12.0)]
#[case::min(Aggregate::Min, 10.0)]
#[case::max(Aggregate::Max, 14.0)]
#[case::sum(Aggregate::Sum, 60.0)]
#[case::count(Aggregate::Count, 5.0)]
#[case::last(Aggregate::Last, 14.0)]
fn a_step_is_one_number_at_its_start(#[case] aggregate: Aggregate, #[case] expected: f64) {
    let found = read(&store(1, 60), 0, &window(10_000, 14_999, 5000), aggregate);
    assert_eq!(found, [(10_000, expected.to_bits())]);
    assert_eq!(Aggregate::from_name(aggregate.as_str()), Some(aggregate));
}

#[test]
fn both_ends_are_included_and_steps_begin_at_multiples_of_their_length() {
    let found = read(&store(1, 60), 0, &window(7000, 20_000, 5000), Aggregate::Count);
    let steps = [(5000, 3.0), (10_000, 5.0), (15_000, 5.0), (20_000, 1.0)];
    assert_eq!(found, steps.map(|(time, count): (i64, f64)| (time, count.to_bits())));
}

#[test]
fn series_are_chosen_by_asset_by_metric_or_all() {
    let store = SeriesStore::default();
    for (asset, metric) in [("b", "cpu"), ("a", "memory"), ("a", "cpu")] {
        let _ = store.append(&SeriesKey::new(asset, metric), Time(0), 1.0);
    }
    let chosen = |asset, metric| -> Vec<_> {
        let curves = store.query(Select { asset, metric }, &window(0, 0, 1), Aggregate::Last).expect("it makes sense");
        curves.into_iter().map(|curve| (curve.key.asset, curve.key.metric)).collect()
    };
    let pair = |(asset, metric): (&str, &str)| (asset.to_owned(), metric.to_owned());
    assert_eq!(chosen(None, None), [("a", "cpu"), ("a", "memory"), ("b", "cpu")].map(pair));
    assert_eq!(chosen(Some("a"), None), [("a", "cpu"), ("a", "memory")].map(pair));
    assert_eq!(chosen(None, Some("cpu")), [("a", "cpu"), ("b", "cpu")].map(pair));
    assert_eq!(chosen(Some("c"), Some("cpu")), []);
}

#[rstest]
#[case::backwards(Window { max_points: 9, ..window(5, 4, 1) }, QueryError::Backwards)]
#[case::no_step(Window { step: Duration::from_micros(999), ..window(4, 5, 1) }, QueryError::NoStep)]
#[case::too_many(
    Window { max_points: 20, ..window(0, 59_000, 1000) },
    QueryError::TooMany { most: 20, fits: Duration::from_secs(10) }
)]
#[case::too_many_series(
    Window { max_points: 3, ..window(0, 59_000, 1000) },
    QueryError::TooManySeries { series: 2, most: 3 }
)]
fn a_question_without_an_answer_is_refused(#[case] window: Window, #[case] error: QueryError) {
    assert_eq!(store(2, 60).query(all(), &window, Aggregate::Avg), Err(error));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_interval_that_is_said_to_fit_fits(
        series in 1..4usize, most in 2..60usize, start in 0..300_000i64, length in 0..300_000i64,
    ) {
        let store = store(series, 300);
        let asked = Window { max_points: most, ..window(start, start + length, 1) };
        if let Err(QueryError::TooMany { fits, .. }) = store.query(all(), &asked, Aggregate::Avg) {
            let curves = store.query(all(), &Window { step: fits, ..asked }, Aggregate::Avg);
            let points = curves.map(|curves| curves.iter().map(|curve| curve.points.len()).sum::<usize>());
            prop_assert!(points.as_ref().is_ok_and(|points| (1..=most).contains(points)), "{:?} with {:?}", points, fits);
        }
    }
}
