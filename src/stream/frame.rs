//! How records stand in files: each with its length and checksum, so that one that is torn or damaged is told from a good one.
//!
//! ```text
//!   record = length u32 │ CRC-32C of the payload u32 │ payload
//! ```
//!
//! Numbers are little-endian. Every record is whole or not there.

/// What a record has before its payload, in bytes.
pub(super) const FRAME: usize = 8;

/// What goes before a payload that consists of these parts.
pub(super) fn before(parts: &[&[u8]]) -> [u8; FRAME] {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let sum = parts.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part));
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..].copy_from_slice(&sum.to_le_bytes());
    frame
}

/// Appends a record whose payload `fill` writes.
pub(super) fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    fill(out);
    let frame = before(&[&out[start + FRAME..]]);
    out[start..start + FRAME].copy_from_slice(&frame);
}

/// Takes the payload of the next record off the front of `bytes`; `None` where there is none that is whole and no longer
/// than `longest`.
pub(super) fn read<'a>(bytes: &mut &'a [u8], longest: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= longest)?;
    let (payload, rest) = rest.split_at_checked(length)?;
    if crc32c::crc32c(payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    *bytes = rest;
    Some(payload)
}

/// How long the record at the front of `bytes` says it is, its frame included; `None` where that cannot be read yet.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()?.checked_add(FRAME)
}
