//! Two schemas: in what they differ, and which columns can be compared nevertheless. Pure.
//!
//! Fields are compared by name, type, role and default, functions by what they compute, partitions
//! by name. Not compared, and not claimed: descriptions, type parameters that do not decide what a
//! value can be, the order of fields, indexes, aliases and properties.

use super::found::Finding;
use crate::columns::arrow_schema;
use crate::schema::{Column, Field, Schema};
use crate::select::AutoId;
use std::collections::BTreeSet;

/// The partition that every collection has, also where the server has no partitions.
const DEFAULT_PARTITION: &str = "_default";

/// How the rows of two sides are laid beside each other.
#[derive(Debug)]
pub(super) struct Shape {
    /// The primary key.
    pub key: String,
    /// All columns of the snapshot's parts.
    pub snapshot: Vec<Column>,
    /// The columns to ask the server for: those that the snapshot has in the same form.
    pub server: Vec<Column>,
    /// What is compared: positions in `snapshot` and in `server`.
    pub pairs: Vec<(usize, usize)>,
    /// Columns of either side that cannot be compared, by name.
    pub not_compared: Vec<String>,
}

/// A schema and its partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub schema: &'a Schema,
    pub partitions: &'a [String],
}

/// The differences, and how rows can be compared; `None` if they have no common key. What an import
/// with `auto_id` changes in the schema is no difference.
pub(super) fn compare(snapshot: Side, server: Side, auto_id: AutoId) -> (Vec<Finding>, Option<Shape>) {
    let mut findings = Vec::new();
    let mut differ = |subject: String, snapshot: String, server: String| {
        if snapshot != server {
            findings.push(Finding::Schema { subject, snapshot, server });
        }
    };
    let (a, b) = (snapshot.schema, server.schema);
    let form = |field: &Field| form(field, auto_id != AutoId::AsField);
    for name in union(a.fields.iter().map(|f| &f.name), b.fields.iter().map(|f| &f.name)) {
        let of = |schema: &Schema| schema.fields.iter().find(|f| f.name == name).map_or("none".into(), &form);
        differ(format!("field {name:?}"), of(a), of(b));
    }
    for name in union(a.functions.iter().map(|f| &f.name), b.functions.iter().map(|f| &f.name)) {
        let of = |schema: &Schema| {
            let function = schema.functions.iter().find(|f| f.name == name);
            function.map_or("none".into(), |f| {
                format!("{} of {} to {}", f.kind.name(), f.inputs.join(", "), f.outputs.join(", "))
            })
        };
        differ(format!("function {name:?}"), of(a), of(b));
    }
    let dynamic = |schema: &Schema| if schema.dynamic { "yes" } else { "no" }.to_string();
    differ("dynamic field".to_string(), dynamic(a), dynamic(b));
    // With a partition key the server makes up partitions, and rows are not attributed to them.
    if !a.has_partition_key() && !b.has_partition_key() {
        let (a, b) = (partitions(snapshot), partitions(server));
        for name in union(a.iter(), b.iter()) {
            let exists = |side: &[String]| if side.contains(&name) { "exists" } else { "none" }.to_string();
            differ(format!("partition {name:?}"), exists(&a), exists(&b));
        }
    }
    (findings, shape(a, b))
}

/// All that is compared of a field, as users know it.
fn form(field: &Field, with_auto_id: bool) -> String {
    let mut form = field.kind.to_string();
    let roles = [
        (field.primary_key, "primary key"),
        (field.auto_id && with_auto_id, "auto-id"),
        (field.partition_key, "partition key"),
        (field.clustering_key, "clustering key"),
        (field.nullable, "nullable"),
    ];
    for (_, role) in roles.iter().filter(|(has, _)| *has) {
        form.push_str(", ");
        form.push_str(role);
    }
    if let Some(default) = &field.default {
        form.push_str(&format!(", default {default}"));
    }
    form
}

fn partitions(side: Side) -> Vec<String> {
    match side.partitions {
        [] => vec![DEFAULT_PARTITION.to_string()],
        some => some.to_vec(),
    }
}

/// Names of the first in their order, then those that only the second has.
fn union<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    a.chain(b).filter(|name| seen.insert(*name)).cloned().collect()
}

fn shape(a: &Schema, b: &Schema) -> Option<Shape> {
    let key = &a.primary_key().name;
    if b.primary_key().name != *key {
        return None;
    }
    let (snapshot, server) = (a.columns(), b.columns());
    let mut asked: Vec<Column> = Vec::new();
    let mut pairs = Vec::new();
    for (index, column) in snapshot.iter().enumerate() {
        if let Some(other) = server.iter().find(|other| same_form(column, other)) {
            pairs.push((index, asked.len()));
            asked.push(other.clone());
        }
    }
    let all = union(snapshot.iter().map(|c| &c.name), server.iter().map(|c| &c.name));
    let not_compared: Vec<String> =
        all.into_iter().filter(|name| !asked.iter().any(|c| c.name == *name)).collect();
    if not_compared.contains(key) {
        return None;
    }
    Some(Shape { key: key.clone(), snapshot, server: asked, pairs, not_compared })
}

