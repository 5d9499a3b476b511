//! The alert rules and the dashboard: what the chart makes of them, and that they speak of metrics that there are.
//!
//! Whether Prometheus can read their expressions is tested with `promtool`, in `tests/clients_promtool.rs`.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value as Json, json};
use weir::telemetry::{Exposition, Metrics};

use crate::helm::{Release, chart, read_yaml, render};

fn file(path: &str) -> String {
    std::fs::read_to_string(chart().join(path)).unwrap()
}

#[test]
fn the_rules_are_those_of_the_file() {
    let rendered =
        render(Release::default(), &json!({"prometheusRule": {"enabled": true, "labels": {"release": "p"}}}));
    let rule = rendered.one("PrometheusRule");
    assert_eq!(rule["spec"], read_yaml(&chart().join("rules/weir.yaml")));
    assert_eq!(rule["metadata"]["labels"]["release"], "p");
}

#[test]
fn the_dashboard_is_the_file_and_found_by_its_label() {
    let rendered =
        render(Release::default(), &json!({"grafanaDashboard": {"enabled": true, "annotations": {"folder": "Weir"}}}));
    let map = rendered.one("ConfigMap");
    let held: Json = serde_json::from_str(map["data"]["weir.json"].as_str().unwrap()).unwrap();
    assert_eq!(held, serde_json::from_str::<Json>(&file("dashboards/weir.json")).unwrap());
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"]["folder"], "Weir");
}

/// The metrics that a text speaks of. The parts of a histogram count as the histogram.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let name = Regex::new("(?:weir|process)_[a-z0-9_]+").unwrap();
    let part = Regex::new("_(bucket|sum|count)$").unwrap();
    name.find_iter(text).map(|found| part.replace(found.as_str(), "").into_owned()).collect()
}

#[test]
fn they_speak_of_metrics_that_there_are() {
    let page = Metrics::new().encode(Exposition::Prometheus);
    let exported: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for path in ["rules/weir.yaml", "dashboards/weir.json"] {
        let spoken_of = spoken_of(&file(path));
        assert!(spoken_of.len() > 8, "{path}: {spoken_of:?}");
        for metric in &spoken_of {
            assert!(exported.contains(metric.as_str()), "{path} speaks of {metric}, which is not exported");
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_stands_in_its_own_place() {
    let dashboard: Json = serde_json::from_str(&file("dashboards/weir.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(x < 24 && taken.insert((x, y)), "{title} stands on another panel or outside");
            }
        }
        let explained = panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| !text.is_empty());
        assert!(explained, "{title} does not say what it shows");
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}
