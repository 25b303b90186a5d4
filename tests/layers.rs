//! Keeps the direction of dependencies: who may name whom, as `src/lib.rs` and the design say.
//!
//! The source text is read, not compiled: comments and literals are dropped, then every path that
//! starts with `crate`, `super` or `self`, in `use` lines and in code, is resolved to the
//! top-level module that it names, and every other path to the crate that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules from the bottom up; a module may name those of lower layers only. A module that is
/// not here has no place yet: give it one.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["digest", "schema", "blocking", "progress", "stop"],
    &["select", "capacity", "columns", "snapshot"],
    &["part", "milvus", "store"],
    // The objects that hold signatures are read on the way into a snapshot.
    &["signature"],
    &["fetch", "opened", "nesting", "loaded", "pages"],
    &["verify", "inspect", "compare", "export", "sign", "keygen", "doctor"],
    // Checks parts as `verify` does before it touches the target.
    &["import"],
    &["output"],
    // Stories whose results are large enough to be put into words beside them.
    &["report", "diff"],
    &["cli"],
    &["refusal"],
    &["next", "generate"],
    &["main"],
];

/// Pairs that never name each other although their layers would allow it.
const STRANGERS: &[(&str, &str)] = &[("export", "import"), ("milvus", "store")];

/// Modules that turn values into values: no runtime, no network, no bucket, no server.
/// `a::b` is the file of a module that is not pure as a whole.
const PURE: &[&str] = &[
    "error",
    "digest",
    "schema",
    "select",
    "capacity",
    "columns",
    "snapshot",
    "diff::meta",
    "diff::shown",
    "output::about",
    "output::inspected",
    "report::compared",
    "report::document",
    "report::facts",
    "report::html",
    "report::markdown",
    "report::page",
    "report::pictures",
];

/// Parts of the standard library that reach out of the process.
const OUTSIDE: &[&str] = &["env", "fs", "net", "process", "thread"];

/// Crates that are for some modules only.
const CRATES: &[(&str, &[&str])] = &[
    ("tonic", &["milvus"]),
    ("prost", &["milvus", "columns"]),
    // The generated messages; `pages` carries those of a page from `milvus` to `columns`.
    ("milvus", &["milvus", "columns", "part", "pages"]),
    ("aws_*", &["store"]),
    ("hyper*", &["store"]),
    ("reqwest", &["milvus"]),
    ("parquet", &["part"]),
    ("minisign", &["signature"]),
    ("rpassword", &["cli"]),
    ("unicode_width", &["output"]),
    ("indicatif", &["progress", "output", "report", "diff", "import"]),
    ("terminal_size", &["progress"]),
    ("clap_complete", &["cli", "generate"]),
    ("clap_mangen", &["generate"]),
];

/// Crates that are for every module that is not pure.
const IMPURE: &[&str] = &["async_trait", "clap", "futures", "tempfile", "tokio", "tokio_stream", "tracing"];

// ---- reading source text ----

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Mark(char),
}

/// Words and marks, without comments, strings, characters and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < chars.len() {
                match (chars[i], at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(after) = raw_string_end(&chars, i) {
            i = after;
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if c.is_alphabetic() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            tokens.push(Token::Word(chars[start..i].iter().collect()));
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Mark(c));
            }
            i += 1;
        }
    }
    tokens
}

/// Where the raw string that starts at `i` ends, if one does.
fn raw_string_end(chars: &[char], i: usize) -> Option<usize> {
    let before = i.checked_sub(1).map(|b| chars[b]);
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let rest: String = chars[i..].iter().take(80).collect();
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].starts_with('"').then_some(())?;
    let end: Vec<char> = format!("\"{}", "#".repeat(hashes)).chars().collect();
    let start = i + rest.len() - body.len() + hashes + 1;
    let found = chars[start..].windows(end.len()).position(|window| window == end)?;
    Some(start + found + end.len())
}

