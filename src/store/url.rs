//! The snapshot's address as people write it: `s3://bucket/prefix/name` or `file:///dir/name`.
//!
//! Owns: parsing, refusing and printing these two forms. Does not own: whether the bucket or the
//! folder exists; nothing here touches the network or the disk.

use super::printable;
use crate::error::{Code, Error, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Room for the prefix in an S3 key of at most 1024 bytes; the snapshot's own keys need the rest.
const MAX_PREFIX_BYTES: usize = 512;

/// What the path of a `file://` URL cannot hold as it is. `/` separates and stays.
const FILE_ESCAPES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Where a snapshot is.
///
/// Only [`SnapshotUrl::parse`] makes one from foreign text, so the parts keep its promises: a
/// prefix or path has no empty, `.` or `..` segment, no control character and no backslash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotUrl {
    /// A prefix in an S3 bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The snapshot's prefix, without a slash at either end.
        prefix: String,
    },
    /// A folder on this machine.
    File {
        /// Absolute, without a slash at the end.
        path: PathBuf,
    },
}

impl SnapshotUrl {
    /// Parses one of the two forms; anything else is a usage error whose hint shows both.
    ///
    /// An S3 prefix is taken as written (S3 tools do not percent-decode `s3://` URLs); the path
    /// of a `file://` URL may hold spaces as they are or percent-encoded.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(text, "it has no scheme"));
        };
        if rest.contains(['?', '#']) {
            return Err(wrong(text, "it has a query or a fragment"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => parse_s3(rest),
            "file" => parse_file(rest),
            _ => Err("its scheme is neither s3 nor file".to_owned()),
        }
        .map_err(|why| wrong(text, &why))
    }
}

impl fmt::Display for SnapshotUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotUrl::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            SnapshotUrl::File { path } => {
                let path = path.to_string_lossy();
                write!(f, "file://{}", utf8_percent_encode(&path, FILE_ESCAPES))
            }
        }
    }
}

fn wrong(text: &str, why: &str) -> Error {
    let text = without_secrets(&printable(text));
    Error::new(Code::Address, format!("`{text}` is not a snapshot URL: {why}"))
        .hint("write s3://bucket/prefix/name for a bucket, or file:///dir/name for a folder on this machine")
}

/// What people put where other addresses have a password or a signature is not repeated.
fn without_secrets(text: &str) -> String {
    let (address, query) = text.split_once('?').map_or((text, ""), |(address, _)| (address, "?..."));
    let Some((scheme, rest)) = address.split_once("://") else { return format!("{address}{query}") };
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://...@{place}{query}"),
        None => format!("{address}{query}"),
    }
}

fn parse_s3(rest: &str) -> std::result::Result<SnapshotUrl, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    check_bucket(bucket)?;
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Err("a snapshot needs a prefix inside the bucket".to_owned());
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(format!("its prefix is longer than {MAX_PREFIX_BYTES} bytes"));
    }
    check_segments(prefix)?;
    Ok(SnapshotUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

impl SnapshotUrl {
    /// A place beside the snapshot, where what is written is no part of it.
    pub fn beside(&self, suffix: &str) -> SnapshotUrl {
        match self {
            SnapshotUrl::S3 { bucket, prefix } => {
                SnapshotUrl::S3 { bucket: bucket.clone(), prefix: format!("{prefix}{suffix}") }
            }
            SnapshotUrl::File { path } => {
                let mut beside = path.clone().into_os_string();
                beside.push(suffix);
                SnapshotUrl::File { path: beside.into() }
            }
        }
    }
}

/// The naming rules for general purpose buckets, which S3-compatible servers share.
fn check_bucket(name: &str) -> std::result::Result<(), String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let fine = (3..=63).contains(&name.len())
        && name.chars().all(inside)
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err();
    if fine {
        return Ok(());
    }
    Err("the bucket's name must have 3 to 63 lowercase letters, digits, dots or hyphens, \
         and begin and end with a letter or digit"
        .to_owned())
}

fn parse_file(rest: &str) -> std::result::Result<SnapshotUrl, String> {
    if !rest.starts_with('/') {
        return Err("a file URL names an absolute path after `file://`, and no host".to_owned());
    }
    let path = decode(rest)?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let Some(inside) = path.strip_prefix('/') else {
        return Err("a snapshot cannot be the root folder".to_owned());
    };
    check_segments(inside)?;
    Ok(SnapshotUrl::File { path: PathBuf::from(path) })
}

