//! How fast a counter grows.

use super::samples::Point;
use crate::record::Time;

/// A counter through time: its last sample, and its rate up to there.
///
/// Time is that of the samples, never of the scrapes: cAdvisor measures when it likes, and two scrapes may find the same
/// sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    last: Option<Seen>,
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    run: u64,
    point: Point,
}

impl Counter {
    /// Takes a sample of a run (0 where it is not known which) and gives the rate in units per second. `None` until
    /// there are two samples of different times. A sample that was seen before changes nothing.
    ///
    /// A counter that is smaller than it was, or of another run, began anew at zero, as Prometheus' `rate` has it.
    pub fn note(&mut self, run: u64, point: Point) -> Option<f64> {
        let now = Seen { run, point };
        let Some(last) = self.last else {
            self.last = Some(now);
            return None;
        };
        let anew = last.run != run && last.run != 0 && run != 0;
        if point.time > last.point.time {
            let from = if anew || point.value < last.point.value { 0.0 } else { last.point.value };
            self.rate = Some((point.value - from) / seconds(last.point.time, point.time));
            self.last = Some(now);
        } else if anew {
            *self = Self { last: Some(now), rate: None };
        }
        self.rate
    }
}

fn seconds(from: Time, to: Time) -> f64 {
    to.0.saturating_sub(from.0) as f64 / 1e9
}
