//! A Milvus in memory, spoken to over real gRPC: it does what the versions do that cannot be had
//! here (2.4 to 3.0, and the types of the newest protocol), and what a server does on a bad day.
//!
//! Owns: collections of any schema, rows of every type kept as the columns they came in, the
//! proxy's checks of schemas and rows (`checks`), reads pinned to a timestamp (2.5 and later),
//! filters over primary keys (`filter`), the layouts of nulls (`cell`), aliases, partitions,
//! databases, properties and indexes; and habits: whatever goes wrong on the wire. Does not own:
//! searches, segments, load balancing, anything that nobody here asks a server for.
//!
//! What it does follows the servers' code as of 3.0. It stands in for no engine that can be run.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]
// A refusal of the transport is as large as the generated trait has it.
#![allow(clippy::result_large_err)]

pub mod bulk;
pub mod cell;
mod checks;
mod filter;
pub mod moves;
pub mod source;

use cell::{Cell, Declared, Validity, default_cell, element, is_vector, kind};
use filter::Filter;
pub use filter::Key;
use milvus::proto::common::{
    ConsistencyLevel, ErrorCode, IndexState, KeyValuePair, LoadState, ServerInfo, Status as Answer,
};
use milvus::proto::milvus as api;
use milvus::proto::milvus::milvus_service_server::{MilvusService, MilvusServiceServer};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::i_ds::IdField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    CollectionSchema, DataType, FieldData, FieldSchema, FloatArray, FunctionType, IDs, LongArray,
    ScalarField, StringArray,
};
use milvus_handoff::milvus::{Endpoint, Tls};
use prost::Message;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// Major, minor, patch.
pub type Release = (u32, u32, u32);

const META: &str = "$meta";
const TAKES_KEYS: &str = "allow_insert_auto_id";
const TAKES_OUTPUTS: &str = "collection.function.allowInsertNonBM25FunctionOutputs";
const NO_FUNCTION_CHECK: &str = "disable_func_runtime_check";

/// Something that happens to a server while it is read.
pub type Event = Arc<dyn Fn(&mut State) + Send + Sync>;

/// Something that happens to a page of rows on its way.
pub type Tamper = Arc<dyn Fn(&mut api::QueryResults) + Send + Sync>;

/// Which requests of a kind are refused, counted from 0, and how.
pub type Refusal = (Range<usize>, i32, &'static str);

/// What the server does wrong, or as another version does.
#[derive(Clone, Default)]
pub struct Habits {
    /// Where it says which rows are null, if not as its version does.
    pub validity: Option<Validity>,
    /// No page has more rows, whatever is asked for.
    pub short_pages: Option<usize>,
    /// Pages of more rows are refused as too large.
    pub too_large_above: Option<usize>,
    /// Pages of more bytes are refused as too large.
    pub max_output_bytes: Option<usize>,
    /// What happens behind the first page of rows.
    pub meanwhile: Option<Event>,
    /// The second page of a scan is the first one again.
    pub repeats_a_page: bool,
    /// A row that is counted and never handed out.
    pub hides: Option<Key>,
    /// Of every so many requests, one finds it restarting.
    pub unavailable_every: Option<usize>,
    /// Pages with these numbers are refused, with a code and a text.
    pub refuses_pages: Option<Refusal>,
    /// Inserts with these numbers are refused, with a code and a text.
    pub refuses_inserts: Option<Refusal>,
    /// Pages with these numbers are never answered.
    pub stalls_pages: Range<usize>,
    /// Inserts with these numbers take effect and are never answered.
    pub stalls_inserts: Range<usize>,
    /// Inserts and pages of more bytes meet the limit of the transport.
    pub message_limit: Option<usize>,
    /// What happens behind the first insert.
    pub after_an_insert: Option<Event>,
    /// What every request must bring, if anything.
    pub token: Option<&'static str>,
    /// RPCs that the user may not call, each with the privilege that is missing, as servers name it.
    pub denies: Vec<(&'static str, &'static str)>,
    /// The reply to the first insert is lost after its effect.
    pub loses_a_reply: bool,
    /// The model that embeds texts cannot be reached from here.
    pub no_models: bool,
    /// Other than 16.
    pub most_shards: Option<i32>,
    /// What becomes of each page of rows.
    pub tamper: Option<Tamper>,
    /// What goes wrong with bulk imports.
    pub bulk: bulk::BulkHabits,
}

/// All that a server has.
#[derive(Default)]
pub struct State {
    pub databases: BTreeMap<String, Database>,
    clock: u64,
    next_id: i64,
    pages: usize,
    inserts: usize,
    pub jobs: bulk::Jobs,
    /// Every RPC that changes anything, by name; also those that were refused after their checks.
    pub changes: Vec<&'static str>,
}

#[derive(Default)]
pub struct Database {
    pub properties: Vec<KeyValuePair>,
    pub collections: BTreeMap<String, Collection>,
}

/// A collection and its rows.
pub struct Collection {
    pub id: i64,
    pub schema: CollectionSchema,
    pub shards: i32,
    pub consistency_level: i32,
    pub properties: Vec<KeyValuePair>,
    pub partitions: Vec<String>,
    pub aliases: Vec<String>,
    pub indexes: Vec<api::IndexDescription>,
    pub loaded: bool,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    key: Key,
    partition: usize,
    inserted: u64,
    deleted: Option<u64>,
    /// One a column of [`Collection::columns`].
    cells: Vec<Option<Cell>>,
}

/// A server.
#[derive(Clone)]
pub struct Fake {
    release: Release,
    tag: Arc<str>,
    habits: Arc<Mutex<Habits>>,
    state: Arc<Mutex<State>>,
}

/// Why an RPC is refused: code, text, and whether to come again.
struct Refused(i32, String, bool);

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Refused(1100, text, false)
    }
}

type Done<T> = Result<T, Refused>;

fn missing(what: &str, name: &str, code: i32) -> Refused {
    Refused(code, format!("{what} not found[{what}={name}]"), false)
}

#[allow(deprecated)]
fn refused(Refused(code, reason, retriable): Refused) -> Option<Answer> {
    let error_code = ErrorCode::UnexpectedError as i32;
    Some(Answer { code, error_code, reason, retriable, ..Default::default() })
}

