//! Values that a target's engine does not take, although it has their type.
//!
//! Servers refuse them in words that name neither row nor field, and Lite as if it were for later; or
//! they take them and keep something else. So they are looked for before they are sent. What is
//! known of the engines stands in `docs/types.md`. Does not own: whether the engine has a type at
//! all (`plan`), or whether a value fits its type (`columns`).

use crate::columns::{Keys, sparse_pairs};
use crate::error::{Error, ErrorKind, Result};
use crate::milvus::{ServerInfo, ServerKind};
use crate::schema::{Column, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};

/// What is particular about an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Particular {
    /// Nothing that is known.
    Nothing,
    /// A JSON value is an object (Milvus before 2.4).
    OnlyObjects,
    /// A JSON value is an object or an array; a sparse vector has entries, and none of them is zero
    /// (Milvus Lite 3).
    Lite,
}

impl Particular {
    /// What is particular about a server.
    pub fn of(info: &ServerInfo) -> Self {
        match (info.kind, info.release()) {
            (ServerKind::Milvus, Some(release)) if release < (2, 4, 0) => Particular::OnlyObjects,
            (ServerKind::Lite, Some((3, ..))) => Particular::Lite,
            _ => Particular::Nothing,
        }
    }

    /// Refuses the first value of a batch that the engine does not take, by field and key.
    pub fn check(self, columns: &[Column], batch: &RecordBatch, key_field: &str) -> Result<()> {
        if self == Particular::Nothing {
            return Ok(());
        }
        for (column, array) in columns.iter().zip(batch.columns()) {
            let refuses: fn(Particular, &str) -> Option<&'static str> = match column.kind {
                FieldType::Json => Particular::refuses_json,
                FieldType::SparseFloatVector => Particular::refuses_sparse,
                _ => continue,
            };
            let Some(texts) = array.as_string_opt::<i32>() else { continue };
            for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
                if let Some(why) = refuses(self, texts.value(row)) {
                    let key = Keys::of(batch, key_field)?.get(row);
                    let what =
                        format!("field {:?} ({}): {why}, row with key {key}", column.name, column.kind);
                    return Err(Error::new(ErrorKind::Unsupported, what)
                        .hint("import into a newer server, or leave this collection out with `-c`"));
                }
            }
        }
        Ok(())
    }

    fn refuses_json(self, text: &str) -> Option<&'static str> {
        match (self, text.trim_start().as_bytes().first()) {
            (_, Some(b'{')) => None,
            (Particular::Lite, Some(b'[')) => None,
            (Particular::Lite, _) => Some("the target takes only JSON objects and arrays"),
            _ => Some("the target takes only JSON objects"),
        }
    }

    fn refuses_sparse(self, text: &str) -> Option<&'static str> {
        if self != Particular::Lite {
            return None;
        }
        // What cannot be read is refused when it is encoded.
        let pairs = sparse_pairs(text).ok()?;
        let zero = |pair: &[u8]| pair[4..] == [0; 4] || pair[4..] == (-0.0f32).to_le_bytes();
        match pairs.chunks_exact(8) {
            none if none.len() == 0 => Some("the target takes no sparse vectors without entries"),
            mut some => some.any(zero).then_some("the target drops explicit zeros of sparse vectors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tops_of_json_values() {
        for (text, only_objects, lite) in [
            ("{}", true, true),
            (" \n\t{\"a\":1}", true, true),
            ("[{}]", false, true),
            ("\"{}\"", false, false),
            ("1", false, false),
            ("null", false, false),
            ("", false, false),
        ] {
            assert_eq!(Particular::OnlyObjects.refuses_json(text).is_none(), only_objects, "{text:?}");
            assert_eq!(Particular::Lite.refuses_json(text).is_none(), lite, "{text:?}");
        }
    }

    #[test]
    fn sparse_vectors_that_lite_would_change() {
        for (text, taken) in [
            ("{}", false),
            ("{\"1\":0.5}", true),
            ("{\"1\":0.5,\"2\":0.0}", false),
            ("{\"1\":-0.0}", false),
            ("{\"1\":1e-45}", true),
        ] {
            assert_eq!(Particular::Lite.refuses_sparse(text).is_none(), taken, "{text}");
            assert_eq!(Particular::OnlyObjects.refuses_sparse(text), None);
        }
    }
}
