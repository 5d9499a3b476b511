//! What the core costs: cutting, reading times, encoding, publishing to readers, remembering for a resume; and
//! reading a kubelet's metrics.
//! `cargo bench --bench core`

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use tokio_util::sync::CancellationToken;
use weir::api::{FilterSpec, PodSelection, RuleSpec, View};
use weir::record::{Asset, Batch, Line, LineCutter, LineLimit, Origin, Reading, ReadingHead, Time, TimeParser, Wire};
use weir::rule::RuleSet;
use weir::source::files::{Files, FilesConfig, FilesLimits};
use weir::source::pods::metrics::exposition::{Entry, Exposition};
use weir::source::pods::metrics::{Board, Capacity, Catalogue, Known, NodePage, Seen};
use weir::source::pods::{ContainerInfo, PodInfo};
use weir::source::{Allowed, Sieve, Source as _};
use weir::stream::series::{Aggregate, Select, SeriesKey, SeriesStore, Window};
use weir::stream::{LiveStream, ReadFrom, Reader, RingLimits, Tap, Trail};
use weir::telemetry::Metrics;

fn main() {
    divan::main();
}

const LINES: usize = 1_000;
const TEXT: &str =
    r#"GET /api/v1/carts/42 200 "Mozilla/5.0 (X11; Linux x86_64)" 12ms bytes=1830 trace=af31 ok ok ok ok"#;

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        namespace: "shop".into(),
        pod: "cart-7d9f5c6b4-x2x9z".into(),
        container: "web".into(),
        ..Origin::default()
    })
}

/// A batch of lines of 100 bytes, a microsecond apart, that begins at `start`.
fn batch(start: i64) -> Arc<Batch> {
    let data = TEXT.repeat(LINES);
    let line = |at: usize| {
        let range = at * TEXT.len()..(at + 1) * TEXT.len();
        Line::new(range, Time(start + at as i64 * 1_000), false)
    };
    let lines = (0..LINES).map(line).collect();
    Arc::new(Batch::new(origin(), Bytes::from(data), lines))
}

fn stamped() -> String {
    (0..LINES).map(|at| format!("2026-11-20T21:50:09.{:09}Z {TEXT}\n", at * 1_000)).collect()
}

#[divan::bench]
fn cut_lines(bencher: Bencher<'_, '_>) {
    let text = stamped();
    let mut cutter = LineCutter::new(LineLimit::default());
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        for chunk in text.as_bytes().chunks(16 * 1024) {
            cutter.push(chunk);
            black_box(cutter.cut());
        }
    });
}

#[divan::bench]
fn parse_times(bencher: Bencher<'_, '_>) {
    let text = stamped();
    let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let mut parser = TimeParser::default();
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        for line in &lines {
            black_box(parser.split(line));
        }
    });
}

#[divan::bench]
fn write_times(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(LINES * 30);
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        out.clear();
        for at in 0..LINES as i64 {
            Time(1_795_211_409_000_000_000 + at * 1_000).write_rfc3339(&mut out);
        }
        black_box(&out);
    });
}

#[divan::bench(args = [
    Wire::Channel4, Wire::Channel4Timed, Wire::Channel3, Wire::Channel3Timed, Wire::Classic, Wire::ClassicTimed, Wire::Json,
])]
fn encode(bencher: Bencher<'_, '_>, wire: Wire) {
    bencher.counter(ItemsCount::new(LINES)).with_inputs(|| batch(1_795_211_409_000_000_000)).bench_local_values(
        |batch| {
            black_box(batch.encoded(wire).len());
            batch
        },
    );
}

/// Batches of 40 lines, each published to a ring and read by every reader at once.
#[divan::bench(args = [0, 1, 10, 100])]
fn publish_and_read(bencher: Bencher<'_, '_>, readers: usize) {
    let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
    let mut readers: Vec<Reader> = (0..readers).map(|_| Reader::open(Arc::clone(&stream), ReadFrom::Now)).collect();
    let whole = batch(0);
    bencher.counter(ItemsCount::new(40usize)).with_inputs(|| whole.slice(0..40)).bench_local_values(|batch| {
        stream.publish(batch.unwrap_or_else(|| Arc::clone(&whole)));
        for reader in &mut readers {
            while let Some(delivery) = reader.try_next() {
                black_box(delivery);
            }
        }
    });
}

