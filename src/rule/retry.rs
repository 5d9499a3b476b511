//! How often a delivery is tried again, and when.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::StatusCode;

/// How often a delivery is tried again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; it doubles with each that follows.
    pub first: Duration,
    /// The longest wait that Weir chooses by itself.
    pub longest: Duration,
    /// How old an alert may become. Then it is given up: nobody wants to be woken by what is long over.
    pub age: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), age: Duration::from_secs(15 * 60) }
    }
}

impl RetryPolicy {
    /// How long to wait after so many failures, at least one: between half of the wait and all of it, by `random` from 0
    /// to 1, and never shorter than the service `asked` for.
    pub fn wait(&self, failures: u32, asked: Option<Duration>, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let own = self.first.saturating_mul(doubled).min(self.longest);
        let own = own.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        own.max(asked.unwrap_or_default())
    }
}

/// Whether a service that answers so may take the same later: 408, 425, 429 and all that is its own fault.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// The longest wait that is understood; longer ones are as good as for ever.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `Retry-After`: whole seconds, or an HTTP date (RFC 9110, section 10.2.3, in each of its three forms).
pub(super) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a wait without end.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let until = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(value, form).ok())?.and_utc();
    Some((until - now).to_std().unwrap_or_default().min(LONGEST))
}

/// Reads what Discord and Telegram say in the body of a 429: `retry_after` in seconds, at the top or among `parameters`.
pub(super) fn retry_after_in(body: &[u8]) -> Option<Duration> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let seconds = body["retry_after"].as_f64().or_else(|| body["parameters"]["retry_after"].as_f64())?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST))
}
