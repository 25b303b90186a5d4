//! Doctor: what will work, what will not, and why, before a long run.
//!
//! Owns: what is looked at and in which order, when it is good enough, and what to do where it is not.
//! Does not own: requests (`milvus`, `store`). Changes nothing on a server. In a bucket it writes one
//! small object beside the snapshot, removes it, and says so if it could not.
//!
//! Every check says what was found, not what is supposed: what could not be asked is a note.

mod bucket;
mod policy;
mod server;

use crate::error::{Code, Error};
use crate::milvus::Endpoint;
use crate::opened::{self, Trust};
use crate::store::{SnapshotUrl, Store};
use std::sync::Arc;
use std::time::Instant;

/// What the name of the place beside the snapshot, where an object comes and goes, ends with.
pub const PROBE_SUFFIX: &str = ".doctor";

/// What to look at.
pub struct Options {
    /// A server to export from.
    pub source: Option<Endpoint>,
    /// A server to import into.
    pub target: Option<Endpoint>,
    /// A place for a snapshot.
    pub place: Option<Place>,
}

/// A place for a snapshot.
pub struct Place {
    /// Where it is, or will be.
    pub url: SnapshotUrl,
    /// The snapshot.
    pub snapshot: Arc<dyn Store>,
    /// Beside it, where an object may come and go: one within would be in an export's way.
    pub probe: Arc<dyn Store>,
}

/// What one check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The server to export from.
    Source,
    /// The server to import into.
    Target,
    /// The bucket or folder.
    Snapshot,
}

impl About {
    /// As printed and in documents.
    pub fn name(self) -> &'static str {
        match self {
            About::Source => "source",
            About::Target => "target",
            About::Snapshot => "snapshot",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will work.
    Good,
    /// It will work, with what the check says.
    Note,
    /// It will not work.
    Bad(Code),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub about: About,
    /// What was looked at, in a word.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// What was found altogether.
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// The smallest policy for the bucket, if a permission is missing there.
    pub policy: Option<String>,
    /// Wall time.
    pub seconds: f64,
}

impl Report {
    /// What the first check that is not good enough found; it decides the exit code.
    pub fn first_bad(&self) -> Option<Code> {
        self.checks.iter().find_map(|check| match check.verdict {
            Verdict::Bad(code) => Some(code),
            Verdict::Good | Verdict::Note => None,
        })
    }

    /// How many are bad, and how many have a note.
    pub fn counts(&self) -> (usize, usize) {
        let bad = |check: &&Check| matches!(check.verdict, Verdict::Bad(_));
        let noted = |check: &&Check| check.verdict == Verdict::Note;
        (self.checks.iter().filter(bad).count(), self.checks.iter().filter(noted).count())
    }
}

/// Looks at everything that was named. What is bad is collected, not returned as an error.
pub async fn run(options: &Options) -> Report {
    let start = Instant::now();
    let mut checks = Checks::default();
    // 1. The servers: name, network, encryption, credentials, version, privileges, load states, quotas.
    if let Some(source) = &options.source {
        server::check(About::Source, source, &mut checks).await;
    }
    if let Some(target) = &options.target {
        let server = server::check(About::Target, target, &mut checks).await;
        // Of a snapshot that is there: the names that it would bring. What it lacks, step 2 says.
        if let (Some(server), Some(place), None) = (server, &options.place, &options.source)
            && let Ok(opened) = opened::open(place.snapshot.as_ref(), &Trust::default()).await
        {
            server::names(&server, &opened.manifest, &mut checks).await;
            let says = "whether the target can hold every type and value of the snapshot, and the privilege Import, which \
                        only `--via bulk` needs";
            checks.note(
                About::Target,
                "not checked",
                says,
                "`import --plan` tells what the target can hold, and changes nothing",
            );
        }
    }
    // 2. The bucket: an exporter writes, everybody else only reads.
    if let Some(place) = &options.place {
        let writes = options.source.is_some() || options.target.is_none();
        bucket::check(place, writes, &mut checks).await;
    }
    Report { policy: checks.policy, checks: checks.all, seconds: start.elapsed().as_secs_f64() }
}

#[derive(Default)]
struct Checks {
    all: Vec<Check>,
    policy: Option<String>,
}

impl Checks {
    fn good(&mut self, about: About, name: &'static str, says: impl Into<String>) {
        self.all.push(Check { about, name, verdict: Verdict::Good, says: says.into(), fix: None });
    }

    fn note(&mut self, about: About, name: &'static str, says: impl Into<String>, fix: impl Into<String>) {
        let fix = Some(fix.into()).filter(|fix: &String| !fix.is_empty());
        self.all.push(Check { about, name, verdict: Verdict::Note, says: says.into(), fix });
    }

    fn bad(&mut self, about: About, name: &'static str, error: &Error) {
        let fix = error.hint_text().map(str::to_string);
        let fix = fix.unwrap_or_else(|| format!("docs/errors.md explains {}", error.code().text()));
        let verdict = Verdict::Bad(error.code());
        self.all.push(Check { about, name, verdict, says: error.to_string(), fix: Some(fix) });
    }
}
