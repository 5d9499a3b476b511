//! What one key may use at a time: connections, streams, records and bytes per second.
//!
//! A key's usage outlives changes of its object, so that lowering a limit does not reset the count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::denied::Denied;
use crate::api::KeyLimits;

/// What a key uses now, shared by every version of the key.
#[derive(Debug, Default)]
pub struct Usage {
    state: Mutex<State>,
    records: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
    throttled: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    limits: KeyLimits,
    connections: u32,
    streams: u32,
    /// When the records, and the bytes, sent so far are paid for. In the past: nothing is owed.
    records_paid: Option<Instant>,
    bytes_paid: Option<Instant>,
}

/// Figures for the metrics page. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageFigures {
    /// Connections open now.
    pub connections: u32,
    /// Streams running now.
    pub streams: u32,
    /// Records charged since the key was first seen.
    pub records: u64,
    /// Bytes charged since the key was first seen.
    pub bytes: u64,
    /// Connections and streams refused for a limit.
    pub refused: u64,
    /// Charges that were answered with a wait.
    pub throttled: u64,
}

impl Usage {
    /// Nothing used yet, under these limits.
    pub fn new(limits: KeyLimits) -> Arc<Self> {
        let usage = Self::default();
        usage.set_limits(limits);
        Arc::new(usage)
    }

    /// New limits; what is open stays open, also where it is more than the new limit allows.
    pub fn set_limits(&self, limits: KeyLimits) {
        self.state.lock().limits = limits;
    }

    /// Counts one connection until the permit is dropped.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`] at the limit.
    pub fn connect(self: &Arc<Self>) -> Result<ConnectionPermit, Denied> {
        let mut state = self.state.lock();
        if let Some(limit) = state.limits.connections.filter(|limit| state.connections >= *limit) {
            self.refused.fetch_add(1, Relaxed);
            return Err(Denied::TooManyConnections { limit });
        }
        state.connections += 1;
        Ok(ConnectionPermit(Arc::clone(self)))
    }

    /// Counts one stream until the permit is dropped.
    ///
    /// # Errors
    /// [`Denied::TooManyStreams`] at the limit.
    pub fn open_stream(self: &Arc<Self>) -> Result<StreamPermit, Denied> {
        let mut state = self.state.lock();
        if let Some(limit) = state.limits.streams.filter(|limit| state.streams >= *limit) {
            self.refused.fetch_add(1, Relaxed);
            return Err(Denied::TooManyStreams { limit });
        }
        state.streams += 1;
        Ok(StreamPermit(Arc::clone(self)))
    }

    /// Charges what is about to be sent, and says how long to wait **before** sending it; zero means at once.
    ///
    /// A batch is never refused, however big: it is paid for by the wait of those that come after it. Who waits
    /// falls behind its ring and is told so by a gap signal; nothing is kept here.
    pub fn charge(&self, records: u64, bytes: u64, now: Instant) -> Duration {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        let wait = {
            let mut state = self.state.lock();
            let KeyLimits { records_per_second, bytes_per_second, .. } = state.limits;
            let for_records = pay(&mut state.records_paid, records, records_per_second.map(u64::from), now);
            let for_bytes = pay(&mut state.bytes_paid, bytes, bytes_per_second, now);
            for_records.max(for_bytes)
        };
        if !wait.is_zero() {
            self.throttled.fetch_add(1, Relaxed);
        }
        wait
    }

    /// What is used now and was used so far.
    pub fn figures(&self) -> UsageFigures {
        let (connections, streams) = {
            let state = self.state.lock();
            (state.connections, state.streams)
        };
        UsageFigures {
            connections,
            streams,
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            refused: self.refused.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
        }
    }
}

/// One second's worth may be sent ahead of its time.
const BURST: Duration = Duration::from_secs(1);

/// The longest wait that is ever asked for, so that a tiny limit cannot park a reader for hours.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The generic cell rate algorithm: `paid` is the time until which everything sent is accounted for.
fn pay(paid: &mut Option<Instant>, amount: u64, per_second: Option<u64>, now: Instant) -> Duration {
    let Some(rate) = per_second else {
        *paid = None;
        return Duration::ZERO;
    };
    let start = paid.map_or(now, |paid| paid.max(now));
    let wait = start.duration_since(now).saturating_sub(BURST).min(LONGEST_WAIT);
    // Debt is bounded too: one absurd batch must not silence a key for the rest of the day.
    let cost = Duration::from_secs_f64((amount as f64 / rate.max(1) as f64).min(LONGEST_WAIT.as_secs_f64()));
    *paid = Some((start + cost).min(now + BURST + LONGEST_WAIT));
    wait
}

/// One counted connection; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping the permit gives the connection back at once"]
pub struct ConnectionPermit(Arc<Usage>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.state.lock().connections -= 1;
    }
}

/// One counted stream; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping the permit gives the stream back at once"]
pub struct StreamPermit(Arc<Usage>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.state.lock().streams -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back_when_dropped_and_refusals_are_counted() {
        let usage = Usage::new(KeyLimits { connections: Some(1), streams: Some(2), ..KeyLimits::default() });
        let connection = usage.connect().unwrap();
        assert_eq!(usage.connect().unwrap_err(), Denied::TooManyConnections { limit: 1 });
        let streams = [usage.open_stream().unwrap(), usage.open_stream().unwrap()];
        assert_eq!(usage.open_stream().unwrap_err(), Denied::TooManyStreams { limit: 2 });
        assert_eq!((usage.figures().connections, usage.figures().streams, usage.figures().refused), (1, 2, 2));
        drop(connection);
        drop(streams);
        assert_eq!((usage.figures().connections, usage.figures().streams), (0, 0));
        assert!(usage.connect().is_ok());
    }

    #[test]
    fn a_lowered_limit_keeps_what_is_open_and_lets_nothing_new_in() {
        let usage = Usage::new(KeyLimits::default());
        let held: Vec<_> = (0..3).map(|_| usage.open_stream().unwrap()).collect();
        usage.set_limits(KeyLimits { streams: Some(2), ..KeyLimits::default() });
        assert!(usage.open_stream().is_err());
        drop(held);
        assert!(usage.open_stream().is_ok());
    }

    #[test]
    fn a_second_may_be_sent_ahead_then_the_rate_holds() {
        let usage = Usage::new(KeyLimits { records_per_second: Some(100), ..KeyLimits::default() });
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            now += usage.charge(10, 1, now);
            sent += 10;
        }
        assert!((1000..=1120).contains(&sent), "{sent} records in 10 s at 100/s");
        assert!(usage.figures().throttled > 0);
    }

    #[test]
    fn bytes_and_records_are_both_held() {
        let usage = Usage::new(KeyLimits {
            records_per_second: Some(1_000_000),
            bytes_per_second: Some(1000),
            ..KeyLimits::default()
        });
        let now = Instant::now();
        assert_eq!(usage.charge(1, 3000, now), Duration::ZERO);
        assert_eq!(usage.charge(1, 1, now), Duration::from_secs(2));
        assert_eq!(usage.charge(1, 1, now + Duration::from_secs(5)), Duration::ZERO);
    }

    #[test]
    fn waits_are_bounded_and_unlimited_keys_never_wait() {
        let now = Instant::now();
        let tiny = Usage::new(KeyLimits { bytes_per_second: Some(1), ..KeyLimits::default() });
        for _ in 0..10 {
            assert!(tiny.charge(1, u64::MAX, now) <= LONGEST_WAIT);
        }
        let free = Usage::new(KeyLimits::default());
        assert_eq!(free.charge(u64::MAX, u64::MAX, now), Duration::ZERO);
    }
}
