//! A log that is written, rotated and looked at in any order, beside a model that knows of each line whether it must come.

use std::collections::{HashMap, HashSet};
use std::fs;

use proptest::prelude::*;

use super::*;

/// How a log is rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rotation {
    Rename,
    Copy,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    /// So many whole lines are written; the first goes on from half a line, where there is one.
    Write(usize),
    /// Half a line is written.
    WriteHalf,
    Rotate,
    /// The log is emptied, and nobody keeps what it held.
    Empty,
    Delete,
    /// Weir looks and reads.
    Look,
    /// Time passes, so that half lines are given out.
    Pass,
    /// Weir ends in good order, and begins again later.
    Stop,
    Start,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1..30usize).prop_map(Deed::Write),
        2 => Just(Deed::WriteHalf),
        3 => Just(Deed::Rotate),
        1 => Just(Deed::Empty),
        1 => Just(Deed::Delete),
        6 => Just(Deed::Look),
        1 => Just(Deed::Pass),
        1 => Just(Deed::Stop),
        2 => Just(Deed::Start),
    ]
}

/// Rotated files that are kept.
const KEPT: usize = 4;

/// A file, whatever it is called, and what was written to it that Weir has not read.
#[derive(Clone, Debug, Default)]
struct Content {
    unread: Vec<String>,
    half: String,
    /// Weir has it open, or knows how far it was read.
    known: bool,
    /// Something of it was read, so that its copy can be known.
    begun: bool,
}

struct Model {
    log: PathBuf,
    rotation: Rotation,
    /// Rotated files are wanted by their own names.
    all_wanted: bool,
    /// The log, then its rotated files, newest first.
    files: Vec<Option<Content>>,
    /// Files that were deleted while Weir held them.
    held: Vec<Content>,
    must: HashMap<String, usize>,
    may: HashSet<String>,
    next: usize,
    running: bool,
}

impl Model {
    fn path(&self, generation: usize) -> PathBuf {
        if generation == 0 { self.log.clone() } else { PathBuf::from(format!("{}.{generation}", self.log.display())) }
    }

    fn current(&mut self) -> &mut Content {
        self.files[0].get_or_insert_with(Content::default)
    }

    fn write(&mut self, count: usize) {
        let mut text = String::new();
        for _ in 0..count {
            let line = format!("line {} {}", self.next, "x".repeat(self.next % 90));
            self.next += 1;
            let half = std::mem::take(&mut self.current().half);
            text.push_str(&format!("{line}\n"));
            self.current().unread.push(half + &line);
        }
        append(&self.log, &text);
    }

    fn write_half(&mut self) {
        let text = format!("half {} of ", self.next);
        self.next += 1;
        append(&self.log, &text);
        self.current().half.push_str(&text);
    }

    fn rotate(&mut self) {
        if self.files[0].is_none() {
            return;
        }
        if let Some(last) = self.files[KEPT].take() {
            fs::remove_file(self.path(KEPT)).unwrap();
            self.let_go(last);
        }
        for generation in (1..KEPT).rev() {
            if self.files[generation].is_some() {
                fs::rename(self.path(generation), self.path(generation + 1)).unwrap();
            }
            self.files.swap(generation, generation + 1);
        }
        match self.rotation {
            Rotation::Rename => {
                fs::rename(&self.log, self.path(1)).unwrap();
                let mut content = self.files[0].take().unwrap_or_default();
                if !content.known && !self.all_wanted {
                    // Weir never saw it under its name, and may know nothing before it that leads there.
                    self.lose(std::mem::take(&mut content));
                }
                self.files[1] = Some(content);
            }
            Rotation::Copy => {
                fs::copy(&self.log, self.path(1)).unwrap();
                truncate(&self.log);
                let mut content = self.files[0].take().unwrap_or_default();
                self.files[0] = Some(Content { known: content.known, ..Content::default() });
                if !content.begun && !self.all_wanted {
                    self.lose(std::mem::take(&mut content));
                }
                self.files[1] = Some(content);
            }
        }
    }

    /// What nobody but Weir holds any more, and Weir only where it had it open.
    fn let_go(&mut self, content: Content) {
        if content.known && self.running && self.rotation == Rotation::Rename {
            self.held.push(content);
        } else {
            self.lose(content);
        }
    }

    /// What may come, whole, or as far as it was read before it was lost.
    fn lose(&mut self, content: Content) {
        for line in content.unread.into_iter().chain([content.half]) {
            let halves = line.match_indices("of ").map(|(at, of)| &line[..at + of.len()]);
            for half in halves.collect::<Vec<_>>() {
                self.may.insert(half.to_owned());
                self.may.insert(format!("{half}…"));
            }
            self.may.insert(line);
        }
    }

    fn empty(&mut self) {
        if self.files[0].is_some() {
            truncate(&self.log);
            let content = self.files[0].take().unwrap_or_default();
            self.files[0] = Some(Content { known: content.known, ..Content::default() });
            self.lose(content);
        }
    }

    fn delete(&mut self) {
        if let Some(content) = self.files[0].take() {
            fs::remove_file(&self.log).unwrap();
            self.let_go(content);
        }
    }

    /// Everything that can be read was read.
    fn looked(&mut self) {
        for content in self.files.iter_mut().flatten().chain(&mut self.held) {
            content.known = true;
            content.begun |= !content.unread.is_empty();
            content.unread.drain(..).for_each(|line| *self.must.entry(line).or_default() += 1);
        }
    }

