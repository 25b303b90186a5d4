//! One way to call an RPC: bytes out, bytes in, one error type that says what the failure means.

use super::connect::Client;
use crate::error::{Code, Error, ErrorKind};
use base64::Engine;
use bytes::{Buf, BufMut, Bytes};
use milvus::proto::common::Status;
use milvus::proto::{common, milvus as api};
use prost::Message;
use std::time::{Duration, Instant};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one reply. Long work on the server is polled, so nothing legitimate takes longer.
    pub reply: Duration,
    /// While it says "later" or does not answer: long enough for a restart. One reply that never
    /// came may use it up, and is asked for once more all the same.
    pub restart: Duration,
    /// While its memory is used up: what frees some, flushes and compactions, takes minutes.
    pub memory: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Patience { reply: minutes(2), restart: minutes(2), memory: minutes(10) }
    }
}

impl Patience {
    /// For the reply to `rpc`. Within some of them the Lites do all the work.
    fn with(self, rpc: &str) -> Duration {
        match rpc {
            "CreateIndex" | "Flush" | "LoadCollection" | "LoadPartitions" => WORK_DEADLINE,
            _ => self.reply,
        }
    }

    /// For repeating what failed.
    fn after(self, failure: Failure) -> Duration {
        if failure == Failure::MemoryQuota { self.memory } else { self.restart }
    }
}

/// Deadline of the RPCs within which the Lites do all the work.
const WORK_DEADLINE: Duration = Duration::from_secs(3600);

/// The largest reply. Pages are asked for in a quarter of it, and servers refuse to send more than 100 MB; a
/// page that is larger is asked for in smaller ones.
const MOST_REPLY_BYTES: usize = 64 << 20;

/// Of a server's words, as many bytes as are repeated.
const MOST_REASON_BYTES: usize = 2000;

/// A server's words, not without an end.
pub(super) fn bounded(mut reason: String) -> String {
    let cut = reason.floor_char_boundary(MOST_REASON_BYTES);
    if cut < reason.len() {
        reason.truncate(cut);
        reason.push_str(" ...");
    }
    reason
}

/// Replies above this size are decoded on a blocking thread.
const INLINE_DECODE_BYTES: usize = 256 << 10;

/// What a failed RPC means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Wrong or missing credentials, or a missing privilege.
    Denied,
    /// The database, collection, partition, index or alias does not exist.
    NotFound,
    /// The server does not know the RPC or the feature.
    Unimplemented,
    /// The message or the result is too large; a smaller one may do.
    TooLarge,
    /// Not done, and worth repeating: not ready yet.
    Later,
    /// Not done: the collection or partition is not loaded, or not yet loaded again after a restart.
    NotLoaded,
    /// Not done, because the server has too much to do: worth repeating, with fewer requests.
    Busy,
    /// The quota of memory is used up. Not done; it may pass within minutes.
    MemoryQuota,
    /// Another quota is used up, such as that of the disk. Not done, and it does not pass by itself.
    Quota,
    /// An administrator has switched such requests off.
    SwitchedOff,
    /// The two sides cannot agree on an encrypted connection.
    Tls,
    /// No connection: certainly not done.
    Unreachable,
    /// No reply: it may or may not have been done.
    NoReply,
    /// The server refuses this request as it is.
    Refused,
}

/// A failed RPC.
#[derive(Debug, Clone)]
pub struct RpcError {
    /// What was called.
    pub rpc: &'static str,
    /// What it means.
    pub failure: Failure,
    /// The server's own code, 0 if it sent none.
    pub code: i32,
    /// The server's own words.
    pub reason: String,
    /// What to do about it, where that depends on what was given to this client.
    pub fix: Option<String>,
}

impl RpcError {
    /// Whether the request certainly had no effect.
    pub fn not_done(&self) -> bool {
        self.failure != Failure::NoReply
    }

    /// A reply that does not say what it has to say.
    pub(super) fn malformed(rpc: &'static str, what: impl ToString) -> Self {
        RpcError { rpc, failure: Failure::Refused, code: 0, reason: what.to_string(), fix: None }
    }

