//! The snapshot's side of a merge: rows of many parts in the order of their keys.
//!
//! Owns: the order of parts, and laying those of several partitions into one row of keys. Does
//! not own: reading a part (`fetch`, `part`), or what rows are compared with.

use super::merge::Batches;
use super::shape::Shape;
use crate::blocking::blocking;
use crate::columns::{Keys, typical_row_bytes};
use crate::error::{Context, Error, Result};
use crate::fetch::fetch;
use crate::part::PartReader;
use crate::progress::Progress;
use crate::schema::Key;
use crate::snapshot::Part;
use crate::store::Store;
use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes that a batch of a part should have, by what its rows take in the file.
const BATCH_BYTES: usize = 4 << 20;

/// Most rows of a batch: compressed columns may turn out much larger than they were stored.
const MAX_BATCH_ROWS: usize = 8_192;

/// Parts of one partition (or of none) in key order.
pub(super) type Chain<'a> = Vec<&'a Part>;

/// The parts of a collection, by the partition that they are attributed to. Within a partition
/// they stand in key order and do not overlap: a manifest is held to that when it is read.
pub(super) fn chains(parts: &[Part]) -> BTreeMap<Option<&str>, Chain<'_>> {
    let mut chains: BTreeMap<Option<&str>, Chain> = BTreeMap::new();
    for part in parts {
        chains.entry(part.partition.as_deref()).or_default().push(part);
    }
    chains
}

/// The rows of one chain, in batches of some megabytes. Every part is hashed before it is read.
pub(super) struct PartRows {
    store: Arc<dyn Store>,
    shape: Arc<Shape>,
    waiting: VecDeque<Part>,
    open: Option<(Part, PartReader)>,
    progress: Progress,
}

impl PartRows {
    /// A reader of `chain`; the rows count towards `progress`.
    pub fn new(store: Arc<dyn Store>, shape: Arc<Shape>, chain: &[&Part], progress: Progress) -> Self {
        let waiting = chain.iter().map(|part| (*part).clone()).collect();
        PartRows { store, shape, waiting, open: None, progress }
    }

    async fn open_next(&mut self) -> Result<Option<(Part, PartReader)>> {
        let Some(part) = self.waiting.pop_front() else { return Ok(None) };
        let file = fetch(self.store.as_ref(), &part).await?;
        let shape = self.shape.clone();
        let about = format!("part {}", part.key);
        let opened = blocking(move || {
            let rows = batch_rows(&shape, &part);
            let reader = PartReader::open(file, &shape.snapshot, &shape.key, &part, rows)?;
            Ok((part, reader))
        });
        opened.await.context(|| about).map(Some)
    }
}

fn batch_rows(shape: &Shape, part: &Part) -> usize {
    let stored = (part.size / part.rows.max(1)) as usize;
    let row_bytes = stored.max(typical_row_bytes(&shape.snapshot)).max(1);
    (BATCH_BYTES / row_bytes).clamp(1, MAX_BATCH_ROWS)
}

impl Batches for PartRows {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let (part, mut reader) = match self.open.take() {
                Some(open) => open,
                None => match self.open_next().await? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let about = format!("part {}", part.key);
            let read = blocking(move || reader.next_batch().map(|batch| (reader, batch)));
            let (reader, batch) = read.await.context(|| about)?;
            if let Some(batch) = batch {
                self.progress.add(batch.num_rows() as u64, 0);
                self.open = Some((part, reader));
                return Ok(Some(batch));
            }
        }
    }
}

/// Several chains as one: for servers that cannot be asked for the rows of one partition. A key
/// that stands in several chains comes as often.
pub(super) struct Interleaved<B> {
    chains: Vec<Side<B>>,
    key: String,
}

struct Side<B> {
    rows: B,
    at_hand: Option<RecordBatch>,
}

impl<B: Batches> Interleaved<B> {
    /// Interleaves `chains` by the column `key`. Holds one batch of each.
    pub fn new(chains: Vec<B>, key: &str) -> Self {
        let chains = chains.into_iter().map(|rows| Side { rows, at_hand: None }).collect();
        Interleaved { chains, key: key.to_string() }
    }
}

