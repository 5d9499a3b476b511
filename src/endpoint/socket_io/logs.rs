//! `/logs/…`: a backlog, then a line an event. One reader gives both, so that nothing is doubled or lost between them.
//!
//! Nothing is queued for a slow client: its reader waits, falls behind the ring, and is told of the gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep_until, timeout};

use super::super::counted::Counted;
use super::admit::{Purpose, follows};
use super::backlog::{Backlog, Bounds, Gathered, Place, wants};
use super::guest::{Cut, Guest};
use super::outlet::Gone;
use super::since::Wish;
use crate::record::encode::signal_json;
use crate::record::{Batch, Signal, Wire};
use crate::stream::{Delivery, Gate, Located, Seq, StreamName};
use crate::worker::News;

/// How long lines of a container that is gone are waited for.
const LAST_LINES: std::time::Duration = std::time::Duration::from_millis(500);

/// Why lines stop.
enum Stop {
    Cut(Cut),
    /// The stream is over, and why.
    End(String),
    /// The session is.
    Gone,
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// A client that reads lines.
struct Follow {
    reader: Counted,
    gate: Gate,
    stream: StreamName,
    container: Option<String>,
    ids: bool,
    epoch: u64,
    /// What is being sent, and how many of its lines were.
    current: Option<(Delivery, usize)>,
    /// When what is being sent is paid for, by the key's limits.
    paid: Option<Instant>,
    /// What is gathered to be sent first.
    backlog: Option<Backlog>,
    /// Packets that come before what is current: the backlog, and the signals that came in it.
    queue: VecDeque<String>,
}

/// Sends lines until the client leaves, its key ends, or the stream does.
pub(super) async fn follow(mut guest: Guest, (wish, located): (Wish, Located)) {
    let Purpose::Logs { stream, container, .. } = guest.purpose.clone() else { return };
    let services = Arc::clone(guest.hall.services());
    // Who reads all of a stream does not look at its containers one by one.
    let mut news = container.as_ref().map(|_| services.declared.news());
    let containers = services.declared.observe(&stream).map_or(1, |observed| observed.targets);
    let until = located.stream.next_seq();
    let reader = wish.open(&located, guest.hall.options().backlog_lines, containers);
    let mut reader = Counted::new(reader, &services.metrics);
    reader.deliver_at_most(guest.key.records_of_a_delivery());
    let options = guest.hall.options();
    let bounds = Bounds { lines: options.backlog_lines, bytes: options.backlog_bytes };
    let (epoch, gate, backlog) = (reader.epoch(), located.gate, Backlog::begin(&reader, until, bounds));
    let mut follow = Follow {
        reader,
        gate,
        stream,
        container,
        ids: wish.ids,
        epoch,
        current: None,
        paid: None,
        backlog: Some(backlog),
        queue: VecDeque::new(),
    };
    let (gate, stream, container) = (follow.gate.clone(), follow.stream.clone(), follow.container.clone());
    loop {
        let stop = tokio::select! {
            biased;
            cut = guest.cut() => Stop::Cut(cut),
            end = gate.closed() => Stop::End(end.text.clone()),
            why = container_gone(&guest, &stream, container.as_deref(), news.as_mut()) => {
                // What it wrote last is in the ring, or about to be.
                let sent = timeout(LAST_LINES, follow.run(&guest)).await;
                if matches!(sent, Ok(Stop::Gone)) { Stop::Gone } else { Stop::End(why) }
            }
            stop = follow.run(&guest) => stop,
        };
        let why = match stop {
            Stop::Gone | Stop::Cut(Cut::Left) => return,
            Stop::End(why) => why,
            Stop::Cut(Cut::Key(state)) => match guest.renew(state) {
                Ok(()) => {
                    follow.reader.deliver_at_most(guest.key.records_of_a_delivery());
                    continue;
                }
                Err(denied) => denied.to_string(),
            },
        };
        return guest.dismiss(&why).await;
    }
}

/// Waits until the container that is followed alone is followed no more; for ever where all are.
async fn container_gone(
    guest: &Guest,
    stream: &StreamName,
    container: Option<&str>,
    news: Option<&mut Receiver<Arc<News>>>,
) -> String {
    let (Some(container), Some(news)) = (container, news) else { return std::future::pending().await };
    while follows(guest.hall.services(), stream, container) {
        // Only news of this stream is worth a look.
        loop {
            match news.recv().await {
                Ok(news) if news.stream == *stream => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
    "The container is gone.".to_owned()
}

impl Follow {
    /// Sends the backlog, then all that comes. May be dropped and called again at any time: nothing is then sent twice or
    /// left out.
    async fn run(&mut self, guest: &Guest) -> Stop {
        match self.send_all(guest).await {
            Ok(why) => Stop::End(why),
            Err(Gone) => Stop::Gone,
        }
    }

    async fn send_all(&mut self, guest: &Guest) -> Result<String, Gone> {
        if let Some(backlog) = &mut self.backlog {
            backlog.gather(&mut self.reader, self.container.as_deref()).await;
        }
        if let Some(backlog) = self.backlog.take() {
            self.take_backlog(backlog.finish(), guest);
        }
        loop {
            if let Some(paid) = self.paid {
                sleep_until(paid.into()).await;
                self.paid = None;
            }
            while let Some(packet) = self.queue.front_mut() {
                guest.outlet.data(packet).await?;
                self.queue.pop_front();
            }
            if let Some(end) = self.send_current(guest).await? {
                return Ok(end);
            }
            let delivery = self.reader.next().await;
            self.reader.note(&delivery);
            self.take(delivery, guest);
        }
    }

    /// Takes the backlog, to be sent; and behind it, what was read with it and is data.
    fn take_backlog(&mut self, backlog: Gathered, guest: &Guest) {
        let last = backlog.last.map(|place| place.id(self.epoch));
        let last = self.ids.then(|| last.unwrap_or_else(|| "null".to_owned()));
        self.queue.push_back(guest.events.event("backlog", &backlog.json, last.as_deref()));
        self.queue.extend(backlog.signals.iter().map(|signal| signal_event(guest, signal)));
        self.charge(backlog.lines, backlog.json.len() as u64, guest);
        if let Some((delivery, sent)) = backlog.rest {
            self.take(delivery, guest);
            if let Some((_, at)) = &mut self.current {
                *at = sent;
            }
        }
    }

    /// Charges the key for what is about to be sent.
    fn charge(&mut self, records: u64, bytes: u64, guest: &Guest) {
        let now = Instant::now();
        let wait = guest.key.usage().charge(records, bytes, now);
        let paid = (!wait.is_zero()).then(|| now + wait);
        self.paid = self.paid.max(paid);
    }

    /// Takes what the reader gave, to be sent, where the client wants it.
    fn take(&mut self, delivery: Delivery, guest: &Guest) {
        let container = self.container.as_deref();
        match &delivery {
            Delivery::Records { batch, .. } if wants(container, Some(batch.origin())) => {
                let bytes = batch.encoded(Wire::Text).messages().map(|text| text.len() as u64).sum();
                self.charge(batch.len() as u64, bytes, guest);
            }
            Delivery::Signal { signal, .. } if wants(container, signal.origin.as_deref()) => {}
            Delivery::End(_) => {}
            _ => return,
        }
        self.current = Some((delivery, 0));
    }

    /// Sends what is left of the current delivery; the reason, where it is the end.
    async fn send_current(&mut self, guest: &Guest) -> Result<Option<String>, Gone> {
        let Some((delivery, sent)) = &mut self.current else { return Ok(None) };
        match delivery {
            Delivery::Records { first, batch } => {
                let (first, ids) = (*first, self.ids.then_some(self.epoch));
                send_lines(guest, batch, first, ids, sent).await?;
            }
            Delivery::Signal { signal, .. } => {
                guest.outlet.data(&mut signal_event(guest, signal)).await?;
            }
            Delivery::Reading { .. } => {}
            Delivery::End(end) => return Ok(Some(end.text.clone())),
        }
        self.current = None;
        Ok(None)
    }
}

/// Sends the lines of a batch from `sent` on, which counts them.
async fn send_lines(
    guest: &Guest,
    batch: &Batch,
    first: Option<Seq>,
    ids: Option<u64>,
    sent: &mut usize,
) -> Result<(), Gone> {
    let from = *sent;
    for text in batch.encoded(Wire::Text).messages().skip(from) {
        let id = ids.map(|epoch| {
            let place = first.map(|first| Place::Behind(Seq(first.0 + *sent as u64)));
            place.map_or_else(|| "null".to_owned(), |place| place.id(epoch))
        });
        // What the encoder writes is JSON, and so UTF-8.
        let text = std::str::from_utf8(&text).unwrap_or("\"\"");
        guest.outlet.data(&mut guest.events.event("data", text, id.as_deref())).await?;
        *sent += 1;
        // A client that takes everything at once must not keep its thread from the others.
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

fn signal_event(guest: &Guest, signal: &Signal) -> String {
    guest.events.event("signal", std::str::from_utf8(&signal_json(signal)).unwrap_or("{}"), None)
}
