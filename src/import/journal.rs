//! The journal of an import: what it has made on the target and which parts are in, so that the
//! same command goes on where an earlier run ended, however that ended.
//!
//! Owns: the file, that one import at a time writes to it, that a line is on disk before what it
//! announces is done, and a last line that was torn. Does not own: what follows from a line
//! (`plan`, `load`).
//!
//! One line an event: sixteen hex digits of the SHA-256 of the rest, a space, JSON. The first line
//! says which import it is. There are no secrets in it.

use crate::blocking::blocking;
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::milvus::{Deployment, JobId, KeyPolicy};
use crate::schema::CollectionName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// The version of the lines. 1: the first.
const VERSION: u32 = 1;

/// How the route by a service begins.
const SERVICE: &str = "cloud ";

/// Hex digits of a line's checksum.
const CHECKSUM_DIGITS: usize = 16;

/// Which import a journal belongs to. What does not change the rows that arrive (parallelism,
/// whether to load) is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    journal: u32,
    /// SHA-256 of COMMIT.json.
    snapshot: Sha256,
    /// Scheme, host and port.
    target: String,
    /// What goes where, in the order of the snapshot.
    collections: Vec<Mapping>,
    /// The route, where it is not that of inserts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    source: Name,
    target: Name,
    keys: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    database: String,
    name: String,
}

impl From<&CollectionName> for Name {
    fn from(name: &CollectionName) -> Self {
        Name { database: name.database.clone(), name: name.name.clone() }
    }
}

impl Identity {
    /// The import of `collections` (source, target, what becomes of the keys) of the snapshot
    /// whose COMMIT.json has digest `snapshot` into the server at `target`.
    pub fn new<'a>(
        snapshot: Sha256,
        target: &str,
        collections: impl Iterator<Item = (&'a CollectionName, &'a CollectionName, KeyPolicy)>,
    ) -> Self {
        let mapping = |(source, target, keys): (&CollectionName, &CollectionName, KeyPolicy)| Mapping {
            source: source.into(),
            target: target.into(),
            keys: match keys {
                KeyPolicy::Given => "given",
                KeyPolicy::Preserve => "preserve",
                KeyPolicy::Regenerate => "regenerate",
                KeyPolicy::AsField => "as-field",
            }
            .to_string(),
        };
        Identity {
            journal: VERSION,
            snapshot,
            target: target.to_string(),
            collections: collections.map(mapping).collect(),
            via: None,
        }
    }

    /// The same import by another route than inserts.
    pub fn by(self, route: &str) -> Self {
        Identity { via: Some(route.to_string()), ..self }
    }

    /// The same import by jobs of a service, which knows the target as `deployment`.
    pub fn by_service(self, deployment: &Deployment) -> Self {
        self.by(&format!("{SERVICE}{deployment}"))
    }

    fn is_by_service(&self) -> bool {
        self.via.as_ref().is_some_and(|via| via.starts_with(SERVICE))
    }

    fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::internal("a journal cannot be begun").because(e))
    }

    /// Whether there is a journal of this import, at `path` or where it usually lies.
    pub fn is_begun(&self, path: Option<&Path>) -> bool {
        let path = path.map(Path::to_path_buf).or_else(|| self.usual_path().ok());
        let first = path.and_then(|path| {
            let mut line = String::new();
            std::io::BufReader::new(File::open(path).ok()?).read_line(&mut line).ok()?;
            Some(line)
        });
        let (Some(first), Ok(wanted)) = (first, self.line()) else { return false };
        first.trim_end().split_once(' ').is_some_and(|(_, identity)| identity == wanted)
    }

    /// Where the journal of this import lies unless the user says otherwise: in the user's folder
    /// for state, under a name that follows from what the import is.
    pub fn usual_path(&self) -> Result<PathBuf> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        let state = state.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "there is no place for the import's journal: HOME is not set")
                .hint("name a file that outlives this run with `--journal FILE`")
        })?;
        let name = format!("import-{}.journal", Sha256::of(self.line()?.as_bytes()).prefix(CHECKSUM_DIGITS));
        Ok(state.join("milvus-handoff").join(name))
    }
}

