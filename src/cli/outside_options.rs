//! What of the world outside of Kubernetes subscriptions may reach. Whoever may create one would otherwise read with
//! Weir's rights, so all of it is off until it is opened here.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use super::cluster::path;
use super::problems::Problems;
use crate::source::{Allowed, OutsidePolicy};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Outside of Kubernetes")]
pub(super) struct OutsideArgs {
    /// Folders below which the source `files` may read, separated by commas [default: none]
    #[arg(long, value_name = "FOLDERS", env = "WEIR_OUTSIDE_FILES", hide_env_values = true)]
    outside_files: Option<String>,
    /// Hosts that sources may connect to, such as `logs.example.com`, `*.example.com:443`, separated by commas
    /// [default: none]
    #[arg(long, value_name = "HOSTS", env = "WEIR_OUTSIDE_HOSTS", hide_env_values = true)]
    outside_hosts: Option<String>,
    /// Addresses on which the source `tcp` may listen, such as `0.0.0.0:5140` or `127.0.0.1:*`, separated by commas
    /// [default: none]
    #[arg(long, value_name = "ADDRESSES", env = "WEIR_OUTSIDE_LISTEN", hide_env_values = true)]
    outside_listen: Option<String>,
    /// The socket of the Docker Engine whose containers the source `containers` may read [default: none]
    #[arg(long, value_name = "SOCKET", env = "WEIR_OUTSIDE_DOCKER", hide_env_values = true, value_parser = path())]
    outside_docker: Option<PathBuf>,
}

impl OutsideArgs {
    pub fn check(&self, p: &mut Problems) -> OutsidePolicy {
        let folders = items(self.outside_files.as_deref()).map(PathBuf::from);
        let (absolute, others): (Vec<_>, Vec<_>) = folders.partition(|folder| folder.is_absolute());
        for folder in others {
            p.add(format!("--outside-files: {} is not absolute; begin it with `/`", folder.display()));
        }
        OutsidePolicy {
            files: Allowed::Only(absolute),
            hosts: Allowed::Only(parsed(p, "--outside-hosts", self.outside_hosts.as_deref())),
            docker: self.outside_docker.clone().filter(|socket| !socket.as_os_str().is_empty()),
            listen: Allowed::Only(parsed(p, "--outside-listen", self.outside_listen.as_deref())),
        }
    }
}

/// The items of a list, each read.
pub(super) fn parsed<T: FromStr<Err: Display>>(p: &mut Problems, option: &str, list: Option<&str>) -> Vec<T> {
    let read = |item: String| item.parse().map_err(|error| p.add(format!("{option} names {item:?}: {error}"))).ok();
    items(list).filter_map(read).collect()
}

/// The items of a list with commas.
fn items(list: Option<&str>) -> impl Iterator<Item = String> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}
