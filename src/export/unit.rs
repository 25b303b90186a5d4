//! Step 7: one unit after another, several at a time, each into parts and a receipt.

use super::begin::Begun;
use super::{Options, source_changed};
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
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that wait between the reader and the writer of a unit: one, so that the next page is
/// asked for while this one is encoded, and no more is held.
const BATCHES_IN_FLIGHT: usize = 1;

/// Exports every unit that has no receipt yet, `options.jobs` at a time, those with the most `rows`
/// first; gives all receipts in the order of the plan. `views` are by collection: one for all units, because
/// servers make every new one wait for their next time tick.
pub async fn export_all(
    source: &Client,
    begun: &Begun,
    rows: &HashMap<String, u64>,
    views: &[View],
    store: Arc<dyn Store>,
    options: &Options,
    progress: &Progress,
) -> Result<Vec<Receipt>> {
    let lanes = lanes(begun, rows, progress);
    let mut todo: Vec<_> =
        begun.plan.units.iter().filter(|unit| !begun.done.contains_key(&unit.id)).collect();
    todo.sort_by_key(|unit| std::cmp::Reverse(rows.get(&unit.id)));
    let row_bytes: Vec<_> = begun.plan.collections.iter().map(|_| RowBytes::default()).collect();
    let fresh: Vec<Receipt> = stream::iter(todo)
        .map(|unit| {
            let meta = &begun.plan.collections[unit.collection];
            let row_bytes = row_bytes[unit.collection].clone();
            let (view, lane) = (views[unit.collection], &lanes[unit.collection]);
            let work = export(source, begun, meta, unit, view, row_bytes, store.clone(), options, lane);
            async move {
                let receipt = work.await.context(|| format!("export of {}", meta.name))?;
                lane.piece_done();
                Ok::<_, Error>(receipt)
            }
        })
        .buffer_unordered(options.jobs)
        .try_collect()
        .await?;
    let mut receipts = begun.done.clone();
    receipts.extend(fresh.into_iter().map(|receipt| (receipt.unit.clone(), receipt)));
    let in_order = begun.plan.units.iter().filter_map(|unit| receipts.remove(&unit.id));
    Ok(in_order.collect())
}

/// The progress of each collection, with what an earlier run has done of it.
fn lanes(begun: &Begun, rows: &HashMap<String, u64>, progress: &Progress) -> Vec<Progress> {
    let lane = |(index, meta): (usize, &CollectionMeta)| {
        let units: Vec<_> = begun.plan.units.iter().filter(|unit| unit.collection == index).collect();
        let total = units.iter().filter_map(|unit| rows.get(&unit.id)).sum();
        let lane = progress.collection(&meta.name, total, units.len());
        for receipt in units.iter().filter_map(|unit| begun.done.get(&unit.id)) {
            lane.add_before(receipt.rows, receipt.parts.iter().map(|p| p.size).sum());
            lane.piece_done();
        }
        lane
    };
    begun.plan.collections.iter().enumerate().map(lane).collect()
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

#[allow(clippy::too_many_arguments)] // Each is another thing; a struct would only hide them.
async fn export(
    source: &Client,
    begun: &Begun,
    meta: &CollectionMeta,
    unit: &Unit,
    view: View,
    row_bytes: RowBytes,
    store: Arc<dyn Store>,
    options: &Options,
    progress: &Progress,
) -> Result<Receipt> {
    let columns = meta.schema.columns();
    let fields = columns.iter().map(|c| c.name.clone()).collect();
    let mut reader = Reader::new(
        source.clone(),
        scan(meta, unit, fields, view),
        columns.clone(),
        unit.after.clone(),
        options.page_rows,
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
            progress.add(batch.num_rows() as u64, bytes as u64);
            if sender.send(batch).await.is_err() {
                break; // The writer has failed and says why.
            }
        }
        Ok::<_, Error>((rows, keys_digest.finish()))
    };
    let write = async {
        let mut parts = Vec::new();
        let mut open: Option<PartWriter> = None;
        while let Some(batch) = receiver.recv().await {
            let mut writer = match open.take() {
                Some(writer) => writer,
                None => PartWriter::new(&columns, key_field, store.spool()?)?,
            };
            let writer = blocking(move || writer.write(&batch).map(|()| writer)).await?;
            if writer.bytes() >= begun.plan.request.part_size {
                parts.extend(put_part(writer, begun, unit, parts.len(), store.as_ref()).await?);
            } else {
                open = Some(writer);
            }
        }
        if let Some(writer) = open {
            parts.extend(put_part(writer, begun, unit, parts.len(), store.as_ref()).await?);
        }
        Ok::<_, Error>(parts)
    };
    let ((rows, keys_sha256), parts) = tokio::try_join!(read, write)?;
    let written: u64 = parts.iter().map(|p: &Part| p.rows).sum();
    if written != rows {
        return Err(Error::internal(format!("{rows} rows were read and {written} written")));
    }
    let receipt = Receipt { plan_id: begun.plan.id.clone(), unit: unit.id.clone(), parts, rows, keys_sha256 };
    put_receipt(receipt, begun, unit, store.as_ref()).await
}

async fn put_part(
    writer: PartWriter,
    begun: &Begun,
    unit: &Unit,
    sequence: usize,
    store: &dyn Store,
) -> Result<Option<Part>> {
    let Some(finished) = blocking(move || writer.finish()).await? else { return Ok(None) };
    let FinishedPart { file, size, sha256, rows, first, last, nulls } = finished;
    let name = &begun.plan.collections[unit.collection].name;
    let key = keys::part(&name.database, &name.name, unit.partition.as_deref(), &unit.id, sequence, sha256);
    begun.may_put(store).await?;
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

/// Puts the receipt. If another exporter of the same plan was faster, its receipt counts, and it
/// must speak of the same rows.
async fn put_receipt(receipt: Receipt, begun: &Begun, unit: &Unit, store: &dyn Store) -> Result<Receipt> {
    let key = keys::receipt(&unit.id);
    let bytes = receipt.to_bytes()?;
    let digest = Sha256::of(&bytes);
    begun.may_put(store).await?;
    match store.put_new(&key, Body::Bytes(bytes.into()), digest).await? {
        Put::Created => Ok(receipt),
        Put::Exists => {
            begun.may_put(store).await?;
            let theirs = super::begin::read_receipt(&begun.plan, unit, store).await?.ok_or_else(|| {
                Error::new(ErrorKind::Integrity, format!("{key} exists and cannot be found"))
            })?;
            if theirs.keys_sha256 != receipt.keys_sha256 {
                return Err(source_changed(format!("two exporters have read different rows of {}", unit.id)));
            }
            Ok(theirs)
        }
    }
}
