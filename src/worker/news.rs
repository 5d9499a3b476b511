//! What happens to declared subscriptions, for whoever wants to hear of all of them: their signals, their conditions,
//! and that something about them changed. Nothing waits for a listener; one that is too slow misses some, and learns
//! how many.

use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::api::Service;
use crate::api::condition::{Reason, Status};
use crate::record::{Batch, Signal, Time};
use crate::stream::{LiveStream, StreamName, Tap, TapGuard};

/// News that may wait for a listener; who lags further misses the oldest.
const WAITING: usize = 1024;

/// Something that happened to a subscription.
#[derive(Clone, Debug)]
pub struct News {
    /// The subscription.
    pub stream: StreamName,
    /// Its object's UID.
    pub uid: Arc<str>,
    /// The service that a key must be granted to read it, where that is known.
    pub service: Option<Service>,
    /// What happened.
    pub what: Happened,
}

/// What happened to a subscription.
#[derive(Clone, Debug)]
pub enum Happened {
    /// Something that its listing shows: it came, went, was changed, or follows more or less than before.
    Changed,
    /// A signal was published in its stream.
    Signal {
        /// The same for everybody who hears of it.
        id: Uuid,
        /// The signal.
        signal: Arc<Signal>,
    },
    /// Whether it is ready changed.
    Condition {
        /// The same for everybody who hears of it.
        id: Uuid,
        /// When.
        time: Time,
        /// What is the case now.
        standing: Standing,
    },
}

/// How it stands with a subscription, as its Ready condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is ready.
    pub ready: Status,
    /// Whether a person must act.
    pub stalled: bool,
    /// Why, as one word.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
}

/// Where news is told and heard.
#[derive(Debug)]
pub(super) struct Newsroom(broadcast::Sender<Arc<News>>);

impl Newsroom {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(WAITING).0)
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<News>> {
        self.0.subscribe()
    }

    pub(super) fn tell(&self, news: News) {
        // Nobody listening is no fault.
        let _ = self.0.send(Arc::new(news));
    }

    /// Tells the signals of a stream, for as long as the guard is kept.
    pub(super) fn tap(&self, stream: StreamName, uid: &str, service: Service, live: &LiveStream) -> TapGuard {
        live.tap(Arc::new(Teller { stream, uid: uid.into(), service, news: self.0.clone() }))
    }
}

/// Tells the signals of one stream.
#[derive(Debug)]
struct Teller {
    stream: StreamName,
    uid: Arc<str>,
    service: Service,
    news: broadcast::Sender<Arc<News>>,
}

impl Tap for Teller {
    fn records(&self, _: &LiveStream, _: &Arc<Batch>) {}

    fn signal(&self, _: &LiveStream, signal: &Arc<Signal>) {
        if self.news.receiver_count() == 0 {
            return;
        }
        let what = Happened::Signal { id: Uuid::new_v4(), signal: Arc::clone(signal) };
        let (stream, uid) = (self.stream.clone(), Arc::clone(&self.uid));
        let _ = self.news.send(Arc::new(News { stream, uid, service: Some(self.service), what }));
    }
}
