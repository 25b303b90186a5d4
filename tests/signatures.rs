//! Signatures: who vouches for a snapshot, and that nothing else passes for it.
//!
//! What is signed here is also checked by another implementation (the crate `minisign-verify`), and
//! by the command `minisign` in `tests/live/test_signatures.py`.

mod common;

use common::{Memory, open, read_folder};
use milvus_handoff::error::ErrorKind;
use milvus_handoff::opened::{self, Trust};
use milvus_handoff::signature::{self, PublicKey, Signed, SigningKey};
use milvus_handoff::snapshot::keys;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery staple";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// A folder with a snapshot, and room for keys.
struct Place(TempDir);

/// How a run ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", self.stdout, self.stderr))
    }
}

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        for (key, bytes) in read_folder(&fixture()) {
            let path = place.path("snap").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("snap").display())
    }

    fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
        command.env_clear().envs(env.iter().copied()).current_dir(self.0.path()).stdin(Stdio::null());
        let url = self.url();
        let output =
            command.args(args.iter().map(|arg| if *arg == "SNAP" { &url } else { *arg })).output().unwrap();
        let run = Run {
            code: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!format!("{}{}", run.stdout, run.stderr).contains(PASSWORD), "{args:?} repeats a secret");
        run
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(&[], args)
    }

    fn good(&self, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.stdout, run.stderr);
        run
    }

    fn refused(&self, code: i32, args: &[&str], why: &str) {
        let run = self.run(args);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, code, "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    }

    fn keygen(&self, name: &str) -> PublicKey {
        self.good(&["keygen", name, "--no-password"]);
        self.public(name)
    }

    fn public(&self, name: &str) -> PublicKey {
        PublicKey::parse(&std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()).unwrap()
    }

    fn edit(&self, object: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path("snap").join(object);
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

/// Checks a signature with an implementation that is not ours.
fn independently_valid(key: &PublicKey, commit: &[u8], signature: &str) -> bool {
    let key = minisign_verify::PublicKey::from_base64(&key.to_base64()).unwrap();
    let signature = minisign_verify::Signature::decode(signature).unwrap();
    key.verify(commit, &signature, false).is_ok()
}

#[test]
fn what_is_signed_is_verified_by_whoever_trusts_a_signer() {
    let place = Place::new();
    let before = read_folder(&place.path("snap"));
    let (a, b, c) = (place.keygen("a"), place.keygen("b"), place.keygen("c"));
    place.refused(
        6,
        &["verify", "SNAP", "--trusted-key", "c.pub"],
        "; there is no signature at all\nhint: ask",
    );
    for name in ["a", "b"] {
        let signed = place.good(&["sign", "SNAP", "--key", name, "--json"]).document();
        assert_eq!(signed["signed_by"], place.public(name).id().to_string());
        assert_eq!(signed["signed_before"], false);
    }
    let after = read_folder(&place.path("snap"));
    let added: Vec<_> = after.keys().filter(|key| !before.contains_key(*key)).collect();
    let mut due = [a.id().object(), b.id().object()];
    due.sort();
    assert_eq!(added, due.iter().collect::<Vec<_>>());
    for key in [&a, &b] {
        let signature = String::from_utf8(after[&key.id().object()].clone()).unwrap();
        assert!(independently_valid(key, &after[keys::COMMIT], &signature));
        assert!(!independently_valid(key, &after[keys::MANIFEST], &signature));
        let id = opened_id(&after[keys::COMMIT]);
        let comment = signature.lines().nth(2).unwrap();
        assert!(comment.starts_with(&format!("trusted comment: snapshot {id} signed 20")), "{comment}");
    }

    // By a file, by its line, and by any one of several.
    let line = b.to_base64();
    for trusted in [&["a.pub"][..], &[&line], &["c.pub", "b.pub"], &["a.pub", "b.pub"]] {
        let flags: Vec<_> = trusted.iter().flat_map(|key| ["--trusted-key", *key]).collect();
        for command in ["verify", "inspect"] {
            let args: Vec<_> = [command, "SNAP", "--json"].into_iter().chain(flags.iter().copied()).collect();
            let document = place.good(&args).document();
            let signatures = document["signatures"].as_array().unwrap();
            let valid: Vec<_> = signatures.iter().filter(|s| s["state"] == "valid").collect();
            assert_eq!(valid.len(), trusted.iter().filter(|key| **key != "c.pub").count(), "{document}");
            assert!(valid.iter().all(|s| s["trusted_comment"].as_str().unwrap().starts_with("snapshot ")));
            assert_eq!(document["warnings"], Value::Array(Vec::new()));
        }
    }
    // Without a trusted key signatures are named, and nothing is said of their worth.
    let run = place.good(&["verify", "SNAP"]);
    assert_eq!(run.stdout.matches("not checked").count(), 2, "{}", run.stdout);
    // What to do about one that is not checked stands below it, and not below one that is.
    let mixed = place.good(&["verify", "SNAP", "--trusted-key", "a.pub"]);
    let lines: Vec<_> = mixed.stdout.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("  to check it, get that signer's public key"))
        .unwrap();
    assert!(
        lines[at - 1].contains(&b.id().to_string()) && lines[at - 2].starts_with("signed by"),
        "{lines:?}"
    );
    // A key that has not signed.
    let why = format!("no valid signature by a trusted key ({})", c.id());
    place.refused(6, &["verify", "SNAP", "--trusted-key", "c.pub"], &why);
    // What there is instead is said, and what it takes to trust it.
    let mut ids = [a.id(), b.id()];
    ids.sort();
    let others =
        format!("; there are signatures that name other keys, not checked: {}, {}\nhint: ", ids[0], ids[1]);
    place.refused(6, &["verify", "SNAP", "--trusted-key", "c.pub"], &others);
    assert_eq!(run.stdout.matches("give each with `--trusted-key`").count(), 1, "{}", run.stdout);

    // Signing again changes nothing.
    let again = place.good(&["sign", "SNAP", "--key", "a", "--json"]).document();
    assert_eq!(again["signed_before"], true);
    assert_eq!(read_folder(&place.path("snap")), after);
}

fn opened_id(commit: &[u8]) -> String {
    serde_json::from_slice::<Value>(commit).unwrap()["id"].as_str().unwrap().to_string()
}

/// A signed snapshot, and the key.
async fn signed() -> (Place, Trust, SigningKey) {
    let place = Place::new();
    let store = open(&place.path("snap")).await;
    let key = SigningKey::open(&signature::generate(None).unwrap().0).unwrap();
    let opened = opened::open(store.as_ref(), &Trust::default()).await.unwrap();
    let put = signature::put(&opened.commit, &opened.commit_bytes, &key, store.as_ref()).await.unwrap();
    assert_eq!(put, Signed::Now);
    let trust = Trust { expect: None, keys: vec![key.public().unwrap()] };
    opened::open(store.as_ref(), &trust).await.unwrap();
    (place, trust, key)
}

#[tokio::test]
async fn one_changed_byte_of_the_commit_is_refused() {
    let (place, trust, _) = signed().await;
    let memory = Memory::of_folder(&place.path("snap"));
    let whole = memory.object(keys::COMMIT);
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        memory.set(keys::COMMIT, bytes);
        let error =
            opened::open(&memory, &trust).await.err().unwrap_or_else(|| panic!("byte {at} does not count"));
        assert_eq!(error.kind(), ErrorKind::Integrity, "byte {at}: {error}");
        assert!(error.to_string().contains("no valid signature"), "byte {at}: {error}");
    }
    memory.set(keys::COMMIT, whole);
    opened::open(&memory, &trust).await.unwrap();
}