fn ok() -> Option<Answer> {
    Some(Answer::default())
}

/// A reply to RPCs that answer with a status alone.
fn plain(done: Done<()>) -> Result<Response<Answer>, Status> {
    Ok(Response::new(done.err().and_then(refused).unwrap_or_default()))
}

/// Other replies have a status within.
macro_rules! reply {
    ($kind:ident, $done:expr) => {
        Ok(Response::new(match $done {
            Ok(reply) => api::$kind { status: ok(), ..reply },
            Err(error) => api::$kind { status: refused(error), ..Default::default() },
        }))
    };
}

pub fn pair(key: &str, value: &str) -> KeyValuePair {
    KeyValuePair { key: key.into(), value: value.into() }
}

pub fn property<'a>(properties: &'a [KeyValuePair], key: &str) -> Option<&'a str> {
    properties.iter().find(|kv| kv.key == key).map(|kv| kv.value.as_str())
}

fn is_true(properties: &[KeyValuePair], key: &str) -> bool {
    property(properties, key) == Some("true")
}

impl Collection {
    /// Declared columns in order, structs last, `$meta` at the end.
    pub fn columns(&self) -> Vec<Declared> {
        let fields = self.schema.fields.iter().cloned().map(Declared::Field);
        let structs = self.schema.struct_array_fields.iter().cloned().map(Declared::Struct);
        let meta = self.schema.enable_dynamic_field.then(|| {
            Declared::Field(FieldSchema {
                name: META.into(),
                data_type: DataType::Json as i32,
                is_dynamic: true,
                ..Default::default()
            })
        });
        fields.chain(structs).chain(meta).collect()
    }

    fn key(&self) -> &FieldSchema {
        self.schema.fields.iter().find(|f| f.is_primary_key).expect("checked when it was created")
    }

    fn has_partition_key(&self) -> bool {
        self.schema.fields.iter().any(|f| f.is_partition_key)
    }

    fn output_of(&self, field: &str) -> Option<FunctionType> {
        let function =
            self.schema.functions.iter().find(|f| f.output_field_names.iter().any(|o| o == field))?;
        FunctionType::try_from(function.r#type).ok()
    }

    /// The rows that are there at a timestamp, by key; of those that share one, the newest.
    fn rows_at<'a>(&'a self, at: u64, partitions: &'a [usize], filter: &'a Filter) -> Vec<&'a Row> {
        let mut newest: BTreeMap<&Key, &Row> = BTreeMap::new();
        for row in self.all_at(at, partitions, filter) {
            let kept = newest.entry(&row.key).or_insert(row);
            if kept.inserted <= row.inserted {
                *kept = row;
            }
        }
        newest.into_values().collect()
    }

    fn all_at<'a>(
        &'a self,
        at: u64,
        partitions: &'a [usize],
        filter: &'a Filter,
    ) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| {
            row.inserted <= at
                && row.deleted.is_none_or(|deleted| deleted > at)
                && (partitions.is_empty() || partitions.contains(&row.partition))
                && filter.passes(&row.key)
        })
    }

    /// Every row with its partition, by key, in columns as they were declared: what two servers
    /// that have the same rows agree on.
    pub fn contents(&self) -> Vec<(Key, String, Vec<Option<Cell>>)> {
        let mut all: Vec<_> = self
            .all_at(u64::MAX, &[], &Filter::Everything)
            .map(|row| (row.key.clone(), self.partitions[row.partition].clone(), row.cells.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn partition_numbers(&self, names: &[String]) -> Done<Vec<usize>> {
        if self.has_partition_key() && !names.is_empty() {
            let what = "not support manually specifying the partition names if partition key mode is used";
            return Err(what.to_string().into());
        }
        let number = |name: &String| {
            self.partitions.iter().position(|p| p == name).ok_or_else(|| missing("partition", name, 200))
        };
        names.iter().map(number).collect()
    }
}

impl State {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        450_000_000_000_000_000 + self.next_id
    }

    fn database(&mut self, name: &str) -> Done<&mut Database> {
        let name = if name.is_empty() { "default" } else { name };
        self.databases.get_mut(name).ok_or_else(|| missing("database", name, 800))
    }

    /// By name or alias.
    pub fn collection(&mut self, database: &str, name: &str) -> Option<&mut Collection> {
        let database = self.database(database).ok()?;
        let real = match database.collections.contains_key(name) {
            true => name.to_string(),
            false => {
                database.collections.iter().find(|(_, c)| c.aliases.iter().any(|a| a == name))?.0.clone()
            }
        };
        database.collections.get_mut(&real)
    }

    /// Puts a row there that no client could insert, or that comes from another client.
    pub fn put(&mut self, name: &str, key: Key, cells: Vec<Option<Cell>>) {
        let inserted = self.now();
        let collection = self.collection("", name).expect(name);
        collection.rows.push(Row { key, partition: 0, inserted, deleted: None, cells });
    }

    /// Somebody drops a collection.
    pub fn drop_collection(&mut self, name: &str) {
        self.databases.get_mut("default").unwrap().collections.remove(name).expect(name);
    }

    /// Somebody drops a collection and makes one with the same rows.
    pub fn make_anew(&mut self, name: &str) {
        let id = self.id();
        self.collection("", name).expect(name).id = id;
    }

    /// Somebody adds a field, which is null in every row.
    pub fn add_field(&mut self, name: &str, field: FieldSchema) {
        let collection = self.collection("", name).expect(name);
        assert!(field.nullable && !collection.schema.enable_dynamic_field);
        collection.schema.fields.push(field);
        collection.rows.iter_mut().for_each(|row| row.cells.push(None));
    }

    fn get(&mut self, database: &str, name: &str) -> Done<&mut Collection> {
        self.database(database)?;
        self.collection(database, name).ok_or_else(|| missing("collection", name, 100))
    }
}

/// Refuses what is not granted, before anybody looks at the request: as servers do it.
#[derive(Clone)]
struct Gate<S> {
    service: S,
    fake: Fake,
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Gate<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let rpc = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
        let denied = self.fake.habits().denies.into_iter().find(|(denied, _)| *denied == rpc);
        match denied {
            Some((_, privilege)) => {
                let says = format!("Privilege{privilege}: permission deny to somebody");
                let refusal = Status::permission_denied(says).into_http();
                Box::pin(async { Ok(refusal) })
            }
            None => Box::pin(self.service.call(request)),
        }
    }
}

