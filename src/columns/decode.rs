//! From a server's columns to Arrow. Vectors move as one buffer; nothing goes through rows.

use super::{ELEMENT, arrow_schema, element_type, misfit, sparse};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, ElementType, FieldType, Key};
use arrow_array::builder::StringBuilder;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    ListArray, RecordBatch, RecordBatchOptions, StringArray, UInt8Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::Field as ArrowField;
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{DataType as WireType, FieldData, ScalarField};
use std::sync::Arc;

/// The rows of a query result as a batch with exactly `columns`, in their order. `key` names the
/// primary key column among them; it is decoded first, so that later errors can name the row.
///
/// Every column must be there and have as many values as there are rows; fields that were not
/// asked for are ignored. A result without any column is an empty batch.
pub fn decode(columns: &[Column], key: &str, mut fields: Vec<FieldData>) -> Result<RecordBatch> {
    let schema = arrow_schema(columns);
    if fields.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; columns.len()];
    let key_first = |c: &usize| columns[*c].name != key;
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(key_first);

    let mut rows: Option<usize> = None;
    for index in order {
        let column = &columns[index];
        let position = fields
            .iter()
            .position(|f| f.field_name == column.name || (column.dynamic && f.is_dynamic))
            .ok_or_else(|| misfit(column, "the server's reply does not have it"))?;
        let keys = arrays.iter().flatten().next().cloned();
        let name_row = |row: usize| match keys.as_ref().and_then(|keys| key_at(keys, row)) {
            Some(key) => format!("row with key {key}"),
            None => format!("row {row}"),
        };
        let array = decode_field(column, fields.swap_remove(position), rows, &name_row)?;
        match rows {
            Some(rows) if rows != array.len() => {
                return Err(misfit(column, format!("{} values for {rows} rows", array.len())));
            }
            _ => rows = Some(array.len()),
        }
        arrays[index] = Some(array);
    }
    let options = RecordBatchOptions::new().with_row_count(rows);
    RecordBatch::try_new_with_options(schema, arrays.into_iter().flatten().collect(), &options)
        .map_err(|e| Error::internal("decoded columns do not form a batch").because(e))
}

/// The value of `count(*)` in a query result.
pub fn decode_counts(fields: Vec<FieldData>) -> Result<u64> {
    let count = fields.into_iter().find_map(|field| match field.field {
        Some(WireField::Scalars(ScalarField { data: Some(Scalars::LongData(data)), .. })) => {
            data.data.first().copied()
        }
        _ => None,
    });
    count
        .and_then(|count| u64::try_from(count).ok())
        .ok_or_else(|| Error::new(ErrorKind::Integrity, "the server's reply to count(*) has no count"))
}

fn key_at(keys: &ArrayRef, row: usize) -> Option<Key> {
    if row >= keys.len() {
        return None;
    }
    if let Some(ints) = keys.as_any().downcast_ref::<Int64Array>() {
        return Some(Key::Int(ints.value(row)));
    }
    keys.as_any().downcast_ref::<StringArray>().map(|text| Key::Text(text.value(row).to_string()))
}

type NameRow<'a> = &'a dyn Fn(usize) -> String;

