//! Export: from a server into a snapshot.
//!
//! Owns: the order of the steps, which rows belong to which unit and part, and the proof that
//! nothing is missing. Does not own: what is sent over the wire (`milvus`), what stands on disk
//! (`snapshot`, `part`), or buckets (`store`).
//!
//! ```text
//! server --pages--> record batches --> parts --> receipts --> manifest --> commit
//! ```

mod begin;
mod check;
mod choose;
mod finish;
mod key_space;
mod unit;
mod units;

use crate::digest::Sha256;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::loaded::{self, IfUnloaded, Reads};
use crate::milvus::{Client, Endpoint, View};
use crate::progress::{Progress, Show};
use crate::select::Selection;
use crate::signature::{KeyId, SigningKey};
use crate::snapshot::{CollectionMeta, Consistency, Plan, Request, SourceInfo, Totals};
use crate::stop::Stop;
use crate::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to export and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to read.
    pub source: Endpoint,
    /// What to take.
    pub selection: Selection,
    /// Stop before anything is written or loaded, and say what would happen.
    pub plan_only: bool,
    /// Units in flight.
    pub jobs: usize,
    /// Load collections that are not, and release them afterwards.
    pub load_source: bool,
    /// Accept writes during the export and record that nothing was compared.
    pub allow_writes: bool,
    /// Bytes of Parquet after which a part ends.
    pub part_size: u64,
    /// Most rows to ask the server for at once.
    pub page_rows: u32,
    /// Sign what is committed.
    pub sign: Option<SigningKey>,
    /// Whether to show progress.
    pub show: Show,
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
    /// Rows that share a key with a newer one and are therefore not handed out by the server.
    pub shared_keys: u64,
}

/// Exports into `store`, or says what an export would do.
pub async fn run(options: &Options, store: Arc<dyn Store>, stop: &Stop) -> Result<Outcome> {
    // 1. Connect; learn who is there. 2. Choose collections and describe them; refuse what cannot
    // be copied, before any effect.
    let (source, mut collections) = stop.unless_stopped(choose(options, store.as_ref())).await?;
    if options.plan_only {
        return stop.unless_stopped(planned(&source, collections, options)).await;
    }

    // 3. Load state: refuse unloaded collections, or load them and put them back whatever happens.
    let if_unloaded = match options.load_source {
        true => IfUnloaded::Load,
        false => IfUnloaded::Refuse { hint: UNLOADED_HINT },
    };
    let loaded = loaded::ensure(&source, &reads(&collections), if_unloaded, stop).await?;
    let result = stop.unless_stopped(export_loaded(options, &source, &mut collections, store)).await;
    let restored = loaded.restore(&source).await;
    let outcome = result.map_err(|e| match e.kind() {
        ErrorKind::Interrupted | ErrorKind::Terminated => {
            e.hint("run the same command again: it goes on from here")
        }
        _ => e,
    })?;
    restored?;
    Ok(outcome)
}

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
    collections: &mut Vec<CollectionMeta>,
    store: Arc<dyn Store>,
) -> Result<Outcome> {
    // 4. Pin, where the server can: all pages of a collection are read at one timestamp.
    for meta in collections.iter_mut() {
        meta.pin =
            source.pin(&meta.name, meta.collection_id).await.context(|| format!("pinning {}", meta.name))?;
    }

    // 5. Cut into units; 6. write the plan, or take up the one that an earlier run wrote.
    let units::Units { units, rows, views } = units::cut(source, collections, options.jobs).await?;
    let plan = Plan {
        id: uuid::Uuid::new_v4().to_string(),
        created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        tool: concat!("milvus-handoff ", env!("CARGO_PKG_VERSION")).to_string(),
        source: SourceInfo {
            kind: source.info.kind_name().to_string(),
            version: source.info.version.clone(),
        },
        request: Request {
            include: options.selection.include.iter().map(|p| p.text().to_string()).collect(),
            exclude: options.selection.exclude.iter().map(|p| p.text().to_string()).collect(),
            part_size: options.part_size,
            allow_writes: options.allow_writes,
        },
        databases: choose::databases(source, collections).await?,
        collections: std::mem::take(collections),
        units,
    };
    let begun = begin::begin(plan, store.as_ref()).await?;

    // 7. Export every unit that has no receipt yet.
    let progress = Progress::new("export", Some(rows.values().sum()));
    let gauge = source.clone();
    progress.slowed_to(move || gauge.slowed_to());
    let work = unit::export_all(source, &begun, &rows, &views, store.clone(), options, &progress);
    let read = async {
        let receipts = progress.show(options.show, work).await?;
        // 8. Prove that nothing is missing.
        let results = check::all(source, &begun.plan, &receipts, options).await?;
        Ok((receipts, results))
    };
    let (receipts, results) = match read.await {
        Ok(read) => read,
        Err(error) => return Err(check::why(source, &begun.plan, error).await),
    };

    // 9. Manifest, sums, signature, commit.
    let committed = finish::commit(&begun, &receipts, results, options.sign.as_ref(), store.as_ref()).await?;

    let mut warnings = begun.bucket_limits.clone();
    warnings.extend(committed.warnings);
    if options.allow_writes {
        warnings.push(
            "writes were allowed, so nothing proves that the copy is complete: it is recorded as unchecked"
                .into(),
        );
    }
    Ok(Outcome {
        source: source.info.to_string(),
        id: Some(begun.plan.id.clone()),
        commit: Some(committed.digest),
        signed_by: committed.signed_by,
        totals: committed.manifest.totals(),
        collections: committed.manifest.collections.into_iter().map(CollectionOutcome::from).collect(),
        reused_units: begun.done.len(),
        versions: store.versions(),
        warnings,
        seconds: progress.elapsed().as_secs_f64(),
    })
}

/// What an export would do, from descriptions and statistics alone: nothing is loaded or written.
async fn planned(source: &Client, collections: Vec<CollectionMeta>, options: &Options) -> Result<Outcome> {
    let mut outcomes = Vec::new();
    let mut warnings = Vec::new();
    for unloaded in loaded::unloaded(source, &reads(&collections)).await? {
        warnings.push(if options.load_source {
            format!("{unloaded} is not loaded; the export would load it and release it afterwards")
        } else {
            format!("{unloaded} is not loaded; the export would refuse it without `--load-source`")
        });
    }
    for meta in collections {
        let rows = source.statistics_rows(&meta.name).await?;
        let bytes = crate::columns::typical_row_bytes(&meta.schema.columns()) as u64 * rows;
        outcomes.push(CollectionOutcome {
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
        versions: BTreeMap::new(),
        warnings,
        seconds: 0.0,
    })
}

impl From<crate::snapshot::CollectionResult> for CollectionOutcome {
    fn from(result: crate::snapshot::CollectionResult) -> Self {
        CollectionOutcome {
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

/// A view of a collection: at its pin, or of now.
async fn view(source: &Client, meta: &CollectionMeta) -> Result<View> {
    match meta.pin {
        Some(timestamp) => Ok(View::Pinned(timestamp)),
        None => source.view_of_now().await,
    }
}
