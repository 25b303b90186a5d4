//! Step 6: rows from parts into the target, several parts at once, each noted before its first row
//! is sent and after its last one is in.

use super::journal::{Journal, PartState};
use super::plan::Job;
use super::values::Particular;
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

/// Bytes of one insert request. Servers take 64 MiB; each worker holds about seven of these: rows,
/// the request that is encoded, and those in flight with their copies in the transport.
const INSERT_BYTES: usize = 8 << 20;

/// The most rows of one insert request.
const MAX_INSERT_ROWS: usize = 65_536;

/// Inserts of one part that wait for their replies, so that a snapshot of a single part does not
/// wait for each of them in turn.
const INSERTS_PER_PART: usize = 2;

/// Loads every part of every job that is not in yet, `at_once` at a time. Gives the collections in
/// which rows were replaced, in this run or before: their statistics may count those rows twice.
pub async fn all(
    target: &Client,
    jobs: &[Job<'_>],
    store: Arc<dyn Store>,
    journal: &Journal,
    at_once: usize,
    progress: &Progress,
) -> Result<BTreeSet<CollectionName>> {
    let noted = journal.noted();
    let mut replaced = BTreeSet::new();
    let mut todo = Vec::new();
    for job in jobs {
        for part in &job.source.parts {
            match noted.part(&job.target, &part.key) {
                Some(PartState::In { replaced: some }) => {
                    progress.add(part.rows, part.size);
                    if some {
                        replaced.insert(job.target.clone());
                    }
                }
                Some(PartState::Begun) => todo.push((job, part, Mutation::Replaced)),
                None => todo.push((job, part, Mutation::Inserted)),
            }
        }
    }
    let load = |(job, part, how)| {
        let work = load_noted(target, job, part, how, store.as_ref(), journal, progress);
        async move {
            let mutation = work.await.context(|| format!("import into {}", job.target))?;
            Ok::<_, Error>((mutation == Mutation::Replaced).then(|| job.target.clone()))
        }
    };
    let loaded: Vec<_> = stream::iter(todo).map(load).buffer_unordered(at_once).try_collect().await?;
    replaced.extend(loaded.into_iter().flatten());
    Ok(replaced)
}

/// Loads a part between its two lines in the journal.
async fn load_noted(
    target: &Client,
    job: &Job<'_>,
    part: &Part,
    how: Mutation,
    store: &dyn Store,
    journal: &Journal,
    progress: &Progress,
) -> Result<Mutation> {
    journal.loading(&job.target, &part.key).await?;
    let mutation = load_part(target, job, part, how, store, progress).await?;
    journal.loaded(&job.target, &part.key, mutation == Mutation::Replaced).await?;
    Ok(mutation)
}

async fn load_part(
    target: &Client,
    job: &Job<'_>,
    part: &Part,
    how: Mutation,
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
    let particular = Particular::of(&target.info);
    let read = async move {
        loop {
            let (columns, name, partition, key_field) =
                (columns.clone(), name.clone(), partition.clone(), key_field.clone());
            let step = blocking(move || {
                let Some(batch) = reader.next_batch()? else { return Ok(None) };
                particular.check(&columns, &batch, &key_field)?;
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
        let requests = stream::poll_fn(|context| receiver.poll_recv(context));
        let put = |request: InsertRequest| async move {
            let mutation = match how {
                Mutation::Inserted => target.insert(&request).await,
                Mutation::Replaced => target.replace(&request).await,
            };
            let mutation = mutation.map_err(|e| not_in(e, job.keys))?;
            progress.add(u64::from(request.rows), request.len() as u64);
            Ok::<_, Error>(mutation)
        };
        let add = |so_far, mutation| async move {
            Ok(if mutation == Mutation::Replaced { mutation } else { so_far })
        };
        requests.map(put).buffer_unordered(INSERTS_PER_PART).try_fold(how, add).await
    };
    let ((), mutation) = tokio::try_join!(read, write).context(about)?;
    Ok(mutation)
}

/// A batch that is not in, or may not be.
fn not_in(error: RpcError, keys: KeyPolicy) -> Error {
    match error.failure {
        Failure::TooLarge => {
            Error::from(error).hint("raise the server's message limit; a request has about 8 MiB")
        }
        // With keys, the same command again makes the rows right; without, they cannot be told apart.
        Failure::NoReply if keys == KeyPolicy::Regenerate => Error::new(
            ErrorKind::OutcomeUnknown,
            "the reply to an insert was lost, so its rows may be there or not",
        )
        .because(std::io::Error::other(error.reason.clone()))
        .hint("the target makes the keys of this collection, so the rows cannot be told apart: run the same command again, which drops what it has made of this collection and begins it anew"),
        _ => Error::from(error),
    }
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
    Ok(vec![InsertRequest::new(name, partition, fields, rows as u32, key_field, keys)])
}
