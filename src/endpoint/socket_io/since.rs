//! From where on a client wants lines.

use serde_json::Value;

use super::super::stream_frames::behind;
use crate::record::Time;
use crate::stream::{From, Located, ReadFrom, Seq, Start};

/// A number below this is a sequence number, from it on a time in milliseconds since 1970; it is in the year 1973.
const LEAST_MILLIS: u64 = 100_000_000_000;

/// What a client wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    since: Since,
    /// Whether each line comes with its id.
    pub(super) ids: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// As much of the past as there is.
    Beginning,
    /// Behind a record that it has.
    Behind(ReadFrom),
    /// Behind the record of this number of the present stream.
    Number(u64),
    /// From this time on.
    Time(Time),
}

impl Wish {
    /// Reads what stands in `auth` beside the key.
    ///
    /// # Errors
    /// What the client is told, where that makes no sense.
    pub(super) fn of(auth: Option<&Value>) -> Result<Self, &'static str> {
        const SINCE: &str = "Invalid Since: send the id of the last line, a sequence number, or a time";
        let field = |name| auth.and_then(|auth| auth.get(name)).filter(|value| !value.is_null());
        let since = match field("since") {
            None => Since::Beginning,
            Some(Value::Number(number)) => {
                let number = number.as_u64().ok_or(SINCE)?;
                match number < LEAST_MILLIS {
                    true => Since::Number(number),
                    false => Since::Time(Time::from_millis(i64::try_from(number).map_err(|_| SINCE)?)),
                }
            }
            Some(Value::String(text)) => match (behind(text), text.parse()) {
                (Ok(from), _) => Since::Behind(from),
                (Err(_), Ok(time)) => Since::Time(Time::from_jiff(time)),
                (Err(_), Err(_)) => return Err(SINCE),
            },
            Some(_) => return Err(SINCE),
        };
        let ids = match field("ids") {
            None => false,
            Some(Value::Bool(ids)) => *ids,
            Some(_) => return Err("Invalid Ids: it is true or false"),
        };
        Ok(Self { since, ids })
    }

    /// A reader of what is wanted. Without `since` that is the past, of `containers` containers `lines` lines together.
    pub(super) fn open(self, located: &Located, lines: usize, containers: usize) -> crate::stream::Reader {
        let past = |start, lines| located.read(From { start, lines, previous: false });
        match self.since {
            Since::Beginning if located.backlog.is_some() => {
                past(Start::Beginning, Some((lines / containers.max(1)).max(1) as u64))
            }
            Since::Beginning => past(Start::Beginning, Some(lines as u64)),
            Since::Behind(from) => located.resume(from),
            Since::Number(number) => {
                let seq = Seq(number.saturating_add(1));
                located.resume(ReadFrom::Seq { epoch: located.stream.epoch(), seq })
            }
            Since::Time(time) => past(Start::At(time), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::nothing(json!({}), Since::Beginning)]
    #[case::null(json!({"since": null}), Since::Beginning)]
    #[case::id(json!({"since": "7-41"}), Since::Behind(ReadFrom::Seq { epoch: 7, seq: Seq(42) }))]
    #[case::start(json!({"since": "7-start"}), Since::Behind(ReadFrom::Seq { epoch: 7, seq: Seq(0) }))]
    #[case::number(json!({"since": 41}), Since::Number(41))]
    #[case::millis(json!({"since": 1_790_000_000_000_u64}), Since::Time(Time::from_millis(1_790_000_000_000)))]
    #[case::time(json!({"since": "1970-01-01T00:00:01Z"}), Since::Time(Time(1_000_000_000)))]
    fn since_is_an_id_a_number_or_a_time(#[case] auth: Value, #[case] since: Since) {
        assert_eq!(Wish::of(Some(&auth)), Ok(Wish { since, ids: false }));
    }

    #[rstest]
    #[case(json!({"since": ""}))]
    #[case(json!({"since": "yesterday"}))]
    #[case(json!({"since": -1}))]
    #[case(json!({"since": 1.5}))]
    #[case(json!({"since": true}))]
    #[case(json!({"since": [1]}))]
    #[case(json!({"ids": "yes"}))]
    fn what_makes_no_sense_is_refused(#[case] auth: Value) {
        assert!(Wish::of(Some(&auth)).is_err());
    }
}
