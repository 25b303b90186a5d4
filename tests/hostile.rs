//! Snapshots that somebody made to hurt whoever reads them, read by the real process: each ends
//! with a clear error, without a panic, and within the memory that everything else is held to.
//!
//! What a manifest or key may say is in `damage.rs`; here it is about sizes and counts.

mod common;

use arrow_array::builder::{Float32Builder, ListBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use common::{FIRST, make_snapshot};
use milvus_handoff::columns::arrow_schema;
use milvus_handoff::digest::Sha256;
use milvus_handoff::snapshot::{MAX_MANIFEST_BYTES, Manifest, keys};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// What the tool may use, whatever it reads.
const BUDGET_KIB: i64 = 512 << 10;

struct Snapshot {
    above: TempDir,
}

impl Snapshot {
    async fn make() -> Self {
        let above = tempfile::tempdir().unwrap();
        make_snapshot(&above.path().join("snap"), &FIRST).await;
        Snapshot { above }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.above.path().join("snap").join(key)
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path(keys::MANIFEST)).unwrap()).unwrap()
    }

    /// Writes a manifest and makes everything that follows from it agree.
    fn commit_to(&self, manifest: &[u8], totals: Value) {
        fs::write(self.path(keys::MANIFEST), manifest).unwrap();
        let digest = Sha256::of(manifest);
        let mut commit: Value = serde_json::from_slice(&fs::read(self.path(keys::COMMIT)).unwrap()).unwrap();
        commit["manifest"] =
            json!({"key": keys::MANIFEST, "size": manifest.len(), "sha256": digest.to_string()});
        commit["totals"] = totals;
        fs::write(self.path(keys::COMMIT), serde_json::to_vec(&commit).unwrap()).unwrap();
    }

    /// Replaces the first part of docs.
    fn replace_part(&self, bytes: &[u8], rows: u64, last: i64) {
        let mut manifest = self.manifest();
        let docs = &mut manifest["collections"][0];
        let part = &mut docs["parts"][0];
        let old = part["key"].as_str().unwrap().to_string();
        let digest = Sha256::of(bytes);
        let key = format!("{}-{}.parquet", old.rsplit_once('-').unwrap().0, digest.prefix(8));
        fs::remove_file(self.path(&old)).unwrap();
        fs::write(self.path(&key), bytes).unwrap();
        let more = rows - part["rows"].as_u64().unwrap();
        part["key"] = json!(key);
        part["size"] = json!(bytes.len());
        part["sha256"] = json!(digest.to_string());
        part["rows"] = json!(rows);
        part["last_key"] = json!({"int": last});
        if more > 0 {
            // The part behind it would overlap.
            let dropped = docs["parts"].as_array_mut().unwrap().remove(1);
            let all = docs["rows"].as_u64().unwrap() + more - dropped["rows"].as_u64().unwrap();
            docs["rows"] = json!(all);
            docs["server_count"] = json!(all);
        }
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let totals = Manifest::parse(&bytes).unwrap().totals();
        let totals = json!({
            "collections": totals.collections, "parts": totals.parts, "rows": totals.rows, "bytes": totals.bytes
        });
        self.commit_to(&bytes, totals);
    }

    fn first_part(&self) -> Vec<u8> {
        let key = self.manifest()["collections"][0]["parts"][0]["key"].as_str().unwrap().to_string();
        fs::read(self.path(&key)).unwrap()
    }

    /// Exit code and what was said; within the budget of memory.
    fn run(&self, command: &str, more: &[&str]) -> (i32, String) {
        let url = format!("file://{}", self.above.path().join("snap").display());
        let mut args = vec![command.to_string(), url];
        args.extend(more.iter().map(ToString::to_string));
        // A process starts with the memory of the one that it was forked from on its account, and
        // this one is large. So a small one is between them: this test binary, told by a variable.
        let mut between = Command::new(std::env::current_exe().unwrap());
        between.args(["--exact", "between", "--nocapture"]).env(BETWEEN, json!(args).to_string());
        let output = between.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let result = told.lines().find_map(|line| line.split_once("result: ")).expect(&told).1;
        let (code, peak) = result.split_once(' ').unwrap();
        let peak: i64 = peak.parse().unwrap();
        println!("{command} {more:?}: {} MiB", peak >> 10);
        assert!(peak < BUDGET_KIB, "{command} {more:?}: {} MiB, {said}", peak >> 10);
        assert!(!said.contains("panicked"), "{said}");
        (code.parse().expect("it ended by itself"), said)
    }
}

