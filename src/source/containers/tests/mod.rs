//! What the source promises, against a server that speaks the engine's API over a real socket.

mod docker;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rstest::rstest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::docker::{Docker, Message, framed, nowhere};
use super::frames::LogReader;
use super::{Containers, ContainersConfig};
use crate::api::FilterSpec;
use crate::api::pattern::NamePattern;
use crate::record::{Batch, Event, LineLimit, Origin, Time};
use crate::source::{Sieve, Source};
use crate::stream::{Delivery, LiveStream, ReadFrom, Reader, RingLimits};
use crate::telemetry::Metrics;

/// Long enough for anything on this machine; never waited for when things are well.
const LONG: Duration = Duration::from_secs(60);

/// A source at work, and a reader of its stream.
struct House {
    reader: Reader,
    cancel: CancellationToken,
    tasks: TaskTracker,
    source: Arc<Containers>,
}

impl House {
    fn new(socket: std::path::PathBuf, names: &[&str], tail: u64, filter: &FilterSpec) -> Self {
        let metrics = Metrics::new();
        let source = Containers::new(ContainersConfig {
            socket,
            names: names.iter().map(|name| NamePattern::parse(name).unwrap()).collect(),
            stopped: Vec::new(),
            tail_lines: tail,
            sieve: Sieve::new(filter, LineLimit(64 * 1024), &metrics).unwrap(),
            metrics,
        });
        let stream = Arc::new(LiveStream::new(RingLimits { bytes: 256 << 20, ..RingLimits::default() }, 1));
        let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&source).run(stream, cancel.clone()));
        Self { reader, cancel, tasks, source }
    }

    async fn listed(&self) {
        let mut listed = self.source.listed();
        tokio::time::timeout(LONG, listed.wait_for(|listed| *listed)).await.expect("a list in time").unwrap();
    }

    /// The next signal or lines: what it is about, and what it says.
    async fn next(&mut self) -> Vec<(String, String)> {
        match tokio::time::timeout(LONG, self.reader.next()).await.expect("something in time") {
            Delivery::Records { batch, .. } => lines_of(&batch),
            Delivery::Signal { signal, .. } => vec![(format!("{:?}", signal.event), signal.text.clone())],
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a signal, and throws away what stands before it.
    async fn signal(&mut self, event: Event) -> String {
        loop {
            let next = self.next().await;
            if next[0].0 == format!("{event:?}") {
                return next[0].1.clone();
            }
        }
    }

    /// So many lines, without the signals between them.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match tokio::time::timeout(LONG, self.reader.next()).await {
                Ok(Delivery::Records { batch, .. }) => lines.extend(lines_of(&batch).into_iter().map(|(_, text)| text)),
                Ok(_) => {}
                Err(_) => panic!("{} of {count} lines came; the last is {:?}", lines.len(), lines.last()),
            }
        }
        lines
    }

    async fn end(self) {
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(LONG, self.tasks.wait()).await.expect("it ends");
        assert_eq!(*self.source.targets().borrow(), 0);
    }
}

