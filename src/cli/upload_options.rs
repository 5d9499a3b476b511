//! What uploads may cost.

use std::path::Path;
use std::time::Duration;

use super::problems::Problems;
use crate::source::push::{UploadsConfig, UploadsDisk};

const SECOND: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Uploads")]
pub(super) struct UploadArgs {
    /// Let keys that may push upload to names that no subscription declares [default: only to declared ones]
    #[arg(long, env = "WEIR_ALLOW_UNDECLARED_UPLOADS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    allow_undeclared_uploads: bool,
    /// Bytes of one upload that are kept in memory, the newest, where its subscription does not say
    #[arg(long, value_name = "BYTES", env = "WEIR_UPLOAD_BYTES", hide_env_values = true, default_value = "8388608")]
    upload_bytes: String,
    /// Bytes of memory for all uploads
    #[arg(long, value_name = "BYTES", env = "WEIR_UPLOADS_MEMORY", hide_env_values = true)]
    #[arg(default_value = "268435456")]
    uploads_memory: String,
    /// Bytes of all uploads that have come and wait to be written, beyond 16 KiB of each
    #[arg(long, value_name = "BYTES", env = "WEIR_UPLOADS_WAITING", hide_env_values = true)]
    #[arg(default_value = "67108864")]
    uploads_waiting: String,
    /// Bytes on disk for all uploads
    #[arg(long, value_name = "BYTES", env = "WEIR_UPLOADS_DISK_BYTES", hide_env_values = true)]
    #[arg(default_value = "1073741824")]
    uploads_disk_bytes: String,
    /// Uploads that are kept at a time, running and ended
    #[arg(long, value_name = "COUNT", env = "WEIR_MAX_UPLOADS", hide_env_values = true, default_value = "10000")]
    max_uploads: String,
    /// How long an upload is kept once it has ended and nobody asks for it
    #[arg(long, value_name = "TIME", env = "WEIR_UPLOAD_KEEP", hide_env_values = true, default_value = "1h")]
    upload_keep: String,
    /// After how long a silence a producer counts as lost
    #[arg(long, value_name = "TIME", env = "WEIR_UPLOAD_STALL", hide_env_values = true, default_value = "1h")]
    upload_stall: String,
    /// Bytes of the metadata of one upload
    #[arg(long, value_name = "BYTES", env = "WEIR_UPLOAD_METADATA_BYTES", hide_env_values = true)]
    #[arg(default_value = "8192")]
    upload_metadata_bytes: String,
}

impl UploadArgs {
    pub fn check(&self, p: &mut Problems, data: Option<&Path>) -> UploadsConfig {
        let disk_bytes = p.number("--uploads-disk-bytes", &self.uploads_disk_bytes, 1024 * 1024..=1 << 50);
        UploadsConfig {
            stream_bytes: p.number("--upload-bytes", &self.upload_bytes, 1024..=4 * 1024 * 1024 * 1024),
            memory: p.number("--uploads-memory", &self.uploads_memory, 1024..=64 * 1024 * 1024 * 1024),
            gathered: p.number("--uploads-waiting", &self.uploads_waiting, 0..=64 * 1024 * 1024 * 1024),
            streams: p.number("--max-uploads", &self.max_uploads, 1..=1_000_000),
            keep: p.duration("--upload-keep", &self.upload_keep, SECOND..=LONGEST),
            stall: p.duration("--upload-stall", &self.upload_stall, SECOND..=LONGEST),
            metadata_bytes: p.number("--upload-metadata-bytes", &self.upload_metadata_bytes, 0..=64 * 1024),
            undeclared: self.allow_undeclared_uploads,
            disk: data.map(|folder| UploadsDisk { folder: folder.join("uploads"), bytes: disk_bytes }),
        }
    }
}
