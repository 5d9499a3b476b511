//! Streams over HTTP: lines, server-sent events, long polling.

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::super::http::retry_after;
use super::*;
use crate::api::SecretKeyRef;

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The head of the next request on a connection; `None` where there is none.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("text"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
    head.lines().find(named).map(|line| line[name.len() + 1..].trim())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A body in chunks of the sizes that the dice give.
fn chunked(body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((1 + dice.below(40)).min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out
}

#[tokio::test]
async fn lines_of_a_body_come_as_they_arrive_and_the_last_counts_without_an_end() {
    let address = serve(|count, mut stream| async move {
        request(&mut stream).await;
        if count > 0 {
            return std::future::pending().await;
        }
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "4\r\none\n\r\n3\r\ntwo\r\n9\r\n-2\r\nthree\r\n";
        stream.write_all(format!("{head}{body}0\r\n\r\n").as_bytes()).await.expect("sent");
        std::future::pending::<()>().await;
    })
    .await;
    let mut run = run_http(&http_spec(format!("http://{address}/log?token=secret"), HttpMode::Lines));
    run.until_told(Event::Reconnecting).await;
    assert_eq!(run.texts, ["one", "two-2", "three"]);
    let origin = &run.source.roster()[0];
    assert_eq!((origin.pod.clone(), &*origin.container), (address.to_string(), "/log"));
    assert!(run.signals.iter().all(|signal| !signal.text.contains("secret")));
    assert!(!format!("{:?}", run.source).contains("secret"));
    run.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_and_its_half_line_is_marked() {
    let address = serve(|count, mut stream| async move {
        request(&mut stream).await;
        if count == 0 {
            let text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwhole\nhal";
            stream.write_all(text.as_bytes()).await.expect("sent");
        } else {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut run = run_http(&http_spec(format!("http://{address}/"), HttpMode::Lines));
    run.until_told(Event::Reconnecting).await;
    assert_eq!((&run.texts[..], &run.truncated[..]), (&["whole".into(), "hal".into()][..], &[false, true][..]));
    assert_eq!(run.told()[1], (Event::Reconnecting, "ConnectionBroken".to_owned()));
    run.stop().await;
}

#[tokio::test]
async fn events_come_exactly_once_across_a_hundred_cuts_at_any_byte() {
    /// So many events there are; then the server says that there are no more.
    const COUNT: usize = 2000;
    let cuts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&cuts);
    let address = serve(move |count, mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let Some(head) = request(&mut stream).await else { return };
            let first = header(&head, "last-event-id").map_or(0, |id| id.parse::<usize>().expect("a number") + 1);
            if first == COUNT {
                let _ = stream.write_all(answer("204 No Content", "", "").as_bytes()).await;
                return;
            }
            seen.store(count + 1, std::sync::atomic::Ordering::Relaxed);
            let mut dice = Dice(count as u64 + 1);
            let ends = ["\n", "\r", "\r\n"];
            let mut body = String::from("retry: 1\n: hello\n\n");
            for at in first..(first + 1 + dice.below(40)).min(COUNT) {
                let end = ends[dice.below(3)];
                body += &format!("id: {at}{end}event: e{end}data: event {at}{end}data: second{end}{end}");
            }
            let mut bytes = EVENTS.as_bytes().to_vec();
            bytes.extend(chunked(body.as_bytes(), &mut dice));
            // Some answers are cut anywhere behind their head, some in the middle of the last event.
            let cut = EVENTS.len() + dice.below(bytes.len() - EVENTS.len() + 1);
            let _ = stream.write_all(&bytes[..cut]).await;
        }
    })
    .await;
    let mut spec = http_spec(format!("http://{address}/"), HttpMode::ServerSentEvents);
    spec.reconnect_delay = "10ms".into();
    let mut run = run_http(&spec);
    run.until_told(Event::Deleted).await;
    let expected: Vec<_> = (0..COUNT).map(|at| format!("event {at}\nsecond")).collect();
    assert_eq!(run.texts, expected);
    assert!(cuts.load(std::sync::atomic::Ordering::Relaxed) >= 100, "{cuts:?} connections");
    run.stop().await;
}

#[tokio::test]
async fn what_is_no_stream_of_events_is_told_with_what_to_do() {
    let address = serve(|_, mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(answer("200 OK", "Content-Type: text/html\r\n", "data: x\n\n").as_bytes()).await;
    })
    .await;
    let mut run = run_http(&http_spec(format!("http://{address}/"), HttpMode::ServerSentEvents));
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "WrongContentType".to_owned())]);
    assert!(run.signals[0].text.contains("use mode Lines"));
    run.stop().await;
}

