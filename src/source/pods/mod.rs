//! Pods: which there are, what happens to them, and their logs, through the API server.
//!
//! ```text
//!   PodIndex ── pods come and go ──► PodLogs (one per selection)
//!                                       │ attach / detach
//!                                       ▼
//!                                    FollowHub ── one Follow per container run ──► API server
//!                                       │ batches, shared
//!                                       ▼
//!                                    each PodLogs' LiveStream
//! ```

mod chunked;
mod container;
pub(super) mod direct;
mod ending;
mod follow;
mod hub;
mod index;
mod info;
mod log_api;
mod log_client;
mod logs;
pub mod metrics;
pub(super) mod parse;
mod past;
mod signals;

pub(super) use follow::{Backoff, END_LINES};
pub use hub::{FollowHub, HubConfig};
pub use index::{IndexConfig, IndexScope, PodIndex};
pub use info::{ContainerInfo, Ending, PodFailure, PodInfo, Run, RunFate};
pub use log_client::log_client;
pub use logs::{PodLogs, PodLogsConfig};
pub use signals::{PodSignals, PodSignalsConfig, SignalFilter};
