//! The newest bytes that were sent, for when some of them must be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that are sent again at a time.
const PIECE: usize = 64 * 1024;

/// The newest bytes of a stream, bounded.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: VecDeque<u8>,
    end: u64,
    most: usize,
}

impl Kept {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self { bytes: VecDeque::new(), end: 0, most }
    }

    /// Where in the stream the oldest that is kept stands.
    pub fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// How many bytes there were in all.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Adds bytes behind the end, and gives up the oldest where they are too many.
    pub fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let newest = &bytes[bytes.len().saturating_sub(self.most)..];
        let over = (self.bytes.len() + newest.len()).saturating_sub(self.most);
        self.bytes.drain(..over);
        self.bytes.extend(newest);
    }

    /// Some bytes from an offset on, none at the end or where they are kept no longer.
    pub fn at(&self, offset: u64) -> Option<Bytes> {
        let skip = usize::try_from(offset.checked_sub(self.start())?).ok()?;
        let piece: Vec<u8> = self.bytes.iter().skip(skip).take(PIECE).copied().collect();
        (!piece.is_empty()).then(|| piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_bytes_are_kept_and_given_from_where_they_are_asked_for(
            most in 0..300_usize,
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        ) {
            let (mut kept, mut all) = (Kept::new(most), Vec::new());
            for piece in pieces {
                kept.push(&piece);
                all.extend(piece);
                let start = all.len().saturating_sub(most);
                prop_assert_eq!((kept.start(), kept.end()), (start as u64, all.len() as u64));
                for offset in 0..=all.len() {
                    let expected = (start..all.len()).contains(&offset).then(|| Bytes::copy_from_slice(&all[offset..]));
                    prop_assert_eq!(kept.at(offset as u64), expected);
                }
            }
        }
    }
}
