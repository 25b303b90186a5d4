//! What can happen to a snapshot in a bucket, by accident or by malice, and that it is seen.
//!
//! What `verify` sees at each level, which the grid holds it to exactly:
//!
//! | change | `list` | `head` | `full` |
//! |---|---|---|---|
//! | an object is missing, added or has another size | yes | yes | yes |
//! | SHA256SUMS or manifest.json has other bytes | yes | yes | yes |
//! | another object has other bytes of the same number | no | where the bucket returns SHA-256 | yes |
//! | COMMIT.json says something else, or is another snapshot's | yes | yes | yes |
//! | COMMIT.json says the same in other bytes (white space) | with `--expect` | with `--expect` | with `--expect` |
//! | all of it is an older snapshot, or was made anew | with `--expect` | with `--expect` | with `--expect` |
//! | a signature is added that is one | no | no | no |
//! | something is added in the place of a signature | yes | yes | yes |

mod common;

use common::{FIRST, Memory, SECOND, make_snapshot, open, read_folder};
use futures::FutureExt;
use milvus_handoff::digest::Sha256;
use milvus_handoff::error::{Error, ErrorKind};
use milvus_handoff::milvus::{Endpoint, Tls};
use milvus_handoff::opened::Trust;
use milvus_handoff::progress::Show;
use milvus_handoff::select::{Renames, Selection};
use milvus_handoff::snapshot::{Commit, Plan, Receipt, keys};
use milvus_handoff::stop::Stop;
use milvus_handoff::store::Store;
use milvus_handoff::verify::{self, Level};
use milvus_handoff::{import, inspect, opened};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

type Objects = BTreeMap<String, Vec<u8>>;

const LEVELS: [Level; 3] = [Level::List, Level::Head, Level::Full];

/// A snapshot in a folder of its own.
struct Snapshot {
    above: TempDir,
    digest: Sha256,
}

impl Snapshot {
    async fn make() -> Self {
        let above = tempfile::tempdir().unwrap();
        let digest = make_snapshot(&above.path().join("snap"), &FIRST).await.digest;
        Snapshot { above, digest }
    }

    fn objects(&self) -> Objects {
        read_folder(&self.above.path().join("snap"))
    }

    fn memory(&self) -> Memory {
        Memory::of_folder(&self.above.path().join("snap"))
    }
}

/// The objects of another valid snapshot.
async fn another() -> Objects {
    let above = tempfile::tempdir().unwrap();
    make_snapshot(&above.path().join("snap"), &SECOND).await;
    read_folder(&above.path().join("snap"))
}

/// How a verification ended: the exit code, and what was named.
struct Verdict {
    code: u8,
    problems: BTreeSet<String>,
    error: Option<Error>,
    digest: Option<Sha256>,
}

fn trust(expect: Option<Sha256>) -> Trust {
    Trust { expect, keys: Vec::new() }
}

async fn verify(store: Arc<dyn Store>, level: Level, expect: Option<Sha256>) -> Verdict {
    match verify::run(store, level, &trust(expect), 4, Show::Quiet).await {
        Ok(report) => Verdict {
            code: if report.problems.is_empty() { 0 } else { ErrorKind::Integrity.exit_code() },
            problems: report.problems.into_iter().map(|problem| problem.key).collect(),
            error: None,
            digest: Some(report.opened.digest),
        },
        Err(error) => Verdict {
            code: error.kind().exit_code(),
            problems: BTreeSet::new(),
            error: Some(error),
            digest: None,
        },
    }
}

/// The buckets that a snapshot may lie in: a folder, which returns no digests, and one that does.
async fn buckets(objects: &Objects) -> (TempDir, [(bool, Arc<dyn Store>); 2]) {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    for (key, bytes) in objects {
        let path = root.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let memory = Memory::of_folder(&root);
    let folder = open(&root).await;
    (above, [(false, folder), (true, Arc::new(memory))])
}

// ---- by accident ----

#[tokio::test]
async fn an_undamaged_snapshot_is_clean_at_every_level() {
    let snapshot = Snapshot::make().await;
    let objects = snapshot.objects();
    for (checksums, store) in buckets(&objects).await.1 {
        for level in LEVELS {
            for expect in [None, Some(snapshot.digest)] {
                let report = verify::run(store.clone(), level, &trust(expect), 4, Show::Quiet).await.unwrap();
                assert_eq!(report.problems, []);
                assert_eq!(report.opened.digest, snapshot.digest);
                assert_eq!(report.objects, objects.len() as u64);
                // No more is claimed than was checked: a level that proved nothing says so.
                let proven_nothing = level == Level::Head && !checksums;
                assert_eq!(report.notes.len(), usize::from(proven_nothing), "{:?}", report.notes);
                if proven_nothing {
                    assert!(report.notes[0].contains("only their size was compared"));
                    assert!(report.notes[0].contains("--level full"));
                }
            }
        }
    }
}

/// What was not there to be looked at is not counted as looked at.
#[tokio::test]
async fn only_what_was_looked_at_is_counted() {
    let snapshot = Snapshot::make().await;
    let whole = snapshot.objects();
    let key =
        whole.keys().filter(|key| key.starts_with("data/")).max_by_key(|key| whole[*key].len()).unwrap();
    let size = whole[key].len() as u64;
    let (mut missing, mut short, mut altered) = (whole.clone(), whole.clone(), whole.clone());
    missing.remove(key);
    short.insert(key.clone(), whole[key][..size as usize - 1].to_vec());
    let mut bytes = whole[key].to_vec();
    bytes[9] ^= 1;
    altered.insert(key.clone(), bytes);
    for (objects, unread_at) in [
        (&missing, &[Level::List, Level::Head, Level::Full][..]),
        (&short, &[Level::Head, Level::Full]),
        (&altered, &[]),
    ] {
        for (_, store) in buckets(objects).await.1 {
            for level in LEVELS {
                let report = verify::run(store.clone(), level, &trust(None), 4, Show::Quiet).await.unwrap();
                let unread = u64::from(unread_at.contains(&level));
                let (objects, bytes) = report.committed;
                assert_eq!(objects, whole.len() as u64);
                assert_eq!(
                    (report.objects, report.bytes),
                    (objects - unread, bytes - unread * size),
                    "{level:?}"
                );
            }
        }
    }
}

/// What must be reported of a snapshot whose manifest and commit are whole: exactly the objects
/// that differ, as far as the level can see.
fn visible(before: &Objects, after: &Objects, level: Level, checksums: bool) -> BTreeSet<String> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let seen = |key: &&&String| match (before.get(**key), after.get(**key)) {
        (Some(a), Some(b)) if a == b => false,
        (Some(a), Some(b)) if a.len() == b.len() => {
            **key == keys::SUMS || level == Level::Full || (level == Level::Head && checksums)
        }
        _ => true,
    };
    all.iter().filter(seen).map(ToString::to_string).collect()
}

