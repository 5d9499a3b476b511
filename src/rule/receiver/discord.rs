//! Discord's webhooks: <https://discord.com/developers/docs/resources/webhook#execute-webhook>.

use serde_json::json;

use super::{Request, Secrets};
use crate::api::receiver::ChatReceiver;
use crate::rule::alert::{Alert, clip_units};
use crate::rule::error::Failure;

/// The longest content that Discord takes.
const MOST_CHARACTERS: usize = 2000;

pub(super) fn request(spec: &ChatReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let content = clip_units(&alert.text(), MOST_CHARACTERS);
    // A log line that holds `@everyone` wakes nobody.
    let body = json!({"content": content, "allowed_mentions": {"parse": []}});
    Ok(super::json(secrets.get(&spec.url_secret_ref)?, &body))
}
