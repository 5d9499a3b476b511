//! From rows to assets.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;

use super::super::board::{Board, Known, Seen};
use super::super::catalogue::Catalogue;
use super::super::nodes::Capacity;
use super::super::samples::NodePage;
use crate::api::pattern::GroupKind;
use crate::api::{PodSelection, View};
use crate::record::{Asset, ContainerKind, Time};
use crate::source::pods::{ContainerInfo, PodInfo};

const GIB: f64 = 1_073_741_824.0;

/// A small cluster, whose nodes give pages.
#[derive(Default)]
struct Small {
    catalogue: Catalogue,
    pods: Vec<Seen>,
    pages: HashMap<Arc<str>, Arc<NodePage>>,
    nodes: Vec<Arc<str>>,
}

impl Small {
    fn pod(&mut self, node: &str, group: &str, name: &str, containers: &[&str]) {
        let regular = |name: &&str| ContainerInfo { name: (*name).into(), ..ContainerInfo::default() };
        let pod = PodInfo {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            node: node.into(),
            groups: vec![(GroupKind::StatefulSet, group.into())],
            containers: containers.iter().map(regular).collect(),
            ..PodInfo::default()
        };
        assert_eq!(pod.containers.first().map_or(ContainerKind::Regular, |c| c.kind), ContainerKind::Regular);
        let containers = containers.iter().map(|name| (*name).to_owned()).collect();
        self.pods.push(Seen { pod: Arc::new(pod), containers, whole: true });
        if !self.nodes.iter().any(|known| **known == *node) {
            self.nodes.push(node.into());
        }
    }

    fn page(&mut self, node: &str, rows: &str) {
        let page = NodePage::read(rows.as_bytes(), Time(0), &self.catalogue);
        self.pages.insert(node.into(), Arc::new(page));
    }

    fn round(&self, board: &mut Board) -> Vec<Asset> {
        let each = Capacity { cpu: Some(4.0), memory: Some(8.0 * GIB) };
        let known = Known {
            pages: &self.pages,
            capacities: &self.nodes.iter().map(|node| (Arc::clone(node), each)).collect(),
            cluster: Capacity::sum(self.nodes.iter().map(|_| each)),
            nodes: &self.nodes,
            names: &self.catalogue,
        };
        board.round(&self.pods, &known)
    }
}

fn board(view: View, aggregate: bool, metrics: &[&str]) -> Board {
    let spec = PodSelection { view, namespaces: vec!["shop".into()], ..PodSelection::default() };
    let metrics: Vec<_> = metrics.iter().map(|name| (*name).to_owned()).collect();
    Board::new(&spec, spec.compile().unwrap(), &metrics, aggregate)
}

fn row(metric: &str, pod: &str, container: &str, value: f64, second: u32) -> String {
    format!(
        "{metric}{{container=\"{container}\",id=\"/{pod}/{container}\",namespace=\"shop\",pod=\"{pod}\"}} {value} {second}000\n"
    )
}

fn table(assets: &[Asset]) -> Vec<(&str, Option<f64>)> {
    assets.iter().map(|asset| (asset.name.as_str(), asset.values[0])).collect()
}

