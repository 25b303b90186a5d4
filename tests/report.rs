//! The report: what it says, that nothing of a snapshot becomes markup, and that it needs nothing
//! from outside.

mod common;

use common::{HOSTILE, Recipe, make_snapshot, open};
use milvus_handoff::digest::Sha256;
use milvus_handoff::error::ErrorKind;
use milvus_handoff::opened::Trust;
use milvus_handoff::progress::Show;
use milvus_handoff::report::{Compared, Format, Reached, Report};
use milvus_handoff::signature;
use milvus_handoff::snapshot::Consistency;
use milvus_handoff::store::SnapshotUrl;
use milvus_handoff::verify::{self, Level};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The digest of the fixture.
const FIXTURE: &str = "69dd029fdda46f67a2d45724df0126fdcfaec393268d5374a0bbe18f5c03cba4";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

async fn report_on(at: &Path, trust: Trust, compared: Option<Compared>) -> Report {
    let verified = verify::run(open(at).await, Level::Full, &trust, 2, Show::Quiet).await.unwrap();
    let url = SnapshotUrl::parse("s3://handoff/acme/it's").unwrap();
    let reached = Reached { endpoint: Some("https://s3.example.com".into()), ..Reached::default() };
    Report { url, reached, verified, trust, compared, made: "2026-11-25T12:00:00Z".into() }
}

/// What `compare --json` prints of the fixture, with a difference of every kind.
fn comparison(digest: &str, noise: &str) -> Value {
    let name = |database: &str, name: &str| json!({"database": database, "name": format!("{name}{noise}")});
    let totals = |schema, count, missing, extra, changed| json!({"schema": schema, "count": count, "missing_rows": missing, "extra_rows": extra, "changed_fields": changed, "changed_rows": changed});
    let partitions = json!([
        {"name": "_default", "snapshot_rows": 5, "server_rows": 5},
        {"name": format!("archive{noise}"), "snapshot_rows": 2, "server_rows": 1},
    ]);
    json!({
        "version": 1,
        "command": "compare",
        "status": "failed",
        "snapshot": {"url": "s3://handoff/acme/x", "id": "x", "commit_sha256": format!("sha256:{digest}")},
        "target": {"version": format!("milvus v2.6.0{noise}")},
        "level": "full",
        "collections": [
            {"source": {"database": "default", "name": "docs"}, "target": name("default", "docs_v2"), "snapshot_rows": 7,
             "server_rows": 6, "partitions": partitions, "rows_compared": 5, "fields_not_compared": [],
             "findings": totals(1, 1, 1, 0, 1)},
            {"source": {"database": "library", "name": "pages"}, "target": name("library", "pages"), "snapshot_rows": 4,
             "server_rows": 4, "partitions": [], "rows_compared": 4, "fields_not_compared": [],
             "findings": totals(0, 0, 0, 0, 0)},
        ],
        "differences": 4,
        "findings": [
            {"kind": "schema", "collection": name("default", "docs_v2"), "subject": format!("field \"title{noise}\""), "snapshot": "VarChar(200)", "server": "VarChar(100)"},
            {"kind": "count", "collection": name("default", "docs_v2"), "partition": null, "snapshot": 7, "server": 6},
            {"kind": "missing-row", "collection": name("default", "docs_v2"), "partition": "archive", "key": -2},
            {"kind": "changed-field", "collection": name("default", "docs_v2"), "partition": "_default", "key": format!("{noise}k"),
             "field": "title", "snapshot": format!("\"a{noise}\""), "server": "\"b\""},
        ],
        "warnings": [format!("something to be known{noise}")],
        "seconds": 1.5,
    })
}

