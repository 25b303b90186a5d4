//! What commands print: one JSON document, or text for people.
//!
//! Owns: the form of results. The JSON documents are an interface: fields are added, never
//! renamed or dropped, without a new `version`. Does not own: what the results are.
//!
//! The result goes to stdout, as JSON with `--json` and as text without; everything else
//! (progress, warnings, errors) goes to stderr. With `--json` the text goes to stderr too.

pub(crate) mod about;
mod inspected;
mod shards;

pub use shards::{shard_planned, shard_worked};

use crate::capacity::{ASSUMPTIONS, Estimate};
use crate::compare::{self, Finding, Kind};
use crate::doctor::{self, Verdict};
use crate::error::{Code, Error};
use crate::inspect;
use crate::milvus::IndexMade;
use crate::schema::{CollectionName, Key, Schema};
use crate::signature::{Found, Signed, State};
use crate::snapshot::{CollectionResult, Consistency, Index, Totals, keys};
use crate::{export, import, keygen, sign, verify};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The version of the JSON documents.
const DOCUMENT_VERSION: u32 = 1;

/// A result in both forms.
pub struct Output {
    /// For programs.
    pub document: Value,
    /// For people; the last line says how it ended.
    pub text: String,
    /// What people should know; to stderr.
    pub warnings: Vec<String>,
    /// What people do next.
    pub next: Vec<String>,
}

impl Output {
    /// With what people do next.
    pub fn followed_by(self, next: Vec<String>) -> Self {
        Output { next, ..self }
    }
}

/// A text that was made for another program to read.
pub fn generated(command: &str, about: &str, text: String) -> Output {
    let rest = json!({"about": about, "text": text, "warnings": []});
    let document = document(command, "successful", rest);
    Output { document, text, warnings: Vec::new(), next: Vec::new() }
}

pub(crate) fn document(command: &str, status: &str, rest: Value) -> Value {
    let mut fields = Map::new();
    fields.insert("version".into(), DOCUMENT_VERSION.into());
    fields.insert("command".into(), command.into());
    fields.insert("status".into(), status.into());
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    Value::Object(fields)
}

/// A failed command.
pub fn failure(command: &str, error: &Error) -> Value {
    document(
        command,
        "failed",
        json!({"error": {
            "kind": error.kind().name(),
            "code": error.code().text(),
            "exit_code": error.kind().exit_code(),
            "message": error.message(),
            "causes": error.causes(),
            "hint": error.hint_text(),
        }}),
    )
}

