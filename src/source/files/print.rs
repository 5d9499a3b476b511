//! Who a file is: its inode, and a fingerprint of what was read of it.
//!
//! An inode alone is not enough. A new file may be given the inode of one that was deleted, and `copytruncate` empties a
//! file that keeps its inode. So the first bytes are remembered, and those just before the position: a file that differs
//! in either is not the one that was read, and one of another inode that differs in neither is a copy of it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use crate::stream::segment::fill_at;

/// How many of the first bytes are remembered.
const HEAD: u64 = 1024;
/// How many of the bytes before the position are remembered.
pub(super) const BACK: u64 = 256;

/// The times of files have steps of some milliseconds. What was looked at so long after its last change, in nanoseconds,
/// has another time when it changes again.
pub(super) const STEP: i64 = 50_000_000;

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileId {
    /// The device that holds it.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
}

impl FileId {
    pub fn of(about: &Metadata) -> Self {
        Self { dev: about.dev(), ino: about.ino() }
    }
}

/// When a file was last written, in nanoseconds since the epoch.
pub(super) fn written(about: &Metadata) -> i64 {
    about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec())
}

/// What a file held up to a position, as checksums (CRC32C) of its first bytes and of those before the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print {
    head: u32,
    back: u32,
}

/// How many bytes before a position count.
pub(super) fn back_len(pos: u64) -> usize {
    pos.min(BACK) as usize
}

fn head_len(pos: u64) -> usize {
    pos.min(HEAD) as usize
}

impl Print {
    /// That of a file up to `pos`; none where the file is shorter.
    pub fn of(file: &File, pos: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEAD as usize];
        let head = &mut bytes[..head_len(pos)];
        if fill_at(file, head, 0)? < head.len() {
            return Ok(None);
        }
        let head = crc32c::crc32c(head);
        let back = &mut bytes[..back_len(pos)];
        let from = pos - back.len() as u64;
        if fill_at(file, back, from)? < back.len() {
            return Ok(None);
        }
        Ok(Some(Self { head, back: crc32c::crc32c(back) }))
    }

    /// Whether a file holds up to `pos` what was read.
    pub fn is_of(self, file: &File, pos: u64) -> io::Result<bool> {
        Ok(Self::of(file, pos)? == Some(self))
    }

    /// Whether the first bytes are still the same. Those before the position come with what is read next.
    pub fn has_head(self, file: &File, pos: u64) -> io::Result<bool> {
        if head_len(pos) <= back_len(pos) {
            return Ok(true);
        }
        let mut bytes = [0; HEAD as usize];
        let head = &mut bytes[..head_len(pos)];
        Ok(fill_at(file, head, 0)? == head.len() && crc32c::crc32c(head) == self.head)
    }

    /// Whether these are the bytes before the position.
    pub fn has_back(self, back: &[u8]) -> bool {
        crc32c::crc32c(back) == self.back
    }

    /// Moves on from `pos` over what was read: `window` holds the bytes before the position, then what was read.
    pub fn advance(&mut self, pos: u64, window: &[u8]) {
        let back = back_len(pos);
        let new = &window[back..];
        let missing = (HEAD as usize - head_len(pos)).min(new.len());
        self.head = crc32c::crc32c_append(self.head, &new[..missing]);
        let kept = back_len(pos + new.len() as u64);
        self.back = crc32c::crc32c(&window[window.len() - kept..]);
    }
}
