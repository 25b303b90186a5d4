//! Sign: vouching for a snapshot that was committed before.
//!
//! Owns: the order of the steps. Does not own: signatures (`signature`), or reading the snapshot
//! (`opened`).

use crate::error::Result;
use crate::opened::{self, Opened, Trust};
use crate::signature::{self, KeyId, Signed, SigningKey};
use crate::store::Store;

/// A signature that is in the bucket now.
pub struct Report {
    /// The snapshot.
    pub opened: Opened,
    /// Whose.
    pub key_id: KeyId,
    /// Whether it was made now.
    pub signed: Signed,
}

/// Signs the snapshot in `store`, after the way from COMMIT.json to the manifest was checked. What
/// the parts hold is what COMMIT.json leads to; whether they are there is for `verify`.
pub async fn run(store: &dyn Store, trust: &Trust, key: &SigningKey) -> Result<Report> {
    let opened = opened::open(store, trust).await?;
    let signed = signature::put(&opened.commit, &opened.commit_bytes, key, store).await?;
    Ok(Report { key_id: key.public()?.id(), signed, opened })
}
