//! What a Parquet file may claim about itself, checked before anything is allocated for it.
//!
//! Owns: the sizes and counts in the footer and in the header of every page, held to the file, to
//! the columns and to fixed limits. Does not own: reading rows (`read`), or what the rows are.
//!
//! A part whose digest is right can still come from somebody hostile: a few bytes can claim a page
//! of 2 GiB or a billion elements. Honest parts stay far below these limits: a page ends at about
//! 1 MiB or after 256 rows, and a row fits into one message of a server.

use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, FieldType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read};

/// The footer: some hundred bytes for each column of each row group.
const MAX_FOOTER_BYTES: u64 = 16 << 20;

/// A page, as stored and as it comes out of decompression.
const MAX_PAGE_BYTES: u64 = 64 << 20;

/// The header of a page; it may hold a smallest and a greatest value.
const MAX_PAGE_HEADER_BYTES: u64 = 1 << 20;

/// Elements of an array, whatever its field declares: not every engine enforces that.
const MAX_ELEMENTS: u64 = 1 << 16;

/// Parquet's magic bytes and the length of the footer, at the end of the file.
const TAIL_BYTES: u64 = 8;

/// Refuses a file whose footer is larger than any that is written. Before the footer is parsed.
pub(super) fn check_footer(file: &File) -> Result<()> {
    let length = file.len();
    let Some(at) = length.checked_sub(TAIL_BYTES) else { return Err(claims("that it has no footer")) };
    let tail = file.get_bytes(at, TAIL_BYTES as usize).map_err(|e| claims("a footer").because(e))?;
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if footer > MAX_FOOTER_BYTES.min(at) {
        return Err(claims(format!("a footer of {footer} bytes")));
    }
    Ok(())
}

/// Refuses a file whose row groups or pages claim more than the file and the columns can hold.
/// After the footer was parsed, before a page is read.
pub(super) fn check_pages(file: &File, metadata: &ParquetMetaData, columns: &[Column]) -> Result<()> {
    let length = file.len();
    let mut rows: i64 = 0;
    for group in metadata.row_groups() {
        rows = rows
            .checked_add(group.num_rows())
            .filter(|_| group.num_rows() > 0)
            .ok_or_else(|| claims(format!("a row group of {} rows", group.num_rows())))?;
        for (leaf, chunk) in group.columns().iter().enumerate() {
            let name = chunk.column_path().string();
            let root = metadata.file_metadata().schema_descr().get_column_root_idx(leaf);
            let most = columns.get(root).map_or(1, |column| most_values(&column.kind));
            let most = (group.num_rows() as u64).saturating_mul(most);
            let values = u64::try_from(chunk.num_values()).ok().filter(|values| *values <= most);
            let values = values.ok_or_else(|| claims(format!("{} values of {name}", chunk.num_values())))?;
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let range = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let inside = range.filter(|(at, size)| at.checked_add(*size).is_some_and(|end| end <= length));
            let (start, size) = inside.ok_or_else(|| claims(format!("pages of {name} outside of it")))?;
            Pages { file, name: &name, values }.check(start, size)?;
        }
    }
    if rows != metadata.file_metadata().num_rows() {
        return Err(claims(format!("{rows} rows in its row groups")));
    }
    Ok(())
}

/// The most values that one row has in any column of the file that belongs to a field. An empty
/// or missing list counts as one.
fn most_values(kind: &FieldType) -> u64 {
    match kind {
        FieldType::FloatVector { dim } | FieldType::Int8Vector { dim } => u64::from(*dim),
        FieldType::BinaryVector { dim } => u64::from(*dim) / 8,
        FieldType::Float16Vector { dim } | FieldType::BFloat16Vector { dim } => 2 * u64::from(*dim),
        FieldType::Array { max_capacity, .. } => u64::from(*max_capacity).max(MAX_ELEMENTS),
        FieldType::VectorArray { element, max_capacity } => {
            u64::from(*max_capacity).saturating_mul(most_values(element))
        }
        FieldType::StructArray { fields } => {
            fields.iter().map(|field| most_values(&field.kind)).max().unwrap_or(1)
        }
        _ => 1,
    }
    .max(1)
}

/// The pages of one column in one row group.
struct Pages<'a> {
    file: &'a File,
    name: &'a str,
    values: u64,
}