fn parsed(comparison: &Value) -> Compared {
    Compared::parse(comparison.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn it_says_what_is_known() {
    let trust = Trust { expect: Some(Sha256::parse(FIXTURE).unwrap()), keys: Vec::new() };
    let alone = report_on(&fixture(), Trust::default(), None).await;
    let compared = report_on(&fixture(), trust, Some(parsed(&comparison(FIXTURE, "")))).await;
    assert!(alone.is_good() && !compared.is_good());
    insta::with_settings!({filters => vec![
        (r"(?s)<style>.*</style>", "<style>[STYLE]</style>"),
        (r"style-src 'sha256-[^']*'", "style-src '[STYLE]'"),
        (r"milvus-handoff \d+\.\d+\.\d+", "milvus-handoff [VERSION]"),
    ]}, {
        insta::assert_snapshot!("html", alone.text(Format::Html));
        insta::assert_snapshot!("html-compared", compared.text(Format::Html));
        insta::assert_snapshot!("md", alone.text(Format::Md));
        insta::assert_snapshot!("md-compared", compared.text(Format::Md));
        insta::assert_snapshot!("json", serde_json::to_string_pretty(&compared.document()).unwrap());
    });
    assert_eq!(serde_json::from_str::<Value>(&alone.text(Format::Json)).unwrap(), alone.document());
}

fn verdict(report: &Report, about: &str) -> Value {
    let document = report.document();
    document["verdicts"].as_array().unwrap().iter().find(|v| v["about"] == about).unwrap().clone()
}

fn commands(report: &Report) -> Vec<String> {
    let document = report.document();
    let commands = |check: &Value| check["commands"].as_array().unwrap().clone();
    let all = document["checks"].as_array().unwrap().iter().flat_map(commands);
    all.map(|command| command.as_str().unwrap().to_string()).collect()
}

/// A page without the place that it speaks of would send its readers to another one.
#[tokio::test]
async fn it_says_where_the_bucket_is_and_how_to_get_at_it() {
    let mut report = report_on(&fixture(), Trust::default(), None).await;
    report.reached.owner = Some("111111111111".into());
    report.reached.requester_pays = true;
    for format in [Format::Html, Format::Md] {
        let text = report.text(format);
        let row = text.lines().find(|line| line.contains("S3 endpoint")).unwrap();
        assert!(row.contains("https://s3.example.com"), "{row}");
    }
    let said = commands(&report);
    let place = r"'s3://handoff/acme/it'\''s'";
    assert_eq!(
        said[0],
        "aws s3api head-bucket --bucket handoff --expected-bucket-owner 111111111111 --endpoint-url https://s3.example.com"
    );
    assert_eq!(
        said[1],
        format!(
            "aws s3 sync {place} snapshot --request-payer requester --endpoint-url https://s3.example.com"
        )
    );
    let last = said.last().unwrap();
    assert!(
        last.starts_with(&format!(
            "AWS_ENDPOINT_URL_S3=https://s3.example.com milvus-handoff verify {place} --level full"
        )),
        "{last}"
    );
    assert!(last.ends_with(" --expected-bucket-owner 111111111111 --requester-pays"), "{last}");

    // AWS's own, without any of it.
    report.reached = Reached::default();
    let said = commands(&report);
    assert_eq!(said[0], format!("aws s3 sync {place} snapshot"));
    assert!(said.last().unwrap().starts_with("milvus-handoff verify "));
    assert!(report.text(Format::Html).contains("none named: AWS itself"));
    assert_eq!(report.document()["bucket"]["endpoint"], Value::Null);
}

#[tokio::test]
async fn keys_of_signers_are_not_taken_from_the_page() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    make_snapshot(&root, &common::FIRST).await;
    let store = open(&root).await;
    let key = || signature::SigningKey::open(&signature::generate(None).unwrap().0).unwrap();
    let [a, b] = [key(), key()];
    for key in [&a, &b] {
        milvus_handoff::sign::run(store.as_ref(), &Trust::default(), key).await.unwrap();
    }
    let public = a.public().unwrap();
    let trusting = report_on(&root, Trust { expect: None, keys: vec![public.clone()] }, None).await;
    for format in [Format::Html, Format::Md, Format::Json] {
        let text = trusting.text(format);
        assert!(!text.contains(&public.to_base64()) && text.contains("-p SIGNER.pub"), "{text}");
    }
    assert!(commands(&trusting).last().unwrap().ends_with(" --trusted-key SIGNER.pub"));
    let text = verdict(&trusting, "Signature")["text"].as_str().unwrap().to_string();
    assert!(text.contains("is named as a signer and was not given as trusted, so that signature"), "{text}");
    let text = verdict(&report_on(&root, Trust::default(), None).await, "Signature")["text"].to_string();
    assert!(
        text.contains("The keys ") && text.contains(" are named as signers and were not given"),
        "{text}"
    );
}

/// The commands of the check for what is missing or too many, run as they stand there.
#[tokio::test]
async fn files_too_many_are_seen_whatever_their_names() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    make_snapshot(&root, &common::FIRST).await;
    let report = report_on(&root, Trust::default(), None).await;
    let checks = report.document()["checks"].clone();
    let check =
        checks.as_array().unwrap().iter().find(|c| c["title"].as_str().unwrap().contains("missing")).unwrap();
    // Both succeed when they print nothing.
    let passes = || {
        check["commands"].as_array().unwrap().iter().all(|command| {
            let done = Command::new("sh")
                .args(["-c", command.as_str().unwrap()])
                .current_dir(&root)
                .output()
                .unwrap();
            assert_eq!(done.status.success(), done.stdout.is_empty(), "{command}: {}", stdout(&done));
            done.status.success()
        })
    };
    assert!(passes());
    let signature = "signatures/0123456789ABCDEF.minisig";
    std::fs::create_dir_all(root.join("signatures")).unwrap();
    for (name, seen) in [
        ("surplus", true),
        (signature, false),
        ("SHA256SUMS\nCOMMIT.json", true),
        ("\n", true),
        ("signatures/A\nCOMMIT.json.minisig", true),
    ] {
        std::fs::write(root.join(name), "x").unwrap();
        assert_eq!(passes(), !seen, "{name:?}");
        std::fs::remove_file(root.join(name)).unwrap();
    }
    // The page on the format has the same two.
    let format =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    for command in check["commands"].as_array().unwrap() {
        let line = format!("\n$ {}\n", command.as_str().unwrap().trim_start_matches("! "));
        assert!(format.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn what_lacks_a_part_is_not_complete() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    let made = make_snapshot(&root, &common::FIRST).await;
    let part = made.manifest.parts().next().unwrap();
    let lacking =
        made.manifest.collections.iter().find(|c| c.parts.iter().any(|p| p.key == part.key)).unwrap();
    let name = lacking.meta.name.to_string();
    let looked = async || {
        let mut report = report_on(&root, Trust::default(), None).await;
        for collection in &mut report.verified.opened.manifest.collections {
            collection.consistency = Consistency::Checked;
        }
        report
    };
    assert_eq!(verdict(&looked().await, "Completeness")["word"], "complete");
    std::fs::remove_file(root.join(&part.key)).unwrap();
    let report = looked().await;
    let said = verdict(&report, "Completeness");
    assert_eq!((&said["word"], &said["mark"]), (&json!("not complete"), &json!("bad")), "{said}");
    let text = said["text"].as_str().unwrap();
    assert!(
        text.contains("the manifest lists") && text.contains(&format!("missing or damaged: {name} (1 part)")),
        "{text}"
    );
    let objects = verdict(&report, "Objects")["text"].as_str().unwrap().to_string();
    let (looked, all) = (report.verified.objects, report.verified.committed.0);
    assert!(looked == all - 1 && objects.starts_with(&format!("{looked} of {all} objects, ")), "{objects}");
    let page = report.text(Format::Md);
    let row = |name: &str| page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
    assert!(row(&name).contains("✗ parts missing or damaged"), "{}", row(&name));
    for other in made.manifest.collections.iter().filter(|c| c.meta.name != lacking.meta.name) {
        assert!(!row(&other.meta.name.to_string()).contains("✗"), "{page}");
    }
    assert!(report.text(Format::Html).contains("✗ parts missing or damaged"));
}

/// The policy names the style sheet by its digest, so a browser that holds to it shows it.
#[tokio::test]
async fn the_policy_allows_this_style_and_nothing_else() {
    let page = report_on(&fixture(), Trust::default(), None).await.text(Format::Html);
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let digest = Sha256::of(style.as_bytes()).to_base64();
    let policy = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">"
    );
    assert_eq!(page.matches("Content-Security-Policy").count(), 1);
    let before = page.split_once(&policy).unwrap().0;
    assert!(!before.contains("<style") && !before.contains("<link"), "the policy comes first");
    for outside in ["url(", "@import", "http:", "https:", "src=", "@font-face", "expression("] {
        assert!(!style.contains(outside), "{outside}");
    }
}

// ---- hostile snapshots ----

/// Elements and attributes that the page is made of. Nothing here loads, runs or submits.
const ELEMENTS: &str = "html head meta title style body header main footer section h1 h2 h3 p div span a ul li table caption \
     thead tbody tr th td code pre br bdi figure figcaption details summary svg rect path";
const ATTRIBUTES: &str = "lang charset http-equiv content name class id href scope colspan viewBox preserveAspectRatio \
     aria-hidden role height width x fill stroke stroke-width stroke-linecap stroke-linejoin d";

/// Walks over the page as a browser would, and complains about everything that it is not made of.
fn check_page(page: &str) {
    let elements: BTreeSet<_> = ELEMENTS.split_whitespace().collect();
    let attributes: BTreeSet<_> = ATTRIBUTES.split_whitespace().collect();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some((text, tail)) = rest.split_once('<') {
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a stray > in {text:?}");
        // No value in the page has a `>`: it is escaped.
        let (tag, after) = tail.split_once('>').unwrap();
        rest = after;
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "near {}", &after[..after.len().min(80)]);
            continue;
        }
        let empty = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, mut given) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(elements.contains(name), "<{tag}>");
        while !given.trim().is_empty() {
            let (attribute, value) = given.trim_start().split_once("=\"").unwrap();
            let (value, more) = value.split_once('"').unwrap();
            assert!(attributes.contains(attribute), "{attribute} in <{tag}>");
            let link = value.strip_prefix("#c").is_some_and(|n| n.parse::<usize>().is_ok());
            assert!(attribute != "href" || link, "a link to {value}");
            assert!(attribute != "id" || value.starts_with('c'), "{value}");
            given = more;
        }
        if !empty && !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, [] as [&str; 0]);
}

