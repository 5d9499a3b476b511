//! Declared subscriptions: what `kubectl apply` or a manifest folder asks for, kept at work under its name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alarms::{Alarms, Watched};
use super::histories::{Histories, HistoryConfig, HistoryPlan};
use super::job::{Job, JobError};
use super::known::{Known, Register};
use super::news::{Happened, News, Newsroom, Standing};
use super::supervisor::{Lease, Supervisor};
use crate::api::{RuleSpec, Service, StreamSubscriptionSpec};
use crate::record::{Origin, Time};
use crate::rule::Watch;
use crate::stream::{Catalogue, Gate, LiveStream, Located, StreamName, TapGuard};

/// What is the case with a declared stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// How many containers are followed.
    pub targets: usize,
    /// Whether that is known yet.
    pub listed: bool,
    /// How many readers there are.
    pub readers: usize,
}

/// A declared stream as it is listed.
#[derive(Clone, Debug)]
pub struct DeclaredStream {
    /// Its name.
    pub name: StreamName,
    /// The object's UID.
    pub uid: String,
    /// The service that a key must be granted to read it.
    pub service: Service,
    /// What is the case.
    pub observed: Observed,
}

struct Entry {
    uid: String,
    lease: Lease,
    gate: Gate,
    watcher: CancellationToken,
    /// Its rules, where it has any.
    watched: Option<Watched>,
    /// Tells its signals to who listens to news.
    _told: Option<TapGuard>,
}

/// All declared subscriptions that are at work.
pub struct Declared {
    supervisor: Arc<Supervisor>,
    catalogue: Arc<Catalogue>,
    histories: Arc<Histories>,
    entries: Mutex<HashMap<StreamName, Entry>>,
    changes: broadcast::Sender<StreamName>,
    register: Register,
    newsroom: Arc<Newsroom>,
    tracker: TaskTracker,
}

impl Declared {
    /// Keeps declared streams at work with `supervisor` and known in `catalogue`, with histories that cost what is usual.
    pub fn new(supervisor: Arc<Supervisor>, catalogue: Arc<Catalogue>, tracker: TaskTracker) -> Arc<Self> {
        let (metrics, cancel) = (Arc::clone(supervisor.metrics()), supervisor.child_token());
        let histories = Histories::new(HistoryConfig::default(), metrics, tracker.clone(), cancel);
        Self::with_histories(supervisor, catalogue, histories, tracker)
    }

    /// Keeps declared streams at work with `supervisor` and known in `catalogue`, and what their numbers were in
    /// `histories`.
    pub fn with_histories(
        supervisor: Arc<Supervisor>,
        catalogue: Arc<Catalogue>,
        histories: Arc<Histories>,
        tracker: TaskTracker,
    ) -> Arc<Self> {
        let changes = broadcast::channel(1024).0;
        let (entries, register, newsroom) = (Mutex::default(), Register::default(), Arc::new(Newsroom::new()));
        Arc::new(Self { supervisor, catalogue, histories, entries, changes, register, newsroom, tracker })
    }

    /// The supervisor behind it.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// Where streams are found by name.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// What the numbers of streams were, and Weir's own.
    pub fn histories(&self) -> &Arc<Histories> {
        &self.histories
    }

    /// The names of streams whose [`Observed`] changed. One that lags must look at all.
    pub fn changes(&self) -> broadcast::Receiver<StreamName> {
        self.changes.subscribe()
    }

