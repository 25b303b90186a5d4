//! The whole way of arbitrary rows of arbitrary schemas: what a server says, in any of its layouts,
//! to record batches, to a part, back to record batches, to what an insert carries: equal to the bit.

use super::{PartReader, PartWriter};
use crate::columns::tests::{KEY, any_table, as_servers_say_it, bytes, field, longs, texts};
use crate::columns::{decode, encode};
use crate::schema::{Column, FieldType};
use crate::snapshot::Part;
use milvus::proto::schema::FieldData;
use proptest::prelude::*;
use tempfile::NamedTempFile;

/// Keys that ascend, as pages have them, in the place of the arbitrary ones.
fn in_key_order(columns: &[Column], mut rows: Vec<FieldData>) -> (Vec<FieldData>, usize) {
    let place = columns.iter().position(|c| c.name == KEY).unwrap();
    let count = decode(&columns[place..=place], KEY, rows[place..=place].to_vec()).unwrap().num_rows();
    let keys = match columns[place].kind {
        FieldType::Int64 => longs((0..count as i64).map(|row| row * 5 - 9).collect()),
        _ => {
            let keys: Vec<_> = (0..count).map(|row| format!("\u{0}\"{}", "é".repeat(row))).collect();
            texts(&keys.iter().map(String::as_str).collect::<Vec<_>>())
        }
    };
    rows[place] = field(&columns[place], keys);
    (rows, count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_server_says_is_what_another_is_told(
        (columns, rows) in any_table(),
        choices in any::<[u16; 8]>(),
    ) {
        let (sent, count) = in_key_order(&columns, rows);
        let reply = columns.iter().zip(&sent).zip(choices.iter().cycle()).enumerate();
        let reply = reply.map(|(id, ((column, data), choices))| as_servers_say_it(column, data.clone(), id as i64, *choices));
        let batch = decode(&columns, KEY, reply.collect()).unwrap();

        let mut writer = PartWriter::new(&columns, KEY, NamedTempFile::new().unwrap()).unwrap();
        writer.write(&batch).unwrap();
        let Some(done) = writer.finish().unwrap() else {
            prop_assert_eq!(count, 0);
            return Ok(());
        };
        let part = Part {
            key: String::new(),
            partition: None,
            size: done.size,
            sha256: done.sha256,
            rows: done.rows,
            first: done.first.clone(),
            last: done.last.clone(),
            nulls: done.nulls.clone(),
        };
        let mut reader = PartReader::open(done.file.reopen().unwrap(), &columns, KEY, &part, count).unwrap();
        let back = reader.next_batch().unwrap().expect("there are rows");
        prop_assert_eq!(back.num_rows(), count, "all of them at once");
        prop_assert_eq!(bytes(&encode(&columns, &back).unwrap()), bytes(&sent));
        prop_assert!(reader.next_batch().unwrap().is_none());
    }
}
