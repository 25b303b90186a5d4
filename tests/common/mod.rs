//! A small snapshot made without a server, in the order and by the types that an export uses; and
//! a bucket in memory that can do what a folder cannot.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use milvus::proto::common::KeyValuePair;
use milvus::proto::milvus::DescribeCollectionResponse;
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::value_field::Data as DefaultValue;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, CollectionSchema, DataType, DoubleArray, FieldData, FieldSchema, FloatArray,
    FunctionSchema, FunctionType, GeometryWktArray, IntArray, JsonArray, LongArray, ScalarField,
    SparseFloatArray, StringArray, StructArrayField, StructArrayFieldSchema, ValueField, VectorArray,
    VectorField,
};
use milvus_handoff::columns::{Keys, decode};
use milvus_handoff::digest::{Hasher, Sha256};
use milvus_handoff::error::{Error, ErrorKind, Result};
use milvus_handoff::milvus::read_described;
use milvus_handoff::part::PartWriter;
use milvus_handoff::schema::{CollectionName, Column, Key};
use milvus_handoff::snapshot::{
    CollectionMeta, CollectionResult, Commit, Consistency, Counts, Database, Index, Manifest, ObjectRef,
    Part, Plan, Receipt, Request, SourceInfo, Unit, keys, sums_document,
};
use milvus_handoff::store::{self, Body, Entry, Head, Put, SnapshotUrl, Store};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::NamedTempFile;

/// What tells one snapshot from another.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The snapshot's id.
    pub id: &'static str,
    /// RFC 3339.
    pub created: &'static str,
    /// Added to values, so that parts differ in content and not in size.
    pub shift: i64,
    /// Added to every text that a source or an exporter is free to choose.
    pub noise: &'static str,
    /// Added to every name. Names have no control characters, but may have others.
    pub name_noise: &'static str,
}

/// The snapshot that tests damage.
pub const FIRST: Recipe = Recipe {
    id: "00000000-0000-4000-8000-000000000001",
    created: "2026-11-20T09:00:00Z",
    shift: 0,
    noise: "",
    name_noise: "",
};

/// An equally valid one of the same shape.
pub const SECOND: Recipe = Recipe {
    id: "00000000-0000-4000-8000-000000000002",
    created: "2026-11-21T09:00:00Z",
    shift: 1,
    noise: "",
    name_noise: "",
};

/// One by somebody who hopes for a terminal that obeys.
pub const HOSTILE: Recipe = Recipe {
    noise: "\u{1b}[2J\u{9b}31m\u{7f}\r\u{202e}\u{2028}\nSuccessful: forged\n\tx",
    name_noise: "\u{202e}\u{2066}\u{feff}",
    ..FIRST
};

/// A snapshot that was made.
pub struct Made {
    /// What it holds.
    pub manifest: Manifest,
    /// Of COMMIT.json.
    pub digest: Sha256,
}

/// Writes a committed snapshot into the folder `at`, which must not exist: three collections, one
/// with partitions of none, one and two parts, one of what servers since 2.5 have, and one with a
/// VarChar key, a partition key and two key ranges.
pub async fn make_snapshot(at: &Path, recipe: &Recipe) -> Made {
    make_in(open(at).await.as_ref(), recipe).await
}

/// The folder as a store.
pub async fn open(at: &Path) -> Arc<dyn Store> {
    let url = SnapshotUrl::parse(&format!("file://{}", at.display())).unwrap();
    store::open(&url).await.unwrap()
}

