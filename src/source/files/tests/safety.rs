//! What is never opened, and what is told of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn only(root: &Path) -> Allowed<PathBuf> {
    Allowed::Only(vec![root.to_owned()])
}

#[test]
fn what_stands_outside_of_the_roots_is_refused_before_anything_is_read() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(outside.path(), inside.path().join("link")).unwrap();
    for pattern in ["*.log", "deep/**/a", "not/there/yet.log"] {
        let source = files(inside.path(), pattern, only(inside.path()));
        assert!(source.is_ok(), "{pattern}");
    }
    let refused = files(outside.path(), "*.log", only(inside.path())).unwrap_err().to_string();
    assert!(refused.contains("--outside-files"), "{refused}");
    assert!(files(inside.path(), "link/*.log", only(inside.path())).is_err());
    assert!(files(inside.path(), "a.log", Allowed::Only(vec![])).is_err());
    // A name that only begins like the root is not below it.
    let beside = PathBuf::from(format!("{}-beside", inside.path().display()));
    assert!(files(&beside, "a.log", only(inside.path())).is_err());
}

fn files(root: &Path, pattern: &str, allowed: Allowed<PathBuf>) -> Result<Arc<Files>, FilesError> {
    let options = Options::of(root, &[pattern]);
    let metrics = Metrics::new();
    Files::new(FilesConfig {
        paths: options.paths,
        from_start: true,
        sieve: Sieve::new(&FilterSpec::default(), LineLimit(1024), &metrics).unwrap(),
        allowed,
        positions: None,
        limits: options.limits,
        metrics,
    })
}

#[tokio::test]
async fn a_link_that_leads_out_of_a_root_is_not_followed_and_told_once() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    append(&outside.path().join("secret.log"), "secret\n");
    fs::create_dir(inside.path().join("deep")).unwrap();
    symlink(outside.path().join("secret.log"), inside.path().join("deep/leak.log")).unwrap();
    symlink(outside.path(), inside.path().join("deep/folder")).unwrap();
    append(&inside.path().join("good.log"), "good\n");
    symlink(inside.path().join("good.log"), inside.path().join("deep/alias.log")).unwrap();
    let mut options = Options { from_start: true, ..Options::of(inside.path(), &["deep/*.log", "deep/*/*.log"]) };
    options.limits.poll = Duration::from_millis(20);
    options.limits.look = Duration::from_millis(20);
    let mut house = House::allowed(&options, only(inside.path())).unwrap();
    let told = house.signal(Event::SourceError).await;
    assert_eq!(told.reason.as_deref(), Some("NotAllowed"));
    assert!(told.text.contains("leak.log") && !told.text.contains("secret"), "{}", told.text);
    for number in 0..20 {
        append(&inside.path().join("good.log"), &format!("line {number}\n"));
        append(&outside.path().join("secret.log"), "secret\n");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut all = Vec::new();
    while all.last().is_none_or(|line| line != "line 19") {
        match tokio::time::timeout(LONG, house.reader.next()).await.unwrap() {
            Delivery::Records { batch, .. } => {
                let text = |line| String::from_utf8_lossy(batch.text(line)).into_owned();
                all.extend(batch.lines().iter().map(text));
            }
            Delivery::Signal { signal, .. } => assert_ne!(signal.event, Event::SourceError, "{signal:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!all.contains(&"secret".to_owned()));
    assert!(all.ends_with(&numbered(0..20)), "{all:?}");
    house.end().await;
}

#[tokio::test]
async fn pipes_folders_and_devices_hold_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.log");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::create_dir(folder.path().join("folder.log")).unwrap();
    symlink("/dev/zero", folder.path().join("zero.log")).unwrap();
    append(&folder.path().join("real.log"), "real\n");
    let options = Options { from_start: true, ..Options::of(folder.path(), &["*.log"]) };
    let mut house = House::new(&options);
    assert_eq!(house.lines(1).await, ["real"]);
    house.listed().await;
    assert_eq!(house.source.roster().len(), 1);
    house.end().await;
    let mut stepped = Stepped::new(options);
    stepped.turn();
    stepped.turn();
    assert_eq!(stepped.lines(), ["real"]);
    let mut refused: Vec<_> = stepped.told().into_iter().filter(|(event, ..)| *event == Event::SourceError).collect();
    refused.sort_by(|one, other| one.2.cmp(&other.2));
    let names: Vec<_> = refused.iter().map(|(_, reason, name)| (reason.as_str(), name.as_str())).collect();
    assert_eq!(names, [("NotRegular", "pipe.log"), ("NotRegular", "zero.log")], "each once");
}

/// Whether this user is held up by permissions at all.
fn is_bound(path: &Path) -> bool {
    fs::File::open(path).is_err()
}

#[test]
fn a_file_that_may_not_be_read_is_told_once_with_the_remedy_and_read_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append(&path, "one\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let bound = is_bound(&path);
    let mut house = Stepped::new(Options { from_start: true, ..Options::of(folder.path(), &["*.log"]) });
    house.pass(3);
    if bound {
        let told = house.told();
        assert_eq!(told, [(Event::SourceError, "PermissionDenied".to_owned(), "a.log".to_owned())]);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    house.turn();
    assert_eq!(house.lines(), ["one"]);
}

#[test]
fn only_one_at_a_time_holds_the_positions_of_a_stream() {
    let state = tempfile::tempdir().unwrap();
    let open = || Store::open(state.path(), &Options::name()).unwrap();
    let first = open().expect("nobody has it");
    assert!(open().is_none());
    drop(first);
    assert!(open().is_some());
    assert!(Store::open(state.path(), &StreamName::new("default", "other")).unwrap().is_some());
}

#[tokio::test]
async fn a_source_that_takes_the_place_of_another_begins_where_that_one_ended() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.log");
    append(&path, "old\n");
    let positions = Some(state.path().to_owned());
    let options = Options { positions, ..Options::of(folder.path(), &["a.log"]) };
    let mut first = House::new(&options);
    first.listed().await;
    append(&path, "one\n");
    assert_eq!(first.lines(1).await, ["one"]);
    let mut second = House::new(&options);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!*second.source.listed().borrow(), "it waits");
    append(&path, "two\n");
    assert_eq!(first.lines(1).await, ["two"]);
    first.end().await;
    append(&path, "three\n");
    assert_eq!(second.lines(1).await, ["three"]);
    second.end().await;
}
