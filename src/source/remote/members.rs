//! Which remote ends a source knows now, for those who ask.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::record::Origin;

/// The ends of one source.
#[derive(Debug)]
pub(super) struct Members {
    origins: Mutex<Vec<Arc<Origin>>>,
    up: watch::Sender<usize>,
}

impl Members {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { origins: Mutex::default(), up: watch::channel(0).0 })
    }

    /// How many connections there are.
    pub fn up(&self) -> watch::Receiver<usize> {
        self.up.subscribe()
    }

    /// All ends that were announced, sorted.
    pub fn roster(&self) -> Vec<Arc<Origin>> {
        let mut origins = self.origins.lock().clone();
        origins.sort_by_key(|origin| origin.path());
        origins
    }

    /// Lists an end until the guard is dropped.
    pub fn join(self: &Arc<Self>, origin: &Arc<Origin>) -> Member {
        self.origins.lock().push(Arc::clone(origin));
        Member { members: Arc::clone(self), origin: Arc::clone(origin) }
    }

    /// Counts a connection until the guard is dropped.
    pub fn connect(self: &Arc<Self>) -> Connected {
        self.up.send_modify(|up| *up += 1);
        Connected(Arc::clone(self))
    }
}

/// An end in the roster.
#[derive(Debug)]
pub(super) struct Member {
    members: Arc<Members>,
    origin: Arc<Origin>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut origins = self.members.origins.lock();
        if let Some(at) = origins.iter().position(|origin| Arc::ptr_eq(origin, &self.origin)) {
            origins.swap_remove(at);
        }
    }
}

/// A connection that is there.
#[derive(Debug)]
pub(super) struct Connected(Arc<Members>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.up.send_modify(|up| *up -= 1);
    }
}