/// What happened, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
enum Event {
    /// The collection does not exist and is about to be created.
    Creating { collection: Name },
    /// It was created, and the server knows it by this id.
    Created { collection: Name, id: i64 },
    /// It is gone: nothing that was noted of it counts any longer but its copies in the stage.
    Gone { collection: Name },
    /// The part's first row is about to be sent.
    Loading { collection: Name, part: String },
    /// All its rows are in. `replaced`: some were sent more than once, so that the server's
    /// statistics may count them twice.
    Loaded { collection: Name, part: String, replaced: bool },
    /// Copies of parts are about to be put into this folder of this stage, and those that were
    /// elsewhere are forgotten.
    Staging { stage: String, folder: String },
    /// A whole copy of the part lies in the stage under this name.
    Staged { collection: Name, part: String, file: String },
    /// The copy is about to be removed: no job that is made from now on can read it.
    Unstaged { collection: Name, part: String },
    /// The server's list had these jobs before the collection was made.
    Before { collection: Name, jobs: Vec<String> },
    /// The server is about to be asked for a job that loads these parts; the request has a name that
    /// none had before. `copy`: the name of the copy that it is to load, where there are copies. `at`:
    /// when that was, in seconds since 1970.
    Asking {
        collection: Name,
        request: String,
        parts: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<u64>,
    },
    /// It made this job.
    Asked { collection: Name, request: String, job: String },
    /// The job is complete: every row of its parts is in.
    Complete { collection: Name, request: String },
    /// No job has loaded a row of these parts, and none will.
    Refused { collection: Name, request: String },
}

/// What an import has noted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    collections: BTreeMap<CollectionName, Collection>,
    /// The stage and the folder in it.
    folder: Option<(String, String)>,
    /// Names of the copies in the stage, by collection and part.
    staged: BTreeMap<(CollectionName, String), String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Collection {
    /// `None` while it is not known whether its creation took effect.
    id: Option<i64>,
    parts: BTreeMap<String, PartState>,
    /// Jobs that the server's list had before; `None` while that was not noted.
    before: Option<BTreeSet<JobId>>,
    /// What the server was asked for, by the names of the requests.
    requests: BTreeMap<String, Request>,
    /// Jobs that have loaded nothing.
    refused: BTreeSet<JobId>,
}

/// A request for a job that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The keys of its parts.
    pub parts: Vec<String>,
    /// The name of the copy that it loads, if it loads one.
    pub copy: Option<String>,
    /// The job; `None` while it is not known whether the server made it.
    pub job: Option<JobId>,
    /// When the server was asked, in seconds since 1970; `None` if that was not noted.
    at: Option<u64>,
}

impl Request {
    /// Whether the server was asked longer ago than `age`, as far as this machine's clock can tell.
    pub fn is_older_than(&self, age: Duration) -> bool {
        // Clocks are set back a little now and then.
        let since = |at: u64| (now() + CLOCK_STEP).checked_sub(at).map(Duration::from_secs);
        self.at.and_then(since).is_none_or(|since| since > age)
    }
}

/// Seconds by which a clock may be set back without a word.
const CLOCK_STEP: u64 = 300;

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How far a collection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It was about to be created.
    Begun,
    /// It was created and has this id.
    Made(i64),
}

/// How far a part came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartState {
    /// Some of its rows may be in.
    Begun,
    /// All are, each once; `replaced` as the statistics may count some twice.
    In {
        /// Whether rows were sent more than once.
        replaced: bool,
    },
}

impl Noted {
    /// Whether a run ended while it created a collection or loaded a part.
    pub fn in_flight(&self) -> bool {
        let begun = |c: &Collection| c.id.is_none() || c.parts.values().any(|part| *part == PartState::Begun);
        self.collections.values().any(begun)
    }

    /// How far `collection` came; `None` if this import has never touched it.
    pub fn creation(&self, collection: &CollectionName) -> Option<Creation> {
        self.collections.get(collection).map(|c| c.id.map_or(Creation::Begun, Creation::Made))
    }

    /// How far a part of `collection` came; `None` if no row of it was ever sent.
    pub fn part(&self, collection: &CollectionName, part: &str) -> Option<PartState> {
        self.collections.get(collection)?.parts.get(part).copied()
    }

    /// The stage of this import and its folder there, once there is one.
    pub fn folder(&self) -> Option<(&str, &str)> {
        self.folder.as_ref().map(|(stage, folder)| (stage.as_str(), folder.as_str()))
    }

