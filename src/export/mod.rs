//! Export: from a server into a snapshot.
//!
//! Owns: the order of the steps, which rows belong to which unit and part, and the proof that
//! nothing is missing. Does not own: what is sent over the wire (`milvus`), what stands on disk
//! (`snapshot`, `part`), or buckets (`store`).
//!
//! ```text
//! server --pages--> record batches --> parts --> receipts --> manifest --> commit
//! ```
//!
//! One process takes all steps (`run`), or many share them (`shards`): one makes the plan, each
//! exports its units, anyone commits (`commit`). The steps are the same functions.

mod begin;
mod check;
mod choose;
pub mod commit;
mod finish;
mod key_space;
pub mod shards;
mod unit;
mod units;

use crate::digest::Sha256;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::loaded::{self, IfUnloaded, Reads};
use crate::milvus::{Client, Endpoint, ServerInfo, View};
use crate::progress::{Progress, Show};
use crate::select::Selection;
use crate::signature::{KeyId, SigningKey};
use crate::snapshot::{CollectionMeta, Consistency, Plan, Receipt, Request, SourceInfo, Totals, Unit};
use crate::stop::Stop;
use crate::store::Store;
use begin::{Begun, Found};
use finish::Committed;
pub use shards::{Shard, Share};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use unit::Exporter;

/// What to export and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to read.
    pub source: Endpoint,
    /// What to take.
    pub selection: Selection,
    /// Stop before anything is written or loaded, and say what would happen.
    pub plan_only: bool,
    /// What of the export this process does; `None`: all of it.
    pub shard: Option<Shard>,
    /// The user says that nothing is written meanwhile: for shards on a server without pins.
    pub writes_paused: bool,
    /// How many units at a time, and the size of pages.
    pub effort: Effort,
    /// Load collections that are not, and release them afterwards.
    pub load_source: bool,
    /// Accept writes during the export and record that nothing was compared.
    pub allow_writes: bool,
    /// Bytes of Parquet after which a part ends.
    pub part_size: u64,
    /// Sign what is committed.
    pub sign: Option<SigningKey>,
    /// Whether to show progress.
    pub show: Show,
}

/// How much is asked of the server at once.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Ranges in flight.
    pub jobs: usize,
    /// Most rows of one page.
    pub page_rows: u32,
}

/// How an export ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The server.
    pub source: String,
    /// The snapshot's id, unless it was only planned.
    pub id: Option<String>,
    /// SHA-256 of COMMIT.json, unless it was only planned.
    pub commit: Option<Sha256>,
    /// The key that signed it, if it was asked for.
    pub signed_by: Option<KeyId>,
    /// In the order of the snapshot.
    pub collections: Vec<CollectionOutcome>,
    /// What the snapshot adds up to.
    pub totals: Totals,
    /// Units that an earlier run had finished.
    pub reused_units: usize,
    /// Whether the export that was planned would load what is not; `false` unless only planned.
    pub loads: bool,
    /// The versions of what this run has put, by key, where the bucket keeps versions.
    pub versions: BTreeMap<String, String>,
    /// What people should know although it is no failure.
    pub warnings: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// What became of one collection.
#[derive(Debug, Clone)]
pub struct CollectionOutcome {
    /// As on the source.
    pub meta: CollectionMeta,
    /// Rows in the snapshot; when only planned, what the server's statistics say.
    pub rows: u64,
    /// Bytes of its parts.
    pub bytes: u64,
    /// Number of parts.
    pub parts: usize,
    /// Rows by partition, in the server's order.
    pub partitions: Vec<(String, u64)>,
    /// How firmly the rows belong to one moment; `None` when only planned.
    pub consistency: Option<Consistency>,
    /// `count(*)` on the server after the export.
    pub server_count: Option<u64>,
    /// Whether all of it is loaded; `None` unless only planned.
    pub loaded: Option<bool>,
    /// Rows that share a key with a newer one and are therefore not handed out by the server.
    pub shared_keys: u64,
}