fn check_visible(text: &str, what: &str) {
    for c in text.chars() {
        let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        assert!(c == '\n' || !(c.is_control() || invisible), "{what}: {c:?}");
    }
}

/// What of a line of Markdown is neither escaped nor in a code span: a span goes to the next run of
/// as many backticks.
fn outside_of_code(line: &str) -> String {
    let run = |text: &str| text.len() - text.trim_start_matches('`').len();
    let mut outside = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        match c {
            '\\' => rest = rest[1..].strip_prefix(|_: char| true).unwrap_or_default(),
            '`' => {
                let fence = run(rest);
                rest = &rest[fence..];
                while run(rest) != fence {
                    let passed = run(rest).max(rest.chars().next().map_or(1, char::len_utf8));
                    rest = rest.get(passed..).unwrap_or_else(|| panic!("a span without an end: {line}"));
                }
                rest = &rest[fence..];
            }
            c => {
                outside.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    outside
}

const MARKUP: Recipe = Recipe {
    noise: "</title></style></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x`|[a](javascript:x)<!--\u{202e}\u{0}\n# x",
    name_noise: "</bdi><script>alert(1)</script><img src=\"x\" onerror='x'>&lt;`|*\u{202e}\u{200b}",
    ..HOSTILE
};

#[tokio::test]
async fn hostile_names_are_shown_and_do_nothing() {
    let above = tempfile::tempdir().unwrap();
    for (recipe, at) in [(&MARKUP, "markup"), (&HOSTILE, "terminal")] {
        let root = above.path().join(at);
        let made = make_snapshot(&root, recipe).await;
        let comparison = comparison(&made.digest.to_string(), recipe.noise);
        let mut report = report_on(&root, Trust::default(), Some(parsed(&comparison))).await;
        report.verified.problems =
            vec![verify::Problem { key: recipe.noise.into(), problem: recipe.name_noise.into() }];
        report.verified.notes = vec![recipe.noise.into()];
        let page = report.text(Format::Html);
        check_page(&page);
        check_visible(&page, "html");
        // It is all there nevertheless.
        assert!(page.contains("<span class=\"odd\">\\u{202e}</span>"));
        assert!(at != "markup" || page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));

        let text = report.text(Format::Md);
        check_visible(&text, "md");
        let mut commands = false;
        for line in text.lines() {
            commands ^= line.starts_with("```");
            if commands || line == "```" {
                continue;
            }
            let outside = outside_of_code(line);
            for mark in ["<script", "<img", "](", "<!--", "</"] {
                assert!(!outside.contains(mark), "{mark} in {outside}");
            }
            assert!(!line.starts_with("# x"), "{line}");
        }
        assert_eq!(
            report.document()["collections"][0]["schema"]["fields"][1]["name"],
            format!("title{}", recipe.noise)
        );
    }
}

#[tokio::test]
async fn texts_without_end_do_not_fill_the_page() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    let recipe = Recipe { noise: Box::leak("long ".repeat(100_000).into_boxed_str()), ..HOSTILE };
    make_snapshot(&root, &recipe).await;
    let report = report_on(&root, Trust::default(), None).await;
    assert!(report.text(Format::Html).len() < 200_000, "{}", report.text(Format::Html).len());
    assert!(report.text(Format::Md).len() < 100_000);
}

