//! Packets of Socket.IO 5, as they stand in a message of Engine.IO
//! (<https://github.com/socketio/socket.io-protocol>):
//!
//! ```text
//!   type [attachments "-"] [namespace ","] [ack id] [JSON]        2/logs/a,7["data","line"]
//! ```

use serde_json::Value;

use crate::record::encode::push_str;

/// Longest namespace that is read, in bytes: two names of Kubernetes, a container's id, and what is between.
const MOST_NAMESPACE: usize = 1024;
/// Attachments of a binary packet that are read; nothing here wants any.
const MOST_ATTACHMENTS: u32 = 16;
/// The namespace of a packet that names none.
const ROOT: &str = "/";

/// Why a message is no packet. The session is closed, as the protocol wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A packet of a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Packet<'a> {
    /// The namespace that it is for.
    pub(super) namespace: &'a str,
    pub(super) body: Body,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// The client wants into the namespace, with what it presents.
    Connect(Option<Value>),
    /// The client leaves the namespace.
    Disconnect,
    /// An event.
    Event(EventPacket),
    /// The answer to an event of the server, which never asks for one.
    Ack,
}

/// An event: its name, what comes with it, and by which number it is answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EventPacket {
    pub(super) name: String,
    pub(super) arguments: Vec<Value>,
    pub(super) ack: Option<u64>,
    /// Binary frames that belong to it and follow.
    pub(super) attachments: u32,
}

impl<'a> Packet<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] where it is no packet that a client may send.
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let kind = text.as_bytes().first().copied().ok_or(Malformed)?;
        // The type is ASCII where it is one of these, so the cut is at a character.
        let rest = text.get(1..).ok_or(Malformed)?;
        let (attachments, rest) = match kind {
            b'5' | b'6' => attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest)?;
        let body = match kind {
            b'0' => Body::Connect(optional_json(rest)?.map(object).transpose()?),
            b'1' if rest.is_empty() => Body::Disconnect,
            b'2' | b'5' => Body::Event(event(rest, attachments)?),
            b'3' | b'6' => {
                let (ack, rest) = number(rest)?;
                let Value::Array(_) = json(rest)? else { return Err(Malformed) };
                ack.map(|_| Body::Ack).ok_or(Malformed)?
            }
            _ => return Err(Malformed),
        };
        // Attachments of an answer would be waited for, and no answer is.
        if kind == b'6' {
            return Err(Malformed);
        }
        Ok(Self { namespace, body })
    }
}

/// `N-` before a binary packet.
fn attachments(text: &str) -> Result<(u32, &str), Malformed> {
    let (count, rest) = text.split_once('-').ok_or(Malformed)?;
    let count = digits(count)?.try_into().map_err(|_| Malformed)?;
    if count > MOST_ATTACHMENTS { Err(Malformed) } else { Ok((count, rest)) }
}

fn namespace(text: &str) -> Result<(&str, &str), Malformed> {
    if !text.starts_with('/') {
        return Ok((ROOT, text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace.len() > MOST_NAMESPACE { Err(Malformed) } else { Ok((namespace, rest)) }
}

/// The number at the front, where there is one.
fn number(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (front, rest) = text.split_at(end);
    Ok((if front.is_empty() { None } else { Some(digits(front)?) }, rest))
}

/// Digits and nothing else; at most those of the largest whole number that JavaScript tells from its neighbours.
fn digits(text: &str) -> Result<u64, Malformed> {
    const MOST: u64 = (1 << 53) - 1;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    text.parse().ok().filter(|number| *number <= MOST).ok_or(Malformed)
}

fn event(text: &str, attachments: u32) -> Result<EventPacket, Malformed> {
    let (ack, rest) = number(text)?;
    let Value::Array(mut arguments) = json(rest)? else { return Err(Malformed) };
    if arguments.is_empty() {
        return Err(Malformed);
    }
    match arguments.remove(0) {
        Value::String(name) => Ok(EventPacket { name, arguments, ack, attachments }),
        // The protocol lets events be named by numbers, too.
        Value::Number(number) => Ok(EventPacket { name: number.to_string(), arguments, ack, attachments }),
        _ => Err(Malformed),
    }
}

fn json(text: &str) -> Result<Value, Malformed> {
    serde_json::from_str(text).map_err(|_| Malformed)
}

fn optional_json(text: &str) -> Result<Option<Value>, Malformed> {
    if text.is_empty() { Ok(None) } else { json(text).map(Some) }
}

fn object(value: Value) -> Result<Value, Malformed> {
    if value.is_object() { Ok(value) } else { Err(Malformed) }
}

/// The beginning of a packet of a type for a namespace.
fn head(kind: char, namespace: &str) -> String {
    let mut out = String::with_capacity(namespace.len() + 64);
    out.push(kind);
    if namespace != ROOT {
        out.push_str(namespace);
        out.push(',');
    }
    out
}

/// Tells a client that it is in the namespace.
pub(super) fn connected(namespace: &str, sid: &str) -> String {
    head('0', namespace) + &serde_json::json!({ "sid": sid }).to_string()
}

/// Tells a client why it is not let into the namespace.
pub(super) fn refused(namespace: &str, why: &str) -> String {
    head('4', namespace) + &serde_json::json!({ "message": why }).to_string()
}

/// Tells a client that it is in the namespace no more.
pub(super) fn disconnected(namespace: &str) -> String {
    head('1', namespace)
}

/// Answers an event.
pub(super) fn ack(namespace: &str, number: u64, answer: &Value) -> String {
    format!("{}{number}[{answer}]", head('3', namespace))
}

/// Makes the events of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Events {
    head: String,
    envelope: bool,
}

impl Events {
    /// Events for a namespace; with `envelope` each payload is wrapped as `{"payload":…}`.
    pub(super) fn new(namespace: &str, envelope: bool) -> Self {
        Self { head: head('2', namespace), envelope }
    }

    /// An event with a payload that is JSON already, and a second argument, also JSON, where there is one.
    pub(super) fn event(&self, name: &str, payload: &str, second: Option<&str>) -> String {
        let mut out = String::with_capacity(self.head.len() + name.len() + payload.len() + 64);
        out.push_str(&self.head);
        out.push_str("[\"");
        out.push_str(name);
        out.push_str("\",");
        if self.envelope {
            out.push_str("{\"payload\":");
        }
        out.push_str(payload);
        if self.envelope {
            out.push('}');
        }
        if let Some(second) = second {
            out.push(',');
            out.push_str(second);
        }
        out.push(']');
        out
    }

    /// An event that tells something to people: `{"text":…}`.
    pub(super) fn text(&self, name: &str, text: &str) -> String {
        self.event(name, &format!("{{\"text\":{}}}", quoted(text)), None)
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_str(&mut out, text);
    // What was pushed is JSON, and so UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests;
