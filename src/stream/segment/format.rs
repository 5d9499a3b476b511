//! What stands in a segment: a mark, then framed records.
//!
//! ```text
//!   file    = "weirseg1" record…
//!   payload = 0 │ base u64                          head: where the segment begins
//!           = 1 │ units u32 │ time in ms i64 │ data  a record
//! ```
//!
//! A record's place is the base and the units of all before it, so it cannot lie about it.

use crate::stream::frame;

/// How each segment begins.
pub(super) const MARK: &[u8; 8] = b"weirseg1";
/// The most data of one record, in bytes.
pub const LONGEST_DATA: usize = 1024 * 1024;
/// What a payload has before its data.
const BEFORE_DATA: usize = 13;
/// The longest payload.
pub(super) const LONGEST: usize = LONGEST_DATA + BEFORE_DATA;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    Head { base: u64 },
    Record { units: u32, time: i64, data: &'a [u8] },
}

pub(super) fn write_head(out: &mut Vec<u8>, base: u64) {
    out.extend_from_slice(MARK);
    frame::write(out, |out| {
        out.push(0);
        out.extend_from_slice(&base.to_le_bytes());
    });
}

/// How many bytes [`write_head`] writes.
pub(super) const HEAD_BYTES: u64 = (MARK.len() + frame::FRAME + 9) as u64;

/// What stands before the data of a record.
pub(super) fn before_data(units: u32, time: i64, data: &[u8]) -> [u8; frame::FRAME + BEFORE_DATA] {
    let mut before = [0; frame::FRAME + BEFORE_DATA];
    let (frame, own) = before.split_at_mut(frame::FRAME);
    own[0] = 1;
    own[1..5].copy_from_slice(&units.to_le_bytes());
    own[5..].copy_from_slice(&time.to_le_bytes());
    frame.copy_from_slice(&frame::before(&[own, data]));
    before
}

/// How many bytes of a segment a record of so much data takes.
pub const fn record_bytes(data: usize) -> u64 {
    (data + BEFORE_DATA + frame::FRAME) as u64
}

/// Takes the next record off the front of `bytes`; `None` where there is none that is whole and makes sense.
pub(super) fn read<'a>(bytes: &mut &'a [u8]) -> Option<Stored<'a>> {
    let mut rest = *bytes;
    let record = parse(frame::read(&mut rest, LONGEST)?)?;
    *bytes = rest;
    Some(record)
}

fn parse(payload: &[u8]) -> Option<Stored<'_>> {
    let (kind, body) = payload.split_first()?;
    match kind {
        0 => Some(Stored::Head { base: u64::from_le_bytes(*body.first_chunk()?) }),
        1 => {
            let (units, body) = body.split_first_chunk()?;
            let (time, data) = body.split_first_chunk()?;
            Some(Stored::Record { units: u32::from_le_bytes(*units), time: i64::from_le_bytes(*time), data })
        }
        _ => None,
    }
}
