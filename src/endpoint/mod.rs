//! What clients connect to: one file per protocol, and the transport that all of them share.
//!
//! This room never calls Kubernetes. What it needs of the other floors comes in as values.
//!
//! | file | what it holds |
//! |---|---|
//! | `accept` | the accept loop: caps, timeouts, one HTTP/1.1 connection per task |
//! | `connection` | the bytes of one connection: its place under the caps, the head timeout, the abort |
//! | `tls` | certificate and key from files, reloaded when they change |
//! | `drain` | [`Drain`]: how the endpoint stops without cutting anyone short |
//! | `credentials` | the key that a request presents |
//! | `origin` | which pages may connect; CORS |
//! | `reply` | JSON answers, errors, rejections, security headers |
//! | `health` | `/healthz`, `/livez`, `/readyz`, `/metrics` |
//! | `upgrade` | the request that turns a connection into a WebSocket |
//! | `websocket` | one WebSocket with its limits |
//! | `session` | the session socket, in three dialects |
//! | `metrics_socket` | the metrics socket: the server's own numbers, or those of a declared stream, live |
//! | `services` | what the routes need of the floors below |
//! | `sse` | server-sent events |
//! | `routes` | all routes together |
//! | `traffic` | counts requests and their answers |
//! | `ask` | a request as the routes see it, and who asks |
//! | `counted` | a reader as Weir's own metrics see it |
//! | `config` | what clients of the session protocol ask before they connect |
//! | `key_admin`, `key_wire` | access keys managed over REST, and how they are written there |
//! | `subscriptions` | which declared streams there are |
//! | `streams`, `stream_frames` | a declared stream as server-sent events or plain lines |
//! | `history` | what numbers were |
//! | `http_streams` | streams that producers upload, and the spy |
//! | `socket_io` | Socket.IO: logs, status messages, updates and commands, each in its namespace |
//! | `status` | what is the case with objects that files declare |
//! | `tickets` | tickets for clients that cannot set headers |

pub mod accept;
mod ask;
mod config;
mod connection;
mod counted;
pub mod credentials;
pub mod drain;
pub mod health;
mod history;
mod http_streams;
mod key_admin;
mod key_wire;
mod metrics_socket;
pub mod origin;
pub mod reply;
pub mod routes;
pub mod services;
pub mod session;
pub mod socket_io;
pub mod sse;
mod status;
mod stream_frames;
mod streams;
mod subscriptions;
mod tickets;
pub mod tls;
mod traffic;
pub mod upgrade;
pub mod websocket;

pub use accept::{Limits, Server, ServerError};
pub use connection::Peer;
pub use drain::{Drain, Drained, Phase};

#[cfg(test)]
mod testing {
    //! Asks routes a question without a socket.
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use std::convert::Infallible;
    use tower::{Service, ServiceExt as _};

    pub(super) async fn ask<S>(service: S, request: http::request::Builder, body: &str) -> Response<String>
    where
        S: Service<Request<Full<Bytes>>, Response = warp::reply::Response, Error = Infallible>,
    {
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Response::from_parts(parts, String::from_utf8(bytes.to_vec()).unwrap())
    }
}
