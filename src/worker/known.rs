//! Which subscriptions there are, whether or not they are at work: found by the UID of their object.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::command::has_one_node;
use crate::api::{Service, SourceKind, StreamSubscriptionSpec};
use crate::stream::StreamName;

/// A subscription that is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub stream: StreamName,
    /// Its object's UID.
    pub uid: String,
    /// Where its records come from, where the spec says that.
    pub kind: Option<SourceKind>,
    /// Its containers that are stopped, as `pod+container`.
    pub stopped: Vec<String>,
}

impl Known {
    /// The service that a key must be granted to read it.
    pub fn service(&self) -> Option<Service> {
        self.kind.map(SourceKind::service)
    }

    /// Whether its source is one node by itself.
    pub fn has_one_node(&self) -> bool {
        has_one_node(self.kind)
    }
}

/// All subscriptions that are declared.
#[derive(Debug, Default)]
pub(super) struct Register(RwLock<HashMap<StreamName, Known>>);

impl Register {
    /// Takes note of a subscription as it is now.
    pub(super) fn note(&self, stream: &StreamName, uid: &str, spec: &StreamSubscriptionSpec) {
        let known = Known {
            stream: stream.clone(),
            uid: uid.to_owned(),
            kind: spec.source.kind(),
            stopped: spec.stopped_nodes.clone(),
        };
        self.0.write().insert(stream.clone(), known);
    }

    /// Forgets one that is no more; what was known of it.
    pub(super) fn forget(&self, stream: &StreamName) -> Option<Known> {
        self.0.write().remove(stream)
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<Known> {
        self.0.read().values().find(|known| known.uid == uid).cloned()
    }

    pub(super) fn by_name(&self, stream: &StreamName) -> Option<Known> {
        self.0.read().get(stream).cloned()
    }
}
