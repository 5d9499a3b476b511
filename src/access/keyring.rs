//! All keys, found by the digest of what a client presents.
//!
//! Reads hold a lock for one map lookup. Memory holds digests only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::denied::Denied;
use super::key::{Key, KeyId, KeyRecord, KeyState};
use super::limits::Usage;
use super::token::{Digest, TokenError};
use crate::record::Time;

/// The wall clock may jump, so expiry looks at it at least this often.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// The keys of every AccessKey that has a token.
#[derive(Debug, Default)]
pub struct KeyRing {
    index: RwLock<Index>,
    ends_changed: Notify,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<KeyId, Arc<Key>>,
    /// The holder first, then those that wait because an older AccessKey has the same token.
    by_digest: HashMap<Digest, Vec<Arc<Key>>>,
    ends: BTreeSet<(Time, KeyId)>,
}

/// What [`KeyRing::upsert`] and [`KeyRing::remove`] did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Where the record was taken: the key as it is now.
    pub key: Option<Arc<Key>>,
    /// The record was refused (its key authenticates nobody), because this older AccessKey has the same token. Put it
    /// into the operator's log, not into a tenant's status: it may live in somebody else's namespace.
    pub conflicts_with: Option<KeyId>,
    /// Other AccessKeys whose standing changed by it (they lost, or got back, a token that is used twice): look at
    /// them again with [`KeyRing::standing`].
    pub affected: Vec<KeyId>,
}

impl KeyRing {
    /// No keys yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes an AccessKey as it is now. The same record again changes nothing and disturbs no stream.
    ///
    /// Of several AccessKeys with one token the oldest counts (by creation, then namespace, then name), whatever
    /// the order in which they arrive; the outcome names the others.
    pub fn upsert(&self, record: KeyRecord) -> Outcome {
        let outcome = self.index.write().upsert(record);
        self.ends_changed.notify_one();
        outcome
    }

    /// Forgets an AccessKey; whatever runs with its key learns that it was deleted.
    pub fn remove(&self, namespace: &str, name: &str) -> Outcome {
        let outcome = self.index.write().remove(&KeyId::new(namespace, name), KeyState::Deleted);
        self.ends_changed.notify_one();
        outcome
    }

    /// The key that a client presents.
    ///
    /// # Errors
    /// [`Denied`]: missing, malformed, unknown, expired or suspended.
    pub fn authenticate(&self, presented: &str, now: Time) -> Result<Arc<Key>, Denied> {
        let digest = Digest::of_presented(presented).map_err(|error| match error {
            TokenError::Empty => Denied::Missing,
            other => Denied::Malformed(other),
        })?;
        let key = self.index.read().holder(&digest).cloned().ok_or(Denied::Unknown)?;
        key.is_live(now)?;
        Ok(key)
    }

    /// The key of an AccessKey as it is now, also where it is suspended or expired.
    pub fn get(&self, id: &KeyId) -> Option<Arc<Key>> {
        self.index.read().by_id.get(id).cloned()
    }

    /// The key that took the place of one that [changed](KeyState::Changed).
    ///
    /// # Errors
    /// The [`Denied`] that says why nothing did: deleted, rotated, suspended, expired.
    pub fn successor(&self, key: &Key, now: Time) -> Result<Arc<Key>, Denied> {
        let current = self.get(key.id()).filter(|current| current.uid() == key.uid()).ok_or(Denied::Deleted)?;
        if current.record().digest != key.record().digest {
            return Err(Denied::Rotated);
        }
        current.is_live(now)?;
        Ok(current)
    }

    /// Whether an AccessKey's token is its own: `Some(older)` where an older AccessKey has the same one.
    pub fn standing(&self, id: &KeyId) -> Option<KeyId> {
        let index = self.index.read();
        let key = index.by_id.get(id)?;
        let holder = index.holder(&key.record().digest)?;
        (holder.id() != id).then(|| holder.id().clone())
    }

    /// How many AccessKeys have a token.
    pub fn len(&self) -> usize {
        self.index.read().by_id.len()
    }

