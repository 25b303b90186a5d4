//! What was written is read back; what anyone did to it since is refused; and nothing that a file
//! may hold makes the reader panic.

use super::*;
use crate::columns::tests::{
    KEY, any_table, any_values, array, column, field, longs, sub_field, texts, vectors, with_validity,
};
use crate::columns::{Keys, arrow_schema, decode};
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind};
use crate::schema::{Column, ElementType, FieldType, Key};
use crate::snapshot::Part;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{FieldData, FloatArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tempfile::NamedTempFile;

pub(super) fn write(columns: &[Column], batches: &[RecordBatch]) -> Option<FinishedPart> {
    let mut writer = PartWriter::new(columns, KEY, NamedTempFile::new().unwrap()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap()
}

pub(super) fn promised(part: &FinishedPart) -> Part {
    Part {
        key: "data/db/c/p/u00001-0000-00000000.parquet".into(),
        partition: None,
        size: part.size,
        sha256: part.sha256,
        rows: part.rows,
        first: part.first.clone(),
        last: part.last.clone(),
        nulls: part.nulls.clone(),
    }
}

pub(super) fn read(
    file: File,
    columns: &[Column],
    part: &Part,
    batch_rows: usize,
) -> crate::error::Result<Vec<RecordBatch>> {
    let mut reader = PartReader::open(file, columns, KEY, part, batch_rows)?;
    let mut batches = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        assert!(batch.num_rows() > 0 && batch.num_rows() <= batch_rows);
        batches.push(batch);
    }
    Ok(batches)
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

pub(super) fn rows_of(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1))).collect()
}

/// Keys that ascend, in place of the arbitrary ones.
pub(super) fn with_ascending_keys(columns: &[Column], mut rows: Vec<FieldData>) -> RecordBatch {
    let place = columns.iter().position(|c| c.name == KEY).unwrap();
    let count = decode(&columns[place..=place], KEY, rows[place..=place].to_vec()).unwrap().num_rows();
    let keys = match columns[place].kind {
        FieldType::Int64 => longs((0..count as i64).map(|row| row * 3 - 4).collect()),
        _ => {
            let keys: Vec<_> = (0..count).map(|row| format!("{}\u{0}\u{10ffff}", "k".repeat(row))).collect();
            texts(&keys.iter().map(String::as_str).collect::<Vec<_>>())
        }
    };
    rows[place] = field(&columns[place], keys);
    decode(columns, KEY, rows).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back((columns, rows) in any_table(), cuts in any::<[u8; 3]>(), batch_rows in 1usize..10) {
        let batch = with_ascending_keys(&columns, rows);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| *cut as usize % (batch.num_rows() + 1)).collect();
        cuts.extend([0, batch.num_rows()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| batch.slice(pair[0], pair[1] - pair[0])).collect();
        match write(&columns, &pieces) {
            None => prop_assert_eq!(batch.num_rows(), 0),
            Some(part) => {
                let bytes = std::fs::read(part.file.path()).unwrap();
                prop_assert_eq!((part.sha256, part.size), (Sha256::of(&bytes), bytes.len() as u64));
                let keys = Keys::of(&batch, KEY).unwrap();
                prop_assert_eq!((&part.first, &part.last), (&keys.get(0), &keys.last().unwrap()));
                prop_assert_eq!(part.rows, batch.num_rows() as u64);
                let back = read(part.file.reopen().unwrap(), &columns, &promised(&part), batch_rows).unwrap();
                prop_assert_eq!(rows_of(&back), rows_of(&[batch]));
            }
        }
    }
}

