//! Step 9: leftovers, manifest, sums, signature, commit.

use super::begin::{Begun, if_allowed};
use super::unit::holds;
use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::signature::{self, KeyId, SigningKey};
use crate::snapshot::{
    CollectionResult, Commit, MAX_COMMIT_BYTES, MAX_MANIFEST_BYTES, Manifest, ObjectRef, Plan, Receipt, keys,
    sums_document,
};
use crate::store::{Body, Head, Put, Store};
use futures::{TryStreamExt, stream};
use std::collections::HashSet;

/// A committed snapshot.
pub struct Committed {
    /// What it holds.
    pub manifest: Manifest,
    /// Of COMMIT.json.
    pub digest: Sha256,
    /// The key that signed it.
    pub signed_by: Option<KeyId>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Writes manifest, sums and commit. All three follow from plan, receipts and checks alone, so
/// that doing it twice gives the same bytes. The signature comes before the commit: there is no
/// moment in which the snapshot exists without it.
pub async fn commit(
    begun: &Begun,
    receipts: &[Receipt],
    collections: Vec<CollectionResult>,
    sign: Option<&SigningKey>,
    store: &dyn Store,
) -> Result<Committed> {
    let plan = &begun.plan;
    let mut bookkeeping = vec![ObjectRef::to(keys::PLAN, &begun.plan_bytes)];
    for receipt in receipts {
        bookkeeping.push(ObjectRef::to(&keys::receipt(&receipt.unit), &receipt.to_bytes()?));
    }
    let mut manifest = Manifest {
        id: plan.id.clone(),
        created: plan.created.clone(),
        tool: plan.tool.clone(),
        source: plan.source.clone(),
        bucket_limits: begun.bucket_limits.clone(),
        bookkeeping,
        databases: plan.databases.clone(),
        collections,
    };
    let mut warnings = remove_leftovers(plan, &manifest, store).await?;
    for result in &manifest.collections {
        if result.counts.shared_keys > 0 {
            warnings.push(format!(
                "{}: {} rows share a primary key with a newer row; the server counts them but hands out only the newest, \
                 so they are not in the snapshot",
                result.meta.name, result.counts.shared_keys
            ));
        }
    }

    if let Some(earlier) = earlier_manifest(&manifest, store).await? {
        manifest = earlier;
    }
    begun.still_ours(store).await?;
    let mut bytes = manifest.to_bytes()?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(Error::new(ErrorKind::Unsupported, "the manifest would be larger than readers accept")
            .hint("export fewer collections at once, or with a larger --part-size"));
    }
    // Whoever gets the snapshot has to read it with the same rules.
    Manifest::parse(&bytes).context(|| "the manifest could not be read by anybody")?;
    if let Err(error) = put_same(keys::MANIFEST, bytes.clone(), MAX_MANIFEST_BYTES, store).await {
        // Somebody who commits the same export at the same time may have been faster.
        let theirs = match error.kind() {
            ErrorKind::Exists => earlier_manifest(&manifest, store).await?,
            _ => None,
        };
        manifest = theirs.ok_or(error)?;
        bytes = manifest.to_bytes()?;
        put_same(keys::MANIFEST, bytes.clone(), MAX_MANIFEST_BYTES, store).await?;
    }
    let manifest_ref = ObjectRef::to(keys::MANIFEST, &bytes);
    let sums = sums_document(&manifest_ref, &manifest);
    let sums_ref = ObjectRef::to(keys::SUMS, &sums);
    put_same(keys::SUMS, sums, MAX_MANIFEST_BYTES, store).await?;
    check_what_is_there(&manifest, [&manifest_ref, &sums_ref], store).await?;

    let commit = Commit {
        id: manifest.id.clone(),
        features: Vec::new(),
        manifest: manifest_ref,
        sums: sums_ref,
        totals: manifest.totals(),
    };
    let bytes = commit.to_bytes()?;
    let digest = Sha256::of(&bytes);
    begun.still_ours(store).await?;
    let mut signed_by = None;
    if let Some(key) = sign {
        signature::put(&commit, &bytes, key, store).await?;
        signed_by = Some(key.public()?.id());
    }
    put_same(keys::COMMIT, bytes.clone(), MAX_COMMIT_BYTES, store).await?;
    warnings.extend(check_commit(&bytes, store).await?);
    Ok(Committed { manifest, digest, signed_by, warnings })
}

/// The manifest that an earlier run of this export wrote before it was killed, if it leads to the
/// same parts: its counts were checked too, and may differ where writes are allowed.
async fn earlier_manifest(ours: &Manifest, store: &dyn Store) -> Result<Option<Manifest>> {
    let Some(bytes) = if_allowed(store.get(keys::MANIFEST, MAX_MANIFEST_BYTES).await)? else {
        return Ok(None);
    };
    let earlier = Manifest::parse(&bytes)?;
    let same_parts = earlier.parts().eq(ours.parts()) && earlier.bookkeeping == ours.bookkeeping;
    Ok((earlier.id == ours.id && same_parts).then_some(earlier))
}

