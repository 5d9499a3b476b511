//! What files ask for, kept at work: what is new is started, what is gone is ended, and what did not change is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::desired::{PlannedReceiver, PlannedStream};
use super::place::Finding;
use crate::api::StreamSubscriptionSpec;
use crate::api::condition::{Reason, Status, reason};
use crate::record::Time;
use crate::rule::ReceiverName;
use crate::source::BuildError;
use crate::stream::StreamName;
use crate::telemetry::Category;
use crate::worker::{Alarms, Command, Declared, HistoryPlan, Job, JobError, ObjectView, Order, OwnerError, Standing};

/// How long a change may take to have its effect.
const PATIENCE: Duration = Duration::from_secs(20);
const GONE: &str = "The subscription was taken out of its file.";
const SUSPENDED: &str = "The subscription is suspended.";
const UNUSABLE: &str = "The subscription was changed into one that cannot be used.";

/// Keeps subscriptions and receivers at work.
pub struct Keeper {
    declared: Arc<Declared>,
    alarms: Arc<Alarms>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<StreamName, PlannedStream>,
    receivers: Vec<PlannedReceiver>,
    /// What clients made of specs, by their commands; until the process ends.
    commanded: BTreeMap<StreamName, Commanded>,
    standing: BTreeMap<StreamName, (Status, Reason, String)>,
    /// What files say of themselves.
    files: BTreeMap<String, (Status, Reason, String)>,
}

/// What commands made of a spec, beside what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commanded {
    suspend: bool,
    stopped_nodes: Vec<String>,
    restarted_at: Option<String>,
}

impl Commanded {
    /// The spec as it is with what the commands made of it.
    fn over(&self, spec: &StreamSubscriptionSpec) -> StreamSubscriptionSpec {
        StreamSubscriptionSpec {
            suspend: self.suspend,
            stopped_nodes: self.stopped_nodes.clone(),
            restarted_at: self.restarted_at.clone(),
            ..spec.clone()
        }
    }
}

impl Keeper {
    /// Keeps nothing yet.
    pub fn new(declared: Arc<Declared>, alarms: Arc<Alarms>) -> Arc<Self> {
        Arc::new(Self { declared, alarms, state: Mutex::default() })
    }

    /// By which name alerts know this Weir from now on.
    pub fn known_as(&self, identity: &str) {
        self.alarms.known_as(identity);
    }

    /// These receivers are there from now on, and no others.
    fn replace_receivers(&self, old: &[PlannedReceiver], new: &[PlannedReceiver]) {
        let (name, receivers) =
            (|one: &PlannedReceiver| ReceiverName::new(&one.namespace, &one.name), self.alarms.receivers());
        let kept: BTreeSet<_> = new.iter().map(|one| (&one.namespace, &one.name)).collect();
        let gone = old.iter().filter(|one| !kept.contains(&(&one.namespace, &one.name)));
        gone.for_each(|one| receivers.remove(&name(one)));
        new.iter().for_each(|one| receivers.set(name(one), one.spec.clone()));
    }

    /// Makes it so.
    pub fn apply(&self, streams: Vec<PlannedStream>, receivers: Vec<PlannedReceiver>) {
        let mut state = self.state.lock();
        if state.receivers != receivers {
            self.replace_receivers(&state.receivers, &receivers);
            state.receivers = receivers;
        }
        let wanted: BTreeMap<_, _> = streams.into_iter().map(|stream| (stream.name.clone(), stream)).collect();
        let gone: Vec<_> = state.streams.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
        for name in gone {
            self.declared.delete(&name, GONE);
            state.streams.remove(&name);
            state.standing.remove(&name);
            state.commanded.remove(&name);
            tracing::info!(stream = %name, "A subscription is in its file no more and ends");
        }
        for (name, stream) in wanted {
            let same = state.streams.get(&name).is_some_and(|old| old.spec == stream.spec && old.uid == stream.uid);
            if !same || self.declared.observe(&name).is_none() {
                let standing = self.make_true(&stream, state.commanded.get(&name));
                // What cannot start is tried again with every look, and told once.
                if state.standing.get(&name) != Some(&standing) {
                    tracing::info!(stream = %name, reason = %standing.1, "A subscription is taken up: {}", standing.2);
                }
                self.stands(&mut state, &stream, standing);
            }
            state.streams.insert(name, stream);
        }
    }

