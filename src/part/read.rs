//! Reading one part from a file whose digest was checked.

use crate::columns::{Keys, arrow_schema};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, Key};
use crate::snapshot::Part;
use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// The rows of one part in batches, held to what the manifest says of it: exactly the columns,
/// keys ascending within the recorded range, exactly the number of rows.
pub struct PartReader {
    batches: ParquetRecordBatchReader,
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
        let open = || ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
        let builder = guarded(open)?.map_err(damaged)?;
        let expected = arrow_schema(columns);
        if builder.schema().fields() != expected.fields() {
            return Err(differs(format!(
                "its columns are {:?}, the collection's are {:?}",
                describe(builder.schema()),
                describe(&expected)
            )));
        }
        let rows = builder.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(part.rows) {
            return Err(differs(format!("it says it has {rows} rows, the manifest says {}", part.rows)));
        }
        let batches = guarded(|| builder.with_batch_size(batch_rows).build())?.map_err(damaged)?;
        Ok(PartReader {
            batches,
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
        let Some(batch) = guarded(|| self.batches.next())? else {
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
        let batch = batch.map_err(|e| damaged(e.into()))?;
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
        damaged(parquet::errors::ParquetError::General(said))
    })
}

fn damaged(error: parquet::errors::ParquetError) -> Error {
    differs("it is not a readable Parquet file").because(error)
}