async fn make_in(store: &dyn Store, recipe: &Recipe) -> Made {
    let (docs, extras, pages) = (docs(recipe), extras(recipe), pages(recipe));
    let noisy = |text: &str| format!("{text}{}", recipe.noise);
    let archive = format!("archive{}", recipe.name_noise);
    let unit = |index: usize,
                collection: usize,
                partition: Option<&str>,
                after: Option<&str>,
                up_to: Option<&str>| Unit {
        id: keys::unit_id(index),
        collection,
        partition: partition.map(str::to_string),
        after: after.map(|key| Key::Text(key.into())),
        up_to: up_to.map(|key| Key::Text(key.into())),
    };
    let plan = Plan {
        id: noisy(recipe.id),
        created: noisy(recipe.created),
        tool: noisy("milvus-handoff 0.1.0"),
        source: SourceInfo { kind: noisy("milvus"), version: noisy("v2.3.5") },
        databases: vec![
            Database { name: "default".into(), properties: BTreeMap::new() },
            Database {
                name: "library".into(),
                properties: BTreeMap::from([("database.max.collections".into(), "10".into())]),
            },
        ],
        request: Request {
            include: vec!["default.docs".into(), "library.*".into()],
            exclude: vec!["library.drafts".into()],
            part_size: 256 << 20,
            allow_writes: false,
        },
        collections: vec![docs.clone(), extras.clone(), pages.clone()],
        units: vec![
            unit(0, 0, Some("_default"), None, None),
            unit(1, 0, Some(&archive), None, None),
            unit(2, 0, Some("empty"), None, None),
            unit(3, 1, None, None, None),
            unit(4, 2, None, None, Some("page 2")),
            unit(5, 2, None, Some("page 2"), None),
        ],
    };
    let plan_bytes = plan.to_bytes().unwrap();
    put(store, keys::PLAN, &plan_bytes).await;

    let rows: [Vec<Vec<FieldData>>; 6] = [
        vec![docs_rows(1..4, recipe), docs_rows(4..6, recipe)],
        vec![docs_rows(-2..0, recipe)],
        vec![],
        vec![extras_rows(recipe)],
        vec![pages_rows(&["", "page 1", "page 2"], recipe)],
        vec![pages_rows(&["page \u{10000}"], recipe)],
    ];
    let mut receipts = Vec::new();
    for (unit, parts) in plan.units.iter().zip(rows) {
        let receipt = export(store, &plan, unit, parts).await;
        put(store, &keys::receipt(&unit.id), &receipt.to_bytes().unwrap()).await;
        receipts.push(receipt);
    }

    let mut bookkeeping = vec![ObjectRef::to(keys::PLAN, &plan_bytes)];
    for receipt in &receipts {
        bookkeeping.push(ObjectRef::to(&keys::receipt(&receipt.unit), &receipt.to_bytes().unwrap()));
    }
    let result = |index: usize, meta: CollectionMeta, consistency, shared_keys| {
        let own = plan.units.iter().zip(&receipts).filter(|(unit, _)| unit.collection == index);
        let parts: Vec<_> = own.flat_map(|(_, receipt)| receipt.parts.clone()).collect();
        let rows: u64 = parts.iter().map(|part: &Part| part.rows).sum();
        CollectionResult {
            meta,
            consistency,
            counts: Counts { server: rows + shared_keys, shared_keys },
            parts,
        }
    };
    let manifest = Manifest {
        id: plan.id.clone(),
        created: plan.created.clone(),
        tool: plan.tool.clone(),
        source: plan.source.clone(),
        databases: plan.databases.clone(),
        bucket_limits: vec![noisy("the bucket does not return SHA-256 checksums")],
        bookkeeping,
        collections: vec![
            result(0, docs, Consistency::Checked, 0),
            result(1, extras, Consistency::Unchecked, 0),
            result(
                2,
                CollectionMeta { pin: Some(462_000_000_000_000_000), ..pages },
                Consistency::Pinned(462_000_000_000_000_000),
                1,
            ),
        ],
    };
    let bytes = manifest.to_bytes().unwrap();
    let manifest_ref = ObjectRef::to(keys::MANIFEST, &bytes);
    put(store, keys::MANIFEST, &bytes).await;
    let sums = sums_document(&manifest_ref, &manifest);
    put(store, keys::SUMS, &sums).await;
    let commit = Commit {
        id: manifest.id.clone(),
        features: Vec::new(),
        manifest: manifest_ref,
        sums: ObjectRef::to(keys::SUMS, &sums),
        totals: manifest.totals(),
    };
    let bytes = commit.to_bytes().unwrap();
    put(store, keys::COMMIT, &bytes).await;
    Made { manifest, digest: Sha256::of(&bytes) }
}

