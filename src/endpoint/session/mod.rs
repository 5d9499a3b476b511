//! The session socket: one WebSocket, any number of independent instances, three dialects (`docs/protocols.md`).
//!
//! | file | what it holds |
//! |---|---|
//! | `message` | what clients say: parsing, dialects |
//! | `start` | from a start message to an instance |
//! | `metrics` | numbers of a selection: what is asked for, and changing it |
//! | `instance` | what runs for a client, and how it is written to the socket |
//! | `answer` | what Weir says beside log lines |
//! | `lobby` | instances whose connection was lost |

mod answer;
mod instance;
mod lobby;
mod message;
mod metrics;
mod start;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::select_all;
use http::HeaderMap;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use self::instance::{Happening, Instance};
use self::lobby::Lobby;
use self::message::{Action, Dialect, Key as Proof, Request, Start};
use self::start::{Refusal, Started};
use super::credentials::{self, Presented};
use super::reply::Problem;
use super::services::Services;
use super::upgrade::{Upgrade, upgrade};
use super::websocket::{Close, End, Event as SocketEvent, Socket};
use crate::access::{ConnectionPermit, Denied, Key, KeyId, KeyState};
use crate::record::{Event, Level, Signal, Time};
use crate::telemetry::Category;

/// The upgrade at `/`, `/ws` and the configured root path, with and without a slash at the end.
pub fn routes(services: Arc<Services>) -> BoxedFilter<(Response,)> {
    let lobby = Arc::new(Lobby::default());
    let paths = paths(&services.options.root_path);
    let origin_services = Arc::clone(&services);
    warp::path::full()
        .and_then(move |path: warp::path::FullPath| {
            let known = paths.iter().any(|known| known == path.as_str().trim_end_matches('/'));
            async move { if known { Ok(()) } else { Err(warp::reject::not_found()) } }
        })
        .untuple_one()
        .and(upgrade())
        .and(warp::header::headers_cloned())
        .and(credentials::filter(services.options.key_in_url))
        .and_then(move |upgrade: Upgrade, headers: HeaderMap, presented: Option<Presented>| {
            let answer = open(&origin_services, &lobby, upgrade, &headers, presented.as_ref());
            async move { answer.map_err(warp::reject::custom) }
        })
        .boxed()
}

/// The paths of the session socket without slashes at their ends.
fn paths(root: &str) -> Vec<String> {
    let root = root.trim_matches('/');
    let mut paths = vec![String::new(), "/ws".to_owned()];
    if !root.is_empty() {
        paths.extend([format!("/{root}"), format!("/{root}/ws")]);
    }
    paths
}

fn open(
    services: &Arc<Services>,
    lobby: &Arc<Lobby>,
    upgrade: Upgrade,
    headers: &HeaderMap,
    presented: Option<&Presented>,
) -> Result<Response, Problem> {
    services.check_origin(headers)?;
    // A key at the upgrade serves starts that carry none; a wrong one is refused before anything is opened.
    let key = presented.map(|presented| services.authenticate_request(Some(presented))).transpose()?;
    let origin = headers.get(http::header::ORIGIN).and_then(|origin| origin.to_str().ok()).map(str::to_owned);
    let session = Session {
        services: Arc::clone(services),
        lobby: Arc::clone(lobby),
        key,
        origin,
        connections: HashMap::new(),
        instances: Vec::new(),
        turn: 0,
    };
    let limits = services.options.socket.clone();
    Ok(upgrade
        .accept(limits, &services.drain, Arc::clone(&services.metrics), |socket| session.run(socket))
        .into_response())
}

/// One socket and what runs on it.
struct Session {
    services: Arc<Services>,
    lobby: Arc<Lobby>,
    /// The key that came with the upgrade.
    key: Option<Arc<Key>>,
    origin: Option<String>,
    /// This socket's place under the limit of each key that is used on it.
    connections: HashMap<KeyId, ConnectionPermit>,
    instances: Vec<Instance>,
    /// Whose turn it is.
    turn: usize,
}

/// What the socket does next.
enum Next {
    /// Goes on.
    On,
    /// Closes, telling why.
    Close(Close),
}

impl Session {
    async fn run(mut self, mut socket: Socket) {
        loop {
            let next = match socket.next(next_happening(&mut self.instances, self.turn)).await {
                SocketEvent::Text(text) => self.hear(text.as_str(), &mut socket).await,
                SocketEvent::Binary(_) => {
                    let problem = "Binary messages are not understood. Send text, one JSON object a message.";
                    socket.send(answer::malformed(&message::Malformed::whole(problem)).into()).await.map(|()| Next::On)
                }
                SocketEvent::Work((index, happening)) => self.turn_of(index, happening, &mut socket).await,
                SocketEvent::End(end) => Err(end),
            };
            match next {
                Ok(Next::On) => {}
                Ok(Next::Close(close)) => return socket.close(close).await,
                Err(end) => return self.leave(socket, end).await,
            }
        }
    }

