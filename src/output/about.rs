//! What there is to say of a collection of a snapshot, as rows of tables: for `inspect` and `report`.
//! Pure.

use super::plural;
use crate::schema::{Field, FieldType, Function, Schema};
use crate::snapshot::{CollectionResult, Index};
use std::collections::BTreeMap;

/// One field as a row of a table.
pub(crate) struct FieldRow {
    /// Its name.
    pub name: String,
    /// Whether it is a member of the struct before it.
    pub inner: bool,
    pub kind: String,
    /// Roles, default, parameters.
    pub notes: Vec<String>,
    pub description: String,
}

/// The fields of a collection, members of structs behind their struct, `$meta` last.
pub(crate) fn fields(collection: &CollectionResult) -> Vec<FieldRow> {
    let schema = &collection.meta.schema;
    let mut rows = Vec::new();
    for field in &schema.fields {
        let mut notes = field_notes(field);
        let makers = schema.functions.iter().filter(|function| function.outputs.contains(&field.name));
        notes.extend(makers.map(|function| format!("made by {} ({})", function.name, function.kind.name())));
        let nulls: u64 = collection.parts.iter().filter_map(|part| part.nulls.get(&field.name)).sum();
        notes.extend((nulls > 0).then(|| plural(nulls, "null")));
        rows.push(FieldRow {
            name: field.name.clone(),
            inner: false,
            kind: kind(field),
            notes,
            description: field.description.clone(),
        });
        if let FieldType::StructArray { fields } = &field.kind {
            rows.extend(fields.iter().map(|inner| FieldRow {
                name: inner.name.clone(),
                inner: true,
                kind: inner.kind.to_string(),
                notes: field_notes(inner),
                description: inner.description.clone(),
            }));
        }
    }
    if schema.dynamic {
        rows.push(FieldRow {
            name: crate::schema::DYNAMIC_COLUMN.to_string(),
            inner: false,
            kind: "JSON".into(),
            notes: vec!["dynamic field".into()],
            description: String::new(),
        });
    }
    rows
}

fn kind(field: &Field) -> String {
    match &field.kind {
        FieldType::StructArray { .. } => field.kind.name().to_string(),
        other => other.to_string(),
    }
}

/// Parameters that the type says already.
const IN_THE_TYPE: [&str; 3] = ["dim", "max_length", "max_capacity"];

fn field_notes(field: &Field) -> Vec<String> {
    let roles = [
        (field.primary_key, "primary key"),
        (field.auto_id, "auto-id"),
        (field.partition_key, "partition key"),
        (field.clustering_key, "clustering key"),
        (field.nullable, "nullable"),
    ];
    let mut notes: Vec<String> =
        roles.iter().filter(|(has, _)| *has).map(|(_, role)| role.to_string()).collect();
    notes.extend(field.default.as_ref().map(|default| format!("default {default}")));
    let more = field.params.iter().filter(|(key, _)| !IN_THE_TYPE.contains(&key.as_str()));
    notes.extend(more.map(|(key, value)| format!("{key} = {value}")));
    notes
}

/// The functions of a collection, a line each.
pub(crate) fn functions(schema: &Schema) -> Vec<String> {
    let one = |function: &Function| {
        let mut line =
            format!("{} ({}) of {}", function.name, function.kind.name(), function.inputs.join(", "));
        if !function.outputs.is_empty() {
            line.push_str(&format!(" to {}", function.outputs.join(", ")));
        }
        if !function.params.is_empty() {
            line.push_str(&format!("; {}", settings(&function.params)));
        }
        line
    };
    schema.functions.iter().map(one).collect()
}

/// `key = value, ...`.
pub(crate) fn settings(pairs: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    pairs.join(", ")
}

/// Type, metric and what else is set of an index.
pub(crate) fn index(index: &Index) -> [String; 3] {
    let of = |key: &str| index.params.get(key).cloned().unwrap_or_default();
    let mut more = index.params.clone();
    more.retain(|key, _| key != "index_type" && key != "metric_type");
    [of("index_type"), of("metric_type"), settings(&more)]
}

/// One partition of a collection.
pub(crate) struct PartitionRow {
    /// Its name.
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
    pub parts: u64,
}

/// The partitions that rows are attributed to, in the server's order; none with a partition key.
pub(crate) fn partitions(collection: &CollectionResult) -> Vec<PartitionRow> {
    if collection.meta.schema.has_partition_key() {
        return Vec::new();
    }
    let mut found: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for part in &collection.parts {
        let sums = found.entry(part.partition.as_deref().unwrap_or_default()).or_default();
        *sums = (sums.0 + part.rows, sums.1 + part.size, sums.2 + 1);
    }
    let row = |name: &String| {
        let (rows, bytes, parts) = found.get(name.as_str()).copied().unwrap_or_default();
        PartitionRow { name: name.clone(), rows, bytes, parts }
    };
    collection.meta.partitions.iter().map(row).collect()
}
