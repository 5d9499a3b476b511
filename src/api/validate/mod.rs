//! What is wrong with a spec: all of it, each with its place and a remedy.
//!
//! Everything that the schema and its CEL rules refuse is refused here too, because servers before 1.25 drop
//! the rules silently and folders have no server at all. `tests/validation.rs` holds the two against each other.
//!
//! Nothing is ever ignored: what this version does not do is reported as `NotImplemented`.

mod bounds;
mod key;
mod receiver;
mod selection;
mod source;
mod subscription;

use std::time::Duration;

pub use key::access_key;
pub use receiver::alert_receiver;
pub use subscription::stream_subscription;

use super::condition::{Reason, reason};
use super::receiver::ReceiverKind;
use super::{DurationText, SecretKeyRef, SourceKind, SourceSpec, TimeText};

/// The sources that exist. A new one adds its line here.
pub const IMPLEMENTED_SOURCES: &[SourceKind] = &[
    SourceKind::PodLogs,
    SourceKind::PodMetrics,
    SourceKind::PodSignals,
    SourceKind::Http,
    SourceKind::WebSocket,
    SourceKind::Tcp,
    SourceKind::Containers,
    SourceKind::Files,
    SourceKind::Push,
];
/// The receivers that exist. A new one adds its line here.
pub const IMPLEMENTED_RECEIVERS: &[ReceiverKind] = &[
    ReceiverKind::Stdout,
    ReceiverKind::Webhook,
    ReceiverKind::Slack,
    ReceiverKind::Discord,
    ReceiverKind::Telegram,
    ReceiverKind::PagerDuty,
    ReceiverKind::Ntfy,
    ReceiverKind::Email,
    ReceiverKind::SendGrid,
];

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spec.source.podLogs.selection.groups[0]`.
    pub field: String,
    /// What kind of problem: `Invalid`, `NotAllowed` or `NotImplemented`.
    pub reason: Reason,
    /// What is wrong and what to do, to be read after the field.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// How far an object reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// It lives in this namespace and reaches nothing else.
    Namespace(&'a str),
    /// It lives in the operator's namespace, or there is no cluster: it reaches everything.
    Everything,
}

impl<'a> Reach<'a> {
    /// The reach of an object in `namespace`, where the operator runs in `operator`.
    pub fn of(namespace: &'a str, operator: &str) -> Self {
        if namespace == operator { Self::Everything } else { Self::Namespace(namespace) }
    }

    /// Cuts a source down to the pods that may be reached. What a valid spec asks for beyond them is never followed.
    pub fn confine(self, source: &mut SourceSpec) {
        let Self::Namespace(own) = self else { return };
        // Every field stands here, so that none that selects pods can be forgotten.
        let SourceSpec {
            pod_logs,
            pod_metrics,
            pod_signals,
            files: _,
            containers: _,
            http: _,
            web_socket: _,
            tcp: _,
            push: _,
        } = source;
        let logs = pod_logs.iter_mut().map(|source| &mut source.selection);
        let metrics = pod_metrics.iter_mut().map(|source| &mut source.selection);
        let signals = pod_signals.iter_mut().map(|source| &mut source.selection);
        logs.chain(metrics).chain(signals).for_each(|selection| selection.namespaces = vec![own.to_owned()]);
    }
}

/// The reason for a condition that speaks of all problems: what a person can mend comes first.
pub fn worst(problems: &[Problem]) -> Option<Reason> {
    [reason::INVALID, reason::NOT_ALLOWED, reason::NOT_IMPLEMENTED]
        .into_iter()
        .find(|reason| problems.iter().any(|problem| problem.reason == *reason))
}

/// How many problems [`describe`] spells out.
const SPELLED_OUT: usize = 10;

/// All problems in one message for a condition, the first ones spelled out.
pub fn describe(problems: &[Problem]) -> String {
    let mut lines: Vec<_> = problems.iter().take(SPELLED_OUT).map(ToString::to_string).collect();
    if problems.len() > SPELLED_OUT {
        lines.push(format!("and {} more", problems.len() - SPELLED_OUT));
    }
    lines.join("; ")
}

/// Collects problems.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, reason: Reason, message: impl Into<String>) {
        self.0.push(Problem { field: field.into(), reason, message: message.into() });
    }

    fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, reason::INVALID, message);
    }

    fn not_allowed(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, reason::NOT_ALLOWED, message);
    }

    fn not_implemented(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, reason::NOT_IMPLEMENTED, message);
    }

    /// Reports what cannot be read and hands on what can.
    fn check<T, E: std::fmt::Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.invalid(field, error.to_string())).ok()
    }

    /// Reports each item that cannot be read.
    fn each<T, E: std::fmt::Display>(&mut self, field: &str, items: &[String], read: impl Fn(&str) -> Result<T, E>) {
        for (at, item) in items.iter().enumerate() {
            self.check(format!("{field}[{at}]"), read(item));
        }
    }

    fn duration(&mut self, field: &str, text: &DurationText, least: Duration) {
        let value = self.check(field, text.parse());
        if value.is_some_and(|value| value < least) {
            let least = super::duration::format(least);
            self.invalid(field, format!("is shorter than {least}; use {least} or more"));
        }
    }

    fn time(&mut self, field: &str, text: &TimeText) {
        if text.parse().is_err() {
            self.invalid(field, "is not a time; write it as `2026-11-03T09:30:00Z`");
        }
    }

    fn secret(&mut self, field: &str, secret: &SecretKeyRef) {
        if !is_object_name(&secret.name) {
            self.invalid(
                format!("{field}.name"),
                "is not the name of a Secret; use lower-case letters, digits, `-` and `.`",
            );
        }
    }
}

/// Whether a text can be the name of an object: lower-case letters, digits, `-` and `.`, ends alphanumeric.
fn is_object_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}