/// One column of every type, in the order of the table in `columns`.
fn all_types() -> Vec<Column> {
    let structs = FieldType::StructArray {
        fields: vec![
            sub_field("words", array(ElementType::VarChar)),
            sub_field(
                "vectors",
                FieldType::VectorArray {
                    element: Box::new(FieldType::FloatVector { dim: 2 }),
                    max_capacity: 4,
                },
            ),
        ],
    };
    let null_elements =
        FieldType::Array { element: ElementType::Int16, element_nullable: true, max_capacity: 4 };
    let mut columns: Vec<_> = [
        FieldType::Bool,
        FieldType::Int8,
        FieldType::Int16,
        FieldType::Int32,
        FieldType::Int64,
        FieldType::Float,
        FieldType::Double,
        FieldType::VarChar { max_length: 99 },
        FieldType::Text,
        FieldType::Timestamptz,
        FieldType::Geometry,
        FieldType::Mol,
        FieldType::Date,
        FieldType::Time,
        FieldType::Decimal,
        FieldType::Uuid,
        FieldType::Json,
        array(ElementType::VarChar),
        array(ElementType::Int16),
        null_elements,
        FieldType::FloatVector { dim: 3 },
        FieldType::BinaryVector { dim: 16 },
        FieldType::Float16Vector { dim: 2 },
        FieldType::BFloat16Vector { dim: 2 },
        FieldType::Int8Vector { dim: 2 },
        FieldType::SparseFloatVector,
        structs,
    ]
    .into_iter()
    .map(|kind| column(&kind.to_string(), kind))
    .collect();
    for kind in [FieldType::Int32, FieldType::FloatVector { dim: 2 }] {
        columns.push(Column { nullable: true, ..column(&format!("{kind} or null"), kind) });
    }
    columns.insert(0, column(KEY, FieldType::Int64));
    columns.push(column("$meta", FieldType::Json));
    columns
}

/// Always the same rows; in columns that may be null, every third one is.
fn some_rows(columns: &[Column], rows: usize) -> RecordBatch {
    let mut runner = TestRunner::deterministic();
    let fields = columns.iter().map(|c| {
        let valid: Vec<_> = (0..rows).filter(|_| c.nullable).map(|row| row % 3 != 0).collect();
        let present = if c.nullable { valid.iter().filter(|valid| **valid).count() } else { rows };
        let values = match c.name.as_str() {
            KEY => longs((0..rows as i64).collect()),
            _ => any_values(&c.kind, present).new_tree(&mut runner).unwrap().current(),
        };
        with_validity(c, valid, values)
    });
    decode(columns, KEY, fields.collect()).unwrap()
}

#[test]
fn a_part_is_what_the_format_says() {
    let columns = all_types();
    let part = write(&columns, &[some_rows(&columns, 50)]).unwrap();
    let reader = SerializedFileReader::new(part.file.reopen().unwrap()).unwrap();
    let file = reader.metadata().file_metadata();
    assert_eq!(file.created_by(), Some(concat!("milvus-handoff ", env!("CARGO_PKG_VERSION"))));

    let mut schema = Vec::new();
    parquet::schema::printer::print_schema(&mut schema, file.schema());
    insta::assert_snapshot!(String::from_utf8(schema).unwrap());

    // Nothing is noted beside the data but the Arrow schema, which other readers take types from.
    let noted: Vec<_> =
        file.key_value_metadata().into_iter().flatten().map(|pair| pair.key.as_str()).collect();
    assert_eq!(noted, ["ARROW:schema"]);
    let arrow =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(part.file.reopen().unwrap())
            .unwrap();
    assert_eq!(arrow.schema().fields(), arrow_schema(&columns).fields());
    assert!(arrow.schema().metadata().is_empty());

    let group = reader.metadata().row_group(0);
    assert_eq!((reader.metadata().num_row_groups(), group.num_rows()), (1, 50));
    for chunk in group.columns() {
        let name = &chunk.column_path().parts()[0];
        let kind = &columns.iter().find(|column| column.name == *name).unwrap().kind;
        let encodings: Vec<_> = chunk.encodings().collect();
        let plain = matches!(kind, FieldType::FloatVector { .. });
        assert_eq!(chunk.dictionary_page_offset().is_none(), plain || *kind == FieldType::Bool, "{kind}");
        if plain {
            assert!(
                encodings.contains(&Encoding::PLAIN) && !encodings.contains(&Encoding::RLE_DICTIONARY),
                "{kind}"
            );
        }
        let dense = kind.vector_bytes().is_some();
        match chunk.compression() {
            Compression::UNCOMPRESSED => assert!(dense, "{kind}"),
            Compression::ZSTD(_) => assert!(!dense, "{kind}"),
            other => panic!("{kind} is compressed with {other}"),
        }
        // For skipping by key, and for nothing else.
        let can_be_key = matches!(kind, FieldType::Int64 | FieldType::VarChar { .. });
        assert_eq!(chunk.statistics().is_some(), can_be_key, "{kind}");
        assert_eq!((chunk.column_index_offset(), chunk.offset_index_offset()), (None, None), "{kind}");
    }
}

