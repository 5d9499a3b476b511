//! Who may read what: keys, grants and the authoriser.
