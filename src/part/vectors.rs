//! Column chunks of dense vectors, written as a whole.
//!
//! Every vector of a column has the same length, so its levels are known beforehand, and its values
//! are stored as they lie in memory: floats plainly, bytes as indexes into a dictionary of all 256
//! of them. So a data page is a header, a few runs of levels, and a slice of the batch's own
//! buffer: nothing is done for a single value, and nothing is copied before it is hashed.

use super::levels::{Levels, varint};
use crate::error::{Error, Result};
use crate::schema::{Column, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_buffer::Buffer;
use bytes::Bytes;
use parquet::basic::{CompressionCodec, Encoding, PageType};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;
use std::io::Read;
use std::ops::Range;

/// Bytes of values after which a page ends.
const PAGE_BYTES: usize = 1 << 20;

/// Lists below this length have their repetition levels packed, longer ones as runs.
const SHORT_LIST: usize = 40;

/// The values of a vector as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// 32 bits each, little-endian.
    Floats,
    /// Bytes from 0 to 255.
    Bytes,
    /// Bytes from -128 to 127.
    SignedBytes,
}

/// How a column of dense vectors lies in a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// What the values are.
    pub values: Values,
    /// Values of one vector, at least one.
    pub length: usize,
    /// Whether rows can be null.
    pub nullable: bool,
}

impl Layout {
    /// The layout of `column`, if it is one of dense vectors and this machine stores floats as
    /// Parquet does.
    pub fn of(column: &Column) -> Option<Self> {
        let (values, length) = match &column.kind {
            FieldType::FloatVector { dim } => (Values::Floats, *dim as usize),
            FieldType::BinaryVector { .. }
            | FieldType::Float16Vector { .. }
            | FieldType::BFloat16Vector { .. } => (Values::Bytes, column.kind.vector_bytes()?),
            FieldType::Int8Vector { .. } => (Values::SignedBytes, column.kind.vector_bytes()?),
            _ => return None,
        };
        (length > 0 && cfg!(target_endian = "little")).then_some(Layout {
            values,
            length,
            nullable: column.nullable,
        })
    }

    /// Bytes of one value.
    pub fn width(self) -> usize {
        match self.values {
            Values::Floats => 4,
            Values::Bytes | Values::SignedBytes => 1,
        }
    }

    /// Bytes of one vector.
    pub fn row_bytes(self) -> usize {
        self.length * self.width()
    }

    /// The definition level of a value that is there.
    pub fn present(self) -> u8 {
        1 + u8::from(self.nullable)
    }

    /// The dictionary that bytes are indexes into: all of them, each at its own place.
    pub fn dictionary(self) -> Option<Vec<u8>> {
        let entry = |byte: u8| match self.values {
            Values::SignedBytes => i32::from(byte as i8),
            _ => i32::from(byte),
        };
        let entries = || (0..=u8::MAX).flat_map(|byte| entry(byte).to_le_bytes()).collect();
        (self.values != Values::Floats).then(entries)
    }
}

/// One column chunk that is being put together. Holds slices of the batches' own buffers.
pub(super) struct VectorChunk {
    layout: Layout,
    pieces: Vec<Buffer>,
    bytes: usize,
    data_start: usize,
    pages: usize,
    levels: usize,
    rows: usize,
    repetition: Levels,
    definition: Levels,
}

impl VectorChunk {
    pub fn new(layout: Layout) -> Self {
        let mut chunk = VectorChunk {
            layout,
            pieces: Vec::new(),
            bytes: 0,
            data_start: 0,
            pages: 0,
            levels: 0,
            rows: 0,
            repetition: Levels::default(),
            definition: Levels::default(),
        };
        if let Some(dictionary) = layout.dictionary() {
            let mut page = Vec::with_capacity(32 + dictionary.len());
            dictionary_header(&mut page, dictionary.len());
            page.extend_from_slice(&dictionary);
            chunk.add(Buffer::from_vec(page));
            chunk.data_start = chunk.bytes;
        }
        chunk
    }

    /// Bytes of the chunk so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, piece: Buffer) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    /// Appends the rows of `array`, cut into pages.
    pub fn write(&mut self, array: &ArrayRef) -> Result<()> {
        let other = || Error::internal("vectors reach a part in another type");
        let list = array.as_list_opt::<i32>().ok_or_else(other)?;
        let values = match self.layout.values {
            Values::Floats => list.values().as_primitive_opt::<Float32Type>().map(|v| v.values().inner()),
            Values::Bytes => list.values().as_primitive_opt::<UInt8Type>().map(|v| v.values().inner()),
            Values::SignedBytes => list.values().as_primitive_opt::<Int8Type>().map(|v| v.values().inner()),
        };
        let values = values.ok_or_else(other)?;
        if list.values().null_count() > 0 || (list.null_count() > 0 && !self.layout.nullable) {
            return Err(Error::internal("a null reaches a part where none can be"));
        }
        let rows_per_page = (PAGE_BYTES / self.layout.row_bytes()).max(1);
        let mut row = 0;
        while row < list.len() {
            let end = list.len().min(row + rows_per_page);
            self.page(list, values, row..end)?;
            row = end;
        }
        Ok(())
    }

