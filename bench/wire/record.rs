//! Serving, and recording what is asked for: pages of rows, collections made, and inserts. Counts and
//! pages of keys alone are not recorded: a scan that only moves rows has no need of them.

use crate::raw::{self, Answers, Raw};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use milvus::proto::milvus::QueryRequest;
use prost::Message;
use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// What happened since the last `reset`.
#[derive(Default)]
pub struct Log {
    /// Whether requests are kept; if not, only what they amount to is known.
    keeps: bool,
    requests: Mutex<Vec<(String, Bytes)>>,
    reply_bytes: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    connections: AtomicU64,
    /// Pages that had to be encoded because nobody had asked for them before.
    pub prepared: AtomicU64,
}

impl Log {
    pub fn new(keeps: bool) -> Self {
        Log { keeps, ..Log::default() }
    }

    fn reset(&self) {
        self.requests.lock().expect("no panics while it is held").clear();
        for counter in [&self.reply_bytes, &self.most_in_flight, &self.connections, &self.prepared] {
            counter.store(0, Ordering::SeqCst);
        }
    }

    fn summary(&self) -> serde_json::Value {
        let requests = self.requests.lock().expect("no panics while it is held");
        serde_json::json!({
            "requests": requests.len(),
            "request_bytes": requests.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            "reply_bytes": self.reply_bytes.load(Ordering::SeqCst),
            "most_in_flight": self.most_in_flight.load(Ordering::SeqCst),
            "connections": self.connections.load(Ordering::SeqCst),
            "prepared": self.prepared.load(Ordering::SeqCst),
        })
    }

    fn save(&self, path: &str) -> std::io::Result<()> {
        let requests = self.requests.lock().expect("no panics while it is held");
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (rpc, bytes) in requests.iter() {
            let mut head = BytesMut::new();
            head.put_u8(rpc.len() as u8);
            head.put_slice(rpc.as_bytes());
            head.put_u64(bytes.len() as u64);
            out.write_all(&head)?;
            out.write_all(bytes)?;
        }
        out.flush()
    }
}

/// Reads what `save` wrote.
pub fn read(mut bytes: Bytes) -> Result<Vec<(String, Bytes)>, Box<dyn Error + Send + Sync>> {
    let mut requests = Vec::new();
    while bytes.has_remaining() {
        let name = bytes.get_u8() as usize;
        let rpc = String::from_utf8(bytes.split_to(name).to_vec())?;
        let length = bytes.get_u64() as usize;
        requests.push((rpc, bytes.split_to(length)));
    }
    Ok(requests)
}

/// Whether a request moves rows (or makes the place for them).
fn moves_rows(rpc: &str, request: &Bytes) -> bool {
    match rpc {
        "Insert" | "CreateCollection" => true,
        "Query" => QueryRequest::decode(request.clone()).is_ok_and(|q| q.output_fields.len() > 1),
        _ => false,
    }
}

/// A server whose requests are recorded.
pub trait Recorded: Answers {
    fn log(&self) -> &Log;
}

struct Recording<A>(Arc<A>);

impl<A: Recorded> Answers for Recording<A> {
    async fn answer(&self, rpc: &str, metadata: MetadataMap, request: Bytes) -> Result<Bytes, Status> {
        let log = self.0.log();
        let recorded = moves_rows(rpc, &request);
        if recorded {
            let now = log.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            log.most_in_flight.fetch_max(now, Ordering::SeqCst);
            if log.keeps {
                let mut requests = log.requests.lock().expect("no panics while it is held");
                requests.push((rpc.to_string(), request.clone()));
            }
        }
        let reply = self.0.answer(rpc, metadata, request).await;
        if recorded {
            log.in_flight.fetch_sub(1, Ordering::SeqCst);
            log.reply_bytes.fetch_add(reply.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::SeqCst);
        }
        reply
    }
}

/// Serves on a free loopback port and obeys stdin until it ends.
pub async fn serve<A: Recorded>(answers: A) -> Result<(), Box<dyn Error + Send + Sync>> {
    let answers = Arc::new(answers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "port": listener.local_addr()?.port() }));
    let counted = answers.clone();
    let incoming = TcpListenerStream::new(listener).map(move |socket| {
        counted.log().connections.fetch_add(1, Ordering::SeqCst);
        let socket = socket?;
        socket.set_nodelay(true)?;
        Ok::<_, std::io::Error>(socket)
    });
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(raw::STREAM_WINDOW)
        .initial_connection_window_size(raw::CONNECTION_WINDOW)
        .serve_with_incoming(Raw(Arc::new(Recording(answers.clone()))), incoming);
    let commands = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            match line.split_once(' ') {
                Some(("save", path)) => answers.log().save(path)?,
                _ if line == "reset" => answers.log().reset(),
                _ => return Err(format!("not a command: {line}").into()),
            }
            println!("{}", answers.log().summary());
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    };
    tokio::select! {
        ended = server => ended?,
        ended = commands => ended?,
    }
    // The pages that are kept need not be freed one by one.
    std::process::exit(0)
}