async fn put(store: &dyn Store, key: &str, bytes: &[u8]) {
    let body = Body::Bytes(Bytes::copy_from_slice(bytes));
    assert_eq!(store.put_new(key, body, Sha256::of(bytes)).await.unwrap(), Put::Created, "{key}");
}

async fn export(store: &dyn Store, plan: &Plan, unit: &Unit, batches: Vec<Vec<FieldData>>) -> Receipt {
    let meta = &plan.collections[unit.collection];
    let (columns, key_field) = (meta.schema.columns(), &meta.schema.primary_key().name);
    let mut keys_digest = Hasher::default();
    let mut parts = Vec::new();
    for (sequence, rows) in batches.into_iter().enumerate() {
        let batch = decode(&columns, key_field, rows).unwrap();
        Keys::of(&batch, key_field).unwrap().hash_into(&mut keys_digest);
        let mut writer = PartWriter::new(&columns, key_field, store.spool().unwrap()).unwrap();
        writer.write(&batch).unwrap();
        let done = writer.finish().unwrap().expect("there are rows");
        let name = &meta.name;
        let key = keys::part(
            &name.database,
            &name.name,
            unit.partition.as_deref(),
            &unit.id,
            sequence,
            done.sha256,
        );
        assert_eq!(store.put_new(&key, Body::File(done.file), done.sha256).await.unwrap(), Put::Created);
        parts.push(Part {
            key,
            partition: unit.partition.clone(),
            size: done.size,
            sha256: done.sha256,
            rows: done.rows,
            first: done.first,
            last: done.last,
            nulls: done.nulls,
        });
    }
    let rows = parts.iter().map(|part| part.rows).sum();
    Receipt {
        plan_id: plan.id.clone(),
        unit: unit.id.clone(),
        parts,
        rows,
        keys_sha256: keys_digest.finish(),
    }
}

// ---- what the source held ----

fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValuePair> {
    pairs.iter().map(|(key, value)| KeyValuePair { key: key.to_string(), value: value.to_string() }).collect()
}

fn wire_field(id: i64, name: &str, data_type: DataType, params: &[(&str, &str)]) -> FieldSchema {
    FieldSchema {
        field_id: id,
        name: name.into(),
        data_type: data_type as i32,
        type_params: pairs(params),
        ..Default::default()
    }
}

fn meta(
    name: CollectionName,
    schema: CollectionSchema,
    id: i64,
    partitions: &[&str],
    indexes: &[(&str, &str, &str)],
) -> CollectionMeta {
    let described = DescribeCollectionResponse {
        schema: Some(schema),
        collection_id: id,
        shards_num: 1,
        collection_name: name.name.clone(),
        db_name: name.database.clone(),
        properties: pairs(&[("collection.ttl.seconds", "86400")]),
        num_partitions: partitions.len() as i64,
        ..Default::default()
    }
    .encode_to_vec();
    let index = |(field, kind, metric): &(&str, &str, &str)| Index {
        field: field.to_string(),
        name: format!("{field}_index"),
        params: BTreeMap::from([
            ("index_type".to_string(), kind.to_string()),
            ("metric_type".to_string(), metric.to_string()),
        ]),
    };
    CollectionMeta {
        schema: read_described(&described).unwrap(),
        described,
        collection_id: id,
        shards: 1,
        partitions: partitions.iter().map(ToString::to_string).collect(),
        indexes: indexes.iter().map(index).collect(),
        aliases: vec![format!("{}_latest", name.name)],
        properties: BTreeMap::from([("collection.ttl.seconds".to_string(), "86400".to_string())]),
        pin: None,
        name,
    }
}

