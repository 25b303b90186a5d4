//! A folder as a bucket.
//!
//! Owns: durable create-only files below one folder, their listing, and the spool folder beside
//! them. Does not own: creating the folder's parents (a typo must not grow a tree), checking
//! digests of what is read (callers know the expected one), or locking against people who move
//! files by hand while it works.
//!
//! A put is: write to the spool, fsync, rename to the final name unless that exists, fsync every
//! folder on the way down. So an object is there as a whole or not at all, also after a power
//! cut. Symlinks and everything else that is not a plain file or folder are refused, not followed
//! and not skipped: a snapshot holds none, and one that points outside would let whoever wrote
//! the folder choose what is read.

use super::{Body, Entry, Head, Put, SnapshotUrl, Store, check_key, printable, too_large};
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Unfinished files, in the snapshot's own folder because a rename must not cross file systems.
/// The one name that listings leave out.
const SPOOL: &str = ".spool";

/// How much one step of [`Store::read`] reads.
const CHUNK: u64 = 1 << 20;

/// A spool file of another machine is taken for abandoned after this time without a write. The
/// worst that a wrong guess does is to fail the put of a run that slept for a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A local store. Cheap to hand to blocking threads.
pub(super) struct Local(Arc<Folder>);

struct Folder {
    root: PathBuf,
    swept: AtomicBool,
}

impl Local {
    /// Opens the folder `path`, which need not exist yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let folder = Folder { root: path.to_owned(), swept: AtomicBool::new(false) };
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(Code::Address, format!("{} is not a folder", folder.name()))
                    .hint("name a folder that holds a snapshot, or one that does not exist yet"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::new(Code::Address, format!("{} leads through a file", folder.name()))
                    .hint("correct the path"));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(failed(format!("cannot open {}", folder.name()), error));
            }
            // Whatever else is wrong with it shows, with more context, at the first use.
            _ => {}
        }
        Ok(Local(Arc::new(folder)))
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = Arc::clone(&self.0);
        joined(tokio::task::spawn_blocking(move || work(&folder)).await)?
    }
}

#[async_trait]
impl Store for Local {
    fn place(&self) -> String {
        self.0.name()
    }

    fn spool(&self) -> Result<NamedTempFile> {
        self.0.spool()
    }

