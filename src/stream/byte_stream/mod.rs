//! A stream of bytes as they came: one writer, any number of readers, each at an offset of its own.
//!
//! ```text
//!   writer ──append──► │ given up │ kept in memory or on disk │ len
//!                       0          start     ▲                 ▲
//!                                   reader ──┘   live reader ──┘ (waits)
//! ```
//!
//! The writer never waits for a reader. What is kept is bounded; where more comes, the oldest goes, and a reader that was not
//! done with it is told ([`Piece::Behind`]) instead of being given something else.

mod memory;
mod reader;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::segment::{SegmentLog, SegmentView};
use crate::api::FsyncPolicy;
use crate::record::Time;
use memory::Blocks;

pub use memory::Pool;
pub use reader::{ByteReader, Piece};

/// How it stands with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its producer is connected, or is about to be.
    Live,
    /// Its producer said that this is all.
    Complete,
    /// Its producer was lost before it had said so. Another may go on.
    Aborted,
    /// It was deleted, or another took its place.
    Gone,
}

impl State {
    /// The state as clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Gone => "gone",
        }
    }

    fn mark(self) -> [u8; 1] {
        [u8::from(self == Self::Complete)]
    }
}

/// What there is of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The oldest byte that is kept.
    pub start: u64,
    /// How many bytes have come.
    pub len: u64,
    /// How it stands.
    pub state: State,
}

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another producer goes on with the stream, or it is gone.
    #[error("another producer has taken over, or the stream is gone")]
    Superseded,
    /// The memory for all streams is used up.
    #[error("the memory for uploads is used up")]
    NoMemory,
    /// The disk did not take them.
    #[error("the upload cannot be stored: {0}")]
    Disk(#[from] io::Error),
}

/// The right to write, until somebody else gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer(u64);

/// Looks on while a stream is written: in order, and in the task of whoever writes, so nothing escapes it. The writer waits
/// for it, so it must be quick.
pub trait Onlooker: Send + Sync {
    /// These bytes were appended.
    fn appended(&self, bytes: &[u8]);

    /// The writer is done, and this is how it stands with the stream.
    fn finished(&self, state: State);
}

/// The most bytes of one record on disk: so many that writing one costs little beside its bytes, and so few that a reader who
/// begins inside of one reads little in vain.
const RECORD: usize = 128 * 1024;
/// Where the room for all logs runs out, it is used up by shorter records, but by none that is shorter than this.
const LEAST_RECORD: usize = 8 * 1024;

/// Where the bytes are.
enum Store {
    Memory(Mutex<Blocks>),
    Disk { log: Arc<Mutex<SegmentLog>>, view: SegmentView, fsync: FsyncPolicy, tracker: TaskTracker },
}

/// A stream of bytes.
pub struct ByteStream {
    store: Store,
    writer: Mutex<u64>,
    onlooker: Mutex<Option<Arc<dyn Onlooker>>>,
    /// The same, for who waits for its turn to be over.
    turn: watch::Sender<u64>,
    extent: watch::Sender<Extent>,
}

impl ByteStream {
    /// An empty one that keeps at most so many bytes, in memory that it shares with others.
    pub fn in_memory(most: usize, pool: Arc<Pool>) -> Arc<Self> {
        let extent = Extent { start: 0, len: 0, state: State::Live };
        Self::new(Store::Memory(Mutex::new(Blocks::new(most, pool))), extent)
    }

    /// One that is kept in a log, whose units are bytes. `complete` is what a start found, if it found a log; see
    /// [`note_end`].
    pub fn on_disk(log: SegmentLog, complete: Option<bool>, fsync: FsyncPolicy, tracker: TaskTracker) -> Arc<Self> {
        let view = log.view();
        let (start, len) = view.bounds();
        let state = match complete {
            None => State::Live,
            Some(true) => State::Complete,
            Some(false) => State::Aborted,
        };
        Self::new(Store::Disk { log: Arc::new(Mutex::new(log)), view, fsync, tracker }, Extent { start, len, state })
    }

