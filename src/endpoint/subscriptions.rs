//! `GET /api/v1/subscriptions`: which declared streams there are, as far as the key may read them.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::reply::{self, Problem};
use super::services::Services;
use crate::access::{Denied, Key, following, service_name};
use crate::api::Service;
use crate::record::{Origin, node_name};
use crate::stream::{LiveStream, StreamName};
use crate::worker::DeclaredStream;

/// What a key gets to see of a declared stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// Records and signals.
    Records,
    /// Signals only.
    Signals,
}

/// What a key may read of a declared stream of a service; of one that is not known, what it could read if there were
/// one of any service.
///
/// # Errors
/// What the key lacks for reading its records.
pub(super) fn reading(
    services: &Services,
    key: &Key,
    name: &StreamName,
    service: Option<Service>,
) -> Result<Sees, Denied> {
    let may =
        |service| services.authoriser.authorise_stream(key, service, following(service), &name.namespace, &name.name);
    let records = match service {
        Some(service) => may(service),
        None => {
            may(Service::Log).or_else(|denied| may(Service::Metrics).or_else(|_| may(Service::Raw)).map_err(|_| denied))
        }
    };
    match records {
        Ok(()) => Ok(Sees::Records),
        Err(denied) => may(Service::Signal).map(|()| Sees::Signals).map_err(|_| denied),
    }
}

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    warp::path!("api" / "v1" / "subscriptions" / ..)
        .and(warp::get())
        .and(warp::path::tail())
        .and(ask::ask())
        .map(move |tail: Tail, asked: Ask| ask::answer(find(&services, &tail, &asked)))
        .boxed()
}

fn find(services: &Services, tail: &Tail, asked: &Ask) -> Result<Response, Problem> {
    let path = ask::segments(tail)?;
    let key = asked.admit(services)?;
    let readable = |stream: &DeclaredStream| reading(services, &key, &stream.name, Some(stream.service)).is_ok();
    let list = services.declared.list();
    let found = match path.as_slice() {
        [] => {
            let all: Vec<_> = list.iter().filter(|stream| readable(stream)).map(|one| shown(services, one)).collect();
            return Ok(reply::json(StatusCode::OK, &all));
        }
        // A UID that may not be read looks like one that does not exist.
        [uid] => list.iter().find(|stream| stream.uid == *uid && readable(stream)),
        [namespace, name] => {
            let name = StreamName::new(namespace, name);
            let found = list.iter().find(|stream| stream.name == name);
            let service = found.map(|stream| stream.service);
            reading(services, &key, &name, service).inspect_err(|denied| services.count_refusal(denied))?;
            found
        }
        _ => return Err(Problem::not_found()),
    };
    let stream = found.ok_or_else(no_such_stream)?;
    let roster = services.declared.roster(&stream.name);
    let nodes = Some(roster.iter().map(|origin| Node::of(origin)).collect());
    Ok(reply::json(StatusCode::OK, &Shown { nodes, ..shown(services, stream) }))
}

/// 404, with where to look.
pub(super) fn no_such_stream() -> Problem {
    let text = "there is no such stream; those that this key may read are listed at /api/v1/subscriptions";
    Problem::with_status(StatusCode::NOT_FOUND, text)
}

#[derive(Serialize)]
struct Shown<'a> {
    uid: &'a str,
    namespace: &'a str,
    name: &'a str,
    service: &'static str,
    targets: usize,
    listed: bool,
    readers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Held>,
    /// What is followed, where one subscription alone is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<Node>>,
}

/// A container, or its likeness, that a stream follows.
#[derive(Serialize)]
struct Node {
    /// As commands and namespaces of Socket.IO name it.
    node: String,
    namespace: String,
    /// The runtime's id of its present run.
    id: String,
}

impl Node {
    fn of(origin: &Origin) -> Self {
        Self {
            node: node_name(&origin.pod, &origin.container),
            namespace: origin.namespace.clone(),
            id: origin.container_id.clone(),
        }
    }
}

/// What the stream's ring holds now. A record's id, with which reading goes on, is `<epoch>-<seq>`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    epoch: u64,
    next_seq: u64,
    records: u64,
    bytes: usize,
}

fn shown<'a>(services: &Services, declared: &'a DeclaredStream) -> Shown<'a> {
    let held = |stream: &LiveStream| {
        let (records, bytes) = stream.held();
        Held { epoch: stream.epoch(), next_seq: stream.next_seq().0, records, bytes }
    };
    Shown {
        uid: &declared.uid,
        namespace: &declared.name.namespace,
        name: &declared.name.name,
        service: service_name(declared.service),
        targets: declared.observed.targets,
        listed: declared.observed.listed,
        readers: declared.observed.readers,
        stream: services.declared.catalogue().locate(&declared.name).map(|located| held(&located.stream)),
        nodes: None,
    }
}
