//! A reader whose client lost the end of what it was given: from a time on, everything comes again.

use futures::StreamExt;
use proptest::sample::Index;

use super::*;

/// All that was written until a moment, as a node keeps it.
#[derive(Debug)]
struct Kept(Vec<Seen>);

impl Backlog for Kept {
    fn fetch(&self, from: From) -> BacklogStream {
        let Start::At(time) = from.start else { panic!("asked from {from:?}") };
        let lines: Vec<Seen> = self.0.iter().filter(|line| line.0 >= time).cloned().collect();
        let items: Vec<_> = batches(&lines, &[7, 1]).map(BacklogItem::Records).collect();
        futures::stream::iter(items).boxed()
    }
}

fn publish(stream: &LiveStream, lines: &[Seen], sizes: &[usize]) {
    batches(lines, sizes).for_each(|batch| stream.publish(batch));
}

/// Gives the first `given` deliveries of `log[..lost]`, rewinds to the time of a line, and reads the rest of the log:
/// what was given first, from when on it comes again, and what comes.
fn rewound(
    log: &[Seen],
    (lost, time): (usize, Time),
    given: usize,
    sizes: &[usize],
    kept: bool,
) -> (Vec<Seen>, Vec<Seen>) {
    block_on(async {
        let stream = big_ring();
        let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
        publish(&stream, &log[..lost], sizes);
        let mut first = Vec::new();
        for _ in 0..given {
            match reader.try_next() {
                Some(Delivery::Records { batch, .. }) => first.extend(lines_of(&batch)),
                _ => break,
            }
        }
        let past = Kept(log[..lost].to_vec());
        reader.rewind(kept.then_some(&past as &dyn Backlog), time);
        publish(&stream, &log[lost..], sizes);
        let again = drain(&mut reader, &stream).await;
        assert_eq!((reader.missed(), reader.is_live()), (0, true));
        (first, again)
    })
}

fn count(lines: &[Seen], line: &Seen) -> usize {
    lines.iter().filter(|other| *other == line).count()
}

proptest! {
    #[test]
    fn what_is_no_older_comes_again_once_and_what_is_older_and_was_given_does_not(
        log in some_log(Texts::Unique, 99_999_999, 1..120),
        places in any::<(Index, Index)>(),
        given in 0..40usize,
        sizes in proptest::collection::vec(1..20usize, 1..6),
        kept in any::<bool>(),
    ) {
        let (lost, time) = (places.0.index(log.len() + 1), places.1.get(&log).0);
        let (first, again) = rewound(&log, (lost, time), given, &sizes, kept);
        for line in &log {
            let (before, came) = (count(&first, line), count(&again, line));
            match line.0 >= time {
                true => prop_assert_eq!(came, 1, "{:?}", line),
                false if before == 1 => prop_assert_eq!(came, 0, "{:?} came again", line),
                // Where the node is asked, what it has from before the time is not told from what was seen.
                false if kept => prop_assert!(came <= 1, "{:?} came twice", line),
                false => prop_assert_eq!(came, 1, "{:?} was never given", line),
            }
        }
    }
}

#[test]
fn what_a_container_wrote_that_is_gone_comes_again_from_the_ring() {
    let log: Vec<Seen> = (0..50).map(|id| (Time(id * 1_000_000_000), format!("line {id}"))).collect();
    block_on(async {
        let stream = big_ring();
        let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
        publish(&stream, &log, &[3]);
        drain(&mut reader, &stream).await;
        // The node has nothing of it any more.
        reader.rewind(Some(&Kept(Vec::new())), log[30].0);
        assert_eq!(drain(&mut reader, &stream).await, log[30..]);
        stream.end("over");
        assert!(matches!(reader.next().await, Delivery::End(_)), "the end comes again, too");
    });
}

#[test]
fn a_ring_that_no_longer_reaches_back_says_so() {
    let log: Vec<Seen> = (0..50).map(|id| (Time(id), format!("line {id}"))).collect();
    block_on(async {
        let stream = Arc::new(LiveStream::new(RingLimits { records: 10, ..RingLimits::default() }, 1));
        publish(&stream, &log, &[1]);
        for (time, told) in [(Time(30), true), (Time(40), true), (Time(41), false)] {
            let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
            drain(&mut reader, &stream).await;
            reader.rewind(None, time);
            let first = reader.next().await;
            let gap = matches!(&first, Delivery::Signal { seq: None, signal } if signal.event == Event::Gap);
            assert_eq!(gap, told, "{time:?}: {first:?}");
        }
    });
}
