//! Import: from a snapshot into a server.
//!
//! Owns: the order of the steps, what may be created, and that every row is there once. Does not
//! own: requests (`milvus`), documents and parts (`snapshot`, `part`), or buckets (`store`).
//!
//! ```text
//! commit --> manifest --> checked parts --> record batches --> inserts --> indexes --> counts
//! ```

mod bulk;
mod check;
mod choose;
mod journal;
mod load;
mod plan;
mod service;
mod stage;
mod takes;
mod values;

use crate::capacity;
use crate::digest::Sha256;
use crate::error::{Context, Result};
use crate::milvus::{BulkServer, Client, Cloud, Endpoint, IndexMade, LoadState, ServerKind};
use crate::opened::{self, Trust};
use crate::progress::{Progress, Show};
use crate::schema::CollectionName;
use crate::select::{AutoId, Renames, Selection};
use crate::signature::Found;
use crate::snapshot::Totals;
use crate::stop::Stop;
use crate::store::Store;
use check::Closely;
use journal::{Journal, PartState};
use stage::Stage;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use service::{Key, Reads, Service};
pub use stage::Place;

/// What to import and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to write to.
    pub target: Endpoint,
    /// What to take.
    pub selection: Selection,
    /// Where to put it.
    pub renames: Renames,
    /// Stop before the target is touched, and say what would happen.
    pub plan_only: bool,
    /// Parts in flight.
    pub jobs: usize,
    /// How rows are to get in.
    pub via: Via,
    /// Make no aliases.
    pub no_aliases: bool,
    /// What becomes of keys that the source made.
    pub auto_id: AutoId,
    /// Where to note what is in; `None`: in the user's folder for state.
    pub journal: Option<PathBuf>,
    /// Load the collections when all is in.
    pub load: bool,
    /// Why the snapshot is to be believed.
    pub trust: Trust,
    /// Whether to show progress.
    pub show: Show,
}

/// How rows are to get in, as the user said.
#[derive(Debug, Clone)]
pub enum Via {
    /// By this route.
    Is(Route),
    /// By the one that suits: inserts, or this one if there is a place for it.
    Auto(Option<Route>),
}

/// How rows get in.
#[derive(Debug, Clone)]
pub enum Route {
    /// By inserts of this process.
    Insert,
    /// By the server's own jobs, which read copies of the parts from this place.
    Bulk(Place),
    /// By jobs of Zilliz Cloud, which read the snapshot itself.
    Cloud(Box<Service>),
}

/// A route with what it goes by.
#[derive(Clone, Copy)]
enum Way<'a> {
    Insert,
    Bulk(&'a Arc<dyn BulkServer>),
}

impl Route {
    /// As users type it.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Insert => "insert",
            Route::Bulk(_) | Route::Cloud(_) => "bulk",
        }
    }
}

/// How an import ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The server.
    pub target: String,
    /// The snapshot's id.
    pub id: String,
    /// SHA-256 of COMMIT.json.
    pub commit: Sha256,
    /// Whether the target was touched.
    pub planned_only: bool,
    /// In the order of the snapshot.
    pub collections: Vec<CollectionOutcome>,
    /// What was imported altogether.
    pub totals: Totals,
    /// How rows got in.
    pub via: &'static str,
    /// Why that way, if it was to be chosen.
    pub chosen: Option<String>,
    /// Parts that an earlier run had put in.
    pub resumed_parts: usize,
    /// What the target needs for it.
    pub capacity: capacity::Estimate,
    /// Signatures by trusted keys, if any were asked for.
    pub signatures: Vec<Found>,
    /// What people should know although it is no failure.
    pub warnings: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// What became of one collection.
