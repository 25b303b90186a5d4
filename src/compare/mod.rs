//! Compare: whether a server has what a snapshot holds, after a migration or against the source.
//!
//! Owns: the order of the steps, what is laid beside what, and naming every difference. Does not
//! own: reading the snapshot (`opened`, `fetch`, `part`), paging through a server (`pages`) or load
//! states (`loaded`). Changes nothing but load states, and those only if asked to.
//!
//! ```text
//! commit --> manifest --> parts --\
//!                                  merge by key --> findings
//! server ----------------> pages --/
//! ```
//!
//! When values are the same: by their bits, so that NaN is itself and -0.0 is not 0.0; text by its
//! bytes; null only with null. Where servers rewrite what they are given, the meaning counts: JSON
//! and `$meta` by value (integers to the last digit, other numbers as 64-bit floats, `1` is not
//! `1.0`, order and spelling do not count), shapes by their coordinates, timestamps by the moment,
//! sparse vectors by their pairs. What a server computes by itself is left out.
//!
//! A server that cannot pin (before 2.5, and the Lites) is read as it is at each request: rows
//! that are written meanwhile show as differences.

mod counts;
mod found;
mod full;
mod geometry;
mod json;
mod merge;
mod moment;
mod rows;
mod sample;
mod shape;
mod snapshots;
mod value;

pub use counts::PartitionRows;
pub use found::{Finding, Found, Kind, LISTED, SHOWN_PER_KIND, listed};
pub use snapshots::{InSnapshot, SnapshotRows, snapshots};

use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::loaded::{self, IfUnloaded, Reads};
use crate::milvus::{Client, Endpoint, Scan, View};
use crate::opened::{self, Opened, Trust};
use crate::progress::{Progress, Show};
use crate::schema::{CollectionName, Schema};
use crate::select::{self, AutoId, Renames, Selection, pick_known};
use crate::snapshot::{CollectionResult, Manifest};
use crate::stop::Stop;
use crate::store::Store;
use shape::{Shape, Side};
use std::sync::Arc;

/// How closely to look. Schemas and counts are compared at every level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Rows of collections and partitions are counted.
    Count,
    /// Some rows of every part and the newest rows, every field.
    Sample,
    /// Every row, every field.
    Full,
}

impl Level {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Count => "count",
            Level::Sample => "sample",
            Level::Full => "full",
        }
    }
}

/// What to compare and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to look at.
    pub target: Endpoint,
    /// Which collections of the snapshot.
    pub selection: Selection,
    /// Where the server has them.
    pub renames: Renames,
    /// How closely to look.
    pub level: Level,
    /// Rows that a sample draws from every part, and newest rows of every partition.
    pub rows_per_part: u32,
    /// Decides which rows a sample draws.
    pub seed: u32,
    /// What the import did with keys that the source's server had made.
    pub auto_id: AutoId,
    /// Load collections that are not, and release them afterwards.
    pub load: bool,
    /// Ranges or parts in flight.
    pub jobs: usize,
    /// Most rows to ask the server for at once.
    pub page_rows: u32,
    /// Why the snapshot is to be believed.
    pub trust: Trust,
    /// Whether to show progress.
    pub show: Show,
}

/// What a comparison found.
pub struct Report {
    /// The snapshot.
    pub opened: Opened,
    /// The server.
    pub target: String,
    /// How closely was looked.
    pub level: Level,
    /// Which rows a sample has drawn, and how many of each part; `None` at other levels.
    pub sample: Option<Sample>,
    /// In the order of the snapshot.
    pub collections: Vec<CollectionReport>,
    /// What people should know although it is no difference.
    pub warnings: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// How a sample was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Repeats the draw.
    pub seed: u32,
    /// Rows of every part, and newest rows of every partition.
    pub rows_per_part: u32,
}

/// What was found of one collection.
pub struct CollectionReport {
    /// In the snapshot.
    pub source: CollectionName,
    /// On the server.
    pub target: CollectionName,
    /// Rows of its parts.
    pub snapshot_rows: u64,
    /// The server's `count(*)`.
    pub server_rows: u64,
    /// Partitions that both sides have, where rows are attributed to more than one.
    pub partitions: Vec<PartitionRows>,
    /// Rows whose every comparable field was compared.
    pub rows_compared: u64,
    /// Columns that only one side has in a form that could be compared.
    pub fields_not_compared: Vec<String>,
    /// The differences.
    pub found: Found,
}

impl Report {
    /// All differences of all collections.
    pub fn differences(&self) -> u64 {
        self.collections.iter().map(|c| c.found.all()).sum()
    }
}

