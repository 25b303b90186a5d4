//! Bringing a part onto this machine and hashing the very bytes that will be used.
//!
//! Owns: spooling and checking one part. Does not own: reading its rows (`part`).
use crate::blocking::blocking;
use crate::digest::{Hasher, Sha256};
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::snapshot::Part;
use crate::store::Store;
use futures::TryStreamExt;
use std::fs::File;
use std::io::{Seek, Write};

/// The part as a file without a name, whose digest is the one in the manifest.
pub async fn fetch(store: &dyn Store, part: &Part) -> Result<File> {
    fetch_to(store, part, tempfile::tempfile().map_err(no_room)?).await
}

fn no_room(e: std::io::Error) -> Error {
    Error::new(Code::Disk, "cannot keep a part on this machine while it is read")
        .because(e)
        .hint("see that the temporary folder (TMPDIR) has room for one part per worker, then run the same command again")
}

/// [`fetch`] into a new `file` of the caller's.
pub async fn fetch_to<F: Write + Seek + Send + 'static>(
    store: &dyn Store,
    part: &Part,
    mut file: F,
) -> Result<F> {
    let altered = |what: String| {
        Error::new(ErrorKind::Integrity, format!("{} is not what was committed: {what}", part.key))
            .hint("the snapshot was altered or damaged; get it again from the exporter")
    };
    let mut chunks = store.read(&part.key).await?.ok_or_else(|| altered("it is missing".into()))?;
    let mut hasher = Hasher::default();
    let mut size: u64 = 0;
    while let Some(chunk) = chunks.try_next().await.context(|| format!("reading {}", part.key))? {
        size += chunk.len() as u64;
        if size > part.size {
            return Err(altered(format!("it has more than {} bytes", part.size)));
        }
        (file, hasher) = blocking(move || {
            file.write_all(&chunk).map_err(no_room)?;
            hasher.update(&chunk);
            Ok((file, hasher))
        })
        .await?;
    }
    let digest: Sha256 = hasher.finish();
    if size != part.size || digest != part.sha256 {
        return Err(altered(format!(
            "expected {} bytes with sha256 {}, found {size} bytes with sha256 {digest}",
            part.size, part.sha256
        )));
    }
    file.rewind().map_err(no_room)?;
    Ok(file)
}
