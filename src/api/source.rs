//! Where the records of a subscription come from.
//!
//! To add a source: a struct, a field in [`SourceSpec`], a variant of [`SourceKind`], and its line in
//! [`SourceSpec::kinds`].

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, PodSelection, PushSource, SecretKeyRef, Service, TimeText};

/// Where the records come from. Exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.podLogs), has(self.podMetrics), has(self.podSignals), has(self.files), has(self.containers), has(self.http), has(self.webSocket), has(self.tcp), has(self.push)].filter(x, x).size() == 1",
    "set exactly one source: podLogs, podMetrics, podSignals, files, containers, http, webSocket, tcp or push"
))]
pub struct SourceSpec {
    /// The logs of containers, through the API server or a node agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_logs: Option<PodLogsSource>,
    /// Numbers about pods and containers, from the kubelets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metrics: Option<PodMetricsSource>,
    /// Kubernetes Events and changes of pods and containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_signals: Option<PodSignalsSource>,
    /// Files on the machine that Weir runs on. Off in a cluster unless the operator allows the paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,
    /// The logs of containers of a Docker Engine. Off in a cluster unless the operator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<ContainersSource>,
    /// A stream read over HTTP. Off in a cluster unless the operator allows the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A stream read over a WebSocket. Off in a cluster unless the operator allows the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_socket: Option<WebSocketSource>,
    /// A stream read over TCP. Off in a cluster unless the operator allows the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSource>,
    /// What producers upload to this stream by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushSource>,
}

/// The kinds of source, named as in [`SourceSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// `podLogs`
    PodLogs,
    /// `podMetrics`
    PodMetrics,
    /// `podSignals`
    PodSignals,
    /// `files`
    Files,
    /// `containers`
    Containers,
    /// `http`
    Http,
    /// `webSocket`
    WebSocket,
    /// `tcp`
    Tcp,
    /// `push`
    Push,
}

impl SourceKind {
    /// The name of the field in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodLogs => "podLogs",
            Self::PodMetrics => "podMetrics",
            Self::PodSignals => "podSignals",
            Self::Files => "files",
            Self::Containers => "containers",
            Self::Http => "http",
            Self::WebSocket => "webSocket",
            Self::Tcp => "tcp",
            Self::Push => "push",
        }
    }

    /// The service that a key must be granted to read what sources of this kind give.
    pub fn service(self) -> Service {
        match self {
            Self::PodLogs | Self::Files | Self::Containers => Service::Log,
            Self::PodMetrics => Service::Metrics,
            Self::PodSignals => Service::Signal,
            Self::Http | Self::WebSocket | Self::Tcp | Self::Push => Service::Raw,
        }
    }
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SourceSpec {
    /// A source that follows the logs of pods.
    pub fn pod_logs(source: PodLogsSource) -> Self {
        Self { pod_logs: Some(source), ..Self::default() }
    }

    /// A source that reads numbers about pods.
    pub fn pod_metrics(source: PodMetricsSource) -> Self {
        Self { pod_metrics: Some(source), ..Self::default() }
    }

    /// A source that tells what happens to pods.
    pub fn pod_signals(source: PodSignalsSource) -> Self {
        Self { pod_signals: Some(source), ..Self::default() }
    }

    /// All kinds that are set; a valid spec has exactly one.
    pub fn kinds(&self) -> Vec<SourceKind> {
        [
            (SourceKind::PodLogs, self.pod_logs.is_some()),
            (SourceKind::PodMetrics, self.pod_metrics.is_some()),
            (SourceKind::PodSignals, self.pod_signals.is_some()),
            (SourceKind::Files, self.files.is_some()),
            (SourceKind::Containers, self.containers.is_some()),
            (SourceKind::Http, self.http.is_some()),
            (SourceKind::WebSocket, self.web_socket.is_some()),
            (SourceKind::Tcp, self.tcp.is_some()),
            (SourceKind::Push, self.push.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, set)| set.then_some(kind))
        .collect()
    }

    /// Whether what is read depends on which stream it is for: on positions that are kept, or on secrets of its
    /// namespace.
    pub fn is_of_one_stream(&self) -> bool {
        let secret = |headers: &[HeaderSpec]| headers.iter().any(|header| header.value_from.is_some());
        self.files.is_some()
            || self.push.is_some()
            || self.http.as_ref().is_some_and(|source| secret(&source.headers))
            || self.web_socket.as_ref().is_some_and(|source| secret(&source.headers))
    }

    /// Whether nodes of it are stopped and started while it runs. Others start anew without them, and read from their past what
    /// was written meanwhile.
    pub fn stops_nodes_as_it_runs(&self) -> bool {
        self.containers.is_some()
    }

    /// The kind, if exactly one is set.
    pub fn kind(&self) -> Option<SourceKind> {
        match self.kinds().as_slice() {
            [kind] => Some(*kind),
            _ => None,
        }
    }
}

