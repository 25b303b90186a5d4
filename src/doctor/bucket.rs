//! A bucket or folder: every verb that is used there, by doing it.

use super::policy::{self, Role};
use super::{About, Checks, PROBE_SUFFIX, Place};
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::nesting;
use crate::opened::{self, Trust};
use crate::snapshot::{MAX_COMMIT_BYTES, keys};
use crate::store::{Body, Head, Put, SnapshotUrl, Store, printable};
use futures::stream::TryStreamExt;
use std::path::{Path, PathBuf};

/// A clock that is off by more is worth saying; S3 refuses requests from 15 minutes on.
const NOTED_SKEW: u64 = 60;
const REFUSED_SKEW: u64 = 15 * 60;

const ABOUT: About = About::Snapshot;

/// Looks at the place, as somebody who writes a snapshot there or only reads it.
pub(super) async fn check(place: &Place, writes: bool, checks: &mut Checks) {
    let before = checks.all.len();
    if writes {
        let made = folder_to_make(&place.url);
        let written = write(place, checks).await;
        if let Some(folder) = made {
            unmake(&folder, checks).await;
        }
        if written {
            vacancy(place, checks).await;
        }
    } else {
        read(place, checks).await;
    }
    clock(place, checks);
    let denied = |check: &super::Check| check.verdict == super::Verdict::Bad(Code::BucketDenied);
    if let SnapshotUrl::S3 { bucket, prefix } = &place.url
        && checks.all[before..].iter().any(denied)
    {
        let role = if writes { Role::Exporter } else { Role::Importer };
        checks.policy = Some(policy::text(role, bucket, prefix));
    }
}

/// The folder of the probe object, if it is not there yet and so will be made.
fn folder_to_make(url: &SnapshotUrl) -> Option<PathBuf> {
    match url.beside(PROBE_SUFFIX) {
        SnapshotUrl::File { path } if !path.exists() => Some(path),
        SnapshotUrl::File { .. } | SnapshotUrl::S3 { .. } => None,
    }
}

/// Removes the folder that the probe object was in, with what its store keeps there; never one with
/// something in it.
async fn unmake(folder: &Path, checks: &mut Checks) {
    let mut inner = match tokio::fs::read_dir(folder).await {
        Ok(inner) => inner,
        // Nothing could be made.
        Err(_) => return,
    };
    while let Ok(Some(entry)) = inner.next_entry().await {
        // One that is not an empty folder stays, and so does the one around it.
        let _ = tokio::fs::remove_dir(entry.path()).await;
    }
    if let Err(error) = tokio::fs::remove_dir(folder).await {
        let says = format!("the folder {} stays: {error}", printable(&folder.display().to_string()));
        checks.note(ABOUT, "delete", says, "remove it by hand");
    }
}

/// The verbs of an exporter, with one object that comes and goes. Gives whether it can write.
async fn write(place: &Place, checks: &mut Checks) -> bool {
    let store = place.probe.as_ref();
    let key = format!("probe-{}", uuid::Uuid::new_v4());
    let bytes = b"written by `milvus-handoff doctor`; it can be removed\n".to_vec();
    let digest = Sha256::of(&bytes);

    // 1. Put: without it nothing else matters. Also shows network, encryption and credentials.
    match store.put_new(&key, Body::Bytes(bytes.clone().into()), digest).await {
        Ok(Put::Created) => checks.good(ABOUT, "put", format!("{} takes objects", store.place())),
        Ok(Put::Exists) => {
            let error = Error::new(Code::BucketCannot, "a new object is called an old one");
            checks.bad(ABOUT, "put", &error.hint("use another bucket"));
            return false;
        }
        Err(error) => {
            checks.bad(ABOUT, name_of(&error, "put"), &error);
            return false;
        }
    }

    // 2. Create-only: the same name once more, with other bytes.
    let other = b"this must not be taken\n".to_vec();
    let again = store.put_new(&key, Body::Bytes(other.clone().into()), Sha256::of(&other)).await;
    let keeps = matches!(again, Ok(Put::Exists));
    match again {
        Ok(Put::Exists) => checks.good(ABOUT, "create-only", "an object that is there is not replaced"),
        Ok(Put::Created) => checks.note(
            ABOUT,
            "create-only",
            "the bucket ignores it: two exports to one name at the same time are not kept apart",
            "give every export a name of its own; an exporter here needs the right to read",
        ),
        Err(error) => checks.bad(ABOUT, "create-only", &error),
    }
    let (bytes, digest) = if keeps { (bytes, digest) } else { (other.clone(), Sha256::of(&other)) };

    // 3. Get and checksums.
    match store.get(&key, 1 << 10).await {
        Ok(Some(found)) if found == bytes => checks.good(ABOUT, "get", "what was put is read back"),
        Ok(_) => {
            let error = Error::new(Code::Integrity, "what was put is not what is read back");
            checks.bad(ABOUT, "get", &error.hint("use another bucket"));
        }
        Err(error) if error.kind() == ErrorKind::Denied && keeps => checks.note(
            ABOUT,
            "get",
            "not allowed: an interrupted export cannot go on, and nothing is looked at again",
            "allow s3:GetObject and s3:ListBucket, or leave it so: docs/policies.md has what is lost",
        ),
        Err(error) => checks.bad(ABOUT, "get", &error),
    }
    checksums(store.head(&key).await, digest, checks);

    // 4. List.
    listing(store, Some(&key), checks).await;

    // 5. Delete, which also cleans up.
    match store.delete(&key).await {
        Ok(()) => checks.good(ABOUT, "delete", "the probe object is removed"),
        Err(error) => checks.note(
            ABOUT,
            "delete",
            format!("the probe object stays at {}/{key} ({error})", store.place()),
            "remove it by hand; without s3:DeleteObject, a part of an interrupted export stays too",
        ),
    }
    true
}

