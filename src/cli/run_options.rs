//! Everything about `weir run` that can be set, and what it comes to once it is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alert_options::AlertArgs;
use super::cluster::{ClusterOptions, Surroundings, path};
use super::endpoint_options::{EndpointArgs, SessionArgs, given, listed, worker_threads};
use super::outside_options::OutsideArgs;
use super::problems::Problems;
use super::scrape_options::ScrapeArgs;
use super::stream_options::{HistoryArgs, LogArgs};
use super::upload_options::UploadArgs;
use crate::endpoint::Limits;
use crate::endpoint::services::{EndpointOptions, ServerInfo};
use crate::endpoint::tls::Tls;
use crate::rule::Reach;
use crate::source::OutsidePolicy;
use crate::source::pods::metrics::ScrapeConfig;
use crate::source::pods::{HubConfig, IndexConfig, IndexScope};
use crate::source::push::UploadsConfig;
use crate::worker::{HistoryConfig, SupervisorConfig};

/// Where Weir runs when nothing says so: outside of a cluster.
const USUAL_NAMESPACE: &str = "weir-system";

/// Options of `weir run`. Lengths of time carry a unit: ms, s, m, h or d.
///
/// What can be wrong is kept as it was written, so that all that is wrong can be told at once.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster", hide_possible_values = true)]
pub(super) struct RunOptions {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// The namespace of the operator: AccessKeys there may reach all others [default: the pod's own, else weir-system]
    #[arg(long, value_name = "NAME", env = "WEIR_OPERATOR_NAMESPACE", hide_env_values = true)]
    operator_namespace: Option<String>,
    /// Watch these namespaces alone, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", env = "WEIR_NAMESPACES", hide_env_values = true)]
    namespaces: Option<String>,
    /// What clients are told the cluster is called
    #[arg(long, value_name = "NAME", env = "WEIR_CLUSTER_NAME", hide_env_values = true, default_value = "")]
    #[arg(hide_default_value = true)]
    cluster_name: String,
    /// Objects that are reconciled at the same time, of each kind
    #[arg(long, value_name = "COUNT", env = "WEIR_CONCURRENCY", hide_env_values = true, default_value = "16")]
    concurrency: String,
    /// Threads that do the work [default: one per core, 4 at most]
    #[arg(long, value_name = "COUNT", env = "WEIR_WORKER_THREADS", hide_env_values = true)]
    worker_threads: Option<String>,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    sessions: SessionArgs,
    #[command(flatten)]
    logs: LogArgs,
    #[command(flatten)]
    scrapes: ScrapeArgs,
    #[command(flatten)]
    outside: OutsideArgs,
    #[command(flatten)]
    alerts: AlertArgs,
    /// Folder of Weir's own, for history that survives a restart [default: none, and storage Disk is refused]
    #[arg(long, value_name = "FOLDER", env = "WEIR_DATA_DIR", hide_env_values = true, value_parser = path())]
    #[arg(help_heading = "History")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    uploads: UploadArgs,
}

/// What `weir run` is to do, checked.
#[derive(Debug)]
pub(super) struct RunConfig {
    /// Which cluster.
    pub cluster: ClusterOptions,
    /// Which namespaces.
    pub scope: IndexScope,
    /// What the endpoint says of itself; its namespace is the operator's.
    pub info: ServerInfo,
    /// The name of the pod that Weir runs in.
    pub pod: Option<String>,
    /// Objects that are reconciled at the same time.
    pub concurrency: u16,
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
    /// What of the world outside of Kubernetes may be reached.
    pub outside: OutsidePolicy,
    /// The folder for what must survive a restart.
    pub data: Option<PathBuf>,
    /// Where alerts may go.
    pub alerts: Reach,
    /// How workers run.
    pub supervisor: SupervisorConfig,
    /// What the history of numbers may cost, and where it is kept.
    pub history: HistoryConfig,
    /// What uploads may cost, and where they are kept.
    pub uploads: UploadsConfig,
}

impl RunOptions {
    /// What the options come to.
    ///
    /// # Errors
    /// [`Problems`] with everything that is wrong. Nothing has been started then.
    pub fn check(&self, around: &Surroundings) -> Result<RunConfig, Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let in_cluster = around.in_cluster(&self.cluster);
        let usual = around.namespace.as_deref().filter(|_| in_cluster).unwrap_or(USUAL_NAMESPACE);
        let namespace = given(self.operator_namespace.as_ref()).unwrap_or(usual).to_owned();
        check_namespace(p, "--operator-namespace", &namespace);
        let info = ServerInfo { namespace, in_cluster, cluster_name: self.cluster_name.clone() };
        let folder_of_history = self.folder_of_history(p);
        let config = RunConfig {
            cluster: self.cluster.clone(),
            scope: scope(p, given(self.namespaces.as_ref())),
            info,
            pod: around.pod.clone().filter(|_| in_cluster),
            concurrency: p.number("--concurrency", &self.concurrency, 1..=1_000),
            worker_threads: worker_threads(p, given(self.worker_threads.as_ref())),
            listen: self.endpoint.address(p, if in_cluster { "0.0.0.0:8080" } else { "127.0.0.1:8080" }),
            tls: self.endpoint.tls(p),
            limits: self.endpoint.limits(p),
            endpoint: self.endpoint.options(&self.sessions, p),
            drain_timeout: self.endpoint.grace(p),
            hub: self.logs.hub(p),
            index: self.logs.index(p),
            scrapes: self.scrapes.check(p),
            outside: self.outside.check(p),
            data: self.data().map(Path::to_owned),
            alerts: self.alerts.reach(p),
            supervisor: self.logs.supervisor(p),
            history: self.history.config(p, folder_of_history),
            uploads: self.uploads.check(p, self.data()),
        };
        problems.none()?;
        Ok(config)
    }

    fn data(&self) -> Option<&Path> {
        self.data_dir.as_deref().filter(|folder| !folder.as_os_str().is_empty())
    }

    fn folder_of_history(&self, p: &mut Problems) -> Option<PathBuf> {
        let folder = self.data()?.join("history");
        let made = std::fs::create_dir_all(&folder).map_err(|error| format!("cannot be used: {error}"));
        p.take("--data-dir", made.map(|()| Some(folder)), || None)
    }
}

fn scope(p: &mut Problems, text: Option<&str>) -> IndexScope {
    let mut names: Vec<String> = listed(text).map(str::to_owned).collect();
    names.iter().for_each(|name| check_namespace(p, "--namespaces", name));
    names.sort();
    names.dedup();
    if names.is_empty() { IndexScope::Cluster } else { IndexScope::Namespaces(names) }
}

/// A namespace is a DNS label (RFC 1123).
fn check_namespace(p: &mut Problems, option: &str, name: &str) {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-');
    if !label || name.is_empty() || name.len() > 63 {
        p.add(format!(
            "{option} names {name:?}; a namespace has lower-case letters, digits and inner hyphens, 63 at most"
        ));
    }
}

#[cfg(test)]
#[path = "run_options_tests.rs"]
mod tests;
