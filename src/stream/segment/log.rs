//! Writing: the segment that is open, what is given up, and what a start finds.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::format::{self, LONGEST_DATA, Stored};
use super::view::{Segment, SegmentView, Shared};
use crate::stream::frame;
use crate::stream::series::disk::DiskBudget;

/// What is kept. The first bound that is reached counts; what goes are whole segments, and never the open one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Most bytes on disk.
    pub bytes: Option<u64>,
    /// Most units.
    pub units: Option<u64>,
    /// How long.
    pub age: Option<Duration>,
}

/// The shortest and the longest segment, in bytes. Short ones cost files, long ones are given up late.
const SEGMENT_BYTES: (u64, u64) = (64 * 1024, 64 * 1024 * 1024);
/// What is kept consists of about so many segments.
const SEGMENTS: u64 = 8;

impl Retention {
    /// Whether a new segment is due.
    fn is_long(&self, segment: &Segment, now: i64) -> bool {
        let bytes = self.bytes.map_or(SEGMENT_BYTES.1, |bytes| bytes / SEGMENTS);
        let age = |age: Duration| segment.times.is_some_and(|(first, _)| now - first > millis(age) / SEGMENTS as i64);
        segment.bytes >= bytes.clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1)
            || self.units.is_some_and(|units| segment.units >= (units / SEGMENTS).max(1))
            || self.age.is_some_and(age)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are good.
    pub records: u64,
    /// Bytes behind the last good record of each segment: torn by a crash, or damaged.
    pub damaged: u64,
}

/// The writer of a log. One at a time.
#[derive(Debug)]
pub struct SegmentLog {
    shared: Arc<Shared>,
    retention: Retention,
    budget: Arc<DiskBudget>,
    /// What of the budget is taken.
    counted: u64,
    /// The open segment's file, which is that of the last segment; none where a new one must be begun.
    file: Option<Box<dyn DiskFile>>,
    unsynced: bool,
    /// Whether something was appended to a file that is given up and could not be made durable, which is not told yet.
    unsettled: bool,
    /// Whether the system alone says when anything becomes durable.
    lazy: bool,
}

