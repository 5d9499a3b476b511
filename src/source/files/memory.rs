//! Positions of files that are not followed now: those of the last run, until their files are found, and those of files
//! that are gone, because they may return.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::checkpoint::Entry;
use super::print::FileId;

/// How long a position is remembered after its file was seen last, in seconds: a week.
const KEPT: u64 = 7 * 24 * 3600;
/// Most positions that are remembered of files that are not followed.
const MOST: usize = 32_768;

#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<u64, Entry>,
    next: u64,
    by_path: HashMap<PathBuf, Vec<u64>>,
    by_inode: HashMap<u64, Vec<u64>>,
}

impl Memory {
    /// Remembers a position. Where there is no room, it is let go.
    pub fn put(&mut self, entry: Entry) {
        if self.entries.len() >= MOST {
            return;
        }
        let key = self.next;
        self.next += 1;
        self.by_path.entry(entry.path.clone()).or_default().push(key);
        self.by_inode.entry(entry.id.ino).or_default().push(key);
        self.entries.insert(key, entry);
    }

    /// Takes all positions of a path, those without a name first: they are older. Those of which nothing was read come last:
    /// their inodes may be other files' by now, which those before can tell.
    pub fn take_path(&mut self, path: &Path) -> Vec<Entry> {
        let keys = self.by_path.get(path).cloned().unwrap_or_default();
        let mut taken: Vec<Entry> = keys.into_iter().filter_map(|key| self.take(key)).collect();
        taken.sort_by_key(|entry| (entry.pos == 0, entry.named));
        taken
    }

    /// Takes the position of a file, whatever it was called: one of its inode for which `is_it` holds.
    pub fn take_file(&mut self, id: FileId, mut is_it: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let keys = self.by_inode.get(&id.ino)?;
        let key = *keys.iter().find(|key| self.entries.get(key).is_some_and(&mut is_it))?;
        self.take(key)
    }

    /// Whether there is a position of this file.
    pub fn knows(&self, id: FileId) -> bool {
        let keys = self.by_inode.get(&id.ino);
        keys.is_some_and(|keys| keys.iter().any(|key| self.entries.get(key).is_some_and(|entry| entry.id == id)))
    }

    /// Takes all.
    pub fn take_all(&mut self) -> Vec<Entry> {
        let mut keys: Vec<u64> = self.entries.keys().copied().collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// All that are worth keeping at `now`, in seconds since the epoch.
    pub fn kept(&self, now: u64) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.seen.saturating_add(KEPT) > now)
    }

    fn take(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        forget(&mut self.by_path, &entry.path, key);
        forget(&mut self.by_inode, &entry.id.ino, key);
        Some(entry)
    }
}

fn forget<K: std::hash::Hash + Eq + Clone>(index: &mut HashMap<K, Vec<u64>>, at: &K, key: u64) {
    if let Some(keys) = index.get_mut(at) {
        keys.retain(|known| *known != key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
