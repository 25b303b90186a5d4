//! Opening a committed snapshot: from COMMIT.json to a manifest that can be believed.
//!
//! Owns: the way a reader goes, and what it refuses. Does not own: the documents (`snapshot`) or
//! looking at parts (`verify`, `import`).

use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::signature::{self, Found, PublicKey, State};
use crate::snapshot::{Commit, MAX_COMMIT_BYTES, MAX_MANIFEST_BYTES, Manifest, keys};
use crate::store::Store;
use bytes::Bytes;

/// Why a snapshot is to be believed, beyond that it agrees with itself.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The digest that COMMIT.json must have.
    pub expect: Option<Sha256>,
    /// Keys of which at least one must have signed COMMIT.json; none: signatures are not asked for.
    pub keys: Vec<PublicKey>,
}

/// A snapshot whose commit and manifest were read and checked.
pub struct Opened {
    /// What makes it exist.
    pub commit: Commit,
    /// COMMIT.json as stored.
    pub commit_bytes: Bytes,
    /// SHA-256 of COMMIT.json: the one value that stands for all of the snapshot.
    pub digest: Sha256,
    /// What it holds.
    pub manifest: Manifest,
    /// Signatures that were looked at because of trusted keys; at least one of them is valid.
    pub signatures: Vec<Found>,
}

impl Opened {
    /// What to say of trusted keys' signatures that are not valid, beside one that is.
    pub fn signature_warnings(&self) -> Vec<String> {
        let wrong = |found: &Found| match &found.state {
            State::Invalid(why) => Some(format!("{}: {why}", found.object)),
            _ => None,
        };
        self.signatures.iter().filter_map(wrong).collect()
    }
}

/// Opens the snapshot in `store`, if COMMIT.json is as `trust` asks.
pub async fn open(store: &dyn Store, trust: &Trust) -> Result<Opened> {
    read(store, trust).await.map_err(|error| match error.kind() {
        ErrorKind::Integrity => error
            .hint("the snapshot was altered or damaged; do not use it, and get it again from the exporter"),
        ErrorKind::Unsupported => error.hint("use a newer milvus-handoff to read this snapshot"),
        _ => error,
    })
}

async fn read(store: &dyn Store, trust: &Trust) -> Result<Opened> {
    let commit_bytes = match store.get(keys::COMMIT, MAX_COMMIT_BYTES).await? {
        Some(bytes) => bytes,
        None => return Err(not_committed(store).await?),
    };
    let digest = Sha256::of(&commit_bytes);
    if let Some(expected) = trust.expect.filter(|expected| *expected != digest) {
        return Err(Error::new(
            Code::Digest,
            format!("COMMIT.json has sha256 {digest}, expected was {expected}"),
        )
        .hint("this is not the snapshot that was announced: ask the exporter for the digest that `export` printed"));
    }
    let signatures = match trust.keys.as_slice() {
        [] => Vec::new(),
        keys => signature::require(store, &commit_bytes, keys).await?,
    };
    let commit = Commit::parse(&commit_bytes)?;
    for object in [&commit.manifest, &commit.sums] {
        if object.size > MAX_MANIFEST_BYTES {
            let what = format!(
                "COMMIT.json announces {} of {} bytes, which no export writes",
                object.key, object.size
            );
            return Err(Error::new(ErrorKind::Integrity, what));
        }
    }
    let manifest_bytes = store.get(keys::MANIFEST, commit.manifest.size).await?.ok_or_else(|| {
        Error::new(ErrorKind::Integrity, "manifest.json is missing although the snapshot is committed")
            .hint("the snapshot was altered or only partly copied; get it again from the exporter")
    })?;
    commit.manifest.check(&manifest_bytes)?;
    let manifest = Manifest::parse(&manifest_bytes)?;
    if manifest.id != commit.id || manifest.totals() != commit.totals {
        return Err(Error::new(
            ErrorKind::Integrity,
            "COMMIT.json and manifest.json speak of different snapshots",
        ));
    }
    for collection in &manifest.collections {
        let meta = &collection.meta;
        let described = crate::milvus::read_described(&meta.described)
            .context(|| format!("manifest.json: {}", meta.name))?;
        if described != meta.schema {
            let what = format!("manifest.json: the two descriptions of {} contradict each other", meta.name);
            return Err(Error::new(ErrorKind::Integrity, what));
        }
    }
    Ok(Opened { commit, commit_bytes, digest, manifest, signatures })
}

async fn not_committed(store: &dyn Store) -> Result<Error> {
    let begun = store.head(keys::PLAN).await?.is_some();
    Ok(if begun {
        let what = format!("the snapshot {} is not committed: its export has not finished", store.place());
        Error::new(Code::NotCommitted, what).hint(
            "run the same `export` command again, it goes on from where it stopped; if you do not export, ask the exporter: COMMIT.json may also have been removed",
        )
    } else {
        let what = format!("there is no snapshot at {}: COMMIT.json does not exist", store.place());
        Error::new(Code::NoSnapshot, what).hint("check the URL: it is the one that was given to `export`")
    })
}
