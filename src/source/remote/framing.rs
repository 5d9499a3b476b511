//! How senders of syslog part their messages over TCP (RFC 6587): with the number of bytes before each, or with newlines
//! behind each. Which it is shows in the first bytes of a connection.

use crate::source::feed::Feed;

/// The most digits of a count: beyond a hundred megabytes it is none.
const DIGITS: usize = 9;

/// What is known of one connection's framing.
#[derive(Debug)]
pub(super) enum Framing {
    /// Too little has come: these bytes.
    Unknown(Vec<u8>),
    /// Lines.
    Lines,
    /// Between two messages, or in the number before one.
    Count(usize),
    /// In a message: how many bytes are still to come, and those that have come as far as the longest record goes.
    Counted(usize, Vec<u8>),
}

impl Default for Framing {
    fn default() -> Self {
        Self::Unknown(Vec::new())
    }
}

/// What the first bytes say.
enum Shows {
    Counts,
    Lines,
    Nothing,
}

impl Framing {
    /// Hands on what arrived. Records are published when they are whole.
    pub fn push(&mut self, feed: &mut Feed, bytes: &[u8]) {
        if let Self::Unknown(first) = self {
            // Enough to know is in hand long before this.
            let known = bytes.len().min(DIGITS + 2);
            first.extend_from_slice(&bytes[..known]);
            let next = match shows(first) {
                Shows::Nothing => return,
                Shows::Counts => Self::Count(0),
                Shows::Lines => Self::Lines,
            };
            let first = std::mem::take(first);
            *self = next;
            self.known(feed, &first);
            self.known(feed, &bytes[known..]);
        } else {
            self.known(feed, bytes);
        }
        feed.flush();
    }

    fn known(&mut self, feed: &mut Feed, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self {
                Self::Count(count) => match bytes[0] {
                    digit @ b'0'..=b'9' if *count < 10usize.pow(DIGITS as u32 - 1) => {
                        *count = *count * 10 + usize::from(digit - b'0');
                        &bytes[1..]
                    }
                    b' ' if *count > 0 => {
                        *self = Self::Counted(*count, Vec::new());
                        &bytes[1..]
                    }
                    // Some put a newline behind each message all the same.
                    b'\n' | b'\r' if *count == 0 => &bytes[1..],
                    // It is no number: what comes is taken as lines from here on, and nothing is lost.
                    _ => {
                        if *count > 0 {
                            feed.push(count.to_string().as_bytes());
                        }
                        *self = Self::Lines;
                        bytes
                    }
                },
                Self::Counted(left, text) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= now.len();
                    // One byte more than the longest record tells that it was longer.
                    let room = (feed.limit() + 1).saturating_sub(text.len());
                    text.extend_from_slice(&now[..now.len().min(room)]);
                    if *left == 0 {
                        let text = std::mem::take(text);
                        *self = Self::Count(0);
                        give(feed, &text, false);
                    }
                    rest
                }
                Self::Lines | Self::Unknown(_) => {
                    feed.push(bytes);
                    return;
                }
            };
        }
    }

    /// The connection is over: what has come of a message is a record, marked as cut where it was announced longer.
    pub fn finish(&mut self, feed: &mut Feed, broken: bool) {
        match std::mem::take(self) {
            Self::Unknown(first) => feed.push(&first),
            Self::Counted(_, text) if !text.is_empty() => give(feed, &text, true),
            _ => {}
        }
        feed.finish(broken);
    }
}

fn give(feed: &mut Feed, text: &[u8], cut: bool) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let over = text.len() > feed.limit();
    feed.record(&text[..text.len().min(feed.limit())], cut || over);
}

/// A count is digits, a space, and the `<` with which each message of syslog begins.
fn shows(first: &[u8]) -> Shows {
    let digits = first.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let counted = digits > 0 && first[0] != b'0' && digits <= DIGITS;
    match (counted, first.get(digits), first.get(digits + 1)) {
        (true, None, _) | (true, Some(b' '), None) => Shows::Nothing,
        (true, Some(b' '), Some(b'<')) => Shows::Counts,
        _ if first.is_empty() => Shows::Nothing,
        _ => Shows::Lines,
    }
}
