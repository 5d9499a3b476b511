//! What a runner finds, and how it is told.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::record::Time;
use crate::telemetry::Metrics;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not as it should be.
    Bad,
    /// It is again, after it was told that it is not.
    Well,
}

/// Something that was found, once: it is told again only when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is about: the name of a check, or of a resource, such as `cpu` or `disk /var`.
    pub subject: String,
    /// What was found.
    pub state: State,
    /// When.
    pub time: Time,
    /// A sentence for people, with the value. Holds nothing secret.
    pub message: String,
    /// Whom to tell.
    pub alerts: Arc<[String]>,
}

/// The way on which findings leave. It never waits: what finds no room is counted, and found again at the next turn.
#[derive(Clone, Debug)]
pub struct Findings {
    sender: mpsc::Sender<Finding>,
    metrics: Arc<Metrics>,
}

impl Findings {
    /// Sends to `sender`, whose bound is that of findings that wait.
    pub fn new(sender: mpsc::Sender<Finding>, metrics: Arc<Metrics>) -> Self {
        Self { sender, metrics }
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Tells; whether there was room for it.
    pub(super) fn tell(&self, finding: Finding) -> bool {
        tracing::info!(subject = %finding.subject, state = ?finding.state, message = %finding.message, "health");
        let taken = self.sender.try_send(finding).is_ok();
        if !taken {
            self.metrics.health_findings_refused.inc();
            tracing::warn!("too many findings wait to be told; this one is tried again at the next check");
        }
        taken
    }
}
