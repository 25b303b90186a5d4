//! The command line: what users type, turned into typed options.
//!
//! Owns: flags, help, defaults, where secrets come from. Does not own: doing anything.

use crate::digest::Sha256;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::export::{Effort, Shard, Share};
use crate::milvus::{BucketKey, CloudEndpoint, Deployment, Endpoint, Side, Tls, Token};
use crate::opened::Trust;
use crate::progress::Show;
use crate::report::{self, Format};
use crate::select::{AutoId, Renames, Selection};
use crate::signature::{PublicKey, SigningKey};
use crate::store::{Access, Keys, Lock, LockMode, Settings, SnapshotUrl};
use crate::verify::Level;
use crate::{compare, diff, export, import};
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Largest and smallest part that may be asked for.
const PART_SIZE_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 30);

/// Most workers of a sharded export: what batch services allow in one array.
const MAX_SHARDS: u32 = 10_000;

/// Where the password of a signing key may stand.
const KEY_PASSWORD: &str = "MILVUS_HANDOFF_KEY_PASSWORD";

/// Where credentials of the stage may stand, to be told apart from those of the snapshot.
const STAGE_KEY_ID: &str = "MILVUS_HANDOFF_STAGE_ACCESS_KEY_ID";
const STAGE_SECRET: &str = "MILVUS_HANDOFF_STAGE_SECRET_ACCESS_KEY";
const STAGE_TOKEN: &str = "MILVUS_HANDOFF_STAGE_SESSION_TOKEN";

/// Where the API key of Zilliz Cloud stands.
const CLOUD_API_KEY: &str = "MILVUS_HANDOFF_CLOUD_API_KEY";

/// Most that is read of a file with a key or a password.
const MAX_KEY_FILE_BYTES: u64 = 16 << 10;

/// Move Milvus and Zilliz Cloud collections between organizations, through a bucket.
///
/// `export` writes a snapshot, `import` recreates its collections elsewhere; the bucket is the
/// only thing that the two sides share. Everything is checksummed, and `verify` proves years
/// later, without any cluster, that nothing has changed.
#[derive(Debug, Parser)]
#[command(name = "milvus-handoff", version, max_term_width = 100, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Print one JSON document with the result on stdout, and nothing else there.
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,

    /// How to show progress on stderr.
    #[arg(long, global = true, value_name = "HOW", value_enum, display_order = 901)]
    progress: Option<Show>,

    /// Show no progress and no warnings.
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 902)]
    pub quiet: bool,

    /// Say more on stderr; twice for every request.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 903)]
    pub verbose: u8,
}

