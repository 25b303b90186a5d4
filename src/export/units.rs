//! Step 5: cutting collections into ranges that workers can export side by side.
//!
//! By partition first (rows do not carry theirs), unless rows are placed by a partition key; then
//! by ranges of integer keys with about the same number of rows, found with filtered counts.

use super::view;
use crate::error::{Context, Error, Result};
use crate::milvus::{Client, Scan, View};
use crate::pages;
use crate::schema::{FieldType, Key};
use crate::snapshot::{CollectionMeta, Unit, keys};

/// Rows below which a range is not cut further: smaller ones cost more requests than they save.
const SPLIT_ROWS: u64 = 50_000;

/// Counts that looking for one boundary may take.
const MAX_PROBES: usize = 24;

/// The units of an export.
pub struct Units {
    /// Every range of every collection, exactly once.
    pub units: Vec<Unit>,
    /// Rows that the server counts now: for progress only.
    pub rows: u64,
}

/// Cuts so that about `jobs` workers are busy to the end.
pub async fn cut(source: &Client, collections: &[CollectionMeta], jobs: usize) -> Result<Units> {
    let mut cut = Units { units: Vec::new(), rows: 0 };
    for (index, meta) in collections.iter().enumerate() {
        let view = view(source, meta).await?;
        let by_partition = !meta.schema.has_partition_key() && !meta.partitions.is_empty();
        let partitions: Vec<Option<String>> =
            if by_partition { meta.partitions.iter().cloned().map(Some).collect() } else { vec![None] };
        for partition in partitions {
            let range = Range { source, meta, partition: partition.as_deref(), view };
            let rows = range.count(None, None).await.context(|| format!("counting {}", meta.name))?;
            cut.rows += rows;
            let pieces = (rows / SPLIT_ROWS).clamp(1, 2 * jobs as u64);
            let bounds = match meta.schema.primary_key().kind {
                FieldType::Int64 if pieces > 1 => range.boundaries(rows, pieces).await?,
                _ => Vec::new(),
            };
            let mut after = None;
            for up_to in bounds.into_iter().map(|b| Some(Key::Int(b))).chain([None]) {
                let id = keys::unit_id(cut.units.len());
                let next = up_to.clone();
                cut.units.push(Unit { id, collection: index, partition: partition.clone(), after, up_to });
                after = next;
            }
        }
    }
    Ok(cut)
}

/// The rows of one partition (or all), about which counts are asked.
struct Range<'a> {
    source: &'a Client,
    meta: &'a CollectionMeta,
    partition: Option<&'a str>,
    view: View,
}

impl Range<'_> {
    async fn count(&self, after: Option<i64>, up_to: Option<i64>) -> Result<u64> {
        if let (None, None) = (after, up_to) {
            return self
                .source
                .count_partition(&self.meta.name, &self.meta.schema, self.partition, self.view)
                .await;
        }
        let (after, up_to) = (after.map(Key::Int), up_to.map(Key::Int));
        let filter =
            self.source.range_filter(&self.meta.schema.primary_key().name, after.as_ref(), up_to.as_ref());
        self.source.count(&self.meta.name, self.partition, &filter, self.view).await.map_err(Error::from)
    }

    /// Ascending keys that cut the rows into about `pieces` equal ranges. They need not be keys
    /// of rows; a wrong guess only makes uneven ranges.
    async fn boundaries(&self, rows: u64, pieces: u64) -> Result<Vec<i64>> {
        let Some(smallest) = self.smallest().await? else { return Ok(Vec::new()) };
        // Dense keys end where this says at once; others are found by ever wider steps.
        let mut low = (smallest.saturating_sub(1), 0);
        let mut width = (rows as i64).saturating_mul(2);
        let mut high = loop {
            let end = smallest.saturating_add(width);
            let below = self.count(None, Some(end)).await?;
            if below >= rows || end == i64::MAX {
                break (end, below.max(rows));
            }
            low = (end, below);
            width = width.saturating_mul(256);
        };
        let start = (smallest.saturating_sub(1), 0);
        let mut bounds: Vec<(i64, u64)> = Vec::new();
        if low.1 > 0 {
            // What the search for the end has learnt helps to find the first boundaries.
            bounds.push(low);
        }
        let mut found = Vec::new();
        for piece in 1..pieces {
            let target = rows * piece / pieces;
            let below = bounds.iter().rev().find(|b| b.1 <= target).copied().unwrap_or(start);
            let above = bounds.iter().find(|b| b.1 > target).copied().unwrap_or(high);
            let boundary = self.quantile(target, rows / pieces / 4, below, above).await?;
            if boundary.0 > found.last().copied().unwrap_or(i64::MIN) && boundary.0 < high.0 {
                found.push(boundary.0);
            }
            bounds.push(boundary);
            bounds.sort_unstable();
            high.1 = high.1.max(boundary.1);
        }
        Ok(found)
    }

    async fn smallest(&self) -> Result<Option<i64>> {
        let key_field = self.meta.schema.primary_key().name.clone();
        let scan = Scan {
            collection: self.meta.name.clone(),
            collection_id: self.meta.collection_id,
            partition: self.partition.map(str::to_string),
            key_field: key_field.clone(),
            up_to: None,
            among: Vec::new(),
            fields: vec![key_field],
            view: self.view,
        };
        let page = self.source.page(&scan, None, 1).await.map_err(Error::from)?;
        Ok(match pages::decode_keys(&self.meta.schema, page.fields)?.as_ref().and_then(|k| k.first()) {
            Some(Key::Int(smallest)) => Some(*smallest),
            _ => None,
        })
    }

    /// A key with about `target` rows up to it, between two known ones. Guesses by
    /// interpolation, which is right at once for evenly spread keys, and by halving in turn,
    /// which keeps clustered ones from taking forever.
    async fn quantile(
        &self,
        target: u64,
        tolerance: u64,
        below: (i64, u64),
        above: (i64, u64),
    ) -> Result<(i64, u64)> {
        let (mut low, mut high) = (below, above);
        for probe in 0..MAX_PROBES {
            let width = i128::from(high.0) - i128::from(low.0);
            if width <= 1 || target.abs_diff(low.1) <= tolerance {
                break;
            }
            let share = if probe % 3 == 2 || high.1 <= low.1 {
                width / 2
            } else {
                width * i128::from(target.saturating_sub(low.1)) / i128::from(high.1 - low.1)
            };
            let middle = (i128::from(low.0) + share.clamp(1, width - 1)) as i64;
            let rows = self.count(None, Some(middle)).await?;
            if rows <= target {
                low = (middle, rows);
            } else if rows - target <= tolerance {
                return Ok((middle, rows));
            } else {
                high = (middle, rows);
            }
        }
        Ok(low)
    }
}
