//! A disk in memory that crashes, fails and fills up when a test wants it to.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stream::segment::{Disk, DiskFile};

#[derive(Debug, Default)]
struct Stored {
    bytes: Vec<u8>,
    /// How much of it would survive.
    durable: usize,
    /// Whether its name would.
    named: bool,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<PathBuf, Stored>,
    /// So many bytes more can be written.
    room: Option<usize>,
    /// Appends are torn after so many bytes, once.
    tear_after: Option<usize>,
    fail_sync: bool,
    /// Counts crashes: who wrote before one writes nothing after it.
    life: u64,
}

#[derive(Clone, Debug, Default)]
pub struct CrashingDisk(Arc<Mutex<State>>);

impl CrashingDisk {
    /// Forgets what was not made durable, but for a part of it that happened to be written.
    pub fn crash(&self, mut kept: impl FnMut(usize) -> usize) {
        let mut state = self.0.lock();
        state.life += 1;
        (state.room, state.tear_after, state.fail_sync) = (None, None, false);
        state.files.retain(|_, file| file.named || kept(1) == 1);
        for file in state.files.values_mut() {
            let lost = file.bytes.len() - file.durable;
            let kept = kept(lost).min(lost);
            file.bytes.truncate(file.durable + kept);
            (file.durable, file.named) = (file.bytes.len(), true);
        }
    }

    pub fn leave_room(&self, bytes: Option<usize>) {
        self.0.lock().room = bytes;
    }

    pub fn tear_next_append(&self, after: usize) {
        self.0.lock().tear_after = Some(after);
    }

    pub fn fail_next_sync(&self) {
        self.0.lock().fail_sync = true;
    }

    pub fn damage(&self, path: &Path, at: usize) {
        if let Some(byte) = self.0.lock().files.get_mut(path).and_then(|file| file.bytes.get_mut(at)) {
            *byte ^= 0x41;
        }
    }

    pub fn cut(&self, path: &Path, at: usize) {
        if let Some(file) = self.0.lock().files.get_mut(path) {
            file.bytes.truncate(at);
        }
    }

    pub fn length(&self, path: &Path) -> usize {
        self.0.lock().files.get(path).map_or(0, |file| file.bytes.len())
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = self.0.lock().files.keys().cloned().collect();
        paths.sort();
        paths
    }

    /// The same contents on another disk.
    pub fn copy(&self) -> Self {
        let copy = |(path, file): (&PathBuf, &Stored)| {
            let file = Stored { bytes: file.bytes.clone(), durable: file.bytes.len(), named: true };
            (path.clone(), file)
        };
        let files = self.0.lock().files.iter().map(copy).collect();
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for CrashingDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock();
        let inside = state.files.iter().filter(|(path, _)| path.parent() == Some(folder));
        Ok(inside
            .map(|(path, file)| (path.file_name().unwrap().to_str().unwrap().to_owned(), file.bytes.len() as u64))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let named = state.files.get(path).is_some_and(|file| file.named);
        state.files.insert(path.to_owned(), Stored { named, ..Stored::default() });
        Ok(Box::new(Handle { disk: self.clone(), path: path.to_owned(), life: state.life }))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.0.lock();
        let bytes = &state.files.get(path).ok_or_else(gone)?.bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.files.get_mut(path).ok_or_else(gone)?;
        file.bytes.truncate(length as usize);
        file.durable = file.durable.min(file.bytes.len());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.files.remove(from).ok_or_else(gone)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state
            .files
            .iter_mut()
            .filter(|(path, _)| path.parent() == Some(folder))
            .for_each(|(_, file)| file.named = true);
        Ok(())
    }
}

#[derive(Debug)]
struct Handle {
    disk: CrashingDisk,
    path: PathBuf,
    life: u64,
}

impl DiskFile for Handle {
    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        let mut state = self.disk.0.lock();
        assert_eq!(state.life, self.life, "a dead process writes nothing");
        let torn = state.tear_after.take();
        let fits = state.room.unwrap_or(usize::MAX).min(torn.unwrap_or(usize::MAX)).min(bytes.len());
        state.room = state.room.map(|room| room - fits);
        state.files.get_mut(&self.path).ok_or_else(gone)?.bytes.extend_from_slice(&bytes[..fits]);
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if std::mem::take(&mut state.fail_sync) {
            return Err(io::Error::other("the disk failed"));
        }
        let file = state.files.get_mut(&self.path).ok_or_else(gone)?;
        file.durable = file.bytes.len();
        Ok(())
    }
}