impl Cli {
    /// How to show progress: as is asked for, else not with `--quiet`.
    pub fn show(&self) -> Show {
        self.progress.unwrap_or(if self.quiet { Show::Quiet } else { Show::Auto })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a snapshot of collections into a bucket.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Finish an export that several processes have worked on with `--shard`.
    #[command(long_about = COMMIT_ABOUT, after_help = COMMIT_EXAMPLES)]
    Commit(CommitArgs),
    /// Recreate the collections of a snapshot on another server.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Check that a snapshot is exactly what was committed; needs no cluster.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Compare a snapshot with what a server has: the last step of a migration.
    #[command(long_about = COMPARE_ABOUT, after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Show what a snapshot holds: schemas, partitions, indexes, sizes, first rows.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Tell in what two snapshots differ; needs no cluster.
    #[command(long_about = DIFF_ABOUT, after_help = DIFF_EXAMPLES)]
    Diff(DiffArgs),
    /// Write one page about a snapshot for an audit file: what it is, and how to check it.
    #[command(long_about = REPORT_ABOUT, after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Vouch for a snapshot with a minisign key, now or years later.
    #[command(long_about = SIGN_ABOUT, after_help = SIGN_EXAMPLES)]
    Sign(SignArgs),
    /// Make a pair of minisign keys: one to sign with, one to give away.
    #[command(after_help = KEYGEN_EXAMPLES)]
    Keygen(KeygenArgs),
    /// Find out what will work and what will not, before a long run.
    #[command(long_about = DOCTOR_ABOUT, after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Print a script by which a shell completes command lines.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print a manual page.
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

impl Command {
    /// As users type it.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Export(_) => "export",
            Command::Commit(_) => "commit",
            Command::Import(_) => "import",
            Command::Verify(_) => "verify",
            Command::Compare(_) => "compare",
            Command::Inspect(_) => "inspect",
            Command::Diff(_) => "diff",
            Command::Report(_) => "report",
            Command::Sign(_) => "sign",
            Command::Keygen(_) => "keygen",
            Command::Doctor(_) => "doctor",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  milvus-handoff export s3://handoff/acme/2026-11 --source http://milvus:19530
  milvus-handoff verify s3://handoff/acme/2026-11 --expect sha256:...
  milvus-handoff import s3://handoff/acme/2026-11 --target http://milvus:19530 --expect sha256:...

`milvus-handoff COMMAND --help` has more of each. Errors have codes: docs/errors.md explains them.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  milvus-handoff inspect s3://handoff/acme/2026-11
  milvus-handoff inspect file:///backups/docs --rows 3
  milvus-handoff inspect s3://handoff/acme/2026-11 --expect sha256:... --json";

const DOCTOR_ABOUT: &str = "\
Find out what will work and what will not, before a long run.

Of a server: name, network, encryption, credentials, version, privileges, load states, quotas. Nothing is changed there. Of \
a target, with a snapshot that is there: whether the names that an import would make are free.
Of a place for snapshots: every verb that is used, create-only puts, checksums, the clock. Whoever exports, or names no \
server, is taken to write there: a probe object is put beside the snapshot and removed again. With `--target` alone the \
snapshot is only read.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  milvus-handoff doctor s3://handoff/acme/2026-11 --source http://milvus:19530     before an export
  milvus-handoff doctor s3://handoff/acme/2026-11 --target http://milvus:19530     before an import
  milvus-handoff doctor s3://handoff/acme/2026-11                                  the bucket alone

The exit code is 0 if nothing is red, and otherwise that of the first red check.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  milvus-handoff completions bash > ~/.local/share/bash-completion/completions/milvus-handoff
  milvus-handoff completions zsh > ~/.zfunc/_milvus-handoff      with ~/.zfunc in fpath
  milvus-handoff completions fish > ~/.config/fish/completions/milvus-handoff.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  milvus-handoff man > milvus-handoff.1
  milvus-handoff man export | man -l -
  for c in export import verify; do milvus-handoff man $c > milvus-handoff-$c.1; done";

const EXPORT_EXAMPLES: &str = "\
Examples:
  milvus-handoff export s3://handoff/acme/2026-11 --source http://milvus:19530
  milvus-handoff export file:///backups/docs --source http://localhost:19530 -c docs -c 'logs.2026*'
  milvus-handoff export s3://handoff/acme/2026-11 --source https://in01.example.com --plan

Without -c everything is exported. Interrupted? Run the same command again: it goes on.

On four machines: once with --shard plan/4, then once each with --shard 0/4 to 3/4, then `commit`.";

const COMMIT_ABOUT: &str = "\
Finish an export that several processes have worked on with `--shard`.

Anyone can do it who may write to the bucket and read the source, at any time, also several at the same time: there \
is exactly one commit. While units are missing, the exit code is 75 and nothing is written. Then the source is asked \
whether anything is missing or was changed, as at the end of every export, and the snapshot is committed. Of a snapshot \
that is committed already, the same result is printed again.";

const COMMIT_EXAMPLES: &str = "\
Examples:
  milvus-handoff commit s3://handoff/acme/2026-11 --source http://milvus:19530
  milvus-handoff commit s3://handoff/acme/2026-11 --source http://milvus:19530 --sign-key acme.key";

const IMPORT_EXAMPLES: &str = "\
Examples:
  milvus-handoff import s3://handoff/acme/2026-11 --target http://milvus:19530 --plan
  milvus-handoff import s3://handoff/acme/2026-11 --target http://milvus:19530 --expect sha256:...
  milvus-handoff import file:///backups/docs --target http://localhost:19530 -c docs --rename docs=docs_v2 --load

Interrupted? Run the same command again: it goes on.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  milvus-handoff verify s3://handoff/acme/2026-11 --level full
  milvus-handoff verify file:///backups/docs --expect sha256:...
  milvus-handoff verify s3://handoff/acme/2026-11 --trusted-key acme.key.pub";

const DIFF_ABOUT: &str = "\
Tell in what two snapshots differ; needs no cluster.

Compared are schemas, properties, partitions, indexes, aliases, counts, and parts by their digests. Parts that differ \
may hold the same rows: `--keys` reads those that only one side has, lays their rows beside each other by key, and names \
the rows that were removed, added and changed on the way from A to B. Values are the same as in `compare`.";

const DIFF_EXAMPLES: &str = "\
Examples:
  milvus-handoff diff s3://handoff/acme/2026-10 s3://handoff/acme/2026-11
  milvus-handoff diff file:///backups/monday file:///backups/tuesday -c docs --keys
  milvus-handoff diff file:///backups/monday s3://handoff/acme/2026-11 --keys --first 100 --json

Exit codes:
  0  no difference
  6  something differs, or a snapshot is not what was committed";

const REPORT_ABOUT: &str = "\
Write one page about a snapshot for an audit file: what it is, and how to check it.

The page says where the snapshot comes from, its digests and signatures, what looking at its objects found, schemas, \
partitions, indexes and counts, and has the commands with which anybody checks all that without this tool. It needs no \
network and runs no script. With the result of `compare --json` it also says what the target has.";

const REPORT_EXAMPLES: &str = "\
Examples:
  milvus-handoff report s3://handoff/acme/2026-11 -o audit.html
  milvus-handoff report s3://handoff/acme/2026-11 -o audit.html --trusted-key acme.key.pub
  milvus-handoff compare file:///backups/docs --target http://milvus:19530 --json > result.json
  milvus-handoff report file:///backups/docs --compare result.json --format md

Exit codes:
  0  nothing is wrong
  6  an object is not as committed, or the target differs; the report says where";

const SIGN_ABOUT: &str = "\
Vouch for a snapshot with a minisign key, now or years later.

The signature is of COMMIT.json, which leads to everything else by SHA-256. It is stored beside it as \
signatures/<KEY ID>.minisig; several people can sign. What the parts hold is not read: run `verify` first, and sign \
what it printed with `--expect`. The command `minisign` checks such signatures too.";

const SIGN_EXAMPLES: &str = "\
Examples:
  milvus-handoff sign s3://handoff/acme/2026-11 --key acme.key --expect sha256:...
  MILVUS_HANDOFF_KEY_PASSWORD=... milvus-handoff sign file:///backups/docs --key acme.key";

const KEYGEN_EXAMPLES: &str = "\
Examples:
  milvus-handoff keygen acme.key               asks for a password
  milvus-handoff keygen ci.key --no-password   for a machine that keeps secrets elsewhere

Give away the .pub file, by a channel that does not go through the bucket. Keep the other one.";

const COMPARE_ABOUT: &str = "\
Compare a snapshot with what a server has: the last step of a migration.

Schemas and counts are always compared; `sample` adds the newest rows and rows drawn from every part, `full` \
every row. Nothing is changed on either side but load states, and those only with `--load`. Pause writes \
meanwhile: rows that are written while they are compared show as differences.

Floats are compared by their bits, text by its bytes, JSON by value (1 is not 1.0; order and spelling do not \
count), geometry by its coordinates, timestamps by the moment, sparse vectors by their pairs. Not compared: \
descriptions, indexes, aliases, properties, and what functions compute.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  milvus-handoff compare s3://handoff/acme/2026-11 --target http://milvus:19530
  milvus-handoff compare s3://handoff/acme/2026-11 --target http://milvus:19530 --level full --load
  milvus-handoff compare file:///backups/docs --target http://localhost:19530 -c docs --rename docs=docs_v2 --json

Exit codes:
  0  no difference
  4  a collection is not on the server
  5  a collection is not loaded
  6  something differs, or the snapshot is not what was committed";

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where the snapshot goes: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The server to read: http[s]://host:port[/database].
    #[arg(long, value_name = "URI")]
    pub source: String,

    /// Only collections that match [database.]name, where both may contain *, ? and [...].
    #[arg(short, long = "collection", value_name = "PATTERN")]
    pub collections: Vec<String>,

    /// Leave out collections that match.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Say what would be exported, and touch nothing.
    #[arg(long)]
    pub plan: bool,

    /// Do one process's share of an export: `plan/N` writes the plan for N workers, `I/N` does the
    /// work of worker I, counted from 0. I and N may be env:VARIABLE. `commit` finishes.
    #[arg(long, value_name = "plan/N|I/N", conflicts_with_all = ["plan", "sign_key"])]
    pub shard: Option<String>,

    /// With --shard: nothing writes to the source until the commit. Needed where the server cannot
    /// be read at one moment by several processes (before Milvus 2.5, and Milvus Lite).
    #[arg(long, requires = "shard")]
    pub writes_paused: bool,

    /// Ranges that are exported at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// Load collections that are not loaded, and release them afterwards; with --shard they stay
    /// loaded.
    #[arg(long)]
    pub load_source: bool,

    /// Accept writes to the source meanwhile: the copy is recorded as unchecked.
    #[arg(long)]
    pub allow_writes: bool,

    /// Most rows to ask the server for at once; sizes adapt below that by themselves.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub page_rows: u32,

    /// Size at which a Parquet file ends.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub part_size: u64,

    #[command(flatten)]
    pub signing: SigningArgs,

    #[command(flatten)]
    server: SourceArgs,

    #[command(flatten)]
    pub bucket: WriteArgs,
}

/// `commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The server that was exported: http[s]://host:port.
    #[arg(long, value_name = "URI")]
    pub source: String,

    /// Ranges that are checked at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// Most rows to ask the server for at once; sizes adapt below that by themselves.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub page_rows: u32,

    #[command(flatten)]
    signing: SigningArgs,

    #[command(flatten)]
    server: SourceArgs,

    #[command(flatten)]
    pub bucket: WriteArgs,
}

/// Whether and with what to sign what is committed.
#[derive(Debug, Args)]
pub struct SigningArgs {
    /// Sign the snapshot with this minisign secret key, as `sign` does.
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// File with the key's password; or set MILVUS_HANDOFF_KEY_PASSWORD; else the terminal is asked.
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    key_password_file: Option<PathBuf>,
}

/// Credentials of the source.
#[derive(Debug, Args)]
struct SourceArgs {
    /// File with `user:password` or an API key; or set MILVUS_HANDOFF_SOURCE_TOKEN.
    #[arg(long, value_name = "FILE")]
    source_token_file: Option<PathBuf>,

