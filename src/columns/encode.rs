//! From Arrow to the columns of an insert request.

use super::decode::{list_length, wire_type};
use super::{misfit, sparse};
use crate::error::{Error, Result};
use crate::schema::{Column, ElementType, Field, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, ListArray, RecordBatch};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, BytesArray, DateArray, DoubleArray, FieldData, FloatArray, GeometryWktArray,
    IntArray, JsonArray, LongArray, MolSmilesArray, ScalarField, SparseFloatArray, StringArray,
    StructArrayField, TimeArray, VectorArray, VectorField,
};
use std::sync::Arc;

/// The columns of `batch` as an insert carries them, in order. The batch must have the Arrow
/// schema of `columns`; values that do not fit their field are refused by field.
pub fn encode(columns: &[Column], batch: &RecordBatch) -> Result<Vec<FieldData>> {
    columns.iter().zip(batch.columns()).map(|(column, array)| encode_column(column, array)).collect()
}

/// About how many bytes `batch` takes in an insert request; exact for dense vectors.
pub fn wire_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|array| array_bytes(array)).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    if let Some(text) = array.as_string_opt::<i32>() {
        let offsets = text.value_offsets();
        return (offsets[text.len()] - offsets[0]) as usize + 4 * text.len();
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
        return array_bytes(&list.values().slice(first, last - first)) + 8 * list.len();
    }
    if let Some(structs) = array.as_struct_opt() {
        return structs.columns().iter().map(|member| array_bytes(member)).sum();
    }
    array.len() * array.data_type().primitive_width().unwrap_or(1)
}

fn encode_column(column: &Column, array: &ArrayRef) -> Result<FieldData> {
    let mut valid = Vec::new();
    let mut values = array.clone();
    if array.null_count() > 0 {
        if !column.nullable {
            return Err(misfit(column, "null in a field that cannot be null"));
        }
        // Values of null rows do not travel.
        valid = (0..array.len()).map(|row| array.is_valid(row)).collect();
        values = arrow_select::filter::filter(array, &BooleanArray::from(valid.clone()))
            .map_err(|e| Error::internal("nulls cannot be left out").because(e))?;
    } else if column.nullable {
        valid = vec![true; array.len()];
    }
    let mut field = encode_values(column, &values)?;
    // New servers read the validity inside the values, old ones the one beside them. Of a struct they
    // read that of its sub-fields, which is the same for all, and none of the struct itself.
    match &mut field {
        WireField::Scalars(scalars) => scalars.valid_data.clone_from(&valid),
        WireField::Vectors(vectors) => vectors.valid_data.clone_from(&valid),
        WireField::StructArrays(structs) => {
            let valid = std::mem::take(&mut valid);
            structs.fields.iter_mut().for_each(|sub| set_validity(sub, &valid));
        }
    }
    Ok(FieldData {
        r#type: wire_type(&column.kind) as i32,
        field_name: column.name.clone(),
        is_dynamic: column.dynamic,
        field: Some(field),
        valid_data: valid,
        ..Default::default()
    })
}

fn set_validity(sub: &mut FieldData, valid: &[bool]) {
    sub.valid_data = valid.to_vec();
    match &mut sub.field {
        Some(WireField::Scalars(scalars)) => scalars.valid_data = valid.to_vec(),
        Some(WireField::Vectors(vectors)) => vectors.valid_data = valid.to_vec(),
        Some(WireField::StructArrays(_)) | None => {}
    }
}

fn scalars(data: Scalars) -> WireField {
    WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() })
}

fn vectors(dim: u32, data: Vectors) -> WireField {
    WireField::Vectors(VectorField { dim: i64::from(dim), data: Some(data), valid_data: Vec::new() })
}

