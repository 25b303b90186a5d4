//! The documents as they stand on disk, version 1: private structs that convert to and from the
//! checked types of this module. Field names here are the format; see `docs/format.md`.

use super::commit::{self, ObjectRef as DomainRef};
use super::manifest as domain;
use super::plan as planned;
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::schema::{self, CollectionName, ElementType, FieldType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What every document calls itself.
const FORMAT: &str = "milvus-handoff-snapshot";

pub(super) fn to_bytes<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(document)
        .map_err(|e| Error::internal("a snapshot document cannot be written").because(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(ErrorKind::Integrity, format!("{name} is not what it should be"))
            .because(e)
            .hint("the object was altered or damaged; get the snapshot again from the exporter")
    })
}

/// Reads only the two fields that every version has, so that a newer version is refused as such
/// and not as a damaged document.
pub(super) fn check_version(name: &str, bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let head: Head = parse(name, bytes)?;
    if head.format != FORMAT {
        let what = format!("{name} is not part of a milvus-handoff snapshot");
        return Err(Error::new(ErrorKind::Integrity, what));
    }
    planned::version_is_known(head.version, name)
}

#[derive(Serialize, Deserialize)]
pub(super) struct Commit {
    format: String,
    version: u32,
    features: Vec<String>,
    id: String,
    manifest: ObjectRef,
    sums: ObjectRef,
    totals: Totals,
}

#[derive(Serialize, Deserialize)]
struct ObjectRef {
    key: String,
    size: u64,
    sha256: Sha256,
}

#[derive(Serialize, Deserialize)]
struct Totals {
    collections: u64,
    parts: u64,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    format: String,
    version: u32,
    id: String,
    created: String,
    tool: String,
    source: SourceInfo,
    request: Request,
    databases: Vec<Database>,
    collections: Vec<Collection>,
    units: Vec<Unit>,
}

