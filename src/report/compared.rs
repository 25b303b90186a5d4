//! The result of a comparison, read from the document that `compare --json` printed. Pure.
//!
//! It comes from a file that anybody may have written: what it says is shown as what it says, and
//! nothing is concluded from it but what it concludes itself.

use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::CollectionName;
use serde::Deserialize;
use serde_json::Value;

/// What a server had of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Of the COMMIT.json that was compared.
    pub snapshot: Sha256,
    /// The server, in its own words.
    pub target: String,
    /// How closely was looked: `count`, `sample` or `full`.
    pub level: String,
    /// By collection.
    pub collections: Vec<ComparedCollection>,
    /// All differences.
    pub differences: u64,
    /// The first of them.
    pub findings: Vec<Difference>,
    /// What the comparison warned of.
    pub warnings: Vec<String>,
}

/// What a server had of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedCollection {
    /// In the snapshot.
    pub source: CollectionName,
    /// On the server.
    pub target: CollectionName,
    /// The server's `count(*)`.
    pub rows: u64,
    /// Rows whose fields were compared.
    pub rows_compared: u64,
    /// Differences of any kind.
    pub differences: u64,
    /// Rows by partition, where they were counted.
    pub partitions: Vec<(String, u64)>,
}

/// One difference, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Such as `missing-row`.
    pub kind: String,
    /// The collection on the server.
    pub collection: String,
    /// What differs: a field, a key, a partition.
    pub place: String,
    /// In the snapshot.
    pub snapshot: String,
    /// On the server.
    pub target: String,
}

#[derive(Deserialize)]
struct Document {
    version: u64,
    command: String,
    error: Option<Failure>,
    snapshot: Option<Snapshot>,
    target: Option<Target>,
    level: Option<String>,
    #[serde(default)]
    collections: Vec<Collection>,
    #[serde(default)]
    differences: u64,
    #[serde(default)]
    findings: Vec<Finding>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

#[derive(Deserialize)]
struct Snapshot {
    commit_sha256: String,
}

#[derive(Deserialize)]
struct Target {
    version: String,
}

#[derive(Deserialize)]
struct Name {
    database: String,
    name: String,
}

#[derive(Deserialize)]
struct Collection {
    source: Name,
    target: Name,
    server_rows: u64,
    rows_compared: u64,
    partitions: Vec<Partition>,
    findings: Totals,
}

#[derive(Deserialize)]
struct Partition {
    name: String,
    server_rows: u64,
}

#[derive(Deserialize)]
struct Totals {
    schema: u64,
    count: u64,
    missing_rows: u64,
    extra_rows: u64,
    changed_fields: u64,
}

#[derive(Deserialize)]
struct Finding {
    kind: String,
    collection: Name,
    subject: Option<String>,
    partition: Option<String>,
    key: Option<Value>,
    field: Option<String>,
    snapshot: Option<Value>,
    server: Option<Value>,
}

/// The version of the documents that are read.
const VERSION: u64 = 1;

impl Compared {
    /// Parses the document.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(ErrorKind::Usage, what)
                .hint("give a file that `milvus-handoff compare SNAPSHOT --target URI --json` has printed")
        };
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| wrong("it is not the result of a comparison".into()).because(e))?;
        if document.command != "compare" || document.version != VERSION {
            let (command, version) = (document.command, document.version);
            return Err(wrong(format!(
                "it is the result of {command:?} in version {version}, not of a comparison in version {VERSION}"
            )));
        }
        if let Some(failure) = document.error {
            return Err(wrong(format!("that comparison did not come to its end: {}", failure.message)));
        }
        let (Some(snapshot), Some(target), Some(level)) =
            (document.snapshot, document.target, document.level)
        else {
            return Err(wrong("it does not say what was compared with what".into()));
        };
        Ok(Compared {
            snapshot: Sha256::parse(&snapshot.commit_sha256)?,
            target: target.version,
            level,
            collections: document.collections.into_iter().map(ComparedCollection::from).collect(),
            differences: document.differences,
            findings: document.findings.into_iter().map(Difference::from).collect(),
            warnings: document.warnings,
        })
    }

    /// What it says of a collection of the snapshot.
    pub fn of(&self, source: &CollectionName) -> Option<&ComparedCollection> {
        self.collections.iter().find(|collection| collection.source == *source)
    }
}

impl From<Name> for CollectionName {
    fn from(name: Name) -> Self {
        CollectionName::new(name.database, name.name)
    }
}

impl From<Collection> for ComparedCollection {
    fn from(read: Collection) -> Self {
        let Totals { schema, count, missing_rows, extra_rows, changed_fields } = read.findings;
        let differences = [schema, count, missing_rows, extra_rows, changed_fields]
            .into_iter()
            .fold(0, u64::saturating_add);
        ComparedCollection {
            source: read.source.into(),
            target: read.target.into(),
            rows: read.server_rows,
            rows_compared: read.rows_compared,
            differences,
            partitions: read.partitions.into_iter().map(|p| (p.name, p.server_rows)).collect(),
        }
    }
}

impl From<Finding> for Difference {
    fn from(read: Finding) -> Self {
        let said = |value: Option<Value>| match value {
            None | Some(Value::Null) => "–".to_string(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        let mut place: Vec<String> = Vec::new();
        place.extend(read.subject);
        place.extend(read.key.map(|key| format!("key {key}")));
        place.extend(read.field.map(|field| format!("field {field:?}")));
        place.extend(read.partition.map(|partition| format!("partition {partition:?}")));
        let (snapshot, target) = match read.kind.as_str() {
            "missing-row" => ("there".to_string(), "missing".to_string()),
            "extra-row" => ("not there".to_string(), "there".to_string()),
            _ => (said(read.snapshot), said(read.server)),
        };
        Difference {
            kind: read.kind.replace('-', " "),
            collection: CollectionName::from(read.collection).to_string(),
            place: if place.is_empty() { "the whole collection".into() } else { place.join(", ") },
            snapshot,
            target,
        }
    }
}
