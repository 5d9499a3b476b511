//! The past on disk and the ring together, against a plain list of what was published, with crashes at every write.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use proptest::prelude::*;

use super::*;
use crate::record::{Batch, Event, Level, Line, Signal};
use crate::stream::segment::tests::crashing_disk::CrashingDisk;
use crate::stream::{Backlog as _, BacklogItem, Delivery, From, ReadFrom, Reader, RingLimits, Start};

/// A line that was published: whose, when, and what.
type Published = (u8, i64, Vec<u8>);

const KEEP: Retention = Retention { bytes: None, units: None, age: None };

fn origin(number: u8) -> Arc<Origin> {
    Arc::new(Origin { pod: format!("cart-{number}"), container: "main".into(), ..Origin::default() })
}

fn batch(lines: &[Published]) -> Arc<Batch> {
    let (mut data, mut table) = (Vec::new(), Vec::new());
    for (_, time, text) in lines {
        let start = data.len();
        data.extend_from_slice(text);
        table.push(Line::new(start..data.len(), Time(*time), false));
    }
    Arc::new(Batch::new(origin(lines[0].0), data.into(), table))
}

/// One life of a process that writes a stream to a disk.
struct Life {
    stream: Arc<LiveStream>,
    archive: Arc<Archive>,
    log: ArchiveLog,
    reader: Reader,
    pieces: VecDeque<Piece>,
    next: u64,
}

impl Life {
    fn begin(disk: &CrashingDisk, ring: RingLimits) -> Self {
        let stream = Arc::new(LiveStream::new(ring, 1));
        let (archive, opening) = Archive::new(Arc::clone(&stream), TaskTracker::new());
        let folder = PathBuf::from("/archive");
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (log, ..) =
            ArchiveLog::open(disk, &folder, KEEP, DiskBudget::new(1 << 40, "full"), &opening, Seq(0)).unwrap();
        let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
        Self { stream, archive, log, reader, pieces: VecDeque::new(), next: 0 }
    }

    /// Gathers what was published, and writes it.
    fn write(&mut self) -> io::Result<()> {
        while let Some(delivery) = self.reader.try_next() {
            match delivery {
                Delivery::Records { first: Some(first), batch } => {
                    self.next = first.0 + batch.len() as u64;
                    self.pieces.extend(Piece::of_batch(&batch, first.0..self.next));
                }
                Delivery::Signal { signal, seq } => {
                    self.next = seq.map_or(self.next, |seq| seq.0 + 1);
                    self.pieces.push_back(Piece::of_signal(&signal, Seq(self.next)));
                }
                _ => {}
            }
        }
        self.log.write(&mut self.pieces)
    }

    /// All lines that a reader is given from there, the past first.
    async fn read(&self, from: From) -> Vec<Published> {
        let mut reader = Reader::open_with_past(Arc::clone(&self.stream), self.archive.as_ref(), from);
        // What is live comes after the past, so with this all has come.
        let end = format!("the end of read {}", self.stream.next_seq().0);
        self.stream.signal(Signal::new(Level::Info, Event::Ended, Time(0), end.clone()));
        let mut read = Vec::new();
        loop {
            match reader.next().await {
                Delivery::Records { batch, .. } => {
                    let who = batch.origin().pod.trim_start_matches("cart-").parse().unwrap();
                    read.extend(batch.lines().iter().map(|line| (who, line.time.0, batch.text(line).to_vec())));
                }
                Delivery::Signal { signal, .. } if signal.text == end && reader.is_live() => return read,
                _ => {}
            }
        }
    }
}

