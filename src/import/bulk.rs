//! Step 6 by the server's own bulk import: its data nodes read the staged copies of the parts.
//!
//! Owns: that every part is loaded by exactly one job, whatever replies are lost and whenever this
//! process ends. Does not own: the copies (`stage`), requests (`milvus`).
//!
//! A job is all or nothing, so a part is in when its job is complete, and not in when that failed.
//! What has to be found out is whether there is a job at all, after a request whose reply was lost
//! or whose sender was killed. The server's list of jobs tells their files, and no two copies have
//! one name. If the list has no job of the copy, the copy is removed before the list is read once
//! more: a request that still arrives later makes a job that finds no file. Then the part is staged
//! under a new name and asked for again.
//!
//! A job that is there after all may be one that the server runs twice (`milvus::bulk`): then the
//! collection is begun anew. So a request is sent to its end and its reply noted, also when this
//! process is told to stop.

use super::journal::{JobNoted, Journal, Noted, PartState};
use super::plan::Job;
use super::stage::{Stage, file_of};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{BulkJob, BulkState, Client, Failure, RpcError};
use crate::progress::Progress;
use crate::snapshot::Part;
use crate::store::Store;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a part is tried whose job failed although its copy is whole: data nodes come and go.
const TRIES: u32 = 3;

/// How long a job may make no headway that we can see.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How often a job is looked at: seldom enough for many, often enough for small ones.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How long a server may say that it has as many jobs as it takes.
const FULL: Duration = Duration::from_secs(3600);

/// What follows if nobody can say whether a part is in.
const ANEW: &str =
    "run the same command again: it drops what it has made of this collection and begins it anew";

