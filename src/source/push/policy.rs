//! How uploads are bounded, in all and by name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::records::Records;
use crate::api::FsyncPolicy;
use crate::stream::LiveStream;

/// How uploads are bounded in all. Every field is an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadsConfig {
    /// Bytes of one upload that are kept in memory, where its subscription does not say; 8 MiB. Older ones are given up.
    pub stream_bytes: usize,
    /// Bytes of all uploads that are kept in memory; 256 MiB.
    pub memory: u64,
    /// Bytes of all uploads that have come and wait to be stored, beyond the little that each may have; 64 MiB.
    pub gathered: u64,
    /// Uploads that are known at a time; 10,000.
    pub streams: usize,
    /// How long an upload that has ended is kept after its end, or after it was last asked for; 1 h.
    pub keep: Duration,
    /// After how long a silence a producer counts as lost; 1 h.
    pub stall: Duration,
    /// Bytes of metadata; 8 KiB.
    pub metadata_bytes: usize,
    /// Whether names may be uploaded to that no subscription declares; false.
    pub undeclared: bool,
    /// Where uploads are kept whose subscriptions ask for history on disk.
    pub disk: Option<UploadsDisk>,
}

/// Where uploads are kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadsDisk {
    /// A folder of our own.
    pub folder: PathBuf,
    /// Bytes for all of them.
    pub bytes: u64,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        Self {
            stream_bytes: 8 * 1024 * 1024,
            memory: 256 * 1024 * 1024,
            gathered: 64 * 1024 * 1024,
            streams: 10_000,
            keep: Duration::from_secs(60 * 60),
            stall: Duration::from_secs(60 * 60),
            metadata_bytes: 8 * 1024,
            undeclared: false,
            disk: None,
        }
    }
}

/// What holds for uploads of one name.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Most bytes of one upload; none for no bound.
    pub most: Option<u64>,
    /// Whether an upload may take the place of another.
    pub replace: bool,
    /// Bytes that are kept: in memory or on disk. None for the operator's own bound.
    pub bytes: Option<u64>,
    /// How long an upload is kept after its end; none for the operator's own time.
    pub keep: Option<Duration>,
    /// Whether it is kept on disk, and when that is made durable.
    pub disk: Option<FsyncPolicy>,
    /// Cancelled when the name is declared no more: producers and readers are cut.
    pub closed: CancellationToken,
    /// Where what happens to uploads of this name is told.
    pub told: Option<Arc<LiveStream>>,
    /// Where they become records, too.
    pub records: Option<Arc<Records>>,
}

impl Policy {
    /// What holds for names that no subscription declares.
    pub(super) fn undeclared(closed: CancellationToken) -> Self {
        Self { most: None, replace: true, bytes: None, keep: None, disk: None, closed, told: None, records: None }
    }
}
