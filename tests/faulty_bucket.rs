//! Whole exports, verifications and the reading side of imports over a bucket that misbehaves as a
//! seed has it, one that does not do all that S3 does, and policies that do not allow everything.
//!
//! What holds in every case: there is no committed snapshot or it is whole, and once the bucket
//! behaves, the same command finishes. `MILVUS_HANDOFF_TEST_ROUNDS` multiplies the number of
//! seeds; a failure names its seed.

mod bucket;
mod fake;

use bucket::{Bucket, Checksums, Fault, NAME, PREFIX, Schedule, Verb, mix};
use fake::source::{self, PARTITIONS, ROWS};
use futures::future::join_all;
use milvus_handoff::digest::Sha256;
use milvus_handoff::error::{Code, Error, ErrorKind, Result};
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::opened::Trust;
use milvus_handoff::progress::Show;
use milvus_handoff::select::{Renames, Selection};
use milvus_handoff::snapshot::keys;
use milvus_handoff::stop::Stop;
use milvus_handoff::store::{Settings, SnapshotUrl, Store, open_s3};
use milvus_handoff::verify::{self, Level};
use milvus_handoff::{diff, export, fetch, import, inspect, opened, output, report, sign, signature, store};
use std::collections::BTreeMap;
use std::sync::Arc;

fn rounds(once: u64) -> u64 {
    std::env::var("MILVUS_HANDOFF_TEST_ROUNDS").map_or(once, |times| once * times.parse::<u64>().unwrap())
}

fn options(source: &Endpoint) -> export::Options {
    export::Options {
        source: source.clone(),
        selection: Selection::default(),
        plan_only: false,
        shard: None,
        writes_paused: false,
        effort: export::Effort { jobs: 2, page_rows: 20 },
        load_source: false,
        allow_writes: false,
        sign: None,
        part_size: 2 << 10,
        show: Show::Quiet,
    }
}

async fn export(source: &Endpoint, bucket: &Bucket) -> Result<export::Outcome> {
    export::run(&options(source), bucket.store(), &Stop::never()).await
}

async fn reported(store: Arc<dyn Store>, level: Level) -> Result<report::Report> {
    let options = report::Options {
        url: SnapshotUrl::parse("s3://handoff/snap").unwrap(),
        level,
        trust: Trust::default(),
        bucket: Settings::default(),
        compare: None,
        jobs: 2,
        show: Show::Quiet,
    };
    report::run(&options, store).await
}

/// What an import does before it touches its target: everything is read or asked for.
async fn check_for_import(source: &Endpoint, store: Arc<dyn Store>) -> Result<()> {
    let options = import::Options {
        target: source.clone(),
        selection: Selection::default(),
        renames: Renames::parse(&["docs=elsewhere".to_string()], None).unwrap(),
        plan_only: true,
        jobs: 2,
        via: import::Via::Is(import::Route::Insert),
        no_aliases: false,
        auto_id: milvus_handoff::select::AutoId::Preserve,
        journal: Some(std::env::temp_dir().join("no-such-journal")),
        load: false,
        trust: Trust::default(),
        show: Show::Quiet,
    };
    import::run(&options, store, &Stop::never()).await.map(|_| ())
}

/// Reads every part as an import does.
async fn fetch_all(store: Arc<dyn Store>) -> Result<u64> {
    let opened = opened::open(store.as_ref(), &Trust::default()).await?;
    let mut bytes = 0;
    for part in opened.manifest.parts() {
        bytes += fetch::fetch(store.as_ref(), part).await?.metadata().unwrap().len();
    }
    assert_eq!(bytes, opened.manifest.totals().bytes);
    Ok(bytes)
}

async fn verified(store: Arc<dyn Store>, level: Level) -> Result<verify::Report> {
    verify::run(store, level, &Trust::default(), 4, Show::Quiet).await
}

/// The bucket as it is, without faults, denials and lags.
fn honest(bucket: &Bucket) {
    bucket.forget();
    bucket.rule(|rules| {
        rules.faults = None;
        rules.denied.clear();
        rules.lag = 0;
        rules.refuse_from = None;
        rules.checksums = Checksums::Returned;
    });
}

/// Whether there is a committed snapshot; one that is not whole is the end of the test.
async fn committed(bucket: &Bucket, what: &str) -> bool {
    if !bucket.objects().contains_key(keys::COMMIT) {
        return false;
    }
    let report = verified(bucket.store(), Level::Full).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(report.problems, [], "{what}");
    let rows = report.opened.manifest.totals().rows;
    assert_eq!(rows, PARTITIONS.len() as u64 * ROWS as u64, "{what}");
    true
}

