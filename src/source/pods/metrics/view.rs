//! What one value stands for, and what that is called.

use crate::api::{CompiledSelection, PodSelection, View};
use crate::record::{Asset, ReadingHead};
use crate::source::pods::PodInfo;

/// Sorts pods and containers into assets.
#[derive(Debug)]
pub(super) struct Viewed {
    view: View,
    selection: CompiledSelection,
    /// The one asset that all values are summed into, where they are.
    sum: Option<Asset>,
    /// Whether names need their namespace in front to be unique.
    qualified: bool,
}

impl Viewed {
    pub fn new(spec: &PodSelection, selection: CompiledSelection, aggregate: bool) -> Self {
        let only = match selection.namespaces.iter().as_slice() {
            [only] => only.literal().map(str::to_owned),
            _ => None,
        };
        let sum = aggregate.then(|| Asset {
            name: name_of_all(spec),
            namespace: only.clone().unwrap_or_default(),
            ..Asset::default()
        });
        Self { view: spec.view, selection, sum, qualified: only.is_none() }
    }

    /// Whether a container is an asset of its own.
    pub fn is_of_containers(&self) -> bool {
        self.view == View::Container && self.sum.is_none()
    }

    /// The asset that a container's values count for, without values. `None` for a pod without a group where groups are
    /// in view.
    pub fn asset(&self, pod: &PodInfo, container: &str) -> Option<Asset> {
        let group = self.group(pod);
        if self.view == View::Group && group.is_none() {
            return None;
        }
        if let Some(sum) = &self.sum {
            return Some(sum.clone());
        }
        let group = group.unwrap_or_default();
        let namespace = pod.namespace.clone();
        let named = |name: &str| if self.qualified { format!("{namespace}/{name}") } else { name.to_owned() };
        Some(match self.view {
            View::Cluster => Asset { name: "cluster".to_owned(), ..Asset::default() },
            View::Namespace => Asset { name: namespace.clone(), namespace, ..Asset::default() },
            View::Group => Asset { name: named(&group), namespace, group, ..Asset::default() },
            View::Pod => Asset { name: named(&pod.name), namespace, group, pod: pod.name.clone(), ..Asset::default() },
            View::Container => Asset {
                name: named(&format!("{}[{container}]", pod.name)),
                namespace,
                group,
                pod: pod.name.clone(),
                container: container.to_owned(),
                ..Asset::default()
            },
        })
    }

    /// Of the groups that a pod belongs to the one that was asked for; else the outermost, which people know.
    fn group(&self, pod: &PodInfo) -> Option<String> {
        let asked = self
            .selection
            .groups
            .iter()
            .find_map(|asked| pod.groups.iter().find(|(kind, name)| asked.matches(*kind, name)));
        let (kind, name) = asked.or(pod.groups.last())?;
        Some(format!("{}+{name}", kind.as_str()))
    }
}

/// What a sum over everything is called: what was asked for, as it was written.
fn name_of_all(spec: &PodSelection) -> String {
    let asked = match spec.view {
        View::Cluster => &[][..],
        View::Namespace => &spec.namespaces,
        View::Group => &spec.groups,
        View::Pod => &spec.pods,
        View::Container => &spec.containers,
    };
    let asked = if asked.is_empty() && spec.view != View::Cluster { &spec.namespaces } else { asked };
    if asked.is_empty() { "cluster".to_owned() } else { asked.join(",") }
}

/// What is the same in all readings of a stream.
pub(super) fn head(spec: &PodSelection, metrics: &[String]) -> ReadingHead {
    ReadingHead {
        names: metrics.to_vec(),
        namespace: spec.namespaces.join(","),
        group: spec.groups.join(","),
        pod: spec.pods.join(","),
        container: spec.containers.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pattern::GroupKind;
    use rstest::rstest;

    fn pod() -> PodInfo {
        PodInfo {
            namespace: "shop".into(),
            name: "cart-5d9-x".into(),
            groups: vec![(GroupKind::ReplicaSet, "cart-5d9".into()), (GroupKind::Deployment, "cart".into())],
            ..PodInfo::default()
        }
    }

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn viewed(view: View, namespaces: &str, groups: &str, aggregate: bool) -> Viewed {
        let spec = PodSelection { view, namespaces: list(namespaces), groups: list(groups), ..PodSelection::default() };
        Viewed::new(&spec, spec.compile().unwrap(), aggregate)
    }

    #[rstest]
    #[case(View::Cluster, "", "", "cluster")]
    #[case(View::Namespace, "", "", "shop")]
    #[case(View::Group, "shop", "", "deployment+cart")]
    #[case(View::Group, "shop", "replica+cart-5d9", "replicaset+cart-5d9")]
    #[case(View::Group, "shop bank", "", "shop/deployment+cart")]
    #[case(View::Pod, "shop", "", "cart-5d9-x")]
    #[case(View::Pod, "s.*", "", "shop/cart-5d9-x")]
    #[case(View::Container, "shop", "", "cart-5d9-x[main]")]
    #[case(View::Container, "", "", "shop/cart-5d9-x[main]")]
    fn an_asset_is_called_as_clients_know_it_and_is_unique(
        #[case] view: View,
        #[case] namespaces: &str,
        #[case] groups: &str,
        #[case] name: &str,
    ) {
        assert_eq!(viewed(view, namespaces, groups, false).asset(&pod(), "main").unwrap().name, name);
    }

    #[rstest]
    #[case(View::Pod, "shop", "", "shop")]
    #[case(View::Group, "shop", "deployment+cart job+x", "deployment+cart,job+x")]
    #[case(View::Namespace, "shop bank", "", "shop,bank")]
    #[case(View::Pod, "", "", "cluster")]
    fn the_sum_of_all_is_called_by_what_was_asked_for(
        #[case] view: View,
        #[case] namespaces: &str,
        #[case] groups: &str,
        #[case] name: &str,
    ) {
        assert_eq!(viewed(view, namespaces, groups, true).asset(&pod(), "main").unwrap().name, name);
    }

    #[test]
    fn a_pod_that_nothing_controls_is_in_no_group() {
        let alone = PodInfo { groups: Vec::new(), ..pod() };
        for aggregate in [false, true] {
            assert_eq!(viewed(View::Group, "shop", "", aggregate).asset(&alone, "main"), None);
        }
        assert!(viewed(View::Pod, "shop", "", false).asset(&alone, "main").is_some());
    }
}
