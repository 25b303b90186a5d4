//! Every type and every attribute on every version, the whole way, against a Milvus in memory that
//! does what the versions do which cannot be had here; and replies that cannot be right.

mod fake;

use fake::cell::{Cell, Declared, Validity, insert_column};
use fake::moves::{compare, export, import, import_as, import_options, verify};
use fake::{Fake, Habits, Key, pair, property};
use milvus::proto::common::{ConsistencyLevel, KeyValuePair};
use milvus::proto::milvus::{CreateCollectionRequest, IndexDescription, QueryResults};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::value_field::Data as Value;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, BytesArray, CollectionSchema, DataType as T, DateArray, DoubleArray, FieldData,
    FieldSchema, FloatArray, FunctionSchema, FunctionType, GeometryWktArray, IntArray, JsonArray, LongArray,
    MolSmilesArray, ScalarField, SparseFloatArray, StringArray, StructArrayFieldSchema, TimeArray,
    ValueField, VectorArray, VectorField,
};
use milvus_handoff::error::ErrorKind;
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::select::AutoId;
use milvus_handoff::snapshot::Consistency;
use prost::Message;
use std::sync::Arc;

const NAME: &str = "docs";
const ROWS: usize = 40;

/// A JSON field with objects alone.
const ONLY_OBJECTS: &str = "JSON_objects";

/// One of each line of servers, and the newest protocol, which no server speaks yet.
const VERSIONS: [&str; 6] = ["v2.3.21", "v2.4.23", "v2.5.27", "v2.6.9", "v3.0.0", "v3.1.0"];

// ---- schemas ----

fn field(name: &str, kind: T, params: &[(&str, &str)]) -> FieldSchema {
    FieldSchema {
        name: name.into(),
        data_type: kind as i32,
        type_params: params.iter().map(|(key, value)| pair(key, value)).collect(),
        ..Default::default()
    }
}

fn key(kind: T) -> FieldSchema {
    let params: &[_] = if kind == T::VarChar { &[("max_length", "500")] } else { &[] };
    FieldSchema { is_primary_key: true, ..field("id", kind, params) }
}

fn array(name: &str, element: T) -> FieldSchema {
    let length = if element == T::VarChar { vec![("max_length", "500")] } else { vec![] };
    let params: Vec<_> = [("max_capacity", "8")].into_iter().chain(length).collect();
    FieldSchema { element_type: element as i32, ..field(name, T::Array, &params) }
}

fn vectors_in_structs(name: &str, element: T) -> FieldSchema {
    let params = [("max_capacity", "8"), ("dim", "8")];
    FieldSchema { element_type: element as i32, ..field(name, T::ArrayOfVector, &params) }
}

/// The types that a version knows, with and without nulls where it has them.
fn every_type(tag: &str) -> Vec<Declared> {
    let since = |wanted: &str| tag >= wanted;
    let mut fields = Vec::new();
    // Before 2.4 a JSON value is an object.
    let json = if since("v2.4") { "JSON" } else { ONLY_OBJECTS };
    fields.push(field(json, T::Json, &[]));
    for kind in [T::Bool, T::Int8, T::Int16, T::Int32, T::Int64, T::Float, T::Double] {
        fields.push(field(kind.as_str_name(), kind, &[]));
    }
    fields.push(field("VarChar", T::VarChar, &[("max_length", "500")]));
    for element in [T::Bool, T::Int8, T::Int16, T::Int32, T::Int64, T::Float, T::Double, T::VarChar] {
        fields.push(array(&format!("array_{}", element.as_str_name()), element));
    }
    if since("v2.6") {
        fields.push(field("Geometry", T::Geometry, &[]));
        fields.push(field("Timestamptz", T::Timestamptz, &[]));
    }
    if since("v3.0") {
        fields.push(field("Text", T::Text, &[]));
        let some =
            |f: FieldSchema| FieldSchema { element_nullable: true, name: format!("{}_or_null", f.name), ..f };
        fields.push(some(array("elements_Int64", T::Int64)));
        fields.push(some(array("elements_VarChar", T::VarChar)));
    }
    if since("v3.1") {
        for kind in [T::Date, T::Time, T::Decimal, T::Uuid, T::Mol] {
            fields.push(field(kind.as_str_name(), kind, &[]));
        }
    }
    let mut vectors = vec![field("FloatVector", T::FloatVector, &[("dim", "8")])];
    if since("v2.4") {
        for kind in [T::BinaryVector, T::Float16Vector, T::BFloat16Vector] {
            vectors.push(field(kind.as_str_name(), kind, &[("dim", "8")]));
        }
        vectors.push(field("Sparse", T::SparseFloatVector, &[]));
    }
    if since("v2.6") {
        vectors.push(field("Int8Vector", T::Int8Vector, &[("dim", "8")]));
    }
    let or_null =
        |f: &FieldSchema| FieldSchema { nullable: true, name: format!("{}_null", f.name), ..f.clone() };
    let mut nullable = Vec::new();
    if since("v2.5") {
        nullable.extend(fields.iter().map(or_null));
    }
    if since("v2.6") {
        nullable.extend(vectors.iter().map(or_null));
    }
    fields.extend(vectors);
    fields.extend(nullable);
    let mut declared: Vec<_> = fields.into_iter().map(Declared::Field).collect();
    if since("v2.6") {
        let mut subs = vec![array("words", T::VarChar), array("numbers", T::Int16)];
        for element in [T::FloatVector, T::BinaryVector, T::Float16Vector, T::BFloat16Vector, T::Int8Vector] {
            subs.push(vectors_in_structs(&format!("v_{}", element.as_str_name()), element));
        }
        let structs = StructArrayFieldSchema { name: "chunks".into(), fields: subs, ..Default::default() };
        if since("v3.0") {
            let or_null =
                StructArrayFieldSchema { name: "chunks_null".into(), nullable: true, ..structs.clone() };
            declared.push(Declared::Struct(or_null));
        }
        declared.push(Declared::Struct(structs));
    }
    declared
}

fn schema(fields: Vec<Declared>, dynamic: bool) -> CollectionSchema {
    let mut schema =
        CollectionSchema { name: NAME.into(), enable_dynamic_field: dynamic, ..Default::default() };
    for declared in fields {
        match declared {
            Declared::Field(field) => schema.fields.push(field),
            Declared::Struct(structs) => schema.struct_array_fields.push(structs),
        }
    }
    schema
}