/// One metric at second 0 and at second 10, for the views.
#[rstest]
// Each second 0.5 cores of 4 for `a`, 0.25 and 0.25 for the two of `b`.
#[case("kwirth_container_cpu_percentage", View::Pod, vec![("a", 12.5), ("b", 12.5)])]
#[case("kwirth_container_cpu_percentage", View::Container, vec![("a[main]", 12.5), ("b[main]", 6.25), ("b[side]", 6.25)])]
#[case("kwirth_container_cpu_percentage", View::Group, vec![("statefulset+g", 12.5), ("statefulset+h", 12.5)])]
#[case("kwirth_container_cpu_percentage", View::Namespace, vec![("shop", 25.0)])]
#[case("kwirth_cluster_container_cpu_percentage", View::Cluster, vec![("cluster", 12.5)])]
#[case("container_cpu_usage_seconds_total:rate", View::Pod, vec![("a", 0.5), ("b", 0.5)])]
// 2 GiB of 8 for `a`, 1 GiB for `b`.
#[case("kwirth_container_memory_percentage", View::Pod, vec![("a", 25.0), ("b", 12.5)])]
#[case("kwirth_cluster_container_memory_percentage", View::Namespace, vec![("shop", 18.75)])]
// 1,000,000 bytes a second are 8 megabits; 3,000,000 are 24.
#[case("kwirth_container_transmit_mbps", View::Pod, vec![("a", 8.0), ("b", 24.0)])]
#[case("kwirth_cluster_container_transmit_mbps", View::Namespace, vec![("shop", 32.0)])]
// On the node of `a` another pod, which is not selected, sends 4,000,000 bytes a second.
#[case("kwirth_container_transmit_percentage", View::Pod, vec![("a", 20.0), ("b", 100.0)])]
#[case("kwirth_cluster_container_transmit_percentage", View::Pod, vec![("a", 12.5), ("b", 37.5)])]
// 125,000 bytes a second are one megabit.
#[case("kwirth_container_write_mbps", View::Pod, vec![("a", 1.0), ("b", 2.0)])]
fn the_value_is_in_the_unit_that_the_name_says(
    #[case] metric: &str,
    #[case] view: View,
    #[case] expected: Vec<(&str, f64)>,
) {
    let mut small = Small::default();
    small.pod("one", "g", "a", &["main"]);
    small.pod("two", "h", "b", &["main", "side"]);
    let mut board = board(view, false, &[metric]);
    for second in [100, 110] {
        let grown = f64::from(second);
        let mut one = row("container_cpu_usage_seconds_total", "a", "main", 0.5 * grown, second);
        one += &row("container_memory_working_set_bytes", "a", "main", 2.0 * GIB, second);
        one += &row("container_network_transmit_bytes_total", "a", "", 1e6 * grown, second);
        one += &row("container_network_transmit_bytes_total", "other", "POD", 4e6 * grown, second);
        one += &row("container_fs_writes_bytes_total", "a", "main", 125e3 * grown, second);
        small.page("one", &one);
        let mut two = row("container_cpu_usage_seconds_total", "b", "main", 0.25 * grown, second);
        two += &row("container_cpu_usage_seconds_total", "b", "side", 0.25 * grown, second);
        two += &row("container_memory_working_set_bytes", "b", "main", GIB, second);
        two += &row("container_network_transmit_bytes_total", "b", "", 3e6 * grown, second);
        // Where there is no file system metric, the device's stands in.
        let blkio = "container_blkio_device_usage_total_write";
        two += &row(blkio, "b", "main", 250e3 * grown, second);
        small.page("two", &two);
        let assets = small.round(&mut board);
        if second == 110 {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, Some(*value))).collect();
            assert_eq!(table(&assets), expected, "{metric}");
        }
    }
}

#[test]
fn the_first_round_has_no_rates_and_all_else() {
    let mut small = Small::default();
    small.pod("one", "g", "a", &["main"]);
    small.page("one", &(row("container_cpu_usage_seconds_total", "a", "main", 5.0, 1)));
    let mut board =
        board(View::Pod, false, &["container_cpu_usage_seconds_total:rate", "container_cpu_usage_seconds_total"]);
    assert_eq!(small.round(&mut board)[0].values, [None, Some(5.0)]);
}

#[test]
fn what_is_missing_is_absent_and_the_known_parts_are_summed() {
    let mut small = Small::default();
    small.pod("one", "g", "a", &["main", "side"]);
    small.pod("away", "g", "b", &["main"]);
    small.page("one", &row("container_threads", "a", "main", 3.0, 1));
    let metrics = ["container_threads", "container_sockets"];
    let group = small.round(&mut board(View::Group, false, &metrics));
    assert_eq!(group[0].values, [Some(3.0), None]);
    let containers = small.round(&mut board(View::Container, false, &metrics));
    assert_eq!(table(&containers), [("a[main]", Some(3.0)), ("a[side]", None), ("b[main]", None)]);
}

