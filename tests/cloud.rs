//! Imports by the jobs of Zilliz Cloud, against a protocol fake of its REST interface that holds every
//! request against the documented form: all that goes well, and requests and replies that are lost or
//! late, jobs that fail, stand still, are forgotten or count wrong, answers that are none, and imports
//! that end at any moment.

mod fake;
mod service;

use fake::moves::{export_options, import_as, import_options, lose_replies, store};
use fake::source::{PARTITIONS, ROWS, serve};
use fake::{Fake, Habits as FakeHabits};
use milvus_handoff::error::{self, ErrorKind};
use milvus_handoff::export;
use milvus_handoff::import::{Key, Options, Outcome, Reads, Route, Service as Reader, Via};
use milvus_handoff::milvus::{BucketKey, Deployment, Endpoint};
use milvus_handoff::stop::Stop;
use service::{ACCESS_KEY, API_KEY, CLUSTER, Habits, SECRET_KEY, SESSION, Service};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

const OLD: &str = "v2.6.3";
const NEW: &str = "v3.0.0";
const TOTAL: u64 = PARTITIONS.len() as u64 * ROWS as u64;

/// A snapshot of three partitions, each of several parts.
async fn snapshot() -> (TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let (fake, endpoint) = serve(OLD, None).await;
    let options = export::Options { part_size: 64 << 10, ..export_options(&endpoint) };
    let options = export::Options { effort: export::Effort { jobs: 1, page_rows: 20 }, ..options };
    let outcome = export::run(&options, store(folder.path()).await, &Stop::never()).await.unwrap();
    assert!(outcome.totals.parts > PARTITIONS.len() as u64, "{}", outcome.totals.parts);
    (folder, fake)
}

fn key(token: Option<&str>) -> Key {
    let (id, secret) = (ACCESS_KEY.to_string(), SECRET_KEY.to_string());
    Key::Given(BucketKey { id, secret, token: token.map(str::to_string) })
}

fn reader(service: &Service) -> Reader {
    let url = Some(service.prefix.trim_end_matches('/').to_string());
    Reader { endpoint: service.endpoint(), reads: Reads::Objects { url, key: key(Some(SESSION)) } }
}

fn options(target: &Endpoint, folder: &Path, reader: Reader) -> Options {
    Options {
        via: Via::Is(Route::Cloud(Box::new(reader))),
        jobs: 4,
        journal: Some(folder.join("journal")),
        ..import_options(target)
    }
}

/// Everything that one test needs.
struct Place {
    folder: TempDir,
    source: Fake,
    target: Fake,
    into: Endpoint,
    service: Service,
}

impl Place {
    async fn new(tag: &str, habits: Habits) -> Place {
        let (folder, source) = snapshot().await;
        let (target, into) = Fake::start(tag, FakeHabits::default()).await;
        let service = Service::start(&target, &folder.path().join("snap"), habits).await;
        Place { folder, source, target, into, service }
    }

    async fn import_by(&self, reader: Reader) -> error::Result<Outcome> {
        import_as(&options(&self.into, self.folder.path(), reader), self.folder.path()).await
    }

    async fn import(&self) -> error::Result<Outcome> {
        self.import_by(reader(&self.service)).await
    }

    /// All is there once, and every request was of the documented form.
    fn arrived(&self) {
        assert_eq!(self.target.contents("docs"), self.source.contents("docs"));
        assert!(!self.folder.path().join("journal").exists());
        self.service.was_asked_well();
    }

    fn completed(&self) -> usize {
        self.service.state().jobs.iter().filter(|job| job.state == "Completed").count()
    }
}

/// Imports against these habits, and again after every temporary error, which ends them. Gives the
/// number of requests for jobs.
async fn arrives(tag: &str, habits: Habits, runs: usize) -> usize {
    let two_phases = habits.two_phases;
    let place = Place::new(tag, habits).await;
    for run in 1.. {
        match place.import().await {
            Ok(outcome) => {
                assert_eq!((run, outcome.via), (runs, "bulk"));
                break;
            }
            Err(e) => {
                assert!(run < runs && e.kind() == ErrorKind::Temporary, "run {run}: {e:?}");
                place.service.behaves(Habits { two_phases, ..Habits::default() });
            }
        }
    }
    place.arrived();
    let state = place.service.state();
    state.asked
}

