//! Much of everything: many files, long lines, large files.

use std::io::{Seek as _, SeekFrom};

use super::*;

/// Memory that this process holds now, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_thousand_files_are_followed_with_bounded_memory_and_few_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: usize| folder.path().join(format!("{}/{file}.log", file % 10));
    (0..10).for_each(|number| std::fs::create_dir(folder.path().join(number.to_string())).unwrap());
    (0..10_000).for_each(|file| append(&path(file), "old\n"));
    let before = resident();
    let mut options = Options::of(folder.path(), &["**/*.log"]);
    options.limits.open_files = 200;
    let mut house = Stepped::new(options);
    house.turn();
    assert_eq!(house.lines().len(), 0);
    assert_eq!(house.signals.drain(..).filter(|signal| signal.event == Event::Added).count(), 10_000);
    for file in 0..10_000 {
        append(&path(file), &format!("{file}\n"));
    }
    house.turn();
    let mut lines: Vec<usize> = house.lines().iter().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..10_000).collect::<Vec<_>>());
    let open = house.follower.as_ref().unwrap().tails.values().filter(|tail| tail.file.is_some()).count();
    assert!(open <= 200, "{open}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 10,000 files, their signals and lines");
}

#[test]
fn more_files_than_a_stream_follows_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    (0..10).for_each(|file| append(&folder.path().join(format!("{file}.log")), "old\n"));
    let mut options = Options::of(folder.path(), &["*.log"]);
    options.limits.files = 7;
    let mut house = Stepped::new(options);
    house.pass(2);
    let told = house.told();
    assert_eq!(told.iter().filter(|(event, ..)| *event == Event::Added).count(), 7);
    assert_eq!(told.iter().filter(|(_, reason, _)| reason == "TooManyFiles").count(), 1);
}

#[test]
fn a_gigabyte_without_a_newline_is_one_line_that_is_cut_and_costs_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let mut house = Stepped::new(Options { limit: 1000, ..Options::of(folder.path(), &["a.log"]) });
    house.turn();
    // A hole: read as zeros, without room on the disk.
    append(&path, "begin ");
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(1 << 30)).unwrap();
    file.write_all(b"end\nnext\n").unwrap();
    let before = resident();
    house.turn();
    let grown = resident().saturating_sub(before);
    let lines = house.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("begin ") && lines[0].ends_with('…') && lines[0].len() == 1000 + "…".len());
    assert_eq!(lines[1], "next");
    assert!(grown < 16 << 20, "{grown} bytes for a line of a gigabyte");
}

#[test]
fn lines_are_cut_as_the_cutter_of_connections_cuts_them_wherever_a_read_ends() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let text = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'\n'), Just(b'\r'), Just(b'b')], 0..200);
    let strategy = (proptest::collection::vec(text, 1..6), 1..12usize);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(100) });
    let checked = runner.run(&strategy, |(pieces, limit)| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut house = Stepped::new(Options { limit, ..Options::of(folder.path(), &["a.log"]) });
        house.turn();
        let mut cutter = crate::record::LineCutter::new(LineLimit(limit));
        let mut expected = Vec::new();
        let mut note = |cut: crate::record::Cut| {
            for piece in cut.pieces {
                let text = String::from_utf8_lossy(&cut.data[piece.range]).into_owned();
                expected.push(if piece.truncated { text + "…" } else { text });
            }
        };
        for piece in pieces {
            let mut file = std::fs::File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(&piece).unwrap();
            house.turn();
            cutter.push(&piece);
            cutter.cut().into_iter().for_each(&mut note);
        }
        house.pass(7);
        cutter.finish().into_iter().for_each(&mut note);
        prop_assert_eq!(house.lines(), expected);
        Ok(())
    });
    checked.unwrap();
}
