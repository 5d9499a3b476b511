//! One file for each kind of receiver: what it makes of an alert.
//!
//! Those that speak HTTP are a function from a spec, its secrets and an alert to a [`Request`], and nothing more, so that
//! what they send can be read and compared in a table. The secrets are read anew for each attempt.

mod discord;
mod email;
mod http;
mod ntfy;
mod pager_duty;
mod send_grid;
mod slack;
mod stdout;
mod telegram;
mod webhook;

use std::collections::HashMap;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

pub(super) use self::http::HttpClient;
pub(super) use email::{Letter, Mail};
pub(super) use stdout::Printer;

use super::alert::Alert;
use super::error::Failure;
use crate::api::receiver::ReceiverKind;
use crate::api::{AlertReceiverSpec, SecretKeyRef};
use crate::record::Time;
use crate::telemetry::AlertKind;

/// What a receiver is told, and by whom it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling<'a> {
    /// The alert.
    pub(super) alert: &'a Alert,
    /// The receiver's name.
    pub(super) receiver: &'a str,
    /// The present, where a message is signed with it.
    pub(super) now: Time,
}

/// Something to be posted. Its address and headers may be secret, so it has no `Debug`.
pub(super) struct Request {
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What a receiver makes of an alert.
pub(super) enum Parcel {
    /// To be posted.
    Http(Request),
    /// To be sent by mail.
    Mail(Box<Mail>),
    /// To be printed.
    Line(String),
}

/// The secrets of a spec, as they are now.
#[derive(Default)]
pub(super) struct Secrets(HashMap<SecretKeyRef, SecretString>);

impl Secrets {
    /// Keeps a secret.
    pub(super) fn insert(&mut self, reference: SecretKeyRef, secret: SecretString) {
        self.0.insert(reference, secret);
    }

    /// The same failure without what a service repeated of the secrets that it was sent.
    pub(super) fn hide_in(&self, failure: Failure) -> Failure {
        let said = match &failure {
            Failure::Refused(text) | Failure::Busy { answer: text, .. } => text,
            _ => return failure,
        };
        let repeats = self.0.values().any(|secret| {
            let secret = secret.expose_secret().trim();
            !secret.is_empty() && said.contains(secret)
        });
        let hidden = || "its answer repeats a secret and is not shown".to_owned();
        match failure {
            Failure::Refused(_) if repeats => Failure::Refused(hidden()),
            Failure::Busy { wait, .. } if repeats => Failure::Busy { answer: hidden(), wait },
            failure => failure,
        }
    }

