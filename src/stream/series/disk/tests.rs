//! What was written is there after a restart, wherever it was cut.

mod crash;
mod model;

use std::sync::Arc;

use tempfile::TempDir;

use super::super::{Aggregate, Curve, Select, SeriesOptions, Window};
use super::*;
use crate::record::{Asset, Reading, ReadingHead, Time};
use crate::stream::series::SeriesStore;

const KEEP: Duration = Duration::from_secs(3600);

/// Two minutes as they came, buckets of ten seconds up to an hour.
fn options() -> SeriesOptions {
    let (full_age, bucket) = (Duration::from_secs(120), Duration::from_secs(10));
    SeriesOptions { full_age, bucket, keep: KEEP, ..SeriesOptions::default() }
}

fn store() -> SeriesStore {
    SeriesStore::new(options())
}

fn ample() -> Arc<DiskBudget> {
    DiskBudget::new(u64::MAX, "full")
}

fn open(folder: &Path, store: &SeriesStore) -> (SeriesLog, Recovery) {
    SeriesLog::open(folder, KEEP, ample(), store).expect("the folder can be read")
}

/// A round at this second: two assets, two metrics, one of them not known to one.
fn reading(second: i64) -> Arc<Reading> {
    let head = ReadingHead { names: vec!["cpu".into(), "../memory\0".into()], ..ReadingHead::default() };
    let asset = |name: &str, values| Asset { name: name.into(), values, ..Asset::default() };
    let assets = vec![
        asset("cart-0", vec![Some(second as f64), Some(-0.0)]),
        asset("", vec![Some((second * 7919 % 1000) as f64), None]),
    ];
    Arc::new(Reading::new(Arc::new(head), Time::from_millis(second * 1000), assets))
}

/// What a store says over all of its time: every point, and every bucket, by count, sum and newest.
fn contents(store: &SeriesStore) -> Vec<(Aggregate, Vec<Curve>)> {
    let step = Duration::from_millis(1);
    let window = Window { start: Time(0), end: Time(i64::MAX), step, max_points: usize::MAX };
    let all = [Aggregate::Count, Aggregate::Sum, Aggregate::Last].into_iter();
    all.map(|one| (one, store.query(Select::default(), &window, one).expect("a window that makes sense"))).collect()
}

/// Lets a store hear readings.
fn hear(store: &SeriesStore, readings: impl IntoIterator<Item = i64>) {
    for second in readings {
        store.append_reading(&reading(second));
    }
}

/// What a store says that heard these readings, and nothing was ever on a disk.
fn heard(readings: impl IntoIterator<Item = i64>) -> Vec<(Aggregate, Vec<Curve>)> {
    let store = store();
    hear(&store, readings);
    contents(&store)
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a folder");
    for file in recover::files(from).expect("our files") {
        fs::copy(&file.path, to.path().join(file.path.file_name().expect("a name"))).expect("a copy");
    }
    to
}

fn names(folder: &Path) -> Vec<String> {
    let name = |file: recover::File| {
        format!("{}.{}", file.generation, file.path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default())
    };
    recover::files(folder).expect("our files").into_iter().map(name).collect()
}
