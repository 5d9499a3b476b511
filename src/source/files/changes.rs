//! Which files may have changed: told by the system (inotify), for the folders that it can watch.
//!
//! What is told is kept as a bounded set of paths until it is taken. Where more is told than fits, or the system says
//! that it lost something itself, everything is looked at. What the system cannot watch is looked at often, and
//! everything is looked at now and then: nothing depends on what is told but how soon it is seen.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::print::FileId;
use super::selection::Selection;

/// Most paths that are kept until they are looked at.
const MOST_PATHS: usize = 16_384;
/// Most folders that are watched for one source: the system gives each user only so many.
const MOST_WATCHED: usize = 4_096;

/// What may have changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub paths: HashSet<PathBuf>,
    /// More than the paths say.
    pub everything: bool,
}

/// What is told, until it is taken.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    changed: Mutex<Changed>,
    told: Notify,
}

impl Inbox {
    /// What was told since the last time.
    pub fn take(&self) -> Changed {
        std::mem::take(&mut self.changed.lock())
    }

    /// Waits until something is told. Cancel-safe.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    fn put(&self, event: notify::Result<notify::Event>, selection: &Selection) {
        let Ok(event) = event else { return self.put_everything() };
        if event.need_rescan() {
            return self.put_everything();
        }
        // Reading is no change, and Weir's own would be told as well.
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && event.kind != written {
            return;
        }
        // Of what is not wanted itself, only folders matter, and those only where they come, go, or change their names.
        let moves = !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
        let mut changed = self.changed.lock();
        let before = changed.paths.len();
        for path in event.paths {
            if changed.paths.len() >= MOST_PATHS {
                changed.everything = true;
            } else if selection.wants(&path) || moves && selection.may_be_below(&path) {
                changed.paths.insert(path);
            }
        }
        if changed.paths.len() > before || changed.everything {
            self.told.notify_one();
        }
    }

    fn put_everything(&self) {
        self.changed.lock().everything = true;
        self.told.notify_one();
    }
}

/// The folders that are watched.
pub(super) struct Watches {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, FileId>,
    /// Why a folder could not be watched, until it was told.
    failed: Option<String>,
}

impl Watches {
    /// Nothing is watched yet; what is told comes to `inbox`.
    pub fn new(inbox: &Arc<Inbox>, selection: &Arc<Selection>) -> Self {
        let (inbox, selection) = (Arc::clone(inbox), Arc::clone(selection));
        let watcher = notify::recommended_watcher(move |event| inbox.put(event, &selection));
        let failed = watcher.as_ref().err().map(ToString::to_string);
        Self { watcher: watcher.ok(), watched: HashMap::new(), failed }
    }

    /// Nothing is ever watched.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { watcher: None, watched: HashMap::new(), failed: None }
    }

    /// Watches a folder, where the system can; whether it does. Asked again, it sees to it that it is still this folder.
    pub fn watch(&mut self, folder: &Path) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let Ok(about) = std::fs::metadata(folder) else {
            if self.watched.remove(folder).is_some() {
                // It is gone, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
            return false;
        };
        let id = FileId::of(&about);
        match self.watched.get(folder) {
            Some(known) if *known == id => return true,
            Some(_) => drop(watcher.unwatch(folder)),
            None if self.watched.len() >= MOST_WATCHED => {
                let why = format!("more than {MOST_WATCHED} folders");
                self.failed.get_or_insert(why);
                return false;
            }
            None => {}
        }
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned(), id);
                true
            }
            Err(error) => {
                self.watched.remove(folder);
                self.failed.get_or_insert_with(|| error.to_string());
                false
            }
        }
    }

    /// Whether a folder is watched, or was until it went.
    pub fn knows(&self, folder: &Path) -> bool {
        self.watched.contains_key(folder)
    }

    /// Why something could not be watched, where that is new.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failed.take()
    }
}