/// The logs of containers. Containers that start later are followed from their first line.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLogsSource {
    /// Which pods and containers. Default: all that the subscription may reach.
    #[serde(default)]
    pub selection: PodSelection,
    /// Where to begin in containers that run already. Default: with what is written from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSpec>,
    /// Put the container runtime's time in front of each line, where the wire format has no field for it. Default false.
    #[serde(default)]
    pub timestamps: bool,
    /// Read the log of the previous instance of each container first, where there is one. Default false.
    #[serde(default)]
    pub previous: bool,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

impl Default for PodLogsSource {
    fn default() -> Self {
        Self {
            selection: PodSelection::default(),
            start: None,
            timestamps: false,
            previous: false,
            max_line_bytes: default_line_bytes(),
        }
    }
}

/// The longest line, in bytes, where a spec does not say otherwise.
pub const DEFAULT_LINE_BYTES: u32 = 65_536;

pub(super) fn default_line_bytes() -> u32 {
    DEFAULT_LINE_BYTES
}

/// Where to begin in a log that exists already. At most one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.tailLines), has(self.sinceSeconds), has(self.sinceTime), has(self.fromStart) && self.fromStart].filter(x, x).size() <= 1",
    "set at most one of tailLines, sinceSeconds, sinceTime and fromStart"
))]
pub struct StartSpec {
    /// With the last lines of each container, this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub tail_lines: Option<u32>,
    /// With what was written in the last seconds, this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub since_seconds: Option<u32>,
    /// With what was written from this time on (RFC 3339, fractions of a second count).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_time: Option<TimeText>,
    /// With the first line that still exists. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_start: bool,
}

/// Numbers about pods and containers.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetricsSource {
    /// Which pods and containers; the view says what one value stands for. Default: all that the subscription may reach.
    #[serde(default)]
    pub selection: PodSelection,
    /// Names of metrics, in the order in which readers get them.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    pub metrics: Vec<String>,
    /// Time between two scrapes. Default 60s.
    #[serde(default = "default_interval")]
    pub interval: DurationText,
    /// Sum everything into one asset instead of one for each thing in view. Default false.
    #[serde(default)]
    pub aggregate: bool,
    /// One message, or one for each interval. Default Stream.
    #[serde(default)]
    pub mode: MetricsMode,
    /// How the kubelets are reached. Default: as the operator is configured, which is Kubelet unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<ScrapeVia>,
}

/// The shortest and the longest time between two scrapes.
pub const METRICS_INTERVAL: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_secs(1)..=std::time::Duration::from_secs(3600);

/// Behind the name of a counter: how fast it grows, per second.
pub const RATE_SUFFIX: &str = ":rate";

/// The metrics that are worked out from others, each with what it means.
pub const DERIVED_METRICS: &[(&str, &str)] = &[
    ("kwirth_container_cpu_percentage", "CPU time, in percent of all CPUs of the container's node"),
    ("kwirth_container_memory_percentage", "Working set, in percent of the memory of the container's node"),
    ("kwirth_container_transmit_percentage", "Sent over the network, in percent of what all pods of the node send"),
    (
        "kwirth_container_receive_percentage",
        "Received over the network, in percent of what all pods of the node receive",
    ),
    ("kwirth_container_transmit_mbps", "Sent over the network, in megabits (1,000,000 bits) per second"),
    ("kwirth_container_receive_mbps", "Received over the network, in megabits (1,000,000 bits) per second"),
    ("kwirth_container_write_mbps", "Written to disk, in megabits (1,000,000 bits) per second"),
    ("kwirth_container_read_mbps", "Read from disk, in megabits (1,000,000 bits) per second"),
    ("kwirth_cluster_container_cpu_percentage", "CPU time, in percent of all CPUs of the cluster"),
    ("kwirth_cluster_container_memory_percentage", "Working set, in percent of the memory of the cluster"),
    (
        "kwirth_cluster_container_transmit_percentage",
        "Sent over the network, in percent of what all pods of the cluster send",
    ),
    (
        "kwirth_cluster_container_receive_percentage",
        "Received over the network, in percent of what all pods of the cluster receive",
    ),
    ("kwirth_cluster_container_transmit_mbps", "Sent over the network, in megabits (1,000,000 bits) per second"),
    ("kwirth_cluster_container_receive_mbps", "Received over the network, in megabits (1,000,000 bits) per second"),
    ("kwirth_cluster_container_write_mbps", "Written to disk, in megabits (1,000,000 bits) per second"),
    ("kwirth_cluster_container_read_mbps", "Read from disk, in megabits (1,000,000 bits) per second"),
];

fn default_interval() -> DurationText {
    DurationText::from("60s")
}

impl Default for PodMetricsSource {
    fn default() -> Self {
        Self {
            selection: PodSelection::default(),
            metrics: Vec::new(),
            interval: default_interval(),
            aggregate: false,
            mode: MetricsMode::default(),
            scrape: None,
        }
    }
}

