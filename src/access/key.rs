//! One access key as it is now, and how whoever uses it learns that this is over.
//!
//! A [`Key`] never changes. When its object does, the ring makes a new one and the old one's [`KeyState`] says why,
//! at once, to everything that runs with it.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::denied::Denied;
use super::grant::Grants;
use super::limits::{KeyLimits, Usage};
use super::token::Digest;

/// The object that a key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    /// The AccessKey's namespace.
    pub namespace: String,
    /// The AccessKey's name.
    pub name: String,
}

impl KeyId {
    /// Names an AccessKey.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the controller knows of an AccessKey and its Secret: what [`KeyRing::upsert`](super::KeyRing::upsert) takes.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRecord {
    /// The object.
    pub id: KeyId,
    /// Its uid: an object that was deleted and made again is another key.
    pub uid: String,
    /// When the object was created. Of two with the same token the older counts.
    pub created_at: DateTime<Utc>,
    /// The digest of the token in its Secret.
    pub digest: Digest,
    /// What it grants, compiled.
    pub grants: Arc<Grants>,
    /// When it ends; from `expiresAt`, or `ttl` after the creation.
    pub expires_at: Option<DateTime<Utc>>,
    /// `spec.suspend`.
    pub suspended: bool,
    /// What it may use at a time.
    pub limits: KeyLimits,
    /// Origins whose pages may use it; empty: any that the endpoint allows.
    pub allowed_origins: Vec<String>,
}

/// Whether a key still counts, and if not, why. Everything but [`Live`](Self::Live) is final for this [`Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It counts.
    Live,
    /// Its time is over.
    Expired,
    /// Its object was suspended.
    Suspended,
    /// Its object is gone.
    Deleted,
    /// Its Secret holds another token.
    Rotated,
    /// Grants, limits, origins or the end changed: ask [`KeyRing::successor`](super::KeyRing::successor) for the new
    /// key and authorise again; what is still granted may go on.
    Changed,
    /// An older AccessKey with the same token appeared.
    Conflicting,
}

/// A key that was authenticated, or that at least exists.
pub struct Key {
    record: KeyRecord,
    fingerprint: String,
    usage: Arc<Usage>,
    state: watch::Sender<KeyState>,
}

impl Key {
    pub(super) fn new(record: KeyRecord, usage: Arc<Usage>) -> Arc<Self> {
        let state = if record.suspended { KeyState::Suspended } else { KeyState::Live };
        let fingerprint = record.digest.fingerprint();
        Arc::new(Self { record, fingerprint, usage, state: watch::Sender::new(state) })
    }

    /// The AccessKey it comes from.
    pub fn id(&self) -> &KeyId {
        &self.record.id
    }

    /// The uid of that object.
    pub fn uid(&self) -> &str {
        &self.record.uid
    }

    /// What people may see of the token: `sha256:` and eight hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What it grants. Ask the [`Authoriser`](super::Authoriser), which also knows the namespace rule.
    pub fn grants(&self) -> &Grants {
        &self.record.grants
    }

    /// When it ends, if ever.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.record.expires_at
    }

    /// What it may use at a time.
    pub fn limits(&self) -> KeyLimits {
        self.record.limits
    }

    /// What it uses now; the same for every version of this object's key.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Why it counts no more, or [`KeyState::Live`]. It may be past its end by moments: see [`Key::is_live`].
    pub fn state(&self) -> KeyState {
        *self.state.borrow()
    }

    /// Whether the key counts at `now`. A key ends **at** `expires_at`, not after it.
    ///
    /// # Errors
    /// The [`Denied`] that says why not.
    pub fn is_live(&self, now: DateTime<Utc>) -> Result<(), Denied> {
        match (self.state(), self.record.expires_at) {
            (KeyState::Suspended, _) => Err(Denied::Suspended),
            (KeyState::Deleted, _) => Err(Denied::Deleted),
            (KeyState::Rotated, _) => Err(Denied::Rotated),
            (KeyState::Conflicting, _) => Err(Denied::Conflicting),
            (KeyState::Expired, end) => Err(Denied::Expired { at: end.unwrap_or(now) }),
            (_, Some(at)) if at <= now => Err(Denied::Expired { at }),
            (KeyState::Changed, _) => Err(Denied::Changed),
            (KeyState::Live, _) => Ok(()),
        }
    }

    /// Waits until the key counts no more and says why; at once where that is so already. Cancel safe.
    ///
    /// Expiry arrives here too, by way of [`KeyRing::run_expiry`](super::KeyRing::run_expiry).
    pub async fn ended(&self) -> KeyState {
        let mut changes = self.state.subscribe();
        match changes.wait_for(|state| *state != KeyState::Live).await {
            Ok(state) => *state,
            // The sender lives in `self`, so it cannot be gone.
            Err(_) => KeyState::Deleted,
        }
    }

    /// The states from now on, for whoever watches several things at once.
    pub fn watch(&self) -> watch::Receiver<KeyState> {
        self.state.subscribe()
    }

    /// Whether a page from this `Origin` may use the key. Without an `Origin` it is no browser, and the key decides.
    ///
    /// Origins are compared without regard to case and to a slash at the end; `*` in the list means any.
    ///
    /// # Errors
    /// [`Denied::OriginNotAllowed`].
    pub fn allows_origin(&self, origin: Option<&str>) -> Result<(), Denied> {
        let (list, Some(origin)) = (&self.record.allowed_origins, origin) else {
            return Ok(());
        };
        let bare = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
        if list.is_empty() || list.iter().any(|allowed| allowed == "*" || bare(allowed) == bare(origin)) {
            Ok(())
        } else {
            Err(Denied::OriginNotAllowed)
        }
    }

    pub(super) fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Ends this version of the key. The first reason stays.
    pub(super) fn end(&self, why: KeyState) {
        self.state.send_if_modified(|state| {
            let first = *state == KeyState::Live;
            if first {
                *state = why;
            }
            first
        });
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.record.id)
            .field("uid", &self.record.uid)
            .field("fingerprint", &self.fingerprint)
            .field("expires_at", &self.record.expires_at)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
