//! Writing: the log that is open, and snapshots that replace what came before it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::{SeriesKey, SeriesStore};
use super::recover::{self, Kind, Recovery, path};
use super::{DiskBudget, format};
use crate::record::Reading;

/// A log shorter than this is never replaced, in bytes.
const SHORT_LOG: u64 = 1024 * 1024;
/// So many series are taken from the store at a time, which others wait for.
const SERIES_AT_A_TIME: usize = 64;
/// More room than this is not kept between two writes, in bytes.
const KEPT_BUFFER: usize = 256 * 1024;

/// The files of one store. One writer at a time.
#[derive(Debug)]
pub struct SeriesLog {
    folder: PathBuf,
    /// How long is kept what is written, for whoever finds the files.
    keep: Duration,
    budget: Arc<DiskBudget>,
    /// What of the budget is taken.
    counted: u64,
    generation: u64,
    /// The log that is written; none before the first snapshot and after a failure.
    file: Option<File>,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// Whether something is on disk only in older files, or only in memory.
    snapshot_due: bool,
    unsynced: bool,
    /// The series that the log knows, by asset and metric.
    ids: HashMap<String, HashMap<String, u32>>,
    next_id: u32,
    buffer: Vec<u8>,
}

/// What was written of some readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Points that are in the log.
    pub points: u64,
    /// Points of series whose names are too long for it.
    pub skipped: u64,
}

impl SeriesLog {
    /// Reads what is in `folder` into the store, which should be empty, and makes the folder where there is none. Writing
    /// begins with the first [`snapshot`](Self::snapshot). `keep` is how long the store keeps anything.
    ///
    /// # Errors
    /// Where the folder cannot be made or read. What is damaged in a file is no error.
    pub fn open(
        folder: &Path,
        keep: Duration,
        budget: Arc<DiskBudget>,
        store: &SeriesStore,
    ) -> io::Result<(Self, Recovery)> {
        fs::create_dir_all(folder)?;
        let recovery = recover::recover(folder, store)?;
        let mut log = Self {
            folder: folder.to_owned(),
            keep,
            budget,
            counted: 0,
            generation: recovery.generation,
            file: None,
            log_bytes: 0,
            snapshot_bytes: 0,
            snapshot_due: true,
            unsynced: false,
            ids: HashMap::new(),
            next_id: 0,
            buffer: Vec::new(),
        };
        log.recount();
        Ok((log, recovery))
    }

    /// Whether a snapshot should be taken: at the start, after a failure, or because the log is long.
    pub fn wants_snapshot(&self) -> bool {
        self.snapshot_due || self.file.is_none() || self.log_bytes > SHORT_LOG.max(self.snapshot_bytes)
    }

    /// Whether readings can be written.
    pub fn is_writable(&self) -> bool {
        self.file.is_some()
    }

