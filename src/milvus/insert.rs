//! Writing rows: one columnar batch a request.

use super::call::{Failure, Repeat, RpcError};
use super::connect::Client;
use super::wire_schema::KeyPolicy;
use crate::schema::{CollectionName, Key};
use bytes::Bytes;
use milvus::proto::milvus as api;
use milvus::proto::schema::field_data::Field;
use milvus::proto::schema::scalar_field::Data;
use milvus::proto::schema::{FieldData, ScalarField};
use prost::Message;

/// An insert, encoded once however often it is sent. Insert and upsert requests have the same
/// fields under the same numbers up to 8 and different ones beyond; this one stays below, so either
/// RPC takes it.
#[derive(Clone)]
pub struct InsertRequest {
    collection: CollectionName,
    partition: Option<String>,
    bytes: Bytes,
    key_field: String,
    keys: KeyPolicy,
    /// Rows in it.
    pub rows: u32,
}

/// How a batch went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The server said that it inserted every row.
    Inserted,
    /// The rows may have been there already, and were put in their own place: they are there once,
    /// but the server's statistics may count them twice.
    Replaced,
}

/// Keys in one filter of a delete.
const KEYS_PER_DELETE: usize = 4_096;

/// How often rows are deleted and inserted again before a lost reply is given up.
const REPLACE_TRIES: usize = 5;

impl InsertRequest {
    /// A request that inserts `fields`, columns of `rows` values each. `keys` tells what the target
    /// does with the keys in the column `key_field`.
    pub fn new(
        collection: &CollectionName,
        partition: Option<&str>,
        fields: Vec<FieldData>,
        rows: u32,
        key_field: &str,
        keys: KeyPolicy,
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
            collection: collection.clone(),
            partition: partition.map(str::to_string),
            bytes: request.encode_to_vec().into(),
            key_field: key_field.to_string(),
            keys,
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

    /// Its columns; read from the message, since they are hardly ever asked for.
    pub fn fields(&self) -> Result<Vec<FieldData>, RpcError> {
        let request = api::InsertRequest::decode(self.bytes.clone())
            .map_err(|e| RpcError::malformed("Insert", format!("it cannot be read back: {e}")))?;
        Ok(request.fields_data)
    }

    /// The keys of its rows.
    fn row_keys(&self) -> Result<Vec<Key>, RpcError> {
        let malformed = || RpcError::malformed("Delete", "the keys of an insert cannot be read back");
        let column = self.fields()?.into_iter().find(|field| field.field_name == self.key_field);
        let Some(Field::Scalars(ScalarField { data, .. })) = column.and_then(|column| column.field) else {
            return Err(malformed());
        };
        match data {
            Some(Data::LongData(keys)) => Ok(keys.data.into_iter().map(Key::Int).collect()),
            Some(Data::StringData(keys)) => Ok(keys.data.into_iter().map(Key::Text).collect()),
            _ => Err(malformed()),
        }
    }
}

impl Client {
    /// Inserts a batch so that each of its rows is there exactly once afterwards. While the
    /// server says that it did nothing, the insert is repeated; when a reply is lost, the batch is
    /// put in by [`Client::replace`], which comes to the same whether or not the insert took effect.
    /// Where the target makes the keys, a lost reply stays an error with [`Failure::NoReply`].
    pub async fn insert(&self, request: &InsertRequest) -> Result<Mutation, RpcError> {
        match self.insert_once(request).await {
            Ok(()) => Ok(Mutation::Inserted),
            Err(error) if error.failure == Failure::NoReply && request.keys != KeyPolicy::Regenerate => {
                tracing::warn!(
                    reason = error.reason,
                    "the reply to an insert was lost: replacing the same rows"
                );
                self.replace(request).await
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a batch in so that each of its rows is there exactly once afterwards, whether or not some
    /// were there before. Rows that bring their keys are upserted. An upsert into a collection that
    /// makes its own keys would make others, even where it takes given ones (2.4 and later); there
    /// the keys are deleted and the rows inserted again. Not possible where the target makes the keys.
    pub async fn replace(&self, request: &InsertRequest) -> Result<Mutation, RpcError> {
        match request.keys {
            KeyPolicy::Given | KeyPolicy::AsField => {
                let reply = self.mutate("Upsert", request, Repeat::Freely).await?;
                check("Upsert", &reply, reply.upsert_cnt.max(reply.insert_cnt), request.rows)?;
            }
            KeyPolicy::Preserve => {
                let keys = request.row_keys()?;
                let mut tries = 0;
                loop {
                    for some in keys.chunks(KEYS_PER_DELETE) {
                        self.delete(request, some).await?;
                    }
                    tries += 1;
                    match self.insert_once(request).await {
                        Err(error) if error.failure == Failure::NoReply && tries < REPLACE_TRIES => {
                            tracing::warn!(
                                reason = error.reason,
                                "the reply was lost again: deleting and inserting again"
                            );
                        }
                        done => break done?,
                    }
                }
            }
            KeyPolicy::Regenerate => {
                return Err(RpcError::malformed("Upsert", "rows without keys cannot be put in again"));
            }
        }
        Ok(Mutation::Replaced)
    }

    async fn insert_once(&self, request: &InsertRequest) -> Result<(), RpcError> {
        let reply = self.mutate("Insert", request, Repeat::IfNotDone).await?;
        check("Insert", &reply, reply.insert_cnt, request.rows)
    }

    async fn mutate(
        &self,
        rpc: &'static str,
        request: &InsertRequest,
        repeat: Repeat,
    ) -> Result<api::MutationResult, RpcError> {
        let sent = self.call_bytes(rpc, &request.collection.database, request.bytes.clone(), repeat).await;
        sent.map(|(reply, _)| reply)
    }

    /// Deletes the rows with these keys from where `request` puts its own. By a list, since a key
    /// range is refused while a collection is not loaded.
    async fn delete(&self, request: &InsertRequest, keys: &[Key]) -> Result<(), RpcError> {
        let delete = api::DeleteRequest {
            db_name: request.collection.database.clone(),
            collection_name: request.collection.name.clone(),
            partition_name: request.partition.clone().unwrap_or_default(),
            expr: self.list_filter(&request.key_field, keys),
            ..Default::default()
        };
        let database = &request.collection.database;
        self.call::<api::MutationResult>("Delete", database, &delete, Repeat::Freely).await.map(|_| ())
    }
}

fn check(rpc: &'static str, reply: &api::MutationResult, done: i64, rows: u32) -> Result<(), RpcError> {
    if reply.err_index.is_empty() && done == i64::from(rows) {
        return Ok(());
    }
    let what = format!("{done} of {rows} rows went in, {} were refused", reply.err_index.len());
    Err(RpcError::malformed(rpc, what))
}
