//! What sessions say, and who is let into which namespace.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use engineioxide::Str;
use engineioxide::handler::EngineIoHandler;
use engineioxide::socket::{DisconnectReason, Sid, Socket};
use http::header::ORIGIN;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use super::super::services::Services;
use super::SocketIoOptions;
use super::admit::{self, Refusal};
use super::answer::Line;
use super::commands::Desk;
use super::guest::Guest;
use super::outlet::Outlet;
use super::packet::{self, Body, EventPacket, Events, Packet};
use super::place::Place;
use super::service::address;
use super::session::{Frame, Full, Session};
use super::sessions::Counts;
use super::window::Window;
use super::{logs, news};
use crate::access::KeyId;
use crate::telemetry::Transport;

/// What the socket of a session is to the engine.
type EngineSocket = Arc<Socket<Session>>;

/// All sessions, and what they are served with.
pub(super) struct Hall {
    services: Arc<Services>,
    sessions: Arc<Counts<IpAddr>>,
    keys: Arc<Counts<KeyId>>,
    /// Of each session, by its id.
    windows: Mutex<HashMap<Sid, Arc<Window>>>,
    desk: Arc<Desk>,
}

impl Hall {
    /// Nobody is here yet.
    pub(super) fn new(services: &Arc<Services>) -> Arc<Self> {
        let options = &services.options.socket_io;
        Arc::new(Self {
            sessions: Counts::new(options.sockets, options.sockets_per_source),
            keys: Counts::new(usize::MAX, options.sockets_per_key),
            windows: Mutex::default(),
            desk: Desk::new(services),
            services: Arc::clone(services),
        })
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(super) fn sessions(&self) -> &Arc<Counts<IpAddr>> {
        &self.sessions
    }

    pub(super) fn keys(&self) -> &Arc<Counts<KeyId>> {
        &self.keys
    }

    pub(super) fn options(&self) -> &SocketIoOptions {
        &self.services.options.socket_io
    }

    /// A poll of a session was answered; `session` is what the request says.
    pub(super) fn answered(&self, session: &str, answer: &[u8]) {
        let window = session.parse().ok().and_then(|id: Sid| self.windows.lock().get(&id).cloned());
        if let Some(window) = window {
            window.answered(answer);
        }
    }

    fn outlet(&self, socket: &EngineSocket) -> Outlet {
        Outlet::new(Arc::clone(socket), self.options())
    }

    /// Lets a client into a namespace, or tells it why not.
    fn connect(self: &Arc<Self>, socket: &EngineSocket, namespace: &str, auth: Option<&Value>) {
        let outlet = self.outlet(socket);
        let entry = match socket.data.enter(namespace, self.options().namespaces_per_socket) {
            Ok(entry) => entry,
            // What the protocol calls an invalid state is harmless here.
            Err(Full::Already | Full::Over) => return,
            Err(Full::Namespaces(most)) => {
                let why = Refusal::Limit(format!("Too Many Namespaces: a socket may be in {most}"));
                return outlet.answer(packet::refused(namespace, &why.to_string()));
            }
        };
        let origin = socket.req_parts.headers.get(ORIGIN).and_then(|value| value.to_str().ok());
        let admitted = Place::at(namespace).ok_or(Refusal::InvalidNamespace);
        let admitted = admitted.and_then(|place| admit::admit(self, &place, auth, origin));
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                tracing::debug!(session = %socket.id, %refusal, "A Socket.IO client was not let into a namespace");
                socket.data.expel(namespace, &entry);
                return outlet.answer(packet::refused(namespace, &refusal.to_string()));
            }
        };
        socket.data.came_with(namespace, &entry, &admitted.key, admitted.permits);
        let sid = uuid::Uuid::new_v4().simple().to_string();
        outlet.answer(packet::connected(namespace, &sid));
        let guest = Guest {
            hall: Arc::clone(self),
            socket: Arc::clone(socket),
            events: Events::new(namespace, self.options().envelope),
            outlet,
            namespace: namespace.to_owned(),
            entry,
            origin: origin.map(str::to_owned),
            purpose: admitted.purpose,
            key: admitted.key,
        };
        self.services.drain.spawn(async move {
            match admitted.wish {
                Some(wish) => logs::follow(guest, wish).await,
                None => news::follow(guest).await,
            }
        });
    }

    fn event(self: &Arc<Self>, socket: &EngineSocket, namespace: &str, event: EventPacket) {
        // An event of a client that was just put out of the namespace may be on its way.
        let key = socket.data.key(namespace).filter(|_| Place::at(namespace) == Some(Place::Commands));
        if let Some(key) = key {
            let line = Line::new(self.outlet(socket), namespace, self.options().envelope, event.ack);
            self.desk.take(socket.id, key, line, event);
        }
    }

    fn malformed(&self, socket: &EngineSocket) {
        tracing::debug!(session = %socket.id, "A Socket.IO client sent what is no packet; its session is closed");
        self.outlet(socket).close(DisconnectReason::PacketParsingError);
    }
}