#[derive(Serialize, Deserialize)]
struct Database {
    name: String,
    properties: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct SourceInfo {
    kind: String,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct Request {
    include: Vec<String>,
    exclude: Vec<String>,
    part_size: u64,
    allow_writes: bool,
}

#[derive(Serialize, Deserialize)]
struct Unit {
    id: String,
    collection: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_to: Option<Key>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Receipt {
    format: String,
    version: u32,
    plan_id: String,
    unit: String,
    rows: u64,
    keys_sha256: Sha256,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    id: String,
    created: String,
    tool: String,
    source: SourceInfo,
    bucket_limits: Vec<String>,
    databases: Vec<Database>,
    collections: Vec<CollectionResult>,
    bookkeeping: Vec<ObjectRef>,
}

#[derive(Serialize, Deserialize)]
struct CollectionResult {
    collection: Collection,
    consistency: Consistency,
    rows: u64,
    server_count: u64,
    shared_keys: u64,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Consistency {
    Pinned { timestamp: u64 },
    Checked,
    Unchecked,
}

#[derive(Serialize, Deserialize)]
struct Collection {
    database: String,
    name: String,
    schema: Schema,
    shards: i32,
    partitions: Vec<String>,
    indexes: Vec<Index>,
    aliases: Vec<String>,
    properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<u64>,
    source_collection_id: i64,
    /// base64 of `milvus.proto.milvus.DescribeCollectionResponse` as received.
    describe_collection_response: String,
}

#[derive(Serialize, Deserialize)]
struct Index {
    field: String,
    name: String,
    params: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Schema {
    description: String,
    dynamic: bool,
    fields: Vec<Field>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    functions: Vec<Function>,
}

#[derive(Serialize, Deserialize)]
struct Function {
    name: String,
    kind: String,
    description: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    params: BTreeMap<String, String>,
}

/// `{"int": 7}`, `{"text": "a"}`, ...; floats as numbers that read back to the same bits.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DefaultValue {
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Text(String),
    /// base64.
    Bytes(String),
}

#[derive(Serialize, Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    element_type: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    element_nullable: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dim: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_capacity: Option<u32>,
    description: String,
    primary_key: bool,
    auto_id: bool,
    partition_key: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clustering_key: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nullable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<DefaultValue>,
    params: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    size: u64,
    sha256: Sha256,
    rows: u64,
    first_key: Key,
    last_key: Key,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nulls: BTreeMap<String, u64>,
}

/// `{"int": 7}` or `{"text": "a"}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Int(i64),
    Text(String),
}

// ---- commit ----

impl From<&DomainRef> for ObjectRef {
    fn from(object: &DomainRef) -> Self {
        ObjectRef { key: object.key.clone(), size: object.size, sha256: object.sha256 }
    }
}

impl From<ObjectRef> for DomainRef {
    fn from(object: ObjectRef) -> Self {
        DomainRef { key: object.key, size: object.size, sha256: object.sha256 }
    }
}

impl From<&commit::Commit> for Commit {
    fn from(commit: &commit::Commit) -> Self {
        let commit::Totals { collections, parts, rows, bytes } = commit.totals;
        Commit {
            format: FORMAT.to_string(),
            version: super::FORMAT_VERSION,
            features: commit.features.clone(),
            id: commit.id.clone(),
            manifest: (&commit.manifest).into(),
            sums: (&commit.sums).into(),
            totals: Totals { collections, parts, rows, bytes },
        }
    }
}

impl From<Commit> for commit::Commit {
    fn from(wire: Commit) -> Self {
        let Totals { collections, parts, rows, bytes } = wire.totals;
        commit::Commit {
            id: wire.id,
            features: wire.features,
            manifest: wire.manifest.into(),
            sums: wire.sums.into(),
            totals: commit::Totals { collections, parts, rows, bytes },
        }
    }
}

// ---- plan ----

impl From<&planned::Plan> for Plan {
    fn from(plan: &planned::Plan) -> Self {
        Plan {
            format: FORMAT.to_string(),
            version: super::FORMAT_VERSION,
            id: plan.id.clone(),
            created: plan.created.clone(),
            tool: plan.tool.clone(),
            source: (&plan.source).into(),
            request: Request {
                include: plan.request.include.clone(),
                exclude: plan.request.exclude.clone(),
                part_size: plan.request.part_size,
                allow_writes: plan.request.allow_writes,
            },
            databases: plan.databases.iter().map(Database::from).collect(),
            collections: plan.collections.iter().map(Collection::from).collect(),
            units: plan.units.iter().map(Unit::from).collect(),
        }
    }
}

impl TryFrom<Plan> for planned::Plan {
    type Error = Error;

    fn try_from(wire: Plan) -> Result<Self> {
        Ok(planned::Plan {
            id: wire.id,
            created: wire.created,
            tool: wire.tool,
            source: wire.source.into(),
            request: planned::Request {
                include: wire.request.include,
                exclude: wire.request.exclude,
                part_size: wire.request.part_size,
                allow_writes: wire.request.allow_writes,
            },
            databases: wire.databases.into_iter().map(planned::Database::from).collect(),
            collections: wire.collections.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
            units: wire.units.into_iter().map(planned::Unit::from).collect(),
        })
    }
}

impl From<&planned::Database> for Database {
    fn from(database: &planned::Database) -> Self {
        Database { name: database.name.clone(), properties: database.properties.clone() }
    }
}

impl From<Database> for planned::Database {
    fn from(wire: Database) -> Self {
        planned::Database { name: wire.name, properties: wire.properties }
    }
}

impl From<&planned::SourceInfo> for SourceInfo {
    fn from(source: &planned::SourceInfo) -> Self {
        SourceInfo { kind: source.kind.clone(), version: source.version.clone() }
    }
}

impl From<SourceInfo> for planned::SourceInfo {
    fn from(wire: SourceInfo) -> Self {
        planned::SourceInfo { kind: wire.kind, version: wire.version }
    }
}

impl From<&planned::Unit> for Unit {
    fn from(unit: &planned::Unit) -> Self {
        Unit {
            id: unit.id.clone(),
            collection: unit.collection,
            partition: unit.partition.clone(),
            after: unit.after.as_ref().map(Key::from),
            up_to: unit.up_to.as_ref().map(Key::from),
        }
    }
}

impl From<Unit> for planned::Unit {
    fn from(wire: Unit) -> Self {
        planned::Unit {
            id: wire.id,
            collection: wire.collection,
            partition: wire.partition,
            after: wire.after.map(schema::Key::from),
            up_to: wire.up_to.map(schema::Key::from),
        }
    }
}

impl From<&planned::CollectionMeta> for Collection {
    fn from(meta: &planned::CollectionMeta) -> Self {
        Collection {
            database: meta.name.database.clone(),
            name: meta.name.name.clone(),
            schema: (&meta.schema).into(),
            shards: meta.shards,
            partitions: meta.partitions.clone(),
            indexes: meta
                .indexes
                .iter()
                .map(|i| Index { field: i.field.clone(), name: i.name.clone(), params: i.params.clone() })
                .collect(),
            aliases: meta.aliases.clone(),
            properties: meta.properties.clone(),
            pin: meta.pin,
            source_collection_id: meta.collection_id,
            describe_collection_response: BASE64.encode(&meta.described),
        }
    }
}

impl TryFrom<Collection> for planned::CollectionMeta {
    type Error = Error;

    fn try_from(wire: Collection) -> Result<Self> {
        let name = CollectionName::new(wire.database, wire.name);
        let described = BASE64.decode(&wire.describe_collection_response).map_err(|e| {
            Error::new(ErrorKind::Integrity, format!("{name}: the server's description is not base64"))
                .because(e)
        })?;
        let schema = schema::Schema::try_from(wire.schema).map_err(|e| e.context(name.to_string()))?;
        Ok(planned::CollectionMeta {
            name,
            schema,
            described,
            collection_id: wire.source_collection_id,
            shards: wire.shards,
            partitions: wire.partitions,
            indexes: wire
                .indexes
                .into_iter()
                .map(|i| planned::Index { field: i.field, name: i.name, params: i.params })
                .collect(),
            aliases: wire.aliases,
            properties: wire.properties,
            pin: wire.pin,
        })
    }
}

// ---- receipt and manifest ----

impl From<&planned::Receipt> for Receipt {
    fn from(receipt: &planned::Receipt) -> Self {
        Receipt {
            format: FORMAT.to_string(),
            version: super::FORMAT_VERSION,
            plan_id: receipt.plan_id.clone(),
            unit: receipt.unit.clone(),
            rows: receipt.rows,
            keys_sha256: receipt.keys_sha256,
            parts: receipt.parts.iter().map(Part::from).collect(),
        }
    }
}

impl TryFrom<Receipt> for planned::Receipt {
    type Error = Error;

    fn try_from(wire: Receipt) -> Result<Self> {
        Ok(planned::Receipt {
            plan_id: wire.plan_id,
            unit: wire.unit,
            rows: wire.rows,
            keys_sha256: wire.keys_sha256,
            parts: wire.parts.into_iter().map(domain::Part::from).collect(),
        })
    }
}

impl From<&domain::Part> for Part {
    fn from(part: &domain::Part) -> Self {
        Part {
            key: part.key.clone(),
            partition: part.partition.clone(),
            size: part.size,
            sha256: part.sha256,
            rows: part.rows,
            first_key: (&part.first).into(),
            last_key: (&part.last).into(),
            nulls: part.nulls.clone(),
        }
    }
}

impl From<Part> for domain::Part {
    fn from(wire: Part) -> Self {
        domain::Part {
            key: wire.key,
            partition: wire.partition,
            size: wire.size,
            sha256: wire.sha256,
            rows: wire.rows,
            first: wire.first_key.into(),
            last: wire.last_key.into(),
            nulls: wire.nulls,
        }
    }
}

impl From<&domain::Manifest> for Manifest {
    fn from(manifest: &domain::Manifest) -> Self {
        Manifest {
            format: FORMAT.to_string(),
            version: super::FORMAT_VERSION,
            id: manifest.id.clone(),
            created: manifest.created.clone(),
            tool: manifest.tool.clone(),
            source: (&manifest.source).into(),
            bucket_limits: manifest.bucket_limits.clone(),
            databases: manifest.databases.iter().map(Database::from).collect(),
            collections: manifest.collections.iter().map(CollectionResult::from).collect(),
            bookkeeping: manifest.bookkeeping.iter().map(ObjectRef::from).collect(),
        }
    }
}

impl TryFrom<Manifest> for domain::Manifest {
    type Error = Error;

    fn try_from(wire: Manifest) -> Result<Self> {
        Ok(domain::Manifest {
            id: wire.id,
            created: wire.created,
            tool: wire.tool,
            source: wire.source.into(),
            bucket_limits: wire.bucket_limits,
            bookkeeping: wire.bookkeeping.into_iter().map(DomainRef::from).collect(),
            databases: wire.databases.into_iter().map(planned::Database::from).collect(),
            collections: wire.collections.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
        })
    }
}

impl From<&domain::CollectionResult> for CollectionResult {
    fn from(result: &domain::CollectionResult) -> Self {
        CollectionResult {
            collection: (&result.meta).into(),
            consistency: match result.consistency {
                domain::Consistency::Pinned(timestamp) => Consistency::Pinned { timestamp },
                domain::Consistency::Checked => Consistency::Checked,
                domain::Consistency::Unchecked => Consistency::Unchecked,
            },
            rows: result.rows(),
            server_count: result.counts.server,
            shared_keys: result.counts.shared_keys,
            parts: result.parts.iter().map(Part::from).collect(),
        }
    }
}

impl TryFrom<CollectionResult> for domain::CollectionResult {
    type Error = Error;

    fn try_from(wire: CollectionResult) -> Result<Self> {
        let result = domain::CollectionResult {
            meta: wire.collection.try_into()?,
            consistency: match wire.consistency {
                Consistency::Pinned { timestamp } => domain::Consistency::Pinned(timestamp),
                Consistency::Checked => domain::Consistency::Checked,
                Consistency::Unchecked => domain::Consistency::Unchecked,
            },
            counts: domain::Counts { server: wire.server_count, shared_keys: wire.shared_keys },
            parts: wire.parts.into_iter().map(domain::Part::from).collect(),
        };
        let sum = result.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.rows));
        if sum != Some(wire.rows) {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: the manifest says {} rows, its parts do not add up to that",
                    result.meta.name, wire.rows
                ),
            ));
        }
        Ok(result)
    }
}

