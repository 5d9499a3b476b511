//! Weir's own counters, its log, and the shape of its errors.
//!
//! Floor 0: every room may import this one, and this one imports none.
//!
//! | file | what it holds |
//! |---|---|
//! | `category` | [`Category`], the four ways in which something fails |
//! | `labels` | the closed sets of values that a metric label may take |
//! | `metrics` | [`Metrics`], every counter that Weir keeps about itself |
//! | `overview` | [`Overview`], the few numbers of them that the metrics socket shows |
//! | `logging` | the process's log on stderr |

mod category;
mod labels;
pub mod logging;
mod metrics;
mod overview;

pub use category::Category;
pub use labels::{
    AuthFailure, CodeClass, Dropped, HistoryOutcome, Kind, Outcome, Readiness, Reconnect, Route, ScrapedPage, Service,
    Transport, UpstreamKind,
};
pub use metrics::{
    AuthFailureLabels, Connected, DroppedLabels, Exposition, HistoryLabels, KindLabels, Metrics, ObjectLabels,
    ReconcileErrorLabels, ReconnectLabels, RequestLabels, RouteLabels, ScrapeLabels, ScrapedPageLabels, ServiceLabels,
    TransportLabels, UpstreamLabels,
};
pub use overview::Overview;
