//! PagerDuty's Events API v2: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Request, Secrets};
use crate::api::receiver::{PagerDutyReceiver, PagerDutySeverity};
use crate::rule::alert::{Alert, clip_units};
use crate::rule::error::Failure;

/// The longest summary that PagerDuty takes.
const MOST_CHARACTERS: usize = 1024;
/// The longest `dedup_key` that it takes.
const MOST_KEY: usize = 255;

pub(super) fn request(spec: &PagerDutyReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let url = super::below(spec.base_url.as_deref(), "https://events.pagerduty.com", "/v2/enqueue");
    let summary = clip_units(&format!("{}: {}", alert.title(), alert.message), MOST_CHARACTERS);
    let severity = match spec.severity {
        PagerDutySeverity::Critical => "critical",
        PagerDutySeverity::Error => "error",
        PagerDutySeverity::Warning => "warning",
        PagerDutySeverity::Info => "info",
    };
    let body = json!({
        "routing_key": secrets.get(&spec.routing_key_secret_ref)?,
        "event_action": "trigger",
        "dedup_key": dedup_key(alert),
        "client": "Weir",
        "payload": {
            "summary": summary,
            "source": alert.source,
            "severity": severity,
            "timestamp": alert.time.rfc3339(),
            "component": alert.stream,
            "class": alert.rule,
            "custom_details": {"identity": alert.identity, "message": alert.message},
        },
    });
    Ok(super::json(url, &body))
}

/// One incident for a rule and a source, however often it fires before somebody resolves it.
fn dedup_key(alert: &Alert) -> String {
    let group = alert.group();
    if group.len() <= MOST_KEY { group } else { format!("weir/{}", hex::encode(Sha256::digest(group))) }
}
