//! What there is to watch, cut to what a key may see: namespaces, groups, pods and containers.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::PodPermit;
use crate::api::pattern::GroupKind;
use crate::source::pods::{PodIndex, PodInfo};

/// The pods there are, for listing.
#[derive(Clone, Debug)]
pub struct Inventory {
    index: Arc<PodIndex>,
}

impl Inventory {
    /// An inventory of what `index` knows.
    pub fn new(index: Arc<PodIndex>) -> Self {
        Self { index }
    }

    /// Whether the pods are known and watched.
    pub fn is_healthy(&self) -> bool {
        self.index.is_healthy()
    }

    /// The pods that hold a container which `permit` allows, with those containers' names; sorted.
    pub fn pods(&self, permit: &PodPermit) -> Vec<(Arc<PodInfo>, Vec<String>)> {
        let visible = |pod: Arc<PodInfo>| {
            let names = pod.containers.iter().map(|container| &container.name);
            let containers: Vec<String> = names.filter(|name| permit.allows(&pod.facts(), name)).cloned().collect();
            (!containers.is_empty()).then_some((pod, containers))
        };
        let mut pods: Vec<_> = self.index.pods().into_iter().filter_map(visible).collect();
        pods.sort_by(|(a, _), (b, _)| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods
    }

    /// The namespaces of those pods.
    pub fn namespaces(&self, permit: &PodPermit) -> BTreeSet<String> {
        self.pods(permit).into_iter().map(|(pod, _)| pod.namespace.clone()).collect()
    }

    /// The groups of those pods in a namespace.
    pub fn groups(&self, permit: &PodPermit, namespace: &str) -> BTreeSet<(GroupKind, String)> {
        let pods = self.pods(permit).into_iter().filter(|(pod, _)| pod.namespace == namespace);
        pods.flat_map(|(pod, _)| pod.groups.clone()).collect()
    }
}