#[test]
fn large_parts_have_bounded_row_groups() {
    let columns = [column(KEY, FieldType::Int64), column("v", FieldType::FloatVector { dim: 1024 })];
    let page = |from: i64| {
        let data = (0..500 * 1024).map(|i| (from * 1024 + i) as f32).collect();
        let rows = vec![
            field(&columns[0], longs((from..from + 500).collect())),
            field(&columns[1], vectors(1024, Vectors::FloatVector(FloatArray { data }))),
        ];
        decode(&columns, KEY, rows).unwrap()
    };
    let mut writer = PartWriter::new(&columns, KEY, NamedTempFile::new().unwrap()).unwrap();
    let rows = 18_000;
    let mut before = 0;
    for from in (0..rows).step_by(500) {
        writer.write(&page(from)).unwrap();
        assert!(writer.bytes() >= before, "parts end by this number");
        before = writer.bytes();
    }
    assert!(before.abs_diff(rows as u64 * 4104) < 1 << 20, "{before} of {}", rows * 4104);
    let part = writer.finish().unwrap().unwrap();

    let metadata = SerializedFileReader::new(part.file.reopen().unwrap()).unwrap().metadata().clone();
    assert!(metadata.num_row_groups() >= 2);
    for group in metadata.row_groups() {
        assert!(group.total_byte_size() < 40 << 20, "{}", group.total_byte_size());
    }
    let mut next = 0;
    for batch in read(part.file.reopen().unwrap(), &columns, &promised(&part), 700).unwrap() {
        let values = arrow_array::cast::AsArray::as_list::<i32>(batch.column(1)).values().clone();
        let values =
            arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Float32Type>(&values).clone();
        assert!(values.values().iter().enumerate().all(|(i, value)| *value == (next * 1024 + i) as f32));
        next += batch.num_rows();
    }
    assert_eq!(next, rows as usize);
}

