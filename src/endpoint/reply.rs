//! JSON answers, errors and rejections, the same on every route.

use crate::telemetry::Category;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;
use std::borrow::Cow;
use std::convert::Infallible;
use warp::filters::body::BodyDeserializeError;
use warp::reject;
use warp::reply::{Reply, Response};

/// An error as an HTTP client sees it: a status and `{"error": message}`.
///
/// It is a warp [`Reply`] for handlers and a rejection for filters; [`recover`] turns the latter into the former.
/// The message is for the client: it says what to do and holds nothing secret.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this category, with its status.
    pub fn new(category: Category, message: impl Into<Cow<'static, str>>) -> Self {
        let problem = Self::with_status(category.http_status(), message);
        match category {
            Category::Unavailable => problem.header(RETRY_AFTER, HeaderValue::from_static("5")),
            _ => problem,
        }
    }

    /// A problem with a status that no category has, such as 404 or 413.
    pub fn with_status(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    /// 404: no route has this path, or nothing that may be seen has this name.
    pub fn not_found() -> Self {
        Self::with_status(StatusCode::NOT_FOUND, "there is nothing at this path")
    }

    /// 401: no key was presented.
    pub fn unauthenticated() -> Self {
        Self::with_status(StatusCode::UNAUTHORIZED, "an access key is needed; send Authorization: Bearer KEY")
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="API Key""#))
    }

    /// 401: the key that was presented is not, or no longer, a good one.
    pub fn wrong_key(message: impl Into<Cow<'static, str>>) -> Self {
        let challenge = HeaderValue::from_static(r#"Bearer realm="API Key", error="invalid_token""#);
        Self::with_status(StatusCode::UNAUTHORIZED, message).header(WWW_AUTHENTICATE, challenge)
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Adds the one header that a status may ask for, such as `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl reject::Reject for Problem {}

impl Reply for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        let mut response = json(self.status, &Body { error: &self.message });
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A JSON answer that no cache keeps.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = body.into_response();
            *response.status_mut() = status;
            secure(&mut response, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "An answer could not be written as JSON");
            let mut response = r#"{"error":"the answer could not be written"}"#.into_response();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            secure(&mut response, HeaderValue::from_static("application/json"));
            response
        }
    }
}

/// A text answer that no cache keeps, with its content type.
pub fn text(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = body.into_response();
    *response.status_mut() = status;
    secure(&mut response, HeaderValue::from_static(content_type));
    response
}

/// Sets the headers that every answer carries: what it is, that nobody guesses otherwise, and that nobody
/// keeps what was made for one key.
pub fn secure(response: &mut Response, content_type: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Turns any rejection into a JSON error; ends every chain of routes as `routes.recover(recover)`.
///
/// # Errors
/// None: every rejection has an answer.
pub async fn recover(rejection: warp::Rejection) -> Result<Response, Infallible> {
    Ok(problem_of(&rejection).into_response())
}

/// What a rejection means. A problem of our own comes first, and what fits a route best before "not found".
fn problem_of(rejection: &warp::Rejection) -> Problem {
    let plain = |status, message| Problem::with_status(status, Cow::Borrowed(message));
    if let Some(problem) = rejection.find::<Problem>() {
        problem.clone()
    } else if rejection.find::<reject::PayloadTooLarge>().is_some() {
        plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this route accepts")
    } else if rejection.find::<reject::LengthRequired>().is_some() {
        plain(StatusCode::LENGTH_REQUIRED, "send a Content-Length")
    } else if rejection.find::<reject::UnsupportedMediaType>().is_some() {
        plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
    } else if let Some(error) = rejection.find::<BodyDeserializeError>() {
        Problem::new(Category::Invalid, format!("the body cannot be understood: {}", brief(error)))
    } else if rejection.find::<reject::InvalidQuery>().is_some() {
        Problem::new(Category::Invalid, "the query parameters cannot be understood")
    } else if let Some(header) = rejection.find::<reject::InvalidHeader>() {
        Problem::new(Category::Invalid, format!("the header {} cannot be understood", header.name()))
    } else if let Some(header) = rejection.find::<reject::MissingHeader>() {
        Problem::new(Category::Invalid, format!("the header {} is missing", header.name()))
    } else if rejection.find::<reject::MethodNotAllowed>().is_some() {
        plain(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
    } else if rejection.is_not_found() {
        Problem::not_found()
    } else {
        tracing::debug!(?rejection, "A rejection has no answer of its own");
        Problem::new(Category::Invalid, "the request cannot be understood")
    }
}

/// The position and kind of a serde error, without an unbounded piece of the body.
fn brief(error: &BodyDeserializeError) -> String {
    const MOST: usize = 200;
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::Filter as _;

    #[tokio::test]
    async fn every_rejection_is_answered_in_json_with_its_status() {
        let post = warp::path!("thing")
            .and(warp::post())
            .and(warp::body::content_length_limit(16))
            .and(warp::body::json())
            .map(|_: Vec<u8>| "taken");
        let denied =
            warp::path!("denied").and_then(|| async { Err::<&str, _>(reject::custom(Problem::unauthenticated())) });
        let routes = post.or(denied).recover(recover);
        let json = "application/json";
        let table = [
            ("GET", "/nowhere", json, "", 404),
            ("GET", "/thing", json, "", 405),
            ("POST", "/thing", json, "[1,2,3,4,5,6,7,8,9,10]", 413),
            ("POST", "/thing", "text/plain", "[1]", 415),
            ("POST", "/thing", json, "{", 400),
            ("GET", "/denied", json, "", 401),
        ];
        for (method, path, kind, body, status) in table {
            let request = http::Request::builder().method(method).uri(path);
            let request = request.header("content-type", kind).header("content-length", body.len());
            let answer = crate::endpoint::testing::ask(warp::service(routes), request, body).await;
            assert_eq!(answer.status(), status, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], json);
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let value: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
            assert!(value["error"].is_string(), "{value}");
        }
    }

    #[test]
    fn a_wrong_key_is_challenged_otherwise_than_a_missing_one() {
        let of = |p: Problem| p.into_response().headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned();
        assert_eq!(of(Problem::unauthenticated()), r#"Bearer realm="API Key""#);
        assert_eq!(of(Problem::wrong_key("no")), r#"Bearer realm="API Key", error="invalid_token""#);
    }
}
