//! A small Milvus in memory that is only read from, and does nothing wrong: what goes wrong in
//! these tests is the bucket.

use milvus::proto::common::{ErrorCode, IndexState, KeyValuePair, LoadState, ServerInfo, Status as Answer};
use milvus::proto::milvus as api;
use milvus::proto::milvus::milvus_service_server::{MilvusService, MilvusServiceServer};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    CollectionSchema, DataType, FieldData, FieldSchema, FloatArray, LongArray, ScalarField, VectorField,
};
use std::sync::Arc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Partitions, each with the rows of one range of keys: so many units has an export.
pub const PARTITIONS: [&str; 3] = ["_default", "y2025", "y2026"];

/// Rows of a partition.
pub const ROWS: i64 = 60;

const DIM: usize = 512;

/// Where a source listens; it ends with the runtime of the test.
pub struct Source {
    pub uri: String,
}

#[derive(Clone)]
struct Server {
    /// What a client must send, if anything.
    token: Option<Arc<str>>,
}

impl Source {
    pub async fn start(token: Option<&str>) -> Source {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let service = MilvusServiceServer::new(Server { token: token.map(Arc::from) });
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        Source { uri }
    }
}

fn ok() -> Option<Answer> {
    Some(Answer::default())
}

fn pair(key: &str, value: &str) -> KeyValuePair {
    KeyValuePair { key: key.into(), value: value.into() }
}

fn schema() -> CollectionSchema {
    let field = |id: i64, name: &str, data_type: DataType| FieldSchema {
        field_id: id,
        name: name.into(),
        data_type: data_type as i32,
        is_primary_key: name == "id",
        ..Default::default()
    };
    let mut vector = field(101, "v", DataType::FloatVector);
    vector.type_params = vec![pair("dim", &DIM.to_string())];
    CollectionSchema {
        name: "docs".into(),
        fields: vec![field(100, "id", DataType::Int64), vector],
        ..Default::default()
    }
}

/// Whether a key passes `id > a && id <= b`.
fn passes(filter: &str, key: i64) -> bool {
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

fn longs(name: &str, data: Vec<i64>) -> FieldData {
    let data = Some(Scalars::LongData(LongArray { data }));
    FieldData {
        r#type: DataType::Int64 as i32,
        field_name: name.into(),
        field: Some(WireField::Scalars(ScalarField { data, ..Default::default() })),
        ..Default::default()
    }
}

fn vectors(keys: &[i64]) -> FieldData {
    let data = keys.iter().flat_map(|key| (0..DIM as i64).map(move |i| (key * 31 + i) as f32 / 8.0));
    let vectors = VectorField {
        dim: DIM as i64,
        data: Some(Vectors::FloatVector(FloatArray { data: data.collect() })),
        ..Default::default()
    };
    FieldData {
        r#type: DataType::FloatVector as i32,
        field_name: "v".into(),
        field: Some(WireField::Vectors(vectors)),
        ..Default::default()
    }
}

impl Server {
    #[allow(clippy::result_large_err)] // as the generated trait has it
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        use base64::Engine;
        let due = base64::engine::general_purpose::STANDARD.encode(token.as_bytes());
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(due.as_str()) {
            return Ok(());
        }
        Err(Status::unauthenticated("auth check failure, please check username and password are correct"))
    }
}

#[tonic::async_trait]
impl MilvusService for Server {
    async fn connect(
        &self,
        request: Request<api::ConnectRequest>,
    ) -> Result<Response<api::ConnectResponse>, Status> {
        self.admit(&request)?;
        let server_info = Some(ServerInfo { build_tags: "v2.3.5".into(), ..Default::default() });
        Ok(Response::new(api::ConnectResponse { status: ok(), server_info, identifier: 1 }))
    }

    async fn show_collections(
        &self,
        request: Request<api::ShowCollectionsRequest>,
    ) -> Result<Response<api::ShowCollectionsResponse>, Status> {
        self.admit(&request)?;
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
        self.admit(&request)?;
        if request.get_ref().collection_name != "docs" {
            #[allow(deprecated)]
            let status = Some(Answer {
                code: 100,
                error_code: ErrorCode::UnexpectedError as i32,
                reason: "collection not found".into(),
                ..Default::default()
            });
            return Ok(Response::new(api::DescribeCollectionResponse { status, ..Default::default() }));
        }
        Ok(Response::new(api::DescribeCollectionResponse {
            status: ok(),
            schema: Some(schema()),
            collection_id: 7,
            shards_num: 1,
            ..Default::default()
        }))
    }

    async fn show_partitions(
        &self,
        _: Request<api::ShowPartitionsRequest>,
    ) -> Result<Response<api::ShowPartitionsResponse>, Status> {
        Ok(Response::new(api::ShowPartitionsResponse {
            status: ok(),
            partition_names: PARTITIONS.iter().map(ToString::to_string).collect(),
            partition_i_ds: (0..PARTITIONS.len() as i64).collect(),
            ..Default::default()
        }))
    }

    async fn describe_index(
        &self,
        _: Request<api::DescribeIndexRequest>,
    ) -> Result<Response<api::DescribeIndexResponse>, Status> {
        let description = api::IndexDescription {
            field_name: "v".into(),
            params: vec![pair("metric_type", "IP")],
            state: IndexState::Finished as i32,
            ..Default::default()
        };
        let index_descriptions = vec![description];
        Ok(Response::new(api::DescribeIndexResponse { status: ok(), index_descriptions }))
    }

    async fn get_load_state(
        &self,
        _: Request<api::GetLoadStateRequest>,
    ) -> Result<Response<api::GetLoadStateResponse>, Status> {
        let state = LoadState::Loaded as i32;
        Ok(Response::new(api::GetLoadStateResponse { status: ok(), state }))
    }

    async fn query(
        &self,
        request: Request<api::QueryRequest>,
    ) -> Result<Response<api::QueryResults>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let wanted = |partition: &&str| {
            request.partition_names.is_empty()
                || request.partition_names.iter().any(|name| name == *partition)
        };
        let all = PARTITIONS.iter().enumerate().filter(|(_, partition)| wanted(partition));
        let mut keys: Vec<i64> = all
            .flat_map(|(index, _)| (0..ROWS).map(move |row| index as i64 * 1000 + row * 2))
            .filter(|key| passes(&request.expr, *key))
            .collect();
        let reply = |fields_data| api::QueryResults { status: ok(), fields_data, ..Default::default() };
        if request.output_fields == ["count(*)"] {
            return Ok(Response::new(reply(vec![longs("count(*)", vec![keys.len() as i64])])));
        }
        let limit = request.query_params.iter().find(|kv| kv.key == "limit");
        keys.truncate(limit.map_or(usize::MAX, |kv| kv.value.parse().unwrap()));
        let mut fields = Vec::new();
        for field in &request.output_fields {
            fields.push(if field == "v" { vectors(&keys) } else { longs("id", keys.clone()) });
        }
        Ok(Response::new(reply(fields)))
    }
}
