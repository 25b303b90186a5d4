//! What a server has: databases, collections, partitions, indexes, aliases, counts.

use super::call::{Failure, Repeat, RpcError};
use super::connect::{Client, ServerKind};
use super::query::View;
use super::wire_schema::{self, Refusal};
use crate::columns::decode_counts;
use crate::error::{Context, Result};
use crate::schema::{CollectionName, DEFAULT_DATABASE, FieldType, Schema};
use crate::snapshot::Index;
use milvus::proto::common::IndexState;
use milvus::proto::milvus as api;
use prost::Message;
use std::collections::BTreeMap;

/// A collection as the server describes it.
#[derive(Debug, Clone)]
pub struct Described {
    /// In our terms, or why it cannot be copied.
    pub schema: std::result::Result<Schema, Vec<Refusal>>,
    /// The server's reply, byte for byte.
    pub raw: Vec<u8>,
    /// The server's id of this very collection.
    pub id: i64,
    /// Shards.
    pub shards: i32,
    /// Other names.
    pub aliases: Vec<String>,
    /// In the server's spelling.
    pub properties: BTreeMap<String, String>,
}

impl Client {
    /// The databases; `default` alone on servers without databases.
    pub async fn databases(&self) -> Result<Vec<String>> {
        let request = api::ListDatabasesRequest::default();
        match self.call::<api::ListDatabasesResponse>("ListDatabases", "", &request, Repeat::Freely).await {
            Ok(reply) => Ok(reply.db_names),
            Err(e) if e.failure == Failure::Unimplemented => Ok(vec![DEFAULT_DATABASE.to_string()]),
            Err(e) => Err(e.into()),
        }
    }

