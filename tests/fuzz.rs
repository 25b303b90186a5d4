//! What strangers can send, in many broken forms: documents, keys, parts and messages of servers.
//! Whatever it is, it is refused or read; nothing panics.
//!
//! The inputs are mutations of a kept corpus: the fixtures of every format version, and the
//! server's own messages in them. Seeded, so a failure can be repeated: it names target, entry and
//! seed. `make fuzz` runs many more rounds than `make test`.

mod common;

use common::{FIRST, HOSTILE, make_snapshot, read_folder};
use milvus::proto::milvus::QueryResults;
use milvus_handoff::columns::decode;
use milvus_handoff::digest::Sha256;
use milvus_handoff::milvus::read_described;
use milvus_handoff::part::PartReader;
use milvus_handoff::snapshot::{Commit, Manifest, Plan, Receipt, keys};
use milvus_handoff::store::SnapshotUrl;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Values that code forgets.
const EDGES: [&str; 14] = [
    "-1",
    "0",
    "18446744073709551615",
    "9223372036854775808",
    "1e999",
    "null",
    "[]",
    "{}",
    "\"\"",
    "\"../x\"",
    "\"\\u0000\"",
    "true",
    "\u{202e}",
    "\"\\ud800\"",
];

/// One to four changes to `bytes`; `other` gives pieces.
fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(9) {
            _ if bytes.is_empty() => bytes.push(random.next() as u8),
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => bytes[at..end].fill(0xff),
            6 => {
                let from = random.below(other.len());
                let piece = other[from..(from + 40).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            7 => drop(bytes.splice(at..end, EDGES[random.below(EDGES.len())].bytes())),
            _ => {
                // In text: one value for another.
                let text = String::from_utf8_lossy(&bytes[at..]).into_owned();
                let edge = EDGES[random.below(EDGES.len())];
                if let Some((start, length)) = text.find(": ").and_then(|start| {
                    let length = text[start + 2..].find([',', '\n', '}', ']'])?;
                    Some((start + 2, length))
                }) && start + length <= bytes.len() - at
                {
                    bytes.splice(at + start..at + start + length, edge.bytes());
                }
            }
        }
    }
    bytes
}

fn rounds(once: u64) -> u64 {
    std::env::var("MILVUS_HANDOFF_TEST_ROUNDS").map_or(once, |times| once * times.parse::<u64>().unwrap())
}

/// Calls `target` with mutations of every entry.
fn fuzz(name: &str, corpus: &[Vec<u8>], rounds: u64, target: impl Fn(&[u8])) {
    for (entry, bytes) in corpus.iter().enumerate() {
        target(bytes);
        for seed in 0..rounds {
            let mut random = Random(seed ^ (entry as u64) << 32);
            let other = &corpus[random.below(corpus.len())];
            let mutated = mutate(bytes, other, &mut random);
            let result = catch_unwind(AssertUnwindSafe(|| target(&mutated)));
            assert!(result.is_ok(), "{name}, entry {entry}, seed {seed}: it panicked");
        }
    }
}

/// The objects of the fixtures, and of snapshots with more types and stranger names.
async fn corpus() -> BTreeMap<String, Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = BTreeMap::new();
    for version in std::fs::read_dir(&fixtures).unwrap() {
        let version = version.unwrap();
        for (key, bytes) in read_folder(&version.path()) {
            found.insert(format!("{}/{key}", version.file_name().to_str().unwrap()), bytes);
        }
    }
    let above = tempfile::tempdir().unwrap();
    for (name, recipe) in [("first", FIRST), ("hostile", HOSTILE)] {
        make_snapshot(&above.path().join(name), &recipe).await;
        for (key, bytes) in read_folder(&above.path().join(name)) {
            found.insert(format!("{name}/{key}"), bytes);
        }
    }
    found
}

fn ending(corpus: &BTreeMap<String, Vec<u8>>, end: &str) -> Vec<Vec<u8>> {
    let found: Vec<_> = corpus.iter().filter(|(key, _)| key.ends_with(end)).map(|(_, b)| b.clone()).collect();
    assert!(!found.is_empty(), "{end}");
    found
}

