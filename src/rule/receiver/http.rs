//! Posts requests. What comes back is looked at as far as it says whether, and when, to try again.

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
use http::StatusCode;
use http::header::RETRY_AFTER;
use reqwest::redirect::Policy;

use super::{Place, Request, address};
use crate::rule::alert::{clip_bytes, escaped};
use crate::rule::error::{Failure, StartError};
use crate::rule::reach::Reach;
use crate::rule::retry::{may_pass, retry_after, retry_after_in};

/// How much of an answer is read: enough for what a service says of its limits.
const MOST_ANSWER: usize = 4096;
/// How much of it is shown.
const MOST_SHOWN: usize = 200;
/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The client that all receivers share.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    reach: Reach,
}

impl HttpClient {
    /// A client that reaches what `reach` allows, and trusts these certificates besides those of the system.
    pub(crate) fn new(reach: Reach, roots: &[u8]) -> Result<Self, StartError> {
        let roots = reqwest::Certificate::from_pem_bundle(roots).map_err(|_| StartError::Certificate)?;
        let builder = reqwest::Client::builder();
        // A proxy would resolve names by itself, past what may be reached.
        let builder = if reach.is_limited() { builder.no_proxy() } else { builder };
        let client = builder
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            // A redirect could lead to where nothing may be sent.
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .dns_resolver(std::sync::Arc::new(reach.clone()))
            .tls_certs_merge(roots)
            .build();
        Ok(Self { client: client.map_err(|_| StartError::Client)?, reach })
    }

    /// Posts a request; done when the service has taken it.
    pub(super) async fn post(&self, request: Request) -> Result<(), Failure> {
        let Request { url, headers, body } = request;
        let url = address(&url)?;
        let Place { host, port, tls } = Place::of(&url)?;
        self.reach.check(&host, port, tls)?;
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| unreachable(&error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, Utc::now()));
        let body = beginning(response).await;
        Err(refusal(status, asked, &body))
    }
}

/// The beginning of an answer, as much as is looked at.
async fn beginning(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let left = MOST_ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if body.len() == MOST_ANSWER {
            break;
        }
    }
    body
}

fn refusal(status: StatusCode, asked: Option<Duration>, body: &[u8]) -> Failure {
    let said = escaped(&clip_bytes(String::from_utf8_lossy(body).trim(), MOST_SHOWN));
    let answer = if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") };
    if may_pass(status) {
        Failure::Busy { answer, wait: asked.max(retry_after_in(body)) }
    } else if status.is_redirection() {
        Failure::Refused(format!("it answers {status}, and redirects are not followed; use the address that it names"))
    } else {
        Failure::Refused(answer)
    }
}

/// Why nothing came back. The causes are searched for our own; their texts name hosts and addresses, which may be secret.
fn unreachable(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        cause = error.source();
    }
    if error.is_builder() {
        return Failure::Invalid("the address cannot be used".to_owned());
    }
    let what = match () {
        () if error.is_timeout() => "it does not answer in time",
        () if error.is_connect() => "no connection can be made; check the host, its port and its certificate",
        () => "the connection broke",
    };
    Failure::Unreachable(what.to_owned())
}