    /// Appends readings to the log.
    ///
    /// # Errors
    /// Where there is no log that can be written, or it cannot be written any longer. Then it is given up, and nothing more
    /// is written until a [`snapshot`](Self::snapshot) succeeds.
    pub fn write(&mut self, readings: &[Arc<Reading>]) -> io::Result<Written> {
        let mut written = Written::default();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        for reading in readings {
            self.encode(reading, &mut buffer, &mut written);
        }
        let outcome = self.append(&buffer);
        if buffer.capacity() <= KEPT_BUFFER {
            self.buffer = buffer;
        }
        outcome.map(|()| written).inspect_err(|_| self.give_up())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.unsynced) else { return Ok(()) };
        let outcome = file.sync_data();
        self.unsynced = false;
        // After a sync that failed nobody knows what is on disk.
        outcome.inspect_err(|_| self.give_up())
    }

    /// Begins a new log, writes what the store holds as a snapshot, and deletes everything older.
    ///
    /// # Errors
    /// Where one of that cannot be done; then all older files stay, and it should be tried again later.
    pub fn snapshot(&mut self, store: &SeriesStore) -> io::Result<()> {
        // A log that was begun for a snapshot that failed does for the next one.
        if self.file.is_none() || !self.snapshot_due {
            self.begin_log()?;
        }
        self.snapshot_due = true;
        let unfinished = path(&self.folder, self.generation, Kind::Unfinished);
        let outcome = self.write_snapshot(store, &unfinished);
        if outcome.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let outcome = outcome.and_then(|()| self.delete_older());
        self.recount();
        outcome?;
        self.snapshot_due = false;
        Ok(())
    }

    fn begin_log(&mut self) -> io::Result<()> {
        self.give_up();
        self.generation += 1;
        let path = path(&self.folder, self.generation, Kind::Log);
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        let mut head = Vec::new();
        format::write_head(&mut head, self.keep_millis());
        let begun = self.take(head.len()).and_then(|()| file.write_all(&head));
        let begun = begun.and_then(|()| file.sync_data()).and_then(|()| self.sync_folder());
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            self.recount();
            return Err(error);
        }
        (self.file, self.log_bytes) = (Some(file), head.len() as u64);
        Ok(())
    }

    /// Writes nothing to the log any longer: what stands at its end may be torn.
    fn give_up(&mut self) {
        self.file = None;
        self.unsynced = false;
        self.snapshot_due = true;
        self.ids.clear();
        self.next_id = 0;
        self.recount();
    }

    fn write_snapshot(&mut self, store: &SeriesStore, unfinished: &Path) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).open(unfinished)?;
        let mut buffer = Vec::new();
        format::write_head(&mut buffer, self.keep_millis());
        let (mut id, mut bytes) = (0, 0);
        for keys in store.series().chunks(SERIES_AT_A_TIME) {
            for (key, buckets, points) in store.everything(keys) {
                if format::write_series(&mut buffer, id, key) {
                    buckets.iter().for_each(|chunk| format::write_bucket_chunk(&mut buffer, id, chunk));
                    points.iter().for_each(|chunk| format::write_point_chunk(&mut buffer, id, chunk));
                    id += 1;
                }
            }
            self.take(buffer.len())?;
            file.write_all(&buffer)?;
            bytes += buffer.len() as u64;
            buffer.clear();
        }
        format::write_end(&mut buffer);
        self.take(buffer.len())?;
        file.write_all(&buffer)?;
        file.sync_all()?;
        fs::rename(unfinished, path(&self.folder, self.generation, Kind::Snapshot))?;
        self.sync_folder()?;
        self.snapshot_bytes = bytes + buffer.len() as u64;
        Ok(())
    }

    fn delete_older(&self) -> io::Result<()> {
        let older = |file: &recover::File| file.generation < self.generation || file.kind == Kind::Unfinished;
        let files = recover::files(&self.folder)?;
        files.iter().filter(|file| older(file)).try_for_each(|file| fs::remove_file(&file.path))
    }

    fn encode(&mut self, reading: &Reading, out: &mut Vec<u8>, written: &mut Written) {
        let mut values = Vec::new();
        for asset in reading.assets() {
            for (metric, value) in reading.head().names.iter().zip(&asset.values) {
                let Some(value) = value else { continue };
                match self.id(&asset.name, metric, out) {
                    Some(id) => values.push((id, *value)),
                    None => written.skipped += 1,
                }
            }
        }
        written.points += values.len() as u64;
        format::write_points(out, reading.time().millis(), &values);
    }

    /// The number of a series in this log, which is told to it before its first use.
    fn id(&mut self, asset: &str, metric: &str, out: &mut Vec<u8>) -> Option<u32> {
        if let Some(id) = self.ids.get(asset).and_then(|metrics| metrics.get(metric)) {
            return Some(*id);
        }
        let (id, next) = (self.next_id, self.next_id.checked_add(1)?);
        if !format::write_series(out, id, &SeriesKey::new(asset, metric)) {
            return None;
        }
        self.next_id = next;
        self.ids.entry(asset.to_owned()).or_default().insert(metric.to_owned(), id);
        Some(id)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let broken = || io::Error::new(io::ErrorKind::NotConnected, "there is no log; a snapshot must succeed first");
        let file = self.file.as_mut().ok_or_else(broken)?;
        self.budget.take(bytes.len() as u64)?;
        self.counted += bytes.len() as u64;
        file.write_all(bytes)?;
        self.unsynced = true;
        self.log_bytes += bytes.len() as u64;
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        self.budget.take(bytes as u64)?;
        self.counted += bytes as u64;
        Ok(())
    }

    /// Counts what is really there, after something went away or wrong.
    fn recount(&mut self) {
        let files = recover::files(&self.folder).unwrap_or_default();
        let bytes = files.iter().map(|file| file.bytes).sum();
        self.budget.give_back(self.counted);
        self.budget.count(bytes);
        self.counted = bytes;
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn keep_millis(&self) -> u64 {
        u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for SeriesLog {
    fn drop(&mut self) {
        self.budget.give_back(self.counted);
    }
}
