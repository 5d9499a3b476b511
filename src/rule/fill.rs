//! How the message of a rule is filled in.

use regex::bytes::Captures;

use super::alert::{MESSAGE_BYTES, clip_bytes};
use crate::api::message::{Given, Message, Part};

/// What a message is filled in with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The record.
    pub(super) line: &'a [u8],
    /// The rule's name.
    pub(super) rule: &'a str,
    /// The stream's name.
    pub(super) stream: &'a str,
    /// Who wrote the record.
    pub(super) source: &'a str,
}

/// The message, of at most [`MESSAGE_BYTES`]. What was not captured is empty; bytes that are no text are shown as such.
pub(super) fn fill(message: &Message, facts: Facts<'_>, captures: Option<&Captures<'_>>) -> String {
    let mut out = String::new();
    for part in message.parts() {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Given(Given::Line) => push_bytes(&mut out, facts.line),
            Part::Given(Given::Rule) => out.push_str(facts.rule),
            Part::Given(Given::Stream) => out.push_str(facts.stream),
            Part::Given(Given::Source) => out.push_str(facts.source),
            Part::Capture(name) => {
                let found = captures.and_then(|captures| captures.name(name));
                push_bytes(&mut out, found.map_or(b"", |found| found.as_bytes()));
            }
        }
        if out.len() > MESSAGE_BYTES {
            break;
        }
    }
    clip_bytes(&out, MESSAGE_BYTES)
}

/// Appends bytes as text, of which no more is looked at than a message can hold.
fn push_bytes(out: &mut String, bytes: &[u8]) {
    let most = bytes.len().min(MESSAGE_BYTES + 1);
    out.push_str(&String::from_utf8_lossy(&bytes[..most]));
}