/// Text that may go to a terminal: names come from servers and files that may be hostile, and a
/// control character in them must not move the cursor or hide a line.
pub fn safe(text: &str) -> String {
    let shown = |c: char| c == '\n' || c == '\t' || !is_odd(c);
    if text.chars().all(shown) {
        return text.to_string();
    }
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Foreign text within a line of ours: as [`safe`], and line breaks and tabs are shown as escapes
/// too, so that a description cannot pretend to be the next line.
pub fn one_line(text: &str) -> String {
    let shown = |c: char| !is_odd(c);
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// A document on one line. JSON allows most of what cannot be seen as it is; a terminal that shows
/// the document does not deserve it.
pub fn json_line(document: &Value) -> String {
    let escape = |c: char| -> String {
        c.encode_utf16(&mut [0; 2]).iter().map(|half| format!("\\u{half:04x}")).collect()
    };
    let text = document.to_string();
    text.chars().map(|c| if is_odd(c) { escape(c) } else { c.to_string() }).collect()
}

/// Control characters, what reverses the direction of text, and what nobody can see.
pub(crate) fn is_odd(c: char) -> bool {
    let alone = matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}');
    let ranges = matches!(c,
        '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{10ffff}');
    c.is_control() || alone || ranges || (u32::from(c) & 0xfffe) == 0xfffe
}

// ---- export ----

/// The result of an export.
pub fn exported(url: &str, outcome: &export::Outcome) -> Output {
    of_export("export", "exported", url, outcome)
}

/// The result of the end of a sharded export.
pub fn committed(url: &str, outcome: &export::Outcome) -> Output {
    of_export("commit", "committed", url, outcome)
}

fn of_export(command: &str, done: &str, url: &str, outcome: &export::Outcome) -> Output {
    let planned = outcome.commit.is_none();
    let collections: Vec<_> = outcome.collections.iter().map(export_collection_json).collect();
    let mut rest = json!({
        "source": {"version": outcome.source},
        "collections": collections,
        "totals": totals_json(&outcome.totals),
        "reused_units": outcome.reused_units,
        "versions": outcome.versions,
        "warnings": outcome.warnings,
        "seconds": outcome.seconds,
    });
    rest["snapshot"] = json!({
        "url": url,
        "id": outcome.id,
        "commit_sha256": outcome.commit.map(|digest| format!("sha256:{digest}")),
    });
    rest["signed_by"] = json!(outcome.signed_by.map(|id| id.to_string()));
    let document = document(command, if planned { "planned" } else { "successful" }, rest);

    let mut text = String::new();
    let rows: Vec<Vec<String>> = outcome
        .collections
        .iter()
        .map(|c| {
            vec![
                c.meta.name.to_string(),
                about(planned, HumanCount(c.rows)),
                about(planned, HumanBytes(c.bytes)),
                about(planned, c.parts),
                match (c.loaded, c.consistency) {
                    (Some(true), _) => "yes".into(),
                    (Some(false), _) => "no".into(),
                    (None, consistency) => consistency.map_or("-", consistency_name).into(),
                },
            ]
        })
        .collect();
    let last = if planned { "loaded" } else { "consistency" };
    table(&mut text, &["collection", "rows", "size", "parts", last], &rows);
    let totals = totals_text(&outcome.totals);
    let unloaded: Vec<_> = outcome
        .collections
        .iter()
        .filter(|c| c.loaded == Some(false))
        .map(|c| c.meta.name.to_string())
        .collect();
    if planned && !unloaded.is_empty() && !outcome.loads {
        let _ = writeln!(
            text,
            "\nPlan: the export would be refused: not loaded, or not all of it: {}; load it, leave it out with \
             `--exclude`, or give `--load-source`; nothing was touched [{}]",
            listed(&unloaded),
            Code::NotLoaded.text()
        );
    } else if planned {
        let loading = match unloaded.len() {
            0 => String::new(),
            n => format!(", loading {} for it", plural(n as u64, "collection")),
        };
        let _ = writeln!(
            text,
            "\nPlan: would export {}, about {} from {} to {url}{loading}; nothing was touched",
            plural(outcome.totals.collections, "collection"),
            amount_text(&outcome.totals),
            one_line(&outcome.source)
        );
    } else {
        let _ = writeln!(text);
        if outcome.reused_units > 0 && command == "export" {
            let _ = writeln!(
                text,
                "went on from an earlier run: {} done already",
                plural(outcome.reused_units as u64, "range")
            );
        }
        if let Some(digest) = outcome.commit {
            let _ = writeln!(text, "digest of the snapshot, to be sent by another channel: sha256:{digest}");
        }
        if let Some(id) = outcome.signed_by {
            let _ = writeln!(text, "signed by the key {id}");
        }
        if let Some(version) = outcome.versions.get(keys::COMMIT) {
            let _ = writeln!(text, "version of COMMIT.json in the bucket: {}", one_line(version));
        }
        let _ =
            writeln!(text, "Successful: {done} {totals} to {url}{}", pace(&outcome.totals, outcome.seconds));
    }
    Output { document, text, warnings: outcome.warnings.clone(), next: Vec::new() }
}

/// Names in a sentence, which does not grow without an end.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first: Vec<_> = names.iter().take(NAMED).map(|name| one_line(name)).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", first.join(", "))
}

/// Names of collections that one sentence lists.
const NAMED: usize = 10;

fn export_collection_json(collection: &export::CollectionOutcome) -> Value {
    let partitions: Vec<_> =
        collection.partitions.iter().map(|(name, rows)| json!({"name": name, "rows": rows})).collect();
    json!({
        "database": collection.meta.name.database,
        "name": collection.meta.name.name,
        "rows": collection.rows,
        "bytes": collection.bytes,
        "parts": collection.parts,
        "partitions": partitions,
        "consistency": collection.consistency.map(consistency_name),
        "loaded": collection.loaded,
        "server_count": collection.server_count,
        "duplicate_keys": collection.shared_keys,
    })
}

fn consistency_name(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Pinned(_) => "pinned",
        Consistency::Checked => "checked",
        Consistency::Unchecked => "unchecked",
    }
}

// ---- import ----