#[derive(Debug, Clone)]
pub struct CollectionOutcome {
    /// In the snapshot.
    pub source: CollectionName,
    /// On the target.
    pub target: CollectionName,
    /// Rows of its parts.
    pub rows: u64,
    /// Bytes of its parts.
    pub bytes: u64,
    /// What the target counts; `None` when only planned.
    pub server_count: Option<u64>,
    /// Indexes on its vector fields.
    pub indexes: Vec<IndexMade>,
    /// Aliases that were made, or would be.
    pub aliases: Vec<String>,
    /// Whether it is loaded now.
    pub loaded: bool,
}

/// How long the requests of a run that was killed may still be on their way. Milvus orders them by
/// its timestamps before those of this run; the Lites have no such order.
const SETTLE: Duration = Duration::from_millis(500);

/// Imports the snapshot in `store`, or says what an import would do.
pub async fn run(options: &Options, store: Arc<dyn Store>, stop: &Stop) -> Result<Outcome> {
    if let Some(path) = &options.journal {
        journal::refuse_without_folder(path)?;
    }
    // 1. The way from COMMIT.json to the manifest, and what an earlier run of this import has noted.
    let opened = stop.unless_stopped(opened::open(store.as_ref(), &options.trust)).await?;
    let jobs = plan::jobs(&opened.manifest, options)?;
    let identity = |route: &Route| plan::identity(opened.digest, &options.target, &jobs, route);
    let (route, chosen) = match &options.via {
        Via::Is(route) => (route.clone(), None),
        Via::Auto(bulk) => {
            let choosing = choose::route(&options.target, bulk.as_ref(), &jobs, |route| {
                identity(route).is_begun(options.journal.as_deref())
            });
            let (route, why) = stop.unless_stopped(choosing).await?;
            (route, Some(why))
        }
    };
    let identity = identity(&route);
    let journal = match (&options.journal, identity.usual_path()) {
        (Some(path), _) => Journal::open(path.clone(), identity)?,
        (None, Ok(path)) => Journal::open(path, identity)?,
        // A plan notes nothing.
        (None, Err(_)) if options.plan_only => Journal::nowhere(identity),
        (None, Err(no_place)) => return Err(no_place),
    };
    let noted = journal.noted();
    let is_in =
        |job: &plan::Job, key: &str| matches!(noted.part(&job.target, key), Some(PartState::In { .. }));

    // 2. Every part that will be loaded is there and is what was committed. One that is in was hashed
    // when it was loaded, and one that is staged is hashed then.
    let progress = Progress::new("check", None);
    let not_in = |job: &plan::Job, key: &str| !is_in(job, key);
    let closely = match &route {
        Route::Insert => Closely::ByContent,
        Route::Bulk(_) => Closely::ByHead,
        // What the service reads is hashed here or nowhere.
        Route::Cloud(_) => Closely::EveryByte,
    };
    let files = match &route {
        Route::Cloud(service) => Some(service::Files::of(service, store.as_ref())?),
        _ => None,
    };
    let checking = check::parts(store.clone(), &jobs, not_in, closely, options.jobs, &progress);
    stop.unless_stopped(progress.show(options.show, checking)).await?;

    // 3. The target can take it all, and nothing is in the way. 4. The plan.
    let looking = async {
        let target = Client::connect(&options.target).await?;
        let settled = SETTLE.saturating_sub(journal.age().unwrap_or(SETTLE));
        if noted.in_flight() && target.info.kind != ServerKind::Milvus {
            tokio::time::sleep(settled).await;
        }
        if let Route::Cloud(service) = &route {
            service.is_of(&options.target)?;
        }
        let server = server(&route, &target).await?;
        let way = server.as_ref().map_or(Way::Insert, Way::Bulk);
        let plan = plan::against_target(&target, &opened.manifest, &noted, way, jobs).await?;
        Ok((target, server, plan))
    };
    let (target, server, plan) = stop.unless_stopped(looking).await?;
    // What is begun anew is loaded again, with the parts that were in.
    let again = |job: &plan::Job, key: &str| job.found.begins_anew() && is_in(job, key);
    let checking = check::parts(store.clone(), &plan.jobs, again, closely, options.jobs, &progress);
    stop.unless_stopped(progress.show(options.show, checking)).await?;

    let resumed = |job: &plan::Job| match job.found {
        plan::Found::Ours { .. } => job.source.parts.iter().filter(|part| is_in(job, &part.key)).count(),
        _ => 0,
    };
    let mut outcome = Outcome {
        target: target.info.to_string(),
        id: opened.manifest.id.clone(),
        commit: opened.digest,
        planned_only: options.plan_only,
        collections: Vec::new(),
        totals: plan.totals(),
        via: route.name(),
        chosen,
        resumed_parts: plan.jobs.iter().map(resumed).sum(),
        capacity: plan.capacity(),
        warnings: opened
            .signature_warnings()
            .into_iter()
            .chain(plan.warnings.clone())
            .chain(match &route {
                Route::Cloud(service) => service.warning(),
                Route::Insert | Route::Bulk(_) => None,
            })
            .collect(),
        signatures: opened.signatures.clone(),
        seconds: 0.0,
    };
    if options.plan_only {
        outcome.collections = plan.jobs.iter().map(plan::Job::outcome).collect();
        return Ok(outcome);
    }

    // For bulk import: every part is hashed while it is brought to where the server reads, before the
    // first job and before the target is touched.
    journal.begin().await?;
    let stage = match &route {
        Route::Insert | Route::Cloud(_) => None,
        Route::Bulk(place) => {
            let progress = Progress::new("stage", Some(outcome.totals.rows));
            let staging = stage(options, place, &plan, &store, &journal, &progress);
            Some(stop.unless_stopped(progress.show(options.show, staging)).await?)
        }
    };

    // From here on the target is touched: a failure says what was left there.
    let progress = Progress::new("import", Some(outcome.totals.rows));
    let gauge = target.clone();
    progress.slowed_to(move || gauge.slowed_to());
    let mut created = Vec::new();
    let source = match (&stage, &files) {
        (Some(stage), _) => Some(bulk::Source::Stage(stage)),
        (None, Some(files)) => Some(bulk::Source::Snapshot(files)),
        (None, None) => None,
    };
    let work = fill(
        options,
        server.as_ref().map_or(Way::Insert, Way::Bulk),
        &target,
        &plan,
        store,
        source,
        &journal,
        &progress,
        &mut created,
        &mut outcome,
    );
    let done = stop.unless_stopped(progress.show(options.show, work)).await;
    target.last_replies().await;
    if let Err(e) = done {
        let e = plan::why(&target, &plan.jobs, &journal.noted(), e).await;
        let e = plan::left_behind(e, &created);
        return Err(match stage {
            Some(stage) => e.also_hint(&stage.kept()),
            None => e,
        });
    }
    if let Some(stage) = stage
        && let Err(e) = stop.unless_stopped(stage.clear()).await
    {
        outcome.warnings.push(format!("{} is not needed any longer: remove it ({e})", stage.place()));
    }
    outcome.seconds = progress.elapsed().as_secs_f64();
    let path = journal.path();
    if let Err(e) = journal.finish() {
        outcome
            .warnings
            .push(format!("the journal {} is not needed any longer: remove it ({e})", path.display()));
    }
    Ok(outcome)
}

