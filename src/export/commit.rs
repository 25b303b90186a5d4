//! The end of a sharded export, for anyone and any number of times: exactly one COMMIT.json.
//!
//! Owns: seeing that all work is done, and settling with others who commit at the same time. Does
//! not own: the proof (`check`) or what is written (`finish`), which are those of every export.
//!
//! The proof is made here and not by the workers. What a worker could prove is that nothing
//! changed while it read its own units. Only whoever looks after the last unit was read can
//! prove that all rows were there at one moment.

use super::finish::{Committed, remove_leftovers};
use super::shards::{refuse_shared, the_plan};
use super::{Effort, Outcome, begin, check, goes_on, outcome, prove_and_commit, reads};
use crate::error::{Error, ErrorKind, Result};
use crate::loaded::{self, IfUnloaded};
use crate::milvus::{Client, Endpoint};
use crate::opened::{self, Opened, Trust};
use crate::signature::{self, SigningKey};
use crate::snapshot::{MAX_COMMIT_BYTES, keys};
use crate::stop::Stop;
use crate::store::Store;
use std::time::Instant;

/// How to commit.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server that was read.
    pub source: Endpoint,
    /// How much is asked of it at once.
    pub effort: Effort,
    /// Sign what is committed.
    pub sign: Option<SigningKey>,
}

/// Missing units that an error names.
const NAMED: usize = 20;

/// Commits the export in `store`, or finds that it is committed.
pub async fn run(options: &Options, store: &dyn Store, stop: &Stop) -> Result<Outcome> {
    let started = Instant::now();
    let result = finish(options, store, stop).await;
    // Somebody else may have committed meanwhile, and put the source to other uses since.
    let settled = match result {
        Err(error) if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Terminated) => {
            match stop.unless_stopped(committed(options, store)).await {
                Ok(Some(outcome)) => Ok(outcome),
                _ => Err(error),
            }
        }
        result => result,
    };
    let outcome = settled.map_err(goes_on)?;
    Ok(Outcome { seconds: started.elapsed().as_secs_f64(), ..outcome })
}

async fn finish(options: &Options, store: &dyn Store, stop: &Stop) -> Result<Outcome> {
    // 1. It may be done already.
    if let Some(outcome) = stop.unless_stopped(committed(options, store)).await? {
        return Ok(outcome);
    }

    // 2. The plan, and a receipt for each of its units.
    let ready = async {
        let (plan, bytes) = the_plan(store).await?;
        let begun = begin::take_up(plan, bytes, |_| true, store).await?;
        refuse_shared(&begun, store)?;
        let missing: Vec<_> = begun.to_do(|_| true).into_iter().map(|unit| unit.id.as_str()).collect();
        match missing.is_empty() {
            true => Ok(begun),
            false => Err(unfinished(&missing, begun.plan.units.len())),
        }
    };
    let begun = stop.unless_stopped(ready).await?;

    // 3. Connect; everything must be loaded, as it was for the workers.
    let source = stop.unless_stopped(Client::connect(&options.source)).await?;
    let if_unloaded = IfUnloaded::Refuse { hint: "load them as they were for the export" };
    let loaded = loaded::ensure(&source, &reads(&begun.plan.collections), if_unloaded, stop).await?;
    loaded.restore(&source).await?;

    // 4. Prove that nothing is missing; manifest, sums, signature, commit.
    let receipts = begun.with_receipts(Vec::new());
    let prove = async {
        let sign = options.sign.as_ref();
        match prove_and_commit(&source, &begun, &receipts, options.effort, sign, store).await {
            Ok(committed) => Ok(committed),
            Err(error) => Err(check::why(&source, &begun.plan, error).await),
        }
    };
    let committed = stop.unless_stopped(prove).await?;
    let outcome = outcome(&begun.plan, begun.done.len(), committed);
    Ok(Outcome { versions: store.versions(), ..outcome })
}

fn unfinished(missing: &[&str], of: usize) -> Error {
    let named = missing.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = if missing.len() > NAMED { ", ..." } else { "" };
    let what = format!("{} of {of} units have not been exported yet: {named}{more}", missing.len());
    Error::new(ErrorKind::Temporary, what).hint(
        "wait for the workers, or run `export --shard I/N` again for every I; what is done is not read again",
    )
}

/// What a committed snapshot came to; `None` if it is not committed. What a worker has left that was
/// started twice and ended too late is removed.
async fn committed(options: &Options, store: &dyn Store) -> Result<Option<Outcome>> {
    if store.get(keys::COMMIT, MAX_COMMIT_BYTES).await?.is_none() {
        return Ok(None);
    }
    let Opened { commit, commit_bytes, digest, manifest, .. } =
        opened::open(store, &Trust::default()).await?;
    let (plan, _) = the_plan(store).await?;
    let mut signed_by = None;
    if let Some(key) = &options.sign {
        signature::put(&commit, &commit_bytes, key, store).await?;
        signed_by = Some(key.public()?.id());
    }
    let warnings = remove_leftovers(&plan, &manifest, store).await?;
    let units = plan.units.len();
    Ok(Some(outcome(&plan, units, Committed { manifest, digest, signed_by, warnings })))
}
