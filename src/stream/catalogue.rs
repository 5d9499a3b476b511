//! The catalogue: where is stream X? Today always here; readers ask it, never a global, so that another
//! process may one day be the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use tokio::sync::watch;

use crate::api::Service;

use super::{Backlog, From, LiveStream, ReadFrom, Reader, Seq, Start, StreamEnd};

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

/// What lets readers of one name in, and cuts them all at once, though others may read the same stream by
/// another name.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<Option<Arc<StreamEnd>>>>);

impl Gate {
    /// An open gate.
    pub fn open() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }

    /// Cuts all readers, telling them why. The first reason stays.
    pub fn close(&self, text: impl Into<String>) {
        let end = Arc::new(StreamEnd { text: text.into() });
        self.0.send_if_modified(|state| {
            let first = state.is_none();
            state.get_or_insert(end);
            first
        });
    }

    /// Waits until the gate closes and says why; at once where it is closed. Cancel-safe.
    pub async fn closed(&self) -> Arc<StreamEnd> {
        let mut state = self.watch();
        let end = state.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        // The sender lives in `self`, so there is always a reason.
        end.unwrap_or_else(|| Arc::new(StreamEnd { text: "the stream was released".into() }))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<StreamEnd>>> {
        self.0.subscribe()
    }
}

/// A stream and its past.
#[derive(Clone, Debug)]
pub struct Located {
    /// Cuts those who read by this name.
    pub gate: Gate,
    /// The service that a key must be granted to read it.
    pub service: Service,
    /// The stream.
    pub stream: Arc<LiveStream>,
    /// Its past from before the ring, where the source has one.
    pub backlog: Option<Arc<dyn Backlog>>,
}

impl Located {
    /// A reader of what the ring holds and gets.
    pub fn resume(&self, from: ReadFrom) -> Reader {
        Reader::open(Arc::clone(&self.stream), from).behind(&self.gate)
    }

    /// A reader that first gets the past as `from` wants it: the source's own or, where it keeps none, what the ring
    /// still holds. Signals count as lines there.
    pub fn read(&self, from: From) -> Reader {
        match &self.backlog {
            Some(past) => Reader::open_with_past(Arc::clone(&self.stream), past.as_ref(), from).behind(&self.gate),
            None => self.resume(self.ring_start(from)),
        }
    }

    fn ring_start(&self, from: From) -> ReadFrom {
        match (from.start, from.lines) {
            (Start::Now, _) => ReadFrom::Now,
            (Start::At(time), _) => ReadFrom::Time(time),
            (Start::Beginning, None) => ReadFrom::Oldest,
            (Start::Beginning, Some(lines)) => {
                let (held, _) = self.stream.held();
                let seq = Seq(self.stream.next_seq().0.saturating_sub(lines.min(held)));
                ReadFrom::Seq { epoch: self.stream.epoch(), seq }
            }
        }
    }
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
