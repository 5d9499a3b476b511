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

use super::CliError;
use super::pods::{Clients, Pods, PodsConfig};
use super::run_options::RunConfig;
use super::serving::{Signals, Tasks, declared, expire, serve};
use crate::access::{Authoriser, KeyRing, TicketLimits, Tickets};
use crate::controller::{self, ClusterOwner, ClusterSecrets, ControllerConfig, Controllers};
use crate::endpoint::health::{Check, Readiness};
use crate::endpoint::origin::Cors;
use crate::endpoint::routes::routes;
use crate::endpoint::services::Services;
use crate::endpoint::socket_io::SocketIo;
use crate::endpoint::{Drain, Server};
use crate::rule::{Receivers, ReceiversConfig};
use crate::source::pods::IndexScope;
use crate::source::push::Uploads;
use crate::source::{Outside, Sources};
use crate::telemetry::Metrics;
use crate::worker::{Alarms, Inventory};

/// The operator, from its start to its end.
pub(super) async fn run(config: RunConfig) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let clients = Clients::of(&config.cluster, config.info.in_cluster).await?;
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
    let service = SocketIo::new(&services, warp::service(routes(Arc::clone(&services))));
    let endpoint = server.run(Cors::new(service, origins), grace);
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
    let alarms = alarms(&config, clients, &metrics, tasks)?;
    let controllers = controller_config(&config);
    let uploads = Uploads::new(config.uploads.clone(), Arc::clone(&metrics), tracker.clone(), cancel.clone());
    let uploads = uploads.map_err(|error| CliError::failed(format!("--data-dir cannot be read: {error}")))?;
    let pods = PodsConfig { scope: config.scope, index: config.index, hub: config.hub, scrapes: config.scrapes };
    let Pods { index, hub, scrapes } = Pods::start(clients, pods, &metrics, &readiness, tasks)?;
    let outside = Outside {
        policy: Arc::new(config.outside),
        secrets: Arc::new(ClusterSecrets::new(clients.watches.clone())),
        checkpoints: config.data.map(|folder| folder.join("positions")),
        metrics: Arc::clone(&metrics),
    };
    let sources = Sources { pods: Some(hub), metrics: Some(scrapes), outside, uploads };
    let declared = declared(sources, config.supervisor, config.history, &metrics, tasks);
    let keyring = KeyRing::new();
    tasks.spawn("expiry", expire(Arc::clone(&keyring), cancel.clone()));
    let owner =
        ClusterOwner::new(clients.watches.clone(), config.info.namespace.clone()).signing_as(config.pod.clone());
    let controllers = Controllers {
        client: clients.watches.clone(),
        config: controllers,
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
