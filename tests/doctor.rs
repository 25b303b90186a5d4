//! `doctor` and a bucket that misbehaves: what it says of each verb, and that it leaves nothing behind.

mod bucket;
mod common;
mod fake;

use bucket::{Bucket, Checksums, NAME, PREFIX, Rules, Verb};
use fake::{Habits, source};
use serde_json::Value;
use tokio::process::Command;

/// What a run found: exit code, document, and what people read.
struct Run {
    code: i32,
    document: Value,
    text: String,
}

impl Run {
    fn verdict(&self, check: &str) -> &str {
        let checks = self.document["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["check"] == check && found["about"] == "snapshot");
        found.map_or("", |found| found["verdict"].as_str().unwrap())
    }

    /// Verdict and words of the first such check about a server.
    fn of(&self, about: &str, check: &str) -> (&str, &str) {
        let checks = self.document["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["check"] == check && found["about"] == about);
        let found = found.unwrap_or_else(|| panic!("no {check}: {}", self.text));
        (found["verdict"].as_str().unwrap(), found["says"].as_str().unwrap())
    }
}

async fn doctor(bucket: &Bucket, more: &[&str], env: &[(&str, &str)]) -> Run {
    let own = bucket.env();
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    let env: Vec<_> = own.chain([("AWS_MAX_ATTEMPTS", "1")]).chain(env.iter().copied()).collect();
    asked(&[&[Bucket::url().as_str()], more].concat(), &env).await
}

async fn asked(args: &[&str], env: &[(&str, &str)]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"))
        .args(["doctor", "--json"])
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}"));
    Run { code: output.status.code().unwrap(), document, text }
}

const VERBS: [&str; 6] = ["put", "create-only", "get", "checksums", "list", "delete"];

#[tokio::test]
async fn a_good_bucket_is_green_and_left_as_it_was() {
    let bucket = Bucket::start().await;
    let run = doctor(&bucket, &[], &[]).await;
    assert_eq!(run.code, 0, "{}", run.text);
    for check in VERBS.iter().chain(&["place", "clock"]) {
        assert_eq!(run.verdict(check), "good", "{check}: {}", run.text);
    }
    assert!(run.text.ends_with("Successful: nothing is in the way (8 checks, 0 notes)\n"), "{}", run.text);
    assert_eq!(bucket.all_keys(), [""; 0], "the probe object is gone");
    assert!(bucket.log().iter().any(|request| request.contains(&format!("/{PREFIX}.doctor/probe-"))));
}

#[tokio::test]
async fn each_verb_that_is_denied_is_named_with_its_fix() {
    for (denied, code, found) in [
        (vec![Verb::Put], 3, [("put", "red"), ("get", ""), ("delete", "")]),
        (vec![Verb::Delete], 0, [("put", "good"), ("get", "good"), ("delete", "note")]),
        (vec![Verb::List], 0, [("put", "good"), ("list", "note"), ("delete", "good")]),
        (vec![Verb::Get], 0, [("put", "good"), ("get", "note"), ("create-only", "good")]),
        (
            vec![Verb::Get, Verb::List, Verb::Delete],
            0,
            [("get", "note"), ("list", "note"), ("delete", "note")],
        ),
    ] {
        let bucket = Bucket::start().await;
        bucket.rule(|rules| rules.denied = denied.clone());
        let run = doctor(&bucket, &[], &[]).await;
        assert_eq!(run.code, code, "{denied:?}: {}", run.text);
        for (check, verdict) in found {
            assert_eq!(run.verdict(check), verdict, "{denied:?}, {check}: {}", run.text);
        }
        // Only a permission that is needed calls for another policy.
        assert_eq!(run.document["policy"].is_string(), denied == [Verb::Put], "{denied:?}");
        if denied == [Verb::Put] {
            assert_eq!(run.document["code"], "MH-BUCKET-DENIED");
            assert!(run.text.contains("arn:aws:s3:::handoff/exports/*"), "{}", run.text);
        }
        // What could not be removed is named.
        let left = bucket.all_keys();
        assert_eq!(left.len(), usize::from(denied.contains(&Verb::Delete)), "{denied:?}: {left:?}");
        assert!(left.iter().all(|key| run.text.contains(&format!("s3://{NAME}/{key}"))), "{}", run.text);
    }
}

#[tokio::test]
async fn what_a_bucket_lacks_is_a_note() {
    type Spoil = fn(&mut Rules);
    let spoilt: [(&str, Spoil); 4] = [
        ("create-only", |rules| rules.create_only = false),
        ("checksums", |rules| rules.checksums = Checksums::Dropped),
        ("checksums", |rules| rules.checksums = Checksums::Wrong),
        ("clock", |rules| rules.clock_ahead = Some(-120)),
    ];
    for (check, spoil) in spoilt {
        let bucket = Bucket::start().await;
        bucket.rule(spoil);
        let run = doctor(&bucket, &[], &[]).await;
        assert_eq!((run.code, run.verdict(check)), (0, "note"), "{check}: {}", run.text);
        let others = VERBS.iter().filter(|other| **other != check);
        assert!(others.clone().all(|other| run.verdict(other) == "good"), "{check}: {}", run.text);
        assert_eq!(bucket.all_keys(), [""; 0]);
    }
}

#[tokio::test]
async fn what_cannot_work_is_red() {
    let bucket = Bucket::start().await;
    bucket.rule(|rules| rules.clock_ahead = Some(3600));
    let run = doctor(&bucket, &[], &[]).await;
    assert_eq!((run.code, run.verdict("clock")), (3, "red"), "{}", run.text);
    assert!(run.text.contains("s behind the bucket's [MH-CLOCK]"), "{}", run.text);
    bucket.rule(|rules| rules.clock_ahead = None);

    let run = doctor(&bucket, &[], &[("AWS_SECRET_ACCESS_KEY", "wrong")]).await;
    assert_eq!((run.code, run.verdict("credentials")), (3, "red"), "{}", run.text);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = doctor(&bucket, &[], &[("AWS_ENDPOINT_URL_S3", &format!("http://{nobody}"))]).await;
    assert_eq!((run.code, run.verdict("network")), (75, "red"), "{}", run.text);

    // A place that is taken: by a stranger's object, by an unfinished export, by a snapshot.
    bucket.set("stranger.txt", "x");
    let run = doctor(&bucket, &[], &[]).await;
    assert_eq!((run.code, run.verdict("place")), (5, "red"), "{}", run.text);
    bucket.set("PLAN.json", "{}");
    let run = doctor(&bucket, &[], &[]).await;
    assert_eq!((run.code, run.verdict("place")), (0, "note"), "{}", run.text);
    bucket.set("COMMIT.json", "{}");
    let run = doctor(&bucket, &[], &[]).await;
    assert_eq!((run.code, run.verdict("place")), (5, "red"), "{}", run.text);
}

/// With a target alone nothing is written, whatever is wrong with the target.
#[tokio::test]
async fn an_importer_only_reads() {
    let bucket = Bucket::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = ["--target", &format!("http://{nobody}")];
    let run = doctor(&bucket, &target, &[]).await;
    assert_eq!((run.code, run.verdict("place")), (75, "red"), "{}", run.text);
    assert!(run.text.contains("[MH-NO-SNAPSHOT]") && run.text.contains("[MH-UNREACHABLE]"), "{}", run.text);

    let folder = tempfile::tempdir().unwrap();
    common::make_snapshot(&folder.path().join("snap"), &common::FIRST).await;
    for (key, bytes) in common::read_folder(&folder.path().join("snap")) {
        bucket.set(&key, bytes);
    }
    let before = bucket.all_keys();
    bucket.rule(|rules| rules.denied = vec![Verb::Put, Verb::Delete]);
    let run = doctor(&bucket, &target, &[]).await;
    for check in ["get", "digest", "checksums", "list", "clock"] {
        assert_eq!(run.verdict(check), "good", "{check}: {}", run.text);
    }
    assert_eq!(bucket.all_keys(), before);
    assert!(bucket.log().iter().all(|request| !request.starts_with("PUT") && !request.starts_with("DELETE")));

    bucket.rule(|rules| rules.denied = vec![Verb::Get]);
    let run = doctor(&bucket, &target, &[]).await;
    assert_eq!(run.verdict("get"), "red", "{}", run.text);
    assert!(
        run.document["policy"].as_str().is_some_and(|policy| !policy.contains("PutObject")),
        "{}",
        run.text
    );
}

/// A place within another snapshot, and a folder that was not there.
#[tokio::test]
async fn places_are_looked_at_from_above_and_left_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("file://{}/{name}", folder.path().display());
    let run = asked(&[&url("new")], &[]).await;
    assert_eq!((run.code, run.verdict("place")), (0, "good"), "{}", run.text);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what it made is gone");
    // What was there before is not its own.
    std::fs::create_dir(folder.path().join("new.doctor")).unwrap();
    asked(&[&url("new")], &[]).await;
    assert!(folder.path().join("new.doctor").is_dir());

