//! Streams that producers upload, over real sockets: every status and header that is promised, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use std::process::Stdio;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rest::{Endpoint, PATIENCE, Setup, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::api::{AccessKeySpec, Grant, Scope, Service, StreamSubscriptionSpec};
use weir::source::push::{UploadsConfig, UploadsDisk};
use weir::stream::{RingLimits, StreamName};
use weir::worker::Job;

fn key(scopes: &[Scope]) -> AccessKeySpec {
    let grant = Grant { services: vec![Service::Raw], scopes: scopes.to_vec(), ..Grant::default() };
    AccessKeySpec { grants: vec![grant], ..AccessKeySpec::default() }
}

async fn open() -> (Endpoint, String) {
    with(UploadsConfig::default()).await
}

async fn with(config: UploadsConfig) -> (Endpoint, String) {
    let endpoint = start(Setup { uploads: UploadsConfig { undeclared: true, ..config }, ..Setup::default() }).await;
    let token = endpoint.key("shop/a", &key(&[Scope::Push, Scope::Stream, Scope::Admin]));
    (endpoint, token)
}

/// A request that is written and read piece by piece.
struct Wire {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    async fn send(endpoint: &Endpoint, head: &str, token: &str) -> Self {
        let mut socket = TcpStream::connect(endpoint.address).await.unwrap();
        let head = format!("{head} HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {token}\r\n");
        let (line, rest) = head.split_once(" HTTP/1.1\r\n").unwrap();
        let (line, more) = line.split_once('\n').unwrap_or((line, ""));
        let more: String = more.lines().map(|header| format!("{header}\r\n")).collect();
        socket.write_all(format!("{line} HTTP/1.1\r\n{more}{rest}\r\n").as_bytes()).await.unwrap();
        Self { socket, read: Vec::new() }
    }

    /// An upload in chunks, whose answer has begun.
    async fn upload(endpoint: &Endpoint, path: &str, token: &str) -> (Self, String) {
        let mut wire = Self::send(endpoint, &format!("POST {path}\ntransfer-encoding: chunked"), token).await;
        let head = wire.head().await;
        (wire, head)
    }

    async fn chunk(&mut self, bytes: &[u8]) {
        self.socket.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await.unwrap();
        self.socket.write_all(bytes).await.unwrap();
        self.socket.write_all(b"\r\n").await.unwrap();
    }

    async fn end(&mut self) {
        self.socket.write_all(b"0\r\n\r\n").await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.socket.read(&mut buffer)).await.expect("the server is silent").unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// The head of the answer, in lower case.
    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
                return head.to_lowercase();
            }
            assert!(self.more().await, "the connection ended within the head: {:?}", self.read);
        }
    }

    /// The next chunk of the answer; `None` at its end, `Err` where it breaks off. Trailers stay in `read`.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ()> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n") {
                let size = usize::from_str_radix(str::from_utf8(&self.read[..end]).unwrap(), 16).unwrap();
                if size == 0 {
                    self.read.drain(..end + 2);
                    return Ok(None);
                }
                if self.read.len() >= end + 2 + size + 2 {
                    let chunk = self.read[end + 2..end + 2 + size].to_vec();
                    self.read.drain(..end + 2 + size + 2);
                    return Ok(Some(chunk));
                }
            }
            if !self.more().await {
                return Err(());
            }
        }
    }

    async fn all(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(chunk)) => all.extend(chunk),
                Ok(None) => return Ok(all),
                Err(()) => return Err(all),
            }
        }
    }
}

