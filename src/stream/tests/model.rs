//! The ring against a Vec that forgets nothing.

use super::*;
use crate::record::{Asset, Reading, ReadingHead};

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<i64>),
    Signal,
    Reading(usize),
    Join(Join),
    /// A reader, and how many deliveries it takes.
    Read(usize, usize),
}

#[derive(Clone, Copy, Debug)]
enum Join {
    Now,
    Oldest,
    Seq(u64),
    Time(i64),
}

fn some_op() -> impl Strategy<Value = Op> {
    let join = prop_oneof![
        Just(Join::Now),
        Just(Join::Oldest),
        (0..300u64).prop_map(Join::Seq),
        (0..3000i64).prop_map(Join::Time),
    ];
    prop_oneof![
        5 => proptest::collection::vec(0..60i64, 1..20).prop_map(Op::Publish),
        1 => Just(Op::Signal),
        1 => (0..4usize).prop_map(Op::Reading),
        2 => join.prop_map(Op::Join),
        5 => (0..8usize, 1..6usize).prop_map(|(reader, count)| Op::Read(reader, count)),
    ]
}

/// Everything that was ever published: `None` is a signal or reading.
#[derive(Default)]
struct Oracle {
    records: Vec<(Time, Option<String>)>,
    /// Of each item: its first number, how many it has, what it costs.
    items: Vec<(u64, u64, usize)>,
}

impl Oracle {
    fn next(&self) -> u64 {
        self.records.len() as u64
    }

    fn push(&mut self, records: impl IntoIterator<Item = (Time, Option<String>)>, cost: usize) {
        let first = self.next();
        self.records.extend(records);
        self.items.push((first, self.next() - first, cost));
    }

    /// The newest items that fit, and always the newest one: the number of the oldest, and the sums.
    fn held(&self, limits: RingLimits) -> (u64, u64, usize) {
        let (mut oldest, mut records, mut bytes) = (self.next(), 0, 0);
        for (index, (first, count, cost)) in self.items.iter().rev().enumerate() {
            if index > 0 && (records + count > limits.records || bytes + cost > limits.bytes) {
                break;
            }
            (oldest, records, bytes) = (*first, records + count, bytes + cost);
        }
        (oldest, records, bytes)
    }

    fn lines(&self, first: u64, count: usize) -> Vec<(Time, Option<String>)> {
        self.records[first as usize..first as usize + count].to_vec()
    }
}

/// A reader and what it must say next.
struct Follower {
    reader: Reader,
    at: u64,
    /// Up to where it has taken from the ring without having given it yet.
    taken: u64,
    missed: u64,
}

impl Follower {
    fn check_next(&mut self, oracle: &Oracle, limits: RingLimits) {
        let oldest = oracle.held(limits).0;
        let gap = (self.at == self.taken && self.at < oldest).then(|| oldest - self.at);
        if let Some(gap) = gap {
            self.missed += gap;
            (self.at, self.taken) = (oldest, oldest);
        } else if self.at == self.taken {
            self.taken = oracle.next();
        }
        match self.reader.try_next() {
            None => assert!(gap.is_none() && self.at == oracle.next(), "a reader is silent only when caught up"),
            Some(Delivery::Signal { seq: None, signal }) => {
                let gap = gap.expect("records are missing");
                assert_eq!(signal.event, Event::Gap);
                assert!(signal.text.starts_with(&format!("{gap} records")), "{} is not {gap}", signal.text);
            }
            Some(Delivery::Signal { seq: Some(seq), signal }) => {
                assert_eq!((seq.0, gap), (self.at, None));
                assert_eq!(oracle.lines(seq.0, 1), [(signal.time, None)]);
                self.at += 1;
            }
            Some(Delivery::Reading { seq, reading }) => {
                assert_eq!((seq.0, gap), (self.at, None));
                assert_eq!(oracle.lines(seq.0, 1), [(reading.time(), None)]);
                self.at += 1;
            }
            Some(Delivery::Records { first, batch }) => {
                assert_eq!((first, gap), (Some(Seq(self.at)), None));
                let lines: Vec<_> = lines_of(&batch).into_iter().map(|(time, text)| (time, Some(text))).collect();
                assert_eq!(oracle.lines(self.at, lines.len()), lines);
                self.at += lines.len() as u64;
            }
            Some(Delivery::End(end)) => panic!("nobody ended the stream: {end:?}"),
        }
        assert_eq!(self.reader.missed(), self.missed);
    }
}

