//! The source `push`: what producers upload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::default_line_bytes;

/// What producers upload.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushSource {
    /// How what is uploaded is cut into records, for rules and for readers of the declared stream. Readers of the upload itself
    /// get the bytes as they came, whatever is set here. Default Raw.
    #[serde(default)]
    pub framing: PushFraming,
    /// Most bytes that one upload may hold. Default: the operator's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub max_bytes: Option<u64>,
    /// A new upload may replace one that exists. Default false.
    #[serde(default)]
    pub allow_replace: bool,
    /// With framing Lines or Ndjson: longest record in bytes; what is beyond is cut off with a mark. Default 65536.
    #[serde(default = "default_line_bytes")]
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_line_bytes: u32,
}

impl Default for PushSource {
    fn default() -> Self {
        Self { framing: PushFraming::Raw, max_bytes: None, allow_replace: false, max_line_bytes: default_line_bytes() }
    }
}

/// How what is uploaded is cut into records.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PushFraming {
    /// Not at all: there are no records, so neither filter nor rules.
    #[default]
    Raw,
    /// One record per line.
    Lines,
    /// One record per line, each a JSON value. Blank lines are none; a line that is no JSON is given as it is, and told of.
    Ndjson,
}