fn request(schema: &CollectionSchema) -> CreateCollectionRequest {
    CreateCollectionRequest {
        collection_name: NAME.into(),
        schema: schema.encode_to_vec(),
        shards_num: 2,
        consistency_level: ConsistencyLevel::Bounded as i32,
        ..Default::default()
    }
}

// ---- rows ----

/// The value of a field in row `n`, extreme and odd ones among them.
fn value(field: &FieldSchema, n: usize) -> Cell {
    let kind = T::try_from(field.data_type).unwrap();
    let element = T::try_from(field.element_type).unwrap();
    match kind {
        T::Array => {
            let count = if field.element_nullable { n % 5 } else { n % 4 };
            let valid_data: Vec<bool> =
                (0..count).map(|i| !(i + n).is_multiple_of(3)).filter(|_| field.element_nullable).collect();
            let present =
                if field.element_nullable { valid_data.iter().filter(|v| **v).count() } else { count };
            let mut list = scalars(element, 0..0);
            for i in 0..present {
                list = join(list, scalars(element, n + i..n + i + 1));
            }
            let data = vec![ScalarField { data: Some(list), valid_data }];
            Cell::Scalar(Scalars::ArrayData(ArrayArray { data, element_type: field.element_type }))
        }
        T::ArrayOfVector => {
            let data = Some(dense(element, n, n % 4));
            let list = VectorField { dim: 8, data, valid_data: Vec::new() };
            let array = VectorArray { dim: 8, data: vec![list], element_type: field.element_type };
            Cell::Vector(Vectors::VectorArray(array))
        }
        T::SparseFloatVector => {
            let pairs: &[(u32, f32)] = match n % 4 {
                0 => &[],
                1 => &[(0, 1e-45), (7, 0.1), (u32::MAX - 1, f32::MAX)],
                2 => &[(5, 0.0), (6, 7.038531e-26)],
                _ => &[(n as u32, 1.5)],
            };
            let bytes = pairs.iter().flat_map(|(i, v)| [i.to_le_bytes(), v.to_le_bytes()].concat()).collect();
            Cell::Vector(Vectors::SparseFloatVector(SparseFloatArray { contents: vec![bytes], dim: 0 }))
        }
        T::FloatVector | T::BinaryVector | T::Float16Vector | T::BFloat16Vector | T::Int8Vector => {
            Cell::Vector(dense(kind, n, 1))
        }
        T::Json if field.name == ONLY_OBJECTS => {
            let Scalars::JsonData(json) = scalars(kind, n..n + 1) else { panic!("JSON is JSON") };
            let wrapped = [br#"{"in it" : "#, json.data[0].as_slice(), b"}"].concat();
            Cell::Scalar(Scalars::JsonData(JsonArray { data: vec![wrapped] }))
        }
        _ => Cell::Scalar(scalars(kind, n..n + 1)),
    }
}

fn pick<V: Clone>(values: &[V], rows: std::ops::Range<usize>) -> Vec<V> {
    rows.map(|n| values[n % values.len()].clone()).collect()
}

fn texts() -> Vec<String> {
    [
        "",
        "Grüße 世界 😀",
        "a \"quoted\" \\ back\\n",
        "\0\u{1}\u{7f}\n\r\t",
        "null",
        "'",
        "e\u{301}",
        "\u{10ffff}",
    ]
    .map(String::from)
    .to_vec()
}

fn scalars(kind: T, rows: std::ops::Range<usize>) -> Scalars {
    let strings =
        |values: &[&str]| pick(&values.iter().map(ToString::to_string).collect::<Vec<_>>(), rows.clone());
    match kind {
        T::Bool => Scalars::BoolData(BoolArray { data: pick(&[true, false], rows) }),
        T::Int8 => Scalars::IntData(IntArray { data: pick(&[-128, 127, 0, -1], rows) }),
        T::Int16 => Scalars::IntData(IntArray { data: pick(&[-32_768, 32_767, 0], rows) }),
        T::Int32 => Scalars::IntData(IntArray { data: pick(&[i32::MIN, i32::MAX, 0], rows) }),
        T::Int64 => {
            Scalars::LongData(LongArray { data: pick(&[i64::MIN, i64::MAX, (1 << 53) + 1, 0], rows) })
        }
        T::Float => Scalars::FloatData(FloatArray { data: pick(&[-0.0, f32::MAX, 1e-45, 0.1], rows) }),
        T::Double => {
            Scalars::DoubleData(DoubleArray { data: pick(&[-0.0, f64::MAX, 5e-324, 0.1 + 0.2], rows) })
        }
        T::VarChar | T::Text => Scalars::StringData(StringArray { data: pick(&texts(), rows) }),
        T::Json => {
            let stubborn = [
                r#"{"z":1,"a":2,"z":3}"#,
                r#"{"big":123456789012345678901234567890,"exp":1E+400,"neg":-0,"frac":1.000000000000000000001}"#,
                "  {\n\t\"spaced\" :\r [ 1 , 2.50 , 1e2 ]  }  ",
                "{}",
                "null",
                r#""\u0041\ud83d\ude00\/""#,
                "[]",
            ];
            Scalars::JsonData(JsonArray {
                data: strings(&stubborn).into_iter().map(String::into_bytes).collect(),
            })
        }
        T::Geometry => Scalars::GeometryWktData(GeometryWktArray {
            data: strings(&["POINT (1 2)", "POLYGON ((0 0, 1e-9 0, 0 1, 0 0))", "POINT EMPTY"]),
        }),
        T::Timestamptz => Scalars::StringData(StringArray {
            data: strings(&[
                "2024-02-29T12:00:00.000001Z",
                "1969-12-31T23:59:59Z",
                "9999-12-31T23:59:59.999999Z",
            ]),
        }),
        T::Date => Scalars::DateData(DateArray { data: pick(&[i32::MIN, 0, i32::MAX], rows) }),
        T::Time => Scalars::TimeData(TimeArray { data: pick(&[0, 86_399_999_999, i64::MIN], rows) }),
        T::Decimal => {
            let data = pick(&[i64::MIN, -1, 0, i64::MAX], rows)
                .into_iter()
                .map(|v| v.to_le_bytes().to_vec())
                .collect();
            Scalars::BytesData(BytesArray { data })
        }
        T::Uuid => {
            let data = pick(&[0u128, u128::MAX, 1 << 100], rows)
                .into_iter()
                .map(|v| v.to_be_bytes().to_vec())
                .collect();
            Scalars::BytesData(BytesArray { data })
        }
        T::Mol => Scalars::MolSmilesData(MolSmilesArray { data: strings(&["CCO", "C1=CC=CC=C1", ""]) }),
        other => panic!("{other:?} is no scalar"),
    }
}

fn join(all: Scalars, more: Scalars) -> Scalars {
    match (all, more) {
        (Scalars::BoolData(mut a), Scalars::BoolData(b)) => {
            a.data.extend(b.data);
            Scalars::BoolData(a)
        }
        (Scalars::IntData(mut a), Scalars::IntData(b)) => {
            a.data.extend(b.data);
            Scalars::IntData(a)
        }
        (Scalars::LongData(mut a), Scalars::LongData(b)) => {
            a.data.extend(b.data);
            Scalars::LongData(a)
        }
        (Scalars::FloatData(mut a), Scalars::FloatData(b)) => {
            a.data.extend(b.data);
            Scalars::FloatData(a)
        }
        (Scalars::DoubleData(mut a), Scalars::DoubleData(b)) => {
            a.data.extend(b.data);
            Scalars::DoubleData(a)
        }
        (Scalars::StringData(mut a), Scalars::StringData(b)) => {
            a.data.extend(b.data);
            Scalars::StringData(a)
        }
        (a, b) => panic!("{a:?} and {b:?}"),
    }
}

/// `count` vectors of eight dimensions, no bits of which are regular.
fn dense(kind: T, n: usize, count: usize) -> Vectors {
    let bytes = |each: usize| (0..count * each).map(|i| (n * 37 + i * 101 + 3) as u8).collect::<Vec<u8>>();
    match kind {
        T::FloatVector => {
            let floats = [-0.0, 0.1, -1e-45, f32::MAX, 1.0 / 3.0];
            let data =
                (0..count * 8).map(|i| floats[(n + i) % 5] * if i % 3 == 0 { 1.0 } else { 0.5 }).collect();
            Vectors::FloatVector(FloatArray { data })
        }
        T::BinaryVector => Vectors::BinaryVector(bytes(1)),
        T::Float16Vector => Vectors::Float16Vector(bytes(16)),
        T::BFloat16Vector => Vectors::Bfloat16Vector(bytes(16)),
        T::Int8Vector => Vectors::Int8Vector(bytes(8)),
        other => panic!("{other:?} is no dense vector"),
    }
}

fn cell(declared: &Declared, n: usize) -> Option<Cell> {
    if declared.nullable() && n % 3 == 1 {
        return None;
    }
    Some(match declared {
        Declared::Field(field) => value(field, n),
        Declared::Struct(structs) => Cell::Struct(structs.fields.iter().map(|sub| value(sub, n)).collect()),
    })
}

/// Distinct keys in no order, the odd ones first.
fn keys(kind: T, rows: usize) -> Vec<Option<Cell>> {
    let one = |n: usize| match kind {
        T::Int64 => {
            let odd = [i64::MIN, i64::MAX - 1, -1, 0, i64::MIN + 1];
            Scalars::LongData(LongArray {
                data: vec![*odd.get(n).unwrap_or(&(n as i64 * 7919 % 1009 - 500))],
            })
        }
        _ => {
            let text = texts().get(n).cloned().unwrap_or_else(|| format!("key \"{}\"\n\\", n * 7919 % 1009));
            Scalars::StringData(StringArray { data: vec![text] })
        }
    };
    (0..rows).map(|n| Some(Cell::Scalar(one(n)))).collect()
}

fn columns(schema: &CollectionSchema, rows: usize) -> Vec<FieldData> {
    let fields = schema.fields.iter().cloned().map(Declared::Field);
    let structs = schema.struct_array_fields.iter().cloned().map(Declared::Struct);
    let mut columns: Vec<_> = fields
        .chain(structs)
        .filter(|declared| {
            !schema.functions.iter().any(|f| f.output_field_names.iter().any(|o| o == declared.name()))
        })
        .map(|declared| match &declared {
            Declared::Field(key) if key.is_primary_key => {
                insert_column(&declared, &keys(T::try_from(key.data_type).unwrap(), rows))
            }
            _ => insert_column(&declared, &(0..rows).map(|n| cell(&declared, n)).collect::<Vec<_>>()),
        })
        .collect();
    if schema.enable_dynamic_field {
        let meta = Declared::Field(FieldSchema { is_dynamic: true, ..field("$meta", T::Json, &[]) });
        let json = |n: usize| {
            let text = [r#"{"b":1e2,"a":12345678901234567890}"#, "{}", r#"{ "x" : null }"#][n % 3];
            Some(Cell::Scalar(Scalars::JsonData(JsonArray { data: vec![text.as_bytes().to_vec()] })))
        };
        columns.push(insert_column(&meta, &(0..rows).map(json).collect::<Vec<_>>()));
    }
    columns
}

/// A server with the collection, filled and loaded.
async fn source(tag: &str, habits: Habits, schema: &CollectionSchema) -> (Fake, Endpoint) {
    source_as(tag, habits, request(schema), schema).await
}

async fn source_as(
    tag: &str,
    habits: Habits,
    request: CreateCollectionRequest,
    schema: &CollectionSchema,
) -> (Fake, Endpoint) {
    let (fake, endpoint) = Fake::start(tag, habits).await;
    fake.create(request);
    fake.fill(NAME, "", ROWS as u32, columns(schema, ROWS));
    (fake, endpoint)
}

/// Bit for bit: -0.0 is not 0.0.
fn contents(fake: &Fake) -> Vec<String> {
    fake.contents(NAME).iter().map(|row| format!("{row:?}")).collect()
}

fn described(fake: &Fake) -> CollectionSchema {
    fake.state().collection("", NAME).unwrap().schema.clone()
}

/// The whole way; everything that the servers say of the collection and its rows is compared.
async fn moved(tag: &str, to: &str, habits: Habits, schema: &CollectionSchema) {
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = source(tag, habits, schema).await;
    let outcome = export(&from, folder.path()).await.unwrap_or_else(|e| panic!("{tag}: {e}"));
    assert_eq!(outcome.totals.rows, ROWS as u64);
    verify(folder.path()).await;
    let (target, into) = Fake::start(to, Habits::default()).await;
    let outcome = import(&into, folder.path()).await.unwrap_or_else(|e| panic!("{tag} to {to}: {e}"));
    assert_eq!(outcome.collections[0].server_count, Some(ROWS as u64));
    assert_eq!(described(&target), described(&source), "{tag} to {to}");
    assert_eq!(contents(&target), contents(&source), "{tag} to {to}");
    for server in [&from, &into] {
        let report = compare(server, folder.path()).await.unwrap();
        assert_eq!(report.differences(), 0, "{tag} to {to}: {:?}", report.collections[0].found);
    }
}

#[tokio::test]
async fn every_type_on_every_version() {
    for tag in VERSIONS {
        for kind in [T::Int64, T::VarChar] {
            let fields = [Declared::Field(key(kind))].into_iter().chain(every_type(tag)).collect();
            moved(tag, tag, Habits::default(), &schema(fields, true)).await;
        }
    }
}

#[tokio::test]
async fn every_type_of_a_version_on_every_later_one() {
    for (at, tag) in VERSIONS.iter().enumerate() {
        for to in &VERSIONS[at + 1..] {
            let fields = [Declared::Field(key(T::Int64))].into_iter().chain(every_type(tag)).collect();
            moved(tag, to, Habits::default(), &schema(fields, true)).await;
        }
    }
}

/// Which place the validity of a row has depends on the build.
#[tokio::test]
async fn nulls_wherever_servers_say_them() {
    for validity in [Validity::Beside, Validity::Within, Validity::Both] {
        let fields = [Declared::Field(key(T::Int64))].into_iter().chain(every_type("v3.0.0")).collect();
        let habits = Habits { validity: Some(validity), ..Habits::default() };
        moved("v3.0.0", "v3.0.0", habits, &schema(fields, true)).await;
    }
}

#[tokio::test]
async fn pages_that_are_short_or_too_large() {
    for habits in [
        Habits { short_pages: Some(3), ..Habits::default() },
        Habits { too_large_above: Some(5), ..Habits::default() },
        Habits { max_output_bytes: Some(20_000), ..Habits::default() },
    ] {
        let fields = [Declared::Field(key(T::VarChar))].into_iter().chain(every_type("v2.6.9")).collect();
        moved("v2.6.9", "v2.6.9", habits, &schema(fields, true)).await;
    }
}

// ---- attributes ----

fn text_field(name: &str) -> FieldSchema {
    field(name, T::VarChar, &[("max_length", "500")])
}

fn vector_field(name: &str) -> FieldSchema {
    field(name, T::FloatVector, &[("dim", "8")])
}

fn plain(fields: Vec<FieldSchema>) -> CollectionSchema {
    schema(fields.into_iter().map(Declared::Field).collect(), false)
}

fn function(kind: FunctionType, input: &str, output: &str) -> FunctionSchema {
    FunctionSchema {
        name: format!("make_{output}"),
        r#type: kind as i32,
        input_field_names: vec![input.into()],
        output_field_names: vec![output.into()],
        params: vec![pair("some", "parameter")],
        ..Default::default()
    }
}

fn properties(fake: &Fake) -> Vec<KeyValuePair> {
    let mut properties = fake.state().collection("", NAME).unwrap().properties.clone();
    properties.sort_by(|a, b| a.key.cmp(&b.key));
    properties
}

/// What the import must say, each in a line of its own.
fn said(warnings: &[String], wanted: &[&str]) {
    for words in wanted {
        assert!(warnings.iter().any(|w| w.contains(words)), "{words:?} is not in {warnings:#?}");
    }
}

#[tokio::test]
async fn every_attribute_of_a_collection() {
    let mut key = FieldSchema { description: "the key \"é\"\n".into(), ..key(T::VarChar) };
    key.type_params.push(pair("mmap.enabled", "true"));
    let tenant = FieldSchema { is_partition_key: true, ..field("tenant", T::Int64, &[]) };
    // An id that leaves a gap, as after fields were dropped.
    let day = FieldSchema { is_clustering_key: true, field_id: 140, ..field("day", T::Int64, &[]) };
    let mut text = text_field("text");
    text.type_params.extend([
        pair("enable_analyzer", "true"),
        pair("enable_match", "true"),
        pair("analyzer_params", r#"{"tokenizer":"standard","filter":["lowercase"]}"#),
    ]);
    let json = field("json", T::Json, &[]);
    let mut schema = plain(vec![key, tenant, day, text, json, vector_field("v"), vector_field("w")]);
    schema.description = "Beschreibung 😀".into();
    schema.enable_dynamic_field = true;
    let request = CreateCollectionRequest {
        consistency_level: ConsistencyLevel::Session as i32,
        num_partitions: 7,
        shards_num: 5,
        properties: vec![
            pair("collection.ttl.seconds", "864000"),
            pair("mmap.enabled", "true"),
            pair("partitionkey.isolation", "true"),
            pair("collection.replica.number", "3"),
            pair("cipher.ezID", "7"),
        ],
        ..request(&schema)
    };
    let (source, from) = source_as("v2.6.9", Habits::default(), request, &schema).await;
    source.index(
        NAME,
        "v",
        &[("index_type", "HNSW"), ("metric_type", "IP"), ("M", "16"), ("mmap.enabled", "true")],
    );
    source.index(NAME, "w", &[("index_type", "AUTOINDEX"), ("metric_type", "L2")]);
    source.index(NAME, "day", &[("index_type", "STL_SORT")]);
    source.index(NAME, "tenant", &[("index_type", "AUTOINDEX")]);
    let path = [("index_type", "INVERTED"), ("json_path", "json['a']"), ("json_cast_type", "double")];
    source.index(NAME, "json", &path);
    source.state().collection("", NAME).unwrap().aliases = vec!["latest".into(), "best".into()];
    let folder = tempfile::tempdir().unwrap();
    export(&from, folder.path()).await.unwrap();

    let (target, into) = Fake::start("v2.6.9", Habits::default()).await;
    let outcome = import(&into, folder.path()).await.unwrap();
    let mut wanted = described(&source);
    // The target gives ids without gaps.
    wanted.fields.iter_mut().zip(100..).for_each(|(field, id)| field.field_id = id);
    assert_eq!(described(&target), wanted);
    assert_eq!(contents(&target), contents(&source));
    let kept =
        [("collection.ttl.seconds", "864000"), ("mmap.enabled", "true"), ("partitionkey.isolation", "true")];
    assert_eq!(properties(&target), kept.map(|(key, value)| pair(key, value)));
    let mut state = target.state();
    let collection = state.collection("", "latest").unwrap();
    assert_eq!(collection.aliases, ["best", "latest"]);
    assert_eq!((collection.shards, collection.consistency_level), (5, ConsistencyLevel::Session as i32));
    assert_eq!(collection.partitions.len(), 7);
    let made = |field: &str| -> Vec<String> {
        let index: &IndexDescription = collection.indexes.iter().find(|i| i.field_name == field).unwrap();
        assert_eq!(index.index_name, format!("{field}_index"));
        ["index_type", "metric_type", "json_path"]
            .iter()
            .filter_map(|key| property(&index.params, key).map(String::from))
            .collect()
    };
    assert_eq!(made("v"), ["AUTOINDEX", "IP"]);
    assert_eq!(made("w"), ["AUTOINDEX", "L2"]);
    assert_eq!(made("day"), ["STL_SORT"]);
    assert_eq!(made("tenant"), ["AUTOINDEX"]);
    assert_eq!(made("json"), ["INVERTED", "json['a']"]);
    said(
        &outcome.warnings,
        &[
            "the property cipher.ezID belongs to the source's cluster",
            "the property collection.replica.number belongs to the source's cluster",
            "the index on \"v\" had mmap.enabled on the source",
        ],
    );
    assert_eq!(outcome.warnings.len(), 3, "{:?}", outcome.warnings);
}

#[tokio::test]
async fn rows_stay_in_their_partitions() {
    let schema = plain(vec![key(T::Int64), vector_field("v"), text_field("text")]);
    for tag in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (source, from) = Fake::start(tag, Habits::default()).await;
        source.create(request(&schema));
        let names = ["_default", "first", "zweite", "nothing_in_it"];
        source.state().collection("", NAME).unwrap().partitions = names.map(String::from).to_vec();
        for (at, name) in names[..3].iter().enumerate() {
            let mut rows = columns(&schema, ROWS);
            let own =
                (0..ROWS).map(|n| Scalars::LongData(LongArray { data: vec![(n * 3 + at) as i64 - 50] }));
            let own: Vec<_> = own.map(|key| Some(Cell::Scalar(key))).collect();
            rows[0] = insert_column(&Declared::Field(key(T::Int64)), &own);
            source.fill(NAME, name, ROWS as u32, rows);
        }
        export(&from, folder.path()).await.unwrap();
        let (target, into) = Fake::start(tag, Habits::default()).await;
        import(&into, folder.path()).await.unwrap();
        assert_eq!(contents(&target), contents(&source), "{tag}");
        assert_eq!(target.state().collection("", NAME).unwrap().partitions, names, "{tag}");
        assert_eq!(compare(&into, folder.path()).await.unwrap().differences(), 0, "{tag}");
    }
}

#[tokio::test]
async fn shards_are_as_many_as_the_target_takes() {
    let schema = plain(vec![key(T::Int64), vector_field("v")]);
    for (most, made) in [(None, 16), (Some(2), 2), (Some(64), 32)] {
        let folder = tempfile::tempdir().unwrap();
        let wide = CreateCollectionRequest { shards_num: 32, ..request(&schema) };
        let roomy = Habits { most_shards: Some(32), ..Habits::default() };
        let (source, from) = source_as("v2.6.9", roomy, wide, &schema).await;
        source.index(NAME, "v", &[("metric_type", "L2")]);
        export(&from, folder.path()).await.unwrap();
        let (target, into) = Fake::start("v2.6.9", Habits { most_shards: most, ..Habits::default() }).await;
        let outcome = import(&into, folder.path()).await.unwrap();
        assert_eq!(target.state().collection("", NAME).unwrap().shards, made);
        let fewer = format!("the target takes {made} shards and not 32");
        assert_eq!(outcome.warnings.iter().any(|w| w.contains(&fewer)), made < 32, "{:?}", outcome.warnings);
    }
}

#[tokio::test]
async fn properties_of_databases() {
    let schema = plain(vec![key(T::Int64), vector_field("v")]);
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = source("v2.6.9", Habits::default(), &schema).await;
    {
        let mut state = source.state();
        let mut default = state.databases.remove("default").unwrap();
        default.properties = vec![pair("timezone", "UTC"), pair("database.replica.number", "2")];
        state.databases.insert("library".into(), default);
        state.databases.insert("default".into(), Default::default());
    }
    export(&from, folder.path()).await.unwrap();

    let (target, into) = Fake::start("v2.6.9", Habits::default()).await;
    let outcome = import(&into, folder.path()).await.unwrap();
    assert_eq!(target.state().databases["library"].properties, [pair("timezone", "UTC")]);
    said(&outcome.warnings, &["database library: the property database.replica.number belongs"]);

    // One that exists is not changed, and what it lacks is said.
    let (target, into) = Fake::start("v2.6.9", Habits::default()).await;
    target.state().databases.insert("library".into(), Default::default());
    let outcome = import(&into, folder.path()).await.unwrap();
    assert!(target.state().databases["library"].properties.is_empty());
    said(
        &outcome.warnings,
        &["source's property timezone is not set", "source's property database.replica.number is not set"],
    );
}

#[tokio::test]
async fn given_keys_are_kept_and_the_property_is_put_back() {
    for kind in [T::Int64, T::VarChar] {
        let auto = FieldSchema { auto_id: true, ..key(kind) };
        let schema = plain(vec![auto, vector_field("v"), text_field("text")]);
        let keyless = |schema: &CollectionSchema| {
            let mut columns = columns(schema, ROWS);
            columns.remove(0);
            columns
        };
        for before in [None, Some("true"), Some("false")] {
            let folder = tempfile::tempdir().unwrap();
            let (source, from) = Fake::start("v2.6.9", Habits::default()).await;
            let own = before.map(|value| pair("allow_insert_auto_id", value));
            source.create(CreateCollectionRequest {
                properties: own.into_iter().collect(),
                ..request(&schema)
            });
            source.fill(NAME, "", ROWS as u32, keyless(&schema));
            export(&from, folder.path()).await.unwrap();

            for tag in ["v2.5.19", "v2.6.3", "v3.0.0"] {
                let (target, into) = Fake::start(tag, Habits::default()).await;
                import(&into, folder.path()).await.unwrap();
                assert_eq!(contents(&target), contents(&source), "{tag}");
                assert_eq!(properties(&target), properties(&source), "{tag}");
                assert_eq!(described(&target), described(&source), "{tag}");
                // The target makes keys for new rows as before.
                if before != Some("true") {
                    target.fill(NAME, "", ROWS as u32, keyless(&schema));
                    assert_eq!(contents(&target).len(), 2 * ROWS);
                }
            }
            for tag in ["v2.4.23", "v2.5.18", "v2.6.2"] {
                let (target, into) = Fake::start(tag, Habits::default()).await;
                let error = import(&into, folder.path()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{tag}: {error}");
                assert!(target.state().changes.is_empty(), "{:?}", target.state().changes);
                for (choice, kept) in [(AutoId::AsField, true), (AutoId::Regenerate, false)] {
                    let (target, into) = Fake::start(tag, Habits::default()).await;
                    let options =
                        milvus_handoff::import::Options { auto_id: choice, ..import_options(&into) };
                    import_as(&options, folder.path()).await.unwrap();
                    assert_eq!(contents(&target) == contents(&source), kept, "{tag}");
                    assert_eq!(contents(&target).len(), ROWS, "{tag}");
                    assert_eq!(described(&target).fields[0].auto_id, !kept, "{tag}");
                }
            }
        }
    }
}

#[tokio::test]
async fn outputs_of_functions_are_carried_or_made_anew() {
    let mut schema = plain(vec![
        key(T::Int64),
        text_field("text"),
        FieldSchema { is_function_output: true, ..vector_field("embedding") },
        FieldSchema { is_function_output: true, ..field("words", T::SparseFloatVector, &[]) },
        FieldSchema { is_function_output: true, ..field("signature", T::BinaryVector, &[("dim", "64")]) },
    ]);
    schema.functions = vec![
        function(FunctionType::TextEmbedding, "text", "embedding"),
        function(FunctionType::Bm25, "text", "words"),
        function(FunctionType::MinHash, "text", "signature"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = Fake::start("v2.6.9", Habits::default()).await;
    let ttl = pair("collection.ttl.seconds", "60");
    source.create(CreateCollectionRequest { properties: vec![ttl.clone()], ..request(&schema) });
    source.fill(NAME, "", ROWS as u32, columns(&schema, ROWS));
    source.index(
        NAME,
        "words",
        &[("index_type", "SPARSE_INVERTED_INDEX"), ("metric_type", "BM25"), ("bm25_k1", "1.5")],
    );
    // Embeddings of another model than the one that would be called now.
    {
        let mut state = source.state();
        let cells = |n: usize| {
            let key = Cell::Scalar(Scalars::LongData(LongArray { data: vec![n as i64 + 100_000] }));
            let embedding = Cell::Vector(dense(T::FloatVector, n, 1));
            let signature = Cell::Vector(Vectors::BinaryVector(vec![0xab; 8]));
            vec![Some(key), Some(value(&text_field("text"), n)), Some(embedding), None, Some(signature)]
        };
        (0..10).for_each(|n| state.put(NAME, Key::Int(n as i64 + 100_000), cells(n)));
    }
    export(&from, folder.path()).await.unwrap();
    verify(folder.path()).await;

    for no_models in [false, true] {
        let (target, into) = Fake::start("v2.6.9", Habits { no_models, ..Habits::default() }).await;
        let outcome = import(&into, folder.path()).await.unwrap();
        assert_eq!(contents(&target), contents(&source));
        assert_eq!(described(&target), described(&source));
        assert_eq!(properties(&target), std::slice::from_ref(&ttl), "what was set for the load is gone");
        said(&outcome.warnings, &["the index on \"words\" had bm25_k1 on the source"]);
    }
    // Before 2.6.8 a server tries the model whatever it is told.
    let (target, into) = Fake::start("v2.6.5", Habits { no_models: true, ..Habits::default() }).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(target.state().collection("", NAME).is_none());
}

#[tokio::test]
async fn nulls_and_defaults() {
    let default = |field: FieldSchema, data: Value| FieldSchema {
        default_value: Some(ValueField { data: Some(data) }),
        ..field
    };
    let fields = |nullable: bool| {
        [
            default(field("flag", T::Bool, &[]), Value::BoolData(false)),
            default(field("small", T::Int8, &[]), Value::IntData(-7)),
            default(field("long", T::Int64, &[]), Value::LongData(i64::MIN)),
            default(field("float", T::Float, &[]), Value::FloatData(-0.0)),
            default(field("double", T::Double, &[]), Value::DoubleData(5e-324)),
            default(text_field("text"), Value::StringData(String::new())),
            default(field("at", T::Timestamptz, &[]), Value::StringData("2020-02-02T00:00:00Z".into())),
            default(field("place", T::Geometry, &[]), Value::StringData("POINT (1 2)".into())),
        ]
        .map(|f| FieldSchema { nullable, ..f })
    };
    for nullable in [false, true] {
        let schema =
            plain([vec![key(T::Int64)], fields(nullable).to_vec(), vec![vector_field("v")]].concat());
        // Inserted nulls become defaults at once.
        moved("v2.6.9", "v2.6.9", Habits::default(), &schema).await;
        moved("v2.6.9", "v3.0.0", Habits::default(), &schema).await;
    }
    // Nulls that are older than the default are refused before anything is made.
    let schema = plain([vec![key(T::Int64)], fields(true).to_vec(), vec![vector_field("v")]].concat());
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = source("v2.6.9", Habits::default(), &schema).await;
    let old = [Some(Cell::Scalar(Scalars::LongData(LongArray { data: vec![7] })))]
        .into_iter()
        .chain(vec![None; 8])
        .chain([Some(Cell::Vector(dense(T::FloatVector, 1, 1)))]);
    source.state().put(NAME, Key::Int(7), old.collect());
    export(&from, folder.path()).await.unwrap();
    let (target, into) = Fake::start("v2.6.9", Habits::default()).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for name in ["flag", "small", "long", "float", "double", "text", "at", "place"] {
        assert!(
            error.to_string().contains(&format!("default.docs field {name:?}: 1 nulls would become")),
            "{error}"
        );
    }
    assert!(target.state().changes.is_empty());
}

// ---- refusals ----

/// A target that is too old is refused in the plan: every field by name, and nothing is made.
#[tokio::test]
async fn targets_that_are_too_old() {
    let nullable = |f: FieldSchema| FieldSchema { nullable: true, ..f };
    let named = |f: FieldSchema, name: &str| FieldSchema { name: name.into(), ..f };
    let table: Vec<(&str, &str, Vec<FieldSchema>)> = vec![
        (
            "v2.3.21",
            "v2.4.23",
            vec![
                field("bf16", T::BFloat16Vector, &[("dim", "8")]),
                field("sparse", T::SparseFloatVector, &[]),
                FieldSchema { is_clustering_key: true, ..field("day", T::Int64, &[]) },
            ],
        ),
        ("v2.4.23", "v2.5.27", vec![nullable(field("maybe", T::Int64, &[]))]),
        (
            "v2.5.27",
            "v2.6.9",
            vec![
                field("int8", T::Int8Vector, &[("dim", "8")]),
                field("place", T::Geometry, &[]),
                field("at", T::Timestamptz, &[]),
                nullable(named(vector_field(""), "maybe_v")),
            ],
        ),
        (
            "v2.6.9",
            "v3.0.0",
            vec![
                field("text", T::Text, &[]),
                FieldSchema { element_nullable: true, ..array("holes", T::Int64) },
            ],
        ),
        (
            "v3.0.0",
            "v3.1.0",
            [T::Date, T::Time, T::Decimal, T::Uuid, T::Mol]
                .map(|kind| field(kind.as_str_name(), kind, &[]))
                .to_vec(),
        ),
    ];
    for (old, new, fields) in table {
        let names: Vec<_> = fields.iter().map(|f| f.name.clone()).collect();
        let schema = plain([vec![key(T::Int64), vector_field("v")], fields].concat());
        let folder = tempfile::tempdir().unwrap();
        let (_, from) = source(new, Habits::default(), &schema).await;
        export(&from, folder.path()).await.unwrap();
        let (target, into) = Fake::start(old, Habits::default()).await;
        let error = import(&into, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{old}: {error}");
        for name in names {
            assert!(error.to_string().contains(&format!("default.docs field {name:?}")), "{old}: {error}");
        }
        assert!(target.state().changes.is_empty(), "{old}: {:?}", target.state().changes);
    }
}

#[tokio::test]
async fn structs_and_many_vectors_on_targets_that_are_too_old() {
    let structs = |nullable, element_nullable| {
        let words = FieldSchema { element_nullable, ..array("words", T::VarChar) };
        Declared::Struct(StructArrayFieldSchema {
            name: "chunks".into(),
            nullable,
            fields: vec![words],
            ..Default::default()
        })
    };
    let with = |more: Vec<Declared>| {
        let usual = [key(T::Int64), vector_field("v")].map(Declared::Field);
        schema(usual.into_iter().chain(more).collect(), false)
    };
    for (new, old, schema, what) in [
        ("v2.6.9", "v2.5.27", with(vec![structs(false, false)]), "\"chunks\""),
        ("v3.0.0", "v2.6.9", with(vec![structs(true, false)]), "\"chunks\": nullable struct arrays"),
        ("v3.0.0", "v2.6.9", with(vec![structs(false, true)]), "null elements since 3.0"),
        (
            "v2.4.23",
            "v2.3.21",
            with(vec![Declared::Field(vector_field("w"))]),
            "fields v, w: more than one vector field",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (_, from) = source(new, Habits::default(), &schema).await;
        export(&from, folder.path()).await.unwrap();
        let (target, into) = Fake::start(old, Habits::default()).await;
        let error = import(&into, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{old}: {error}");
        assert!(error.to_string().contains(what), "{old}: {error}");
        assert!(target.state().changes.is_empty(), "{old}: {:?}", target.state().changes);
    }
}

/// Before 2.4 a JSON value is an object: another one is named, and is not even sent.
#[tokio::test]
async fn values_that_a_target_does_not_take() {
    let schema = plain(vec![key(T::Int64), field("json", T::Json, &[]), vector_field("v")]);
    let folder = tempfile::tempdir().unwrap();
    let (_, from) = source("v2.4.23", Habits::default(), &schema).await;
    export(&from, folder.path()).await.unwrap();
    let (target, into) = Fake::start("v2.3.21", Habits::default()).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let what = "field \"json\" (JSON): the target takes only JSON objects, row with key -471";
    assert!(error.to_string().contains(what) && error.to_string().contains("default.docs"), "{error}");
    assert!(!target.state().changes.contains(&"Insert"));
}

/// What cannot be copied from a source is refused by name, and nothing is written.
#[tokio::test]
async fn sources_that_cannot_be_copied() {
    type Spoil = fn(&mut CollectionSchema);
    let spoils: [(&str, Spoil); 7] = [
        ("external collection", |schema| schema.external_source = "s3://elsewhere".into()),
        ("namespaces", |schema| schema.enable_namespace = true),
        ("field \"text\": type number 4711", |schema| schema.fields[2].data_type = 4711),
        ("field \"text\": array elements of type number 4711", |schema| {
            schema.fields[2] = array("text", T::Int8);
            schema.fields[2].element_type = 4711;
        }),
        ("field \"text\": array elements of type Array", |schema| {
            schema.fields[2] = array("text", T::Array);
        }),
        ("function \"f\": its kind, number 4711", |schema| {
            schema.functions.push(FunctionSchema { name: "f".into(), r#type: 4711, ..Default::default() });
        }),
        ("vectors that may be null within a list", |schema| {
            let vectors = FieldSchema { element_nullable: true, ..vectors_in_structs("vs", T::FloatVector) };
            schema.struct_array_fields.push(StructArrayFieldSchema {
                name: "chunks".into(),
                fields: vec![vectors],
                ..Default::default()
            });
        }),
    ];
    for (what, spoil) in spoils {
        let schema = plain(vec![key(T::Int64), vector_field("v"), text_field("text")]);
        let folder = tempfile::tempdir().unwrap();
        let (source, from) = source("v3.0.0", Habits::default(), &schema).await;
        spoil(&mut source.state().collection("", NAME).unwrap().schema);
        let error = export(&from, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        assert!(
            error.to_string().contains(what) && error.to_string().contains("default.docs"),
            "{what}: {error}"
        );
        assert!(!folder.path().join("snap/PLAN.json").exists(), "{what}");
    }
}

// ---- replies that cannot be right ----

fn of<'a>(reply: &'a mut QueryResults, name: &str) -> &'a mut FieldData {
    reply.fields_data.iter_mut().find(|f| f.field_name == name).unwrap()
}

fn scalars_of<'a>(reply: &'a mut QueryResults, name: &str) -> &'a mut ScalarField {
    match &mut of(reply, name).field {
        Some(WireField::Scalars(scalars)) => scalars,
        other => panic!("{other:?}"),
    }
}

fn vectors_of<'a>(reply: &'a mut QueryResults, name: &str) -> &'a mut VectorField {
    match &mut of(reply, name).field {
        Some(WireField::Vectors(vectors)) => vectors,
        other => panic!("{other:?}"),
    }
}

/// Each ends the export with exit code 6, naming collection and field, and where it is the fault of
/// one row its key; nothing is committed.
#[tokio::test]
async fn wrong_replies() {
    type Spoil = fn(&mut QueryResults);
    let table: Vec<(Spoil, &str)> = vec![
        (
            |r| match &mut scalars_of(r, "small").data {
                Some(Scalars::IntData(d)) => d.data[1] = 1000,
                other => panic!("{other:?}"),
            },
            "field \"small\" (Int8): 1000 does not fit, row with key -499",
        ),
        (
            |r| match &mut scalars_of(r, "small").data {
                Some(Scalars::IntData(d)) => drop(d.data.pop()),
                other => panic!("{other:?}"),
            },
            "field \"small\" (Int8): 39 values for 40 rows",
        ),
        (
            |r| match &mut vectors_of(r, "v").data {
                Some(Vectors::FloatVector(d)) => drop(d.data.pop()),
                other => panic!("{other:?}"),
            },
            "field \"v\" (FloatVector(8)): 319 values are not 40 vectors of 8",
        ),
        (
            |r| match &mut vectors_of(r, "v").data {
                Some(Vectors::FloatVector(d)) => d.data.truncate(312),
                other => panic!("{other:?}"),
            },
            "field \"v\" (FloatVector(8)): 312 values are not 40 vectors of 8",
        ),
        (
            |r| match &mut vectors_of(r, "sparse").data {
                Some(Vectors::SparseFloatVector(d)) => d.contents[1] = vec![1; 7],
                other => panic!("{other:?}"),
            },
            "field \"sparse\" (SparseFloatVector): 7 bytes are not whole pairs of index and value, row with key -499",
        ),
        (
            |r| match &mut vectors_of(r, "sparse").data {
                Some(Vectors::SparseFloatVector(d)) => {
                    d.contents[1] = [[9, 0, 0, 0, 0, 0, 128, 63]; 2].concat()
                }
                other => panic!("{other:?}"),
            },
            "field \"sparse\" (SparseFloatVector): index 9 does not ascend, row with key -499",
        ),
        (
            |r| match &mut scalars_of(r, "json").data {
                Some(Scalars::JsonData(d)) => d.data[1] = b"\"\xff\"".to_vec(),
                other => panic!("{other:?}"),
            },
            "field \"json\" (JSON): invalid UTF-8, row with key -499",
        ),
        (|r| of(r, "small").r#type = 4711, "field \"small\" (Int8): the server sent type number 4711"),
        (
            |r| scalars_of(r, "small").data = Some(Scalars::LongData(LongArray { data: vec![0; 40] })),
            "field \"small\" (Int8): the server sent values of another type",
        ),
        (
            |r| r.fields_data.retain(|f| f.field_name != "json"),
            "field \"json\" (JSON): the server's reply does not have it",
        ),
        (
            |r| of(r, "small").valid_data = (0..40).map(|row| row != 1).collect(),
            "field \"small\" (Int8): null in a field that cannot be null, row with key -499",
        ),
        (
            |r| match &mut of(r, "chunks").field {
                Some(WireField::StructArrays(subs)) => drop(subs.fields.pop()),
                other => panic!("{other:?}"),
            },
            "field \"chunks.numbers\" (Array<Int16>(8)): the server's reply does not have it",
        ),
        (
            |r| match &mut of(r, "chunks").field {
                Some(WireField::StructArrays(subs)) => {
                    subs.fields[0].valid_data = vec![true; 40];
                    subs.fields[1].valid_data = (0..40).map(|row| row != 1).collect();
                }
                other => panic!("{other:?}"),
            },
            "its sub-fields do not agree on which rows are null",
        ),
    ];
    let structs = StructArrayFieldSchema {
        name: "chunks".into(),
        nullable: true,
        fields: vec![array("words", T::VarChar), array("numbers", T::Int16)],
        ..Default::default()
    };
    let mut schema = plain(vec![
        FieldSchema { name: "id".into(), ..key(T::Int64) },
        field("small", T::Int8, &[]),
        field("json", T::Json, &[]),
        vector_field("v"),
        field("sparse", T::SparseFloatVector, &[]),
    ]);
    schema.struct_array_fields.push(structs);
    for (spoil, what) in table {
        let folder = tempfile::tempdir().unwrap();
        let habits =
            Habits { validity: Some(Validity::Beside), tamper: Some(Arc::new(spoil)), ..Habits::default() };
        let (fake, from) = Fake::start("v3.0.0", habits).await;
        fake.create(request(&schema));
        let mut rows = columns(&schema, ROWS);
        let ascending = (0..ROWS)
            .map(|n| Some(Cell::Scalar(Scalars::LongData(LongArray { data: vec![n as i64 - 500] }))));
        rows[0] = insert_column(&Declared::Field(key(T::Int64)), &ascending.collect::<Vec<_>>());
        fake.fill(NAME, "", ROWS as u32, rows);
        let error = export(&from, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}");
        assert!(error.to_string().contains(what), "{what:?} is not in: {error}");
        assert!(error.to_string().contains("default.docs"), "{error}");
    }
}

/// Rows at one moment, counted at the same one, whatever is written meanwhile; then compared with
/// the server as it is now, which names what was written.
#[tokio::test]
async fn one_moment_of_a_server_that_is_written_to() {
    for tag in ["v2.5.27", "v2.6.9", "v3.0.0"] {
        let fields = [Declared::Field(key(T::Int64))].into_iter().chain(every_type(tag)).collect();
        let schema = schema(fields, false);
        let folder = tempfile::tempdir().unwrap();
        let write = |state: &mut fake::State| {
            let cells = state.collection("", NAME).unwrap().contents()[20].2.clone();
            state.put(NAME, Key::Int(123_456), cells);
        };
        let habits = Habits { meanwhile: Some(Arc::new(write)), short_pages: Some(9), ..Habits::default() };
        let (_, from) = source(tag, habits, &schema).await;
        let outcome = export(&from, folder.path()).await.unwrap();
        assert_eq!(outcome.collections[0].server_count, Some(ROWS as u64), "{tag}");
        assert!(matches!(outcome.collections[0].consistency, Some(Consistency::Pinned(_))), "{tag}");
        verify(folder.path()).await;
    }
}
