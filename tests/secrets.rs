//! Tokens and keys that nobody may see again: whatever a command does, and at the most verbose
//! level, they are not in its output, its logs, its errors, or the snapshot.

mod bucket;
mod fake;

use bucket::{Bucket, Fault, SECRET, Schedule, Verb};
use fake::source;
use std::process::{Output, Stdio};
use tokio::process::Command;

const TOKEN: &str = "root:canary-of-the-token-7f3a";
const SESSION: &str = "canary-of-the-session-token-91bc";

/// Every form in which a secret could slip out.
fn forms() -> Vec<(String, String)> {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut forms = Vec::new();
    let password = TOKEN.split_once(':').unwrap().1;
    for secret in [TOKEN, password, SECRET, SESSION] {
        forms.push((format!("{secret}, as it is"), secret.to_string()));
        forms.push((format!("{secret}, in base64"), base64.encode(secret)));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push((format!("{secret}, in hex"), hex));
        let percent = secret.replace(':', "%3A");
        forms.push((format!("{secret}, percent-encoded"), percent));
        // As Rust prints bytes for debugging.
        forms.push((format!("{secret}, as bytes"), format!("{:?}", secret.as_bytes())));
    }
    forms
}

fn no_secret(text: &[u8], what: &str) {
    let text = String::from_utf8_lossy(text);
    for (name, form) in forms() {
        assert!(!text.contains(&form), "{what} holds {name}");
    }
}

async fn run(bucket: &Bucket, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-handoff"));
    command
        .args(args)
        .env_clear()
        .envs(["PATH", "TMPDIR", "LD_LIBRARY_PATH"].iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
        .envs(bucket.env())
        .env("AWS_SESSION_TOKEN", SESSION)
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("XDG_STATE_HOME", std::env::temp_dir().join("milvus-handoff-none"))
        .env("MILVUS_HANDOFF_SOURCE_TOKEN", TOKEN)
        .env("MILVUS_HANDOFF_TARGET_TOKEN", TOKEN)
        .env("RUST_BACKTRACE", "full")
        .env("RUST_LOG", "trace")
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let what = format!("the output of {args:?} ({:?})", output.status.code());
    no_secret(&output.stdout, &what);
    no_secret(&output.stderr, &what);
    output
}

#[tokio::test]
async fn secrets_appear_nowhere() {
    let source = source::start(Some(TOKEN)).await;
    let bucket = Bucket::start().await;
    let url = Bucket::url();
    let export = ["-vv", "export", &url, "--source", &source.address, "--json"];
    let wrong = ("MILVUS_HANDOFF_SOURCE_TOKEN", "root:another-one");

    // Everything that can go wrong on the way, and then nothing.
    let nowhere = run(&bucket, &export, &[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")]).await;
    assert_eq!(nowhere.status.code(), Some(75));
    assert_eq!(run(&bucket, &export, &[wrong]).await.status.code(), Some(3));
    assert_eq!(
        run(&bucket, &export, &[("AWS_SECRET_ACCESS_KEY", "another-one")]).await.status.code(),
        Some(3)
    );
    let endpoint = format!("http://{TOKEN}@127.0.0.1:9");
    assert_eq!(run(&bucket, &export, &[("AWS_ENDPOINT_URL_S3", &endpoint)]).await.status.code(), Some(2));
    let server = format!("http://{TOKEN}@127.0.0.1:9");
    assert_eq!(run(&bucket, &["export", &url, "--source", &server], &[]).await.status.code(), Some(2));
    for kind in [Fault::InternalError, Fault::SlowDown, Fault::ResetBefore, Fault::ResetAfter] {
        let faults = Schedule { seed: 5, per_mille: 400, kinds: vec![kind], endless: true };
        bucket.rule(|rules| rules.faults = Some(faults));
        run(&bucket, &export, &[]).await;
        bucket.clear();
    }
    bucket.rule(|rules| rules.faults = None);
    bucket.rule(|rules| rules.denied = vec![Verb::Put]);
    assert_eq!(run(&bucket, &export, &[]).await.status.code(), Some(3));
    bucket.rule(|rules| rules.denied.clear());
    let done = run(&bucket, &export, &[]).await;
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));

    for (command, more) in [
        ("verify", vec!["--level", "full"]),
        ("inspect", vec!["--rows", "2"]),
        ("compare", vec!["--target", &source.address, "--level", "count"]),
        ("import", vec!["--target", &source.address, "--rename", "docs=other", "--plan"]),
        ("import", vec!["--target", "http://127.0.0.1:9"]),
    ] {
        let mut args = vec!["-vv", command, &url];
        args.extend(more);
        let ended = run(&bucket, &args, &[]).await;
        let nobody = args.contains(&"http://127.0.0.1:9");
        assert_eq!(ended.status.code(), Some(if nobody { 75 } else { 0 }), "{args:?}");
    }

    let objects = bucket.objects();
    assert!(objects.contains_key("COMMIT.json"));
    for (key, bytes) in &objects {
        no_secret(bytes, key);
        no_secret(key.as_bytes(), key);
        let text = String::from_utf8_lossy(bytes);
        for place in [&source.address, &bucket.endpoint] {
            assert!(!text.contains(place.trim_start_matches("http://")), "{key} says where it came from");
        }
    }
}