    /// Whether no AccessKey has a token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key as it is now, in the order of their names; for metrics.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.index.read().by_id.values().cloned().collect();
        keys.sort_by(|a, b| a.id().cmp(b.id()));
        keys
    }

    /// When the next key ends.
    pub fn next_expiry(&self) -> Option<Time> {
        self.index.read().ends.first().map(|(at, _)| *at)
    }

    /// Ends the keys whose time is over at `now` and names them, so that their status can be brought up to date.
    pub fn expire_due(&self, now: Time) -> Vec<KeyId> {
        let mut index = self.index.write();
        let mut expired = Vec::new();
        while index.ends.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = index.ends.pop_first() else {
                break;
            };
            if let Some(key) = index.by_id.get(&id) {
                key.end(KeyState::Expired);
                expired.push(id);
            }
        }
        expired
    }

    /// Ends keys on time until cancelled; one task runs it. `on_expired` gets the keys that ended, some at a time.
    pub async fn run_expiry(
        &self,
        clock: impl Fn() -> Time,
        mut on_expired: impl FnMut(Vec<KeyId>),
        cancel: CancellationToken,
    ) {
        loop {
            let now = clock();
            let expired = self.expire_due(now);
            if !expired.is_empty() {
                on_expired(expired);
            }
            let nap = self.next_expiry().map_or(LONGEST_NAP, |at| {
                // Up to the next millisecond, so that waking early does not spin.
                let left = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or_default();
                Duration::from_nanos(left).saturating_add(Duration::from_millis(1)).min(LONGEST_NAP)
            });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.ends_changed.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

impl Index {
    fn holder(&self, digest: &Digest) -> Option<&Arc<Key>> {
        self.by_digest.get(digest).and_then(|keys| keys.first())
    }

    fn upsert(&mut self, record: KeyRecord) -> Outcome {
        let id = record.id.clone();
        let mut affected = Vec::new();
        let mut usage = None;
        if let Some(old) = self.by_id.get(&id).cloned() {
            if *old.record() == record {
                return self.outcome(&id, affected);
            }
            if old.uid() == record.uid {
                old.usage().set_limits(record.limits);
                usage = Some(Arc::clone(old.usage()));
            }
            affected = self.remove(&id, what_ended(old.record(), &record)).affected;
        }
        let usage = usage.unwrap_or_else(|| Usage::new(record.limits));
        self.insert(Key::new(record, usage), &mut affected);
        affected.retain(|other| *other != id);
        self.outcome(&id, affected)
    }

    fn insert(&mut self, key: Arc<Key>, affected: &mut Vec<KeyId>) {
        let id = key.id().clone();
        if let Some(at) = key.expires_at() {
            self.ends.insert((at, id.clone()));
        }
        self.by_id.insert(id, Arc::clone(&key));
        let rivals = self.by_digest.entry(key.record().digest).or_default();
        let place = rivals.partition_point(|other| seniority(other) < seniority(&key));
        rivals.insert(place, key);
        // Whoever held the token before the newcomer took the first place holds it no more.
        if place == 0
            && let Some(displaced) = rivals.get(1)
        {
            displaced.end(KeyState::Conflicting);
            affected.push(displaced.id().clone());
        }
    }

    fn remove(&mut self, id: &KeyId, why: KeyState) -> Outcome {
        let Some(key) = self.by_id.remove(id) else {
            return Outcome::default();
        };
        if let Some(at) = key.expires_at() {
            self.ends.remove(&(at, id.clone()));
        }
        key.end(why);
        let mut affected = Vec::new();
        let digest = key.record().digest;
        if let Some(rivals) = self.by_digest.get_mut(&digest) {
            let held = rivals.first().is_some_and(|first| first.id() == id);
            rivals.retain(|other| other.id() != id);
            if rivals.is_empty() {
                self.by_digest.remove(&digest);
            } else if held {
                affected.extend(self.promote(&digest));
            }
        }
        Outcome { affected, ..Outcome::default() }
    }

    /// The oldest of those that waited gets the token: as a new version, since the old one's end is final.
    fn promote(&mut self, digest: &Digest) -> Option<KeyId> {
        let first = self.by_digest.get_mut(digest)?.first_mut()?;
        let risen = Key::new(first.record().clone(), Arc::clone(first.usage()));
        *first = Arc::clone(&risen);
        let id = risen.id().clone();
        // It may have ended meanwhile; then the next look at the clock ends it again.
        if let Some(at) = risen.expires_at() {
            self.ends.insert((at, id.clone()));
        }
        self.by_id.insert(id.clone(), risen);
        Some(id)
    }

    fn outcome(&self, id: &KeyId, affected: Vec<KeyId>) -> Outcome {
        let key = self.by_id.get(id).cloned();
        let holder = key.as_ref().and_then(|key| self.holder(&key.record().digest));
        let conflicts_with = holder.map(|holder| holder.id().clone()).filter(|holder| holder != id);
        match (conflicts_with, key) {
            (Some(older), Some(key)) => {
                key.end(KeyState::Conflicting);
                Outcome { key: None, conflicts_with: Some(older), affected }
            }
            (_, key) => Outcome { key, conflicts_with: None, affected },
        }
    }
}

/// The older AccessKey counts; names decide between those of one second.
fn seniority(key: &Key) -> (Time, &KeyId) {
    (key.record().created_at, key.id())
}

/// What users of the old version are told, by what differs most.
fn what_ended(old: &KeyRecord, new: &KeyRecord) -> KeyState {
    if old.uid != new.uid {
        KeyState::Deleted
    } else if old.digest != new.digest {
        KeyState::Rotated
    } else if new.suspended {
        KeyState::Suspended
    } else {
        KeyState::Changed
    }
}
