//! Parse, run, exit code.

use clap::Parser;
use milvus_handoff::cli::{Cli, Command};
use milvus_handoff::error::{Code, Error, ErrorKind, Result};
use milvus_handoff::export::Shard;
use milvus_handoff::output::{self, Output};
use milvus_handoff::progress::Stderr;
use milvus_handoff::stop::Stop;
use milvus_handoff::{
    compare, diff, doctor, export, generate, import, inspect, keygen, next, refusal, report, sign, store,
    verify,
};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    thrifty_allocator();
    command()
}

/// From this size on a buffer is the system's to give and goes back to it when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES_FROM: libc::c_int = 1 << 20;

/// glibc gives every thread a heap of its own. Buffers of many megabytes pass from one thread to the next
/// here, so each heap would come to hold as many as there ever were at once. And it comes to keep ever
/// larger buffers in its heaps, whose holes then add up with the number of rows.
fn thrifty_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers in the allocator; no other thread has been started yet. Where it is
    // refused, memory is only less well used.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_FROM);
    }
}

#[tokio::main]
async fn command() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal),
    };
    log_to_stderr(cli.verbose, cli.quiet);
    let code = match run(&cli).await {
        Ok((result, code)) => print(&cli, &result).map(|()| code),
        Err(error) => say(&error, cli.command.name(), cli.json),
    };
    ExitCode::from(code.unwrap_or_else(|error| unwritten(&error)))
}

/// A result that could not be printed, such as to a full disk. Of a closed pipe nobody is left to tell.
fn unwritten(error: &std::io::Error) -> u8 {
    let code = Code::Internal;
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        // If stderr does not take it either, the exit code has to do.
        let _ = writeln!(
            std::io::stderr(),
            "{} the output could not be written: {error}\n{} give stdout a place with room; what the command has done is not undone",
            label(&title(code), "31"),
            label("hint:", "36")
        );
    }
    code.kind().exit_code()
}

fn listen() -> Result<Stop> {
    Stop::listen().map_err(|e| Error::internal("signals cannot be received").because(e))
}

/// Signals are listened for when the work begins: before that a terminal may be asked for a
/// password, and a signal simply ends it.
async fn run(cli: &Cli) -> Result<(Output, u8)> {
    let show = cli.show();
    match &cli.command {
        Command::Export(args) => {
            let (url, options) = args.options(show)?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()?).await?;
            let url = url.to_string();
            let output = match options.shard {
                None => {
                    let outcome = export::run(&options, store, &stop).await?;
                    let steps = next::after_export(&url, args, &outcome);
                    output::exported(&url, &outcome).followed_by(steps)
                }
                Some(Shard::Plan { workers }) => {
                    let made = export::shards::make_plan(&options, workers, store, &stop).await?;
                    output::shard_planned(&url, workers, &made)
                }
                Some(Shard::Work(share)) => {
                    let worked = export::shards::work(&options, share, store, &stop).await?;
                    output::shard_worked(&url, share, &worked)
                }
            };
            Ok((output, 0))
        }
        Command::Commit(args) => {
            let (url, options) = args.options()?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()?).await?;
            let outcome = export::commit::run(&options, store.as_ref(), &stop).await?;
            Ok((output::committed(&url.to_string(), &outcome), 0))
        }
        Command::Import(args) => {
            let (url, options) = args.options(show)?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()).await?;
            let outcome = import::run(&options, store, &stop).await?;
            let (url, steps) = (url.to_string(), next::after_import(&url.to_string(), args, &outcome));
            Ok((output::imported(&url, &outcome).followed_by(steps), 0))
        }
        Command::Verify(args) => {
            let url = store::SnapshotUrl::parse(&args.snapshot)?;
            let trust = args.trust.trust()?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()).await?;
            let work = verify::run(store, args.level, &trust, usize::from(args.jobs), show);
            let report = stop.unless_stopped(work).await?;
            let code = if report.problems.is_empty() { 0 } else { ErrorKind::Integrity.exit_code() };
            Ok((output::verified(&url.to_string(), &report), code))
        }
        Command::Compare(args) => {
            let (url, options) = args.options(show)?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()).await?;
            let report = compare::run(&options, store, &stop).await?;
            let code = if report.differences() == 0 { 0 } else { ErrorKind::Integrity.exit_code() };
            Ok((output::compared(&url.to_string(), &report), code))
        }
        Command::Inspect(args) => {
            let url = store::SnapshotUrl::parse(&args.snapshot)?;
            let trust = args.trust.trust()?;
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()).await?;
            let report = stop.unless_stopped(inspect::run(store.as_ref(), &trust, args.rows)).await?;
            Ok((output::inspected(&url.to_string(), &report), 0))
        }
        Command::Diff(args) => {
            let (urls, options) = args.options(show)?;
            let stop = listen()?;
            let bucket = args.bucket.settings();
            let stores =
                [store::open_with(&urls[0], &bucket).await?, store::open_with(&urls[1], &bucket).await?];
            let report = stop.unless_stopped(diff::run(&options, stores)).await?;
            let code = if report.differences() == 0 { 0 } else { ErrorKind::Integrity.exit_code() };
            let [a, b] = urls.map(|url| url.to_string());
            Ok((diff::output([&a, &b], &report), code))
        }
        Command::Report(args) => {
            let (options, format) = (args.options(show)?, args.format(cli.json)?);
            let stop = listen()?;
            let store = store::open_with(&options.url, &args.bucket.settings()).await?;
            let report = stop.unless_stopped(report::run(&options, store)).await?;
            let code = if report.is_good() { 0 } else { ErrorKind::Integrity.exit_code() };
            Ok((report::written(&report, format, args.file(), cli.json).await?, code))
        }
        Command::Sign(args) => {
            let url = store::SnapshotUrl::parse(&args.snapshot)?;
            let (trust, key) = (args.trust()?, args.signing_key()?);
            let stop = listen()?;
            let store = store::open_with(&url, &args.bucket.settings()?).await?;
            let report = stop.unless_stopped(sign::run(store.as_ref(), &trust, &key)).await?;
            Ok((output::signed(&url.to_string(), &report), 0))
        }
        Command::Keygen(args) => {
            keygen::refuse_existing(&args.secret)?;
            let report = keygen::run(&args.secret, args.new_password()?).await?;
            Ok((output::key_made(&report), 0))
        }
        Command::Doctor(args) => {
            let (source, target, url) = args.places()?;
            let stop = listen()?;
            let settings = args.bucket.settings();
            let place = match url {
                Some(url) => Some(doctor::Place {
                    snapshot: store::open_with(&url, &settings).await?,
                    probe: store::open_with(&url.beside(doctor::PROBE_SUFFIX), &settings).await?,
                    url,
                }),
                None => None,
            };
            let options = doctor::Options { source, target, place };
            let report = stop.unless_stopped(async { Ok(doctor::run(&options).await) }).await?;
            let code = report.first_bad().map_or(0, |code| code.kind().exit_code());
            Ok((output::examined(&report), code))
        }
        Command::Completions(args) => {
            let script = generate::completions(args.shell);
            Ok((output::generated("completions", &args.shell.to_string(), script), 0))
        }
        Command::Man(args) => {
            let page = generate::man_page(args.about.as_deref())?;
            let about = args.about.as_deref().unwrap_or("milvus-handoff");
            Ok((output::generated("man", about, page), 0))
        }
    }
}

