//! How far each file was read, kept so that a restart of Weir neither loses nor repeats a line.
//!
//! One file for each declared stream, as JSON: written anew beside the old one, made durable, and put in its place, so
//! that a crash at any moment leaves the one or the other. Everything before a position was published; so after a crash
//! what was published since the last writing comes again, and after an orderly end nothing does.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::print::{FileId, Print};
use crate::stream::StreamName;

/// The format that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// The longest file of positions that is read, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// How far one file was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// What it is called, or was last.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub path: PathBuf,
    #[serde(flatten)]
    pub id: FileId,
    /// All before this was published.
    pub pos: u64,
    #[serde(flatten)]
    pub print: Print,
    /// The position stands in the rest of a line that was over the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipping: bool,
    /// When it was last written, in nanoseconds since the epoch.
    pub written: i64,
    /// Whether it still had its name.
    pub named: bool,
    /// When it was last seen, in seconds since the epoch.
    pub seen: u64,
}

/// All positions of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    stream: String,
    /// The paths and globs for which it was written: what others match was there before.
    pub patterns: Vec<String>,
    pub files: Vec<Entry>,
}

/// Where the positions of one stream are kept. Only one at a time holds it, in this process or another.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    file: PathBuf,
    stream: String,
    _lock: File,
}

impl Store {
    /// Takes hold of the positions of a stream; none while another has them.
    pub fn open(folder: &Path, stream: &StreamName) -> io::Result<Option<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut hash = Sha256::new();
        for part in [&stream.namespace, &stream.name] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name = &hex::encode(hash.finalize())[..32];
        let lock = private().create(true).truncate(false).open(folder.join(format!("{name}.lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (folder, file, stream) = (folder.to_owned(), folder.join(format!("{name}.json")), stream.to_string());
        Ok(Some(Self { folder, file, stream, _lock: lock }))
    }

    /// What was saved last; none where nothing ever was. What cannot be read is put aside.
    pub fn load(&self) -> io::Result<Option<Saved>> {
        let length = match fs::metadata(&self.file) {
            Ok(about) => about.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = if length > LONGEST {
            Err(io::Error::other("it is too long"))
        } else {
            let saved = serde_json::from_slice::<Saved>(&fs::read(&self.file)?).map_err(io::Error::other);
            saved.and_then(|saved| match saved.version {
                VERSION => Ok(Some(saved)),
                other => Err(io::Error::other(format!("it is of version {other}, this Weir reads version {VERSION}"))),
            })
        };
        if read.is_err() {
            fs::rename(&self.file, self.file.with_extension("unreadable"))?;
        }
        read
    }

    /// Puts these positions in place of the last ones, durably.
    pub fn save(&self, patterns: &[String], files: Vec<Entry>) -> io::Result<()> {
        let saved = Saved { version: VERSION, stream: self.stream.clone(), patterns: patterns.to_vec(), files };
        let new = self.file.with_extension("new");
        let mut file = private().create(true).truncate(true).open(&new)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        file.sync_data()?;
        fs::rename(&new, &self.file)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Names of files are nobody else's business.
fn private() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// A path as text, where it is that; else as bytes.
fn write_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => path.as_os_str().as_bytes().serialize(serializer),
    }
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Bytes(Vec<u8>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Text(text) => PathBuf::from(text),
        Written::Bytes(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
    })
}
