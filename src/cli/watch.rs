//! `weir watch`: the same without a cluster, from a config file or a folder of manifests.
//!
//! ```text
//!   file or folder ─► keeper ─► declared ─► supervisor ─► sources
//!                        │          └─► services ─► endpoint
//!                        ├─► alarms: rules, receivers
//!                        └─► vitals: checks, resources, heartbeat
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use super::pods::{Clients, Pods, PodsConfig};
use super::serving::{Signals, Tasks, declared, expire, serve};
use super::watch_options::{Input, WatchConfig};
use crate::access::{Authoriser, KeyRing, TicketLimits, Tickets};
use crate::api::SecretReader;
use crate::endpoint::health::{Check, Readiness};
use crate::endpoint::origin::Cors;
use crate::endpoint::routes::routes;
use crate::endpoint::services::{ServerInfo, Services};
use crate::endpoint::socket_io::SocketIo;
use crate::endpoint::{Drain, Server};
use crate::health::{CheckUrl, HealthError, Heartbeat, Percent, Resources, SystemCheck};
use crate::manifest::DEFAULT_NAMESPACE;
use crate::manifest::changes::Changes;
use crate::manifest::config;
use crate::manifest::config::follow::ConfigFile;
use crate::manifest::config::plan::Plan;
use crate::manifest::folder::Folder;
use crate::manifest::folder::keys::FolderKeys;
use crate::manifest::folder::secrets::FolderSecrets;
use crate::manifest::held::HeldSecrets;
use crate::manifest::keeper::Keeper;
use crate::manifest::local_key::LocalKey;
use crate::manifest::owner::{FileOwner, Keys};
use crate::manifest::place::{Finding, Placed};
use crate::manifest::variables::Variables;
use crate::rule::{Reach, Receivers, ReceiversConfig};
use crate::source::pods::IndexScope;
use crate::source::push::Uploads;
use crate::source::{Outside, OutsidePolicy, Sources};
use crate::telemetry::Metrics;
use crate::worker::{Alarms, Declared, Inventory, Vitals, Wanted};

/// What a config file asks to watch beside streams.
fn wanted(plan: &Plan) -> Result<Wanted, HealthError> {
    let alerts = |alerts: &[Placed<String>]| alerts.iter().map(|alert| alert.value.clone()).collect::<Arc<[String]>>();
    let check = |check: &config::SystemCheck| {
        let url = CheckUrl::parse(&check.url.filled)?;
        let (interval, timeout) = (check.interval, check.timeout);
        let missed_threshold = check.missed_threshold;
        let made = SystemCheck {
            interval,
            timeout,
            missed_threshold,
            ..SystemCheck::new(&check.name, url, alerts(&check.alerts))
        };
        made.validate().map(|()| made)
    };
    let resources = |resources: &config::Resources| {
        let percent = |value: Option<f64>| value.map(Percent::new).transpose();
        let made = Resources {
            interval: resources.interval,
            cpu_percent: percent(resources.cpu_percent)?,
            memory_percent: percent(resources.memory_percent)?,
            disk_percent: percent(resources.disk_percent)?,
            alerts: alerts(&resources.alerts),
        };
        made.validate().map(|()| made)
    };
    let heartbeat = |heartbeat: &config::Heartbeat| {
        let made =
            Heartbeat { interval: heartbeat.interval, ..Heartbeat::new(CheckUrl::parse(&heartbeat.url.filled)?) };
        made.validate().map(|()| made)
    };
    Ok(Wanted {
        checks: plan.checks.iter().map(check).collect::<Result<_, _>>()?,
        resources: plan.resources.as_ref().map(resources).transpose()?,
        heartbeat: plan.heartbeat.as_ref().map(heartbeat).transpose()?,
    })
}

/// Watches what the plan asks for beside streams. What cannot be is told in the log, and nothing is then watched.
fn take_up_vitals(vitals: &Vitals, plan: &Plan) {
    let watched = wanted(plan).and_then(|wanted| vitals.watch(wanted));
    if let Err(error) = watched {
        tracing::error!(%error, "Checks, resources and the heartbeat of the config file cannot be watched");
    }
}

