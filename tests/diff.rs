//! What `diff` says of two snapshots: against a model, whatever the rows and however they are cut into
//! parts; and how it reads.

mod common;

use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use common::open;
use milvus::proto::common::KeyValuePair;
use milvus::proto::milvus::DescribeCollectionResponse;
use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema};
use milvus_handoff::columns::arrow_schema;
use milvus_handoff::compare::{Finding, Kind};
use milvus_handoff::diff::{self, Options, Report};
use milvus_handoff::digest::Sha256;
use milvus_handoff::milvus::read_described;
use milvus_handoff::part::PartWriter;
use milvus_handoff::progress::Show;
use milvus_handoff::schema::{CollectionName, Key};
use milvus_handoff::select::Selection;
use milvus_handoff::snapshot::{
    CollectionMeta, CollectionResult, Commit, Consistency, Counts, Database, Index, Manifest, ObjectRef,
    Part, SourceInfo, keys, sums_document,
};
use milvus_handoff::store::{Body, Store};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

// ---- snapshots ----

/// The partitions that rows may be in.
const PARTITIONS: [&str; 3] = ["_default", "a", "b"];

/// Rows by partition (its position) and key.
type Rows = BTreeMap<(usize, i64), (String, f32)>;

/// How a collection is written.
#[derive(Debug, Clone)]
struct Form {
    /// Whether keys are text.
    text_keys: bool,
    /// Whether parts say which partition they are of.
    attributed: bool,
    /// Rows of parts, over and over.
    cuts: Vec<usize>,
    /// Changes what is not rows.
    change: fn(&mut CollectionMeta, &mut CollectionSchema),
}

impl Default for Form {
    fn default() -> Self {
        Form { text_keys: false, attributed: true, cuts: vec![100], change: |_, _| {} }
    }
}

fn text_key(key: i64) -> String {
    format!("k{key:04}")
}

fn field(name: &str, data_type: DataType, params: &[(&str, &str)]) -> FieldSchema {
    let pair = |(key, value): &(&str, &str)| KeyValuePair { key: key.to_string(), value: value.to_string() };
    FieldSchema {
        name: name.into(),
        data_type: data_type as i32,
        type_params: params.iter().map(pair).collect(),
        ..Default::default()
    }
}

fn meta(name: &str, form: &Form) -> CollectionMeta {
    let mut key = match form.text_keys {
        true => field("key", DataType::VarChar, &[("max_length", "64")]),
        false => field("key", DataType::Int64, &[]),
    };
    key.is_primary_key = true;
    let title = field("title", DataType::VarChar, &[("max_length", "200")]);
    let mut schema = CollectionSchema {
        name: name.into(),
        fields: vec![key, title, field("x", DataType::Float, &[])],
        ..Default::default()
    };
    let mut meta = CollectionMeta {
        name: CollectionName::new("default", name),
        schema: milvus_handoff::schema::Schema {
            description: String::new(),
            fields: vec![],
            functions: vec![],
            dynamic: false,
        },
        described: Vec::new(),
        collection_id: 7,
        shards: 1,
        partitions: PARTITIONS.map(String::from).to_vec(),
        indexes: Vec::new(),
        aliases: Vec::new(),
        properties: BTreeMap::new(),
        pin: None,
    };
    (form.change)(&mut meta, &mut schema);
    let described = DescribeCollectionResponse { schema: Some(schema), ..Default::default() };
    meta.described = prost::Message::encode_to_vec(&described);
    meta.schema = read_described(&meta.described).unwrap();
    meta
}

