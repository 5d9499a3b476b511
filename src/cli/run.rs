//! `weir run`: joins the rooms, then waits for the end.
//!
//! ```text
//!   options ─► clients ─► pods ─► hub ─► supervisor ─► declared ◄─┬─ controllers
//!                                        tickets ─► keys ◄────────┘
//!                                                     └─► services ─► endpoint
//! ```
//!
//! The end comes from outside, with SIGTERM or SIGINT: clients get what is queued for them and are sent away, then
//! everything else stops. A second signal cuts that short.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::run_options::RunConfig;
use super::{CliError, cluster};
use crate::access::{Authoriser, KeyId, KeyRing, TicketLimits, Tickets};
use crate::controller::{self, ClusterOwner, ClusterSecrets, ControllerConfig, Controllers};
use crate::endpoint::health::{Check, Readiness};
use crate::endpoint::origin::Cors;
use crate::endpoint::routes::routes;
use crate::endpoint::services::Services;
use crate::endpoint::{Drain, Drained, Server};
use crate::record::Time;
use crate::rule::{Receivers, ReceiversConfig};
use crate::source::pods::metrics::MetricsHub;
use crate::source::pods::{FollowHub, IndexScope, PodIndex};
use crate::source::push::Uploads;
use crate::source::{Outside, Sources};
use crate::stream::Catalogue;
use crate::telemetry::Metrics;
use crate::worker::{Alarms, Declared, Histories, Inventory, Supervisor};

/// How often the truth about the pods' watch is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long tasks get to stop once the endpoint has.
const LAST: Duration = Duration::from_secs(2);

/// How long the API server may be silent on a watch.
const QUIET_WATCH: Duration = Duration::from_secs(330);

/// The operator, from its start to its end.
pub(super) async fn run(config: RunConfig) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let clients = Clients::of(&config).await?;
    let (metrics, drain, tasks) = (Metrics::new(), Drain::new(), Tasks::default());
    let limits = config.limits.clone();
    let server = Server::bind(config.listen, limits, config.tls.clone(), Arc::clone(&metrics), drain.clone());
    let server = server.await.map_err(CliError::failed)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        in_cluster = config.info.in_cluster,
        namespace = config.info.namespace,
        scope = ?config.scope,
        threads = config.worker_threads,
        concurrency = config.concurrency,
        "Weir starts"
    );
    let grace = config.drain_timeout;
    let services = start(config, &clients, metrics, drain.clone(), &tasks)?;
    let origins = services.options.allowed_origins.clone();
    let endpoint = server.run(Cors::new(warp::service(routes(services)), origins), grace);
    serve(endpoint, &mut signals, &drain, &tasks, grace).await
}