    /// What happens to all of them from now on. Who lags misses some.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.newsroom.listen()
    }

    /// Takes note of a subscription that is declared, whether or not it can be put to work.
    pub fn note(&self, name: &StreamName, uid: &str, spec: &StreamSubscriptionSpec) {
        self.register.note(name, uid, spec);
    }

    /// The subscription with this UID, whether or not it is at work.
    pub fn known(&self, uid: &str) -> Option<Known> {
        self.register.by_uid(uid)
    }

    /// Tells who listens that it stands otherwise with a subscription than before.
    pub fn tell(&self, name: &StreamName, uid: &str, standing: Standing) {
        let service = self.register.by_name(name).and_then(|known| known.service());
        let what = Happened::Condition { id: uuid::Uuid::new_v4(), time: Time::now(), standing };
        self.newsroom.tell(News { stream: name.clone(), uid: uid.into(), service, what });
        self.changed(name, uid, service);
    }

    fn changed(&self, name: &StreamName, uid: &str, service: Option<Service>) {
        self.newsroom.tell(News { stream: name.clone(), uid: uid.into(), service, what: Happened::Changed });
    }

    /// The containers, or their likeness, that a subscription at work follows now.
    pub fn roster(&self, name: &StreamName) -> Vec<Arc<Origin>> {
        self.entries.lock().get(name).map(|entry| entry.lease.roster()).unwrap_or_default()
    }

    /// Makes a subscription so: starts it, leaves it as it is where nothing changed, or replaces it, telling its
    /// readers.
    ///
    /// # Errors
    /// Where the job cannot start; then what was there before goes on.
    pub fn declare(&self, name: &StreamName, uid: &str, job: Job) -> Result<Observed, JobError> {
        self.bring_about(name, uid, job, &[], None)
    }

    /// The same for a subscription with rules: they see every record of the stream, from its first on. Where only the rules
    /// changed, readers notice nothing; where they did not change, their windows and cooldowns go on.
    ///
    /// # Errors
    /// As [`declare`](Self::declare), and where a rule cannot be used.
    pub fn declare_with_rules(
        &self,
        name: &StreamName,
        uid: &str,
        job: Job,
        rules: &[RuleSpec],
        alarms: &Alarms,
    ) -> Result<Observed, JobError> {
        if rules.is_empty() {
            return self.declare(name, uid, job);
        }
        let same = |entry: &Entry| entry.watched.as_ref().filter(|_| entry.uid == uid)?.watch_of(rules);
        let before = self.entries.lock().get(name).and_then(same);
        // Not under the lock: patterns may take a while to compile.
        let watch = before.map_or_else(|| alarms.watch(name, job.service(), rules), Ok)?;
        self.bring_about(name, uid, job, rules, Some(watch))
    }

    fn bring_about(
        &self,
        name: &StreamName,
        uid: &str,
        job: Job,
        rules: &[RuleSpec],
        watch: Option<Arc<Watch>>,
    ) -> Result<Observed, JobError> {
        let watched = |stream: &LiveStream| watch.map(|watch| Watched::new(rules.to_vec(), watch, stream));
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(name).filter(|entry| entry.uid == uid && *entry.lease.job() == job) {
            entry.lease.update(&job);
            let as_before = |watched: &Watched| watched.watch_of(rules).is_some();
            if entry.watched.as_ref().map_or(rules.is_empty(), as_before) {
                return Ok(entry.observed());
            }
            // The new rules look before the old ones go: a record may be seen by both, but none is missed.
            entry.watched = watched(entry.lease.stream());
            return Ok(entry.observed());
        }
        let (mut tapped, mut told, service) = (None, None, job.service());
        let lease = self.supervisor.ensure_with(job, |stream| {
            tapped = watched(stream);
            told = Some(self.newsroom.tap(name.clone(), uid, service, stream));
        })?;
        let (gate, watcher) = (Gate::open(), self.supervisor.child_token());
        let entry = Entry { uid: uid.to_owned(), lease, gate, watcher, watched: tapped, _told: told };
        let located = Located {
            gate: entry.gate.clone(),
            service: entry.lease.job().service(),
            stream: Arc::clone(entry.lease.stream()),
            backlog: entry.lease.backlog(),
        };
        self.catalogue.insert(name.clone(), located);
        self.watch(name, &entry);
        let observed = entry.observed();
        if let Some(old) = entries.insert(name.clone(), entry) {
            old.close("The subscription was changed; connect again to read it as it is now.");
        }
        drop(entries);
        self.changed(name, uid, Some(service));
        Ok(observed)
    }

    /// Keeps history of a subscription that is at work, as `plan` says. Without a plan what there was is forgotten.
    pub fn record(&self, name: &StreamName, plan: Option<HistoryPlan>) {
        let entries = self.entries.lock();
        match (entries.get(name), plan) {
            (Some(entry), Some(plan)) if plan.is_of_records() => {
                let (stream, past) = (entry.lease.stream(), entry.lease.backlog());
                let archive = self.histories.archive(name, &entry.uid, stream, past, plan);
                if let Some(archive) = archive {
                    let (gate, service, stream) = (entry.gate.clone(), entry.lease.job().service(), Arc::clone(stream));
                    self.catalogue.insert(name.clone(), Located { gate, service, stream, backlog: Some(archive) });
                }
            }
            (Some(entry), Some(plan)) => self.histories.record(name, &entry.uid, entry.lease.stream(), plan),
            (Some(_), None) => self.histories.forget(name),
            (None, _) => {}
        }
    }

    /// Ends a subscription that is no more, telling its readers why, and forgets its history.
    pub fn delete(&self, name: &StreamName, why: &str) {
        self.withdraw(name, why);
        self.histories.forget(name);
        if let Some(known) = self.register.forget(name) {
            self.changed(name, &known.uid, known.service());
        }
    }

    /// Ends a subscription, telling its readers why. Nothing happens where there is none. Its history stays.
    pub fn withdraw(&self, name: &StreamName, why: &str) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.remove(name) {
            self.catalogue.remove(name);
            self.histories.pause(name);
            entry.close(why);
            self.changed(name, &entry.uid, Some(entry.lease.job().service()));
        }
    }

    /// What is the case with a subscription that is at work.
    pub fn observe(&self, name: &StreamName) -> Option<Observed> {
        self.entries.lock().get(name).map(Entry::observed)
    }

    /// Whether it is known what a subscription at work follows, and every change of that.
    pub fn listed(&self, name: &StreamName) -> Option<watch::Receiver<bool>> {
        self.entries.lock().get(name).map(|entry| entry.lease.listed())
    }

    /// All that are at work, by name.
    pub fn list(&self) -> Vec<DeclaredStream> {
        let entries = self.entries.lock();
        let declared = |(name, entry): (&StreamName, &Entry)| DeclaredStream {
            name: name.clone(),
            uid: entry.uid.clone(),
            service: entry.lease.job().service(),
            observed: entry.observed(),
        };
        let mut list: Vec<_> = entries.iter().map(declared).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Tells of every change of what is observed.
    fn watch(&self, name: &StreamName, entry: &Entry) {
        let (name, changes, cancel) = (name.clone(), self.changes.clone(), entry.watcher.clone());
        let (newsroom, uid, service) = (Arc::clone(&self.newsroom), entry.uid.clone(), entry.lease.job().service());
        let (mut targets, mut listed) = (entry.lease.targets(), entry.lease.listed());
        self.tracker.spawn(cancel.run_until_cancelled_owned(async move {
            loop {
                let more = tokio::select! {
                    changed = targets.changed() => changed.is_ok(),
                    changed = listed.changed() => changed.is_ok(),
                };
                if !more {
                    return;
                }
                let _ = changes.send(name.clone());
                let (stream, uid) = (name.clone(), uid.as_str().into());
                newsroom.tell(News { stream, uid, service: Some(service), what: Happened::Changed });
            }
        }));
    }
}

impl Entry {
    fn observed(&self) -> Observed {
        Observed {
            targets: *self.lease.targets().borrow(),
            listed: *self.lease.listed().borrow(),
            readers: self.lease.stream().readers(),
        }
    }

    fn close(&self, why: &str) {
        self.watcher.cancel();
        self.gate.close(why);
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declared").field("entries", &self.entries.lock().len()).finish_non_exhaustive()
    }
}
