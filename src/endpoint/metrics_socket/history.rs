//! The past of the server's own numbers: a point of each every five seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::fields::Fields;
use super::message::{MOST_POINTS, Point, Series, series};
use crate::endpoint::websocket::Text;
use crate::record::Time;
use crate::stream::series::{Aggregate, Select, SeriesKey, SeriesStore, Window};
use crate::telemetry::Metrics;

/// How often the numbers are noted.
const EVERY: Duration = Duration::from_secs(5);
/// How far a client sees back.
const SHOWN: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    store: Arc<SeriesStore>,
    /// What was told since the last point: the series of each metric, encoded once.
    told: Mutex<HashMap<&'static str, Text>>,
}

impl History {
    /// The past that is kept in `store`.
    pub fn of(store: Arc<SeriesStore>) -> Self {
        Self { store, told: Mutex::default() }
    }

    /// Notes the numbers now, and then every five seconds until cancelled.
    pub async fn run(self: Arc<Self>, metrics: Arc<Metrics>, cancel: CancellationToken) {
        self.note(&metrics, Time::now());
        let mut turns = interval_at(Instant::now() + EVERY, EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while cancel.run_until_cancelled(turns.tick()).await.is_some() {
            self.note(&metrics, Time::now());
        }
    }

    fn note(&self, metrics: &Metrics, now: Time) {
        let overview = metrics.overview();
        let mut told = self.told.lock();
        for field in Fields::ALL.iter() {
            self.store.append(&SeriesKey::new("", field.name()), now, field.value(&overview));
        }
        told.clear();
    }

    /// The last hour of each of these metrics, oldest point first.
    pub fn told(&self, fields: Fields, now: Time) -> Vec<Text> {
        let mut told = self.told.lock();
        let text = |name: &'static str| told.entry(name).or_insert_with(|| self.encode(name, now)).clone();
        fields.iter().map(|field| field.name()).map(text).collect()
    }

    fn encode(&self, name: &str, now: Time) -> Text {
        let data_points = last_hour(&self.store, &SeriesKey::new("", name), now);
        series(Series { metric_name: name, stream: None, asset: None, data_points })
    }
}

/// A series as clients get it: the last hour, the last value of each five seconds, oldest first.
pub(super) fn last_hour(store: &SeriesStore, key: &SeriesKey, now: Time) -> Vec<Point> {
    let back = i64::try_from(SHOWN.as_nanos()).unwrap_or(i64::MAX);
    let window = Window { start: now.plus_nanos(-back), end: now, step: EVERY, max_points: MOST_POINTS };
    let select = Select { asset: Some(&key.asset), metric: Some(&key.metric) };
    let curves = store.query(select, &window, Aggregate::Last).unwrap_or_else(|error| {
        tracing::error!(%error, ?key, "The history of a metric cannot be read; this is a fault of Weir");
        Vec::new()
    });
    let points = curves.into_iter().flat_map(|curve| curve.points);
    points.map(|point| Point::new(point.time, point.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SECOND: i64 = 1_000_000_000;

    fn points(text: &Text) -> Vec<(String, f64)> {
        let value: Value = serde_json::from_str(text).unwrap();
        let points = value["data_points"].as_array().unwrap();
        points.iter().map(|p| (p["timestamp"].as_str().unwrap().into(), p["value"].as_f64().unwrap())).collect()
    }

    #[test]
    fn the_last_hour_is_told_oldest_first_one_message_a_metric() {
        let (history, metrics) = (History::default(), Metrics::new());
        for at in (0..2 * 3600).step_by(5) {
            metrics.gaps.inc();
            history.note(&metrics, Time(at * SECOND));
        }
        let now = Time((2 * 3600 - 5) * SECOND);
        let names = ["gaps_total".to_owned(), "success_rate".to_owned()];
        let told = history.told(Fields::named(&names).unwrap(), now);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].contains(r#""metric_name":"success_rate""#) && told[1].contains(r#""metric_name":"gaps_total""#)
        );
        let gaps = points(&told[1]);
        assert_eq!(gaps.len(), 721);
        assert_eq!(gaps[0], ("1970-01-01T00:59:55.000Z".into(), 720.0));
        assert_eq!(gaps[720], ("1970-01-01T01:59:55.000Z".into(), 1440.0));
        assert!(gaps.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_series_is_encoded_once_until_there_is_a_new_point() {
        let (history, metrics) = (History::default(), Metrics::new());
        history.note(&metrics, Time(0));
        let tell = |at: i64| history.told(Fields::ALL, Time(at * SECOND)).remove(0);
        let (first, again) = (tell(1), tell(2));
        assert_eq!(first.as_str().as_ptr(), again.as_str().as_ptr());
        history.note(&metrics, Time(5 * SECOND));
        assert_eq!((points(&again).len(), points(&tell(6)).len()), (1, 2));
    }
}
