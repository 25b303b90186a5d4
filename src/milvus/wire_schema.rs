//! Schemas as servers spell them: reading a description, and asking for the same collection.

use super::connect::{ServerInfo, ServerKind};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{
    CollectionName, DYNAMIC_COLUMN, DefaultValue, ElementType, Field, FieldType, Function, FunctionKind,
    Schema,
};
use crate::snapshot::CollectionMeta;
use milvus::proto::common::KeyValuePair;
use milvus::proto::milvus as api;
use milvus::proto::schema::value_field::Data as ValueData;
use milvus::proto::schema::{
    CollectionSchema, DataType, FieldSchema, FunctionSchema, FunctionType, StructArrayFieldSchema,
};
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;

/// Something of a collection that cannot be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field or attribute.
    pub subject: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}

/// What becomes of the keys of a collection whose server makes them (auto-id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPolicy {
    /// Keys come with the rows and always did.
    Given,
    /// The target makes keys too, and takes those of the snapshot while it is filled.
    Preserve,
    /// The target makes new keys; those of the snapshot are lost.
    Regenerate,
    /// The target no longer makes keys: the field becomes an ordinary primary key.
    AsField,
}

/// The property by which a server takes keys for a collection that makes its own (2.5.19, 2.6.3).
const TAKES_KEYS: &str = "allow_insert_auto_id";

/// The property by which a server takes given embeddings in the place of calling the model (2.6).
const TAKES_EMBEDDINGS: &str = "collection.function.allowInsertNonBM25FunctionOutputs";

/// The property by which a server makes a collection without trying whether the models of its
/// functions can be reached (2.6.8).
const SKIPS_MODEL_CHECK: &str = "disable_func_runtime_check";

/// The properties that are on while a collection is filled, whatever they were on the source.
/// Afterwards they are what they were.
pub(super) fn properties_of_the_load(
    info: &ServerInfo,
    schema: &Schema,
    keys: KeyPolicy,
) -> Vec<&'static str> {
    let since = |release| info.kind == ServerKind::Milvus && info.release().is_none_or(|r| r >= release);
    let has = |kind| schema.functions.iter().any(|function| function.kind == kind);
    let embeds = has(FunctionKind::TextEmbedding);
    [
        (TAKES_KEYS, keys == KeyPolicy::Preserve),
        (TAKES_EMBEDDINGS, embeds && since((2, 6, 0))),
        (SKIPS_MODEL_CHECK, (embeds || has(FunctionKind::Rerank)) && since((2, 6, 8))),
    ]
    .into_iter()
    .filter_map(|(property, wanted)| wanted.then_some(property))
    .collect()
}

/// Properties of a database that belong to its cluster.
const ENVIRONMENT_DATABASE_PROPERTIES: &[&str] = &["database.replica.number", "database.resource_groups"];

/// Whether a collection property means the same on another cluster.
pub fn is_portable_property(key: &str) -> bool {
    !ENVIRONMENT_PROPERTIES.contains(&key) && !key.starts_with("cipher.")
}

/// Whether a database property means the same on another cluster.
pub fn is_portable_database_property(key: &str) -> bool {
    !ENVIRONMENT_DATABASE_PROPERTIES.contains(&key) && !key.starts_with("cipher.")
}

/// Properties that belong to the cluster they were set on, not to the collection.
const ENVIRONMENT_PROPERTIES: &[&str] = &[
    "collection.replica.number",
    "collection.resource_groups",
    "collection.on.truncating",
    "max_field_id",
    "consistency_level",
    "preserve_field_ids",
];

