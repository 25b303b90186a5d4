//! What each step of the way from a server's message to a part, and back, costs on one thread.
//!
//! Bytes a second are those of the message, so that steps and kinds of rows can be compared:
//! `cargo bench`, or `cargo bench -- write` for some of it.

use arrow_array::RecordBatch;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use milvus::proto::milvus::QueryResults;
use milvus::proto::schema::field_data::Field;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    BoolArray, DoubleArray, FieldData, FloatArray, IntArray, JsonArray, LongArray, ScalarField, StringArray,
    VectorField,
};
use milvus_handoff::columns;
use milvus_handoff::digest::{HashingWriter, Sha256};
use milvus_handoff::part::{FinishedPart, PartReader, PartWriter};
use milvus_handoff::schema::{Column, FieldType};
use milvus_handoff::snapshot::Part;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use prost::Message;
use std::sync::LazyLock;
use tempfile::NamedTempFile;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const KEY: &str = "id";

/// Pages that are written into one part: enough for several row groups.
const PAGES: i64 = 8;

/// Kinds of rows that cost differently.
#[derive(Debug, Clone, Copy)]
enum Rows {
    Floats768,
    Halves768,
    Bytes768,
    WideScalars,
    Json,
}

const KINDS: [Rows; 5] = [Rows::Floats768, Rows::Halves768, Rows::Bytes768, Rows::WideScalars, Rows::Json];

/// A page of rows, as a server sends it and in every form that it takes on the way.
struct Sample {
    columns: Vec<Column>,
    message: Vec<u8>,
    pages: Vec<RecordBatch>,
}

impl Sample {
    fn of(rows: Rows) -> &'static Sample {
        static SAMPLES: [LazyLock<Sample>; 5] = [
            LazyLock::new(|| Sample::make(Rows::Floats768)),
            LazyLock::new(|| Sample::make(Rows::Halves768)),
            LazyLock::new(|| Sample::make(Rows::Bytes768)),
            LazyLock::new(|| Sample::make(Rows::WideScalars)),
            LazyLock::new(|| Sample::make(Rows::Json)),
        ];
        &SAMPLES[rows as usize]
    }

    fn make(rows: Rows) -> Sample {
        let columns = columns_of(rows);
        let page = |from| columns::decode(&columns, KEY, fields(rows, &columns, from)).unwrap();
        let per_page = page(0).num_rows() as i64;
        let fields_data = fields(rows, &columns, 0);
        let message = QueryResults { fields_data, ..Default::default() }.encode_to_vec();
        let pages = (0..PAGES).map(|number| page(number * per_page)).collect();
        Sample { columns, message, pages }
    }

    fn bytes(&self) -> BytesCount {
        BytesCount::new(self.message.len())
    }

    fn write(&self) -> FinishedPart {
        let mut writer = PartWriter::new(&self.columns, KEY, NamedTempFile::new().unwrap()).unwrap();
        for page in &self.pages {
            writer.write(page).unwrap();
        }
        writer.finish().unwrap().unwrap()
    }
}

fn columns_of(rows: Rows) -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind, nullable: false, dynamic: false };
    let mut columns = vec![column(KEY, FieldType::Int64)];
    match rows {
        Rows::Floats768 => columns.push(column("vector", FieldType::FloatVector { dim: 768 })),
        Rows::Halves768 => columns.push(column("vector", FieldType::BFloat16Vector { dim: 768 })),
        Rows::Bytes768 => columns.push(column("vector", FieldType::Int8Vector { dim: 768 })),
        Rows::WideScalars => {
            for group in 0..4 {
                columns.extend(
                    [
                        FieldType::Int64,
                        FieldType::Int32,
                        FieldType::Double,
                        FieldType::Float,
                        FieldType::Bool,
                        FieldType::VarChar { max_length: 64 },
                    ]
                    .map(|kind| column(&format!("{kind} {group}"), kind)),
                );
            }
        }
        Rows::Json => {
            columns.push(column("document", FieldType::Json));
            columns.push(Column { dynamic: true, ..column("$meta", FieldType::Json) });
        }
    }
    columns
}

