//! The S3 store against a real S3 server (moto), and against a scripted one for what a healthy
//! server does not do: lose replies, break connections, redirect, lie.
//!
//! `make test` installs moto and names it in `MILVUS_HANDOFF_TEST_MOTO`.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use milvus_handoff::digest::Sha256;
use milvus_handoff::error::{Error, ErrorKind, Result};
use milvus_handoff::store::{
    Body, Entry, Head, Lock, LockMode, Put, Settings, SnapshotUrl, Store, open, open_s3, open_s3_with,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

const PREFIX: &str = "some/snap shot";

fn config(endpoint: &str, attempts: u32) -> SdkConfig {
    let credentials = Credentials::new("an-id", "a-secret", None, None, "test");
    let retry =
        RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(Duration::from_millis(5));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(retry)
        .build()
}

async fn put(store: &Arc<dyn Store>, key: &str, bytes: &'static [u8]) -> Result<Put> {
    store.put_new(key, Body::Bytes(Bytes::from_static(bytes)), Sha256::of(bytes)).await
}

async fn put_file(store: &Arc<dyn Store>, key: &str, bytes: &[u8]) -> Result<Put> {
    let mut file = store.spool().unwrap();
    file.write_all(bytes).unwrap();
    let path = file.path().to_owned();
    let result = store.put_new(key, Body::File(file), Sha256::of(bytes)).await;
    assert!(!path.exists(), "the spool file is consumed");
    result
}

async fn read(store: &Arc<dyn Store>, key: &str) -> Result<Vec<u8>> {
    let chunks: Vec<Bytes> = store.read(key).await?.expect("the object exists").try_collect().await?;
    Ok(chunks.concat())
}

fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error,
    }
}

// A real server.

