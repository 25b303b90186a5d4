//! Buckets: the only thing the two organizations share.
//!
//! Owns: putting, reading and listing objects below one snapshot prefix, in S3 or in a local
//! folder, and turning what a bucket answers into [`crate::error::Error`]. Does not own: what the
//! objects mean (`snapshot`), or Milvus (`milvus`).
//!
//! Keys are relative to the snapshot's prefix, use `/`, and never leave it: both stores refuse
//! `..`, empty segments, absolute paths, backslashes and control characters by themselves.

mod credentials;
mod local;
mod replies;
mod s3;
mod settings;
mod url;

pub use s3::{Access, Keys, own_keys};
pub use settings::{Lock, LockMode, Settings};
pub use url::SnapshotUrl;

use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use async_trait::async_trait;
use aws_config::SdkConfig;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// What is to be stored.
pub enum Body {
    /// A small object.
    Bytes(Bytes),
    /// A part, written to a file of [`Store::spool`]. It is consumed: moved into place or uploaded.
    File(NamedTempFile),
}

/// How a create-only put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object now exists with exactly these bytes, and this call (or an earlier try of it
    /// whose reply was lost) put it there.
    Created,
    /// An object was there already; it was not touched.
    Exists,
}

/// What a bucket says of an object without sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes.
    pub size: u64,
    /// The whole-object SHA-256 that the bucket itself stored and returned, if it does so.
    pub sha256: Option<Sha256>,
}

/// One listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the snapshot's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// An object as another store of the same server finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    server: String,
    bucket: String,
    key: String,
}

/// One snapshot's prefix in one bucket.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where the snapshot is, as people know it; safe to print.
    fn place(&self) -> String;

    /// A new, empty file on this machine to write a part to before it is put; for a local store,
    /// on the same file system as the bucket. Dropping it removes it.
    fn spool(&self) -> Result<NamedTempFile>;

    /// Stores an object under a key that must not exist yet. `sha256` is the digest of the whole
    /// body; a bucket that can check it, does.
    async fn put_new(&self, key: &str, body: Body, sha256: Sha256) -> Result<Put>;

    /// A small object as a whole, `None` if it does not exist; an object larger than `max_bytes`
    /// is refused as an integrity error before it is read.
    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<Bytes>>;

    /// An object as a stream of chunks, `None` if it does not exist.
    async fn read(&self, key: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>>;

    /// Size and, where the bucket returns it, digest; `None` if the object does not exist.
    async fn head(&self, key: &str) -> Result<Option<Head>>;

    /// The nearest place above this one, in the same bucket or file system, that holds an object of one
    /// of these names: the place and the name, safe to print. `None` also where that may not be asked.
    async fn above(&self, names: &[&'static str]) -> Result<Option<(String, &'static str)>>;

    /// Removes an object that no snapshot refers to; one that does not exist is fine.
    async fn delete(&self, key: &str) -> Result<()>;

    /// What another store needs to know to have its server copy an object from here; `None` where
    /// no server can.
    fn copy_source(&self, _key: &str) -> Result<Option<CopySource>> {
        Ok(None)
    }

    /// Has the server copy an object here, without sending it through this machine. `false` if it
    /// cannot or will not: the caller then has to send it. What arrived is not checked.
    async fn copy_from(&self, _source: &CopySource, _key: &str) -> Result<bool> {
        Ok(false)
    }

    /// The snapshot's URL for a service elsewhere, which knows the public clouds only; without a
    /// slash at its end. An error where there is none.
    fn url_elsewhere(&self) -> Result<String> {
        Err(Error::new(Code::Address, format!("no service elsewhere can read {}", self.place())))
    }

    /// Every object below the snapshot's prefix, in no order that may be relied on.
    fn list(&self) -> BoxStream<'_, Result<Entry>>;

    /// Whether [`Store::put_new`] refuses to replace an object, found out without replacing
    /// anything that matters: for those who may not read what they would replace.
    async fn keeps_existing(&self) -> Result<bool> {
        Ok(true)
    }

    /// Tells the store that its bucket does not refuse to replace objects. From then on
    /// [`Store::put_new`] looks first: that leaves a moment between looking and putting, and is
    /// the most that such a bucket allows.
    fn look_before_put(&self) {}

    /// The versions of what was put through this store, by key, where the bucket keeps versions.
    fn versions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The address of the S3 server, where one was named; safe to print.
    fn endpoint(&self) -> Option<String> {
        None
    }

    /// By how many seconds the bucket's clock is ahead of this machine's, if its replies tell.
    fn clock_ahead(&self) -> Option<i64> {
        None
    }
}

/// Opens the place that `url` names. A bucket or folder that cannot be reached is an error here
/// or at the first use; nothing is created.
pub async fn open(url: &SnapshotUrl) -> Result<Arc<dyn Store>> {
    open_with(url, &Settings::default()).await
}

/// [`open`], with settings for the requests.
pub async fn open_with(url: &SnapshotUrl, settings: &Settings) -> Result<Arc<dyn Store>> {
    Ok(match url {
        SnapshotUrl::File { path } => {
            settings.refuse_any()?;
            Arc::new(local::Local::open(path)?)
        }
        SnapshotUrl::S3 { bucket, prefix } => Arc::new(s3::S3::open(bucket, prefix, settings).await?),
    })
}

/// Opens a place with credentials and an endpoint of its own.
pub async fn open_as(url: &SnapshotUrl, access: &Access) -> Result<Arc<dyn Store>> {
    match url {
        SnapshotUrl::S3 { bucket, prefix } => {
            Ok(Arc::new(s3::S3::open_as(bucket, prefix, access, &Settings::default()).await?))
        }
        SnapshotUrl::File { .. } => open(url).await,
    }
}

/// Opens a prefix in a bucket with settings that do not come from this process's environment:
/// another bucket's credentials, or a test's endpoint and retries.
pub fn open_s3(bucket: &str, prefix: &str, config: &SdkConfig) -> Result<Arc<dyn Store>> {
    open_s3_with(bucket, prefix, config, &Settings::default())
}

/// [`open_s3`], with settings for the requests.
pub fn open_s3_with(
    bucket: &str,
    prefix: &str,
    config: &SdkConfig,
    settings: &Settings,
) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(s3::S3::with_config(bucket, prefix, config, settings)?))
}