/// Exports into `store`, or says what an export would do.
pub async fn run(options: &Options, store: Arc<dyn Store>, stop: &Stop) -> Result<Outcome> {
    // 1. Connect; learn who is there. 2. Choose collections and describe them; refuse what cannot
    // be copied, before any effect.
    let (source, collections) = stop.unless_stopped(choose(options, store.as_ref())).await?;
    if options.plan_only {
        return stop.unless_stopped(would_do(&source, collections, options, store.as_ref())).await;
    }

    // 3. Load state: refuse unloaded collections, or load them and put them back whatever happens.
    let if_unloaded = match options.load_source {
        true => IfUnloaded::Load,
        false => IfUnloaded::Refuse { hint: UNLOADED_HINT },
    };
    let loaded = loaded::ensure(&source, &reads(&collections), if_unloaded, stop).await?;
    let result = stop.unless_stopped(export_loaded(options, &source, collections, store)).await;
    let restored = loaded.restore(&source).await;
    let outcome = result.map_err(goes_on)?;
    restored?;
    Ok(outcome)
}

fn goes_on(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Interrupted | ErrorKind::Terminated => {
            error.hint("run the same command again: it goes on from here")
        }
        _ => error,
    }
}

/// Steps 1 and 2.
async fn choose(options: &Options, store: &dyn Store) -> Result<(Client, Vec<CollectionMeta>)> {
    let source = Client::connect(&options.source).await?;
    begin::refuse_committed(store).await?;
    let collections = choose::collections(&source, &options.selection).await?;
    Ok((source, collections))
}

/// What to do about collections that are not loaded.
const UNLOADED_HINT: &str = "load them, leave them out with `--exclude`, or let the export load and release them with `--load-source`";

fn reads(collections: &[CollectionMeta]) -> Vec<Reads> {
    collections.iter().map(|meta| Reads::new(&meta.name, &meta.schema, &meta.partitions)).collect()
}

async fn export_loaded(
    options: &Options,
    source: &Client,
    collections: Vec<CollectionMeta>,
    store: Arc<dyn Store>,
) -> Result<Outcome> {
    // 4. to 6. The plan, with pins and units: made now, or by an earlier run.
    let planned = plan(options, source, collections, options.effort.jobs, |_| true, store.as_ref()).await?;
    let Some(Planned { begun, moment, rows, .. }) = planned else { return Err(begin::other(store.as_ref())) };

    // 7. Export every unit that has no receipt yet.
    let progress = progress(source, &begun, &rows);
    let result = async {
        let exporter = Exporter {
            source,
            begun: &begun,
            moment,
            store: store.clone(),
            effort: options.effort,
            progress: &progress,
        };
        let work = exporter.export_all(begun.to_do(|_| true), &rows);
        let exported = progress.show(options.show, work).await?;
        let receipts = begun.with_receipts(exported.receipts);
        // 8. Prove that nothing is missing. 9. Manifest, sums, signature, commit.
        prove_and_commit(source, &begun, &receipts, options.effort, options.sign.as_ref(), store.as_ref())
            .await
    };
    let committed = match result.await {
        Ok(committed) => committed,
        Err(error) => return Err(check::why(source, &begun.plan, error).await),
    };
    let outcome = outcome(&begun.plan, begun.done.len(), committed);
    Ok(Outcome { seconds: progress.elapsed().as_secs_f64(), versions: store.versions(), ..outcome })
}

/// A plan that is in the bucket, and what is known beside it.
struct Planned {
    begun: Begun,
    moment: Moment,
    /// About how many rows each unit has that is still to be done.
    rows: HashMap<String, u64>,
    /// Whether an earlier run, or somebody else, had made it.
    was_there: bool,
}