impl SegmentLog {
    /// Opens the log in a folder, which is made where there is none. Every good record is handed to `seen`, with its place, its
    /// units and its time in milliseconds.
    ///
    /// # Errors
    /// Where the folder cannot be made or read. What is damaged in a file is no error.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        retention: Retention,
        budget: Arc<DiskBudget>,
        mut seen: impl FnMut(u64, u32, i64, &[u8]),
    ) -> io::Result<(Self, Recovery)> {
        let mut bases: Vec<(u64, u64)> = disk.list(folder)?.iter().filter_map(|(name, len)| base(name, *len)).collect();
        bases.sort_unstable();
        let shared = Shared { disk, folder: folder.to_owned(), segments: Default::default() };
        let (mut recovery, newest) = (Recovery::default(), bases.last().copied());
        for (base, length) in bases {
            let path = shared.path(base);
            let segment = recover(&*shared.disk, &path, base, &mut seen, &mut recovery)?;
            let torn = length.saturating_sub(segment.bytes);
            recovery.damaged += torn;
            let mut segments = shared.segments.write();
            // What was never whole, or says to be where another is, holds nothing.
            if segment.times.is_none() || segments.back().is_some_and(|before: &Segment| before.end() > base) {
                shared.disk.remove(&path)?;
            } else {
                if torn > 0 && newest == Some((base, length)) {
                    shared.disk.truncate(&path, segment.bytes)?;
                }
                segments.push_back(segment);
            }
        }
        let counted = shared.segments.read().iter().map(|segment| segment.bytes).sum();
        budget.count(counted);
        let shared = Arc::new(shared);
        let log =
            Self { shared, retention, budget, counted, file: None, unsynced: false, unsettled: false, lazy: false };
        Ok((log, recovery))
    }

    /// Leaves it to the operating system when anything becomes durable: no append waits for that, and a crash of the machine
    /// may leave [gaps](super::Found::Gap) inside of what was written, not only at its end.
    pub fn lazily(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// What reads this log.
    pub fn view(&self) -> SegmentView {
        SegmentView(Arc::clone(&self.shared))
    }

    /// The place of what is written next.
    pub fn end(&self) -> u64 {
        self.view().bounds().1
    }

    /// How many bytes it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.counted
    }

    /// Appends a record of so many units, at a time in milliseconds.
    ///
    /// # Errors
    /// Where it cannot be written; then nothing is, and it may be tried again. [`io::ErrorKind::QuotaExceeded`] where the
    /// room for all logs is used up, [`io::ErrorKind::InvalidInput`] for more data than [`LONGEST_DATA`].
    pub fn append(&mut self, units: u32, time: i64, data: &[u8]) -> io::Result<()> {
        if data.len() > LONGEST_DATA {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let long = self.shared.segments.read().back().is_none_or(|open| self.retention.is_long(open, time));
        if self.file.is_none() || long {
            self.begin()?;
        }
        let Some(file) = self.file.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        let bytes = format::record_bytes(data.len());
        self.budget.take(bytes)?;
        if let Err(error) = file.append(&[&format::before_data(units, time, data), data]) {
            self.budget.give_back(bytes);
            self.abandon();
            return Err(error);
        }
        self.counted += bytes;
        self.unsynced = true;
        if let Some(open) = self.shared.segments.write().back_mut() {
            open.add(units, time, bytes);
        }
        self.give_up_old(time);
        Ok(())
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// Where nobody knows whether it is.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsettled) {
            return Err(io::Error::other("what was written before the disk failed may be lost"));
        }
        let Some(file) = self.file.as_mut().filter(|_| self.unsynced) else { return Ok(()) };
        let outcome = file.sync();
        self.unsynced = false;
        // After a sync that failed nobody knows what is on disk.
        outcome.inspect_err(|_| self.file = None)
    }

    /// Gives up what is too much or too old, at a time in milliseconds.
    pub fn give_up_old(&mut self, now: i64) {
        while let Some((base, bytes)) = self.oldest_to_give_up(now) {
            if let Err(error) = self.shared.disk.remove(&self.shared.path(base)) {
                tracing::warn!(folder = %self.shared.folder.display(), %error, "Old history cannot be deleted");
                return;
            }
            self.shared.segments.write().pop_front();
            self.budget.give_back(bytes);
            self.counted -= bytes.min(self.counted);
        }
    }

    fn oldest_to_give_up(&self, now: i64) -> Option<(u64, u64)> {
        let segments = self.shared.segments.read();
        let (oldest, newest) = (segments.front()?, segments.back()?);
        let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let Retention { bytes, units, age } = self.retention;
        let too_much = bytes.is_some_and(|most| total > most)
            || units.is_some_and(|most| newest.end() - oldest.base > most)
            || age.is_some_and(|most| oldest.times.is_none_or(|(_, newest)| now - newest > millis(most)));
        (segments.len() > 1 && too_much).then_some((oldest.base, oldest.bytes))
    }

    /// Begins a new segment where the last one ends.
    fn begin(&mut self) -> io::Result<()> {
        // Nothing may be durable of what follows while something of what comes before is not.
        if !self.lazy {
            self.sync()?;
        }
        self.file = None;
        let base = self.end();
        let path = self.shared.path(base);
        self.budget.take(format::HEAD_BYTES)?;
        let mut head = Vec::new();
        format::write_head(&mut head, base);
        let begun = self.shared.disk.create(&path).and_then(|mut file| file.append(&[&head]).map(|()| file));
        let named = || if self.lazy { Ok(()) } else { self.shared.disk.sync_folder(&self.shared.folder) };
        let begun = begun.and_then(|file| named().map(|()| file));
        match begun {
            Ok(file) => {
                self.counted += format::HEAD_BYTES;
                self.file = Some(file);
                let mut segments = self.shared.segments.write();
                // One that was begun here before and never got a record with units: this file has taken its place.
                if let Some(replaced) = segments.pop_back_if(|last| last.base == base) {
                    self.counted -= replaced.bytes.min(self.counted);
                    self.budget.give_back(replaced.bytes);
                }
                segments.push_back(Segment::new(base));
                Ok(())
            }
            Err(error) => {
                self.budget.give_back(format::HEAD_BYTES);
                Err(error)
            }
        }
    }

    /// Writes nothing to the open segment any longer: what stands at its end may be torn. What is good of it stays, and is
    /// made durable now, since nobody will come back to it.
    fn abandon(&mut self) {
        let last = self.shared.segments.read().back().map(|last| (last.base, last.bytes));
        // Only so that a full disk gets back what was torn; what is left there hurts nobody.
        if let Some((base, bytes)) = last {
            let _ = self.shared.disk.truncate(&self.shared.path(base), bytes);
        }
        if let Some(mut file) = self.file.take() {
            self.unsettled |= self.unsynced && file.sync().is_err();
        }
        self.unsynced = false;
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.budget.give_back(self.counted);
    }
}

/// The base that a file's name tells, and the file's length.
fn base(name: &str, length: u64) -> Option<(u64, u64)> {
    let number = name.strip_suffix(".seg").filter(|number| number.len() == 20)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?.map(|base| (base, length))
}

/// What of a segment is good.
fn recover(
    disk: &dyn Disk,
    path: &Path,
    base: u64,
    seen: &mut impl FnMut(u64, u32, i64, &[u8]),
    recovery: &mut Recovery,
) -> io::Result<Segment> {
    /// How much is read at a time, in bytes; longer than any record.
    const STEP: usize = 2 * (format::LONGEST + frame::FRAME);
    let mut segment = Segment::new(base);
    segment.bytes = 0;
    let (mut buffer, mut offset, mut marked) = (vec![0; STEP], 0, false);
    loop {
        let read = disk.read_at(path, offset, &mut buffer)?;
        let mut rest: &[u8] = &buffer[..read];
        if !marked {
            let Some(after) = rest.strip_prefix(format::MARK) else { return Ok(segment) };
            rest = after;
            if format::read(&mut rest) != Some(Stored::Head { base }) {
                return Ok(segment);
            }
            (marked, segment.bytes) = (true, format::HEAD_BYTES);
        }
        while let Some(Stored::Record { units, time, data }) = format::read(&mut rest) {
            seen(segment.end(), units, time, data);
            segment.add(units, time, format::record_bytes(data.len()));
            recovery.records += 1;
        }
        offset += (read - rest.len()) as u64;
        if read < buffer.len() || rest.len() == read {
            return Ok(segment);
        }
    }
}
