//! A webhook: JSON to any address, signed where the receiver has a secret for that.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use serde_json::json;
use sha2::Sha256;

use super::{Request, Secrets, Telling};
use crate::api::receiver::WebhookReceiver;
use crate::rule::error::Failure;

/// The header that holds the signature: `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY`. SECONDS is when it
/// was sent, since the Unix epoch: who checks it refuses what is old, so that nothing can be sent again by others.
const SIGNATURE: HeaderName = HeaderName::from_static("x-weir-signature");

/// Headers that say where a request ends or where it goes, which a receiver may not change.
const OURS: [HeaderName; 8] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE, TE, TRAILER, SIGNATURE];

pub(super) fn request(spec: &WebhookReceiver, secrets: &Secrets, telling: Telling<'_>) -> Result<Request, Failure> {
    let url = match (&spec.url, &spec.url_secret_ref) {
        (_, Some(secret)) => secrets.get(secret)?,
        (Some(url), None) => url,
        (None, None) => return Err(Failure::Invalid("the webhook has no address; set url or urlSecretRef".to_owned())),
    };
    let alert = telling.alert;
    let body = json!({
        "identity": alert.identity,
        "rule": alert.rule,
        "message": alert.message,
        "timestamp": alert.time.rfc3339(),
        "alert_name": telling.receiver,
        "source": alert.source,
    });
    let mut request = super::json(url, &body);
    for header in &spec.headers {
        let name = header.name.parse::<HeaderName>();
        let name = name.map_err(|_| Failure::Invalid(format!("{} is not the name of a header", header.name)))?;
        if OURS.contains(&name) {
            return Err(Failure::Invalid(format!("the header {name} is set by Weir; remove it")));
        }
        let value = match (&header.value, &header.value_from) {
            (_, Some(secret)) => secrets.get(secret)?,
            (value, None) => value.as_deref().unwrap_or_default(),
        };
        request = request.header(name, value)?;
    }
    match &spec.signing_secret_ref {
        None => Ok(request),
        Some(secret) => {
            let seconds = telling.now.0.div_euclid(1_000_000_000);
            let signature = signature(secrets.get(secret)?, seconds, &request.body)?;
            request.header(SIGNATURE, &signature)
        }
    }
}

fn signature(secret: &str, seconds: i64, body: &[u8]) -> Result<String, Failure> {
    let unusable = |_| Failure::Invalid("the secret for signatures cannot be used".to_owned());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(unusable)?;
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    Ok(format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes())))
}
