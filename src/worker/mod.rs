//! Supervised workers: desired specs in, running sources and observed state out.
