//! What logs, streams and their history may cost.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::problems::Problems;
use crate::record::LineLimit;
use crate::source::pods::{HubConfig, IndexConfig};
use crate::stream::RingLimits;
use crate::stream::series::SeriesOptions;
use crate::worker::{HistoryConfig, HistoryDisk, SupervisorConfig};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// Bytes of the longest line that is kept whole
    #[arg(long, value_name = "BYTES", env = "WEIR_MAX_LINE_BYTES", hide_env_values = true, default_value = "65536")]
    max_line_bytes: String,
    /// Records that a stream holds for its readers, where its subscription does not say
    #[arg(long, value_name = "COUNT", env = "WEIR_RING_RECORDS", hide_env_values = true, default_value = "100000")]
    ring_records: String,
    /// Bytes that a stream holds for its readers, where its subscription does not say
    #[arg(long, value_name = "BYTES", env = "WEIR_RING_BYTES", hide_env_values = true, default_value = "8388608")]
    ring_bytes: String,
    /// How long a follow may be silent before a second request asks whether it has missed something
    #[arg(long, value_name = "TIME", env = "WEIR_IDLE_PROBE", hide_env_values = true, default_value = "10s")]
    idle_probe: String,
    /// The longest wait before connecting to the API server again
    #[arg(long, value_name = "TIME", env = "WEIR_BACKOFF_MAX", hide_env_values = true, default_value = "5s")]
    backoff_max: String,
    /// Kubernetes Events that are remembered so that none is told twice
    #[arg(long, value_name = "COUNT", env = "WEIR_EVENTS_REMEMBERED", hide_env_values = true, default_value = "16384")]
    events_remembered: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "History")]
pub(super) struct HistoryArgs {
    /// Bytes of memory for the history of all subscriptions
    #[arg(long, value_name = "BYTES", env = "WEIR_HISTORY_BYTES", hide_env_values = true, default_value = "67108864")]
    history_bytes: String,
    /// Series of one subscription
    #[arg(long, value_name = "COUNT", env = "WEIR_HISTORY_SERIES", hide_env_values = true, default_value = "10000")]
    history_series: String,
    /// Bytes on disk for the history of all subscriptions
    #[arg(long, value_name = "BYTES", env = "WEIR_HISTORY_DISK_BYTES", hide_env_values = true)]
    #[arg(default_value = "1073741824")]
    history_disk_bytes: String,
}

impl LogArgs {
    /// How logs of pods are followed.
    pub fn hub(&self, p: &mut Problems) -> HubConfig {
        let usual = HubConfig::default();
        let idle_probe = p.duration("--idle-probe", &self.idle_probe, SECOND..=HOUR);
        HubConfig {
            line_limit: LineLimit(p.number("--max-line-bytes", &self.max_line_bytes, 256..=1024 * 1024)),
            idle_probe,
            idle_probe_max: usual.idle_probe_max.max(idle_probe),
            backoff_max: p.duration("--backoff-max", &self.backoff_max, SECOND..=HOUR),
        }
    }

    /// What is remembered of the watches.
    pub fn index(&self, p: &mut Problems) -> IndexConfig {
        let events = p.number("--events-remembered", &self.events_remembered, 1..=10_000_000);
        let usual = IndexConfig::default();
        IndexConfig { events_remembered: NonZeroUsize::new(events).unwrap_or(usual.events_remembered) }
    }

    /// How workers run.
    pub fn supervisor(&self, p: &mut Problems) -> SupervisorConfig {
        let ring = RingLimits {
            records: p.number("--ring-records", &self.ring_records, 1..=100_000_000),
            bytes: p.number("--ring-bytes", &self.ring_bytes, 1024..=4 * 1024 * 1024 * 1024),
            age: None,
        };
        SupervisorConfig { ring, ..SupervisorConfig::default() }
    }
}

impl HistoryArgs {
    /// What history may cost, and in which folder it is kept that survives a restart.
    pub fn config(&self, p: &mut Problems, folder: Option<PathBuf>) -> HistoryConfig {
        let usual = HistoryConfig::default();
        let bytes = p.number("--history-bytes", &self.history_bytes, 1024 * 1024..=64 * 1024 * 1024 * 1024);
        let disk_bytes = p.number("--history-disk-bytes", &self.history_disk_bytes, 1024 * 1024..=1 << 50);
        let series = p.number("--history-series", &self.history_series, 1..=1_000_000);
        let disk = folder.map(|folder| HistoryDisk { folder, bytes: disk_bytes });
        HistoryConfig { disk, bytes, series: SeriesOptions { series, ..usual.series } }
    }
}
