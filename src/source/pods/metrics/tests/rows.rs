//! From the page to rows.

use rstest::rstest;

use super::super::catalogue::Catalogue;
use super::super::samples::{NodePage, Rows};
use crate::record::Time;

/// As kubelets write it: cgroups above pods, a pod's own, the one that holds its network, its containers; the other
/// labels in the order of their names.
const PAGE: &str = r#"# HELP cadvisor_version_info A metric with a constant '1' value labeled by kernel version.
# TYPE cadvisor_version_info gauge
cadvisor_version_info{cadvisorRevision="",cadvisorVersion="",dockerVersion=""} 1
# HELP container_blkio_device_usage_total Blkio Device bytes usage
# TYPE container_blkio_device_usage_total counter
container_blkio_device_usage_total{container="main",device="/dev/a",id="/p/1/m",image="i",major="8",minor="0",name="m",namespace="shop",operation="Read",pod="cart"} 100 1000
container_blkio_device_usage_total{container="main",device="/dev/a",id="/p/1/m",image="i",major="8",minor="0",name="m",namespace="shop",operation="Write",pod="cart"} 7 1000
container_blkio_device_usage_total{container="main",device="/dev/b",id="/p/1/m",image="i",major="8",minor="16",name="m",namespace="shop",operation="Read",pod="cart"} 11 1500
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="",cpu="total",id="/",image="",name="",namespace="",pod=""} 1000 9000
container_cpu_usage_seconds_total{container="",cpu="total",id="/p",image="",name="",namespace="",pod=""} 900 9000
container_cpu_usage_seconds_total{container="",cpu="total",id="/p/1",image="",name="",namespace="shop",pod="cart"} 60 9000
container_cpu_usage_seconds_total{container="",cpu="total",id="/p/1/s",image="pause",name="s",namespace="shop",pod="cart"} 1 9000
container_cpu_usage_seconds_total{container="main",cpu="total",id="/p/1/m",image="i",name="m",namespace="shop",pod="cart"} 40 2000
container_cpu_usage_seconds_total{container="side",cpu="cpu00",id="/p/1/x",image="i",name="x",namespace="shop",pod="cart"} 3 2000
container_cpu_usage_seconds_total{container="side",cpu="cpu01",id="/p/1/x",image="i",name="x",namespace="shop",pod="cart"} 4 2000
# HELP container_memory_failures_total Cumulative count of memory allocation failures.
# TYPE container_memory_failures_total counter
container_memory_failures_total{container="main",failure_type="pgfault",id="/p/1/m",image="i",name="m",namespace="shop",pod="cart",scope="container"} 5 2000
container_memory_failures_total{container="main",failure_type="pgfault",id="/p/1/m",image="i",name="m",namespace="shop",pod="cart",scope="hierarchy"} 50 2000
container_memory_failures_total{container="main",failure_type="pgmajfault",id="/p/1/m",image="i",name="m",namespace="shop",pod="cart",scope="container"} 6 2000
# HELP container_network_transmit_bytes_total Cumulative count of bytes transmitted
# TYPE container_network_transmit_bytes_total counter
container_network_transmit_bytes_total{container="",id="/",image="",interface="eth0",name="",namespace="",pod=""} 5000 9000
container_network_transmit_bytes_total{container="",id="/p/1/s",image="pause",interface="eth0",name="s",namespace="shop",pod="cart"} 70 3000
container_network_transmit_bytes_total{container="",id="/p/1/s",image="pause",interface="eth1",name="s",namespace="shop",pod="cart"} 30 3000
container_network_transmit_bytes_total{container="POD",id="/p/2/s",image="pause",interface="eth0",name="s",namespace="shop",pod="old"} 9 3000
# HELP container_start_time_seconds Start time of the container since unix epoch in seconds.
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="",id="/p/1/s",image="pause",name="s",namespace="shop",pod="cart"} 10
container_start_time_seconds{container="main",id="/p/1/m",image="i",name="m",namespace="shop",pod="cart"} 11
container_start_time_seconds{container="side",id="/p/1/x",image="i",name="x",namespace="shop",pod="cart"} 12
"#;

fn read(page: &str) -> (NodePage, Catalogue) {
    let catalogue = Catalogue::default();
    let page = NodePage::read(page.as_bytes(), Time(7), &catalogue);
    (page, catalogue)
}

fn value(rows: Option<&Rows>, catalogue: &Catalogue, name: &str) -> Option<(f64, i64)> {
    let point = rows?.get(catalogue.find(name)?)?;
    Some((point.value, point.time.millis()))
}

#[rstest]
#[case::one_cpu_row("main", "container_cpu_usage_seconds_total", Some((40.0, 2000)))]
#[case::summed_over_cpus("side", "container_cpu_usage_seconds_total", Some((7.0, 2000)))]
#[case::summed_over_devices("main", "container_blkio_device_usage_total_read", Some((111.0, 1500)))]
#[case::folded_operation("main", "container_blkio_device_usage_total_write", Some((7.0, 1000)))]
#[case::folded_without_hierarchy("main", "container_memory_failures_total_pgfault", Some((5.0, 2000)))]
#[case::folded_failure("main", "container_memory_failures_total_pgmajfault", Some((6.0, 2000)))]
#[case::no_base_of_folded("main", "container_memory_failures_total", None)]
#[case::no_row("side", "container_memory_failures_total_pgfault", None)]
#[case::without_time("main", "container_start_time_seconds", Some((11.0, 0)))]
#[case::network_is_the_pods("main", "container_network_transmit_bytes_total", None)]
fn a_container_has_its_own_rows_under_folded_names(
    #[case] container: &str,
    #[case] name: &str,
    #[case] expected: Option<(f64, i64)>,
) {
    let (page, catalogue) = read(PAGE);
    let pod = page.pod("shop", "cart").unwrap();
    assert_eq!(value(pod.container(container), &catalogue, name), expected);
}

