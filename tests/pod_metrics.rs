//! The source `podMetrics` before kubelets that behave well and badly, over real connections, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

mod kubelet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kubelet::{FakeCluster, Kubelet};
use rstest::rstest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::api::source::MetricsMode;
use weir::api::{PodSelection, View};
use weir::record::{Event, Reading, Signal};
use weir::source::Source;
use weir::source::pods::metrics::{PodMetrics, PodMetricsConfig};
use weir::stream::{Delivery, LiveStream, ReadFrom, Reader, RingLimits};

/// The longest that anything may take here before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream at work, and a reader of all of it.
struct Running {
    reader: Reader,
    signals: Vec<Arc<Signal>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    fn start(cluster: &FakeCluster, metrics: &[&str], change: impl FnOnce(&mut PodMetricsConfig)) -> Self {
        let selection = PodSelection { namespaces: vec!["shop".into()], ..PodSelection::default() };
        let mut config = PodMetricsConfig {
            compiled: selection.compile().unwrap(),
            selection,
            visible: Arc::new(|_, _| true),
            metrics: metrics.iter().map(|name| (*name).to_owned()).collect(),
            interval: Duration::from_secs(1),
            aggregate: false,
            mode: MetricsMode::Stream,
            via: None,
        };
        change(&mut config);
        let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
        let reader = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(PodMetrics::new(Arc::clone(&cluster.hub), config).run(stream, cancel.clone()));
        Self { reader, signals: Vec::new(), cancel, tasks }
    }

    /// The next reading; signals before it are kept.
    async fn reading(&mut self) -> Arc<Reading> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.reader.next()).await.expect("something in time");
            match next {
                Delivery::Reading { reading, .. } => return reading,
                Delivery::Signal { signal, .. } => self.signals.push(signal),
                other => panic!("{other:?} before a reading"),
            }
        }
    }

    /// The values of an asset in the next reading.
    async fn values(&mut self, asset: &str) -> Vec<Option<f64>> {
        values(&*self.reading().await, asset)
    }

    /// Reads until the values of an asset satisfy.
    async fn until(&mut self, asset: &str, mut wanted: impl FnMut(&[Option<f64>]) -> bool) -> Vec<Option<f64>> {
        let begin = Instant::now();
        loop {
            let reading = self.reading().await;
            let values = values(&reading, asset);
            if wanted(&values) {
                return values;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain; the last was {reading:?}");
        }
    }

    /// What was said of the source.
    fn told(&self, event: Event) -> Vec<&str> {
        self.signals.iter().filter(|signal| signal.event == event).map(|signal| signal.text.as_str()).collect()
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("the stream ends");
    }
}

fn values(reading: &Reading, asset: &str) -> Vec<Option<f64>> {
    let found = reading.assets().iter().find(|one| one.name == asset);
    found.unwrap_or_else(|| panic!("no {asset} in {reading:?}")).values.clone()
}

/// A row as cAdvisor writes it, measured at a second.
fn row(metric: &str, pod: &str, container: &str, value: f64, second: u32) -> String {
    let id = format!("/kubepods/pod{pod}/{container}");
    format!("{metric}{{container=\"{container}\",id=\"{id}\",namespace=\"shop\",pod=\"{pod}\"}} {value} {second}000\n")
}

fn threads(pod: &str, count: f64) -> String {
    row("container_threads", pod, "main", count, 1)
}

const SCRAPES: &str = r#"weir_scrapes_total{page="cadvisor",outcome="ok"}"#;