    /// Half lines were given out.
    fn gave_halves(&mut self) {
        for content in self.files.iter_mut().flatten().chain(&mut self.held) {
            let half = std::mem::take(&mut content.half);
            if !half.is_empty() {
                content.begun = true;
                *self.must.entry(half).or_default() += 1;
            }
        }
        self.held.clear();
    }
}

fn run(rotation: Rotation, pattern: &str, deeds: &[Deed]) {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let positions = Some(state.path().to_owned());
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &[pattern]) });
    house.turn();
    let mut model = Model {
        log: folder.path().join("app.log"),
        rotation,
        all_wanted: pattern.ends_with('*'),
        files: vec![None; KEPT + 1],
        held: Vec::new(),
        must: HashMap::new(),
        may: HashSet::new(),
        next: 0,
        running: true,
    };
    for deed in deeds.iter().chain(&[Deed::Start, Deed::Pass]) {
        match deed {
            Deed::Write(count) => model.write(*count),
            Deed::WriteHalf => model.write_half(),
            Deed::Rotate => model.rotate(),
            Deed::Empty => model.empty(),
            Deed::Delete => model.delete(),
            Deed::Look if model.running => {
                house.turn();
                model.looked();
            }
            Deed::Pass if model.running => {
                house.turn();
                model.looked();
                house.pass(40);
                model.gave_halves();
            }
            Deed::Stop if model.running => {
                house.stop();
                model.running = false;
                let held = std::mem::take(&mut model.held);
                held.into_iter().for_each(|content| model.lose(content));
            }
            Deed::Start if !model.running => {
                house.start();
                model.running = true;
                house.turn();
                model.looked();
            }
            Deed::Look | Deed::Pass | Deed::Stop | Deed::Start => {}
        }
    }
    let mut came: HashMap<String, usize> = HashMap::new();
    house.lines().into_iter().for_each(|line| *came.entry(line).or_default() += 1);
    for (line, times) in &model.must {
        assert_eq!(came.remove(line).unwrap_or_default(), *times, "how often {line:?} came; {deeds:?}");
    }
    let more: Vec<_> = came.iter().filter(|(line, times)| !model.may.contains(*line) || **times > 1).collect();
    assert!(more.is_empty(), "{more:?} came, and should not; {deeds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_however_a_log_is_renamed(deeds in proptest::collection::vec(deed(), 1..60)) {
        run(Rotation::Rename, "app.log", &deeds);
    }

    #[test]
    fn nothing_is_lost_or_doubled_where_renamed_logs_are_wanted_too(deeds in proptest::collection::vec(deed(), 1..60)) {
        run(Rotation::Rename, "app.log*", &deeds);
    }

    #[test]
    fn nothing_is_lost_or_doubled_however_a_log_is_copied_and_emptied(deeds in proptest::collection::vec(deed(), 1..60)) {
        run(Rotation::Copy, "app.log", &deeds);
    }

    #[test]
    fn nothing_is_lost_or_doubled_where_copies_are_wanted_too(deeds in proptest::collection::vec(deed(), 1..60)) {
        run(Rotation::Copy, "app.log*", &deeds);
    }
}

/// Found by the random deeds: the copy was given the inode of the deleted log, of which nothing was read but half a line.
#[test]
fn a_copy_is_not_taken_for_a_file_of_which_only_its_inode_is_left() {
    use Deed::*;
    let begin = [Write(18), Empty, Write(95), WriteHalf, Look, Look, Rotate, Write(7), Look, Rotate, Look, Look];
    let delete =
        [Write(29), Write(12), Look, Write(20), Rotate, Write(23), Rotate, Empty, WriteHalf, Delete, Empty, Look];
    let away = [Write(26), Rotate, Write(29), Look, WriteHalf, Look, Stop, Write(23), Rotate, Write(16), Write(29)];
    run(Rotation::Copy, "app.log*", &[&begin[..], &delete, &away, &[Start, Write(18)]].concat());
}

#[test]
fn a_hundred_restarts_at_any_moment_lose_and_double_nothing() {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("app.log");
    append(&path, "");
    let positions = Some(state.path().to_owned());
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &["app.log"]) });
    house.turn();
    let (mut written, mut text) = (0, String::new());
    for _ in 0..100 {
        for _ in 0..random.random_range(1..300) {
            text.push_str(&format!("line {written}\n"));
            written += 1;
        }
        // Cut anywhere, in the middle of lines, too.
        let at = random.random_range(0..=text.len());
        append(&path, &text[..at]);
        text.drain(..at);
        if random.random_ratio(1, 2) {
            house.turn();
        }
        house.stop();
        if random.random_ratio(1, 3) && text.is_empty() {
            fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        }
        house.start();
        house.turn();
    }
    append(&path, &text);
    house.turn();
    assert_eq!(house.lines(), numbered(0..written));
}

#[test]
fn after_a_crash_what_was_read_since_positions_were_saved_comes_again_and_nothing_is_missing() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("app.log");
    append(&path, "");
    let positions = Some(state.path().to_owned());
    let mut house = Stepped::new(Options { positions, ..Options::of(folder.path(), &["app.log"]) });
    house.turn();
    append(&path, "one\n");
    house.pass(2);
    append(&path, "two\n");
    house.turn();
    assert_eq!(house.lines(), ["one", "two"]);
    house.kill();
    append(&path, "three\n");
    house.start();
    house.turn();
    assert_eq!(house.lines(), ["two", "three"]);
}
