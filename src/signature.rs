//! Signatures of COMMIT.json, in minisign's format: who vouches for a snapshot.
//!
//! Owns: keys, making and checking signatures, and the objects that hold them. Does not own: where
//! keys and passwords come from (`cli`), or what follows from a signature (`opened`, `verify`).
//!
//! A signature lies beside the snapshot and is not part of it: it speaks of COMMIT.json, which leads
//! to everything else, and can be added later by whoever may write to the bucket.

use crate::blocking::blocking;
use crate::digest::Sha256;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::snapshot::{Commit, MAX_SIGNATURE_BYTES, keys};
use crate::store::{Body, Put, Store};
use base64::Engine;
use futures::StreamExt;
use minisign::{KeyPair, SecretKeyBox, SignatureBox};
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

/// The number by which minisign tells keys apart; printed as 16 uppercase hex digits. It is no
/// secret and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(u64);

impl KeyId {
    /// As it stands in keys and signatures: eight bytes, the lowest first.
    fn of(bytes: &[u8]) -> Self {
        KeyId(bytes.iter().rev().fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }

    /// The key of the signature object of this signer.
    pub fn object(self) -> String {
        keys::signature(&self.to_string())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Parses a public key file, or its second line alone.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let encoded = match (lines.next(), lines.next()) {
            (Some(comment), Some(encoded)) if comment.starts_with("untrusted comment:") => encoded,
            (Some(encoded), None) => encoded,
            _ => "",
        };
        let key = minisign::PublicKey::from_base64(encoded).ok();
        key.filter(|key| key.to_bytes().starts_with(b"Ed")).map(PublicKey).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "this is not a minisign public key")
                .hint("a public key is the file that `keygen` wrote, or the line in it that begins with RW")
        })
    }

    /// Its number.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.0.keynum())
    }

    /// The one line that stands for it.
    pub fn to_base64(&self) -> String {
        self.0.to_base64()
    }

    /// As a file that minisign reads.
    pub fn to_file(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{}\n", self.id(), self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A secret key that is ready to sign. Never printed.
#[derive(Clone)]
pub struct SigningKey(Arc<minisign::SecretKey>);

impl SigningKey {
    /// Whether the text of a secret key file is protected by a password.
    pub fn is_locked(text: &str) -> bool {
        secret_bytes(text).is_some_and(|bytes| bytes[2..4] != NO_PASSWORD)
    }

    /// Reads a secret key file that is not protected. `minisign` leaves the checksum of such a key
    /// empty, so it is not looked at; a damaged key is found when it signs.
    pub fn open(text: &str) -> Result<Self> {
        let bytes = secret_bytes(text).filter(|bytes| bytes[2..4] == NO_PASSWORD).ok_or_else(not_a_key)?;
        let key = minisign::SecretKey::from_bytes(&bytes).map_err(|e| not_a_key().because(e))?;
        Ok(SigningKey(Arc::new(key)))
    }

    /// Reads a secret key file and unlocks it. Takes about a second, as it is meant to.
    pub fn unlock(text: &str, password: String) -> Result<Self> {
        secret_bytes(text).ok_or_else(not_a_key)?;
        let locked = SecretKeyBox::from_string(text).map_err(|e| not_a_key().because(e))?;
        let key = locked.into_secret_key(Some(password)).map_err(|e| match e.kind() {
            minisign::ErrorKind::Verify => Error::new(Code::KeyPassword, "the password does not open the secret key")
                .hint("check the password; it comes from --key-password-file, MILVUS_HANDOFF_KEY_PASSWORD or the terminal"),
            _ => not_a_key().because(e),
        })?;
        Ok(SigningKey(Arc::new(key)))
    }

    /// The key that others check its signatures with.
    pub fn public(&self) -> Result<PublicKey> {
        minisign::PublicKey::from_secret_key(&self.0).map(PublicKey).map_err(|e| not_a_key().because(e))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// How a key says that no password protects it.
const NO_PASSWORD: [u8; 2] = [0, 0];

/// Algorithms, salt, costs, key id, key and checksum.
const SECRET_BYTES: usize = 158;

/// What stands in a secret key file, if it is one.
fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    (bytes.len() == SECRET_BYTES && bytes.starts_with(b"Ed")).then_some(bytes)
}

fn not_a_key() -> Error {
    Error::new(ErrorKind::Usage, "this is not a minisign secret key")
        .hint("a secret key is the file that `keygen` or `minisign -G` wrote")
}

/// A new key: the text of its secret file, and its public half. Without a password, whoever reads
/// the file can sign.
pub fn generate(password: Option<String>) -> Result<(String, PublicKey)> {
    let failed = |e| Error::internal("no key could be made").because(e);
    let (pair, comment) = match password {
        Some(password) => {
            (KeyPair::generate_encrypted_keypair(Some(password)), "minisign encrypted secret key")
        }
        None => (KeyPair::generate_unencrypted_keypair(), "minisign secret key"),
    };
    let pair = pair.map_err(failed)?;
    let secret = pair.sk.to_box(Some(comment)).map_err(failed)?;
    Ok((secret.into_string(), PublicKey(pair.pk)))
}

// ---- in the bucket ----

/// A signature object, and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The object.
    pub object: String,
    /// Whose it says it is.
    pub key_id: Option<KeyId>,
    /// What it is worth.
    pub state: State,
}

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A trusted key made it for exactly this COMMIT.json; the comment is part of what was signed.
    Valid(String),
    /// It is a signature, and the key that it names is not among the trusted ones.
    Unchecked,
    /// It is no signature, or a trusted key's name stands on what that key did not sign.
    Invalid(String),
}

