//! One access key as it is now, and how whoever uses it learns that this is over.
//!
//! A [`Key`] never changes. When its object does, the ring makes a new one and the old one's [`KeyState`] says why,
//! at once, to everything that runs with it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::denied::Denied;
use super::grant::{GrantError, Grants};
use super::limits::Usage;
use super::token::Digest;
use crate::api::duration::DurationError;
use crate::api::{AccessKeySpec, KeyLimits};
use crate::record::Time;

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
    pub created_at: Time,
    /// The digest of the token in its Secret.
    pub digest: Digest,
    /// What it grants, compiled.
    pub grants: Arc<Grants>,
    /// When it ends; from `expiresAt`, or `ttl` after the creation.
    pub expires_at: Option<Time>,
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
    pub fn expires_at(&self) -> Option<Time> {
        self.record.expires_at
    }

    /// What it may use at a time.
    pub fn limits(&self) -> KeyLimits {
        self.record.limits
    }

    /// How many records one delivery to a reader may hold so that the key's rate is kept evenly: a quarter of a
    /// second's worth. `None` where the rate is not limited.
    pub fn records_of_a_delivery(&self) -> Option<usize> {
        self.limits().records_per_second.map(|records| records as usize / 4)
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
    pub fn is_live(&self, now: Time) -> Result<(), Denied> {
        match (self.check_state(), self.record.expires_at) {
            // An end that is past tells more than "ask again".
            (Ok(()) | Err(Denied::Changed), Some(at)) if at <= now => Err(Denied::Expired { at }),
            (result, _) => result,
        }
    }

    /// The same without a look at the clock.
    pub(super) fn check_state(&self) -> Result<(), Denied> {
        match self.state() {
            KeyState::Live => Ok(()),
            KeyState::Expired => Err(Denied::Expired { at: self.record.expires_at.unwrap_or_default() }),
            KeyState::Suspended => Err(Denied::Suspended),
            KeyState::Deleted => Err(Denied::Deleted),
            KeyState::Rotated => Err(Denied::Rotated),
            KeyState::Changed => Err(Denied::Changed),
            KeyState::Conflicting => Err(Denied::Conflicting),
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

impl KeyRecord {
    /// Makes the record of an AccessKey from its spec and the token in its Secret.
    ///
    /// `since` is when the token was made or last changed, from which `ttl` counts; without it the creation.
    ///
    /// # Errors
    /// [`RecordError`]: what is wrong with the spec, in words for its `Validated` condition.
    pub fn new(
        id: KeyId,
        uid: impl Into<String>,
        created_at: Time,
        since: Option<Time>,
        spec: &AccessKeySpec,
        digest: Digest,
    ) -> Result<Self, RecordError> {
        Ok(Self {
            id,
            uid: uid.into(),
            created_at,
            digest,
            grants: Arc::new(Grants::compile(&spec.grants)?),
            expires_at: expiry(spec, since.unwrap_or(created_at))?,
            suspended: spec.suspend,
            limits: spec.limits.unwrap_or_default(),
            allowed_origins: spec.allowed_origins.clone(),
        })
    }
}

/// When a key with this spec ends, whose token is as old as `since`; `None` for never.
///
/// # Errors
/// [`RecordError`] where the text is no time, or both `expiresAt` and `ttl` are set.
pub fn expiry(spec: &AccessKeySpec, since: Time) -> Result<Option<Time>, RecordError> {
    match (&spec.expires_at, &spec.ttl) {
        (Some(_), Some(_)) => Err(RecordError::TwoEnds),
        (Some(at), None) => match at.parse() {
            Ok(at) => Ok(Some(Time::from_jiff(at))),
            Err(_) => Err(RecordError::ExpiresAt),
        },
        (None, Some(ttl)) => {
            let life = ttl.parse().map_err(RecordError::Ttl)?;
            Ok(Some(since.plus_nanos(i64::try_from(life.as_nanos()).unwrap_or(i64::MAX))))
        }
        (None, None) => Ok(None),
    }
}

/// Why the spec of an AccessKey cannot be used: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Something is wrong with its grants.
    #[error(transparent)]
    Grants(#[from] GrantError),
    /// `expiresAt` cannot be read.
    #[error("spec.expiresAt is not a time: write it like 2026-11-03T09:30:00Z")]
    ExpiresAt,
    /// `ttl` cannot be read.
    #[error("spec.ttl {0}")]
    Ttl(#[source] DurationError),
    /// Both are set.
    #[error("spec.expiresAt and spec.ttl are both set: leave one out")]
    TwoEnds,
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
