//! What of the machine is in use, as the operating system says it.

use sysinfo::{Disks, System};

/// Most disks that are looked at.
const MOST_DISKS: usize = 64;

/// What of one thing is in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    /// Percent of the whole.
    pub percent: f64,
    /// How much that is of how much, for people; empty where the percent says it all.
    pub detail: String,
}

/// What is in use now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of all processors, since the last look.
    pub cpu: Option<Used>,
    /// Of the memory.
    pub memory: Option<Used>,
    /// Of each disk, by the folder where it is mounted.
    pub disks: Vec<(String, Used)>,
}

/// The machine. A look at it reads files of the system, and of disks that may hang: never in the runtime's threads.
#[derive(Debug)]
pub struct Machine {
    /// None where the system is not known.
    system: Option<System>,
    disks: Option<Disks>,
    looked: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine that nobody has looked at yet.
    pub fn new() -> Self {
        Self { system: System::new().ok(), disks: Disks::new().ok(), looked: false }
    }

    /// What is in use now. The first look knows nothing of the processors: what they do is seen between two.
    pub fn look(&mut self) -> Usage {
        let known = std::mem::replace(&mut self.looked, true);
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
        }
        if let Some(disks) = &mut self.disks {
            disks.refresh(true);
        }
        let percent = self.system.as_ref().filter(|_| known).map(|system| f64::from(system.global_cpu_usage()));
        let cpu = percent.map(|percent| Used { percent, detail: String::new() });
        Usage { cpu, memory: self.system.as_ref().and_then(memory), disks: self.disks() }
    }

    fn disks(&self) -> Vec<(String, Used)> {
        let mut devices: Vec<&std::ffi::OsStr> = Vec::new();
        let mut found = Vec::new();
        // A disk that nobody can write to is full by design.
        for disk in self.disks.iter().flat_map(|disks| disks.iter()).filter(|disk| !disk.is_read_only()) {
            // One device may be mounted in many places.
            if found.len() == MOST_DISKS || devices.contains(&disk.name()) {
                continue;
            }
            let total = disk.total_space();
            if let Some(used) = used(total.saturating_sub(disk.available_space()), total) {
                devices.push(disk.name());
                found.push((disk.mount_point().to_string_lossy().into_owned(), used));
            }
        }
        found
    }
}

fn memory(system: &System) -> Option<Used> {
    let total = system.total_memory();
    // A control group counts files that were read as used; what of it cannot be given up is what matters.
    let group = system.cgroup_limits().filter(|group| group.total_memory < total);
    group.map_or_else(
        || used(system.used_memory(), total),
        |group| used(group.rss.min(group.total_memory), group.total_memory),
    )
}

fn used(used: u64, total: u64) -> Option<Used> {
    let percent = 100.0 * used as f64 / total as f64;
    (total > 0).then(|| Used { percent, detail: format!(", {} of {}", size(used), size(total)) })
}

/// A size for people.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.1} {unit}")
}