fn decode_field(
    column: &Column,
    field: FieldData,
    rows: Option<usize>,
    name_row: NameRow,
) -> Result<ArrayRef> {
    if field.r#type != wire_type(&column.kind) as i32 {
        return Err(misfit(column, format!("the server sent type number {}", field.r#type)));
    }
    let nested = match &field.field {
        Some(WireField::Scalars(scalars)) => scalars.valid_data.as_slice(),
        Some(WireField::Vectors(vectors)) => vectors.valid_data.as_slice(),
        _ => &[],
    };
    if let Some(row) = field.valid_data.iter().chain(nested).position(|valid| !valid) {
        return Err(misfit(column, format!("null in a field that cannot be null, {}", name_row(row))));
    }
    match field.field {
        Some(WireField::Scalars(scalars)) => decode_scalars(column, scalars, name_row),
        Some(WireField::Vectors(vectors)) => decode_vectors(column, vectors.data, rows, name_row),
        Some(WireField::StructArrays(_)) => Err(misfit(column, "the server sent a struct array")),
        None => decode_scalars(column, ScalarField::default(), name_row),
    }
}

/// The number by which the protocol knows a type.
pub(super) fn wire_type(kind: &FieldType) -> WireType {
    match kind {
        FieldType::Bool => WireType::Bool,
        FieldType::Int8 => WireType::Int8,
        FieldType::Int16 => WireType::Int16,
        FieldType::Int32 => WireType::Int32,
        FieldType::Int64 => WireType::Int64,
        FieldType::Float => WireType::Float,
        FieldType::Double => WireType::Double,
        FieldType::VarChar { .. } => WireType::VarChar,
        FieldType::Json => WireType::Json,
        FieldType::Array { .. } => WireType::Array,
        FieldType::FloatVector { .. } => WireType::FloatVector,
        FieldType::BinaryVector { .. } => WireType::BinaryVector,
        FieldType::Float16Vector { .. } => WireType::Float16Vector,
        FieldType::BFloat16Vector { .. } => WireType::BFloat16Vector,
        FieldType::SparseFloatVector => WireType::SparseFloatVector,
    }
}

fn other_layout(column: &Column) -> Error {
    misfit(column, "the server sent values of another type")
}

fn decode_scalars(column: &Column, scalars: ScalarField, name_row: NameRow) -> Result<ArrayRef> {
    let narrow = |row: usize, value: i32| misfit(column, format!("{value} does not fit, {}", name_row(row)));
    Ok(match (&column.kind, scalars.data) {
        (FieldType::Json, Some(Scalars::JsonData(data))) => Arc::new(json_text(column, data.data, name_row)?),
        (FieldType::Json, Some(Scalars::BytesData(data))) => {
            Arc::new(json_text(column, data.data, name_row)?)
        }
        (FieldType::Array { element, .. }, Some(Scalars::ArrayData(data))) => {
            Arc::new(decode_lists(column, *element, data.data, name_row)?)
        }
        (FieldType::VarChar { .. }, Some(Scalars::StringData(data))) => {
            Arc::new(StringArray::from(data.data))
        }
        (_, None) => arrow_array::new_empty_array(&super::arrow_type(&column.kind)),
        (kind, data) => {
            let Some(element) = as_element(kind) else { return Err(other_layout(column)) };
            decode_elements(column, element, data, &narrow)?
        }
    })
}

fn as_element(kind: &FieldType) -> Option<ElementType> {
    Some(match kind {
        FieldType::Bool => ElementType::Bool,
        FieldType::Int8 => ElementType::Int8,
        FieldType::Int16 => ElementType::Int16,
        FieldType::Int32 => ElementType::Int32,
        FieldType::Int64 => ElementType::Int64,
        FieldType::Float => ElementType::Float,
        FieldType::Double => ElementType::Double,
        FieldType::VarChar { .. } => ElementType::VarChar,
        _ => return None,
    })
}

/// One flat list of scalars. `narrow` makes the error for an integer at a position that does not
/// fit into 8 or 16 bits.
fn decode_elements(
    column: &Column,
    element: ElementType,
    data: Option<Scalars>,
    narrow: &dyn Fn(usize, i32) -> Error,
) -> Result<ArrayRef> {
    Ok(match (element, data) {
        (ElementType::Bool, Some(Scalars::BoolData(d))) => Arc::new(BooleanArray::from(d.data)),
        (ElementType::Int8, Some(Scalars::IntData(d))) => {
            Arc::new(Int8Array::from(narrowed::<i8>(d.data, narrow)?))
        }
        (ElementType::Int16, Some(Scalars::IntData(d))) => {
            Arc::new(Int16Array::from(narrowed::<i16>(d.data, narrow)?))
        }
        (ElementType::Int32, Some(Scalars::IntData(d))) => Arc::new(Int32Array::from(d.data)),
        (ElementType::Int64, Some(Scalars::LongData(d))) => Arc::new(Int64Array::from(d.data)),
        (ElementType::Float, Some(Scalars::FloatData(d))) => Arc::new(Float32Array::from(d.data)),
        (ElementType::Double, Some(Scalars::DoubleData(d))) => Arc::new(Float64Array::from(d.data)),
        (ElementType::VarChar, Some(Scalars::StringData(d))) => Arc::new(StringArray::from(d.data)),
        _ => return Err(other_layout(column)),
    })
}

fn narrowed<T: TryFrom<i32>>(values: Vec<i32>, narrow: &dyn Fn(usize, i32) -> Error) -> Result<Vec<T>> {
    let fit = |(row, value): (usize, i32)| T::try_from(value).map_err(|_| narrow(row, value));
    values.into_iter().enumerate().map(fit).collect()
}

fn json_text(column: &Column, values: Vec<Vec<u8>>, name_row: NameRow) -> Result<StringArray> {
    let bytes = values.iter().map(Vec::len).sum();
    let mut builder = StringBuilder::with_capacity(values.len(), bytes);
    for (row, value) in values.iter().enumerate() {
        let text = std::str::from_utf8(value)
            .map_err(|e| misfit(column, format!("invalid UTF-8, {}", name_row(row))).because(e))?;
        builder.append_value(text);
    }
    Ok(builder.finish())
}

/// One list of scalars a row. Rows are concatenated per element type, so that the values end up
/// in one buffer.
fn decode_lists(
    column: &Column,
    element: ElementType,
    rows: Vec<ScalarField>,
    name_row: NameRow,
) -> Result<ListArray> {
    let mut lengths = Vec::with_capacity(rows.len());
    let mut all: Option<Scalars> = None;
    for (row, list) in rows.into_iter().enumerate() {
        if list.valid_data.iter().any(|valid| !valid) {
            return Err(misfit(column, format!("null among the elements, {}", name_row(row))));
        }
        let Some(data) = list.data else {
            lengths.push(0);
            continue;
        };
        let length = scalars_len(&data).ok_or_else(|| other_layout(column))?;
        lengths.push(length);
        // An empty list may come as a list of any type.
        if length > 0 {
            match &mut all {
                None => all = Some(data),
                Some(all) => append(all, data).ok_or_else(|| other_layout(column))?,
            }
        }
    }
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let narrow = |position: usize, value: i32| {
        let row = offsets.partition_point(|&end| end as usize <= position).saturating_sub(1);
        misfit(column, format!("element {value} does not fit, {}", name_row(row)))
    };
    let values = match all {
        Some(data) => decode_elements(column, element, Some(data), &narrow)?,
        None => arrow_array::new_empty_array(&element_type(element)),
    };
    list_of(offsets, values)
}

fn scalars_len(data: &Scalars) -> Option<usize> {
    Some(match data {
        Scalars::BoolData(d) => d.data.len(),
        Scalars::IntData(d) => d.data.len(),
        Scalars::LongData(d) => d.data.len(),
        Scalars::FloatData(d) => d.data.len(),
        Scalars::DoubleData(d) => d.data.len(),
        Scalars::StringData(d) => d.data.len(),
        _ => return None,
    })
}

fn append(all: &mut Scalars, more: Scalars) -> Option<()> {
    match (all, more) {
        (Scalars::BoolData(all), Scalars::BoolData(more)) => all.data.extend(more.data),
        (Scalars::IntData(all), Scalars::IntData(more)) => all.data.extend(more.data),
        (Scalars::LongData(all), Scalars::LongData(more)) => all.data.extend(more.data),
        (Scalars::FloatData(all), Scalars::FloatData(more)) => all.data.extend(more.data),
        (Scalars::DoubleData(all), Scalars::DoubleData(more)) => all.data.extend(more.data),
        (Scalars::StringData(all), Scalars::StringData(more)) => all.data.extend(more.data),
        _ => return None,
    }
    Some(())
}

fn decode_vectors(
    column: &Column,
    data: Option<Vectors>,
    rows: Option<usize>,
    name_row: NameRow,
) -> Result<ArrayRef> {
    let values: ArrayRef = match (&column.kind, data) {
        (FieldType::SparseFloatVector, data) => {
            let contents = match data {
                Some(Vectors::SparseFloatVector(sparse)) => sparse.contents,
                None => Vec::new(),
                Some(_) => return Err(other_layout(column)),
            };
            return Ok(Arc::new(sparse_text(column, contents, name_row)?));
        }
        (FieldType::FloatVector { .. }, Some(Vectors::FloatVector(floats))) => {
            Arc::new(Float32Array::from(floats.data))
        }
        (FieldType::BinaryVector { .. }, Some(Vectors::BinaryVector(bytes)))
        | (FieldType::Float16Vector { .. }, Some(Vectors::Float16Vector(bytes)))
        | (FieldType::BFloat16Vector { .. }, Some(Vectors::Bfloat16Vector(bytes))) => {
            Arc::new(UInt8Array::from(bytes))
        }
        (_, None) => return Ok(arrow_array::new_empty_array(&super::arrow_type(&column.kind))),
        _ => return Err(other_layout(column)),
    };
    let length = list_length(&column.kind).ok_or_else(|| other_layout(column))?;
    let expected = rows.map(|rows| rows * length);
    if !values.len().is_multiple_of(length) || expected.is_some_and(|expected| expected != values.len()) {
        let rows = rows.map_or("whole".to_string(), |rows| rows.to_string());
        return Err(misfit(column, format!("{} values are not {rows} vectors of {length}", values.len())));
    }
    let count = values.len() / length;
    let offsets =
        regular_offsets(count, length).ok_or_else(|| misfit(column, "a page holds too many values"))?;
    Ok(Arc::new(list_of(offsets, values)?))
}

/// Elements of one vector in its Arrow list: dimensions for floats, bytes for the others.
pub(super) fn list_length(kind: &FieldType) -> Option<usize> {
    match kind {
        FieldType::FloatVector { dim } => Some(*dim as usize),
        other => other.vector_bytes(),
    }
}

fn regular_offsets(count: usize, length: usize) -> Option<OffsetBuffer<i32>> {
    i32::try_from(count.checked_mul(length)?).ok()?;
    let offsets: Vec<i32> = (0..=count).map(|row| (row * length) as i32).collect();
    Some(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn list_of(offsets: OffsetBuffer<i32>, values: ArrayRef) -> Result<ListArray> {
    let element = Arc::new(ArrowField::new(ELEMENT, values.data_type().clone(), false));
    ListArray::try_new(element, offsets, values, None)
        .map_err(|e| Error::internal("decoded lists do not form a column").because(e))
}

fn sparse_text(column: &Column, contents: Vec<Vec<u8>>, name_row: NameRow) -> Result<StringArray> {
    let bytes = contents.iter().map(|c| c.len() * 3).sum();
    let mut builder = StringBuilder::with_capacity(contents.len(), bytes);
    let mut text = String::new();
    for (row, pairs) in contents.iter().enumerate() {
        text.clear();
        sparse::to_json(pairs, &mut text)
            .map_err(|what| misfit(column, format!("{what}, {}", name_row(row))))?;
        builder.append_value(&text);
    }
    Ok(builder.finish())
}
