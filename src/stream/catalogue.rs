//! The catalogue: where is stream X? Today always here; readers ask it, never a global, so that another
//! process may one day be the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Backlog, LiveStream};

/// The name of a declared stream: its subscription's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    /// The subscription's namespace.
    pub namespace: String,
    /// The subscription's name.
    pub name: String,
}

impl StreamName {
    /// The name of the stream that `namespace/name` declares.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A stream and its past.
#[derive(Clone, Debug)]
pub struct Located {
    /// The stream.
    pub stream: Arc<LiveStream>,
    /// Its past from before the ring, where the source has one.
    pub backlog: Option<Arc<dyn Backlog>>,
}

/// All live, declared streams.
#[derive(Debug, Default)]
pub struct Catalogue {
    streams: RwLock<HashMap<StreamName, Located>>,
}

impl Catalogue {
    /// Makes a stream known under its name, in place of an earlier one.
    pub fn insert(&self, name: StreamName, located: Located) {
        self.streams.write().insert(name, located);
    }

    /// Takes a stream out.
    pub fn remove(&self, name: &StreamName) -> Option<Located> {
        self.streams.write().remove(name)
    }

    /// Where the stream is.
    pub fn locate(&self, name: &StreamName) -> Option<Located> {
        self.streams.read().get(name).cloned()
    }

    /// The names of all live streams, sorted.
    pub fn names(&self) -> Vec<StreamName> {
        let mut names: Vec<_> = self.streams.read().keys().cloned().collect();
        names.sort();
        names
    }
}
