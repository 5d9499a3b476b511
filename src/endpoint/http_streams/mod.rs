//! `/stream` and `/spy`: producers upload any bytes, consumers read them live or later.
//!
//! | file | what it does |
//! |---|---|
//! | `produce` | `POST /stream`, `POST /stream/:id`: an upload, from its first byte to its end |
//! | `store` | its body, from the connection to where it is kept |
//! | `consume` | `GET` and `HEAD /stream/:id` |
//! | `range` | which part of a stream is asked for |
//! | `spy` | `GET /spy`: everything at once |
//! | `pass` | the key that something long runs with |

mod consume;
mod pass;
mod produce;
mod range;
mod spy;
mod store;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::{ALLOW, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::{Reply as _, Response};

use super::ask::{self, Ask};
use super::reply::{self, Problem};
use super::services::Services;
use crate::access::{Denied, Key};
use crate::api::{Scope, Service};
use crate::source::push::{Upload, UploadError, UploadId, Uploads};
use crate::stream::StreamName;
use crate::telemetry::Category;

const ID: HeaderName = HeaderName::from_static("x-stream-id");
const METADATA: HeaderName = HeaderName::from_static("x-stream-metadata");
const REPLACED: HeaderName = HeaderName::from_static("x-stream-replaced");
const OFFSET: HeaderName = HeaderName::from_static("x-stream-offset");
const SIZE: HeaderName = HeaderName::from_static("x-stream-size");
const GENERATION: HeaderName = HeaderName::from_static("x-stream-generation");
const REASON: HeaderName = HeaderName::from_static("x-stream-reason");
const STATE: HeaderName = HeaderName::from_static("x-stream-state");

/// The body of a request, as it comes.
type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let (streams, spies) = (Arc::clone(services), Arc::clone(services));
    let streams = warp::path("stream")
        .and(warp::path::tail())
        .and(warp::method())
        .and(ask::ask())
        .and(warp::body::stream())
        .then(move |tail: Tail, method: Method, asked: Ask, body| {
            let services = Arc::clone(&streams);
            let body: Incoming = Box::pin(incoming(body));
            async move { ask::answer(dispatch(services, &tail, &method, asked, body).await) }
        });
    let spy = warp::path!("spy")
        .and(warp::get())
        .and(ask::ask())
        .map(move |asked: Ask| ask::answer(spy::open(&spies, &asked)));
    streams.or(spy).unify().boxed()
}

fn incoming<B: bytes::Buf>(
    body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, warp::Error>> + Send {
    body.map(|piece| piece.map(|mut bytes| bytes.copy_to_bytes(bytes.remaining())))
}

async fn dispatch(
    services: Arc<Services>,
    tail: &Tail,
    method: &Method,
    asked: Ask,
    body: Incoming,
) -> Result<Response, Problem> {
    // What stands there is checked before what may be done with it: an id that cannot be one is at no path.
    let path = tail.as_str().trim_end_matches('/');
    let id = match path {
        "" => None,
        segment if !segment.contains('/') => Some(parse_id(segment)?),
        _ => return Err(Problem::not_found()),
    };
    match (method, id) {
        (&Method::POST, id) => produce::post(services, id, asked, body).await,
        (&Method::GET, None) => list(&services, &asked),
        (&Method::GET, Some(id)) => consume::get(&services, &id, &asked),
        (&Method::HEAD, Some(id)) => consume::head(&services, &id, &asked),
        (&Method::DELETE, Some(id)) => delete(&services, &id, &asked).await,
        (_, id) => {
            let allowed = if id.is_some() { "GET, HEAD, POST, DELETE" } else { "GET, POST" };
            let problem = Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here");
            Err(problem.header(ALLOW, HeaderValue::from_static(allowed)))
        }
    }
}

fn parse_id(segment: &str) -> Result<UploadId, Problem> {
    let text = super::credentials::percent_decoded(segment);
    let text = text.ok_or_else(|| invalid("the stream ID is not UTF-8 with whole percent escapes"))?;
    UploadId::parse(&text).map_err(|error| invalid(error.to_string()))
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Category::Invalid, text)
}

