//! The format, held to what was once written: every version ever released stays readable, and
//! documents read back to what was said.
//!
//! `tests/fixtures/v1` was written once by `write_fixture` below. It is never written anew: a
//! change that it does not survive is a new version of the format.

mod common;

use common::{FIRST, make_snapshot, open, read_folder};
use milvus::proto::milvus::DescribeCollectionResponse;
use milvus::proto::schema::value_field::Data as DefaultValue;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema, ValueField};
use milvus_handoff::columns::Keys;
use milvus_handoff::digest::{Hasher, Sha256};
use milvus_handoff::milvus::read_described;
use milvus_handoff::opened::Trust;
use milvus_handoff::part::PartReader;
use milvus_handoff::progress::Show;
use milvus_handoff::schema::{CollectionName, Key};
use milvus_handoff::snapshot::{
    CollectionMeta, CollectionResult, Commit, Consistency, Counts, FORMAT_VERSION, Manifest, ObjectRef, Part,
    Plan, Receipt, SourceInfo, keys, sums_document,
};
use milvus_handoff::verify::{self, Level};
use milvus_handoff::{inspect, output};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every fixture: its folder, its format version, and the digest that `--expect` would be given.
const FIXTURES: &[(&str, u32, &str)] =
    &[("v1", 1, "sha256:69dd029fdda46f67a2d45724df0126fdcfaec393268d5374a0bbe18f5c03cba4")];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn no_fixture_is_forgotten() {
    let mut found: Vec<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let listed: Vec<_> = FIXTURES.iter().map(|(folder, ..)| folder.to_string()).collect();
    assert_eq!(found, listed, "every folder here is opened by the tests below, forever");
    let versions: Vec<_> = FIXTURES.iter().map(|(_, version, _)| *version).collect();
    assert!((1..=FORMAT_VERSION).all(|version| versions.contains(&version)), "a version without a fixture");
}

#[tokio::test]
async fn fixtures_are_whole_and_say_what_they_said() {
    for (folder, _, digest) in FIXTURES {
        let store = open(&fixtures().join(folder)).await;
        let trust = Trust { expect: Some(Sha256::parse(digest).unwrap()), keys: Vec::new() };
        for level in [Level::List, Level::Head, Level::Full] {
            let report = verify::run(store.clone(), level, &trust, 2, Show::Quiet).await.unwrap();
            assert_eq!(report.problems, [], "{folder}");
        }
        let report = inspect::run(store.as_ref(), &trust, 1_000).await.unwrap();
        let rows: usize = report.first_rows.iter().map(Vec::len).sum();
        assert_eq!(rows as u64, report.opened.commit.totals.rows, "every row of {folder} is read");
        insta::assert_snapshot!(
            format!("inspect-{folder}"),
            output::inspected("file:///fixture", &report).text
        );
    }
}

#[tokio::test]
async fn documents_are_written_as_they_were_read() {
    for (folder, version, _) in FIXTURES.iter().filter(|(_, version, _)| *version == FORMAT_VERSION) {
        let objects = read_folder(&fixtures().join(folder));
        let commit = Commit::parse(&objects[keys::COMMIT]).unwrap();
        assert_eq!(commit.to_bytes().unwrap(), objects[keys::COMMIT], "version {version}");
        let manifest = Manifest::parse(&objects[keys::MANIFEST]).unwrap();
        assert_eq!(manifest.to_bytes().unwrap(), objects[keys::MANIFEST]);
        assert_eq!(sums_document(&commit.manifest, &manifest), objects[keys::SUMS]);
        let plan = Plan::parse(&objects[keys::PLAN]).unwrap();
        assert_eq!(plan.to_bytes().unwrap(), objects[keys::PLAN]);
        for unit in &plan.units {
            let bytes = &objects[&keys::receipt(&unit.id)];
            assert_eq!(Receipt::parse(bytes, &plan, unit).unwrap().to_bytes().unwrap(), *bytes);
        }
        let known = manifest.parts().count() + plan.units.len() + 4;
        assert_eq!(objects.len(), known, "there is no document that this test does not know");
    }
}

/// What `sha256sum -c SHA256SUMS` does.
#[test]
fn sums_are_those_of_the_files() {
    for (folder, ..) in FIXTURES {
        let objects = read_folder(&fixtures().join(folder));
        let sums = String::from_utf8(objects[keys::SUMS].clone()).unwrap();
        let mut checked = Vec::new();
        for line in sums.lines() {
            let (digest, key) = line.split_once("  ").unwrap();
            assert_eq!(Sha256::of(&objects[key]).to_string(), digest, "{key}");
            checked.push(key);
        }
        let due: Vec<_> =
            objects.keys().filter(|key| key.starts_with("data/") || *key == keys::MANIFEST).collect();
        checked.sort();
        assert_eq!(checked, due);
    }
}

