//! `AccessKey`: its token is in a Secret, its digest in the key ring, for as long as it is declared and valid.
//!
//! A change of a Secret, also of one that `spec.secretRef` names, takes effect at once: see `secret_watch`.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use tokio::sync::broadcast;

use super::errors::Error;
use super::events::Gravity;
use super::guard::Guarded;
use super::nudges::nudges;
use super::objects::{self, Object, id};
use super::retry::Id;
use super::secret::{self, Done, Found, Unusable};
use super::shared::{Shared, in_time, is_leaving, leaving, namespace};
use super::start::Start;
use super::status::Verdict;
use super::{ROTATE, secret_watch};
use crate::access::{KeyId, KeyRecord, KeyRing, Outcome};
use crate::api::condition::reason;
use crate::api::validate::{self, Reach};
use crate::api::{AccessKey, AccessKeyStatus, TimeText};
use crate::record::Time;
use crate::telemetry::Kind;

impl Object for AccessKey {
    const KIND: Kind = Kind::AccessKey;
    const MANAGER: &'static str = "weir-access-key";
}

/// What a reconciliation works with.
pub(super) struct Context {
    pub(super) shared: Shared<AccessKey>,
    pub(super) ring: Arc<KeyRing>,
    /// Keys to look at again: those that expired, or whose standing another key changed.
    pub(super) nudges: broadcast::Sender<KeyId>,
}

/// Brings the token, the key ring and the status in line with the object.
pub(super) async fn reconcile(object: Arc<Guarded<AccessKey>>, context: Arc<Context>) -> Result<Action, Error> {
    let started = context.shared.begin(&object);
    let result = match object.as_ref() {
        Guarded::Malformed(malformed) => {
            context.take_out(&id(object.as_ref()));
            context.shared.report_malformed(malformed).await.map(|()| Action::await_change())
        }
        Guarded::Readable(key) => make_true(key, &context).await,
    };
    context.shared.finish(&object, started, result).await
}

/// When a key that failed is tried again.
#[expect(clippy::needless_pass_by_value, reason = "the signature that kube asks for")]
pub(super) fn error_policy(object: Arc<Guarded<AccessKey>>, error: &Error, context: Arc<Context>) -> Action {
    context.shared.try_again(&object, error)
}

/// Looks after all keys in one place until cancelled.
pub(super) async fn run(
    start: Start,
    secrets: broadcast::Receiver<secret_watch::Change>,
    ring: Arc<KeyRing>,
    nudges_sender: broadcast::Sender<KeyId>,
) {
    let (objects, writer) = objects::store::<AccessKey>();
    let nudged =
        nudges(nudges_sender.subscribe(), objects.clone(), |key: &KeyId| (key.namespace.clone(), key.name.clone()));
    let secrets = secret_watch::concerned(secrets, objects.clone(), |key, name| secret::name_of(key) == name);
    let context = Arc::new(Context { shared: start.shared(objects.clone()), ring, nudges: nudges_sender });
    let waiting = context.shared.waiting.clone();
    let gone = {
        let context = Arc::clone(&context);
        move |id| context.gone(&id)
    };
    Controller::for_stream(start.watch(writer, waiting.clone(), gone), objects)
        .with_config(start.runtime())
        .reconcile_on(waiting.noting(nudged))
        .reconcile_on(waiting.noting(secrets))
        .graceful_shutdown_on(start.cancel.cancelled_owned())
        .run(reconcile, error_policy, context)
        .for_each(|_| future::ready(()))
        .await;
}

async fn make_true(key: &AccessKey, context: &Context) -> Result<Action, Error> {
    let own = namespace(&key.metadata);
    let reach = Reach::of(&own, &context.shared.config.operator_namespace);
    let problems = validate::access_key(&key.spec, reach);
    let refused = if is_leaving(&key.metadata) {
        Some(leaving())
    } else {
        let refused = |reason| Verdict::refused(reason, validate::describe(&problems));
        validate::worst(&problems).map(refused)
    };
    if let Some(verdict) = refused {
        context.take_out(&id(key));
        context.shared.report(key, &verdict, kept(key)).await?;
        return Ok(Action::await_change());
    }
    let now = Time::now();
    match secret::find_or_make(&context.shared.api(&own), key, now).await? {
        Ok(found) => put_in(key, found, now, context).await,
        Err(unusable) => {
            context.take_out(&id(key));
            report_unusable(key, unusable, context).await
        }
    }
}

async fn report_unusable(key: &AccessKey, unusable: Unusable, context: &Context) -> Result<Action, Error> {
    let Unusable { reason, message, stalled } = unusable;
    let status = AccessKeyStatus { secret_name: Some(secret::name_of(key).to_owned()), ..Default::default() };
    context.shared.report(key, &Verdict::not_ready(reason, message, stalled), status).await?;
    // A change of the Secret is watched; only what removes itself is looked at in any case.
    Ok(if stalled { Action::await_change() } else { in_time(Duration::from_secs(2)) })
}

/// Puts a key with its token into the ring and reports it.
async fn put_in(key: &AccessKey, found: Found, now: Time, context: &Context) -> Result<Action, Error> {
    let fingerprint = found.token.digest().fingerprint();
    let since = found.since.or_else(|| changed_at(key, &fingerprint, now));
    let record = match record(key, &found, since)? {
        Ok(record) => record,
        Err(problem) => {
            context.take_out(&id(key));
            context.shared.report(key, &Verdict::refused(reason::INVALID, problem), kept(key)).await?;
            return Ok(Action::await_change());
        }
    };
    let ends = record.expires_at;
    let outcome = context.put(key, record);
    let verdict = verdict(key, ends, now, outcome.conflicts_with.as_ref());
    let status = AccessKeyStatus {
        secret_name: Some(secret::name_of(key).to_owned()),
        fingerprint: Some(fingerprint.clone()),
        expires_at: ends.map(|end| TimeText::from(end.to_jiff())),
        rotated_at: since.map(|since| TimeText::from(since.to_jiff())),
        ..AccessKeyStatus::default()
    };
    announce(key, found.done, &fingerprint, context).await;
    context.shared.report(key, &verdict, status).await?;
    Ok(match ends.filter(|end| *end > now) {
        Some(end) => in_time(until(end, now)),
        None => Action::await_change(),
    })
}