fn parts(bucket: &Bucket) -> BTreeMap<String, Sha256> {
    bucket.below("data/")
}

fn scheduled(seed: u64, per_mille: u64, kinds: &[Fault]) -> Schedule {
    Schedule { seed, per_mille, kinds: kinds.to_vec(), endless: false }
}

/// The parts that an export into a bucket without faults writes.
async fn reference(source: &Endpoint) -> BTreeMap<String, Sha256> {
    let bucket = Bucket::start().await;
    export(source, &bucket).await.unwrap();
    assert!(committed(&bucket, "reference").await);
    let parts = parts(&bucket);
    assert!(parts.len() > PARTITIONS.len(), "units with several parts");
    parts
}

// ---- a place that is taken ----

/// What is put above the snapshot, as another export or a person puts it.
async fn put_above(bucket: &Bucket, prefix: &str, key: &str) {
    let above = open_s3(NAME, prefix, &bucket.config()).unwrap();
    let bytes = b"{}".to_vec();
    let sha256 = Sha256::of(&bytes);
    above.put_new(key, store::Body::Bytes(bytes.into()), sha256).await.unwrap();
}

async fn planned(source: &Endpoint, store: Arc<dyn Store>) -> Result<export::Outcome> {
    let options = export::Options { plan_only: true, ..options(source) };
    export::run(&options, store, &Stop::never()).await
}

#[tokio::test]
async fn no_snapshot_is_begun_within_another() {
    let source = source::start(None).await;
    for key in [keys::COMMIT, keys::PLAN] {
        let bucket = Bucket::start().await;
        put_above(&bucket, "exports", key).await;
        let before = bucket.all_keys();
        for refused in [export(&source, &bucket).await, planned(&source, bucket.store()).await] {
            let error = refused.unwrap_err();
            assert_eq!(error.code(), Code::PrefixTaken, "{error}");
            assert!(error.message().contains("lies within s3://handoff/exports,"), "{error}");
            assert!(error.message().contains(key) && error.hint_text().is_some(), "{error}");
        }
        assert_eq!(bucket.all_keys(), before, "nothing was written");

        // Who may not look above may export all the same.
        bucket.rule(|rules| rules.denied = vec![Verb::Get, Verb::List, Verb::Delete]);
        export(&source, &bucket).await.unwrap();
        bucket.rule(|rules| rules.denied.clear());
        assert!(committed(&bucket, key).await);
    }

    // What lies beside, and what is called alike, is not above; and the questions are few.
    let bucket = Bucket::start().await;
    put_above(&bucket, "exports/sna", keys::COMMIT).await;
    put_above(&bucket, "export", keys::COMMIT).await;
    bucket.forget();
    export(&source, &bucket).await.unwrap();
    let above = bucket.log().iter().filter(|line| line.starts_with("HEAD /handoff/")).count();
    assert_eq!(above, 2, "{:?}", bucket.log());
}

