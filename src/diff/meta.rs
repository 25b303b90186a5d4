//! What two manifests say of a collection, laid beside each other. Pure.

use crate::schema::{Field, FieldType, Function, Schema};
use crate::select::Selection;
use crate::snapshot::{CollectionResult, Database, Index};
use std::collections::{BTreeMap, BTreeSet};

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What, such as `field "title"`.
    pub subject: String,
    /// How it is in the first snapshot; `None`: it is not there.
    pub a: Option<String>,
    /// How it is in the second.
    pub b: Option<String>,
}

/// What differs of a collection that both have.
pub(super) fn changes(a: &CollectionResult, b: &CollectionResult) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.schema(&a.meta.schema, &b.meta.schema);
    let texts = |of: &dyn Fn(&CollectionResult) -> String| (of(a), of(b));
    changes.both("shards", texts(&|c| c.meta.shards.to_string()));
    changes.sets("alias", &a.meta.aliases, &b.meta.aliases);
    changes.sets("partition", &a.meta.partitions, &b.meta.partitions);
    changes.maps("property", a.meta.properties.iter(), b.meta.properties.iter());
    let indexes = |c: &CollectionResult| -> BTreeMap<String, String> {
        c.meta.indexes.iter().map(|index| (index.field.clone(), index_form(index))).collect()
    };
    changes.maps("index on", indexes(a).iter(), indexes(b).iter());
    changes.both("rows", texts(&|c| c.rows().to_string()));
    changes.both("rows that share a key", texts(&|c| c.counts.shared_keys.to_string()));
    let rows = |c: &CollectionResult| -> BTreeMap<String, String> {
        c.rows_by_partition().into_iter().map(|(name, rows)| (name, rows.to_string())).collect()
    };
    let (mut a, mut b) = (rows(a), rows(b));
    // One that only one side has is named as such already.
    a.retain(|name, _| b.contains_key(name));
    b.retain(|name, _| a.contains_key(name));
    if a.len() > 1 {
        changes.maps("rows of partition", a.iter(), b.iter());
    }
    changes.0
}

/// Properties of databases that both have and that are concerned.
pub(super) fn databases(a: &[Database], b: &[Database], selection: &Selection) -> Vec<Change> {
    let mut changes = Changes::default();
    for database in a.iter().filter(|database| selection.concerns_database(&database.name)) {
        if let Some(other) = b.iter().find(|other| other.name == database.name) {
            let what = format!("property of database {:?}:", database.name);
            changes.maps(&what, database.properties.iter(), other.properties.iter());
        }
    }
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, subject: String, a: Option<String>, b: Option<String>) {
        if a != b {
            self.0.push(Change { subject, a, b });
        }
    }

    fn both(&mut self, subject: &str, (a, b): (String, String)) {
        self.push(subject.to_string(), Some(a), Some(b));
    }

    /// Names that only one side has.
    fn sets(&mut self, what: &str, a: &[String], b: &[String]) {
        let there = |side: &[String]| -> BTreeMap<String, String> {
            side.iter().map(|name| (name.clone(), "there".to_string())).collect()
        };
        self.maps(what, there(a).iter(), there(b).iter());
    }

    fn maps<'a>(
        &mut self,
        what: &str,
        a: impl Iterator<Item = (&'a String, &'a String)>,
        b: impl Iterator<Item = (&'a String, &'a String)>,
    ) {
        let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.collect(), b.collect());
        let names: BTreeSet<&&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let of = |side: &BTreeMap<&String, &String>| side.get(*name).map(ToString::to_string);
            self.push(format!("{what} {name:?}"), of(&a), of(&b));
        }
    }

    fn schema(&mut self, a: &Schema, b: &Schema) {
        self.both("description", (a.description.clone(), b.description.clone()));
        let dynamic = |schema: &Schema| if schema.dynamic { "yes" } else { "no" }.to_string();
        self.both("dynamic field", (dynamic(a), dynamic(b)));
        let fields = |schema: &Schema| -> Vec<(String, String)> {
            schema.fields.iter().map(|field| (field.name.clone(), form(field))).collect()
        };
        let (fields_a, fields_b) = (fields(a), fields(b));
        self.lists("field", &fields_a, &fields_b);
        // Named by itself only where it is all that differs of the fields.
        let order = |fields: &[(String, String)]| -> Vec<String> {
            fields.iter().map(|(name, _)| name.clone()).collect()
        };
        let (mut sorted_a, mut sorted_b) = (order(&fields_a), order(&fields_b));
        sorted_a.sort();
        sorted_b.sort();
        if sorted_a == sorted_b {
            self.both("order of fields", (order(&fields_a).join(", "), order(&fields_b).join(", ")));
        }
        let functions = |schema: &Schema| -> Vec<(String, String)> {
            schema.functions.iter().map(|f| (f.name.clone(), function_form(f))).collect()
        };
        self.lists("function", &functions(a), &functions(b));
    }

    /// In the order of the first, then what only the second has.
    fn lists(&mut self, what: &str, a: &[(String, String)], b: &[(String, String)]) {
        let of = |side: &[(String, String)], name: &String| {
            side.iter().find(|(other, _)| other == name).map(|(_, form)| form.clone())
        };
        let new = b.iter().filter(|(name, _)| of(a, name).is_none());
        for (name, _) in a.iter().chain(new) {
            self.push(format!("{what} {name:?}"), of(a, name), of(b, name));
        }
    }
}

/// All of a field, as users know it.
fn form(field: &Field) -> String {
    let mut form = match &field.kind {
        FieldType::StructArray { fields } => {
            let members: Vec<_> =
                fields.iter().map(|member| format!("{} {}", member.name, self::form(member))).collect();
            format!("{}<{}>", field.kind.name(), members.join("; "))
        }
        kind => kind.to_string(),
    };
    let roles = [
        (field.primary_key, "primary key"),
        (field.auto_id, "auto-id"),
        (field.partition_key, "partition key"),
        (field.clustering_key, "clustering key"),
        (field.nullable, "nullable"),
    ];
    let roles = roles.iter().filter(|(has, _)| *has).map(|(_, role)| role.to_string());
    let default = field.default.iter().map(|default| format!("default {default}"));
    let params =
        field.params.iter().filter(|(key, _)| !["dim", "max_length", "max_capacity"].contains(&key.as_str()));
    let params = params.map(|(key, value)| format!("{key} = {value}"));
    let described = (!field.description.is_empty()).then(|| format!("description {:?}", field.description));
    for more in roles.chain(default).chain(params).chain(described) {
        form.push_str(", ");
        form.push_str(&more);
    }
    form
}

fn function_form(function: &Function) -> String {
    let mut form = format!(
        "{} of {} to {}",
        function.kind.name(),
        function.inputs.join(", "),
        function.outputs.join(", ")
    );
    for (key, value) in &function.params {
        form.push_str(&format!(", {key} = {value}"));
    }
    if !function.description.is_empty() {
        form.push_str(&format!(", description {:?}", function.description));
    }
    form
}

fn index_form(index: &Index) -> String {
    let params: Vec<_> = index.params.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{:?}: {}", index.name, params.join(", "))
}
