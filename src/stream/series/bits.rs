//! Bits in a row, most significant first.

/// Appends bits to bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// The bits that do not fill a byte yet, in the lowest places.
    rest: u64,
    /// How many there are; fewer than 8.
    waiting: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits of `bits`; at most 64.
    pub(super) fn push(&mut self, bits: u64, count: u32) {
        if count > 32 {
            self.push_few(bits >> 32, count - 32);
            self.push_few(bits, 32);
        } else {
            self.push_few(bits, count);
        }
    }

    fn push_few(&mut self, bits: u64, count: u32) {
        self.rest = (self.rest << count) | (bits & ((1 << count) - 1));
        self.waiting += count;
        while self.waiting >= 8 {
            self.waiting -= 8;
            self.bytes.push((self.rest >> self.waiting) as u8);
        }
    }

    /// What was written so far, the last byte filled up with zeros.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 1);
        bytes.extend_from_slice(&self.bytes);
        if self.waiting > 0 {
            bytes.push((self.rest << (8 - self.waiting)) as u8);
        }
        bytes
    }

    /// How many bytes it holds room for.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Takes bits from bytes. Gives `None` past their end, whatever they are.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The number of the next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bit.
    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `count` bits, at most 64, in the lowest places.
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        if self.at + count as usize > self.bytes.len() * 8 {
            return None;
        }
        let (mut bits, mut left) = (0u64, count);
        while left > 0 {
            let within = (self.at % 8) as u32;
            let here = left.min(8 - within);
            let byte = u64::from(self.bytes[self.at / 8]);
            let part = byte >> (8 - within - here) & ((1 << here) - 1);
            bits = (bits << here) | part;
            self.at += here as usize;
            left -= here;
        }
        Some(bits)
    }
}
