//! Step 6 by the server's own bulk import: it reads the parts itself, staged copies of them or, on
//! Zilliz Cloud, the snapshot's own objects.
//!
//! Owns: that every part is loaded by exactly one job, whatever replies are lost and whenever this
//! process ends. Does not own: the copies (`stage`), what the service calls the objects (`service`),
//! or requests (`milvus`).
//!
//! A job is all or nothing, so its parts are in when it is complete, and not in when it failed. What
//! has to be found out is whether there is a job at all, after a request whose reply was lost or
//! whose sender was killed. The server's list of jobs tells their files.
//!
//! - A staged copy has a name that no other copy ever had. If the list has no job of it, it is
//!   removed before the list is read once more: a request that still arrives later makes a job that
//!   finds no file. Then the part is staged under a new name and asked for again.
//! - The snapshot's own objects stay where they are. If the list, looked at for a while, has no job
//!   of them, the same request is sent again under the same name, by which a server that knows
//!   names of requests tells that it is the same. In the end the list must have no other job of
//!   these objects; if it has, the collection is made anew.
//!
//! A job that is there after all may be one that the server runs twice (`milvus::bulk`): then the
//! collection is begun anew. So a request is sent to its end and its reply noted, also when this
//! process is told to stop.

use super::journal::{Journal, Noted, PartState, Request};
use super::plan::Job;
use super::service::Files;
use super::stage::{Stage, file_of};
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::milvus::{
    BulkJob, BulkRequest, BulkServer, BulkState, Client, Failure, JobId, JobLimits, RpcError,
};
use crate::progress::Progress;
use crate::schema::CollectionName;
use crate::snapshot::{ObjectRef, Part};
use crate::store::Store;
use crate::verify::{Content, content_by_head};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often parts are tried whose job failed although they are whole: data nodes come and go.
const TRIES: u32 = 3;

/// How often a request is sent whose reply is lost every time.
const SENDS: u32 = 5;

/// How often the list is looked at while a request may still be on its way.
const LOOKS: u32 = 4;

/// How long a job may make no headway that we can see.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How often a job is looked at: seldom enough for many, often enough for small ones.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How long a server certainly remembers a job: a day on Milvus 2.3, three hours since 2.4 (its
/// configuration, `importTaskRetention` and `import.taskRetention`), counted from its end.
const MEMORY: Duration = Duration::from_secs(7200);

/// How long a server may say that it has as many jobs as it takes.
const FULL: Duration = Duration::from_secs(3600);

/// What follows if nobody can say whether a part is in.
const ANEW: &str =
    "run the same command again: it drops what it has made of this collection and begins it anew";

