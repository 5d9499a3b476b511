//! What clients may send, and what they are told: tables, and nothing that makes the parser panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::answer;
use super::message::{Action, Dialect, Malformed, MetricsOptions, Request, Start};
use crate::record::{Event, Level, Origin, Regarding, Signal, Time};

fn parse(message: &Value) -> Result<Request, Malformed> {
    Request::parse(&message.to_string())
}

fn started(message: &Value) -> Start {
    match parse(message).unwrap().action {
        Action::Start(start) => *start,
        other => panic!("{other:?}"),
    }
}

/// A channel-4 start with one field set.
fn with(field: &str, value: Value) -> Value {
    let mut message = json!({"channel": "log", "type": "signal", "accessKey": "k", "scope": "view"});
    message[field] = value;
    message
}

/// A channel-4 start with one option in `data`.
fn with_option(field: &str, value: Value) -> Value {
    with("data", json!({ field: value }))
}

#[rstest]
#[case(json!({"type": "log"}), Dialect::Classic, "log")]
#[case(json!({"type": "signal", "action": "start"}), Dialect::Classic, "signal")]
#[case(json!({"type": "subscription", "name": "a/b"}), Dialect::Classic, "subscription")]
#[case(json!({"type": "log", "channel": null}), Dialect::Classic, "log")]
#[case(json!({"channel": "log"}), Dialect::Channel3, "log")]
#[case(json!({"channel": "log", "type": null}), Dialect::Channel3, "log")]
#[case(json!({"channel": "log", "type": "signal"}), Dialect::Channel4, "log")]
#[case(json!({"channel": "alert", "type": "data"}), Dialect::Channel4, "alert")]
#[case(json!({"action": "ping"}), Dialect::Channel4, "")]
fn the_dialect_is_told_by_channel_and_type(#[case] message: Value, #[case] dialect: Dialect, #[case] channel: &str) {
    let request = parse(&message).unwrap();
    assert_eq!((request.dialect, request.channel.as_str()), (dialect, channel));
}

#[rstest]
#[case(json!({"type": "log"}))]
#[case(json!({"type": "log", "action": "", "flow": ""}))]
#[case(json!({"type": "log", "action": null, "flow": null}))]
#[case(json!({"type": "log", "action": "start", "flow": "request"}))]
#[case(json!({"channel": "log", "type": "signal", "flow": "immediate"}))]
fn a_message_without_action_and_flow_starts(#[case] message: Value) {
    assert_eq!(started(&message), Start::default());
}

#[rstest]
#[case("stop", Action::Stop)]
#[case("pause", Action::Pause)]
#[case("continue", Action::Continue)]
#[case("modify", Action::Modify(MetricsOptions::default()))]
#[case("ping", Action::Ping)]
#[case("reconnect", Action::Reconnect { proof: None, start_time: None })]
fn every_action_is_read_with_its_instance(#[case] action: &str, #[case] expected: Action) {
    let request = parse(&json!({"action": action, "channel": "log", "type": "signal", "instance": "i-1"})).unwrap();
    assert_eq!((request.action, request.instance.as_str()), (expected, "i-1"));
}

#[rstest]
#[case::nothing("")]
#[case::words("hello")]
#[case::half("{\"type\":")]
#[case::two("{} {}")]
#[case::list("[{\"type\":\"log\"}]")]
#[case::text("\"log\"")]
#[case::number("5")]
#[case::null("null")]
#[case::not_a_number("{\"type\":\"log\",\"maxMessages\":NaN}")]
#[case::too_big_a_number("{\"type\":\"log\",\"maxMessages\":1e999}")]
fn what_is_no_json_object_is_refused_as_a_whole(#[case] text: &str) {
    let problem = Request::parse(text).unwrap_err();
    assert!(problem.text.starts_with("The message is not"), "{}", problem.text);
    assert_eq!((problem.dialect, problem.channel.as_str()), (Dialect::Channel4, "none"));
}

#[test]
fn what_is_nested_without_end_is_refused() {
    let deep = "{\"a\":".repeat(20_000);
    assert!(Request::parse(&deep).is_err());
    assert!(
        Request::parse(&format!("{{\"type\":\"log\",\"data\":{}1{}}}", "[".repeat(9000), "]".repeat(9000))).is_err()
    );
}

