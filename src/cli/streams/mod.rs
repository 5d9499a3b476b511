//! HTTP streams of a Weir that runs somewhere: `weir push`, `weir spy`, `weir ls`, and `weir tail URL ID`.
//!
//! | file | what it does |
//! |---|---|
//! | `server` | where it is, who asks, and what an answer means |
//! | `retry` | how long it is tried again |
//! | `push` | stdin to an upload, across lost connections |
//! | `kept` | the newest bytes that were sent, for when some must be sent again |
//! | `follow` | an upload to stdout, across lost connections |
//! | `spy`, `list` | everything that flows; what there is |

mod follow;
mod kept;
mod list;
mod push;
mod retry;
mod server;
mod spy;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

pub(super) use follow::{FollowConfig, follow};
pub(super) use list::{ListOptions, list};
pub(super) use push::{PushOptions, push};
pub(super) use server::{Server, parse_id};
pub(super) use spy::{SpyOptions, spy};

use super::CliError;

/// Standard output without a buffer: what comes is for whoever reads now.
struct Output(File);

impl Output {
    fn open() -> Result<Self, CliError> {
        io::stdout().as_fd().try_clone_to_owned().map(|fd| Self(File::from(fd))).map_err(CliError::output)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.0.write_all(bytes).map_err(CliError::output)
    }
}