/// What an import makes of it. No server listens at the target: an import that gets so far has
/// found nothing wrong, and ends with a temporary error.
async fn import(store: Arc<dyn Store>) -> Error {
    let options = import::Options {
        target: Endpoint::parse("http://127.0.0.1:9", None, Tls::default()).unwrap(),
        selection: Selection::default(),
        renames: Renames::default(),
        plan_only: false,
        jobs: 4,
        via: import::Via::Is(import::Route::Insert),
        no_aliases: false,
        auto_id: milvus_handoff::select::AutoId::Preserve,
        journal: Some(std::env::temp_dir().join("no-such-journal")),
        load: false,
        trust: Trust::default(),
        show: Show::Quiet,
    };
    import::run(&options, store, &Stop::never()).await.expect_err("there is no server")
}

async fn check_damage(before: &Objects, after: &Objects, digest: Sha256, what: &str) {
    let (_above, buckets) = buckets(after).await;
    for (checksums, store) in buckets {
        // An import uses commit, manifest and parts, and refuses what is wrong with them before it
        // asks the target for anything. The rest is evidence, which is for `verify`.
        let full = verify(store.clone(), Level::Full, None).await;
        let used = full.error.is_some()
            || full.problems.iter().any(|key| key.starts_with("data/") && before.contains_key(key));
        let error = import(store.clone()).await;
        let due = if used { full.code } else { ErrorKind::Temporary.exit_code() };
        assert_eq!(error.kind().exit_code(), due, "{what}, import, {checksums}: {error}");
        for level in LEVELS {
            let what = format!("{what}, --level {}, {checksums}", level.name());
            let verdict = verify(store.clone(), level, None).await;
            let altered = |key: &str| before.get(key) != after.get(key);
            let named = |key: &str| {
                let error =
                    verdict.error.as_ref().unwrap_or_else(|| panic!("{what}: {:?}", verdict.problems));
                assert!(error.to_string().contains(key), "{what}: {error}");
                assert!(error.hint_text().is_some(), "{what}: what to do next? {error}");
            };
            if !after.contains_key(keys::COMMIT) {
                assert_eq!(verdict.code, 4, "{what}");
                continue;
            }
            if altered(keys::COMMIT) {
                check_commit(before, after, &verdict, &what);
                let verdict = verify(store.clone(), level, Some(digest)).await;
                assert_eq!(verdict.code, 6, "{what}");
                assert!(verdict.error.unwrap().to_string().contains(keys::COMMIT), "{what}");
                continue;
            }
            if altered(keys::MANIFEST) {
                assert_eq!(verdict.code, 6, "{what}");
                named(keys::MANIFEST);
                continue;
            }
            let due = visible(before, after, level, checksums);
            assert_eq!(verdict.problems, due, "{what}: {:?}", verdict.error);
            assert_eq!(verdict.code, if due.is_empty() { 0 } else { 6 }, "{what}");
        }
    }
}

/// An altered COMMIT.json is refused unless it says the same; then at least its digest is shown.
fn check_commit(before: &Objects, after: &Objects, verdict: &Verdict, what: &str) {
    match &verdict.error {
        Some(error) => {
            assert!(
                [ErrorKind::Integrity, ErrorKind::Unsupported].contains(&error.kind()),
                "{what}: {error}"
            );
            let names = [keys::COMMIT, keys::MANIFEST].iter().any(|key| error.to_string().contains(key));
            assert!(names || error.kind() == ErrorKind::Unsupported, "{what}: {error}");
        }
        None if verdict.problems.is_empty() => {
            let commit = |objects: &Objects| Commit::parse(&objects[keys::COMMIT]).unwrap();
            assert_eq!(commit(before), commit(after), "{what}");
            assert_ne!(verdict.digest, Some(Sha256::of(&before[keys::COMMIT])), "{what}");
        }
        None => assert!(verdict.problems.contains(keys::SUMS), "{what}: {:?}", verdict.problems),
    }
}

type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: &[Damage] = &[
    ("cut by a byte", |bytes| bytes.truncate(bytes.len() - 1)),
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("emptied", |bytes| bytes.clear()),
    ("first bit flipped", |bytes| bytes[0] ^= 0x80),
    ("a middle bit flipped", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }),
    ("last bit flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ("a byte appended", |bytes| bytes.push(b'x')),
    ("a line end appended", |bytes| bytes.push(b'\n')),
    ("a byte put in front", |bytes| bytes.insert(0, b' ')),
    ("zeroed", |bytes| bytes.fill(0)),
    ("reversed", |bytes| bytes.reverse()),
];

#[tokio::test]
async fn damage_to_any_object_is_named() {
    let snapshot = Snapshot::make().await;
    let before = snapshot.objects();
    assert!(before.len() >= 14, "all kinds of objects are there: {:?}", before.keys());
    for key in before.keys() {
        for (damage, apply) in DAMAGES {
            let mut after = before.clone();
            apply(after.get_mut(key).unwrap());
            assert_ne!(after, before, "{key} {damage}");
            check_damage(&before, &after, snapshot.digest, &format!("{key} {damage}")).await;
        }
    }
}

#[tokio::test]
async fn objects_that_are_gone_moved_or_doubled_are_named() {
    let snapshot = Snapshot::make().await;
    let before = snapshot.objects();
    for key in before.keys() {
        let mut after = before.clone();
        let bytes = after.remove(key).unwrap();
        check_damage(&before, &after, snapshot.digest, &format!("{key} deleted")).await;
        for other in [format!("{key}.bak"), key.to_uppercase().replace("COMMIT.JSON", "COMMIT.JSON~")] {
            after.insert(other.clone(), bytes.clone());
            check_damage(&before, &after, snapshot.digest, &format!("{key} renamed to {other}")).await;
            after.insert(key.clone(), bytes.clone());
            check_damage(&before, &after, snapshot.digest, &format!("{key} copied to {other}")).await;
            after = before.clone();
            after.remove(key);
        }
    }
}