/// From where the server reads the parts.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// From copies.
    Stage(&'a Stage),
    /// From the snapshot itself.
    Snapshot(&'a Files),
}

/// Loads every part of every job that is not in yet, `at_once` jobs of the server at a time.
#[expect(clippy::too_many_arguments)] // Each is another thing; a struct would only hide them.
pub async fn all(
    target: &Client,
    server: &Arc<dyn BulkServer>,
    jobs: &[Job<'_>],
    source: Source<'_>,
    store: &Arc<dyn Store>,
    journal: &Journal,
    at_once: usize,
    progress: &Progress,
) -> Result<()> {
    let mut todo = Vec::new();
    for job in jobs {
        let noted = journal.noted();
        for part in &job.source.parts {
            if let Some(PartState::In { .. }) = noted.part(&job.target, &part.key) {
                progress.add(part.rows, part.size);
            }
        }
        // What is on its way already comes first.
        let (begun, new) = groups(job, &noted, server.limits());
        todo.splice(0..0, begun.into_iter().map(|parts| (job, parts)));
        todo.extend(new.into_iter().map(|parts| (job, parts)));
    }
    let load = |(job, parts)| {
        let loading = Loading { target, server, job, parts, source, store, journal, progress, shown: 0 };
        let about = loading.about();
        async move { loading.run().await.context(|| about) }
    };
    stream::iter(todo).map(load).buffer_unordered(at_once).try_collect::<()>().await?;
    for job in jobs.iter().filter(|_| server.lists_by_name()) {
        refuse_strays(server.as_ref(), job, &journal.noted()).await?;
    }
    Ok(())
}

/// The parts of a collection that are not in, as jobs take them: those that were asked for together,
/// and the others, by partition.
fn groups<'p>(
    job: &'p Job<'_>,
    noted: &Noted,
    limits: JobLimits,
) -> (Vec<Vec<&'p Part>>, Vec<Vec<&'p Part>>) {
    let mut begun: BTreeMap<String, Vec<&Part>> = BTreeMap::new();
    let mut new: Vec<Vec<&Part>> = Vec::new();
    for part in &job.source.parts {
        match noted.part(&job.target, &part.key) {
            Some(PartState::In { .. }) => {}
            Some(PartState::Begun) => {
                let request = noted.request(&job.target, &part.key).map_or(&*part.key, |(name, _)| name);
                begun.entry(request.to_string()).or_default().push(part);
            }
            None => {
                let fits = |group: &&mut Vec<&Part>| {
                    let bytes: u64 = group.iter().map(|part| part.size).sum();
                    job.partition(group[0]) == job.partition(part)
                        && group.len() < limits.files
                        && bytes.saturating_add(part.size) <= limits.bytes
                };
                match new.last_mut().filter(fits) {
                    Some(group) => group.push(part),
                    None => new.push(vec![part]),
                }
            }
        }
    }
    (begun.into_values().collect(), new)
}

/// Whether there may be a job of a collection that cannot be told apart from others, so that parts
/// may be in or not; or one that loads parts twice: then so many rows may be there beyond those of
/// the parts.
pub async fn untellable(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> Result<Option<u64>> {
    let doubtful = doubtful(server, job, noted).await?;
    if !server.lists_by_name() {
        return Ok(doubtful);
    }
    // One that waits for a commit has loaded none.
    let strays = strays(server, job, noted).await?;
    let loaded: Vec<_> = strays.iter().filter(|stray| stray.state != BulkState::Uncommitted).collect();
    let of = |stray: &&BulkJob| {
        let parts = job.source.parts.iter();
        let its = parts.filter(|part| stray.has(&part.key));
        its.map(|part| part.rows).sum::<u64>()
    };
    let twice: u64 = loaded.iter().map(of).sum();
    Ok((doubtful.is_some() || !loaded.is_empty()).then(|| doubtful.unwrap_or(0) + twice))
}

/// Whether the parts of a request may be in or not, or in twice: then so many rows too many.
async fn doubtful(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> Result<Option<u64>> {
    let unsettled = |part: &&Part| noted.part(&job.target, &part.key) == Some(PartState::Begun);
    let mut seen = BTreeSet::new();
    let rows = || job.source.parts.iter().filter(unsettled).map(|part| part.rows).sum();
    for part in job.source.parts.iter().filter(unsettled) {
        let request = noted.request(&job.target, &part.key);
        if request.is_some_and(|(name, _)| !seen.insert(name)) {
            continue;
        }
        match request.and_then(|(_, request)| request.job.as_ref()) {
            Some(id) if server.job(&job.target, id).await?.is_none() => return Ok(Some(rows())),
            Some(_) => {}
            None => {
                let known = known(server, job, noted);
                let listed = server.jobs(&job.target, &known).await?;
                let files = request.map(|(_, request)| match &request.copy {
                    Some(copy) => std::slice::from_ref(copy),
                    None => &request.parts,
                });
                let loads = |other: &BulkJob| {
                    !is_known(other, &known) && files.unwrap_or_default().iter().any(|file| other.has(file))
                };
                let is_there = listed.iter().any(loads);
                let twice = server.may_run_jobs_twice() && is_there;
                let forgotten = !is_there && request.is_some_and(|(_, r)| r.is_older_than(MEMORY));
                if twice || forgotten || nameless(server, job, &listed, &known).await? != Nameless::None {
                    return Ok(Some(rows()));
                }
            }
        }
    }
    Ok(None)
}

/// The jobs that are not the ones to look for in the list of a collection. A list by name may have
/// those of another database too.
fn known(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> BTreeSet<JobId> {
    let listed = |name: &CollectionName| server.lists_by_name() || *name == job.target;
    let asked = noted.jobs().filter(|(name, _)| listed(name)).map(|(_, id)| id);
    asked.chain(noted.before(&job.target).into_iter().flatten()).cloned().collect()
}

/// Whether there is a job that may be any part's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nameless {
    None,
    /// There is one that has not ended, and may tell more when its turn has come.
    Running,
    /// There is one, and it will not tell more.
    Ended,
}

/// Whether there is a job whose files the server does not tell, and that is none of those that are
/// `known`, by its name or, where the list has no names, by how many of those there still are.
async fn nameless(
    server: &dyn BulkServer,
    job: &Job<'_>,
    listed: &[BulkJob],
    known: &BTreeSet<JobId>,
) -> Result<Nameless> {
    let untold = |job: &&BulkJob| job.files.is_empty() && is_alive(job) && !is_known(job, known);
    let (without_id, with): (Vec<_>, Vec<_>) = listed.iter().filter(untold).partition(|job| job.id.is_none());
    let is_running = |job: &&BulkJob| job.state == BulkState::Running;
    let (mut all, mut running) = (without_id.len(), without_id.into_iter().filter(is_running).count());
    for id in known {
        if all == 0 {
            break;
        }
        let still = server.job(&job.target, id).await?.filter(is_alive);
        all -= usize::from(still.is_some());
        running = running.saturating_sub(still.iter().filter(is_running).count());
    }
    running += with.iter().copied().filter(is_running).count();
    Ok(match (all + with.len(), running) {
        (0, _) => Nameless::None,
        (_, 0) => Nameless::Ended,
        _ => Nameless::Running,
    })
}

fn is_known(job: &BulkJob, known: &BTreeSet<JobId>) -> bool {
    job.id.as_ref().is_some_and(|id| known.contains(id))
}

/// Whether a job that is none of those that are `known` has not ended, and does not tell its files.
fn is_silent(job: &BulkJob, known: &BTreeSet<JobId>) -> bool {
    !is_known(job, known) && job.state == BulkState::Running && job.files.is_empty()
}

fn is_alive(job: &BulkJob) -> bool {
    !matches!(job.state, BulkState::Failed(_))
}

/// Jobs that load parts which another job of this import loads.
async fn strays(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> Result<Vec<BulkJob>> {
    if noted.creation(&job.target).is_none() || noted.before(&job.target).is_none() {
        return Ok(Vec::new());
    }
    let known = known(server, job, noted);
    let settled = |part: &&Part| noted.request(&job.target, &part.key).is_some_and(|(_, r)| r.job.is_some());
    let settled: Vec<&Part> = job.source.parts.iter().filter(settled).collect();
    let is_stray = |other: &BulkJob| {
        !is_known(other, &known) && is_alive(other) && settled.iter().any(|part| other.has(&part.key))
    };
    let listed = server.jobs(&job.target, &known).await?;
    Ok(listed.into_iter().filter(is_stray).collect())
}

/// Gives up strays that can be given up, and waits for the end of others: those that are complete
/// have loaded rows twice.
async fn refuse_strays(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> Result<()> {
    wait_for_files(server, job, noted).await?;
    let began = Instant::now();
    loop {
        let mut running = None;
        for stray in strays(server, job, noted).await? {
            let Some(id) = stray.id else { continue };
            match stray.state {
                BulkState::Uncommitted => {
                    tracing::warn!("{}: job {id} of a request that came late is given up", job.target);
                    server.abort(&job.target, &id).await?;
                    running = Some(id);
                }
                BulkState::Running => running = Some(id),
                _ => {
                    let what =
                        format!("{}: job {id} loads parts a second time: a request came late", job.target);
                    return Err(Error::new(ErrorKind::Temporary, what).hint(ANEW));
                }
            }
        }
        let Some(id) = running else { return Ok(()) };
        if began.elapsed() > PATIENCE {
            let what = format!(
                "{}: job {id} may load parts a second time, and has not ended for {} minutes",
                job.target,
                PATIENCE.as_secs() / 60
            );
            return Err(Error::new(ErrorKind::Temporary, what).hint(ANEW));
        }
        tokio::time::sleep(LAST_LOOK).await;
    }
}

/// Waits until every job of the collection that runs tells its files: one that waits for its turn
/// does not.
async fn wait_for_files(server: &dyn BulkServer, job: &Job<'_>, noted: &Noted) -> Result<()> {
    let known = known(server, job, noted);
    let began = Instant::now();
    loop {
        let listed = server.jobs(&job.target, &known).await?;
        let Some(silent) = listed.iter().find(|other| is_silent(other, &known)) else { return Ok(()) };
        if began.elapsed() > PATIENCE {
            let id = silent.id.as_ref().map_or("", |id| &id.0);
            let what = format!(
                "{}: job {id}, which this import has not asked for, does not tell its files for {} minutes",
                job.target,
                PATIENCE.as_secs() / 60
            );
            return Err(Error::new(ErrorKind::Temporary, what)
                .hint("see what it is, then run the same command again: it waits for that job"));
        }
        tokio::time::sleep(LAST_LOOK).await;
    }
}

/// Parts on their way in, by one job.
struct Loading<'a> {
    target: &'a Client,
    server: &'a Arc<dyn BulkServer>,
    job: &'a Job<'a>,
    /// At least one.
    parts: Vec<&'a Part>,
    source: Source<'a>,
    store: &'a Arc<dyn Store>,
    journal: &'a Journal,
    progress: &'a Progress,
    /// Percent that the progress has counted already.
    shown: u64,
}

impl Loading<'_> {
    fn about(&self) -> String {
        match self.parts.as_slice() {
            [part] => format!("import into {}: part {}", self.job.target, part.key),
            parts => {
                format!("import into {}: {} parts, {} first", self.job.target, parts.len(), parts[0].key)
            }
        }
    }

    async fn run(mut self) -> Result<()> {
        let (mut failures, mut sends) = (0, 0);
        loop {
            let asked = self.journal.look(|noted| {
                let asked = noted.request(&self.job.target, &self.parts[0].key);
                asked.map(|(name, request)| (name.to_string(), request.clone()))
            });
            let (request, id) = match asked {
                Some((request, Request { job: Some(id), .. })) => (request, id),
                Some((name, request)) => match self.find(&name, &request).await? {
                    Found::Job(id) => (name, id),
                    Found::NoneEver => continue,
                    Found::Unknown if sends < SENDS => {
                        sends += 1;
                        match self.send(&name, self.files()?, true).await? {
                            Some(id) => (name, id),
                            None => continue,
                        }
                    }
                    Found::Unknown => {
                        let what = format!("the replies to a request for a job were lost {sends} times");
                        return Err(Error::new(Code::Unreachable, what)
                            .hint("see to the network, then run the same command again: it finds out what became of them"));
                    }
                },
                None => match self.ask().await? {
                    Some(asked) => asked,
                    None => continue,
                },
            };
            let why = match self.wait(&request, &id).await? {
                // An earlier one of the same request may have come after all, and is soon forgotten.
                None if sends > 0 => {
                    return refuse_strays(self.server.as_ref(), self.job, &self.journal.noted()).await;
                }
                None => return Ok(()),
                Some(why) => why,
            };
            self.journal.refused(&self.job.target, &request).await?;
            failures += 1;
            // Removed by `find`: it is staged anew.
            if !self.look_for_reason(&why).await? {
                continue;
            }
            if failures >= TRIES {
                let what = format!("the server's bulk import failed {failures} times: {why}");
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .hint("see the logs of the server's data nodes; what its bulk import does not take may go in with `--via insert`"));
            }
            tracing::warn!(
                "job {id} of part {} failed: {why}; what it reads is whole: trying again",
                self.parts[0].key
            );
            tokio::time::sleep(LAST_LOOK).await;
        }
    }

    /// Says why a job failed if that is not the server's fault. `false` if it had nothing to load.
    async fn look_for_reason(&self, why: &str) -> Result<bool> {
        match self.source {
            Source::Stage(stage) => {
                let part = self.parts[0];
                let Some(file) = file_of(self.job, part, self.journal) else { return Ok(false) };
                if let Some(problem) = stage.look_closely(&file, part).await? {
                    stage.remove(self.job, part, self.journal).await?;
                    let what = format!(
                        "the server's bulk import failed: {why}; the staged copy was altered: {problem}"
                    );
                    return Err(Error::new(ErrorKind::Temporary, what).hint(format!(
                        "find out what else writes to {}, then run the same command again: it stages the part anew",
                        stage.place()
                    )));
                }
                if is_missing(why) {
                    let what = format!("the server does not find {}: {why}", stage.key(&file));
                    return Err(Error::new(ErrorKind::Usage, what).hint(
                        "it lies there: `--stage` has to be in the bucket that the server itself keeps its data in; correct it \
                         and run the command again",
                    ));
                }
            }
            Source::Snapshot(files) => {
                let name = files.name(self.parts[0]);
                for part in &self.parts {
                    let object = ObjectRef { key: part.key.clone(), size: part.size, sha256: part.sha256 };
                    if let Content::Wrong(problem) = content_by_head(self.store.as_ref(), &object).await? {
                        let what = format!(
                            "the server's bulk import failed: {why}; the snapshot was altered since it was checked: {}: {}",
                            problem.key, problem.problem
                        );
                        return Err(Error::new(ErrorKind::Integrity, what).hint(
                            "find out what else writes there, and get the snapshot again from the exporter",
                        ));
                    }
                }
                if is_denied(why) {
                    let what = format!("the service may not read {name} or files beside it: {why}");
                    return Err(Error::new(Code::BucketDenied, what).hint(
                        "the key of `--cloud-key` needs s3:GetObject, s3:ListBucket and s3:GetBucketLocation there, and has to be \
                         valid as long as the jobs run; then run the same command again",
                    ));
                }
                if is_missing(why) {
                    let what = format!("the service does not find {name} or files beside it: {why}");
                    return Err(Error::new(ErrorKind::Usage, what).hint(
                        "`--cloud-objects` or `--cloud-volume` has to lead to the snapshot; correct it and run the command again",
                    ));
                }
            }
        }
        Ok(true)
    }

    /// What the server calls the parts that it reads from the snapshot.
    fn files(&self) -> Result<Vec<String>> {
        match self.source {
            Source::Stage(_) => Err(Error::internal("a copy has a new name for every request")),
            Source::Snapshot(files) => Ok(self.parts.iter().map(|part| files.name(part)).collect()),
        }
    }

    /// Asks for a job; `None` if it is not known whether there is one now.
    async fn ask(&mut self) -> Result<Option<(String, JobId)>> {
        let (files, copy) = match self.source {
            Source::Snapshot(_) => (self.files()?, None),
            Source::Stage(stage) => {
                let part = self.parts[0];
                let copy = match file_of(self.job, part, self.journal) {
                    Some(copy) => copy,
                    None => {
                        let unshown = Progress::new("stage", None);
                        stage.put(self.job, part, self.store, self.journal, &unshown).await?
                    }
                };
                (vec![stage.key(&copy)], Some(copy))
            }
        };
        let request = uuid::Uuid::new_v4().to_string();
        let parts = self.parts.iter().map(|part| part.key.clone()).collect();
        self.journal.asking(&self.job.target, &request, parts, copy).await?;
        Ok(self.send(&request, files, false).await?.map(|id| (request, id)))
    }

    /// Sends a request for a job that was noted; `again`: an earlier one may have been done. `None`
    /// if the reply was lost.
    async fn send(&self, request: &str, files: Vec<String>, again: bool) -> Result<Option<JobId>> {
        let began = Instant::now();
        loop {
            let key = match self.source {
                Source::Stage(_) => None,
                Source::Snapshot(files) => files.key().await?,
            };
            let asked = BulkRequest {
                collection: self.job.target.clone(),
                partition: self.job.partition(self.parts[0]).map(str::to_string),
                files: files.clone(),
                request: request.to_string(),
                key,
            };
            match self.send_once(asked).await? {
                Ok(id) => return Ok(Some(id)),
                Err(e) if !e.not_done() => {
                    tracing::warn!(reason = e.reason, "the reply was lost: looking whether there is a job");
                    return Ok(None);
                }
                Err(e) if is_full(&e) && began.elapsed() < FULL => tokio::time::sleep(LAST_LOOK).await,
                Err(e) => {
                    if !is_proof(&e) {
                        match self.listed(&files).await? {
                            Listed::Job(id) => {
                                tracing::warn!(reason = e.reason, "refused, and yet there is job {id}");
                                self.journal.asked(&self.job.target, request, &id).await?;
                                return Ok(Some(id));
                            }
                            Listed::Untold | Listed::Waits => {
                                tracing::warn!(reason = e.reason, "refused, and yet there may be a job");
                                return Ok(None);
                            }
                            Listed::Nothing => {}
                        }
                    }
                    if !again {
                        self.journal.refused(&self.job.target, request).await?;
                    }
                    return Err(e.into());
                }
            }
        }
    }

    /// One request, to its end: its reply is noted even if this is not waited for any longer.
    async fn send_once(&self, request: BulkRequest) -> Result<std::result::Result<JobId, RpcError>> {
        let (server, journal) = (self.server.clone(), self.journal.clone());
        let work = async move {
            match server.ask(&request).await {
                Ok(id) => journal.asked(&request.collection, &request.request, &id).await.map(|()| Ok(id)),
                Err(e) => Ok(Err(e)),
            }
        };
        self.target.to_the_end("Import", work).await?
    }

    /// Finds the job of a request whose reply was lost.
    async fn find(&self, request: &str, asked: &Request) -> Result<Found> {
        let name = &self.job.target;
        let began = Instant::now();
        let found = match (self.source, asked.copy.clone()) {
            (Source::Stage(stage), Some(copy)) => {
                let files = [copy.clone()];
                let listed = loop {
                    match self.listed(&files).await? {
                        // It may be one of ours that is not noted yet.
                        Listed::Waits if began.elapsed() < LAST_LOOK * LOOKS => {
                            tokio::time::sleep(LAST_LOOK).await
                        }
                        listed => break listed,
                    }
                };
                match listed {
                    Listed::Job(id) => Some(id),
                    Listed::Untold | Listed::Waits => return Err(untold()),
                    Listed::Nothing if asked.is_older_than(MEMORY) => return Err(forgotten()),
                    Listed::Nothing => {
                        // The name is needed until it is settled, so it is forgotten last.
                        stage.delete(&copy).await?;
                        let late = match self.listed(&files).await? {
                            Listed::Job(id) => Some(id),
                            Listed::Untold | Listed::Waits => return Err(untold()),
                            Listed::Nothing => None,
                        };
                        match &late {
                            Some(id) => self.journal.asked(name, request, id).await?,
                            None => self.journal.refused(name, request).await?,
                        }
                        let part = self.parts[0];
                        if file_of(self.job, part, self.journal).is_some_and(|staged| staged == copy) {
                            self.journal.unstaged(name, &part.key).await?;
                        }
                        return Ok(late.map_or(Found::NoneEver, Found::Job));
                    }
                }
            }
            (Source::Snapshot(snapshot), None) => {
                let files = self.files()?;
                let mut looks = 1;
                loop {
                    match self.listed(&files).await? {
                        Listed::Job(id) => break Some(id),
                        Listed::Untold if looks >= LOOKS => return Err(untold()),
                        Listed::Waits if began.elapsed() >= PATIENCE => return Err(untold()),
                        Listed::Nothing if asked.is_older_than(MEMORY) => return Err(forgotten()),
                        Listed::Nothing if looks >= LOOKS => break None,
                        Listed::Waits => {}
                        Listed::Untold | Listed::Nothing => looks += 1,
                    }
                    tokio::time::sleep(snapshot.settle() / LOOKS).await;
                }
            }
            _ => return Err(Error::internal("a request of another route is in the journal")),
        };
        match found {
            Some(id) => {
                self.journal.asked(name, request, &id).await?;
                Ok(Found::Job(id))
            }
            None => Ok(Found::Unknown),
        }
    }

    async fn listed(&self, files: &[String]) -> Result<Listed> {
        let known = self.journal.look(|noted| known(self.server.as_ref(), self.job, noted));
        let jobs = self.server.jobs(&self.job.target, &known).await?;
        let loads = |job: &BulkJob| !is_known(job, &known) && files.iter().any(|file| job.has(file));
        if self.server.may_run_jobs_twice() && jobs.iter().any(loads) {
            return Err(Error::new(
                ErrorKind::Temporary,
                "the reply to an import was lost, and this server may run a job twice whose client went away",
            )
            .hint(ANEW));
        }
        Ok(match jobs.iter().find(|job| is_alive(job) && loads(job)) {
            Some(BulkJob { id: Some(id), .. }) => Listed::Job(id.clone()),
            Some(_) => Listed::Untold,
            None => match nameless(self.server.as_ref(), self.job, &jobs, &known).await? {
                Nameless::Running => Listed::Waits,
                Nameless::Ended => Listed::Untold,
                Nameless::None => Listed::Nothing,
            },
        })
    }

    /// Waits for the end of a job: `None` if every row is in, else why none is.
    async fn wait(&mut self, request: &str, id: &JobId) -> Result<Option<String>> {
        let rows: u64 = self.parts.iter().map(|part| part.rows).sum();
        let mut pause = FIRST_LOOK;
        let (mut last, mut changed) = (None, Instant::now());
        loop {
            // No job is done at once, and each look is a moment in which a kill ends Milvus 2.3.5.
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LAST_LOOK);
            let Some(told) = self.server.job(&self.job.target, id).await? else {
                let what =
                    format!("the server does not know job {id} any longer, so the part may be in or not");
                return Err(Error::new(ErrorKind::Temporary, what).hint(ANEW));
            };
            match told.state {
                BulkState::Complete if told.rows != 0 && told.rows != rows => {
                    let what = format!("job {id} has loaded {} rows of {rows}", told.rows);
                    return Err(Error::new(ErrorKind::Integrity, what)
                        .hint("see the logs of the server's data nodes"));
                }
                BulkState::Complete => {
                    self.show(100);
                    self.journal.complete(&self.job.target, request).await?;
                    return Ok(None);
                }
                BulkState::Uncommitted if told.rows != rows => {
                    self.server.abort(&self.job.target, id).await?;
                    self.journal.refused(&self.job.target, request).await?;
                    let what = format!(
                        "job {id} would have loaded {} rows of {rows}: it was given up before any was visible",
                        told.rows
                    );
                    return Err(Error::new(ErrorKind::Integrity, what)
                        .hint("see what the service says of the job; `--via insert` loads the same parts"));
                }
                BulkState::Uncommitted => self.server.commit(&self.job.target, id).await?,
                BulkState::Failed(why) => return Ok(Some(why)),
                BulkState::Running => {}
            }
            self.show(told.percent);
            if last != Some(told.percent) {
                (last, changed) = (Some(told.percent), Instant::now());
            }
            if changed.elapsed() > PATIENCE {
                let what =
                    format!("job {id} stands at {}% for {} minutes", told.percent, PATIENCE.as_secs() / 60);
                return Err(Error::new(ErrorKind::Temporary, what).hint(
                    "see the server's data nodes, then run the same command again: it waits for the same job",
                ));
            }
        }
    }

    /// Counts what the job has done since the last time.
    fn show(&mut self, percent: u64) {
        let of = |whole: u64, percent: u64| (u128::from(whole) * u128::from(percent) / 100) as u64;
        if percent > self.shown {
            let more = |whole| of(whole, percent) - of(whole, self.shown);
            let (rows, bytes) = self.parts.iter().fold((0, 0), |(r, b), part| (r + part.rows, b + part.size));
            self.progress.add(more(rows), more(bytes));
            self.shown = percent;
        }
    }
}

/// What became of a request whose reply was lost.
enum Found {
    /// It made this job.
    Job(JobId),
    /// It made no job, and never will.
    NoneEver,
    /// It made none yet.
    Unknown,
}

/// What the list says of files.
enum Listed {
    Job(JobId),
    /// There is a job of which it does not tell enough.
    Untold,
    /// There is one that has not ended, and may tell more when its turn has come.
    Waits,
    Nothing,
}

fn untold() -> Error {
    Error::new(
        ErrorKind::Temporary,
        "the reply to an import was lost, and this server does not tell which files its jobs load, so the part may be \
         in or not",
    )
    .hint(ANEW)
}

fn forgotten() -> Error {
    let what = format!(
        "the reply to an import was lost more than {} minutes ago, and the server may have forgotten its job since, so \
         the part may be in or not",
        MEMORY.as_secs() / 60
    );
    Error::new(ErrorKind::Temporary, what).hint(ANEW)
}

/// Whether an error itself proves that there is no job: it came before the request was looked at. The
/// others are words, which the list has to bear out.
fn is_proof(error: &RpcError) -> bool {
    is_full(error) || !matches!(error.failure, Failure::Refused | Failure::NotFound)
}

/// A job whose file is not where the server looks. The words are those of S3 servers, and of Milvus
/// for its own folders.
fn is_missing(why: &str) -> bool {
    ["key does not exist", "NoSuchKey", "no such file", "bucket does not exist"]
        .iter()
        .any(|text| why.contains(text))
}

/// A job whose key is refused: the codes of S3.
fn is_denied(why: &str) -> bool {
    [
        "AccessDenied",
        "Access Denied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
    ]
    .iter()
    .any(|text| why.contains(text))
}

/// A server that has as many jobs as it takes; there is no code for it.
fn is_full(error: &RpcError) -> bool {
    error.failure == Failure::Refused && error.reason.contains("reached the limit")
}