/// Watches from its start to its end.
pub(super) async fn watch(config: WatchConfig) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let clients = match &config.cluster {
        Some(options) => Some(Clients::of(options, false).await?),
        None => None,
    };
    let (metrics, drain, tasks) = (Metrics::new(), Drain::new(), Tasks::default());
    let (listen, limits, tls) = (config.listen, config.limits.clone(), config.tls.clone());
    let server = Server::bind(listen, limits, tls, Arc::clone(&metrics), drain.clone());
    let server = server.await.map_err(CliError::failed)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        input = %config.input.path().display(),
        state = %config.state.display(),
        address = %server.address(),
        "Weir watches without a cluster"
    );
    let grace = config.drain_timeout;
    let services = start(config, clients.as_ref(), metrics, drain.clone(), &tasks)?;
    let origins = services.options.allowed_origins.clone();
    let service = SocketIo::new(&services, warp::service(routes(Arc::clone(&services))));
    let endpoint = server.run(Cors::new(service, origins), grace);
    serve(endpoint, &mut signals, &drain, &tasks, grace).await
}

/// Starts everything below the endpoint, and puts together what its routes need.
fn start(
    config: WatchConfig,
    clients: Option<&Clients>,
    metrics: Arc<Metrics>,
    drain: Drain,
    tasks: &Tasks,
) -> Result<Arc<Services>, CliError> {
    let readiness = Readiness::default();
    let pods = clients.map(|clients| Pods::start(clients, pods_config(&config), &metrics, &readiness, tasks));
    let pods = pods.transpose()?;
    let held = HeldSecrets::new();
    let secrets: Arc<dyn SecretReader> = match &config.input {
        Input::Config { .. } => Arc::new(held.clone()),
        Input::Folder { secrets, .. } => Arc::new(FolderSecrets::below(secrets)),
    };
    let outside = Outside {
        policy: Arc::new(OutsidePolicy::open(Some(config.docker.clone()))),
        secrets: Arc::clone(&secrets),
        checkpoints: Some(folder(&config.state, "positions")?),
        metrics: Arc::clone(&metrics),
    };
    let sources = Sources {
        pods: pods.as_ref().map(|pods| Arc::clone(&pods.hub)),
        metrics: pods.as_ref().map(|pods| Arc::clone(&pods.scrapes)),
        outside,
        uploads: uploads(&config, &metrics, tasks)?,
    };
    folder(&config.state, "history")?;
    let declared = declared(sources, config.supervisor, config.history.clone(), &metrics, tasks);
    let keyring = KeyRing::new();
    tasks.spawn("expiry", expire(Arc::clone(&keyring), tasks.cancel.clone()));
    let alarms = alarms(&secrets, &metrics, tasks)?;
    let (tracker, cancel) = (tasks.tracker.clone(), tasks.cancel.clone());
    let vitals = Vitals::new(DEFAULT_NAMESPACE, Arc::clone(&alarms), Arc::clone(&metrics), tracker, cancel);
    let keeper = Keeper::new(Arc::clone(&declared), alarms);
    let check = readiness.check("files");
    let keys: Arc<dyn Keys> = match &config.input {
        Input::Config { path, strictness } => {
            let key = LocalKey::open(&config.state, &keyring).map_err(|error| state_failed(&config.state, &error))?;
            let file = ConfigFile::new(path, Variables::of_process(), *strictness, held);
            follow_config(file, path, &keeper, &vitals, check, tasks)?;
            announce(&declared, key.path());
            key
        }
        Input::Folder { path, .. } => {
            let keys = FolderKeys::new(&config.state, secrets, Arc::clone(&keyring));
            follow_folder(Folder::new(path, Arc::clone(&keys)), path, &keeper, check, tasks)?;
            keys
        }
    };
    Ok(Arc::new(Services {
        authoriser: Authoriser::new(Some(DEFAULT_NAMESPACE.to_owned())),
        tickets: Tickets::new(Arc::clone(&keyring), TicketLimits::default()),
        keyring,
        declared,
        inventory: pods.map(|pods| Inventory::new(pods.index)),
        owner: Some(Arc::new(FileOwner::new(keeper, keys))),
        metrics,
        drain,
        readiness,
        info: ServerInfo { namespace: DEFAULT_NAMESPACE.to_owned(), in_cluster: false, cluster_name: String::new() },
        options: config.endpoint,
    }))
}

/// Whom rules tell. The name of this Weir is the machine's until a config file says otherwise.
fn alarms(secrets: &Arc<dyn SecretReader>, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<Arc<Alarms>, CliError> {
    let config = ReceiversConfig::new(Reach::everything());
    let (tracker, cancel) = (tasks.tracker.clone(), tasks.cancel.clone());
    let receivers = Receivers::new(config, Arc::clone(secrets), Arc::clone(metrics), tracker, cancel);
    let identity = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned());
    Ok(Alarms::new(identity, receivers.map_err(CliError::failed)?))
}