/// Objects that are looked at at the same time.
const LOOKS_AT_ONCE: usize = 16;

/// Looks at every object once more before the snapshot is called one: a bucket may have lost what it
/// said it had stored, and somebody may have removed or replaced what was there. By the bucket's
/// digests where it has any, else by sizes; an exporter that may not read knows of neither.
async fn check_what_is_there(
    manifest: &Manifest,
    written_last: [&ObjectRef; 2],
    store: &dyn Store,
) -> Result<()> {
    let parts = manifest.parts().map(|part| (part.key.as_str(), part.size, part.sha256));
    let documents = manifest.bookkeeping.iter().chain(written_last);
    let documents = documents.map(|object| (object.key.as_str(), object.size, object.sha256));
    stream::iter(parts.chain(documents).map(Ok))
        .try_for_each_concurrent(LOOKS_AT_ONCE, |(key, size, sha256)| async move {
            let head = match store.head(key).await {
                Err(e) if e.kind() == ErrorKind::Denied => return Ok(()),
                head => head.context(|| format!("checking {key}"))?,
            };
            let is_there = match head {
                Some(head) if head.size != size => false,
                Some(Head { sha256: None, .. }) => true,
                Some(head) => head.sha256 == Some(sha256) || holds(key, size, sha256, store).await?,
                None => false,
            };
            if is_there { Ok(()) } else { Err(changed(key)) }
        })
        .await
}

/// Reads the commit back: it is what makes a snapshot of all the rest. The bucket has said that it
/// is stored, so if it cannot be read just now, that is said and no failure.
async fn check_commit(bytes: &[u8], store: &dyn Store) -> Result<Option<String>> {
    match store.get(keys::COMMIT, MAX_COMMIT_BYTES).await {
        Ok(found) if found.as_deref() == Some(bytes) => Ok(None),
        Ok(_) => Err(changed(keys::COMMIT)),
        Err(e) if e.kind() == ErrorKind::Denied => Ok(None),
        Err(e) => Ok(Some(format!("the snapshot is committed, and its commit could not be read back: {e}"))),
    }
}

fn changed(key: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("{key} was written, and it is not there as it was written")).hint(
        "the bucket loses objects, or something else changes this prefix: find out what, and export under another name",
    )
}

/// Puts a document whose content is determined; one that is there already must be the same.
async fn put_same(key: &str, bytes: Vec<u8>, max_bytes: u64, store: &dyn Store) -> Result<()> {
    let put = store.put_new(key, Body::Bytes(bytes.clone().into()), Sha256::of(&bytes)).await;
    if put? == Put::Created {
        return Ok(());
    }
    let found = store.get(key, max_bytes).await?;
    if found.as_deref() == Some(bytes.as_slice()) {
        return Ok(());
    }
    Err(Error::new(Code::PrefixTaken, format!("another export has written a different {key}"))
        .hint("export under another name"))
}

/// Parts that a killed run of this export put and no receipt speaks of would look like rows to
/// whoever reads the folder with other tools. They are removed, and nothing else ever is: only
/// what has the name of a part of a unit of this plan. What the bucket does not let us remove is
/// named.
pub async fn remove_leftovers(plan: &Plan, manifest: &Manifest, store: &dyn Store) -> Result<Vec<String>> {
    let is_ours = |key: &str| {
        plan.units.iter().any(|unit| {
            let name = &plan.collections[unit.collection].name;
            let by = keys::unit_of_part(key, &name.database, &name.name, unit.partition.as_deref());
            by == Some(unit.id.as_str())
        })
    };
    let parts: HashSet<&str> = manifest.parts().map(|p| p.key.as_str()).collect();
    let listed: Result<Vec<_>> = store.list().try_collect().await;
    let listed = match listed {
        Ok(listed) => listed,
        // A write-only exporter may not list; it cannot know of leftovers.
        Err(e) if e.kind() == ErrorKind::Denied => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut warnings = Vec::new();
    for entry in listed {
        if parts.contains(entry.key.as_str()) || !is_ours(&entry.key) {
            continue;
        }
        match store.delete(&entry.key).await {
            Ok(()) => tracing::info!("removed {}, which an interrupted run had left", entry.key),
            Err(e) => warnings.push(format!(
                "{} was left by an interrupted run and could not be removed ({e}); `verify` will name it",
                entry.key
            )),
        }
    }
    Ok(warnings)
}