/// The schema in a description, or everything in it that cannot be copied.
pub(super) fn read(described: &api::DescribeCollectionResponse) -> std::result::Result<Schema, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut refuse =
        |subject: String, reason: &str| refusals.push(Refusal { subject, reason: reason.to_string() });
    let default = CollectionSchema::default();
    let wire = described.schema.as_ref().unwrap_or(&default);
    if !wire.external_source.is_empty() {
        refuse("external collection".into(), "its rows live outside of Milvus");
    }
    if wire.enable_namespace {
        refuse("namespaces".into(), "collections with namespaces are not supported");
    }
    let mut fields = Vec::new();
    for field in wire.fields.iter().filter(|f| !is_hidden(f)) {
        match read_field(field) {
            Ok(field) => fields.push(field),
            Err(reason) => refuse(format!("field {:?}", field.name), &reason),
        }
    }
    for structs in &wire.struct_array_fields {
        match read_structs(structs) {
            Ok(field) => fields.push(field),
            Err(reason) => refuse(format!("field {:?}", structs.name), &reason),
        }
    }
    let mut functions = Vec::new();
    for function in &wire.functions {
        match read_function(function) {
            Ok(function) => functions.push(function),
            Err(reason) => refuse(format!("function {:?}", function.name), &reason),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Schema::new(wire.description.clone(), fields, functions, wire.enable_dynamic_field)
        .map_err(|e| vec![Refusal { subject: "schema".into(), reason: e.to_string() }])
}

/// The schema in an encoded description, such as a manifest keeps.
pub fn read_described(bytes: &[u8]) -> Result<Schema> {
    read(&decode(bytes)?).map_err(|refusals| {
        let list: Vec<_> = refusals.iter().map(Refusal::to_string).collect();
        Error::new(ErrorKind::Unsupported, list.join("; "))
    })
}

fn decode(bytes: &[u8]) -> Result<api::DescribeCollectionResponse> {
    api::DescribeCollectionResponse::decode(bytes).map_err(|e| {
        Error::new(ErrorKind::Integrity, "the source's description of the collection cannot be decoded")
            .because(e)
    })
}

/// `$meta`, RowID and Timestamp: servers hide them, but not all of them always.
fn is_hidden(field: &FieldSchema) -> bool {
    field.is_dynamic
        || field.name == DYNAMIC_COLUMN
        || matches!(field.name.as_str(), "RowID" | "Timestamp" if field.field_id < 100)
}

fn read_field(wire: &FieldSchema) -> std::result::Result<Field, String> {
    let params: BTreeMap<String, String> =
        wire.type_params.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
    let default = wire.default_value.as_ref().and_then(|value| value.data.as_ref());
    Ok(Field {
        name: wire.name.clone(),
        kind: read_type(wire, &params)?,
        description: wire.description.clone(),
        primary_key: wire.is_primary_key,
        auto_id: wire.auto_id,
        partition_key: wire.is_partition_key,
        clustering_key: wire.is_clustering_key,
        nullable: wire.nullable,
        default: default.map(read_default).transpose()?,
        params,
    })
}

fn read_structs(wire: &StructArrayFieldSchema) -> std::result::Result<Field, String> {
    let sub = |field: &FieldSchema| {
        let field = read_field(field).map_err(|reason| format!("sub-field {:?}: {reason}", field.name))?;
        // A struct is null as a whole, and servers say of its sub-fields that they can be, too.
        if (field.nullable && !wire.nullable) || field.primary_key || field.default.is_some() {
            return Err(format!("sub-field {:?} has attributes that are not known", field.name));
        }
        Ok(Field { nullable: false, ..field })
    };
    Ok(Field {
        name: wire.name.clone(),
        kind: FieldType::StructArray {
            fields: wire.fields.iter().map(sub).collect::<std::result::Result<_, _>>()?,
        },
        description: wire.description.clone(),
        primary_key: false,
        auto_id: false,
        partition_key: false,
        clustering_key: false,
        nullable: wire.nullable,
        default: None,
        params: pairs(&wire.type_params),
    })
}

fn pairs(params: &[KeyValuePair]) -> BTreeMap<String, String> {
    params.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect()
}

fn read_default(value: &ValueData) -> std::result::Result<DefaultValue, String> {
    // A manifest's JSON cannot say them, and would not read back.
    let finite = match value {
        ValueData::FloatData(value) => value.is_finite(),
        ValueData::DoubleData(value) => value.is_finite(),
        _ => true,
    };
    if !finite {
        return Err("its default value is not a finite number".into());
    }
    Ok(match value {
        ValueData::BoolData(value) => DefaultValue::Bool(*value),
        ValueData::IntData(value) | ValueData::DateData(value) => DefaultValue::Int(i64::from(*value)),
        ValueData::LongData(value) | ValueData::TimestamptzData(value) | ValueData::TimeData(value) => {
            DefaultValue::Int(*value)
        }
        ValueData::FloatData(value) => DefaultValue::Float(value.to_bits()),
        ValueData::DoubleData(value) => DefaultValue::Double(value.to_bits()),
        ValueData::StringData(value) => DefaultValue::Text(value.clone()),
        ValueData::BytesData(value) => DefaultValue::Bytes(value.clone()),
    })
}

fn read_function(wire: &FunctionSchema) -> std::result::Result<Function, String> {
    let kind = match FunctionType::try_from(wire.r#type) {
        Ok(FunctionType::Bm25) => FunctionKind::Bm25,
        Ok(FunctionType::TextEmbedding) => FunctionKind::TextEmbedding,
        Ok(FunctionType::Rerank) => FunctionKind::Rerank,
        Ok(FunctionType::MinHash) => FunctionKind::MinHash,
        Ok(FunctionType::MolFingerprint) => FunctionKind::MolFingerprint,
        Ok(FunctionType::Unknown) | Err(_) => {
            return Err(format!("its kind, number {}, is not known to this build", wire.r#type));
        }
    };
    Ok(Function {
        name: wire.name.clone(),
        kind,
        description: wire.description.clone(),
        inputs: wire.input_field_names.clone(),
        outputs: wire.output_field_names.clone(),
        params: pairs(&wire.params),
    })
}

fn read_type(
    wire: &FieldSchema,
    params: &BTreeMap<String, String>,
) -> std::result::Result<FieldType, String> {
    let number = |key: &str| -> std::result::Result<u32, String> {
        let text = params.get(key).ok_or_else(|| format!("the server does not say its {key}"))?;
        text.parse().map_err(|_| format!("its {key} {text:?} is not a number"))
    };
    let dense = |number_of: i32| read_dense(number_of, number("dim")?);
    Ok(match DataType::try_from(wire.data_type) {
        Ok(DataType::Bool) => FieldType::Bool,
        Ok(DataType::Int8) => FieldType::Int8,
        Ok(DataType::Int16) => FieldType::Int16,
        Ok(DataType::Int32) => FieldType::Int32,
        Ok(DataType::Int64) => FieldType::Int64,
        Ok(DataType::Float) => FieldType::Float,
        Ok(DataType::Double) => FieldType::Double,
        Ok(DataType::VarChar) => FieldType::VarChar { max_length: number("max_length")? },
        Ok(DataType::Json) => FieldType::Json,
        Ok(DataType::Array) => FieldType::Array {
            element: read_element(wire.element_type)?,
            element_nullable: wire.element_nullable,
            max_capacity: number("max_capacity")?,
        },
        Ok(DataType::Text) => FieldType::Text,
        Ok(DataType::Geometry) => FieldType::Geometry,
        Ok(DataType::Timestamptz) => FieldType::Timestamptz,
        Ok(DataType::Date) => FieldType::Date,
        Ok(DataType::Time) => FieldType::Time,
        Ok(DataType::Decimal) => FieldType::Decimal,
        Ok(DataType::Uuid) => FieldType::Uuid,
        Ok(DataType::Mol) => FieldType::Mol,
        Ok(DataType::SparseFloatVector) => FieldType::SparseFloatVector,
        Ok(DataType::ArrayOfVector) if wire.element_nullable => {
            return Err("vectors that may be null within a list are not supported".into());
        }
        Ok(DataType::ArrayOfVector) => FieldType::VectorArray {
            element: Box::new(dense(wire.element_type)?),
            max_capacity: number("max_capacity")?,
        },
        Ok(
            DataType::FloatVector
            | DataType::BinaryVector
            | DataType::Float16Vector
            | DataType::BFloat16Vector
            | DataType::Int8Vector,
        ) => dense(wire.data_type)?,
        Ok(other) => return Err(format!("type {} is not supported", other.as_str_name())),
        Err(_) => return Err(format!("type number {} is not known to this build", wire.data_type)),
    })
}

fn read_dense(number: i32, dim: u32) -> std::result::Result<FieldType, String> {
    Ok(match DataType::try_from(number) {
        Ok(DataType::FloatVector) => FieldType::FloatVector { dim },
        Ok(DataType::BinaryVector) => FieldType::BinaryVector { dim },
        Ok(DataType::Float16Vector) => FieldType::Float16Vector { dim },
        Ok(DataType::BFloat16Vector) => FieldType::BFloat16Vector { dim },
        Ok(DataType::Int8Vector) => FieldType::Int8Vector { dim },
        _ => return Err(format!("vectors of type number {number} are not known to this build")),
    })
}

fn read_element(number: i32) -> std::result::Result<ElementType, String> {
    Ok(match DataType::try_from(number) {
        Ok(DataType::Bool) => ElementType::Bool,
        Ok(DataType::Int8) => ElementType::Int8,
        Ok(DataType::Int16) => ElementType::Int16,
        Ok(DataType::Int32) => ElementType::Int32,
        Ok(DataType::Int64) => ElementType::Int64,
        Ok(DataType::Float) => ElementType::Float,
        Ok(DataType::Double) => ElementType::Double,
        Ok(DataType::VarChar) => ElementType::VarChar,
        Ok(other) => {
            return Err(format!("array elements of type {} are not supported", other.as_str_name()));
        }
        Err(_) => return Err(format!("array elements of type number {number} are not known to this build")),
    })
}

/// Asks for a collection like the described one under the name `target`. Ids and states are the
/// server's to assign; everything else is passed on as the source said it. The properties in
/// `on` are on, whatever the source had.
pub(super) fn create_request(
    target: &CollectionName,
    meta: &CollectionMeta,
    keys: KeyPolicy,
    on: &[&str],
) -> Result<api::CreateCollectionRequest> {
    let described = decode(&meta.described)?;
    let consistency_level = described.consistency_level;
    let source = described.schema.unwrap_or_default();
    let fields = source.fields.iter().filter(|f| !is_hidden(f)).map(create_field);
    let fields =
        fields.map(|f| FieldSchema { auto_id: f.auto_id && keys != KeyPolicy::AsField, ..f }).collect();
    let structs = source.struct_array_fields.iter().map(|s| StructArrayFieldSchema {
        field_id: 0,
        fields: s.fields.iter().map(create_field).collect(),
        ..s.clone()
    });
    let functions = source.functions.iter().map(|f| FunctionSchema {
        id: 0,
        input_field_ids: Vec::new(),
        output_field_ids: Vec::new(),
        ..f.clone()
    });
    let mut properties: Vec<_> =
        described.properties.into_iter().filter(|kv| is_portable_property(&kv.key)).collect();
    properties.retain(|kv| !on.contains(&kv.key.as_str()));
    properties.extend(on.iter().map(|key| KeyValuePair { key: key.to_string(), value: "true".to_string() }));
    let schema = CollectionSchema {
        name: target.name.clone(),
        description: source.description.clone(),
        fields,
        struct_array_fields: structs.collect(),
        functions: functions.collect(),
        enable_dynamic_field: source.enable_dynamic_field,
        ..Default::default()
    };
    // Describing tells the number of partitions of every collection; asking for a number is only
    // allowed with a partition key.
    let num_partitions = if meta.schema.has_partition_key() { described.num_partitions } else { 0 };
    Ok(api::CreateCollectionRequest {
        db_name: target.database.clone(),
        collection_name: target.name.clone(),
        schema: schema.encode_to_vec(),
        shards_num: meta.shards,
        consistency_level,
        properties,
        num_partitions,
        ..Default::default()
    })
}

/// A field without what the server assigns by itself.
fn create_field(source: &FieldSchema) -> FieldSchema {
    FieldSchema { field_id: 0, state: 0, index_params: Vec::new(), ..source.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus::proto::schema::ValueField;

    fn pair(key: &str, value: &str) -> KeyValuePair {
        KeyValuePair { key: key.into(), value: value.into() }
    }

    fn id() -> FieldSchema {
        FieldSchema {
            field_id: 100,
            name: "id".into(),
            data_type: DataType::Int64 as i32,
            is_primary_key: true,
            ..Default::default()
        }
    }

    fn described(fields: Vec<FieldSchema>) -> api::DescribeCollectionResponse {
        let schema = CollectionSchema { name: "source".into(), fields, ..Default::default() };
        api::DescribeCollectionResponse { schema: Some(schema), ..Default::default() }
    }

    /// A field of the given type with every parameter that any type needs.
    fn field(number: i32) -> FieldSchema {
        FieldSchema {
            field_id: 101,
            name: "x".into(),
            data_type: number,
            element_type: DataType::Int8 as i32,
            type_params: vec![pair("dim", "8"), pair("max_length", "9"), pair("max_capacity", "4")],
            ..Default::default()
        }
    }

    /// A type that is not known is refused by name, never skipped: all its values would be lost.
    #[test]
    fn every_type_is_read_or_refused_by_name() {
        let mut known = 0;
        for number in (-1..=300).chain([i32::MAX, i32::MIN]) {
            match read(&described(vec![id(), field(number)])) {
                Ok(schema) => {
                    assert_eq!(schema.fields.len(), 2);
                    known += 1;
                }
                Err(refusals) => {
                    assert_eq!((refusals.len(), refusals[0].subject.as_str()), (1, "field \"x\""));
                    let name = DataType::try_from(number).map(|known| known.as_str_name().to_string());
                    let name = name.unwrap_or(number.to_string());
                    // Of arrays of vectors it is the element that is wrong here.
                    let element = DataType::Int8 as i32;
                    let reason = &refusals[0].reason;
                    assert!(
                        reason.contains(&name) || reason.contains(&format!("number {element}")),
                        "{reason}"
                    );
                }
            }
        }
        assert_eq!(known, 24, "a type was added or lost: add it to this test and to docs/types.md");
        let gone = read(&described(vec![id(), field(9_999), field(8_888)])).unwrap_err();
        assert_eq!(gone.len(), 2, "all of them at once");
    }

    #[test]
    fn what_is_missing_or_wrong_about_a_type_is_refused() {
        for (number, params, reason) in [
            (DataType::FloatVector, vec![], "the server does not say its dim"),
            (DataType::VarChar, vec![pair("max_length", "many")], "its max_length \"many\" is not a number"),
            (DataType::Array, vec![pair("max_capacity", "-1")], "its max_capacity \"-1\" is not a number"),
        ] {
            let field = FieldSchema { type_params: params, ..field(number as i32) };
            let refusals = read(&described(vec![id(), field])).unwrap_err();
            assert_eq!(refusals[0].to_string(), format!("field \"x\": {reason}"));
        }
        for value in [
            ValueData::FloatData(f32::NAN),
            ValueData::FloatData(f32::INFINITY),
            ValueData::DoubleData(f64::NEG_INFINITY),
        ] {
            let default_value = Some(ValueField { data: Some(value) });
            let field = FieldSchema { default_value, ..field(DataType::Double as i32) };
            let refusals = read(&described(vec![id(), field])).unwrap_err();
            assert_eq!(refusals[0].to_string(), "field \"x\": its default value is not a finite number");
        }
    }

    /// The schema that a target is asked for is the one that the source described.
    #[test]
    fn the_schema_reaches_the_target_unchanged() {
        let mut partition_key = field(DataType::VarChar as i32);
        partition_key.is_partition_key = true;
        partition_key.description = "who".into();
        partition_key.type_params.push(pair("mmap.enabled", "true"));
        let mut nullable = FieldSchema { name: "y".into(), nullable: true, ..field(DataType::Int16 as i32) };
        nullable.default_value = Some(ValueField { data: Some(ValueData::IntData(-5)) });
        let mut hidden = FieldSchema { name: "$meta".into(), ..field(DataType::Json as i32) };
        hidden.is_dynamic = true;
        let mut source = described(vec![id(), partition_key, nullable, hidden]);
        source.consistency_level = 3;
        source.num_partitions = 64;
        source.properties =
            vec![pair("collection.ttl.seconds", "60"), pair("collection.replica.number", "3")];
        let wire = source.schema.as_mut().unwrap();
        wire.enable_dynamic_field = true;
        wire.description = "all of it".into();
        let schema = read(&source).unwrap();
        let meta = CollectionMeta {
            name: CollectionName::new("a", "source"),
            described: source.encode_to_vec(),
            schema: schema.clone(),
            collection_id: 1,
            shards: 2,
            partitions: Vec::new(),
            indexes: Vec::new(),
            aliases: Vec::new(),
            properties: BTreeMap::new(),
            pin: None,
        };
        assert_eq!(read_described(&meta.described).unwrap(), schema);

        let request =
            create_request(&CollectionName::new("b", "target"), &meta, KeyPolicy::AsField, &[]).unwrap();
        let asked = CollectionSchema::decode(request.schema.as_slice()).unwrap();
        assert_eq!((request.db_name.as_str(), asked.name.as_str()), ("b", "target"));
        assert_eq!((request.shards_num, request.consistency_level, request.num_partitions), (2, 3, 64));
        assert_eq!(request.properties, [pair("collection.ttl.seconds", "60")]);
        assert!(asked.fields.iter().all(|field| field.field_id == 0), "ids are the server's to give");
        assert_eq!(asked.fields.len(), 3, "the server makes $meta by itself");
        let arrived = api::DescribeCollectionResponse { schema: Some(asked), ..Default::default() };
        assert_eq!(read(&arrived).unwrap(), schema);
    }
}