/// The release from which on jobs can be told to wait for a commit.
const TWO_PHASES: (u32, u32, u32) = (3, 0, 0);

/// What loads the parts, if not this process. Zilliz Cloud has then taken the key and knows the cluster.
async fn server(route: &Route, target: &Client) -> Result<Option<Arc<dyn BulkServer>>> {
    Ok(match route {
        Route::Insert => None,
        Route::Bulk(_) => Some(Arc::new(target.clone())),
        Route::Cloud(service) => {
            let two_phase = target.info.release().is_some_and(|release| release >= TWO_PHASES);
            let cloud = Cloud::new(&service.endpoint, two_phase)?;
            cloud.check().await?;
            Some(Arc::new(cloud))
        }
    })
}

/// Brings the parts to where the server reads: all that are not in and are not being loaded.
async fn stage(
    options: &Options,
    place: &Place,
    plan: &plan::Plan<'_>,
    store: &Arc<dyn Store>,
    journal: &Journal,
    progress: &Progress,
) -> Result<Stage> {
    let stage = Stage::open(place, journal).await?;
    let noted = journal.noted();
    let wanted =
        |job: &plan::Job, key: &str| job.found.begins_anew() || noted.part(&job.target, key).is_none();
    let filled = stage.fill(&plan.jobs, wanted, store, journal, options.jobs, progress).await;
    filled.map_err(|e| e.also_hint(&stage.kept()))?;
    Ok(stage)
}

