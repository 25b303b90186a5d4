//! The report as a document for programs. Pure. Fields are added, never renamed or dropped.

use super::facts::{self, Mark};
use super::{Compared, Report};
use crate::error::Code;
use crate::output::{self, name_json};
use crate::snapshot::{FORMAT_VERSION, ObjectRef};
use serde_json::{Value, json};

pub(super) fn document(report: &Report) -> Value {
    let verified = &report.verified;
    let (commit, manifest) = (&verified.opened.commit, &verified.opened.manifest);
    let object =
        |object: &ObjectRef| json!({"key": object.key, "size": object.size, "sha256": object.sha256});
    let verdicts: Vec<_> = facts::verdicts(report)
        .iter()
        .map(|v| json!({"about": v.title, "mark": mark(v.mark), "word": v.word, "text": v.text}))
        .collect();
    let checks: Vec<_> = facts::checks(report)
        .iter()
        .map(|c| json!({"title": c.title, "about": c.about, "commands": c.commands}))
        .collect();
    let collections: Vec<_> = manifest
        .collections
        .iter()
        .map(|collection| {
            let mut shown = output::inspect_collection_json(collection, &[]);
            if let Value::Object(fields) = &mut shown {
                fields.remove("first_rows");
                fields.insert("check".into(), json!(facts::duckdb(collection)));
            }
            shown
        })
        .collect();
    let problems: Vec<_> =
        verified.problems.iter().map(|p| json!({"key": p.key, "problem": p.problem})).collect();
    output::document(
        "report",
        if report.is_good() { "successful" } else { "failed" },
        json!({
            "made": {"at": report.made, "tool": super::TOOL},
            "snapshot": {
                "url": report.url.to_string(),
                "id": manifest.id,
                "created": manifest.created,
                "tool": manifest.tool,
                "format_version": FORMAT_VERSION,
                "features": commit.features,
                "commit_sha256": format!("sha256:{}", verified.opened.digest),
                "manifest": object(&commit.manifest),
                "sums": object(&commit.sums),
            },
            "bucket": {
                "endpoint": report.reached.endpoint,
                "expected_owner": report.reached.owner,
                "requester_pays": report.reached.requester_pays,
            },
            "expected": report.trust.expect.map(|digest| format!("sha256:{digest}")),
            "source": {"kind": manifest.source.kind, "version": manifest.source.version},
            "verdicts": verdicts,
            "level": verified.level.name(),
            "checked": output::checked_json(verified),
            "listed": verified.listed,
            "problems": problems,
            "code": report.code().map(Code::text),
            "signatures": output::signatures_looked_for_json(verified),
            "totals": output::totals_json(&commit.totals),
            "collections": collections,
            "target": report.compared.as_ref().map(target),
            "checks": checks,
            "bucket_limits": manifest.bucket_limits,
            "warnings": verified.notes,
        }),
    )
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Bad => "bad",
        Mark::Open => "open",
    }
}

fn target(compared: &Compared) -> Value {
    let collections: Vec<_> = compared
        .collections
        .iter()
        .map(|c| {
            json!({
                "source": name_json(&c.source),
                "target": name_json(&c.target),
                "server_rows": c.rows,
                "rows_compared": c.rows_compared,
                "differences": c.differences,
            })
        })
        .collect();
    json!({
        "version": compared.target,
        "level": compared.level,
        "differences": compared.differences,
        "collections": collections,
        "warnings": compared.warnings,
    })
}
