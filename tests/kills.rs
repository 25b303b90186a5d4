//! Exports that are killed with SIGKILL, at every request that they send to the bucket and at
//! random: afterwards the snapshot is absent or entirely valid, and the same command finishes it
//! and reuses the units that were finished.
//!
//! Every step of an export that others can see is a request to the bucket, so the bucket is where
//! it is stopped: before or after the effect of the n-th request everything stands still, and the
//! process is killed then. `MILVUS_HANDOFF_TEST_ROUNDS` multiplies the number of random kills; a
//! failure names its seed.

mod bucket;
mod fake;

use bucket::{Bucket, When, mix};
use fake::source::{self, PARTITIONS, ROWS};
use milvus_handoff::digest::Sha256;
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::opened::Trust;
use milvus_handoff::progress::Show;
use milvus_handoff::snapshot::keys;
use milvus_handoff::verify::{self, Level};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const TOTAL: u64 = PARTITIONS.len() as u64 * ROWS as u64;

/// Where the rows are, and where the tool keeps what it has in hand: a run that is killed leaves it.
struct Source {
    endpoint: Endpoint,
    spool: TempDir,
}

impl Source {
    async fn start() -> Source {
        Source { endpoint: source::start(None).await, spool: tempfile::tempdir().unwrap() }
    }
}