#[tokio::test]
async fn one_changed_byte_of_the_signature_is_refused() {
    let (place, trust, _) = signed().await;
    let memory = Memory::of_folder(&place.path("snap"));
    let object = trust.keys[0].id().object();
    let whole = memory.object(&object);
    // The first line is for people, and not signed.
    let signed_from = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for at in (signed_from..whole.len()).filter(|at| whole[*at] != b'\n') {
        for bit in 0..8 {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << bit;
            memory.set(&object, bytes);
            let error = opened::open(&memory, &trust).await.err();
            let error = error.unwrap_or_else(|| panic!("bit {bit} of byte {at} does not count"));
            assert_eq!(error.kind(), ErrorKind::Integrity, "byte {at}: {error}");
        }
    }
    for cut in 0..whole.len() - 1 {
        memory.set(&object, whole.slice(..cut));
        assert!(opened::open(&memory, &trust).await.is_err(), "cut after {cut} bytes");
    }
    memory.set(&object, vec![b'x'; 1 << 20]);
    assert_eq!(opened::open(&memory, &trust).await.err().unwrap().kind(), ErrorKind::Integrity);
}

#[tokio::test]
async fn a_signature_says_nothing_of_another_snapshot_or_under_another_name() {
    let (place, trust, key) = signed().await;
    let object = trust.keys[0].id().object();
    let folder = place.path("snap");
    let store = open(&folder).await;
    // Of another document of this snapshot.
    let opened = opened::open(store.as_ref(), &Trust::default()).await.unwrap();
    std::fs::rename(folder.join(&object), folder.join(keys::SIGNATURE)).unwrap();
    signature::put(&opened.commit, b"something else", &key, store.as_ref()).await.unwrap();
    // The right one is where `minisign` puts it.
    opened::open(store.as_ref(), &trust).await.unwrap();
    std::fs::rename(folder.join(keys::SIGNATURE), folder.join("signatures/0123456789ABCDEF.minisig"))
        .unwrap();
    // Now it stands under the name of another key.
    assert!(opened::open(store.as_ref(), &trust).await.is_err());
    // What is there is not overwritten.
    let error = signature::put(&opened.commit, &opened.commit_bytes, &key, store.as_ref()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    std::fs::remove_file(folder.join(&object)).unwrap();
    assert!(opened::open(store.as_ref(), &trust).await.is_err());
}

#[test]
fn a_bad_signature_beside_a_good_one_is_named() {
    let place = Place::new();
    let (a, b) = (place.keygen("a"), place.keygen("b"));
    place.good(&["sign", "SNAP", "--key", "a"]);
    place.good(&["sign", "SNAP", "--key", "b"]);
    // The last byte before the line feed belongs to the signature of the comment.
    place.edit(&b.id().object(), |bytes| {
        let at = bytes.len() - 10;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    });
    let both = ["--trusted-key", "a.pub", "--trusted-key", "b.pub"];
    place.refused(6, &["verify", "SNAP", both[0], both[1], both[2], both[3]], &b.id().object());
    let shown = place.good(&["inspect", "SNAP", both[0], both[1], both[2], both[3], "--json"]).document();
    assert!(shown["warnings"][0].as_str().unwrap().contains(&b.id().object()), "{shown}");
    // Who trusts only the other one: it has the form of a signature.
    place.good(&["verify", "SNAP", "--trusted-key", "a.pub"]);
    place.refused(6, &["verify", "SNAP", "--trusted-key", "b.pub"], "no valid signature");
    // What has not even the form is named without any key.
    place.edit(&a.id().object(), |bytes| bytes.truncate(40));
    place.refused(6, &["verify", "SNAP"], "it is not a minisign signature");
}

#[test]
fn an_import_is_refused_before_the_target_is_asked_for_anything() {
    let place = Place::new();
    place.keygen("a");
    let import = ["import", "SNAP", "--target", "http://127.0.0.1:1", "--journal", "journal"];
    let trusting: Vec<_> = import.into_iter().chain(["--trusted-key", "a.pub"]).collect();
    place.refused(6, &trusting, "no valid signature");
    place.good(&["sign", "SNAP", "--key", "a"]);
    place.refused(75, &trusting, "127.0.0.1:1");
    place.edit(keys::COMMIT, |bytes| {
        let end = bytes.len() - 1;
        bytes[end] = b' ';
    });
    place.refused(6, &trusting, "no valid signature");
}

#[test]
fn keys_are_protected_and_never_overwritten() {
    let place = Place::new();
    let with =
        |variable: &str, args: &[&str]| place.run_with(&[("MILVUS_HANDOFF_KEY_PASSWORD", variable)], args);
    let made = with(PASSWORD, &["keygen", "k", "--json"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let document = made.document();
    assert_eq!(document["protected"], true);
    assert_eq!(document["public_key"], place.public("k").to_base64());
    let mode = std::fs::metadata(place.path("k")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "only the owner reads it");
    let secret = std::fs::read_to_string(place.path("k")).unwrap();
    assert!(SigningKey::is_locked(&secret));
    assert!(!made.stdout.contains(secret.lines().nth(1).unwrap()));

    for name in ["k", "other"] {
        std::fs::write(place.path("other.pub"), "x").unwrap();
        place.refused(5, &["keygen", name, "--no-password"], "never overwritten");
    }
    assert_eq!(std::fs::read_to_string(place.path("k")).unwrap(), secret);
    assert!(!place.path("other").exists());
    place.refused(2, &["keygen", "no/such/folder", "--no-password"], "cannot write");

    // No password and nobody to ask; a wrong one; an empty one; the right one.
    place.refused(2, &["sign", "SNAP", "--key", "k"], "a password is needed");
    place.refused(2, &["keygen", "new"], "a password is needed");
    let wrong = with("wrong", &["sign", "SNAP", "--key", "k"]);
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
    std::fs::write(place.path("empty"), "\n").unwrap();
    place.refused(2, &["keygen", "new", "--key-password-file", "empty"], "--no-password");
    assert!(!place.path("new").exists());
    assert_eq!(with(PASSWORD, &["sign", "SNAP", "--key", "k"]).code, 0);
    std::fs::write(place.path("password"), format!("{PASSWORD}\n")).unwrap();
    let file = place.good(&["sign", "SNAP", "--key", "k", "--key-password-file", "password", "--json"]);
    assert_eq!(file.document()["signed_before"], true);
    place.good(&["verify", "SNAP", "--trusted-key", "k.pub"]);
}

#[test]
fn what_is_no_key_is_refused() {
    let place = Place::new();
    place.keygen("a");
    std::fs::write(place.path("junk"), [0xff, 0xfe]).unwrap();
    for key in ["a", "missing.pub", "junk", "RWQ"] {
        place.refused(2, &["verify", "SNAP", "--trusted-key", key], "--trusted-key");
    }
    let secret = std::fs::read_to_string(place.path("a")).unwrap();
    let (comment, encoded) = secret.trim().split_once('\n').unwrap();
    std::fs::write(place.path("short"), format!("{comment}\n{}\n", &encoded[..encoded.len() - 4])).unwrap();
    let at = encoded.len() / 2;
    let other = if encoded.as_bytes()[at] == b'A' { "B" } else { "A" };
    std::fs::write(
        place.path("damaged"),
        format!("{comment}\n{}{other}{}\n", &encoded[..at], &encoded[at + 1..]),
    )
    .unwrap();
    place.refused(2, &["sign", "SNAP", "--key", "damaged"], "the secret key cannot sign");
    for key in ["a.pub", "missing", "junk", "short"] {
        place.refused(2, &["sign", "SNAP", "--key", key], "--key");
    }
    let uncommitted = place.path("snap").join(keys::COMMIT);
    std::fs::remove_file(uncommitted).unwrap();
    place.refused(4, &["sign", "SNAP", "--key", "a"], "not committed");
    assert!(!place.path("snap/signatures").exists());
}

#[test]
fn a_digest_that_was_announced_is_what_is_signed() {
    let place = Place::new();
    place.keygen("a");
    let other = format!("sha256:{}", "0".repeat(64));
    place.refused(6, &["sign", "SNAP", "--key", "a", "--expect", &other], "expected was");
    assert!(!place.path("snap/signatures").exists());
}