#[divan::bench]
fn trail_note(bencher: Bencher<'_, '_>) {
    let (mut trail, mut start) = (Trail::default(), 0);
    bencher
        .counter(ItemsCount::new(LINES))
        .with_inputs(|| {
            start += 1_000_000;
            batch(start)
        })
        .bench_local_values(|batch| trail.note(&batch));
}

/// A window over 16 batches, and one of them that comes again.
#[divan::bench]
fn trail_window(bencher: Bencher<'_, '_>) {
    let batches: Vec<_> = (0..16).map(|at| batch(at * 1_000_000)).collect();
    let mut trail = Trail::default();
    batches.iter().for_each(|batch| trail.note(batch));
    bencher.counter(ItemsCount::new(16 * LINES)).bench_local(|| {
        let mut window = trail.window();
        black_box(window.admit(&batches[15]))
    });
}

/// The families that cAdvisor tells of a container (recorded from kubelets), by the labels they have beside those of the
/// container: what stands before `id`, and what at the end.
const FAMILIES: &[(&str, &str, &str)] = &[
    (
        "",
        "",
        "cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total cpu_load_average_10s
        cpu_system_seconds_total cpu_user_seconds_total file_descriptors last_seen memory_cache memory_failcnt
        memory_mapped_file memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes memory_working_set_bytes
        processes sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes
        spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads threads_max",
    ),
    (r#"cpu="total","#, "", "cpu_usage_seconds_total"),
    (
        r#"device="/dev/nvme0n1p1","#,
        "",
        "fs_inodes_free fs_inodes_total fs_io_current fs_io_time_seconds_total fs_io_time_weighted_seconds_total
        fs_limit_bytes fs_read_seconds_total fs_reads_bytes_total fs_reads_merged_total fs_reads_total
        fs_sector_reads_total fs_sector_writes_total fs_usage_bytes fs_write_seconds_total fs_writes_bytes_total
        fs_writes_merged_total fs_writes_total",
    ),
    (r#"failure_type="pgfault","#, r#",scope="container""#, "memory_failures_total"),
    (r#"failure_type="pgmajfault","#, r#",scope="hierarchy""#, "memory_failures_total"),
    ("", r#",state="iowaiting""#, "tasks_state"),
    ("", r#",state="running""#, "tasks_state"),
    ("", r#",ulimit="max_open_files""#, "ulimits_soft"),
    (
        "",
        r#",interface="eth0""#,
        "network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total
        network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total
        network_transmit_packets_dropped_total network_transmit_packets_total",
    ),
];

/// As they were on such a page.
const VALUES: [&str; 9] =
    ["0", "15609.06375431", "7.54327552e+08", "2862.98", "699", "1.791903744e+10", "0", "152625", "1.79521158e+09"];

/// The answer of a kubelet with 200 pods of two containers, as text; and how many lines it has.
fn cadvisor_page() -> (String, usize) {
    let mut page = String::new();
    for (before, behind, names) in FAMILIES {
        for name in names.split_whitespace() {
            page += &format!("# HELP container_{name} What it means, in one sentence.\n");
            page += &format!("# TYPE container_{name} gauge\n");
            for at in 0..400 {
                page += &format!("container_{name}{{{}}} ", container_labels(at, before, behind));
                page += VALUES[(at + name.len()) % VALUES.len()];
                page += &format!(" {}\n", 1_795_222_824_145 + at);
            }
        }
    }
    let lines = page.lines().count();
    (page, lines)
}

fn container_labels(at: usize, before: &str, behind: &str) -> String {
    let (pod, container) = (at / 2, at % 2);
    let run = format!("{:064x}", (at as u128 + 1) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod";
    let id = format!("{slice}{}.slice/cri-containerd-{run}.scope", &run[24..60]);
    let image = format!("registry.example.com/shop/cart:v1.14.{pod}");
    let place = format!(r#"namespace="shop-{}",pod="cart-7d9f5c6b4-{pod:05}""#, pod % 10);
    format!(r#"container="web-{container}",{before}id="{id}",image="{image}",name="{run}",{place}{behind}"#)
}

/// All of the page: each line is checked, each value read.
#[divan::bench]
fn read_metrics(bencher: Bencher<'_, '_>) {
    let (page, lines) = cadvisor_page();
    bencher.counter(BytesCount::new(page.len())).counter(ItemsCount::new(lines)).bench_local(|| {
        let entries = Exposition::new(page.as_bytes());
        black_box(entries.map(black_box).count())
    });
}

/// The same, and whose value it is.
#[divan::bench]
fn read_metrics_and_labels(bencher: Bencher<'_, '_>) {
    let (page, lines) = cadvisor_page();
    bencher.counter(BytesCount::new(page.len())).counter(ItemsCount::new(lines)).bench_local(|| {
        for entry in Exposition::new(page.as_bytes()) {
            if let Ok(Entry::Sample(sample)) = entry {
                let get = |name| sample.labels.get(name);
                black_box((sample.name, get("namespace"), get("pod"), get("container"), sample.value));
            }
        }
    });
}

/// A reading of 100 assets with four numbers each, as history takes it.
#[divan::bench]
fn append_history(bencher: Bencher<'_, '_>) {
    let head = ReadingHead { names: (0..4).map(|name| format!("metric-{name}")).collect(), ..ReadingHead::default() };
    let (head, store, mut second) = (Arc::new(head), SeriesStore::default(), 1_795_211_409);
    let asset = |at: usize, second: i64| Asset {
        name: format!("cart-{at}"),
        values: (0..4).map(|metric| Some(((second * 31 + at as i64 + metric) % 1000) as f64 / 10.0)).collect(),
        ..Asset::default()
    };
    bencher
        .counter(ItemsCount::new(400usize))
        .with_inputs(|| {
            second += 5;
            let assets = (0..100).map(|at| asset(at, second)).collect();
            Reading::new(Arc::clone(&head), Time(second * 1_000_000_000), assets)
        })
        .bench_local_values(|reading| store.append_reading(&reading));
}

/// The last hour of one series at full resolution.
#[divan::bench]
fn query_history(bencher: Bencher<'_, '_>) {
    let (store, key, hour) = (SeriesStore::default(), SeriesKey::new("cart-0", "cpu"), 3600);
    for second in 0..hour {
        let _ = store.append(&key, Time(second * 1_000_000_000), (second * 31 % 1000) as f64 / 10.0);
    }
    let (start, end) = (Time(0), Time(hour * 1_000_000_000));
    let window = Window { start, end, step: Duration::from_secs(5), max_points: 10_000 };
    bencher
        .counter(ItemsCount::new(hour as usize))
        .bench_local(|| black_box(store.query(Select::default(), &window, Aggregate::Avg)));
}

/// From the page of a node to what each pod, or all of them together, uses: what a round of a metrics stream costs.
#[divan::bench(args = [View::Pod, View::Cluster])]
fn read_metrics_and_sum(bencher: Bencher<'_, '_>, view: View) {
    let (page, lines) = cadvisor_page();
    let (catalogue, node): (_, Arc<str>) = (Catalogue::default(), "node".into());
    let seen = pods_of_page();
    let metrics = [
        "kwirth_container_cpu_percentage",
        "kwirth_container_memory_percentage",
        "kwirth_container_transmit_percentage",
        "kwirth_container_transmit_mbps",
        "kwirth_container_receive_mbps",
        "kwirth_container_write_mbps",
        "kwirth_container_read_mbps",
        "container_memory_working_set_bytes",
        "container_memory_failures_total_pgfault",
        "container_threads",
    ];
    let selection = PodSelection { view, ..PodSelection::default() };
    let compiled = selection.compile().unwrap_or_default();
    let mut board = Board::new(&selection, compiled, &metrics.map(str::to_owned), false);
    let capacity = Capacity { cpu: Some(16.0), memory: Some(64e9) };
    bencher.counter(BytesCount::new(page.len())).counter(ItemsCount::new(lines)).bench_local(|| {
        let rows = NodePage::read(page.as_bytes(), Time(0), &catalogue);
        let known = Known {
            pages: &HashMap::from([(Arc::clone(&node), Arc::new(rows))]),
            capacities: &HashMap::from([(Arc::clone(&node), capacity)]),
            cluster: capacity,
            nodes: std::slice::from_ref(&node),
            names: &catalogue,
        };
        black_box(board.round(&seen, &known))
    });
}

/// The pods whose containers are in [`cadvisor_page`].
fn pods_of_page() -> Vec<Seen> {
    let containers = ["web-0", "web-1"].map(str::to_owned);
    let pod = |pod: usize| PodInfo {
        namespace: format!("shop-{}", pod % 10),
        name: format!("cart-7d9f5c6b4-{pod:05}"),
        uid: format!("{pod:036}"),
        node: "node".to_owned(),
        containers: containers.clone().map(|name| ContainerInfo { name, ..ContainerInfo::default() }).to_vec(),
        ..PodInfo::default()
    };
    (0..200).map(|at| Seen { pod: Arc::new(pod(at)), containers: containers.to_vec(), whole: true }).collect()
}

/// So many rules of which no line matches any: half texts, half patterns.
fn rules(count: usize) -> RuleSet {
    let rule = |at: usize| RuleSpec {
        name: format!("rule-{at}"),
        text: at.is_multiple_of(2).then(|| format!("error code {at}")),
        pattern: (!at.is_multiple_of(2)).then(|| format!("status=5{at}[0-9]* (timeout|refused)")),
        cooldown: "60s".into(),
        threshold: None,
        receivers: vec!["ops".to_owned()],
        message: None,
    };
    RuleSet::compile(&(0..count).map(rule).collect::<Vec<_>>()).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Lines of 100 bytes that match no rule, as most do.
#[divan::bench(args = [1, 64, 1_000])]
fn match_rules(bencher: Bencher<'_, '_>, count: usize) {
    let (set, batch) = (rules(count), batch(0));
    bencher
        .counter(ItemsCount::new(LINES))
        .bench_local(|| batch.lines().iter().filter(|line| set.matches(black_box(batch.text(line))).is_some()).count());
}

/// Looks at every line with one rule, as the tap of a subscription does, and counts them.
#[derive(Debug)]
struct Matching {
    rules: RuleSet,
    lines: AtomicUsize,
    matched: AtomicUsize,
}

impl Tap for Matching {
    fn records(&self, _: &LiveStream, batch: &Arc<Batch>) {
        let matched = batch.lines().iter().filter(|line| self.rules.matches(batch.text(line)).is_some()).count();
        self.matched.fetch_add(matched, Ordering::Relaxed);
        self.lines.fetch_add(batch.len(), Ordering::Relaxed);
    }
}

/// A file of 64 MiB, followed from its first line until all of it was looked at with one rule.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn follow_a_file(bencher: Bencher<'_, '_>) {
    const COUNT: usize = 64 * 1024 * 1024 / (TEXT.len() + 1);
    let folder = tempfile::tempdir().unwrap_or_else(|error| unreachable!("{error}"));
    let path = folder.path().join("app.log");
    std::fs::write(&path, format!("{TEXT}\n").repeat(COUNT)).unwrap_or_else(|error| unreachable!("{error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| unreachable!("{error}"));
    bencher.counter(BytesCount::new(COUNT * (TEXT.len() + 1))).bench_local(|| {
        let metrics = Metrics::new();
        let config = FilesConfig {
            paths: vec![path.to_string_lossy().into_owned()],
            from_start: true,
            sieve: Sieve::new(&FilterSpec::default(), LineLimit::default(), &metrics)
                .unwrap_or_else(|error| unreachable!("{error}")),
            allowed: Allowed::Everything,
            positions: None,
            limits: FilesLimits::default(),
            metrics,
        };
        let source = Files::new(config).unwrap_or_else(|error| unreachable!("{error}"));
        let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
        let tap = Arc::new(Matching { rules: rules(1), lines: AtomicUsize::new(0), matched: AtomicUsize::new(0) });
        let _guard = stream.tap(Arc::clone(&tap) as Arc<dyn Tap>);
        let cancel = CancellationToken::new();
        runtime.block_on(async {
            let run = source.run(Arc::clone(&stream), cancel.clone());
            let seen = async {
                while tap.lines.load(Ordering::Relaxed) < COUNT {
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
                cancel.cancel();
            };
            futures::join!(run, seen);
        });
        assert_eq!(tap.lines.load(Ordering::Relaxed), COUNT);
    });
}

/// Lines of which every one matches one rule.
#[divan::bench(args = [1, 64, 1_000])]
fn match_rules_that_match(bencher: Bencher<'_, '_>, count: usize) {
    let set = rules(count);
    let line = format!("{TEXT} error code 0!");
    bencher
        .counter(ItemsCount::new(LINES))
        .bench_local(|| (0..LINES).filter(|_| set.matches(black_box(line.as_bytes())).is_some()).count());
}
