//! How records and signals stand in a log: a batch, or a piece of one, is one record of the log, and so is a signal.
//!
//! ```text
//!   batch  = 0 │ origin │ lines u32 │ (length u32 │ time in ns i64 │ cut u8)… │ their texts
//!   signal = 1 │ JSON
//!   origin = six texts, each length u32 │ UTF-8
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::record::{Batch, Event, Level, Line, Origin, Regarding, Signal, Time};
use crate::stream::Seq;
use crate::stream::segment::LONGEST_DATA;

/// A piece is ended when its lines take so much. Short ones cost checksums, long ones are read for one line.
const PIECE: usize = 256 * 1024;
/// The longest text of a line: what is beyond is cut off with a mark. Origins have names of Kubernetes or of hosts.
const LONGEST_LINE: usize = LONGEST_DATA - 64 * 1024;
/// What a line takes beside its text.
const LINE: usize = 13;

/// What is written as one record of a log.
#[derive(Clone, Debug)]
pub struct Piece {
    pub(super) data: Vec<u8>,
    pub(super) units: u32,
    /// The newest time in it, in milliseconds.
    pub(super) millis: i64,
    /// The number of what follows it in its stream.
    pub(super) end: Seq,
}

/// What was kept.
#[derive(Clone, Debug)]
pub enum Kept {
    /// Records.
    Records(Arc<Batch>),
    /// A signal.
    Signal(Arc<Signal>),
}

impl Piece {
    /// What it takes in memory, in bytes.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// How many records and signals are in it.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// A batch whose records have these numbers in their stream; where it has fewer, some of them were left out.
    pub fn of_batch(batch: &Arc<Batch>, numbers: Range<u64>) -> Vec<Self> {
        let whole = numbers.end - numbers.start == batch.len() as u64;
        let (mut pieces, mut start, mut size) = (Vec::new(), 0, 0);
        for (at, line) in batch.lines().iter().enumerate() {
            size += LINE + batch.text(line).len().min(LONGEST_LINE);
            let next = batch.lines().get(at + 1).map_or(0, |next| LINE + batch.text(next).len().min(LONGEST_LINE));
            if size >= PIECE || size + next > LONGEST_LINE || at + 1 == batch.len() {
                // Half a batch may be written: what is not is found in the ring.
                let end = match at + 1 {
                    count if count == batch.len() => numbers.end,
                    count if whole => numbers.start + count as u64,
                    _ => numbers.start,
                };
                pieces.push(Self::of_lines(batch, &batch.lines()[start..=at], Seq(end)));
                (start, size) = (at + 1, 0);
            }
        }
        pieces
    }

    fn of_lines(batch: &Batch, lines: &[Line], end: Seq) -> Self {
        let mut data = vec![0];
        let origin = batch.origin();
        let names =
            [&origin.namespace, &origin.pod, &origin.container, &origin.pod_uid, &origin.container_id, &origin.node];
        for name in names {
            number(&mut data, name.len());
            data.extend_from_slice(name.as_bytes());
        }
        number(&mut data, lines.len());
        let text = |line: &Line| -> (usize, bool) {
            let len = batch.text(line).len();
            (len.min(LONGEST_LINE), line.truncated || len > LONGEST_LINE)
        };
        for line in lines {
            let (len, cut) = text(line);
            number(&mut data, len);
            data.extend_from_slice(&line.time.0.to_le_bytes());
            data.push(u8::from(cut));
        }
        for line in lines {
            data.extend_from_slice(&batch.text(line)[..text(line).0]);
        }
        let millis = lines.iter().map(|line| line.time.millis()).max().unwrap_or_default();
        Self { data, units: u32::try_from(lines.len()).unwrap_or(u32::MAX), millis, end }
    }

    /// A signal before `end`.
    pub fn of_signal(signal: &Signal, end: Seq) -> Self {
        let stored = StoredSignal::of(signal);
        let mut data = vec![1];
        // Texts and numbers have a form in JSON.
        data.extend(serde_json::to_vec(&stored).unwrap_or_default());
        Self { data, units: 1, millis: signal.time.millis(), end }
    }
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// Whether a record of the log holds records, and no signal.
pub(super) fn is_batch(data: &[u8]) -> bool {
    data.first() == Some(&0)
}

/// What stands in a record of the log; `None` where it makes no sense.
pub(super) fn read(data: &Bytes) -> Option<Kept> {
    let (kind, body) = data.split_first()?;
    match kind {
        0 => read_batch(data, body).map(|batch| Kept::Records(Arc::new(batch))),
        1 => serde_json::from_slice::<StoredSignal>(body).ok().map(|stored| Kept::Signal(Arc::new(stored.signal()))),
        _ => None,
    }
}

fn read_batch(data: &Bytes, mut rest: &[u8]) -> Option<Batch> {
    let origin = Origin {
        namespace: take_text(&mut rest)?,
        pod: take_text(&mut rest)?,
        container: take_text(&mut rest)?,
        pod_uid: take_text(&mut rest)?,
        container_id: take_text(&mut rest)?,
        node: take_text(&mut rest)?,
    };
    let count = take_number(&mut rest)?;
    let (table, texts) = rest.split_at_checked(count.checked_mul(LINE)?)?;
    let (mut lines, mut at) = (Vec::with_capacity(count), 0);
    for entry in table.chunks_exact(LINE) {
        let (length, after) = entry.split_first_chunk()?;
        let (time, cut) = after.split_first_chunk()?;
        let end = at + usize::try_from(u32::from_le_bytes(*length)).ok()?;
        lines.push(Line::new(at..end, Time(i64::from_le_bytes(*time)), cut != [0]));
        at = end;
    }
    (at <= texts.len()).then(|| Batch::new(Arc::new(origin), data.slice_ref(texts), lines))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = take_number(rest)?;
    let bytes = *rest;
    let (text, after) = bytes.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let bytes = *rest;
    let (number, after) = bytes.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSignal {
    level: Level,
    event: Event,
    time: i64,
    origin: Option<[String; 6]>,
    text: String,
    reason: Option<String>,
    exit_code: Option<i32>,
    regarding: Option<[String; 3]>,
    count: Option<u32>,
}

impl StoredSignal {
    fn of(signal: &Signal) -> Self {
        let names = |origin: &Arc<Origin>| {
            let Origin { namespace, pod, container, pod_uid, container_id, node } = (**origin).clone();
            [namespace, pod, container, pod_uid, container_id, node]
        };
        Self {
            level: signal.level,
            event: signal.event,
            time: signal.time.0,
            origin: signal.origin.as_ref().map(names),
            text: signal.text.clone(),
            reason: signal.reason.clone(),
            exit_code: signal.exit_code,
            regarding: signal.regarding.clone().map(|object| [object.kind, object.namespace, object.name]),
            count: signal.count,
        }
    }

    fn signal(self) -> Signal {
        let origin = |[namespace, pod, container, pod_uid, container_id, node]: [String; 6]| {
            Arc::new(Origin { namespace, pod, container, pod_uid, container_id, node })
        };
        let regarding = |[kind, namespace, name]: [String; 3]| Regarding { kind, namespace, name };
        Signal {
            level: self.level,
            event: self.event,
            time: Time(self.time),
            origin: self.origin.map(origin),
            text: self.text,
            reason: self.reason,
            exit_code: self.exit_code,
            regarding: self.regarding.map(regarding),
            count: self.count,
        }
    }
}
