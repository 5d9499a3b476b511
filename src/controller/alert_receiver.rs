//! `AlertReceiver`: its schema is complete, but nothing sends alerts yet, and its status says so.

use std::future;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::Action;

use super::errors::Error;
use super::guard::Guarded;
use super::objects::{self, Object};
use super::shared::{Shared, is_leaving, leaving};
use super::start::Start;
use super::status::Verdict;
use crate::api::condition::reason;
use crate::api::validate::{self, Problem};
use crate::api::{AlertReceiver, AlertReceiverStatus};
use crate::telemetry::Kind;

impl Object for AlertReceiver {
    const KIND: Kind = Kind::AlertReceiver;
    const MANAGER: &'static str = "weir-alert-receiver";
}

/// What a reconciliation works with.
pub(super) struct Context {
    pub(super) shared: Shared<AlertReceiver>,
}

/// Validates the receiver and says in its status that no alert is sent to it.
pub(super) async fn reconcile(object: Arc<Guarded<AlertReceiver>>, context: Arc<Context>) -> Result<Action, Error> {
    let shared = &context.shared;
    let started = shared.begin(&object);
    let result = match object.as_ref() {
        Guarded::Malformed(malformed) => shared.report_malformed(malformed).await,
        Guarded::Readable(receiver) => {
            shared.report(receiver, &verdict(receiver), AlertReceiverStatus::default()).await
        }
    };
    shared.finish(&object, started, result.map(|()| Action::await_change())).await
}

/// When a receiver that failed is tried again.
#[expect(clippy::needless_pass_by_value, reason = "the signature that kube asks for")]
pub(super) fn error_policy(object: Arc<Guarded<AlertReceiver>>, error: &Error, context: Arc<Context>) -> Action {
    context.shared.try_again(&object, error)
}

/// Looks after all receivers in one place until cancelled.
pub(super) async fn run(start: Start) {
    let (objects, writer) = objects::store::<AlertReceiver>();
    let context = Arc::new(Context { shared: start.shared(objects.clone()) });
    let waiting = context.shared.waiting.clone();
    let gone = {
        let context = Arc::clone(&context);
        move |id| context.shared.forget(&id)
    };
    Controller::for_stream(start.watch(writer, waiting, gone), objects)
        .with_config(start.runtime())
        .graceful_shutdown_on(start.cancel.cancelled_owned())
        .run(reconcile, error_policy, context)
        .for_each(|_| future::ready(()))
        .await;
}

/// A receiver whose spec makes sense is accepted, although no version so far sends alerts.
fn verdict(receiver: &AlertReceiver) -> Verdict {
    if is_leaving(&receiver.metadata) {
        return leaving();
    }
    let is_invalid = |problem: &Problem| problem.reason != reason::NOT_IMPLEMENTED;
    let problems: Vec<_> = validate::alert_receiver(&receiver.spec).into_iter().filter(is_invalid).collect();
    match validate::worst(&problems) {
        Some(reason) => Verdict::refused(reason, validate::describe(&problems)),
        None => Verdict::not_ready(
            reason::NOT_IMPLEMENTED,
            "This version of Weir sends no alerts: the receiver is kept, and used by the first version that does.",
            true,
        ),
    }
}
