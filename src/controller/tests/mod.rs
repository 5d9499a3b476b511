//! The controllers against an API server that is asked exactly what the test says, in that order: one call more or
//! less fails.

pub(super) mod api_server;
mod keys;
mod receivers;
mod streams;
