//! Vectors that are written and read as a whole are the same as those that Arrow's own writer and
//! reader, which go value by value, write and read.

use super::read_vectors::VectorReader;
use super::tests::{promised, read, rows_of, with_ascending_keys, write};
use super::vectors::Layout;
use crate::columns::arrow_schema;
use crate::columns::tests::{KEY, any_table, column};
use crate::schema::{Column, FieldType};
use arrow_array::{Array, ArrayRef, Float32Array, Int8Array, Int64Array, ListArray, RecordBatch, UInt8Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use std::fs::File;
use std::sync::Arc;

/// What Arrow's own reader makes of a file, its noted schema left aside.
fn read_by_arrow(file: File, batch_rows: usize) -> Vec<RecordBatch> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap();
    reader.with_batch_size(batch_rows).build().unwrap().map(Result::unwrap).collect()
}

/// A part by Arrow's own writer, with pages and row groups of a few rows.
fn write_by_arrow(
    batch: &RecordBatch,
    page_rows: usize,
    group_rows: usize,
    dictionary: bool,
    v2: bool,
) -> File {
    let version = if v2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_dictionary_enabled(dictionary)
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows)
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn others_read_what_we_write((columns, rows) in any_table(), batch_rows in 1usize..10) {
        let batch = with_ascending_keys(&columns, rows);
        if let Some(part) = write(&columns, std::slice::from_ref(&batch)) {
            prop_assert_eq!(rows_of(&read_by_arrow(part.file.reopen().unwrap(), batch_rows)), rows_of(&[batch]));
        }
    }

    #[test]
    fn we_read_what_others_write(
        (columns, rows) in any_table(),
        batch_rows in 1usize..10,
        page_rows in 1usize..5,
        group_rows in 1usize..7,
        dictionary: bool,
        v2: bool,
    ) {
        let batch = with_ascending_keys(&columns, rows);
        if let Some(part) = write(&columns, std::slice::from_ref(&batch)) {
            let file = write_by_arrow(&batch, page_rows, group_rows, dictionary, v2);
            let back = read(file, &columns, &promised(&part), batch_rows).unwrap();
            prop_assert_eq!(rows_of(&back), rows_of(&[batch]));
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Copy, PartialEq)]
enum Row {
    There,
    Null,
    /// Null, and yet with values in Arrow's buffer, as a null may have.
    NullOverValues,
}

fn vectors(kind: &FieldType, nullable: bool, rows: &[Row]) -> (Vec<Column>, RecordBatch) {
    let columns = vec![column(KEY, FieldType::Int64), Column { nullable, ..column("v", kind.clone()) }];
    let length = Layout::of(&columns[1]).unwrap().length;
    let mut ends = vec![0i32];
    let mut next = 0;
    for row in rows {
        next += if *row == Row::Null { 0 } else { length as i32 };
        ends.push(next);
    }
    let noise = (0..next).map(|i| (i.wrapping_mul(2_654_435_761u32 as i32) >> 11) as u8);
    let values: ArrayRef = match kind {
        FieldType::FloatVector { .. } => {
            Arc::new(noise.map(|n| f32::from(n) / 3.0).collect::<Float32Array>())
        }
        FieldType::Int8Vector { .. } => Arc::new(noise.map(|n| n as i8).collect::<Int8Array>()),
        _ => Arc::new(noise.collect::<UInt8Array>()),
    };
    let schema = arrow_schema(&columns);
    let DataType::List(element) = schema.field(1).data_type() else { unreachable!("a vector is a list") };
    let valid = nullable.then(|| rows.iter().map(|row| *row == Row::There).collect::<NullBuffer>());
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    let list = ListArray::new(element.clone(), offsets, values, valid);
    let keys = Int64Array::from_iter_values(0..rows.len() as i64);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(list)]).unwrap();
    (columns, batch)
}

/// Rows by position: about every fifth is null in one way or the other, and there are longer runs.
fn row_at(position: usize) -> Row {
    match position % 97 {
        40..60 => Row::Null,
        n if n % 5 == 3 => Row::Null,
        n if n % 11 == 7 => Row::NullOverValues,
        _ => Row::There,
    }
}

/// Every layout, with lengths around those where pages and levels change, through page, row group
/// and batch boundaries; and none of it by the generic reader.
#[test]
fn whole_vectors_come_back_whole() {
    let mut kinds: Vec<_> =
        [1, 2, 7, 8, 39, 40, 41, 768, 5_000, 32_768].map(|dim| FieldType::FloatVector { dim }).into();
    kinds.extend([8, 64, 312, 320, 1_024].map(|dim| FieldType::BinaryVector { dim }));
    kinds.extend([1, 3, 20, 768].map(|dim| FieldType::Float16Vector { dim }));
    kinds.extend([1, 7, 9, 40, 999].map(|dim| FieldType::Int8Vector { dim }));
    for kind in kinds {
        for nullable in [false, true] {
            let rows: Vec<_> =
                (0..700).map(|position| if nullable { row_at(position) } else { Row::There }).collect();
            let (columns, batch) = vectors(&kind, nullable, &rows);
            let pieces = [batch.slice(0, 1), batch.slice(1, 250), batch.slice(251, 449)];
            let part = write(&columns, &pieces).unwrap();
            let expected = rows_of(&[batch]);
            let file = || part.file.reopen().unwrap();
            assert_eq!(rows_of(&read_by_arrow(file(), 64)), expected, "{kind}, Arrow's reader");
            for batch_rows in [1, 97, 1_000] {
                let back = read(file(), &columns, &promised(&part), batch_rows).unwrap();
                assert_eq!(rows_of(&back), expected, "{kind} in batches of {batch_rows}");
            }

            let mut reader = open(file(), &columns);
            let mut found = 0;
            for batch_rows in [1, 99, 100, 500] {
                found += reader.read(batch_rows).expect("what we wrote is regular").len();
                assert_eq!(reader.at_end(), found == 700, "{kind}");
            }
            assert!(reader.read(1).is_none(), "{kind} has no more rows");
        }
    }
}

