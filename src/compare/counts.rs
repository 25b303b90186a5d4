//! Level count: rows of the snapshot against `count(*)`, per collection and per partition.
//!
//! Every level begins with this: it is the only thing that shows rows which share a key, since
//! servers count such rows and hand out only one of them.

use super::Job;
use super::found::{Finding, Found};
use crate::error::{Error, Result};
use crate::milvus::{Client, View};

/// The rows of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRows {
    /// The partition.
    pub name: String,
    /// In the snapshot.
    pub snapshot: u64,
    /// On the server.
    pub server: u64,
}

/// What was counted of a collection.
pub(super) struct Counted {
    /// The server's `count(*)`.
    pub server: u64,
    /// Partitions that both sides have, where rows are attributed to them and there is more than one.
    pub partitions: Vec<PartitionRows>,
}

/// Counts, and adds what differs to `found`.
pub(super) async fn compare(
    server: &Client,
    job: &Job<'_>,
    view: View,
    found: &mut Found,
    warnings: &mut Vec<String>,
) -> Result<Counted> {
    let snapshot = job.source.rows();
    let counted = server.count(&job.name, None, "", view).await.map_err(Error::from)?;
    let shared = job.source.counts.shared_keys;
    if job.is_the_source() && shared > 0 && counted == snapshot + shared {
        warnings.push(format!(
            "{}: count(*) is {counted} for {snapshot} rows in the snapshot: this is the collection that was exported, \
             and the export has recorded {shared} rows that share a key with a newer one",
            job.name
        ));
    } else if counted != snapshot {
        found.push(Finding::Count { partition: None, snapshot, server: counted });
    }

    let mut partitions = Vec::new();
    if job.attributed() && job.source.meta.partitions.len() > 1 {
        let rows = job.source.rows_by_partition();
        for (name, snapshot) in rows.into_iter().filter(|(name, _)| job.partitions.contains(name)) {
            let counted = server.count_partition(&job.name, &job.schema, Some(&name), view).await?;
            // Of shared keys it is not known in which partition they are.
            if counted != snapshot && !(job.is_the_source() && shared > 0) {
                found.push(Finding::Count { partition: Some(name.clone()), snapshot, server: counted });
            }
            partitions.push(PartitionRows { name, snapshot, server: counted });
        }
    }
    Ok(Counted { server: counted, partitions })
}