    /// Certificate authority to trust for https:// (PEM).
    #[arg(long, value_name = "FILE")]
    source_ca: Option<PathBuf>,

    /// Client certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "source_key")]
    source_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "source_cert")]
    source_key: Option<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The server to write to: http[s]://host:port[/database].
    #[arg(long, value_name = "URI")]
    pub target: String,

    /// Only collections that match [database.]name, where both may contain *, ? and [...].
    #[arg(short, long = "collection", value_name = "PATTERN")]
    pub collections: Vec<String>,

    /// Put a collection or a whole database elsewhere: a=b, db1.a=db2.b or db1.*=db2.*.
    #[arg(long, value_name = "FROM=TO")]
    pub rename: Vec<String>,

    /// Say what would be imported, and touch nothing.
    #[arg(long)]
    pub plan: bool,

    /// Parts that are imported at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// How rows get in.
    #[arg(long, value_enum, default_value = "insert")]
    via: By,

    /// With `--via bulk` or `auto`: a prefix in the bucket that Milvus itself keeps its data in; the parts are
    /// copied there and removed afterwards. Zilliz Cloud needs none: see its options below.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    stage: Option<String>,

    /// The S3 server of the stage, if it is not that of the snapshot.
    #[arg(long, value_name = "URL", requires = "stage")]
    stage_endpoint: Option<String>,

    /// The region of the stage, if it is not that of the snapshot.
    #[arg(long, value_name = "REGION", requires = "stage")]
    stage_region: Option<String>,

    /// The AWS profile for the stage; or set MILVUS_HANDOFF_STAGE_ACCESS_KEY_ID and
    /// MILVUS_HANDOFF_STAGE_SECRET_ACCESS_KEY; otherwise the credentials of the snapshot.
    #[arg(long, value_name = "NAME", requires = "stage")]
    stage_profile: Option<String>,

    /// Leave the aliases out, such as for a copy beside the original.
    #[arg(long)]
    pub no_aliases: bool,

    /// What becomes of primary keys that the source's server made.
    #[arg(long, value_enum, default_value = "preserve")]
    pub auto_id: AutoId,

    /// Where to note which parts are in, so that the same command goes on after an interruption; by
    /// default a file in ~/.local/state/milvus-handoff. It is removed when all is in.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Load the collections when all rows are in; otherwise they stay unloaded.
    #[arg(long)]
    pub load: bool,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub server: TargetArgs,

    #[command(flatten)]
    pub bucket: BucketArgs,

    #[command(flatten)]
    cloud: CloudArgs,
}

