//! What the operating system says of the process, under the names that dashboards expect, without Weir's prefix.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Asked anew for each scrape. Where the system has no `/proc`, only the start of the process is known.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

/// What `/proc` says at one moment.
struct Found {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_files: Option<u64>,
    most_files: Option<u64>,
}

impl Process {
    /// The present moment counts as the start.
    pub(super) fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |age| age.as_secs_f64()) }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn Metric| {
            metric.put(&mut encoder, name, help, unit)
        };
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        put("process_start_time", "Start of the process since the epoch", seconds, &ConstGauge::new(self.started))?;
        let Some(found) = look() else { return Ok(()) };
        put(
            "process_cpu",
            "Time on processors, in user and system mode",
            seconds,
            &ConstCounter::new(found.cpu_seconds),
        )?;
        put("process_resident_memory", "Resident memory", bytes, &gauge(found.resident_bytes))?;
        put("process_virtual_memory", "Virtual memory", bytes, &gauge(found.virtual_bytes))?;
        put("process_threads", "Threads", None, &ConstGauge::new(found.threads))?;
        if let Some(open) = found.open_files {
            put("process_open_fds", "Open files and sockets", None, &gauge(open))?;
        }
        if let Some(most) = found.most_files {
            put("process_max_fds", "Files and sockets that may be open", None, &gauge(most))?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A metric of any type.
trait Metric {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: Option<&Unit>)
    -> std::fmt::Result;
}

impl<M: EncodeMetric> Metric for M {
    fn put(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> std::fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, unit, self.metric_type())?)
    }
}

#[cfg(target_os = "linux")]
fn look() -> Option<Found> {
    use procfs::process::{LimitValue, Process};
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let most_files = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    });
    Some(Found {
        cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        resident_bytes: stat.rss * procfs::page_size(),
        virtual_bytes: stat.vsize,
        threads: stat.num_threads,
        open_files: process.fd_count().ok().and_then(|count| u64::try_from(count).ok()),
        most_files,
    })
}

#[cfg(not(target_os = "linux"))]
fn look() -> Option<Found> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_this_process() {
        let before = look().unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let after = look().unwrap();
        drop(file);
        assert_eq!(after.open_files.unwrap(), before.open_files.unwrap() + 1);
        assert!(after.resident_bytes > 1024 * 1024 && after.virtual_bytes >= after.resident_bytes);
        assert!(after.cpu_seconds >= before.cpu_seconds && after.threads >= 1);
        assert!(after.most_files.is_none_or(|most| most >= after.open_files.unwrap()));
    }
}
