//! What the core costs: cutting, reading times, encoding, publishing to readers, remembering for a resume.
//! `cargo bench --bench core`

use std::sync::Arc;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use weir::record::{Batch, Line, LineCutter, LineLimit, Origin, Time, TimeParser, Wire};
use weir::stream::{LiveStream, ReadFrom, Reader, RingLimits, Trail};

fn main() {
    divan::main();
}

const LINES: usize = 1_000;
const TEXT: &str =
    r#"GET /api/v1/carts/42 200 "Mozilla/5.0 (X11; Linux x86_64)" 12ms bytes=1830 trace=af31 ok ok ok ok"#;

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        namespace: "shop".into(),
        pod: "cart-7d9f5c6b4-x2x9z".into(),
        container: "web".into(),
        ..Origin::default()
    })
}

/// A batch of lines of 100 bytes, a microsecond apart, that begins at `start`.
fn batch(start: i64) -> Arc<Batch> {
    let data = TEXT.repeat(LINES);
    let line = |at: usize| {
        let range = at * TEXT.len()..(at + 1) * TEXT.len();
        Line::new(range, Time(start + at as i64 * 1_000), false)
    };
    let lines = (0..LINES).map(line).collect();
    Arc::new(Batch::new(origin(), Bytes::from(data), lines))
}

fn stamped() -> String {
    (0..LINES).map(|at| format!("2026-11-20T21:50:09.{:09}Z {TEXT}\n", at * 1_000)).collect()
}

#[divan::bench]
fn cut_lines(bencher: Bencher<'_, '_>) {
    let text = stamped();
    let mut cutter = LineCutter::new(LineLimit::default());
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        for chunk in text.as_bytes().chunks(16 * 1024) {
            cutter.push(chunk);
            black_box(cutter.cut());
        }
    });
}

#[divan::bench]
fn parse_times(bencher: Bencher<'_, '_>) {
    let text = stamped();
    let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let mut parser = TimeParser::default();
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        for line in &lines {
            black_box(parser.split(line));
        }
    });
}

#[divan::bench]
fn write_times(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(LINES * 30);
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        out.clear();
        for at in 0..LINES as i64 {
            Time(1_795_211_409_000_000_000 + at * 1_000).write_rfc3339(&mut out);
        }
        black_box(&out);
    });
}

#[divan::bench(args = [
    Wire::Channel4, Wire::Channel4Timed, Wire::Channel3, Wire::Channel3Timed, Wire::Classic, Wire::ClassicTimed, Wire::Json,
])]
fn encode(bencher: Bencher<'_, '_>, wire: Wire) {
    bencher.counter(ItemsCount::new(LINES)).with_inputs(|| batch(1_795_211_409_000_000_000)).bench_local_values(
        |batch| {
            black_box(batch.encoded(wire).len());
            batch
        },
    );
}

/// Batches of 40 lines, each published to a ring and read by every reader at once.
#[divan::bench(args = [0, 1, 10, 100])]
fn publish_and_read(bencher: Bencher<'_, '_>, readers: usize) {
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let mut readers: Vec<Reader> = (0..readers).map(|_| Reader::open(Arc::clone(&stream), ReadFrom::Now)).collect();
    let whole = batch(0);
    bencher.counter(ItemsCount::new(40usize)).with_inputs(|| whole.slice(0..40)).bench_local_values(|batch| {
        stream.publish(batch.unwrap_or_else(|| Arc::clone(&whole)));
        for reader in &mut readers {
            while let Some(delivery) = reader.try_next() {
                black_box(delivery);
            }
        }
    });
}

#[divan::bench]
fn trail_note(bencher: Bencher<'_, '_>) {
    let (mut trail, mut start) = (Trail::default(), 0);
    bencher
        .counter(ItemsCount::new(LINES))
        .with_inputs(|| {
            start += 1_000_000;
            batch(start)
        })
        .bench_local_values(|batch| trail.note(&batch));
}

/// A window over 16 batches, and one of them that comes again.
#[divan::bench]
fn trail_window(bencher: Bencher<'_, '_>) {
    let batches: Vec<_> = (0..16).map(|at| batch(at * 1_000_000)).collect();
    let mut trail = Trail::default();
    batches.iter().for_each(|batch| trail.note(batch));
    bencher.counter(ItemsCount::new(16 * LINES)).bench_local(|| {
        let mut window = trail.window();
        black_box(window.admit(&batches[15]))
    });
}