/// What S3 allows for a whole key; every store holds to it, so that a snapshot fits any of them.
const MAX_KEY_BYTES: usize = 1024;

/// Refuses a key that could leave the prefix or mislead who reads it. Keys come out of manifests
/// and listings, so this holds whatever those say.
fn check_key(key: &str) -> Result<()> {
    let fine = key.len() <= MAX_KEY_BYTES
        && !key.chars().any(|c| c.is_control() || c == '\\')
        && !key.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    if fine {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Integrity,
        format!("`{}` is not a key that a snapshot may hold", printable(key)),
    )
    .hint("something else writes below this prefix, or the snapshot was tampered with"))
}

/// The refusal of an object that is larger than its kind ever is.
fn too_large(key: &str, place: impl Display, size: Option<u64>, max_bytes: u64) -> Error {
    let size = size.map_or("more bytes".to_owned(), |size| format!("{size} bytes"));
    let message = format!("{} in {place} has {size} where at most {max_bytes} are allowed", printable(key));
    Error::new(ErrorKind::Integrity, message)
        .hint("this is not what milvus-handoff wrote; do not trust this snapshot")
}

/// `text` as it may go to a terminal: control characters, and the invisible ones that reorder or
/// hide their neighbours, are shown as escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let alone = matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}');
        let ranges = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        if c.is_control() || alone || ranges {
            // Writing to a String cannot fail.
            let _ = write!(safe, "{}", c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside() {
        for key in ["COMMIT.json", "data/default/docs/_default/u1-0-abcdef.parquet", "a b/ü%2F"] {
            check_key(key).unwrap();
        }
        let long = "x".repeat(1025);
        for key in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\nb", "a\u{7f}", &long] {
            assert_eq!(check_key(key).unwrap_err().kind(), ErrorKind::Integrity, "{key:?}");
        }
    }

    #[test]
    fn terminals_are_safe_from_names() {
        assert_eq!(printable("plain ü/x"), "plain ü/x");
        assert_eq!(printable("a\n\u{1b}[2J\u{202e}b"), "a\\u{a}\\u{1b}[2J\\u{202e}b");
    }
}