/// The result of an import.
pub fn imported(url: &str, outcome: &import::Outcome) -> Output {
    let collections: Vec<_> = outcome.collections.iter().map(import_collection_json).collect();
    let rest = json!({
        "snapshot": {"url": url, "id": outcome.id, "commit_sha256": format!("sha256:{}", outcome.commit)},
        "target": {"version": outcome.target},
        "collections": collections,
        "totals": totals_json(&outcome.totals),
        "via": outcome.via,
        "via_reason": outcome.chosen,
        "resumed_parts": outcome.resumed_parts,
        "capacity": capacity_json(&outcome.capacity),
        "signatures": signatures_json(&outcome.signatures),
        "warnings": outcome.warnings,
        "seconds": outcome.seconds,
    });
    let document = document("import", if outcome.planned_only { "planned" } else { "successful" }, rest);

    let mut text = String::new();
    let rows: Vec<Vec<String>> = outcome
        .collections
        .iter()
        .map(|c| {
            let indexes: Vec<_> = c
                .indexes
                .iter()
                .map(|i| format!("{} {} {}", i.field, i.index_type, i.metric_type).trim_end().to_string())
                .collect();
            vec![
                c.source.to_string(),
                c.target.to_string(),
                HumanCount(c.rows).to_string(),
                c.server_count.map_or("-".into(), |count| HumanCount(count).to_string()),
                if outcome.planned_only { "-".into() } else { indexes.join(", ") },
            ]
        })
        .collect();
    table(&mut text, &["from", "to", "rows", "on target", "indexes"], &rows);
    let totals = totals_text(&outcome.totals);
    let _ = writeln!(text);
    signatures_text(&mut text, &outcome.signatures);
    if let Some(why) = &outcome.chosen {
        let _ = writeln!(text, "by {}: {}", outcome.via, one_line(why));
    }
    if outcome.resumed_parts > 0 {
        let _ = writeln!(
            text,
            "{} of {} parts were in from an earlier run",
            HumanCount(outcome.resumed_parts as u64),
            HumanCount(outcome.totals.parts)
        );
    }
    if outcome.planned_only {
        capacity_text(&mut text, &outcome.capacity);
        let _ = writeln!(
            text,
            "Plan: would import {totals} into {}; nothing was touched",
            one_line(&outcome.target)
        );
    } else {
        let unloaded = outcome.collections.iter().any(|c| !c.loaded);
        if unloaded {
            let _ = writeln!(text, "the collections are not loaded: load them when they are needed");
        }
        let _ = writeln!(
            text,
            "Successful: imported {totals} into {}{}",
            one_line(&outcome.target),
            pace(&outcome.totals, outcome.seconds)
        );
    }
    Output { document, text, warnings: outcome.warnings.clone(), next: Vec::new() }
}

fn import_collection_json(collection: &import::CollectionOutcome) -> Value {
    json!({
        "source": name_json(&collection.source),
        "target": name_json(&collection.target),
        "rows": collection.rows,
        "bytes": collection.bytes,
        "server_count": collection.server_count,
        "indexes": collection.indexes.iter().map(index_made_json).collect::<Vec<_>>(),
        "aliases": collection.aliases,
        "loaded": collection.loaded,
    })
}

fn index_made_json(index: &IndexMade) -> Value {
    json!({"field": index.field, "index_type": index.index_type, "metric_type": index.metric_type})
}

pub(crate) fn name_json(name: &CollectionName) -> Value {
    json!({"database": name.database, "name": name.name})
}

// ---- verify ----

/// The result of a verification.
pub fn verified(url: &str, report: &verify::Report) -> Output {
    let good = report.problems.is_empty();
    let problems: Vec<_> =
        report.problems.iter().map(|p| json!({"key": p.key, "problem": p.problem})).collect();
    let rest = json!({
        "snapshot": {
            "url": url,
            "id": report.opened.commit.id,
            "commit_sha256": format!("sha256:{}", report.opened.digest),
        },
        "level": report.level.name(),
        "checked": checked_json(report),
        "listed": report.listed,
        "totals": totals_json(&report.opened.commit.totals),
        "signatures": signatures_looked_for_json(report),
        "problems": problems,
        "code": (!good).then_some(Code::Integrity.text()),
        "warnings": report.notes,
        "seconds": report.seconds,
    });
    let document = document("verify", if good { "successful" } else { "failed" }, rest);

    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{}: {}", one_line(&problem.key), one_line(&problem.problem));
    }
    let _ = writeln!(text, "digest of the snapshot: sha256:{}", report.opened.digest);
    signatures_text(&mut text, &report.signatures);
    let looked = match report.level {
        verify::Level::List => "names and sizes".to_string(),
        verify::Level::Head if report.size_only == report.objects - 1 => {
            "names and sizes; the bucket returns no checksums".to_string()
        }
        verify::Level::Head if report.size_only > 0 => {
            format!("the bucket's checksums, and of {} objects only the size", report.size_only)
        }
        verify::Level::Head => "the bucket's checksums".to_string(),
        verify::Level::Full => "every byte".to_string(),
    };
    let unlisted = unlisted(report).map(|what| format!("; {what}")).unwrap_or_default();
    let objects = looked_at(report);
    if good {
        let _ = writeln!(text, "Successful: {objects} are as committed (checked: {looked}{unlisted})");
    } else {
        let _ = writeln!(
            text,
            "Failed: {} found; looked at {objects} (checked: {looked}{unlisted}) [{}]",
            plural(report.problems.len() as u64, "problem"),
            Code::Integrity.text()
        );
    }
    Output { document, text, warnings: report.notes.clone(), next: Vec::new() }
}