/// How a signature came to be in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// It was made now.
    Now,
    /// This key had signed before; that signature was left as it is.
    Before,
}

/// Signs COMMIT.json and puts the signature beside it, create-only.
pub async fn put(
    commit: &Commit,
    commit_bytes: &[u8],
    key: &SigningKey,
    store: &dyn Store,
) -> Result<Signed> {
    let public = key.public()?;
    let object = public.id().object();
    let comment = trusted_comment(&commit.id);
    let (signing, checking, signed) = (key.clone(), public.clone(), commit_bytes.to_vec());
    let text = blocking(move || {
        let (public, signed) = (Some(&checking.0), Cursor::new(signed));
        minisign::sign(public, &signing.0, signed, Some(&comment), Some(UNTRUSTED_COMMENT)).map_err(|e| {
            Error::new(ErrorKind::Usage, "the secret key cannot sign")
                .because(e)
                .hint("the file is damaged: use a copy of it")
        })
    })
    .await?
    .into_string();
    let put = store.put_new(&object, Body::Bytes(text.clone().into()), Sha256::of(text.as_bytes())).await;
    if put? == Put::Created {
        return Ok(Signed::Now);
    }
    let there = examine(store, &object, commit_bytes, std::slice::from_ref(&public)).await?;
    match there.map(|there| there.state) {
        Some(State::Valid(_)) => Ok(Signed::Before),
        _ => Err(Error::new(
            ErrorKind::Exists,
            format!("{object} is there, and is not this key's signature of COMMIT.json"),
        )
        .hint("somebody else has put it there: find out who, and remove it before you sign")),
    }
}

const UNTRUSTED_COMMENT: &str = "signature of COMMIT.json by milvus-handoff";

/// What is signed beside the bytes of COMMIT.json. The id stands in COMMIT.json as well; anything
/// there that does not fit into a line is left out.
fn trusted_comment(id: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_graphic).take(64).collect();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    format!("snapshot {id} signed {now}")
}

/// What a signature object is worth; `None` if there is none.
pub async fn examine(
    store: &dyn Store,
    object: &str,
    commit_bytes: &[u8],
    trusted: &[PublicKey],
) -> Result<Option<Found>> {
    let invalid = |key_id, why: &str| {
        Some(Found { object: object.to_string(), key_id, state: State::Invalid(why.to_string()) })
    };
    let bytes = match store.get(object, MAX_SIGNATURE_BYTES).await {
        Ok(Some(bytes)) => bytes,
        // Whoever may not list is told "denied" of what is not there.
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::Denied => return Ok(None),
        Err(e) if e.kind() == ErrorKind::Integrity => {
            return Ok(invalid(None, "it is not a minisign signature"));
        }
        Err(e) => return Err(e),
    };
    let Some(signature) = std::str::from_utf8(&bytes).ok().and_then(parse) else {
        return Ok(invalid(None, "it is not a minisign signature"));
    };
    let key_id = KeyId::of(signature.keynum());
    if object != keys::SIGNATURE && object != key_id.object() {
        return Ok(invalid(Some(key_id), &format!("it is a signature by the key {key_id}")));
    }
    let mut candidates = trusted.iter().filter(|key| key.id() == key_id).peekable();
    if candidates.peek().is_none() {
        return Ok(Some(Found { object: object.to_string(), key_id: Some(key_id), state: State::Unchecked }));
    }
    let holds = |key: &PublicKey| {
        minisign::verify(&key.0, &signature, Cursor::new(&commit_bytes), true, false, true).is_ok()
    };
    if !candidates.any(holds) {
        return Ok(invalid(
            Some(key_id),
            "it is not a signature of this COMMIT.json by the trusted key of that number",
        ));
    }
    let comment = signature.trusted_comment().unwrap_or_default();
    Ok(Some(Found { object: object.to_string(), key_id: Some(key_id), state: State::Valid(comment) }))
}

/// Base64 of the 64 bytes of an Ed25519 signature.
const ENCODED_SIGNATURE: usize = 88;

/// A signature that is written as it would be written again: there is one form of each. The
/// library takes a shorter signature of the comment and panics when it checks it.
fn parse(text: &str) -> Option<SignatureBox> {
    if text.lines().nth(3)?.len() != ENCODED_SIGNATURE {
        return None;
    }
    let signature = SignatureBox::from_string(text).ok()?;
    text.lines().eq(signature.to_string().lines()).then_some(signature)
}

