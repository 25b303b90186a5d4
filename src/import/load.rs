//! Step 6: rows from parts into the target, several parts at once.

use super::plan::Job;
use crate::blocking::blocking;
use crate::columns::{self, wire_bytes};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch::fetch;
use crate::milvus::{Client, Failure, InsertRequest, KeyPolicy, Mutation, RpcError};
use crate::part::PartReader;
use crate::progress::Progress;
use crate::schema::{CollectionName, Column};
use crate::snapshot::Part;
use crate::store::Store;
use arrow_array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of one insert request. Servers take 64 MiB; a few of these in flight stay in memory.
const INSERT_BYTES: usize = 12 << 20;

/// The most rows of one insert request.
const MAX_INSERT_ROWS: usize = 65_536;

/// Loads every part of every job, `at_once` at a time. Gives the collections in which rows were
/// upserted because a reply was lost: their statistics count those rows twice.
pub async fn all(
    target: &Client,
    jobs: &[Job<'_>],
    store: Arc<dyn Store>,
    at_once: usize,
    progress: &Progress,
) -> Result<BTreeSet<CollectionName>> {
    let parts = jobs.iter().flat_map(|job| job.source.parts.iter().map(move |part| (job, part)));
    let load = |(job, part)| {
        let work = load_part(target, job, part, store.as_ref(), progress);
        async move {
            let mutation = work.await.context(|| format!("import into {}", job.target))?;
            Ok::<_, Error>((mutation == Mutation::Upserted).then(|| job.target.clone()))
        }
    };
    let loaded: Vec<_> = stream::iter(parts).map(load).buffer_unordered(at_once).try_collect().await?;
    Ok(loaded.into_iter().flatten().collect())
}

async fn load_part(
    target: &Client,
    job: &Job<'_>,
    part: &Part,
    store: &dyn Store,
    progress: &Progress,
) -> Result<Mutation> {
    let columns = job.source.meta.schema.columns();
    let keys = job.keys;
    let key_field = job.source.meta.schema.primary_key().name.clone();
    let about = || format!("part {}", part.key);
    let file = fetch(store, part).await?;

    let rows_at_once = rows_per_insert(&columns, part);
    let opened = part.clone();
    let reader_key = key_field.clone();
    let schema = columns.clone();
    let mut reader = blocking(move || PartReader::open(file, &schema, &reader_key, &opened, rows_at_once))
        .await
        .context(about)?;

    // One request is encoded while the one before it is on its way.
    let (sender, mut receiver) = mpsc::channel::<InsertRequest>(1);
    let name = job.target.clone();
    let partition = job.partition(part).map(str::to_string);
    let read = async move {
        loop {
            let (columns, name, partition, key_field) =
                (columns.clone(), name.clone(), partition.clone(), key_field.clone());
            let step = blocking(move || {
                let Some(batch) = reader.next_batch()? else { return Ok(None) };
                let requests =
                    encode_batches(&columns, &name, partition.as_deref(), &batch, keys, &key_field)?;
                Ok(Some((reader, requests)))
            });
            let Some((next, requests)) = step.await? else { return Ok(()) };
            reader = next;
            for request in requests {
                if sender.send(request).await.is_err() {
                    return Ok(()); // The other side has failed and says why.
                }
            }
        }
    };
    let write = async {
        let mut mutation = Mutation::Inserted;
        while let Some(request) = receiver.recv().await {
            if insert(target, &request).await? == Mutation::Upserted {
                mutation = Mutation::Upserted;
            }
            progress.add(u64::from(request.rows), request.len() as u64);
        }
        Ok::<_, Error>(mutation)
    };
    let ((), mutation) = tokio::try_join!(read, write).context(about)?;
    Ok(mutation)
}

async fn insert(target: &Client, request: &InsertRequest) -> Result<Mutation> {
    target.insert(request).await.map_err(|e: RpcError| match e.failure {
        Failure::TooLarge => {
            Error::from(e).hint("raise the server's message limit; a request has about 12 MiB")
        }
        Failure::NoReply => Error::new(ErrorKind::OutcomeUnknown, "the reply to an insert was lost, so its rows may be there or not")
            .because(std::io::Error::other(e.reason.clone()))
            .hint("the target makes the keys of this collection, so the rows cannot be told apart: drop the collection and import it again"),
        _ => Error::from(e),
    })
}

/// Rows to read at once so that an insert has about [`INSERT_BYTES`].
fn rows_per_insert(columns: &[Column], part: &Part) -> usize {
    let stored = (part.size / part.rows.max(1)) as usize;
    let row_bytes = stored.max(columns.iter().filter_map(|c| c.kind.vector_bytes()).sum()).max(1);
    (INSERT_BYTES / row_bytes).clamp(1, MAX_INSERT_ROWS)
}

/// The requests for a batch: compressed columns may turn out much larger than they were stored,
/// so a batch is halved until each piece fits.
fn encode_batches(
    columns: &[Column],
    name: &CollectionName,
    partition: Option<&str>,
    batch: &RecordBatch,
    keys: KeyPolicy,
    key_field: &str,
) -> Result<Vec<InsertRequest>> {
    let rows = batch.num_rows();
    if wire_bytes(batch) > 2 * INSERT_BYTES && rows > 1 {
        let mut requests =
            encode_batches(columns, name, partition, &batch.slice(0, rows / 2), keys, key_field)?;
        requests.extend(encode_batches(
            columns,
            name,
            partition,
            &batch.slice(rows / 2, rows - rows / 2),
            keys,
            key_field,
        )?);
        return Ok(requests);
    }
    let mut fields = columns::encode(columns, batch)?;
    if keys == KeyPolicy::Regenerate {
        fields.retain(|field| field.field_name != key_field);
    }
    let keyed = matches!(keys, KeyPolicy::Given | KeyPolicy::AsField);
    Ok(vec![InsertRequest::new(name, partition, fields, rows as u32, keyed)])
}
