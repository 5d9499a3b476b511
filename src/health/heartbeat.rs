//! The runner of a heartbeat: asks an address at each interval, so that it is missed when this process is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::config::{Heartbeat, LEAST_INTERVAL};
use super::probe::{Miss, Prober};
use crate::telemetry::{HealthLabels, Metrics, Outcome, Watched};

/// How long an answer may take: a beat that takes longer is as good as none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Beats until `cancel`, the first time at once. A beat that fails is logged and counted; the next comes in its time.
pub async fn run_heartbeat(heartbeat: Heartbeat, prober: Prober, metrics: Arc<Metrics>, cancel: CancellationToken) {
    let interval = heartbeat.interval.max(LEAST_INTERVAL);
    let mut ticks = interval_at(Instant::now(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let beats = async {
        loop {
            ticks.tick().await;
            let answer = prober.ask(&heartbeat.url, TIMEOUT.min(interval)).await;
            let outcome = answer.as_ref().err().map_or(Outcome::Ok, Miss::outcome);
            metrics.health_checks.get_or_create(&HealthLabels { watched: Watched::Heartbeat, outcome }).inc();
            match answer {
                Ok(()) => tracing::debug!(url = %heartbeat.url, "the heartbeat was sent"),
                Err(miss) => tracing::warn!(url = %heartbeat.url, %miss, "the heartbeat could not be sent"),
            }
        }
    };
    cancel.run_until_cancelled(beats).await;
}
