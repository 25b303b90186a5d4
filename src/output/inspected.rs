//! A collection of a snapshot as text: tables of fields, indexes, partitions and first rows.
//!
//! Names and values come from strangers and can be long and many: cells are cut, lists end, and the
//! document has all of it.

use super::about::{self, settings};
use super::{consistency_name, cut, one_line, padded, plural, table};
use crate::snapshot::CollectionResult;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// Partitions that are listed.
const PARTITIONS: usize = 40;
/// Columns that the first rows may take side by side; wider ones are shown field by field.
const WIDTH: usize = 100;
/// Columns of one value where rows stand side by side.
const VALUE: usize = 32;
/// Items of a list that are shown.
const ITEMS: usize = 4;

/// What there is of a collection, and its first rows.
pub(super) fn collection(text: &mut String, collection: &CollectionResult, rows: &[Value]) {
    let meta = &collection.meta;
    let _ = writeln!(
        text,
        "\n{}: {}, {} in {}, {}",
        one_line(&meta.name.to_string()),
        plural(collection.rows(), "row"),
        HumanBytes(collection.bytes()),
        plural(collection.parts.len() as u64, "part"),
        consistency_name(collection.consistency)
    );
    if !meta.schema.description.is_empty() {
        let _ = writeln!(text, "  {}", cut(&one_line(&meta.schema.description), WIDTH - 2));
    }
    fields(text, collection);
    indexes(text, collection);
    partitions(text, collection);
    let mut more = vec![
        ("functions", about::functions(&meta.schema).join("; ")),
        ("aliases", meta.aliases.join(", ")),
        ("properties", settings(&meta.properties)),
    ];
    more.retain(|(_, said)| !said.is_empty());
    if !more.is_empty() {
        let _ = writeln!(text);
    }
    for (what, said) in more {
        let _ = writeln!(text, "  {what}: {}", cut(&one_line(&said), 4 * WIDTH));
    }
    first_rows(text, collection, rows);
}

fn fields(text: &mut String, collection: &CollectionResult) {
    let row = |field: &about::FieldRow| {
        let name = if field.inner { format!("    {}", field.name) } else { format!("  {}", field.name) };
        vec![name, field.kind.clone(), field.notes.join(", "), field.description.clone()]
    };
    let rows: Vec<Vec<String>> = about::fields(collection).iter().map(row).collect();
    table(text, &["  field", "type", "", "description"], &rows);
}

fn indexes(text: &mut String, collection: &CollectionResult) {
    let row = |index: &crate::snapshot::Index| {
        let [kind, metric, settings] = about::index(index);
        vec![format!("  {}", index.field), kind, metric, index.name.clone(), settings]
    };
    let rows: Vec<Vec<String>> = collection.meta.indexes.iter().map(row).collect();
    if !rows.is_empty() {
        let _ = writeln!(text);
        table(text, &["  index on", "type", "metric", "name", "settings"], &rows);
    }
}

