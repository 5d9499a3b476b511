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
use crate::record::{Encoded, Event, Level, Signal, Time, Wire};
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
            Delivery::Records { first, batch } if self.sees == Sees::Records => {
                self.add(*first, batch.len(), batch.encoded(Wire::Json));
            }
            Delivery::Reading { seq, reading } if self.sees == Sees::Records => {
                self.add(Some(*seq), 1, reading.encoded(Wire::Json));
            }
            Delivery::Records { .. } | Delivery::Reading { .. } => {}
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

    fn add(&mut self, first: Option<Seq>, records: usize, encoded: &Encoded) {
        self.records += records as u64;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, Line, Origin};
    use crate::stream::StreamEnd;
    use rstest::rstest;
    use std::sync::Arc;

    const RECORD: &str =
        r#"{"namespace":"a","pod":"b","container":"c","time":"1970-01-01T00:00:00.000000001Z","text":""#;
    const SIGNAL: &str =
        r#"{"level":"warning","event":"ended","time":"1970-01-01T00:00:00.000000001Z","text":"why \"so\"\n"}"#;

    fn batch(first: Option<u64>, text: &'static str) -> Delivery {
        let origin = Origin { namespace: "a".into(), pod: "b".into(), container: "c".into(), ..Origin::default() };
        let lines = (0..text.len()).map(|at| Line::new(at..at + 1, Time(1), false)).collect();
        let batch = Arc::new(Batch::new(Arc::new(origin), Bytes::from_static(text.as_bytes()), lines));
        Delivery::Records { first: first.map(Seq), batch }
    }

    fn signal(seq: Option<u64>) -> Delivery {
        let signal = Signal::new(Level::Warning, Event::Ended, Time(1), "why \"so\"\n");
        Delivery::Signal { seq: seq.map(Seq), signal: Arc::new(signal) }
    }

    fn end() -> Delivery {
        Delivery::End(Arc::new(StreamEnd { text: "why \"so\"\n".into() }))
    }

    fn framed(form: Form, sees: Sees, deliveries: &[Delivery]) -> String {
        let mut frames = Frames::new(form, 7, sees);
        deliveries.iter().for_each(|delivery| frames.push(delivery));
        String::from_utf8(frames.take().to_vec()).unwrap()
    }

    #[rstest]
    #[case::live(&[batch(Some(9), "xy")], format!("id: 7-9\ndata: {RECORD}x\"}}\n\nid: 7-10\ndata: {RECORD}y\"}}\n\n"),
        format!("{RECORD}x\"}}\n{RECORD}y\"}}\n"))]
    #[case::past(&[batch(None, "x")], format!("data: {RECORD}x\"}}\n\n"), format!("{RECORD}x\"}}\n"))]
    #[case::control(&[batch(None, "\r")], format!("data: {RECORD}\\r\"}}\n\n"), format!("{RECORD}\\r\"}}\n"))]
    #[case::signal(&[signal(Some(3))], format!("event: signal\nid: 7-3\ndata: {}\n\n", SIGNAL),
        format!("{{\"signal\":{}}}\n", SIGNAL))]
    #[case::own_signal(&[signal(None)], format!("event: signal\ndata: {}\n\n", SIGNAL),
        format!("{{\"signal\":{}}}\n", SIGNAL))]
    #[case::end(&[end()], "event: end\ndata: {\"text\":\"why \\\"so\\\"\\n\"}\n\n".to_owned(),
        "{\"end\":{\"text\":\"why \\\"so\\\"\\n\"}}\n".to_owned())]
    fn deliveries_become_frames(#[case] deliveries: &[Delivery], #[case] events: String, #[case] lines: String) {
        assert_eq!(framed(Form::Events, Sees::Records, deliveries), events);
        assert_eq!(framed(Form::Lines, Sees::Records, deliveries), lines);
    }

    #[test]
    fn who_sees_signals_only_gets_no_record() {
        let mixed = [batch(Some(0), "x"), signal(Some(1)), end()];
        let seen = framed(Form::Lines, Sees::Signals, &mixed);
        assert_eq!(seen.lines().count(), 2);
        assert!(!seen.contains("\"pod\""), "{seen}");
    }

    #[test]
    fn records_are_counted_until_they_are_taken_or_forgotten() {
        let mut frames = Frames::new(Form::Events, 7, Sees::Records);
        frames.push(&batch(None, "xyz"));
        assert_eq!(frames.records(), 3);
        frames.clear();
        assert_eq!((frames.records(), frames.len()), (0, 0));
        frames.push(&batch(None, "x"));
        let _ = frames.take();
        assert_eq!((frames.records(), frames.len()), (0, 0));
    }

    #[rstest]
    #[case(0, "id: 7-start\n\n", 0)]
    #[case(5, "id: 7-4\n\n", 5)]
    fn a_place_is_an_id_that_is_resumed_from(#[case] next: u64, #[case] expected: &str, #[case] seq: u64) {
        let mut frames = Frames::new(Form::Events, 7, Sees::Records);
        frames.place(Seq(next));
        let frame = frames.take();
        assert_eq!(frame, expected);
        let id = expected.trim_end().strip_prefix("id: ").unwrap();
        assert_eq!(behind(id), Ok(ReadFrom::Seq { epoch: 7, seq: Seq(seq) }));
        let mut lines = Frames::new(Form::Lines, 7, Sees::Records);
        lines.place(Seq(next));
        assert_eq!(lines.len(), 0);
    }

    #[rstest]
    #[case("")]
    #[case("7")]
    #[case("7-")]
    #[case("-7")]
    #[case("7--7")]
    #[case("7-+7")]
    #[case("+7-7")]
    #[case("7-7-7")]
    #[case("7-x")]
    #[case("7-7 ")]
    #[case("18446744073709551616-0")]
    #[case("7-18446744073709551615")]
    fn other_ids_are_refused(#[case] id: &str) {
        assert_eq!(behind(id), Err(BadId));
    }
}