/// Every path in the text, with the inline modules that it stands in. Braces of `use` are spread:
/// `use a::{b, c::d};` are two paths.
fn paths(tokens: &[Token]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let mark = |at: usize, c: char| tokens.get(at) == Some(&Token::Mark(c));
        match &tokens[i] {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth -= 1;
                inside.retain(|(_, opened)| *opened <= depth);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(Token::Word(name)), true) = (tokens.get(i + 1), mark(i + 2, '{')) {
                    inside.push((name.clone(), depth + 1));
                }
            }
            Token::Word(word) if word == "use" => {
                let modules: Vec<_> = inside.iter().map(|(name, _)| name.clone()).collect();
                let leading = usize::from(mark(i + 1, ':') && mark(i + 2, ':')) * 2;
                let mut tree = Vec::new();
                i = use_tree(tokens, i + 1 + leading, &[], &mut tree);
                found.extend(tree.into_iter().map(|path| (modules.clone(), path)));
                continue;
            }
            Token::Word(word) if mark(i + 1, ':') && mark(i + 2, ':') => {
                let modules: Vec<_> = inside.iter().map(|(name, _)| name.clone()).collect();
                let mut path = vec![word.clone()];
                while mark(i + 1, ':') && mark(i + 2, ':') {
                    let Some(Token::Word(next)) = tokens.get(i + 3) else { break };
                    path.push(next.clone());
                    i += 3;
                }
                found.push((modules, path));
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Reads one tree of a `use` from `i`; gives the position behind it.
fn use_tree(tokens: &[Token], mut i: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(i) {
            Some(Token::Word(word)) if word == "as" => i += 2,
            Some(Token::Word(word)) => {
                path.push(word.clone());
                i += 1;
            }
            Some(Token::Mark(':')) => i += 1,
            Some(Token::Mark('*')) => {
                path.push("*".into());
                i += 1;
            }
            Some(Token::Mark('{')) => {
                i += 1;
                while !matches!(tokens.get(i), Some(Token::Mark('}')) | None) {
                    i = use_tree(tokens, i, &path, found);
                    if tokens.get(i) == Some(&Token::Mark(',')) {
                        i += 1;
                    }
                }
                return i + 1;
            }
            _ => {
                found.push(path);
                return i;
            }
        }
    }
}

/// What a path in the module `here` names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// A top-level module of this crate.
    Module(String),
    /// Everything at the crate's root.
    Everything,
    /// Something at the crate's root that is no module.
    Foreign(String),
}

fn named(here: &[String], path: &[String], modules: &BTreeSet<String>) -> Option<Named> {
    let mut base: Vec<String> = match path[0].as_str() {
        // The binary names the library by its name.
        "crate" | "milvus_handoff" => Vec::new(),
        "self" | "super" => here.to_vec(),
        "Self" => return None,
        foreign => return Some(Named::Foreign(foreign.to_string())),
    };
    let mut rest = path.iter().skip(usize::from(path[0] != "super"));
    for segment in rest.by_ref() {
        if segment == "super" {
            base.pop();
        } else if segment != "self" {
            base.push(segment.clone());
            break;
        }
    }
    match base.first() {
        None => Some(Named::Everything),
        Some(first) if first == "*" => Some(Named::Everything),
        Some(first) if modules.contains(first) => Some(Named::Module(first.clone())),
        Some(_) => None,
    }
}

// ---- the rules ----

/// Source files by the path of their module, such as `export::unit`.
type Sources = BTreeMap<String, String>;

