//! What flows: records, origins, signals, and how they are cut and encoded.
