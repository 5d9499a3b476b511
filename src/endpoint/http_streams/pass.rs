//! The key that an upload, a reader or a spy runs with, for as long as it grants that.

use std::sync::Arc;

use super::super::services::Services;
use crate::access::{Denied, Key, KeyState};
use crate::record::Time;

/// What a key must grant, asked again whenever the key changes.
type Grants = Box<dyn Fn(&Services, &Key) -> Result<(), Denied> + Send + Sync>;

/// A key in use.
pub(super) struct Pass {
    services: Arc<Services>,
    key: Arc<Key>,
    origin: Option<String>,
    grants: Grants,
}

impl Pass {
    pub(super) fn new(
        services: &Arc<Services>,
        key: Arc<Key>,
        origin: Option<&str>,
        grants: impl Fn(&Services, &Key) -> Result<(), Denied> + Send + Sync + 'static,
    ) -> Self {
        let origin = origin.map(str::to_owned);
        Self { services: Arc::clone(services), key, origin, grants: Box::new(grants) }
    }

    /// The key as it is now.
    pub(super) fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Waits until the key, or the one that took its place, grants this no longer. Cancel-safe.
    pub(super) async fn lost(&mut self) -> Denied {
        loop {
            let state = self.key.ended().await;
            if let Err(denied) = self.renew(state) {
                return denied;
            }
        }
    }

    fn renew(&mut self, state: KeyState) -> Result<(), Denied> {
        let now = Time::now();
        if state != KeyState::Changed {
            // It ended, so this says why; were it live after all, it would go on.
            return self.key.is_live(now);
        }
        let key = self.services.keyring.successor(&self.key, now)?;
        key.allows_origin(self.origin.as_deref())?;
        (self.grants)(&self.services, &key)?;
        self.key = key;
        Ok(())
    }
}
