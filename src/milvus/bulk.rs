//! The server's own bulk import by gRPC: one job a file, which its data nodes read from its bucket.
//!
//! Owns: asking for a job, what a job says of itself, and telling jobs apart when a reply was lost.
//! Does not own: how the file came into the bucket, or which jobs there should be (`import`).
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
use milvus::proto::common::{ImportState, KeyValuePair};
use milvus::proto::milvus as api;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the replies to requests that nobody waits for any longer are waited for in the end.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// One job as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkJob {
    /// The server's number of it; 0 where it tells none.
    pub id: i64,
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
            id: reply.id,
            state,
            rows: u64::try_from(reply.row_count).unwrap_or(0),
            percent: info("progress_percent").parse().unwrap_or(0).min(100),
            files: files.split(',').filter(|file| !file.is_empty()).map(str::to_string).collect(),
        }
    }

    /// Whether it loads the file of this name, in whatever folder.
    pub fn has(&self, file: &str) -> bool {
        self.files.iter().any(|key| key.rsplit('/').next() == Some(file))
    }
}

impl Client {
    /// Asks for a job that loads `file`, a key in the server's own bucket, and gives its number. A
    /// lost reply stays an error with [`Failure::NoReply`]: the job may be there or not.
    pub async fn bulk_import(
        &self,
        name: &CollectionName,
        partition: Option<&str>,
        file: &str,
    ) -> Result<i64, RpcError> {
        let request = api::ImportRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_name: partition.unwrap_or_default().to_string(),
            files: vec![file.to_string()],
            ..Default::default()
        };
        let reply: api::ImportResponse =
            self.call("Import", &name.database, &request, Repeat::IfNotDone).await?;
        match reply.tasks.as_slice() {
            [id] => Ok(*id),
            tasks => Err(RpcError::malformed("Import", format!("it made {} jobs of one file", tasks.len()))),
        }
    }

    /// How far a job is; `None` if the server knows none of that number (any longer).
    pub async fn bulk_job(&self, name: &CollectionName, id: i64) -> Result<Option<BulkJob>, RpcError> {
        let request = api::GetImportStateRequest { task: id };
        let reply = self.read_to_the_end("GetImportState", name, request).await;
        let reply: api::GetImportStateResponse = match reply {
            Ok(reply) => reply,
            // There is no code for an unknown job, so that the list has to say it too.
            Err(e) if matches!(e.failure, Failure::Refused | Failure::NotFound) => {
                tracing::debug!(id, reason = e.reason, "looking for the job in the list");
                return Ok(self.bulk_jobs(name).await?.into_iter().find(|job| job.id == id));
            }
            Err(e) => return Err(e),
        };
        Ok(Some(BulkJob::of(&reply)))
    }

    /// The jobs that the server remembers of a collection.
    pub async fn bulk_jobs(&self, name: &CollectionName) -> Result<Vec<BulkJob>, RpcError> {
        let request = api::ListImportTasksRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            limit: 0,
        };
        let reply: api::ListImportTasksResponse =
            self.read_to_the_end("ListImportTasks", name, request).await?;
        Ok(reply.tasks.iter().map(BulkJob::of).collect())
    }

    /// Whether a job may be run twice if its client goes away before the reply.
    pub fn may_run_jobs_twice(&self) -> bool {
        self.info.release().is_none_or(|release| release < (2, 4, 0))
    }

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
