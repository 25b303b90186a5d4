//! Load states and flushes.

use super::call::Repeat;
use super::connect::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::CollectionName;
use milvus::proto::common::{LoadState as WireState, Status};
use milvus::proto::milvus as api;
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
    /// The collection's load state.
    pub async fn load_state(&self, name: &CollectionName) -> Result<LoadState> {
        let request = api::GetLoadStateRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
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
        let start = Instant::now();
        let mut pause = Duration::from_millis(50);
        while self.load_state(name).await? != LoadState::Loaded {
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
