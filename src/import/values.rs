//! Values that a target's engine does not take, although it has their type.
//!
//! Servers refuse them in words that name neither row nor field, and Lite as if it were for later; or
//! they take them and keep something else. So they are looked for before they are sent. What is
//! known of the engines stands in `docs/types.md`. Does not own: whether the engine has a type at
//! all (`plan`), or whether a value fits its type (`columns`).

use crate::columns::{Keys, sparse_pairs};
use crate::error::{Code, Error};
use crate::milvus::{ServerInfo, ServerKind};
use crate::schema::{Column, FieldType};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// What is particular about an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Particular {
    /// Nothing that is known.
    Nothing,
    /// A JSON value is an object or null (Milvus before 2.4).
    OnlyObjects,
    /// A JSON value is an object or an array, and no key occurs twice in an object; a dynamic value
    /// that has the name of a field overwrites it; a sparse vector has entries, and none of them is
    /// zero (Milvus Lite 3).
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
    pub fn check(self, columns: &[Column], batch: &RecordBatch, key_field: &str) -> Result<(), Error> {
        if self == Particular::Nothing {
            return Ok(());
        }
        for (column, array) in columns.iter().zip(batch.columns()) {
            let refuses: &dyn Fn(Particular, &str) -> Option<String> = match column.kind {
                FieldType::Json if column.dynamic => &|engine, text| {
                    engine.refuses_json(text).or_else(|| engine.refuses_dynamic(text, columns))
                },
                FieldType::Json => &Particular::refuses_json,
                FieldType::SparseFloatVector => &Particular::refuses_sparse,
                _ => continue,
            };
            let Some(texts) = array.as_string_opt::<i32>() else { continue };
            for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
                if let Some(why) = refuses(self, texts.value(row)) {
                    let key = Keys::of(batch, key_field)?.get(row);
                    let what =
                        format!("field {:?} ({}): {why}, row with key {key}", column.name, column.kind);
                    return Err(Error::new(Code::TargetCannot, what).hint(
                        "import into a newer server, or leave this collection out: name the others with `-c`",
                    ));
                }
            }
        }
        Ok(())
    }

    fn refuses_json(self, text: &str) -> Option<String> {
        match (self, text.trim_start().as_bytes().first()) {
            (Particular::Lite, Some(b'{' | b'[')) => {
                let twice = twice_in_an_object(text)?;
                Some(format!("the target keeps only one of the values of {twice:?}, which occurs twice"))
            }
            (_, Some(b'{')) => None,
            (Particular::OnlyObjects, _) if text.trim() == "null" => None,
            (Particular::Lite, _) => Some("the target takes only JSON objects and arrays".into()),
            _ => Some("the target takes only JSON objects".into()),
        }
    }

    fn refuses_dynamic(self, text: &str, columns: &[Column]) -> Option<String> {
        if self != Particular::Lite {
            return None;
        }
        let entries: HashMap<String, IgnoredAny> = serde_json::from_str(text).ok()?;
        let shadow = columns.iter().find(|column| entries.contains_key(&column.name))?;
        Some(format!("the target would put its value of {:?} into the field of that name", shadow.name))
    }

    fn refuses_sparse(self, text: &str) -> Option<String> {
        if self != Particular::Lite {
            return None;
        }
        // What cannot be read is refused when it is encoded.
        let pairs = sparse_pairs(text).ok()?;
        let zero = |pair: &[u8]| pair[4..] == [0; 4] || pair[4..] == (-0.0f32).to_le_bytes();
        match pairs.chunks_exact(8) {
            none if none.len() == 0 => Some("the target takes no sparse vectors without entries".into()),
            mut some => some.any(zero).then(|| "the target drops explicit zeros of sparse vectors".into()),
        }
    }
}

/// The first key that an object has twice, at any depth. What is no JSON has none.
fn twice_in_an_object(text: &str) -> Option<String> {
    let mut twice = None;
    // It ends early with an error at the first one.
    let _ = Walk(&mut twice).deserialize(&mut serde_json::Deserializer::from_str(text));
    twice
}

/// Goes through a JSON value and keeps nothing but the key that it looks for.
struct Walk<'t>(&'t mut Option<String>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                *self.0 = Some(key);
                return Err(serde::de::Error::custom("twice"));
            }
            keys.insert(key);
            map.next_value_seed(Walk(&mut *self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Walk(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
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
            ("{\"a\":1,\"b\":{\"a\":[null,true,-1,0.5,1e400,\"a\"]}}", true, true),
            ("{\"a\":1,\"\\u0061\":1}", true, false),
            ("[0,{\"x\":[{\"b\":1,\"b\":2}]}]", false, false),
            ("\"{}\"", false, false),
            ("1", false, false),
            ("null", true, false),
            ("", false, false),
        ] {
            assert_eq!(Particular::OnlyObjects.refuses_json(text).is_none(), only_objects, "{text:?}");
            assert_eq!(Particular::Lite.refuses_json(text).is_none(), lite, "{text:?}");
        }
    }

    #[test]
    fn dynamic_values_with_the_name_of_a_field() {
        let column = |name: &str, kind, dynamic| Column { name: name.into(), kind, nullable: false, dynamic };
        let columns = [column("id", FieldType::Int64, false), column("$meta", FieldType::Json, true)];
        for (text, taken) in
            [("{\"x\":{\"id\":1}}", true), ("{\"x\":1,\"id\":null}", false), ("{\"$meta\":{}}", false)]
        {
            assert_eq!(Particular::Lite.refuses_dynamic(text, &columns).is_none(), taken, "{text}");
            assert_eq!(Particular::OnlyObjects.refuses_dynamic(text, &columns), None);
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
