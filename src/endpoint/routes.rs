//! All routes together.

use std::sync::Arc;

use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::services::Services;
use super::{
    config, health, history, http_streams, key_admin, metrics_socket, reply, session, status, streams, subscriptions,
    tickets, traffic,
};

/// Everything that the endpoint serves. Every request gets an answer, errors as JSON.
pub fn routes(services: Arc<Services>) -> BoxedFilter<(Response,)> {
    let probes = health::routes(services.readiness.clone(), services.drain.clone(), Arc::clone(&services.metrics));
    let api = subscriptions::routes(&services).or(streams::routes(&services)).unify();
    let api = api.or(tickets::routes(&services)).unify();
    let api = api.or(history::routes(&services)).unify();
    let api = api.or(http_streams::routes(&services)).unify();
    let api = api.or(status::routes(&services)).unify();
    let api = api.or(session::routes(Arc::clone(&services))).unify();
    let api = api.or(metrics_socket::routes(&services)).unify();
    let all = probes.or(api).unify().or(beside_the_session(&services)).unify();
    all.recover(reply::recover).unify().with(traffic::counted(&services)).map(Reply::into_response).boxed()
}

/// The REST part of the session protocol, at the root and below the further path.
fn beside_the_session(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let part = config::routes(services).or(key_admin::routes(services)).unify().boxed();
    match below(&services.options.root_path) {
        Some(root) => part.clone().or(root.and(part)).unify().boxed(),
        None => part,
    }
}

/// Takes a path such as `/kwirth` off; none for the root itself.
pub(super) fn below(path: &str) -> Option<BoxedFilter<()>> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.fold(None, |before, segment| {
        let own = warp::path(segment.to_owned());
        Some(match before {
            None => own.boxed(),
            Some(before) => before.and(own).boxed(),
        })
    })
}
