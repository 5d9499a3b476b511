//! SendGrid's Mail Send: <https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>.

use serde_json::json;

use super::{Request, Secrets, email};
use crate::api::receiver::SendGridReceiver;
use crate::rule::alert::Alert;
use crate::rule::error::Failure;

pub(super) fn request(spec: &SendGridReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let url = super::below(spec.base_url.as_deref(), "https://api.sendgrid.com", "/v3/mail/send");
    let to: Vec<_> = spec.to.iter().map(|address| json!({"email": address})).collect();
    let body = json!({
        "personalizations": [{"to": to}],
        "from": {"email": spec.from},
        "subject": email::subject(alert),
        "content": [{"type": "text/plain", "value": email::body(alert)}],
    });
    super::json(url, &body).bearer(secrets.get(&spec.api_key_secret_ref)?)
}
