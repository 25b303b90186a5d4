//! What is wrong with a command line, in this tool's own form.
//!
//! Owns: the words for what clap refuses, and what is said next. Does not own: what a command line
//! may hold (`cli`), or printing (`main`).

use crate::cli::Cli;
use crate::error::{Code, Error};
use crate::select::distance;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;

/// Guesses that are named at most.
const GUESSES: usize = 3;

/// A refusal by clap, of the command line that `command` begins; empty: of the tool's own.
pub fn refusal(refused: &clap::Error, command: &str) -> Error {
    let place =
        if command.is_empty() { "milvus-handoff".into() } else { format!("milvus-handoff {command}") };
    let list = |kind| strings(refused, kind);
    let first = |kind| list(kind).into_iter().next().unwrap_or_default();
    let (arg, value) = (first(ContextKind::InvalidArg), first(ContextKind::InvalidValue));
    let usage = |what: String| Error::new(Code::Usage, what);
    match refused.kind() {
        ErrorKind::InvalidSubcommand => no_command(&first(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingSubcommand => usage("no command is given".into()).hint(commands()),
        ErrorKind::UnknownArgument if arg.starts_with('-') => {
            let error = usage(format!("there is no option `{arg}`"));
            let error = guessed(error, &arg, list(ContextKind::SuggestedArg));
            error.also_hint(&format!("`{place} --help` lists the options"))
        }
        ErrorKind::UnknownArgument => usage(format!("`{arg}` is an argument too many")).hint(format!(
            "{}; an option begins with `-`, and a value with blanks needs quotes",
            synopsis(command)
        )),
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<_> =
                list(ContextKind::InvalidArg).iter().map(|arg| format!("`{arg}`")).collect();
            usage(format!("missing: {}", missing.join(", ")))
                .hint(format!("{}; `{place} --help` has examples", synopsis(command)))
        }
        ErrorKind::ArgumentConflict => {
            let others: Vec<_> =
                list(ContextKind::PriorArg).iter().map(|arg| format!("`{}`", plain(arg))).collect();
            let arg = plain(&arg);
            match others.as_slice() {
                [other] if *other == format!("`{arg}`") => {
                    usage(format!("`{arg}` is given more than once")).hint("give it once")
                }
                others => usage(format!("`{arg}` cannot be used with {}", others.join(", ")))
                    .hint(format!("leave one of them out; `{place} --help` says what they do")),
            }
        }
        ErrorKind::InvalidValue => {
            let possible = list(ContextKind::ValidValue);
            let error = match value.is_empty() {
                true => usage(format!("`{arg}` needs a value")),
                false => usage(format!("`{arg}` cannot be {value:?}")),
            };
            let error = guessed(error, &value, list(ContextKind::SuggestedValue));
            let help = format!("`{place} --help` says what it is");
            match possible.is_empty() {
                true => error.also_hint(&help),
                false => error.also_hint(&format!("possible values: {}", possible.join(", "))),
            }
        }
        ErrorKind::ValueValidation => {
            let why =
                refused.source().map(|why| format!(": {why}").replace("..=", " to ")).unwrap_or_default();
            usage(format!("`{arg}` cannot be {value:?}{why}"))
                .hint(format!("`{place} --help` says what it may be"))
        }
        ErrorKind::InvalidUtf8 => {
            usage("an argument is not UTF-8 text".into()).hint("write names and paths in UTF-8")
        }
        // What is left is clap's to put into words.
        _ => {
            let said = refused.render().to_string();
            let said = said.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
            let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
            usage(said.join(" ").trim_start_matches("error: ").to_string())
                .hint(format!("see `{place} --help`"))
        }
    }
}

/// There is no command of that name.
pub fn no_command(name: &str) -> Error {
    let known = Cli::command().get_subcommands().map(|known| known.get_name().to_string()).collect();
    guessed(Error::new(Code::Usage, format!("there is no command {name:?}")), name, known)
        .also_hint(&commands())
}

/// The command that a command line is of, as far as it can be told; empty if it cannot.
pub fn command_of(args: &[String]) -> &str {
    let known = |arg: &&String| Cli::command().find_subcommand(arg).is_some();
    args.iter().find(known).map_or("", String::as_str)
}

fn commands() -> String {
    "`milvus-handoff --help` lists the commands".into()
}

/// Names what was probably meant: of `known`, what is spelled nearly so, the nearest alone if it is nearer.
fn guessed(error: Error, typed: &str, known: Vec<String>) -> Error {
    let bearable = 1 + typed.chars().count() / 3;
    let mut near: Vec<_> = known.into_iter().map(|name| (distance(typed, &name), name)).collect();
    near.retain(|(distance, _)| *distance <= bearable);
    near.sort();
    let nearest = near.first().map(|(distance, _)| *distance);
    let near = near.into_iter().filter(|(distance, _)| Some(*distance) == nearest).take(GUESSES);
    let near: Vec<_> = near.map(|(_, name)| format!("`{name}`")).collect();
    if near.is_empty() { error } else { error.hint(format!("did you mean {}?", near.join(" or "))) }
}

/// How the command is used, whatever was given.
fn synopsis(command: &str) -> String {
    let mut tool = Cli::command();
    tool.build();
    let usage = match tool.find_subcommand_mut(command) {
        Some(command) => command.render_usage(),
        None => tool.render_usage(),
    };
    let usage = usage.to_string();
    format!("usage: {}", usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" "))
}

/// An argument without what follows its name: `--level <LEVEL>`, `--verbose...`.
fn plain(arg: &str) -> &str {
    arg.split([' ', '.']).next().unwrap_or(arg)
}

/// What clap says of this kind, as one or many.
fn strings(refused: &clap::Error, kind: ContextKind) -> Vec<String> {
    match refused.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
