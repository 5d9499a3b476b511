//! Signals: what happened to a stream, told in the stream.

use std::sync::Arc;

use super::{Origin, Time};

/// How much a signal matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// What a signal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A container (or its likeness) joined the stream.
    Added,
    /// A container left the stream.
    Deleted,
    /// A container started again and is followed again.
    Restarted,
    /// A container's run ended.
    Terminated,
    /// The connection to the source was lost; Weir connects again.
    Reconnecting,
    /// The connection to the source is back.
    Reconnected,
    /// Records are missing, with how many where that is known.
    Gap,
    /// The source cannot give what was asked for.
    SourceError,
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
            Self::Reconnecting => "reconnecting",
            Self::Reconnected => "reconnected",
            Self::Gap => "gap",
            Self::SourceError => "source-error",
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
}

impl Signal {
    /// A signal about the whole stream.
    pub fn new(level: Level, event: Event, time: Time, text: impl Into<String>) -> Self {
        Self { level, event, time, origin: None, text: text.into() }
    }

    /// The same signal, about `origin`.
    pub fn about(mut self, origin: &Arc<Origin>) -> Self {
        self.origin = Some(Arc::clone(origin));
        self
    }

    /// Tells a reader that `missed` records were gone before it came to read them.
    pub fn gap(missed: u64, time: Time) -> Self {
        let text = format!("{missed} records are missing: the reader was slower than the stream's ring holds");
        Self::new(Level::Warning, Event::Gap, time, text)
    }
}
