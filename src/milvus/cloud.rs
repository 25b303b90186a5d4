//! The import jobs of Zilliz Cloud, by its REST interface: the service reads the files itself.
//!
//! Owns: the form of requests and answers, what an answer means, waiting where the service says so,
//! and that neither its API key nor the keys of buckets are printed or sent elsewhere. Does not own:
//! which jobs there should be, or what becomes of a lost reply (`import`).
//!
//! Everything here follows the vendor's documentation, which `docs/bulk.md` names page by page;
//! nothing of it was run against the service.

use super::bulk::{BulkJob, BulkRequest, BulkServer, BulkState, JobId, JobLimits};
use super::call::{Failure, Patience, Repeat, RpcError, bounded};
use super::connect::Token;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::schema::CollectionName;
use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, redirect};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Where all of these requests go.
const PREFIX: &str = "/v2/vectordb/jobs/import/";
const CREATE: &str = "/v2/vectordb/jobs/import/create";
const DESCRIBE: &str = "/v2/vectordb/jobs/import/describe";
/// What the reference of the REST interface calls it; those of the vendor's clients say `describe`.
const PROGRESS: &str = "/v2/vectordb/jobs/import/getProgress";
const LIST: &str = "/v2/vectordb/jobs/import/list";
const COMMIT: &str = "/v2/vectordb/jobs/import/commit";
const ABORT: &str = "/v2/vectordb/jobs/import/abort";

/// What one request takes: files, 10 GB a file, 1 TB in all ("Zilliz Cloud Limits", data import).
const LIMITS: JobLimits = JobLimits { files: 1000, file_bytes: 10_000_000_000, bytes: 1_000_000_000_000 };

/// Time between two requests: the service takes 20 a second of one user.
const APART: Duration = Duration::from_millis(60);

/// Jobs of one page of the list; more than 100 are refused (code 96008).
const PAGE: usize = 100;

/// Pages of one list, ten times as many as jobs can be active in a collection.
const MOST_PAGES: usize = 1000;

/// The largest answer.
const MOST_REPLY_BYTES: usize = 4 << 20;

/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where jobs of Zilliz Cloud are asked for.
#[derive(Debug, Clone)]
pub struct CloudEndpoint {
    /// Scheme, host and port.
    pub address: String,
    /// The API key.
    pub api_key: Token,
    /// Which cluster is meant.
    pub deployment: Deployment,
    /// The volume that files are paths in; `None`: files are URLs.
    pub volume: Option<String>,
    /// How long it is waited for.
    pub patience: Patience,
    /// How long a request whose reply was lost may still be on its way.
    pub settle: Duration,
    /// How much one request takes.
    pub limits: JobLimits,
}

/// What the service calls the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployment {
    /// A cluster, by its id.
    Cluster(String),
    /// The databases of a project in a region.
    Project {
        /// The project's id.
        project: String,
        /// The region's id.
        region: String,
    },
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deployment::Cluster(id) => write!(f, "cluster {id}"),
            Deployment::Project { project, region } => write!(f, "project {project} in {region}"),
        }
    }
}

impl CloudEndpoint {
    /// The public service, or another address. The key is sent encrypted or not at all.
    pub fn parse(
        address: &str,
        api_key: Token,
        deployment: Deployment,
        volume: Option<String>,
    ) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Code::Address, format!("the address of Zilliz Cloud is not usable: {what}"))
                .hint("give `--cloud-endpoint https://api.cloud.zilliz.com`, or https://api.cloud.zilliz.com.cn in China")
        };
        let url = url::Url::parse(address).map_err(|e| wrong(&e.to_string()))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_here(&url)) {
            return Err(wrong("it does not begin with https://, and the API key is not sent unencrypted"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it contains credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
            return Err(wrong("it is more than scheme, host and port"));
        }
        Ok(CloudEndpoint {
            address: address.trim_end_matches('/').to_string(),
            api_key,
            deployment,
            volume,
            patience: Patience::default(),
            settle: Duration::from_secs(10),
            limits: LIMITS,
        })
    }
}

