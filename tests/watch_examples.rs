//! The examples for `weir watch` are accepted, and together they show every key that a config file may have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir::manifest::config::schema::{ALERTS, SECTIONS, Section};
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
        let (code, out, err) = weir(&["test", "--config", file.to_str().unwrap()], VARIABLES);
        assert_eq!(code, 0, "{}: {out}{err}", file.display());
        assert!(!out.contains("very-secret") && !err.contains("very-secret"), "{out}{err}");
        assert!(out.contains("identity:") && out.contains("alerts:"), "{out}");
    }
}

#[test]
fn weir_test_names_each_missing_variable_with_its_place() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch/alerts.yaml");
    let (code, _, err) = weir(&["test", "--config", file.to_str().unwrap()], &[]);
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