#[test]
fn a_pod_has_its_network_and_nothing_that_its_containers_have() {
    let (page, catalogue) = read(PAGE);
    let whole = page.pod("shop", "cart").unwrap().whole.as_ref();
    assert_eq!(value(whole, &catalogue, "container_network_transmit_bytes_total"), Some((100.0, 3000)));
    assert_eq!(value(whole, &catalogue, "container_cpu_usage_seconds_total"), None);
    let named = page.pod("shop", "old").unwrap().whole.as_ref();
    assert_eq!(value(named, &catalogue, "container_network_transmit_bytes_total"), Some((9.0, 3000)));
}

#[test]
fn cgroups_above_pods_are_nobodys_and_their_metrics_are_not_offered() {
    let (page, catalogue) = read(PAGE);
    let mut pods: Vec<_> = page.pods().map(|(namespace, pod, _)| (namespace, pod)).collect();
    pods.sort_unstable();
    assert_eq!(pods, [("shop", "cart"), ("shop", "old")]);
    assert!(page.has_containers());
    assert_eq!(catalogue.find("cadvisor_version_info"), None);
    let cpu = catalogue.all().into_iter().find(|metric| &*metric.name == "container_cpu_usage_seconds_total").unwrap();
    assert_eq!((&*cpu.help, cpu.kind), ("Cumulative cpu time consumed in seconds.", "counter"));
}

/// For a while after a restart, a page holds both runs.
#[test]
fn of_two_runs_of_a_container_the_later_counts() {
    let row = |id: &str, value: u32, at: u32| {
        format!(r#"container_threads{{container="main",id="{id}",namespace="shop",pod="cart"}} {value} {at}"#) + "\n"
    };
    let start = |id: &str, at: u32| {
        format!(r#"container_start_time_seconds{{container="main",id="{id}",namespace="shop",pod="cart"}} {at}"#) + "\n"
    };
    for rows in [
        row("a", 1, 9) + &row("b", 2, 5) + &start("a", 100) + &start("b", 200),
        row("b", 2, 5) + &row("a", 1, 9) + &start("b", 200) + &start("a", 100),
        row("a", 1, 4) + &row("b", 2, 5),
    ] {
        let (page, catalogue) = read(&rows);
        let main = page.pod("shop", "cart").unwrap().container("main");
        assert_eq!(value(main, &catalogue, "container_threads"), Some((2.0, 5)), "{rows}");
    }
}

#[test]
fn a_total_is_not_counted_beside_its_parts() {
    let row = |cpu: &str, value: u32| {
        format!(
            r#"container_cpu_usage_seconds_total{{container="a",cpu="{cpu}",id="/a",namespace="n",pod="p"}} {value}"#
        ) + "\n"
    };
    for rows in [row("cpu00", 1) + &row("total", 3) + &row("cpu01", 2), row("total", 3) + &row("cpu00", 1)] {
        let (page, catalogue) = read(&rows);
        let a = page.pod("n", "p").unwrap().container("a");
        assert_eq!(value(a, &catalogue, "container_cpu_usage_seconds_total").unwrap().0, 3.0);
    }
}

/// Nodes whose cAdvisor does not know the container runtime.
#[test]
fn resource_metrics_stand_in_for_containers_that_cadvisor_does_not_know() {
    let catalogue = Catalogue::default();
    let cadvisor = r#"container_network_transmit_bytes_total{container="",id="/s",interface="eth0",namespace="n",pod="p"} 5 1
container_cpu_usage_seconds_total{container="",cpu="total",id="/p",namespace="n",pod="p"} 8 1
"#;
    let resource = r#"# HELP container_cpu_usage_seconds_total [ALPHA] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="n",pod="p"} 0.75 2000
container_memory_working_set_bytes{container="main",namespace="n",pod="p"} 573440 2000
node_cpu_usage_seconds_total 15809.5 2000
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 0.8 2000
scrape_error 0
"#;
    let mut page = NodePage::read(cadvisor.as_bytes(), Time(0), &catalogue);
    assert!(!page.has_containers());
    page.complete_with(NodePage::read(resource.as_bytes(), Time(0), &catalogue));
    assert!(page.fallback);
    let pod = page.pod("n", "p").unwrap();
    let main = pod.container("main");
    assert_eq!(value(main, &catalogue, "container_cpu_usage_seconds_total"), Some((0.75, 2000)));
    assert_eq!(value(main, &catalogue, "container_memory_working_set_bytes"), Some((573_440.0, 2000)));
    assert_eq!(value(pod.whole.as_ref(), &catalogue, "container_network_transmit_bytes_total"), Some((5.0, 1)));
    assert_eq!(catalogue.find("pod_cpu_usage_seconds_total"), None);
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_the_others_stay() {
    let (page, catalogue) =
        read("one two three\ncontainer_threads{container=\"a\",namespace=\"n\",pod=\"p\"} 4\n<html>\n");
    assert_eq!((page.refused, page.samples), (2, 1));
    assert_eq!(value(page.pod("n", "p").unwrap().container("a"), &catalogue, "container_threads"), Some((4.0, 0)));
}