#[tokio::test]
async fn no_folder_is_begun_within_a_snapshot() {
    let source = source::start(None).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| {
        let url = SnapshotUrl::parse(&format!("file://{}/{path}", folder.path().display())).unwrap();
        async move { store::open(&url).await.unwrap() }
    };
    let run = |store| {
        let options = options(&source);
        async move { export::run(&options, store, &Stop::never()).await }
    };
    run(at("outer").await).await.unwrap();
    std::fs::create_dir(folder.path().join("outer/deep")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outer"), folder.path().join("link")).unwrap();
    for inner in ["outer/new", "outer/deep/new", "link/new"] {
        for refused in [run(at(inner).await).await, planned(&source, at(inner).await).await] {
            let error = refused.unwrap_err();
            assert_eq!(error.code(), Code::PrefixTaken, "{inner}: {error}");
            assert!(error.message().contains(keys::COMMIT), "{inner}: {error}");
        }
    }
    let report = verified(at("outer").await, Level::Full).await.unwrap();
    assert_eq!(report.problems, []);
}

/// A plan says what the export would do, also where that is to refuse.
#[tokio::test]
async fn a_plan_looks_at_its_place_as_the_export_does() {
    let (fake, source) = source::serve("v2.3.5", None).await;
    let bucket = Bucket::start().await;
    bucket.set("stranger.txt", "x");
    let error = planned(&source, bucket.store()).await.unwrap_err();
    assert_eq!(error.code(), Code::PrefixTaken, "{error}");
    assert!(error.message().contains("stranger.txt"), "{error}");
    bucket.clear();

    let plan = planned(&source, bucket.store()).await.unwrap();
    assert_eq!((plan.collections[0].loaded, plan.warnings.len()), (Some(true), 0));
    let said = output::exported("s3://handoff/exports/snap", &plan);
    assert!(said.text.contains("Plan: would export 1 collection,"), "{}", said.text);

    // One that was begun is gone on with, if it is the same.
    bucket.forget();
    bucket.rule(|rules| rules.refuse_from = Some((12, "AccessDenied")));
    export(&source, &bucket).await.unwrap_err();
    honest(&bucket);
    assert!(bucket.objects().contains_key(keys::PLAN) && !bucket.objects().contains_key(keys::COMMIT));
    let plan = planned(&source, bucket.store()).await.unwrap();
    assert!(plan.warnings[0].contains("would go on with it"), "{:?}", plan.warnings);
    let other = export::Options { plan_only: true, part_size: 1 << 20, ..options(&source) };
    let error = export::run(&other, bucket.store(), &Stop::never()).await.unwrap_err();
    assert_eq!(error.code(), Code::PrefixTaken, "{error}");
    bucket.clear();

    // What is not loaded is in the table and in the last line.
    fake.state().collection("", "docs").unwrap().loaded = false;
    for (load_source, last) in [(false, "Plan: the export would be refused: "), (true, "Plan: would export ")]
    {
        let options = export::Options { plan_only: true, load_source, ..options(&source) };
        let plan = export::run(&options, bucket.store(), &Stop::never()).await.unwrap();
        assert_eq!(plan.collections[0].loaded, Some(false));
        let said = output::exported("s3://handoff/exports/snap", &plan);
        let line = said.text.lines().last().unwrap();
        assert!(line.starts_with(last), "{line}");
        assert_eq!(
            line.contains("default.docs") && line.ends_with("[MH-NOT-LOADED]"),
            !load_source,
            "{line}"
        );
        assert_eq!(line.contains("loading 1 collection for it"), load_source, "{line}");
        assert!(said.text.lines().nth(1).unwrap().trim_end().ends_with("no"), "{}", said.text);
    }
    assert_eq!(bucket.all_keys(), [""; 0], "a plan writes nothing");
}

// ---- faults that pass ----

#[tokio::test]
async fn faults_that_pass_change_nothing() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    let mut failed = 0;
    for seed in 0..rounds(16) {
        let what = format!("seed {seed}");
        let bucket = Bucket::start().await;
        let mut runs = 0;
        loop {
            runs += 1;
            assert!(runs < 30, "{what}: it never ends");
            bucket.rule(|rules| {
                rules.create_only = seed % 4 != 3;
                rules.faults = Some(scheduled(mix(seed) + runs, 60 + 40 * (seed % 4), &Fault::PASSING));
            });
            let result = export(&source, &bucket).await;
            honest(&bucket);
            let whole = committed(&bucket, &what).await;
            match result {
                Ok(outcome) => {
                    assert!(whole, "{what}");
                    let digest = Sha256::of(&bucket.objects()[keys::COMMIT]);
                    assert_eq!(outcome.commit, Some(digest), "{what}");
                    break;
                }
                Err(e) => {
                    failed += 1;
                    // A commit whose reply was lost for good: run again, it says that it is there.
                    let kinds = [ErrorKind::Temporary, ErrorKind::OutcomeUnknown];
                    let there = whole && e.kind() == ErrorKind::Exists && runs > 1;
                    assert!(kinds.contains(&e.kind()) || there, "{what}: {e:?}");
                    assert!(e.hint_text().is_some(), "{what}: {e:?}");
                    if whole {
                        break;
                    }
                }
            }
        }
        assert_eq!(parts(&bucket), due, "{what}");
    }
    assert!(failed < rounds(16), "most of the time, retries are enough");
}

