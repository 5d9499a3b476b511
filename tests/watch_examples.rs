//! The examples for `weir watch` are accepted, together they show every key that a config file may have, and `weir test`
//! says of everything that can be wrong with such a file where it is and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir::manifest::config::schema::{ALERTS, SECTIONS, Section};
use weir::manifest::place::Place;
use weir::manifest::tree::{Node, Value, documents};

/// The variables that the examples take from the environment.
const VARIABLES: &[(&str, &str)] = &[
    ("SLACK_WEBHOOK", "https://hooks.slack.example/services/T0/B0/very-secret"),
    ("DISCORD_WEBHOOK", "https://discord.example/api/webhooks/0/very-secret"),
    ("HOOK_KEY", "very-secret"),
    ("TELEGRAM_TOKEN", "123456:very-secret"),
    ("PAGERDUTY_KEY", "very-secret"),
    ("NTFY_TOKEN", "very-secret"),
    ("SMTP_PASSWORD", "very-secret"),
    ("SENDGRID_KEY", "very-secret"),
    ("ORDERS_TOKEN", "very-secret"),
    ("PROBE_KEY", "very-secret"),
    ("HEARTBEAT_ID", "very-secret"),
    ("HOSTNAME", "box"),
];

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn weir(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn weir_test_accepts_each_example_and_shows_no_secret() {
    let files = examples();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let (code, out, err) = weir(&["test", "--allow-missing", "--config", file.to_str().unwrap()], VARIABLES);
        assert_eq!(code, 0, "{}: {out}{err}", file.display());
        assert!(!out.contains("very-secret") && !err.contains("very-secret"), "{out}{err}");
        assert!(out.contains("identity:") && out.contains("alerts:"), "{out}");
    }
}