fn checksums(head: Result<Option<Head>>, digest: Sha256, checks: &mut Checks) {
    match head {
        Ok(Some(Head { sha256: Some(found), .. })) if found == digest => {
            checks.good(ABOUT, "checksums", "the bucket returns the SHA-256 of what it holds");
        }
        Ok(Some(Head { sha256: Some(_), .. })) => {
            checks.note(ABOUT, "checksums", "the bucket returns wrong ones, so objects are read instead", "")
        }
        Ok(_) => checks.note(
            ABOUT,
            "checksums",
            "the bucket returns none: `verify --level head` can only compare sizes",
            "use `verify --level full`, which reads every byte",
        ),
        Err(error) if error.kind() == ErrorKind::Denied => {
            checks.note(ABOUT, "checksums", "may not be asked for", "");
        }
        Err(error) => checks.bad(ABOUT, "checksums", &error),
    }
}

/// Whether objects can be listed; `wanted` must be among them.
async fn listing(store: &dyn Store, wanted: Option<&str>, checks: &mut Checks) {
    let listed: Result<Vec<_>> = store.list().try_collect().await;
    match listed {
        Ok(entries) => match wanted.is_none_or(|key| entries.iter().any(|entry| entry.key == key)) {
            true => checks.good(ABOUT, "list", "objects are listed"),
            false => checks.note(ABOUT, "list", "a new object is not listed at once", ""),
        },
        Err(error) if error.kind() == ErrorKind::Denied => checks.note(
            ABOUT,
            "list",
            "not allowed: objects that are no part of the snapshot would not be seen",
            "allow s3:ListBucket, or leave it so: docs/policies.md has what is lost",
        ),
        Err(error) => checks.bad(ABOUT, name_of(&error, "list"), &error),
    }
}

/// Whether the snapshot's own prefix is free.
async fn vacancy(place: &Place, checks: &mut Checks) {
    let store = place.snapshot.as_ref();
    let taken = |what: &str| Error::new(Code::PrefixTaken, format!("{}: {what}", store.place()));
    match store.get(keys::COMMIT, MAX_COMMIT_BYTES).await {
        Ok(Some(_)) => {
            let error = taken("a committed snapshot is there");
            return checks.bad(ABOUT, "place", &error.hint("export under another name"));
        }
        Ok(None) => {}
        Err(error) if error.kind() == ErrorKind::Denied => {
            let says = "what is there may not be read; the export finds out";
            return checks.note(ABOUT, "place", says, "");
        }
        Err(error) => return checks.bad(ABOUT, "place", &error),
    }
    match store.head(keys::PLAN).await {
        Ok(Some(_)) => checks.note(
            ABOUT,
            "place",
            "an unfinished export is there",
            "the command that began it goes on with it; any other needs another name",
        ),
        Ok(None) => match (store.list().try_next().await, nesting::refuse_within(store).await) {
            (Ok(Some(entry)), _) => {
                let error = taken(&format!("it holds {}", entry.key));
                checks.bad(ABOUT, "place", &error.hint("give the snapshot a name of its own"));
            }
            (_, Err(error)) => checks.bad(ABOUT, "place", &error),
            (Ok(None), Ok(())) => checks.good(ABOUT, "place", format!("{} is free", store.place())),
            (Err(_), Ok(())) => checks.good(ABOUT, "place", format!("no snapshot is at {}", store.place())),
        },
        Err(error) => checks.bad(ABOUT, "place", &error),
    }
}

/// What an importer or auditor does: reads a snapshot. Nothing is written.
async fn read(place: &Place, checks: &mut Checks) {
    let store = place.snapshot.as_ref();
    let opened = match opened::open(store, &Trust::default()).await {
        Ok(opened) => opened,
        Err(error) => return checks.bad(ABOUT, name_of(&error, "get"), &error),
    };
    let says = format!("the snapshot {} is committed", opened.commit.id);
    checks.good(ABOUT, "get", says);
    checks.good(ABOUT, "digest", format!("sha256:{}", opened.digest));
    if let Some(part) = opened.manifest.parts().next() {
        checksums(store.head(&part.key).await, part.sha256, checks);
    }
    listing(store, None, checks).await;
}

/// This machine's clock against the bucket's, where it tells the time.
fn clock(place: &Place, checks: &mut Checks) {
    let Some(ahead) = place.probe.clock_ahead().or_else(|| place.snapshot.clock_ahead()) else { return };
    let off = ahead.unsigned_abs();
    let says = match ahead {
        0 => "as the bucket's".to_string(),
        1.. => format!("{off} s behind the bucket's"),
        _ => format!("{off} s ahead of the bucket's"),
    };
    let fix = "set this machine's clock; time synchronization keeps it so";
    if off >= REFUSED_SKEW {
        checks.bad(ABOUT, "clock", &Error::new(Code::Clock, says).hint(fix));
    } else if off >= NOTED_SKEW {
        checks.note(ABOUT, "clock", says, fix);
    } else {
        checks.good(ABOUT, "clock", says);
    }
}

/// What a failed first request is really about.
fn name_of(error: &Error, verb: &'static str) -> &'static str {
    match error.code() {
        Code::Unreachable => "network",
        Code::Tls => "encryption",
        Code::BucketCredentials | Code::Expired => "credentials",
        Code::Clock => "clock",
        Code::NoBucket | Code::Region | Code::Address => "bucket",
        Code::NoSnapshot | Code::NotCommitted => "place",
        _ => verb,
    }
}
