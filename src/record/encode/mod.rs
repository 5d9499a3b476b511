//! The wire encoders: a batch becomes messages, once per format, shared by all readers.
//!
//! Formats of the session socket leave out the beginning of each message, because it names the reader's
//! instance; [`prefix`] makes that part.

mod json;
mod reading;

use bytes::Bytes;

use super::{Batch, Line, Signal};
pub use json::{push_str, push_text};
pub(super) use reading::reading;

/// What is put at the end of a line that lost its own.
pub const TRUNCATED: &str = "… [line truncated]";

/// The formats in which records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Wire {
    /// Session socket, channel-4: all lines of the batch in one message, each with `\n`.
    Channel4,
    /// Session socket, channel-4 with timestamps: a message a line.
    Channel4Timed,
    /// Session socket, channel-3: a message a line.
    Channel3,
    /// Session socket, channel-3 with timestamps: a message a line.
    Channel3Timed,
    /// Session socket, classic: a message a line.
    Classic,
    /// Session socket, classic with timestamps: a message a line.
    ClassicTimed,
    /// One JSON object a line, complete: SSE, `weir tail`.
    Json,
    /// The text of each line as a JSON string: Socket.IO.
    Text,
}

impl Wire {
    /// How many formats there are.
    pub const COUNT: usize = 8;

    /// Whether messages of this format begin with [`prefix`].
    pub fn has_prefix(self) -> bool {
        !matches!(self, Self::Json | Self::Text)
    }

    fn timed(self) -> bool {
        matches!(self, Self::Channel4Timed | Self::Channel3Timed | Self::ClassicTimed)
    }
}

/// The messages of one batch in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: Bytes,
    ends: Vec<u32>,
}

