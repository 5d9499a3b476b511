//! The way into the stream: lines through the sieve, signals, and who is in the stream now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use crate::record::{Batch, Event, Level, Line, Origin, Signal, Time};
use crate::source::Sieve;
use crate::stream::LiveStream;
use crate::telemetry::{Metrics, Service, ServiceLabels};

/// Which files are in the stream now, for those who ask.
#[derive(Debug)]
pub(super) struct Members {
    origins: Mutex<BTreeMap<Arc<Path>, Arc<Origin>>>,
    pub targets: watch::Sender<usize>,
    pub listed: watch::Sender<bool>,
}

impl Default for Members {
    fn default() -> Self {
        Self { origins: Mutex::default(), targets: watch::channel(0).0, listed: watch::channel(false).0 }
    }
}

impl Members {
    /// All of them, sorted.
    pub fn roster(&self) -> Vec<Arc<Origin>> {
        self.origins.lock().values().cloned().collect()
    }

    /// Nobody is in the stream any more.
    pub fn clear(&self) {
        self.origins.lock().clear();
        self.targets.send_replace(0);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Arc<Path>, Arc<Origin>>)) {
        let mut origins = self.origins.lock();
        change(&mut origins);
        let count = origins.len();
        self.targets.send_if_modified(|targets| std::mem::replace(targets, count) != count);
    }
}

/// One source's way into its stream.
pub(super) struct Feed {
    stream: Arc<LiveStream>,
    sieve: Arc<Sieve>,
    members: Arc<Members>,
    host: String,
    records: Counter,
    bytes: Counter,
}

impl Feed {
    pub fn new(stream: Arc<LiveStream>, sieve: Arc<Sieve>, members: Arc<Members>, metrics: &Metrics) -> Self {
        let log = ServiceLabels { service: Service::Log };
        let records = metrics.records.get_or_create_owned(&log);
        let bytes = metrics.bytes.get_or_create_owned(&log);
        let host = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned());
        Self { stream, sieve, members, host, records, bytes }
    }

    /// Whose lines those of a path are.
    pub fn origin(&self, path: &Path) -> Arc<Origin> {
        let (pod, container) = (self.host.clone(), path.to_string_lossy().into_owned());
        Arc::new(Origin { pod, container, ..Origin::default() })
    }

    /// Lines that stand in `data`, together.
    pub fn publish(&self, origin: &Arc<Origin>, data: Bytes, lines: Vec<Line>) {
        let batch = Arc::new(Batch::new(Arc::clone(origin), data, lines));
        let Some(kept) = self.sieve.apply(&batch) else { return };
        self.records.inc_by(kept.len() as u64);
        self.bytes.inc_by(kept.text_len() as u64);
        self.stream.publish(kept);
    }

    /// A file is in the stream from now on.
    pub fn added(&self, path: &Arc<Path>, origin: &Arc<Origin>) {
        self.members.change(|origins| drop(origins.insert(Arc::clone(path), Arc::clone(origin))));
        let text = format!("File ADDED: {}", path.display());
        self.tell(Level::Info, Event::Added, Some(origin), "", text);
    }

    /// A file is in the stream no more.
    pub fn deleted(&self, path: &Arc<Path>, origin: &Arc<Origin>) {
        self.members.change(|origins| drop(origins.remove(path)));
        let text = format!("File DELETED: {}", path.display());
        self.tell(Level::Info, Event::Deleted, Some(origin), "", text);
    }

    /// Something happened, for this reason.
    pub fn tell(&self, level: Level, event: Event, origin: Option<&Arc<Origin>>, reason: &str, text: String) {
        let mut signal = Signal::new(level, event, Time::now(), text).because(reason);
        signal.origin = origin.cloned();
        self.stream.signal(signal);
    }

    /// What there is to follow is known.
    pub fn listed(&self) {
        self.members.listed.send_if_modified(|listed| !std::mem::replace(listed, true));
    }
}
