//! Rows of a time and some numbers, compressed: a few bytes for a row of one number.
//!
//! Times are written as the change of their distance (one bit where the distance stays), numbers as what differs from
//! the number before (one bit where nothing does), after T. Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time
//! Series Database", VLDB 2015, section 4.1. Times are milliseconds, so the widths for them are other than there.

use std::sync::Arc;

use super::bits::{BitReader, BitWriter};

/// A time in milliseconds since the Unix epoch, and `K` numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row<const K: usize> {
    pub(super) time: i64,
    pub(super) values: [f64; K],
}

/// Rows that are complete: they never change, and are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk<const K: usize> {
    /// The time of the first row.
    pub(super) start: i64,
    /// The time of the last row.
    pub(super) end: i64,
    /// How many rows there are.
    pub(super) count: u32,
    pub(super) bytes: Arc<[u8]>,
}

/// The widths for the change of a distance in milliseconds: how many ones come before, and how many bits after them.
const WIDTHS: [u32; 4] = [7, 14, 22, 64];

/// What an `Arc<[u8]>` holds beside the bytes.
const ARC_HEAD: usize = 2 * size_of::<usize>();

impl<const K: usize> Chunk<K> {
    /// What it costs to hold, in bytes.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>() + ARC_HEAD + self.bytes.len()
    }

    /// A chunk of bytes that come from outside, such as a disk: `None` where they do not hold `count` rows in the order
    /// of their times.
    pub(super) fn verified(count: u32, bytes: &[u8]) -> Option<Self> {
        // The first row is written whole, each further one has at least a bit for its time and one for each number.
        if count == 0 || count as usize > bytes.len() * 8 {
            return None;
        }
        let mut chunk = Self { start: 0, end: 0, count, bytes: bytes.into() };
        let (mut found, mut start, mut end) = (0, None, i64::MIN);
        for row in chunk.rows() {
            if start.is_some() && row.time <= end {
                return None;
            }
            start.get_or_insert(row.time);
            (end, found) = (row.time, found + 1);
        }
        (chunk.start, chunk.end) = (start?, end);
        (found == count).then_some(chunk)
    }

    /// The rows, oldest first. Ends early where the bytes are not those of an encoder.
    pub(super) fn rows(&self) -> Rows<'_, K> {
        Rows { bits: BitReader::new(&self.bytes), left: self.count, state: None }
    }
}

/// What the next row is written against.
#[derive(Clone, Copy, Debug)]
struct State<const K: usize> {
    time: i64,
    distance: i64,
    columns: [Column; K],
}

/// The number before, and where its differing bits stood.
#[derive(Clone, Copy, Debug)]
struct Column {
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl Column {
    /// No window yet: the next difference brings its own.
    const NO_WINDOW: u32 = u32::MAX;

    fn first(bits: u64) -> Self {
        Self { bits, leading: Self::NO_WINDOW, trailing: 0 }
    }
}

/// A chunk that is being written.
#[derive(Clone, Debug)]
pub(super) struct Encoder<const K: usize> {
    bits: BitWriter,
    start: i64,
    count: u32,
    state: State<K>,
}

impl<const K: usize> Encoder<K> {
    /// A chunk whose first row is this.
    pub(super) fn new(row: &Row<K>) -> Self {
        let mut bits = BitWriter::default();
        bits.push(row.time as u64, 64);
        row.values.iter().for_each(|value| bits.push(value.to_bits(), 64));
        let columns = row.values.map(|value| Column::first(value.to_bits()));
        Self { bits, start: row.time, count: 1, state: State { time: row.time, distance: 0, columns } }
    }

