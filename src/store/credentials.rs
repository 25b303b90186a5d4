//! Credentials for a bucket that are not there, and the profile that should have them.
//!
//! Owns: what is said where the AWS credential chain gives nothing. Does not own: the chain itself,
//! which is the SDK's, or what a bucket says of credentials that it was sent (`s3`).

use super::printable;
use crate::error::{Code, Error, Result};
use aws_config::profile;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

/// Profiles that are listed where another one does not exist.
const PROFILES: usize = 10;

const GIVE: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";

/// A profile of the AWS configuration that somebody named.
#[derive(Debug)]
pub(super) struct Profile {
    name: String,
    /// What named it.
    by: &'static str,
}

impl Profile {
    /// The profile that is to give credentials: the one of a flag, or of the environment.
    pub(super) fn named(flag: Option<&str>) -> Option<Self> {
        if let Some(name) = flag {
            return Some(Profile { name: name.to_owned(), by: "--stage-profile" });
        }
        // Keys in the environment go first, so the profile is not asked.
        let name = variable("AWS_PROFILE").filter(|_| variable("AWS_ACCESS_KEY_ID").is_none())?;
        Some(Profile { name, by: "AWS_PROFILE" })
    }

    /// A profile that does not exist is a typing mistake. The SDK would go on without it, to whatever
    /// credentials the machine has.
    pub(super) async fn refuse_unknown(&self) -> Result<()> {
        let files = EnvConfigFiles::default();
        // A file that cannot be read is the SDK's to complain of, if it comes to need it.
        let Ok(known) = profile::load(&Fs::real(), &Env::real(), &files, None).await else { return Ok(()) };
        if known.get_profile(&self.name).is_some() {
            return Ok(());
        }
        let mut names: Vec<_> = known.profiles().map(printable).collect();
        names.sort_unstable();
        let there = match names.split_at_checked(PROFILES) {
            _ if names.is_empty() => "there is none at all".to_owned(),
            Some((first, rest)) if !rest.is_empty() => {
                format!("there are {}, and {} more", first.join(", "), rest.len())
            }
            _ => format!("there is {}", names.join(", ")),
        };
        let Profile { name, by } = self;
        let what = format!("{by} names the AWS profile `{}`, which does not exist", printable(name));
        let fix = format!(
            "{there}; correct {by}, or leave it out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        );
        Err(failure(what, fix))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn failure(what: String, fix: impl Into<String>) -> Error {
    Error::new(Code::BucketCredentials, what).hint(fix)
}

/// Nothing that was asked had any. `what` fits before a colon.
pub(super) fn missing(what: &str, profile: Option<&Profile>) -> Error {
    let none = format!("{what}: no AWS credentials were found");
    if variable("AWS_ACCESS_KEY_ID").is_some() != variable("AWS_SECRET_ACCESS_KEY").is_some() {
        let why = "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set";
        return failure(format!("{none}: {why}"), "set both, or AWS_PROFILE alone");
    }
    match profile {
        Some(Profile { name, by }) => failure(
            format!("{none}: the profile `{}` of {by} gives none that can be used", printable(name)),
            "complete that profile and those it refers to, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        None => failure(
            format!(
                "{none}: neither the environment nor the default profile has any, nor does this machine get any"
            ),
            GIVE,
        ),
    }
}

/// The instance metadata service, which is asked last, refused or was not to be understood.
pub(super) fn machine_gives_none(what: &str, reply: &str) -> Error {
    let none = format!("{what}: no AWS credentials were found");
    failure(format!("{none}; the instance metadata service, which is asked last, says: {reply}"), GIVE)
}

/// There are some, and what should give them failed.
pub(super) fn not_loaded(what: &str, profile: Option<&Profile>, why: &str) -> Error {
    match profile {
        Some(Profile { name, by }) => failure(
            format!(
                "{what}: the AWS credentials of the profile `{}` could not be loaded: {why}",
                printable(name)
            ),
            format!("check what {by} refers to; log in again if that is a session"),
        ),
        None => failure(
            format!("{what}: the AWS credentials could not be loaded: {why}"),
            "check the AWS variables and the default profile; log in again if that is a session",
        ),
    }
}