fn lines_of(batch: &Batch) -> Vec<(String, String)> {
    let text = |line| String::from_utf8_lossy(batch.text(line)).into_owned();
    batch.lines().iter().map(|line| (batch.origin().container.clone(), text(line))).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[tokio::test]
async fn a_container_that_runs_already_gives_its_last_lines_and_what_comes() {
    let docker = Docker::new();
    docker.run("web", false);
    for number in 0..100 {
        docker.write("web", 1 + (number % 2) as u8, &format!("line {number}"));
    }
    let mut house = House::new(docker.socket(), &["web"], 3, &FilterSpec::default());
    assert_eq!(house.signal(Event::Added).await, "Container ADDED: web");
    assert_eq!(house.lines(3).await, numbered(97..100));
    docker.write("web", 1, "line 100");
    assert_eq!(house.lines(1).await, ["line 100"]);
    assert_eq!(house.source.roster().len(), 1);
    house.end().await;
    assert!(docker.asked().iter().all(|path| path == "/_ping" || path.starts_with("/v1.43/")), "its own version");
}

#[tokio::test]
async fn without_a_tail_only_what_comes_is_given_and_containers_that_start_later_from_their_first_line() {
    let docker = Docker::new();
    docker.run("web-1", false);
    docker.write("web-1", 1, "old");
    let mut house = House::new(docker.socket(), &["web-.*"], 0, &FilterSpec::default());
    house.signal(Event::Added).await;
    docker.write("web-1", 1, "new");
    assert_eq!(house.lines(1).await, ["new"]);
    docker.run("other", false);
    docker.write("other", 1, "not wanted");
    docker.run("web-2", true);
    docker.write("web-2", 1, "first");
    docker.write("web-2", 1, "second");
    assert_eq!(house.lines(2).await, ["first", "second"]);
    house.end().await;
}

#[rstest]
#[case::without_a_tail(0)]
#[case::with_a_short_one(1)]
#[case::with_a_long_one(20)]
#[tokio::test]
async fn what_is_written_once_all_is_listed_comes(#[case] tail: u64) {
    let docker = Docker::new();
    docker.run("web", false);
    (0..100).for_each(|number| docker.write("web", 1, &format!("line {number}")));
    let mut house = House::new(docker.socket(), &["web"], tail, &FilterSpec::default());
    house.listed().await;
    docker.write("web", 1, "new");
    let mut lines = house.lines(1).await;
    while lines.last().is_some_and(|line| line != "new") {
        lines.extend(house.lines(1).await);
    }
    lines.pop();
    assert_eq!(lines, numbered(100 - lines.len()..100));
    house.end().await;
}

#[tokio::test]
async fn a_restart_is_told_and_followed_and_the_end_of_the_run_before_comes_whole() {
    let docker = Docker::new();
    docker.run("job", false);
    let mut house = House::new(docker.socket(), &["job"], 0, &FilterSpec::default());
    house.signal(Event::Added).await;
    docker.write("job", 1, "works");
    docker.write("job", 2, "last words");
    docker.stop("job", 3);
    assert_eq!(house.lines(2).await, ["works", "last words"]);
    assert_eq!(house.signal(Event::Terminated).await, "Container TERMINATED: job, exit code 3");
    docker.start("job");
    docker.write("job", 1, "again");
    assert_eq!(house.signal(Event::Restarted).await, "Container RESTARTED: job");
    assert_eq!(house.lines(1).await, ["again"]);
    docker.stop("job", 0);
    docker.remove("job");
    assert_eq!(house.signal(Event::Deleted).await, "Container DELETED: job");
    house.end().await;
}

#[rstest]
#[case::without_a_tail(0)]
#[case::with_one(5)]
#[tokio::test]
async fn one_is_stopped_and_started_while_the_lines_of_the_others_come_each_once(#[case] tail: u64) {
    let docker = Docker::new();
    docker.run("busy", false);
    docker.run("web", false);
    let mut house = House::new(docker.socket(), &["busy", "web"], tail, &FilterSpec::default());
    house.listed().await;
    let node = house.source.node("web");
    for round in 0..20 {
        let write = |name: &str, text: String| {
            docker.write(name, 1, &text);
            text
        };
        let busy = |text: &str| write("busy", format!("{text} {round}"));
        let wanted = [write("web", format!("before {round}")), busy("goes on")];
        let mut lines = house.lines(2).await;
        lines.sort();
        assert_eq!(lines, wanted);

        house.source.set_stopped(std::slice::from_ref(&node));
        assert_eq!(*house.source.targets().borrow(), 1);
        let first = busy("while it is stopped");
        write("web", format!("unheard {round}"));
        if round % 4 == 3 {
            docker.cut();
        }
        if round % 5 == 4 {
            docker.stop("web", 0);
            docker.start("web");
        }
        house.source.set_stopped(&[]);
        house.listed().await;
        assert_eq!(*house.source.targets().borrow(), 2);
        let lines = [first, busy("once it is started")];
        assert_eq!(house.lines(2).await, lines);
    }
    house.end().await;
}

#[tokio::test]
async fn one_that_was_stopped_from_the_beginning_is_followed_once_it_is_started_and_no_other() {
    let docker = Docker::new();
    docker.run("web-1", false);
    docker.run("web-2", false);
    let mut house = House::new(docker.socket(), &["web-.*"], 100, &FilterSpec::default());
    let nodes = [house.source.node("web-1"), house.source.node("web-2")];
    house.source.set_stopped(&nodes);
    house.listed().await;
    for name in ["web-1", "web-2"] {
        docker.write(name, 1, "unheard");
    }
    house.source.set_stopped(&nodes[1..]);
    house.listed().await;
    for name in ["web-2", "web-1"] {
        docker.write(name, 1, name);
    }
    assert_eq!(house.lines(1).await, ["web-1"]);
    house.end().await;
}

#[tokio::test]
async fn a_container_that_had_ended_is_followed_from_its_next_start() {
    let docker = Docker::new();
    docker.run("job", false);
    docker.write("job", 1, "of yesterday");
    docker.stop("job", 0);
    let mut house = House::new(docker.socket(), &["job"], 100, &FilterSpec::default());
    house.listed().await;
    docker.start("job");
    docker.write("job", 1, "of today");
    assert_eq!(house.lines(1).await.last().unwrap(), "of today");
    house.end().await;
}

#[tokio::test]
async fn an_engine_that_goes_away_is_told_of_and_nothing_it_keeps_is_lost() {
    let docker = Docker::new();
    docker.run("web", false);
    let mut house = House::new(docker.socket(), &[".*"], 0, &FilterSpec::default());
    house.signal(Event::Added).await;
    docker.write("web", 1, "before");
    assert_eq!(house.lines(1).await, ["before"]);
    docker.down();
    assert!(house.signal(Event::Reconnecting).await.contains("is away"));
    docker.write("web", 1, "meanwhile");
    docker.run("new", false);
    docker.write("new", 1, "born meanwhile");
    docker.up();
    let mut lines = house.lines(2).await;
    lines.sort();
    assert_eq!(lines, ["born meanwhile", "meanwhile"]);
    house.end().await;
}

#[tokio::test]
async fn an_engine_that_was_never_there_is_told_of_and_the_source_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(nowhere(folder.path()), &[".*"], 0, &FilterSpec::default());
    assert!(house.signal(Event::Reconnecting).await.contains("check that it runs"));
    assert!(!*house.source.listed().borrow());
    house.end().await;
}

