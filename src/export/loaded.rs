//! Step 3: rows can only be read from what is loaded, all of it.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{Client, LoadState, View};
use crate::schema::CollectionName;
use crate::snapshot::CollectionMeta;
use crate::stop::Stop;
use std::fmt;
use std::time::{Duration, Instant};

/// What this export has loaded, to be released again.
#[must_use]
pub struct Loaded(Vec<Unloaded>);

/// A collection of which something is not loaded.
#[derive(Debug, Clone)]
pub struct Unloaded {
    name: CollectionName,
    /// The partitions that are not; empty: nothing of the collection is.
    partitions: Vec<String>,
}

impl fmt::Display for Unloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partitions.as_slice() {
            [] => write!(f, "{}", self.name),
            some => write!(f, "{} (partition {})", self.name, some.join(", ")),
        }
    }
}

/// Everything of `collections` that is not loaded. A server counts a collection as loaded when
/// one partition is, and then leaves the rows of the others out of replies without a word.
pub async fn unloaded(source: &Client, collections: &[CollectionMeta]) -> Result<Vec<Unloaded>> {
    let mut unloaded = Vec::new();
    for meta in collections {
        let name = meta.name.clone();
        let about = || format!("load state of {name}");
        if source.load_state(&name, None).await.context(about)? != LoadState::Loaded {
            unloaded.push(Unloaded { name, partitions: Vec::new() });
            continue;
        }
        let mut partitions = Vec::new();
        if meta.partitions.len() > 1 && !meta.schema.has_partition_key() {
            for partition in &meta.partitions {
                if source.load_state(&name, Some(partition)).await.context(about)? != LoadState::Loaded {
                    partitions.push(partition.clone());
                }
            }
        }
        if !partitions.is_empty() {
            unloaded.push(Unloaded { name, partitions });
        }
    }
    Ok(unloaded)
}

/// Makes sure that every collection is loaded. Without `load`, unloaded ones are refused by name:
/// they may have been released on purpose.
pub async fn ensure(
    source: &Client,
    collections: &[CollectionMeta],
    load: bool,
    stop: &Stop,
) -> Result<Loaded> {
    let unloaded = unloaded(source, collections).await?;
    if !unloaded.is_empty() && !load {
        let names: Vec<_> = unloaded.iter().map(ToString::to_string).collect();
        let what = format!("not loaded, so its rows cannot be read: {}", names.join("; "));
        return Err(Error::new(ErrorKind::Exists, what).hint(
            "load them, leave them out with `--exclude`, or let the export load and release them with `--load-source`",
        ));
    }
    // From here on, a failure must release what was loaded, what is half loaded included.
    let mut loaded = Loaded(Vec::new());
    for item in unloaded {
        loaded.0.push(item.clone());
        let loading = async {
            match item.partitions.as_slice() {
                [] => source.load(&item.name).await,
                some => source.load_partitions(&item.name, some).await,
            }
        };
        if let Err(error) = stop.unless_stopped(loading).await {
            // The first failure is the one to report.
            let _ = loaded.restore(source).await;
            return Err(error.context(format!("loading {item}")));
        }
    }
    let served = async {
        for meta in collections {
            all_served(source, &meta.name).await.context(|| format!("check of {}", meta.name))?;
        }
        Ok(())
    };
    if let Err(error) = stop.unless_stopped(served).await {
        let _ = loaded.restore(source).await;
        return Err(error);
    }
    Ok(loaded)
}

/// How long rows may stay on their way to the query nodes: targets are renewed every 10 s, index
/// builds of small segments take seconds.
const SERVE_PATIENCE: Duration = Duration::from_secs(180);

/// Waits until queries see every flushed row. A segment that no query node holds is harmless while
/// its rows are still served as they were before the flush; then the count is no smaller than what
/// is stored. Otherwise its rows would be missing without a word.
async fn all_served(source: &Client, name: &CollectionName) -> Result<()> {
    let start = Instant::now();
    let mut said = false;
    loop {
        let Some(unserved) = source.unserved_rows(name).await?.filter(|rows| *rows > 0) else {
            return Ok(());
        };
        let stored = source.statistics_rows(name).await?;
        if source.count(name, None, "", View::Latest).await.map_err(Error::from)? >= stored {
            return Ok(());
        }
        if start.elapsed() > SERVE_PATIENCE {
            let what = format!(
                "{unserved} stored rows are not on the server's query nodes, so they could be missing"
            );
            return Err(Error::new(ErrorKind::Temporary, what).hint(
                "see the query nodes, or release and load the collection; then run the same command again",
            ));
        }
        if !said {
            tracing::warn!("{name}: {unserved} stored rows are not on the query nodes yet; waiting for them");
            said = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Loaded {
    /// Releases what was loaded. Tries all; reports the first failure.
    pub async fn restore(self, source: &Client) -> Result<()> {
        let mut first = Ok(());
        for item in self.0 {
            let released = match item.partitions.as_slice() {
                [] => source.release(&item.name).await,
                some => source.release_partitions(&item.name, some).await,
            };
            first = first.and(released.map_err(|e| {
                e.context(format!("releasing {item}, which the export had loaded")).hint("release it by hand")
            }));
        }
        first
    }
}
