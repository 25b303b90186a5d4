//! Exports on many machines: a plan, workers that are lost and doubled, and commits at the same
//! time, over a bucket that misbehaves.

mod bucket;
mod fake;

use bucket::{Bucket, Fault, Schedule, mix};
use fake::Fake;
use fake::source::{self, PARTITIONS, ROWS};
use futures::future::join_all;
use milvus_handoff::digest::Sha256;
use milvus_handoff::error::{ErrorKind, Result};
use milvus_handoff::export::shards::{self, PlanMade, Worked};
use milvus_handoff::export::{self, Effort, Options, Outcome, Shard, Share, commit};
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::opened::{self, Trust};
use milvus_handoff::progress::Show;
use milvus_handoff::select::Selection;
use milvus_handoff::signature::{self, KeyId, SigningKey};
use milvus_handoff::snapshot::{Consistency, keys};
use milvus_handoff::stop::Stop;
use milvus_handoff::verify::{self, Level};
use std::collections::BTreeMap;

const OLD: &str = "v2.3.5";
const NEW: &str = "v2.6.3";
const TOTAL: u64 = PARTITIONS.len() as u64 * ROWS as u64;

/// What every process of the export is started with.
fn options(source: &Endpoint) -> Options {
    Options {
        source: source.clone(),
        selection: Selection::default(),
        plan_only: false,
        shard: None,
        writes_paused: true,
        effort: Effort { jobs: 2, page_rows: 20 },
        load_source: false,
        allow_writes: false,
        sign: None,
        part_size: 64 << 10,
        show: Show::Quiet,
    }
}

async fn plan(options: &Options, bucket: &Bucket) -> Result<PlanMade> {
    let options = Options { shard: Some(Shard::Plan { workers: 2 }), ..options.clone() };
    shards::make_plan(&options, 2, bucket.store(), &Stop::never()).await
}

async fn work(options: &Options, index: u32, bucket: &Bucket) -> Result<Worked> {
    let share = Share { index, of: 2 };
    let options = Options { shard: Some(Shard::Work(share)), ..options.clone() };
    shards::work(&options, share, bucket.store(), &Stop::never()).await
}

async fn end(options: &Options, bucket: &Bucket) -> Result<Outcome> {
    end_signed(options, None, bucket).await
}

async fn end_signed(options: &Options, sign: Option<SigningKey>, bucket: &Bucket) -> Result<Outcome> {
    let options = commit::Options { source: options.source.clone(), effort: options.effort, sign };
    commit::run(&options, bucket.store().as_ref(), &Stop::never()).await
}

/// What one process writes into a bucket without faults.
async fn reference(source: &Endpoint) -> BTreeMap<String, Sha256> {
    let bucket = Bucket::start().await;
    export::run(&options(source), bucket.store(), &Stop::never()).await.unwrap();
    bucket.below("data/")
}

/// The snapshot is there, whole, and nothing else is.
async fn whole(bucket: &Bucket, due: &BTreeMap<String, Sha256>, what: &str) {
    let report = verify::run(bucket.store(), Level::Full, &Trust::default(), 4, Show::Quiet).await;
    let report = report.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(report.problems, [], "{what}");
    assert_eq!(report.opened.manifest.totals().rows, TOTAL, "{what}");
    assert_eq!(bucket.below("data/"), *due, "{what}");
}

#[tokio::test]
async fn shards_come_to_what_one_export_writes() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    let made = plan(&options, &bucket).await.unwrap();
    assert!(!made.was_there && made.units == PARTITIONS.len(), "{made:?}");
    let written = bucket.digests();
    assert!(plan(&options, &bucket).await.unwrap().was_there, "the same plan again is the same plan");
    assert_eq!(bucket.digests(), written);

    let second = work(&options, 1, &bucket).await.unwrap();
    assert_eq!((second.units, second.reused_units, second.rows), (1, 0, ROWS as u64));
    let e = end(&options, &bucket).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Temporary, "{e:?}");
    let done = bucket.below("units/").into_keys().next().unwrap();
    let missing: Vec<_> = (0..3).map(keys::unit_id).filter(|id| keys::receipt(id) != done).collect();
    assert!(
        e.to_string().contains(&format!("2 of 3 units have not been exported yet: {}", missing.join(", "))),
        "{e}"
    );
    assert!(bucket.below("manifest.json").is_empty() && bucket.below("COMMIT.json").is_empty());

    let first = work(&options, 0, &bucket).await.unwrap();
    assert_eq!((first.units, first.reused_units, first.rows), (2, 0, 2 * ROWS as u64));
    let outcome = end(&options, &bucket).await.unwrap();
    assert_eq!(outcome.collections[0].consistency, Some(Consistency::Checked));
    assert_eq!((outcome.totals.rows, outcome.collections[0].server_count), (TOTAL, Some(TOTAL)));
    whole(&bucket, &due, "sharded").await;

    // Whoever comes late changes nothing, and is told the same.
    let written = bucket.digests();
    for _ in 0..2 {
        assert_eq!(end(&options, &bucket).await.unwrap().commit, outcome.commit);
        let again = work(&options, 0, &bucket).await.unwrap();
        assert_eq!((again.units, again.reused_units), (2, 2));
    }
    assert_eq!(plan(&options, &bucket).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(bucket.digests(), written);
}