impl Fake {
    /// Starts a server that says that it is `tag` (`v2.6.3`), and gives its address.
    pub async fn start(tag: &str, habits: Habits) -> (Fake, Endpoint) {
        let numbers: Vec<u32> =
            tag.trim_start_matches('v').split(['.', '-']).map_while(|n| n.parse().ok()).collect();
        let mut state = State::default();
        state.databases.insert("default".into(), Database::default());
        state.clock = 1000;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // No two servers give the same ids.
        state.next_id = i64::from(address.port()) * 1_000_000;
        let fake = Fake {
            release: (numbers[0], numbers[1], numbers[2]),
            tag: tag.into(),
            habits: Arc::new(Mutex::new(habits)),
            state: Arc::new(Mutex::new(state)),
        };
        let address = format!("http://{address}");
        // As servers are set up: 64 MiB in, 256 MiB out.
        let service = MilvusServiceServer::new(fake.clone()).max_decoding_message_size(64 << 20);
        let service = Gate { service, fake: fake.clone() };
        let (door, requests) = (fake.clone(), Arc::new(AtomicUsize::new(0)));
        let admit = move |request| door.admit(request, requests.fetch_add(1, Ordering::Relaxed));
        let serving =
            tonic::transport::Server::builder().add_service(InterceptedService::new(service, admit));
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        (fake, Endpoint::parse(&address, None, Tls::default()).unwrap())
    }

    fn habits(&self) -> Habits {
        self.habits.lock().unwrap().clone()
    }

    /// From now on it does this wrong, and nothing else.
    pub fn behaves(&self, habits: Habits) {
        *self.habits.lock().unwrap() = habits;
    }

    fn admit(&self, request: Request<()>, number: usize) -> Result<Request<()>, Status> {
        let habits = self.habits();
        if habits.unavailable_every.is_some_and(|every| number % every == every - 1) {
            return Err(Status::unavailable("the server is restarting"));
        }
        let Some(token) = habits.token else { return Ok(request) };
        use base64::Engine;
        let due = base64::engine::general_purpose::STANDARD.encode(token);
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(due.as_str()) {
            return Ok(request);
        }
        Err(Status::unauthenticated("auth check failure, please check username and password are correct"))
    }

    /// What it has.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What is in a collection; see [`Collection::contents`].
    pub fn contents(&self, name: &str) -> Vec<(Key, String, Vec<Option<Cell>>)> {
        self.state().collection("", name).expect(name).contents()
    }

    /// Makes a collection as a client would.
    pub fn create(&self, request: api::CreateCollectionRequest) {
        self.try_create(request).map_err(|e| e.1).unwrap();
    }

    /// Inserts rows as a client would, and loads the collection.
    pub fn fill(&self, name: &str, partition: &str, rows: u32, fields_data: Vec<FieldData>) {
        let request = api::InsertRequest {
            collection_name: name.into(),
            partition_name: partition.into(),
            num_rows: rows,
            fields_data,
            ..Default::default()
        };
        self.write(request, false).map_err(|e| e.1).unwrap();
        let mut state = self.state();
        state.collection("", name).unwrap().loaded = true;
        state.changes.clear();
        state.inserts = 0;
    }

    /// Indexes a field as a client would.
    pub fn index(&self, collection: &str, field: &str, params: &[(&str, &str)]) {
        let request = api::CreateIndexRequest {
            collection_name: collection.into(),
            field_name: field.into(),
            index_name: format!("{field}_index"),
            extra_params: params.iter().map(|(key, value)| pair(key, value)).collect(),
            ..Default::default()
        };
        self.make_index(request).map_err(|e| e.1).unwrap();
    }

    fn validity(&self) -> Validity {
        self.habits().validity.unwrap_or(if self.release < (3, 0, 0) {
            Validity::Beside
        } else {
            Validity::Both
        })
    }

    fn takes_keys(&self) -> bool {
        match self.release {
            (2, 5, patch) => patch >= 19,
            (2, 6, patch) => patch >= 3,
            release => release >= (3, 0, 0),
        }
    }

    fn check_properties(&self, schema: &CollectionSchema, properties: &[KeyValuePair]) -> Done<()> {
        let auto_id = schema.fields.iter().any(|f| f.is_primary_key && f.auto_id);
        if self.takes_keys() && is_true(properties, TAKES_KEYS) && !auto_id {
            return Err(format!("the value for {TAKES_KEYS} must be false when autoID is false").into());
        }
        Ok(())
    }

