//! What is said on the metrics socket, but for snapshots: subscriptions in, errors, heartbeats and series out.

use std::time::Duration;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::websocket::Text;
use crate::record::Time;

/// The longest time between two snapshots, in seconds; the shortest is one.
const MOST_SECONDS: i64 = 60;

/// The most points of one series.
pub(super) const MOST_POINTS: usize = 10_000;

/// What a client asks for. The names are those of the client: whoever has the metrics checks them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Names of metrics; empty for all.
    pub metrics: Vec<String>,
    /// The time between two snapshots, where the client says so.
    pub interval: Option<Duration>,
    /// Whether the past comes first.
    pub history: bool,
}

impl Subscription {
    /// Reads `{"metrics": [names], "interval_seconds": n, "include_history": bool}`. The last two may be missing or
    /// null; fields beside these mean nothing.
    ///
    /// # Errors
    /// What to tell the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Form {
            metrics: Vec<String>,
            interval_seconds: Option<i64>,
            include_history: Option<bool>,
        }
        let invalid = |error: serde_json::Error| format!("Invalid subscription: {error}");
        // By way of a value, so that the error of a missing field names no line.
        let value: Value = serde_json::from_str(text).map_err(invalid)?;
        let form: Form = if value.is_object() {
            Form::deserialize(value).map_err(invalid)?
        } else {
            return Err("Invalid subscription: send a JSON object such as {\"metrics\": []}".into());
        };
        let interval = match form.interval_seconds {
            None => None,
            Some(seconds @ 1..=MOST_SECONDS) => Some(Duration::from_secs(seconds.unsigned_abs())),
            Some(seconds) => {
                let text = "`interval_seconds` is from 1 to";
                return Err(format!("Invalid subscription: {text} {MOST_SECONDS}, and {seconds} is not"));
            }
        };
        Ok(Self { metrics: form.metrics, interval, history: form.include_history.unwrap_or_default() })
    }
}

/// The error for names that there are not; `None` where all are known. What the client wrote is cut.
pub(super) fn unknown<'k>(wanted: &[String], known: impl Iterator<Item = &'k str> + Clone) -> Option<String> {
    /// Names that are repeated to the client, and characters of each.
    const NAMES: usize = 5;
    const CHARACTERS: usize = 64;
    let strange = wanted.iter().filter(|name| !known.clone().any(|known| known == name.as_str()));
    let named: Vec<String> =
        strange.take(NAMES).map(|name| format!("`{}`", name.chars().take(CHARACTERS).collect::<String>())).collect();
    let noun = if named.len() == 1 { "metric" } else { "metrics" };
    let known: Vec<&str> = known.collect();
    (!named.is_empty())
        .then(|| format!("Invalid subscription: unknown {noun} {}; there are {}", named.join(", "), known.join(", ")))
}

