//! From a spec to a source that is ready to run.

use std::sync::Arc;
use std::time::Duration;

use super::containers::{Containers, ContainersConfig};
use super::files::{Files, FilesConfig, FilesError, FilesLimits};
use super::pods::metrics::{MetricsHub, PodMetrics, PodMetricsConfig};
use super::pods::{FollowHub, PodLogs, PodLogsConfig, PodSignals, PodSignalsConfig, SignalFilter};
use super::push::{self, Framing, PushConfig, Uploads};
use super::remote::{Remote, RemoteSpec};
use super::{Outside, Sieve, Source, Visible};
use crate::api::duration::DurationError;
use crate::api::pattern::{NamePattern, PatternError};
use crate::api::source::{ContainersSource, FilesSource, METRICS_INTERVAL, SignalObjects};
use crate::api::{
    FilterSpec, HistorySpec, HistoryStorage, PodLogsSource, PodMetricsSource, PodSignalsSource, PushFraming,
    PushSource, SourceKind, SourceSpec, StartSpec,
};
use crate::record::{LineLimit, Time};
use crate::stream::{From, Start, StreamName};
use crate::telemetry::Metrics;

/// Why a spec cannot become a source.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source exists in the schema only.
    #[error("the source {} is not implemented in this version; use podLogs, podMetrics, podSignals, files, containers, http, webSocket, tcp or push", .0.map_or("(none)", SourceKind::as_str))]
    NotImplemented(Option<SourceKind>),
    /// The operator's configuration does not allow what it would reach.
    #[error("{0}")]
    NotAllowed(String),
    /// A path or glob cannot be read.
    #[error("a path cannot be read: {0}")]
    Path(FilesError),
    /// An address cannot be read.
    #[error("the address cannot be read: {0}")]
    Address(String),
    /// A pattern does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A filter does not compile, or is too large.
    #[error("the filter does not compile: {0}")]
    Filter(#[from] regex::Error),
    /// An interval cannot be read.
    #[error("the interval cannot be read: it {0}")]
    Interval(#[from] DurationError),
    /// An interval that is too short or too long.
    #[error("the interval is {}; use 1s to 1h", crate::api::duration::format(*.0))]
    IntervalBounds(Duration),
    /// None or too many.
    #[error("{0} metrics are asked for; name from 1 to {MOST_METRICS}")]
    Metrics(usize),
    /// This process has no way to a cluster.
    #[error("this process runs without a cluster; give it a kubeconfig to read pods")]
    NoCluster,
    /// A filter, and no records.
    #[error("a filter needs records, and what is pushed with framing Raw has none; use Lines or Ndjson")]
    Unframed,
    /// Uploads belong to a name.
    #[error("a push source is declared as a StreamSubscription; a client cannot ask for one")]
    Nameless,
    /// History on disk, and there is none.
    #[error(
        "history.storage is Disk and the operator has no folder for it; use Memory, or give it one with --data-dir"
    )]
    NoDisk,
    /// This process has no way to the nodes.
    #[error("metrics of pods are not collected by this process")]
    NoMetrics,
    /// A time cannot be read.
    #[error("start.sinceTime cannot be read: {0}; write it as RFC 3339, such as 2026-01-31T12:00:00Z")]
    Time(#[from] jiff::Error),
}

/// Most metrics of one stream; the schema says the same.
const MOST_METRICS: usize = 256;

/// What sources of all kinds are made with.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Follows the logs of pods, once for all who want them; none without a cluster.
    pub pods: Option<Arc<FollowHub>>,
    /// Scrapes nodes, once for all who want metrics; none where nodes are out of reach.
    pub metrics: Option<Arc<MetricsHub>>,
    /// The world outside of Kubernetes.
    pub outside: Outside,
    /// What producers upload.
    pub uploads: Arc<Uploads>,
}

/// For whom a source is made, beyond what its spec says.
#[derive(Clone)]
pub struct Wish<'a> {
    /// Narrows which pods it may see.
    pub visible: Visible,
    /// The present, to which `sinceSeconds` counts back.
    pub now: Time,
    /// The declared stream that it is for: where its secrets are, and whose positions are kept. None for what a client
    /// asked for.
    pub stream: Option<&'a StreamName>,
    /// Containers that are not followed, as `pod+container`, where `visible` does not say so.
    pub stopped: &'a [String],
    /// How much of the past the stream's subscription wants kept.
    pub history: Option<&'a HistorySpec>,
}