/// Starts everything below the endpoint, and puts together what its routes need.
fn start(
    config: RunConfig,
    clients: &Clients,
    metrics: Arc<Metrics>,
    drain: Drain,
    tasks: &Tasks,
) -> Result<Arc<Services>, CliError> {
    let (tracker, cancel) = (&tasks.tracker, &tasks.cancel);
    let readiness = Readiness::default();
    let index = PodIndex::start_with(&clients.watches, &config.scope, config.index, tracker, cancel);
    let pods = watch_pods(Arc::clone(&index), readiness.check("pods"));
    let until = cancel.clone();
    tasks.spawn("readiness", async move { until.run_until_cancelled(pods).await.unwrap_or_default() });
    let hub = FollowHub::new(
        clients.logs.clone(),
        Arc::clone(&index),
        config.hub,
        Arc::clone(&metrics),
        tracker.clone(),
        cancel.clone(),
    );
    let scrapes = MetricsHub::new(
        clients.config.clone(),
        clients.watches.clone(),
        Arc::clone(&index),
        config.scrapes.clone(),
        Arc::clone(&metrics),
        tracker.clone(),
        cancel.clone(),
    );
    let scrapes = scrapes.map_err(cluster::unusable)?;
    let uploads = Uploads::new(config.uploads.clone(), Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let uploads = uploads.map_err(|error| CliError::failed(format!("--data-dir cannot be read: {error}")))?;
    let outside = Outside::closed(Arc::clone(&metrics));
    let sources = Sources { pods: Some(hub), metrics: Some(scrapes), outside, uploads };
    let supervisor = Supervisor::new(sources, config.supervisor, Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let histories = Histories::new(config.history.clone(), Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let catalogue = Arc::new(Catalogue::default());
    let declared = Declared::with_histories(supervisor, catalogue, histories, tracker.clone());
    let alarms = alarms(&config, clients, &metrics, tasks)?;
    let keyring = KeyRing::new();
    tasks.spawn("expiry", expire(Arc::clone(&keyring), cancel.clone()));
    let owner = ClusterOwner::new(clients.watches.clone(), config.info.namespace.clone());
    let controllers = Controllers {
        client: clients.watches.clone(),
        config: controller_config(&config),
        keyring: Arc::clone(&keyring),
        declared: Arc::clone(&declared),
        alarms,
        metrics: Arc::clone(&metrics),
        readiness: controllers_readiness(&readiness),
    };
    tasks.spawn("controllers", controllers.run(tracker.clone(), cancel.clone()));
    Ok(Arc::new(Services {
        authoriser: Authoriser::new(Some(config.info.namespace.clone())),
        tickets: Tickets::new(Arc::clone(&keyring), TicketLimits::default()),
        keyring,
        declared,
        inventory: Some(Inventory::new(index)),
        owner: Some(Arc::new(owner)),
        metrics,
        drain,
        readiness,
        info: config.info,
        options: config.endpoint,
    }))
}

/// What tells receivers of the rules that fire. It reaches the public services, and what the
/// options name.
fn alarms(
    config: &RunConfig,
    clients: &Clients,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Arc<Alarms>, CliError> {
    let receivers = Receivers::new(
        ReceiversConfig::new(config.alerts.clone()),
        Arc::new(ClusterSecrets::new(clients.watches.clone())),
        Arc::clone(metrics),
        tasks.tracker.clone(),
        tasks.cancel.clone(),
    );
    let identity = config.pod.clone().unwrap_or_else(|| "weir".to_owned());
    Ok(Alarms::new(identity, receivers.map_err(CliError::failed)?))
}

fn controller_config(config: &RunConfig) -> ControllerConfig {
    ControllerConfig {
        namespaces: match &config.scope {
            IndexScope::Cluster => None,
            IndexScope::Namespaces(names) => Some(names.clone()),
        },
        concurrency: config.concurrency,
        instance: config.pod.clone(),
        ..ControllerConfig::new(config.info.namespace.clone())
    }
}

/// The controllers' checks, which all fail until the controllers say otherwise.
fn controllers_readiness(readiness: &Readiness) -> controller::Readiness {
    let checks: HashMap<&str, Check> =
        controller::CHECKS.into_iter().map(|name| (name, readiness.check(name))).collect();
    Arc::new(move |name, state| match (checks.get(name), state) {
        (Some(check), Ok(())) => check.pass(),
        (Some(check), Err(reason)) => check.fail(reason),
        (None, state) => tracing::warn!(check = name, ?state, "A readiness check is not known"),
    })
}

/// Serves until a signal comes or a task ends that should not, then ends everything in order.
async fn serve(
    endpoint: impl Future<Output = Drained>,
    signals: &mut Signals,
    drain: &Drain,
    tasks: &Tasks,
    grace: Duration,
) -> Result<(), CliError> {
    tokio::pin!(endpoint);
    let mut serving = true;
    let outcome = tokio::select! {
        _ = &mut endpoint => {
            serving = false;
            Err(CliError::failed("the endpoint ended by itself; please report this"))
        }
        signal = signals.next() => {
            tracing::info!(signal, ?grace, "Weir was asked to stop; a second signal would stop it at once");
            Ok(())
        }
        () = tasks.broken.cancelled() => {
            Err(CliError::failed("a part of Weir ended by itself, so all of it does; the log says which"))
        }
    };
    drain.begin();
    let ending = async {
        if serving {
            endpoint.await;
        }
        tasks.stop(Instant::now() + LAST).await;
    };
    tokio::select! {
        () = ending => {}
        signal = signals.next() => {
            tracing::warn!(signal, "Weir was asked to stop again and stops at once");
            return Err(CliError::failed("a second signal cut the end short; clients may have missed records"));
        }
    }
    tracing::info!("Weir has stopped");
    outcome
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

/// Ends keys on time.
async fn expire(keyring: Arc<KeyRing>, cancel: CancellationToken) {
    let expired = |keys: Vec<KeyId>| {
        for key in keys {
            tracing::info!(%key, "A key has expired; what ran with it is cut");
        }
    };
    keyring.run_expiry(Time::now, expired, cancel).await;
}

/// Two clients of one cluster.
struct Clients {
    /// For watches and changes. Repeats what the API server was too busy for.
    watches: Client,
    /// For logs, where repeating is the follow's own business, which knows what it has read.
    logs: Client,
    /// Who Weir is, for the kubelets.
    config: Config,
}

impl Clients {
    async fn of(config: &RunConfig) -> Result<Self, CliError> {
        let mut watches = cluster::config(&config.cluster, config.info.in_cluster).await?;
        let config = watches.clone();
        // A connection that died unnoticed; a quiet watch ends by itself within five minutes. A log may be silent longer.
        watches.read_timeout = Some(QUIET_WATCH);
        watches.reset_reader_on_write = true;
        Ok(Self { watches: cluster::client(watches)?, logs: cluster::log_client(config.clone())?, config })
    }
}

/// The tasks that run until the end.
#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    /// Ends them all.
    cancel: CancellationToken,
    /// Cancelled when one of the vital ones ends before its time.
    broken: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends when all are cancelled, and not before.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (cancel, broken) = (self.cancel.clone(), self.broken.clone());
        self.tracker.spawn(async move {
            // Dropped when the task panics, too.
            let guard = broken.drop_guard();
            task.await;
            if !cancel.is_cancelled() {
                tracing::error!(task = name, "A task that lasts has ended; this is a fault of Weir");
            }
            drop(guard);
        });
    }

    async fn stop(&self, deadline: Instant) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout_at(deadline, self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "Some tasks did not stop in time and are dropped");
        }
    }
}

/// The signals that end Weir.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        let on = |kind| signal(kind).map_err(|error| CliError::Failed(format!("cannot listen to signals: {error}")));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
