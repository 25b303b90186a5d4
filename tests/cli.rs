//! The command as people and programs meet it: what it prints, where, and how it ends.
//!
//! Texts are under snapshot tests, so that a change to what people read is seen. After a change
//! that is meant, `INSTA_UPDATE=always cargo test --test cli` writes them anew.

mod common;

use clap::CommandFactory;
use common::{FIRST, HOSTILE, Recipe, make_snapshot};
use milvus_handoff::cli::Cli;
use milvus_handoff::snapshot::keys;
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How a run ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The built binary, with nothing of the environment that could change what it says.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    command.env_clear().env("COLUMNS", "100").stdin(Stdio::null());
    // Where an import would keep its journal; none of these gets that far.
    command.env("XDG_STATE_HOME", std::env::temp_dir().join("milvus-handoff-none"));
    command
}

fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    let output = command().args(args).output().unwrap();
    Run {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Folders with snapshots in every state.
struct World {
    above: TempDir,
    digest: String,
}

impl World {
    async fn make() -> Self {
        let above = tempfile::tempdir().unwrap();
        let digest = make_snapshot(&above.path().join("good"), &FIRST).await.digest;
        let world = World { above, digest: format!("sha256:{digest}") };
        for copy in ["uncommitted", "damaged", "newer", "featured", "altered"] {
            copy_folder(&world.path("good"), &world.path(copy));
        }
        std::fs::remove_file(world.path("uncommitted").join(keys::COMMIT)).unwrap();
        std::fs::remove_file(world.path("damaged/units/u00002.json")).unwrap();
        std::fs::write(world.path("damaged").join("extra"), "x").unwrap();
        let edit = |snapshot: &str, key: &str, from: &str, to: &str| {
            let path = world.path(snapshot).join(key);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            std::fs::write(path, text.replace(from, to)).unwrap();
        };
        edit("newer", keys::COMMIT, "\"version\": 1", "\"version\": 2");
        edit("featured", keys::COMMIT, "\"features\": []", "\"features\": [\"folding\"]");
        edit("altered", keys::MANIFEST, "v2.3.5", "v2.3.6");
        std::fs::write(world.above.path().join("file"), "x").unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.above.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Text without what differs from run to run.
    fn settled(&self, text: &str) -> String {
        text.replace(&self.above.path().display().to_string(), "[DIR]")
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for (key, bytes) in common::read_folder(from) {
        let path = to.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

// ---- help ----

#[test]
fn every_command_explains_itself() {
    let help = run(["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("help", help.stdout);
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let help = run([name, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{name}");
        insta::assert_snapshot!(format!("help-{name}"), help.stdout);
        assert_eq!(run(["help", name]).stdout, help.stdout, "{name}");
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 112), "{name}: lines that wrap");
        assert!(help.stdout.contains("\nExamples:\n  "), "{name}: no example");
    }
}

#[test]
fn shells_complete_and_man_explains() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""), "{shell}");
        // The flags of every command: what a change of one does to all scripts is seen in two.
        if ["bash", "fish"].contains(&shell) {
            insta::assert_snapshot!(format!("completions-{shell}"), script.stdout);
        }
        assert!(script.stdout.contains("load-source"), "{shell}");
    }
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let page = run(["man", name]);
        assert_eq!((page.code, page.stderr.as_str()), (0, ""), "{name}");
        assert!(page.stdout.contains(".SH SYNOPSIS") && page.stdout.contains("Examples:"), "{name}");
    }
    insta::assert_snapshot!("man", run(["man"]).stdout);
    insta::assert_snapshot!("man-verify", run(["man", "verify"]).stdout);
    let document = the_document(&run(["completions", "bash", "--json", "-q"]).stdout);
    assert_eq!(document["text"], run(["completions", "bash"]).stdout);
}

/// A script that bash cannot read would break every new terminal.
#[test]
fn bash_reads_its_completions() {
    let script = run(["completions", "bash"]).stdout;
    let asked = format!(
        "{script}\nCOMP_WORDS=(milvus-handoff verify --le); COMP_CWORD=2\n\
         _milvus__handoff milvus-handoff --le verify; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let bash = Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&bash.stdout),
        "--level\n",
        "{}",
        String::from_utf8_lossy(&bash.stderr)
    );
}

#[test]
fn the_version_is_told() {
    let version = run(["--version"]);
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (0, concat!("milvus-handoff ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

// ---- what goes wrong ----

/// Command lines that fail, with their exit codes. `[...]` stands for a place in the world.
#[rustfmt::skip]
const FAILURES: &[(i32, &[&str])] = &[
    (2, &[]),
    (2, &["frobnicate"]),
    (2, &["verify"]),
    (2, &["verify", "[good]", "--frobnicate"]),
    (2, &["verify", "[good]", "--level", "half"]),
    (2, &["verify", "[good]", "--jobs", "0"]),
    (2, &["verify", "[good]", "-q", "-v"]),
    (2, &["verify", "[good]", "[good]"]),
    (2, &["verify", "[good]", "--level"]),
    (2, &["verify", "[good]", "--level", "lits"]),
    (2, &["verify", "[good]", "--level", "list", "--level", "full"]),
    (2, &["verify", "[good]", "--expcet=sha256:abc"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--source-token", "root:secret"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--token=root:secret"]),
    (2, &["-q"]),
    (2, &["doctor"]),
    (2, &["export"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--via", "bulk"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--stage-region", "x"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--shard", "0/2", "--plan"]),
    (2, &["verify", "[good]", "--expect", "sha256:abc"]),
    (2, &["verify", "/not/a/url"]),
    (2, &["verify", "ftp://bucket/x"]),
    (2, &["verify", "s3://bucket"]),
    (2, &["verify", "file://relative/x"]),
    (2, &["verify", "file:///a/../b"]),
    (2, &["verify", "[file]"]),
    (4, &["verify", "[missing]"]),
    (4, &["verify", "[missing/deeper]"]),
    (4, &["verify", "[uncommitted]"]),
    (4, &["inspect", "[uncommitted]"]),
    (4, &["import", "[uncommitted]", "--target", "[nobody]"]),
    (6, &["verify", "[altered]"]),
    (6, &["inspect", "[altered]"]),
    (6, &["import", "[altered]", "--target", "[nobody]"]),
    (6, &["verify", "[good]", "--expect", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]),
    (6, &["import", "[good]", "--target", "[nobody]", "--expect", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]),
    (2, &["diff", "[good]"]),
    (2, &["diff", "[good]", "not-a-url"]),
    (4, &["diff", "[good]", "[uncommitted]"]),
    (4, &["diff", "[good]", "[good]", "-c", "dosc"]),
    (6, &["diff", "[altered]", "[good]"]),
    (2, &["report", "[good]", "--compare", "/does/not/exist"]),
    (2, &["report", "[good]", "-o", "/does/not/exist.html"]),
    (2, &["report", "[good]", "-o", "/does/not/exist.pdf"]),
    (4, &["report", "[uncommitted]", "-o", "-"]),
    (6, &["report", "[altered]", "-o", "-"]),
    (7, &["verify", "[newer]"]),
    (7, &["inspect", "[featured]"]),
    (7, &["import", "[newer]", "--target", "[nobody]"]),
    (2, &["export", "[new]", "--source", "localhost:19530"]),
    (2, &["export", "[new]", "--source", "127.0.0.1:19530"]),
    (2, &["export", "[new]", "--source", "root:secret@localhost:19530"]),
    (2, &["export", "[new]", "--source", "http://root:secret@localhost:19530"]),
    (2, &["export", "[new]", "--source", "https://localhost:1", "--source-ca", "/does/not/exist"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--source-token-file", "/dev/null"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--target-token-file", "/dev/null"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--journal", "/does/not/exist/j"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--rename", "docs=x", "--rename", "docs=y"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--source-token-file", "/does/not/exist"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--part-size", "1KiB"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--source-cert", "/x.pem"]),
    (2, &["export", "[new]", "--source", "[nobody]", "-c", "a["]),
    (75, &["export", "[new]", "--source", "[nobody]"]),
    (75, &["export", "[new]", "--source", "[nobody]", "--plan"]),
    (2, &["import", "[good]", "--target", "[nobody]", "--rename", "docs"]),
    (4, &["import", "[good]", "--target", "[nobody]", "-c", "dosc"]),
    (4, &["import", "[good]", "--target", "[nobody]", "-c", "pages"]),
    (4, &["import", "[good]", "--target", "[nobody]", "--rename", "dosc=x"]),
    (2, &["export", "[new]", "--sourse", "[nobody]"]),
    (2, &["exprt", "[new]"]),
    (2, &["man", "exprt"]),
    (2, &["completions", "basch"]),
    (2, &["verify", "[good]", "--progress", "loud"]),
    (5, &["import", "[good]", "--target", "[nobody]", "--rename", "docs=x", "--rename", "library.pages=default.x"]),
    (75, &["import", "[good]", "--target", "[nobody]"]),
    (4, &["compare", "[missing]", "--target", "[nobody]"]),
    (6, &["compare", "[altered]", "--target", "[nobody]"]),
    (75, &["compare", "[good]", "--target", "[nobody]"]),
    (75, &["import", "[good]", "--target", "[nobody]", "--plan"]),
    (6, &["verify", "[good]", "--trusted-key", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]),
    (2, &["verify", "[good]", "--trusted-key", "/does/not/exist"]),
    (2, &["verify", "[good]", "--trusted-key", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh"]),
    (2, &["sign", "[good]", "--key", "/does/not/exist"]),
    (2, &["keygen", "/does/not/exist", "--no-password"]),
    (2, &["export", "[new]", "--source", "[nobody]", "--sign-key", "/does/not/exist"]),
];

fn in_world(world: &World, nobody: &str, args: &[&str]) -> Vec<String> {
    let place = |arg: &&str| match arg.strip_prefix('[').and_then(|arg| arg.strip_suffix(']')) {
        Some("nobody") => nobody.to_string(),
        Some(name) => world.url(name),
        None => arg.to_string(),
    };
    args.iter().map(place).collect()
}

#[tokio::test]
async fn failures_say_what_why_and_what_next() {
    let world = World::make().await;
    let before = common::read_folder(world.above.path());
    let nobody = nobody();
    let mut text = String::new();
    for (code, args) in FAILURES {
        let result = run(in_world(&world, &nobody, args));
        let _ = writeln!(text, "$ milvus-handoff {}\n{}", args.join(" "), world.settled(&result.stderr));
        assert_eq!((result.code, result.stdout.as_str()), (*code, ""), "{args:?}: {}", result.stderr);
        assert!(!result.stderr.contains('\u{1b}'), "colours in a pipe: {args:?}");
        assert!(!result.stderr.contains("secret"), "a secret is repeated: {args:?}");
        // Without anything on the line there is help.
        let coded = args.is_empty() || result.stderr.starts_with("error[MH-");
        assert!(coded, "no code: {args:?}: {}", result.stderr);
        let next = args.is_empty() || result.stderr.contains("\nhint: ");
        assert!(next, "what to do next? {args:?}: {}", result.stderr);
    }
    assert_eq!(common::read_folder(world.above.path()), before, "a failure leaves things as they were");
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{64}", "[DIGEST]"),
        (r"\d+ bytes", "[SIZE]"),
    ]}, {
        insta::assert_snapshot!(text.replace(&nobody, "[NOBODY]"));
    });
}

#[tokio::test]
async fn failures_are_one_document_with_json() {
    let world = World::make().await;
    let nobody = nobody();
    // Without anything there is help on stderr, and with `--json` there is something.
    for (code, args) in FAILURES.iter().filter(|(_, args)| !args.is_empty()) {
        let args = in_world(&world, &nobody, args);
        let plain = run(&args);
        for place in [0, args.len()] {
            let mut args = args.clone();
            args.insert(place, "--json".into());
            let result = run(&args);
            assert_eq!(result.code, *code, "{args:?}");
            assert_eq!(result.stderr, plain.stderr, "{args:?}: people read the same");
            let document = the_document(&result.stdout);
            assert_eq!(document["version"], 1);
            assert_eq!(document["status"], "failed");
            let named = args.iter().find(|arg| Cli::command().find_subcommand(arg).is_some());
            assert_eq!(document["command"], named.map_or("", String::as_str), "{args:?}");
            let error = &document["error"];
            assert_eq!(error["exit_code"], *code, "{args:?}");
            for field in ["kind", "code", "message"] {
                assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {error}");
            }
            let title = format!("error[{}]: ", error["code"].as_str().unwrap());
            assert!(result.stderr.starts_with(&title), "{args:?}: {error}");
            assert!(error["causes"].is_array() && error.get("hint").is_some(), "{error}");
        }
    }
}

/// The one JSON document that stdout must be: on one line, with nothing before or behind it.
fn the_document(stdout: &str) -> Value {
    let line = stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {stdout:?}"));
    assert!(!line.contains('\n'), "more than one line: {stdout}");
    let document: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    assert!(document.is_object());
    document
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;
    let broken = OsStr::from_bytes(b"file:///\xff");
    for args in [
        [OsStr::new("verify"), broken, OsStr::new("--json")],
        [OsStr::new("--json"), OsStr::new("verify"), broken],
    ] {
        let result = run(args);
        assert_eq!(result.code, 2, "{}", result.stderr);
        assert_eq!(the_document(&result.stdout)["command"], "verify");
    }
}

// ---- what goes well ----

#[tokio::test]
async fn a_snapshot_is_verified_and_shown() {
    let world = World::make().await;
    let mut text = String::new();
    for args in [
        &["verify", "[good]"][..],
        &["verify", "[good]", "--level", "head"],
        &["verify", "[good]", "--level", "list", "--expect", &world.digest],
        &["-q", "verify", "[good]", "--level", "head"],
        &["verify", "[damaged]"],
        &["inspect", "[good]"],
        &["inspect", "[good]", "--rows", "2"],
    ] {
        let result = run(in_world(&world, "", args));
        let damaged = args.contains(&"[damaged]");
        assert_eq!(result.code, if damaged { 6 } else { 0 }, "{args:?}: {}", result.stderr);
        let _ = writeln!(text, "$ milvus-handoff {}", args.join(" "));
        text += &world.settled(&result.stdout);
        text += &result.stderr.lines().map(|line| format!("(stderr) {line}\n")).collect::<String>();
        text.push('\n');
    }
    // Parts differ with the version of the libraries that write them.
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{64}", "[DIGEST]"),
        (r"-[0-9a-f]{8}\.parquet", "-[PREFIX].parquet"),
        (r"\d+\.\d+ KiB", "[SIZE]"),
    ]}, {
        insta::assert_snapshot!(text);
    });
}

#[tokio::test]
async fn results_are_one_document_with_json() {
    let world = World::make().await;
    for (args, status, code) in [
        (&["verify", "[good]"][..], "successful", 0),
        (&["verify", "[good]", "--level", "head"], "successful", 0),
        (&["verify", "[damaged]"], "failed", 6),
        (&["inspect", "[good]", "--rows", "3"], "successful", 0),
    ] {
        let args = in_world(&world, "", args);
        let plain = run(&args);
        let result = run(args.iter().map(String::as_str).chain(["--json"]));
        assert_eq!(result.code, code);
        // What people read goes to stderr then, after the warnings.
        assert_eq!(result.stderr, format!("{}{}", plain.stderr, plain.stdout));
        let document = the_document(&result.stdout);
        assert_eq!((&document["version"], &document["status"]), (&Value::from(1), &Value::from(status)));
        assert_eq!(document["command"], args[0].as_str());
        assert_eq!(document["snapshot"]["commit_sha256"], world.digest.as_str());
        assert!(document["warnings"].is_array());
        let quiet = run(args.iter().map(String::as_str).chain(["--json", "--quiet"]));
        assert_eq!((quiet.code, quiet.stderr.as_str()), (code, ""));
        the_document(&quiet.stdout);
    }
    let document = the_document(&run(["inspect", &world.url("good"), "--json", "--rows", "3"]).stdout);
    assert_eq!(document["collections"][0]["first_rows"].as_array().unwrap().len(), 3);
    assert_eq!(document["collections"][0]["first_rows"][0]["id"], 1);
    let document = the_document(&run(["verify", &world.url("damaged"), "--json"]).stdout);
    let named: Vec<_> =
        document["problems"].as_array().unwrap().iter().map(|problem| problem["key"].clone()).collect();
    assert_eq!(named, ["extra", "units/u00002.json"]);
}

#[tokio::test]
async fn nobody_to_print_to_is_not_a_success() {
    let world = World::make().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        command().args(["inspect", &world.url("good")]).stdout(writer).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// Who reads a closed pipe is gone; who reads a full disk wants to know.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_result_that_cannot_be_written_is_said() {
    let world = World::make().await;
    for args in [&["verify", "[good]"][..], &["verify", "[good]", "--json", "-q"], &["man", "verify"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = command().args(in_world(&world, "", args)).stdout(full).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("error[MH-INTERNAL]: the output could not be written: "), "{said}");
        assert!(said.contains("hint: "), "{said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = command().args(in_world(&world, "", args)).stdout(writer).output().unwrap();
        assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(1), &b""[..]), "{args:?}");
    }
}

// ---- terminals ----

/// What a terminal gets to see on stderr.
#[cfg(unix)]
fn on_a_terminal(command: &mut Command) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::{Read, Write};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let mut terminal = std::fs::File::from(openpt(flags).unwrap());
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let open = || std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    // A terminal that nobody has open forgets what was written to it.
    let mut held = open();
    let status = command.env("TERM", "xterm").stderr(open()).stdout(Stdio::null()).status().unwrap();
    assert!(status.code().is_some());
    // What is written arrives piece by piece and some time later, but in order.
    const END: &str = "[end of what was shown]";
    held.write_all(END.as_bytes()).unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(END.as_bytes()) {
        let mut piece = [0; 4096];
        let count = terminal.read(&mut piece).unwrap();
        shown.extend_from_slice(&piece[..count]);
    }
    shown.truncate(shown.len() - END.len());
    String::from_utf8(shown).unwrap()
}

#[cfg(unix)]
#[test]
fn colours_are_for_terminals_that_want_them() {
    let ours = ["verify", "not-a-url"];
    let from_clap = ["verify", "--frobnicate"];
    for args in [ours, from_clap] {
        assert!(on_a_terminal(command().args(args)).contains("\u{1b}["), "{args:?}");
        assert!(
            on_a_terminal(command().args(args).env("NO_COLOR", "")).contains("\u{1b}["),
            "empty is not set"
        );
        let plain = on_a_terminal(command().args(args).env("NO_COLOR", "1"));
        assert!(plain.starts_with("error[MH-") && !plain.contains('\u{1b}'), "{args:?}: {plain}");
    }
}

/// Everything that a terminal would obey, and text that would pass for another line of ours.
fn check_harmless(text: &str, what: &str) {
    for c in text.chars() {
        let harmless = c == '\n'
            || !(c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
                || c == '\u{2028}');
        assert!(harmless, "{what}: {c:?} in {text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("Successful: forged")), "{what}: {text}");
}

#[tokio::test]
async fn hostile_texts_do_nothing_to_a_terminal() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("snap");
    make_snapshot(&root, &HOSTILE).await;
    let url = format!("file://{}", root.display());
    let other = above.path().join("other");
    make_snapshot(&other, &Recipe { shift: 1, name_noise: "\u{2067}", ..HOSTILE }).await;
    let other = format!("file://{}", other.display());
    let runs: [&[&str]; 11] = [
        &["diff", &url, &other, "--keys"],
        &["diff", &url, &other, "--keys", "--json"],
        &["report", &url, "-o", "-"],
        &["report", &url, "--format", "md"],
        &["report", &url, "--json"],
        &["verify", &url],
        &["inspect", &url, "--rows", "9"],
        &["verify", &url, "--json"],
        &["inspect", &url, "--rows", "9", "--json"],
        &["import", &url, "--target", &nobody(), "-c", "x\u{1b}[2J\u{202e}"],
        &["import", &url, "--target", &nobody(), "--rename", "a\u{9b}=b\n"],
    ];
    for args in runs {
        let result = run(args);
        check_harmless(&result.stdout, &format!("stdout of {args:?}"));
        check_harmless(&result.stderr, &format!("stderr of {args:?}"));
        if args.contains(&"--json") {
            // Nothing is lost: the document says what the snapshot says.
            let text = the_document(&result.stdout).to_string();
            let noisy = serde_json::to_string(HOSTILE.noise).unwrap();
            assert!(
                ["verify", "diff"].contains(&args[0]) || text.contains(noisy.trim_matches('"')),
                "{text}"
            );
        }
    }
    // The same in every place of the documents: errors name what they refuse.
    let manifest = String::from_utf8(std::fs::read(root.join(keys::MANIFEST)).unwrap()).unwrap();
    let commit = std::fs::read_to_string(root.join(keys::COMMIT)).unwrap();
    for (key, text) in [
        (
            keys::COMMIT,
            commit.replace("\"features\": []", "\"features\": [\"a\\u001b[2J\\u202e\\nSuccessful: forged\"]"),
        ),
        (keys::MANIFEST, manifest),
    ] {
        std::fs::write(root.join(key), text.replace("\"partitions\"", "\"pieces\"")).unwrap();
        let result = run(["verify", &url]);
        assert_ne!(result.code, 0);
        check_harmless(&result.stderr, key);
    }
    std::fs::write(root.join("a\u{202e}txt.exe"), "x").unwrap();
    let result = run(["verify", &url]);
    check_harmless(&format!("{}{}", result.stdout, result.stderr), "an extra object");
}
