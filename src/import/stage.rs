//! The stage: the place from which the server itself reads the parts, for its bulk import.
//!
//! Owns: the copies of the parts there, that each is whole, and that nothing of them stays behind.
//! Does not own: the jobs that load them (`bulk`).
//!
//! Every import has a folder of its own in the stage, and every copy a name that was never used
//! before: once a copy is removed, no job can find it, however late a request for one arrives.

use super::journal::{Journal, Noted};
use super::plan::Job;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch::fetch_to;
use crate::progress::Progress;
use crate::snapshot::{ObjectRef, Part};
use crate::store::{self, Access, Body, Put, SnapshotUrl, Store};
use crate::verify::{Content, content_by_head, content_by_reading};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::path::Path;
use std::sync::Arc;

/// Where the server reads, and how that place is reached from here.
#[derive(Debug, Clone)]
pub struct Place {
    /// A prefix in the server's own bucket.
    pub url: SnapshotUrl,
    /// With what credentials and by which endpoint.
    pub access: Access,
}

/// The folder of one import in the stage.
pub struct Stage {
    store: Arc<dyn Store>,
    /// What the server calls the folder: a prefix of keys in its bucket.
    folder: String,
}

impl Stage {
    /// Opens the folder that the journal has noted, or a new one, which it then notes.
    pub async fn open(place: &Place, journal: &Journal) -> Result<Self> {
        let here = place.url.to_string();
        let noted = journal.look(|noted| noted.folder().map(|(at, name)| (at.to_string(), name.to_string())));
        let name = match noted {
            Some((at, name)) if at == here => name,
            Some((at, name)) if journal.look(Noted::asking) => {
                let what = format!(
                    "an earlier run was interrupted while jobs for copies in {at}/{name} were asked for"
                );
                return Err(Error::new(ErrorKind::Usage, what)
                    .hint(format!("give that run's `--stage {at}`, where those copies can be removed")));
            }
            before => {
                if let Some((at, name)) = before {
                    tracing::warn!(
                        "copies of parts in {at}/{name} are not needed any longer: remove that folder"
                    );
                }
                let name = format!("milvus-handoff-{}", uuid::Uuid::new_v4().simple());
                journal.staging(&here, &name).await?;
                name
            }
        };
        let (url, folder) = match &place.url {
            SnapshotUrl::S3 { bucket, prefix } => {
                let folder = format!("{prefix}/{name}");
                (SnapshotUrl::S3 { bucket: bucket.clone(), prefix: folder.clone() }, folder)
            }
            // A server that keeps its data in folders takes paths.
            SnapshotUrl::File { path } => {
                let folder = path.join(&name);
                let text = path_text(&folder)?;
                (SnapshotUrl::File { path: folder }, text)
            }
        };
        let store = store::open_as(&url, &place.access).await.map_err(mine)?;
        Ok(Stage { store, folder })
    }

    /// As people know it.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// What a failed import says of its copies.
    pub fn kept(&self) -> String {
        format!(
            "copies of the parts are kept in {} for the same command; to give it up, remove that folder",
            self.place()
        )
    }

    /// What the server calls a copy.
    pub fn key(&self, file: &str) -> String {
        format!("{}/{file}", self.folder)
    }