fn partitions(text: &mut String, collection: &CollectionResult) {
    let partitions = about::partitions(collection);
    if partitions.len() < 2 {
        return;
    }
    let row = |partition: &about::PartitionRow| {
        vec![
            format!("  {}", partition.name),
            HumanCount(partition.rows).to_string(),
            HumanBytes(partition.bytes).to_string(),
            HumanCount(partition.parts).to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = partitions.iter().take(PARTITIONS).map(row).collect();
    let _ = writeln!(text);
    table(text, &["  partition", "rows", "size", "parts"], &rows);
    if partitions.len() > PARTITIONS {
        let _ = writeln!(text, "  and {}", plural((partitions.len() - PARTITIONS) as u64, "more partition"));
    }
}

/// As a table where that fits, else each row field by field.
fn first_rows(text: &mut String, collection: &CollectionResult, rows: &[Value]) {
    if rows.is_empty() {
        return;
    }
    let names: Vec<String> = collection.meta.schema.columns().into_iter().map(|column| column.name).collect();
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| names.iter().map(|name| one_line(&cell(&row[name]))).collect()).collect();
    let heads: Vec<String> = names.iter().map(|name| one_line(name)).collect();
    let width = |column: usize| {
        let cells = shown.iter().map(|row| row[column].width().min(VALUE));
        cells.chain([heads[column].width()]).max().unwrap_or(0)
    };
    let together: usize = (0..heads.len()).map(|column| width(column) + 2).sum();
    if together <= WIDTH {
        let narrow = |row: &Vec<String>| row.iter().map(|cell| cut(cell, VALUE)).collect();
        let mut rows: Vec<Vec<String>> = shown.iter().map(narrow).collect();
        let mut heads = heads;
        rows.iter_mut()
            .chain([&mut heads])
            .filter_map(|row| row.first_mut())
            .for_each(|cell| cell.insert_str(0, "  "));
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let _ = writeln!(text, "\n  first rows:");
        table(text, &heads, &rows);
        return;
    }
    let heads: Vec<String> = heads.iter().map(|head| cut(head, VALUE)).collect();
    let widest = heads.iter().map(|head| head.width()).max().unwrap_or(0);
    for (index, row) in shown.iter().enumerate() {
        let _ = writeln!(text, "\n  row {}:", index + 1);
        for (head, cell) in heads.iter().zip(row) {
            let line = format!("    {}  {}", padded(head, widest), cut(cell, WIDTH - widest - 6));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}

/// Text as it is, everything else as JSON, long lists cut.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        other => shortened(other).to_string(),
    }
}

fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.len() > ITEMS + 1 => {
            let mut short: Vec<_> = items[..ITEMS].iter().map(shortened).collect();
            short.push(format!("... {} in all", items.len()).into());
            Value::Array(short)
        }
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(k, v)| (k.clone(), shortened(v))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::schema::{CollectionName, Field, FieldType, Key, Schema};
    use crate::snapshot::{CollectionMeta, Consistency, Counts, Index, Part};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn field(name: &str, kind: FieldType, description: &str) -> Field {
        Field {
            name: name.into(),
            kind,
            description: description.into(),
            primary_key: name == "id",
            auto_id: false,
            partition_key: false,
            clustering_key: false,
            nullable: false,
            default: None,
            params: BTreeMap::new(),
        }
    }

    fn made(fields: Vec<Field>, partitions: Vec<String>) -> CollectionResult {
        let part = |(at, name): (usize, &String)| Part {
            key: format!("{at}"),
            partition: Some(name.clone()),
            size: 1_000,
            sha256: Sha256::of(b""),
            rows: 10,
            first: Key::Int(0),
            last: Key::Int(9),
            nulls: BTreeMap::new(),
        };
        let parts: Vec<Part> = partitions.iter().enumerate().map(part).collect();
        let rows = parts.len() as u64 * 10;
        CollectionResult {
            meta: CollectionMeta {
                name: CollectionName::new("default", "docs"),
                schema: Schema::new(String::new(), fields, Vec::new(), false).unwrap(),
                described: Vec::new(),
                collection_id: 1,
                shards: 1,
                partitions,
                indexes: Vec::new(),
                aliases: Vec::new(),
                properties: BTreeMap::new(),
                pin: None,
            },
            consistency: Consistency::Checked,
            counts: Counts { server: rows, shared_keys: 0 },
            parts,
        }
    }

    fn shown(of: &CollectionResult, rows: &[Value]) -> String {
        let mut text = String::new();
        collection(&mut text, of, rows);
        text
    }

    #[test]
    fn tables_stay_in_line_whatever_the_script() {
        let id = field("id", FieldType::Int64, "");
        let named = field("標題", FieldType::VarChar { max_length: 9 }, "見出し");
        let mut docs =
            made(vec![id, named], vec!["_default".into(), "e\u{301}te\u{301}".into(), "日本".into()]);
        let params = [("index_type", "TRIE"), ("metric_type", ""), ("mmap", "on")];
        let params = params.map(|(key, value)| (key.to_string(), value.to_string())).into();
        docs.meta.indexes = vec![Index { field: "標題".into(), name: "by_title".into(), params }];
        let rows = [json!({"id": 1, "標題": "値"}), json!({"id": 20, "標題": "a\u{202e}b\nc"})];
        assert_eq!(
            shown(&docs, &rows),
            "
default.docs: 30 rows, 2.93 KiB in 3 parts, checked
  field  type                     description
  id     Int64       primary key
  標題   VarChar(9)               見出し

  index on  type  metric  name      settings
  標題      TRIE          by_title  mmap = on

  partition  rows  size    parts
  _default   10    1000 B  1
  e\u{301}te\u{301}        10    1000 B  1
  日本       10    1000 B  1

  first rows:
  id  標題
  1   値
  20  a\\u{202e}b\\nc
"
        );
    }

    #[test]
    fn what_is_wide_or_many_ends() {
        let long = "long ".repeat(1_000);
        let mut fields = vec![field("id", FieldType::Int64, &long)];
        fields.extend((0..70).map(|n| field(&format!("{}_{n}", "f".repeat(200)), FieldType::Json, "")));
        let mut docs = made(fields, (0..1_000).map(|n| format!("p{n}")).collect());
        docs.meta.schema.description = long.clone();
        docs.meta.aliases = vec![long.clone()];
        docs.meta.properties = BTreeMap::from([(long.clone(), long.clone())]);
        let row: serde_json::Map<String, Value> =
            docs.meta.schema.columns().into_iter().map(|c| (c.name, Value::from(long.clone()))).collect();
        let text = shown(&docs, &[row.clone().into(), row.into()]);
        assert!(text.contains("\n  and 960 more partitions\n"), "{text}");
        assert!(text.contains("\n  row 2:\n"), "{text}");
        let widest = text.lines().map(|line| line.width()).max().unwrap();
        assert!(widest <= 4 * WIDTH + 20 && text.lines().count() < 310, "{widest} {}", text.lines().count());
    }
}