#[tokio::test]
async fn objects_of_other_places_are_named() {
    let snapshot = Snapshot::make().await;
    let before = snapshot.objects();
    let names: Vec<&String> = before.keys().collect();
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            let mut after = before.clone();
            after.insert(a.to_string(), before[*b].clone());
            after.insert(b.to_string(), before[*a].clone());
            check_damage(&before, &after, snapshot.digest, &format!("{a} and {b} swapped")).await;
        }
    }
    // Another snapshot's objects, one by one; parts by their place, since their names differ.
    let other = another().await;
    let place = |key: &str| key.rsplit_once('-').map_or(key.to_string(), |(place, _)| place.to_string());
    for key in before.keys() {
        let theirs = other.keys().find(|theirs| place(theirs) == place(key)).expect("the same shape");
        let mut after = before.clone();
        after.insert(key.clone(), other[theirs].clone());
        assert_ne!(after, before, "{key} differs between snapshots");
        check_damage(&before, &after, snapshot.digest, &format!("{key} of another snapshot")).await;
    }
}

#[tokio::test]
async fn objects_that_do_not_belong_are_named() {
    let snapshot = Snapshot::make().await;
    let before = snapshot.objects();
    for extra in [
        "extra",
        ".hidden",
        "COMMIT.json.tmp",
        "PLAN.json.minisig",
        "COMMIT.json.minisig",
        "signatures/E7620F1842B4E81F.minisig",
        "signatures/e7620f1842b4e81f.minisig",
        "signatures/extra",
        "units/u00099.json",
        "units/.spool/x",
        "data/extra.parquet",
        "data/default/docs/_default/u00009-0000-00000000.parquet",
        "data/default/docs/_default/deep/er/still/x",
        "data/default/other/_default/u00001-0000-00000000.parquet",
        "very/deep/a/b/c/d/e/f/g/h/i/j/k",
    ] {
        for bytes in [&b""[..], b"anything"] {
            let mut after = before.clone();
            after.insert(extra.to_string(), bytes.to_vec());
            check_damage(&before, &after, snapshot.digest, &format!("{extra} added")).await;
        }
    }
    // What may lie beside a snapshot without being part of it: unfinished files of a folder, and
    // signatures (tests/signatures.rs).
    let mut spooled = before.clone();
    spooled.insert(".spool/left.tmp".into(), b"anything".to_vec());
    for level in LEVELS {
        let (_above, [(_, folder), (_, bucket)]) = buckets(&spooled).await;
        assert_eq!(verify(folder, level, None).await.code, 0);
        assert_eq!(verify(bucket, level, None).await.problems, BTreeSet::from([".spool/left.tmp".into()]));
    }
}

#[tokio::test]
async fn many_damages_are_all_named_at_once() {
    let snapshot = Snapshot::make().await;
    let before = snapshot.objects();
    let mut after = before.clone();
    after.remove("units/u00002.json");
    after.get_mut(keys::SUMS).unwrap().push(b'\n');
    after.insert("extra".into(), Vec::new());
    for bytes in after.iter_mut().filter(|(key, _)| key.starts_with("data/")).map(|(_, bytes)| bytes) {
        bytes[5] ^= 4;
    }
    check_damage(&before, &after, snapshot.digest, "many things").await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_place_of_an_object_is_named_and_not_followed() {
    let snapshot = Snapshot::make().await;
    let root = snapshot.above.path().join("snap");
    for key in snapshot.objects().keys() {
        // Even one that leads to the very same bytes: they are not in the snapshot.
        let aside = snapshot.above.path().join("aside");
        std::fs::rename(root.join(key), &aside).unwrap();
        std::os::unix::fs::symlink(&aside, root.join(key)).unwrap();
        for level in LEVELS {
            let verdict = verify(open(&root).await, level, None).await;
            let error = verdict.error.unwrap().to_string();
            assert!(
                verdict.code == 6 && error.contains(key.as_str()) && error.contains("symbolic link"),
                "{error}"
            );
        }
        std::fs::rename(&aside, root.join(key)).unwrap();
    }
}

#[tokio::test]
async fn every_bit_of_the_commit_counts() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    let commit = memory.object(keys::COMMIT);
    for at in 0..commit.len() {
        for bit in 0..8 {
            let mut bytes = commit.to_vec();
            bytes[at] ^= 1 << bit;
            memory.set(keys::COMMIT, bytes.clone());
            let what = || format!("byte {at}, bit {bit}: {}", String::from_utf8_lossy(&bytes));
            let verdict = verify(Arc::new(memory.clone()), Level::List, None).await;
            assert!([6, 7].contains(&verdict.code), "{:?}: {}", verdict.error, what());
        }
    }
}

// ---- other snapshots ----

fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document = serde_json::from_slice(bytes).unwrap();
    edit(&mut document);
    serde_json::to_vec_pretty(&document).unwrap()
}

#[tokio::test]
async fn what_this_build_does_not_know_is_refused_by_name() {
    let snapshot = Snapshot::make().await;
    let commit = snapshot.memory().object(keys::COMMIT);
    for (edit, what) in [
        (json!({"version": 2}), "COMMIT.json has format version 2; this build reads version 1"),
        (json!({"version": 0}), "COMMIT.json has format version 0; this build reads version 1"),
        (
            json!({"version": 4_294_967_295u32}),
            "COMMIT.json has format version 4294967295; this build reads version 1",
        ),
        // All else may be different in a version to come.
        (
            json!({"version": 2, "features": {"more": true}, "manifest": null, "totals": 7}),
            "COMMIT.json has format version 2; this build reads version 1",
        ),
        (
            json!({"features": ["sealed-parts"]}),
            "the snapshot needs the feature \"sealed-parts\", which this build does not know",
        ),
    ] {
        let memory = snapshot.memory();
        memory.set(
            keys::COMMIT,
            edited(&commit, |document| {
                document.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
            }),
        );
        for level in LEVELS {
            let verdict = verify(Arc::new(memory.clone()), level, None).await;
            let error = verdict.error.unwrap();
            assert_eq!((verdict.code, error.to_string().as_str()), (7, what));
            assert_eq!(error.hint_text(), Some("use a newer milvus-handoff to read this snapshot"));
        }
        assert_eq!(memory.asked(), BTreeSet::from([keys::COMMIT.to_string()]), "nothing else is believed");
    }
}

#[tokio::test]
async fn without_a_commit_there_is_no_snapshot() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    memory.take(keys::COMMIT);
    let error = verify(Arc::new(memory.clone()), Level::Full, None).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "the snapshot memory is not committed: its export has not finished");
    memory.take(keys::PLAN);
    let error = verify(Arc::new(memory), Level::Full, None).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "there is no snapshot at memory: COMMIT.json does not exist");
}