#[expect(clippy::too_many_arguments)] // each is a thing of its own, and there is one caller
async fn fill(
    options: &Options,
    way: Way<'_>,
    target: &Client,
    plan: &plan::Plan<'_>,
    store: Arc<dyn Store>,
    source: Option<bulk::Source<'_>>,
    journal: &Journal,
    progress: &Progress,
    created: &mut Vec<CollectionName>,
    outcome: &mut Outcome,
) -> Result<()> {
    // 5. Databases, collections, partitions.
    for database in &plan.new_databases {
        target.create_database(&database.name, &database.properties).await?;
    }
    for job in &plan.jobs {
        created.push(job.target.clone());
        let made = plan::create(target, job, journal, way).await;
        // A failed create may have had its effect all the same.
        if made.is_err() && matches!(target.describe(&job.target).await, Ok(None)) {
            created.pop();
        }
        outcome.warnings.extend(made?);
    }

    // 6. Rows, from several parts at once. Where the server builds indexes of what one job has loaded
    // while the next one loads, they come first.
    let mut indexes = Vec::new();
    let replaced = match (way, source) {
        (Way::Bulk(server), Some(source)) => {
            for job in plan.jobs.iter().filter(|_| server.indexes_meanwhile()) {
                let about = || format!("import into {}", job.target);
                let made = plan::create_indexes(target, job, &mut outcome.warnings).await;
                indexes.push(made.context(about)?);
            }
            bulk::all(target, server, &plan.jobs, source, &store, journal, options.jobs, progress).await?;
            BTreeSet::new()
        }
        _ => load::all(target, &plan.jobs, store, journal, options.jobs, progress).await?,
    };

    let mut indexes = indexes.into_iter();
    for job in &plan.jobs {
        let about = || format!("import into {}", job.target);
        // 7. Indexes on every vector field; flush; wait until they are built over every row. In
        // this order, because after a flush Lite would build within the request.
        let indexes = match indexes.next() {
            Some(made) => made,
            None => plan::create_indexes(target, job, &mut outcome.warnings).await.context(about)?,
        };
        target.flush(&job.target).await.context(about)?;
        target.wait_for_indexes(&job.target).await.context(about)?;

        target.end_load(&job.target, &job.source.meta, job.keys).await.context(about)?;

        // 8. Counts, of the very collection that was made.
        plan::still_ours(target, job, &journal.noted()).await?;
        let inexact = replaced.contains(&job.target);
        let server_count = check::count(target, job, options.load, inexact).await.context(about)?;

        // 9. Load, if asked for; else see that it is not, since Lite loads what is created.
        if options.load {
            target.load(&job.target).await.context(about)?;
        } else if target.load_state(&job.target, None).await.context(about)? != LoadState::NotLoaded {
            target.release(&job.target).await.context(about)?;
        }
        outcome.collections.push(CollectionOutcome {
            server_count: Some(server_count),
            indexes,
            loaded: options.load,
            ..job.outcome()
        });
        if job.aliases.is_empty() {
            created.retain(|name| *name != job.target);
        }
    }
    // Aliases come last: they are what applications look for.
    for job in &plan.jobs {
        plan::create_aliases(target, job).await?;
    }
    Ok(())
}