    async fn put_new(&self, key: &str, body: Body, sha256: Sha256) -> Result<Put> {
        let key = key.to_owned();
        self.blocking(move |folder| folder.put_new(&key, body, sha256)).await
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<Bytes>> {
        let key = key.to_owned();
        self.blocking(move |folder| folder.get(&key, max_bytes)).await
    }

    async fn read(&self, key: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let (name, owned) = (self.0.object(key), key.to_owned());
        let opened = self.blocking(move |folder| folder.open(&owned)).await?;
        Ok(opened.map(|(file, _)| chunks(name, file)))
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        let key = key.to_owned();
        let found = self.blocking(move |folder| folder.find(&key)).await?;
        Ok(found.map(|(_, about)| Head { size: about.len(), sha256: None }))
    }

    async fn above(&self, names: &[&'static str]) -> Result<Option<(String, &'static str)>> {
        let names = names.to_vec();
        self.blocking(move |folder| folder.above(&names)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.blocking(move |folder| folder.delete(&key)).await
    }

    fn list(&self) -> BoxStream<'_, Result<Entry>> {
        // One folder per step: memory is bounded by the widest folder, not by the snapshot.
        stream::unfold(vec![String::new()], move |mut pending| async move {
            let below = pending.pop()?;
            let listed = self.blocking(move |folder| folder.list_one(&below)).await;
            let entries = match listed {
                Ok((entries, folders)) => {
                    pending.extend(folders);
                    entries
                }
                Err(error) => vec![Err(error)],
            };
            Some((stream::iter(entries), pending))
        })
        .flatten()
        .boxed()
    }
}

impl Folder {
    /// The folder as people know it, safe to print.
    fn name(&self) -> String {
        printable(&SnapshotUrl::File { path: self.root.clone() }.to_string())
    }

    fn object(&self, key: &str) -> String {
        format!("{} in {}", printable(key), self.name())
    }

    // Writing.

    fn put_new(&self, key: &str, body: Body, sha256: Sha256) -> Result<Put> {
        check(key)?;
        let what = || format!("cannot put {}", self.object(key));
        let file = match body {
            Body::File(file) => file,
            Body::Bytes(bytes) => {
                // A bucket would refuse a wrong digest; a folder must not be laxer.
                if Sha256::of(&bytes) != sha256 {
                    return Err(Error::internal(format!(
                        "{}: its bytes do not have the digest {sha256}",
                        what()
                    )));
                }
                let mut file = self.spool()?;
                file.write_all(&bytes).map_err(|error| failed(what(), error))?;
                file
            }
        };
        file.as_file().sync_all().map_err(|error| failed(what(), error))?;
        self.make_root()?;
        let parents = self.make_parents(key)?;
        match file.persist_noclobber(self.root.join(key)) {
            Ok(_) => {}
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return Ok(Put::Exists),
            Err(refused) => return Err(failed(what(), refused.error)),
        }
        // The rename is durable once its folder is, and that folder once its parent is. Another
        // task may have made a parent and not synced it yet, so every put syncs them all; on
        // folders that did not change this costs next to nothing.
        for folder in
            parents.iter().rev().map(PathBuf::as_path).chain([self.root.as_path()]).chain(self.root.parent())
        {
            sync_folder(folder).map_err(|error| failed(what(), error))?;
        }
        Ok(Put::Created)
    }

    fn delete(&self, key: &str) -> Result<()> {
        // Finding it first refuses what a link or another kind of file pretends to be.
        if self.find(key)?.is_none() {
            return Ok(());
        }
        fs::remove_file(self.root.join(key))
            .map_err(|error| failed(format!("cannot remove {}", self.object(key)), error))
    }

    /// Makes the snapshot's own folder, but never that folder's parents.
    fn make_root(&self) -> Result<()> {
        match fs::create_dir(&self.root) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_parent(),
            Err(error) => Err(failed(format!("cannot create {}", self.name()), error)),
        }
    }

    /// The parent stands for the bucket: without it there is no place, not merely no snapshot.
    fn check_parent(&self) -> Result<()> {
        let parent = self.root.parent().unwrap_or(&self.root);
        match fs::metadata(parent) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = printable(&parent.to_string_lossy());
                let message = format!("the folder {parent} of {} does not exist", self.name());
                Err(Error::new(Code::NoBucket, message)
                    .hint("correct the path, or create that folder; only its last part is created for you"))
            }
            Err(error) => Err(failed(format!("cannot open {}", self.name()), error)),
        }
    }

    /// Makes the folders between the root and the object; returns them, outermost first.
    fn make_parents(&self, key: &str) -> Result<Vec<PathBuf>> {
        let mut path = self.root.clone();
        let mut parents = Vec::new();
        let Some((folders, _)) = key.rsplit_once('/') else { return Ok(parents) };
        for segment in folders.split('/') {
            path.push(segment);
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let found = fs::symlink_metadata(&path);
                    let found =
                        found.map_err(|error| failed(format!("cannot put {}", self.object(key)), error))?;
                    if !found.is_dir() {
                        return Err(self.strange(&self.key_of(&path), &found));
                    }
                }
                Err(error) => return Err(failed(format!("cannot put {}", self.object(key)), error)),
            }
            parents.push(path.clone());
        }
        Ok(parents)
    }

    // The spool.

    fn spool(&self) -> Result<NamedTempFile> {
        let what = || format!("cannot create a spool file in {}", self.name());
        self.make_root()?;
        let folder = self.root.join(SPOOL);
        // Another process may remove the spool folder as empty, or sweep the new file before it
        // is locked. Both are rare; losing this race many times in a row is not a race.
        for _ in 0..16 {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(what(), error));
                }
                _ => {}
            }
            let about = match fs::symlink_metadata(&folder) {
                Ok(about) => about,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(what(), error)),
            };
            if !about.is_dir() {
                return Err(self.strange(SPOOL, &about));
            }
            let file = match spool_file(&folder) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(what(), error)),
            };
            // The lock says that this process lives. A file system without locks leaves files
            // to be judged by their age, so an error here is not one.
            let _ = file.as_file().lock();
            if !file.path().exists() {
                continue;
            }
            if !self.swept.swap(true, Ordering::Relaxed) {
                sweep(&folder, &file);
            }
            return Ok(file);
        }
        Err(Error::new(Code::Disk, format!("{}: it is removed again and again", what()))
            .hint("something cleans this folder; stop that and run the same command again"))
    }

    // Reading.

    /// Finds the object of `key`. `None` if there is none; anything but a plain file in plain
    /// folders is an integrity error.
    fn find(&self, key: &str) -> Result<Option<(PathBuf, Metadata)>> {
        check(key)?;
        let mut path = self.root.clone();
        let mut segments = key.split('/').peekable();
        while let Some(segment) = segments.next() {
            path.push(segment);
            let found = match fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.check_parent()?;
                    return Ok(None);
                }
                Err(error) => return Err(failed(format!("cannot read {}", self.object(key)), error)),
            };
            match segments.peek() {
                Some(_) if found.is_dir() => {}
                None if found.is_file() => return Ok(Some((path, found))),
                _ => return Err(self.strange(&self.key_of(&path), &found)),
            }
        }
        Err(Error::internal("a key without segments passed the check"))
    }

    /// [`Store::above`]; links on the way are followed too, since what is put lies where they lead.
    fn above(&self, names: &[&'static str]) -> Result<Option<(String, &'static str)>> {
        let mut folders: Vec<_> = self.root.ancestors().skip(1).map(Path::to_owned).collect();
        if let Some(real) = folders.iter().find_map(|folder| fs::canonicalize(folder).ok()) {
            folders.extend(real.ancestors().map(Path::to_owned));
        }
        for folder in folders {
            for name in names {
                match fs::symlink_metadata(folder.join(name)) {
                    Ok(found) if found.is_file() => {
                        let place = SnapshotUrl::File { path: folder }.to_string();
                        return Ok(Some((printable(&place), name)));
                    }
                    // What may not be seen is passed over; a path that cannot be used shows at its first use.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    fn open(&self, key: &str) -> Result<Option<(File, u64)>> {
        let Some((path, _)) = self.find(key)? else { return Ok(None) };
        let opened = File::open(path).and_then(|file| file.metadata().map(|about| (file, about.len())));
        opened.map(Some).map_err(|error| failed(format!("cannot read {}", self.object(key)), error))
    }

    fn get(&self, key: &str, max_bytes: u64) -> Result<Option<Bytes>> {
        let Some((file, size)) = self.open(key)? else { return Ok(None) };
        if size > max_bytes {
            return Err(too_large(key, self.name(), Some(size), max_bytes));
        }
        let mut bytes = Vec::new();
        // One byte more than allowed shows a file that grew after its size was asked for.
        let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| failed(format!("cannot read {}", self.object(key)), error))?;
        if bytes.len() as u64 > max_bytes {
            return Err(too_large(key, self.name(), None, max_bytes));
        }
        Ok(Some(bytes.into()))
    }

    /// The objects directly in the folder `below` (a key, or empty for the root), and its folders.
    #[allow(clippy::type_complexity)] // two lists that are taken apart at once
    fn list_one(&self, below: &str) -> Result<(Vec<Result<Entry>>, Vec<String>)> {
        let what = || format!("cannot list {}", self.object(if below.is_empty() { "." } else { below }));
        let listing = match fs::read_dir(self.root.join(below)) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_parent()?;
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(failed(what(), error)),
        };
        let (mut entries, mut folders) = (Vec::new(), Vec::new());
        for found in listing {
            let found = found.map_err(|error| failed(what(), error))?;
            let Ok(name) = found.file_name().into_string() else {
                let name = printable(&found.file_name().to_string_lossy());
                let message = format!("a name in {} is not UTF-8: {name}", self.name());
                entries.push(Err(Error::new(ErrorKind::Integrity, message).hint(FOREIGN)));
                continue;
            };
            if below.is_empty() && name == SPOOL {
                continue;
            }
            let key = if below.is_empty() { name } else { format!("{below}/{name}") };
            // `DirEntry::metadata` does not follow symlinks.
            let about = match found.metadata() {
                Ok(about) => about,
                Err(error) => {
                    entries.push(Err(failed(format!("cannot list {}", self.object(&key)), error)));
                    continue;
                }
            };
            match check_key(&key) {
                Err(error) => entries.push(Err(error)),
                Ok(()) if about.is_dir() => folders.push(key),
                Ok(()) if about.is_file() => entries.push(Ok(Entry { key, size: about.len() })),
                Ok(()) => entries.push(Err(self.strange(&key, &about))),
            }
        }
        Ok((entries, folders))
    }

    // Refusing.

    fn key_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn strange(&self, key: &str, about: &Metadata) -> Error {
        let kind = if about.is_symlink() {
            "a symbolic link"
        } else if about.is_dir() {
            "a folder where a file belongs"
        } else if about.is_file() {
            "a file where a folder belongs"
        } else {
            "neither a file nor a folder"
        };
        Error::new(ErrorKind::Integrity, format!("{} is {kind}", self.object(key))).hint(FOREIGN)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Succeeds only when it is empty, that is, when nobody spools here any more.
        let _ = fs::remove_dir(self.root.join(SPOOL));
    }
}

const FOREIGN: &str = "a snapshot holds plain files only and milvus-handoff wrote no such thing; \
                       find out who put it there, and restore the snapshot from a copy that verifies";

fn check(key: &str) -> Result<()> {
    check_key(key)?;
    if key.split('/').next() == Some(SPOOL) {
        return Err(Error::new(
            ErrorKind::Integrity,
            format!("`{}` names a spool file, not an object", printable(key)),
        ));
    }
    Ok(())
}

/// A file in `folder` whose name says which running kernel made it, because only under one and
/// the same kernel do locks tell the living from the dead.
fn spool_file(folder: &Path) -> io::Result<NamedTempFile> {
    let prefix = format!("{}-", boot());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp").rand_bytes(8);
    // Others are to read what becomes of it; the umask still takes away what it takes away.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Removes what crashed runs left in the spool. `fresh` was just made, so its time is the file
/// system's own now, whatever this machine's clock says. Failing to clean is no failure.
fn sweep(folder: &Path, fresh: &NamedTempFile) {
    let Ok(now) = fresh.as_file().metadata().and_then(|about| about.modified()) else { return };
    let Ok(listing) = fs::read_dir(folder) else { return };
    let ours = boot();
    for found in listing.flatten() {
        let path = found.path();
        let Ok(about) = found.metadata() else { continue };
        if path == fresh.path() || !about.is_file() {
            continue;
        }
        let name = found.file_name();
        let local = !ours.is_empty() && name.to_string_lossy().split('-').next() == Some(&ours);
        let old =
            about.modified().is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > ABANDONED));
        // The lock is held until the file is gone: whoever made it a moment ago and waits for
        // the lock then sees that it is gone, and makes another.
        let lock = local.then(|| OpenOptions::new().write(true).open(&path));
        let dead = match &lock {
            Some(Ok(file)) => file.try_lock().is_ok(),
            Some(Err(_)) => false,
            None => old,
        };
        if dead {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Names this run of this machine's kernel; empty where the system has no such name.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().filter(char::is_ascii_hexdigit).take(12).collect()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network and user-space file systems cannot sync a folder and say so.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

/// The rest of `file`, one chunk read ahead of the consumer.
fn chunks(name: String, file: File) -> BoxStream<'static, Result<Bytes>> {
    let next = |file: File| {
        tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK as usize);
            (&file).take(CHUNK).read_to_end(&mut chunk).map(|_| (Bytes::from(chunk), file))
        })
    };
    stream::try_unfold(next(file), move |pending| {
        let name = name.clone();
        async move {
            let read = joined(pending.await)?;
            let (chunk, file) = read.map_err(|error| failed(format!("cannot read {name}"), error))?;
            Ok(if chunk.is_empty() { None } else { Some((chunk, next(file))) })
        }
    })
    .boxed()
}