    /// A secret, without the line end that editors put behind it.
    fn get(&self, reference: &SecretKeyRef) -> Result<&str, Failure> {
        let SecretKeyRef { name, key } = reference;
        let secret = self.0.get(reference).map(|secret| secret.expose_secret().trim());
        match secret {
            Some(secret) if !secret.is_empty() => Ok(secret),
            _ => Err(Failure::Invalid(format!("{key} in the secret {name} is empty"))),
        }
    }
}

/// The secrets of a receiver that are addresses to post to.
pub(super) fn address_refs(spec: &AlertReceiverSpec) -> Vec<&SecretKeyRef> {
    let webhook = spec.webhook.iter().filter_map(|webhook| webhook.url_secret_ref.as_ref());
    webhook.chain(spec.slack.iter().chain(&spec.discord).map(|chat| &chat.url_secret_ref)).collect()
}

/// All secrets that a receiver needs.
pub fn secret_refs(spec: &AlertReceiverSpec) -> Vec<&SecretKeyRef> {
    let mut refs = address_refs(spec);
    if let Some(webhook) = &spec.webhook {
        refs.extend(webhook.headers.iter().filter_map(|header| header.value_from.as_ref()));
        refs.extend(&webhook.signing_secret_ref);
    }
    refs.extend(spec.telegram.iter().map(|telegram| &telegram.bot_token_secret_ref));
    refs.extend(spec.pager_duty.iter().map(|pager_duty| &pager_duty.routing_key_secret_ref));
    refs.extend(spec.ntfy.iter().filter_map(|ntfy| ntfy.token_secret_ref.as_ref()));
    refs.extend(spec.email.iter().filter_map(|email| email.password_secret_ref.as_ref()));
    refs.extend(spec.send_grid.iter().map(|send_grid| &send_grid.api_key_secret_ref));
    refs
}

/// What the receiver that a spec describes makes of an alert.
pub(super) fn pack(spec: &AlertReceiverSpec, secrets: &Secrets, telling: Telling<'_>) -> Result<Parcel, Failure> {
    let alert = telling.alert;
    let request = if let Some(spec) = &spec.webhook {
        webhook::request(spec, secrets, telling)
    } else if let Some(spec) = &spec.slack {
        slack::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.discord {
        discord::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.telegram {
        telegram::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.pager_duty {
        pager_duty::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.ntfy {
        ntfy::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.send_grid {
        send_grid::request(spec, secrets, alert)
    } else if let Some(spec) = &spec.email {
        return email::mail(spec, secrets, alert).map(|mail| Parcel::Mail(Box::new(mail)));
    } else if spec.stdout.is_some() {
        return Ok(Parcel::Line(stdout::line(alert)));
    } else {
        Err(Failure::Invalid("the receiver says nowhere to send to".to_owned()))
    };
    request.map(Parcel::Http)
}

/// The kind of a receiver, as it is counted.
pub(super) fn kind_of(spec: &AlertReceiverSpec) -> AlertKind {
    match spec.kinds().as_slice() {
        [ReceiverKind::Stdout] => AlertKind::Stdout,
        [ReceiverKind::Webhook] => AlertKind::Webhook,
        [ReceiverKind::Slack] => AlertKind::Slack,
        [ReceiverKind::Discord] => AlertKind::Discord,
        [ReceiverKind::Telegram] => AlertKind::Telegram,
        [ReceiverKind::PagerDuty] => AlertKind::PagerDuty,
        [ReceiverKind::Ntfy] => AlertKind::Ntfy,
        [ReceiverKind::Email] => AlertKind::Email,
        [ReceiverKind::SendGrid] => AlertKind::SendGrid,
        _ => AlertKind::Unknown,
    }
}

/// A server that is connected to.
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Place {
    /// Where an address leads.
    fn of(url: &Url) -> Result<Self, Failure> {
        match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            (scheme @ ("http" | "https"), Some(host), Some(port)) => {
                Ok(Self { host: host.to_owned(), port, tls: scheme == "https" })
            }
            _ => Err(no_address()),
        }
    }
}

/// Reads an address, as the client does that connects to it: two readers could understand two hosts.
fn address(text: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|_| no_address())
}

fn no_address() -> Failure {
    Failure::Invalid("the address is none that begins with `http://` or `https://`".to_owned())
}

/// The server to which an address leads that stands in a Secret.
pub(super) fn place_in(secret: &SecretString) -> Result<Place, Failure> {
    Place::of(&address(secret.expose_secret().trim())?)
}

/// The servers that a spec names openly. What stands in Secrets is for [`place_in`].
pub(super) fn places(spec: &AlertReceiverSpec) -> Result<Vec<Place>, Failure> {
    let urls = [
        spec.webhook.as_ref().and_then(|webhook| webhook.url.as_deref()),
        spec.telegram.as_ref().and_then(|telegram| telegram.base_url.as_deref()),
        spec.pager_duty.as_ref().and_then(|pager_duty| pager_duty.base_url.as_deref()),
        spec.ntfy.as_ref().and_then(|ntfy| ntfy.server.as_deref()),
        spec.send_grid.as_ref().and_then(|send_grid| send_grid.base_url.as_deref()),
    ];
    let mail = spec.email.as_ref().map(email::place);
    let web = urls.into_iter().flatten().map(|url| Place::of(&address(url)?));
    web.chain(mail).collect()
}

/// A request that posts JSON.
fn json(url: impl Into<String>, body: &serde_json::Value) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert(::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Request { url: url.into(), headers, body: body.to_string().into() }
}

impl Request {
    /// The same with a header that is not shown.
    fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Failure> {
        let invalid =
            |_| Failure::Invalid(format!("the value of the header {name} holds characters that no header may hold"));
        let mut value = HeaderValue::from_str(value).map_err(invalid)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The same with `Authorization: Bearer`.
    fn bearer(self, token: &str) -> Result<Self, Failure> {
        self.header(::http::header::AUTHORIZATION, &format!("Bearer {token}"))
    }
}

/// An address below the base of an API.
fn below(base: Option<&str>, usual: &str, path: &str) -> String {
    format!("{}{path}", base.unwrap_or(usual).trim_end_matches('/'))
}

/// What a receiver is reached with.
#[derive(Clone, Debug)]
pub(super) struct Carriers {
    pub(super) http: HttpClient,
    pub(super) letters: Letter,
    pub(super) printer: Printer,
}

impl Carriers {
    /// Hands a parcel over; done when the other side has taken it.
    pub(super) async fn carry(&self, parcel: Parcel, timeout: Duration) -> Result<(), Failure> {
        let carried = async {
            match parcel {
                Parcel::Http(request) => self.http.post(request).await,
                Parcel::Mail(mail) => self.letters.send(&mail, timeout).await,
                Parcel::Line(line) => self.printer.print(line).await,
            }
        };
        tokio::time::timeout(timeout, carried).await.unwrap_or(Err(Failure::Timeout(timeout)))
    }
}