#[tokio::test]
async fn one_scrape_of_each_node_serves_all_streams_and_cordoned_nodes_are_scraped() {
    let nodes = vec![
        ("one", Kubelet::gives(|| threads("a", 1.0))),
        ("two", Kubelet::gives(|| threads("b", 2.0))),
        ("empty", Kubelet::gives(|| threads("nobody", 3.0))),
    ];
    let cluster = FakeCluster::new(nodes, &[("one", "a", &["main"]), ("two", "b", &["main"])], |_| ()).await;
    let views = [View::Pod, View::Container, View::Namespace];
    let mut streams: Vec<_> = (0..30)
        .map(|at| {
            Running::start(&cluster, &["container_threads"], |config| {
                config.interval = Duration::from_secs(3600);
                config.selection.view = views[at % 3];
            })
        })
        .collect();
    for (at, stream) in streams.iter_mut().enumerate() {
        let reading = stream.reading().await;
        let sum: f64 = reading.assets().iter().filter_map(|asset| asset.values[0]).sum();
        assert_eq!((reading.assets().len(), sum), (if at % 3 == 2 { 1 } else { 2 }, 3.0));
    }
    let asked: Vec<_> = cluster.nodes.iter().map(kubelet::Node::asked).collect();
    assert_eq!(asked, [1, 1, 0], "nodes on which nothing is selected are left alone");
    assert_eq!(cluster.metric(SCRAPES), Some(2.0));
    for stream in streams {
        stream.stop().await;
    }
    cluster.stop().await;
}