/// Every field with every type that it cannot have: an error that names the field.
#[rstest]
fn a_field_of_the_wrong_type_is_named(
    #[values(
        "action",
        "flow",
        "type",
        "channel",
        "instance",
        "accessKey",
        "scope",
        "view",
        "name",
        "subscription",
        "labelSelector",
        "lastEventId",
        "objects",
        "data"
    )]
    field: &str,
    #[values(json!(5), json!(true), json!(["x"]), json!({"x": 1}))] value: Value,
) {
    if field == "data" && value.is_object() {
        return;
    }
    let problem = parse(&with(field, value)).unwrap_err();
    assert!(problem.text.contains(&format!("\"{field}\"")), "{}", problem.text);
}

#[rstest]
fn a_list_of_the_wrong_type_is_named(
    #[values("namespace", "group", "set", "pod", "container")] field: &str,
    #[values(json!(5), json!(true), json!([1]), json!({"x": 1}), json!([["a"]]))] value: Value,
) {
    let problem = parse(&with(field, value)).unwrap_err();
    assert!(problem.text.contains(&format!("\"{field}\"")), "{}", problem.text);
}

#[rstest]
#[case("timestamp", json!("yes"))]
#[case("timestamp", json!(1))]
#[case("previous", json!([true]))]
#[case("fromStart", json!({}))]
#[case("initContainers", json!("1"))]
#[case("ephemeralContainers", json!(0))]
#[case("maxMessages", json!(-1))]
#[case("maxMessages", json!(1.5))]
#[case("maxMessages", json!("many"))]
#[case("maxMessages", json!("-1"))]
#[case("maxMessages", json!(true))]
#[case("maxMessages", json!([1]))]
#[case("startTime", json!("2026-01-01T00:00:00Z"))]
#[case("startTime", json!(-5))]
#[case("include", json!(5))]
#[case("exclude", json!([5]))]
#[case("metrics", json!(5))]
#[case("metrics", json!([1]))]
#[case("mode", json!(1))]
#[case("interval", json!("soon"))]
#[case("interval", json!(0.5))]
#[case("interval", json!(-1))]
#[case("aggregate", json!("yes"))]
#[case("regexInfo", json!({}))]
#[case("regexWarning", json!([null]))]
#[case("regexError", json!(false))]
#[case("labelSelector", json!(5))]
#[case("lastEventId", json!(5))]
#[case("subscription", json!(5))]
fn an_option_of_the_wrong_type_is_named(#[case] field: &str, #[case] value: Value) {
    let problem = parse(&with_option(field, value)).unwrap_err();
    assert!(problem.text.contains(&format!("\"{field}\"")), "{}", problem.text);
}

#[rstest]
#[case("action", json!("dance"), "Unknown action \"dance\".")]
#[case("action", json!("Stop"), "Unknown action \"Stop\".")]
#[case("action", json!("sto p"), "Unknown action: ")]
#[case("action", json!("s".repeat(33)), "Unknown action: ")]
#[case("action", json!("websocket"), "Unknown action \"websocket\".")]
#[case("channel", json!("lo\ng"), "Unknown channel: ")]
#[case("channel", json!("l".repeat(33)), "Unknown channel: ")]
#[case("type", json!("banana"), "Unknown type \"banana\"")]
#[case("type", json!(""), "Unknown type \"\"")]
#[case("type", json!("<b>"), "Unknown type: ")]
#[case("flow", json!("response"), "The field \"flow\"")]
fn an_unknown_name_is_refused_and_repeated_only_where_it_is_plain(
    #[case] field: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let problem = parse(&with(field, value)).unwrap_err();
    assert!(problem.text.starts_with(expected), "{}", problem.text);
}

#[test]
fn selections_are_comma_lists_or_arrays_and_patterns_keep_their_commas() {
    let start = started(&json!({"channel": "log", "type": "signal", "namespace": "a, b,,c", "group": ["deployment+x"],
        "pod": "p-\\d{1,3},q", "container": "main,side", "labelSelector": "a=b",
        "data": {"include": "x{1,2},y", "exclude": ["p,q"]}}));
    assert_eq!(start.namespaces, ["a", "b", "c"]);
    assert_eq!(start.groups, ["deployment+x"]);
    assert_eq!(start.pods, ["p-\\d{1,3}", "q"]);
    assert_eq!(start.containers, ["main", "side"]);
    assert_eq!((start.include, start.exclude), (vec!["x{1,2},y".to_owned()], vec!["p,q".to_owned()]));
    assert_eq!(start.labels, "a=b");
}

