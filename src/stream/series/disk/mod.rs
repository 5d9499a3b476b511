//! History of numbers on disk: a snapshot of a store, and a log of what came after it.
//!
//! ```text
//!   00000000000000000007.snap    everything before log 7, compressed
//!   00000000000000000007.log     what came then, as it came
//!   00000000000000000008.tmp     a snapshot that is being written
//! ```
//!
//! Memory is the truth, and bounded; so is the disk: when the log is longer than the snapshot, a new log is begun, what memory
//! holds is written as a new snapshot, and all older files go, whole. So there are at most two snapshots and two logs.
//!
//! What is promised:
//! - What was synced is there after a crash, wherever it cut; what is read was written. A torn or damaged record ends its file.
//! - A file that is no longer written is never appended to: after a start, or a write that failed, a new log is begun.
//! - When writing fails, such as on a full disk, memory goes on. A later snapshot brings everything that memory still holds.
//! - Names of folders are hashes; nothing that a client wrote is part of a path.
//!
//! Every call waits for the disk: make it where that is allowed.

mod format;
mod log;
mod recover;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use sha2::{Digest, Sha256};

pub use log::{SeriesLog, Written};
pub use recover::Recovery;

/// The room on disk that several logs share.
#[derive(Debug)]
pub struct DiskBudget {
    bytes: u64,
    used: AtomicU64,
    full: &'static str,
}

impl DiskBudget {
    /// So many bytes. `full` says what is used up, and what to do then.
    pub fn new(bytes: u64, full: &'static str) -> Arc<Self> {
        Arc::new(Self { bytes, used: AtomicU64::new(0), full })
    }

    /// How much is in use, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How much is left, in bytes.
    pub fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.used())
    }

    /// Takes room.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] where there is not enough.
    pub(in crate::stream) fn take(&self, bytes: u64) -> io::Result<()> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.bytes);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| self.full())
    }

    /// That there is not enough room: [`io::ErrorKind::QuotaExceeded`], with what to do.
    pub fn full(&self) -> io::Error {
        io::Error::new(io::ErrorKind::QuotaExceeded, self.full)
    }

    /// Counts what is there already, whether or not it fits.
    pub(in crate::stream) fn count(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::stream) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The folder below `root` for the history of this object.
pub fn folder(root: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [namespace, name, uid] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    root.join(hex::encode(hash.finalize()))
}

/// Deletes a folder of history and all in it; one that is not there is deleted already.
///
/// # Errors
/// What the system says.
pub fn delete(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Deletes folders below `root` of which everything is too old to be kept: those of objects that were deleted while nobody
/// looked. Says how many.
///
/// # Errors
/// Where `root` cannot be listed.
pub fn delete_expired(root: &Path, now: SystemTime, in_use: impl Fn(&Path) -> bool) -> io::Result<usize> {
    let mut deleted = 0;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if ours && !in_use(&path) && expired(&path, now) && delete(&path).is_ok() {
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// How long a folder is left alone that nobody uses.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deletes folders below `root` that are not in use and whose files nobody has written to for a week. A root that is not there
/// has none.
///
/// # Errors
/// Where `root` cannot be listed.
pub fn delete_abandoned(root: &Path, in_use: impl Fn(&Path) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let written = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
        let old = |path: &Path| written(path).and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED);
        if !in_use(&path) && old(&path) && fs::read_dir(&path)?.flatten().all(|file| old(&file.path())) {
            delete(&path)?;
        }
    }
    Ok(())
}

/// Whether no file of a folder was written within the time for which it is kept.
fn expired(folder: &Path, now: SystemTime) -> bool {
    let Ok(files) = recover::files(folder) else { return false };
    files.iter().all(|file| {
        let Ok(written) = fs::metadata(&file.path).and_then(|about| about.modified()) else { return false };
        let keep = recover::keep(&file.path).unwrap_or(Duration::ZERO);
        now.duration_since(written).is_ok_and(|age| age > keep)
    })
}
