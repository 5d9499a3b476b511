//! The commands: they read options, join the rooms below and print. What Weir does, it does further down.
//!
//! | file | what it holds |
//! |---|---|
//! | `run`, `run_options` | `weir run`: the operator, and everything about it that can be set |
//! | `endpoint_options`, `scrape_options` | what of that `weir watch` has too |
//! | `serving`, `pods` | signals, tasks and the end; what reads pods: shared by both |
//! | `cluster` | which cluster is meant: a kubeconfig, or the one that Weir runs in |
//! | `crds` | `weir crds`: the definitions of the objects |
//! | `keys` | `weir keys show`, `weir keys rotate` |
//! | `tail` | `weir tail`: a log, live, from a Weir that runs somewhere |
//! | `streams` | `weir push`, `weir spy`, `weir ls`, `weir tail URL ID`: uploads, byte for byte |
//! | `key`, `notes` | the key that a command presents; what it says on stderr |
//! | `watch`, `watch_options` | `weir watch`: the same without a cluster |
//! | `status`, `install_service` | what a running one says of itself; a unit of systemd |
//! | `test` | `weir test`: what a config file says, and what is wrong with it |
//! | `check` | `weir check`: the rules of a config file over lines that are there |
//! | `problems` | everything that is wrong with the options, at once |
//!
//! Exit codes: 0 done, 1 failed, 2 the command line is wrong, 130 interrupted. Data goes to stdout, everything else to stderr.

mod alert_options;
mod check;
mod cluster;
mod crds;
mod endpoint_options;
mod install_service;
mod key;
mod keys;
mod notes;
mod outside_options;
mod pods;
mod problems;
mod run;
mod run_options;
mod scrape_options;
mod serving;
mod socket_io_options;
mod status;
mod stream_options;
mod streams;
mod tail;
mod test;
mod upload_options;
mod watch;
mod watch_options;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::record::Time;
use crate::telemetry::logging;
use problems::Problems;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line is wrong.";

/// Declared, authorised live streams of logs and signals.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 110, after_help = EXIT_CODES)]
#[command(propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

/// How Weir speaks of itself.
#[derive(Debug, clap::Args)]
struct LogOptions {
    /// What to log on stderr: a level, or a list of target=level [default: info for run and watch, warn otherwise]
    #[arg(long = "log", global = true, value_name = "FILTER", env = "WEIR_LOG", hide_env_values = true)]
    filter: Option<String>,
    /// How a line of the log is written: text for people, json for collectors
    #[arg(long = "log-format", global = true, value_name = "FORMAT", env = "WEIR_LOG_FORMAT")]
    #[arg(hide_env_values = true, hide_possible_values = true, default_value = "text")]
    format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator: watch the objects, follow the logs, serve the streams
    Run(Box<run_options::RunOptions>),
    /// Read a log, live: a declared stream, or pods that you select; or an upload: weir tail URL ID
    Tail(Box<tail::TailOptions>),
    /// Upload standard input, as it comes
    Push(Box<streams::PushOptions>),
    /// Show all uploads that flow, as they flow
    Spy(Box<streams::SpyOptions>),
    /// List the uploads
    Ls(Box<streams::ListOptions>),
    /// Show the token of an AccessKey, or give it a new one
    Keys(keys::KeysOptions),
    /// Watch without a cluster: from a config file, or from a folder of manifests
    Watch(Box<watch_options::WatchOptions>),
    /// Say what is the case with everything that a running weir watch was given
    Status(status::StatusOptions),
    /// Write a systemd unit that runs weir watch
    InstallService(install_service::InstallOptions),
    /// Say what a config file comes to, and all that is wrong with it
    Test(test::TestOptions),
    /// Run the rules of a config file over the last lines of its files and containers
    Check(check::CheckOptions),
    /// Print the definitions of Weir's objects, for kubectl apply -f -
    Crds(crds::CrdsOptions),
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The options are wrong; all that is wrong with them.
    #[error("{0}")]
    Usage(#[from] Problems),
    /// Something failed. The text says what to do.
    #[error("{0}")]
    Failed(String),
    /// Whoever read the output has gone. Nothing is left to be done, and nothing is wrong.
    #[error("nobody reads the output any more")]
    NobodyReads,
    /// A person interrupted it.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// What became of writing to stdout.
    fn output(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(format!("cannot write the output: {error}")),
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    run_command(std::env::args_os())
}

fn run_command(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(wrong) => {
            let _ = wrong.print();
            return u8::try_from(wrong.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let (code, text) = match execute(cli) {
        Ok(()) | Err(CliError::NobodyReads) => return ExitCode::SUCCESS,
        // As a shell tells that SIGINT ended a command.
        Err(error @ CliError::Interrupted) => (ExitCode::from(130), format!("error: {error}")),
        Err(error @ CliError::Usage(_)) => (ExitCode::from(2), format!("error: {error}\n\nFor more, try '--help'.")),
        Err(error) => (ExitCode::FAILURE, format!("error: {error}")),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    code
}

fn execute(cli: Cli) -> Result<(), CliError> {
    let level = match &cli.command {
        Command::Run(_) | Command::Watch(_) => "info",
        _ => "warn",
    };
    let filter = cli.log.filter.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(level);
    let format = match cli.log.format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::init(format, filter).map_err(|error| Problems::one(format!("--log: {error}")))?;
    // Two providers of cryptography in one process would leave it to chance which one is used.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| CliError::failed("another TLS provider is installed already; this is a fault of the build"))?;
    match cli.command {
        Command::Crds(options) => crds::print(&options),
        Command::Watch(options) => {
            let config = options.check()?;
            on_runtime(Threads::Many(config.worker_threads), watch::watch(config))
        }
        Command::Status(options) => on_runtime(Threads::One, async move { status::status(&options).await }),
        Command::InstallService(options) => install_service::install(&options),
        Command::Test(options) => test::test(&options),
        Command::Check(options) => on_runtime(Threads::One, async move { check::check(&options).await }),
        Command::Keys(options) => on_runtime(Threads::One, keys::keys(options)),
        Command::Tail(options) => match options.plan(Time::now())? {
            tail::Plan::Log(config) => on_runtime(Threads::One, tail::tail(*config)),
            tail::Plan::Upload(config) => on_runtime(Threads::One, streams::follow(config)),
        },
        Command::Push(options) => on_runtime(Threads::One, streams::push(*options)),
        Command::Spy(options) => on_runtime(Threads::One, streams::spy(*options)),
        Command::Ls(options) => on_runtime(Threads::One, streams::list(*options)),
        Command::Run(options) => {
            let config = options.check(&cluster::Surroundings::find())?;
            on_runtime(Threads::Many(config.worker_threads), run::run(config))
        }
    }
}

/// How many threads a command takes.
#[derive(Clone, Copy, Debug)]
enum Threads {
    One,
    Many(usize),
}

fn on_runtime(threads: Threads, work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    /// How long threads that are still busy with files or names may take after the work is done.
    const LAST: Duration = Duration::from_secs(1);
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many(count) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(count);
            builder
        }
    };
    // Blocking threads look up names and read certificates: a few, and not for long, keep memory small.
    builder.enable_all().thread_name("weir").max_blocking_threads(16).thread_keep_alive(LAST);
    let runtime = builder.build().map_err(|error| CliError::Failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LAST);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