#[tokio::test]
async fn lost_and_doubled_workers_and_racing_commits_change_nothing() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    let rounds = std::env::var("MILVUS_HANDOFF_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for seed in 0..10 * rounds {
        let what = format!("seed {seed}");
        bucket.clear();
        let faults =
            Schedule { seed, per_mille: 80, kinds: vec![Fault::SlowDown, Fault::ResetAfter], endless: false };
        bucket.rule(|rules| rules.faults = Some(faults.clone()));
        for made in join_all((0..3).map(|_| plan(&options, &bucket))).await {
            made.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        }
        // Some workers are lost: their futures are dropped at some moment.
        let workers = join_all((0..5).map(|number| {
            let (options, bucket) = (&options, &bucket);
            let patience = std::time::Duration::from_millis(mix(seed * 10 + number) % 400);
            async move {
                let work = work(options, number as u32 % 2, bucket);
                if number > 2 {
                    return tokio::time::timeout(patience, work).await.ok();
                }
                Some(work.await)
            }
        }));
        let early = join_all((0..2).map(|_| end(&options, &bucket)));
        let (workers, early) = tokio::join!(workers, early);
        for worked in workers.into_iter().flatten() {
            worked.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        }
        for outcome in early {
            if let Err(e) = outcome {
                assert_eq!(e.kind(), ErrorKind::Temporary, "{what}: {e:?}");
            }
        }
        let outcomes = join_all((0..3).map(|_| end(&options, &bucket))).await;
        let digest = Sha256::of(&bucket.objects()[keys::COMMIT]);
        for outcome in outcomes {
            let outcome = outcome.unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_eq!(outcome.commit, Some(digest), "{what}");
        }
        bucket.forget();
        bucket.rule(|rules| rules.faults = None);
        whole(&bucket, &due, &what).await;
    }
}

#[tokio::test]
async fn a_part_that_comes_after_the_commit_is_removed_by_the_next_one() {
    let source = source::start(None).await;
    let due = reference(&source).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    plan(&options, &bucket).await.unwrap();
    for index in 0..2 {
        work(&options, index, &bucket).await.unwrap();
    }
    let outcome = end(&options, &bucket).await.unwrap();
    let part = due.keys().next().unwrap();
    bucket
        .set(&format!("{}-00000000.parquet", &part[..part.rfind('-').unwrap()]), "a worker that was killed");
    bucket.set("somebody/else", "is not ours to remove");
    assert_eq!(end(&options, &bucket).await.unwrap().commit, outcome.commit);
    assert_eq!(bucket.below("data/"), due);
    assert_eq!(bucket.below("somebody/").len(), 1);
}

#[tokio::test]
async fn nothing_begins_before_the_plan_and_nobody_takes_up_another_one() {
    let source = source::start(None).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    for e in [work(&options, 0, &bucket).await.unwrap_err(), end(&options, &bucket).await.unwrap_err()] {
        assert_eq!(e.kind(), ErrorKind::Temporary, "{e:?}");
        assert!(e.to_string().contains("there is no plan"), "{e}");
    }
    assert!(bucket.objects().is_empty());

    plan(&options, &bucket).await.unwrap();
    let written = bucket.digests();
    let other = Options { part_size: 128 << 10, ..options.clone() };
    for e in [plan(&other, &bucket).await.unwrap_err(), work(&other, 0, &bucket).await.unwrap_err()] {
        assert_eq!(e.kind(), ErrorKind::Exists, "{e:?}");
    }
    assert_eq!(bucket.digests(), written);
    // One process can finish what was meant for several.
    export::run(&options, bucket.store(), &Stop::never()).await.unwrap();
    whole(&bucket, &reference(&source).await, "by one").await;
}

#[tokio::test]
async fn without_pins_the_user_must_say_that_nothing_is_written() {
    let (fake, source) = source::serve(OLD, None).await;
    let (bucket, said) = (Bucket::start().await, options(&source));
    let silent = Options { writes_paused: false, ..said.clone() };
    let e = plan(&silent, &bucket).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Usage, "{e:?}");
    assert!(e.hint_text().unwrap().contains("--writes-paused"), "{e:?}");
    assert!(bucket.objects().is_empty());
    plan(&said, &bucket).await.unwrap();
    assert_eq!(work(&silent, 0, &bucket).await.unwrap_err().kind(), ErrorKind::Usage);

    // And whoever writes all the same is found out at the end.
    for index in 0..2 {
        work(&said, index, &bucket).await.unwrap();
    }
    source::write(&fake, 1);
    let e = end(&said, &bucket).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::SourceChanged, "{e:?}");
    assert!(!bucket.objects().contains_key(keys::COMMIT));
}

