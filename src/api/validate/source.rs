//! What can be wrong with a source.

use std::time::Duration;

use super::selection::selection;
use super::{Findings, IMPLEMENTED_SOURCES, Reach};
use crate::api::pattern::NamePattern;
use crate::api::source::{
    ContainersSource, FilesSource, HeaderSpec, HttpSource, PodLogsSource, PodMetricsSource, PodSignalsSource,
    SourceSpec, StartSpec, TcpSource, WebSocketSource,
};
use crate::api::source::{DERIVED_METRICS, METRICS_INTERVAL, RATE_SUFFIX};

const LEAST_RECONNECT: Duration = Duration::from_millis(100);
const LEAST_IDLE: Duration = Duration::from_secs(1);

pub(super) fn source(findings: &mut Findings, spec: &SourceSpec, reach: Reach<'_>) {
    let kinds = spec.kinds();
    let names = || kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    match kinds.as_slice() {
        [_] => {}
        [] => findings.invalid("spec.source", "has no source; set exactly one, such as podLogs"),
        _ => findings.invalid("spec.source", format!("has several sources ({}); set exactly one", names())),
    }
    for kind in kinds.iter().filter(|kind| !IMPLEMENTED_SOURCES.contains(kind)) {
        let known = IMPLEMENTED_SOURCES.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        findings.not_implemented(
            format!("spec.source.{kind}"),
            format!("is not implemented in this version; use one of {known}"),
        );
    }
    each_kind(findings, spec, reach);
}

fn each_kind(findings: &mut Findings, spec: &SourceSpec, reach: Reach<'_>) {
    if let Some(source) = &spec.pod_logs {
        pod_logs(findings, source, reach);
    }
    if let Some(source) = &spec.pod_metrics {
        pod_metrics(findings, source, reach);
    }
    if let Some(source) = &spec.pod_signals {
        pod_signals(findings, source, reach);
    }
    if let Some(source) = &spec.files {
        files(findings, source);
    }
    if let Some(source) = &spec.containers {
        containers(findings, source);
    }
    if let Some(source) = &spec.http {
        http(findings, source);
    }
    if let Some(source) = &spec.web_socket {
        web_socket(findings, source);
    }
    if let Some(source) = &spec.tcp {
        tcp(findings, source);
    }
}

fn pod_logs(findings: &mut Findings, spec: &PodLogsSource, reach: Reach<'_>) {
    selection(findings, "spec.source.podLogs.selection", &spec.selection, reach);
    if let Some(spec) = &spec.start {
        start(findings, "spec.source.podLogs.start", spec);
    }
}

fn start(findings: &mut Findings, field: &str, spec: &StartSpec) {
    let set = [
        ("tailLines", spec.tail_lines.is_some()),
        ("sinceSeconds", spec.since_seconds.is_some()),
        ("sinceTime", spec.since_time.is_some()),
        ("fromStart", spec.from_start),
    ];
    let names: Vec<_> = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if names.len() > 1 {
        findings.invalid(field, format!("has {}; set at most one of them", names.join(" and ")));
    }
    if let Some(time) = &spec.since_time {
        findings.time(&format!("{field}.sinceTime"), time);
    }
}

fn pod_metrics(findings: &mut Findings, spec: &PodMetricsSource, reach: Reach<'_>) {
    selection(findings, "spec.source.podMetrics.selection", &spec.selection, reach);
    let (least, most) = (*METRICS_INTERVAL.start(), *METRICS_INTERVAL.end());
    findings.duration("spec.source.podMetrics.interval", &spec.interval, least);
    if spec.interval.parse().is_ok_and(|interval| interval > most) {
        let most = crate::api::duration::format(most);
        findings.invalid("spec.source.podMetrics.interval", format!("is longer than {most}; use {most} or less"));
    }
    for (at, name) in spec.metrics.iter().enumerate() {
        if let Some(wrong) = metric_name(name) {
            findings.invalid(format!("spec.source.podMetrics.metrics[{at}]"), wrong);
        }
    }
}

/// What is wrong with the name of a metric, as Prometheus' data model has it, or one of those that Weir derives.
fn metric_name(name: &str) -> Option<&'static str> {
    let plain = name.strip_suffix(RATE_SUFFIX).unwrap_or(name);
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) || !plain.bytes().all(letters) {
        return Some(
            "is not the name of a metric; use letters, digits and `_`, as in container_memory_working_set_bytes",
        );
    }
    let derived = name.starts_with("kwirth_") && !DERIVED_METRICS.iter().any(|(known, _)| *known == name);
    derived.then_some("is none of the metrics that Weir derives; docs/metrics.md lists them")
}