/// Steps 4 to 6, for `workers` at a time; `None` if somebody else makes a plan at this very
/// moment. Of a plan that is there already, the receipts of the units that are `wanted` are read.
async fn plan(
    options: &Options,
    source: &Client,
    mut collections: Vec<CollectionMeta>,
    workers: usize,
    wanted: impl Fn(&Unit) -> bool,
    store: &dyn Store,
) -> Result<Option<Planned>> {
    let request = request(options);
    let blind = match begin::find(store).await? {
        Found::Nothing { blind } => blind,
        Found::Plan(plan, bytes) => {
            begin::same_request(&request, &plan, store)?;
            begin::same_source(&collections, &plan, store)?;
            let begun = begin::take_up(*plan, bytes, &wanted, store).await?;
            return go_on(source, begun, wanted, options.effort).await.map(Some);
        }
    };
    // 4. Pin, where the server can: all pages of a collection are read at one timestamp.
    for meta in collections.iter_mut() {
        meta.pin =
            source.pin(&meta.name, meta.collection_id).await.context(|| format!("pinning {}", meta.name))?;
    }
    shards::refuse_unpinned(options, source, &collections)?;

    // 5. Cut into units.
    let moment = Moment::now(source, &collections).await?;
    let units::Units { units, rows } = units::cut(source, &collections, moment, workers).await?;

    // 6. Write it down.
    let plan = Plan {
        id: uuid::Uuid::new_v4().to_string(),
        created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        tool: concat!("milvus-handoff ", env!("CARGO_PKG_VERSION")).to_string(),
        source: SourceInfo {
            kind: source.info.kind.name().to_string(),
            version: source.info.version.clone(),
        },
        request,
        databases: choose::databases(source, &collections).await?,
        collections,
        units,
    };
    let begun = begin::write(plan, blind, store).await?;
    Ok(begun.map(|begun| Planned { begun, moment, rows, was_there: false }))
}

/// Goes on with a plan that was there. Its pins count, also if the server would give out others now.
async fn go_on(
    source: &Client,
    begun: Begun,
    wanted: impl Fn(&Unit) -> bool,
    effort: Effort,
) -> Result<Planned> {
    let moment = Moment::now(source, &begun.plan.collections).await?;
    let todo = begun.to_do(wanted);
    tracing::info!("going on with a plan: {} units are done, {} are not", begun.done.len(), todo.len());
    let rows = units::estimate(source, &begun.plan.collections, todo, moment, effort.jobs).await?;
    Ok(Planned { begun, moment, rows, was_there: true })
}

fn request(options: &Options) -> Request {
    Request {
        include: options.selection.include.iter().map(|p| p.text().to_string()).collect(),
        exclude: options.selection.exclude.iter().map(|p| p.text().to_string()).collect(),
        part_size: options.part_size,
        allow_writes: options.allow_writes,
    }
}

fn progress(source: &Client, begun: &Begun, rows: &HashMap<String, u64>) -> Progress {
    let done: u64 = begun.done.values().map(|receipt| receipt.rows).sum();
    let progress = Progress::new("export", Some(done + rows.values().sum::<u64>()));
    let gauge = source.clone();
    progress.slowed_to(move || gauge.slowed_to());
    progress
}

/// Steps 8 and 9.
async fn prove_and_commit(
    source: &Client,
    begun: &Begun,
    receipts: &[Receipt],
    effort: Effort,
    sign: Option<&SigningKey>,
    store: &dyn Store,
) -> Result<Committed> {
    let results = check::all(source, &begun.plan, receipts, effort).await?;
    finish::commit(begun, receipts, results, sign, store).await
}

fn outcome(plan: &Plan, reused_units: usize, committed: Committed) -> Outcome {
    let manifest = committed.manifest;
    let source = ServerInfo::recorded(&manifest.source.kind, &manifest.source.version);
    let mut warnings = manifest.bucket_limits.clone();
    warnings.extend(committed.warnings);
    if plan.request.allow_writes {
        warnings.push(
            "writes were allowed, so nothing proves that the copy is complete: it is recorded as unchecked"
                .into(),
        );
    }
    Outcome {
        source: source.to_string(),
        id: Some(manifest.id.clone()),
        commit: Some(committed.digest),
        signed_by: committed.signed_by,
        totals: manifest.totals(),
        collections: manifest.collections.into_iter().map(CollectionOutcome::from).collect(),
        reused_units,
        loads: false,
        versions: BTreeMap::new(),
        warnings,
        seconds: 0.0,
    }
}