    /// The socket is at its end: what can still be said is said; a client that was lost may come back.
    async fn leave(mut self, mut socket: Socket, end: End) {
        match end {
            End::Draining => self.drain(&mut socket).await,
            // Whoever closes in good order wants nothing more.
            End::Left => self.instances.clear(),
            _ => self.lobby.admit(&self.services, std::mem::take(&mut self.instances)),
        }
        socket.end(end).await;
    }

    /// Sends what is queued and says why it ends.
    async fn drain(&mut self, socket: &mut Socket) {
        let text = "Weir is shutting down; connect again.";
        let signal = Signal::new(Level::Warning, Event::Ended, Time::now(), text);
        for instance in &mut self.instances {
            while let Some(delivery) = instance.reader.try_next() {
                if instance.deliver(delivery, socket).await.is_err() {
                    return;
                }
            }
            if instance.tell(&signal, socket).await.is_err() {
                return;
            }
        }
    }

    async fn turn_of(&mut self, index: usize, happening: Happening, socket: &mut Socket) -> Result<Next, End> {
        self.turn = index + 1;
        match happening {
            Happening::Delivery(delivery) => {
                let ended = self.instances[index].deliver(delivery, socket).await?;
                if ended.is_some() {
                    drop(self.take(index));
                }
                Ok(Next::On)
            }
            Happening::Key(state) => self.key_changed(index, state, socket).await,
        }
    }

    /// An instance's key counts no more, or grants something else now.
    async fn key_changed(&mut self, index: usize, state: KeyState, socket: &mut Socket) -> Result<Next, End> {
        let services = Arc::clone(&self.services);
        let refusal = match self.instances[index].renew(&services.authoriser, &services.keyring) {
            Ok(true) => return Ok(Next::On),
            Ok(false) => "Access denied: what the access key grants has changed; start again.".to_owned(),
            Err(denied) => format!("Access denied: {denied}"),
        };
        tracing::info!(key = %self.instances[index].key.id(), ?state, "A running instance is cut: its key changed");
        let signal = Signal::new(Level::Error, Event::Ended, Time::now(), refusal.clone());
        let mut instance = self.take(index);
        instance.tell(&signal, socket).await?;
        drop(instance);
        let over = self.instances.is_empty() && state != KeyState::Changed;
        Ok(if over { Next::Close(Close::because(Category::Denied, refusal)) } else { Next::On })
    }

    /// Takes an instance off the socket, and the socket from under its key's limit where nothing else uses it here.
    fn take(&mut self, index: usize) -> Instance {
        let instance = self.instances.remove(index);
        if !self.instances.iter().any(|other| other.key.id() == instance.key.id()) {
            self.connections.remove(instance.key.id());
        }
        instance
    }

    /// Counts the socket under the limit of a key, once.
    fn connect(&mut self, key: &Key) -> Result<(), Denied> {
        if !self.connections.contains_key(key.id()) {
            let permit = key.usage().connect()?;
            self.connections.insert(key.id().clone(), permit);
        }
        Ok(())
    }

