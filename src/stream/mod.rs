//! Live streams: the ring, its readers, resuming, and the catalogue.
