//! A server that is only read from and does nothing wrong, with rows in several partitions: for
//! tests in which what goes wrong is the bucket, or the process.

use super::cell::{Cell, Declared, insert_column};
use super::{Fake, Habits, Key, pair};
use milvus::proto::milvus::CreateCollectionRequest;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema, FloatArray, LongArray};
use milvus_handoff::milvus::Endpoint;
use prost::Message;

/// Partitions, each with the rows of one range of keys: so many units has an export.
pub const PARTITIONS: [&str; 3] = ["_default", "y2025", "y2026"];

/// Rows of a partition.
pub const ROWS: i64 = 60;

const DIM: i64 = 512;

/// Where it listens; it ends with the runtime of the test.
pub async fn start(token: Option<&'static str>) -> Endpoint {
    serve("v2.3.5", token).await.1
}

/// One of another version, whose contents can be changed.
pub async fn serve(tag: &str, token: Option<&'static str>) -> (Fake, Endpoint) {
    let (fake, endpoint) = Fake::start(tag, Habits { token, ..Habits::default() }).await;
    let field = |name: &str, data_type: DataType| FieldSchema {
        name: name.into(),
        data_type: data_type as i32,
        is_primary_key: name == "id",
        ..Default::default()
    };
    let mut vector = field("v", DataType::FloatVector);
    vector.type_params = vec![pair("dim", &DIM.to_string())];
    let fields = vec![field("id", DataType::Int64), vector];
    let schema = CollectionSchema { name: "docs".into(), fields: fields.clone(), ..Default::default() };
    fake.create(CreateCollectionRequest {
        collection_name: "docs".into(),
        schema: schema.encode_to_vec(),
        shards_num: 1,
        ..Default::default()
    });
    fake.index("docs", "v", &[("metric_type", "IP")]);
    let partitions = PARTITIONS.iter().map(ToString::to_string).collect();
    fake.state().collection("", "docs").unwrap().partitions = partitions;
    for (index, partition) in PARTITIONS.iter().enumerate() {
        let keys: Vec<i64> = (0..ROWS).map(|row| index as i64 * 1000 + row * 2).collect();
        let id = |key: &i64| Some(Cell::Scalar(Scalars::LongData(LongArray { data: vec![*key] })));
        let v = |key: &i64| {
            let data = (0..DIM).map(|i| (key * 31 + i) as f32 / 8.0).collect();
            Some(Cell::Vector(Vectors::FloatVector(FloatArray { data })))
        };
        let columns: [Vec<Option<Cell>>; 2] = [keys.iter().map(id).collect(), keys.iter().map(v).collect()];
        let column = |(field, cells): (&FieldSchema, &Vec<Option<Cell>>)| {
            insert_column(&Declared::Field(field.clone()), cells)
        };
        fake.fill("docs", partition, ROWS as u32, fields.iter().zip(&columns).map(column).collect());
    }
    (fake, endpoint)
}

/// Another client writes a row into the first partition.
pub fn write(fake: &Fake, key: i64) {
    let id = Cell::Scalar(Scalars::LongData(LongArray { data: vec![key] }));
    let data = vec![0.5; DIM as usize];
    let vector = Cell::Vector(Vectors::FloatVector(FloatArray { data }));
    fake.state().put("docs", Key::Int(key), vec![Some(id), Some(vector)]);
}
