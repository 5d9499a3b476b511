//! The request that turns a connection into a WebSocket.
//!
//! It is done here on hyper's own hook instead of by `warp::ws()`: the task is tracked, the buffers are small, an
//! oversized message can be told from other failures, and text that is encoded once is shared by all sockets
//! without a copy.

use super::connection::Peer;
use super::credentials::{SUBPROTOCOL_PREFIX, offered_protocols};
use super::drain::Drain;
use super::reply::Problem;
use super::websocket::{Socket, SocketLimits};
use crate::telemetry::{Category, Metrics, Transport};
use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection};

/// A request for an upgrade, checked and not yet answered.
#[derive(Debug)]
pub struct Upgrade {
    accept: String,
    protocol: Option<HeaderValue>,
    hook: OnUpgrade,
    peer: Option<Peer>,
}

/// Takes WebSocket upgrades and leaves other requests to other routes.
///
/// An upgrade that is not version 13, or without a key, rejects with 426 or 400.
pub fn upgrade() -> impl Filter<Extract = (Upgrade,), Error = Rejection> + Clone {
    warp::get()
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Peer>())
        .and_then(|headers: HeaderMap, hook: Option<OnUpgrade>, peer: Option<Peer>| async move {
            Upgrade::check(&headers, hook, peer)
        })
}

impl Upgrade {
    fn check(headers: &HeaderMap, hook: Option<OnUpgrade>, peer: Option<Peer>) -> Result<Self, Rejection> {
        let Some(hook) = hook.filter(|_| asks_for_websocket(headers)) else {
            return Err(warp::reject::not_found());
        };
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let status = StatusCode::UPGRADE_REQUIRED;
            let problem = Problem::with_status(status, "only WebSocket version 13 is spoken")
                .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Err(warp::reject::custom(problem));
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            let problem = Problem::new(Category::Invalid, "the header sec-websocket-key is missing");
            return Err(warp::reject::custom(problem));
        };
        let accept = derive_accept_key(key.as_bytes());
        Ok(Self { accept, protocol: chosen_protocol(headers), hook, peer })
    }

    /// Who asks, where the request came through the endpoint's own loop.
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Answers 101 and runs `session` on the drain's tracker as soon as the socket is there.
    ///
    /// The session is dropped where it stands when the drain closes.
    pub fn accept<F, S>(self, limits: SocketLimits, drain: &Drain, metrics: Arc<Metrics>, session: F) -> Response
    where
        F: FnOnce(Socket) -> S + Send + 'static,
        S: Future<Output = ()> + Send,
    {
        let (hook, peer, task_drain) = (self.hook, self.peer, drain.clone());
        drain.spawn(async move {
            match hook.await {
                Ok(upgraded) => {
                    let _counted = metrics.connected(Transport::WebSocket);
                    session(Socket::new(upgraded, limits, task_drain).await).await;
                }
                Err(error) => {
                    tracing::debug!(?peer, %error, "A WebSocket upgrade was not completed")
                }
            }
        });
        let mut response = warp::reply().into_response();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::try_from(self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    says(UPGRADE, "websocket") && says(CONNECTION, "upgrade")
}

/// RFC 6455 lets the server choose one of the protocols that were offered, or none. `weir` is chosen before the one
/// that carries the key, so that a client which offers both does not get its key repeated.
fn chosen_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered: Vec<&str> = offered_protocols(headers).collect();
    let plain = offered.iter().find(|protocol| protocol.eq_ignore_ascii_case("weir"));
    let chosen = plain.or_else(|| offered.iter().find(|protocol| protocol.starts_with(SUBPROTOCOL_PREFIX)))?;
    let mut value = HeaderValue::from_str(chosen).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("", None)]
    #[case::unknown("chat", None)]
    #[case::key("bearer.k", Some("bearer.k"))]
    #[case::key_and_name("bearer.k, weir", Some("weir"))]
    fn only_a_protocol_that_was_offered_is_chosen(#[case] offered: &str, #[case] chosen: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
        let value = chosen_protocol(&headers);
        assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), chosen);
        assert!(!format!("{value:?}").contains("bearer.k"), "a key is never printed");
    }
}
