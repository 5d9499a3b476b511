//! Weir turns declared subscriptions into live, authorised streams.
//!
//! This page is the map of the house. A room imports only from floors below its own, and never from
//! another room of its own floor; `tests/house.rs` checks that.
//!
//! | floor | room | what lives there | what never does |
//! |---|---|---|---|
//! | 6 | [`cli`] | the commands: `run`, `watch`, `test`, `check`, `tail`, `push`, `spy`, `crds`, `keys` and more | logic |
//! | 5 | [`endpoint`] | what clients connect to: one file per protocol, limits, TLS, drain | Kubernetes calls |
//! | 5 | [`controller`] | objects from a cluster: validate, materialise, report status | byte handling |
//! | 5 | [`manifest`] | objects from a folder or a config file: the same, without a cluster | byte handling |
//! | 4 | [`worker`] | supervisor: specs in, running sources and observed state out; sharing, backoff | protocols |
//! | 3 | [`source`] | one folder or file per kind of source | keys, rules |
//! | 3 | [`health`] | checks of other systems, the machine's resources, the heartbeat | receivers of alerts |
//! | 3 | [`access`] | keys, grants, the authoriser | sources |
//! | 3 | [`rule`] | what is watched for in records, and who is told | sources, keys |
//! | 2 | [`stream`] | the ring, cursors, resuming, the catalogue of live streams | Kubernetes, HTTP |
//! | 1 | [`record`] | records, origins, signals, the line cutter, the wire encoders | async |
//! | 1 | [`api`] | the objects: schema, defaults, pure validation | I/O |
//! | 0 | [`telemetry`] | Weir's own counters and the shape of its errors | everything else |
//!
//! How bytes flow: a source reads bytes, cuts records and hands *batches* to its stream; the stream is a
//! bounded ring with sequence numbers; readers follow it with a cursor of their own, and a batch is
//! encoded once per wire format however many readers there are.

pub mod access;
pub mod api;
pub mod cli;
pub mod controller;
pub mod endpoint;
pub mod health;
pub mod manifest;
pub mod record;
pub mod rule;
pub mod source;
pub mod stream;
pub mod telemetry;
pub mod worker;