/// A column without nulls.
fn encode_values(column: &Column, array: &ArrayRef) -> Result<WireField> {
    let elements =
        |element| encode_elements(element, array).map(scalars).map_err(|e| e.context(column.name.clone()));
    Ok(match &column.kind {
        FieldType::Bool => elements(ElementType::Bool)?,
        FieldType::Int8 => elements(ElementType::Int8)?,
        FieldType::Int16 => elements(ElementType::Int16)?,
        FieldType::Int32 => elements(ElementType::Int32)?,
        FieldType::Int64 => elements(ElementType::Int64)?,
        FieldType::Float => elements(ElementType::Float)?,
        FieldType::Double => elements(ElementType::Double)?,
        FieldType::VarChar { .. } | FieldType::Text | FieldType::Timestamptz => {
            elements(ElementType::VarChar)?
        }
        FieldType::Geometry => {
            scalars(Scalars::GeometryWktData(GeometryWktArray { data: texts(column, array)? }))
        }
        FieldType::Mol => scalars(Scalars::MolSmilesData(MolSmilesArray { data: texts(column, array)? })),
        FieldType::Json => {
            let data = texts(column, array)?.into_iter().map(String::into_bytes).collect();
            scalars(Scalars::JsonData(JsonArray { data }))
        }
        FieldType::Date => {
            scalars(Scalars::DateData(DateArray { data: primitives::<Date32Type>(column, array)?.to_vec() }))
        }
        FieldType::Time => {
            scalars(Scalars::TimeData(TimeArray { data: primitives::<Int64Type>(column, array)?.to_vec() }))
        }
        FieldType::Decimal => {
            let unscaled = primitives::<Int64Type>(column, array)?;
            let data = unscaled.iter().map(|value| value.to_le_bytes().to_vec()).collect();
            scalars(Scalars::BytesData(BytesArray { data }))
        }
        FieldType::Uuid => {
            let parse = |text: String| {
                uuid::Uuid::parse_str(&text)
                    .map(|id| id.as_bytes().to_vec())
                    .map_err(|e| misfit(column, format!("{text:?} is not a UUID")).because(e))
            };
            let data = texts(column, array)?.into_iter().map(parse).collect::<Result<_>>()?;
            scalars(Scalars::BytesData(BytesArray { data }))
        }
        FieldType::Array { element, element_nullable, .. } => {
            let lists = lists_of(column, array)?;
            let row = |row| encode_list(column, *element, *element_nullable, &lists.value(row));
            let data = (0..lists.len()).map(row).collect::<Result<_>>()?;
            let element_type = wire_type(&element_as_field(*element)) as i32;
            scalars(Scalars::ArrayData(ArrayArray { data, element_type }))
        }
        FieldType::SparseFloatVector => {
            let parse = |text: String| sparse::from_json(&text).map_err(|what| misfit(column, what));
            let contents = texts(column, array)?.into_iter().map(parse).collect::<Result<Vec<_>>>()?;
            // The last index is the largest one.
            let dims = contents
                .iter()
                .filter_map(|c| c.last_chunk::<8>())
                .map(|pair| i64::from(u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]])) + 1);
            let dim = dims.max().unwrap_or(0);
            let data = Vectors::SparseFloatVector(SparseFloatArray { contents, dim });
            WireField::Vectors(VectorField { dim, data: Some(data), valid_data: Vec::new() })
        }
        FieldType::VectorArray { element, .. } => {
            let lists = lists_of(column, array)?;
            let dim = element.dim().unwrap_or(0);
            let row = |row| {
                let data = Some(dense(column, element, &lists.value(row))?);
                Ok(VectorField { dim: i64::from(dim), data, valid_data: Vec::new() })
            };
            let data = (0..lists.len()).map(row).collect::<Result<_>>()?;
            let element_type = wire_type(element) as i32;
            vectors(dim, Vectors::VectorArray(VectorArray { dim: i64::from(dim), data, element_type }))
        }
        FieldType::StructArray { fields } => {
            WireField::StructArrays(StructArrayField { fields: encode_structs(column, fields, array)? })
        }
        dense_vector => vectors(dense_vector.dim().unwrap_or(0), dense(column, dense_vector, array)?),
    })
}

/// One array a sub-field.
fn encode_structs(column: &Column, fields: &[Field], array: &ArrayRef) -> Result<Vec<FieldData>> {
    let lists = lists_of(column, array)?;
    let structs = lists.values().as_struct_opt().ok_or_else(|| other_type(column))?;
    let sub = |(index, field): (usize, &Field)| {
        let member = structs.columns().get(index).ok_or_else(|| other_type(column))?;
        let nullable = matches!(field.kind, FieldType::Array { element_nullable: true, .. });
        let element = super::list_field(member.data_type().clone(), nullable);
        let array = ListArray::try_new(element, lists.offsets().clone(), member.clone(), None)
            .map_err(|e| Error::internal("a struct cannot be taken apart").because(e))?;
        encode_column(&Column { nullable: false, ..Column::of(field) }, &(Arc::new(array) as ArrayRef))
    };
    fields.iter().enumerate().map(sub).collect()
}

fn element_as_field(element: ElementType) -> FieldType {
    match element {
        ElementType::Bool => FieldType::Bool,
        ElementType::Int8 => FieldType::Int8,
        ElementType::Int16 => FieldType::Int16,
        ElementType::Int32 => FieldType::Int32,
        ElementType::Int64 => FieldType::Int64,
        ElementType::Float => FieldType::Float,
        ElementType::Double => FieldType::Double,
        ElementType::VarChar => FieldType::VarChar { max_length: 0 },
    }
}

fn other_type(column: &Column) -> Error {
    misfit(column, "the column has another type")
}

fn lists_of<'a>(column: &Column, array: &'a ArrayRef) -> Result<&'a ListArray> {
    array.as_list_opt::<i32>().ok_or_else(|| other_type(column))
}

fn texts(column: &Column, array: &ArrayRef) -> Result<Vec<String>> {
    let text = array.as_string_opt::<i32>().ok_or_else(|| other_type(column))?;
    Ok((0..text.len()).map(|row| text.value(row).to_string()).collect())
}

fn primitives<'a, T: ArrowPrimitiveType>(column: &Column, array: &'a ArrayRef) -> Result<&'a [T::Native]> {
    Ok(array.as_primitive_opt::<T>().ok_or_else(|| other_type(column))?.values())
}

