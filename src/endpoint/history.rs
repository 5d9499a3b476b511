//! `GET /api/v1/metrics/history`: what the numbers of a declared stream were, or Weir's own.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::ask::{self, Ask};
use super::reply::{self, Problem};
use super::services::Services;
use super::subscriptions::no_such_stream;
use crate::access::Key;
use crate::api::{Scope, Service, duration};
use crate::record::Time;
use crate::stream::StreamName;
use crate::stream::series::{Aggregate, Curve, Select, SeriesStore, Window};
use crate::telemetry::Category;

/// Most points of an answer.
const MOST_POINTS: usize = 10_000;
/// How far back an answer goes that was asked for without a start.
const USUAL_SPAN: i64 = 3600 * 1_000_000_000;
/// The interval where none is asked for.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// Most names that an error lists.
const MOST_NAMES: usize = 50;

pub(super) fn routes(services: &Arc<Services>) -> BoxedFilter<(Response,)> {
    let services = Arc::clone(services);
    warp::path!("api" / "v1" / "metrics" / "history")
        .and(warp::get())
        .and(ask::ask())
        .map(move |asked: Ask| ask::answer(history(&services, &asked, Time::now())))
        .boxed()
}

fn history(services: &Services, asked: &Ask, now: Time) -> Result<Response, Problem> {
    let key = asked.admit(services)?;
    let store = store(services, asked, &key)?;
    let given = |name: &str| asked.parameter(name).filter(|value| !value.is_empty());
    let end = given("end").map_or(Ok(now), |text| time("end", text))?;
    let start = given("start").map_or(Ok(end.plus_nanos(-USUAL_SPAN)), |text| time("start", text))?;
    let step = given("interval").map_or(Ok(USUAL_INTERVAL), interval)?;
    let aggregate = given("aggregate").map_or(Ok(Aggregate::default()), aggregate)?;
    let select = Select { asset: given("asset"), metric: given("name") };
    refuse_unknown(&store, select)?;
    let window = Window { start, end, step, max_points: MOST_POINTS };
    let curves = store.query(select, &window, aggregate).map_err(|error| invalid(error.to_string()))?;
    let curves: Vec<_> = curves.iter().map(|curve| Answer::of(curve, step, aggregate)).collect();
    Ok(reply::json(StatusCode::OK, &curves))
}

/// The history that is asked for, where the key may read it.
fn store(services: &Services, asked: &Ask, key: &Key) -> Result<Arc<SeriesStore>, Problem> {
    let (authoriser, service) = (&services.authoriser, Service::Metrics);
    let Some(stream) = asked.parameter("stream") else {
        let may = authoriser.authorise_service(key, service, Scope::Snapshot);
        may.inspect_err(|denied| services.count_refusal(denied))?;
        return Ok(Arc::clone(services.declared.histories().own()));
    };
    let (namespace, name) =
        stream.split_once('/').ok_or_else(|| invalid("stream is not a name: write it as namespace/name".into()))?;
    let may = authoriser.authorise_stream(key, service, Scope::Stream, namespace, name);
    may.inspect_err(|denied| services.count_refusal(denied))?;
    let name = StreamName::new(namespace, name);
    services.declared.histories().of(&name).ok_or_else(|| match services.declared.observe(&name) {
        Some(_) => Problem::with_status(StatusCode::NOT_FOUND, "this stream has no numbers, so it has no history"),
        None => no_such_stream(),
    })
}

/// Refuses a metric or asset of which there is no history, and lists those there are: a slip would look like silence.
fn refuse_unknown(store: &SeriesStore, select: Select<'_>) -> Result<(), Problem> {
    let series = store.series();
    let check = |what: &str, wanted: Option<&str>, mut known: Vec<&str>| {
        let Some(wanted) = wanted.filter(|wanted| !known.contains(wanted)) else { return Ok(()) };
        known.sort_unstable();
        known.dedup();
        let (count, more) = (known.len(), known.len().saturating_sub(MOST_NAMES));
        let listed = known[..count - more].join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: String = wanted.chars().take(100).collect();
        let there = if count == 0 { "none".to_owned() } else { format!("{listed}{more}") };
        let text = format!("there is no history of the {what} {shown:?}; there is history of: {there}");
        Err(Problem::with_status(StatusCode::NOT_FOUND, text))
    };
    check("metric", select.metric, series.iter().map(|key| key.metric.as_str()).collect())?;
    check("asset", select.asset, series.iter().map(|key| key.asset.as_str()).collect())
}

/// RFC 3339, or seconds since the Unix epoch.
fn time(name: &str, text: &str) -> Result<Time, Problem> {
    if let Ok(seconds) = text.parse::<f64>() {
        // Beyond what fits the nearest is taken; what is no number is no time.
        let nanos = seconds * 1e9;
        return if nanos.is_nan() { Err(no_time(name)) } else { Ok(Time(nanos as i64)) };
    }
    text.parse().map(Time::from_jiff).map_err(|_: jiff::Error| no_time(name))
}

fn no_time(name: &str) -> Problem {
    invalid(format!(
        "{name} is not a time: write it like 2026-11-03T09:30:00Z or in seconds since 1970; a `+` in a URL is %2B"
    ))
}

/// A length of time with a unit, or seconds.
fn interval(text: &str) -> Result<Duration, Problem> {
    let number = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let interval = number.or_else(|| duration::parse(text).ok());
    let interval = interval.filter(|interval| (Duration::from_millis(1)..=duration::LONGEST).contains(interval));
    interval.ok_or_else(|| {
        invalid("interval is not a length of time: write it in seconds, or like 500ms, 30s or 5m".into())
    })
}

fn aggregate(text: &str) -> Result<Aggregate, Problem> {
    let names = || Aggregate::ALL.map(Aggregate::as_str).join(", ");
    Aggregate::from_name(text).ok_or_else(|| invalid(format!("aggregate is not one of {}", names())))
}

fn invalid(text: String) -> Problem {
    Problem::new(Category::Invalid, text)
}

/// One series of an answer.
#[derive(Serialize)]
struct Answer<'a> {
    name: &'a str,
    asset: &'a str,
    aggregate: &'static str,
    interval_seconds: f64,
    data_points: Vec<DataPoint>,
}

#[derive(Serialize)]
struct DataPoint {
    timestamp: String,
    value: f64,
}

impl<'a> Answer<'a> {
    fn of(curve: &'a Curve, step: Duration, aggregate: Aggregate) -> Self {
        let points = curve.points.iter();
        Self {
            name: &curve.key.metric,
            asset: &curve.key.asset,
            aggregate: aggregate.as_str(),
            interval_seconds: step.as_secs_f64(),
            data_points: points
                .map(|point| DataPoint { timestamp: point.time.rfc3339(), value: point.value })
                .collect(),
        }
    }
}