    fn page(&mut self, list: &ListArray, values: &Buffer, rows: Range<usize>) -> Result<()> {
        let Layout { length, .. } = self.layout;
        let (count, slices) = self.levels_of(list, rows.clone())?;
        let mut page = Vec::with_capacity(64 + 8 * rows.len());
        if length < SHORT_LIST {
            self.repetition.write_bits(&mut page);
        } else {
            self.repetition.write_runs(&mut page);
        }
        self.definition.write_runs(&mut page);

        let width = self.layout.width();
        let present: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut padding = 0;
        if self.layout.values != Values::Floats {
            page.push(8); // Bits of an index: then all of them in one packed run, in eights.
            if present > 0 {
                varint(&mut page, (present.div_ceil(8) as u64) << 1 | 1);
                padding = present.next_multiple_of(8) - present;
            }
        }
        let size = page.len() + present * width + padding;
        let mut header = Vec::with_capacity(32 + page.len());
        data_header(&mut header, size, count, self.layout.values)?;
        header.append(&mut page);
        self.add(Buffer::from_vec(header));
        for slice in slices {
            self.add(values.slice_with_length(slice.start * width, slice.len() * width));
        }
        if padding > 0 {
            self.add(Buffer::from_vec(vec![0u8; padding]));
        }
        self.pages += 1;
        self.levels += count;
        self.rows += rows.len();
        Ok(())
    }

    /// Works out the levels of `rows`; gives their number and where the values are.
    fn levels_of(&mut self, list: &ListArray, rows: Range<usize>) -> Result<(usize, Vec<Range<usize>>)> {
        let Layout { length, .. } = self.layout;
        let present = self.layout.present();
        let offsets = list.value_offsets();
        self.repetition.clear();
        self.definition.clear();
        let mut count = 0;
        let mut slices: Vec<Range<usize>> = Vec::new();
        for row in rows {
            self.repetition.push(0, 1);
            if list.is_null(row) {
                self.definition.push(0, 1);
                count += 1;
                continue;
            }
            let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
            if end - start != length {
                let what = format!("a vector of {} values reaches a part, not {length}", end - start);
                return Err(Error::internal(what));
            }
            self.repetition.push(1, length - 1);
            self.definition.push(present, length);
            count += length;
            match slices.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => slices.push(start..end),
            }
        }
        Ok((count, slices))
    }

    /// The whole chunk, for the column that `descriptor` describes.
    pub fn finish(self, descriptor: ColumnDescPtr) -> parquet::errors::Result<(Pieces, ColumnCloseResult)> {
        let dictionary = self.layout.values != Values::Floats;
        let page_encoding = encoding(self.layout.values);
        let count = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut stats = vec![count(PageType::DATA_PAGE, page_encoding, self.pages as i32)];
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        if dictionary {
            stats.insert(0, count(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1));
            encodings.push(page_encoding);
        }
        let metadata = ColumnChunkMetaData::builder(descriptor)
            .set_compression_codec(CompressionCodec::UNCOMPRESSED)
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(self.bytes as i64)
            .set_total_uncompressed_size(self.bytes as i64)
            .set_num_values(self.levels as i64)
            .set_dictionary_page_offset(dictionary.then_some(0))
            .set_data_page_offset(self.data_start as i64)
            .build()?;
        let result = ColumnCloseResult {
            bytes_written: self.bytes as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((Pieces(self.pieces), result))
    }
}

fn encoding(values: Values) -> Encoding {
    match values {
        Values::Floats => Encoding::PLAIN,
        Values::Bytes | Values::SignedBytes => Encoding::RLE_DICTIONARY,
    }
}

// Page headers are Thrift structs in the compact protocol: for each field a byte with its distance
// to the field before and its type, then the value.

/// A field of 32 bits.
const I32: u8 = 5;
/// A field that is a struct.
const STRUCT: u8 = 12;
/// The end of a struct.
const STOP: u8 = 0;

fn i32_field(out: &mut Vec<u8>, distance: u8, value: i32) {
    out.push(distance << 4 | I32);
    varint(out, u64::from((value << 1 ^ value >> 31) as u32));
}

/// `PageHeader { type: DICTIONARY_PAGE, sizes, dictionary_page_header: { num_values, PLAIN } }`
fn dictionary_header(out: &mut Vec<u8>, size: usize) {
    i32_field(out, 1, PageType::DICTIONARY_PAGE as i32);
    i32_field(out, 1, size as i32);
    i32_field(out, 1, size as i32);
    out.push(4 << 4 | STRUCT);
    i32_field(out, 1, (size / 4) as i32);
    i32_field(out, 1, Encoding::PLAIN as i32);
    out.extend([STOP, STOP]);
}

/// `PageHeader { type: DATA_PAGE, sizes, data_page_header: { num_values, encoding, RLE, RLE } }`
fn data_header(out: &mut Vec<u8>, size: usize, count: usize, values: Values) -> Result<()> {
    let too_large = |_| Error::internal("a page of vectors is larger than Parquet allows");
    let size = i32::try_from(size).map_err(too_large)?;
    i32_field(out, 1, PageType::DATA_PAGE as i32);
    i32_field(out, 1, size);
    i32_field(out, 1, size);
    out.push(2 << 4 | STRUCT);
    i32_field(out, 1, i32::try_from(count).map_err(too_large)?);
    i32_field(out, 1, encoding(values) as i32);
    i32_field(out, 1, Encoding::RLE as i32);
    i32_field(out, 1, Encoding::RLE as i32);
    out.extend([STOP, STOP]);
    Ok(())
}

/// The bytes of a chunk, as a source that the `parquet` crate appends to a row group.
pub(super) struct Pieces(Vec<Buffer>);

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl ChunkReader for Pieces {
    type T = PieceReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<PieceReader> {
        let mut reader = PieceReader { pieces: self.0.clone().into_iter(), current: Buffer::default() };
        std::io::copy(&mut reader.by_ref().take(start), &mut std::io::sink())?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

pub(super) struct PieceReader {
    pieces: std::vec::IntoIter<Buffer>,
    current: Buffer,
}

impl Read for PieceReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.current.len());
        out[..count].copy_from_slice(&self.current[..count]);
        self.current = self.current.slice(count);
        Ok(count)
    }
}
