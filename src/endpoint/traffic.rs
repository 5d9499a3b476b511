//! Counts every request by the part of the endpoint that it was for and by how it was answered.

use std::sync::Arc;

use warp::filters::log::{Info, Log, custom};

use super::services::Services;
use crate::telemetry::Route;

/// Wraps all routes. The time that is counted ends where the answer begins: bodies may be endless.
pub(super) fn counted(services: &Arc<Services>) -> Log<impl Fn(Info<'_>) + Clone + use<>> {
    let metrics = Arc::clone(&services.metrics);
    let root: Arc<str> = services.options.root_path.as_str().into();
    custom(move |info| metrics.answered(route(info.path(), &root), info.status(), info.elapsed()))
}

/// The part of the endpoint that a path belongs to, whether or not there is anything at that path.
fn route(path: &str, root: &str) -> Route {
    let below = path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = below.unwrap_or(path).trim_matches('/');
    let mut segments = path.split('/');
    match (segments.next().unwrap_or_default(), segments.next(), segments.next()) {
        ("", None, _) | ("ws", None, _) => Route::Session,
        ("ws", Some("metrics"), None) => Route::MetricsSocket,
        ("metrics", None, _) => Route::Scrape,
        ("livez" | "readyz" | "healthz", None, _) => Route::Health,
        ("key", ..) => Route::Keys,
        ("config" | "managecluster", ..) => Route::Config,
        ("api", Some("v1"), Some("streams")) => Route::Streams,
        ("api", Some("v1"), Some("subscriptions")) => Route::Subscriptions,
        ("api", Some("v1"), Some("metrics")) => Route::History,
        ("stream", ..) | ("spy", None, _) => Route::Uploads,
        ("api", Some("v1"), Some("tickets")) => Route::Tickets,
        _ => Route::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/", Route::Session)]
    #[case("/ws/", Route::Session)]
    #[case("/kwirth", Route::Session)]
    #[case("/kwirth/ws", Route::Session)]
    #[case("/ws/metrics", Route::MetricsSocket)]
    #[case("/kwirth/ws/metrics", Route::MetricsSocket)]
    #[case("/metrics", Route::Scrape)]
    #[case("/readyz", Route::Health)]
    #[case("/key/a", Route::Keys)]
    #[case("/kwirth/config/info", Route::Config)]
    #[case("/api/v1/streams/a/b/events", Route::Streams)]
    #[case("/api/v1/subscriptions", Route::Subscriptions)]
    #[case("/api/v1/metrics/history", Route::History)]
    #[case("/api/v1/tickets", Route::Tickets)]
    #[case("/stream", Route::Uploads)]
    #[case("/stream/a", Route::Uploads)]
    #[case("/spy", Route::Uploads)]
    #[case("/kwirthy", Route::Other)]
    #[case("/wp-login.php", Route::Other)]
    #[case("/ws/metrics/more", Route::Other)]
    #[case("//", Route::Session)]
    fn a_path_belongs_to_one_part(#[case] path: &str, #[case] expected: Route) {
        assert_eq!(route(path, "/kwirth"), expected);
    }

    #[test]
    fn without_a_further_path_nothing_is_below_it() {
        assert_eq!(route("/kwirth/config", ""), Route::Other);
        assert_eq!(route("/config", ""), Route::Config);
    }
}