/// The objects and bytes that were looked at, and of how many, where some could not be.
pub(crate) fn looked_at(report: &verify::Report) -> String {
    let (objects, bytes) = (HumanCount(report.objects), HumanBytes(report.bytes));
    let (all_objects, all_bytes) = report.committed;
    match report.objects == all_objects {
        true => format!("{objects} objects, {bytes}"),
        false => {
            format!("{objects} of {} objects, {bytes} of {}", HumanCount(all_objects), HumanBytes(all_bytes))
        }
    }
}

/// What could not be looked for where the bucket refuses to list.
pub(crate) fn unlisted(report: &verify::Report) -> Option<&'static str> {
    match (report.listed, report.signatures.is_empty()) {
        (true, _) => None,
        (false, true) => Some("signatures and surplus objects could not be looked for"),
        (false, false) => Some("other signatures and surplus objects could not be looked for"),
    }
}

pub(crate) fn checked_json(report: &verify::Report) -> Value {
    let (objects, bytes) = report.committed;
    json!({
        "objects": report.objects,
        "bytes": report.bytes,
        "size_only": report.size_only,
        "of": {"objects": objects, "bytes": bytes},
    })
}

/// The signatures that are there; `null` where none is known and none could be looked for.
pub(crate) fn signatures_looked_for_json(report: &verify::Report) -> Value {
    match report.listed || !report.signatures.is_empty() {
        true => signatures_json(&report.signatures).into(),
        false => Value::Null,
    }
}

/// Signatures that hold, and those that nobody asked to check; bad ones are problems or warnings.
fn signatures_text(text: &mut String, signatures: &[Found]) {
    let mut unchecked = 0;
    for found in signatures {
        if let (Some(id), State::Valid(comment)) = (found.key_id, &found.state) {
            let _ = writeln!(text, "signed by the trusted key {id}: {}", one_line(comment));
        }
    }
    // Last, since what to do about them follows.
    for found in signatures.iter().filter(|found| found.state == State::Unchecked) {
        let Some(id) = found.key_id else { continue };
        unchecked += 1;
        let _ = writeln!(
            text,
            "there is a signature that names the key {id}, which is not among trusted keys: not checked"
        );
    }
    let how = match unchecked {
        0 => return,
        1 => "to check it, get that signer's public key",
        _ => "to check them, get those signers' public keys",
    };
    let give = if unchecked == 1 { "give it" } else { "give each" };
    let _ = writeln!(text, "  {how}, not through the bucket, and {give} with `--trusted-key`");
}

pub(crate) fn signatures_json(signatures: &[Found]) -> Vec<Value> {
    let one = |found: &Found| {
        let (state, comment, problem) = match &found.state {
            State::Valid(comment) => ("valid", Some(comment), None),
            State::Unchecked => ("unchecked", None, None),
            State::Invalid(why) => ("invalid", None, Some(why)),
        };
        json!({
            "key": found.object,
            "key_id": found.key_id.map(|id| id.to_string()),
            "state": state,
            "trusted_comment": comment,
            "problem": problem,
        })
    };
    signatures.iter().map(one).collect()
}

// ---- sign, keygen ----

/// The result of signing.
pub fn signed(url: &str, report: &sign::Report) -> Output {
    let object = report.key_id.object();
    let rest = json!({
        "snapshot": {
            "url": url,
            "id": report.opened.commit.id,
            "commit_sha256": format!("sha256:{}", report.opened.digest),
        },
        "signed_by": report.key_id.to_string(),
        "signature": object,
        "signed_before": report.signed == Signed::Before,
        "warnings": report.opened.signature_warnings(),
    });
    let mut text = String::new();
    let _ = writeln!(text, "digest of the snapshot: sha256:{}", report.opened.digest);
    let done = match report.signed {
        Signed::Now => "signed it",
        Signed::Before => "had signed it before",
    };
    let _ = writeln!(text, "Successful: the key {} {done}: {object}", report.key_id);
    Output {
        document: document("sign", "successful", rest),
        text,
        warnings: report.opened.signature_warnings(),
        next: Vec::new(),
    }
}

