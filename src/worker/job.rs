//! A job: what a worker does, in a form in which equal wishes are equal values.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::access::PodPermit;
use crate::api::duration::DurationError;
use crate::api::{FilterSpec, HistorySpec, HistoryStorage, Service, SourceKind, SourceSpec, StreamSubscriptionSpec};
use crate::record::{Time, node_name};
use crate::rule::RuleError;
use crate::source::{BuildError, Source, Sources, Visible, Wish};
use crate::stream::{RingLimits, StreamName};
use crate::telemetry::Category;

/// How far a job may see, beyond what it selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Everything it selects: whoever declared it answers for that.
    Selected,
    /// Only what a key grants.
    Permitted(PodPermit),
}

/// What a worker does. Equal jobs share one worker, one stream and its upstream connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    source: SourceSpec,
    filter: FilterSpec,
    ring: RingLimits,
    sight: Sight,
    /// The one declared stream that it is for, where it cannot be shared with another of the same spec.
    stream: Option<StreamName>,
    stopped: Stopped,
    /// When its workers were last told to start anew; another time is another job.
    restarted: Option<String>,
    /// What its subscription wants kept, where that is the source's own business.
    history: Option<HistorySpec>,
}

/// Containers of the selection that are not followed, as `pod+container`. Where a source takes that up as it runs, it is no part
/// of what makes one job another.
#[derive(Clone, Debug)]
struct Stopped {
    nodes: Vec<String>,
    as_it_runs: bool,
}

impl Stopped {
    fn identity(&self) -> (bool, &[String]) {
        (self.as_it_runs, if self.as_it_runs { &[] } else { &self.nodes })
    }
}

impl PartialEq for Stopped {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Stopped {}

impl Hash for Stopped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Why a spec cannot become a job, or a job cannot start.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its source cannot be made.
    #[error(transparent)]
    Source(#[from] BuildError),
    /// The age of the history cannot be read.
    #[error("history.age cannot be read: {0}")]
    Age(#[from] DurationError),
    /// It asks for history on disk, and there is none.
    #[error(
        "history.storage is Disk and the operator has no folder for it; use Memory, or give it one with persistence.enabled \
         in the chart (--data-dir)"
    )]
    NoDisk,
    /// A rule cannot be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The process is ending.
    #[error("Weir is shutting down; try again in a moment")]
    Stopping,
}

impl JobError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Stopping => Category::Unavailable,
            Self::Source(BuildError::NotAllowed(_)) => Category::Denied,
            Self::Source(_) | Self::Age(_) | Self::NoDisk | Self::Rule(_) => Category::Invalid,
        }
    }
}

impl Job {
    /// The job that a spec asks for.
    ///
    /// # Errors
    /// Where no source is set, or several. What else may be wrong shows when the job starts.
    pub fn new(spec: &StreamSubscriptionSpec, default_ring: RingLimits, sight: Sight) -> Result<Self, JobError> {
        if spec.source.kind().is_none() {
            return Err(BuildError::NotImplemented(None).into());
        }
        let history = spec.history.as_ref();
        // What is kept on disk bounds no memory. Of an upload, bytes are kept elsewhere: the ring holds no more of its records
        // than of any other stream's.
        let on_disk = |history: &&HistorySpec| history.storage == HistoryStorage::Disk;
        let in_memory = history.filter(|history| !on_disk(history));
        let most = if spec.source.push.is_some() { default_ring.bytes } else { usize::MAX };
        let ring = RingLimits {
            records: in_memory.and_then(|history| history.records).map_or(default_ring.records, u64::from),
            bytes: in_memory
                .and_then(|history| history.bytes)
                .map_or(default_ring.bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
                .min(most),
            age: match history.and_then(|history| history.age.as_ref()) {
                Some(age) => Some(age.parse()?),
                None => default_ring.age,
            },
        };
        Ok(Self {
            source: spec.source.clone(),
            filter: spec.filter.clone().unwrap_or_default(),
            ring,
            sight,
            stream: None,
            stopped: Stopped { nodes: spec.stopped_nodes.clone(), as_it_runs: spec.source.stops_nodes_as_it_runs() },
            restarted: spec.restarted_at.clone(),
            history: spec.source.push.as_ref().and(spec.history.clone()),
        })
    }

    /// The job of a declared stream. One whose source keeps positions or refers to secrets belongs to that stream
    /// alone: another of the same spec has its own positions, and may have other secrets. So does one with rules, whose
    /// signals are for its own readers, and one whose nodes are stopped as it runs, which is for nobody else.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn declared(
        spec: &StreamSubscriptionSpec,
        default_ring: RingLimits,
        name: &StreamName,
    ) -> Result<Self, JobError> {
        let source = &spec.source;
        let alone = source.is_of_one_stream() || source.stops_nodes_as_it_runs() || !spec.rules.is_empty();
        let stream = alone.then(|| name.clone());
        Ok(Self { stream, ..Self::new(spec, default_ring, Sight::Selected)? })
    }

    /// Where the job's records come from.
    pub fn spec(&self) -> &SourceSpec {
        &self.source
    }

    /// The same job with another source.
    #[must_use]
    pub fn with_spec(&self, source: SourceSpec) -> Self {
        Self { source, ..self.clone() }
    }

    /// How much the job's stream holds.
    pub fn ring(&self) -> RingLimits {
        self.ring
    }

    /// Tells a source at work for an equal job which nodes are stopped.
    pub(super) fn update(&self, source: &dyn Source) {
        if self.stopped.as_it_runs {
            source.set_stopped(&self.stopped.nodes);
        }
    }

    /// The service that a key must be granted to read what the job makes.
    pub fn service(&self) -> Service {
        // A job has one source.
        self.source.kind().map_or(Service::Log, SourceKind::service)
    }

    /// The job's source, ready to run.
    pub(super) fn source(&self, sources: &Sources, now: Time) -> Result<Arc<dyn Source>, JobError> {
        let permitted: Visible = match self.sight.clone() {
            Sight::Selected => Arc::new(|_, _| true),
            Sight::Permitted(permit) => Arc::new(move |facts, container| permit.allows(facts, container)),
        };
        let visible: Visible = match self.stopped.nodes.clone() {
            stopped if stopped.is_empty() => permitted,
            stopped => Arc::new(move |facts, container| {
                let name = node_name(facts.pod, container);
                permitted(facts, container) && !stopped.contains(&name)
            }),
        };
        let wish = Wish {
            visible,
            now,
            stream: self.stream.as_ref(),
            stopped: &self.stopped.nodes,
            history: self.history.as_ref(),
        };
        Ok(sources.build(&self.source, &self.filter, wish)?)
    }
}
