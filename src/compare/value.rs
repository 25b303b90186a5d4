//! Whether values are the same, column by column, and how a difference reads.
//!
//! Values are the same when their bits are: floats too, so that NaN is itself and -0.0 is not 0.0;
//! text by its bytes; lists and structs by their members; null only with null. Where servers
//! rewrite what they are given, the meaning counts: JSON by value (`json`), shapes and moments by
//! what they say (`geometry`, `moment`), sparse vectors by their pairs of index and value.

use super::{geometry, json, moment};
use crate::columns::{sparse_pairs, value_json};
use crate::schema::FieldType;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde_json::Value;

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 60;

/// Characters before the first difference that are shown of a long text.
const SHOWN_BEFORE: usize = 20;

/// Items of a list that are shown.
const SHOWN_ITEMS: usize = 4;

/// What decides when two texts are not the same bytes; `None`: nothing, they differ.
fn meaning(kind: &FieldType) -> Option<fn(&str, &str) -> bool> {
    match kind {
        FieldType::Json => Some(json::same),
        FieldType::Geometry => Some(geometry::same),
        FieldType::Timestamptz => Some(moment::same),
        FieldType::SparseFloatVector => Some(same_sparse),
        // Of every other type, the bits decide.
        _ => None,
    }
}

fn same_sparse(a: &str, b: &str) -> bool {
    sparse_pairs(a).ok().zip(sparse_pairs(b).ok()).is_some_and(|(a, b)| a == b)
}

/// The rows in which two columns differ. Both have the same length and the same Arrow type; `kind`
/// is the type of the field.
pub(super) fn differing(kind: &FieldType, a: &ArrayRef, b: &ArrayRef) -> Vec<usize> {
    let texts = a.as_string_opt::<i32>().zip(b.as_string_opt::<i32>());
    if let (Some(same), Some((a, b))) = (meaning(kind), texts) {
        let differs = |row: &usize| match (a.is_valid(*row), b.is_valid(*row)) {
            (true, true) => a.value(*row) != b.value(*row) && !same(a.value(*row), b.value(*row)),
            (valid_a, valid_b) => valid_a != valid_b,
        };
        return (0..a.len()).filter(differs).collect();
    }
    let mut rows = Vec::new();
    by_halves(a, b, 0, &mut rows);
    rows
}

/// Nearly always all rows are the same, which is one comparison of whole buffers.
fn by_halves(a: &ArrayRef, b: &ArrayRef, start: usize, rows: &mut Vec<usize>) {
    if a == b {
        return;
    }
    if a.len() == 1 {
        rows.push(start);
        return;
    }
    let half = a.len() / 2;
    by_halves(&a.slice(0, half), &b.slice(0, half), start, rows);
    by_halves(&a.slice(half, a.len() - half), &b.slice(half, a.len() - half), start + half, rows);
}

/// Two values that differ, shortened around the first difference, for people.
pub(super) fn rendered(kind: &FieldType, a: (&ArrayRef, usize), b: (&ArrayRef, usize)) -> (String, String) {
    // Documents are shown as they stand, and floats that JSON cannot say come as words.
    let plain = meaning(kind).is_some() || *a.0.data_type() != DataType::Utf8;
    let shown = |value: Value| match value {
        Value::String(text) if plain => text,
        value => value.to_string(),
    };
    let (a, b) = match (value_json(a.0, a.1), value_json(b.0, b.1)) {
        (Value::Array(a), Value::Array(b)) => lists(&a, &b),
        (a, b) => windows(&shown(a), &shown(b)),
    };
    if a == b { (a, format!("{b} (other bits)")) } else { (a, b) }
}

/// Long lists of one length are shown by the first item that differs, others by their beginning.
fn lists(a: &[Value], b: &[Value]) -> (String, String) {
    // As numbers, -0.0 and 0.0 would be equal.
    let text = |item: &Value| item.to_string();
    let first = a.iter().zip(b).position(|(a, b)| text(a) != text(b));
    match first {
        Some(at) if a.len() == b.len() && a.len() > SHOWN_ITEMS => {
            let (x, y) = windows(&a[at].to_string(), &b[at].to_string());
            (format!("item {at} of {}: {x}", a.len()), format!("item {at} of {}: {y}", b.len()))
        }
        _ => (beginning(a), beginning(b)),
    }
}