#[tokio::test]
async fn a_rolled_back_snapshot_needs_the_digest_to_be_seen() {
    let snapshot = Snapshot::make().await;
    let older = another().await;
    for (_, store) in buckets(&older).await.1 {
        for level in LEVELS {
            assert_eq!(verify(store.clone(), level, None).await.code, 0, "it is a whole snapshot");
            let verdict = verify(store.clone(), level, Some(snapshot.digest)).await;
            let error = verdict.error.unwrap();
            assert_eq!(verdict.code, 6);
            let found = Sha256::of(&older[keys::COMMIT]);
            assert_eq!(
                error.to_string(),
                format!("COMMIT.json has sha256 {found}, expected was {}", snapshot.digest)
            );
        }
    }
    // Only the commit rolled back, with or without its manifest: seen without the digest too.
    let mut half = snapshot.objects();
    half.insert(keys::COMMIT.into(), older[keys::COMMIT].clone());
    let verdict = verify(buckets(&half).await.1[1].1.clone(), Level::List, None).await;
    assert!(verdict.code == 6 && verdict.error.unwrap().to_string().contains(keys::MANIFEST));
    half.insert(keys::MANIFEST.into(), older[keys::MANIFEST].clone());
    assert_eq!(verify(buckets(&half).await.1[1].1.clone(), Level::List, None).await.code, 6);
}

#[tokio::test]
async fn every_field_of_the_manifest_is_what_was_committed() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    let manifest: Value = serde_json::from_slice(&memory.object(keys::MANIFEST)).unwrap();
    let places = places(&manifest);
    assert!(places.len() > 300);
    for place in places {
        let mut changed = manifest.clone();
        let value = changed.pointer_mut(&place).unwrap();
        *value = other_value(value);
        memory.set(keys::MANIFEST, serde_json::to_vec_pretty(&changed).unwrap());
        let error = opened::open(&memory, &Trust::default())
            .await
            .err()
            .unwrap_or_else(|| panic!("{place} is not protected"));
        assert_eq!(error.kind(), ErrorKind::Integrity);
        // Either by its digest or, if it is longer than it should be, without reading it.
        assert!(error.to_string().starts_with("manifest.json is "), "{error}");
    }
}

/// JSON pointers to every value in `document`.
fn places(document: &Value) -> Vec<String> {
    fn walk(value: &Value, place: &str, found: &mut Vec<String>) {
        let mut step = |name: &str, value| {
            let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
            found.push(place.clone());
            walk(value, &place, found);
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| step(name, value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, value)| step(&i.to_string(), value))
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

/// A value that could stand there as well.
fn other_value(value: &Value) -> Value {
    match value {
        Value::Null => json!(0),
        Value::Bool(value) => json!(!value),
        Value::Number(number) => {
            number.as_i64().map_or(json!(0), |number| json!(number.checked_add(1).unwrap_or(0)))
        }
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(items) if items.is_empty() => json!([""]),
        Value::Array(items) => json!(items[1..]),
        Value::Object(fields) if fields.is_empty() => json!({"": ""}),
        Value::Object(fields) => Value::Object(fields.clone().into_iter().skip(1).collect()),
    }
}

// ---- by malice: an attacker who writes a manifest and commits to it ----

/// Puts a manifest and makes everything that follows from it agree, as an attacker would.
fn commit_to(memory: &Memory, manifest: Vec<u8>) {
    let document: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let collections = list(&document, "collections");
    let parts: Vec<Value> = collections.iter().flat_map(|collection| list(collection, "parts")).collect();
    let sum =
        |name: &str| parts.iter().fold(0u64, |sum, part| sum.wrapping_add(part[name].as_u64().unwrap_or(0)));
    let digest = Sha256::of(&manifest);
    let mut sums = format!("{digest}  manifest.json\n");
    for part in &parts {
        let text = |name: &str| part[name].as_str().unwrap_or_default().to_string();
        sums += &format!("{}  {}\n", text("sha256"), text("key"));
    }
    let object = |key: &str, bytes: &[u8]| json!({"key": key, "size": bytes.len(), "sha256": Sha256::of(bytes).to_string()});
    let commit = edited(&memory.object(keys::COMMIT), |commit| {
        commit["manifest"] = object(keys::MANIFEST, &manifest);
        commit["sums"] = object(keys::SUMS, sums.as_bytes());
        commit["totals"] = json!({"collections": collections.len(), "parts": parts.len(), "rows": sum("rows"), "bytes": sum("size")});
    });
    memory.set(keys::MANIFEST, manifest);
    memory.set(keys::SUMS, sums);
    memory.set(keys::COMMIT, commit);
}

/// Opens, verifies and inspects; the first error, if there is one. Panics go on to the test, with
/// what was attacked.
async fn use_all(memory: &Memory, what: &str) -> Option<Error> {
    let work = async {
        if let Err(error) = opened::open(memory, &Trust::default()).await {
            return Some(error);
        }
        let report =
            verify::run(Arc::new(memory.clone()), Level::Full, &Trust::default(), 2, Show::Quiet).await;
        match report {
            Err(error) => return Some(error),
            Ok(report) if !report.problems.is_empty() => {
                let what = format!("{:?}", report.problems);
                return Some(Error::new(ErrorKind::Integrity, what).hint("as verify says"));
            }
            Ok(_) => {}
        }
        inspect::run(memory, &Trust::default(), 1_000).await.err()
    };
    let result = AssertUnwindSafe(work).catch_unwind().await;
    let error = result.unwrap_or_else(|_| panic!("panicked: {what}"));
    assert!(error.iter().all(|error| error.hint_text().is_some()), "{what}: what to do next? {error:?}");
    for key in memory.asked() {
        let inside = !key.starts_with('/') && !key.contains(['\\', ':', '\0', '\n']);
        assert!(
            inside && key.split('/').all(|segment| !["", ".", ".."].contains(&segment)),
            "{what}: {key:?} was asked for"
        );
    }
    error
}

/// The error that an edited and newly committed manifest leads to.
async fn attack(snapshot: &Snapshot, edit: impl FnOnce(&mut Value), what: &str) -> Option<Error> {
    let memory = snapshot.memory();
    commit_to(&memory, edited(&memory.object(keys::MANIFEST), edit));
    use_all(&memory, what).await
}

#[tokio::test]
async fn a_new_commit_to_the_same_manifest_is_accepted() {
    let snapshot = Snapshot::make().await;
    assert!(attack(&snapshot, |_| {}, "nothing").await.is_none(), "else the attacks below prove nothing");
}

const PART: &str = "/collections/0/parts/0";
const DOCS: &str = "/collections/0";
const SCHEMA: &str = "/collections/0/collection/schema";

#[tokio::test]
async fn hostile_keys_are_refused_before_anything_is_read() {
    let snapshot = Snapshot::make().await;
    let good = snapshot
        .memory()
        .keys()
        .into_iter()
        .find(|key| key.starts_with("data/default/docs/_default"))
        .unwrap();
    let file = good.rsplit_once('/').unwrap().1.to_string();
    for key in [
        "../../../../etc/passwd".to_string(),
        format!("../snap/{good}"),
        format!("data/../{good}"),
        format!("data/default/docs/_default/../_default/{file}"),
        format!("./{good}"),
        format!("/{good}"),
        format!("/etc/{file}"),
        good.replace('/', "\\"),
        format!("C:\\{file}"),
        format!("C:/{good}"),
        format!("\\\\server\\share\\{file}"),
        format!("//server/share/{good}"),
        good.replace("docs", "do\u{301}cs"),
        format!("file:///{good}"),
        format!("data//default/docs/_default/{file}"),
        format!("{good}/"),
        format!("{good}\n"),
        format!("{good}\0"),
        format!("\u{1b}[2J{good}"),
        good.replace("docs", "docs\u{202e}"),
        good.replace("docs", "%64ocs"),
        good.replace("docs", "%2e%2e"),
        good.replace("docs", "Docs"),
        format!("data/default/docs/archive/{file}"),
        format!("data/default/pages/_default/{file}"),
        format!("data/library/docs/_default/{file}"),
        format!("data/default/docs/-/{file}"),
        good.replace("-0000-", "-0000-0000-"),
        good.replace("-0000-", "-00000000000-"),
        good.replace(".parquet", ".PARQUET"),
        good.replace("u0", "v0"),
        "COMMIT.json".to_string(),
        "PLAN.json".to_string(),
        String::new(),
        "x".repeat(100_000),
    ] {
        let what = format!("{key:?}");
        let error =
            attack(&snapshot, |manifest| manifest.pointer_mut(PART).unwrap()["key"] = json!(key), &what)
                .await;
        let error = error.unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}");
        assert!(
            error.to_string().contains("is not one that a part of default.docs can have"),
            "{what}: {error}"
        );
    }
    for key in [
        "../PLAN.json",
        "units/../PLAN.json",
        "/PLAN.json",
        "units/u1.json",
        "units/u00001.json/",
        "data/x",
        "COMMIT.json",
        "manifest.json",
        "",
    ] {
        let error =
            attack(&snapshot, |manifest| manifest["bookkeeping"][1]["key"] = json!(key), key).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.to_string().contains("is not the key of a plan or receipt"), "{key}: {error}");
    }
    for (place, key) in
        [("manifest", "../manifest.json"), ("manifest", "SHA256SUMS"), ("sums", "/SHA256SUMS"), ("sums", "")]
    {
        let memory = snapshot.memory();
        memory.set(
            keys::COMMIT,
            edited(&memory.object(keys::COMMIT), |commit| commit[place]["key"] = json!(key)),
        );
        let error = use_all(&memory, key).await.unwrap();
        assert_eq!(error.to_string(), "COMMIT.json: it leads to objects of other names");
    }
}

