//! Steps 3 to 5 and 7: what goes where, whether the target can take it, and making it there.

use super::journal::{Creation, Identity, Journal, Noted, PartState};
use super::{CollectionOutcome, Options, Route, Way, bulk, takes};
use crate::capacity::{Estimate, Load};
use crate::digest::Sha256;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::milvus::{
    Client, Endpoint, IndexMade, KeyPolicy, ServerInfo, ServerKind, is_portable_database_property,
    is_portable_property,
};
use crate::schema::{CollectionName, DEFAULT_DATABASE, Field, FieldType, FunctionKind, Schema};
use crate::select::{AutoId, pick_known};
use crate::snapshot::{CollectionResult, Consistency, Database, Manifest, Part, Totals};
use std::collections::{BTreeMap, BTreeSet};

/// The partition that every collection has.
const DEFAULT_PARTITION: &str = "_default";

/// One collection to import.
pub struct Job<'a> {
    /// In the snapshot.
    pub source: &'a CollectionResult,
    /// On the target.
    pub target: CollectionName,
    /// Aliases to make.
    pub aliases: Vec<String>,
    /// What becomes of the keys.
    pub keys: KeyPolicy,
    /// What an earlier run of the same import has made of it.
    pub found: Found,
}

/// What there is of a collection on the target before it is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Nothing any longer of what an earlier run of this import made: somebody dropped it.
    Gone,
    /// What an earlier run of this import made; to be gone on with.
    Ours {
        /// The server's own id of it; 0 on servers that tell none (Lite).
        id: i64,
        /// Other names that it has already.
        aliases: Vec<String>,
    },
    /// What an earlier run made, with rows that may be there twice and cannot be told apart: to be
    /// made anew.
    Spoilt {
        /// Rows that are there more often than they were sent.
        twice: u64,
    },
}

/// What an import will do.
pub struct Plan<'a> {
    /// In the order of the snapshot.
    pub jobs: Vec<Job<'a>>,
    /// Databases that do not exist yet.
    pub new_databases: Vec<Database>,
    /// What people should know.
    pub warnings: Vec<String>,
}

impl Found {
    /// Whether an earlier run has put rows in that have to be put in again.
    pub fn begins_anew(&self) -> bool {
        matches!(self, Found::Gone | Found::Spoilt { .. })
    }
}

impl Job<'_> {
    /// The outcome as far as it is known before anything is done.
    pub fn outcome(&self) -> CollectionOutcome {
        CollectionOutcome {
            source: self.source.meta.name.clone(),
            target: self.target.clone(),
            rows: self.source.rows(),
            bytes: self.source.bytes(),
            server_count: None,
            indexes: Vec::new(),
            aliases: self.aliases.clone(),
            loaded: false,
        }
    }

    /// Rows of the parts that are in, and of those that are or may be in to some degree.
    fn rows_noted(&self, noted: &Noted) -> (u64, u64) {
        let rows = |counts: &dyn Fn(PartState) -> bool| {
            let state = |part: &&Part| noted.part(&self.target, &part.key).is_some_and(counts);
            self.source.parts.iter().filter(state).map(|part| part.rows).sum()
        };
        (rows(&|state| matches!(state, PartState::In { .. })), rows(&|_| true))
    }

    /// The partition that a part's rows are inserted into; `None` where the server chooses.
    pub fn partition<'p>(&self, part: &'p Part) -> Option<&'p str> {
        part.partition.as_deref().filter(|_| !self.source.meta.schema.has_partition_key())
    }
}

impl Plan<'_> {
    /// What will be imported.
    pub fn totals(&self) -> Totals {
        Totals {
            collections: self.jobs.len() as u64,
            parts: self.jobs.iter().map(|j| j.source.parts.len() as u64).sum(),
            rows: self.jobs.iter().map(|j| j.source.rows()).sum(),
            bytes: self.jobs.iter().map(|j| j.source.bytes()).sum(),
        }
    }

    /// What the target needs for it.
    pub fn capacity(&self) -> Estimate {
        let load = |job: &Job| Load::of(&job.source.meta.schema, job.source.rows(), job.source.bytes());
        self.jobs.iter().map(load).fold(Load::default(), Load::plus).estimate()
    }
}

