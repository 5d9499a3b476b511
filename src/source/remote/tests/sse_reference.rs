//! The same format read the slow way: all at once, everything copied. What the two disagree about is a bug in one of
//! them. The fuzz target compares them too.

use super::sse::{EventParser, ID_BYTES, Item};

/// What a stream says, and its last id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub events: Vec<(Vec<u8>, bool)>,
    pub retries: Vec<u64>,
    pub id: Vec<u8>,
}

/// What the parser finds, given the bytes in pieces of these sizes, over and over.
pub fn parsed(bytes: &[u8], sizes: &[usize], limit: usize) -> Told {
    let (mut told, mut parser) = (Told::default(), EventParser::new(limit, Vec::new()));
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        let (piece, after) = rest.split_at(size);
        parser.push(piece, |item| match item {
            Item::Event(data, truncated) => told.events.push((data.to_vec(), truncated)),
            Item::Retry(millis) => told.retries.push(millis),
        });
        assert!(parser.held() <= 2 * limit.max(ID_BYTES) + 2 * ID_BYTES + 16, "memory is bounded");
        rest = after;
    }
    told.id = parser.last_id().to_vec();
    told
}

/// What the standard says of it.
pub fn expected(bytes: &[u8], limit: usize) -> Told {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (mut told, mut data, mut id) = (Told::default(), Vec::<Vec<u8>>::new(), Vec::new());
    for line in lines(bytes) {
        if line.is_empty() {
            told.id.clone_from(&id);
            if !data.is_empty() {
                let mut whole = data.join(&b'\n');
                let over = whole.len() > limit;
                whole.truncate(limit);
                told.events.push((whole, over));
            }
            data.clear();
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (line[..colon].to_vec(), line[colon + 1..].to_vec()),
            None => (line, Vec::new()),
        };
        let value = if value.first() == Some(&b' ') { value[1..].to_vec() } else { value };
        match &name[..] {
            b"data" => data.push(value),
            b"id" if !value.contains(&0) && value.len() <= ID_BYTES => id = value,
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                told.retries.push(String::from_utf8(value).unwrap().parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    told
}

/// All lines that have ended.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\r' | b'\n' => {
                at += usize::from(bytes[at..].starts_with(b"\r\n"));
                lines.push(std::mem::take(&mut line));
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    lines
}

/// That the two agree, however the bytes are split.
pub fn assert_agreement(bytes: &[u8], sizes: &[usize], limit: usize) {
    let expected = expected(bytes, limit);
    assert_eq!(parsed(bytes, &[], limit), expected, "at once");
    assert_eq!(parsed(bytes, &[1], limit), expected, "byte by byte");
    assert_eq!(parsed(bytes, sizes, limit), expected, "in pieces");
}
