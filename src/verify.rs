//! Verify: whether a snapshot is, byte for byte, what was committed; without any cluster.
//!
//! Owns: comparing what is in the bucket with what the manifest records, and naming every
//! difference. Does not own: reading commit and manifest (`opened`), or comparing with a server.

use crate::blocking::blocking;
use crate::digest::{Hasher, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::opened::{self, Opened, Trust};
use crate::progress::{Progress, Show};
use crate::signature::{self, State};
use crate::snapshot::{ObjectRef, keys, sums_document};
use crate::store::Store;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How closely to look. Each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Every object is there with its size, and nothing else is.
    List,
    /// The bucket's own SHA-256 of every object, where it returns one.
    Head,
    /// Every byte is read and hashed.
    Full,
}

impl Level {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::List => "list",
            Level::Head => "head",
            Level::Full => "full",
        }
    }
}

/// Heads are all waiting, so many at once.
const HEADS_AT_ONCE: usize = 32;

/// Something that is not as committed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a verification found.
pub struct Report {
    /// The snapshot.
    pub opened: Opened,
    /// How closely was looked.
    pub level: Level,
    /// Objects that were looked at as closely as the level says: not what is missing or has another size.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that the commit leads to, itself included, and the bytes of all others.
    pub committed: (u64, u64),
    /// Whether the bucket let its objects be listed. Where it did not, signatures and surplus objects
    /// could not be looked for.
    pub listed: bool,
    /// Objects whose content the bucket could not vouch for: only their size was compared.
    pub size_only: u64,
    /// Signatures of COMMIT.json, by object; without a listing only those of the trusted keys.
    pub signatures: Vec<signature::Found>,
    /// Everything that is not as committed, by key.
    pub problems: Vec<Problem>,
    /// What could not be checked, in words.
    pub notes: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// Verifies the snapshot in `store`. Differences in what the manifest leads to are collected, not
/// returned as an error; a commit or manifest that cannot be believed is an error.
pub async fn run(
    store: Arc<dyn Store>,
    level: Level,
    trust: &Trust,
    jobs: usize,
    show: Show,
) -> Result<Report> {
    // 1. The way from COMMIT.json to the manifest.
    let opened = opened::open(store.as_ref(), trust).await?;
    let objects = expected_objects(&opened);
    let bytes = objects.iter().map(|o| o.size).sum();
    let mut problems = Vec::new();
    let mut notes = Vec::new();

    // 2. What is there: nothing missing, nothing of another size, nothing else but signatures.
    let mut signatures = opened.signatures.clone();
    let mut listed_all = true;
    let mut missing = HashSet::new();
    match list(store.as_ref(), &objects).await {
        Ok(listed) => {
            problems.extend(listed.problems);
            missing = listed.missing;
            for object in listed.signatures {
                if signatures.iter().all(|known| known.object != object) {
                    let commit = &opened.commit_bytes;
                    signatures
                        .extend(signature::examine(store.as_ref(), &object, commit, &trust.keys).await?);
                }
            }
        }
        Err(e) if e.kind() == ErrorKind::Denied && level > Level::List => {
            listed_all = false;
            notes.push(format!(
                "objects could not be listed, so signatures and surplus objects could not be looked for ({e})"
            ));
        }
        Err(e) => return Err(e),
    }

    signatures.sort();
    problems.extend(signatures.iter().filter_map(|found| match &found.state {
        State::Invalid(why) => Some(problem(&found.object, why)),
        State::Valid(_) | State::Unchecked => None,
    }));

    // 3. The documents that follow from the manifest.
    problems.extend(sums(store.as_ref(), &opened).await?);

    // 4. Contents: by the bucket's digests, or by reading everything.
    let progress = match level {
        Level::Full => Progress::of_bytes("verify", bytes),
        Level::List | Level::Head => Progress::new("verify", None),
    };
    let mut size_only = 0;
    let looked: (u64, u64);
    if level > Level::List {
        let unlisted: Vec<_> =
            objects.iter().filter(|o| !problems.iter().any(|p| p.key == o.key)).cloned().collect();
        let contents = contents(store, unlisted, level, jobs, &progress);
        let found = progress.show(show, contents).await?;
        problems.extend(found.problems);
        size_only = found.size_only;
        looked = (found.objects, found.bytes);
        if size_only > 0 {
            notes.push(format!(
                "the bucket returns no SHA-256 for {size_only} objects, so only their size was compared; `--level full` reads them"
            ));
        }
        if found.wrong_digests > 0 {
            notes.push(format!(
                "the bucket returns a wrong SHA-256 for {} objects; they were read and are as committed",
                found.wrong_digests
            ));
        }
    } else {
        let there = objects.iter().filter(|o| !missing.contains(&o.key));
        looked = there.fold((0, 0), |(objects, bytes), o| (objects + 1, bytes + o.size));
    }
    problems.sort();
    Ok(Report {
        level,
        objects: looked.0 + 1,
        bytes: looked.1,
        committed: (objects.len() as u64 + 1, bytes),
        listed: listed_all,
        size_only,
        signatures,
        problems,
        notes,
        seconds: progress.elapsed().as_secs_f64(),
        opened,
    })
}

/// All objects that the commit leads to, COMMIT.json itself excepted.
fn expected_objects(opened: &Opened) -> Vec<ObjectRef> {
    let mut objects = vec![opened.commit.manifest.clone(), opened.commit.sums.clone()];
    objects.extend(opened.manifest.bookkeeping.iter().cloned());
    objects.extend(opened.manifest.parts().map(|p| ObjectRef {
        key: p.key.clone(),
        size: p.size,
        sha256: p.sha256,
    }));
    objects
}

fn problem(key: &str, problem: impl Into<String>) -> Problem {
    Problem { key: key.to_string(), problem: problem.into() }
}

fn size_problem(object: &ObjectRef, found: u64) -> Option<Problem> {
    (found != object.size)
        .then(|| problem(&object.key, format!("it has {found} bytes, committed were {}", object.size)))
}

/// What a listing gave.
struct Listed {
    problems: Vec<Problem>,
    /// Objects that are not there.
    missing: HashSet<String>,
    /// Objects that have the names of signatures.
    signatures: Vec<String>,
}

async fn list(store: &dyn Store, objects: &[ObjectRef]) -> Result<Listed> {
    let mut missing: HashMap<&str, &ObjectRef> = objects.iter().map(|o| (o.key.as_str(), o)).collect();
    let mut problems = Vec::new();
    let mut signatures = Vec::new();
    let mut listed = store.list();
    while let Some(entry) = listed.try_next().await? {
        match missing.remove(entry.key.as_str()) {
            Some(object) => problems.extend(size_problem(object, entry.size)),
            None if entry.key == keys::COMMIT => {}
            None if keys::is_signature(&entry.key) => signatures.push(entry.key),
            None if store.head(&entry.key).await?.is_none() => {} // Deleted; the listing lags.
            None => problems.push(problem(&entry.key, "it is not part of the snapshot")),
        }
    }
    // Listings of some buckets lag behind what can be read.
    let look = |object: &ObjectRef| {
        let object = object.clone();
        async move {
            let found = store.head(&object.key).await?;
            Ok::<_, Error>((object, found))
        }
    };
    let unlisted: Vec<_> = missing.into_values().map(look).collect();
    let looked: Vec<_> = stream::iter(unlisted).buffer_unordered(HEADS_AT_ONCE).try_collect().await?;
    let mut absent = HashSet::new();
    for (object, found) in looked {
        match found {
            Some(head) => problems.extend(size_problem(&object, head.size)),
            None => {
                problems.push(problem(&object.key, "it is missing"));
                absent.insert(object.key);
            }
        }
    }
    Ok(Listed { problems, missing: absent, signatures })
}

/// SHA256SUMS must be what the manifest says, since people check with it instead of with us.
async fn sums(store: &dyn Store, opened: &Opened) -> Result<Option<Problem>> {
    let due = sums_document(&opened.commit.manifest, &opened.manifest);
    if ObjectRef::to(keys::SUMS, &due) != opened.commit.sums {
        return Ok(Some(problem(keys::SUMS, "COMMIT.json and manifest.json disagree about it")));
    }
    let found = match store.get(keys::SUMS, due.len() as u64).await {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::Integrity => None,
        Err(e) => return Err(e),
    };
    Ok(match found {
        Some(found) if found == due => None,
        Some(_) => Some(problem(keys::SUMS, "it does not say what the manifest says")),
        // Listing names it, or a size problem does.
        None => None,
    })
}

/// What looking at contents gave.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    /// Objects that were looked at to their end.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// Objects whose content the bucket could not vouch for.
    size_only: u64,
    /// Objects that are as committed although the bucket returns another digest.
    wrong_digests: u64,
}