fn is_crate(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn modules_of(sources: &Sources) -> BTreeSet<String> {
    sources.keys().map(|module| top(module).to_string()).filter(|m| m != "lib").collect()
}

/// Modules without a layer, and layers without a module.
fn misplaced(modules: &BTreeSet<String>) -> Vec<String> {
    let placed: BTreeSet<_> = LAYERS.iter().flat_map(|layer| layer.iter()).map(ToString::to_string).collect();
    let homeless = modules.difference(&placed).map(|module| {
        format!("`{module}` has no layer: add it to LAYERS in tests/layers.rs, and to the map in src/lib.rs")
    });
    let empty = placed
        .difference(modules)
        .map(|module| format!("`{module}` has a layer and does not exist: remove it from LAYERS"));
    homeless.chain(empty).collect()
}

/// Everything in one file that is against the rules, a line each.
fn violations(file: &str, source: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let me = top(file);
    let root = ["lib", "main"].contains(&file);
    let here: Vec<String> = if root { Vec::new() } else { file.split("::").map(String::from).collect() };
    let mut wrong = BTreeSet::new();
    for (inside, path) in paths(&tokens(source)) {
        let here: Vec<String> = here.iter().cloned().chain(inside).collect();
        let complaint = match named(&here, &path, modules) {
            Some(Named::Everything) if file != "lib" => {
                Some("that is everything at the root: name what is used".to_string())
            }
            Some(Named::Module(other)) if other != me => may_not_name(me, &other),
            Some(Named::Foreign(name)) => may_not_use(file, &name, &path),
            _ => None,
        };
        wrong.extend(complaint.map(|why| format!("{file} names `{}`, but {why}", path.join("::"))));
    }
    wrong.into_iter().collect()
}

fn may_not_name(me: &str, other: &str) -> Option<String> {
    if STRANGERS.iter().any(|(a, b)| [(*a, *b), (*b, *a)].contains(&(me, other))) {
        return Some(format!("`{me}` and `{other}` never name each other"));
    }
    (me != "lib" && layer(other) >= layer(me))
        .then(|| format!("`{other}` is not below `{me}`: move what both need further down"))
}

fn may_not_use(file: &str, name: &str, path: &[String]) -> Option<String> {
    let me = top(file);
    let pure = PURE.iter().find(|pure| [me, file].contains(pure));
    if name == "std" {
        let outside = path.get(1).is_some_and(|part| OUTSIDE.contains(&part.as_str()));
        return pure.filter(|_| outside).map(|pure| format!("`{pure}` is pure"));
    }
    if IMPURE.contains(&name) {
        return pure.map(|pure| format!("`{pure}` is pure"));
    }
    let (_, allowed) = CRATES.iter().find(|(pattern, _)| is_crate(pattern, name))?;
    (!allowed.contains(&me)).then(|| format!("that crate is only for {}", allowed.join(", ")))
}

fn read_sources(folder: &Path, prefix: &str, sources: &mut Sources) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
        if path.is_dir() {
            read_sources(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { prefix.to_string() } else { module };
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn this_crate() -> Sources {
    let mut sources = Sources::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

#[test]
fn modules_know_only_those_below_them() {
    let sources = this_crate();
    let modules = modules_of(&sources);
    let mut wrong = misplaced(&modules);
    wrong.extend(sources.iter().flat_map(|(file, source)| violations(file, source, &modules)));
    assert!(wrong.is_empty(), "dependencies that the design does not allow:\n  {}\n", wrong.join("\n  "));
}

// ---- whether the checker sees what it is there for ----

/// The complaints about the file of `module` with `line` added to it.
fn with(sources: &Sources, module: &str, line: &str) -> Vec<String> {
    let source = sources.get(module).unwrap_or_else(|| panic!("there is no {module}"));
    violations(module, &format!("{source}\n{line}\n"), &modules_of(sources))
}

#[test]
fn every_kind_of_violation_is_seen() {
    let sources = this_crate();
    for (module, line) in [
        ("export", "use crate::import::Options;"),
        ("import::load", "fn f() { crate::export::run(); }"),
        ("export::unit", "use super::super::import;"),
        ("import", "mod x { use super::super::export::run; }"),
        ("milvus::insert", "use crate::store::Store;"),
        ("store::s3", "use crate::{error::Error, milvus::{Client as C}};"),
        ("store", "use super::verify as v;"),
        ("milvus", "pub use crate::export::run;"),
        ("snapshot::wire", "use crate::part::PartWriter;"),
        ("snapshot::wire", "use milvus::proto::schema::FieldData;"),
        ("columns::decode", "fn f() { tokio::spawn(async {}); }"),
        ("columns", "use ::tonic::Status;"),
        ("columns", "use {std::fmt, aws_sdk_s3::Client};"),
        ("schema", "#[tokio::test] async fn f() {}"),
        ("digest", "type T = tonic::Status;"),
        ("error", "impl From<aws_sdk_s3::Error> for Error { }"),
        ("error", "use crate::schema::Key;"),
        ("snapshot::plan", "use std::{fmt, fs::File};"),
        ("columns", "fn f() { std::env::var(\"X\"); }"),
        ("verify", "use parquet::file::reader::FileReader;"),
        ("export", "fn f() { tonic::Request::new(()); }"),
        ("verify", "use crate::inspect;"),
        ("select", "use crate::*;"),
        ("select", "use crate::{*};"),
        ("verify", "use super::*;"),
        ("export", "use super::*;"),
        ("part", "use super::{self};"),
        ("opened", "use crate::cli::Cli;"),
        ("fetch", "use milvus_handoff::verify;"),
    ] {
        assert_eq!(with(&sources, module, line).len(), 1, "`{line}` in {module}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    let sources = this_crate();
    for (module, line) in [
        ("export", "// use crate::import::Options;"),
        ("export", "/* /* nested */ use crate::import; */"),
        (
            "export",
            "const A: &str = \"crate::import::x\"; const B: char = '\"'; const C: &str = r#\"\" crate::import::x\"#;",
        ),
        ("export", "fn f<'a>(x: &'a str) -> &'a str { x }"),
        ("export::unit", "mod tests { use super::*; }"),
        ("export::unit", "use super::pages::Reader as R;"),
        ("export::unit", "pub(crate) use self::inner::x; pub(in crate::export) fn f() {}"),
        ("verify", "mod tests { use super::*; use crate::digest; }"),
        ("columns", "use milvus::proto::schema::FieldData;"),
        ("snapshot", "use crate::schema::{self, Key};"),
        ("main", "use milvus_handoff::{export, import};"),
    ] {
        assert_eq!(with(&sources, module, line), [""; 0], "`{line}` in {module}");
    }
}

#[test]
fn every_module_has_exactly_one_layer() {
    let mut modules = modules_of(&this_crate());
    modules.insert("newcomer".into());
    modules.remove("inspect");
    let wrong = misplaced(&modules);
    for complaint in ["`newcomer` has no layer", "`inspect` has a layer"] {
        assert!(wrong.iter().any(|line| line.starts_with(complaint)), "{wrong:?}");
    }
    let mut all: Vec<_> = LAYERS.iter().flat_map(|layer| layer.iter()).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    let messages_of_servers =
        |name: &str, module: &str| module == "columns" && ["milvus", "prost"].contains(&name);
    for (name, allowed) in CRATES {
        let pure = allowed.iter().find(|module| PURE.contains(module) && !messages_of_servers(name, module));
        assert_eq!(pure, None, "{name} is not for modules that are pure");
    }
}