    fn try_create(&self, request: api::CreateCollectionRequest) -> Done<()> {
        let mut schema = CollectionSchema::decode(request.schema.as_slice()).map_err(|e| e.to_string())?;
        checks::schema(&schema, self.release)?;
        let most = self.habits().most_shards.unwrap_or(16);
        if request.shards_num > most {
            return Err(Refused(1, format!("maximum shards's number should be limited to {most}"), false));
        }
        self.check_properties(&schema, &request.properties)?;
        let keyed = schema.fields.iter().any(|f| f.is_partition_key);
        if request.num_partitions > 0 && !keyed {
            return Err("num_partitions should only be specified with partition key field enabled"
                .to_string()
                .into());
        }
        let embeds = schema.functions.iter().any(|f| f.r#type == FunctionType::TextEmbedding as i32);
        let unchecked = self.release >= (2, 6, 8) && is_true(&request.properties, NO_FUNCTION_CHECK);
        if embeds && self.habits().no_models && !unchecked {
            return Err("Check function [embed] failed: the model cannot be reached".to_string().into());
        }
        let mut state = self.state();
        state.changes.push("CreateCollection");
        let id = state.id();
        let database = state.database(&request.db_name)?;
        let name = request.collection_name;
        if database.collections.contains_key(&name) {
            return Err(format!("collection already exists[collection={name}]").into());
        }
        // Ids are the server's to give, and outputs its to mark.
        let outputs: Vec<_> = schema.functions.iter().flat_map(|f| f.output_field_names.clone()).collect();
        let mut next = 100;
        let mut number = |given: i64| {
            next = next.max(given);
            let this = next;
            next += 1;
            this
        };
        for field in &mut schema.fields {
            field.field_id = number(field.field_id);
            field.is_function_output = outputs.contains(&field.name);
        }
        for structs in &mut schema.struct_array_fields {
            structs.field_id = number(structs.field_id);
            for sub in &mut structs.fields {
                sub.field_id = number(sub.field_id);
                // A struct is null as a whole, and its sub-fields say so too.
                sub.nullable = structs.nullable;
            }
        }
        let partitions = match keyed {
            true => {
                let count = if request.num_partitions > 0 { request.num_partitions } else { 16 };
                (0..count).map(|n| format!("_default_{n}")).collect()
            }
            false => vec!["_default".to_string()],
        };
        let collection = Collection {
            id,
            schema,
            shards: request.shards_num.max(1),
            consistency_level: request.consistency_level,
            properties: request.properties,
            partitions,
            aliases: Vec::new(),
            indexes: Vec::new(),
            loaded: false,
            rows: Vec::new(),
        };
        database.collections.insert(name, collection);
        Ok(())
    }

    fn write(&self, mut request: api::InsertRequest, upsert: bool) -> Done<api::MutationResult> {
        let mut state = self.state();
        state.changes.push(if upsert { "Upsert" } else { "Insert" });
        state.inserts += 1;
        if let Some((which, code, text)) = self.habits().refuses_inserts
            && which.contains(&(state.inserts - 1))
        {
            // As servers have it, a quota is not retriable and a rate limit is.
            return Err(Refused(code, text.into(), code != 9));
        }
        let now = state.now();
        let rows = request.num_rows as usize;
        if rows == 0 {
            return Err("num_rows should be greater than 0".to_string().into());
        }
        let made: Vec<i64> = (0..rows).map(|_| state.id()).collect();
        let collection = state.get(&request.db_name, &request.collection_name)?;
        if collection.has_partition_key() && !request.partition_name.is_empty() {
            let what = "not support manually specifying the partition names if partition key mode is used";
            return Err(what.to_string().into());
        }
        let key = collection.key().clone();
        let takes_keys = self.takes_keys() && is_true(&collection.properties, TAKES_KEYS);
        let takes_outputs = self.release >= (2, 6, 0) && is_true(&collection.properties, TAKES_OUTPUTS);
        let columns = collection.columns();
        let mut cells: Vec<Vec<Option<Cell>>> = Vec::new();
        for declared in &columns {
            let name = declared.name();
            let position = request
                .fields_data
                .iter()
                .position(|f| f.field_name == name || (name == META && f.is_dynamic));
            let given = position.map(|position| request.fields_data.swap_remove(position));
            let column = match (given, collection.output_of(name)) {
                (Some(_), Some(FunctionType::TextEmbedding)) if !takes_outputs => {
                    return Err(format!(
                        "Insert data has function output field, but {TAKES_OUTPUTS} is not enabled: {name}"
                    )
                    .into());
                }
                (Some(_), Some(output)) if output != FunctionType::TextEmbedding => {
                    return Err(
                        format!("the field {name} is the output of a function, it cannot be given").into()
                    );
                }
                (None, Some(output)) => vec![computed(declared, output); rows],
                (Some(_), None) if name == key.name && key.auto_id && (upsert || !takes_keys) => {
                    return Err("more fieldData has pass in: the keys are made by the server"
                        .to_string()
                        .into());
                }
                (None, None) if name == key.name && key.auto_id => {
                    let long =
                        |id: &i64| Some(Cell::Scalar(Scalars::LongData(LongArray { data: vec![*id] })));
                    let text = |id: &i64| {
                        Some(Cell::Scalar(Scalars::StringData(StringArray { data: vec![id.to_string()] })))
                    };
                    match kind(&key) {
                        DataType::Int64 => made.iter().map(long).collect(),
                        _ => made.iter().map(text).collect(),
                    }
                }
                (Some(data), _) => checks::column(declared, data, rows, self.release)?,
                (None, None) if name == META => {
                    let empty = milvus::proto::schema::JsonArray { data: vec![b"{}".to_vec()] };
                    vec![Some(Cell::Scalar(Scalars::JsonData(empty))); rows]
                }
                (None, None) => {
                    let default = matches!(declared, Declared::Field(f) if f.default_value.is_some());
                    if !default && !declared.nullable() {
                        return Err(
                            format!("fieldSchema({name}) has no corresponding fieldData pass in").into()
                        );
                    }
                    vec![None; rows]
                }
            };
            // A null where there is a default becomes the default.
            let default = match declared {
                Declared::Field(field) => default_cell(field),
                Declared::Struct(_) => None,
            };
            cells.push(column.into_iter().map(|cell| cell.or_else(|| default.clone())).collect());
            if name == META {
                let mut meta = cells.last().into_iter().flatten().flatten();
                meta.try_for_each(|cell| checks::dynamic(&collection.schema, cell))?;
            }
        }
        if let Some(extra) = request.fields_data.first() {
            return Err(format!("fieldName {} not exist in collection schema", extra.field_name).into());
        }
        let place = columns.iter().position(|c| c.name() == key.name).expect("it is a column");
        let spread = columns.iter().position(|c| matches!(c, Declared::Field(f) if f.is_partition_key));
        let named = match request.partition_name.as_str() {
            "" => 0,
            name => collection.partition_numbers(&[name.to_string()])?[0],
        };
        let mut keys = Vec::new();
        for row in 0..rows {
            let own: Vec<_> = cells.iter().map(|column| column[row].clone()).collect();
            let key = match &own[place] {
                Some(Cell::Scalar(Scalars::LongData(d))) => Key::Int(d.data[0]),
                Some(Cell::Scalar(Scalars::StringData(d))) => Key::Text(d.data[0].clone()),
                other => panic!("{other:?} as a key"),
            };
            let partition = match spread {
                None => named,
                Some(column) => {
                    let text = format!("{:?}", own[column]);
                    text.bytes().map(usize::from).sum::<usize>() % collection.partitions.len()
                }
            };
            if upsert {
                let old = collection.rows.iter_mut().filter(|row| row.key == key && row.deleted.is_none());
                old.for_each(|row| row.deleted = Some(now));
            }
            keys.push(key.clone());
            collection.rows.push(Row { key, partition, inserted: now, deleted: None, cells: own });
        }
        let id_field = match keys.first() {
            Some(Key::Int(_)) => {
                let data =
                    keys.iter().filter_map(|k| if let Key::Int(k) = k { Some(*k) } else { None }).collect();
                IdField::IntId(LongArray { data })
            }
            _ => {
                let text = |k: &Key| if let Key::Text(k) = k { Some(k.clone()) } else { None };
                IdField::StrId(StringArray { data: keys.iter().filter_map(text).collect() })
            }
        };
        Ok(api::MutationResult {
            i_ds: Some(IDs { id_field: Some(id_field) }),
            succ_index: (0..rows as u32).collect(),
            insert_cnt: rows as i64,
            upsert_cnt: if upsert { rows as i64 } else { 0 },
            ..Default::default()
        })
    }

    async fn mutation(
        &self,
        done: Done<api::MutationResult>,
    ) -> Result<Response<api::MutationResult>, Status> {
        let (habits, number) = (self.habits(), self.state().inserts - 1);
        if habits.stalls_inserts.contains(&number) {
            std::future::pending::<()>().await;
        }
        if let (0, Some(event)) = (number, &habits.after_an_insert) {
            event(&mut self.state());
        }
        if habits.loses_a_reply && number == 0 {
            return Err(Status::unknown("connection reset by peer"));
        }
        reply!(MutationResult, done)
    }

    /// The refusal within is the server's answer, the one around it the transport's.
    fn read(&self, request: api::QueryRequest) -> Result<Done<api::QueryResults>, Status> {
        let mut state = self.state();
        let clock = state.clock;
        let pages = state.pages;
        let param = |name: &str| property(&request.query_params, name);
        let smallest = self.release >= (2, 6, 0);
        let collection = match state.get(&request.db_name, &request.collection_name) {
            Ok(collection) => collection,
            Err(error) => return Ok(Err(error)),
        };
        if !collection.loaded {
            return Ok(Err(Refused(101, "collection not loaded".into(), false)));
        }
        let key = collection.key().clone();
        let filter = match Filter::parse(&request.expr, &key.name, smallest) {
            Ok(filter) => filter,
            Err(text) => return Ok(Err(text.into())),
        };
        let partitions = match collection.partition_numbers(&request.partition_names) {
            Ok(partitions) => partitions,
            Err(error) => return Ok(Err(error)),
        };
        // Only iterators are pinned, whatever they ask for.
        let iterates =
            self.release >= (2, 5, 0) && param("iterator").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let pinned = iterates && request.guarantee_timestamp > 0;
        let at = if pinned { request.guarantee_timestamp } else { clock };
        let session_ts = match iterates && !pinned {
            true if request.consistency_level == ConsistencyLevel::Strong as i32 => clock,
            // The wall clock of a proxy, which is of no use as a pin.
            true => 1,
            false => 0,
        };
        if request.output_fields == ["count(*)"] {
            if param("limit").is_some() {
                return Ok(Err("count entities with pagination is not allowed".to_string().into()));
            }
            let count = collection.all_at(at, &partitions, &filter).count() as i64;
            return Ok(Ok(api::QueryResults {
                fields_data: vec![longs("count(*)", vec![count])],
                ..Default::default()
            }));
        }
        if request.expr.is_empty() && param("limit").is_none() {
            return Ok(Err("empty expression should be used with limit".to_string().into()));
        }
        // Before 2.4 nobody asks which collection an iterator began with.
        if let Some(id) = param("collection_id").filter(|_| self.release >= (2, 4, 0))
            && id != collection.id.to_string()
        {
            return Ok(Err(format!("collection id is not consistent with {id}").into()));
        }
        let mut limit = param("limit").and_then(|v| v.parse().ok()).unwrap_or(usize::MAX);
        if limit == 0 || limit > 16_384 {
            return Ok(Err(format!("limit [{limit}] is invalid, it should be in range [1, 16384]").into()));
        }
        let declared = collection.columns();
        let mut asked = Vec::new();
        for name in &request.output_fields {
            if collection.output_of(name) == Some(FunctionType::Bm25) {
                return Ok(Err(format!("not allowed to retrieve raw data of field {name}").into()));
            }
            match declared.iter().position(|c| c.name() == name) {
                Some(position) => asked.push(position),
                None => return Ok(Err(format!("field {name} not exist").into())),
            }
        }
        let wide = asked.iter().any(|position| declared[*position].name() != key.name);
        if let Some((which, code, text)) = self.habits().refuses_pages
            && wide
            && which.contains(&pages)
        {
            state.pages += 1;
            return Ok(Err(Refused(code, text.into(), false)));
        }
        if self.habits().too_large_above.is_some_and(|most| wide && limit > most) {
            return Ok(Err("query results exceed the maxOutputSize Limit".to_string().into()));
        }
        limit = limit.min(self.habits().short_pages.unwrap_or(usize::MAX));
        let again = wide && self.habits().repeats_a_page && pages == 1;
        let rows = collection.rows_at(at, &partitions, if again { &Filter::Everything } else { &filter });
        // Before 2.6 the proxy's merge never picks the greatest of keys.
        let greatest = |key: &Key| self.release < (2, 6, 0) && *key == Key::Int(i64::MAX);
        let hides = self.habits().hides;
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| Some(&row.key) != hides.as_ref() && !greatest(&row.key))
            .take(limit)
            .collect();
        let one = |position: &usize| {
            let cells: Vec<_> = rows.iter().map(|row| row.cells[*position].as_ref()).collect();
            cell::column(&declared[*position], &cells, self.validity())
        };
        let fields_data = if rows.is_empty() { Vec::new() } else { asked.iter().map(one).collect() };
        let mut reply = api::QueryResults { fields_data, session_ts, ..Default::default() };
        let bytes = reply.encoded_len();
        self.fits(bytes)?;
        if self.habits().max_output_bytes.is_some_and(|most| wide && bytes > most) {
            return Ok(Err("query results exceed the maxOutputSize Limit".to_string().into()));
        }
        if wide {
            if let Some(tamper) = &self.habits().tamper
                && !reply.fields_data.is_empty()
            {
                tamper(&mut reply);
            }
            if let (0, Some(meanwhile)) = (pages, &self.habits().meanwhile) {
                meanwhile(&mut state);
            }
            state.pages += 1;
        }
        Ok(Ok(reply))
    }

