//! The report as one HTML page: no script, no network, nothing outside of itself. Pure.

use super::facts::{self, Mark};
use super::html::Html;
use super::pictures::{self, Bar, Lane};
use super::{Compared, Report, TOOL};
use crate::digest::Sha256;
use crate::output::about::{self, PartitionRow};
use crate::signature::State;
use crate::snapshot::{CollectionResult, FORMAT_VERSION, ObjectRef, Part};
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Display;

const STYLE: &str = include_str!("style.css");

/// Parts of one collection that are listed; all of them are in manifest.json and SHA256SUMS.
const PARTS: usize = 200;
/// Problems and differences that are listed.
const LISTED: usize = 200;
/// Partitions of one collection that are listed.
const PARTITIONS: usize = 200;

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut html = Html::default();
    head(&mut html, report);
    html.raw("<body>\n<header>\n");
    title(&mut html, report);
    flow(&mut html, report);
    verdicts(&mut html, report);
    html.raw("</header>\n<main>\n");
    problems(&mut html, report);
    overview(&mut html, report);
    if let Some(compared) = &report.compared {
        target(&mut html, report, compared);
    }
    identity(&mut html, report);
    notes(&mut html, report);
    checks(&mut html, report);
    for (index, collection) in report.verified.opened.manifest.collections.iter().enumerate() {
        one_collection(&mut html, report, index, collection);
    }
    html.raw("</main>\n<footer class=\"faint\"><p>Made ").text(&report.made).raw(" by ").text(TOOL);
    html.raw(". This page says what was found then; the commands above find it out again, without it.</p></footer>\n</body>\n</html>\n");
    html.finish()
}

/// The policy forbids everything but this very style sheet: should markup of somebody else ever
/// get into the page, it could load nothing, run nothing and send nothing.
fn head(html: &mut Html, report: &Report) {
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    html.plain(Sha256::of(STYLE.as_bytes()).to_base64()).raw("'; base-uri 'none'; form-action 'none'\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    html.raw("<meta name=\"generator\" content=\"").plain(TOOL).raw("\">\n<title>Snapshot ");
    html.plain(&report.verified.opened.manifest.id).raw("</title>\n<style>").raw(STYLE);
    html.raw("</style>\n</head>\n");
}

fn title(html: &mut Html, report: &Report) {
    let manifest = &report.verified.opened.manifest;
    html.raw("<h1>Snapshot ").name(&manifest.id).raw("</h1>\n<p class=\"faint\">exported ");
    html.name(&manifest.created).raw(" with ").name(&manifest.tool).raw(", at ").name(&report.url);
    html.raw("</p>\n<p class=\"faint\">COMMIT.json has <code>")
        .text(format!("sha256:{}", report.verified.opened.digest));
    html.raw("</code></p>\n");
}

// ---- the first screen ----

fn flow(html: &mut Html, report: &Report) {
    let opened = &report.verified.opened;
    let (source, totals) = (&opened.manifest.source, &opened.commit.totals);
    html.raw("<div class=\"flow\">\n<div><div class=\"what\">Source</div><div class=\"big\">");
    count(html, facts::source_rows(report), "row");
    html.raw("</div><div class=\"faint\">").name(&source.kind).raw(" ").name(&source.version);
    html.raw(", counted during the export</div></div>\n");
    arrow(html);
    html.raw("<div><div class=\"what\">Snapshot</div><div class=\"big\">");
    count(html, totals.rows, "row");
    html.raw("</div><div class=\"faint\">").text(HumanBytes(totals.bytes)).raw(" in ");
    count(html, totals.parts, "part");
    html.raw(" of ");
    count(html, totals.collections, "collection");
    html.raw("</div></div>\n");
    arrow(html);
    match (&report.compared, facts::target_rows(report)) {
        (Some(compared), Some(rows)) => {
            html.raw("<div><div class=\"what\">Target</div><div class=\"big\">");
            count(html, rows, "row");
            html.raw("</div><div class=\"faint\">").name(&compared.target);
            html.raw(", counted by <code>compare</code></div></div>\n");
        }
        _ => {
            html.raw("<div class=\"none\"><div class=\"what\">Target</div><div class=\"big\">–</div>");
            html.raw(
                "<div class=\"faint\">not compared: make this page with <code>--compare</code></div></div>\n",
            );
        }
    }
    html.raw("</div>\n");
}

