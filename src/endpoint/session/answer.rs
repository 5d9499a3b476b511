//! What the session socket says beside log lines: answers and signals, in the dialect of the request.

use serde_json::{Map, Value, json};

use super::message::{Dialect, Malformed, Request};
use crate::record::{Level, Signal, Time};

/// The version in which answers of the channel dialects name an action.
fn action_name(request: &Request) -> &'static str {
    use super::message::Action;
    match request.action {
        Action::Start(_) => "start",
        Action::Stop => "stop",
        Action::Pause => "pause",
        Action::Continue => "continue",
        Action::Modify(_) => "modify",
        Action::Ping => "ping",
        Action::Reconnect { .. } => "reconnect",
    }
}

/// A start was accepted. `reconnect_key` is what proves the instance on another socket.
pub fn accepted(request: &Request, instance: &str, reconnect_key: &str) -> String {
    match request.dialect {
        Dialect::Classic => {
            let mut echo = request.echo.clone();
            for (key, value) in [("flow", "response"), ("action", "start"), ("instance", instance), ("accessKey", "")] {
                echo.insert(key.into(), Value::String(value.into()));
            }
            Value::Object(echo).to_string()
        }
        dialect => {
            let mut answer = base(dialect, "start", "response", &request.channel, instance);
            answer.insert("text".into(), "Instance Config accepted".into());
            answer.insert("level".into(), "info".into());
            // Channel-4 does not promise it; a client that wants to come back needs it all the same.
            answer.insert("reconnectKey".into(), reconnect_key.into());
            Value::Object(answer).to_string()
        }
    }
}

/// A request that is not a start was granted.
pub fn granted(request: &Request, text: &str) -> String {
    Value::Object(grant(request, text)).to_string()
}

/// A client was given its instance back, from this time on where it asked for one.
pub fn reconnected(request: &Request, again_from: Option<Time>) -> String {
    let mut answer = grant(request, "Reconnected");
    answer.extend(again_from.map(|time| ("startTime".to_owned(), time.millis().into())));
    Value::Object(answer).to_string()
}

fn grant(request: &Request, text: &str) -> Map<String, Value> {
    let mut answer = match request.dialect {
        Dialect::Classic => {
            let fields =
                [("action", action_name(request)), ("flow", "response"), ("instance", request.instance.as_str())];
            fields.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect()
        }
        dialect => {
            let mut answer = base(dialect, action_name(request), "response", &request.channel, &request.instance);
            answer.insert("level".into(), "info".into());
            answer
        }
    };
    answer.insert("text".into(), text.into());
    answer
}

/// A request was refused. A refused start has no instance.
pub fn refused(request: &Request, instance: &str, text: &str) -> String {
    error(request.dialect, action_name(request), &request.channel, instance, text)
}

/// A message that could not be understood.
pub fn malformed(problem: &Malformed) -> String {
    error(problem.dialect, &problem.action, &problem.channel, "", &problem.text)
}

fn error(dialect: Dialect, action: &str, channel: &str, instance: &str, text: &str) -> String {
    match dialect {
        Dialect::Classic => {
            let now = Time::now().rfc3339();
            json!({"type": "error", "instance": instance, "text": text, "timestamp": now}).to_string()
        }
        dialect => {
            let mut answer = base(dialect, action, "response", channel, instance);
            answer.insert("level".into(), "error".into());
            answer.insert("text".into(), text.into());
            Value::Object(answer).to_string()
        }
    }
}

/// A signal of a stream, as data that nobody asked for.
pub fn signal(dialect: Dialect, channel: &str, instance: &str, signal: &Signal) -> String {
    let origin = signal.origin.as_deref();
    let mut message = match dialect {
        Dialect::Classic => {
            let mut message = Map::new();
            message.insert("type".into(), signal.level.as_str().into());
            message.insert("instance".into(), instance.into());
            message
        }
        dialect => {
            let mut message = base(dialect, "none", "unsolicited", channel, instance);
            message.insert("level".into(), signal.level.as_str().into());
            message
        }
    };
    message.insert("event".into(), signal.event.session_name().into());
    message.insert("text".into(), signal.text.as_str().into());
    message.insert("timestamp".into(), signal.time.rfc3339().into());
    if let Some(origin) = origin {
        let pod = if dialect == Dialect::Classic { "podName" } else { "pod" };
        message.insert("namespace".into(), origin.namespace.as_str().into());
        message.insert(pod.into(), origin.pod.as_str().into());
        message.insert("container".into(), origin.container.as_str().into());
    }
    insert_details(&mut message, signal);
    Value::Object(message).to_string()
}

/// What only some signals have. `kind` is the event's full name, where `event` says no more than `other`.
fn insert_details(message: &mut Map<String, Value>, signal: &Signal) {
    if signal.event.session_name() == "other" {
        message.insert("kind".into(), signal.event.as_str().into());
    }
    if let Some(reason) = &signal.reason {
        message.insert("reason".into(), reason.as_str().into());
    }
    if let Some(code) = signal.exit_code {
        message.insert("exitCode".into(), code.into());
    }
    if let Some(object) = &signal.regarding {
        let object = json!({"kind": object.kind, "namespace": object.namespace, "name": object.name});
        message.insert("regarding".into(), object);
    }
    if let Some(count) = signal.count {
        message.insert("count".into(), count.into());
    }
}

/// A line that matched a pattern of an alert instance.
pub fn alert(dialect: Dialect, instance: &str, severity: Level, line: &AlertLine<'_>) -> String {
    let mut message = base(dialect, "none", "unsolicited", "alert", instance);
    message.insert("type".into(), "data".into());
    if dialect != Dialect::Channel3 {
        message.insert("msgtype".into(), "alertmessage".into());
    }
    message.insert("severity".into(), severity.as_str().into());
    message.insert("timestamp".into(), line.time.rfc3339().into());
    message.insert("namespace".into(), line.origin.namespace.as_str().into());
    message.insert("pod".into(), line.origin.pod.as_str().into());
    message.insert("container".into(), line.origin.container.as_str().into());
    message.insert("text".into(), String::from_utf8_lossy(line.text).into());
    Value::Object(message).to_string()
}

/// A line as an alert tells it.
pub struct AlertLine<'l> {
    /// Who wrote it.
    pub origin: &'l crate::record::Origin,
    /// When.
    pub time: Time,
    /// The line.
    pub text: &'l [u8],
}

/// What every message of the channel dialects holds.
fn base(dialect: Dialect, action: &str, flow: &str, channel: &str, instance: &str) -> Map<String, Value> {
    let channel = if channel.is_empty() { "none" } else { channel };
    let mut map = Map::new();
    // Channel-3 clients know the same fields; older ones ignore those they do not know.
    debug_assert!(dialect != Dialect::Classic);
    for (key, value) in
        [("action", action), ("flow", flow), ("type", "signal"), ("channel", channel), ("instance", instance)]
    {
        map.insert(key.into(), Value::String(value.into()));
    }
    map
}