#[tokio::test]
async fn a_poll_that_ends_is_asked_again_at_once_and_nothing_of_it_is_lost() {
    let address = serve(|_, mut stream| async move {
        // One connection serves many polls.
        for count in 0.. {
            if request(&mut stream).await.is_none() {
                return;
            }
            let answer = match count {
                0 => answer("200 OK", "", "a\nb"),
                1 => answer("204 No Content", "", ""),
                2 => answer("200 OK", "", ""),
                3 => answer("200 OK", "", "c\n"),
                _ => return std::future::pending().await,
            };
            stream.write_all(answer.as_bytes()).await.expect("sent");
        }
    })
    .await;
    let mut spec = http_spec(format!("http://{address}/"), HttpMode::LongPolling);
    spec.reconnect_delay = "1h".into();
    let mut run = run_http(&spec);
    run.until_records(3).await;
    assert_eq!(run.texts, ["a", "b", "c"]);
    assert_eq!(run.told(), [(Event::Added, String::new())], "a poll that ends is nothing to tell");
    run.stop().await;
}

#[tokio::test]
async fn a_server_that_answers_polls_at_once_is_not_asked_without_pause() {
    let polls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&polls);
    let address = serve(move |_, mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            while request(&mut stream).await.is_some() {
                seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let _ = stream.write_all(answer("200 OK", "", "x\n").as_bytes()).await;
            }
        }
    })
    .await;
    let mut run = run_http(&http_spec(format!("http://{address}/"), HttpMode::LongPolling));
    let begun = std::time::Instant::now();
    run.until_records(5).await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "a tenth of a second lies between two polls");
    assert!(polls.load(std::sync::atomic::Ordering::Relaxed) <= 6);
    run.stop().await;
}

#[rstest]
#[case("401 Unauthorized", "Denied", "credentials")]
#[case("404 Not Found", "NotFound", "path")]
#[case("503 Service Unavailable", "Busy", "log")]
#[case("418 I'm a teapot", "UnexpectedStatus", "headers")]
#[tokio::test]
async fn other_answers_than_success_are_told_with_what_to_do(
    #[case] status: &'static str,
    #[case] reason: &str,
    #[case] remedy: &str,
) {
    let address = serve(move |_, mut stream| async move {
        request(&mut stream).await;
        let _ = stream
            .write_all(answer(status, "Connection: close\r\n", "a body that is nobody's record\n").as_bytes())
            .await;
    })
    .await;
    let mut run = run_http(&http_spec(format!("http://{address}/"), HttpMode::Lines));
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, reason.to_owned())]);
    let text = &run.signals[0].text;
    assert!(text.contains(&status[..3]) && text.contains(remedy), "{text}");
    assert!(run.texts.is_empty());
    run.stop().await;
}

#[rstest]
#[case("120", Some(120))]
#[case("Thu, 26 Nov 2026 12:01:00 GMT", Some(60))]
#[case("Thu, 26 Nov 2026 11:00:00 GMT", None)]
#[case("soon", None)]
#[case("-1", None)]
fn patience_is_asked_for_in_seconds_or_until_a_date(#[case] value: &str, #[case] seconds: Option<u64>) {
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-26T12:00:00Z").expect("a time").to_utc();
    let value = ::http::HeaderValue::from_str(value).expect("a value");
    assert_eq!(retry_after(&value, now), seconds.map(Duration::from_secs));
}

fn secret_header(name: &str) -> HeaderSpec {
    let secret = SecretKeyRef { name: "token".into(), key: "k".into() };
    HeaderSpec { name: name.into(), value: None, value_from: Some(secret) }
}