    common::make_snapshot(&folder.path().join("snap"), &common::FIRST).await;
    let before = common::read_folder(folder.path());
    let run = asked(&[&url("snap/inner")], &[]).await;
    assert_eq!((run.code, run.verdict("place")), (5, "red"), "{}", run.text);
    assert!(
        run.text.contains("lies within file://") && run.text.contains("[MH-PREFIX-TAKEN]"),
        "{}",
        run.text
    );
    assert_eq!(common::read_folder(folder.path()), before);
    std::fs::remove_file(folder.path().join("snap/COMMIT.json")).unwrap();
    let run = asked(&[&url("snap/inner")], &[]).await;
    assert!(run.text.contains("which is a snapshot that was begun"), "{}", run.text);
}

const TOKEN: &str = "somebody:secret-of-this-test";

/// Each RPC that may be refused, with the privilege that its server names.
#[tokio::test]
async fn every_privilege_that_is_missing_is_named_as_it_is_granted() {
    let (fake, source) = source::serve("v2.3.5", Some(TOKEN)).await;
    let denies = |denies: &[(&'static str, &'static str)]| {
        fake.behaves(Habits { token: Some(TOKEN), denies: denies.to_vec(), ..Habits::default() });
    };
    let env = [("MILVUS_HANDOFF_SOURCE_TOKEN", TOKEN), ("MILVUS_HANDOFF_TARGET_TOKEN", TOKEN)];
    let new = format!("{}/new", source.address);
    let run = asked(&["--source", &source.address], &env).await;
    assert_eq!((run.code, run.of("source", "privileges").0), (0, "good"), "{}", run.text);
    assert_eq!(run.of("source", "load states"), ("good", "everything is loaded"));

    // An export: all at once, and what could not be asked is not said to be in order.
    denies(&[("ListAliases", "ListAliases"), ("GetLoadState", "GetLoadState"), ("Query", "Query")]);
    let run = asked(&["--source", &source.address], &env).await;
    let says = "missing: GetLoadState (Collection), ListAliases (Global), Query (Collection)";
    assert_eq!((run.code, run.of("source", "privileges")), (3, ("red", says)), "{}", run.text);
    assert_eq!(run.of("source", "load states"), ("note", "could not be asked: 1 collection"));
    denies(&[("ListDatabases", "ListDatabases"), ("ListAliases", "ListAliases")]);
    let run = asked(&["--source", &source.address], &env).await;
    let says = "missing: ListAliases (Global), ListDatabases (Global)";
    assert_eq!(run.of("source", "privileges"), ("red", says), "{}", run.text);
    denies(&[("LoadCollection", "Load"), ("ReleaseCollection", "Release")]);
    let run = asked(&["--source", &source.address], &env).await;
    assert_eq!((run.code, run.of("source", "privileges").0), (0, "good"), "{}", run.text);
    assert!(run.text.contains("Load (Collection) for `--load-source`"), "{}", run.text);

    // An import.
    let changes = fake.state().changes.len();
    for (rpc, privilege, says) in [
        ("GetFlushState", "GetFlushState", "missing: GetFlushState (Collection)"),
        ("ReleaseCollection", "Release", "missing: Release (Collection)"),
        ("LoadCollection", "Load", "missing: Load (Collection)"),
        ("DescribeIndex", "IndexDetail", "missing: IndexDetail (Collection)"),
        ("GetCollectionStatistics", "GetStatistics", "missing: GetStatistics (Collection)"),
    ] {
        denies(&[(rpc, privilege)]);
        let run = asked(&["--target", &source.address], &env).await;
        assert_eq!((run.code, run.of("target", "privileges")), (3, ("red", says)), "{}", run.text);
    }
    denies(&[("CreateDatabase", "CreateDatabase")]);
    let run = asked(&["--target", &source.address], &env).await;
    assert_eq!(run.code, 0, "{}", run.text);
    assert!(run.text.contains("CreateDatabase (Global) where a database is to be created"), "{}", run.text);
    let run = asked(&["--target", &new], &env).await;
    assert_eq!(run.of("target", "privileges"), ("red", "missing: CreateDatabase (Global)"), "{}", run.text);
    let state = fake.state();
    let known: Vec<_> =
        state.databases.iter().map(|(name, database)| (name.as_str(), database.collections.len())).collect();
    assert_eq!(known, [("default", 1)], "asking makes nothing; {} requests", state.changes.len() - changes);
}