/// By which jobs Zilliz Cloud loads the parts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Zilliz Cloud, with `--via bulk` or `auto`")]
struct CloudArgs {
    /// The id of the cluster that `--target` is; the API key is in MILVUS_HANDOFF_CLOUD_API_KEY.
    #[arg(long, value_name = "ID", conflicts_with_all = ["stage", "cloud_project"])]
    cloud_cluster: Option<String>,

    /// The project whose databases `--target` has, instead of a cluster.
    #[arg(long, value_name = "ID", requires = "cloud_region", conflicts_with = "stage")]
    cloud_project: Option<String>,

    /// The project's region.
    #[arg(long, value_name = "ID", requires = "cloud_project")]
    cloud_region: Option<String>,

    /// The key that is GIVEN TO THE SERVICE to read the snapshot's bucket: a file as
    /// `aws sts assume-role` prints it, or `chain` for the credentials of this process. Take one that
    /// may only read there, and not for long.
    #[arg(long, value_name = "FILE|chain", conflicts_with = "cloud_volume")]
    cloud_key: Option<String>,

    /// The snapshot as the service reaches it, if not by its own URL: s3://, gs:// or https://.
    #[arg(long, value_name = "URL", conflicts_with = "cloud_volume")]
    cloud_objects: Option<String>,

    /// A volume of the service that has the snapshot, and its folder there, instead of a key.
    #[arg(long, value_name = "NAME[/FOLDER]")]
    cloud_volume: Option<String>,

    /// Where the service's REST interface is.
    #[arg(long, value_name = "URL", default_value = "https://api.cloud.zilliz.com")]
    cloud_endpoint: String,
}

/// Credentials of the target.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// File with `user:password` or an API key; or set MILVUS_HANDOFF_TARGET_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub target_token_file: Option<PathBuf>,

    /// Certificate authority to trust for https:// (PEM).
    #[arg(long, value_name = "FILE")]
    pub target_ca: Option<PathBuf>,

    /// Client certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "target_key")]
    pub target_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "target_cert")]
    pub target_key: Option<PathBuf>,
}

/// Whose bucket it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bucket")]
pub struct BucketArgs {
    /// The AWS account that the bucket must belong to: refuse another one's.
    #[arg(long, value_name = "ACCOUNT")]
    pub expected_bucket_owner: Option<String>,

    /// Accept to pay for the requests and the transfer, where the bucket's owner does not.
    #[arg(long)]
    pub requester_pays: bool,
}

/// How objects are put into it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bucket")]
pub struct WriteArgs {
    #[command(flatten)]
    pub bucket: BucketArgs,

    /// Lock every object, in a bucket that was made with object lock.
    #[arg(long, value_name = "MODE", value_enum, requires = "retain_until")]
    object_lock: Option<LockMode>,

    /// Until when: a day such as 2031-12-31, or a moment such as 2031-12-31T12:00:00Z (UTC).
    #[arg(long, value_name = "DATE", requires = "object_lock")]
    retain_until: Option<String>,

    /// Encrypt with this key of KMS: its id, alias or ARN; by default as the bucket is set up.
    #[arg(long, value_name = "KEY")]
    sse_kms_key: Option<String>,
}

/// Why a snapshot is to be believed.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The digest that `export` printed: refuse any other snapshot.
    #[arg(long, value_name = "sha256:HEX")]
    expect: Option<String>,

    /// A minisign public key, as a file or as its line of Base64: refuse a snapshot without a valid
    /// signature by one of the keys that are given so.
    #[arg(long, value_name = "FILE|BASE64")]
    pub trusted_key: Vec<String>,
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Where the secret key goes; the public key goes to FILE.pub beside it.
    #[arg(value_name = "FILE")]
    pub secret: PathBuf,

    /// File with the password; or set MILVUS_HANDOFF_KEY_PASSWORD; else the terminal is asked.
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,

    /// Do not protect the secret key: whoever reads the file can sign.
    #[arg(long, conflicts_with = "key_password_file")]
    no_password: bool,
}

/// `sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The minisign secret key to sign with.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// File with the key's password; or set MILVUS_HANDOFF_KEY_PASSWORD; else the terminal is asked.
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    pub bucket: WriteArgs,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// How closely to look: names and sizes; the bucket's own checksums; every byte.
    #[arg(long, value_enum, default_value = "full")]
    pub level: Level,

    #[command(flatten)]
    pub trust: TrustArgs,

    /// Objects that are read at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The server to compare with, also the source itself: http[s]://host:port[/database].
    #[arg(long, value_name = "URI")]
    pub target: String,

    /// Only collections that match [database.]name, where both may contain *, ? and [...].
    #[arg(short, long = "collection", value_name = "PATTERN")]
    pub collections: Vec<String>,

    /// Where the server has a collection or a whole database: a=b, db1.a=db2.b or db1.*=db2.*.
    #[arg(long, value_name = "FROM=TO")]
    pub rename: Vec<String>,

    /// How closely to look: counts; also some rows of every part and the newest; every row.
    #[arg(long, value_enum, default_value = "sample")]
    pub level: compare::Level,

    /// With `--level sample`: rows to draw from every part, and newest rows of every partition.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rows_per_part: u32,

    /// With `--level sample`: draw the same rows as an earlier run, which printed this number.
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,

    /// What the import was told to do with primary keys that the source's server had made.
    #[arg(long, value_enum, default_value = "preserve")]
    pub auto_id: AutoId,

    /// Load collections that are not loaded, and release them afterwards.
    #[arg(long)]
    pub load: bool,

    /// Ranges or parts that are compared at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// Most rows to ask the server for at once; sizes adapt below that by themselves.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub page_rows: u32,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    server: TargetArgs,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// Also show the first rows of every collection.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rows: usize,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A snapshot: s3://bucket/prefix/name or file:///folder/name.
    pub a: String,

    /// Another one, or a later one of the same.
    pub b: String,

    /// Only collections that match [database.]name, where both may contain *, ? and [...].
    #[arg(short, long = "collection", value_name = "PATTERN")]
    collections: Vec<String>,

    /// Read the rows of both, and name those that were removed, added and changed.
    #[arg(long)]
    keys: bool,

    /// With `--keys`: rows of each kind and collection to name; all are counted.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    first: u16,

    /// With `--keys`: partitions that are compared at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where the snapshot is: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: String,

    /// The file to write, `-` for stdout. Without it the report is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// In which form; by default as the file's name ends (.html, .md, .json), html without an ending.
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// How closely to look at the objects: names and sizes; the bucket's own checksums; every byte.
    #[arg(long, value_enum, default_value = "list")]
    level: Level,

    /// The result of a comparison with the target, as `compare --json` has printed it.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,

    /// Objects that are read at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where a snapshot is or will be: s3://bucket/prefix/name or file:///folder/name.
    pub snapshot: Option<String>,

    /// A server to export from: http[s]://host:port[/database].
    #[arg(long, value_name = "URI")]
    pub source: Option<String>,

    /// A server to import into: http[s]://host:port[/database].
    #[arg(long, value_name = "URI")]
    pub target: Option<String>,

    #[command(flatten)]
    from: SourceArgs,

    #[command(flatten)]
    into: TargetArgs,

    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command to explain; without one, the tool itself.
    #[arg(value_name = "COMMAND")]
    pub about: Option<String>,
}

