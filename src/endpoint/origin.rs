//! Which pages may connect, and CORS for those that may.
//!
//! Browsers let any page open a WebSocket, and send along what they know; only the server can say no.

use futures::future::BoxFuture;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderValue, ORIGIN,
    VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// Whether a page of this origin may connect.
///
/// No `Origin` header means that no browser asks, and is allowed. So is the page's own server (the authority of
/// the origin is the request's `Host`, default ports left out). Anything else must stand in `allowed` exactly, or
/// `allowed` must hold `*`. The origin `null` of sandboxed pages is never the same as anything.
pub fn origin_allowed(origin: Option<&str>, allowed: &[String], host: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    let listed = |entry: &String| entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin);
    same_origin(origin, host) || allowed.iter().any(listed)
}

/// As [`origin_allowed`], from the headers of a request. Several `Origin` headers, or one that is not text, are
/// refused.
pub fn request_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(one), None) => one.to_str().is_ok_and(|origin| origin_allowed(Some(origin), allowed, host)),
        (Some(_), Some(_)) => false,
    }
}

fn same_origin(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    !authority.is_empty() && host.is_some_and(|host| bare(host) == bare(authority))
}

/// A tower service that answers CORS preflights and marks answers for the listed origins.
///
/// It goes around all routes, so that errors can be read by a page as well. It turns nobody away: a page that is
/// not listed just cannot read the answer, and the WebSocket routes check [`request_allowed`] themselves.
#[derive(Debug, Clone)]
pub struct Cors<S> {
    inner: S,
    allowed: Arc<[String]>,
}

impl<S> Cors<S> {
    /// Wraps a service. An empty list changes no answer.
    pub fn new(inner: S, allowed: impl Into<Arc<[String]>>) -> Self {
        Self { inner, allowed: allowed.into() }
    }
}

impl<S, B, R> Service<Request<B>> for Cors<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = request.headers().get(ORIGIN).cloned();
        let may = origin.filter(|_| !self.allowed.is_empty() && request_allowed(request.headers(), &self.allowed));
        let Some(origin) = may else {
            return Box::pin(self.inner.call(request));
        };
        if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            let mut response = Response::new(R::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            preflight(response.headers_mut());
            mark(response.headers_mut(), origin);
            return Box::pin(async move { Ok(response) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            mark(response.headers_mut(), origin);
            Ok(response)
        })
    }
}

fn preflight(headers: &mut HeaderMap) {
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
    let asked = HeaderValue::from_static(
        "authorization, content-type, last-event-id, x-stream-metadata, x-stream-offset, x-stream-generation",
    );
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// The origin is repeated, never `*`, and no credentials are allowed: keys come in headers, not in cookies.
fn mark(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers
        .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-stream-id, x-stream-metadata, x-stream-state, x-stream-size, x-stream-offset, x-stream-replaced, x-stream-generation, x-stream-reason, etag, retry-after"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tower::ServiceExt as _;

    #[rstest]
    #[case::no_browser(None, &[], Some("weir:8080"), true)]
    #[case::same(Some("http://weir:8080"), &[], Some("weir:8080"), true)]
    #[case::same_in_other_case(Some("http://Weir:8080"), &[], Some("wEIR:8080"), true)]
    #[case::default_port(Some("https://weir"), &[], Some("weir:443"), true)]
    #[case::other_port(Some("http://weir:9"), &[], Some("weir:8080"), false)]
    #[case::other_host(Some("https://evil.example"), &[], Some("weir"), false)]
    #[case::suffix(Some("https://weir.evil.example"), &[], Some("weir"), false)]
    #[case::no_host(Some("http://weir"), &[], None, false)]
    #[case::null(Some("null"), &[], Some("null"), false)]
    #[case::file(Some("file://"), &[], Some(""), false)]
    #[case::listed(Some("https://a.example"), &["https://a.example/"], Some("weir"), true)]
    #[case::other_scheme(Some("http://a.example"), &["https://a.example"], Some("weir"), false)]
    #[case::any(Some("https://evil.example"), &["*"], Some("weir"), true)]
    #[case::null_by_any(Some("null"), &["*"], Some("weir"), true)]
    fn an_origin_is_allowed_if_same_or_listed(
        #[case] origin: Option<&str>,
        #[case] allowed: &[&str],
        #[case] host: Option<&str>,
        #[case] expected: bool,
    ) {
        let allowed: Vec<String> = allowed.iter().map(|&entry| entry.to_owned()).collect();
        assert_eq!(origin_allowed(origin, &allowed, host), expected);
    }

    #[tokio::test]
    async fn a_preflight_is_answered_for_listed_origins_only() {
        let inner = tower::service_fn(|_: Request<()>| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::from("inner")))
        });
        let service = Cors::new(inner, vec!["https://a.example".to_owned()]);
        for (origin, listed) in [("https://a.example", true), ("https://b.example", false)] {
            let request = Request::builder()
                .method("OPTIONS")
                .header(ORIGIN, origin)
                .header(ACCESS_CONTROL_REQUEST_METHOD, "GET")
                .body(())
                .unwrap();
            let answer = service.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), listed);
            assert_eq!(answer.body().is_empty(), listed);
        }
    }
}
