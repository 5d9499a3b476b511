//! Standard output: one line for each alert.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::rule::alert::{Alert, escaped};
use crate::rule::error::Failure;

/// `[YYYY-MM-DD HH:MM:SS UTC] ALERT [identity] [rule]: message`.
pub(super) fn line(alert: &Alert) -> String {
    let Alert { identity, rule, message, .. } = alert;
    format!("[{}] ALERT [{}] [{}]: {}\n", alert.utc(), escaped(identity), escaped(rule), escaped(message))
}

/// Where lines are printed. Shared by all receivers, so that no two lines mix.
#[derive(Clone)]
pub struct Printer {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    tracker: TaskTracker,
}

impl Printer {
    /// Prints to `out`, in tasks of `tracker`.
    pub(crate) fn new(out: Box<dyn Write + Send>, tracker: TaskTracker) -> Self {
        Self { out: Arc::new(Mutex::new(out)), tracker }
    }

    /// Prints a line. Where nobody reads the output it stays blocked, in a thread of its own, and further lines fail at once.
    pub(super) async fn print(&self, line: String) -> Result<(), Failure> {
        let out = Arc::clone(&self.out);
        let printed = self.tracker.spawn_blocking(move || {
            let Some(mut out) = out.try_lock() else {
                return Err(Failure::Unreachable("the output is busy with a line before".to_owned()));
            };
            let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            written.map_err(|error| Failure::Unreachable(format!("the output cannot be written to: {}", error.kind())))
        });
        printed.await.unwrap_or_else(|_| Err(Failure::Unreachable("the output failed".to_owned())))
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printer")
    }
}
