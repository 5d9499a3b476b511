//! Weir as a process of its own: this program once more, which joins the rooms of the library as `weir run` does,
//! without objects on the cluster. It ends when its standard input does, so it never outlives a benchmark.

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::access::{Authoriser, Digest, KeyId, KeyRecord, KeyRing, TicketLimits, Tickets};
use weir::endpoint::health::Readiness;
use weir::endpoint::routes::routes;
use weir::endpoint::services::{EndpointOptions, ServerInfo, Services};
use weir::endpoint::{Drain, Limits, Server};
use weir::record::Time;
use weir::source::Sources;
use weir::source::pods::{FollowHub, HubConfig, IndexScope, PodIndex, log_client};
use weir::stream::Catalogue;
use weir::telemetry::Metrics;
use weir::worker::{Declared, Inventory, Supervisor, SupervisorConfig};

use crate::Problem;

/// The key of the one client. Loopback only, and for as long as the benchmark lasts.
pub const TOKEN: &str = "weir_bench_0123456789abcdef0123456789abcdef0123456789abcdef";

/// Ticks of `/proc/PID/stat` in a second: the same on every Linux that Rust supports (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Serves until standard input ends.
pub fn serve() -> Result<(), Problem> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(1))
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve_here());
    // Its own standard input is read by a thread that cannot be stopped.
    runtime.shutdown_background();
    outcome
}

async fn serve_here() -> Result<(), Problem> {
    let config = kube::Config::infer().await?;
    let watches = kube::Client::try_from(config.clone())?;
    let logs = log_client(config)?;
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let index = PodIndex::start(&watches, &IndexScope::Cluster, &tracker, &cancel);
    let (hub_metrics, hub_index) = (Arc::clone(&metrics), Arc::clone(&index));
    let hub = FollowHub::new(logs, hub_index, HubConfig::default(), hub_metrics, tracker.clone(), cancel.clone());
    let workers = SupervisorConfig::default();
    let supervisor = Supervisor::new(
        Sources::of_logs(hub, Arc::clone(&metrics)),
        workers,
        Arc::clone(&metrics),
        tracker.clone(),
        cancel.clone(),
    );
    let keyring = KeyRing::new();
    keyring.upsert(key()?);
    let services = Arc::new(Services {
        authoriser: Authoriser::new(Some("weir-system".into())),
        tickets: Tickets::new(Arc::clone(&keyring), TicketLimits::default()),
        keyring,
        declared: Declared::new(supervisor, Arc::new(Catalogue::default()), tracker.clone()),
        inventory: Some(Inventory::new(index)),
        owner: None,
        metrics: Arc::clone(&metrics),
        drain: drain.clone(),
        readiness: Readiness::default(),
        info: ServerInfo::default(),
        options: EndpointOptions::default(),
    });
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(local, Limits::default(), None, Arc::clone(&metrics), drain.clone()).await?;
    writeln!(std::io::stdout().lock(), "{}", server.address())?;
    let routes = warp::service(routes(services));
    let (mut stdin, mut nothing) = (tokio::io::stdin(), tokio::io::sink());
    tokio::select! {
        _ = server.run(routes, Duration::from_secs(1)) => {}
        _ = tokio::io::copy(&mut stdin, &mut nothing) => {}
    }
    Ok(())
}

fn key() -> Result<KeyRecord, Problem> {
    let spec = json!({"grants": [{"services": ["Log", "Signal"], "scopes": ["Cluster"]}]});
    let digest = Digest::of_presented(TOKEN).map_err(|_| "the benchmark's key is not well formed")?;
    let id = KeyId::new("weir-system", "bench");
    Ok(KeyRecord::new(id, "bench", Time::now(), None, &serde_json::from_value(spec)?, digest)?)
}

/// The running server, seen from outside.
pub struct Running {
    child: Child,
    pid: u32,
    pub address: SocketAddr,
}

/// The resident memory of a process, in MB.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub now: f64,
    pub peak: f64,
    /// What is not backed by a file, as the program itself is.
    pub own: f64,
}

impl Running {
    /// Starts a server of its own for one measurement, and waits until it knows the pods.
    pub async fn start() -> Result<Self, Problem> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("the server ended at once")?;
        let out = child.stdout.take().ok_or("the server has no output")?;
        let line = BufReader::new(out).lines().next_line().await?.ok_or("the server ended at once")?;
        let running = Self { child, pid, address: line.parse()? };
        // The list of pods is there by then; what came with it has settled.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(running)
    }

    /// CPU seconds so far, of the process itself.
    pub fn cpu(&self) -> Result<f64, Problem> {
        cpu_of(self.pid)
    }

    pub fn resident(&self) -> Result<Resident, Problem> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
        };
        let missing = "the kernel does not say how much memory the server has";
        Ok(Resident {
            now: of("VmRSS:").ok_or(missing)?,
            peak: of("VmHWM:").ok_or(missing)?,
            own: of("RssAnon:").ok_or(missing)?,
        })
    }

    /// TCP connections that the server has made and that stand: those to the API server.
    pub fn upstream_connections(&self) -> Result<usize, Problem> {
        let mut sockets = HashSet::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
            sockets.extend(inode.map(str::to_owned));
        }
        let own = format!(":{:04X}", self.address.port());
        let mut count = 0;
        for table in ["tcp", "tcp6"] {
            let table = std::fs::read_to_string(format!("/proc/{}/net/{table}", self.pid)).unwrap_or_default();
            for line in table.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // Local address, peer, state (01: established), …, inode; from proc(5).
                let [_, local, _, "01", _, _, _, _, _, inode, ..] = fields[..] else { continue };
                count += usize::from(sockets.contains(inode) && !local.ends_with(&own));
            }
        }
        Ok(count)
    }

    /// The value of one of the server's own metrics.
    pub async fn metric(&self, name: &str) -> Result<f64, Problem> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or_else(|| format!("the server has no metric {name}"))?.trim().parse()?)
    }

    /// Waits until the server follows nothing any more; how long that took.
    pub async fn quiet(&self) -> Result<Duration, Problem> {
        let begin = std::time::Instant::now();
        while self.metric("weir_upstream_follows").await? > 0.0 {
            if begin.elapsed() > Duration::from_secs(60) {
                return Err("the server still follows a log a minute after its last client has gone".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(begin.elapsed())
    }

    /// Ends the server and waits for it.
    pub async fn stop(mut self) -> Result<(), Problem> {
        drop(self.child.stdin.take());
        if tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        if let Some(mut rest) = self.child.stderr.take() {
            let _ = rest.read_to_string(&mut String::new()).await;
        }
        Ok(())
    }
}

/// CPU seconds of a process, all its threads, user and system (proc(5)).
pub fn cpu_of(pid: u32) -> Result<f64, Problem> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / TICKS)
}