fn arrow(html: &mut Html) {
    html.raw("<div class=\"arrow\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\"><path d=\"M4 12h16M14 6l6 6-6 6\"/></svg></div>\n");
}

fn verdicts(html: &mut Html, report: &Report) {
    html.raw("<ul class=\"verdicts\">\n");
    for verdict in facts::verdicts(report) {
        html.raw("<li><span class=\"title\">").raw(verdict.title).raw("</span><span>");
        mark(html, verdict.mark, verdict.word);
        html.raw("</span><span class=\"text\">").text(verdict.text).raw("</span></li>\n");
    }
    html.raw("</ul>\n");
}

fn mark(html: &mut Html, mark: Mark, word: &'static str) {
    html.raw(match mark {
        Mark::Good => "<span class=\"mark good\">✓ ",
        Mark::Bad => "<span class=\"mark bad\">✗ ",
        Mark::Open => "<span class=\"mark open\">○ ",
    });
    html.raw(word).raw("</span>");
}

fn problems(html: &mut Html, report: &Report) {
    let problems = &report.verified.problems;
    if !problems.is_empty() {
        html.raw("<h2>What is wrong</h2>\n<table><thead><tr><th scope=\"col\">object</th><th scope=\"col\">problem</th></tr></thead><tbody>\n");
        for problem in problems.iter().take(LISTED) {
            html.raw("<tr><td class=\"mono\">").name(&problem.key).raw("</td><td>").text(&problem.problem);
            html.raw("</td></tr>\n");
        }
        html.raw("</tbody></table>\n");
        more(html, problems.len(), LISTED, " more: verify lists all of them.");
    }
}

fn notes(html: &mut Html, report: &Report) {
    let notes: Vec<_> =
        report.verified.notes.iter().chain(&report.verified.opened.manifest.bucket_limits).collect();
    if !notes.is_empty() {
        html.raw("<h2>To be known</h2>\n<ul>\n");
        for note in notes {
            html.raw("<li>").text(note).raw("</li>\n");
        }
        html.raw("</ul>\n");
    }
}

fn more(html: &mut Html, all: usize, shown: usize, what: &'static str) {
    if all > shown {
        html.raw("<p class=\"faint\">And ").text(HumanCount((all - shown) as u64)).raw(what).raw("</p>\n");
    }
}

