//! Streams that producers upload: `push`.
//!
//! | file | what it does |
//! |---|---|
//! | `identity` | what an id and metadata may be |
//! | `policy` | [`UploadsConfig`], and [`Policy`]: what holds for uploads of one name |
//! | `uploads` | [`Uploads`]: all of them, by name; who may begin, go on, replace |
//! | `gather` | what has come of one and is not stored yet |
//! | `shelf` | those on disk: their folders, and what a start finds there |
//! | `records` | [`Records`]: what is uploaded, cut into lines |
//! | `declared` | the source: a subscription that declares a name |
//!
//! What a client wrote never becomes part of a path: folders are named by a hash.

mod declared;
mod gather;
mod identity;
mod policy;
mod records;
mod shelf;
mod uploads;

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;

pub use declared::{Declared, PushConfig};
pub use gather::{Batch, Gathered, Gathering};
pub use identity::{IdError, Metadata, MetadataError, UploadId};
pub use policy::{Policy, UploadsConfig, UploadsDisk};
pub use records::{Framing, Records};
pub use uploads::{Begun, Upload, UploadError, Uploads};
