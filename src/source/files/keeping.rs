//! Keeps positions: takes up those of the last run, and saves those of this one, once a second at most and at the end.

use std::time::{Duration, Instant};

use super::checkpoint::Entry;
use super::follower::Follower;
use super::selection::Selection;
use super::tail::Tail;
use crate::record::{Event, Level, Time};

/// Saving takes at most one part in so many of the time.
const SHARE: u32 = 20;

impl Follower {
    /// Takes up the positions of the last run.
    pub(super) fn remember(&mut self) {
        let Some(store) = &self.store else { return };
        match store.load() {
            Ok(None) => {}
            Ok(Some(saved)) => {
                saved.files.into_iter().for_each(|entry| self.memory.put(entry));
                self.before = Selection::new(&saved.patterns).ok();
            }
            Err(error) => {
                tracing::error!(%error, "positions in files cannot be read; files are begun with anew");
                let text = format!(
                    "The positions of the last run cannot be read ({error}), so files are begun with as if for the first \
                     time: lines written while Weir was away are missing, or all come again with fromStart."
                );
                self.feed.tell(Level::Error, Event::SourceError, None, "PositionsNotReadable", text);
            }
        }
    }

    /// Saves the positions, where something moved and the last time is long enough ago.
    pub(super) fn save_if_due(&mut self, now: Instant) {
        let pause = self.plan.limits.save.max(self.save_took * SHARE);
        if self.moved && now.duration_since(self.saved) >= pause {
            self.save(now);
        }
    }

    /// Saves the positions of all files.
    pub fn save(&mut self, now: Instant) {
        let Some(store) = &self.store else { return };
        let began = Instant::now();
        let seconds = seconds();
        let mut files: Vec<Entry> = self.memory.kept(seconds).cloned().collect();
        let is_over = |tail: &&Tail| !tail.named && tail.turn.drained && tail.half.is_none() && tail.at.pos == 0;
        for tail in self.tails.values().filter(|tail| !is_over(tail)) {
            let mut entry = Self::entry(tail);
            // A copy is gone on with where its original was read to.
            if let Some(original) = tail.turn.copy_of.and_then(|original| self.tails.get(&original)) {
                (entry.pos, entry.print) = (original.at.pos, original.at.print);
            }
            files.push(entry);
        }
        let saved = store.save(self.plan.selection.patterns(), files);
        (self.saved, self.moved) = (now, false);
        self.save_took = began.elapsed().max(Duration::from_millis(1));
        match saved {
            Ok(()) => self.save_failed = false,
            Err(error) => {
                self.moved = true;
                if !std::mem::replace(&mut self.save_failed, true) {
                    tracing::error!(%error, "positions in files cannot be saved");
                    let text = format!(
                        "The positions in files cannot be saved ({error}): after a restart lines may come again. See that \
                         there is room in the folder of state, and that Weir may write there."
                    );
                    self.feed.tell(Level::Error, Event::SourceError, None, "PositionsNotSaved", text);
                }
            }
        }
    }

    /// What is kept of a file.
    pub(super) fn entry(tail: &Tail) -> Entry {
        Entry {
            path: tail.path.to_path_buf(),
            id: tail.id,
            pos: tail.at.pos,
            print: tail.at.print,
            skipping: tail.at.skipping,
            written: tail.known.1,
            named: tail.named,
            seen: seconds(),
        }
    }
}

/// Seconds since the epoch.
fn seconds() -> u64 {
    u64::try_from(Time::now().millis() / 1000).unwrap_or_default()
}