type Attack = (&'static str, fn(&mut Value), ErrorKind, &'static str);

fn at<'a>(manifest: &'a mut Value, place: &str) -> &'a mut Value {
    manifest.pointer_mut(place).unwrap_or_else(|| panic!("{place} is there"))
}

#[rustfmt::skip]
const ATTACKS: &[Attack] = &[
    ("a part twice", |m| { let part = at(m, PART).clone(); let all = at(m, DOCS); all["parts"].as_array_mut().unwrap().push(part); all["rows"] = json!(10); all["server_count"] = json!(10); }, ErrorKind::Integrity, "overlaps the part before it"),
    ("a receipt twice", |m| { let one = m["bookkeeping"][1].clone(); m["bookkeeping"].as_array_mut().unwrap().push(one); }, ErrorKind::Integrity, "is listed twice"),
    ("a collection twice", |m| { let one = m["collections"][1].clone(); m["collections"].as_array_mut().unwrap().push(one); }, ErrorKind::Integrity, "is listed twice"),
    ("a partition twice", |m| at(m, DOCS)["collection"]["partitions"][2] = json!("archive"), ErrorKind::Integrity, "\"archive\" is listed twice"),
    ("a partition that is not there", |m| { at(m, DOCS)["collection"]["partitions"].as_array_mut().unwrap().remove(1); }, ErrorKind::Integrity, "is of a partition that the collection does not have"),
    ("no partition where there is one", |m| { at(m, PART).as_object_mut().unwrap().remove("partition"); }, ErrorKind::Integrity, "is not one that a part of default.docs can have"),
    ("a partition with a path in its name", |m| at(m, DOCS)["collection"]["partitions"][2] = json!(""), ErrorKind::Integrity, "cannot be the name of a partition"),
    ("an escape in a collection's name", |m| at(m, DOCS)["collection"]["name"] = json!("a\u{1b}[2Jb"), ErrorKind::Integrity, "cannot be the name of a collection"),
    ("a line end in a database's name", |m| at(m, DOCS)["collection"]["database"] = json!("a\nSuccessful"), ErrorKind::Integrity, "cannot be the name of a database"),
    ("an empty name", |m| at(m, DOCS)["collection"]["name"] = json!(""), ErrorKind::Integrity, "cannot be the name of a collection"),
    ("a long name", |m| at(m, DOCS)["collection"]["name"] = json!("x".repeat(256)), ErrorKind::Integrity, "cannot be the name of a collection"),
    ("an alias that is none", |m| at(m, DOCS)["collection"]["aliases"] = json!(["ok", "a\u{7f}"]), ErrorKind::Integrity, "cannot be the name of a alias"),
    ("another digest than in the key", |m| at(m, PART)["sha256"] = json!("0".repeat(64)), ErrorKind::Integrity, "is not one that a part"),
    ("a digest in capitals", |m| at(m, PART)["sha256"] = json!("A".repeat(64)), ErrorKind::Integrity, "is not a SHA-256 digest"),
    ("a digest with a prefix", |m| at(m, PART)["sha256"] = json!(format!("sha256:{}", "0".repeat(64))), ErrorKind::Integrity, "without a prefix"),
    ("no rows", |m| { at(m, PART)["rows"] = json!(0); at(m, DOCS)["rows"] = json!(4); at(m, DOCS)["server_count"] = json!(4); }, ErrorKind::Integrity, "has an impossible size"),
    ("no bytes", |m| at(m, PART)["size"] = json!(0), ErrorKind::Integrity, "has an impossible size"),
    ("more bytes than a PUT has", |m| at(m, PART)["size"] = json!((5u64 << 30) + 1), ErrorKind::Integrity, "has an impossible size"),
    ("all bytes there are", |m| at(m, PART)["size"] = json!(u64::MAX), ErrorKind::Integrity, "has an impossible size"),
    ("more rows than bytes could hold", |m| { at(m, PART)["rows"] = json!(1u64 << 40); at(m, DOCS)["rows"] = json!((1u64 << 40) + 4); }, ErrorKind::Integrity, "has an impossible size"),
    ("rows that overflow", |m| { at(m, PART)["rows"] = json!(u64::MAX); at(m, DOCS)["rows"] = json!(3); }, ErrorKind::Integrity, "do not add up"),
    ("rows that do not add up", |m| at(m, DOCS)["rows"] = json!(6), ErrorKind::Integrity, "do not add up"),
    ("a count of another number", |m| at(m, DOCS)["server_count"] = json!(8), ErrorKind::Integrity, "but the counts say"),
    ("shared keys that overflow", |m| at(m, DOCS)["shared_keys"] = json!(u64::MAX), ErrorKind::Integrity, "but the counts say"),
    ("a negative size", |m| at(m, PART)["size"] = json!(-1), ErrorKind::Integrity, "invalid value: integer `-1`"),
    ("a fraction of a row", |m| at(m, PART)["rows"] = json!(1.5), ErrorKind::Integrity, "invalid type: floating point"),
    ("a number as text", |m| at(m, PART)["rows"] = json!("3"), ErrorKind::Integrity, "invalid type: string"),
    ("keys that run backwards", |m| { let first = at(m, PART)["first_key"].clone(); at(m, PART)["last_key"] = first; at(m, PART)["first_key"] = json!({"int": 9}); }, ErrorKind::Integrity, "has an impossible key range"),
    ("a text key for integers", |m| at(m, PART)["first_key"] = json!({"text": "1"}), ErrorKind::Integrity, "has an impossible key range"),
    ("parts that overlap", |m| at(m, PART)["last_key"] = json!({"int": 4}), ErrorKind::Integrity, "overlaps the part before it"),
    ("parts in another order", |m| at(m, DOCS)["parts"].as_array_mut().unwrap().swap(0, 1), ErrorKind::Integrity, "overlaps the part before it"),
    ("the same rows under another name", |m| { let mut part = at(m, PART).clone(); part["key"] = json!(part["key"].as_str().unwrap().replace("-0000-", "-0007-")); let all = at(m, DOCS); all["parts"].as_array_mut().unwrap().push(part); all["rows"] = json!(10); all["server_count"] = json!(10); }, ErrorKind::Integrity, "overlaps the part before it"),
    ("nulls where none can be", |m| at(m, PART)["nulls"] = json!({"title": 1}), ErrorKind::Integrity, "has nulls where none can be"),
    ("nulls of no field", |m| at(m, PART)["nulls"] = json!({"nothing": 1}), ErrorKind::Integrity, "has nulls where none can be"),
    ("more nulls than rows", |m| at(m, "/collections/2/parts/0")["nulls"] = json!({"weight": 4}), ErrorKind::Integrity, "has nulls where none can be"),
    ("other nulls than there are", |m| at(m, "/collections/2/parts/0")["nulls"] = json!({"weight": 2}), ErrorKind::Integrity, "its nulls are not those in the manifest"),
    ("no nulls", |m| { at(m, "/collections/2/parts/0").as_object_mut().unwrap().remove("nulls"); }, ErrorKind::Integrity, "its nulls are not those in the manifest"),
    ("another last key", |m| at(m, "/collections/0/parts/1")["last_key"] = json!({"int": 6}), ErrorKind::Integrity, "its key range is not the one in the manifest"),
    ("a key of two kinds", |m| at(m, PART)["first_key"] = json!({"int": 1, "text": "1"}), ErrorKind::Integrity, "manifest.json is not what it should be"),
    ("a key of no kind", |m| at(m, PART)["last_key"] = json!({"float": 1.0}), ErrorKind::Integrity, "unknown variant"),
    ("a key beyond 64 bits", |m| at(m, PART)["last_key"] = json!({"int": u64::MAX}), ErrorKind::Integrity, "manifest.json is not what it should be"),
    ("another id", |m| m["id"] = json!("00000000-0000-4000-8000-00000000000f"), ErrorKind::Integrity, "speak of different snapshots"),
    ("a newer manifest", |m| m["version"] = json!(2), ErrorKind::Unsupported, "manifest.json has format version 2"),
    ("something else", |m| m["format"] = json!("tar"), ErrorKind::Integrity, "is not part of a milvus-handoff snapshot"),
    ("a null", |m| *m = Value::Null, ErrorKind::Integrity, "manifest.json is not what it should be"),
    ("a list", |m| *m = json!([]), ErrorKind::Integrity, "manifest.json is not what it should be"),
    ("no primary key", |m| at(m, SCHEMA)["fields"][0]["primary_key"] = json!(false), ErrorKind::Integrity, "the schema has no primary key"),
    ("two primary keys", |m| at(m, SCHEMA)["fields"][1]["primary_key"] = json!(true), ErrorKind::Integrity, "the schema has two primary keys"),
    ("a key of a type that is none", |m| at(m, SCHEMA)["fields"][0]["type"] = json!("Float"), ErrorKind::Unsupported, "only Int64 and VarChar are known"),
    ("a type of tomorrow", |m| at(m, SCHEMA)["fields"][2]["type"] = json!("QuantumVector"), ErrorKind::Unsupported, "type \"QuantumVector\" is not known to this build"),
    ("a vector without dimensions", |m| { at(m, SCHEMA)["fields"][2].as_object_mut().unwrap().remove("dim"); }, ErrorKind::Integrity, "is not a possible type"),
    ("a vector of nothing", |m| at(m, SCHEMA)["fields"][2]["dim"] = json!(0), ErrorKind::Integrity, "is not a possible type"),
    ("a vector of everything", |m| at(m, SCHEMA)["fields"][2]["dim"] = json!(u32::MAX), ErrorKind::Integrity, "is not a possible type"),
    ("a broken byte", |m| at(m, "/collections/2/collection/schema/fields/10")["dim"] = json!(12), ErrorKind::Integrity, "is not a possible type"),
    ("two fields of a name", |m| at(m, SCHEMA)["fields"][1]["name"] = json!("id"), ErrorKind::Integrity, "is taken twice"),
    ("a field that is named like the dynamic one", |m| at(m, SCHEMA)["fields"][1]["name"] = json!("$meta"), ErrorKind::Integrity, "is taken twice"),
    ("another name of a field", |m| at(m, SCHEMA)["fields"][1]["name"] = json!("titel"), ErrorKind::Integrity, "contradict each other"),
    ("another dimension", |m| at(m, SCHEMA)["fields"][2]["dim"] = json!(8), ErrorKind::Integrity, "contradict each other"),
    ("a field less", |m| { at(m, SCHEMA)["fields"].as_array_mut().unwrap().pop(); }, ErrorKind::Integrity, "contradict each other"),
    ("fields in another order", |m| at(m, SCHEMA)["fields"].as_array_mut().unwrap().swap(1, 2), ErrorKind::Integrity, "contradict each other"),
    ("dynamic or not", |m| at(m, SCHEMA)["dynamic"] = json!(false), ErrorKind::Integrity, "contradict each other"),
    ("keys made by the server", |m| at(m, SCHEMA)["fields"][0]["auto_id"] = json!(true), ErrorKind::Integrity, "contradict each other"),
    ("a description that is not base64", |m| at(m, DOCS)["collection"]["describe_collection_response"] = json!("@@@"), ErrorKind::Integrity, "is not base64"),
    ("a description that is cut", |m| { let text = at(m, DOCS)["collection"]["describe_collection_response"].as_str().unwrap()[..40].to_string(); at(m, DOCS)["collection"]["describe_collection_response"] = json!(text); }, ErrorKind::Integrity, "cannot be decoded"),
    ("a description of nothing", |m| at(m, DOCS)["collection"]["describe_collection_response"] = json!(""), ErrorKind::Unsupported, "the schema has no primary key"),
    ("a description of another collection", |m| { let other = m["collections"][1]["collection"]["describe_collection_response"].clone(); at(m, DOCS)["collection"]["describe_collection_response"] = other; }, ErrorKind::Integrity, "contradict each other"),
];