    /// The properties of a database; none on servers that do not tell.
    pub async fn database_properties(&self, database: &str) -> Result<BTreeMap<String, String>> {
        let request = api::DescribeDatabaseRequest { db_name: database.to_string(), ..Default::default() };
        match self
            .call::<api::DescribeDatabaseResponse>("DescribeDatabase", "", &request, Repeat::Freely)
            .await
        {
            Ok(reply) => Ok(reply.properties.into_iter().map(|kv| (kv.key, kv.value)).collect()),
            Err(e) if matches!(e.failure, Failure::Unimplemented | Failure::Denied) => Ok(BTreeMap::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the server knows databases at all.
    pub async fn has_databases(&self) -> Result<bool> {
        let request = api::ListDatabasesRequest::default();
        match self.call::<api::ListDatabasesResponse>("ListDatabases", "", &request, Repeat::Freely).await {
            Ok(_) => Ok(true),
            Err(e) if e.failure == Failure::Unimplemented => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The names of the collections in `database`.
    pub async fn collections(&self, database: &str) -> Result<Vec<String>> {
        let request = api::ShowCollectionsRequest { db_name: database.to_string(), ..Default::default() };
        let reply: api::ShowCollectionsResponse = self
            .call("ShowCollections", database, &request, Repeat::Freely)
            .await
            .map_err(crate::error::Error::from)
            .context(|| format!("listing the collections of database {database:?}"))?;
        Ok(reply.collection_names)
    }

    /// A collection, `None` if there is none of that name. An alias resolves to its collection.
    pub async fn describe(&self, name: &CollectionName) -> Result<Option<Described>> {
        let request = api::DescribeCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let reply = self
            .call_bytes::<api::DescribeCollectionResponse>(
                "DescribeCollection",
                &name.database,
                request.encode_to_vec().into(),
                Repeat::Freely,
            )
            .await;
        let (reply, raw) = match reply {
            Ok(reply) => reply,
            Err(e) if e.failure == Failure::NotFound => return Ok(None),
            Err(e) => return Err(crate::error::Error::from(e).context(format!("describing {name}"))),
        };
        let schema = wire_schema::read(&reply);
        Ok(Some(Described {
            schema,
            raw: raw.to_vec(),
            id: reply.collection_id,
            shards: reply.shards_num,
            aliases: reply.aliases,
            properties: reply.properties.into_iter().map(|kv| (kv.key, kv.value)).collect(),
        }))
    }

    /// The collection whose alias this is; `None` if it is not one, or the server does not tell.
    pub async fn alias_of(&self, alias: &CollectionName) -> Result<Option<CollectionName>> {
        let Some(described) = self.describe(alias).await? else { return Ok(None) };
        let reply = api::DescribeCollectionResponse::decode(described.raw.as_slice());
        let schema = reply.ok().and_then(|reply| reply.schema);
        let name = schema.map(|schema| schema.name).filter(|name| !name.is_empty() && *name != alias.name);
        Ok(name.map(|name| CollectionName::new(&alias.database, &name)))
    }

    /// The aliases of a collection; Lite leaves them out of its descriptions.
    pub async fn aliases(&self, name: &CollectionName) -> Result<Vec<String>> {
        let request = api::ListAliasesRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        match self
            .call::<api::ListAliasesResponse>("ListAliases", &name.database, &request, Repeat::Freely)
            .await
        {
            Ok(reply) => Ok(reply.aliases),
            Err(e) if e.failure == Failure::Unimplemented => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// The partitions, in the server's order; empty on servers without partitions.
    pub async fn partitions(&self, name: &CollectionName) -> Result<Vec<String>> {
        let request = api::ShowPartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        match self
            .call::<api::ShowPartitionsResponse>("ShowPartitions", &name.database, &request, Repeat::Freely)
            .await
        {
            Ok(reply) => Ok(reply.partition_names),
            Err(e) if e.failure == Failure::Unimplemented => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the server has partitions at all.
    pub async fn has_partitions(&self, database: &str) -> Result<bool> {
        let request = api::ShowPartitionsRequest {
            db_name: database.to_string(),
            collection_name: "milvus_handoff_probe".to_string(),
            ..Default::default()
        };
        // A collection that does not exist is asked for: only "unimplemented" matters. A server that denies
        // it knows the request; the user may have rights in other databases only.
        match self
            .call::<api::ShowPartitionsResponse>("ShowPartitions", database, &request, Repeat::Freely)
            .await
        {
            Err(e) if e.failure == Failure::Unimplemented => Ok(false),
            Err(e) if e.failure == Failure::NoReply => Err(e.into()),
            _ => Ok(true),
        }
    }

    /// The indexes of a collection.
    pub async fn indexes(&self, name: &CollectionName) -> Result<Vec<Index>> {
        let described = self.describe_indexes(name, "").await?;
        let index = |d: api::IndexDescription| Index {
            field: d.field_name,
            name: d.index_name,
            params: d.params.into_iter().map(|kv| (kv.key, kv.value)).collect(),
        };
        Ok(described.into_iter().map(index).collect())
    }

    /// Whether every index of a collection is built over all flushed rows. A failed build is an
    /// error with the server's reason.
    pub async fn indexes_ready(&self, name: &CollectionName) -> Result<bool> {
        let mut ready = true;
        for index in self.describe_indexes(name, "").await? {
            match index.state() {
                IndexState::Failed => {
                    let what = format!(
                        "building the index on {:?} failed: {}",
                        index.field_name, index.index_state_fail_reason
                    );
                    return Err(crate::error::Error::new(crate::error::ErrorKind::Unsupported, what));
                }
                // The Lites build within the RPC and leave state and progress at 0.
                IndexState::Finished | IndexState::None => ready &= index.pending_index_rows == 0,
                IndexState::Unissued | IndexState::InProgress | IndexState::Retry => ready = false,
            }
        }
        Ok(ready)
    }

    async fn describe_indexes(
        &self,
        name: &CollectionName,
        field: &str,
    ) -> Result<Vec<api::IndexDescription>> {
        let request = api::DescribeIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            field_name: field.to_string(),
            ..Default::default()
        };
        match self
            .call::<api::DescribeIndexResponse>("DescribeIndex", &name.database, &request, Repeat::Freely)
            .await
        {
            Ok(reply) => Ok(reply.index_descriptions),
            Err(e) if e.failure == Failure::NotFound => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// `count(*)` of the rows that match `filter` (empty: all): deletes applied, rows that share
    /// a key counted one by one. Needs a loaded collection.
    pub async fn count(
        &self,
        name: &CollectionName,
        partition: Option<&str>,
        filter: &str,
        view: View,
    ) -> std::result::Result<u64, RpcError> {
        let request = api::QueryRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            expr: filter.to_string(),
            output_fields: vec!["count(*)".to_string()],
            partition_names: partition.map(str::to_string).into_iter().collect(),
            guarantee_timestamp: view.timestamp(),
            query_params: view.count_params(),
            consistency_level: view.consistency_level() as i32,
            skip_rls: true,
            ..Default::default()
        };
        let (reply, _) = self.query(&request).await?;
        decode_counts(reply.fields_data).map_err(|e| RpcError::malformed("Query", e))
    }

    /// `count(*)` of a partition (or all). Lite 3 ignores the partition unless there is a filter, so
    /// it gets one that every key passes.
    pub async fn count_partition(
        &self,
        name: &CollectionName,
        schema: &Schema,
        partition: Option<&str>,
        view: View,
    ) -> Result<u64> {
        let key = schema.primary_key();
        let filter = match (self.info.kind, partition, &key.kind) {
            (ServerKind::Lite, Some(_), FieldType::Int64) => format!("{} >= 0 or {} < 0", key.name, key.name),
            (ServerKind::Lite, Some(_), _) => format!("{} >= \"\"", key.name),
            _ => String::new(),
        };
        self.count(name, partition, &filter, view).await.map_err(crate::error::Error::from)
    }

    /// The rows that the server's metadata know of: works on unloaded collections, ignores
    /// deletes, and is exact after a flush of a collection that was only inserted into.
    pub async fn statistics_rows(&self, name: &CollectionName) -> Result<u64> {
        let request = api::GetCollectionStatisticsRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let reply: api::GetCollectionStatisticsResponse =
            self.call("GetCollectionStatistics", &name.database, &request, Repeat::Freely).await?;
        let rows = reply.stats.iter().find(|kv| kv.key == "row_count").and_then(|kv| kv.value.parse().ok());
        rows.ok_or_else(|| {
            crate::error::Error::new(
                crate::error::ErrorKind::Integrity,
                "the server's statistics have no row_count",
            )
        })
    }
}
