//! `GET /stream/:id`: what is there, then live until the producer ends. `HEAD` says the same without the bytes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    IF_RANGE, RANGE, TE, TRAILER,
};
use http::{HeaderMap, StatusCode};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use warp::reply::{Reply as _, Response};

use super::super::ask::Ask;
use super::super::connection::Trailers;
use super::super::reply::{Problem, secure};
use super::super::services::Services;
use super::super::sse::InSync;
use super::pass::Pass;
use super::range::{self, Part};
use super::{
    GENERATION, ID, METADATA, OFFSET, REASON, SIZE, STATE, authorise, encoded, generation_of, invalid, may, name_of,
    unknown, uploads,
};
use crate::access::{ConnectionPermit, Key, StreamPermit};
use crate::api::Scope;
use crate::source::push::{Policy, Upload, UploadId};
use crate::stream::byte_stream::{ByteReader, Extent, Piece, State};

/// What is told of a stream in front of its bytes.
struct Told {
    status: StatusCode,
    /// From where on.
    from: u64,
    /// Up to where; none for as long as it goes on.
    until: Option<u64>,
    /// How many bytes there are in all, where a part is given.
    part_of: Option<u64>,
}

pub(super) fn head(services: &Arc<Services>, id: &UploadId, asked: &Ask) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let name = name_of(&key, asked, id);
    // Whoever uploads may ask how far the upload has come.
    if may(services, &key, Scope::Push, &name).is_err() {
        authorise(services, &key, Scope::Stream, &name)?;
    }
    let (upload, _) = uploads(services).get(&name).ok_or_else(|| unknown(id))?;
    let extent = upload.bytes.extent();
    match told(&upload, extent, asked)? {
        Ok(told) => Ok(framed(&upload, extent, &told, warp::reply().into_response())),
        Err(response) => Ok(response),
    }
}

pub(super) fn get(services: &Arc<Services>, id: &UploadId, asked: &Ask) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let name = name_of(&key, asked, id);
    authorise(services, &key, Scope::Stream, &name)?;
    let (upload, policy) = uploads(services).get(&name).ok_or_else(|| unknown(id))?;
    upload.touch();
    let extent = upload.bytes.extent();
    let told = match told(&upload, extent, asked)? {
        Ok(told) => told,
        Err(response) => return Ok(response),
    };
    let permits = (key.usage().connect()?, key.usage().open_stream()?);
    let takes_trailers = asked.bytes(TE.as_str()).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
    let takes_trailers = takes_trailers.split(',').any(|one| one.trim().eq_ignore_ascii_case("trailers"));
    let trailers = (told.until.is_none() && takes_trailers).then(Trailers::default);
    let reader = upload.bytes.read(told.from, told.until);
    let body = InSync::new(stream::unfold(
        Some(Follow::new(services, key, asked, &upload, reader, policy, trailers.clone(), permits)),
        |follow| async move { follow?.next().await },
    ));
    let mut response = framed(&upload, extent, &told, warp::reply::stream(body).into_response());
    if let Some(trailers) = trailers {
        response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-stream-state"));
        response.extensions_mut().insert(trailers);
    }
    Ok(response)
}

/// What of the stream is given. `Err` is an answer without bytes: it has not changed.
fn told(upload: &Upload, extent: Extent, asked: &Ask) -> Result<Result<Told, Response>, Problem> {
    let finished = extent.state != State::Live;
    let text = |name: HeaderName| asked.bytes(name.as_str()).and_then(|text| str::from_utf8(text).ok());
    let tag = tag(upload, extent);
    if finished && text(IF_NONE_MATCH).is_some_and(|header| range::names(header, &tag)) {
        let told = Told { status: StatusCode::NOT_MODIFIED, from: extent.start, until: None, part_of: None };
        return Ok(Err(framed(upload, extent, &told, warp::reply().into_response())));
    }
    let end = (finished || asked.parameter("notail").is_some()).then_some(extent.len);
    if let Some(offset) = asked.parameter("offset") {
        let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse::<u64>().ok().filter(|_| digits);
        let from = offset.ok_or_else(|| invalid("offset is not a number of bytes"))?;
        if from < extent.start || end.is_some_and(|end| from > end) {
            return Err(not_kept(extent));
        }
        return Ok(Ok(Told { status: StatusCode::OK, from, until: end, part_of: None }));
    }
    let same = text(IF_RANGE).is_none_or(|header| header.trim() == tag);
    let part = if finished && same { range::part(text(RANGE), extent.start, extent.len) } else { Part::All };
    Ok(Ok(match part {
        Part::All => Told { status: StatusCode::OK, from: extent.start, until: end, part_of: None },
        Part::Bytes(from, until) => {
            Told { status: StatusCode::PARTIAL_CONTENT, from, until: Some(until), part_of: Some(extent.len) }
        }
        Part::Unsatisfiable => return Err(not_kept(extent)),
    }))
}

