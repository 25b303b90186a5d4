//! What goes wrong between a client and a server, against a Milvus in memory: writes during an
//! export, short and repeated pages, restarts, lost replies, silence, quotas, messages that are too
//! large, and collections that somebody drops, makes anew or changes meanwhile.

mod fake;

use fake::cell::{Cell, Declared, insert_column};
use fake::moves::{self, export, export_options, import, import_as, import_options, store};
use fake::{Event, Fake, Habits, Key, State, pair};
use milvus::proto::milvus::CreateCollectionRequest;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema, FloatArray, LongArray};
use milvus_handoff::error::{self, ErrorKind};
use milvus_handoff::milvus::{Endpoint, Patience, Token};
use milvus_handoff::opened::{self, Trust};
use milvus_handoff::signature::{self, SigningKey};
use milvus_handoff::snapshot::Consistency;
use milvus_handoff::stop::Stop;
use milvus_handoff::{export, import as importing};
use prost::Message;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

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

/// Every n-th request, whatever it is, finds the server restarting: what can be repeated is, and
/// what cannot ends the command, which goes on when it is run again.
#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    for every in [5, 7, 11] {
        let restarts = Habits { unavailable_every: Some(every), ..Habits::default() };
        let folder = tempfile::tempdir().unwrap();
        let (source, from) = serve(OLD, restarts.clone()).await;
        let mut runs = 0;
        while let Err(error) = export(&from, folder.path()).await {
            runs += 1;
            assert!(runs < 20, "every {every}: it never ends: {error}");
            assert_eq!(error.kind(), ErrorKind::Temporary, "every {every}: {error}");
        }
        let (target, into) = Fake::start(NEW, restarts).await;
        while let Err(error) = import_on(&into, folder.path()).await {
            runs += 1;
            assert!(runs < 40, "every {every}: it never ends: {error}");
            assert_eq!(error.kind(), ErrorKind::Temporary, "every {every}: {error}");
        }
        assert_eq!(target.contents("docs"), source.contents("docs"), "every {every}");
    }
}

/// A snapshot of the rows in three parts, and the server that they come from.
async fn snapshot() -> (TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let (source, from) = serve(NEW, Habits::default()).await;
    let options = export::Options { part_size: 1, ..moves::export_options(&from) };
    let outcome = export::run(&options, moves::store(folder.path()).await, &Stop::never()).await.unwrap();
    assert_eq!(outcome.totals.parts, 3);
    (folder, source)
}

/// Imports everything, and goes on where an earlier import into the same target ended.
async fn import_on(target: &Endpoint, folder: &Path) -> error::Result<importing::Outcome> {
    let journal = Some(folder.join("journal"));
    import_as(&importing::Options { journal, ..import_options(target) }, folder).await
}

/// A client that gives up soon.
const SOON: Duration = Duration::from_millis(500);
const HASTY: Patience = Patience { reply: SOON, restart: SOON, memory: SOON };

fn hasty(endpoint: &Endpoint) -> Endpoint {
    Endpoint { patience: HASTY, ..endpoint.clone() }
}

/// Imports the rows into a server with the given habits; there they must be once, as they were.
async fn arrives(habits: Habits, patience: Patience) {
    let (folder, source) = snapshot().await;
    let (target, into) = Fake::start(NEW, habits).await;
    let outcome = import(&Endpoint { patience, ..into }, folder.path()).await.unwrap();
    assert_eq!(outcome.collections[0].server_count, Some(ROWS as u64));
    let metric = target.state().collection("", "docs").unwrap().indexes[0].params.clone();
    assert!(metric.contains(&pair("metric_type", "IP")), "the index has the source's metric: {metric:?}");
    assert_eq!(target.contents("docs"), source.contents("docs"));
}

/// An import into a server that behaves again goes on, and every row is there once.
async fn goes_on(source: &Fake, target: &Fake, into: &Endpoint, folder: &Path) {
    target.behaves(Habits::default());
    import_on(into, folder).await.unwrap();
    assert_eq!(target.contents("docs"), source.contents("docs"));
}

#[tokio::test]
async fn an_insert_whose_reply_is_lost_is_there_once() {
    arrives(Habits { loses_a_reply: true, ..Habits::default() }, Patience::default()).await;
}

#[tokio::test]
async fn an_insert_that_is_told_to_wait_is_there_once() {
    let limit = (0..3, 8, "rate limit exceeded");
    arrives(Habits { refuses_inserts: Some(limit), ..Habits::default() }, Patience::default()).await;
}

