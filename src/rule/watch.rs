//! What sees every record of a stream on behalf of its rules.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::alert::{Alert, Identity, clip_bytes, escaped};
use super::delivery::{Delivery, Receipt};
use super::ledger::{Ledger, Pace};
use super::receivers::{ReceiverName, Receivers};
use super::set::{Rule, RuleSet};
use crate::record::{Batch, Event, Level, Origin, Signal, Time};
use crate::stream::{LiveStream, StreamName, Tap};

/// How much of a message stands in the signal.
const SIGNAL_BYTES: usize = 1024;

/// A rule that fired, for those who tell of it elsewhere. It holds nothing of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// In which stream.
    pub stream: StreamName,
    /// Which rule.
    pub rule: String,
    /// Who wrote the record.
    pub source: String,
}

/// What of a stream is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Its records.
    Records,
    /// Its signals, as `EVENT REASON: TEXT`, for a stream that has nothing else.
    Signals,
}

/// Where a watch stands, and whom it tells.
#[derive(Clone, Debug)]
pub struct WatchContext {
    /// The name of this Weir.
    pub identity: Identity,
    /// The stream.
    pub stream: StreamName,
    /// What of it is watched.
    pub subject: Subject,
    /// The receivers, of which the rules name those of the stream's namespace.
    pub receivers: Arc<Receivers>,
    /// Who else hears of each rule that fires. One that lags misses some.
    pub firings: broadcast::Sender<Firing>,
}

/// Sees all that a stream carries and says when a rule fires. Its own signals it never looks at.
#[derive(Debug)]
pub struct Watch {
    set: RuleSet,
    ledger: Arc<Mutex<Ledger>>,
    context: WatchContext,
    stream: String,
}

impl Watch {
    /// A watch with these rules.
    pub fn new(set: RuleSet, context: WatchContext) -> Self {
        let pace = |rule: &Rule| Pace { threshold: rule.threshold, cooldown: rule.cooldown };
        let ledger = Arc::new(Mutex::new(Ledger::new(set.rules().iter().map(pace).collect())));
        let stream = context.stream.to_string();
        Self { set, ledger, context, stream }
    }

    /// A rule fires: the stream is told, it is counted, and the receivers get the alert.
    fn fire(&self, stream: &LiveStream, fired: Fired<'_>) {
        let message = fired.message(&self.stream);
        let Fired { rule, at, time, source, origin, number, .. } = fired;
        let now = Instant::now();
        let context = &self.context;
        let alert = Arc::new(Alert {
            identity: context.identity.get().to_string(),
            rule: rule.name.clone(),
            message,
            time,
            stream: self.stream.clone(),
            source: source.to_string(),
        });
        let text = format!("The rule {} fired: {}", rule.name, clip_bytes(&escaped(&alert.message), SIGNAL_BYTES));
        let signal = Signal::new(Level::Warning, Event::RuleFired, Time::now(), text);
        let signal = signal.because(rule.name.as_str());
        stream.signal(match origin {
            Some(origin) => signal.about(origin),
            None => signal,
        });
        context.receivers.metrics().rules_fired.inc();
        let receipt = Receipt::new(Arc::clone(&self.ledger), at, Arc::clone(source), number);
        for name in &rule.receivers {
            let name = ReceiverName::new(&context.stream.namespace, name);
            let delivery = Delivery { alert: Arc::clone(&alert), receipt: receipt.clone(), since: now };
            context.receivers.send(&name, delivery);
        }
        // Nobody may be listening.
        let _ = context.firings.send(Firing {
            stream: context.stream.clone(),
            rule: rule.name.clone(),
            source: source.to_string(),
        });
    }
}

/// A rule that fires, and what made it.
struct Fired<'a> {
    rule: &'a Rule,
    at: usize,
    time: Time,
    text: &'a [u8],
    source: &'a Arc<str>,
    origin: Option<&'a Arc<Origin>>,
    number: u64,
}

impl Fired<'_> {
    fn message(&self, stream: &str) -> String {
        self.rule.message(self.text, stream, self.source)
    }
}

impl Watch {
    /// Looks at one text; `source` says who wrote it, where that is needed.
    fn look(
        &self,
        stream: &LiveStream,
        (text, time): (&[u8], Time),
        origin: Option<&Arc<Origin>>,
        source: impl FnOnce() -> Arc<str>,
    ) {
        let Some(matches) = self.set.matches(text) else { return };
        let source = &source();
        for at in matches {
            // Not held while the rule fires: what becomes of the alert is noted in the same ledger.
            let number = self.ledger.lock().matched(at, source, time, Instant::now());
            if let (Some(number), Some(rule)) = (number, self.set.rules().get(at)) {
                self.fire(stream, Fired { rule, at, time, text, source, origin, number });
            }
        }
    }
}

impl Tap for Watch {
    fn records(&self, stream: &LiveStream, batch: &Arc<Batch>) {
        if self.context.subject != Subject::Records {
            return;
        }
        // Written out at the first match, which most batches have not.
        let mut path: Option<Arc<str>> = None;
        for line in batch.lines() {
            let source = || Arc::clone(path.get_or_insert_with(|| batch.origin().path().into()));
            self.look(stream, (batch.text(line), line.time), Some(batch.origin()), source);
        }
    }

    fn signal(&self, stream: &LiveStream, signal: &Arc<Signal>) {
        if self.context.subject != Subject::Signals || signal.event == Event::RuleFired {
            return;
        }
        let reason = signal.reason.as_deref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let text = format!("{}{reason}: {}", signal.event.as_str(), signal.text);
        let source = || match (&signal.origin, &signal.regarding) {
            (Some(origin), _) => origin.path().into(),
            (None, Some(object)) => format!("{}/{}/{}", object.namespace, object.kind, object.name).into(),
            (None, None) => self.stream.as_str().into(),
        };
        self.look(stream, (text.as_bytes(), signal.time), signal.origin.as_ref(), source);
    }
}
