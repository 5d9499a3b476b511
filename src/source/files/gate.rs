//! What may be opened: regular files below the folders that the operator allows, whatever links lead to them.
//!
//! A path is checked after it was opened, by where the opened file really stands: nobody can put a link in its place
//! between the check and the opening. A hard link to a file outside cannot be told from the file itself; who may make
//! one may read the file already (`fs.protected_hardlinks`).

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirEntryExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::source::Allowed;

/// Opens without waiting for the other end of a pipe, and without making a terminal ours (open(2)).
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const FLAGS: i32 = 0o4000 | 0o400;
/// Elsewhere the kind is looked at before a file is opened, and only so.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
const FLAGS: i32 = 0;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The system does not open it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a regular file.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// It stands outside of what the operator allows.
    #[error("it leads out of the folders that the operator allows (--outside-files)")]
    Outside,
}

impl Refusal {
    /// The reason as one word, as docs/sources.md lists them.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => "PermissionDenied",
            Self::Io(error) if is_out_of_files(error) => "TooManyOpenFiles",
            Self::Io(_) => "ReadFailed",
            Self::NotRegular(_) => "NotRegular",
            Self::Outside => "NotAllowed",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self.reason() {
            "PermissionDenied" => "Let the user that Weir runs as read it, and enter its folders",
            "TooManyOpenFiles" => "Raise the limit of open files (ulimit -n)",
            "NotRegular" => "Name files, not folders, pipes or devices",
            "NotAllowed" => "Ask the operator to add the folder, or take the link away",
            _ => "See what the system's own log says of the disk",
        }
    }

    /// Whether there is nothing of that name.
    pub fn is_gone(&self) -> bool {
        let Self::Io(error) = self else { return false };
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }
}

/// EMFILE and ENFILE.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// A name in a folder.
#[derive(Debug)]
pub(super) struct Named {
    pub name: OsString,
    pub ino: u64,
    /// A folder, not a link to one.
    pub is_folder: bool,
    pub is_link: bool,
}

/// Opens what may be opened.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    roots: Option<Vec<PathBuf>>,
}

impl Gate {
    pub fn new(allowed: &Allowed<PathBuf>) -> Self {
        let roots = match allowed {
            Allowed::Everything => None,
            Allowed::Only(roots) => Some(roots.clone()),
        };
        Self { roots }
    }

    /// Whether a folder may hold anything that can be read, as far as its name says: what it really is shows when a file
    /// is opened.
    pub fn may_hold(&self, folder: &Path) -> bool {
        let Some(roots) = &self.roots else { return true };
        let real = folder.canonicalize().ok();
        let below = |folder: &Path, root: &Path| {
            folder.starts_with(root) || root.canonicalize().is_ok_and(|root| folder.starts_with(root))
        };
        roots.iter().any(|root| below(real.as_deref().unwrap_or(folder), root))
    }

    /// Opens a regular file to read it.
    pub fn open(&self, path: &Path) -> Result<(File, Metadata), Refusal> {
        // Opening a device may do something.
        regular(&std::fs::metadata(path)?)?;
        let file = File::options().read(true).custom_flags(FLAGS).open(path)?;
        let about = file.metadata()?;
        regular(&about)?;
        self.inside(&file)?;
        Ok((file, about))
    }

    /// The names in a folder, `most` of them at most; whether that was all.
    pub fn list(&self, folder: &Path, most: usize) -> Result<(Vec<Named>, bool), Refusal> {
        let entries = if self.roots.is_some() {
            let opened = File::options().read(true).custom_flags(FLAGS).open(folder)?;
            self.inside(&opened)?;
            std::fs::read_dir(own_link(&opened))?
        } else {
            std::fs::read_dir(folder)?
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() >= most {
                return Ok((names, false));
            }
            let entry = entry?;
            let Ok(kind) = entry.file_type() else { continue };
            let (is_folder, is_link) = (kind.is_dir(), kind.is_symlink());
            names.push(Named { name: entry.file_name(), ino: entry.ino(), is_folder, is_link });
        }
        Ok((names, true))
    }

    fn inside(&self, opened: &File) -> Result<(), Refusal> {
        let Some(roots) = &self.roots else { return Ok(()) };
        let real = std::fs::read_link(own_link(opened)).map_err(|_| Refusal::Outside)?;
        let below = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
        if roots.iter().any(below) { Ok(()) } else { Err(Refusal::Outside) }
    }
}

/// Where the kernel says by itself what was opened (proc(5)).
fn own_link(opened: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn regular(about: &Metadata) -> Result<(), Refusal> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = about.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Refusal::NotRegular(what))
}
