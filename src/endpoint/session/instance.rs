//! One instance: what one start message began, on its way from a reader to a socket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use regex::bytes::RegexSet;

use super::answer::{self, AlertLine};
use super::message::Dialect;
use crate::access::{Authoriser, Denied, Key, KeyRing, KeyState, PodPermit, StreamPermit};
use crate::api::{CompiledSelection, Scope, Service};
use crate::endpoint::counted::Counted;
use crate::endpoint::websocket::{End, Socket, Text};
use crate::record::{Batch, Encoded, Event, Level, Origin, Reading, Signal, Time, Wire, encode};
use crate::stream::{Backlog, Delivery, StreamName};
use crate::worker::Lease;

/// What an instance delivers beside signals, which all deliver.
#[derive(Debug)]
pub(super) enum Delivers {
    /// Log lines.
    Log {
        /// In this format.
        wire: Wire,
        /// With this before each message.
        prefix: Vec<u8>,
    },
    /// Rounds of numbers.
    Readings {
        /// In this format.
        wire: Wire,
        /// With this before each message.
        prefix: Vec<u8>,
        /// Whether the next tells its time: the first does not, in the channel dialects.
        timed: bool,
        /// Whether the first is the last.
        once: bool,
    },
    /// Nothing else.
    Signals,
    /// Log lines that match: patterns of level info, warning and error.
    Alerts([Option<RegexSet>; 3]),
}

/// What a key had to grant for the instance to start, so that it can be asked again.
#[derive(Debug)]
pub(super) enum Granted {
    /// Pods of a selection, and what came of it.
    Pods { service: Service, scope: Scope, selection: CompiledSelection, permit: PodPermit },
    /// A declared stream.
    Stream { service: Service, scope: Scope, name: StreamName },
}

impl Granted {
    /// Whether `key` grants the same still.
    pub(super) fn holds(&self, authoriser: &Authoriser, key: &Key) -> Result<bool, Denied> {
        match self {
            Self::Pods { service, scope, selection, permit } => {
                authoriser.authorise_pods(key, *service, *scope, selection).map(|now| now == *permit)
            }
            Self::Stream { service, scope, name } => {
                let granted = authoriser.authorise_stream(key, *service, *scope, &name.namespace, &name.name);
                granted.map(|()| true)
            }
        }
    }
}

/// What happened to an instance.
pub(super) enum Happening {
    /// There is something to deliver.
    Delivery(Delivery),
    /// Its key counts no more, or counts differently.
    Key(KeyState),
}

/// Something that runs for a client.
pub(super) struct Instance {
    pub id: String,
    pub reconnect_key: String,
    pub dialect: Dialect,
    pub channel: String,
    pub delivers: Delivers,
    pub granted: Granted,
    pub key: Arc<Key>,
    pub reader: Counted,
    /// The past of what is read, where there is one that can be had again.
    pub past: Option<Arc<dyn Backlog>>,
    pub paused: bool,
    /// Containers that were announced at the start, whose own signal may still be on its way.
    pub announced: HashSet<Arc<Origin>>,
    pub(super) held: Held,
    pub(super) resume_at: Option<Instant>,
}

/// What an instance keeps alive or counts against a limit.
pub(super) struct Held {
    /// What is read, where it is no declared stream.
    pub lease: Option<Lease>,
    pub _permit: StreamPermit,
}

/// How much one turn of an instance writes before others have theirs, in bytes.
const TURN_BYTES: usize = 512 * 1024;

impl Instance {
    /// Waits until something happens. Cancel-safe.
    pub async fn next(&mut self) -> Happening {
        let (paused, resume_at, reader) = (self.paused, self.resume_at, &mut *self.reader);
        let delivery = async {
            // Whoever waits learns of the end all the same.
            if paused {
                return Delivery::End(reader.cut().await);
            }
            if let Some(at) = resume_at {
                tokio::select! {
                    end = reader.cut() => return Delivery::End(end),
                    () = tokio::time::sleep_until(at.into()) => {}
                }
            }
            reader.next().await
        };
        tokio::select! {
            biased;
            state = self.key.ended() => Happening::Key(state),
            delivery = delivery => Happening::Delivery(delivery),
        }
    }

    /// Writes a delivery and what is ready behind it; the last is flushed. The stream's end, where it came.
    pub async fn deliver(&mut self, first: Delivery, socket: &mut Socket) -> Result<Option<String>, End> {
        let mut turn = 0;
        let mut next = Some(first);
        self.resume_at = None;
        while let Some(delivery) = next {
            self.reader.note(&delivery);
            let is_reading = matches!(delivery, Delivery::Reading { .. });
            let (records, bytes) = match delivery {
                Delivery::Records { batch, .. } => (batch.len(), self.feed_batch(&batch, socket).await?),
                Delivery::Reading { reading, .. } => (1, self.feed_reading(&reading, socket).await?),
                Delivery::Signal { signal, .. } => (0, self.feed_signal(&signal, socket).await?),
                Delivery::End(end) => {
                    let signal = Signal::new(Level::Warning, Event::Ended, Time::now(), end.text.clone());
                    self.feed_signal(&signal, socket).await?;
                    socket.flush().await?;
                    return Ok(Some(end.text.clone()));
                }
            };
            self.charge(records as u64, bytes as u64);
            if is_reading && matches!(self.delivers, Delivers::Readings { once: true, .. }) {
                let text = "The snapshot is complete; the instance ends with it.";
                self.feed_signal(&Signal::new(Level::Info, Event::Ended, Time::now(), text), socket).await?;
                socket.flush().await?;
                return Ok(Some(text.to_owned()));
            }
            turn += bytes;
            let over = turn >= TURN_BYTES || self.resume_at.is_some();
            next = if over { None } else { self.reader.try_next() };
        }
        socket.flush().await?;
        Ok(None)
    }