fn docs(recipe: &Recipe) -> CollectionMeta {
    let mut id = wire_field(100, "id", DataType::Int64, &[]);
    id.is_primary_key = true;
    let noisy = |text: &str| format!("{text}{}", recipe.noise);
    let named = |text: &str| format!("{text}{}", recipe.name_noise);
    let mut title = wire_field(101, &noisy("title"), DataType::VarChar, &[("max_length", "200")]);
    title.description = noisy("What the document is called");
    let embedding = wire_field(102, "embedding", DataType::FloatVector, &[("dim", "4")]);
    let schema = CollectionSchema {
        name: named("docs"),
        description: noisy("Documents and where they stand"),
        fields: vec![id, title, embedding],
        enable_dynamic_field: true,
        ..Default::default()
    };
    let name = CollectionName::new("default", named("docs"));
    let archive = named("archive");
    let partitions = ["_default", &archive, "empty"];
    let kind = noisy("HNSW");
    let indexes = [("embedding", kind.as_str(), "COSINE")];
    meta(name, schema, 450_000_000_000_000_001, &partitions, &indexes)
}

fn docs_rows(ids: std::ops::Range<i64>, recipe: &Recipe) -> Vec<FieldData> {
    let count = ids.clone().count();
    let (columns, shift) = (docs(recipe).schema.columns(), recipe.shift);
    let titles = ids.clone().map(|id| format!("Document {}{}", id + shift, recipe.noise)).collect();
    let floats = (0..count * 4).map(|i| (i as i64 + shift) as f32 / 8.0).collect();
    // A server keeps the text as it was written, so nothing is parsed on the way here.
    let quoted = serde_json::Value::from(recipe.noise).to_string();
    let more = if recipe.noise.is_empty() { String::new() } else { format!(",\"c\":{quoted}") };
    let json = |id: i64| format!("{{\"b\":{},\"a\":[1e2]{more}}}", id + shift).into_bytes();
    let meta = ids.clone().map(json).collect();
    let values = [
        scalars(Scalars::LongData(LongArray { data: ids.collect() })),
        scalars(Scalars::StringData(StringArray { data: titles })),
        vectors(4, Vectors::FloatVector(FloatArray { data: floats })),
        scalars(Scalars::JsonData(JsonArray { data: meta })),
    ];
    fields(&columns, values)
}

/// What servers since 2.5 have: nulls, defaults, functions, structs and more types.
fn extras(recipe: &Recipe) -> CollectionMeta {
    let mut id = wire_field(100, "id", DataType::Int64, &[]);
    id.is_primary_key = true;
    let mut place = wire_field(101, "place", DataType::Geometry, &[]);
    place.nullable = true;
    let mut count = wire_field(102, "count", DataType::Int32, &[]);
    count.is_clustering_key = true;
    count.default_value = Some(ValueField { data: Some(DefaultValue::IntData(7)) });
    let mut share = wire_field(103, "share", DataType::Double, &[]);
    share.default_value = Some(ValueField { data: Some(DefaultValue::DoubleData(0.1 + 0.2)) });
    let mut scores = wire_field(104, "scores", DataType::Array, &[("max_capacity", "4")]);
    scores.element_type = DataType::Float as i32;
    scores.element_nullable = true;
    let mut found_by = wire_field(106, "found_by", DataType::SparseFloatVector, &[]);
    found_by.is_function_output = true;
    let mut words = wire_field(120, "words", DataType::Array, &[("max_capacity", "4"), ("max_length", "8")]);
    words.element_type = DataType::VarChar as i32;
    let mut vectors =
        wire_field(121, "vectors", DataType::ArrayOfVector, &[("max_capacity", "4"), ("dim", "2")]);
    vectors.element_type = DataType::FloatVector as i32;
    let schema = CollectionSchema {
        name: "extras".into(),
        fields: vec![
            id,
            place,
            count,
            share,
            scores,
            wire_field(105, "at", DataType::Timestamptz, &[]),
            found_by,
            wire_field(107, "text", DataType::VarChar, &[("max_length", "99"), ("enable_analyzer", "true")]),
            wire_field(108, "small", DataType::Int8Vector, &[("dim", "2")]),
        ],
        functions: vec![FunctionSchema {
            name: "bm25".into(),
            r#type: FunctionType::Bm25 as i32,
            input_field_names: vec!["text".into()],
            output_field_names: vec!["found_by".into()],
            params: pairs(&[("bm25_k1", "1.2")]),
            ..Default::default()
        }],
        struct_array_fields: vec![StructArrayFieldSchema {
            field_id: 119,
            name: "chunks".into(),
            fields: vec![words, vectors],
            ..Default::default()
        }],
        ..Default::default()
    };
    let name = CollectionName::new("default", format!("extras{}", recipe.name_noise));
    let indexes = [("small", "HNSW", "L2"), ("found_by", "SPARSE_INVERTED_INDEX", "BM25")];
    meta(name, schema, 450_000_000_000_000_003, &["_default"], &indexes)
}

