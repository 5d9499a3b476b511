//! 1,000 sockets of Socket.IO on one busy namespace: how many lines arrive, how late, and what it costs in memory.
//!
//! ```text
//!   cargo bench --bench socket_io -- [--sockets 1000] [--rate 50] [--seconds 10] [--way websocket|polling]
//! ```
//!
//! Each line is delivered, or a gap has told that it is missing, or it is lost; then the end is a failure. The server is a
//! process of its own, so that its memory is its own. Needs some 3,000 open files (`ulimit -n`).
#![allow(clippy::disallowed_methods, reason = "the tasks of a measurement end with it")]

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Parser;
use futures::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::access::{Authoriser, Digest, KeyId, KeyRecord, KeyRing, TicketLimits, Tickets};
use weir::api::Service;
use weir::endpoint::health::Readiness;
use weir::endpoint::routes::routes;
use weir::endpoint::services::{EndpointOptions, ServerInfo, Services};
use weir::endpoint::socket_io::SocketIo;
use weir::endpoint::{Drain, Limits, Server};
use weir::record::{Batch, Origin, Time};
use weir::source::push::Uploads;
use weir::source::{Outside, Sources};
use weir::stream::{Catalogue, Gate, LiveStream, Located, RingLimits, StreamName};
use weir::telemetry::Metrics;
use weir::worker::{Declared, Supervisor, SupervisorConfig};

type Problem = Box<dyn std::error::Error + Send + Sync>;

const TOKEN: &str = "weir_bench_0123456789abcdef0123456789abcdef";

/// After so long without a line, what is not there is lost.
const SILENCE: Duration = Duration::from_secs(30);

/// How the clients are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    #[value(name = "websocket")]
    WebSocket,
    Polling,
}

/// Measures Socket.IO with many sockets on one namespace.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Sockets
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// How they are connected
    #[arg(long, value_enum, default_value_t = Way::WebSocket)]
    way: Way,
    /// Lines of 100 bytes a second
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Be the server
    #[arg(long, hide = true)]
    serve: bool,
    /// What cargo says when it runs benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Problem::from).and_then(|runtime| match options.serve {
        true => runtime.block_on(serve(&options)),
        false => runtime.block_on(measure(&options)),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

