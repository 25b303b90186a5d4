//! The programs that the benchmark (`bench/run.py`) compares the tool with. They measure nothing by
//! themselves: the driver starts them as processes and takes their times from the operating system.
//! They are an example, so that they are built and linted with the project and never shipped.
//!
//! - `serve`: a Milvus in memory that answers from prepared messages (`fake.rs`, `rows.rs`), for what
//!   the client alone costs. A process of its own, so that its CPU time is not the client's.
//! - `proxy`: stands before a real server and records the requests that the tool sends (`record.rs`).
//! - `scan`: sends recorded page requests again, as many at once as the tool did, and throws the
//!   replies away; with `--decode` it also decodes them and hashes bytes (`replay.rs`). What no
//!   client can avoid.
//! - `send`: sends recorded insert requests again, as fast as the server takes them (`replay.rs`).
//!
//! `serve` and `proxy` print one JSON line `{"port": N}`, then obey lines on stdin (`reset`,
//! `save FILE`), each answered by one JSON line, and end when stdin does.

mod fake;
mod proxy;
mod raw;
mod record;
mod replay;
mod rows;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "What the benchmark compares milvus-handoff with")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A Milvus in memory.
    Serve {
        #[arg(long, value_enum, default_value = "plain")]
        kind: rows::Kind,
        #[arg(long, default_value_t = 128)]
        dim: usize,
        /// Rows of the collection `source`.
        #[arg(long, default_value_t = 0)]
        rows: u64,
        /// Keep the encoded pages, so that only their first reading costs anything.
        #[arg(long)]
        keep: bool,
        /// Keep the requests, to be saved.
        #[arg(long)]
        record: bool,
    },
    /// Passes everything on to a server and records pages and inserts.
    Proxy {
        #[arg(long)]
        upstream: String,
    },
    /// Sends recorded page requests.
    Scan(replay::ScanArgs),
    /// Sends recorded inserts.
    Send(replay::SendArgs),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    match Cli::parse().command {
        Command::Serve { kind, dim, rows, keep, record } => {
            record::serve(fake::Fake::new(kind, dim, rows, keep, record)).await
        }
        Command::Proxy { upstream } => record::serve(proxy::Proxy::new(&upstream)?).await,
        Command::Scan(scan) => scan.run().await,
        Command::Send(send) => send.run().await,
    }
}

/// The recorded requests of a file, in order.
fn read_recorded(path: &PathBuf) -> Result<Vec<(String, bytes::Bytes)>, Box<dyn Error + Send + Sync>> {
    record::read(std::fs::read(path)?.into())
}