/// Percent-decodes once. A `%` that begins no escape is refused instead of guessed at, and so is
/// an escaped `/`, which would become a separator that was not there.
fn decode(path: &str) -> std::result::Result<String, String> {
    for (at, _) in path.match_indices('%') {
        let hex = path.as_bytes().get(at + 1..at + 3);
        if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err("it has a `%` without two hexadecimal digits; a percent sign is `%25`".to_owned());
        }
        if hex.is_some_and(|hex| hex.eq_ignore_ascii_case(b"2f")) {
            return Err("it has an escaped `/`".to_owned());
        }
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => Err("its path is not UTF-8".to_owned()),
    }
}

fn check_segments(path: &str) -> std::result::Result<(), String> {
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("it has a control character or a backslash".to_owned());
    }
    match path.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
        Some("") => Err("it has an empty path segment".to_owned()),
        Some(dots) => Err(format!("it has a `{dots}` segment")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn s3(bucket: &str, prefix: &str) -> SnapshotUrl {
        SnapshotUrl::S3 { bucket: bucket.into(), prefix: prefix.into() }
    }

    fn file(path: &str) -> SnapshotUrl {
        SnapshotUrl::File { path: path.into() }
    }

    #[test]
    fn secrets_in_an_address_are_not_repeated() {
        for text in
            ["s3://KEYID:SECRET@bkt/x", "s3://bkt/x?X-Amz-Signature=SECRET", "http://u:SECRET@h/x?a=SECRET"]
        {
            let said = SnapshotUrl::parse(text).unwrap_err().to_string();
            assert!(!said.contains("SECRET") && !said.contains("KEYID"), "{said}");
        }
    }

    #[test]
    fn accepts_and_prints_the_canonical_form() {
        for (text, url, canonical) in [
            ("s3://bucket/a/b", s3("bucket", "a/b"), "s3://bucket/a/b"),
            ("s3://bucket/a/b/", s3("bucket", "a/b"), "s3://bucket/a/b"),
            ("S3://my.bucket-1/Ä %20", s3("my.bucket-1", "Ä %20"), "s3://my.bucket-1/Ä %20"),
            ("file:///dir/name", file("/dir/name"), "file:///dir/name"),
            ("file:///name/", file("/name"), "file:///name"),
            ("FILE:///a b/c", file("/a b/c"), "file:///a%20b/c"),
            ("file:///a%20b/100%25", file("/a b/100%"), "file:///a%20b/100%25"),
            ("file:///m%C3%BCller", file("/müller"), "file:///m%C3%BCller"),
            ("file:///a%3Fb%23c", file("/a?b#c"), "file:///a%3Fb%23c"),
        ] {
            let parsed = SnapshotUrl::parse(text).unwrap();
            assert_eq!(parsed, url, "{text}");
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert_eq!(SnapshotUrl::parse(canonical).unwrap(), url, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_and_shows_the_two_forms() {
        let long = format!("s3://bucket/{}", "x".repeat(513));
        for text in [
            "",
            "/dir/name",
            "dir/name",
            "gs://bucket/a",
            "https://bucket.s3.amazonaws.com/a",
            "s3:bucket/a",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3://bucket//",
            "s3://bucket//a",
            "s3://bucket/a//b",
            "s3://bucket/a//",
            "s3://bucket/./a",
            "s3://bucket/a/..",
            "s3://bucket/a\\b",
            "s3://bucket/a\nb",
            "s3://bucket/a?versionId=1",
            "s3://bucket/a#b",
            "s3://user:secret@bucket/a",
            "s3://bucket:9000/a",
            "s3://Bucket/a",
            "s3://bu/a",
            "s3://bu..cket/a",
            "s3://-bucket/a",
            "s3://bucket-/a",
            "s3://under_score/a",
            "s3://192.168.0.1/a",
            "s3://arn:aws:s3:::bucket/a",
            &long,
            "file://",
            "file:///",
            "file:////",
            "file:dir/name",
            "file:/dir/name",
            "file://host/dir",
            "file://localhost/dir",
            "file://dir",
            "file:///a//b",
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file:///a%2Fb",
            "file:///a%00b",
            "file:///a%0Ab",
            "file:///100%",
            "file:///a%zz",
            "file:///%ff",
            "file:///a?b",
            "file:///a#b",
            "file:///a\\b",
        ] {
            let error = SnapshotUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            let hint = error.hint_text().unwrap();
            assert!(hint.contains("s3://bucket/prefix/name") && hint.contains("file:///dir/name"), "{text}");
            assert!(!error.to_string().contains('\n'), "{text}");
        }
    }
}
