//! Where records come from: one folder or file per kind of source.
//!
//! A source reads, cuts, stamps and publishes to its [`LiveStream`](crate::stream::LiveStream); it never waits
//! for a reader and knows neither keys nor protocols.
//!
//! To add one: a folder or file here with a type that is a [`Source`], and its line in [`Sources::build`].

mod build;
pub mod containers;
mod feed;
pub mod files;
mod outside;
pub mod pods;
pub mod push;
pub mod remote;
mod sieve;

pub use build::{BuildError, Sources, Wish};
pub use outside::{Allowed, Outside, OutsidePolicy};
pub use sieve::Sieve;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::PodFacts;
use crate::record::Origin;
use crate::stream::{Backlog, LiveStream};

/// Whether a container of a pod may be seen: what a key grants, or anything else that narrows a selection.
pub type Visible = Arc<dyn Fn(&PodFacts<'_>, &str) -> bool + Send + Sync>;

/// Something that publishes records to a stream for as long as it is wanted.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// Publishes to `stream` until `cancel`; done when everything behind it is released.
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()>;

    /// Access to what was written before the stream began, where there is any.
    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>>;

    /// Takes up which of its nodes are stopped, as `pod+container`: when this is done, they are followed no longer, and
    /// [`listed`](Self::listed) tells when others are again. The rest goes on undisturbed. Only asked of sources of which
    /// [`SourceSpec::stops_nodes_as_it_runs`](crate::api::SourceSpec::stops_nodes_as_it_runs) is true.
    fn set_stopped(&self, _stopped: &[String]) {}

    /// How many containers, files or connections are followed now, and every change of that.
    fn targets(&self) -> watch::Receiver<usize>;

    /// Whether it is known what there is to follow.
    fn listed(&self) -> watch::Receiver<bool>;

    /// What is followed now, sorted. Each is announced by a signal after it stands here, and stands here no more when
    /// its end is announced: whoever reads first and then looks here misses none.
    fn roster(&self) -> Vec<Arc<Origin>>;
}
