//! What can be wrong with an `AccessKey`.

use std::time::Duration;

use super::selection::namespaces;
use super::{Findings, Problem, Reach, bounds};
use crate::api::pattern::{ContainerPattern, GroupPattern, NamePattern};
use crate::api::{AccessKeySpec, Grant};

/// All that is wrong with the spec of an `AccessKey`; nothing if it can be used as it is.
///
/// Whether its time is over is not asked here.
pub fn access_key(spec: &AccessKeySpec, reach: Reach<'_>) -> Vec<Problem> {
    let mut findings = Findings::default();
    if spec.grants.is_empty() {
        findings.invalid("spec.grants", "is empty, so the key grants nothing; add a grant");
    }
    for (at, spec) in spec.grants.iter().enumerate() {
        grant(&mut findings, &format!("spec.grants[{at}]"), spec, reach);
    }
    if spec.expires_at.is_some() && spec.ttl.is_some() {
        findings.invalid("spec", "has expiresAt and ttl; set one of them");
    }
    if let Some(time) = &spec.expires_at {
        findings.time("spec.expiresAt", time);
    }
    if let Some(ttl) = &spec.ttl {
        findings.duration("spec.ttl", ttl, Duration::from_secs(1));
    }
    for (at, origin) in spec.allowed_origins.iter().enumerate() {
        if !is_origin(origin) {
            findings.invalid(
                format!("spec.allowedOrigins[{at}]"),
                "is not an origin; write scheme and host without a path, as `https://dash.example.com`",
            );
        }
    }
    if let Some(secret) = &spec.secret_ref {
        findings.secret("spec.secretRef", secret);
    }
    bounds::check("AccessKey", spec, &mut findings);
    findings.0
}

fn grant(findings: &mut Findings, field: &str, spec: &Grant, reach: Reach<'_>) {
    if spec.services.is_empty() {
        findings
            .invalid(format!("{field}.services"), "is empty, so nothing is granted; add Log, Metrics, Signal or Raw");
    }
    if spec.scopes.is_empty() {
        findings.invalid(format!("{field}.scopes"), "is empty, so nothing is granted; add a scope such as View");
    }
    findings.each(&format!("{field}.streams"), &spec.streams, NamePattern::parse);
    if let Some(pods) = &spec.pods {
        namespaces(findings, &format!("{field}.pods.namespaces"), &pods.namespaces, reach);
        findings.each(&format!("{field}.pods.groups"), &pods.groups, GroupPattern::parse);
        findings.each(&format!("{field}.pods.pods"), &pods.pods, NamePattern::parse);
        findings.each(&format!("{field}.pods.containers"), &pods.containers, ContainerPattern::parse);
    }
}

/// Whether a text is what a browser sends as `Origin`.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.contains(['/', '?', '#', '@', '*'])
            && host.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.host().is_empty())
    })
}