    /// Whether the server may be about to read a copy for a job of which nothing is known.
    pub fn asking(&self) -> bool {
        self.collections.values().any(|c| c.requests.values().any(|request| request.job.is_none()))
    }

    /// The name of the copy of a part in the stage.
    pub fn staged(&self, collection: &CollectionName, part: &str) -> Option<&str> {
        self.staged.get(&(collection.clone(), part.to_string())).map(String::as_str)
    }

    /// The request that a part was asked for with, and its name.
    pub fn request(&self, collection: &CollectionName, part: &str) -> Option<(&str, &Request)> {
        let requests = &self.collections.get(collection)?.requests;
        let asked = requests.iter().find(|(_, request)| request.parts.iter().any(|key| key == part));
        asked.map(|(name, request)| (name.as_str(), request))
    }

    /// All jobs that were ever noted, with their collections.
    pub fn jobs(&self) -> impl Iterator<Item = (&CollectionName, &JobId)> {
        self.collections.iter().flat_map(|(name, collection)| {
            let jobs = collection.requests.values().filter_map(|request| request.job.as_ref());
            jobs.chain(&collection.refused).map(move |job| (name, job))
        })
    }

    /// Jobs that the server's list had before the collection was made; `None` while that was not noted.
    pub fn before(&self, collection: &CollectionName) -> Option<&BTreeSet<JobId>> {
        self.collections.get(collection)?.before.as_ref()
    }

    fn apply(&mut self, event: &Event) {
        let at = |name: &Name| CollectionName::new(&name.database, &name.name);
        match event {
            Event::Creating { collection } => {
                self.collections.insert(at(collection), Collection::default());
            }
            Event::Created { collection, id } => {
                self.collections.entry(at(collection)).or_default().id = Some(*id);
            }
            Event::Gone { collection } => {
                self.collections.remove(&at(collection));
            }
            Event::Loading { collection, part } => {
                let parts = &mut self.collections.entry(at(collection)).or_default().parts;
                parts.insert(part.clone(), PartState::Begun);
            }
            Event::Loaded { collection, part, replaced } => {
                let parts = &mut self.collections.entry(at(collection)).or_default().parts;
                parts.insert(part.clone(), PartState::In { replaced: *replaced });
            }
            Event::Staging { stage, folder } => {
                self.folder = Some((stage.clone(), folder.clone()));
                self.staged.clear();
            }
            Event::Staged { collection, part, file } => {
                self.staged.insert((at(collection), part.clone()), file.clone());
            }
            Event::Unstaged { collection, part } => {
                self.staged.remove(&(at(collection), part.clone()));
            }
            Event::Before { collection, jobs } => {
                let jobs = jobs.iter().cloned().map(JobId).collect();
                self.collections.entry(at(collection)).or_default().before = Some(jobs);
            }
            Event::Asking { collection, request, parts, copy, at: when } => {
                let collection = self.collections.entry(at(collection)).or_default();
                collection.parts.extend(parts.iter().map(|part| (part.clone(), PartState::Begun)));
                let asked = Request { parts: parts.clone(), copy: copy.clone(), job: None, at: *when };
                collection.requests.insert(request.clone(), asked);
            }
            Event::Asked { collection, request, job } => {
                let collection = self.collections.entry(at(collection)).or_default();
                if let Some(request) = collection.requests.get_mut(request) {
                    request.job = Some(JobId(job.clone()));
                }
            }
            Event::Complete { collection, request } => {
                let Collection { parts, requests, .. } = self.collections.entry(at(collection)).or_default();
                let asked = requests.get(request).into_iter().flat_map(|request| &request.parts);
                parts.extend(asked.map(|part| (part.clone(), PartState::In { replaced: false })));
            }
            Event::Refused { collection, request } => {
                let Collection { parts, requests, refused, .. } =
                    self.collections.entry(at(collection)).or_default();
                if let Some(request) = requests.remove(request) {
                    parts.retain(|part, _| !request.parts.contains(part));
                    refused.extend(request.job);
                }
            }
        }
    }
}

/// An import's journal, open and locked. Cheap to clone.
#[derive(Clone)]
pub struct Journal(Arc<Mutex<Open>>);

struct Open {
    path: PathBuf,
    identity: Identity,
    /// `None` until the target is about to be touched for the first time.
    file: Option<File>,
    noted: Noted,
}

