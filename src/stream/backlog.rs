//! What a stream can give from before its ring: asked for by a reader, pulled at the reader's pace.

use std::sync::Arc;

use futures::stream::BoxStream;

use crate::record::{Batch, Signal, Time};

/// How much of the past a reader wants, for each container (or its likeness) by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct From {
    /// Where the past begins.
    pub start: Start,
    /// At most this many lines of it, the newest.
    pub lines: Option<u64>,
    /// Also the run before the present one.
    pub previous: bool,
}

/// Where the past begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Start {
    /// No past: what comes next.
    #[default]
    Now,
    /// As far back as the source remembers.
    Beginning,
    /// At this time.
    At(Time),
}

impl From {
    /// Whether any past is wanted.
    pub fn wants_past(&self) -> bool {
        self.start != Start::Now || self.previous
    }
}

/// A piece of the past.
#[derive(Clone, Debug)]
pub enum BacklogItem {
    /// Records, in order within their origin.
    Records(Arc<Batch>),
    /// Something that the reader must know, for example that one container's past cannot be had.
    Signal(Arc<Signal>),
}

/// The past, pulled at the reader's pace.
pub type BacklogStream = BoxStream<'static, BacklogItem>;

/// A stream's access to its own past.
///
/// The promise that makes joining exact: what [`fetch`](Self::fetch) gives reaches at least as far as the
/// moment of the call, so that together with all that the ring gets after that moment nothing is missing; what is
/// in both is told apart by [`Trail`](super::Trail).
pub trait Backlog: Send + Sync + std::fmt::Debug {
    /// Gives the past as `from` wants it, of everything that is in the stream now.
    fn fetch(&self, from: From) -> BacklogStream;
}