fn tool(source: &Source, snapshot: &str, jobs: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    command
        .args(["export", snapshot, "--source", &source.endpoint.address, "-j", jobs, "--page-rows", "20"])
        .args(["--part-size", "64KiB", "--json"])
        .env_clear()
        .envs(["PATH", "LD_LIBRARY_PATH"].iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
        .env("TMPDIR", source.spool.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn into_bucket(source: &Source, bucket: &Bucket, jobs: &str) -> Command {
    let mut command = tool(source, &Bucket::url(), jobs);
    command.envs(bucket.env());
    command
}

/// Runs it to its end; gives the JSON document.
async fn finish(mut command: Command, what: &str) -> serde_json::Value {
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn kill(mut child: Child) {
    child.start_kill().unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

fn parts(bucket: &Bucket) -> BTreeMap<String, Sha256> {
    bucket.below("data/")
}

/// Whether a reader finds a snapshot; then it must be whole.
async fn committed(bucket: &Bucket, what: &str) -> bool {
    let there = bucket.objects().contains_key(keys::COMMIT);
    let report = verify::run(bucket.store(), Level::Full, &Trust::default(), 4, Show::Quiet).await;
    match report {
        Ok(report) => {
            assert!(there, "{what}");
            assert_eq!(report.problems, [], "{what}");
            assert_eq!(report.opened.manifest.totals().rows, TOTAL, "{what}");
        }
        Err(e) => {
            assert!(!there, "{what}: {e}");
            assert_eq!(e.kind().exit_code(), 4, "{what}: {e}");
        }
    }
    there
}

/// What must hold after a kill, and that the same command finishes.
async fn goes_on(source: &Source, bucket: &Bucket, due: &BTreeMap<String, Sha256>, jobs: &str, what: &str) {
    bucket.forget();
    if committed(bucket, what).await {
        let output = into_bucket(source, bucket, jobs).output().await.unwrap();
        assert_eq!(output.status.code(), Some(5), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    } else {
        let (plan, finished) = (bucket.below(keys::PLAN), bucket.below("units/"));
        let document = finish(into_bucket(source, bucket, jobs), what).await;
        assert_eq!(document["reused_units"], finished.len(), "{what}");
        assert!(committed(bucket, what).await, "{what}");
        let now = bucket.digests();
        assert!(
            plan.iter().chain(&finished).all(|(key, digest)| now[key] == *digest),
            "{what}: they are kept"
        );
    }
    assert_eq!(parts(bucket), *due, "{what}");
}

#[tokio::test]
async fn killed_at_every_step_an_export_is_absent_or_whole_and_goes_on() {
    let source = Source::start().await;
    let bucket = Bucket::start().await;
    finish(into_bucket(&source, &bucket, "1"), "the whole export").await;
    let (due, requests, log) = (parts(&bucket), bucket.requests(), bucket.log());
    assert!(requests >= 20, "{log:#?}");
    let mut absent = 0;
    for (at, request) in log.iter().enumerate() {
        for when in [When::Before, When::After] {
            let what = format!("{when:?} request {at}, {request}");
            bucket.clear();
            bucket.forget();
            bucket.rule(|rules| rules.stop_at = Some((at, when)));
            let child = into_bucket(&source, &bucket, "1").spawn().unwrap();
            tokio::time::timeout(Duration::from_secs(60), bucket.stopped()).await.expect(&what);
            kill(child).await;
            bucket.settled().await;
            absent += usize::from(!bucket.objects().contains_key(keys::COMMIT));
            goes_on(&source, &bucket, &due, "1", &what).await;
        }
    }
    assert_eq!(absent, 2 * (requests - 1) - 1, "the commit is the last effect; behind it, it is read back");
}

/// So many kills altogether, several in a row on one snapshot, with units side by side.
#[tokio::test]
async fn killed_at_random_again_and_again_an_export_comes_to_its_end() {
    let rounds = std::env::var("MILVUS_HANDOFF_TEST_ROUNDS").map_or(1, |times| times.parse().unwrap());
    let source = Source::start().await;
    let bucket = Bucket::start().await;
    finish(into_bucket(&source, &bucket, "3"), "the whole export").await;
    let (due, requests) = (parts(&bucket), bucket.requests() as u64);
    let mut kills = 0;
    for seed in 0.. {
        if kills >= 200 * rounds {
            break;
        }
        bucket.clear();
        for time in 0..1 + mix(seed) % 6 {
            let chance = mix(seed * 1000 + time);
            let what = format!("seed {seed}, kill {time}");
            bucket.forget();
            let when = if chance.is_multiple_of(2) { When::Before } else { When::After };
            let at = (mix(chance) % requests) as usize;
            bucket.rule(|rules| rules.stop_at = Some((at, when)));
            let mut child = into_bucket(&source, &bucket, "3").spawn().unwrap();
            tokio::select! {
                () = bucket.stopped() => kill(child).await,
                // What is left needs fewer requests than that.
                _ = child.wait() => {}
            }
            bucket.settled().await;
            kills += 1;
            bucket.forget();
            if committed(&bucket, &what).await {
                break;
            }
        }
        goes_on(&source, &bucket, &due, "3", &format!("seed {seed}")).await;
    }
}

/// A folder sees no requests, so the kill comes after a time: anywhere, the start of the process
/// included.
#[tokio::test]
async fn killed_at_random_an_export_into_a_folder_comes_to_its_end() {
    let rounds = std::env::var("MILVUS_HANDOFF_TEST_ROUNDS").map_or(1, |times| times.parse().unwrap());
    let source = Source::start().await;
    let above = tempfile::tempdir().unwrap();
    let url = |n: u64| format!("file://{}/snap{n}", above.path().display());
    let began = std::time::Instant::now();
    finish(tool(&source, &url(0), "3"), "the whole export").await;
    let whole = began.elapsed().as_micros() as u64;
    for seed in 1..=30 * rounds {
        let what = format!("seed {seed}");
        let folder = above.path().join(format!("snap{seed}"));
        for time in 0..2 {
            let mut child = tool(&source, &url(seed), "3").spawn().unwrap();
            let after = Duration::from_micros(whole / 4 + mix(seed * 1000 + time) % whole);
            if tokio::time::timeout(after, child.wait()).await.is_err() {
                // It may just have come to its end by itself.
                let _ = child.start_kill();
                child.wait().await.unwrap();
            }
        }
        let finished = |folder: &Path| std::fs::read_dir(folder.join("units")).map_or(0, Iterator::count);
        if folder.join(keys::COMMIT).exists() {
            let code = tool(&source, &url(seed), "3").output().await.unwrap().status.code();
            assert_eq!(code, Some(5), "{what}");
        } else {
            let receipts = finished(&folder);
            let document = finish(tool(&source, &url(seed), "3"), &what).await;
            assert_eq!(document["reused_units"], receipts, "{what}");
        }
        let parsed = milvus_handoff::store::SnapshotUrl::parse(&url(seed)).unwrap();
        let store = milvus_handoff::store::open(&parsed).await.unwrap();
        let report = verify::run(store, Level::Full, &Trust::default(), 4, Show::Quiet).await.unwrap();
        assert_eq!(report.problems, [], "{what}");
        assert_eq!(report.opened.manifest.totals().rows, TOTAL, "{what}");
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let left = ["COMMIT.json", "PLAN.json", "SHA256SUMS", "data", "manifest.json", "units"];
        assert_eq!(names, left, "{what}: nothing half written stays");
    }
}

/// No room: a limit on the size of files stands for a full disk, since it needs no privilege.
/// The writes fail in the same places. (What a full disk is called is tested in `store`.)
#[tokio::test]
async fn a_full_disk_ends_an_export_and_it_goes_on_when_there_is_room() {
    let source = Source::start().await;
    let above = tempfile::tempdir().unwrap();
    let mut ended = 0;
    for blocks in [0, 1, 2, 3, 4, 8] {
        let what = format!("{blocks} blocks");
        let url = format!("file://{}/snap{blocks}", above.path().display());
        let own = tool(&source, &url, "1");
        let mut limited = Command::new("sh");
        // The signal that comes with the limit would kill the process, which a full disk does not.
        limited.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()]);
        limited.arg(own.as_std().get_program()).args(own.as_std().get_args());
        limited.env("TMPDIR", source.spool.path()).stdin(Stdio::null());
        let output = limited.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let folder = above.path().join(format!("snap{blocks}"));
        if output.status.success() {
            assert!(folder.join(keys::COMMIT).exists(), "{what}");
            continue;
        }
        ended += 1;
        // A part is spooled: "no room". A document is too large for such a file system as a whole.
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let kind = document["error"]["kind"].as_str().unwrap();
        assert!(["temporary", "unsupported"].contains(&kind), "{what}: {said}");
        assert!(said.contains("File too large") && said.contains("hint: "), "{what}: {said}");
        assert!(!folder.join(keys::COMMIT).exists(), "{what}");
        let document = finish(tool(&source, &url, "1"), &what).await;
        assert_eq!(document["totals"]["rows"], TOTAL, "{what}");
    }
    assert!(ended >= 3, "{ended}");
}