impl From<&schema::Key> for Key {
    fn from(key: &schema::Key) -> Self {
        match key {
            schema::Key::Int(value) => Key::Int(*value),
            schema::Key::Text(value) => Key::Text(value.clone()),
        }
    }
}

impl From<Key> for schema::Key {
    fn from(wire: Key) -> Self {
        match wire {
            Key::Int(value) => schema::Key::Int(value),
            Key::Text(value) => schema::Key::Text(value),
        }
    }
}

// ---- schema ----

impl From<&schema::Schema> for Schema {
    fn from(schema: &schema::Schema) -> Self {
        Schema {
            description: schema.description.clone(),
            dynamic: schema.dynamic,
            fields: schema.fields.iter().map(Field::from).collect(),
            functions: schema.functions.iter().map(Function::from).collect(),
        }
    }
}

impl TryFrom<Schema> for schema::Schema {
    type Error = Error;

    fn try_from(wire: Schema) -> Result<Self> {
        let fields = wire.fields.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        let functions = wire.functions.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        schema::Schema::new(wire.description, fields, functions, wire.dynamic)
    }
}

impl From<&schema::Function> for Function {
    fn from(function: &schema::Function) -> Self {
        Function {
            name: function.name.clone(),
            kind: function.kind.name().to_string(),
            description: function.description.clone(),
            inputs: function.inputs.clone(),
            outputs: function.outputs.clone(),
            params: function.params.clone(),
        }
    }
}