/// Whether an address is this machine itself.
fn is_here(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    }
}

/// A client of the REST interface. Cheap to clone.
#[derive(Clone)]
pub struct Cloud {
    http: reqwest::Client,
    endpoint: CloudEndpoint,
    two_phase: bool,
    /// When the next request may go.
    next: Arc<Mutex<Instant>>,
    /// Whether jobs are described by [`PROGRESS`].
    by_progress: Arc<AtomicBool>,
    /// The secrets of the keys that the service was given.
    given: Arc<std::sync::Mutex<BTreeSet<String>>>,
}

impl Cloud {
    /// Sends nothing yet. `two_phase`: jobs wait for a commit.
    pub fn new(endpoint: &CloudEndpoint, two_phase: bool) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            // A redirect would take the key elsewhere.
            .redirect(redirect::Policy::none())
            .timeout(endpoint.patience.reply)
            .connect_timeout(endpoint.patience.reply.min(Duration::from_secs(10)));
        if url::Url::parse(&endpoint.address).is_ok_and(|url| is_here(&url)) {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|e| Error::internal("the client of the REST interface").because(e))?;
        let (endpoint, next) = (endpoint.clone(), Arc::new(Mutex::new(Instant::now())));
        let (by_progress, given) = (Arc::default(), Arc::default());
        Ok(Cloud { http, endpoint, two_phase, next, by_progress, given })
    }

    /// Finds out whether the service takes the key and knows the cluster, without changing anything.
    pub async fn check(&self) -> std::result::Result<(), RpcError> {
        let mut body = self.target();
        body.insert("pageSize".into(), 1.into());
        body.insert("currentPage".into(), 1.into());
        self.post::<Listed>(LIST, body, Repeat::Freely, None).await.map(|_| ())
    }

    fn target(&self) -> Map<String, Value> {
        let mut body = Map::new();
        match &self.endpoint.deployment {
            Deployment::Cluster(id) => {
                body.insert("clusterId".into(), id.as_str().into());
            }
            Deployment::Project { project, region } => {
                body.insert("projectId".into(), project.as_str().into());
                body.insert("regionId".into(), region.as_str().into());
            }
        }
        body
    }

    fn of_job(&self, id: &JobId) -> Map<String, Value> {
        let mut body = self.target();
        body.insert("jobId".into(), id.0.as_str().into());
        body
    }

    /// Posts and reads the answer, again and again as `repeat` allows.
    async fn post<Data: for<'de> Deserialize<'de>>(
        &self,
        path: &'static str,
        body: Map<String, Value>,
        repeat: Repeat,
        request: Option<&str>,
    ) -> std::result::Result<Data, RpcError> {
        let body = Value::Object(body).to_string();
        let mut spent = Duration::ZERO;
        let mut pause = Duration::from_millis(200);
        loop {
            let mut next = self.next.lock().await;
            tokio::time::sleep_until((*next).into()).await;
            *next = Instant::now() + APART;
            drop(next);
            let start = Instant::now();
            tracing::debug!(path, bytes = body.len(), "posting");
            let (error, wait) = match self.post_once(path, body.clone(), request).await {
                Ok(data) => return Ok(data),
                Err((error, wait)) => (error, wait),
            };
            let error = RpcError { reason: self.repeatable(error.reason), ..error };
            let again = match error.failure {
                Failure::Busy | Failure::Later | Failure::Unreachable => repeat != Repeat::Never,
                Failure::NoReply => repeat == Repeat::Freely,
                _ => false,
            };
            if !again || spent > self.endpoint.patience.restart {
                return Err(error);
            }
            let pause_now = wait.unwrap_or(pause);
            spent += start.elapsed() + pause_now;
            tracing::debug!(path, reason = error.reason, "repeating in {pause_now:?}");
            tokio::time::sleep(pause_now).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// The answer, or the failure and how long the service wants to be left alone.
    async fn post_once<Data: for<'de> Deserialize<'de>>(
        &self,
        path: &'static str,
        body: String,
        request: Option<&str>,
    ) -> std::result::Result<Data, (RpcError, Option<Duration>)> {
        let fail =
            |failure, reason: String| (RpcError { rpc: path, failure, code: 0, reason, fix: None }, None);
        let bearer = format!("Bearer {}", self.endpoint.api_key.expose());
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_| fail(Failure::Denied, "the API key cannot be sent".into()))?;
        bearer.set_sensitive(true);
        let mut post = self
            .http
            .post(format!("{}{path}", self.endpoint.address))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(request) = request {
            post = post.header("Idempotency-Key", request);
        }
        let mut reply = post.body(body).send().await.map_err(|e| (transport(path, e), None))?;
        let status = reply.status();
        let wait = reply.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let mut bytes = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(|e| (transport(path, e), None))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_REPLY_BYTES {
                let reason = format!("HTTP {status}, with more than {MOST_REPLY_BYTES} bytes");
                return Err((unreadable(path, reason), None));
            }
        }
        read(path, status, &bytes).map_err(|error| (error, wait))
    }

    /// The service's words without our secrets, which it may have sent back, and not without an end.
    fn repeatable(&self, mut reason: String) -> String {
        let given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all = given.iter().map(String::as_str).chain([self.endpoint.api_key.expose()]);
        for secret in all.filter(|secret| !secret.is_empty()) {
            reason = reason.replace(secret, "(a secret)");
        }
        bounded(reason)
    }

    /// What the service says of a job, by whichever of the two documented names it knows.
    async fn told(&self, id: &JobId) -> std::result::Result<Told, RpcError> {
        let ask = |path| self.post::<Told>(path, self.of_job(id), Repeat::Freely, None);
        if self.by_progress.load(Ordering::Relaxed) {
            return ask(PROGRESS).await;
        }
        match ask(DESCRIBE).await {
            Err(e) if e.failure == Failure::Unimplemented => {
                let told = ask(PROGRESS).await?;
                self.by_progress.store(true, Ordering::Relaxed);
                Ok(told)
            }
            told => told,
        }
    }

    /// What the list has of a collection, without files.
    async fn listed(&self, name: &CollectionName) -> std::result::Result<Vec<BulkJob>, RpcError> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        // Whether what was read may be all.
        let mut may_end = false;
        for page in 1..=MOST_PAGES {
            let mut body = self.target();
            body.insert("dbName".into(), name.database.as_str().into());
            body.insert("pageSize".into(), PAGE.into());
            body.insert("currentPage".into(), page.into());
            let listed: Listed = match self.post(LIST, body, Repeat::Freely, None).await {
                // Whatever it says of a page behind the last one.
                Err(e) if may_end && matches!(e.failure, Failure::Refused | Failure::NotFound) => {
                    return Ok(found);
                }
                listed => listed?,
            };
            let records = match listed.records {
                Some(records) => records,
                None if may_end || listed.count == Some(0) => Vec::new(),
                None => return Err(unreadable(LIST, "a page of a list without `records`".into())),
            };
            let before = seen.len();
            // Pages may be shorter than they were asked for, so that only one without a new job is the last.
            let is_short = records.len() < PAGE;
            for record in records {
                if seen.insert(record.job_id.clone()) && record.collection_name == name.name {
                    found.push(record.job(Vec::new()));
                }
            }
            if seen.len() == before {
                return Ok(found);
            }
            may_end = is_short && listed.count.is_none_or(|count| seen.len() as u64 >= count);
        }
        Err(unreadable(LIST, format!("a list of more than {MOST_PAGES} pages")))
    }

    /// Tells a waiting job to go on. A refusal means nothing if it `has` done so: then the word came
    /// twice, since the first reply was lost.
    async fn tell(
        &self,
        path: &'static str,
        id: &JobId,
        has: impl Fn(BulkState) -> bool,
    ) -> std::result::Result<(), RpcError> {
        match self.post::<Nothing>(path, self.of_job(id), Repeat::Freely, None).await {
            Err(e) if matches!(e.failure, Failure::Refused | Failure::NotFound) => {
                if has(self.told(id).await?.job(Vec::new()).state) { Ok(()) } else { Err(e) }
            }
            told => told.map(|_| ()),
        }
    }
}