/// Looks at every object. Where the bucket returns another digest than was committed, the object
/// is read: some buckets return wrong ones.
async fn contents(
    store: Arc<dyn Store>,
    objects: Vec<ObjectRef>,
    level: Level,
    jobs: usize,
    progress: &Progress,
) -> Result<Found> {
    let look = |object: ObjectRef| {
        let store = store.clone();
        async move {
            let asked = match level {
                Level::Full => None,
                Level::List | Level::Head => Some(content_by_head(store.as_ref(), &object).await?),
            };
            let settles = matches!(asked, Some(Content::OtherDigest(_)));
            let looked = match asked {
                Some(content) if !settles => {
                    let whole = !matches!(content, Content::Wrong(_));
                    Looked { content, whole }
                }
                _ => read_through(store, &object, progress).await?,
            };
            Ok::<_, Error>((object.size, looked, settles))
        }
    };
    // Reading is work.
    let at_once = if level == Level::Full { jobs } else { HEADS_AT_ONCE };
    let mut looked = stream::iter(objects).map(look).buffer_unordered(at_once);
    let mut found = Found::default();
    while let Some((size, looked, settled)) = looked.try_next().await? {
        if looked.whole {
            found.objects += 1;
            found.bytes += size;
        }
        match looked.content {
            Content::Proven => found.wrong_digests += u64::from(settled),
            Content::SizeOnly => found.size_only += 1,
            Content::OtherDigest(problem) | Content::Wrong(problem) => found.problems.push(problem),
        }
    }
    Ok(found)
}

