//! The metrics socket at `/ws/metrics`: the server's own numbers, live, or those of a declared stream with
//! `?stream=namespace/name` (`docs/protocols.md`).
//!
//! | file | what it holds |
//! |---|---|
//! | `message` | what is said, in both directions |
//! | `fields` | the server's own metrics by their names |
//! | `board` | the server's own numbers, encoded once a second for all |
//! | `history` | their last hour |
//! | `declared` | the values of a declared stream |
//! | `watcher` | one socket |
//!
//! Nothing waits for a client here: a snapshot that a slow one has not taken gives way to the next.

mod board;
mod declared;
mod fields;
mod history;
mod message;
mod watcher;

use std::sync::Arc;

use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use self::board::{Board, Own};
use self::declared::{Shelf, Watched};
use self::history::History;
use self::message::Subscription;
use self::watcher::{Keyed, Subject, Watcher};
use super::ask::{self, Ask};
use super::reply::Problem;
use super::routes::below;
use super::services::Services;
use super::subscriptions::no_such_stream;
use super::upgrade::{Upgrade, upgrade};
use crate::api::Service;
use crate::stream::StreamName;
use crate::telemetry::Category;

/// What all sockets share.
struct Shared {
    services: Arc<Services>,
    board: Arc<Board>,
    history: Arc<History>,
    shelf: Arc<Shelf>,
}

/// What a socket waits for.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// It is time for a snapshot; so many were skipped since the last.
    Snapshot { skipped: u64 },
    /// The client must be told of a mistake.
    Problem(String),
    /// The stream has ended.
    Ended(String),
}

/// The upgrade at `/ws/metrics`, also below the further path.
///
/// From now until draining begins, the server's own numbers are noted for the history.
pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let history = Arc::new(History::of(Arc::clone(services.declared.histories().own())));
    let noting = Arc::clone(&history).run(Arc::clone(&services.metrics), services.drain.draining().clone());
    services.drain.spawn(noting);
    let shared = Arc::new(Shared {
        services: Arc::clone(services),
        board: Arc::new(Board::new(Arc::clone(&services.metrics))),
        history,
        shelf: Arc::default(),
    });
    let here = warp::path!("ws" / "metrics").boxed();
    let here = match below(&services.options.root_path) {
        Some(root) => here.or(root.and(warp::path!("ws" / "metrics"))).unify().boxed(),
        None => here,
    };
    here.and(upgrade())
        .and(ask::ask())
        .map(move |upgrade: Upgrade, asked: Ask| ask::answer(open(&shared, upgrade, &asked)))
        .boxed()
}

fn open(shared: &Arc<Shared>, upgrade: Upgrade, asked: &Ask) -> Result<Response, Problem> {
    let services = &shared.services;
    let (key, subject) = match asked.parameter("stream") {
        None if services.options.public_metrics => {
            asked.check_origin(services)?;
            (None, own(shared))
        }
        None => (Some(Keyed::admit(services, asked, None)?), own(shared)),
        Some(name) => {
            let name = stream_name(name)?;
            let key = Keyed::admit(services, asked, Some(name.clone()))?;
            (Some(key), watched(shared, name)?)
        }
    };
    let watcher = Watcher::new(Arc::clone(services), key, subject);
    let limits = services.options.socket.clone();
    Ok(upgrade.accept(limits, &services.drain, Arc::clone(&services.metrics), |socket| watcher.run(socket)))
}

fn own(shared: &Shared) -> Subject {
    Subject::Server(Own::new(Arc::clone(&shared.board)), Arc::clone(&shared.history))
}

fn watched(shared: &Shared, name: StreamName) -> Result<Subject, Problem> {
    let located = shared.services.declared.catalogue().locate(&name).ok_or_else(no_such_stream)?;
    if located.service != Service::Metrics {
        return Err(Problem::new(
            Category::Invalid,
            "this stream has no numbers; read it as events or on the session socket",
        ));
    }
    Ok(Subject::Stream(Box::new(Watched::new(name, &located, &shared.services, Arc::clone(&shared.shelf)))))
}

fn stream_name(text: &str) -> Result<StreamName, Problem> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(StreamName::new(namespace, name))
        }
        _ => Err(Problem::new(Category::Invalid, "the parameter stream is a namespace and a name: stream=shop/cart")),
    }
}
