//! What a config file comes to, and every way in which one can be wrong.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use secrecy::ExposeSecret as _;

use super::plan::{Plan, Surroundings, plan};
use super::*;
use crate::api::{FilterSpec, SecretReader as _};
use crate::manifest::held::HeldSecrets;
use crate::source::remote::{Remote, RemoteSpec};
use crate::source::{Outside, OutsidePolicy};
use crate::telemetry::Metrics;

fn variables() -> Variables {
    Variables::of([("SLACK", "https://hooks.example/T0/secret-path"), ("TOKEN", "s3cr3t"), ("HOST", "web-1")])
}

fn read(text: &str) -> Read {
    parse(text, "w.yaml", &variables(), Strictness::Strict)
}

fn around() -> Surroundings {
    Surroundings { base: PathBuf::from("/etc/weir"), home: None, host: Some("box".to_owned()) }
}

fn planned(text: &str, held: &HeldSecrets) -> (Plan, Vec<Finding>) {
    let Read { config, mut findings } = read(text);
    let mut draft = held.draft();
    assert!(findings.usable(), "{:?}", findings.sorted());
    let plan = plan(&config, &around(), &mut draft, &mut findings);
    draft.keep();
    (plan, findings.sorted())
}

/// The findings of a file, as they are told.
fn told(text: &str) -> Vec<String> {
    let Read { config, mut findings } = read(text);
    if findings.usable() {
        plan(&config, &around(), &mut HeldSecrets::new().draft(), &mut findings);
    }
    let errors =
        findings.sorted().into_iter().filter(|finding| finding.gravity == crate::manifest::place::Gravity::Error);
    errors.map(|finding| finding.to_string()).collect()
}

const WHOLE: &str = r#"
identity: {name: "${HOST}"}
inputs:
  files: [/var/log/app.log, "logs/*.log"]
  containers: [web]
  streams:
    - {name: orders, type: websocket, url: "wss://orders.example/feed?key=$TOKEN", headers: {Authorization: "Bearer ${TOKEN}"}, reconnect_delay: 2}
    - {type: http, url: "https://events.example/stream", mode: sse}
    - {name: raw, type: tcp, url: "tls://logs.example:6514", reconnect_delay: 0.5}
    - {name: syslog, type: tcp, url: "0.0.0.0:5140", listen: true}
alerts:
  out: {type: stdout}
  My_Slack: {type: slack, url: $SLACK}
  tele: {type: telegram, bot_token: $TOKEN, chat_id: -100123}
  mail: {type: email, from: weir@example.com, to: ops@example.com}
  grid: {type: sendgrid, api_key: $TOKEN, from: a@example.com, to: [b@example.com, c@example.com]}
rules:
  - {name: errors, text: ERROR, alert: out}
  - {name: slow, pattern: 'took \d{4,}ms', alert: [My_Slack, tele], cooldown: 5, threshold: "5 in 2s", sources: {containers: [web], streams: [orders]}}
  - {name: one, text: 404, alert: mail, cooldown: 5m, sources: {files: [logs/a.log]}}
resources: {thresholds: {cpu_percent: 90, disk_percent: 80.5, alert: out}}
system_checks:
  - {name: api, type: http, url: "http://localhost:1/health", alert: [out]}
heartbeat: {url: "https://hc.example/$TOKEN"}
"#;