#[tokio::test]
async fn hostile_manifests_are_refused_for_what_is_wrong_with_them() {
    let snapshot = Snapshot::make().await;
    for (what, edit, kind, said) in ATTACKS {
        let error = attack(&snapshot, edit, what).await.unwrap_or_else(|| panic!("accepted: {what}"));
        assert!(error.to_string().contains(said), "{what}: {error}");
        assert_eq!(error.kind(), *kind, "{what}: {error}");
    }
}

#[tokio::test]
async fn text_that_is_not_a_manifest_is_refused() {
    let snapshot = Snapshot::make().await;
    let good = String::from_utf8(snapshot.memory().object(keys::MANIFEST).to_vec()).unwrap();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1).into_bytes()
    };
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("white space", b" \n".to_vec()),
        ("half", good.as_bytes()[..good.len() / 2].to_vec()),
        ("more behind it", format!("{good}{{}}").into_bytes()),
        ("a byte order mark", format!("\u{feff}{good}").into_bytes()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (
            "no UTF-8",
            replaced("milvus-handoff 0.1.0", "\u{1}")
                .into_iter()
                .map(|b| if b == 1 { 0xff } else { b })
                .collect(),
        ),
        ("deep lists", deep("[", "]").into_bytes()),
        ("deep objects", deep("{\"a\":", "}").into_bytes()),
        ("deep lists where a name is due", replaced("\"2026-11-20T09:00:00Z\"", &deep("[", "]"))),
        (
            "deep lists in a field that nobody knows",
            replaced("{\n", &format!("{{\"unknown\":{},", deep("[", "]"))),
        ),
        ("a field twice", replaced("\"id\"", "\"id\":\"x\",\"id\"")),
        ("a comment", replaced("{\n", "{ // x\n")),
        (
            "a number without end",
            replaced("\"version\": 1", &format!("\"version\": 1{}", "0".repeat(10_000))),
        ),
        ("a version below zero", replaced("\"version\": 1", "\"version\": -1")),
        ("an exponent", replaced("\"version\": 1", "\"version\": 1e999999999")),
        ("not a number", replaced("\"version\": 1", "\"version\": NaN")),
    ] {
        let memory = snapshot.memory();
        commit_to(&memory, bytes);
        let error = use_all(&memory, what).await.unwrap_or_else(|| panic!("accepted: {what}"));
        assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}");
        assert!(
            error.to_string().len() < 1_000,
            "{what}: a message that can be read: {}",
            error.to_string().len()
        );
    }
}

