//! What Weir costs on a real cluster, beside `curl` on the API server's own log endpoint in the same run.
//! `hack/bench`, or `cargo bench --bench cluster -- --help`
//!
//! | file | what it holds |
//! |---|---|
//! | `server` | Weir as a process of its own, so that its CPU seconds and memory are its own |
//! | `client` | a client of the session socket, and `curl` |
//! | `writers` | the pods whose logs are read |
//! | `measure` | the measurements |
//! | `report` | medians, percentiles, the table and the JSON |

mod client;
mod measure;
mod report;
mod server;
mod writers;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures Weir on the cluster that KUBECONFIG names. Makes a namespace, and removes it again.
#[derive(Debug, Parser)]
#[command(name = "hack/bench")]
pub struct Options {
    /// Measure these alone
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_enum)]
    only: Vec<Part>,
    /// How often the whole log is read, by Weir and by curl
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Lines of 100 bytes in the whole log. The node must keep them: 300,000 take 43 MB
    #[arg(long, default_value_t = 300_000)]
    lines: u64,
    /// Clients on one pod
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Pods on one socket. The node must have room for them
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// How long each measurement of latencies takes, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// The namespace to make
    #[arg(long, default_value = "weir-bench")]
    namespace: String,
    /// Leave the namespace and its pods, for the next run
    #[arg(long)]
    keep: bool,
    /// Write all figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the server that is measured
    #[arg(long, hide = true)]
    serve: bool,
    /// What cargo says when it runs benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A whole log to one client, beside curl
    Log,
    /// From the start message to the first line
    First,
    /// From the container's write to the client at 200 lines/s, beside curl
    Latency,
    /// Many clients on one pod at 500 lines/s
    Clients,
    /// Many pods with 5 lines/s each on one socket
    Pods,
}

/// The end of a measurement that failed: a sentence.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.serve && !options.bench {
        eprintln!("These are benchmarks, not tests: run hack/bench.");
        return ExitCode::SUCCESS;
    }
    // Two providers of cryptography would leave it to chance which one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = if options.serve { server::serve() } else { measure_all(&options) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure_all(options: &Options) -> Result<(), Problem> {
    if std::env::var_os("KUBECONFIG").is_none() {
        return Err("these benchmarks need a cluster: run hack/bench, or export KUBECONFIG".into());
    }
    let config = kube::Config::infer().await?;
    let writers = writers::Writers::new(kube::Client::try_from(config.clone())?, &options.namespace).await?;
    let bench = measure::Bench { options, curl: client::Curl::new(&config)?, writers };
    // What was made is removed too when somebody loses patience: pods, and the key that curl reads from a file.
    let outcome = tokio::select! {
        outcome = run(&bench) => outcome,
        signal = interrupted() => Err(signal),
    };
    if !options.keep {
        bench.writers.remove().await?;
    }
    let figures = outcome?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", figures.table())?;
    if let Some(file) = &options.json {
        std::fs::write(file, figures.json())?;
        writeln!(out, "\nAll figures: {}", file.display())?;
    }
    Ok(())
}

/// Waits until the process is asked to end.
async fn interrupted() -> Problem {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, hangup) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut hangup)) = (terminate, hangup) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    "interrupted".into()
}

async fn run(bench: &measure::Bench<'_>) -> Result<report::Figures, Problem> {
    let wanted = |part: Part| bench.options.only.is_empty() || bench.options.only.contains(&part);
    let mut figures = report::Figures::default();
    if wanted(Part::Log) {
        bench.whole_log(&mut figures).await?;
    }
    if wanted(Part::First) {
        bench.first_line(&mut figures).await?;
    }
    if wanted(Part::Latency) {
        bench.latency(&mut figures).await?;
    }
    if wanted(Part::Clients) {
        bench.many_clients(&mut figures).await?;
    }
    if wanted(Part::Pods) {
        bench.many_pods(&mut figures).await?;
    }
    Ok(figures)
}
