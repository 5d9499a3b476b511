//! Wall-clock times with nanoseconds, and the fast way to read and write them as RFC 3339.

use chrono::{DateTime, Utc};

/// A point in time: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

const SECOND: i64 = 1_000_000_000;

impl Time {
    /// The present, by this machine's clock.
    pub fn now() -> Self {
        Self::from_chrono(Utc::now())
    }

    /// From chrono, our wire type. Times outside 1677–2262 become the nearest that fits.
    pub fn from_chrono(time: DateTime<Utc>) -> Self {
        let limit = if time.timestamp() < 0 { i64::MIN } else { i64::MAX };
        Self(time.timestamp_nanos_opt().unwrap_or(limit))
    }

    /// To chrono, our wire type.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.0)
    }

    /// From jiff, the type of the Kubernetes client. Times outside 1677–2262 become the nearest that fits.
    pub fn from_jiff(time: jiff::Timestamp) -> Self {
        let limit = if time.as_second() < 0 { i64::MIN } else { i64::MAX };
        Self(i64::try_from(time.as_nanosecond()).unwrap_or(limit))
    }

    /// To jiff, the type of the Kubernetes client.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The start of the second this time lies in.
    pub fn floor_second(self) -> Self {
        Self(self.0.div_euclid(SECOND).saturating_mul(SECOND))
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time of so many milliseconds since the Unix epoch. Times outside 1677–2262 become the nearest that fits.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// This time moved by a number of nanoseconds, which may be negative.
    pub fn plus_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// RFC 3339 in UTC with nine digits of fraction.
    pub fn rfc3339(self) -> String {
        let mut out = Vec::with_capacity(30);
        self.write_rfc3339(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Appends the time as RFC 3339 in UTC with nine digits of fraction, always 30 bytes.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (year, month, day) = civil_from_days(self.0.div_euclid(SECOND * 86_400));
        let second = self.0.div_euclid(SECOND).rem_euclid(86_400);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        put_digits(&mut text[..4], year);
        put_digits(&mut text[5..7], month);
        put_digits(&mut text[8..10], day);
        put_digits(&mut text[11..13], second / 3600);
        put_digits(&mut text[14..16], second / 60 % 60);
        put_digits(&mut text[17..19], second % 60);
        put_digits(&mut text[20..29], self.0.rem_euclid(SECOND));
        out.extend_from_slice(&text);
    }
}

/// Writes a number that is not negative into all of `place`, with leading zeros.
fn put_digits(place: &mut [u8], number: i64) {
    // No number here has more than nine digits, and this width divides faster.
    let mut rest = number as u32;
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day number of a date, counted from 1970-01-01 (same source, `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Reads the time that the kubelet puts before each line of a log.
///
/// Lines of one log mostly share their minute, so the date is worked out only when it changes.
#[derive(Clone, Debug, Default)]
pub struct TimeParser {
    minute: Option<[u8; 17]>,
    minute_nanos: i64,
}

impl TimeParser {
    /// Splits `2026-11-20T21:50:09.123456789Z text` (RFC 3339, any offset, up to nine digits of fraction)
    /// into the time and where the text begins. `None` where the line does not begin with a time.
    pub fn split(&mut self, line: &[u8]) -> Option<(Time, usize)> {
        let minute: &[u8; 17] = line.first_chunk()?;
        if Some(minute) != self.minute.as_ref() {
            self.minute_nanos = parse_minute(minute)?;
            self.minute = Some(*minute);
        }
        let second = two_digits(line.get(17..19)?)?;
        let mut nanos = self.minute_nanos + second * SECOND;
        let mut at = 19;
        if line.get(at) == Some(&b'.') {
            at += 1;
            let (fraction, digits) = parse_fraction(&line[at..])?;
            nanos += fraction;
            at += digits;
        }
        match line.get(at)? {
            b'Z' => at += 1,
            sign @ (b'+' | b'-') => {
                let offset = line.get(at + 1..at + 6).filter(|offset| offset[2] == b':')?;
                let seconds = (two_digits(&offset[..2])? * 60 + two_digits(&offset[3..])?) * 60;
                nanos -= if *sign == b'+' { seconds } else { -seconds } * SECOND;
                at += 6;
            }
            _ => return None,
        }
        match line.get(at) {
            Some(b' ') => Some((Time(nanos), at + 1)),
            None => Some((Time(nanos), at)),
            Some(_) => None,
        }
    }
}

/// The nanoseconds of `2026-11-20T21:50:`.
fn parse_minute(text: &[u8; 17]) -> Option<i64> {
    let shape = text[4] == b'-' && text[7] == b'-' && text[10] == b'T' && text[13] == b':' && text[16] == b':';
    if !shape {
        return None;
    }
    let year = two_digits(&text[..2])? * 100 + two_digits(&text[2..4])?;
    let (month, day) = (two_digits(&text[5..7])?, two_digits(&text[8..10])?);
    let (hour, minute) = (two_digits(&text[11..13])?, two_digits(&text[14..16])?);
    if !(1678..=2261).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days_from_civil(year, month, day) * 1440 + hour * 60 + minute) * 60 * SECOND)
}

fn two_digits(text: &[u8]) -> Option<i64> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

/// The nanoseconds of a fraction's digits, and how many digits there are.
fn parse_fraction(text: &[u8]) -> Option<(i64, usize)> {
    let (mut value, mut digits) = (0i64, 0usize);
    for byte in text.iter().take_while(|byte| byte.is_ascii_digit()).take(10) {
        value = value * 10 + i64::from(byte - b'0');
        digits += 1;
    }
    if !(1..=9).contains(&digits) {
        return None;
    }
    Some((value * 10i64.pow(9 - digits as u32), digits))
}