/// How rows get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// This machine reads the parts and inserts their rows: works with every server
    Insert,
    /// The server reads the parts itself, by its bulk import: for loads that outgrow one machine
    Bulk,
    /// The one of the two that suits the server, the types and the size; it is said which and why
    Auto,
}

impl clap::ValueEnum for AutoId {
    fn value_variants<'a>() -> &'a [Self] {
        &[AutoId::Preserve, AutoId::Regenerate, AutoId::AsField]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            AutoId::Preserve => "Rows keep their keys, and the target goes on making keys for new rows",
            AutoId::Regenerate => "The target makes new keys; the old ones are lost",
            AutoId::AsField => "Rows keep their keys; new rows must bring theirs",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ExportArgs {
    /// As typed options.
    pub fn options(&self, show: Show) -> Result<(SnapshotUrl, export::Options)> {
        let snapshot = SnapshotUrl::parse(&self.snapshot)?;
        let source = self.server.endpoint(&self.source)?;
        let options = export::Options {
            selection: Selection::parse(&self.collections, &self.exclude, source.database.as_deref())?,
            source,
            plan_only: self.plan,
            shard: self.shard.as_deref().map(parse_shard).transpose()?,
            writes_paused: self.writes_paused,
            effort: Effort { jobs: usize::from(self.jobs), page_rows: self.page_rows },
            load_source: self.load_source,
            allow_writes: self.allow_writes,
            part_size: self.part_size,
            sign: self.signing.key()?,
            show,
        };
        Ok((snapshot, options))
    }
}

impl CommitArgs {
    /// As typed options.
    pub fn options(&self) -> Result<(SnapshotUrl, export::commit::Options)> {
        let options = export::commit::Options {
            source: self.server.endpoint(&self.source)?,
            effort: Effort { jobs: usize::from(self.jobs), page_rows: self.page_rows },
            sign: self.signing.key()?,
        };
        Ok((SnapshotUrl::parse(&self.snapshot)?, options))
    }
}

impl SigningArgs {
    /// Unlocked before anything else happens: an export must not fail at its end for a password.
    fn key(&self) -> Result<Option<SigningKey>> {
        let unlock = |path: &PathBuf| signing_key("--sign-key", path, self.key_password_file.as_deref());
        self.sign_key.as_ref().map(unlock).transpose()
    }
}

impl ImportArgs {
    /// As typed options.
    pub fn options(&self, show: Show) -> Result<(SnapshotUrl, import::Options)> {
        let snapshot = SnapshotUrl::parse(&self.snapshot)?;
        let target = self.server.endpoint(&self.target)?;
        let options = import::Options {
            // Names in a snapshot are the source's: the target's database says nothing of them.
            selection: Selection::parse(&self.collections, &[], None)?,
            renames: Renames::parse(&self.rename, target.database.as_deref())?,
            target,
            plan_only: self.plan,
            jobs: usize::from(self.jobs),
            via: self.via()?,
            no_aliases: self.no_aliases,
            auto_id: self.auto_id,
            journal: self.journal.clone(),
            load: self.load,
            trust: self.trust.trust()?,
            show,
        };
        Ok((snapshot, options))
    }

    fn via(&self) -> Result<import::Via> {
        use import::{Route, Via};
        Ok(match self.via {
            By::Insert => Via::Is(Route::Insert),
            By::Bulk => Via::Is(self.bulk()?.ok_or_else(|| {
                Error::new(ErrorKind::Usage, "`--via bulk` needs a place from which the server reads")
                    .hint("give `--stage` for a Milvus of your own, or `--cloud-cluster` with `--cloud-key` or `--cloud-volume` for Zilliz Cloud")
            })?),
            By::Auto => Via::Auto(self.bulk()?),
        })
    }

    /// The route by jobs of the server, if there can be one.
    fn bulk(&self) -> Result<Option<import::Route>> {
        use import::Route;
        if let Some(service) = self.cloud.service()? {
            return Ok(Some(Route::Cloud(Box::new(service))));
        }
        Ok(self.place()?.map(Route::Bulk))
    }

    /// From where the server reads, if it is to.
    fn place(&self) -> Result<Option<import::Place>> {
        let Some(stage) = &self.stage else { return Ok(None) };
        let url = SnapshotUrl::parse(stage).map_err(|e| e.context("--stage"))?;
        let access = Access {
            endpoint: self.stage_endpoint.clone(),
            region: self.stage_region.clone(),
            profile: self.stage_profile.clone(),
            keys: stage_keys()?,
        };
        if access.profile.is_some() && access.keys.is_some() {
            let what = format!("the stage has two kinds of credentials: --stage-profile and {STAGE_KEY_ID}");
            return Err(Error::new(ErrorKind::Usage, what).hint("give one of them"));
        }
        Ok(Some(import::Place { url, access }))
    }
}

impl CloudArgs {
    /// The service, if one of its clusters is named.
    fn service(&self) -> Result<Option<import::Service>> {
        let usage = |what: &str, hint: &str| Err(Error::new(ErrorKind::Usage, what).hint(hint));
        let deployment = match (&self.cloud_cluster, &self.cloud_project, &self.cloud_region) {
            (Some(id), ..) => Deployment::Cluster(id.clone()),
            (None, Some(project), Some(region)) => {
                Deployment::Project { project: project.clone(), region: region.clone() }
            }
            _ if self.cloud_key.is_some() || self.cloud_objects.is_some() || self.cloud_volume.is_some() => {
                return usage(
                    "options of Zilliz Cloud are given without a cluster",
                    "name it with `--cloud-cluster`, or with `--cloud-project` and `--cloud-region`",
                );
            }
            _ => return Ok(None),
        };
        let Some(api_key) = token_of(CLOUD_API_KEY)? else {
            return usage(
                "there is no API key for Zilliz Cloud",
                "set MILVUS_HANDOFF_CLOUD_API_KEY to one that may import into that cluster",
            );
        };
        let (volume, reads) = match (&self.cloud_volume, &self.cloud_key) {
            (Some(volume), _) => {
                let (name, folder) = volume.split_once('/').unwrap_or((volume, ""));
                if name.is_empty() {
                    return usage("--cloud-volume has no name", "write `--cloud-volume NAME` or NAME/FOLDER");
                }
                let folder = folder.trim_matches('/').to_string();
                (Some(name.to_string()), import::Reads::Volume { folder })
            }
            (None, Some(key)) => {
                let url = self.cloud_objects.as_deref().map(objects_url).transpose()?;
                let key = match key.as_str() {
                    "chain" => import::Key::OfThisProcess,
                    file => import::Key::Given(bucket_key(Path::new(file))?),
                };
                (None, import::Reads::Objects { url, key })
            }
            (None, None) => {
                return usage(
                    "Zilliz Cloud has to be given a key by which it reads the snapshot's bucket",
                    "give `--cloud-key FILE`, with a key that may only read there, and not for long; or a volume that has the \
                     snapshot, with `--cloud-volume`",
                );
            }
        };
        let endpoint = CloudEndpoint::parse(&self.cloud_endpoint, api_key, deployment, volume)?;
        Ok(Some(import::Service { endpoint, reads }))
    }
}

/// A prefix by which a service reads, without a slash at its end.
fn objects_url(text: &str) -> Result<String> {
    let fine = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "s3" | "gs" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if fine {
        return Ok(text.trim_end_matches('/').to_string());
    }
    // The value is not repeated: there may be a signature in it.
    Err(Error::new(ErrorKind::Usage, "--cloud-objects is not a URL of objects")
        .hint("write s3://bucket/prefix/name, gs://bucket/prefix/name or https://host/bucket/prefix/name"))
}

/// A key of a bucket from a file as the AWS command line prints it.
fn bucket_key(path: &Path) -> Result<BucketKey> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Printed {
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    }
    let text = read_small("--cloud-key", path)?;
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let inner = value.get_mut("Credentials").map(serde_json::Value::take).unwrap_or(value);
    // What is wrong with it is not repeated: there is a secret in it.
    let Printed { access_key_id: id, secret_access_key: secret, session_token: token } =
        serde_json::from_value(inner).map_err(|_| {
            Error::new(ErrorKind::Usage, format!("there is no key in the file of --cloud-key, {}", path.display()))
                .hint("it is JSON with AccessKeyId, SecretAccessKey and perhaps SessionToken, as `aws sts assume-role` and `aws configure export-credentials` print it")
        })?;
    Ok(BucketKey { id, secret, token })
}

impl CompareArgs {
    /// As typed options.
    pub fn options(&self, show: Show) -> Result<(SnapshotUrl, compare::Options)> {
        let snapshot = SnapshotUrl::parse(&self.snapshot)?;
        let target = self.server.endpoint(&self.target)?;
        let options = compare::Options {
            // Names in a snapshot are the source's: the target's database says nothing of them.
            selection: Selection::parse(&self.collections, &[], None)?,
            renames: Renames::parse(&self.rename, target.database.as_deref())?,
            target,
            level: self.level,
            rows_per_part: self.rows_per_part,
            seed: self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0),
            auto_id: self.auto_id,
            load: self.load,
            jobs: usize::from(self.jobs),
            page_rows: self.page_rows,
            trust: self.trust.trust()?,
            show,
        };
        Ok((snapshot, options))
    }
}

