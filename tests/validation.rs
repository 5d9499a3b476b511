//! What the server refuses through CEL, the operator refuses too; and each refusal says where and what to do.
//!
//! Every row of the tables in `tests/validation` is held against both: the rules in the generated definitions,
//! run as a server runs them, and the operator's own checks, which must also work where there are no rules or
//! no server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kube::core::cel::{Validator, WarningKind, compile_schema, estimate_rule_cost};
use serde_json::{Value, json};
use weir::api::condition::reason;
use weir::api::crds::{Variant, crds};
use weir::api::validate::{Problem, Reach, access_key, alert_receiver, stream_subscription};

const KEY: &str = "AccessKey";
const SUB: &str = "StreamSubscription";
const RECEIVER: &str = "AlertReceiver";

/// One row of a table.
#[derive(serde::Deserialize)]
struct Row {
    kind: String,
    spec: Value,
    /// A part of what CEL says.
    #[serde(default)]
    cel: String,
    /// The field that the operator names.
    #[serde(default)]
    field: String,
    /// A part of what the operator says.
    #[serde(default)]
    says: String,
}

fn rows(text: &str) -> Vec<Row> {
    serde_saphyr::from_str(text).expect("the table is YAML")
}

fn accepted() -> Vec<Row> {
    rows(include_str!("validation/accepted.yaml"))
}

fn refused_by_both() -> Vec<Row> {
    rows(include_str!("validation/refused-by-both.yaml"))
}

fn refused_by_operator() -> Vec<Row> {
    rows(include_str!("validation/refused-by-operator.yaml"))
}

