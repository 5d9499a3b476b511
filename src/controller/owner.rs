//! Objects of the cluster, changed on behalf of clients who may.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use secrecy::SecretString;
use serde_json::json;

use super::command;
use super::errors::{code, is_conflict, summary};
use super::events::Announcer;
use super::guard::Guarded;
use super::secret::{TOKEN, name_of};
use crate::api::condition::{STALLED, is_true, summary as summary_of};
use crate::api::{AccessKey, AccessKeySpec, StreamSubscription};
use crate::stream::StreamName;
use crate::worker::{AuditFuture, KeyChange, KeyView, ObjectOwner, Order, OwnerError, OwnerFuture};

/// How long a new key may take to get its token.
const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Who changed an object, in its managed fields.
pub(super) const MANAGER: &str = "weir-endpoint";
/// Keys that one question brings from the API server.
const PAGE: u32 = 500;

/// The API server as the owner of the objects.
#[derive(Clone)]
pub struct ClusterOwner {
    client: Client,
    namespace: String,
    announcer: Announcer,
}

impl ClusterOwner {
    /// An owner whose administrators' keys live in `namespace`, the operator's own.
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        let announcer = Announcer::new(client.clone(), None);
        Self { client, namespace: namespace.into(), announcer }
    }

    /// The same, which signs its Events as the process called `instance`.
    #[must_use]
    pub fn signing_as(self, instance: Option<String>) -> Self {
        Self { announcer: Announcer::new(self.client.clone(), instance), ..self }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn api(&self) -> Api<Guarded<AccessKey>> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl std::fmt::Debug for ClusterOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterOwner").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl ObjectOwner for ClusterOwner {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn keys(&self) -> OwnerFuture<'_, Vec<KeyView>> {
        Box::pin(self.list())
    }

    fn key<'a>(&'a self, name: &'a str) -> OwnerFuture<'a, KeyView> {
        Box::pin(async move {
            let object = self.get(name).await?;
            let token = self.token(&object).await?;
            Ok(KeyView { object, token })
        })
    }

    fn change_key<'a>(&'a self, name: &'a str, change: KeyChange) -> OwnerFuture<'a, Option<KeyView>> {
        Box::pin(async move {
            match change {
                KeyChange::Create(spec) => self.create(name, spec).await.map(Some),
                KeyChange::Replace(spec) => self.replace(name, spec).await.map(Some),
                KeyChange::Delete => self.delete(name).await.map(|()| None),
            }
        })
    }

    fn suspend<'a>(&'a self, name: &'a StreamName, suspend: bool) -> OwnerFuture<'a, ()> {
        Box::pin(async move {
            let what = format!("the StreamSubscription {name}");
            checked(&name.namespace, &what)?;
            checked(&name.name, &what)?;
            let api: Api<Guarded<StreamSubscription>> = Api::namespaced(self.client.clone(), &name.namespace);
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
            api.patch(&name.name, &params, &patch).await.map_err(refused(&what))?;
            Ok(())
        })
    }

    fn command<'a>(&'a self, order: &'a Order) -> OwnerFuture<'a, ()> {
        Box::pin(command::carry_out(self, order))
    }

    fn audit<'a>(&'a self, order: &'a Order, outcome: Result<(), &'a str>) -> AuditFuture<'a> {
        Box::pin(command::audit(self, order, outcome))
    }
}

impl ClusterOwner {
    async fn list(&self) -> Result<Vec<KeyView>, OwnerError> {
        let (api, mut keys, mut page) = (self.api(), Vec::new(), ListParams::default().limit(PAGE));
        loop {
            let list = api.list(&page).await.map_err(refused("the AccessKeys"))?;
            let more = list.metadata.continue_.filter(|token| !token.is_empty());
            keys.extend(list.items.into_iter().filter_map(|key| match key {
                Guarded::Readable(object) => Some(KeyView { object, token: None }),
                Guarded::Malformed(_) => None,
            }));
            match more {
                Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(keys),
            }
        }
    }