fn open(file: File, columns: &[Column]) -> VectorReader {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata =
        parquet::arrow::arrow_reader::ArrowReaderMetadata::load(&file, options).unwrap().metadata().clone();
    let schema = arrow_schema(columns);
    let DataType::List(element) = schema.field(1).data_type() else { unreachable!("a vector is a list") };
    let layout = Layout::of(&columns[1]).unwrap();
    VectorReader::new(layout, element.clone(), Arc::new(file), metadata, 1).unwrap()
}

#[test]
fn only_nulls_and_one_row_are_parts_too() {
    for kind in [FieldType::FloatVector { dim: 5 }, FieldType::Int8Vector { dim: 5 }] {
        for rows in [&[Row::Null][..], &[Row::There], &[Row::Null; 300], &[Row::NullOverValues, Row::There]] {
            let (columns, batch) = vectors(&kind, true, rows);
            let part = write(&columns, std::slice::from_ref(&batch)).unwrap();
            let expected = rows_of(&[batch]);
            let file = || part.file.reopen().unwrap();
            assert_eq!(rows_of(&read_by_arrow(file(), 7)), expected);
            assert_eq!(rows_of(&read(file(), &columns, &promised(&part), 7).unwrap()), expected);
            assert!(open(file(), &columns).read(rows.len()).is_some());
        }
    }
}

/// Plain float vectors of other writers are regular too.
#[test]
fn other_writers_are_read_whole_where_they_are_regular() {
    let kind = FieldType::FloatVector { dim: 24 };
    let rows: Vec<_> = (0..600).map(row_at).collect();
    let (columns, batch) = vectors(&kind, true, &rows);
    let part = write(&columns, std::slice::from_ref(&batch)).unwrap();
    let expected = rows_of(std::slice::from_ref(&batch));

    let plain = write_by_arrow(&batch, 40, 150, false, false);
    assert!(open(plain.try_clone().unwrap(), &columns).read(600).is_some());
    assert_eq!(rows_of(&read(plain, &columns, &promised(&part), 50).unwrap()), expected);
}

/// A vector of another length is readable Parquet, so the generic reader takes it, also after a
/// thousand regular ones. (An import refuses it when it encodes it.)
#[test]
fn the_generic_reader_takes_over_in_the_middle() {
    let kind = FieldType::FloatVector { dim: 4 };
    let (columns, regular) = vectors(&kind, false, &[Row::There; 1_000]);
    let list = arrow_array::cast::AsArray::as_list::<i32>(regular.column(1)).clone();
    let mut ends: Vec<i32> = list.offsets().to_vec();
    ends[801] -= 1;
    let DataType::List(element) = list.data_type().clone() else { unreachable!("a vector is a list") };
    let odd = ListArray::new(element, OffsetBuffer::new(ends.into()), list.values().clone(), None);
    let batch =
        RecordBatch::try_new(regular.schema(), vec![regular.column(0).clone(), Arc::new(odd)]).unwrap();
    let part = write(&columns, std::slice::from_ref(&regular)).unwrap();
    let file = write_by_arrow(&batch, 100, 1_000_000, false, false);
    let mut reader = open(file.try_clone().unwrap(), &columns);
    assert!(reader.read(800).is_some() && reader.read(100).is_none());
    for batch_rows in [1, 7, 100, 5_000] {
        let back = read(file.try_clone().unwrap(), &columns, &promised(&part), batch_rows).unwrap();
        assert_eq!(rows_of(&back), rows_of(std::slice::from_ref(&batch)));
    }
}

#[test]
fn what_is_no_vector_of_its_column_is_not_written() {
    let (columns, _) = vectors(&FieldType::FloatVector { dim: 3 }, false, &[]);
    for (kind, nullable, rows) in [
        (FieldType::FloatVector { dim: 4 }, false, [Row::There]),
        (FieldType::Int8Vector { dim: 3 }, false, [Row::There]),
        (FieldType::FloatVector { dim: 3 }, true, [Row::Null]),
    ] {
        let (_, batch) = vectors(&kind, nullable, &rows);
        let spool = tempfile::NamedTempFile::new().unwrap();
        let mut writer = super::PartWriter::new(&columns, KEY, spool).unwrap();
        assert_eq!(writer.write(&batch).unwrap_err().kind(), crate::error::ErrorKind::Internal, "{kind}");
    }
}
