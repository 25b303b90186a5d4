//! The REST interface of Zilliz Cloud's import jobs, in memory, as its documentation describes it:
//! every request is held against the documented form, and the answers are the documented ones. What
//! its jobs load goes into a Milvus in memory, so that counts are real.
//!
//! Owns: the form of requests, jobs and their lives, and what goes wrong with them. Does not own:
//! the collections (`fake`), or how the service itself behaves, against which nothing of this was run.

use crate::fake::Fake;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use milvus_handoff::milvus::{CloudEndpoint, Deployment, Token};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const API_KEY: &str = "canary-of-the-api-key-52e1";
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub const SECRET_KEY: &str = "canary-of-the-bucket-secret-c07d";
pub const SESSION: &str = "canary-of-the-bucket-session-aa19";
pub const CLUSTER: &str = "in01-0123456789abcdef";

/// What goes wrong. Requests for jobs are counted from 0, and so are all requests.
#[derive(Clone, Default)]
pub struct Habits {
    /// Requests for jobs whose job is made, and whose reply is lost.
    pub loses_replies: Range<usize>,
    /// Requests for jobs that are lost on their way.
    pub loses_requests: Range<usize>,
    /// Requests for jobs whose reply is lost, and whose job is made when so many further ones are made.
    pub comes_late: Option<(usize, usize)>,
    /// It does not know names of requests.
    pub ignores_names: bool,
    /// Requests for jobs that are answered by something else than the documented JSON; there is a job.
    pub babbles: Range<usize>,
    /// Requests for jobs that are answered as if there was none, although there is.
    pub denies: Range<usize>,
    /// The first so many replies to commits and aborts are lost, and a repeated word is refused.
    pub loses_words: usize,
    /// Pages of the list are not longer than this, whatever they were asked for.
    pub caps_pages: Option<usize>,
    /// A page of the list that has no job is refused.
    pub refuses_pages: bool,
    /// Jobs that fail, for this reason.
    pub fails: Range<usize>,
    pub reason: &'static str,
    /// It has forgotten every job that it had.
    pub forgets: bool,
    /// Jobs stay on their way.
    pub stands_still: bool,
    /// A job loads a row less, and says so.
    pub loses_a_row: bool,
    /// It says that a job waits with a row less.
    pub counts_wrong: bool,
    /// It does not tell the files of jobs.
    pub hides_files: bool,
    /// All requests that are too many, with what it wants to be left alone for.
    pub too_many: Range<usize>,
    /// All requests that end in another answer: status and body, and where it leads.
    pub answers: Option<(Range<usize>, u16, String)>,
    pub leads: Option<String>,
    /// It has `getProgress` and not `describe`.
    pub says_progress: bool,
    /// Jobs wait for a commit if they are told to.
    pub two_phases: bool,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    pub number: usize,
    pub name: String,
    pub body: Map<String, Value>,
    pub state: &'static str,
    pub reason: String,
    collection: i64,
    pub rows: i64,
    looks: usize,
}

impl Job {
    pub fn files(&self) -> Vec<String> {
        let lists = self.body.get("objectUrls").or(self.body.get("dataPaths")).unwrap();
        lists.as_array().unwrap().iter().map(|list| list[0].as_str().unwrap().to_string()).collect()
    }
}

#[derive(Default)]
pub struct State {
    pub jobs: Vec<Job>,
    /// Requests for jobs.
    pub asked: usize,
    /// All requests, by their last word.
    pub log: Vec<String>,
    /// Commits and aborts that were done.
    words: usize,
    /// What was not of the documented form.
    pub wrong: Vec<String>,
    late: Vec<(Map<String, Value>, String, usize)>,
}

/// The service.
#[derive(Clone)]
pub struct Service {
    fake: Fake,
    habits: Arc<Mutex<Habits>>,
    state: Arc<Mutex<State>>,
    address: String,
    deployment: Deployment,
    volume: Option<String>,
    /// What names of files begin with, and the folder that is meant.
    pub prefix: String,
    folder: PathBuf,
}

