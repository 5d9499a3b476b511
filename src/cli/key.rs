//! The access key that a command presents: from a file or from the environment, never from an argument, which other users
//! of the machine can read.

use std::io::Read as _;
use std::path::Path;

use super::problems::Problems;
use crate::access::Token;

/// Bytes of a key file that are read at most; the longest key is shorter.
const KEY_FILE_BYTES: u64 = 64 * 1024;
const REMEDY: &str = "set WEIR_KEY, or name a file with --key-file (- for stdin)";

/// The key in the file (`-` is stdin), or in the variable `WEIR_KEY` where no file is named. An empty path is none.
pub(super) fn read(file: Option<&Path>) -> Result<Token, Problems> {
    let text = text(file.filter(|path| !path.as_os_str().is_empty()))?;
    Token::parse(&text).map_err(|error| Problems::one(format!("the key cannot be used: {error}; {REMEDY}")))
}

fn text(file: Option<&Path>) -> Result<String, Problems> {
    let read = match file {
        None => return std::env::var("WEIR_KEY").map_err(|_| Problems::one(format!("no key is given; {REMEDY}"))),
        Some(path) if path == Path::new("-") => bounded(std::io::stdin().lock()),
        Some(path) => std::fs::File::open(path).and_then(bounded),
    };
    read.map_err(|error| Problems::one(format!("--key-file cannot be read: {error}; {REMEDY}")))
}

fn bounded(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(KEY_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
