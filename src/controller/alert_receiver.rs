//! `AlertReceiver`: can be told of alerts for as long as it is declared and valid.
//!
//! What a Secret of it holds is looked at when the receiver is, and at once when the Secret changes: see `secret_watch`.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use tokio::sync::broadcast;

use super::errors::Error;
use super::guard::Guarded;
use super::objects::{self, Object, id};
use super::retry::Id;
use super::secret_watch;
use super::shared::{Shared, in_time, is_leaving, leaving, namespace};
use super::start::Start;
use super::status::Verdict;
use crate::api::condition::reason;
use crate::api::validate;
use crate::api::{AlertReceiver, AlertReceiverStatus, SecretError};
use crate::rule::{Failure, ReceiverName, Receivers, Sight, secret_refs};
use crate::telemetry::Kind;

/// When a receiver is looked at again to which nothing can be delivered, or of which not all could be seen. Deliveries need
/// not wait for that: they read its Secrets anew.
const SOON_AGAIN: Duration = Duration::from_secs(30);
/// When one is looked at again with which all is well.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

const DELIVERED: &str = "Alerts are delivered.";

impl Object for AlertReceiver {
    const KIND: Kind = Kind::AlertReceiver;
    const MANAGER: &'static str = "weir-alert-receiver";
}

/// What a reconciliation works with.
pub(super) struct Context {
    pub(super) shared: Shared<AlertReceiver>,
    pub(super) receivers: Arc<Receivers>,
}

/// Makes the receiver known or unknown, and says in its status whether alerts can be delivered.
pub(super) async fn reconcile(object: Arc<Guarded<AlertReceiver>>, context: Arc<Context>) -> Result<Action, Error> {
    let shared = &context.shared;
    let started = shared.begin(&object);
    let result = match object.as_ref() {
        Guarded::Malformed(malformed) => {
            context.receivers.remove(&receiver_name(&id(object.as_ref())));
            shared.report_malformed(malformed).await.map(|()| Action::await_change())
        }
        Guarded::Readable(receiver) => make_true(receiver, &context).await,
    };
    shared.finish(&object, started, result).await
}

/// When a receiver that failed is tried again.
#[expect(clippy::needless_pass_by_value, reason = "the signature that kube asks for")]
pub(super) fn error_policy(object: Arc<Guarded<AlertReceiver>>, error: &Error, context: Arc<Context>) -> Action {
    context.shared.try_again(&object, error)
}

/// Looks after all receivers in one place until cancelled.
pub(super) async fn run(start: Start, secrets: broadcast::Receiver<secret_watch::Change>, receivers: Arc<Receivers>) {
    let (objects, writer) = objects::store::<AlertReceiver>();
    let secrets = secret_watch::concerned(secrets, objects.clone(), uses);
    let context = Arc::new(Context { shared: start.shared(objects.clone()), receivers });
    let waiting = context.shared.waiting.clone();
    let gone = {
        let context = Arc::clone(&context);
        move |id| context.gone(&id)
    };
    Controller::for_stream(start.watch(writer, waiting.clone(), gone), objects)
        .with_config(start.runtime())
        .reconcile_on(waiting.noting(secrets))
        .graceful_shutdown_on(start.cancel.cancelled_owned())
        .run(reconcile, error_policy, context)
        .for_each(|_| future::ready(()))
        .await;
}

/// Whether a receiver uses the Secret of this name in its namespace.
pub(super) fn uses(receiver: &AlertReceiver, secret: &str) -> bool {
    secret_refs(&receiver.spec).iter().any(|reference| reference.name == secret)
}

async fn make_true(receiver: &AlertReceiver, context: &Context) -> Result<Action, Error> {
    let name = receiver_name(&id(receiver));
    let problems = validate::alert_receiver(&receiver.spec);
    let refused = if is_leaving(&receiver.metadata) {
        Some(leaving())
    } else {
        validate::worst(&problems).map(|reason| Verdict::refused(reason, validate::describe(&problems)))
    };
    let (verdict, action) = match refused {
        Some(verdict) => {
            context.receivers.remove(&name);
            (verdict, Action::await_change())
        }
        None => {
            context.receivers.set(name.clone(), receiver.spec.clone());
            if !context.shared.is_there(&receiver.metadata) {
                context.receivers.remove(&name);
            }
            verdict(receiver, context).await
        }
    };
    context.shared.report(receiver, &verdict, AlertReceiverStatus::default()).await?;
    Ok(action)
}

/// Whether alerts can be delivered, as far as that can be known without delivering one.
async fn verdict(receiver: &AlertReceiver, context: &Context) -> (Verdict, Action) {
    if receiver.spec.suspend {
        let message =
            "The receiver is suspended: alerts are counted, not sent. Set spec.suspend to false to send them.";
        return (Verdict::not_ready(reason::SUSPENDED, message, false), Action::await_change());
    }
    let failure = match context.receivers.check(&namespace(&receiver.metadata), &receiver.spec).await {
        Ok(Sight::Whole) => return (Verdict::ready(DELIVERED), in_time(LOOK_AGAIN)),
        Ok(Sight::Partial) => return (Verdict::ready(DELIVERED), in_time(SOON_AGAIN)),
        Err(failure) => failure,
    };
    let reason = match failure {
        Failure::Secret(SecretError::Denied(_)) => reason::FORBIDDEN,
        Failure::Secret(_) => reason::SECRET_MISSING,
        Failure::NotAllowed(_) => reason::NOT_ALLOWED,
        _ => reason::INVALID,
    };
    (Verdict::not_ready(reason, format!("No alert can be delivered: {failure}."), true), in_time(SOON_AGAIN))
}

fn receiver_name((namespace, name): &Id) -> ReceiverName {
    ReceiverName::new(namespace, name)
}

impl Context {
    /// A receiver is no more: what waits for it is dropped.
    fn gone(&self, id: &Id) {
        self.receivers.remove(&receiver_name(id));
        self.shared.forget(id);
    }
}
