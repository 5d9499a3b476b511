//! `weir watch`: the same without a cluster, from a config file or a folder of manifests.
//!
//! ```text
//!   file or folder ─► keeper ─► declared ─► supervisor ─► sources
//!                        │          └─► services ─► endpoint
//!                        └─► attendants: rules, receivers, health
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
use crate::endpoint::{Drain, Server};
use crate::manifest::DEFAULT_NAMESPACE;
use crate::manifest::changes::Changes;
use crate::manifest::config::follow::ConfigFile;
use crate::manifest::config::plan::Plan;
use crate::manifest::desired::{PlannedReceiver, PlannedStream};
use crate::manifest::folder::Folder;
use crate::manifest::folder::keys::FolderKeys;
use crate::manifest::folder::secrets::FolderSecrets;
use crate::manifest::held::HeldSecrets;
use crate::manifest::keeper::{Attendants, Keeper};
use crate::manifest::local_key::LocalKey;
use crate::manifest::owner::{FileOwner, Keys};
use crate::manifest::place::Finding;
use crate::manifest::variables::Variables;
use crate::source::pods::{HubConfig, IndexConfig, IndexScope};
use crate::source::{Outside, OutsidePolicy, Sources};
use crate::stream::StreamName;
use crate::telemetry::Metrics;
use crate::worker::{Declared, HistoryConfig, HistoryDisk, Inventory, SupervisorConfig};

/// Bytes on disk for the history of all subscriptions.
const HISTORY_BYTES: u64 = 1024 * 1024 * 1024;

/// The place where the rooms that have a part in what files ask for are joined: rules and receivers, checks, resources
/// and the heartbeat.
struct Joined;

impl Joined {
    fn of(_declared: &Arc<Declared>, _secrets: &Arc<dyn SecretReader>, _tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self)
    }

    /// What a config file asks for beside streams: who is watched, checks, resources, the heartbeat.
    #[expect(clippy::unused_self, reason = "the rooms that are joined here are members")]
    fn plan(&self, plan: &Plan) {
        let asked = plan.resources.is_some() || !plan.checks.is_empty() || plan.heartbeat.is_some();
        if asked {
            tracing::warn!("Resources, system checks and the heartbeat are not implemented in this version");
        }
    }
}

impl Attendants for Joined {
    fn receivers(&self, receivers: &[PlannedReceiver]) {
        if !receivers.is_empty() {
            tracing::warn!(count = receivers.len(), "Alerts are not implemented in this version and reach nobody");
        }
    }

    fn watch(&self, stream: &PlannedStream) -> Result<(), String> {
        if !stream.spec.rules.is_empty() {
            tracing::warn!(stream = %stream.name, "Rules are not implemented in this version and never fire");
        }
        Ok(())
    }

    fn unwatch(&self, _name: &StreamName) {}
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
    let endpoint = server.run(Cors::new(warp::service(routes(services)), origins), grace);
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
    };
    let disk = HistoryDisk { folder: folder(&config.state, "history")?, bytes: HISTORY_BYTES };
    let history = HistoryConfig { disk: Some(disk), ..HistoryConfig::default() };
    let declared = declared(sources, SupervisorConfig::default(), history, &metrics, tasks);
    let keyring = KeyRing::new();
    tasks.spawn("expiry", expire(Arc::clone(&keyring), tasks.cancel.clone()));
    let joined = Joined::of(&declared, &secrets, tasks);
    let keeper = Keeper::new(Arc::clone(&declared), Arc::clone(&joined) as Arc<dyn Attendants>);
    let check = readiness.check("files");
    let keys: Arc<dyn Keys> = match &config.input {
        Input::Config { path, strictness } => {
            let key = LocalKey::open(&config.state, &keyring).map_err(|error| state_failed(&config.state, &error))?;
            let file = ConfigFile::new(path, Variables::of_process(), *strictness, held);
            follow_config(file, path, &keeper, &joined, check, tasks)?;
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

fn pods_config(config: &WatchConfig) -> PodsConfig {
    PodsConfig {
        scope: IndexScope::Cluster,
        index: IndexConfig::default(),
        hub: HubConfig::default(),
        scrapes: config.scrapes.clone(),
    }
}

/// Takes the file up, or says what is wrong with it; then again whenever it changes, or SIGHUP asks for it.
fn follow_config(
    file: ConfigFile,
    path: &Path,
    keeper: &Arc<Keeper>,
    joined: &Arc<Joined>,
    check: Check,
    tasks: &Tasks,
) -> Result<(), CliError> {
    let changes = Changes::of(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    match file.take_up(keeper, true) {
        Ok(plan) => plan.iter().for_each(|plan| joined.plan(plan)),
        Err(findings) => return Err(refused(&findings)),
    }
    check.pass();
    let (keeper, joined) = (Arc::clone(keeper), Arc::clone(joined));
    let look = move |anew: bool| match file.take_up(&keeper, anew) {
        Ok(None) => {}
        Ok(Some(plan)) => {
            joined.plan(&plan);
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
