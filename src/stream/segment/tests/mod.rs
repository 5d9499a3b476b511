//! The log keeps what it was told to keep, wherever it is cut.

pub(in crate::stream) mod crashing_disk;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::stream::series::disk::DiskBudget;
use crashing_disk::CrashingDisk;

const FOLDER: &str = "/log";

fn roomy() -> Arc<DiskBudget> {
    DiskBudget::new(1 << 40, "full")
}

fn open(disk: &CrashingDisk, keep: Retention) -> (SegmentLog, Recovery) {
    SegmentLog::open(Arc::new(disk.clone()), Path::new(FOLDER), keep, roomy(), |_, _, _, _| {})
        .expect("the folder can be read")
}

/// Everything that can be read, as places and data.
fn everything(view: &SegmentView) -> Vec<(u64, Vec<u8>)> {
    let (mut place, mut all) = (0, Vec::new());
    loop {
        for found in view.read(place, 1).expect("it can be read") {
            match found {
                Found::End => return all,
                Found::Gap { next } => place = next,
                Found::Record { place: at, units, data, .. } => {
                    all.push((at, data.to_vec()));
                    place = at + u64::from(units);
                }
            }
        }
    }
}

/// Data that tells where it belongs.
fn data(place: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (place as usize * 31 + at * 7) as u8).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append { units: u32, length: usize },
    Sync,
    Tear(usize),
    Full(usize),
    Room,
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u32..5, 0usize..3000).prop_map(|(units, length)| Step::Append { units, length }),
        2 => (1u32..5, 20_000usize..90_000).prop_map(|(units, length)| Step::Append { units, length }),
        3 => Just(Step::Sync),
        1 => (0usize..2000).prop_map(Step::Tear),
        1 => (0usize..2000).prop_map(Step::Full),
        2 => Just(Step::Room),
        2 => (0usize..4000).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_synced_is_there_after_any_crash_and_what_is_read_was_written(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let disk = CrashingDisk::default();
        let keep = Retention { bytes: Some(400_000), ..Retention::default() };
        let (mut log, _) = open(&disk, keep);
        let mut written: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut synced = 0;
        for (time, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { units, length } => {
                    let place = log.end();
                    let record = data(place, length);
                    if log.append(units, time as i64, &record).is_ok() {
                        prop_assert_eq!(log.end(), place + u64::from(units));
                        written.push((place, record));
                    } else {
                        prop_assert_eq!(log.end(), place, "a write that fails changes nothing");
                    }
                }
                Step::Sync => {
                    log.sync().expect("syncs do not fail here");
                    synced = written.len();
                }
                Step::Tear(after) => disk.tear_next_append(after),
                Step::Full(room) => disk.leave_room(Some(room)),
                Step::Room => disk.leave_room(None),
                Step::Crash(kept) => {
                    drop(log);
                    disk.crash(|lost| if lost == 1 { kept % 2 } else { kept });
                    log = open(&disk, keep).0;
                    let end = log.end();
                    let there = written.iter().filter(|(place, _)| *place < end).count();
                    prop_assert!(there >= synced || synced == 0,
                        "{} of {} synced records are there", there, synced);
                    written.truncate(there);
                    synced = there;
                }
            }
            let (oldest, _) = log.view().bounds();
            let expected: Vec<_> = written.iter().filter(|(place, _)| *place >= oldest).cloned().collect();
            prop_assert_eq!(everything(&log.view()), expected);
            prop_assert!(log.bytes() <= 400_000 + 100_000, "{}", log.bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_left_of_a_lazy_log_after_a_crash_was_written_there_and_it_goes_on(
        lengths in proptest::collection::vec(0usize..40_000, 1..40),
        kept in proptest::collection::vec(0usize..70_000, 1..8),
    ) {
        let disk = CrashingDisk::default();
        let mut log = open(&disk, SHORT).0.lazily();
        let mut written = Vec::new();
        for (time, length) in lengths.into_iter().enumerate() {
            let (place, record) = (log.end(), data(log.end(), length));
            log.append(2, time as i64, &record).expect("room");
            written.push((place, record));
        }
        drop(log);
        let mut kept = kept.into_iter().cycle();
        disk.crash(|lost| kept.next().map_or(0, |kept| if lost == 1 { kept % 2 } else { kept }));
        let mut log = open(&disk, SHORT).0;
        let left = everything(&log.view());
        prop_assert!(left.iter().all(|record| written.contains(record)));
        let place = log.end();
        prop_assert!(left.iter().all(|(at, _)| *at < place));
        log.append(2, 99, b"more").expect("room");
        prop_assert_eq!(everything(&log.view()).pop(), Some((place, b"more".to_vec())));
    }
}

/// Some records in several segments.
fn filled(keep: Retention) -> (CrashingDisk, Vec<(u64, Vec<u8>)>) {
    let disk = CrashingDisk::default();
    let (mut log, _) = open(&disk, keep);
    let mut written = Vec::new();
    for time in 0..12 {
        let (place, record) = (log.end(), data(log.end(), 20_000));
        log.append(3, time, &record).expect("room");
        written.push((place, record));
    }
    log.sync().expect("it works");
    (disk, written)
}

const SHORT: Retention = Retention { bytes: Some(8 * 64 * 1024), units: None, age: None };

#[test]
fn a_segment_cut_or_damaged_anywhere_gives_gaps_and_never_something_else() {
    let (disk, written) = filled(SHORT);
    let paths = disk.paths();
    assert!(paths.len() >= 3, "{paths:?}");
    for (number, path) in paths.iter().enumerate() {
        for at in (0..disk.length(path)).step_by(997).chain(0..60) {
            for cut in [true, false] {
                let copy = disk.copy();
                if cut {
                    copy.cut(path, at)
                } else {
                    copy.damage(path, at)
                }
                let (mut log, found) = open(&copy, SHORT);
                let read = everything(&log.view());
                assert!(read.iter().all(|record| written.contains(record)), "{number} at {at}");
                let untouched = written.len() - 4;
                assert!(read.len() >= untouched, "{} records, {number} at {at}", read.len());
                assert!(cut || found.damaged > 0 || log.end() < 36, "it is told");
                // And it goes on from there.
                let place = log.end();
                log.append(3, 99, b"more").expect("room");
                assert_eq!(everything(&log.view()).last(), Some(&(place, b"more".to_vec())));
            }
        }
    }
}

#[test]
fn the_oldest_segments_go_when_bytes_units_or_age_are_too_much() {
    let by_bytes = filled(Retention { bytes: Some(150_000), ..Retention::default() }).0;
    let total: usize = by_bytes.paths().iter().map(|path| by_bytes.length(path)).sum();
    assert!((65_000..=150_000).contains(&total), "{total}");
    let by_units = filled(Retention { units: Some(10), ..Retention::default() }).0;
    let (oldest, end) = open(&by_units, Retention::default()).0.view().bounds();
    assert_eq!((oldest, end), (27, 36), "whole segments of one record, ten units at most");
    let by_age = filled(Retention { age: Some(Duration::from_millis(3)), ..Retention::default() }).0;
    let (mut log, _) = open(&by_age, Retention { age: Some(Duration::from_millis(3)), ..Retention::default() });
    assert_eq!(log.view().bounds(), (24, 36));
    log.give_up_old(1000);
    assert_eq!(log.view().bounds(), (33, 36), "the last one stays");
}

#[test]
fn a_full_disk_refuses_writes_lets_readers_read_and_takes_writes_again() {
    let (disk, written) = filled(SHORT);
    let budget = DiskBudget::new(300_000, "full");
    let (mut log, _) =
        SegmentLog::open(Arc::new(disk.clone()), Path::new(FOLDER), SHORT, Arc::clone(&budget), |_, _, _, _| {})
            .expect("open");
    log.append(3, 50, &data(36, 20_000)).expect("room");
    let full = log.append(3, 50, &data(39, 90_000)).expect_err("no room");
    assert_eq!(full.kind(), io::ErrorKind::QuotaExceeded);
    assert_eq!(everything(&log.view()).len(), written.len() + 1);
    disk.leave_room(Some(5000));
    let full = log.append(3, 50, &data(39, 20_000)).expect_err("no room");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    disk.leave_room(None);
    log.append(3, 50, &data(39, 20_000)).expect("room again");
    assert_eq!(everything(&log.view()).len(), written.len() + 2);
    drop(log);
    assert_eq!(everything(&open(&disk, SHORT).0.view()).len(), written.len() + 2);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_sync_that_fails_is_told_and_what_follows_is_in_a_new_segment() {
    let disk = CrashingDisk::default();
    let (mut log, _) = open(&disk, Retention::default());
    log.append(1, 0, b"a").expect("room");
    disk.fail_next_sync();
    assert!(log.sync().is_err());
    log.append(1, 0, b"b").expect("room");
    log.sync().expect("it works again");
    assert_eq!(disk.paths().len(), 2);
    disk.crash(|_| 0);
    let read = everything(&open(&disk, Retention::default()).0.view());
    assert_eq!(read, [(1, b"b".to_vec())], "what was not synced may be lost, and leaves a gap");
}

#[test]
fn records_without_units_are_seen_at_a_start_and_take_no_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |seen: &mut Vec<(u64, Vec<u8>)>| {
        let note = |place, _, _, data: &[u8]| seen.push((place, data.to_vec()));
        SegmentLog::open(Arc::new(OsDisk), folder.path(), Retention::default(), roomy(), note).expect("a log").0
    };
    let mut log = open(&mut Vec::new());
    log.append(2, 0, b"ab").expect("room");
    log.append(0, 0, b"mark").expect("room");
    log.append(1, 0, &vec![7; LONGEST_DATA]).expect("the longest");
    assert!(log.append(1, 0, &vec![7; LONGEST_DATA + 1]).is_err(), "one more is too long");
    drop(log);
    let mut seen = Vec::new();
    let log = open(&mut seen);
    assert_eq!(
        seen.iter().map(|(place, data)| (*place, data.len())).collect::<Vec<_>>(),
        [(0, 2), (2, 4), (2, LONGEST_DATA)]
    );
    assert_eq!(everything(&log.view()).len(), 2);
    assert_eq!(log.end(), 3);
}