impl Sources {
    /// Sources of pods' logs alone.
    pub fn of_logs(pods: Arc<FollowHub>, metrics: Arc<Metrics>) -> Self {
        let uploads = Uploads::closed(Arc::clone(&metrics));
        Self { pods: Some(pods), metrics: None, outside: Outside::closed(metrics), uploads }
    }

    /// Makes the source that a spec asks for.
    ///
    /// # Errors
    /// [`BuildError`] where a pattern or time is wrong, or the kind is not implemented.
    pub fn build(&self, spec: &SourceSpec, filter: &FilterSpec, wish: Wish<'_>) -> Result<Arc<dyn Source>, BuildError> {
        let Wish { visible, now, stream, stopped, history } = wish;
        let pods = || self.pods.as_ref().ok_or(BuildError::NoCluster);
        match spec {
            SourceSpec { pod_logs: Some(logs), .. } if spec.kind() == Some(SourceKind::PodLogs) => {
                let hub = pods()?;
                let config = pod_logs(logs, filter, hub, visible, now)?;
                Ok(PodLogs::new(Arc::clone(hub), config))
            }
            SourceSpec { pod_signals: Some(signals), .. } if spec.kind() == Some(SourceKind::PodSignals) => {
                Ok(PodSignals::new(Arc::clone(pods()?.index()), pod_signals(signals, visible)?))
            }
            SourceSpec { pod_metrics: Some(metrics), .. } if spec.kind() == Some(SourceKind::PodMetrics) => {
                let hub = self.metrics.as_ref().ok_or(BuildError::NoMetrics)?;
                Ok(PodMetrics::new(Arc::clone(hub), pod_metrics(metrics, visible)?))
            }
            SourceSpec { http: Some(http), .. } if spec.kind() == Some(SourceKind::Http) => {
                Ok(Remote::new(RemoteSpec::Http(http), filter, &self.outside, stream)?)
            }
            SourceSpec { web_socket: Some(socket), .. } if spec.kind() == Some(SourceKind::WebSocket) => {
                Ok(Remote::new(RemoteSpec::WebSocket(socket), filter, &self.outside, stream)?)
            }
            SourceSpec { tcp: Some(tcp), .. } if spec.kind() == Some(SourceKind::Tcp) => {
                Ok(Remote::new(RemoteSpec::Tcp(tcp), filter, &self.outside, stream)?)
            }
            SourceSpec { containers: Some(spec_of), .. } if spec.kind() == Some(SourceKind::Containers) => {
                Ok(Containers::new(containers(spec_of, filter, stopped, &self.outside)?))
            }
            SourceSpec { files: Some(spec_of), .. } if spec.kind() == Some(SourceKind::Files) => {
                Ok(files(spec_of, filter, &self.outside, stream)?)
            }
            SourceSpec { push: Some(push), .. } if spec.kind() == Some(SourceKind::Push) => {
                let name = stream.ok_or(BuildError::Nameless)?;
                let config = push_config(push, filter, history, &self.uploads)?;
                Ok(push::Declared::new(Arc::clone(&self.uploads), name.clone(), config))
            }
            _ => Err(BuildError::NotImplemented(spec.kind())),
        }
    }
}

fn containers(
    spec: &ContainersSource,
    filter: &FilterSpec,
    stopped: &[String],
    outside: &Outside,
) -> Result<ContainersConfig, BuildError> {
    let socket = outside.policy.docker.clone().ok_or_else(|| {
        BuildError::NotAllowed(
            "containers may not be read; name the socket of a Docker Engine in the configuration of Weir itself".into(),
        )
    })?;
    Ok(ContainersConfig {
        socket,
        names: spec.names.iter().map(|name| NamePattern::parse(name)).collect::<Result<_, _>>()?,
        stopped: stopped.to_vec(),
        tail_lines: u64::from(spec.tail_lines),
        sieve: Sieve::new(filter, LineLimit(spec.max_line_bytes as usize), &outside.metrics)?,
        metrics: Arc::clone(&outside.metrics),
    })
}