/// Whether values of two columns can be compared: limits on their length may differ.
fn same_form(a: &Column, b: &Column) -> bool {
    let arrow_type =
        |column: &Column| arrow_schema(std::slice::from_ref(column)).field(0).data_type().clone();
    a.name == b.name
        && a.kind.name() == b.kind.name()
        && a.kind.dim() == b.kind.dim()
        && arrow_type(a) == arrow_type(b)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::schema::{DefaultValue, ElementType, FieldType, Function, FunctionKind};
    use std::collections::BTreeMap;

    pub fn field(name: &str, kind: FieldType) -> Field {
        Field {
            name: name.into(),
            kind,
            description: String::new(),
            primary_key: name == "id",
            auto_id: false,
            partition_key: false,
            clustering_key: false,
            nullable: false,
            default: None,
            params: BTreeMap::new(),
        }
    }

    pub fn schema(fields: Vec<Field>, dynamic: bool) -> Schema {
        Schema::new(String::new(), fields, Vec::new(), dynamic).unwrap()
    }

    fn text(max_length: u32) -> FieldType {
        FieldType::VarChar { max_length }
    }

    fn run(a: &Schema, b: &Schema, partitions: [&[&str]; 2]) -> (Vec<String>, Option<Shape>) {
        let names = partitions.map(|p| p.iter().map(|n| n.to_string()).collect::<Vec<_>>());
        let side = |schema, partitions| Side { schema, partitions };
        let (findings, shape) = compare(side(a, &names[0]), side(b, &names[1]), AutoId::Preserve);
        let line = |finding: Finding| match finding {
            Finding::Schema { subject, snapshot, server } => format!("{subject}: {snapshot} | {server}"),
            other => panic!("{other:?}"),
        };
        (findings.into_iter().map(line).collect(), shape)
    }

    #[test]
    fn equal_schemas_have_no_differences() {
        let mut a = schema(vec![field("id", FieldType::Int64), field("t", text(9))], true);
        let mut b = a.clone();
        a.description = "words".into();
        b.fields[1].params.insert("mmap.enabled".into(), "true".into());
        let (findings, shape) = run(&a, &b, [&["_default", "p"], &["p", "_default"]]);
        assert!(findings.is_empty(), "{findings:?}");
        let shape = shape.unwrap();
        assert_eq!((shape.pairs, shape.not_compared), (vec![(0, 0), (1, 1), (2, 2)], vec![]));
        // A server without partitions has the default one.
        assert!(run(&a, &b, [&[], &["_default"]]).0.is_empty());
    }

    #[test]
    fn every_difference_is_named_and_the_rest_is_compared() {
        let numbers = FieldType::FloatVector { dim: 8 };
        let a = schema(
            vec![
                field("gone", FieldType::Json),
                field("id", FieldType::Int64),
                field("longer", text(9)),
                field("v", numbers),
                field("other", FieldType::Int8),
            ],
            true,
        );
        let mut new_vector = field("v", FieldType::FloatVector { dim: 4 });
        new_vector.partition_key = true;
        new_vector.nullable = true;
        new_vector.default = Some(DefaultValue::Text("x".into()));
        let b = schema(
            vec![
                field("id", FieldType::Int64),
                field("other", FieldType::Int16),
                new_vector,
                field("longer", text(10)),
                field("more", FieldType::Bool),
            ],
            false,
        );
        let (findings, shape) = run(&a, &b, [&["_default", "p"], &["_default", "q"]]);
        assert_eq!(
            findings,
            [
                "field \"gone\": JSON | none",
                "field \"longer\": VarChar(9) | VarChar(10)",
                "field \"v\": FloatVector(8) | FloatVector(4), partition key, nullable, default \"x\"",
                "field \"other\": Int8 | Int16",
                "field \"more\": none | Bool",
                "dynamic field: yes | no",
            ]
        );
        let shape = shape.unwrap();
        assert_eq!(shape.pairs, [(1, 0), (2, 1)]);
        assert_eq!(shape.server[1].kind, text(10));
        assert_eq!(shape.not_compared, ["gone", "v", "other", "$meta", "more"]);
    }

    #[test]
    fn functions_are_compared_and_their_outputs_are_not() {
        let fields = || {
            let sparse = field("sparse", FieldType::SparseFloatVector);
            vec![field("id", FieldType::Int64), field("t", text(9)), sparse]
        };
        let mut a = schema(fields(), false);
        a.functions.push(Function {
            name: "bm25".into(),
            kind: FunctionKind::Bm25,
            description: String::new(),
            inputs: vec!["t".into()],
            outputs: vec!["sparse".into()],
            params: BTreeMap::new(),
        });
        let (findings, shape) = run(&a, &a, [&[], &[]]);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(shape.unwrap().pairs, [(0, 0), (1, 1)]);
        let (findings, shape) = run(&a, &schema(fields(), false), [&[], &[]]);
        assert_eq!(findings, ["function \"bm25\": BM25 of t to sparse | none"]);
        assert_eq!(shape.unwrap().not_compared, ["sparse"]);
    }

    #[test]
    fn partitions_and_keys_are_compared() {
        let a = schema(vec![field("id", FieldType::Int64)], false);
        let (findings, _) = run(&a, &a, [&["_default", "p"], &["_default", "q"]]);
        assert_eq!(findings, ["partition \"p\": exists | none", "partition \"q\": none | exists"]);
        let other = schema(vec![field("id", text(9))], false);
        assert!(run(&a, &other, [&[], &[]]).1.is_none());
        let mut other = schema(vec![field("id", FieldType::Int64)], false);
        other.fields.insert(0, Field { primary_key: true, ..field("key", FieldType::Int64) });
        other.fields[1].primary_key = false;
        let (findings, shape) = run(&a, &other, [&[], &[]]);
        assert_eq!(
            findings,
            ["field \"id\": Int64, primary key | Int64", "field \"key\": none | Int64, primary key"]
        );
        assert!(shape.is_none());
        let of = |element| {
            let array = FieldType::Array { element, element_nullable: false, max_capacity: 9 };
            schema(vec![field("id", FieldType::Int64), field("a", array)], false)
        };
        let (_, shape) = run(&of(ElementType::Int32), &of(ElementType::Int64), [&[], &[]]);
        assert_eq!(shape.unwrap().not_compared, ["a"]);
    }
}
