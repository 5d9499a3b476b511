//! Where the past meets the present: every line once.

use futures::StreamExt;
use parking_lot::Mutex;
use proptest::sample::Index;

use super::*;

/// The past of a simulated log, as far as `reach` says when the first piece is pulled.
#[derive(Debug)]
struct LogPast {
    log: Vec<Seen>,
    reach: usize,
    sizes: Vec<usize>,
    asked: Mutex<Option<From>>,
}

impl LogPast {
    fn new(log: &[Seen], reach: usize, sizes: &[usize]) -> Self {
        Self { log: log.to_vec(), reach, sizes: sizes.to_vec(), asked: Mutex::default() }
    }

    fn lines(&self, from: From) -> Vec<Seen> {
        let begin = |line: &&Seen| !matches!(from.start, Start::At(time) if line.0 < time);
        let lines: Vec<Seen> = self.log[..self.reach].iter().filter(begin).cloned().collect();
        let newest = from.lines.map_or(lines.len(), |count| lines.len().min(count as usize));
        lines[lines.len() - newest..].to_vec()
    }
}

impl Backlog for LogPast {
    fn fetch(&self, from: From) -> BacklogStream {
        *self.asked.lock() = Some(from);
        let lines = self.lines(from);
        let items: Vec<_> = batches(&lines, &self.sizes).map(BacklogItem::Records).collect();
        futures::stream::iter(items).boxed()
    }
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    All,
    Newest(u64),
    Since(Index),
}

impl Wanted {
    fn of(self, log: &[Seen]) -> From {
        match self {
            Self::All => From { start: Start::Beginning, ..From::default() },
            Self::Newest(lines) => From { start: Start::Beginning, lines: Some(lines), ..From::default() },
            Self::Since(index) => From { start: Start::At(index.get(log).0), ..From::default() },
        }
    }
}

fn some_wish() -> impl Strategy<Value = Wanted> {
    prop_oneof![Just(Wanted::All), (0..80u64).prop_map(Wanted::Newest), any::<Index>().prop_map(Wanted::Since),]
}

/// Publishes `log[called..]` in batches, the first of them before the reader reads; reads all.
fn joined(log: &[Seen], called: usize, past: &LogPast, from: From, early: usize) -> Vec<Seen> {
    block_on(async {
        let stream = big_ring();
        batches(&log[..called], &past.sizes).for_each(|batch| stream.publish(batch));
        let mut reader = Reader::open_with_past(Arc::clone(&stream), past, from);
        assert!(!reader.is_live());
        let mut rest = batches(&log[called..], &past.sizes);
        rest.by_ref().take(early).for_each(|batch| stream.publish(batch));
        let mut seen = drain(&mut reader, &stream).await;
        for batch in rest {
            stream.publish(batch);
            seen.extend(drain(&mut reader, &stream).await);
        }
        assert!(reader.is_live());
        assert_eq!(reader.missed(), 0);
        seen
    })
}

/// The lines of `all` that are not among `known`.
fn without(all: &[Seen], known: &[Seen]) -> Vec<Seen> {
    let mut known = known.to_vec();
    // From the end: `known` reaches as far as `all` and may begin later.
    let mut rest: Vec<Seen> = all
        .iter()
        .rev()
        .filter(|line| match known.iter().rposition(|other| other == *line) {
            Some(at) => {
                known.remove(at);
                false
            }
            None => true,
        })
        .cloned()
        .collect();
    rest.reverse();
    rest
}

fn check(
    log: &[Seen],
    (a, b): (Index, Index),
    sizes: &[usize],
    wanted: Wanted,
    early: usize,
) -> Result<(), TestCaseError> {
    let (a, b) = (a.index(log.len() + 1), b.index(log.len() + 1));
    let (called, fetched) = (a.min(b), a.max(b));
    // A line written after the fetch was stamped after all that came before the call.
    prop_assume!(log[fetched..].iter().all(|line| !log[..called].contains(line)));
    let past = LogPast::new(log, fetched, sizes);
    let from = wanted.of(log);
    let seen = joined(log, called, &past, from, early);
    let given = past.lines(from);
    prop_assert!(seen.starts_with(&given), "the past comes first, in its order");
    let mut live = seen[given.len()..].to_vec();
    for line in &log[fetched..] {
        let at = live.iter().position(|seen| seen == line);
        prop_assert!(at.is_some(), "{line:?} is missing");
        live.remove(at.unwrap_or_default());
    }
    // What is older than the newest lines that were asked for may come or not, but once.
    let mut between = without(&log[called..fetched], &given);
    for line in live {
        let at = between.iter().position(|older| *older == line);
        prop_assert!(at.is_some(), "{line:?} came twice");
        between.remove(at.unwrap_or_default());
    }
    Ok(())
}

proptest! {
    #[test]
    fn past_and_present_join_without_loss_or_double(
        log in some_log(Texts::Unique, 99_999_999, 1..120),
        cuts in any::<(Index, Index)>(),
        sizes in proptest::collection::vec(1..20usize, 1..6),
        wanted in some_wish(),
        early in 0..10usize,
    ) {
        check(&log, cuts, &sizes, wanted, early)?;
    }

    #[test]
    fn lines_alike_are_told_apart_by_their_times_and_count(
        log in some_log(Texts::Alike, 99_999_999, 1..120),
        cuts in any::<(Index, Index)>(),
        sizes in proptest::collection::vec(1..20usize, 1..6),
        wanted in some_wish(),
        early in 0..10usize,
    ) {
        check(&log, cuts, &sizes, wanted, early)?;
    }
}

#[test]
fn a_past_longer_than_what_is_remembered_joins_exactly() {
    // 40,000 lines within 40 ms, three to a nanosecond: far more than the trail remembers line by line.
    let log: Vec<Seen> = (0..40_000i64).map(|id| (Time(id / 3 * 3_000), format!("line {id}"))).collect();
    let past = LogPast::new(&log, 39_000, &[1_000, 17, 401]);
    for called in [0, 20_000, 38_999, 39_000] {
        let seen = joined(&log, called, &past, Wanted::All.of(&log), 3);
        assert_eq!(seen, log, "called at {called}");
    }
}

#[test]
fn who_wants_no_past_asks_for_none() {
    let past = LogPast::new(&[(Time(1), "old".into())], 1, &[1]);
    let reader = Reader::open_with_past(big_ring(), &past, From::default());
    assert!(reader.is_live() && past.asked.lock().is_none());
}

#[test]
fn a_line_known_from_the_past_amid_new_ones_leaves_their_numbers_right() {
    let line = |nanos, text: &str| (Time(nanos), text.to_owned());
    let log = [line(100, "late"), line(200, "known"), line(300, "new")];
    let past = LogPast::new(&log, 2, &[5]);
    let from = From { start: Start::At(Time(150)), ..From::default() };
    // `drain` checks every number against the ring.
    let seen = joined(&log, 0, &past, from, 0);
    assert_eq!(sorted(seen), log);
    let stream = big_ring();
    let mut reader = Reader::open_with_past(Arc::clone(&stream), &past, from);
    stream.publish(batch_of(&log));
    assert_eq!(sorted(block_on(drain(&mut reader, &stream))), log);
}
