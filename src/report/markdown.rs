//! The report as GitHub-flavoured Markdown. Pure.
//!
//! Foreign text stands in code spans, where nothing is markup, or has every mark escaped.

use super::facts::{self, Mark};
use super::{Report, TOOL};
use crate::output::{about, is_odd};
use crate::snapshot::CollectionResult;
use indicatif::{HumanBytes, HumanCount};
use std::collections::HashSet;
use std::fmt::{Display, Write};

/// Characters of one text that are shown.
const SHOWN: usize = 1_000;
/// Parts, problems and differences that are listed of each.
const LISTED: usize = 200;

// Writing to a String cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => { let _ = writeln!($text, $($format)*); };
}

/// The report.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let opened = &report.verified.opened;
    let (commit, manifest) = (&opened.commit, &opened.manifest);
    line!(text, "# Snapshot {}\n", code(&manifest.id));
    let rows: Vec<Vec<String>> = facts::verdicts(report)
        .iter()
        .map(|v| vec![v.title.into(), format!("{} {}", sign(v.mark), v.word), words(&v.text)])
        .collect();
    table(&mut text, &["about", "result", ""], &rows);

    line!(text, "\n## Identity\n");
    let mut rows = vec![
        vec!["SHA-256 of COMMIT.json".into(), code(format!("sha256:{}", opened.digest))],
        vec!["place".into(), code(&report.url)],
        vec!["created".into(), code(&manifest.created)],
        vec!["exported with".into(), code(&manifest.tool)],
        vec!["source".into(), code(format!("{} {}", manifest.source.kind, manifest.source.version))],
    ];
    if let Some(server) = facts::server(report) {
        rows.insert(2, vec!["S3 endpoint".into(), code(server)]);
    }
    for object in [&commit.manifest, &commit.sums] {
        rows.push(vec![words(&object.key), code(format!("sha256:{}", object.sha256))]);
    }
    rows.extend(report.verified.signatures.iter().map(|f| vec!["signature".into(), code(&f.object)]));
    table(&mut text, &["", ""], &rows);

    let notes: Vec<_> = report.verified.notes.iter().chain(&manifest.bucket_limits).collect();
    if !report.verified.problems.is_empty() || !notes.is_empty() {
        line!(text, "\n## To be known\n");
    }
    for problem in report.verified.problems.iter().take(LISTED) {
        line!(text, "- {}: {}", code(&problem.key), words(&problem.problem));
    }
    for note in notes {
        line!(text, "- {}", words(note));
    }

    line!(text, "\n## Collections\n");
    let wrong = facts::wrong_objects(report);
    let rows: Vec<Vec<String>> =
        manifest.collections.iter().map(|collection| overview(report, &wrong, collection)).collect();
    table(&mut text, &["collection", "source", "snapshot", "target", "result", "size", "parts"], &rows);
    differences(&mut text, report);

    line!(text, "\n## How to check it yourself\n");
    for check in facts::checks(report) {
        line!(text, "{}. {}\n", words(&check.title), words(&check.about));
        let commands: Vec<_> = check.commands.iter().map(|command| seen(command.chars())).collect();
        line!(text, "```sh\n{}\n```\n", commands.join("\n"));
    }
    for collection in &manifest.collections {
        one_collection(&mut text, collection);
    }
    line!(text, "\nMade {} by {TOOL}.", words(&report.made));
    text
}

fn overview(report: &Report, wrong: &HashSet<&str>, collection: &CollectionResult) -> Vec<String> {
    let compared = report.compared.as_ref().and_then(|c| c.of(&collection.meta.name));
    let (mark, word) = facts::counted(collection, wrong, compared);
    vec![
        code(&collection.meta.name),
        HumanCount(collection.counts.server).to_string(),
        HumanCount(collection.rows()).to_string(),
        compared.map_or("–".into(), |c| HumanCount(c.rows).to_string()),
        format!("{} {word}", sign(mark)),
        HumanBytes(collection.bytes()).to_string(),
        HumanCount(collection.parts.len() as u64).to_string(),
    ]
}

fn differences(text: &mut String, report: &Report) {
    let Some(compared) = report.compared.as_ref().filter(|c| !c.findings.is_empty()) else { return };
    line!(text, "\n## Differences from the target\n");
    let rows: Vec<Vec<String>> = compared
        .findings
        .iter()
        .take(LISTED)
        .map(|f| {
            vec![words(&f.kind), code(&f.collection), words(&f.place), code(&f.snapshot), code(&f.target)]
        })
        .collect();
    table(text, &["kind", "collection", "where", "snapshot", "target"], &rows);
}

