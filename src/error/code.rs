//! Stable codes of failures: what a user looks up in `docs/errors.md`.
//!
//! Owns: the codes, their spelling, and which kind (and so which exit code) each belongs to. A kind
//! has a code of its own; a finer one exists only where the user does something else about it.
//! Does not own: what to do about them; hints and `docs/errors.md` say it.

use super::ErrorKind;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal, $kind:ident;)*) => {
        /// What exactly went wrong. Codes are an interface: none is renamed, or given another kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &[Code] = &[$(Code::$code),*];

            /// As printed and documented.
            pub fn text(self) -> &'static str {
                match self {
                    $(Code::$code => $text,)*
                }
            }

            /// The kind that it belongs to.
            pub fn kind(self) -> ErrorKind {
                match self {
                    $(Code::$code => ErrorKind::$kind,)*
                }
            }
        }
    };
}

codes! {
    /// A defect in this tool.
    Internal = "MH-INTERNAL", Internal;
    /// The command line or a setting.
    Usage = "MH-USAGE", Usage;
    /// A snapshot URL or a server's address.
    Address = "MH-ADDRESS", Usage;
    /// Encryption: certificates, or http where https is spoken.
    Tls = "MH-TLS", Usage;
    /// The bucket is in another region, or none is set.
    Region = "MH-REGION", Usage;
    /// The server refuses the user.
    Denied = "MH-DENIED", Denied;
    /// The bucket refuses the credentials.
    BucketDenied = "MH-BUCKET-DENIED", Denied;
    /// There are no usable credentials for the bucket.
    BucketCredentials = "MH-BUCKET-CREDENTIALS", Denied;
    /// An administrator has switched such requests off.
    SwitchedOff = "MH-SWITCHED-OFF", Denied;
    /// A password does not open a signing key.
    KeyPassword = "MH-KEY-PASSWORD", Denied;
    /// This machine's clock is wrong.
    Clock = "MH-CLOCK", Denied;
    /// Something named does not exist.
    NotFound = "MH-NOT-FOUND", NotFound;
    /// A collection that was named does not exist, or none is meant.
    NoCollection = "MH-NO-COLLECTION", NotFound;
    /// There is no snapshot at that place.
    NoSnapshot = "MH-NO-SNAPSHOT", NotFound;
    /// The export has not finished.
    NotCommitted = "MH-NOT-COMMITTED", NotFound;
    /// There is no such bucket, or folder above the snapshot.
    NoBucket = "MH-NO-BUCKET", NotFound;
    /// Something is there already, or two things collide.
    Exists = "MH-EXISTS", Exists;
    /// What is to be read is not loaded.
    NotLoaded = "MH-NOT-LOADED", Exists;
    /// Something else is where the snapshot is to go.
    PrefixTaken = "MH-PREFIX-TAKEN", Exists;
    /// The target has something of that name.
    TargetTaken = "MH-TARGET-TAKEN", Exists;
    /// The journal belongs to another import.
    Journal = "MH-JOURNAL", Exists;
    /// Not what was recorded.
    Integrity = "MH-INTEGRITY", Integrity;
    /// Not the snapshot that was announced.
    Digest = "MH-DIGEST", Integrity;
    /// Not signed by a trusted key.
    Signature = "MH-SIGNATURE", Integrity;
    /// Rows are missing or too many.
    Count = "MH-COUNT", Integrity;
    /// A comparison found differences.
    Different = "MH-DIFFERENT", Integrity;
    /// The server or this build cannot do it.
    Unsupported = "MH-UNSUPPORTED", Unsupported;
    /// The snapshot needs a newer build.
    Format = "MH-FORMAT", Unsupported;
    /// The target cannot hold what the snapshot has.
    TargetCannot = "MH-TARGET-CANNOT", Unsupported;
    /// The bucket's server cannot do what snapshots need.
    BucketCannot = "MH-BUCKET-CANNOT", Unsupported;
    /// The source was written to.
    SourceChanged = "MH-SOURCE-CHANGED", SourceChanged;
    /// Whether the last step took effect is unknown.
    OutcomeUnknown = "MH-OUTCOME-UNKNOWN", OutcomeUnknown;
    /// Run the same command again.
    Temporary = "MH-TEMPORARY", Temporary;
    /// The server or the bucket cannot be reached.
    Unreachable = "MH-UNREACHABLE", Temporary;
    /// A quota of the server is used up.
    Quota = "MH-QUOTA", Temporary;
    /// Credentials for the bucket have expired.
    Expired = "MH-EXPIRED", Temporary;
    /// This machine's disk.
    Disk = "MH-DISK", Temporary;
    /// SIGINT.
    Interrupted = "MH-INTERRUPTED", Interrupted;
    /// SIGTERM.
    Terminated = "MH-TERMINATED", Terminated;
}

/// The code of a failure of which only the kind is known.
impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Internal => Code::Internal,
            ErrorKind::Usage => Code::Usage,
            ErrorKind::Denied => Code::Denied,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Exists => Code::Exists,
            ErrorKind::Integrity => Code::Integrity,
            ErrorKind::Unsupported => Code::Unsupported,
            ErrorKind::SourceChanged => Code::SourceChanged,
            ErrorKind::OutcomeUnknown => Code::OutcomeUnknown,
            ErrorKind::Temporary => Code::Temporary,
            ErrorKind::Interrupted => Code::Interrupted,
            ErrorKind::Terminated => Code::Terminated,
        }
    }
}
