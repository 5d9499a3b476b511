//! What a subscription keeps of the lines that its source gives.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::api::FilterSpec;
use crate::record::{Batch, LineLimit};
use crate::telemetry::{Dropped, DroppedLabels, Metrics};

/// How large a compiled filter may become, in bytes: patterns come from outside.
const COMPILED_BYTES: usize = 4 * 1024 * 1024;

/// A subscription's filter and its longest line. What it takes away is counted.
#[derive(Debug)]
pub struct Sieve {
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
    limit: LineLimit,
    filtered: Counter,
    truncated: Counter,
}

impl Sieve {
    /// Keeps the lines that match one of the filter's `include`, where there are any, and none of its `exclude`, each
    /// up to `limit`.
    ///
    /// # Errors
    /// Where a pattern does not compile, or is too large.
    pub fn new(filter: &FilterSpec, limit: LineLimit, metrics: &Metrics) -> Result<Self, regex::Error> {
        let dropped = |reason| metrics.dropped.get_or_create_owned(&DroppedLabels { reason });
        Ok(Self {
            include: pattern_set(&filter.include)?,
            exclude: pattern_set(&filter.exclude)?,
            limit,
            filtered: dropped(Dropped::Filtered),
            truncated: dropped(Dropped::Truncated),
        })
    }

    /// The longest line that is kept whole.
    pub fn limit(&self) -> LineLimit {
        self.limit
    }

    /// The lines that are kept; the batch itself where that is all of them.
    pub fn apply(&self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        let kept = if self.include.is_none() && self.exclude.is_none() {
            Arc::clone(batch)
        } else {
            let kept = batch.retain(|_, text| self.keeps(text));
            let left = kept.as_ref().map_or(0, |kept| kept.len());
            self.filtered.inc_by((batch.len() - left) as u64);
            kept?
        };
        let kept = kept.clip(self.limit);
        let truncated = kept.lines().iter().filter(|line| line.truncated).count();
        if truncated > 0 {
            self.truncated.inc_by(truncated as u64);
        }
        Some(kept)
    }

    fn keeps(&self, text: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(text))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(text))
    }
}

fn pattern_set(patterns: &[String]) -> Result<Option<RegexSet>, regex::Error> {
    if patterns.is_empty() {
        return Ok(None);
    }
    RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES).build().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Line, Origin, Time};

    fn batch(lines: &[&str]) -> Arc<Batch> {
        let (mut data, mut table) = (Vec::new(), Vec::new());
        for text in lines {
            let start = data.len();
            data.extend_from_slice(text.as_bytes());
            table.push(Line::new(start..data.len(), Time(0), false));
        }
        Arc::new(Batch::new(Arc::new(Origin::default()), data.into(), table))
    }

    #[test]
    fn lines_that_are_left_out_or_cut_are_counted() {
        let filter = FilterSpec { include: vec!["a".into()], exclude: vec!["z".into()] };
        let sieve = Sieve::new(&filter, LineLimit(3), &Metrics::new()).expect("a filter");
        let applied = |lines: &[&str]| sieve.apply(&batch(lines)).map_or(0, |kept| kept.len());
        assert_eq!(applied(&["a", "b", "az", "aaaa"]), 2);
        assert_eq!((sieve.filtered.get(), sieve.truncated.get()), (2, 1));
        assert_eq!(applied(&["b", "c"]), 0);
        assert_eq!((sieve.filtered.get(), sieve.truncated.get()), (4, 1));
    }

    #[test]
    fn a_sieve_without_a_filter_hands_the_batch_on_as_it_is() {
        let sieve = Sieve::new(&FilterSpec::default(), LineLimit(3), &Metrics::new()).expect("no filter");
        let batch = batch(&["a", "abc"]);
        assert!(Arc::ptr_eq(&sieve.apply(&batch).expect("all of it"), &batch));
    }
}
