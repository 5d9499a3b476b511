//! `GET /api/v1/streams/:namespace/:name/events`: a declared stream as server-sent events, and without `/events` as
//! plain lines. Both go on where `Last-Event-ID` left off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use tokio::time::{sleep, timeout};
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::counted::Counted;
use super::reply::Problem;
use super::services::Services;
use super::sse::{self, Form};
use super::stream_frames::{Frames, behind};
use super::subscriptions::{Sees, no_such_stream, reading};
use crate::access::{ConnectionPermit, Denied, Key, KeyState, StreamPermit};
use crate::api::Service;
use crate::record::Time;
use crate::stream::{Delivery, From, Gate, Located, ReadFrom, Reader, Seq, Start, StreamName};
use crate::telemetry::Category;

/// How much is gathered into one chunk, in bytes, before it is sent.
const CHUNK: usize = 64 * 1024;

/// How often a reader that waits for the past looks whether it is over.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    warp::path!("api" / "v1" / "streams" / ..)
        .and(warp::get())
        .and(warp::path::tail())
        .and(ask::ask())
        .map(move |tail: Tail, asked: Ask| ask::answer(open(&services, &tail, &asked)))
        .boxed()
}

fn open(services: &Arc<Services>, tail: &Tail, asked: &Ask) -> Result<Response, Problem> {
    let path = ask::segments(tail)?;
    let (name, form) = match path.as_slice() {
        [namespace, name] => (StreamName::new(namespace, name), Form::Lines),
        [namespace, name, events] if events == "events" => (StreamName::new(namespace, name), Form::Events),
        _ => return Err(Problem::not_found()),
    };
    let key = asked.admit(services)?;
    let located = services.declared.catalogue().locate(&name);
    let service = located.as_ref().map(|located| located.service);
    let sees = reading(services, &key, &name, service).inspect_err(|denied| services.count_refusal(denied))?;
    let wish = Wish::of(asked)?;
    let located = located.ok_or_else(no_such_stream)?;
    let permits = (key.usage().connect()?, key.usage().open_stream()?);
    let mut reader = Counted::new(wish.open(&located), &services.metrics);
    reader.deliver_at_most(key.records_of_a_delivery());
    let epoch = reader.epoch();
    let follow = Follow {
        services: Arc::clone(services),
        origin: asked.origin().map(str::to_owned),
        name,
        service: located.service,
        gate: located.gate,
        place: Some(reader.position()),
        reader,
        key,
        frames: Frames::new(form, epoch, sees),
        ended: false,
        _permits: permits,
    };
    let mut farewell = Frames::new(form, epoch, sees);
    farewell.last_words(Time::now(), "Weir is shutting down; connect again to go on from the last id.");
    let frames = stream::unfold(follow, Follow::next);
    Ok(sse::respond(form, frames, farewell.take(), &services.options.events, &services.drain, &services.metrics))
}

/// Where a client wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Behind a record that it has.
    Resume(ReadFrom),
    /// With so much of the past.
    Past(From),
}

impl Wish {
    /// The header comes before the parameter, and both before all others: they come from a client that reconnects
    /// to the URL that it began with.
    fn of(asked: &Ask) -> Result<Self, Problem> {
        let invalid = |text: String| Problem::new(Category::Invalid, text);
        let id = asked.header("last-event-id")?.or(asked.parameter("lastEventId")).filter(|id| !id.is_empty());
        if let Some(id) = id {
            return behind(id).map(Self::Resume).map_err(|error| invalid(error.to_string()));
        }
        let lines = match asked.parameter("tail") {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| invalid("tail is not a number of lines".into()))?),
        };
        let from_start = match asked.parameter("fromStart") {
            None | Some("false") => false,
            Some("true" | "") => true,
            Some(_) => return Err(invalid("fromStart is neither true nor false".into())),
        };
        let start = match asked.parameter("since") {
            Some(text) => match text.parse() {
                Ok(time) => Start::At(Time::from_jiff(time)),
                Err(_) => return Err(invalid("since is not a time: write it like 2026-11-03T09:30:00Z".into())),
            },
            None if from_start || lines.is_some_and(|lines| lines > 0) => Start::Beginning,
            None => Start::Now,
        };
        Ok(Self::Past(From { start, lines, previous: false }))
    }

    fn open(self, located: &Located) -> Reader {
        match self {
            Self::Resume(from) => located.resume(from),
            Self::Past(from) => located.read(from),
        }
    }
}

