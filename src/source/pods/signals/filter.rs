//! Which signals are wanted: by level, reason and type.

use crate::api::pattern::{PatternError, PatternList};
use crate::api::source::{PodSignalsSource, SignalLevel};
use crate::record::{Level, Signal};

/// Which signals of pods, and which Kubernetes Events, are told. What a list leaves out is not; an empty one wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalFilter {
    levels: Vec<Level>,
    reasons: PatternList,
    types: Vec<String>,
}

impl SignalFilter {
    /// The filter of a spec.
    ///
    /// # Errors
    /// Where a reason is no pattern.
    pub fn of(spec: &PodSignalsSource) -> Result<Self, PatternError> {
        let level = |level: &SignalLevel| match level {
            SignalLevel::Info => Level::Info,
            SignalLevel::Warning => Level::Warning,
            SignalLevel::Error => Level::Error,
        };
        Ok(Self {
            levels: spec.levels.iter().map(level).collect(),
            reasons: PatternList::parse(&spec.reasons)?,
            types: spec.types.clone(),
        })
    }

    /// Whether a change of a pod is wanted. Its type is `Normal` where its level is info, else `Warning`.
    pub(super) fn admits_change(&self, signal: &Signal) -> bool {
        self.admits(signal, if signal.level == Level::Info { "Normal" } else { "Warning" })
    }

    /// Whether a Kubernetes Event of this type is wanted.
    pub(super) fn admits_event(&self, signal: &Signal, kind: &str) -> bool {
        self.admits(signal, kind)
    }

    fn admits(&self, signal: &Signal, kind: &str) -> bool {
        let reason = signal.reason.as_deref();
        (self.levels.is_empty() || self.levels.contains(&signal.level))
            && (self.reasons.is_any() || reason.is_some_and(|reason| self.reasons.matches(reason)))
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind))
    }
}