/// What goes where, from the manifest and the command line alone.
pub fn jobs<'a>(manifest: &'a Manifest, options: &Options) -> Result<Vec<Job<'a>>> {
    let picked =
        pick_known(&options.selection, &manifest.collections, |c| &c.meta.name, |c| &c.meta.aliases)?;
    let names: Vec<_> = picked.iter().map(|c| c.meta.name.clone()).collect();
    let targets = options.renames.apply(&names, options.target.database.as_deref())?;
    let job = |(source, target): (&'a CollectionResult, CollectionName)| Job {
        source,
        target,
        aliases: if options.no_aliases { Vec::new() } else { source.meta.aliases.clone() },
        keys: match (source.meta.schema.primary_key().auto_id, options.auto_id) {
            (false, _) => KeyPolicy::Given,
            (true, AutoId::Preserve) => KeyPolicy::Preserve,
            (true, AutoId::Regenerate) => KeyPolicy::Regenerate,
            (true, AutoId::AsField) => KeyPolicy::AsField,
        },
        found: Found::Nothing,
    };
    Ok(picked.into_iter().zip(targets).map(job).collect())
}

/// Which import these jobs are.
pub fn identity(commit: Sha256, target: &Endpoint, jobs: &[Job], route: &Route) -> Identity {
    let collections = jobs.iter().map(|job| (&job.source.meta.name, &job.target, job.keys));
    let identity = Identity::new(commit, &target.address, collections);
    match route {
        Route::Insert => identity,
        Route::Bulk(_) => identity.by(route.name()),
        Route::Cloud(service) => identity.by_service(&service.endpoint.deployment),
    }
}

