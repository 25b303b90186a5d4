//! Snapshots within snapshots: refused before one is begun.
//!
//! Owns: looking above a place for a snapshot, and what is said of one. Does not own: what is at the
//! place itself (`export`, `doctor`), or the requests (`store`).

use crate::error::{Code, Error, Result};
use crate::snapshot::keys;
use crate::store::Store;

/// A snapshot within another would be taken for a part of that one, which then has objects too many.
/// Where these credentials may not look, nothing is refused.
pub async fn refuse_within(store: &dyn Store) -> Result<()> {
    let Some((outer, name)) = store.above(&[keys::COMMIT, keys::PLAN]).await? else { return Ok(()) };
    let is = if name == keys::COMMIT { "a committed snapshot" } else { "a snapshot that was begun" };
    let what = format!("{} lies within {outer}, which is {is}: it holds {name}", store.place());
    Err(Error::new(Code::PrefixTaken, what).hint("export beside that snapshot, not below it"))
}
