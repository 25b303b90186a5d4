//! An S3 bucket in memory that misbehaves as it is told: `s3s` speaks the protocol and checks
//! signatures, this module keeps the objects and spoils requests and replies around it.
//!
//! Every effect happens under one lock, so the bucket is linearizable. Faults follow from a seed,
//! the request's method and key, and how often that pair was seen: not from the order in which
//! concurrent requests arrive. So a seed means the same faults in every run.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use milvus_handoff::digest::Sha256;
use milvus_handoff::store::{Store, open_s3};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    ChecksumType, DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

pub const NAME: &str = "handoff";
pub const PREFIX: &str = "exports/snap";
pub const KEY_ID: &str = "AKIDFAULTS";
pub const SECRET: &str = "secret-of-the-fault-tests";

/// Keys that a page of a listing has at most: few, so that listings of tests have pages.
const PAGE: usize = 4;

/// Faults in a row that one request gets at most, so that retries come to an end.
const IN_A_ROW: usize = 3;

/// A permission, in the words of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Put,
    Get,
    Delete,
    List,
}

impl Verb {
    pub const ALL: [Verb; 4] = [Verb::Put, Verb::Get, Verb::Delete, Verb::List];

    fn of(operation: &str) -> Verb {
        match operation {
            "PutObject" => Verb::Put,
            "GetObject" | "HeadObject" => Verb::Get,
            "DeleteObject" => Verb::Delete,
            "ListObjectsV2" => Verb::List,
            other => panic!("the tool sent {other}, which no policy allows it"),
        }
    }
}

/// What becomes of the SHA-256 that a put brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    Returned,
    Dropped,
    /// Another one is returned than was stored.
    Wrong,
}

/// What can go wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    SlowDown,
    InternalError,
    InternalErrorAfter,
    ResetBefore,
    ResetAfter,
    /// The reply never comes, although the request took effect.
    SilentAfter,
    /// The body of a download ends early.
    Cut,
    /// The body of a download stands still.
    Stall,
    /// A bit of a download's body is another one.
    Flip,
}

impl Fault {
    /// What a retry mends.
    pub const PASSING: [Fault; 8] = [
        Fault::SlowDown,
        Fault::InternalError,
        Fault::InternalErrorAfter,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::SilentAfter,
        Fault::Cut,
        Fault::Stall,
    ];
}

/// Faults by chance.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    /// Of 1000 requests, how many go wrong.
    pub per_mille: u64,
    pub kinds: Vec<Fault>,
    /// Whether a request may go wrong without end.
    pub endless: bool,
}

/// Whether a request is stopped before or after its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// How the bucket behaves.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether `If-None-Match: *` is honoured.
    pub create_only: bool,
    pub checksums: Checksums,
    pub denied: Vec<Verb>,
    pub faults: Option<Schedule>,
    /// What happened last to so many keys is not in listings yet.
    pub lag: usize,
    /// Puts of keys that start so are acknowledged, and nothing is kept.
    pub forgets: Option<&'static str>,
    /// An error code for every request from the n-th on.
    pub refuse_from: Option<(usize, &'static str)>,
    /// By how many seconds the clock that its replies tell is ahead.
    pub clock_ahead: Option<i64>,
    /// At this request, counted from 0, everything stands still.
    pub stop_at: Option<(usize, When)>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            create_only: true,
            checksums: Checksums::Returned,
            denied: Vec::new(),
            faults: None,
            lag: 0,
            forgets: None,
            refuse_from: None,
            clock_ahead: None,
            stop_at: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub bytes: Bytes,
    pub sha256: Option<Sha256>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Stored>,
    /// Keys in the order in which they were put or deleted, with what was there before.
    history: Vec<(String, Option<Stored>)>,
    rules: Rules,
    requests: usize,
    seen: HashMap<(String, String), usize>,
    log: Vec<String>,
    standing: bool,
    /// Requests that may still take effect.
    open: usize,
}

#[derive(Clone)]
struct Backend {
    contents: Arc<Mutex<Contents>>,
    stopped: Arc<Notify>,
}

/// A running bucket; it ends with the runtime of the test.
pub struct Bucket {
    pub endpoint: String,
    backend: Backend,
}