fn uploads(services: &Services) -> &Arc<Uploads> {
    &services.declared.supervisor().sources().uploads
}

/// The full name of an id: in the namespace that the request names, else in the key's own.
fn name_of(key: &Key, asked: &Ask, id: &UploadId) -> StreamName {
    StreamName::new(namespace_of(key, asked), id.as_str())
}

fn namespace_of<'a>(key: &'a Key, asked: &'a Ask) -> &'a str {
    asked.parameter("namespace").filter(|namespace| !namespace.is_empty()).unwrap_or(&key.id().namespace)
}

fn may(services: &Services, key: &Key, scope: Scope, name: &StreamName) -> Result<(), Denied> {
    services.authoriser.authorise_stream(key, Service::Raw, scope, &name.namespace, &name.name)
}

/// Refuses what the key does not grant, and counts it.
fn authorise(services: &Services, key: &Key, scope: Scope, name: &StreamName) -> Result<(), Problem> {
    may(services, key, scope, name).inspect_err(|denied| services.count_refusal(denied)).map_err(Problem::from)
}

fn unknown(id: &UploadId) -> Problem {
    UploadError::NotFound(id.to_string()).into()
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let text = error.to_string();
        match error {
            UploadError::Exists(_) | UploadError::Kept(_) | UploadError::Busy(_) => {
                Self::with_status(StatusCode::CONFLICT, text)
            }
            UploadError::Beyond { len, .. } => {
                Self::with_status(StatusCode::CONFLICT, text).header(OFFSET, HeaderValue::from(len))
            }
            UploadError::NotFound(_) => Self::with_status(StatusCode::NOT_FOUND, text),
            UploadError::Replaced(_) => Self::with_status(StatusCode::PRECONDITION_FAILED, text),
            UploadError::Disk(_) => Self::with_status(StatusCode::INSUFFICIENT_STORAGE, text),
            error => Self::new(error.category(), text),
        }
    }
}

/// What tells an upload from others of its name, as it stands in a header.
fn generation_of(upload: &Upload) -> String {
    format!("{:016x}", upload.generation)
}

/// An id as it stands in a path and in a header: what is not unreserved there is percent-encoded.
fn encoded(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `GET /stream`: the streams that the key may read.
fn list(services: &Services, asked: &Ask) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Listed<'a> {
        id: &'a str,
        namespace: &'a str,
        state: &'static str,
        size: u64,
        start: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a RawValue>,
    }
    let key = asked.admit(services)?;
    let any = services.authoriser.authorise_service(&key, Service::Raw, Scope::Stream);
    any.inspect_err(|denied| services.count_refusal(denied))?;
    let all = uploads(services).list();
    let wanted = asked.parameter("namespace");
    let seen = all.iter().filter(|upload| {
        wanted.is_none_or(|namespace| namespace == upload.name.namespace)
            && may(services, &key, Scope::Stream, &upload.name).is_ok()
    });
    let listed = seen.map(|upload: &Arc<Upload>| {
        let extent = upload.bytes.extent();
        Listed {
            id: &upload.name.name,
            namespace: &upload.name.namespace,
            state: extent.state.as_str(),
            size: extent.len,
            start: extent.start,
            metadata: upload.metadata.as_ref().and_then(|metadata| metadata.json()),
        }
    });
    Ok(reply::json(StatusCode::OK, &listed.collect::<Vec<_>>()))
}

async fn delete(services: &Services, id: &UploadId, asked: &Ask) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let name = name_of(&key, asked, id);
    authorise(services, &key, Scope::Admin, &name)?;
    if !uploads(services).delete(&name).await {
        return Err(unknown(id));
    }
    let mut response = warp::reply().into_response();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