/// Checks the plan against the target, without changing anything there. What is wrong is reported
/// all at once. What an earlier run of the same import has `noted` is not in the way.
pub async fn against_target<'a>(
    target: &Client,
    manifest: &Manifest,
    noted: &Noted,
    way: Way<'_>,
    mut jobs: Vec<Job<'a>>,
) -> Result<Plan<'a>> {
    let mut warnings = Vec::new();
    let unsupported: Vec<String> =
        jobs.iter().flat_map(|job| takes::unsupported(&target.info, job)).collect();
    if !unsupported.is_empty() {
        let what = format!("the target, {}, cannot take: {}", target.info, unsupported.join("; "));
        return Err(Error::new(Code::TargetCannot, what)
            .hint("import into a newer server, or leave these collections out with `-c`"));
    }

    if let Way::Bulk(server) = way {
        let too_large = jobs.iter().flat_map(|job| takes::too_large_for_bulk(server.limits(), job));
        let by_insert: Vec<String> = jobs
            .iter()
            .flat_map(|job| takes::unsupported_by_bulk(&target.info, job))
            .chain(too_large)
            .collect();
        if !by_insert.is_empty() {
            let what = format!(
                "the bulk import of the target, {}, cannot take: {}",
                target.info,
                by_insert.join("; ")
            );
            return Err(Error::new(ErrorKind::Unsupported, what)
                .hint("import with `--via insert`, these collections (`-c`) or all"));
        }
    }

    let refused: BTreeSet<String> = jobs.iter().flat_map(|job| takes::names(&target.info, job)).collect();
    if !refused.is_empty() {
        let names = refused.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("the target, {}, does not take these names: {names}", target.info);
        return Err(Error::new(Code::TargetCannot, what).hint(
            "it takes ASCII letters, digits and underscores: give collections and databases another name with `--rename`, \
             leave aliases out with `--no-aliases`, and leave out with `-c` what has such fields or partitions",
        ));
    }

    if let Some(job) = jobs.iter().find(|job| job.keys == KeyPolicy::Preserve && !takes_keys(&target.info)) {
        let what = format!(
            "the target, {}, makes the keys of {} itself and takes no others, so the keys cannot be kept",
            target.info, job.source.meta.name
        );
        return Err(Error::new(Code::TargetCannot, what).hint(
            "choose: `--auto-id as-field` keeps the keys, but new rows must then bring theirs; `--auto-id regenerate` \
             makes new keys, and the old ones are lost; or import into Milvus 2.5.19, 2.6.3 or newer",
        ));
    }

    let has_databases = target.has_databases().await.context(|| "listing databases of the target")?;
    let wanted: BTreeSet<&str> = jobs.iter().map(|job| job.target.database.as_str()).collect();
    let mut new_databases = Vec::new();
    if has_databases {
        let known = target.databases().await?;
        let missing = wanted.iter().filter(|wanted| !known.iter().any(|known| known == *wanted));
        new_databases.extend(missing.map(|name| new_database(name, manifest, &jobs, &mut warnings)));
        for name in wanted.iter().filter(|name| known.iter().any(|known| known == *name)) {
            let wished = source_properties(name, manifest, &jobs);
            if !wished.is_empty() {
                let there = target.database_properties(name).await?;
                let other = wished.iter().filter(|(key, value)| there.get(*key) != Some(*value));
                warnings.extend(other.map(|(key, _)| {
                    format!(
                        "database {name}: it exists already, so the source's property {key} is not set on it"
                    )
                }));
            }
        }
    } else if let Some(database) = wanted.iter().find(|d| **d != DEFAULT_DATABASE) {
        let what = format!("the target has no databases, so there is no place for {database}.*");
        return Err(Error::new(Code::TargetCannot, what).hint(format!(
            "put the collections into its only database with `--rename {database}.*={DEFAULT_DATABASE}.*`"
        )));
    }

    let mut names: BTreeMap<CollectionName, String> =
        jobs.iter().map(|job| (job.target.clone(), job.target.to_string())).collect();
    let has_partitions = target.has_partitions(DEFAULT_DATABASE).await?;
    let has_aliases = target.has_aliases(DEFAULT_DATABASE).await?;
    for job in &mut jobs {
        if !new_databases.iter().any(|d: &Database| d.name == job.target.database) {
            job.found = found(target, job, noted, way).await?;
        }
        check_partitions(has_partitions, job)?;
        for key in job.source.meta.properties.keys().filter(|key| !is_portable_property(key)) {
            warnings.push(format!(
                "{}: the property {key} belongs to the source's cluster and is not copied",
                job.target
            ));
        }
        if job.source.consistency == Consistency::Unchecked {
            warnings.push(format!(
                "{}: writes were allowed during its export, so nothing proves that it is complete",
                job.target
            ));
        }
        if job.keys == KeyPolicy::Regenerate {
            warnings.push(format!(
                "{}: the target makes new primary keys; those of the snapshot are lost",
                job.target
            ));
        }
        if !job.aliases.is_empty() && !has_aliases {
            warnings.push(format!(
                "{}: the target has no aliases, so {} will not be made",
                job.target,
                job.aliases.join(", ")
            ));
            job.aliases.clear();
        }
    }
    for job in &jobs {
        for alias in &job.aliases {
            let name = CollectionName::new(&job.target.database, alias);
            if let Some(other) = names.insert(name.clone(), format!("alias {alias:?} of {}", job.target)) {
                let what = format!("alias {alias:?} of {} collides with {other}", job.target);
                return Err(Error::new(Code::TargetTaken, what).hint("leave aliases out with `--no-aliases`"));
            }
            if !new_databases.iter().any(|d: &Database| d.name == job.target.database) {
                free_alias(target, job, &name).await?;
            }
        }
    }
    Ok(Plan { jobs, new_databases, warnings })
}

/// Whether a server takes keys for collections that make their own, and goes on making others
/// afterwards. Lite takes them, but its counter could then give out a copied key again.
fn takes_keys(info: &ServerInfo) -> bool {
    match (info.kind, info.release()) {
        (ServerKind::Milvus, Some((2, 5, patch))) => patch >= 19,
        (ServerKind::Milvus, Some((2, 6, patch))) => patch >= 3,
        (ServerKind::Milvus, Some(release)) => release >= (3, 0, 0),
        _ => false,
    }
}

/// The properties of the source's database, if all that goes into a database comes from one.
fn source_properties(name: &str, manifest: &Manifest, jobs: &[Job]) -> BTreeMap<String, String> {
    let sources: BTreeSet<&str> = jobs
        .iter()
        .filter(|job| job.target.database == name)
        .map(|job| job.source.meta.name.database.as_str())
        .collect();
    match (sources.len(), sources.first()) {
        (1, Some(source)) => {
            let known = manifest.databases.iter().find(|d| d.name == **source);
            known.map(|d| d.properties.clone()).unwrap_or_default()
        }
        _ => BTreeMap::new(),
    }
}