    fn new(store: Store, extent: Extent) -> Arc<Self> {
        let (turn, extent) = (watch::channel(0).0, watch::channel(extent).0);
        Arc::new(Self { store, writer: Mutex::new(0), onlooker: Mutex::default(), turn, extent })
    }

    /// Lets somebody look on from now on, in place of whoever did before. Whoever [writes](Self::write) does so before it
    /// appends.
    pub fn show(&self, onlooker: Option<Arc<dyn Onlooker>>) {
        *self.onlooker.lock() = onlooker;
    }

    fn onlooker(&self) -> Option<Arc<dyn Onlooker>> {
        self.onlooker.lock().clone()
    }

    /// What there is now.
    pub fn extent(&self) -> Extent {
        *self.extent.borrow()
    }

    /// Every change of what there is.
    pub fn watch(&self) -> watch::Receiver<Extent> {
        self.extent.subscribe()
    }

    /// Makes the caller the one who writes, and whoever was it before is no more. The length then stands still until it
    /// appends. `None` where the stream is gone.
    pub async fn write(self: &Arc<Self>) -> Option<(Writer, u64)> {
        let this = Arc::clone(self);
        let take = move || {
            // Held, on disk, by whoever is just writing.
            let _log = match &this.store {
                Store::Memory(_) => None,
                Store::Disk { log, .. } => Some(log.lock()),
            };
            let mut writer = this.writer.lock();
            let gone = this.extent().state == State::Gone;
            *writer += u64::from(!gone);
            this.turn.send_replace(*writer);
            this.extent.send_if_modified(|extent| {
                let changed = !gone && extent.state != State::Live;
                if changed {
                    extent.state = State::Live;
                }
                changed
            });
            (!gone).then(|| (Writer(*writer), this.extent().len))
        };
        match &self.store {
            Store::Memory(_) => take(),
            Store::Disk { tracker, .. } => tracker.spawn_blocking(take).await.ok().flatten(),
        }
    }

    /// Waits until somebody else writes, or nobody any longer. Cancel-safe.
    pub async fn superseded(&self, mine: Writer) {
        // The sender lives in `self`.
        let _ = self.turn.subscribe().wait_for(|writer| *writer != mine.0).await;
    }

    /// Appends bytes. With `fsync: Always` they are durable when this is done.
    ///
    /// # Errors
    /// [`AppendError`]; then none of them, or on disk a beginning of them, is there.
    pub async fn append(self: &Arc<Self>, mine: Writer, bytes: Bytes) -> Result<(), AppendError> {
        match &self.store {
            Store::Memory(blocks) => {
                let writer = self.writer.lock();
                if *writer != mine.0 {
                    return Err(AppendError::Superseded);
                }
                let mut blocks = blocks.lock();
                blocks.push(&bytes)?;
                let (start, len) = blocks.bounds();
                self.grow(start, len);
                drop(blocks);
                self.onlooker().iter().for_each(|onlooker| onlooker.appended(&bytes));
                Ok(())
            }
            Store::Disk { .. } => {
                self.on_log(move |this, log, fsync| {
                    if *this.writer.lock() != mine.0 {
                        return Err(AppendError::Superseded);
                    }
                    let mut written = append_records(log, &bytes, this.onlooker().as_deref());
                    if fsync == FsyncPolicy::Always {
                        written = written.and_then(|()| log.sync());
                    }
                    // A beginning may be there where not all of it is: who goes on must know.
                    let (start, len) = log.view().bounds();
                    this.grow(start, len);
                    Ok(written?)
                })
                .await
            }
        }
    }

