//! `StreamSubscription`: what to stream.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, SourceSpec, schema};

/// A source, what to keep of it, and what to watch for in it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "StreamSubscription",
    namespaced,
    status = "StreamSubscriptionStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "sub",
    category = "weir",
    doc = "StreamSubscription says what to stream. Weir runs it while the object exists and serves it, by its name, to whoever holds a key that grants it.",
    selectable = ".spec.suspend",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the stream can be read"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the stream can or cannot be read"
    ),
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.targets",
        description = "How many containers, files or connections are followed"
    ),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether it is switched off",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is the case and what to do",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct StreamSubscriptionSpec {
    /// Where the records come from. Exactly one field is set.
    #[serde(default)]
    #[schemars(!default)]
    pub source: SourceSpec,
    /// Which records are kept. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSpec>,
    /// What to watch for in the records, and whom to tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<RuleSpec>,
    /// How much of the past is kept for readers who come late or come back. Default: the operator's own bounds, in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistorySpec>,
    /// Switches the stream off while true: readers are told and cut, nothing is followed. Default false.
    #[serde(default)]
    pub suspend: bool,
    /// Containers of the selection that are not followed, as `pod+container`. Commands of clients write it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 3, max = 507), regex(pattern = r"^[^+]+\+[^+]+$")))]
    pub stopped_nodes: Vec<String>,
    /// When the workers were last told to start anew; another value starts them anew. Commands of clients write it. Default:
    /// never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub restarted_at: Option<String>,
}

/// Which records are kept. Patterns are regular expressions, unanchored, case-sensitive, over the line without its end.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterSpec {
    /// Keep records that match at least one of these. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)))]
    pub include: Vec<String>,
    /// Of these, drop records that match at least one of these. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)))]
    pub exclude: Vec<String>,
}

impl FilterSpec {
    /// Whether it keeps everything.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// Something to watch for, and whom to tell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.text) != has(self.pattern)", "set either text or pattern"))]
pub struct RuleSpec {
    /// Name of the rule, unique within the subscription; alerts carry it.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Fires on records that contain this text, case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub text: Option<String>,
    /// Fires on records that match this regular expression, unanchored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: Option<String>,
    /// Least time between two alerts of this rule for the same source. Default 60s.
    #[serde(default = "default_cooldown")]
    pub cooldown: DurationText,
    /// Fires only when it matches so often in so long, such as `5 in 2s`. Default: each match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 48), regex(pattern = r"^[1-9][0-9]{0,8} in ([0-9]+(ms|s|m|h|d))+$"))]
    pub threshold: Option<String>,
    /// Names of AlertReceivers in the same namespace.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub receivers: Vec<String>,
    /// What the alert says; `{line}`, `{rule}`, `{stream}`, `{source}` and what the pattern captures by name, such as `{code}` of
    /// `(?<code>[0-9]+)`, are filled in. Default: the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub message: Option<String>,
}

fn default_cooldown() -> DurationText {
    DurationText::from("60s")
}

/// How much of the past is kept. The first bound that is reached counts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.fsync) || (has(self.storage) && self.storage == 'Disk')",
    "fsync needs storage: Disk"
))]
pub struct HistorySpec {
    /// Most records to keep. Default: the operator's own bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub records: Option<u32>,
    /// Most bytes to keep. Default: the operator's own bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_000_000_000_000_000_u64))]
    pub bytes: Option<u64>,
    /// How long to keep records, such as `1h`. Default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<DurationText>,
    /// Where to keep them. Default Memory.
    #[serde(default)]
    pub storage: HistoryStorage,
    /// With storage Disk: after which writes the disk is told to keep its promise. Default: Interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsync: Option<FsyncPolicy>,
}

/// Where history is kept.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HistoryStorage {
    /// In memory: gone when Weir restarts.
    #[default]
    Memory,
    /// On disk: survives a restart.
    Disk,
}

/// When history on disk is made durable.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FsyncPolicy {
    /// After each batch.
    Always,
    /// About once a second.
    #[default]
    Interval,
    /// When the operating system likes.
    Never,
}

/// What is the case with a subscription. Counters are in the operator's metrics, not here.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamSubscriptionStatus {
    /// Ready, Validated, Streaming and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many containers, files or connections are followed. Changes only when they come or go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<i32>,
    /// The name by which clients ask for the stream: `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub stream_name: Option<String>,
}
