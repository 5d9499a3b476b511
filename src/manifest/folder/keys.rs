//! AccessKeys of a folder: their tokens in files, their digests in the ring.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt as _;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;

use super::objects::Id;
use crate::access::{KeyId, KeyRecord, KeyRing, Token};
use crate::api::condition::{Reason, Status, reason};
use crate::api::{AccessKey, SecretReader};
use crate::manifest::config::names::uid;
use crate::manifest::owner::{Keys, shown};
use crate::manifest::tokens::Tokens;
use crate::record::Time;
use crate::worker::{KeyView, ObjectView};

/// The keys of a folder.
pub struct FolderKeys {
    tokens: Tokens,
    secrets: Arc<dyn SecretReader>,
    ring: Arc<KeyRing>,
    standing: Mutex<BTreeMap<(String, String), Standing>>,
    /// Since when each token that is somebody else's file is seen here.
    seen: Mutex<BTreeMap<Id, (String, Time)>>,
}

struct Standing {
    object: AccessKey,
    token: Option<Token>,
    ready: Status,
    reason: Reason,
    message: String,
}

impl FolderKeys {
    /// Keys whose tokens are kept below the folder of state, or come from secrets, and go into the ring.
    pub fn new(state: &Path, secrets: Arc<dyn SecretReader>, ring: Arc<KeyRing>) -> Arc<Self> {
        Arc::new(Self {
            tokens: Tokens::below(state),
            secrets,
            ring,
            standing: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// These keys count from now on, and no others. Who uses one that does not, is cut.
    pub(super) fn apply<'k>(&self, keys: impl Iterator<Item = (Id, &'k AccessKey)>) {
        let mut standing = self.standing.lock();
        let mut next = BTreeMap::new();
        for (id, key) in keys {
            let stands = self.make_true(&id, key);
            if stands.token.is_none() {
                self.ring.remove(&id.namespace, &id.name);
            }
            let place = (id.namespace, id.name);
            let told = standing.get(&place).is_some_and(|before| before.message == stands.message);
            if !told {
                tracing::info!(namespace = place.0, key = place.1, "{}", stands.message);
            }
            next.insert(place, stands);
        }
        for (namespace, name) in standing.keys().filter(|place| !next.contains_key(place)) {
            self.ring.remove(namespace, name);
            tracing::info!(namespace, key = name, "A key is in its file no more and opens nothing from now on");
        }
        *standing = next;
    }

    fn make_true(&self, id: &Id, key: &AccessKey) -> Standing {
        let stands = |ready, reason, message, token| Standing { object: key.clone(), token, ready, reason, message };
        let (token, since, place) = match self.token(id, key) {
            Ok(found) => found,
            Err((reason, message)) => return stands(Status::False, reason, message, None),
        };
        let name = KeyId::new(&id.namespace, &id.name);
        let made = KeyRecord::new(name, uid(&id.namespace, &id.name), since, Some(since), &key.spec, token.digest());
        let record = match made {
            Ok(record) => record,
            Err(error) => return stands(Status::False, reason::INVALID, error.to_string(), None),
        };
        let ends = record.expires_at;
        let outcome = self.ring.upsert(record);
        let fingerprint = token.digest().fingerprint();
        let (ready, reason, message) = if outcome.conflicts_with.is_some() {
            let text = "An older AccessKey has the same token, so this one opens nothing; give it a token of its own.";
            (Status::False, reason::DUPLICATE_TOKEN, text.to_owned())
        } else if key.spec.suspend {
            let text = "The key is suspended and opens nothing; set spec.suspend to false to let it work again.";
            (Status::False, reason::SUSPENDED, text.to_owned())
        } else if ends.is_some_and(|end| end <= Time::now()) {
            (Status::False, reason::EXPIRED, "The key's time is over; set a later end.".to_owned())
        } else {
            (Status::True, reason::READY, format!("The key can be used; its token, {fingerprint}, is in {place}."))
        };
        stands(ready, reason, message, Some(token))
    }

    /// The token of a key, since when it counts, and where it is.
    fn token(&self, id: &Id, key: &AccessKey) -> Result<(Token, Time, String), (Reason, String)> {
        if let Some(secret) = &key.spec.secret_ref {
            let read = self.secrets.read(&id.namespace, secret).now_or_never();
            let text = match read {
                Some(Ok(text)) => text,
                Some(Err(error)) => return Err((reason::SECRET_MISSING, error.to_string())),
                None => return Err((reason::PROGRESSING, "The secret is not there yet.".to_owned())),
            };
            let token = Token::parse(text.expose_secret()).map_err(|error| {
                (reason::SECRET_INVALID, format!("The secret {} is no token: {error}.", secret.name))
            })?;
            // A secret has no age that could be relied on; the ttl counts from when it was first seen.
            let since = self.seen(id, &token);
            return Ok((token, since, format!("the secret {}", secret.name)));
        }
        let found = self.tokens.find_or_make((&id.namespace, &id.name), &key.spec, &mut rand::rng(), Time::now());
        let found = found.map_err(|error| (reason::SECRET_INVALID, error.to_string()))?;
        Ok((found.token, found.since, found.path.display().to_string()))
    }

    /// Since when this token is seen for this key: now, where it is new.
    fn seen(&self, id: &Id, token: &Token) -> Time {
        let fingerprint = token.digest().fingerprint();
        let mut seen = self.seen.lock();
        let entry = seen.entry(id.clone()).or_insert_with(|| (fingerprint.clone(), Time::now()));
        if entry.0 != fingerprint {
            *entry = (fingerprint, Time::now());
        }
        entry.1
    }
}

impl std::fmt::Debug for FolderKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderKeys").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Keys for FolderKeys {
    fn list(&self, namespace: &str) -> Vec<KeyView> {
        let standing = self.standing.lock();
        let own = standing.iter().filter(|((within, _), _)| within == namespace);
        own.map(|(_, stands)| KeyView { object: stands.object.clone(), token: None }).collect()
    }

    fn get(&self, namespace: &str, name: &str) -> Option<KeyView> {
        let standing = self.standing.lock();
        let stands = standing.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(KeyView { object: stands.object.clone(), token: stands.token.as_ref().map(shown) })
    }

    fn objects(&self) -> Vec<ObjectView> {
        let standing = self.standing.lock();
        let view = |((namespace, name), stands): (&(String, String), &Standing)| ObjectView {
            kind: "AccessKey",
            namespace: namespace.clone(),
            name: name.clone(),
            ready: stands.ready,
            reason: stands.reason,
            message: stands.message.clone(),
        };
        standing.iter().map(view).collect()
    }
}