#[tokio::test]
async fn faults_that_do_not_pass_end_an_export_and_it_goes_on_later() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    for kind in [
        Fault::SlowDown,
        Fault::InternalError,
        Fault::InternalErrorAfter,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::SilentAfter,
    ] {
        // Everything goes wrong for good from some request on.
        for from in [0, 40] {
            let what = format!("{kind:?}, seed {from}");
            let bucket = Bucket::start().await;
            let faults = Schedule { seed: from, per_mille: 1000, kinds: vec![kind], endless: true };
            let share = Schedule { per_mille: 250, ..faults.clone() };
            bucket.rule(|rules| rules.faults = Some(if from == 0 { faults } else { share }));
            let result = export(&source, &bucket).await;
            honest(&bucket);
            let whole = committed(&bucket, &what).await;
            if let Err(e) = &result {
                let kinds = [ErrorKind::Temporary, ErrorKind::OutcomeUnknown];
                assert!(kinds.contains(&e.kind()), "{what}: {e:?}");
            } else {
                assert!(from > 0 && whole, "{what}");
            }
            if !whole {
                export(&source, &bucket).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            assert!(committed(&bucket, &what).await, "{what}");
            assert_eq!(parts(&bucket), due, "{what}");
        }
    }
}

#[tokio::test]
async fn readers_say_nothing_wrong_over_a_faulty_bucket() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    for seed in 0..rounds(12) {
        let what = format!("seed {seed}");
        let level = [Level::List, Level::Head, Level::Full][(seed % 3) as usize];
        bucket.forget();
        bucket.rule(|rules| rules.faults = Some(scheduled(seed, 150, &Fault::PASSING)));
        match verified(bucket.store(), level).await {
            Ok(report) => assert_eq!(report.problems, [], "{what}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Temporary, "{what}: {e:?}"),
        }
        for result in [
            check_for_import(&source, bucket.store()).await,
            fetch_all(bucket.store()).await.map(|_| ()),
            inspect::run(bucket.store().as_ref(), &Trust::default(), 3).await.map(|_| ()),
        ] {
            if let Err(e) = result {
                assert_eq!(e.kind(), ErrorKind::Temporary, "{what}: {e:?}");
            }
        }
    }
    // What is damaged is found all the same.
    honest(&bucket);
    let key = parts(&bucket).pop_first().unwrap().0;
    let mut damaged = bucket.objects()[&key].to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    bucket.set(&key, damaged);
    for seed in 0..rounds(6) {
        bucket.forget();
        bucket.rule(|rules| rules.faults = Some(scheduled(seed, 100, &Fault::PASSING)));
        match verified(bucket.store(), Level::Full).await {
            Ok(report) => assert_eq!(report.problems.len(), 1, "seed {seed}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Temporary, "seed {seed}: {e:?}"),
        }
        let e = check_for_import(&source, bucket.store()).await.unwrap_err();
        let kinds = [ErrorKind::Integrity, ErrorKind::Temporary];
        assert!(kinds.contains(&e.kind()), "seed {seed}: {e:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_on_the_way_is_never_taken_for_data() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    let mut seen = 0;
    for seed in 0..rounds(40) {
        bucket.forget();
        bucket.rule(|rules| {
            // Without digests, checks read everything.
            rules.checksums = if seed % 2 == 0 { Checksums::Dropped } else { Checksums::Returned };
            rules.faults = Some(scheduled(seed, 300, &[Fault::Flip]));
        });
        let flipped = |e: Error| {
            let kinds = [ErrorKind::Integrity, ErrorKind::Unsupported];
            assert!(kinds.contains(&e.kind()), "seed {seed}: {e:?}");
            assert!(e.hint_text().is_some(), "seed {seed}: {e:?}");
            1
        };
        seen += fetch_all(bucket.store()).await.map_or_else(flipped, |_| 0);
        seen += check_for_import(&source, bucket.store()).await.map_or_else(flipped, |_| 0);
        match verified(bucket.store(), Level::Full).await {
            Ok(report) => seen += usize::from(!report.problems.is_empty()),
            Err(e) => seen += flipped(e),
        }
    }
    assert!(seen > 20, "{seen}");
}

// ---- credentials ----

#[tokio::test]
async fn credentials_that_expire_are_refreshed_and_the_export_goes_on() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    let all = bucket.requests();
    let mut reused = 0;
    // Behind the commit, which is read back, there is nothing left to go on with.
    for from in (0..all - 1).step_by(3) {
        let what = format!("from request {from}");
        bucket.clear();
        bucket.forget();
        bucket.rule(|rules| rules.refuse_from = Some((from, "ExpiredToken")));
        let e = export(&source, &bucket).await.err().unwrap_or_else(|| panic!("{what}: it went through"));
        assert_eq!(e.kind(), ErrorKind::Temporary, "{what}: {e:?}");
        assert_eq!(e.kind().exit_code(), 75);
        assert!(e.to_string().contains("ExpiredToken"), "{what}: {e}");
        assert!(e.hint_text().unwrap().contains("of these AWS credentials has expired"), "{what}: {e:?}");
        bucket.settled().await;
        honest(&bucket);
        assert!(!committed(&bucket, &what).await, "{what}");
        let receipts = bucket.objects().keys().filter(|key| key.starts_with("units/")).count();
        let outcome = export(&source, &bucket).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(outcome.reused_units, receipts, "{what}");
        reused += receipts;
        assert!(committed(&bucket, &what).await);
        assert_eq!(parts(&bucket), due, "{what}");
    }
    assert!(reused > 0);
    // Readers too.
    bucket.rule(|rules| rules.refuse_from = Some((3, "ExpiredToken")));
    bucket.forget();
    assert_eq!(fetch_all(bucket.store()).await.unwrap_err().kind(), ErrorKind::Temporary);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_said_so() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    for from in [0, 10] {
        bucket.forget();
        bucket.rule(|rules| rules.refuse_from = Some((from, "RequestTimeTooSkewed")));
        let e = export(&source, &bucket).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Denied, "{e:?}");
        assert!(e.hint_text().unwrap().contains("clock"), "{e:?}");
    }
    honest(&bucket);
    export(&source, &bucket).await.unwrap();
    assert!(committed(&bucket, "after the clock was set").await);
}

// ---- policies ----

#[tokio::test]
async fn an_exporter_that_may_only_put_exports() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    for denied in [
        vec![Verb::Get, Verb::List, Verb::Delete],
        vec![Verb::Get, Verb::Delete],
        vec![Verb::Get],
        vec![Verb::List, Verb::Delete],
        vec![Verb::List],
        vec![Verb::Delete],
    ] {
        let what = format!("without {denied:?}");
        let bucket = Bucket::start().await;
        bucket.rule(|rules| rules.denied = denied.clone());
        let outcome = export(&source, &bucket).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let blind = denied.contains(&Verb::Get);
        let said = outcome.warnings.iter().any(|warning| warning.contains("could not read the bucket"));
        assert_eq!(said, blind, "{what}: {:?}", outcome.warnings);
        let before = bucket.digests();

        // The same again changes nothing, whether it can see that it is there or not.
        let e = export(&source, &bucket).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Exists, "{what}: {e:?}");
        assert_eq!(bucket.digests(), before, "{what}");
        honest(&bucket);
        assert!(committed(&bucket, &what).await, "{what}");
        assert_eq!(parts(&bucket), due, "{what}");
    }
}