impl Bucket {
    pub async fn start() -> Bucket {
        let backend = Backend { contents: Arc::default(), stopped: Arc::default() };
        let mut builder = S3ServiceBuilder::new(backend.clone());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        builder.set_access(backend.clone());
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (backend, service) = (serving.clone(), service.clone());
                let answer = service_fn(move |request| answer(backend.clone(), service.clone(), request));
                let serve = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serve);
            }
        });
        Bucket { endpoint, backend }
    }

    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.backend.lock().rules);
    }

    /// Requests so far, and none of the faults that were scheduled for the n-th time of something.
    pub fn forget(&self) {
        let mut contents = self.backend.lock();
        contents.requests = 0;
        contents.seen.clear();
        contents.log.clear();
        contents.standing = false;
        contents.rules.stop_at = None;
    }

    /// Waits until [`Rules::stop_at`] was reached.
    pub async fn stopped(&self) {
        self.backend.stopped.notified().await;
    }

    /// Waits until nothing that a killed client sent can take effect any more, or stop anything.
    pub async fn settled(&self) {
        let settling = async {
            while self.backend.lock().open > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settling).await.expect("a request is still open");
        // Every request that stood still left a notice; the first one was taken.
        let _ = self.backend.stopped.notified().now_or_never();
    }

    pub fn requests(&self) -> usize {
        self.backend.lock().requests
    }

    /// `PUT PLAN.json`, ... in the order of arrival.
    pub fn log(&self) -> Vec<String> {
        self.backend.lock().log.clone()
    }

    /// The snapshot's objects by their keys in it.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let contents = self.backend.lock();
        let inside = |(key, stored): (&String, &Stored)| {
            Some((key.strip_prefix(PREFIX)?.strip_prefix('/')?.to_string(), stored.bytes.clone()))
        };
        contents.objects.iter().filter_map(inside).collect()
    }

    /// Every key of the bucket, in and beside the snapshot.
    pub fn all_keys(&self) -> Vec<String> {
        self.backend.lock().objects.keys().cloned().collect()
    }

    /// The snapshot's objects by digest: what tests compare, and what a failure can print.
    pub fn digests(&self) -> BTreeMap<String, Sha256> {
        self.objects().into_iter().map(|(key, bytes)| (key, Sha256::of(&bytes))).collect()
    }

    /// The digests of the objects whose keys start with `prefix`.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, Sha256> {
        self.digests().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect()
    }

    /// Puts an object behind everybody's back.
    pub fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let sha256 = Some(Sha256::of(&bytes));
        self.backend.lock().objects.insert(format!("{PREFIX}/{key}"), Stored { bytes, sha256 });
    }

    pub fn clear(&self) {
        let mut contents = self.backend.lock();
        contents.objects.clear();
        contents.history.clear();
    }

    /// The snapshot's prefix, with a client that is patient for a moment only.
    pub fn store(&self) -> Arc<dyn Store> {
        open_s3(NAME, PREFIX, &self.config()).unwrap()
    }

    pub fn config(&self) -> SdkConfig {
        let credentials = Credentials::new(KEY_ID, SECRET, None, None, "test");
        let retry = RetryConfig::standard()
            .with_max_attempts(IN_A_ROW as u32 + 2)
            .with_initial_backoff(Duration::from_millis(1))
            .with_max_backoff(Duration::from_millis(20));
        let patience = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(500)).build();
        let moving = StalledStreamProtectionConfig::enabled().grace_period(Duration::from_millis(300));
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(retry)
            .timeout_config(patience)
            .stalled_stream_protection(moving.build())
            .build()
    }

    /// What a process needs in its environment to use this bucket.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_S3", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_CONFIG_FILE", "/nonexistent".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent".into()),
        ]
    }

    pub fn url() -> String {
        format!("s3://{NAME}/{PREFIX}")
    }
}

impl Backend {
    fn lock(&self) -> std::sync::MutexGuard<'_, Contents> {
        // A test that failed while it held the lock has not broken what the lock protects.
        self.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn open(&self) -> Open {
        self.lock().open += 1;
        Open(self.clone())
    }

    /// What stands still has no effect any more, so it is no longer open.
    async fn stand_still(&self, open: Open) -> ! {
        self.lock().standing = true;
        drop(open);
        self.stopped.notify_one();
        std::future::pending().await
    }
}

/// A request that is neither answered nor stands still.
struct Open(Backend);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

/// SplitMix64: good enough to spread faults, and the same everywhere.
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Schedule {
    /// The fault of the `time`-th request of this kind, and a number to shape it by.
    fn fault(&self, what: &str, time: usize) -> Option<(Fault, u64)> {
        if !self.endless && time % (IN_A_ROW + 1) == IN_A_ROW {
            return None;
        }
        let name = what.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let chance = mix(name ^ time as u64);
        let shape = mix(chance);
        let kind = self.kinds[(shape % self.kinds.len() as u64) as usize];
        (chance % 1000 < self.per_mille).then_some((kind, mix(shape)))
    }
}

type Reply = hyper::Response<BoxBody<Bytes, Broken>>;

/// Why a connection is closed in the middle.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bucket closes the connection")
    }
}

impl std::error::Error for Broken {}

