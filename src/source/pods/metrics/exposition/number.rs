//! Values and timestamps.

use super::Reason;
use crate::record::Time;

/// The powers of ten that a 64-bit float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Up to here a 64-bit float holds every whole number.
const MOST_EXACT: u64 = 1 << 53;

/// More digits than these may not fit 64 bits.
const MOST_DIGITS: usize = 19;

/// The nearest float to a number as Go's `strconv.ParseFloat` takes it, without the hexadecimal forms and underscores
/// that Prometheus refuses.
pub(super) fn value(text: &str) -> Result<f64, Reason> {
    match quick(text.as_bytes()) {
        Some(value) => Ok(value),
        None => thorough(text),
    }
}

/// Few digits, a small exponent: nearly all there are. Both operands of the one operation are exact, so that it rounds
/// once, as it should (Clinger 1990, "How to read floating point numbers accurately").
fn quick(text: &[u8]) -> Option<f64> {
    let negative = text.first() == Some(&b'-');
    let text = &text[usize::from(negative)..];
    let (whole, rest) = digits(text, 0)?;
    let (mantissa, count, rest) = match rest.split_first() {
        Some((b'.', rest)) => {
            let (mantissa, after) = digits(rest, whole)?;
            (mantissa, rest.len() - after.len(), after)
        }
        _ => (whole, 0, rest),
    };
    let read = text.len() - rest.len();
    // Room for the point; and there is at least one digit.
    if mantissa > MOST_EXACT || read > MOST_DIGITS + 1 || read == 0 || text[0] == b'.' {
        return None;
    }
    let power = small_exponent(rest)? - count as i32;
    let size = POWERS.get(power.unsigned_abs() as usize)?;
    let value = if power < 0 { mantissa as f64 / size } else { mantissa as f64 * size };
    Some(if negative { -value } else { value })
}

/// The digits that `text` begins with, behind those of `number`, and what follows them. `None` where they overflow.
fn digits(text: &[u8], mut number: u64) -> Option<(u64, &[u8])> {
    let mut at = 0;
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        if at == MOST_DIGITS {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    Some((number, &text[at..]))
}

/// An exponent of up to three digits; nothing is zero.
fn small_exponent(text: &[u8]) -> Option<i32> {
    let (sign, text) = match text {
        [] => return Some(0),
        [b'e' | b'E', b'-', text @ ..] => (-1, text),
        [b'e' | b'E', b'+', text @ ..] | [b'e' | b'E', text @ ..] => (1, text),
        _ => return None,
    };
    let (number, rest) = digits(text, 0)?;
    ((1..=3).contains(&text.len()) && rest.is_empty()).then_some(sign * number as i32)
}

fn thorough(text: &str) -> Result<f64, Reason> {
    let value: f64 = text.parse().map_err(|_| Reason::Value)?;
    let named = !text.bytes().any(|byte| byte.is_ascii_digit());
    match () {
        () if value.is_infinite() && !named => Err(Reason::ValueRange),
        () if value.is_nan() && text.len() > "NaN".len() => Err(Reason::Value),
        () if value.is_nan() => Ok(f64::NAN),
        () => Ok(value),
    }
}

/// Whole milliseconds, as Go's `strconv.ParseInt` takes them.
pub(super) fn millis(text: &str) -> Result<Time, Reason> {
    let millis: i64 = text.parse().map_err(|_| Reason::Timestamp)?;
    Ok(Time(millis.saturating_mul(1_000_000)))
}

/// Seconds, as a decimal number with or without fraction and exponent. A float would lose nanoseconds, so that the
/// digits are counted out.
pub(super) fn seconds(text: &str) -> Result<Time, Reason> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..]).ok_or(Reason::Timestamp)?),
        None => (unsigned, 0),
    };
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    let fraction = mantissa.get(point + 1..).unwrap_or_default();
    let all = || mantissa[..point].iter().chain(fraction);
    if all().next().is_none() || !all().all(u8::is_ascii_digit) {
        return Err(Reason::Timestamp);
    }
    // So many digits stand before the point when it is moved to behind the nanoseconds.
    let mut wanted = exponent.saturating_add(9).saturating_add_unsigned(point as u64);
    let (mut nanos, sign) = (0i64, if negative { -1 } else { 1 });
    for digit in all() {
        if wanted <= 0 {
            break;
        }
        nanos = nanos.saturating_mul(10).saturating_add(sign * i64::from(digit - b'0'));
        wanted -= 1;
    }
    for _ in 0..wanted.clamp(0, MOST_DIGITS as i64) {
        nanos = nanos.saturating_mul(10);
    }
    Ok(Time(nanos))
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let grow = |number: i64, digit: &u8| number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let number = digits.iter().fold(0, grow);
    Some(if negative { -number } else { number })
}
