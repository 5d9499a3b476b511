//! The board: the server's own numbers, computed and encoded once a second for all who ask for the same.
//!
//! Time is cut into ticks of one second. All sockets whose turn it is wake at the same tick; the first that asks for
//! a set of fields computes and encodes, the others get the same bytes. Nobody asks, nothing is computed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::fields::{Fields, Snapshot};
use super::message::encoded;
use crate::endpoint::websocket::Text;
use crate::record::Time;
use crate::telemetry::{Metrics, Overview};

/// The number of a second since the board was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    /// The next tick that is a multiple of so many seconds.
    pub fn next(self, every: u64) -> Self {
        Self((self.0 / every + 1) * every)
    }

    /// How many turns lie between two ticks.
    pub fn turns_since(self, earlier: Self, every: u64) -> u64 {
        self.0.saturating_sub(earlier.0) / every
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    metrics: Arc<Metrics>,
    began: Instant,
    shown: Mutex<Shown>,
}

/// What this tick's snapshots are made of, and those that were made.
#[derive(Debug, Default)]
struct Shown {
    tick: Option<Tick>,
    time: Time,
    overview: Overview,
    texts: HashMap<Fields, Text>,
}

impl Board {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, began: Instant::now(), shown: Mutex::default() }
    }

    /// The present tick.
    pub fn tick(&self) -> Tick {
        Tick(self.began.elapsed().as_secs())
    }

    /// When a tick begins.
    pub fn at(&self, tick: Tick) -> Instant {
        self.began + Duration::from_secs(tick.0)
    }

    /// The snapshot of this tick; at most a second old.
    pub fn snapshot(&self, fields: Fields) -> Text {
        let tick = Some(self.tick());
        let mut shown = self.shown.lock();
        if shown.tick != tick {
            // What the last tick held is given back: there may be as many sets of fields as sockets.
            *shown = Shown { tick, time: Time::now(), overview: self.metrics.overview(), texts: HashMap::new() };
        }
        let Shown { time, overview, texts, .. } = &mut *shown;
        let encode = || {
            self.metrics.snapshots_encoded.inc();
            encoded(&Snapshot { time: *time, overview, fields })
        };
        texts.entry(fields).or_insert_with(encode).clone()
    }
}

/// What one socket watches of the board.
#[derive(Debug)]
pub(super) struct Own {
    board: Arc<Board>,
    fields: Fields,
    /// Seconds between two snapshots.
    every: u64,
    /// The tick of the last snapshot.
    last: Tick,
}

impl Own {
    /// All fields, every second.
    pub fn new(board: Arc<Board>) -> Self {
        let last = board.tick();
        Self { board, fields: Fields::ALL, every: 1, last }
    }

    /// Watches these fields so often from now on.
    pub fn watch(&mut self, fields: Fields, every: Option<Duration>) {
        (self.fields, self.every) = (fields, every.map_or(1, |every| every.as_secs().max(1)));
    }

    /// What is watched.
    pub fn fields(&self) -> Fields {
        self.fields
    }

    /// Waits for this socket's next turn; how many turns it has missed because it was busy. Cancel-safe.
    pub async fn turn(&mut self) -> u64 {
        let due = self.last.next(self.every);
        tokio::time::sleep_until(self.board.at(due)).await;
        self.board.tick().turns_since(due, self.every)
    }

    /// The snapshot of now.
    pub fn snapshot(&mut self) -> Text {
        self.last = self.board.tick();
        self.board.snapshot(self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&str]) -> Fields {
        Fields::named(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_sockets_cost_one_snapshot_for_each_set_of_fields_and_second() {
        let metrics = Metrics::new();
        let board = Arc::new(Board::new(Arc::clone(&metrics)));
        let mut sockets: Vec<Own> = (0..1000).map(|_| Own::new(Arc::clone(&board))).collect();
        for own in sockets.iter_mut().skip(500) {
            own.watch(fields(&["gaps_total"]), None);
        }
        for second in 1..=10 {
            let mut texts = Vec::new();
            for own in &mut sockets {
                assert_eq!(own.turn().await, 0);
                texts.push(own.snapshot());
            }
            assert_eq!(metrics.snapshots_encoded.get(), second * 2);
            let first = texts[0].as_str().as_ptr();
            assert!(texts[..500].iter().all(|text| text.as_str().as_ptr() == first), "the same bytes, not a copy");
        }
        assert_eq!(board.shown.lock().texts.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_fall_on_the_same_moments_for_all_and_missed_ones_are_told() {
        let board = Arc::new(Board::new(Metrics::new()));
        tokio::time::sleep(Duration::from_millis(7_300)).await;
        let mut own = Own::new(Arc::clone(&board));
        own.watch(Fields::ALL, Some(Duration::from_secs(5)));
        assert_eq!(own.turn().await, 0);
        assert_eq!(board.tick(), Tick(10));
        own.snapshot();
        tokio::time::sleep(Duration::from_secs(17)).await;
        assert_eq!(own.turn().await, 2, "those at 15 and 20 gave way to that at 25");
        own.snapshot();
        assert_eq!(own.turn().await, 0);
        assert_eq!(board.tick(), Tick(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_at_most_a_second_old() {
        let metrics = Metrics::new();
        let board = Board::new(Arc::clone(&metrics));
        let gaps = || board.snapshot(fields(&["gaps_total"])).to_string();
        assert!(gaps().ends_with("\"gaps_total\":0}"));
        metrics.gaps.inc();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(gaps().ends_with("\"gaps_total\":1}"));
    }
}
