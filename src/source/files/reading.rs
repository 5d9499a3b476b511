//! Reading: every file that has news takes its turn, a megabyte at most each time, so that a large one does not keep the
//! others waiting. As many files stay open as is allowed; the one that was silent for longest is closed first, and opened
//! again, and known again, when it has news.

use std::collections::BTreeMap;
use std::time::Instant;

use super::follower::Follower;
use super::gate::Refusal;
use super::print::FileId;
use super::tail::{Position, Step};
use crate::record::{Event, Level};

/// Pieces that are read of one file before the next takes its turn.
const PIECES: usize = 4;

/// The files that are open, by when they were used.
#[derive(Debug)]
pub(super) struct OpenFiles {
    most: usize,
    places: BTreeMap<u64, FileId>,
    next: u64,
}

impl OpenFiles {
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), places: BTreeMap::new(), next: 1 }
    }
}

impl Follower {
    /// Has a file take its turn.
    pub(super) fn enqueue(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        let waits = tail.turn.after.is_some() || tail.turn.copy_of.is_some();
        if !waits && !std::mem::replace(&mut tail.turn.queued, true) {
            self.queue.push_back(id);
        }
    }

    /// Reads about so many pieces of what has news, in turn; whether there is more.
    pub fn read(&mut self, pieces: usize, now: Instant) -> bool {
        let mut left = pieces;
        while left > 0
            && let Some(id) = self.queue.pop_front()
        {
            left = left.saturating_sub(self.read_one(id, now));
        }
        self.settle(now);
        !self.queue.is_empty()
    }

    /// One turn of one file; how many pieces were read.
    fn read_one(&mut self, id: FileId, now: Instant) -> usize {
        let Some(tail) = self.tails.get_mut(&id) else { return 1 };
        tail.turn.queued = false;
        if tail.turn.after.is_some() || tail.turn.copy_of.is_some() || !self.is_open(id) || self.is_copy(id) {
            return 1;
        }
        self.touch(id);
        for piece in 1..=PIECES {
            let Some(tail) = self.tails.get_mut(&id) else { return piece };
            let before = tail.at.pos;
            let step = tail.step(&mut self.scratch, &self.feed, now);
            if tail.at.pos != before {
                tail.turn.used = now;
                self.moved = true;
            }
            match step {
                Ok(Step::More) => {}
                Ok(Step::End) => {
                    self.drained(id);
                    return piece;
                }
                Ok(Step::Rewritten) => {
                    self.rewritten(id, now);
                    return piece;
                }
                Err(error) => {
                    self.read_failed(id, &Refusal::Io(error));
                    return piece;
                }
            }
        }
        self.enqueue(id);
        PIECES
    }

    /// A file was read to its end: what waited for that begins.
    fn drained(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.turn.drained = true;
        tail.turn.refused = None;
        if let Some(origin) = tail.turn.next_origin.take() {
            tail.origin = origin;
        }
        if tail.half.is_some() {
            self.halves.insert(id);
        } else {
            self.halves.remove(&id);
        }
        self.release(id);
    }

    /// Lets begin what waited for this file.
    fn release(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        for next in std::mem::take(&mut tail.turn.next) {
            if let Some(tail) = self.tails.get_mut(&next) {
                tail.turn.after = None;
                self.enqueue(next);
            }
        }
    }

    /// The file was emptied, and perhaps written anew. What a copy of it holds is read first.
    fn rewritten(&mut self, id: FileId, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        let (path, old) = (std::sync::Arc::clone(&tail.path), std::mem::take(&mut tail.at));
        tail.turn.drained = false;
        let origin = std::sync::Arc::clone(&tail.origin);
        self.moved = true;
        let written = tail.known.1;
        let copied = self.copied(&path, id, old, written, now);
        let level = if copied.is_some() { Level::Info } else { Level::Warning };
        if let Some(tail) = self.tails.get_mut(&id) {
            match copied {
                Some(_) => tail.half = None,
                // Nobody else holds it any more.
                None => tail.rescue_half(&self.feed),
            }
        }
        let lost = if copied.is_some() {
            "its copy is read to the end first"
        } else {
            "what was written to it in the moment before, and not read, is gone"
        };
        let text = format!("File TRUNCATED: {}; it is read from its beginning, {lost}.", path.display());
        self.feed.tell(level, Event::Restarted, Some(&origin), "Truncated", text);
        self.release_copies(id, old);
        if let Some(last) = copied.filter(|last| !self.waits_for(*last, id))
            && let Some(before) = self.tails.get_mut(&last)
            && !before.turn.drained
        {
            before.turn.next.push(id);
            if let Some(tail) = self.tails.get_mut(&id) {
                tail.turn.after = Some(last);
            }
        }
        self.enqueue(id);
    }

