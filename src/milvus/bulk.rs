//! The server's own bulk import: what its jobs are, and asking for them by gRPC, where a job loads
//! one file that its data nodes read from the server's bucket.
//!
//! Owns: asking for a job, what a job says of itself, and telling jobs apart when a reply was lost.
//! Does not own: how the file came into the bucket, which jobs there should be (`import`), or the
//! REST interface of Zilliz Cloud (`cloud`).
//!
//! Milvus 2.3 hands a job to its data nodes within the request: if its client goes away before the
//! reply, it may hand it to them once more (seen on 2.3.5: the rows are there twice, and the second
//! time may be minutes later).
//!
//! Milvus 2.3 takes one Parquet file a job ("for JSON or parquet file, each task only accepts one
//! file", seen on 2.3.5). Later releases read the files of this RPC as the columns of one, so that
//! it is one file there too.

use super::call::{Failure, Repeat, Reply, RpcError};
use super::connect::Client;
use crate::schema::CollectionName;
use async_trait::async_trait;
use milvus::proto::common::{ImportState, KeyValuePair};
use milvus::proto::milvus as api;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the replies to requests that nobody waits for any longer are waited for in the end.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// The server's name of a job: a number in Milvus, a word on Zilliz Cloud.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one job is to load.
#[derive(Debug)]
pub struct BulkRequest {
    /// Into which collection.
    pub collection: CollectionName,
    /// Into which partition; `None`: the server chooses.
    pub partition: Option<String>,
    /// Files, as the server calls them.
    pub files: Vec<String>,
    /// The same for every try of this request, and never used for another one.
    pub request: String,
    /// With what the files are read, where the server has to be given it.
    pub key: Option<BucketKey>,
}

/// An access key of a bucket, to be given to a service that reads there.
#[derive(Clone)]
pub struct BucketKey {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// The token of a session, if it is one of a session.
    pub token: Option<String>,
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketKey").finish_non_exhaustive()
    }
}

/// How much one job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Files.
    pub files: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// What loads files by jobs of its own.
#[async_trait]
pub trait BulkServer: Send + Sync {
    /// How much one job takes.
    fn limits(&self) -> JobLimits;

    /// Whether its list also has jobs of collections that were dropped and had the same name.
    fn lists_by_name(&self) -> bool;

    /// Whether a job may be run twice if its client goes away before the reply.
    fn may_run_jobs_twice(&self) -> bool {
        false
    }

    /// Whether indexes that are there before the jobs are built while jobs run, and no job waits for
    /// its own: seen on Milvus 2.3.5. Later releases make a job wait.
    fn indexes_meanwhile(&self) -> bool {
        false
    }

    /// Asks for a job. A lost reply stays an error with [`Failure::NoReply`]: the job may be there
    /// or not.
    async fn ask(&self, request: &BulkRequest) -> Result<JobId, RpcError>;

    /// How far a job is; `None` if the server knows none of that name (any longer).
    async fn job(&self, name: &CollectionName, id: &JobId) -> Result<Option<BulkJob>, RpcError>;

    /// The jobs that the server remembers of a collection. Of those in `known` it need not tell the
    /// files.
    async fn jobs(&self, name: &CollectionName, known: &BTreeSet<JobId>) -> Result<Vec<BulkJob>, RpcError>;

    /// The names of the jobs that the server remembers of a collection, where it tells them.
    async fn names(&self, name: &CollectionName) -> Result<BTreeSet<JobId>, RpcError> {
        let jobs = self.jobs(name, &BTreeSet::new()).await?;
        Ok(jobs.into_iter().filter_map(|job| job.id).collect())
    }

    /// Makes the rows of a job visible that waits for it.
    async fn commit(&self, name: &CollectionName, id: &JobId) -> Result<(), RpcError>;

    /// Gives up a job that is not complete.
    async fn abort(&self, name: &CollectionName, id: &JobId) -> Result<(), RpcError>;
}

/// One job as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkJob {
    /// `None` where the server tells none.
    pub id: Option<JobId>,
    /// How far it is.
    pub state: BulkState,
    /// Rows that it has loaded, once it is complete; 0 where the server does not tell.
    pub rows: u64,
    /// From 0 to 100.
    pub percent: u64,
    /// The keys of its files, where the server tells them.
    pub files: Vec<String>,
}

/// How far a job is. Its rows become visible together when it is complete; one that failed leaves
/// none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkState {
    /// Waiting, or at work.
    Running,
    /// Every row is in, and none is visible before it is told to commit.
    Uncommitted,
    /// Every row is in.
    Complete,
    /// No row is in, for this reason.
    Failed(String),
}

impl BulkJob {
    fn of(reply: &api::GetImportStateResponse) -> Self {
        let info = |key: &str| {
            let found = reply.infos.iter().find(|info: &&KeyValuePair| info.key == key);
            found.map(|info| info.value.clone()).unwrap_or_default()
        };
        let state = match reply.state() {
            ImportState::ImportCompleted => BulkState::Complete,
            ImportState::ImportFailed | ImportState::ImportFailedAndCleaned => {
                BulkState::Failed(info("failed_reason"))
            }
            ImportState::ImportPending
            | ImportState::ImportStarted
            | ImportState::ImportPersisted
            | ImportState::ImportFlushed => BulkState::Running,
        };
        let files = info("files");
        BulkJob {
            id: (reply.id != 0).then(|| JobId(reply.id.to_string())),
            state,
            rows: u64::try_from(reply.row_count).unwrap_or(0),
            percent: info("progress_percent").parse().unwrap_or(0).min(100),
            files: files.split(',').filter(|file| !file.is_empty()).map(str::to_string).collect(),
        }
    }

