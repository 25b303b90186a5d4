//! Repetition and definition levels in Parquet's hybrid of runs and packed bits, 1 or 2 bits wide.

use std::iter::Peekable;

/// Levels to be written: runs of the same level.
#[derive(Default)]
pub(super) struct Levels {
    runs: Vec<(u8, usize)>,
}

impl Levels {
    /// Appends `count` times `level`.
    pub fn push(&mut self, level: u8, count: usize) {
        match self.runs.last_mut() {
            _ if count == 0 => {}
            Some((last, length)) if *last == level => *length += count,
            _ => self.runs.push((level, count)),
        }
    }

    /// Forgets all levels and keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Appends the levels to a data page: their length in bytes as 32 bits, then all as runs.
    pub fn write_runs(&self, page: &mut Vec<u8>) {
        let start = begin(page);
        for (level, count) in &self.runs {
            varint(page, (*count as u64) << 1);
            page.push(*level);
        }
        end(page, start);
    }

    /// Appends the levels to a data page as packed bits, one a level: smaller where runs are short.
    pub fn write_bits(&self, page: &mut Vec<u8>) {
        let count: usize = self.runs.iter().map(|(_, count)| count).sum();
        let start = begin(page);
        varint(page, (count.div_ceil(8) as u64) << 1 | 1);
        let (mut byte, mut bit) = (0u8, 0);
        for (level, count) in &self.runs {
            for _ in 0..*count {
                byte |= level << bit;
                bit += 1;
                if bit == 8 {
                    page.push(byte);
                    (byte, bit) = (0, 0);
                }
            }
        }
        if bit > 0 {
            page.push(byte);
        }
        end(page, start);
    }
}

fn begin(page: &mut Vec<u8>) -> usize {
    page.extend_from_slice(&[0; 4]);
    page.len()
}

fn end(page: &mut [u8], start: usize) {
    // Levels of a page of about a mebibyte are far below 4 GiB.
    let length = (page.len() - start) as u32;
    page[start - 4..start].copy_from_slice(&length.to_le_bytes());
}

/// Appends a number in groups of seven bits, the lowest first.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number in groups of seven bits off the front; `None` if it has no end or more than 32
/// bits.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value: u64 = 0;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}

/// Takes one kind of levels, with their length before them, off the front of a data page's bytes.
pub(super) fn take_levels<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (levels, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(levels)
}

/// Runs of equal levels in encoded bytes, `bits` wide: level and count, never 0. Ends at the end of
/// the bytes, or where they make no sense.
pub(super) struct Runs<'a> {
    bytes: &'a [u8],
    bits: u8,
    packed: &'a [u8],
    bit: u8,
}

impl<'a> Runs<'a> {
    pub fn new(bytes: &'a [u8], bits: u8) -> Self {
        Runs { bytes, bits, packed: &[], bit: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = (u8, usize);

    fn next(&mut self) -> Option<(u8, usize)> {
        while self.packed.is_empty() {
            let header = take_varint(&mut self.bytes)?;
            let count = (header >> 1) as usize;
            if header & 1 == 0 {
                let (level, rest) = self.bytes.split_first()?;
                self.bytes = rest;
                if count > 0 {
                    return Some((*level, count));
                }
            } else {
                let length = count.checked_mul(usize::from(self.bits))?;
                (self.packed, self.bytes) = self.bytes.split_at_checked(length)?;
            }
        }
        // A whole byte of ones at once: what packed levels of long lists mostly are.
        if self.bits == 1 && self.bit == 0 {
            let whole = self.packed.iter().take_while(|byte| **byte == 0xff).count();
            if whole > 0 {
                self.packed = &self.packed[whole..];
                return Some((1, whole * 8));
            }
        }
        let level = self.packed[0] >> self.bit & ((1 << self.bits) - 1);
        self.bit += self.bits;
        if self.bit == 8 {
            (self.packed, self.bit) = (&self.packed[1..], 0);
        }
        Some((level, 1))
    }
}

/// Both levels of a data page side by side: repetition, definition, count. Ends after `values`
/// levels; `None` in place of a run if there are fewer.
pub(super) struct BothLevels<'a> {
    repetition: Peekable<Runs<'a>>,
    definition: Peekable<Runs<'a>>,
    left: usize,
}

impl<'a> BothLevels<'a> {
    pub fn new(repetition: Runs<'a>, definition: Runs<'a>, values: usize) -> Self {
        BothLevels { repetition: repetition.peekable(), definition: definition.peekable(), left: values }
    }
}

impl Iterator for BothLevels<'_> {
    type Item = Option<(u8, u8, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let both = self.repetition.peek_mut().zip(self.definition.peek_mut());
        let Some((repetition, definition)) = both else {
            self.left = 0;
            return Some(None);
        };
        let count = repetition.1.min(definition.1).min(self.left);
        let levels = (repetition.0, definition.0, count);
        self.left -= count;
        repetition.1 -= count;
        definition.1 -= count;
        if repetition.1 == 0 {
            self.repetition.next();
        }
        if definition.1 == 0 {
            self.definition.next();
        }
        Some(Some(levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn levels_come_back(runs in proptest::collection::vec((0u8..=1, 1usize..300), 0..40)) {
            let mut levels = Levels::default();
            let mut all = Vec::new();
            for (level, count) in &runs {
                levels.push(*level, *count);
                all.extend(std::iter::repeat_n(*level, *count));
            }
            let (mut as_runs, mut as_bits) = (Vec::new(), Vec::new());
            levels.write_runs(&mut as_runs);
            levels.write_bits(&mut as_bits);
            for page in [as_runs, as_bits] {
                let mut rest = page.as_slice();
                let taken = take_levels(&mut rest).unwrap();
                prop_assert!(rest.is_empty());
                let mut back: Vec<u8> =
                    Runs::new(taken, 1).flat_map(|(level, count)| std::iter::repeat_n(level, count)).collect();
                prop_assert!(back.len() - all.len() < 8);
                back.truncate(all.len());
                prop_assert_eq!(&back, &all);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_on_forever(bytes: Vec<u8>, bits in 1u8..=2) {
            let runs = Runs::new(&bytes, bits).count();
            prop_assert!(runs <= bytes.len() * 8);
        }
    }

    #[test]
    fn both_levels_end_with_the_values_or_say_that_they_do_not() {
        let mut levels = Levels::default();
        levels.push(1, 5);
        let mut page = Vec::new();
        levels.write_runs(&mut page);
        let both = |values| BothLevels::new(Runs::new(&page[4..], 1), Runs::new(&page[4..], 2), values);
        assert_eq!(both(5).collect::<Vec<_>>(), [Some((1, 1, 5))]);
        assert_eq!(both(3).collect::<Vec<_>>(), [Some((1, 1, 3))]);
        assert_eq!(both(6).collect::<Vec<_>>(), [Some((1, 1, 5)), None]);
    }
}