#[test]
fn set_is_an_older_name_of_group() {
    assert_eq!(started(&with("set", json!("replica+a,b"))).groups, ["replica+a", "b"]);
    let both = json!({"type": "log", "set": "old", "group": "new"});
    assert_eq!(started(&both).groups, ["new"]);
}

#[rstest]
fn a_list_is_bounded(#[values("namespace", "group", "pod", "container")] field: &str) {
    let item = |n: usize| vec!["x"; n].join(",");
    assert!(parse(&with(field, json!(item(256)))).is_ok());
    let problem = parse(&with(field, json!(item(257)))).unwrap_err();
    assert!(problem.text.contains("256"), "{}", problem.text);
    assert!(parse(&with(field, json!(vec!["x"; 257]))).is_err());
    assert!(parse(&with_option("regexError", json!(vec!["x"; 257]))).is_err());
}

#[rstest]
#[case(json!(10), Some(10))]
#[case(json!("10"), Some(10))]
#[case(json!(10.0), Some(10))]
#[case(json!(""), None)]
#[case(json!(null), None)]
#[case(json!(u64::MAX), Some(u64::MAX))]
#[case(json!(1e300), Some(u64::MAX))]
fn numbers_are_read_as_clients_write_them(#[case] value: Value, #[case] expected: Option<u64>) {
    assert_eq!(started(&with_option("maxMessages", value)).max_messages, expected);
}

#[test]
fn a_start_time_beyond_all_time_is_the_end_of_time() {
    assert_eq!(started(&with_option("startTime", json!(1_500))).start_time, Some(Time(1_500_000_000)));
    let far = started(&with_option("startTime", json!(u64::MAX))).start_time.unwrap();
    assert!(far.0 > i64::MAX - 1_000_000);
}

#[rstest]
#[case(json!({"channel": "log", "type": "signal", "data": {"startTime": 1_500}}), Some(Time(1_500_000_000)))]
#[case(json!({"channel": "log", "data": {"startTime": "1500"}}), Some(Time(1_500_000_000)))]
#[case(json!({"type": "log", "startTime": 1_500}), Some(Time(1_500_000_000)))]
#[case(json!({"channel": "log", "type": "signal"}), None)]
fn whoever_reconnects_may_say_from_when_on(#[case] mut message: Value, #[case] expected: Option<Time>) {
    message["action"] = json!("reconnect");
    let request = parse(&message).unwrap();
    assert_eq!(request.action, Action::Reconnect { proof: None, start_time: expected });
    let answer: Value = serde_json::from_str(&answer::reconnected(&request, expected)).unwrap();
    assert_eq!(answer.get("startTime"), expected.map(|time| json!(time.millis())).as_ref());
    assert_eq!((&answer["action"], &answer["text"]), (&json!("reconnect"), &json!("Reconnected")));
}

#[rstest]
#[case::channels(json!({"channel": "metrics", "type": "signal", "data": OPTIONS.clone()}))]
#[case::older(json!({"channel": "metrics", "data": OPTIONS.clone()}))]
#[case::classic({
    let mut message = OPTIONS.clone();
    message["type"] = json!("metrics");
    message
})]
fn a_start_and_a_change_say_which_numbers_are_wanted(#[case] mut message: Value) {
    let expected = MetricsOptions {
        mode: Some("stream".into()),
        aggregate: Some(false),
        interval: Some(15),
        metrics: Some(vec!["b".into(), "a".into()]),
    };
    assert_eq!(started(&message).metrics, expected, "in their order");
    message["action"] = json!("modify");
    assert_eq!(parse(&message).unwrap().action, Action::Modify(expected));
}

static OPTIONS: LazyLock<Value> =
    LazyLock::new(|| json!({"mode": "stream", "aggregate": false, "interval": 15, "metrics": ["b", "a"]}));

