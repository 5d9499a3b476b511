//! Health at work: the runners of checks, resources and the heartbeat, and what becomes of what they find.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alarms::Alarms;
use crate::health::{
    Finding, Findings, HealthError, Heartbeat, Prober, Resources, SystemCheck, run_heartbeat, run_resources,
    run_system_check,
};
use crate::rule::{Alert, ReceiverName};
use crate::telemetry::Metrics;

/// How many findings may wait; what finds no room is found again at the next check.
const FINDINGS: usize = 64;

/// What alerts of this room name as their stream.
const STREAM: &str = "health";

/// What is to be watched beside streams.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Systems that shall answer.
    pub checks: Vec<SystemCheck>,
    /// What the machine may use.
    pub resources: Option<Resources>,
    /// A sign of life.
    pub heartbeat: Option<Heartbeat>,
}

/// Watches the machine and its neighbours. Receivers are those of one namespace.
#[derive(Debug)]
pub struct Vitals {
    namespace: String,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    /// Ends what is watched now.
    current: Mutex<CancellationToken>,
}

impl Vitals {
    /// Watches nothing yet. Its tasks belong to `tracker` and end with `cancel`.
    pub fn new(
        namespace: impl Into<String>,
        alarms: Arc<Alarms>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let current = Mutex::new(cancel.child_token());
        Arc::new(Self { namespace: namespace.into(), alarms, metrics, tracker, cancel, current })
    }

    /// Watches this from now on, and nothing else.
    ///
    /// # Errors
    /// Where nothing can be asked over TLS because the system's roots cannot be read.
    pub fn watch(&self, wanted: Wanted) -> Result<(), HealthError> {
        let needs_prober = !wanted.checks.is_empty() || wanted.heartbeat.is_some();
        let prober = needs_prober.then(Prober::new).transpose()?;
        let cancel = self.cancel.child_token();
        std::mem::replace(&mut *self.current.lock(), cancel.clone()).cancel();
        let (sender, findings) = mpsc::channel(FINDINGS);
        let tell = Findings::new(sender, Arc::clone(&self.metrics));
        if let Some(prober) = prober {
            for check in wanted.checks {
                let run = run_system_check(Arc::new(check), prober.clone(), tell.clone(), cancel.clone());
                self.tracker.spawn(run);
            }
            if let Some(heartbeat) = wanted.heartbeat {
                self.tracker.spawn(run_heartbeat(heartbeat, prober, Arc::clone(&self.metrics), cancel.clone()));
            }
        }
        if let Some(resources) = wanted.resources {
            self.tracker.spawn(run_resources(resources, tell, cancel.clone()));
        }
        // Ends when the last runner has, which drops the last sender.
        self.tracker.spawn(pass_on(findings, Arc::clone(&self.alarms), self.namespace.clone()));
        Ok(())
    }
}

async fn pass_on(mut findings: mpsc::Receiver<Finding>, alarms: Arc<Alarms>, namespace: String) {
    while let Some(finding) = findings.recv().await {
        let alert = Arc::new(Alert {
            identity: alarms.identity().to_string(),
            rule: finding.subject.clone(),
            message: finding.message,
            time: finding.time,
            stream: STREAM.to_owned(),
            source: finding.subject,
        });
        for name in finding.alerts.iter() {
            alarms.receivers().tell(&ReceiverName::new(&namespace, name), Arc::clone(&alert));
        }
    }
}