#[tokio::test]
async fn every_partition_is_one_job() {
    for (tag, two_phases) in [("v2.5.4", false), (OLD, false), (NEW, true)] {
        let place = Place::new(tag, Habits { two_phases, ..Habits::default() }).await;
        let outcome = place.import().await.unwrap();
        assert_eq!((outcome.totals.rows, outcome.via), (TOTAL, "bulk"));
        assert!(outcome.warnings.iter().any(|w| w.contains("s3://handoff/acme")), "{:?}", outcome.warnings);
        place.arrived();
        let state = place.service.state();
        assert_eq!((state.asked, state.jobs.len()), (3, 3), "{tag}");
        let commits = state.log.iter().filter(|call| *call == "commit").count();
        assert_eq!(commits, if two_phases { 3 } else { 0 }, "{tag}");
        // The target's own gRPC was not asked for a job.
        assert_eq!(place.target.state().jobs.requests, 0);
    }
}

#[tokio::test]
async fn a_project_reads_from_a_volume() {
    let (folder, source) = snapshot().await;
    let (target, into) = Fake::start(OLD, FakeHabits::default()).await;
    let deployment = Deployment::Project { project: "proj-0123".into(), region: "aws-us-west-2".into() };
    let snap = folder.path().join("snap");
    let service = Service::start_as(&target, &snap, Habits::default(), deployment, Some("handoff")).await;
    let reads = Reads::Volume { folder: "moves/snap".into() };
    let reader = Reader { endpoint: service.endpoint(), reads };
    import_as(&options(&into, folder.path(), reader), folder.path()).await.unwrap();
    assert_eq!(target.contents("docs"), source.contents("docs"));
    service.was_asked_well();
}

#[tokio::test]
async fn a_job_takes_only_so_many_files_and_bytes() {
    for (files, bytes) in [(1, u64::MAX), (1000, 100 << 10)] {
        let place = Place::new(OLD, Habits::default()).await;
        let mut reader = reader(&place.service);
        (reader.endpoint.limits.files, reader.endpoint.limits.bytes) = (files, bytes);
        let outcome = place.import_by(reader).await.unwrap();
        place.arrived();
        let jobs = place.service.state().jobs.len();
        assert_eq!(jobs as u64, outcome.totals.parts);
        assert!(place.service.state().jobs.iter().all(|job| job.files().len() == 1));
    }
}

#[tokio::test]
async fn a_part_that_is_too_large_is_refused_by_the_plan() {
    let place = Place::new(OLD, Habits::default()).await;
    let mut reader = reader(&place.service);
    reader.endpoint.limits.file_bytes = 1000;
    let error = place.import_by(reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("at most 1000 are taken"), "{error}");
    assert_eq!(place.service.state().asked, 0);
    assert!(place.target.state().collection("", "docs").is_none());
}

/// Two pages of the documentation have two names for it.
#[tokio::test]
async fn jobs_are_described_by_either_name() {
    let progress = Habits { says_progress: true, loses_replies: 0..1, ..Habits::default() };
    assert_eq!(arrives(OLD, progress, 1).await, 3);
}

// ---- lost and late ----

