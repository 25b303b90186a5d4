//! Writing one part into a spool file.

use super::choice::{Storage, leaves};
use super::vectors::{Layout, VectorChunk};
use crate::columns::{Keys, arrow_schema};
use crate::digest::{HashingWriter, Sha256};
use crate::error::{Code, Error, Result};
use crate::schema::{Column, FieldType, Key};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
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
    file: SerializedFileWriter<HashingWriter<BufWriter<NamedTempFile>>>,
    /// One for each of [`Storage::ALL`].
    factories: Vec<ArrowRowGroupWriterFactory>,
    schema: SchemaRef,
    layouts: Vec<Option<Layout>>,
    /// The row group that is open, by column.
    group: Option<Vec<Chunk>>,
    key_column: String,
    rows: u64,
    first: Option<Key>,
    last: Option<Key>,
    nulls: BTreeMap<String, u64>,
}

/// A column of the open row group.
enum Chunk {
    /// Dense vectors, which are put together here.
    Vectors(VectorChunk),
    /// Any other: one writer for each of its leaves.
    Leaves(Vec<ArrowColumnWriter>),
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
        let schema = arrow_schema(columns);
        let begin = || {
            let properties = |storage| Some(properties(columns, storage));
            let file = ArrowWriter::try_new(sink, schema.clone(), properties(Storage::DEFAULT))?;
            let (file, _) = file.into_serialized_writer()?;
            // A factory takes the properties from a file; only the first of these is one.
            let factory = |storage| {
                let file = ArrowWriter::try_new(std::io::sink(), schema.clone(), properties(storage))?;
                Ok(file.into_serialized_writer()?.1)
            };
            let factories =
                Storage::ALL.map(factory).into_iter().collect::<parquet::errors::Result<Vec<_>>>()?;
            Ok((file, factories))
        };
        let (file, factories) =
            begin().map_err(|e: ParquetError| Error::internal("a part cannot be started").because(e))?;
        Ok(PartWriter {
            file,
            factories,
            schema,
            layouts: columns.iter().map(Layout::of).collect(),
            group: None,
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
        let mut group = match self.group.take() {
            Some(group) => group,
            None => self.begin_group(batch).map_err(cannot_write)?,
        };
        for ((chunk, field), array) in group.iter_mut().zip(self.schema.fields()).zip(batch.columns()) {
            match chunk {
                Chunk::Vectors(chunk) => chunk.write(array)?,
                Chunk::Leaves(writers) => {
                    let leaves = compute_leaves(field, array).map_err(cannot_write)?;
                    for (writer, leaf) in writers.iter_mut().zip(&leaves) {
                        writer.write(leaf).map_err(cannot_write)?;
                    }
                }
            }
        }
        self.group = Some(group);
        if self.group_bytes() >= ROW_GROUP_BYTES {
            self.end_group().map_err(cannot_write)?;
        }
        Ok(())
    }

    /// Opens a row group that begins with `batch`.
    fn begin_group(&self, batch: &RecordBatch) -> parquet::errors::Result<Vec<Chunk>> {
        let number = self.file.flushed_row_groups().len();
        let writers = self.factories.iter().map(|factory| factory.create_column_writers(number));
        let writers = writers.collect::<parquet::errors::Result<Vec<_>>>()?;
        let mut writers: Vec<_> = writers.into_iter().map(Vec::into_iter).collect();
        // The next leaf's writer for each way to store it; only the one that suits it is kept.
        let mut next_leaf = |array: &ArrayRef| {
            let suits = Storage::of(array);
            let all = writers.iter_mut().map(Iterator::next).zip(Storage::ALL).collect::<Vec<_>>();
            all.into_iter().find(|(_, storage)| *storage == suits).and_then(|(writer, _)| writer)
        };
        let chunk = |(array, layout): (&ArrayRef, &Option<Layout>)| {
            let own: Vec<_> = leaves(array).iter().filter_map(&mut next_leaf).collect();
            layout.map_or(Chunk::Leaves(own), |layout| Chunk::Vectors(VectorChunk::new(layout)))
        };
        Ok(batch.columns().iter().zip(&self.layouts).map(chunk).collect())
    }

    fn end_group(&mut self) -> parquet::errors::Result<()> {
        let Some(chunks) = self.group.take() else { return Ok(()) };
        let descriptors = self.file.schema_descr().columns().to_vec();
        let mut leaf = 0;
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            match chunk {
                Chunk::Vectors(chunk) => {
                    let (pieces, closed) = chunk.finish(descriptors[leaf].clone())?;
                    group.append_column(&pieces, closed)?;
                    leaf += 1;
                }
                Chunk::Leaves(writers) => {
                    for writer in writers {
                        writer.close()?.append_to_row_group(&mut group)?;
                        leaf += 1;
                    }
                }
            }
        }
        group.close()?;
        Ok(())
    }

    /// Bytes of the open row group, as far as they are known.
    fn group_bytes(&self) -> usize {
        let bytes = |chunk: &Chunk| match chunk {
            Chunk::Vectors(chunk) => chunk.bytes(),
            Chunk::Leaves(writers) => writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum(),
        };
        self.group.iter().flatten().map(bytes).sum()
    }

    /// Bytes written so far, those of the open row group included.
    pub fn bytes(&self) -> u64 {
        (self.file.bytes_written() + self.group_bytes()) as u64
    }

    /// Closes the file; `None` if no row was written.
    pub fn finish(mut self) -> Result<Option<FinishedPart>> {
        self.end_group().map_err(cannot_write)?;
        let (Some(first), Some(last)) = (self.first, self.last) else { return Ok(None) };
        let (buffered, sha256, size) = self.file.into_inner().map_err(cannot_write)?.finish();
        let file = buffered.into_inner().map_err(|e| cannot_write(e.into_error().into()))?;
        Ok(Some(FinishedPart { file, size, sha256, rows: self.rows, first, last, nulls: self.nulls }))
    }
}

/// Why a spool file could not be written: nearly always the disk.
fn cannot_write(error: ParquetError) -> Error {
    Error::new(Code::Disk, "cannot write a part to the spool folder")
        .because(error)
        .hint("see that the disk has room for one part per worker, then run the same command again")
}

/// Vectors do not compress, so they stay plain and cheap; vectors of bytes are an exception:
/// Parquet stores small integers as 32 bits, which a dictionary brings back to 8. Other columns
/// get dictionaries and zstd as `storage` says.
fn properties(columns: &[Column], storage: Storage) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("milvus-handoff ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(match storage.compressed {
            true => Compression::ZSTD(ZstdLevel::default()),
            false => Compression::UNCOMPRESSED,
        })
        .set_dictionary_enabled(storage.dictionary)
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