    /// What is the case with a file, for the status.
    pub fn note(&self, file: &str, findings: &[Finding], in_use: bool) {
        let mut state = self.state.lock();
        let told = |findings: &[Finding]| {
            let spelled: Vec<_> = findings.iter().take(10).map(ToString::to_string).collect();
            let more = findings.len().saturating_sub(spelled.len());
            spelled.join("; ") + &if more > 0 { format!("; and {more} more") } else { String::new() }
        };
        let entry = match (in_use, findings.is_empty()) {
            (true, true) => (Status::True, reason::READY, "The file is in use as it is.".to_owned()),
            (true, false) => (Status::True, reason::READY, told(findings)),
            (false, _) => {
                let text = format!("The file is refused, and what it said before stays in use: {}", told(findings));
                (Status::False, reason::INVALID, text)
            }
        };
        state.files.insert(file.to_owned(), entry);
    }

    /// A file is no more.
    pub fn forget_file(&self, file: &str) {
        self.state.lock().files.remove(file);
    }

    /// Switches a subscription off, or on again, until the process ends; the file is not touched. Whether there is one.
    pub fn suspend(&self, name: &StreamName, suspend: bool) -> bool {
        let changed = self.change(name, None, |spec| {
            spec.suspend = suspend;
            Ok(())
        });
        changed.is_ok()
    }

    /// Carries out a command, until the process ends; the file is not touched.
    ///
    /// # Errors
    /// Where there is no such subscription, or what it became does not work.
    pub fn command(&self, order: &Order) -> Result<(), OwnerError> {
        let (ready, _, text) = self.change(&order.stream, Some(&order.uid), |spec| {
            let applied = order.command.apply(spec, Time::now());
            applied.map(drop).map_err(|error| OwnerError::Invalid(error.to_string()))
        })?;
        // One that was destroyed is not meant to be ready, nor is one whose only node was stopped.
        let stopping = matches!(order.command, Command::Destroy | Command::Stop(_));
        if ready == Status::True || (stopping && text == SUSPENDED) { Ok(()) } else { Err(OwnerError::Invalid(text)) }
    }

