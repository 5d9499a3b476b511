//! `POST /stream` and `POST /stream/:id`: the answer begins before the body has come, and ends when the body is stored.
//!
//! ```text
//!   client ── head ──────► begin ── 201, X-Stream-Id ──► client
//!          ── body ──────► store ─► ByteStream
//!          ── its end ───► finish ─ the end of the answer ──► client
//! ```
//!
//! An answer that ends without its last chunk says that the upload is not complete.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue, LOCATION};
use tokio::sync::oneshot;
use tokio::time::timeout;
use warp::reply::{Reply as _, Response};

use super::super::ask::Ask;
use super::super::reply::{Problem, secure};
use super::super::services::Services;
use super::super::sse::InSync;
use super::pass::Pass;
use super::store::store;
use super::{
    GENERATION, ID, Incoming, METADATA, OFFSET, REPLACED, authorise, encoded, generation_of, invalid, may, name_of,
    uploads,
};
use crate::access::{ConnectionPermit, Denied, StreamPermit};
use crate::api::Scope;
use crate::source::push::{Begun, Metadata, UploadError, UploadId};
use crate::stream::StreamName;
use crate::stream::byte_stream::{AppendError, State};

/// How long the answer waits for the first bytes of a client that waits to be told to send them.
const CONTINUED: Duration = Duration::from_millis(200);
/// How much of the body of a refused upload is read so that the client gets to read why, and for how long.
const REFUSED: (usize, Duration) = (1024 * 1024, Duration::from_secs(2));

/// Where an upload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    New { force: bool },
    Append { offset: Option<u64>, generation: Option<u64> },
}

/// What a producer asks for.
struct Wish {
    name: StreamName,
    mode: Mode,
    metadata: Option<Metadata>,
    length: Option<u64>,
}

/// Why an upload is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the connection to the producer was lost")]
    Connection,
    #[error("the producer sent nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("it is longer than the {0} bytes that are allowed")]
    TooLong(u64),
    #[error("{0}")]
    Denied(Denied),
    #[error("the subscription was changed, suspended or deleted")]
    Closed,
    #[error("Weir is shutting down; go on with append=true")]
    Draining,
    #[error(transparent)]
    Store(#[from] AppendError),
}

pub(super) async fn post(
    services: Arc<Services>,
    id: Option<UploadId>,
    asked: Ask,
    body: Incoming,
) -> Result<Response, Problem> {
    // Such a client sends nothing before it is told to, and reads the answer first.
    let expects = asked.bytes(EXPECT.as_str()).is_some();
    match admit(&services, id, &asked) {
        Ok((wish, pass, permits)) => start(services, wish, pass, permits, expects, body).await,
        Err(problem) => {
            if !expects {
                swallow(&services, body);
            }
            Err(problem)
        }
    }
}

type Permits = (ConnectionPermit, StreamPermit);

fn admit(services: &Arc<Services>, id: Option<UploadId>, asked: &Ask) -> Result<(Wish, Pass, Permits), Problem> {
    let key = asked.admit(services)?;
    let fresh = id.is_none();
    let name = name_of(&key, asked, &id.unwrap_or_else(UploadId::random));
    authorise(services, &key, Scope::Push, &name)?;
    let uploads = uploads(services);
    let most = uploads.config().metadata_bytes;
    let metadata = asked.bytes(METADATA.as_str()).map(|text| Metadata::parse(text, most)).transpose();
    let metadata = metadata.map_err(|error| invalid(format!("X-Stream-Metadata: {error}")))?;
    let (force, append) = (flag(asked, "force")?, flag(asked, "append")?);
    let offset = asked.bytes(OFFSET.as_str()).map(number).transpose()?;
    let generation = asked.bytes(GENERATION.as_str()).map(generation).transpose()?;
    let mode = match (append, offset) {
        (true, _) if force => return Err(invalid("force and append exclude each other; send one of them")),
        (true, _) if fresh => return Err(invalid("append needs the ID of the stream: POST /stream/ID?append=true")),
        (true, offset) => Mode::Append { offset, generation },
        (false, Some(_)) => return Err(invalid("X-Stream-Offset goes with append=true")),
        (false, None) if generation.is_some() => return Err(invalid("X-Stream-Generation goes with append=true")),
        (false, None) => Mode::New { force },
    };
    let length = asked.bytes(CONTENT_LENGTH.as_str()).map(number).transpose()?;
    let policy = uploads.policy(&name).ok_or_else(|| UploadError::Undeclared(name.clone()))?;
    if let (Some(most), Some(length)) = (policy.most, length)
        && length > most
    {
        let text = format!("the upload has {length} bytes, at most {most} are allowed");
        return Err(Problem::with_status(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let permits = (key.usage().connect()?, key.usage().open_stream()?);
    let granted = name.clone();
    let pass = Pass::new(services, key, asked.origin(), move |services, key| may(services, key, Scope::Push, &granted));
    Ok((Wish { name, mode, metadata, length }, pass, permits))
}

fn flag(asked: &Ask, name: &str) -> Result<bool, Problem> {
    match asked.parameter(name) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(_) => Err(invalid(format!("{name} is neither true nor false"))),
    }
}

fn number(text: &[u8]) -> Result<u64, Problem> {
    let text = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| invalid("an offset or length is not a whole number of bytes"))
}

fn generation(text: &[u8]) -> Result<u64, Problem> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == 16);
    let read = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    read.ok_or_else(|| invalid("X-Stream-Generation is not one that was told"))
}