impl Journal {
    /// The journal at `path`: taken up if it is there, begun by [`Journal::begin`] if it is not.
    /// Refuses one of another import, one that another process holds, and a damaged one.
    pub fn open(path: PathBuf, identity: Identity) -> Result<Self> {
        let (file, noted) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(mut file) => {
                lock(&file, &path)?;
                let noted = take_up(&mut file, &path, &identity)?;
                (Some(file), noted)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (None, Noted::default()),
            Err(e) => return Err(unusable(&path, e)),
        };
        Ok(Journal(Arc::new(Mutex::new(Open { path, identity, file, noted }))))
    }

    /// One without a file, for imports that are only planned.
    pub fn nowhere(identity: Identity) -> Self {
        Journal(Arc::new(Mutex::new(Open {
            path: PathBuf::new(),
            identity,
            file: None,
            noted: Noted::default(),
        })))
    }

    fn open_now(&self) -> MutexGuard<'_, Open> {
        // A panic while it was held is this tool's defect; what is on disk is right all the same.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.open_now().path.clone()
    }

    /// Time since the last line was written; `None` if the clock or the file system cannot tell.
    pub fn age(&self) -> Option<Duration> {
        self.open_now().file.as_ref()?.metadata().ok()?.modified().ok()?.elapsed().ok()
    }

    /// What was noted so far.
    pub fn noted(&self) -> Noted {
        self.open_now().noted.clone()
    }

    /// Looks at what was noted so far without copying it.
    pub fn look<T>(&self, at: impl FnOnce(&Noted) -> T) -> T {
        at(&self.open_now().noted)
    }

    /// Makes sure that the file is there, before the target is touched.
    pub async fn begin(&self) -> Result<()> {
        let journal = self.clone();
        blocking(move || {
            let mut open = journal.open_now();
            if open.file.is_none() {
                open.file = Some(create(&open.path, &open.identity)?);
            }
            Ok(())
        })
        .await
    }

    /// `collection` does not exist and is about to be created.
    pub async fn creating(&self, collection: &CollectionName) -> Result<()> {
        self.note(Event::Creating { collection: collection.into() }).await
    }

    /// `collection` exists, made by this import, and the server knows it by `id`.
    pub async fn created(&self, collection: &CollectionName, id: i64) -> Result<()> {
        self.note(Event::Created { collection: collection.into(), id }).await
    }

    /// `collection` is gone, and with it what was noted of it.
    pub async fn gone(&self, collection: &CollectionName) -> Result<()> {
        self.note(Event::Gone { collection: collection.into() }).await
    }

    /// The first row of `part` is about to be sent.
    pub async fn loading(&self, collection: &CollectionName, part: &str) -> Result<()> {
        self.note(Event::Loading { collection: collection.into(), part: part.to_string() }).await
    }

    /// All rows of `part` are in; `replaced` if some were sent more than once.
    pub async fn loaded(&self, collection: &CollectionName, part: &str, replaced: bool) -> Result<()> {
        self.note(Event::Loaded { collection: collection.into(), part: part.to_string(), replaced }).await
    }

    /// Copies of parts are about to be put into `folder` of `stage`.
    pub async fn staging(&self, stage: &str, folder: &str) -> Result<()> {
        self.note(Event::Staging { stage: stage.to_string(), folder: folder.to_string() }).await
    }

    /// A whole copy of `part` lies in the stage under the name `file`.
    pub async fn staged(&self, collection: &CollectionName, part: &str, file: &str) -> Result<()> {
        let (collection, part, file) = (collection.into(), part.to_string(), file.to_string());
        self.note(Event::Staged { collection, part, file }).await
    }

    /// The copy of `part` in the stage is about to be removed.
    pub async fn unstaged(&self, collection: &CollectionName, part: &str) -> Result<()> {
        self.note(Event::Unstaged { collection: collection.into(), part: part.to_string() }).await
    }

    /// The server's list has these jobs, and the collection is about to be made.
    pub async fn before(&self, collection: &CollectionName, jobs: BTreeSet<JobId>) -> Result<()> {
        let jobs = jobs.into_iter().map(|job| job.0).collect();
        self.note(Event::Before { collection: collection.into(), jobs }).await
    }

    /// The server is about to be asked, by a request of this new name, for a job that loads `parts`, or
    /// the `copy` of the only one.
    pub async fn asking(
        &self,
        collection: &CollectionName,
        request: &str,
        parts: Vec<String>,
        copy: Option<String>,
    ) -> Result<()> {
        let (request, at) = (request.to_string(), Some(now()));
        self.note(Event::Asking { collection: collection.into(), request, parts, copy, at }).await
    }

    /// The server has made `job`.
    pub async fn asked(&self, collection: &CollectionName, request: &str, job: &JobId) -> Result<()> {
        let (request, job) = (request.to_string(), job.0.clone());
        self.note(Event::Asked { collection: collection.into(), request, job }).await
    }

    /// Every row of the request's parts is in.
    pub async fn complete(&self, collection: &CollectionName, request: &str) -> Result<()> {
        self.note(Event::Complete { collection: collection.into(), request: request.to_string() }).await
    }

    /// No job has loaded a row of the request's parts, and none will.
    pub async fn refused(&self, collection: &CollectionName, request: &str) -> Result<()> {
        self.note(Event::Refused { collection: collection.into(), request: request.to_string() }).await
    }

    /// Writes a line; it is on disk when this returns.
    async fn note(&self, event: Event) -> Result<()> {
        let journal = self.clone();
        blocking(move || {
            let mut open = journal.open_now();
            let text = serde_json::to_string(&event)
                .map_err(|e| Error::internal("an event cannot be written").because(e))?;
            let Open { path, file, noted, .. } = &mut *open;
            let file = file.as_mut().ok_or_else(|| Error::internal("the journal was not begun"))?;
            write_line(file, &text).map_err(|e| unusable(path, e))?;
            noted.apply(&event);
            Ok(())
        })
        .await
    }

    /// The import is complete: nobody needs its journal any longer.
    pub fn finish(self) -> std::io::Result<()> {
        let mut open = self.open_now();
        match open.file.take() {
            Some(_) => std::fs::remove_file(&open.path),
            None => Ok(()),
        }
    }
}