    async fn hear(&mut self, text: &str, socket: &mut Socket) -> Result<Next, End> {
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(problem) => return socket.send(answer::malformed(&problem).into()).await.map(|()| Next::On),
        };
        match &request.action {
            Action::Start(start) => self.start(&request, start, socket).await,
            Action::Reconnect { proof, start_time } => {
                self.reconnect(&request, proof.as_ref(), *start_time, socket).await
            }
            Action::Ping => socket.send(answer::granted(&request, "OK").into()).await.map(|()| Next::On),
            _ => {
                let answer = self.act(&request);
                socket.send(answer.into()).await.map(|()| Next::On)
            }
        }
    }

    async fn start(&mut self, request: &Request, start: &Start, socket: &mut Socket) -> Result<Next, End> {
        match self.try_start(request, start) {
            Ok(Started { instance, there }) => {
                socket.started();
                let accepted = answer::accepted(request, &instance.id, &instance.reconnect_key);
                socket.feed(accepted.into()).await?;
                for origin in there {
                    let text = format!("Container ADDED: {}", origin.path());
                    let signal = Signal::new(Level::Info, Event::Added, Time::now(), text).about(&origin);
                    socket
                        .feed(answer::signal(instance.dialect, &instance.channel, &instance.id, &signal).into())
                        .await?;
                }
                self.instances.push(instance);
                socket.flush().await?;
                Ok(Next::On)
            }
            Err(refusal) => {
                if let Refusal::Denied(denied) = &refusal {
                    self.services.count_refusal(denied);
                }
                let text = refusal.text(request.dialect);
                socket.send(answer::refused(request, "", &text).into()).await?;
                let close = request.dialect == Dialect::Classic && refusal.is_about_the_key();
                Ok(if close { Next::Close(Close::because(Category::Denied, text)) } else { Next::On })
            }
        }
    }

    fn try_start(&mut self, request: &Request, start: &Start) -> Result<Started, Refusal> {
        self.check_room()?;
        let key = match (&start.key, &self.key) {
            (Some(key), _) => self.services.keyring.authenticate(key.expose(), Time::now())?,
            (None, Some(key)) => {
                key.is_live(Time::now())?;
                Arc::clone(key)
            }
            (None, None) => return Err(Denied::Missing.into()),
        };
        key.allows_origin(self.origin.as_deref())?;
        self.connect(&key)?;
        let started = start::start(&self.services, request, start, &key);
        if started.is_err() && !self.instances.iter().any(|other| other.key.id() == key.id()) {
            self.connections.remove(key.id());
        }
        started
    }

    async fn reconnect(
        &mut self,
        request: &Request,
        proof: Option<&Proof>,
        again_from: Option<Time>,
        socket: &mut Socket,
    ) -> Result<Next, End> {
        let answer = match self.try_reconnect(request, proof, again_from) {
            Ok(()) => {
                socket.started();
                answer::reconnected(request, again_from)
            }
            Err(refusal) => answer::refused(request, &request.instance, &refusal.text(request.dialect)),
        };
        socket.send(answer.into()).await.map(|()| Next::On)
    }

    fn try_reconnect(
        &mut self,
        request: &Request,
        proof: Option<&Proof>,
        again_from: Option<Time>,
    ) -> Result<(), Refusal> {
        self.check_room()?;
        let reclaimed = proof.and_then(|proof| self.lobby.reclaim(&self.services, &request.instance, proof));
        let Some(mut instance) = reclaimed else {
            let text = "Instance not found: it was stopped, has waited too long, or is not yours. Start again.";
            return Err(Refusal::Request(text.into()));
        };
        let key = Arc::clone(&instance.key);
        // What is refused here waits on: another connection may be closed meanwhile.
        if let Err(denied) = key.allows_origin(self.origin.as_deref()).and_then(|()| self.connect(&key)) {
            self.lobby.admit(&self.services, vec![instance]);
            return Err(denied.into());
        }
        if let Some(time) = again_from {
            instance.rewind(time);
        }
        self.instances.push(instance);
        Ok(())
    }

    fn check_room(&self) -> Result<(), Refusal> {
        let most = self.services.options.instances_per_socket;
        if self.instances.len() < most {
            return Ok(());
        }
        let text = format!("This socket runs {most} instances, the most it may: stop one, or open another socket.");
        Err(Refusal::Request(text))
    }

    /// Stops, pauses, lets go on or changes an instance; the answer.
    fn act(&mut self, request: &Request) -> String {
        let Some(index) = self.instances.iter().position(|instance| instance.id == request.instance) else {
            return answer::refused(request, &request.instance, "Instance not found");
        };
        let name = title(&self.instances[index].channel);
        match &request.action {
            Action::Stop => {
                drop(self.take(index));
                answer::granted(request, &format!("{name} instance stopped"))
            }
            Action::Pause => {
                self.instances[index].paused = true;
                answer::granted(request, &format!("{name} paused"))
            }
            Action::Continue => {
                self.instances[index].paused = false;
                answer::granted(request, &format!("{name} continued"))
            }
            Action::Modify(options) => match metrics::modify(&self.services, &mut self.instances[index], options) {
                Ok(()) => answer::granted(request, &format!("{name} modified")),
                Err(refusal) => answer::refused(request, &request.instance, &refusal.text(request.dialect)),
            },
            Action::Start(_) | Action::Ping | Action::Reconnect { .. } => {
                answer::refused(request, &request.instance, "The action is not one of a running instance.")
            }
        }
    }
}

/// `log` as a sentence begins: `Log`.
fn title(channel: &str) -> String {
    let mut chars = channel.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// Waits until something happens to one of the instances; the one whose turn it is comes first. Cancel-safe.
async fn next_happening(instances: &mut [Instance], turn: usize) -> (usize, Happening) {
    if instances.is_empty() {
        return std::future::pending().await;
    }
    let turn = turn % instances.len();
    let (before, after) = instances.split_at_mut(turn);
    let in_turn = after.iter_mut().chain(before);
    let waits = in_turn.map(|instance| Box::pin(instance.next()));
    let (happening, place, _) = select_all(waits).await;
    ((turn + place) % instances.len(), happening)
}
