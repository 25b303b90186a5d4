//! What a server sends must come out of the other side equal to the bit, and what cannot be right
//! must be refused by name.

use super::*;
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::{DataType as WireType, FieldData, IntArray, LongArray, ScalarField};

#[test]
fn a_bad_value_is_named_by_the_key_of_its_row_and_not_by_another_column() {
    let column = |name: &str, kind| Column { name: name.into(), kind, dynamic: false };
    let columns =
        [column("decoy", FieldType::Int64), column("key", FieldType::Int64), column("bad", FieldType::Int8)];
    let field = |name: &str, kind: WireType, data| FieldData {
        r#type: kind as i32,
        field_name: name.into(),
        field: Some(WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() })),
        ..Default::default()
    };
    let reply = vec![
        field("decoy", WireType::Int64, Scalars::LongData(LongArray { data: vec![10, 20] })),
        field("key", WireType::Int64, Scalars::LongData(LongArray { data: vec![1, 2] })),
        field("bad", WireType::Int8, Scalars::IntData(IntArray { data: vec![0, 1000] })),
    ];
    let error = decode(&columns, "key", reply).unwrap_err();
    assert_eq!(error.to_string(), "field \"bad\" (Int8): 1000 does not fit, row with key 2");
}