/// Runs the upload in a task of its own, which ends it properly whatever becomes of the connection.
async fn start(
    services: Arc<Services>,
    wish: Wish,
    pass: Pass,
    permits: Permits,
    expects: bool,
    body: Incoming,
) -> Result<Response, Problem> {
    let (begun_sender, begun) = oneshot::channel();
    let (first_sender, first) = oneshot::channel();
    let (done_sender, done) = oneshot::channel();
    let name = wish.name.clone();
    let appends = matches!(wish.mode, Mode::Append { .. });
    let drain = services.drain.clone();
    let upload = async move {
        let _permits = permits;
        match begin(&services, wish).await {
            Err(error) => {
                if !expects {
                    swallow(&services, body);
                }
                let _ = begun_sender.send(Err(error));
            }
            Ok((begun, skip)) => {
                let _ = begun_sender.send(Ok((begun.len, begun.replaced, generation_of(&begun.upload))));
                let _ = done_sender.send(run(&services, begun, skip, pass, body, first_sender).await);
            }
        }
    };
    drain.spawn(upload);
    let away = || Problem::new(crate::telemetry::Category::Unavailable, "Weir is shutting down");
    let (len, replaced, generation) = begun.await.map_err(|_| away())??;
    if expects {
        // Once the answer has begun, the client is not told to go on any more: it must have been before.
        let _ = timeout(CONTINUED, first).await;
    }
    // The body of the answer is empty. It ends with the upload, or breaks off with it.
    let ending = stream::once(done).filter_map(async |done| match done {
        Ok(Ok(())) => None,
        Ok(Err(lost)) => Some(Err::<Bytes, _>(std::io::Error::other(lost.to_string()))),
        Err(_) => Some(Err(std::io::Error::other("the upload was dropped"))),
    });
    let mut response = warp::reply::stream(InSync::new(ending)).into_response();
    *response.status_mut() = StatusCode::CREATED;
    secure(&mut response, HeaderValue::from_static("application/octet-stream"));
    let id = encoded(&name.name);
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(format!("/stream/{id}")).ok();
    location.and_then(|location| headers.insert(LOCATION, location));
    HeaderValue::try_from(id).ok().and_then(|id| headers.insert(ID, id));
    HeaderValue::try_from(generation).ok().and_then(|generation| headers.insert(GENERATION, generation));
    if replaced {
        headers.insert(REPLACED, HeaderValue::from_static("true"));
    }
    if appends {
        headers.insert(OFFSET, HeaderValue::from(len));
    }
    Ok(response)
}

/// Begins an upload; how many bytes of the body are there already.
async fn begin(services: &Services, wish: Wish) -> Result<(Begun, u64), Problem> {
    let uploads = uploads(services);
    let (begun, offset) = match wish.mode {
        Mode::New { force } => (uploads.begin(&wish.name, wish.metadata, force).await?, None),
        Mode::Append { offset, generation } => {
            (uploads.resume(&wish.name, wish.metadata, offset, generation).await?, offset)
        }
    };
    tracing::debug!(stream = %wish.name, length = ?wish.length, len = begun.len, "An upload begins");
    let skip = begun.len - offset.unwrap_or(begun.len).min(begun.len);
    Ok((begun, skip))
}

/// One upload, from its beginning to its end.
async fn run(
    services: &Services,
    begun: Begun,
    skip: u64,
    mut pass: Pass,
    body: Incoming,
    first: oneshot::Sender<()>,
) -> Result<(), Lost> {
    let uploads = uploads(services);
    let (bytes, writer) = (&begun.upload.bytes, begun.writer);
    let stored = tokio::select! {
        biased;
        () = begun.policy.closed.cancelled() => Err(Lost::Closed),
        denied = pass.lost() => Err(Lost::Denied(denied)),
        () = bytes.superseded(writer) => Err(Lost::Store(AppendError::Superseded)),
        () = services.drain.draining().cancelled() => Err(Lost::Draining),
        stored = store(services, &begun, skip, body, first) => stored,
    };
    let outcome = match stored {
        Ok(()) => bytes.finish(writer, State::Complete).await.map_err(Lost::Store),
        Err(Lost::Store(AppendError::Superseded)) => return Err(Lost::Store(AppendError::Superseded)),
        Err(lost) => match bytes.finish(writer, State::Aborted).await {
            Ok(()) | Err(AppendError::Superseded) => Err(lost),
            Err(error) => {
                tracing::warn!(stream = %begun.upload.name, %error, "The end of an aborted upload cannot be stored");
                Err(lost)
            }
        },
    };
    match &outcome {
        Ok(()) => uploads.ended(&begun.upload, &begun.policy, State::Complete, ""),
        Err(lost) => {
            tracing::debug!(stream = %begun.upload.name, %lost, "An upload was aborted");
            uploads.ended(&begun.upload, &begun.policy, State::Aborted, &lost.to_string());
        }
    }
    outcome
}

/// Reads some of a body that is not wanted: closing over unread bytes would reset the connection, and the answer with it.
fn swallow(services: &Services, mut body: Incoming) {
    services.drain.spawn(async move {
        let (most, patience) = REFUSED;
        let swallowing = async {
            let mut read = 0;
            while let Some(Ok(bytes)) = body.next().await {
                read += bytes.len();
                if read > most {
                    break;
                }
            }
        };
        let _ = timeout(patience, swallowing).await;
    });
}