/// Writes a committed snapshot of collections.
async fn write(at: &Path, collections: &[(&str, &Rows, &Form)]) -> Arc<dyn Store> {
    let store = open(at).await;
    let mut results = Vec::new();
    for (name, rows, form) in collections {
        let meta = meta(name, form);
        let mut parts = Vec::new();
        let groups = if form.attributed { 0..PARTITIONS.len() } else { 0..1 };
        for group in groups {
            let partition = form.attributed.then_some(PARTITIONS[group]);
            let of_group = |(at, _): &(usize, i64)| !form.attributed || *at == group;
            let mut rows: Vec<_> =
                rows.iter().filter(|(at, _)| of_group(at)).map(|((_, key), value)| (*key, value)).collect();
            rows.sort_by_key(|(key, _)| *key);
            let mut cuts = form.cuts.iter().cycle();
            let mut at = 0;
            while at < rows.len() {
                let end = (at + cuts.next().unwrap()).min(rows.len());
                let unit = keys::unit_id(results.len() * 1_000 + group);
                parts.push(
                    part(store.as_ref(), &meta, partition, &unit, parts.len(), &rows[at..end], form).await,
                );
                at = end;
            }
        }
        let rows: u64 = parts.iter().map(|part: &Part| part.rows).sum();
        results.push(CollectionResult {
            meta,
            consistency: Consistency::Checked,
            counts: Counts { server: rows, shared_keys: 0 },
            parts,
        });
    }
    let manifest = Manifest {
        id: "00000000-0000-4000-8000-00000000000d".into(),
        created: "2026-11-25T09:00:00Z".into(),
        tool: "milvus-handoff 0.1.0".into(),
        source: SourceInfo { kind: "milvus".into(), version: "v2.3.5".into() },
        databases: vec![Database { name: "default".into(), properties: BTreeMap::new() }],
        bucket_limits: Vec::new(),
        bookkeeping: Vec::new(),
        collections: results,
    };
    let bytes = manifest.to_bytes().unwrap();
    let sums = sums_document(&ObjectRef::to(keys::MANIFEST, &bytes), &manifest);
    let commit = Commit {
        id: manifest.id.clone(),
        features: Vec::new(),
        manifest: ObjectRef::to(keys::MANIFEST, &bytes),
        sums: ObjectRef::to(keys::SUMS, &sums),
        totals: manifest.totals(),
    };
    for (key, bytes) in
        [(keys::MANIFEST, bytes), (keys::SUMS, sums), (keys::COMMIT, commit.to_bytes().unwrap())]
    {
        let digest = Sha256::of(&bytes);
        store.put_new(key, Body::Bytes(bytes.into()), digest).await.unwrap();
    }
    store
}

async fn part(
    store: &dyn Store,
    meta: &CollectionMeta,
    partition: Option<&str>,
    unit: &str,
    sequence: usize,
    rows: &[(i64, &(String, f32))],
    form: &Form,
) -> Part {
    let columns = meta.schema.columns();
    let arrays: Vec<ArrayRef> = columns
        .iter()
        .map(|column| -> ArrayRef {
            match column.name.as_str() {
                "key" if form.text_keys => {
                    Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| text_key(*key))))
                }
                "key" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, _)| *key))),
                "title" => Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, row)| &row.0))),
                _ => Arc::new(Float32Array::from_iter_values(rows.iter().map(|(_, row)| row.1))),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(arrow_schema(&columns), arrays).unwrap();
    let key_field = &meta.schema.primary_key().name;
    let mut writer = PartWriter::new(&columns, key_field, store.spool().unwrap()).unwrap();
    writer.write(&batch).unwrap();
    let done = writer.finish().unwrap().expect("there are rows");
    let key = keys::part(&meta.name.database, &meta.name.name, partition, unit, sequence, done.sha256);
    store.put_new(&key, Body::File(done.file), done.sha256).await.unwrap();
    Part {
        key,
        partition: partition.map(str::to_string),
        size: done.size,
        sha256: done.sha256,
        rows: done.rows,
        first: done.first,
        last: done.last,
        nulls: done.nulls,
    }
}

async fn diffed(stores: [Arc<dyn Store>; 2], keys: bool, first: usize) -> Report {
    let options = Options { selection: Selection::default(), keys, first, jobs: 3, show: Show::Quiet };
    diff::run(&options, stores).await.unwrap()
}

async fn diff_rows(a: (&Rows, &Form), b: (&Rows, &Form), keys: bool, first: usize) -> Report {
    let above = tempfile::tempdir().unwrap();
    let left = write(&above.path().join("a"), &[("docs", a.0, a.1)]).await;
    let right = write(&above.path().join("b"), &[("docs", b.0, b.1)]).await;
    diffed([left, right], keys, first).await
}

// ---- against a model ----

/// What a row becomes on the way from A to B.
#[derive(Debug, Clone)]
enum Fate {
    Stays,
    Goes,
    Title(String),
    Both(f32),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Stays),
        1 => Just(Fate::Goes),
        1 => "[a-c]{0,3}".prop_map(Fate::Title),
        1 => (-2i8..2).prop_map(|x| Fate::Both(f32::from(x))),
    ]
}

