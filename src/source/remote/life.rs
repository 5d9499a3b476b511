//! The life of a connection, whatever it speaks: connect, read, end, wait, again.
//!
//! ```text
//!   attempt ──► up ──► over ──► wait: the delay, with jitter ──► attempt
//!      └─ failed ───────────► wait: twice as long each time, to 60 s
//! ```
//!
//! What changes is told by a signal, once for each change and not for each attempt.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::RngExt;

use super::error::RemoteError;
use super::members::{Connected, Member, Members};
use crate::record::{Event, Level, Origin, Signal, Time};
use crate::source::Sieve;
use crate::source::feed::Feed;
use crate::stream::LiveStream;
use crate::telemetry::{Metrics, Outcome, Reconnect, ReconnectLabels, UpstreamKind, UpstreamLabels};

/// The longest wait between two attempts that Weir chooses by itself.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// The shortest wait that a server may ask for.
const SHORTEST_ASKED: Duration = Duration::from_millis(100);
/// The shortest wait at all: validation allows none below 100 ms, and one that was never validated shall not spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// What a connection speaks.
pub(super) trait Session: Send {
    /// Connects, reads until there is no more, and says why. Tells `link` when it is connected. Cancelled by dropping.
    fn attempt<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<Over, RemoteError>>;
}

/// How a connection ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The other side ended it in good order.
    Ended,
    /// The other side says that there will never be more.
    Finished,
}

/// What a connection has to do with its stream.
pub(super) struct Link {
    stream: Arc<LiveStream>,
    origin: Arc<Origin>,
    sieve: Arc<Sieve>,
    metrics: Arc<Metrics>,
    members: Arc<Members>,
    backoff: Backoff,
    member: Option<Member>,
    up: Option<Connected>,
    /// It was told that the connection is lost, and not yet that it is back.
    lost: bool,
    /// The reasons that were told since it was up.
    told: Vec<&'static str>,
}

impl Link {
    pub fn new(
        stream: Arc<LiveStream>,
        origin: Arc<Origin>,
        (sieve, metrics, members): (Arc<Sieve>, Arc<Metrics>, Arc<Members>),
        delay: Duration,
    ) -> Self {
        let backoff = Backoff::new(delay);
        let (member, up) = (None, None);
        Self { stream, origin, sieve, metrics, members, backoff, member, up, lost: false, told: Vec::new() }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// A way into the stream for what this end sends.
    pub fn feed(&self) -> Feed {
        self.feed_of(&self.origin)
    }

    /// A way into the stream for what another end sends.
    pub fn feed_of(&self, origin: &Arc<Origin>) -> Feed {
        Feed::new(Arc::clone(&self.stream), Arc::clone(origin), Arc::clone(&self.sieve), &self.metrics)
    }

    /// What the server asks for instead of the delay of the spec.
    pub fn delay(&mut self, delay: Duration) {
        self.backoff.rest(delay);
    }

    pub fn signal(&self, level: Level, event: Event, origin: &Arc<Origin>, text: String, reason: &str) {
        self.stream.signal(Signal::new(level, event, Time::now(), text).about(origin).because(reason));
    }

    /// The connection is there.
    pub fn connected(&mut self) {
        if self.up.is_some() {
            return;
        }
        self.count(Outcome::Ok);
        self.metrics.upstream_follows.inc();
        self.up = Some(self.members.connect());
        self.told.clear();
        let name = self.name();
        if self.member.is_none() {
            self.member = Some(self.members.join(&self.origin));
            self.signal(Level::Info, Event::Added, &self.origin, format!("Remote source ADDED: {name}"), "");
        } else if self.lost {
            self.signal(Level::Info, Event::Reconnected, &self.origin, format!("{name} is connected again."), "");
        }
        self.lost = false;
        tracing::debug!(remote = %name, "connected");
    }

    /// The attempt is over: tells it, and how long to wait before the next. `None` where there shall be none.
    fn over(&mut self, over: &Result<Over, RemoteError>) -> Option<Duration> {
        let was_up = self.up.take().is_some();
        if was_up {
            self.metrics.upstream_follows.dec();
            self.backoff.reset();
        }
        let name = self.name();
        let (reason, why) = match over {
            Ok(Over::Finished) => {
                self.member = None;
                let text = format!("Remote source DELETED: {name} says that there will be no more (204).");
                self.signal(Level::Info, Event::Deleted, &self.origin, text, "Finished");
                return None;
            }
            Ok(Over::Ended) => ("Ended", "the server ended it".to_owned()),
            Err(error) => (error.reason(), error.to_string()),
        };
        if let Err(error) = over
            && !was_up
        {
            self.count(error.outcome());
        }
        let counted = over.as_ref().map_or_else(RemoteError::reconnect, |_| Reconnect::EndedEarly);
        self.metrics.upstream_reconnects.get_or_create(&ReconnectLabels { reason: counted }).inc();
        self.tell(was_up, reason, &why);
        let wait = self.backoff.next(rand::rng().random_range(0.0..=1.0));
        let asked = over.as_ref().err().and_then(RemoteError::retry_after).unwrap_or_default();
        Some(wait.max(asked.min(LONGEST_ASKED)))
    }

    fn tell(&mut self, was_up: bool, reason: &'static str, why: &str) {
        let name = self.name();
        if was_up {
            self.lost = true;
            self.told.push(reason);
            tracing::info!(remote = %name, %why, "a connection is over; connecting again");
            let text = format!("The connection to {name} is over: {why}. Weir connects again.");
            self.signal(Level::Warning, Event::Reconnecting, &self.origin, text, reason);
        } else if !self.told.contains(&reason) {
            self.told.push(reason);
            tracing::warn!(remote = %name, %why, "cannot connect; trying again");
            let text = format!("{name} cannot be read: {why}. Weir goes on trying.");
            self.signal(Level::Error, Event::SourceError, &self.origin, text, reason);
        }
    }

    fn count(&self, outcome: Outcome) {
        let labels = UpstreamLabels { kind: UpstreamKind::Follow, outcome };
        self.metrics.upstream_requests.get_or_create(&labels).inc();
    }

    fn name(&self) -> String {
        format!("{} ({})", self.origin.pod, self.origin.container)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.up.take().is_some() {
            self.metrics.upstream_follows.dec();
        }
    }
}

/// Keeps a connection up until it is finished. Cancelled by dropping.
pub(super) async fn live(mut session: impl Session, mut link: Link) {
    loop {
        let over = session.attempt(&mut link).await;
        match link.over(&over) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return,
        }
    }
}

/// Waits that grow while connecting keeps failing.
#[derive(Debug)]
pub(super) struct Backoff {
    base: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(base: Duration) -> Self {
        let base = base.max(SHORTEST_WAIT);
        Self { base, next: base }
    }

    /// From now on the first wait is this, within bounds.
    fn rest(&mut self, base: Duration) {
        self.base = base.clamp(SHORTEST_ASKED, LONGEST_WAIT);
        self.next = self.base;
    }

    fn reset(&mut self) {
        self.next = self.base;
    }

    /// The next wait: between it and a quarter more, so that many who lost the same server do not come back together,
    /// and never more than 60 s, or the delay of the spec where that is longer. `chance` is from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let most = LONGEST_WAIT.max(self.base);
        let wait = self.next.mul_f64(1.0 + chance / 4.0).min(most);
        self.next = self.next.saturating_mul(2).min(most);
        wait
    }
}
