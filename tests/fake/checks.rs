//! What a proxy holds schemas and rows to before it takes them.

use super::Release;
use super::cell::{
    Cell, Declared, element, is_vector, kind, param, scalars_len, split_scalars, split_vectors, width,
};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::value_field::Data as Value;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    CollectionSchema, DataType, FieldData, FieldSchema, FunctionType, ScalarField, StructArrayFieldSchema,
    VectorField,
};

/// Refuses what a release does not know. Newer types would be read as unknown numbers by it.
pub fn schema(schema: &CollectionSchema, release: Release) -> Result<(), String> {
    let keys: Vec<_> = schema.fields.iter().filter(|f| f.is_primary_key).collect();
    let [key] = keys.as_slice() else { return Err(format!("{} primary keys", keys.len())) };
    if !matches!(kind(key), DataType::Int64 | DataType::VarChar) || key.nullable {
        return Err("the data type of primary key should be Int64 or VarChar, and not null".into());
    }
    for field in &schema.fields {
        self::field(field, release).map_err(|e| format!("field {}: {e}", field.name))?;
    }
    let vectors = schema.fields.iter().filter(|f| is_vector(kind(f))).count();
    if vectors > 1 && release < (2, 4, 0) {
        return Err("multiple vector fields is not supported".into());
    }
    for structs in &schema.struct_array_fields {
        struct_array(structs, release).map_err(|e| format!("struct {}: {e}", structs.name))?;
    }
    for function in &schema.functions {
        let since = match FunctionType::try_from(function.r#type) {
            Ok(FunctionType::Bm25) => (2, 5, 0),
            Ok(FunctionType::TextEmbedding | FunctionType::Rerank | FunctionType::MinHash) => (2, 6, 0),
            Ok(FunctionType::MolFingerprint) => (3, 1, 0),
            _ => return Err(format!("function {}: unknown type", function.name)),
        };
        if release < since {
            return Err(format!("function {}: unknown type", function.name));
        }
        for name in function.input_field_names.iter().chain(&function.output_field_names) {
            if !schema.fields.iter().any(|f| f.name == *name) {
                return Err(format!("function {}: field {name} not found", function.name));
            }
        }
    }
    Ok(())
}

fn field(field: &FieldSchema, release: Release) -> Result<(), String> {
    let kind = kind(field);
    let since = match kind {
        DataType::None | DataType::String | DataType::ArrayOfStruct | DataType::Struct => {
            return Err(format!("type number {} is no type of a field", field.data_type));
        }
        DataType::BFloat16Vector | DataType::SparseFloatVector => (2, 4, 0),
        DataType::Int8Vector | DataType::Geometry | DataType::Timestamptz | DataType::ArrayOfVector => {
            (2, 6, 0)
        }
        DataType::Text => (3, 0, 0),
        DataType::Date | DataType::Time | DataType::Decimal | DataType::Uuid | DataType::Mol => (3, 1, 0),
        _ => (2, 3, 0),
    };
    if release < since {
        return Err(format!("data type {kind:?} is not supported"));
    }
    let need = |key: &str| param(field, key).ok_or_else(|| format!("type param({key}) should be specified"));
    match kind {
        DataType::VarChar => drop(need("max_length")?),
        DataType::Array => {
            need("max_capacity")?;
            if element(field) == DataType::VarChar {
                need("max_length")?;
            }
        }
        DataType::FloatVector
        | DataType::BinaryVector
        | DataType::Float16Vector
        | DataType::BFloat16Vector
        | DataType::Int8Vector
        | DataType::ArrayOfVector => drop(need("dim")?),
        _ => {}
    }
    if field.nullable && release < if is_vector(kind) { (2, 6, 0) } else { (2, 5, 0) } {
        return Err("nullable is not supported".into());
    }
    if field.element_nullable && release < (3, 0, 0) {
        return Err("null elements are not supported".into());
    }
    if field.is_clustering_key && release < (2, 4, 0) {
        return Err("clustering keys are not supported".into());
    }
    if let Some(value) = field.default_value.as_ref().and_then(|v| v.data.as_ref()) {
        let fits = matches!(
            (kind, value),
            (DataType::Bool, Value::BoolData(_))
                | (DataType::Int8 | DataType::Int16 | DataType::Int32, Value::IntData(_))
                | (DataType::Int64, Value::LongData(_))
                | (DataType::Float, Value::FloatData(_))
                | (DataType::Double, Value::DoubleData(_))
                | (
                    DataType::VarChar | DataType::Text | DataType::Timestamptz | DataType::Geometry,
                    Value::StringData(_)
                )
                | (DataType::Json, Value::BytesData(_))
        );
        if !fits {
            return Err(format!("type ({kind:?}) of field mismatches type of its default value ({value:?})"));
        }
    }
    Ok(())
}

