//! SHA-256 as a type, and hashing of bytes on their way.
//!
//! Owns: parsing and printing digests, a writer that hashes what passes. Does not own: where
//! digests are recorded (`snapshot`) or compared (`import`, `verify`).

use crate::error::{Error, ErrorKind, Result};
use base64::Engine;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::fmt;
use std::io::{self, Write};

/// A SHA-256 digest. Printed as 64 lowercase hex digits, everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Parses 64 lowercase hex digits, with or without the prefix `sha256:`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a SHA-256 digest"))
                .hint("a digest is `sha256:` and 64 lowercase hexadecimal digits")
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 {
            return Err(wrong());
        }
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]), nibble(pair[1]));
            *byte = high.ok_or_else(wrong)? << 4 | low.ok_or_else(wrong)?;
        }
        Ok(Sha256(bytes))
    }

    /// The digest as S3 carries it in `x-amz-checksum-sha256`.
    pub fn to_base64(self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }

    /// Parses what S3 returned in `x-amz-checksum-sha256`; `None` when it is not a whole-object
    /// SHA-256 (composite checksums of multipart uploads carry a `-N` suffix).
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(Sha256(bytes.try_into().ok()?))
    }

    /// The first `digits` hex digits, for names of parts.
    pub fn prefix(self, digits: usize) -> String {
        let mut hex = self.to_string();
        hex.truncate(digits);
        hex
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("sha256:") {
            return Err(serde::de::Error::custom("a digest on disk is 64 hex digits without a prefix"));
        }
        Sha256::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A running SHA-256.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Hashes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// Passes bytes on to `W`, hashing and counting exactly those that `W` accepted.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        HashingWriter { inner, hasher: Hasher::default(), written: 0 }
    }

    /// The wrapped writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Sha256, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let accepted = self.inner.write(buf)?;
        self.hasher.update(&buf[..accepted]);
        self.written += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_parses_and_refuses() {
        let empty = Sha256::of(b"");
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Sha256::parse(&format!("sha256:{empty}")).unwrap(), empty);
        assert_eq!(Sha256::from_base64(&empty.to_base64()), Some(empty));
        assert_eq!(Sha256::from_base64(&format!("{}-3", empty.to_base64())), None);
        for wrong in ["", "e3b0", &"g".repeat(64), &empty.to_string().to_uppercase()] {
            assert_eq!(Sha256::parse(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn hashes_what_passes() {
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"milvus").unwrap();
        writer.write_all(b"-handoff").unwrap();
        let (bytes, digest, written) = writer.finish();
        assert_eq!((digest, written), (Sha256::of(&bytes), 14));
    }
}
