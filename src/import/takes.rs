//! What a target cannot take, by its kind and release: fields, functions and names, one by one.
//!
//! Owns: which engine refuses what, as far as that is known before it is asked. Does not own: what
//! is done about it (`plan`). The facts behind it stand in `docs/types.md`.

use super::plan::Job;
use crate::milvus::{JobLimits, KeyPolicy, ServerInfo, ServerKind};
use crate::schema::{DEFAULT_DATABASE, DefaultValue, ElementType, Field, FieldType, Function, FunctionKind};
use crate::snapshot::Part;

/// What of a collection the target's version does not know, field by field.
pub fn unsupported(info: &ServerInfo, job: &Job) -> Vec<String> {
    let name = &job.source.meta.name;
    let fields = job.source.meta.schema.fields.iter();
    let reason = |field: &Field| {
        // Inserts put the default in the place of a null, so such nulls cannot arrive as nulls.
        let nulls: u64 = job.source.parts.iter().filter_map(|p| p.nulls.get(&field.name)).sum();
        if field.default.is_some() && nulls > 0 {
            return Some(format!("{nulls} nulls would become the field's default value"));
        }
        unsupported_field(info, field)
    };
    // One reason for all of them: it is their number.
    let vectors: Vec<_> = fields.clone().filter(|f| f.kind.is_vector()).map(|f| f.name.as_str()).collect();
    let many = (vectors.len() > 1 && older_than(info, (2, 4))).then(|| {
        format!("{name} fields {}: more than one vector field is known since 2.4", vectors.join(", "))
    });
    let functions = job.source.meta.schema.functions.iter();
    let functions = functions
        .filter_map(|f| unsupported_function(info, f).map(|r| format!("{name} function {:?}: {r}", f.name)));
    fields
        .filter_map(|f| reason(f).map(|r| format!("{name} field {:?}: {r}", f.name)))
        .chain(many)
        .chain(functions)
        .collect()
}

/// What of a collection the target's bulk import does not take although its inserts do.
pub fn unsupported_by_bulk(info: &ServerInfo, job: &Job) -> Vec<String> {
    let name = &job.source.meta.name;
    if info.kind != ServerKind::Milvus {
        return vec![format!("{name}: this server has no bulk import")];
    }
    let reason = |field: &Field| {
        let nullable_elements = matches!(field.kind, FieldType::Array { element_nullable: true, .. });
        match field.kind {
            // Seen on 2.3.5: "field schema is not match, collection field dataType: Float16Vector".
            FieldType::Float16Vector { .. } if older_than(info, (2, 4)) => {
                Some(format!("type {} is taken since 2.4", field.kind))
            }
            _ if nullable_elements => Some("null elements of arrays are not taken".to_string()),
            _ if field.kind.is_vector() && field.nullable && older_than(info, (3, 0)) => {
                Some("nullable vectors are taken since 3.0".to_string())
            }
            _ => None,
        }
    };
    let keys = (job.keys == KeyPolicy::Regenerate)
        .then(|| format!("{name}: the parts hold keys, which `--auto-id regenerate` leaves out"));
    let fields = job.source.meta.schema.fields.iter();
    fields.filter_map(|f| reason(f).map(|r| format!("{name} field {:?}: {r}", f.name))).chain(keys).collect()
}

/// Parts that are larger than a job takes.
pub fn too_large_for_bulk(limits: JobLimits, job: &Job) -> Vec<String> {
    let parts = job.source.parts.iter().filter(|part| part.size > limits.file_bytes);
    let text = |part: &Part| {
        format!("part {}: {} bytes, and at most {} are taken", part.key, part.size, limits.file_bytes)
    };
    parts.map(text).collect()
}

/// Which engines lack what: the facts behind this stand in `docs/types.md`.
fn unsupported_field(info: &ServerInfo, field: &Field) -> Option<String> {
    if let Some(since) = unsupported_type(info, &field.kind) {
        return Some(format!("type {} is {since}", field.kind));
    }
    let before = |release| older_than(info, release);
    let of_text = matches!(field.kind, FieldType::Array { element: ElementType::VarChar, .. });
    if of_text && info.kind == ServerKind::Milvus && !field.params.contains_key("max_length") {
        return Some(
            "the source (Lite 3) does not say the max_length of its elements, which this target needs".into(),
        );
    }
    if info.kind == ServerKind::Unknown {
        // Lite 2.5, which does not say what it is: it refuses some, and others break the collection.
        let bearable = match &field.default {
            None | Some(DefaultValue::Bool(_)) => true,
            Some(DefaultValue::Text(text)) => !text.is_empty(),
            Some(_) => field.kind == FieldType::Int64,
        };
        if !bearable {
            return Some("this server does not bear such a default value".into());
        }
    }
    if field.nullable && before((2, 5)) {
        return Some("nullable fields are known since 2.5".into());
    }
    if field.nullable && field.kind.is_vector() && before((2, 6)) {
        return Some("nullable vectors are known since 2.6".into());
    }
    if field.nullable && matches!(field.kind, FieldType::StructArray { .. }) && before((3, 0)) {
        return Some("nullable struct arrays are known since 3.0".into());
    }
    if field.clustering_key && before((2, 4)) {
        return Some("clustering keys are known since 2.4".into());
    }
    None
}

