//! Where instances wait for their clients when a connection was lost: bounded in number and time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::instance::Instance;
use super::message::Key as Proof;
use crate::endpoint::services::Services;
use crate::record::Time;

/// Instances that wait.
#[derive(Default)]
pub(crate) struct Lobby {
    waiting: Mutex<HashMap<String, Instance>>,
}

impl Lobby {
    /// Lets instances wait for their client to come back. What is over the bound is released at once.
    pub(super) fn admit(self: &Arc<Self>, services: &Services, instances: Vec<Instance>) {
        for instance in instances {
            let id = instance.id.clone();
            {
                let mut waiting = self.waiting.lock();
                if waiting.len() >= services.options.waiting_instances {
                    tracing::info!(waiting = waiting.len(), "No more instances may wait for their clients");
                    return;
                }
                waiting.insert(id.clone(), instance);
            }
            let (lobby, draining) = (Arc::clone(self), services.drain.draining().clone());
            let within = services.options.reconnect_within;
            services.drain.spawn(async move {
                draining.run_until_cancelled(tokio::time::sleep(within)).await;
                drop(lobby.waiting.lock().remove(&id));
            });
        }
    }

    /// Gives an instance back to whoever proves that it is theirs: by its reconnect key, or by its access key.
    pub(super) fn reclaim(&self, services: &Services, id: &str, proof: &Proof) -> Option<Instance> {
        let mut waiting = self.waiting.lock();
        let instance = waiting.get(id)?;
        let by_reconnect_key: bool = instance.reconnect_key.as_bytes().ct_eq(proof.expose().as_bytes()).into();
        let by_access_key = || {
            let key = services.keyring.authenticate(proof.expose(), Time::now());
            key.is_ok_and(|key| key.id() == instance.key.id())
        };
        if by_reconnect_key || by_access_key() { waiting.remove(id) } else { None }
    }
}