fn not_kept(extent: Extent) -> Problem {
    let Extent { start, len, .. } = extent;
    let text = format!("of the {len} bytes that came, those from {start} on are kept; ask for some of them");
    let problem = Problem::with_status(StatusCode::RANGE_NOT_SATISFIABLE, text);
    match HeaderValue::try_from(format!("bytes */{len}")) {
        Ok(value) => problem.header(CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

/// Tells this upload and this length from all others.
fn tag(upload: &Upload, extent: Extent) -> String {
    format!("\"{:016x}-{}\"", upload.generation, extent.len)
}

fn framed(upload: &Upload, extent: Extent, told: &Told, mut response: Response) -> Response {
    *response.status_mut() = told.status;
    secure(&mut response, HeaderValue::from_static("application/octet-stream"));
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: String| {
        HeaderValue::try_from(value).ok().and_then(|value| headers.insert(name, value));
    };
    put(ID, encoded(&upload.name.name));
    put(GENERATION, generation_of(upload));
    put(STATE, extent.state.as_str().to_owned());
    put(SIZE, extent.len.to_string());
    put(OFFSET, told.from.to_string());
    if let Some(reason) = upload.lost() {
        put(REASON, reason);
    }
    if let Some(metadata) = &upload.metadata {
        put(METADATA, metadata.as_str().to_owned());
    }
    if extent.state != State::Live {
        put(ETAG, tag(upload, extent));
        put(ACCEPT_RANGES, "bytes".to_owned());
        // It may be kept by who asked, and asked again whether it is still the same.
        put(CACHE_CONTROL, "private, no-cache".to_owned());
    }
    if let Some(until) = told.until {
        put(CONTENT_LENGTH, (until - told.from).to_string());
    }
    if let (Some(len), Some(until)) = (told.part_of, told.until) {
        put(CONTENT_RANGE, format!("bytes {}-{}/{len}", told.from, until - 1));
    }
    response
}

/// One response.
struct Follow {
    services: Arc<Services>,
    reader: ByteReader,
    /// Whether a length was told, so that the end of the bytes says all.
    measured: bool,
    pass: Pass,
    closed: CancellationToken,
    trailers: Option<Trailers>,
    upload: Arc<Upload>,
    _permits: (ConnectionPermit, StreamPermit),
}

type Item = Option<(Result<Bytes, std::io::Error>, Option<Follow>)>;

impl Follow {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the answer, put together in one place")]
    fn new(
        services: &Arc<Services>,
        key: Arc<Key>,
        asked: &Ask,
        upload: &Arc<Upload>,
        reader: ByteReader,
        policy: Policy,
        trailers: Option<Trailers>,
        permits: (ConnectionPermit, StreamPermit),
    ) -> Self {
        services.metrics.readers.inc();
        let name = upload.name.clone();
        let pass =
            Pass::new(services, key, asked.origin(), move |services, key| may(services, key, Scope::Stream, &name));
        let measured = reader.is_measured();
        let (services, upload) = (Arc::clone(services), Arc::clone(upload));
        Self { services, reader, measured, pass, closed: policy.closed, trailers, upload, _permits: permits }
    }

    async fn next(mut self) -> Item {
        let piece = tokio::select! {
            biased;
            () = self.closed.cancelled() => return broken("the subscription was changed, suspended or deleted").await,
            denied = self.pass.lost() => return broken(&denied.to_string()).await,
            () = self.services.drain.draining().cancelled() => return broken("Weir is shutting down").await,
            piece = self.reader.next() => piece,
        };
        match piece {
            Piece::Bytes(bytes) => {
                let wait = self.pass.key().usage().charge(0, bytes.len() as u64, Instant::now());
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                Some((Ok(bytes), Some(self)))
            }
            Piece::End(State::Gone) => self.ended(State::Gone, "the stream was deleted or replaced").await,
            Piece::End(_) if self.measured => None,
            Piece::End(State::Aborted) => self.ended(State::Aborted, "the producer was lost before the end").await,
            Piece::End(state) => {
                self.tell(state);
                None
            }
            Piece::Behind(next) => {
                let missed = next.saturating_sub(self.reader.offset());
                self.services.metrics.gaps.inc();
                self.services.metrics.uploads_missed.inc_by(missed);
                tracing::debug!(stream = %self.upload.name, missed, "A reader was slower than what is kept, and is cut");
                broken("the reader was slower than what is kept").await
            }
            Piece::Failed(error) => {
                tracing::warn!(stream = %self.upload.name, %error, "An upload cannot be read from disk");
                broken("the disk cannot be read").await
            }
        }
    }

    /// An end that is not the producer's own: told in a trailer, or to who takes none by breaking off.
    async fn ended(self, state: State, why: &str) -> Item {
        if self.tell(state) { None } else { broken(why).await }
    }

    fn tell(&self, state: State) -> bool {
        let Some(trailers) = &self.trailers else { return false };
        let mut headers = HeaderMap::new();
        headers.insert(STATE, HeaderValue::from_static(state.as_str()));
        let _ = trailers.0.set(headers);
        true
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.services.metrics.readers.dec();
    }
}

/// The answer breaks off, so that nobody takes it for whole.
async fn broken(why: &str) -> Item {
    // hyper drops what it has not written yet when a body fails: it is let go on once, and writes what the socket takes.
    tokio::task::yield_now().await;
    Some((Err(std::io::Error::other(why.to_owned())), None))
}
