//! Reading one part from a file whose digest was checked.

use super::limits;
use super::read_vectors::VectorReader;
use super::vectors::Layout;
use crate::columns::{Keys, arrow_schema};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, Key};
use crate::snapshot::Part;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

/// The rows of one part in batches, held to what the manifest says of it: exactly the columns,
/// keys ascending within the recorded range, exactly the number of rows.
pub struct PartReader {
    columns: Columns,
    key_column: String,
    expected_rows: u64,
    first: Key,
    end: Key,
    seen_rows: u64,
    seen_nulls: BTreeMap<String, u64>,
    expected_nulls: BTreeMap<String, u64>,
    previous: Option<Key>,
}

impl PartReader {
    /// Opens `file`, which must be the whole part. `batch_rows` is the most rows of one batch.
    pub fn open(
        file: File,
        columns: &[Column],
        key_column: &str,
        part: &Part,
        batch_rows: usize,
    ) -> Result<Self> {
        // The schema is taken from Parquet's own types, not from what a writer noted beside them.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        limits::check_footer(&file)?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&file, options))?.map_err(damaged)?;
        let expected = arrow_schema(columns);
        if metadata.schema().fields() != expected.fields() {
            return Err(differs(format!(
                "its columns are {:?}, the collection's are {:?}",
                describe(metadata.schema()),
                describe(&expected)
            )));
        }
        let rows = metadata.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(part.rows) {
            return Err(differs(format!("it says it has {rows} rows, the manifest says {}", part.rows)));
        }
        limits::check_pages(&file, metadata.metadata(), columns)?;
        let layouts: Vec<_> = columns.iter().map(Layout::of).collect();
        let columns =
            guarded(|| Columns::open(file, metadata, expected, &layouts, batch_rows))?.map_err(damaged)?;
        Ok(PartReader {
            columns,
            key_column: key_column.to_string(),
            expected_rows: part.rows,
            first: part.first.clone(),
            end: part.last.clone(),
            seen_rows: 0,
            seen_nulls: BTreeMap::new(),
            expected_nulls: part.nulls.clone(),
            previous: None,
        })
    }

    /// The next batch, or `None` after the last row, when all that was promised was there. After an
    /// error there is nothing more to read.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = guarded(|| self.columns.next_batch())?.map_err(damaged)? else {
            if !guarded(|| self.columns.at_end())? {
                return Err(differs("its columns do not have the same number of rows"));
            }
            if self.seen_rows != self.expected_rows {
                let what =
                    format!("it has {} rows, the manifest says {}", self.seen_rows, self.expected_rows);
                return Err(differs(what));
            }
            if self.seen_nulls != self.expected_nulls {
                return Err(differs("its nulls are not those in the manifest"));
            }
            return if self.previous.as_ref() == Some(&self.end) { Ok(None) } else { Err(other_range()) };
        };
        let keys = Keys::of(&batch, &self.key_column)?;
        if let Some(row) = keys.first_out_of_order(self.previous.as_ref()) {
            let what = format!("its keys do not ascend at key {}", keys.get(row));
            return Err(differs(what));
        }
        let Some(last) = keys.last() else { return self.next_batch() };
        if (self.previous.is_none() && keys.get(0) != self.first) || last > self.end {
            return Err(other_range());
        }
        crate::columns::count_nulls(&batch, &mut self.seen_nulls);
        self.previous = Some(last);
        self.seen_rows += batch.num_rows() as u64;
        Ok(Some(batch))
    }
}

/// The columns of a file side by side.
struct Columns {
    file: Arc<File>,
    metadata: ArrowReaderMetadata,
    schema: SchemaRef,
    batch_rows: usize,
    rows_read: usize,
    /// All columns that have no reader of their own, at least the keys.
    together: ParquetRecordBatchReader,
    /// By column, its own reader.
    own: Vec<Option<Own>>,
}

/// The reader of one column.
enum Own {
    /// Takes values as they lie in the pages.
    Vectors(Box<VectorReader>),
    /// Where that is not possible.
    Generic(ParquetRecordBatchReader),
}

