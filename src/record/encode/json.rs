//! JSON string escaping at the machine's speed, for bytes that may not be UTF-8 (RFC 8259, section 7).

/// Appends a JSON string, with its quotes.
pub fn push_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text.as_bytes());
    out.push(b'"');
}

/// Appends text as the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_ascii() {
        return escape(out, text);
    }
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Copies runs that need no escape as a whole.
fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let clean = clean_prefix(text);
        out.extend_from_slice(&text[..clean]);
        let Some(&byte) = text.get(clean) else { return };
        push_escaped(out, byte);
        text = &text[clean + 1..];
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many leading bytes need no escape: eight at a time, then one by one.
fn clean_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = text[at..].first_chunk::<8>() {
        if needs_escape(u64::from_le_bytes(*word)) {
            break;
        }
        at += 8;
    }
    at + text[at..].iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count()
}

/// Whether any byte of the word is a control character, a quote or a backslash. May say yes for a word that
/// has none (a borrow that runs into the next byte), never no for one that has.
fn needs_escape(word: u64) -> bool {
    let below_space = word.wrapping_sub(LOW * 0x20) & !word;
    let quote = word ^ (LOW * u64::from(b'"'));
    let backslash = word ^ (LOW * u64::from(b'\\'));
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    (below_space | zero(quote) | zero(backslash)) & HIGH != 0
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
        }
    }
}
