//! What the labels of a sample say: whose it is, and what of them becomes part of the metric's name.
//!
//! ```text
//!   container_memory_failures_total{failure_type="pgfault",scope="container",pod=…} ─► container_memory_failures_total_pgfault
//!   container_blkio_device_usage_total{operation="Read",device=…,major=…,minor=…}   ─► container_blkio_device_usage_total_read
//! ```
//!
//! So clients of the session protocol know them (Kwirth, which folds failures and states of tasks; here every label
//! that tells values of different meaning apart is folded). Labels that count one thing in parts are summed: devices,
//! interfaces, CPUs.

use std::borrow::Cow;

use super::exposition::Labels;

/// Whose row it is, by the labels that the kubelet gives each (`kubelet/server/server.go`,
/// `containerPrometheusLabelsFunc`; the resource metrics have no `id`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Owner<'a> {
    pub namespace: Cow<'a, str>,
    pub pod: Cow<'a, str>,
    /// Empty for the pod itself.
    pub container: Cow<'a, str>,
    /// The cgroup.
    pub id: Cow<'a, str>,
}

/// What becomes of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    /// It says whose the row is, or nothing that a name should carry.
    Drop,
    /// Rows that differ in it alone are summed.
    Sum,
    /// Its value becomes a suffix of the name.
    Suffix,
}

impl Fold {
    fn of(label: &str) -> Self {
        match label {
            "container" | "id" | "image" | "name" | "namespace" | "pod" | "scope" => Self::Drop,
            "cpu" | "device" | "interface" | "major" | "minor" => Self::Sum,
            _ if label.starts_with("container_label_") || label.starts_with("container_env_") => Self::Drop,
            _ => Self::Suffix,
        }
    }
}

/// What a sample's labels say.
#[derive(Default)]
pub(super) struct Labelled<'a> {
    pub owner: Owner<'a>,
    pub suffix: String,
    pub of_one_cpu: bool,
    /// Of a hierarchy of cgroups, not of this one.
    pub of_hierarchy: bool,
}

impl<'a> Labelled<'a> {
    pub fn read(labels: Labels<'a>) -> Self {
        let mut read = Self::default();
        for (name, value) in labels.iter() {
            match name {
                "container" => read.owner.container = value,
                "namespace" => read.owner.namespace = value,
                "pod" => read.owner.pod = value,
                "id" => read.owner.id = value,
                "scope" => read.of_hierarchy = value == "hierarchy",
                "cpu" => read.of_one_cpu = value != "total",
                _ if Fold::of(name) == Fold::Suffix && !value.is_empty() => push_suffix(&mut read.suffix, &value),
                _ => {}
            }
        }
        // The container that holds a pod's network is called so by some runtimes; others leave it without a name.
        if read.owner.container == "POD" {
            read.owner.container = Cow::Borrowed("");
        }
        read
    }
}

/// `Read` becomes `_read`: lower case, and nothing that a metric's name cannot hold.
fn push_suffix(suffix: &mut String, value: &str) {
    /// The longest suffix: values come from outside.
    const LONGEST: usize = 64;
    suffix.push('_');
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    suffix.extend(value.chars().take(LONGEST).map(plain));
}
