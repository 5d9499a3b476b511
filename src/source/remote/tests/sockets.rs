//! Streams over WebSocket.

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::super::websocket::{MESSAGE_BYTES, WebSocket};
use super::*;
use crate::api::SecretKeyRef;

fn spec(url: String) -> WebSocketSource {
    WebSocketSource { url, headers: vec![], reconnect_delay: "10ms".into(), max_line_bytes: 65_536 }
}

fn run(spec: &WebSocketSource) -> Run {
    let outside = open();
    Run::of(source(network(&outside), RemoteSpec::WebSocket(spec), &outside))
}

/// A server that sends the messages of its first connection, then stays silent.
async fn sending(messages: Vec<Message>) -> SocketAddr {
    serve(move |count, stream| {
        let messages = messages.clone();
        async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
            if count == 0 {
                for message in messages {
                    socket.send(message).await.expect("sent");
                }
                let _ = socket.close(None).await;
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await
}

#[tokio::test]
async fn records_are_cut_at_newlines_across_text_and_binary_messages() {
    let address = sending(vec![
        Message::text("one\ntw"),
        Message::binary(b"o\nthr".to_vec()),
        Message::text("ee\r\nla"),
        Message::text("st"),
    ])
    .await;
    let mut run = run(&spec(format!("ws://{address}/feed?token=secret")));
    run.until_records(4).await;
    assert_eq!(run.texts, ["one", "two", "three", "last"]);
    run.until_told(Event::Reconnected).await;
    assert_eq!(run.source.roster()[0].container, "/feed");
    assert!(run.signals.iter().all(|signal| !signal.text.contains("secret")));
    assert!(!format!("{:?}", run.source).contains("secret"));
    run.stop().await;
}

#[tokio::test]
async fn a_message_that_is_whole_json_is_a_record_without_a_newline() {
    let address = sending(vec![
        Message::text(r#"{"a":1}"#),
        Message::text(r#"{"b":"}"}"#),
        Message::text("[1]\n[2]"),
        Message::text(r#"{"half":"#),
        Message::text("1}\n"),
    ])
    .await;
    let mut run = run(&spec(format!("ws://{address}/")));
    run.until_records(5).await;
    assert_eq!(run.texts, [r#"{"a":1}"#, r#"{"b":"}"}"#, "[1]", "[2]", r#"{"half":1}"#]);
    run.stop().await;
}

#[tokio::test]
async fn what_has_no_end_is_a_record_after_a_short_silence() {
    let address = serve(|_, stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        socket.send(Message::text("hello")).await.expect("sent");
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    let mut run = run(&spec(format!("ws://{address}/")));
    run.until_records(1).await;
    assert_eq!(run.texts, ["hello"]);
    assert_eq!(run.told().len(), 1, "it is still connected");
    run.stop().await;
}

#[tokio::test]
#[expect(clippy::result_large_err, reason = "the signature is the library's")]
async fn headers_are_sent_with_secrets_as_they_are_now_and_a_refusal_is_told() {
    let (seen, mut headers) = tokio::sync::mpsc::channel(10);
    let address = serve(move |count, stream| {
        let seen = seen.clone();
        async move {
            let look = |request: &Request, response: Response| {
                let value = |name: &str| request.headers()[name].to_str().unwrap_or_default().to_owned();
                seen.try_send((value("x-plain"), value("authorization"))).expect("room");
                if count > 0 {
                    return Ok(response);
                }
                let refused = tokio_tungstenite::tungstenite::http::Response::builder().status(401).body(None);
                Err::<Response, ErrorResponse>(refused.expect("a response"))
            };
            if let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, look).await {
                while let Some(Ok(_)) = socket.next().await {}
            }
        }
    })
    .await;
    let secret = SecretKeyRef { name: "token".into(), key: "k".into() };
    let plain = HeaderSpec { name: "X-Plain".into(), value: Some("p".into()), value_from: None };
    let hidden = HeaderSpec { name: "Authorization".into(), value: None, value_from: Some(secret) };
    let spec = WebSocketSource { headers: vec![plain, hidden], ..spec(format!("ws://{address}/")) };
    let mut run = run(&spec);
    run.until_told(Event::Added).await;
    assert_eq!(headers.recv().await, Some(("p".to_owned(), "shop/token/0".to_owned())));
    assert_eq!(headers.recv().await, Some(("p".to_owned(), "shop/token/1".to_owned())));
    assert_eq!(run.told()[0], (Event::SourceError, "Denied".to_owned()));
    assert!(run.signals[0].text.contains("401"), "{}", run.signals[0].text);
    run.stop().await;
}

#[tokio::test]
async fn pings_are_answered_and_a_peer_that_answers_none_is_given_up() {
    let (answered, mut pongs) = tokio::sync::mpsc::channel(10);
    let address = serve(move |count, stream| {
        let answered = answered.clone();
        async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
            socket.send(Message::Ping("there?".into())).await.expect("sent");
            if let Some(Ok(Message::Pong(text))) = socket.next().await {
                let _ = answered.send(text).await;
            }
            if count == 0 {
                // Reads nothing any more, and so answers nothing.
                std::future::pending::<()>().await;
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
    let outside = open();
    let spec = spec(format!("ws://{address}/"));
    let source = source(network(&outside), RemoteSpec::WebSocket(&spec), &outside);
    let stream = Arc::new(LiveStream::new(RingLimits { records: 1000, bytes: 1 << 20, age: None }, 1));
    let headers = Headers { specs: vec![], namespace: None, secrets: Arc::clone(&outside.secrets) };
    let url = Url::parse(&spec.url).expect("an address");
    let session = WebSocket::new(url, headers, Arc::new(network(&outside))).with_ping(Duration::from_millis(100));
    let (reader, cancel) = (Reader::open(Arc::clone(&stream), ReadFrom::Oldest), CancellationToken::new());
    let (link, token) = (source.link(stream), cancel.clone());
    let task = tokio::spawn(async move {
        token.run_until_cancelled(life::live(session, link)).await;
    });
    let (texts, truncated, pods, signals) = Default::default();
    let mut run = Run { source, texts, truncated, pods, signals, reader, cancel, task };
    assert_eq!(pongs.recv().await, Some("there?".into()));
    run.until_told(Event::Reconnected).await;
    assert_eq!(run.told()[1], (Event::Reconnecting, "Silent".to_owned()));
    run.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_and_not_held() {
    let address = sending(vec![Message::binary(vec![b'x'; MESSAGE_BYTES + 1])]).await;
    let mut run = run(&spec(format!("ws://{address}/")));
    run.until_told(Event::Reconnecting).await;
    assert_eq!(run.told()[1], (Event::Reconnecting, "MessageTooLarge".to_owned()));
    run.stop().await;
}

#[tokio::test]
async fn a_hundred_cuts_double_nothing() {
    const CUTS: usize = 100;
    let address = serve(|count, stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        if count >= CUTS {
            return while let Some(Ok(_)) = socket.next().await {};
        }
        let mut dice = Dice(count as u64 + 1);
        for at in 0..10 {
            let line = format!("line {}\n", count * 10 + at);
            let (one, two) = line.split_at(dice.below(line.len()));
            socket.send(Message::text(one)).await.expect("sent");
            socket.send(Message::text(two)).await.expect("sent");
        }
        if dice.below(2) == 0 {
            let _ = socket.close(None).await;
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
    let mut run = run(&spec(format!("ws://{address}/")));
    run.until_records(CUTS * 10).await;
    let expected: Vec<_> = (0..CUTS * 10).map(|at| format!("line {at}")).collect();
    assert_eq!(run.texts, expected);
    run.stop().await;
}

#[tokio::test]
async fn wss_trusts_known_roots_and_nobody_else() {
    let (acceptor, root) = certificate();
    let address = serve(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
            socket.send(Message::text("secure\n")).await.expect("sent");
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
    let (spec, outside) = (spec(format!("wss://localhost:{}/", address.port())), open());
    let trusting = network(&outside).with_roots(vec![root]);
    let mut run = Run::of(source(trusting, RemoteSpec::WebSocket(&spec), &outside));
    run.until_records(1).await;
    run.stop().await;
    let mut run = Run::of(source(network(&outside), RemoteSpec::WebSocket(&spec), &outside));
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "TlsFailed".to_owned())]);
    run.stop().await;
}
