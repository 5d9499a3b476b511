//! Weir's own counters and the shape of its errors.