fn one_collection(text: &mut String, collection: &CollectionResult) {
    let meta = &collection.meta;
    line!(text, "## {}\n", code(&meta.name));
    if !meta.schema.description.is_empty() {
        line!(text, "{}\n", words(&meta.schema.description));
    }
    line!(text, "{}.\n", words(&facts::consistency(collection)));
    let rows: Vec<Vec<String>> = about::fields(collection)
        .iter()
        .map(|f| {
            let name = if f.inner { format!("– {}", code(&f.name)) } else { code(&f.name) };
            vec![name, code(&f.kind), words(&f.notes.join(", ")), words(&f.description)]
        })
        .collect();
    table(text, &["field", "type", "notes", "description"], &rows);
    if !meta.indexes.is_empty() {
        line!(text, "");
        let row = |index: &crate::snapshot::Index| {
            let [kind, metric, settings] = about::index(index);
            vec![code(&index.field), words(&kind), words(&metric), words(&settings)]
        };
        let rows: Vec<_> = meta.indexes.iter().map(row).collect();
        table(text, &["index on", "type", "metric", "settings"], &rows);
    }
    let partitions = about::partitions(collection);
    if partitions.len() > 1 {
        line!(text, "");
        let rows: Vec<Vec<String>> = partitions
            .iter()
            .map(|p| {
                let [rows, parts] = [p.rows, p.parts].map(|n| HumanCount(n).to_string());
                vec![code(&p.name), rows, HumanBytes(p.bytes).to_string(), parts]
            })
            .collect();
        table(text, &["partition", "rows", "size", "parts"], &rows);
    }
    for (what, said) in [
        ("aliases", meta.aliases.join(", ")),
        ("properties", about::settings(&meta.properties)),
        ("functions", about::functions(&meta.schema).join("; ")),
    ] {
        if !said.is_empty() {
            line!(text, "\n{what}: {}", words(&said));
        }
    }
    if let Some(command) = facts::duckdb(collection) {
        line!(text, "\n```sh\n{command}   # {}\n```", HumanCount(collection.rows()));
    }
    if !collection.parts.is_empty() {
        line!(text, "");
        let rows: Vec<Vec<String>> = collection
            .parts
            .iter()
            .take(LISTED)
            .map(|p| {
                vec![
                    code(&p.key),
                    HumanCount(p.rows).to_string(),
                    code(&p.first),
                    code(&p.last),
                    code(p.sha256),
                ]
            })
            .collect();
        table(text, &["part", "rows", "first key", "last key", "sha256"], &rows);
        if let Some(more) = collection.parts.len().checked_sub(LISTED).filter(|more| *more > 0) {
            line!(text, "\nand {} more in manifest.json", HumanCount(more as u64));
        }
    }
    line!(text, "");
}

fn sign(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "✓",
        Mark::Bad => "✗",
        Mark::Open => "○",
    }
}

fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    line!(text, "| {} |", head.join(" | "));
    line!(text, "|{}", " --- |".repeat(head.len()));
    for row in rows {
        line!(text, "| {} |", row.join(" | "));
    }
}

/// On one line, shortened, with what cannot be seen as its code.
fn visible(foreign: &str) -> String {
    let mut shown = seen(foreign.chars().take(SHOWN));
    let all = foreign.chars().count();
    if all > SHOWN {
        let _ = write!(shown, "… ({} characters)", HumanCount(all as u64));
    }
    shown
}

fn seen(chars: impl Iterator<Item = char>) -> String {
    chars.map(|c| if is_odd(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// A code span. One that has backticks stands between longer runs of them.
fn code(foreign: impl Display) -> String {
    let shown = visible(&foreign.to_string()).replace('|', "\\|");
    let mut longest = 0;
    let mut run = 0;
    for c in shown.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    match (shown.as_str(), longest) {
        ("", _) => String::new(),
        (_, 0) => format!("`{shown}`"),
        _ => format!("{fence} {shown} {fence}"),
    }
}

/// Running text in which nothing is markup, and nothing becomes a link.
fn words(foreign: &str) -> String {
    let shown = visible(foreign);
    let mut escaped = String::new();
    for (at, c) in shown.char_indices() {
        let rest = &shown[at..];
        let linked =
            rest.starts_with("://") || (c == '.' && shown[..at].to_ascii_lowercase().ends_with("www"));
        if linked || "\\`*_{}[]<>()#!|&~$@".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_no_markup() {
        assert_eq!(code("a`b``c|d"), "``` a`b``c\\|d ```");
        assert_eq!(code("a\nb"), "`a\\u{a}b`");
        assert_eq!(words("<b>[x](http://y) | *z*"), "\\<b\\>\\[x\\]\\(http\\://y\\) \\| \\*z\\*");
        assert_eq!(words("a: WWW.x.y"), "a: WWW\\.x.y");
    }
}