    /// As the transport of the servers has it.
    fn fits(&self, bytes: usize) -> Result<(), Status> {
        match self.habits().message_limit {
            Some(most) if bytes > most => Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({bytes} vs. {most})"
            ))),
            _ => Ok(()),
        }
    }

    fn make_index(&self, request: api::CreateIndexRequest) -> Done<()> {
        let mut state = self.state();
        state.changes.push("CreateIndex");
        let collection = state.get(&request.db_name, &request.collection_name)?;
        let (field, name) = (find_field(&collection.schema, &request.field_name)?, request.field_name);
        let kind = kind(&field);
        let index_type = property(&request.extra_params, "index_type").unwrap_or("AUTOINDEX").to_string();
        let index_type = index_type.as_str();
        let metric = property(&request.extra_params, "metric_type");
        let output = collection.output_of(&field.name);
        if is_vector(kind) {
            let others = request
                .extra_params
                .iter()
                .any(|kv| !matches!(kv.key.as_str(), "index_type" | "metric_type"));
            if index_type == "AUTOINDEX" && others {
                return Err("only metric type can be passed when use AutoIndex".to_string().into());
            }
            let metrics: &[&str] = match (kind, output) {
                (DataType::SparseFloatVector, Some(FunctionType::Bm25)) => &["BM25"],
                (DataType::SparseFloatVector, _) => &["IP"],
                (DataType::BinaryVector, _) => &["HAMMING", "JACCARD"],
                // For lists as a whole, or for their elements one by one.
                (DataType::ArrayOfVector, _) if element(&field) == DataType::BinaryVector => {
                    &["MAX_SIM_HAMMING", "MAX_SIM_JACCARD", "HAMMING", "JACCARD"]
                }
                (DataType::ArrayOfVector, _) => {
                    &["MAX_SIM", "MAX_SIM_COSINE", "MAX_SIM_IP", "MAX_SIM_L2", "L2", "IP", "COSINE"]
                }
                _ => &["L2", "IP", "COSINE"],
            };
            if !metric.is_some_and(|metric| metrics.contains(&metric)) {
                return Err(
                    format!("metric type {metric:?} is not supported by {kind:?} of field {name}").into()
                );
            }
        } else {
            let of_json = ["json_path", "json_cast_type"]
                .iter()
                .all(|key| property(&request.extra_params, key).is_some());
            let element_kind = if kind == DataType::Array { element(&field) } else { kind };
            let good = match kind {
                DataType::Text => false,
                DataType::Geometry => index_type == "RTREE" || index_type == "AUTOINDEX",
                DataType::Json => of_json && matches!(index_type, "INVERTED" | "AUTOINDEX"),
                _ => match index_type {
                    "AUTOINDEX" => self.release >= (2, 4, 0),
                    "INVERTED" | "BITMAP" | "STL_SORT" => true,
                    "Trie" => element_kind == DataType::VarChar,
                    _ => false,
                },
            };
            if !good {
                return Err(
                    format!("invalid index type {index_type} on field {name} of type {kind:?}").into()
                );
            }
        }
        if collection.indexes.iter().any(|index| index.field_name == name) {
            return Err(Refused(
                65535,
                format!("CreateIndex failed: at most one distinct index is allowed per field: {name}"),
                false,
            ));
        }
        let index_name = if request.index_name.is_empty() { name.clone() } else { request.index_name };
        let mut params = request.extra_params;
        if property(&params, "index_type").is_none() {
            params.push(pair("index_type", index_type));
        }
        collection.indexes.push(api::IndexDescription {
            index_name,
            field_name: name,
            params,
            state: IndexState::Finished as i32,
            ..Default::default()
        });
        Ok(())
    }

    fn load(&self, database: &str, name: &str, loaded: bool) -> Done<()> {
        let mut state = self.state();
        state.changes.push(if loaded { "LoadCollection" } else { "ReleaseCollection" });
        let collection = state.get(database, name)?;
        if loaded {
            for vector in vectors(&collection.schema) {
                if !collection.indexes.iter().any(|index| index.field_name == vector) {
                    return Err(Refused(
                        700,
                        format!("there is no vector index on field: [{vector}]"),
                        false,
                    ));
                }
            }
        }
        collection.loaded = loaded;
        Ok(())
    }
}

