//! The key of who watches with a config file: all streams, for whoever can read its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::api::ObjectMeta;

use super::DEFAULT_NAMESPACE;
use super::config::names;
use super::owner::{Keys, shown};
use super::tokens::{Found, Tokens};
use crate::access::{KeyId, KeyRecord, KeyRing};
use crate::api::condition::{Status, reason};
use crate::api::{AccessKey, AccessKeySpec, Grant, Scope, Service};
use crate::record::Time;
use crate::worker::{KeyView, ObjectView};

const NAME: &str = "local";

/// The local key.
pub struct LocalKey {
    object: AccessKey,
    found: Found,
}

impl LocalKey {
    /// Puts the local key, whose token is kept below the folder of state, into the ring.
    ///
    /// # Errors
    /// Where its token cannot be kept.
    pub fn open(state: &Path, ring: &KeyRing) -> std::io::Result<Arc<Self>> {
        let services = vec![Service::Log, Service::Metrics, Service::Signal, Service::Raw];
        let scopes = vec![Scope::Cluster, Scope::Command, Scope::Admin];
        let grants = vec![Grant { services, scopes, ..Grant::default() }];
        let description = Some("Whoever can read its file on this machine.".to_owned());
        let spec = AccessKeySpec { description, grants, ..AccessKeySpec::default() };
        let found =
            Tokens::below(state).find_or_make((DEFAULT_NAMESPACE, NAME), &spec, &mut rand::rng(), Time::now())?;
        let (id, uid) = (KeyId::new(DEFAULT_NAMESPACE, NAME), names::uid("key", NAME));
        let record = KeyRecord::new(id, uid, found.since, None, &spec, found.token.digest());
        ring.upsert(record.map_err(std::io::Error::other)?);
        let metadata =
            ObjectMeta { name: Some(NAME.into()), namespace: Some(DEFAULT_NAMESPACE.into()), ..ObjectMeta::default() };
        Ok(Arc::new(Self { object: AccessKey { metadata, spec, status: None }, found }))
    }

    /// The file of its token.
    pub fn path(&self) -> &PathBuf {
        &self.found.path
    }
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Keys for LocalKey {
    fn list(&self, _namespace: &str) -> Vec<KeyView> {
        vec![KeyView { object: self.object.clone(), token: None }]
    }

    fn get(&self, _namespace: &str, name: &str) -> Option<KeyView> {
        (name == NAME).then(|| KeyView { object: self.object.clone(), token: Some(shown(&self.found.token)) })
    }

    fn objects(&self) -> Vec<ObjectView> {
        vec![ObjectView {
            kind: "AccessKey",
            namespace: DEFAULT_NAMESPACE.to_owned(),
            name: NAME.to_owned(),
            ready: Status::True,
            reason: reason::READY,
            message: format!("Its token is in {}.", self.found.path.display()),
        }]
    }
}
