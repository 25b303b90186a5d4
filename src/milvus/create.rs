//! Making databases, collections, partitions, indexes and aliases on a target.

use super::call::{Failure, Repeat, RpcError};
use super::connect::{Client, ServerKind};
use super::wire_schema::{self, KeyPolicy};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::schema::{CollectionName, FieldType};
use crate::snapshot::{CollectionMeta, Index};
use milvus::proto::common::{KeyValuePair, Status};
use milvus::proto::milvus as api;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long index builds may take after the last row was flushed.
const BUILD_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// An index that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexMade {
    /// The indexed field.
    pub field: String,
    /// What the server accepted.
    pub index_type: String,
    /// The source's metric.
    pub metric_type: String,
}

impl Client {
    /// Creates a database.
    pub async fn create_database(&self, database: &str, properties: &BTreeMap<String, String>) -> Result<()> {
        let request = api::CreateDatabaseRequest {
            db_name: database.to_string(),
            properties: properties.iter().map(|(key, value)| pair(key, value)).collect(),
            ..Default::default()
        };
        let _: Status = self
            .call("CreateDatabase", "", &request, Repeat::IfNotDone)
            .await
            .map_err(Error::from)
            .context(|| format!("creating database {database:?}"))?;
        Ok(())
    }

    /// Creates `target` with the schema of `meta`: every attribute as the source described it,
    /// save what a server assigns by itself. A server that takes fewer shards says how many, and then
    /// gets so many.
    pub async fn create_collection(
        &self,
        target: &CollectionName,
        meta: &CollectionMeta,
        keys: KeyPolicy,
    ) -> Result<()> {
        let on = wire_schema::properties_of_the_load(&self.info, &meta.schema, keys);
        let mut request = wire_schema::create_request(target, meta, keys, &on)?;
        let doing = || format!("creating {target}");
        let create = async |request: &api::CreateCollectionRequest| {
            self.call::<Status>("CreateCollection", &target.database, request, Repeat::IfNotDone).await
        };
        match create(&request).await {
            Ok(_) => return Ok(()),
            Err(e) => match most_shards(&e.reason) {
                Some(most) if most < request.shards_num => request.shards_num = most,
                _ => return Err(Error::from(e).context(doing())),
            },
        }
        create(&request).await.map_err(Error::from).context(doing)?;
        Ok(())
    }