/// The arguments of the tool, as a JSON list.
const BETWEEN: &str = "MILVUS_HANDOFF_TEST_BETWEEN";

/// Runs the tool and tells its exit code and the most memory that it had, in KiB.
#[test]
fn between() {
    let Some(args) = std::env::var_os(BETWEEN) else { return };
    let args: Vec<String> = serde_json::from_str(args.to_str().unwrap()).unwrap();
    let mut tool = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    let status = tool.args(args).stdout(std::process::Stdio::null()).status().unwrap();
    // SAFETY: an all-zero rusage is a valid one, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    println!(
        "result: {} {}",
        status.code().map_or("signal".into(), |code| code.to_string()),
        usage.ru_maxrss
    );
}

/// So many parts of docs, each of one row, as text: a million of them as values would be this
/// test's own memory, not the tool's.
fn many_parts(snapshot: &Snapshot, count: usize) -> Vec<u8> {
    let mut manifest = snapshot.manifest();
    let digest = Sha256::of(b"part");
    let docs = &mut manifest["collections"][0];
    docs["rows"] = json!(count);
    docs["server_count"] = json!(count);
    docs["parts"] = json!(["HERE"]);
    let text = serde_json::to_string(&manifest).unwrap();
    let (before, after) = text.split_once("\"HERE\"").unwrap();
    let mut bytes = before.as_bytes().to_vec();
    for n in 0..count {
        let comma = if n == 0 { "" } else { "," };
        let key = format!("data/default/docs/_default/u00001-{n:04}-{}.parquet", digest.prefix(8));
        bytes.extend_from_slice(
            format!(
                "{comma}{{\"key\":\"{key}\",\"partition\":\"_default\",\"size\":9,\"sha256\":\"{digest}\",\
                 \"rows\":1,\"first_key\":{{\"int\":{n}}},\"last_key\":{{\"int\":{n}}}}}"
            )
            .as_bytes(),
        );
    }
    bytes.extend_from_slice(after.as_bytes());
    bytes
}

#[tokio::test]
async fn a_million_parts_are_refused_and_the_most_that_is_read_fits() {
    let snapshot = Snapshot::make().await;
    let million = many_parts(&snapshot, 1_000_000);
    snapshot.commit_to(&million, json!({"collections": 3, "parts": 0, "rows": 0, "bytes": 0}));
    drop(million);
    for command in ["verify", "inspect"] {
        let (code, said) = snapshot.run(command, &[]);
        assert_eq!(code, 6, "{said}");
        assert!(
            said.contains("COMMIT.json announces manifest.json of")
                && said.contains("which no export writes")
        );
    }

    // As many as there may be.
    let snapshot = Snapshot::make().await;
    let entry = many_parts(&snapshot, 2).len() - many_parts(&snapshot, 1).len();
    let largest = many_parts(&snapshot, MAX_MANIFEST_BYTES as usize / (entry + 13));
    assert!(largest.len() as u64 <= MAX_MANIFEST_BYTES && largest.len() as u64 > MAX_MANIFEST_BYTES / 10 * 9);
    let totals = Manifest::parse(&largest).unwrap().totals();
    let totals = json!({
        "collections": totals.collections, "parts": totals.parts, "rows": totals.rows, "bytes": totals.bytes
    });
    snapshot.commit_to(&largest, totals);
    drop(largest);
    let (code, said) = snapshot.run("verify", &["--level", "list", "--json"]);
    assert_eq!(code, 6, "{said}");
    let (_, said) = snapshot.run("inspect", &["--rows", "0"]);
    assert!(!said.contains("defect"), "{said}");
}

