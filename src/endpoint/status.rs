//! `GET /api/v1/status`: all objects that files declare, and what is the case with each, for administrators. In a cluster
//! that is in the objects themselves.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::reply::{self, Problem};
use super::services::Services;
use crate::worker::ObjectView;

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    warp::path!("api" / "v1" / "status")
        .and(warp::get())
        .and(ask::ask())
        .map(move |asked: Ask| ask::answer(status(&services, &asked)))
        .boxed()
}

fn status(services: &Services, asked: &Ask) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let elsewhere = || {
        let text = "the status of objects is in the cluster: kubectl get weir --all-namespaces";
        Problem::with_status(StatusCode::NOT_FOUND, text)
    };
    let owner = services.owner.as_deref().ok_or_else(elsewhere)?;
    let allowed = services.authoriser.authorise_admin(&key, owner.namespace());
    allowed.inspect_err(|denied| services.count_refusal(denied))?;
    let objects = owner.objects().ok_or_else(elsewhere)?;
    let shown: Vec<_> = objects.iter().map(Shown::of).collect();
    Ok(reply::json(StatusCode::OK, &shown))
}

#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    name: &'a str,
    ready: &'static str,
    reason: &'static str,
    message: &'a str,
}

impl<'a> Shown<'a> {
    fn of(object: &'a ObjectView) -> Self {
        Self {
            kind: object.kind,
            namespace: &object.namespace,
            name: &object.name,
            ready: object.ready.as_str(),
            reason: object.reason.as_str(),
            message: &object.message,
        }
    }
}