fn beginning(items: &[Value]) -> String {
    let shown: Vec<_> = items.iter().take(SHOWN_ITEMS).map(|v| windows(&v.to_string(), "").0).collect();
    match items.len() > SHOWN_ITEMS {
        true => format!("[{},... {} in all]", shown.join(","), items.len()),
        false => format!("[{}]", shown.join(",")),
    }
}

/// Two texts, each cut to what stands around their first difference.
fn windows(a: &str, b: &str) -> (String, String) {
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let start = common.saturating_sub(SHOWN_BEFORE);
    let window = |text: &str| {
        let length = text.chars().count();
        if length <= SHOWN_CHARS {
            return text.to_string();
        }
        let start = start.min(length - SHOWN_CHARS);
        let shown: String = text.chars().skip(start).take(SHOWN_CHARS).collect();
        let before = if start > 0 { "..." } else { "" };
        let after = if start + SHOWN_CHARS < length { "..." } else { "" };
        format!("{before}{shown}{after} ({} bytes)", text.len())
    };
    (window(a), window(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{Int32Builder, ListBuilder};
    use arrow_array::types::Float32Type;
    use arrow_array::{
        BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    };
    use arrow_schema::Field;
    use std::sync::Arc;

    fn array(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    fn vectors(rows: &[&[f32]]) -> ArrayRef {
        let rows = rows.iter().map(|row| Some(row.iter().map(|v| Some(*v)).collect::<Vec<_>>()));
        array(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    }

    #[test]
    fn floats_are_the_same_by_their_bits() {
        let other_nan = f32::from_bits(f32::NAN.to_bits() ^ 1);
        let a = array(Float32Array::from(vec![f32::NAN, f32::NAN, 0.0, 1.0, f32::INFINITY, 1e-45]));
        let b = array(Float32Array::from(vec![f32::NAN, other_nan, -0.0, 1.0, f32::INFINITY, 0.0]));
        assert_eq!(differing(&FieldType::Float, &a, &b), [1, 2, 5]);
        let a = array(Float64Array::from(vec![f64::NAN, 0.1, -0.0]));
        let b = array(Float64Array::from(vec![f64::NAN, 0.1 + 1e-18, 0.0]));
        assert_eq!(differing(&FieldType::Double, &a, &b), [2]);
        let kind = FieldType::FloatVector { dim: 2 };
        let a = vectors(&[&[1.0, f32::NAN], &[0.0, 2.0], &[3.0, 4.0]]);
        let b = vectors(&[&[1.0, f32::NAN], &[-0.0, 2.0], &[3.0, 4.0]]);
        assert_eq!(differing(&kind, &a, &b), [1]);
    }

    #[test]
    fn every_differing_row_is_found_wherever_it_stands() {
        let same: Vec<i64> = (0..100).collect();
        for rows in [vec![], vec![0], vec![99], vec![0, 1, 50, 51, 98, 99], (0..100).collect()] {
            let mut other = same.clone();
            rows.iter().for_each(|row: &usize| other[*row] += 1_000);
            // In the middle of larger columns, as runs of equal keys are.
            let pad = |values: &[i64], before: i64| {
                let all = std::iter::repeat_n(7, before as usize).chain(values.iter().copied()).chain([9]);
                array(Int64Array::from_iter_values(all)).slice(before as usize, 100)
            };
            assert_eq!(differing(&FieldType::Int64, &pad(&same, 3), &pad(&other, 11)), rows);
        }
        assert!(
            differing(
                &FieldType::Bool,
                &array(BooleanArray::from(vec![true; 70])).slice(3, 60),
                &array(BooleanArray::from(vec![true; 70])).slice(9, 60)
            )
            .is_empty()
        );
    }

    #[test]
    fn null_is_only_null() {
        let a = array(StringArray::from(vec![Some(""), None, None, Some("null")]));
        let b = array(StringArray::from(vec![None, None, Some("null"), Some("null")]));
        assert_eq!(differing(&FieldType::Json, &a, &b), [0, 2]);
        assert_eq!(differing(&FieldType::VarChar { max_length: 9 }, &a, &b), [0, 2]);
        let lists = |rows: &[Option<&[Option<i32>]>]| {
            let mut builder = ListBuilder::new(Int32Builder::new());
            for row in rows {
                builder.append_option(row.map(|items| items.iter().copied()));
            }
            array(builder.finish())
        };
        let a = lists(&[None, Some(&[]), Some(&[None, Some(1)]), Some(&[Some(2)]), None]);
        let b = lists(&[None, None, Some(&[Some(0), Some(1)]), Some(&[Some(2)]), Some(&[])]);
        assert_eq!(differing(&FieldType::Int32, &a, &b), [1, 2, 4]);
        assert_eq!(differing(&FieldType::Int32, &a, &a.slice(0, 5)), [0; 0]);
    }

    #[test]
    fn structs_are_the_same_by_their_members() {
        let structs = |text: &[&str]| {
            let number = array(Int64Array::from_iter_values(0..text.len() as i64));
            array(StructArray::from(vec![
                (Arc::new(Field::new("n", DataType::Int64, false)), number),
                (Arc::new(Field::new("t", DataType::Utf8, false)), array(StringArray::from(text.to_vec()))),
            ]))
        };
        let (a, b) = (structs(&["a", "b", "c"]), structs(&["a", "B", "c"]));
        assert_eq!(differing(&FieldType::Int64, &a, &b), [1]);
    }

    #[test]
    fn what_servers_rewrite_is_the_same_by_meaning() {
        let texts = |texts: &[&str]| array(StringArray::from(texts.to_vec()));
        let (a, b) = (texts(&["{\"a\":1}", "[1]", "2"]), texts(&["{ \"a\" : 1 }", "[1.0]", "2"]));
        assert_eq!(differing(&FieldType::Json, &a, &b), [1]);
        assert_eq!(differing(&FieldType::VarChar { max_length: 99 }, &a, &b), [0, 1]);
        let (a, b) = (texts(&["POINT (1 2)", "POINT (1 2)"]), texts(&["point(1 2.0)", "POINT (1 3)"]));
        assert_eq!(differing(&FieldType::Geometry, &a, &b), [1]);
        let (a, b) = (texts(&["2026-01-01T00:00:00Z"; 2]), texts(&["2026-01-01T01:00:00+01:00", "never"]));
        assert_eq!(differing(&FieldType::Timestamptz, &a, &b), [1]);
        let a = texts(&["{\"1\":0.1,\"7\":2.0}", "{}", "{\"5\":0.0}", "{\"5\":0.0}"]);
        let b = texts(&["{\"1\": 1e-1, \"7\": 2}", "{ }", "{}", "{\"5\":-0.0}"]);
        assert_eq!(differing(&FieldType::SparseFloatVector, &a, &b), [2, 3]);
    }

    #[test]
    fn differences_read_shortly_and_show_what_differs() {
        let show = |kind: &FieldType, a: ArrayRef, b: ArrayRef| rendered(kind, (&a, 0), (&b, 0));
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        let text = FieldType::VarChar { max_length: 999 };
        let strings = |t: &str| array(StringArray::from(vec![t]));
        assert_eq!(show(&text, strings("a"), strings("a ")), pair("\"a\"", "\"a \""));
        assert_eq!(show(&FieldType::Json, strings("[1]"), strings("[1.0]")), pair("[1]", "[1.0]"));
        let long = "0123456789".repeat(30);
        let (a, b) = show(&text, strings(&format!("{long}x{long}")), strings(&format!("{long}y{long}")));
        assert!(a.starts_with("...") && a.ends_with("... (603 bytes)") && a.contains("789x012"), "{a}");
        assert!(b.contains("789y012") && b.len() < 90, "{b}");
        let mut other = [0.5_f32; 128];
        other[17] = -0.0;
        let mut vector = other;
        vector[17] = 0.0;
        let kind = FieldType::FloatVector { dim: 128 };
        assert_eq!(
            show(&kind, vectors(&[&vector]), vectors(&[&other])),
            pair("item 17 of 128: 0.0", "item 17 of 128: -0.0")
        );
        assert_eq!(
            show(&kind, vectors(&[&[1.0, 2.0, 3.0, 4.0, 5.5]]), vectors(&[&[1.0]])),
            pair("[1.0,2.0,3.0,4.0,... 5 in all]", "[1.0]")
        );
        let floats = |bits: u32| array(Float32Array::from(vec![f32::from_bits(bits)]));
        assert_eq!(
            show(&FieldType::Float, floats(0x7fc0_0000), floats(0x7fc0_0001)),
            pair("NaN", "NaN (other bits)")
        );
    }
}