/// The schema of a kind's spec, as a server has it.
fn spec_schema(kind: &str) -> Value {
    let all = crds(Variant::Full);
    let crd = all.into_iter().find(|crd| crd.spec.names.kind == kind).expect("the kind exists");
    let crd = serde_json::to_value(crd).expect("definitions have a JSON form");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// What CEL says against a spec.
fn cel(kind: &str, spec: &Value) -> Vec<String> {
    match Validator::new().validate(&spec_schema(kind), spec, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(ToString::to_string).collect(),
    }
}

/// What the operator says against a spec, for an object in its own namespace.
fn own(kind: &str, spec: &Value) -> Vec<Problem> {
    own_within(kind, spec, Reach::Everything)
}

fn own_within(kind: &str, spec: &Value, reach: Reach<'_>) -> Vec<Problem> {
    let spec = spec.clone();
    match kind {
        KEY => access_key(&serde_json::from_value(spec).expect("readable"), reach),
        RECEIVER => alert_receiver(&serde_json::from_value(spec).expect("readable")),
        _ => stream_subscription(&serde_json::from_value(spec).expect("readable"), reach),
    }
}

fn invalid(problems: &[Problem]) -> Vec<&Problem> {
    problems.iter().filter(|problem| problem.reason == reason::INVALID).collect()
}

fn selection(more: Value) -> Value {
    json!({"source": {"podLogs": {"selection": more}}})
}

#[test]
fn good_specs_are_accepted() {
    for Row { kind, spec, .. } in accepted() {
        assert_eq!(cel(&kind, &spec), Vec::<String>::new(), "CEL: {spec}");
        let problems = own(&kind, &spec);
        assert_eq!(invalid(&problems), Vec::<&Problem>::new(), "{spec}");
    }
}

#[test]
fn what_cel_refuses_the_operator_refuses() {
    for row in refused_by_both() {
        let (spec, said) = (&row.spec, cel(&row.kind, &row.spec));
        assert!(said.iter().any(|text| text.contains(&row.cel)), "CEL: {spec}: {said:?}");
        let problems = own(&row.kind, spec);
        let named = invalid(&problems).iter().any(|problem| problem.field == row.field);
        assert!(named, "{spec}: {problems:?}");
    }
}

#[test]
fn every_cel_rule_refuses_something() {
    let table = refused_by_both();
    let tried: Vec<_> = table.iter().flat_map(|row| cel(&row.kind, &row.spec)).collect();
    for kind in [KEY, SUB, RECEIVER] {
        each_rule(&spec_schema(kind), &mut |_, rule| {
            let message = rule["message"].as_str().expect("every rule has a message");
            let broken = tried.iter().any(|said| said.contains(message));
            assert!(broken, "{kind}: nothing in the table breaks {message:?}");
        });
    }
}

#[test]
fn the_operator_refuses_more_and_says_what_to_do() {
    for row in refused_by_operator() {
        let problems = own(&row.kind, &row.spec);
        let named = |p: &Problem| p.field == row.field && p.message.contains(&row.says);
        assert!(problems.iter().any(named), "{}: no {:?} at {}: {problems:#?}", row.spec, row.says, row.field);
    }
}

#[test]
fn sizes_are_bounded_without_a_server() {
    let names: Vec<_> = (0..65).map(|n| format!("n{n}")).collect();
    let labels = names.iter().map(|name| (name.clone(), json!("x")));
    let labels: serde_json::Map<_, _> = labels.collect();
    for (spec, field, says) in [
        (json!({"pods": names}), "pods", "has 65 items; at most 64 are allowed"),
        (json!({"pods": ["x".repeat(254)]}), "pods[0]", "has 254 characters; at most 253 are allowed"),
        (
            json!({"labelSelector": {"matchLabels": labels}}),
            "labelSelector.matchLabels",
            "has 65 entries; at most 32 are allowed",
        ),
    ] {
        let problems = own(SUB, &selection(spec));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!(problem.field, format!("spec.source.podLogs.selection.{field}"));
        assert_eq!(problem.message, says);
    }
}

#[test]
fn a_field_has_one_problem_of_each_reason() {
    for Row { kind, spec, .. } in refused_by_operator().into_iter().chain(refused_by_both()) {
        let problems = own(&kind, &spec);
        for (at, problem) in problems.iter().enumerate() {
            let same = |p: &&Problem| p.field == problem.field && p.reason == problem.reason;
            assert_eq!(problems[..at].iter().find(same), None, "{spec}: {problem:?}");
        }
    }
}

#[test]
fn what_this_version_has_is_not_refused_as_if_it_had_it_not() {
    for (kind, spec) in [
        (SUB, json!({"source": {"push": {"framing": "Lines"}}, "filter": {"include": ["a"]}})),
        (SUB, json!({"source": {"push": {"framing": "Ndjson"}}, "history": {"records": 5, "storage": "Disk"}})),
        (SUB, json!({"source": {"podMetrics": {"metrics": ["a"]}}})),
        (SUB, json!({"source": {"podLogs": {}}, "history": {"storage": "Disk"}})),
        (SUB, json!({"source": {"podSignals": {}}, "history": {"storage": "Disk", "fsync": "Always"}})),
        (SUB, selection(json!({}))),
        (RECEIVER, json!({"stdout": {}})),
    ] {
        let problems = own(kind, &spec);
        assert!(problems.is_empty(), "{spec}: {problems:?}");
    }
}

#[test]
fn a_tenant_reaches_its_own_namespace_only() {
    let pods = "spec.source.podLogs.selection";
    let grant = |namespaces: Value, scope: &str| {
        json!({"grants": [
            {"services": ["Log"], "scopes": [scope], "pods": {"namespaces": namespaces}},
        ]})
    };
    for (kind, spec, field) in [
        (SUB, selection(json!({})), None),
        (SUB, selection(json!({"namespaces": ["shop"]})), None),
        (SUB, selection(json!({"namespaces": ["sh.*"]})), None),
        (SUB, selection(json!({"namespaces": ["shop", "bank"]})), Some(format!("{pods}.namespaces[1]"))),
        (SUB, selection(json!({"namespaces": ["bank-.*"]})), Some(format!("{pods}.namespaces[0]"))),
        (SUB, selection(json!({"view": "Cluster"})), Some(format!("{pods}.view"))),
        (KEY, grant(json!(["shop"]), "View"), None),
        (KEY, grant(json!(["bank"]), "View"), Some("spec.grants[0].pods.namespaces[0]".to_owned())),
        (KEY, grant(json!([]), "Cluster"), None),
    ] {
        let problems = own_within(kind, &spec, Reach::of("shop", "weir-system"));
        let told = problems.iter().all(|problem| problem.reason == reason::NOT_ALLOWED);
        assert!(told, "{spec}: {problems:?}");
        assert_eq!(problems.first().map(|problem| problem.field.clone()), field, "{spec}");
        assert_eq!(own_within(kind, &spec, Reach::of("weir-system", "weir-system")), [], "{spec}");
    }
}

#[rstest::rstest]
#[case::logs("podLogs", json!({}))]
#[case::metrics("podMetrics", json!({"metrics": ["container_cpu_usage_seconds_total"]}))]
#[case::signals("podSignals", json!({}))]
fn a_source_that_selects_pods_is_confined_whatever_it_says(#[case] kind: &str, #[case] mut source: Value) {
    for namespaces in [json!([]), json!(["bank"]), json!([".*"])] {
        source["selection"] = json!({"namespaces": namespaces});
        let wanted: weir::api::SourceSpec = serde_json::from_value(json!({kind: source})).unwrap();
        let confined = |reach: Reach<'_>| {
            let mut source = wanted.clone();
            reach.confine(&mut source);
            source
        };
        let tenants = serde_json::to_value(confined(Reach::of("shop", "weir-system"))).unwrap();
        assert_eq!(tenants[kind]["selection"]["namespaces"], json!(["shop"]));
        assert_eq!(confined(Reach::Everything), wanted);
    }
}

fn each_rule(schema: &Value, seen: &mut impl FnMut(&Value, &Value)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        seen(schema, rule);
    }
    for child in schema["properties"].as_object().into_iter().flat_map(|map| map.values()) {
        each_rule(child, seen);
    }
    for child in ["items", "additionalProperties"] {
        if schema[child].is_object() {
            each_rule(&schema[child], seen);
        }
    }
}

#[test]
fn cel_rules_compile_and_stay_in_budget() {
    let mut rules = 0;
    for kind in [KEY, SUB, RECEIVER] {
        let schema = spec_schema(kind);
        assert!(!compile_schema(&schema).has_errors(), "{kind}");
        each_rule(&schema, &mut |schema, rule| {
            let text = rule["rule"].as_str().expect("a rule has an expression");
            let warnings = estimate_rule_cost(text, &compile_schema(schema));
            let costly = warnings.iter().any(|warning| warning.kind == WarningKind::CostExceeded);
            assert!(!costly, "{kind}: {warnings:?}");
            rules += 1;
        });
    }
    assert!(rules >= 12, "{rules}");
}