#[tokio::test]
async fn documents() {
    let corpus = corpus().await;
    fuzz("manifest", &ending(&corpus, keys::MANIFEST), rounds(1_500), |bytes| {
        if let Ok(manifest) = Manifest::parse(bytes) {
            // What is accepted can be added up and said again.
            manifest.totals();
            assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()).unwrap(), manifest);
        }
    });
    fuzz("commit", &ending(&corpus, keys::COMMIT), rounds(4_000), |bytes| drop(Commit::parse(bytes)));
    let plans = ending(&corpus, keys::PLAN);
    fuzz("plan", &plans, rounds(1_500), |bytes| drop(Plan::parse(bytes)));
    let plan = Plan::parse(&corpus["first/PLAN.json"]).unwrap();
    let receipts: Vec<_> = corpus
        .iter()
        .filter(|(key, _)| key.starts_with("first/units/"))
        .map(|(_, bytes)| bytes.clone())
        .collect();
    fuzz("receipt", &receipts, rounds(1_000), |bytes| {
        for unit in &plan.units {
            let _ = Receipt::parse(bytes, &plan, unit);
        }
    });
}

#[tokio::test]
async fn keys_and_addresses() {
    let corpus: Vec<Vec<u8>> = corpus().await.into_keys().map(String::into_bytes).collect();
    let digest = Sha256::of(b"part");
    fuzz("key", &corpus, rounds(500), |bytes| {
        let Ok(key) = std::str::from_utf8(bytes) else { return };
        if keys::check_part(key, "default", "docs", Some("_default"), digest).is_ok() {
            assert!(key.starts_with("data/default/docs/_default/u") && !key.contains(".."), "{key}");
        }
        let _ = keys::unit_of_part(key, "default", "docs", Some("_default"));
        let _ = keys::check_name("collection", key);
        for scheme in ["s3://", "file://", ""] {
            if let Ok(url) = SnapshotUrl::parse(&format!("{scheme}{key}")) {
                assert!(!url.to_string().contains(char::is_control), "{url:?}");
            }
        }
    });
}

#[tokio::test]
async fn parts() {
    let corpus = corpus().await;
    let manifest = Manifest::parse(&corpus["first/manifest.json"]).unwrap();
    for collection in &manifest.collections {
        let (columns, key) = (collection.meta.schema.columns(), &collection.meta.schema.primary_key().name);
        for part in &collection.parts {
            let bytes = vec![corpus[&format!("first/{}", part.key)].clone()];
            fuzz(&part.key, &bytes, rounds(250), |bytes| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(bytes).unwrap();
                file.rewind().unwrap();
                if let Ok(mut reader) = PartReader::open(file, &columns, key, part, 100) {
                    while let Ok(Some(_)) = reader.next_batch() {}
                }
            });
        }
    }
}

#[tokio::test]
async fn messages_of_servers() {
    let corpus = corpus().await;
    let manifest = Manifest::parse(&corpus["first/manifest.json"]).unwrap();
    let described: Vec<_> = manifest.collections.iter().map(|c| c.meta.described.clone()).collect();
    fuzz("description", &described, rounds(3_000), |bytes| drop(read_described(bytes)));
    for collection in &manifest.collections {
        let (columns, key) = (collection.meta.schema.columns(), &collection.meta.schema.primary_key().name);
        let part = &collection.parts[0];
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&corpus[&format!("first/{}", part.key)]).unwrap();
        file.rewind().unwrap();
        let batch = PartReader::open(file, &columns, key, part, 100).unwrap().next_batch().unwrap().unwrap();
        let fields_data = milvus_handoff::columns::encode(&columns, &batch).unwrap();
        let page = QueryResults { fields_data, ..Default::default() }.encode_to_vec();
        fuzz("page", &[page], rounds(2_000), |bytes| {
            if let Ok(page) = QueryResults::decode(bytes) {
                let _ = decode(&columns, key, page.fields_data);
            }
        });
    }
}
