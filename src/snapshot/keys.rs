//! Keys of objects within a snapshot: the grammar that every key is held to before it is used.

use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What was meant; written first.
pub const PLAN: &str = "PLAN.json";
/// Schemas and the list of all parts.
pub const MANIFEST: &str = "manifest.json";
/// The manifest and every part in coreutils format.
pub const SUMS: &str = "SHA256SUMS";
/// What makes the snapshot exist; written last.
pub const COMMIT: &str = "COMMIT.json";
/// An optional signature of COMMIT.json, where the command `minisign` puts one.
pub const SIGNATURE: &str = "COMMIT.json.minisig";

/// Path segment of parts whose rows were read without naming a partition. No name encodes to it.
const NO_PARTITION: &str = "-";

/// Letters, digits and `_` stand for themselves; every other byte is percent-encoded. So no
/// name can form `.`, `..`, a separator, a drive letter or a control character.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_');

/// The key of a unit's receipt.
pub fn receipt(unit: &str) -> String {
    format!("units/{unit}.json")
}

/// The key of the signature of COMMIT.json by the key with this id: 16 uppercase hex digits.
pub fn signature(key_id: &str) -> String {
    format!("signatures/{key_id}.minisig")
}

/// Whether `key` is that of a signature: of one that we make, or of one that `minisign` makes.
pub fn is_signature(key: &str) -> bool {
    let id = key.strip_prefix("signatures/").and_then(|rest| rest.strip_suffix(".minisig"));
    let is_id = |id: &str| id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    key == SIGNATURE || id.is_some_and(is_id)
}

/// The identifier of the `index`-th unit, counted from 0.
pub fn unit_id(index: usize) -> String {
    format!("u{:05}", index + 1)
}

/// The key of a part: `data/<db>/<collection>/<partition>/<unit>-<seq>-<sha256 prefix>.parquet`.
/// `sequence` counts a unit's parts from 0.
pub fn part(
    database: &str,
    collection: &str,
    partition: Option<&str>,
    unit: &str,
    sequence: usize,
    digest: Sha256,
) -> String {
    format!(
        "{}/{unit}-{sequence:04}-{}.parquet",
        part_folder(database, collection, partition),
        digest.prefix(8)
    )
}

fn part_folder(database: &str, collection: &str, partition: Option<&str>) -> String {
    let partition = partition.map_or(NO_PARTITION.to_string(), encode);
    format!("data/{}/{}/{partition}", encode(database), encode(collection))
}

fn encode(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}

/// Checks that `key` is the key of a part of exactly this collection, partition and content.
pub fn check_part(
    key: &str,
    database: &str,
    collection: &str,
    partition: Option<&str>,
    digest: Sha256,
) -> Result<()> {
    let folder = part_folder(database, collection, partition);
    let file = key.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
    let is_part = file.is_some_and(|file| is_part_file(file, digest));
    if is_part {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Integrity,
        format!("key {key:?} is not one that a part of {database}.{collection} can have"),
    ))
}

/// The unit that wrote the object under `key`, if that is a part of this collection and partition
/// by its name.
pub fn unit_of_part<'k>(
    key: &'k str,
    database: &str,
    collection: &str,
    partition: Option<&str>,
) -> Option<&'k str> {
    let file = key.strip_prefix(&part_folder(database, collection, partition))?.strip_prefix('/')?;
    let mut pieces = file.strip_suffix(".parquet")?.split('-');
    let (unit, sequence, prefix) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_part = pieces.next().is_none()
        && is_unit_id(unit)
        && (4..=9).contains(&sequence.len())
        && digits(sequence)
        && prefix.len() == 8
        && hex(prefix);
    is_part.then_some(unit)
}

fn is_part_file(file: &str, digest: Sha256) -> bool {
    let Some(stem) = file.strip_suffix(".parquet") else { return false };
    let mut pieces = stem.split('-');
    let (Some(unit), Some(sequence), Some(prefix), None) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return false;
    };
    is_unit_id(unit)
        && (4..=9).contains(&sequence.len())
        && sequence.bytes().all(|b| b.is_ascii_digit())
        && prefix == digest.prefix(8)
}

/// Whether `id` is a unit's identifier: `u` and at least five digits.
pub fn is_unit_id(id: &str) -> bool {
    id.strip_prefix('u')
        .is_some_and(|digits| (5..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a name can be written into keys and read back, and is what a server can have sent:
/// non-empty, at most 255 bytes, no control characters.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let round_trip = percent_decode_str(&encode(name)).decode_utf8().is_ok_and(|back| back == name);
    if !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control) && round_trip {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Integrity, format!("{name:?} cannot be the name of a {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn part_keys_have_one_form() {
        let digest = Sha256::of(b"part");
        let key = part("default", "docs", Some("_default"), &unit_id(0), 0, digest);
        assert_eq!(key, format!("data/default/docs/_default/u00001-0000-{}.parquet", digest.prefix(8)));
        check_part(&key, "default", "docs", Some("_default"), digest).unwrap();

        let wrong = [
            key.replace("docs", "other"),
            key.replace("_default", "-"),
            key.replace("u00001", "x00001"),
            key.replace("-0000-", "-0-"),
            key.replace("data/", "data/../data/"),
            key.replace(".parquet", ".parquet/x"),
            format!("/{key}"),
            key.replace('/', "\\"),
        ];
        for wrong in wrong {
            let error = check_part(&wrong, "default", "docs", Some("_default"), digest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity, "{wrong}");
        }
        assert!(check_part(&key, "default", "docs", Some("_default"), Sha256::of(b"other")).is_err());
    }

    #[test]
    fn no_partition_is_told_from_every_name() {
        let digest = Sha256::of(b"");
        let whole = part("db", "c", None, "u00001", 3, digest);
        assert!(whole.starts_with("data/db/c/-/u00001-0003-"));
        assert_ne!(whole, part("db", "c", Some("-"), "u00001", 3, digest));
    }

    proptest! {
        #[test]
        fn any_name_stays_in_its_folder(name in "\\PC{1,40}") {
            let digest = Sha256::of(b"x");
            let key = part(&name, &name, Some(&name), "u00001", 0, digest);
            prop_assert_eq!(key.split('/').count(), 5);
            prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_%-/.".contains(&b)));
            prop_assert!(!key.contains(".."));
            check_part(&key, &name, &name, Some(&name), digest).unwrap();
            check_name("collection", &name).unwrap();
        }
    }
}
