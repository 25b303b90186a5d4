//! The commands as tests of fake servers run them: quiet, one thing at a time, into a folder.

use milvus_handoff::digest::Sha256;
use milvus_handoff::error::Result;
use milvus_handoff::milvus::Endpoint;
use milvus_handoff::opened::Trust;
use milvus_handoff::progress::Show;
use milvus_handoff::select::{Renames, Selection};
use milvus_handoff::stop::Stop;
use milvus_handoff::store::{self, SnapshotUrl, Store};
use milvus_handoff::{compare, export, import, verify};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The snapshot in a test's folder.
pub async fn store(folder: &Path) -> Arc<dyn Store> {
    store::open(&SnapshotUrl::File { path: folder.join("snap") }).await.unwrap()
}

pub fn export_options(source: &Endpoint) -> export::Options {
    export::Options {
        source: source.clone(),
        selection: Selection::default(),
        plan_only: false,
        shard: None,
        writes_paused: false,
        effort: export::Effort { jobs: 1, page_rows: 100 },
        load_source: false,
        allow_writes: false,
        sign: None,
        part_size: 1 << 20,
        show: Show::Quiet,
    }
}

pub fn import_options(target: &Endpoint) -> import::Options {
    import::Options {
        target: target.clone(),
        selection: Selection::default(),
        renames: Renames::default(),
        plan_only: false,
        jobs: 1,
        via: import::Via::Is(import::Route::Insert),
        no_aliases: false,
        auto_id: milvus_handoff::select::AutoId::Preserve,
        journal: None,
        load: false,
        trust: Trust::default(),
        show: Show::Quiet,
    }
}

/// Exports everything; a failed export must not be committed.
pub async fn export(source: &Endpoint, folder: &Path) -> Result<export::Outcome> {
    let outcome = export::run(&export_options(source), store(folder).await, &Stop::never()).await;
    assert_eq!(folder.join("snap/COMMIT.json").exists(), outcome.is_ok());
    outcome
}

/// Imports everything as `options` say.
pub async fn import_as(options: &import::Options, folder: &Path) -> Result<import::Outcome> {
    // One for each that is not given one, since such imports do not go on with another's work.
    static IMPORTS: AtomicUsize = AtomicUsize::new(0);
    let number = IMPORTS.fetch_add(1, Ordering::Relaxed);
    let journal = options.journal.clone().unwrap_or_else(|| folder.join(format!("journal-{number}")));
    let options = &import::Options { journal: Some(journal), ..options.clone() };
    import::run(options, store(folder).await, &Stop::never()).await
}

/// Imports everything.
pub async fn import(target: &Endpoint, folder: &Path) -> Result<import::Outcome> {
    import_as(&import_options(target), folder).await
}

/// Changes the journal of an import that was interrupted: `edit` changes an event, or takes it out.
pub fn edit_journal(path: &Path, edit: impl Fn(&mut Value) -> bool) {
    let text = std::fs::read_to_string(path).unwrap();
    let (first, events) = text.split_once('\n').unwrap();
    let mut edited = format!("{first}\n");
    for line in events.lines() {
        let mut event: Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
        if edit(&mut event) {
            let event = event.to_string();
            let sum = Sha256::of(event.as_bytes()).prefix(16);
            edited.push_str(&format!("{sum} {event}\n"));
        }
    }
    std::fs::write(path, edited).unwrap();
}

/// As if the replies to all requests for jobs had been lost, so many seconds ago.
pub fn lose_replies(journal: &Path, seconds: u64) {
    edit_journal(journal, |event| {
        if let Some(at) = event.get("at").and_then(Value::as_u64) {
            event["at"] = (at - seconds).into();
        }
        event["event"] != "asked"
    });
}

/// Every byte of the snapshot is what was committed.
pub async fn verify(folder: &Path) {
    let report = verify::run(store(folder).await, verify::Level::Full, &Trust::default(), 1, Show::Quiet)
        .await
        .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// Compares every row of a server with the snapshot; what is not loaded is loaded for it.
pub async fn compare(server: &Endpoint, folder: &Path) -> Result<compare::Report> {
    let options = compare::Options {
        target: server.clone(),
        selection: Selection::default(),
        renames: Renames::default(),
        level: compare::Level::Full,
        rows_per_part: 10,
        seed: 1,
        auto_id: milvus_handoff::select::AutoId::Preserve,
        load: true,
        jobs: 1,
        page_rows: 7,
        trust: Trust::default(),
        show: Show::Quiet,
    };
    compare::run(&options, store(folder).await, &Stop::never()).await
}
