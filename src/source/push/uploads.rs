//! All uploads, by name: who may begin, go on or take the place of another, and what is forgotten when.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gather::Gathering;
use super::identity::Metadata;
use super::policy::{Policy, UploadsConfig};
use super::shelf::{About, Shelf};
use crate::record::{Event, Level, Signal, Time};
use crate::stream::StreamName;
use crate::stream::byte_stream::{ByteStream, Extent, Pool, State, Writer};
use crate::telemetry::{Category, Metrics};

/// New uploads that a slow spy may be behind before it misses some.
const ARRIVALS: usize = 1024;
/// How often it is looked for what has been kept long enough, at most and at least.
const SWEEP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// One upload.
#[derive(Debug)]
pub struct Upload {
    /// Its namespace and id.
    pub name: StreamName,
    /// Tells it from others of its name.
    pub generation: u64,
    /// What its producer says about it.
    pub metadata: Option<Metadata>,
    /// Its bytes.
    pub bytes: Arc<ByteStream>,
    keep: Option<Duration>,
    touched: Mutex<Instant>,
    /// Why it was aborted last, as far as this process knows.
    lost: Mutex<Option<String>>,
    /// What is on disk, where it is kept there.
    about: Option<About>,
}

impl Upload {
    /// It is asked for: it is kept from now on, once it has ended.
    pub fn touch(&self) {
        *self.touched.lock() = Instant::now();
    }

    /// Why its producer was lost, where it is aborted and that is known.
    pub fn lost(&self) -> Option<String> {
        let aborted = self.bytes.extent().state == State::Aborted;
        self.lost.lock().clone().filter(|_| aborted)
    }
}

/// An upload that has begun or goes on, and the right to write to it.
#[derive(Debug)]
pub struct Begun {
    /// The upload.
    pub upload: Arc<Upload>,
    /// The right.
    pub writer: Writer,
    /// How many bytes it has.
    pub len: u64,
    /// Whether it took the place of another.
    pub replaced: bool,
    /// What holds for it.
    pub policy: Policy,
}

/// Why an upload does not begin.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is one of that name.
    #[error("The stream with ID {0} already exists. Specify force=true query param to override.")]
    Exists(String),
    /// There is one of that name, and it may not be replaced.
    #[error(
        "The stream with ID {0} already exists, and its subscription allows no replacement; set spec.source.push.allowReplace"
    )]
    Kept(String),
    /// There is none of that name.
    #[error("The stream with ID {0} does not exist")]
    NotFound(String),
    /// Nobody declared the name.
    #[error(
        "no StreamSubscription {0} with a push source is at work; declare one, or let the operator allow others with \
         --allow-undeclared-uploads"
    )]
    Undeclared(StreamName),
    /// Its producer is still there, and whoever wants to go on did not say where.
    #[error("The stream with ID {0} has a producer; to take over, say with X-Stream-Offset where the upload goes on")]
    Busy(String),
    /// Whoever wants to go on means another one of that name.
    #[error("The stream with ID {0} is another one by now: the one that is meant was replaced or deleted")]
    Replaced(String),
    /// Bytes between are missing.
    #[error("The stream with ID {id} has {len} bytes; send what follows them, with X-Stream-Offset: {len}")]
    Beyond {
        /// The id.
        id: String,
        /// How many bytes there are.
        len: u64,
    },
    /// There are too many.
    #[error("{0} streams are kept, as many as the operator allows; delete one, or try again later")]
    TooMany(usize),
    /// Its subscription wants it on disk, and there is none.
    #[error("the subscription asks for history on disk and the operator has no folder for it (--data-dir)")]
    NoDisk,
    /// The disk fails.
    #[error("the upload cannot be stored: {0}")]
    Disk(#[from] std::io::Error),
}

impl UploadError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Exists(_)
            | Self::Kept(_)
            | Self::NotFound(_)
            | Self::Busy(_)
            | Self::Replaced(_)
            | Self::Beyond { .. } => Category::Invalid,
            Self::Undeclared(_) => Category::Denied,
            Self::TooMany(_) | Self::NoDisk | Self::Disk(_) => Category::Unavailable,
        }
    }
}

#[derive(Default)]
struct Known {
    uploads: HashMap<StreamName, Arc<Upload>>,
    /// Names for which an upload is just made on disk.
    reserved: HashSet<StreamName>,
    declared: HashMap<StreamName, Policy>,
}

