//! Parts: record batches to Parquet bytes and back.
//!
//! Owns: the physical layout (encodings, compression, row groups), hashing what is written, and
//! holding what is read to the schema, row count and key range that the manifest promises. Does
//! not own: which rows go into which part (`export`), keys and documents (`snapshot`), or values
//! (`columns`).

mod choice;
mod levels;
mod limits;
mod read;
mod read_vectors;
mod vectors;
mod write;

pub use read::PartReader;
pub use write::{FinishedPart, PartWriter};

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;