fn rows() -> impl Strategy<Value = (Rows, Rows)> {
    let row = ((0..PARTITIONS.len(), 0i64..300), ("[a-c]{0,3}", (-2i8..2).prop_map(f32::from), fate()));
    let added = ((0..PARTITIONS.len(), 0i64..300), ("[a-c]{0,3}", (-2i8..2).prop_map(f32::from)));
    (proptest::collection::vec(row, 0..60), proptest::collection::vec(added, 0..8)).prop_map(
        |(rows, added)| {
            let (mut a, mut b) = (Rows::new(), Rows::new());
            for (at, (title, x, fate)) in rows {
                a.insert(at, (title.clone(), x));
                match fate {
                    Fate::Stays => drop(b.insert(at, (title, x))),
                    Fate::Goes => drop(b.remove(&at)),
                    Fate::Title(other) => drop(b.insert(at, (other, x))),
                    Fate::Both(other) => drop(b.insert(at, (format!("{title}!"), other))),
                }
            }
            b.extend(added);
            (a, b)
        },
    )
}

/// What a diff must find: keys by partition.
struct Model {
    removed: Vec<(usize, i64)>,
    added: Vec<(usize, i64)>,
    changed: BTreeSet<(usize, i64)>,
    changed_fields: u64,
    common: u64,
}

fn model(a: &Rows, b: &Rows) -> Model {
    let mut model = Model {
        removed: a.keys().filter(|at| !b.contains_key(at)).copied().collect(),
        added: b.keys().filter(|at| !a.contains_key(at)).copied().collect(),
        changed: BTreeSet::new(),
        changed_fields: 0,
        common: 0,
    };
    for (at, row) in a {
        let Some(other) = b.get(at) else { continue };
        model.common += 1;
        let fields = u64::from(row.0 != other.0) + u64::from(row.1.to_bits() != other.1.to_bits());
        model.changed_fields += fields;
        if fields > 0 {
            model.changed.insert(*at);
        }
    }
    model
}

fn place(finding: &Finding) -> (usize, i64) {
    let (partition, key) = match finding {
        Finding::Missing { partition, key } | Finding::Extra { partition, key } => (partition, key),
        Finding::Changed { partition, key, .. } => (partition, key),
        other => panic!("{other:?}"),
    };
    let partition = partition.as_deref().unwrap_or(PARTITIONS[0]);
    let at = PARTITIONS.iter().position(|name| *name == partition).unwrap();
    let key = match key {
        Key::Int(key) => *key,
        Key::Text(text) => text.trim_start_matches('k').parse().unwrap(),
    };
    (at, key)
}

