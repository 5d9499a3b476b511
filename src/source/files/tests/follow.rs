//! Files as they are written, rotated, emptied, deleted and come back, one thing at a time.

use std::fs;

use rstest::rstest;

use super::*;

fn house(patterns: &[&str]) -> (tempfile::TempDir, Stepped) {
    let folder = tempfile::tempdir().unwrap();
    let stepped = Stepped::new(Options::of(folder.path(), patterns));
    (folder, stepped)
}

#[test]
fn a_file_that_is_there_is_followed_from_its_end_and_one_that_comes_from_its_beginning() {
    let (folder, mut house) = house(&["*.log"]);
    let (old, new) = (folder.path().join("old.log"), folder.path().join("new.log"));
    append(&old, "before\n");
    house.turn();
    assert_eq!(house.told(), [(Event::Added, String::new(), "old.log".to_owned())]);
    append(&old, "after\r\n");
    house.turn();
    append(&new, "first\n\nthird\n");
    house.turn();
    assert_eq!(house.lines(), ["after", "first", "", "third"]);
}

#[test]
fn from_the_start_what_a_file_holds_already_comes_too() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("a.log"), "one\ntwo\n");
    let mut house = Stepped::new(Options { from_start: true, ..Options::of(folder.path(), &["a.log"]) });
    house.turn();
    assert_eq!(house.lines(), ["one", "two"]);
}

#[test]
fn a_line_that_has_no_end_yet_when_weir_starts_comes_whole() {
    let (folder, mut house) = house(&["a.log"]);
    let path = folder.path().join("a.log");
    append(&path, "old\nhalf");
    house.turn();
    append(&path, " and half\n");
    house.turn();
    assert_eq!(house.lines(), ["half and half"]);
}

#[test]
fn half_a_line_waits_for_its_end_and_not_for_ever() {
    let (folder, mut house) = house(&["a.log"]);
    let path = folder.path().join("a.log");
    house.turn();
    append(&path, "one\ntw");
    house.turn();
    assert_eq!(house.lines(), ["one"]);
    append(&path, "o\nthr");
    house.pass(3);
    assert_eq!(house.lines(), ["two"]);
    house.pass(3);
    assert_eq!(house.lines(), ["thr"], "it had no end for five seconds");
    assert!(house.told().contains(&(Event::Waiting, "HalfLine".to_owned(), "a.log".to_owned())));
    append(&path, "ee\n");
    house.turn();
    assert_eq!(house.lines(), ["ee"]);
}

#[rstest]
#[case::numbers("app.log.1")]
#[case::dates("app.log-20261130")]
#[case::before_the_ending("app-20261130.log")]
#[case::out_of_sight("elsewhere")]
fn a_rotated_file_is_read_to_its_end_before_the_new_one_and_goes_on_as_the_old(#[case] rotated: &str) {
    let (folder, mut house) = house(&["app.log"]);
    let path = folder.path().join("app.log");
    append(&path, "");
    house.turn();
    append(&path, "one\n");
    house.turn();
    append(&path, "two\n");
    fs::rename(&path, folder.path().join(rotated)).unwrap();
    append(&path, "three\n");
    house.turn();
    append(&folder.path().join(rotated), "late\n");
    house.pass(2);
    let app = path.to_string_lossy().into_owned();
    let expected = ["one", "two", "three", "late"].map(|line| (app.clone(), line.to_owned()));
    assert_eq!(house.records(), expected);
    let told = house.told();
    let rotated = (Event::Restarted, "Rotated".to_owned(), "app.log".to_owned());
    assert_eq!(told.iter().filter(|signal| **signal == rotated).count(), 1, "{told:?}");
    assert!(told.iter().all(|(event, ..)| *event != Event::Deleted), "{told:?}");
}

#[test]
fn a_rotated_name_that_is_wanted_too_is_not_read_twice() {
    let (folder, mut house) = house(&["app.log*"]);
    let path = |name: &str| folder.path().join(name);
    let mut expected = Vec::new();
    house.turn();
    for round in 0..5 {
        append(&path("app.log"), &format!("line {round}\n"));
        expected.push(format!("line {round}"));
        if round % 2 == 0 {
            house.turn();
        }
        for generation in (1..3).rev() {
            let _ = fs::rename(path(&format!("app.log.{generation}")), path(&format!("app.log.{}", generation + 1)));
        }
        fs::rename(path("app.log"), path("app.log.1")).unwrap();
    }
    house.pass(3);
    let mut lines = house.lines();
    lines.sort();
    assert_eq!(lines, expected);
}

