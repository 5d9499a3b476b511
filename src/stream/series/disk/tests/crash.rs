//! Cut at every byte, damaged at every byte, cut between any two steps, and a disk that is full.

use super::*;

/// A folder with a snapshot of ten readings and a log of five more; and where each of the five ends in the log.
fn written() -> (TempDir, Vec<usize>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store();
    let (mut log, _) = open(folder.path(), &store);
    hear(&store, 0..10);
    log.snapshot(&store).expect("room");
    let length = || fs::metadata(folder.path().join("00000000000000000001.log")).expect("a log").len() as usize;
    let ends = (10..15).map(|second| {
        store.append_reading(&reading(second));
        assert_eq!(log.write(&[reading(second)]).expect("room"), Written { points: 3, skipped: 0 });
        log.sync().expect("room");
        length()
    });
    let ends = ends.collect();
    (folder, ends)
}

fn recovered(folder: &Path) -> (Vec<(Aggregate, Vec<Curve>)>, Recovery) {
    let store = store();
    let (_, recovery) = open(folder, &store);
    (contents(&store), recovery)
}

#[test]
fn a_log_cut_or_damaged_at_any_byte_gives_exactly_what_was_written_before() {
    let (folder, ends) = written();
    let path = folder.path().join("00000000000000000001.log");
    let whole = fs::read(&path).expect("the log");
    for at in 0..=whole.len() {
        let readings = ends.iter().filter(|end| **end <= at).count() as i64;
        let expected = heard(0..10 + readings);
        fs::write(&path, &whole[..at]).expect("room");
        assert_eq!(recovered(folder.path()).0, expected, "cut at {at}");
        let Some(byte) = whole.get(at) else { continue };
        let mut damaged = whole.clone();
        damaged[at] = byte ^ 0x41;
        fs::write(&path, &damaged).expect("room");
        let (found, recovery) = recovered(folder.path());
        assert_eq!(found, expected, "damaged at {at}");
        assert!(recovery.damaged > 0 && !recovery.incomplete, "it is told: {recovery:?}");
    }
}

#[test]
fn a_snapshot_damaged_at_any_byte_gives_nothing_that_was_not_written() {
    let (folder, _) = written();
    let path = folder.path().join("00000000000000000001.snap");
    let whole = fs::read(&path).expect("the snapshot");
    let everything = heard(0..15);
    let points = |curves: &[(Aggregate, Vec<Curve>)], at: usize| -> Vec<_> {
        let curves = curves[at].1.iter();
        curves.flat_map(|curve| curve.points.iter().map(|point| (curve.key.clone(), *point))).collect()
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        fs::write(&path, &damaged).expect("room");
        let (found, recovery) = recovered(folder.path());
        assert!(recovery.incomplete && recovery.damaged > 0, "it is told: {at}, {recovery:?}");
        for aggregate in 0..everything.len() {
            let (found, all) = (points(&found, aggregate), points(&everything, aggregate));
            assert!(found.iter().all(|point| all.contains(point)), "damaged at {at}");
            assert!(found.len() >= 15, "the log of the five after it is there");
        }
    }
}

#[test]
fn a_snapshot_may_be_cut_between_any_two_of_its_steps() {
    let (before, _) = written();
    let expected = heard(0..15);
    // All of it, in another folder.
    let after = copy(before.path());
    let again = store();
    let (mut log, _) = open(after.path(), &again);
    log.snapshot(&again).expect("room");
    drop(log);
    assert_eq!(names(after.path()), ["2.snap", "2.log"]);
    let bring = |folder: &Path, name: &str, to: &str, bytes: Option<usize>| {
        let whole = fs::read(after.path().join(name)).expect("the new file");
        fs::write(folder.join(to), &whole[..bytes.unwrap_or(whole.len())]).expect("room");
    };
    let check = |folder: &Path, what: &str| {
        assert_eq!(recovered(folder).0, expected, "{what}");
        // And the next start cleans up.
        let store = store();
        let (mut log, _) = open(folder, &store);
        log.snapshot(&store).expect("room");
        assert_eq!(names(folder).len(), 2, "{what}: {:?}", names(folder));
        drop(log);
        assert_eq!(recovered(folder).0, expected, "{what}, after the next start");
    };
    let (log, snapshot, unfinished) =
        ("00000000000000000002.log", "00000000000000000002.snap", "00000000000000000002.tmp");
    let snapshot_bytes = fs::metadata(after.path().join(snapshot)).expect("a snapshot").len() as usize;
    let folder = copy(before.path());
    bring(folder.path(), log, log, None);
    check(folder.path(), "a new log was begun");
    for bytes in (0..=snapshot_bytes).step_by(7).chain([snapshot_bytes]) {
        let folder = copy(before.path());
        bring(folder.path(), log, log, None);
        bring(folder.path(), snapshot, unfinished, Some(bytes));
        check(folder.path(), &format!("{bytes} bytes of the snapshot were written"));
    }
    for gone in [&[][..], &["00000000000000000001.snap"], &["00000000000000000001.log"]] {
        let folder = copy(before.path());
        bring(folder.path(), log, log, None);
        bring(folder.path(), snapshot, snapshot, None);
        gone.iter().for_each(|name| fs::remove_file(folder.path().join(name)).expect("it was there"));
        check(folder.path(), &format!("{gone:?} were deleted"));
    }
}

#[test]
fn while_the_disk_is_full_memory_goes_on_and_later_everything_is_on_disk() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let budget = DiskBudget::new(3000, "full");
    let open = |folder: &Path, store: &SeriesStore| {
        SeriesLog::open(folder, KEEP, Arc::clone(&budget), store).expect("the folder can be read")
    };
    let (hog, store) = (store(), store());
    let (mut in_the_way, _) = open(other.path(), &hog);
    in_the_way.snapshot(&hog).expect("room");
    let readings: Vec<_> = (0..10).map(reading).collect();
    in_the_way.write(&readings).expect("room");
    let (mut log, _) = open(folder.path(), &store);
    log.snapshot(&store).expect("room");
    let mut full = 0;
    for second in 0..100 {
        store.append_reading(&reading(second));
        full += usize::from(log.write(&[reading(second)]).is_err());
        assert!(budget.used() <= 3000, "{}", budget.used());
    }
    assert!(full > 0 && !log.is_writable() && log.wants_snapshot(), "{full}");
    assert_eq!(contents(&store), heard(0..100), "memory lost nothing");
    assert!(log.snapshot(&store).is_err(), "still full");
    drop(in_the_way);
    delete(other.path()).expect("it goes");
    log.snapshot(&store).expect("there is room again");
    assert!(log.is_writable() && !log.wants_snapshot());
    log.write(&[reading(100)]).expect("room");
    drop(log);
    assert_eq!(recovered(folder.path()).0, heard(0..101), "what came while it was full is there, too");
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_folder_that_vanishes_is_made_good_once_it_is_back() {
    let parent = tempfile::tempdir().expect("a folder");
    let (path, store) = (parent.path().join("a"), store());
    let (mut log, _) = open(&path, &store);
    log.snapshot(&store).expect("room");
    delete(&path).expect("it goes");
    store.append_reading(&reading(0));
    assert!(log.snapshot(&store).is_err());
    fs::create_dir(&path).expect("it comes back");
    log.snapshot(&store).expect("room");
    drop(log);
    assert_eq!(recovered(&path).0, heard(0..1));
}
