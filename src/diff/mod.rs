//! Diff: in what two snapshots differ, such as last week's and today's, or a copy and its original.
//!
//! Owns: the order of the steps, what of two collections is laid beside each other, and how the
//! answer reads. Does not own: comparing rows (`compare`), or reading snapshots (`opened`).
//!
//! Needs no server and changes nothing. Without `--keys` only manifests are read: a part that both
//! sides have by digest holds the same rows, and one that they do not may hold any. With `--keys` the
//! rows decide: the parts that only one side has are read and laid beside each other by key.

mod meta;
mod shown;

pub use shown::output;

use crate::compare::{self, InSnapshot, SnapshotRows};
use crate::error::{Code, Context, Result};
use crate::opened::{self, Opened, Trust};
use crate::progress::{Progress, Show};
use crate::schema::CollectionName;
use crate::select::{Selection, pick_known};
use crate::snapshot::{CollectionResult, Manifest, Part};
use crate::store::Store;
use meta::Change;
use std::collections::HashSet;
use std::sync::Arc;

/// What to compare and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which collections of both snapshots.
    pub selection: Selection,
    /// Whether rows are compared.
    pub keys: bool,
    /// Findings of each kind that are kept of a collection.
    pub first: usize,
    /// Partitions that are compared together.
    pub jobs: usize,
    /// Whether to show progress.
    pub show: Show,
}

/// What two snapshots have in common and what not.
pub struct Report {
    /// The snapshot that is named first.
    pub a: Opened,
    /// The other one.
    pub b: Opened,
    /// Whether rows were compared.
    pub keys: bool,
    /// Properties of databases that both have.
    pub databases: Vec<Change>,
    /// In the order of the first, then those that only the second has.
    pub collections: Vec<CollectionDiff>,
    /// Wall time.
    pub seconds: f64,
}

/// One collection in both.
pub struct CollectionDiff {
    /// Database and name.
    pub name: CollectionName,
    /// Rows in the first; `None`: it does not have the collection.
    pub a: Option<u64>,
    /// Rows in the second; `None`: it does not have the collection.
    pub b: Option<u64>,
    /// Schema, indexes, properties, partitions and counts.
    pub changes: Vec<Change>,
    /// Parts by digest.
    pub parts: Parts,
    /// What comparing rows has found; `None`: rows were not compared, or cannot be.
    pub rows: Option<SnapshotRows>,
}

/// The parts of a collection, by digest and partition.
#[derive(Debug, Default)]
pub struct Parts {
    /// In both.
    pub same: Amount,
    /// Only in the first.
    pub removed: Amount,
    /// Only in the second.
    pub added: Amount,
}

/// Some parts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub parts: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl CollectionDiff {
    /// All that differs. Rows decide where they were compared, and digests of parts elsewhere.
    pub fn differences(&self) -> u64 {
        if self.a.is_none() || self.b.is_none() {
            return 1;
        }
        let content = match &self.rows {
            Some(rows) => rows.found.all(),
            None => self.parts.removed.parts + self.parts.added.parts,
        };
        self.changes.len() as u64 + content
    }
}

impl Report {
    /// All that differs.
    pub fn differences(&self) -> u64 {
        let collections = self.collections.iter().map(CollectionDiff::differences);
        self.databases.len() as u64 + collections.sum::<u64>()
    }
}

/// Compares the snapshots in two stores. Differences are collected, not returned as an error; a
/// snapshot that cannot be believed is an error.
pub async fn run(options: &Options, stores: [Arc<dyn Store>; 2]) -> Result<Report> {
    // 1. The way from each COMMIT.json to its manifest.
    let [a_store, b_store] = stores;
    let open = async |store: &Arc<dyn Store>| {
        let opened = opened::open(store.as_ref(), &Trust::default()).await;
        opened.map_err(|error| match error.code() {
            // These name the place themselves.
            Code::NoSnapshot | Code::NotCommitted => error,
            _ => error.context(format!("the snapshot {}", store.place())),
        })
    };
    let (a, b) = (open(&a_store).await?, open(&b_store).await?);

    // 2. Which collections.
    let names = names(&a.manifest, &b.manifest, &options.selection)?;

    // 3. What the manifests say, and with --keys the rows.
    let total = options.keys.then(|| a.commit.totals.rows + b.commit.totals.rows);
    let progress = Progress::new("diff", total);
    let mut collections = Vec::new();
    for name in names {
        let (left, right) = (find(&a.manifest, &name), find(&b.manifest, &name));
        let mut diff = collection(&name, left, right);
        if let (true, Some(left), Some(right)) = (options.keys, left, right) {
            let left = InSnapshot { store: a_store.clone(), collection: left };
            let right = InSnapshot { store: b_store.clone(), collection: right };
            let rows = compare::snapshots(&left, &right, options.jobs, options.first, &progress);
            diff.rows = progress.show(options.show, rows).await.context(|| format!("diff of {name}"))?;
        }
        collections.push(diff);
    }
    Ok(Report {
        databases: meta::databases(&a.manifest.databases, &b.manifest.databases, &options.selection),
        keys: options.keys,
        collections,
        seconds: progress.elapsed().as_secs_f64(),
        a,
        b,
    })
}

/// Names of the first in their order, then those that only the second has.
fn names(a: &Manifest, b: &Manifest, selection: &Selection) -> Result<Vec<CollectionName>> {
    let mut all: Vec<_> = a.collections.iter().map(|c| &c.meta).collect();
    let known: HashSet<&CollectionName> = all.iter().map(|meta| &meta.name).collect();
    all.extend(b.collections.iter().map(|c| &c.meta).filter(|meta| !known.contains(&meta.name)));
    if selection.include.is_empty() && selection.exclude.is_empty() {
        return Ok(all.into_iter().map(|meta| meta.name.clone()).collect());
    }
    let picked = pick_known(selection, &all, |meta| &meta.name, |meta| &meta.aliases)?;
    Ok(picked.into_iter().map(|meta| meta.name.clone()).collect())
}

fn find<'a>(manifest: &'a Manifest, name: &CollectionName) -> Option<&'a CollectionResult> {
    manifest.collections.iter().find(|collection| collection.meta.name == *name)
}

/// All that manifests say of a collection.
fn collection(
    name: &CollectionName,
    a: Option<&CollectionResult>,
    b: Option<&CollectionResult>,
) -> CollectionDiff {
    let changes = a.zip(b).map(|(a, b)| meta::changes(a, b)).unwrap_or_default();
    CollectionDiff {
        name: name.clone(),
        a: a.map(CollectionResult::rows),
        b: b.map(CollectionResult::rows),
        changes,
        parts: parts(a.map_or(&[], |a| &a.parts), b.map_or(&[], |b| &b.parts)),
        rows: None,
    }
}

fn parts(a: &[Part], b: &[Part]) -> Parts {
    let identity = |part: &Part| (part.partition.clone(), part.sha256);
    let (in_a, in_b): (HashSet<_>, HashSet<_>) =
        (a.iter().map(identity).collect(), b.iter().map(identity).collect());
    let mut parts = Parts::default();
    for part in a {
        if in_b.contains(&identity(part)) { parts.same.add(part) } else { parts.removed.add(part) }
    }
    b.iter().filter(|part| !in_a.contains(&identity(part))).for_each(|part| parts.added.add(part));
    parts
}

impl Amount {
    fn add(&mut self, part: &Part) {
        self.parts += 1;
        self.rows = self.rows.saturating_add(part.rows);
        self.bytes = self.bytes.saturating_add(part.size);
    }
}
