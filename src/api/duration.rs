//! Lengths of time as people write them: `300ms`, `60s`, `5m`, `1h30m`, `7d`.
//!
//! Whole numbers with a unit, several in a row add up. No fractions, no signs, no spaces: one way to
//! write a thing.

use std::time::Duration;

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("is empty; write a number and a unit such as `60s`, `5m` or `7d`")]
    Empty,
    /// A unit stands where a number must come first.
    #[error("has no number before `{0}`; write a number and a unit such as `60s`, `5m` or `7d`")]
    NoNumber(String),
    /// A number without unit, or with one that is not known.
    #[error("has the unknown unit `{0}`; use ms, s, m, h or d")]
    Unit(String),
    /// More than fits.
    #[error("is too long; the longest is 36500d")]
    TooLong,
}

/// The longest length of time that is accepted: a hundred years.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a length of time; never longer than [`LONGEST`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (unit, next) = after.split_at(letters);
        if number.is_empty() {
            return Err(DurationError::NoNumber(unit.to_owned()));
        }
        let (_, factor) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| DurationError::Unit(unit.to_owned()))?;
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor))
            .and_then(|n| n.checked_add(millis))
            .ok_or(DurationError::TooLong)?;
        rest = next;
    }
    Some(Duration::from_millis(millis)).filter(|d| *d <= LONGEST).ok_or(DurationError::TooLong)
}

/// Writes a length of time with the largest units that say it exactly; below a millisecond is cut off.
pub fn format(value: Duration) -> String {
    let mut millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in UNITS {
        if millis >= factor {
            text.push_str(&(millis / factor).to_string());
            text.push_str(name);
            millis %= factor;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_back() {
        for (text, millis, written) in [
            ("300ms", 300, "300ms"),
            ("60s", 60_000, "1m"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("90m", 5_400_000, "1h30m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1s500ms", 1_500, "1s500ms"),
            ("0s", 0, "0s"),
            ("36500d", 3_153_600_000_000, "36500d"),
        ] {
            let value = parse(text).unwrap();
            assert_eq!(value, Duration::from_millis(millis), "{text}");
            assert_eq!(format(value), written, "{text}");
            assert_eq!(parse(&format(value)).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        for (text, error) in [
            ("", DurationError::Empty),
            ("s", DurationError::NoNumber("s".into())),
            ("-5s", DurationError::NoNumber("-".into())),
            ("60", DurationError::Unit(String::new())),
            ("5 m", DurationError::Unit(" m".into())),
            ("1.5h", DurationError::Unit(".".into())),
            ("5min", DurationError::Unit("min".into())),
            ("5M", DurationError::Unit("M".into())),
            ("1µ", DurationError::Unit("µ".into())),
            ("36501d", DurationError::TooLong),
            ("99999999999999999999d", DurationError::TooLong),
            ("18446744073709551615ms1ms", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
