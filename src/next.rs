//! What to run next: the commands that follow a finished export or import.
//!
//! Owns: which commands, with which flags of the one before, quoted for a shell. Does not own: when
//! they are shown (`main`), or the whole procedure (`docs/cutover.md`).

use crate::cli::{BucketArgs, ExportArgs, ImportArgs};
use crate::select::AutoId;
use crate::{export, import};
use std::path::Path;

/// The steps after an export; none after a plan, which has made nothing.
pub fn after_export(url: &str, args: &ExportArgs, outcome: &export::Outcome) -> Vec<String> {
    let Some(digest) = outcome.commit else { return Vec::new() };
    let mut check = command("verify", url);
    check.value("--expect", &format!("sha256:{digest}"));
    let mut import = command("import", url);
    import.value("--target", "http://HOST:19530");
    import.value("--expect", &format!("sha256:{digest}"));
    for line in [&mut check, &mut import] {
        line.bucket(&args.bucket.bucket);
    }
    if let Some(key) = &args.signing.sign_key {
        let public = format!("{}.pub", key.display());
        check.value("--trusted-key", &public);
        import.value("--trusted-key", &public);
    }
    vec![
        "send the digest to whoever imports, by a channel that does not go through the bucket".into(),
        format!("there, check the snapshot:  {}", check.0),
        format!("and import it:  {}", import.0),
        FURTHER.into(),
    ]
}

/// The steps after an import; none after a plan.
pub fn after_import(url: &str, args: &ImportArgs, outcome: &import::Outcome) -> Vec<String> {
    if outcome.planned_only {
        return Vec::new();
    }
    let mut compare = command("compare", url);
    compare.value("--target", &args.target);
    args.collections.iter().for_each(|pattern| compare.value("-c", pattern));
    args.rename.iter().for_each(|rename| compare.value("--rename", rename));
    if args.auto_id != AutoId::Preserve {
        compare.value("--auto-id", args.auto_id.name());
    }
    compare.value("--expect", &format!("sha256:{}", outcome.commit));
    args.trust.trusted_key.iter().for_each(|key| compare.value("--trusted-key", key));
    compare.file("--target-token-file", args.server.target_token_file.as_deref());
    compare.file("--target-ca", args.server.target_ca.as_deref());
    compare.file("--target-cert", args.server.target_cert.as_deref());
    compare.file("--target-key", args.server.target_key.as_deref());
    compare.bucket(&args.bucket);
    compare.value("--level", "full");
    let unloaded = outcome.collections.iter().any(|collection| !collection.loaded);
    let mut steps = Vec::new();
    if unloaded {
        compare.flag("--load");
    }
    steps.push(format!("compare every row with the snapshot:  {}", compare.0));
    if unloaded {
        steps.push("load the collections on the target, with a client of Milvus".into());
    }
    steps.push("point aliases and clients to the target; keep the source as it is, to go back to".into());
    steps.push(FURTHER.into());
    steps
}

const FURTHER: &str = "every step, and the way back: docs/cutover.md";

/// A command line that grows.
struct Line(String);

fn command(name: &str, url: &str) -> Line {
    Line(format!("milvus-handoff {name} {}", quoted(url)))
}

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0 = format!("{} {flag}", self.0);
    }

    fn value(&mut self, flag: &str, value: &str) {
        self.flag(flag);
        self.flag(&quoted(value));
    }

    fn bucket(&mut self, bucket: &BucketArgs) {
        if let Some(owner) = &bucket.expected_bucket_owner {
            self.value("--expected-bucket-owner", owner);
        }
        if bucket.requester_pays {
            self.flag("--requester-pays");
        }
    }

    fn file(&mut self, flag: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.value(flag, &path.display().to_string());
        }
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_shell() {
        assert_eq!(quoted("s3://b/p/n"), "s3://b/p/n");
        for word in ["", "logs.*", "it's", "a b", "$HOME", "`x`", "a\nb", "ü"] {
            let script = format!("printf %s {}", quoted(word));
            let said = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(said.stdout, word.as_bytes(), "{word}");
        }
    }
}