#[tokio::test]
async fn a_lost_reply_is_settled_by_the_list() {
    let lost = Habits { loses_replies: 0..2, ignores_names: true, ..Habits::default() };
    assert_eq!(arrives(OLD, lost, 1).await, 3, "nothing was asked for twice");
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_lost_reply() {
    let babbles = Habits { babbles: 0..2, ignores_names: true, ..Habits::default() };
    assert_eq!(arrives(OLD, babbles, 1).await, 3);
}

#[tokio::test]
async fn a_lost_request_is_sent_again_under_its_name() {
    let lost = Habits { loses_requests: 0..2, ..Habits::default() };
    assert_eq!(arrives(OLD, lost, 1).await, 5);
}

/// A service that knows names makes nothing of the one that comes late.
#[tokio::test]
async fn a_request_that_comes_late_is_known_by_its_name() {
    let late = Habits { comes_late: Some((0, 3)), ..Habits::default() };
    assert_eq!(arrives(OLD, late, 1).await, 4);
}

/// One that does not know names loads the parts twice: that is noticed, and the collection is made anew.
#[tokio::test]
async fn parts_that_are_loaded_twice_are_loaded_anew() {
    let late = Habits { comes_late: Some((0, 3)), ignores_names: true, ..Habits::default() };
    assert_eq!(arrives(OLD, late, 2).await, 7);
}

/// Where jobs wait for a commit, the one that came late is given up, and nothing is there twice.
#[tokio::test]
async fn a_job_that_waits_is_given_up() {
    let late =
        Habits { comes_late: Some((0, 3)), ignores_names: true, two_phases: true, ..Habits::default() };
    let place = Place::new(NEW, late).await;
    let mut imported = place.import().await;
    if let Err(e) = &imported {
        // It was not that far yet.
        assert_eq!(e.kind(), ErrorKind::Temporary, "{e:?}");
        place.service.behaves(Habits { two_phases: true, ..Habits::default() });
        imported = place.import().await;
    }
    imported.unwrap();
    place.arrived();
    assert_eq!(place.completed() % 3, 0);
    assert!(place.service.state().log.contains(&"abort".to_string()), "{:?}", place.service.state().log);
}

/// The second time they are refused, since the job waits no longer.
#[tokio::test]
async fn commits_and_aborts_may_come_twice() {
    let loses = Habits { two_phases: true, loses_words: 2, ..Habits::default() };
    assert_eq!(arrives(NEW, loses, 1).await, 3);
    let loses = Habits { two_phases: true, loses_words: 1, counts_wrong: true, ..Habits::default() };
    let place = Place::new(NEW, loses).await;
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert!(error.to_string().contains("would have loaded 59 rows of 60"), "{error}");
}

/// The words of a refusal are not believed while the list says otherwise.
#[tokio::test]
async fn a_refusal_is_settled_by_the_list() {
    let denies = Habits { denies: 0..2, ignores_names: true, ..Habits::default() };
    assert_eq!(arrives(OLD, denies, 1).await, 3, "nothing was asked for twice");
}

/// Interrupted before the replies, and taken up when the jobs have ended: soon enough they are found
/// in the list; later a list without them proves nothing.
#[tokio::test]
async fn lost_replies_are_not_looked_up_after_hours() {
    for (hours, forgets) in [(1, false), (9, false), (9, true)] {
        let habits = Habits { ignores_names: true, ..Habits::default() };
        let place = Place::new(OLD, Habits { stands_still: true, ..habits.clone() }).await;
        let interrupted = tokio::time::timeout(Duration::from_secs(3), place.import()).await;
        assert!(interrupted.is_err(), "the jobs stand still");
        lose_replies(&place.folder.path().join("journal"), hours * 3600);
        place.service.behaves(habits);
        place.service.ends_all_jobs();
        if forgets {
            place.service.state().jobs.clear();
        }
        place.import().await.unwrap();
        place.arrived();
        let anew = place.target.state().changes.contains(&"DropCollection");
        assert_eq!(anew, forgets, "{hours}");
        assert_eq!(place.service.state().asked, if forgets { 6 } else { 3 });
    }
}

/// A job of the collection that was there before may still be at work: it is none of ours, and it
/// fails, since its collection is gone.
#[tokio::test]
async fn a_job_that_outlives_its_collection_loads_nothing() {
    let place = Place::new(OLD, Habits { stands_still: true, ..Habits::default() }).await;
    let interrupted = tokio::time::timeout(Duration::from_secs(3), place.import()).await;
    assert!(interrupted.is_err(), "the jobs stand still");
    place.target.state().drop_collection("docs");
    place.service.behaves(Habits::default());
    place.import().await.unwrap();
    assert_eq!(place.completed(), 3);
    place.service.ends_all_jobs();
    place.arrived();
    let state = place.service.state();
    assert!(state.jobs[..3].iter().all(|job| job.state == "Failed"), "{:?}", state.jobs);
}

/// An import that was interrupted goes on in the cluster in which its jobs are.
#[tokio::test]
async fn a_journal_is_of_one_cluster() {
    let place = Place::new(OLD, Habits { stands_still: true, ..Habits::default() }).await;
    let interrupted = tokio::time::timeout(Duration::from_secs(3), place.import()).await;
    assert!(interrupted.is_err(), "the jobs stand still");
    let mut other = reader(&place.service);
    other.endpoint.deployment = Deployment::Cluster("in01-other".into());
    let error = place.import_by(other).await.unwrap_err();
    assert!(error.to_string().contains("another cluster or project"), "{error}");
}

/// The list still has the jobs of a collection of the same name that was dropped, of these very files:
/// none of them is taken for the one that was lost, and none is looked at.
#[tokio::test]
async fn jobs_of_a_dropped_collection_are_not_ours() {
    let place = Place::new(OLD, Habits { ignores_names: true, ..Habits::default() }).await;
    place.import().await.unwrap();
    place.arrived();
    place.target.state().drop_collection("docs");
    {
        let mut state = place.service.state();
        let old = state.jobs[0].clone();
        for number in 0..250 {
            let mut job = old.clone();
            job.id = format!("job-old-{number}");
            state.jobs.push(job);
        }
        state.log.clear();
    }
    // Pages of a service may be shorter than asked for.
    let lost = Habits { loses_replies: 3..5, ignores_names: true, ..Habits::default() };
    place.service.behaves(Habits { caps_pages: Some(60), refuses_pages: true, ..lost });
    place.import().await.unwrap();
    place.arrived();
    let state = place.service.state();
    assert_eq!(state.asked, 6);
    assert!(state.log.iter().filter(|call| *call == "describe").count() < 50, "{:?}", state.log);
}

#[tokio::test]
async fn a_service_that_hides_files_is_given_the_collection_anew() {
    let hides = Habits { hides_files: true, ignores_names: true, ..Habits::default() };
    assert_eq!(arrives(OLD, hides.clone(), 1).await, 3, "nothing was lost");
    let place = Place::new(OLD, Habits { loses_replies: 0..1, ..hides.clone() }).await;
    let error = place.import().await.unwrap_err();
    assert!(error.to_string().contains("does not tell which files"), "{error}");
    place.service.behaves(hides);
    place.import().await.unwrap();
    place.arrived();
    assert!(place.target.state().changes.contains(&"DropCollection"));
}

#[tokio::test]
async fn replies_that_are_lost_every_time_end_the_import() {
    let place = Place::new(OLD, Habits { loses_requests: 0..100, ..Habits::default() }).await;
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error:?}");
    assert!(error.to_string().contains("were lost"), "{error}");
    place.service.behaves(Habits::default());
    place.import().await.unwrap();
    place.arrived();
}

