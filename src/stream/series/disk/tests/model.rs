//! Files under random use; what they are called, and how large they become.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// So many readings, so many seconds apart, written together.
    Write(usize, i64),
    Snapshot,
    /// The process ends without a word, and starts again.
    Restart,
}

fn some_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..60usize, prop_oneof![Just(1), 1..40i64]).prop_map(|(count, apart)| Op::Write(count, apart)),
        2 => Just(Op::Snapshot),
        2 => Just(Op::Restart),
    ]
}

/// What is promised of a store whose newest point is of this second: two minutes as they came, an hour in buckets. Where
/// exactly older points become buckets is not.
fn promised(store: &SeriesStore, newest: i64) -> Vec<Vec<Curve>> {
    let read = |from: i64, step: u64, aggregate| {
        let (start, end) = (Time::from_millis(from * 1000), Time::from_millis(newest * 1000));
        let window = Window { start, end, step: Duration::from_secs(step), max_points: usize::MAX };
        store.query(Select::default(), &window, aggregate).expect("a window that makes sense")
    };
    let hour = (newest - 3600 + 9).div_euclid(10) * 10;
    let coarse = [Aggregate::Count, Aggregate::Sum, Aggregate::Last, Aggregate::Min, Aggregate::Max];
    let coarse = coarse.into_iter().map(|aggregate| read(hour, 10, aggregate));
    coarse.chain([read(newest - 120, 1, Aggregate::Last)]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_changes_nothing(ops in proptest::collection::vec(some_op(), 1..20)) {
        let folder = tempfile::tempdir().expect("a folder");
        let oracle = store();
        let mut memory = store();
        let (mut log, _) = open(folder.path(), &memory);
        log.snapshot(&memory).expect("room");
        let mut second = 1_795_211_409;
        for op in ops.iter().chain([&Op::Restart]) {
            match op {
                Op::Write(count, apart) => {
                    let times = (1..=*count as i64).map(|at| second + at * apart);
                    let readings: Vec<_> = times.map(reading).collect();
                    for reading in &readings {
                        memory.append_reading(reading);
                        oracle.append_reading(reading);
                    }
                    log.write(&readings).expect("room");
                    second += *count as i64 * apart;
                }
                Op::Snapshot => {
                    log.snapshot(&memory).expect("room");
                    prop_assert_eq!(names(folder.path()).len(), 2);
                }
                Op::Restart => {
                    memory = store();
                    let (opened, recovery) = open(folder.path(), &memory);
                    prop_assert_eq!((recovery.damaged, recovery.incomplete), (0, false));
                    log = opened;
                    log.snapshot(&memory).expect("room");
                }
            }
            prop_assert_eq!(promised(&memory, second), promised(&oracle, second), "after {:?}", op);
        }
    }
}

#[test]
fn the_disk_holds_two_snapshots_and_two_logs_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, budget) = (store(), ample());
    let (mut log, _) = SeriesLog::open(folder.path(), KEEP, Arc::clone(&budget), &store).expect("an empty folder");
    let (mut most, mut snapshots) = (0, 0);
    for second in 0..60_000 {
        let reading = reading(second);
        store.append_reading(&reading);
        if log.wants_snapshot() {
            log.snapshot(&store).expect("room");
            snapshots += 1;
        }
        log.write(&[reading]).expect("room");
        most = most.max(budget.used());
    }
    let bytes: u64 = recover::files(folder.path()).expect("our files").iter().map(|file| file.bytes).sum();
    assert_eq!(budget.used(), bytes, "what is counted is what is there");
    assert!(snapshots > 2, "{snapshots}");
    // A log of 1 MiB, and what an hour of three series needs, twice.
    assert!(most < 1024 * 1024 + 2 * 64 * 1024, "{most}");
}

#[test]
fn names_from_outside_stand_in_files_and_never_in_paths() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |namespace: &str, name: &str, uid: &str| folder(root.path(), namespace, name, uid);
    let hostile = at("../../etc", "passwd\0", "/");
    assert_eq!(hostile.parent(), Some(root.path()));
    let name = hostile.file_name().and_then(|name| name.to_str()).expect("text");
    assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    let different = [at("a", "b", "c"), at("a", "b", "d"), at("ab", "", "c"), at("", "ab", "c"), hostile];
    assert!((1..different.len()).all(|one| !different[..one].contains(&different[one])));
}

#[test]
fn a_name_that_is_too_long_is_left_out_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = store();
    let (mut log, _) = open(folder.path(), &memory);
    log.snapshot(&memory).expect("room");
    let head = ReadingHead { names: vec!["m".repeat(70_000), "cpu".into()], ..ReadingHead::default() };
    let assets = vec![Asset { name: "a".into(), values: vec![Some(1.0), Some(2.0)], ..Asset::default() }];
    let reading = Arc::new(Reading::new(Arc::new(head), Time::from_millis(1000), assets));
    assert_eq!(log.write(&[reading]).expect("room"), Written { points: 1, skipped: 1 });
    let again = store();
    drop(open(folder.path(), &again));
    assert_eq!(again.series(), [crate::stream::series::SeriesKey::new("a", "cpu")]);
}

#[test]
fn folders_of_which_everything_is_too_old_are_deleted_unless_somebody_uses_them() {
    let root = tempfile::tempdir().expect("a folder");
    let make = |name: &str| {
        let path = folder(root.path(), "shop", name, "uid");
        let (mut log, _) = open(&path, &store());
        log.snapshot(&store()).expect("room");
        path
    };
    let (used, orphan) = (make("used"), make("orphan"));
    let foreign = root.path().join("lost+found");
    fs::create_dir(&foreign).expect("room");
    let (now, later) = (SystemTime::now(), SystemTime::now() + KEEP + Duration::from_secs(60));
    let in_use = |path: &Path| path == used;
    assert_eq!(delete_expired(root.path(), now, in_use).expect("it can be listed"), 0);
    assert!(orphan.exists());
    assert_eq!(delete_expired(root.path(), later, in_use).expect("it can be listed"), 1);
    assert!(used.exists() && foreign.exists() && !orphan.exists());
}
