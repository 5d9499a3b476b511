//! One file, read from a position on: in large pieces, cut into lines in place.
//!
//! ```text
//!   file    ────────────────────┬──────┬───────────────────────┬──────────────┐
//!                               │ back │ whole lines           │ half a line  │ end
//!   one read:                   └──────┴───────────────────────┴──────────────┘
//!                                      ▲ position              ▲ position afterwards
//! ```
//!
//! Nothing is held of a file between two reads but the position, its fingerprint, and the beginning of half a line: half a
//! line is read again when there is more of it. Each read begins a few bytes before the position, to see whether these are
//! still what they were, and the first bytes are looked at again after it: so a file that is emptied and written anew
//! between two reads, or during one, is never taken for the old one.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::feed::Feed;
use super::print::{FileId, Print, STEP, back_len, written};
use crate::record::{Line, LineLimit, Origin, Time};
use crate::stream::segment::fill_at;

/// How much is read at once, beside what is before the position.
const PIECE: usize = 256 * 1024;
/// How much of half a line is held, for a file that is emptied before the line has its end.
const HELD: usize = 1024;

/// Room to read into, shared by all files of a source.
pub(super) struct Scratch {
    bytes: Vec<u8>,
    limit: LineLimit,
}

impl Scratch {
    pub fn new(limit: LineLimit) -> Self {
        // A line up to the limit must fit as a whole, with its end.
        let room = PIECE.max(limit.0 + 2) + super::print::BACK as usize;
        Self { bytes: vec![0; room], limit }
    }
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more.
    More,
    /// That was all, but for half a line perhaps.
    End,
    /// It is not the file any more that was read: it was emptied, and perhaps written anew.
    Rewritten,
}

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Position {
    /// All before this was published.
    pub pos: u64,
    pub print: Print,
    /// In the rest of a line that was over the limit and was told already.
    pub skipping: bool,
}

/// Half a line at the end of a file.
#[derive(Debug)]
pub(super) struct Half {
    len: usize,
    /// Its beginning.
    held: Box<[u8]>,
    /// Since when it has not grown.
    pub since: Instant,
}

/// A file that was opened, and what it is.
pub(super) type Opened = (File, Metadata);

/// One file that is read.
#[derive(Debug)]
pub(super) struct Tail {
    pub id: FileId,
    /// What it is called, or was last.
    pub path: Arc<Path>,
    /// Whose lines they are.
    pub origin: Arc<Origin>,
    /// Whether it still has that name.
    pub named: bool,
    pub file: Option<File>,
    pub at: Position,
    pub half: Option<Half>,
    /// Length and time of writing when it was last looked at.
    pub known: (u64, i64),
    /// That time was long enough ago for whatever is written later to have another.
    settled: bool,
    /// How it takes its turn among the others.
    pub turn: Turn,
}

/// How a file takes its turn among the others.
#[derive(Debug)]
pub(super) struct Turn {
    /// It stands in the queue of what is read.
    pub queued: bool,
    /// It was read to its end since it lost its name, or was given another.
    pub drained: bool,
    /// It is not begun before this one was read to its end: they are one log.
    pub after: Option<FileId>,
    /// What begins after it.
    pub next: Vec<FileId>,
    /// Whose lines they are once it was read to its end.
    pub next_origin: Option<Arc<Origin>>,
    /// Its name is that of a rotated file, and nothing was read of it: it may be a copy.
    pub may_be_copy: bool,
    /// It holds what this one holds, and is not read while that is read.
    pub copy_of: Option<FileId>,
    /// When there was last something to read.
    pub used: Instant,
    /// Its place among the open files.
    pub place: u64,
    /// What was told to be wrong with it.
    pub refused: Option<&'static str>,
    /// That half a line was given out was told.
    pub told_half: bool,
}

impl Turn {
    fn new(now: Instant) -> Self {
        Self {
            queued: false,
            drained: false,
            after: None,
            next: Vec::new(),
            next_origin: None,
            may_be_copy: false,
            copy_of: None,
            used: now,
            place: 0,
            refused: None,
            told_half: false,
        }
    }
}

impl Tail {
    pub fn new(path: &Arc<Path>, origin: Arc<Origin>, opened: Opened, at: Position, now: Instant) -> Self {
        let (file, about) = opened;
        Self {
            id: FileId::of(&about),
            path: Arc::clone(path),
            origin,
            named: true,
            file: Some(file),
            at,
            half: None,
            known: (about.len(), written(&about)),
            settled: false,
            turn: Turn::new(now),
        }
    }

    /// Reads the next piece and publishes its lines. A file that is not open has no more.
    pub fn step(&mut self, scratch: &mut Scratch, feed: &Feed, now: Instant) -> io::Result<Step> {
        let Some(file) = &self.file else { return Ok(Step::End) };
        let (pos, back) = (self.at.pos, back_len(self.at.pos));
        let read = fill_at(file, &mut scratch.bytes, pos - back as u64)?;
        let window = &scratch.bytes[..read];
        if read < back || !self.at.print.has_back(&window[..back]) {
            return Ok(Step::Rewritten);
        }
        if read > back && !self.at.print.has_head(file, pos)? {
            return Ok(Step::Rewritten);
        }
        let cut = Cut::of(&window[back..], scratch.limit, self.at.skipping);
        if cut.used > 0 {
            self.at.print.advance(pos, &window[..back + cut.used]);
            self.at.pos += cut.used as u64;
            self.at.skipping = cut.skipping;
            // What follows is half of another line, of the same length perhaps.
            self.half = None;
        }
        let rest = &window[back + cut.used..];
        self.note_half(rest, now);
        let whole = read == scratch.bytes.len();
        if let Some((data, lines)) = cut.lines {
            feed.publish(&self.origin, data, lines);
        }
        Ok(if whole { Step::More } else { Step::End })
    }

