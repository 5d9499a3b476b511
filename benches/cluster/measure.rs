//! The measurements. Each has a server of its own, so that none pays for another.
//!
//! Latencies are from the time that the container runtime stamps on a line when it reads the container's write, to
//! the moment at which the client has the line: one clock, one machine.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::client::{Curl, Socket};
use crate::report::{Aim, Figures, median};
use crate::server::Running;
use crate::writers::Writers;
use crate::{Options, Problem};

/// What the measurements need.
pub struct Bench<'o> {
    pub options: &'o Options,
    pub curl: Curl,
    pub writers: Writers,
}

/// How often a first line is waited for.
const FIRSTS: usize = 15;

/// Lines that curl keeps back until it has more: its output is buffered in pages of 4 KiB.
const CURL_HOLDS: u64 = 100;

/// After the last client has gone, before memory is looked at again.
const SETTLE: Duration = Duration::from_secs(3);

impl Bench<'_> {
    /// A whole log to one client, beside curl, in turns.
    pub async fn whole_log(&self, figures: &mut Figures) -> Result<(), Problem> {
        const PART: &str = "a whole log to one client, from its first line";
        let lines = self.options.lines;
        eprintln!("==> {PART}");
        let pod = self.writers.written(lines).await?;
        let server = Running::start().await?;
        let idle = server.resident()?;
        let (mut by_curl, mut by_weir, mut ratios) = (vec![], vec![], vec![]);
        let (mut curl_cpu, mut weir_cpu) = (vec![], vec![]);
        // The first round is for the caches of the node, which both find cold.
        for round in 0..=self.options.runs {
            let (curl_took, curl_seconds) = self.read_by_curl(&pod).await?;
            let before = server.cpu()?;
            let weir_took = self.read_by_weir(&server, &pod).await?;
            let seconds = server.cpu()? - before;
            eprintln!("    round {round}: curl {curl_took:.2?}, Weir {weir_took:.2?} and {seconds:.2} s of CPU");
            if round > 0 {
                by_curl.push(lines as f64 / curl_took.as_secs_f64());
                by_weir.push(lines as f64 / weir_took.as_secs_f64());
                ratios.push(curl_took.as_secs_f64() / weir_took.as_secs_f64());
                curl_cpu.push(curl_seconds * 1e6 / lines as f64);
                weir_cpu.push(seconds);
            }
        }
        let per_line = weir_cpu.iter().map(|seconds| seconds * 1e6 / lines as f64).collect();
        figures.add(PART, "curl --http1.1 on the API server", "lines/s", by_curl);
        figures.add(PART, "Weir", "lines/s", by_weir);
        figures.aimed(PART, "Weir's rate as a part of curl's, round by round", "", ratios, Aim::AtLeast(0.9));
        figures.add(PART, "Weir's CPU", "s", weir_cpu);
        figures.aimed(PART, "Weir's CPU for a line", "µs", per_line, Aim::AtMost(1.5));
        figures.add(PART, "curl's CPU for a line", "µs", curl_cpu);
        tokio::time::sleep(SETTLE).await;
        let after = server.resident()?;
        figures.aimed(PART, "memory with no client yet", "MB", vec![idle.now], Aim::AtMost(20.0));
        figures.add(PART, "of it not backed by files", "MB", vec![idle.own]);
        figures.add(PART, "memory at most", "MB", vec![after.peak]);
        figures.aimed(PART, "memory after all clients have gone", "MB", vec![after.now], Aim::AtMost(20.0));
        figures.add(PART, "of it not backed by files", "MB", vec![after.own]);
        server.stop().await
    }

    async fn read_by_curl(&self, pod: &str) -> Result<(Duration, f64), Problem> {
        let begin = Instant::now();
        let mut following = self.curl.follow(&self.writers.namespace, pod, "", &[]).await?;
        // The last lines stay in curl's own buffer, which holds less than this many.
        following.read_lines(self.options.lines.saturating_sub(CURL_HOLDS)).await?;
        let took = begin.elapsed();
        Ok((took, following.stop().await?))
    }

    /// The connection is part of it, as it is for curl.
    async fn read_by_weir(&self, server: &Running, pod: &str) -> Result<Duration, Problem> {
        let begin = Instant::now();
        let mut socket = Socket::connect(server).await?;
        socket.start(&self.writers.namespace, pod, json!({"fromStart": true})).await?;
        socket.read_lines(self.options.lines).await?;
        let took = begin.elapsed();
        socket.close().await?;
        server.quiet().await?;
        Ok(took)
    }

    /// From the start message to the first line.
    pub async fn first_line(&self, figures: &mut Figures) -> Result<(), Problem> {
        const PART: &str = "from the start message to the first line";
        eprintln!("==> {PART}");
        let pod = self.writers.written(10).await?;
        let server = Running::start().await?;
        let (mut idle, mut followed, mut by_curl) = (vec![], vec![], vec![]);
        for _ in 0..FIRSTS {
            by_curl.push(self.first_by_curl(&pod).await?);
            let (took, socket) = self.first_by_weir(&server, &pod).await?;
            idle.push(took);
            socket.close().await?;
            server.quiet().await?;
        }
        let (_, watcher) = self.first_by_weir(&server, &pod).await?;
        for _ in 0..FIRSTS {
            let (took, socket) = self.first_by_weir(&server, &pod).await?;
            followed.push(took);
            socket.close().await?;
        }
        watcher.close().await?;
        figures.add(PART, "curl --http1.1 on the API server, from its start", "ms", by_curl);
        figures.add(PART, "Weir, a pod that nobody follows", "ms", idle);
        figures.add(PART, "Weir, a pod that is followed already", "ms", followed);
        server.stop().await
    }

    async fn first_by_weir(&self, server: &Running, pod: &str) -> Result<(f64, Socket), Problem> {
        let mut socket = Socket::connect(server).await?;
        let begin = Instant::now();
        socket.start(&self.writers.namespace, pod, json!({"maxMessages": 10})).await?;
        socket.data().await?;
        Ok((begin.elapsed().as_secs_f64() * 1e3, socket))
    }

    async fn first_by_curl(&self, pod: &str) -> Result<f64, Problem> {
        let begin = Instant::now();
        let mut following = self.curl.follow(&self.writers.namespace, pod, "&tailLines=10", &["--no-buffer"]).await?;
        following.read_lines(1).await?;
        let took = begin.elapsed().as_secs_f64() * 1e3;
        following.stop().await?;
        Ok(took)
    }

    /// From the container's write to the client at 200 lines/s, beside curl on the same lines.
    pub async fn latency(&self, figures: &mut Figures) -> Result<(), Problem> {
        const PART: &str = "from the container's write to the client, 200 lines/s";
        eprintln!("==> {PART}");
        let during = Duration::from_secs(self.options.seconds);
        self.writers.steady("steady-200", Duration::from_millis(5)).await?;
        let server = Running::start().await?;
        let mut socket = Socket::connect(&server).await?;
        socket.start(&self.writers.namespace, "steady-200", json!({"timestamp": true})).await?;
        let mut following =
            self.curl.follow(&self.writers.namespace, "steady-200", "&tailLines=1", &["--no-buffer"]).await?;
        // What comes at first was written before.
        tokio::try_join!(socket.latencies(SETTLE), following.latencies(SETTLE))?;
        let before = server.cpu()?;
        let (by_weir, by_curl) = tokio::try_join!(socket.latencies(during), following.latencies(during))?;
        let cpu = server.cpu()? - before;
        figures.add(PART, "lines", "lines/s", vec![by_weir.len() as f64 / during.as_secs_f64()]);
        figures.percentiles(PART, "curl --http1.1 on the API server", by_curl, None);
        figures.percentiles(PART, "Weir", by_weir, None);
        figures.add(PART, "Weir's CPU", "% core", vec![cpu * 100.0 / during.as_secs_f64()]);
        following.stop().await?;
        socket.close().await?;
        self.writers.delete("steady").await?;
        server.stop().await
    }

    /// Many clients on one pod at 500 lines/s, each with every line in a message of its own.
    pub async fn many_clients(&self, figures: &mut Figures) -> Result<(), Problem> {
        const PART: &str = "many clients on one pod, 500 lines/s";
        eprintln!("==> {PART}");
        let during = Duration::from_secs(self.options.seconds);
        self.writers.steady("steady-500", Duration::from_millis(2)).await?;
        let server = Running::start().await?;
        let (idle, connections) = (server.resident()?, server.upstream_connections()?);
        let mut sockets = Vec::new();
        for _ in 0..self.options.clients {
            let mut socket = Socket::connect(&server).await?;
            socket.start(&self.writers.namespace, "steady-500", json!({"timestamp": true})).await?;
            sockets.push(socket);
        }
        read_all(&mut sockets, SETTLE).await?;
        let before = server.cpu()?;
        let latencies = read_all(&mut sockets, during).await?;
        let cpu = server.cpu()? - before;
        let count: usize = latencies.iter().map(Vec::len).sum();
        let rate = count as f64 / during.as_secs_f64() / self.options.clients as f64;
        let follows = server.metric("weir_upstream_follows").await?;
        let busy_connections = server.upstream_connections()?;
        let busy = server.resident()?.now;
        figures.add(PART, "clients", "", vec![self.options.clients as f64]);
        figures.add(PART, "lines to each", "lines/s", vec![rate]);
        figures.percentiles(PART, "Weir", latencies.concat(), Aim::AtMost(20.0));
        let slowest = latencies.iter().map(|values| median(values)).fold(0.0, f64::max);
        figures.add(PART, "the median of the client that was served last", "ms", vec![slowest]);
        figures.add(PART, "Weir's CPU", "% core", vec![cpu * 100.0 / during.as_secs_f64()]);
        figures.aimed(PART, "logs that are followed upstream", "", vec![follows], Aim::AtMost(1.0));
        let more = busy_connections as f64 - connections as f64;
        figures.aimed(PART, "TCP connections to the API server, beside those before", "", vec![more], Aim::AtMost(2.0));
        try_join_all(sockets.into_iter().map(Socket::close)).await?;
        let quiet = server.quiet().await?;
        tokio::time::sleep(SETTLE).await;
        let left = server.metric("weir_upstream_follows").await?;
        figures.aimed(PART, "logs that are followed after all have gone", "", vec![left], Aim::AtMost(0.0));
        figures.add(PART, "until then", "ms", vec![quiet.as_secs_f64() * 1e3]);
        let clients_left = server.metric("weir_connections{transport=\"websocket\"}").await?;
        figures.aimed(PART, "clients that Weir still counts then", "", vec![clients_left], Aim::AtMost(0.0));
        figures.aimed(PART, "memory with no client yet", "MB", vec![idle.now], Aim::AtMost(20.0));
        figures.add(PART, "of it not backed by files", "MB", vec![idle.own]);
        figures.add(PART, "memory with all clients", "MB", vec![busy]);
        let after = server.resident()?;
        figures.aimed(PART, "memory after all have gone", "MB", vec![after.now], Aim::AtMost(20.0));
        figures.add(PART, "of it not backed by files", "MB", vec![after.own]);
        self.writers.delete("steady").await?;
        server.stop().await
    }

    /// Many pods with 5 lines/s each on one socket.
    pub async fn many_pods(&self, figures: &mut Figures) -> Result<(), Problem> {
        const PART: &str = "many pods on one socket, 5 lines/s each";
        eprintln!("==> {PART}");
        let during = Duration::from_secs(self.options.seconds);
        let pods = self.writers.many(self.options.pods, Duration::from_millis(200)).await?;
        let server = Running::start().await?;
        let idle = server.resident()?.now;
        let mut socket = Socket::connect(&server).await?;
        socket.start(&self.writers.namespace, "many-.*", json!({"timestamp": true})).await?;
        socket.latencies(SETTLE * 2).await?;
        let before = server.cpu()?;
        let latencies = socket.latencies(during).await?;
        let cpu = server.cpu()? - before;
        figures.add(PART, "pods", "", vec![pods.len() as f64]);
        figures.add(PART, "lines", "lines/s", vec![latencies.len() as f64 / during.as_secs_f64()]);
        figures.percentiles(PART, "Weir", latencies, None);
        figures.add(PART, "Weir's CPU", "% core", vec![cpu * 100.0 / during.as_secs_f64()]);
        let follows = server.metric("weir_upstream_follows").await?;
        figures.add(PART, "logs that are followed upstream", "", vec![follows]);
        let busy = server.resident()?.now;
        socket.close().await?;
        server.quiet().await?;
        tokio::time::sleep(SETTLE).await;
        figures.add(PART, "memory with no client yet", "MB", vec![idle]);
        figures.add(PART, "memory meanwhile", "MB", vec![busy]);
        figures.add(PART, "memory after the client has gone", "MB", vec![server.resident()?.now]);
        self.writers.delete("many").await?;
        server.stop().await
    }
}

/// Every client reads on a task of its own.
async fn read_all(sockets: &mut Vec<Socket>, during: Duration) -> Result<Vec<Vec<f64>>, Problem> {
    let tracker = TaskTracker::new();
    let tasks = sockets.drain(..).map(|mut socket| {
        tracker.spawn(async move { socket.latencies(during).await.map(|latencies| (latencies, socket)) })
    });
    let mut all = Vec::new();
    for outcome in futures::future::join_all(tasks).await {
        let (latencies, socket) = outcome??;
        sockets.push(socket);
        all.push(latencies);
    }
    Ok(all)
}
