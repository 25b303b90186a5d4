//! Rows can only be read from what is loaded, all of it: seeing to that, and putting it back.
//!
//! Owns: finding what is not loaded, loading it if that was asked for, waiting until queries see
//! every row, and releasing exactly what was loaded here. Does not own: reading (`pages`), or
//! what a command says when something is not loaded.

use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::milvus::{Client, LoadState, View};
use crate::schema::{CollectionName, Schema};
use crate::stop::Stop;
use std::fmt;
use std::time::{Duration, Instant};

/// A collection that is going to be read.
#[derive(Debug, Clone)]
pub struct Reads {
    name: CollectionName,
    /// The partitions that have a load state of their own.
    partitions: Vec<String>,
}

impl Reads {
    /// A collection as its server describes it.
    pub fn new(name: &CollectionName, schema: &Schema, partitions: &[String]) -> Self {
        let own_states = partitions.len() > 1 && !schema.has_partition_key();
        Reads { name: name.clone(), partitions: if own_states { partitions.to_vec() } else { Vec::new() } }
    }
}

/// What to do about collections that are not loaded.
#[derive(Debug, Clone, Copy)]
pub enum IfUnloaded<'a> {
    /// Load them.
    Load,
    /// Load them and never release them, not even after a failure: others may be reading by then.
    LoadForGood,
    /// Refuse them by name, since they may have been released on purpose; the hint says how to
    /// have them loaded.
    Refuse {
        /// What the user may do.
        hint: &'a str,
    },
}

/// What was loaded here, to be released again.
#[must_use]
pub struct Loaded(Vec<Unloaded>);

/// A collection of which something is not loaded.
#[derive(Debug, Clone)]
pub struct Unloaded {
    name: CollectionName,
    /// The partitions that are not; empty: nothing of the collection is.
    partitions: Vec<String>,
}

impl Unloaded {
    /// The collection.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }
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
pub async fn unloaded(server: &Client, collections: &[Reads]) -> Result<Vec<Unloaded>> {
    let mut unloaded = Vec::new();
    for reads in collections {
        let name = reads.name.clone();
        let about = || format!("load state of {name}");
        if server.load_state(&name, None).await.context(about)? != LoadState::Loaded {
            unloaded.push(Unloaded { name, partitions: Vec::new() });
            continue;
        }
        let mut partitions = Vec::new();
        for partition in &reads.partitions {
            if server.load_state(&name, Some(partition)).await.context(about)? != LoadState::Loaded {
                partitions.push(partition.clone());
            }
        }
        if !partitions.is_empty() {
            unloaded.push(Unloaded { name, partitions });
        }
    }
    Ok(unloaded)
}

/// Makes sure that every collection is loaded, and that queries see all its rows.
pub async fn ensure(
    server: &Client,
    collections: &[Reads],
    if_unloaded: IfUnloaded<'_>,
    stop: &Stop,
) -> Result<Loaded> {
    let unloaded = unloaded(server, collections).await?;
    if let (false, IfUnloaded::Refuse { hint }) = (unloaded.is_empty(), if_unloaded) {
        let names: Vec<_> = unloaded.iter().map(ToString::to_string).collect();
        let what = format!("not loaded, so its rows cannot be read: {}", names.join("; "));
        return Err(Error::new(Code::NotLoaded, what).hint(hint));
    }
    // From here on, a failure must release what was loaded, what is half loaded included.
    let mut loaded = Loaded(Vec::new());
    for item in unloaded {
        loaded.0.push(item.clone());
        let loading = async {
            match item.partitions.as_slice() {
                [] => server.load(&item.name).await,
                some => server.load_partitions(&item.name, some).await,
            }
        };
        if let Err(error) = stop.unless_stopped(loading).await {
            loaded.undo(server, if_unloaded).await;
            return Err(error.context(format!("loading {item}")));
        }
    }
    let served = async {
        for reads in collections {
            all_served(server, &reads.name).await.context(|| format!("check of {}", reads.name))?;
        }
        Ok(())
    };
    if let Err(error) = stop.unless_stopped(served).await {
        loaded.undo(server, if_unloaded).await;
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
async fn all_served(server: &Client, name: &CollectionName) -> Result<()> {
    let start = Instant::now();
    let mut said = false;
    loop {
        let Some(unserved) = server.unserved_rows(name).await?.filter(|rows| *rows > 0) else {
            return Ok(());
        };
        let stored = server.statistics_rows(name).await?;
        if server.count(name, None, "", View::Latest).await.map_err(Error::from)? >= stored {
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
    /// Leaves everything loaded; says what was loaded here.
    pub fn keep(self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// After a failure, which is the one to report.
    async fn undo(self, server: &Client, if_unloaded: IfUnloaded<'_>) {
        if !matches!(if_unloaded, IfUnloaded::LoadForGood) {
            let _ = self.restore(server).await;
        }
    }

    /// Releases what was loaded. Tries all; reports the first failure.
    pub async fn restore(self, server: &Client) -> Result<()> {
        let mut first = Ok(());
        for item in self.0 {
            let released = match item.partitions.as_slice() {
                [] => server.release(&item.name).await,
                some => server.release_partitions(&item.name, some).await,
            };
            first = first.and(released.map_err(|e| {
                e.context(format!("releasing {item}, which was loaded for this")).hint("release it by hand")
            }));
        }
        first
    }
}
