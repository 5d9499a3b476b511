//! Every counter that Weir keeps about itself.

use super::label_sets::{
    AlertLabels, AuthFailureLabels, DroppedLabels, HealthLabels, HistoryDiskLabels, HistoryLabels, KindLabels,
    ObjectLabels, QueueLabels, ReconcileErrorLabels, ReconnectLabels, RequestLabels, RouteLabels, ScrapeLabels,
    ScrapedPageLabels, ServiceLabels, TransportLabels, UpstreamLabels, VersionLabels,
};
use super::{
    AlertKind, AlertOutcome, AuthFailure, Category, CodeClass, Dropped, HistoryDiskOutcome, HistoryOutcome, Kind,
    Outcome, Queue, Readiness, Reconnect, Route, ScrapedPage, Service, Transport, UpstreamKind, Watched,
    process::Process,
};
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// A histogram for each set of labels `L`.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Weir's own counters. Made once, shared by `Arc`, never global.
///
/// Fields are the handles of prometheus-client themselves: `metrics.streams.inc()`. For a family, take the
/// handle once where the path is hot: [`Family::get_or_create_owned`] gives a counter that costs one atomic add.
#[derive(Debug)]
pub struct Metrics {
    /// Streams in the catalogue now.
    pub streams: Gauge,
    /// Cursors that follow a stream now.
    pub readers: Gauge,
    /// Records that entered a stream.
    pub records: Family<ServiceLabels, Counter>,
    /// Bytes of payload that entered a stream.
    pub bytes: Family<ServiceLabels, Counter>,
    /// Gap signals sent to readers, whatever the number of records each stands for.
    pub gaps: Counter,
    /// Records and signals that the rings hold now.
    pub ring_records: Gauge,
    /// What they cost in memory.
    pub ring_bytes: Gauge,
    /// Records that a reader did not get, by reason.
    pub dropped: Family<DroppedLabels, Counter>,
    /// Rules that fired.
    pub rules_fired: Counter,
    /// Alerts, counted once for each receiver, by what became of them.
    pub alerts: Family<AlertLabels, Counter>,
    /// Attempts to deliver an alert that failed and were repeated.
    pub alert_retries: Counter,
    /// Points that were to be kept as history, by what became of them.
    pub history_points: Family<HistoryLabels, Counter>,
    /// Points that were to be kept on disk, by what became of them.
    pub history_disk_points: Family<HistoryDiskLabels, Counter>,
    /// Records and signals that were to be kept on disk, by what became of them.
    pub history_disk_records: Family<HistoryDiskLabels, Counter>,
    /// Room on disk that history takes now, in bytes.
    pub history_disk: Gauge,
    /// Series with history now.
    pub history_series: Gauge,
    /// Memory that history takes now, in bytes.
    pub history_memory: Gauge,
    /// Uploads that are kept now, running or ended.
    pub uploads: Gauge,
    /// Memory that uploads take now, in bytes.
    pub uploads_memory: Gauge,
    /// Room on disk that uploads take now, in bytes.
    pub uploads_disk: Gauge,
    /// Uploads whose producers were lost before their end.
    pub uploads_aborted: Counter,
    /// Bytes of uploads that readers and spies did not get because they were too slow.
    pub uploads_missed: Counter,
    /// Connections to an upstream that follow a log now.
    pub upstream_follows: Gauge,
    /// Requests to an upstream that have ended or were answered.
    pub upstream_requests: Family<UpstreamLabels, Counter>,
    /// Connections to an upstream that were made again.
    pub upstream_reconnects: Family<ReconnectLabels, Counter>,
    /// Senders over TCP that were disconnected because they sent nothing for too long.
    pub senders_idle: Counter,
    /// Scrapes of nodes that have ended.
    pub scrapes: Family<ScrapeLabels, Counter>,
    /// How long one scrape takes, in seconds, by page.
    pub scrape_duration: Histograms<ScrapedPageLabels>,
    /// Bytes of the pages that were scraped.
    pub scraped_bytes: Counter,
    /// Lines of such pages that were left out: not readable, or of more names than are kept.
    pub scrape_refused_lines: Counter,
    /// Checks of the machine and its neighbours, and heartbeats, by how they ended.
    pub health_checks: Family<HealthLabels, Counter>,
    /// Findings of such checks that found no room where they wait; each is found again.
    pub health_findings_refused: Counter,
    /// Clients connected now.
    pub connections: Family<TransportLabels, Gauge>,
    /// Connections that may be open at the same time.
    pub connections_limit: Gauge,
    /// Connections turned away because a cap was reached.
    pub connections_refused: Counter,
    /// TLS handshakes that failed or took too long.
    pub tls_handshake_failures: Counter,
    /// Clients that were not let in.
    pub auth_failures: Family<AuthFailureLabels, Counter>,
    /// Requests that were answered.
    pub http_requests: Family<RequestLabels, Counter>,
    /// How long it took until an answer began, in seconds.
    pub http_request_duration: Histograms<RouteLabels>,
    /// The same, all together, in nanoseconds.
    pub(super) answering: Counter,
    /// Snapshots that were computed and encoded for the metrics socket, each for all who ask for the same.
    pub snapshots_encoded: Counter,
    /// Snapshots that were sent to clients of the metrics socket.
    pub snapshots_sent: Counter,
    /// How long one reconciliation takes, in seconds, by controller.
    pub reconcile_duration: Histograms<KindLabels>,
    /// Reconciliations that failed.
    pub reconcile_errors: Family<ReconcileErrorLabels, Counter>,
    /// Objects known, by kind and `Ready` condition.
    pub objects: Family<ObjectLabels, Gauge>,
    /// What waits for its turn.
    pub queue_depth: Family<QueueLabels, Gauge>,
    probes: Probes,
    registry: Registry,
}