/// How long a lock may outlive its holder: the system lets go of the files of a process that was
/// killed a moment after the process is gone.
const LINGERING: Duration = Duration::from_secs(1);

fn lock(file: &File, path: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < LINGERING => {
                std::thread::sleep(LINGERING / 50);
            }
            Err(TryLockError::WouldBlock) => {
                let what = format!("another import with the journal {} is running", path.display());
                return Err(Error::new(Code::Journal, what)
                    .hint("wait until it ends, then run the same command again if it did not finish"));
            }
            Err(TryLockError::Error(e)) => return Err(unusable(path, e)),
        }
    }
}

/// A folder that the user names must be there: a typo must not grow a tree.
pub fn refuse_without_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    let what = format!("--journal {}: the folder {} does not exist", path.display(), folder.display());
    Err(Error::new(ErrorKind::Usage, what).hint("correct the path, or create that folder"))
}

fn create(path: &Path, identity: &Identity) -> Result<File> {
    let begun = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        Ok::<_, std::io::Error>((file, File::open(folder)?))
    };
    let (mut file, folder) = begun().map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(
            Code::Journal,
            format!("another import with the journal {} has just begun", path.display()),
        )
        .hint("wait until it ends, then run the same command again if it did not finish"),
        _ => unusable(path, e),
    })?;
    lock(&file, path)?;
    let line = identity.line()?;
    write_line(&mut file, &line).and_then(|()| folder.sync_all()).map_err(|e| unusable(path, e))?;
    Ok(file)
}

fn write_line(file: &mut File, text: &str) -> std::io::Result<()> {
    let line = format!("{} {text}\n", checksum(text));
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

fn checksum(text: &str) -> String {
    Sha256::of(text.as_bytes()).prefix(CHECKSUM_DIGITS)
}

/// Reads what is there and leaves the file where the next line goes. The last line may be torn:
/// what it announces was not begun, because lines are on disk before anything follows from them.
fn take_up(file: &mut File, path: &Path, identity: &Identity) -> Result<Noted> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| unusable(path, e))?;
    let (lines, whole) = whole_lines(&bytes).ok_or_else(|| damaged(path))?;
    if whole < bytes.len() as u64 {
        file.set_len(whole).map_err(|e| unusable(path, e))?;
    }
    file.seek(SeekFrom::Start(whole)).map_err(|e| unusable(path, e))?;

    let mut noted = Noted::default();
    let Some((first, events)) = lines.split_first() else {
        // Not even the first line came to disk, so nothing was begun.
        let line = identity.line()?;
        write_line(file, &line).map_err(|e| unusable(path, e))?;
        return Ok(noted);
    };
    if *first != identity.line()? {
        return Err(other_import(path, first, identity));
    }
    for event in events {
        let event: Event = serde_json::from_str(event).map_err(|e| damaged(path).because(e))?;
        noted.apply(&event);
    }
    Ok(noted)
}