/// A moment as clients read it: RFC 3339 in UTC with milliseconds, which every language parses.
pub(super) fn timestamp(time: Time) -> String {
    time.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// What Weir says beside snapshots.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Message<'a> {
    Error { message: &'a str },
    Heartbeat { timestamp: String },
    TimeSeries(Series<'a>),
}

/// The past of one metric.
#[derive(Serialize)]
pub(super) struct Series<'a> {
    /// The metric.
    pub metric_name: &'a str,
    /// The declared stream it is of, where it is not the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<&'a str>,
    /// What of that stream it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<&'a str>,
    /// The values, oldest first.
    pub data_points: Vec<Point>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    timestamp: String,
    value: f64,
}

impl Point {
    pub fn new(time: Time, value: f64) -> Self {
        Self { timestamp: timestamp(time), value }
    }
}

pub(super) fn error(text: &str) -> Text {
    encoded(&Message::Error { message: text })
}

pub(super) fn heartbeat(now: Time) -> Text {
    encoded(&Message::Heartbeat { timestamp: timestamp(now) })
}

/// Of more points than a message may hold, the newest.
pub(super) fn series(mut series: Series<'_>) -> Text {
    let over = series.data_points.len().saturating_sub(MOST_POINTS);
    series.data_points.drain(..over);
    encoded(&Message::TimeSeries(series))
}

/// Nothing that is said here can fail to be JSON: keys are text and numbers are finite.
pub(super) fn encoded(message: &impl Serialize) -> Text {
    serde_json::to_string(message).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn wish(metrics: &[&str], seconds: Option<u64>, history: bool) -> Subscription {
        let metrics = metrics.iter().map(|&name| name.to_owned()).collect();
        Subscription { metrics, interval: seconds.map(Duration::from_secs), history }
    }

    #[rstest]
    #[case(r#"{"metrics":[]}"#, wish(&[], None, false))]
    #[case(r#"{"metrics":["a","b"],"interval_seconds":60,"include_history":true}"#, wish(&["a", "b"], Some(60), true))]
    #[case(r#"{"metrics":[],"interval_seconds":1,"more":{}}"#, wish(&[], Some(1), false))]
    #[case(r#"{"metrics":[],"interval_seconds":null,"include_history":null}"#, wish(&[], None, false))]
    fn subscriptions_are_read(#[case] text: &str, #[case] expected: Subscription) {
        assert_eq!(Subscription::parse(text), Ok(expected));
    }

    #[rstest]
    #[case("{}", "Invalid subscription: missing field `metrics`")]
    #[case(r#"{"interval_seconds":5}"#, "Invalid subscription: missing field `metrics`")]
    #[case(r#"{"metrics":null}"#, "Invalid subscription: invalid type: null, expected a sequence")]
    #[case(r#"{"metrics":"all"}"#, "Invalid subscription: invalid type: string \"all\", expected a sequence")]
    #[case(r#"{"metrics":[1]}"#, "Invalid subscription: invalid type: integer `1`, expected a string")]
    #[case(
        r#"{"metrics":[],"interval_seconds":0}"#,
        "Invalid subscription: `interval_seconds` is from 1 to 60, and 0 is not"
    )]
    #[case(
        r#"{"metrics":[],"interval_seconds":61}"#,
        "Invalid subscription: `interval_seconds` is from 1 to 60, and 61 is not"
    )]
    #[case(
        r#"{"metrics":[],"interval_seconds":-1}"#,
        "Invalid subscription: `interval_seconds` is from 1 to 60, and -1 is not"
    )]
    #[case(
        r#"{"metrics":[],"interval_seconds":1.5}"#,
        "Invalid subscription: invalid type: floating point `1.5`, expected i64"
    )]
    #[case(
        r#"{"metrics":[],"include_history":1}"#,
        "Invalid subscription: invalid type: integer `1`, expected a boolean"
    )]
    #[case("[]", "Invalid subscription: send a JSON object such as {\"metrics\": []}")]
    #[case("{", "Invalid subscription: EOF while parsing an object at line 1 column 1")]
    #[case("", "Invalid subscription: EOF while parsing a value at line 1 column 0")]
    fn others_are_refused_with_what_is_wrong(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(Subscription::parse(text).unwrap_err(), expected);
    }

    #[test]
    fn unknown_names_are_told_with_those_there_are_and_cut() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let known = || ["a", "b"].into_iter();
        assert_eq!(unknown(&names(&["b", "a", "a"]), known()), None);
        let text = unknown(&names(&["a", "c"]), known()).unwrap();
        assert_eq!(text, "Invalid subscription: unknown metric `c`; there are a, b");
        let many: Vec<String> = (0..1000).map(|number| format!("{number}{}", "ü".repeat(1000))).collect();
        assert!(unknown(&many, known()).unwrap().len() < 1000);
    }

    #[test]
    fn a_series_holds_the_newest_points_where_there_are_too_many() {
        let points = (0..MOST_POINTS as i64 + 5).map(|at| Point::new(Time(at * 1_000_000_000), at as f64)).collect();
        let text = series(Series { metric_name: "a", stream: None, asset: None, data_points: points });
        let value: Value = serde_json::from_str(&text).unwrap();
        let points = value["data_points"].as_array().unwrap();
        assert_eq!((value["type"].as_str(), points.len()), (Some("TimeSeries"), MOST_POINTS));
        assert_eq!(points[0], serde_json::json!({"timestamp": "1970-01-01T00:00:05.000Z", "value": 5.0}));
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(text in ".{0,200}") {
            let Err(problem) = Subscription::parse(&text) else { return Ok(()) };
            let value: Value = serde_json::from_str(&error(&problem)).unwrap();
            prop_assert_eq!((&value["type"], &value["message"]), (&"Error".into(), &problem.into()));
        }
    }
}
