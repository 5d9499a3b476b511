//! Reads a stream over HTTP: lines of a body that does not end, server-sent events, or a body asked for again and again.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, Response, Url};
use tokio::time::Instant;

use super::error::RemoteError;
use super::headers::{Header, Headers};
use super::life::{Link, Over, Session};
use super::network::{ALIVE_AFTER, ALIVE_EVERY, ALIVE_RETRIES, CONNECT, Network, Resolver, at};
use super::sse::{EventParser, Item};
use crate::api::source::HttpMode;
use crate::source::feed::Feed;

/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How long a server may take to begin its answer: many send their headers with the first line, and a poll is held until
/// there is something.
const HEAD: Duration = Duration::from_secs(300);
/// The shortest time from one poll to the next, after one that brought something and one that brought nothing: so that
/// a server that answers at once is not asked without pause.
const POLL_FULL: Duration = Duration::from_millis(100);
const POLL_EMPTY: Duration = Duration::from_secs(1);

/// One address, read over HTTP.
pub(super) struct Http {
    url: Url,
    mode: HttpMode,
    headers: Headers,
    network: Arc<Network>,
    client: Option<Client>,
    /// The id of the last event.
    last_id: Vec<u8>,
}

impl Http {
    pub fn new(url: Url, mode: HttpMode, headers: Headers, network: Arc<Network>) -> Self {
        Self { url, mode, headers, network, client: None, last_id: Vec::new() }
    }

    /// The client of this source; made when it is first needed, because it reads the system's roots.
    fn client(&mut self) -> Result<Client, RemoteError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let tls = match self.network.tls() {
            Ok(tls) => (*tls).clone(),
            Err(_) if self.url.scheme() == "http" => Network::no_tls()?,
            Err(error) => return Err(error),
        };
        let builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Resolver(Arc::clone(&self.network)))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .tcp_keepalive(ALIVE_AFTER)
            .tcp_keepalive_interval(ALIVE_EVERY)
            .tcp_keepalive_retries(ALIVE_RETRIES)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")));
        // A proxy would resolve names by itself, past the policy.
        let builder = if self.network.is_limited() { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| RemoteError::Roots(told(error)))?;
        Ok(self.client.insert(client).clone())
    }

    /// The answer to one request, after redirects.
    async fn ask(&mut self) -> Result<Response, RemoteError> {
        let client = self.client()?;
        let headers = self.headers.read().await?;
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let (host, port) = place(&url)?;
            self.network.check(&host, port)?;
            let request = client.get(url.clone()).headers(self.head(&headers, same_server(&url, &self.url)));
            let sent = tokio::time::timeout(HEAD, request.send()).await;
            let at = at(&host, port);
            let response = sent.map_err(|_| RemoteError::Timeout(at.clone()))?.map_err(|error| failed(at, error))?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            url = next_hop(&url, response.headers())?;
        }
        Err(RemoteError::Redirect("more than five times"))
    }

    /// What is sent: to another server than that of the spec nothing that is private.
    fn head(&self, headers: &[Header], home: bool) -> HeaderMap {
        let mut map = HeaderMap::new();
        if self.mode == HttpMode::ServerSentEvents {
            map.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            map.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        for Header { name, value, .. } in headers.iter().filter(|header| home || !header.private) {
            map.insert(name, value.clone());
        }
        // An id that no header may hold cannot be sent back.
        if let Ok(id) = HeaderValue::from_bytes(&self.last_id)
            && !id.is_empty()
        {
            map.insert("last-event-id", id);
        }
        map
    }

    async fn read_lines(&mut self, link: &mut Link) -> Result<Over, RemoteError> {
        let response = success(self.ask().await?)?;
        link.connected();
        let mut feed = link.feed();
        lines_of(response, &mut feed).await?;
        Ok(Over::Ended)
    }

    async fn read_events(&mut self, link: &mut Link) -> Result<Over, RemoteError> {
        let response = self.ask().await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Over::Finished);
        }
        let mut response = success(response)?;
        if !is_event_stream(response.headers()) {
            return Err(RemoteError::ContentType);
        }
        link.connected();
        let mut feed = link.feed();
        let mut parser = EventParser::new(feed.limit(), std::mem::take(&mut self.last_id));
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    parser.push(&chunk, |item| match item {
                        Item::Event(data, truncated) => feed.record(data, truncated),
                        Item::Retry(millis) => link.delay(Duration::from_millis(millis)),
                    });
                    feed.flush();
                    // An attempt may be cancelled at any time, and the next goes on from here.
                    parser.last_id().clone_into(&mut self.last_id);
                }
                Ok(None) => break Ok(Over::Ended),
                Err(error) => break Err(RemoteError::Broken(told(error))),
            }
        };
        parser.last_id().clone_into(&mut self.last_id);
        end
    }

    async fn poll(&mut self, link: &mut Link) -> Result<Over, RemoteError> {
        loop {
            let asked = Instant::now();
            let response = match self.ask().await {
                // A poll that was held for so long found nothing.
                Err(RemoteError::Timeout(_)) if asked.elapsed() >= HEAD => continue,
                response => response?,
            };
            let empty = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
            let brought = if empty {
                link.connected();
                false
            } else {
                let response = success(response)?;
                link.connected();
                lines_of(response, &mut link.feed()).await?
            };
            tokio::time::sleep_until(asked + if brought { POLL_FULL } else { POLL_EMPTY }).await;
        }
    }
}