/// The texts of all whole lines and the bytes that they take, line breaks included. A crash leaves a
/// last line without its line break; a line with one that is not what was written is damage (`None`).
fn whole_lines(bytes: &[u8]) -> Option<(Vec<&str>, u64)> {
    let mut lines = Vec::new();
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let (sum, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        if sum != checksum(text) {
            return None;
        }
        lines.push(text);
        whole += line.len() as u64 + 1;
    }
    Some((lines, whole))
}

fn other_import(path: &Path, found: &str, wanted: &Identity) -> Error {
    let place = path.display();
    let hint = "run the same command as then to finish that import, or name another file with `--journal`";
    let what = match serde_json::from_str::<Identity>(found) {
        Ok(found) if found.snapshot != wanted.snapshot => "it is of another snapshot",
        Ok(found) if found.target != wanted.target => "it goes to another server",
        Ok(found) if found.is_by_service() && wanted.is_by_service() && found.via != wanted.via => {
            "it goes to another cluster or project of the service"
        }
        Ok(found) if found.via != wanted.via => "it takes another route (`--via`)",
        Ok(_) => "it takes other collections, puts them elsewhere, or treats their keys otherwise",
        Err(_) => {
            return Error::new(
                ErrorKind::Unsupported,
                format!("{place} is no journal that this build can read"),
            )
            .hint("use the milvus-handoff that wrote it, or name another file with `--journal`");
        }
    };
    Error::new(Code::Journal, format!("{place} is the journal of another import: {what}")).hint(hint)
}

