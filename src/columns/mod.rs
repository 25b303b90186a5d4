//! Field types, Arrow and Milvus messages: one table, both ways.
//!
//! | Milvus | on the wire | in Arrow and Parquet |
//! |---|---|---|
//! | Bool, Int64, Float, Double | one list of that type | Boolean, Int64, Float32, Float64 |
//! | Int8, Int16, Int32 | `int_data` (32 bits) | Int8, Int16, Int32 |
//! | VarChar, Text, Timestamptz | `string_data` | Utf8 |
//! | Geometry | `geometry_wkt_data` | Utf8, WKT |
//! | Mol | `mol_smiles_data` | Utf8, SMILES |
//! | Date, Time | `date_data`, `time_data` | Date32, Int64 |
//! | Decimal | `bytes_data`, 8 bytes little-endian | Int64, unscaled |
//! | UUID | `bytes_data`, 16 bytes | Utf8, hyphenated |
//! | JSON, `$meta` | `json_data`, bytes | Utf8, byte for byte |
//! | Array | `array_data`, one scalar list a row | List of the element type |
//! | FloatVector | `float_vector`, flat | List of Float32 |
//! | BinaryVector, Float16Vector, BFloat16Vector | flat bytes | List of UInt8 |
//! | Int8Vector | flat bytes | List of Int8 |
//! | SparseFloatVector | pairs of u32 and f32, little-endian | Utf8, `{"index":value,...}` |
//! | ArrayOfStruct | one array (of vectors) a sub-field and row | List of Struct |
//!
//! Nulls: replies carry validity inside the scalars or vectors (new) or beside them (old), and the
//! values of null rows are left out (compacted) or filled in (aligned); all four are read. Inserts
//! carry both validities and compacted values. A struct is null as a whole: each of its sub-fields
//! carries the same validity, and the struct none.
//!
//! Owns: that table, and the checks that values fit their declared type. Pure. Does not own:
//! Parquet (`part`), requests (`milvus`), or what happens to a bad value (the stories).
//!
//! Values come from servers and files that may be wrong: a value that does not fit its type is
//! an integrity error that names the field and the row's key; nothing is clipped or repaired.

mod decode;
mod encode;
mod show;
mod sparse;

pub use decode::{decode, decode_counts};
pub use encode::{encode, wire_bytes};
pub use show::{row_json, value_json};
pub use sparse::from_json as sparse_pairs;

use crate::digest::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, ElementType, FieldType, Key};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of list elements, as the Parquet specification has it.
const ELEMENT: &str = "element";

/// The Arrow schema of `columns`, in order, nothing extra. Columns that cannot be null are
/// required.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<_> =
        columns.iter().map(|c| ArrowField::new(&c.name, arrow_type(&c.kind), c.nullable)).collect();
    Arc::new(ArrowSchema::new(fields))
}

fn arrow_type(kind: &FieldType) -> DataType {
    match kind {
        FieldType::Bool => DataType::Boolean,
        FieldType::Int8 => DataType::Int8,
        FieldType::Int16 => DataType::Int16,
        FieldType::Int32 => DataType::Int32,
        FieldType::Int64 => DataType::Int64,
        FieldType::Float => DataType::Float32,
        FieldType::Double => DataType::Float64,
        FieldType::VarChar { .. }
        | FieldType::Json
        | FieldType::SparseFloatVector
        | FieldType::Text
        | FieldType::Geometry
        | FieldType::Timestamptz
        | FieldType::Uuid
        | FieldType::Mol => DataType::Utf8,
        FieldType::Date => DataType::Date32,
        FieldType::Time | FieldType::Decimal => DataType::Int64,
        FieldType::Array { element, element_nullable, .. } => {
            DataType::List(list_field(element_type(*element), *element_nullable))
        }
        FieldType::FloatVector { .. } => DataType::List(list_field(DataType::Float32, false)),
        FieldType::BinaryVector { .. }
        | FieldType::Float16Vector { .. }
        | FieldType::BFloat16Vector { .. } => DataType::List(list_field(DataType::UInt8, false)),
        FieldType::Int8Vector { .. } => DataType::List(list_field(DataType::Int8, false)),
        FieldType::VectorArray { element, .. } => DataType::List(list_field(arrow_type(element), false)),
        FieldType::StructArray { fields } => {
            DataType::List(list_field(DataType::Struct(struct_fields(fields)), false))
        }
    }
}

