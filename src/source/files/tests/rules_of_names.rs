//! Which paths are wanted, and what rotated files are called.

use rstest::rstest;

use super::super::rotation::{Generation, logs_of};
use super::*;

#[rstest]
#[case("/logs/a.log", "/logs/a.log", true)]
#[case("/logs/a.log", "/logs/b.log", false)]
#[case("/logs//a.log", "/logs/a.log", true)]
#[case("/logs/*.log", "/logs/a.log", true)]
#[case("/logs/*.log", "/logs/deep/a.log", false)]
#[case("/logs/**/*.log", "/logs/a.log", true)]
#[case("/logs/**/*.log", "/logs/x/y/a.log", true)]
#[case("/logs/{a,b}.log", "/logs/b.log", true)]
#[case("/logs/[ab]?.log", "/logs/a1.log", true)]
#[case("/logs/*/app.log", "/logs/x/app.log", true)]
fn a_path_is_wanted_as_its_pattern_says(#[case] pattern: &str, #[case] path: &str, #[case] wanted: bool) {
    let selection = Selection::new(&[pattern.to_owned()]).unwrap();
    assert_eq!(selection.wants(Path::new(path)), wanted);
}

#[rstest]
#[case("/logs/*.log", "/logs", true)]
#[case("/logs/*.log", "/logs/x", false)]
#[case("/logs/*/app.log", "/logs/x", true)]
#[case("/logs/*/app.log", "/logs/x/y", false)]
#[case("/logs/a*/b*/c.log", "/logs/a1/b1", true)]
#[case("/logs/a*/b*/c.log", "/logs/a1/x", false)]
#[case("/logs/**/*.log", "/logs/x/y/z", true)]
#[case("/logs/{a/b,c}/*.log", "/logs/a/b", true)]
#[case("/**/*.log", "/proc/1", false)]
#[case("/proc/*/x", "/proc/1", true)]
fn only_folders_that_may_hold_matches_are_entered(#[case] glob: &str, #[case] folder: &str, #[case] entered: bool) {
    let selection = Selection::new(&[glob.to_owned()]).unwrap();
    assert_eq!(selection.may_be_below(Path::new(folder)), entered);
}

#[rstest]
#[case("app.log.1", Some(Generation::Number(1)))]
#[case("app.log.12", Some(Generation::Number(12)))]
#[case("app.1.log", Some(Generation::Number(1)))]
#[case("app.log-20261130", Some(Generation::Date(b"20261130".to_vec())))]
#[case("app-2026-11-30T12.log", Some(Generation::Date(b"2026-11-30T12".to_vec())))]
#[case("app.log", None)]
#[case("app.log.1.gz", None)]
#[case("app.log.bak", None)]
#[case("app.log1", None)]
#[case("apple.log.1", None)]
fn rotated_files_are_known_by_their_names(#[case] name: &str, #[case] generation: Option<Generation>) {
    assert_eq!(Generation::of(name.as_bytes(), b"app.log"), generation);
    let is_one = logs_of(&Path::new("/logs").join(name)).contains(&PathBuf::from("/logs/app.log"));
    assert_eq!(is_one, generation.is_some());
}

#[test]
fn a_smaller_number_and_a_later_date_are_newer() {
    let newer = |one: &str, other: &str| {
        let of = |name: &str| Generation::of(name.as_bytes(), b"a").unwrap();
        of(one).is_newer(&of(other))
    };
    assert_eq!(newer("a.1", "a.2"), Some(true));
    assert_eq!(newer("a.10", "a.9"), Some(false));
    assert_eq!(newer("a-20261130", "a-20261129"), Some(true));
    assert_eq!(newer("a.1", "a-20261129"), None);
}

#[test]
fn patterns_that_match_nothing_are_named() {
    let patterns = ["/logs/*.log", "/logs/a", "/x/**", "/logs/b"].map(str::to_owned);
    let selection = Selection::new(&patterns).unwrap();
    let there = [Path::new("/logs/1.log"), Path::new("/logs/b")];
    assert_eq!(selection.unmatched(there.into_iter()), ["/logs/a", "/x/**"]);
}

#[test]
fn positions_survive_with_names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.log"));
    append(&path, "old\n");
    let positions = Some(state.path().to_owned());
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &["*.log"]) });
    house.turn();
    append(&path, "one\n");
    house.turn();
    house.stop();
    append(&path, "two\n");
    house.start();
    house.turn();
    assert_eq!(house.lines(), ["one", "two"]);
}

#[test]
fn positions_that_cannot_be_read_are_told_and_put_aside() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("a.log"), "old\n");
    let positions = Some(state.path().to_owned());
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &["*.log"]) });
    house.turn();
    house.stop();
    let saved = std::fs::read_dir(state.path()).unwrap().flatten().map(|entry| entry.path());
    let saved = saved.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    std::fs::write(&saved, "{\"version\": 1, \"torn").unwrap();
    house.start();
    house.turn();
    let reasons: Vec<_> = house.told().into_iter().map(|(_, reason, _)| reason).collect();
    assert!(reasons.contains(&"PositionsNotReadable".to_owned()), "{reasons:?}");
    assert!(saved.with_extension("unreadable").exists());
}

#[test]
fn a_pattern_that_was_added_does_not_bring_the_past_and_files_that_came_while_weir_was_away_do() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let positions = Some(state.path().to_owned());
    append(&folder.path().join("a.txt"), "old\n");
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &["*.log"]) });
    house.turn();
    house.stop();
    append(&folder.path().join("b.log"), "new\n");
    house.options.paths = Options::of(folder.path(), &["*.log", "*.txt"]).paths;
    house.start();
    house.turn();
    assert_eq!(house.lines(), ["new"]);
}
