//! Single-use tickets for places that cannot carry a key: a URL opened by a browser's `EventSource`.
//!
//! A ticket stands for its key for 30 seconds and is gone when it is used. Memory holds digests only, of a bounded
//! number of tickets.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rand::CryptoRng;

use super::denied::Denied;
use super::key::{Key, KeyId};
use super::keyring::KeyRing;
use super::token::{Digest, random};
use crate::record::Time;

/// How long a ticket can be used, in seconds.
pub const TICKET_SECONDS: u32 = 30;

/// The same in nanoseconds.
const LIFE: i64 = TICKET_SECONDS as i64 * 1_000_000_000;

/// How far a clock may be set back before tickets issued by it are refused, in nanoseconds.
const CLOCK_SLACK: i64 = 2_000_000_000;

/// How many tickets may wait to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketLimits {
    /// Of one key.
    pub per_key: usize,
    /// Of all keys together.
    pub total: usize,
}

impl Default for TicketLimits {
    fn default() -> Self {
        Self { per_key: 64, total: 10_000 }
    }
}

/// A ticket in clear, on its way to the client. `Debug` does not show it.
pub struct Ticket {
    text: String,
    expires_at: Time,
}

impl Ticket {
    /// The ticket: `weirt_` and 43 characters that need no escaping in a URL.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// When it stops working.
    pub fn expires_at(&self) -> Time {
        self.expires_at
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The tickets that wait to be used.
#[derive(Debug)]
pub struct Tickets {
    ring: Arc<KeyRing>,
    limits: TicketLimits,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_digest: HashMap<Digest, Entry>,
    /// In the order of issue, which is the order in which they end; it may name tickets that are used up.
    order: VecDeque<(Time, Digest)>,
    per_key: HashMap<KeyId, usize>,
}

#[derive(Debug)]
struct Entry {
    issued: Time,
    key: Arc<Key>,
}

impl Tickets {
    /// An empty office for tickets of this ring's keys.
    pub fn new(ring: Arc<KeyRing>, limits: TicketLimits) -> Self {
        Self { ring, limits, waiting: Mutex::default() }
    }

    /// Issues a ticket that stands for `key`.
    ///
    /// # Errors
    /// [`Denied::TooManyTickets`] where the key, or all keys together, have too many waiting; and why the key counts
    /// no more, where that is so.
    pub fn issue<R: CryptoRng + ?Sized>(&self, key: &Arc<Key>, rng: &mut R, now: Time) -> Result<Ticket, Denied> {
        key.is_live(now)?;
        let text = format!("weirt_{}", URL_SAFE_NO_PAD.encode(random(rng)));
        // Its own text is always well formed, so this cannot fail.
        let digest = Digest::of_presented(&text)?;
        let mut waiting = self.waiting.lock();
        waiting.sweep(now);
        let own = waiting.per_key.get(key.id()).copied().unwrap_or_default();
        // The order's length bounds memory also for those used up, which stay in it until their time.
        if own >= self.limits.per_key || waiting.order.len() >= self.limits.total {
            return Err(Denied::TooManyTickets { retry_seconds: TICKET_SECONDS });
        }
        *waiting.per_key.entry(key.id().clone()).or_default() += 1;
        waiting.order.push_back((now, digest));
        waiting.by_digest.insert(digest, Entry { issued: now, key: Arc::clone(key) });
        Ok(Ticket { text, expires_at: Time(now.0.saturating_add(LIFE)) })
    }

    /// Turns a ticket into its key, once.
    ///
    /// # Errors
    /// [`Denied::BadTicket`] where it was never issued, is used up or too old; and why the key counts no more: it may
    /// have been suspended since.
    pub fn redeem(&self, presented: &str, now: Time) -> Result<Arc<Key>, Denied> {
        let digest = Digest::of_presented(presented).map_err(|_| Denied::BadTicket)?;
        let entry = self.waiting.lock().take(&digest).ok_or(Denied::BadTicket)?;
        if !is_fresh(entry.issued, now) {
            return Err(Denied::BadTicket);
        }
        self.ring.successor(&entry.key, now)
    }

    /// How many tickets wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().by_digest.len()
    }

    /// Whether no ticket waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets tickets that are too old. Issuing does it too, so nobody needs to call this often.
    pub fn sweep(&self, now: Time) {
        self.waiting.lock().sweep(now);
    }
}

impl Waiting {
    fn sweep(&mut self, now: Time) {
        while let Some((issued, digest)) = self.order.front().copied() {
            if is_fresh(issued, now) {
                break;
            }
            self.order.pop_front();
            self.take(&digest);
        }
    }

    fn take(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.by_digest.remove(digest)?;
        if let Some(count) = self.per_key.get_mut(entry.key.id()) {
            *count -= 1;
            if *count == 0 {
                self.per_key.remove(entry.key.id());
            }
        }
        Some(entry)
    }
}

/// One from the future is left from before the clock was set back: it counts as old, and cannot block the queue.
fn is_fresh(issued: Time, now: Time) -> bool {
    let age = now.0.saturating_sub(issued.0);
    (-CLOCK_SLACK..LIFE).contains(&age)
}