#[test]
fn files_that_were_rotated_between_two_looks_are_read_as_well_in_order() {
    let (folder, mut house) = house(&["app.log"]);
    let path = |name: &str| folder.path().join(name);
    append(&path("app.log.1"), "old\n");
    append(&path("app.log"), "one\n");
    house.turn();
    append(&path("app.log"), "two\n");
    for round in 3..6 {
        for generation in (1..6).rev() {
            let _ = fs::rename(path(&format!("app.log.{generation}")), path(&format!("app.log.{}", generation + 1)));
        }
        fs::rename(path("app.log"), path("app.log.1")).unwrap();
        append(&path("app.log"), &format!("{round}\n"));
    }
    house.turn();
    assert_eq!(house.lines(), ["two", "3", "4", "5"]);
}

#[rstest]
#[case::kept("app.log", "app.log.1", true)]
#[case::wanted_too("app.log*", "app.log.1", true)]
#[case::compressed_at_once("app.log", "app.log.1.gz", false)]
fn a_file_that_is_copied_and_emptied_loses_nothing_that_its_copy_holds(
    #[case] pattern: &str,
    #[case] copy: &str,
    #[case] readable: bool,
) {
    let (folder, mut house) = house(&[pattern]);
    let (path, copy) = (folder.path().join("app.log"), folder.path().join(copy));
    append(&path, "");
    house.turn();
    append(&path, "one\n");
    house.turn();
    append(&path, "two\nhal");
    fs::copy(&path, &copy).unwrap();
    if !readable {
        fs::write(&copy, "what gzip makes of it").unwrap();
    }
    truncate(&path);
    append(&path, "three\nfour and much more than was there before\n");
    house.turn();
    house.pass(6);
    let (expected, level) = match readable {
        true => (vec!["one", "two", "three", "four and much more than was there before", "hal"], "info"),
        false => (vec!["one", "three", "four and much more than was there before"], "warning"),
    };
    assert_eq!(house.lines(), expected);
    let truncated = house.signals.iter().find(|signal| signal.reason.as_deref() == Some("Truncated")).unwrap();
    assert_eq!(truncated.level.as_str(), level);
}

#[test]
fn a_copy_that_is_seen_before_its_original_is_emptied_is_not_read_twice() {
    let (folder, mut house) = house(&["app.log*"]);
    let (path, copy) = (folder.path().join("app.log"), folder.path().join("app.log.1"));
    let text: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    append(&path, "");
    house.turn();
    append(&path, &text);
    house.turn();
    // The copy grows while it is looked at.
    for piece in text.as_bytes().chunks(3000) {
        append(&copy, std::str::from_utf8(piece).unwrap());
        house.turn();
    }
    append(&path, "last\n");
    append(&copy, "last\n");
    truncate(&path);
    append(&path, "new\n");
    house.pass(2);
    let mut expected = numbered(0..1000);
    expected.extend(["last".to_owned(), "new".to_owned()]);
    assert_eq!(house.lines(), expected);
}

#[test]
fn a_file_that_is_emptied_and_written_to_more_than_it_held_is_noticed() {
    let (folder, mut house) = house(&["app.log"]);
    let path = folder.path().join("app.log");
    append(&path, "");
    house.turn();
    append(&path, "one\nhalf");
    house.turn();
    truncate(&path);
    append(&path, "a line that is longer than all that was there\nand another\n");
    house.turn();
    let expected = ["one", "half…", "a line that is longer than all that was there", "and another"];
    assert_eq!(house.lines(), expected, "what was read of half a line is not lost");
}

#[test]
fn a_file_that_is_deleted_is_read_to_its_end_and_one_that_returns_from_its_beginning() {
    let (folder, mut house) = house(&["app.log"]);
    let path = folder.path().join("app.log");
    append(&path, "");
    house.turn();
    append(&path, "one\nlast words");
    fs::remove_file(&path).unwrap();
    house.turn();
    assert_eq!(house.lines(), ["one"]);
    house.pass(40);
    assert_eq!(house.lines(), ["last words"]);
    let deleted = (Event::Deleted, String::new(), "app.log".to_owned());
    assert_eq!(house.told().iter().filter(|signal| **signal == deleted).count(), 1);
    append(&path, "two\n");
    house.turn();
    assert_eq!(house.lines(), ["two"]);
    assert_eq!(house.told(), [(Event::Added, String::new(), "app.log".to_owned())]);
}