    /// Whether a file is another, or is begun after it.
    fn waits_for(&self, id: FileId, other: FileId) -> bool {
        let mut at = Some(id);
        for _ in 0..self.tails.len() {
            match at {
                Some(id) if id == other => return true,
                Some(id) => at = self.tails.get(&id).and_then(|tail| tail.turn.after),
                None => return false,
            }
        }
        false
    }

    /// Takes a file for a copy of one that is followed, or not: asked before the first of it is read.
    fn is_copy(&mut self, id: FileId) -> bool {
        let Some(tail) = self.tails.get(&id).filter(|tail| tail.turn.may_be_copy) else { return false };
        let is_empty = tail.file.as_ref().and_then(|file| file.metadata().ok()).is_none_or(|about| about.len() == 0);
        if is_empty {
            return false;
        }
        let original = self.original(id);
        let Some(tail) = self.tails.get_mut(&id) else { return false };
        tail.turn.may_be_copy = false;
        tail.turn.copy_of = original;
        self.copies += usize::from(original.is_some());
        original.is_some()
    }

    /// What was taken for copies of a file goes on behind what was read of it, now that the file holds something else.
    pub(super) fn release_copies(&mut self, of: FileId, old: Position) {
        if self.copies == 0 {
            return;
        }
        let copies: Vec<FileId> =
            self.tails.values().filter(|tail| tail.turn.copy_of == Some(of)).map(|tail| tail.id).collect();
        for id in copies {
            if !self.is_open(id) {
                continue;
            }
            let Some(tail) = self.tails.get_mut(&id) else { continue };
            tail.turn.copy_of = None;
            self.copies -= 1;
            let Some(file) = &tail.file else { continue };
            tail.at = match old.print.is_of(file, old.pos) {
                Ok(true) => old,
                // It is no whole copy: nothing of it is read twice.
                _ => super::tail::end_of(file, tail.known.0, &mut self.scratch).unwrap_or_default(),
            };
            self.enqueue(id);
        }
    }

    /// Whether a file is open; it is opened where it is not.
    pub(super) fn is_open(&mut self, id: FileId) -> bool {
        let Some(tail) = self.tails.get_mut(&id) else { return false };
        if tail.file.is_some() {
            return true;
        }
        match self.plan.gate.open(&tail.path) {
            Ok((file, about)) if FileId::of(&about) == id => {
                tail.file = Some(file);
                self.touch(id);
                true
            }
            Ok(_) => {
                self.again.push(tail.path.to_path_buf());
                false
            }
            Err(refusal) if refusal.is_gone() => {
                self.again.push(tail.path.to_path_buf());
                false
            }
            Err(refusal) => {
                self.read_failed(id, &refusal);
                false
            }
        }
    }

