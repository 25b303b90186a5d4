//! Step 7: one unit after another, several at a time, each into parts and a receipt.
//!
//! Others may work on the same units: another export of the same plan, or a worker that was
//! started twice. The first receipt counts; whoever comes later removes what it has put itself.

use super::begin::{Begun, read_receipt};
use super::{Effort, Moment, source_changed};
use crate::blocking::blocking;
use crate::columns::Keys;
use crate::digest::{Hasher, Sha256};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{Client, Scan, View};
use crate::pages::{Reader, RowBytes};
use crate::part::{FinishedPart, PartWriter};
use crate::progress::Progress;
use crate::snapshot::{CollectionMeta, Part, Receipt, Unit, keys};
use crate::store::{Body, Put, Store};
use arrow_array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that wait between the reader and the writer of a unit: one, so that the next page is
/// asked for while this one is encoded, and no more is held.
const BATCHES_IN_FLIGHT: usize = 1;

/// What all units share.
pub struct Exporter<'a> {
    /// The server.
    pub source: &'a Client,
    /// The export that they belong to.
    pub begun: &'a Begun,
    /// When their rows are read: one for all, because servers make every new one wait for their next time tick.
    pub moment: Moment,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// How many at a time, and the size of pages.
    pub effort: Effort,
    /// What people see of it.
    pub progress: &'a Progress,
}

/// The receipt of a unit.
struct Done {
    receipt: Receipt,
    /// Whether somebody else had made it.
    by_other: bool,
}

/// What came of exporting units.
pub struct Exported {
    /// The receipts of all units that were to be done, in no order.
    pub receipts: Vec<Receipt>,
    /// How many of them somebody else had made meanwhile.
    pub by_others: usize,
}