    /// Appends a row, which must be newer than the one before.
    pub(super) fn push(&mut self, row: &Row<K>) {
        let distance = row.time.wrapping_sub(self.state.time);
        write_change(&mut self.bits, distance.wrapping_sub(self.state.distance));
        (self.state.time, self.state.distance) = (row.time, distance);
        for (column, value) in self.state.columns.iter_mut().zip(&row.values) {
            write_number(&mut self.bits, column, value.to_bits());
        }
        self.count += 1;
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// What was written so far, as a chunk.
    pub(super) fn to_chunk(&self) -> Chunk<K> {
        let bytes = self.bits.to_bytes().into();
        Chunk { start: self.start, end: self.state.time, count: self.count, bytes }
    }

    /// What it costs to hold beside itself, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bits.capacity()
    }
}

fn write_change(bits: &mut BitWriter, change: i64) {
    if change == 0 {
        return bits.push(0, 1);
    }
    for (ones, &width) in (1..).zip(&WIDTHS) {
        if width == 64 {
            bits.push(0b1111, 4);
            return bits.push(change as u64, 64);
        }
        let half = 1i64 << (width - 1);
        if (-half..half).contains(&change) {
            // So many ones, then a zero.
            bits.push((1 << (ones + 1)) - 2, ones + 1);
            return bits.push(change as u64, width);
        }
    }
}

fn read_change(bits: &mut BitReader<'_>) -> Option<i64> {
    let mut ones = 0;
    while ones < WIDTHS.len() && bits.bit()? {
        ones += 1;
    }
    if ones == 0 {
        return Some(0);
    }
    let width = WIDTHS[ones - 1];
    let raw = bits.take(width)?;
    // The sign stands in the highest of the bits.
    Some((raw << (64 - width)) as i64 >> (64 - width))
}

fn write_number(bits: &mut BitWriter, column: &mut Column, value: u64) {
    let differs = value ^ column.bits;
    column.bits = value;
    if differs == 0 {
        return bits.push(0, 1);
    }
    let (leading, trailing) = (differs.leading_zeros().min(31), differs.trailing_zeros());
    let window = column.leading != Column::NO_WINDOW && leading >= column.leading && trailing >= column.trailing;
    if window {
        bits.push(0b10, 2);
    } else {
        (column.leading, column.trailing) = (leading, trailing);
        bits.push(0b11, 2);
        bits.push(u64::from(leading), 5);
        // 1 to 64 in six bits.
        bits.push(u64::from(64 - leading - trailing - 1), 6);
    }
    bits.push(differs >> column.trailing, 64 - column.leading - column.trailing);
}

fn read_number(bits: &mut BitReader<'_>, column: &mut Column) -> Option<f64> {
    if bits.bit()? {
        if bits.bit()? {
            let leading = bits.take(5)? as u32;
            let length = bits.take(6)? as u32 + 1;
            column.trailing = 64u32.checked_sub(leading + length)?;
            column.leading = leading;
        }
        let length = 64u32.checked_sub(column.leading)?.checked_sub(column.trailing)?;
        column.bits ^= bits.take(length)? << column.trailing;
    }
    Some(f64::from_bits(column.bits))
}

/// The rows of a chunk, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Rows<'a, const K: usize> {
    bits: BitReader<'a>,
    left: u32,
    state: Option<State<K>>,
}

impl<const K: usize> Rows<'_, K> {
    fn first(&mut self) -> Option<Row<K>> {
        let time = self.bits.take(64)? as i64;
        let mut values = [0.0; K];
        for value in &mut values {
            *value = f64::from_bits(self.bits.take(64)?);
        }
        let columns = values.map(|value| Column::first(value.to_bits()));
        self.state = Some(State { time, distance: 0, columns });
        Some(Row { time, values })
    }

    fn following(&mut self) -> Option<Row<K>> {
        let Some(state) = &mut self.state else { return self.first() };
        state.distance = state.distance.wrapping_add(read_change(&mut self.bits)?);
        state.time = state.time.wrapping_add(state.distance);
        let mut values = [0.0; K];
        for (value, column) in values.iter_mut().zip(&mut state.columns) {
            *value = read_number(&mut self.bits, column)?;
        }
        Some(Row { time: state.time, values })
    }
}

impl<const K: usize> Iterator for Rows<'_, K> {
    type Item = Row<K>;

    fn next(&mut self) -> Option<Row<K>> {
        self.left = self.left.checked_sub(1)?;
        let row = self.following();
        if row.is_none() {
            self.left = 0;
        }
        row
    }
}
