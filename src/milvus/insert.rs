//! Writing rows: one columnar batch a request.

use super::call::{Failure, Repeat, RpcError};
use super::connect::Client;
use crate::schema::CollectionName;
use bytes::Bytes;
use milvus::proto::milvus as api;
use milvus::proto::schema::FieldData;
use prost::Message;

/// An insert, encoded once however often it is sent. Insert and upsert requests have the same
/// fields under the same numbers up to 8 and different ones beyond; this one stays below, so either
/// RPC takes it.
#[derive(Clone)]
pub struct InsertRequest {
    database: String,
    bytes: Bytes,
    /// Whether the rows carry their own keys, so that upserting them is the same as inserting.
    keyed: bool,
    /// Rows in it.
    pub rows: u32,
}

/// How a batch went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The server said that it inserted every row.
    Inserted,
    /// An earlier reply was lost; the rows were then upserted, so that they are there once.
    Upserted,
}

impl InsertRequest {
    /// A request that inserts `fields`, columns of `rows` values each. `keyed` tells that the
    /// target keeps the keys in them; where it makes keys, an upsert would make others.
    pub fn new(
        collection: &CollectionName,
        partition: Option<&str>,
        fields: Vec<FieldData>,
        rows: u32,
        keyed: bool,
    ) -> Self {
        let request = api::InsertRequest {
            db_name: collection.database.clone(),
            collection_name: collection.name.clone(),
            partition_name: partition.unwrap_or_default().to_string(),
            fields_data: fields,
            num_rows: rows,
            ..Default::default()
        };
        InsertRequest {
            database: collection.database.clone(),
            bytes: request.encode_to_vec().into(),
            keyed,
            rows,
        }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

impl Client {
    /// Inserts a batch so that each of its rows is there exactly once afterwards. While the
    /// server says that it did nothing, the insert is repeated; when a reply is lost, the batch
    /// is upserted, which comes to the same whether or not the insert took effect. Where the target
    /// makes keys, a lost reply stays an error with [`Failure::NoReply`].
    pub async fn insert(&self, request: &InsertRequest) -> Result<Mutation, RpcError> {
        let sent = self
            .call_bytes::<api::MutationResult>(
                "Insert",
                &request.database,
                request.bytes.clone(),
                Repeat::IfNotDone,
            )
            .await;
        match sent {
            Ok((reply, _)) => {
                check("Insert", &reply, reply.insert_cnt, request.rows)?;
                Ok(Mutation::Inserted)
            }
            Err(error) if error.failure == Failure::NoReply && request.keyed => {
                tracing::warn!(
                    reason = error.reason,
                    "the reply to an insert was lost: upserting the same rows"
                );
                let (reply, _) = self
                    .call_bytes::<api::MutationResult>(
                        "Upsert",
                        &request.database,
                        request.bytes.clone(),
                        Repeat::Freely,
                    )
                    .await?;
                check("Upsert", &reply, reply.upsert_cnt.max(reply.insert_cnt), request.rows)?;
                Ok(Mutation::Upserted)
            }
            Err(error) => Err(error),
        }
    }
}

fn check(rpc: &'static str, reply: &api::MutationResult, done: i64, rows: u32) -> Result<(), RpcError> {
    if reply.err_index.is_empty() && done == i64::from(rows) {
        return Ok(());
    }
    let what = format!("{done} of {rows} rows went in, {} were refused", reply.err_index.len());
    Err(RpcError::malformed(rpc, what))
}
