//! Telegram's bots: <https://core.telegram.org/bots/api#sendmessage>.

use serde_json::json;

use super::{Request, Secrets};
use crate::api::receiver::TelegramReceiver;
use crate::rule::alert::{Alert, clip_units};
use crate::rule::error::Failure;

/// The longest text that Telegram takes.
const MOST_CHARACTERS: usize = 4096;

pub(super) fn request(spec: &TelegramReceiver, secrets: &Secrets, alert: &Alert) -> Result<Request, Failure> {
    let token = secrets.get(&spec.bot_token_secret_ref)?;
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-')) {
        return Err(Failure::Invalid("the bot's token holds characters that no token has".to_owned()));
    }
    let url = super::below(spec.base_url.as_deref(), "https://api.telegram.org", &format!("/bot{token}/sendMessage"));
    // Without parse_mode the text is plain; a link in a log line is not looked up.
    let text = clip_units(&alert.text(), MOST_CHARACTERS);
    Ok(super::json(url, &json!({"chat_id": spec.chat_id, "text": text, "link_preview_options": {"is_disabled": true}})))
}
