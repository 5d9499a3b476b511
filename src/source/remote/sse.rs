//! Reads `text/event-stream`, after "Interpreting an event stream" of the HTML standard (WHATWG, 9.2.6).
//!
//! What differs from a browser: bytes that are not UTF-8 stay as they came; the names of events are not told; what one
//! event may hold is bounded. Nothing here waits or knows of Weir, so that it can be fuzzed by itself.

/// The longest field name that matters, its colon and a space: `event: `.
const NAME: usize = 8;
/// The longest id that is remembered, in bytes: it is sent back in a header, and servers take headers of about 8 KiB.
pub const ID_BYTES: usize = 4096;

/// What stands in a stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event: its data, whose lines are parted by `\n`, and whether it was longer than the limit and lost its end.
    Event(&'a [u8], bool),
    /// How long to wait before connecting again, in milliseconds.
    Retry(u64),
}

/// Cuts bytes into events.
///
/// Guarantees: the same bytes give the same items however they were split on arrival; an event is given at its blank
/// line and not before, so one that a cut left unfinished is never given, and its id never remembered; memory is at
/// most twice the limit and two ids.
#[derive(Debug)]
pub struct EventParser {
    limit: usize,
    /// The line that has not ended yet, as much of it as may matter.
    line: Vec<u8>,
    line_over: bool,
    /// The bytes of a byte order mark that have come; `None` past the place where one may stand.
    mark: Option<usize>,
    /// The last line ended with `\r`, and a `\n` that comes next belongs to it.
    after_cr: bool,
    data: Vec<u8>,
    any_data: bool,
    data_over: bool,
    next_id: Vec<u8>,
    id: Vec<u8>,
}

const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl EventParser {
    /// A parser of events with at most `limit` bytes of data, that goes on after the event with this id; an empty id
    /// is none.
    pub fn new(limit: usize, id: Vec<u8>) -> Self {
        Self {
            limit,
            line: Vec::new(),
            line_over: false,
            mark: Some(0),
            after_cr: false,
            data: Vec::new(),
            any_data: false,
            data_over: false,
            next_id: id.clone(),
            id,
        }
    }

    /// The id of the last event that was given, to go on after it; empty where it had none.
    pub fn last_id(&self) -> &[u8] {
        &self.id
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len() + self.next_id.len() + self.id.len()
    }

    /// Reads bytes as they arrived, and gives what they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut give: impl FnMut(Item<'_>)) {
        while let (Some(seen), Some((&byte, rest))) = (self.mark, bytes.split_first()) {
            if byte == MARK[seen] {
                bytes = rest;
                self.mark = (seen + 1 < MARK.len()).then_some(seen + 1);
            } else {
                // It only looked like one.
                self.mark = None;
                self.extend(&MARK[..seen]);
            }
        }
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) {
            self.extend(&bytes[..end]);
            self.end_line(&mut give);
            let (cr, rest) = (bytes[end] == b'\r', &bytes[end + 1..]);
            self.after_cr = cr && rest.is_empty();
            bytes = if cr { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
        }
        self.extend(bytes);
    }

    /// Adds to the line as much as may matter of it.
    fn extend(&mut self, bytes: &[u8]) {
        let room = (self.limit.max(ID_BYTES) + NAME).saturating_sub(self.line.len());
        self.line_over |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, give: &mut impl FnMut(Item<'_>)) {
        let line = std::mem::take(&mut self.line);
        let over = std::mem::take(&mut self.line_over);
        if line.is_empty() {
            self.dispatch(give);
        } else {
            let (name, value) = match memchr::memchr(b':', &line) {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (&line[..], &[][..]),
            };
            self.field(name, value.strip_prefix(b" ").unwrap_or(value), over, give);
        }
        // The room is used again.
        self.line = line;
        self.line.clear();
    }

    fn field(&mut self, name: &[u8], value: &[u8], over: bool, give: &mut impl FnMut(Item<'_>)) {
        match name {
            b"data" => self.add_data(value, over),
            b"id" if !over && value.len() <= ID_BYTES && !value.contains(&0) => {
                self.next_id.clear();
                self.next_id.extend_from_slice(value);
            }
            b"retry" if !over && !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                give(Item::Retry(value.iter().fold(0, add)));
            }
            // A comment, the name of an event, or what the standard does not know.
            _ => {}
        }
    }

    fn add_data(&mut self, value: &[u8], over: bool) {
        let first = !std::mem::replace(&mut self.any_data, true);
        let break_before = usize::from(!first);
        let room = self.limit.saturating_sub(self.data.len());
        if !first && room > 0 {
            self.data.push(b'\n');
        }
        let left = room.saturating_sub(break_before);
        self.data_over |= over || break_before + value.len() > room;
        self.data.extend_from_slice(&value[..value.len().min(left)]);
    }

    fn dispatch(&mut self, give: &mut impl FnMut(Item<'_>)) {
        self.id.clone_from(&self.next_id);
        if std::mem::take(&mut self.any_data) {
            give(Item::Event(&self.data, self.data_over));
        }
        self.data.clear();
        self.data_over = false;
    }
}
