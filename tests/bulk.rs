//! Bulk imports into a Milvus in memory: requests and replies that are lost, that come late, jobs
//! that fail, stand still or are forgotten, and servers that tell little of their jobs.

mod fake;

use fake::bulk::BulkHabits;
use fake::cell::{Cell, Declared, insert_column};
use fake::moves::{export, import_as, import_options, lose_replies};
use fake::{Fake, Habits, pair};
use milvus::proto::common::ImportState;
use milvus::proto::milvus::CreateCollectionRequest;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema, FloatArray, LongArray};
use milvus_handoff::error::{self, ErrorKind};
use milvus_handoff::import::{Options, Outcome, Place, Route, Via};
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::store::{Access, SnapshotUrl};
use prost::Message;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const OLD: &str = "v2.3.5";
const NEW: &str = "v2.6.3";
const ROWS: i64 = 90;

/// A snapshot of three partitions, each a part.
async fn snapshot() -> (TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let (fake, endpoint) = Fake::start(NEW, Habits::default()).await;
    let id = FieldSchema {
        name: "id".into(),
        data_type: DataType::Int64 as i32,
        is_primary_key: true,
        ..Default::default()
    };
    let vector = FieldSchema {
        name: "v".into(),
        data_type: DataType::FloatVector as i32,
        type_params: vec![pair("dim", "2")],
        ..Default::default()
    };
    let fields = [id, vector];
    let schema = CollectionSchema { name: "docs".into(), fields: fields.to_vec(), ..Default::default() };
    fake.create(CreateCollectionRequest {
        collection_name: "docs".into(),
        schema: schema.encode_to_vec(),
        shards_num: 1,
        ..Default::default()
    });
    fake.index("docs", "v", &[("metric_type", "IP")]);
    for (number, partition) in ["", "p1", "p2"].into_iter().enumerate() {
        if !partition.is_empty() {
            fake.state().collection("", "docs").unwrap().partitions.push(partition.into());
        }
        let rows = ROWS / 3;
        let keys: Vec<i64> = (0..rows).map(|row| row * 3 + number as i64).collect();
        let cells = |of: &dyn Fn(i64) -> Cell| keys.iter().map(|key| Some(of(*key))).collect::<Vec<_>>();
        let key = cells(&|key| Cell::Scalar(Scalars::LongData(LongArray { data: vec![key] })));
        let value =
            cells(&|key| Cell::Vector(Vectors::FloatVector(FloatArray { data: vec![key as f32, 0.5] })));
        let columns = fields.iter().cloned().zip([key, value]);
        let columns = columns.map(|(field, cells)| insert_column(&Declared::Field(field), &cells)).collect();
        fake.fill("docs", partition, rows as u32, columns);
    }
    export(&endpoint, folder.path()).await.unwrap();
    std::fs::create_dir(folder.path().join("stage")).unwrap();
    (folder, fake)
}

