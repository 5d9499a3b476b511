//! History of numbers: named series, an hour as they came, then a day in buckets. Bounded in time, bytes and number, and
//! compressed. Knows neither Kubernetes nor HTTP.
//!
//! | file | what it holds |
//! |---|---|
//! | `bits`, `chunk` | rows of a time and some numbers, compressed |
//! | `run` | rows in order: complete chunks, the open one, the newest row |
//! | `timeline` | one series: points, then buckets |
//! | `store` | [`SeriesStore`]: all series of one stream, and the bounds |
//! | `disk` | a store's files: snapshots and logs, for a restart |
//! | `query` | [`Window`], [`Aggregate`]: reading |
//!
//! What is promised of a series:
//! - A point is newer than all before it; one with the newest's time takes its place, an older one is dropped and counted.
//! - Times are whole milliseconds, rounded down. Values are kept bit for bit, `-0.0` and subnormals too; what is not finite
//!   is never stored.
//! - Points are kept as they came for at least `full_age`, then in buckets of `bucket` until they are `keep` old.
//! - A gap is a gap: no number is made up.

mod bits;
mod chunk;
pub mod disk;
mod query;
mod run;
mod store;
mod timeline;

#[cfg(test)]
mod tests;

pub use query::{Aggregate, Curve, Point, QueryError, Select, Window};
pub use store::{Budget, SeriesKey, SeriesOptions, SeriesStore, Tally};
pub use timeline::Appended;
