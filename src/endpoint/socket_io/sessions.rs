//! How many sessions there are: in all, from one address, and of one key. A session that is polled holds no
//! connection between two requests, so the caps of connections do not see it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::KeyId;
use crate::telemetry::Connected;

/// Counts by something, up to a limit.
#[derive(Debug)]
pub(super) struct Counts<K> {
    total: usize,
    each: usize,
    taken: Mutex<(usize, HashMap<K, usize>)>,
}

/// One that is counted; no longer when dropped.
#[derive(Debug)]
pub(super) struct Counted<K: Eq + Hash + Clone> {
    counts: Arc<Counts<K>>,
    of: K,
}

/// What a session holds: its place, and that it is counted.
pub(super) type Taken = (Counted<IpAddr>, Connected);

/// What a place in a namespace holds of its key.
pub(super) type OfKey = Counted<KeyId>;

impl<K: Eq + Hash + Clone> Counts<K> {
    /// None yet; at most `total` in all, and `each` of one.
    pub(super) fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { total, each, taken: Mutex::default() })
    }

    /// One more, where there is room for it.
    pub(super) fn take(self: &Arc<Self>, of: &K) -> Option<Counted<K>> {
        let mut taken = self.taken.lock();
        if !self.has_room(&taken, of) {
            return None;
        }
        taken.0 += 1;
        *taken.1.entry(of.clone()).or_default() += 1;
        Some(Counted { counts: Arc::clone(self), of: of.clone() })
    }

    /// Whether there is room for one more.
    pub(super) fn admits(&self, of: &K) -> bool {
        self.has_room(&self.taken.lock(), of)
    }

    fn has_room(&self, (total, by): &(usize, HashMap<K, usize>), of: &K) -> bool {
        *total < self.total && by.get(of).copied().unwrap_or(0) < self.each
    }
}

impl<K: Eq + Hash + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut taken = self.counts.taken.lock();
        taken.0 -= 1;
        if let Some(here) = taken.1.get_mut(&self.of) {
            *here -= 1;
            if *here == 0 {
                taken.1.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_their_own_and_all_together_no_more_than_there_is() {
        let counts = Counts::new(3, 2);
        let (first, second) = (counts.take(&'a').unwrap(), counts.take(&'a').unwrap());
        assert!(counts.take(&'a').is_none(), "the limit of one");
        let third = counts.take(&'b').unwrap();
        assert!(!counts.admits(&'b'), "the limit of all");
        drop((first, second));
        assert!(counts.admits(&'a'));
        drop(third);
        assert!(counts.taken.lock().1.is_empty());
    }
}