    /// Waits until it is known what a subscription follows, as it is now; there is nothing to wait for where it is not at work.
    ///
    /// # Errors
    /// Where that takes too long.
    pub async fn effect(&self, name: &StreamName) -> Result<(), OwnerError> {
        let Some(mut listed) = self.declared.listed(name) else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, listed.wait_for(|listed| *listed)).await {
            // One that was changed again meanwhile, or ended, waits for nothing more.
            Ok(_) => Ok(()),
            Err(_) => Err(OwnerError::Unavailable(format!(
                "the StreamSubscription {name} was changed, and that had no effect within {PATIENCE:?}; look at its signals"
            ))),
        }
    }

    /// Changes a subscription that files declare, and puts it to work as it then is; how it stands.
    fn change(
        &self,
        name: &StreamName,
        uid: Option<&str>,
        change: impl FnOnce(&mut StreamSubscriptionSpec) -> Result<(), OwnerError>,
    ) -> Result<(Status, Reason, String), OwnerError> {
        let mut state = self.state.lock();
        let stream = state.streams.get(name).filter(|stream| uid.is_none_or(|uid| stream.uid == uid)).cloned();
        let stream = stream.ok_or_else(|| OwnerError::NotFound(format!("the StreamSubscription {name}")))?;
        let commanded = state.commanded.get(name);
        let mut spec = commanded.map_or_else(|| (*stream.spec).clone(), |commanded| commanded.over(&stream.spec));
        change(&mut spec)?;
        let StreamSubscriptionSpec { suspend, stopped_nodes, restarted_at, .. } = spec;
        let commanded = Commanded { suspend, stopped_nodes, restarted_at };
        let standing = self.make_true(&stream, Some(&commanded));
        state.commanded.insert(name.clone(), commanded);
        self.stands(&mut state, &stream, standing.clone());
        Ok(standing)
    }

    /// Takes note of how it stands with a subscription, and tells who listens where that is new.
    fn stands(&self, state: &mut State, stream: &PlannedStream, standing: (Status, Reason, String)) {
        let before = state.standing.insert(stream.name.clone(), standing.clone());
        if before.is_some_and(|before| before == standing) {
            return;
        }
        let (ready, reason, message) = standing;
        let stalled = ready == Status::False && ![reason::SUSPENDED, reason::PROGRESSING].contains(&reason);
        self.declared.tell(&stream.name, &stream.uid, Standing { ready, stalled, reason, message });
    }

    /// All objects and files, and what is the case with each.
    pub fn objects(&self) -> Vec<ObjectView> {
        let state = self.state.lock();
        let view =
            |kind, namespace: &str, name: &str, (ready, reason, message): &(Status, Reason, String)| ObjectView {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ready: *ready,
                reason: *reason,
                message: message.clone(),
            };
        let files = state.files.iter().map(|(file, standing)| view("File", "", file, standing));
        let streams = state.standing.iter().map(|(name, standing)| {
            let mut object = view("StreamSubscription", &name.namespace, &name.name, standing);
            if let Some(observed) = self.declared.observe(name) {
                object.message = format!("{} {}", object.message, followed(observed.targets));
            }
            object
        });
        let accepted = (Status::True, reason::ACCEPTED, "Rules may name it.".to_owned());
        let receivers = state.receivers.iter();
        let receivers = receivers.map(|one| view("AlertReceiver", &one.namespace, &one.name, &accepted));
        files.chain(streams).chain(receivers).collect()
    }

    /// Starts, changes or ends a stream, with what commands made of its spec.
    fn make_true(&self, stream: &PlannedStream, commanded: Option<&Commanded>) -> (Status, Reason, String) {
        let spec = commanded.map_or_else(|| (*stream.spec).clone(), |commanded| commanded.over(&stream.spec));
        self.declared.note(&stream.name, &stream.uid, &spec);
        if spec.suspend {
            self.declared.withdraw(&stream.name, SUSPENDED);
            return (Status::False, reason::SUSPENDED, SUSPENDED.to_owned());
        }
        match self.start(stream, &spec) {
            Ok(()) => (Status::True, reason::READY, "The stream can be read by its name.".to_owned()),
            Err(error) => {
                self.declared.withdraw(&stream.name, UNUSABLE);
                let reason = match &error {
                    JobError::Source(BuildError::NotImplemented(_)) => reason::NOT_IMPLEMENTED,
                    JobError::NoDisk | JobError::Source(BuildError::NotAllowed(_)) => reason::NOT_ALLOWED,
                    error if error.category() == Category::Unavailable => reason::PROGRESSING,
                    _ => reason::INVALID,
                };
                (Status::False, reason, error.to_string())
            }
        }
    }

    fn start(&self, stream: &PlannedStream, spec: &StreamSubscriptionSpec) -> Result<(), JobError> {
        let job = Job::declared(spec, self.declared.supervisor().default_ring(), &stream.name)?;
        let plan = HistoryPlan::of(spec)?;
        self.declared.histories().check(plan)?;
        self.declared.declare_with_rules(&stream.name, &stream.uid, job, &spec.rules, &self.alarms)?;
        self.declared.record(&stream.name, plan);
        Ok(())
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("streams", &self.state.lock().streams.len()).finish_non_exhaustive()
    }
}

fn followed(targets: usize) -> String {
    match targets {
        0 => "Nothing is followed now.".to_owned(),
        1 => "One target is followed.".to_owned(),
        targets => format!("{targets} targets are followed."),
    }
}
