//! Inspect: what a snapshot holds, for people who have nothing but the bucket.
//!
//! Owns: gathering the answer. Does not own: how it is printed (`output`).

use crate::blocking::blocking;
use crate::capacity::{Estimate, Load};
use crate::columns::row_json;
use crate::error::{Context, Result};
use crate::fetch::fetch;
use crate::opened::{self, Opened, Trust};
use crate::part::PartReader;
use crate::snapshot::CollectionResult;
use crate::store::Store;
use serde_json::Value;

/// What a snapshot holds.
pub struct Report {
    /// The snapshot.
    pub opened: Opened,
    /// What a target needs for all of it.
    pub capacity: Estimate,
    /// The first rows of every collection, in the order of the manifest.
    pub first_rows: Vec<Vec<Value>>,
}

/// Looks into the snapshot in `store`; with `rows`, reads the first part of every collection.
pub async fn run(store: &dyn Store, trust: &Trust, rows: usize) -> Result<Report> {
    let opened = opened::open(store, trust).await?;
    let mut first_rows = Vec::new();
    let mut load = Load::default();
    for collection in &opened.manifest.collections {
        load = load.plus(Load::of(&collection.meta.schema, collection.rows(), collection.bytes()));
        let first = head(store, collection, rows).await;
        first_rows.push(first.context(|| format!("first rows of {}", collection.meta.name))?);
    }
    Ok(Report { capacity: load.estimate(), first_rows, opened })
}

/// The rows with the smallest keys of the first parts.
async fn head(store: &dyn Store, collection: &CollectionResult, wanted: usize) -> Result<Vec<Value>> {
    let columns = collection.meta.schema.columns();
    let key_field = collection.meta.schema.primary_key().name.clone();
    let mut shown = Vec::new();
    for part in &collection.parts {
        if shown.len() >= wanted {
            break;
        }
        let file = fetch(store, part).await?;
        let (columns, key_field, part) = (columns.clone(), key_field.clone(), part.clone());
        let missing = wanted - shown.len();
        let rows = blocking(move || {
            let mut reader = PartReader::open(file, &columns, &key_field, &part, missing.min(1_000))?;
            let mut rows = Vec::new();
            while rows.len() < missing {
                let Some(batch) = reader.next_batch()? else { break };
                let more = (0..batch.num_rows()).map(|row| row_json(&columns, &batch, row));
                rows.extend(more.take(missing - rows.len()));
            }
            Ok(rows)
        });
        shown.extend(rows.await?);
    }
    Ok(shown)
}
