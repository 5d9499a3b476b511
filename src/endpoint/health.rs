//! `/healthz`, `/livez`, `/readyz` and `/metrics`: what a cluster asks, without a key.

use super::drain::{Drain, Phase};
use super::reply;
use crate::telemetry::{Exposition, Metrics};
use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use warp::reply::Response;
use warp::{Filter, Rejection};

/// Whether Weir can serve: a set of named checks, each passing or failing with a reason. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

/// One named check, held by whoever knows the truth of it.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a check, which fails with "has not started" until it is told otherwise.
    pub fn check(&self, name: &'static str) -> Check {
        self.set(name, Some("has not started".to_owned()));
        Check { name, readiness: self.clone() }
    }

    /// The failing checks with their reasons, by name; empty where all is well.
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        let checks = self.checks.lock();
        checks.iter().filter_map(|(name, state)| Some((*name, state.clone()?))).collect()
    }

    fn set(&self, name: &'static str, state: Option<String>) {
        let before = self.checks.lock().insert(name, state.clone());
        if before != Some(state.clone()) {
            match state {
                None => tracing::info!(check = name, "A readiness check passes"),
                Some(reason) => tracing::info!(check = name, reason, "A readiness check fails"),
            }
        }
    }
}

impl Check {
    /// From now on the check passes.
    pub fn pass(&self) {
        self.readiness.set(self.name, None);
    }

    /// From now on the check fails. The reason is public: no secret, no address of a tenant.
    pub fn fail(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
    }
}

/// The four routes.
///
/// `/livez` and `/healthz` answer 200 as long as the process turns at all; `/readyz` answers 503 with the list of
/// failing checks, also while draining; `/metrics` is Prometheus text, or OpenMetrics where `Accept` asks for it.
pub fn routes(
    readiness: Readiness,
    drain: Drain,
    metrics: Arc<Metrics>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let get = warp::get().or(warp::head()).unify();
    let live = warp::path!("livez").or(warp::path!("healthz")).unify().and(get).map(ok);
    let ready = warp::path!("readyz").and(get).map(move || answer_ready(&readiness, &drain));
    let scrape =
        warp::path!("metrics").and(get).and(warp::header::optional("accept")).map(move |accept: Option<String>| {
            let format = asked_for(accept.as_deref());
            reply::text(StatusCode::OK, format.content_type(), metrics.encode(format))
        });
    live.or(ready).unify().or(scrape).unify()
}

fn ok() -> Response {
    reply::text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned())
}

fn answer_ready(readiness: &Readiness, drain: &Drain) -> Response {
    #[derive(Serialize)]
    struct Failing {
        check: &'static str,
        reason: String,
    }
    #[derive(Serialize)]
    struct Answer {
        ready: bool,
        failing: Vec<Failing>,
    }
    let mut failing = readiness.failing();
    if drain.phase() != Phase::Serving {
        failing.push(("serving", "the endpoint is shutting down".to_owned()));
    }
    let ready = failing.is_empty();
    let failing = failing.into_iter().map(|(check, reason)| Failing { check, reason }).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, &Answer { ready, failing })
}

/// OpenMetrics where the scraper likes it at least as much as plain text (RFC 9110, section 12.5.1), in a version that
/// is spoken here.
fn asked_for(accept: Option<&str>) -> Exposition {
    let likes = |wanted: &dyn Fn(&str) -> bool| {
        let ranges = accept.unwrap_or_default().split(',').filter_map(MediaRange::parse);
        ranges.filter(|range| wanted(&range.kind) && range.spoken).map(|range| range.quality).fold(0.0, f32::max)
    };
    let open = likes(&|kind| kind == "application/openmetrics-text");
    let plain = likes(&|kind| kind == "text/plain");
    if open > 0.0 && open >= plain { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

/// One of the kinds of answers that a client takes.
struct MediaRange {
    kind: String,
    /// From 0, not at all, to 1.
    quality: f32,
    /// Whether its version, where it has one, is among ours.
    spoken: bool,
}

impl MediaRange {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { kind: parts.next()?.to_ascii_lowercase(), quality: 1.0, spoken: true };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match (name.trim_end().to_ascii_lowercase().as_str(), value.trim_start().trim_matches('"')) {
                ("q", value) => range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                ("version", value) => range.spoken = ["0.0.1", "0.0.4", "1.0.0"].contains(&value),
                _ => {}
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::ask;
    use http::Request;

    #[tokio::test]
    async fn readyz_lists_what_fails_until_everything_passes_and_again_while_draining() {
        let (readiness, drain) = (Readiness::default(), Drain::new());
        let (watch, listen) = (readiness.check("watch"), readiness.check("listen"));
        let routes = routes(readiness, drain.clone(), Metrics::new());
        let routes = warp::service(routes);
        let asked = async || {
            let answer = ask(routes.clone(), Request::get("/readyz"), "").await;
            (answer.status().as_u16(), answer.into_body())
        };
        listen.pass();
        let failing = r#"{"ready":false,"failing":[{"check":"watch","reason":"has not started"}]}"#;
        assert_eq!(asked().await, (503, failing.to_owned()));
        watch.pass();
        assert_eq!(asked().await, (200, r#"{"ready":true,"failing":[]}"#.to_owned()));
        watch.fail("the API server is away");
        assert!(asked().await.1.contains("the API server is away"));
        watch.pass();
        drain.begin();
        let (status, body) = asked().await;
        assert_eq!(status, 503);
        assert!(body.contains("shutting down"), "{body}");
    }

    #[rstest::rstest]
    #[case::nothing("", Exposition::Prometheus)]
    #[case::anything("*/*", Exposition::Prometheus)]
    #[case::a_browser("text/html,application/xhtml+xml,*/*;q=0.8", Exposition::Prometheus)]
    #[case::plain("text/plain;version=0.0.4", Exposition::Prometheus)]
    #[case::open("application/openmetrics-text", Exposition::OpenMetrics)]
    #[case::prometheus_itself(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        Exposition::OpenMetrics
    )]
    #[case::plain_is_liked_better("application/openmetrics-text;q=0.2, text/plain;q=0.9", Exposition::Prometheus)]
    #[case::open_is_refused("application/openmetrics-text;q=0, text/plain", Exposition::Prometheus)]
    #[case::a_version_to_come("application/openmetrics-text; version=2.0.0, text/plain;q=0.5", Exposition::Prometheus)]
    #[case::any_case("Application/OpenMetrics-Text; Q=1", Exposition::OpenMetrics)]
    #[case::nonsense("application/openmetrics-text;q=many", Exposition::Prometheus)]
    fn the_format_is_the_one_that_the_scraper_likes(#[case] accept: &str, #[case] expected: Exposition) {
        assert_eq!(asked_for(Some(accept)), expected);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_only_when_asked_for() {
        let routes = routes(Readiness::default(), Drain::new(), Metrics::new());
        let routes = warp::service(routes);
        let plain = ask(routes.clone(), Request::get("/metrics"), "").await;
        let kind = plain.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let open = ask(routes, Request::get("/metrics").header("accept", accept), "").await;
        assert!(open.body().ends_with("# EOF\n"));
    }
}