/// One moto server for all tests that run at the same time; the last one to finish stops it.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    fn shared() -> Arc<Moto> {
        static RUNNING: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
        // A test that failed while it held the lock has not broken what the lock protects.
        let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.upgrade().unwrap_or_else(|| {
            let moto = Arc::new(Moto::start(&[]));
            *running = Arc::downgrade(&moto);
            moto
        })
    }

    fn start(env: &[(&str, &str)]) -> Moto {
        let Some(program) = std::env::var_os("MILVUS_HANDOFF_TEST_MOTO") else {
            panic!("MILVUS_HANDOFF_TEST_MOTO names no moto_server; run `make test`, which installs one");
        };
        // Another process may take the port between our asking for it and moto's: then moto ends,
        // and the next port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .envs(env.iter().copied())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
            let mut moto = Moto { child, endpoint: format!("http://127.0.0.1:{port}") };
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline && moto.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return moto;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("moto_server does not start; `{} -p 5000` shows why", program.display());
    }

    fn config(&self) -> SdkConfig {
        config(&self.endpoint, 2)
    }

    async fn bucket(&self, name: &str) -> Arc<dyn Store> {
        let builder = aws_sdk_s3::config::Builder::from(&self.config()).force_path_style(true);
        let http = aws_smithy_http_client::Builder::new().build_http();
        let client = aws_sdk_s3::Client::from_conf(builder.http_client(http).build());
        client.create_bucket().bucket(name).send().await.unwrap();
        open_s3(name, PREFIX, &self.config()).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_is_put_is_read_listed_and_never_replaced() {
    let moto = Moto::shared();
    let store = moto.bucket("round-trip").await;
    assert_eq!(store.get("COMMIT.json", 10).await.unwrap(), None);
    assert_eq!(store.head("COMMIT.json").await.unwrap(), None);
    assert!(store.read("COMMIT.json").await.unwrap().is_none());
    assert_eq!(store.list().collect::<Vec<_>>().await.len(), 0);

    assert_eq!(put(&store, "COMMIT.json", b"one").await.unwrap(), Put::Created);
    assert_eq!(put(&store, "COMMIT.json", b"two").await.unwrap(), Put::Exists);
    assert_eq!(put(&store, "COMMIT.json", b"one").await.unwrap(), Put::Exists);
    assert_eq!(store.get("COMMIT.json", 3).await.unwrap().unwrap(), "one");
    let refused = error(store.get("COMMIT.json", 2).await);
    assert_eq!(refused.kind(), ErrorKind::Integrity);
    assert_eq!(
        refused.to_string(),
        "COMMIT.json in s3://round-trip/some/snap shot has 3 bytes where at most 2 are allowed"
    );

    let part: Vec<u8> = (0..5 << 20).map(|i: u32| (i * 31 % 251) as u8).collect();
    let key = "data/default/Ünï c0de+&=%2F/u1-0.parquet";
    assert_eq!(put_file(&store, key, &part).await.unwrap(), Put::Created);
    assert_eq!(put_file(&store, key, b"other").await.unwrap(), Put::Exists);
    assert_eq!(put_file(&store, "empty", b"").await.unwrap(), Put::Created);
    assert!(read(&store, key).await.unwrap() == part);
    assert_eq!(read(&store, "empty").await.unwrap(), b"");
    let head = Head { size: 5 << 20, sha256: Some(Sha256::of(&part)) };
    assert_eq!(store.head(key).await.unwrap(), Some(head));

    let mut listed: Vec<Entry> = store.list().try_collect().await.unwrap();
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    let sizes: Vec<(&str, u64)> = listed.iter().map(|entry| (entry.key.as_str(), entry.size)).collect();
    assert_eq!(sizes, [("COMMIT.json", 3), (key, 5 << 20), ("empty", 0)]);
}

#[tokio::test]
async fn a_snapshot_sees_its_own_prefix_only() {
    let moto = Moto::shared();
    let one = moto.bucket("neighbours").await;
    let longer = open_s3("neighbours", &format!("{PREFIX}-2"), &moto.config()).unwrap();
    put(&longer, "COMMIT.json", b"x").await.unwrap();
    assert_eq!(one.list().collect::<Vec<_>>().await.len(), 0);
    assert_eq!(one.get("COMMIT.json", 10).await.unwrap(), None);
}

#[tokio::test]
async fn listings_go_on_after_a_thousand_keys() {
    let moto = Moto::shared();
    let store = moto.bucket("many-keys").await;
    futures::stream::iter(0..1100)
        .map(|i| {
            let store = &store;
            async move { put(store, &format!("units/u{i}.json"), b"{}").await.unwrap() }
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    let listed: Vec<Entry> = store.list().try_collect().await.unwrap();
    let keys: std::collections::HashSet<String> = listed.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, (0..1100).map(|i| format!("units/u{i}.json")).collect());
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_said_so() {
    let moto = Moto::shared();
    let store = open_s3("nobodys-bucket", PREFIX, &moto.config()).unwrap();
    for failed in [
        error(put(&store, "x", b"x").await),
        error(store.get("x", 1).await),
        error(store.read("x").await),
        error(store.head("x").await),
        error(store.list().try_collect::<Vec<_>>().await),
    ] {
        assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");
        assert!(failed.to_string().contains("s3://nobodys-bucket/"), "{failed}");
        assert!(failed.hint_text().unwrap().contains("create the bucket nobodys-bucket"));
    }
}

#[tokio::test]
async fn credentials_that_the_server_does_not_know_are_denied() {
    // From its first request on, this moto asks who is there.
    let moto = Moto::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]);
    let store = open_s3("bucket", PREFIX, &moto.config()).unwrap();
    for failed in
        [error(put(&store, "x", b"x").await), error(store.get("x", 1).await), error(store.head("x").await)]
    {
        assert_eq!(failed.kind(), ErrorKind::Denied, "{failed}");
        assert!(failed.to_string().contains("InvalidAccessKeyId"), "{failed}");
        assert!(failed.hint_text().unwrap().contains("AWS_ACCESS_KEY_ID"));
    }
}

// A scripted server.

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn read(stream: &TcpStream) -> Option<Request> {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            Some(line.trim_end().to_owned())
        };
        let first = line()?;
        let (method, rest) = first.split_once(' ')?;
        let (target, _) = rest.split_once(' ')?;
        let mut headers = Vec::new();
        while let Some(line) = line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Request { method: method.into(), target: target.into(), headers, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What the script does with a request: `None` closes the connection without a word.
type Script = Box<dyn Fn(usize, &Request) -> Option<Reply> + Send>;

fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

fn refusal(status: u16, code: &str) -> Reply {
    let said = format!("<Error><Code>{code}</Code><Message>server's words</Message></Error>");
    reply(status, format!("<?xml version=\"1.0\"?>{said}")).with("x-amz-request-id", "R1")
}

impl Reply {
    /// A `content-length` given here wins, so that a body can break off.
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn write(&self, mut stream: &TcpStream, head_only: bool) {
        let mut text = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.iter().any(|(name, _)| *name == "content-length") {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        let _ = stream.write_all(format!("{text}\r\n").as_bytes());
        if !head_only {
            let _ = stream.write_all(&self.body);
        }
    }
}

struct Server {
    endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves one request per connection, one after the other, until the test process ends.
    fn start(script: impl Fn(usize, &Request) -> Option<Reply> + Send + 'static) -> Server {
        let script: Script = Box::new(script);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = Request::read(&stream) else { continue };
                let number = log.lock().unwrap().len();
                let answer = script(number, &request);
                let head_only = request.method == "HEAD";
                log.lock().unwrap().push(request);
                if let Some(answer) = answer {
                    answer.write(&stream, head_only);
                }
            }
        });
        Server { endpoint, seen }
    }

    fn store(&self, attempts: u32) -> Arc<dyn Store> {
        open_s3("bucket", PREFIX, &config(&self.endpoint, attempts)).unwrap()
    }

    fn methods(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|request| request.method.clone()).collect()
    }
}

