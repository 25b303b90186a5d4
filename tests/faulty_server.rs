//! A Milvus in memory, spoken to over real gRPC: it does what the versions do that cannot be had
//! here (pinned reads since 2.5), and what a server does on a bad day.

use milvus::proto::common::{ErrorCode, IndexState, KeyValuePair, LoadState, ServerInfo, Status as Answer};
use milvus::proto::milvus as api;
use milvus::proto::milvus::milvus_service_server::{MilvusService, MilvusServiceServer};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    CollectionSchema, DataType, FieldData, FieldSchema, FloatArray, LongArray, ScalarField, VectorField,
};
use milvus_handoff::error::{self, ErrorKind};
use milvus_handoff::milvus::{Endpoint, Tls};
use milvus_handoff::progress::Show;
use milvus_handoff::select::{Renames, Selection};
use milvus_handoff::snapshot::Consistency;
use milvus_handoff::stop::Stop;
use milvus_handoff::store::{self, SnapshotUrl};
use milvus_handoff::{export, import};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const KEY: &str = "id";
const VECTOR: &str = "v";

/// What the server does wrong, or as another version does.
#[derive(Default, Clone)]
struct Habits {
    /// `v2.6.3`, ...
    version: &'static str,
    /// Whether it pins reads, as 2.5 and later do.
    pins: bool,
    /// No page has more rows, whatever is asked for.
    short_pages: Option<usize>,
    /// Pages of more rows are refused as too large.
    too_large_above: Option<i64>,
    /// This many rows come in behind the first page.
    writes_meanwhile: i64,
    /// The second page of a scan is the first one again.
    repeats_a_page: bool,
    /// A row that is counted and never handed out.
    hides: Option<i64>,
    /// So many calls of Query, from the second on, find it restarting.
    unavailable: usize,
    /// So many inserts are told to come later.
    rate_limited: usize,
    /// The reply to the first insert is lost after its effect.
    loses_a_reply: bool,
}

#[derive(Default)]
struct State {
    /// Key to the timestamps of its rows and the vector's first value.
    rows: BTreeMap<i64, Vec<(u64, f32)>>,
    clock: u64,
    pages: usize,
    inserts: usize,
    exists: bool,
    indexed: bool,
}

#[derive(Clone)]
struct Fake {
    habits: Habits,
    state: Arc<Mutex<State>>,
}

fn ok() -> Option<Answer> {
    Some(Answer::default())
}

#[allow(deprecated)]
fn refused(code: i32, reason: &str, retriable: bool) -> Option<Answer> {
    let error_code = ErrorCode::UnexpectedError as i32;
    Some(Answer { code, error_code, reason: reason.into(), retriable, ..Default::default() })
}

fn schema() -> CollectionSchema {
    let field = |name: &str, data_type: DataType| FieldSchema {
        name: name.into(),
        data_type: data_type as i32,
        is_primary_key: name == KEY,
        ..Default::default()
    };
    let mut vector = field(VECTOR, DataType::FloatVector);
    vector.type_params = vec![KeyValuePair { key: "dim".into(), value: "2".into() }];
    CollectionSchema {
        name: "docs".into(),
        fields: vec![field(KEY, DataType::Int64), vector],
        ..Default::default()
    }
}

/// Whether a key passes `id > a && id <= b` or `id in [a, b]`.
fn passes(filter: &str, key: i64) -> bool {
    if let Some(list) = filter.strip_prefix("id in [").and_then(|f| f.strip_suffix(']')) {
        return list.split(", ").any(|one| one.parse() == Ok(key));
    }
    filter.split(" && ").filter(|term| !term.is_empty()).all(|term| {
        let words: Vec<_> = term.split(' ').collect();
        let value: i64 = words[2].parse().unwrap();
        match words[1] {
            ">" => key > value,
            "<=" => key <= value,
            other => panic!("{other} is not expected in {filter}"),
        }
    })
}

impl Fake {
    fn rows_at(&self, state: &State, at: u64, filter: &str) -> Vec<(i64, f32)> {
        let visible = |(key, versions): (&i64, &Vec<(u64, f32)>)| {
            let newest = versions.iter().rev().find(|(time, _)| at == 0 || *time <= at)?;
            passes(filter, *key).then_some((*key, newest.1))
        };
        state.rows.iter().filter_map(visible).collect()
    }