fn struct_array(structs: &StructArrayFieldSchema, release: Release) -> Result<(), String> {
    if release < (2, 6, 0) {
        return Err("struct arrays are not supported".into());
    }
    if structs.nullable && release < (3, 0, 0) {
        return Err("nullable struct arrays are not supported".into());
    }
    if structs.fields.is_empty() {
        return Err("no sub-fields".into());
    }
    for sub in &structs.fields {
        if !matches!(kind(sub), DataType::Array | DataType::ArrayOfVector) {
            return Err(format!("sub-field {}: type {:?}", sub.name, kind(sub)));
        }
        if sub.nullable && !structs.nullable {
            return Err(format!("sub-field {} cannot be nullable individually", sub.name));
        }
        if sub.name.contains('[') {
            return Err(format!("sub-field name {} is invalid", sub.name));
        }
        field(&FieldSchema { nullable: false, ..sub.clone() }, release)
            .map_err(|e| format!("sub-field {}: {e}", sub.name))?;
    }
    Ok(())
}

/// The values of an inserted column, one a row; what is null is `None`.
pub fn column(
    declared: &Declared,
    data: FieldData,
    rows: usize,
    release: Release,
) -> Result<Vec<Option<Cell>>, String> {
    match declared {
        Declared::Field(field) => field_column(field, data, rows, release),
        Declared::Struct(structs) => {
            let name = &structs.name;
            let Some(WireField::StructArrays(subs)) = data.field else {
                return Err(format!(
                    "field convert FieldData_StructArrays fail in fieldData, fieldName: {name}"
                ));
            };
            if subs.fields.len() != structs.fields.len() {
                return Err(format!("length of fields of struct field mismatch, fieldName: {name}"));
            }
            // The struct's own validity is not looked at: it is what its sub-fields say.
            let mut members = Vec::new();
            for sub in &structs.fields {
                let column = subs.fields.iter().find(|f| f.field_name == sub.name);
                let column =
                    column.ok_or_else(|| format!("sub-field '{}' not found in struct '{name}'", sub.name))?;
                let sub = FieldSchema { nullable: structs.nullable, ..sub.clone() };
                members.push(field_column(&sub, column.clone(), rows, release)?);
            }
            let row = |row: usize| {
                let cells: Vec<&Option<Cell>> = members.iter().map(|column| &column[row]).collect();
                if cells.iter().all(|cell| cell.is_none()) {
                    return Ok(None);
                }
                let some: Option<Vec<Cell>> = cells.into_iter().cloned().collect();
                let cells = some
                    .ok_or_else(|| format!("sub-field ValidData mismatch in struct '{name}' at row {row}"))?;
                let counts: Vec<_> =
                    cells.iter().zip(&structs.fields).map(|(cell, sub)| elements(cell, sub)).collect();
                if counts.windows(2).any(|pair| pair[0] != pair[1]) {
                    return Err(format!(
                        "inconsistent struct element count in struct '{name}' at row {row}: {counts:?}"
                    ));
                }
                Ok(Some(Cell::Struct(cells)))
            };
            (0..rows).map(row).collect()
        }
    }
}

/// How many elements a sub-field has in a row.
fn elements(cell: &Cell, sub: &FieldSchema) -> usize {
    match cell {
        Cell::Scalar(Scalars::ArrayData(lists)) => list_len(&lists.data[0]),
        Cell::Vector(Vectors::VectorArray(lists)) => {
            let dim = param(sub, "dim").unwrap_or(1);
            let one = lists.data[0].data.clone();
            one.map_or(0, |data| split_vectors(data, width(element(sub), dim)).map_or(0, |all| all.len()))
        }
        other => panic!("{other:?} in a struct"),
    }
}