async fn answer(
    backend: Backend,
    service: S3Service,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<Reply, Broken> {
    let open = backend.open();
    let path = request.uri().path().trim_start_matches(&format!("/{NAME}/{PREFIX}/")).to_string();
    let what = format!("{} {path}", request.method());
    let ranged = request.headers().get("range").is_some();
    let (number, fault, standing, stop_at) = {
        let mut contents = backend.lock();
        let number = contents.requests;
        contents.requests += 1;
        contents.log.push(what.clone());
        let time = contents.seen.entry((request.method().to_string(), path)).or_default();
        let now = *time;
        *time += 1;
        let faults = contents.rules.faults.as_ref();
        let fault = faults.and_then(|schedule| schedule.fault(&what, now));
        let stop_at = contents.rules.stop_at;
        let here = stop_at.is_some_and(|(at, _)| number > at);
        (number, fault, contents.standing || here, stop_at)
    };
    if standing || stop_at == Some((number, When::Before)) {
        backend.stand_still(open).await;
    }
    match fault {
        Some((Fault::SlowDown, _)) => return Ok(refusal(503, "SlowDown")),
        Some((Fault::InternalError, _)) => return Ok(refusal(500, "InternalError")),
        Some((Fault::ResetBefore, _)) => return Err(Broken),
        _ => {}
    }
    let head = request.method() == hyper::Method::HEAD;
    let download = request.method() == hyper::Method::GET;
    let reply = service.call(request.map(s3s::Body::from)).await.map_err(|_| Broken)?;
    if stop_at == Some((number, When::After)) {
        backend.stand_still(open).await;
    }
    let (mut parts, body) = reply.into_parts();
    if let Some(ahead) = backend.lock().rules.clock_ahead {
        let now = DateTime::from(std::time::SystemTime::now()).secs();
        let date = DateTime::from_secs(now + ahead).fmt(Format::HttpDate).unwrap();
        parts.headers.insert("date", date.parse().unwrap());
    }
    // A reply to HEAD has the length of what it does not send.
    let bytes =
        if head { Bytes::new() } else { BodyExt::collect(body).await.map_err(|_| Broken)?.to_bytes() };
    let whole = |bytes: Bytes| Full::new(bytes).map_err(|never: Infallible| match never {}).boxed();
    let body = match fault {
        Some((Fault::InternalErrorAfter, _)) => return Ok(refusal(500, "InternalError")),
        Some((Fault::ResetAfter, _)) => return Err(Broken),
        Some((Fault::SilentAfter, _)) => std::future::pending().await,
        Some((Fault::Cut, shape)) if download && !bytes.is_empty() => {
            broken_off(bytes, shape, stream::once(async { Err(Broken) }).boxed())
        }
        Some((Fault::Stall, shape)) if download && !bytes.is_empty() => {
            broken_off(bytes, shape, stream::pending().boxed())
        }
        Some((Fault::Flip, shape)) if download && !ranged && !bytes.is_empty() => {
            let mut flipped = bytes.to_vec();
            let at = (shape % flipped.len() as u64) as usize;
            flipped[at] ^= 1 << (mix(shape) % 8);
            whole(flipped.into())
        }
        _ => whole(bytes),
    };
    Ok(hyper::Response::from_parts(parts, body))
}

/// The first bytes of a body, and then what `end` does.
fn broken_off(
    bytes: Bytes,
    shape: u64,
    end: stream::BoxStream<'static, Result<Bytes, Broken>>,
) -> BoxBody<Bytes, Broken> {
    let first = bytes.slice(..(shape % bytes.len() as u64) as usize);
    // The pause lets the first bytes out before the connection is reset.
    let pause = stream::once(async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(Bytes::new())
    });
    let frames = stream::once(async { Ok(first) }).chain(pause).chain(end);
    let frames = SyncStream(Mutex::new(frames.map(|chunk| chunk.map(Frame::data)).boxed()));
    BodyExt::boxed(StreamBody::new(frames))
}

/// Bodies are `Sync` by their type; nobody polls one from two threads.
struct SyncStream<T>(Mutex<stream::BoxStream<'static, T>>);

impl<T> futures::Stream for SyncStream<T> {
    type Item = T;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.lock().unwrap().poll_next_unpin(cx)
    }
}

fn refusal(status: u16, code: &str) -> Reply {
    let said = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the seed has it</Message></Error>"
    );
    let body = Full::new(Bytes::from(said)).map_err(|never: Infallible| match never {}).boxed();
    hyper::Response::builder().status(status).body(body).unwrap()
}

#[async_trait::async_trait]
impl S3Access for Backend {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "anonymous"));
        }
        let verb = Verb::of(cx.s3_op().name());
        let contents = self.lock();
        if let Some((from, code)) = contents.rules.refuse_from
            && contents.requests > from
        {
            let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap();
            return Err(S3Error::with_message(code, "as the rule has it"));
        }
        if contents.rules.denied.contains(&verb) {
            return Err(s3_error!(AccessDenied, "the policy allows no {verb:?}"));
        }
        Ok(())
    }
}