impl DiffArgs {
    /// As typed options.
    pub fn options(&self, show: Show) -> Result<([SnapshotUrl; 2], diff::Options)> {
        let urls = [SnapshotUrl::parse(&self.a)?, SnapshotUrl::parse(&self.b)?];
        let options = diff::Options {
            selection: Selection::parse(&self.collections, &[], None)?,
            keys: self.keys,
            first: usize::from(self.first),
            jobs: usize::from(self.jobs),
            show,
        };
        Ok((urls, options))
    }
}

impl ReportArgs {
    /// As typed options.
    pub fn options(&self, show: Show) -> Result<report::Options> {
        Ok(report::Options {
            url: SnapshotUrl::parse(&self.snapshot)?,
            level: self.level,
            trust: self.trust.trust()?,
            bucket: self.bucket.settings(),
            compare: self.compare.clone(),
            jobs: usize::from(self.jobs),
            show,
        })
    }

    /// The file to write; `None`: the report is printed.
    pub fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// In which form. `document`: stdout is to have one JSON document and nothing else.
    pub fn format(&self, document: bool) -> Result<Format> {
        let ending = self.file().and_then(Path::extension).and_then(|e| e.to_str()).map(str::to_lowercase);
        if document && self.file().is_none() {
            return match self.format {
                None | Some(Format::Json) => Ok(Format::Json),
                Some(_) => Err(Error::new(
                    ErrorKind::Usage,
                    "stdout has one document with --json, and cannot have another form as well",
                )
                .hint("give the report a file with `-o`, or leave out `--json`")),
            };
        }
        let format = match (self.format, ending.as_deref()) {
            (Some(format), _) => format,
            (None, None | Some("html" | "htm")) => Format::Html,
            (None, Some("md" | "markdown")) => Format::Md,
            (None, Some("json")) => Format::Json,
            (None, Some(other)) => {
                let what = format!("-o: no form of a report has names that end in .{other}");
                return Err(Error::new(ErrorKind::Usage, what)
                    .hint("end the name in .html, .md or .json, or say the form with `--format`"));
            }
        };
        if format == Format::Html && self.output.is_none() && std::io::stdout().is_terminal() {
            return Err(Error::new(ErrorKind::Usage, "a page is for a browser and not for a terminal").hint(
                "give it a file, as in `-o audit.html`; or `--format md`, or `-o -` to see it all the same",
            ));
        }
        Ok(format)
    }
}