fn list_len(list: &ScalarField) -> usize {
    match list.valid_data.len() {
        0 => list.data.as_ref().map_or(0, scalars_len),
        valid => valid,
    }
}

fn field_column(
    field: &FieldSchema,
    data: FieldData,
    rows: usize,
    release: Release,
) -> Result<Vec<Option<Cell>>, String> {
    let name = &field.name;
    let (within, values) = match data.field {
        Some(WireField::Scalars(ScalarField { data, valid_data })) => (
            valid_data,
            data.map(split_scalars).map(|all| all.into_iter().map(Cell::Scalar).collect::<Vec<_>>()),
        ),
        Some(WireField::Vectors(VectorField { data, valid_data, .. })) => {
            let width = width(kind(field), param(field, "dim").unwrap_or(0));
            let split = data.map(|data| split_vectors(data, width)).transpose();
            let split = split.map_err(|e| format!("field({name}): {e}"))?;
            (valid_data, split.map(|all| all.into_iter().map(Cell::Vector).collect()))
        }
        Some(WireField::StructArrays(_)) => return Err(format!("field({name}) is no struct array")),
        None => (Vec::new(), None),
    };
    // Before 3.0 nobody knew of validity within the values.
    let within = if release < (3, 0, 0) { Vec::new() } else { within };
    if !within.is_empty() && !data.valid_data.is_empty() && within != data.valid_data {
        return Err(format!("field({name}) has different legacy and field-specific valid_data"));
    }
    let valid = if within.is_empty() { data.valid_data } else { within };
    let wanted = if field.nullable { rows } else { 0 };
    if valid.len() != wanted {
        return Err(format!(
            "the length of valid_data of field({name}) is wrong: {} instead of {wanted}",
            valid.len()
        ));
    }
    let values = values.unwrap_or_default();
    let present = if field.nullable { valid.iter().filter(|valid| **valid).count() } else { rows };
    if values.len() != present {
        return Err(format!(
            "the num_rows ({}) of field ({name}) is not equal to passed num_rows ({present})",
            values.len()
        ));
    }
    for cell in &values {
        value(field, cell).map_err(|e| format!("field({name}): {e}"))?;
        if let (Cell::Scalar(Scalars::JsonData(json)), true) = (cell, release < (2, 4, 0))
            && json.data[0].trim_ascii_start().first() != Some(&b'{')
        {
            return Err(format!(
                "field({name}): cannot unmarshal into Go value of type map[string]interface {{}}"
            ));
        }
    }
    if !field.nullable {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(valid.into_iter().map(|valid| if valid { values.next() } else { None }).collect())
}

/// One value against its declared type.
fn value(field: &FieldSchema, cell: &Cell) -> Result<(), String> {
    match cell {
        Cell::Scalar(Scalars::ArrayData(lists)) if kind(field) == DataType::Array => {
            let list = &lists.data[0];
            let capacity = param(field, "max_capacity").unwrap_or(0);
            if list_len(list) > capacity {
                return Err(format!("array length {} exceeds max capacity {capacity}", list_len(list)));
            }
            if lists.element_type != field.element_type {
                return Err(format!("element type number {} of an array", lists.element_type));
            }
            let present = match (field.element_nullable, list.valid_data.len()) {
                (true, _) => list.valid_data.iter().filter(|valid| **valid).count(),
                (false, 0) => list_len(list),
                (false, _) => return Err("validity of elements that cannot be null".into()),
            };
            let data = list.data.clone().ok_or("nil array data")?;
            let all = split_scalars(data);
            if all.len() != present {
                return Err(format!("{} elements where {present} are not null", all.len()));
            }
            all.iter().try_for_each(|one| scalar(element(field), field, one))
        }
        Cell::Scalar(data) => scalar(kind(field), field, data),
        Cell::Vector(Vectors::VectorArray(lists)) if kind(field) == DataType::ArrayOfVector => {
            let list = lists.data[0].data.clone().ok_or("nil vector array data")?;
            let dim = param(field, "dim").unwrap_or(0);
            let all = split_vectors(list, width(element(field), dim))?;
            let capacity = param(field, "max_capacity").unwrap_or(0);
            if all.len() > capacity {
                return Err(format!("array length {} exceeds max capacity {capacity}", all.len()));
            }
            all.iter().try_for_each(|one| vector(element(field), one))
        }
        Cell::Vector(data) => vector(kind(field), data),
        Cell::Struct(_) => Err("a struct in a struct".into()),
    }
}

fn scalar(kind: DataType, field: &FieldSchema, data: &Scalars) -> Result<(), String> {
    let ok = match (kind, data) {
        (DataType::Bool, Scalars::BoolData(_))
        | (DataType::Int32, Scalars::IntData(_))
        | (DataType::Int64, Scalars::LongData(_))
        | (DataType::Date, Scalars::DateData(_))
        | (DataType::Time, Scalars::TimeData(_))
        | (DataType::Text, Scalars::StringData(_)) => true,
        (DataType::Int8, Scalars::IntData(d)) => i8::try_from(d.data[0]).is_ok(),
        (DataType::Int16, Scalars::IntData(d)) => i16::try_from(d.data[0]).is_ok(),
        (DataType::Float, Scalars::FloatData(d)) => d.data[0].is_finite(),
        (DataType::Double, Scalars::DoubleData(d)) => d.data[0].is_finite(),
        (DataType::VarChar, Scalars::StringData(d)) => {
            let most = param(field, "max_length").unwrap_or(0);
            if d.data[0].len() > most {
                return Err(format!(
                    "length of varchar field exceeds max length, actual {}, max {most}",
                    d.data[0].len()
                ));
            }
            true
        }
        (DataType::Json, Scalars::JsonData(d)) => {
            serde_json::from_slice::<serde::de::IgnoredAny>(&d.data[0]).is_ok()
        }
        (DataType::Geometry, Scalars::GeometryWktData(d)) => {
            d.data[0].ends_with(')') || d.data[0].ends_with("EMPTY")
        }
        (DataType::Mol, Scalars::MolSmilesData(_)) => true,
        (DataType::Timestamptz, Scalars::StringData(d)) => d.data[0].contains('T') && d.data[0].contains(':'),
        (DataType::Decimal, Scalars::BytesData(d)) => d.data[0].len() == 8,
        (DataType::Uuid, Scalars::BytesData(d)) => d.data[0].len() == 16,
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("{data:?} is no value of type {kind:?}")) }
}

