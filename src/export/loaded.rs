//! Step 3: rows can only be read from loaded collections.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{Client, LoadState};
use crate::schema::CollectionName;
use crate::snapshot::CollectionMeta;
use crate::stop::Stop;

/// The collections that this export has loaded, to be released again.
#[must_use]
pub struct Loaded(Vec<CollectionName>);

/// Makes sure that every collection is loaded. Without `load`, unloaded ones are refused by name:
/// they may have been released on purpose.
pub async fn ensure(
    source: &Client,
    collections: &[CollectionMeta],
    load: bool,
    stop: &Stop,
) -> Result<Loaded> {
    let mut unloaded = Vec::new();
    for meta in collections {
        let state = source.load_state(&meta.name).await.context(|| format!("load state of {}", meta.name))?;
        if state != LoadState::Loaded {
            unloaded.push(meta.name.clone());
        }
    }
    if !unloaded.is_empty() && !load {
        let names: Vec<_> = unloaded.iter().map(ToString::to_string).collect();
        return Err(Error::new(ErrorKind::Exists, format!("not loaded, so its rows cannot be read: {}", names.join(", ")))
            .hint("load them, leave them out with `--exclude`, or let the export load and release them with `--load-source`"));
    }
    // From here on a failure must release what was loaded, a half-loaded one included.
    let mut loaded = Loaded(Vec::new());
    for name in unloaded {
        loaded.0.push(name.clone());
        let loading = async { source.load(&name).await.context(|| format!("loading {name}")) };
        if let Err(error) = stop.unless_stopped(loading).await {
            // The first failure is the one to report.
            let _ = loaded.restore(source).await;
            return Err(error);
        }
    }
    Ok(loaded)
}

impl Loaded {
    /// Releases what was loaded. Tries all; reports the first failure.
    pub async fn restore(self, source: &Client) -> Result<()> {
        let mut first = Ok(());
        for name in self.0 {
            let released = source.release(&name).await.map_err(|e| {
                e.context(format!("releasing {name}, which the export had loaded")).hint("release it by hand")
            });
            first = first.and(released);
        }
        first
    }
}