/// What is asked before each scrape.
#[derive(Default)]
struct Probes(Mutex<Vec<Probe>>);

/// Sets gauges; says whether it wants to be asked again.
type Probe = Box<dyn Fn(&Metrics) -> bool + Send + Sync>;

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Probes").field(&self.0.lock().len()).finish()
    }
}

/// Which of the two text formats a scraper asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The `Content-Type` of this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All counters at zero, every known series present.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::new()));
        let r = registry.sub_registry_with_prefix("weir");
        Arc::new(
            Self {
                streams: add(r, "streams", "Streams in the catalogue now"),
                readers: add(r, "readers", "Cursors that follow a stream now"),
                records: add(r, "records", "Records that entered a stream"),
                bytes: add_with_unit(r, "payload", Unit::Bytes, "Payload that entered a stream"),
                gaps: add(r, "gaps", "Gap signals sent to readers"),
                ring_records: add(r, "ring_records", "Records and signals that the rings hold now"),
                ring_bytes: add_with_unit(r, "ring", Unit::Bytes, "Memory that the rings hold now"),
                dropped: add(r, "dropped_records", "Records a reader did not get, by reason"),
                rules_fired: add(r, "rules_fired", "Rules that fired"),
                alerts: add(r, "alerts", "Alerts, once for each receiver, by what became of them"),
                alert_retries: add(r, "alert_retries", "Deliveries of alerts that failed and were tried again"),
                history_points: add(r, "history_points", "Points that were to be kept as history, by outcome"),
                history_disk_points: add(r, "history_disk_points", "Points that were to be kept on disk, by outcome"),
                history_disk_records: add(
                    r,
                    "history_disk_records",
                    "Records that were to be kept on disk, by outcome",
                ),
                history_disk: add_with_unit(r, "history_disk", Unit::Bytes, "Room on disk that history takes now"),
                history_series: add(r, "history_series", "Series with history now"),
                history_memory: add_with_unit(r, "history_memory", Unit::Bytes, "Memory that history takes now"),
                uploads: add(r, "uploads", "Uploads that are kept now, running or ended"),
                uploads_memory: add_with_unit(r, "uploads_memory", Unit::Bytes, "Memory that uploads take now"),
                uploads_disk: add_with_unit(r, "uploads_disk", Unit::Bytes, "Room on disk that uploads take now"),
                uploads_aborted: add(r, "uploads_aborted", "Uploads whose producers were lost before their end"),
                uploads_missed: add_with_unit(r, "uploads_missed", Unit::Bytes, "Bytes that slow readers did not get"),
                upstream_follows: add(r, "upstream_follows", "Upstream connections that follow a log now"),
                upstream_requests: add(r, "upstream_requests", "Requests to an upstream, by kind and outcome"),
                upstream_reconnects: add(r, "upstream_reconnects", "Upstream connections made again, by reason"),
                senders_idle: add(r, "senders_idle", "Senders over TCP that sent nothing for too long and were let go"),
                scrapes: add(r, "scrapes", "Scrapes of nodes, by page and outcome"),
                scrape_duration: durations(r, "scrape_duration", "Time of one scrape of a node"),
                scraped_bytes: add_with_unit(r, "scraped", Unit::Bytes, "Pages that were scraped"),
                scrape_refused_lines: add(r, "scrape_refused_lines", "Lines of scraped pages that were left out"),
                health_checks: add(r, "health_checks", "System checks, measurements and heartbeats, by outcome"),
                health_findings_refused: add(r, "health_findings_refused", "Findings that found no room to wait"),
                connections: add(r, "connections", "Clients connected now, by transport"),
                connections_limit: add(r, "connections_limit", "Connections that may be open at the same time"),
                connections_refused: add(r, "connections_refused", "Connections turned away at a cap"),
                tls_handshake_failures: add(r, "tls_handshake_failures", "TLS handshakes that failed or took too long"),
                auth_failures: add(r, "auth_failures", "Clients that were not let in, by reason"),
                http_requests: add(r, "http_requests", "Requests answered, by part of the endpoint and status"),
                http_request_duration: durations(r, "http_request_duration", "Time until an answer began"),
                answering: Counter::default(),
                snapshots_encoded: add(r, "metrics_snapshots_encoded", "Snapshots encoded for the metrics socket"),
                snapshots_sent: add(r, "metrics_snapshots_sent", "Snapshots sent to clients of the metrics socket"),
                reconcile_duration: durations(r, "reconcile_duration", "Time of one reconciliation"),
                reconcile_errors: add(r, "reconcile_errors", "Reconciliations that failed"),
                objects: add(r, "objects", "Objects known, by kind and Ready condition"),
                queue_depth: add(r, "queue_depth", "What waits for its turn, by queue"),
                probes: Probes::default(),
                registry: {
                    let build: Family<VersionLabels, Gauge> = add(r, "build_info", "The version that runs; always 1");
                    build.get_or_create(&VersionLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
                    registry
                },
            }
            .with_series_present(),
        )
    }

    /// The exposition of all counters, complete, in the given format.
    pub fn encode(&self, format: Exposition) -> String {
        // Not held while they are asked: a probe may belong to what it is the last to know.
        let mut probes = std::mem::take(&mut *self.probes.0.lock());
        probes.retain(|probe| probe(self));
        self.probes.0.lock().append(&mut probes);
        let mut out = String::with_capacity(8 * 1024);
        if let Err(error) = text::encode(&mut out, &self.registry) {
            tracing::error!(%error, "The metrics could not be written as text; the scrape is incomplete");
        }
        match format {
            Exposition::OpenMetrics => out,
            Exposition::Prometheus => as_prometheus(&out),
        }
    }

    /// Asks `probe` before each scrape, for gauges that are cheaper to look up than to keep; until it says false.
    pub fn before_scrape(&self, probe: impl Fn(&Self) -> bool + Send + Sync + 'static) {
        self.probes.0.lock().push(Box::new(probe));
    }

    /// Counts a client as connected until the guard is dropped.
    pub fn connected(&self, transport: Transport) -> Connected {
        let gauge = self.connections.get_or_create_owned(&TransportLabels { transport });
        gauge.inc();
        Connected(gauge)
    }

    /// Counts a scrape of a node.
    pub fn scraped(&self, page: ScrapedPage, outcome: Outcome, took: Duration) {
        self.scrapes.get_or_create(&ScrapeLabels { page, outcome }).inc();
        self.scrape_duration.get_or_create(&ScrapedPageLabels { page }).observe(took.as_secs_f64());
    }

    /// Counts a client that was not let in.
    pub fn auth_failed(&self, reason: AuthFailure) {
        self.auth_failures.get_or_create(&AuthFailureLabels { reason }).inc();
    }

    /// Counts an answered request and the time until its answer began.
    pub fn answered(&self, route: Route, status: http::StatusCode, took: Duration) {
        self.http_requests.get_or_create(&RequestLabels { route, code_class: CodeClass::of(status) }).inc();
        self.http_request_duration.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
        self.answering.inc_by(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts an alert for one receiver.
    pub fn alert(&self, receiver: AlertKind, outcome: AlertOutcome) {
        self.alerts.get_or_create(&AlertLabels { receiver, outcome }).inc();
    }

    /// Notes that so many more alerts wait for their receivers.
    pub fn alerts_wait(&self, more: i64) {
        self.queue_depth.get_or_create(&QueueLabels { queue: Queue::Alerts }).inc_by(more);
    }

    /// Counts records and signals that were to be kept on disk.
    pub fn history_records(&self, outcome: HistoryDiskOutcome, records: u64) {
        if records > 0 {
            self.history_disk_records.get_or_create(&HistoryDiskLabels { outcome }).inc_by(records);
        }
    }

    /// Counts points that were to be kept as history.
    pub fn history(&self, outcome: HistoryOutcome, points: u64) {
        if points > 0 {
            self.history_points.get_or_create(&HistoryLabels { outcome }).inc_by(points);
        }
    }

    /// Counts points that were to be kept on disk.
    pub fn history_on_disk(&self, outcome: HistoryDiskOutcome, points: u64) {
        if points > 0 {
            self.history_disk_points.get_or_create(&HistoryDiskLabels { outcome }).inc_by(points);
        }
    }

    /// Observes the duration of one reconciliation.
    pub fn reconciled(&self, controller: Kind, took: Duration) {
        self.reconcile_duration.get_or_create(&KindLabels { controller }).observe(took.as_secs_f64());
    }

    /// Makes each series whose labels are known exist at zero: a rate over a series that appears with its
    /// first event would miss that event.
    fn with_series_present(self) -> Self {
        for &service in Service::ALL {
            drop(self.records.get_or_create(&ServiceLabels { service }));
            drop(self.bytes.get_or_create(&ServiceLabels { service }));
        }
        for &reason in Dropped::ALL {
            drop(self.dropped.get_or_create(&DroppedLabels { reason }));
        }
        for &receiver in AlertKind::ALL {
            for &outcome in AlertOutcome::ALL {
                drop(self.alerts.get_or_create(&AlertLabels { receiver, outcome }));
            }
        }
        for &outcome in HistoryDiskOutcome::ALL {
            drop(self.history_disk_points.get_or_create(&HistoryDiskLabels { outcome }));
            drop(self.history_disk_records.get_or_create(&HistoryDiskLabels { outcome }));
        }
        for &outcome in HistoryOutcome::ALL {
            drop(self.history_points.get_or_create(&HistoryLabels { outcome }));
        }
        for &reason in Reconnect::ALL {
            drop(self.upstream_reconnects.get_or_create(&ReconnectLabels { reason }));
        }
        for &kind in UpstreamKind::ALL {
            for &outcome in Outcome::ALL {
                drop(self.upstream_requests.get_or_create(&UpstreamLabels { kind, outcome }));
            }
        }
        for &page in ScrapedPage::ALL {
            drop(self.scrape_duration.get_or_create(&ScrapedPageLabels { page }));
            for &outcome in Outcome::ALL {
                drop(self.scrapes.get_or_create(&ScrapeLabels { page, outcome }));
            }
        }
        for &watched in Watched::ALL {
            for &outcome in Outcome::ALL {
                drop(self.health_checks.get_or_create(&HealthLabels { watched, outcome }));
            }
        }
        for &controller in Kind::ALL {
            drop(self.reconcile_duration.get_or_create(&KindLabels { controller }));
            for category in Category::ALL {
                drop(self.reconcile_errors.get_or_create(&ReconcileErrorLabels { controller, category }));
            }
            for &ready in Readiness::ALL {
                drop(self.objects.get_or_create(&ObjectLabels { kind: controller, ready }));
            }
        }
        for &queue in Queue::ALL {
            drop(self.queue_depth.get_or_create(&QueueLabels { queue }));
        }
        for &transport in Transport::ALL {
            drop(self.connections.get_or_create(&TransportLabels { transport }));
        }
        for &reason in AuthFailure::ALL {
            drop(self.auth_failures.get_or_create(&AuthFailureLabels { reason }));
        }
        for &route in Route::ALL {
            drop(self.http_request_duration.get_or_create(&RouteLabels { route }));
            for code_class in [CodeClass::Success, CodeClass::ClientError, CodeClass::ServerError] {
                drop(self.http_requests.get_or_create(&RequestLabels { route, code_class }));
            }
        }
        self
    }
}

/// A client that counts as connected for as long as this lives; see [`Metrics::connected`].
#[derive(Debug)]
#[must_use = "the client counts as gone when this is dropped"]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn add<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

fn add_with_unit<M: Metric + Clone + Default>(r: &mut Registry, name: &str, unit: Unit, help: &str) -> M {
    let metric = M::default();
    r.register_with_unit(name, help, unit, metric.clone());
    metric
}

/// From half a millisecond to half a minute: a reconciliation is either local work or a few API calls.
fn durations<L>(r: &mut Registry, name: &str, help: &str) -> Histograms<L>
where
    L: Clone + Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];
    let family: Histograms<L> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
    r.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