    /// Whether it loads the file of this name, in whatever folder: services shorten paths, and the
    /// last segment has a part's digest, or a word that no other copy has.
    pub fn has(&self, file: &str) -> bool {
        let name = |path: &str| path.rsplit('/').next().map(str::to_string);
        self.files.iter().any(|key| name(key) == name(file))
    }
}

#[async_trait]
impl BulkServer for Client {
    fn limits(&self) -> JobLimits {
        // Of the bytes of a file the server says itself what it takes.
        JobLimits { files: 1, file_bytes: u64::MAX, bytes: u64::MAX }
    }

    fn lists_by_name(&self) -> bool {
        false
    }

    fn may_run_jobs_twice(&self) -> bool {
        self.info.release().is_none_or(|release| release < (2, 4, 0))
    }

    fn indexes_meanwhile(&self) -> bool {
        self.info.release().is_some_and(|release| release < (2, 4, 0))
    }

    async fn ask(&self, request: &BulkRequest) -> Result<JobId, RpcError> {
        let name = &request.collection;
        let request = api::ImportRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_name: request.partition.clone().unwrap_or_default(),
            files: request.files.clone(),
            ..Default::default()
        };
        let reply: api::ImportResponse =
            self.call("Import", &name.database, &request, Repeat::IfNotDone).await?;
        match reply.tasks.as_slice() {
            [id] => Ok(JobId(id.to_string())),
            // There may be one.
            tasks => {
                let error =
                    RpcError::malformed("Import", format!("it made {} jobs of one file", tasks.len()));
                Err(RpcError { failure: Failure::NoReply, ..error })
            }
        }
    }

    async fn job(&self, name: &CollectionName, id: &JobId) -> Result<Option<BulkJob>, RpcError> {
        let Ok(task) = id.0.parse() else { return Ok(None) };
        let request = api::GetImportStateRequest { task };
        let reply = self.read_to_the_end("GetImportState", name, request).await;
        let reply: api::GetImportStateResponse = match reply {
            Ok(reply) => reply,
            // There is no code for an unknown job, so that the list has to say it too.
            Err(e) if matches!(e.failure, Failure::Refused | Failure::NotFound) => {
                tracing::debug!(%id, reason = e.reason, "looking for the job in the list");
                let jobs = self.jobs(name, &BTreeSet::new()).await?;
                return Ok(jobs.into_iter().find(|job| job.id.as_ref() == Some(id)));
            }
            Err(e) => return Err(e),
        };
        Ok(Some(BulkJob::of(&reply)))
    }

    async fn jobs(&self, name: &CollectionName, _: &BTreeSet<JobId>) -> Result<Vec<BulkJob>, RpcError> {
        let request = api::ListImportTasksRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            limit: 0,
        };
        let reply: api::ListImportTasksResponse =
            self.read_to_the_end("ListImportTasks", name, request).await?;
        Ok(reply.tasks.iter().map(BulkJob::of).collect())
    }

    async fn commit(&self, _: &CollectionName, id: &JobId) -> Result<(), RpcError> {
        Err(RpcError::malformed(
            "GetImportState",
            format!("job {id} waits for a commit that was not asked for"),
        ))
    }

    async fn abort(&self, _: &CollectionName, id: &JobId) -> Result<(), RpcError> {
        Err(RpcError::malformed("GetImportState", format!("job {id} cannot be given up by gRPC")))
    }
}

impl Client {
    /// Calls an RPC that only reads, and goes on with it when this is not waited for any longer.
    async fn read_to_the_end<Res: Reply>(
        &self,
        rpc: &'static str,
        name: &CollectionName,
        request: impl Message + 'static,
    ) -> Result<Res, RpcError> {
        let (client, database) = (self.clone(), name.database.clone());
        let call = async move { client.call(rpc, &database, &request, Repeat::Freely).await };
        self.to_the_end(rpc, call).await?
    }

    /// Does `work` with an RPC, and goes on with it when this is not waited for any longer.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        rpc: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RpcError> {
        let counted = Unanswered::count(&self.unanswered);
        let work = tokio::spawn(async move {
            let _counted = counted;
            work.await
        });
        work.await.map_err(|e| RpcError::malformed(rpc, format!("it was stopped: {e}")))
    }

    /// Waits for what [`Client::to_the_end`] has begun and nobody has waited for. To be called before
    /// the process ends.
    pub async fn last_replies(&self) {
        let all = async {
            while self.unanswered.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // A server that is gone does not answer.
        let _ = tokio::time::timeout(LAST_REPLIES, all).await;
    }
}

/// One request that is not answered yet.
struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    fn count(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Unanswered(all.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: ImportState, infos: &[(&str, &str)]) -> BulkJob {
        let pair =
            |(key, value): &(&str, &str)| KeyValuePair { key: key.to_string(), value: value.to_string() };
        BulkJob::of(&api::GetImportStateResponse {
            state: state as i32,
            id: 7,
            row_count: 100,
            infos: infos.iter().map(pair).collect(),
            ..Default::default()
        })
    }

    #[test]
    fn a_job_is_what_the_server_says() {
        let job =
            told(ImportState::ImportCompleted, &[("files", "a/b.parquet"), ("progress_percent", "100")]);
        assert_eq!((job.state, job.rows, job.percent), (BulkState::Complete, 100, 100));
        assert_eq!(job.files, ["a/b.parquet"]);
        let job = told(ImportState::ImportFailedAndCleaned, &[("failed_reason", "no such key")]);
        assert_eq!((job.state, job.files.len()), (BulkState::Failed("no such key".into()), 0));
        for state in [ImportState::ImportPending, ImportState::ImportPersisted, ImportState::ImportFlushed] {
            assert_eq!(told(state, &[("progress_percent", "many")]).state, BulkState::Running);
        }
    }
}