/// Compares the snapshot in `store` with a server. Differences are collected, not returned as an
/// error; a snapshot that cannot be believed and a collection that is not there are errors.
pub async fn run(options: &Options, store: Arc<dyn Store>, stop: &Stop) -> Result<Report> {
    let meet = async {
        // 1. The way from COMMIT.json to the manifest.
        let opened = opened::open(store.as_ref(), &options.trust).await?;

        // 2. Connect; every collection that is to be compared is there.
        let server = Client::connect(&options.target).await?;
        Ok((opened, server))
    };
    let (opened, server) = stop.unless_stopped(meet).await?;
    let jobs = stop.unless_stopped(jobs(&opened.manifest, &server, options)).await?;

    // 3. Load state: refuse unloaded collections, or load them and put them back whatever happens.
    let if_unloaded = match options.load {
        true => IfUnloaded::Load,
        false => IfUnloaded::Refuse { hint: UNLOADED_HINT },
    };
    let reads: Vec<_> = jobs.iter().map(|job| Reads::new(&job.name, &job.schema, &job.partitions)).collect();
    let loaded = loaded::ensure(&server, &reads, if_unloaded, stop).await?;
    let sides = Sides { server, store };
    let result = stop.unless_stopped(compare_loaded(&sides, &jobs, options)).await;
    let restored = loaded.restore(&sides.server).await;
    let compared = result?;
    restored?;

    let draws = Sample { seed: options.seed, rows_per_part: options.rows_per_part };
    Ok(Report {
        target: sides.server.info.to_string(),
        level: options.level,
        sample: (options.level == Level::Sample).then_some(draws),
        collections: compared.collections,
        warnings: opened.signature_warnings().into_iter().chain(compared.warnings).collect(),
        seconds: compared.seconds,
        opened,
    })
}

/// What to do about collections that are not loaded.
const UNLOADED_HINT: &str =
    "load them, name others with `-c`, or let compare load and release them with `--load`";

struct Compared {
    collections: Vec<CollectionReport>,
    warnings: Vec<String>,
    seconds: f64,
}

async fn compare_loaded(sides: &Sides, jobs: &[Job<'_>], options: &Options) -> Result<Compared> {
    let rows = jobs.iter().map(|job| job.source.rows()).sum();
    let progress = Progress::new("compare", (options.level != Level::Count).then_some(rows));
    let mut compared = Compared { collections: Vec::new(), warnings: Vec::new(), seconds: 0.0 };
    // Findings beyond the first of every kind that all collections together may keep.
    let mut spare = LISTED;
    let gauge = sides.server.clone();
    progress.slowed_to(move || gauge.slowed_to());
    let work = async {
        for job in jobs {
            let lane = progress.collection(&job.name, job.source.rows(), 1);
            let work = collection(sides, job, options, &lane, &mut compared.warnings);
            let mut report = work.await.context(|| format!("compare of {}", job.name))?;
            lane.piece_done();
            spare = report.found.trim(spare);
            compared.collections.push(report);
        }
        Ok::<_, Error>(())
    };
    progress.show(options.show, work).await?;
    compared.seconds = progress.elapsed().as_secs_f64();
    Ok(compared)
}

/// One collection.
async fn collection(
    sides: &Sides,
    job: &Job<'_>,
    options: &Options,
    progress: &Progress,
    warnings: &mut Vec<String>,
) -> Result<CollectionReport> {
    let mut found = Found::default();

    // 4. Schemas.
    let meta = &job.source.meta;
    let ours = Side { schema: &meta.schema, partitions: &meta.partitions };
    let theirs = Side { schema: &job.schema, partitions: &job.partitions };
    let (differences, mut shape) = shape::compare(ours, theirs, options.auto_id);
    if meta.schema.primary_key().auto_id && options.auto_id == AutoId::Regenerate {
        warnings.push(format!(
            "{}: its keys were made anew, so no row can be found again: only schema and counts are compared",
            job.name
        ));
        shape = None;
    }
    differences.into_iter().for_each(|finding| found.push(finding));

    // 5. Counts.
    let view = view(&sides.server, job, options.level).await?;
    let counted = counts::compare(&sides.server, job, view, &mut found, warnings).await?;

    // 6. Rows, if there is a key by which they meet.
    let fields_not_compared = match &shape {
        Some(shape) => shape.not_compared.clone(),
        None => meta.schema.columns().into_iter().map(|c| c.name).collect(),
    };
    let rows = shape.map(|shape| Rows { job, shape: Arc::new(shape), view });
    let merged = match (options.level, &rows) {
        (Level::Sample, Some(rows)) => sample::compare(sides, rows, options, progress).await?,
        (Level::Full, Some(rows)) => full::compare(sides, rows, options, progress).await?,
        (Level::Count, _) | (_, None) => merge::Merged::default(),
    };
    found.append(merged.found);
    Ok(CollectionReport {
        source: meta.name.clone(),
        target: job.name.clone(),
        snapshot_rows: job.source.rows(),
        server_rows: counted.server,
        partitions: counted.partitions,
        rows_compared: merged.compared,
        fields_not_compared,
        found,
    })
}

/// As of when a collection is read: at one timestamp if every row is to be seen and the server can.
async fn view(server: &Client, job: &Job<'_>, level: Level) -> Result<View> {
    if level == Level::Full
        && let Some(timestamp) = server.pin(&job.name, job.id).await.context(|| "pinning")?
    {
        return Ok(View::Pinned(timestamp));
    }
    server.view_of_now().await
}

/// The two sides.
struct Sides {
    server: Client,
    store: Arc<dyn Store>,
}

/// One collection of the snapshot, and what the server has in its place.
struct Job<'a> {
    source: &'a CollectionResult,
    /// On the server.
    name: CollectionName,
    /// The server's id of this very collection.
    id: i64,
    schema: Schema,
    /// In the server's order; empty on servers without partitions.
    partitions: Vec<String>,
}