#[rstest]
#[case(json!({}), MetricsOptions::default())]
#[case(json!({"metrics": null, "mode": "", "aggregate": "", "interval": ""}), MetricsOptions::default())]
#[case(json!({"metrics": []}), MetricsOptions { metrics: Some(vec![]), ..MetricsOptions::default() })]
#[case(json!({"metrics": "a, b"}), MetricsOptions { metrics: Some(vec!["a".into(), "b".into()]), ..MetricsOptions::default() })]
#[case(json!({"aggregate": "true"}), MetricsOptions { aggregate: Some(true), ..MetricsOptions::default() })]
fn what_is_not_said_of_numbers_is_left_as_it_is(#[case] data: Value, #[case] expected: MetricsOptions) {
    assert_eq!(started(&json!({"channel": "metrics", "type": "signal", "data": data})).metrics, expected);
}

#[test]
fn the_options_of_the_classic_dialect_stand_beside_the_rest() {
    let start = started(&json!({"type": "log", "timestamp": true, "previous": "true", "maxMessages": 5}));
    assert!(start.timestamps && start.previous);
    assert_eq!(start.max_messages, Some(5));
    assert!(!started(&with("timestamp", json!(true))).timestamps, "channels have them in `data`");
}

const SECRET: &str = "weir_a-secret-that-nobody-may-see";