// ---- jobs that fail ----

#[tokio::test]
async fn a_job_that_fails_is_tried_again() {
    let fails = Habits { fails: 0..2, reason: "the data node is gone", ..Habits::default() };
    assert_eq!(arrives(OLD, fails, 1).await, 5);
}

#[tokio::test]
async fn a_job_that_fails_three_times_ends_the_import() {
    let fails = Habits { fails: 0..99, reason: "the data node is gone", ..Habits::default() };
    let place = Place::new(OLD, fails).await;
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("failed 3 times: the data node is gone"), "{error}");
    place.service.behaves(Habits::default());
    place.import().await.unwrap();
    place.arrived();
}

#[tokio::test]
async fn what_the_service_cannot_read_is_said() {
    let reasons = [
        ("AccessDenied: Access Denied", ErrorKind::Denied, "--cloud-key"),
        ("NoSuchKey: the specified key does not exist", ErrorKind::Usage, "--cloud-objects"),
    ];
    for (reason, kind, hint) in reasons {
        let place = Place::new(OLD, Habits { fails: 0..99, reason, ..Habits::default() }).await;
        let error = place.import().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(reason) && error.hint_text().unwrap().contains(hint), "{error:?}");
        place.service.behaves(Habits::default());
        place.import().await.unwrap();
        place.arrived();
    }
}

#[tokio::test]
async fn a_job_that_loads_less_is_an_error() {
    let place = Place::new(OLD, Habits { loses_a_row: true, ..Habits::default() }).await;
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert!(error.to_string().contains("has loaded 59 rows of 60"), "{error}");
}

