//! One session of Engine.IO as this room sees it: the namespaces that its client is in, and half a packet.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::admit::Permits;
use super::packet::EventPacket;
use super::sessions::Taken;
use super::window::Window;
use crate::access::Key;

/// How long the binary frames of a packet may take.
const HALF: Duration = Duration::from_secs(10);

/// What the engine keeps with each session.
#[derive(Debug, Default)]
pub(super) struct Session {
    over: CancellationToken,
    window: Arc<Window>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<String, Inside>,
    entries: u64,
    half: Option<Half>,
    /// Since when the client is in no namespace.
    outside: Option<Instant>,
    taken: Option<Taken>,
}

/// That the client is in a namespace.
#[derive(Debug)]
struct Inside {
    entry: u64,
    left: CancellationToken,
    /// With which key, once that is known, and what is held of its limits: who leaves gives that back at once.
    key: Option<(Arc<Key>, Permits)>,
}

/// A binary packet of which frames are due.
#[derive(Debug)]
struct Half {
    namespace: String,
    event: EventPacket,
    missing: u32,
    since: Instant,
}

/// What became of a binary frame.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// More are due.
    Waiting,
    /// It was the last; the event, with its namespace.
    Whole(String, EventPacket),
    /// None was due, or it came too late.
    Unexpected,
}

/// Why a client is not let into a namespace, whatever it presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// It is in already; nothing is said to that.
    Already,
    /// It is in as many as it may be.
    Namespaces(usize),
    /// The session is over.
    Over,
}

/// A place in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    number: u64,
    /// Cancelled when the client leaves, or the session ends.
    pub(super) left: CancellationToken,
}

impl Session {
    /// The session begins, and holds its place among all for as long as it lasts.
    pub(super) fn begin(&self, taken: Taken) {
        let mut state = self.state.lock();
        (state.taken, state.outside) = (Some(taken), Some(Instant::now()));
    }

    /// What is on its way to the client while it polls.
    pub(super) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// Cancelled when the session ends.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Ends everything in the session.
    pub(super) fn end(&self) {
        self.over.cancel();
        let mut state = self.state.lock();
        (state.namespaces, state.half, state.taken) = (HashMap::new(), None, None);
    }

    /// Lets the client into a namespace, where it may be in `most`.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn enter(&self, namespace: &str, most: usize) -> Result<Entry, Full> {
        let mut state = self.state.lock();
        if self.over.is_cancelled() {
            return Err(Full::Over);
        }
        if state.namespaces.contains_key(namespace) {
            return Err(Full::Already);
        }
        if state.namespaces.len() >= most {
            return Err(Full::Namespaces(most));
        }
        state.entries += 1;
        let entry = Entry { number: state.entries, left: self.over.child_token() };
        let inside = Inside { entry: entry.number, left: entry.left.clone(), key: None };
        state.namespaces.insert(namespace.to_owned(), inside);
        Ok(entry)
    }

    /// Takes note of the key with which the client came into a namespace. From now on it is inside: who only knocks is not.
    pub(super) fn came_with(&self, namespace: &str, entry: &Entry, key: &Arc<Key>, permits: Permits) {
        let mut state = self.state.lock();
        let inside = state.namespaces.get_mut(namespace).filter(|inside| inside.entry == entry.number);
        if let Some(inside) = inside {
            inside.key = Some((Arc::clone(key), permits));
            state.outside = None;
        }
    }

    /// The key with which the client came into a namespace.
    pub(super) fn key(&self, namespace: &str) -> Option<Arc<Key>> {
        let state = self.state.lock();
        let (key, _) = state.namespaces.get(namespace)?.key.as_ref()?;
        Some(Arc::clone(key))
    }

    /// The client leaves a namespace.
    pub(super) fn leave(&self, namespace: &str) {
        self.remove(namespace, None);
    }

    /// Takes back one entry, not a later one into the same namespace; whether it was still there.
    pub(super) fn expel(&self, namespace: &str, entry: &Entry) -> bool {
        self.remove(namespace, Some(entry.number))
    }

    fn remove(&self, namespace: &str, number: Option<u64>) -> bool {
        let mut state = self.state.lock();
        match state.namespaces.get(namespace) {
            Some(inside) if number.is_none_or(|number| inside.entry == number) => inside.left.cancel(),
            _ => return false,
        }
        state.namespaces.remove(namespace);
        if state.namespaces.is_empty() {
            state.outside.get_or_insert_with(Instant::now);
        }
        true
    }

    /// The namespaces that the client is in.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.state.lock().namespaces.keys().cloned().collect()
    }

    /// For how long the client has been in no namespace.
    pub(super) fn outside_for(&self) -> Option<Duration> {
        self.state.lock().outside.map(|since| since.elapsed())
    }

    /// Whether frames of a binary packet are due.
    pub(super) fn is_half(&self) -> bool {
        self.state.lock().half.is_some()
    }

    /// A binary packet began, and its frames are due.
    pub(super) fn begin_half(&self, namespace: &str, event: EventPacket) {
        let missing = event.attachments;
        let half = Half { namespace: namespace.to_owned(), event, missing, since: Instant::now() };
        self.state.lock().half = Some(half);
    }

    /// A binary frame came. Its bytes are not kept: no event here wants any.
    pub(super) fn frame(&self) -> Frame {
        let mut state = self.state.lock();
        let Some(mut half) = state.half.take().filter(|half| half.since.elapsed() < HALF) else {
            return Frame::Unexpected;
        };
        half.missing -= 1;
        if half.missing == 0 {
            return Frame::Whole(half.namespace, half.event);
        }
        state.half = Some(half);
        Frame::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_in_a_namespace_once_and_in_no_more_than_it_may() {
        let session = Session::default();
        let first = session.enter("/a", 2).unwrap();
        assert_eq!(session.enter("/a", 2).unwrap_err(), Full::Already);
        session.enter("/b", 2).unwrap();
        assert_eq!(session.enter("/c", 2).unwrap_err(), Full::Namespaces(2));
        session.leave("/a");
        assert!(first.left.is_cancelled());
        let second = session.enter("/a", 2).unwrap();
        assert!(!session.expel("/a", &first), "the entry of before is over already");
        assert!(!second.left.is_cancelled());
        session.end();
        assert!(second.left.is_cancelled());
        assert_eq!(session.enter("/a", 2).unwrap_err(), Full::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_packet_is_whole_with_its_last_frame_and_forgotten_when_it_is_late() {
        let event = EventPacket { name: "data".into(), arguments: Vec::new(), ack: None, attachments: 2 };
        let session = Session::default();
        assert_eq!(session.frame(), Frame::Unexpected);
        session.begin_half("/a", event.clone());
        assert_eq!(session.frame(), Frame::Waiting);
        assert_eq!(session.frame(), Frame::Whole("/a".into(), event.clone()));
        session.begin_half("/a", event);
        tokio::time::advance(HALF).await;
        assert_eq!(session.frame(), Frame::Unexpected);
        assert!(!session.is_half());
    }
}
