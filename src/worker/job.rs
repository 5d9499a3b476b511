//! A job: what a worker does, in a form in which equal wishes are equal values.

use std::sync::Arc;

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::access::PodPermit;
use crate::api::pattern::PatternError;
use crate::api::{FilterSpec, PodLogsSource, SourceKind, StartSpec, StreamSubscriptionSpec};
use crate::record::{LineLimit, Time};
use crate::source::pods::{PodLogsConfig, Visible};
use crate::stream::{From, RingLimits, Start};
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
    source: PodLogsSource,
    filter: FilterSpec,
    ring: RingLimits,
    sight: Sight,
}

/// Why a spec cannot become a job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The source exists in the schema only.
    #[error("the source {} is not implemented in this version; use podLogs", .0.map_or("(none)", SourceKind::as_str))]
    NotImplemented(Option<SourceKind>),
    /// A pattern does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A filter does not compile, or is too large.
    #[error("the filter does not compile: {0}")]
    Filter(#[from] regex::Error),
    /// A time cannot be read.
    #[error("start.sinceTime cannot be read: {0}; write it as RFC 3339, such as 2026-01-31T12:00:00Z")]
    Time(#[from] jiff::Error),
    /// The process is ending.
    #[error("Weir is shutting down; try again in a moment")]
    Stopping,
}

impl JobError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Stopping => Category::Unavailable,
            _ => Category::Invalid,
        }
    }
}

/// How large a compiled filter may become, in bytes: patterns come from outside.
const FILTER_BYTES: usize = 4 * 1024 * 1024;

impl Job {
    /// The job that a spec asks for.
    ///
    /// # Errors
    /// Where the source is not implemented. What else may be wrong shows when the job starts.
    pub fn new(spec: &StreamSubscriptionSpec, default_ring: RingLimits, sight: Sight) -> Result<Self, JobError> {
        let source = spec.source.pod_logs.clone().ok_or(JobError::NotImplemented(spec.source.kind()))?;
        let history = spec.history.as_ref();
        let ring = RingLimits {
            records: history.and_then(|history| history.records).map_or(default_ring.records, u64::from),
            bytes: history
                .and_then(|history| history.bytes)
                .map_or(default_ring.bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        Ok(Self { source, filter: spec.filter.clone().unwrap_or_default(), ring, sight })
    }

    /// How much the job's stream holds.
    pub fn ring(&self) -> RingLimits {
        self.ring
    }

    /// The job, ready to run. `now` is the present, to which `sinceSeconds` counts back.
    pub(super) fn compile(&self, now: Time) -> Result<PodLogsConfig, JobError> {
        let sight = self.sight.clone();
        let visible: Visible = match sight {
            Sight::Selected => Arc::new(|_, _| true),
            Sight::Permitted(permit) => Arc::new(move |facts, container| permit.allows(facts, container)),
        };
        Ok(PodLogsConfig {
            selection: self.source.selection.compile()?,
            visible,
            include: pattern_set(&self.filter.include)?,
            exclude: pattern_set(&self.filter.exclude)?,
            line_limit: LineLimit(self.source.max_line_bytes as usize),
            start: start_of(self.source.start.as_ref(), self.source.previous, now)?,
        })
    }
}

fn pattern_set(patterns: &[String]) -> Result<Option<RegexSet>, JobError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Ok(Some(RegexSetBuilder::new(patterns).size_limit(FILTER_BYTES).build()?))
}

fn start_of(start: Option<&StartSpec>, previous: bool, now: Time) -> Result<From, JobError> {
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
