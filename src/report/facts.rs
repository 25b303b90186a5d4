//! What a report says, whatever its form: verdicts, commands to check with, notes on fields. Pure.

use super::Report;
use super::compared::ComparedCollection;
use crate::output::{self, one_line, plural};
use crate::signature::State;
use crate::snapshot::{CollectionResult, Consistency, keys};
use crate::store::SnapshotUrl;
use crate::verify::Level;
use indicatif::{HumanBytes, HumanCount};
use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Looked at, and right.
    Good,
    /// Looked at, and wrong.
    Bad,
    /// Not looked at, or not known.
    Open,
}

/// One question that a report answers.
pub(super) struct Verdict {
    /// What it is about.
    pub title: &'static str,
    pub mark: Mark,
    /// The answer in a word or two.
    pub word: &'static str,
    /// The answer in full.
    pub text: String,
}

/// The answers, in the order in which one asks.
pub(super) fn verdicts(report: &Report) -> Vec<Verdict> {
    vec![digest(report), signature(report), objects(report), completeness(report), target(report)]
}

fn digest(report: &Report) -> Verdict {
    let (mark, word, text) = match report.trust.expect {
        // Another digest would have been refused.
        Some(_) => (Mark::Good, "as expected", "COMMIT.json has the SHA-256 that was expected.".to_string()),
        None => (
            Mark::Open,
            "not compared",
            "No expected digest was given. Compare that of COMMIT.json with the one that the exporter sent by another channel."
                .to_string(),
        ),
    };
    Verdict { title: "Digest", mark, word, text }
}

fn signature(report: &Report) -> Verdict {
    let found = &report.verified.signatures;
    let ids = |wanted: fn(&State) -> bool| -> Vec<String> {
        let of = found.iter().filter(|f| wanted(&f.state));
        of.map(|f| f.key_id.map_or(f.object.clone(), |id| id.to_string())).collect()
    };
    let valid = ids(|state| matches!(state, State::Valid(_)));
    let invalid = ids(|state| matches!(state, State::Invalid(_)));
    let unchecked = ids(|state| matches!(state, State::Unchecked));
    let mut text = Vec::new();
    if !valid.is_empty() {
        text.push(format!("Signed by the trusted {}.", named("key", &valid)));
    }
    if !invalid.is_empty() {
        text.push(format!("Not valid: {}.", invalid.join(", ")));
    }
    if !unchecked.is_empty() {
        let rest = match unchecked.len() {
            1 => "is named as a signer and was not given as trusted, so that signature was not checked",
            _ => "are named as signers and were not given as trusted, so those signatures were not checked",
        };
        text.push(format!("The {} {rest}.", named("key", &unchecked)));
    }
    let (mark, word) = match (valid.is_empty(), invalid.is_empty(), unchecked.is_empty()) {
        (_, false, _) => (Mark::Bad, "not valid"),
        (false, true, _) => (Mark::Good, "valid"),
        (true, true, false) => (Mark::Open, "not checked"),
        (true, true, true) if !report.verified.listed => {
            text.push("The bucket did not let its objects be listed, so nobody looked whether the snapshot is signed.".into());
            (Mark::Open, "not known")
        }
        (true, true, true) => {
            text.push("Nobody has signed the snapshot.".to_string());
            (Mark::Open, "not signed")
        }
    };
    if !report.verified.listed && !found.is_empty() {
        text.push("The bucket did not let its objects be listed: there may be other signatures.".into());
    }
    Verdict { title: "Signature", mark, word, text: text.join(" ") }
}