#[test]
fn rows_out_of_order_are_not_written() {
    let columns = [column(KEY, FieldType::Int64)];
    let batch = |keys: &[i64]| keys_batch(KEY, keys);
    for wrong in [[[1, 2], [2, 3]], [[1, 2], [0, 5]], [[1, 1], [2, 3]]] {
        let mut writer = PartWriter::new(&columns, KEY, NamedTempFile::new().unwrap()).unwrap();
        let results = wrong.map(|keys| writer.write(&batch(&keys)));
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    let mut writer = PartWriter::new(&columns, KEY, NamedTempFile::new().unwrap()).unwrap();
    writer.write(&batch(&[])).unwrap();
    assert!(writer.finish().unwrap().is_none(), "no part without rows");
}

// ---- parts that are not what the manifest says ----

fn keys_batch(name: &str, keys: &[i64]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    RecordBatch::try_new(arrow_schema(&[column(name, FieldType::Int64)]), vec![keys]).unwrap()
}

/// A Parquet file by another writer, which checks nothing.
fn foreign(batches: &[RecordBatch]) -> File {
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    file_of(&bytes)
}

fn range(rows: u64, first: i64, last: i64) -> Part {
    Part {
        key: String::new(),
        partition: None,
        size: 1,
        sha256: Sha256::of(b""),
        rows,
        first: Key::Int(first),
        last: Key::Int(last),
        nulls: BTreeMap::new(),
    }
}

fn refusal<T>(result: crate::error::Result<T>) -> String {
    let error: Error = result.err().expect("this part must be refused");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    error.to_string()
}

#[test]
fn keys_are_held_to_what_the_manifest_says() {
    let columns = [column(KEY, FieldType::Int64)];
    let check = |keys: &[i64], part: Part, batch_rows| {
        read(foreign(&[keys_batch(KEY, keys)]), &columns, &part, batch_rows).map(|b| rows_of(&b).len())
    };
    for batch_rows in [1, 2, 3, 100] {
        assert_eq!(check(&[1, 2, 5, 9, 10], range(5, 1, 10), batch_rows).unwrap(), 5);
        for (keys, part, what) in [
            (&[1, 2, 5, 9, 10][..], range(4, 1, 10), "it says it has 5 rows, the manifest says 4"),
            (&[1, 2, 5, 9, 10], range(6, 1, 10), "it says it has 5 rows, the manifest says 6"),
            (&[1, 2, 5, 9, 10], range(5, 0, 10), "its key range is not the one in the manifest"),
            (&[1, 2, 5, 9, 10], range(5, 2, 10), "its key range is not the one in the manifest"),
            (&[1, 2, 5, 9, 10], range(5, 1, 9), "its key range is not the one in the manifest"),
            (&[1, 2, 5, 9, 10], range(5, 1, 11), "its key range is not the one in the manifest"),
            (&[1, 2, 5, 4, 10], range(5, 1, 10), "its keys do not ascend at key 4"),
            (&[1, 2, 2, 9, 10], range(5, 1, 10), "its keys do not ascend at key 2"),
            (&[1, 1], range(2, 1, 1), "its keys do not ascend at key 1"),
        ] {
            assert_eq!(refusal(check(keys, part, batch_rows)), what, "{keys:?} in batches of {batch_rows}");
        }
    }
    let mut wrong_kind = range(1, 1, 1);
    wrong_kind.first = Key::Text("1".into());
    refusal(check(&[1], wrong_kind, 1));
}

#[test]
fn columns_are_held_to_the_schema() {
    let columns = all_types();
    let rows = some_rows(&columns, 3);
    let mut part = range(3, 0, 2);
    crate::columns::count_nulls(&rows, &mut part.nulls);
    let read_as = |columns: &[Column], batch: &RecordBatch| {
        read(foreign(std::slice::from_ref(batch)), columns, &part, 10)
    };
    assert_eq!(rows_of(&read_as(&columns, &rows).unwrap()), rows_of(std::slice::from_ref(&rows)));
    let without = Part { nulls: BTreeMap::new(), ..part.clone() };
    let hidden = read(foreign(std::slice::from_ref(&rows)), &columns, &without, 10);
    assert_eq!(refusal(hidden), "its nulls are not those in the manifest");

    let renamed = |from: usize, to: &str| {
        let mut columns = columns.clone();
        columns[from].name = to.into();
        columns
    };
    let mut swapped = columns.clone();
    swapped.swap(2, 3);
    for wrong in [renamed(3, "other"), swapped, columns[..columns.len() - 1].to_vec()] {
        assert!(refusal(read_as(&wrong, &rows)).starts_with("its columns are "));
    }
    let mut more = columns.clone();
    more.push(column("more", FieldType::Bool));
    assert!(refusal(read_as(&more, &rows)).starts_with("its columns are "));
    // Every column with every other one's type, save where that looks the same in Parquet: then
    // values are held to their field when they are encoded.
    for index in 1..columns.len() {
        for other in &columns {
            let mut wrong = columns.clone();
            wrong[index].kind = other.kind.clone();
            wrong[index].nullable = other.nullable;
            let same = arrow_schema(&wrong) == arrow_schema(&columns);
            let what = format!("{} as {}", columns[index].kind, other.kind);
            match read_as(&wrong, &rows) {
                Ok(_) => assert!(same, "{what}"),
                // More numbers than vectors of that type have.
                Err(e) => assert!(!same || e.to_string().starts_with("it claims "), "{what}: {e}"),
            }
        }
    }

    // The same type, but nulls are allowed: nothing that this tool writes.
    let nullable =
        arrow_schema::Schema::new(vec![arrow_schema::Field::new(KEY, arrow_schema::DataType::Int64, true)]);
    let batch =
        RecordBatch::try_new(Arc::new(nullable), vec![Arc::new(Int64Array::from(vec![0, 1, 2])) as ArrayRef])
            .unwrap();
    assert!(refusal(read_as(&[column(KEY, FieldType::Int64)], &batch)).starts_with("its columns are "));
}

/// Which fields hold nulls decides what an import may do, so it must be true.
#[test]
fn nulls_are_held_to_what_the_manifest_says() {
    let columns = all_types();
    let part = write(&columns, &[some_rows(&columns, 7)]).unwrap();
    let said = promised(&part);
    let names: Vec<_> = said.nulls.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(names, [("FloatVector(2) or null", 3), ("Int32 or null", 3)]);
    for (name, count) in [("Int32 or null", 0), ("Int32 or null", 2), ("Int32 or null", 4), ("Bool", 1)] {
        let mut wrong = said.clone();
        match count {
            0 => drop(wrong.nulls.remove(name)),
            _ => drop(wrong.nulls.insert(name.into(), count)),
        }
        for batch_rows in [1, 3, 100] {
            let error = refusal(read(part.file.reopen().unwrap(), &columns, &wrong, batch_rows));
            assert_eq!(error, "its nulls are not those in the manifest");
        }
    }
}

/// What an Arrow schema noted beside the data says is not believed: Parquet's own types count.
#[test]
fn a_noted_schema_cannot_change_the_types() {
    let columns = [column(KEY, FieldType::Int64), column("x", FieldType::VarChar { max_length: 9 })];
    let large: ArrayRef = Arc::new(arrow_array::LargeStringArray::from(vec!["a"]));
    let schema = arrow_schema::Schema::new(vec![
        arrow_schema::Field::new(KEY, arrow_schema::DataType::Int64, false),
        arrow_schema::Field::new("x", arrow_schema::DataType::LargeUtf8, false),
    ]);
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![keys, large]).unwrap();
    let back = read(foreign(&[batch]), &columns, &range(1, 1, 1), 10).unwrap();
    assert_eq!(back[0].schema(), arrow_schema(&columns));
}