/// A page header's fields 1 to 3 and a data page header of `values`.
fn page_header(plain: u32, stored: u32, values: u32) -> Vec<u8> {
    let int = |value: u32| {
        let mut value = u64::from(value) << 1;
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let mut header = vec![0x15, 0];
    for (tag, value) in [(0x15, plain), (0x15, stored)] {
        header.push(tag);
        header.extend(int(value));
    }
    header.extend([0x2c, 0x15]);
    header.extend(int(values));
    header.extend([0x15, 0, 0x15, 6, 0x15, 6, 0, 0]);
    header
}

#[tokio::test]
async fn parts_that_claim_more_than_they_hold_are_refused_before_memory_is_given() {
    let huge = i32::MAX as u32;
    for (what, header, said) in [
        ("a page of 2 GiB", page_header(huge, 8, 3), "bytes when decompressed"),
        ("a stored page of 2 GiB", page_header(24, huge, 3), "bytes as stored"),
        ("two billion values", page_header(24, 8, huge), "values in pages of id"),
        ("no header", vec![0x1d; 40], "a page of id that has no header"),
    ] {
        let snapshot = Snapshot::make().await;
        let mut part = snapshot.first_part();
        // The first page comes right behind the magic bytes.
        part.splice(4..4 + header.len(), header);
        snapshot.replace_part(&part, 3, 3);
        assert_eq!(snapshot.run("verify", &["--level", "full"]).0, 6, "SHA256SUMS was not made anew");
        let (code, text) = snapshot.run("inspect", &["--rows", "3"]);
        assert_eq!(code, 6, "{what}: {text}");
        assert!(text.contains(said), "{what}: {text}");
    }
    let snapshot = Snapshot::make().await;
    let mut part = snapshot.first_part();
    let at = part.len() - 8;
    part[at..at + 4].copy_from_slice(&huge.to_le_bytes());
    snapshot.replace_part(&part, 3, 3);
    let (code, text) = snapshot.run("inspect", &["--rows", "3"]);
    assert!(code == 6 && text.contains("a footer of 2147483647 bytes"), "{text}");
}

/// Pages that are really there: little to store, and much to decompress.
#[tokio::test]
async fn a_page_that_grows_a_thousandfold_is_refused() {
    let snapshot = Snapshot::make().await;
    let manifest = Manifest::parse(&fs::read(snapshot.path(keys::MANIFEST)).unwrap()).unwrap();
    let schema = arrow_schema(&manifest.collections[0].meta.schema.columns());
    let rows = 300;
    let column = |field: &arrow_schema::Field| -> ArrayRef {
        match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(1..=rows)),
            DataType::List(element) => {
                let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element.as_ref().clone());
                for _ in 0..rows {
                    lists.values().append_slice(&[0.5; 4]);
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            _ => Arc::new(StringArray::from_iter_values((0..rows).map(|_| "a".repeat(1 << 20)))),
        }
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(1 << 30)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let part = writer.into_inner().unwrap();
    drop(batch);
    assert!(part.len() < 1 << 20, "{}", part.len());
    snapshot.replace_part(&part, rows as u64, rows);
    let (code, said) = snapshot.run("inspect", &["--rows", "3"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("bytes when decompressed"), "{said}");
}

#[tokio::test]
async fn deep_and_endless_documents_are_refused() {
    let snapshot = Snapshot::make().await;
    let deep = format!("{}{}", "[".repeat(30 << 20), "]".repeat(30 << 20));
    for (what, text) in [
        ("deep lists", deep.clone()),
        ("deep objects", "{\"a\":".repeat(10 << 20)),
        ("one long text", format!("{{\"format\":\"{}\"}}", "x".repeat(60 << 20))),
        ("many numbers", format!("[{}1]", "1,".repeat(30 << 20))),
        ("many fields", format!("{{{}\"a\":1}}", "\"a\":1,".repeat(10 << 20))),
    ] {
        snapshot.commit_to(text.as_bytes(), json!({"collections": 0, "parts": 0, "rows": 0, "bytes": 0}));
        let (code, said) = snapshot.run("verify", &[]);
        assert_eq!(code, 6, "{what}: {said}");
        assert!(said.len() < 2_000, "{what}: a message that can be read");
    }
    assert!(Path::new(&snapshot.path(keys::COMMIT)).exists());
}
