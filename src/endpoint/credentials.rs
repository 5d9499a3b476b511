//! The key that a request presents, wherever the protocol lets it stand.
//!
//! This file finds the key; it never judges it. Nothing here logs, prints or echoes one.

use super::reply::Problem;
use crate::telemetry::Category;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use secrecy::SecretString;
use warp::Filter;

/// What stands before the key in a WebSocket subprotocol.
pub const SUBPROTOCOL_PREFIX: &str = "bearer.";

/// A common slip for `Authorization`, understood the same way.
const AUTHENTICATION: HeaderName = HeaderName::from_static("authentication");

/// What a client presented. Its `Debug` form is blank.
#[derive(Debug, Clone)]
pub enum Presented {
    /// An access key.
    Key(SecretString),
    /// A ticket for one use, made a moment ago for a client that cannot set headers.
    Ticket(SecretString),
}

/// Whether `?access_token=KEY` is taken. URLs end up in logs and histories, so it is refused unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyInUrl {
    /// Answered with 400 and the better way.
    #[default]
    Refused,
    /// Taken like a header.
    Accepted,
}

/// Why what was presented cannot be a credential. None of these carries what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Two at once, even if they are the same.
    #[error("several credentials were sent; send one, as Authorization: Bearer KEY")]
    Several,
    /// A header that is not `Bearer KEY`.
    #[error("the credential cannot be understood; send Authorization: Bearer KEY")]
    Malformed,
    /// A key in the URL where that is switched off.
    #[error("a key in the URL is refused; send Authorization: Bearer KEY, or get a ticket from /api/v1/tickets")]
    InUrl,
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        Self::new(Category::Invalid, error.to_string())
    }
}

/// The one credential of a request, or none.
///
/// Looked for in `Authorization` and `Authentication` (`Bearer KEY`, scheme in any case), in the subprotocol
/// `bearer.KEY` (percent-encoded where the key has characters that a token may not have), in `?ticket=` and in
/// `?access_token=`.
///
/// # Errors
/// [`CredentialError`]; answer it with 400.
pub fn presented(
    headers: &HeaderMap,
    query: Option<&str>,
    in_url: KeyInUrl,
) -> Result<Option<Presented>, CredentialError> {
    let mut found = None;
    for value in headers.get_all(AUTHORIZATION).iter().chain(headers.get_all(AUTHENTICATION)) {
        let text = value.to_str().map_err(|_| CredentialError::Malformed)?;
        only(&mut found, Presented::Key(bearer(text)?))?;
    }
    for protocol in offered_protocols(headers) {
        if let Some(key) = protocol.strip_prefix(SUBPROTOCOL_PREFIX) {
            only(&mut found, Presented::Key(decoded(key)?))?;
        }
    }
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("ticket", value)) => only(&mut found, Presented::Ticket(decoded(value)?))?,
            Some(("access_token", _)) if in_url == KeyInUrl::Refused => {
                return Err(CredentialError::InUrl);
            }
            Some(("access_token", value)) => only(&mut found, Presented::Key(decoded(value)?))?,
            _ => {}
        }
    }
    Ok(found)
}

/// The credential of the request as a warp filter; a bad one rejects with 400.
pub fn filter(in_url: KeyInUrl) -> impl Filter<Extract = (Option<Presented>,), Error = warp::Rejection> + Clone {
    let query = warp::query::raw().map(Some).or_else(|_| async { Ok::<_, warp::Rejection>((None,)) });
    warp::header::headers_cloned().and(query).and_then(move |headers: HeaderMap, query: Option<String>| async move {
        presented(&headers, query.as_deref(), in_url).map_err(|error| warp::reject::custom(Problem::from(error)))
    })
}

/// The subprotocols that a WebSocket client offers, in its order.
pub fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
}

fn only(found: &mut Option<Presented>, one: Presented) -> Result<(), CredentialError> {
    match found.replace(one) {
        None => Ok(()),
        Some(_) => Err(CredentialError::Several),
    }
}

