//! What rotated files are called, and which of those in a folder continue each other.
//!
//! | written by | `app.log` becomes |
//! |---|---|
//! | logrotate, most libraries | `app.log.1`, then `app.log.2` |
//! | logrotate `dateext`, libraries that rotate by day | `app.log-20261130`, `app.log.2026-11-30_12` |
//! | logrotate `extension`, libraries on Windows, too | `app-20261130.log`, `app.1.log` |
//!
//! Compressed ones are not read: what they hold is told as a gap where it was not read before.

use std::cmp::Reverse;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The longest suffix of digits that is a number of a generation; a longer one is a date.
const MOST_DIGITS: usize = 4;

/// Which of the rotated files of one log a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// The larger, the older.
    Number(u32),
    /// The smaller, the older: digits with separators between.
    Date(Vec<u8>),
}

impl Generation {
    /// The generation that a file of this name is of the log of that name, where it is one.
    pub fn of(name: &[u8], log: &[u8]) -> Option<Self> {
        let behind = |rest: &[u8]| match rest.split_first() {
            Some((b'.' | b'-' | b'_', suffix)) => Self::read(suffix),
            _ => None,
        };
        if let Some(found) = name.strip_prefix(log).and_then(behind) {
            return Some(found);
        }
        let (stem, ending) = log.split_at(log.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0)?);
        behind(name.strip_prefix(stem)?.strip_suffix(ending)?)
    }

    fn read(suffix: &[u8]) -> Option<Self> {
        if !suffix.first()?.is_ascii_digit() {
            return None;
        }
        if suffix.len() <= MOST_DIGITS && suffix.iter().all(u8::is_ascii_digit) {
            return str::from_utf8(suffix).ok()?.parse().ok().map(Self::Number);
        }
        let is_date = |byte: &u8| byte.is_ascii_digit() || b"-_.:TZ".contains(byte);
        suffix.iter().all(is_date).then(|| Self::Date(suffix.to_vec()))
    }

    /// In the order in which they were rotated, those of each kind together.
    pub fn age(&self) -> (bool, Reverse<u32>, &[u8]) {
        match self {
            Self::Number(number) => (false, Reverse(*number), &[]),
            Self::Date(date) => (true, Reverse(0), date),
        }
    }

    /// Whether it was rotated after the other one; none where the two are not of one kind.
    pub fn is_newer(&self, than: &Self) -> Option<bool> {
        match (self, than) {
            (Self::Number(one), Self::Number(other)) => Some(one < other),
            (Self::Date(one), Self::Date(other)) => Some(one > other),
            _ => None,
        }
    }
}

/// The logs of which a file may be a rotated one, by its name.
pub(super) fn logs_of(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let name = name.as_bytes();
    let mut logs = Vec::new();
    for at in (1..name.len()).filter(|at| matches!(name[*at], b'.' | b'-' | b'_')) {
        let plain = name[..at].to_vec();
        let with_ending = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > at);
        let with_ending = with_ending.map(|dot| [&name[..at], &name[dot..]].concat());
        for log in [Some(plain), with_ending].into_iter().flatten() {
            if Generation::of(name, &log).is_some() {
                logs.push(folder.join(std::ffi::OsStr::from_bytes(&log)));
            }
        }
    }
    logs
}
