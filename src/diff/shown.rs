//! How a diff reads, as text and as a document. Pure. Fields of the document are added, never renamed
//! or dropped.

use super::meta::Change;
use super::{Amount, CollectionDiff, Report};
use crate::compare::{Finding, Kind};
use crate::error::Code;
use crate::opened::Opened;
use crate::output::{self, Output, key_json, name_json, one_line, plural};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use std::fmt::Write;

/// The kinds of findings that rows have, and what each is here.
const ROWS: [(Kind, &str); 3] =
    [(Kind::Missing, "removed row"), (Kind::Extra, "added row"), (Kind::Changed, "changed field")];

/// The result in both forms; `urls` are where the snapshots are.
pub fn output(urls: [&str; 2], report: &Report) -> Output {
    let same = report.differences() == 0;
    let rest = json!({
        "a": snapshot_json(urls[0], &report.a),
        "b": snapshot_json(urls[1], &report.b),
        "keys": report.keys,
        "databases": changes_json(&report.databases),
        "collections": report.collections.iter().map(collection_json).collect::<Vec<_>>(),
        "differences": report.differences(),
        "code": (!same).then_some(Code::Different.text()),
        "warnings": [],
        "seconds": report.seconds,
    });
    let document = output::document("diff", if same { "successful" } else { "failed" }, rest);
    Output { document, text: text(urls, report), warnings: Vec::new(), next: Vec::new() }
}

fn text(urls: [&str; 2], report: &Report) -> String {
    let mut text = String::new();
    for (name, url, opened) in [("A", urls[0], &report.a), ("B", urls[1], &report.b)] {
        let _ = writeln!(text, "{name}  {}", one_line(url));
        let _ = writeln!(
            text,
            "   sha256:{}, created {}, {}",
            opened.digest,
            one_line(&opened.manifest.created),
            output::totals_text(&opened.commit.totals)
        );
    }
    let _ = writeln!(text);
    let rows: Vec<Vec<String>> = report.collections.iter().map(overview).collect();
    output::table(
        &mut text,
        &["collection", "rows in A", "rows in B", "same parts", "only in A", "only in B", "differences"],
        &rows,
    );
    let _ = writeln!(text);
    for change in &report.databases {
        change_text(&mut text, None, change);
    }
    for collection in &report.collections {
        collection_text(&mut text, collection, report.keys);
    }
    let differing = report.collections.iter().filter(|c| c.differences() > 0).count();
    let of = plural(report.collections.len() as u64, "collection");
    // A digest is what a manifest records: whether the part is there and has it, `verify` finds out.
    let unread = report.collections.iter().any(|c| c.rows.is_some() && c.parts.same.parts > 0);
    let content = match (report.keys, unread) {
        (true, true) => {
            "rows of parts whose recorded digests differ; parts with equal digests were not read, `verify` reads them"
        }
        (true, false) => "rows of parts whose recorded digests differ",
        (false, _) => "recorded digests of parts; no part was read, `verify` reads them",
    };
    let looked = format!("schemas, properties, partitions, indexes, counts, and {content}");
    let _ = match report.differences() {
        0 => writeln!(text, "Successful: no difference in {of} (compared: {looked})"),
        some => {
            let differences = plural(some, "difference");
            let code = Code::Different.text();
            writeln!(text, "Different: {differences} in {differing} of {of} (compared: {looked}) [{code}]")
        }
    };
    text
}

fn overview(collection: &CollectionDiff) -> Vec<String> {
    let rows = |rows: Option<u64>| rows.map_or("-".to_string(), |rows| HumanCount(rows).to_string());
    let parts = |amount: Amount| HumanCount(amount.parts).to_string();
    vec![
        collection.name.to_string(),
        rows(collection.a),
        rows(collection.b),
        parts(collection.parts.same),
        parts(collection.parts.removed),
        parts(collection.parts.added),
        HumanCount(collection.differences()).to_string(),
    ]
}

