//! The snapshot format: which objects there are, what they say, and what a reader may believe.
//!
//! Owns: keys and their grammar, the documents PLAN.json, unit receipts, manifest.json,
//! SHA256SUMS and COMMIT.json, and their versioned wire form. Pure: it turns bytes into checked
//! values and back. Does not own: fetching or storing (`store`), or Parquet (`part`).
//!
//! Readers start at COMMIT.json and trust nothing that it does not lead to by SHA-256.
//! `docs/format.md` is the specification; a change here is a change there.

mod commit;
pub mod keys;
mod manifest;
mod plan;
mod wire;

pub use commit::{Commit, ObjectRef, Totals};
pub use manifest::{CollectionResult, Consistency, Counts, Manifest, Part, sums_document};
pub use plan::{CollectionMeta, Database, Index, Plan, Receipt, Request, SourceInfo, Unit};

/// The version of the snapshot format that this build writes, and the only one it reads.
///
/// - 1: the first. Plan, receipts, manifest, sums and commit as specified in `docs/format.md`.
pub const FORMAT_VERSION: u32 = 1;

/// Features that a reader must know to read a snapshot of this build. COMMIT.json lists those a
/// snapshot needs; an unknown one is refused by name.
pub const KNOWN_FEATURES: &[&str] = &[];

/// Largest COMMIT.json that is read, in bytes.
pub const MAX_COMMIT_BYTES: u64 = 1 << 20;
/// Largest signature object that is read, in bytes.
pub const MAX_SIGNATURE_BYTES: u64 = 16 << 10;
/// Largest PLAN.json that is read, in bytes.
pub const MAX_PLAN_BYTES: u64 = 64 << 20;
/// Largest unit receipt that is read, in bytes.
pub const MAX_RECEIPT_BYTES: u64 = 64 << 20;
/// Largest manifest.json that is read, in bytes: more than 100,000 parts, which
/// can be read and checked within the memory that everything else is held to.
pub const MAX_MANIFEST_BYTES: u64 = 32 << 20;
/// Largest part that is read, in bytes: what one S3 PUT can have made.
pub const MAX_PART_BYTES: u64 = 5 << 30;
/// Most rows a part can have: far above what fits into [`MAX_PART_BYTES`], and small enough that
/// the rows of every part of the largest manifest add up within 64 bits.
pub const MAX_PART_ROWS: u64 = 1 << 36;
