//! Steps 2 and 8: the parts before, the counts after.

use super::plan::Job;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::milvus::{Client, View};
use crate::progress::Progress;
use crate::snapshot::ObjectRef;
use crate::store::Store;
use crate::verify::{Content, Problem, content_by_head, content_by_reading};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;

/// Problems that are named in one message.
const MAX_NAMED: usize = 10;

/// How closely a part is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closely {
    /// That it is there, with its size and the bucket's own digest where it returns the right one.
    ByHead,
    /// By reading it where the bucket returns no right digest.
    ByContent,
    /// By reading it, whatever the bucket says.
    EveryByte,
}

/// Checks every part of `jobs` that is `wanted`, before the target is touched. What is loaded later
/// is hashed again.
pub async fn parts(
    store: Arc<dyn Store>,
    jobs: &[Job<'_>],
    wanted: impl Fn(&Job<'_>, &str) -> bool,
    closely: Closely,
    at_once: usize,
    progress: &Progress,
) -> Result<()> {
    let parts = jobs.iter().flat_map(|job| job.source.parts.iter().map(move |part| (job, part)));
    let objects: Vec<_> = parts
        .filter(|(job, part)| wanted(job, &part.key))
        .map(|(_, part)| ObjectRef { key: part.key.clone(), size: part.size, sha256: part.sha256 })
        .collect();
    let look = |object: ObjectRef| {
        let store = store.clone();
        async move {
            if closely == Closely::EveryByte {
                return content_by_reading(store, &object, progress).await;
            }
            match content_by_head(store.as_ref(), &object).await? {
                Content::SizeOnly | Content::OtherDigest(_) if closely == Closely::ByContent => {
                    content_by_reading(store, &object, progress).await
                }
                known => Ok::<_, Error>(known),
            }
        }
    };
    let mut looked = stream::iter(objects).map(look).buffer_unordered(at_once);
    let mut problems: Vec<Problem> = Vec::new();
    while let Some(content) = looked.try_next().await? {
        if let Content::Wrong(problem) = content {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    let named: Vec<_> =
        problems.iter().take(MAX_NAMED).map(|p| format!("{}: {}", p.key, p.problem)).collect();
    let more = problems.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Error::new(ErrorKind::Integrity, format!("the snapshot is not what was committed: {}{more}", named.join("; ")))
        .hint("the target was not touched; get the snapshot again from the exporter, and see `verify` for all differences"))
}

/// Compares the target's count with the rows of the snapshot. After a flush of a collection that
/// was only inserted into, the server's statistics are exact, and nothing needs to be loaded for
/// them. Where rows were upserted (`inexact`), or the statistics disagree, `count(*)` decides,
/// for which the collection is loaded and, unless it is to stay so, released again.
pub async fn count(target: &Client, job: &Job<'_>, keep_loaded: bool, inexact: bool) -> Result<u64> {
    let expected = job.source.rows();
    let statistics = target.statistics_rows(&job.target).await?;
    if statistics == expected && !inexact && !keep_loaded {
        return Ok(statistics);
    }
    target.load(&job.target).await?;
    let counted = target.count(&job.target, None, "", View::Latest).await;
    if !keep_loaded {
        target.release(&job.target).await?;
    }
    let counted = counted.map_err(Error::from)?;
    if counted == expected {
        return Ok(counted);
    }
    Err(Error::new(Code::Count, format!("the target counts {counted} rows, the snapshot has {expected}")))
}
