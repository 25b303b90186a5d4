//! Step 6: writing the plan, or taking up the work of an earlier run.

use super::unit::holds;
use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::nesting::refuse_within;
use crate::snapshot::{
    CollectionMeta, MAX_COMMIT_BYTES, MAX_PLAN_BYTES, MAX_RECEIPT_BYTES, Plan, Receipt, Request, Unit, keys,
};
use crate::store::{Body, Put, Store};
use futures::stream::{self, StreamExt, TryStreamExt};
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

/// The plan that is in the bucket already, if there is one and it may be read.
pub enum Found {
    /// None, as far as can be seen; `blind`: these credentials may not look.
    Nothing {
        /// Whether something may be there all the same.
        blind: bool,
    },
    /// That of an earlier run, or of whoever made it for all workers.
    Plan(Box<Plan>, Vec<u8>),
}

/// Looks for the plan of an earlier run.
pub async fn find(store: &dyn Store) -> Result<Found> {
    match store.get(keys::PLAN, MAX_PLAN_BYTES).await {
        Ok(Some(bytes)) => Ok(Found::Plan(Box::new(Plan::parse(&bytes)?), bytes.to_vec())),
        Ok(None) => Ok(Found::Nothing { blind: false }),
        Err(e) if e.kind() == ErrorKind::Denied => Ok(Found::Nothing { blind: true }),
        Err(e) => Err(e),
    }
}

/// Writes `plan`, which makes the place this export's; `None` if somebody else was faster. `blind`
/// is what [`find`] said.
pub async fn write(plan: Plan, blind: bool, store: &dyn Store) -> Result<Option<Begun>> {
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
    refuse_within(store).await?;
    let bytes = plan.to_bytes()?;
    let digest = Sha256::of(&bytes);
    if store.put_new(keys::PLAN, Body::Bytes(bytes.clone().into()), digest).await? == Put::Exists {
        return if blind { Err(taken(store)) } else { Ok(None) };
    }
    let (exclusive, bucket_limits) = limits(&bytes, store).await?;
    let begun = Begun { plan, plan_bytes: bytes, done: BTreeMap::new(), bucket_limits, exclusive };
    begun.still_ours(store).await?;
    Ok(Some(begun))
}

/// Somebody else began at the same moment.
pub fn other(store: &dyn Store) -> Error {
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
    /// The units that are `wanted` and have no receipt yet, in the order of the plan.
    pub fn to_do(&self, wanted: impl Fn(&Unit) -> bool) -> Vec<&Unit> {
        let open = |unit: &&Unit| wanted(unit) && !self.done.contains_key(&unit.id);
        self.plan.units.iter().filter(open).collect()
    }

    /// The receipts that were there and the `fresh` ones, in the order of the plan.
    pub fn with_receipts(&self, fresh: Vec<Receipt>) -> Vec<Receipt> {
        let mut receipts = self.done.clone();
        receipts.extend(fresh.into_iter().map(|receipt| (receipt.unit.clone(), receipt)));
        self.plan.units.iter().filter_map(|unit| receipts.remove(&unit.id)).collect()
    }

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
        // Somebody else has just begun: the put decides.
        Ok(Some(_)) if if_allowed(store.head(keys::PLAN).await)?.is_some() => Ok(()),
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

/// What the export would find at its place, refused as it would: for a plan, which writes nothing.
/// The plan that is there, if it is one to go on with.
pub async fn look(store: &dyn Store) -> Result<Option<Box<Plan>>> {
    match find(store).await? {
        Found::Plan(plan, _) => Ok(Some(plan)),
        Found::Nothing { .. } => {
            refuse_strangers(store).await?;
            refuse_within(store).await?;
            Ok(None)
        }
    }
}

/// How often a bucket is asked before it is said to ignore create-only puts.
const PROBES: usize = 4;

/// Whether the bucket keeps exports apart, and what it cannot do; found by writing the plan's own
/// bytes once more and asking for its digest: no probe object, and no right that an exporter would
/// not need anyway.
async fn limits(plan_bytes: &[u8], store: &dyn Store) -> Result<(bool, Vec<String>)> {
    let digest = Sha256::of(plan_bytes);
    let mut limits = Vec::new();
    let probe = || async {
        let again = Body::Bytes(plan_bytes.to_vec().into());
        Ok::<_, Error>(store.put_new(keys::PLAN, again, digest).await? == Put::Exists)
    };
    let mut exclusive = probe().await?;
    for _ in 1..PROBES {
        // A refusal whose reply is lost looks like a success: the bytes there are ours.
        let still_there = if_allowed(store.get(keys::PLAN, MAX_PLAN_BYTES).await)?;
        if exclusive || still_there.as_deref() != Some(plan_bytes) {
            break;
        }
        exclusive = probe().await?;
    }
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

/// Takes up a plan that is there, and the receipts of those of its units that are `wanted`.
pub async fn take_up(
    plan: Plan,
    plan_bytes: Vec<u8>,
    wanted: impl Fn(&Unit) -> bool,
    store: &dyn Store,
) -> Result<Begun> {
    let of = &plan;
    let read = |unit| async move {
        let receipt = read_receipt(of, unit, store).await?;
        if let Some(receipt) = &receipt {
            check_parts_exist(receipt, store).await?;
        }
        Ok::<_, Error>(receipt)
    };
    let receipts = stream::iter(plan.units.iter().filter(|unit| wanted(unit)).map(read));
    let receipts: Vec<_> = receipts.buffered(RECEIPTS_AT_ONCE).try_collect().await?;
    let done: BTreeMap<_, _> = receipts.into_iter().flatten().map(|r| (r.unit.clone(), r)).collect();
    let (exclusive, bucket_limits) = limits(&plan_bytes, store).await?;
    Ok(Begun { plan, plan_bytes, done, bucket_limits, exclusive })
}

/// Receipts that are read at the same time: each is a small object and a few questions.
const RECEIPTS_AT_ONCE: usize = 16;

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

/// Refuses to go on with a plan that was made for other wishes.
pub fn same_request(wanted: &Request, found: &Plan, store: &dyn Store) -> Result<()> {
    match *wanted == found.request {
        true => Ok(()),
        false => Err(not_this_one("it selects other collections or has other options", store)),
    }
}

/// Refuses to go on with the plan of another source. Units may differ: those of the earlier run
/// count. So may pins: rows are read as of the earlier one.
pub fn same_source(wanted: &[CollectionMeta], found: &Plan, store: &dyn Store) -> Result<()> {
    let without_volatile = |meta: &CollectionMeta| CollectionMeta {
        pin: None,
        described: Vec::new(),
        indexes: Vec::new(),
        ..meta.clone()
    };
    if wanted.len() != found.collections.len() {
        return Err(not_this_one("the source has other collections now", store));
    }
    let mut pairs = wanted.iter().zip(&found.collections);
    match pairs.find(|(a, b)| without_volatile(a) != without_volatile(b)) {
        Some((changed, _)) => Err(not_this_one(&format!("{} was changed since", changed.name), store)),
        None => Ok(()),
    }
}

fn not_this_one(difference: &str, store: &dyn Store) -> Error {
    let what = format!("{} holds an unfinished export, and it is not this one: {difference}", store.place());
    Error::new(Code::PrefixTaken, what)
        .hint("run the same command as then to finish it, or export under another name")
}
