//! What a key grants, compiled.

/// Compiled grants.
#[derive(Debug, Default, PartialEq)]
pub struct Grants {}
