//! What a reader is given, as frames: server-sent events or plain lines, many in one chunk.
//!
//! ```text
//! Events   id: <epoch>-<seq>\ndata: {record}\n\n        event: signal\n…        event: end\ndata: {"text":…}\n\n
//! Lines    {record}\n                                   {"signal":{…}}\n         {"end":{"text":…}}\n
//! ```

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::sse::Form;
use super::subscriptions::Sees;
use crate::record::encode::{push_str, signal_json};
use crate::record::{Batch, Event, Level, Signal, Time, Wire};
use crate::stream::{Delivery, ReadFrom, Seq};

/// What comes behind the epoch in the id of a place before the first record.
const START: &str = "start";

/// Why an id cannot be resumed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id cannot be understood; send back the last `id:` that was received, which is <epoch>-<number>")]
pub(super) struct BadId;

/// The place behind the record of this id.
///
/// # Errors
/// [`BadId`] where it is not an id that was given out.
pub(super) fn behind(id: &str) -> Result<ReadFrom, BadId> {
    let (epoch, seq) = id.split_once('-').ok_or(BadId)?;
    let seq = if seq == START { 0 } else { number(seq)?.checked_add(1).ok_or(BadId)? };
    Ok(ReadFrom::Seq { epoch: number(epoch)?, seq: Seq(seq) })
}

/// Digits and nothing else: `parse` alone would take a sign.
fn number(text: &str) -> Result<u64, BadId> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadId)
}

/// Gathers frames until someone takes them.
#[derive(Debug)]
pub(super) struct Frames {
    form: Form,
    epoch: u64,
    sees: Sees,
    out: BytesMut,
    records: u64,
}

impl Frames {
    /// Frames of the stream with this epoch.
    pub(super) fn new(form: Form, epoch: u64, sees: Sees) -> Self {
        Self { form, epoch, sees, out: BytesMut::new(), records: 0 }
    }

    /// From now on the reader sees more, or less.
    pub(super) fn show(&mut self, sees: Sees) {
        self.sees = sees;
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// How many records wait.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// All that waits, as one chunk.
    pub(super) fn take(&mut self) -> Bytes {
        self.records = 0;
        self.out.split().freeze()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.records = 0;
        self.out.clear();
    }

    /// Adds what a reader was given.
    pub(super) fn push(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Records { first, batch } if self.sees == Sees::Records => self.batch(*first, batch),
            Delivery::Records { .. } => {}
            Delivery::Signal { seq, signal } => self.signal(*seq, signal),
            Delivery::End(end) => self.end(&end.text),
        }
    }

    /// Tells the client, without an event, that it stands before the record `next`: whoever reconnects before the
    /// first record came goes on from here. Plain lines have no place for it.
    pub(super) fn place(&mut self, next: Seq) {
        if self.form == Form::Events {
            match next.0.checked_sub(1) {
                Some(last) => self.id(Some(Seq(last))),
                None => {
                    let _ = writeln!(self.out, "id: {}-{START}", self.epoch);
                }
            }
            self.out.put_u8(b'\n');
        }
    }

    /// Adds a signal.
    pub(super) fn signal(&mut self, seq: Option<Seq>, signal: &Signal) {
        self.named("signal", seq, &signal_json(signal));
    }

    /// Adds a signal that the stream's end has a reason beside it, and the end.
    pub(super) fn last_words(&mut self, now: Time, text: &str) {
        self.signal(None, &Signal::new(Level::Warning, Event::Ended, now, text));
        self.end(text);
    }

    /// Adds the end; nothing may follow.
    pub(super) fn end(&mut self, text: &str) {
        let mut object = Vec::with_capacity(text.len() + 16);
        object.extend_from_slice(br#"{"text":"#);
        push_str(&mut object, text);
        object.push(b'}');
        self.named("end", None, &object);
    }

    fn batch(&mut self, first: Option<Seq>, batch: &Batch) {
        self.records += batch.len() as u64;
        let encoded = batch.encoded(Wire::Json);
        for (index, message) in encoded.messages().enumerate() {
            if self.form == Form::Events {
                self.id(first.map(|first| Seq(first.0 + index as u64)));
                self.out.put_slice(b"data: ");
            }
            self.out.put_slice(&message);
            self.out.put_slice(if self.form == Form::Events { b"\n\n" } else { b"\n" });
        }
    }

    /// An event with a name. JSON has no line breaks, so it is one `data:` line.
    fn named(&mut self, name: &str, seq: Option<Seq>, object: &[u8]) {
        match self.form {
            Form::Events => {
                let _ = writeln!(self.out, "event: {name}");
                self.id(seq);
                self.out.put_slice(b"data: ");
                self.out.put_slice(object);
                self.out.put_slice(b"\n\n");
            }
            Form::Lines => {
                let _ = write!(self.out, "{{\"{name}\":");
                self.out.put_slice(object);
                self.out.put_slice(b"}\n");
            }
        }
    }

    fn id(&mut self, seq: Option<Seq>) {
        if let Some(Seq(seq)) = seq {
            // Writing to a buffer that grows cannot fail.
            let _ = writeln!(self.out, "id: {}-{seq}", self.epoch);
        }
    }
}