struct Lost;

impl std::fmt::Debug for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the service closes the connection")
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Lost {}

type Answer = Result<Response<Full<Bytes>>, Lost>;

fn answer(status: u16, body: impl ToString) -> Answer {
    let reply = Response::builder().status(status).body(Full::new(Bytes::from(body.to_string())));
    Ok(reply.unwrap())
}

fn done(data: Value) -> Answer {
    answer(200, json!({"code": 0, "data": data}))
}

fn refused(code: i64, message: &str) -> Answer {
    answer(200, json!({"code": code, "message": message}))
}

impl Service {
    /// One whose jobs load what lies in `folder` into `fake`.
    pub async fn start(fake: &Fake, folder: &Path, habits: Habits) -> Service {
        Service::start_as(fake, folder, habits, Deployment::Cluster(CLUSTER.into()), None).await
    }

    pub async fn start_as(
        fake: &Fake,
        folder: &Path,
        habits: Habits,
        deployment: Deployment,
        volume: Option<&str>,
    ) -> Service {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Service {
            fake: fake.clone(),
            habits: Arc::new(Mutex::new(habits)),
            state: Arc::default(),
            address: format!("http://{}", listener.local_addr().unwrap()),
            deployment,
            volume: volume.map(str::to_string),
            prefix: if volume.is_some() { "moves/snap/" } else { "s3://handoff/acme/" }.to_string(),
            folder: folder.to_path_buf(),
        };
        let serving = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = serving.clone();
                tokio::spawn(async move {
                    let reply = service_fn(move |request| {
                        let service = service.clone();
                        async move { service.reply(request).await }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), reply).await;
                });
            }
        });
        service
    }

    pub fn endpoint(&self) -> CloudEndpoint {
        self.endpoint_with(API_KEY)
    }

    pub fn endpoint_with(&self, api_key: &str) -> CloudEndpoint {
        let (deployment, volume) = (self.deployment.clone(), self.volume.clone());
        let mut endpoint =
            CloudEndpoint::parse(&self.address, Token::new(api_key), deployment, volume).unwrap();
        endpoint.settle = Duration::from_millis(200);
        endpoint.patience.restart = Duration::from_secs(2);
        endpoint
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on it does this wrong, and nothing else.
    pub fn behaves(&self, habits: Habits) {
        *self.habits.lock().unwrap() = habits;
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Time passes, in which every job ends.
    pub fn ends_all_jobs(&self) {
        let habits = self.habits.lock().unwrap().clone();
        let all = self.state().jobs.len();
        for position in 0..all {
            // Each takes a few steps.
            for _ in 0..4 {
                self.work(position, &habits);
            }
        }
    }

    /// Every request was of the documented form.
    pub fn was_asked_well(&self) {
        assert_eq!(self.state().wrong, [] as [String; 0]);
    }

    async fn reply(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let Ok(bytes) = body.collect().await.map(|body| body.to_bytes()) else { return Err(Lost) };
        let habits = self.habits.lock().unwrap().clone();
        let path = head.uri.path().to_string();
        let call = path.rsplit('/').next().unwrap_or_default().to_string();
        let number = {
            let mut state = self.state();
            state.log.push(call.clone());
            state.log.len() - 1
        };
        if habits.too_many.contains(&number) {
            return answer(429, json!({"code": 429, "message": "Too many requests"}));
        }
        if let Some((_, status, body)) = habits.answers.clone().filter(|(which, ..)| which.contains(&number))
        {
            let mut answer = answer(status, body)?;
            if let Some(elsewhere) = habits.leads {
                answer.headers_mut().insert("location", elsewhere.parse().unwrap());
            }
            return Ok(answer);
        }
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        if header("authorization") != format!("Bearer {API_KEY}") {
            return refused(21119, &format!("The apikey is illegal: {}", header("authorization")));
        }
        let body: Map<String, Value> = match serde_json::from_slice(&bytes) {
            Ok(Value::Object(body)) => body,
            _ => Map::new(),
        };
        let other = if habits.says_progress { "describe" } else { "getProgress" };
        if call == other {
            return answer(404, "404 page not found");
        }
        let mut wrong = Vec::new();
        if head.method != Method::POST || !path.starts_with("/v2/vectordb/jobs/import/") {
            wrong.push(format!("{} {path}", head.method));
        }
        if head.uri.query().is_some() {
            wrong.push("a query".into());
        }
        for (name, value) in [("content-type", "application/json"), ("accept", "application/json")] {
            if header(name) != value {
                wrong.push(format!("{name}: {}", header(name)));
            }
        }
        let usual = ["authorization", "accept", "content-type", "content-length", "host", "idempotency-key"];
        wrong.extend(
            head.headers
                .keys()
                .filter(|name| !usual.contains(&name.as_str()))
                .map(|name| format!("header {name}")),
        );
        let name = header("idempotency-key").to_string();
        let named = (1..=256).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_graphic());
        if named != (call == "create") {
            wrong.push(format!("{call} with the name {name:?}"));
        }
        self.check_form(&call, &body, &habits, &mut wrong);
        if !wrong.is_empty() {
            let text = format!("{call}: {}", wrong.join(", "));
            self.state().wrong.push(text.clone());
            return answer(400, json!({"code": 1100, "message": text}));
        }
        if body.get("clusterId").is_some_and(|id| id != CLUSTER) {
            return refused(96017, "The specified cluster does not exist.");
        }
        match call.as_str() {
            "create" => self.create(body, name, &habits),
            "describe" | "getProgress" => self.describe(&body, &habits),
            "list" => self.list(&body, &habits),
            "commit" => self.change(&body, "Committing", &habits),
            _ => self.change(&body, "Failed", &habits),
        }
    }

    /// Keys and types, as documented; nothing else may be there.
    fn check_form(&self, call: &str, body: &Map<String, Value>, habits: &Habits, wrong: &mut Vec<String>) {
        let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let mut allowed: Vec<&str> = match &self.deployment {
            Deployment::Cluster(_) => vec!["clusterId"],
            Deployment::Project { .. } => vec!["projectId", "regionId"],
        };
        let mut needed = allowed.clone();
        match call {
            "create" => {
                needed.extend(["dbName", "collectionName"]);
                match self.volume {
                    Some(_) => needed.extend(["volumeName", "dataPaths"]),
                    None => needed.extend(["objectUrls", "accessKey", "secretKey"]),
                }
                allowed.extend(["partitionName", "token", "options"]);
            }
            "describe" | "getProgress" | "commit" | "abort" => needed.push("jobId"),
            "list" => {
                needed.extend(["pageSize", "currentPage"]);
                allowed.push("dbName");
            }
            other => wrong.push(format!("no such call: {other}")),
        }
        wrong.extend(needed.iter().filter(|key| !body.contains_key(**key)).map(|key| format!("no {key}")));
        for (key, value) in body {
            let is_volume = self.volume.is_some();
            let fine = match key.as_str() {
                key if !needed.contains(&key) && !allowed.contains(&key) => false,
                "token" | "accessKey" | "secretKey" if is_volume => false,
                "accessKey" => value == ACCESS_KEY,
                "secretKey" => value == SECRET_KEY,
                "token" => value == SESSION,
                "volumeName" => value.as_str() == self.volume.as_deref(),
                "objectUrls" | "dataPaths" => self.are_files(value),
                // It is for the releases that have it, and text as every option.
                "options" => habits.two_phases && *value == json!({"auto_commit": "false"}),
                "pageSize" => value.as_u64().is_some_and(|size| (1..=100).contains(&size)),
                "currentPage" => value.as_u64().is_some_and(|page| page >= 1),
                _ => text(value),
            };
            if !fine {
                wrong.push(format!("{key}: {value}"));
            }
        }
    }

    /// Lists of one Parquet file each, at most as many as a request may have.
    fn are_files(&self, value: &Value) -> bool {
        let is_file = |list: &Value| {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            matches!(list, [Value::String(file)] if file.starts_with(&self.prefix) && file.ends_with(".parquet"))
        };
        value.as_array().is_some_and(|lists| (1..=1000).contains(&lists.len()) && lists.iter().all(is_file))
    }

    fn create(&self, body: Map<String, Value>, name: String, habits: &Habits) -> Answer {
        let number = {
            let mut state = self.state();
            state.asked += 1;
            state.asked - 1
        };
        if habits.loses_requests.contains(&number) {
            return Err(Lost);
        }
        if let Some((_, jobs)) = habits.comes_late.filter(|(late, _)| *late == number) {
            let due = self.state().jobs.len() + jobs;
            self.state().late.push((body, name, due));
            return Err(Lost);
        }
        let made = self.make(body, name, number, habits);
        let made_now = self.state().jobs.len();
        let late: Vec<_> = {
            let mut state = self.state();
            let (due, later) =
                std::mem::take(&mut state.late).into_iter().partition(|(.., due)| *due <= made_now);
            state.late = later;
            due
        };
        for (body, name, _) in late {
            let _ = self.make(body, name, usize::MAX, habits);
        }
        match made {
            Err((code, message)) => refused(code, message),
            Ok(_) if habits.loses_replies.contains(&number) => Err(Lost),
            Ok(_) if habits.babbles.contains(&number) => answer(200, "<html>welcome</html>"),
            Ok(_) if habits.denies.contains(&number) => refused(65535, "context deadline exceeded"),
            Ok(id) => done(json!({"jobId": id})),
        }
    }

    fn make(
        &self,
        body: Map<String, Value>,
        name: String,
        number: usize,
        habits: &Habits,
    ) -> Result<String, (i64, &'static str)> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let database = Some(text("dbName")).filter(|name| *name != "default").unwrap_or_default();
        let (collection, knows) = match self.fake.state().collection(database, text("collectionName")) {
            Some(there) => {
                let partition = text("partitionName");
                (there.id, partition.is_empty() || there.partitions.iter().any(|p| p == partition))
            }
            None => return Err((100, "the collection does not exist")),
        };
        if !knows {
            return Err((200, "the partition does not exist"));
        }
        let mut state = self.state();
        // A name is of one collection.
        let same = state.jobs.iter().find(|job| job.name == name && job.collection == collection);
        if let Some(job) = same.filter(|_| !habits.ignores_names) {
            return Ok(job.id.clone());
        }
        let id = format!("job-{:021}", state.jobs.len());
        let (state_, reason) = ("Pending", String::new());
        state.jobs.push(Job {
            id: id.clone(),
            number,
            name,
            body,
            state: state_,
            reason,
            collection,
            rows: 0,
            looks: 0,
        });
        Ok(id)
    }

    fn describe(&self, body: &Map<String, Value>, habits: &Habits) -> Answer {
        let position = self.state().jobs.iter().position(|job| job.id == body["jobId"]);
        let Some(position) = position.filter(|_| !habits.forgets) else {
            return refused(1100, "import job does not exist");
        };
        let waited = self.state().jobs[position].state == "Pending";
        self.work(position, habits);
        let job = self.state().jobs[position].clone();
        let progress = if job.state == "Completed" { 100 } else { job.looks.min(9) * 10 };
        let detail = |file: &String| {
            // Its name without the way there, as in the documentation.
            json!({"fileName": file.rsplit('/').next(), "fileSize": 1, "state": job.state, "progress": progress})
        };
        // One that waited for its turn until now has none yet.
        let without = habits.hides_files || waited;
        let details = if without { Vec::new() } else { job.files().iter().map(detail).collect() };
        done(json!({
            "jobId": job.id, "collectionName": job.body["collectionName"], "fileSize": 1, "state": job.state,
            "progress": progress, "reason": job.reason, "importedRows": job.rows, "totalRows": job.rows,
            "completeTime": "", "details": details,
        }))
    }

    fn list(&self, body: &Map<String, Value>, habits: &Habits) -> Answer {
        let number = |key: &str| body[key].as_u64().unwrap() as usize;
        let (size, page) = (number("pageSize"), number("currentPage"));
        let size = habits.caps_pages.map_or(size, |cap| size.min(cap));
        let state = self.state();
        let jobs = state.jobs.iter().filter(|_| !habits.forgets).skip(size * (page - 1)).take(size);
        let record = |job: &Job| json!({"collectionName": job.body["collectionName"], "jobId": job.id, "state": job.state});
        let records: Vec<Value> = jobs.map(record).collect();
        if habits.refuses_pages && records.is_empty() {
            return refused(1100, "there is no such page");
        }
        done(json!({"count": state.jobs.len(), "currentPage": page, "pageSize": size, "records": records}))
    }

    /// What was told to a job that waits.
    fn change(&self, body: &Map<String, Value>, to: &'static str, habits: &Habits) -> Answer {
        let mut state = self.state();
        let Some(job) = state.jobs.iter_mut().find(|job| job.id == body["jobId"]) else {
            return refused(1100, "import job does not exist");
        };
        match job.state {
            "Uncommitted" => job.state = to,
            "Committing" | "Completed" if to == "Committing" && habits.loses_words == 0 => {}
            other => return refused(1100, &format!("a job that is {other} cannot be {to}")),
        }
        state.words += 1;
        match state.words <= habits.loses_words {
            true => Err(Lost),
            false => done(json!({})),
        }
    }

    /// A step of a job: all or nothing.
    fn work(&self, position: usize, habits: &Habits) {
        let job = {
            let job = &mut self.state().jobs[position];
            job.looks += 1;
            job.clone()
        };
        let (state, rows, reason) = match job.state {
            "Pending" => ("Importing", 0, String::new()),
            "Importing" if habits.stands_still => return,
            "Importing" if habits.fails.contains(&job.number) => ("Failed", 0, habits.reason.to_string()),
            "Importing" if job.body.contains_key("options") => match self.count(&job) {
                Ok(rows) => ("Uncommitted", rows, String::new()),
                Err(reason) => ("Failed", 0, reason),
            },
            "Importing" | "Committing" => match self.load(&job, habits) {
                Ok(rows) => ("Completed", rows, String::new()),
                Err(reason) => ("Failed", 0, reason),
            },
            _ => return,
        };
        let rows = if state == "Uncommitted" && habits.counts_wrong { rows - 1 } else { rows };
        let job = &mut self.state().jobs[position];
        (job.state, job.rows, job.reason) = (state, rows, reason);
    }

    fn paths(&self, job: &Job) -> Result<Vec<PathBuf>, String> {
        let path = |file: String| {
            let path = self.folder.join(&file[self.prefix.len()..]);
            path.is_file().then_some(path).ok_or_else(|| format!("NoSuchKey: {file}"))
        };
        job.files().into_iter().map(path).collect()
    }

    fn count(&self, job: &Job) -> Result<i64, String> {
        let rows = |path: PathBuf| {
            let reader = SerializedFileReader::new(File::open(path).unwrap()).map_err(|e| e.to_string())?;
            Ok(reader.metadata().file_metadata().num_rows())
        };
        self.paths(job)?.into_iter().map(rows).sum()
    }

    fn load(&self, job: &Job, habits: &Habits) -> Result<i64, String> {
        let paths = self.paths(job)?;
        let text = |key: &str| job.body.get(key).and_then(Value::as_str).unwrap_or_default();
        let database = Some(text("dbName")).filter(|name| *name != "default").unwrap_or_default();
        let there = self.fake.state().collection(database, text("collectionName")).map(|there| there.id);
        if there != Some(job.collection) {
            return Err("the collection was dropped".into());
        }
        let into = [database, text("collectionName"), text("partitionName")];
        let load = |(number, path): (usize, PathBuf)| {
            self.fake.load_parquet(&path, into, habits.loses_a_row && number == 0)
        };
        paths.into_iter().enumerate().map(load).sum()
    }
}