/// A database as it was on the source.
fn new_database(name: &str, manifest: &Manifest, jobs: &[Job], warnings: &mut Vec<String>) -> Database {
    let mut properties = source_properties(name, manifest, jobs);
    let dropped: Vec<_> =
        properties.keys().filter(|key| !is_portable_database_property(key)).cloned().collect();
    for key in dropped {
        properties.remove(&key);
        warnings.push(format!(
            "database {name}: the property {key} belongs to the source's cluster and is not copied"
        ));
    }
    Database { name: name.to_string(), properties }
}

/// What there is of a job's collection. An existing one is never touched, unless this very import
/// made it: then it has the id that was noted when it was created. Where the server tells no ids,
/// it has the snapshot's fields, at least the rows that are in, and no more than were sent. A run that
/// ended between asking for the collection and noting its id has left an empty one.
async fn found(target: &Client, job: &Job<'_>, noted: &Noted, way: Way<'_>) -> Result<Found> {
    let there = target.describe(&job.target).await?;
    let creation = noted.creation(&job.target);
    let Some(there) = there else {
        return Ok(if creation.is_some() { Found::Gone } else { Found::Nothing });
    };
    let form = |f: &Field| (f.name.clone(), f.kind.name(), f.kind.dim(), f.primary_key, f.nullable);
    let fields = |schema: &Schema| schema.fields.iter().map(form).collect::<Vec<_>>();
    let alike = there.schema.as_ref().is_ok_and(|s| fields(s) == fields(&job.source.meta.schema));
    let ours = match creation {
        None => return Err(exists(&job.target, "a collection or alias")),
        Some(Creation::Made(id)) if id != 0 => id == there.id,
        Some(_) => {
            let rows = target.statistics_rows(&job.target).await?;
            let (is_in, sent) = job.rows_noted(noted);
            alike && (is_in..=sent).contains(&rows)
        }
    };
    if !ours {
        return Err(not_ours(&job.target, "somebody else made it, or made it anew"));
    }
    let in_flight = |part: &Part| noted.part(&job.target, &part.key) == Some(PartState::Begun);
    let spoilt = match way {
        Way::Insert => {
            let anew = job.keys == KeyPolicy::Regenerate && job.source.parts.iter().any(in_flight);
            anew.then_some(0)
        }
        Way::Bulk(server) => bulk::untellable(server.as_ref(), job, noted).await?,
    };
    if let Some(twice) = spoilt {
        may_be_dropped(&job.target, there.id, target.statistics_rows(&job.target).await?)?;
        return Ok(Found::Spoilt { twice });
    }
    let mut aliases = there.aliases;
    aliases.extend(target.aliases(&job.target).await?);
    Ok(Found::Ours { id: there.id, aliases })
}

/// The name of an alias must be free, unless it means the job's own collection already.
async fn free_alias(target: &Client, job: &Job<'_>, alias: &CollectionName) -> Result<()> {
    let ours = matches!(&job.found, Found::Ours { aliases, .. } if aliases.contains(&alias.name));
    if ours || target.describe(alias).await?.is_none() {
        return Ok(());
    }
    let what = format!("an alias or collection named {alias} exists on the target already");
    Err(Error::new(Code::TargetTaken, what).hint(
        "leave aliases out with `--no-aliases` and point them here yourself, or remove the one that is there; an \
         interrupted import goes on only with its own journal",
    ))
}

fn exists(name: &CollectionName, what: &str) -> Error {
    Error::new(Code::TargetTaken, format!("{what} named {name} exists on the target already"))
        .hint("import under another name with `--rename`, or remove the one that is there; an interrupted import goes on only with its own journal: the same command, on the same machine or with the same `--journal`")
}

fn not_ours(name: &CollectionName, why: &str) -> Error {
    let what = format!("{name} exists on the target and is not what this import has made there: {why}");
    Error::new(Code::TargetTaken, what)
        .hint("import under another name with `--rename`, or remove the one that is there and run the same command again")
}

fn check_partitions(has_partitions: bool, job: &Job<'_>) -> Result<()> {
    let named = job.source.meta.partitions.iter().any(|p| p != DEFAULT_PARTITION);
    if named && !job.source.meta.schema.has_partition_key() && !has_partitions {
        let what = format!("{} has partitions, and the target has none", job.source.meta.name);
        return Err(
            Error::new(Code::TargetCannot, what).hint("leave this collection out: name the others with `-c`")
        );
    }
    Ok(())
}