#[async_trait]
impl BulkServer for Cloud {
    fn limits(&self) -> JobLimits {
        self.endpoint.limits
    }

    fn lists_by_name(&self) -> bool {
        true
    }

    async fn ask(&self, request: &BulkRequest) -> std::result::Result<JobId, RpcError> {
        let mut body = self.target();
        body.insert("dbName".into(), request.collection.database.as_str().into());
        body.insert("collectionName".into(), request.collection.name.as_str().into());
        if let Some(partition) = &request.partition {
            body.insert("partitionName".into(), partition.as_str().into());
        }
        // One file each: a list of several is one of NumPy columns.
        let files: Vec<Value> = request.files.iter().map(|file| vec![file.as_str()].into()).collect();
        match &self.endpoint.volume {
            Some(volume) => {
                body.insert("volumeName".into(), volume.as_str().into());
                body.insert("dataPaths".into(), files.into());
            }
            None => {
                body.insert("objectUrls".into(), files.into());
                if let Some(key) = &request.key {
                    body.insert("accessKey".into(), key.id.as_str().into());
                    body.insert("secretKey".into(), key.secret.as_str().into());
                    if let Some(token) = &key.token {
                        body.insert("token".into(), token.as_str().into());
                    }
                    let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    given.extend([key.secret.clone()].into_iter().chain(key.token.clone()));
                }
            }
        }
        if self.two_phase {
            let options = Map::from_iter([("auto_commit".to_string(), "false".into())]);
            body.insert("options".into(), options.into());
        }
        let created: Created = self.post(CREATE, body, Repeat::IfNotDone, Some(&request.request)).await?;
        Ok(created.job_id)
    }

