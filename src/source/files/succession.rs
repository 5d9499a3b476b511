//! What continues what: where a file is begun that is seen for the first time, and what must be read before it.
//!
//! ```text
//!   app.log  was rotated while nobody looked, twice:
//!
//!     app.log.2   the file that was read: its rest, from where it was read to
//!     app.log.1   written and rotated in between: all of it, though its name is not wanted
//!     app.log     the new one, from its beginning, once the others were read to their ends
//! ```

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::Entry;
use super::follower::{Follower, Stand};
use super::gate::{Gate, Named};
use super::print::{FileId, STEP, written};
use super::rotation::{Generation, logs_of};
use super::tail::{Opened, Position, Tail, end_of};
use crate::record::{Event, Level, Time};
use crate::stream::segment::fill_at;

/// Most names of one folder among which rotated files are looked for.
const MOST_NAMES: usize = 100_000;
/// Most files that were rotated while nobody looked and are read, the newest.
const MOST_BETWEEN: usize = 64;
/// How much of two files is compared to tell whether one is being copied from the other.
const COMPARED: usize = 1024;

/// The names in one folder, for those who ask again while nothing changes.
#[derive(Debug, Default)]
pub(super) struct Listing {
    folder: PathBuf,
    written: i64,
    at: i64,
    names: Arc<Vec<Named>>,
}

impl Listing {
    /// The names in a folder; none where it cannot be listed.
    fn of(&mut self, folder: &Path, gate: &Gate) -> Arc<Vec<Named>> {
        let changed = std::fs::metadata(folder).map_or(i64::MAX, |about| written(&about));
        let is_whole = self.folder == folder && self.written == changed && changed.saturating_add(STEP) < self.at;
        if !is_whole {
            let at = Time::now().0;
            let names = gate.list(folder, MOST_NAMES).map_or_else(|_| Vec::new(), |(names, _)| names);
            *self = Self { folder: folder.to_owned(), written: changed, at, names: Arc::new(names) };
        }
        Arc::clone(&self.names)
    }
}

/// A file beside a log.
struct Sibling {
    path: PathBuf,
    ino: u64,
    /// Which of the rotated files of the log it is, by its name.
    generation: Option<Generation>,
}

impl Sibling {
    fn open(&self, gate: &Gate) -> Option<Opened> {
        gate.open(&self.path).ok()
    }
}

/// A file after which others may have been rotated.
struct Before {
    /// What it is called by now, where that is known.
    generation: Option<Generation>,
    /// When it was last written.
    written: i64,
    /// How far it was read.
    at: Position,
}

