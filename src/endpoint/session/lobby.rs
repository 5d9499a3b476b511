//! Where instances wait for their clients when a connection was lost: bounded in number and time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::instance::Instance;
use super::message::Key as Proof;
use crate::endpoint::services::Services;
use crate::record::Time;

/// Instances that wait.
#[derive(Default)]
pub(crate) struct Lobby {
    waiting: Mutex<HashMap<String, Waiting>>,
    visits: AtomicU64,
}

/// An instance that waits, and which of its visits this is.
struct Waiting {
    instance: Instance,
    visit: u64,
}

impl Lobby {
    /// Lets instances wait for their client to come back. What is over the bound is released at once.
    pub(super) fn admit(self: &Arc<Self>, services: &Services, instances: Vec<Instance>) {
        for instance in instances {
            let id = instance.id.clone();
            let visit = self.visits.fetch_add(1, Ordering::Relaxed);
            {
                let mut waiting = self.waiting.lock();
                if waiting.len() >= services.options.waiting_instances {
                    tracing::info!(waiting = waiting.len(), "No more instances may wait for their clients");
                    return;
                }
                waiting.insert(id.clone(), Waiting { instance, visit });
            }
            let (lobby, draining) = (Arc::clone(self), services.drain.draining().clone());
            let within = services.options.reconnect_within;
            services.drain.spawn(async move {
                draining.run_until_cancelled(tokio::time::sleep(within)).await;
                lobby.leave(&id, visit);
            });
        }
    }

    /// Releases an instance that has waited too long. One that was taken along and lost again has a new time to wait.
    fn leave(&self, id: &str, visit: u64) {
        let mut waiting = self.waiting.lock();
        if waiting.get(id).is_some_and(|one| one.visit == visit) {
            waiting.remove(id);
        }
    }

    /// Gives an instance back to whoever proves that it is theirs: by its reconnect key, or by its access key.
    pub(super) fn reclaim(&self, services: &Services, id: &str, proof: &Proof) -> Option<Instance> {
        let mut waiting = self.waiting.lock();
        let instance = &waiting.get(id)?.instance;
        let by_reconnect_key: bool = instance.reconnect_key.as_bytes().ct_eq(proof.expose().as_bytes()).into();
        let by_access_key = || {
            let key = services.keyring.authenticate(proof.expose(), Time::now());
            key.is_ok_and(|key| key.id() == instance.key.id())
        };
        if by_reconnect_key || by_access_key() { waiting.remove(id).map(|one| one.instance) } else { None }
    }
}