#[test]
fn the_network_counts_only_where_the_whole_pod_may_be_seen() {
    let mut small = Small::default();
    small.pod("one", "g", "a", &["main"]);
    small.pod("one", "g", "b", &["main", "side"]);
    small.page("one", &["a", "b"].map(|pod| row("container_network_receive_bytes_total", pod, "", 7.0, 1)).concat());
    let metrics = ["container_network_receive_bytes_total"];
    let pods = small.round(&mut board(View::Pod, false, &metrics));
    assert_eq!(table(&pods), [("a", Some(7.0)), ("b", Some(7.0))]);
    let containers = small.round(&mut board(View::Container, false, &metrics));
    assert_eq!(table(&containers), [("a[main]", Some(7.0)), ("b[main]", None), ("b[side]", None)]);
    small.pods[1].whole = false;
    let pods = small.round(&mut board(View::Pod, false, &metrics));
    assert_eq!(table(&pods), [("a", Some(7.0)), ("b", None)]);
}

#[test]
fn a_share_of_the_clusters_traffic_is_absent_while_a_node_is_not_known() {
    let mut small = Small::default();
    small.pod("one", "g", "a", &["main"]);
    small.pod("away", "g", "b", &["main"]);
    let metrics = ["kwirth_container_transmit_percentage", "kwirth_cluster_container_transmit_percentage"];
    let mut board = board(View::Pod, false, &metrics);
    for second in [1, 2] {
        small.page("one", &row("container_network_transmit_bytes_total", "a", "", f64::from(second), second));
        let assets = small.round(&mut board);
        if second == 2 {
            assert_eq!(assets[0].values, [Some(100.0), None]);
        }
    }
}

/// A value for some containers of some pods, or none: node, group, and the values of up to three containers.
fn pods() -> impl Strategy<Value = Vec<(bool, bool, Vec<Option<u16>>)>> {
    let containers = prop::collection::vec(prop::option::weighted(0.8, any::<u16>()), 1..4);
    prop::collection::vec((any::<bool>(), any::<bool>(), containers), 0..20)
}

proptest! {
    /// However containers lie in pods, groups and nodes: the sum over what is seen is one and the same.
    #[test]
    fn containers_pods_groups_and_everything_add_up(pods in pods()) {
        let mut small = Small::default();
        let mut rows: BTreeMap<&str, String> = BTreeMap::new();
        for (at, (node, group, containers)) in pods.iter().enumerate() {
            let (node, group) = (if *node { "one" } else { "two" }, if *group { "g" } else { "h" });
            let (name, all) = (format!("p{at}"), ["a", "b", "c"]);
            small.pod(node, group, &name, &all[..containers.len()]);
            for (container, value) in all.iter().zip(containers) {
                if let Some(value) = value {
                    let _ = write!(rows.entry(node).or_default(), "{}", row("m", &name, container, f64::from(*value), 1));
                }
            }
        }
        for (node, rows) in rows {
            small.page(node, &rows);
        }
        let known: Vec<f64> = pods.iter().flat_map(|(_, _, all)| all).flatten().map(|value| f64::from(*value)).collect();
        let expected = (!known.is_empty()).then(|| known.iter().sum::<f64>());
        for view in [View::Container, View::Pod, View::Group, View::Namespace, View::Cluster] {
            for aggregate in [false, true] {
                let assets = small.round(&mut board(view, aggregate, &["m"]));
                let values: Vec<f64> = assets.iter().filter_map(|asset| asset.values[0]).collect();
                let sum = (!values.is_empty()).then(|| values.iter().sum::<f64>());
                prop_assert_eq!(sum, expected);
                prop_assert!(!aggregate || assets.len() <= 1);
            }
        }
    }
}
