//! `StreamSubscription`: kept at work under its name for as long as it is declared, valid and not suspended.

use std::collections::{BTreeSet, HashMap};
use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use parking_lot::Mutex;

use super::errors::Error;
use super::firings;
use super::guard::Guarded;
use super::nudges::nudges;
use super::objects::{self, Object, id};
use super::retry::Id;
use super::shared::{Shared, in_time, is_leaving, leaving, namespace};
use super::start::Start;
use super::status::{Claim, Verdict};
use super::targets;
use crate::api::condition::{Status, reason};
use crate::api::validate::{self, Reach};
use crate::api::{SourceSpec, StreamSubscription, StreamSubscriptionSpec, StreamSubscriptionStatus};
use crate::rule::ReceiverName;
use crate::source::BuildError;
use crate::stream::StreamName;
use crate::telemetry::{Category, Kind};
use crate::worker::{self, Alarms, Declared, HistoryPlan, Job, JobError, Observed};

impl Object for StreamSubscription {
    const KIND: Kind = Kind::StreamSubscription;
    const MANAGER: &'static str = "weir-stream-subscription";
}

/// What a reconciliation works with.
pub(super) struct Context {
    pub(super) shared: Shared<StreamSubscription>,
    pub(super) declared: Arc<Declared>,
    pub(super) alarms: Arc<Alarms>,
    /// When the targets of a subscription were last reported.
    pub(super) reported: Mutex<HashMap<Id, Instant>>,
}

/// Starts, changes or ends the stream, and reports what is the case with it.
pub(super) async fn reconcile(
    object: Arc<Guarded<StreamSubscription>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = context.shared.begin(&object);
    let result = match object.as_ref() {
        Guarded::Malformed(malformed) => {
            let name = stream_name(&id(object.as_ref()));
            context.declared.withdraw(&name, "The subscription was changed into something that cannot be read.");
            context.shared.report_malformed(malformed).await.map(|()| Action::await_change())
        }
        Guarded::Readable(subscription) => make_true(subscription, &context).await,
    };
    context.shared.finish(&object, started, result).await
}

/// When a subscription that failed is tried again.
#[expect(clippy::needless_pass_by_value, reason = "the signature that kube asks for")]
pub(super) fn error_policy(object: Arc<Guarded<StreamSubscription>>, error: &Error, context: Arc<Context>) -> Action {
    context.shared.try_again(&object, error)
}

/// Looks after all subscriptions in one place until cancelled.
pub(super) async fn run(start: Start, declared: Arc<Declared>, alarms: Arc<Alarms>) {
    let (objects, writer) = objects::store::<StreamSubscription>();
    let changes =
        nudges(declared.changes(), objects.clone(), |name: &StreamName| (name.namespace.clone(), name.name.clone()));
    let receivers = firings::concerned(alarms.receivers().changes(), objects.clone());
    let fired = alarms.firings();
    let shared = start.shared(objects.clone());
    let context = Arc::new(Context { shared, declared, alarms, reported: Mutex::default() });
    let telling = start.cancel.clone().run_until_cancelled_owned(firings::tell(fired, Arc::clone(&context)));
    let waiting = context.shared.waiting.clone();
    let gone = {
        let context = Arc::clone(&context);
        move |id| context.gone(&id)
    };
    let controller = Controller::for_stream(start.watch(writer, waiting.clone(), gone), objects)
        .with_config(start.runtime())
        .reconcile_on(waiting.noting(changes))
        .reconcile_on(waiting.noting(receivers))
        .graceful_shutdown_on(start.cancel.cancelled_owned())
        .run(reconcile, error_policy, context)
        .for_each(|_| future::ready(()));
    futures::join!(controller, telling);
}