/// One response that follows a stream.
struct Follow {
    services: Arc<Services>,
    origin: Option<String>,
    name: StreamName,
    service: Service,
    gate: Gate,
    /// Where the reader began in the ring, until the client was told.
    place: Option<Seq>,
    reader: Counted,
    key: Arc<Key>,
    frames: Frames,
    ended: bool,
    _permits: (ConnectionPermit, StreamPermit),
}

/// What a reader woke up for.
enum Woken {
    Delivery(Delivery),
    Key(KeyState),
    Look,
}

impl Follow {
    /// The next chunk, as soon as there is anything; as much of it as is there and fits. `None` after the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        while !self.ended {
            self.tell_place();
            match self.wake().await {
                Woken::Look => {}
                Woken::Key(state) => self.renew(state),
                Woken::Delivery(delivery) => {
                    self.tell_place();
                    let wait = self.gather(delivery);
                    self.pay(wait).await;
                }
            }
            if self.frames.len() > 0 {
                break;
            }
        }
        (self.frames.len() > 0).then(|| (self.frames.take(), self))
    }

    async fn wake(&mut self) -> Woken {
        // What the place is told with does not wait for a record.
        if self.frames.len() > 0 {
            return self.reader.try_next().map_or(Woken::Look, Woken::Delivery);
        }
        let next = async {
            match self.place {
                None => Woken::Delivery(self.reader.next().await),
                Some(_) => timeout(LOOK, self.reader.next()).await.map_or(Woken::Look, Woken::Delivery),
            }
        };
        tokio::select! {
            biased;
            state = self.key.ended() => Woken::Key(state),
            woken = next => woken,
        }
    }

    /// Tells the client where it stands as soon as the past is over.
    fn tell_place(&mut self) {
        if self.reader.is_live()
            && let Some(place) = self.place.take()
        {
            self.frames.place(place);
        }
    }

    /// Adds a delivery and what is there already behind it, up to a chunk, and of a key with limits no more than is
    /// paid for; how long to wait before it is sent.
    fn gather(&mut self, first: Delivery) -> Duration {
        let mut next = Some(first);
        while let Some(delivery) = next {
            let (records, bytes) = (self.frames.records(), self.frames.len());
            self.reader.note(&delivery);
            self.ended |= matches!(delivery, Delivery::End(_));
            self.frames.push(&delivery);
            let (records, bytes) = (self.frames.records() - records, self.frames.len() - bytes);
            let wait = self.key.usage().charge(records, bytes as u64, Instant::now());
            if self.ended || !wait.is_zero() || self.frames.len() >= CHUNK {
                return wait;
            }
            next = self.reader.try_next();
        }
        Duration::ZERO
    }

    /// Waits for as long as the key's limits ask for what is about to be sent. Who is cut meanwhile does not get it.
    async fn pay(&mut self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let paid = sleep(wait);
        tokio::pin!(paid);
        while !self.ended {
            tokio::select! {
                biased;
                state = self.key.ended() => self.renew(state),
                end = self.gate.closed() => {
                    self.frames.clear();
                    self.ended = true;
                    self.frames.end(&end.text);
                }
                () = &mut paid => return,
            }
        }
    }

    /// The key ended: goes on with its successor where that still grants the stream, else says why not.
    fn renew(&mut self, state: KeyState) {
        if let Err(denied) = self.try_renew(state) {
            self.frames.clear();
            self.frames.last_words(Time::now(), &denied.to_string());
            self.ended = true;
        }
    }

    fn try_renew(&mut self, state: KeyState) -> Result<(), Denied> {
        let now = Time::now();
        if state != KeyState::Changed {
            return self.key.is_live(now);
        }
        let key = self.services.keyring.successor(&self.key, now)?;
        key.allows_origin(self.origin.as_deref())?;
        let sees = reading(&self.services, &key, &self.name, Some(self.service))?;
        if sees == Sees::Signals && self.frames.records() > 0 {
            // They waited for the key's limits, and it reads no records any more.
            self.frames.clear();
        }
        self.frames.show(sees);
        self.reader.deliver_at_most(key.records_of_a_delivery());
        self.key = key;
        Ok(())
    }
}