/// All uploads of this process.
pub struct Uploads {
    config: UploadsConfig,
    pool: Arc<Pool>,
    gathering: Gathering,
    shelf: Option<Arc<Shelf>>,
    known: Mutex<Known>,
    arrivals: broadcast::Sender<Arc<Upload>>,
    undeclared: Policy,
    metrics: Arc<Metrics>,
}

impl Uploads {
    /// No uploads but those that are on disk. Tasks belong to `tracker` and end with `cancel`. Waits for the disk.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn new(
        config: UploadsConfig,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let shelf = config.disk.as_ref().map(|disk| Shelf::new(disk, tracker.clone()));
        let uploads = Arc::new(Self {
            pool: Pool::new(config.memory),
            gathering: Gathering::new(config.gathered),
            shelf,
            known: Mutex::default(),
            arrivals: broadcast::channel(ARRIVALS).0,
            undeclared: Policy::undeclared(cancel.child_token()),
            metrics: Arc::clone(&metrics),
            config,
        });
        for (about, bytes) in uploads.shelf.as_ref().map_or(Ok(Vec::new()), |shelf| shelf.find())? {
            let upload = Arc::new(Upload::stored(about, bytes));
            uploads.known.lock().uploads.insert(upload.name.clone(), upload);
        }
        let weighed = Arc::downgrade(&uploads);
        metrics.before_scrape(move |metrics| weighed.upgrade().map(|uploads| uploads.weigh(metrics)).is_some());
        let sweeping = Arc::clone(&uploads);
        tracker.spawn(async move { cancel.run_until_cancelled_owned(sweeping.sweep_for_ever()).await });
        Ok(uploads)
    }

    /// None, and none will be: for processes without an endpoint, and tests of other things.
    pub fn closed(metrics: Arc<Metrics>) -> Arc<Self> {
        let config = UploadsConfig::default();
        Arc::new(Self {
            pool: Pool::new(0),
            gathering: Gathering::new(0),
            shelf: None,
            known: Mutex::default(),
            arrivals: broadcast::channel(1).0,
            undeclared: Policy::undeclared(CancellationToken::new()),
            metrics,
            config,
        })
    }

    /// How uploads are bounded.
    pub fn config(&self) -> &UploadsConfig {
        &self.config
    }

    /// The memory for what has come and is not stored yet.
    pub fn gathering(&self) -> &Gathering {
        &self.gathering
    }

    /// Weir's own counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether uploads can be kept on disk.
    pub fn has_disk(&self) -> bool {
        self.shelf.is_some()
    }

    /// Uploads that begin from now on.
    pub fn arrivals(&self) -> broadcast::Receiver<Arc<Upload>> {
        self.arrivals.subscribe()
    }

    /// From now on this holds for uploads of the name, until the policy's token is cancelled.
    pub(super) fn declare(&self, name: &StreamName, policy: Policy) {
        self.known.lock().declared.insert(name.clone(), policy);
    }

    /// The name is declared no longer, unless it was declared again meanwhile. Producers and readers are cut.
    pub(super) fn withdraw(&self, name: &StreamName, policy: &Policy) {
        policy.closed.cancel();
        let mut known = self.known.lock();
        if known.declared.get(name).is_some_and(|declared| declared.closed.is_cancelled()) {
            known.declared.remove(name);
        }
    }

    /// What holds for uploads of a name; none where it may not be used.
    pub fn policy(&self, name: &StreamName) -> Option<Policy> {
        self.known.lock().policy(name, self)
    }

    /// The upload of a name that may be used.
    pub fn get(&self, name: &StreamName) -> Option<(Arc<Upload>, Policy)> {
        let known = self.known.lock();
        Some((Arc::clone(known.uploads.get(name)?), known.policy(name, self)?))
    }

    /// All uploads of names that may be used, by name.
    pub fn list(&self) -> Vec<Arc<Upload>> {
        let known = self.known.lock();
        let usable = known.uploads.values().filter(|upload| known.policy(&upload.name, self).is_some());
        let mut list: Vec<_> = usable.cloned().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Begins an upload. With `force` it takes the place of one that is there, whose readers end at once.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn begin(
        self: &Arc<Self>,
        name: &StreamName,
        metadata: Option<Metadata>,
        force: bool,
    ) -> Result<Begun, UploadError> {
        let (reserved, policy) = self.reserve(name, force)?;
        // The place of one that goes is room.
        let goes = self.known.lock().uploads.get(name).is_some_and(|old| old.about.is_some());
        if let (Some(shelf), Some(_), false) = (&self.shelf, &policy.disk, goes) {
            shelf.has_room()?;
        }
        let upload = Arc::new(self.make(name, metadata, &policy).await?);
        let Some((writer, len)) = upload.bytes.write().await else {
            return Err(UploadError::NotFound(name.name.clone()));
        };
        look_on(&policy, &upload, State::Live).await;
        let old = self.known.lock().uploads.insert(name.clone(), Arc::clone(&upload));
        drop(reserved);
        let replaced = old.is_some();
        if let Some(old) = old {
            self.forget(&old).await;
        }
        if let Some(stream) = &policy.told {
            let text = format!("The upload to {name} has begun.");
            stream.signal(Signal::new(Level::Info, Event::Added, Time::now(), text));
        }
        let _ = self.arrivals.send(Arc::clone(&upload));
        Ok(Begun { upload, writer, len, replaced, policy })
    }

    /// Goes on with an upload behind its end, or begins it where there is none and nothing is missing. Who says where its
    /// bytes belong takes over from a producer that is still there: its connection may be dead and not known to be. Who
    /// names a generation means that very upload, and no other that has taken its place.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn resume(
        self: &Arc<Self>,
        name: &StreamName,
        metadata: Option<Metadata>,
        offset: Option<u64>,
        generation: Option<u64>,
    ) -> Result<Begun, UploadError> {
        let id = || name.name.clone();
        let Some(policy) = self.policy(name) else { return Err(UploadError::Undeclared(name.clone())) };
        let Some((upload, _)) = self.get(name) else {
            return match (offset, generation) {
                (None | Some(0), None) => self.begin(name, metadata, false).await,
                _ => Err(UploadError::NotFound(id())),
            };
        };
        if generation.is_some_and(|generation| generation != upload.generation) {
            return Err(UploadError::Replaced(id()));
        }
        if let (Some(shelf), Some(_)) = (&self.shelf, &upload.about) {
            shelf.has_room()?;
        }
        let Extent { len, state, .. } = upload.bytes.extent();
        if offset.is_some_and(|offset| offset > len) {
            return Err(UploadError::Beyond { id: id(), len });
        }
        if offset.is_none() && state == State::Live {
            return Err(UploadError::Busy(id()));
        }
        let (writer, len) = upload.bytes.write().await.ok_or_else(|| UploadError::NotFound(id()))?;
        look_on(&policy, &upload, state).await;
        if state != State::Live {
            let _ = self.arrivals.send(Arc::clone(&upload));
        }
        Ok(Begun { upload, writer, len, replaced: false, policy })
    }

    /// Deletes an upload; whether there was one. Producers and readers are cut.
    pub async fn delete(&self, name: &StreamName) -> bool {
        let Some(old) = self.known.lock().uploads.remove(name) else { return false };
        self.forget(&old).await;
        true
    }

    /// The producer of an upload is done: with all of it, or because it was lost.
    pub fn ended(&self, upload: &Upload, policy: &Policy, state: State, why: &str) {
        upload.touch();
        let lost = state != State::Complete;
        if lost {
            self.metrics.uploads_aborted.inc();
            *upload.lost.lock() = Some(why.to_owned());
        }
        if let Some(stream) = &policy.told {
            let (name, len) = (&upload.name, upload.bytes.extent().len);
            let (level, text) = match lost {
                true => (Level::Warning, format!("The upload to {name} was aborted after {len} bytes: {why}.")),
                false => (Level::Info, format!("The upload to {name} is complete, with {len} bytes.")),
            };
            stream.signal(Signal::new(level, Event::Deleted, Time::now(), text));
        }
    }

    fn reserve(self: &Arc<Self>, name: &StreamName, force: bool) -> Result<(Reserved, Policy), UploadError> {
        let mut known = self.known.lock();
        let policy = known.policy(name, self).ok_or_else(|| UploadError::Undeclared(name.clone()))?;
        let there = known.uploads.contains_key(name);
        if known.reserved.contains(name) || (there && !force) {
            return Err(UploadError::Exists(name.name.clone()));
        }
        if there && !policy.replace {
            return Err(UploadError::Kept(name.name.clone()));
        }
        if !there && known.uploads.len() + known.reserved.len() >= self.config.streams {
            return Err(UploadError::TooMany(self.config.streams));
        }
        known.reserved.insert(name.clone());
        Ok((Reserved { uploads: Arc::clone(self), name: name.clone() }, policy))
    }

    async fn make(
        &self,
        name: &StreamName,
        metadata: Option<Metadata>,
        policy: &Policy,
    ) -> Result<Upload, UploadError> {
        let generation = rand::random();
        let Some(fsync) = policy.disk else {
            let own = policy.bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(self.config.stream_bytes);
            let bytes = ByteStream::in_memory(own, Arc::clone(&self.pool));
            let (name, keep, touched) = (name.clone(), policy.keep, Mutex::new(Instant::now()));
            let lost = Mutex::default();
            return Ok(Upload { name, generation, metadata, bytes, keep, touched, lost, about: None });
        };
        let about = About {
            namespace: name.namespace.clone(),
            id: name.name.clone(),
            generation,
            began: Time::now().millis(),
            metadata: metadata.map(|metadata| metadata.as_str().to_owned()),
            bytes: policy.bytes,
            keep_millis: policy.keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)),
            fsync,
        };
        let shelf = self.shelf.as_ref().ok_or(UploadError::NoDisk)?;
        let bytes = shelf.make(about.clone()).await?;
        Ok(Upload::stored(about, bytes))
    }

    /// Cuts whoever reads or writes an upload that is known no longer, and frees what it takes.
    async fn forget(&self, upload: &Arc<Upload>) {
        upload.bytes.discard();
        let records = self.known.lock().declared.get(&upload.name).and_then(|policy| policy.records.clone());
        records.iter().for_each(|records| records.over(upload.generation));
        if let (Some(shelf), Some(about)) = (&self.shelf, &upload.about) {
            shelf.erase(about.clone(), Arc::clone(&upload.bytes)).await;
        }
    }

    fn weigh(&self, metrics: &Metrics) {
        let count = self.known.lock().uploads.len();
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.uploads.set(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.uploads_memory.set(gauge(self.pool.used()));
        metrics.uploads_disk.set(gauge(self.shelf.as_ref().map_or(0, |shelf| shelf.used())));
    }

    async fn sweep_for_ever(self: Arc<Self>) {
        let every = (self.config.keep / 4).clamp(SWEEP.0, SWEEP.1);
        loop {
            tokio::time::sleep(every).await;
            self.sweep(Instant::now()).await;
        }
    }

    /// Forgets what has been kept long enough.
    pub(super) async fn sweep(&self, now: Instant) {
        let old: Vec<_> = {
            let mut known = self.known.lock();
            let over = |_: &StreamName, upload: &mut Arc<Upload>| {
                let keep = upload.keep.unwrap_or(self.config.keep);
                upload.bytes.extent().state != State::Live
                    && now.saturating_duration_since(*upload.touched.lock()) > keep
            };
            known.uploads.extract_if(over).map(|(_, upload)| upload).collect()
        };
        let records = |policy: &Policy| policy.records.clone();
        let records: Vec<_> = self.known.lock().declared.values().filter_map(records).collect();
        records.iter().for_each(|records| records.give_up_rest(now));
        for upload in old {
            tracing::debug!(stream = %upload.name, "An upload has been kept long enough and is deleted");
            self.forget(&upload).await;
        }
    }
}