#[tokio::test]
async fn a_log_that_the_engine_will_not_give_is_told_of_once_with_its_reason() {
    let docker = Docker::new();
    docker.run("mute", false);
    docker.refuse("mute", Some(501));
    let mut house = House::new(docker.socket(), &["mute"], 0, &FilterSpec::default());
    let text = house.signal(Event::SourceError).await;
    assert!(text.contains("mute") && text.contains("does not support reading"), "{text}");
    house.listed().await;
    docker.refuse("mute", None);
    docker.write("mute", 1, "speaks");
    docker.write("mute", 1, "more");
    house.end().await;
}

#[tokio::test]
async fn lines_that_were_rotated_away_meanwhile_are_a_gap() {
    let docker = Docker::new();
    docker.run("web", false);
    let mut house = House::new(docker.socket(), &["web"], 0, &FilterSpec::default());
    house.signal(Event::Added).await;
    docker.write("web", 1, "seen");
    assert_eq!(house.lines(1).await, ["seen"]);
    docker.down();
    house.signal(Event::Reconnecting).await;
    docker.write("web", 1, "lost");
    docker.write("web", 1, "kept");
    docker.rotate("web", 1);
    docker.up();
    assert!(house.signal(Event::Gap).await.contains("rotated"));
    assert_eq!(house.lines(1).await, ["kept"]);
    house.end().await;
}

#[tokio::test]
async fn the_filter_keeps_what_is_wanted() {
    let docker = Docker::new();
    docker.run("web", false);
    let filter = FilterSpec { include: vec!["line".into()], exclude: vec!["1$".into()] };
    let mut house = House::new(docker.socket(), &["web"], 0, &filter);
    house.signal(Event::Added).await;
    for text in ["line 0", "line 1", "noise", "line 2"] {
        docker.write("web", 1, text);
    }
    assert_eq!(house.lines(2).await, ["line 0", "line 2"]);
    house.end().await;
}

