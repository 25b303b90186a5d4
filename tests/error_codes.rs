//! Codes of errors: what the tool prints and what `docs/errors.md` explains are the same.

use milvus_handoff::error::Code;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each code of the page with the text below its heading, in the page's order.
fn documented() -> Vec<(String, String)> {
    let page = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let sections = page.split("\n### `").skip(1);
    let section = |text: &str| {
        let (code, rest) = text.split_once("`\n").unwrap();
        (code.to_string(), rest.split("\n## ").next().unwrap().to_string())
    };
    sections.map(section).collect()
}

#[test]
fn every_code_is_explained_and_nothing_else_is() {
    let documented = documented();
    let page: Vec<_> = documented.iter().map(|(code, _)| code.as_str()).collect();
    let code: Vec<_> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(page, code, "in the same order");
    for (code, (_, text)) in Code::ALL.iter().zip(&documented) {
        let items: Vec<_> = text.lines().filter(|line| line.starts_with("- ")).collect();
        assert_eq!(items[0], format!("- Exit code: {}", code.kind().exit_code()), "{code:?}");
        let rest: Vec<_> = items[1..].iter().map(|item| item.split_once(": ").unwrap()).collect();
        let titles: Vec<_> = rest.iter().map(|(title, _)| *title).collect();
        assert_eq!(titles, ["- Meaning", "- Usual causes", "- What to do"], "{code:?}");
        assert!(rest.iter().all(|(_, text)| text.len() > 2), "{code:?}");
    }
}

#[test]
fn codes_are_well_formed_and_each_is_one() {
    let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for text in texts {
        let words = text.strip_prefix("MH-").unwrap().split('-');
        assert!(words.clone().all(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_uppercase())), "{text}");
    }
}

#[test]
fn every_kind_has_a_code_of_its_own() {
    for code in Code::ALL {
        let general = Code::from(code.kind());
        assert_eq!(general.kind(), code.kind(), "{code:?}");
        assert_eq!(general.text(), format!("MH-{}", code.kind().name().to_uppercase()), "{code:?}");
    }
}

/// A code that nothing can print would be a promise to nobody.
#[test]
fn every_code_is_used() {
    let mut sources = String::new();
    read_all(&root().join("src"), &mut sources);
    for code in Code::ALL {
        let (name, kind) = (format!("{code:?}"), format!("{:?}", code.kind()));
        // `s3` brings them all into scope at one place.
        let fine = [format!("Code::{name}"), format!(" {name},"), format!("({name},")];
        let general = *code == Code::from(code.kind()) && sources.contains(&format!("ErrorKind::{kind}"));
        assert!(general || fine.iter().any(|text| sources.contains(text)), "{code:?} is never printed");
    }
}

fn read_all(folder: &Path, into: &mut String) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_all(&path, into);
        } else if !path.ends_with("error/code.rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