fn check(report: &Report, model: &Model, first: usize) {
    let rows = report.collections[0].rows.as_ref().unwrap();
    let found = &rows.found;
    assert_eq!(found.total(Kind::Missing), model.removed.len() as u64);
    assert_eq!(found.total(Kind::Extra), model.added.len() as u64);
    assert_eq!(found.total(Kind::Changed), model.changed_fields);
    assert_eq!(found.changed_rows, model.changed.len() as u64);
    assert_eq!(rows.compared + rows.same_parts, model.common);
    let places = |kind: Kind| found.kept(kind).iter().map(place).collect::<Vec<_>>();
    let begin = |all: &[(usize, i64)]| all.iter().take(first).copied().collect::<Vec<_>>();
    assert_eq!(places(Kind::Missing), begin(&model.removed));
    assert_eq!(places(Kind::Extra), begin(&model.added));
    let changed: BTreeSet<_> = places(Kind::Changed).into_iter().collect();
    assert!(changed.is_subset(&model.changed));
    assert_eq!(found.kept(Kind::Changed).len() as u64, model.changed_fields.min(first as u64));
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1usize..40, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_found_however_they_are_cut(
        (a, b) in rows(),
        (a_cuts, b_cuts) in (cuts(), cuts()),
        same_cuts in any::<bool>(),
        text_keys in any::<bool>(),
        first in prop_oneof![Just(0usize), Just(2), Just(1_000)],
    ) {
        let form = |cuts| Form { text_keys, cuts, ..Form::default() };
        let (a_form, b_form) = (form(a_cuts.clone()), form(if same_cuts { a_cuts } else { b_cuts }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (there, back) = runtime.block_on(async {
            let above = tempfile::tempdir().unwrap();
            let left = write(&above.path().join("a"), &[("docs", &a, &a_form)]).await;
            let right = write(&above.path().join("b"), &[("docs", &b, &b_form)]).await;
            let there = diffed([left.clone(), right.clone()], true, first).await;
            (there, diffed([right, left], true, first).await)
        });
        check(&there, &model(&a, &b), first);
        check(&back, &model(&b, &a), first);
        prop_assert_eq!(there.differences() == 0, a == b);
    }

    /// One side without partitions: all keys meet.
    #[test]
    fn rows_are_found_where_one_side_has_no_partitions(
        (a, b) in rows(),
        (a_cuts, b_cuts) in (cuts(), cuts()),
    ) {
        // A key is in one partition only, else it would not be known which row meets which.
        let single = |rows: &Rows| -> Rows {
            rows.iter().map(|((_, key), row)| (((key % 3) as usize, *key), row.clone())).collect()
        };
        let (a, b) = (single(&a), single(&b));
        let a_form = Form { cuts: a_cuts, ..Form::default() };
        let b_form = Form { cuts: b_cuts, attributed: false, ..Form::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let report = runtime.block_on(diff_rows((&a, &a_form), (&b, &b_form), true, 1_000));
        let model = model(&a, &b);
        let rows = report.collections[0].rows.as_ref().unwrap();
        prop_assert_eq!(rows.found.total(Kind::Missing), model.removed.len() as u64);
        prop_assert_eq!(rows.found.total(Kind::Extra), model.added.len() as u64);
        prop_assert_eq!(rows.found.total(Kind::Changed), model.changed_fields);
        prop_assert_eq!((rows.compared, rows.same_parts), (model.common, 0));
    }
}

// ---- what is read, and how it reads ----

fn some_rows(keys: std::ops::Range<i64>) -> Rows {
    keys.map(|key| ((usize::from(key >= 50), key), (format!("title {key}"), key as f32))).collect()
}

#[tokio::test]
async fn what_both_have_byte_for_byte_is_not_read() {
    let above = tempfile::tempdir().unwrap();
    let form = Form { cuts: vec![10], ..Form::default() };
    let mut rows = some_rows(0..100);
    write(&above.path().join("a"), &[("docs", &rows, &form)]).await;
    rows.get_mut(&(0, 15)).unwrap().0 = "other".into();
    write(&above.path().join("b"), &[("docs", &rows, &form)]).await;
    // All but the two parts with that row are gone from both.
    for side in ["a", "b"] {
        let root = above.path().join(side);
        let manifest = Manifest::parse(&std::fs::read(root.join(keys::MANIFEST)).unwrap()).unwrap();
        for part in manifest.parts().filter(|part| part.first != Key::Int(10)) {
            std::fs::remove_file(root.join(&part.key)).unwrap();
        }
    }
    let stores = [open(&above.path().join("a")).await, open(&above.path().join("b")).await];
    let report = diffed(stores, true, 20).await;
    let collection = &report.collections[0];
    assert_eq!(
        (collection.parts.same.parts, collection.parts.removed.parts, collection.parts.added.parts),
        (9, 1, 1)
    );
    let rows = collection.rows.as_ref().unwrap();
    assert_eq!((rows.compared, rows.same_parts, rows.found.all()), (10, 90, 1));
    // So it does not say that they are there.
    let text = diff::output(["a", "b"], &report).text;
    let looked = "rows of parts whose recorded digests differ; parts with equal digests were not read, `verify` reads them";
    assert!(text.lines().last().unwrap().contains(looked), "{text}");
    assert!(!text.contains("every row"), "{text}");
}

#[tokio::test]
async fn the_same_rows_in_other_parts_differ_only_without_keys() {
    let rows = some_rows(0..100);
    let (a, b) = (Form { cuts: vec![10], ..Form::default() }, Form { cuts: vec![7], ..Form::default() });
    assert!(diff_rows((&rows, &a), (&rows, &b), false, 20).await.differences() > 0);
    assert_eq!(diff_rows((&rows, &a), (&rows, &b), true, 20).await.differences(), 0);
    assert_eq!(diff_rows((&rows, &a), (&rows, &a), false, 20).await.differences(), 0);
}

#[tokio::test]
async fn another_key_is_said_and_parts_decide() {
    let rows = some_rows(0..5);
    let text = Form { text_keys: true, ..Form::default() };
    let report = diff_rows((&rows, &Form::default()), (&rows, &text), true, 20).await;
    assert!(report.collections[0].rows.is_none() && report.differences() > 0);
    assert!(diff::output(["a", "b"], &report).text.contains("no common primary key"));
}

fn changed(meta: &mut CollectionMeta, schema: &mut CollectionSchema) {
    schema.description = "words\u{1b}[2J".into();
    schema.fields[1] = field("title", DataType::VarChar, &[("max_length", "300"), ("mmap.enabled", "true")]);
    schema.fields.push(FieldSchema { nullable: true, ..field("new", DataType::Float, &[]) });
    schema.enable_dynamic_field = false;
    meta.shards = 2;
    meta.aliases = vec!["live".into()];
    meta.partitions.push("c".into());
    meta.properties = BTreeMap::from([("collection.ttl.seconds".into(), "60".into())]);
    let params = [("index_type", "TRIE"), ("mmap", "on")].map(|(k, v)| (k.to_string(), v.to_string()));
    meta.indexes = vec![Index { field: "title".into(), name: "by_title".into(), params: params.into() }];
}

#[tokio::test]
async fn a_diff_is_read_by_people_and_programs() {
    let above = tempfile::tempdir().unwrap();
    let form = Form { cuts: vec![10], ..Form::default() };
    let a_rows = some_rows(0..100);
    let mut b_rows = some_rows(30..104);
    b_rows.get_mut(&(1, 60)).unwrap().1 = -0.5;
    b_rows.get_mut(&(1, 61)).unwrap().0 = "another\ntitle".into();
    let other = Form { change: changed, ..form.clone() };
    let few = some_rows(0..3);
    let root = |name: &str| above.path().join(name);
    write(
        &root("a"),
        &[("docs", &a_rows, &form), ("old", &few, &form), ("same", &few, &form), ("schema", &few, &form)],
    )
    .await;
    write(
        &root("b"),
        &[
            ("same", &few, &form),
            ("docs", &b_rows, &form),
            ("new", &few, &form),
            ("schema", &Rows::new(), &other),
        ],
    )
    .await;
    let run = |args: &[&str]| {
        let [a, b] = ["a", "b"].map(|name| format!("file://{}", root(name).display()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
        let output = command.args(["diff", &a, &b]).args(args).env("NO_COLOR", "1").output().unwrap();
        assert_eq!(
            String::from_utf8(output.stderr).unwrap().lines().filter(|l| l.contains("error")).count(),
            0
        );
        let stdout =
            String::from_utf8(output.stdout).unwrap().replace(above.path().to_str().unwrap(), "[above]");
        (output.status.code(), stdout)
    };
    let filters = [(r"sha256:[0-9a-f]{64}", "sha256:[DIGEST]"), (r"\d+\.\d+ KiB", "[SIZE]")];
    insta::with_settings!({filters => filters.to_vec()}, {
        let (code, text) = run(&[]);
        assert_eq!(code, Some(6));
        insta::assert_snapshot!("text", text);
        let (code, text) = run(&["--keys", "--first", "3"]);
        assert_eq!(code, Some(6));
        insta::assert_snapshot!("text-keys", text);
    });
    let (code, text) = run(&["--keys", "--first", "2", "--json"]);
    assert_eq!(code, Some(6));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["command"], &document["status"]), (&"diff".into(), &"failed".into()));
    let docs = &document["collections"][0]["keys"];
    assert_eq!((&docs["removed"], &docs["added"], &docs["changed"]), (&30.into(), &4.into(), &2.into()));
    assert_eq!(docs["first_removed"][1], serde_json::json!({"partition": "_default", "key": 1}));
    assert_eq!(docs["first_changed"].as_array().unwrap().len(), 2);
    let (code, text) = run(&["-c", "same", "--keys"]);
    assert_eq!(code, Some(0));
    assert!(text.lines().last().unwrap().starts_with("Successful: no difference in 1 collection "), "{text}");
    assert_eq!(run(&["-c", "default.s*", "--first", "0"]).0, Some(6));
}
