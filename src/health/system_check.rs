//! The runner of a system check: asks at each interval, tells after so many misses in a row, and once it is well again.

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::config::{LEAST_INTERVAL, SystemCheck};
use super::finding::{Finding, Findings, State};
use super::probe::{Miss, Prober};
use crate::record::Time;
use crate::telemetry::{HealthLabels, Outcome, Watched};

/// Checks until `cancel`, the first time at once. A check never overlaps with the one before.
pub async fn run_system_check(check: Arc<SystemCheck>, prober: Prober, findings: Findings, cancel: CancellationToken) {
    let ask = || prober.ask(&check.url, check.timeout);
    cancel.run_until_cancelled(watch(&check, &findings, ask)).await;
}

/// The check, whoever asks for it.
pub(super) async fn watch<F: Future<Output = Result<(), Miss>>>(
    check: &SystemCheck,
    findings: &Findings,
    ask: impl Fn() -> F,
) {
    let mut ticks = interval_at(Instant::now(), check.interval.max(LEAST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streak = Streak::default();
    loop {
        ticks.tick().await;
        let answer = ask().await;
        let outcome = answer.as_ref().err().map_or(Outcome::Ok, Miss::outcome);
        findings.metrics().health_checks.get_or_create(&HealthLabels { watched: Watched::SystemCheck, outcome }).inc();
        if let Some((state, message)) = streak.note(check, &answer) {
            let finding = Finding {
                subject: check.name.clone(),
                state,
                time: Time::now(),
                message,
                alerts: Arc::clone(&check.alerts),
            };
            streak.told = findings.tell(finding) == (state == State::Bad);
        }
    }
}

/// How a check went lately.
#[derive(Debug, Default)]
struct Streak {
    missed: u32,
    /// It was told that it is bad, and not yet that it is well.
    told: bool,
}

impl Streak {
    /// Takes up an answer; what is to be told of it.
    fn note(&mut self, check: &SystemCheck, answer: &Result<(), Miss>) -> Option<(State, String)> {
        let (name, url) = (&check.name, &check.url);
        match answer {
            Ok(()) => {
                let missed = std::mem::take(&mut self.missed);
                let after = if missed > 0 { format!(", after {missed} failed checks") } else { String::new() };
                self.told.then(|| (State::Well, format!("System check {name} ({url}) answers again{after}.")))
            }
            Err(miss) => {
                self.missed = self.missed.saturating_add(1);
                tracing::debug!(check = %name, %url, %miss, missed = self.missed, "a system check failed");
                let due = self.missed >= check.missed_threshold && !self.told;
                let times = self.missed;
                due.then(|| (State::Bad, format!("System check {name} ({url}) failed {times} times in a row: {miss}.")))
            }
        }
    }
}
