//! Reading series: a span of time, cut into steps, one number for each step.

use std::time::Duration;

use super::SeriesKey;
use super::chunk::Row;
use super::timeline::Excerpt;
use crate::record::Time;

/// What becomes of the points of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Their mean.
    #[default]
    Avg,
    /// The least of them.
    Min,
    /// The greatest of them.
    Max,
    /// Their sum.
    Sum,
    /// How many there are.
    Count,
    /// The newest of them.
    Last,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Avg, Self::Min, Self::Max, Self::Sum, Self::Count, Self::Last];

    /// Its name in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Last => "last",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregate| aggregate.as_str() == name)
    }
}

/// Which series: those of an asset, of a metric, or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Select<'a> {
    /// The asset's name; `None` for all.
    pub asset: Option<&'a str>,
    /// The metric's name; `None` for all.
    pub metric: Option<&'a str>,
}

/// What of a series, and how fine.
///
/// Steps begin at multiples of their length since the Unix epoch, so that the same times come out whenever they are asked
/// for. A step without a point has no number. Where points were downsampled already, a bucket counts whole in the step in
/// which it begins, and not at all where that is before the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub start: Time,
    /// The last moment; included.
    pub end: Time,
    /// The length of a step: whole milliseconds, at least one.
    pub step: Duration,
    /// Most points of the whole answer, over all series.
    pub max_points: usize,
}

/// A number of a series, as it is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The start of its step.
    pub time: Time,
    /// The number; always finite.
    pub value: f64,
}

/// The answer for one series: its points, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The series.
    pub key: SeriesKey,
    /// Its points.
    pub points: Vec<Point>,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The end comes before the start.
    #[error("the end comes before the start")]
    Backwards,
    /// A step without length.
    #[error("the interval is shorter than a millisecond")]
    NoStep,
    /// More points than are answered.
    #[error("the answer would have more than {most} points; an interval of {}s fits", .fits.as_secs())]
    TooMany {
        /// How many are answered at most.
        most: usize,
        /// An interval, in whole seconds, with which the answer fits.
        fits: Duration,
    },
    /// Not even one point for each series fits.
    #[error("{series} series were asked for, and at most {most} points are answered; ask for fewer")]
    TooManySeries {
        /// How many series there are.
        series: usize,
        /// How many points are answered at most.
        most: usize,
    },
}

/// What the points of a step come to.
#[derive(Clone, Copy, Debug)]
struct Folded {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Folded {
    fn of([count, sum, min, max, last]: [f64; 5]) -> Self {
        Self { count, sum, min, max, last }
    }

    fn add(&mut self, newer: Self) {
        self.count += newer.count;
        self.sum += newer.sum;
        self.min = if newer.min.total_cmp(&self.min).is_lt() { newer.min } else { self.min };
        self.max = if newer.max.total_cmp(&self.max).is_gt() { newer.max } else { self.max };
        self.last = newer.last;
    }

    fn value(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            Aggregate::Avg => self.sum / self.count,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Sum => self.sum,
            Aggregate::Count => self.count,
            Aggregate::Last => self.last,
        }
    }
}

/// A window in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) start: i64,
    pub(super) end: i64,
    step: i64,
    most: usize,
}

impl Cut {
    pub(super) fn of(window: &Window) -> Result<Self, QueryError> {
        if window.end < window.start {
            return Err(QueryError::Backwards);
        }
        let step = i64::try_from(window.step.as_millis()).unwrap_or(i64::MAX);
        if step == 0 {
            return Err(QueryError::NoStep);
        }
        Ok(Self { start: ceil_millis(window.start), end: window.end.millis(), step, most: window.max_points })
    }

    /// An interval with which so many series fit.
    pub(super) fn too_many(&self, series: usize) -> QueryError {
        let each = i64::try_from(self.most / series.max(1)).unwrap_or(i64::MAX);
        if each < 2 {
            return QueryError::TooManySeries { series, most: self.most };
        }
        // A span touches one step more than fits in it.
        let millis = self.end.saturating_sub(self.start).unsigned_abs() / (each - 1).unsigned_abs();
        QueryError::TooMany { most: self.most, fits: Duration::from_secs((millis / 1000 + 1).next_multiple_of(5)) }
    }

    /// The points of a series; `None` where there are more than `left`.
    pub(super) fn read(&self, excerpt: &Excerpt, aggregate: Aggregate, left: usize) -> Option<Vec<Point>> {
        let start = self.start.max(excerpt.horizon);
        let buckets = excerpt.buckets.iter().flat_map(|chunk| chunk.rows());
        let buckets = buckets.filter(|row| row.time >= start && row.time <= self.end);
        let buckets = buckets.map(|Row { time, values }| (time, Folded::of(values)));
        let points = excerpt.points.iter().flat_map(|chunk| chunk.rows());
        let points = points.filter(|row| row.time >= start && row.time <= self.end);
        let points = points.map(|Row { time, values: [value] }| (time, Folded::of([1.0, value, value, value, value])));
        let mut found: Vec<Point> = Vec::new();
        let mut current: Option<(i64, Folded)> = None;
        for (time, folded) in buckets.chain(points) {
            let step = time.div_euclid(self.step).saturating_mul(self.step);
            match &mut current {
                Some((start, sum)) if *start >= step => sum.add(folded),
                _ => {
                    found.extend(current.replace((step, folded)).and_then(|done| point(done, aggregate)));
                    if found.len() > left {
                        return None;
                    }
                }
            }
        }
        found.extend(current.and_then(|done| point(done, aggregate)));
        (found.len() <= left).then_some(found)
    }
}

/// The point of a step; none where the sum of finite numbers became infinite.
fn point((start, folded): (i64, Folded), aggregate: Aggregate) -> Option<Point> {
    let value = folded.value(aggregate);
    value.is_finite().then_some(Point { time: Time::from_millis(start), value })
}

/// The first whole millisecond at or after a time.
fn ceil_millis(time: Time) -> i64 {
    time.millis() + i64::from(time.0.rem_euclid(1_000_000) != 0)
}
