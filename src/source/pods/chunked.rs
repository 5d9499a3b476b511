//! The chunked transfer coding, taken off as bytes arrive (RFC 9112, section 7.1).

use bytes::{Buf, BytesMut};

/// Bytes of one chunk's extensions at most, and of the trailers: nobody needs any.
const MOST_EXTRA: usize = 16 * 1024;

/// Why a body is not chunked as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's chunks are malformed: {0}")]
pub(in crate::source) struct ChunkError(&'static str);

/// Takes the coding off. Holds nothing but its place.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extra: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size of a chunk, with so many digits read.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the size, up to the end of its line.
    Extension {
        value: u64,
    },
    /// In the data, with so many bytes to come.
    Data {
        left: u64,
    },
    /// At the line end behind the data.
    DataEnd,
    /// In the trailers behind the last chunk, so far into a line.
    Trailer {
        line: usize,
    },
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, extra: 0 }
    }
}

impl Chunked {
    /// Whether the last chunk and the trailers have come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves what is data from `input` to `out`. What is left in `input` waits for more bytes.
    pub fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(), ChunkError> {
        while !input.is_empty() && !self.is_done() {
            match self.state {
                State::Data { left } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    out.extend_from_slice(&input[..here]);
                    input.advance(here);
                    let left = left - here as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                }
                State::DataEnd if input[0] == b'\n' => {
                    input.advance(1);
                    self.state = State::Size { value: 0, digits: 0 };
                }
                State::DataEnd if input[0] != b'\r' => return Err(ChunkError("no line end behind the data")),
                State::DataEnd => match input.get(1) {
                    None => return Ok(()),
                    Some(b'\n') => {
                        input.advance(2);
                        self.state = State::Size { value: 0, digits: 0 };
                    }
                    Some(_) => return Err(ChunkError("no line end behind the data")),
                },
                _ => {
                    let byte = input[0];
                    input.advance(1);
                    self.step(byte)?;
                }
            }
        }
        Ok(())
    }

    /// One byte of what stands between the data.
    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\r' | b'\n' | b';') => return Err(ChunkError("a chunk without a size")),
            (State::Size { value, .. }, b'\n') => Self::behind_size(value),
            (State::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => State::Extension { value },
            (State::Size { value, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError("a size that is no hexadecimal number"))?;
                if digits == 16 {
                    return Err(ChunkError("a size of more than 16 digits"));
                }
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Extension { value }, b'\n') => Self::behind_size(value),
            (State::Trailer { line: 0 }, b'\n') => State::Done,
            (State::Trailer { .. }, b'\n') => State::Trailer { line: 0 },
            (State::Trailer { line: 0 }, b'\r') => self.state,
            (State::Trailer { line }, _) => State::Trailer { line: line + 1 },
            (state, _) => state,
        };
        let extra = matches!(self.state, State::Extension { .. } | State::Trailer { .. });
        self.extra = if extra { self.extra + 1 } else { 0 };
        if self.extra > MOST_EXTRA {
            return Err(ChunkError("extensions or trailers beyond all bounds"));
        }
        Ok(())
    }

    fn behind_size(value: u64) -> State {
        if value == 0 { State::Trailer { line: 0 } } else { State::Data { left: value } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// Decodes bytes that come in these pieces.
    fn decoded(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let (mut chunked, mut input, mut out) = (Chunked::default(), BytesMut::new(), BytesMut::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            chunked.decode(&mut input, &mut out)?;
        }
        Ok((out.to_vec(), chunked.is_done(), input.len()))
    }

    #[rstest]
    #[case::nothing(b"0\r\n\r\n", b"", true, 0)]
    #[case::two(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", true, 0)]
    #[case::upper_and_lower_case(
        b"0A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n",
        b"01234567890123456789a",
        true,
        0
    )]
    #[case::data_like_a_chunk(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", true, 0)]
    #[case::an_extension(b"3;a=b\r\nabc\r\n0 ; last\r\n\r\n", b"abc", true, 0)]
    #[case::trailers(b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"x", true, 0)]
    #[case::bare_line_feeds(b"1\nx\n0\n\n", b"x", true, 0)]
    #[case::unfinished(b"5\r\nab", b"ab", false, 0)]
    #[case::without_the_last(b"2\r\nab\r\n", b"ab", false, 0)]
    #[case::without_the_trailers(b"2\r\nab\r\n0\r\n", b"ab", false, 0)]
    #[case::what_comes_behind_stays(b"0\r\n\r\nHTTP", b"", true, 4)]
    fn chunks_are_taken_apart(#[case] body: &[u8], #[case] data: &[u8], #[case] done: bool, #[case] left: usize) {
        assert_eq!(decoded(&[body]), Ok((data.to_vec(), done, left)));
    }

    #[rstest]
    #[case(b"\r\nabc")]
    #[case(b"x\r\n")]
    #[case(b"-1\r\n")]
    #[case(b"11111111111111111\r\n")]
    #[case(b"1\r\nab")]
    #[case(b"1\r\na\rb")]
    #[case(b";a\r\n")]
    fn malformed_chunks_are_refused(#[case] body: &[u8]) {
        assert!(decoded(&[body]).is_err());
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = vec![b'x'; MOST_EXTRA + 1];
        assert!(decoded(&[b"1;", &long]).is_err());
        assert!(decoded(&[b"0\r\n", &long]).is_err());
    }

    #[test]
    fn any_number_of_chunks_is_within_the_bounds() {
        let body = [b"1\r\nx\r\n".repeat(MOST_EXTRA + 1), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(decoded(&[&body]), Ok((vec![b'x'; MOST_EXTRA + 1], true, 0)));
    }

    proptest! {
        #[test]
        fn data_is_the_same_however_it_was_chunked_and_split(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..12),
            splits in proptest::collection::vec(1..20usize, 0..200),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let (mut pieces, mut rest) = (Vec::new(), body.as_slice());
            for split in splits {
                let (piece, behind) = rest.split_at(split.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(decoded(&pieces), Ok((chunks.concat(), true, 0)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&[&bytes]);
        }
    }
}