/// What a server says goes into our messages; what it was told in confidence must not come back there.
#[tokio::test]
async fn a_server_that_repeats_the_token_does_not_make_us_repeat_it() {
    let echo = "you sent root:open-sesame, cm9vdDpvcGVuLXNlc2FtZQ==, that is open-sesame";
    let (folder, _) = snapshot().await;
    let refuses = Habits { refuses_inserts: Some((0..9, 1400, echo)), ..Habits::default() };
    let (_, into) = Fake::start(NEW, refuses).await;
    let into = Endpoint { token: Some(Token::new("root:open-sesame")), ..into };
    let error = format!("{:?}", import(&into, folder.path()).await.unwrap_err());
    assert!(error.contains("you sent (the token), (the token), that is (the token)"), "{error}");
    assert!(!error.contains("sesame") && !error.contains("c2VzYW1l"), "{error}");
}

// ---- quotas ----

const MEMORY: &str = "quota exceeded[reason=memory quota exhausted, please allocate more resources]";
const DISK: &str = "quota exceeded[reason=disk quota exhausted, please allocate more resources]";
const DENIED: &str = "quota exceeded[reason=access has been disabled by the administrator]";

#[tokio::test]
async fn memory_that_is_used_up_is_waited_for_longer_than_a_restart() {
    let habits = Habits { refuses_inserts: Some((1..4, 9, MEMORY)), ..Habits::default() };
    arrives(habits, Patience { restart: Duration::ZERO, ..Patience::default() }).await;
}

#[tokio::test]
async fn quotas_that_do_not_pass_end_an_import_which_goes_on_later() {
    for (text, kind, hint) in [
        (MEMORY, ErrorKind::Temporary, "memory"),
        (DISK, ErrorKind::Temporary, "does not pass by itself"),
        (DENIED, ErrorKind::Denied, "administrator"),
    ] {
        let (folder, source) = snapshot().await;
        let refuses = Habits { refuses_inserts: Some((1..usize::MAX, 9, text)), ..Habits::default() };
        let (target, into) = Fake::start(NEW, refuses).await;
        let error = import_on(&hasty(&into), folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.hint_text().unwrap().contains(hint), "{error:?}");
        let tries = target.state().changes.iter().filter(|change| **change == "Insert").count();
        // The first part, and the second: only for memory is it worth while to come again.
        assert_eq!(tries > 2, text == MEMORY, "{tries} inserts for {text}");
        goes_on(&source, &target, &into, folder.path()).await;
    }
}

#[tokio::test]
async fn a_source_whose_reads_are_switched_off_ends_an_export() {
    let refuses = Habits { refuses_pages: Some((1..usize::MAX, 9, DENIED)), ..Habits::default() };
    let error = outcome(NEW, refuses).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let passes = Habits { refuses_pages: Some((1..3, 9, MEMORY)), ..Habits::default() };
    assert_eq!(outcome(NEW, passes).await.unwrap().totals.rows, 250);
}

// ---- collections that become others meanwhile ----

fn event(happens: impl Fn(&mut State) + Send + Sync + 'static) -> Option<Event> {
    Some(Arc::new(happens))
}

#[tokio::test]
async fn a_collection_that_becomes_another_one_ends_an_export() {
    let field = FieldSchema {
        name: "new".into(),
        data_type: DataType::Int64 as i32,
        nullable: true,
        ..Default::default()
    };
    for tag in [OLD, NEW] {
        let field = field.clone();
        for (meanwhile, says) in [
            (event(|state| state.drop_collection("docs")), "it was dropped during the export"),
            (event(|state| state.make_anew("docs")), "dropped and created again during the export"),
            (
                event(move |state| state.add_field("docs", field.clone())),
                "its schema was changed during the export",
            ),
        ] {
            let error = outcome(tag, Habits { meanwhile, ..Habits::default() }).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceChanged, "{tag}, {says}: {error}");
            assert!(error.to_string().contains(says), "{tag}: {error}");
        }
    }
}

