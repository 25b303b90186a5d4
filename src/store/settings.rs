//! What requests to a bucket carry beyond the usual: locks, keys, and who owns and pays.
//!
//! Owns: what users can ask for. Does not own: the requests (`s3`).

use crate::error::{Code, Error, Result};
use std::time::SystemTime;

/// Settings of a bucket; none of them is for a local folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Keep what is written from being deleted.
    pub lock: Option<Lock>,
    /// The key of KMS to encrypt with, as an id, an alias or an ARN; `None`: as the bucket is set up.
    pub kms_key: Option<String>,
    /// The account that the bucket must belong to.
    pub owner: Option<String>,
    /// Accept that whoever asks pays.
    pub requester_pays: bool,
}

/// How long what is written is kept from being deleted, and from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// From whom.
    pub mode: LockMode,
    /// Until when.
    pub until: SystemTime,
}

/// Whom an object lock holds off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LockMode {
    /// Those with a special permission can still delete.
    Governance,
    /// Nobody can delete, the account's owner included.
    Compliance,
}

impl LockMode {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        }
    }
}

impl Lock {
    /// A lock until a day or a moment, such as `2031-12-31` or `2031-12-31T12:00:00Z`, in UTC.
    pub fn parse(mode: LockMode, until: &str) -> Result<Self> {
        let whole = if until.len() == 10 { format!("{until}T00:00:00Z") } else { until.to_string() };
        let wrong = |why: &str| {
            Error::new(Code::Usage, format!("--retain-until {until:?}: {why}"))
                .hint("give a day such as 2031-12-31, or a moment such as 2031-12-31T12:00:00Z, in UTC")
        };
        let until = humantime::parse_rfc3339(&whole).map_err(|e| wrong("it is no date").because(e))?;
        if until <= SystemTime::now() {
            return Err(wrong("it is past"));
        }
        Ok(Lock { mode, until })
    }
}

impl Settings {
    /// Refuses for a local folder what it could not do.
    pub(super) fn refuse_any(&self) -> Result<()> {
        if *self == Settings::default() {
            return Ok(());
        }
        let what = "object locks, keys of KMS, owners and payers are for buckets, and this is a local folder";
        Err(Error::new(Code::Usage, what)
            .hint("leave these options out, or name a bucket: s3://bucket/prefix/name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_in_the_future() {
        let lock = Lock::parse(LockMode::Governance, "2131-12-31").unwrap();
        assert_eq!(humantime::format_rfc3339(lock.until).to_string(), "2131-12-31T00:00:00Z");
        Lock::parse(LockMode::Compliance, "2131-12-31T12:00:00Z").unwrap();
        for wrong in ["", "soon", "2131-13-01", "2001-01-01", "2131-12-31 12:00"] {
            assert!(Lock::parse(LockMode::Compliance, wrong).is_err(), "{wrong}");
        }
    }
}
