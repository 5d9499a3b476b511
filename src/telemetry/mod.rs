//! Weir's own counters, its log, and the shape of its errors.
//!
//! Floor 0: every room may import this one, and this one imports none.
//!
//! | file | what it holds |
//! |---|---|
//! | `category` | [`Category`], the four ways in which something fails |
//! | `label_sets` | which labels each family has |
//! | `labels` | the closed sets of values that a metric label may take |
//! | `metrics` | [`Metrics`], every counter that Weir keeps about itself |
//! | `process` | what the operating system says of the process |
//! | `overview` | [`Overview`], the few numbers of them that the metrics socket shows |
//! | `logging` | the process's log on stderr |

mod category;
mod label_sets;
mod labels;
pub mod logging;
mod metrics;
mod overview;
mod process;

pub use category::Category;
pub use label_sets::{
    AlertLabels, AuthFailureLabels, DroppedLabels, HealthLabels, HistoryDiskLabels, HistoryLabels, KindLabels,
    ObjectLabels, QueueLabels, ReconcileErrorLabels, ReconnectLabels, RequestLabels, RouteLabels, ScrapeLabels,
    ScrapedPageLabels, ServiceLabels, TransportLabels, UpstreamLabels,
};
pub use labels::{
    AlertKind, AlertOutcome, AuthFailure, CodeClass, Dropped, HistoryDiskOutcome, HistoryOutcome, Kind, Outcome, Queue,
    Readiness, Reconnect, Route, ScrapedPage, Service, Transport, UpstreamKind, Watched,
};
pub use metrics::{Connected, Exposition, Metrics};
pub use overview::Overview;
