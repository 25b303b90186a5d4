//! Columns of dense vectors, read as a whole.
//!
//! Where a page's levels say that every vector has its length, and its values are stored as this
//! tool stores them, they are copied as one slice. Nothing is refused here: at the first thing that
//! is not so, the reader gives up, and the generic one takes over from that row and decides.

use super::levels::{BothLevels, Runs, take_levels, take_varint};
use super::vectors::{Layout, Values};
use arrow_array::{ArrayRef, Float32Array, Int8Array, ListArray, UInt8Array};
use arrow_buffer::{Buffer, MutableBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::FieldRef;
use bytes::{Buf, Bytes};
use parquet::basic::{CompressionCodec, Encoding};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

/// The vectors of one column, from the first row on.
pub(super) struct VectorReader {
    layout: Layout,
    element: FieldRef,
    dictionary: Option<Vec<u8>>,
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    leaf: usize,
    group: usize,
    pages: Option<SerializedPageReader<File>>,
    /// Rows of the open row group in pages that were not opened yet.
    group_rows: usize,
    /// Whether the open row group begins with the dictionary that stands for the bytes themselves.
    plain_indexes: bool,
    page: OpenPage,
}

/// What is left of a page.
#[derive(Debug, Default, PartialEq)]
struct OpenPage {
    /// Rows that are there, or null.
    rows: VecDeque<(bool, usize)>,
    values: Bytes,
}

impl VectorReader {
    /// A reader of the column that is leaf number `leaf` of the file; `None` if the file does not
    /// declare it in the way that this tool does.
    pub fn new(
        layout: Layout,
        element: FieldRef,
        file: Arc<File>,
        metadata: Arc<ParquetMetaData>,
        leaf: usize,
    ) -> Option<Self> {
        let descriptor = metadata.file_metadata().schema_descr().column(leaf);
        let levels = (descriptor.max_rep_level(), descriptor.max_def_level());
        let plain = |group: &parquet::file::metadata::RowGroupMetaData| {
            group.columns().get(leaf).is_some_and(|c| c.compression_codec() == CompressionCodec::UNCOMPRESSED)
        };
        let as_written =
            levels == (1, i16::from(layout.present())) && metadata.row_groups().iter().all(plain);
        as_written.then(|| VectorReader {
            layout,
            element,
            dictionary: layout.dictionary(),
            file,
            metadata,
            leaf,
            group: 0,
            pages: None,
            group_rows: 0,
            plain_indexes: false,
            page: OpenPage::default(),
        })
    }

    /// The next `rows` rows. `None` if they are not all there or not regular; then nothing more can be
    /// read.
    pub fn read(&mut self, rows: usize) -> Option<ArrayRef> {
        let Layout { length, .. } = self.layout;
        i32::try_from(rows.checked_mul(length)?).ok()?;
        let mut values = MutableBuffer::with_capacity(rows * self.layout.row_bytes());
        let mut valid = NullBufferBuilder::new(rows);
        let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let mut end = 0;
        let mut left = rows;
        while left > 0 {
            let Some((present, count)) = self.page.rows.front_mut() else {
                if !self.next_page()? {
                    return None;
                }
                continue;
            };
            let (present, taken) = (*present, left.min(*count));
            *count -= taken;
            if *count == 0 {
                self.page.rows.pop_front();
            }
            left -= taken;
            if present {
                let bytes = taken * self.layout.row_bytes();
                values.extend_from_slice(self.page.values.get(..bytes)?);
                self.page.values.advance(bytes);
                valid.append_n_non_nulls(taken);
                // The product of all rows fits, so this one does.
                offsets.extend((0..taken).map(|row| (end + (row + 1) * length) as i32));
                end += taken * length;
            } else {
                valid.append_n_nulls(taken);
                offsets.extend(std::iter::repeat_n(end as i32, taken));
            }
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let values = array_of(self.layout.values, values.into());
        let list = ListArray::try_new(self.element.clone(), offsets, values, valid.finish()).ok()?;
        Some(Arc::new(list))
    }

    /// Whether every row was read.
    pub fn at_end(&mut self) -> bool {
        while self.page.rows.is_empty() {
            match self.next_page() {
                Some(true) => {}
                end => return end == Some(false),
            }
        }
        false
    }

    /// Opens the next page of rows; `false` after the last one, `None` at something irregular.
    fn next_page(&mut self) -> Option<bool> {
        loop {
            let Some(pages) = &mut self.pages else {
                let Some(group) = self.metadata.row_groups().get(self.group) else { return Some(false) };
                self.group += 1;
                self.group_rows = usize::try_from(group.num_rows()).ok()?;
                self.plain_indexes = false;
                let chunk = group.columns().get(self.leaf)?;
                let pages = SerializedPageReader::new(self.file.clone(), chunk, self.group_rows, None);
                self.pages = Some(pages.ok()?);
                continue;
            };
            match pages.get_next_page().ok()? {
                None if self.group_rows == 0 => self.pages = None,
                None => return None,
                Some(Page::DictionaryPage { buf, encoding: Encoding::PLAIN, .. }) => {
                    self.plain_indexes = self.dictionary.as_deref() == Some(&buf);
                }
                Some(Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    def_level_encoding: Encoding::RLE,
                    rep_level_encoding: Encoding::RLE,
                    ..
                }) => {
                    let stored_plainly = match encoding {
                        Encoding::PLAIN => self.layout.values == Values::Floats,
                        Encoding::RLE_DICTIONARY => self.plain_indexes,
                        _ => false,
                    };
                    if !stored_plainly {
                        return None;
                    }
                    self.page = open_page(self.layout, buf, num_values as usize)?;
                    let rows =
                        self.page.rows.iter().try_fold(0usize, |sum, (_, rows)| sum.checked_add(*rows));
                    self.group_rows = self.group_rows.checked_sub(rows?)?;
                    return Some(true);
                }
                Some(_) => return None,
            }
        }
    }
}

/// Reads a data page's levels, which must say that every row is null or a whole vector, and finds
/// its values, which must be as many as that.
fn open_page(layout: Layout, page: Bytes, count: usize) -> Option<OpenPage> {
    let mut rest: &[u8] = &page;
    let repetition = Runs::new(take_levels(&mut rest)?, 1);
    let definition = Runs::new(take_levels(&mut rest)?, layout.present());
    let mut rows: VecDeque<(bool, usize)> = VecDeque::new();
    let mut add = |present: bool, count: usize| match rows.back_mut() {
        Some((last, rows)) if *last == present => *rows += count,
        _ => rows.push_back((present, count)),
    };
    // Values that the open row has so far; none if the last row is complete.
    let mut open = 0;
    let mut present: usize = 0;
    for levels in BothLevels::new(repetition, definition, count) {
        let (repetition, definition, count) = levels?;
        match (repetition, definition) {
            (0, 0) if layout.nullable && open == 0 => add(false, count),
            (0, d) if d == layout.present() && open == 0 && (count == 1 || layout.length == 1) => {
                present = present.checked_add(count)?;
                if layout.length == 1 {
                    add(true, count);
                } else {
                    open = 1;
                }
            }
            (1, d) if d == layout.present() && open > 0 && count <= layout.length - open => {
                open += count;
                if open == layout.length {
                    add(true, 1);
                    open = 0;
                }
            }
            _ => return None,
        }
    }
    if open > 0 {
        return None;
    }
    let bytes = present.checked_mul(layout.row_bytes())?;
    if layout.values != Values::Floats && bytes > 0 {
        // Indexes of 8 bits, in one packed run that ends with the last eight of them.
        let (bits, indexes) = rest.split_first()?;
        rest = indexes;
        let header = take_varint(&mut rest)?;
        let whole = rest.len() == bytes.next_multiple_of(8);
        if *bits != 8 || header & 1 == 0 || (header >> 1) as usize != rest.len() / 8 || !whole {
            return None;
        }
    } else if layout.values == Values::Floats && rest.len() != bytes {
        return None;
    }
    let start = page.len() - rest.len();
    Some(OpenPage { rows, values: page.slice(start..start + bytes) })
}

fn array_of(values: Values, buffer: Buffer) -> ArrayRef {
    match values {
        Values::Floats => Arc::new(Float32Array::new(buffer.into(), None)),
        Values::Bytes => Arc::new(UInt8Array::new(buffer.into(), None)),
        Values::SignedBytes => Arc::new(Int8Array::new(buffer.into(), None)),
    }
}