/// Before anything of it is visible; the same command then goes on.
#[tokio::test]
async fn a_job_that_counts_wrong_is_not_committed() {
    let habits = Habits { two_phases: true, counts_wrong: true, ..Habits::default() };
    let place = Place::new(NEW, habits).await;
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert!(error.to_string().contains("would have loaded 59 rows of 60"), "{error}");
    assert_eq!(place.target.contents("docs"), []);
    assert!(place.service.state().log.contains(&"abort".to_string()));
    assert!(!place.service.state().log.contains(&"commit".to_string()));
    place.service.behaves(Habits { two_phases: true, ..Habits::default() });
    place.import().await.unwrap();
    place.arrived();
}

#[tokio::test]
async fn forgotten_jobs_begin_the_collection_anew() {
    let place = Place::new(OLD, Habits { stands_still: true, ..Habits::default() }).await;
    let interrupted = tokio::time::timeout(Duration::from_secs(4), place.import()).await;
    assert!(interrupted.is_err(), "the jobs stand still");
    assert_eq!(place.service.state().jobs.len(), 3);
    place.service.behaves(Habits { forgets: true, ..Habits::default() });
    let error = place.import().await.unwrap_err();
    // They are made anew, and then the service forgets those as well.
    assert!(error.to_string().contains("does not know job"), "{error}");
    place.service.behaves(Habits::default());
    place.import().await.unwrap();
    place.arrived();
    assert!(place.target.state().changes.contains(&"DropCollection"));
}

// ---- before anything is touched ----

#[tokio::test]
async fn what_is_refused_at_once_touches_nothing() {
    let place = Place::new(OLD, Habits::default()).await;
    let mut wrong_key = reader(&place.service);
    wrong_key.endpoint = place.service.endpoint_with("canary-of-another-key");
    let mut unknown = reader(&place.service);
    unknown.endpoint.deployment = Deployment::Cluster("in01-unknown".into());
    let cases = [
        (wrong_key, ErrorKind::Denied, "21119", "MILVUS_HANDOFF_CLOUD_API_KEY"),
        (unknown, ErrorKind::NotFound, "does not exist", "--cloud-cluster"),
    ];
    for (reader, kind, what, hint) in cases {
        let error = place.import_by(reader).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(what) && error.hint_text().unwrap().contains(hint), "{error:?}");
        // The answer repeats the key that it was sent.
        assert!(!format!("{error:?}{error}").contains("canary"), "{error:?}");
        assert!(place.target.state().collection("", "docs").is_none());
        assert!(!place.folder.path().join("journal").exists());
    }
}

/// Every byte of a part is read before the first job, whatever its size and name say.
#[tokio::test]
async fn an_altered_part_is_found_before_the_first_job() {
    let place = Place::new(OLD, Habits::default()).await;
    let mut folders = vec![place.folder.path().join("snap/data")];
    let part = loop {
        let entry = std::fs::read_dir(folders.pop().unwrap()).unwrap().next().unwrap().unwrap().path();
        if entry.is_file() {
            break entry;
        }
        folders.push(entry);
    };
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let error = place.import().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert_eq!(place.service.state().log, [] as [String; 0]);
    assert!(place.target.state().collection("", "docs").is_none());
}

// ---- answers ----

#[tokio::test]
async fn too_many_requests_are_sent_later() {
    assert_eq!(arrives(OLD, Habits { too_many: 0..3, ..Habits::default() }, 1).await, 3);
    // Those for jobs were not done.
    assert_eq!(arrives(OLD, Habits { too_many: 2..5, ..Habits::default() }, 1).await, 3);
}

#[tokio::test]
async fn a_gateway_that_fails_is_asked_again() {
    let fails = (3..6, 502, "<html>Bad Gateway</html>".to_string());
    let place = Place::new(OLD, Habits { answers: Some(fails), ..Habits::default() }).await;
    place.import().await.unwrap();
    place.arrived();
}

