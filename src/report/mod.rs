//! Report: one page about a snapshot for an audit file, for people who were not there.
//!
//! Owns: what the page says and how it looks, in HTML, Markdown and JSON. Does not own: checking the
//! snapshot (`verify`), or comparing it with a server (`compare`, whose result can be given).
//!
//! [`run`] gathers; all that follows is pure: the same [`Report`] is always the same text. Names in
//! a snapshot are chosen by others, so nothing of it gets into a page as markup (`html`).

mod compared;
mod document;
mod facts;
mod html;
mod markdown;
mod page;
mod pictures;

pub use compared::Compared;

use crate::blocking::blocking;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::opened::Trust;
use crate::output::Output;
use crate::progress::Show;
use crate::store::{Settings, SnapshotUrl, Store};
use crate::verify::{self, Level};
use serde_json::Value;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Most that is read of a comparison's result: a thousand findings and every partition of a large
/// snapshot have far less.
const MAX_COMPARED_BYTES: u64 = 256 << 20;

/// What made the report.
const TOOL: &str = concat!("milvus-handoff ", env!("CARGO_PKG_VERSION"));

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One page that needs nothing else, with pictures.
    Html,
    /// For a ticket or a repository.
    Md,
    /// For programs.
    Json,
}

impl Format {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Html => "html",
            Format::Md => "md",
            Format::Json => "json",
        }
    }
}

/// What to report on, and how closely to look first.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the snapshot is.
    pub url: SnapshotUrl,
    /// How closely to look at the objects.
    pub level: Level,
    /// Why the snapshot is to be believed.
    pub trust: Trust,
    /// What the bucket was asked with.
    pub bucket: Settings,
    /// The result of a comparison with a server: a file that `compare --json` has printed.
    pub compare: Option<PathBuf>,
    /// Objects that are looked at together.
    pub jobs: usize,
    /// Whether to show progress.
    pub show: Show,
}

/// How the bucket was reached, beyond its URL: whoever checks needs the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// The address of the S3 server, where one was named.
    pub endpoint: Option<String>,
    /// The account that the bucket was asked to belong to.
    pub owner: Option<String>,
    /// Whether whoever asks pays.
    pub requester_pays: bool,
}

/// All that a report speaks of.
pub struct Report {
    /// Where the snapshot is.
    pub url: SnapshotUrl,
    /// How it was reached.
    pub reached: Reached,
    /// The snapshot, and what looking at it found.
    pub verified: verify::Report,
    /// What was asked of it.
    pub trust: Trust,
    /// What a server has of it.
    pub compared: Option<Compared>,
    /// When the report was made: RFC 3339, UTC.
    pub made: String,
}

impl Report {
    /// What is wrong with the snapshot itself, or that the target differs.
    pub fn code(&self) -> Option<Code> {
        if !self.verified.problems.is_empty() {
            return Some(Code::Integrity);
        }
        let differs = self.compared.as_ref().is_some_and(|compared| compared.differences > 0);
        differs.then_some(Code::Different)
    }

    /// Whether nothing is wrong, as far as was looked.
    pub fn is_good(&self) -> bool {
        self.code().is_none()
    }

    /// As text in a form.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Html => page::page(self),
            Format::Md => markdown::text(self),
            Format::Json => crate::output::json_line(&self.document()) + "\n",
        }
    }

    /// As a document for programs.
    pub fn document(&self) -> Value {
        document::document(self)
    }
}

/// Gathers what the report says. Whatever differs becomes part of it; a snapshot that cannot be
/// believed is an error.
pub async fn run(options: &Options, store: Arc<dyn Store>) -> Result<Report> {
    // 1. The comparison, before anything that takes long.
    let compared = options.compare.clone().map(|path| blocking(move || read_compared(&path)));
    let compared = match compared {
        Some(reading) => Some(reading.await?),
        None => None,
    };

    let reached = Reached {
        endpoint: store.endpoint(),
        owner: options.bucket.owner.clone(),
        requester_pays: options.bucket.requester_pays,
    };

    // 2. The way from COMMIT.json to the manifest, and the objects that it leads to.
    let look = verify::run(store, options.level, &options.trust, options.jobs, options.show);
    let verified = look.await.map_err(|error| match (error.kind(), options.level) {
        (ErrorKind::Denied, Level::List) => error
            .also_hint("or give `--level head`, which asks for every object by its name and lists nothing"),
        _ => error,
    })?;

    // 3. Both speak of the same snapshot.
    if let Some(compared) = &compared
        && compared.snapshot != verified.opened.digest
    {
        let what = format!(
            "the comparison is of the snapshot sha256:{}, and this one is sha256:{}",
            compared.snapshot, verified.opened.digest
        );
        return Err(
            Error::new(ErrorKind::Usage, what).hint("give the result of a comparison with this snapshot")
        );
    }
    let made = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (url, trust) = (options.url.clone(), options.trust.clone());
    Ok(Report { url, reached, verified, trust, compared, made })
}

/// A name under which there can be no file, or a disk that does not take it.
fn unwritable(file: &Path, error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (code, hint) = match error.kind() {
        Io::NotFound
        | Io::PermissionDenied
        | Io::ReadOnlyFilesystem
        | Io::IsADirectory
        | Io::NotADirectory
        | Io::InvalidFilename
        | Io::InvalidInput => {
            (Code::Usage, "give `-o` a file in a folder that exists and that you may write to")
        }
        _ => (
            Code::Disk,
            "make room there, or give `-o` a file on another disk; then run the same command again",
        ),
    };
    Error::new(code, format!("cannot write the report to {}", file.display())).because(error).hint(hint)
}

fn read_compared(path: &Path) -> Result<Compared> {
    let unreadable = |e: io::Error| {
        Error::new(ErrorKind::Usage, format!("cannot read the file of --compare, {}", path.display()))
            .because(e)
            .hint("give a file that `compare --json` has printed")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_COMPARED_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Compared::parse(&bytes).map_err(|e| e.context(format!("--compare {}", path.display())))
}

/// The report as the result of the command: written to a file, or itself what is printed. With
/// `as_document` stdout gets the document.
pub async fn written(
    report: &Report,
    format: Format,
    to: Option<&Path>,
    as_document: bool,
) -> Result<Output> {
    let mut document = report.document();
    let warnings = report.verified.notes.clone();
    let Some(path) = to else {
        let text = if as_document { String::new() } else { report.text(format) };
        return Ok(Output { document, text, warnings, next: Vec::new() });
    };
    let text = report.text(format);
    let (file, size) = (path.to_path_buf(), text.len());
    blocking(move || std::fs::write(&file, &text).map_err(|e| unwritable(&file, e))).await?;
    document["file"] = path.display().to_string().into();
    document["format"] = format.name().into();
    let text = facts::summary(report, &path.display().to_string(), size as u64);
    Ok(Output { document, text, warnings, next: Vec::new() })
}
