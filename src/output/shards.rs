//! What the processes of a sharded export print.

use super::{Output, document, one_line, plural, table};
use crate::export::Share;
use crate::export::shards::{PlanMade, Worked};
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use std::fmt::Write;

/// The plan is there.
pub fn shard_planned(url: &str, workers: u32, made: &PlanMade) -> Output {
    let collections = made.collections.iter();
    let collections: Vec<_> = collections
        .map(|(name, pin)| json!({"database": name.database, "name": name.name, "pinned": pin.is_some()}))
        .collect();
    let document = document(
        "export",
        "successful",
        json!({
            "shard": "plan",
            "workers": workers,
            "source": {"version": made.source},
            "snapshot": {"url": url, "id": made.id, "commit_sha256": null},
            "collections": collections,
            "units": made.units,
            "was_there": made.was_there,
            "warnings": made.warnings,
        }),
    );
    let mut text = String::new();
    let rows: Vec<_> = made
        .collections
        .iter()
        .map(|(name, pin)| vec![name.to_string(), if pin.is_some() { "yes" } else { "no" }.into()])
        .collect();
    table(&mut text, &["collection", "one moment for all"], &rows);
    let was = if made.was_there { "found the plan of" } else { "planned" };
    let _ = writeln!(
        text,
        "\nSuccessful: {was} {} from {} to {url}; now work on them with --shard 0/{workers} to {}/{workers}",
        plural(made.units as u64, "unit"),
        one_line(&made.source),
        workers - 1,
    );
    Output { document, text, warnings: made.warnings.clone(), next: Vec::new() }
}

/// A worker is done.
pub fn shard_worked(url: &str, share: Share, worked: &Worked) -> Output {
    let document = document(
        "export",
        "successful",
        json!({
            "shard": {"index": share.index, "of": share.of},
            "snapshot": {"url": url, "id": worked.id, "commit_sha256": null},
            "units": worked.units,
            "reused_units": worked.reused_units,
            "rows": worked.rows,
            "bytes": worked.bytes,
            "parts": worked.parts,
            "warnings": worked.warnings,
            "seconds": worked.seconds,
        }),
    );
    let mut text = String::new();
    if worked.reused_units > 0 {
        let _ = writeln!(
            text,
            "{} of {} were done already",
            HumanCount(worked.reused_units as u64),
            plural(worked.units as u64, "unit")
        );
    }
    let _ = writeln!(
        text,
        "Successful: exported shard {} of {}, {}, {} in {}, to {url}; when all shards are there, run `commit`",
        share.index,
        share.of,
        plural(worked.rows, "row"),
        HumanBytes(worked.bytes),
        plural(worked.parts as u64, "part"),
    );
    Output { document, text, warnings: worked.warnings.clone(), next: Vec::new() }
}
