//! `AccessKey`: who may read what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, SecretKeyRef, TimeText, schema};

/// What a key grants, how long, and how much of it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "AccessKey",
    namespaced,
    status = "AccessKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ak",
    category = "weir",
    doc = "AccessKey says who may read what: whoever holds its token has what it grants. Weir makes the token and keeps it in a Secret that the AccessKey owns.",
    selectable = ".spec.suspend",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the key can be used"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the key can or cannot be used"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "The Secret that holds the token"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the key stops working"
    ),
    printcolumn(
        name = "Fingerprint",
        type_ = "string",
        json_path = ".status.fingerprint",
        description = "The first hex digits of the token's SHA-256",
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
#[x_kube(validation = ("!has(self.expiresAt) || !has(self.ttl)", "set expiresAt or ttl, not both"))]
#[serde(rename_all = "camelCase")]
pub struct AccessKeySpec {
    /// A sentence for people: who holds this key and what for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// What the key grants. Each grant stands alone: a request is allowed if one grant allows all of it.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 32))]
    pub grants: Vec<Grant>,
    /// When the key stops working (RFC 3339). Streams that run by then are cut. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<TimeText>,
    /// How long the key works, from its creation or last rotation: `90m`, `24h`, `7d`. Default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationText>,
    /// Revokes the key while true: running streams are cut at once, new ones refused. Default false.
    #[serde(default)]
    pub suspend: bool,
    /// How much whoever holds the key may use at once. Default: the operator's own limits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<KeyLimits>,
    /// Values of the `Origin` header that browsers may send, such as `https://dash.example.com`. Default: the operator's own list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub allowed_origins: Vec<String>,
    /// In which form the token is published in the Secret. Default Plain.
    #[serde(default)]
    pub format: KeyFormat,
    /// An existing Secret, in the same namespace, that holds the token. It must hold at least 32 characters and is never changed.
    /// Default: Weir makes a Secret named like the AccessKey, with the token under `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One thing that a key allows: services and scopes, on some streams and some pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Which kinds of record may be read.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 4))]
    pub services: Vec<Service>,
    /// How they may be used. A reading scope includes those before it: for Log Filter, View, Cluster; for Metrics Snapshot, Stream, Cluster;
    /// for Raw View or Stream, Cluster; for Signal any. Push, Command and Admin include no reading and no reading includes them.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 8))]
    pub scopes: Vec<Scope>,
    /// Names of StreamSubscriptions or anchored patterns, also as `namespace/name`. Default: any in the namespaces of `pods`, but none where `pods` names groups, pods or containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub streams: Vec<String>,
    /// Which pods and containers may be read directly. Default: none where `streams` is set, else any in the namespaces that the key may reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodGrant>,
}

/// The pods and containers of a grant. An empty list means any; what is written must match as a whole.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodGrant {
    /// Namespaces, by name or anchored pattern. A key outside the operator's namespace reaches its own only. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub namespaces: Vec<String>,
    /// Groups as `type+name`, such as `deployment+cart`, or a bare name for any type. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Pods, by name or anchored pattern. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub pods: Vec<String>,
    /// Containers, by name or anchored pattern, also as `pod+container`. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub containers: Vec<String>,
}

/// A kind of record.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Service {
    /// Lines.
    Log,
    /// Numbers.
    Metrics,
    /// Events.
    Signal,
    /// Bytes as they were uploaded.
    Raw,
}

/// How a service may be used.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Read lines through a filter.
    Filter,
    /// Read lines.
    View,
    /// Read numbers once.
    Snapshot,
    /// Read continuously.
    Stream,
    /// Upload.
    Push,
    /// Send commands to a running stream.
    Command,
    /// Manage keys. Not tied to a service.
    Admin,
    /// The highest reading scope: read with every view, the cluster's too. It does not reach beyond the namespaces of the key.
    Cluster,
}

/// In which form a token is published.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyFormat {
    /// The token alone.
    #[default]
    Plain,
    /// The token inside `id|type|resources`, as clients of the session socket read it. What it grants is what this object says, never the string.
    Kwirth,
}

/// How much may be used at once with one key. What is absent is bounded by the operator's own limits only.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyLimits {
    /// Open connections at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u32>,
    /// Running streams at the same time, over all connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams: Option<u32>,
    /// Records delivered per second, over all streams. What is above waits within the stream's ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub records_per_second: Option<u32>,
    /// Bytes delivered per second, over all streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub bytes_per_second: Option<u64>,
}

/// What is the case with a key. Never the token itself.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyStatus {
    /// Ready, Validated and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Secret that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// The first hex digits of the token's SHA-256, to tell tokens apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub fingerprint: Option<String>,
    /// When the key stops working, after all defaults and the ttl are applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<TimeText>,
    /// When the token was made or last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<TimeText>,
}