fn extras_rows(recipe: &Recipe) -> Vec<FieldData> {
    let (columns, shift) = (extras(recipe).schema.columns(), recipe.shift);
    let list = |data: Scalars, valid_data: Vec<bool>| ScalarField { data: Some(data), valid_data };
    let words = |words: &[&str]| {
        list(
            Scalars::StringData(StringArray { data: words.iter().map(ToString::to_string).collect() }),
            vec![],
        )
    };
    let vector = |data: &[f32]| VectorField {
        dim: 2,
        data: Some(Vectors::FloatVector(FloatArray { data: data.to_vec() })),
        valid_data: Vec::new(),
    };
    let sub = |name: &str, kind: DataType, data: WireField| FieldData {
        r#type: kind as i32,
        field_name: name.into(),
        field: Some(data),
        ..Default::default()
    };
    let arrays = |data| scalars(Scalars::ArrayData(ArrayArray { data, element_type: 0 }));
    let vector_lists = vec![vector(&[0.5, -0.0]), vector(&[])];
    let chunks = vec![
        sub("words", DataType::Array, arrays(vec![words(&["one"]), words(&[])])),
        sub(
            "vectors",
            DataType::ArrayOfVector,
            vectors(2, Vectors::VectorArray(VectorArray { dim: 2, data: vector_lists, element_type: 0 })),
        ),
    ];
    let values = [
        scalars(Scalars::LongData(LongArray { data: vec![i64::MIN, i64::MAX] })),
        WireField::Scalars(ScalarField {
            data: Some(Scalars::GeometryWktData(GeometryWktArray { data: vec!["POINT (1 2)".into()] })),
            valid_data: vec![false, true],
        }),
        scalars(Scalars::IntData(IntArray { data: vec![7, shift as i32] })),
        scalars(Scalars::DoubleData(DoubleArray { data: vec![0.1 + 0.2, 5e-324] })),
        arrays(vec![
            list(Scalars::FloatData(FloatArray { data: vec![0.1] }), vec![true, false]),
            list(Scalars::FloatData(FloatArray { data: vec![] }), vec![]),
        ]),
        scalars(Scalars::StringData(StringArray {
            data: vec!["2026-11-20T09:00:00Z".into(), "0001-01-01T00:00:00.000001Z".into()],
        })),
        scalars(Scalars::StringData(StringArray { data: vec!["a text".into(), format!("text {shift}")] })),
        vectors(2, Vectors::Int8Vector(vec![0x80, 0x7f, 0, shift as u8])),
        WireField::StructArrays(StructArrayField { fields: chunks }),
    ];
    fields(&columns, values)
}

