//! milvus-handoff: moves Milvus collections between organizations through a bucket.
//!
//! The map. Data flows one way, and modules know only those below them:
//!
//! ```text
//! main -> cli, output, next, generate   what users type and read, and what comes after
//!   refusal                           what is wrong with what they typed
//!   report  diff                      stories whose results are put into words beside them
//!   export  import  verify  compare   one story each: its top-level function reads as the design
//!   inspect  sign    keygen  doctor
//!   opened  fetch   signature nesting the way into a committed snapshot, who vouches, what is around
//!   loaded  pages                     the way to a collection's rows: loaded, in key order
//!   part    milvus   store   snapshot Parquet, the server, the bucket, the format
//!   columns                           field types <-> Arrow <-> Milvus messages
//!   schema  select  digest  error     words that everything uses
//! ```
//!
//! `export` and `import` never name each other; `milvus` and `store` never name each other or a
//! story. `tests/layers.rs` keeps it so.

pub mod blocking;
pub mod capacity;
pub mod cli;
pub mod columns;
pub mod compare;
pub mod diff;
pub mod digest;
pub mod doctor;
pub mod error;
pub mod export;
pub mod fetch;
pub mod generate;
pub mod import;
pub mod inspect;
pub mod keygen;
pub mod loaded;
pub mod milvus;
pub mod nesting;
pub mod next;
pub mod opened;
pub mod output;
pub mod pages;
pub mod part;
pub mod progress;
pub mod refusal;
pub mod report;
pub mod schema;
pub mod select;
pub mod sign;
pub mod signature;
pub mod snapshot;
pub mod stop;
pub mod store;
pub mod verify;