/// What a function makes of any input: always the same here, and nothing that a test inserts.
fn computed(declared: &Declared, output: FunctionType) -> Option<Cell> {
    let Declared::Field(field) = declared else { return None };
    let dim = cell::param(field, "dim").unwrap_or(0);
    match output {
        FunctionType::TextEmbedding => {
            Some(Cell::Vector(Vectors::FloatVector(FloatArray { data: vec![9.0; dim] })))
        }
        FunctionType::MinHash => Some(Cell::Vector(Vectors::BinaryVector(vec![0xab; dim / 8]))),
        // Nobody can read those of BM25.
        _ => None,
    }
}

fn longs(name: &str, data: Vec<i64>) -> FieldData {
    let data = Some(Scalars::LongData(LongArray { data }));
    FieldData {
        r#type: DataType::Int64 as i32,
        field_name: name.into(),
        field: Some(WireField::Scalars(ScalarField { data, ..Default::default() })),
        ..Default::default()
    }
}

/// Everything that needs an index before it can be loaded.
fn vectors(schema: &CollectionSchema) -> Vec<String> {
    let plain = schema.fields.iter().filter(|f| is_vector(kind(f))).map(|f| f.name.clone());
    let subs = schema.struct_array_fields.iter().flat_map(|s| {
        let inner = s.fields.iter().filter(|f| is_vector(kind(f)));
        inner.map(move |f| format!("{}[{}]", s.name, f.name))
    });
    plain.chain(subs).collect()
}

/// A field by its name, one of a struct as `struct[field]`.
fn find_field(schema: &CollectionSchema, name: &str) -> Done<FieldSchema> {
    let plain = schema.fields.iter().find(|f| f.name == name);
    let sub = schema
        .struct_array_fields
        .iter()
        .flat_map(|s| s.fields.iter().map(move |f| (format!("{}[{}]", s.name, f.name), f)))
        .find(|(full, _)| full == name)
        .map(|(_, f)| f);
    plain.or(sub).cloned().ok_or_else(|| format!("cannot create index on non-exist field: {name}").into())
}