    /// Makes what is on disk durable, where that is promised.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn settle(self: &Arc<Self>) -> Result<(), AppendError> {
        match &self.store {
            Store::Memory(_) => Ok(()),
            Store::Disk { fsync: FsyncPolicy::Never, .. } => Ok(()),
            Store::Disk { .. } => self.on_log(|_, log, _| Ok(log.sync()?)).await,
        }
    }

    /// The writer is done: with all of it, or because it was lost. Readers end. When this is done, it is stored as promised.
    ///
    /// # Errors
    /// Where the end cannot be stored; then the stream is aborted.
    pub async fn finish(self: &Arc<Self>, mine: Writer, state: State) -> Result<(), AppendError> {
        match &self.store {
            Store::Memory(blocks) => {
                let mut writer = self.writer.lock();
                if *writer != mine.0 {
                    return Err(AppendError::Superseded);
                }
                *writer += 1;
                blocks.lock().rest();
                self.set(state);
                self.onlooker().iter().for_each(|onlooker| onlooker.finished(state));
                Ok(())
            }
            Store::Disk { .. } => {
                self.on_log(move |this, log, fsync| {
                    let mut writer = this.writer.lock();
                    if *writer != mine.0 {
                        return Err(AppendError::Superseded);
                    }
                    *writer += 1;
                    let marked = log.append(0, Time::now().millis(), &state.mark());
                    let stored = marked.and_then(|()| if fsync == FsyncPolicy::Never { Ok(()) } else { log.sync() });
                    let state = if stored.is_ok() { state } else { State::Aborted };
                    this.set(state);
                    this.onlooker().iter().for_each(|onlooker| onlooker.finished(state));
                    Ok(stored?)
                })
                .await
            }
        }
    }

    /// Ends the stream for writers and readers at once: it was deleted or replaced.
    pub fn discard(&self) {
        {
            let mut writer = self.writer.lock();
            *writer += 1;
            self.turn.send_replace(*writer);
        }
        self.set(State::Gone);
        if let Store::Memory(blocks) = &self.store {
            blocks.lock().clear();
        }
    }

    /// Deletes the files of a stream that was discarded, with nobody writing meanwhile. Waits for the disk.
    ///
    /// # Errors
    /// Those of `delete`.
    pub fn close_files(&self, delete: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _log = match &self.store {
            Store::Memory(_) => None,
            Store::Disk { log, .. } => Some(log.lock()),
        };
        delete()
    }

    /// A reader from an offset on, until another, or until the producer ends.
    pub fn read(self: &Arc<Self>, from: u64, until: Option<u64>) -> ByteReader {
        ByteReader::new(Arc::clone(self), from, until)
    }

    fn set(&self, state: State) {
        self.extent.send_modify(|extent| {
            if extent.state != State::Gone {
                extent.state = state;
            }
        });
    }

    fn grow(&self, start: u64, len: u64) {
        self.extent.send_modify(|extent| (extent.start, extent.len) = (start, len));
    }

    async fn on_log<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut SegmentLog, FsyncPolicy) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, AppendError> {
        let Store::Disk { log, fsync, tracker, .. } = &self.store else { return Err(AppendError::Superseded) };
        let (this, log, fsync) = (Arc::clone(self), Arc::clone(log), *fsync);
        let done = tracker.spawn_blocking(move || work(&this, &mut log.lock(), fsync)).await;
        done.map_err(|error| AppendError::Disk(io::Error::other(error)))?
    }
}

/// Appends bytes in records, as many of them as there is room for.
fn append_records(log: &mut SegmentLog, bytes: &[u8], onlooker: Option<&dyn Onlooker>) -> io::Result<()> {
    let (mut rest, mut most) = (bytes, RECORD);
    while !rest.is_empty() {
        let (record, after) = rest.split_at(rest.len().min(most));
        let units = u32::try_from(record.len()).unwrap_or(u32::MAX);
        match log.append(units, Time::now().millis(), record) {
            Ok(()) => {
                onlooker.iter().for_each(|onlooker| onlooker.appended(record));
                rest = after;
            }
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded && record.len() > LEAST_RECORD => {
                most = record.len() / 2;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes note of a record of a log that is read at a start: whether it marks the end of a complete stream.
pub fn note_end(complete: &mut bool, units: u32, data: &[u8]) {
    *complete = units == 0 && data == State::Complete.mark();
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").field("extent", &self.extent()).finish_non_exhaustive()
    }
}