impl Known {
    fn policy(&self, name: &StreamName, uploads: &Uploads) -> Option<Policy> {
        let declared = self.declared.get(name).filter(|policy| !policy.closed.is_cancelled());
        declared.or(uploads.config.undeclared.then_some(&uploads.undeclared)).cloned()
    }
}

impl Upload {
    fn stored(about: About, bytes: Arc<ByteStream>) -> Self {
        Self {
            name: StreamName::new(&about.namespace, &about.id),
            generation: about.generation,
            // It was checked before it was stored.
            metadata: about.metadata.as_ref().and_then(|text| Metadata::parse(text.as_bytes(), usize::MAX).ok()),
            bytes,
            keep: about.keep_millis.map(Duration::from_millis),
            touched: Mutex::new(Instant::now()),
            lost: Mutex::default(),
            about: Some(about),
        }
    }
}

/// Shows what is written to an upload from now on to whoever makes records of it. It stood in `state` so far.
async fn look_on(policy: &Policy, upload: &Upload, state: State) {
    match &policy.records {
        Some(records) => records.join(upload, state).await,
        None => upload.bytes.show(None),
    }
}

/// A name for which an upload is just made.
struct Reserved {
    uploads: Arc<Uploads>,
    name: StreamName,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.uploads.known.lock().reserved.remove(&self.name);
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").field("uploads", &self.known.lock().uploads.len()).finish_non_exhaustive()
    }
}