    fn transport(rpc: &'static str, status: &tonic::Status) -> Self {
        use tonic::Code;
        let mut reason = status.message().to_string();
        // What broke the connection stands only in the chain of sources.
        let mut source = std::error::Error::source(status);
        while let Some(error) = source {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = if reason.is_empty() { text } else { format!("{reason}: {text}") };
            }
            source = error.source();
        }
        let failure = match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Failure::Denied,
            Code::Unimplemented => Failure::Unimplemented,
            Code::NotFound => Failure::NotFound,
            Code::ResourceExhausted | Code::OutOfRange if is_size_text(&reason) => Failure::TooLarge,
            Code::ResourceExhausted => Failure::Busy,
            Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => Failure::Refused,
            // Certificates do not become better by waiting.
            Code::Unavailable | Code::Unknown
                if [
                    "invalid peer certificate",
                    "received fatal alert",
                    "corrupt message",
                    "InvalidContentType",
                ]
                .iter()
                .any(|text| reason.contains(text)) =>
            {
                Failure::Tls
            }
            // A connection that never came up has sent nothing.
            Code::Unavailable if reason.contains("tcp connect error") || reason.contains("dns error") => {
                Failure::Unreachable
            }
            _ => Failure::NoReply,
        };
        if reason.is_empty() {
            reason = format!("{:?}", status.code());
        }
        RpcError { rpc, failure, code: 0, reason, fix: None }
    }

    /// Reads the status that a server puts into its replies. Codes: milvus `merr`; the legacy
    /// `error_code` is what Milvus 2.2 and the C++ Lite still use.
    fn from_status(rpc: &'static str, status: &Status) -> Option<Self> {
        #[allow(deprecated)]
        let legacy = status.error_code;
        if status.code == 0 && legacy == 0 {
            return None;
        }
        let reason = without_trace(if status.reason.is_empty() { &status.detail } else { &status.reason });
        let legacy = common::ErrorCode::try_from(legacy).unwrap_or(common::ErrorCode::UnexpectedError);
        let failure = match (status.code, legacy) {
            (1400 | 1401, _) | (_, common::ErrorCode::PermissionDenied) => Failure::Denied,
            (100 | 200 | 700 | 800 | 1600, _) => Failure::NotFound,
            (0 | 1, common::ErrorCode::CollectionNotExists | common::ErrorCode::IndexNotExist) => {
                Failure::NotFound
            }
            (101, _) => Failure::NotLoaded,
            (10, _) => Failure::Unimplemented,
            (9, _)
            | (
                _,
                common::ErrorCode::MemoryQuotaExhausted
                | common::ErrorCode::DiskQuotaExhausted
                | common::ErrorCode::ForceDeny,
            ) => quota(legacy, &reason),
            _ if is_restart_text(&reason) => Failure::NoReply,
            _ if is_size_text(&reason) => Failure::TooLarge,
            _ if is_not_found_text(&reason) => Failure::NotFound,
            // 1 is also what Lite says of everything unexpected.
            (1, _) if !status.retriable && !reason.contains("not ready") => Failure::Refused,
            // Queue full, rate limit, too far behind, out of resources.
            (4 | 8 | 11 | 12, _) | (_, common::ErrorCode::RateLimit) => Failure::Busy,
            (1 | 2 | 103 | 106 | 110 | 503 | 505 | 507 | 1003 | 2200, _) => Failure::Later,
            (_, common::ErrorCode::NotReadyServe) => Failure::Later,
            _ if status.retriable => Failure::Later,
            _ => Failure::Refused,
        };
        Some(RpcError { rpc, failure, code: status.code, reason, fix: None })
    }
}

/// What becomes of a quota that is used up: all have one code, and texts that vary a little.
fn quota(legacy: common::ErrorCode, reason: &str) -> Failure {
    let says = |text: &str| reason.contains(text);
    if legacy == common::ErrorCode::ForceDeny || says("force deny") || says("by the administrator") {
        Failure::SwitchedOff
    } else if legacy == common::ErrorCode::MemoryQuotaExhausted || says("memory quota") {
        Failure::MemoryQuota
    } else if says("time tick long delay") {
        Failure::Busy
    } else {
        Failure::Quota
    }
}

