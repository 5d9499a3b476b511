//! The same packets read and written the slow way: character by character, everything copied, and JSON with all the
//! escapes and blanks that it may have. What the two disagree about is a bug in one of them. The fuzz target compares
//! them too.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Body, EventPacket, Events, Packet, ack, connected, disconnected, quoted, refused};

/// What stands in a packet, whoever sent it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    kind: char,
    attachments: u64,
    namespace: String,
    number: Option<u64>,
    payload: Option<Value>,
}

/// Reads a packet of either side.
fn read(text: &str) -> Option<Told> {
    let mut rest: VecDeque<char> = text.chars().collect();
    let kind = rest.pop_front()?;
    let mut attachments = 0;
    if "56".contains(kind) {
        attachments = whole(&front(&mut rest, |c| c.is_ascii_digit()))?;
        rest.pop_front().filter(|c| *c == '-')?;
    }
    let mut namespace = "/".to_owned();
    if rest.front() == Some(&'/') {
        namespace = front(&mut rest, |c| c != ',');
        rest.pop_front();
    }
    let digits = front(&mut rest, |c| c.is_ascii_digit());
    let number = if digits.is_empty() { None } else { Some(whole(&digits)?) };
    let json: String = rest.into_iter().collect();
    let payload = if json.is_empty() { None } else { Some(serde_json::from_str(&json).ok()?) };
    Some(Told { kind, attachments, namespace, number, payload })
}

/// Takes off what comes first, as long as it is of a kind.
fn front(rest: &mut VecDeque<char>, is: impl Fn(char) -> bool) -> String {
    let mut front = String::new();
    while let Some(c) = rest.pop_front() {
        if !is(c) {
            rest.push_front(c);
            break;
        }
        front.push(c);
    }
    front
}

/// A whole number that JavaScript tells from its neighbours, digit by digit.
fn whole(digits: &str) -> Option<u64> {
    let (mut digits, mut whole) = (digits.chars().peekable(), 0_u64);
    digits.peek()?;
    digits.try_for_each(|digit| {
        whole = whole * 10 + u64::from(digit.to_digit(10)?);
        (whole < 1 << 53).then_some(())
    })?;
    Some(whole)
}

/// What a client means by a packet; nothing where it may not send that.
fn meant(text: &str) -> Option<(String, Body)> {
    let Told { kind, attachments, namespace, number, payload } = read(text)?;
    if namespace.len() > 1024 || attachments > 16 {
        return None;
    }
    let body = match (kind, number, payload) {
        ('0', None, None) => Body::Connect(None),
        ('0', None, Some(auth @ Value::Object(_))) => Body::Connect(Some(auth)),
        ('1', None, None) => Body::Disconnect,
        ('2' | '5', ack, Some(Value::Array(parts))) => {
            let name = match parts.first()? {
                Value::String(name) => name.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            let arguments = parts[1..].to_vec();
            Body::Event(EventPacket { name, arguments, ack, attachments: u32::try_from(attachments).ok()? })
        }
        ('3', Some(_), Some(Value::Array(_))) => Body::Ack,
        _ => return None,
    };
    Some((namespace, body))
}

/// The packet of a client that means this.
pub(super) fn written(packet: &Packet<'_>) -> String {
    let namespace = if packet.namespace == "/" { String::new() } else { format!("{},", packet.namespace) };
    match &packet.body {
        Body::Connect(None) => format!("0{namespace}"),
        Body::Connect(Some(auth)) => format!("0{namespace}{}", spelled(auth)),
        Body::Disconnect => format!("1{namespace}"),
        Body::Ack => format!("3{namespace}0[]"),
        Body::Event(EventPacket { name, arguments, ack, attachments }) => {
            let head = if *attachments > 0 { format!("5{attachments}-") } else { "2".to_owned() };
            let ack = ack.map_or_else(String::new, |number| number.to_string());
            let parts = [&[json!(name)], &arguments[..]].concat();
            format!("{head}{namespace}{ack}{}", spelled(&json!(parts)))
        }
    }
}

/// JSON as nobody writes it and everybody reads it: each character of a text as an escape, blanks wherever they may be.
fn spelled(value: &Value) -> String {
    let text = |text: &str| {
        let escapes: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{escapes}\"")
    };
    match value {
        Value::String(inner) => text(inner),
        Value::Array(parts) => format!("[ {}\n]", parts.iter().map(spelled).collect::<Vec<_>>().join(" ,\t")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| text(name) + " : " + &spelled(value)).collect();
            format!("{{ {}\r}}", fields.join(" , "))
        }
        plain => plain.to_string(),
    }
}

/// That what is sent on account of a packet says what it should.
fn assert_answers(packet: &Packet<'_>) {
    let namespace = packet.namespace;
    let (text, number, value) = match &packet.body {
        Body::Event(event) => (event.name.as_str(), event.ack.unwrap_or_default(), event.arguments.first()),
        _ => (namespace, 0, None),
    };
    let value = value.cloned().unwrap_or_default();
    let said =
        |kind, number, payload| Some(Told { kind, attachments: 0, namespace: namespace.to_owned(), number, payload });
    assert_eq!(read(&connected(namespace, text)), said('0', None, Some(json!({ "sid": text }))));
    assert_eq!(read(&refused(namespace, text)), said('4', None, Some(json!({ "message": text }))));
    assert_eq!(read(&disconnected(namespace)), said('1', None, None));
    assert_eq!(read(&ack(namespace, number, &value)), said('3', Some(number), Some(json!([value]))));
    for envelope in [false, true] {
        let events = Events::new(namespace, envelope);
        let wrapped = |payload: Value| if envelope { json!({ "payload": payload }) } else { payload };
        let end = json!(["end", wrapped(json!({ "text": text }))]);
        assert_eq!(read(&events.text("end", text)), said('2', None, Some(end)));
        let data = json!(["data", wrapped(json!(text)), namespace]);
        let event = events.event("data", &quoted(text), Some(&quoted(namespace)));
        assert_eq!(read(&event), said('2', None, Some(data)));
    }
}

/// That the two readers agree, that a packet means the same however it is spelled, and that answers to it can be read.
pub fn assert_agreement(text: &str) {
    let parsed = Packet::parse(text).ok();
    let owned = parsed.clone().map(|Packet { namespace, body }| (namespace.to_owned(), body));
    assert_eq!(owned, meant(text), "{text:?}");
    if let Some(packet) = parsed {
        let again = written(&packet);
        assert_eq!(Packet::parse(&again).as_ref(), Ok(&packet), "{text:?} as {again:?}");
        assert_answers(&packet);
    }
}
