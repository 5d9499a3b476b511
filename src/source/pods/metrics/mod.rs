//! The metrics of pods, as their kubelets tell them.

pub mod exposition;