    /// Drops a collection.
    pub async fn drop_collection(&self, name: &CollectionName) -> Result<()> {
        let request = api::DropCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            ..Default::default()
        };
        let _: Status = self
            .call("DropCollection", &name.database, &request, Repeat::Freely)
            .await
            .map_err(Error::from)
            .context(|| format!("dropping {name}"))?;
        Ok(())
    }

    /// Ends the time in which a collection is filled: the properties that were on for it become again
    /// what they were on the source.
    pub async fn end_load(
        &self,
        target: &CollectionName,
        meta: &CollectionMeta,
        keys: KeyPolicy,
    ) -> Result<()> {
        let on = wire_schema::properties_of_the_load(&self.info, &meta.schema, keys);
        let before = |key: &&&str| meta.properties.get(**key);
        let properties: Vec<_> =
            on.iter().filter_map(|key| before(&key).map(|value| pair(key, value))).collect();
        let delete_keys: Vec<_> =
            on.iter().filter(|key| before(key).is_none()).map(ToString::to_string).collect();
        // Servers refuse a request that does both.
        for (properties, delete_keys) in [(properties, Vec::new()), (Vec::new(), delete_keys)] {
            if properties.is_empty() && delete_keys.is_empty() {
                continue;
            }
            let request = api::AlterCollectionRequest {
                db_name: target.database.clone(),
                collection_name: target.name.clone(),
                properties,
                delete_keys,
                ..Default::default()
            };
            let _: Status = self.call("AlterCollection", &target.database, &request, Repeat::Freely).await?;
        }
        Ok(())
    }

    /// Creates a partition.
    pub async fn create_partition(&self, name: &CollectionName, partition: &str) -> Result<()> {
        let request = api::CreatePartitionRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_name: partition.to_string(),
            ..Default::default()
        };
        let _: Status = self
            .call("CreatePartition", &name.database, &request, Repeat::IfNotDone)
            .await
            .map_err(Error::from)
            .context(|| format!("creating partition {partition:?} of {name}"))?;
        Ok(())
    }

    /// Gives a collection another name.
    pub async fn create_alias(&self, name: &CollectionName, alias: &str) -> Result<()> {
        let request = api::CreateAliasRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            alias: alias.to_string(),
            ..Default::default()
        };
        let _: Status = self
            .call("CreateAlias", &name.database, &request, Repeat::IfNotDone)
            .await
            .map_err(Error::from)
            .context(|| format!("creating alias {alias:?} of {name}"))?;
        Ok(())
    }

    /// Whether the server has aliases.
    pub async fn has_aliases(&self, database: &str) -> Result<bool> {
        let request = api::DescribeAliasRequest {
            db_name: database.to_string(),
            alias: "milvus_handoff_probe".to_string(),
            ..Default::default()
        };
        // An alias that does not exist is asked for: only "unimplemented" matters. Servers before
        // 2.4 lack this RPC but do have aliases.
        match self
            .call::<api::DescribeAliasResponse>("DescribeAlias", database, &request, Repeat::Freely)
            .await
        {
            Err(e) if e.failure == Failure::Unimplemented => Ok(self.info.kind == ServerKind::Milvus),
            Err(e) if e.failure == Failure::NoReply => Err(e.into()),
            _ => Ok(true),
        }
    }

    /// Creates the index of a vector field: AUTOINDEX with the source's metric or, where the
    /// server refuses AUTOINDEX for that type, the exhaustive index that it does take.
    pub async fn create_vector_index(
        &self,
        name: &CollectionName,
        field: &str,
        kind: &FieldType,
        index_name: &str,
        metric_type: &str,
    ) -> Result<IndexMade> {
        let made = |index_type: &str| IndexMade {
            field: field.to_string(),
            index_type: index_type.to_string(),
            metric_type: metric_type.to_string(),
        };
        let doing = || format!("creating the index on {field:?} of {name}");
        // Lite 3 accepts AUTOINDEX on a sparse field and then cannot load the collection.
        let known_refusal = self.info.kind == ServerKind::Lite && *kind == FieldType::SparseFloatVector;
        if !known_refusal {
            match self.create_index(name, field, index_name, vector_params("AUTOINDEX", metric_type)).await {
                Ok(()) => return Ok(made("AUTOINDEX")),
                Err(e) if e.failure == Failure::Refused => {
                    tracing::debug!(field, reason = e.reason, "AUTOINDEX refused");
                }
                Err(e) => return Err(Error::from(e).context(doing())),
            }
        }
        let plain = match kind {
            FieldType::BinaryVector { .. } => "BIN_FLAT",
            FieldType::SparseFloatVector => "SPARSE_INVERTED_INDEX",
            _ => "FLAT",
        };
        self.create_index(name, field, index_name, vector_params(plain, metric_type))
            .await
            .map_err(Error::from)
            .context(doing)?;
        Ok(made(plain))
    }

    /// Creates an index on a scalar field: of the source's kind or, where the server refuses it,
    /// AUTOINDEX. `None` if it refuses both.
    pub async fn create_scalar_index(
        &self,
        name: &CollectionName,
        index: &Index,
    ) -> Result<Option<IndexMade>> {
        let params: Vec<_> = index.params.iter().map(|(key, value)| pair(key, value)).collect();
        let kind = index.params.get("index_type").map_or("", String::as_str);
        for (index_type, params) in [(kind, params), ("AUTOINDEX", vec![pair("index_type", "AUTOINDEX")])] {
            match self.create_index(name, &index.field, &index.name, params).await {
                Ok(()) => {
                    let (field, index_type) = (index.field.clone(), index_type.to_string());
                    return Ok(Some(IndexMade { field, index_type, metric_type: String::new() }));
                }
                Err(e) if matches!(e.failure, Failure::Refused | Failure::Unimplemented) => {
                    tracing::debug!(field = index.field, index_type, reason = e.reason, "index refused");
                }
                Err(e) => {
                    return Err(
                        Error::from(e).context(format!("creating the index on {:?} of {name}", index.field))
                    );
                }
            }
        }
        Ok(None)
    }

    async fn create_index(
        &self,
        name: &CollectionName,
        field: &str,
        index_name: &str,
        extra_params: Vec<KeyValuePair>,
    ) -> std::result::Result<(), RpcError> {
        let metric =
            extra_params.iter().find(|pair| pair.key == "metric_type").map(|pair| pair.value.clone());
        let request = api::CreateIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            field_name: field.to_string(),
            index_name: index_name.to_string(),
            extra_params,
            ..Default::default()
        };
        let made = self.call::<Status>("CreateIndex", &name.database, &request, Repeat::Freely).await;
        match made {
            Ok(_) => Ok(()),
            // On a collection of our own, one that exists already is that of an earlier try whose
            // reply was lost.
            Err(e) if is_taken(&e) && self.has_index(name, field, metric.as_deref()).await => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether a field has an index, and by this metric.
    async fn has_index(&self, name: &CollectionName, field: &str, metric: Option<&str>) -> bool {
        let is_it = |index: &Index| {
            let own = index.params.get("metric_type").map(String::as_str);
            index.field == field && (metric.is_none() || own == metric)
        };
        self.indexes(name).await.is_ok_and(|indexes| indexes.iter().any(is_it))
    }

    /// Waits until every index of a flushed collection covers all its rows.
    pub async fn wait_for_indexes(&self, name: &CollectionName) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(50);
        while !self.indexes_ready(name).await? {
            if start.elapsed() > BUILD_PATIENCE {
                let what = format!(
                    "the indexes of {name} are not built after {} hours",
                    BUILD_PATIENCE.as_secs() / 3600
                );
                return Err(Error::new(ErrorKind::Temporary, what)
                    .hint("see the server's index nodes; all rows are in the collection"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        Ok(())
    }
}

/// The number in "maximum shards's number should be limited to 16".
fn most_shards(reason: &str) -> Option<i32> {
    let (_, rest) = reason.split_once("shards's number should be limited to ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok().filter(|most| *most > 0)
}

fn pair(key: &str, value: &str) -> KeyValuePair {
    KeyValuePair { key: key.to_string(), value: value.to_string() }
}

/// A field that has an index already; there is no code for it. The same index is refused only by some.
fn is_taken(error: &RpcError) -> bool {
    ["already exist", "at most one distinct index"].iter().any(|text| error.reason.contains(text))
}

fn vector_params(index_type: &str, metric_type: &str) -> Vec<KeyValuePair> {
    vec![pair("index_type", index_type), pair("metric_type", metric_type)]
}
