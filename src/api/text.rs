//! What people write as text and code wants as a value, kept as written until someone asks.
//!
//! An object with a malformed duration must be reported on that object, so reading it may not fail:
//! these types hold any text and parse on demand.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::{self, DurationError};

/// A length of time as written in a spec: `300ms`, `60s`, `5m`, `1h30m`, `7d`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DurationText(#[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))] pub String);

impl DurationText {
    /// The value, or what is wrong with the text.
    pub fn parse(&self) -> Result<Duration, DurationError> {
        duration::parse(&self.0)
    }
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Duration> for DurationText {
    fn from(value: Duration) -> Self {
        Self(duration::format(value))
    }
}

/// A point in time as written in a spec: RFC 3339, such as `2026-11-03T09:30:00Z`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("format" = "date-time"))]
pub struct TimeText(#[schemars(length(max = 64))] pub String);

impl TimeText {
    /// The value, or what is wrong with the text.
    pub fn parse(&self) -> Result<jiff::Timestamp, jiff::Error> {
        self.0.parse()
    }
}

impl From<&str> for TimeText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<jiff::Timestamp> for TimeText {
    fn from(value: jiff::Timestamp) -> Self {
        Self(value.to_string())
    }
}

/// How often a rule must match, and in how long: `5 in 2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    /// How often, at least once.
    pub count: u32,
    /// In how long.
    pub within: Duration,
}

/// Why a text is not a threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Not of the form.
    #[error("does not say how often in how long; write it as `5 in 2s`")]
    Form,
    /// More matches than are remembered.
    #[error("counts {0} matches; use {most} or fewer", most = Threshold::MOST)]
    TooMany(u32),
    /// The time is wrong.
    #[error("has a time that {0}")]
    Within(DurationError),
}

impl Threshold {
    /// The most matches that can be asked for: each is remembered for as long as the window is open.
    pub const MOST: u32 = 10_000;

    /// Reads a threshold.
    pub fn parse(text: &str) -> Result<Self, ThresholdError> {
        let (count, within) = text.split_once(" in ").ok_or(ThresholdError::Form)?;
        let count = count.parse().ok().filter(|count| *count > 0).ok_or(ThresholdError::Form)?;
        if count > Self::MOST {
            return Err(ThresholdError::TooMany(count));
        }
        let within = duration::parse(within).map_err(ThresholdError::Within)?;
        if within.is_zero() { Err(ThresholdError::Form) } else { Ok(Self { count, within }) }
    }
}

/// One value in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace of the object that refers to it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key inside the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}