fn older_than(info: &ServerInfo, release: (u32, u32)) -> bool {
    info.kind == ServerKind::Milvus && info.release().is_some_and(|r| (r.0, r.1) < release)
}

fn unsupported_type(info: &ServerInfo, kind: &FieldType) -> Option<&'static str> {
    let before = |release| older_than(info, release);
    let lite = |major: u32| info.kind == ServerKind::Lite && info.release().is_some_and(|r| r.0 >= major);
    match kind {
        FieldType::BFloat16Vector { .. } | FieldType::SparseFloatVector if before((2, 4)) => {
            Some("known since 2.4")
        }
        FieldType::Int8Vector { .. } | FieldType::Geometry | FieldType::Timestamptz if before((2, 6)) => {
            Some("known since 2.6")
        }
        FieldType::StructArray { .. } | FieldType::VectorArray { .. } if before((2, 6)) => {
            Some("known since 2.6")
        }
        FieldType::StructArray { fields } if before((3, 0)) => fields.iter().find_map(|sub| match sub.kind {
            FieldType::Array { element_nullable: true, .. } => Some("known with null elements since 3.0"),
            _ => None,
        }),
        FieldType::Text if before((3, 0)) => Some("known since 3.0"),
        FieldType::Array { element_nullable: true, .. } if before((3, 0)) => Some("known since 3.0"),
        FieldType::BinaryVector { .. }
        | FieldType::Float16Vector { .. }
        | FieldType::BFloat16Vector { .. }
        | FieldType::Int8Vector { .. }
        | FieldType::StructArray { .. }
        | FieldType::Text
            if lite(3) =>
        {
            Some("not known to Milvus Lite 3")
        }
        FieldType::Date | FieldType::Time | FieldType::Decimal | FieldType::Uuid | FieldType::Mol
            if lite(3) || before((3, 1)) =>
        {
            Some("not known to any server yet")
        }
        _ => None,
    }
}

/// Functions that the target's version does not know.
fn unsupported_function(info: &ServerInfo, function: &Function) -> Option<&'static str> {
    match function.kind {
        FunctionKind::Bm25 if older_than(info, (2, 5)) => Some("known since 2.5"),
        FunctionKind::TextEmbedding | FunctionKind::Rerank if older_than(info, (2, 6)) => {
            Some("known since 2.6")
        }
        FunctionKind::MinHash if older_than(info, (2, 6)) => Some("known since 2.6"),
        FunctionKind::MolFingerprint if older_than(info, (3, 1)) => Some("not known to any server yet"),
        _ => None,
    }
}

/// Names that Milvus refuses; the Lites take any. Nothing is said of names that only some releases
/// take, since those are the server's to judge.
pub fn names(info: &ServerInfo, job: &Job) -> Vec<String> {
    if info.kind != ServerKind::Milvus {
        return Vec::new();
    }
    let meta = &job.source.meta;
    let own = |what: &str, name: &str| (!is_name(name)).then(|| format!("{what} {name:?}"));
    let database = Some(job.target.database.as_str()).filter(|name| *name != DEFAULT_DATABASE);
    let mut refused: Vec<String> = database.and_then(|name| own("database", name)).into_iter().collect();
    refused.extend(own("collection", &job.target.name));
    refused.extend(job.aliases.iter().filter_map(|name| own("alias", name)));
    let of = |what: &str| format!("{} {what}", job.target);
    refused.extend(meta.schema.fields.iter().filter_map(|field| own(&of("field"), &field.name)));
    if !meta.schema.has_partition_key() {
        let hyphens = !older_than(info, (2, 4));
        let bad = meta.partitions.iter().filter(|name| !is_partition_name(name, hyphens));
        refused.extend(bad.map(|name| format!("{} {name:?}", of("partition"))));
    }
    refused
}

/// Longest name that Milvus takes by default, in bytes (`proxy.maxNameLength`).
const MAX_NAME: usize = 255;

/// A name of a database, a collection, an alias or a field.
fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    first && name.len() <= MAX_NAME && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_$".contains(&c))
}

/// Partitions may also begin with a digit; in newer releases they may have hyphens inside.
fn is_partition_name(name: &str, hyphens: bool) -> bool {
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_');
    let inside = |c: u8| c.is_ascii_alphanumeric() || b"_$".contains(&c) || (hyphens && c == b'-');
    first && name.len() <= MAX_NAME && name.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_every_release_refuses() {
        for good in ["docs", "_docs2", "a$b", "d".repeat(255).as_str()] {
            assert!(is_name(good) && is_partition_name(good, false), "{good}");
        }
        for bad in ["", "ö", "a b", "a.b", "..", "a/b", "d".repeat(256).as_str()] {
            assert!(!is_name(bad) && !is_partition_name(bad, true), "{bad}");
        }
        assert!(!is_name("2025") && is_partition_name("2025", false));
        assert!(!is_name("p-1") && !is_partition_name("p-1", false) && is_partition_name("p-1", true));
    }
}
