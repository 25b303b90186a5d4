//! An export on many machines: one makes the plan, each exports its share of the units.
//!
//! Owns: which units are whose, and what holds when nobody knows of the others. Does not own: the
//! steps, which are those of an export in one process, or the end of it (`commit`).
//!
//! Nobody waits for anybody and nobody counts the workers. The plan in the bucket says what is
//! to be done, the receipts say what is done; a share follows from the plan and two numbers. So a
//! worker can be lost, started again, or started twice.

use super::begin::{self, Begun, Found};
use super::unit::Exporter;
use super::{Options, Planned, UNLOADED_HINT, check, choose, go_on, goes_on, plan, progress, reads, request};
use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::loaded::{self, IfUnloaded};
use crate::milvus::Client;
use crate::schema::CollectionName;
use crate::snapshot::{CollectionMeta, Plan, Receipt, Unit};
use crate::stop::Stop;
use crate::store::Store;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// What one process of a sharded export does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shard {
    /// Makes the plan, with enough units for so many workers.
    Plan {
        /// Processes that will work, each on `jobs` units at a time.
        workers: u32,
    },
    /// Exports its share of the units.
    Work(Share),
}

/// One of several shares of the units of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which, counted from 0.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl Share {
    /// The units of this share, by id. Units are dealt like shuffled cards: neighbours in a plan are alike,
    /// such as every second partition being an empty one, and must not all come to one worker.
    fn units(self, plan: &Plan) -> HashSet<String> {
        let mut cards: Vec<_> = plan.units.iter().map(|unit| (place(&plan.id, unit), &unit.id)).collect();
        cards.sort();
        let own = cards.into_iter().skip(self.index as usize).step_by(self.of as usize);
        own.map(|(_, id)| id.clone()).collect()
    }
}

/// Where a unit lies among the shuffled: follows from the plan alone.
fn place(plan_id: &str, unit: &Unit) -> Sha256 {
    Sha256::of(format!("{plan_id} {}", unit.id).as_bytes())
}

