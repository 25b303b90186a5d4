//! Passes everything on. The runs in which it stands between are not timed: they show which pages
//! the tool asks a server for, and how many at once.

use crate::raw::{Answers, Client};
use crate::record::{Log, Recorded};
use bytes::Bytes;
use std::error::Error;
use tonic::Status;
use tonic::metadata::MetadataMap;

pub struct Proxy {
    upstream: Client,
    log: Log,
}

impl Proxy {
    pub fn new(upstream: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Proxy { upstream: Client::new(upstream)?, log: Log::new(true) })
    }
}

impl Answers for Proxy {
    async fn answer(&self, rpc: &str, metadata: MetadataMap, request: Bytes) -> Result<Bytes, Status> {
        self.upstream.call(rpc, metadata, request).await
    }
}

impl Recorded for Proxy {
    fn log(&self) -> &Log {
        &self.log
    }
}