#[tokio::test]
async fn sizes_are_bounded_before_anything_is_read() {
    let snapshot = Snapshot::make().await;
    for (object, key) in [("manifest", keys::MANIFEST), ("sums", keys::SUMS)] {
        let memory = snapshot.memory();
        let commit = edited(&memory.object(keys::COMMIT), |commit| commit[object]["size"] = json!(u64::MAX));
        memory.set(keys::COMMIT, commit);
        let error = use_all(&memory, key).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        let said =
            format!("COMMIT.json announces {key} of 18446744073709551615 bytes, which no export writes");
        assert_eq!(error.to_string(), said);
    }

    let memory = snapshot.memory();
    let mut commit = memory.object(keys::COMMIT).to_vec();
    commit.resize((1 << 20) + 1, b' ');
    memory.set(keys::COMMIT, commit);
    assert_eq!(opened::open(&memory, &Trust::default()).await.err().unwrap().kind(), ErrorKind::Integrity);
}

/// A receipt that an earlier run left decides what a resumed export commits, so it is held to the
/// same rules as a manifest.
#[tokio::test]
async fn hostile_receipts_are_refused() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    let plan = Plan::parse(&memory.object(keys::PLAN)).unwrap();
    let parse = |unit: usize, edit: &dyn Fn(&mut Value)| {
        let bytes = memory.object(&keys::receipt(&plan.units[unit].id));
        Receipt::parse(&edited(&bytes, edit), &plan, &plan.units[unit])
    };
    for unit in 0..plan.units.len() {
        parse(unit, &|_| {}).unwrap();
    }
    let refused = |unit: usize, said: &str, edit: &dyn Fn(&mut Value)| {
        let error = parse(unit, edit).err().unwrap_or_else(|| panic!("accepted: {said}"));
        let foreign = said == "it is a receipt of another export";
        assert_eq!(error.kind(), if foreign { ErrorKind::Exists } else { ErrorKind::Integrity }, "{said}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    };
    refused(0, "it is a receipt of another export", &|r| r["plan_id"] = json!("other"));
    refused(0, "it is a receipt of another export", &|r| r["unit"] = json!("u00002"));
    refused(0, "its rows are not the sum of its parts", &|r| r["rows"] = json!(6));
    refused(0, "it has a part of another partition", &|r| r["parts"][0]["partition"] = json!("archive"));
    refused(0, "it has a part of another partition", &|r| {
        drop(r["parts"][0].as_object_mut().unwrap().remove("partition"))
    });
    refused(0, "has an impossible size", &|r| r["parts"][0]["rows"] = json!(u64::MAX));
    refused(0, "has an impossible size", &|r| r["parts"][0]["size"] = json!(u64::MAX));
    refused(0, "has an impossible key range", &|r| r["parts"][0]["first_key"] = json!({"text": ""}));
    refused(0, "overlaps the part before it", &|r| r["parts"][0]["last_key"] = json!({"int": 4}));
    refused(0, "has nulls where none can be", &|r| r["parts"][0]["nulls"] = json!({"id": 1}));
    refused(0, "is not one that a part of default.docs can have", &|r| r["parts"][0]["key"] = json!("../x"));
    refused(4, "it has keys outside of its range", &|r| {
        r["parts"][0]["last_key"] = json!({"text": "page 3"})
    });
    refused(5, "it has keys outside of its range", &|r| {
        r["parts"][0]["first_key"] = json!({"text": "page 2"})
    });
}

/// One place of every shape: all parts are alike, all fields are.
fn shapes(document: &Value) -> BTreeMap<String, String> {
    let shape = |place: &str| {
        let segments: Vec<_> =
            place.split('/').map(|s| if s.parse::<usize>().is_ok() { "*" } else { s }).collect();
        segments.join("/")
    };
    let mut shapes = BTreeMap::new();
    for place in places(document) {
        shapes.entry(shape(&place)).or_insert(place);
    }
    shapes
}

#[tokio::test]
async fn no_value_anywhere_makes_a_reader_panic() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    let manifest: Value = serde_json::from_slice(&memory.object(keys::MANIFEST)).unwrap();
    let values = [
        Value::Null,
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("../x"),
        json!("\u{0}\u{1b}[2J\u{202e}"),
        json!([]),
        json!({}),
        json!([[[[]]]]),
        json!({"int": i64::MIN}),
    ];
    for (shape, place) in shapes(&manifest) {
        let mut gone = manifest.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        match gone.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => panic!("{parent} holds {name}"),
        }
        let changed = values.iter().map(|value| {
            let mut changed = manifest.clone();
            *changed.pointer_mut(&place).unwrap() = value.clone();
            changed
        });
        for changed in changed.chain([gone]) {
            let memory = snapshot.memory();
            let what = format!("{shape}: {}", changed.pointer(&place).unwrap_or(&json!("(gone)")));
            commit_to(&memory, serde_json::to_vec(&changed).unwrap());
            if let Some(error) = use_all(&memory, &what).await {
                let kinds = [ErrorKind::Integrity, ErrorKind::Unsupported];
                assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            }
        }
    }
}

