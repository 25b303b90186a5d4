//! Load states and flushes.

use super::call::{Failure, Repeat, RpcError};
use super::connect::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::CollectionName;
use milvus::proto::common::{LoadState as WireState, SegmentLevel, SegmentState, Status};
use milvus::proto::milvus as api;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a load or a flush may make no headway that we can see.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Whether a collection's rows can be queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadState {
    /// Released, or never loaded.
    NotLoaded,
    /// On its way.
    Loading,
    /// Ready for queries.
    Loaded,
}

impl Client {
    /// The load state of a collection or of one of its partitions. A collection counts as loaded
    /// as soon as one of its partitions is.
    pub async fn load_state(&self, name: &CollectionName, partition: Option<&str>) -> Result<LoadState> {
        let request = api::GetLoadStateRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_names: partition.map(str::to_string).into_iter().collect(),
            ..Default::default()
        };
        let reply: api::GetLoadStateResponse =
            self.call("GetLoadState", &name.database, &request, Repeat::Freely).await?;
        Ok(match reply.state() {
            WireState::Loaded => LoadState::Loaded,
            WireState::Loading => LoadState::Loading,
            WireState::NotLoad | WireState::NotExist => LoadState::NotLoaded,
        })
    }

    /// Loads a collection and waits until it can be queried.
    pub async fn load(&self, name: &CollectionName) -> Result<()> {
        let request = api::LoadCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            replica_number: 1,
            ..Default::default()
        };
        let _: Status = self.call("LoadCollection", &name.database, &request, Repeat::Freely).await?;
        self.wait_until_loaded(name, None).await
    }

    /// Loads partitions of a partly loaded collection and waits until they can be queried.
    pub async fn load_partitions(&self, name: &CollectionName, partitions: &[String]) -> Result<()> {
        let request = api::LoadPartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_names: partitions.to_vec(),
            replica_number: 1,
            ..Default::default()
        };
        let _: Status = self.call("LoadPartitions", &name.database, &request, Repeat::Freely).await?;
        for partition in partitions {
            self.wait_until_loaded(name, Some(partition)).await?;
        }
        Ok(())
    }

    async fn wait_until_loaded(&self, name: &CollectionName, partition: Option<&str>) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(50);
        while self.load_state(name, partition).await? != LoadState::Loaded {
            if start.elapsed() > PATIENCE {
                let what = format!("{name} is not loaded after {} minutes", PATIENCE.as_secs() / 60);
                return Err(Error::new(ErrorKind::Temporary, what)
                    .hint("see the server's query nodes, then run the same command again"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        Ok(())
    }

    /// Releases a collection from memory.
    pub async fn release(&self, name: &CollectionName) -> Result<()> {
        let request = api::ReleaseCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let _: Status = self.call("ReleaseCollection", &name.database, &request, Repeat::Freely).await?;
        Ok(())
    }

    /// Releases partitions from memory.
    pub async fn release_partitions(&self, name: &CollectionName, partitions: &[String]) -> Result<()> {
        let request = api::ReleasePartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_names: partitions.to_vec(),
            ..Default::default()
        };
        let _: Status = self.call("ReleasePartitions", &name.database, &request, Repeat::Freely).await?;
        Ok(())
    }

    /// Rows of flushed segments that the query nodes do not hold (deleted ones included), or `None`
    /// where the server does not tell. After partitions are loaded into a loaded collection,
    /// Milvus reports them as loaded some seconds before queries see their rows (seen on 2.3.5).
    pub async fn unserved_rows(&self, name: &CollectionName) -> Result<Option<u64>> {
        let silent =
            |e: &RpcError| matches!(e.failure, Failure::Unimplemented | Failure::Denied | Failure::Refused);
        let request = api::GetPersistentSegmentInfoRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let stored = self.call("GetPersistentSegmentInfo", &name.database, &request, Repeat::Freely).await;
        let stored: api::GetPersistentSegmentInfoResponse = match stored {
            Ok(reply) => reply,
            Err(e) if silent(&e) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let request = api::GetQuerySegmentInfoRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let served = self.call("GetQuerySegmentInfo", &name.database, &request, Repeat::Freely).await;
        let served: api::GetQuerySegmentInfoResponse = match served {
            Ok(reply) => reply,
            Err(e) if silent(&e) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let served: HashSet<i64> = served.infos.iter().map(|s| s.segment_id).collect();
        let holds_rows = |s: &&api::PersistentSegmentInfo| {
            s.state() == SegmentState::Flushed
                && s.level() != SegmentLevel::L0
                && !served.contains(&s.segment_id)
        };
        Ok(Some(stored.infos.iter().filter(holds_rows).map(|s| u64::try_from(s.num_rows).unwrap_or(0)).sum()))
    }

    /// Seals what was inserted and waits until it is stored.
    pub async fn flush(&self, name: &CollectionName) -> Result<()> {
        let request = api::FlushRequest {
            db_name: name.database.clone(),
            collection_names: vec![name.name.clone()],
            ..Default::default()
        };
        let reply: api::FlushResponse = self.call("Flush", &name.database, &request, Repeat::Freely).await?;
        let segments = reply.coll_seg_i_ds.get(&name.name).map(|ids| ids.data.clone()).unwrap_or_default();
        let flush_ts = reply.coll_flush_ts.get(&name.name).copied().unwrap_or_default();
        let request = api::GetFlushStateRequest {
            segment_i_ds: segments,
            flush_ts,
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
        };
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let reply: api::GetFlushStateResponse =
                self.call("GetFlushState", &name.database, &request, Repeat::Freely).await?;
            if reply.flushed {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let what = format!("{name} is not flushed after {} minutes", PATIENCE.as_secs() / 60);
                return Err(Error::new(ErrorKind::Temporary, what)
                    .hint("see the server's data nodes, then run the same command again"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}