#[tokio::test]
async fn an_exporter_that_may_not_put_is_told_what_it_needs() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    bucket.rule(|rules| rules.denied = vec![Verb::Put]);
    let e = export(&source, &bucket).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Denied, "{e:?}");
    assert!(e.hint_text().unwrap().contains("s3:PutObject"), "{e:?}");
    assert_eq!(bucket.objects().len(), 0);
}

/// Without the right to list, S3 says "denied" of every object that is not there. That is the
/// common policy of exporters, and they go on with interrupted exports.
#[tokio::test]
async fn an_exporter_that_may_not_list_goes_on_with_an_interrupted_export() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    for denied in [vec![Verb::List], vec![Verb::List, Verb::Delete]] {
        let bucket = Bucket::start().await;
        bucket.rule(|rules| {
            rules.denied = denied.clone();
            rules.refuse_from = Some((16, "ExpiredToken"));
        });
        export(&source, &bucket).await.unwrap_err();
        let receipts = bucket.objects().keys().filter(|key| key.starts_with("units/")).count();
        bucket.rule(|rules| rules.refuse_from = None);
        let outcome = export(&source, &bucket).await.unwrap();
        assert_eq!(outcome.reused_units, receipts);
        honest(&bucket);
        assert!(committed(&bucket, "resumed").await);
        assert_eq!(parts(&bucket), due);
    }
    // Who may not read cannot go on, and is told why.
    let bucket = Bucket::start().await;
    bucket.rule(|rules| {
        rules.denied = vec![Verb::Get, Verb::List, Verb::Delete];
        rules.refuse_from = Some((12, "ExpiredToken"));
    });
    export(&source, &bucket).await.unwrap_err();
    let plan = bucket.below(keys::PLAN);
    bucket.rule(|rules| rules.refuse_from = None);
    let e = export(&source, &bucket).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exists, "{e:?}");
    assert!(e.hint_text().unwrap().contains("s3:GetObject"), "{e:?}");
    assert!(plan.len() == 1 && bucket.below(keys::PLAN) == plan);
}

