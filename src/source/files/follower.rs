//! What stands under which name: sees files come, go, and take each other's names.
//!
//! ```text
//!   a path is seen      nothing known of it        appear: begin it, or go on where it was read to
//!                       the same file              news: there is something to read
//!                       another file               replace: the old one is read to its end first, then this one
//!   a path is gone                                 vanish: its file is read to its end; told once it is gone for good
//! ```
//!
//! It is a plain state machine that waits for nothing but the disk. Time comes from outside. Reading is in `reading`,
//! what continues what in `succession`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Plan;
use super::changes::{Changed, Watches};
use super::checkpoint::Store;
use super::feed::Feed;
use super::gate::Refusal;
use super::memory::Memory;
use super::print::FileId;
use super::reading::OpenFiles;
use super::selection::Selection;
use super::succession::Listing;
use super::tail::{Opened, Position, Scratch, Tail};
use crate::record::{Event, Level, Origin};

/// Most names that are read for one look: a `/**` must not walk a whole disk for ever.
const MOST_NAMES: usize = 1_000_000;

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stand {
    /// This file stands there.
    Followed(FileId),
    /// This file stood there until then; another may take its place at once.
    Leaving(FileId, Instant),
    /// What stands there cannot be read.
    Refused,
    /// Another name of a file that is followed already.
    Twin,
}

/// Follows all files of one source.
pub(super) struct Follower {
    pub(super) plan: Arc<Plan>,
    pub(super) feed: Feed,
    pub(super) scratch: Scratch,
    watches: Watches,
    pub(super) tails: HashMap<FileId, Tail>,
    pub(super) stands: HashMap<Arc<Path>, Stand>,
    pub(super) queue: VecDeque<FileId>,
    pub(super) opened: OpenFiles,
    /// Files that have no name any more, and may still be written to.
    pub(super) nameless: HashSet<FileId>,
    /// Files that end with half a line.
    pub(super) halves: HashSet<FileId>,
    leaving: Vec<Arc<Path>>,
    /// Paths that are links to files: whoever watches their folders is not told of what is written.
    linked: HashSet<Arc<Path>>,
    /// Paths that must be looked at again.
    pub(super) again: Vec<PathBuf>,
    /// How many files are taken for copies.
    pub(super) copies: usize,
    pub(super) memory: Memory,
    /// What the positions of the last run were for; none without positions.
    pub(super) before: Option<Selection>,
    pub(super) listing: Listing,
    pub(super) store: Option<Store>,
    /// Something moved since the positions were saved.
    pub(super) moved: bool,
    pub(super) saved: Instant,
    pub(super) save_took: Duration,
    pub(super) save_failed: bool,
    /// The first look is over: what comes now is new.
    pub(super) begun: bool,
    all_watched: bool,
    looked: Option<Instant>,
    ticked: Option<Instant>,
    told: Told,
}

/// What is told once.
#[derive(Debug, Default)]
struct Told {
    unwatched: bool,
    too_many: bool,
    /// Files and folders that cannot be read, and why.
    refused: HashMap<PathBuf, &'static str>,
    unmatched: Vec<String>,
}

impl Follower {
    /// Nothing is followed yet.
    pub fn new(plan: Arc<Plan>, feed: Feed, watches: Watches, store: Option<Store>, now: Instant) -> Self {
        let scratch = Scratch::new(plan.limit);
        let opened = OpenFiles::new(plan.limits.open_files);
        let mut follower = Self {
            plan,
            feed,
            scratch,
            watches,
            tails: HashMap::new(),
            stands: HashMap::new(),
            queue: VecDeque::new(),
            opened,
            nameless: HashSet::new(),
            halves: HashSet::new(),
            leaving: Vec::new(),
            linked: HashSet::new(),
            again: Vec::new(),
            copies: 0,
            memory: Memory::default(),
            before: None,
            listing: Listing::default(),
            store,
            moved: false,
            saved: now,
            save_took: Duration::ZERO,
            save_failed: false,
            begun: false,
            all_watched: true,
            looked: None,
            ticked: None,
            told: Told::default(),
        };
        follower.remember();
        follower
    }