fn some_reading(time: Time, assets: usize) -> Arc<Reading> {
    let head = ReadingHead { names: vec!["m".into()], ..ReadingHead::default() };
    let asset = |id| Asset { name: format!("pod-{id}"), values: vec![Some(id as f64)], ..Asset::default() };
    Arc::new(Reading::new(Arc::new(head), time, (0..assets).map(asset).collect()))
}

fn join(stream: &Arc<LiveStream>, oracle: &Oracle, limits: RingLimits, join: Join) -> Follower {
    let oldest = oracle.held(limits).0;
    let (from, at) = match join {
        Join::Now => (ReadFrom::Now, oracle.next()),
        Join::Oldest => (ReadFrom::Oldest, oldest),
        Join::Seq(seq) => (ReadFrom::Seq { epoch: stream.epoch(), seq: Seq(seq) }, seq.min(oracle.next())),
        Join::Time(time) => {
            let at = (oldest..oracle.next()).find(|&seq| oracle.records[seq as usize].0 >= Time(time));
            (ReadFrom::Time(Time(time)), at.unwrap_or(oracle.next()))
        }
    };
    Follower { reader: Reader::open(Arc::clone(stream), from), at, taken: at, missed: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_reader_gets_all_from_its_start_or_is_told_how_much_it_missed(
        ops in proptest::collection::vec(some_op(), 1..120),
        records in 1..200u64,
        bytes in 1..8_000usize,
    ) {
        let limits = RingLimits { records, bytes, age: None };
        let stream = Arc::new(LiveStream::new(limits, 7));
        let (mut oracle, mut followers) = (Oracle::default(), Vec::new());
        for op in ops {
            let now = oracle.next() as i64 * 10;
            match op {
                Op::Publish(late) => {
                    let line = |(i, late): (usize, i64)| (Time(now + i as i64 * 10 - late), format!("{now}+{i}"));
                    let lines: Vec<_> = late.into_iter().enumerate().map(line).collect();
                    let batch = batch_of(&lines);
                    oracle.push(lines.into_iter().map(|(time, text)| (time, Some(text))), batch.cost());
                    stream.publish(batch);
                }
                Op::Signal => {
                    let signal = some_signal(Time(now));
                    oracle.push([(signal.time, None)], size_of::<Signal>() + signal.text.len());
                    stream.signal(signal);
                }
                Op::Reading(assets) => {
                    let reading = some_reading(Time(now), assets);
                    oracle.push([(reading.time(), None)], reading.cost());
                    stream.publish_reading(reading);
                }
                Op::Join(from) => followers.push(join(&stream, &oracle, limits, from)),
                Op::Read(index, count) if !followers.is_empty() => {
                    let index = index % followers.len();
                    (0..count).for_each(|_| followers[index].check_next(&oracle, limits));
                }
                Op::Read(..) => {}
            }
            let (oldest, held, cost) = oracle.held(limits);
            prop_assert_eq!(stream.held(), (held, cost));
            prop_assert_eq!(stream.next_seq(), Seq(oracle.next()));
            let firsts: Vec<u64> = stream.snapshot().iter().map(|entry| entry.first.0).collect();
            let expected: Vec<u64> = oracle.items.iter().map(|item| item.0).filter(|&first| first >= oldest).collect();
            prop_assert_eq!(firsts, expected, "eviction takes the oldest and keeps the order");
            prop_assert_eq!(stream.readers(), followers.len());
        }
        for follower in &mut followers {
            while follower.at < oracle.next() {
                follower.check_next(&oracle, limits);
            }
            follower.check_next(&oracle, limits);
        }
        drop(followers);
        prop_assert_eq!(stream.readers(), 0);
    }
}

#[test]
fn a_time_finds_its_record_also_where_the_batch_ends_with_an_earlier_one() {
    let stream = big_ring();
    stream.publish(batch_of(&[(Time(5), "a".into()), (Time(10), "b".into()), (Time(8), "c".into())]));
    let mut reader = Reader::open(stream, ReadFrom::Time(Time(9)));
    let Some(Delivery::Records { first: Some(Seq(1)), batch }) = reader.try_next() else { panic!("the record at 10") };
    assert_eq!(lines_of(&batch).len(), 2);
}

#[test]
fn a_number_of_another_life_of_the_stream_is_answered_with_a_warning_and_the_oldest() {
    let stream = big_ring();
    stream.publish(batch_of(&[(Time(1), "a".into())]));
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Seq { epoch: 99, seq: Seq(40) });
    let Some(Delivery::Signal { seq: None, signal }) = reader.try_next() else { panic!("a warning first") };
    assert_eq!((signal.event, signal.level), (Event::Gap, Level::Warning));
    assert!(matches!(reader.try_next(), Some(Delivery::Records { first: Some(Seq(0)), .. })));
}