fn damaged(path: &Path) -> Error {
    Error::new(ErrorKind::Integrity, format!("the journal {} is damaged", path.display())).hint(
        "nothing can be said of what is on the target: drop what this import has created there, remove the journal, \
         and import again",
    )
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        std::io::ErrorKind::IsADirectory | std::io::ErrorKind::NotADirectory => ErrorKind::Usage,
        _ => ErrorKind::Temporary,
    };
    Error::new(kind, format!("cannot use the journal {}", path.display()))
        .because(error)
        .hint("see to it, or name another file that outlives this run with `--journal FILE`; then run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let (a, b) = (CollectionName::new("a", "docs"), CollectionName::new("b", "docs"));
        Identity::new(Sha256::of(b"x"), "http://b:19530", [(&a, &b, KeyPolicy::Given)].into_iter())
    }

    fn reopen(path: &Path) -> Result<Noted> {
        Journal::open(path.to_path_buf(), identity()).map(|journal| journal.noted())
    }

    /// A journal with every event in it, and what was noted after each line.
    async fn written(path: &Path) -> Vec<Noted> {
        let docs = CollectionName::new("b", "docs");
        let journal = Journal::open(path.to_path_buf(), identity()).unwrap();
        journal.begin().await.unwrap();
        let mut states = vec![journal.noted()];
        let note = async |event| {
            journal.note(event).await.unwrap();
            journal.noted()
        };
        let (collection, part) = (Name::from(&docs), "data/\"é\n".to_string());
        states.push(note(Event::Creating { collection: collection.clone() }).await);
        states.push(note(Event::Gone { collection: collection.clone() }).await);
        states.push(note(Event::Creating { collection: collection.clone() }).await);
        states.push(note(Event::Created { collection: collection.clone(), id: 7 }).await);
        let (other, file) = ("other".to_string(), "f".to_string());
        states.push(note(Event::Staging { stage: "s3://b/p".into(), folder: "x".into() }).await);
        states.push(note(Event::Staged { collection: collection.clone(), part: other.clone(), file }).await);
        let before = Event::Before { collection: collection.clone(), jobs: vec!["1".into()] };
        states.push(note(before).await);
        assert_eq!(states[states.len() - 1].before(&docs).unwrap().len(), 1);
        let asking = |request: &str, part: &str| {
            let (request, parts) = (request.to_string(), vec![part.to_string(), format!("{part} too")]);
            let copy = Some("f".into());
            Event::Asking { collection: collection.clone(), request, parts, copy, at: Some(7) }
        };
        let job = |noted: &Noted| noted.request(&docs, "other").map(|(_, request)| request.job.clone());
        states.push(note(asking("r1", "other")).await);
        assert_eq!(job(&states[states.len() - 1]), Some(None));
        assert_eq!(states[states.len() - 1].part(&docs, "other"), Some(PartState::Begun));
        let asked = |request: &str, job: &str| {
            let (request, job) = (request.to_string(), job.to_string());
            Event::Asked { collection: collection.clone(), request, job }
        };
        states.push(note(asked("r1", "9")).await);
        assert_eq!(job(&states[states.len() - 1]), Some(Some(JobId("9".into()))));
        states.push(note(Event::Refused { collection: collection.clone(), request: "r1".into() }).await);
        assert_eq!(job(&states[states.len() - 1]), None);
        assert_eq!(states[states.len() - 1].part(&docs, "other"), None);
        assert_eq!(states[states.len() - 1].staged(&docs, "other"), Some("f"));
        states.push(note(Event::Unstaged { collection: collection.clone(), part: other }).await);
        states.push(note(asking("r2", "third")).await);
        states.push(note(asked("r2", "job-x")).await);
        states.push(note(Event::Complete { collection: collection.clone(), request: "r2".into() }).await);
        assert_eq!(
            states[states.len() - 1].part(&docs, "third too"),
            Some(PartState::In { replaced: false })
        );
        // One is complete, one was refused.
        assert_eq!(states[states.len() - 1].jobs().count(), 2);
        states.push(note(Event::Loading { collection: collection.clone(), part: part.clone() }).await);
        states.push(note(Event::Loaded { collection, part: part.clone(), replaced: true }).await);
        assert_eq!(journal.noted().creation(&docs), Some(Creation::Made(7)));
        assert_eq!(journal.noted().part(&docs, &part), Some(PartState::In { replaced: true }));
        states
    }

    /// Wherever a crash cuts the file, what the whole lines say counts, and new lines can follow.
    #[tokio::test]
    async fn a_journal_cut_anywhere_says_what_its_whole_lines_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/journal");
        let states = written(&path).await;
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            let expected = whole.checked_sub(1).map_or(Noted::default(), |line| states[line].clone());
            let journal = Journal::open(path.clone(), identity()).unwrap();
            assert_eq!(journal.noted(), expected, "cut at {cut}");
            let more = CollectionName::new("b", "more");
            journal.creating(&more).await.unwrap();
            drop(journal);
            assert_eq!(reopen(&path).unwrap().creation(&more), Some(Creation::Begun), "cut at {cut}");
        }
    }

    /// A bit that flips before the last line makes the whole journal unusable: nothing is guessed.
    #[tokio::test]
    async fn a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let states = written(&path).await;
        let bytes = std::fs::read(&path).unwrap();
        let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            match reopen(&path) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Integrity, "bit {at}"),
                Ok(noted) => assert!(at >= last_line && noted == states[states.len() - 2], "bit {at}"),
            }
        }
    }

    #[tokio::test]
    async fn one_import_at_a_time_and_only_its_own_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let first = Journal::open(path.clone(), identity()).unwrap();
        let second = Journal::open(path.clone(), identity()).unwrap();
        first.begin().await.unwrap();
        assert_eq!(second.begin().await.unwrap_err().kind(), ErrorKind::Exists, "the other one was quicker");
        assert_eq!(reopen(&path).unwrap_err().kind(), ErrorKind::Exists, "it is locked");
        drop(first);
        reopen(&path).unwrap();
        let other = Identity::new(Sha256::of(b"y"), "http://b:19530", std::iter::empty());
        let refused = Journal::open(path.clone(), other).err().unwrap();
        assert!(refused.to_string().ends_with("it is of another snapshot"), "{refused}");
        Journal::open(path.clone(), identity()).unwrap().finish().unwrap();
        assert!(!path.exists());
    }
}
