//! The Secret that holds a key's token: found, made, adopted or given a new token.
//!
//! What Weir did to a Secret of its own stands on the Secret itself, in annotations that change together with the
//! token: which rotation was answered, when, and in which form. So nothing is done twice, whatever is known of
//! the AccessKey's status.
//!
//! The token is in memory only while a reconciliation looks at it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::errors::Error;
use super::objects::Object;
use super::{ROTATE, shared};
use crate::access::{Token, TokenError, expiry};
use crate::api::condition::{Reason, reason};
use crate::api::{AccessKey, KeyFormat, SecretKeyRef};
use crate::record::Time;

/// The key inside a Secret of Weir's own.
pub(super) const TOKEN: &str = "token";
/// Label of such a Secret: the name of its AccessKey.
pub(super) const ACCESS_KEY: &str = "weir.dev/access-key";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const WEIR: &str = "weir";
/// Annotation: when the token was made.
const ROTATED_AT: &str = "weir.dev/rotated-at";
/// Annotation: in which form the token is.
const FORMAT: &str = "weir.dev/format";

/// A token that can be used.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) token: Token,
    /// When it was made, where that is known.
    pub(super) since: Option<Time>,
    pub(super) done: Done,
}

/// What was done to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    Created,
    Adopted,
    /// The token is a new one, because it was asked for.
    Rotated,
    /// The token is a new one, because `spec.format` changed.
    Reformatted,
}

/// Why there is no token, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// Whether a person must act.
    pub(super) stalled: bool,
}

impl Unusable {
    fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }
}

/// The name of the Secret that holds a key's token.
pub(super) fn name_of(key: &AccessKey) -> &str {
    match &key.spec.secret_ref {
        Some(reference) => &reference.name,
        None => key.metadata.name.as_deref().unwrap_or_default(),
    }
}

/// Finds the token of a key, or makes it.
pub(super) async fn find_or_make(
    api: &Api<Secret>,
    key: &AccessKey,
    now: Time,
) -> Result<Result<Found, Unusable>, Error> {
    let name = name_of(key);
    let secret = api.get_opt(name).await.map_err(Error::api(format!("read the Secret {name}")))?;
    match (&key.spec.secret_ref, secret) {
        (Some(reference), secret) => Ok(read_foreign(key, reference, secret.as_ref())),
        (None, None) => create(api, key, now).await.map(Ok),
        (None, Some(secret)) => match ownership(key, &secret) {
            Err(unusable) => Ok(Err(unusable)),
            Ok(ownership) => keep(api, key, &secret, ownership, now).await,
        },
    }
}

/// Reads a token that somebody else looks after.
fn read_foreign(key: &AccessKey, reference: &SecretKeyRef, secret: Option<&Secret>) -> Result<Found, Unusable> {
    let SecretKeyRef { name, key: entry } = reference;
    let namespace = shared::namespace(&key.metadata);
    let Some(secret) = secret else {
        let message = format!(
            "The Secret {name} does not exist; make it: kubectl -n {namespace} create secret generic {name} \
             --from-literal={entry}=\"$(openssl rand -hex 32)\", or leave out spec.secretRef and Weir makes a token"
        );
        return Err(Unusable::stalled(reason::SECRET_MISSING, message));
    };
    match read(secret, entry) {
        Ok(Some(token)) => Ok(Found { token, since: None, done: Done::Nothing }),
        Ok(None) => {
            let there: Vec<_> = secret.data.iter().flatten().map(|(name, _)| name.as_str()).collect();
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            let message =
                format!("The Secret {name} has no key {entry}, but {there}; add it, or correct spec.secretRef.key");
            Err(Unusable::stalled(reason::SECRET_MISSING, message))
        }
        Err(error) => {
            let message = format!("{error}; change {entry} in the Secret {name}");
            Err(Unusable::stalled(reason::SECRET_INVALID, message))
        }
    }
}

fn read(secret: &Secret, entry: &str) -> Result<Option<Token>, TokenError> {
    let Some(ByteString(bytes)) = secret.data.as_ref().and_then(|data| data.get(entry)) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| TokenError::NotPrintable)?;
    Token::parse(text).map(Some)
}

/// Whose a Secret of the wanted name is.
#[derive(Debug, PartialEq, Eq)]
enum Ownership {
    /// This key's.
    Ours,
    /// Nobody's, but labelled for this key.
    Orphan,
}

fn ownership(key: &AccessKey, secret: &Secret) -> Result<Ownership, Unusable> {
    let name = secret.name_any();
    let labelled = secret.labels().get(ACCESS_KEY) == key.metadata.name.as_ref();
    let owner = secret.owner_references().iter().find(|owner| owner.controller == Some(true));
    match owner {
        _ if !labelled => Err(Unusable::stalled(
            reason::SECRET_CONFLICT,
            format!(
                "A Secret {name} is there already and is not this key's; rename or delete it, use it by naming it in \
                 spec.secretRef, or hand it over: kubectl label secret {name} {ACCESS_KEY}={name}"
            ),
        )),
        None => Ok(Ownership::Orphan),
        Some(owner) if Some(&owner.uid) == key.metadata.uid.as_ref() => Ok(Ownership::Ours),
        Some(owner) if owner.kind == AccessKey::kind(&()) && Some(&owner.name) == key.metadata.name.as_ref() => {
            let message = format!("The Secret {name} of an earlier AccessKey of this name is being removed.");
            Err(Unusable { reason: reason::PROGRESSING, message, stalled: false })
        }
        Some(owner) => Err(Unusable::stalled(
            reason::SECRET_CONFLICT,
            format!("The Secret {name} belongs to {} {}; rename one of the two", owner.kind, owner.name),
        )),
    }
}