/// What producers upload to declared streams.
fn uploads(config: &WatchConfig, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<Arc<Uploads>, CliError> {
    folder(&config.state, "uploads")?;
    let (tracker, cancel) = (tasks.tracker.clone(), tasks.cancel.clone());
    Uploads::new(config.uploads.clone(), Arc::clone(metrics), tracker, cancel)
        .map_err(|error| CliError::failed(format!("the uploads in the folder of state cannot be read: {error}")))
}

fn pods_config(config: &WatchConfig) -> PodsConfig {
    PodsConfig { scope: IndexScope::Cluster, index: config.index, hub: config.hub, scrapes: config.scrapes.clone() }
}

/// Takes the file up, or says what is wrong with it; then again whenever it changes, or SIGHUP asks for it.
fn follow_config(
    file: ConfigFile,
    path: &Path,
    keeper: &Arc<Keeper>,
    vitals: &Arc<Vitals>,
    check: Check,
    tasks: &Tasks,
) -> Result<(), CliError> {
    let changes = Changes::of(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    match file.take_up(keeper, true) {
        Ok(plan) => plan.iter().for_each(|plan| take_up_vitals(vitals, plan)),
        Err(findings) => return Err(refused(&findings)),
    }
    check.pass();
    let (keeper, vitals) = (Arc::clone(keeper), Arc::clone(vitals));
    let look = move |anew: bool| match file.take_up(&keeper, anew) {
        Ok(None) => {}
        Ok(Some(plan)) => {
            take_up_vitals(&vitals, &plan);
            tracing::info!(streams = plan.streams.len(), alerts = plan.receivers.len(), "The config file is taken up");
        }
        Err(findings) => {
            findings.iter().for_each(|finding| tracing::error!("{finding}"));
            tracing::error!("The config file was changed into one that is refused; what it said before stays in use");
        }
    };
    follow(changes, look, tasks)
}

/// Takes the folder up; then again whenever something in it changes, or SIGHUP asks for it.
fn follow_folder(
    folder: Folder,
    path: &Path,
    keeper: &Arc<Keeper>,
    check: Check,
    tasks: &Tasks,
) -> Result<(), CliError> {
    let changes = Changes::of(path);
    let unreadable = |error: std::io::Error| CliError::Failed(format!("{} cannot be read: {error}", path.display()));
    let mut last = folder.take_up(keeper).map_err(unreadable)?;
    last.iter().for_each(log);
    check.pass();
    let keeper = Arc::clone(keeper);
    let look = move |_| match folder.take_up(&keeper) {
        Ok(findings) if findings == last => {}
        Ok(findings) => {
            findings.iter().filter(|finding| !last.contains(finding)).for_each(log);
            last = findings;
        }
        Err(error) => tracing::error!(%error, "The folder cannot be read; all stays as it was"),
    };
    follow(changes, look, tasks)
}

fn log(finding: &Finding) {
    tracing::error!("{finding}");
}

/// Looks whenever there may be something new; `true` where SIGHUP asked for it.
fn follow(changes: Changes, mut look: impl FnMut(bool) + Send + 'static, tasks: &Tasks) -> Result<(), CliError> {
    let mut asked =
        signal(SignalKind::hangup()).map_err(|error| CliError::Failed(format!("cannot listen to signals: {error}")))?;
    let cancel = tasks.cancel.clone();
    tasks.spawn("files", async move {
        loop {
            let anew = tokio::select! {
                () = cancel.cancelled() => return,
                () = changes.next() => false,
                _ = asked.recv() => true,
            };
            // A few small files are read at once; nothing else waits for this task.
            look(anew);
        }
    });
    Ok(())
}

fn refused(findings: &[Finding]) -> CliError {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    CliError::Failed(format!("the config file cannot be used:\n{}", lines.join("\n")))
}

/// Tells on stderr how the streams can be read; the log may be for machines.
fn announce(declared: &Arc<Declared>, key: &Path) {
    let name = declared.list().first().map_or_else(|| "NAMESPACE/NAME".to_owned(), |stream| stream.name.to_string());
    let _ = writeln!(std::io::stderr(), "Read a stream with: weir tail {name} --key-file {}", key.display());
}

/// A folder of Weir's own, which nobody else can read.
fn folder(state: &Path, name: &str) -> Result<PathBuf, CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = state.join(name);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map(|()| folder).map_err(|error| state_failed(state, &error))
}

fn state_failed(state: &Path, error: &std::io::Error) -> CliError {
    let state = state.display();
    CliError::Failed(format!("the folder of state {state} cannot be used: {error}; name another with --state-dir"))
}