/// From now to the end, and a moment more, so that it has come by then.
fn until(end: Time, now: Time) -> Duration {
    let left = u64::try_from(end.0.saturating_sub(now.0)).unwrap_or_default();
    Duration::from_nanos(left).saturating_add(Duration::from_millis(5))
}

fn record(key: &AccessKey, found: &Found, since: Option<Time>) -> Result<Result<KeyRecord, String>, Error> {
    let uid = key.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    let created = key.metadata.creation_timestamp.as_ref().ok_or(Error::Incomplete("creationTimestamp"))?;
    let id = KeyId::new(namespace(&key.metadata), key.name_any());
    let record = KeyRecord::new(id, uid, Time::from_jiff(created.0), since, &key.spec, found.token.digest());
    Ok(record.map_err(|error| error.to_string()))
}

/// When the token of somebody else's Secret was last seen to change; unknown for the first one.
fn changed_at(key: &AccessKey, fingerprint: &str, now: Time) -> Option<Time> {
    let status = key.status.as_ref()?;
    match status.fingerprint.as_deref() {
        Some(before) if before == fingerprint => {
            status.rotated_at.as_ref().and_then(|text| text.parse().ok()).map(Time::from_jiff)
        }
        Some(_) => Some(now),
        None => None,
    }
}

fn verdict(key: &AccessKey, ends: Option<Time>, now: Time, older: Option<&KeyId>) -> Verdict {
    if key.spec.suspend {
        let message = "The key is suspended and opens nothing; set spec.suspend to false to let it work again.";
        return Verdict::not_ready(reason::SUSPENDED, message, false);
    }
    if let Some(end) = ends.filter(|end| *end <= now) {
        let remedy = match &key.spec.ttl {
            Some(_) => format!("give it a new token with the annotation {ROTATE}, or a longer spec.ttl"),
            None => "set a later spec.expiresAt".to_owned(),
        };
        let message = format!("The key's time was over at {}; {remedy}.", end.to_jiff());
        return Verdict::not_ready(reason::EXPIRED, message, true);
    }
    if let Some(older) = older {
        let name = key.name_any();
        tracing::warn!(key = name, %older, "Two AccessKeys have the same token; only the older one works");
        let message = "An older AccessKey has the same token, so this one opens nothing; give it a token of its own.";
        return Verdict::not_ready(reason::DUPLICATE_TOKEN, message, true);
    }
    let rotates_in_vain = key.spec.secret_ref.is_some() && key.annotations().contains_key(ROTATE);
    Verdict::ready(if rotates_in_vain {
        format!(
            "The key can be used. The annotation {ROTATE} has no effect: the token is in the Secret {}, which Weir \
             never changes.",
            secret::name_of(key)
        )
    } else {
        "The key can be used.".to_owned()
    })
}

/// What stays in the status of a key that does not work: where its token is, and which it was.
fn kept(key: &AccessKey) -> AccessKeyStatus {
    key.status.clone().unwrap_or_default()
}

async fn announce(key: &AccessKey, done: Done, fingerprint: &str, context: &Context) {
    let name = secret::name_of(key);
    let known = key.status.as_ref().is_some_and(|status| status.fingerprint.is_some());
    let (reason, note) = match done {
        Done::Nothing => return,
        Done::Created if known => {
            (reason::TOKEN_ROTATED, format!("The Secret {name} was gone; it holds a new token, {fingerprint}."))
        }
        Done::Created => (reason::TOKEN_CREATED, format!("The Secret {name} holds the token, {fingerprint}.")),
        Done::Adopted => {
            (reason::TOKEN_CREATED, format!("The Secret {name} was adopted with its token, {fingerprint}."))
        }
        Done::Rotated => (reason::TOKEN_ROTATED, format!("The Secret {name} holds a new token, {fingerprint}.")),
        Done::Reformatted => {
            let format = key.spec.format;
            (
                reason::TOKEN_ROTATED,
                format!("The Secret {name} holds a new token in the form {format:?}, {fingerprint}."),
            )
        }
    };
    tracing::info!(namespace = key.namespace(), key = key.name_any(), %reason, fingerprint, "The token of a key is new");
    context.shared.tell(key.meta(), Gravity::Normal, "Rotate", reason, note).await;
}

impl Context {
    /// Takes a key into the ring, unless it was deleted meanwhile.
    fn put(&self, key: &AccessKey, record: KeyRecord) -> Outcome {
        let outcome = self.ring.upsert(record);
        self.look_again(&outcome);
        if !self.shared.is_there(&key.metadata) {
            self.take_out(&id(key));
        }
        outcome
    }

    /// Takes a key out of the ring: whoever uses it is cut.
    fn take_out(&self, (namespace, name): &Id) {
        let outcome = self.ring.remove(namespace, name);
        self.look_again(&outcome);
    }

    /// A key is no more.
    fn gone(&self, id: &Id) {
        self.take_out(id);
        self.shared.forget(id);
    }

    fn look_again(&self, outcome: &Outcome) {
        for key in &outcome.affected {
            // Without a controller that listens there is nothing to look at.
            let _ = self.nudges.send(key.clone());
        }
    }
}
