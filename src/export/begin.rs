//! Step 6: writing the plan, or taking up the work of an earlier run.

use crate::digest::Sha256;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::snapshot::{
    CollectionMeta, MAX_COMMIT_BYTES, MAX_PLAN_BYTES, MAX_RECEIPT_BYTES, Plan, Receipt, Unit, keys,
};
use crate::store::{Body, Put, Store};
use futures::TryStreamExt;
use std::collections::BTreeMap;

/// An export whose plan is in the bucket.
pub struct Begun {
    /// The plan that counts.
    pub plan: Plan,
    /// Its bytes in the bucket.
    pub plan_bytes: Vec<u8>,
    /// Units that have a receipt already, by id.
    pub done: BTreeMap<String, Receipt>,
    /// What the bucket cannot do, in words.
    pub bucket_limits: Vec<String>,
}

/// A committed snapshot is never touched.
pub async fn refuse_committed(store: &dyn Store) -> Result<()> {
    match store.get(keys::COMMIT, MAX_COMMIT_BYTES).await? {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(ErrorKind::Exists, format!("{} is a committed snapshot already", store.place()))
                .hint("export under another name, or remove that snapshot first"))
        }
    }
}

/// Writes `plan`, or adopts the plan that is there if it means the same export.
pub async fn begin(plan: Plan, store: &dyn Store) -> Result<Begun> {
    if let Some(bytes) = store.get(keys::PLAN, MAX_PLAN_BYTES).await? {
        return resume(plan, bytes.to_vec(), store).await;
    }
    refuse_strangers(store).await?;
    let bytes = plan.to_bytes()?;
    let digest = Sha256::of(&bytes);
    let other = || {
        Error::new(ErrorKind::Exists, format!("another export to {} has just begun", store.place()))
            .hint("wait for it, or export under another name")
    };
    if store.put_new(keys::PLAN, Body::Bytes(bytes.clone().into()), digest).await? == Put::Exists {
        return Err(other());
    }
    let bucket_limits = limits(&bytes, store).await?;
    let found = store.get(keys::PLAN, MAX_PLAN_BYTES).await?;
    if found.as_deref() != Some(bytes.as_slice()) {
        return Err(other());
    }
    Ok(Begun { plan, plan_bytes: bytes, done: BTreeMap::new(), bucket_limits })
}

/// A snapshot has its prefix to itself: what is there already would be taken for a part of it.
async fn refuse_strangers(store: &dyn Store) -> Result<()> {
    match store.list().try_next().await {
        Ok(None) => Ok(()),
        // A write-only exporter may not list.
        Err(e) if e.kind() == ErrorKind::Denied => Ok(()),
        Err(e) => Err(e),
        Ok(Some(entry)) => Err(Error::new(
            ErrorKind::Exists,
            format!("{} is not empty: it holds {}", store.place(), entry.key),
        )
        .hint("give the snapshot a name of its own, such as a new folder below this one")),
    }
}

/// What the bucket cannot do, found by writing the plan's own bytes once more and asking for its
/// digest: no probe object, and no right that an exporter would not need anyway.
async fn limits(plan_bytes: &[u8], store: &dyn Store) -> Result<Vec<String>> {
    let digest = Sha256::of(plan_bytes);
    let mut limits = Vec::new();
    let again = Body::Bytes(plan_bytes.to_vec().into());
    if store.put_new(keys::PLAN, again, digest).await? == Put::Created {
        limits.push(
            "the bucket ignores create-only puts: two exports to the same name at the same time are not kept apart"
                .to_string(),
        );
    }
    if store.head(keys::PLAN).await?.is_some_and(|head| head.sha256 != Some(digest)) {
        limits.push(
            "the bucket does not return SHA-256 checksums: `verify --level head` can only compare sizes"
                .to_string(),
        );
    }
    Ok(limits)
}

async fn resume(wanted: Plan, bytes: Vec<u8>, store: &dyn Store) -> Result<Begun> {
    let plan = Plan::parse(&bytes)?;
    if let Some(difference) = difference(&wanted, &plan) {
        return Err(Error::new(
            ErrorKind::Exists,
            format!("{} holds an unfinished export, and it is not this one: {difference}", store.place()),
        )
        .hint("run the same command as then to finish it, or export under another name"));
    }
    let mut done = BTreeMap::new();
    for unit in &plan.units {
        if let Some(receipt) = read_receipt(&plan, unit, store).await? {
            check_parts_exist(&receipt, store).await?;
            done.insert(unit.id.clone(), receipt);
        }
    }
    tracing::info!(
        "going on with an unfinished export: {} of {} units are done",
        done.len(),
        plan.units.len()
    );
    let bucket_limits = limits(&bytes, store).await?;
    Ok(Begun { plan, plan_bytes: bytes, done, bucket_limits })
}

/// The receipt of a unit, `None` if it is not done.
pub async fn read_receipt(plan: &Plan, unit: &Unit, store: &dyn Store) -> Result<Option<Receipt>> {
    let key = keys::receipt(&unit.id);
    match store.get(&key, MAX_RECEIPT_BYTES).await? {
        None => Ok(None),
        Some(bytes) => Receipt::parse(&bytes, plan, unit).map(Some),
    }
}

/// A receipt speaks of parts that were put before it; if one is gone, somebody removed it.
async fn check_parts_exist(receipt: &Receipt, store: &dyn Store) -> Result<()> {
    for part in &receipt.parts {
        let size =
            store.head(&part.key).await.context(|| format!("checking {}", part.key))?.map(|head| head.size);
        if size != Some(part.size) {
            let what = format!("{} of the unfinished export is missing or has another size", part.key);
            return Err(Error::new(ErrorKind::Integrity, what)
                .hint("something else changes this prefix; export under another name"));
        }
    }
    Ok(())
}

/// In what respect two plans mean different exports, if they do. Units may differ: those of the
/// earlier run count. So may pins: rows are then read as of the earlier one.
fn difference(wanted: &Plan, found: &Plan) -> Option<String> {
    if wanted.request != found.request {
        return Some("it selects other collections or has other options".into());
    }
    let without_volatile = |meta: &CollectionMeta| CollectionMeta {
        pin: None,
        described: Vec::new(),
        indexes: Vec::new(),
        ..meta.clone()
    };
    let differs = |(a, b): (&CollectionMeta, &CollectionMeta)| {
        (without_volatile(a) != without_volatile(b)).then(|| a.name.to_string())
    };
    if wanted.collections.len() != found.collections.len() {
        return Some("the source has other collections now".into());
    }
    let pairs = wanted.collections.iter().zip(&found.collections);
    pairs.filter_map(differs).next().map(|name| format!("{name} was changed since"))
}
