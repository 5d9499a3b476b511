//! What is said on the session socket, in its channel-4 dialect, and what is heard.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::options::{TailConfig, Wanted};
use crate::record::{Time, TimeParser};

/// Where a start begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// Where the options say.
    AsAsked,
    /// At this time: what came before was shown.
    At(Time),
}

/// An instance that runs on the server, and what proves that it is ours.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub instance: String,
    pub reconnect_key: String,
}

/// Asks for the log.
pub(super) fn start(config: &TailConfig, begin: Begin) -> String {
    let past = &config.past;
    let mut data = Map::new();
    data.insert("timestamp".into(), true.into());
    match begin {
        Begin::At(time) => {
            data.insert("startTime".into(), time.millis().max(0).into());
        }
        Begin::AsAsked => {
            data.extend(past.lines.map(|lines| ("maxMessages".into(), lines.into())));
            data.extend(past.since.map(|time| ("startTime".into(), time.millis().max(0).into())));
            data.insert("fromStart".into(), past.from_start.into());
            data.insert("previous".into(), past.previous.into());
        }
    }
    let mut message = base("start", "");
    message.insert("accessKey".into(), config.key.expose().into());
    message.extend(config.scope.clone().map(|scope| ("scope".into(), scope.into())));
    match &config.wanted {
        Wanted::Declared(name) => {
            message.insert("subscription".into(), name.as_str().into());
        }
        Wanted::Selection(selection) => {
            message.entry("scope").or_insert_with(|| "view".into());
            let lists = [
                ("view", selection.view.as_str()),
                ("namespace", &selection.namespace),
                ("group", &selection.group),
                ("pod", &selection.pod),
                ("container", &selection.container),
                ("labelSelector", &selection.labels),
                ("objects", "pods"),
            ];
            message.extend(lists.map(|(field, text)| (field.to_owned(), text.into())));
            data.insert("initContainers".into(), selection.init_containers.into());
            data.insert("include".into(), selection.include.clone().into());
            data.insert("exclude".into(), selection.exclude.clone().into());
        }
    }
    message.insert("data".into(), data.into());
    Value::Object(message).to_string()
}

/// Asks for an instance whose connection was lost, from `since` on.
pub(super) fn reconnect(held: &Held, since: Option<Time>) -> String {
    let mut message = base("reconnect", &held.instance);
    message.insert("reconnectKey".into(), held.reconnect_key.as_str().into());
    message.extend(since.map(|time| ("data".into(), json!({"startTime": time.millis().max(0)}))));
    Value::Object(message).to_string()
}

/// Any other request about an instance: `stop`, `continue`.
pub(super) fn request(action: &str, instance: &str) -> String {
    Value::Object(base(action, instance)).to_string()
}

fn base(action: &str, instance: &str) -> Map<String, Value> {
    let fields =
        [("action", action), ("flow", "request"), ("type", "signal"), ("channel", "log"), ("instance", instance)];
    fields.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
}

/// A message of the server. Fields that are absent are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Heard<'m> {
    #[serde(borrow)]
    pub action: Cow<'m, str>,
    #[serde(borrow)]
    pub flow: Cow<'m, str>,
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'m, str>,
    #[serde(borrow)]
    pub level: Cow<'m, str>,
    #[serde(borrow)]
    pub instance: Cow<'m, str>,
    #[serde(borrow)]
    pub reconnect_key: Cow<'m, str>,
    #[serde(borrow)]
    pub namespace: Cow<'m, str>,
    #[serde(borrow)]
    pub pod: Cow<'m, str>,
    #[serde(borrow)]
    pub container: Cow<'m, str>,
    #[serde(borrow)]
    pub timestamp: Cow<'m, str>,
    #[serde(borrow)]
    pub text: Cow<'m, str>,
    /// In the answer to a reconnect: the time from which the server sends again.
    pub start_time: Option<i64>,
}

impl<'m> Heard<'m> {
    /// Reads a message.
    pub fn parse(text: &'m str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Whether it answers a request of this action.
    pub fn answers(&self, action: &str) -> bool {
        self.flow == "response" && self.action == action
    }

    /// Whether it says that something is wrong.
    pub fn is_error(&self) -> bool {
        self.level == "error"
    }

    /// Whether it carries log lines.
    pub fn is_data(&self) -> bool {
        self.kind == "data"
    }

    /// When its lines were written.
    pub fn time(&self, parser: &mut TimeParser) -> Option<Time> {
        let mut text = [b' '; 40];
        let stamp = self.timestamp.as_bytes();
        text.get_mut(..stamp.len())?.copy_from_slice(stamp);
        parser.split(&text[..=stamp.len().min(39)]).map(|(time, _)| time)
    }

    /// Its lines, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.strip_suffix('\n').unwrap_or(&self.text).split('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_copies_where_nothing_is_escaped() {
        let text = r#"{"action":"none","flow":"unsolicited","type":"data","channel":"log","instance":"i",
            "msgtype":"logmessage","namespace":"n","pod":"p","container":"c",
            "timestamp":"2026-01-31T12:00:00.000000001Z","text":"one"}"#;
        let heard = Heard::parse(text).unwrap();
        assert!(heard.is_data() && !heard.is_error());
        assert!(matches!(heard.text, Cow::Borrowed("one")));
        let mut parser = TimeParser::default();
        assert_eq!(heard.time(&mut parser).unwrap().rfc3339(), "2026-01-31T12:00:00.000000001Z");
        let untimed = Heard { timestamp: "x".repeat(100).into(), ..Heard::default() };
        assert_eq!(untimed.time(&mut parser), None);
        assert_eq!(Heard::default().time(&mut parser), None);
    }

    #[test]
    fn a_message_holds_one_line_or_many() {
        let lines = |text: &'static str| -> Vec<String> {
            Heard { text: text.into(), ..Heard::default() }.lines().map(str::to_owned).collect()
        };
        assert_eq!(lines("one\n"), ["one"]);
        assert_eq!(lines("one\n\ntwo\n"), ["one", "", "two"]);
        assert_eq!(lines("\n"), [""]);
    }
}