impl Exporter<'_> {
    /// Exports the units in `todo`, those with the most `rows` first.
    pub async fn export_all(&self, mut todo: Vec<&Unit>, rows: &HashMap<String, u64>) -> Result<Exported> {
        todo.sort_by_key(|unit| std::cmp::Reverse(rows.get(&unit.id)));
        let lanes = lanes(self.begun, &todo, rows, self.progress);
        let row_bytes: Vec<_> = self.begun.plan.collections.iter().map(|_| RowBytes::default()).collect();
        let done: Vec<Done> = stream::iter(todo)
            .map(|unit| {
                let meta = &self.begun.plan.collections[unit.collection];
                let row_bytes = row_bytes[unit.collection].clone();
                let lane = &lanes[&unit.collection];
                async move {
                    let done = self.export(meta, unit, row_bytes, lane).await;
                    let done = done.context(|| format!("export of {}", meta.name))?;
                    lane.piece_done();
                    Ok::<_, Error>(done)
                }
            })
            .buffer_unordered(self.effort.jobs)
            .try_collect()
            .await?;
        let by_others = done.iter().filter(|done| done.by_other).count();
        Ok(Exported { receipts: done.into_iter().map(|done| done.receipt).collect(), by_others })
    }

    async fn export(
        &self,
        meta: &CollectionMeta,
        unit: &Unit,
        row_bytes: RowBytes,
        lane: &Progress,
    ) -> Result<Done> {
        if let Some(receipt) = self.others_receipt(unit).await? {
            return Ok(Done { receipt, by_other: true });
        }
        let columns = meta.schema.columns();
        let fields = columns.iter().map(|c| c.name.clone()).collect();
        let mut reader = Reader::new(
            self.source.clone(),
            scan(meta, unit, fields, self.moment.of(meta)),
            columns.clone(),
            unit.after.clone(),
            self.effort.page_rows,
        )
        .sharing(row_bytes);
        let (sender, mut receiver) = mpsc::channel::<RecordBatch>(BATCHES_IN_FLIGHT);

        let key_field = &meta.schema.primary_key().name;
        let read = async move {
            let mut keys_digest = Hasher::default();
            let mut rows: u64 = 0;
            while let Some((batch, bytes)) = reader.next().await? {
                Keys::of(&batch, key_field)?.hash_into(&mut keys_digest);
                rows += batch.num_rows() as u64;
                lane.add(batch.num_rows() as u64, bytes as u64);
                if sender.send(batch).await.is_err() {
                    break; // The writer has failed and says why, or somebody else was faster.
                }
            }
            Ok::<_, Error>((rows, keys_digest.finish()))
        };
        let mut parts: Vec<Part> = Vec::new();
        let write = async {
            let mut open: Option<PartWriter> = None;
            loop {
                let batch = receiver.recv().await;
                let ended = batch.is_none();
                if let Some(batch) = batch {
                    let mut writer = match open.take() {
                        Some(writer) => writer,
                        None => PartWriter::new(&columns, key_field, self.store.spool()?)?,
                    };
                    open = Some(blocking(move || writer.write(&batch).map(|()| writer)).await?);
                }
                let full = |writer: &mut PartWriter| writer.bytes() >= self.begun.plan.request.part_size;
                if let Some(writer) = open.take_if(|writer| ended || full(writer)) {
                    if let Some(theirs) = self.others_receipt(unit).await? {
                        drop(receiver);
                        return Ok(Some(theirs));
                    }
                    parts.extend(self.put_part(writer, meta, unit, parts.len()).await?);
                }
                if ended {
                    return Ok(None);
                }
            }
        };
        let (rows, keys_sha256) = match tokio::try_join!(read, write) {
            Ok((read, None)) => read,
            Ok((_, Some(theirs))) => {
                self.remove_unused(&parts, &theirs).await;
                return Ok(Done { receipt: theirs, by_other: true });
            }
            Err(error) => {
                if let Ok(Some(theirs)) = self.others_receipt(unit).await {
                    self.remove_unused(&parts, &theirs).await;
                }
                return Err(error);
            }
        };
        let written: u64 = parts.iter().map(|part| part.rows).sum();
        if written != rows {
            return Err(Error::internal(format!("{rows} rows were read and {written} written")));
        }
        let plan_id = self.begun.plan.id.clone();
        let receipt = Receipt { plan_id, unit: unit.id.clone(), parts, rows, keys_sha256 };
        self.put_receipt(receipt, meta, unit).await
    }

    /// The receipt that somebody else has put for this unit meanwhile. Asked for before anything is
    /// put: beside a receipt, nothing else is a part of the snapshot.
    async fn others_receipt(&self, unit: &Unit) -> Result<Option<Receipt>> {
        read_receipt(&self.begun.plan, unit, self.store.as_ref()).await
    }

    async fn put_part(
        &self,
        writer: PartWriter,
        meta: &CollectionMeta,
        unit: &Unit,
        sequence: usize,
    ) -> Result<Option<Part>> {
        let Some(finished) = blocking(move || writer.finish()).await? else { return Ok(None) };
        let FinishedPart { file, size, sha256, rows, first, last, nulls } = finished;
        let (name, store) = (&meta.name, self.store.as_ref());
        let partition = unit.partition.as_deref();
        let key = keys::part(&name.database, &name.name, partition, &unit.id, sequence, sha256);
        self.begun.may_put(store).await?;
        if store.put_new(&key, Body::File(file), sha256).await? == Put::Exists {
            // An earlier run of this unit got as far as this part. The name says what should be in it.
            let found = store.head(&key).await?.map(|head| (head.size, head.sha256.unwrap_or(sha256)));
            if found != Some((size, sha256)) && !holds(&key, size, sha256, store).await? {
                return Err(Error::new(ErrorKind::Integrity, format!("{key} exists with another content"))
                    .hint("something else writes to this prefix; export under another name"));
            }
        }
        Ok(Some(Part { key, partition: unit.partition.clone(), size, sha256, rows, first, last, nulls }))
    }

    /// Puts the receipt. If another exporter of the same plan was faster, its receipt counts, and it
    /// must speak of the same rows, unless the user has accepted that they differ.
    async fn put_receipt(&self, receipt: Receipt, meta: &CollectionMeta, unit: &Unit) -> Result<Done> {
        let key = keys::receipt(&unit.id);
        let bytes = receipt.to_bytes()?;
        let digest = Sha256::of(&bytes);
        self.begun.may_put(self.store.as_ref()).await?;
        if self.store.put_new(&key, Body::Bytes(bytes.into()), digest).await? == Put::Created {
            return Ok(Done { receipt, by_other: false });
        }
        self.begun.may_put(self.store.as_ref()).await?;
        let theirs = self
            .others_receipt(unit)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Integrity, format!("{key} exists and cannot be found")))?;
        let may_differ = self.begun.plan.request.allow_writes && meta.pin.is_none();
        if theirs.keys_sha256 != receipt.keys_sha256 && !may_differ {
            return Err(source_changed(format!("two exporters have read different rows of {}", unit.id)));
        }
        self.remove_unused(&receipt.parts, &theirs).await;
        Ok(Done { receipt: theirs, by_other: true })
    }

    /// Removes those of our `parts` that the receipt of somebody else does not speak of.
    /// Whoever commits looks for such parts too, so one that cannot be removed is only said. Where
    /// the bucket does not keep exports apart, it might be another export's by now.
    async fn remove_unused(&self, parts: &[Part], theirs: &Receipt) {
        if !self.begun.exclusive {
            return;
        }
        for part in parts.iter().filter(|ours| theirs.parts.iter().all(|part| part.key != ours.key)) {
            if let Err(e) = self.store.delete(&part.key).await {
                tracing::warn!("{} is not needed and could not be removed: {e}", part.key);
            }
        }
    }
}

