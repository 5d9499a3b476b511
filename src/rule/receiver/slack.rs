//! Slack's incoming webhooks: <https://api.slack.com/messaging/webhooks>.

use serde_json::json;

use super::{Request, Secrets};
use crate::api::receiver::ChatReceiver;
use crate::rule::alert::{Alert, clip_units};
use crate::rule::error::Failure;

/// Slack splits a text that is longer than this into several messages.
const MOST_CHARACTERS: usize = 4000;

pub(super) fn request(spec: &ChatReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let text = quoted(&clip_units(&alert.text(), MOST_CHARACTERS));
    // Plain: a log line is not Slack's markup.
    Ok(super::json(secrets.get(&spec.url_secret_ref)?, &json!({"text": text, "mrkdwn": false})))
}

/// `&`, `<` and `>` are the characters by which Slack knows links and mentions such as `<!channel>`.
fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
