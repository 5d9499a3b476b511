//! What sources of pods need of a cluster: its clients, the index of pods, who follows logs and who scrapes nodes.
//! Shared by `weir run` and `weir watch`.

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tokio::time::MissedTickBehavior;

use super::cluster::ClusterOptions;
use super::serving::Tasks;
use super::{CliError, cluster};
use crate::endpoint::health::{Check, Readiness};
use crate::source::pods::metrics::{MetricsHub, ScrapeConfig};
use crate::source::pods::{FollowHub, HubConfig, IndexConfig, IndexScope, PodIndex};
use crate::telemetry::Metrics;

/// How often the truth about the pods' watch is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the API server may be silent on a watch.
const QUIET_WATCH: Duration = Duration::from_secs(330);

/// How pods are watched and read.
#[derive(Debug)]
pub(super) struct PodsConfig {
    /// Which namespaces.
    pub scope: IndexScope,
    /// What is remembered of the watches.
    pub index: IndexConfig,
    /// How logs are followed.
    pub hub: HubConfig,
    /// How nodes are scraped.
    pub scrapes: ScrapeConfig,
}

/// What reads pods.
pub(super) struct Pods {
    /// The pods there are.
    pub index: Arc<PodIndex>,
    /// Follows their logs.
    pub hub: Arc<FollowHub>,
    /// Scrapes their nodes.
    pub scrapes: Arc<MetricsHub>,
}

impl Pods {
    /// Starts to watch pods. The check `pods` passes once they are known.
    pub fn start(
        clients: &Clients,
        config: PodsConfig,
        metrics: &Arc<Metrics>,
        readiness: &Readiness,
        tasks: &Tasks,
    ) -> Result<Self, CliError> {
        let (tracker, cancel) = (&tasks.tracker, &tasks.cancel);
        let index = PodIndex::start_with(&clients.watches, &config.scope, config.index, tracker, cancel);
        let pods = watch_pods(Arc::clone(&index), readiness.check("pods"));
        let until = cancel.clone();
        tasks.spawn("readiness", async move { until.run_until_cancelled(pods).await.unwrap_or_default() });
        let hub = FollowHub::new(
            clients.logs.clone(),
            Arc::clone(&index),
            config.hub,
            Arc::clone(metrics),
            tracker.clone(),
            cancel.clone(),
        );
        let scrapes = MetricsHub::new(
            clients.config.clone(),
            clients.watches.clone(),
            Arc::clone(&index),
            config.scrapes,
            Arc::clone(metrics),
            tracker.clone(),
            cancel.clone(),
        );
        let scrapes = scrapes.map_err(cluster::unusable)?;
        Ok(Self { index, hub, scrapes })
    }
}

/// Keeps the readiness check for the pods true.
async fn watch_pods(index: Arc<PodIndex>, check: Check) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if index.is_healthy() {
            check.pass();
        } else {
            check.fail("the pods are not watched: the API server does not answer, or Weir may not list pods");
        }
    }
}

/// Two clients of one cluster.
pub(super) struct Clients {
    /// For watches and changes. Repeats what the API server was too busy for.
    pub watches: Client,
    /// For logs, where repeating is the follow's own business, which knows what it has read.
    pub logs: Client,
    /// Who Weir is, for the kubelets.
    pub config: Config,
}

impl Clients {
    /// Those of the cluster that the options name.
    pub async fn of(options: &ClusterOptions, in_cluster: bool) -> Result<Self, CliError> {
        let mut watches = cluster::config(options, in_cluster).await?;
        let config = watches.clone();
        // A connection that died unnoticed; a quiet watch ends by itself within five minutes. A log may be silent longer.
        watches.read_timeout = Some(QUIET_WATCH);
        watches.reset_reader_on_write = true;
        Ok(Self { watches: cluster::client(watches)?, logs: cluster::log_client(config.clone())?, config })
    }
}
