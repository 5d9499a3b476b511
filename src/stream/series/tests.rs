//! Series against a Vec that forgets nothing.

mod codec;
mod model;
mod queries;

use std::time::Duration;

use super::*;
use crate::record::Time;

fn key(metric: usize) -> SeriesKey {
    SeriesKey::new("cart-1", format!("metric-{metric}"))
}

fn all<'a>() -> Select<'a> {
    Select::default()
}

fn window(start: i64, end: i64, step: i64) -> Window {
    let step = Duration::from_millis(step.unsigned_abs());
    Window { start: Time::from_millis(start), end: Time::from_millis(end), step, max_points: usize::MAX }
}

/// The points of one series from `start` to `end`, in steps, as milliseconds and bits.
fn read(store: &SeriesStore, metric: usize, window: &Window, aggregate: Aggregate) -> Vec<(i64, u64)> {
    let key = key(metric);
    let select = Select { asset: Some(&key.asset), metric: Some(&key.metric) };
    let curves = store.query(select, window, aggregate).expect("a window that makes sense");
    let points = curves.into_iter().flat_map(|curve| curve.points);
    points.map(|point| (point.time.millis(), point.value.to_bits())).collect()
}
