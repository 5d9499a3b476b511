//! The endpoint's transport, over real sockets: what it promises to any client, whatever the protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// What a test spawns is joined by the test, or ends with its runtime.
#![allow(clippy::disallowed_methods)]

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use warp::Filter as _;
use weir::endpoint::upgrade::upgrade;
use weir::endpoint::websocket::{Close, Event, Socket, SocketLimits, Text};
use weir::endpoint::{Drain, Drained, Limits, Peer, Server, ServerError, health, origin, reply, sse, tls};
use weir::telemetry::{Exposition, Metrics};

/// Longer than anything here takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Endpoint {
    address: SocketAddr,
    drain: Drain,
    metrics: Arc<Metrics>,
    running: JoinHandle<Drained>,
}

#[derive(Default)]
struct Options {
    limits: Limits,
    sockets: SocketLimits,
    tls: Option<tls::Tls>,
    grace: Option<Duration>,
}

/// An endpoint with the real health routes, a socket that echoes, and endless events.
async fn start(options: Options) -> Endpoint {
    let (drain, metrics) = (Drain::new(), Metrics::new());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(any_port, options.limits, options.tls, metrics.clone(), drain.clone()).await.unwrap();
    let address = server.address();
    let (socket_drain, socket_metrics) = (drain.clone(), metrics.clone());
    let socket = warp::path!("ws").and(upgrade()).map(move |upgrade: weir::endpoint::upgrade::Upgrade| {
        assert!(upgrade.peer().is_some());
        upgrade.accept(options.sockets.clone(), &socket_drain, socket_metrics.clone(), echo)
    });
    let (event_drain, event_metrics) = (drain.clone(), metrics.clone());
    let events = warp::path!("events").map(move || {
        let frames = stream::iter([Bytes::from_static(b"id: 1\ndata: one\n\n")]).chain(stream::pending());
        let farewell = Bytes::from_static(b"event: signal\ndata: draining\n\n");
        sse::respond(sse::Form::Events, frames, farewell, &sse::EventLimits::default(), &event_drain, &event_metrics)
    });
    let peer = warp::path!("peer")
        .and(warp::ext::get::<Peer>())
        .map(|peer: Peer| format!("{} {}", peer.address.ip(), peer.connection));
    let probes = health::routes(health::Readiness::default(), drain.clone(), metrics.clone());
    let routes = probes.or(socket).or(events).or(peer).recover(reply::recover);
    let service = origin::Cors::new(warp::service(routes), Vec::new());
    let grace = options.grace.unwrap_or(PATIENCE);
    let running = tokio::spawn(server.run(service, grace));
    Endpoint { address, drain, metrics, running }
}

/// Says back what it hears. "start" lifts the limit on idle sockets, "bye" ends the session, "twice" answers twice.
async fn echo(mut socket: Socket) {
    loop {
        match socket.next(std::future::pending::<()>()).await {
            Event::Text(text) if text.as_str() == "bye" => {
                return socket.close(Close::done("as you wish")).await;
            }
            Event::Text(text) => {
                if text.as_str() == "start" {
                    socket.started();
                }
                if text.as_str() == "twice" && socket.feed(text.clone()).await.is_err() {
                    return;
                }
                if socket.send(text).await.is_err() {
                    return;
                }
            }
            Event::Binary(_) => return socket.close(Close::new(1003, "send text")).await,
            Event::Work(()) => {}
            Event::End(end) => {
                let _ = socket.feed(Text::from_static("last words")).await;
                return socket.end(end).await;
            }
        }
    }
}

type Client = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn connect(endpoint: &Endpoint) -> Client {
    tokio_tungstenite::connect_async(format!("ws://{}/ws", endpoint.address)).await.unwrap().0
}

