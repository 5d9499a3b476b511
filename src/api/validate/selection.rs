//! What can be wrong with a selection of pods.

use std::sync::LazyLock;

use regex::Regex;

use super::{Findings, Reach};
use crate::api::pattern::{ContainerPattern, GroupPattern, NamePattern};
use crate::api::selection::{LabelOperator, LabelRequirement, LabelSelector};
use crate::api::{PodSelection, View};

pub(super) fn selection(findings: &mut Findings, field: &str, spec: &PodSelection, reach: Reach<'_>) {
    namespaces(findings, &format!("{field}.namespaces"), &spec.namespaces, reach);
    findings.each(&format!("{field}.groups"), &spec.groups, GroupPattern::parse);
    findings.each(&format!("{field}.pods"), &spec.pods, NamePattern::parse);
    findings.each(&format!("{field}.containers"), &spec.containers, ContainerPattern::parse);
    if let (View::Cluster, Reach::Namespace(own)) = (spec.view, reach) {
        findings.not_allowed(
            format!("{field}.view"),
            format!("is Cluster, which only objects in the operator's namespace may use; use Namespace to follow all of {own}"),
        );
    }
    if let Some(labels) = &spec.label_selector {
        label_selector(findings, &format!("{field}.labelSelector"), labels);
    }
}

/// Namespaces must be readable, and within reach.
pub(super) fn namespaces(findings: &mut Findings, field: &str, items: &[String], reach: Reach<'_>) {
    for (at, item) in items.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let Some(pattern) = findings.check(field.as_str(), NamePattern::parse(item)) else {
            continue;
        };
        if let Reach::Namespace(own) = reach
            && !pattern.matches(own)
        {
            findings.not_allowed(
                field,
                format!("does not match {own}, and objects there reach no other namespace; leave it out, or put the object into the operator's namespace"),
            );
        }
    }
}

fn label_selector(findings: &mut Findings, field: &str, selector: &LabelSelector) {
    for (key, value) in &selector.match_labels {
        let field = format!("{field}.matchLabels.{key}");
        label_key(findings, &field, key);
        label_value(findings, &field, value);
    }
    for (at, requirement) in selector.match_expressions.iter().enumerate() {
        label_requirement(findings, &format!("{field}.matchExpressions[{at}]"), requirement);
    }
}

fn label_requirement(findings: &mut Findings, field: &str, requirement: &LabelRequirement) {
    label_key(findings, &format!("{field}.key"), &requirement.key);
    let listed = matches!(requirement.operator, LabelOperator::In | LabelOperator::NotIn);
    match (listed, requirement.values.is_empty()) {
        (true, true) => findings.invalid(format!("{field}.values"), "is empty; In and NotIn need at least one value"),
        (false, false) => {
            findings.invalid(format!("{field}.values"), "is set; Exists and DoesNotExist have no values, remove them");
        }
        _ => {}
    }
    for (at, value) in requirement.values.iter().enumerate() {
        label_value(findings, &format!("{field}.values[{at}]"), value);
    }
}

/// A pattern written in this file; one that does not compile matches nothing and fails every test.
fn fixed(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

fn label_key(findings: &mut Findings, field: &str, key: &str) {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        fixed(r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
    });
    if !FORM.as_ref().is_some_and(|form| form.is_match(key)) {
        findings.invalid(field, "is not the name of a label; write it as `app` or `example.com/app`");
    }
}

fn label_value(findings: &mut Findings, field: &str, value: &str) {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| fixed(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"));
    if !FORM.as_ref().is_some_and(|form| form.is_match(value)) {
        findings.invalid(field, "is not the value of a label; use up to 63 letters, digits, `-`, `_` and `.`");
    }
}