/// The result of making keys.
pub fn key_made(report: &keygen::Report) -> Output {
    let (secret, public) = (report.secret.display().to_string(), report.public.display().to_string());
    let key = report.key.to_base64();
    let rest = json!({
        "key_id": report.key.id().to_string(),
        "public_key": key,
        "secret_key_file": secret,
        "public_key_file": public,
        "protected": report.protected,
        "warnings": [],
    });
    let mut text = String::new();
    let protected =
        if report.protected { "protected by its password" } else { "not protected by a password" };
    let _ = writeln!(text, "secret key  {secret} ({protected}; keep it)");
    let _ = writeln!(text, "public key  {public} (give it away)");
    let _ = writeln!(text, "            {key}");
    let _ = writeln!(text, "Successful: made the key {}", report.key.id());
    Output { document: document("keygen", "successful", rest), text, warnings: Vec::new(), next: Vec::new() }
}

// ---- doctor ----

/// Marks that begin the lines of checks, and their colours on a terminal that wants them.
const GOOD: &str = "  ok    ";
const NOTE: &str = "  note  ";
const BAD: &str = "  FAIL  ";
const COLOURS: [(&str, &str); 3] = [(GOOD, "32"), (NOTE, "33"), (BAD, "31")];

/// What `doctor` found.
pub fn examined(report: &doctor::Report) -> Output {
    let (bad, noted) = report.counts();
    let checks: Vec<_> = report.checks.iter().map(check_json).collect();
    let rest = json!({
        "checks": checks,
        "red": bad,
        "notes": noted,
        "code": report.first_bad().map(Code::text),
        "policy": report.policy,
        "warnings": [],
        "seconds": report.seconds,
    });
    let document = document("doctor", if bad == 0 { "successful" } else { "failed" }, rest);
    let mut text = String::new();
    let mut about = None;
    for check in &report.checks {
        if about != Some(check.about) {
            let _ = writeln!(text, "{}{}", if about.is_some() { "\n" } else { "" }, check.about.name());
            about = Some(check.about);
        }
        let (mark, code) = match check.verdict {
            Verdict::Good => (GOOD, String::new()),
            Verdict::Note => (NOTE, String::new()),
            Verdict::Bad(code) => (BAD, format!(" [{}]", code.text())),
        };
        let _ = writeln!(text, "{mark}{:<13}{}{code}", check.name, one_line(&check.says));
        if let Some(fix) = &check.fix {
            let _ = writeln!(text, "{:21}{}", "", one_line(fix));
        }
    }
    if let Some(policy) = &report.policy {
        let _ = writeln!(text, "\nthe smallest policy for this:\n{}", policy.trim_end());
    }
    let all = plural(report.checks.len() as u64, "check");
    let notes = plural(noted as u64, "note");
    let _ = match report.first_bad() {
        None => writeln!(text, "\nSuccessful: nothing is in the way ({all}, {notes})"),
        Some(code) => writeln!(text, "\nFailed: {bad} of {all} red, {notes} [{}]", code.text()),
    };
    Output { document, text, warnings: Vec::new(), next: Vec::new() }
}

fn check_json(check: &doctor::Check) -> Value {
    let (verdict, code) = match check.verdict {
        Verdict::Good => ("good", None),
        Verdict::Note => ("note", None),
        Verdict::Bad(code) => ("red", Some(code.text())),
    };
    json!({
        "about": check.about.name(),
        "check": check.name,
        "verdict": verdict,
        "code": code,
        "says": check.says,
        "fix": check.fix,
    })
}

/// With colours in place of nothing else: the marks stay, for those who do not see the difference.
pub fn painted(text: &str) -> String {
    let line = |line: &str| match COLOURS.iter().find(|(mark, _)| line.starts_with(mark)) {
        Some((mark, colour)) => format!("\x1b[{colour}m{mark}\x1b[0m{}", &line[mark.len()..]),
        None => line.to_string(),
    };
    text.split_inclusive('\n').map(line).collect()
}

// ---- compare ----

