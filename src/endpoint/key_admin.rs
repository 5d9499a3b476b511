//! `GET`, `POST`, `PUT` and `DELETE` of `/key[/:name]`: administrators manage AccessKey objects in the words of the
//! session protocol.
//!
//! A token is told once, in the answer to the request that made its key.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::key_wire::{Wanted, shown, shown_once};
use super::reply::{self, Problem};
use super::services::Services;
use crate::api::AccessKeySpec;
use crate::api::validate::{self, Reach};
use crate::record::Time;
use crate::telemetry::Category;
use crate::worker::{KeyChange, ObjectOwner, OwnerError};

/// The largest description of a key that is read, in bytes.
const MOST_BYTES: u64 = 64 * 1024;

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    let read = warp::get().or(warp::delete()).unify().and(warp::any().map(Bytes::new));
    let write = warp::post().or(warp::put()).unify();
    let write = write.and(warp::body::content_length_limit(MOST_BYTES)).and(warp::body::bytes());
    warp::path("key")
        .and(warp::path::tail())
        .and(warp::method())
        .and(ask::ask())
        .and(read.or(write).unify())
        .then(move |tail: Tail, method: Method, asked: Ask, body: Bytes| {
            let services = Arc::clone(&services);
            async move { ask::answer(manage(&services, &tail, &method, &asked, &body).await) }
        })
        .boxed()
}

async fn manage(
    services: &Services,
    tail: &Tail,
    method: &Method,
    asked: &Ask,
    body: &[u8],
) -> Result<Response, Problem> {
    let path = ask::segments(tail)?;
    let owner = administrated(services, asked)?;
    // Nothing else ever gets as far as a request to an API server.
    if path.iter().any(|name| !is_name(name)) {
        return Err(Problem::not_found());
    }
    let now = Time::now();
    match (method, path.as_slice()) {
        (&Method::GET, []) => {
            let keys = owner.keys().await?;
            let keys: Vec<_> = keys.iter().map(|view| shown(&view.object, now)).collect();
            Ok(reply::json(StatusCode::OK, &keys))
        }
        (&Method::GET, [name]) => {
            let view = owner.key(name).await?;
            Ok(reply::json(StatusCode::OK, &shown(&view.object, now)))
        }
        (&Method::POST, []) => create(owner, &wanted(body)?, now).await,
        (&Method::PUT, [name]) => replace(owner, name, &wanted(body)?, now).await,
        (&Method::DELETE, [name]) => {
            owner.change_key(name, KeyChange::Delete).await?;
            Ok(reply::json(StatusCode::OK, &serde_json::json!({})))
        }
        (_, [] | [_]) => {
            let text = "make a key with POST /key, change or delete it with PUT or DELETE /key/NAME";
            Err(Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, text))
        }
        _ => Err(Problem::not_found()),
    }
}

/// Whoever owns the keys, where the request's key may manage them.
fn administrated<'s>(services: &'s Services, asked: &Ask) -> Result<&'s dyn ObjectOwner, Problem> {
    let key = asked.admit(services)?;
    let denied = || Problem::new(Category::Denied, "this server does not change keys; change them where they are kept");
    let owner = services.owner.as_deref().ok_or_else(denied)?;
    let allowed = services.authoriser.authorise_admin(&key, owner.namespace());
    allowed.inspect_err(|denied| services.count_refusal(denied))?;
    Ok(owner)
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let brief = |error: serde_json::Error| error.to_string().chars().take(200).collect::<String>();
    serde_json::from_slice(body).map_err(|error| invalid(format!("the key cannot be read: {}", brief(error))))
}

async fn create(owner: &dyn ObjectOwner, wanted: &Wanted, now: Time) -> Result<Response, Problem> {
    let name = match wanted.access_key.id.trim() {
        "" => format!("key-{}", uuid::Uuid::new_v4()),
        id if is_name(id) => id.to_owned(),
        _ => {
            return Err(invalid(
                "accessKey.id is no name of an object; use lower-case letters, digits, `-` and `.`, at most 253 of \
                 them, or leave it empty",
            ));
        }
    };
    let spec = valid(wanted.spec(None, now).map_err(|error| invalid(error.to_string()))?)?;
    let view = owner.change_key(&name, KeyChange::Create(spec)).await?;
    let view = view.ok_or_else(|| Problem::new(Category::Internal, "the key was made but is not there"))?;
    let answer = match &view.token {
        Some(token) => shown_once(&view.object, token.expose_secret(), now),
        None => shown(&view.object, now),
    };
    Ok(reply::json(StatusCode::CREATED, &answer))
}

async fn replace(owner: &dyn ObjectOwner, name: &str, wanted: &Wanted, now: Time) -> Result<Response, Problem> {
    let old = owner.key(name).await?;
    let spec = wanted.spec(Some(&old.object.spec), now).map_err(|error| invalid(error.to_string()))?;
    let view = owner.change_key(name, KeyChange::Replace(valid(spec)?)).await?;
    let object = view.map_or(old.object, |view| view.object);
    Ok(reply::json(StatusCode::OK, &shown(&object, now)))
}

/// The spec where the AccessKey would be accepted; the owner's namespace reaches everything.
fn valid(spec: AccessKeySpec) -> Result<AccessKeySpec, Problem> {
    let problems = validate::access_key(&spec, Reach::Everything);
    if problems.is_empty() { Ok(spec) } else { Err(invalid(validate::describe(&problems))) }
}

/// Whether a text is the name of an object: a DNS subdomain (RFC 1123).
fn is_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|byte| inside(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inside)
            && label.bytes().last().is_some_and(inside)
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Category::Invalid, text)
}

impl From<OwnerError> for Problem {
    fn from(error: OwnerError) -> Self {
        let text = error.to_string();
        match error {
            OwnerError::NotFound(_) => Self::with_status(StatusCode::NOT_FOUND, text),
            OwnerError::Exists(_) => Self::with_status(StatusCode::CONFLICT, text),
            _ => Self::new(error.category(), text),
        }
    }
}