impl Contents {
    /// As S3 has it: who may not list is not told whether an object is missing.
    fn find(&self, key: &str) -> S3Result<Stored> {
        match self.objects.get(key) {
            Some(stored) => Ok(stored.clone()),
            None if self.rules.denied.contains(&Verb::List) => Err(s3_error!(AccessDenied, "Access Denied")),
            None => Err(s3_error!(NoSuchKey)),
        }
    }

    fn checksum(&self, stored: &Stored) -> Option<String> {
        match self.rules.checksums {
            Checksums::Returned => stored.sha256.map(|digest| digest.to_base64()),
            Checksums::Dropped => None,
            Checksums::Wrong => Some(Sha256::of(b"something else").to_base64()),
        }
    }

    /// What listings show: the objects without what happened last.
    fn listed(&self) -> BTreeMap<String, u64> {
        let size = |stored: &Stored| stored.bytes.len() as u64;
        let mut listed: BTreeMap<_, _> =
            self.objects.iter().map(|(key, stored)| (key.clone(), size(stored))).collect();
        for (key, before) in self.history.iter().rev().take(self.rules.lag) {
            match before {
                Some(stored) => listed.insert(key.clone(), size(stored)),
                None => listed.remove(key),
            };
        }
        listed
    }
}

fn etag(stored: &Stored) -> ETag {
    ETag::Strong(Sha256::of(&stored.bytes).prefix(32).to_string())
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { body, key, if_none_match, checksum_sha256, content_length, .. } = request.input;
        let mut bytes = Vec::new();
        if let Some(mut body) = body {
            while let Some(chunk) = body.next().await {
                bytes.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        if content_length != Some(bytes.len() as i64) {
            return Err(s3_error!(IncompleteBody));
        }
        let digest = Sha256::of(&bytes);
        if checksum_sha256.as_ref().is_some_and(|given| *given != digest.to_base64()) {
            return Err(s3_error!(BadDigest));
        }
        let mut contents = self.lock();
        let exists = contents.objects.contains_key(&key);
        if exists && contents.rules.create_only && if_none_match == Some(ETagCondition::Any) {
            return Err(s3_error!(PreconditionFailed));
        }
        let sha256 = checksum_sha256.is_some().then_some(digest);
        let stored = Stored { bytes: bytes.into(), sha256 };
        let output = PutObjectOutput {
            e_tag: Some(etag(&stored)),
            checksum_sha256: contents.checksum(&stored),
            ..Default::default()
        };
        if contents.rules.forgets.is_some_and(|start| key.starts_with(&format!("{PREFIX}/{start}"))) {
            return Ok(S3Response::new(output));
        }
        let before = contents.objects.insert(key.clone(), stored);
        contents.history.push((key, before));
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { key, range, if_match, .. } = request.input;
        let stored = self.lock().find(&key)?;
        let tag = etag(&stored);
        if let Some(ETagCondition::ETag(wanted)) = if_match
            && wanted != tag
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let size = stored.bytes.len() as u64;
        let (bytes, content_range) = match range {
            None => (stored.bytes.clone(), None),
            Some(range) => {
                let range = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
                let named = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (stored.bytes.slice(range.start as usize..range.end as usize), Some(named))
            }
        };
        let output = GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            content_range,
            e_tag: Some(tag),
            body: Some(StreamingBlob::new(s3s::Body::from(bytes))),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let contents = self.lock();
        let stored = contents.find(&request.input.key)?;
        let asked = request.input.checksum_mode.is_some();
        let checksum = contents.checksum(&stored).filter(|_| asked);
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(stored.bytes.len() as i64),
            e_tag: Some(etag(&stored)),
            checksum_type: checksum.is_some().then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_sha256: checksum,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut contents = self.lock();
        let key = request.input.key;
        if let Some(before) = contents.objects.remove(&key) {
            contents.history.push((key, Some(before)));
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { prefix, continuation_token, .. } = request.input;
        let prefix = prefix.unwrap_or_default();
        let listed = self.lock().listed();
        let after = continuation_token.unwrap_or_default();
        let all: Vec<_> =
            listed.into_iter().filter(|(key, _)| key.starts_with(&prefix) && *key > after).collect();
        let more = all.len() > PAGE;
        let page = &all[..all.len().min(PAGE)];
        let next = more.then(|| page.last().map(|(key, _)| key.clone())).flatten();
        let contents = page.iter().map(|(key, size)| Object {
            key: Some(key.clone()),
            size: Some(*size as i64),
            ..Default::default()
        });
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: Some(page.len() as i32),
            contents: Some(contents.collect()),
            is_truncated: Some(more),
            next_continuation_token: next,
            prefix: Some(prefix),
            ..Default::default()
        }))
    }
}
