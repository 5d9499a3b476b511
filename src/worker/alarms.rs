//! The rules of declared streams: what binds them to their stream and their receivers.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::api::{RuleSpec, Service};
use crate::rule::{Firing, Identity, Receivers, RuleError, RuleSet, Subject, Watch, WatchContext};
use crate::stream::{LiveStream, StreamName, Tap, TapGuard};

/// How many rules that fired may wait for those who listen; the rest they miss.
const FIRINGS: usize = 256;

/// What the rules of all declared streams have in common.
#[derive(Debug)]
pub struct Alarms {
    identity: Identity,
    receivers: Arc<Receivers>,
    firings: broadcast::Sender<Firing>,
}

impl Alarms {
    /// Alarms that this Weir, known as `identity`, gives to `receivers`.
    pub fn new(identity: impl Into<Arc<str>>, receivers: Arc<Receivers>) -> Arc<Self> {
        Arc::new(Self { identity: Identity::new(identity), receivers, firings: broadcast::channel(FIRINGS).0 })
    }

    /// By which name this Weir is known from now on.
    pub fn known_as(&self, identity: &str) {
        self.identity.set(identity);
    }

    /// By which name this Weir is known.
    pub fn identity(&self) -> Arc<str> {
        self.identity.get()
    }

    /// The receivers.
    pub fn receivers(&self) -> &Arc<Receivers> {
        &self.receivers
    }

    /// Each rule that fires from now on. Who lags misses some.
    pub fn firings(&self) -> broadcast::Receiver<Firing> {
        self.firings.subscribe()
    }

    /// What watches a stream with these rules, once it is bound to it.
    pub(super) fn watch(
        &self,
        name: &StreamName,
        service: Service,
        rules: &[RuleSpec],
    ) -> Result<Arc<Watch>, RuleError> {
        let context = WatchContext {
            identity: self.identity.clone(),
            stream: name.clone(),
            subject: if service == Service::Signal { Subject::Signals } else { Subject::Records },
            receivers: Arc::clone(&self.receivers),
            firings: self.firings.clone(),
        };
        Ok(Arc::new(Watch::new(RuleSet::compile(rules)?, context)))
    }
}

/// The rules of one stream at work; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    rules: Vec<RuleSpec>,
    watch: Arc<Watch>,
    _tap: TapGuard,
}

impl Watched {
    /// Lets `watch`, made of these rules, see all that is published to `stream` from now on.
    pub(super) fn new(rules: Vec<RuleSpec>, watch: Arc<Watch>, stream: &LiveStream) -> Self {
        let tap: Arc<dyn Tap> = Arc::clone(&watch) as _;
        Self { rules, watch, _tap: stream.tap(tap) }
    }

    /// The watch, where it is made of these rules: its windows and cooldowns go on.
    pub(super) fn watch_of(&self, rules: &[RuleSpec]) -> Option<Arc<Watch>> {
        (self.rules == rules).then(|| Arc::clone(&self.watch))
    }
}