impl Job<'_> {
    /// Whether both sides say of every row which partition it is in, and the server can be asked
    /// for the rows of one.
    fn attributed(&self) -> bool {
        let made_up = self.schema.has_partition_key() || self.source.meta.schema.has_partition_key();
        !made_up
            && !self.partitions.is_empty()
            && !self.source.meta.partitions.is_empty()
            && self.source.parts.iter().all(|part| part.partition.is_some())
    }

    /// Whether this is the very collection that was exported.
    fn is_the_source(&self) -> bool {
        self.source.meta.collection_id == self.id && self.source.meta.name == self.name
    }
}

/// The rows of a collection: how both sides are laid beside each other, and as of when.
struct Rows<'a> {
    job: &'a Job<'a>,
    shape: Arc<Shape>,
    view: View,
}

impl Rows<'_> {
    /// All rows of a partition, or of all, with every comparable field.
    fn scan(&self, partition: Option<&str>) -> Scan {
        Scan {
            collection: self.job.name.clone(),
            collection_id: self.job.id,
            partition: partition.map(str::to_string),
            key_field: self.shape.key.clone(),
            up_to: None,
            among: Vec::new(),
            fields: self.shape.server.iter().map(|c| c.name.clone()).collect(),
            view: self.view,
        }
    }
}

/// What is compared with what. Collections that the server does not have are an error that names
/// all of them.
async fn jobs<'a>(manifest: &'a Manifest, server: &Client, options: &Options) -> Result<Vec<Job<'a>>> {
    let picked =
        pick_known(&options.selection, &manifest.collections, |c| &c.meta.name, |c| &c.meta.aliases)?;
    let names: Vec<_> = picked.iter().map(|c| c.meta.name.clone()).collect();
    let targets = options.renames.apply(&names, options.target.database.as_deref())?;
    let mut jobs = Vec::new();
    let mut absent = Vec::new();
    for (source, name) in picked.into_iter().zip(targets) {
        let Some(described) = server.describe(&name).await? else {
            absent.push((&source.meta.name, name));
            continue;
        };
        let schema = described.schema.map_err(|refusals| {
            let listed: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            Error::new(ErrorKind::Unsupported, format!("{name} cannot be read: {}", listed.join("; ")))
        })?;
        let partitions =
            server.partitions(&name).await.context(|| format!("listing the partitions of {name}"))?;
        jobs.push(Job { source, name, id: described.id, schema, partitions });
    }
    if absent.is_empty() {
        return Ok(jobs);
    }
    let names: Vec<_> = absent.iter().map(|(_, name)| name.to_string()).collect();
    let mut error = Error::new(Code::NoCollection, format!("not on the server: {}", names.join(", ")))
        .hint("say with `--rename` where they are, or name others with `-c`");
    for (source, name) in absent {
        // A refusal to list must not hide what is missing.
        let there = server.collections(&name.database).await.unwrap_or_default();
        let there: Vec<_> = there.iter().map(|other| CollectionName::new(&name.database, other)).collect();
        if let Some(near) = select::nearest(&name.to_string(), there.iter()) {
            error = error.also_hint(&format!("did you mean `--rename {source}={near}`?"));
        }
    }
    Err(error)
}