fn vector(kind: DataType, data: &Vectors) -> Result<(), String> {
    let ok = match (kind, data) {
        (DataType::FloatVector, Vectors::FloatVector(d)) => d.data.iter().all(|value| value.is_finite()),
        (DataType::BinaryVector, Vectors::BinaryVector(_))
        | (DataType::Float16Vector, Vectors::Float16Vector(_))
        | (DataType::BFloat16Vector, Vectors::Bfloat16Vector(_))
        | (DataType::Int8Vector, Vectors::Int8Vector(_)) => true,
        (DataType::SparseFloatVector, Vectors::SparseFloatVector(d)) => {
            let pairs: Vec<(u32, f32)> = d.contents[0]
                .chunks(8)
                .map(|pair| match pair {
                    [a, b, c, d, e, f, g, h] => {
                        (u32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes([*e, *f, *g, *h]))
                    }
                    _ => (u32::MAX, f32::NAN),
                })
                .collect();
            pairs.windows(2).all(|pair| pair[0].0 < pair[1].0)
                && pairs.iter().all(|(index, value)| *index < u32::MAX && value.is_finite() && *value >= 0.0)
        }
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("{data:?} is no value of type {kind:?}")) }
}

/// `$meta` of a row: an object without the names of declared fields.
pub fn dynamic(schema: &CollectionSchema, cell: &Cell) -> Result<(), String> {
    let Cell::Scalar(Scalars::JsonData(json)) = cell else {
        return Err("the dynamic field is no JSON".into());
    };
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json.data[0])
        .map_err(|e| format!("the dynamic field is no JSON object: {e}"))?;
    match schema.fields.iter().find(|f| object.contains_key(&f.name)) {
        Some(field) => {
            Err(format!("dynamic field name cannot include the static field name: {}", field.name))
        }
        None => Ok(()),
    }
}