/// Loads every part of every job that is not in yet, `at_once` jobs of the server at a time.
pub async fn all(
    target: &Client,
    jobs: &[Job<'_>],
    stage: &Stage,
    store: &Arc<dyn Store>,
    journal: &Journal,
    at_once: usize,
    progress: &Progress,
) -> Result<()> {
    let noted = journal.noted();
    let mut todo = Vec::new();
    for job in jobs {
        for part in &job.source.parts {
            match noted.part(&job.target, &part.key) {
                Some(PartState::In { .. }) => progress.add(part.rows, part.size),
                // What is on its way already comes first.
                Some(PartState::Begun) => todo.insert(0, (job, part)),
                None => todo.push((job, part)),
            }
        }
    }
    let load = |(job, part)| {
        let work = Loading { target, job, part, stage, store, journal, progress, shown: 0 }.run();
        async move { work.await.context(|| format!("import into {}: part {}", job.target, part.key)) }
    };
    stream::iter(todo).map(load).buffer_unordered(at_once).try_collect().await
}

/// Whether there may be a job of a collection that cannot be told apart from others, so that parts
/// may be in or not.
pub async fn untellable(target: &Client, job: &Job<'_>, noted: &Noted) -> Result<bool> {
    let unsettled = |part: &&Part| noted.part(&job.target, &part.key) == Some(PartState::Begun);
    for part in job.source.parts.iter().filter(unsettled) {
        match noted.job(&job.target, &part.key) {
            Some(JobNoted { id: Some(id), .. }) => {
                if target.bulk_job(&job.target, *id).await?.is_none() {
                    return Ok(true);
                }
            }
            asked => {
                let known: BTreeSet<i64> = noted.jobs(&job.target).collect();
                let listed = target.bulk_jobs(&job.target).await?;
                let twice = target.may_run_jobs_twice()
                    && asked.is_some_and(|asked| listed.iter().any(|job| job.has(&asked.file)));
                if twice || has_nameless(&listed, &known) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Whether there is a job that may be any part's: the server does not tell its files, and it is none
/// of those that are `known`, by its number or, where the server tells none, by how many there are.
fn has_nameless(listed: &[BulkJob], known: &BTreeSet<i64>) -> bool {
    let nameless = |job: &&BulkJob| job.files.is_empty() && !matches!(job.state, BulkState::Failed(_));
    let (without_number, with): (Vec<_>, Vec<_>) =
        listed.iter().filter(nameless).partition(|job| job.id == 0);
    without_number.len() > known.len() || with.iter().any(|job| !known.contains(&job.id))
}

/// One part on its way in.
struct Loading<'a> {
    target: &'a Client,
    job: &'a Job<'a>,
    part: &'a Part,
    stage: &'a Stage,
    store: &'a Arc<dyn Store>,
    journal: &'a Journal,
    progress: &'a Progress,
    /// Percent that the progress has counted already.
    shown: u64,
}

impl Loading<'_> {
    async fn run(mut self) -> Result<()> {
        let mut failures = 0;
        loop {
            let job = self.journal.look(|noted| noted.job(&self.job.target, &self.part.key).cloned());
            let id = match job {
                Some(JobNoted { id: Some(id), .. }) => id,
                Some(JobNoted { file, id: None }) => match self.find(&file).await? {
                    Some(id) => id,
                    None => continue,
                },
                None => match self.ask().await? {
                    Some(id) => id,
                    None => continue,
                },
            };
            let why = match self.wait(id).await? {
                None => return Ok(()),
                Some(why) => why,
            };
            self.journal.refused(&self.job.target, &self.part.key).await?;
            failures += 1;
            // Removed by `find`: it is staged anew.
            let Some(file) = file_of(self.job, self.part, self.journal) else { continue };
            if let Some(problem) = self.stage.look_closely(&file, self.part).await? {
                self.stage.remove(self.job, self.part, self.journal).await?;
                let what =
                    format!("the server's bulk import failed: {why}; the staged copy was altered: {problem}");
                return Err(Error::new(ErrorKind::Temporary, what).hint(format!(
                    "find out what else writes to {}, then run the same command again: it stages the part anew",
                    self.stage.place()
                )));
            }
            if is_missing(&why) {
                let what = format!("the server does not find {}: {why}", self.stage.key(&file));
                return Err(Error::new(ErrorKind::Usage, what).hint(
                    "it lies there: `--stage` has to be in the bucket that the server itself keeps its data in; correct it \
                     and run the command again",
                ));
            }
            if failures >= TRIES {
                let what = format!("the server's bulk import failed {failures} times: {why}");
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .hint("see the logs of the server's data nodes; what its bulk import does not take may go in with `--via insert`"));
            }
            tracing::warn!(
                "job {id} of part {} failed: {why}; its copy is whole: trying again",
                self.part.key
            );
            tokio::time::sleep(LAST_LOOK).await;
        }
    }

    /// Asks for a job; `None` if it is not known whether there is one now.
    async fn ask(&mut self) -> Result<Option<i64>> {
        let file = match file_of(self.job, self.part, self.journal) {
            Some(file) => file,
            None => {
                let unshown = Progress::new("stage", None);
                self.stage.put(self.job, self.part, self.store, self.journal, &unshown).await?
            }
        };
        let key = self.stage.key(&file);
        self.journal.asking(&self.job.target, &self.part.key, &file).await?;
        let began = Instant::now();
        loop {
            match self.ask_once(key.clone()).await? {
                Ok(id) => return Ok(Some(id)),
                Err(e) if !e.not_done() => {
                    tracing::warn!(reason = e.reason, "the reply was lost: looking whether there is a job");
                    return Ok(None);
                }
                Err(e) if is_full(&e) && began.elapsed() < FULL => tokio::time::sleep(LAST_LOOK).await,
                Err(e) => {
                    self.journal.refused(&self.job.target, &self.part.key).await?;
                    return Err(e.into());
                }
            }
        }
    }

    /// One request, to its end: its reply is noted even if this is not waited for any longer.
    async fn ask_once(&self, key: String) -> Result<std::result::Result<i64, RpcError>> {
        let (target, journal) = (self.target.clone(), self.journal.clone());
        let (name, part) = (self.job.target.clone(), self.part.key.clone());
        let partition = self.job.partition(self.part).map(str::to_string);
        let work = async move {
            match target.bulk_import(&name, partition.as_deref(), &key).await {
                Ok(id) => journal.asked(&name, &part, id).await.map(|()| Ok(id)),
                Err(e) => Ok(Err(e)),
            }
        };
        self.target.to_the_end("Import", work).await?
    }

    /// Finds the job of `file` whose request's reply was lost; `None` if there is none and never will
    /// be.
    async fn find(&self, file: &str) -> Result<Option<i64>> {
        let (name, key) = (&self.job.target, &self.part.key);
        if let Some(id) = self.listed(file).await? {
            self.journal.asked(name, key, id).await?;
            return Ok(Some(id));
        }
        // The name is needed until it is settled, so it is forgotten last.
        self.stage.delete(file).await?;
        let late = self.listed(file).await?;
        match late {
            Some(id) => self.journal.asked(name, key, id).await?,
            None => self.journal.refused(name, key).await?,
        }
        if file_of(self.job, self.part, self.journal).is_some_and(|staged| staged == file) {
            self.journal.unstaged(name, key).await?;
        }
        Ok(late)
    }

    async fn listed(&self, file: &str) -> Result<Option<i64>> {
        let jobs = self.target.bulk_jobs(&self.job.target).await?;
        if self.target.may_run_jobs_twice() && jobs.iter().any(|job| job.has(file)) {
            return Err(Error::new(
                ErrorKind::Temporary,
                "the reply to an import was lost, and this server may run a job twice whose client went away",
            )
            .hint(ANEW));
        }
        let alive = |job: &&BulkJob| !matches!(job.state, BulkState::Failed(_));
        if let Some(job) = jobs.iter().filter(alive).find(|job| job.has(file)) {
            return Ok(Some(job.id));
        }
        let known = self.journal.look(|noted| noted.jobs(&self.job.target).collect());
        if !has_nameless(&jobs, &known) {
            return Ok(None);
        }
        Err(Error::new(
            ErrorKind::Temporary,
            "the reply to an import was lost, and this server does not tell which files its jobs load, so the part may be \
             in or not",
        )
        .hint(ANEW))
    }

    /// Waits for the end of a job: `None` if every row is in, else why none is.
    async fn wait(&mut self, id: i64) -> Result<Option<String>> {
        let mut pause = FIRST_LOOK;
        let (mut last, mut changed) = (None, Instant::now());
        loop {
            // No job is done at once, and each look is a moment in which a kill ends Milvus 2.3.5.
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LAST_LOOK);
            let Some(told) = self.target.bulk_job(&self.job.target, id).await? else {
                let what =
                    format!("the server does not know job {id} any longer, so the part may be in or not");
                return Err(Error::new(ErrorKind::Temporary, what).hint(ANEW));
            };
            match told.state {
                BulkState::Complete if told.rows != 0 && told.rows != self.part.rows => {
                    let what = format!("job {id} has loaded {} rows of {}", told.rows, self.part.rows);
                    return Err(Error::new(ErrorKind::Integrity, what)
                        .hint("see the logs of the server's data nodes"));
                }
                BulkState::Complete => {
                    self.show(100);
                    self.journal.loaded(&self.job.target, &self.part.key, false).await?;
                    return Ok(None);
                }
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
            self.progress.add(more(self.part.rows), more(self.part.size));
            self.shown = percent;
        }
    }
}

/// A job whose file is not where the server looks. The words are those of S3 servers, and of Milvus
/// for its own folders.
fn is_missing(why: &str) -> bool {
    ["key does not exist", "NoSuchKey", "no such file", "bucket does not exist"]
        .iter()
        .any(|text| why.contains(text))
}

/// A server that has as many jobs as it takes; there is no code for it.
fn is_full(error: &RpcError) -> bool {
    error.failure == Failure::Refused && error.reason.contains("reached the limit")
}