    async fn get(&self, name: &str) -> Result<AccessKey, OwnerError> {
        let what = self.what(name);
        checked(name, &what)?;
        match self.api().get(name).await.map_err(refused(&what))? {
            Guarded::Readable(key) => Ok(key),
            Guarded::Malformed(malformed) => {
                Err(OwnerError::Invalid(format!("{what} cannot be read: {}", malformed.error)))
            }
        }
    }

    /// The token of a key, where it has one by now.
    async fn token(&self, key: &AccessKey) -> Result<Option<SecretString>, OwnerError> {
        let (name, entry) = (name_of(key), key.spec.secret_ref.as_ref().map_or(TOKEN, |reference| &reference.key));
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = api.get_opt(name).await.map_err(refused(&format!("the Secret {name}")))?;
        let text = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(entry));
        let text = text.and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok());
        Ok(text.map(|text| text.trim_ascii().to_owned().into()))
    }

    async fn create(&self, name: &str, spec: AccessKeySpec) -> Result<KeyView, OwnerError> {
        let what = self.what(name);
        checked(name, &what)?;
        let key = AccessKey {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec,
            status: None,
        };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.api().create(&params, &Guarded::Readable(key)).await.map_err(refused(&what))?;
        match tokio::time::timeout(PATIENCE, self.wait_for_token(name)).await {
            Ok(view) => view,
            Err(_) => {
                let problem = format!("{what} was made, but has no token yet; ask for it in a moment");
                Err(OwnerError::Unavailable(problem))
            }
        }
    }

    /// Waits until the controller has given the key its token, or has said why it will not.
    async fn wait_for_token(&self, name: &str) -> Result<KeyView, OwnerError> {
        loop {
            let object = self.get(name).await?;
            let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            match object.status.as_ref().and_then(|status| status.fingerprint.as_ref()) {
                Some(_) => {
                    let token = self.token(&object).await?;
                    return Ok(KeyView { object, token });
                }
                None if is_true(conditions, STALLED) => {
                    return Err(OwnerError::Invalid(summary_of(conditions)));
                }
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn replace(&self, name: &str, spec: AccessKeySpec) -> Result<KeyView, OwnerError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        for _ in 0..3 {
            let object = AccessKey { spec: spec.clone(), ..self.get(name).await? };
            match self.api().replace(name, &params, &Guarded::Readable(object)).await {
                Ok(Guarded::Readable(object)) => return Ok(KeyView { object, token: None }),
                Ok(Guarded::Malformed(malformed)) => return Err(OwnerError::Invalid(malformed.error)),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(refused(&self.what(name))(error)),
            }
        }
        Err(OwnerError::Unavailable(format!("{} is changed by others all the time; try again", self.what(name))))
    }

    async fn delete(&self, name: &str) -> Result<(), OwnerError> {
        let object = self.get(name).await?;
        let preconditions = Preconditions { uid: object.metadata.uid, resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.api().delete(name, &params).await.map_err(refused(&self.what(name)))?;
        Ok(())
    }

    fn what(&self, name: &str) -> String {
        format!("the AccessKey {}/{name}", self.namespace)
    }
}

/// Names come from clients and become part of a path.
pub(super) fn checked(name: &str, what: &str) -> Result<(), OwnerError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let edges = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if bytes.len() <= 253 && bytes.iter().copied().all(fits) && edges(bytes.first()) && edges(bytes.last()) {
        return Ok(());
    }
    Err(OwnerError::Invalid(format!("{what} cannot exist: names have lower-case letters, digits, `-` and `.`")))
}

/// What an answer of the API server means to who asked.
pub(super) fn refused(what: &str) -> impl FnOnce(kube::Error) -> OwnerError + use<> {
    let what = what.to_owned();
    move |error| match code(&error).map(|code| code.as_u16()) {
        Some(404) => OwnerError::NotFound(what),
        Some(409) => OwnerError::Exists(what),
        Some(400 | 422) => OwnerError::Invalid(format!("{what}: {}", summary(&error))),
        Some(401 | 403) => OwnerError::Denied(format!("{what}: {}", summary(&error))),
        _ => OwnerError::Unavailable(summary(&error)),
    }
}