#[tokio::test]
async fn a_token_that_nobody_looks_at_is_not_called_accepted() {
    let (fake, source) = source::serve("v2.3.5", None).await;
    let env = [("MILVUS_HANDOFF_TARGET_TOKEN", TOKEN)];
    let run = asked(&["--target", &source.address], &env).await;
    let (verdict, says) = run.of("target", "credentials");
    assert!(verdict == "note" && says.contains("answers without one too"), "{}", run.text);
    fake.behaves(Habits { token: Some(TOKEN), ..Habits::default() });
    let run = asked(&["--target", &source.address], &env).await;
    assert_eq!(run.of("target", "credentials").0, "good", "{}", run.text);
}

#[tokio::test]
async fn names_that_are_taken_are_in_the_way() {
    let (_, source) = source::serve("v2.3.5", None).await;
    let folder = tempfile::tempdir().unwrap();
    fake::moves::export(&source, folder.path()).await.unwrap();
    let url = format!("file://{}/snap", folder.path().display());
    let run = asked(&[&url, "--target", &source.address], &[]).await;
    assert_eq!(
        (run.code, run.of("target", "names")),
        (5, ("red", "taken already: default.docs")),
        "{}",
        run.text
    );
    assert_eq!(run.document["code"], "MH-TARGET-TAKEN");
    assert!(!run.text.contains("nothing is in the way"), "{}", run.text);
    let (_, empty) = fake::Fake::start("v2.3.5", Habits::default()).await;
    let run = asked(&[&url, "--target", &empty.address], &[]).await;
    assert_eq!((run.code, run.of("target", "names").0), (0, "good"), "{}", run.text);
    assert_eq!(run.of("target", "not checked").0, "note");
    assert!(run.text.contains("`import --plan` tells what the target can hold"), "{}", run.text);
}
