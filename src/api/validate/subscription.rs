//! What can be wrong with a `StreamSubscription`.

use std::time::Duration;

use super::source::source;
use super::{Findings, Problem, Reach, bounds, is_object_name};
use crate::api::message::Message;
use crate::api::pattern::compile_text;
use crate::api::text::Threshold;
use crate::api::{FilterSpec, HistorySpec, HistoryStorage, PushFraming, RuleSpec, StreamSubscriptionSpec};

/// What gives records to what is pushed.
const FRAME: &str = "set spec.source.push.framing to Lines or Ndjson";

/// All that is wrong with the spec of a `StreamSubscription`; nothing if it can be run as it is.
pub fn stream_subscription(spec: &StreamSubscriptionSpec, reach: Reach<'_>) -> Vec<Problem> {
    let mut findings = Findings::default();
    source(&mut findings, &spec.source, reach);
    if let Some(spec) = &spec.filter {
        filter(&mut findings, spec);
    }
    if spec.source.pod_metrics.is_some() && !spec.rules.is_empty() {
        findings.invalid("spec.rules", "watch text, and podMetrics gives numbers; remove them");
    }
    let unframed = spec.source.push.as_ref().is_some_and(|push| push.framing == PushFraming::Raw);
    if unframed && spec.filter.as_ref().is_some_and(|filter| !filter.is_empty()) {
        findings.invalid("spec.filter", format!("needs records; {FRAME}, or remove it"));
    }
    if unframed && !spec.rules.is_empty() {
        findings.invalid("spec.rules", format!("need records; {FRAME}, or remove them"));
    }
    for (at, spec) in spec.rules.iter().enumerate() {
        rule(&mut findings, &format!("spec.rules[{at}]"), spec);
    }
    if let Some(history_spec) = &spec.history {
        history(&mut findings, history_spec);
        if unframed && history_spec.records.is_some() {
            findings.invalid("spec.history.records", format!("counts records; {FRAME}, or use bytes or age"));
        }
    }
    bounds::check("StreamSubscription", spec, &mut findings);
    findings.0
}

fn filter(findings: &mut Findings, spec: &FilterSpec) {
    findings.each("spec.filter.include", &spec.include, compile_text);
    findings.each("spec.filter.exclude", &spec.exclude, compile_text);
}

fn rule(findings: &mut Findings, field: &str, spec: &RuleSpec) {
    let mut compiled = None;
    match (&spec.text, &spec.pattern) {
        (Some(_), Some(_)) => findings.invalid(field, "has text and pattern; set one of them"),
        (None, None) => findings.invalid(field, "has neither text nor pattern; set one of them"),
        (Some(_), None) => {}
        (None, Some(pattern)) => {
            compiled = findings.check(format!("{field}.pattern"), compile_text(pattern));
        }
    }
    findings.duration(&format!("{field}.cooldown"), &spec.cooldown, Duration::ZERO);
    if let Some(text) = &spec.threshold {
        findings.check(format!("{field}.threshold"), Threshold::parse(text));
    }
    // What is wrong with the pattern is said; what it captures is then not known.
    if let Some(text) = spec.message.as_deref().filter(|_| spec.pattern.is_none() || compiled.is_some()) {
        findings.check(format!("{field}.message"), Message::parse(text, compiled.as_ref()));
    }
    for (at, name) in spec.receivers.iter().enumerate() {
        if !is_object_name(name) {
            findings.invalid(
                format!("{field}.receivers[{at}]"),
                "is not the name of an AlertReceiver; use lower-case letters, digits, `-` and `.`",
            );
        }
    }
}

fn history(findings: &mut Findings, spec: &HistorySpec) {
    if let Some(age) = &spec.age {
        findings.duration("spec.history.age", age, Duration::from_secs(1));
    }
    if spec.storage == HistoryStorage::Memory && spec.fsync.is_some() {
        findings.invalid("spec.history.fsync", "needs storage Disk; remove it or set storage to Disk");
    }
}
