//! What files ask for, kept at work: what is new is started, what is gone is ended, and what did not change is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::desired::{PlannedReceiver, PlannedStream};
use super::place::Finding;
use crate::api::condition::{Reason, Status, reason};
use crate::rule::ReceiverName;
use crate::source::BuildError;
use crate::stream::StreamName;
use crate::telemetry::Category;
use crate::worker::{Alarms, Declared, HistoryPlan, Job, JobError, ObjectView};

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
    /// Switched off by a client; until the process ends.
    suspended: BTreeSet<StreamName>,
    standing: BTreeMap<StreamName, (Status, Reason, String)>,
    /// What files say of themselves.
    files: BTreeMap<String, (Status, Reason, String)>,
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
            tracing::info!(stream = %name, "A subscription is in its file no more and ends");
        }
        for (name, stream) in wanted {
            let same = state.streams.get(&name).is_some_and(|old| old.spec == stream.spec && old.uid == stream.uid);
            if !same || self.declared.observe(&name).is_none() {
                let off = state.suspended.contains(&name);
                let standing = self.make_true(&stream, off);
                // What cannot start is tried again with every look, and told once.
                if state.standing.get(&name) != Some(&standing) {
                    tracing::info!(stream = %name, reason = %standing.1, "A subscription is taken up: {}", standing.2);
                }
                state.standing.insert(name.clone(), standing);
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
        let mut state = self.state.lock();
        let Some(stream) = state.streams.get(name).cloned() else { return false };
        match suspend {
            true => state.suspended.insert(name.clone()),
            false => state.suspended.remove(name),
        };
        let standing = self.make_true(&stream, suspend);
        state.standing.insert(name.clone(), standing);
        true
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

    /// Starts, changes or ends a stream.
    fn make_true(&self, stream: &PlannedStream, off: bool) -> (Status, Reason, String) {
        if off || stream.spec.suspend {
            self.declared.withdraw(&stream.name, SUSPENDED);
            return (Status::False, reason::SUSPENDED, SUSPENDED.to_owned());
        }
        match self.start(stream) {
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

    fn start(&self, stream: &PlannedStream) -> Result<(), JobError> {
        let job = Job::declared(&stream.spec, self.declared.supervisor().default_ring(), &stream.name)?;
        let plan = HistoryPlan::of(&stream.spec)?;
        self.declared.histories().check(plan)?;
        self.declared.declare_with_rules(&stream.name, &stream.uid, job, &stream.spec.rules, &self.alarms)?;
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