/// Looks where the trusted keys' signatures would be, without listing. At least one must be valid.
pub async fn require(store: &dyn Store, commit_bytes: &[u8], trusted: &[PublicKey]) -> Result<Vec<Found>> {
    let mut objects: Vec<String> = trusted.iter().map(|key| key.id().object()).collect();
    objects.push(keys::SIGNATURE.to_string());
    objects.dedup();
    let mut found = Vec::new();
    for object in objects {
        found.extend(examine(store, &object, commit_bytes, trusted).await?);
    }
    if found.iter().any(|found| matches!(found.state, State::Valid(_))) {
        return Ok(found);
    }
    let ids: Vec<_> = trusted.iter().map(|key| key.id().to_string()).collect();
    let wrong = found.iter().find_map(|found| match &found.state {
        State::Invalid(why) => Some(format!("; {}: {why}", found.object)),
        _ => None,
    });
    let message = format!("no valid signature by a trusted key ({})", ids.join(", "));
    if let Some(wrong) = wrong {
        return Err(Error::new(Code::Signature, format!("{message}{wrong}"))
            .hint("the snapshot or its signature was altered; do not use it, and ask the signer"));
    }
    let others = others(store, commit_bytes).await;
    let (found, fix) = match (others.signers.as_slice(), others.all) {
        ([], true) => (
            "there is no signature at all".into(),
            "ask the exporter to sign it: `milvus-handoff sign SNAPSHOT --key FILE`",
        ),
        ([], false) => (
            "whether there are others could not be seen".into(),
            "ask the exporter to sign it (`milvus-handoff sign`), or for the key that it was signed with",
        ),
        (signers, _) => {
            let named: Vec<_> = signers.iter().map(ToString::to_string).collect();
            (
                format!("there are signatures that name other keys, not checked: {}", named.join(", ")),
                "to trust one of those signers, get the public key from that very person, not through the bucket, and \
                 give it with `--trusted-key`: its number must be that of the signature",
            )
        }
    };
    Err(Error::new(Code::Signature, format!("{message}; {found}")).hint(fix))
}

/// Objects that are looked through for signatures where none is by a trusted key, and how many of
/// those are looked at.
const LISTED: usize = 20_000;
const OTHERS: usize = 10;

/// Signatures beside those of trusted keys.
struct Others {
    /// The keys that they name.
    signers: Vec<KeyId>,
    /// Whether all objects were looked through.
    all: bool,
}

/// Finds out which keys have signed, for a message alone: what cannot be seen is left out.
async fn others(store: &dyn Store, commit_bytes: &[u8]) -> Others {
    let mut found = Others { signers: Vec::new(), all: false };
    let mut listed = store.list().take(LISTED);
    let mut seen = 0;
    while let Some(entry) = listed.next().await {
        let Ok(entry) = entry else { return found };
        seen += 1;
        if keys::is_signature(&entry.key)
            && let Ok(Some(Found { key_id: Some(id), state: State::Unchecked, .. })) =
                examine(store, &entry.key, commit_bytes, &[]).await
        {
            found.signers.push(id);
        }
        if found.signers.len() == OTHERS {
            break;
        }
    }
    found.signers.sort_unstable();
    found.signers.dedup();
    found.all = seen < LISTED;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_is_printed_as_minisign_prints_it() {
        // The key of minisign's own releases, and the number that minisign shows for it.
        let key = PublicKey::parse("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").unwrap();
        assert_eq!(key.id().to_string(), "E7620F1842B4E81F");
        assert_eq!(key.id().object(), "signatures/E7620F1842B4E81F.minisig");
        assert_eq!(PublicKey::parse(&key.to_file()).unwrap(), key);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let secret = generate(None).unwrap().0;
        for wrong in ["", "x", "untrusted comment: x", "untrusted comment: x\nRWQ", &secret] {
            assert_eq!(PublicKey::parse(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
        let public = generate(None).unwrap().1.to_file();
        for wrong in ["", "x", "untrusted comment: x\nRWQ", &public] {
            assert_eq!(SigningKey::open(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
            assert_eq!(
                SigningKey::unlock(wrong, "x".into()).unwrap_err().kind(),
                ErrorKind::Usage,
                "{wrong}"
            );
        }
    }

    #[test]
    fn keys_open_with_their_password_only() {
        let (open, _) = generate(None).unwrap();
        assert!(!SigningKey::is_locked(&open));
        let (locked, public) = generate(Some("a secret".into())).unwrap();
        assert!(SigningKey::is_locked(&locked));
        assert_eq!(SigningKey::unlock(&locked, "a secret".into()).unwrap().public().unwrap(), public);
        let wrong = SigningKey::unlock(&locked, "another".into()).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Denied);
        assert!(!format!("{wrong} {wrong:?}").contains("another"), "the password is repeated");
    }
}