#[test]
fn a_reader_begins_with_no_record_older_than_the_history_may_be() {
    let limits = RingLimits { age: Some(std::time::Duration::from_secs(60)), ..RingLimits::default() };
    let stream = Arc::new(LiveStream::new(limits, 1));
    let ago = |seconds: i64| Time::now().plus_nanos(-seconds * 1_000_000_000);
    for seconds in [600, 61, 30, 1] {
        stream.publish(batch_of(&[(ago(seconds), seconds.to_string())]));
    }
    let mut reader = Reader::open(stream, ReadFrom::Oldest);
    let Some(Delivery::Records { first, batch }) = reader.try_next() else { panic!("records") };
    assert_eq!((first, batch.text(&batch.lines()[0])), (Some(Seq(2)), b"30".as_slice()));
}

#[test]
fn a_slow_reader_costs_no_memory_and_the_others_nothing() {
    let limits = RingLimits { records: 1000, bytes: 64 * 1024, age: None };
    let stream = Arc::new(LiveStream::new(limits, 1));
    let mut slow = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    let mut quick = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    let first = batch_of(&[(Time(0), "the first".into())]);
    let gone = Arc::downgrade(&first);
    stream.publish(first);
    let mut got = 0;
    for id in 0..10_000i64 {
        stream.publish(batch_of(&[(Time(id), format!("line {id}")), (Time(id), "and more".into())]));
        let (records, bytes) = stream.held();
        assert!(records <= limits.records && bytes <= limits.bytes);
        while let Some(Delivery::Records { batch, .. }) = quick.try_next() {
            got += batch.len();
        }
    }
    assert_eq!((got, quick.missed()), (20_001, 0));
    assert!(gone.upgrade().is_none(), "what no longer stands in the ring is freed");
    assert!(matches!(slow.try_next(), Some(Delivery::Signal { seq: None, .. })));
    assert_eq!(slow.missed(), 20_001 - stream.held().0);
}

#[test]
fn a_reader_of_a_limited_rate_gets_small_pieces_with_the_right_numbers() {
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    reader.deliver_at_most(Some(2));
    let lines: Vec<_> = (0..5).map(|id| (Time(id), id.to_string())).collect();
    stream.publish(batch_of(&lines));
    let mut got = Vec::new();
    while let Some(Delivery::Records { first: Some(first), batch }) = reader.try_next() {
        got.push((first.0, batch.lines().iter().map(|line| batch.text(line).to_vec()).collect::<Vec<_>>()));
    }
    let piece = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(got, [(0, piece(&["0", "1"])), (2, piece(&["2", "3"])), (4, piece(&["4"]))]);
}
