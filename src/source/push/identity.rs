//! What an upload is called, and what its producer says about it.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::value::RawValue;

/// The id of an upload: from 1 to 255 bytes of UTF-8, without slashes and control characters, and neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(String);

/// The longest id, in bytes.
const LONGEST_ID: usize = 255;

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It is empty or too long.
    #[error("a stream ID has from 1 to {LONGEST_ID} bytes")]
    Length,
    /// It holds what it may not.
    #[error("a stream ID holds no slashes and no control characters, and is neither . nor ..")]
    Characters,
}

impl UploadId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`IdError`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > LONGEST_ID {
            return Err(IdError::Length);
        }
        let bad = |c: char| c.is_control() || c == '/' || c == '\\';
        if text == "." || text == ".." || text.chars().any(bad) {
            return Err(IdError::Characters);
        }
        Ok(Self(text.to_owned()))
    }

    /// A new one that nobody can guess.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a producer says about its stream: JSON, kept as it was written but for characters that no header holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(Arc<str>);

/// Why a text is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It is longer than is allowed.
    #[error("the metadata has {0} bytes, at most {1} are taken")]
    Length(usize, usize),
    /// It is not UTF-8.
    #[error("the metadata is not UTF-8")]
    Encoding,
    /// It is not JSON.
    #[error("the metadata is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Metadata {
    /// Checks metadata of at most so many bytes.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn parse(text: &[u8], most: usize) -> Result<Self, MetadataError> {
        if text.len() > most {
            return Err(MetadataError::Length(text.len(), most));
        }
        let text = str::from_utf8(text).map_err(|_| MetadataError::Encoding)?;
        let value: &RawValue = serde_json::from_str(text)?;
        Ok(Self(ascii(value.get()).into()))
    }

    /// The JSON, in ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON as a value that is written as it is.
    pub fn json(&self) -> Option<&RawValue> {
        serde_json::from_str(&self.0).ok()
    }
}

/// JSON with all that is not ASCII escaped. Such characters stand in texts alone, where an escape means the same.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}' => out.push_str("\\u007f"),
            c if c.is_ascii_control() => out.push(' '),
            c if c.is_ascii() => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out
}