/// How often numbers are delivered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetricsMode {
    /// Once.
    Snapshot,
    /// Every interval.
    #[default]
    Stream,
}

/// How the kubelets' metrics are reached.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScrapeVia {
    /// The kubelet's own port; needs the permission `nodes/metrics`.
    #[default]
    Kubelet,
    /// The API server's proxy to the node.
    Proxy,
}

/// Kubernetes Events and changes of pods and containers.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSignalsSource {
    /// Which pods. Default: all that the subscription may reach.
    #[serde(default)]
    pub selection: PodSelection,
    /// What is told: changes of the pods and their containers, Kubernetes Events of the pods and what owns them. Default: both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub objects: Vec<SignalObjects>,
    /// Only signals of these levels. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub levels: Vec<SignalLevel>,
    /// Only signals with these reasons, by name or anchored pattern, such as `BackOff`; none without a reason. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub reasons: Vec<String>,
    /// Only Events of these types, such as `Warning`. A change of a pod is `Normal` where its level is info, else `Warning`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub types: Vec<String>,
}

/// What signals tell of.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignalObjects {
    /// Changes of pods and containers.
    Pods,
    /// Kubernetes Events of the pods, and of what owns them.
    Events,
}

/// How grave a signal is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignalLevel {
    /// Good to know.
    Info,
    /// Something may be missing.
    Warning,
    /// Something is missing.
    Error,
}

impl SignalLevel {
    /// Reads a level in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "info" => Self::Info,
            "warning" => Self::Warning,
            "error" => Self::Error,
            _ => return None,
        })
    }
}

/// Files on the machine that Weir runs on. Rotation and truncation are survived.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesSource {
    /// Paths or globs (`*`, `?`, `[…]`, `**`), absolute. New matches are followed from their first line.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    pub paths: Vec<String>,
    /// Begin with the first line of files that exist already, not with what is written from now on. Default false.
    #[serde(default)]
    pub from_start: bool,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

/// The logs of containers of a Docker Engine.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainersSource {
    /// Containers, by name or anchored pattern.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Begin with the last lines of each container, this many. Default 0.
    #[serde(default)]
    #[schemars(range(max = 10_000_000))]
    pub tail_lines: u32,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

/// A header that is sent with a request. Exactly one of value and valueFrom is set.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.value) != has(self.valueFrom)", "set either value or valueFrom"))]
pub struct HeaderSpec {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// Its value, where it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// The Secret that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<SecretKeyRef>,
}

/// A stream read over HTTP.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Address, beginning with `http://` or `https://`. No user or password in it: use a header.
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub url: String,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderSpec>,
    /// How the body is cut into records. Default Lines.
    #[serde(default)]
    pub mode: HttpMode,
    /// Wait before the first reconnect; it grows to 60s while connecting keeps failing. Default 5s.
    #[serde(default = "default_reconnect_delay")]
    pub reconnect_delay: DurationText,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

fn default_reconnect_delay() -> DurationText {
    DurationText::from("5s")
}

fn default_idle_timeout() -> DurationText {
    DurationText::from("1h")
}

/// How an HTTP body is cut into records.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpMode {
    /// One record per line.
    #[default]
    Lines,
    /// One record per event of a `text/event-stream`; resumed with `Last-Event-ID`.
    ServerSentEvents,
    /// One record per line; a response that ends is asked for again.
    LongPolling,
}

/// A stream read over a WebSocket.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketSource {
    /// Address, beginning with `ws://` or `wss://`. No user or password in it: use a header.
    #[schemars(length(min = 6, max = 2048), regex(pattern = r"^wss?://[^/@\s]+(/\S*|\?\S*)?$"))]
    pub url: String,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderSpec>,
    /// Wait before the first reconnect; it grows to 60s while connecting keeps failing. Default 5s.
    #[serde(default = "default_reconnect_delay")]
    pub reconnect_delay: DurationText,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

/// A stream of lines read over TCP.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.tls) || !has(self.listen) || !self.tls || !self.listen",
    "tls and listen cannot be combined"
))]
pub struct TcpSource {
    /// `host:port` to connect to, or to listen on.
    #[schemars(length(min = 3, max = 261), regex(pattern = r"^(\[[0-9a-fA-F:.]+\]|[^\s:/@]+):[0-9]{1,5}$"))]
    pub address: String,
    /// Speak TLS, trusting the system's roots. Default false.
    #[serde(default)]
    pub tls: bool,
    /// Accept connections instead of making one, as for senders of syslog. Default false.
    #[serde(default)]
    pub listen: bool,
    /// With listen: a sender that sends nothing for so long is disconnected, so that its place is free for another. From 1s;
    /// default 1h.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: DurationText,
    /// Wait before the first reconnect; it grows to 60s while connecting keeps failing. Default 5s.
    #[serde(default = "default_reconnect_delay")]
    pub reconnect_delay: DurationText,
    /// Longest line in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}