#[tokio::test]
async fn answers_that_are_not_documented_are_said_and_bounded() {
    let huge = format!(r#"{{"code":0,"message":"{}"}}"#, "x".repeat(5 << 20));
    let long = format!(r#"{{"code":7,"message":"{}"}}"#, "x".repeat(1 << 20));
    let cases = [
        (200, "<html>welcome</html>".to_string(), "not the documented JSON"),
        (200, r#"{"code":0,"data":{"records":[{"jobId":1}]}}"#.to_string(), "state"),
        (200, r#"{"code":0,"data":{"count":1}}"#.to_string(), "`records`"),
        (302, String::new(), "not followed"),
        (200, huge, "more than 4194304 bytes"),
        (200, long, "..."),
    ];
    let place = Place::new(OLD, Habits::default()).await;
    let elsewhere = Place::new(OLD, Habits::default()).await;
    for (status, body, what) in cases {
        // A redirect would lead to a server that answers well.
        let leads = Some(format!("{}/v2/vectordb/jobs/import/list", elsewhere.service.address()));
        place.service.behaves(Habits { answers: Some((0..99, status, body)), leads, ..Habits::default() });
        let error = place.import().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains(what) && text.len() < 3000, "{what}: {text}");
        assert!(place.target.state().collection("", "docs").is_none());
        assert_eq!(elsewhere.service.state().log, [] as [String; 0], "{what}");
    }
}

// ---- ends at any moment ----

/// Kills of one import, at most.
const KILLS: u64 = 12;

/// Killed again and again, at moments that differ, until it is through: no part is loaded twice.
async fn is_killed_often(tag: &str, habits: Habits, seed: u64) {
    let place = Place::new(tag, habits).await;
    let file = key_file(&place);
    let args = ["--cloud-cluster", CLUSTER, "--cloud-key", &file, "--cloud-objects", "s3://handoff/acme"];
    let mut word = seed;
    let mut runs = 0;
    loop {
        runs += 1;
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Then it has time: a request that was lost is looked for before it is sent again.
        let end = if runs > KILLS { 600_000 } else { 30 + (word >> 33) % (400 + 300 * runs) };
        let end = Duration::from_millis(end);
        let mut command = tool(&place, &args, &[API]);
        let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        match tokio::time::timeout(end, process.wait()).await {
            Err(_) => {
                process.kill().await.unwrap();
                // It may have been through: its journal is gone before it ends.
                let there = place.target.state().collection("", "docs").is_some();
                if there && !place.folder.path().join("journal").exists() {
                    break;
                }
            }
            Ok(ended) => {
                let said = process.wait_with_output().await.unwrap().stderr;
                let said = String::from_utf8_lossy(&said);
                assert!(ended.unwrap().success(), "seed {seed}, run {runs}: {said}");
                break;
            }
        }
    }
    place.arrived();
    let state = place.service.state();
    let mut loaded: Vec<_> =
        state.jobs.iter().filter(|job| job.state == "Completed").flat_map(service::Job::files).collect();
    let all = loaded.len();
    loaded.sort();
    loaded.dedup();
    assert_eq!(loaded.len(), all, "a part was loaded twice (seed {seed}, {runs} runs)");
}

#[tokio::test]
async fn an_import_that_is_killed_often_loads_nothing_twice() {
    for seed in 1..4 {
        is_killed_often(OLD, Habits::default(), seed).await;
    }
}

#[tokio::test]
async fn nor_where_jobs_wait_for_a_commit() {
    for seed in 11..13 {
        is_killed_often(NEW, Habits { two_phases: true, ..Habits::default() }, seed).await;
    }
}

// ---- the choice ----

#[tokio::test]
async fn auto_says_why() {
    let place = Place::new(OLD, Habits { stands_still: true, ..Habits::default() }).await;
    let route = Route::Cloud(Box::new(reader(&place.service)));
    let auto = Options {
        via: Via::Auto(Some(route)),
        plan_only: true,
        ..options(&place.into, place.folder.path(), reader(&place.service))
    };
    let outcome = import_as(&auto, place.folder.path()).await.unwrap();
    let chosen = outcome.chosen.unwrap();
    assert!(outcome.via == "insert" && chosen.contains("less than 4.00 GiB"), "{chosen}");
    let mut small = reader(&place.service);
    small.endpoint.limits.file_bytes = 1000;
    let narrow = Options { via: Via::Auto(Some(Route::Cloud(Box::new(small)))), ..auto.clone() };
    let chosen = import_as(&narrow, place.folder.path()).await.unwrap().chosen.unwrap();
    assert!(chosen.contains("at most 1000 are taken"), "{chosen}");
    let interrupted = tokio::time::timeout(Duration::from_secs(3), place.import()).await;
    assert!(interrupted.is_err(), "the jobs stand still");
    place.service.behaves(Habits::default());
    let auto = Options { plan_only: false, ..auto };
    let outcome = import_as(&auto, place.folder.path()).await.unwrap();
    assert_eq!(
        (outcome.via, outcome.chosen.as_deref()),
        ("bulk", Some("an earlier run of this import has begun that way"))
    );
    place.arrived();
}

// ---- the command ----

const API: (&str, &str) = ("MILVUS_HANDOFF_CLOUD_API_KEY", API_KEY);

/// A key as the AWS command line prints it.
fn key_file(place: &Place) -> String {
    let file = place.folder.path().join("key.json");
    let printed = format!(
        r#"{{"Credentials":{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","SessionToken":"{SESSION}"}}}}"#
    );
    std::fs::write(&file, printed).unwrap();
    file.to_str().unwrap().to_string()
}

fn tool(place: &Place, args: &[&str], env: &[(&str, &str)]) -> Command {
    let snapshot = format!("file://{}", place.folder.path().join("snap").display());
    let journal = place.folder.path().join("journal");
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    command
        .args(["import", &snapshot, "--target", &place.into.address, "--via", "bulk"])
        .args(["--cloud-endpoint", place.service.address(), "--journal", journal.to_str().unwrap()])
        .args(args)
        .env_clear()
        .envs(["PATH", "TMPDIR", "LD_LIBRARY_PATH"].iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

async fn command(place: &Place, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = tool(place, args, env);
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Neither the API key nor the key of the bucket is printed, whatever happens, and neither is in the
/// journal.
#[tokio::test]
async fn secrets_are_not_printed() {
    let place = Place::new(OLD, Habits { loses_replies: 0..1, ..Habits::default() }).await;
    let file = key_file(&place);
    let args =
        ["--cloud-cluster", CLUSTER, "--cloud-key", &file, "--cloud-objects", "s3://handoff/acme/", "-vv"];
    // A service that repeats what it was given.
    let told = format!("with {API_KEY}, {SECRET_KEY} and {SESSION}").leak();
    place.service.behaves(Habits { fails: 0..99, reason: told, ..Habits::default() });
    let (code, failed) = command(&place, &args, &[API]).await;
    assert_ne!(code, Some(0), "{failed}");
    assert!(failed.contains("with (a secret), (a secret) and (a secret)"), "{failed}");
    let journal = std::fs::read_to_string(place.folder.path().join("journal")).unwrap();
    place.service.behaves(Habits { loses_replies: 3..4, ..Habits::default() });
    let (code, through) = command(&place, &args, &[API]).await;
    assert_eq!(code, Some(0), "{through}");
    place.arrived();
    for secret in [API_KEY, SECRET_KEY, SESSION] {
        for text in [&failed, &journal, &through] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

/// With the credentials of this process, and what is missing or does not fit.
#[tokio::test]
async fn the_command_says_what_it_needs() {
    let place = Place::new(OLD, Habits::default()).await;
    let cases: [(&[&str], bool, &str); 6] = [
        (&[], false, "needs a place from which the server reads"),
        (&["--cloud-cluster", CLUSTER], false, "no API key"),
        (&["--cloud-cluster", CLUSTER], true, "has to be given a key"),
        (&["--cloud-key", "chain"], true, "without a cluster"),
        (&["--cloud-cluster", CLUSTER, "--cloud-key", "chain"], true, "no service elsewhere can read"),
        (&["--cloud-cluster", CLUSTER, "--cloud-key", "/dev/null"], true, "there is no key in the file"),
    ];
    for (args, has_api_key, what) in cases {
        let env = if has_api_key { &[API][..] } else { &[] };
        let (code, text) = command(&place, args, env).await;
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(what), "{args:?}: {text}");
    }
    let args = ["--cloud-cluster", CLUSTER, "--cloud-key", "chain", "--cloud-objects", "s3://handoff/acme"];
    let chain = [
        API,
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", SESSION),
    ];
    let (code, text) = command(&place, &args, &chain).await;
    assert_eq!(code, Some(0), "{text}");
    place.arrived();
}