#[test]
fn the_whole_schema_becomes_subscriptions_and_receivers() {
    let held = HeldSecrets::new();
    let (plan, findings) = planned(WHOLE, &held);
    assert!(findings.iter().all(|finding| finding.text.contains("not implemented")), "{findings:?}");
    assert_eq!(plan.identity, "web-1");
    let names: Vec<_> = plan.streams.iter().map(|stream| stream.name.name.as_str()).collect();
    let expected = [
        "var-log-app.log",
        "etc-weir-logs-any.log",
        "etc-weir-logs-a.log",
        "container-web",
        "orders",
        "https-events.example-stream",
        "raw",
        "syslog",
    ];
    assert_eq!(names, expected);
    let rules = |at: usize| plan.streams[at].spec.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>();
    assert_eq!((rules(0), rules(1), rules(2)), (vec!["errors"], vec!["errors"], vec!["one"]));
    assert_eq!((rules(3), rules(4), rules(5)), (vec!["errors", "slow"], vec!["errors", "slow"], vec!["errors"]));
    let slow = &plan.streams[3].spec.rules[1];
    assert_eq!((slow.cooldown.0.as_str(), slow.threshold.as_deref()), ("5s", Some("5 in 2s")));
    assert_eq!(slow.receivers, ["My_Slack", "tele"]);
    let tcp = plan.streams[6].spec.source.tcp.as_ref().unwrap();
    assert_eq!((tcp.address.as_str(), tcp.tls, tcp.reconnect_delay.0.as_str()), ("logs.example:6514", true, "500ms"));
    assert!(plan.streams[7].spec.source.tcp.as_ref().unwrap().listen);
    let tele = plan.receivers[2].spec.telegram.as_ref().unwrap();
    assert_eq!(tele.chat_id, "-100123");
    assert_eq!(plan.receivers[4].spec.send_grid.as_ref().unwrap().to.len(), 2);
    let resources = plan.resources.unwrap();
    assert_eq!((resources.interval.as_secs(), resources.memory_percent), (10, None));
    assert_eq!((plan.checks[0].interval.as_secs(), plan.checks[0].missed_threshold), (30, 2));
    assert_eq!(plan.heartbeat.unwrap().interval.as_secs(), 60);
}

#[test]
fn secrets_are_held_and_never_stand_in_a_spec_of_a_receiver() {
    let held = HeldSecrets::new();
    let (plan, findings) = planned(WHOLE, &held);
    let slack = plan.receivers[1].spec.slack.as_ref().unwrap();
    let url = held.read("default", &slack.url_secret_ref).now_or_never().unwrap().unwrap();
    assert_eq!(url.expose_secret(), "https://hooks.example/T0/secret-path");
    let header = plan.streams[4].spec.source.web_socket.as_ref().unwrap().headers[0].value_from.clone().unwrap();
    let value = held.read("default", &header).now_or_never().unwrap().unwrap();
    assert_eq!(value.expose_secret(), "Bearer s3cr3t");
    let shown = format!("{:?} {findings:?} {:?}", plan.receivers, read(WHOLE).config);
    assert!(!shown.contains("s3cr3t") && !shown.contains("secret-path"), "{shown}");
}

#[test]
fn reading_the_same_again_gives_the_same_and_a_new_secret_changes_its_spec_alone() {
    let held = HeldSecrets::new();
    let (first, _) = planned(WHOLE, &held);
    let (second, _) = planned(WHOLE, &held);
    assert_eq!((&first.streams, &first.receivers), (&second.streams, &second.receivers));
    let (third, _) = planned(&WHOLE.replace("Bearer ${TOKEN}", "Basic ${TOKEN}"), &held);
    let changed: Vec<_> = third.streams.iter().zip(&first.streams).filter(|(new, old)| new.spec != old.spec).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].0.uid.as_str(), changed[0].0.name.name.as_str()), (changed[0].1.uid.as_str(), "orders"));
    assert_eq!(third.receivers, first.receivers);
}

#[rstest::rstest]
#[case::bare("logs.example:514", "logs.example:514", false)]
#[case::tcp("tcp://logs.example:514", "logs.example:514", false)]
#[case::slash("tcp://logs.example:514/", "logs.example:514", false)]
#[case::tls("tls://logs.example:6514", "logs.example:6514", true)]
#[case::v4("10.0.0.7:514", "10.0.0.7:514", false)]
#[case::v6("[fd00::1]:514", "[fd00::1]:514", false)]
#[case::v6_tls("tls://[fd00::1]:6514/", "[fd00::1]:6514", true)]
#[case::variable("tcp://${HOST}:514", "web-1:514", false)]
fn an_address_of_tcp_may_be_bare_or_have_a_scheme(#[case] url: &str, #[case] address: &str, #[case] tls: bool) {
    let text = format!("inputs: {{streams: [{{type: tcp, url: '{url}'}}]}}\n");
    let (plan, findings) = planned(&text, &HeldSecrets::new());
    assert!(findings.is_empty(), "{findings:?}");
    let tcp = plan.streams[0].spec.source.tcp.as_ref().unwrap();
    assert_eq!((tcp.address.as_str(), tcp.tls, tcp.listen), (address, tls, false));
    Remote::new(RemoteSpec::Tcp(tcp), &FilterSpec::default(), &open(), None).unwrap();
}

/// A world in which everything may be reached.
fn open() -> Outside {
    Outside { policy: Arc::new(OutsidePolicy::open(None)), ..Outside::closed(Metrics::new()) }
}

