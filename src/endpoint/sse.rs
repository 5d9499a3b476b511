//! Server-sent events: the framing, and a response whose end is always told. The same response also carries plain
//! lines, for whoever reads with `curl`.

use super::drain::Drain;
use super::reply::secure;
use crate::telemetry::{Connected, Metrics, Transport};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::ready;
use futures::stream::{self, Stream, StreamExt as _};
use http::header::HeaderValue;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use warp::reply::{Reply as _, Response};

/// The `Content-Type` of server-sent events.
pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// How a response of events behaves beside its events.
#[derive(Debug, Clone)]
pub struct EventLimits {
    /// After how long a silence a comment is sent, so that proxies keep the connection; 15 s.
    pub keep_alive: Duration,
    /// What the client is told to wait before it connects again; 2 s.
    pub retry: Duration,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { keep_alive: Duration::from_secs(15), retry: Duration::from_secs(2) }
    }
}

/// One event; fields that are `None` are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame<'a> {
    /// Comes back as `Last-Event-ID` when the client connects again. Line breaks and NUL are dropped.
    pub id: Option<&'a str>,
    /// The event's name. Line breaks are dropped.
    pub event: Option<&'a str>,
    /// The payload; each of its lines becomes a `data:` line, and the client puts them together again with `\n`.
    pub data: &'a str,
}

impl Frame<'_> {
    /// Appends the event to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        if let Some(event) = self.event {
            field(out, b"event: ", event);
        }
        if let Some(id) = self.id {
            field(out, b"id: ", id);
        }
        for line in lines(self.data) {
            out.put_slice(b"data: ");
            out.put_slice(line.as_bytes());
            out.put_u8(b'\n');
        }
        out.put_u8(b'\n');
    }
}

/// A client could otherwise be made to see fields that are not there.
fn field(out: &mut BytesMut, name: &[u8], value: &str) {
    out.put_slice(name);
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.put_u8(b'\n');
}

/// The lines as the event stream format sees them: `\n`, `\r\n` and a lone `\r` all end one.
fn lines(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text.as_bytes()) else {
            rest = None;
            return Some(text);
        };
        let after = &text[end..];
        rest = Some(&text[end + if after.starts_with("\r\n") { 2 } else { 1 }..]);
        Some(&text[..end])
    })
}

/// What a response of events looks like on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Events,
    /// One JSON object a line, `application/x-ndjson`.
    Lines,
}

impl Form {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Events => CONTENT_TYPE,
            Self::Lines => "application/x-ndjson",
        })
    }

    /// What fills a silence: a comment, or a blank before the next object, which every JSON parser skips.
    fn keep_alive(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b": keep-alive\n\n",
            Self::Lines => b" ",
        })
    }
}

/// Answers with a stream of frames that are encoded already; each item is any number of whole events.
///
/// The response ends when `frames` ends. When draining begins, `farewell` (whole events that say why) is sent
/// as its last. A client that takes nothing is cut off by the connection's stall timeout, and `frames` is dropped.
pub fn respond(
    form: Form,
    frames: impl Stream<Item = Bytes> + Send + 'static,
    farewell: Bytes,
    limits: &EventLimits,
    drain: &Drain,
    metrics: &Metrics,
) -> Response {
    let body = Body {
        form,
        frames: Box::pin(frames),
        drain: drain.clone(),
        keep_alive: limits.keep_alive,
        farewell: Some(farewell),
        _counted: (form == Form::Events).then(|| metrics.connected(Transport::Sse)),
    };
    let hello = match form {
        Form::Events => Bytes::from(format!("retry: {}\n\n", limits.retry.as_millis())),
        Form::Lines => Bytes::new(),
    };
    let body = stream::iter([hello]).filter(|hello| ready(!hello.is_empty())).chain(stream::unfold(body, Body::next));
    let body = InSync::new(body.map(Ok::<_, Infallible>));
    let mut response = warp::reply::stream(body).into_response();
    secure(&mut response, form.content_type());
    // Proxies that buffer would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Body {
    form: Form,
    frames: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    drain: Drain,
    keep_alive: Duration,
    farewell: Option<Bytes>,
    _counted: Option<Connected>,
}

impl Body {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        self.farewell.as_ref()?;
        let draining = self.drain.draining().clone();
        let waited = timeout(self.keep_alive, self.frames.next());
        match draining.run_until_cancelled(waited).await {
            None => Some((self.farewell.take()?, self)),
            Some(Err(_)) => Some((self.form.keep_alive(), self)),
            Some(Ok(frames)) => Some((frames?, self)),
        }
    }
}

/// warp asks bodies to be `Sync`, which streams rarely are. The lock is never contended: only `get_mut` is used.
pub(super) struct InSync<S>(Mutex<Pin<Box<S>>>);

impl<S> InSync<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Mutex::new(Box::pin(stream)))
    }
}

impl<S: Stream> Stream for InSync<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.get_mut().0.get_mut().as_mut().poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use rstest::rstest;

    #[rstest]
    #[case::plain(Frame { data: "a", ..Frame::default() }, "data: a\n\n")]
    #[case::empty(Frame::default(), "data: \n\n")]
    #[case::all(Frame { id: Some("7"), event: Some("log"), data: "a" }, "event: log\nid: 7\ndata: a\n\n")]
    #[case::breaks(Frame { data: "a\nb\r\nc\rd\n", ..Frame::default() }, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n")]
    #[case::forged(Frame { id: Some("1\ndata: x"), event: None, data: "a" }, "id: 1data: x\ndata: a\n\n")]
    fn a_frame_says_what_was_put_in_and_no_more(#[case] frame: Frame<'_>, #[case] expected: &str) {
        let mut out = BytesMut::new();
        frame.write(&mut out);
        assert_eq!(out, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments_and_draining_is_told() {
        let (drain, metrics) = (Drain::new(), Metrics::new());
        let farewell = Bytes::from_static(b"data: bye\n\n");
        let first = Bytes::from_static(b"data: 1\n\n");
        let frames = stream::iter([first]).chain(stream::pending());
        let mut body = respond(Form::Events, frames, farewell, &EventLimits::default(), &drain, &metrics).into_body();
        let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
        assert_eq!(next().await.unwrap(), "retry: 2000\n\n");
        assert_eq!(next().await.unwrap(), "data: 1\n\n");
        assert_eq!(next().await.unwrap(), ": keep-alive\n\n");
        drain.begin();
        assert_eq!(next().await.unwrap(), "data: bye\n\n");
        assert_eq!(next().await, None);
    }
}
