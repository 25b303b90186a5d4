//! Rows for people: JSON values of single rows. Not a conversion that anything is loaded from.

use crate::schema::{Column, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde_json::Value;

/// One row as a JSON object, columns in order. Floats that JSON cannot say become text. JSON
/// columns are shown as the text that they are: parsed, numbers and keys would not be the stored ones.
pub fn row_json(columns: &[Column], batch: &RecordBatch, row: usize) -> Value {
    let show = |(column, array): (&Column, &ArrayRef)| {
        let value = value(array, row);
        let shown = match (&column.kind, &value) {
            (FieldType::SparseFloatVector, Value::String(text)) => {
                serde_json::from_str(text).unwrap_or(value)
            }
            _ => value,
        };
        (column.name.clone(), shown)
    };
    Value::Object(columns.iter().zip(batch.columns()).map(show).collect())
}

/// One value of a column.
pub fn value_json(array: &ArrayRef, row: usize) -> Value {
    value(array, row)
}

fn value(array: &ArrayRef, row: usize) -> Value {
    if row >= array.len() || array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::Float32 => {
            let float = array.as_primitive::<Float32Type>().value(row);
            // By way of the shortest text, so that 0.1 is not shown as 0.10000000149011612.
            format!("{float:?}").parse::<f64>().map_or(Value::Null, float_json)
        }
        DataType::Float64 => float_json(array.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => {
            // Days since 1970-01-01, as in the protocol.
            array.as_primitive::<Date32Type>().value(row).into()
        }
        DataType::Struct(fields) => {
            let structs = array.as_struct();
            let member = |(field, column): (&arrow_schema::FieldRef, &ArrayRef)| {
                (field.name().clone(), value(column, row))
            };
            Value::Object(fields.iter().zip(structs.columns()).map(member).collect())
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            (0..list.len()).map(|element| value(&list, element)).collect()
        }
        other => format!("<{other}>").into(),
    }
}

fn float_json(float: f64) -> Value {
    serde_json::Number::from_f64(float).map_or_else(|| float.to_string().into(), Value::Number)
}
