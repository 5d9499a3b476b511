//! Signals: what happened to a stream, told in the stream.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Origin, Time};

/// How much a signal matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Things as they should be.
    Info,
    /// Something that the reader should know.
    Warning,
    /// Something is lost or does not work.
    Error,
}

impl Level {
    /// The level's name on every wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a signal tells. It is stored by the name that it has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A container (or its likeness) joined the stream.
    Added,
    /// A container left the stream.
    Deleted,
    /// A container started again and is followed again.
    Restarted,
    /// A container's run ended, or a pod failed as a whole.
    Terminated,
    /// A container was killed because memory ran out.
    OomKilled,
    /// A container cannot start now; Kubernetes tries again, later each time.
    Waiting,
    /// A container is ready.
    Ready,
    /// A container that runs is not ready any more.
    NotReady,
    /// A pod was evicted from its node.
    Evicted,
    /// A Kubernetes Event.
    #[serde(rename = "kubernetes-event")]
    Kubernetes,
    /// The connection to the source was lost; Weir connects again.
    Reconnecting,
    /// The connection to the source is back.
    Reconnected,
    /// Records are missing, with how many where that is known.
    Gap,
    /// The source cannot give what was asked for.
    SourceError,
    /// A rule of the subscription fired.
    RuleFired,
    /// The stream ends here, and why.
    Ended,
}

impl Event {
    /// The event's name on wires that know all of them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Deleted => "deleted",
            Self::Restarted => "restarted",
            Self::Terminated => "terminated",
            Self::OomKilled => "oom-killed",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::NotReady => "not-ready",
            Self::Evicted => "evicted",
            Self::Kubernetes => "kubernetes-event",
            Self::Reconnecting => "reconnecting",
            Self::Reconnected => "reconnected",
            Self::Gap => "gap",
            Self::SourceError => "source-error",
            Self::RuleFired => "rule-fired",
            Self::Ended => "ended",
        }
    }

    /// The event's name in the session protocol, which knows `add`, `delete` and `other`.
    pub fn session_name(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Deleted => "delete",
            _ => "other",
        }
    }
}

/// Something that happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// How much it matters.
    pub level: Level,
    /// What happened.
    pub event: Event,
    /// When.
    pub time: Time,
    /// Whom it concerns; none when it is the whole stream.
    pub origin: Option<Arc<Origin>>,
    /// A sentence for people. Holds nothing secret.
    pub text: String,
    /// Why, as one word for programs, such as `OOMKilled` or `BackOff`.
    pub reason: Option<String>,
    /// With what a container's run ended.
    pub exit_code: Option<i32>,
    /// The object that a Kubernetes Event is about.
    pub regarding: Option<Regarding>,
    /// How often: a Kubernetes Event in all, a restart since the last that was told.
    pub count: Option<u32>,
}

/// The object that a Kubernetes Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// Its kind, such as `Pod` or `ReplicaSet`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The longest reason that is kept whole, in bytes: that of a Kubernetes Event (events.k8s.io/v1).
pub const REASON_BYTES: usize = 128;

impl Signal {
    /// A signal about the whole stream.
    pub fn new(level: Level, event: Event, time: Time, text: impl Into<String>) -> Self {
        let (origin, reason, exit_code, regarding, count) = Default::default();
        Self { level, event, time, origin, text: text.into(), reason, exit_code, regarding, count }
    }

    /// The same signal, about `origin`.
    pub fn about(mut self, origin: &Arc<Origin>) -> Self {
        self.origin = Some(Arc::clone(origin));
        self
    }

    /// The same signal, for this reason. What is longer than [`REASON_BYTES`] is cut off.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        cut_text(&mut reason, REASON_BYTES);
        self.reason = (!reason.is_empty()).then_some(reason);
        self
    }

    /// The same signal, about a run that ended with this code.
    pub fn exit_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// The same signal, of what has happened `count` times.
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// The same signal, of a Kubernetes Event about `object` that has happened `count` times.
    pub fn regarding(mut self, object: Regarding, count: u32) -> Self {
        self.regarding = Some(object);
        self.times(count)
    }

    /// What the signal costs to hold, in bytes.
    pub fn cost(&self) -> usize {
        let object = |object: &Regarding| object.kind.len() + object.namespace.len() + object.name.len();
        let reason = self.reason.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.text.len() + reason + self.regarding.as_ref().map_or(0, object)
    }

    /// Tells a reader that `missed` records were gone before it came to read them.
    pub fn gap(missed: u64, time: Time) -> Self {
        let text = format!("{missed} records are missing: the reader was slower than the stream's ring holds");
        Self::new(Level::Warning, Event::Gap, time, text)
    }
}

/// Cuts a text that comes from outside to at most `bytes`, not within a character.
pub fn cut_text(text: &mut String, bytes: usize) {
    let end = text.floor_char_boundary(bytes);
    text.truncate(end);
}
