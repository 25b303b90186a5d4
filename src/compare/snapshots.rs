//! The rows of one collection in two snapshots, laid beside each other by their keys.
//!
//! Owns: which rows of the two meet, and leaving out what need not be read. Does not own: the merge
//! (`merge`), reading parts (`rows`), or what is said of all that (`diff`).
//!
//! A part that both sides have, byte for byte and in the same partition, has the same rows on both:
//! its keys stand in no other part of that partition, so it is not read.

use super::found::Found;
use super::merge::{Batches, Merged, merge};
use super::rows::{Chain, Interleaved, PartRows, chains};
use super::shape::{self, Shape, Side};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::select::AutoId;
use crate::snapshot::{CollectionResult, Part};
use crate::store::Store;
use arrow_array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A collection of a snapshot.
#[derive(Clone)]
pub struct InSnapshot<'a> {
    /// Where the parts are.
    pub store: Arc<dyn Store>,
    /// The collection.
    pub collection: &'a CollectionResult,
}

/// What two snapshots have of a collection.
#[derive(Debug, Default)]
pub struct SnapshotRows {
    /// Missing: only on the left; extra: only on the right; changed: on both, with other values.
    pub found: Found,
    /// Rows of both sides that were read and laid beside each other.
    pub compared: u64,
    /// Rows of parts that both sides have byte for byte.
    pub same_parts: u64,
    /// Columns that only one side has in a form that could be compared.
    pub fields_not_compared: Vec<String>,
}

/// Compares the rows of a collection in two snapshots; `None` if they have no common key. Memory is
/// bounded by `jobs`, whatever the sides hold; of each kind the first `first` findings are kept.
pub async fn snapshots(
    left: &InSnapshot<'_>,
    right: &InSnapshot<'_>,
    jobs: usize,
    first: usize,
    progress: &Progress,
) -> Result<Option<SnapshotRows>> {
    // 1. Which columns can be compared.
    let side = |of: &InSnapshot| (of.collection.meta.schema.clone(), of.collection.meta.partitions.clone());
    let ((a, a_partitions), (b, b_partitions)) = (side(left), side(right));
    let sides =
        [Side { schema: &a, partitions: &a_partitions }, Side { schema: &b, partitions: &b_partitions }];
    let (_, Some(shape)) = shape::compare(sides[0], sides[1], AutoId::Preserve) else { return Ok(None) };
    let shapes = Shapes::new(shape, right.collection)?;

    // 2. Which parts have to be read, and which rows can meet.
    let (groups, same_parts) = groups(left.collection, right.collection);

    // 3. The merges, in order, so that the findings that are kept are those with the smallest keys.
    let merge_one = |group| merge_group(left, right, &shapes, group, progress);
    let mut results = stream::iter(groups).map(merge_one).buffered(jobs);
    let mut all = SnapshotRows {
        same_parts,
        fields_not_compared: shapes.left.not_compared.clone(),
        ..SnapshotRows::default()
    };
    while let Some(merged) = results.try_next().await? {
        all.compared += merged.compared;
        all.found.append(merged.found);
        all.found.keep_first(first);
    }
    Ok(Some(all))
}

/// How both sides are read.
struct Shapes {
    /// What is compared, and the columns of the left side's parts.
    left: Arc<Shape>,
    /// Only the columns of the right side's parts.
    right: Arc<Shape>,
    /// Where the right side's compared columns stand among them.
    chosen: Vec<usize>,
}

impl Shapes {
    fn new(shape: Shape, right: &CollectionResult) -> Result<Self> {
        let columns = right.meta.schema.columns();
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let chosen: Option<Vec<usize>> = shape.server.iter().map(|column| place(&column.name)).collect();
        let chosen = chosen.ok_or_else(|| Error::internal("a column is compared that is not there"))?;
        let right = Shape {
            key: shape.key.clone(),
            snapshot: columns,
            server: Vec::new(),
            pairs: Vec::new(),
            not_compared: Vec::new(),
        };
        Ok(Shapes { left: Arc::new(shape), right: Arc::new(right), chosen })
    }
}

/// Rows that can meet: those of a partition, or all where one of the sides does not say of every
/// row which partition it is in.
struct Group<'a> {
    partition: Option<&'a str>,
    left: Vec<Chain<'a>>,
    right: Vec<Chain<'a>>,
}

/// The groups with what is left to read, and the rows of the parts that both sides have.
fn groups<'a>(left: &'a CollectionResult, right: &'a CollectionResult) -> (Vec<Group<'a>>, u64) {
    let identity = |part: &'a Part| (part.partition.as_deref(), part.sha256);
    let known: HashSet<_> = left.parts.iter().map(identity).collect();
    let common: HashSet<_> = right.parts.iter().map(identity).filter(|part| known.contains(part)).collect();
    let same = left.parts.iter().filter(|part| common.contains(&identity(part))).map(|part| part.rows).sum();
    let to_read = |collection: &'a CollectionResult| {
        let mut chains: BTreeMap<Option<&str>, Chain> = chains(&collection.parts);
        for chain in chains.values_mut() {
            chain.retain(|part| !common.contains(&identity(part)));
        }
        chains.retain(|_, chain| !chain.is_empty());
        chains
    };
    let (mut a, mut b) = (to_read(left), to_read(right));
    let attributed = |c: &CollectionResult| {
        !c.meta.schema.has_partition_key() && c.parts.iter().all(|part| part.partition.is_some())
    };
    if !(attributed(left) && attributed(right)) {
        let [left, right] = [a, b].map(|chains| chains.into_values().collect());
        return (vec![Group { partition: None, left, right }], same);
    }
    let names: HashSet<&str> = a.keys().chain(b.keys()).flatten().copied().collect();
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    let group = |partition| Group {
        partition: Some(partition),
        left: a.remove(&Some(partition)).into_iter().collect(),
        right: b.remove(&Some(partition)).into_iter().collect(),
    };
    (names.into_iter().map(group).collect(), same)
}

async fn merge_group(
    left: &InSnapshot<'_>,
    right: &InSnapshot<'_>,
    shapes: &Shapes,
    group: Group<'_>,
    progress: &Progress,
) -> Result<Merged> {
    let open = |side: &InSnapshot, shape: &Arc<Shape>, chain: &Chain| {
        PartRows::new(side.store.clone(), shape.clone(), chain, progress.clone())
    };
    let a = group.left.iter().map(|chain| open(left, &shapes.left, chain)).collect();
    let b = group.right.iter().map(|chain| open(right, &shapes.right, chain)).collect();
    let key = &shapes.left.key;
    let mut a = Interleaved::new(a, key);
    let mut b = Chosen { rows: Interleaved::new(b, key), columns: shapes.chosen.clone() };
    let merging = merge(&shapes.left, group.partition, &mut a, &mut b);
    merging.await.context(|| format!("rows of partition {:?}", group.partition.unwrap_or("any")))
}

/// Some columns of rows, in an order of their own.
struct Chosen<B> {
    rows: B,
    columns: Vec<usize>,
}

impl<B: Batches> Batches for Chosen<B> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.rows.next().await? else { return Ok(None) };
        let chosen = batch.project(&self.columns);
        chosen.map(Some).map_err(|e| Error::internal("columns cannot be chosen").because(e))
    }
}