/// Reads to the close, and gives the texts before it with its code and reason.
async fn until_close(client: &mut Client) -> (Vec<String>, Option<(u16, String)>) {
    let mut texts = Vec::new();
    let read = async {
        while let Some(Ok(message)) = client.next().await {
            match message {
                Message::Text(text) => texts.push(text.to_string()),
                Message::Close(frame) => {
                    return frame.map(|CloseFrame { code, reason }| (code.into(), reason.to_string()));
                }
                _ => {}
            }
        }
        None
    };
    let close = tokio::time::timeout(PATIENCE, read).await.expect("the socket was not closed");
    (texts, close)
}

/// Reads what a raw connection says until it is closed.
async fn until_end(socket: &mut TcpStream) -> String {
    let mut out = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut out)).await.expect("the connection stays open");
    let _ = read;
    String::from_utf8(out).unwrap()
}

async fn get(endpoint: &Endpoint, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let text = until_end(&mut socket).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until a line of the metrics says this.
async fn until_metric(metrics: &Metrics, line: &str) {
    let seen = async {
        while !metrics.encode(Exposition::Prometheus).lines().any(|found| found == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never came: {line}"));
}

fn short() -> Duration {
    Duration::from_millis(100)
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it_and_what_to_do() {
    let taken = start(Options::default()).await;
    let again = Server::bind(taken.address, Limits::default(), None, Metrics::new(), Drain::new()).await;
    let Err(error @ ServerError::Bind { .. }) = again else { panic!("bound twice") };
    assert!(error.to_string().contains(&taken.address.to_string()), "{error}");
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test]
async fn handlers_know_the_peer_and_its_connection() {
    let endpoint = start(Options::default()).await;
    assert_eq!(get(&endpoint, "/peer").await, (200, "127.0.0.1 1".to_owned()));
    assert_eq!(get(&endpoint, "/peer").await, (200, "127.0.0.1 2".to_owned()));
}

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_ends_the_connection_the_first_and_any_later() {
    let limits = Limits { head_timeout: short(), ..Limits::default() };
    let endpoint = start(Options { limits, ..Options::default() }).await;
    for first in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: weir\r\n\r\nGET /livez HT"] {
        let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
        socket.write_all(first.as_bytes()).await.unwrap();
        let answers = until_end(&mut socket).await;
        assert_eq!(answers.matches("200 OK").count(), first.matches("\r\n\r\n").count(), "{answers}");
    }
    until_metric(&endpoint.metrics, "weir_connections{transport=\"http\"} 0").await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_beyond_the_head_timeout_and_closed_after_its_own() {
    let limits = Limits { head_timeout: short(), idle_timeout: short() * 8, ..Limits::default() };
    let endpoint = start(Options { limits, ..Options::default() }).await;
    let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
    for wait in [Duration::ZERO, short() * 3] {
        tokio::time::sleep(wait).await;
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let read = socket.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
    assert_eq!(until_end(&mut socket).await, "");
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_with_431() {
    let endpoint = start(Options::default()).await;
    let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
    let long = format!("GET /livez HTTP/1.1\r\nhost: weir\r\nx-long: {}\r\n\r\n", "a".repeat(20 * 1024));
    socket.write_all(long.as_bytes()).await.unwrap();
    assert!(until_end(&mut socket).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_connection_over_the_cap_is_told_to_try_again_and_a_place_comes_free() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let endpoint = start(Options { limits, ..Options::default() }).await;
    let mut first = connect(&endpoint).await;
    let _second = connect(&endpoint).await;
    let mut third = TcpStream::connect(endpoint.address).await.unwrap();
    third.write_all(b"GET /livez HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
    let answer = until_end(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
    assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].is_string());
    until_metric(&endpoint.metrics, "weir_connections_refused_total 1").await;

    first.close(None).await.unwrap();
    until_close(&mut first).await;
    until_metric(&endpoint.metrics, "weir_connections{transport=\"http\"} 1").await;
    assert_eq!(get(&endpoint, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_source_over_its_own_cap_is_turned_away_although_there_is_room() {
    let limits = Limits { connections_per_source: 1, ..Limits::default() };
    let endpoint = start(Options { limits, ..Options::default() }).await;
    let _first = connect(&endpoint).await;
    assert_eq!(get(&endpoint, "/livez").await.0, 503);
}

#[tokio::test]
async fn a_socket_echoes_and_closes_with_code_and_reason() {
    let endpoint = start(Options::default()).await;
    let mut client = connect(&endpoint).await;
    client.send("twice".into()).await.unwrap();
    client.send("bye".into()).await.unwrap();
    let (texts, close) = until_close(&mut client).await;
    assert_eq!(texts, ["twice", "twice"]);
    assert_eq!(close, Some((1000, "as you wish".to_owned())));
    until_metric(&endpoint.metrics, "weir_connections{transport=\"websocket\"} 0").await;
}

#[tokio::test]
async fn the_key_in_the_subprotocol_is_answered_as_the_standard_asks() {
    let endpoint = start(Options::default()).await;
    for (offered, answered) in [("bearer.abc", "bearer.abc"), ("weir, bearer.abc", "weir")] {
        let mut request = format!("ws://{}/ws", endpoint.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        let (_client, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], answered);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off_and_holds_no_memory() {
    let limits = Limits { stall_timeout: short() * 2, ..Limits::default() };
    let endpoint = start(Options { limits, ..Options::default() }).await;
    let client = connect(&endpoint).await;
    let (mut send, _never_read) = client.split();
    let flood = async { while send.send("x".repeat(60 * 1024).into()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the client is never cut off");
    until_metric(&endpoint.metrics, "weir_connections{transport=\"http\"} 0").await;
}

#[tokio::test]
async fn an_upgrade_of_another_version_is_answered_with_426() {
    let endpoint = start(Options::default()).await;
    let mut request = format!("ws://{}/ws", endpoint.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Err(WsError::Http(response)) => {
            assert_eq!(response.status(), 426);
            assert_eq!(response.headers()["sec-websocket-version"], "13");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&endpoint, "/ws").await.0, 404, "no upgrade at all");
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let endpoint = start(Options::default()).await;
    let mut client = connect(&endpoint).await;
    client.send("x".repeat(64 * 1024).into()).await.unwrap();
    assert!(client.next().await.unwrap().unwrap().is_text(), "at the limit");
    client.send("x".repeat(64 * 1024 + 1).into()).await.unwrap();
    let (_, close) = until_close(&mut client).await;
    assert_eq!(close.unwrap().0, 1009);
}

#[tokio::test]
async fn a_silent_peer_is_dropped_and_one_that_answers_pings_stays() {
    let sockets =
        SocketLimits { ping_every: short() / 2, silent: short() * 4, close_within: short(), ..SocketLimits::default() };
    let endpoint = start(Options { sockets, ..Options::default() }).await;
    let mut alive = connect(&endpoint).await;
    let deaf = raw_socket(&endpoint).await;
    let pings = async {
        let mut pings = 0;
        while pings < 20 {
            pings += usize::from(matches!(alive.next().await, Some(Ok(Message::Ping(_)))));
        }
        alive.send("still here".into()).await.unwrap();
        while !alive.next().await.unwrap().unwrap().is_text() {}
    };
    let both = async { tokio::join!(pings, frames_until_end(deaf)) };
    let ((), frames) = tokio::time::timeout(PATIENCE, both).await.expect("no pings, or never dropped");
    let close = frames.windows(4).find(|four| four[0] == 0x88).expect("no close frame");
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1008);
}

/// A client that does no more than ask for the upgrade: it answers no ping.
async fn raw_socket(endpoint: &Endpoint) -> TcpStream {
    let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: weir\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// What follows the head of the answer, to the end.
async fn frames_until_end(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 101"));
    bytes.split_off(head + 4)
}

#[tokio::test]
async fn a_socket_that_starts_nothing_is_closed_and_one_that_did_stays() {
    let sockets = SocketLimits { start_within: short() * 2, ..SocketLimits::default() };
    let endpoint = start(Options { sockets, ..Options::default() }).await;
    let mut started = connect(&endpoint).await;
    started.send("start".into()).await.unwrap();
    assert!(started.next().await.unwrap().unwrap().is_text());
    let mut idle = connect(&endpoint).await;
    let (_, close) = until_close(&mut idle).await;
    assert!(close.unwrap().1.contains("start message"));
    started.send("still here".into()).await.unwrap();
    assert!(started.next().await.unwrap().unwrap().is_text());
}

#[tokio::test]
async fn draining_tells_sockets_and_events_after_what_is_queued_and_ends_clean() {
    let endpoint = start(Options::default()).await;
    let mut client = connect(&endpoint).await;
    let mut events = TcpStream::connect(endpoint.address).await.unwrap();
    events.write_all(b"GET /events HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
    until_metric(&endpoint.metrics, "weir_connections{transport=\"sse\"} 1").await;
    let idle = TcpStream::connect(endpoint.address).await.unwrap();
    endpoint.drain.begin();
    let (texts, close) = until_close(&mut client).await;
    assert_eq!(texts, ["last words"]);
    assert_eq!(close.unwrap().0, 1001);
    drop(client);
    let body = until_end(&mut events).await;
    assert!(body.contains("data: one\n\n") && body.contains("data: draining\n\n"), "{body}");
    assert_eq!(endpoint.running.await.unwrap(), Drained::Clean);
    assert!(TcpStream::connect(endpoint.address).await.is_err(), "nobody is accepted any more");
    drop(idle);
}

#[tokio::test]
async fn draining_waits_no_longer_than_it_may() {
    let sockets = SocketLimits { close_within: PATIENCE * 10, ..SocketLimits::default() };
    let endpoint = start(Options { sockets, grace: Some(short()), ..Options::default() }).await;
    // A client that never reads, and so never answers the close.
    let _deaf = connect(&endpoint).await;
    until_metric(&endpoint.metrics, "weir_connections{transport=\"websocket\"} 1").await;
    endpoint.drain.begin();
    let drained = tokio::time::timeout(PATIENCE, endpoint.running).await.expect("the drain hangs").unwrap();
    assert!(matches!(drained, Drained::Aborted(_)), "{drained:?}");
    until_metric(&endpoint.metrics, "weir_connections{transport=\"http\"} 0").await;
}

/// A pair of files, and the certificate as a client wants it.
fn write_pair(dir: &std::path::Path) -> reqwest::Certificate {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    reqwest::Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap()
}

async fn https(endpoint: &Endpoint, root: &reqwest::Certificate) -> Option<u16> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([root.clone()])
        .resolve("localhost", endpoint.address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/livez", endpoint.address.port());
    Some(client.get(url).send().await.ok()?.status().as_u16())
}

#[tokio::test]
async fn tls_serves_a_changed_certificate_without_a_restart_and_survives_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let old = write_pair(dir.path());
    let poll = Duration::from_millis(20);
    let files = tls::Files { poll, ..tls::Files::new(dir.path().join("tls.crt"), dir.path().join("tls.key")) };
    let loaded = tls::Tls::load(files).unwrap();
    let endpoint = start(Options { tls: Some(loaded), ..Options::default() }).await;
    assert_eq!(https(&endpoint, &old).await, Some(200));

    std::fs::write(dir.path().join("tls.crt"), "broken").unwrap();
    tokio::time::sleep(poll * 5).await;
    assert_eq!(https(&endpoint, &old).await, Some(200), "the old pair stays in use");

    let new = write_pair(dir.path());
    let served = async {
        while https(&endpoint, &new).await.is_none() {
            tokio::time::sleep(poll).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("the new certificate is never served");
    assert_eq!(https(&endpoint, &old).await, None, "the old certificate is no longer trusted by anyone");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path());
    let loaded = tls::Tls::load(tls::Files::new(dir.path().join("tls.crt"), dir.path().join("tls.key"))).unwrap();
    let limits = Limits { handshake_timeout: short(), ..Limits::default() };
    let endpoint = start(Options { limits, tls: Some(loaded), ..Options::default() }).await;
    let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
    assert_eq!(until_end(&mut socket).await, "");
    until_metric(&endpoint.metrics, "weir_tls_handshake_failures_total 1").await;
}
