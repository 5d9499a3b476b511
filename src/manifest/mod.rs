//! Objects without a cluster: from one config file, or from a folder of manifests.
//!
//! ```text
//!   config file ─► tree ─► Config ─► Plan ─┐
//!                                          ├─► specs ─► worker::Declared, access::KeyRing
//!   folder ──────► tree ─► objects ────────┘
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`tree`] | YAML in which everything knows its place |
//! | [`place`] | what is wrong with a file, and where |
//! | [`reading`], [`variables`] | values out of a tree, checked; `${NAME}` |
//! | [`config`] | the config file, and what it comes to |
//! | [`held`] | its secrets, which never stand in a spec |
//! | [`folder`] | a folder of manifests: objects, keys, secrets |
//! | [`desired`], [`keeper`] | what both ask for, kept at work |
//! | [`changes`], [`paths`] | when files change; paths and globs |
//! | [`tokens`], [`local_key`] | tokens in files; the key of who watches with a config file |
//! | [`owner`] | what clients may ask of files |
//!
//! Nothing here reads a stream or knows a protocol.

pub mod changes;
pub mod config;
pub mod desired;
pub mod folder;
pub mod held;
pub mod keeper;
pub mod local_key;
pub mod owner;
pub mod paths;
pub mod place;
pub mod reading;
pub mod tokens;
pub mod tree;
pub mod variables;

use std::io::Read as _;
use std::path::Path;

/// The namespace of whatever names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The text of a file, which is not larger than what is read of one.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::Error::other("it is a folder; name a file"));
    }
    let mut bytes = Vec::new();
    file.take(tree::MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8; save it as UTF-8"))
}
