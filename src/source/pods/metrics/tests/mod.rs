//! What holds of metrics from the page to the asset, without a cluster.

mod members;
mod rates;
mod rows;
mod sums;