fn options(target: &Endpoint, folder: &Path) -> Options {
    let place = Place { url: SnapshotUrl::File { path: folder.join("stage") }, access: Access::default() };
    Options {
        via: Via::Is(Route::Bulk(place)),
        journal: Some(folder.join("journal")),
        ..import_options(target)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("stage")];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

async fn import(target: &Endpoint, folder: &Path) -> error::Result<Outcome> {
    import_as(&options(target, folder), folder).await
}

fn bulk(bulk: BulkHabits) -> Habits {
    Habits { bulk, ..Habits::default() }
}

/// Imports into a server with these habits, and again after every temporary error, which changes
/// what the server does as `then` says. In the end all is there once. Gives the number of requests
/// for jobs.
async fn arrives(tag: &str, habits: BulkHabits, runs: usize, then: Option<BulkHabits>) -> usize {
    let (folder, source) = snapshot().await;
    let (target, into) = Fake::start(tag, bulk(habits)).await;
    for run in 1.. {
        match import(&into, folder.path()).await {
            Ok(_) => {
                assert_eq!(run, runs);
                break;
            }
            Err(e) => {
                assert!(run < runs && e.kind() == ErrorKind::Temporary, "run {run}: {e:?}");
                target.ends_all_jobs();
                if let Some(then) = &then {
                    target.behaves(bulk(then.clone()));
                }
            }
        }
    }
    assert_eq!(target.contents("docs"), source.contents("docs"));
    assert_eq!(files(folder.path()), [] as [PathBuf; 0], "copies are left in the stage");
    assert!(!folder.path().join("journal").exists());
    target.state().jobs.requests
}

#[tokio::test]
async fn every_part_is_one_job() {
    for tag in [OLD, "v2.4.19", NEW] {
        assert_eq!(arrives(tag, BulkHabits::default(), 1, None).await, 3, "{tag}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_settled_by_the_list() {
    let lost = BulkHabits { loses_replies: 0..2, ..Default::default() };
    assert_eq!(arrives(NEW, lost, 1, None).await, 3, "nothing was asked for twice");
}

/// Where such a job may run twice, the collection is made anew.
#[tokio::test]
async fn a_lost_reply_of_a_server_that_runs_jobs_twice() {
    for lost in [0..1, 1..2, 2..3] {
        let lost = BulkHabits { loses_replies: lost, ..Default::default() };
        let asked = arrives(OLD, lost, 2, None).await;
        assert!((4..=6).contains(&asked), "three parts were asked for {asked} times");
    }
}

#[tokio::test]
async fn a_lost_request_is_sent_again_under_another_name() {
    let lost = BulkHabits { loses_requests: 0..2, ..Default::default() };
    assert_eq!(arrives(OLD, lost, 1, None).await, 5);
}

/// It arrives between the two looks, or after both: its copy is gone, so it loads nothing.
#[tokio::test]
async fn a_request_that_comes_late_loads_nothing() {
    for lists in 1..4 {
        let late = BulkHabits { comes_late: Some((0, lists)), ..Default::default() };
        assert_eq!(arrives(NEW, late.clone(), 1, None).await, 4, "{lists}");
        // The first list brings it in, the second has it.
        let runs = if lists == 1 { 2 } else { 1 };
        arrives(OLD, late, runs, None).await;
    }
}

#[tokio::test]
async fn a_full_server_is_waited_for() {
    let full = BulkHabits { is_full: 1..3, ..Default::default() };
    assert_eq!(arrives(NEW, full, 1, None).await, 5);
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again() {
    let fails = BulkHabits { fails: 0..2, ..Default::default() };
    assert_eq!(arrives(OLD, fails, 1, None).await, 5);
}

/// The third failure ends it, with the server's own words; nothing of that part is in, and once the
/// server can, the same command goes on.
#[tokio::test]
async fn a_job_that_fails_three_times_ends_the_import() {
    let (folder, source) = snapshot().await;
    let (target, into) = Fake::start(OLD, bulk(BulkHabits { fails: 1..9, ..Default::default() })).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("failed 3 times: the data node is gone"), "{error}");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("--via insert") && hint.contains("stage/milvus-handoff-"), "{hint}");
    assert_eq!(files(folder.path()).len(), 3, "the copies are kept");
    target.behaves(Habits::default());
    let outcome = import(&into, folder.path()).await.unwrap();
    assert_eq!((outcome.resumed_parts, outcome.via), (1, "bulk"));
    assert_eq!(target.contents("docs"), source.contents("docs"));
}

#[tokio::test]
async fn a_job_that_says_less_rows_is_an_error() {
    let (folder, _) = snapshot().await;
    let (_, into) = Fake::start(OLD, bulk(BulkHabits { loses_a_row: true, ..Default::default() })).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert!(error.to_string().contains("has loaded 29 rows of 30"), "{error}");
}

/// Where the list has no files, a request that was lost cannot be told from one that was not, unless
/// every job is known: the collection is made anew.
#[tokio::test]
async fn a_server_that_hides_files_is_given_the_collection_anew() {
    for hides_numbers in [false, true] {
        let hides = BulkHabits { hides_files: true, hides_numbers, ..Default::default() };
        assert_eq!(arrives(NEW, hides.clone(), 1, None).await, 3, "nothing was lost");
        let reply = BulkHabits { loses_replies: 1..2, ..hides.clone() };
        assert_eq!(arrives(NEW, reply, 2, None).await, 5);
        let request = BulkHabits { loses_requests: 1..2, ..hides };
        assert_eq!(arrives(NEW, request, 1, None).await, 4, "every job is known, so this one is not there");
    }
}

/// The words of a refusal are not believed while the list says otherwise.
#[tokio::test]
async fn a_refusal_is_settled_by_the_list() {
    let denies = BulkHabits { denies: 0..2, ..Default::default() };
    assert_eq!(arrives(NEW, denies.clone(), 1, None).await, 3, "nothing was asked for twice");
    assert!(arrives(OLD, denies, 3, None).await > 3, "there it may run twice");
}

/// Jobs that are no longer remembered are no measure of how many there should be.
#[tokio::test]
async fn jobs_that_were_forgotten_do_not_count() {
    let hides = BulkHabits { hides_files: true, hides_numbers: true, ..Default::default() };
    let lost = BulkHabits { loses_replies: 2..3, forgets_first: 2, ..hides };
    assert_eq!(arrives(NEW, lost, 2, None).await, 6);
}

/// Interrupted before the reply, and taken up when the job has ended: soon enough it is found in the
/// list; later a list without it proves nothing.
#[tokio::test]
async fn a_lost_reply_is_not_looked_up_after_hours() {
    for (hours, forgets) in [(1, false), (9, false), (9, true)] {
        let (folder, source) = snapshot().await;
        let stands = bulk(BulkHabits { stands_still: true, ..Default::default() });
        let (target, into) = Fake::start(NEW, stands).await;
        let interrupted =
            tokio::time::timeout(std::time::Duration::from_secs(2), import(&into, folder.path())).await;
        assert!(interrupted.is_err(), "the job stands still");
        lose_replies(&folder.path().join("journal"), hours * 3600);
        target.behaves(Habits::default());
        target.ends_all_jobs();
        if forgets {
            target.state().jobs.all.clear();
        }
        import(&into, folder.path()).await.unwrap();
        assert_eq!(target.contents("docs"), source.contents("docs"), "{hours} {forgets}");
        let drops = target.state().changes.iter().filter(|rpc| **rpc == "DropCollection").count();
        assert_eq!(drops, usize::from(forgets), "{hours}");
    }
}

/// Interrupted while a job runs, and taken up when the server has forgotten it.
#[tokio::test]
async fn forgotten_jobs_begin_the_collection_anew() {
    let (folder, source) = snapshot().await;
    let (target, into) =
        Fake::start(OLD, bulk(BulkHabits { stands_still: true, ..Default::default() })).await;
    let interrupted =
        tokio::time::timeout(std::time::Duration::from_secs(2), import(&into, folder.path())).await;
    assert!(interrupted.is_err(), "the job stands still");
    assert_eq!(target.state().jobs.all[0].state, ImportState::ImportStarted);
    target.behaves(bulk(BulkHabits { forgets: true, ..Default::default() }));
    let error = import(&into, folder.path()).await.unwrap_err();
    // It is made anew, and then the server forgets that job as well.
    assert!(error.to_string().contains("does not know job"), "{error}");
    target.behaves(Habits::default());
    import(&into, folder.path()).await.unwrap();
    assert_eq!(target.contents("docs"), source.contents("docs"));
    let drops = target.state().changes.iter().filter(|rpc| **rpc == "DropCollection").count();
    assert!(drops >= 1, "{:?}", target.state().changes);
}
