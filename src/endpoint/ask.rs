//! A request as the routes see it, and who asks.

use std::sync::Arc;

use http::HeaderMap;
use http::header::ORIGIN;
use warp::path::Tail;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection};

use super::credentials::{self, Presented};
use super::reply::Problem;
use super::services::Services;
use crate::access::Key;

/// The head of a request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    headers: HeaderMap,
    raw_query: String,
    query: Vec<(String, String)>,
}

/// Takes the head of any request.
pub(super) fn ask() -> impl Filter<Extract = (Ask,), Error = Rejection> + Clone {
    let raw = warp::query::raw().or_else(|_| async { Ok::<_, Rejection>((String::new(),)) });
    warp::header::headers_cloned()
        .and(raw)
        .and(warp::query::<Vec<(String, String)>>())
        .map(|headers, raw_query, query| Ask { headers, raw_query, query })
}

impl Ask {
    /// The key that the request presents, where the page that asks may use it.
    ///
    /// # Errors
    /// 400 for credentials that cannot be understood or are several, 401 for none or a bad one, 403 for the origin.
    pub(super) fn admit(&self, services: &Services) -> Result<Arc<Key>, Problem> {
        self.check_origin(services)?;
        let key = services.authenticate_request(self.presented(services)?.as_ref())?;
        key.allows_origin(self.origin()).inspect_err(|denied| services.count_refusal(denied))?;
        Ok(key)
    }

    /// Refuses a page that may not connect: for what is given without a key.
    ///
    /// # Errors
    /// 403 for the origin.
    pub(super) fn check_origin(&self, services: &Services) -> Result<(), Problem> {
        services.check_origin(&self.headers)
    }

    /// What the request presents, not looked at.
    pub(super) fn presented(&self, services: &Services) -> Result<Option<Presented>, Problem> {
        Ok(credentials::presented(&self.headers, Some(&self.raw_query), services.options.key_in_url)?)
    }

    /// The page's origin, where a page asks.
    pub(super) fn origin(&self) -> Option<&str> {
        self.headers.get(ORIGIN).and_then(|value| value.to_str().ok())
    }

    /// The value of a query parameter, the first where it is repeated.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The bytes of a header.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    /// A header as text; `Err` where it is not that.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text = self.headers.get(name).map(|value| value.to_str()).transpose();
        text.map_err(|_| Problem::new(crate::telemetry::Category::Invalid, format!("the header {name} is not text")))
    }
}

/// The segments of a path, decoded; one that cannot be decoded is at no path.
pub(super) fn segments(tail: &Tail) -> Result<Vec<String>, Problem> {
    let path = tail.as_str().trim_end_matches('/');
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/').map(|segment| credentials::percent_decoded(segment).ok_or_else(Problem::not_found)).collect()
}

/// The answer, or the problem as one.
pub(super) fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::into_response)
}