/// The texts by which servers say that a message or result is over a limit; their codes vary.
fn is_size_text(reason: &str) -> bool {
    [
        "maxOutputSize",
        "exceed the limit size",
        "larger than max",
        "message too large",
        "received message larger",
        "length too large",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

/// What the parts of a server say of one another while one of them starts again, under codes that
/// vary (seen on 2.3.5, behind a flush). How far the request had come, nobody says.
fn is_restart_text(reason: &str) -> bool {
    ["node not match[", "session not found", "node not found[", "the client connection is closing"]
        .iter()
        .any(|text| reason.contains(text))
}

/// The server's words without the stack trace between them: lines of Go, of which the last one ends
/// where the words go on.
fn without_trace(reason: &str) -> String {
    let words = reason.split_once("stack trace: ").and_then(|(before, trace)| {
        let last_line = &trace[trace.rfind(".go:")?..];
        let (_, behind) = last_line[".go:".len()..].split_once(": ")?;
        Some(format!("{before}{behind}"))
    });
    words.unwrap_or_else(|| reason.to_string())
}

/// Lite and old servers say "not found" under general codes.
fn is_not_found_text(reason: &str) -> bool {
    [
        "can't find collection",
        "collection not found",
        "index not found",
        "database not found",
        "not found collection",
        "CollectionNotExists",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

impl From<RpcError> for Error {
    fn from(error: RpcError) -> Self {
        if super::cloud::is_from_here(&error) {
            return super::cloud::explained(error);
        }
        let says = match error.code {
            0 => format!("the server's answer to {} is: {}", error.rpc, error.reason),
            code => format!("the server's answer to {} is error {code}: {}", error.rpc, error.reason),
        };
        match error.failure {
            Failure::Denied => Error::new(ErrorKind::Denied, says)
                .hint(error.fix.unwrap_or_else(|| "check the token and that the user has the privilege".into())),
            Failure::NotFound => Error::new(ErrorKind::NotFound, says),
            Failure::Unimplemented => Error::new(ErrorKind::Unsupported, says),
            Failure::TooLarge => Error::new(ErrorKind::Unsupported, says).hint(
                "a single row is larger than the server's message limit; raise that limit on the server",
            ),
            Failure::Later | Failure::Busy => Error::new(ErrorKind::Temporary, says).hint("run the same command again later"),
            Failure::NotLoaded => Error::new(ErrorKind::Temporary, says)
                .hint("it was loaded when this command began: load it, then run the same command again"),
            Failure::Tls => Error::new(
                Code::Tls,
                format!("no encrypted connection to the server: {}", error.reason),
            )
            .hint("check https:// against http://, the certificate authority and the client certificate"),
            Failure::Unreachable => {
                Error::new(Code::Unreachable, format!("the server cannot be reached: {}", error.reason))
                    .hint("check the address and that the server runs, then run the same command again")
            }
            Failure::MemoryQuota => Error::new(Code::Quota, says).hint(
                "the server's memory quota is used up, and waiting did not help: give it memory, release collections \
                 that are not needed, or wait for its compactions; then run the same command again",
            ),
            Failure::Quota => Error::new(Code::Quota, says).hint(
                "a quota of the server is used up, which does not pass by itself: give it capacity (for a disk quota: \
                 more disk, or drop what is not needed), then run the same command again",
            ),
            Failure::SwitchedOff => Error::new(Code::SwitchedOff, says).hint(
                "an administrator has switched such requests off on the server: have them switched on, then run the \
                 same command again",
            ),
            Failure::NoReply => {
                let what = format!("the server does not answer {}: {}", error.rpc, error.reason);
                Error::new(Code::Unreachable, what)
                    .hint(
                    "check the address, http:// against https://, and the network, then run the same command again",
                )
            }
            Failure::Refused => Error::new(ErrorKind::Unsupported, says),
        }
    }
}

/// A reply with a status in it.
pub(super) trait Reply: Message + Default + Send + 'static {
    /// The status, if the server set one.
    fn status(&self) -> Option<&Status>;
}

impl Reply for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

macro_rules! replies {
    ($($reply:ident),* $(,)?) => {$(
        impl Reply for api::$reply {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        }
    )*};
}

replies!(
    ConnectResponse,
    GetVersionResponse,
    ListDatabasesResponse,
    DescribeDatabaseResponse,
    ShowCollectionsResponse,
    DescribeCollectionResponse,
    ShowPartitionsResponse,
    DescribeIndexResponse,
    GetCollectionStatisticsResponse,
    GetLoadStateResponse,
    FlushResponse,
    GetFlushStateResponse,
    QueryResults,
    MutationResult,
    ListAliasesResponse,
    DescribeAliasResponse,
    AllocTimestampResponse,
    GetPersistentSegmentInfoResponse,
    GetQuerySegmentInfoResponse,
    CheckHealthResponse,
    ImportResponse,
    GetImportStateResponse,
    ListImportTasksResponse,
);

/// Whether an RPC may be repeated after it failed without a definite answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only reads, or doing it twice is the same as once.
    Freely,
    /// Only while the server said that it did nothing.
    IfNotDone,
    /// Not at all.
    Never,
}

impl Client {
    /// Calls `rpc` in `database` and decodes the reply, repeating as `repeat` allows.
    pub(super) async fn call<Res: Reply>(
        &self,
        rpc: &'static str,
        database: &str,
        request: &impl Message,
        repeat: Repeat,
    ) -> Result<Res, RpcError> {
        Ok(self.call_bytes(rpc, database, request.encode_to_vec().into(), repeat).await?.0)
    }

    /// [`Client::call`] with an encoded request; also gives the reply's own bytes.
    pub(super) async fn call_bytes<Res: Reply>(
        &self,
        rpc: &'static str,
        database: &str,
        request: Bytes,
        repeat: Repeat,
    ) -> Result<(Res, Bytes), RpcError> {
        // Waiting for other requests to come back is not the server's failure.
        let mut spent = Duration::ZERO;
        tracing::debug!(rpc, database, bytes = request.len(), "calling");
        let mut pause = Duration::from_millis(200);
        loop {
            let pass = self.pace.enter().await;
            let start = Instant::now();
            let error = match self.call_once(rpc, database, request.clone()).await {
                Ok(reply) => {
                    self.pace.went_well();
                    return Ok(reply);
                }
                Err(error) => {
                    let reason = self.repeatable(error.reason);
                    let fix = (error.failure == Failure::Denied).then(|| self.where_denied(&reason));
                    RpcError { reason, fix, ..error }
                }
            };
            if matches!(error.failure, Failure::Busy | Failure::MemoryQuota) {
                self.pace.slow_down();
            }
            drop(pass);
            let enough = spent > self.patience.after(error.failure);
            spent += start.elapsed() + pause;
            let again = match error.failure {
                Failure::Later | Failure::Busy | Failure::MemoryQuota | Failure::Unreachable => {
                    repeat != Repeat::Never
                }
                Failure::NoReply => repeat == Repeat::Freely,
                _ => false,
            };
            if !again || enough {
                return Err(error);
            }
            tracing::debug!(rpc, reason = error.reason, "repeating in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// A server's words without our token, which it may have sent back, and not without an end.
    fn repeatable(&self, mut reason: String) -> String {
        if let Some(token) = &self.token {
            let token = token.expose();
            let password = token.split_once(':').map(|(_, password)| password).filter(|p| p.len() >= 8);
            let sent = base64::engine::general_purpose::STANDARD.encode(token);
            let secrets = [Some(token), Some(sent.as_str()), password].into_iter().flatten();
            for secret in secrets.filter(|secret| !secret.is_empty()) {
                reason = reason.replace(secret, "(the token)");
            }
        }
        bounded(reason)
    }

    async fn call_once<Res: Reply>(
        &self,
        rpc: &'static str,
        database: &str,
        request: Bytes,
    ) -> Result<(Res, Bytes), RpcError> {
        let fail = |failure, reason: String| RpcError { rpc, failure, code: 0, reason, fix: None };
        let mut message = tonic::Request::new(request);
        if let Some(token) = &self.token {
            let encoded = base64::engine::general_purpose::STANDARD.encode(token.expose());
            let mut value: MetadataValue<_> =
                encoded.parse().map_err(|_| fail(Failure::Denied, "the token cannot be sent".into()))?;
            value.set_sensitive(true);
            message.metadata_mut().insert("authorization", value);
        }
        if !database.is_empty() {
            let value = database.parse().map_err(|_| {
                fail(
                    Failure::Refused,
                    format!("the database name {database:?} cannot be sent: it is not ASCII"),
                )
            })?;
            message.metadata_mut().insert("dbname", value);
        }
        let path = format!("/milvus.proto.milvus.MilvusService/{rpc}");
        let path = path.parse().map_err(|_| fail(Failure::Refused, "the RPC has no path".into()))?;

        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MOST_REPLY_BYTES)
            .max_encoding_message_size(usize::MAX);
        let exchange = async {
            grpc.ready().await.map_err(|e| tonic::Status::from_error(Box::new(e)))?;
            grpc.unary(message, path, RawCodec).await
        };
        let deadline = self.patience.with(rpc);
        let reply = tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| fail(Failure::NoReply, format!("no reply within {} s", deadline.as_secs_f64())))?
            .map_err(|status| RpcError::transport(rpc, &status))?
            .into_inner();

        let bytes = reply.clone();
        let decoded = if reply.len() > INLINE_DECODE_BYTES {
            tokio::task::spawn_blocking(move || Res::decode(reply))
                .await
                .map_err(|e| fail(Failure::Refused, format!("decoding was stopped: {e}")))?
        } else {
            Res::decode(reply)
        };
        let decoded =
            decoded.map_err(|e| fail(Failure::Refused, format!("a reply that cannot be decoded: {e}")))?;
        match decoded.status().and_then(|status| RpcError::from_status(rpc, status)) {
            Some(error) => Err(error),
            None => Ok((decoded, bytes)),
        }
    }
}

/// Passes encoded messages through, so that replies can be kept byte for byte and decoded off the
/// async threads.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buf.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: i32, legacy: common::ErrorCode, reason: &str, retriable: bool) -> Option<Failure> {
        #[allow(deprecated)]
        let status = Status {
            code,
            error_code: legacy as i32,
            reason: reason.into(),
            retriable,
            ..Default::default()
        };
        RpcError::from_status("Query", &status).map(|e| e.failure)
    }

    #[test]
    fn statuses_mean_what_the_caller_does_next() {
        use common::ErrorCode::{Success, UnexpectedError};
        assert_eq!(read(0, Success, "", false), None);
        assert_eq!(read(8, common::ErrorCode::RateLimit, "rate limit exceeded", true), Some(Failure::Busy));
        let quota =
            |legacy, reason: &str| read(9, legacy, &format!("quota exceeded[reason={reason}]"), false);
        for text in ["memory quota exhausted, please", "memory quota exceeded, please"] {
            assert_eq!(quota(UnexpectedError, text), Some(Failure::MemoryQuota));
        }
        for text in ["disk quota exhausted, please", "disk quota exceeded, please", "another"] {
            assert_eq!(quota(UnexpectedError, text), Some(Failure::Quota));
        }
        for text in ["manually force deny", "access has been disabled by the administrator"] {
            assert_eq!(quota(UnexpectedError, text), Some(Failure::SwitchedOff));
        }
        assert_eq!(quota(UnexpectedError, "time tick long delay"), Some(Failure::Busy));
        let legacy = |legacy| read(0, legacy, "", false);
        assert_eq!(legacy(common::ErrorCode::MemoryQuotaExhausted), Some(Failure::MemoryQuota));
        assert_eq!(legacy(common::ErrorCode::DiskQuotaExhausted), Some(Failure::Quota));
        assert_eq!(legacy(common::ErrorCode::ForceDeny), Some(Failure::SwitchedOff));
        assert_eq!(read(100, UnexpectedError, "", false), Some(Failure::NotFound));
        assert_eq!(read(0, common::ErrorCode::CollectionNotExists, "", false), Some(Failure::NotFound));
        assert_eq!(read(1401, UnexpectedError, "", false), Some(Failure::Denied));
        assert_eq!(
            read(1100, UnexpectedError, "query results exceed the maxOutputSize Limit", false),
            Some(Failure::TooLarge)
        );
        assert_eq!(read(1100, UnexpectedError, "invalid parameter", false), Some(Failure::Refused));
        assert_eq!(read(2000, UnexpectedError, "segcore", true), Some(Failure::Later));
        // Seen on 2.3.5 when its machine had too much to do.
        let lost = "failed to query: leader not available: lastHB=...: node offline[node=1]: channel not available[channel=x]";
        assert_eq!(read(503, UnexpectedError, lost, false), Some(Failure::Later));
    }

    #[test]
    fn a_server_that_starts_again_is_not_a_refusal() {
        let said = "attempt #0: stack trace: /a/stack_trace.go:51 milvus/pkg/tracer.StackTrace\n/a/retry.go:44 \
                    milvus/retry.Do\n/a/services.go:116 datacoord.(*Server).Flush: attempt #0: rpc error: node not \
                    match[expectedNodeID=1][actualNodeID=2]";
        assert_eq!(read(65535, common::ErrorCode::UnexpectedError, said, false), Some(Failure::NoReply));
        let words = "attempt #0: attempt #0: rpc error: node not match[expectedNodeID=1][actualNodeID=2]";
        assert_eq!(without_trace(said), words);
        for whole in ["", "no trace", "stack trace: ", "a: stack trace: cut off", "stack trace: x.go:1 f"] {
            assert_eq!(without_trace(whole), whole);
        }
    }

    #[test]
    fn a_lost_reply_is_not_a_refusal() {
        let lost = RpcError::transport("Insert", &tonic::Status::unknown("transport error"));
        assert!(!lost.not_done());
        let denied = RpcError::transport("Insert", &tonic::Status::unauthenticated("auth check failure"));
        assert_eq!(denied.failure, Failure::Denied);
        let large = RpcError::transport(
            "Insert",
            &tonic::Status::resource_exhausted("grpc: received message larger than max (9 vs. 4)"),
        );
        assert_eq!(large.failure, Failure::TooLarge);
    }
}