#[tokio::test]
async fn a_target_that_somebody_drops_meanwhile_is_made_anew_by_the_same_command() {
    let (folder, source) = snapshot().await;
    let dropped = event(|state| state.drop_collection("docs"));
    let (target, into) = Fake::start(NEW, Habits { after_an_insert: dropped, ..Habits::default() }).await;
    let error = import_on(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert!(error.to_string().contains("docs was dropped during the import"), "{error}");
    goes_on(&source, &target, &into, folder.path()).await;
}

/// Rows go by the name alone, so those that come after it go into the other collection: that is
/// seen even where all counts agree.
#[tokio::test]
async fn a_target_that_somebody_makes_anew_meanwhile_is_not_ours() {
    let (folder, _) = snapshot().await;
    let anew = event(|state| state.make_anew("docs"));
    let (target, into) = Fake::start(NEW, Habits { after_an_insert: anew, ..Habits::default() }).await;
    for _ in 0..2 {
        let error = import_on(&into, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists, "{error}");
        assert!(error.to_string().contains("made it anew"), "{error}");
        assert_eq!(target.contents("docs").len(), ROWS as usize);
        target.behaves(Habits::default());
    }
}

/// Parts that were in, of a collection that somebody dropped, are loaded again: so they are checked
/// again before the target is touched.
#[tokio::test]
async fn parts_that_have_to_go_in_again_are_checked_first() {
    let (folder, source) = snapshot().await;
    let refuses = Habits { refuses_inserts: Some((2..3, 9, DISK)), ..Habits::default() };
    let (target, into) = Fake::start(NEW, refuses).await;
    import_on(&into, folder.path()).await.unwrap_err();
    target.state().drop_collection("docs");
    target.state().changes.clear();

    let data = folder.path().join("snap/data/default/docs/_default");
    let mut parts: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    let good = std::fs::read(&parts[0]).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&parts[0], bad).unwrap();
    let error = import_on(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert_eq!(target.state().changes, Vec::<&str>::new(), "the target is not touched");

    std::fs::write(&parts[0], good).unwrap();
    goes_on(&source, &target, &into, folder.path()).await;
}

// ---- silence ----

#[tokio::test]
async fn a_server_that_never_answers_ends_an_export_which_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let stalls = Habits { stalls_pages: 1..usize::MAX, ..Habits::default() };
    let (source, from) = serve(OLD, stalls).await;
    let error = export(&hasty(&from), folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert!(error.to_string().contains("no reply within 0.5 s"), "{error}");
    source.behaves(Habits::default());
    assert_eq!(export(&from, folder.path()).await.unwrap().totals.rows, 250);
}

/// A connection that fell asleep: the one reply that never comes takes all the patience there is.
#[tokio::test]
async fn a_reply_that_never_comes_is_asked_for_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let (_source, from) = serve(OLD, Habits { stalls_pages: 1..2, ..Habits::default() }).await;
    assert_eq!(export(&hasty(&from), folder.path()).await.unwrap().totals.rows, 250);
    arrives(Habits { stalls_inserts: 1..2, ..Habits::default() }, HASTY).await;
    arrives(Habits { stalls_inserts: 1..3, ..Habits::default() }, HASTY).await;
}

#[tokio::test]
async fn a_target_that_never_answers_ends_an_import_which_goes_on_later() {
    // From the first insert on, or at one and the upserts behind it; all of them take effect.
    for stalls_inserts in [0..usize::MAX, 1..usize::MAX, 1..4] {
        let (folder, source) = snapshot().await;
        let habits = Habits { stalls_inserts, ..Habits::default() };
        let (target, into) = Fake::start(NEW, habits).await;
        let error = import_on(&hasty(&into), folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
        assert!(error.to_string().contains("no reply within 0.5 s"), "{error}");
        goes_on(&source, &target, &into, folder.path()).await;
    }
}

// ---- messages that are too large for the transport ----

#[tokio::test]
async fn pages_above_the_message_limit_are_halved() {
    let outcome = outcome(OLD, Habits { message_limit: Some(500), ..Habits::default() }).await.unwrap();
    assert_eq!(outcome.totals.rows, 250);
}

#[tokio::test]
async fn inserts_above_the_message_limit_are_halved() {
    arrives(Habits { message_limit: Some(500), ..Habits::default() }, Patience::default()).await;
    // A reply that is lost before, so that halves are upserted.
    let both = Habits { message_limit: Some(500), loses_a_reply: true, ..Habits::default() };
    arrives(both, Patience::default()).await;
}

#[tokio::test]
async fn a_single_row_above_the_message_limit_is_an_error() {
    let (folder, _) = snapshot().await;
    let (_, into) = Fake::start(NEW, Habits { message_limit: Some(10), ..Habits::default() }).await;
    let error = import(&into, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.hint_text().unwrap().contains("a single row is larger"), "{error:?}");
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
