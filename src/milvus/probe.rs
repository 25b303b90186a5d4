//! Questions for `doctor` that change nothing: what a user may do, and what the server says of its limits.

use super::call::{Failure, Repeat, Reply};
use super::connect::{Client, refused_privilege};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{CollectionName, DEFAULT_DATABASE};
use milvus::proto::common::Status;
use milvus::proto::milvus as api;
use milvus::proto::milvus::QuotaState;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt;

/// A request about a collection.
macro_rules! about {
    ($name:ident, $request:ident $(, $more:ident)*) => {
        api::$request {
            db_name: $name.database.clone(),
            collection_name: $name.name.clone(),
            $($more,)*
            ..Default::default()
        }
    };
}

/// Privileges that were asked for.
#[derive(Default)]
pub struct Grants {
    /// Without these it fails.
    pub missing: BTreeSet<Missing>,
    /// Without these it fails at times only.
    pub at_times: BTreeSet<Missing>,
    /// How many requests were tried.
    pub tried: usize,
}

/// A privilege that a user lacks, in the words in which it is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    privilege: String,
    object: &'static str,
    when: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.privilege, self.object)?;
        if self.when.is_empty() { Ok(()) } else { write!(f, " {}", self.when) }
    }
}

/// The privilege that an RPC needs, where the server's refusal does not name it, and the type of object that it
/// is granted on. As servers since 2.3 have them: some privileges are of several RPCs.
fn needed(rpc: &'static str) -> (&'static str, &'static str) {
    match rpc {
        "LoadCollection" | "LoadPartitions" => ("Load", "Collection"),
        "ReleaseCollection" | "ReleasePartitions" => ("Release", "Collection"),
        "DescribeIndex" => ("IndexDetail", "Collection"),
        "GetCollectionStatistics" => ("GetStatistics", "Collection"),
        "AlterCollection" => ("CreateCollection", "Global"),
        "CreateDatabase" | "CreateCollection" | "DropCollection" | "DescribeCollection" | "CreateAlias"
        | "ListAliases" => (rpc, "Global"),
        _ => (rpc, "Collection"),
    }
}

/// What a server says of itself.
#[derive(Default)]
pub struct Health {
    /// Limits on requests that read.
    pub reading: Limit,
    /// Limits on requests that write.
    pub writing: Limit,
    /// Why it does not call itself healthy, if so.
    pub reasons: Vec<String>,
}

/// How requests of one sort are limited.
#[derive(Default)]
pub struct Limit {
    /// They are refused.
    pub denied: Option<String>,
    /// They are slowed down.
    pub limited: Option<String>,
}

/// One request that was tried: what the user lacks for it.
struct Tried(Option<Missing>);

impl Grants {
    fn add(&mut self, Tried(refused): Tried) {
        self.tried += 1;
        let Some(missing) = refused else { return };
        let to = if missing.when.is_empty() { &mut self.missing } else { &mut self.at_times };
        to.insert(missing);
    }
}

impl Client {
    /// Whether requests carry credentials.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Tries every request of an import, on a collection that does not exist and, where a request would make
    /// something, without a name. Servers with users refuse what is not granted before they look at that, so
    /// nothing can happen whatever they answer. Not `Import`: Milvus 2.3.5 never answers one for a collection
    /// that does not exist.
    pub async fn import_grants(&self, makes_database: bool) -> Result<Grants> {
        let name = self.nothing();
        let (db_name, collection_name) = (name.database.clone(), name.name.clone());
        let unnamed = api::CreateCollectionRequest { db_name: db_name.clone(), ..Default::default() };
        let (alias, partition_name) = (format!("{collection_name}_alias"), "none".to_string());
        let partition = about!(name, CreatePartitionRequest, partition_name);
        let flush = api::FlushRequest {
            db_name: db_name.clone(),
            collection_names: vec![collection_name.clone()],
            ..Default::default()
        };
        let mut grants = Grants::default();
        let database = api::CreateDatabaseRequest::default();
        let when = if makes_database { "" } else { "where a database is to be created" };
        grants.add(self.may::<Status>("CreateDatabase", "", &database, when).await?);
        for refused in [
            self.may::<Status>("CreateCollection", &db_name, &unnamed, "").await?,
            self.may::<Status>("CreatePartition", &db_name, &partition, "").await?,
            self.may::<Status>("CreateAlias", &db_name, &about!(name, CreateAliasRequest, alias), "").await?,
            self.may::<Status>("CreateIndex", &db_name, &about!(name, CreateIndexRequest), "").await?,
            self.may::<Status>("LoadCollection", &db_name, &about!(name, LoadCollectionRequest), "").await?,
            self.may::<Status>("ReleaseCollection", &db_name, &about!(name, ReleaseCollectionRequest), "")
                .await?,
            self.may::<api::MutationResult>("Insert", &db_name, &about!(name, InsertRequest), "").await?,
            self.may::<api::MutationResult>("Upsert", &db_name, &about!(name, UpsertRequest), "").await?,
            self.may::<api::FlushResponse>("Flush", &db_name, &flush, "").await?,
            self.may::<api::GetFlushStateResponse>(
                "GetFlushState",
                &db_name,
                &about!(name, GetFlushStateRequest),
                "",
            )
            .await?,
            self.may::<Status>(
                "DropCollection",
                &db_name,
                &about!(name, DropCollectionRequest),
                "where an interrupted import is to begin a collection anew",
            )
            .await?,
        ] {
            grants.add(refused);
        }
        for refused in self.may_read(&name, "where an interrupted import goes on").await? {
            grants.add(refused);
        }
        Ok(grants)
    }

