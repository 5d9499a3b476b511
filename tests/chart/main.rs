//! The chart, the plain manifests and the examples: rendered and checked without Helm and without a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "tests say what is wrong by panicking"
)]

mod examples;
mod generated;
mod helm;
mod monitoring;
mod objects;
mod rbac;