    /// Puts a whole copy of every part that is `wanted` into the stage, unless it lies there. Every copy is hashed on its way, or afterwards where the server made it.
    pub async fn fill(
        &self,
        jobs: &[Job<'_>],
        wanted: impl Fn(&Job<'_>, &str) -> bool,
        snapshot: &Arc<dyn Store>,
        journal: &Journal,
        at_once: usize,
        progress: &Progress,
    ) -> Result<()> {
        let parts = jobs.iter().flat_map(|job| job.source.parts.iter().map(move |part| (job, part)));
        let todo: Vec<_> = parts.filter(|(job, part)| wanted(job, &part.key)).collect();
        let put = |(job, part)| self.fill_one(job, part, snapshot, journal, progress);
        stream::iter(todo).map(put).buffer_unordered(at_once).try_collect().await
    }

    async fn fill_one(
        &self,
        job: &Job<'_>,
        part: &Part,
        snapshot: &Arc<dyn Store>,
        journal: &Journal,
        progress: &Progress,
    ) -> Result<()> {
        if let Some(file) = file_of(job, part, journal) {
            // A request that is still on its way would find the collection that is made anew.
            let asking = journal.look(|noted| {
                let asked = noted.request(&job.target, &part.key);
                asked.is_some_and(|(_, asked)| asked.job.is_none() && asked.copy.as_ref() == Some(&file))
            });
            let problem = self.look(&file, part).await?;
            if problem.is_none() && !asking {
                progress.add(part.rows, part.size);
                return Ok(());
            }
            if let Some(problem) = problem {
                tracing::warn!("{problem} in {}: staging it again", self.place());
            }
            self.remove(job, part, journal).await?;
        }
        self.put(job, part, snapshot, journal, progress).await.map(drop)
    }

    /// Puts a copy under a new name, which it gives.
    pub async fn put(
        &self,
        job: &Job<'_>,
        part: &Part,
        snapshot: &Arc<dyn Store>,
        journal: &Journal,
        progress: &Progress,
    ) -> Result<String> {
        let base = part.key.rsplit('/').next().unwrap_or_default();
        let base = base.strip_suffix(".parquet").unwrap_or(base);
        let file = format!("{base}-{}.parquet", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let about = || format!("staging {} in {}", part.key, self.place());

        if let Some(source) = snapshot.copy_source(&part.key)?
            && self.store.copy_from(&source, &file).await.map_err(mine).context(about)?
        {
            let content = content_by_reading(self.store.clone(), &object(&file, part), progress).await;
            match content.map_err(mine).context(about)? {
                Content::Proven => {
                    progress.add(part.rows, 0);
                    journal.staged(&job.target, &part.key, &file).await?;
                    return Ok(file);
                }
                // The snapshot itself is wrong, which is found out next, or only the copy.
                _ => self.store.delete(&file).await.map_err(mine).context(about)?,
            }
        }
        let spool = fetch_to(snapshot.as_ref(), part, self.store.spool()?).await?;
        match self.store.put_new(&file, Body::File(spool), part.sha256).await.map_err(mine).context(about)? {
            Put::Created => {}
            Put::Exists => {
                let what =
                    format!("{file} in {} is there already, and nobody else knows its name", self.place());
                return Err(Error::new(ErrorKind::Exists, what).hint("run the same command again"));
            }
        }
        progress.add(part.rows, part.size);
        journal.staged(&job.target, &part.key, &file).await?;
        Ok(file)
    }

    /// What is wrong with a copy, as far as its size and the bucket's digest tell.
    pub async fn look(&self, file: &str, part: &Part) -> Result<Option<String>> {
        Ok(match content_by_head(self.store.as_ref(), &object(file, part)).await.map_err(mine)? {
            Content::Proven | Content::SizeOnly => None,
            Content::Wrong(problem) | Content::OtherDigest(problem) => {
                Some(format!("{}: {}", problem.key, problem.problem))
            }
        })
    }

    /// What is wrong with a copy, from its bytes.
    pub async fn look_closely(&self, file: &str, part: &Part) -> Result<Option<String>> {
        let unshown = Progress::new("check", None);
        let content = content_by_reading(self.store.clone(), &object(file, part), &unshown).await;
        Ok(match content.map_err(mine)? {
            Content::Proven | Content::SizeOnly => None,
            Content::Wrong(problem) | Content::OtherDigest(problem) => {
                Some(format!("{}: {}", problem.key, problem.problem))
            }
        })
    }

    /// Removes the copy of a part: from now on no job can load it.
    pub async fn remove(&self, job: &Job<'_>, part: &Part, journal: &Journal) -> Result<()> {
        let Some(file) = file_of(job, part, journal) else { return Ok(()) };
        self.delete(&file).await?;
        journal.unstaged(&job.target, &part.key).await
    }

    /// Removes a copy, of which the journal is told by the caller.
    pub async fn delete(&self, file: &str) -> Result<()> {
        self.store.delete(file).await.map_err(mine)
    }

    /// Removes everything in the folder, which is this import's alone.
    pub async fn clear(&self) -> Result<()> {
        let found: Vec<_> = self.store.list().try_collect().await.map_err(mine)?;
        for entry in found {
            self.store.delete(&entry.key).await.map_err(mine)?;
        }
        Ok(())
    }
}

/// The name of the copy of a part, if there is one.
pub fn file_of(job: &Job<'_>, part: &Part, journal: &Journal) -> Option<String> {
    journal.look(|noted| noted.staged(&job.target, &part.key).map(str::to_string))
}

fn object(file: &str, part: &Part) -> ObjectRef {
    ObjectRef { key: file.to_string(), size: part.size, sha256: part.sha256 }
}

/// Says of a failure that it is the stage's and not the snapshot's.
fn mine(error: Error) -> Error {
    error.context("the stage")
        .also_hint("the stage has credentials and an endpoint of its own: see `--stage-endpoint`, `--stage-profile` and MILVUS_HANDOFF_STAGE_ACCESS_KEY_ID")
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_string).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("the path {} is not UTF-8", path.display()))
            .hint("name another folder with `--stage`")
    })
}