/// What is known of an object's content.
pub enum Content {
    /// Its SHA-256 is the one recorded.
    Proven,
    /// Its size is the one recorded, and the bucket returns no digest.
    SizeOnly,
    /// Its size is the one recorded, and the bucket returns another digest. Some buckets return
    /// wrong ones.
    OtherDigest(Problem),
    /// It is not what was committed.
    Wrong(Problem),
}

/// Asks the bucket for size and digest.
pub async fn content_by_head(store: &dyn Store, object: &ObjectRef) -> Result<Content> {
    let Some(head) = store.head(&object.key).await? else {
        return Ok(Content::Wrong(problem(&object.key, "it is missing")));
    };
    if let Some(wrong) = size_problem(object, head.size) {
        return Ok(Content::Wrong(wrong));
    }
    Ok(match head.sha256 {
        None => Content::SizeOnly,
        Some(found) if found == object.sha256 => Content::Proven,
        Some(found) => Content::OtherDigest(digest_problem(object, found)),
    })
}

/// Reads and hashes the object.
pub async fn content_by_reading(
    store: Arc<dyn Store>,
    object: &ObjectRef,
    progress: &Progress,
) -> Result<Content> {
    Ok(read_through(store, object, progress).await?.content)
}

/// What looking at one object gave.
struct Looked {
    content: Content,
    /// Whether all of it was looked at: not where it is missing, or has another size.
    whole: bool,
}

async fn read_through(store: Arc<dyn Store>, object: &ObjectRef, progress: &Progress) -> Result<Looked> {
    let broken = |problem| Looked { content: Content::Wrong(problem), whole: false };
    let Some(mut chunks) = store.read(&object.key).await? else {
        return Ok(broken(problem(&object.key, "it is missing")));
    };
    let mut hasher = Hasher::default();
    let mut size = 0;
    while let Some(chunk) = chunks.try_next().await? {
        size += chunk.len() as u64;
        if size > object.size {
            let what = format!("it has more than the committed {} bytes", object.size);
            return Ok(broken(problem(&object.key, what)));
        }
        progress.add(0, chunk.len() as u64);
        hasher = blocking(move || {
            hasher.update(&chunk);
            Ok(hasher)
        })
        .await?;
    }
    if let Some(wrong) = size_problem(object, size) {
        return Ok(broken(wrong));
    }
    let found = hasher.finish();
    let content = match found == object.sha256 {
        true => Content::Proven,
        false => Content::Wrong(digest_problem(object, found)),
    };
    Ok(Looked { content, whole: true })
}

fn digest_problem(object: &ObjectRef, found: Sha256) -> Problem {
    problem(&object.key, format!("its sha256 is {found}, committed was {}", object.sha256))
}