impl TryFrom<Function> for schema::Function {
    type Error = Error;

    fn try_from(wire: Function) -> Result<Self> {
        let kind =
            schema::FunctionKind::ALL.into_iter().find(|k| k.name() == wire.kind).ok_or_else(|| {
                Error::new(Code::Format, format!("function kind {:?} is not known to this build", wire.kind))
            })?;
        Ok(schema::Function {
            name: wire.name,
            kind,
            description: wire.description,
            inputs: wire.inputs,
            outputs: wire.outputs,
            params: wire.params,
        })
    }
}

impl From<&schema::DefaultValue> for DefaultValue {
    fn from(value: &schema::DefaultValue) -> Self {
        match value {
            schema::DefaultValue::Bool(value) => DefaultValue::Bool(*value),
            schema::DefaultValue::Int(value) => DefaultValue::Int(*value),
            schema::DefaultValue::Float(bits) => DefaultValue::Float(f32::from_bits(*bits)),
            schema::DefaultValue::Double(bits) => DefaultValue::Double(f64::from_bits(*bits)),
            schema::DefaultValue::Text(value) => DefaultValue::Text(value.clone()),
            schema::DefaultValue::Bytes(value) => DefaultValue::Bytes(BASE64.encode(value)),
        }
    }
}

impl TryFrom<DefaultValue> for schema::DefaultValue {
    type Error = Error;

    fn try_from(wire: DefaultValue) -> Result<Self> {
        Ok(match wire {
            DefaultValue::Bool(value) => schema::DefaultValue::Bool(value),
            DefaultValue::Int(value) => schema::DefaultValue::Int(value),
            DefaultValue::Float(value) => schema::DefaultValue::Float(value.to_bits()),
            DefaultValue::Double(value) => schema::DefaultValue::Double(value.to_bits()),
            DefaultValue::Text(value) => schema::DefaultValue::Text(value),
            DefaultValue::Bytes(text) => {
                schema::DefaultValue::Bytes(BASE64.decode(&text).map_err(|e| {
                    Error::new(ErrorKind::Integrity, "a default value is not base64").because(e)
                })?)
            }
        })
    }
}