/// The members of a struct: one element of each sub-field's array.
fn struct_fields(fields: &[crate::schema::Field]) -> Fields {
    let member = |f: &crate::schema::Field| match arrow_type(&f.kind) {
        DataType::List(element) => {
            ArrowField::new(&f.name, element.data_type().clone(), element.is_nullable())
        }
        other => ArrowField::new(&f.name, other, false),
    };
    fields.iter().map(member).collect()
}

fn element_type(element: ElementType) -> DataType {
    match element {
        ElementType::Bool => DataType::Boolean,
        ElementType::Int8 => DataType::Int8,
        ElementType::Int16 => DataType::Int16,
        ElementType::Int32 => DataType::Int32,
        ElementType::Int64 => DataType::Int64,
        ElementType::Float => DataType::Float32,
        ElementType::Double => DataType::Float64,
        ElementType::VarChar => DataType::Utf8,
    }
}

fn list_field(data_type: DataType, nullable: bool) -> Arc<ArrowField> {
    Arc::new(ArrowField::new(ELEMENT, data_type, nullable))
}

/// A guess at the bytes of one row, before any was seen.
pub fn typical_row_bytes(columns: &[Column]) -> usize {
    columns.iter().map(|c| c.kind.typical_bytes()).sum()
}

/// Bytes of one row whose values are as large as servers let them be.
pub fn largest_row_bytes(columns: &[Column]) -> usize {
    columns.iter().map(|c| c.kind.largest_bytes()).sum()
}

/// Adds the nulls of a batch to the counts by column; columns without nulls are left out.
pub fn count_nulls(batch: &RecordBatch, counts: &mut BTreeMap<String, u64>) {
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if array.null_count() > 0 {
            *counts.entry(field.name().clone()).or_default() += array.null_count() as u64;
        }
    }
}

/// The keys of a batch, in row order.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// Int64 keys.
    Int(&'a [i64]),
    /// VarChar keys.
    Text(&'a StringArray),
}

impl<'a> Keys<'a> {
    /// The keys in column `name` of `batch`; a defect if there is no such key column.
    pub fn of(batch: &'a RecordBatch, name: &str) -> Result<Self> {
        let column = batch.column_by_name(name);
        if let Some(ints) = column.and_then(|c| c.as_primitive_opt::<Int64Type>()) {
            return Ok(Keys::Int(ints.values()));
        }
        if let Some(text) = column.and_then(|c| c.as_string_opt::<i32>()) {
            return Ok(Keys::Text(text));
        }
        Err(Error::internal(format!("{name:?} is not a key column")))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Keys::Int(values) => values.len(),
            Keys::Text(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of `row`, which must be below [`Keys::len`].
    pub fn get(&self, row: usize) -> Key {
        match self {
            Keys::Int(values) => Key::Int(values[row]),
            Keys::Text(values) => Key::Text(values.value(row).to_string()),
        }
    }

    /// The last key, if there is one.
    pub fn last(&self) -> Option<Key> {
        self.len().checked_sub(1).map(|row| self.get(row))
    }

    /// The first row whose key is not greater than the one before it (`after` for row 0).
    pub fn first_out_of_order(&self, after: Option<&Key>) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        if after.is_some_and(|after| self.get(0) <= *after) {
            return Some(0);
        }
        let broken = match self {
            Keys::Int(values) => values.windows(2).position(|pair| pair[0] >= pair[1]),
            Keys::Text(values) => {
                (1..values.len()).position(|row| values.value(row - 1) >= values.value(row))
            }
        };
        broken.map(|position| position + 1)
    }

    /// Adds the keys to a running digest: 8 bytes little-endian for Int64; length as 4 bytes
    /// little-endian and the bytes for VarChar.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        match self {
            Keys::Int(values) => values.iter().for_each(|v| hasher.update(&v.to_le_bytes())),
            Keys::Text(values) => (0..values.len()).for_each(|row| {
                let bytes = values.value(row).as_bytes();
                hasher.update(&(bytes.len() as u32).to_le_bytes());
                hasher.update(bytes);
            }),
        }
    }
}

/// A value that does not fit its declared type.
fn misfit(column: &Column, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Integrity, format!("field {:?} ({}): {what}", column.name, column.kind))
}

#[cfg(test)]
pub(crate) mod tests;
