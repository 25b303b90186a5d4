//! From a server's columns to Arrow. Vectors move as one buffer; nothing goes through rows.

use super::{arrow_schema, arrow_type, element_type, list_field, misfit, sparse, struct_fields};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, ElementType, Field, FieldType, Key};
use arrow_array::builder::StringBuilder;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray, UInt8Array,
    UInt32Array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{DataType as WireType, FieldData, ScalarField, VectorField};
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
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|c| columns[*c].name != key);

    let mut rows: Option<usize> = None;
    let mut keys: Option<ArrayRef> = None;
    for index in order {
        let column = &columns[index];
        let position = fields
            .iter()
            .position(|f| f.field_name == column.name || (column.dynamic && f.is_dynamic))
            .ok_or_else(|| misfit(column, "the server's reply does not have it"))?;
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
        if column.name == key {
            keys = Some(array.clone());
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

/// One column: its values, and then the nulls among them.
fn decode_field(
    column: &Column,
    field: FieldData,
    rows: Option<usize>,
    name_row: NameRow,
) -> Result<ArrayRef> {
    if field.r#type != wire_type(&column.kind) as i32 {
        return Err(misfit(column, format!("the server sent type number {}", field.r#type)));
    }
    let (mut valid, mut values) = take_validity(field.valid_data, field.field);
    if let Some(WireField::StructArrays(structs)) = &mut values {
        valid = struct_validity(column, valid, &mut structs.fields)?;
    }
    let has_nulls = valid.iter().any(|valid| !valid);
    if !has_nulls {
        return decode_values(column, values, rows, name_row);
    }
    if let (false, Some(row)) = (column.nullable, valid.iter().position(|valid| !valid)) {
        return Err(misfit(column, format!("null in a field that cannot be null, {}", name_row(row))));
    }
    // With nulls the values may be those of all rows or of the others only.
    let present: Vec<usize> = (0..valid.len()).filter(|row| valid[*row]).collect();
    let name_value = |value: usize| match present.get(value) {
        Some(row) if present.len() != valid.len() => format!("{}, or value {value}", name_row(*row)),
        _ => name_row(value),
    };
    fill_nulls(column, &mut values, &valid);
    let array = match values {
        Some(WireField::StructArrays(structs)) => {
            decode_structs(column, structs.fields, &valid, &name_value)?
        }
        values => decode_values(column, values, None, &name_value)?,
    };
    with_nulls(column, array, &valid)
}

/// A struct is null as a whole, and servers say so with every sub-field. Takes the validity out of
/// the sub-fields, so that they are read as columns without nulls.
fn struct_validity(column: &Column, own: Vec<bool>, subs: &mut [FieldData]) -> Result<Vec<bool>> {
    let mut valid = own;
    for sub in subs {
        let (said, values) = take_validity(std::mem::take(&mut sub.valid_data), sub.field.take());
        sub.field = values;
        if valid.is_empty() {
            valid = said;
        } else if !said.is_empty() && said != valid {
            return Err(misfit(column, "its sub-fields do not agree on which rows are null"));
        }
    }
    Ok(valid)
}

/// Where nulls are filled in, those of byte strings of a fixed length may be empty. Elsewhere an
/// empty one is not a value.
fn fill_nulls(column: &Column, values: &mut Option<WireField>, valid: &[bool]) {
    let length = match column.kind {
        FieldType::Decimal => 8,
        FieldType::Uuid => 16,
        _ => return,
    };
    if let Some(WireField::Scalars(ScalarField { data: Some(Scalars::BytesData(bytes)), .. })) = values
        && bytes.data.len() == valid.len()
    {
        let nulls = bytes.data.iter_mut().zip(valid).filter(|(_, valid)| !**valid);
        nulls.for_each(|(bytes, _)| *bytes = vec![0; length]);
    }
}

/// Validity inside the values replaces the one beside them.
fn take_validity(beside: Vec<bool>, mut values: Option<WireField>) -> (Vec<bool>, Option<WireField>) {
    let inside = match &mut values {
        Some(WireField::Scalars(scalars)) => std::mem::take(&mut scalars.valid_data),
        Some(WireField::Vectors(vectors)) => std::mem::take(&mut vectors.valid_data),
        _ => Vec::new(),
    };
    (if inside.is_empty() { beside } else { inside }, values)
}

/// `array` holds the values of all rows or of the valid ones; the result has one entry a row.
fn with_nulls(column: &Column, array: ArrayRef, valid: &[bool]) -> Result<ArrayRef> {
    let present = valid.iter().filter(|valid| **valid).count();
    let nth_present = valid.iter().scan(0u32, |next, valid| {
        let this = *next;
        *next += u32::from(*valid);
        Some(valid.then_some(this))
    });
    let rows: UInt32Array = match array.len() {
        all if all == valid.len() => {
            let own = |(row, valid): (usize, &bool)| valid.then_some(row as u32);
            valid.iter().enumerate().map(own).collect()
        }
        compacted if compacted == present => nth_present.collect(),
        other => {
            return Err(misfit(
                column,
                format!("{other} values for {} rows of which {present} are not null", valid.len()),
            ));
        }
    };
    arrow_select::take::take(&array, &rows, None)
        .map_err(|e| Error::internal("nulls cannot be put in").because(e))
}

fn decode_values(
    column: &Column,
    values: Option<WireField>,
    rows: Option<usize>,
    name_row: NameRow,
) -> Result<ArrayRef> {
    match values {
        Some(WireField::Scalars(scalars)) => decode_scalars(column, scalars, name_row),
        Some(WireField::Vectors(vectors)) => decode_vectors(column, vectors.data, rows, name_row),
        Some(WireField::StructArrays(structs)) => decode_structs(column, structs.fields, &[], name_row),
        None => Ok(arrow_array::new_empty_array(&arrow_type(&column.kind))),
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
        FieldType::Text => WireType::Text,
        FieldType::Geometry => WireType::Geometry,
        FieldType::Timestamptz => WireType::Timestamptz,
        FieldType::Date => WireType::Date,
        FieldType::Time => WireType::Time,
        FieldType::Decimal => WireType::Decimal,
        FieldType::Uuid => WireType::Uuid,
        FieldType::Mol => WireType::Mol,
        FieldType::FloatVector { .. } => WireType::FloatVector,
        FieldType::BinaryVector { .. } => WireType::BinaryVector,
        FieldType::Float16Vector { .. } => WireType::Float16Vector,
        FieldType::BFloat16Vector { .. } => WireType::BFloat16Vector,
        FieldType::Int8Vector { .. } => WireType::Int8Vector,
        FieldType::SparseFloatVector => WireType::SparseFloatVector,
        FieldType::VectorArray { .. } => WireType::ArrayOfVector,
        FieldType::StructArray { .. } => WireType::ArrayOfStruct,
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
        (FieldType::Array { element, element_nullable, .. }, Some(Scalars::ArrayData(data))) => {
            if *element_nullable {
                Arc::new(decode_nullable_lists(column, *element, data.data, name_row)?)
            } else {
                Arc::new(decode_lists(column, *element, data.data, name_row)?)
            }
        }
        (
            FieldType::VarChar { .. } | FieldType::Text | FieldType::Timestamptz,
            Some(Scalars::StringData(data)),
        ) => Arc::new(StringArray::from(data.data)),
        (FieldType::Geometry, Some(Scalars::GeometryWktData(data))) => Arc::new(StringArray::from(data.data)),
        // Lite spells WKT as plain text.
        (FieldType::Geometry, Some(Scalars::StringData(data))) => Arc::new(StringArray::from(data.data)),
        (FieldType::Mol, Some(Scalars::MolSmilesData(data))) => Arc::new(StringArray::from(data.data)),
        (FieldType::Date, Some(Scalars::DateData(data))) => Arc::new(Date32Array::from(data.data)),
        (FieldType::Time, Some(Scalars::TimeData(data))) => Arc::new(Int64Array::from(data.data)),
        (FieldType::Decimal, Some(Scalars::BytesData(data))) => {
            let unscaled = fixed_bytes::<8>(column, data.data, name_row)?;
            Arc::new(Int64Array::from_iter_values(unscaled.into_iter().map(i64::from_le_bytes)))
        }
        (FieldType::Uuid, Some(Scalars::BytesData(data))) => {
            let ids = fixed_bytes::<16>(column, data.data, name_row)?;
            let text = |id| uuid::Uuid::from_bytes(id).hyphenated().to_string();
            Arc::new(StringArray::from_iter_values(ids.into_iter().map(text)))
        }
        (_, None) => arrow_array::new_empty_array(&arrow_type(&column.kind)),
        (kind, data) => {
            let Some(element) = as_element(kind) else { return Err(other_layout(column)) };
            decode_elements(column, element, data, &narrow)?
        }
    })
}

/// Byte strings of `N` bytes.
fn fixed_bytes<const N: usize>(
    column: &Column,
    values: Vec<Vec<u8>>,
    name_row: NameRow,
) -> Result<Vec<[u8; N]>> {
    let fixed = |(row, bytes): (usize, Vec<u8>)| {
        bytes.try_into().map_err(|b: Vec<u8>| {
            misfit(column, format!("{} bytes instead of {N}, {}", b.len(), name_row(row)))
        })
    };
    values.into_iter().enumerate().map(fixed).collect()
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

/// One list of scalars a row. Rows are concatenated before they are converted, so that the values
/// end up in one buffer.
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
    let offsets = offsets_of(column, &lengths)?;
    let narrow = |position: usize, value: i32| {
        let row = offsets.partition_point(|&end| end as usize <= position).saturating_sub(1);
        misfit(column, format!("element {value} does not fit, {}", name_row(row)))
    };
    let values = match all {
        Some(data) => decode_elements(column, element, Some(data), &narrow)?,
        None => arrow_array::new_empty_array(&element_type(element)),
    };
    list_of(offsets, values, false)
}

/// One list of scalars a row, any of which may be null. Rare, so row by row.
fn decode_nullable_lists(
    column: &Column,
    element: ElementType,
    rows: Vec<ScalarField>,
    name_row: NameRow,
) -> Result<ListArray> {
    let mut lists: Vec<ArrayRef> = Vec::with_capacity(rows.len());
    for (row, list) in rows.into_iter().enumerate() {
        let narrow =
            |_, value: i32| misfit(column, format!("element {value} does not fit, {}", name_row(row)));
        let values = match list.data {
            Some(data) if scalars_len(&data) == Some(0) => {
                arrow_array::new_empty_array(&element_type(element))
            }
            Some(data) => decode_elements(column, element, Some(data), &narrow)?,
            None => arrow_array::new_empty_array(&element_type(element)),
        };
        lists.push(if list.valid_data.is_empty() {
            values
        } else {
            with_nulls(column, values, &list.valid_data)?
        });
    }
    let lengths: Vec<_> = lists.iter().map(|list| list.len()).collect();
    let parts: Vec<&dyn Array> = lists.iter().map(|list| list.as_ref()).collect();
    let values = if parts.is_empty() {
        arrow_array::new_empty_array(&element_type(element))
    } else {
        arrow_select::concat::concat(&parts)
            .map_err(|e| Error::internal("decoded lists cannot be joined").because(e))?
    };
    list_of(offsets_of(column, &lengths)?, values, true)
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
    match (&column.kind, data) {
        (FieldType::SparseFloatVector, Some(Vectors::SparseFloatVector(sparse))) => {
            Ok(Arc::new(sparse_text(column, sparse.contents, name_row)?))
        }
        (FieldType::VectorArray { element, .. }, Some(Vectors::VectorArray(array))) => {
            Ok(Arc::new(decode_vector_lists(column, element, array.data, name_row)?))
        }
        (_, None) => Ok(arrow_array::new_empty_array(&arrow_type(&column.kind))),
        (dense, Some(data)) => {
            let values = flat_values(dense, data).ok_or_else(|| other_layout(column))?;
            Ok(Arc::new(cut_vectors(column, dense, values, rows)?))
        }
    }
}

/// The flat values of dense vectors, moved, not copied.
fn flat_values(kind: &FieldType, data: Vectors) -> Option<ArrayRef> {
    Some(match (kind, data) {
        (FieldType::FloatVector { .. }, Vectors::FloatVector(floats)) => {
            Arc::new(Float32Array::from(floats.data))
        }
        (FieldType::BinaryVector { .. }, Vectors::BinaryVector(bytes))
        | (FieldType::Float16Vector { .. }, Vectors::Float16Vector(bytes))
        | (FieldType::BFloat16Vector { .. }, Vectors::Bfloat16Vector(bytes)) => {
            Arc::new(UInt8Array::from(bytes))
        }
        (FieldType::Int8Vector { .. }, Vectors::Int8Vector(bytes)) => {
            Arc::new(Int8Array::new(Buffer::from_vec(bytes).into(), None))
        }
        _ => return None,
    })
}

/// Flat values as a list of vectors, of `rows` where that is known.
fn cut_vectors(
    column: &Column,
    kind: &FieldType,
    values: ArrayRef,
    rows: Option<usize>,
) -> Result<ListArray> {
    let length = list_length(kind).ok_or_else(|| other_layout(column))?;
    let expected = rows.map(|rows| rows * length);
    if !values.len().is_multiple_of(length) || expected.is_some_and(|expected| expected != values.len()) {
        let rows = rows.map_or("whole".to_string(), |rows| rows.to_string());
        return Err(misfit(column, format!("{} values are not {rows} vectors of {length}", values.len())));
    }
    let offsets = offsets_of(column, &vec![length; values.len() / length])?;
    list_of(offsets, values, false)
}

/// One list of vectors a row.
fn decode_vector_lists(
    column: &Column,
    element: &FieldType,
    rows: Vec<VectorField>,
    name_row: NameRow,
) -> Result<ListArray> {
    let length = list_length(element).ok_or_else(|| other_layout(column))?;
    let mut counts = Vec::with_capacity(rows.len());
    let mut flat: Vec<ArrayRef> = Vec::new();
    for (row, vectors) in rows.into_iter().enumerate() {
        if vectors.valid_data.iter().any(|valid| !valid) {
            return Err(misfit(column, format!("null among the vectors, {}", name_row(row))));
        }
        let Some(data) = vectors.data else {
            counts.push(0);
            continue;
        };
        let values = flat_values(element, data).ok_or_else(|| other_layout(column))?;
        if !values.len().is_multiple_of(length) {
            let what =
                format!("{} values are not whole vectors of {length}, {}", values.len(), name_row(row));
            return Err(misfit(column, what));
        }
        counts.push(values.len() / length);
        flat.push(values);
    }
    let parts: Vec<&dyn Array> = flat.iter().map(|values| values.as_ref()).collect();
    let vectors: ArrayRef = if parts.is_empty() {
        arrow_array::new_empty_array(&arrow_type(element))
    } else {
        let values = arrow_select::concat::concat(&parts)
            .map_err(|e| Error::internal("decoded vectors cannot be joined").because(e))?;
        Arc::new(cut_vectors(column, element, values, None)?)
    };
    list_of(offsets_of(column, &counts)?, vectors, false)
}

/// One array a sub-field, all of the same length in a row, as a list of structs. Where `valid` has
/// nulls, the result has only the rows that are not null, whichever layout a sub-field has.
fn decode_structs(
    column: &Column,
    mut subs: Vec<FieldData>,
    valid: &[bool],
    name_row: NameRow,
) -> Result<ArrayRef> {
    let FieldType::StructArray { fields } = &column.kind else { return Err(other_layout(column)) };
    let mut offsets: Option<OffsetBuffer<i32>> = None;
    let mut members: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for field in fields {
        let sub = Column { name: format!("{}.{}", column.name, field.name), ..Column::of(field) };
        let position = subs
            .iter()
            .position(|f| short_name(&f.field_name) == field.name)
            .ok_or_else(|| misfit(&sub, "the server's reply does not have it"))?;
        let lists = decode_field(&sub, subs.swap_remove(position), None, name_row)?;
        let lists = without_nulls(lists, valid)?;
        let lists = lists.as_any().downcast_ref::<ListArray>().ok_or_else(|| other_layout(&sub))?;
        match &offsets {
            Some(offsets) if offsets != lists.offsets() => {
                return Err(misfit(
                    &sub,
                    "its arrays have other lengths than those of the sub-fields before it",
                ));
            }
            _ => offsets = Some(lists.offsets().clone()),
        }
        members.push(lists.values().clone());
    }
    let structs = struct_array(fields, members)?;
    let offsets = offsets.ok_or_else(|| other_layout(column))?;
    Ok(Arc::new(list_of(offsets, structs, false)?))
}

/// The rows of an aligned column that are not null; a compacted one as it is.
fn without_nulls(array: ArrayRef, valid: &[bool]) -> Result<ArrayRef> {
    if array.len() != valid.len() || valid.iter().all(|valid| *valid) {
        return Ok(array);
    }
    arrow_select::filter::filter(&array, &BooleanArray::from(valid.to_vec()))
        .map_err(|e| Error::internal("nulls cannot be left out").because(e))
}

fn struct_array(fields: &[Field], members: Vec<ArrayRef>) -> Result<ArrayRef> {
    let structs = StructArray::try_new(struct_fields(fields), members, None::<NullBuffer>)
        .map_err(|e| Error::internal("decoded sub-fields do not form a struct").because(e))?;
    Ok(Arc::new(structs))
}

/// Some servers say `struct[sub]` for a sub-field, others `sub`.
fn short_name(name: &str) -> &str {
    name.strip_suffix(']').and_then(|n| n.split_once('[')).map_or(name, |(_, sub)| sub)
}

/// Elements of one vector in its Arrow list: dimensions for floats, bytes for the others.
pub(super) fn list_length(kind: &FieldType) -> Option<usize> {
    match kind {
        FieldType::FloatVector { dim } => Some(*dim as usize),
        other => other.vector_bytes(),
    }
}

/// Arrow lists count in 32 bits; a page that does not fit is refused, not wrapped around.
fn offsets_of(column: &Column, lengths: &[usize]) -> Result<OffsetBuffer<i32>> {
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    let mut end: usize = 0;
    offsets.push(0);
    for length in lengths {
        end += length;
        offsets.push(i32::try_from(end).map_err(|_| misfit(column, "a page holds too many values"))?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn list_of(offsets: OffsetBuffer<i32>, values: ArrayRef, nullable: bool) -> Result<ListArray> {
    ListArray::try_new(list_field(values.data_type().clone(), nullable), offsets, values, None)
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