// ---- the command ----

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    command.args(args).env("NO_COLOR", "1").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn the_form_follows_the_file_and_stdout_is_for_the_report() {
    let above = tempfile::tempdir().unwrap();
    let url = format!("file://{}", fixture().display());
    for (file, starts) in
        [("a.html", "<!DOCTYPE html>"), ("a.md", "# Snapshot"), ("a.JSON", "{\""), ("plain", "<!DOCTYPE")]
    {
        let file = above.path().join(file);
        let done = run(&["report", &url, "-o", file.to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert!(
            stdout(&done).ends_with(")\n") && stdout(&done).contains("Successful: wrote "),
            "{}",
            stdout(&done)
        );
        assert!(std::fs::read_to_string(&file).unwrap().starts_with(starts));
    }
    for (args, starts) in [
        (&["--format", "html"][..], "<!DOCTYPE html>"),
        (&["-o", "-"], "<!DOCTYPE html>"),
        (&["--format", "md"], "# Snapshot"),
        (&["--format", "json", "-o", "-"], "{"),
        (&["--json"], "{"),
        (&["--json", "-o", "-"], "{"),
    ] {
        let done = run(&[&["report", &url], args].concat());
        assert_eq!((done.status.code(), stderr(&done).as_str()), (Some(0), ""));
        assert!(stdout(&done).starts_with(starts), "{args:?}: {}", stdout(&done));
        if starts == "{" {
            let document: Value = serde_json::from_str(&stdout(&done)).unwrap();
            assert_eq!((&document["command"], &document["status"]), (&json!("report"), &json!("successful")));
        }
    }
    // With --json the document goes to stdout and the report into its file.
    let file = above.path().join("both.html");
    let done = run(&["report", &url, "-o", file.to_str().unwrap(), "--json"]);
    let document: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(document["file"], file.to_str().unwrap());
    assert_eq!(document["format"], "html");
    let done = run(&["report", &url, "--json", "--format", "md"]);
    assert_eq!(done.status.code(), Some(2));
    let done = run(&["report", &url, "-o", above.path().join("no/folder.html").to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    // A name that promises another form gets none, unless the form is said.
    let file = above.path().join("audit.pdf");
    let done = run(&["report", &url, "-o", file.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(stderr(&done).contains("end in .pdf") && stderr(&done).contains("--format"), "{}", stderr(&done));
    assert!(!file.exists());
    let done = run(&["report", &url, "-o", file.to_str().unwrap(), "--format", "md"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# Snapshot"));
    if cfg!(target_os = "linux") {
        let done = run(&["report", &url, "-o", "/dev/full"]);
        assert_eq!(done.status.code(), Some(75));
        assert!(stderr(&done).starts_with("error[MH-DISK]: cannot write the report"), "{}", stderr(&done));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_by_the_page_and_by_the_exit_code() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    let made = make_snapshot(&root, &common::FIRST).await;
    let url = format!("file://{}", root.display());
    let part = root.join(&made.manifest.parts().next().unwrap().key);
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    let file = above.path().join("a.html");
    let at = |level: &str| run(&["report", &url, "-o", file.to_str().unwrap(), "--level", level]);
    // Only who reads the part can see it, and the report says what was looked at.
    let done = at("list");
    assert_eq!(done.status.code(), Some(0));
    assert!(stdout(&done).contains("contents were not read"), "{}", stdout(&done));
    let done = at("full");
    assert_eq!(done.status.code(), Some(6));
    assert!(
        stdout(&done).contains("Failed: something is wrong") && stdout(&done).ends_with(" [MH-INTEGRITY]\n"),
        "{}",
        stdout(&done)
    );
    assert!(std::fs::read_to_string(&file).unwrap().contains("<h2>What is wrong</h2>"));
    std::fs::write(&part, "short").unwrap();
    assert_eq!(at("list").status.code(), Some(6));
    let wrong = format!("sha256:{FIXTURE}");
    assert_eq!(run(&["report", &url, "-o", "-", "--expect", &wrong]).status.code(), Some(6));
}

#[tokio::test]
async fn a_comparison_is_one_of_this_very_snapshot() {
    let above = tempfile::tempdir().unwrap();
    let url = format!("file://{}", fixture().display());
    let file = above.path().join("result.json");
    let with = |content: &str| {
        std::fs::write(&file, content).unwrap();
        run(&["report", &url, "--format", "json", "--compare", file.to_str().unwrap()])
    };
    let good = comparison(FIXTURE, "");
    let done = with(&good.to_string());
    // The target differs.
    assert_eq!(done.status.code(), Some(6), "{}", stderr(&done));
    let document: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!((&document["target"]["differences"], &document["code"]), (&json!(4), &json!("MH-DIFFERENT")));
    let mut other = good.clone();
    other["snapshot"]["commit_sha256"] =
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into();
    let mut newer = good.clone();
    newer["version"] = 2.into();
    let mut another = good.clone();
    another["command"] = "verify".into();
    let failed =
        json!({"version": 1, "command": "compare", "status": "failed", "error": {"message": "nobody there"}});
    for (content, said) in [
        (other.to_string(), "the comparison is of the snapshot"),
        (newer.to_string(), "version 2"),
        (another.to_string(), "\"verify\""),
        (failed.to_string(), "nobody there"),
        ("{}".into(), "not the result of a comparison"),
        (String::new(), "not the result of a comparison"),
    ] {
        let done = with(&content);
        assert_eq!(done.status.code(), Some(2), "{content}");
        assert!(stderr(&done).contains(said) && stderr(&done).contains("hint: "), "{}", stderr(&done));
    }
    assert_eq!(Compared::parse(b"[]").unwrap_err().kind(), ErrorKind::Usage);
}