    #[allow(clippy::result_large_err)] // as the generated trait has it
    fn write(
        &self,
        request: api::InsertRequest,
        replace: bool,
    ) -> Result<Response<api::MutationResult>, Status> {
        let mut state = self.state.lock().unwrap();
        state.inserts += 1;
        if state.inserts <= self.habits.rate_limited {
            let status = refused(8, "rate limit exceeded", true);
            return Ok(Response::new(api::MutationResult { status, ..Default::default() }));
        }
        let column =
            |name: &str| request.fields_data.iter().find(|f| f.field_name == name).unwrap().field.clone();
        let (Some(WireField::Scalars(keys)), Some(WireField::Vectors(vectors))) =
            (column(KEY), column(VECTOR))
        else {
            panic!("columns of other types");
        };
        let (Some(Scalars::LongData(keys)), Some(Vectors::FloatVector(floats))) = (keys.data, vectors.data)
        else {
            panic!("values of other types");
        };
        state.clock += 1;
        let now = state.clock;
        for (key, vector) in keys.data.iter().zip(floats.data.chunks(2)) {
            let versions = state.rows.entry(*key).or_default();
            if replace {
                versions.clear();
            }
            versions.push((now, vector[0]));
        }
        if self.habits.loses_a_reply && state.inserts == 1 {
            return Err(Status::unknown("connection reset by peer"));
        }
        let rows = keys.data.len() as i64;
        Ok(Response::new(api::MutationResult {
            status: ok(),
            insert_cnt: rows,
            upsert_cnt: if replace { rows } else { 0 },
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl MilvusService for Fake {
    async fn connect(
        &self,
        _: Request<api::ConnectRequest>,
    ) -> Result<Response<api::ConnectResponse>, Status> {
        let server_info = Some(ServerInfo { build_tags: self.habits.version.into(), ..Default::default() });
        Ok(Response::new(api::ConnectResponse { status: ok(), server_info, identifier: 1 }))
    }

    async fn show_collections(
        &self,
        _: Request<api::ShowCollectionsRequest>,
    ) -> Result<Response<api::ShowCollectionsResponse>, Status> {
        let collection_names = vec!["docs".to_string()];
        Ok(Response::new(api::ShowCollectionsResponse {
            status: ok(),
            collection_names,
            ..Default::default()
        }))
    }

    async fn describe_collection(
        &self,
        request: Request<api::DescribeCollectionRequest>,
    ) -> Result<Response<api::DescribeCollectionResponse>, Status> {
        let known = self.state.lock().unwrap().exists && request.get_ref().collection_name == "docs";
        let status = if known { ok() } else { refused(100, "collection not found", false) };
        let schema = known.then(schema);
        Ok(Response::new(api::DescribeCollectionResponse {
            status,
            schema,
            collection_id: 7,
            shards_num: 1,
            ..Default::default()
        }))
    }

    async fn create_collection(
        &self,
        _: Request<api::CreateCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        self.state.lock().unwrap().exists = true;
        Ok(Response::new(Answer::default()))
    }

    async fn describe_index(
        &self,
        _: Request<api::DescribeIndexRequest>,
    ) -> Result<Response<api::DescribeIndexResponse>, Status> {
        let description = api::IndexDescription {
            field_name: VECTOR.into(),
            params: vec![KeyValuePair { key: "metric_type".into(), value: "IP".into() }],
            state: IndexState::Finished as i32,
            ..Default::default()
        };
        let index_descriptions = vec![description];
        Ok(Response::new(api::DescribeIndexResponse { status: ok(), index_descriptions }))
    }

    async fn create_index(
        &self,
        request: Request<api::CreateIndexRequest>,
    ) -> Result<Response<Answer>, Status> {
        let metric = request.get_ref().extra_params.iter().find(|kv| kv.key == "metric_type");
        self.state.lock().unwrap().indexed = metric.is_some_and(|kv| kv.value == "IP");
        Ok(Response::new(Answer::default()))
    }

    async fn get_load_state(
        &self,
        _: Request<api::GetLoadStateRequest>,
    ) -> Result<Response<api::GetLoadStateResponse>, Status> {
        let state = LoadState::Loaded as i32;
        Ok(Response::new(api::GetLoadStateResponse { status: ok(), state }))
    }

    async fn load_collection(
        &self,
        _: Request<api::LoadCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        Ok(Response::new(Answer::default()))
    }

    async fn release_collection(
        &self,
        _: Request<api::ReleaseCollectionRequest>,
    ) -> Result<Response<Answer>, Status> {
        Ok(Response::new(Answer::default()))
    }

    async fn flush(&self, _: Request<api::FlushRequest>) -> Result<Response<api::FlushResponse>, Status> {
        Ok(Response::new(api::FlushResponse { status: ok(), ..Default::default() }))
    }

    async fn get_flush_state(
        &self,
        _: Request<api::GetFlushStateRequest>,
    ) -> Result<Response<api::GetFlushStateResponse>, Status> {
        Ok(Response::new(api::GetFlushStateResponse { status: ok(), flushed: true }))
    }

    async fn get_collection_statistics(
        &self,
        _: Request<api::GetCollectionStatisticsRequest>,
    ) -> Result<Response<api::GetCollectionStatisticsResponse>, Status> {
        let rows: usize = self.state.lock().unwrap().rows.values().map(Vec::len).sum();
        let stats = vec![KeyValuePair { key: "row_count".into(), value: rows.to_string() }];
        Ok(Response::new(api::GetCollectionStatisticsResponse { status: ok(), stats }))
    }

    async fn insert(
        &self,
        request: Request<api::InsertRequest>,
    ) -> Result<Response<api::MutationResult>, Status> {
        self.write(request.into_inner(), false)
    }

    async fn upsert(
        &self,
        request: Request<api::UpsertRequest>,
    ) -> Result<Response<api::MutationResult>, Status> {
        let api::UpsertRequest { fields_data, num_rows, .. } = request.into_inner();
        self.write(api::InsertRequest { fields_data, num_rows, ..Default::default() }, true)
    }

    async fn query(
        &self,
        request: Request<api::QueryRequest>,
    ) -> Result<Response<api::QueryResults>, Status> {
        let request = request.into_inner();
        let habits = &self.habits;
        let mut state = self.state.lock().unwrap();
        let param =
            |name: &str| request.query_params.iter().find(|kv| kv.key == name).map(|kv| kv.value.clone());
        let at = if habits.pins && param("iterator").is_some() { request.guarantee_timestamp } else { 0 };
        let at = if habits.pins && request.output_fields == ["count(*)"] {
            request.guarantee_timestamp
        } else {
            at
        };
        if request.output_fields == ["count(*)"] {
            let rows = self.rows_at(&state, at, &request.expr).len() as i64;
            return Ok(Response::new(reply(vec![longs("count(*)", vec![rows])], 0)));
        }
        let session = if habits.pins { state.clock } else { 0 };
        if request.output_fields.is_empty() {
            return Ok(Response::new(reply(Vec::new(), session)));
        }
        let mut limit: i64 = param("limit").unwrap().parse().unwrap();
        if habits.too_large_above.is_some_and(|most| limit > most) {
            let status = refused(1100, "query results exceed the maxOutputSize Limit", false);
            return Ok(Response::new(api::QueryResults { status, ..Default::default() }));
        }
        limit = limit.min(habits.short_pages.map_or(i64::MAX, |rows| rows as i64));
        let wide = request.output_fields.iter().any(|f| f == VECTOR);
        state.pages += usize::from(wide);
        if wide && (2..2 + habits.unavailable).contains(&state.pages) {
            return Err(Status::unavailable("the server is restarting"));
        }
        let first_page = wide && state.pages == 1;
        let repeat = wide && habits.repeats_a_page && state.pages == 2;
        let mut rows = self.rows_at(&state, at, if repeat { "" } else { &request.expr });
        rows.retain(|(key, _)| Some(*key) != habits.hides);
        rows.truncate(limit as usize);
        if first_page {
            for new in 0..habits.writes_meanwhile {
                state.clock += 1;
                let now = state.clock;
                state.rows.entry(-1 - new).or_default().push((now, 0.5));
            }
        }
        let keys = rows.iter().map(|(key, _)| *key).collect();
        let mut fields = vec![longs(KEY, keys)];
        if wide {
            let data = rows.iter().flat_map(|(_, value)| [*value, -value]).collect();
            let vectors = VectorField {
                dim: 2,
                data: Some(Vectors::FloatVector(FloatArray { data })),
                ..Default::default()
            };
            fields.push(FieldData {
                r#type: DataType::FloatVector as i32,
                field_name: VECTOR.into(),
                field: Some(WireField::Vectors(vectors)),
                ..Default::default()
            });
        }
        Ok(Response::new(reply(fields, session)))
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

fn reply(fields_data: Vec<FieldData>, session_ts: u64) -> api::QueryResults {
    api::QueryResults { status: ok(), fields_data, session_ts, ..Default::default() }
}

/// Starts a server with rows 0, 2, 4, ... and gives its address.
async fn serve(habits: Habits, rows: i64) -> (Fake, Endpoint) {
    let fake = Fake { habits, state: Arc::default() };
    {
        let mut state = fake.state.lock().unwrap();
        state.exists = rows > 0;
        for key in 0..rows {
            state.clock += 1;
            let now = state.clock;
            state.rows.insert(key * 2, vec![(now, key as f32 / 8.0)]);
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let service = MilvusServiceServer::new(fake.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (fake, Endpoint::parse(&address, None, Tls::default()).unwrap())
}

async fn export_from(endpoint: Endpoint, folder: &Path) -> error::Result<export::Outcome> {
    let options = export::Options {
        source: endpoint,
        selection: Selection::default(),
        plan_only: false,
        jobs: 1,
        load_source: false,
        allow_writes: false,
        part_size: 1 << 20,
        page_rows: 100,
        show: Show::Quiet,
    };
    let store = store::open(&SnapshotUrl::File { path: folder.join("snap") }).await?;
    export::run(&options, store, &Stop::never()).await
}

async fn import_into(endpoint: Endpoint, folder: &Path) -> error::Result<import::Outcome> {
    let options = import::Options {
        target: endpoint,
        selection: Selection::default(),
        renames: Renames::default(),
        plan_only: false,
        jobs: 1,
        no_aliases: false,
        auto_id: import::AutoId::Preserve,
        journal: Some(folder.join("journal")),
        load: false,
        expect: None,
        show: Show::Quiet,
    };
    let store = store::open(&SnapshotUrl::File { path: folder.join("snap") }).await?;
    import::run(&options, store, &Stop::never()).await
}

/// Exports 250 rows from a server with the given habits; a failed export must not be committed.
async fn outcome(habits: Habits) -> error::Result<export::Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let (_, endpoint) = serve(habits, 250).await;
    let outcome = export_from(endpoint, folder.path()).await;
    assert_eq!(folder.path().join("snap/COMMIT.json").exists(), outcome.is_ok());
    outcome
}

fn v23() -> Habits {
    Habits { version: "v2.3.5", ..Habits::default() }
}

fn v26() -> Habits {
    Habits { version: "v2.6.3", pins: true, ..Habits::default() }
}

#[tokio::test]
async fn a_server_that_pins_is_read_at_one_moment() {
    let outcome = outcome(Habits { writes_meanwhile: 40, ..v26() }).await.unwrap();
    let docs = &outcome.collections[0];
    assert_eq!(docs.rows, 250, "rows that came later are not in it");
    assert_eq!(docs.server_count, Some(250), "and are not counted");
    assert!(matches!(docs.consistency, Some(Consistency::Pinned(250))), "{:?}", docs.consistency);
}

#[tokio::test]
async fn writes_are_seen_on_a_server_that_cannot_pin() {
    let error = outcome(Habits { writes_meanwhile: 40, ..v23() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error}");
}

#[tokio::test]
async fn a_short_page_is_not_the_end() {
    let outcome = outcome(Habits { short_pages: Some(7), ..v23() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

#[tokio::test]
async fn pages_that_are_too_large_are_halved() {
    let outcome = outcome(Habits { too_large_above: Some(13), ..v26() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

#[tokio::test]
async fn a_single_row_that_is_too_large_is_an_error() {
    let error = outcome(Habits { too_large_above: Some(0), ..v23() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_page_that_comes_twice_is_refused() {
    let error = outcome(Habits { repeats_a_page: true, ..v23() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert!(error.to_string().contains("out of order"), "{error}");
}

#[tokio::test]
async fn a_row_that_is_counted_and_never_handed_out_is_an_error() {
    for habits in [v23(), v26()] {
        let error = outcome(Habits { hides: Some(100), ..habits }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        assert!(error.to_string().contains("counts 250 rows, but hands out 249"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let outcome = outcome(Habits { unavailable: 2, ..v23() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

/// Imports 250 rows into a server with the given habits, and gives what is there then.
async fn imported(habits: Habits) -> Vec<(i64, Vec<f32>)> {
    let folder = tempfile::tempdir().unwrap();
    let (_, source) = serve(v26(), 250).await;
    export_from(source, folder.path()).await.unwrap();
    let (target, endpoint) = serve(habits, 0).await;
    let outcome = import_into(endpoint, folder.path()).await.unwrap();
    assert_eq!(outcome.collections[0].server_count, Some(250));
    let state = target.state.lock().unwrap();
    assert!(state.indexed, "the index has the source's metric");
    state.rows.iter().map(|(key, versions)| (*key, versions.iter().map(|v| v.1).collect())).collect()
}

fn every_row_once() -> Vec<(i64, Vec<f32>)> {
    (0..250).map(|key| (key * 2, vec![key as f32 / 8.0])).collect()
}

#[tokio::test]
async fn an_insert_whose_reply_is_lost_is_there_once() {
    assert_eq!(imported(Habits { loses_a_reply: true, ..v26() }).await, every_row_once());
}

#[tokio::test]
async fn an_insert_that_is_told_to_wait_is_there_once() {
    assert_eq!(imported(Habits { rate_limited: 3, ..v26() }).await, every_row_once());
}
