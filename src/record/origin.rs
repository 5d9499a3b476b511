//! Who wrote a record.

/// Which of a pod's three lists a container stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerKind {
    /// Runs before the others start.
    Init,
    /// An ordinary container.
    #[default]
    Regular,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// Who wrote a record: one run of one container, or its likeness for sources outside Kubernetes.
///
/// An origin is made once per upstream and shared by all of its batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The pod's namespace; empty outside Kubernetes.
    pub namespace: String,
    /// The pod's name; outside Kubernetes, the host or the remote end.
    pub pod: String,
    /// The container's name; outside Kubernetes, the file, stream or connection.
    pub container: String,
    /// The pod's UID: two pods of one name are two origins.
    pub pod_uid: String,
    /// The runtime's id of this run of the container: it changes when the container restarts.
    pub container_id: String,
    /// The node the pod runs on.
    pub node: String,
}

/// A container as commands and specs name it: `pod+container`.
pub fn node_name(pod: &str, container: &str) -> String {
    format!("{pod}+{container}")
}

impl Origin {
    /// `namespace/pod/container`, as it is shown to people.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.pod, self.container)
    }
}