fn pages(recipe: &Recipe) -> CollectionMeta {
    let named = |text: &str| format!("{text}{}", recipe.name_noise);
    let mut key = wire_field(100, "key", DataType::VarChar, &[("max_length", "64")]);
    key.is_primary_key = true;
    let mut tenant = wire_field(101, "tenant", DataType::Int64, &[]);
    tenant.is_partition_key = true;
    let mut tags = wire_field(110, "tags", DataType::Array, &[("max_capacity", "8"), ("max_length", "32")]);
    tags.element_type = DataType::VarChar as i32;
    let mut weight = wire_field(107, "weight", DataType::Double, &[]);
    weight.nullable = true;
    let schema = CollectionSchema {
        name: named("pages"),
        fields: vec![
            key,
            tenant,
            wire_field(102, "draft", DataType::Bool, &[]),
            wire_field(103, "stars", DataType::Int8, &[]),
            wire_field(104, "year", DataType::Int16, &[]),
            wire_field(105, "words", DataType::Int32, &[]),
            wire_field(106, "score", DataType::Float, &[]),
            weight,
            wire_field(108, "source", DataType::Json, &[]),
            tags,
            wire_field(111, "bits", DataType::BinaryVector, &[("dim", "16")]),
            wire_field(112, "half", DataType::Float16Vector, &[("dim", "2")]),
            wire_field(113, "brain", DataType::BFloat16Vector, &[("dim", "2")]),
            wire_field(114, "words_in", DataType::SparseFloatVector, &[]),
        ],
        ..Default::default()
    };
    let name = CollectionName::new(named("library"), named("pages"));
    let partitions = ["_default_0", "_default_1"];
    let indexes = [("bits", "BIN_FLAT", "HAMMING"), ("words_in", "SPARSE_INVERTED_INDEX", "IP")];
    meta(name, schema, 450_000_000_000_000_002, &partitions, &indexes)
}

fn pages_rows(keys: &[&str], recipe: &Recipe) -> Vec<FieldData> {
    let count = keys.len();
    let (columns, shift) = (pages(recipe).schema.columns(), recipe.shift);
    let number = |row: usize| row as i64 + shift;
    let ints = || (0..count).map(|row| number(row) as i32 - 1).collect();
    let bytes = |each: usize| (0..count * each).map(|i| (i as i64 + shift) as u8).collect::<Vec<_>>();
    let pairs = |row: usize| {
        [
            (row as u32).to_le_bytes(),
            0.5f32.to_le_bytes(),
            (u32::MAX - 1).to_le_bytes(),
            (number(row) as f32 / 3.0).to_le_bytes(),
        ]
        .concat()
    };
    let tags = |row: usize| ScalarField {
        data: Some(Scalars::StringData(StringArray { data: vec![format!("tag {}", number(row)); row] })),
        valid_data: Vec::new(),
    };
    let values = [
        scalars(Scalars::StringData(StringArray { data: keys.iter().map(ToString::to_string).collect() })),
        scalars(Scalars::LongData(LongArray { data: (0..count).map(number).collect() })),
        scalars(Scalars::BoolData(BoolArray { data: (0..count).map(|row| number(row) % 2 == 0).collect() })),
        scalars(Scalars::IntData(IntArray { data: ints() })),
        scalars(Scalars::IntData(IntArray { data: ints() })),
        scalars(Scalars::IntData(IntArray { data: ints() })),
        scalars(Scalars::FloatData(FloatArray {
            data: (0..count).map(|row| number(row) as f32 + 0.1).collect(),
        })),
        // Every second one is null, and something stands in its place.
        WireField::Scalars(ScalarField {
            data: Some(Scalars::DoubleData(DoubleArray {
                data: (0..count).map(|row| number(row) as f64 + 0.1).collect(),
            })),
            valid_data: (0..count).map(|row| row % 2 == 0).collect(),
        }),
        scalars(Scalars::JsonData(JsonArray {
            data: vec![b"{\"big\": 12345678901234567890, \"exp\": 1E5}".to_vec(); count],
        })),
        scalars(Scalars::ArrayData(ArrayArray {
            data: (0..count).map(tags).collect(),
            element_type: DataType::VarChar as i32,
        })),
        vectors(16, Vectors::BinaryVector(bytes(2))),
        vectors(2, Vectors::Float16Vector(bytes(4))),
        vectors(2, Vectors::Bfloat16Vector(bytes(4))),
        vectors(
            0,
            Vectors::SparseFloatVector(SparseFloatArray {
                contents: (0..count).map(pairs).collect(),
                dim: 0,
            }),
        ),
    ];
    fields(&columns, values)
}

fn scalars(data: Scalars) -> WireField {
    WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() })
}

fn vectors(dim: i64, data: Vectors) -> WireField {
    WireField::Vectors(VectorField { dim, data: Some(data), valid_data: Vec::new() })
}