impl BucketArgs {
    /// As typed options.
    pub fn settings(&self) -> Settings {
        Settings {
            owner: self.expected_bucket_owner.clone(),
            requester_pays: self.requester_pays,
            ..Settings::default()
        }
    }
}

impl WriteArgs {
    /// As typed options.
    pub fn settings(&self) -> Result<Settings> {
        let lock = |mode| Lock::parse(mode, self.retain_until.as_deref().unwrap_or_default());
        Ok(Settings {
            lock: self.object_lock.map(lock).transpose()?,
            kms_key: self.sse_kms_key.clone(),
            ..self.bucket.settings()
        })
    }
}

impl DoctorArgs {
    /// The source, the target and the place of the snapshot, as far as they were named.
    pub fn places(&self) -> Result<(Option<Endpoint>, Option<Endpoint>, Option<SnapshotUrl>)> {
        if self.source.is_none() && self.target.is_none() && self.snapshot.is_none() {
            return Err(Error::new(ErrorKind::Usage, "there is nothing to look at").hint(
                "name a snapshot, `--source URI`, `--target URI`, or several of them; `milvus-handoff doctor --help` has examples",
            ));
        }
        Ok((
            self.source.as_deref().map(|uri| self.from.endpoint(uri)).transpose()?,
            self.target.as_deref().map(|uri| self.into.endpoint(uri)).transpose()?,
            self.snapshot.as_deref().map(SnapshotUrl::parse).transpose()?,
        ))
    }
}

impl SourceArgs {
    fn endpoint(&self, uri: &str) -> Result<Endpoint> {
        let token = token(Side::Source, self.source_token_file.as_ref())?;
        let tls =
            Tls { ca: self.source_ca.clone(), cert: self.source_cert.clone(), key: self.source_key.clone() };
        Ok(Endpoint::parse(uri, token, tls)?.on(Side::Source))
    }
}

impl TargetArgs {
    fn endpoint(&self, uri: &str) -> Result<Endpoint> {
        let token = token(Side::Target, self.target_token_file.as_ref())?;
        let tls =
            Tls { ca: self.target_ca.clone(), cert: self.target_cert.clone(), key: self.target_key.clone() };
        Ok(Endpoint::parse(uri, token, tls)?.on(Side::Target))
    }
}

impl TrustArgs {
    /// As typed options.
    pub fn trust(&self) -> Result<Trust> {
        let key = |text: &String| {
            // A key has a form that no path has.
            if let Ok(key) = PublicKey::parse(text) {
                return Ok(key);
            }
            let file = read_small("--trusted-key", Path::new(text)).map_err(|error| {
                error.also_hint("it is no key's line either: that has 56 characters and begins with RW")
            })?;
            PublicKey::parse(&file).context(|| format!("--trusted-key {text}"))
        };
        Ok(Trust {
            expect: self.expect.as_deref().map(Sha256::parse).transpose()?,
            keys: self.trusted_key.iter().map(key).collect::<Result<_>>()?,
        })
    }
}

impl KeygenArgs {
    /// The password that is to protect the key, if one is.
    pub fn new_password(&self) -> Result<Option<String>> {
        if self.no_password {
            return Ok(None);
        }
        let again =
            || {
                let (first, second) = (prompt("Password for the new key: ")?, prompt("The same again: ")?);
                match first == second {
                    true => Ok(first),
                    false => Err(Error::new(ErrorKind::Usage, "the two passwords differ")
                        .hint("run the command again")),
                }
            };
        let password = password(self.key_password_file.as_deref(), again)?;
        if password.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "an empty password protects nothing").hint(
                "give a password, or `--no-password` for a key that only its file's permissions protect",
            ));
        }
        Ok(Some(password))
    }
}

impl SignArgs {
    /// The key, unlocked.
    pub fn signing_key(&self) -> Result<SigningKey> {
        signing_key("--key", &self.key, self.key_password_file.as_deref())
    }

    /// Why the snapshot is to be believed.
    pub fn trust(&self) -> Result<Trust> {
        self.trust.trust()
    }
}

/// Reads a secret key file, and its password if it needs one.
fn signing_key(flag: &str, path: &Path, password_file: Option<&Path>) -> Result<SigningKey> {
    let text = read_small(flag, path)?;
    let key = if SigningKey::is_locked(&text) {
        let password = password(password_file, || prompt(&format!("Password of {}: ", path.display())))?;
        SigningKey::unlock(&text, password)
    } else {
        SigningKey::open(&text)
    };
    key.context(|| format!("{flag} {}", path.display()))
}