async fn post(endpoint: &Endpoint, token: &str, path: &str, headers: &[(&str, &str)], body: &str) -> rest::Answer {
    let bearer = format!("Bearer {token}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    endpoint.send("POST", path, &all, body).await
}

#[tokio::test]
async fn the_answer_comes_before_the_body_and_ends_when_it_is_stored() {
    let (endpoint, token) = open().await;
    let (mut producer, head) = Wire::upload(&endpoint, "/stream/build", &token).await;
    assert!(head.starts_with("http/1.1 201") && head.contains("x-stream-id: build\r\n"), "{head}");
    let mut reader = Wire::send(&endpoint, "GET /stream/build", &token).await;
    let head = reader.head().await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/octet-stream"), "{head}");
    assert!(
        head.contains("transfer-encoding: chunked") && !head.contains("etag") && head.contains("x-stream-state: live")
    );
    producer.chunk(b"one \0\xff").await;
    assert_eq!(reader.next().await, Ok(Some(b"one \0\xff".to_vec())));
    let now = endpoint.get("/stream/build?notail", &token).await;
    assert_eq!(now.headers["content-length"], "6");
    producer.end().await;
    assert_eq!(producer.all().await, Ok(Vec::new()));
    assert_eq!(reader.all().await, Ok(Vec::new()), "the end of the producer is that of its readers");
    let finished = endpoint.get("/stream/build", &token).await;
    assert_eq!(
        (finished.headers["content-length"].as_str(), finished.headers["x-stream-state"].as_str()),
        ("6", "complete")
    );
}

/// Method, path, body, headers; the status and a piece of the answer.
type Case<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>, u16, &'a str);

#[tokio::test]
async fn every_refusal_has_its_status_and_says_why() {
    let (endpoint, token) = open().await;
    let other = endpoint.key("shop/reader", &key(&[Scope::Stream]));
    let pusher = endpoint.key("shop/pusher", &key(&[Scope::Push]));
    post(&endpoint, &token, "/stream/a", &[], "x").await.rest().await;
    let long = format!("/stream/{}", "x".repeat(10_000));
    let table: Vec<Case<'_>> = vec![
        (
            "POST",
            "/stream/a",
            &token,
            vec![],
            409,
            "The stream with ID a already exists. Specify force=true query param to override.",
        ),
        ("GET", "/stream/b", &token, vec![], 404, "The stream with ID b does not exist"),
        ("DELETE", "/stream/b", &token, vec![], 404, "does not exist"),
        ("POST", "/stream/b", &token, vec![("x-stream-metadata", "{")], 400, "not JSON"),
        ("POST", "/stream/b?force=maybe", &token, vec![], 400, "neither true nor false"),
        ("POST", "/stream/b?append=true&force=true", &token, vec![], 400, "exclude"),
        ("POST", "/stream?append=true", &token, vec![], 400, "needs the ID"),
        ("POST", "/stream/b", &token, vec![("x-stream-offset", "1")], 400, "goes with append"),
        ("POST", "/stream/b?append=true", &token, vec![("x-stream-offset", "1")], 404, "does not exist"),
        ("POST", "/stream/a?append=true", &token, vec![("x-stream-offset", "9")], 409, "X-Stream-Offset: 1"),
        ("POST", "/stream/a?append=true", &token, vec![("x-stream-offset", "-1")], 400, "whole number"),
        ("POST", "/stream/a%2Fb", &token, vec![], 400, "no slashes"),
        ("POST", "/stream/%2e%2e", &token, vec![], 400, "neither . nor .."),
        ("POST", "/stream/a%00", &token, vec![], 400, "control"),
        ("POST", "/stream/a%0Ab", &token, vec![], 400, "control"),
        ("POST", "/stream/%ff", &token, vec![], 400, "UTF-8"),
        ("POST", "/stream/%4", &token, vec![], 400, "escapes"),
        ("POST", &long, &token, vec![], 400, "255 bytes"),
        ("POST", "/stream/a/b", &token, vec![], 404, "nothing at this path"),
        ("PUT", "/stream/a", &token, vec![], 405, "not allowed"),
        ("GET", "/stream/a?offset=x", &token, vec![], 400, "offset"),
        ("GET", "/stream/a?offset=2", &token, vec![], 416, "of the 1 bytes"),
        ("GET", "/stream/a", &token, vec![("range", "bytes=5-")], 416, "of the 1 bytes"),
        ("POST", "/stream/c", &other, vec![], 403, "push"),
        ("GET", "/stream/a", &pusher, vec![], 403, "stream"),
        ("DELETE", "/stream/a", &other, vec![], 403, "admin"),
        ("GET", "/stream", &pusher, vec![], 403, "stream"),
        ("GET", "/spy", &pusher, vec![], 403, "stream"),
        ("GET", "/spy?only=(", &token, vec![], 400, "only"),
        ("POST", "/stream/c", "", vec![], 401, "access key"),
        ("POST", "/stream/c", &token, vec![("authentication", "Bearer x")], 400, "several"),
    ];
    for (method, path, token, mut headers, status, text) in table {
        let bearer = format!("bEaReR {token}");
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let mut answer = endpoint.send(method, path, &headers, "").await;
        let (found, challenge) = (answer.status, answer.headers.get("www-authenticate").cloned());
        let body = answer.rest().await;
        assert_eq!(found, status, "{method} {path}: {body}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(text), "{method} {path}: {body}");
        assert_eq!(challenge, (status == 401).then(|| r#"Bearer realm="API Key""#.to_owned()));
    }
    let wrong = endpoint.get("/stream/a", &"x".repeat(60)).await;
    assert_eq!(wrong.headers["www-authenticate"], r#"Bearer realm="API Key", error="invalid_token""#);
    let slip = endpoint.send("GET", "/stream/a", &[("authentication", &format!("Bearer {token}"))], "").await;
    assert_eq!(slip.status, 200);
    let closed = start(Setup::default()).await;
    let token = closed.key("shop/a", &key(&[Scope::Push]));
    let mut refused = post(&closed, &token, "/stream/a", &[], "x").await;
    assert!(refused.status == 403 && refused.rest().await.contains("--allow-undeclared-uploads"));
}

#[tokio::test]
async fn a_finished_stream_has_a_length_ranges_and_a_tag() {
    let (endpoint, token) = open().await;
    let metadata = "{\"name\": \"ünï ☃\"}";
    let made = post(&endpoint, &token, "/stream/", &[("x-stream-metadata", metadata)], "0123456789").await;
    let id = made.headers["x-stream-id"].clone();
    assert!(made.status == 201 && id.len() == 32, "{id}");
    let path = format!("/stream/{id}");
    let mut all = endpoint.get(&path, &token).await;
    assert_eq!(all.headers["x-stream-metadata"], r#"{"name": "\u00fc\u006e\u00ef \u2603"}"#.replace("\\u006e", "n"));
    let tag = all.headers["etag"].clone();
    assert_eq!(all.rest().await, "0123456789");
    let bearer = format!("Bearer {token}");
    let ask = async |method: &'static str, path: &str, headers: &[(&str, &str)]| {
        let mut with = vec![("authorization", bearer.as_str())];
        with.extend_from_slice(headers);
        endpoint.send(method, path, &with, "").await
    };
    let mut part = ask("GET", &path, &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.headers["content-range"].as_str()), (206, "bytes 2-4/10"));
    assert_eq!(part.rest().await, "234");
    let mut other = ask("GET", &path, &[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.rest().await.len()), (200, 10));
    let same = ask("GET", &path, &[("if-none-match", &tag)]).await;
    assert_eq!(same.status, 304);
    let mut later = ask("GET", &format!("{path}?offset=7"), &[]).await;
    assert_eq!((later.status, later.rest().await.as_str()), (200, "789"));
    let head = ask("HEAD", &path, &[]).await;
    assert_eq!(
        (head.status, head.headers["content-length"].as_str(), head.headers["x-stream-size"].as_str()),
        (200, "10", "10")
    );
    let list = endpoint.json("/stream", &token).await;
    assert_eq!(list[0]["metadata"]["name"], "ünï ☃");
    assert_eq!((list[0]["size"].as_u64(), list[0]["state"].as_str()), (Some(10), Some("complete")));
    assert_eq!(ask("DELETE", &path, &[]).await.status, 204);
    assert_eq!(ask("GET", &path, &[]).await.status, 404);
}

#[tokio::test]
async fn random_bytes_in_random_pieces_reach_every_reader_that_joins_on_the_way() {
    let (endpoint, token) = open().await;
    let endpoint = std::sync::Arc::new(endpoint);
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sent = vec![0; random.random_range(1..3_000_000)];
        random.fill_bytes(&mut sent);
        let path = format!("/stream/r{seed}");
        let (mut producer, _) = Wire::upload(&endpoint, &path, &token).await;
        let (mut at, mut readers) = (0, Vec::new());
        while at < sent.len() {
            if random.random_bool(0.1) {
                let (endpoint, token, path) = (endpoint.clone(), token.clone(), path.clone());
                let leaves = random.random_bool(0.3);
                readers.push(tokio::spawn(async move {
                    let mut reader = Wire::send(&endpoint, &format!("GET {path}"), &token).await;
                    reader.head().await;
                    if leaves { None } else { Some(reader.all().await) }
                }));
            }
            let end = (at + random.random_range(1..100_000)).min(sent.len());
            producer.chunk(&sent[at..end]).await;
            at = end;
        }
        producer.end().await;
        assert_eq!(producer.all().await, Ok(Vec::new()));
        for reader in readers {
            if let Some(read) = reader.await.unwrap() {
                assert!(read.expect("a whole answer") == sent, "seed {seed}");
            }
        }
    }
}

#[tokio::test]
async fn a_producer_that_vanishes_aborts_its_stream_and_another_goes_on_without_loss_or_doubling() {
    let (endpoint, token) = open().await;
    let (mut producer, _) = Wire::upload(&endpoint, "/stream/a", &token).await;
    producer.chunk(b"0123456789").await;
    let mut plain = Wire::send(&endpoint, "GET /stream/a", &token).await;
    let mut trailing = Wire::send(&endpoint, "GET /stream/a\nte: trailers", &token).await;
    plain.head().await;
    assert!(trailing.head().await.contains("trailer: x-stream-state"));
    assert_eq!(plain.next().await, Ok(Some(b"0123456789".to_vec())));
    // In the middle of a chunk.
    producer.socket.write_all(b"ff\r\nabc").await.unwrap();
    assert_eq!(plain.next().await, Ok(Some(b"abc".to_vec())));
    drop(producer);
    assert_eq!(plain.all().await, Err(Vec::new()), "it breaks off, so that nobody takes it for whole");
    assert_eq!(trailing.all().await, Ok(b"0123456789abc".to_vec()));
    while !trailing.read.ends_with(b"\r\n\r\n") {
        assert!(trailing.more().await);
    }
    assert_eq!(trailing.read, b"x-stream-state: aborted\r\n\r\n");
    let later = endpoint.get("/stream/a", &token).await;
    assert_eq!((later.headers["x-stream-state"].as_str(), later.headers["content-length"].as_str()), ("aborted", "13"));
    let mut resumed = post(&endpoint, &token, "/stream/a?append=true", &[("x-stream-offset", "8")], "89abcdef").await;
    assert_eq!((resumed.status, resumed.headers["x-stream-offset"].as_str()), (201, "13"));
    assert_eq!(resumed.rest().await, "");
    assert_eq!(endpoint.get("/stream/a", &token).await.rest().await, "0123456789abcdef");
    endpoint.until_metric("weir_uploads_aborted_total 1").await;
}

#[tokio::test]
async fn a_forced_upload_takes_the_place_of_another_and_its_readers_end_at_once() {
    let (endpoint, token) = open().await;
    let (mut old, _) = Wire::upload(&endpoint, "/stream/a", &token).await;
    old.chunk(b"old").await;
    let mut reader = Wire::send(&endpoint, "GET /stream/a", &token).await;
    reader.head().await;
    assert_eq!(reader.next().await, Ok(Some(b"old".to_vec())));
    let (mut new, head) = Wire::upload(&endpoint, "/stream/a?force=true", &token).await;
    assert!(head.starts_with("http/1.1 201") && head.contains("x-stream-replaced: true"), "{head}");
    assert_eq!(reader.all().await, Err(Vec::new()));
    assert_eq!(old.all().await, Err(Vec::new()), "its producer is told, too");
    new.chunk(b"new").await;
    new.end().await;
    assert_eq!(new.all().await, Ok(Vec::new()));
    assert_eq!(endpoint.get("/stream/a", &token).await.rest().await, "new");
}

#[tokio::test]
async fn an_upload_of_any_length_takes_no_more_memory_than_it_may_and_waits_for_no_reader() {
    let config = UploadsConfig { stream_bytes: 256 * 1024, memory: 1024 * 1024, ..UploadsConfig::default() };
    let (endpoint, token) = with(config).await;
    let (mut producer, _) = Wire::upload(&endpoint, "/stream/a", &token).await;
    let mut slow = Wire::send(&endpoint, "GET /stream/a", &token).await;
    slow.head().await;
    let piece = vec![7; 256 * 1024];
    for _ in 0..256 {
        producer.chunk(&piece).await;
    }
    producer.end().await;
    assert_eq!(producer.all().await, Ok(Vec::new()));
    let kept = endpoint.get("/stream/a", &token).await;
    assert_eq!(
        (kept.headers["x-stream-size"].as_str(), kept.headers["content-length"].as_str()),
        ("67108864", "262144")
    );
    assert_eq!(kept.headers["x-stream-offset"], (64 * 1024 * 1024 - 256 * 1024).to_string());
    assert!(slow.all().await.is_err(), "who is too slow is cut and gets nothing else instead");
}

#[tokio::test]
async fn a_producer_that_says_nothing_counts_as_lost() {
    let (endpoint, token) = with(UploadsConfig { stall: Duration::from_millis(200), ..UploadsConfig::default() }).await;
    let (mut producer, _) = Wire::upload(&endpoint, "/stream/a", &token).await;
    producer.chunk(b"x").await;
    assert_eq!(producer.all().await, Err(Vec::new()));
    assert_eq!(endpoint.get("/stream/a", &token).await.headers["x-stream-state"], "aborted");
    // One that promises more than it sends.
    let mut liar = Wire::send(&endpoint, "POST /stream/b\ncontent-length: 100", &token).await;
    liar.socket.write_all(b"little").await.unwrap();
    assert!(liar.head().await.starts_with("http/1.1 201"));
    assert_eq!(liar.all().await, Err(Vec::new()));
    assert_eq!(endpoint.get("/stream/b", &token).await.headers["x-stream-state"], "aborted");
}

#[tokio::test]
async fn a_spy_sees_all_streams_each_under_its_name_and_only_those_it_wants() {
    let (endpoint, token) = open().await;
    let mut spy = endpoint.get("/spy?only=a.*", &token).await;
    let (mut first, _) = Wire::upload(&endpoint, "/stream/a1", &token).await;
    assert_eq!(spy.piece("START: a1\n").await.unwrap(), "");
    let (mut second, _) = Wire::upload(&endpoint, "/stream/a2", &token).await;
    assert_eq!(spy.piece("START: a2\n").await.unwrap(), "");
    let (_other, _) = Wire::upload(&endpoint, "/stream/b", &token).await;
    first.chunk(b"one\n").await;
    assert_eq!(spy.piece("a1:\none\n").await.unwrap(), "");
    first.chunk(b"two\n").await;
    assert_eq!(spy.piece("two\n").await.unwrap(), "");
    second.chunk(b"three").await;
    assert_eq!(spy.piece("a2:\nthree").await.unwrap(), "");
    first.end().await;
    assert_eq!(spy.piece("END: a1\n").await.unwrap(), "\n");
    drop(second);
    assert_eq!(spy.piece("ABORTED: a2\nEND: a2\n").await.unwrap(), "");
    let mut coloured = endpoint.get("/spy?color&only=b", &token).await;
    let start = coloured.piece("START: b\u{1b}[0m\n").await.unwrap();
    assert!(start.starts_with("\u{1b}[1;"), "{start:?}");
}

#[tokio::test]
async fn a_framed_upload_is_served_as_records_as_well_and_its_bytes_stay_as_they_came() {
    let spec = serde_json::json!({
        "source": {"push": {"framing": "Ndjson", "maxLineBytes": 256}}, "filter": {"exclude": ["debug"]},
    });
    let (endpoint, token) = declared(UploadsConfig::default(), spec).await;
    let (mut producer, _) = Wire::upload(&endpoint, "/stream/kept", &token).await;
    let mut events = endpoint.get("/api/v1/streams/shop/kept/events?fromStart=true", &token).await;
    let long = format!("{{\"long\":\"{}\"}}", "x".repeat(300));
    let sent = format!("{{\"n\":1}}\r\n\n{{\"debug\":2}}\n{long}\nno json\n{{\"n\":");
    for piece in sent.as_bytes().chunks(7) {
        producer.chunk(piece).await;
    }
    let text = async |events: &mut rest::Answer| events.named("").await.data["text"].as_str().unwrap().to_owned();
    assert_eq!(text(&mut events).await, "{\"n\":1}");
    assert_eq!(text(&mut events).await, format!("{}\u{2026} [line truncated]", &long[..256]));
    assert_eq!(text(&mut events).await, "no json");
    // The producer is lost in the middle of a line, and another goes on.
    drop(producer);
    let resume = [("x-stream-offset", sent.len().to_string())];
    let resume = [(resume[0].0, resume[0].1.as_str())];
    let mut rest = post(&endpoint, &token, "/stream/kept?append=true", &resume, "3}").await;
    assert_eq!((rest.status, rest.rest().await.as_str()), (201, ""));
    assert_eq!(text(&mut events).await, "{\"n\":3}");
    let all = endpoint.get("/stream/kept", &token).await.rest().await;
    assert_eq!(all, format!("{sent}3}}"));
}

/// Puts a subscription to work.
fn declare(endpoint: &Endpoint, spec: serde_json::Value) {
    let spec: StreamSubscriptionSpec = serde_json::from_value(spec).unwrap();
    let name = StreamName::new("shop", "kept");
    let job = Job::declared(&spec, RingLimits::default(), &name).unwrap();
    endpoint.services.declared.declare(&name, "uid", job).unwrap();
}

/// An endpoint at which `kept` is declared, and no other name may be used.
async fn declared(uploads: UploadsConfig, spec: serde_json::Value) -> (Endpoint, String) {
    let endpoint = start(Setup { uploads, ..Setup::default() }).await;
    declare(&endpoint, spec);
    let token = endpoint.key("shop/a", &key(&[Scope::Push, Scope::Stream]));
    // The source declares its name as soon as it runs.
    let far = [("x-stream-offset", "1000000")];
    while post(&endpoint, &token, "/stream/kept?append=true", &far, "").await.status == 403 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (endpoint, token)
}

#[tokio::test]
async fn a_declared_name_has_its_bounds_and_on_disk_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || Some(UploadsDisk { folder: folder.path().join("uploads"), bytes: 1 << 24 });
    let spec = serde_json::json!({
        "source": {"push": {"maxBytes": 1000}},
        "history": {"storage": "Disk", "fsync": "Always"},
    });
    let from_start = async || {
        let uploads = UploadsConfig { disk: disk(), ..UploadsConfig::default() };
        declared(uploads, spec.clone()).await
    };
    let sent = "x".repeat(600);
    {
        let (endpoint, token) = from_start().await;
        let long = post(&endpoint, &token, "/stream/kept?append=true", &[], &"x".repeat(1001)).await;
        assert_eq!(long.status, 413);
        let other = post(&endpoint, &token, "/stream/other", &[], "x").await;
        assert_eq!(other.status, 403);
        let mut stored = post(&endpoint, &token, "/stream/kept?append=true", &[], &sent).await;
        assert_eq!((stored.status, stored.rest().await.as_str()), (201, ""));
        let kept = post(&endpoint, &token, "/stream/kept?force=true", &[], "x").await;
        assert_eq!(kept.status, 409, "it may not be replaced");
    }
    let (endpoint, token) = from_start().await;
    let mut again = endpoint.get("/stream/kept", &token).await;
    assert_eq!(again.headers["x-stream-state"].as_str(), "complete");
    assert!(again.rest().await == sent, "what was stored differs from what was sent");
    let (mut long, head) = Wire::upload(&endpoint, "/stream/kept?append=true", &token).await;
    assert!(head.contains("x-stream-offset: 600"), "{head}");
    long.chunk(&[b'y'; 401]).await;
    assert_eq!(long.all().await, Err(Vec::new()), "it grew beyond what is allowed");
    let mut reader = Wire::send(&endpoint, "GET /stream/kept", &token).await;
    assert!(reader.head().await.contains("x-stream-state: aborted"));
    let (mut last, _) = Wire::upload(&endpoint, "/stream/kept?append=true", &token).await;
    endpoint.services.declared.withdraw(&StreamName::new("shop", "kept"), "The subscription was suspended.");
    assert_eq!(last.all().await, Err(Vec::new()), "who uploads is cut");
    assert_eq!(endpoint.get("/stream/kept", &token).await.status, 404);
}

#[tokio::test]
async fn a_full_disk_is_told_to_producers_readers_go_on_and_space_that_returns_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Some(UploadsDisk { folder: folder.path().join("uploads"), bytes: 1 << 20 });
    let spec = serde_json::json!({"source": {"push": {"allowReplace": true}}, "history": {"storage": "Disk"}});
    let (endpoint, token) = declared(UploadsConfig { disk, ..UploadsConfig::default() }, spec).await;
    let (mut producer, _) = Wire::upload(&endpoint, "/stream/kept", &token).await;
    let mut reader = Wire::send(&endpoint, "GET /stream/kept", &token).await;
    reader.head().await;
    let piece = [b'x'; 50_000];
    let mut sent = 0;
    // The producer is told by an answer that breaks off.
    while sent < 2_000_000 && producer.socket.write_all(&chunked(&piece)).await.is_ok() {
        sent += piece.len();
    }
    assert_eq!(producer.all().await, Err(Vec::new()));
    let read = reader.all().await.expect_err("the stream is aborted");
    assert!(read.len() > 900_000 && read.len() < 1 << 20 && read.iter().all(|byte| *byte == b'x'), "{}", read.len());
    let mut stored = endpoint.get("/stream/kept", &token).await;
    assert_eq!(stored.headers["x-stream-state"], "aborted");
    assert!(stored.headers["x-stream-reason"].contains("--uploads-disk-bytes"), "{:?}", stored.headers);
    assert_eq!(stored.rest().await.len(), read.len());
    let mut full = post(&endpoint, &token, "/stream/kept?append=true", &[], "y").await;
    assert_eq!(full.status, 507);
    assert!(full.rest().await.contains("--uploads-disk-bytes"));
    let mut again = post(&endpoint, &token, "/stream/kept?force=true", &[], "there is room again").await;
    assert_eq!((again.status, again.rest().await.as_str()), (201, ""));
    assert_eq!(endpoint.get("/stream/kept", &token).await.rest().await, "there is room again");
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

async fn curl(endpoint: &Endpoint, token: &str, path: &str, more: &[&str], input: &[u8]) -> (i32, Vec<u8>) {
    let url = format!("http://{}{path}", endpoint.address);
    let auth = format!("Authorization: Bearer {token}");
    let mut child = tokio::process::Command::new("curl")
        .args(["-sS", "-H", &auth])
        .args(more)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let _ = writing.await.unwrap();
    (output.status.code().unwrap(), output.stdout)
}

#[tokio::test]
async fn curl_uploads_from_a_pipe_and_reads_back_every_byte() {
    let (endpoint, token) = open().await;
    let mut sent = vec![0; 3_000_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut sent);
    // From a pipe, in chunks, with Expect: 100-continue; and in one piece of known length.
    for (id, how) in [("piped", vec!["-X", "POST", "-T", "-"]), ("whole", vec!["--data-binary", "@-"])] {
        let path = format!("/stream/{id}");
        let mut arguments = how.clone();
        arguments.extend(["-w", "%{http_code}"]);
        let (code, out) = curl(&endpoint, &token, &path, &arguments, &sent).await;
        assert_eq!((code, String::from_utf8_lossy(&out).as_ref()), (0, "201"), "{id}");
        let (code, out) = curl(&endpoint, &token, &path, &[], b"").await;
        assert!(code == 0 && out == sent, "{id}: {code}, {} bytes", out.len());
        let (code, out) = curl(&endpoint, &token, &path, &["-r", "1000-1999"], b"").await;
        assert!(code == 0 && out == sent[1000..2000]);
        arguments.extend(["-o", "/dev/null"]);
        let (code, out) = curl(&endpoint, &token, &path, &arguments, &sent).await;
        assert_eq!((code, String::from_utf8_lossy(&out).as_ref()), (0, "409"), "{id}");
    }
}