    async fn job(&self, name: &CollectionName, id: &JobId) -> std::result::Result<Option<BulkJob>, RpcError> {
        match self.told(id).await {
            Ok(told) => {
                let files = told.files();
                let mut job = told.job(files);
                if let BulkState::Failed(why) = job.state {
                    job.state = BulkState::Failed(self.repeatable(why));
                }
                Ok(Some(job))
            }
            // There is no documented code for an unknown job, so that the list has to say it too.
            Err(e) if matches!(e.failure, Failure::Refused | Failure::NotFound | Failure::Unimplemented) => {
                tracing::debug!(%id, reason = e.reason, "looking for the job in the list");
                match self.listed(name).await?.into_iter().find(|job| job.id.as_ref() == Some(id)) {
                    // It is there, so that the refusal has another reason.
                    Some(_) => Err(e),
                    None => Ok(None),
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn jobs(
        &self,
        name: &CollectionName,
        known: &BTreeSet<JobId>,
    ) -> std::result::Result<Vec<BulkJob>, RpcError> {
        let mut jobs = Vec::new();
        for job in self.listed(name).await? {
            let Some(id) = job.id.clone() else { continue };
            let untold = !known.contains(&id) && !matches!(job.state, BulkState::Failed(_));
            // Only a description has files.
            match untold {
                true => jobs.extend(self.job(name, &id).await?),
                false => jobs.push(job),
            }
        }
        Ok(jobs)
    }

    async fn names(&self, name: &CollectionName) -> std::result::Result<BTreeSet<JobId>, RpcError> {
        Ok(self.listed(name).await?.into_iter().filter_map(|job| job.id).collect())
    }

    async fn commit(&self, _: &CollectionName, id: &JobId) -> std::result::Result<(), RpcError> {
        self.tell(COMMIT, id, |state| state != BulkState::Uncommitted).await
    }

    async fn abort(&self, _: &CollectionName, id: &JobId) -> std::result::Result<(), RpcError> {
        self.tell(ABORT, id, |state| matches!(state, BulkState::Failed(_))).await
    }
}

// ---- answers ----

/// Every answer.
#[derive(Deserialize)]
struct Envelope {
    #[serde(deserialize_with = "number_or_digits")]
    code: i64,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    data: Value,
}

/// An answer of which only the code matters.
#[derive(Deserialize)]
#[serde(transparent)]
struct Nothing(#[expect(dead_code)] Value); // It is read so that it is JSON.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    #[serde(deserialize_with = "job_id")]
    job_id: JobId,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    records: Option<Vec<Told>>,
}

/// One job, in the list or by itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(deserialize_with = "job_id")]
    job_id: JobId,
    #[serde(default)]
    collection_name: String,
    state: String,
    #[serde(default)]
    progress: Option<f64>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    imported_rows: Option<u64>,
    #[serde(default)]
    total_rows: Option<u64>,
    #[serde(default)]
    file_name: Option<String>,
    #[serde(default)]
    details: Option<Vec<Detail>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    file_name: Option<String>,
}

impl Told {
    /// The files of a job; a list in one text is taken apart.
    fn files(&self) -> Vec<String> {
        let details = self.details.iter().flatten().filter_map(|detail| detail.file_name.as_deref());
        let texts: Vec<&str> = details.chain(self.file_name.as_deref()).collect();
        let names = texts.iter().flat_map(|text| text.split(','));
        let bare = names.map(|name| name.trim_matches(|c: char| c.is_whitespace() || "[]\"'".contains(c)));
        let files: BTreeSet<String> = bare.filter(|name| !name.is_empty()).map(str::to_string).collect();
        files.into_iter().collect()
    }

    fn job(self, files: Vec<String>) -> BulkJob {
        let state = match self.state.as_str() {
            "Completed" => BulkState::Complete,
            "Failed" => BulkState::Failed(self.reason.unwrap_or_default()),
            "Uncommitted" => BulkState::Uncommitted,
            // Pending, Importing and what newer servers call the steps between.
            _ => BulkState::Running,
        };
        BulkJob {
            id: Some(self.job_id),
            state,
            rows: self.imported_rows.filter(|rows| *rows > 0).or(self.total_rows).unwrap_or(0),
            percent: self.progress.map_or(0, |percent| percent.clamp(0.0, 100.0) as u64),
            files,
        }
    }
}

/// Numbers are documented as numbers in one place and as text in another.
fn number_or_digits<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<i64, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("the code is not a number"))
}

fn job_id<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<JobId, D::Error> {
    match Value::deserialize(from)? {
        Value::String(id) if !id.is_empty() => Ok(JobId(id)),
        Value::Number(id) => Ok(JobId(id.to_string())),
        _ => Err(serde::de::Error::custom("the job has no id")),
    }
}

/// What an answer means.
fn read<Data: for<'de> Deserialize<'de>>(
    path: &'static str,
    status: StatusCode,
    bytes: &[u8],
) -> std::result::Result<Data, RpcError> {
    let envelope = serde_json::from_slice::<Envelope>(bytes).ok();
    let code = envelope.as_ref().map_or(0, |envelope| envelope.code);
    let words = match envelope.as_ref().and_then(|envelope| envelope.message.clone()) {
        Some(message) => message,
        None if status.is_success() => "an answer that is not the documented JSON".to_string(),
        None => "no more than that".to_string(),
    };
    let reason = if status.is_success() { words.clone() } else { format!("HTTP {status}: {words}") };
    let fail = |failure| {
        Err(RpcError {
            rpc: path,
            failure,
            code: i32::try_from(code).unwrap_or(-1),
            reason: reason.clone(),
            fix: None,
        })
    };
    match status.as_u16() {
        401 | 403 => return fail(Failure::Denied),
        404 => return fail(Failure::Unimplemented),
        429 => return fail(Failure::Busy),
        300..=399 => {
            let reason = format!("HTTP {status}: a redirect, which is not followed with an API key");
            return Err(RpcError { rpc: path, failure: Failure::Refused, code: 0, reason, fix: None });
        }
        500..=599 => return fail(Failure::NoReply),
        _ => {}
    }
    match envelope {
        None if status.is_success() => Err(unreadable(path, reason)),
        None => fail(Failure::Refused),
        // Older releases answer 200 where newer ones answer 0.
        Some(envelope) if status.is_success() && matches!(envelope.code, 0 | 200) => {
            serde_json::from_value(envelope.data)
                .map_err(|e| unreadable(path, format!("an answer that is not the documented JSON: {e}")))
        }
        Some(_) => fail(meaning(code, &words)),
    }
}

/// What the service's own codes mean, as far as they are documented; beyond that, its words.
fn meaning(code: i64, words: &str) -> Failure {
    let words = words.to_lowercase();
    match code {
        // "The apikey is illegal", and the permissions of projects and clusters.
        21119 | 96012..=96016 => Failure::Denied,
        // Milvus' own rate limit, passed on.
        8 => Failure::Busy,
        _ if words.contains("rate limit") || words.contains("too many requests") => Failure::Busy,
        _ if words.contains("not exist") || words.contains("not found") => Failure::NotFound,
        _ => Failure::Refused,
    }
}

/// An answer that does not say what was done: after a request for a job, there may be one.
fn unreadable(path: &'static str, reason: String) -> RpcError {
    let failure = if path == CREATE { Failure::NoReply } else { Failure::Refused };
    RpcError { rpc: path, failure, code: 0, reason, fix: None }
}

fn transport(path: &'static str, error: reqwest::Error) -> RpcError {
    let error = error.without_url();
    let connect = error.is_connect();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    let failure = match connect {
        true if reason.contains("certificate") || reason.contains("TLS") => Failure::Tls,
        true => Failure::Unreachable,
        false => Failure::NoReply,
    };
    RpcError { rpc: path, failure, code: 0, reason, fix: None }
}

/// Whether an error is of this interface, so that other advice helps.
pub(super) fn is_from_here(error: &RpcError) -> bool {
    error.rpc.starts_with(PREFIX)
}

/// The error that users see.
pub(super) fn explained(error: RpcError) -> Error {
    let call = error.rpc.trim_start_matches(PREFIX);
    let says = match error.code {
        0 => format!("the answer of Zilliz Cloud to import/{call} is: {}", error.reason),
        code => format!("the answer of Zilliz Cloud to import/{call} is error {code}: {}", error.reason),
    };
    match error.failure {
        Failure::Denied => Error::new(ErrorKind::Denied, says).hint(
            "check the API key in MILVUS_HANDOFF_CLOUD_API_KEY, and that it has the cluster or the project in its scope",
        ),
        Failure::NotFound => Error::new(ErrorKind::NotFound, says).hint(
            "check `--cloud-cluster`, or `--cloud-project` and `--cloud-region`: they have to be those of `--target`",
        ),
        Failure::Busy | Failure::Later => {
            Error::new(ErrorKind::Temporary, says).hint("run the same command again later")
        }
        Failure::Tls | Failure::Unreachable | Failure::NoReply => Error::new(
            if error.failure == Failure::Tls { Code::Tls } else { Code::Unreachable },
            format!("Zilliz Cloud does not answer import/{call}: {}", error.reason),
        )
        .hint("check `--cloud-endpoint` and the network, then run the same command again"),
        _ => Error::new(ErrorKind::Unsupported, says)
            .hint("check `--cloud-cluster` and the other `--cloud` options; what is refused there may go in with `--via insert`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> CloudEndpoint {
        CloudEndpoint::parse(text, Token::new("key"), Deployment::Cluster("in01-x".into()), None).unwrap()
    }

    #[test]
    fn the_key_is_sent_encrypted_or_to_this_machine() {
        assert_eq!(of("https://api.cloud.zilliz.com/").address, "https://api.cloud.zilliz.com");
        of("http://127.0.0.1:8080");
        for bad in [
            "http://api.cloud.zilliz.com",
            "api.cloud.zilliz.com",
            "https://u:p@x.y",
            "https://x.y/z",
            "http://localhost",
        ] {
            let parsed = CloudEndpoint::parse(bad, Token::new("key"), Deployment::Cluster("x".into()), None);
            let error = parsed.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    fn failure(status: u16, text: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        read::<Created>(CREATE, status, text.as_bytes()).map(|_| ()).unwrap_err().failure
    }

    #[test]
    fn answers_mean_what_is_documented() {
        let ok = |text: &str| read::<Created>(CREATE, StatusCode::OK, text.as_bytes()).map(|c| c.job_id.0);
        assert_eq!(ok(r#"{"code":0,"data":{"jobId":"job-1"}}"#).unwrap(), "job-1");
        assert_eq!(
            ok(r#"{"code":"200","data":{"jobId":453240863839750922}}"#).unwrap(),
            "453240863839750922"
        );
        assert_eq!(failure(200, r#"{"code":21119,"message":"The apikey is illegal."}"#), Failure::Denied);
        assert_eq!(failure(401, ""), Failure::Denied);
        assert_eq!(failure(429, "slow down"), Failure::Busy);
        assert_eq!(failure(200, r#"{"code":9,"message":"the cluster does not exist"}"#), Failure::NotFound);
        assert_eq!(failure(400, r#"{"code":1100,"message":"wrong"}"#), Failure::Refused);
        assert_eq!(failure(404, "no such page"), Failure::Unimplemented);
        assert_eq!(failure(302, ""), Failure::Refused);
        // There may be a job.
        for unclear in ["<html>", "", "{}", r#"{"code":0}"#, r#"{"code":0,"data":{"jobId":""}}"#, "[]"] {
            assert_eq!(failure(200, unclear), Failure::NoReply, "{unclear}");
        }
        assert_eq!(failure(502, "<html>"), Failure::NoReply);
    }

    #[test]
    fn a_job_is_what_the_service_says() {
        let told = |text: &str| {
            let told: Told = read(DESCRIBE, StatusCode::OK, text.as_bytes()).unwrap();
            let files = told.files();
            told.job(files)
        };
        let job = told(
            r#"{"code":0,"data":{"jobId":"job-1","collectionName":"docs","fileName":"a.json","fileSize":3279917,
                "state":"Completed","progress":100,"completeTime":"2024-04-01T06:17:55Z","reason":"","totalRows":100000,
                "details":[{"fileName":"a.json","fileSize":3279917,"state":"Completed","progress":100}]}}"#,
        );
        assert_eq!((job.state, job.rows, job.percent), (BulkState::Complete, 100_000, 100));
        assert_eq!(job.files, ["a.json"]);
        let job = told(
            r#"{"code":"0","data":{"jobId":"job-2","state":"Failed","reason":"no such key","details":null,
                "fileName":"[x/a.parquet, \"x/b.parquet\"]"}}"#,
        );
        assert_eq!((job.state, job.files.len()), (BulkState::Failed("no such key".into()), 2));
        for state in ["Pending", "Importing", "InProgress", "Sorting", "Committing"] {
            let text = format!(r#"{{"code":0,"data":{{"jobId":"j","state":"{state}"}}}}"#);
            assert_eq!(told(&text).state, BulkState::Running, "{state}");
        }
    }
}
