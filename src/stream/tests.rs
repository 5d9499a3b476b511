//! What a stream promises, against oracles that remember everything.

mod concurrency;
mod end;
mod join;
mod model;
mod resume;
mod rewind;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::{Batch, Event, Level, Line, Origin, Signal, Time};

/// A line as the tests see it.
type Seen = (Time, String);

fn origin() -> Arc<Origin> {
    Arc::new(Origin { namespace: "shop".into(), pod: "cart-0".into(), container: "web".into(), ..Default::default() })
}

fn batch_of(lines: &[Seen]) -> Arc<Batch> {
    let data: String = lines.iter().map(|(_, text)| text.as_str()).collect();
    let mut at = 0;
    let table = lines.iter().map(|(time, text)| {
        at += text.len();
        Line::new(at - text.len()..at, *time, false)
    });
    let table = table.collect();
    Arc::new(Batch::new(origin(), Bytes::from(data), table))
}

fn lines_of(batch: &Batch) -> Vec<Seen> {
    batch.lines().iter().map(|line| (line.time, String::from_utf8_lossy(batch.text(line)).into_owned())).collect()
}

fn some_signal(time: Time) -> Signal {
    Signal::new(Level::Info, Event::Added, time, "a container joined")
}

fn big_ring() -> Arc<LiveStream> {
    Arc::new(LiveStream::new(RingLimits { records: 1_000_000, bytes: 1 << 30, age: None }, 1))
}

/// Every line that a reader gives now, past and present; numbers must be those of `stream`'s items.
async fn drain(reader: &mut Reader, stream: &LiveStream) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let delivery = tokio::select! {
            biased;
            delivery = reader.next() => delivery,
            () = std::future::ready(()) => return seen,
        };
        let Delivery::Records { first, batch } = delivery else {
            continue;
        };
        let lines = lines_of(&batch);
        if let Some(first) = first {
            assert_eq!(numbered(stream, first, lines.len()), lines, "the numbers are those of the lines");
        }
        seen.extend(lines);
    }
}

/// The lines that the ring holds under these numbers.
fn numbered(stream: &LiveStream, first: Seq, count: usize) -> Vec<Seen> {
    let held = stream.snapshot();
    let numbered = held.iter().flat_map(|entry| match &entry.item {
        Item::Records(batch) => (entry.first.0..).zip(lines_of(batch)).collect::<Vec<_>>(),
        Item::Reading(_) | Item::Signal(_) => Vec::new(),
    });
    numbered.filter(|(seq, _)| (first.0..first.0 + count as u64).contains(seq)).map(|(_, line)| line).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// How the texts of a simulated log look.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Texts {
    Unique,
    Alike,
}

/// A log as a node keeps it, in the order of its file. `late` lines come from a second writer and
/// stand up to just under 100 ms after their time.
fn some_log(texts: Texts, late: i64, size: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Seen>> {
    let step = prop_oneof![4 => Just(0i64), 3 => 1..4i64, 3 => 1_000..1_000_000i64, 2 => 1_000_000..300_000_000i64];
    let late = prop_oneof![2 => Just(0i64), 1 => 0..=late];
    proptest::collection::vec((step, late), size).prop_map(move |steps| {
        let mut now = 1_700_000_000_000_000_000i64;
        let line = |(id, (step, late)): (usize, (i64, i64))| {
            now += step;
            let text = if texts == Texts::Unique { format!("line {id}") } else { "tick".into() };
            (Time(now - late), text)
        };
        steps.into_iter().enumerate().map(line).collect()
    })
}

/// The log cut into batches of the given sizes, over and over.
fn batches<'a>(mut lines: &'a [Seen], sizes: &'a [usize]) -> impl Iterator<Item = Arc<Batch>> + 'a {
    sizes.iter().cycle().map_while(move |size| {
        let (batch, rest) = lines.split_at((*size).min(lines.len()));
        lines = rest;
        (!batch.is_empty()).then(|| batch_of(batch))
    })
}

fn sorted(mut lines: Vec<Seen>) -> Vec<Seen> {
    lines.sort();
    lines
}
