//! The disk as the log sees it: a few calls on files that only grow. Tests put one in its place that crashes.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What a log asks of a disk. Every call may wait.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// The names and lengths of the files in a folder, which is made where there is none.
    ///
    /// # Errors
    /// What the system says; so everywhere below.
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>>;

    /// A new and empty file to write to, in place of one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Reads into `buffer` from an offset on, as much as there is; how much that was.
    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Cuts the end of a file off, durably.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;

    /// Deletes a file; one that is not there is deleted already.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of one that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is written, from its beginning to its end.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Appends all bytes of the parts, one part after the other. After an error nobody knows how many of them are there.
    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Makes what was appended durable. After an error nobody knows what is.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
                files.push((name, about.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(File::options().write(true).create(true).truncate(true).open(path)?)))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        fill_at(&File::open(path)?, buffer, offset)
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = File::options().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// Reads from an offset on until the buffer is full or the file ends; how much that was.
///
/// # Errors
/// What the system says, save that it was interrupted.
pub fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        // Takes off what is empty.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.0.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