fn bearer(text: &str) -> Result<SecretString, CredentialError> {
    let (scheme, key) = text.trim().split_once(' ').ok_or(CredentialError::Malformed)?;
    let key = key.trim_start();
    if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() || key.contains([' ', '\t']) {
        return Err(CredentialError::Malformed);
    }
    Ok(SecretString::from(key))
}

/// A key out of a URL.
fn decoded(text: &str) -> Result<SecretString, CredentialError> {
    match percent_decoded(text) {
        Some(key) if !key.is_empty() => Ok(SecretString::from(key)),
        _ => Err(CredentialError::Malformed),
    }
}

/// Percent-decodes a piece of a URL; `None` where an escape is cut or the bytes are not UTF-8. A `+` stays one.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (pair, after) = rest.split_at_checked(2)?;
        let mut value = [0];
        hex::decode_to_slice(pair, &mut value).ok()?;
        out.push(value[0]);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    fn look(headers: &[(&'static str, &str)], query: &str, in_url: KeyInUrl) -> Result<String, CredentialError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Ok(match presented(&map, Some(query), in_url)? {
            None => "nothing".to_owned(),
            Some(Presented::Key(key)) => format!("key {}", key.expose_secret()),
            Some(Presented::Ticket(ticket)) => format!("ticket {}", ticket.expose_secret()),
        })
    }

    #[rstest]
    #[case::none(&[], "", Ok("nothing"))]
    #[case::header(&[("authorization", "Bearer k")], "", Ok("key k"))]
    #[case::any_case(&[("authorization", "bEARER  k|permanent|cluster:::")], "", Ok("key k|permanent|cluster:::"))]
    #[case::slip(&[("authentication", "Bearer k")], "", Ok("key k"))]
    #[case::basic(&[("authorization", "Basic k")], "", Err(CredentialError::Malformed))]
    #[case::bare(&[("authorization", "k")], "", Err(CredentialError::Malformed))]
    #[case::empty(&[("authorization", "Bearer ")], "", Err(CredentialError::Malformed))]
    #[case::two_words(&[("authorization", "Bearer a b")], "", Err(CredentialError::Malformed))]
    #[case::protocol(&[("sec-websocket-protocol", "weir, bearer.k")], "", Ok("key k"))]
    #[case::encoded_protocol(&[("sec-websocket-protocol", "bearer.k%7Ca%3Ab")], "", Ok("key k|a:b"))]
    #[case::empty_protocol(&[("sec-websocket-protocol", "bearer.")], "", Err(CredentialError::Malformed))]
    #[case::other_protocol(&[("sec-websocket-protocol", "chat")], "", Ok("nothing"))]
    #[case::ticket(&[], "a=b&ticket=t%2D1", Ok("ticket t-1"))]
    #[case::cut_escape(&[], "ticket=t%2", Err(CredentialError::Malformed))]
    #[case::in_url(&[], "access_token=k", Err(CredentialError::InUrl))]
    #[case::twice(&[("authorization", "Bearer k"), ("authentication", "Bearer k")], "", Err(CredentialError::Several))]
    #[case::same_header_twice(&[("authorization", "Bearer k"), ("authorization", "Bearer k")], "", Err(CredentialError::Several))]
    #[case::header_and_ticket(&[("authorization", "Bearer k")], "ticket=t", Err(CredentialError::Several))]
    #[case::two_protocols(&[("sec-websocket-protocol", "bearer.a, bearer.b")], "", Err(CredentialError::Several))]
    fn one_credential_is_found_wherever_it_stands(
        #[case] headers: &[(&'static str, &str)],
        #[case] query: &str,
        #[case] expected: Result<&str, CredentialError>,
    ) {
        assert_eq!(look(headers, query, KeyInUrl::Refused), expected.map(ToOwned::to_owned));
    }

    #[test]
    fn a_key_in_the_url_is_taken_only_where_the_operator_allows_it() {
        assert_eq!(look(&[], "access_token=k", KeyInUrl::Accepted), Ok("key k".to_owned()));
    }

    #[test]
    fn a_key_is_never_printed() {
        let shown = format!("{:?}", Presented::Key(SecretString::from("hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