#[test]
fn weir_test_names_each_missing_variable_with_its_place() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch/alerts.yaml");
    let (code, _, err) = weir(&["test", "--allow-missing", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(code, 1);
    for (name, line) in [("SLACK_WEBHOOK", 10), ("TELEGRAM_TOKEN", 21), ("SMTP_PASSWORD", 41)] {
        let place = format!("alerts.yaml:{line}:");
        let told = err.lines().any(|told| told.contains(&place) && told.contains(name));
        assert!(told, "{name} at line {line}: {err}");
    }
    assert!(err.trim_end().ends_with("the config file has 8 errors"), "{err}");
}

#[test]
fn the_examples_show_every_key_of_the_schema() {
    let roots: Vec<Node> = examples()
        .iter()
        .flat_map(|file| documents(&std::fs::read_to_string(file).unwrap()))
        .map(|document| document.unwrap())
        .collect();
    let mut missing = Vec::new();
    for Section { path, keys } in SECTIONS {
        let shown: BTreeSet<&str> = roots.iter().flat_map(|root| at(root, path)).flat_map(keys_of).collect();
        missing.extend(keys.iter().filter(|key| !shown.contains(*key)).map(|key| format!("{path}.{key}")));
    }
    for section in ALERTS {
        let alerts = roots.iter().filter_map(|root| root.get("alerts")).flat_map(children);
        let of_kind = alerts.filter(|alert| alert.text("type") == Some(section.kind));
        let shown: BTreeSet<&str> = of_kind.flat_map(keys_of).collect();
        missing.extend(
            section.keys.iter().filter(|key| !shown.contains(*key)).map(|key| format!("{}.{key}", section.kind)),
        );
    }
    assert!(missing.is_empty(), "show these keys in examples/watch: {missing:?}");
}

/// What `weir test` says of a file with this text, in a folder where `there.log` is.
fn judged(text: &str, more: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("there.log"), "").unwrap();
    let file = folder.path().join("w.yaml");
    std::fs::write(&file, text).unwrap();
    let (code, _, err) = weir(&[&["test", "--config", file.to_str().unwrap()], more].concat(), VARIABLES);
    (code, err.replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn every_misspelt_key_is_told_with_its_place_and_what_was_meant() {
    let alerts =
        ALERTS.iter().map(|section| (format!("alerts.{}", section.kind), "alerts[]", section.keys, section.kind));
    let sections = SECTIONS.iter().map(|section| (section.path.to_owned(), section.path, section.keys, ""));
    let mut tried = 0;
    for (title, path, keys, kind) in sections.chain(alerts) {
        for key in keys {
            let (text, place) = examples().iter().find_map(|file| shown(file, path, kind, key)).unwrap();
            let (code, err) = judged(&misspelt(&text, place, key), &["--allow-missing"]);
            let last = key.chars().last().unwrap();
            let told = format!("w.yaml:{}:{}: \"{key}{last}\" is no key", place.line, place.column);
            let line = err.lines().find(|line| line.starts_with(&told));
            let line = line.unwrap_or_else(|| panic!("{title}.{key}: {told} is not in {err}"));
            assert!(line.contains(&format!("did you mean {key}?")), "{title}.{key}: {line}");
            assert_eq!(code, 1, "{title}.{key}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// The text of a file, and where in it a key of this section stands.
fn shown(file: &Path, path: &str, kind: &str, key: &str) -> Option<(String, Place)> {
    let text = std::fs::read_to_string(file).unwrap();
    let root = documents(&text).into_iter().next()?.ok()?;
    let tables = at(&root, path).into_iter().filter(|table| kind.is_empty() || table.text("type") == Some(kind));
    let entries = tables.flat_map(|table| match &table.value {
        Value::Table(entries) => entries.as_slice(),
        _ => &[],
    });
    let place = entries.map(|(name, _)| name).find(|name| name.text == key)?.place;
    Some((text, place))
}

/// The text with the last letter of a key doubled.
fn misspelt(text: &str, place: Place, key: &str) -> String {
    let lines = text.split_inclusive('\n').enumerate().map(|(at, line)| {
        if at as u64 + 1 != place.line {
            return line.to_owned();
        }
        let at = line.char_indices().nth(place.column as usize - 1).unwrap().0;
        let (before, after) = line.split_at(at);
        let rest = after.strip_prefix(key).unwrap_or_else(|| panic!("{key} at {place:?} of {line}"));
        format!("{before}{key}{}{rest}", key.chars().last().unwrap())
    });
    lines.collect()
}

const OUT: &str = "alerts: {out: {type: stdout}}\ninputs: {files: [there.log]}\n";

#[rstest::rstest]
#[case::good("rules: [{name: n, text: a, alert: out}]", "", "")]
#[case::both("rules: [{name: n, text: a, pattern: b, alert: out}]", "3:28", "leave one of them out")]
#[case::neither("rules: [{name: n, alert: out}]", "3:9", "write text for what lines contain, or pattern")]
#[case::regex("rules: [{name: n, pattern: 'a(b', alert: out}]", "3:28", "mend it, or use text")]
#[case::undefined("rules: [{name: n, text: a, alert: oout}]", "3:35", "did you mean out?")]
#[case::variable(
    "heartbeat: {url: 'http://$NOPE/'}",
    "3:18",
    "the variable NOPE is not set; set it in the environment"
)]
#[case::no_scheme_of_a_heartbeat("heartbeat: {url: example.com}", "3:18", "begin it with http:// or https://")]
#[case::no_scheme_of_a_check(
    "system_checks: [{name: n, type: http, alert: out, url: 'example.com:80/x'}]",
    "3:56",
    "begin it with http:// or https://"
)]
fn each_fault_of_a_file_ends_weir_test_with_1(#[case] section: &str, #[case] place: &str, #[case] remedy: &str) {
    told(&judged(&format!("{OUT}{section}\n"), &[]), place, remedy);
}

#[rstest::rstest]
#[case::bare("{type: tcp, url: 'logs.example:514'}", "", "")]
#[case::tcp("{type: tcp, url: 'tcp://logs.example:514'}", "", "")]
#[case::tls("{type: tcp, url: 'tls://logs.example:6514'}", "", "")]
#[case::no_port("{type: tcp, url: logs.example}", "1:37", "write host:port, tcp://host:port or tls://host:port")]
#[case::other_scheme("{type: tcp, url: 'http://logs.example:80'}", "1:37", "write host:port")]
#[case::websocket("{type: websocket, url: feed.example/x}", "1:43", "begin it with ws:// or wss://")]
#[case::http("{type: http, url: feed.example/x}", "1:38", "begin it with http:// or https://")]
fn each_fault_of_an_address_ends_weir_test_with_1(#[case] stream: &str, #[case] place: &str, #[case] remedy: &str) {
    told(&judged(&format!("inputs: {{streams: [{stream}]}}\n"), &[]), place, remedy);
}

#[rstest::rstest]
#[case::there("[there.log, 'th*.log', './**/*.log']", "", "")]
#[case::glob("[there.log, 'logs/*.log']", "1:29", "mend the path, or let --allow-missing warn")]
#[case::path("[their.log]", "1:18", "mend the path")]
#[case::broken("['[a.log']", "1:18", "use *, ?, [abc]")]
fn a_path_or_glob_that_matches_nothing_ends_weir_test_with_1(
    #[case] files: &str,
    #[case] place: &str,
    #[case] remedy: &str,
) {
    told(&judged(&format!("inputs: {{files: {files}}}\n"), &[]), place, remedy);
}

#[test]
fn files_that_are_still_to_come_can_be_allowed() {
    let (code, err) = judged("inputs: {files: ['logs/*.log']}\n", &["--allow-missing"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("w.yaml:1:18: warning: no file matches") && err.contains("as soon as it is there"), "{err}");
}

/// A good file is accepted; of any other the one thing that is wrong is told at its place, with what to do.
fn told((code, err): &(i32, String), place: &str, remedy: &str) {
    if place.is_empty() {
        // A source may be one that this version does not read; of that it warns.
        assert_eq!(*code, 0, "{err}");
        return;
    }
    assert_eq!(*code, 1, "{err}");
    let lines: Vec<_> = err.lines().filter(|line| line.starts_with("w.yaml:") && !line.contains("warning")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].starts_with(&format!("w.yaml:{place}: ")) && lines[0].contains(remedy), "{err}");
    assert!(err.trim_end().ends_with("the config file has an error"), "{err}");
}

/// The tables at a path of the schema: `rules[].sources`.
fn at<'n>(root: &'n Node, path: &str) -> Vec<&'n Node> {
    path.split('.').filter(|part| !part.is_empty()).fold(vec![root], |nodes, part| {
        let (key, each) = part.strip_suffix("[]").map_or((part, false), |key| (key, true));
        let found = nodes.into_iter().filter_map(|node| node.get(key));
        if each { found.flat_map(children).collect() } else { found.collect() }
    })
}

fn children(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Table(entries) => entries.iter().map(|(_, node)| node).collect(),
        _ => Vec::new(),
    }
}

fn keys_of(node: &Node) -> Vec<&str> {
    match &node.value {
        Value::Table(entries) => entries.iter().map(|(name, _)| name.text.as_str()).collect(),
        _ => Vec::new(),
    }
}
