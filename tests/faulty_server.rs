//! What goes wrong between a client and a server, against a Milvus in memory: writes during an
//! export, short and repeated pages, restarts, lost replies.

mod fake;

use fake::cell::{Cell, Declared, insert_column};
use fake::moves::{export, export_options, import, store};
use fake::{Fake, Habits, Key, State, pair};
use milvus::proto::milvus::CreateCollectionRequest;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema, FloatArray, LongArray};
use milvus_handoff::error::{self, ErrorKind};
use milvus_handoff::export;
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::opened::{self, Trust};
use milvus_handoff::signature::{self, SigningKey};
use milvus_handoff::snapshot::Consistency;
use milvus_handoff::stop::Stop;
use prost::Message;
use std::sync::Arc;

const ROWS: i64 = 250;
const OLD: &str = "v2.3.5";
const NEW: &str = "v2.6.3";

fn fields() -> [FieldSchema; 2] {
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
    [id, vector]
}

fn row(key: i64, value: f32) -> [Option<Cell>; 2] {
    let key = Cell::Scalar(Scalars::LongData(LongArray { data: vec![key] }));
    let vector = Cell::Vector(Vectors::FloatVector(FloatArray { data: vec![value, -value] }));
    [Some(key), Some(vector)]
}

/// Starts a server with rows 0, 2, 4, ... and gives its address.
async fn serve(tag: &str, habits: Habits) -> (Fake, Endpoint) {
    let (fake, endpoint) = Fake::start(tag, habits).await;
    let schema = CollectionSchema { name: "docs".into(), fields: fields().to_vec(), ..Default::default() };
    fake.create(CreateCollectionRequest {
        collection_name: "docs".into(),
        schema: schema.encode_to_vec(),
        shards_num: 1,
        ..Default::default()
    });
    fake.index("docs", "v", &[("metric_type", "IP")]);
    let rows: Vec<_> = (0..ROWS).map(|key| row(key * 2, key as f32 / 8.0)).collect();
    let column = |(at, field): (usize, FieldSchema)| {
        let cells: Vec<_> = rows.iter().map(|row| row[at].clone()).collect();
        insert_column(&Declared::Field(field), &cells)
    };
    fake.fill("docs", "", ROWS as u32, fields().into_iter().enumerate().map(column).collect());
    (fake, endpoint)
}

/// Exports the rows from a server with the given habits.
async fn outcome(tag: &str, habits: Habits) -> error::Result<export::Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let (_, endpoint) = serve(tag, habits).await;
    export(&endpoint, folder.path()).await
}

/// Forty rows come in behind the first page.
fn writes_meanwhile() -> Habits {
    let write = |state: &mut State| {
        (1..=40).for_each(|new| state.put("docs", Key::Int(-new), row(-new, 0.5).to_vec()));
    };
    Habits { meanwhile: Some(Arc::new(write)), ..Habits::default() }
}

#[tokio::test]
async fn a_server_that_pins_is_read_at_one_moment() {
    let outcome = outcome(NEW, writes_meanwhile()).await.unwrap();
    let docs = &outcome.collections[0];
    assert_eq!(docs.rows, 250, "rows that came later are not in it");
    assert_eq!(docs.server_count, Some(250), "and are not counted");
    assert!(matches!(docs.consistency, Some(Consistency::Pinned(_))), "{:?}", docs.consistency);
}

#[tokio::test]
async fn writes_are_seen_on_a_server_that_cannot_pin() {
    let error = outcome(OLD, writes_meanwhile()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error}");
}

#[tokio::test]
async fn a_short_page_is_not_the_end() {
    let outcome = outcome(OLD, Habits { short_pages: Some(7), ..Habits::default() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

#[tokio::test]
async fn pages_that_are_too_large_are_halved() {
    let outcome = outcome(NEW, Habits { too_large_above: Some(13), ..Habits::default() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

#[tokio::test]
async fn a_single_row_that_is_too_large_is_an_error() {
    let error = outcome(OLD, Habits { too_large_above: Some(0), ..Habits::default() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_page_that_comes_twice_is_refused() {
    let error = outcome(OLD, Habits { repeats_a_page: true, ..Habits::default() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert!(error.to_string().contains("out of order"), "{error}");
}

#[tokio::test]
async fn a_row_that_is_counted_and_never_handed_out_is_an_error() {
    for tag in [OLD, NEW] {
        let error =
            outcome(tag, Habits { hides: Some(Key::Int(100)), ..Habits::default() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        assert!(error.to_string().contains("counts 250 rows, but hands out 249"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let outcome = outcome(OLD, Habits { unavailable: 2, ..Habits::default() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

/// Imports the rows into a server with the given habits; there they must be once, as they were.
async fn arrives(habits: Habits) {
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = serve(NEW, Habits::default()).await;
    export(&from, folder.path()).await.unwrap();
    let (target, into) = Fake::start(NEW, habits).await;
    let outcome = import(&into, folder.path()).await.unwrap();
    assert_eq!(outcome.collections[0].server_count, Some(ROWS as u64));
    let metric = target.state().collection("", "docs").unwrap().indexes[0].params.clone();
    assert!(metric.contains(&pair("metric_type", "IP")), "the index has the source's metric: {metric:?}");
    assert_eq!(target.contents("docs"), source.contents("docs"));
}

#[tokio::test]
async fn an_insert_whose_reply_is_lost_is_there_once() {
    arrives(Habits { loses_a_reply: true, ..Habits::default() }).await;
}

#[tokio::test]
async fn an_insert_that_is_told_to_wait_is_there_once() {
    arrives(Habits { rate_limited: 3, ..Habits::default() }).await;
}

/// Killed between the signature and the commit, an export goes on to the same commit, which the
/// signature is of.
#[tokio::test]
async fn an_export_is_signed_before_it_exists() {
    let (_fake, endpoint) = serve(OLD, Habits::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::open(&signature::generate(None).unwrap().0).unwrap();
    let trust = Trust { expect: None, keys: vec![key.public().unwrap()] };
    let options = export::Options { sign: Some(key), ..export_options(&endpoint) };
    let outcome = export::run(&options, store(folder.path()).await, &Stop::never()).await.unwrap();
    assert_eq!(outcome.signed_by, Some(trust.keys[0].id()));
    let opened = opened::open(store(folder.path()).await.as_ref(), &trust).await.unwrap();

    std::fs::remove_file(folder.path().join("snap/COMMIT.json")).unwrap();
    let again = export::run(&options, store(folder.path()).await, &Stop::never()).await.unwrap();
    assert_eq!(again.commit, outcome.commit);
    let reopened = opened::open(store(folder.path()).await.as_ref(), &trust).await.unwrap();
    assert_eq!(reopened.signatures, opened.signatures);
}