fn beginning() -> From {
    From { start: Start::Beginning, ..From::default() }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What is done to a stream and its disk.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8, Vec<Vec<u8>>),
    Signal,
    Write,
    Sync,
    /// The disk has so little room.
    Full(usize),
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop::collection::vec(any::<u8>(), 0..30);
    prop_oneof![
        6 => (0..3_u8, prop::collection::vec(text, 1..8)).prop_map(|(who, texts)| Step::Publish(who, texts)),
        1 => Just(Step::Signal),
        3 => Just(Step::Write),
        1 => Just(Step::Sync),
        1 => (0..200_usize).prop_map(Step::Full),
        1 => (0..300_usize).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_past_is_what_was_written_then_what_the_ring_holds_each_line_once_across_crashes_and_full_disks(
        steps in prop::collection::vec(step(), 1..40),
        lines in 0..10_u64,
        back in 0..60_i64,
    ) {
        run(async {
            let disk = CrashingDisk::default();
            let mut life = Life::begin(&disk, RingLimits::default());
            // What earlier lives left on disk, what this one published, and how much of that is durable at least.
            let (mut kept, mut published, mut durable, mut time): (Vec<Published>, Vec<Published>, usize, i64) =
                Default::default();
            let mut written = 0;
            for step in steps {
                match step {
                    Step::Publish(who, texts) => {
                        let mut lines = Vec::new();
                        for text in texts {
                            time += 1_000_000_000;
                            lines.push((who, time, text));
                        }
                        life.stream.publish(batch(&lines));
                        published.extend(lines);
                    }
                    Step::Signal => {
                        life.stream.signal(Signal::new(Level::Info, Event::Added, Time(time), "hello").exit_code(3));
                    }
                    Step::Write => {
                        if life.write().is_ok() {
                            written = published.len();
                        }
                        disk.leave_room(None);
                    }
                    Step::Sync => {
                        if life.log.sync().is_ok() {
                            durable = written;
                        }
                    }
                    Step::Full(bytes) => disk.leave_room(Some(bytes)),
                    Step::Crash(torn) => {
                        drop(life);
                        disk.crash(|lost| lost.min(torn));
                        life = Life::begin(&disk, RingLimits::default());
                        let found = life.read(beginning()).await;
                        let all: Vec<_> = kept.iter().chain(&published).cloned().collect();
                        prop_assert!(found.len() >= kept.len() + durable, "what was durable is lost");
                        prop_assert!(all.starts_with(&found), "what is there was not written so");
                        (kept, published, durable, written) = (found, Vec::new(), 0, 0);
                    }
                }
                let all: Vec<_> = kept.iter().chain(&published).cloned().collect();
                prop_assert_eq!(&life.read(beginning()).await, &all);
                let since = Time(time - back * 1_000_000_000);
                let young: Vec<_> = all.iter().filter(|line| line.1 >= since.0).cloned().collect();
                let found = life.read(From { start: Start::At(since), ..From::default() }).await;
                prop_assert_eq!(&found, &young);
                let newest = |who: u8| {
                    let of: Vec<_> = all.iter().filter(|line| line.0 == who).cloned().collect();
                    of[of.len().saturating_sub(lines as usize)..].to_vec()
                };
                let found = life.read(From { lines: Some(lines), ..beginning() }).await;
                let last = all.last().map(|line| line.0);
                for who in 0..3 {
                    let of: Vec<_> = found.iter().filter(|line| line.0 == who).cloned().collect();
                    // One that wrote nothing for long is not looked for.
                    prop_assert!(of == newest(who) || (of.is_empty() && last != Some(who)), "{who}: {of:?}");
                }
            }
            Ok(())
        })?;
    }
}

/// Writes lines of one batch each to a log of several segments, all of which it keeps, and opens it again.
fn tail_of(written: &[Published]) -> Tail {
    let (disk, folder): (Arc<dyn Disk>, _) = (Arc::new(CrashingDisk::default()), PathBuf::from("/archive"));
    // A line and a signal each: none is given up, and an eighth of them is a segment.
    let keep = Retention { units: Some(written.len().max(80) as u64 * 2), ..KEEP };
    let open = |keep| {
        let (_archive, opening) = Archive::new(Arc::new(LiveStream::new(RingLimits::default(), 1)), TaskTracker::new());
        ArchiveLog::open(Arc::clone(&disk), &folder, keep, DiskBudget::new(1 << 40, "full"), &opening, Seq(0)).unwrap()
    };
    let mut log = open(keep).0;
    for line in written {
        log.write(&mut Piece::of_batch(&batch(std::slice::from_ref(line)), 0..1).into()).unwrap();
        // Signals are no lines: how late they are says nothing of what may come again.
        let signal = Signal::new(Level::Info, Event::Added, Time(line.1).plus_nanos(1000 * LOOK_BACK), "hello");
        log.write(&mut [Piece::of_signal(&signal, Seq(1))].into()).unwrap();
    }
    drop(log);
    open(keep).1
}

proptest! {
    /// However old most of a log is, how its origins take turns, and where its segments end.
    #[test]
    fn the_lines_that_a_log_ends_with_are_known_when_they_come_again_and_others_are_new(
        steps in prop::collection::vec((0..4_u8, prop::sample::select(vec![0, 1, 60_000_000, 900_000_000, 20 * LOOK_BACK / 60, LOOK_BACK])), 1..60),
    ) {
        let (mut written, mut time): (Vec<Published>, _) = (Vec::new(), 5 * LOOK_BACK);
        for (number, (who, later)) in steps.into_iter().enumerate() {
            time += later;
            written.push((who, time, number.to_string().into_bytes()));
        }
        let tail = tail_of(&written);
        let since = Time(time - LOOK_BACK);
        prop_assert_eq!(tail.ask_from(), Some(since));
        let mut windows = tail.windows();
        let mut is_new = |who, time, text: &[u8]| windows.get_mut(&origin(who)).is_none_or(|window| window.is_new(time, text));
        for (who, time, text) in &written {
            if *time >= since.0 {
                prop_assert!(!is_new(*who, Time(*time), text), "{who} at {time} is kept");
            }
        }
        for who in 0..4 {
            prop_assert!(is_new(who, Time(time + 1), b"later"));
        }
    }
}

