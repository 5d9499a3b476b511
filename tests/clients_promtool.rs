//! Weir's metrics, alert rules and dashboard, as Prometheus reads them: with `promtool`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weir::telemetry::{Exposition, Metrics};

/// Runs promtool; what it said, where it is content.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("this test needs promtool (see hack/README.md)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}

fn chart(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/weir").join(file)).unwrap()
}

#[test]
fn the_metrics_are_named_and_explained_by_convention() {
    let said = promtool(&["check", "metrics"], &Metrics::new().encode(Exposition::Prometheus));
    assert_eq!(said, "", "promtool finds something to better");
}

#[test]
fn the_alert_rules_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, chart("rules/weir.yaml")).unwrap();
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", file.to_str().unwrap()], "");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.yaml"), chart("rules/weir.yaml")).unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/alerts.yaml");
    let file = folder.path().join("alerts.yaml");
    std::fs::copy(cases, &file).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()], "");
}

/// Every query of the dashboard, with values in the place of Grafana's variables.
fn queries() -> Vec<String> {
    fn find(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| find(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    find(&serde_json::from_str(&chart("dashboards/weir.json")).unwrap(), &mut found);
    let variables = [("$__rate_interval", "5m"), ("$job", ".*"), ("$instance", ".*")];
    let plain = |query: String| variables.iter().fold(query, |query, (name, value)| query.replace(name, value));
    found.into_iter().map(plain).collect()
}

#[test]
fn every_query_of_the_dashboard_can_be_read() {
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    let rules: Vec<Value> =
        queries.iter().enumerate().map(|(at, query)| json!({"record": format!("query:{at}"), "expr": query})).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    // JSON is YAML.
    std::fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let said = promtool(&["check", "rules", file.to_str().unwrap()], "");
    assert!(said.contains(&format!("{} rules found", queries.len())), "{said}");
}