/// Dense vectors from a list column whose lists all have the length of the vector.
fn dense(column: &Column, kind: &FieldType, array: &ArrayRef) -> Result<Vectors> {
    Ok(match kind {
        FieldType::FloatVector { .. } => {
            Vectors::FloatVector(FloatArray { data: flat::<Float32Type>(column, kind, array)?.to_vec() })
        }
        FieldType::BinaryVector { .. } => {
            Vectors::BinaryVector(flat::<UInt8Type>(column, kind, array)?.to_vec())
        }
        FieldType::Float16Vector { .. } => {
            Vectors::Float16Vector(flat::<UInt8Type>(column, kind, array)?.to_vec())
        }
        FieldType::BFloat16Vector { .. } => {
            Vectors::Bfloat16Vector(flat::<UInt8Type>(column, kind, array)?.to_vec())
        }
        FieldType::Int8Vector { .. } => {
            let values = flat::<Int8Type>(column, kind, array)?;
            Vectors::Int8Vector(values.iter().map(|value| *value as u8).collect())
        }
        _ => return Err(other_type(column)),
    })
}

fn flat<'a, T: ArrowPrimitiveType>(
    column: &Column,
    kind: &FieldType,
    array: &'a ArrayRef,
) -> Result<&'a [T::Native]> {
    let lists = lists_of(column, array)?;
    let length = list_length(kind).ok_or_else(|| other_type(column))?;
    let offsets = lists.value_offsets();
    if let Some(row) = offsets.windows(2).position(|pair| (pair[1] - pair[0]) as usize != length) {
        let found = offsets[row + 1] - offsets[row];
        let what = format!("a vector of {found} values instead of {length} in row {row} of a batch");
        return Err(misfit(column, what));
    }
    let values = lists.values().as_primitive_opt::<T>().ok_or_else(|| other_type(column))?;
    if values.null_count() > 0 {
        return Err(misfit(column, "null within a vector"));
    }
    Ok(&values.values()[offsets[0] as usize..offsets[lists.len()] as usize])
}

/// The elements of one row's array.
fn encode_list(
    column: &Column,
    element: ElementType,
    nullable: bool,
    list: &ArrayRef,
) -> Result<ScalarField> {
    if list.null_count() == 0 {
        let valid_data = if nullable { vec![true; list.len()] } else { Vec::new() };
        return Ok(ScalarField { data: Some(encode_elements(element, list)?), valid_data });
    }
    if !nullable {
        return Err(misfit(column, "null among the elements of an array"));
    }
    let valid: Vec<bool> = (0..list.len()).map(|index| list.is_valid(index)).collect();
    let present = arrow_select::filter::filter(list, &BooleanArray::from(valid.clone()))
        .map_err(|e| Error::internal("nulls cannot be left out").because(e))?;
    Ok(ScalarField { data: Some(encode_elements(element, &present)?), valid_data: valid })
}

/// A flat list of scalars without nulls.
fn encode_elements(element: ElementType, array: &ArrayRef) -> Result<Scalars> {
    let mismatch = || Error::internal(format!("a column of {} has another Arrow type", element.name()));
    Ok(match element {
        ElementType::Bool => {
            let values = array.as_boolean_opt().ok_or_else(mismatch)?;
            Scalars::BoolData(BoolArray { data: values.values().iter().collect() })
        }
        ElementType::Int8 => {
            let values = array.as_primitive_opt::<Int8Type>().ok_or_else(mismatch)?;
            Scalars::IntData(IntArray { data: values.values().iter().map(|v| i32::from(*v)).collect() })
        }
        ElementType::Int16 => {
            let values = array.as_primitive_opt::<Int16Type>().ok_or_else(mismatch)?;
            Scalars::IntData(IntArray { data: values.values().iter().map(|v| i32::from(*v)).collect() })
        }
        ElementType::Int32 => {
            let values = array.as_primitive_opt::<Int32Type>().ok_or_else(mismatch)?;
            Scalars::IntData(IntArray { data: values.values().to_vec() })
        }
        ElementType::Int64 => {
            let values = array.as_primitive_opt::<Int64Type>().ok_or_else(mismatch)?;
            Scalars::LongData(LongArray { data: values.values().to_vec() })
        }
        ElementType::Float => {
            let values = array.as_primitive_opt::<Float32Type>().ok_or_else(mismatch)?;
            Scalars::FloatData(FloatArray { data: values.values().to_vec() })
        }
        ElementType::Double => {
            let values = array.as_primitive_opt::<Float64Type>().ok_or_else(mismatch)?;
            Scalars::DoubleData(DoubleArray { data: values.values().to_vec() })
        }
        ElementType::VarChar => {
            let values = array.as_string_opt::<i32>().ok_or_else(mismatch)?;
            let data = (0..values.len()).map(|row| values.value(row).to_string()).collect();
            Scalars::StringData(StringArray { data })
        }
    })
}