#[test]
fn a_file_that_takes_the_name_of_another_for_a_moment_is_known_when_it_is_back() {
    let (folder, mut house) = house(&["*.log"]);
    let path = |name: &str| folder.path().join(name);
    append(&path("a.log"), "");
    house.turn();
    append(&path("a.log"), "one\n");
    house.turn();
    fs::rename(path("a.log"), path("away")).unwrap();
    house.pass(60);
    append(&path("away"), "two\n");
    fs::rename(path("away"), path("b.log")).unwrap();
    house.turn();
    let all = house.records();
    let expected = [("a.log", "one"), ("b.log", "two")];
    let expected = expected.map(|(name, line)| (path(name).to_string_lossy().into_owned(), line.to_owned()));
    assert_eq!(all, expected);
}

#[test]
fn two_names_of_one_file_are_read_once() {
    let (folder, mut house) = house(&["*.log"]);
    append(&folder.path().join("a.log"), "");
    house.turn();
    fs::hard_link(folder.path().join("a.log"), folder.path().join("b.log")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("a.log"), folder.path().join("c.log")).unwrap();
    append(&folder.path().join("a.log"), "once\n");
    house.pass(2);
    assert_eq!(house.lines(), ["once"]);
    fs::remove_file(folder.path().join("a.log")).unwrap();
    append(&folder.path().join("b.log"), "still\n");
    house.pass(2);
    assert_eq!(house.lines(), ["still"]);
}

#[test]
fn more_files_than_may_be_open_are_followed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::of(folder.path(), &["*.log"]);
    options.limits.open_files = 3;
    let mut house = Stepped::new(options);
    house.turn();
    for round in 0..3 {
        for file in 0..20 {
            append(&folder.path().join(format!("{file}.log")), &format!("{round}\nha"));
        }
        house.turn();
        assert_eq!(house.lines(), vec![if round == 0 { "0".into() } else { format!("ha{round}") }; 20]);
    }
    assert!(house.follower.as_ref().unwrap().tails.values().filter(|tail| tail.file.is_some()).count() <= 3);
    house.pass(6);
    assert_eq!(house.lines().len(), 20, "half lines of closed files, too");
}

#[tokio::test]
async fn what_is_written_is_told_by_the_system_and_comes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::of(folder.path(), &["**/*.log", "later/plain"]);
    // Nothing is looked at but what is told.
    (options.limits.look, options.limits.poll) = (LONG * 10, LONG * 10);
    fs::create_dir(folder.path().join("later")).unwrap();
    let mut house = House::new(&options);
    house.listed().await;
    append(&folder.path().join("a.log"), "one\n");
    assert_eq!(house.lines(1).await, ["one"]);
    append(&folder.path().join("a.log"), "two\n");
    assert_eq!(house.lines(1).await, ["two"]);
    fs::create_dir_all(folder.path().join("new/deep")).unwrap();
    append(&folder.path().join("new/deep/b.log"), "three\n");
    assert_eq!(house.lines(1).await, ["three"]);
    append(&folder.path().join("later/plain"), "four\n");
    assert_eq!(house.lines(1).await, ["four"]);
    fs::rename(folder.path().join("a.log"), folder.path().join("a.old")).unwrap();
    append(&folder.path().join("a.log"), "five\n");
    assert_eq!(house.lines(1).await, ["five"]);
    assert_eq!(house.source.roster().len(), 3);
    house.end().await;
}

#[tokio::test]
async fn that_nothing_matches_yet_is_told_and_what_comes_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let house_options = Options::of(folder.path(), &["none/*.log"]);
    let mut house = House::new(&house_options);
    let signal = house.signal(Event::Waiting).await;
    assert_eq!(signal.reason.as_deref(), Some("NoMatch"));
    assert!(signal.text.contains("none/*.log"), "{}", signal.text);
    house.listed().await;
    fs::create_dir(folder.path().join("none")).unwrap();
    append(&folder.path().join("none/a.log"), "there\n");
    assert_eq!(house.lines(1).await, ["there"]);
    house.end().await;
}
