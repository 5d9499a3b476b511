//! Where records come from: one folder or file per kind of source.
