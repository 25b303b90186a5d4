//! How a column of scalars is stored: decided for each row group, by a sample of its first rows.
//!
//! A dictionary pays where values repeat, and compression where bytes do; on others both cost more
//! time than everything else in an export, for nothing.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{Buffer, OffsetBuffer};
use std::collections::HashSet;

/// How the pages of a column are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage {
    /// Begin with a dictionary.
    pub dictionary: bool,
    /// Compress pages.
    pub compressed: bool,
}

impl Storage {
    /// What is written where too little is known.
    pub const DEFAULT: Storage = Storage { dictionary: true, compressed: true };

    /// Every way, the default first.
    pub const ALL: [Storage; 3] = [
        Storage::DEFAULT,
        Storage { dictionary: false, compressed: true },
        Storage { dictionary: false, compressed: false },
    ];

    /// What suits a column that begins with `array`.
    pub fn of(array: &dyn Array) -> Self {
        let Some(values) = Values::of(array) else { return Storage::DEFAULT };
        let step = (array.len() / SAMPLE).max(1);
        let rows = (0..array.len()).step_by(step).filter(|row| array.is_valid(*row));
        let sample: Vec<&[u8]> = rows.map(|row| values.value(row)).collect();
        if sample.len() < FEWEST {
            return Storage::DEFAULT;
        }
        let distinct = sample.iter().collect::<HashSet<_>>().len();
        if distinct * 4 <= sample.len() * 3 {
            return Storage::DEFAULT;
        }
        let first = values.first(SAMPLE_BYTES);
        // Without memory to compress into, the default does no harm.
        let smaller = zstd::bulk::compress(first, 1).map_or(0, |compressed| compressed.len());
        Storage { dictionary: false, compressed: smaller * 10 <= first.len() * 9 }
    }
}

/// Values of a sample below which nothing is concluded from it.
const FEWEST: usize = 256;

/// Values of a sample, from all over the first rows.
const SAMPLE: usize = 2_048;

/// Bytes that are compressed to see whether it pays, from the first rows on.
const SAMPLE_BYTES: usize = 64 << 10;

/// The values of an array as bytes.
struct Values {
    bytes: Buffer,
    ends: Ends,
}

enum Ends {
    Every(usize),
    At(OffsetBuffer<i32>),
}

impl Values {
    /// `None` for types that are not looked at.
    fn of(array: &dyn Array) -> Option<Self> {
        if let Some(text) = array.as_string_opt::<i32>() {
            return Some(Values { bytes: text.values().clone(), ends: Ends::At(text.offsets().clone()) });
        }
        let width = array.data_type().primitive_width()?;
        let data = array.to_data();
        let bytes = data.buffers().first()?.slice_with_length(data.offset() * width, array.len() * width);
        Some(Values { bytes, ends: Ends::Every(width) })
    }

    fn value(&self, row: usize) -> &[u8] {
        match &self.ends {
            Ends::Every(width) => &self.bytes[row * width..(row + 1) * width],
            Ends::At(ends) => &self.bytes[ends[row] as usize..ends[row + 1] as usize],
        }
    }

    /// At most `most` bytes from the first value on.
    fn first(&self, most: usize) -> &[u8] {
        let (start, end) = match &self.ends {
            Ends::Every(_) => (0, self.bytes.len()),
            Ends::At(ends) => (ends.first() as usize, ends.last() as usize),
        };
        &self.bytes[start..end.min(start + most)]
    }
}

/// The arrays of the leaves that a column is stored as, in order.
pub(super) fn leaves(array: &ArrayRef) -> Vec<ArrayRef> {
    if let Some(list) = array.as_list_opt::<i32>() {
        let ends = list.value_offsets();
        let (first, last) = (ends[0] as usize, ends[list.len()] as usize);
        return leaves(&list.values().slice(first, last - first));
    }
    match array.as_struct_opt() {
        Some(structs) => structs.columns().iter().flat_map(leaves).collect(),
        None => vec![array.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BooleanArray, Int32Array, Int64Array, StringArray};

    fn noise(n: i64) -> i64 {
        let x = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)) as i64
    }

    #[test]
    fn what_repeats_gets_a_dictionary_and_what_does_not_compress_is_left() {
        let plain = |compressed| Storage { dictionary: false, compressed };
        let ints = |value: fn(i64) -> i64| Int64Array::from_iter_values((0..9_000).map(value));
        assert_eq!(Storage::of(&ints(|n| n % 100)), Storage::DEFAULT);
        assert_eq!(Storage::of(&ints(|n| n)), plain(true));
        assert_eq!(Storage::of(&ints(noise)), plain(false));
        assert_eq!(Storage::of(&ints(noise).slice(5_000, 4_000)), plain(false));
        assert_eq!(Storage::of(&ints(noise).slice(5_000, 200)), Storage::DEFAULT, "too few to tell");
        let few_valid = Int32Array::from_iter((0..9_000).map(|n| (n % 100 == 0).then_some(n)));
        assert_eq!(Storage::of(&few_valid), Storage::DEFAULT);
        let texts = |text: fn(i64) -> String| StringArray::from_iter_values((0..9_000).map(text));
        assert_eq!(Storage::of(&texts(|n| format!("{{\"document\": {n}}}"))), plain(true));
        assert_eq!(Storage::of(&texts(|n| format!("tag {}", n % 30)).slice(10, 8_000)), Storage::DEFAULT);
        assert_eq!(Storage::of(&BooleanArray::from(vec![true; 9_000])), Storage::DEFAULT);
    }
}
