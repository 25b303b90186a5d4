//! manifest.json and SHA256SUMS: schemas, and every part by content.

use super::commit::{ObjectRef, Totals};
use super::plan::{CollectionMeta, Database, SourceInfo};
use super::{MAX_PART_BYTES, MAX_PART_ROWS, MAX_PLAN_BYTES, MAX_RECEIPT_BYTES, keys, wire};
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{FieldType, Key};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One Parquet file: rows of one partition, one key range, ascending and unique by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Relative key, see [`keys::part`].
    pub key: String,
    /// The partition of all its rows; `None` where the server does not attribute rows.
    pub partition: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// Rows, at least one.
    pub rows: u64,
    /// Smallest key.
    pub first: Key,
    /// Greatest key.
    pub last: Key,
    /// Nulls by column, of columns that have any.
    pub nulls: BTreeMap<String, u64>,
}

/// How firmly the rows belong to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Every page was read at one server timestamp.
    Pinned(u64),
    /// The server cannot pin; the keys were read twice and did not differ.
    Checked,
    /// Writes were allowed and nothing was compared.
    Unchecked,
}

/// Counts taken when the rows had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// What the server's `count(*)` said.
    pub server: u64,
    /// Rows that the server counts beyond one per key: it hands out only the newest of them.
    pub shared_keys: u64,
}

/// A collection as it was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionResult {
    /// What was known before the rows were read.
    pub meta: CollectionMeta,
    /// How firmly the rows belong to one moment.
    pub consistency: Consistency,
    /// Against the server.
    pub counts: Counts,
    /// In unit and key order.
    pub parts: Vec<Part>,
}

impl CollectionResult {
    /// Rows of all parts.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|p| p.rows).sum()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.size).sum()
    }

    /// Rows of every partition that rows are attributed to, in the server's order.
    pub fn rows_by_partition(&self) -> Vec<(String, u64)> {
        if self.meta.schema.has_partition_key() {
            return Vec::new();
        }
        let rows = |partition: &String| {
            let own = self.parts.iter().filter(|p| p.partition.as_ref() == Some(partition));
            (partition.clone(), own.map(|p| p.rows).sum())
        };
        self.meta.partitions.iter().map(rows).collect()
    }
}

/// Everything a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot's id, as in the plan.
    pub id: String,
    /// When the export was planned: RFC 3339, UTC.
    pub created: String,
    /// Name and version of the tool that exported.
    pub tool: String,
    /// Where the rows came from.
    pub source: SourceInfo,
    /// What the bucket could not do during the export, in words; empty if it could do all.
    pub bucket_limits: Vec<String>,
    /// PLAN.json and every receipt: not needed to import, but part of what was committed.
    pub bookkeeping: Vec<ObjectRef>,
    /// The databases of the collections.
    pub databases: Vec<Database>,
    /// In the order of the plan.
    pub collections: Vec<CollectionResult>,
}

impl Manifest {
    /// As stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        wire::to_bytes(&wire::Manifest::from(self))
    }

    /// Parses and checks all that can be checked without fetching anything: keys stay in the
    /// snapshot and are unique, parts belong to a partition that exists and have a sane size,
    /// key ranges have the type of the primary key, do not run backwards and do not overlap.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        wire::check_version(keys::MANIFEST, bytes)?;
        let manifest: Manifest = wire::parse::<wire::Manifest>(keys::MANIFEST, bytes)?.try_into()?;
        let mut seen = HashSet::new();
        let mut names = HashSet::new();
        for object in &manifest.bookkeeping {
            let unit = object.key.strip_prefix("units/").and_then(|rest| rest.strip_suffix(".json"));
            if object.key != keys::PLAN && !unit.is_some_and(keys::is_unit_id) {
                return Err(wrong(format!("{:?} is not the key of a plan or receipt", object.key)));
            }
            let largest = if unit.is_some() { MAX_RECEIPT_BYTES } else { MAX_PLAN_BYTES };
            if object.size > largest {
                return Err(wrong(format!("{:?} has an impossible size", object.key)));
            }
            if !seen.insert(object.key.as_str()) {
                return Err(wrong(format!("{:?} is listed twice", object.key)));
            }
        }
        for collection in &manifest.collections {
            check_collection(collection)
                .map_err(|e| e.context(format!("manifest.json: {}", collection.meta.name)))?;
            if !names.insert(&collection.meta.name) {
                return Err(wrong(format!("{} is listed twice", collection.meta.name)));
            }
            for part in &collection.parts {
                if !seen.insert(part.key.as_str()) {
                    return Err(wrong(format!("{:?} is listed twice", part.key)));
                }
            }
        }
        Ok(manifest)
    }

    /// All parts of all collections.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.collections.iter().flat_map(|c| &c.parts)
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        Totals {
            collections: self.collections.len() as u64,
            parts: self.parts().count() as u64,
            rows: self.parts().map(|p| p.rows).sum(),
            bytes: self.parts().map(|p| p.size).sum(),
        }
    }
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Integrity, format!("manifest.json: {what}"))
}

