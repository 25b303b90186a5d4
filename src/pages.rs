//! Reading a range of rows page by page: sizes that fit, order that is checked, nothing that is
//! skipped.
//!
//! Owns: how many rows to ask for, going on after the last key, and holding the server to its
//! order. Does not own: requests (`milvus`), values (`columns`), or which range is read and why
//! (the stories).

use crate::blocking::blocking;
use crate::columns::{self, Keys};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{Client, Failure, Scan};
use crate::schema::{Column, Key, Schema};
use arrow_array::RecordBatch;
use milvus::proto::schema::FieldData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a page should have: large enough that requests do not dominate, small enough that
/// a few in flight stay within memory.
const PAGE_BYTES: usize = 12 << 20;

/// The most rows that servers hand out at once (`maxQueryResultWindow`).
const MAX_PAGE_ROWS: u32 = 16_384;

/// What the first page of a collection may have if its rows are as large as they can be: rows can
/// be far larger than they typically are, and nothing is known of them yet.
const FIRST_PAGE_BYTES: usize = 48 << 20;

/// Bytes that a row of a collection takes on the wire, as its pages have shown so far. Shared by
/// the readers of its ranges, so that only the first one has to find out.
#[derive(Clone, Default)]
pub struct RowBytes(Arc<AtomicUsize>);

/// How many rows to ask for: follows the size of the rows seen, and what the server bears.
#[derive(Debug, Clone, Copy)]
struct PageRows {
    rows: u32,
    ceiling: u32,
}

impl PageRows {
    fn first(columns: &[Column], ceiling: u32) -> Self {
        let mut page = PageRows { rows: 0, ceiling };
        page.aim(columns::typical_row_bytes(columns));
        let if_largest = FIRST_PAGE_BYTES / columns::largest_row_bytes(columns).max(1);
        page.rows = page.rows.min(if_largest.max(1) as u32);
        page
    }

    fn aim(&mut self, row_bytes: usize) {
        let fitting = (PAGE_BYTES / row_bytes.max(1)).min(MAX_PAGE_ROWS as usize) as u32;
        self.rows = fitting.clamp(1, self.ceiling);
    }

    /// After a page: moves towards the size that the rows really have, upwards at most fourfold.
    fn seen(&mut self, rows: usize, bytes: usize) {
        let grown = self.rows.saturating_mul(4);
        self.aim(bytes / rows.max(1));
        self.rows = self.rows.min(grown);
    }

    /// After the server said that a page is too much; `None` when it was a single row.
    fn halve(&mut self) -> Option<()> {
        self.ceiling = self.rows / 2;
        self.rows = self.ceiling;
        (self.rows > 0).then_some(())
    }
}

/// About how many rows a page of these columns has.
pub fn typical_page_rows(columns: &[Column]) -> u32 {
    let mut page = PageRows { rows: 0, ceiling: MAX_PAGE_ROWS };
    page.aim(columns::typical_row_bytes(columns));
    page.rows
}

/// Reads one range to its end.
pub struct Reader {
    client: Client,
    scan: Scan,
    columns: Vec<Column>,
    page: PageRows,
    row_bytes: RowBytes,
    last: Option<Key>,
}

impl Reader {
    /// A reader of `scan` from behind `after`. `columns` are those of `scan.fields`;
    /// no page has more than `page_rows` rows.
    pub fn new(client: Client, scan: Scan, columns: Vec<Column>, after: Option<Key>, page_rows: u32) -> Self {
        let page = PageRows::first(&columns, page_rows.min(MAX_PAGE_ROWS));
        Reader { client, scan, columns, page, row_bytes: RowBytes::default(), last: after }
    }

    /// Begins with what other readers of the same columns have learnt, and adds to it.
    pub fn sharing(mut self, row_bytes: RowBytes) -> Self {
        match row_bytes.0.load(Ordering::Relaxed) {
            0 => {}
            known => self.page.aim(known),
        }
        Reader { row_bytes, ..self }
    }

