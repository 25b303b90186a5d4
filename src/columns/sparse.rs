//! Sparse vectors: Milvus' pairs of (u32, f32), and the JSON text that its bulk import takes.
//!
//! The text is `{"index":value,...}`, ascending by index, values in the shortest form that reads
//! back to the same bits, whether as 32 or as 64 bits. An empty vector is `{}`.

use std::fmt::Write;

/// Largest index that a server accepts.
const MAX_INDEX: u32 = u32::MAX - 1;

/// Appends `contents` (pairs of little-endian u32 index and f32 value) as JSON text.
pub(super) fn to_json(contents: &[u8], out: &mut String) -> Result<(), String> {
    if !contents.len().is_multiple_of(8) {
        return Err(format!("{} bytes are not whole pairs of index and value", contents.len()));
    }
    out.push('{');
    let mut previous = None;
    for pair in contents.chunks_exact(8) {
        let index = u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
        let value = f32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]]);
        check_pair(previous, index, value)?;
        if previous.is_some() {
            out.push(',');
        }
        let _ = write!(out, "\"{index}\":");
        write_value(value, out);
        previous = Some(index);
    }
    out.push('}');
    Ok(())
}

/// The one float (found by trying all of them; its negative is the other one) whose shortest text,
/// 7.038531e-26, names another float when it is read as a double and then narrowed, as Milvus and
/// most JSON readers do.
const ROUNDS_TWICE: u32 = 0x15ae_43fd;

/// Writes the shortest text that reads back to the same bits either way, as valid JSON.
fn write_value(value: f32, out: &mut String) {
    let _ = match value.abs().to_bits() {
        ROUNDS_TWICE => write!(out, "{:?}", f64::from(value)),
        _ => write!(out, "{value:?}"),
    };
}

/// The pairs that `text` stands for. Spaces between tokens are allowed, nothing else that
/// [`to_json`] would not write, except other spellings of the numbers.
pub fn from_json(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{:.60?} is not a sparse vector", text);
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(wrong)?;
    let mut contents = Vec::with_capacity(inner.len());
    if inner.trim().is_empty() {
        return Ok(contents);
    }
    let mut previous = None;
    for pair in inner.split(',') {
        let (index, value) = pair.split_once(':').ok_or_else(wrong)?;
        let index = index.trim().strip_prefix('"').and_then(|i| i.strip_suffix('"')).ok_or_else(wrong)?;
        let index: u32 = index.parse().map_err(|_| wrong())?;
        let value: f32 = value.trim().parse().map_err(|_| wrong())?;
        check_pair(previous, index, value)?;
        contents.extend_from_slice(&index.to_le_bytes());
        contents.extend_from_slice(&value.to_le_bytes());
        previous = Some(index);
    }
    Ok(contents)
}

fn check_pair(previous: Option<u32>, index: u32, value: f32) -> Result<(), String> {
    if previous.is_some_and(|previous| previous >= index) {
        return Err(format!("index {index} does not ascend"));
    }
    if index > MAX_INDEX {
        return Err(format!("index {index} is too large"));
    }
    if !value.is_finite() {
        return Err(format!("the value {value} at index {index} is not finite"));
    }
    Ok(())
}