/// What a blocking task returned; its panic goes on here.
fn joined<T>(result: std::result::Result<T, tokio::task::JoinError>) -> Result<T> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::internal("a file operation was cancelled"),
    })
}

/// Says what a failed file operation means for the user.
fn failed(what: String, error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (code, hint) = match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (
            Code::BucketDenied,
            "give the user who runs milvus-handoff access to this folder, or name another one",
        ),
        Io::StorageFull | Io::QuotaExceeded => {
            (Code::Disk, "make room and run the same command again; what is stored already is kept")
        }
        Io::FileTooLarge | Io::InvalidFilename | Io::Unsupported => {
            (Code::BucketCannot, "this file system cannot hold the snapshot; name a folder on another one")
        }
        Io::NotADirectory | Io::IsADirectory => (Code::Integrity, FOREIGN),
        Io::NotFound => (Code::Disk, "something removed it meanwhile; run the same command again"),
        Io::CrossesDevices => {
            (Code::BucketCannot, "nothing below the snapshot's folder may be a mount of its own")
        }
        _ => (Code::Disk, "check the disk or mount, then run the same command again"),
    };
    Error::new(code, what).because(error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use std::time::SystemTime;
    use tempfile::TempDir;

    struct Fixture {
        root: PathBuf,
        store: Local,
        above: TempDir,
    }

    fn fixture() -> Fixture {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("snap");
        Fixture { store: Local::open(&root).unwrap(), root, above }
    }

    async fn put(store: &Local, key: &str, bytes: &'static [u8]) -> Result<Put> {
        store.put_new(key, Body::Bytes(Bytes::from_static(bytes)), Sha256::of(bytes)).await
    }

    async fn keys(store: &Local) -> Vec<String> {
        let mut keys: Vec<String> = store.list().map_ok(|entry| entry.key).try_collect().await.unwrap();
        keys.sort();
        keys
    }

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().unwrap().kind()
    }

    #[tokio::test]
    async fn what_is_put_is_read_listed_and_never_replaced() {
        let Fixture { root, store, above: _above } = fixture();
        assert!(!root.exists(), "opening creates nothing");
        assert_eq!(keys(&store).await, [""; 0]);
        assert_eq!(store.get("COMMIT.json", 10).await.unwrap(), None);
        assert_eq!(store.head("a/b").await.unwrap(), None);
        assert!(store.read("a/b").await.unwrap().is_none());
        assert!(!root.exists(), "reading creates nothing");

        assert_eq!(put(&store, "COMMIT.json", b"one").await.unwrap(), Put::Created);
        assert_eq!(put(&store, "COMMIT.json", b"two").await.unwrap(), Put::Exists);
        assert_eq!(put(&store, "data/a b/\u{fc}/x", b"").await.unwrap(), Put::Created);
        assert_eq!(store.get("COMMIT.json", 3).await.unwrap().unwrap(), "one");
        assert_eq!(kind(store.get("COMMIT.json", 2).await), ErrorKind::Integrity);
        assert_eq!(store.head("COMMIT.json").await.unwrap(), Some(Head { size: 3, sha256: None }));
        assert_eq!(store.get("data/a b/\u{fc}/x", 0).await.unwrap().unwrap(), "");
        assert_eq!(keys(&store).await, ["COMMIT.json", "data/a b/\u{fc}/x"]);

        let wrong = store.put_new("y", Body::Bytes(Bytes::from_static(b"y")), Sha256::of(b"z")).await;
        assert_eq!(kind(wrong), ErrorKind::Internal);
        assert_eq!(store.get("y", 10).await.unwrap(), None);
        drop(store);
        assert!(!root.join(SPOOL).exists(), "the empty spool goes when the store does");
    }

    #[tokio::test]
    async fn a_part_moves_from_the_spool_and_streams_back() {
        let Fixture { root, store, above: _above } = fixture();
        let bytes: Vec<u8> = (0..3 * CHUNK as usize + 7).map(|i| (i * 31 % 251) as u8).collect();
        let mut file = store.spool().unwrap();
        file.write_all(&bytes).unwrap();
        let spooled = file.path().to_owned();
        assert!(spooled.starts_with(root.join(SPOOL)));
        assert_eq!(keys(&store).await, [""; 0], "spooled is not stored");

        assert_eq!(
            store.put_new("data/p", Body::File(file), Sha256::of(&bytes)).await.unwrap(),
            Put::Created
        );
        assert!(!spooled.exists());
        let chunks: Vec<Bytes> = store.read("data/p").await.unwrap().unwrap().try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() as u64 <= CHUNK));
        assert_eq!(chunks.concat(), bytes);

        let mut file = store.spool().unwrap();
        file.write_all(b"other").unwrap();
        let spooled = file.path().to_owned();
        assert_eq!(
            store.put_new("data/p", Body::File(file), Sha256::of(b"other")).await.unwrap(),
            Put::Exists
        );
        assert!(!spooled.exists());
        assert_eq!(store.head("data/p").await.unwrap().unwrap().size, bytes.len() as u64);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn objects_are_readable_by_whom_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let Fixture { root, store, above } = fixture();
        put(&store, "x", b"x").await.unwrap();
        fs::write(above.path().join("plain"), "").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(root.join("x")), mode(above.path().join("plain")));
    }

    #[tokio::test]
    async fn of_many_writers_one_wins() {
        let Fixture { store, above: _above, .. } = fixture();
        let bodies: [&[u8]; 8] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"];
        let puts = futures::future::join_all(bodies.map(|body| put(&store, "a/b/COMMIT.json", body))).await;
        let won: Vec<usize> = (0..8).filter(|i| *puts[*i].as_ref().unwrap() == Put::Created).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(store.get("a/b/COMMIT.json", 1).await.unwrap().unwrap(), bodies[won[0]]);
    }

    #[tokio::test]
    async fn parents_of_the_snapshot_are_not_made() {
        let above = tempfile::tempdir().unwrap();
        let store = Local::open(&above.path().join("typo/snap")).unwrap();
        for result in [
            put(&store, "x", b"x").await.map(drop),
            store.spool().map(drop),
            store.get("x", 1).await.map(drop),
            store.head("x").await.map(drop),
            store.list().try_collect::<Vec<_>>().await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.hint_text().unwrap().contains("create that folder"));
        }
        assert!(!above.path().join("typo").exists());
    }

    #[tokio::test]
    async fn a_file_is_not_a_snapshot_folder() {
        let above = tempfile::tempdir().unwrap();
        fs::write(above.path().join("file"), "").unwrap();
        assert_eq!(kind(Local::open(&above.path().join("file"))), ErrorKind::Usage);
        assert_eq!(kind(Local::open(&above.path().join("file/snap"))), ErrorKind::Usage);
    }

    #[tokio::test]
    async fn keys_do_not_leave_the_folder() {
        let Fixture { store, above, .. } = fixture();
        fs::write(above.path().join("secret"), "secret").unwrap();
        put(&store, "x", b"x").await.unwrap();
        for key in
            ["../secret", "a/../../secret", "/etc/hostname", "", "a//b", ".spool/x", ".spool", "a\\b", "a\nb"]
        {
            assert_eq!(kind(store.get(key, 100).await), ErrorKind::Integrity, "{key:?}");
            assert_eq!(kind(store.read(key).await), ErrorKind::Integrity, "{key:?}");
            assert_eq!(kind(store.head(key).await), ErrorKind::Integrity, "{key:?}");
            assert_eq!(kind(put(&store, key, b"x").await), ErrorKind::Integrity, "{key:?}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn symlinks_and_other_oddities_are_reported() {
        use std::os::unix::fs::symlink;
        let Fixture { root, store, above } = fixture();
        fs::write(above.path().join("secret"), "secret").unwrap();
        put(&store, "data/fine", b"x").await.unwrap();
        symlink(above.path().join("secret"), root.join("COMMIT.json")).unwrap();
        symlink(above.path(), root.join("units")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        fs::create_dir(root.join("manifest.json")).unwrap();

        for key in ["COMMIT.json", "units/secret", "socket", "manifest.json", "data/fine/x"] {
            assert_eq!(kind(store.get(key, 100).await), ErrorKind::Integrity, "{key}");
            assert_eq!(kind(store.read(key).await), ErrorKind::Integrity, "{key}");
            assert_eq!(kind(store.head(key).await), ErrorKind::Integrity, "{key}");
        }
        assert_eq!(kind(put(&store, "units/new", b"x").await), ErrorKind::Integrity);
        assert!(!above.path().join("new").exists());
        assert_eq!(put(&store, "COMMIT.json", b"x").await.unwrap(), Put::Exists);
        assert_eq!(fs::read(above.path().join("secret")).unwrap(), b"secret");

        let listed: Vec<Result<Entry>> = store.list().collect().await;
        let mut problems: Vec<String> = Vec::new();
        let mut entries = Vec::new();
        for entry in listed {
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Integrity);
                    problems.push(error.to_string());
                }
            }
        }
        assert_eq!(entries, [Entry { key: "data/fine".into(), size: 1 }], "the rest is still listed");
        problems.sort();
        assert_eq!(problems.len(), 3);
        assert!(
            problems[0].starts_with("COMMIT.json in file:///") && problems[0].ends_with("is a symbolic link")
        );
        assert!(problems[1].contains("socket") && problems[1].ends_with("is neither a file nor a folder"));
        assert!(problems[2].starts_with("units in"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn names_that_no_key_has_are_reported() {
        use std::os::unix::ffi::OsStrExt;
        let Fixture { root, store, above: _above } = fixture();
        fs::create_dir(&root).unwrap();
        for name in [&b"a\nb"[..], b"a\\b", b"\xff"] {
            fs::write(root.join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        }
        let listed: Vec<Result<Entry>> = store.list().collect().await;
        assert_eq!(listed.len(), 3);
        for entry in listed {
            let error = entry.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[tokio::test]
    async fn only_the_spool_of_the_top_is_left_out() {
        let Fixture { root, store, above: _above } = fixture();
        put(&store, "x", b"x").await.unwrap();
        fs::create_dir_all(root.join("data/.spool")).unwrap();
        fs::write(root.join("data/.spool/y"), "y").unwrap();
        fs::write(root.join(".hidden"), "").unwrap();
        assert_eq!(keys(&store).await, [".hidden", "data/.spool/y", "x"]);
    }

    #[tokio::test]
    async fn the_next_run_removes_what_a_crash_left() {
        let Fixture { root, store, above: _above } = fixture();
        let spool = root.join(SPOOL);
        fs::create_dir_all(&spool).unwrap();
        let file = |name: String, age: Duration| {
            let path = spool.join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            (path, file)
        };
        let day = Duration::from_secs(25 * 60 * 60);
        let (crashed, closed) = file(format!("{}-crashed.tmp", boot()), Duration::ZERO);
        drop(closed);
        let (alive, lock) = file(format!("{}-alive.tmp", boot()), day);
        lock.lock().unwrap();
        let (elsewhere, _) = file("0123456789ab-elsewhere.tmp".into(), Duration::ZERO);
        let (forgotten, _) = file("0123456789ab-forgotten.tmp".into(), day);

        let mine = store.spool().unwrap();
        assert_eq!(crashed.exists(), boot().is_empty(), "judged by its lock where kernels have names");
        assert!(alive.exists() || boot().is_empty(), "another process of this machine is writing it");
        assert!(elsewhere.exists(), "another machine may be writing it");
        assert!(!forgotten.exists());

        let (later, _) = file(format!("{}-later.tmp", boot()), Duration::ZERO);
        let _more = store.spool().unwrap();
        assert!(later.exists(), "once per run is enough");
        drop(mine);
        drop(store);
        assert!(spool.exists(), "it is not empty");
    }

    #[tokio::test]
    async fn a_spool_that_is_a_link_is_not_used() {
        #[cfg(unix)]
        {
            let Fixture { root, store, above } = fixture();
            fs::create_dir(&root).unwrap();
            std::os::unix::fs::symlink(above.path(), root.join(SPOOL)).unwrap();
            assert_eq!(kind(store.spool()), ErrorKind::Integrity);
        }
    }

    #[test]
    fn io_errors_say_what_to_do() {
        for (error, expected) in [
            (io::ErrorKind::StorageFull, ErrorKind::Temporary),
            (io::ErrorKind::QuotaExceeded, ErrorKind::Temporary),
            (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Denied),
            (io::ErrorKind::InvalidFilename, ErrorKind::Unsupported),
            (io::ErrorKind::Other, ErrorKind::Temporary),
        ] {
            let error = failed("cannot put x in file:///y".into(), error.into());
            assert_eq!(error.kind(), expected);
            assert!(error.hint_text().is_some());
        }
    }
}