    /// The next rows in key order and the size of the reply in bytes; `None` at the end: an empty
    /// page, or the last key that the range can have.
    pub async fn next(&mut self) -> Result<Option<(RecordBatch, usize)>> {
        let doing = |last: &Option<Key>| match last {
            Some(key) => format!("reading the page after key {key}"),
            None => "reading the first page".to_string(),
        };
        if self.last.is_some() && self.last == self.scan.up_to {
            return Ok(None);
        }
        let page = loop {
            match self.client.page(&self.scan, self.last.as_ref(), self.page.rows).await {
                Ok(page) => break page,
                Err(e) if e.failure == Failure::TooLarge => {
                    tracing::debug!(rows = self.page.rows, reason = e.reason, "page too large: halving it");
                    self.page.halve().ok_or(e).map_err(Error::from).context(|| doing(&self.last))?;
                }
                // Lite 2.5 fails instead of saying that a collection without rows has none.
                Err(e)
                    if e.failure == Failure::Refused && self.last.is_none() && self.has_no_rows().await =>
                {
                    return Ok(None);
                }
                Err(e) => return Err(Error::from(e).context(doing(&self.last))),
            }
        };
        let bytes = page.bytes;
        let (columns, key_field) = (self.columns.clone(), self.scan.key_field.clone());
        let decode = move || columns::decode(&columns, &key_field, page.fields);
        let batch = blocking(decode).await.context(|| doing(&self.last))?;
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        self.advance(&batch).context(|| doing(&self.last))?;
        self.page.seen(batch.num_rows(), bytes);
        self.row_bytes.0.store(bytes / batch.num_rows(), Ordering::Relaxed);
        Ok(Some((batch, bytes)))
    }

    async fn has_no_rows(&self) -> bool {
        let scan = &self.scan;
        let counted = self.client.count(&scan.collection, scan.partition.as_deref(), "", scan.view).await;
        counted.is_ok_and(|rows| rows == 0)
    }

    /// Checks that a page goes on where the last one ended: a server that repeats, reorders or
    /// overshoots would otherwise make rows double or vanish.
    fn advance(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = Keys::of(batch, &self.scan.key_field)?;
        if let Some(row) = keys.first_out_of_order(self.last.as_ref()) {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("the server sent key {} out of order, so rows could be missing", keys.get(row)),
            ));
        }
        let last = keys.last();
        if let (Some(last), Some(up_to)) = (&last, &self.scan.up_to)
            && last > up_to
        {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("the server sent key {last}, which is beyond the range that was asked for"),
            ));
        }
        self.last = last;
        Ok(())
    }
}

/// The keys in a page of keys alone, in order; `None` for an empty page.
pub fn decode_keys(schema: &Schema, fields: Vec<FieldData>) -> Result<Option<Vec<Key>>> {
    let column = key_column(schema);
    let batch = columns::decode(std::slice::from_ref(&column), &column.name, fields)?;
    let keys = Keys::of(&batch, &column.name)?;
    Ok((!keys.is_empty()).then(|| (0..keys.len()).map(|row| keys.get(row)).collect()))
}

/// The primary key as a column.
pub fn key_column(schema: &Schema) -> Column {
    Column::of(schema.primary_key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::FieldType;

    #[test]
    fn pages_follow_the_size_of_rows_and_what_the_server_bears() {
        let vector = Column {
            name: "v".into(),
            kind: FieldType::FloatVector { dim: 1024 },
            nullable: false,
            dynamic: false,
        };
        let mut page = PageRows::first(&[vector], MAX_PAGE_ROWS);
        assert_eq!(page.rows, 3_072);
        page.seen(3_072, 3_072 * 100);
        assert_eq!(page.rows, 12_288, "grows at most fourfold at once");
        page.seen(12_288, 12_288 * 100);
        assert_eq!(page.rows, MAX_PAGE_ROWS);
        page.halve().unwrap();
        page.seen(8_192, 8_192 * 100);
        assert_eq!(page.rows, 8_192, "never again more than the server bears");
        page.seen(10, 10 * (100 << 20));
        assert_eq!(page.rows, 1);
        assert!(page.halve().is_none());

        let json = Column { name: "j".into(), kind: FieldType::Json, nullable: false, dynamic: false };
        let page = PageRows::first(&[json], MAX_PAGE_ROWS);
        assert_eq!(page.rows, 768, "each of them could have 64 KiB");
    }
}
