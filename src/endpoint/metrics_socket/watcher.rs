//! One metrics socket, from its first snapshot to its close.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::Due;
use super::board::Own;
use super::declared::Watched;
use super::fields::Fields;
use super::history::History;
use super::message::{self, Subscription};
use crate::access::{ConnectionPermit, Denied, Key, KeyState, StreamPermit};
use crate::api::{Scope, Service};
use crate::endpoint::ask::Ask;
use crate::endpoint::reply::Problem;
use crate::endpoint::services::Services;
use crate::endpoint::websocket::{Close, End, Event, Socket, Text};
use crate::record::Time;
use crate::stream::StreamName;
use crate::telemetry::{Category, Dropped, DroppedLabels};

/// What a socket watches.
pub(super) enum Subject {
    /// The server's own numbers, and their past.
    Server(Own, Arc<History>),
    /// A declared stream.
    Stream(Box<Watched>),
}

impl Subject {
    /// Watches what the client asks for from now on.
    fn subscribe(&mut self, wish: &Subscription) -> Result<(), String> {
        match self {
            Self::Server(own, _) => own.watch(Fields::named(&wish.metrics)?, wish.interval),
            Self::Stream(watched) => watched.subscribe(wish)?,
        }
        Ok(())
    }

    /// The snapshot of now; none where the stream has no values yet.
    fn snapshot(&mut self) -> Option<Text> {
        match self {
            Self::Server(own, _) => Some(own.snapshot()),
            Self::Stream(watched) => watched.snapshot(),
        }
    }

    fn history(&self, now: Time) -> Box<dyn Iterator<Item = Text> + Send> {
        match self {
            Self::Server(own, history) => Box::new(history.told(own.fields(), now).into_iter()),
            Self::Stream(watched) => Box::new(watched.history(now)),
        }
    }

    async fn due(&mut self) -> Due {
        match self {
            Self::Server(own, _) => Due::Snapshot { skipped: own.turn().await },
            Self::Stream(watched) => watched.due().await,
        }
    }

    /// Waits until what is watched is no more, even while nothing may be sent.
    fn cut(&self) -> impl Future<Output = String> + Send + use<> {
        let cut = match self {
            Self::Server(..) => None,
            Self::Stream(watched) => Some(watched.cut()),
        };
        async move {
            match cut {
                Some(cut) => cut.await,
                None => std::future::pending().await,
            }
        }
    }
}

/// The key of a socket, what it was asked for, and its place under the key's limits.
pub(super) struct Keyed {
    key: Arc<Key>,
    origin: Option<String>,
    stream: Option<StreamName>,
    _permits: (ConnectionPermit, StreamPermit),
}

impl Keyed {
    /// The key of a request, where it grants to watch this stream, or the server's own numbers.
    pub fn admit(services: &Services, asked: &Ask, stream: Option<StreamName>) -> Result<Self, Problem> {
        let key = asked.admit(services)?;
        may(services, &key, stream.as_ref()).inspect_err(|denied| services.count_refusal(denied))?;
        let permits = (key.usage().connect()?, key.usage().open_stream()?);
        Ok(Self { key, origin: asked.origin().map(str::to_owned), stream, _permits: permits })
    }

    /// Goes on with the key as it is now, where that grants the same.
    fn renew(&mut self, services: &Services, state: KeyState) -> Result<(), Denied> {
        let now = Time::now();
        if state != KeyState::Changed {
            return self.key.is_live(now);
        }
        let key = services.keyring.successor(&self.key, now)?;
        key.allows_origin(self.origin.as_deref())?;
        may(services, &key, self.stream.as_ref())?;
        self.key = key;
        Ok(())
    }
}

/// For the server's own numbers, which say nothing of anybody's pods, the least scope is enough. A declared stream takes
/// the scope that follows it by any other way, too.
fn may(services: &Services, key: &Key, stream: Option<&StreamName>) -> Result<(), Denied> {
    let (authoriser, service) = (&services.authoriser, Service::Metrics);
    match stream {
        None => authoriser.authorise_service(key, service, Scope::Snapshot),
        Some(name) => authoriser.authorise_stream(key, service, Scope::Stream, &name.namespace, &name.name),
    }
}

/// Why a socket comes to its end.
enum Over {
    /// The client, or the server as a whole, ends it.
    End(End),
    /// This is told, and then closed with.
    Close(Category, String),
    /// What was watched is no more.
    Done(String),
}

impl From<End> for Over {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// What a socket wakes up for.
enum Woken {
    Due(Due),
    Key(KeyState),
    Heartbeat,
}

/// See the module.
pub(super) struct Watcher {
    services: Arc<Services>,
    key: Option<Keyed>,
    subject: Subject,
    /// When something was last sent.
    said: Instant,
    /// When what was sent is paid for under the key's limits.
    paid: Option<Instant>,
}

impl Watcher {
    pub fn new(services: Arc<Services>, key: Option<Keyed>, subject: Subject) -> Self {
        Self { services, key, subject, said: Instant::now(), paid: None }
    }

