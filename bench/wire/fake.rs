//! A Milvus in memory. As a source it calls itself 2.6 and pins reads, so an export reads every row
//! once, and answers from encoded pages: with `--keep` the first run makes them, later runs find them.
//! As a target it takes inserts and only counts their rows.

#![allow(clippy::result_large_err)] // the error type is tonic's

use crate::raw::Answers;
use crate::record::{Log, Recorded};
use crate::replay::InsertHead;
use crate::rows::{KEY, Kind, Rows};
use bytes::Bytes;
use milvus::proto::common::{ErrorCode, IndexState, KeyValuePair, LoadState, ServerInfo, Status as Answer};
use milvus::proto::milvus as api;
use milvus::proto::schema::field_data::Field;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::{CollectionSchema, DataType, FieldData, LongArray, ScalarField};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// The collection that is there from the beginning, if it has rows.
const SOURCE: &str = "source";

/// The timestamp at which all reads are pinned.
const PIN: u64 = 462_000_000_000_000_000;

pub struct Fake {
    rows: Rows,
    count: u64,
    keep: bool,
    /// Encoded pages by filter, limit and fields.
    pages: Mutex<HashMap<(String, u64, usize), Bytes>>,
    /// Collections, their schemas and row counts.
    collections: Mutex<BTreeMap<String, (CollectionSchema, u64)>>,
    log: Log,
}

impl Fake {
    pub fn new(kind: Kind, dim: usize, count: u64, keep: bool, record: bool) -> Self {
        let rows = Rows::new(kind, dim);
        let mut collections = BTreeMap::new();
        if count > 0 {
            collections.insert(SOURCE.to_string(), (rows.schema(SOURCE), count));
        }
        Fake {
            rows,
            count,
            keep,
            pages: Mutex::default(),
            collections: Mutex::new(collections),
            log: Log::new(record),
        }
    }

    /// The keys that pass `id > a && id <= b`, as a range of dense keys.
    fn range(&self, filter: &str) -> Result<(u64, u64), Status> {
        let (mut first, mut end) = (0, self.count as i64);
        for term in filter.split(" && ").filter(|term| !term.is_empty()) {
            let words: Vec<&str> = term.split(' ').collect();
            let unexpected = || Status::invalid_argument(format!("the fake server does not know {filter}"));
            let [KEY, operator, value] = words[..] else { return Err(unexpected()) };
            let value: i64 = value.parse().map_err(|_| unexpected())?;
            match operator {
                ">" => first = first.max(value.saturating_add(1)),
                ">=" => first = first.max(value),
                "<=" => end = end.min(value.saturating_add(1)),
                "<" => end = end.min(value),
                _ => return Err(unexpected()),
            }
        }
        let first = first.clamp(0, self.count as i64);
        Ok((first as u64, end.max(first) as u64))
    }

    fn query(&self, request: Bytes) -> Result<Bytes, Status> {
        let request: api::QueryRequest = decode(request)?;
        let (first, end) = self.range(&request.expr)?;
        if request.output_fields == ["count(*)"] {
            return Ok(page(vec![longs("count(*)", vec![(end - first) as i64])]));
        }
        let limit = request.query_params.iter().find(|kv| kv.key == "limit");
        let limit = limit.and_then(|kv| kv.value.parse::<u64>().ok()).unwrap_or(16_384);
        let key = (request.expr, limit, request.output_fields.len());
        if let Some(kept) = self.pages.lock().expect("no panics while it is held").get(&key) {
            return Ok(kept.clone());
        }
        self.log.prepared.fetch_add(1, Ordering::SeqCst);
        let made = page(self.rows.fields(&request.output_fields, first, end.min(first + limit)));
        if self.keep {
            self.pages.lock().expect("no panics while it is held").insert(key, made.clone());
        }
        Ok(made)
    }

    fn describe(&self, name: &str) -> Bytes {
        let collections = self.collections.lock().expect("no panics while it is held");
        let Some((schema, _)) = collections.get(name) else {
            let status = not_found();
            return encode(api::DescribeCollectionResponse { status, ..Default::default() });
        };
        encode(api::DescribeCollectionResponse {
            status: ok(),
            schema: Some(schema.clone()),
            collection_id: 7,
            shards_num: 1,
            collection_name: name.into(),
            ..Default::default()
        })
    }