/// Step 5 for one collection: it is there, empty or with what an earlier run has put into it. Gives
/// what people should know of it.
pub async fn create(
    target: &Client,
    job: &Job<'_>,
    journal: &Journal,
    way: Way<'_>,
) -> Result<Option<String>> {
    let meta = &job.source.meta;
    let id = match &job.found {
        Found::Ours { id, .. } => *id,
        found => {
            if let Found::Spoilt { twice } = found {
                drop_spoilt(target, job, &journal.noted(), *twice).await?;
            }
            if *found != Found::Nothing {
                journal.gone(&job.target).await?;
            }
            let tried_before = *found == Found::Gone;
            journal.creating(&job.target).await?;
            // No job that is listed now is of the collection that does not exist yet.
            if let Way::Bulk(server) = way
                && server.lists_by_name()
            {
                journal.before(&job.target, server.names(&job.target).await?).await?;
            }
            if let Err(error) = target.create_collection(&job.target, meta, job.keys).await {
                // What an earlier run asked for may have been made just now.
                let there = tried_before && found_now(target, job, journal, way).await;
                if !there {
                    return Err(error);
                }
            }
            let made = target.describe(&job.target).await?;
            made.ok_or_else(|| vanished(&job.target))?.id
        }
    };
    if journal.noted().creation(&job.target) != Some(Creation::Made(id)) {
        journal.created(&job.target, id).await?;
    }
    if !meta.schema.has_partition_key() {
        let there = match job.found {
            Found::Ours { .. } => target.partitions(&job.target).await?,
            _ => Vec::new(),
        };
        let wanted = meta.partitions.iter().filter(|p| *p != DEFAULT_PARTITION);
        for partition in wanted.filter(|p| !there.contains(p)) {
            target.create_partition(&job.target, partition).await?;
        }
    }
    // The Lites have no shards, whatever they say.
    if target.info.kind != ServerKind::Milvus {
        return Ok(None);
    }
    let shards = target.describe(&job.target).await?.ok_or_else(|| vanished(&job.target))?.shards;
    Ok((shards < meta.shards)
        .then(|| format!("{}: the target takes {shards} shards and not {}", job.target, meta.shards)))
}

async fn found_now(target: &Client, job: &Job<'_>, journal: &Journal, way: Way<'_>) -> bool {
    matches!(found(target, job, &journal.noted(), way).await, Ok(Found::Ours { .. }))
}

/// Drops what this import has made of a collection, after a last look that nobody else uses it: it
/// has no more rows than were sent.
async fn drop_spoilt(target: &Client, job: &Job<'_>, noted: &Noted, twice: u64) -> Result<()> {
    target.flush(&job.target).await?;
    let (rows, sent) = (target.statistics_rows(&job.target).await?, job.rows_noted(noted).1 + twice);
    if rows > sent {
        let why = format!("it has {rows} rows, of which this import has sent at most {sent}");
        return Err(not_ours(&job.target, &why));
    }
    let id = target.describe(&job.target).await?.map_or(0, |there| there.id);
    may_be_dropped(&job.target, id, rows)?;
    tracing::warn!("{}: dropping the {rows} rows of an earlier run, which cannot be told apart", job.target);
    target.drop_collection(&job.target).await
}

/// Rows are dropped only with a collection that is ours beyond doubt: by its id.
fn may_be_dropped(name: &CollectionName, id: i64, rows: u64) -> Result<()> {
    if id != 0 || rows == 0 {
        return Ok(());
    }
    let what = format!(
        "{name} has {rows} rows, some of them perhaps twice, since an earlier run was interrupted; keys that the target \
         makes do not tell which, and this target does not tell whether the collection is the one that was made for them"
    );
    Err(Error::new(Code::TargetTaken, what)
        .hint("see that nothing else is in it, drop it there, and run the same command again: it begins this collection anew"))
}

/// The name must still mean the collection that this import made: requests go by names alone, so
/// rows could have gone elsewhere. Servers without ids cannot be asked.
pub async fn still_ours(target: &Client, job: &Job<'_>, noted: &Noted) -> Result<()> {
    let Some(Creation::Made(id)) = noted.creation(&job.target) else { return Ok(()) };
    match target.describe(&job.target).await? {
        None => Err(Error::new(ErrorKind::Temporary, format!("{} was dropped during the import", job.target))
            .hint("see whether somebody else drops collections there, then run the same command again, which makes it anew")),
        Some(there) if there.id != id => {
            Err(not_ours(&job.target, "somebody has dropped it and made it anew during the import"))
        }
        Some(_) => Ok(()),
    }
}