/// The result of a comparison.
pub fn compared(url: &str, report: &compare::Report) -> Output {
    let good = report.differences() == 0;
    let collections: Vec<_> = report.collections.iter().map(compare_collection_json).collect();
    let listed = compare::listed(report.collections.iter().map(|c| &c.found));
    let findings: Vec<_> =
        listed.iter().map(|(index, finding)| finding_json(&report.collections[*index], finding)).collect();
    let rest = json!({
        "snapshot": {
            "url": url,
            "id": report.opened.commit.id,
            "commit_sha256": format!("sha256:{}", report.opened.digest),
        },
        "target": {"version": report.target},
        "signatures": signatures_json(&report.opened.signatures),
        "code": (!good).then_some(Code::Different.text()),
        "level": report.level.name(),
        "seed": report.sample.map(|s| s.seed),
        "rows_per_part": report.sample.map(|s| s.rows_per_part),
        "collections": collections,
        "differences": report.differences(),
        "findings": findings,
        "findings_limit": compare::LISTED,
        "findings_omitted": report.differences() - listed.len() as u64,
        "warnings": report.warnings,
        "seconds": report.seconds,
    });
    let document = document("compare", if good { "successful" } else { "failed" }, rest);
    Output { document, text: compare_text(report), warnings: report.warnings.clone(), next: Vec::new() }
}

fn compare_text(report: &compare::Report) -> String {
    let mut text = String::new();
    let rows: Vec<Vec<String>> = report
        .collections
        .iter()
        .map(|c| {
            vec![
                c.source.to_string(),
                c.target.to_string(),
                HumanCount(c.snapshot_rows).to_string(),
                HumanCount(c.server_rows).to_string(),
                HumanCount(c.rows_compared).to_string(),
                HumanCount(c.found.all()).to_string(),
            ]
        })
        .collect();
    table(
        &mut text,
        &["in the snapshot", "on the server", "rows", "there", "compared", "differences"],
        &rows,
    );
    let _ = writeln!(text);
    for collection in &report.collections {
        for kind in Kind::ALL {
            findings_text(&mut text, collection, kind);
        }
        if !collection.fields_not_compared.is_empty() {
            let fields = collection.fields_not_compared.join(", ");
            let _ = writeln!(text, "{}: values not compared: {fields}", collection.target);
        }
    }
    let compared: u64 = report.collections.iter().map(|c| c.rows_compared).sum();
    let looked = match (report.level, report.sample) {
        (compare::Level::Count, _) => "schemas and counts, no rows".to_string(),
        (compare::Level::Full, _) => {
            format!("schemas, counts, and every field of {} rows", HumanCount(compared))
        }
        (compare::Level::Sample, sample) => {
            if let Some(sample) = sample {
                let _ = writeln!(text, "to draw the same rows again: --seed {}", sample.seed);
            }
            format!("schemas, counts, and every field of {} sampled rows", HumanCount(compared))
        }
    };
    let of = plural(report.collections.len() as u64, "collection");
    let differing = report.collections.iter().filter(|c| c.found.all() > 0).count();
    let seconds = report.seconds;
    let _ = match report.differences() {
        0 => writeln!(text, "Successful: no difference in {of} (compared: {looked}) in {seconds:.1} s"),
        some => writeln!(
            text,
            "Failed: {} in {differing} of {of} (compared: {looked}) in {seconds:.1} s [{}]",
            plural(some, "difference"),
            Code::Different.text()
        ),
    };
    text
}

/// The first findings of one kind, and how many more there are.
fn findings_text(text: &mut String, collection: &compare::CollectionReport, kind: Kind) {
    let of_partition = |partition: &Option<String>| match partition {
        Some(name) => format!(" of partition {name:?}"),
        None => String::new(),
    };
    for finding in collection.found.kept(kind).iter().take(compare::SHOWN_PER_KIND) {
        let line = match finding {
            Finding::Schema { subject, snapshot, server } => {
                format!("{subject}: snapshot {snapshot}, server {server}")
            }
            Finding::Count { partition, snapshot, server } => {
                format!("rows{}: snapshot {snapshot}, server {server}", of_partition(partition))
            }
            Finding::Missing { partition, key } => {
                format!("missing row: key {key}{} is not on the server", of_partition(partition))
            }
            Finding::Extra { partition, key } => {
                format!("extra row: key {key}{} is not in the snapshot", of_partition(partition))
            }
            Finding::Changed { partition, key, field, snapshot, server } => format!(
                "changed field: key {key}{}, field {field:?}: snapshot {snapshot}, server {server}",
                of_partition(partition)
            ),
        };
        let _ = writeln!(text, "{}: {line}", collection.target);
    }
    let more = collection.found.total(kind).saturating_sub(compare::SHOWN_PER_KIND as u64);
    if more > 0 {
        let what = match kind {
            Kind::Schema => "difference of the schema",
            Kind::Count => "difference of counts",
            Kind::Missing => "missing row",
            Kind::Extra => "extra row",
            Kind::Changed => "changed field",
        };
        let _ = writeln!(text, "{}: and {} more of: {what}", collection.target, HumanCount(more));
    }
}