#[test]
fn what_is_too_old_to_come_again_is_not_looked_at_and_a_late_line_is_new_all_the_same() {
    let second = 1_000_000_000;
    let young = 1000 * second;
    let mut written: Vec<Published> = (0..200).map(|number| (0, number * second, b"old".to_vec())).collect();
    written.push((2, 200 * second, b"first".to_vec()));
    written.push((1, young - 50 * second, b"a".to_vec()));
    written.push((2, young, b"b".to_vec()));
    let tail = tail_of(&written);
    let mut seen: Vec<_> = tail.trails.keys().map(|origin| origin.pod.clone()).collect();
    seen.sort();
    assert_eq!(seen, ["cart-1", "cart-2"]);
    let mut windows = tail.windows();
    let window = windows.get_mut(&origin(2)).unwrap();
    let late = Time(young - second / 20);
    assert!(window.is_new(late, b"late"), "its first line in the end of the log is not its first");
    assert!(!window.is_new(Time(young), b"b"));
}

#[test]
fn a_signal_comes_back_as_it_was() {
    run(async {
        let disk = CrashingDisk::default();
        let mut life = Life::begin(&disk, RingLimits::default());
        let signal = Signal::new(Level::Error, Event::OomKilled, Time(5), "killed \u{2603}")
            .about(&origin(1))
            .because("OOMKilled")
            .exit_code(137)
            .regarding(crate::record::Regarding { kind: "Pod".into(), namespace: "a".into(), name: "b".into() }, 2);
        life.stream.signal(signal.clone());
        life.write().unwrap();
        life.log.sync().unwrap();
        drop(life);
        let life = Life::begin(&disk, RingLimits::default());
        let items: Vec<_> = life.archive.fetch(beginning()).collect().await;
        let [BacklogItem::Signal(found)] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!(**found, signal);
    });
}

#[test]
fn the_past_reaches_further_back_than_the_ring_and_a_disk_that_is_behind_leaves_a_gap_that_is_told() {
    run(async {
        let disk = CrashingDisk::default();
        let mut life = Life::begin(&disk, RingLimits { records: 10, ..RingLimits::default() });
        for number in 0..100_i64 {
            life.stream.publish(batch(&[(1, number, b"x".to_vec())]));
            if number < 50 {
                life.write().unwrap();
            }
        }
        // The ends of reading take places in the ring, too.
        let check = |found: Vec<Published>| {
            let times: Vec<_> = found.into_iter().map(|line| line.1).collect();
            let young = *times.get(50).unwrap();
            assert!((90..97).contains(&young), "{times:?}");
            assert_eq!(times, (0..50).chain(young..100).collect::<Vec<_>>());
        };
        check(life.read(beginning()).await);
        let items: Vec<_> = life.archive.fetch(beginning()).collect().await;
        let gaps =
            items.iter().filter(|item| matches!(item, BacklogItem::Signal(signal) if signal.event == Event::Gap));
        assert_eq!(gaps.count(), 1);
        life.write().unwrap();
        check(life.read(beginning()).await);
    });
}

#[test]
fn a_line_of_any_length_and_a_batch_of_any_size_fit() {
    let long = vec![b'x'; 2 * 1024 * 1024];
    let lines: Vec<Published> =
        [vec![(1, 1, long)], (0..50_000).map(|n| (1, n, n.to_string().into_bytes())).collect()].concat();
    let batch = batch(&lines);
    let pieces = Piece::of_batch(&batch, 7..7 + batch.len() as u64);
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.size() <= crate::stream::segment::LONGEST_DATA));
    let mut read = Vec::new();
    for piece in &pieces {
        let Some(Kept::Records(batch)) = format::read(&piece.data.clone().into()) else { panic!("a batch") };
        read.extend(batch.lines().iter().map(|line| (batch.text(line).to_vec(), line.truncated)));
    }
    assert_eq!(read.len(), lines.len());
    assert!(read[0].1 && lines[0].2.starts_with(&read[0].0) && !read[1].1);
    assert!(read[1..].iter().zip(&lines[1..]).all(|(read, line)| read.0 == line.2));
    assert_eq!(pieces.last().unwrap().end, Seq(7 + batch.len() as u64));
}