/// `key A`, or `keys A, B`.
fn named(what: &str, names: &[String]) -> String {
    format!("{what}{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn objects(report: &Report) -> Verdict {
    let verified = &report.verified;
    let objects = output::looked_at(verified);
    let mut looked = match verified.level {
        Level::List => "Names and sizes were compared, and contents were not read.".to_string(),
        Level::Head if verified.size_only == 0 => "The bucket's own checksums were compared.".to_string(),
        Level::Head => format!(
            "The bucket's own checksums were compared; of {} it returns none, and only the size was compared.",
            plural(verified.size_only, "object")
        ),
        Level::Full => "Every byte was read and hashed.".to_string(),
    };
    if !verified.listed {
        looked.push_str(
            " The bucket did not let its objects be listed: surplus objects could not be looked for.",
        );
    }
    let (mark, word, text) = match verified.problems.len() as u64 {
        0 => (Mark::Good, "as committed", format!("{objects}: as committed. {looked}")),
        some => (Mark::Bad, "damaged", format!("{objects}: {}. {looked}", plural(some, "problem"))),
    };
    Verdict { title: "Objects", mark, word, text }
}

fn completeness(report: &Report) -> Verdict {
    let manifest = &report.verified.opened.manifest;
    let unchecked: Vec<_> =
        manifest.collections.iter().filter(|c| c.consistency == Consistency::Unchecked).collect();
    let shared: u64 = manifest.collections.iter().map(|c| c.counts.shared_keys).sum();
    let mut text = match unchecked.as_slice() {
        [] => {
            let mut text = format!(
                "The source counted {}, and the manifest lists {}.",
                plural(source_rows(report), "row"),
                plural(report.verified.opened.commit.totals.rows, "row")
            );
            if shared > 0 {
                text.push_str(&format!(
                    " Of several rows with one key it hands out the newest: {} more.",
                    plural(shared, "row")
                ));
            }
            text
        }
        some => {
            let names: Vec<_> = some.iter().map(|c| c.meta.name.to_string()).collect();
            format!(
                "Writes were allowed during the export, so counts may differ and rows may belong to different moments: {}.",
                names.join(", ")
            )
        }
    };
    let pinned =
        manifest.collections.iter().filter(|c| matches!(c.consistency, Consistency::Pinned(_))).count();
    if pinned == manifest.collections.len() && pinned > 0 {
        text.push_str(" Every page of a collection was read at one moment.");
    }
    let lacking = lacking(report);
    let (mark, word) = match (lacking.as_slice(), unchecked.is_empty()) {
        ([], true) => (Mark::Good, "complete"),
        ([], false) => (Mark::Open, "unchecked"),
        (some, _) => {
            text.push_str(&format!(" Parts are missing or damaged: {}.", some.join(", ")));
            (Mark::Bad, "not complete")
        }
    };
    Verdict { title: "Completeness", mark, word, text }
}

/// The collections of which parts are not as committed, as far as was looked, with the number of parts.
fn lacking(report: &Report) -> Vec<String> {
    let wrong = wrong_objects(report);
    let of = |collection: &CollectionResult| {
        let parts = collection.parts.iter().filter(|part| wrong.contains(part.key.as_str())).count() as u64;
        (parts > 0).then(|| format!("{} ({})", collection.meta.name, plural(parts, "part")))
    };
    report.verified.opened.manifest.collections.iter().filter_map(of).collect()
}

/// The objects that are not as committed, as far as was looked.
pub(super) fn wrong_objects(report: &Report) -> HashSet<&str> {
    report.verified.problems.iter().map(|problem| problem.key.as_str()).collect()
}

pub(super) fn target(report: &Report) -> Verdict {
    let Some(compared) = &report.compared else {
        let text = "No result of a comparison with the target was given.".to_string();
        return Verdict { title: "Target", mark: Mark::Open, word: "not compared", text };
    };
    let rows: u64 = compared.collections.iter().map(|c| c.rows_compared).fold(0, u64::saturating_add);
    let all = report.verified.opened.manifest.collections.len() as u64;
    let of = compared.collections.len() as u64;
    let found = match compared.differences {
        0 => "no difference".to_string(),
        some => plural(some, "difference"),
    };
    let which = match of == all {
        true => plural(all, "collection"),
        false => format!("{} of {}", HumanCount(of), plural(all, "collection")),
    };
    let looked = match compared.level.as_str() {
        "count" => "schemas and counts, and no rows".to_string(),
        "full" => format!("schemas, counts and every field of {}", plural(rows, "row")),
        _ => format!("schemas, counts and every field of {}", plural(rows, "sampled row")),
    };
    let mut text = format!("{}: {found}. Compared were {which}: {looked}.", compared.target);
    text.push_str(" This is what the file given with --compare says.");
    let (mark, word) = match (compared.differences, of == all) {
        (0, true) => (Mark::Good, "no difference"),
        (0, false) => (Mark::Open, "in part"),
        _ => (Mark::Bad, "differs"),
    };
    Verdict { title: "Target", mark, word, text }
}

/// Whether all sides have the same rows of a collection. `wrong`: the objects that are not as committed.
pub(super) fn counted(
    collection: &CollectionResult,
    wrong: &HashSet<&str>,
    compared: Option<&ComparedCollection>,
) -> (Mark, &'static str) {
    match compared {
        _ if collection.parts.iter().any(|part| wrong.contains(part.key.as_str())) => {
            (Mark::Bad, "parts missing or damaged")
        }
        Some(compared) if compared.differences > 0 => (Mark::Bad, "differs"),
        Some(_) => (Mark::Good, "no difference"),
        // The manifest would have been refused if its own counts contradicted each other.
        None if collection.consistency == Consistency::Unchecked => (Mark::Open, "unchecked"),
        None => (Mark::Good, "complete"),
    }
}

/// Rows that the source counted.
pub(super) fn source_rows(report: &Report) -> u64 {
    let collections = &report.verified.opened.manifest.collections;
    collections.iter().map(|c| c.counts.server).fold(0, u64::saturating_add)
}

/// Rows that the target counted.
pub(super) fn target_rows(report: &Report) -> Option<u64> {
    let compared = report.compared.as_ref()?;
    Some(compared.collections.iter().map(|c| c.rows).fold(0, u64::saturating_add))
}

/// The few lines that the command prints when the report went to a file.
pub(super) fn summary(report: &Report, file: &str, size: u64) -> String {
    let mut text = String::new();
    for verdict in verdicts(report) {
        let line = format!("{:12}  {:13}  {}", verdict.title, verdict.word, verdict.text);
        text.push_str(&one_line(&line));
        text.push('\n');
    }
    let (file, size) = (one_line(file), HumanBytes(size));
    text.push_str(&match report.code() {
        None => format!("Successful: wrote {file} ({size})\n"),
        Some(code) => {
            let code = code.text();
            format!("Failed: something is wrong, and the report says what; wrote {file} ({size}) [{code}]\n")
        }
    });
    text
}

/// How somebody can check a thing without believing this page.
pub(super) struct Check {
    pub title: String,
    /// What it shows, and how to read what it prints.
    pub about: String,
    pub commands: Vec<String>,
}

/// The ways to check, from the digest outwards.
pub(super) fn checks(report: &Report) -> Vec<Check> {
    let opened = &report.verified.opened;
    let fetch = match &report.url {
        SnapshotUrl::S3 { bucket, .. } => Check {
            title: "Get the snapshot".into(),
            about: "Into a folder of your own. The other commands are run in it.".into(),
            commands: get(report, bucket),
        },
        SnapshotUrl::File { path } => Check {
            title: "Go to the snapshot".into(),
            about: "The other commands are run in its folder.".into(),
            commands: vec![format!("cd {}", shell(&path.to_string_lossy()))],
        },
    };
    let mut checks = vec![
        fetch,
        Check {
            title: "COMMIT.json is the one that was announced".into(),
            about: "Take the digest that the exporter sent you by another channel. This page says that it is the one below."
                .into(),
            commands: vec![sum(&opened.digest.to_string(), keys::COMMIT)],
        },
        Check {
            title: "The rest is what COMMIT.json leads to".into(),
            about: "The digest of SHA256SUMS stands in COMMIT.json; SHA256SUMS has those of manifest.json and of every part."
                .into(),
            commands: vec![
                sum(&opened.commit.sums.sha256.to_string(), keys::SUMS),
                format!("sha256sum --quiet -c {}", keys::SUMS),
            ],
        },
        Check {
            title: "The plan and the receipts are as well".into(),
            about: "PLAN.json and units/ say how the export went; nobody needs them to read the rows. Their digests stand in manifest.json."
                .into(),
            commands: vec![BOOKKEEPING.to_string()],
        },
        Check {
            title: "Nothing is missing, and nothing else is there".into(),
            about: "Both must print nothing. The second prints every file that is one or the other; the first those whose names have a line break or another control character, which the second cannot tell apart. Signatures are left out: anybody may add one."
                .into(),
            commands: vec![ODD_NAMES.to_string(), surplus()],
        },
    ];
    let signers: Vec<String> = report
        .verified
        .signatures
        .iter()
        .filter_map(|found| {
            found.key_id?;
            let at = match found.object == keys::SIGNATURE {
                true => String::new(),
                false => format!(" -x {}", shell(&found.object)),
            };
            Some(format!("minisign -Vm {}{at} -p {SIGNER}", keys::COMMIT))
        })
        .collect();
    if !signers.is_empty() {
        checks.push(Check {
            title: "Who has signed COMMIT.json".into(),
            about: "With the stock minisign. SIGNER.pub stands for the file with the signer's public key: take it from the signer, not from the bucket and not from a page like this one, and keep it outside of the snapshot's folder."
                .into(),
            commands: signers,
        });
    }
    checks.push(Check {
        title: "All of it, with milvus-handoff".into(),
        about: "Reads and hashes every byte, and ends with Successful or with a list of what is wrong."
            .into(),
        commands: vec![verify_command(report)],
    });
    checks
}

/// Checks what the manifest lists as bookkeeping: its lines are as the manifest was proven to have them.
const BOOKKEEPING: &str = r#"sed -n '/^  "bookkeeping"/,/^  ]/{/"key"/{s/.*: "//;s/".*//;h};/"sha256"/{s/.*: "//;s/".*//;G;s/\n/  /p}}' manifest.json | sha256sum --quiet -c"#;

/// The file with a signer's public key. The key itself is not printed: whoever can change the page
/// could change it as well.
const SIGNER: &str = "SIGNER.pub";

/// Names that are more than one line, or that a terminal hides. Keys of a snapshot have none.
const ODD_NAMES: &str = "! LC_ALL=C find . -name '*[[:cntrl:]]*' | grep .";

/// How to get the snapshot out of its bucket. `aws s3` knows no expected owner, `aws s3api` does.
fn get(report: &Report, bucket: &str) -> Vec<String> {
    let reached = &report.reached;
    let at = reached.endpoint.as_ref().map(|at| format!(" --endpoint-url {}", shell(at))).unwrap_or_default();
    let pays = if reached.requester_pays { " --request-payer requester" } else { "" };
    let owner = reached.owner.as_ref().map(|owner| {
        let (bucket, owner) = (shell(bucket), shell(owner));
        format!("aws s3api head-bucket --bucket {bucket} --expected-bucket-owner {owner}{at}")
    });
    let sync = format!("aws s3 sync {} snapshot{pays}{at}", shell(&report.url.to_string()));
    owner.into_iter().chain([sync, "cd snapshot".into()]).collect()
}

/// The S3 server, in words; none where the snapshot is in a folder.
pub(super) fn server(report: &Report) -> Option<&str> {
    match &report.url {
        SnapshotUrl::S3 { .. } => {
            Some(report.reached.endpoint.as_deref().unwrap_or("none named: AWS itself"))
        }
        SnapshotUrl::File { .. } => None,
    }
}

/// What is there and what should be, each once: a line that stands alone is missing or too many.
fn surplus() -> String {
    let there = "find . ! -type d | cut -c3-";
    let parts = format!("cut -c67- {}", keys::SUMS);
    let rest = r#"sed -n '/^  "bookkeeping"/,/^  ]/s/.*"key": "\(.*\)".*/\1/p' manifest.json"#;
    let ends = format!("echo {}; echo {}", keys::COMMIT, keys::SUMS);
    let signatures = r"grep -v -e '^COMMIT.json.minisig$' -e '^signatures/[0-9A-F]*.minisig$'";
    format!("! ({there}; {parts}; {rest}; {ends}) | LC_ALL=C sort | uniq -u | {signatures}")
}

fn sum(digest: &str, file: &str) -> String {
    format!("echo '{digest}  {file}' | sha256sum -c")
}

fn verify_command(report: &Report) -> String {
    let reached = &report.reached;
    let at = reached.endpoint.as_ref().map(|at| format!("AWS_ENDPOINT_URL_S3={} ", shell(at)));
    let mut command = format!(
        "{}milvus-handoff verify {} --level full --expect sha256:{}",
        at.unwrap_or_default(),
        shell(&report.url.to_string()),
        report.verified.opened.digest
    );
    if let Some(owner) = &reached.owner {
        command.push_str(&format!(" --expected-bucket-owner {}", shell(owner)));
    }
    if reached.requester_pays {
        command.push_str(" --requester-pays");
    }
    if !report.trust.keys.is_empty() {
        command.push_str(&format!(" --trusted-key {SIGNER}"));
    }
    command
}

/// A command that counts the rows of a collection with DuckDB, which reads the parts as they are.
/// There is none for a collection without rows.
pub(super) fn duckdb(collection: &CollectionResult) -> Option<String> {
    // Keys hold letters, digits, `_`, `-`, `.` and `%` only: nothing that a shell, SQL or a glob reads.
    let folder: Vec<_> = collection.parts.first()?.key.split('/').take(3).collect();
    Some(format!("duckdb -c \"SELECT count(*) FROM read_parquet('{}/*/*.parquet')\"", folder.join("/")))
}

/// A word of a command line.
fn shell(word: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-./:%+=@,".contains(c);
    if !word.is_empty() && word.chars().all(bare) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// How firmly the rows of a collection belong to one moment, in words.
pub(super) fn consistency(collection: &CollectionResult) -> String {
    match collection.consistency {
        Consistency::Pinned(timestamp) => format!("pinned: all rows as of {}", moment(timestamp)),
        Consistency::Checked => "checked: the keys were read twice and did not differ".into(),
        Consistency::Unchecked => "unchecked: writes were allowed during the export".into(),
    }
}

/// The moment of a server timestamp, whose lower 18 bits count within a millisecond: the largest is
/// in the year 4199, so each has one.
fn moment(timestamp: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(timestamp >> 18)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_commands_are_words() {
        assert_eq!(shell("s3://bucket/a/b-1.x"), "s3://bucket/a/b-1.x");
        assert_eq!(shell("/a b/$(x)"), "'/a b/$(x)'");
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn server_timestamps_are_moments() {
        assert_eq!(moment(462_000_000_000_000_000), "2025-11-06T00:48:56.718Z");
        assert_eq!(moment(u64::MAX), "4199-11-24T01:22:57.663Z");
    }
}
