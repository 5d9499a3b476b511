//! The metrics of pods, from their kubelets.
//!
//! ```text
//!   PodIndex ── pods come and go ──► PodMetrics (one per selection, names and interval)
//!                                       │ every interval, and at once when it begins
//!                                       ▼
//!                                    MetricsHub ── one scrape per node, for all who want it ──► kubelets
//!                                       │ pages, shared: what each container uses
//!                                       ▼
//!                                    Board: rates, shares, sums ──► Reading ──► LiveStream
//! ```

mod board;
mod catalogue;
pub mod exposition;
mod fold;
mod formula;
mod kubelet;
mod members;
mod nodes;
mod pod_metrics;
mod rate;
mod samples;
mod scrape;
#[cfg(test)]
mod tests;
mod view;

pub use board::{Board, Known, Seen};
pub use catalogue::{Catalogue, KnownMetric};
pub use kubelet::ScrapeConfig;
pub use nodes::{AddressType, Capacity};
pub use pod_metrics::{PodMetrics, PodMetricsConfig};
pub use samples::NodePage;
pub use scrape::MetricsHub;