/// A file that is right but for what stands in these sections.
fn with(sections: &str) -> String {
    format!("{sections}\ninputs: {{files: [/a.log]}}\n")
}

/// What is wrong with one line of a section, at which place.
#[rstest::rstest]
#[case::misspelt("rulez: []", "1:1: \"rulez\" is no key; did you mean rules?")]
#[case::far("wibble: 1", "1:1: \"wibble\" is no key; known here: identity, inputs")]
#[case::twice("heartbeat: {url: 'http://a'}\nheartbeat: {url: 'http://a'}", "2:1: heartbeat stands here a second time")]
#[case::in_table(
    "heartbeat: {url: 'http://a', intervall: 3}",
    "1:30: \"intervall\" is no key of heartbeat; did you mean interval?"
)]
#[case::no_table("heartbeat: 5", "1:12: heartbeat is a number; write keys with values below it")]
#[case::no_list("rules: {a: 1}", "1:8: rules is a table of keys; write a list")]
#[case::no_scheme(
    "heartbeat: {url: example.com}",
    "1:18: heartbeat.url has no scheme; begin it with http:// or https://"
)]
#[case::scheme("heartbeat: {url: 'ftp://a'}", "1:18: heartbeat.url is no address that begins with http")]
#[case::credentials("heartbeat: {url: 'http://u:pw@a'}", "1:18: heartbeat.url holds a user or password")]
#[case::no_url("heartbeat: {interval: 3}", "1:12: heartbeat has no url; write the address")]
#[case::empty_url("heartbeat: {url: }", "1:13: heartbeat has no url")]
#[case::too_short(
    "heartbeat: {url: 'http://a', interval: 0.5}",
    "1:40: heartbeat.interval is out of bounds; write a time from 1s to 1d"
)]
#[case::negative("heartbeat: {url: 'http://a', interval: -1}", "1:40: heartbeat.interval is no length of time")]
#[case::no_time("heartbeat: {url: 'http://a', interval: soon}", "1:40: heartbeat.interval is no length of time")]
#[case::variable("heartbeat: {url: 'http://$NOPE/'}", "1:18: heartbeat.url: the variable NOPE is not set")]
#[case::brace("heartbeat: {url: 'http://${NOPE/'}", "1:18: heartbeat.url: `${` needs the name")]
#[case::identity("identity: {name: $NOPE}", "1:18: identity.name: the variable NOPE is not set")]
#[case::alert_type("alerts: {a: {url: x}}", "1:13: alerts.a has no type; write one of stdout, slack")]
#[case::alert_typo("alerts: {a: {typ: slack}}", "1:14: \"typ\" is no key of alerts.a; did you mean type?")]
#[case::alert_kind(
    "alerts: {a: {type: slak}}",
    "1:20: alerts.a.type is \"slak\", which is not known; did you mean slack?"
)]
#[case::alert_key(
    "alerts: {a: {type: slack, url: 'https://a', chat_id: 1}}",
    "1:45: \"chat_id\" is no key of alerts.a (type slack)"
)]
#[case::alert_needs("alerts: {a: {type: telegram, chat_id: 1}}", "1:13: alerts.a has no bot_token; write the token")]
#[case::alert_variable(
    "alerts: {a: {type: pagerduty, routing_key: $NOPE}}",
    "1:44: alerts.a.routing_key: the variable NOPE"
)]
#[case::alert_url("alerts: {a: {type: webhook, url: hooks.example}}", "1:34: alerts.a.url has no scheme")]
#[case::topic("alerts: {a: {type: ntfy, topic: 'a b'}}", "1:33: alerts.a.topic may hold letters")]
#[case::mail("alerts: {a: {type: email, from: a@b, to: [c]}}", "1:43: alerts.a has an address without an @")]
#[case::mail_none("alerts: {a: {type: email, from: a@b, to: []}}", "1:42: alerts.a.to is an empty list")]
#[case::smtp(
    "alerts: {a: {type: email, from: a@b, to: c@d, smtp_server: mail}}",
    "1:60: alerts.a.smtp_server is no host:port"
)]
#[case::resources("resources: {interval: 3}", "1:12: resources has no thresholds")]
#[case::percent(
    "alerts: {a: {type: stdout}}\nresources: {thresholds: {cpu_percent: 101, alert: a}}",
    "2:39: resources.thresholds.cpu_percent must be a number above 0 and up to 100"
)]
#[case::none_of_them(
    "alerts: {a: {type: stdout}}\nresources: {thresholds: {alert: a}}",
    "2:25: resources.thresholds names no threshold"
)]
#[case::check_type(
    "alerts: {a: {type: stdout}}\nsystem_checks: [{name: n, type: tcp, url: 'http://a', alert: a}]",
    "2:33: system_checks[0].type is \"tcp\""
)]
#[case::check_missed(
    "alerts: {a: {type: stdout}}\nsystem_checks: [{name: n, type: http, url: 'http://a', alert: a, missed_threshold: 0}]",
    "2:84: system_checks[0].missed_threshold must be a whole number from 1 to 1000"
)]
#[case::check_timeout(
    "alerts: {a: {type: stdout}}\nsystem_checks: [{name: n, type: http, url: 'http://a', alert: a, interval: 3, timeout: 4}]",
    "2:88: system_checks[0].timeout is longer than its interval"
)]
#[case::check_alert(
    "system_checks: [{name: n, type: http, url: 'http://a', alert: a}]",
    "1:63: system_checks[0].alert names \"a\", which is no alert; define it below alerts"
)]
fn each_fault_is_told_at_its_place_with_a_remedy(#[case] sections: &str, #[case] expected: &str) {
    let told = told(&with(sections));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("w.yaml:{expected}")), "{told:?}");
}