impl Session for Http {
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>> {
        match self.mode {
            HttpMode::Lines => self.read_lines(link).boxed(),
            HttpMode::ServerSentEvents => self.read_events(link).boxed(),
            HttpMode::LongPolling => self.poll(link).boxed(),
        }
    }
}

/// Reads a body of lines to its end; whether there was anything in it.
async fn lines_of(mut response: Response, feed: &mut Feed) -> Result<bool, RemoteError> {
    let mut any = false;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                any |= !chunk.is_empty();
                feed.push(&chunk);
            }
            Ok(None) => {
                feed.finish(false);
                return Ok(any);
            }
            Err(error) => {
                feed.finish(true);
                return Err(RemoteError::Broken(told(error)));
            }
        }
    }
}

fn success(response: Response) -> Result<Response, RemoteError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value, Utc::now()));
    Err(RemoteError::Status { code: response.status().as_u16(), retry_after })
}

/// How long a server asks to be left alone: seconds, or until a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |value: &str| value.split(';').next().map(|essence| essence.trim().to_ascii_lowercase());
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(essence).as_deref() == Some("text/event-stream")
}

/// Where a redirect leads. Never from a secure address to one that is not.
fn next_hop(from: &Url, headers: &HeaderMap) -> Result<Url, RemoteError> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok()).ok_or(RemoteError::Redirect("to nowhere"))?;
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        ("https", "http") => Err(RemoteError::Redirect("from https to http")),
        _ => Err(RemoteError::Redirect("to something that is not HTTP")),
    }
}

fn same_server(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

fn place(url: &Url) -> Result<(String, u16), RemoteError> {
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok((host.to_owned(), port)),
        _ => Err(RemoteError::Redirect("to an address without a host")),
    }
}

/// What went wrong before there was an answer. What the policy said on the way is told as it was said.
fn failed(at: String, error: reqwest::Error) -> RemoteError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(policy) = cause.downcast_ref::<RemoteError>() {
            match policy {
                RemoteError::Address { host, why } => return RemoteError::Address { host: host.clone(), why: *why },
                RemoteError::Lookup { host, error } => {
                    let error = std::io::Error::new(error.kind(), error.to_string());
                    return RemoteError::Lookup { host: host.clone(), error };
                }
                _ => {}
            }
        }
        source = cause.source();
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, _) => RemoteError::Timeout(at),
        (_, true) if tls_failed(&error) => RemoteError::Tls { at, text: told(error) },
        (_, true) => RemoteError::Connect { at, error: std::io::Error::other(told(error)) },
        _ => RemoteError::Broken(told(error)),
    }
}

/// Whether it is TLS that failed: layers of I/O errors stand around it, which hide what they hold from `source`.
fn tls_failed(error: &(dyn std::error::Error + 'static)) -> bool {
    let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || within.is_some_and(|within| tls_failed(within))
        || error.source().is_some_and(tls_failed)
}

/// The root of an error, without the address, whose query may hold a secret.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
