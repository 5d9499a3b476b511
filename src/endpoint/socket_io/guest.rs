//! One client in one namespace: until when it may stay, and how it is told that it may not.

use std::sync::Arc;

use engineioxide::socket::Socket;

use super::admit::{Purpose, authorise};
use super::hall::Hall;
use super::outlet::Outlet;
use super::packet::{self, Events};
use super::session::{Entry, Session};
use crate::access::{Denied, Key, KeyState};
use crate::record::Time;

/// A client that was let into a namespace.
pub(super) struct Guest {
    pub(super) hall: Arc<Hall>,
    pub(super) socket: Arc<Socket<Session>>,
    pub(super) outlet: Outlet,
    pub(super) events: Events,
    pub(super) namespace: String,
    pub(super) entry: Entry,
    pub(super) origin: Option<String>,
    pub(super) purpose: Purpose,
    pub(super) key: Arc<Key>,
}

/// What ends or interrupts a stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client left, or its session is over: there is nobody to tell.
    Left,
    /// The key counts no more, or is another.
    Key(KeyState),
}

impl Guest {
    /// Waits until the client leaves or its key ends. Weir's own end comes as the end of the session.
    pub(super) async fn cut(&self) -> Cut {
        tokio::select! {
            biased;
            () = self.entry.left.cancelled() => Cut::Left,
            state = self.key.ended() => Cut::Key(state),
        }
    }

    /// Goes on with the key's successor, where that grants the same.
    ///
    /// # Errors
    /// Why the client may not stay.
    pub(super) fn renew(&mut self, state: KeyState) -> Result<(), Denied> {
        let (services, now) = (self.hall.services(), Time::now());
        if state != KeyState::Changed {
            self.key.is_live(now)?;
            return Ok(());
        }
        let key = services.keyring.successor(&self.key, now)?;
        key.allows_origin(self.origin.as_deref())?;
        authorise(services, &key, &self.purpose)?;
        self.key = key;
        Ok(())
    }

    /// Tells the client why it may not stay, and puts it out of the namespace.
    pub(super) async fn dismiss(self, why: &str) {
        if self.outlet.data(&mut self.events.text("end", why)).await.is_ok()
            && self.socket.data.expel(&self.namespace, &self.entry)
        {
            self.outlet.answer(packet::disconnected(&self.namespace));
        }
    }
}