impl From<&schema::Field> for Field {
    fn from(field: &schema::Field) -> Self {
        let (mut element_type, mut max_length, mut max_capacity) = (None, None, None);
        let (mut element_nullable, mut dim, mut fields) = (false, field.kind.dim(), Vec::new());
        match &field.kind {
            FieldType::VarChar { max_length: bytes } => max_length = Some(*bytes),
            FieldType::Array { element, element_nullable: nullable, max_capacity: elements } => {
                element_type = Some(element.name().to_string());
                element_nullable = *nullable;
                max_capacity = Some(*elements);
            }
            FieldType::VectorArray { element, max_capacity: elements } => {
                element_type = Some(element.name().to_string());
                dim = element.dim();
                max_capacity = Some(*elements);
            }
            FieldType::StructArray { fields: inner } => fields = inner.iter().map(Field::from).collect(),
            _ => {}
        }
        Field {
            name: field.name.clone(),
            kind: field.kind.name().to_string(),
            element_type,
            element_nullable,
            fields,
            dim,
            max_length,
            max_capacity,
            description: field.description.clone(),
            primary_key: field.primary_key,
            auto_id: field.auto_id,
            partition_key: field.partition_key,
            clustering_key: field.clustering_key,
            nullable: field.nullable,
            default: field.default.as_ref().map(DefaultValue::from),
            params: field.params.clone(),
        }
    }
}

impl TryFrom<Field> for schema::Field {
    type Error = Error;

    fn try_from(mut wire: Field) -> Result<Self> {
        let kind = field_type(&mut wire).map_err(|e| e.context(format!("field {:?}", wire.name)))?;
        Ok(schema::Field {
            name: wire.name,
            kind,
            description: wire.description,
            primary_key: wire.primary_key,
            auto_id: wire.auto_id,
            partition_key: wire.partition_key,
            clustering_key: wire.clustering_key,
            nullable: wire.nullable,
            default: wire.default.map(TryInto::try_into).transpose()?,
            params: wire.params,
        })
    }
}

fn field_type(wire: &mut Field) -> Result<FieldType> {
    let fields = std::mem::take(&mut wire.fields);
    let wire = &*wire;
    let need = |value: Option<u32>, what: &str| {
        value.ok_or_else(|| Error::new(ErrorKind::Integrity, format!("type {} needs {what}", wire.kind)))
    };
    Ok(match wire.kind.as_str() {
        "Bool" => FieldType::Bool,
        "Int8" => FieldType::Int8,
        "Int16" => FieldType::Int16,
        "Int32" => FieldType::Int32,
        "Int64" => FieldType::Int64,
        "Float" => FieldType::Float,
        "Double" => FieldType::Double,
        "VarChar" => FieldType::VarChar { max_length: need(wire.max_length, "max_length")? },
        "JSON" => FieldType::Json,
        "Array" => {
            let name = wire.element_type.as_deref().unwrap_or_default();
            let element = ElementType::ALL.into_iter().find(|e| e.name() == name).ok_or_else(|| {
                Error::new(Code::Format, format!("array elements of type {name:?} are not known"))
            })?;
            FieldType::Array {
                element,
                element_nullable: wire.element_nullable,
                max_capacity: need(wire.max_capacity, "max_capacity")?,
            }
        }
        "SparseFloatVector" => FieldType::SparseFloatVector,
        "Text" => FieldType::Text,
        "Geometry" => FieldType::Geometry,
        "Timestamptz" => FieldType::Timestamptz,
        "Date" => FieldType::Date,
        "Time" => FieldType::Time,
        "Decimal" => FieldType::Decimal,
        "UUID" => FieldType::Uuid,
        "Mol" => FieldType::Mol,
        "ArrayOfVector" => FieldType::VectorArray {
            element: Box::new(dense_vector(
                wire.element_type.as_deref().unwrap_or_default(),
                need(wire.dim, "dim")?,
            )?),
            max_capacity: need(wire.max_capacity, "max_capacity")?,
        },
        "ArrayOfStruct" => FieldType::StructArray {
            fields: fields.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
        },
        dense => dense_vector(dense, wire.dim.unwrap_or_default())?,
    })
}

fn dense_vector(name: &str, dim: u32) -> Result<FieldType> {
    Ok(match name {
        "FloatVector" => FieldType::FloatVector { dim },
        "BinaryVector" => FieldType::BinaryVector { dim },
        "Float16Vector" => FieldType::Float16Vector { dim },
        "BFloat16Vector" => FieldType::BFloat16Vector { dim },
        "Int8Vector" => FieldType::Int8Vector { dim },
        other => {
            let what = format!("type {other:?} is not known to this build");
            return Err(Error::new(Code::Format, what));
        }
    })
}
