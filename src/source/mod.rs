//! Where records come from: one folder or file per kind of source.
//!
//! A source reads, cuts, stamps and publishes to its [`LiveStream`](crate::stream::LiveStream); it never waits
//! for a reader and knows neither keys nor protocols.

pub mod pods;