/// A password from a file, the environment or the terminal; never from the command line.
fn password(file: Option<&Path>, ask: impl FnOnce() -> Result<String>) -> Result<String> {
    if let Some(path) = file {
        let text = read_small("--key-password-file", path)?;
        return Ok(text
            .strip_suffix('\n')
            .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t))
            .to_string());
    }
    match std::env::var(KEY_PASSWORD) {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) | Err(std::env::VarError::NotPresent) => ask(),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Usage, format!("{KEY_PASSWORD} is not UTF-8")))
        }
    }
}

fn prompt(text: &str) -> Result<String> {
    rpassword::prompt_password(text).map_err(|e| {
        Error::new(ErrorKind::Usage, "a password is needed, and there is no terminal to ask for it")
            .because(e)
            .hint(format!("set {KEY_PASSWORD}, or give --key-password-file FILE"))
    })
}

/// The text of a file that is small if it is the right one.
fn read_small(flag: &str, path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text)).map_err(|e| {
        Error::new(ErrorKind::Usage, format!("cannot read the file of {flag}, {}", path.display()))
            .because(e)
            .hint("check the path and who may read it")
    })?;
    Ok(text)
}

/// A secret from a file or from the environment; never from the command line, which others see.
fn token(side: Side, file: Option<&PathBuf>) -> Result<Option<Token>> {
    let (variable, flag) = (side.token_variable(), side.token_flag());
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("cannot read the file of {flag}, {}", path.display()))
                .because(e)
                .hint(format!("check the path and who may read it, or set {variable}"))
        })?;
        if text.trim().is_empty() {
            let what = format!("the file of {flag}, {}, is empty", path.display());
            return Err(Error::new(ErrorKind::Usage, what).hint(
                "write `user:password` or an API key into it, or leave the flag out if the server wants none",
            ));
        }
        return Ok(Some(Token::new(&text).given_in(format!("the file of {flag}"))));
    }
    token_of(variable)
}

/// A secret from the environment.
fn token_of(variable: &str) -> Result<Option<Token>> {
    match std::env::var(variable) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(Token::new(&text).given_in(variable))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Usage, format!("{variable} is not UTF-8")))
        }
    }
}

/// `plan/4`, `0/4` or `env:JOB_COMPLETION_INDEX/4`.
fn parse_shard(text: &str) -> Result<Shard> {
    let wrong = |what: String| {
        Error::new(ErrorKind::Usage, format!("--shard {text}: {what}"))
            .hint("`plan/4` for the plan, `0/4` to `3/4` or `env:JOB_COMPLETION_INDEX/4` for the work")
    };
    let number = |text: &str| {
        let value = match text.strip_prefix("env:") {
            Some(variable) => {
                std::env::var(variable).map_err(|_| wrong(format!("the variable {variable:?} is not set")))?
            }
            None => text.to_string(),
        };
        value.parse::<u32>().map_err(|_| wrong(format!("{value:?} is not a number")))
    };
    let (index, of) = text.split_once('/').ok_or_else(|| wrong("there is no `/`".into()))?;
    let of = number(of)?;
    if !(1..=MAX_SHARDS).contains(&of) {
        return Err(wrong(format!("there can be 1 to {MAX_SHARDS} workers")));
    }
    if index == "plan" {
        return Ok(Shard::Plan { workers: of });
    }
    let index = number(index)?;
    if index >= of {
        return Err(wrong(format!("workers are counted from 0, so the last of {of} is {}", of - 1)));
    }
    Ok(Shard::Work(Share { index, of }))
}

/// The credentials of the stage, where it has its own.
fn stage_keys() -> Result<Option<Keys>> {
    let read = |name: &str| match std::env::var(name) {
        Ok(text) => Ok(Some(text.trim().to_string()).filter(|text| !text.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Usage, format!("{name} is not UTF-8")))
        }
    };
    match (read(STAGE_KEY_ID)?, read(STAGE_SECRET)?) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => Ok(Some(Keys { id, secret, token: read(STAGE_TOKEN)? })),
        _ => {
            Err(Error::new(ErrorKind::Usage, format!("only one of {STAGE_KEY_ID} and {STAGE_SECRET} is set"))
                .hint("set both, or neither to use the credentials of the snapshot"))
        }
    }
}

/// A size such as `256MiB`, `1GiB`, `64MB` or plain bytes.
fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(format!("{other:?} is not a unit; use KiB, MiB or GiB")),
    };
    let number: u64 = text[..digits].parse().map_err(|_| "a size begins with a number".to_string())?;
    number
        .checked_mul(unit)
        .filter(|size| PART_SIZE_RANGE.contains(size))
        .ok_or_else(|| "a part has between 64KiB and 4GiB".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn shards() {
        assert_eq!(parse_shard("plan/4").unwrap(), Shard::Plan { workers: 4 });
        assert_eq!(parse_shard("3/4").unwrap(), Shard::Work(Share { index: 3, of: 4 }));
        let wrong = [
            ("4/4", "counted from 0"),
            ("0", "no `/`"),
            ("/4", "not a number"),
            ("-1/4", "not a number"),
            ("0/0", "1 to 10000"),
            ("0/10001", "1 to 10000"),
            ("plan", "no `/`"),
            ("Plan/4", "not a number"),
            ("env:MILVUS_HANDOFF_NO_SUCH_VARIABLE/4", "is not set"),
            ("env:/4", "is not set"),
            ("env:PATH/4", "not a number"),
        ];
        for (text, why) in wrong {
            let error = parse_shard(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1000000"), Ok(1_000_000));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        for wrong in ["", "MiB", "5", "9GiB", "1TiB", "-1MiB", "99999999999999999999GiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