/// What an export would do, from descriptions and statistics alone: nothing is loaded or written.
/// What refuses the export at its place refuses the plan too.
async fn would_do(
    source: &Client,
    collections: Vec<CollectionMeta>,
    options: &Options,
    store: &dyn Store,
) -> Result<Outcome> {
    let mut outcomes = Vec::new();
    let mut warnings = Vec::new();
    if let Some(plan) = begin::look(store).await? {
        begin::same_request(&request(options), &plan, store)?;
        begin::same_source(&collections, &plan, store)?;
        warnings
            .push(format!("{} holds an unfinished export: the export would go on with it", store.place()));
    }
    let unloaded = loaded::unloaded(source, &reads(&collections)).await?;
    for unloaded in &unloaded {
        warnings.push(if options.load_source {
            format!("{unloaded} is not loaded; the export would load it and release it afterwards")
        } else {
            format!("{unloaded} is not loaded; the export would refuse it without `--load-source`")
        });
    }
    for meta in collections {
        let rows = source.statistics_rows(&meta.name).await?;
        let bytes = crate::columns::typical_row_bytes(&meta.schema.columns()) as u64 * rows;
        let loaded = !unloaded.iter().any(|item| *item.name() == meta.name);
        outcomes.push(CollectionOutcome {
            loaded: Some(loaded),
            rows,
            bytes,
            parts: bytes.div_ceil(options.part_size) as usize,
            partitions: Vec::new(),
            consistency: None,
            server_count: None,
            shared_keys: 0,
            meta,
        });
    }
    let totals = Totals {
        collections: outcomes.len() as u64,
        parts: outcomes.iter().map(|c| c.parts as u64).sum(),
        rows: outcomes.iter().map(|c| c.rows).sum(),
        bytes: outcomes.iter().map(|c| c.bytes).sum(),
    };
    Ok(Outcome {
        source: source.info.to_string(),
        id: None,
        commit: None,
        signed_by: None,
        collections: outcomes,
        totals,
        reused_units: 0,
        loads: options.load_source,
        versions: BTreeMap::new(),
        warnings,
        seconds: 0.0,
    })
}

impl From<crate::snapshot::CollectionResult> for CollectionOutcome {
    fn from(result: crate::snapshot::CollectionResult) -> Self {
        CollectionOutcome {
            loaded: None,
            rows: result.rows(),
            bytes: result.bytes(),
            parts: result.parts.len(),
            partitions: result.rows_by_partition(),
            consistency: Some(result.consistency),
            server_count: Some(result.counts.server),
            shared_keys: result.counts.shared_keys,
            meta: result.meta,
        }
    }
}

/// The collection changed under the export.
fn source_changed(what: String) -> Error {
    Error::new(ErrorKind::SourceChanged, what).hint(
        "pause writes to the source and run the export again under another name, or accept an unproven copy with `--allow-writes`",
    )
}

/// As of when collections are read: at their pins, and those without one as of one moment.
#[derive(Debug, Clone, Copy)]
struct Moment(View);

impl Moment {
    /// Now, at the latest.
    async fn now(source: &Client, collections: &[CollectionMeta]) -> Result<Self> {
        match collections.iter().all(|meta| meta.pin.is_some()) {
            true => Ok(Moment(View::Latest)),
            false => Ok(Moment(source.view_of_now().await?)),
        }
    }

    fn of(self, meta: &CollectionMeta) -> View {
        meta.pin.map_or(self.0, View::Pinned)
    }
}