#[tokio::test]
async fn a_reader_that_may_only_read_reads() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    for (denied, listed) in
        [(vec![Verb::Put, Verb::Delete], true), (vec![Verb::Put, Verb::Delete, Verb::List], false)]
    {
        bucket.rule(|rules| rules.denied = denied.clone());
        check_for_import(&source, bucket.store()).await.unwrap();
        fetch_all(bucket.store()).await.unwrap();
        inspect::run(bucket.store().as_ref(), &Trust::default(), 3).await.unwrap();
        let differ = diff::Options {
            selection: Selection::default(),
            keys: true,
            first: 1,
            jobs: 2,
            show: Show::Quiet,
        };
        let same = diff::run(&differ, [bucket.store(), bucket.store()]).await.unwrap();
        assert_eq!(same.differences(), 0);
        for level in [Level::Head, Level::Full] {
            let report = verified(bucket.store(), level).await.unwrap();
            assert_eq!(report.problems, []);
            let noted = report.notes.iter().any(|note| note.contains("could not be listed"));
            assert_eq!(noted, !listed, "{:?}", report.notes);
        }
        // A report looks at names by default, and says what to do where they may not be listed.
        match reported(bucket.store(), Level::List).await {
            Ok(report) => assert!(listed && report.is_good()),
            Err(e) => assert!(!listed && e.hint_text().unwrap().contains("--level head"), "{e:?}"),
        }
        let report = reported(bucket.store(), Level::Head).await.unwrap();
        assert!(report.is_good() && report.verified.notes.is_empty() == listed);
    }
    // Nothing at all may be read.
    bucket.rule(|rules| rules.denied = vec![Verb::Get, Verb::List]);
    let e = check_for_import(&source, bucket.store()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Denied, "{e:?}");
    assert!(e.hint_text().unwrap().contains("s3:GetObject and s3:ListBucket"), "{e:?}");
}

/// Whoever may not list cannot know who has signed, nor what else is there: that is said, and nothing in its place.
#[tokio::test]
async fn who_may_not_list_does_not_say_that_nobody_has_signed() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    let key = signature::SigningKey::open(&signature::generate(None).unwrap().0).unwrap();
    let trusting = Trust { expect: None, keys: vec![key.public().unwrap()] };
    // Twice: whoever signs needs no listing either.
    bucket.rule(|rules| rules.denied = vec![Verb::List, Verb::Delete]);
    for _ in 0..2 {
        sign::run(bucket.store().as_ref(), &Trust::default(), &key).await.unwrap();
    }
    for (denied, trust, said) in [
        (vec![], &Trust::default(), None),
        (vec![Verb::List], &Trust::default(), Some("signatures and surplus objects could not be looked for")),
        (vec![Verb::List], &trusting, Some("other signatures and surplus objects could not be looked for")),
    ] {
        bucket.rule(|rules| rules.denied = denied.clone());
        let known = said.is_none() || !trust.keys.is_empty();
        for level in [Level::Head, Level::Full] {
            let looked = verify::run(bucket.store(), level, trust, 4, Show::Quiet).await.unwrap();
            let told = output::verified("s3://handoff/snap", &looked);
            let last = told.text.lines().last().unwrap();
            assert_eq!(last.contains("could not be looked for"), said.is_some(), "{last}");
            assert!(said.is_none_or(|said| last.contains(&format!("; {said})"))), "{last}");
            assert_eq!(told.document["listed"], said.is_none());
            let signatures = told.document["signatures"].as_array();
            assert_eq!(signatures.map(Vec::len), known.then_some(1), "{}", told.document);
        }
        let mut about = reported(bucket.store(), Level::Full).await.unwrap();
        about.verified = verify::run(bucket.store(), Level::Full, trust, 4, Show::Quiet).await.unwrap();
        about.trust = trust.clone();
        assert_eq!(about.reached.endpoint.as_ref(), Some(&bucket.endpoint));
        let document = about.document();
        let of = |about: &str| {
            let all = document["verdicts"].as_array().unwrap();
            all.iter().find(|verdict| verdict["about"] == about).unwrap().clone()
        };
        let due = match (said.is_some(), trust.keys.is_empty()) {
            (false, _) => "not checked",
            (true, true) => "not known",
            (true, false) => "valid",
        };
        assert_eq!(of("Signature")["word"], due, "{document}");
        assert_eq!(document["signatures"].is_null(), !known);
        let unlisted = of("Objects")["text"].as_str().unwrap().contains("could not be looked for");
        assert_eq!(unlisted, said.is_some(), "{document}");
        assert!(!about.text(report::Format::Html).contains("Nobody has signed"));
    }
}