fn collection_text(text: &mut String, collection: &CollectionDiff, keys: bool) {
    let name = one_line(&collection.name.to_string());
    match (collection.a, collection.b) {
        (Some(_), None) => {
            let _ = writeln!(text, "{name}: only in A");
            return;
        }
        (None, _) => {
            let _ = writeln!(text, "{name}: only in B");
            return;
        }
        (Some(_), Some(_)) => {}
    }
    for change in &collection.changes {
        change_text(text, Some(&name), change);
    }
    let parts = &collection.parts;
    if (parts.removed, parts.added) != (Amount::default(), Amount::default()) {
        let _ = writeln!(
            text,
            "{name}: parts: {} in both, {} only in A, {} only in B",
            amount(parts.same),
            amount(parts.removed),
            amount(parts.added)
        );
    }
    let Some(rows) = &collection.rows else {
        if keys {
            let _ = writeln!(text, "{name}: rows were not compared: A and B have no common primary key");
        }
        return;
    };
    let found = &rows.found;
    if found.all() > 0 {
        let _ = writeln!(
            text,
            "{name}: rows: {} removed, {} added, {} changed in {}",
            HumanCount(found.total(Kind::Missing)),
            HumanCount(found.total(Kind::Extra)),
            HumanCount(found.changed_rows),
            plural(found.total(Kind::Changed), "field")
        );
    }
    for (kind, what) in ROWS {
        for finding in found.kept(kind) {
            let _ = writeln!(text, "{name}: {}", one_line(&finding_text(what, finding)));
        }
        let more = found.total(kind) - found.kept(kind).len() as u64;
        if more > 0 && !found.kept(kind).is_empty() {
            let _ = writeln!(text, "{name}: and {} more of: {what}", HumanCount(more));
        }
    }
    if !rows.fields_not_compared.is_empty() {
        let fields = one_line(&rows.fields_not_compared.join(", "));
        let _ = writeln!(text, "{name}: values not compared: {fields}");
    }
}

fn amount(amount: Amount) -> String {
    match amount.parts {
        0 => "none".to_string(),
        parts => {
            format!("{} ({}, {})", HumanCount(parts), plural(amount.rows, "row"), HumanBytes(amount.bytes))
        }
    }
}

fn change_text(text: &mut String, name: Option<&str>, change: &Change) {
    let of = |side: &Option<String>| match side.as_deref() {
        None => "none".to_string(),
        Some("") => "empty".to_string(),
        Some(form) => one_line(form),
    };
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    let _ = writeln!(text, "{name}{}: A {}, B {}", one_line(&change.subject), of(&change.a), of(&change.b));
}

fn finding_text(what: &str, finding: &Finding) -> String {
    let of = |partition: &Option<String>| match partition {
        Some(partition) => format!(" of partition {partition:?}"),
        None => String::new(),
    };
    match finding {
        Finding::Missing { partition, key } | Finding::Extra { partition, key } => {
            format!("{what}: key {key}{}", of(partition))
        }
        Finding::Changed { partition, key, field, snapshot, server } => {
            format!("{what}: key {key}{}, field {field:?}: A {snapshot}, B {server}", of(partition))
        }
        Finding::Schema { subject, .. } => subject.clone(),
        Finding::Count { partition, .. } => format!("rows{}", of(partition)),
    }
}

// ---- the document ----

fn snapshot_json(url: &str, opened: &Opened) -> Value {
    let manifest = &opened.manifest;
    json!({
        "url": url,
        "id": manifest.id,
        "created": manifest.created,
        "commit_sha256": format!("sha256:{}", opened.digest),
        "source": {"kind": manifest.source.kind, "version": manifest.source.version},
        "totals": output::totals_json(&opened.commit.totals),
    })
}

fn changes_json(changes: &[Change]) -> Vec<Value> {
    changes.iter().map(|c| json!({"subject": c.subject, "a": c.a, "b": c.b})).collect()
}

fn collection_json(collection: &CollectionDiff) -> Value {
    let amount = |a: Amount| json!({"parts": a.parts, "rows": a.rows, "bytes": a.bytes});
    let rows = collection.rows.as_ref().map(|rows| {
        let found = &rows.found;
        let kept = |kind: Kind| found.kept(kind).iter().map(finding_json).collect::<Vec<_>>();
        json!({
            "removed": found.total(Kind::Missing),
            "added": found.total(Kind::Extra),
            "changed": found.changed_rows,
            "changed_fields": found.total(Kind::Changed),
            "compared": rows.compared,
            "in_same_parts": rows.same_parts,
            "fields_not_compared": rows.fields_not_compared,
            "first_removed": kept(Kind::Missing),
            "first_added": kept(Kind::Extra),
            "first_changed": kept(Kind::Changed),
        })
    });
    let mut json = name_json(&collection.name);
    json["rows"] = json!({"a": collection.a, "b": collection.b});
    json["changes"] = changes_json(&collection.changes).into();
    json["parts"] = json!({
        "same": amount(collection.parts.same),
        "removed": amount(collection.parts.removed),
        "added": amount(collection.parts.added),
    });
    json["keys"] = rows.into();
    json["differences"] = collection.differences().into();
    json
}

fn finding_json(finding: &Finding) -> Value {
    match finding {
        Finding::Missing { partition, key } | Finding::Extra { partition, key } => {
            json!({"partition": partition, "key": key_json(key)})
        }
        Finding::Changed { partition, key, field, snapshot, server } => json!({
            "partition": partition, "key": key_json(key), "field": field, "a": snapshot, "b": server,
        }),
        Finding::Schema { subject, snapshot, server } => {
            json!({"subject": subject, "a": snapshot, "b": server})
        }
        Finding::Count { partition, snapshot, server } => {
            json!({"partition": partition, "a": snapshot, "b": server})
        }
    }
}