/// Looks after a Secret that is ours: its owner, its token, and whether a new one is asked for.
async fn keep(
    api: &Api<Secret>,
    key: &AccessKey,
    secret: &Secret,
    ownership: Ownership,
    now: Time,
) -> Result<Result<Found, Unusable>, Error> {
    let token = match read(secret, TOKEN) {
        Ok(token) => token,
        Err(_) if wants_rotation(key, secret) => None,
        Err(error) => {
            let message = format!("{error}; delete the Secret {} and Weir makes a new one", secret.name_any());
            return Ok(Err(Unusable::stalled(reason::SECRET_INVALID, message)));
        }
    };
    let (token, done) = match (token, ownership) {
        (Some(token), Ownership::Orphan) => (token, Done::Adopted),
        (Some(_), Ownership::Ours) if wants_rotation(key, secret) => (generate(key, now), Done::Rotated),
        (Some(_), Ownership::Ours) if format_of(secret) != key.spec.format => (generate(key, now), Done::Reformatted),
        (Some(token), Ownership::Ours) => return Ok(Ok(Found { token, since: since(secret), done: Done::Nothing })),
        (None, _) => (generate(key, now), Done::Rotated),
    };
    let since = if done == Done::Adopted { since(secret) } else { Some(now) };
    update(api, key, secret, &token, since.unwrap_or(now), done).await?;
    Ok(Ok(Found { token, since, done }))
}

/// Whether the annotation on the key asks for something that the Secret does not say was done.
fn wants_rotation(key: &AccessKey, secret: &Secret) -> bool {
    let asked = key.annotations().get(ROTATE);
    asked.is_some() && asked != secret.annotations().get(ROTATE)
}

fn format_of(secret: &Secret) -> KeyFormat {
    match secret.annotations().get(FORMAT).map(String::as_str) {
        Some("Kwirth") => KeyFormat::Kwirth,
        _ => KeyFormat::Plain,
    }
}

fn since(secret: &Secret) -> Option<Time> {
    let written = secret.annotations().get(ROTATED_AT).and_then(|text| text.parse().ok());
    written.or(secret.metadata.creation_timestamp.as_ref().map(|time| time.0)).map(Time::from_jiff)
}

async fn create(api: &Api<Secret>, key: &AccessKey, now: Time) -> Result<Found, Error> {
    let token = generate(key, now);
    let name = name_of(key).to_owned();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: key.metadata.namespace.clone(),
            labels: Some(labels(key)),
            annotations: Some(annotations(key, key.spec.format, now)),
            owner_references: Some(vec![owner(key)?]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(TOKEN.to_owned(), bytes(&token))])),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(AccessKey::MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, &secret).await.map_err(Error::api(format!("make the Secret {name}")))?;
    Ok(Found { token, since: Some(now), done: Done::Created })
}

/// Writes a token and what is to be remembered of it, unless the Secret changed meanwhile.
async fn update(
    api: &Api<Secret>,
    key: &AccessKey,
    secret: &Secret,
    token: &Token,
    since: Time,
    done: Done,
) -> Result<(), Error> {
    let name = secret.name_any();
    let mut owners = secret.owner_references().to_vec();
    owners.retain(|owner| owner.controller != Some(true));
    owners.push(owner(key)?);
    let format = if done == Done::Adopted { format_of(secret) } else { key.spec.format };
    let patch = json!({
        "metadata": {
            "resourceVersion": secret.metadata.resource_version,
            "labels": labels(key),
            "annotations": annotations(key, format, since),
            "ownerReferences": owners,
        },
        "data": {TOKEN: bytes(token)},
    });
    let params = PatchParams { field_manager: Some(AccessKey::MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&name, &params, &Patch::Merge(&patch)).await.map_err(Error::api(format!("change the Secret {name}")))?;
    Ok(())
}

fn labels(key: &AccessKey) -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGED_BY.to_owned(), WEIR.to_owned()), (ACCESS_KEY.to_owned(), key.name_any())])
}

fn annotations(key: &AccessKey, format: KeyFormat, since: Time) -> BTreeMap<String, String> {
    let format = match format {
        KeyFormat::Plain => "Plain",
        KeyFormat::Kwirth => "Kwirth",
    };
    let mut annotations =
        BTreeMap::from([(ROTATED_AT.to_owned(), since.to_jiff().to_string()), (FORMAT.to_owned(), format.to_owned())]);
    annotations.extend(key.annotations().get(ROTATE).map(|value| (ROTATE.to_owned(), value.clone())));
    annotations
}

fn owner(key: &AccessKey) -> Result<OwnerReference, Error> {
    key.controller_owner_ref(&()).ok_or(Error::Incomplete("uid"))
}

fn bytes(token: &Token) -> ByteString {
    ByteString(token.expose().as_bytes().to_vec())
}

fn generate(key: &AccessKey, now: Time) -> Token {
    // A spec whose end cannot be read has been refused before.
    let end = expiry(&key.spec, now).unwrap_or_default();
    Token::for_spec(&mut rand::rng(), &key.spec, end)
}