fn plain_header(name: &str, value: &str) -> HeaderSpec {
    HeaderSpec { name: name.into(), value: Some(value.into()), value_from: None }
}

/// A server that shows the requests it gets, and answers each the same.
async fn showing(answer: String) -> (SocketAddr, mpsc::Receiver<String>) {
    let (seen, requests) = mpsc::channel(100);
    let address = serve(move |_, mut stream| {
        let (seen, answer) = (seen.clone(), answer.clone());
        async move {
            while let Some(head) = request(&mut stream).await {
                let _ = seen.send(head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn secrets_are_read_for_each_connection_and_stay_with_the_server_they_are_for() {
    let (other, mut at_other) = showing(answer("200 OK", "", "line\n")).await;
    let moved = answer("307 Temporary Redirect", &format!("Location: http://localhost:{}/x\r\n", other.port()), "");
    let (home, mut at_home) = showing(moved).await;
    let mut spec = http_spec(format!("http://{home}/"), HttpMode::Lines);
    spec.headers = vec![secret_header("X-Key"), plain_header("X-Plain", "p"), plain_header("Authorization", "Basic x")];
    let mut run = run_http(&spec);
    run.until_records(2).await;
    for at in 0..2 {
        let head = at_home.recv().await.expect("a request");
        assert_eq!(header(&head, "x-key"), Some(&*format!("shop/token/{at}")));
        assert_eq!((header(&head, "x-plain"), header(&head, "authorization")), (Some("p"), Some("Basic x")));
        let head = at_other.recv().await.expect("a request");
        assert_eq!((header(&head, "x-key"), header(&head, "authorization")), (None, None));
        assert_eq!(header(&head, "x-plain"), Some("p"));
    }
    run.stop().await;
}

#[tokio::test]
async fn what_nobody_declared_reads_no_secret() {
    let (address, mut requests) = showing(answer("200 OK", "", "line\n")).await;
    let mut spec = http_spec(format!("http://{address}/"), HttpMode::Lines);
    spec.headers = vec![secret_header("X-Key")];
    let outside = open();
    let source = Remote::new(RemoteSpec::Http(&spec), &FilterSpec::default(), &outside, None).expect("a source");
    let mut run = Run::of(source);
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "SecretNotReadable".to_owned())]);
    assert!(requests.try_recv().is_err(), "nothing was sent");
    run.stop().await;
}

#[tokio::test]
async fn https_trusts_known_roots_and_nobody_else() {
    let (acceptor, root) = certificate();
    let address = serve(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer("200 OK", "", "secure\n").as_bytes()).await;
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    let (spec, outside) = (http_spec(format!("https://localhost:{}/", address.port()), HttpMode::Lines), open());
    let trusting = network(&outside).with_roots(vec![root]);
    let mut run = Run::of(source(trusting, RemoteSpec::Http(&spec), &outside));
    run.until_records(1).await;
    assert_eq!(run.texts[0], "secure");
    run.stop().await;
    let mut run = Run::of(source(network(&outside), RemoteSpec::Http(&spec), &outside));
    run.until_told(Event::SourceError).await;
    assert_eq!(run.told(), [(Event::SourceError, "TlsFailed".to_owned())]);
    run.stop().await;
}

#[tokio::test]
async fn the_filter_and_the_longest_line_hold_here_too() {
    let line = "x".repeat(1000);
    let (address, _requests) = showing(answer("200 OK", "", &format!("keep {line}\ndrop\nkeep\n"))).await;
    let mut spec = http_spec(format!("http://{address}/"), HttpMode::Lines);
    (spec.max_line_bytes, spec.reconnect_delay) = (256, "1h".into());
    let filter = FilterSpec { include: vec!["^keep".into()], exclude: vec![] };
    let outside = open();
    let source = Remote::new(RemoteSpec::Http(&spec), &filter, &outside, None).expect("a source");
    let mut run = Run::of(source);
    run.until_records(2).await;
    assert_eq!((run.texts[0].len(), &*run.texts[1], &run.truncated[..]), (256, "keep", &[true, false][..]));
    run.stop().await;
}
