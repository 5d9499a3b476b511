//! The server's own metrics by their names, and sets of them.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Number;

use super::message::{timestamp, unknown};
use crate::record::Time;
use crate::telemetry::Overview;

/// One of the server's own metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    name: &'static str,
    value: fn(&Overview) -> Value,
}

/// A count is written as a whole number.
enum Value {
    Whole(u64),
    Real(f64),
}

use Value::{Real, Whole};

/// All of them, in the order in which they are written.
const FIELDS: [Field; 10] = [
    Field { name: "requests_total", value: |o| Whole(o.requests_total) },
    Field { name: "requests_success", value: |o| Whole(o.requests_success) },
    Field { name: "requests_error", value: |o| Whole(o.requests_error) },
    Field { name: "active_connections", value: |o| Whole(o.active_connections) },
    Field { name: "avg_response_time", value: |o| Real(o.avg_response_time) },
    Field { name: "success_rate", value: |o| Real(o.success_rate) },
    Field { name: "streams_active", value: |o| Whole(o.streams_active) },
    Field { name: "records_total", value: |o| Whole(o.records_total) },
    Field { name: "bytes_total", value: |o| Whole(o.bytes_total) },
    Field { name: "gaps_total", value: |o| Whole(o.gaps_total) },
];

impl Field {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Its value, as a series holds it.
    pub fn value(self, overview: &Overview) -> f64 {
        match (self.value)(overview) {
            Whole(count) => count as f64,
            Real(value) => value,
        }
    }

    fn number(self, overview: &Overview) -> Option<Number> {
        match (self.value)(overview) {
            Whole(count) => Some(count.into()),
            Real(value) => Number::from_f64(value),
        }
    }
}

/// A set of metrics, which is what two sockets have in common that can share a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fields(u16);

impl Fields {
    /// All there are.
    pub const ALL: Self = Self((1 << FIELDS.len()) - 1);

    /// Those of these names; all where there are none.
    ///
    /// # Errors
    /// What to tell the client: the names that there are not, and those there are.
    pub fn named(names: &[String]) -> Result<Self, String> {
        if let Some(problem) = unknown(names, FIELDS.iter().map(|field| field.name)) {
            return Err(problem);
        }
        let place = |name: &String| FIELDS.iter().position(|field| field.name == name);
        let set = names.iter().filter_map(place).fold(0, |set, place| set | 1 << place);
        Ok(if set == 0 { Self::ALL } else { Self(set) })
    }

    /// Those in the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        FIELDS.into_iter().enumerate().filter(move |(place, _)| self.0 & 1 << place != 0).map(|(_, field)| field)
    }
}

/// A snapshot of some metrics.
pub(super) struct Snapshot<'a> {
    pub time: Time,
    pub overview: &'a Overview,
    pub fields: Fields,
}

impl Serialize for Snapshot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "Snapshot")?;
        map.serialize_entry("timestamp", &timestamp(self.time))?;
        for field in self.fields.iter() {
            map.serialize_entry(field.name, &field.number(self.overview))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::metrics_socket::message::encoded;

    fn fields(names: &[&str]) -> Result<Fields, String> {
        Fields::named(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_snapshot_has_all_fields_in_order_and_each_is_a_number() {
        let overview = Overview { requests_total: u64::MAX, success_rate: 99.5, ..Overview::default() };
        let text = encoded(&Snapshot { time: Time(1_500_000_000), overview: &overview, fields: Fields::ALL });
        let expected = r#"{"type":"Snapshot","timestamp":"1970-01-01T00:00:01.500Z","requests_total":18446744073709551615,"requests_success":0,"requests_error":0,"active_connections":0,"avg_response_time":0.0,"success_rate":99.5,"streams_active":0,"records_total":0,"bytes_total":0,"gaps_total":0}"#;
        assert_eq!(text.as_str(), expected);
    }

    #[test]
    fn chosen_fields_stand_alone_whatever_their_order() {
        let chosen = fields(&["gaps_total", "requests_error", "gaps_total"]).unwrap();
        assert_eq!(Ok(chosen), fields(&["requests_error", "gaps_total"]));
        let text = encoded(&Snapshot { time: Time(0), overview: &Overview::default(), fields: chosen });
        let expected =
            r#"{"type":"Snapshot","timestamp":"1970-01-01T00:00:00.000Z","requests_error":0,"gaps_total":0}"#;
        assert_eq!(text.as_str(), expected);
        assert_eq!(fields(&[]), Ok(Fields::ALL));
    }

    #[test]
    fn an_unknown_name_is_told_with_all_known_ones() {
        let problem = fields(&["requests_total", "cpu"]).unwrap_err();
        let start = "Invalid subscription: unknown metric `cpu`; there are requests_total, requests_success";
        assert!(problem.starts_with(start) && problem.ends_with("gaps_total"), "{problem}");
    }
}
