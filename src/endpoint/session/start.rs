//! From a start message to a running instance: whose key, what it grants, which stream, from where.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use regex::bytes::{RegexSet, RegexSetBuilder};
use uuid::Uuid;

use super::instance::{Delivers, Granted, Held, Instance, log_delivers, readings_delivers};
use super::message::{Dialect, Request, Start};
use super::metrics;
use crate::access::{Denied, Key, PodPermit, following, parse_scope, service_name};
use crate::api::selection::{LabelSelector, View};
use crate::api::source::SignalObjects;
use crate::api::{
    CompiledSelection, FilterSpec, PodLogsSource, PodSelection, PodSignalsSource, Scope, Service, SourceSpec,
    StreamSubscriptionSpec,
};
use crate::endpoint::counted::Counted;
use crate::endpoint::services::Services;
use crate::record::Origin;
use crate::stream::{Backlog, From as Past, ReadFrom, Reader, Seq, Start as PastStart, StreamName};
use crate::worker::{Job, JobError, Lease, Sight};

/// Why a start is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The key is not good, or does not grant it.
    Denied(Denied),
    /// The request itself cannot be met.
    Request(String),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        Self::Request(error.to_string())
    }
}

impl Refusal {
    /// The sentence for the client, in the words that clients of each dialect know.
    pub fn text(&self, dialect: Dialect) -> String {
        match self {
            Self::Request(text) => text.clone(),
            Self::Denied(Denied::Missing) => "No access key received".into(),
            Self::Denied(Denied::Unknown | Denied::Malformed(_)) if dialect != Dialect::Classic => {
                "Invalid API key".into()
            }
            Self::Denied(denied) => format!("Access denied: {denied}"),
        }
    }

    /// Whether the key itself is at fault, so that the classic dialect closes the socket.
    pub fn is_about_the_key(&self) -> bool {
        matches!(self, Self::Denied(denied) if denied.is_about_the_key())
    }
}

/// An instance that is ready to run, and the containers that are there already.
pub(super) struct Started {
    pub instance: Instance,
    pub there: Vec<Arc<Origin>>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Metrics,
    Signal,
    Alert,
}

impl Kind {
    /// By the request's channel or type; none where that is whatever the subscription carries.
    fn of(request: &Request) -> Result<Option<Self>, Refusal> {
        let what = if request.dialect == Dialect::Classic { "type" } else { "channel" };
        match request.channel.as_str() {
            "log" => Ok(Some(Self::Log)),
            "signal" => Ok(Some(Self::Signal)),
            "alert" if request.dialect != Dialect::Classic => Ok(Some(Self::Alert)),
            "metrics" => Ok(Some(Self::Metrics)),
            "subscription" => Ok(None),
            name @ ("ops" | "trivy" | "fileman" | "magnify" | "echo") => Err(Refusal::Request(format!(
                "The {what} \"{name}\" is not served: Weir reads logs, metrics and signals, it does not operate workloads."
            ))),
            name => {
                let text = format!("Unknown {what} \"{name}\": log, metrics, signal or, as a channel, alert.");
                Err(Refusal::Request(text))
            }
        }
    }

    /// What a declared stream of a service carries.
    fn carried(service: Service) -> Self {
        match service {
            Service::Log | Service::Raw => Self::Log,
            Service::Metrics => Self::Metrics,
            Service::Signal => Self::Signal,
        }
    }
}

/// Starts what a request asks for with the key that it, or the connection, presented.
pub(super) fn start(services: &Services, request: &Request, start: &Start, key: &Arc<Key>) -> Result<Started, Refusal> {
    let asked = Kind::of(request)?;
    let signals = signals_of(start, asked)?;
    let alerts = (asked == Some(Kind::Alert)).then(|| alert_patterns(&start.alerts)).transpose()?;
    let opened = match (&start.subscription, asked) {
        (Some(name), _) => open_declared(services, start, name, asked, key)?,
        (None, Some(Kind::Metrics)) => metrics::open(services, start, key)?,
        (None, Some(kind)) => open_selection(services, start, kind, signals, key)?,
        // Not taken for a selection of everything.
        (None, None) => {
            return Err(Refusal::Request(
                "A subscription is started by its name: \"name\": \"namespace/name\".".into(),
            ));
        }
    };
    let id = Uuid::new_v4().to_string();
    let delivers = match (opened.carries, alerts) {
        (_, Some(patterns)) => Delivers::Alerts(patterns),
        (Service::Log | Service::Raw, None) => log_delivers(request.dialect, start.timestamps, &id),
        (Service::Metrics, None) => readings_delivers(request.dialect, &id, opened.once),
        (Service::Signal, None) => Delivers::Signals,
    };
    let permit = key.usage().open_stream()?;
    let mut reader = Counted::new(opened.reader, &services.metrics);
    reader.deliver_at_most(key.records_of_a_delivery());
    let instance = Instance {
        id,
        reconnect_key: Uuid::new_v4().to_string(),
        dialect: request.dialect,
        channel: request.channel.clone(),
        delivers,
        granted: opened.granted,
        key: Arc::clone(key),
        reader,
        past: opened.past,
        paused: false,
        announced: opened.there.iter().cloned().collect::<HashSet<_>>(),
        held: Held { lease: opened.lease, _permit: permit },
        resume_at: None,
    };
    Ok(Started { instance, there: opened.there })
}