/// Why an import failed: what the server answers after somebody dropped or made a collection anew
/// says little of it.
pub async fn why(target: &Client, jobs: &[Job<'_>], noted: &Noted, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Integrity) {
        for job in jobs {
            match still_ours(target, job, noted).await {
                Err(changed) if matches!(changed.kind(), ErrorKind::Temporary | ErrorKind::Exists) => {
                    return changed.because(error);
                }
                _ => {}
            }
        }
    }
    error
}

fn vanished(name: &CollectionName) -> Error {
    Error::new(ErrorKind::Temporary, format!("{name} was created, and the target does not know it"))
        .hint("see whether somebody else drops collections there, then run the same command again")
}

/// Step 9 for one collection: other names, of which an earlier run may have made some.
pub async fn create_aliases(target: &Client, job: &Job<'_>) -> Result<()> {
    for alias in &job.aliases {
        if !matches!(&job.found, Found::Ours { aliases, .. } if aliases.contains(alias)) {
            target.create_alias(&job.target, alias).await?;
        }
    }
    Ok(())
}

/// Step 7 for one collection: an index on every vector field with the source's metric, and the
/// scalar indexes that the source had.
pub async fn create_indexes(
    target: &Client,
    job: &Job<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<IndexMade>> {
    let mut made = Vec::new();
    for (field, kind) in job.source.meta.schema.vectors() {
        let index = job.source.meta.indexes.iter().find(|i| i.field == field);
        let metric = index.and_then(|i| i.params.get("metric_type")).map(String::as_str);
        let metric = metric.filter(|m| !m.is_empty()).unwrap_or_else(|| {
            let usual = match job.source.meta.schema.functions.iter().find(|f| f.outputs.contains(&field)) {
                Some(function) if function.kind == FunctionKind::Bm25 => "BM25",
                _ => usual_metric(kind),
            };
            warnings.push(format!(
                "{}: the source had no index on {field:?}, so its metric is not known; {usual} was taken",
                job.target
            ));
            usual
        });
        let name = index.map_or("", |i| i.name.as_str());
        // AUTOINDEX takes no third parameter; how the source's own index was built means nothing to it.
        let settings = index.iter().flat_map(|i| i.params.keys());
        for key in settings.filter(|key| key.starts_with("mmap.") || key.starts_with("bm25_")) {
            warnings.push(format!(
                "{}: the index on {field:?} had {key} on the source, which AUTOINDEX does not take",
                job.target
            ));
        }
        let index = target.create_vector_index(&job.target, &field, kind, name, metric).await?;
        if index.index_type != "AUTOINDEX" {
            warnings.push(format!(
                "{}: the target refuses AUTOINDEX on {field:?} ({kind}), so it got {}",
                job.target, index.index_type
            ));
        }
        made.push(index);
    }
    let vectors = job.source.meta.schema.vectors();
    let scalars =
        job.source.meta.indexes.iter().filter(|i| !vectors.iter().any(|(field, _)| *field == i.field));
    for index in scalars {
        match target.create_scalar_index(&job.target, index).await? {
            Some(index) => made.push(index),
            None => warnings.push(format!(
                "{}: the target refuses an index on {:?}, so it has none",
                job.target, index.field
            )),
        }
    }
    Ok(made)
}

/// What Milvus takes when no metric is named (2.4 and later).
fn usual_metric(kind: &FieldType) -> &'static str {
    match kind {
        FieldType::VectorArray { element, .. } => usual_metric(element),
        FieldType::BinaryVector { .. } => "HAMMING",
        FieldType::SparseFloatVector => "IP",
        _ => "COSINE",
    }
}

/// Says what a failed import has left on the target, and that the same command goes on with it.
pub fn left_behind(error: Error, created: &[CollectionName]) -> Error {
    if created.is_empty() {
        return error;
    }
    let names = created.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let hint = match error.kind() {
        // The same command would come to the same end.
        ErrorKind::Unsupported | ErrorKind::Integrity => {
            format!(
                "this import has created {names} and not finished them: drop them on the target before another try"
            )
        }
        _ => format!(
            "this import has created {names} and not finished them: the same command again goes on with them; to give it \
             up, drop them on the target"
        ),
    };
    error.also_hint(&hint)
}
