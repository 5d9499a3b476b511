//! What is asked for by a name: a value as the kubelet gives it, a rate, or a share.

use super::catalogue::KnownMetric;
use crate::api::source::{DERIVED_METRICS, RATE_SUFFIX};

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";
const TRANSMITTED: &str = "container_network_transmit_bytes_total";
const RECEIVED: &str = "container_network_receive_bytes_total";
/// The first that a container has rows of: which one depends on the version of cgroups and on the runtime.
const WRITTEN: [&str; 2] = ["container_fs_writes_bytes_total", "container_blkio_device_usage_total_write"];
const READ: [&str; 2] = ["container_fs_reads_bytes_total", "container_blkio_device_usage_total_read"];

/// Megabits in a byte.
const MEGABITS: f64 = 8.0 / 1e6;

/// Of what a share is a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// The node on which the container runs.
    Node,
    /// All nodes together.
    Cluster,
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Transmit,
    Receive,
}

/// How a metric is made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Formula {
    /// As the kubelet gives it.
    Value(String),
    /// How fast a counter grows in a second, times a factor. The first of the names that there are rows of.
    Rate { of: Vec<String>, factor: f64 },
    /// Percent of the CPUs' time.
    CpuShare(Whole),
    /// Percent of the memory.
    MemoryShare(Whole),
    /// Percent of what all pods send or receive.
    TrafficShare(Direction, Whole),
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Transmit, Self::Receive];

    /// The counter of the bytes.
    pub fn counter(self) -> &'static str {
        match self {
            Self::Transmit => TRANSMITTED,
            Self::Receive => RECEIVED,
        }
    }
}

impl Formula {
    /// What a name asks for; `None` for one that only looks like a derived metric.
    pub fn of(name: &str) -> Option<Self> {
        if let Some(counter) = name.strip_suffix(RATE_SUFFIX) {
            return Some(Self::Rate { of: vec![counter.to_owned()], factor: 1.0 });
        }
        let Some(derived) = name.strip_prefix("kwirth_") else { return Some(Self::Value(name.to_owned())) };
        let (whole, derived) = match derived.strip_prefix("cluster_") {
            Some(rest) => (Whole::Cluster, rest),
            None => (Whole::Node, derived),
        };
        let megabits = |of: &[&str]| {
            let of = of.iter().map(|name| (*name).to_owned()).collect();
            Self::Rate { of, factor: MEGABITS }
        };
        Some(match derived.strip_prefix("container_")? {
            "cpu_percentage" => Self::CpuShare(whole),
            "memory_percentage" => Self::MemoryShare(whole),
            "transmit_percentage" => Self::TrafficShare(Direction::Transmit, whole),
            "receive_percentage" => Self::TrafficShare(Direction::Receive, whole),
            "transmit_mbps" => megabits(&[TRANSMITTED]),
            "receive_mbps" => megabits(&[RECEIVED]),
            "write_mbps" => megabits(&WRITTEN),
            "read_mbps" => megabits(&READ),
            _ => return None,
        })
    }

    /// The names of rows that it is made of, the best first.
    pub fn sources(&self) -> Vec<&str> {
        match self {
            Self::Value(name) => vec![name],
            Self::Rate { of, .. } => of.iter().map(String::as_str).collect(),
            Self::CpuShare(_) => vec![CPU],
            Self::MemoryShare(_) => vec![MEMORY],
            Self::TrafficShare(direction, _) => vec![direction.counter()],
        }
    }

    /// Whether it needs two samples.
    pub fn is_rate(&self) -> bool {
        !matches!(self, Self::Value(_) | Self::MemoryShare(_))
    }

    /// Whether it needs the pages of nodes on which nothing is selected.
    pub fn needs_all_nodes(&self) -> bool {
        matches!(self, Self::TrafficShare(_, Whole::Cluster))
    }
}

/// The metrics that Weir derives, for the catalogue.
pub(super) fn derived() -> impl Iterator<Item = KnownMetric> {
    DERIVED_METRICS.iter().map(|(name, help)| KnownMetric { name: (*name).into(), help: (*help).into(), kind: "gauge" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_derived_metric_has_its_formula_and_no_other_name_that_looks_like_one() {
        for (name, help) in DERIVED_METRICS {
            let formula = Formula::of(name).unwrap_or_else(|| panic!("{name}"));
            assert!(!matches!(formula, Formula::Value(_)), "{name}");
            assert!(!help.is_empty(), "{name}");
        }
        for name in ["kwirth_", "kwirth_container_", "kwirth_container_disk", "kwirth_cluster_cpu_percentage"] {
            assert_eq!(Formula::of(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_asked_for_as_they_are_or_as_rates() {
        assert_eq!(Formula::of("container_threads"), Some(Formula::Value("container_threads".into())));
        let rate = Formula::of("container_cpu_usage_seconds_total:rate").unwrap();
        assert_eq!((rate.sources(), rate.is_rate()), (vec![CPU], true));
    }
}