/// What is read, before it becomes an instance.
pub(super) struct Opened {
    pub reader: Reader,
    pub past: Option<Arc<dyn Backlog>>,
    pub granted: Granted,
    pub lease: Option<Lease>,
    pub there: Vec<Arc<Origin>>,
    /// What of it is delivered.
    pub carries: Service,
    /// Whether the first reading is all that is wanted.
    pub once: bool,
}

/// A declared stream by its name, whatever it carries or what of it was `asked` for.
fn open_declared(
    services: &Services,
    start: &Start,
    name: &str,
    asked: Option<Kind>,
    key: &Key,
) -> Result<Opened, Refusal> {
    let Some((namespace, name)) = name.split_once('/') else {
        return Err(Refusal::Request("The name of a subscription is written as \"namespace/name\".".into()));
    };
    let name = StreamName::new(namespace, name);
    let located = services.declared.catalogue().locate(&name);
    let carried = located.as_ref().map(|located| located.service);
    let kind = asked.or(carried.map(Kind::carried)).unwrap_or(Kind::Log);
    let service = match kind {
        Kind::Log | Kind::Alert => carried.filter(|service| *service == Service::Raw).unwrap_or(Service::Log),
        Kind::Metrics => Service::Metrics,
        Kind::Signal => Service::Signal,
    };
    // A subscription says itself what it streams; the least scope that reads is enough.
    let said = (!start.scope.trim().is_empty()).then(|| parse_scope(service, &start.scope)).transpose()?;
    let once = kind == Kind::Metrics && metrics::once(&start.metrics, said.unwrap_or(Scope::Stream))?;
    let least = if once { Scope::Snapshot } else { following(service) };
    let scope = said.unwrap_or(least);
    let may = |service, scope| services.authoriser.authorise_stream(key, service, scope, &name.namespace, &name.name);
    let granted = match (may(service, scope), carried) {
        (Ok(()), _) => Granted::Stream { service, scope, name: name.clone() },
        // Whoever may read a stream may read its signals.
        (Err(denied), Some(carried)) if kind == Kind::Signal => {
            may(carried, following(carried)).map_err(|_| denied)?;
            Granted::Stream { service: carried, scope: following(carried), name: name.clone() }
        }
        (Err(denied), _) => return Err(denied.into()),
    };
    let Some(located) = located else {
        let text = format!(
            "The subscription {name} does not stream now: it does not exist, is suspended or not valid. See `kubectl describe sub`."
        );
        return Err(Refusal::Request(text));
    };
    if kind != Kind::Signal && service != located.service {
        let carried = service_name(located.service);
        let text =
            format!("The subscription {name} carries {carried}, nothing else: ask for that, or by its name alone.");
        return Err(Refusal::Request(text));
    }
    let reader = match &start.last_event {
        Some(event) => located.resume(resume_point(event)?),
        None if service == Service::Metrics && !past_of(start).wants_past() => located.resume(ReadFrom::NewestReading),
        None => located.read(past_of(start)),
    };
    Ok(Opened { reader, past: located.backlog, granted, lease: None, there: Vec::new(), carries: service, once })
}

/// What of the podSignals of a selection is asked for, where signals are: by their own channel, or as the Kubernetes
/// Events of what the channel of logs shows.
fn signals_of(start: &Start, asked: Option<Kind>) -> Result<Option<Vec<SignalObjects>>, Refusal> {
    let refused = |text: &str| Err(Refusal::Request(text.into()));
    match (start.objects.as_str(), asked) {
        ("events", _) if start.subscription.is_some() => refused("A subscription says itself whether it tells events."),
        ("events", Some(Kind::Log | Kind::Signal)) => Ok(Some(vec![SignalObjects::Events])),
        ("events", _) => refused("Kubernetes Events (objects \"events\") are told by log and signal."),
        ("pods", Some(Kind::Signal)) => Ok(Some(vec![SignalObjects::Pods])),
        ("", Some(Kind::Signal)) => Ok(Some(Vec::new())),
        ("" | "pods", _) => Ok(None),
        _ => refused("The objects are not known: pods or events."),
    }
}