impl<B: Batches> Batches for Interleaved<B> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        for side in &mut self.chains {
            while side.at_hand.as_ref().is_none_or(|b| b.num_rows() == 0) {
                side.at_hand = side.rows.next().await?;
                if side.at_hand.is_none() {
                    break;
                }
            }
        }
        // A chain that has ended has nothing to add any more.
        self.chains.retain(|side| side.at_hand.is_some());
        if let [only] = self.chains.as_mut_slice() {
            return Ok(only.at_hand.take());
        }
        let mut batches: Vec<RecordBatch> = self.chains.iter().filter_map(|s| s.at_hand.clone()).collect();
        let key = self.key.clone();
        let work = blocking(move || {
            let taken = up_to_the_nearest_end(&mut batches, &key)?;
            Ok((taken, batches))
        });
        let (taken, rest) = work.await?;
        for (side, rest) in self.chains.iter_mut().zip(rest) {
            side.at_hand = Some(rest);
        }
        Ok(taken)
    }
}

/// Takes from all batches, none of them empty, what is certain to come next: the rows up to the
/// smallest of their last keys. At least one batch is empty afterwards.
fn up_to_the_nearest_end(batches: &mut [RecordBatch], key: &str) -> Result<Option<RecordBatch>> {
    let mut nearest: Option<Key> = None;
    for batch in batches.iter() {
        let last = Keys::of(batch, key)?.last();
        nearest = match (nearest, last) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    let Some(nearest) = nearest else { return Ok(None) };
    let mut taken = Vec::new();
    for batch in batches.iter_mut() {
        let keys = Keys::of(batch, key)?;
        let (mut low, mut high) = (0, keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if keys.get(middle) <= nearest { low = middle + 1 } else { high = middle }
        }
        taken.push(batch.slice(0, low));
        *batch = batch.slice(low, batch.num_rows() - low);
    }
    let schema = taken[0].schema();
    let together = concat_batches(&schema, &taken).map_err(unmergeable)?;
    sorted(&together, key).map(Some)
}

/// The rows of a batch in the order of their keys.
fn sorted(batch: &RecordBatch, key: &str) -> Result<RecordBatch> {
    let keys = Keys::of(batch, key)?;
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    match keys {
        Keys::Int(keys) => order.sort_by_key(|row| keys[*row as usize]),
        Keys::Text(keys) => order.sort_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize))),
    }
    chosen(batch, order)
}

/// Some rows of a batch, in this order.
pub(super) fn chosen(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    take_record_batch(batch, &UInt32Array::from(rows)).map_err(unmergeable)
}

fn unmergeable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("rows cannot be put in order").because(error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::Sha256;
    use arrow_array::{ArrayRef, Int64Array};

    pub fn part(partition: Option<&str>, first: i64, last: i64) -> Part {
        Part {
            key: format!("data/default/a/{}/{first}", partition.unwrap_or("-")),
            partition: partition.map(str::to_string),
            size: 1,
            sha256: Sha256::of(b""),
            rows: 1,
            first: Key::Int(first),
            last: Key::Int(last),
            nulls: BTreeMap::new(),
        }
    }

    fn batches(keys: &[&[i64]]) -> std::vec::IntoIter<RecordBatch> {
        let batch = |keys: &&[i64]| {
            let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
            RecordBatch::try_from_iter([("id", column)]).unwrap()
        };
        keys.iter().map(batch).collect::<Vec<_>>().into_iter()
    }

    #[tokio::test]
    async fn chains_are_interleaved_by_key() {
        let chains = vec![
            batches(&[&[1, 4], &[], &[9]]),
            batches(&[]),
            batches(&[&[2], &[3], &[4, 5, 6]]),
            batches(&[&[-7, 20, 30], &[40]]),
        ];
        let mut rows = Interleaved::new(chains, "id");
        let mut keys = Vec::new();
        while let Some(batch) = rows.next().await.unwrap() {
            let batch_keys = Keys::of(&batch, "id").unwrap();
            keys.extend((0..batch_keys.len()).map(|row| batch_keys.get(row)));
        }
        assert_eq!(keys, [-7, 1, 2, 3, 4, 4, 5, 6, 9, 20, 30, 40].map(Key::Int));
        assert!(rows.next().await.unwrap().is_none());
        assert!(Interleaved::new(vec![batches(&[])], "id").next().await.unwrap().is_none());
    }
}