    pub async fn run(mut self, mut socket: Socket) {
        // There is nothing to start: a client that only listens is a good one.
        socket.started();
        let Err(over) = self.serve(&mut socket).await;
        match over {
            Over::End(End::Draining) => {
                if socket.feed(message::error("Weir is shutting down; connect again.")).await.is_ok() {
                    socket.end(End::Draining).await;
                }
            }
            Over::End(end) => socket.end(end).await,
            Over::Close(category, text) => part(socket, &text, Close::because(category, text.as_str())).await,
            Over::Done(text) => part(socket, &text, Close::done(text.as_str())).await,
        }
    }

    /// Never returns without a reason.
    async fn serve(&mut self, socket: &mut Socket) -> Result<std::convert::Infallible, Over> {
        self.show(socket).await?;
        loop {
            match socket.next(self.wake()).await {
                Event::Text(text) => self.hear(text.as_str(), socket).await?,
                Event::Binary(_) => self.complain("Invalid subscription: send text, not binary", socket).await?,
                Event::Work(Woken::Heartbeat) => self.say(message::heartbeat(Time::now()), socket).await?,
                Event::Work(Woken::Key(state)) => self.renew(state)?,
                Event::Work(Woken::Due(Due::Problem(text))) => self.complain(&text, socket).await?,
                Event::Work(Woken::Due(Due::Ended(text))) => return Err(Over::Done(text)),
                Event::Work(Woken::Due(Due::Snapshot { skipped })) => {
                    self.skip(skipped);
                    self.show(socket).await?;
                }
                Event::End(end) => return Err(end.into()),
            }
        }
    }

    /// Waits until there is something to do. Cancel-safe.
    async fn wake(&mut self) -> Woken {
        let (quiet, paid, subject) = (self.said + self.services.options.heartbeat, self.paid, &mut self.subject);
        let key = self.key.as_ref().map(|keyed| Arc::clone(&keyed.key));
        let ended = async {
            match key {
                Some(key) => key.ended().await,
                None => std::future::pending().await,
            }
        };
        let cut = subject.cut();
        let due = async {
            if let Some(at) = paid {
                tokio::select! {
                    text = cut => return Due::Ended(text),
                    () = sleep_until(at) => {}
                }
            }
            subject.due().await
        };
        tokio::select! {
            biased;
            state = ended => Woken::Key(state),
            due = due => Woken::Due(due),
            () = sleep_until(quiet) => Woken::Heartbeat,
        }
    }

    fn renew(&mut self, state: KeyState) -> Result<(), Over> {
        let Some(keyed) = &mut self.key else { return Ok(()) };
        keyed.renew(&self.services, state).map_err(|denied| {
            tracing::info!(key = %keyed.key.id(), ?state, "A metrics socket is closed: its key changed");
            Over::Close(Category::Denied, format!("Access denied: {denied}"))
        })
    }

    async fn hear(&mut self, text: &str, socket: &mut Socket) -> Result<(), End> {
        let wish = Subscription::parse(text);
        let accepted = wish.and_then(|wish| self.subject.subscribe(&wish).map(|()| wish));
        let wish = match accepted {
            Ok(wish) => wish,
            Err(problem) => return self.complain(&problem, socket).await,
        };
        if wish.history {
            for series in self.subject.history(Time::now()) {
                self.feed(series, socket).await?;
            }
        }
        self.show(socket).await?;
        // There may have been no snapshot to show.
        socket.flush().await
    }

    async fn show(&mut self, socket: &mut Socket) -> Result<(), End> {
        let Some(snapshot) = self.subject.snapshot() else { return Ok(()) };
        self.services.metrics.snapshots_sent.inc();
        self.say(snapshot, socket).await
    }

    async fn complain(&mut self, text: &str, socket: &mut Socket) -> Result<(), End> {
        self.say(message::error(text), socket).await
    }

    async fn say(&mut self, text: Text, socket: &mut Socket) -> Result<(), End> {
        self.feed(text, socket).await?;
        socket.flush().await
    }

    async fn feed(&mut self, text: Text, socket: &mut Socket) -> Result<(), End> {
        if let Some(keyed) = &self.key {
            let now = Instant::now();
            let wait = keyed.key.usage().charge(1, text.len() as u64, now.into_std());
            self.paid = (!wait.is_zero()).then(|| now + wait);
        }
        socket.feed(text).await?;
        self.said = Instant::now();
        Ok(())
    }

    /// Counts snapshots that were not sent: because of the key's limits, or because the client took nothing meanwhile.
    fn skip(&self, skipped: u64) {
        let reason = if self.paid.is_some() { Dropped::RateLimit } else { Dropped::Superseded };
        self.services.metrics.dropped.get_or_create(&DroppedLabels { reason }).inc_by(skipped);
    }
}

/// Says why, in full where a close frame has not the room, then closes.
async fn part(mut socket: Socket, text: &str, close: Close) {
    if socket.feed(message::error(text)).await.is_ok() {
        socket.close(close).await;
    }
}