#[rstest::rstest]
#[case::both("text: a, pattern: b", "47: rules[0] has text and pattern; leave one of them out")]
#[case::neither("cooldown: 5", "9: rules[0] has neither text nor pattern")]
#[case::empty("text: ''", "44: rules[0].text is empty")]
#[case::regex("pattern: 'a(b'", "47: rules[0].pattern `a(b` is not a regular expression")]
#[case::number("text: 1.5", "44: rules[0].text is a number; put it in quotes")]
#[case::cooldown("text: a, cooldown: never", "57: rules[0].cooldown is no length of time")]
#[case::threshold("text: a, threshold: 5 per 2s", "58: rules[0].threshold does not say how often")]
#[case::key("text: a, cooldwon: 5", "47: \"cooldwon\" is no key of rules[0]; did you mean cooldown?")]
#[case::sources(
    "text: a, sources: {files: [/b.log]}",
    "65: rules[0].sources.files names \"/b.log\", which is not in inputs.files"
)]
#[case::container("text: a, sources: {containers: [web]}", "70: rules[0].sources.containers names \"web\"")]
#[case::stream("text: a, sources: {streams: [web]}", "67: rules[0].sources.streams names \"web\"")]
#[case::nowhere("text: a, sources: {}", "56: rules[0].sources names nothing")]
fn each_fault_of_a_rule_is_told_at_its_place(#[case] rest: &str, #[case] expected: &str) {
    let told =
        told(&with(&format!("alerts: {{out: {{type: stdout}}}}\nrules: [{{name: n, alert: [out, out], {rest}}}]")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("w.yaml:2:{expected}")), "{told:?}");
}

#[test]
fn the_place_in_a_pattern_is_told() {
    let told = told(&with("alerts: {out: {type: stdout}}\nrules: [{name: n, alert: out, pattern: 'ab[c'}]"));
    assert!(told[0].contains("(at its character 3)"), "{told:?}");
}

#[rstest::rstest]
#[case::undefined(
    "{name: n, text: a, alert: slck}",
    "35: rules[0].alert names \"slck\", which is no alert; did you mean slack?"
)]
#[case::one_of_many(
    "{name: n, text: a, alert: [slack, b]}",
    "43: rules[0].alert names \"b\", which is no alert; define it below alerts, or use one of slack"
)]
#[case::no_alert("{name: n, text: a}", "9: rules[0] has no alert; name one of those below alerts")]
#[case::no_name("{text: a, alert: slack}", "9: rules[0] has no name")]
#[case::same(
    "{name: n, text: a, alert: slack}, {name: n, text: b, alert: slack}",
    "50: rules[1].name \"n\" is the name of an earlier rule"
)]
fn rules_need_names_and_alerts_that_are_there(#[case] rules: &str, #[case] expected: &str) {
    let told = told(&with(&format!("alerts: {{slack: {{type: slack, url: $SLACK}}}}\nrules: [{rules}]")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("w.yaml:2:{expected}")), "{told:?}");
}

