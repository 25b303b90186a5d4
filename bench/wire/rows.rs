//! The rows that the fake server has: the same for the same key, whatever page they are asked for in.

use clap::ValueEnum;
use milvus::proto::common::KeyValuePair;
use milvus::proto::schema::field_data::Field;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, CollectionSchema, DataType, DoubleArray, FieldData, FieldSchema, FloatArray,
    IntArray, JsonArray, LongArray, ScalarField, StringArray, VectorField,
};

/// The primary key.
pub const KEY: &str = "id";

/// Vectors that differ; key `k` has vector `k` modulo this. Coprime to any page size that is a power
/// of two, and larger than a row group of wide vectors.
const VECTORS: u64 = 4_099;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A vector and a few scalars, as in most collections.
    Plain,
    /// A key and a vector, nothing else.
    Vectors,
    /// Twenty scalar columns and a small vector.
    Scalars,
    /// JSON documents of about 450 bytes, dynamic fields, and a small vector.
    Json,
}

pub struct Rows {
    columns: Vec<(&'static str, Column)>,
    dim: usize,
    vectors: Vec<f32>,
    dynamic: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Column {
    Key,
    Bool,
    Int32,
    Int64,
    Float,
    Double,
    Text,
    Integers,
    Json,
    Dynamic,
    Vector,
}

impl Rows {
    pub fn new(kind: Kind, dim: usize) -> Self {
        use Column::{Bool, Double, Dynamic, Float, Int32, Int64, Integers, Json, Key, Text, Vector};
        let columns = match kind {
            Kind::Plain => {
                vec![
                    (KEY, Key),
                    ("title", Text),
                    ("year", Int32),
                    ("score", Float),
                    ("stamp", Int64),
                    ("vector", Vector),
                ]
            }
            Kind::Vectors => vec![(KEY, Key), ("vector", Vector)],
            Kind::Scalars => vec![
                (KEY, Key),
                ("b1", Bool),
                ("b2", Bool),
                ("i1", Int32),
                ("i2", Int32),
                ("i3", Int32),
                ("l1", Int64),
                ("l2", Int64),
                ("l3", Int64),
                ("l4", Int64),
                ("f1", Float),
                ("f2", Float),
                ("d1", Double),
                ("d2", Double),
                ("d3", Double),
                ("t1", Text),
                ("t2", Text),
                ("t3", Text),
                ("t4", Text),
                ("a1", Integers),
                ("vector", Vector),
            ],
            Kind::Json => vec![(KEY, Key), ("document", Json), ("vector", Vector), ("$meta", Dynamic)],
        };
        let vectors =
            (0..VECTORS * dim as u64).map(|i| (mix(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect();
        Rows { dynamic: columns.iter().any(|c| c.1 == Dynamic), columns, dim, vectors }
    }

    pub fn schema(&self, name: &str) -> CollectionSchema {
        let mut fields = Vec::new();
        for (number, (name, column)) in self.columns.iter().enumerate() {
            let pair = |key: &str, value: String| KeyValuePair { key: key.into(), value };
            let mut field = FieldSchema {
                field_id: 100 + number as i64,
                name: name.to_string(),
                data_type: column.data_type() as i32,
                is_primary_key: *column == Column::Key,
                is_dynamic: *column == Column::Dynamic,
                ..Default::default()
            };
            match column {
                Column::Text => field.type_params.push(pair("max_length", "256".into())),
                Column::Vector => field.type_params.push(pair("dim", self.dim.to_string())),
                Column::Integers => {
                    field.element_type = DataType::Int64 as i32;
                    field.type_params.push(pair("max_capacity", "8".into()));
                }
                _ => {}
            }
            // Servers leave the dynamic field out of descriptions.
            if *column != Column::Dynamic {
                fields.push(field);
            }
        }
        CollectionSchema {
            name: name.into(),
            fields,
            enable_dynamic_field: self.dynamic,
            ..Default::default()
        }
    }

    /// The columns in `names`, for keys `first..end`.
    pub fn fields(&self, names: &[String], first: u64, end: u64) -> Vec<FieldData> {
        let wanted = names.iter().filter_map(|name| self.columns.iter().position(|(own, _)| own == name));
        wanted.map(|number| self.field(number, first..end)).collect()
    }

    fn field(&self, number: usize, keys: std::ops::Range<u64>) -> FieldData {
        let (name, column) = self.columns[number];
        // Values of a column have nothing to do with those of another.
        let value = move |key: u64| mix(key.wrapping_mul(64) + number as u64);
        let data = match column {
            Column::Key => Scalars::LongData(LongArray { data: keys.map(|key| key as i64).collect() }),
            Column::Bool => {
                Scalars::BoolData(BoolArray { data: keys.map(|key| value(key) % 3 == 0).collect() })
            }
            Column::Int32 => {
                Scalars::IntData(IntArray { data: keys.map(|key| 1950 + (value(key) % 76) as i32).collect() })
            }
            Column::Int64 => {
                Scalars::LongData(LongArray { data: keys.map(|key| (value(key) >> 20) as i64).collect() })
            }
            Column::Float => Scalars::FloatData(FloatArray {
                data: keys.map(|key| (value(key) >> 40) as f32 / 1e3).collect(),
            }),
            Column::Double => {
                Scalars::DoubleData(DoubleArray { data: keys.map(|key| value(key) as f64 / 1e12).collect() })
            }
            Column::Text => {
                Scalars::StringData(StringArray { data: keys.map(|key| words(value(key), 4)).collect() })
            }
            Column::Integers => {
                let row = |key: u64| ScalarField {
                    data: Some(Scalars::LongData(LongArray {
                        data: (0..4).map(|i| (mix(value(key) + i) >> 44) as i64).collect(),
                    })),
                    ..Default::default()
                };
                let element_type = DataType::Int64 as i32;
                Scalars::ArrayData(ArrayArray { data: keys.map(row).collect(), element_type })
            }
            Column::Json => {
                let document = |key: u64| {
                    let v = value(key);
                    format!(
                        r#"{{"url":"https://example.org/{}/{v:x}","title":"{}","author":{{"name":"{}","id":{}}},"scores":[{},{},{}],"tags":["{}","{}"],"body":"{}"}}"#,
                        v % 1000,
                        words(v, 6),
                        words(v >> 7, 2),
                        v >> 24,
                        (v % 997) as f64 / 10.0,
                        (v % 991) as f64 / 10.0,
                        (v % 983) as f64 / 10.0,
                        words(v >> 9, 1),
                        words(v >> 11, 1),
                        words(v >> 13, 48),
                    )
                    .into_bytes()
                };
                Scalars::JsonData(JsonArray { data: keys.map(document).collect() })
            }
            Column::Dynamic => {
                let meta = |key: u64| {
                    let v = value(key);
                    format!(r#"{{"lang":"{}","pages":{},"seen":{}}}"#, words(v, 1), v % 900, v >> 30)
                        .into_bytes()
                };
                Scalars::JsonData(JsonArray { data: keys.map(meta).collect() })
            }
            Column::Vector => {
                let mut data = Vec::with_capacity((keys.end - keys.start) as usize * self.dim);
                for key in keys {
                    let at = (key % VECTORS) as usize * self.dim;
                    data.extend_from_slice(&self.vectors[at..at + self.dim]);
                }
                let data = Some(Vectors::FloatVector(FloatArray { data }));
                let vectors = VectorField { dim: self.dim as i64, data, ..Default::default() };
                return wire(name, column, Field::Vectors(vectors));
            }
        };
        wire(name, column, Field::Scalars(ScalarField { data: Some(data), ..Default::default() }))
    }
}

impl Column {
    fn data_type(self) -> DataType {
        match self {
            Column::Key | Column::Int64 => DataType::Int64,
            Column::Bool => DataType::Bool,
            Column::Int32 => DataType::Int32,
            Column::Float => DataType::Float,
            Column::Double => DataType::Double,
            Column::Text => DataType::VarChar,
            Column::Integers => DataType::Array,
            Column::Json | Column::Dynamic => DataType::Json,
            Column::Vector => DataType::FloatVector,
        }
    }
}

fn wire(name: &str, column: Column, field: Field) -> FieldData {
    FieldData {
        r#type: column.data_type() as i32,
        field_name: name.into(),
        is_dynamic: column == Column::Dynamic,
        field: Some(field),
        ..Default::default()
    }
}

/// splitmix64: cheap, and nothing repeats.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Text that compresses about as text does.
fn words(value: u64, count: u64) -> String {
    const WORDS: [&str; 32] = [
        "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll",
        "ledge", "marsh", "north", "ocean", "plain", "quarry", "ridge", "shoal", "tidal", "upland", "valley",
        "willow", "xenon", "yonder", "zenith", "almond", "birch", "coral", "dune", "estuary", "fern",
    ];
    let mut text = String::with_capacity(count as usize * 7);
    for number in 0..count {
        if number > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[(mix(value + number) >> 59) as usize]);
    }
    text
}