impl Pages<'_> {
    /// Goes from header to header, from `start` through `size` bytes.
    fn check(&self, start: u64, size: u64) -> Result<()> {
        let unreadable = |e: parquet::errors::ParquetError| claims("pages that are not there").because(e);
        let mut reader = self.file.get_read(start).map_err(unreadable)?;
        let mut left = size;
        let mut values: u64 = 0;
        while left > 0 {
            let header = Header::read(&mut reader, left.min(MAX_PAGE_HEADER_BYTES))
                .ok_or_else(|| claims(format!("a page of {} that has no header", self.name)))?;
            let body = left - header.bytes;
            let page = |what, bytes| claims(format!("a page of {} of {bytes} bytes {what}", self.name));
            if header.stored < 0 || header.stored as u64 > body.min(MAX_PAGE_BYTES) {
                return Err(page("as stored", header.stored));
            }
            if header.plain < 0 || header.plain as u64 > MAX_PAGE_BYTES {
                return Err(page("when decompressed", header.plain));
            }
            if header.values < 0 || (header.dictionary && header.values as u64 > MAX_PAGE_BYTES) {
                return Err(claims(format!("{} values in a page of {}", header.values, self.name)));
            }
            if !header.dictionary {
                values += header.values as u64;
            }
            if values > self.values {
                return Err(claims(format!("{values} values in pages of {}", self.name)));
            }
            let skip = i64::from(header.stored);
            if reader.seek_relative(skip).is_err() {
                return Err(page("that is not there", header.stored));
            }
            left = body - header.stored as u64;
        }
        Ok(())
    }
}

/// What a page's header says; in Thrift's compact protocol, which Parquet fixes.
#[derive(Default)]
struct Header {
    plain: i32,
    stored: i32,
    values: i32,
    dictionary: bool,
    /// Of the header itself.
    bytes: u64,
}

impl Header {
    fn read(reader: &mut BufReader<File>, most: u64) -> Option<Self> {
        let mut thrift = Thrift { reader: reader.by_ref(), left: most };
        let mut header = Header::default();
        let mut id = 0;
        while let Some(kind) = thrift.field(&mut id)? {
            match (id, kind) {
                (2, I32) => header.plain = thrift.int()?,
                (3, I32) => header.stored = thrift.int()?,
                // The headers of data pages of both versions and of dictionaries: all begin with
                // the number of values.
                (5 | 7 | 8, STRUCT) => {
                    header.dictionary = id == 7;
                    let mut inner = 0;
                    while let Some(kind) = thrift.field(&mut inner)? {
                        match (inner, kind) {
                            (1, I32) => header.values = thrift.int()?,
                            _ => thrift.skip(kind, 0)?,
                        }
                    }
                }
                _ => thrift.skip(kind, 0)?,
            }
        }
        header.bytes = most - thrift.left;
        Some(header)
    }
}

const I32: u8 = 5;
const STRUCT: u8 = 12;

/// Structs in structs that a header may have.
const MAX_DEPTH: u8 = 8;

/// Reads at most `left` bytes; `None` when they do not suffice or are no Thrift.
struct Thrift<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Thrift<R> {
    fn byte(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).ok()?;
        Some(byte[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i32> {
        let value = self.varint()?;
        let value = (value >> 1) as i64 ^ -((value & 1) as i64);
        i32::try_from(value).ok()
    }

    /// The type of a struct's next field, whose number goes into `id`; inner `None` at its end.
    fn field(&mut self, id: &mut i32) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *id = match byte >> 4 {
            0 => self.int()?,
            step => id.checked_add(i32::from(step))?,
        };
        Some(Some(byte & 0xf))
    }

    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => {
                self.byte()?;
            }
            4..=6 => {
                self.varint()?;
            }
            7 => (0..8).try_for_each(|_| self.byte().map(|_| ()))?,
            8 => {
                let length = self.varint()?;
                (0..length).try_for_each(|_| self.byte().map(|_| ()))?;
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                // An element of a list of booleans has a byte, unlike a field.
                let element = byte & 0xf;
                for _ in 0..count {
                    match element {
                        1 | 2 => self.byte().map(|_| ())?,
                        _ => self.skip(element, depth + 1)?,
                    }
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn claims(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Integrity, format!("it claims {}", what.into()))
        .hint("whoever made this snapshot did not write what they say: get it again from the exporter")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn header(bytes: &[u8]) -> Option<Header> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Header::read(&mut BufReader::new(file), 1 << 10)
    }

    #[test]
    fn headers_of_pages_are_read() {
        // type 0, 300 plain, 200 stored, a data page of 7 values with statistics.
        let bytes = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x90, 0x03, 0x2c, 0x15, 0x0e, 0x15, 0x00, 0x2c, 0x18, 0x02,
            b'a', b'b', 0x00, 0x00, 0x00,
        ];
        let read = header(&bytes).unwrap();
        assert_eq!((read.plain, read.stored, read.values, read.dictionary), (300, 200, 7, false));
        assert_eq!(read.bytes, bytes.len() as u64);
        for end in 0..bytes.len() {
            assert!(header(&bytes[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn headers_without_end_are_none() {
        assert!(header(&[0x1c; 2000]).is_none(), "structs in structs");
        assert!(header(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_none(), "text of 4 GiB");
        assert!(header(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_none(), "a list of 2^32");
        assert!(header(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_none());
        assert!(header(&[0x1d]).is_none(), "a type that is none");
    }
}
