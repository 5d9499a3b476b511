//! Readings on the wire: all assets in one message, but for the classic dialect, which has a message an asset.

use super::{Encoded, Wire, push_str};
use crate::record::{Asset, Reading, Time};

/// Encodes a reading with this time. Called through [`Reading::encoded`], which keeps the result.
pub fn reading(reading: &Reading, wire: Wire, time: Time) -> Encoded {
    match wire {
        Wire::Classic | Wire::ClassicTimed => asset_by_asset(reading, time),
        Wire::Channel4 | Wire::Channel4Timed | Wire::Channel3 | Wire::Channel3Timed => channel(reading, wire, time),
        Wire::Json | Wire::Text => json(reading, time),
    }
}

/// `{metrics: [names], value: [numbers]}` for each asset, read by position: what is absent is null.
fn asset_by_asset(reading: &Reading, time: Time) -> Encoded {
    let mut names = Vec::new();
    push_list(&mut names, &reading.head().names, |out, name| push_str(out, name));
    let mut out = Vec::with_capacity(reading.assets().len() * (names.len() + 256));
    let mut ends = Vec::with_capacity(reading.assets().len());
    for asset in reading.assets() {
        push_fields(&mut out, &[("namespace", &asset.namespace), ("podName", &asset.pod)]);
        if !asset.container.is_empty() {
            push_fields(&mut out, &[("container", &asset.container)]);
        }
        push_fields(&mut out, &[("asset", &asset.name)]);
        out.extend_from_slice(br#","metrics":"#);
        out.extend_from_slice(&names);
        out.extend_from_slice(br#","value":"#);
        push_list(&mut out, &asset.values, |out, value| push_number(out, *value));
        out.extend_from_slice(br#","timestamp":""#);
        time.write_rfc3339(&mut out);
        out.extend_from_slice(b"\"}");
        ends.push(out.len() as u32);
    }
    Encoded { bytes: out.into(), ends }
}

/// One `metricsmessageresponse`; what is absent is left out.
fn channel(reading: &Reading, wire: Wire, time: Time) -> Encoded {
    let mut out = Vec::with_capacity(reading.assets().len() * 256 + 256);
    if matches!(wire, Wire::Channel4 | Wire::Channel4Timed) {
        out.extend_from_slice(br#","msgtype":"metricsmessageresponse""#);
    }
    out.extend_from_slice(br#","assets":"#);
    push_list(&mut out, reading.assets(), |out, asset| {
        out.extend_from_slice(br#"{"assetName":"#);
        push_str(out, &asset.name);
        out.extend_from_slice(br#","values":"#);
        push_list(out, known(reading, asset), |out, (name, value)| {
            out.extend_from_slice(br#"{"metricName":"#);
            push_str(out, name);
            out.extend_from_slice(br#","metricValue":"#);
            push_number(out, Some(value));
            out.push(b'}');
        });
        out.push(b'}');
    });
    out.extend_from_slice(format!(r#","timestamp":{}"#, time.millis()).as_bytes());
    let head = reading.head();
    push_fields(
        &mut out,
        &[("namespace", &head.namespace), ("group", &head.group), ("pod", &head.pod), ("container", &head.container)],
    );
    out.push(b'}');
    let ends = vec![out.len() as u32];
    Encoded { bytes: out.into(), ends }
}

/// `{"time": …, "assets": [{"asset": …, "metrics": {name: number}}]}`; what is absent is left out.
fn json(reading: &Reading, time: Time) -> Encoded {
    let mut out = Vec::with_capacity(reading.assets().len() * 256 + 64);
    out.extend_from_slice(br#"{"time":""#);
    time.write_rfc3339(&mut out);
    out.extend_from_slice(br#"","assets":"#);
    push_list(&mut out, reading.assets(), |out, asset| {
        out.extend_from_slice(br#"{"asset":"#);
        push_str(out, &asset.name);
        let place = [
            ("namespace", &asset.namespace),
            ("group", &asset.group),
            ("pod", &asset.pod),
            ("container", &asset.container),
        ];
        let there: Vec<_> = place.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        push_fields(out, &there);
        out.extend_from_slice(br#","metrics":{"#);
        for (index, (name, value)) in known(reading, asset).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_str(out, name);
            out.push(b':');
            push_number(out, Some(value));
        }
        out.extend_from_slice(b"}}");
    });
    out.push(b'}');
    let ends = vec![out.len() as u32];
    Encoded { bytes: out.into(), ends }
}

fn known<'r>(reading: &'r Reading, asset: &'r Asset) -> impl Iterator<Item = (&'r str, f64)> {
    let named = reading.head().names.iter().zip(&asset.values);
    named.filter_map(|(name, value)| Some((name.as_str(), (*value)?)))
}

fn push_list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut push: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

fn push_fields(out: &mut Vec<u8>, fields: &[(&str, &String)]) {
    for (key, value) in fields {
        out.push(b',');
        push_str(out, key);
        out.push(b':');
        push_str(out, value);
    }
}

/// The shortest decimal that reads back as the same number; `null` where there is none (RFC 8259, section 6).
fn push_number(out: &mut Vec<u8>, value: Option<f64>) {
    match value.and_then(serde_json::Number::from_f64) {
        // A whole number is written as one.
        Some(number) if number.as_f64().is_some_and(|value| value.fract() == 0.0 && value.abs() < 1e15) => {
            out.extend_from_slice(format!("{}", number.as_f64().unwrap_or_default() as i64).as_bytes());
        }
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}