#[rstest]
#[case::refuses(Kubelet::Refuses(403), "it refuses Weir (403); Weir needs get on nodes/metrics")]
#[case::fails(Kubelet::Refuses(500), "it answers 500")]
#[case::garbage(Kubelet::gives(|| "<html>not metrics</html>".into()), "what it answers are no metrics")]
#[case::nothing(Kubelet::gives(String::new), "what it answers are no metrics")]
#[case::endless(Kubelet::Endless, "its page is longer than 100000 bytes")]
#[case::silent(Kubelet::Silent, "it does not answer within 1s")]
#[case::breaks(Kubelet::Breaks, "the connection fails")]
#[tokio::test]
async fn a_node_that_fails_is_told_of_once_while_others_go_on(#[case] bad: Kubelet, #[case] reason: &str) {
    let nodes = vec![("good", Kubelet::gives(|| threads("a", 1.0))), ("bad", bad)];
    let pods: [(&str, &str, &[&str]); 2] = [("good", "a", &["main"]), ("bad", "b", &["main"])];
    let cluster = FakeCluster::new(nodes, &pods, |options| options.max_bytes = 100_000).await;
    let mut stream = Running::start(&cluster, &["container_threads"], |_| ());
    let (begin, mut rounds) = (Instant::now(), 0);
    while rounds < 4 || stream.told(Event::SourceError).is_empty() {
        let reading = stream.reading().await;
        assert_eq!(values(&reading, "b"), [None]);
        rounds += u32::from(values(&reading, "a") == [Some(1.0)]);
        assert!(begin.elapsed() < PATIENCE, "{rounds} rounds, {:?}", stream.signals);
    }
    let told: Vec<_> = stream.told(Event::SourceError).into_iter().map(str::to_owned).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Node bad cannot be scraped: ") && told[0].contains(reason), "{told:?}");
    let port = cluster.nodes[1].port.to_string();
    assert!(!told[0].contains("127.0.0.1") && !told[0].contains(&port), "{told:?}");

    cluster.nodes[1].behave(Kubelet::gives(|| threads("b", 2.0)));
    stream.until("b", |values| values == [Some(2.0)]).await;
    assert_eq!(stream.told(Event::Reconnected), ["Node bad is scraped again."]);
    stream.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused_unless_any_will_do() {
    for insecure in [false, true] {
        let nodes = vec![("one", Kubelet::gives(|| threads("a", 1.0)))];
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
        let cluster = FakeCluster::new(nodes, &[("one", "a", &["main"])], |options| {
            options.insecure_tls = insecure;
            options.authority = Some(other.into_bytes());
        });
        let cluster = cluster.await;
        let mut stream = Running::start(&cluster, &["container_threads"], |_| ());
        let reading = stream.reading().await;
        assert_eq!(values(&reading, "a"), [insecure.then_some(1.0)]);
        if !insecure {
            let told = stream.told(Event::SourceError);
            assert!(told[0].contains("--kubelet-certificate-authority"), "{told:?}");
            assert_eq!(cluster.nodes[0].asked(), 0, "the token was not sent");
        }
        stream.stop().await;
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_renewed_token_is_read_as_soon_as_the_old_one_is_refused() {
    let page: kubelet::Page = Arc::new(|_| Some(threads("a", 1.0)));
    let nodes = vec![("one", Kubelet::Knows("first", Arc::clone(&page)))];
    let cluster = FakeCluster::new(nodes, &[("one", "a", &["main"])], |_| ()).await;
    let mut stream = Running::start(&cluster, &["container_threads"], |_| ());
    assert_eq!(stream.values("a").await, [Some(1.0)]);
    std::fs::write(cluster.token.path(), "second").unwrap();
    cluster.nodes[0].behave(Kubelet::Knows("second", page));
    for _ in 0..2 {
        assert_eq!(stream.values("a").await, [Some(1.0)]);
    }
    assert!(stream.told(Event::SourceError).is_empty(), "{:?}", stream.signals);
    // One in vain.
    assert_eq!(cluster.nodes[0].asked(), 4);
    stream.stop().await;
    cluster.stop().await;
}

/// A pod of which cAdvisor says every ten seconds that it has written 1.25 MB more, sent 2.5 MB and used 5 s of CPU.
fn growing(counter: &Arc<AtomicU32>) -> Kubelet {
    let counter = Arc::clone(counter);
    Kubelet::gives(move || {
        let at = counter.fetch_add(1, Ordering::SeqCst) * 10 + 100;
        let grown = f64::from(at) / 10.0;
        row("container_fs_writes_bytes_total", "a", "main", 1.25e6 * grown, at)
            + &row("container_fs_reads_bytes_total", "a", "main", 2.5e6 * grown, at)
            + &row("container_network_transmit_bytes_total", "a", "", 2.5e6 * grown, at)
            + &row("container_cpu_usage_seconds_total", "a", "main", 5.0 * grown, at)
    })
}

#[tokio::test]
async fn disk_network_and_cpu_are_in_the_unit_that_the_name_says_by_the_times_of_the_samples() {
    let counter = Arc::new(AtomicU32::new(0));
    let cluster = FakeCluster::new(vec![("one", growing(&counter))], &[("one", "a", &["main"])], |_| ()).await;
    let metrics = [
        "kwirth_container_write_mbps",
        "kwirth_container_read_mbps",
        "kwirth_container_transmit_mbps",
        "container_cpu_usage_seconds_total:rate",
        "kwirth_container_cpu_percentage",
    ];
    let mut stream = Running::start(&cluster, &metrics, |_| ());
    assert_eq!(stream.values("a").await, [None; 5], "one sample is no rate");
    // Ten seconds a scrape by the samples, whatever the clock says: 1.25 MB are ten megabits.
    let expected = [1.0, 2.0, 2.0, 0.5, 12.5].map(Some);
    assert_eq!(stream.values("a").await, expected);

    // Another stream has what came before as its base.
    let mut late = Running::start(&cluster, &metrics, |config| config.interval = Duration::from_secs(2));
    stream.reading().await;
    late.until("a", |values| values == expected).await;
    late.stop().await;
    stream.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_snapshot_waits_for_the_second_sample_of_a_rate_and_ends() {
    let counter = Arc::new(AtomicU32::new(0));
    let cluster = FakeCluster::new(vec![("one", growing(&counter))], &[("one", "a", &["main"])], |_| ()).await;
    let once = |config: &mut PodMetricsConfig| {
        (config.mode, config.interval) = (MetricsMode::Snapshot, Duration::from_secs(60));
    };
    let mut plain = Running::start(&cluster, &["container_cpu_usage_seconds_total"], once);
    assert_eq!(plain.values("a").await, [Some(50.0)]);
    assert!(matches!(plain.reader.next().await, Delivery::End(end) if end.text == "The snapshot is complete."));
    plain.stop().await;
    let mut rate = Running::start(&cluster, &["kwirth_container_write_mbps"], once);
    assert_eq!(rate.values("a").await, [Some(1.0)]);
    assert!(matches!(rate.reader.next().await, Delivery::End(_)));
    rate.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn where_cadvisor_knows_no_containers_the_resource_metrics_stand_in_and_it_is_said_once() {
    let pages: kubelet::Page = Arc::new(|path| match path {
        "/metrics/cadvisor" => Some(row("container_network_receive_bytes_total", "a", "", 7.0, 1)),
        "/metrics/resource" => Some(
            "container_cpu_usage_seconds_total{container=\"main\",namespace=\"shop\",pod=\"a\"} 0.75 2000\n\
             container_memory_working_set_bytes{container=\"main\",namespace=\"shop\",pod=\"a\"} 573440 2000\n"
                .into(),
        ),
        _ => None,
    });
    let cluster = FakeCluster::new(vec![("one", Kubelet::Gives(pages))], &[("one", "a", &["main"])], |_| ()).await;
    let metrics = [
        "container_memory_working_set_bytes",
        "container_cpu_usage_seconds_total",
        "container_network_receive_bytes_total",
        "container_threads",
    ];
    let mut stream = Running::start(&cluster, &metrics, |_| ());
    for _ in 0..3 {
        assert_eq!(stream.values("a").await, [Some(573_440.0), Some(0.75), Some(7.0), None]);
    }
    let told = stream.told(Event::SourceError);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("cAdvisor knows no containers on node one"), "{told:?}");
    assert!(told[1].contains("No node gives container_threads now"), "{told:?}");
    assert_eq!(cluster.metric(r#"weir_scrapes_total{page="resource",outcome="ok"}"#), Some(3.0));
    stream.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_may_not_be_seen_is_in_no_sum() {
    let page = || threads("a", 1.0) + &row("container_threads", "a", "secret", 10.0, 1) + &threads("hidden", 100.0);
    let nodes = vec![("one", Kubelet::gives(page))];
    let pods: [(&str, &str, &[&str]); 2] = [("one", "a", &["main", "secret"]), ("one", "hidden", &["main"])];
    let cluster = FakeCluster::new(nodes, &pods, |_| ()).await;
    let mut stream = Running::start(&cluster, &["container_threads"], |config| {
        config.visible = Arc::new(|facts, container| facts.pod == "a" && container == "main");
        config.aggregate = true;
    });
    let reading = stream.reading().await;
    assert_eq!((reading.assets().len(), values(&reading, "shop")), (1, vec![Some(1.0)]));
    assert_eq!(stream.told(Event::Added), ["Container ADDED: shop/a/main"]);
    stream.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_catalogue_asks_a_node_when_nothing_is_known_yet_and_goes_on_to_the_next_where_one_fails() {
    let nodes = vec![
        ("bad", Kubelet::Refuses(500)),
        (
            "good",
            Kubelet::gives(|| {
                "# HELP container_threads Number of threads.\n# TYPE container_threads gauge\n".to_owned()
                    + &threads("a", 1.0)
            }),
        ),
    ];
    let cluster = FakeCluster::new(nodes, &[], |_| ()).await;
    for _ in 0..2 {
        let known = cluster.hub.catalogue().await;
        let threads = known.iter().find(|metric| &*metric.name == "container_threads").unwrap();
        assert_eq!((&*threads.help, threads.kind), ("Number of threads.", "gauge"));
        assert!(known.iter().any(|metric| &*metric.name == "kwirth_container_cpu_percentage"));
        assert!(known.is_sorted_by(|a, b| a.name < b.name));
    }
    assert_eq!(cluster.nodes.iter().map(kubelet::Node::asked).collect::<Vec<_>>(), [1, 1]);
    cluster.stop().await;
}