fn compare_collection_json(collection: &compare::CollectionReport) -> Value {
    let partitions: Vec<_> = collection
        .partitions
        .iter()
        .map(|p| json!({"name": p.name, "snapshot_rows": p.snapshot, "server_rows": p.server}))
        .collect();
    let found = &collection.found;
    json!({
        "source": name_json(&collection.source),
        "target": name_json(&collection.target),
        "snapshot_rows": collection.snapshot_rows,
        "server_rows": collection.server_rows,
        "partitions": partitions,
        "rows_compared": collection.rows_compared,
        "fields_not_compared": collection.fields_not_compared,
        "findings": {
            "schema": found.total(Kind::Schema),
            "count": found.total(Kind::Count),
            "missing_rows": found.total(Kind::Missing),
            "extra_rows": found.total(Kind::Extra),
            "changed_fields": found.total(Kind::Changed),
            "changed_rows": found.changed_rows,
        },
    })
}

fn finding_json(collection: &compare::CollectionReport, finding: &Finding) -> Value {
    let mut json = match finding {
        Finding::Schema { subject, snapshot, server } => {
            json!({"subject": subject, "snapshot": snapshot, "server": server})
        }
        Finding::Count { partition, snapshot, server } => {
            json!({"partition": partition, "snapshot": snapshot, "server": server})
        }
        Finding::Missing { partition, key } | Finding::Extra { partition, key } => {
            json!({"partition": partition, "key": key_json(key)})
        }
        Finding::Changed { partition, key, field, snapshot, server } => json!({
            "partition": partition,
            "key": key_json(key),
            "field": field,
            "snapshot": snapshot,
            "server": server,
        }),
    };
    json["kind"] = finding.kind().name().into();
    json["collection"] = name_json(&collection.target);
    json
}

pub(crate) fn key_json(key: &Key) -> Value {
    match key {
        Key::Int(value) => (*value).into(),
        Key::Text(text) => text.as_str().into(),
    }
}

// ---- inspect ----

/// What a snapshot holds.
pub fn inspected(url: &str, report: &inspect::Report) -> Output {
    let manifest = &report.opened.manifest;
    let collections: Vec<_> = manifest
        .collections
        .iter()
        .zip(&report.first_rows)
        .map(|(collection, rows)| inspect_collection_json(collection, rows))
        .collect();
    let rest = json!({
        "snapshot": {
            "url": url,
            "id": manifest.id,
            "created": manifest.created,
            "tool": manifest.tool,
            "commit_sha256": format!("sha256:{}", report.opened.digest),
        },
        "source": {"kind": manifest.source.kind, "version": manifest.source.version},
        "collections": collections,
        "totals": totals_json(&report.opened.commit.totals),
        "capacity": capacity_json(&report.capacity),
        "bucket_limits": manifest.bucket_limits,
        "signatures": signatures_json(&report.opened.signatures),
        "warnings": report.opened.signature_warnings(),
    });
    let document = document("inspect", "successful", rest);

    let mut text = String::new();
    let _ = writeln!(text, "snapshot   {url}");
    let _ = writeln!(text, "digest     sha256:{}", report.opened.digest);
    let _ = writeln!(text, "id         {}", one_line(&manifest.id));
    let _ = writeln!(text, "created    {} by {}", one_line(&manifest.created), one_line(&manifest.tool));
    let _ = writeln!(
        text,
        "source     {} {}",
        one_line(&manifest.source.kind),
        one_line(&manifest.source.version)
    );
    let _ = writeln!(text, "holds      {}", totals_text(&report.opened.commit.totals));
    for found in &report.opened.signatures {
        if let (Some(id), State::Valid(comment)) = (found.key_id, &found.state) {
            let _ = writeln!(text, "signed by  {id}: {}", one_line(comment));
        }
    }
    for limit in &manifest.bucket_limits {
        let _ = writeln!(text, "note       {}", one_line(limit));
    }
    for (collection, rows) in manifest.collections.iter().zip(&report.first_rows) {
        inspected::collection(&mut text, collection, rows);
    }
    let _ = writeln!(text);
    capacity_text(&mut text, &report.capacity);
    Output { document, text, warnings: report.opened.signature_warnings(), next: Vec::new() }
}