/// The script of a bucket with at most one object, whose first `lost` puts take effect although
/// their replies are lost.
fn forgetful(lost: usize, held: Option<&'static [u8]>) -> impl Fn(usize, &Request) -> Option<Reply> + Send {
    let held = Mutex::new(held.map(<[u8]>::to_vec));
    move |number, request| {
        let mut held = held.lock().unwrap();
        match (request.method.as_str(), &*held) {
            ("PUT", None) => *held = Some(request.body.clone()),
            ("PUT", Some(_)) if number >= lost => return Some(refusal(412, "PreconditionFailed")),
            ("PUT", Some(_)) => {}
            (_, Some(bytes)) => return Some(reply(200, bytes.clone()).with("etag", "\"e\"")),
            (_, None) => return Some(refusal(404, "NoSuchKey")),
        }
        (number >= lost).then(|| reply(200, ""))
    }
}

#[tokio::test]
async fn a_put_on_the_wire() {
    let part = vec![7; 3 << 20];
    let server = Server::start(|_, _| Some(reply(200, "")));
    let store = server.store(1);
    put(&store, "a b/ü.json", b"small").await.unwrap();
    put_file(&store, "part", &part).await.unwrap();
    put_file(&store, "empty", b"").await.unwrap();
    let seen = server.seen.lock().unwrap();
    let targets: Vec<&str> = seen.iter().map(|put| put.target.split('?').next().unwrap()).collect();
    let below = "/bucket/some/snap%20shot";
    assert_eq!(
        targets,
        [format!("{below}/a%20b/%C3%BC.json"), format!("{below}/part"), format!("{below}/empty")]
    );
    for (put, body) in seen.iter().zip([&b"small"[..], &part, b""]) {
        let digest = Sha256::of(body);
        assert_eq!(put.method, "PUT");
        assert_eq!(put.header("if-none-match"), Some("*"));
        assert_eq!(put.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(put.header("x-amz-checksum-sha256"), Some(digest.to_base64().as_str()));
        assert_eq!(put.header("x-amz-content-sha256"), Some(digest.to_string().as_str()), "signed as well");
        for absent in [
            "transfer-encoding",
            "content-encoding",
            "x-amz-trailer",
            "x-amz-decoded-content-length",
            "expect",
        ] {
            assert_eq!(put.header(absent), None, "{absent}");
        }
        let sums = put.headers.iter().filter(|(name, _)| name.starts_with("x-amz-checksum-")).count();
        assert_eq!(
            (sums, put.header("x-amz-sdk-checksum-algorithm")),
            (1, Some("SHA256")),
            "no second checksum"
        );
        let signed = put.header("authorization").unwrap();
        assert!(signed.contains("x-amz-checksum-sha256") && signed.contains("if-none-match"), "{signed}");
        assert!(put.body == body);
    }
}

/// Everything that a user can ask for beyond the usual.
fn settings() -> Settings {
    Settings {
        lock: Some(Lock::parse(LockMode::Compliance, "2131-12-31").unwrap()),
        kms_key: Some("arn:aws:kms:eu-central-1:111122223333:key/k".into()),
        owner: Some("111122223333".into()),
        requester_pays: true,
    }
}

#[tokio::test]
async fn locks_keys_owners_and_payers_on_the_wire() {
    let server = Server::start(|_, request| {
        let listing =
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        Some(match request.method.as_str() {
            "PUT" => reply(200, "").with("x-amz-version-id", "v1"),
            "GET" if request.target.contains("list-type") => reply(200, listing),
            "DELETE" => reply(204, ""),
            _ => reply(200, "x").with("etag", "\"e\""),
        })
    });
    let store = open_s3_with("bucket", PREFIX, &config(&server.endpoint, 1), &settings()).unwrap();
    put(&store, "COMMIT.json", b"x").await.unwrap();
    store.get("COMMIT.json", 10).await.unwrap();
    store.head("COMMIT.json").await.unwrap();
    store.delete("other").await.unwrap();
    assert_eq!(store.list().collect::<Vec<_>>().await.len(), 0);
    store.keeps_existing().await.unwrap();
    assert_eq!(server.methods(), ["PUT", "GET", "HEAD", "DELETE", "GET", "PUT", "PUT"]);
    for request in server.seen.lock().unwrap().iter() {
        let what = format!("{} {}", request.method, request.target);
        let signed = request.header("authorization").unwrap();
        let mut wanted =
            vec![("x-amz-expected-bucket-owner", "111122223333"), ("x-amz-request-payer", "requester")];
        let of_puts = [
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-retain-until-date", "2131-12-31T00:00:00Z"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:111122223333:key/k"),
        ];
        match request.method.as_str() {
            "PUT" => wanted.extend(of_puts),
            _ => assert!(of_puts.iter().all(|(name, _)| request.header(name).is_none()), "{what}"),
        }
        for (name, value) in wanted {
            assert_eq!(request.header(name), Some(value), "{what}");
            assert!(signed.contains(name), "{what}: {name} is not signed");
        }
    }
    assert_eq!(store.versions().get("COMMIT.json").map(String::as_str), Some("v1"));
    // And nothing of it where nobody asked for it.
    let plain = server.store(1);
    put(&plain, "COMMIT.json", b"x").await.unwrap();
    let seen = server.seen.lock().unwrap();
    let headers = &seen.last().unwrap().headers;
    for part in ["object-lock", "encryption", "owner", "payer"] {
        assert!(!headers.iter().any(|(name, _)| name.contains(part)), "{part}");
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_lock_is_said_so() {
    for text in ["Bucket is missing Object Lock Configuration", "Bucket is missing ObjectLockConfiguration"] {
        let body = format!("<Error><Code>InvalidRequest</Code><Message>{text}</Message></Error>");
        let server = Server::start(move |_, _| Some(reply(400, body.clone())));
        let store = open_s3_with("bucket", PREFIX, &config(&server.endpoint, 3), &settings()).unwrap();
        let failed = error(put(&store, "PLAN.json", b"x").await);
        assert_eq!(failed.code().text(), "MH-BUCKET-CANNOT", "{failed}");
        assert!(failed.to_string().contains(text), "{failed}");
        assert!(failed.hint_text().unwrap().starts_with("the bucket has no object lock"), "{failed:?}");
        assert_eq!(server.methods(), ["PUT"], "that is final");
    }
    let server = Server::start(|_, _| Some(refusal(403, "AccessDenied")));
    let store = open_s3_with("bucket", PREFIX, &config(&server.endpoint, 1), &settings()).unwrap();
    let failed = error(put(&store, "PLAN.json", b"x").await);
    assert!(failed.hint_text().unwrap().contains("s3:PutObjectRetention"), "{failed:?}");
}

#[tokio::test]
async fn a_local_folder_has_no_locks() {
    let folder = tempfile::tempdir().unwrap();
    let url = SnapshotUrl::File { path: folder.path().join("snap") };
    assert_eq!(error(milvus_handoff::store::open_with(&url, &settings()).await).kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_lost_reply_is_settled_by_reading_back() {
    // The second try finds the object; it is the one that the first try left.
    let server = Server::start(forgetful(1, None));
    assert_eq!(put(&server.store(3), "x", b"mine").await.unwrap(), Put::Created);
    assert_eq!(server.methods(), ["PUT", "PUT", "GET"]);

    // No tries left: settled all the same.
    let server = Server::start(forgetful(9, None));
    assert_eq!(put(&server.store(1), "x", b"mine").await.unwrap(), Put::Created);
    assert_eq!(server.methods(), ["PUT", "GET"]);

    // Somebody else's object was there before our first try.
    for theirs in [&b"they"[..], b"their longer one"] {
        let server = Server::start(forgetful(1, Some(theirs)));
        assert_eq!(put(&server.store(3), "x", b"mine").await.unwrap(), Put::Exists);
    }
    // And at once: nothing is ambiguous, nothing is read.
    let server = Server::start(forgetful(0, Some(b"mine")));
    assert_eq!(put(&server.store(3), "x", b"mine").await.unwrap(), Put::Exists);
    assert_eq!(server.methods(), ["PUT"]);
}

#[tokio::test]
async fn a_large_lost_put_is_settled_by_the_buckets_digest_where_it_has_one() {
    let part = vec![1; (8 << 20) + 1];
    for (digest, expected, methods) in [
        (Some(Sha256::of(&part)), Put::Created, &["PUT", "HEAD"][..]),
        // Some buckets return digests that are wrong: the bytes decide.
        (Some(Sha256::of(b"else")), Put::Created, &["PUT", "HEAD", "GET"]),
        (None, Put::Created, &["PUT", "HEAD", "GET"]),
    ] {
        let held = part.clone();
        let server = Server::start(move |_, request| match request.method.as_str() {
            "PUT" => None,
            _ => {
                let found = reply(200, held.clone()).with("etag", "\"e\"");
                Some(match digest {
                    Some(digest) => found.with("x-amz-checksum-sha256", digest.to_base64()),
                    None => found,
                })
            }
        });
        assert_eq!(put_file(&server.store(1), "part", &part).await.unwrap(), expected);
        assert_eq!(server.methods(), methods);
    }
}

#[tokio::test]
async fn a_put_that_left_nothing_is_temporary_and_one_that_nobody_can_see_is_unknown() {
    let server = Server::start(|_, request| (request.method != "PUT").then(|| refusal(404, "NoSuchKey")));
    let failed = error(put(&server.store(2), "x", b"mine").await);
    assert_eq!(failed.kind(), ErrorKind::Temporary, "{failed}");
    assert_eq!(server.methods(), ["PUT", "PUT", "GET"]);

    for answer in [403, 500] {
        let server = Server::start(move |_, request| {
            (request.method != "PUT").then(|| refusal(answer, "AccessDenied"))
        });
        let failed = error(put(&server.store(1), "x", b"mine").await);
        assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{failed}");
        assert!(failed.hint_text().unwrap().contains("nothing was deleted"));
    }
}

#[tokio::test]
async fn where_puts_are_not_create_only_every_try_looks_first() {
    // While the bucket said "slow down", somebody else wrote the object.
    let refused = Mutex::new(false);
    let server = Server::start(move |_, request| {
        let mut refused = refused.lock().unwrap();
        Some(match (request.method.as_str(), *refused) {
            ("PUT", false) => {
                *refused = true;
                refusal(503, "SlowDown")
            }
            ("PUT", true) => reply(200, "and so theirs is lost"),
            (_, false) => refusal(404, "NoSuchKey"),
            (_, true) => reply(200, "theirs").with("etag", "\"e\""),
        })
    });
    let store = server.store(3);
    store.look_before_put();
    assert_eq!(put(&store, "x", b"mine").await.unwrap(), Put::Exists);
    assert_eq!(server.methods().iter().filter(|method| *method == "PUT").count(), 1);
}

#[tokio::test]
async fn a_put_is_tried_again_when_that_may_help() {
    for code in ["SlowDown", "InternalError", "ConditionalRequestConflict", "RequestTimeout"] {
        let status = match code {
            "SlowDown" => 503,
            "InternalError" => 500,
            "RequestTimeout" => 400,
            _ => 409,
        };
        let server = Server::start(move |number, _| {
            Some(if number == 0 { refusal(status, code) } else { reply(200, "") })
        });
        assert_eq!(put_file(&server.store(2), "x", b"part").await.unwrap(), Put::Created, "{code}");
        let seen = server.seen.lock().unwrap();
        assert!(seen.len() == 2 && seen.iter().all(|put| put.body == b"part"), "{code}");
    }

    let server = Server::start(|_, _| Some(refusal(503, "SlowDown")));
    let failed = error(put(&server.store(3), "x", b"x").await);
    assert_eq!(failed.kind(), ErrorKind::Temporary);
    assert_eq!(server.methods(), ["PUT"; 3], "a bucket that says no is believed");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    for (status, code, kind, hint) in [
        (403, "AccessDenied", ErrorKind::Denied, "s3:PutObject on s3://bucket/some/snap shot/*"),
        (403, "InvalidAccessKeyId", ErrorKind::Denied, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied, "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", ErrorKind::Temporary, "has expired: renew AWS_SESSION_TOKEN"),
        (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
        (404, "NoSuchBucket", ErrorKind::NotFound, "create the bucket bucket"),
        (301, "PermanentRedirect", ErrorKind::Usage, "set AWS_REGION=eu-north-1"),
        (400, "AuthorizationHeaderMalformed", ErrorKind::Usage, "set AWS_REGION=eu-north-1"),
        (400, "BadDigest", ErrorKind::Integrity, "disk and memory"),
        (400, "InvalidRequest", ErrorKind::Unsupported, "refused"),
        (409, "InvalidObjectState", ErrorKind::Exists, "another prefix"),
        (501, "NotImplemented", ErrorKind::Unsupported, "If-None-Match"),
    ] {
        let server =
            Server::start(move |_, _| Some(refusal(status, code).with("x-amz-bucket-region", "eu-north-1")));
        let failed = error(put(&server.store(3), "units/u1.json", b"x").await);
        assert_eq!(failed.kind(), kind, "{failed}");
        assert_eq!(
            failed.to_string(),
            format!(
                "cannot put units/u1.json in s3://bucket/some/snap shot: {code}: server's words (request R1)"
            )
        );
        assert!(failed.hint_text().unwrap().contains(hint), "{code}: {:?}", failed.hint_text());
        assert_eq!(server.methods(), ["PUT"], "{code} is final");
    }
}

#[tokio::test]
async fn a_head_that_fails_learns_why() {
    for (status, code, kind) in [
        (400, "ExpiredToken", ErrorKind::Temporary),
        (301, "PermanentRedirect", ErrorKind::Usage),
        (404, "NoSuchBucket", ErrorKind::NotFound),
    ] {
        let server = Server::start(move |_, _| Some(refusal(status, code)));
        let failed = error(server.store(1).head("x").await);
        assert_eq!(failed.kind(), kind, "{failed}");
        assert!(failed.to_string().contains(code), "{failed}");
        assert_eq!(server.methods(), ["HEAD", "GET"]);
    }
    // Once the bucket is known to exist, a missing object costs one request.
    let server = Server::start(|_, _| Some(refusal(404, "NoSuchKey")));
    let store = server.store(1);
    assert_eq!(store.head("x").await.unwrap(), None);
    assert_eq!(store.head("y").await.unwrap(), None);
    assert_eq!(server.methods(), ["HEAD", "GET", "HEAD"]);
}

#[tokio::test]
async fn a_digest_of_pieces_is_not_a_digest() {
    let digest = Sha256::of(b"x");
    for (name, value) in [
        ("x-amz-checksum-sha256", format!("{}-2", digest.to_base64())),
        ("x-amz-checksum-type", "COMPOSITE".into()),
    ] {
        let server = Server::start(move |_, _| {
            let found = reply(200, "x").with(name, value.clone());
            Some(if name.ends_with("type") {
                found.with("x-amz-checksum-sha256", digest.to_base64())
            } else {
                found
            })
        });
        assert_eq!(server.store(1).head("x").await.unwrap(), Some(Head { size: 1, sha256: None }));
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let server = Server::start(|number, request| {
        let whole = b"0123456789";
        Some(match number {
            0 => reply(200, &whole[..4]).with("content-length", "10").with("etag", "\"e\""),
            1 => {
                assert_eq!(
                    (request.header("range"), request.header("if-match")),
                    (Some("bytes=4-"), Some("\"e\""))
                );
                reply(206, &whole[4..5]).with("content-length", "6").with("content-range", "bytes 4-9/10")
            }
            _ => reply(206, &whole[5..]).with("content-range", "bytes 5-9/10"),
        })
    });
    // A byte is no headway, so that a server which sends one at a time is given up.
    assert_eq!(read(&server.store(3), "x").await.unwrap(), b"0123456789");
    assert_eq!(server.methods().len(), 3);

    // Whatever came first is given back as it was; the rest of another object is not appended.
    for (answer, kind) in [
        (412, ErrorKind::Integrity),
        (404, ErrorKind::Integrity),
        (200, ErrorKind::Temporary),
        (403, ErrorKind::Denied),
    ] {
        let server = Server::start(move |number, _| {
            Some(match (number, answer) {
                (0, _) => reply(200, "0123").with("content-length", "10").with("etag", "\"e\""),
                (_, 200) => reply(200, "abcdefghij"),
                (_, 404) => refusal(404, "NoSuchKey"),
                _ => refusal(answer, ""),
            })
        });
        let failed = error(server.store(2).get("x", 100).await);
        assert_eq!(failed.kind(), kind, "{answer}: {failed}");
    }

    let server =
        Server::start(|_, _| Some(reply(200, "0123").with("content-length", "10").with("etag", "\"e\"")));
    let failed = error(server.store(1).get("x", 100).await);
    assert_eq!(failed.kind(), ErrorKind::Temporary);
    assert!(failed.to_string().contains("after 4 bytes"), "{failed}");
}

#[tokio::test]
async fn a_large_object_is_refused_before_it_is_read() {
    let server = Server::start(|_, _| Some(reply(200, "x").with("content-length", "9000000000000000")));
    let failed = error(server.store(3).get("PLAN.json", 1 << 20).await);
    assert_eq!(failed.kind(), ErrorKind::Integrity, "{failed}");
    assert_eq!(server.methods(), ["GET"]);
}

fn page(keys: &[(&str, u64)], more: Option<&str>) -> Reply {
    let contents: String = keys
        .iter()
        .map(|(key, size)| format!("<Contents><Key>{key}</Key><Size>{size}</Size></Contents>"))
        .collect();
    let more = more.map(|token| format!("<IsTruncated>true</IsTruncated>{token}")).unwrap_or_default();
    reply(200, format!("<?xml version=\"1.0\"?><ListBucketResult>{contents}{more}</ListBucketResult>"))
}

#[tokio::test]
async fn listings_are_followed_and_not_trusted() {
    let server = Server::start(|number, request| {
        assert!(request.target.contains("prefix=some%2Fsnap%20shot%2F"), "{}", request.target);
        Some(match number {
            0 => page(
                &[("some/snap shot/", 0), ("some/snap shot/a", 1)],
                Some("<NextContinuationToken>t</NextContinuationToken>"),
            ),
            _ => {
                assert!(request.target.contains("continuation-token=t"), "{}", request.target);
                page(&[("some/snap shot/data/", 0), ("some/snap shot/data/b", 2)], None)
            }
        })
    });
    let listed: Vec<Entry> = server.store(1).list().try_collect().await.unwrap();
    assert_eq!(listed, [Entry { key: "a".into(), size: 1 }, Entry { key: "data/b".into(), size: 2 }]);

    for key in
        ["some/other", "some/snap shot", "some/snap shot/../x", "some/snap shot//x", "some/snap shot/x/"]
    {
        let server = Server::start(move |_, _| Some(page(&[(key, 1)], None)));
        let failed = error(server.store(1).list().try_collect::<Vec<_>>().await);
        assert_eq!(failed.kind(), ErrorKind::Integrity, "{key}: {failed}");
    }

    // A server that says "more" without saying where, or where we are already, is not followed.
    let stuck = "<NextContinuationToken>t</NextContinuationToken>";
    for (token, requests) in [("", 1), (stuck, 2)] {
        let server = Server::start(move |_, _| Some(page(&[], Some(token))));
        let failed = error(server.store(1).list().try_collect::<Vec<_>>().await);
        assert_eq!(failed.kind(), ErrorKind::Unsupported, "{failed}");
        assert_eq!(server.methods().len(), requests);
    }
}

#[tokio::test]
async fn listings_without_an_end_come_to_one() {
    // Always a new token, and the same keys or none.
    for keys in [&[("some/snap shot/a", 1)][..], &[]] {
        let server = Server::start(move |number, _| {
            let token = format!("<NextContinuationToken>t{number}</NextContinuationToken>");
            Some(page(keys, Some(&token)))
        });
        let failed = error(server.store(1).list().try_collect::<Vec<_>>().await);
        assert_eq!(failed.kind(), ErrorKind::Unsupported, "{failed}");
    }
    // One that was cut is not a short one: with everything in it, it would be read as the whole.
    let cut = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>some/snap shot/a</Key>\
               <Size>1</Size></Contents>";
    let server = Server::start(move |_, _| Some(reply(200, cut)));
    let failed = error(server.store(2).list().try_collect::<Vec<_>>().await);
    assert_eq!(failed.kind(), ErrorKind::Temporary, "{failed}");
    assert!(failed.to_string().contains("a listing without an end"), "{failed}");
    assert_eq!(server.methods().len(), 2, "it may be whole the next time");
}

#[tokio::test]
async fn replies_without_an_end_are_not_read_to_it() {
    let endless = |status| Reply { status, headers: Vec::new(), body: vec![b'x'; 40 << 20] };
    for status in [200, 403, 500] {
        let server = Server::start(move |_, _| Some(endless(status)));
        let failed = error(server.store(1).list().try_collect::<Vec<_>>().await);
        assert!(failed.to_string().contains("longer than 16 MiB"), "{status}: {failed}");
        let server = Server::start(move |_, _| Some(endless(status.max(403))));
        let failed = error(server.store(1).get("COMMIT.json", 1 << 20).await);
        assert!(failed.to_string().contains("longer than 16 MiB"), "{status}: {failed}");
    }
}

#[tokio::test]
async fn what_a_server_says_cannot_write_to_the_terminal() {
    let server = Server::start(|_, _| {
        Some(reply(418, "<Error><Code>Tea</Code><Message>red: &#x9b;31m\u{202e}</Message></Error>"))
    });
    let failed = error(put(&server.store(1), "x", b"x").await);
    assert!(failed.to_string().contains("Tea: red: \\u{9b}31m\\u{202e}"), "{failed}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_temporary() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = open_s3("bucket", PREFIX, &config(&format!("http://127.0.0.1:{port}"), 3)).unwrap();
    for failed in [
        error(put(&store, "x", b"x").await),
        error(put_file(&store, "x", b"x").await),
        error(store.get("x", 1).await),
        error(store.head("x").await),
        error(store.list().try_collect::<Vec<_>>().await),
    ] {
        assert_eq!(failed.kind(), ErrorKind::Temporary, "{failed}");
        assert!(
            failed.to_string().contains(&format!("cannot connect to http://127.0.0.1:{port}: ")),
            "{failed}"
        );
        assert!(failed.hint_text().unwrap().contains("AWS_ENDPOINT_URL_S3"));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Connections are made by the kernel; nobody ever takes them.
    let quiet = config(&format!("http://{}", listener.local_addr().unwrap()), 2);
    let patience = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100)).build();
    let store = open_s3("bucket", PREFIX, &quiet.into_builder().timeout_config(patience).build()).unwrap();
    let started = Instant::now();
    let failed = error(store.get("x", 1).await);
    assert_eq!(failed.kind(), ErrorKind::Temporary, "{failed}");
    assert!(failed.to_string().contains("did not answer in time"), "{failed}");
    let failed = error(put(&store, "x", b"x").await);
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{failed}");
    assert!(started.elapsed() < Duration::from_secs(20), "it was given up in {:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_without_trusted_tls_is_a_matter_of_settings() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        }
    });
    let store = open_s3("bucket", PREFIX, &config(&endpoint, 2)).unwrap();
    let failed = error(put(&store, "x", b"x").await);
    assert_eq!(failed.kind(), ErrorKind::Usage, "{failed}");
    assert!(failed.hint_text().unwrap().contains("SSL_CERT_FILE"));
}

// What the environment sets. A process has one environment, so each case is a process of its own:
// this test, told by a variable to be the child.

const CHILD: &str = "MILVUS_HANDOFF_TEST_CHILD";

/// Puts an object with settings from the environment, and prints what came of it.
#[tokio::test]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let url = SnapshotUrl::parse("s3://my-bucket/snap").unwrap();
    let result = match open(&url).await {
        Ok(store) => put(&store, "x", b"x").await,
        Err(error) => Err(error),
    };
    match result {
        Ok(put) => println!("result: {put:?}"),
        Err(error) => println!("result: {error:?} ({})", error.hint_text().unwrap_or_default()),
    }
}

fn run_child(env: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env_clear();
    for kept in ["PATH", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    // No profile of whoever runs the tests, and no question to a cloud they may run in.
    command.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true").env(CHILD, "1");
    let output = command.envs(env.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let result = text.lines().find_map(|line| line.split_once("result: "));
    result.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).1.to_owned()
}

#[test]
fn settings_come_from_the_usual_variables_and_profiles() {
    let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", "a-secret")];
    let wrong = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");

    let server = Server::start(|_, _| Some(reply(200, "")));
    let own = ("AWS_ENDPOINT_URL_S3", server.endpoint.as_str());
    assert_eq!(run_child(&[keys[0], keys[1], own, wrong]), "Created");
    let general = ("AWS_ENDPOINT_URL", server.endpoint.as_str());
    assert_eq!(
        run_child(&[keys[0], keys[1], general, ("AWS_REGION", "eu-west-1"), ("AWS_SESSION_TOKEN", "t")]),
        "Created"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let services = format!("services = mine\n[services mine]\ns3 =\n  endpoint_url = {}\n", server.endpoint);
    for endpoint in [format!("endpoint_url = {}\n", server.endpoint), services] {
        let login = "[profile other]\nregion = ap-south-1\naws_access_key_id = an-id\n\
                     aws_secret_access_key = a-secret\n";
        std::fs::write(&path, format!("{login}{endpoint}")).unwrap();
        let profile = [("AWS_CONFIG_FILE", path.to_str().unwrap()), ("AWS_PROFILE", "other")];
        assert_eq!(run_child(&profile), "Created");
    }

    let seen = server.seen.lock().unwrap();
    let regions = ["us-east-1", "eu-west-1", "ap-south-1", "ap-south-1"];
    assert_eq!(seen.len(), regions.len());
    for (request, region) in seen.iter().zip(regions) {
        assert_eq!(request.target.split('?').next(), Some("/my-bucket/snap/x"), "path-style");
        assert!(request.header("authorization").unwrap().contains(&format!("/{region}/s3/")), "{region}");
    }
    assert_eq!(seen[1].header("x-amz-security-token"), Some("t"));
}

#[test]
fn settings_that_are_missing_or_wrong_are_named() {
    let endpoint = ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    let said = run_child(&[endpoint]);
    assert!(
        said.starts_with(
            "[MH-BUCKET-CREDENTIALS] cannot put x in s3://my-bucket/snap: no AWS credentials were found"
        ),
        "{said}"
    );
    let said = run_child(&[endpoint, ("AWS_ACCESS_KEY_ID", "an-id")]);
    assert!(said.contains("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"), "{said}");
    let said = run_child(&[]);
    assert!(said.starts_with("[MH-REGION] no AWS region is set") && said.contains("AWS_REGION"), "{said}");
    let said = run_child(&[endpoint, ("AWS_MAX_ATTEMPTS", "many")]);
    assert!(said.starts_with("[MH-USAGE] AWS_MAX_ATTEMPTS is not a number"), "{said}");
    let said = run_child(&[("AWS_ENDPOINT_URL_S3", "localhost:9000")]);
    assert!(said.starts_with("[MH-ADDRESS] the S3 endpoint is not a URL"), "{said}");
}

#[test]
fn profiles_that_do_not_exist_or_give_nothing_are_named() {
    let endpoint = ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "[default]\nregion = eu-west-1\n[profile half]\nregion = eu-west-1\n").unwrap();
    let config = ("AWS_CONFIG_FILE", path.to_str().unwrap());

    // Also where the region would be missed first, and where there is no file at all.
    for (env, there) in [
        (&[endpoint, config][..], "(there is default, half; correct AWS_PROFILE"),
        (&[config], "(there is default, half; correct AWS_PROFILE"),
        (&[endpoint], "(there is none at all; correct AWS_PROFILE"),
    ] {
        let said = run_child(&[&[("AWS_PROFILE", "hlaf")], env].concat());
        let what = "[MH-BUCKET-CREDENTIALS] AWS_PROFILE names the AWS profile `hlaf`, which does not exist";
        assert!(said.starts_with(what) && said.contains(there), "{said}");
    }
    let said = run_child(&[endpoint, config, ("AWS_PROFILE", "half")]);
    assert!(
        said.contains("no AWS credentials were found: the profile `half` of AWS_PROFILE gives none"),
        "{said}"
    );
    // Keys that are given go first.
    let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", "a-secret")];
    let server = Server::start(|_, _| Some(reply(200, "")));
    let there = ("AWS_ENDPOINT_URL_S3", server.endpoint.as_str());
    assert_eq!(run_child(&[keys[0], keys[1], there, config, ("AWS_PROFILE", "hlaf")]), "Created");
}

#[test]
fn a_metadata_service_that_gives_no_credentials_is_said_so() {
    let bucket = ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    let refuses = Server::start(|_, _| Some(reply(403, "")));
    let nothing = Server::start(|_, _| Some(reply(404, "")));
    for (place, why) in [
        (refuses.endpoint.as_str(), "metadata service, which is asked last, says: "),
        (&nothing.endpoint, ""),
        ("http://127.0.0.1:1", ""),
    ] {
        let env =
            [bucket, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", place), ("AWS_EC2_METADATA_DISABLED", "false")];
        let said = run_child(&env);
        let what =
            "[MH-BUCKET-CREDENTIALS] cannot put x in s3://my-bucket/snap: no AWS credentials were found";
        assert!(said.starts_with(what) && said.contains(why), "{said}");
        assert!(said.contains("(set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"), "{said}");
    }
}
