//! When files change: what the operating system tells, a signal, and a look now and then for file systems that tell nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// What a person does to a file comes in several steps; this long after the last one it counts as done.
const SETTLE: Duration = Duration::from_millis(150);
/// How often is looked without being told.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often is looked where nothing is ever told.
const LOOK_OFTEN: Duration = Duration::from_secs(2);

/// Tells when a folder may have changed.
pub struct Changes {
    told: Arc<Notify>,
    /// Ends with this; none where the folder cannot be watched.
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Changes in this folder; editors replace files, so a file is watched by its folder.
    pub fn of(folder: &Path) -> Self {
        let told = Arc::new(Notify::new());
        let teller = Arc::clone(&told);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // What is only read did not change.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                teller.notify_one();
            }
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watched.inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "Changes of a folder are not told; it is looked at every 2 s");
        });
        Self { told, watcher: watcher.ok() }
    }

    /// Makes whoever waits look at once, as SIGHUP does.
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.told)
    }

    /// Waits until it is time to look. Cancel-safe.
    pub async fn next(&self) {
        let patience = if self.watcher.is_some() { LOOK_EVERY } else { LOOK_OFTEN };
        if tokio::time::timeout(patience, self.told.notified()).await.is_err() {
            return;
        }
        // More may come; each waits for the next, but not for ever.
        for _ in 0..10 {
            if tokio::time::timeout(SETTLE, self.told.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("watched", &self.watcher.is_some()).finish()
    }
}
