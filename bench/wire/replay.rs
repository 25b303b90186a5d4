//! Sends recorded requests again, a given number at once, over a given number of connections. Each
//! worker takes the next request in the recorded order when its last reply is in. What comes back is
//! checked (no error, and every row in), so that a failure never passes for speed.

use crate::raw::{Client, credentials};
use bytes::Bytes;
use milvus::proto::common::Status as Answer;
use milvus::proto::milvus::{MutationResult, QueryResults};
use milvus::proto::schema::field_data::Field;
use milvus::proto::schema::scalar_field::Data;
use prost::Message;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

type Failure = Box<dyn Error + Send + Sync>;

/// Where to, what, and how many at once.
#[derive(clap::Args)]
struct To {
    #[arg(long)]
    server: String,
    #[arg(long)]
    requests: PathBuf,
    #[arg(short, long)]
    jobs: usize,
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

/// `scan`.
#[derive(clap::Args)]
pub struct ScanArgs {
    #[command(flatten)]
    to: To,
    /// Also decode every page, count its rows, and hash `--hash-share` of its bytes.
    #[arg(long)]
    decode: bool,
    /// Bytes to hash for each byte received: what the tool has to hash is the Parquet it writes,
    /// which can be smaller than the messages.
    #[arg(long, default_value_t = 1.0)]
    hash_share: f64,
}

/// `send`.
#[derive(clap::Args)]
pub struct SendArgs {
    #[command(flatten)]
    to: To,
}

/// What was moved.
#[derive(Default, Clone, Copy)]
struct Moved {
    requests: u64,
    bytes: u64,
    rows: u64,
}

impl To {
    /// Sends every request of `rpc` and looks at every reply.
    async fn all<F, L>(&self, rpc: &'static str, look: L) -> Result<(), Failure>
    where
        L: Fn(Bytes, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Moved, Failure>> + Send,
    {
        let recorded = crate::read_recorded(&self.requests)?;
        let clients: Vec<Client> =
            (0..self.connections.max(1)).map(|_| Client::new(&self.server)).collect::<Result<_, _>>()?;
        let metadata = credentials()?;
        if rpc == "Insert" {
            for (_, request) in recorded.iter().filter(|(name, _)| name == "CreateCollection") {
                let reply = clients[0].call("CreateCollection", metadata.clone(), request.clone()).await?;
                check(&Answer::decode(reply)?)?;
            }
        }
        let requests: Vec<Bytes> =
            recorded.into_iter().filter(|(name, _)| name == rpc).map(|(_, request)| request).collect();
        let (requests, look, next) = (Arc::new(requests), Arc::new(look), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let mut workers = Vec::new();
        for worker in 0..self.jobs {
            let client = clients[worker % clients.len()].clone();
            let (requests, look, next) = (requests.clone(), look.clone(), next.clone());
            let metadata = metadata.clone();
            workers.push(tokio::spawn(async move {
                let mut moved = Moved::default();
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let reply = client.call(rpc, metadata.clone(), request.clone()).await?;
                    let one = look(request.clone(), reply).await?;
                    moved.requests += one.requests;
                    moved.bytes += one.bytes;
                    moved.rows += one.rows;
                }
                Ok::<_, Failure>(moved)
            }));
        }
        let mut moved = Moved::default();
        for worker in workers {
            let one = worker.await??;
            moved.requests += one.requests;
            moved.bytes += one.bytes;
            moved.rows += one.rows;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{}",
            serde_json::json!({ "requests": moved.requests, "bytes": moved.bytes, "rows": moved.rows, "seconds": seconds })
        );
        Ok(())
    }
}

impl ScanArgs {
    pub async fn run(self) -> Result<(), Failure> {
        let (decode, share) = (self.decode, self.hash_share.clamp(0.0, 1.0));
        self.to
            .all("Query", move |_, reply| async move {
                let bytes = reply.len() as u64;
                if !decode {
                    check(&PageHead::decode(reply)?.status.unwrap_or_default())?;
                    return Ok(Moved { requests: 1, bytes, rows: 0 });
                }
                let rows = tokio::task::spawn_blocking(move || {
                    let digest = Sha256::digest(&reply[..(reply.len() as f64 * share) as usize]);
                    std::hint::black_box(digest);
                    let page = QueryResults::decode(reply)?;
                    check(page.status.as_ref().unwrap_or(&Answer::default()))?;
                    Ok::<_, Failure>(std::hint::black_box(&page).fields_data.iter().map(keys).max())
                })
                .await??;
                Ok(Moved { requests: 1, bytes, rows: rows.unwrap_or(0) })
            })
            .await
    }
}

impl SendArgs {
    pub async fn run(self) -> Result<(), Failure> {
        self.to
            .all("Insert", |request, reply| async move {
                let due = InsertHead::decode(request.clone())?.rows;
                let done = MutationResult::decode(reply)?;
                check(done.status.as_ref().unwrap_or(&Answer::default()))?;
                if done.insert_cnt != i64::from(due) {
                    return Err(format!("{} of {due} rows went in", done.insert_cnt).into());
                }
                Ok(Moved { requests: 1, bytes: request.len() as u64, rows: u64::from(due) })
            })
            .await
    }
}

/// The status of a page; the fields are skipped.
#[derive(Clone, PartialEq, Message)]
struct PageHead {
    #[prost(message, optional, tag = "1")]
    status: Option<Answer>,
}

/// Where an insert goes and how many rows it has; the fields are skipped.
#[derive(Clone, PartialEq, Message)]
pub struct InsertHead {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(uint32, tag = "7")]
    pub rows: u32,
}

#[allow(deprecated)] // old servers set only the legacy code
fn check(status: &Answer) -> Result<(), Failure> {
    if status.code == 0 && status.error_code == 0 {
        return Ok(());
    }
    Err(format!("the server says {}: {}", status.code, status.reason).into())
}

/// Rows of an Int64 column.
fn keys(field: &milvus::proto::schema::FieldData) -> u64 {
    match &field.field {
        Some(Field::Scalars(scalars)) => match &scalars.data {
            Some(Data::LongData(longs)) => longs.data.len() as u64,
            _ => 0,
        },
        _ => 0,
    }
}