/// What whoever can write to the bucket can change unseen, unless the digest of COMMIT.json came
/// by another way: nothing that decides which rows a target gets.
#[tokio::test]
async fn only_the_digest_protects_what_merely_describes() {
    let snapshot = Snapshot::make().await;
    let manifest: Value = serde_json::from_slice(&snapshot.memory().object(keys::MANIFEST)).unwrap();
    let mut unseen = String::new();
    for (shape, place) in shapes(&manifest) {
        let other = |manifest: &mut Value| {
            let value = manifest.pointer_mut(&place).unwrap();
            *value = other_value(value);
        };
        if attack(&snapshot, other, &shape).await.is_none() {
            unseen += &format!("{shape}\n");
        }
    }
    insta::assert_snapshot!(unseen);
}

// ---- parts that an attacker made ----

/// Replaces the first part of docs by `bytes`, and makes everything agree with it.
fn replace_part(memory: &Memory, bytes: Vec<u8>) {
    let manifest = edited(&memory.object(keys::MANIFEST), |manifest| {
        let part = at(manifest, PART);
        let old = part["key"].as_str().unwrap().to_string();
        let digest = Sha256::of(&bytes);
        let (place, _) = old.rsplit_once('-').unwrap();
        let key = format!("{place}-{}.parquet", digest.prefix(8));
        memory.take(&old);
        memory.set(&key, bytes.clone());
        part["key"] = json!(key);
        part["sha256"] = json!(digest.to_string());
        part["size"] = json!(bytes.len());
    });
    commit_to(memory, manifest);
}

#[tokio::test]
async fn a_part_that_is_not_what_its_manifest_says_is_refused_when_it_is_read() {
    let snapshot = Snapshot::make().await;
    let memory = snapshot.memory();
    let parts: Vec<String> = memory.keys().into_iter().filter(|key| key.starts_with("data/")).collect();
    let own = parts.iter().find(|key| key.contains("_default/u00001-0000")).unwrap();
    let mut cut = memory.object(own).to_vec();
    cut.truncate(cut.len() - 1);
    let mut candidates = vec![("no Parquet", b"PAR1 nothing PAR1".to_vec()), ("cut", cut)];
    for other in parts.iter().filter(|key| *key != own) {
        candidates.push(("another part", memory.object(other).to_vec()));
    }
    for (what, bytes) in candidates {
        let memory = snapshot.memory();
        replace_part(&memory, bytes);
        // `verify` proves that bytes are those that were committed; whether they are rows shows
        // when they are read.
        assert_eq!(verify(Arc::new(memory.clone()), Level::Full, None).await.code, 0, "{what}");
        let error = use_all(&memory, what).await.unwrap_or_else(|| panic!("{what} was read"));
        assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}");
        assert!(error.to_string().starts_with("first rows of default.docs: "), "{what}: {error}");
    }
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_read() {
    let snapshot = Snapshot::make().await;
    let secret = snapshot.above.path().join("secret.parquet");
    let own = snapshot.objects().into_iter().find(|(key, _)| key.starts_with("data/default")).unwrap();
    std::fs::write(&secret, &own.1).unwrap();
    let root = snapshot.above.path().join("snap");
    // A manifest that names a good part outside of the snapshot by a way up, correct in all else.
    let memory = snapshot.memory();
    let manifest = edited(&memory.object(keys::MANIFEST), |manifest| {
        at(manifest, PART)["key"] = json!("../secret.parquet")
    });
    commit_to(&memory, manifest);
    for key in [keys::MANIFEST, keys::SUMS, keys::COMMIT] {
        std::fs::write(root.join(key), memory.object(key)).unwrap();
    }
    for level in LEVELS {
        let verdict = verify(open(&root).await, level, None).await;
        assert_eq!(verdict.code, 6);
    }
    let error = inspect::run(open(&root).await.as_ref(), &Trust::default(), 1).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(Path::new(&secret).exists());
}