    /// Looks at what may have changed.
    pub fn look(&mut self, changed: Changed, now: Instant) {
        let due = self.looked.is_none_or(|looked| now.duration_since(looked) >= self.look_every());
        let folder_is_gone = |path: &PathBuf| self.watches.knows(path) && !path.is_dir();
        if due || changed.everything || changed.paths.iter().any(folder_is_gone) {
            self.look_everywhere(now);
            return;
        }
        for path in changed.paths {
            if self.plan.selection.wants(&path) {
                self.look_at(&Arc::from(path), now);
            } else if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
                self.walk(&path, &mut HashSet::new(), now);
            }
        }
        self.settle(now);
    }

    fn look_every(&self) -> Duration {
        if self.all_watched { self.plan.limits.look } else { self.plan.limits.poll }
    }

    /// How long nothing needs to be done, where nothing is told.
    pub fn rest(&self, now: Instant) -> Duration {
        if !self.queue.is_empty() {
            return Duration::ZERO;
        }
        let next =
            self.looked.map_or(Duration::ZERO, |looked| (looked + self.look_every()).saturating_duration_since(now));
        let waits = self.moved && self.store.is_some()
            || !(self.nameless.is_empty() && self.halves.is_empty() && self.leaving.is_empty());
        if waits || !self.linked.is_empty() { next.min(self.plan.limits.poll) } else { next }
    }

    /// Looks at all that is wanted.
    fn look_everywhere(&mut self, now: Instant) {
        self.looked = Some(now);
        self.all_watched = true;
        let plan = Arc::clone(&self.plan);
        let mut seen = HashSet::new();
        for path in plan.selection.plain() {
            self.all_watched &= path.parent().is_some_and(|folder| self.watches.watch(folder));
            seen.insert(Arc::clone(path));
            self.look_at(path, now);
        }
        for base in plan.selection.bases() {
            self.walk(base, &mut seen, now);
        }
        let unseen: Vec<_> = self.stands.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        unseen.iter().for_each(|path| self.look_at(path, now));
        self.settle(now);
        if !std::mem::replace(&mut self.begun, true) {
            self.find_the_lost(now);
        }
        self.tell_watches();
        self.tell_unmatched();
        self.feed.listed();
    }

    /// Looks at all that is wanted below a folder. Each folder is watched before it is read, so that nothing comes
    /// between.
    fn walk(&mut self, folder: &Path, seen: &mut HashSet<Arc<Path>>, now: Instant) {
        let plan = Arc::clone(&self.plan);
        let (mut folders, mut names, mut walked) = (vec![folder.to_owned()], 0, 0);
        while let Some(folder) = folders.pop() {
            if walked >= plan.limits.folders || names >= MOST_NAMES {
                self.tell_too_many("folders", plan.limits.folders);
                return;
            }
            walked += 1;
            self.all_watched &= self.watches.watch(&folder);
            let mut entries = match plan.gate.list(&folder, MOST_NAMES - names) {
                Ok((entries, _)) => entries,
                Err(refusal) if refusal.is_gone() => continue,
                Err(refusal) => {
                    self.tell_unlisted(&folder, &refusal);
                    continue;
                }
            };
            self.told.refused.remove(&folder);
            names += entries.len();
            // A log before its rotated files, which may be copies of it.
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            for entry in entries {
                let path = folder.join(&entry.name);
                if entry.is_folder {
                    if plan.selection.may_be_below(&path) {
                        folders.push(path);
                    }
                } else if plan.selection.wants(&path) {
                    let path: Arc<Path> = Arc::from(path);
                    if entry.is_link {
                        self.linked.insert(Arc::clone(&path));
                    }
                    seen.insert(Arc::clone(&path));
                    self.look_at(&path, now);
                }
            }
        }
    }

    /// Looks at paths whose files took the names of others, or lost theirs.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut most = 16 + 4 * self.stands.len();
        while let Some(path) = self.again.pop()
            && most > 0
        {
            most -= 1;
            self.look_at(&Arc::from(path), now);
        }
        self.again.clear();
    }

    /// Looks at one path that is wanted.
    pub(super) fn look_at(&mut self, path: &Arc<Path>, now: Instant) {
        match std::fs::metadata(path) {
            Ok(about) if about.is_file() => self.see(path, &about, now),
            Ok(_) => {
                self.vanish(path, now);
                // Says what it is, or that it has become a file in this moment.
                if let Err(refusal) = self.plan.gate.open(path) {
                    self.refuse(path, &refusal);
                }
            }
            Err(error) => {
                let refusal = Refusal::Io(error);
                self.vanish(path, now);
                if !refusal.is_gone() {
                    self.refuse(path, &refusal);
                } else if self.stands.get(path) == Some(&Stand::Refused) {
                    self.stands.remove(path);
                    self.told.refused.remove(&**path);
                }
            }
        }
    }

    fn see(&mut self, path: &Arc<Path>, about: &Metadata, now: Instant) {
        let id = FileId::of(about);
        match self.stands.get(path).copied() {
            Some(Stand::Followed(known)) if known == id => self.news(id, about, now),
            Some(Stand::Leaving(known, _)) if known == id && self.tails.contains_key(&id) => {
                self.stands.insert(Arc::clone(path), Stand::Followed(id));
                self.take_name(id, path, now);
                self.enqueue(id);
            }
            Some(Stand::Followed(old) | Stand::Leaving(old, _)) => self.replace(path, old, now),
            Some(Stand::Refused | Stand::Twin) | None => self.appear(path, now),
        }
    }

    fn news(&mut self, id: FileId, about: &Metadata, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        if tail.has_news(about) || tail.turn.refused.is_some() {
            tail.turn.used = now;
            self.enqueue(id);
        }
    }

    /// Opens what stands at a path; none where it cannot be, which is told.
    fn open(&mut self, path: &Arc<Path>, now: Instant) -> Option<Opened> {
        match self.plan.gate.open(path) {
            Ok(opened) => Some(opened),
            Err(refusal) => {
                self.vanish(path, now);
                if !refusal.is_gone() {
                    self.refuse(path, &refusal);
                }
                None
            }
        }
    }

    /// A file stands where nothing stood that could be read.
    fn appear(&mut self, path: &Arc<Path>, now: Instant) {
        let Some(opened) = self.open(path, now) else { return };
        let id = FileId::of(&opened.1);
        if let Some(tail) = self.tails.get(&id) {
            if tail.named && tail.path != *path && is_still(&tail.path, id) {
                self.stands.insert(Arc::clone(path), Stand::Twin);
            } else {
                self.rename(id, path, now);
            }
            return;
        }
        if self.tails.len() >= self.plan.limits.files {
            return self.tell_too_many("files", self.plan.limits.files);
        }
        if path.symlink_metadata().is_ok_and(|about| about.is_symlink()) {
            self.linked.insert(Arc::clone(path));
        }
        let (at, after) = self.beginning(path, &opened, now);
        self.start(path, opened, at, after, now);
    }

    /// Another file stands at a path than before.
    fn replace(&mut self, path: &Arc<Path>, old: FileId, now: Instant) {
        let Some(opened) = self.open(path, now) else { return };
        let id = FileId::of(&opened.1);
        if id == old && self.tails.contains_key(&id) {
            // It came back between two looks.
            self.stands.insert(Arc::clone(path), Stand::Followed(id));
            return self.take_name(id, path, now);
        }
        self.lose_name(old, path, now);
        if self.tails.contains_key(&id) {
            return self.rename(id, path, now);
        }
        let known = self.memory_of(&opened);
        let after = self.predecessors(path, old, now);
        let origin = self.feed.origin(path);
        let text = format!("File ROTATED: {}; the new one is read from its beginning.", path.display());
        self.feed.tell(Level::Info, Event::Restarted, Some(&origin), "Rotated", text);
        self.start(path, opened, known.unwrap_or_default(), after, now);
    }

    /// A file that is followed has taken this name.
    fn rename(&mut self, id: FileId, path: &Arc<Path>, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id) else { return };
        let before = std::mem::replace(&mut tail.path, Arc::clone(path));
        let origin = self.feed.origin(path);
        tail.turn.drained = false;
        tail.turn.next_origin = Some(Arc::clone(&origin));
        self.enter(id, path, &origin);
        self.take_name(id, path, now);
        self.enqueue(id);
        if before != *path {
            self.again.push(before.to_path_buf());
        }
    }

    /// Begins to follow a file that stands at a path.
    fn start(&mut self, path: &Arc<Path>, opened: Opened, at: Position, after: Option<FileId>, now: Instant) {
        let origin = self.feed.origin(path);
        let mut tail = Tail::new(path, Arc::clone(&origin), opened, at, now);
        tail.turn.may_be_copy = at == Position::default();
        let id = tail.id;
        self.insert(tail, after);
        self.enter(id, path, &origin);
    }

    /// A file stands at a path, which is told where none stood there before.
    fn enter(&mut self, id: FileId, path: &Arc<Path>, origin: &Arc<Origin>) {
        let before = self.stands.insert(Arc::clone(path), Stand::Followed(id));
        self.told.refused.remove(&**path);
        if !matches!(before, Some(Stand::Followed(_) | Stand::Leaving(..))) {
            self.feed.added(path, origin);
        }
    }

    pub(super) fn insert(&mut self, tail: Tail, after: Option<FileId>) {
        let id = tail.id;
        self.tails.insert(id, tail);
        self.moved = true;
        let before = after.and_then(|before| self.tails.get_mut(&before));
        if let Some(before) = before.filter(|before| !before.turn.drained) {
            before.turn.next.push(id);
            if let Some(tail) = self.tails.get_mut(&id) {
                tail.turn.after = after;
            }
        }
        self.touch(id);
        self.enqueue(id);
    }

    /// Nothing stands at a path any more, or nothing that can be read.
    fn vanish(&mut self, path: &Arc<Path>, now: Instant) {
        match self.stands.get(path).copied() {
            Some(Stand::Followed(id)) => {
                self.lose_name(id, path, now);
                self.stands.insert(Arc::clone(path), Stand::Leaving(id, now));
                self.leaving.push(Arc::clone(path));
            }
            Some(Stand::Twin) => drop(self.stands.remove(path)),
            Some(Stand::Leaving(..) | Stand::Refused) | None => {}
        }
    }

    /// A file has this name again, or for the first time.
    fn take_name(&mut self, id: FileId, path: &Arc<Path>, now: Instant) {
        if let Some(tail) = self.tails.get_mut(&id) {
            tail.named = true;
            tail.path = Arc::clone(path);
            tail.turn.used = now;
            self.nameless.remove(&id);
            self.moved = true;
        }
    }

    /// A file has this name no more, where it had it. It is read to its end.
    fn lose_name(&mut self, id: FileId, path: &Arc<Path>, now: Instant) {
        let Some(tail) = self.tails.get_mut(&id).filter(|tail| tail.path == *path && tail.named) else { return };
        tail.named = false;
        tail.turn.drained = false;
        tail.turn.used = now;
        self.moved = true;
        if tail.file.is_some() {
            self.nameless.insert(id);
            self.enqueue(id);
        } else {
            // Nothing was written to it for long; should it return, it is known.
            self.forget(id);
        }
    }

    /// Tells of what is gone for good, looks at what nobody tells of, and does what is due.
    pub fn tick(&mut self, now: Instant) {
        if self.ticked.is_some_and(|ticked| now.duration_since(ticked) < self.plan.limits.poll) {
            return;
        }
        self.ticked = Some(now);
        let grace = self.plan.limits.grace;
        let leaving = std::mem::take(&mut self.leaving);
        for path in leaving {
            let Some(Stand::Leaving(id, since)) = self.stands.get(&path).copied() else { continue };
            let tail = self.tails.get(&id);
            let has_more = tail.is_some_and(|tail| tail.path == path && !tail.turn.drained);
            if has_more || now.duration_since(since) < grace {
                self.leaving.push(path);
                continue;
            }
            self.stands.remove(&path);
            self.linked.remove(&path);
            let origin = self.feed.origin(&path);
            self.feed.deleted(&path, &origin);
        }
        let linked: Vec<_> = self.linked.iter().cloned().collect();
        linked.iter().for_each(|path| self.look_at(path, now));
        self.look_at_nameless(now);
        self.give_halves(now);
        self.close_idle(now);
        self.settle(now);
        self.save_if_due(now);
    }

    /// What stands at a path cannot be read; told once for each reason.
    fn refuse(&mut self, path: &Arc<Path>, refusal: &Refusal) {
        let reason = refusal.reason();
        self.stands.entry(Arc::clone(path)).or_insert(Stand::Refused);
        if self.told.refused.insert(path.to_path_buf(), reason) == Some(reason) {
            return;
        }
        tracing::warn!(file = %path.display(), %refusal, "a file cannot be read");
        let remedy = refusal.remedy();
        let text = format!("{} cannot be read: {refusal}. {remedy}; Weir goes on trying.", path.display());
        let origin = self.feed.origin(path);
        self.feed.tell(Level::Error, Event::SourceError, Some(&origin), reason, text);
    }

    fn tell_unlisted(&mut self, folder: &Path, refusal: &Refusal) {
        if self.told.refused.insert(folder.to_owned(), refusal.reason()) != Some(refusal.reason()) {
            let (shown, remedy) = (folder.display(), refusal.remedy());
            tracing::warn!(folder = %shown, %refusal, "a folder cannot be listed");
            let text = format!("The folder {shown} cannot be listed: {refusal}. {remedy}; Weir goes on trying.");
            self.feed.tell(Level::Error, Event::SourceError, None, refusal.reason(), text);
        }
    }

    fn tell_too_many(&mut self, what: &str, most: usize) {
        if !std::mem::replace(&mut self.told.too_many, true) {
            tracing::warn!(what, most, "more is matched than is followed");
            let text = format!("Some files are not followed: a stream follows at most {most} {what}. Match fewer.");
            self.feed.tell(Level::Error, Event::SourceError, None, "TooManyFiles", text);
        }
    }

    fn tell_watches(&mut self) {
        let Some(why) = self.watches.take_failure() else { return };
        if !std::mem::replace(&mut self.told.unwatched, true) {
            let every = self.plan.limits.poll;
            tracing::warn!(%why, ?every, "changes of some files are not told by the system; they are looked at");
            let text = format!(
                "The system does not tell of changes of some files ({why}); Weir looks at them every {every:?}. On Linux, \
                 fs.inotify.max_user_watches and max_user_instances set how much it tells."
            );
            self.feed.tell(Level::Warning, Event::SourceError, None, "NotWatched", text);
        }
    }

    fn tell_unmatched(&mut self) {
        let there = self.stands.iter().filter(|(_, stand)| !matches!(stand, Stand::Leaving(..)));
        let unmatched = self.plan.selection.unmatched(there.map(|(path, _)| &**path));
        let unmatched: Vec<String> = unmatched.into_iter().map(str::to_owned).collect();
        for pattern in unmatched.iter().filter(|pattern| !self.told.unmatched.contains(pattern)) {
            let text = format!("Nothing matches {pattern} yet; what comes is read from its first line.");
            self.feed.tell(Level::Info, Event::Waiting, None, "NoMatch", text);
        }
        self.told.unmatched = unmatched;
    }
}

/// Whether this file still stands at a path.
fn is_still(path: &Path, id: FileId) -> bool {
    std::fs::metadata(path).is_ok_and(|about| FileId::of(&about) == id)
}
