//! From Arrow to the columns of an insert request.

use super::decode::{list_length, wire_type};
use super::{misfit, sparse};
use crate::error::{Error, Result};
use crate::schema::{Column, ElementType, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, ListArray, RecordBatch};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, DoubleArray, FieldData, FloatArray, IntArray, JsonArray, LongArray, ScalarField,
    SparseFloatArray, StringArray, VectorField,
};

/// The columns of `batch` as an insert carries them, in order. The batch must have the Arrow
/// schema of `columns`; values that do not fit their field are refused by field.
pub fn encode(columns: &[Column], batch: &RecordBatch) -> Result<Vec<FieldData>> {
    let encode_one = |(column, array): (&Column, &ArrayRef)| {
        let field = encode_column(column, array)?;
        Ok(FieldData {
            r#type: wire_type(&column.kind) as i32,
            field_name: column.name.clone(),
            is_dynamic: column.dynamic,
            field: Some(field),
            ..Default::default()
        })
    };
    columns.iter().zip(batch.columns()).map(encode_one).collect()
}

/// About how many bytes `batch` takes in an insert request; exact for dense vectors.
pub fn wire_bytes(columns: &[Column], batch: &RecordBatch) -> usize {
    let rows = batch.num_rows();
    let column_bytes = |(column, array): (&Column, &ArrayRef)| match &column.kind {
        FieldType::VarChar { .. } | FieldType::Json | FieldType::SparseFloatVector => {
            let text = array.as_string::<i32>();
            let offsets = text.value_offsets();
            (offsets[rows] - offsets[0]) as usize + 4 * rows
        }
        FieldType::Array { .. } => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let share = (offsets[rows] - offsets[0]) as usize;
            let values = list.values();
            values.get_array_memory_size() * share / values.len().max(1) + 8 * rows
        }
        fixed => fixed.typical_bytes() * rows,
    };
    columns.iter().zip(batch.columns()).map(column_bytes).sum()
}

fn encode_column(column: &Column, array: &ArrayRef) -> Result<WireField> {
    if array.null_count() > 0 {
        return Err(misfit(column, "null in a field that cannot be null"));
    }
    let scalars =
        |data: Scalars| WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() });
    let vectors = |dim: i64, data: Vectors| {
        WireField::Vectors(VectorField { dim, data: Some(data), valid_data: Vec::new() })
    };
    Ok(match &column.kind {
        FieldType::Bool => scalars(encode_elements(ElementType::Bool, array)?),
        FieldType::Int8 => scalars(encode_elements(ElementType::Int8, array)?),
        FieldType::Int16 => scalars(encode_elements(ElementType::Int16, array)?),
        FieldType::Int32 => scalars(encode_elements(ElementType::Int32, array)?),
        FieldType::Int64 => scalars(encode_elements(ElementType::Int64, array)?),
        FieldType::Float => scalars(encode_elements(ElementType::Float, array)?),
        FieldType::Double => scalars(encode_elements(ElementType::Double, array)?),
        FieldType::VarChar { .. } => scalars(encode_elements(ElementType::VarChar, array)?),
        FieldType::Json => {
            let text = array.as_string_opt::<i32>().ok_or_else(|| other_type(column))?;
            let data = (0..text.len()).map(|row| text.value(row).as_bytes().to_vec()).collect();
            scalars(Scalars::JsonData(JsonArray { data }))
        }
        FieldType::Array { element, .. } => {
            let lists = lists_of(column, array)?;
            let data = (0..lists.len())
                .map(|row| {
                    let data = Some(encode_elements(*element, &lists.value(row))?);
                    Ok(ScalarField { data, valid_data: Vec::new() })
                })
                .collect::<Result<_>>()?;
            let element_type = wire_type(&element_as_field(*element)) as i32;
            scalars(Scalars::ArrayData(ArrayArray { data, element_type }))
        }
        FieldType::FloatVector { dim } => {
            let data = dense::<Float32Type>(column, array)?;
            vectors(i64::from(*dim), Vectors::FloatVector(FloatArray { data }))
        }
        FieldType::BinaryVector { dim } => {
            vectors(i64::from(*dim), Vectors::BinaryVector(dense::<UInt8Type>(column, array)?))
        }
        FieldType::Float16Vector { dim } => {
            vectors(i64::from(*dim), Vectors::Float16Vector(dense::<UInt8Type>(column, array)?))
        }
        FieldType::BFloat16Vector { dim } => {
            vectors(i64::from(*dim), Vectors::Bfloat16Vector(dense::<UInt8Type>(column, array)?))
        }
        FieldType::SparseFloatVector => {
            let text = array.as_string_opt::<i32>().ok_or_else(|| other_type(column))?;
            let contents = (0..text.len())
                .map(|row| sparse::from_json(text.value(row)).map_err(|what| misfit(column, what)))
                .collect::<Result<Vec<_>>>()?;
            let largest = contents
                .iter()
                .filter_map(|c| c.last_chunk::<8>())
                .map(|pair| i64::from(u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]])) + 1);
            let dim = largest.max().unwrap_or(0);
            vectors(dim, Vectors::SparseFloatVector(SparseFloatArray { contents, dim }))
        }
    })
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

/// The flat values of a list column whose lists all have the length of the vector.
fn dense<T: ArrowPrimitiveType>(column: &Column, array: &ArrayRef) -> Result<Vec<T::Native>> {
    let lists = lists_of(column, array)?;
    let length = list_length(&column.kind).ok_or_else(|| other_type(column))?;
    let offsets = lists.value_offsets();
    if let Some(row) = offsets.windows(2).position(|pair| (pair[1] - pair[0]) as usize != length) {
        let found = offsets[row + 1] - offsets[row];
        return Err(misfit(
            column,
            format!("a vector of {found} values instead of {length} in row {row} of a batch"),
        ));
    }
    let values = lists.values().as_primitive_opt::<T>().ok_or_else(|| other_type(column))?;
    if values.null_count() > 0 {
        return Err(misfit(column, "null within a vector"));
    }
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    Ok(values.values()[first..last].to_vec())
}

fn encode_elements(element: ElementType, array: &ArrayRef) -> Result<Scalars> {
    if array.null_count() > 0 {
        return Err(Error::new(crate::error::ErrorKind::Integrity, "null among the elements of an array"));
    }
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