/// Serves one stream. A line on stdin starts the writing; its end, the end.
async fn serve(options: &Options) -> Result<(), Problem> {
    let (metrics, drain, tracker, cancel) =
        (Metrics::new(), Drain::new(), TaskTracker::new(), CancellationToken::new());
    let keyring = KeyRing::new();
    let spec = json!({"grants": [{"services": ["Log"], "scopes": ["Cluster"]}]});
    let digest = Digest::of_presented(TOKEN).map_err(|_| "the benchmark's key is not well formed")?;
    let id = KeyId::new("weir-system", "bench");
    keyring.upsert(KeyRecord::new(id, "bench", Time::now(), None, &serde_json::from_value(spec)?, digest)?);
    let sources = Sources {
        pods: None,
        metrics: None,
        outside: Outside::closed(Arc::clone(&metrics)),
        uploads: Uploads::closed(Arc::clone(&metrics)),
    };
    let config = SupervisorConfig::default();
    let supervisor = Supervisor::new(sources, config, Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let mut endpoint = EndpointOptions::default();
    endpoint.socket_io.sockets = 100_000;
    endpoint.socket_io.sockets_per_source = 100_000;
    endpoint.socket_io.sockets_per_key = 100_000;
    let services = Arc::new(Services {
        authoriser: Authoriser::new(Some("weir-system".into())),
        tickets: Tickets::new(Arc::clone(&keyring), TicketLimits::default()),
        keyring,
        declared: Declared::new(supervisor, Arc::new(Catalogue::default()), tracker.clone()),
        inventory: None,
        owner: None,
        metrics: Arc::clone(&metrics),
        drain: drain.clone(),
        readiness: Readiness::default(),
        info: ServerInfo::default(),
        options: endpoint,
    });
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let located = Located { gate: Gate::open(), service: Service::Log, stream: Arc::clone(&stream), backlog: None };
    services.declared.catalogue().insert(StreamName::new("bench", "logs"), located);
    let limits = Limits { connections: 100_000, connections_per_source: 100_000, ..Limits::default() };
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(local, limits, None, metrics, drain).await?;
    writeln!(std::io::stdout().lock(), "{}", server.address())?;
    let service = SocketIo::new(&services, warp::service(routes(Arc::clone(&services))));
    let (rate, lines) = (options.rate, options.rate * options.seconds);
    let writing = async {
        let mut stdin = BufReader::new(tokio::io::stdin()).lines();
        stdin.next_line().await?;
        let origin = Arc::new(Origin { pod: "bench".into(), container: "main".into(), ..Origin::default() });
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
        for _ in 0..lines {
            tick.tick().await;
            let text = format!("{:<100}", micros());
            stream.publish(Arc::new(Batch::of_text(Arc::clone(&origin), Time::now(), text)));
        }
        while stdin.next_line().await?.is_some() {}
        Ok::<_, Problem>(())
    };
    tokio::select! {
        _ = server.run(service, Duration::from_secs(1)) => Ok(()),
        done = writing => done,
    }
}

async fn measure(options: &Options) -> Result<(), Problem> {
    let program = std::env::current_exe()?;
    let arguments = ["--serve", "--rate", &options.rate.to_string(), "--seconds", &options.seconds.to_string()];
    let mut server = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut stdin, stdout) = (server.stdin.take().ok_or("no stdin")?, server.stdout.take().ok_or("no stdout")?);
    let address = BufReader::new(stdout).lines().next_line().await?.ok_or("the server did not start")?;
    let pid = server.id().ok_or("the server has ended")?;
    let empty = memory(pid)?;
    let expected = options.rate * options.seconds;
    let http = legacy::Client::builder(TokioExecutor::new()).build_http();
    let mut clients = JoinSet::new();
    let (ready, mut all_ready) = tokio::sync::mpsc::channel(options.sockets);
    for _ in 0..options.sockets {
        let (way, address, http, ready) = (options.way, address.clone(), http.clone(), ready.clone());
        clients.spawn(async move { client(Session::open(way, &address, http).await?, expected, ready).await });
        if clients.len() % 50 == 0 {
            // The backlog of connections of the system is not endless.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    drop(ready);
    for _ in 0..options.sockets {
        if all_ready.recv().await.is_none() {
            while let Some(client) = clients.join_next().await {
                client??;
            }
            return Err("a client ended before it was let in".into());
        }
    }
    let connected = memory(pid)?;
    let begun = Instant::now();
    stdin.write_all(b"go\n").await?;
    let mut all = Heard::default();
    while let Some(client) = clients.join_next().await {
        all.add(client??);
    }
    let (took, busy) = (begun.elapsed(), memory(pid)?);
    report(options, all, took, [empty, connected, busy])
}

/// Prints what was measured; memory is in KiB: of the server with nobody there, with all connected, and at the end.
///
/// # Errors
/// Where lines are missing of which no gap has told.
fn report(options: &Options, mut all: Heard, took: Duration, memory: [i64; 3]) -> Result<(), Problem> {
    all.late.sort_unstable();
    let millis = |share: f64| {
        let at = ((all.late.len() as f64 * share) as usize).min(all.late.len().saturating_sub(1));
        all.late.get(at).map_or(f64::NAN, |micros| *micros as f64 / 1000.0)
    };
    let wanted = options.rate * options.seconds * options.sockets as u64;
    let lost = wanted.saturating_sub(all.late.len() as u64 + all.missed);
    let [empty, connected, busy] = memory;
    let mut out = std::io::stdout().lock();
    if cfg!(debug_assertions) {
        writeln!(out, "this build is not optimised: its figures say nothing")?;
    }
    writeln!(
        out,
        "{} sockets by {:?}, {} lines/s for {} s\ndelivered {} of {wanted} in {took:.1?}; {} gaps told of {}; {lost} lost\n\
         latency p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms\n\
         memory {empty} KiB empty, {connected} KiB connected ({:.1} KiB a socket), {busy} KiB at the end",
        options.sockets,
        options.way,
        options.rate,
        options.seconds,
        all.late.len(),
        all.gaps,
        all.missed,
        millis(0.5),
        millis(0.99),
        millis(1.0),
        (connected - empty) as f64 / options.sockets as f64,
    )?;
    if lost > 0 { Err(format!("{lost} lines were lost, and no gap told of them").into()) } else { Ok(()) }
}

/// What came to clients.
#[derive(Debug, Default)]
struct Heard {
    /// How late each line came, in microseconds.
    late: Vec<u64>,
    gaps: u64,
    /// Lines that gaps told of.
    missed: u64,
}

impl Heard {
    fn lines(&self) -> u64 {
        self.late.len() as u64 + self.missed
    }

    fn add(&mut self, other: Self) {
        self.late.extend(other.late);
        self.gaps += other.gaps;
        self.missed += other.missed;
    }
}

/// One client, from when it asks for the lines until it has all of them, or nothing comes any more.
async fn client(mut session: Session, expected: u64, ready: tokio::sync::mpsc::Sender<()>) -> Result<Heard, Problem> {
    const NAMESPACE: &str = "/logs/bench.logs";
    session.say(&format!("40{NAMESPACE},{}", json!({ "token": TOKEN }))).await?;
    let mut heard = Heard { late: Vec::with_capacity(usize::try_from(expected)?), ..Heard::default() };
    while heard.lines() < expected {
        let Ok(packet) = tokio::time::timeout(SILENCE, session.hear()).await else { break };
        let packet = packet?;
        let Some(event) = packet.strip_prefix("42").and_then(|event| event.strip_prefix(NAMESPACE)) else { continue };
        let event: Value = serde_json::from_str(event.trim_start_matches(','))?;
        match (event[0].as_str(), &event[1]) {
            (Some("backlog"), _) => ready.send(()).await?,
            (Some("data"), Value::String(line)) => {
                let sent: u128 = line.trim_end().parse()?;
                heard.late.push(u64::try_from(micros().saturating_sub(sent))?);
            }
            (Some("signal"), signal) if signal["event"] == "gap" => {
                let missed = signal["text"].as_str().and_then(|text| text.split(' ').next()).unwrap_or_default();
                heard.missed += missed.parse::<u64>()?;
                heard.gaps += 1;
            }
            _ => return Err(format!("a client was told: {event}").into()),
        }
    }
    Ok(heard)
}

/// A session of Engine.IO.
enum Session {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Polling { http: Box<Http>, url: String, heard: VecDeque<String> },
}

/// Keeps connections, as browsers do.
type Http = legacy::Client<HttpConnector, Full<Bytes>>;

impl Session {
    async fn open(way: Way, address: &str, http: Http) -> Result<Self, Problem> {
        if way == Way::WebSocket {
            let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
            return Ok(Self::WebSocket(Box::new(tokio_tungstenite::connect_async(url).await?.0)));
        }
        let url = format!("http://{address}/socket.io/?EIO=4&transport=polling");
        let opened = ask(&http, Request::get(&url).body(Full::default())?).await?;
        let opened: Value = serde_json::from_str(opened.strip_prefix('0').ok_or("no handshake")?)?;
        let sid = opened["sid"].as_str().ok_or("no session")?;
        Ok(Self::Polling { http: Box::new(http), url: format!("{url}&sid={sid}"), heard: VecDeque::new() })
    }

    async fn say(&mut self, packet: &str) -> Result<(), Problem> {
        match self {
            Self::WebSocket(socket) => socket.send(Message::text(packet)).await?,
            Self::Polling { http, url, .. } => {
                ask(http, Request::post(&*url).body(packet.to_owned().into())?).await?;
            }
        }
        Ok(())
    }

    /// The next packet that is no ping; those are answered.
    async fn hear(&mut self) -> Result<String, Problem> {
        loop {
            let packet = match self {
                Self::WebSocket(socket) => match socket.next().await.ok_or("the server closed a socket")?? {
                    Message::Text(text) => text.to_string(),
                    _ => continue,
                },
                Self::Polling { http, url, heard } => match heard.pop_front() {
                    Some(packet) => packet,
                    None => {
                        let answer = ask(http, Request::get(&*url).body(Full::default())?).await?;
                        heard.extend(answer.split('\u{1e}').map(str::to_owned));
                        continue;
                    }
                },
            };
            match packet.as_str() {
                "2" => self.say("3").await?,
                "1" => return Err("the server closed a session".into()),
                _ => return Ok(packet),
            }
        }
    }
}

/// The body of an answer that is none of refusal.
async fn ask(http: &Http, request: Request<Full<Bytes>>) -> Result<String, Problem> {
    let answer = http.request(request).await?;
    let status = answer.status();
    let body = String::from_utf8(answer.into_body().collect().await?.to_bytes().into())?;
    if status.is_success() { Ok(body) } else { Err(format!("the server answered {status}: {body}").into()) }
}

/// What a process holds in memory, in KiB.
fn memory(pid: u32) -> Result<i64, Problem> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