#[tokio::test]
async fn accepted_writes_do_not_set_workers_against_each_other() {
    let (fake, source) = source::serve(OLD, None).await;
    let bucket = Bucket::start().await;
    let options = Options { writes_paused: false, allow_writes: true, ..options(&source) };
    plan(&options, &bucket).await.unwrap();
    work(&options, 0, &bucket).await.unwrap();
    source::write(&fake, 1);
    for index in 0..2 {
        work(&options, index, &bucket).await.unwrap();
    }
    let outcomes = join_all((0..3).map(|_| end(&options, &bucket))).await;
    let digests: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().commit).collect();
    assert!(digests[0].is_some() && digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// All read at the plan's timestamp, on servers that can: workers, those who go on with an
/// interrupted export, and the count at the end.
#[tokio::test]
async fn everybody_reads_at_the_moment_of_the_plan() {
    for sharded in [true, false] {
        let (fake, source) = source::serve(NEW, None).await;
        let due = reference(&source).await;
        let bucket = Bucket::start().await;
        let options = Options { writes_paused: false, ..options(&source) };
        plan(&options, &bucket).await.unwrap();
        work(&options, 0, &bucket).await.unwrap();
        write_some(&fake);
        let outcome = if sharded {
            work(&options, 1, &bucket).await.unwrap();
            write_some(&fake);
            end(&options, &bucket).await.unwrap()
        } else {
            export::run(&options, bucket.store(), &Stop::never()).await.unwrap()
        };
        let docs = &outcome.collections[0];
        assert!(matches!(docs.consistency, Some(Consistency::Pinned(_))));
        assert_eq!((docs.rows, docs.server_count), (TOTAL, Some(TOTAL)));
        whole(&bucket, &due, if sharded { "shards" } else { "one process" }).await;
    }
}

fn write_some(fake: &Fake) {
    for key in [-1, 1, 3] {
        source::write(fake, key);
    }
}

#[tokio::test]
async fn what_is_loaded_for_shards_stays_loaded() {
    let (fake, source) = source::serve(OLD, None).await;
    let (bucket, careful) = (Bucket::start().await, options(&source));
    let loaded = |state: Option<bool>| {
        let mut all = fake.state();
        let docs = all.collection("", "docs").unwrap();
        docs.loaded = state.unwrap_or(docs.loaded);
        docs.loaded
    };
    loaded(Some(false));
    assert_eq!(plan(&careful, &bucket).await.unwrap_err().kind(), ErrorKind::Exists);
    let loading = Options { load_source: true, ..careful.clone() };
    let made = plan(&loading, &bucket).await.unwrap();
    assert!(
        made.warnings.iter().any(|warning| warning.contains("docs was loaded, and stays loaded")),
        "{made:?}"
    );
    assert!(loaded(None));
    for index in 0..2 {
        let worked = work(&loading, index, &bucket).await.unwrap();
        assert_eq!(worked.warnings, [""; 0]);
    }
    assert!(loaded(None));
    loaded(Some(false));
    assert_eq!(end(&careful, &bucket).await.unwrap_err().kind(), ErrorKind::Exists);
    loaded(Some(true));
    end(&careful, &bucket).await.unwrap();
    // Once it is committed nobody needs the source.
    loaded(Some(false));
    end(&careful, &bucket).await.unwrap();
}

#[tokio::test]
async fn a_commit_is_signed_whoever_comes_first() {
    let source = source::start(None).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    plan(&options, &bucket).await.unwrap();
    for index in 0..2 {
        work(&options, index, &bucket).await.unwrap();
    }
    let key = || SigningKey::open(&signature::generate(None).unwrap().0).unwrap();
    let (one, two) = (key(), key());
    let first = end_signed(&options, Some(one.clone()), &bucket).await.unwrap();
    let second = end_signed(&options, Some(two.clone()), &bucket).await.unwrap();
    assert_eq!(first.commit, second.commit);
    let ids: Vec<Option<KeyId>> = vec![first.signed_by, second.signed_by];
    assert_eq!(ids, [Some(one.public().unwrap().id()), Some(two.public().unwrap().id())]);
    for key in [one, two] {
        let trust = Trust { keys: vec![key.public().unwrap()], ..Trust::default() };
        opened::open(bucket.store().as_ref(), &trust).await.unwrap();
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_keep_the_first_is_refused() {
    let source = source::start(None).await;
    let (bucket, options) = (Bucket::start().await, options(&source));
    bucket.rule(|rules| rules.create_only = false);
    assert_eq!(plan(&options, &bucket).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(work(&options, 0, &bucket).await.unwrap_err().kind(), ErrorKind::Unsupported);
    // One process can do it.
    export::run(&options, bucket.store(), &Stop::never()).await.unwrap();
}
