//! Numbers: what one round of a metrics stream found, all assets together.

use std::sync::{Arc, OnceLock};

use super::Time;
use super::encode::{self, Encoded, Wire};

/// What the values of a metrics stream are about, and in which order they stand. Made once per stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadingHead {
    /// The names of the metrics, in the order asked.
    pub names: Vec<String>,
    /// The namespaces that were selected, as a comma list; the same holds for the next three.
    pub namespace: String,
    /// The groups, as `type+name`.
    pub group: String,
    /// The pods.
    pub pod: String,
    /// The containers.
    pub container: String,
}

/// What one value stands for: a container, a pod, a group, a namespace or all that is in view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asset {
    /// Its name, as it is shown to people; unique within a reading.
    pub name: String,
    /// Its namespace; empty where it spans several.
    pub namespace: String,
    /// Its group, as `type+name`, where it is one or stands in one.
    pub group: String,
    /// Its pod, where it is one or stands in one.
    pub pod: String,
    /// Its container, where it is one.
    pub container: String,
    /// Its values in the order of [`ReadingHead::names`]; one that is not known is absent, never zero.
    pub values: Vec<Option<f64>>,
}

/// One round of a metrics stream. Never changes after it was made, so that each wire format is encoded once and shared
/// by all readers.
#[derive(Debug)]
pub struct Reading {
    head: Arc<ReadingHead>,
    time: Time,
    assets: Vec<Asset>,
    encoded: [OnceLock<Encoded>; Wire::COUNT],
}

impl Reading {
    /// The values of `assets` at `time`. Numbers that are not finite become absent: JSON has no way to say them.
    pub fn new(head: Arc<ReadingHead>, time: Time, mut assets: Vec<Asset>) -> Self {
        for value in assets.iter_mut().flat_map(|asset| &mut asset.values) {
            *value = value.filter(|value| value.is_finite());
        }
        debug_assert!(assets.iter().all(|asset| asset.values.len() == head.names.len()));
        Self { head, time, assets, encoded: Default::default() }
    }

    /// What is the same in all readings of the stream.
    pub fn head(&self) -> &ReadingHead {
        &self.head
    }

    /// When the values were asked for.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Whose values there are.
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// What the reading costs to hold, in bytes, without what it was encoded to.
    pub fn cost(&self) -> usize {
        let text = |asset: &Asset| {
            [&asset.name, &asset.namespace, &asset.group, &asset.pod, &asset.container].map(String::len).iter().sum()
        };
        let asset = |asset: &Asset| -> usize {
            let text: usize = text(asset);
            size_of::<Asset>() + text + asset.values.len() * size_of::<Option<f64>>()
        };
        size_of::<Self>() + self.assets.iter().map(asset).sum::<usize>()
    }

    /// The reading in a wire format: encoded by the first who asks, shared by all who ask later.
    pub fn encoded(&self, wire: Wire) -> &Encoded {
        self.encoded[wire as usize].get_or_init(|| encode::reading(self, wire, self.time))
    }

    /// The reading in a wire format with another time in its messages: the session protocol's first message of a
    /// stream carries none.
    pub fn encoded_at(&self, wire: Wire, time: Time) -> Encoded {
        encode::reading(self, wire, time)
    }
}
