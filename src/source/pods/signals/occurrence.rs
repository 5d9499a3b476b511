//! A Kubernetes Event, as far as signals need it, and what is remembered so that each is told once.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as KubeEvent;
use lru::LruCache;

use crate::record::{Event, Level, REASON_BYTES, Regarding, Signal, Time, cut_text};

/// How much of an Event's message is told, in bytes: what the API server lets one have (events.k8s.io/v1 `note`).
const MESSAGE_BYTES: usize = 1024;

/// One time that a Kubernetes Event was reported: the Event itself, or an update that counts it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// The object it is about.
    pub object: Regarding,
    /// That object's UID, empty where the Event does not say.
    pub object_uid: String,
    /// The container it is about, where it says so.
    pub container: Option<String>,
    /// `Normal`, `Warning`, or what else its reporter wrote.
    pub kind: String,
    reason: String,
    message: String,
    /// When it happened last, by its reporter's clock.
    pub time: Time,
    uid: String,
    count: u32,
}

impl Occurrence {
    /// Reads an Event. `None` for one without UID, which no API server sends.
    pub(super) fn of(event: KubeEvent) -> Option<Self> {
        let time = Time::from_jiff(last_time(&event).unwrap_or_default());
        let series = event.series.as_ref().and_then(|series| series.count);
        let count = event.count.max(series).and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1);
        let object = event.involved_object;
        let text = |text: Option<String>, bytes| {
            let mut text = text.unwrap_or_default();
            cut_text(&mut text, bytes);
            text.shrink_to_fit();
            text
        };
        Some(Self {
            uid: event.metadata.uid?,
            container: object.field_path.as_deref().and_then(container_of).map(str::to_owned),
            object: Regarding {
                kind: text(object.kind, REASON_BYTES),
                namespace: object.namespace.or(event.metadata.namespace).unwrap_or_default(),
                name: text(object.name, 253),
            },
            object_uid: text(object.uid, 64),
            kind: text(event.type_, REASON_BYTES),
            reason: text(event.reason, REASON_BYTES),
            message: text(event.message, MESSAGE_BYTES),
            time,
            count,
        })
    }

    /// What it tells.
    pub(super) fn signal(&self) -> Signal {
        let level = if self.kind == "Warning" { Level::Warning } else { Level::Info };
        let Regarding { kind, namespace, name } = &self.object;
        let text = format!("{kind} {namespace}/{name}: {}", self.message);
        let signal = Signal::new(level, Event::Kubernetes, self.time, text);
        signal.because(&*self.reason).regarding(self.object.clone(), self.count)
    }
}

/// When an Event happened last. Reporters of core/v1 and of events.k8s.io/v1 write different fields.
fn last_time(event: &KubeEvent) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.first_timestamp.as_ref().map(|time| time.0);
    let alone = event.event_time.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.max(last).max(alone).or(first).or(made)
}

/// `spec.containers{NAME}`, as kubelets write it, and the same of the other two lists.
fn container_of(path: &str) -> Option<&str> {
    let lists = ["spec.containers{", "spec.initContainers{", "spec.ephemeralContainers{"];
    lists.iter().find_map(|list| path.strip_prefix(list)?.strip_suffix('}'))
}

/// Which Events were told, each with how often it had happened. Bounded: what was told longest ago is forgotten first.
#[derive(Debug)]
pub(super) struct Memory(LruCache<Box<str>, u32>);

impl Memory {
    /// Remembers so many Events.
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self(LruCache::new(most))
    }

    /// Whether this is news; it is remembered from now on.
    pub(super) fn note(&mut self, occurrence: &Occurrence) -> News {
        match self.0.get_mut(&*occurrence.uid) {
            Some(known) if *known >= occurrence.count => News::None,
            Some(known) => {
                *known = occurrence.count;
                News::Again
            }
            None => {
                self.0.put(occurrence.uid.as_str().into(), occurrence.count);
                News::First
            }
        }
    }

    /// The Event is no more.
    pub(super) fn forget(&mut self, uid: &str) {
        self.0.pop(uid);
    }
}

/// What is new about an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// It was counted again.
    Again,
    /// It was not known.
    First,
}
