//! Shell completions and manual pages, made from the command line's own definition.
//!
//! Owns: finding the command that is meant. Does not own: what the commands are (`cli`).

use crate::cli::Cli;
use crate::error::{Error, Result};
use crate::refusal::no_command;
use clap::CommandFactory;
use clap_complete::Shell;

/// The script by which `shell` completes command lines.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "milvus-handoff", &mut script);
    // clap_complete 4.6 splits a name at its hyphen in one place of a bash script and not in the
    // other, so that nothing beyond the command itself would be completed.
    String::from_utf8_lossy(&script).replace("milvus__subcmd__handoff", "milvus__handoff")
}

/// The manual page of a command, or of the tool itself, as `man` reads it.
pub fn man_page(about: Option<&str>) -> Result<String> {
    let mut tool = Cli::command();
    tool.build();
    let command = match about {
        None => tool,
        Some(name) => tool.find_subcommand(name).cloned().ok_or_else(|| no_command(name))?,
    };
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command).render(&mut page);
    written.map_err(|e| Error::internal("a manual page cannot be written").because(e))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