#[tonic::async_trait]
impl MilvusService for Fake {
    async fn connect(
        &self,
        _: Request<api::ConnectRequest>,
    ) -> Result<Response<api::ConnectResponse>, Status> {
        let server_info = Some(ServerInfo { build_tags: self.tag.to_string(), ..Default::default() });
        Ok(Response::new(api::ConnectResponse { status: ok(), server_info, identifier: 1 }))
    }

    /// An empty stub on Milvus; only the Lites and Zilliz Cloud say something.
    async fn get_version(
        &self,
        _: Request<api::GetVersionRequest>,
    ) -> Result<Response<api::GetVersionResponse>, Status> {
        Ok(Response::new(api::GetVersionResponse { status: ok(), ..Default::default() }))
    }

    async fn alloc_timestamp(
        &self,
        _: Request<api::AllocTimestampRequest>,
    ) -> Result<Response<api::AllocTimestampResponse>, Status> {
        let timestamp = self.state().now();
        Ok(Response::new(api::AllocTimestampResponse { status: ok(), timestamp }))
    }

    async fn list_databases(
        &self,
        _: Request<api::ListDatabasesRequest>,
    ) -> Result<Response<api::ListDatabasesResponse>, Status> {
        let db_names = self.state().databases.keys().cloned().collect();
        Ok(Response::new(api::ListDatabasesResponse { status: ok(), db_names, ..Default::default() }))
    }

    async fn describe_database(
        &self,
        request: Request<api::DescribeDatabaseRequest>,
    ) -> Result<Response<api::DescribeDatabaseResponse>, Status> {
        if self.release < (2, 4, 3) {
            return Err(Status::unimplemented("unknown method DescribeDatabase"));
        }
        let name = request.into_inner().db_name;
        let mut state = self.state();
        let found = state.database(&name).map(|database| api::DescribeDatabaseResponse {
            properties: database.properties.clone(),
            db_name: name,
            ..Default::default()
        });
        reply!(DescribeDatabaseResponse, found)
    }

    async fn create_database(
        &self,
        request: Request<api::CreateDatabaseRequest>,
    ) -> Result<Response<Answer>, Status> {
        let api::CreateDatabaseRequest { db_name, properties, .. } = request.into_inner();
        if db_name.is_empty() {
            return plain(Err(Refused(802, "database name should not be empty".into(), false)));
        }
        let mut state = self.state();
        state.changes.push("CreateDatabase");
        let database = Database { properties, ..Default::default() };
        plain(match state.databases.insert(db_name.clone(), database) {
            None => Ok(()),
            Some(_) => Err(Refused(801, format!("database already exist: {db_name}"), false)),
        })
    }

    async fn show_collections(
        &self,
        request: Request<api::ShowCollectionsRequest>,
    ) -> Result<Response<api::ShowCollectionsResponse>, Status> {
        let mut state = self.state();
        let found = state.database(&request.get_ref().db_name).map(|database| api::ShowCollectionsResponse {
            collection_names: database.collections.keys().cloned().collect(),
            ..Default::default()
        });
        reply!(ShowCollectionsResponse, found)
    }