    /// Notes that an open file was used, and closes others where too many are open.
    pub(super) fn touch(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id).filter(|tail| tail.file.is_some()) else { return };
        self.opened.places.remove(&tail.turn.place);
        tail.turn.place = self.opened.next;
        self.opened.places.insert(tail.turn.place, id);
        self.opened.next += 1;
        let mut most = self.opened.places.len();
        while self.opened.places.len() > self.opened.most
            && most > 0
            && let Some((_, oldest)) = self.opened.places.pop_first()
        {
            most -= 1;
            self.close_one(oldest);
        }
    }

    /// Closes a file; one without a name is closed only when all of it was read, and is then forgotten.
    fn close_one(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        if tail.named {
            tail.file = None;
            tail.turn.place = 0;
        } else if tail.turn.drained {
            self.forget(id);
        } else {
            tail.turn.place = self.opened.next;
            self.opened.places.insert(tail.turn.place, id);
            self.opened.next += 1;
        }
    }

    /// Closes what nothing was written to for long.
    pub(super) fn close_idle(&mut self, now: Instant) {
        while let Some((_, id)) = self.opened.places.first_key_value()
            && let Some(tail) = self.tails.get(id)
            && tail.named
            && now.duration_since(tail.turn.used) >= self.plan.limits.idle
        {
            let id = *id;
            self.opened.places.pop_first();
            self.close_one(id);
        }
    }

    /// Looks whether files without a name were written to, and lets those go that were silent for long.
    pub(super) fn look_at_nameless(&mut self, now: Instant) {
        let nameless: Vec<FileId> = self.nameless.iter().copied().collect();
        for id in nameless {
            let Some(tail) = self.tails.get_mut(&id) else {
                self.nameless.remove(&id);
                continue;
            };
            let about = tail.file.as_ref().filter(|_| tail.turn.copy_of.is_none());
            let about = about.and_then(|file| file.metadata().ok());
            match about {
                Some(about) if about.len() != tail.known.0 || !tail.turn.drained => {
                    tail.has_news(&about);
                    tail.turn.used = now;
                    self.enqueue(id);
                }
                Some(_) if now.duration_since(tail.turn.used) < self.plan.limits.linger => {}
                Some(_) | None => self.forget(id),
            }
        }
    }

    /// Lets a file go that has no name any more. How far it was read is remembered, because it may return.
    pub(super) fn forget(&mut self, id: FileId) {
        self.give_half(id);
        self.release(id);
        let at = self.tails.get(&id).map(|tail| tail.at);
        at.into_iter().for_each(|at| self.release_copies(id, at));
        let Some(tail) = self.tails.remove(&id) else { return };
        self.opened.places.remove(&tail.turn.place);
        self.nameless.remove(&id);
        self.halves.remove(&id);
        self.copies -= usize::from(tail.turn.copy_of.is_some());
        self.moved = true;
        // Of what nothing was read, nothing shows that it is the same when its inode is seen again.
        if tail.at.pos > 0 {
            self.memory.put(Self::entry(&tail));
        }
    }

    /// Gives out half lines that have not grown for long.
    pub(super) fn give_halves(&mut self, now: Instant) {
        let due = |id: &&FileId| {
            let half = self.tails.get(id).map(|tail| tail.half.as_ref());
            half.is_none_or(|half| half.is_none_or(|half| now.duration_since(half.since) >= self.plan.limits.half))
        };
        let halves: Vec<FileId> = self.halves.iter().filter(due).copied().collect();
        for id in halves {
            self.halves.remove(&id);
            if self.is_open(id) {
                self.give_half(id);
            }
        }
    }

    fn give_half(&mut self, id: FileId) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        match tail.give_half(&mut self.scratch, &self.feed) {
            Ok(true) => {
                self.moved = true;
                if tail.named && !std::mem::replace(&mut tail.turn.told_half, true) {
                    let (shown, wait) = (tail.path.display(), self.plan.limits.half);
                    let text = format!(
                        "The last line of {shown} has had no end for {wait:?}; it is given as it is, and its rest, should \
                         it come, as another line."
                    );
                    self.feed.tell(Level::Info, Event::Waiting, Some(&tail.origin), "HalfLine", text);
                }
            }
            // There is more of it, or it is not there any more.
            Ok(false) => self.enqueue(id),
            Err(error) => self.read_failed(id, &Refusal::Io(error)),
        }
    }

    /// A file cannot be read now; told once for each reason, until it can be.
    fn read_failed(&mut self, id: FileId, refusal: &Refusal) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        tail.file = None;
        self.opened.places.remove(&tail.turn.place);
        // What follows must not wait for what cannot be had.
        let reason = refusal.reason();
        if tail.turn.refused.replace(reason) != Some(reason) {
            let shown = tail.path.display();
            tracing::warn!(file = %shown, %refusal, "a file cannot be read on");
            let text = format!("{shown} cannot be read on: {refusal}. {}; Weir goes on trying.", refusal.remedy());
            self.feed.tell(Level::Error, Event::SourceError, Some(&tail.origin), reason, text);
        }
        self.release(id);
    }
}
