//! Keygen: a new pair of keys, as two files.
//!
//! Owns: writing the files, so that nothing is overwritten and only the owner reads the secret one.
//! Does not own: keys (`signature`), or where the password comes from (`cli`).

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::signature::{self, PublicKey};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A pair of keys that was written.
pub struct Report {
    /// The file that is to be kept.
    pub secret: PathBuf,
    /// The file that is to be given away.
    pub public: PathBuf,
    /// The public key.
    pub key: PublicKey,
    /// Whether a password protects the secret key.
    pub protected: bool,
}

/// The file with the public key of the secret key in `secret`.
pub fn public_path(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Refuses to go on where a key is already, before anybody is asked for a password.
pub fn refuse_existing(secret: &Path) -> Result<()> {
    for path in [secret, &public_path(secret)] {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    Ok(())
}

/// Makes a pair of keys: the secret one in `secret`, the public one beside it.
pub async fn run(secret: &Path, password: Option<String>) -> Result<Report> {
    refuse_existing(secret)?;
    let secret = secret.to_path_buf();
    let protected = password.is_some();
    blocking(move || {
        let (text, key) = signature::generate(password)?;
        let public = public_path(&secret);
        write_new(&secret, &text, 0o600)?;
        write_new(&public, &key.to_file(), 0o644).inspect_err(|_| {
            // Half a pair is of no use. What cannot be removed is found by the next attempt.
            let _ = fs::remove_file(&secret);
        })?;
        Ok(Report { secret, public, key, protected })
    })
    .await
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::new(ErrorKind::Usage, format!("cannot write {}", path.display()))
            .because(e)
            .hint("name a file in a folder that exists and that you may write to"),
    };
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file: File = open.map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::Exists, format!("{} exists already; keys are never overwritten", path.display()))
        .hint("name another file")
}