/// Numbered lines of two writers, or of a terminal, some of them long, across a hundred cuts: each once.
async fn across_a_hundred_cuts(tty: bool, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let docker = Docker::new();
    docker.run("web", tty);
    let mut house = House::new(docker.socket(), &["web"], 0, &FilterSpec::default());
    house.signal(Event::Added).await;
    let (mut written, mut read) = (0, Vec::new());
    for _ in 0..100 {
        for _ in 0..random.random_range(1..30) {
            let padding = if random.random_ratio(1, 40) { random.random_range(0..60_000) } else { 0 };
            docker.write("web", random.random_range(1..=2), &format!("{written} {}", "x".repeat(padding)));
            written += 1;
        }
        // Sometimes before anything of it was read, sometimes after some or all.
        let wanted = random.random_range(0..=written - read.len());
        if wanted > 0 {
            read.extend(house.lines(wanted).await);
        }
        docker.cut();
    }
    if read.len() < written {
        read.extend(house.lines(written - read.len()).await);
    }
    docker.write("web", 1, "end");
    read.extend(house.lines(1).await);
    assert_eq!(read.pop().as_deref(), Some("end"), "and nothing came twice");
    let numbers: Vec<usize> = read.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
    house.end().await;
}

#[tokio::test]
async fn each_line_of_two_writers_comes_once_across_a_hundred_cuts() {
    across_a_hundred_cuts(false, 7).await;
}

#[tokio::test]
async fn each_line_of_a_terminal_comes_once_across_a_hundred_cuts() {
    across_a_hundred_cuts(true, 11).await;
}

fn origin() -> Arc<Origin> {
    Arc::new(Origin::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever pieces the bytes arrive in, the lines of each writer are those that it wrote, in the order of their ends.
    #[test]
    fn lines_of_writers_never_mix_however_frames_are_split(
        messages in proptest::collection::vec((1_u8..=2, "[a-z]{0,20}"), 1..40),
        at_a_time in 1_usize..64,
    ) {
        let mut expected = Vec::new();
        let mut bytes = Vec::new();
        for (number, (writer, text)) in messages.iter().enumerate() {
            let time = Time(number as i64 * 1000);
            let text = format!("{writer}{text}");
            expected.push((time, text.clone()));
            bytes.extend(framed(&Message { time, writer: *writer, text: format!("{text}\n").into_bytes() }, false));
        }
        let mut reader = LogReader::new(&origin(), false, LineLimit(1024));
        let mut lines = Vec::new();
        for piece in bytes.chunks(at_a_time) {
            if let Some(batch) = reader.push(piece).unwrap() {
                lines.extend(batch.lines().iter().map(|line| (line.time, String::from_utf8_lossy(batch.text(line)).into_owned())));
            }
        }
        prop_assert_eq!(lines, expected);
    }
}

#[test]
fn a_long_line_in_parts_of_one_writer_is_joined_around_the_lines_of_the_other() {
    let part = |time, writer, text: &[u8]| framed(&Message { time: Time(time), writer, text: text.to_vec() }, false);
    let long = vec![b'a'; 16 * 1024];
    let bytes = [part(1000, 1, &long), part(2000, 2, b"between\n"), part(1000, 1, b"end\n")].concat();
    let mut reader = LogReader::new(&origin(), false, LineLimit(64 * 1024));
    let batch = reader.push(&bytes).unwrap().unwrap();
    let lines: Vec<_> = batch.lines().iter().map(|line| (line.time, batch.text(line).len())).collect();
    assert_eq!(lines, [(Time(2000), 7), (Time(1000), 16 * 1024 + 3)]);
    assert!(reader.rest().is_none());
}

#[test]
fn a_frame_that_claims_four_gigabytes_holds_no_more_than_a_line() {
    let mut reader = LogReader::new(&origin(), false, LineLimit(1024));
    assert!(reader.push(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap().is_none());
    let mut truncated = 0;
    for _ in 0..1000 {
        let batch = reader.push(&[b'x'; 4096]).unwrap();
        truncated += batch.map_or(0, |batch| batch.lines().iter().filter(|line| line.truncated).count());
    }
    assert_eq!(truncated, 1, "cut off once, with a mark");
}

#[test]
fn what_is_no_frame_is_an_error_and_not_a_line() {
    let mut reader = LogReader::new(&origin(), false, LineLimit(1024));
    assert!(reader.push(b"2026-01-01T00:00:00Z text\n").is_err());
}