    async fn describe_collection(
        &self,
        request: Request<api::DescribeCollectionRequest>,
    ) -> Result<Response<api::DescribeCollectionResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found =
            state.get(&request.db_name, &request.collection_name).map(|c| api::DescribeCollectionResponse {
                schema: Some(c.schema.clone()),
                collection_id: c.id,
                shards_num: c.shards,
                consistency_level: c.consistency_level,
                aliases: c.aliases.clone(),
                properties: c.properties.clone(),
                // Of every collection, also of those without a partition key.
                num_partitions: c.partitions.len() as i64,
                collection_name: request.collection_name.clone(),
                db_name: request.db_name.clone(),
                ..Default::default()
            });
        reply!(DescribeCollectionResponse, found)
    }

    async fn create_collection(
        &self,
        request: Request<api::CreateCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        plain(self.try_create(request.into_inner()))
    }

    async fn drop_collection(
        &self,
        request: Request<api::DropCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.changes.push("DropCollection");
        plain(state.database(&request.db_name).map(|database| {
            database.collections.remove(&request.collection_name);
        }))
    }

    async fn alter_collection(
        &self,
        request: Request<api::AlterCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.changes.push("AlterCollection");
        let alter = || {
            if !request.properties.is_empty() && !request.delete_keys.is_empty() {
                return Err("can not provide properties and deletekeys at the same time".to_string().into());
            }
            let collection = state.get(&request.db_name, &request.collection_name)?;
            self.check_properties(&collection.schema, &request.properties)?;
            for new in request.properties {
                collection.properties.retain(|old| old.key != new.key);
                collection.properties.push(new);
            }
            collection.properties.retain(|old| !request.delete_keys.contains(&old.key));
            Ok(())
        };
        plain(alter())
    }

    async fn show_partitions(
        &self,
        request: Request<api::ShowPartitionsRequest>,
    ) -> Result<Response<api::ShowPartitionsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found = state.get(&request.db_name, &request.collection_name).map(|c| {
            api::ShowPartitionsResponse { partition_names: c.partitions.clone(), ..Default::default() }
        });
        reply!(ShowPartitionsResponse, found)
    }

    async fn create_partition(
        &self,
        request: Request<api::CreatePartitionRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.changes.push("CreatePartition");
        let create = || {
            let collection = state.get(&request.db_name, &request.collection_name)?;
            if collection.has_partition_key() {
                return Err("disable create partition if partition key mode is used".to_string().into());
            }
            collection.partitions.push(request.partition_name);
            Ok(())
        };
        plain(create())
    }

    async fn list_aliases(
        &self,
        request: Request<api::ListAliasesRequest>,
    ) -> Result<Response<api::ListAliasesResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found = state
            .get(&request.db_name, &request.collection_name)
            .map(|c| api::ListAliasesResponse { aliases: c.aliases.clone(), ..Default::default() });
        reply!(ListAliasesResponse, found)
    }

    async fn describe_alias(
        &self,
        request: Request<api::DescribeAliasRequest>,
    ) -> Result<Response<api::DescribeAliasResponse>, Status> {
        let error: Done<api::DescribeAliasResponse> = Err(missing("alias", &request.get_ref().alias, 1600));
        reply!(DescribeAliasResponse, error)
    }

    async fn create_alias(
        &self,
        request: Request<api::CreateAliasRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.changes.push("CreateAlias");
        let create = || {
            state.get(&request.db_name, &request.collection_name)?.aliases.push(request.alias);
            Ok(())
        };
        plain(create())
    }

    async fn describe_index(
        &self,
        request: Request<api::DescribeIndexRequest>,
    ) -> Result<Response<api::DescribeIndexResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found = state.get(&request.db_name, &request.collection_name).and_then(|c| {
            let wanted = |i: &&api::IndexDescription| {
                request.field_name.is_empty() || i.field_name == request.field_name
            };
            let index_descriptions: Vec<_> = c.indexes.iter().filter(wanted).cloned().collect();
            match index_descriptions.is_empty() {
                true => Err(missing("index", &request.collection_name, 700)),
                false => Ok(api::DescribeIndexResponse { index_descriptions, ..Default::default() }),
            }
        });
        reply!(DescribeIndexResponse, found)
    }

    async fn create_index(
        &self,
        request: Request<api::CreateIndexRequest>,
    ) -> Result<Response<Answer>, Status> {
        plain(self.make_index(request.into_inner()))
    }

    async fn get_load_state(
        &self,
        request: Request<api::GetLoadStateRequest>,
    ) -> Result<Response<api::GetLoadStateResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found =
            state.get(&request.db_name, &request.collection_name).map(|c| api::GetLoadStateResponse {
                state: if c.loaded { LoadState::Loaded } else { LoadState::NotLoad } as i32,
                ..Default::default()
            });
        reply!(GetLoadStateResponse, found)
    }

    async fn load_collection(
        &self,
        request: Request<api::LoadCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        plain(self.load(&request.db_name, &request.collection_name, true))
    }

    async fn release_collection(
        &self,
        request: Request<api::ReleaseCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        let request = request.into_inner();
        plain(self.load(&request.db_name, &request.collection_name, false))
    }

    async fn flush(&self, _: Request<api::FlushRequest>) -> Result<Response<api::FlushResponse>, Status> {
        self.state().changes.push("Flush");
        Ok(Response::new(api::FlushResponse { status: ok(), ..Default::default() }))
    }

    async fn get_flush_state(
        &self,
        _: Request<api::GetFlushStateRequest>,
    ) -> Result<Response<api::GetFlushStateResponse>, Status> {
        Ok(Response::new(api::GetFlushStateResponse { status: ok(), flushed: true }))
    }

    /// Sums of metadata: deletes are not in them.
    async fn get_collection_statistics(
        &self,
        request: Request<api::GetCollectionStatisticsRequest>,
    ) -> Result<Response<api::GetCollectionStatisticsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let found = state.get(&request.db_name, &request.collection_name).map(|c| {
            let stats = vec![pair("row_count", &c.rows.len().to_string())];
            api::GetCollectionStatisticsResponse { stats, ..Default::default() }
        });
        reply!(GetCollectionStatisticsResponse, found)
    }

    async fn insert(
        &self,
        request: Request<api::InsertRequest>,
    ) -> Result<Response<api::MutationResult>, Status> {
        self.fits(request.get_ref().encoded_len())?;
        let done = self.write(request.into_inner(), false);
        self.mutation(done).await
    }

    async fn import(
        &self,
        request: Request<api::ImportRequest>,
    ) -> Result<Response<api::ImportResponse>, Status> {
        let done = Fake::import(self, request.into_inner())?;
        reply!(ImportResponse, done)
    }

    async fn get_import_state(
        &self,
        request: Request<api::GetImportStateRequest>,
    ) -> Result<Response<api::GetImportStateResponse>, Status> {
        reply!(GetImportStateResponse, self.import_state(request.into_inner().task))
    }

    async fn list_import_tasks(
        &self,
        request: Request<api::ListImportTasksRequest>,
    ) -> Result<Response<api::ListImportTasksResponse>, Status> {
        let request = request.into_inner();
        reply!(ListImportTasksResponse, self.import_list(&request.db_name, &request.collection_name))
    }

    async fn upsert(
        &self,
        request: Request<api::UpsertRequest>,
    ) -> Result<Response<api::MutationResult>, Status> {
        self.fits(request.get_ref().encoded_len())?;
        let request = request.into_inner();
        let insert = api::InsertRequest {
            db_name: request.db_name,
            collection_name: request.collection_name,
            partition_name: request.partition_name,
            fields_data: request.fields_data,
            num_rows: request.num_rows,
            ..Default::default()
        };
        let done = self.write(insert, true);
        self.mutation(done).await
    }

    async fn delete(
        &self,
        request: Request<api::DeleteRequest>,
    ) -> Result<Response<api::MutationResult>, Status> {
        let request = request.into_inner();
        let smallest = self.release >= (2, 6, 0);
        let mut state = self.state();
        state.changes.push("Delete");
        let now = state.now();
        let mut delete = || {
            let collection = state.get(&request.db_name, &request.collection_name)?;
            let filter = Filter::parse(&request.expr, &collection.key().name.clone(), smallest)?;
            if filter == Filter::Everything {
                return Err("delete expression is empty".to_string().into());
            }
            let named = match request.partition_name.as_str() {
                "" => Vec::new(),
                name => collection.partition_numbers(&[name.to_string()])?,
            };
            let mut delete_cnt = 0;
            for row in &mut collection.rows {
                let here = named.is_empty() || named.contains(&row.partition);
                if here && row.deleted.is_none() && filter.passes(&row.key) {
                    row.deleted = Some(now);
                    delete_cnt += 1;
                }
            }
            Ok(api::MutationResult { delete_cnt, ..Default::default() })
        };
        reply!(MutationResult, delete())
    }

    async fn query(
        &self,
        request: Request<api::QueryRequest>,
    ) -> Result<Response<api::QueryResults>, Status> {
        let wide = request.get_ref().output_fields.len() > 1;
        let number = self.state().pages;
        if wide && self.habits().stalls_pages.contains(&number) {
            self.state().pages += 1;
            std::future::pending::<()>().await;
        }
        let done = self.read(request.into_inner())?;
        reply!(QueryResults, done)
    }
}