    fn statistics(&self, name: &str) -> Bytes {
        let collections = self.collections.lock().expect("no panics while it is held");
        let rows = collections.get(name).map_or(0, |(_, rows)| *rows);
        let stats = vec![KeyValuePair { key: "row_count".into(), value: rows.to_string() }];
        encode(api::GetCollectionStatisticsResponse { status: ok(), stats })
    }
}

impl Answers for Fake {
    async fn answer(&self, rpc: &str, _: MetadataMap, request: Bytes) -> Result<Bytes, Status> {
        Ok(match rpc {
            "Query" => return self.query(request),
            "Insert" => {
                let head: InsertHead = decode(request)?;
                let mut collections = self.collections.lock().expect("no panics while it is held");
                let Some((_, rows)) = collections.get_mut(&head.collection) else {
                    return Ok(encode(api::MutationResult { status: not_found(), ..Default::default() }));
                };
                *rows += u64::from(head.rows);
                encode(api::MutationResult {
                    status: ok(),
                    insert_cnt: head.rows.into(),
                    ..Default::default()
                })
            }
            "Connect" => {
                let server_info = Some(ServerInfo { build_tags: "v2.6.3".into(), ..Default::default() });
                encode(api::ConnectResponse { status: ok(), server_info, identifier: 1 })
            }
            "ShowCollections" => {
                let collections = self.collections.lock().expect("no panics while it is held");
                let collection_names = collections.keys().cloned().collect();
                encode(api::ShowCollectionsResponse { status: ok(), collection_names, ..Default::default() })
            }
            "DescribeCollection" => {
                self.describe(&decode::<api::DescribeCollectionRequest>(request)?.collection_name)
            }
            "GetCollectionStatistics" => {
                self.statistics(&decode::<api::GetCollectionStatisticsRequest>(request)?.collection_name)
            }
            "CreateCollection" => {
                let request: api::CreateCollectionRequest = decode(request)?;
                let schema = CollectionSchema::decode(request.schema.as_slice())
                    .map_err(|e| Status::invalid_argument(e.to_string()))?;
                let mut collections = self.collections.lock().expect("no panics while it is held");
                collections.insert(request.collection_name, (schema, 0));
                encode(Answer::default())
            }
            "DropCollection" => {
                let request: api::DropCollectionRequest = decode(request)?;
                self.collections.lock().expect("no panics while it is held").remove(&request.collection_name);
                encode(Answer::default())
            }
            "DescribeIndex" => {
                let pair = |key: &str, value: &str| KeyValuePair { key: key.into(), value: value.into() };
                let index = api::IndexDescription {
                    field_name: "vector".into(),
                    params: vec![pair("index_type", "HNSW"), pair("metric_type", "L2")],
                    state: IndexState::Finished as i32,
                    ..Default::default()
                };
                encode(api::DescribeIndexResponse { status: ok(), index_descriptions: vec![index] })
            }
            "GetLoadState" => {
                encode(api::GetLoadStateResponse { status: ok(), state: LoadState::Loaded as i32 })
            }
            "Flush" => encode(api::FlushResponse { status: ok(), ..Default::default() }),
            "GetFlushState" => encode(api::GetFlushStateResponse { status: ok(), flushed: true }),
            "CreateIndex" | "LoadCollection" | "ReleaseCollection" => encode(Answer::default()),
            other => return Err(Status::unimplemented(other.to_string())),
        })
    }
}

impl Recorded for Fake {
    fn log(&self) -> &Log {
        &self.log
    }
}

fn ok() -> Option<Answer> {
    Some(Answer::default())
}

#[allow(deprecated)] // old clients look only at the legacy code
fn not_found() -> Option<Answer> {
    let error_code = ErrorCode::UnexpectedError as i32;
    Some(Answer { code: 100, error_code, reason: "collection not found".into(), ..Default::default() })
}

fn longs(name: &str, data: Vec<i64>) -> FieldData {
    let data = Some(Scalars::LongData(LongArray { data }));
    FieldData {
        r#type: DataType::Int64 as i32,
        field_name: name.into(),
        field: Some(Field::Scalars(ScalarField { data, ..Default::default() })),
        ..Default::default()
    }
}

fn page(fields_data: Vec<FieldData>) -> Bytes {
    encode(api::QueryResults { status: ok(), fields_data, session_ts: PIN, ..Default::default() })
}

fn decode<M: Message + Default>(request: Bytes) -> Result<M, Status> {
    M::decode(request).map_err(|e| Status::invalid_argument(e.to_string()))
}

fn encode(message: impl Message) -> Bytes {
    message.encode_to_vec().into()
}
