//! The only place that speaks to a Milvus server, or to Zilliz Cloud.
//!
//! Owns: connecting, what each RPC takes and answers, telling refusals from lost replies, and
//! the differences between servers. Does not own: the order in which things are done (`export`,
//! `import`), values (`columns`), or buckets (`store`).
//!
//! Requests are built from the messages of the official crate, but sent by a channel of our own:
//! its client copies vectors row by row, keeps a 4 MiB message limit and hides whether the server
//! calls an error retriable.

mod bulk;
mod call;
mod catalog;
mod cloud;
mod connect;
mod create;
mod insert;
mod load;
mod pace;
mod probe;
mod query;
mod wire_schema;

pub use bulk::{BucketKey, BulkJob, BulkRequest, BulkServer, BulkState, JobId, JobLimits};
pub use call::{Failure, Patience, RpcError};
pub use catalog::Described;
pub use cloud::{Cloud, CloudEndpoint, Deployment};
pub use connect::{Client, Endpoint, ServerInfo, ServerKind, Side, Tls, Token};
pub use create::IndexMade;
pub use insert::{InsertRequest, Mutation};
pub use load::LoadState;
pub use probe::{Grants, Health, Limit, Missing};
pub use query::{Page, Scan, View};
pub use wire_schema::{
    KeyPolicy, Refusal, is_portable_database_property, is_portable_property, read_described,
};
