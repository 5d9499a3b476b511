//! The runner of the machine's resources: measures at each interval, tells when a threshold is reached and when what is
//! in use has fallen well below it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{LEAST_INTERVAL, Percent, Resources};
use super::finding::{Finding, Findings, State};
use super::machine::{Machine, Usage, Used};
use crate::record::Time;
use crate::telemetry::{HealthLabels, Outcome, Watched};

/// How far below its threshold what is in use must fall before it counts as well again, in percent of the whole: what
/// goes up and down around the threshold is told once.
const MARGIN: f64 = 5.0;

/// Measures until `cancel`. One measurement is on its way at most: where a disk does not answer, the next waits for it.
pub async fn run_resources(resources: Resources, findings: Findings, cancel: CancellationToken) {
    let looks = TaskTracker::new();
    let mut machine = Some(Machine::new());
    let mut watch = Watch::default();
    let mut ticks = interval_at(Instant::now(), resources.interval.max(LEAST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let measure = async {
        loop {
            ticks.tick().await;
            let mut looking = machine.take().unwrap_or_default();
            let look = looks.spawn_blocking(move || {
                let usage = looking.look();
                (looking, usage)
            });
            let outcome = match look.await {
                Ok((looked, usage)) => {
                    machine = Some(looked);
                    watch.note(&resources, &usage, &findings);
                    Outcome::Ok
                }
                Err(error) => {
                    tracing::error!(%error, "the machine's resources could not be measured");
                    Outcome::Error
                }
            };
            let labels = HealthLabels { watched: Watched::Resources, outcome };
            findings.metrics().health_checks.get_or_create(&labels).inc();
        }
    };
    cancel.run_until_cancelled(measure).await;
    // A look that hangs in the system cannot be called off: it is not waited for.
    looks.close();
}

/// What was told to be over its threshold.
#[derive(Debug, Default)]
pub(super) struct Watch {
    over: BTreeSet<String>,
}

impl Watch {
    /// Takes up a measurement, and tells what has changed.
    pub fn note(&mut self, resources: &Resources, usage: &Usage, findings: &Findings) {
        let cpu = usage.cpu.iter().map(|used| ("cpu".to_owned(), used, resources.cpu_percent));
        let memory = usage.memory.iter().map(|used| ("memory".to_owned(), used, resources.memory_percent));
        let disk = |(mount, used): &'_ (String, Used)| (format!("disk {mount}"), used.clone());
        let disks: Vec<_> = usage.disks.iter().map(disk).collect();
        // A disk that is no longer mounted is not full any more, and comes back as a new one.
        self.over.retain(|subject| !subject.starts_with("disk ") || disks.iter().any(|(name, _)| name == subject));
        let disks = disks.iter().map(|(name, used)| (name.clone(), used, resources.disk_percent));
        for (subject, used, threshold) in cpu.chain(memory).chain(disks) {
            if let Some(threshold) = threshold {
                self.compare(subject, used, threshold, resources, findings);
            }
        }
    }

    fn compare(&mut self, subject: String, used: &Used, threshold: Percent, of: &Resources, findings: &Findings) {
        let (percent, detail, threshold) = (used.percent, &used.detail, threshold.get());
        let told = self.over.contains(&subject);
        // A threshold below the margin is well again at half of it.
        let well = percent < (threshold - MARGIN).max(threshold / 2.0);
        let (state, message) = if percent >= threshold && !told {
            (State::Bad, format!("{subject} is at {percent:.1}%{detail}; the threshold is {threshold}%."))
        } else if told && well {
            (State::Well, format!("{subject} is back at {percent:.1}%{detail}; the threshold is {threshold}%."))
        } else {
            return;
        };
        let alerts = Arc::clone(&of.alerts);
        let finding = Finding { subject: subject.clone(), state, time: Time::now(), message, alerts };
        if findings.tell(finding) {
            match state {
                State::Bad => self.over.insert(subject),
                State::Well => self.over.remove(&subject),
            };
        }
    }
}