    fn note_half(&mut self, rest: &[u8], now: Instant) {
        let len = rest.len();
        if len == 0 {
            self.half = None;
        } else if self.half.as_ref().is_none_or(|half| half.len != len) {
            self.half = Some(Half { len, held: rest[..len.min(HELD)].into(), since: now });
        }
    }

    /// Publishes half a line as one, because nothing more is expected; what may still come is another line. Whether
    /// there was one.
    pub fn give_half(&mut self, scratch: &mut Scratch, feed: &Feed) -> io::Result<bool> {
        let (Some(file), Some(half)) = (&self.file, self.half.take()) else { return Ok(false) };
        let (pos, back) = (self.at.pos, back_len(self.at.pos));
        let room = &mut scratch.bytes[..back + half.len];
        let read = fill_at(file, room, pos - back as u64)?;
        let same = read == room.len()
            && self.at.print.has_back(&room[..back])
            && self.at.print.has_head(file, pos)?
            && !room[back..].contains(&b'\n');
        if !same {
            // There is more of it, or it is gone: the next read shows which.
            self.half = Some(half);
            return Ok(false);
        }
        let text = &room[back..];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.at.print.advance(pos, room);
        self.at.pos += half.len as u64;
        let line = Line::new(0..text.len(), Time::now(), false);
        feed.publish(&self.origin, Bytes::copy_from_slice(text), vec![line]);
        Ok(true)
    }

    /// Publishes what is held of half a line whose file was emptied. It is marked: its end is lost.
    pub fn rescue_half(&mut self, feed: &Feed) {
        let Some(half) = self.half.take().filter(|_| !self.at.skipping) else { return };
        let line = Line::new(0..half.held.len(), Time::now(), true);
        feed.publish(&self.origin, Bytes::from(half.held), vec![line]);
    }

    /// Looks whether there may be news since it was last looked at.
    pub fn has_news(&mut self, about: &Metadata) -> bool {
        let now = (about.len(), written(about));
        let news = std::mem::replace(&mut self.known, now) != now || !self.settled;
        self.settled = now.1.saturating_add(STEP) < Time::now().0;
        news
    }
}

/// The lines of a piece.
struct Cut {
    /// How much of the piece is done with.
    used: usize,
    lines: Option<(Bytes, Vec<Line>)>,
    skipping: bool,
}

impl Cut {
    fn of(piece: &[u8], limit: LineLimit, skipping: bool) -> Self {
        let start = match (skipping, memchr::memchr(b'\n', piece)) {
            (false, _) => 0,
            (true, Some(end)) => end + 1,
            (true, None) => return Self { used: piece.len(), lines: None, skipping: true },
        };
        let end = memchr::memrchr(b'\n', &piece[start..]).map_or(start, |end| start + end + 1);
        let rest = piece.len() - end;
        // One byte more than the limit may still be the `\r` of a line end.
        let over = rest > limit.0 + 1;
        let kept = &piece[start..if over { end + limit.0 } else { end }];
        let used = if over { piece.len() } else { end };
        if kept.is_empty() {
            return Self { used, lines: None, skipping: over };
        }
        let now = Time::now();
        let mut lines = Vec::with_capacity(memchr::memchr_iter(b'\n', kept).count() + usize::from(over));
        let mut from = 0;
        for to in memchr::memchr_iter(b'\n', kept) {
            let stop = if to > from && kept[to - 1] == b'\r' { to - 1 } else { to };
            let most = stop.min(from + limit.0);
            lines.push(Line::new(from..most, now, most < stop));
            from = to + 1;
        }
        if over {
            lines.push(Line::new(from..kept.len(), now, true));
        }
        Self { used, lines: Some((Bytes::copy_from_slice(kept), lines)), skipping: over }
    }
}

/// Where to begin in a file of which only what is written from now on is wanted: at the line that has no end yet. In a
/// line that is over the limit already, behind it.
pub(super) fn end_of(file: &File, length: u64, scratch: &mut Scratch) -> io::Result<Position> {
    let room = scratch.limit.0.min(usize::try_from(length).unwrap_or(usize::MAX));
    let from = length - room as u64;
    let read = fill_at(file, &mut scratch.bytes[..room], from)?;
    let read = &scratch.bytes[..read];
    let (pos, skipping) = match memchr::memrchr(b'\n', read) {
        Some(end) => (from + end as u64 + 1, false),
        None if from == 0 => (0, false),
        None => (from + read.len() as u64, true),
    };
    let print = Print::of(file, pos)?;
    // A file that has become shorter meanwhile is begun with.
    Ok(print.map_or_else(Position::default, |print| Position { pos, print, skipping }))
}
