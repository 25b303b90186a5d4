//! Questions for `doctor` that change nothing: what a user may do, and what the server says of its limits.

use super::call::{Failure, Repeat, Reply};
use super::connect::Client;
use crate::error::Result;
use crate::schema::DEFAULT_DATABASE;
use milvus::proto::common::Status;
use milvus::proto::milvus as api;
use milvus::proto::milvus::QuotaState;
use prost::Message;

/// Privileges that were asked for.
pub struct Grants {
    /// Requests that the user may not make, by the name of their RPC.
    pub missing: Vec<&'static str>,
    /// How many were tried.
    pub tried: usize,
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

impl Client {
    /// Whether requests carry credentials.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Tries every request by which an import writes, on a collection that does not exist and, where
    /// a request would make one, without a name. Servers with users refuse what is not granted before
    /// they look at that, so nothing can happen whatever they answer.
    pub async fn grants(&self) -> Result<Grants> {
        let db_name = self.database.clone().unwrap_or_else(|| DEFAULT_DATABASE.to_string());
        let collection_name = format!("milvus_handoff_doctor_{}", uuid::Uuid::new_v4().simple());
        let alias = format!("{collection_name}_alias");
        macro_rules! about {
            ($request:ident $(, $more:ident)?) => {
                api::$request {
                    db_name: db_name.clone(),
                    collection_name: collection_name.clone(),
                    $($more,)?
                    ..Default::default()
                }
            };
        }
        let unnamed = api::CreateCollectionRequest { db_name: db_name.clone(), ..Default::default() };
        let partition_name = "none".to_string();
        let partition = about!(CreatePartitionRequest, partition_name);
        let flush = api::FlushRequest {
            db_name: db_name.clone(),
            collection_names: vec![collection_name.clone()],
            ..Default::default()
        };
        let tried = [
            self.may::<Status>("CreateCollection", &db_name, &unnamed).await?,
            self.may::<Status>("CreatePartition", &db_name, &partition).await?,
            self.may::<Status>("CreateAlias", &db_name, &about!(CreateAliasRequest, alias)).await?,
            self.may::<Status>("CreateIndex", &db_name, &about!(CreateIndexRequest)).await?,
            self.may::<Status>("LoadCollection", &db_name, &about!(LoadCollectionRequest)).await?,
            self.may::<Status>("ReleaseCollection", &db_name, &about!(ReleaseCollectionRequest)).await?,
            self.may::<api::MutationResult>("Insert", &db_name, &about!(InsertRequest)).await?,
            self.may::<api::MutationResult>("Upsert", &db_name, &about!(UpsertRequest)).await?,
            self.may::<api::FlushResponse>("Flush", &db_name, &flush).await?,
        ];
        Ok(Grants { missing: tried.into_iter().flatten().collect(), tried: tried.len() })
    }

    /// The RPC's name if the user may not call it.
    async fn may<Res: Reply>(
        &self,
        rpc: &'static str,
        database: &str,
        request: &impl Message,
    ) -> Result<Option<&'static str>> {
        match self.call::<Res>(rpc, database, request, Repeat::Never).await {
            Err(e) if e.failure == Failure::Denied => Ok(Some(rpc)),
            Err(e) if matches!(e.failure, Failure::Unreachable | Failure::NoReply | Failure::Tls) => {
                Err(e.into())
            }
            Ok(_) | Err(_) => Ok(None),
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