impl EngineIoHandler for Hall {
    type Data = Session;

    fn on_connect(self: Arc<Self>, socket: EngineSocket) {
        self.windows.lock().insert(socket.id, Arc::clone(socket.data.window()));
        let Some(place) = self.sessions.take(&address(&socket.req_parts.extensions)) else {
            return self.outlet(&socket).close(DisconnectReason::ClosingServer);
        };
        socket.data.begin((place, self.services.metrics.connected(Transport::SocketIo)));
        let hall = Arc::clone(&self);
        self.services.drain.spawn(async move { hall.watch(&socket).await });
    }

    fn on_disconnect(&self, socket: EngineSocket, reason: DisconnectReason) {
        tracing::debug!(session = %socket.id, ?reason, "A Socket.IO session ended");
        self.windows.lock().remove(&socket.id);
        socket.data.end();
    }

    fn on_message(self: &Arc<Self>, text: Str, socket: EngineSocket) {
        // The frames of a binary packet come right behind it.
        if socket.data.is_half() {
            return self.malformed(&socket);
        }
        let Ok(Packet { namespace, body }) = Packet::parse(&text) else { return self.malformed(&socket) };
        match body {
            Body::Connect(auth) => self.connect(&socket, namespace, auth.as_ref()),
            Body::Disconnect => socket.data.leave(namespace),
            Body::Event(event) if event.attachments > 0 => socket.data.begin_half(namespace, event),
            Body::Event(event) => self.event(&socket, namespace, event),
            Body::Ack => {}
        }
    }

    fn on_binary(self: &Arc<Self>, _: Bytes, socket: EngineSocket) {
        match socket.data.frame() {
            Frame::Waiting => {}
            Frame::Whole(namespace, event) => self.event(&socket, &namespace, event),
            Frame::Unexpected => self.malformed(&socket),
        }
    }
}

impl Hall {
    /// Ends a session that stays outside of all namespaces, and tells all others when Weir is shutting down. The
    /// session is closed, not its namespaces: so clients connect again by themselves.
    async fn watch(&self, socket: &EngineSocket) {
        let (session, patience) = (&socket.data, self.options().outside);
        loop {
            tokio::select! {
                () = session.over().cancelled() => return,
                () = self.services.drain.draining().cancelled() => break,
                () = sleep(patience) => {}
            }
            if session.outside_for().is_some_and(|time| time >= patience) {
                tracing::debug!(session = %socket.id, "A Socket.IO session was in no namespace for too long and is closed");
                return self.outlet(socket).close(DisconnectReason::TransportClose);
            }
        }
        let outlet = self.outlet(socket);
        for namespace in session.namespaces() {
            let events = Events::new(&namespace, self.options().envelope);
            outlet.answer(events.text("end", "Weir is shutting down; connect again."));
        }
        outlet.close(DisconnectReason::ClosingServer);
    }
}

impl std::fmt::Debug for Hall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hall").finish_non_exhaustive()
    }
}