/// The progress of each collection that is worked on, with what an earlier run has done of it.
fn lanes(
    begun: &Begun,
    todo: &[&Unit],
    rows: &HashMap<String, u64>,
    progress: &Progress,
) -> HashMap<usize, Progress> {
    let lane = |index: usize| {
        let own: Vec<_> = todo.iter().filter(|unit| unit.collection == index).collect();
        let units = begun.plan.units.iter().filter(|unit| unit.collection == index);
        let done: Vec<_> = units.filter_map(|unit| begun.done.get(&unit.id)).collect();
        let left: u64 = own.iter().filter_map(|unit| rows.get(&unit.id)).sum();
        let total = left + done.iter().map(|receipt| receipt.rows).sum::<u64>();
        let name = &begun.plan.collections[index].name;
        let lane = progress.collection(name, total, own.len() + done.len());
        for receipt in done {
            lane.add_before(receipt.rows, receipt.parts.iter().map(|p| p.size).sum());
            lane.piece_done();
        }
        lane
    };
    let concerned: BTreeSet<_> = todo.iter().map(|unit| unit.collection).collect();
    concerned.into_iter().map(|index| (index, lane(index))).collect()
}

/// The scan of a unit's rows, for the given fields.
pub fn scan(meta: &CollectionMeta, unit: &Unit, fields: Vec<String>, view: View) -> Scan {
    Scan {
        collection: meta.name.clone(),
        collection_id: meta.collection_id,
        partition: unit.partition.clone(),
        key_field: meta.schema.primary_key().name.clone(),
        up_to: unit.up_to.clone(),
        among: Vec::new(),
        fields,
        view,
    }
}

/// Whether an object has these bytes, found out by reading it: buckets may return wrong digests.
pub async fn holds(key: &str, size: u64, sha256: Sha256, store: &dyn Store) -> Result<bool> {
    let Some(mut chunks) = store.read(key).await? else { return Ok(false) };
    let (mut hasher, mut read) = (Hasher::default(), 0);
    while let Some(chunk) = chunks.try_next().await? {
        read += chunk.len() as u64;
        if read > size {
            return Ok(false);
        }
        hasher.update(&chunk);
    }
    Ok(read == size && hasher.finish() == sha256)
}