// ---- buckets that cannot do everything ----

#[tokio::test]
async fn what_a_bucket_cannot_do_is_said_and_recorded() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    for create_only in [true, false] {
        for checksums in [Checksums::Returned, Checksums::Dropped, Checksums::Wrong] {
            let what = format!("create-only {create_only}, checksums {checksums:?}");
            let bucket = Bucket::start().await;
            bucket.rule(|rules| {
                rules.create_only = create_only;
                rules.checksums = checksums;
            });
            let outcome = export(&source, &bucket).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            let said = |needle: &str| outcome.warnings.iter().any(|warning| warning.contains(needle));
            assert_eq!(said("ignores create-only puts"), !create_only, "{what}: {:?}", outcome.warnings);
            let returned = checksums == Checksums::Returned;
            assert_eq!(said("does not return SHA-256 checksums"), !returned, "{what}");

            let opened = opened::open(bucket.store().as_ref(), &Trust::default()).await.unwrap();
            let limits = &opened.manifest.bucket_limits;
            assert_eq!(
                limits.len(),
                usize::from(!create_only) + usize::from(!returned),
                "{what}: {limits:?}"
            );
            for level in [Level::List, Level::Head, Level::Full] {
                let report = verified(bucket.store(), level).await.unwrap();
                assert_eq!(report.problems, [], "{what}: the bucket's digest is wrong, not the bytes");
                let wrong = level == Level::Head && checksums == Checksums::Wrong;
                let noted = report.notes.iter().any(|note| note.contains("returns a wrong SHA-256"));
                assert_eq!(noted, wrong, "{what}: {:?}", report.notes);
            }
            check_for_import(&source, bucket.store()).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(parts(&bucket), due, "{what}");
        }
    }
}

#[tokio::test]
async fn a_listing_that_lags_is_not_believed() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    for lag in [1, 3, 100] {
        bucket.clear();
        bucket.rule(|rules| rules.lag = lag);
        export(&source, &bucket).await.unwrap();
        for level in [Level::List, Level::Head, Level::Full] {
            let report = verified(bucket.store(), level).await.unwrap();
            assert_eq!(report.problems, [], "lag {lag}");
        }
        check_for_import(&source, bucket.store()).await.unwrap();
    }
    // What was removed a moment ago and is still listed is not there; what is missing, is missing.
    bucket.rule(|rules| rules.lag = 0);
    let store = bucket.store();
    let key = "data/default/docs/y2026/u00003-0009-00000000.parquet";
    bucket.set(key, "leftover");
    assert_eq!(verified(store.clone(), Level::List).await.unwrap().problems[0].key, key);
    store.delete(key).await.unwrap();
    bucket.rule(|rules| rules.lag = 1);
    assert_eq!(verified(store.clone(), Level::List).await.unwrap().problems, []);
    let gone = parts(&bucket).pop_first().unwrap().0;
    store.delete(&gone).await.unwrap();
    assert!(verified(store.clone(), Level::Head).await.unwrap().problems.iter().any(|p| p.key == gone));
}

/// "Successful" would be the word for a snapshot that lacks something.
#[tokio::test]
async fn what_a_bucket_has_lost_is_missed_before_the_end() {
    let source = source::start(None).await;
    for lost in ["PLAN.json", "data/", "units/", "manifest.json", "SHA256SUMS", "COMMIT.json"] {
        for checksums in [Checksums::Returned, Checksums::Dropped, Checksums::Wrong] {
            let bucket = Bucket::start().await;
            bucket.rule(|rules| {
                rules.forgets = Some(lost);
                rules.checksums = checksums;
            });
            let e = export(&source, &bucket).await.map(|_| ()).expect_err(lost);
            assert_eq!(e.kind(), ErrorKind::Integrity, "{lost}: {e:?}");
            assert!(e.to_string().contains(lost), "{lost}: {e:?}");
            assert!(!bucket.objects().contains_key(keys::COMMIT), "{lost}");
        }
    }
}

