//! What stands in a file: a mark, then records, each with its length and checksum.
//!
//! ```text
//!   file   = "weirser1" record…
//!   record = length u32 │ CRC-32C of the payload u32 │ payload
//!   payload = 0 │ keep in ms u64                        head: the first record of a file
//!           = 1 │ id u32 │ length of asset u16 │ asset │ metric       a series, before its first use in the file
//!           = 2 │ time in ms i64 │ (id u32 │ bits of the value u64)…     points of one time
//!           = 3 │ id u32 │ rows u32 │ bytes               a chunk of points
//!           = 4 │ id u32 │ rows u32 │ bytes               a chunk of buckets
//!           = 5                                          end of a snapshot, which is complete
//! ```
//!
//! Numbers are little-endian. Every record is whole or not there: one whose checksum does not fit ends the file.

use super::super::SeriesKey;
use super::super::chunk::Chunk;
use crate::stream::frame;

/// How each file begins.
pub(super) const MARK: &[u8; 8] = b"weirser1";
/// The longest payload that is written or read.
pub(super) const LONGEST: usize = 1024 * 1024;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record<'a> {
    Head { keep: u64 },
    Series { id: u32, asset: &'a str, metric: &'a str },
    Points { time: i64, values: Values<'a> },
    PointChunk { id: u32, chunk: Chunk<1> },
    BucketChunk { id: u32, chunk: Chunk<5> },
    End,
}

/// The points of one time: ids of series and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values<'a>(&'a [u8]);

const VALUE: usize = 12;

impl Iterator for Values<'_> {
    type Item = (u32, f64);

    fn next(&mut self) -> Option<(u32, f64)> {
        let (value, rest) = self.0.split_at_checked(VALUE)?;
        self.0 = rest;
        let (id, bits) = value.split_first_chunk()?;
        Some((u32::from_le_bytes(*id), f64::from_bits(u64::from_le_bytes(*bits.first_chunk()?))))
    }
}

/// Appends a record of a kind whose body `fill` writes.
fn frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    frame::write(out, |out| {
        out.push(kind);
        fill(out);
    });
}

pub(super) fn write_head(out: &mut Vec<u8>, keep: u64) {
    out.extend_from_slice(MARK);
    frame(out, 0, |out| out.extend_from_slice(&keep.to_le_bytes()));
}

/// Appends a series; `false` where its names are too long to be written.
pub(super) fn write_series(out: &mut Vec<u8>, id: u32, key: &SeriesKey) -> bool {
    let Ok(length) = u16::try_from(key.asset.len()) else { return false };
    if key.metric.len() > usize::from(u16::MAX) {
        return false;
    }
    frame(out, 1, |out| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(key.asset.as_bytes());
        out.extend_from_slice(key.metric.as_bytes());
    });
    true
}

/// Appends points of one time, in as many records as are needed.
pub(super) fn write_points(out: &mut Vec<u8>, time: i64, values: &[(u32, f64)]) {
    for values in values.chunks((LONGEST - 9) / VALUE) {
        frame(out, 2, |out| {
            out.extend_from_slice(&time.to_le_bytes());
            for (id, value) in values {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        });
    }
}

pub(super) fn write_point_chunk(out: &mut Vec<u8>, id: u32, chunk: &Chunk<1>) {
    write_chunk(out, 3, id, chunk);
}

pub(super) fn write_bucket_chunk(out: &mut Vec<u8>, id: u32, chunk: &Chunk<5>) {
    write_chunk(out, 4, id, chunk);
}

fn write_chunk<const K: usize>(out: &mut Vec<u8>, kind: u8, id: u32, chunk: &Chunk<K>) {
    frame(out, kind, |out| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&chunk.count.to_le_bytes());
        out.extend_from_slice(&chunk.bytes);
    });
}

pub(super) fn write_end(out: &mut Vec<u8>) {
    frame(out, 5, |_| {});
}

/// Takes the next record off the front of `bytes`; `None` where there is none that is whole and makes sense.
pub(super) fn read<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let mut rest = *bytes;
    let record = parse(frame::read(&mut rest, LONGEST)?)?;
    *bytes = rest;
    Some(record)
}

fn parse(payload: &[u8]) -> Option<Record<'_>> {
    let (kind, body) = payload.split_first()?;
    let id = |body: &'_ [u8]| body.first_chunk().map(|id| u32::from_le_bytes(*id));
    Some(match kind {
        0 => Record::Head { keep: u64::from_le_bytes(*body.first_chunk()?) },
        1 => {
            let (length, names) = body.get(4..)?.split_first_chunk()?;
            let (asset, metric) = names.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            Record::Series { id: id(body)?, asset: str::from_utf8(asset).ok()?, metric: str::from_utf8(metric).ok()? }
        }
        2 => {
            let (time, values) = body.split_first_chunk()?;
            Record::Points { time: i64::from_le_bytes(*time), values: Values(values) }
        }
        3 => Record::PointChunk { id: id(body)?, chunk: chunk(body)? },
        4 => Record::BucketChunk { id: id(body)?, chunk: chunk(body)? },
        5 => Record::End,
        _ => return None,
    })
}

fn chunk<const K: usize>(body: &[u8]) -> Option<Chunk<K>> {
    let (count, bytes) = body.get(4..)?.split_first_chunk()?;
    Chunk::verified(u32::from_le_bytes(*count), bytes)
}