#[rstest]
#[case(json!({"type": "log", "accessKey": SECRET}))]
#[case(json!({"type": "log", "accessKey": SECRET, "data": {"accessKey": SECRET, "deeper": {"Token": SECRET}}}))]
#[case(json!({"type": "log", "key": SECRET, "token": {"x": SECRET}, "auth": [SECRET]}))]
#[case(json!({"channel": "log", "type": "signal", "action": "reconnect", "reconnectKey": SECRET}))]
#[case(json!({"channel": "log", "type": "signal", "action": "reconnect", "accessKey": SECRET}))]
fn no_key_is_printed_or_sent_back(#[case] message: Value) {
    let request = parse(&message).unwrap();
    for text in [
        format!("{request:?}"),
        answer::accepted(&request, "i", "r"),
        answer::granted(&request, "fine"),
        answer::refused(&request, "", "no"),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[rstest]
fn no_error_repeats_a_value(#[values("accessKey", "action", "channel", "type", "flow", "scope")] field: &str) {
    for value in [json!([SECRET]), json!(format!("{SECRET} {SECRET}"))] {
        if let Err(problem) = parse(&with(field, value)) {
            let told = format!("{problem:?} {}", answer::malformed(&problem));
            assert!(!told.contains(SECRET), "{told}");
        }
    }
}

fn keys(text: &str) -> Vec<String> {
    let map: Map<String, Value> = serde_json::from_str(text).unwrap();
    map.keys().cloned().collect()
}

#[test]
fn the_classic_answer_is_the_request_with_the_instance_and_without_the_key() {
    let request = parse(&json!({"type": "log", "accessKey": SECRET, "scope": "view", "pod": "a", "extra": 1})).unwrap();
    let answer: Value = serde_json::from_str(&answer::accepted(&request, "i-1", "r-1")).unwrap();
    let expected = json!({"type": "log", "accessKey": "", "scope": "view", "pod": "a", "extra": 1, "action": "start",
        "flow": "response", "instance": "i-1"});
    assert_eq!(answer, expected);
}

#[test]
fn the_channel_answers_hold_what_every_message_holds() {
    for message in [json!({"channel": "log"}), json!({"channel": "log", "type": "signal"})] {
        let request = parse(&message).unwrap();
        let answer: Value = serde_json::from_str(&answer::accepted(&request, "i-1", "r-1")).unwrap();
        let expected = json!({"action": "start", "flow": "response", "type": "signal", "channel": "log",
            "instance": "i-1", "level": "info", "text": "Instance Config accepted", "reconnectKey": "r-1"});
        assert_eq!(answer, expected);
        let refusal: Value = serde_json::from_str(&answer::refused(&request, "", "no")).unwrap();
        let expected = json!({"action": "start", "flow": "response", "type": "signal", "channel": "log",
            "instance": "", "level": "error", "text": "no"});
        assert_eq!(refusal, expected);
    }
}

#[test]
fn a_signal_names_its_container_in_the_words_of_the_dialect() {
    let origin = Origin { namespace: "n".into(), pod: "p".into(), container: "c".into(), ..Origin::default() };
    let about = Signal::new(Level::Warning, Event::Restarted, Time(0), "text").about(&origin.into());
    let classic = answer::signal(Dialect::Classic, "signal", "i", &about);
    assert_eq!(
        serde_json::from_str::<Value>(&classic).unwrap(),
        json!({"type": "warning", "instance": "i", "event": "other", "kind": "restarted", "text": "text",
               "namespace": "n", "podName": "p", "container": "c", "timestamp": "1970-01-01T00:00:00.000000000Z"})
    );
    let channel = answer::signal(Dialect::Channel4, "signal", "i", &about);
    assert_eq!(
        serde_json::from_str::<Value>(&channel).unwrap(),
        json!({"action": "none", "flow": "unsolicited", "type": "signal", "channel": "signal", "level": "warning",
               "instance": "i", "event": "other", "kind": "restarted", "text": "text", "namespace": "n", "pod": "p",
               "container": "c", "timestamp": "1970-01-01T00:00:00.000000000Z"})
    );
    let whole = answer::signal(Dialect::Channel3, "log", "i", &Signal::gap(7, Time(0)));
    assert!(!keys(&whole).iter().any(|key| key == "pod" || key == "namespace" || key == "container"), "{whole}");
}

#[test]
fn a_signal_tells_why_in_every_dialect() {
    let pod = Regarding { kind: "Pod".into(), namespace: "n".into(), name: "p".into() };
    let signal = Signal::new(Level::Error, Event::OomKilled, Time(0), "text").because("OOMKilled").exit_code(137);
    let signal = signal.regarding(pod, 3);
    for dialect in [Dialect::Classic, Dialect::Channel3, Dialect::Channel4] {
        let told: Value = serde_json::from_str(&answer::signal(dialect, "signal", "i", &signal)).unwrap();
        let details = json!({"kind": "oom-killed", "reason": "OOMKilled", "exitCode": 137, "count": 3,
            "regarding": {"kind": "Pod", "namespace": "n", "name": "p"}});
        details.as_object().unwrap().iter().for_each(|(field, value)| assert_eq!(told[field], *value, "{dialect:?}"));
        let added = Signal::new(Level::Info, Event::Added, Time(0), "text");
        let added = keys(&answer::signal(dialect, "signal", "i", &added));
        assert!(!added.iter().any(|key| details.get(key).is_some()), "nothing is told of what there is not: {added:?}");
    }
}

#[test]
fn an_alert_has_a_msgtype_in_channel_4_only() {
    let origin = Origin { namespace: "n".into(), pod: "p".into(), container: "c".into(), ..Origin::default() };
    let line = answer::AlertLine { origin: &origin, time: Time(0), text: b"boom\xff" };
    let alert = answer::alert(Dialect::Channel4, "i", Level::Error, &line);
    let mut expected = json!({"action": "none", "flow": "unsolicited", "type": "data", "channel": "alert",
        "instance": "i", "msgtype": "alertmessage", "severity": "error", "namespace": "n", "pod": "p",
        "container": "c", "text": "boom\u{fffd}", "timestamp": "1970-01-01T00:00:00.000000000Z"});
    assert_eq!(serde_json::from_str::<Value>(&alert).unwrap(), expected);
    let alert = answer::alert(Dialect::Channel3, "i", Level::Error, &line);
    expected.as_object_mut().unwrap().remove("msgtype");
    assert_eq!(serde_json::from_str::<Value>(&alert).unwrap(), expected);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["start", "stop", "log", "signal", "data", "request", "a,b", ""])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const FIELDS: [&str; 24] = [
    "action",
    "flow",
    "type",
    "channel",
    "instance",
    "accessKey",
    "reconnectKey",
    "scope",
    "view",
    "name",
    "namespace",
    "group",
    "set",
    "pod",
    "container",
    "labelSelector",
    "objects",
    "data",
    "timestamp",
    "previous",
    "maxMessages",
    "startTime",
    "regexInfo",
    "include",
];

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Request::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_json_makes_the_parser_panic(
        message in prop::collection::btree_map(prop::sample::select(FIELDS.to_vec()), any_json(), 0..10),
        data in prop::collection::btree_map(prop::sample::select(FIELDS.to_vec()), any_json(), 0..6),
    ) {
        let mut map: Map<String, Value> = message.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        map.entry("data").or_insert(Value::Object(data));
        let answered = match Request::parse(&Value::Object(map).to_string()) {
            Ok(request) => answer::accepted(&request, "i", "r"),
            Err(problem) => answer::malformed(&problem),
        };
        prop_assert!(serde_json::from_str::<Map<String, Value>>(&answered).is_ok());
    }
}