/// How the making of a plan ended.
#[derive(Debug, Clone)]
pub struct PlanMade {
    /// The server.
    pub source: String,
    /// The snapshot's id.
    pub id: String,
    /// The collections, and as of which server timestamp each will be read, where the server can.
    pub collections: Vec<(CollectionName, Option<u64>)>,
    /// Units of all collections.
    pub units: usize,
    /// Whether the plan was there before.
    pub was_there: bool,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub struct Worked {
    /// The snapshot's id.
    pub id: String,
    /// Units of this share.
    pub units: usize,
    /// Those of them that had a receipt already, or got one from somebody else.
    pub reused_units: usize,
    /// Rows of this share.
    pub rows: u64,
    /// Bytes of its parts.
    pub bytes: u64,
    /// Number of its parts.
    pub parts: usize,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// Makes the plan for `workers` processes, or finds that it is there.
pub async fn make_plan(
    options: &Options,
    workers: u32,
    store: Arc<dyn Store>,
    stop: &Stop,
) -> Result<PlanMade> {
    // 1. Connect. 2. Choose collections and describe them.
    let (source, collections) = stop.unless_stopped(choose(options, store.as_ref())).await?;

    // 3. Load state. What is loaded here stays loaded: workers are going to read it.
    let mut warnings = load_for_all(&source, &collections, options, stop).await?;

    // 4. to 6. Pins, units, the plan itself; or that of somebody who makes it at this very moment.
    let at_once = options.effort.jobs.saturating_mul(workers as usize);
    let work = async {
        loop {
            let made = plan(options, &source, collections.clone(), at_once, |_| false, store.as_ref());
            if let Some(planned) = made.await? {
                return Ok(planned);
            }
        }
    };
    let Planned { begun, was_there, .. } = stop.unless_stopped(work).await.map_err(goes_on)?;
    refuse_shared(&begun, store.as_ref())?;
    warnings.extend(begun.bucket_limits);
    Ok(PlanMade {
        source: source.info.to_string(),
        id: begun.plan.id,
        collections: begun.plan.collections.into_iter().map(|meta| (meta.name, meta.pin)).collect(),
        units: begun.plan.units.len(),
        was_there,
        warnings,
    })
}

/// Exports a share of the units of the plan that is in the bucket.
pub async fn work(options: &Options, share: Share, store: Arc<dyn Store>, stop: &Stop) -> Result<Worked> {
    // The plan, and what of this share is still to be done.
    let (begun, share) = stop.unless_stopped(begin_share(options, share, store.as_ref())).await?;
    let is_ours = |unit: &Unit| share.contains(&unit.id);
    let todo = begun.to_do(is_ours);
    if todo.is_empty() {
        return Ok(Worked::new(&begun, &share, Vec::new(), 0));
    }

    // 1. Connect. 2. The collections must still be those that were planned.
    let concerned: BTreeSet<usize> = todo.iter().map(|unit| unit.collection).collect();
    let collections: Vec<_> =
        concerned.into_iter().map(|index| begun.plan.collections[index].clone()).collect();
    let source = stop.unless_stopped(connect(options, &collections)).await?;

    // 3. Load state. Nothing is released afterwards: others are reading it.
    let warnings = load_for_all(&source, &collections, options, stop).await?;

    // 7. Export every unit of this share that has no receipt yet.
    let export = async {
        let Planned { begun, moment, rows, .. } = go_on(&source, begun, is_ours, options.effort).await?;
        let progress = progress(&source, &begun, &rows);
        let effort = options.effort;
        let exporter = Exporter {
            source: &source,
            begun: &begun,
            moment,
            store: store.clone(),
            effort,
            progress: &progress,
        };
        let work = exporter.export_all(begun.to_do(is_ours), &rows);
        match progress.show(options.show, work).await {
            Ok(exported) => {
                let worked = Worked::new(&begun, &share, exported.receipts, exported.by_others);
                Ok(Worked { seconds: progress.elapsed().as_secs_f64(), ..worked })
            }
            Err(error) => Err(check::why(&source, &begun.plan, error).await),
        }
    };
    let worked = stop.unless_stopped(export).await.map_err(goes_on)?;
    Ok(Worked { warnings: [warnings, worked.warnings].concat(), ..worked })
}

/// Takes up the plan for a share of its units, whose ids are given too.
async fn begin_share(options: &Options, share: Share, store: &dyn Store) -> Result<(Begun, HashSet<String>)> {
    let (plan, bytes) = the_plan(store).await?;
    begin::same_request(&request(options), &plan, store)?;
    let own = share.units(&plan);
    let begun = begin::take_up(plan, bytes, |unit| own.contains(&unit.id), store).await?;
    refuse_shared(&begun, store)?;
    Ok((begun, own))
}

async fn connect(options: &Options, collections: &[CollectionMeta]) -> Result<Client> {
    let source = Client::connect(&options.source).await?;
    refuse_unpinned(options, &source, collections)?;
    for meta in collections {
        check::same_collection(&source, meta).await.context(|| format!("export of {}", meta.name))?;
    }
    Ok(source)
}

/// The plan that somebody has made for all.
pub async fn the_plan(store: &dyn Store) -> Result<(Plan, Vec<u8>)> {
    match begin::find(store).await? {
        Found::Plan(plan, bytes) => Ok((*plan, bytes)),
        Found::Nothing { blind: true } => {
            let what = format!("the plan in {} may not be read with these credentials", store.place());
            Err(Error::new(ErrorKind::Denied, what).hint("allow s3:GetObject and s3:ListBucket"))
        }
        Found::Nothing { blind: false } => {
            let what = format!("there is no plan in {} yet", store.place());
            Err(Error::new(ErrorKind::Temporary, what).hint(
                "make it with `export --shard plan/N`; if that was done, check the address of the snapshot",
            ))
        }
    }
}

/// Loads what is not loaded, for good; says so.
async fn load_for_all(
    source: &Client,
    collections: &[CollectionMeta],
    options: &Options,
    stop: &Stop,
) -> Result<Vec<String>> {
    let if_unloaded = match options.load_source {
        true => IfUnloaded::LoadForGood,
        false => IfUnloaded::Refuse { hint: UNLOADED_HINT },
    };
    let loaded = loaded::ensure(source, &reads(collections), if_unloaded, stop).await?;
    let left = |name: String| {
        format!("{name} was loaded, and stays loaded for the other processes: release it after the commit")
    };
    Ok(loaded.keep().into_iter().map(left).collect())
}

/// Shards read at different times. Where the server cannot pin, only the user can know that this
/// makes no difference.
pub fn refuse_unpinned(options: &Options, source: &Client, collections: &[CollectionMeta]) -> Result<()> {
    let unpinned = collections.iter().any(|meta| meta.pin.is_none());
    if options.shard.is_none() || options.writes_paused || options.allow_writes || !unpinned {
        return Ok(());
    }
    let what = format!("{} cannot be read at one moment by several processes", source.info);
    Err(Error::new(ErrorKind::Usage, what)
        .hint("pause all writes to the source until the commit, and say so with `--writes-paused`"))
}

/// Processes that do not know of each other need a bucket that keeps the first of two objects.
pub fn refuse_shared(begun: &Begun, store: &dyn Store) -> Result<()> {
    if begun.exclusive {
        return Ok(());
    }
    let what = format!("{} ignores create-only puts, which several processes need", store.place());
    Err(Error::new(Code::BucketCannot, what)
        .hint("use a bucket that honours `If-None-Match: *`, or export without `--shard`"))
}

impl Worked {
    /// What there is of a share, by the receipts that were there and those of this run.
    fn new(begun: &Begun, share: &HashSet<String>, fresh: Vec<Receipt>, by_others: usize) -> Self {
        let receipts = begun.with_receipts(fresh);
        let parts = || receipts.iter().flat_map(|receipt| &receipt.parts);
        Worked {
            id: begun.plan.id.clone(),
            units: share.len(),
            reused_units: begun.done.len() + by_others,
            rows: receipts.iter().map(|receipt| receipt.rows).sum(),
            bytes: parts().map(|part| part.size).sum(),
            parts: parts().count(),
            warnings: begun.bucket_limits.clone(),
            seconds: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Request, SourceInfo, keys};

    fn plan(id: &str, units: usize) -> Plan {
        let unit = |index| Unit {
            id: keys::unit_id(index),
            collection: 0,
            partition: None,
            after: None,
            up_to: None,
        };
        Plan {
            id: id.into(),
            created: String::new(),
            tool: String::new(),
            source: SourceInfo { kind: String::new(), version: String::new() },
            request: Request { include: vec![], exclude: vec![], part_size: 1, allow_writes: false },
            databases: vec![],
            collections: vec![],
            units: (0..units).map(unit).collect(),
        }
    }

    #[test]
    fn every_unit_is_in_exactly_one_share_and_always_in_the_same() {
        let plan = plan("b2c7", 103);
        for of in [1, 2, 3, 16, 103, 200] {
            let shares: Vec<_> = (0..of).map(|index| Share { index, of }.units(&plan)).collect();
            let mut all: Vec<_> = shares.iter().flatten().cloned().collect();
            all.sort();
            assert_eq!(all, plan.units.iter().map(|unit| unit.id.clone()).collect::<Vec<_>>(), "{of} shares");
            let sizes = || shares.iter().map(HashSet::len);
            assert!(sizes().max().zip(sizes().min()).is_some_and(|(most, least)| most - least <= 1));
            assert_eq!(shares, (0..of).map(|index| Share { index, of }.units(&plan)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_do_not_all_come_to_one_worker() {
        let plan = plan("b2c7", 1_000);
        let share = Share { index: 0, of: 2 }.units(&plan);
        let even = (0..1_000).step_by(2).filter(|index| share.contains(&keys::unit_id(*index))).count();
        assert!((200..300).contains(&even), "{even} of 500 units at even places");
    }
}
