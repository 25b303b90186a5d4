//! Writing one part into a spool file.

use crate::columns::{Keys, arrow_schema};
use crate::digest::{HashingWriter, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, FieldType, Key};
use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::io::BufWriter;
use tempfile::NamedTempFile;

/// Bytes of encoded pages after which a row group ends. Small groups keep memory bounded (one is
/// held per worker) and stay far below the 128 MiB that Milvus' bulk import likes.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// Rows of one encoding step within a page: small, so that wide vectors do not overshoot pages.
const WRITE_BATCH_ROWS: usize = 256;

/// A part being written: rows of one partition, ascending and unique by key.
pub struct PartWriter {
    writer: ArrowWriter<HashingWriter<BufWriter<NamedTempFile>>>,
    key_column: String,
    rows: u64,
    first: Option<Key>,
    last: Option<Key>,
    nulls: BTreeMap<String, u64>,
}

/// A part that is complete on this machine and not yet in the bucket.
pub struct FinishedPart {
    /// The file.
    pub file: NamedTempFile,
    /// Bytes of the file.
    pub size: u64,
    /// Of the file.
    pub sha256: Sha256,
    /// Rows, at least one.
    pub rows: u64,
    /// Smallest key.
    pub first: Key,
    /// Greatest key.
    pub last: Key,
    /// Nulls by column, of columns that have any.
    pub nulls: BTreeMap<String, u64>,
}

impl PartWriter {
    /// A part of `columns` whose rows are ordered by `key_column`.
    pub fn new(columns: &[Column], key_column: &str, spool: NamedTempFile) -> Result<Self> {
        let sink = HashingWriter::new(BufWriter::with_capacity(1 << 20, spool));
        let writer = ArrowWriter::try_new(sink, arrow_schema(columns), Some(properties(columns)))
            .map_err(|e| Error::internal("a part cannot be started").because(e))?;
        Ok(PartWriter {
            writer,
            key_column: key_column.to_string(),
            rows: 0,
            first: None,
            last: None,
            nulls: BTreeMap::new(),
        })
    }

    /// Appends rows, whose keys must be greater than all before.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = Keys::of(batch, &self.key_column)?;
        let Some(last) = keys.last() else { return Ok(()) };
        if keys.first_out_of_order(self.last.as_ref()).is_some() {
            return Err(Error::internal("rows reach a part out of key order"));
        }
        self.first.get_or_insert_with(|| keys.get(0));
        self.last = Some(last);
        self.rows += batch.num_rows() as u64;
        crate::columns::count_nulls(batch, &mut self.nulls);
        self.writer.write(batch).map_err(cannot_write)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(cannot_write)?;
        }
        Ok(())
    }

    /// Bytes written so far, those of the open row group included.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Closes the file; `None` if no row was written.
    pub fn finish(self) -> Result<Option<FinishedPart>> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Ok(None) };
        let (buffered, sha256, size) = self.writer.into_inner().map_err(cannot_write)?.finish();
        let file = buffered.into_inner().map_err(|e| cannot_write(e.into_error().into()))?;
        Ok(Some(FinishedPart { file, size, sha256, rows: self.rows, first, last, nulls: self.nulls }))
    }
}

/// Why a spool file could not be written: nearly always the disk.
fn cannot_write(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Temporary, "cannot write a part to the spool folder")
        .because(error)
        .hint("see that the disk has room for one part per worker, then run the same command again")
}

/// Vectors do not compress, so they stay plain and cheap; vectors of bytes are an exception:
/// Parquet stores small integers as 32 bits, which a dictionary brings back to 8. Other columns
/// get dictionaries and zstd.
fn properties(columns: &[Column]) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("milvus-handoff ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_max_row_group_row_count(None)
        .set_offset_index_disabled(true);
    for column in columns {
        let plain = ColumnPath::new(vec![column.name.clone()]);
        let list = ColumnPath::new(vec![column.name.clone(), "list".into(), "element".into()]);
        builder = match &column.kind {
            FieldType::FloatVector { .. } => builder
                .set_column_dictionary_enabled(list.clone(), false)
                .set_column_encoding(list.clone(), Encoding::PLAIN)
                .set_column_compression(list, Compression::UNCOMPRESSED),
            FieldType::BinaryVector { .. }
            | FieldType::Float16Vector { .. }
            | FieldType::BFloat16Vector { .. }
            | FieldType::Int8Vector { .. } => builder.set_column_compression(list, Compression::UNCOMPRESSED),
            // Auditors and engines skip by key; nothing else needs statistics.
            FieldType::Int64 | FieldType::VarChar { .. } => {
                builder.set_column_statistics_enabled(plain, EnabledStatistics::Chunk)
            }
            _ => builder,
        };
    }
    builder.build()
}
