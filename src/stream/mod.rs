//! Live streams: a bounded ring with sequence numbers, readers with cursors of their own, and the catalogue
//! that tells where a stream is. Knows neither Kubernetes nor HTTP.
//!
//! ```text
//!                       ┌──────────── ring (records and bytes bounded) ────────────┐
//!   source ──publish──► │ 17: batch of 40 │ 57: signal │ 58: batch of 3 │ …  next=61 │
//!                       └──────▲──────────────────────────────▲────────────────────┘
//!                          reader (falls behind: gap)      reader (caught up: waits)
//! ```

pub mod archive;
mod backlog;
pub mod byte_stream;
mod catalogue;
mod frame;
mod reader;
mod ring;
pub mod segment;
pub mod series;
mod trail;

// What a test spawns is joined by the test.
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;

pub use backlog::{Backlog, BacklogItem, BacklogStream, From, Start};
pub use catalogue::{Catalogue, Gate, Located, StreamName};
pub use reader::{Delivery, Reader};
pub use ring::{Entry, Item, LiveStream, ReadFrom, RingLimits, Seq, StreamEnd, Tap, TapGuard};
pub use trail::{SeenWindow, Trail};