impl Columns {
    fn open(
        file: File,
        metadata: ArrowReaderMetadata,
        schema: SchemaRef,
        layouts: &[Option<Layout>],
        batch_rows: usize,
    ) -> parquet::errors::Result<Self> {
        let file = Arc::new(file);
        let descriptor = metadata.metadata().file_metadata().schema_descr();
        let own = |(root, layout): (usize, &Option<Layout>)| {
            let DataType::List(element) = schema.field(root).data_type() else { return None };
            let mut leaves = 0..descriptor.num_columns();
            let leaf = leaves.find(|leaf| descriptor.get_column_root_idx(*leaf) == root)?;
            let (element, metadata) = (element.clone(), metadata.metadata().clone());
            let reader = VectorReader::new((*layout)?, element, file.clone(), metadata, leaf)?;
            Some(Own::Vectors(Box::new(reader)))
        };
        let own: Vec<Option<Own>> = layouts.iter().enumerate().map(own).collect();
        let others = own.iter().enumerate().filter(|(_, own)| own.is_none()).map(|(root, _)| root);
        let mask = ProjectionMask::roots(descriptor, others);
        let together =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata.clone())
                .with_projection(mask)
                .with_batch_size(batch_rows)
                .build()?;
        Ok(Columns { file, metadata, schema, batch_rows, rows_read: 0, together, own })
    }

    fn next_batch(&mut self) -> parquet::errors::Result<Option<RecordBatch>> {
        let Some(together) = self.together.next().transpose()? else { return Ok(None) };
        let rows = together.num_rows();
        let mut others = together.columns().iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.own.len());
        for column in 0..self.own.len() {
            let array = match &mut self.own[column] {
                None => others.next().cloned(),
                Some(Own::Generic(reader)) => next_column(reader)?,
                Some(Own::Vectors(reader)) => match reader.read(rows) {
                    Some(array) => Some(array),
                    None => {
                        let mut generic = self.generic(column)?;
                        let array = next_column(&mut generic)?;
                        self.own[column] = Some(Own::Generic(generic));
                        array
                    }
                },
            };
            arrays.extend(array);
        }
        self.rows_read += rows;
        Ok(Some(RecordBatch::try_new(self.schema.clone(), arrays)?))
    }

    /// A reader of one column, from the next row on.
    fn generic(&self, column: usize) -> parquet::errors::Result<ParquetRecordBatchReader> {
        let mask = ProjectionMask::roots(self.metadata.metadata().file_metadata().schema_descr(), [column]);
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.try_clone()?, self.metadata.clone())
            .with_projection(mask)
            .with_offset(self.rows_read)
            .with_batch_size(self.batch_rows)
            .build()
    }

    /// Whether no column has rows that the others do not have.
    fn at_end(&mut self) -> bool {
        self.own.iter_mut().flatten().all(|own| match own {
            Own::Vectors(reader) => reader.at_end(),
            Own::Generic(reader) => reader.next().is_none(),
        })
    }
}

fn next_column(reader: &mut ParquetRecordBatchReader) -> std::result::Result<Option<ArrayRef>, ArrowError> {
    Ok(reader.next().transpose()?.map(|batch| batch.column(0).clone()))
}

fn describe(schema: &arrow_schema::Schema) -> Vec<String> {
    schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect()
}

/// The refusal of a file whose digest is right and whose content is not.
fn differs(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Integrity, what)
        .hint("whoever made this snapshot did not write what they say: get it again from the exporter")
}

fn other_range() -> Error {
    differs("its key range is not the one in the manifest")
}

/// Runs the Parquet library, which checks most of what a file says, and asserts the rest: a file
/// made to that end can make it panic. That is the file's fault, and is said like any other.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T> {
    thread_local!(static READING: Cell<bool> = const { Cell::new(false) });
    static QUIET: Once = Once::new();
    // The error says it; a report of a panic beside it would look like a defect of this tool.
    QUIET.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !READING.get() {
                report(panic);
            }
        }));
    });
    READING.set(true);
    // What a panic leaves half done is never used: every caller stops at the first error.
    let result = catch_unwind(AssertUnwindSafe(read));
    READING.set(false);
    result.map_err(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        damaged(ParquetError::General(said))
    })
}

fn damaged(error: ParquetError) -> Error {
    differs("it is not a readable Parquet file").because(error)
}
