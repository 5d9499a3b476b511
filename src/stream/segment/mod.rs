//! An append-only log on disk, in segments: records that are only ever appended and are given up from the old end.
//!
//! ```text
//!   00000000000000000000.seg   places 0 to 8,191      sealed: read only, goes as a whole when it is too old or too much
//!   00000000000000008192.seg   places 8,192 to …      open: the one that is written
//! ```
//!
//! A record covers so many *units*, which are whatever its owner counts: bytes of an upload, or lines. Places count units from
//! 0 and never come twice. What is in a record is its owner's business.
//!
//! What is promised, wherever a crash cuts:
//! - What was synced is there. What is read was written, at the place where it was written, and in that order.
//! - A torn or damaged record ends its segment; what was torn off is cut off at the next start. Places that are lost that way
//!   read as a [`Gap`](Found::Gap), never as something else.
//! - A file that is no longer written is never appended to: after a start, or a write that failed, a new segment is begun.
//! - A write that fails, such as on a full disk, changes nothing: what was there can be read, and the next write may succeed.
//! - The index is in memory and made anew from the segments at each start; there is nothing on disk that could contradict them.
//!
//! Every call waits for the disk: make it where that is allowed.

mod disk;
mod format;
mod log;
mod view;

#[cfg(test)]
pub(in crate::stream) mod tests;

pub use disk::{Disk, DiskFile, OsDisk, fill_at};
pub use format::{LONGEST_DATA, record_bytes};
pub use log::{Recovery, Retention, SegmentLog};
pub use view::{Found, SegmentView};

use super::frame;

/// A text with its length and checksum, for a small file beside a log.
pub fn sealed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, |out| out.extend_from_slice(text));
    out
}

/// The text that was [`sealed`]; `None` where it is not whole.
pub fn unsealed(mut sealed: &[u8]) -> Option<&[u8]> {
    frame::read(&mut sealed, LONGEST_DATA)
}
