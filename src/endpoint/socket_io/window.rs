//! How much is on its way to a client that polls. The engine answers a poll with all that it keeps, while clients take
//! so many packets of one answer and no more: so no more than that is ever kept.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Messages that were given to the engine and were in no answer yet.
#[derive(Debug, Default)]
pub(super) struct Window {
    kept: AtomicUsize,
    answered: Notify,
}

impl Window {
    /// Takes a place among `most`; whether there was one.
    pub(super) fn enter(&self, most: usize) -> bool {
        let one_more = |kept| (kept < most).then_some(kept + 1);
        self.kept.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    /// Takes a place, whether there is one or not.
    pub(super) fn squeeze_in(&self) {
        self.kept.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives a place back that was not used.
    pub(super) fn leave(&self) {
        self.remove(1);
    }

    /// A poll was answered.
    pub(super) fn answered(&self, answer: &[u8]) {
        // Other packets are the engine's own; none of them holds the separator, which JSON escapes.
        self.remove(answer.split(|byte| *byte == SEPARATOR).filter(|packet| packet.starts_with(MESSAGE)).count());
        self.answered.notify_waiters();
    }

    /// Completes with the next answer to a poll after this call.
    pub(super) fn next_answer(&self) -> Notified<'_> {
        self.answered.notified()
    }

    fn remove(&self, count: usize) {
        let fewer = |kept: usize| Some(kept.saturating_sub(count));
        let _ = self.kept.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
    }
}

/// Between the packets of one answer, as Engine.IO 4 has it.
const SEPARATOR: u8 = 0x1e;
/// What the packet of a message begins with.
const MESSAGE: &[u8] = b"4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_for_as_many_messages_as_were_answered() {
        let window = Window::default();
        assert!(window.enter(2) && window.enter(2));
        assert!(!window.enter(2));
        window.answered(b"2\x1e42/logs/a,[\"data\",\"4\"]");
        assert!(window.enter(2) && !window.enter(2));
        window.squeeze_in();
        window.answered(b"40\x1e42[\"data\"]");
        assert!(window.enter(2) && !window.enter(2));
        window.leave();
        assert!(window.enter(2));
        window.answered(b"4\x1e4\x1e4\x1e4");
        assert!(window.enter(1), "an answer of before the window was kept");
    }
}
