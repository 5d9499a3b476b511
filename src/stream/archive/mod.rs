//! The past of a stream on disk: what went through its ring, in a [`SegmentLog`], beyond what the ring holds and beyond the
//! life of the process.
//!
//! ```text
//!   ──── an earlier life ────│──────────────── this life ──────────────────────────►
//!   ═════════ log ═══════════╪═══════════ log ═══════════╡ written
//!                            │            ┄┄┄┄┄┄┄┄ ring ┄┼┄┄┄┄┄┄┄┄┄┄┄┤ next
//!   ├────────────── the past that a reader is given ─────────────────┤► then the ring
//! ```
//!
//! What is written to the log and where the ring's numbers stand then is noted together. So whoever asks for the past gets the
//! log up to there and the ring from there on: nothing is missing between, and nothing comes twice.

mod format;
mod read;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::segment::{Disk, Found, Retention, SegmentLog, SegmentView};
use super::series::disk::DiskBudget;
use super::{LiveStream, SeenWindow, Seq, Trail};
use crate::record::{Origin, Time};

pub use format::{Kept, Piece};

use read::READ_BYTES;

/// How far one origin may be behind the newest of all that was kept, and be gone on with exactly, in nanoseconds.
const LOOK_BACK: i64 = 60_000_000_000;

/// How far a log has come: up to which place it is written, and which number of the stream comes next.
#[derive(Clone, Copy, Debug)]
struct Written {
    place: u64,
    seq: Seq,
}

/// What readers see of a log that is open.
#[derive(Clone, Debug)]
struct Opened {
    view: SegmentView,
    written: Arc<Mutex<Written>>,
}

/// The past of one stream. Where its log is not open yet, readers wait for it.
pub struct Archive {
    stream: Arc<LiveStream>,
    opened: watch::Receiver<Option<Opened>>,
    tracker: TaskTracker,
}

/// Opens an [`Archive`]; where it is dropped before, the past is what the ring holds.
#[derive(Debug)]
pub struct Opening(watch::Sender<Option<Opened>>);

/// Writes a stream to its log. Every call waits for the disk.
#[derive(Debug)]
pub struct ArchiveLog {
    log: SegmentLog,
    written: Arc<Mutex<Written>>,
}

/// The end of what an earlier life kept.
#[derive(Debug, Default)]
pub struct Tail {
    trails: HashMap<Arc<Origin>, Trail>,
    newest: Option<Time>,
    /// Whether there is something before it.
    is_cut: bool,
}

impl Archive {
    /// The past of a stream, for readers, and what opens it.
    pub fn new(stream: Arc<LiveStream>, tracker: TaskTracker) -> (Arc<Self>, Opening) {
        let (sender, opened) = watch::channel(None);
        (Arc::new(Self { stream, opened, tracker }), Opening(sender))
    }

    /// Up to which number the stream is written; none where nothing was opened.
    pub fn written(&self) -> Option<Seq> {
        self.opened.borrow().as_ref().map(|opened| opened.written.lock().seq)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("opened", &self.opened.borrow().is_some()).finish_non_exhaustive()
    }
}

impl ArchiveLog {
    /// Opens the log in a folder, for a stream that is written up to a number; also how many bytes of it were torn or damaged.
    ///
    /// # Errors
    /// Where the folder cannot be made or read.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        keep: Retention,
        budget: Arc<DiskBudget>,
        opening: &Opening,
        seq: Seq,
    ) -> io::Result<(Self, Tail, u64)> {
        let mut times: Option<(i64, i64)> = None;
        let (log, recovery) = SegmentLog::open(disk, folder, keep, budget, |_, _, time, data| {
            if format::is_batch(data) {
                let (oldest, newest) = times.unwrap_or((time, time));
                times = Some((oldest.min(time), newest.max(time)));
            }
        })?;
        let tail = times.map(|times| Tail::read(&log.view(), times)).transpose()?.unwrap_or_default();
        let written = Arc::new(Mutex::new(Written { place: log.end(), seq }));
        opening.0.send_replace(Some(Opened { view: log.view(), written: Arc::clone(&written) }));
        Ok((Self { log, written }, tail, recovery.damaged))
    }

    /// Writes pieces, in order, and takes off the front those that are written.
    ///
    /// # Errors
    /// Where the disk does not take one; it and what follows may be tried again.
    pub fn write(&mut self, pieces: &mut VecDeque<Piece>) -> io::Result<()> {
        while let Some(piece) = pieces.front() {
            // Readers must not see the record before they know that the ring's is the same one.
            let mut written = self.written.lock();
            self.log.append(piece.units, piece.millis, &piece.data)?;
            *written = Written { place: self.log.end(), seq: piece.end };
            drop(written);
            pieces.pop_front();
        }
        Ok(())
    }

    /// All before this number is written, or was there already.
    pub fn passed(&mut self, seq: Seq) {
        let mut written = self.written.lock();
        written.seq = written.seq.max(seq);
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Where nobody knows whether it is.
    pub fn sync(&mut self) -> io::Result<()> {
        self.log.sync()
    }

    /// Gives up what is too old by now.
    pub fn give_up_old(&mut self, now: Time) {
        self.log.give_up_old(now.millis());
    }
}

impl Tail {
    /// Reads the end of a log, where the times of its oldest and its newest records are known, in milliseconds. What is too
    /// old to come again is not decoded, and segments that hold nothing else are not read again.
    fn read(view: &SegmentView, (oldest, newest): (i64, i64)) -> io::Result<Self> {
        // A time in milliseconds is never later than the time itself.
        let since = newest.saturating_sub(LOOK_BACK / 1_000_000);
        let mut tail = Self { is_cut: oldest < since, ..Self::default() };
        let (mut place, end) = (view.since(since), view.bounds().1);
        while place < end {
            let mut next = place + 1;
            for found in view.read(place, READ_BYTES)? {
                match found {
                    Found::Record { place, units, time, data } => {
                        if time >= since {
                            tail.note(&data);
                        }
                        next = next.max(place + u64::from(units));
                    }
                    Found::Gap { next: after } => next = after,
                    Found::End => next = end,
                }
            }
            place = next;
        }
        Ok(tail)
    }

    fn note(&mut self, data: &Bytes) {
        let Some(Kept::Records(batch)) = format::read(data) else { return };
        self.newest = self.newest.max(batch.newest());
        let is_cut = self.is_cut;
        let trail = self.trails.entry(Arc::clone(batch.origin())).or_insert_with(|| {
            let mut trail = Trail::default();
            // Where this origin may have more than is read here, its first lines are not where it begins.
            if is_cut {
                trail.goes_back()
            } else {
                trail.close_before()
            }
            trail
        });
        trail.note(&batch);
        // Only those matter that may come again.
        if self.trails.len() > 1024 {
            self.forget_old();
        }
    }

    fn since(&self) -> Option<Time> {
        self.newest.map(|newest| newest.plus_nanos(-LOOK_BACK))
    }

    fn forget_old(&mut self) {
        let since = self.since();
        self.trails.retain(|_, trail| trail.newest() >= since);
    }

    /// From when on the source is asked again, so that nothing is missing that came while nobody wrote; none where nothing was
    /// kept.
    pub fn ask_from(&self) -> Option<Time> {
        self.since()
    }

    /// What tells lines that are kept from those that are new, by origin.
    pub fn windows(mut self) -> HashMap<Arc<Origin>, SeenWindow> {
        self.forget_old();
        self.trails.into_iter().map(|(origin, trail)| (origin, trail.window())).collect()
    }
}
