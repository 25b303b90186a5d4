//! PLAN.json and unit receipts: what an export means to do, and what each unit has done.

use super::manifest::Part;
use super::{FORMAT_VERSION, wire};
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::schema::{CollectionName, Key, Schema};
use std::collections::BTreeMap;

/// The server that a snapshot was taken from. No address: a snapshot does not say where it came
/// from in terms of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// `milvus`, `milvus-lite` or `unknown`.
    pub kind: String,
    /// The server's own words, such as `v2.3.5-lite`; may be empty.
    pub version: String,
}

/// What the user asked for: a resumed export must ask for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `-c` patterns as `database.pattern`; empty: everything.
    pub include: Vec<String>,
    /// `--exclude` patterns as `database.pattern`.
    pub exclude: Vec<String>,
    /// Bytes of Parquet after which a part ends.
    pub part_size: u64,
    /// Whether writes during the export are accepted and recorded rather than refused.
    pub allow_writes: bool,
}

/// An index of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The indexed field.
    pub field: String,
    /// The index' name.
    pub name: String,
    /// `index_type`, `metric_type` and parameters in the server's spelling.
    pub params: BTreeMap<String, String>,
}

/// All that is known of a collection before its rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionMeta {
    /// Database and name.
    pub name: CollectionName,
    /// In our terms.
    pub schema: Schema,
    /// The server's own `DescribeCollectionResponse`, byte for byte.
    pub described: Vec<u8>,
    /// The server's id of this very collection: tells a dropped and recreated one.
    pub collection_id: i64,
    /// Shards on the source.
    pub shards: i32,
    /// Partitions in the server's order. With a partition key they are listed, but rows are not
    /// attributed to them.
    pub partitions: Vec<String>,
    /// Indexes as they were on the source.
    pub indexes: Vec<Index>,
    /// Other names of the collection.
    pub aliases: Vec<String>,
    /// Collection properties in the server's spelling.
    pub properties: BTreeMap<String, String>,
    /// The server timestamp every page is read at, where the server can pin.
    pub pin: Option<u64>,
}

/// A database of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Name.
    pub name: String,
    /// In the server's spelling.
    pub properties: BTreeMap<String, String>,
}

/// A scan range that one worker exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `u00001`, ...
    pub id: String,
    /// Position in [`Plan::collections`].
    pub collection: usize,
    /// The partition to read; `None`: all of them at once.
    pub partition: Option<String>,
    /// Only rows with a greater key.
    pub after: Option<Key>,
    /// Only rows with at most this key.
    pub up_to: Option<Key>,
}

/// What an export means to do. Written before anything else and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A random UUID: the snapshot's identity, and what tells two racing exporters apart.
    pub id: String,
    /// RFC 3339, UTC, seconds.
    pub created: String,
    /// Name and version of the tool.
    pub tool: String,
    /// Where the rows come from.
    pub source: SourceInfo,
    /// What was asked for.
    pub request: Request,
    /// The databases of the collections.
    pub databases: Vec<Database>,
    /// In the order they are reported.
    pub collections: Vec<CollectionMeta>,
    /// Every range of every collection, exactly once.
    pub units: Vec<Unit>,
}

impl Plan {
    /// As stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        wire::to_bytes(&wire::Plan::from(self))
    }

    /// Parses and checks.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        wire::check_version("PLAN.json", bytes)?;
        let plan: Plan = wire::parse::<wire::Plan>("PLAN.json", bytes)?.try_into()?;
        for (index, unit) in plan.units.iter().enumerate() {
            if unit.id != super::keys::unit_id(index) || unit.collection >= plan.collections.len() {
                return Err(Error::new(
                    ErrorKind::Integrity,
                    format!("PLAN.json: unit {:?} is out of place", unit.id),
                ));
            }
        }
        Ok(plan)
    }
}

/// What a unit has exported. Its existence says that the unit is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The plan it belongs to.
    pub plan_id: String,
    /// The unit.
    pub unit: String,
    /// In key order.
    pub parts: Vec<Part>,
    /// Rows of all parts.
    pub rows: u64,
    /// SHA-256 over the unit's keys in order (see `docs/format.md`): what the completeness check
    /// compares with a second scan.
    pub keys_sha256: Sha256,
}

impl Receipt {
    /// As stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        wire::to_bytes(&wire::Receipt::from(self))
    }

    /// Parses and checks that it is a receipt of `unit` of `plan`.
    pub fn parse(bytes: &[u8], plan: &Plan, unit: &Unit) -> Result<Self> {
        let name = super::keys::receipt(&unit.id);
        wire::check_version(&name, bytes)?;
        let receipt: Receipt = wire::parse::<wire::Receipt>(&name, bytes)?.try_into()?;
        let wrong = |what: &str| Err(Error::new(ErrorKind::Integrity, format!("{name}: {what}")));
        if receipt.plan_id != plan.id || receipt.unit != unit.id {
            let what = format!("{name}: it is a receipt of another export");
            return Err(Error::new(Code::PrefixTaken, what)
                .hint("two exports write to this place, or it was altered: export under another name"));
        }
        if receipt.parts.iter().any(|part| part.partition != unit.partition) {
            return wrong("it has a part of another partition");
        }
        let (first, last) = (receipt.parts.first(), receipt.parts.last());
        let outside = first.zip(unit.after.as_ref()).is_some_and(|(part, after)| part.first <= *after)
            || last.zip(unit.up_to.as_ref()).is_some_and(|(part, up_to)| part.last > *up_to);
        if outside {
            return wrong("it has keys outside of its range");
        }
        let rows = super::manifest::check_parts(&plan.collections[unit.collection], &receipt.parts)
            .map_err(|e| e.context(name.clone()))?;
        if receipt.rows != rows {
            return wrong("its rows are not the sum of its parts");
        }
        Ok(receipt)
    }
}

pub(super) fn version_is_known(version: u32, what: &str) -> Result<()> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    Err(Error::new(
        Code::Format,
        format!("{what} has format version {version}; this build reads version {FORMAT_VERSION}"),
    )
    .hint("use a newer milvus-handoff to read this snapshot"))
}
