//! When an object that failed is tried again: later each time, and never all of them at once.

use std::collections::HashMap;
use std::time::Duration;

use kube::runtime::controller::Action;
use parking_lot::Mutex;
use rand::RngExt as _;

/// Namespace and name of an object.
pub(super) type Id = (String, String);

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// How often each object failed in a row.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<Id, u32>>);

impl Failures {
    /// Counts a failure and says when to try again.
    pub(super) fn again(&self, id: Id) -> Action {
        let mut failures = self.0.lock();
        let count = failures.entry(id).or_default();
        let wait = wait(*count, rand::rng().random_range(0.0..1.0));
        *count = count.saturating_add(1);
        Action::requeue(wait)
    }

    /// Forgets the failures of an object that works or is gone.
    pub(super) fn forget(&self, id: &Id) {
        self.0.lock().remove(id);
    }
}

/// Half a second, doubled for each failure before, up to a minute; by `chance` (0 to 1) up to a third shorter.
pub(super) fn wait(failures: u32, chance: f64) -> Duration {
    FIRST.saturating_mul(1 << failures.min(7)).min(LAST).mul_f64(1.0 - chance / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (0..10).map(|failures| wait(failures, 0.0).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(wait(u32::MAX, 1.0), Duration::from_secs(40));
    }

    #[test]
    fn a_success_begins_anew() {
        let failures = Failures::default();
        let id = || ("shop".to_owned(), "key".to_owned());
        failures.again(id());
        failures.again(id());
        assert_eq!(failures.0.lock().get(&id()), Some(&2));
        failures.forget(&id());
        assert!(failures.0.lock().is_empty());
    }
}