fn files(
    spec: &FilesSource,
    filter: &FilterSpec,
    outside: &Outside,
    stream: Option<&StreamName>,
) -> Result<Arc<Files>, BuildError> {
    let made = Files::new(FilesConfig {
        paths: spec.paths.clone(),
        from_start: spec.from_start,
        sieve: Sieve::new(filter, LineLimit(spec.max_line_bytes as usize), &outside.metrics)?,
        allowed: outside.policy.files.clone(),
        positions: outside.checkpoints.clone().zip(stream.cloned()),
        limits: FilesLimits::default(),
        metrics: Arc::clone(&outside.metrics),
    });
    made.map_err(|error| match error {
        FilesError::NotAllowed(_) => BuildError::NotAllowed(error.to_string()),
        FilesError::Glob(_) => BuildError::Path(error),
    })
}

fn push_config(
    spec: &PushSource,
    filter: &FilterSpec,
    history: Option<&HistorySpec>,
    uploads: &Uploads,
) -> Result<PushConfig, BuildError> {
    let framing = match spec.framing {
        PushFraming::Raw if !filter.is_empty() => return Err(BuildError::Unframed),
        PushFraming::Raw => None,
        kind @ (PushFraming::Lines | PushFraming::Ndjson) => {
            let sieve = Sieve::new(filter, LineLimit(spec.max_line_bytes as usize), uploads.metrics())?;
            Some(Framing { kind, sieve: Arc::new(sieve) })
        }
    };
    let on_disk = history.filter(|history| history.storage == HistoryStorage::Disk);
    if on_disk.is_some() && !uploads.has_disk() {
        return Err(BuildError::NoDisk);
    }
    Ok(PushConfig {
        most: spec.max_bytes,
        replace: spec.allow_replace,
        bytes: history.and_then(|history| history.bytes),
        keep: history.and_then(|history| history.age.as_ref()).map(|age| age.parse()).transpose()?,
        disk: on_disk.map(|history| history.fsync.unwrap_or_default()),
        framing,
    })
}

fn pod_signals(spec: &PodSignalsSource, visible: Visible) -> Result<PodSignalsConfig, BuildError> {
    let wants = |objects| spec.objects.is_empty() || spec.objects.contains(&objects);
    Ok(PodSignalsConfig {
        selection: spec.selection.compile()?,
        visible,
        pods: wants(SignalObjects::Pods),
        events: wants(SignalObjects::Events),
        filter: SignalFilter::of(spec)?,
    })
}

fn pod_metrics(spec: &PodMetricsSource, visible: Visible) -> Result<PodMetricsConfig, BuildError> {
    let interval = spec.interval.parse()?;
    if !METRICS_INTERVAL.contains(&interval) {
        return Err(BuildError::IntervalBounds(interval));
    }
    if !(1..=MOST_METRICS).contains(&spec.metrics.len()) {
        return Err(BuildError::Metrics(spec.metrics.len()));
    }
    Ok(PodMetricsConfig {
        compiled: spec.selection.compile()?,
        selection: spec.selection.clone(),
        visible,
        metrics: spec.metrics.clone(),
        interval,
        aggregate: spec.aggregate,
        mode: spec.mode,
        via: spec.scrape,
    })
}

fn pod_logs(
    spec: &PodLogsSource,
    filter: &FilterSpec,
    hub: &FollowHub,
    visible: Visible,
    now: Time,
) -> Result<PodLogsConfig, BuildError> {
    let limit = LineLimit(hub.line_limit().0.min(spec.max_line_bytes as usize));
    Ok(PodLogsConfig {
        selection: spec.selection.compile()?,
        visible,
        sieve: Sieve::new(filter, limit, hub.metrics())?,
        start: start_of(spec.start.as_ref(), spec.previous, now)?,
    })
}

fn start_of(start: Option<&StartSpec>, previous: bool, now: Time) -> Result<From, BuildError> {
    let Some(spec) = start else { return Ok(From { previous, ..From::default() }) };
    let start = if let Some(time) = &spec.since_time {
        Start::At(Time::from_jiff(time.parse()?))
    } else if let Some(seconds) = spec.since_seconds {
        Start::At(now.plus_nanos(-i64::from(seconds) * 1_000_000_000))
    } else if spec.from_start || spec.tail_lines.is_some_and(|lines| lines > 0) {
        Start::Beginning
    } else {
        Start::Now
    };
    Ok(From { start, lines: spec.tail_lines.map(u64::from), previous })
}