impl Encoded {
    /// The messages, in order. Each shares the batch's one encoding.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let message = self.bytes.slice(start..end as usize);
            start = end as usize;
            message
        })
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// The beginning of every session-socket message with a stream's data, up to where the shared part goes on: `channel` is
/// the channel or classic type.
pub fn prefix(wire: Wire, channel: &str, instance: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let (before, after): (&[u8], &[u8]) = match wire {
        Wire::Channel4 | Wire::Channel4Timed => {
            (br#"{"action":"none","flow":"unsolicited","type":"data","channel":"#, br#","instance":"#)
        }
        Wire::Channel3 | Wire::Channel3Timed => (br#"{"channel":"#, br#","type":"data","instance":"#),
        Wire::Classic | Wire::ClassicTimed => (br#"{"type":"#, br#","instance":"#),
        Wire::Json | Wire::Text => return out,
    };
    out.extend_from_slice(before);
    push_str(&mut out, channel);
    out.extend_from_slice(after);
    push_str(&mut out, instance);
    out
}

/// Encodes a batch. Called through [`Batch::encoded`], which keeps the result.
pub(super) fn batch(batch: &Batch, wire: Wire) -> Encoded {
    match wire {
        Wire::Channel4 => together(batch),
        Wire::Text => texts(batch),
        _ => line_by_line(batch, wire),
    }
}

/// All lines in one message.
fn together(batch: &Batch) -> Encoded {
    let mut out = Vec::with_capacity(batch.text_len() + batch.len() * 3 + 256);
    out.extend_from_slice(br#","msgtype":"logmessage""#);
    push_origin(&mut out, batch, "pod");
    out.extend_from_slice(br#","text":""#);
    for line in batch.lines() {
        push_line(&mut out, batch, line);
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\"}");
    let ends = vec![out.len() as u32];
    Encoded { bytes: out.into(), ends }
}

/// Each line's text by itself.
fn texts(batch: &Batch) -> Encoded {
    let mut out = Vec::with_capacity(batch.text_len() + batch.len() * 4);
    let mut ends = Vec::with_capacity(batch.len());
    for line in batch.lines() {
        out.push(b'"');
        push_line(&mut out, batch, line);
        out.push(b'"');
        ends.push(out.len() as u32);
    }
    Encoded { bytes: out.into(), ends }
}

/// One message a line. What is the same in all of them is made once.
fn line_by_line(batch: &Batch, wire: Wire) -> Encoded {
    let mut head = Vec::with_capacity(256);
    match wire {
        Wire::Channel4Timed => head.extend_from_slice(br#","msgtype":"logmessage""#),
        Wire::Json => head.push(b'{'),
        _ => {}
    }
    push_origin(&mut head, batch, if matches!(wire, Wire::Classic | Wire::ClassicTimed) { "podName" } else { "pod" });
    if wire == Wire::Json {
        head.remove(1); // the comma that joins the origin to a prefix
    }
    let mut out = Vec::with_capacity(batch.text_len() + batch.len() * (head.len() + 64));
    let mut ends = Vec::with_capacity(batch.len());
    for line in batch.lines() {
        out.extend_from_slice(&head);
        if wire == Wire::Json || wire.timed() {
            out.extend_from_slice(if wire == Wire::Json { br#","time":""# } else { br#","timestamp":""# });
            line.time.write_rfc3339(&mut out);
            out.push(b'"');
        }
        out.extend_from_slice(br#","text":""#);
        push_line(&mut out, batch, line);
        // A session line ends with a newline in channel-4 only.
        if wire == Wire::Channel4Timed {
            out.extend_from_slice(b"\\n");
        }
        out.push(b'"');
        if wire == Wire::Json {
            push_json_extras(&mut out, batch, line);
        }
        out.push(b'}');
        ends.push(out.len() as u32);
    }
    Encoded { bytes: out.into(), ends }
}

fn push_line(out: &mut Vec<u8>, batch: &Batch, line: &Line) {
    push_text(out, batch.text(line));
    if line.truncated {
        out.extend_from_slice(TRUNCATED.as_bytes());
    }
}

/// What JSON text cannot say: that the line was cut, and its bytes where they are not UTF-8.
fn push_json_extras(out: &mut Vec<u8>, batch: &Batch, line: &Line) {
    use base64::Engine;
    if line.truncated {
        out.extend_from_slice(br#","truncated":true"#);
    }
    let text = batch.text(line);
    if std::str::from_utf8(text).is_err() {
        out.extend_from_slice(br#","bytes":""#);
        out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(text).as_bytes());
        out.push(b'"');
    }
}

fn push_origin(out: &mut Vec<u8>, batch: &Batch, pod_key: &str) {
    let origin = batch.origin();
    for (key, value) in [("namespace", &origin.namespace), (pod_key, &origin.pod), ("container", &origin.container)] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        push_str(out, value);
    }
}

/// A signal as one complete JSON object, as SSE and `weir tail` carry it.
pub fn signal_json(signal: &Signal) -> Bytes {
    let mut out = Vec::with_capacity(192 + signal.text.len());
    out.extend_from_slice(br#"{"level":""#);
    out.extend_from_slice(signal.level.as_str().as_bytes());
    out.extend_from_slice(br#"","event":""#);
    out.extend_from_slice(signal.event.as_str().as_bytes());
    out.extend_from_slice(br#"","time":""#);
    signal.time.write_rfc3339(&mut out);
    out.push(b'"');
    if let Some(origin) = &signal.origin {
        for (key, value) in [("namespace", &origin.namespace), ("pod", &origin.pod), ("container", &origin.container)] {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            push_str(&mut out, value);
        }
    }
    push_details(&mut out, signal);
    out.extend_from_slice(br#","text":"#);
    push_str(&mut out, &signal.text);
    out.push(b'}');
    out.into()
}

/// What only some signals have: a reason, an exit code, the object of a Kubernetes Event and how often it happened.
fn push_details(out: &mut Vec<u8>, signal: &Signal) {
    if let Some(reason) = &signal.reason {
        out.extend_from_slice(br#","reason":"#);
        push_str(out, reason);
    }
    if let Some(code) = signal.exit_code {
        out.extend_from_slice(format!(r#","exitCode":{code}"#).as_bytes());
    }
    if let Some(object) = &signal.regarding {
        out.extend_from_slice(br#","regarding":{"kind":"#);
        push_str(out, &object.kind);
        out.extend_from_slice(br#","namespace":"#);
        push_str(out, &object.namespace);
        out.extend_from_slice(br#","name":"#);
        push_str(out, &object.name);
        out.push(b'}');
    }
    if let Some(count) = signal.count {
        out.extend_from_slice(format!(r#","count":{count}"#).as_bytes());
    }
}
