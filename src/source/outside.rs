//! The world outside of Kubernetes: what of it sources may reach, and what they need to reach it.
//!
//! In a cluster every such source is off until the operator's own configuration opens it, because whoever may create a
//! subscription would otherwise read with Weir's rights. Without a cluster the person who starts Weir answers for it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::api::host::{HostPattern, ListenPattern};
use crate::api::{NoSecrets, SecretReader};
use crate::telemetry::Metrics;

/// What of the outside world sources may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsidePolicy {
    /// The folders below which files may be read, after links are resolved.
    pub files: Allowed<PathBuf>,
    /// The hosts to which connections may be made, as `host`, `host:port`, `*.example.com` or `*.example.com:443`.
    pub hosts: Allowed<HostPattern>,
    /// The socket of the Docker Engine whose containers may be read; none where none may.
    pub docker: Option<PathBuf>,
    /// The addresses on which connections may be accepted, as `host:port` or `host:*`.
    pub listen: Allowed<ListenPattern>,
}

/// A list of what is allowed, or no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// There is no cluster: whoever starts Weir may do all this anyway.
    Everything,
    /// Nothing but these.
    Only(Vec<T>),
}

impl OutsidePolicy {
    /// Nothing may be reached: what holds in a cluster until the operator's configuration says otherwise.
    pub fn closed() -> Self {
        Self { files: Allowed::Only(vec![]), hosts: Allowed::Only(vec![]), docker: None, listen: Allowed::Only(vec![]) }
    }

    /// Everything may be reached that the process can reach, and the Docker Engine at this socket.
    pub fn open(docker: Option<PathBuf>) -> Self {
        Self { files: Allowed::Everything, hosts: Allowed::Everything, docker, listen: Allowed::Everything }
    }
}

/// What sources outside of Kubernetes are made with.
#[derive(Clone)]
pub struct Outside {
    /// What may be reached.
    pub policy: Arc<OutsidePolicy>,
    /// Where secrets come from.
    pub secrets: Arc<dyn SecretReader>,
    /// The folder for positions in files, which must survive a restart; none to begin anew each time.
    pub checkpoints: Option<PathBuf>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Outside {
    /// A world of which nothing may be reached, without secrets and without memory.
    pub fn closed(metrics: Arc<Metrics>) -> Self {
        Self { policy: Arc::new(OutsidePolicy::closed()), secrets: Arc::new(NoSecrets), checkpoints: None, metrics }
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("policy", &self.policy)
            .field("checkpoints", &self.checkpoints)
            .finish_non_exhaustive()
    }
}
