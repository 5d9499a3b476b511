//! Everything about `weir watch` that can be set, and what it comes to once it is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::{ClusterOptions, path};
use super::endpoint_options::{EndpointArgs, SessionArgs, given, worker_threads};
use super::problems::Problems;
use super::scrape_options::ScrapeArgs;
use super::stream_options::{HistoryArgs, LogArgs};
use super::upload_options::UploadArgs;
use crate::endpoint::Limits;
use crate::endpoint::services::EndpointOptions;
use crate::endpoint::tls::Tls;
use crate::manifest::reading::Strictness;
use crate::source::pods::metrics::ScrapeConfig;
use crate::source::pods::{HubConfig, IndexConfig};
use crate::source::push::UploadsConfig;
use crate::worker::{HistoryConfig, SupervisorConfig};

/// Which Docker Engine has the containers.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DockerArgs {
    /// The socket of the Docker Engine
    #[arg(long, value_name = "SOCKET", env = "WEIR_DOCKER_SOCKET", hide_env_values = true, value_parser = path())]
    #[arg(default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
}

/// Options of `weir watch`. Lengths of time carry a unit: ms, s, m, h or d.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to watch", hide_possible_values = true)]
pub(super) struct WatchOptions {
    /// A folder of manifests: AccessKeys, StreamSubscriptions and AlertReceivers in *.yaml; read again when they change
    #[arg(value_name = "DIR", value_parser = path(), required_unless_present = "config", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// A config file; read again when it changes
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true, value_parser = path())]
    config: Option<PathBuf>,
    /// Warn of keys of the config file that are not known, and leave them out, where they would be refused
    #[arg(long, env = "WEIR_LENIENT", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    lenient: bool,
    /// With a folder: where secrets are, as NAMESPACE/NAME/KEY [default: secrets, beside the folder]
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS_DIR", hide_env_values = true, value_parser = path())]
    secrets: Option<PathBuf>,
    /// Where positions in files, tokens and history are kept [default: $XDG_STATE_HOME/weir, else ~/.local/state/weir; for root /var/lib/weir]
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR", hide_env_values = true, value_parser = path())]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    docker: DockerArgs,
    /// Threads that do the work [default: one per core, 4 at most]
    #[arg(long, value_name = "COUNT", env = "WEIR_WORKER_THREADS", hide_env_values = true)]
    worker_threads: Option<String>,
    #[command(flatten, next_help_heading = "Cluster, for sources of pods")]
    cluster: ClusterOptions,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    sessions: SessionArgs,
    #[command(flatten)]
    logs: LogArgs,
    #[command(flatten)]
    scrapes: ScrapeArgs,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    uploads: UploadArgs,
}

/// What says what to watch.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A config file.
    Config {
        /// Which.
        path: PathBuf,
        /// How strictly it is read.
        strictness: Strictness,
    },
    /// A folder of manifests.
    Folder {
        /// Which.
        path: PathBuf,
        /// The folder of secrets.
        secrets: PathBuf,
    },
}

impl Input {
    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Config { path, .. } | Self::Folder { path, .. } => path,
        }
    }
}

/// What `weir watch` is to do, checked.
#[derive(Debug)]
pub(super) struct WatchConfig {
    /// What says what to watch.
    pub input: Input,
    /// The folder of state.
    pub state: PathBuf,
    /// The socket of the Docker Engine.
    pub docker: PathBuf,
    /// Which cluster has the pods; none where none is named.
    pub cluster: Option<ClusterOptions>,
    /// Threads that do the work.
    pub worker_threads: usize,
    /// Where to serve.
    pub listen: SocketAddr,
    /// With which certificate.
    pub tls: Option<Tls>,
    /// What one client may cost.
    pub limits: Limits,
    /// How the endpoint behaves.
    pub endpoint: EndpointOptions,
    /// How long clients get at the end.
    pub drain_timeout: Duration,
    /// How logs are followed.
    pub hub: HubConfig,
    /// What is remembered of the watches.
    pub index: IndexConfig,
    /// How nodes are scraped.
    pub scrapes: ScrapeConfig,
    /// How workers run.
    pub supervisor: SupervisorConfig,
    /// What history may cost; its folder is in that of state.
    pub history: HistoryConfig,
    /// What uploads may cost; their folder is in that of state.
    pub uploads: UploadsConfig,
}

impl WatchOptions {
    /// What the options come to.
    ///
    /// # Errors
    /// [`Problems`] with everything that is wrong. Nothing has been started then.
    pub fn check(&self) -> Result<WatchConfig, Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let strictness = if self.lenient { Strictness::Lenient } else { Strictness::Strict };
        let input = match (&self.config, &self.dir) {
            (Some(path), _) => Input::Config { path: path.clone(), strictness },
            (None, dir) => {
                let path = dir.clone().unwrap_or_default();
                if !path.is_dir() {
                    p.add(format!("{} is no folder; name one, or a config file with --config", path.display()));
                }
                let beside = || std::path::absolute(&path).ok().and_then(|path| Some(path.parent()?.join("secrets")));
                let secrets = self.secrets.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("secrets"));
                Input::Folder { path, secrets }
            }
        };
        let state = self.state_dir.clone().or_else(usual_state);
        let state = state.unwrap_or_else(|| {
            p.add("there is no home for state; name a folder with --state-dir");
            PathBuf::new()
        });
        let state = std::path::absolute(&state).unwrap_or(state);
        let config = WatchConfig {
            input,
            docker: self.docker.docker_socket.clone(),
            cluster: self.cluster.is_given().then(|| self.cluster.clone()),
            worker_threads: worker_threads(p, given(self.worker_threads.as_ref())),
            listen: self.endpoint.address(p, "127.0.0.1:8080"),
            tls: self.endpoint.tls(p),
            limits: self.endpoint.limits(p),
            endpoint: self.endpoint.options(&self.sessions, p),
            drain_timeout: self.endpoint.grace(p),
            hub: self.logs.hub(p),
            index: self.logs.index(p),
            scrapes: self.scrapes.check(p),
            supervisor: self.logs.supervisor(p),
            history: self.history.config(p, Some(state.join("history"))),
            uploads: self.uploads.check(p, Some(&state)),
            state,
        };
        problems.none()?;
        Ok(config)
    }
}

/// Where state is kept where nothing is said.
pub(super) fn usual_state() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let root = std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    if root {
        return Some(PathBuf::from("/var/lib/weir"));
    }
    variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state"))).map(|home| home.join("weir"))
}
