//! Reading: any number of readers, each by places of its own, while one writes.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::disk::Disk;
use super::format::{self, Stored};
use crate::stream::frame;

/// So many bytes lie at most between two entries of the index, and are read over to find a record.
const INDEX_EVERY: u64 = 64 * 1024;

/// What is known of a segment without reading it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The place of its first unit.
    pub(super) base: u64,
    /// How many units its good records cover.
    pub(super) units: u64,
    /// How many bytes of the file are good.
    pub(super) bytes: u64,
    /// The times of its first and newest record, in milliseconds.
    pub(super) times: Option<(i64, i64)>,
    /// Where some of its records begin: place and offset, in order. The first record is among them.
    index: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn new(base: u64) -> Self {
        Self { base, units: 0, bytes: format::HEAD_BYTES, times: None, index: Vec::new() }
    }

    /// The place behind its last unit.
    pub(super) fn end(&self) -> u64 {
        self.base + self.units
    }

    /// A record was found or written at its end.
    pub(super) fn add(&mut self, units: u32, time: i64, bytes: u64) {
        let far = |(_, offset): &(u64, u64)| self.bytes - offset >= INDEX_EVERY;
        if self.index.last().is_none_or(far) {
            self.index.push((self.end(), self.bytes));
        }
        let (first, newest) = self.times.unwrap_or((time, time));
        self.times = Some((first, newest.max(time)));
        self.units += u64::from(units);
        self.bytes += bytes;
    }

    /// The last indexed record that begins at or before a place.
    fn before(&self, place: u64) -> (u64, u64) {
        let after = self.index.partition_point(|(at, _)| *at <= place);
        after.checked_sub(1).and_then(|at| self.index.get(at)).copied().unwrap_or((self.base, format::HEAD_BYTES))
    }
}

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) segments: RwLock<VecDeque<Segment>>,
}

impl Shared {
    pub(super) fn path(&self, base: u64) -> PathBuf {
        self.folder.join(format!("{base:020}.seg"))
    }
}

/// What there is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record.
    Record {
        /// The place of its first unit, which may lie before the one that was asked for.
        place: u64,
        /// How many units it covers.
        units: u32,
        /// When it was written, in milliseconds since the epoch.
        time: i64,
        /// What is in it.
        data: Bytes,
    },
    /// Nothing any longer: given up, or lost. Goes on at `next`.
    Gap {
        /// The next place of which there is something, or the log's end.
        next: u64,
    },
    /// Nothing yet.
    End,
}

/// Reads a log. Clones read the same one, which outlives its writer.
#[derive(Clone, Debug)]
pub struct SegmentView(pub(super) Arc<Shared>);

impl SegmentView {
    /// The oldest place that is kept, and the place of what is written next.
    pub fn bounds(&self) -> (u64, u64) {
        let segments = self.0.segments.read();
        let end = segments.back().map_or(0, Segment::end);
        (segments.front().map_or(end, |segment| segment.base), end)
    }

    /// Where each segment begins and ends, oldest first.
    pub fn segments(&self) -> Vec<(u64, u64)> {
        self.0.segments.read().iter().map(|segment| (segment.base, segment.end())).collect()
    }

    /// The first place before which no record has this time or a later one, as exactly as whole segments tell.
    pub fn since(&self, millis: i64) -> u64 {
        let segments = self.0.segments.read();
        let young = |segment: &&Segment| segment.times.is_none_or(|(_, newest)| newest >= millis);
        let end = segments.back().map_or(0, Segment::end);
        segments.iter().find(young).map_or(end, |segment| segment.base)
    }

    /// Reads records from the one at `place` on, in order, up to about `most` bytes; at least one thing.
    ///
    /// # Errors
    /// What the disk says. A record that is damaged is a gap up to the end of its segment.
    pub fn read(&self, place: u64, most: usize) -> io::Result<Vec<Found>> {
        let segment = {
            let segments = self.0.segments.read();
            match segments.iter().find(|segment| segment.end() > place) {
                None => return Ok(vec![Found::End]),
                Some(next) if next.base > place => return Ok(vec![Found::Gap { next: next.base }]),
                Some(segment) => segment.clone(),
            }
        };
        match self.read_of(&segment, place, most) {
            Ok(found) if found.is_empty() => Ok(vec![Found::Gap { next: segment.end() }]),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![Found::Gap { next: segment.end() }]),
            other => other,
        }
    }

    fn read_of(&self, segment: &Segment, place: u64, most: usize) -> io::Result<Vec<Found>> {
        let (mut at, mut offset) = segment.before(place);
        let path = self.0.path(segment.base);
        let mut size = most.clamp(INDEX_EVERY as usize, 4 * format::LONGEST_DATA);
        let (mut found, mut taken) = (Vec::new(), 0);
        loop {
            let left = usize::try_from(segment.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut buffer = vec![0; left.min(size)];
            let read = self.0.disk.read_at(&path, offset, &mut buffer)?;
            buffer.truncate(read);
            let whole = Bytes::from(buffer);
            let mut rest: &[u8] = &whole;
            while let Some(Stored::Record { units, time, data }) = format::read(&mut rest) {
                if at + u64::from(units) > place {
                    taken += data.len();
                    found.push(Found::Record { place: at, units, time, data: whole.slice_ref(data) });
                }
                at += u64::from(units);
                if taken >= most {
                    return Ok(found);
                }
            }
            offset += (read - rest.len()) as u64;
            if !found.is_empty() || offset >= segment.bytes {
                return Ok(found);
            }
            // A record that is longer than the buffer, or one that is damaged.
            match frame::length(rest) {
                Some(length) if length > size && length <= format::LONGEST + frame::FRAME => size = length,
                _ if rest.len() < read => {}
                _ => return Ok(found),
            }
        }
    }
}
