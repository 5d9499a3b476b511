//! `POST /api/v1/tickets`: a ticket for one use, for clients that cannot set headers, such as a browser's
//! `EventSource`.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::credentials::Presented;
use super::reply::{self, Problem};
use super::services::Services;
use crate::access::TICKET_SECONDS;
use crate::record::Time;
use crate::telemetry::{Category, Queue, QueueLabels};

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let office = Arc::downgrade(services);
    services.metrics.before_scrape(move |metrics| {
        let waiting = office.upgrade().map(|services| services.tickets.len());
        let depth = metrics.queue_depth.get_or_create_owned(&QueueLabels { queue: Queue::Tickets });
        depth.set(waiting.and_then(|count| i64::try_from(count).ok()).unwrap_or_default());
        waiting.is_some()
    });
    let services = Arc::clone(services);
    warp::path!("api" / "v1" / "tickets")
        .and(warp::post())
        .and(ask::ask())
        .map(move |asked: Ask| ask::answer(issue(&services, &asked)))
        .boxed()
}

fn issue(services: &Services, asked: &Ask) -> Result<Response, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        ticket: &'a str,
        expires_in_seconds: u32,
    }
    // Otherwise a ticket could be renewed for ever, long after its key was rotated.
    if matches!(asked.presented(services)?, Some(Presented::Ticket(_))) {
        return Err(Problem::new(Category::Invalid, "a ticket does not get another; send the access key"));
    }
    let key = asked.admit(services)?;
    let ticket = services.tickets.issue(&key, &mut rand::rng(), Time::now())?;
    let answer = Answer { ticket: ticket.expose(), expires_in_seconds: TICKET_SECONDS };
    Ok(reply::json(StatusCode::CREATED, &answer))
}