pub(crate) fn inspect_collection_json(collection: &CollectionResult, rows: &[Value]) -> Value {
    let meta = &collection.meta;
    let partitions: Vec<_> = collection
        .rows_by_partition()
        .into_iter()
        .map(|(name, rows)| json!({"name": name, "rows": rows}))
        .collect();
    let parts: Vec<_> = collection
        .parts
        .iter()
        .map(|p| json!({"key": p.key, "size": p.size, "sha256": p.sha256, "rows": p.rows, "partition": p.partition}))
        .collect();
    json!({
        "database": meta.name.database,
        "name": meta.name.name,
        "rows": collection.rows(),
        "bytes": collection.bytes(),
        "consistency": consistency_name(collection.consistency),
        "server_count": collection.counts.server,
        "duplicate_keys": collection.counts.shared_keys,
        "schema": schema_json(&meta.schema),
        "shards": meta.shards,
        "partitions": partitions,
        "indexes": meta.indexes.iter().map(index_json).collect::<Vec<_>>(),
        "aliases": meta.aliases,
        "properties": meta.properties,
        "parts": parts,
        "first_rows": rows,
    })
}

fn schema_json(schema: &Schema) -> Value {
    let fields: Vec<_> = schema
        .fields
        .iter()
        .map(|f| {
            json!({
                "name": f.name,
                "type": f.kind.to_string(),
                "primary_key": f.primary_key,
                "auto_id": f.auto_id,
                "partition_key": f.partition_key,
                "clustering_key": f.clustering_key,
                "nullable": f.nullable,
                "default": f.default.as_ref().map(ToString::to_string),
                "description": f.description,
                "params": f.params,
            })
        })
        .collect();
    let functions: Vec<_> = schema
        .functions
        .iter()
        .map(|f| json!({"name": f.name, "kind": f.kind.name(), "inputs": f.inputs, "outputs": f.outputs, "params": f.params}))
        .collect();
    json!({"description": schema.description, "dynamic": schema.dynamic, "fields": fields, "functions": functions})
}

fn index_json(index: &Index) -> Value {
    json!({"field": index.field, "name": index.name, "params": index.params})
}

// ---- shared ----

pub(crate) fn totals_json(totals: &Totals) -> Value {
    json!({"collections": totals.collections, "rows": totals.rows, "parts": totals.parts, "bytes": totals.bytes})
}

pub(crate) fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", HumanCount(n)) }
}

pub(crate) fn totals_text(totals: &Totals) -> String {
    format!("{}, {}", plural(totals.collections, "collection"), amount_text(totals))
}

fn amount_text(totals: &Totals) -> String {
    format!(
        "{}, {} in {}",
        plural(totals.rows, "row"),
        HumanBytes(totals.bytes),
        plural(totals.parts, "part")
    )
}

fn pace(totals: &Totals, seconds: f64) -> String {
    if seconds <= 0.0 {
        return String::new();
    }
    format!(" in {seconds:.1} s ({}/s)", HumanBytes((totals.bytes as f64 / seconds) as u64))
}

fn about(planned: bool, value: impl std::fmt::Display) -> String {
    if planned { format!("~{value}") } else { value.to_string() }
}

fn capacity_json(estimate: &Estimate) -> Value {
    json!({
        "zilliz_cus": {
            "performance": estimate.performance_cus,
            "capacity": estimate.capacity_cus,
            "tiered": estimate.tiered_cus,
        },
        "query_node_bytes": estimate.query_node_bytes,
        "assumptions": ASSUMPTIONS,
    })
}

fn capacity_text(text: &mut String, estimate: &Estimate) {
    let _ = writeln!(
        text,
        "capacity for all of it: Zilliz Cloud {} performance, {} capacity or {} tiered CU; self-hosted about {} of query node memory",
        estimate.performance_cus,
        estimate.capacity_cus,
        estimate.tiered_cus,
        HumanBytes(estimate.query_node_bytes)
    );
    for assumption in ASSUMPTIONS {
        let _ = writeln!(text, "  assuming {assumption}");
    }
}

/// Columns that a cell of a table takes at most; the document has all of it.
const CELL: usize = 60;

/// Left-aligned columns, numbers included: names are what people look for.
pub(crate) fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let cut = |cell: &String| cut(&one_line(cell), CELL);
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cut).collect()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].width());
            cells.chain([head[column].width()]).max().unwrap_or(0)
        })
        .collect();
    let mut line = |cells: &[&str]| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    };
    line(head);
    for row in &rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// With blanks up to a width. Characters of some scripts take two columns, and others none.
fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width())))
}

/// At most so many columns of a text.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_string();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if kept.width() + c.width().unwrap_or(0) + 3 > columns {
            break;
        }
        kept.push(c);
    }
    kept + "..."
}
