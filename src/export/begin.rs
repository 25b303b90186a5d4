//! Step 6: writing the plan, or taking up the work of an earlier run.

use super::unit::holds;
use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
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
    /// Whether the bucket keeps one export from overwriting what another wrote.
    pub exclusive: bool,
}

/// What `read` gives, `None` where these credentials may not know: a write-only exporter may not
/// read, and whoever may not list is told "denied" of every object that is not there.
pub fn if_allowed<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(e) if e.kind() == ErrorKind::Denied => Ok(None),
        read => read,
    }
}

/// A committed snapshot is never touched.
pub async fn refuse_committed(store: &dyn Store) -> Result<()> {
    match if_allowed(store.get(keys::COMMIT, MAX_COMMIT_BYTES).await)? {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(Code::PrefixTaken, format!("{} is a committed snapshot already", store.place()))
                .hint("export under another name, or remove that snapshot first"))
        }
    }
}

/// Writes `plan`, or adopts the plan that is there if it means the same export.
pub async fn begin(plan: Plan, store: &dyn Store) -> Result<Begun> {
    let blind = match store.get(keys::PLAN, MAX_PLAN_BYTES).await {
        Ok(Some(bytes)) => return resume(plan, bytes.to_vec(), store).await,
        Ok(None) => false,
        Err(e) if e.kind() == ErrorKind::Denied => true,
        Err(e) => return Err(e),
    };
    if blind && !store.keeps_existing().await? {
        let what = format!(
            "{} ignores create-only puts and these credentials may not read it, so a snapshot that is there could be \
             overwritten",
            store.place()
        );
        return Err(Error::new(Code::BucketCannot, what).hint(
            "allow s3:GetObject and s3:ListBucket too, or use a bucket that honours `If-None-Match: *`",
        ));
    }
    refuse_strangers(store).await?;
    let bytes = plan.to_bytes()?;
    let digest = Sha256::of(&bytes);
    if store.put_new(keys::PLAN, Body::Bytes(bytes.clone().into()), digest).await? == Put::Exists {
        return Err(if blind { taken(store) } else { other(store) });
    }
    let (exclusive, bucket_limits) = limits(&bytes, store).await?;
    let begun = Begun { plan, plan_bytes: bytes, done: BTreeMap::new(), bucket_limits, exclusive };
    begun.still_ours(store).await?;
    Ok(begun)
}

fn other(store: &dyn Store) -> Error {
    Error::new(Code::PrefixTaken, format!("another export to {} has just begun", store.place()))
        .hint("wait for it, or export under another name")
}

/// There is a plan that may not be read.
fn taken(store: &dyn Store) -> Error {
    let what = format!("{} is taken, and these credentials may not read what is there", store.place());
    Error::new(Code::PrefixTaken, what)
        .hint("export under another name; to go on with an interrupted export, allow s3:GetObject")
}

impl Begun {
    /// Asked before every put: whether the prefix is still this export's. On a bucket that keeps
    /// exports apart it is, and nothing is asked.
    pub async fn may_put(&self, store: &dyn Store) -> Result<()> {
        if self.exclusive { Ok(()) } else { self.still_ours(store).await }
    }

    /// On a bucket that lets one export overwrite another's plan, the plan says whose the prefix
    /// is: whoever finds another one there stops.
    pub async fn still_ours(&self, store: &dyn Store) -> Result<()> {
        match store.get(keys::PLAN, MAX_PLAN_BYTES).await {
            Ok(found) if found.as_deref() == Some(self.plan_bytes.as_slice()) => Ok(()),
            Ok(Some(_)) => Err(other(store)),
            Ok(None) => {
                let what = format!("{} is gone: it was written at the start of this export", keys::PLAN);
                Err(Error::new(ErrorKind::Integrity, what)
                    .hint("something removes objects from this prefix; export under another name"))
            }
            // Only a bucket that keeps exports apart is written to by those who may not read it.
            Err(e) if e.kind() == ErrorKind::Denied && self.exclusive => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// A snapshot has its prefix to itself: what is there already would be taken for a part of it.
async fn refuse_strangers(store: &dyn Store) -> Result<()> {
    match store.list().try_next().await {
        Ok(None) => Ok(()),
        // A write-only exporter may not list.
        Err(e) if e.kind() == ErrorKind::Denied => Ok(()),
        Err(e) => Err(e),
        Ok(Some(entry)) => Err(Error::new(
            Code::PrefixTaken,
            format!("{} is not empty: it holds {}", store.place(), entry.key),
        )
        .hint("give the snapshot a name of its own, such as a new folder below this one")),
    }
}

/// Whether the bucket keeps exports apart, and what it cannot do; found by writing the plan's own
/// bytes once more and asking for its digest: no probe object, and no right that an exporter would
/// not need anyway.
async fn limits(plan_bytes: &[u8], store: &dyn Store) -> Result<(bool, Vec<String>)> {
    let digest = Sha256::of(plan_bytes);
    let mut limits = Vec::new();
    let again = Body::Bytes(plan_bytes.to_vec().into());
    let exclusive = store.put_new(keys::PLAN, again, digest).await? == Put::Exists;
    if !exclusive {
        store.look_before_put();
        limits.push(
            "the bucket ignores create-only puts: two exports to the same name at the same time are not kept apart"
                .to_string(),
        );
    }
    match store.head(keys::PLAN).await {
        Ok(head) if head.is_none_or(|head| head.sha256 == Some(digest)) => {}
        Ok(_) => limits.push(
            "the bucket does not return SHA-256 checksums: `verify --level head` can only compare sizes"
                .to_string(),
        ),
        Err(e) if e.kind() == ErrorKind::Denied => limits.push(
            "the exporter could not read the bucket, so what it wrote was not looked at: `verify` does that"
                .to_string(),
        ),
        Err(e) => return Err(e),
    }
    Ok((exclusive, limits))
}

async fn resume(wanted: Plan, bytes: Vec<u8>, store: &dyn Store) -> Result<Begun> {
    let plan = Plan::parse(&bytes)?;
    if let Some(difference) = difference(&wanted, &plan) {
        return Err(Error::new(
            Code::PrefixTaken,
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
    let (exclusive, bucket_limits) = limits(&bytes, store).await?;
    Ok(Begun { plan, plan_bytes: bytes, done, bucket_limits, exclusive })
}

/// The receipt of a unit, `None` if it is not done.
pub async fn read_receipt(plan: &Plan, unit: &Unit, store: &dyn Store) -> Result<Option<Receipt>> {
    let key = keys::receipt(&unit.id);
    match if_allowed(store.get(&key, MAX_RECEIPT_BYTES).await)? {
        None => Ok(None),
        Some(bytes) => Receipt::parse(&bytes, plan, unit).map(Some),
    }
}

/// A receipt speaks of parts that were put before it; if one is not there as it was, somebody else
/// was here. By the bucket's digests where it has any, else by reading: an export that goes on
/// must not vouch for what happened in between.
async fn check_parts_exist(receipt: &Receipt, store: &dyn Store) -> Result<()> {
    for part in &receipt.parts {
        let head = store.head(&part.key).await.context(|| format!("checking {}", part.key))?;
        let is_there = match head {
            Some(head) if head.size == part.size => {
                head.sha256 == Some(part.sha256) || holds(&part.key, part.size, part.sha256, store).await?
            }
            _ => false,
        };
        if !is_there {
            let what = format!("{} of the unfinished export is missing or has another content", part.key);
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
