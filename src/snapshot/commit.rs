//! COMMIT.json: the small object written last that makes a snapshot exist.

use super::wire;
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};

/// An object that is known by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Relative key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole object.
    pub sha256: Sha256,
}

impl ObjectRef {
    /// A reference to `bytes` under `key`.
    pub fn to(key: &str, bytes: &[u8]) -> Self {
        ObjectRef { key: key.to_string(), size: bytes.len() as u64, sha256: Sha256::of(bytes) }
    }

    /// Checks that `bytes` are the object that was referred to.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let found = ObjectRef::to(&self.key, bytes);
        if found == *self {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Integrity,
            format!(
                "{} is not what was committed: expected {} bytes with sha256 {}, found {} bytes with sha256 {}",
                self.key, self.size, self.sha256, found.size, found.sha256
            ),
        )
        .hint("the snapshot was altered or damaged; do not use it, and get it again from the exporter"))
    }
}

/// What a snapshot holds altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Collections, empty ones included.
    pub collections: u64,
    /// Parquet files.
    pub parts: u64,
    /// Rows of all parts.
    pub rows: u64,
    /// Bytes of all parts.
    pub bytes: u64,
}

/// What makes the snapshot exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The snapshot's id, as in the plan.
    pub id: String,
    /// What a reader must know beyond the format version.
    pub features: Vec<String>,
    /// manifest.json.
    pub manifest: ObjectRef,
    /// SHA256SUMS.
    pub sums: ObjectRef,
    /// For people and for a first estimate; the manifest decides.
    pub totals: Totals,
}

impl Commit {
    /// As stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        wire::to_bytes(&wire::Commit::from(self))
    }

    /// Parses and checks. A newer format version and unknown features are refused by name.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        wire::check_version(super::keys::COMMIT, bytes)?;
        let commit: Commit = wire::parse::<wire::Commit>(super::keys::COMMIT, bytes)?.into();
        if let Some(unknown) = commit.features.iter().find(|f| !super::KNOWN_FEATURES.contains(&f.as_str())) {
            return Err(Error::new(
                Code::Format,
                format!("the snapshot needs the feature {unknown:?}, which this build does not know"),
            )
            .hint("use a newer milvus-handoff to read this snapshot"));
        }
        if commit.manifest.key != super::keys::MANIFEST || commit.sums.key != super::keys::SUMS {
            return Err(Error::new(ErrorKind::Integrity, "COMMIT.json: it leads to objects of other names"));
        }
        Ok(commit)
    }
}
