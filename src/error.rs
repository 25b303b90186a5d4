//! The one error type of the crate.
//!
//! Owns: the kinds of failure, what each means to a caller (exit code, stable name, code to look
//! up), and how a failure reads. Does not own: deciding what kind a foreign failure is; `milvus` and `store` do
//! that where they meet the server or the bucket.

mod code;

pub use code::Code;

use std::fmt;

/// What went wrong, in the terms of what the user does next.
///
/// The numbers are process exit codes and part of the command's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A defect in this tool.
    Internal,
    /// The command line, a URL or a setting is wrong.
    Usage,
    /// Credentials are missing, wrong, or lack a privilege.
    Denied,
    /// Something named does not exist, or a snapshot was never committed.
    NotFound,
    /// Something is already there, or two things collide.
    Exists,
    /// Checksum, count, signature or content differ from what was recorded.
    Integrity,
    /// The server, the bucket or this version of the tool cannot do it.
    Unsupported,
    /// The source was written to while it was exported.
    SourceChanged,
    /// It is unknown whether the last step took effect; nothing was deleted.
    OutcomeUnknown,
    /// Run the same command again.
    Temporary,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl ErrorKind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Internal => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Denied => 3,
            ErrorKind::NotFound => 4,
            ErrorKind::Exists => 5,
            ErrorKind::Integrity => 6,
            ErrorKind::Unsupported => 7,
            ErrorKind::SourceChanged => 8,
            ErrorKind::OutcomeUnknown => 9,
            ErrorKind::Temporary => 75,
            ErrorKind::Interrupted => 130,
            ErrorKind::Terminated => 143,
        }
    }

    /// The stable name used in JSON documents.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Internal => "internal",
            ErrorKind::Usage => "usage",
            ErrorKind::Denied => "denied",
            ErrorKind::NotFound => "not-found",
            ErrorKind::Exists => "exists",
            ErrorKind::Integrity => "integrity",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::SourceChanged => "source-changed",
            ErrorKind::OutcomeUnknown => "outcome-unknown",
            ErrorKind::Temporary => "temporary",
            ErrorKind::Interrupted => "interrupted",
            ErrorKind::Terminated => "terminated",
        }
    }
}

/// A failure: what was being done, why it failed, and what to do next.
///
/// Messages are lowercase fragments that read well after "error: " and after one another:
/// `export of db.docs: cannot read page after key 17: server says ...`.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    /// What was being done, innermost first.
    context: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of a kind, or of one that has a code of its own; `message` names what failed and why.
    pub fn new(what: impl Into<Code>, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            code: what.into(),
            message: message.into(),
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// A defect in this tool: a state that its own logic excludes.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
            .hint("this is a defect in milvus-handoff; please report it with this message")
    }

    /// Says what to do next. The innermost hint wins: it knows most.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds to what there is to do next.
    pub fn also_hint(mut self, hint: &str) -> Self {
        self.0.hint = Some(match self.0.hint.take() {
            Some(question) if question.ends_with('?') => format!("{question} {hint}"),
            Some(first) => format!("{first}; {hint}"),
            None => hint.to_string(),
        });
        self
    }

    /// Keeps the foreign error that caused this one.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds what was being done when it failed.
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.0.context.push(what.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind()
    }

    /// The code to look up.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What to do next, if there is something to say.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What failed, outermost context first, without the foreign causes.
    pub fn message(&self) -> String {
        let mut text = String::new();
        for context in self.0.context.iter().rev() {
            text.push_str(context);
            text.push_str(": ");
        }
        text.push_str(&self.0.message);
        text
    }

    /// The foreign causes, outermost first, without repeats of what was said already.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        while let Some(error) = next {
            let text = error.to_string();
            let said = self.0.message.contains(&text) || causes.iter().any(|c| c.contains(&text));
            if !text.is_empty() && !said {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        for cause in self.causes() {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.code.text())
    }
}

impl std::error::Error for Error {}

/// Adds context to a failed result.
pub trait Context<T> {
    /// Says what was being done; evaluated only on failure.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_outermost_first_and_names_each_cause_once() {
        let io = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied");
        let error = Error::new(ErrorKind::Denied, "cannot write manifest.json")
            .because(io)
            .hint("inner")
            .context("commit")
            .context("export of default.docs")
            .hint("outer");
        assert_eq!(
            error.to_string(),
            "export of default.docs: commit: cannot write manifest.json: permission denied"
        );
        assert_eq!(error.hint_text(), Some("inner"));
        assert_eq!((error.kind().exit_code(), error.code().text()), (3, "MH-DENIED"));
    }
}
