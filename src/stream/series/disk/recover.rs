//! Reading what is on disk, after a start.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::super::{SeriesKey, SeriesStore};
use super::format::{self, MARK, Record};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Snapshot,
    Log,
    /// A snapshot that was never complete.
    Unfinished,
}

impl Kind {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Snapshot => "snap",
            Self::Log => "log",
            Self::Unfinished => "tmp",
        }
    }
}

/// One of our files in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) generation: u64,
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// The path of a file.
pub(super) fn path(folder: &Path, generation: u64, kind: Kind) -> PathBuf {
    folder.join(format!("{generation:020}.{}", kind.suffix()))
}

/// Our files in a folder, by generation. Others are left alone.
pub(super) fn files(folder: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, bytes) = (entry.file_name(), entry.metadata()?.len());
        let Some((number, suffix)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let kind = [Kind::Snapshot, Kind::Log, Kind::Unfinished].into_iter().find(|kind| kind.suffix() == suffix);
        let generation = number.parse().ok().filter(|_| number.len() == 20);
        if let (Some(generation), Some(kind)) = (generation, kind) {
            files.push(File { generation, kind, path: entry.path(), bytes });
        }
    }
    files.sort();
    Ok(files)
}

/// What a start found on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were read.
    pub records: u64,
    /// Bytes after the last good record of each file: torn by a crash, or damaged.
    pub damaged: u64,
    /// The number of the newest file.
    pub(super) generation: u64,
    /// Whether a snapshot was not complete, which only a damaged disk explains.
    pub incomplete: bool,
}

/// Reads the newest snapshot and the logs after it into the store.
pub(super) fn recover(folder: &Path, store: &SeriesStore) -> io::Result<Recovery> {
    let files = files(folder)?;
    let snapshot = files.iter().rfind(|file| file.kind == Kind::Snapshot);
    let from = snapshot.map_or(0, |file| file.generation);
    let logs = files.iter().filter(|file| file.kind == Kind::Log && file.generation >= from);
    let generation = files.iter().map(|file| file.generation).max().unwrap_or_default();
    let mut recovery = Recovery { generation, ..Recovery::default() };
    for file in snapshot.into_iter().chain(logs) {
        let bytes = fs::read(&file.path)?;
        let complete = replay(&bytes, store, &mut recovery);
        recovery.incomplete |= file.kind == Kind::Snapshot && !complete;
    }
    Ok(recovery)
}

/// Reads one file; says whether its end was reached as it was written.
fn replay(bytes: &[u8], store: &SeriesStore, recovery: &mut Recovery) -> bool {
    let Some(mut rest) = bytes.strip_prefix(MARK) else {
        recovery.damaged += bytes.len() as u64;
        return false;
    };
    let mut series: HashMap<u32, SeriesKey> = HashMap::new();
    let mut complete = false;
    while let Some(record) = format::read(&mut rest) {
        recovery.records += 1;
        match record {
            Record::Head { .. } => {}
            Record::Series { id, asset, metric } => drop(series.insert(id, SeriesKey::new(asset, metric))),
            Record::Points { time, values } => {
                let known = values.filter_map(|(id, value)| Some((series.get(&id)?, value)));
                store.restore(time, known);
            }
            Record::PointChunk { id, chunk } => {
                series.get(&id).into_iter().for_each(|key| store.restore_points(key, chunk.clone()));
            }
            Record::BucketChunk { id, chunk } => {
                series.get(&id).into_iter().for_each(|key| store.restore_buckets(key, chunk.clone()));
            }
            Record::End => complete = true,
        }
    }
    recovery.damaged += rest.len() as u64;
    complete
}

/// How long what is in a file is kept, as its head says.
pub(super) fn keep(path: &Path) -> Option<Duration> {
    let mut head = [0; 64];
    let mut file = fs::File::open(path).ok()?;
    let mut read = 0;
    while let Ok(more @ 1..) = file.read(&mut head[read..]) {
        read += more;
    }
    match format::read(&mut head[..read].strip_prefix(MARK)?)? {
        Record::Head { keep } => Some(Duration::from_millis(keep)),
        _ => None,
    }
}