#[tokio::test]
async fn parts_that_were_replaced_between_two_runs_are_not_vouched_for() {
    let source = source::start(None).await;
    for checksums in [Checksums::Returned, Checksums::Dropped, Checksums::Wrong] {
        let bucket = Bucket::start().await;
        bucket.rule(|rules| {
            rules.checksums = checksums;
            rules.forgets = Some("manifest.json");
        });
        export(&source, &bucket).await.map(|_| ()).unwrap_err();
        bucket.rule(|rules| rules.forgets = None);
        let key = parts(&bucket).pop_first().unwrap().0;
        let mut bytes = bucket.objects()[&key].to_vec();
        bytes[100] ^= 1;
        bucket.set(&key, bytes);
        let e = export(&source, &bucket).await.map(|_| ()).expect_err("a part has another content");
        assert_eq!(e.kind(), ErrorKind::Integrity, "{e:?}");
        assert!(e.to_string().contains(&key), "{e:?}");
    }
}

// ---- two exporters ----

/// Several exporters at once: those that end well speak of one snapshot, the others changed
/// nothing and say that somebody else is there.
async fn race(source: &Endpoint, bucket: &Bucket, exporters: &[export::Options], what: &str) -> usize {
    let runs = exporters.iter().map(|options| {
        let store = bucket.store();
        async move { export::run(options, store, &Stop::never()).await }
    });
    let results = join_all(runs).await;
    honest(bucket);
    let mut digests = Vec::new();
    for result in results {
        match result {
            Ok(outcome) => digests.push(outcome.commit.unwrap()),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Exists, "{what}: {e:?}"),
        }
    }
    if committed(bucket, what).await {
        let digest = Sha256::of(&bucket.objects()[keys::COMMIT]);
        assert!(digests.iter().all(|theirs| *theirs == digest), "{what}");
    } else {
        assert_eq!(digests, [], "{what}: a success that is none");
        // Nobody went on: whoever comes next does, or must take another name.
        match export(source, bucket).await {
            Ok(_) => assert!(committed(bucket, what).await, "{what}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Exists, "{what}: {e:?}"),
        }
    }
    digests.len()
}

#[tokio::test]
async fn of_several_exporters_one_commits() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    for seed in 0..rounds(24) {
        let what = format!("seed {seed}");
        let same = options(&source);
        // Whoever asks for something else must not take up this plan.
        let other = export::Options { part_size: 3 << 10, ..options(&source) };
        let exporters = [same.clone(), if seed % 2 == 0 { same.clone() } else { other }, same];
        bucket.clear();
        bucket.rule(|rules| rules.faults = Some(scheduled(seed, 80, &[Fault::SlowDown])));
        let done = race(&source, &bucket, &exporters, &what).await;
        assert!(done >= 1, "{what}: on a bucket that keeps them apart, one gets through");
    }
}

#[tokio::test]
async fn without_create_only_puts_exporters_still_break_nothing() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    for seed in 0..rounds(24) {
        let what = format!("seed {seed}");
        let other = export::Options { part_size: 3 << 10, ..options(&source) };
        let exporters = [options(&source), if seed % 2 == 0 { options(&source) } else { other }];
        bucket.clear();
        bucket.rule(|rules| {
            rules.create_only = false;
            rules.faults = Some(scheduled(seed, 80, &[Fault::SlowDown]));
        });
        race(&source, &bucket, &exporters, &what).await;
    }
}

#[tokio::test]
async fn a_committed_snapshot_is_never_touched() {
    let source = source::start(None).await;
    let bucket = Bucket::start().await;
    export(&source, &bucket).await.unwrap();
    let before = bucket.digests();
    for create_only in [true, false] {
        for denied in [vec![], vec![Verb::Get], vec![Verb::List], vec![Verb::Get, Verb::List, Verb::Delete]] {
            for lag in [0, 100] {
                bucket.rule(|rules| {
                    rules.create_only = create_only;
                    rules.denied = denied.clone();
                    rules.lag = lag;
                });
                let e = export(&source, &bucket).await.unwrap_err();
                let blind = denied.contains(&Verb::Get);
                let due = if blind && !create_only { ErrorKind::Unsupported } else { ErrorKind::Exists };
                assert_eq!(e.kind(), due, "{create_only}, {denied:?}: {e:?}");
                let mut after = bucket.digests();
                // Who may not look has put the empty object that stands for a folder.
                after.remove("");
                assert_eq!(after, before, "{create_only}, {denied:?}");
            }
        }
    }
    let elsewhere = open_s3(NAME, &format!("{PREFIX}-2"), &bucket.config()).unwrap();
    honest(&bucket);
    export::run(&options(&source), elsewhere, &Stop::never()).await.unwrap();
    assert!(committed(&bucket, "beside another one").await);
}
