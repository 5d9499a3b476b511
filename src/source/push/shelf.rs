//! Uploads on disk: a folder for each, with a note of what it is beside its segments.
//!
//! ```text
//!   <hash of namespace, id and generation>/
//!     about            one record: what is uploaded here. Without it the folder is of nothing, and goes
//!     000….seg         its bytes
//! ```

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::task::TaskTracker;

use super::policy::UploadsDisk;
use crate::api::FsyncPolicy;
use crate::stream::byte_stream::{ByteStream, note_end};
use crate::stream::segment::{self, Disk, OsDisk, Retention, SegmentLog};
use crate::stream::series::disk::{DiskBudget, delete};

/// Where uploads are kept on disk.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    budget: Arc<DiskBudget>,
    tracker: TaskTracker,
}

/// What stands in `about`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) namespace: String,
    pub(super) id: String,
    pub(super) generation: u64,
    /// When it began, in milliseconds since the epoch: of two of one name the newer counts.
    pub(super) began: i64,
    pub(super) metadata: Option<String>,
    pub(super) bytes: Option<u64>,
    pub(super) keep_millis: Option<u64>,
    pub(super) fsync: FsyncPolicy,
}

const ABOUT: &str = "about";
const UNFINISHED: &str = "about.tmp";
/// Where less room than this is left, in bytes, an upload does not begin.
const LEAST: u64 = 64 * 1024;
/// What a producer is told where the room is used up.
const FULL: &str = "the room for uploads on disk is used up; delete some, or let the operator allow more with \
    --uploads-disk-bytes";
/// Bytes of a note at most.
const LONGEST_ABOUT: usize = 1024 * 1024;

impl Shelf {
    pub(super) fn new(disk: &UploadsDisk, tracker: TaskTracker) -> Arc<Self> {
        Arc::new(Self { folder: disk.folder.clone(), budget: DiskBudget::new(disk.bytes, FULL), tracker })
    }

    pub(super) fn used(&self) -> u64 {
        self.budget.used()
    }

    /// Whether something can be stored still.
    ///
    /// # Errors
    /// Where the room is used up, or nearly so.
    pub(super) fn has_room(&self) -> io::Result<()> {
        if self.budget.left() < LEAST { Err(self.budget.full()) } else { Ok(()) }
    }

    fn folder_of(&self, about: &About) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [about.namespace.as_bytes(), about.id.as_bytes(), &about.generation.to_le_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        self.folder.join(hex::encode(hash.finalize()))
    }

    /// Makes room for a new upload. When this is done, a start will find it.
    pub(super) async fn make(self: &Arc<Self>, about: About) -> io::Result<Arc<ByteStream>> {
        let this = Arc::clone(self);
        let made = self.tracker.spawn_blocking(move || {
            let folder = this.folder_of(&about);
            OsDisk.list(&folder)?;
            write_about(&folder, &about).inspect_err(|_| drop(delete(&folder)))?;
            OsDisk.sync_folder(&this.folder)?;
            this.open(&folder, &about, false)
        });
        made.await.map_err(io::Error::other)?
    }

    fn open(&self, folder: &Path, about: &About, found: bool) -> io::Result<Arc<ByteStream>> {
        let keep = Retention { bytes: about.bytes, ..Retention::default() };
        let mut complete = false;
        let note = |_, units, _, data: &[u8]| note_end(&mut complete, units, data);
        let (log, recovery) = SegmentLog::open(Arc::new(OsDisk), folder, keep, Arc::clone(&self.budget), note)?;
        if recovery.damaged > 0 {
            let bytes = recovery.damaged;
            tracing::warn!(folder = %folder.display(), bytes, "The end of an upload on disk was torn or damaged");
        }
        let log = if about.fsync == FsyncPolicy::Never { log.lazily() } else { log };
        Ok(ByteStream::on_disk(log, found.then_some(complete), about.fsync, self.tracker.clone()))
    }

    /// Deletes what is kept of an upload that has been discarded. It goes on when nobody waits for it.
    pub(super) async fn erase(self: &Arc<Self>, about: About, bytes: Arc<ByteStream>) {
        let this = Arc::clone(self);
        let erased = self.tracker.spawn_blocking(move || {
            let folder = this.folder_of(&about);
            // Without its note nothing of it comes back, wherever this is cut.
            let gone = || OsDisk.remove(&folder.join(ABOUT)).and_then(|()| delete(&folder));
            if let Err(error) = bytes.close_files(gone) {
                tracing::warn!(folder = %folder.display(), %error, "A deleted upload could not be deleted from disk");
            }
        });
        let _ = erased.await;
    }

    /// What a start finds, the newest of each name. What is unfinished or was replaced goes. Waits for the disk.
    pub(super) fn find(&self) -> io::Result<Vec<(About, Arc<ByteStream>)>> {
        OsDisk.list(&self.folder)?;
        let mut found: Vec<(PathBuf, About)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            match read_about(&folder).filter(|about| self.folder_of(about) == folder) {
                Some(about) => found.push((folder, about)),
                None => delete(&folder)?,
            }
        }
        found.sort_by_key(|(_, about)| std::cmp::Reverse((about.began, about.generation)));
        let (mut kept, mut names) = (Vec::new(), HashSet::new());
        for (folder, about) in found {
            if !names.insert((about.namespace.clone(), about.id.clone())) {
                delete(&folder)?;
                continue;
            }
            let bytes = self.open(&folder, &about, true)?;
            kept.push((about, bytes));
        }
        Ok(kept)
    }
}

fn write_about(folder: &Path, about: &About) -> io::Result<()> {
    let text = serde_json::to_vec(about)?;
    let mut file = OsDisk.create(&folder.join(UNFINISHED))?;
    file.append(&[&segment::sealed(&text)])?;
    file.sync()?;
    OsDisk.rename(&folder.join(UNFINISHED), &folder.join(ABOUT))?;
    OsDisk.sync_folder(folder)
}

fn read_about(folder: &Path) -> Option<About> {
    let mut text = vec![0; LONGEST_ABOUT];
    let read = OsDisk.read_at(&folder.join(ABOUT), 0, &mut text).ok()?;
    serde_json::from_slice(segment::unsealed(&text[..read])?).ok()
}
