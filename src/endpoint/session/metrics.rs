//! Numbers of a selection: what a client asks for, and changing it while it runs.

use std::sync::Arc;

use super::instance::{Delivers, Granted, Instance};
use super::message::{MetricsOptions, Start};
use super::start::{Opened, Refusal, lease, selection_of};
use crate::access::{Key, parse_scope};
use crate::api::condition::reason;
use crate::api::source::MetricsMode;
use crate::api::validate::{self, Reach};
use crate::api::{DurationText, PodMetricsSource, Scope, Service, SourceSpec, StreamSubscriptionSpec};
use crate::endpoint::services::Services;
use crate::stream::{ReadFrom, Reader};

/// Opens the numbers of a selection.
pub(super) fn open(services: &Services, start: &Start, key: &Key) -> Result<Opened, Refusal> {
    let (selection, compiled) = selection_of(start)?;
    let scope = parse_scope(Service::Metrics, &start.scope)?;
    let once = once(&start.metrics, scope)?;
    let permit = services.authoriser.authorise_pods(key, Service::Metrics, scope, &compiled)?;
    let mode = if once { MetricsMode::Snapshot } else { MetricsMode::Stream };
    let source = PodMetricsSource { selection, mode, ..PodMetricsSource::default() };
    let source = changed(services, source, &start.metrics)?;
    let spec = StreamSubscriptionSpec { source, ..StreamSubscriptionSpec::default() };
    let lease = lease(services, &spec, &permit)?;
    // The reader comes before the roster: a container that joins in between is in both, and told once.
    let reader = Reader::open(Arc::clone(lease.stream()), ReadFrom::NewestReading);
    let (past, there) = (lease.backlog(), lease.roster());
    let granted = Granted::Pods { service: Service::Metrics, scope, selection: compiled, permit };
    Ok(Opened { reader, past, granted, lease: Some(lease), there, carries: Service::Metrics, once })
}

/// Whether one reading is all that is wanted, which is also all that the scope `snapshot` allows.
pub(super) fn once(options: &MetricsOptions, scope: Scope) -> Result<bool, Refusal> {
    let wrong = |text: &str| Err(Refusal::Request(text.into()));
    match options.mode.as_deref() {
        None => Ok(scope == Scope::Snapshot),
        Some("snapshot") => Ok(true),
        Some("stream") if scope != Scope::Snapshot => Ok(false),
        Some("stream") => wrong("The scope snapshot reads numbers once: ask with the scope stream, or for a snapshot."),
        Some(_) => wrong("The mode is not known: snapshot or stream."),
    }
}

/// Changes names, interval and aggregation of a running instance, which then begins with a reading of its own. What
/// it did before goes on where the change is refused.
pub(super) fn modify(services: &Services, instance: &mut Instance, options: &MetricsOptions) -> Result<(), Refusal> {
    let Delivers::Readings { once, .. } = instance.delivers else {
        let text = "What this instance reads cannot be modified: stop it and start another.";
        return Err(Refusal::Request(text.into()));
    };
    let running = instance.held.lease.as_ref().map(|lease| (lease, lease.job().spec().pod_metrics.clone()));
    let Some((old, Some(source))) = running else {
        let text = "A declared stream cannot be modified here: change its subscription, or start a selection.";
        return Err(Refusal::Request(text.into()));
    };
    let mode = if once { "snapshot" } else { "stream" };
    if options.mode.as_deref().is_some_and(|said| said != mode) {
        let text = "The mode of an instance cannot be modified: stop this one and start another.";
        return Err(Refusal::Request(text.into()));
    }
    let job = old.job().with_spec(changed(services, source, options)?);
    let lease = services.declared.supervisor().ensure(job)?;
    // Its containers are known to the client, which is not told of them again.
    instance.announced.extend(old.roster());
    let reader = Reader::open(Arc::clone(lease.stream()), ReadFrom::NewestReading);
    instance.reader.replace(reader);
    instance.reader.deliver_at_most(instance.key.records_of_a_delivery());
    instance.past = lease.backlog();
    instance.held.lease = Some(lease);
    Ok(())
}

/// The source with what the options say in place of what it says, checked as a manifest is.
fn changed(services: &Services, mut source: PodMetricsSource, options: &MetricsOptions) -> Result<SourceSpec, Refusal> {
    if let Some(names) = &options.metrics {
        source.metrics.clone_from(names);
    }
    let unknown = some_is_known(services, &source.metrics);
    source.aggregate = options.aggregate.unwrap_or(source.aggregate);
    if let Some(seconds) = options.interval {
        source.interval = DurationText(format!("{seconds}s"));
    }
    const FIELDS: &str = "spec.source.podMetrics.";
    let spec = StreamSubscriptionSpec { source: SourceSpec::pod_metrics(source), ..StreamSubscriptionSpec::default() };
    let problems = validate::stream_subscription(&spec, Reach::Everything).into_iter();
    let mut invalid = problems.filter(|problem| problem.reason == reason::INVALID).filter_map(|problem| {
        let field = problem.field.strip_prefix(FIELDS).filter(|field| !field.starts_with("selection"))?;
        Some(format!("The field \"{field}\" {}.", problem.message))
    });
    match invalid.next() {
        Some(text) => Err(Refusal::Request(text)),
        None => unknown.map(|()| spec.source),
    }
}

/// Refuses names none of which a node has ever given. Where one has, the source itself tells of the others: they may
/// come yet, from another node.
fn some_is_known(services: &Services, names: &[String]) -> Result<(), Refusal> {
    /// How many names are spelled out.
    const SHOWN: usize = 10;
    let hub = services.declared.supervisor().sources().metrics.as_ref();
    let unknown = hub.and_then(|hub| hub.unknown(names)).unwrap_or_default();
    if unknown.is_empty() || unknown.len() < names.len() {
        return Ok(());
    }
    let shown = unknown[..unknown.len().min(SHOWN)].join(", ");
    Err(Refusal::Request(format!("No node gives {shown}: GET /metrics/list names what there is.")))
}