fn pod_signals(findings: &mut Findings, spec: &PodSignalsSource, reach: Reach<'_>) {
    selection(findings, "spec.source.podSignals.selection", &spec.selection, reach);
    findings.each("spec.source.podSignals.reasons", &spec.reasons, NamePattern::parse);
}

fn files(findings: &mut Findings, spec: &FilesSource) {
    for (at, path) in spec.paths.iter().enumerate() {
        let field = format!("spec.source.files.paths[{at}]");
        if !path.starts_with('/') {
            findings.invalid(field, "is not absolute; begin it with `/`");
        } else if path.split('/').any(|part| part == "..") || path.contains('\0') {
            findings.invalid(field, "must not contain `..`; write the path without it");
        } else if let Err(error) = globset::Glob::new(path) {
            let wrong = error.kind();
            findings.invalid(
                field,
                format!("cannot be read as a glob: {wrong}; put `[` and `]` around what is meant as it is"),
            );
        }
    }
}

fn containers(findings: &mut Findings, spec: &ContainersSource) {
    findings.each("spec.source.containers.names", &spec.names, NamePattern::parse);
}

fn http(findings: &mut Findings, spec: &HttpSource) {
    url(findings, "spec.source.http.url", &spec.url, &["http", "https"]);
    headers(findings, "spec.source.http.headers", &spec.headers);
    findings.duration("spec.source.http.reconnectDelay", &spec.reconnect_delay, LEAST_RECONNECT);
}

fn web_socket(findings: &mut Findings, spec: &WebSocketSource) {
    url(findings, "spec.source.webSocket.url", &spec.url, &["ws", "wss"]);
    headers(findings, "spec.source.webSocket.headers", &spec.headers);
    findings.duration("spec.source.webSocket.reconnectDelay", &spec.reconnect_delay, LEAST_RECONNECT);
}

fn tcp(findings: &mut Findings, spec: &TcpSource) {
    let port = spec.address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        findings.invalid("spec.source.tcp.address", "has no port from 1 to 65535; write it as `host:port`");
    }
    if spec.tls && spec.listen {
        findings.invalid("spec.source.tcp.tls", "cannot be combined with listen; set one of them");
    }
    findings.duration("spec.source.tcp.reconnectDelay", &spec.reconnect_delay, LEAST_RECONNECT);
    findings.duration("spec.source.tcp.idleTimeout", &spec.idle_timeout, LEAST_IDLE);
}

/// An address must be one that can be asked, with a host and without credentials.
pub(super) fn url(findings: &mut Findings, field: &str, text: &str, schemes: &[&str]) {
    let uri = text.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
    let authority = uri.as_ref().and_then(http::Uri::authority);
    match (scheme, authority) {
        (Some(scheme), Some(authority)) if schemes.contains(&scheme) => {
            if authority.as_str().contains('@') {
                findings.invalid(field, "holds a user or password; send it in a header from a Secret");
            } else if authority.host().is_empty() {
                findings.invalid(field, "has no host");
            }
        }
        _ => findings.invalid(field, format!("is not an address that begins with `{}://`", schemes.join("://` or `"))),
    }
}

pub(super) fn headers(findings: &mut Findings, field: &str, headers: &[HeaderSpec]) {
    for (at, header) in headers.iter().enumerate() {
        let field = format!("{field}[{at}]");
        if header.name.parse::<http::HeaderName>().is_err() {
            findings.invalid(format!("{field}.name"), "is not the name of a header");
        }
        match (&header.value, &header.value_from) {
            (Some(_), Some(_)) => findings.invalid(field.as_str(), "has value and valueFrom; set one of them"),
            (None, None) => findings.invalid(field.as_str(), "has no value; set value or valueFrom"),
            (Some(value), None) if http::HeaderValue::from_str(value).is_err() => {
                findings.invalid(format!("{field}.value"), "holds characters that no header may hold");
            }
            (None, Some(secret)) => findings.secret(&format!("{field}.valueFrom"), secret),
            _ => {}
        }
    }
}