#[test]
fn a_truncated_part_is_refused_at_every_length() {
    let columns = all_types();
    let part = write(&columns, &[some_rows(&columns, 5)]).unwrap();
    let bytes = std::fs::read(part.file.path()).unwrap();
    for length in 0..bytes.len() {
        refusal(read(file_of(&bytes[..length]), &columns, &promised(&part), 10));
    }
}

/// The digest tells that a byte was changed; whoever changed it may have changed the digest too.
/// Then the reader may give other values or refuse, but it must come back.
#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    // One column of every encoding and nesting; more would only repeat them.
    let mut seen = HashSet::new();
    let mut columns = all_types();
    columns.retain(|c| {
        seen.insert((arrow_schema(std::slice::from_ref(c)).field(0).data_type().clone(), c.nullable))
    });
    columns.retain(|c| {
        !matches!(
            c.kind,
            FieldType::Int8 | FieldType::Int16 | FieldType::Int32 | FieldType::Date | FieldType::Float
        )
    });
    let part = write(&columns, &[some_rows(&columns, 9)]).unwrap();
    let bytes = std::fs::read(part.file.path()).unwrap();
    let promised = promised(&part);
    let mut panics = Vec::new();
    for at in 0..bytes.len() {
        // One bit that differs from byte to byte, and all of them.
        for flip in [1 << (at % 8), 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let read = || read(file_of(&bytes), &columns, &promised, 4);
            match catch_unwind(AssertUnwindSafe(read)) {
                Ok(Ok(batches)) => assert_eq!(rows_of(&batches).len() as u64, promised.rows),
                Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Integrity, "byte {at}: {error}"),
                Err(_) => panics.push((at, flip)),
            }
        }
    }
    assert_eq!(panics, []);
}