#[rstest::rstest]
#[case::no_type("{url: 'ws://a'}", "inputs.streams[0] has no type; write websocket, http or tcp")]
#[case::kind(
    "{type: websockets, url: 'ws://a'}",
    "inputs.streams[0].type is \"websockets\", which is not known; did you mean websocket?"
)]
#[case::scheme(
    "{type: websocket, url: 'http://a'}",
    "inputs.streams[0].url is no address that begins with ws:// or wss://"
)]
#[case::bare(
    "{type: http, url: a.example/x}",
    "inputs.streams[0].url has no scheme; begin it with http:// or https://"
)]
#[case::port("{type: tcp, url: 'tcp://a'}", "inputs.streams[0].url is no address; write host:port")]
#[case::port_zero("{type: tcp, url: 'a:0'}", "inputs.streams[0].url is no address")]
#[case::delay(
    "{type: tcp, url: 'a:1', reconnect_delay: 0}",
    "inputs.streams[0].reconnect_delay is out of bounds; write a time from 100ms to 1h"
)]
#[case::headers(
    "{type: tcp, url: 'a:1', headers: {a: b}}",
    "inputs.streams[0].headers is for streams of type websocket and http"
)]
#[case::header_name("{type: http, url: 'http://a', headers: {'a b': b}}", "\"a b\" is not the name of a header")]
#[case::mode("{type: websocket, url: 'ws://a', mode: sse}", "inputs.streams[0].mode is for streams of type http")]
#[case::listen("{type: tcp, url: 'tls://a:1', listen: true}", "cannot be combined with listen")]
#[case::unnamed(
    "{type: tcp, url: 'a:1'}, {type: tcp, url: 'a:1', reconnect_delay: 9}",
    "give the stream a name of its own"
)]
fn each_fault_of_a_stream_is_told(#[case] streams: &str, #[case] expected: &str) {
    let told = told(&format!("inputs:\n  streams: [{streams}]\n"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("w.yaml:2:") && told[0].contains(expected), "{told:?}");
}

#[rstest::rstest]
#[case::nothing("", "w.yaml: the file says nothing")]
#[case::idle("identity: {name: x}", "w.yaml: nothing is watched")]
#[case::two("inputs: {files: [/a]}\n---\ninputs: {}", "w.yaml:3:1: the file has a second document")]
#[case::double_path("inputs: {files: [/a, /a]}", "w.yaml:1:22: \"/a\" stands in inputs.files twice")]
#[case::glob("inputs: {files: ['/a[']}", "w.yaml:1:18: \"/a[\" is no glob")]
#[case::not_yaml("inputs:\n  files: [/a\nalerts: {}\n", "w.yaml:")]
#[case::tab("inputs:\n\tfiles: []\n", "w.yaml:2:")]
#[case::text("just text", "w.yaml:1:1:")]
fn a_file_that_is_none_is_refused(#[case] text: &str, #[case] expected: &str) {
    let told = told(text);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(expected), "{told:?}");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let text = "inputs: {files: [/a], fils: 1}\nalerts:\n  a: {type: slack}\n  b: {type: nope}\nrules:\n  - {name: x, pattern: '(', alert: c}\n  - {txt: y, alert: a}\nheartbeat: {url: $NOPE}\n";
    let told = told(text);
    let lines: Vec<_> = told.iter().map(|finding| finding.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["1", "3", "4", "6", "6", "7", "7", "7", "8"], "{told:#?}");
}

#[test]
fn lenient_reading_warns_and_leaves_out_what_it_does_not_know() {
    let text = with("heartbeat: {url: 'http://a', intervall: 3}");
    let Read { config, findings } = parse(&text, "w.yaml", &variables(), Strictness::Lenient);
    assert!(findings.usable() && config.heartbeat.is_some());
    let told = findings.sorted()[0].to_string();
    assert!(told.starts_with("w.yaml:1:30: warning: \"intervall\" is no key"), "{told}");
}

proptest::proptest! {
    #[test]
    fn no_text_brings_the_reader_down(text in "[ -~\n]{0,300}") {
        let _ = told(&text);
    }

    #[test]
    fn no_damage_to_a_good_file_brings_the_reader_down(at in 0usize..1900, with in "[ -~\n]{0,3}") {
        let mut text = WHOLE.to_owned();
        if text.is_char_boundary(at.min(text.len())) {
            text.insert_str(at.min(text.len()), &with);
        }
        let _ = told(&text);
    }
}
