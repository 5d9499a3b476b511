//! Reads a stream over a WebSocket.
//!
//! Records are cut at newlines, also across messages. Many servers send one record a message and no newline at all; so
//! a message that is one whole JSON object or array is a record, and what has no end is one after a short silence.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use reqwest::Url;
use serde::de::IgnoredAny;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::error::RemoteError;
use super::headers::Headers;
use super::life::{Link, Over, Session};
use super::network::{Network, at, in_time};
use crate::source::feed::Feed;

/// The largest message, in bytes: the longest line that a spec may ask for, four times.
pub(super) const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// After how long a silence the server is asked whether it is still there, and within what it must answer.
const PING: Duration = Duration::from_secs(30);
/// After how long a silence what has no line end is a record.
pub(super) const QUIET: Duration = Duration::from_millis(250);

/// One address, read over a WebSocket.
pub(super) struct WebSocket {
    url: Url,
    headers: Headers,
    network: Arc<Network>,
    ping: Duration,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl WebSocket {
    pub fn new(url: Url, headers: Headers, network: Arc<Network>) -> Self {
        Self { url, headers, network, ping: PING }
    }

    /// The same, asking a silent server after another time.
    #[cfg(test)]
    pub fn with_ping(self, ping: Duration) -> Self {
        Self { ping, ..self }
    }

    async fn connect(&self) -> Result<Socket, RemoteError> {
        let (Some(host), Some(port)) = (self.url.host_str(), self.url.port_or_known_default()) else {
            return Err(RemoteError::Handshake("the address has no host".to_owned()));
        };
        let headers = self.headers.read().await?;
        let connector = match self.url.scheme() {
            "wss" => Connector::Rustls(self.network.tls()?),
            _ => Connector::Plain,
        };
        let mut request = self.url.as_str().into_client_request().map_err(|error| failed(host, port, error))?;
        for header in headers {
            request.headers_mut().insert(header.name, header.value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let connected = async {
            let stream = self.network.connect(host, port).await?;
            let handshake = client_async_tls_with_config(request, stream, Some(config), Some(connector));
            handshake.await.map_err(|error| failed(host, port, error))
        };
        let (socket, _) = in_time(host, port, connected).await?;
        Ok(socket)
    }

    async fn read(&self, socket: &mut Socket, feed: &mut Feed) -> Result<Over, RemoteError> {
        let (mut heard, mut asked) = (Instant::now(), false);
        loop {
            let silence = heard + if asked { self.ping * 2 } else { self.ping };
            let quiet = Instant::now() + QUIET;
            let until = if feed.has_rest() { quiet.min(silence) } else { silence };
            match tokio::time::timeout_at(until, socket.next()).await {
                Ok(message) => {
                    (heard, asked) = (Instant::now(), false);
                    match message {
                        None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => return Ok(Over::Ended),
                        Some(Ok(Message::Text(text))) => take(feed, text.as_bytes()),
                        Some(Ok(Message::Binary(bytes))) => take(feed, &bytes),
                        // A ping is answered below us, with the next read.
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(broken(error)),
                    }
                }
                Err(_) if Instant::now() < silence => feed.finish(false),
                Err(_) if asked => return Err(RemoteError::Silent),
                Err(_) => {
                    asked = true;
                    let ping = tokio::time::timeout(self.ping, socket.send(Message::Ping(Default::default())));
                    ping.await.map_err(|_| RemoteError::Silent)?.map_err(broken)?;
                }
            }
        }
    }
}

impl Session for WebSocket {
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>> {
        async move {
            let mut socket = self.connect().await?;
            link.connected();
            let mut feed = link.feed();
            let over = self.read(&mut socket, &mut feed).await;
            feed.finish(over.is_err());
            // Answers a close in good order; a server that does not take it is left.
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
            over
        }
        .boxed()
    }
}

/// Takes one message.
fn take(feed: &mut Feed, message: &[u8]) {
    let fresh = !feed.has_rest();
    feed.push(message);
    let tail = memchr::memrchr(b'\n', message).map_or(message, |end| &message[end + 1..]);
    // Only what lies in this message alone is looked at, so that each byte is looked at once.
    let alone = fresh || tail.len() < message.len();
    if alone && feed.has_rest() && is_json(tail) {
        feed.finish(false);
    }
}

/// Whether a text is one whole object or array.
fn is_json(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let enclosed = matches!((text.first(), text.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')));
    enclosed && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn failed(host: &str, port: u16, error: Error) -> RemoteError {
    match error {
        Error::Http(response) => {
            let value = response.headers().get(http::header::RETRY_AFTER);
            let retry_after = value.and_then(|value| super::http::retry_after(value, chrono::Utc::now()));
            RemoteError::Status { code: response.status().as_u16(), retry_after }
        }
        Error::Tls(error) => RemoteError::Tls { at: at(host, port), text: error.to_string() },
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            RemoteError::Tls { at: at(host, port), text: error.to_string() }
        }
        error => RemoteError::Handshake(told(&error)),
    }
}

fn broken(error: Error) -> RemoteError {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => RemoteError::TooLarge(MESSAGE_BYTES),
        error => RemoteError::Broken(told(&error)),
    }
}

/// What happened, without what was sent or asked for.
fn told(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::Protocol(error) => error.to_string(),
        Error::Utf8(_) => "a text message is not UTF-8".to_owned(),
        Error::Url(_) | Error::HttpFormat(_) => "the address or a header cannot be used".to_owned(),
        _ => "it was closed".to_owned(),
    }
}