/// Where the log really stands, behind links.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl Follower {
    /// Where to begin in a file that is seen for the first time, and behind which other.
    pub(super) fn beginning(&mut self, path: &Arc<Path>, opened: &Opened, now: Instant) -> (Position, Option<FileId>) {
        if let Some(known) = self.memory_of(opened) {
            return (known, None);
        }
        let (mut last, mut replaced) = (None, false);
        for entry in self.memory.take_path(path) {
            replaced |= entry.named && !self.begun;
            match self.rest_of(&entry, last, now) {
                Some((id, generation)) => {
                    let is_older = entry.pos == 0 && !entry.named;
                    last = last.filter(|_| is_older).or(Some(id));
                    if entry.named {
                        let before = Before { generation, written: entry.written, at: position(&entry) };
                        last = self.between(path, &before, last, now);
                    }
                }
                None if entry.named && entry.pos > 0 && !self.begun => self.tell_gap(path, entry.pos),
                None => {}
            }
        }
        if replaced {
            let text =
                format!("File ROTATED: {}, while it was not followed; the new one is read as well.", path.display());
            let origin = self.feed.origin(path);
            self.feed.tell(Level::Info, Event::Restarted, Some(&origin), "Rotated", text);
        }
        let is_old = !self.begun && !replaced && !self.before.as_ref().is_some_and(|before| before.wants(path));
        let (file, about) = opened;
        let from_end = is_old && !self.plan.from_start;
        let at = if from_end {
            end_of(file, about.len(), &mut self.scratch).unwrap_or_default()
        } else {
            Position::default()
        };
        (at, last)
    }

    /// How far a file was read, where it was read before under whatever name.
    pub(super) fn memory_of(&mut self, opened: &Opened) -> Option<Position> {
        let (file, about) = opened;
        let id = FileId::of(about);
        self.memory.take_file(id, |entry| is_of(entry, file, id)).map(|entry| position(&entry))
    }

    /// What must be read to its end before what took the place of `old` at this path is begun; the last of it.
    pub(super) fn predecessors(&mut self, path: &Arc<Path>, old: FileId, now: Instant) -> Option<FileId> {
        let real = real(path);
        let Some(tail) = self.tails.get(&old) else {
            // It was closed: whatever it holds by now is found again by what is remembered of it.
            let entry = self.memory.take_file(old, |entry| entry.id == old)?;
            let Some((id, generation)) = self.rest_of(&entry, None, now) else {
                self.memory.put(entry);
                return None;
            };
            let before = Before { generation, written: entry.written, at: position(&entry) };
            return self.between(path, &before, Some(id), now);
        };
        let (last, written, at) = ((!tail.turn.drained).then_some(old), tail.known.1, tail.at);
        let mut first = real.clone().into_os_string();
        first.push(".1");
        if std::fs::metadata(&first).is_ok_and(|about| FileId::of(&about) == old) {
            return last;
        }
        let generation = self.siblings(&real).into_iter().find(|sibling| sibling.ino == old.ino);
        let generation = generation.and_then(|sibling| sibling.generation);
        self.between(path, &Before { generation, written, at }, last, now)
    }

    /// Finds the copy of a file that was emptied, and reads what had not been read; what to read to its end first.
    pub(super) fn copied(
        &mut self,
        path: &Arc<Path>,
        id: FileId,
        old: Position,
        written: i64,
        now: Instant,
    ) -> Option<FileId> {
        let real = real(path);
        let ((file, about), generation) = self.copy_of(&real, id.ino, old)?;
        let copy = FileId::of(&about);
        match self.tails.get_mut(&copy) {
            Some(tail) if tail.turn.copy_of == Some(id) || tail.turn.may_be_copy => {
                self.copies -= usize::from(tail.turn.copy_of.take().is_some());
                tail.turn.may_be_copy = false;
                tail.turn.drained = false;
                tail.at = old;
                self.enqueue(copy);
            }
            Some(_) => {}
            None => self.start_nameless(path, (file, about), old, None, now),
        }
        self.between(path, &Before { generation: Some(generation), written, at: old }, Some(copy), now)
    }

    /// The file of which one that was not read yet is a copy, or is becoming one.
    pub(super) fn original(&self, id: FileId) -> Option<FileId> {
        let tail = self.tails.get(&id)?;
        let (file, path) = (tail.file.as_ref()?, &tail.path);
        let length = file.metadata().ok()?.len();
        let is_original = |original: FileId| {
            let Some(original) = self.tails.get(&original).filter(|original| original.id != id) else { return false };
            let at = original.at;
            if at.pos > 0 && at.print.is_of(file, at.pos).unwrap_or(false) {
                return true;
            }
            length < at.pos && original.file.as_ref().is_some_and(|original| begin_alike(file, original))
        };
        logs_of(path).into_iter().find_map(|log| {
            let stands = match self.stands.get(log.as_path()) {
                Some(Stand::Followed(original) | Stand::Leaving(original, _)) => Some(*original),
                _ => None,
            };
            let was_there = |nameless: &&FileId| self.tails.get(nameless).is_some_and(|tail| *tail.path == *log);
            let stood = self.nameless.iter().filter(was_there).copied();
            stands.into_iter().chain(stood).find(|original| is_original(*original))
        })
    }

    /// Looks for what was followed in the last run and stands nowhere now, beside where it stood.
    pub(super) fn find_the_lost(&mut self, now: Instant) {
        for entry in self.memory.take_all() {
            if self.tails.contains_key(&entry.id) {
                continue;
            }
            let wanted = self.plan.selection.wants(&entry.path);
            if !wanted || self.rest_of(&entry, None, now).is_none() {
                self.memory.put(entry);
            }
        }
    }

    /// Reads the rest of a file that was read to a position and stands elsewhere now, or of its copy.
    fn rest_of(&mut self, entry: &Entry, after: Option<FileId>, now: Instant) -> Option<(FileId, Option<Generation>)> {
        let real = real(&entry.path);
        let same = self.siblings(&real).into_iter().filter(|sibling| sibling.ino == entry.id.ino).find_map(|sibling| {
            let opened = sibling.open(&self.plan.gate)?;
            // Nothing was read of it, so that nothing shows that its inode is not another file's by now but its name.
            let trusted = entry.pos > 0 || sibling.generation.is_some();
            (trusted && is_of(entry, &opened.0, FileId::of(&opened.1))).then_some((opened, sibling.generation))
        });
        let copied = || self.copy_of(&real, entry.id.ino, position(entry)).map(|(opened, of)| (opened, Some(of)));
        let found = same.or_else(copied).map(|found| (found, position(entry)));
        let found = found.or_else(|| self.emptied(&real, entry).map(|found| (found, Position::default())));
        let ((opened, generation), at) = found?;
        let id = FileId::of(&opened.1);
        match self.tails.get_mut(&id) {
            // It was seen under its new name, and nothing was read of it yet.
            Some(tail) if tail.turn.may_be_copy => {
                tail.turn.may_be_copy = false;
                tail.at = at;
            }
            Some(_) => {}
            None => self.start_nameless(&Arc::from(entry.path.as_path()), opened, at, after, now),
        }
        Some((id, generation))
    }

    /// The file of an entry where it was emptied, written anew, and then rotated: all of what it holds is new.
    fn emptied(&mut self, real: &Path, entry: &Entry) -> Option<(Opened, Option<Generation>)> {
        let mut rotated = self.siblings(real).into_iter().filter(|one| one.generation.is_some() && entry.named);
        let sibling = rotated.find(|one| one.ino == entry.id.ino)?;
        let opened = sibling.open(&self.plan.gate)?;
        let is_new = FileId::of(&opened.1) == entry.id && written(&opened.1) >= entry.written;
        is_new.then_some((opened, sibling.generation))
    }

    /// The newest rotated file that holds what was read of another one.
    fn copy_of(&mut self, real: &Path, ino: u64, at: Position) -> Option<(Opened, Generation)> {
        if at.pos == 0 {
            return None;
        }
        let mut siblings: Vec<_> =
            self.siblings(real).into_iter().filter(|one| one.generation.is_some() && one.ino != ino).collect();
        siblings.sort_by(|one, other| {
            other.generation.as_ref().map(Generation::age).cmp(&one.generation.as_ref().map(Generation::age))
        });
        siblings.into_iter().find_map(|sibling| {
            let opened = sibling.open(&self.plan.gate)?;
            let is_copy = at.print.is_of(&opened.0, at.pos).unwrap_or(false);
            is_copy.then_some((opened, sibling.generation?))
        })
    }

    /// Reads what was rotated after `before` and before now, oldest first, behind `last`; the last of it. Where it is not
    /// known what `before` is called by now, that is what was written after it. Of a copy of it, what was not read.
    fn between(&mut self, path: &Arc<Path>, before: &Before, mut last: Option<FileId>, now: Instant) -> Option<FileId> {
        let mut found = Vec::new();
        for sibling in self.siblings(&real(path)) {
            let Some(generation) = &sibling.generation else { continue };
            let newer = before.generation.as_ref().map(|than| generation.is_newer(than) == Some(true));
            if newer == Some(false) || self.plan.selection.wants(&sibling.path) {
                continue;
            }
            let Some((file, about)) = sibling.open(&self.plan.gate) else { continue };
            let id = FileId::of(&about);
            let known = self.tails.contains_key(&id) || self.memory.knows(id);
            if !known && about.len() > 0 && (newer == Some(true) || written(&about) > before.written) {
                found.push((generation.clone(), (file, about)));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.age().cmp(&other.age()));
        let too_many = found.len().saturating_sub(MOST_BETWEEN);
        for (_, opened) in found.into_iter().skip(too_many) {
            let id = FileId::of(&opened.1);
            let is_copy = before.at.pos > 0 && before.at.print.is_of(&opened.0, before.at.pos).unwrap_or(false);
            let at = if is_copy { before.at } else { Position::default() };
            self.start_nameless(path, opened, at, last, now);
            last = Some(id);
        }
        last
    }

    /// Reads a file that stands under none of the names that are wanted, as what it was called before.
    fn start_nameless(&mut self, path: &Arc<Path>, opened: Opened, at: Position, after: Option<FileId>, now: Instant) {
        let mut tail = Tail::new(path, self.feed.origin(path), opened, at, now);
        tail.named = false;
        self.nameless.insert(tail.id);
        self.insert(tail, after);
    }

    /// The files in the folder of a log.
    fn siblings(&mut self, real: &Path) -> Vec<Sibling> {
        let (Some(folder), Some(log)) = (real.parent(), real.file_name()) else { return Vec::new() };
        let names = self.listing.of(folder, &self.plan.gate);
        let sibling = |named: &Named| {
            let generation = Generation::of(named.name.as_bytes(), log.as_bytes());
            Sibling { path: folder.join(&named.name), ino: named.ino, generation }
        };
        names.iter().filter(|named| !named.is_folder && !named.is_link).map(sibling).collect()
    }

    fn tell_gap(&self, path: &Path, pos: u64) {
        let shown = path.display();
        tracing::warn!(file = %shown, pos, "a file was replaced while it was not followed; its rest is not found");
        let text = format!(
            "{shown} was emptied or replaced while it was not followed, and what was written to it after byte {pos} is not \
             found beside it: lines may be missing. Keep a rotated file uncompressed (delaycompress) to lose nothing."
        );
        self.feed.tell(Level::Warning, Event::Gap, Some(&self.feed.origin(path)), "Replaced", text);
    }
}

/// How far a file was read.
fn position(entry: &Entry) -> Position {
    Position { pos: entry.pos, print: entry.print, skipping: entry.skipping }
}

/// Whether an opened file is the one that was read. Devices are numbered anew at a start of the machine, so only what was
/// read counts, where anything was.
fn is_of(entry: &Entry, file: &File, id: FileId) -> bool {
    if entry.pos == 0 {
        return entry.id == id;
    }
    entry.id.ino == id.ino && entry.print.is_of(file, entry.pos).unwrap_or(false)
}

/// Whether all that one file holds, as far as it is compared, is what the other begins with.
fn begin_alike(copy: &File, original: &File) -> bool {
    let (mut one, mut other) = ([0; COMPARED], [0; COMPARED]);
    let (Ok(one_len), Ok(other_len)) = (fill_at(copy, &mut one, 0), fill_at(original, &mut other, 0)) else {
        return false;
    };
    one_len > 0 && one_len <= other_len && one[..one_len] == other[..one_len]
}