fn open_selection(
    services: &Services,
    start: &Start,
    kind: Kind,
    signals: Option<Vec<SignalObjects>>,
    key: &Key,
) -> Result<Opened, Refusal> {
    let (selection, compiled) = selection_of(start)?;
    let service = if kind == Kind::Signal { Service::Signal } else { Service::Log };
    let scope = parse_scope(service, &start.scope)?;
    let permit = services.authoriser.authorise_pods(key, service, scope, &compiled)?;
    let carries = if signals.is_some() { Service::Signal } else { service };
    let (source, filter) = match signals {
        Some(objects) => {
            let source = PodSignalsSource { selection, objects, ..start.signals.clone() };
            (SourceSpec::pod_signals(source), FilterSpec::default())
        }
        None => {
            let filter = FilterSpec { include: start.include.clone(), exclude: start.exclude.clone() };
            (SourceSpec::pod_logs(PodLogsSource { selection, ..PodLogsSource::default() }), filter)
        }
    };
    let spec = StreamSubscriptionSpec {
        source,
        filter: (!filter.is_empty()).then_some(filter),
        ..StreamSubscriptionSpec::default()
    };
    let lease = lease(services, &spec, &permit)?;
    let from = if kind == Kind::Log { past_of(start) } else { Past::default() };
    // The reader comes before the roster: a container that joins in between is in both, and told once.
    let stream = Arc::clone(lease.stream());
    let past = lease.backlog();
    let reader = match &past {
        Some(past) => Reader::open_with_past(stream, past.as_ref(), from),
        None => Reader::open(stream, ReadFrom::Now),
    };
    let there = lease.roster();
    let granted = Granted::Pods { service, scope, selection: compiled, permit };
    Ok(Opened { reader, past, granted, lease: Some(lease), there, carries, once: false })
}

/// A hold on the worker of a spec, which sees what is permitted.
pub(super) fn lease(services: &Services, spec: &StreamSubscriptionSpec, permit: &PodPermit) -> Result<Lease, Refusal> {
    let supervisor = services.declared.supervisor();
    let job = Job::new(spec, supervisor.default_ring(), Sight::Permitted(permit.clone()))?;
    Ok(supervisor.ensure(job)?)
}

/// The pods and containers that are asked for.
pub(super) fn selection_of(start: &Start) -> Result<(PodSelection, CompiledSelection), Refusal> {
    let view = match start.view.trim() {
        "" | "none" => View::Pod,
        text => View::parse(text).ok_or_else(|| {
            Refusal::Request("The view is not known: cluster, namespace, group, pod or container.".into())
        })?,
    };
    let selection = PodSelection {
        view,
        namespaces: start.namespaces.clone(),
        groups: start.groups.clone(),
        pods: start.pods.clone(),
        containers: start.containers.clone(),
        label_selector: labels_of(&start.labels)?,
        init_containers: start.init_containers,
        ephemeral_containers: start.ephemeral_containers,
    };
    match selection.compile() {
        Ok(compiled) => Ok((selection, compiled)),
        Err(error) => Err(Refusal::Request(format!("The selection is not valid: {error}"))),
    }
}

/// `a=b,c==d`: the equality part of Kubernetes' selector syntax.
fn labels_of(text: &str) -> Result<Option<LabelSelector>, Refusal> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let pair = |item: &str| {
        let (key, value) = item.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!key.trim().is_empty() && !key.ends_with('!')).then(|| (key.trim().to_owned(), value.trim().to_owned()))
    };
    let labels: Option<BTreeMap<_, _>> = text.split(',').map(pair).collect();
    let wrong = || Refusal::Request("The label selector is not understood: write it as a=b,c=d.".into());
    let match_labels = labels.ok_or_else(wrong)?;
    Ok(Some(LabelSelector { match_labels, ..LabelSelector::default() }))
}

fn past_of(start: &Start) -> Past {
    let begin = match start {
        Start { from_start: true, .. } => PastStart::Beginning,
        Start { start_time: Some(time), .. } => PastStart::At(*time),
        Start { max_messages: Some(1..), .. } => PastStart::Beginning,
        _ => PastStart::Now,
    };
    // The API server counts lines in 63 bits, and refuses more.
    let lines = start.max_messages.map(|lines| lines.min(i64::MAX as u64));
    Past { start: begin, lines, previous: start.previous }
}

/// `epoch-seq`, as event ids of SSE are written: reading goes on after it.
fn resume_point(event: &str) -> Result<ReadFrom, Refusal> {
    let parsed = event.split_once('-').and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse::<u64>().ok()?)));
    let wrong = || Refusal::Request("The field \"lastEventId\" is written as EPOCH-SEQUENCE.".into());
    let (epoch, seq) = parsed.ok_or_else(wrong)?;
    Ok(ReadFrom::Seq { epoch, seq: Seq(seq.saturating_add(1)) })
}

fn alert_patterns(patterns: &[Vec<String>; 3]) -> Result<[Option<RegexSet>; 3], Refusal> {
    /// Patterns come from outside: how large they may become, in bytes.
    const COMPILED_BYTES: usize = 1024 * 1024;
    if patterns.iter().all(Vec::is_empty) {
        return Err(Refusal::Request("An alert needs patterns: regexInfo, regexWarning or regexError.".into()));
    }
    let compile = |patterns: &Vec<String>| {
        if patterns.is_empty() {
            return Ok(None);
        }
        RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES).build().map(Some)
    };
    let [info, warning, error] = patterns;
    let wrong = |error: regex::Error| Refusal::Request(format!("A pattern of the alert is not valid: {error}"));
    Ok([compile(info).map_err(wrong)?, compile(warning).map_err(wrong)?, compile(error).map_err(wrong)?])
}