fn check_collection(collection: &CollectionResult) -> Result<()> {
    let meta = &collection.meta;
    keys::check_name("database", &meta.name.database)?;
    keys::check_name("collection", &meta.name.name)?;
    let mut partitions = HashSet::new();
    for partition in &meta.partitions {
        keys::check_name("partition", partition)?;
        if !partitions.insert(partition.as_str()) {
            return Err(Error::new(ErrorKind::Integrity, format!("partition {partition:?} is listed twice")));
        }
    }
    for alias in &meta.aliases {
        keys::check_name("alias", alias)?;
    }
    let rows = check_parts(meta, &collection.parts)?;
    if collection.counts.server != rows.saturating_add(collection.counts.shared_keys)
        && collection.consistency != Consistency::Unchecked
    {
        return Err(Error::new(
            ErrorKind::Integrity,
            format!("its parts hold {rows} rows, but the counts say {:?}", collection.counts),
        ));
    }
    Ok(())
}

/// Checks all that can be said of parts of one collection without reading them; gives their rows.
/// `parts` are in unit and key order.
pub(super) fn check_parts(meta: &CollectionMeta, parts: &[Part]) -> Result<u64> {
    let partitions: HashSet<&str> = meta.partitions.iter().map(String::as_str).collect();
    let integer_keys = meta.schema.primary_key().kind == FieldType::Int64;
    let mut rows: u64 = 0;
    let mut ends: HashMap<Option<&str>, &Key> = HashMap::new();
    for part in parts {
        let fail = |what: &str| Err(Error::new(ErrorKind::Integrity, format!("part {:?} {what}", part.key)));
        keys::check_part(
            &part.key,
            &meta.name.database,
            &meta.name.name,
            part.partition.as_deref(),
            part.sha256,
        )?;
        if part.partition.as_deref().is_some_and(|p| !partitions.contains(p)) {
            return fail("is of a partition that the collection does not have");
        }
        if part.rows == 0 || part.rows > MAX_PART_ROWS || part.size == 0 || part.size > MAX_PART_BYTES {
            return fail("has an impossible size");
        }
        let typed = matches!(part.first, Key::Int(_)) == integer_keys
            && matches!(part.last, Key::Int(_)) == integer_keys;
        if !typed || part.first > part.last {
            return fail("has an impossible key range");
        }
        // Within a partition parts stand in key order: a key in two of them would double its row.
        if ends.insert(part.partition.as_deref(), &part.last).is_some_and(|end| *end >= part.first) {
            return fail("overlaps the part before it");
        }
        let possible = |(name, count): (&String, &u64)| {
            let nullable = meta.schema.fields.iter().any(|field| field.nullable && field.name == *name);
            nullable && (1..=part.rows).contains(count)
        };
        if !part.nulls.iter().all(possible) {
            return fail("has nulls where none can be");
        }
        rows += part.rows;
    }
    Ok(rows)
}

/// SHA256SUMS: manifest.json and every part, as `sha256sum -c` reads it.
pub fn sums_document(manifest: &ObjectRef, parts: &Manifest) -> Vec<u8> {
    let mut lines = format!("{}  {}\n", manifest.sha256, manifest.key);
    for part in parts.parts() {
        lines.push_str(&format!("{}  {}\n", part.sha256, part.key));
    }
    lines.into_bytes()
}