fn overview(html: &mut Html, report: &Report) {
    let collections = &report.verified.opened.manifest.collections;
    html.raw("<h2>Collections</h2>\n");
    if collections.is_empty() {
        html.raw("<p>The snapshot has no collections.</p>\n");
        return;
    }
    let bar = |(index, collection): (usize, &CollectionResult)| Bar {
        label: collection.meta.name.to_string(),
        link: Some(index),
        rows: collection.rows(),
        bytes: collection.bytes(),
    };
    let bars: Vec<_> = collections.iter().enumerate().map(bar).collect();
    pictures::bars(html, "How rows and bytes are spread over the collections.", "collection", &bars);
    html.raw("<table class=\"counts\"><caption>Rows that each side counted</caption><thead><tr><th scope=\"col\">collection</th><th scope=\"col\" class=\"num\">source</th><th scope=\"col\" class=\"num\">snapshot</th><th scope=\"col\" class=\"num\">target</th><th scope=\"col\">result</th></tr></thead><tbody>\n");
    let wrong = facts::wrong_objects(report);
    for (index, collection) in collections.iter().enumerate() {
        html.raw("<tr><td><a href=\"#c").plain(index).raw("\">").name(&collection.meta.name).raw("</a></td>");
        number(html, HumanCount(collection.counts.server));
        number(html, HumanCount(collection.rows()));
        let compared = report.compared.as_ref().and_then(|c| c.of(&collection.meta.name));
        match compared {
            Some(compared) => number(html, HumanCount(compared.rows)),
            None => number(html, "–"),
        }
        html.raw("<td>");
        let shared = collection.counts.shared_keys;
        let (sign, word) = facts::counted(collection, &wrong, compared);
        mark(html, sign, word);
        if shared > 0 {
            html.raw(" <span class=\"faint\">");
            count(html, shared, "row");
            html.raw(" with the key of another</span>");
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
}

fn target(html: &mut Html, report: &Report, compared: &Compared) {
    html.raw("<h2>Compared with the target</h2>\n<p>").text(facts::target(report).text).raw("</p>\n");
    html.raw("<div class=\"scroll\"><table class=\"wide\"><thead><tr><th scope=\"col\">in the snapshot</th><th scope=\"col\">on the target</th><th scope=\"col\" class=\"num\">rows there</th><th scope=\"col\" class=\"num\">rows compared</th><th scope=\"col\" class=\"num\">differences</th></tr></thead><tbody>\n");
    for collection in &compared.collections {
        html.raw("<tr><td>").name(&collection.source).raw("</td><td>").name(&collection.target).raw("</td>");
        number(html, HumanCount(collection.rows));
        number(html, HumanCount(collection.rows_compared));
        number(html, HumanCount(collection.differences));
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if !compared.findings.is_empty() {
        html.raw("<div class=\"scroll\"><table class=\"wide\"><caption>Differences</caption><thead><tr><th scope=\"col\">kind</th><th scope=\"col\">collection</th><th scope=\"col\">where</th><th scope=\"col\">snapshot</th><th scope=\"col\">target</th></tr></thead><tbody>\n");
        for found in compared.findings.iter().take(LISTED) {
            html.raw("<tr><td>").text(&found.kind).raw("</td><td>").name(&found.collection).raw("</td><td>");
            html.name(&found.place).raw("</td><td class=\"mono\">").name(&found.snapshot);
            html.raw("</td><td class=\"mono\">").name(&found.target).raw("</td></tr>\n");
        }
        html.raw("</tbody></table></div>\n");
        let all = usize::try_from(compared.differences).unwrap_or(usize::MAX);
        more(html, all, LISTED.min(compared.findings.len()), " more.");
    }
    if !compared.warnings.is_empty() {
        html.raw("<ul>\n");
        for warning in compared.warnings.iter().take(LISTED) {
            html.raw("<li>").text(warning).raw("</li>\n");
        }
        html.raw("</ul>\n");
    }
}

// ---- who, and how to check ----

fn identity(html: &mut Html, report: &Report) {
    let opened = &report.verified.opened;
    let (commit, manifest) = (&opened.commit, &opened.manifest);
    html.raw("<h2>Identity</h2>\n<table class=\"facts\"><tbody>\n");
    fact(html, "SHA-256 of COMMIT.json", |h| {
        h.raw("<code>").text(format!("sha256:{}", opened.digest)).raw("</code><br><span class=\"faint\">It stands for the whole snapshot: everything else follows from COMMIT.json by SHA-256.</span>")
    });
    fact(html, "id", |h| h.name(&manifest.id));
    fact(html, "place", |h| h.name(&report.url));
    if let Some(server) = facts::server(report) {
        fact(html, "S3 endpoint", |h| h.name(server));
    }
    fact(html, "created", |h| h.name(&manifest.created));
    fact(html, "exported with", |h| h.name(&manifest.tool));
    fact(html, "source", |h| h.name(&manifest.source.kind).raw(" ").name(&manifest.source.version));
    fact(html, "format", |h| {
        h.raw("milvus-handoff-snapshot, version ").text(FORMAT_VERSION);
        if !commit.features.is_empty() {
            h.raw(", with ").text(commit.features.join(", "));
        }
        h
    });
    for object in [&commit.manifest, &commit.sums] {
        identity_of(html, object);
    }
    for found in &report.verified.signatures {
        fact(html, "signature", |h| {
            let (sign, word) = match &found.state {
                State::Valid(_) => (Mark::Good, "valid"),
                State::Invalid(_) => (Mark::Bad, "not valid"),
                State::Unchecked => (Mark::Open, "not checked"),
            };
            mark(h, sign, word);
            h.raw(" ");
            if let Some(id) = found.key_id {
                h.raw("key <code>").text(id).raw("</code> ");
            }
            match &found.state {
                State::Valid(said) => h.raw("says: ").text(said),
                State::Invalid(why) => h.text(why),
                State::Unchecked => h.raw("was not given as trusted"),
            };
            h.raw("<br><span class=\"faint mono\">").text(&found.object).raw("</span>")
        });
    }
    for database in manifest.databases.iter().filter(|database| !database.properties.is_empty()) {
        fact(html, "database", |h| {
            h.name(&database.name).raw(": ").text(about::settings(&database.properties))
        });
    }
    html.raw("</tbody></table>\n");
}

fn identity_of(html: &mut Html, object: &ObjectRef) {
    html.raw("<tr><th scope=\"row\">").text(&object.key).raw("</th><td><code>sha256:").text(object.sha256);
    html.raw("</code><br><span class=\"faint\">").text(HumanBytes(object.size)).raw("</span></td></tr>\n");
}

fn fact(html: &mut Html, name: &'static str, value: impl FnOnce(&mut Html) -> &mut Html) {
    html.raw("<tr><th scope=\"row\">").raw(name).raw("</th><td>");
    value(html).raw("</td></tr>\n");
}

fn checks(html: &mut Html, report: &Report) {
    html.raw("<h2>How to check it yourself</h2>\n<p>Everybody who can read the snapshot can check it, with tools that are not ours.");
    html.raw(" Whoever also has a signer's public key, or the digest from the exporter, knows that it is the one that was meant.</p>\n");
    for check in facts::checks(report) {
        html.raw("<h3>")
            .text(check.title)
            .raw("</h3>\n<p class=\"faint\">")
            .text(check.about)
            .raw("</p>\n<pre>");
        for (index, command) in check.commands.iter().enumerate() {
            html.raw(if index == 0 { "" } else { "\n" }).whole(command);
        }
        html.raw("</pre>\n");
    }
    html.raw("<p class=\"faint\">The parts are plain Parquet files: with each collection stands a command that counts its rows with DuckDB, and pandas, Polars and Spark read them as well.</p>\n");
}

// ---- collections ----

fn one_collection(html: &mut Html, report: &Report, index: usize, collection: &CollectionResult) {
    let meta = &collection.meta;
    html.raw("<section class=\"collection\" id=\"c").plain(index).raw("\">\n<h2>").name(&meta.name);
    html.raw("</h2>\n");
    if !meta.schema.description.is_empty() {
        html.raw("<p><bdi>").text(&meta.schema.description).raw("</bdi></p>\n");
    }
    html.raw("<table class=\"facts about\"><tbody>\n");
    fact(html, "rows", |h| h.text(HumanCount(collection.rows())));
    fact(html, "size", |h| {
        h.text(HumanBytes(collection.bytes())).raw(" in ");
        count(h, collection.parts.len() as u64, "part")
    });
    fact(html, "consistency", |h| h.text(facts::consistency(collection)));
    let texts = [
        ("aliases", meta.aliases.join(", ")),
        ("properties", about::settings(&meta.properties)),
        ("functions", about::functions(&meta.schema).join("; ")),
    ];
    for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        fact(html, name, |h| h.name(text));
    }
    fact(html, "shards on the source", |h| h.text(meta.shards));
    html.raw("</tbody></table>\n");
    fields(html, collection);
    indexes(html, collection);
    partitions(html, report, collection);
    key_ranges(html, collection);
    if let Some(command) = facts::duckdb(collection) {
        html.raw("<h3>Count its rows with DuckDB</h3>\n<p class=\"faint\">Prints ");
        html.text(HumanCount(collection.rows())).raw(" if all parts are there.</p>\n<pre>").whole(&command);
        html.raw("</pre>\n");
    }
    parts(html, &collection.parts);
    html.raw("</section>\n");
}

fn fields(html: &mut Html, collection: &CollectionResult) {
    html.raw("<h3>Schema</h3>\n<div class=\"scroll\"><table class=\"wide\"><thead><tr><th scope=\"col\">field</th><th scope=\"col\">type</th><th scope=\"col\">notes</th>");
    let fields = about::fields(collection);
    // Most schemas have no descriptions.
    let described = fields.iter().any(|field| !field.description.is_empty());
    html.raw(if described { "<th scope=\"col\">description</th>" } else { "" });
    html.raw("</tr></thead><tbody>\n");
    for field in fields {
        html.raw(if field.inner { "<tr><td class=\"sub\">" } else { "<tr><td>" }).name(&field.name);
        html.raw("</td><td>").name(&field.kind).raw("</td><td>").name(field.notes.join(", "));
        if described {
            html.raw("</td><td>").name(&field.description);
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn indexes(html: &mut Html, collection: &CollectionResult) {
    if collection.meta.indexes.is_empty() {
        return;
    }
    html.raw("<h3>Indexes on the source</h3>\n<div class=\"scroll\"><table class=\"wide\"><thead><tr><th scope=\"col\">field</th><th scope=\"col\">name</th><th scope=\"col\">type</th><th scope=\"col\">metric</th><th scope=\"col\">settings</th></tr></thead><tbody>\n");
    for index in &collection.meta.indexes {
        html.raw("<tr><td>").name(&index.field).raw("</td><td>").name(&index.name).raw("</td>");
        for cell in about::index(index) {
            html.raw("<td>").name(cell).raw("</td>");
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn partitions(html: &mut Html, report: &Report, collection: &CollectionResult) {
    if collection.meta.schema.has_partition_key() {
        html.raw("<h3>Partitions</h3>\n<p>The server spreads rows over ");
        count(html, collection.meta.partitions.len() as u64, "partition");
        html.raw(" by the partition key, so rows are not attributed to one.</p>\n");
        return;
    }
    let partitions = about::partitions(collection);
    if partitions.len() < 2 {
        return;
    }
    html.raw("<h3>Partitions</h3>\n");
    let bar = |p: &PartitionRow| Bar { label: p.name.clone(), link: None, rows: p.rows, bytes: p.bytes };
    let bars: Vec<_> = partitions.iter().map(bar).collect();
    pictures::bars(html, "How rows and bytes are spread over the partitions.", "partition", &bars);
    let compared = report.compared.as_ref().and_then(|c| c.of(&collection.meta.name));
    let Some(compared) = compared.filter(|compared| !compared.partitions.is_empty()) else { return };
    html.raw("<table><caption>Rows that snapshot and target have by partition</caption><thead><tr><th scope=\"col\">partition</th><th scope=\"col\" class=\"num\">snapshot</th><th scope=\"col\" class=\"num\">target</th></tr></thead><tbody>\n");
    for partition in partitions.iter().take(PARTITIONS) {
        html.raw("<tr><td>").name(&partition.name).raw("</td>");
        number(html, HumanCount(partition.rows));
        match compared.partitions.iter().find(|(name, _)| *name == partition.name) {
            Some((_, rows)) => number(html, HumanCount(*rows)),
            None => number(html, "–"),
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table>\n");
    more(html, partitions.len(), PARTITIONS, " more partitions.");
}

fn key_ranges(html: &mut Html, collection: &CollectionResult) {
    let [first, ..] = collection.parts.as_slice() else { return };
    html.raw("<h3>Keys</h3>\n");
    if collection.parts.len() == 1 {
        html.raw("<p>One part has all keys, from <code>").name(&first.first).raw("</code> to <code>");
        html.name(&first.last).raw("</code>.</p>\n");
        return;
    }
    // Parts stand in unit order, so those of a partition follow one another.
    let mut lanes: Vec<Lane> = Vec::new();
    for part in &collection.parts {
        let label = part.partition.as_deref().unwrap_or("all rows");
        match lanes.last_mut().filter(|lane| lane.label == label) {
            Some(lane) => lane.parts.push(part),
            None => lanes.push(Lane { label, parts: vec![part] }),
        }
    }
    pictures::key_ranges(html, &lanes);
}

fn parts(html: &mut Html, parts: &[Part]) {
    if parts.is_empty() {
        return;
    }
    html.raw("<details><summary>The ");
    count(html, parts.len() as u64, "part");
    html.raw(" and their SHA-256</summary>\n<div class=\"scroll\"><table class=\"wide\"><thead><tr><th scope=\"col\">part</th><th scope=\"col\" class=\"num\">rows</th><th scope=\"col\" class=\"num\">size</th><th scope=\"col\">first key</th><th scope=\"col\">last key</th></tr></thead><tbody>\n");
    for part in parts.iter().take(PARTS) {
        html.raw("<tr><td class=\"mono\">")
            .text(&part.key)
            .raw("<br><span class=\"faint\">")
            .text(part.sha256);
        html.raw("</span></td>");
        number(html, HumanCount(part.rows));
        number(html, HumanBytes(part.size));
        html.raw("<td class=\"mono\">").name(&part.first).raw("</td><td class=\"mono\">").name(&part.last);
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    more(
        html,
        parts.len(),
        PARTS,
        " more: SHA256SUMS has the digest of every part, and manifest.json its rows and keys.",
    );
    html.raw("</details>\n");
}

// ---- pieces ----

fn number(html: &mut Html, number: impl Display) {
    html.raw("<td class=\"num\">").text(number).raw("</td>");
}

/// `1 row`, `2 rows`.
fn count<'a>(html: &'a mut Html, n: u64, one: &'static str) -> &'a mut Html {
    html.text(HumanCount(n)).raw(" ").raw(one).raw(if n == 1 { "" } else { "s" })
}