#[tokio::test]
async fn receipts_digest_the_keys_of_their_parts() {
    for (folder, ..) in FIXTURES {
        let root = fixtures().join(folder);
        let plan = Plan::parse(&std::fs::read(root.join(keys::PLAN)).unwrap()).unwrap();
        for unit in &plan.units {
            let bytes = std::fs::read(root.join(keys::receipt(&unit.id))).unwrap();
            let receipt = Receipt::parse(&bytes, &plan, unit).unwrap();
            let schema = &plan.collections[unit.collection].schema;
            let (columns, key) = (schema.columns(), &schema.primary_key().name);
            let mut digest = Hasher::default();
            for part in &receipt.parts {
                let file = std::fs::File::open(root.join(&part.key)).unwrap();
                let mut reader = PartReader::open(file, &columns, key, part, 2).unwrap();
                while let Some(batch) = reader.next_batch().unwrap() {
                    Keys::of(&batch, key).unwrap().hash_into(&mut digest);
                }
            }
            assert_eq!(digest.finish(), receipt.keys_sha256, "{folder} {}", unit.id);
        }
    }
}

#[tokio::test]
#[ignore = "writes a fixture, which is done once a format version"]
async fn write_fixture() {
    let at = fixtures().join(format!("v{FORMAT_VERSION}"));
    assert!(!at.exists(), "a fixture is never written anew");
    std::fs::create_dir_all(fixtures()).unwrap();
    let made = make_snapshot(&at, &FIRST).await;
    println!("sha256:{}", made.digest);
}

// ---- documents ----

fn manifest_with(field: FieldSchema, texts: [String; 4], part: Option<Part>) -> Manifest {
    let key = FieldSchema {
        name: "key".into(),
        is_primary_key: true,
        data_type: DataType::VarChar as i32,
        type_params: vec![milvus::proto::common::KeyValuePair {
            key: "max_length".into(),
            value: "9".into(),
        }],
        ..Default::default()
    };
    let schema =
        CollectionSchema { fields: vec![key, field], description: texts[0].clone(), ..Default::default() };
    let described = DescribeCollectionResponse { schema: Some(schema), ..Default::default() }.encode_to_vec();
    let rows = part.as_ref().map_or(0, |part| part.rows);
    Manifest {
        id: texts[1].clone(),
        created: texts[2].clone(),
        tool: texts[3].clone(),
        source: SourceInfo { kind: String::new(), version: texts[1].clone() },
        databases: Vec::new(),
        bucket_limits: texts.to_vec(),
        bookkeeping: vec![ObjectRef::to(keys::PLAN, b"")],
        collections: vec![CollectionResult {
            meta: CollectionMeta {
                name: CollectionName::new("db", "c"),
                schema: read_described(&described).unwrap(),
                described,
                collection_id: i64::MIN,
                shards: i32::MAX,
                partitions: Vec::new(),
                indexes: Vec::new(),
                aliases: Vec::new(),
                properties: BTreeMap::from([(texts[2].clone(), texts[3].clone())]),
                pin: Some(u64::MAX),
            },
            consistency: Consistency::Pinned(u64::MAX),
            counts: Counts { server: rows, shared_keys: 0 },
            parts: part.into_iter().collect(),
        }],
    }
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Texts of any Unicode, numbers to their limits, floats to the bit.
    #[test]
    fn a_manifest_reads_back_to_what_was_written(
        texts in [any_text(), any_text(), any_text(), any_text()],
        keys in (any_text(), any_text()),
        double in any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |d| d.is_finite()),
        single in prop_oneof![
            any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |d| d.is_finite()),
            // The float whose shortest text narrows to another one when it is read as a double.
            Just(7.038531e-26),
        ],
        choice in 0..5,
    ) {
        let (kind, default) = match choice {
            0 => (DataType::Double, DefaultValue::DoubleData(double)),
            1 => (DataType::Float, DefaultValue::FloatData(single)),
            2 => (DataType::Int64, DefaultValue::LongData(double.to_bits() as i64)),
            3 => (DataType::Text, DefaultValue::StringData(texts[0].clone())),
            _ => (DataType::Json, DefaultValue::BytesData(double.to_le_bytes().to_vec())),
        };
        let field = FieldSchema {
            name: "x".into(),
            description: texts[1].clone(),
            data_type: kind as i32,
            nullable: true,
            default_value: Some(ValueField { data: Some(default) }),
            ..Default::default()
        };
        let sha256 = Sha256::of(texts[0].as_bytes());
        let (first, last) = if keys.0 <= keys.1 { keys } else { (keys.1, keys.0) };
        let part = Part {
            key: keys::part("db", "c", None, "u00001", 0, sha256),
            partition: None,
            size: 5 << 30,
            sha256,
            rows: 1 << 36,
            first: Key::Text(first),
            last: Key::Text(last),
            nulls: BTreeMap::from([("x".to_string(), 1 << 36)]),
        };
        let manifest = manifest_with(field, texts, Some(part));
        let bytes = manifest.to_bytes().unwrap();
        prop_assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
        let objects = read_folder(&fixtures().join("v1"));
        let plan = Plan::parse(&objects[keys::PLAN]).unwrap();
        for key in [keys::COMMIT, keys::MANIFEST, keys::PLAN, "units/u00001.json"] {
            let mut document = objects[key].clone();
            let at = at.index(document.len());
            let end = (at + bytes.len()).min(document.len());
            document.splice(at..end, bytes.iter().copied());
            let _ = Commit::parse(&document);
            let _ = Manifest::parse(&document);
            let _ = Plan::parse(&document);
            let _ = Receipt::parse(&document, &plan, &plan.units[0]);
        }
    }
}
