//! What clients connect to: one file per protocol.