/// Numbers without a pattern that a compressor or a dictionary could use.
fn noise(seed: i64) -> u64 {
    let mut x = (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fields(rows: Rows, columns: &[Column], from: i64) -> Vec<FieldData> {
    let keys = match rows {
        Rows::Floats768 => from..from + 4_096,
        Rows::Halves768 | Rows::Bytes768 => from..from + 8_192,
        Rows::WideScalars | Rows::Json => from..from + 16_384,
    };
    columns.iter().map(|column| field(column, keys.clone())).collect()
}

fn field(column: &Column, keys: std::ops::Range<i64>) -> FieldData {
    use milvus::proto::schema::DataType;
    let flat = |dim: u32| (keys.start * i64::from(dim)..keys.end * i64::from(dim)).map(noise);
    let (kind, field) = match &column.kind {
        FieldType::Int64 if column.name == KEY => {
            (DataType::Int64, scalars(Scalars::LongData(LongArray { data: keys.collect() })))
        }
        FieldType::Int64 => {
            let data = keys.map(|key| noise(key) as i64).collect();
            (DataType::Int64, scalars(Scalars::LongData(LongArray { data })))
        }
        FieldType::Int32 => {
            let data = keys.map(|key| (noise(key) % 1_000) as i32).collect();
            (DataType::Int32, scalars(Scalars::IntData(IntArray { data })))
        }
        FieldType::Double => {
            let data = keys.map(|key| noise(key) as f64 / 1e6).collect();
            (DataType::Double, scalars(Scalars::DoubleData(DoubleArray { data })))
        }
        FieldType::Float => {
            let data = keys.map(|key| noise(key) as f32 / 1e6).collect();
            (DataType::Float, scalars(Scalars::FloatData(FloatArray { data })))
        }
        FieldType::Bool => {
            let data = keys.map(|key| noise(key).is_multiple_of(3)).collect();
            (DataType::Bool, scalars(Scalars::BoolData(BoolArray { data })))
        }
        FieldType::VarChar { .. } => {
            let data = keys.map(|key| format!("{:016x}-{}", noise(key), key % 97)).collect();
            (DataType::VarChar, scalars(Scalars::StringData(StringArray { data })))
        }
        FieldType::Json => {
            let data = keys.map(|key| document(key).into_bytes()).collect();
            (DataType::Json, scalars(Scalars::JsonData(JsonArray { data })))
        }
        FieldType::FloatVector { dim } => {
            let data = flat(*dim).map(|n| n as f32 / u64::MAX as f32).collect();
            (DataType::FloatVector, vectors(*dim, Vectors::FloatVector(FloatArray { data })))
        }
        FieldType::BFloat16Vector { dim } => {
            let data = flat(*dim).flat_map(|n| [n as u8, 0x3f]).collect();
            (DataType::BFloat16Vector, vectors(*dim, Vectors::Bfloat16Vector(data)))
        }
        FieldType::Int8Vector { dim } => {
            let data = flat(*dim).map(|n| n as u8).collect();
            (DataType::Int8Vector, vectors(*dim, Vectors::Int8Vector(data)))
        }
        other => unreachable!("no sample has a column of {other}"),
    };
    FieldData {
        r#type: kind as i32,
        field_name: column.name.clone(),
        is_dynamic: column.dynamic,
        field: Some(field),
        ..Default::default()
    }
}

fn document(key: i64) -> String {
    let n = noise(key);
    format!(
        r#"{{"title":"Report {n:x}","tags":["a{}","b{}","c"],"score":{},"author":{{"name":"N. {}","id":{}}},"text":"{:016x}{:016x} the quick brown fox jumps over the lazy dog, again and again, {key} times"}}"#,
        n % 50,
        n % 7,
        n as f32 / 1e18,
        n % 1_000,
        n % 100_000,
        noise(key + 1),
        noise(key + 2),
    )
}

fn scalars(data: Scalars) -> Field {
    Field::Scalars(ScalarField { data: Some(data), ..Default::default() })
}

fn vectors(dim: u32, data: Vectors) -> Field {
    Field::Vectors(VectorField { dim: i64::from(dim), data: Some(data), ..Default::default() })
}

/// The bytes of a reply to a batch.
#[divan::bench(args = KINDS)]
fn decode(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    bencher.counter(sample.bytes()).bench(|| {
        let reply = QueryResults::decode(sample.message.as_slice()).unwrap();
        columns::decode(&sample.columns, KEY, reply.fields_data).unwrap()
    });
}

/// What `decode` cannot do without: the messages' own decoding.
#[divan::bench(args = KINDS)]
fn decode_message_only(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    bencher.counter(sample.bytes()).bench(|| QueryResults::decode(sample.message.as_slice()).unwrap());
}

/// Batches to a whole part, hashed and written to a file.
#[divan::bench(args = KINDS, sample_count = 10)]
fn write(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    let bytes = BytesCount::new(sample.message.len() * PAGES as usize);
    bencher.counter(bytes).bench(|| sample.write());
}

/// The same by Arrow's own writer, plain and uncompressed: what [`write`] is measured against.
#[divan::bench(args = KINDS, sample_count = 10)]
fn write_by_arrow(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    let bytes = BytesCount::new(sample.message.len() * PAGES as usize);
    bencher.counter(bytes).bench(|| {
        let sink = HashingWriter::new(NamedTempFile::new().unwrap());
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(!matches!(rows, Rows::Floats768))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_compression(match rows {
                Rows::Floats768 | Rows::Halves768 | Rows::Bytes768 => Compression::UNCOMPRESSED,
                Rows::WideScalars | Rows::Json => Compression::ZSTD(ZstdLevel::default()),
            })
            .set_max_row_group_bytes(Some(32 << 20))
            .build();
        let mut writer = ArrowWriter::try_new(sink, sample.pages[0].schema(), Some(properties)).unwrap();
        for page in &sample.pages {
            writer.write(page).unwrap();
        }
        writer.into_inner().unwrap().finish()
    });
}

/// A whole part to batches.
#[divan::bench(args = KINDS, sample_count = 10)]
fn read(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    let part = sample.write();
    let promised = Part {
        key: String::new(),
        partition: None,
        size: part.size,
        sha256: part.sha256,
        rows: part.rows,
        first: part.first.clone(),
        last: part.last.clone(),
        nulls: part.nulls.clone(),
    };
    let batch_rows = sample.pages[0].num_rows();
    let bytes = BytesCount::new(sample.message.len() * PAGES as usize);
    bencher.counter(bytes).bench(|| {
        let file = part.file.reopen().unwrap();
        let mut reader = PartReader::open(file, &sample.columns, KEY, &promised, batch_rows).unwrap();
        while let Some(batch) = reader.next_batch().unwrap() {
            black_box(batch);
        }
    });
}

/// The same by Arrow's own reader, unchecked: what [`read`] is measured against.
#[divan::bench(args = KINDS, sample_count = 10)]
fn read_by_arrow(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    let part = sample.write();
    let batch_rows = sample.pages[0].num_rows();
    let bytes = BytesCount::new(sample.message.len() * PAGES as usize);
    bencher.counter(bytes).bench(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(part.file.reopen().unwrap()).unwrap();
        for batch in builder.with_batch_size(batch_rows).build().unwrap() {
            black_box(batch.unwrap());
        }
    });
}

/// A batch to the bytes of a request.
#[divan::bench(args = KINDS)]
fn encode(bencher: Bencher, rows: Rows) {
    let sample = Sample::of(rows);
    bencher.counter(sample.bytes()).bench(|| {
        let fields_data = columns::encode(&sample.columns, &sample.pages[0]).unwrap();
        QueryResults { fields_data, ..Default::default() }.encode_to_vec()
    });
}

/// SHA-256 alone: what no other step may be slower than by much.
#[divan::bench]
fn hash(bencher: Bencher) {
    let sample = Sample::of(Rows::Floats768);
    bencher.counter(sample.bytes()).bench(|| Sha256::of(&sample.message));
}