/// Prints a result: to stdout, as a document or as text.
fn print(cli: &Cli, result: &Output) -> std::io::Result<()> {
    if !cli.quiet {
        for warning in &result.warnings {
            writeln!(std::io::stderr(), "{} {}", label("warning:", "33"), output::one_line(warning))?;
        }
    }
    let text = output::safe(&result.text);
    if cli.json {
        if !cli.quiet {
            write!(std::io::stderr(), "{text}")?;
        }
        writeln!(std::io::stdout(), "{}", output::json_line(&result.document))?;
        return std::io::stdout().flush();
    }
    let doctor = matches!(cli.command, Command::Doctor(_));
    let colourful = doctor && std::io::stdout().is_terminal() && !no_colour();
    let text = if colourful { output::painted(&text) } else { text };
    write!(std::io::stdout(), "{text}")?;
    std::io::stdout().flush()?;
    // For people at a terminal; scripts know what they do next.
    if !cli.quiet && std::io::stderr().is_terminal() && !result.next.is_empty() {
        writeln!(std::io::stderr(), "\n{}", label("next:", "36"))?;
        for step in &result.next {
            writeln!(std::io::stderr(), "  {}", output::one_line(step))?;
        }
    }
    Ok(())
}

/// Prints a failure of a command: what failed, why, what next.
fn say(error: &Error, command: &str, as_document: bool) -> std::io::Result<u8> {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{} {}", label(&title(error.code()), "31"), output::one_line(&error.to_string()))?;
    if let Some(hint) = error.hint_text() {
        writeln!(stderr, "{} {}", label("hint:", "36"), output::one_line(hint))?;
    }
    if as_document {
        let document = output::failure(command, error);
        writeln!(std::io::stdout(), "{}", output::json_line(&document))?;
    }
    Ok(error.kind().exit_code())
}

/// A command line that clap refuses, or help that was asked for. With `--json` on the line the
/// refusal is a document too.
fn refuse(refused: &clap::Error) -> ExitCode {
    let asked = !refused.use_stderr();
    // Without anything on the line there is help instead of a refusal.
    if asked || refused.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = refused.print();
        return ExitCode::from(if asked { 0 } else { ErrorKind::Usage.exit_code() });
    }
    // An argument that is not UTF-8 may be the very reason for the refusal.
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    let command = refusal::command_of(&args);
    let error = refusal::refusal(refused, command);
    let code = say(&error, command, args.iter().any(|arg| arg == "--json"));
    ExitCode::from(code.unwrap_or_else(|error| unwritten(&error)))
}

/// What an error begins with: its code can be looked up in `docs/errors.md`.
fn title(code: Code) -> String {
    format!("error[{}]:", code.text())
}

/// Whether stderr may have colours.
fn colours() -> bool {
    !no_colour() && std::io::stderr().is_terminal()
}

fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

fn label(text: &str, color: &str) -> String {
    if colours() { format!("\x1b[1;{color}m{text}\x1b[0m") } else { text.to_string() }
}

fn log_to_stderr(verbose: u8, quiet: bool) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let level = match verbose {
        0 if quiet => return,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // Only this crate's own events: those of libraries may hold requests with credentials.
    let ours = Targets::new().with_target("milvus_handoff", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Stderr).without_time().with_target(false);
    tracing_subscriber::registry().with(lines.with_ansi(colours()).with_filter(ours)).init();
}