fn fields(columns: &[Column], values: impl IntoIterator<Item = WireField>) -> Vec<FieldData> {
    let field = |(column, data): (&Column, WireField)| FieldData {
        r#type: DataType::from_str_name(column.kind.name()).unwrap() as i32,
        field_name: column.name.clone(),
        is_dynamic: column.dynamic,
        field: Some(data),
        ..Default::default()
    };
    columns.iter().zip(values).map(field).collect()
}

// ---- a bucket in memory ----

/// Every object of a snapshot by key, in memory; remembers what it was asked for.
#[derive(Clone)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    asked: Arc<Mutex<BTreeSet<String>>>,
    /// Whether it returns the SHA-256 of what it holds, as some buckets do.
    pub checksums: bool,
}

impl Memory {
    /// The objects in the folder `at`.
    pub fn of_folder(at: &Path) -> Self {
        let objects = read_folder(at).into_iter().map(|(key, bytes)| (key, bytes.into())).collect();
        Memory { objects: Arc::new(Mutex::new(objects)), asked: Arc::default(), checksums: true }
    }

    /// A bucket of its own with the same objects.
    pub fn copy(&self) -> Self {
        let objects = self.objects.lock().unwrap().clone();
        Memory { objects: Arc::new(Mutex::new(objects)), asked: Arc::default(), checksums: self.checksums }
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// An object that must be there.
    pub fn object(&self, key: &str) -> Bytes {
        self.objects.lock().unwrap().get(key).unwrap_or_else(|| panic!("{key} is there")).clone()
    }

    /// Puts or replaces an object, as an attacker can.
    pub fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        self.objects.lock().unwrap().insert(key.to_string(), bytes.into());
    }

    /// Takes an object away.
    pub fn take(&self, key: &str) -> Bytes {
        self.objects.lock().unwrap().remove(key).unwrap_or_else(|| panic!("{key} is there"))
    }

    /// Every key that was asked for.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }

    fn find(&self, key: &str) -> Option<Bytes> {
        self.asked.lock().unwrap().insert(key.to_string());
        self.objects.lock().unwrap().get(key).cloned()
    }
}

/// Every file below `at` by its relative path with `/`.
pub fn read_folder(at: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let key = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{key}/"), found);
            } else {
                found.insert(key, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(at, "", &mut found);
    found
}

#[async_trait]
impl Store for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn spool(&self) -> Result<NamedTempFile> {
        Ok(NamedTempFile::new().unwrap())
    }

    async fn put_new(&self, _key: &str, _body: Body, _sha256: Sha256) -> Result<Put> {
        panic!("reading a snapshot writes nothing");
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<Bytes>> {
        let found = self.find(key);
        if found.as_ref().is_some_and(|bytes| bytes.len() as u64 > max_bytes) {
            let what = format!("{key} is larger than {max_bytes} bytes");
            return Err(Error::new(ErrorKind::Integrity, what).hint("do not trust it"));
        }
        Ok(found)
    }

    async fn read(&self, key: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        // Small chunks, so that readers see more than one.
        let chunks = |bytes: Bytes| {
            let pieces: Vec<_> = bytes.chunks(700).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            stream::iter(pieces).boxed()
        };
        Ok(self.find(key).map(chunks))
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        let head = |bytes: Bytes| Head {
            size: bytes.len() as u64,
            sha256: self.checksums.then(|| Sha256::of(&bytes)),
        };
        Ok(self.find(key).map(head))
    }

    async fn above(&self, _names: &[&'static str]) -> Result<Option<(String, &'static str)>> {
        Ok(None)
    }

    async fn delete(&self, _key: &str) -> Result<()> {
        panic!("reading a snapshot deletes nothing");
    }

    fn list(&self) -> BoxStream<'_, Result<Entry>> {
        let objects = self.objects.lock().unwrap();
        let entries: Vec<_> = objects
            .iter()
            .map(|(key, bytes)| Ok(Entry { key: key.clone(), size: bytes.len() as u64 }))
            .collect();
        stream::iter(entries).boxed()
    }
}