    /// Tries every request of an export that needs a privilege on the collection `name`, which may be one that
    /// does not exist. What would load or release is tried on one that does not exist.
    pub async fn export_grants(&self, name: Option<&CollectionName>) -> Result<Grants> {
        let nothing = self.nothing();
        let mut grants = Grants::default();
        for refused in self.may_read(name.unwrap_or(&nothing), "").await? {
            grants.add(refused);
        }
        if name.is_none() {
            let (load, release) =
                (about!(nothing, LoadCollectionRequest), about!(nothing, ReleaseCollectionRequest));
            let database = nothing.database;
            let when = "for `--load-source`";
            grants.add(self.may::<Status>("LoadCollection", &database, &load, when).await?);
            grants.add(self.may::<Status>("ReleaseCollection", &database, &release, when).await?);
        }
        Ok(grants)
    }

    /// The requests that read a collection. `aliases`: when those by name are asked for.
    async fn may_read(&self, name: &CollectionName, aliases: &'static str) -> Result<[Tried; 7]> {
        let db_name = &name.database;
        let output_fields = vec!["count(*)".to_string()];
        Ok([
            self.may::<api::DescribeCollectionResponse>(
                "DescribeCollection",
                db_name,
                &about!(name, DescribeCollectionRequest),
                "",
            )
            .await?,
            self.may::<api::ShowPartitionsResponse>(
                "ShowPartitions",
                db_name,
                &about!(name, ShowPartitionsRequest),
                "",
            )
            .await?,
            self.may::<api::DescribeIndexResponse>(
                "DescribeIndex",
                db_name,
                &about!(name, DescribeIndexRequest),
                "",
            )
            .await?,
            self.may::<api::GetCollectionStatisticsResponse>(
                "GetCollectionStatistics",
                db_name,
                &about!(name, GetCollectionStatisticsRequest),
                "",
            )
            .await?,
            self.may::<api::GetLoadStateResponse>(
                "GetLoadState",
                db_name,
                &about!(name, GetLoadStateRequest),
                "",
            )
            .await?,
            self.may::<api::QueryResults>("Query", db_name, &about!(name, QueryRequest, output_fields), "")
                .await?,
            self.may::<api::ListAliasesResponse>(
                "ListAliases",
                db_name,
                &about!(name, ListAliasesRequest),
                aliases,
            )
            .await?,
        ])
    }

    /// A collection that does not exist.
    fn nothing(&self) -> CollectionName {
        let database = self.database.as_deref().unwrap_or(DEFAULT_DATABASE);
        CollectionName::new(database, format!("milvus_handoff_doctor_{}", uuid::Uuid::new_v4().simple()))
    }

    /// What the user lacks to call `rpc`, if anything; it is needed only `when`.
    async fn may<Res: Reply>(
        &self,
        rpc: &'static str,
        database: &str,
        request: &impl Message,
        when: &'static str,
    ) -> Result<Tried> {
        match self.call::<Res>(rpc, database, request, Repeat::Never).await {
            Err(e) if e.failure == Failure::Denied => {
                let (privilege, object) = needed(rpc);
                let privilege = refused_privilege(&e.reason).unwrap_or_else(|| privilege.to_string());
                Ok(Tried(Some(Missing { privilege, object, when })))
            }
            Err(e) if matches!(e.failure, Failure::Unreachable | Failure::NoReply | Failure::Tls) => {
                Err(e.into())
            }
            Ok(_) | Err(_) => Ok(Tried(None)),
        }
    }

    /// What the user lacks whom this error refuses, if it says so.
    pub fn lacks(error: &Error) -> Option<Missing> {
        let privilege = refused_privilege(&error.message()).filter(|_| error.kind() == ErrorKind::Denied)?;
        // Only requests about the whole server are not tried one by one.
        Some(Missing { privilege, object: "Global", when: "" })
    }

    /// Whether the server looks at tokens at all: asked without one. `None` if it does not tell.
    pub async fn checks_tokens(&self) -> Option<bool> {
        let nobody = Client { token: None, ..self.clone() };
        let request = api::ListDatabasesRequest::default();
        let asked =
            nobody.call::<api::ListDatabasesResponse>("ListDatabases", "", &request, Repeat::Never).await;
        match asked {
            Ok(_) => Some(false),
            Err(e) if e.failure == Failure::Denied => Some(true),
            Err(_) => None,
        }
    }

    /// What the server says of its health and its quotas; `None` if it does not know the question.
    pub async fn health(&self) -> Result<Option<Health>> {
        let request = api::CheckHealthRequest::default();
        let asked = self.call::<api::CheckHealthResponse>("CheckHealth", "", &request, Repeat::Freely).await;
        let reply = match asked {
            Ok(reply) => reply,
            Err(e) if e.failure == Failure::Unimplemented => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut health = Health::default();
        for state in reply.quota_states() {
            let (limit, says) = match state {
                QuotaState::Unknown => continue,
                QuotaState::DenyToRead => (&mut health.reading.denied, "reading is denied"),
                QuotaState::ReadLimited => (&mut health.reading.limited, "reading is slowed down"),
                QuotaState::DenyToWrite => (&mut health.writing.denied, "writing is denied"),
                QuotaState::DenyToDdl => (&mut health.writing.denied, "changes of collections are denied"),
                QuotaState::WriteLimited => (&mut health.writing.limited, "writing is slowed down"),
            };
            limit.get_or_insert_with(|| says.to_string());
        }
        if !reply.is_healthy {
            health.reasons = reply.reasons;
        }
        Ok(Some(health))
    }
}