/// Rewrites OpenMetrics as Prometheus text 0.0.4: there, a counter's metadata carries its `_total`, and
/// neither units nor the end are marked.
fn as_prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let of_counter = match line.strip_prefix("# HELP ") {
            Some(_) => lines.peek().is_some_and(|next| next.starts_with("# TYPE ") && next.ends_with(" counter")),
            None => line.starts_with("# TYPE ") && line.ends_with(" counter"),
        };
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [hash, word, name, rest] if of_counter => {
                out.extend([hash, " ", word, " ", name, "_total ", rest, "\n"]);
            }
            _ => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_hold_every_series_from_the_start() {
        let metrics = Metrics::new();
        metrics.records.get_or_create(&ServiceLabels { service: Service::Log }).inc_by(3);
        metrics.reconciled(Kind::AccessKey, Duration::from_millis(2));
        let open = metrics.encode(Exposition::OpenMetrics);
        assert!(open.contains("# TYPE weir_records counter\n"), "{open}");
        assert!(open.contains("weir_records_total{service=\"log\"} 3\n"), "{open}");
        assert!(open.contains("weir_payload_bytes_total{service=\"raw\"} 0\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
        let plain = metrics.encode(Exposition::Prometheus);
        assert!(plain.contains("# TYPE weir_records_total counter\n"), "{plain}");
        assert!(plain.contains("# HELP weir_records_total Records"), "{plain}");
        assert!(plain.contains("# TYPE weir_streams gauge\n"), "{plain}");
        assert!(
            plain.contains("weir_reconcile_duration_seconds_bucket{le=\"0.005\",controller=\"access_key\"} 1\n"),
            "{plain}"
        );
        assert!(plain.contains("process_resident_memory_bytes "), "{plain}");
        assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
    }

    #[test]
    fn a_probe_is_asked_before_each_scrape_until_it_wants_no_more() {
        let metrics = Metrics::new();
        metrics.before_scrape(|metrics| metrics.ring_records.inc() < 1);
        let seen = |line: &str| metrics.encode(Exposition::Prometheus).contains(line);
        assert!(seen("weir_ring_records 1\n") && seen("weir_ring_records 2\n") && seen("weir_ring_records 2\n"));
    }

    #[test]
    fn a_client_counts_as_connected_until_its_guard_is_dropped() {
        let metrics = Metrics::new();
        let guard = metrics.connected(Transport::Sse);
        assert!(metrics.encode(Exposition::Prometheus).contains("weir_connections{transport=\"sse\"} 1\n"));
        drop(guard);
        assert!(metrics.encode(Exposition::Prometheus).contains("weir_connections{transport=\"sse\"} 0\n"));
    }
}