    /// Sends one signal now.
    pub async fn tell(&mut self, signal: &Signal, socket: &mut Socket) -> Result<(), End> {
        socket.send(answer::signal(self.dialect, &self.channel, &self.id, signal).into()).await
    }

    async fn feed_signal(&mut self, signal: &Signal, socket: &mut Socket) -> Result<usize, End> {
        // An announced container's own signal is left out; once it has gone, or comes again, it is told like any.
        let announced = signal.origin.as_ref().is_some_and(|origin| self.announced.remove(origin));
        if announced && signal.event == Event::Added {
            return Ok(0);
        }
        let text = answer::signal(self.dialect, &self.channel, &self.id, signal);
        let bytes = text.len();
        socket.feed(text.into()).await?;
        Ok(bytes)
    }

    async fn feed_batch(&mut self, batch: &Batch, socket: &mut Socket) -> Result<usize, End> {
        match &self.delivers {
            Delivers::Signals | Delivers::Readings { .. } => Ok(0),
            Delivers::Log { wire, prefix } => feed_messages(batch.encoded(*wire), prefix, socket).await,
            Delivers::Alerts(patterns) => {
                let alert = |severity, line| answer::alert(self.dialect, &self.id, severity, &line);
                let messages: Vec<String> =
                    alerts(batch, patterns).map(|(severity, line)| alert(severity, line)).collect();
                let bytes = messages.iter().map(String::len).sum();
                for message in messages {
                    socket.feed(message.into()).await?;
                }
                Ok(bytes)
            }
        }
    }

    async fn feed_reading(&mut self, reading: &Reading, socket: &mut Socket) -> Result<usize, End> {
        let Delivers::Readings { wire, prefix, timed, .. } = &mut self.delivers else { return Ok(0) };
        if std::mem::replace(timed, true) {
            return feed_messages(reading.encoded(*wire), prefix, socket).await;
        }
        feed_messages(&reading.encoded_at(*wire, Time(0)), prefix, socket).await
    }

    fn charge(&mut self, records: u64, bytes: u64) {
        let now = Instant::now();
        let wait = self.key.usage().charge(records, bytes, now);
        self.resume_at = (!wait.is_zero()).then(|| now + wait);
    }

    /// Begins again at `time`, because what was written since may not have arrived.
    pub fn rewind(&mut self, time: Time) {
        self.reader.rewind(self.past.as_deref(), time);
    }

    /// Goes on with the key as it is now, where that grants the same.
    pub fn renew(&mut self, authoriser: &Authoriser, keyring: &KeyRing) -> Result<bool, Denied> {
        let successor = keyring.successor(&self.key, Time::now())?;
        let same = self.granted.holds(authoriser, &successor)?;
        if same {
            self.reader.deliver_at_most(successor.records_of_a_delivery());
            self.key = successor;
        }
        Ok(same)
    }
}

/// The lines of a batch that match, each with its severity.
fn alerts<'b>(batch: &'b Batch, patterns: &[Option<RegexSet>; 3]) -> impl Iterator<Item = (Level, AlertLine<'b>)> {
    batch.lines().iter().filter_map(|line| {
        let text = batch.text(line);
        Some((severity(patterns, text)?, AlertLine { origin: batch.origin(), time: line.time, text }))
    })
}

/// The gravest level whose patterns match.
fn severity(patterns: &[Option<RegexSet>; 3], text: &[u8]) -> Option<Level> {
    let levels = [Level::Info, Level::Warning, Level::Error];
    let matching = levels.into_iter().zip(patterns).rev();
    matching.filter(|(_, set)| set.as_ref().is_some_and(|set| set.is_match(text))).map(|(level, _)| level).next()
}

/// Messages, each behind the instance's own beginning. What is behind it was encoded once for all.
async fn feed_messages(encoded: &Encoded, prefix: &[u8], socket: &mut Socket) -> Result<usize, End> {
    let mut bytes = 0;
    for body in encoded.messages() {
        let mut message = Vec::with_capacity(prefix.len() + body.len());
        message.extend_from_slice(prefix);
        message.extend_from_slice(&body);
        bytes += message.len();
        // The encoders make UTF-8; should one fail to, the message is mended, not lost.
        let text = String::from_utf8(message).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        socket.feed(Text::from(text)).await?;
    }
    Ok(bytes)
}

/// The parts of a log instance.
pub(super) fn log_delivers(dialect: Dialect, timestamps: bool, id: &str) -> Delivers {
    let wire = dialect.wire(timestamps);
    Delivers::Log { wire, prefix: encode::prefix(wire, "log", id) }
}

/// The parts of a metrics instance that ends with its first reading, or does not.
pub(super) fn readings_delivers(dialect: Dialect, id: &str, once: bool) -> Delivers {
    let wire = dialect.wire(false);
    let timed = dialect == Dialect::Classic;
    Delivers::Readings { wire, prefix: encode::prefix(wire, "metrics", id), timed, once }
}
