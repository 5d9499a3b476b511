//! The few numbers that say how the server fares, for people who watch it live.

use super::{CodeClass, Metrics, RequestLabels, Route, Service, ServiceLabels, Transport, TransportLabels};

/// Weir's own numbers at one moment. Totals count from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overview {
    /// Requests answered; one that became a WebSocket is one of them.
    pub requests_total: u64,
    /// Those that were answered below 400.
    pub requests_success: u64,
    /// The others.
    pub requests_error: u64,
    /// Connections open now.
    pub active_connections: u64,
    /// From a request to the beginning of its answer, in milliseconds, the mean of all requests; 0 where there was none.
    pub avg_response_time: f64,
    /// Successful ones among all requests, in percent; 100 where there was none.
    pub success_rate: f64,
    /// Streams at work now.
    pub streams_active: u64,
    /// Records that entered a stream.
    pub records_total: u64,
    /// Bytes of their text.
    pub bytes_total: u64,
    /// Gap signals sent to readers.
    pub gaps_total: u64,
}

impl Metrics {
    /// The numbers of this moment.
    pub fn overview(&self) -> Overview {
        let requests = |failed: bool| -> u64 {
            let classes = CodeClass::ALL.iter().filter(move |class| class.is_error() == failed);
            let labels = classes.flat_map(|&code_class| Route::ALL.iter().map(move |&route| (route, code_class)));
            let count = |(route, code_class)| {
                self.http_requests.get(&RequestLabels { route, code_class }).map_or(0, |counter| counter.get())
            };
            labels.map(count).sum()
        };
        // The time first, the failures before the successes: whoever asks meanwhile makes no rate above 100.
        let spent = self.answering.get();
        let (failed, succeeded) = (requests(true), requests(false));
        let total = failed + succeeded;
        let connections = TransportLabels { transport: Transport::Http };
        let labels = || Service::ALL.iter().map(|&service| ServiceLabels { service });
        Overview {
            requests_total: total,
            requests_success: succeeded,
            requests_error: failed,
            active_connections: positive(self.connections.get(&connections).map_or(0, |gauge| gauge.get())),
            avg_response_time: if total == 0 { 0.0 } else { rounded(spent as f64 / 1e6 / total as f64) },
            success_rate: if total == 0 { 100.0 } else { rounded(succeeded as f64 * 100.0 / total as f64) },
            streams_active: positive(self.streams.get()),
            records_total: labels().filter_map(|label| Some(self.records.get(&label)?.get())).sum(),
            bytes_total: labels().filter_map(|label| Some(self.bytes.get(&label)?.get())).sum(),
            gaps_total: self.gaps.get(),
        }
    }
}

fn positive(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or_default()
}

/// To a thousandth: what is finer is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::time::Duration;

    #[test]
    fn without_traffic_all_is_well() {
        let expected = Overview { success_rate: 100.0, ..Overview::default() };
        assert_eq!(Metrics::new().overview(), expected);
    }

    #[test]
    fn requests_are_counted_by_how_they_were_answered() {
        let metrics = Metrics::new();
        for (status, millis) in [(101, 1), (200, 2), (302, 3), (404, 4), (503, 10)] {
            let status = StatusCode::from_u16(status).unwrap();
            metrics.answered(Route::Session, status, Duration::from_millis(millis));
        }
        metrics.records.get_or_create(&ServiceLabels { service: Service::Log }).inc_by(3);
        metrics.records.get_or_create(&ServiceLabels { service: Service::Metrics }).inc_by(4);
        metrics.bytes.get_or_create(&ServiceLabels { service: Service::Log }).inc_by(100);
        metrics.gaps.inc();
        metrics.streams.set(2);
        let _client = metrics.connected(Transport::Http);
        let expected = Overview {
            requests_total: 5,
            requests_success: 3,
            requests_error: 2,
            active_connections: 1,
            avg_response_time: 4.0,
            success_rate: 60.0,
            streams_active: 2,
            records_total: 7,
            bytes_total: 100,
            gaps_total: 1,
        };
        assert_eq!(metrics.overview(), expected);
    }
}
