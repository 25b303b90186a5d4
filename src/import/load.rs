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
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Bytes of one insert request. Servers take 64 MiB; each worker holds about seven of these: rows,
/// the request that is encoded, and those in flight with their copies in the transport.
const INSERT_BYTES: usize = 8 << 20;

/// The most rows of one insert request.
const MAX_INSERT_ROWS: usize = 65_536;

/// Inserts of one part that wait for their replies, so that a snapshot of a single part does not
/// wait for each of them in turn.
const INSERTS_PER_PART: usize = 2;

/// The bytes above which a batch is halved. What servers take is found out by one request that is
/// too large.
struct Largest(AtomicUsize);

impl Largest {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A request of so many bytes was too large.
    fn refused(&self, bytes: usize) {
        self.0.fetch_min((bytes / 2).max(1), Ordering::Relaxed);
    }
}

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
        let lane = progress.collection(&job.target, job.source.rows(), job.source.parts.len());
        for part in &job.source.parts {
            match noted.part(&job.target, &part.key) {
                Some(PartState::In { replaced: some }) => {
                    lane.add_before(part.rows, part.size);
                    lane.piece_done();
                    if some {
                        replaced.insert(job.target.clone());
                    }
                }
                Some(PartState::Begun) => todo.push((job, part, Mutation::Replaced, lane.clone())),
                None => todo.push((job, part, Mutation::Inserted, lane.clone())),
            }
        }
    }
    let largest = Arc::new(Largest(AtomicUsize::new(2 * INSERT_BYTES)));
    let (store, largest) = (store.as_ref(), &largest);
    let load = |(job, part, how, lane): (_, _, _, Progress)| async move {
        let work = load_noted(target, job, part, how, store, journal, largest, &lane);
        let mutation = work.await.context(|| format!("import into {}", job.target))?;
        lane.piece_done();
        Ok::<_, Error>((mutation == Mutation::Replaced).then(|| job.target.clone()))
    };
    let loaded: Vec<_> = stream::iter(todo).map(load).buffer_unordered(at_once).try_collect().await?;
    replaced.extend(loaded.into_iter().flatten());
    Ok(replaced)
}

/// Loads a part between its two lines in the journal.
#[expect(clippy::too_many_arguments)] // Each is another thing; a struct would only hide them.
async fn load_noted(
    target: &Client,
    job: &Job<'_>,
    part: &Part,
    how: Mutation,
    store: &dyn Store,
    journal: &Journal,
    largest: &Arc<Largest>,
    progress: &Progress,
) -> Result<Mutation> {
    journal.loading(&job.target, &part.key).await?;
    let mutation = load_part(target, job, part, how, store, largest, progress).await?;
    journal.loaded(&job.target, &part.key, mutation == Mutation::Replaced).await?;
    Ok(mutation)
}

async fn load_part(
    target: &Client,
    job: &Job<'_>,
    part: &Part,
    how: Mutation,
    store: &dyn Store,
    largest: &Arc<Largest>,
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
    let of_halves = columns.clone();
    let known = largest.clone();
    let read = async move {
        loop {
            let (columns, name, partition, key_field) =
                (columns.clone(), name.clone(), partition.clone(), key_field.clone());
            let most = known.get();
            let step = blocking(move || {
                let Some(batch) = reader.next_batch()? else { return Ok(None) };
                particular.check(&columns, &batch, &key_field)?;
                let place =
                    Place { name: &name, partition: partition.as_deref(), keys, key_field: &key_field };
                let requests = encode_batches(&columns, &place, &batch, most)?;
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
        let halve = |request| halves(request, job, part, &of_halves);
        let put = |request: InsertRequest| async move {
            let mut waiting = vec![(request, how)];
            let mut went = how;
            while let Some((request, how)) = waiting.pop() {
                let put = match how {
                    Mutation::Inserted => target.insert(&request).await,
                    Mutation::Replaced => target.replace(&request).await,
                };
                match put {
                    Ok(mutation) => {
                        progress.add(u64::from(request.rows), request.len() as u64);
                        if mutation == Mutation::Replaced {
                            went = mutation;
                        }
                    }
                    Err(e) if e.failure == Failure::TooLarge && request.rows > 1 => {
                        tracing::debug!(
                            rows = request.rows,
                            reason = e.reason,
                            "insert too large: halving it"
                        );
                        largest.refused(request.len());
                        // A reply that was lost before may have been to all of these rows.
                        let how = if e.rpc == "Insert" { how } else { Mutation::Replaced };
                        waiting.extend(halve(request).await?.map(|half| (half, how)));
                    }
                    Err(e) => return Err(not_in(e, job.keys)),
                }
            }
            Ok::<_, Error>(went)
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

/// Where rows go, and what becomes of their keys.
struct Place<'a> {
    name: &'a CollectionName,
    partition: Option<&'a str>,
    keys: KeyPolicy,
    key_field: &'a str,
}

/// The requests for a batch: compressed columns may turn out much larger than they were stored,
/// so a batch is halved until each piece has at most `most` bytes.
fn encode_batches(
    columns: &[Column],
    place: &Place<'_>,
    batch: &RecordBatch,
    most: usize,
) -> Result<Vec<InsertRequest>> {
    let rows = batch.num_rows();
    if wire_bytes(batch) > most && rows > 1 {
        let mut requests = encode_batches(columns, place, &batch.slice(0, rows / 2), most)?;
        requests.extend(encode_batches(columns, place, &batch.slice(rows / 2, rows - rows / 2), most)?);
        return Ok(requests);
    }
    Ok(vec![encode(columns, place, batch)?])
}

fn encode(columns: &[Column], place: &Place<'_>, batch: &RecordBatch) -> Result<InsertRequest> {
    let mut fields = columns::encode(columns, batch)?;
    if place.keys == KeyPolicy::Regenerate {
        fields.retain(|field| field.field_name != place.key_field);
    }
    let rows = batch.num_rows() as u32;
    Ok(InsertRequest::new(place.name, place.partition, fields, rows, place.key_field, place.keys))
}

/// Two requests with half of the rows each. They are read back from the message: hardly any server
/// takes less than is sent, and rows that are kept beside every request would take as much memory
/// again.
async fn halves(
    request: InsertRequest,
    job: &Job<'_>,
    part: &Part,
    columns: &[Column],
) -> Result<[InsertRequest; 2]> {
    let (name, keys) = (job.target.clone(), job.keys);
    let partition = job.partition(part).map(str::to_string);
    let key_field = job.source.meta.schema.primary_key().name.clone();
    let sent = |column: &&Column| keys != KeyPolicy::Regenerate || column.name != key_field;
    let columns: Vec<Column> = columns.iter().filter(sent).cloned().collect();
    blocking(move || {
        let batch = columns::decode(&columns, &key_field, request.fields()?)?;
        let place = Place { name: &name, partition: partition.as_deref(), keys, key_field: &key_field };
        let (rows, half) = (batch.num_rows(), batch.num_rows() / 2);
        let first = encode(&columns, &place, &batch.slice(0, half))?;
        Ok([encode(&columns, &place, &batch.slice(half, rows - half))?, first])
    })
    .await
}