/// How it stands with a subscription after a look at its spec.
enum Standing {
    /// It is at work.
    AtWork(Observed),
    /// It is not: what its readers are told, and what its status says.
    Idle(&'static str, Verdict),
}

async fn make_true(subscription: &StreamSubscription, context: &Context) -> Result<Action, Error> {
    let name = stream_name(&id(subscription));
    let status = StreamSubscriptionStatus { stream_name: Some(name.to_string()), ..Default::default() };
    let uid = subscription.metadata.uid.as_deref().unwrap_or_default();
    context.declared.note(&name, uid, &subscription.spec);
    if !context.shared.is_there(&subscription.metadata) {
        context.declared.delete(&name, DELETED);
    }
    match materialise(subscription, &name, context)? {
        Standing::Idle(why, verdict) => {
            context.declared.withdraw(&name, why);
            context.reported.lock().remove(&id(subscription));
            let status = StreamSubscriptionStatus { targets: Some(0), ..status };
            context.shared.report(subscription, &verdict, status).await?;
            context.tell(subscription, &name, &verdict);
            Ok(Action::await_change())
        }
        Standing::AtWork(observed) => {
            if let Some(wait) = context.must_wait(subscription) {
                return Ok(in_time(wait));
            }
            let targets = i32::try_from(observed.targets).unwrap_or(i32::MAX);
            let status = StreamSubscriptionStatus { targets: Some(targets), ..status };
            let before = subscription.status.as_ref().and_then(|status| status.targets);
            let verdict = verdict(&subscription.spec.source, observed, &context.missing(subscription));
            context.shared.report(subscription, &verdict, status).await?;
            context.tell(subscription, &name, &verdict);
            if before.is_some_and(|before| before != targets) {
                context.reported.lock().insert(id(subscription), Instant::now());
            }
            Ok(Action::await_change())
        }
    }
}

/// Puts a subscription to work that may be.
fn materialise(subscription: &StreamSubscription, name: &StreamName, context: &Context) -> Result<Standing, Error> {
    if is_leaving(&subscription.metadata) {
        return Ok(Standing::Idle(DELETED, leaving()));
    }
    let own = namespace(&subscription.metadata);
    let reach = Reach::of(&own, &context.shared.config.operator_namespace);
    let problems = validate::stream_subscription(&subscription.spec, reach);
    if let Some(reason) = validate::worst(&problems) {
        let why = "The subscription was changed into one that cannot be used.";
        return Ok(Standing::Idle(why, Verdict::refused(reason, validate::describe(&problems))));
    }
    if subscription.spec.suspend {
        let message = "The subscription is suspended; set spec.suspend to false to let it run.";
        return Ok(Standing::Idle(
            "The subscription was suspended.",
            Verdict::not_ready(reason::SUSPENDED, message, false),
        ));
    }
    let spec = confined(&subscription.spec, reach);
    let uid = subscription.metadata.uid.as_deref().ok_or(Error::Incomplete("uid"))?;
    let ring = context.declared.supervisor().default_ring();
    let job = Job::declared(&spec, ring, name);
    let declared = job.and_then(|job| {
        let plan = HistoryPlan::of(&spec)?;
        context.declared.histories().check(plan)?;
        let observed = context.declared.declare_with_rules(name, uid, job, &spec.rules, &context.alarms)?;
        context.declared.record(name, plan);
        Ok(observed)
    });
    match declared {
        Ok(observed) => {
            if !context.shared.is_there(&subscription.metadata) {
                context.declared.delete(name, DELETED);
            }
            Ok(Standing::AtWork(observed))
        }
        Err(error) if error.category() == Category::Unavailable => Err(Error::Worker(error)),
        Err(error) => {
            let reason = match error {
                JobError::Source(BuildError::NotImplemented(_)) => reason::NOT_IMPLEMENTED,
                JobError::NoDisk | JobError::Source(BuildError::NotAllowed(_)) => reason::NOT_ALLOWED,
                _ => reason::INVALID,
            };
            let why = "The subscription was changed into one that cannot be used.";
            Ok(Standing::Idle(why, Verdict::refused(reason, error.to_string())))
        }
    }
}

const DELETED: &str = "The subscription was deleted.";

/// The spec as it is run: it reaches no pod that its object may not.
fn confined(spec: &StreamSubscriptionSpec, reach: Reach<'_>) -> StreamSubscriptionSpec {
    let mut spec = spec.clone();
    reach.confine(&mut spec.source);
    spec
}

fn verdict(source: &SourceSpec, observed: Observed, missing: &[&str]) -> Verdict {
    if !observed.listed {
        let message = targets::listing(source);
        return Verdict::not_ready(reason::PROGRESSING, message, false).streaming(Claim::new(
            Status::Unknown,
            reason::PROGRESSING,
            message,
        ));
    }
    let mut message = "The stream can be read by its name.".to_owned();
    if !missing.is_empty() {
        let names = missing.join(", ");
        message +=
            &format!(" Rules name AlertReceivers that are not there or not valid: {names}; create or mend them.");
    }
    Verdict::ready(message).streaming(targets::streaming(source, observed.targets))
}

fn stream_name((namespace, name): &Id) -> StreamName {
    StreamName::new(namespace, name)
}

impl Context {
    /// The receivers that rules name and that there are not, each once.
    pub(super) fn missing<'a>(&self, subscription: &'a StreamSubscription) -> Vec<&'a str> {
        let own = namespace(&subscription.metadata);
        let known = |name: &str| self.alarms.receivers().knows(&ReceiverName::new(&own, name));
        let named = subscription.spec.rules.iter().flat_map(|rule| &rule.receivers).map(String::as_str);
        named.filter(|name| !known(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Tells who listens that it stands otherwise with a subscription than its status said.
    fn tell(&self, subscription: &StreamSubscription, name: &StreamName, verdict: &Verdict) {
        let before = subscription.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if !verdict.is_news(before) {
            return;
        }
        let ready = &verdict.ready;
        let uid = subscription.metadata.uid.as_deref().unwrap_or_default();
        let (stalled, reason, message) = (verdict.stalled, ready.reason, ready.message.clone());
        self.declared.tell(name, uid, worker::Standing { ready: ready.status, stalled, reason, message });
    }

    /// A subscription is no more: its readers are cut and told so.
    fn gone(&self, id: &Id) {
        self.declared.delete(&stream_name(id), DELETED);
        self.reported.lock().remove(id);
        self.shared.forget(id);
    }

    /// How long to wait before the targets may be reported again. A new spec is answered at once.
    fn must_wait(&self, subscription: &StreamSubscription) -> Option<Duration> {
        let status = subscription.status.as_ref()?;
        if status.observed_generation != subscription.metadata.generation {
            return None;
        }
        let last = self.reported.lock().get(&id(subscription)).copied()?;
        self.shared.config.status_interval.checked_sub(last.elapsed()).filter(|wait| !wait.is_zero())
    }
}
