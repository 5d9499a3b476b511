//! ntfy, publishing as JSON: <https://docs.ntfy.sh/publish/#publish-as-json>.

use serde_json::json;

use super::{Request, Secrets};
use crate::api::receiver::NtfyReceiver;
use crate::rule::alert::{Alert, clip_bytes};
use crate::rule::error::Failure;

/// A message that is longer becomes an attachment.
const MOST_BYTES: usize = 4096;
/// Titles are headers at the other end of most servers; this is what all of them take.
const MOST_TITLE_BYTES: usize = 250;

pub(super) fn request(spec: &NtfyReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let message = format!("{}\n{} in {}, {}", alert.message, alert.source, alert.stream, alert.utc());
    let body = json!({
        "topic": spec.topic,
        "title": clip_bytes(&alert.title(), MOST_TITLE_BYTES),
        "message": clip_bytes(&message, MOST_BYTES),
        "priority": 4,
        "tags": ["warning"],
    });
    let request = super::json(super::below(spec.server.as_deref(), "https://ntfy.sh", "/"), &body);
    match &spec.token_secret_ref {
        Some(secret) => request.bearer(secrets.get(secret)?),
        None => Ok(request),
    }
}
