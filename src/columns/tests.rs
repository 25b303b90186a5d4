//! What a server sends must come out of the other side equal to the bit, and what cannot be right
//! must be refused by name.

use super::*;
use crate::schema::{Column, ElementType, FieldType};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, BytesArray, DataType as WireType, DoubleArray, FieldData, FloatArray, IntArray,
    JsonArray, LongArray, ScalarField, SparseFloatArray, StringArray as WireStrings, StructArrayField,
    VectorField,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;

pub(crate) const KEY: &str = "the key";

// ---- building what a server sends ----

pub(crate) fn scalars(data: Scalars) -> WireField {
    WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() })
}

pub(crate) fn vectors(dim: u32, data: Vectors) -> WireField {
    WireField::Vectors(VectorField { dim: i64::from(dim), data: Some(data), valid_data: Vec::new() })
}

pub(crate) fn sparse_vectors(rows: &[Vec<(u32, f32)>]) -> WireField {
    let bytes = |pairs: &Vec<(u32, f32)>| {
        pairs.iter().flat_map(|(i, v)| [i.to_le_bytes(), v.to_le_bytes()]).flatten().collect()
    };
    let dim = rows.iter().flatten().map(|(index, _)| i64::from(*index) + 1).max().unwrap_or(0);
    let contents = rows.iter().map(bytes).collect();
    let data = Some(Vectors::SparseFloatVector(SparseFloatArray { contents, dim }));
    WireField::Vectors(VectorField { dim, data, valid_data: Vec::new() })
}

/// The protocol's numbers, written down once more: `wire_type` is under test.
fn type_number(kind: &FieldType) -> WireType {
    match kind {
        FieldType::Bool => WireType::Bool,
        FieldType::Int8 => WireType::Int8,
        FieldType::Int16 => WireType::Int16,
        FieldType::Int32 => WireType::Int32,
        FieldType::Int64 => WireType::Int64,
        FieldType::Float => WireType::Float,
        FieldType::Double => WireType::Double,
        FieldType::VarChar { .. } => WireType::VarChar,
        FieldType::Json => WireType::Json,
        FieldType::Array { .. } => WireType::Array,
        FieldType::FloatVector { .. } => WireType::FloatVector,
        FieldType::BinaryVector { .. } => WireType::BinaryVector,
        FieldType::Float16Vector { .. } => WireType::Float16Vector,
        FieldType::BFloat16Vector { .. } => WireType::BFloat16Vector,
        FieldType::SparseFloatVector => WireType::SparseFloatVector,
        FieldType::Int8Vector { .. } => WireType::Int8Vector,
        FieldType::Text => WireType::Text,
        FieldType::Geometry => WireType::Geometry,
        FieldType::Timestamptz => WireType::Timestamptz,
        FieldType::Date => WireType::Date,
        FieldType::Time => WireType::Time,
        FieldType::Decimal => WireType::Decimal,
        FieldType::Uuid => WireType::Uuid,
        FieldType::Mol => WireType::Mol,
        FieldType::VectorArray { .. } => WireType::ArrayOfVector,
        FieldType::StructArray { .. } => WireType::ArrayOfStruct,
    }
}

pub(crate) fn column(name: &str, kind: FieldType) -> Column {
    Column { name: name.to_string(), kind, nullable: false, dynamic: name == crate::schema::DYNAMIC_COLUMN }
}

pub(crate) fn field(column: &Column, data: WireField) -> FieldData {
    FieldData {
        r#type: type_number(&column.kind) as i32,
        field_name: column.name.clone(),
        is_dynamic: column.dynamic,
        field: Some(data),
        ..Default::default()
    }
}

/// Messages with floats are compared as bytes: NaN is not equal to itself, its bits are.
fn bytes(fields: &[FieldData]) -> Vec<Vec<u8>> {
    fields.iter().map(Message::encode_to_vec).collect()
}

// ---- arbitrary columns and rows ----

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY,
            f32::from_bits(0x7fc0_0001), f32::from_bits(0xffc0_0000), f32::from_bits(0x7f80_0001), 0.1, 16_777_217.0,
        ]),
    ]
}

fn finite_f32() -> impl Strategy<Value = f32> {
    any_f32().prop_map(|f| if f.is_finite() { f } else { f32::from_bits(f.to_bits() & 0x807f_ffff) })
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY,
            f64::from_bits(0x7ff8_0000_0000_0001), f64::from_bits(0x7ff0_0000_0000_0001), 0.1 + 0.2,
        ]),
    ]
}

/// Any Unicode text, among it what escapes, quotes or ends strings elsewhere.
fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        2 => any::<char>(),
        1 => prop::sample::select("\0\u{1}\u{7f}\u{85}\u{9b}\"'\\\n\r\t\u{202e}\u{feff}\u{fffd}\u{10ffff} ".chars().collect::<Vec<_>>()),
    ];
    vec(character, 0..8).prop_map(String::from_iter)
}

/// JSON whose bytes any parser in between would change.
fn any_json() -> impl Strategy<Value = Vec<u8>> {
    let stubborn = [
        r#"{"z":1,"a":2,"z":3}"#,
        r#"{"big":123456789012345678901234567890,"exp":1E+400,"neg":-0,"frac":1.000000000000000000001}"#,
        "  {\n\t\"spaced\" :\r [ 1 , 2.50 , 1e2 ]  }  ",
        r#""\u0041\ud83d\ude00\/""#,
        "{}",
        "[]",
        "null",
        "0.10",
        "",
    ];
    prop_oneof![
        prop::sample::select(stubborn.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        any_text().prop_map(|text| serde_json::json!({ text: 1 }).to_string().into_bytes()),
    ]
}

fn any_sparse() -> impl Strategy<Value = Vec<(u32, f32)>> {
    let index =
        prop_oneof![3 => 0..u32::MAX, 1 => prop::sample::select(vec![0, 1, u32::MAX - 2, u32::MAX - 1])];
    btree_map(index, finite_f32(), 0..6).prop_map(|pairs| pairs.into_iter().collect())
}

fn any_element() -> impl Strategy<Value = ElementType> {
    prop::sample::select(ElementType::ALL.to_vec())
}

fn any_kind() -> impl Strategy<Value = FieldType> {
    prop_oneof![
        Just(FieldType::Bool),
        Just(FieldType::Int8),
        Just(FieldType::Int16),
        Just(FieldType::Int32),
        Just(FieldType::Int64),
        Just(FieldType::Float),
        Just(FieldType::Double),
        Just(FieldType::VarChar { max_length: 64 }),
        Just(FieldType::Json),
        any_element().prop_map(|element| FieldType::Array {
            element,
            element_nullable: false,
            max_capacity: 4
        }),
        any_element().prop_map(|element| FieldType::Array {
            element,
            element_nullable: false,
            max_capacity: 4
        }),
        (1u32..5).prop_map(|dim| FieldType::FloatVector { dim }),
        (1u32..4).prop_map(|bytes| FieldType::BinaryVector { dim: bytes * 8 }),
        (1u32..5).prop_map(|dim| FieldType::Float16Vector { dim }),
        (1u32..5).prop_map(|dim| FieldType::BFloat16Vector { dim }),
        Just(FieldType::SparseFloatVector),
    ]
}

fn any_scalars(
    element: ElementType,
    count: impl Into<prop::collection::SizeRange>,
) -> BoxedStrategy<Scalars> {
    let count = count.into();
    let ints = |values: Vec<i32>| Scalars::IntData(IntArray { data: values });
    match element {
        ElementType::Bool => {
            vec(any::<bool>(), count).prop_map(|data| Scalars::BoolData(BoolArray { data })).boxed()
        }
        ElementType::Int8 => vec(any::<i8>().prop_map(i32::from), count).prop_map(ints).boxed(),
        ElementType::Int16 => vec(any::<i16>().prop_map(i32::from), count).prop_map(ints).boxed(),
        ElementType::Int32 => vec(any::<i32>(), count).prop_map(ints).boxed(),
        ElementType::Int64 => {
            vec(any::<i64>(), count).prop_map(|data| Scalars::LongData(LongArray { data })).boxed()
        }
        ElementType::Float => {
            vec(any_f32(), count).prop_map(|data| Scalars::FloatData(FloatArray { data })).boxed()
        }
        ElementType::Double => {
            vec(any_f64(), count).prop_map(|data| Scalars::DoubleData(DoubleArray { data })).boxed()
        }
        ElementType::VarChar => {
            vec(any_text(), count).prop_map(|data| Scalars::StringData(WireStrings { data })).boxed()
        }
    }
}

fn any_values(kind: &FieldType, rows: usize) -> BoxedStrategy<WireField> {
    let element = |element| any_scalars(element, rows).prop_map(scalars).boxed();
    let byte_vectors = |wrap: fn(Vec<u8>) -> Vectors| {
        let dim = kind.dim().unwrap();
        vec(any::<u8>(), rows * kind.vector_bytes().unwrap())
            .prop_map(move |data| vectors(dim, wrap(data)))
            .boxed()
    };
    match *kind {
        FieldType::Bool => element(ElementType::Bool),
        FieldType::Int8 => element(ElementType::Int8),
        FieldType::Int16 => element(ElementType::Int16),
        FieldType::Int32 => element(ElementType::Int32),
        FieldType::Int64 => element(ElementType::Int64),
        FieldType::Float => element(ElementType::Float),
        FieldType::Double => element(ElementType::Double),
        FieldType::VarChar { .. } => element(ElementType::VarChar),
        FieldType::Json => {
            vec(any_json(), rows).prop_map(|data| scalars(Scalars::JsonData(JsonArray { data }))).boxed()
        }
        FieldType::Array { element, max_capacity, .. } => {
            let list = any_scalars(element, 0..=max_capacity as usize)
                .prop_map(|data| ScalarField { data: Some(data), valid_data: Vec::new() });
            vec(list, rows)
                .prop_map(move |data| {
                    let element_type = type_number(&element_kind(element)) as i32;
                    scalars(Scalars::ArrayData(ArrayArray { data, element_type }))
                })
                .boxed()
        }
        FieldType::FloatVector { dim } => vec(any_f32(), rows * dim as usize)
            .prop_map(move |data| vectors(dim, Vectors::FloatVector(FloatArray { data })))
            .boxed(),
        FieldType::BinaryVector { .. } => byte_vectors(Vectors::BinaryVector),
        FieldType::Float16Vector { .. } => byte_vectors(Vectors::Float16Vector),
        FieldType::BFloat16Vector { .. } => byte_vectors(Vectors::Bfloat16Vector),
        FieldType::SparseFloatVector => {
            vec(any_sparse(), rows).prop_map(|rows| sparse_vectors(&rows)).boxed()
        }
        ref other => panic!("{other} is not generated"),
    }
}

fn element_kind(element: ElementType) -> FieldType {
    match element {
        ElementType::Bool => FieldType::Bool,
        ElementType::Int8 => FieldType::Int8,
        ElementType::Int16 => FieldType::Int16,
        ElementType::Int32 => FieldType::Int32,
        ElementType::Int64 => FieldType::Int64,
        ElementType::Float => FieldType::Float,
        ElementType::Double => FieldType::Double,
        ElementType::VarChar => FieldType::VarChar { max_length: 64 },
    }
}

/// Columns, the key somewhere among them, sometimes `$meta` at the end; and rows for them, as an
/// insert would carry them.
pub(crate) fn any_table() -> impl Strategy<Value = (Vec<Column>, Vec<FieldData>)> {
    let key = prop_oneof![Just(FieldType::Int64), Just(FieldType::VarChar { max_length: 64 })];
    let kinds = (vec(any_kind(), 0..6), key, any::<prop::sample::Index>(), any::<bool>());
    let columns = kinds.prop_map(|(kinds, key, place, dynamic)| {
        let mut columns: Vec<_> =
            kinds.into_iter().enumerate().map(|(i, kind)| column(&format!("field {i}"), kind)).collect();
        columns.insert(place.index(columns.len() + 1), column(KEY, key));
        columns.extend(dynamic.then(|| column(crate::schema::DYNAMIC_COLUMN, FieldType::Json)));
        columns
    });
    (columns, 0usize..9).prop_flat_map(|(columns, rows)| {
        let values: Vec<_> = columns.iter().map(|c| any_values(&c.kind, rows)).collect();
        (Just(columns), values).prop_map(|(columns, values)| {
            let fields = columns.iter().zip(values).map(|(column, data)| field(column, data)).collect();
            (columns, fields)
        })
    })
}

/// The ways in which servers say the same: what differs from an insert request and must not
/// matter.
fn as_servers_say_it(column: &Column, mut data: FieldData, id: i64, choices: u8) -> FieldData {
    let choice = |bit: u8| choices & (1 << bit) != 0;
    data.field_id = id;
    if column.dynamic && choice(0) {
        data.field_name = String::new();
        data.is_dynamic = true;
    }
    match &mut data.field {
        Some(WireField::Scalars(field)) => {
            if let (true, Some(Scalars::JsonData(json))) = (choice(1), &mut field.data) {
                field.data = Some(Scalars::BytesData(BytesArray { data: std::mem::take(&mut json.data) }));
            }
            if let Some(Scalars::ArrayData(lists)) = &mut field.data {
                if choice(1) {
                    lists.element_type = 0;
                }
                for list in &mut lists.data {
                    // A tag and a length of zero.
                    let empty = list.data.as_ref().is_some_and(|data| data.encoded_len() == 2);
                    match (empty, choice(2), choice(3)) {
                        (true, true, true) => list.data = None,
                        (true, true, false) => {
                            list.data = Some(Scalars::DoubleData(DoubleArray::default()));
                        }
                        _ => {}
                    }
                }
            }
            let rows = choice(4).then(|| rows_of(field)).flatten();
            field.valid_data = vec![true; rows.unwrap_or(0)];
        }
        Some(WireField::Vectors(field)) => {
            if let (true, Some(Vectors::SparseFloatVector(sparse))) = (choice(1), &mut field.data) {
                (field.dim, sparse.dim) = (7, 9);
            }
            if choice(2) {
                field.dim = 0;
            }
        }
        _ => {}
    }
    data
}

fn rows_of(field: &ScalarField) -> Option<usize> {
    Some(match field.data.as_ref()? {
        Scalars::BoolData(d) => d.data.len(),
        Scalars::IntData(d) => d.data.len(),
        Scalars::LongData(d) => d.data.len(),
        Scalars::StringData(d) => d.data.len(),
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_survives_to_the_bit(
        (columns, sent) in any_table(),
        choices in any::<[u8; 8]>(),
        extras in vec((any_kind(), 0usize..4), 0..3),
        order in any::<u64>(),
    ) {
        let rows = sent.len();
        let mut reply: Vec<_> = columns.iter().zip(&sent).zip(choices.iter().cycle()).enumerate()
            .map(|(id, ((column, data), choices))| as_servers_say_it(column, data.clone(), id as i64, *choices))
            .collect();
        // What was not asked for, even with another number of rows, is not looked at.
        for (i, (kind, rows)) in extras.into_iter().enumerate() {
            let lists = Scalars::LongData(LongArray { data: vec![0; rows] });
            reply.push(field(&column(&format!("extra {i}"), kind), scalars(lists)));
        }
        let mut places: Vec<_> = (0..reply.len()).collect();
        places.sort_by_key(|place| (*place as u64 + 1).wrapping_mul(order | 1));
        let shuffled = places.into_iter().map(|place| reply[place].clone()).collect();

        let batch = decode(&columns, KEY, shuffled).unwrap();
        prop_assert_eq!(batch.schema(), arrow_schema(&columns));
        prop_assert!(batch.columns().iter().all(|c| c.null_count() == 0));
        let again = encode(&columns, &batch).unwrap();
        prop_assert_eq!(again.len(), rows);
        prop_assert_eq!(bytes(&again), bytes(&sent));

        // Slices are what large batches are inserted in.
        let cut = batch.num_rows() / 2;
        for part in [batch.slice(0, cut), batch.slice(cut, batch.num_rows() - cut)] {
            let again = decode(&columns, KEY, encode(&columns, &part).unwrap()).unwrap();
            prop_assert_eq!(again, part);
        }
    }

    #[test]
    fn sparse_text_reads_back_to_the_same_bits_by_every_reader(pairs in any_sparse()) {
        let mut wire = Vec::new();
        for (index, value) in &pairs {
            wire.extend_from_slice(&index.to_le_bytes());
            wire.extend_from_slice(&value.to_le_bytes());
        }
        let mut text = String::new();
        sparse::to_json(&wire, &mut text).unwrap();
        prop_assert_eq!(sparse::from_json(&text).unwrap(), wire);

        // It is JSON, with nothing but the pairs in it; and a reader that knows only doubles, as
        // most JSON readers do, narrows them to the same bits.
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(parsed.len(), pairs.len());
        for (index, value) in &pairs {
            let double = parsed[&index.to_string()].as_f64().unwrap();
            prop_assert_eq!((double as f32).to_bits(), value.to_bits(), "{} in {}", value, text);
        }
    }

    #[test]
    fn no_text_makes_the_sparse_reader_panic(text in any_text()) {
        let _ = sparse::from_json(&text);
        let _ = sparse::from_json(&format!("{{{text}}}"));
        let _ = sparse::from_json(&format!("{{\"{text}\":1}}"));
    }
}

// ---- the table, value by value ----

pub(crate) fn longs(data: Vec<i64>) -> WireField {
    scalars(Scalars::LongData(LongArray { data }))
}

pub(crate) fn ints(data: Vec<i32>) -> WireField {
    scalars(Scalars::IntData(IntArray { data }))
}

pub(crate) fn texts(data: &[&str]) -> WireField {
    scalars(Scalars::StringData(WireStrings { data: data.iter().map(ToString::to_string).collect() }))
}

pub(crate) fn jsons(data: &[&[u8]]) -> WireField {
    scalars(Scalars::JsonData(JsonArray { data: data.iter().map(|json| json.to_vec()).collect() }))
}

pub(crate) fn arrays(rows: Vec<Option<Scalars>>) -> WireField {
    let data = rows.into_iter().map(|data| ScalarField { data, valid_data: Vec::new() }).collect();
    scalars(Scalars::ArrayData(ArrayArray { data, element_type: 0 }))
}

/// Both directions could be wrong alike, so the middle is looked at once for every type.
#[test]
fn every_type_has_its_place_in_arrow() {
    let array = |element| FieldType::Array { element, element_nullable: false, max_capacity: 9 };
    let floats = |data: &[f32]| Vectors::FloatVector(FloatArray { data: data.to_vec() });
    let some_ints = |data: &[i32]| Some(Scalars::IntData(IntArray { data: data.to_vec() }));
    #[rustfmt::skip]
    let table: Vec<(FieldType, WireField, &str, &str)> = vec![
        (FieldType::Bool, scalars(Scalars::BoolData(BoolArray { data: vec![true, false] })), "Boolean", "true|false"),
        (FieldType::Int8, ints(vec![-128, 127]), "Int8", "-128|127"),
        (FieldType::Int16, ints(vec![-32768, 32767]), "Int16", "-32768|32767"),
        (FieldType::Int32, ints(vec![i32::MIN, i32::MAX]), "Int32", "-2147483648|2147483647"),
        (FieldType::Int64, longs(vec![i64::MIN, i64::MAX]), "Int64", "-9223372036854775808|9223372036854775807"),
        (FieldType::Float, scalars(Scalars::FloatData(FloatArray { data: vec![-0.0, 0.1] })), "Float32", "-0.0|0.1"),
        (FieldType::Double, scalars(Scalars::DoubleData(DoubleArray { data: vec![-0.0, 0.1] })), "Float64", "-0.0|0.1"),
        (FieldType::VarChar { max_length: 9 }, texts(&["", "a\0\"ü"]), "Utf8", "|a\0\"ü"),
        (FieldType::Json, jsons(&[b"{\"b\": 1e2,\"a\":0.10}", b"null"]), "Utf8", "{\"b\": 1e2,\"a\":0.10}|null"),
        (array(ElementType::Int8), arrays(vec![some_ints(&[1, -1]), None]), "List(non-null Int8, field: 'element')", "[1, -1]|[]"),
        (FieldType::FloatVector { dim: 2 }, vectors(2, floats(&[1.0, -0.0, 0.5, 2.0])), "List(non-null Float32, field: 'element')", "[1.0, -0.0]|[0.5, 2.0]"),
        (FieldType::BinaryVector { dim: 16 }, vectors(16, Vectors::BinaryVector(vec![1, 2, 3, 255])), "List(non-null UInt8, field: 'element')", "[1, 2]|[3, 255]"),
        (FieldType::Float16Vector { dim: 1 }, vectors(1, Vectors::Float16Vector(vec![0, 60, 0, 188])), "List(non-null UInt8, field: 'element')", "[0, 60]|[0, 188]"),
        (FieldType::BFloat16Vector { dim: 1 }, vectors(1, Vectors::Bfloat16Vector(vec![128, 63, 0, 0])), "List(non-null UInt8, field: 'element')", "[128, 63]|[0, 0]"),
        (FieldType::SparseFloatVector, sparse_vectors(&[vec![], vec![(0, -0.0), (4_294_967_294, 1e-45)]]), "Utf8", "{}|{\"0\":-0.0,\"4294967294\":1e-45}"),
    ];
    for (kind, sent, arrow, values) in table {
        let columns = [column("x", kind.clone())];
        let batch = decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap();
        assert_eq!(batch.schema().field(0).data_type().to_string(), arrow, "{kind}");
        assert!(!batch.schema().field(0).is_nullable());
        assert_eq!(two_values(batch.column(0)), values, "{kind}");
    }
}

/// The two values of a column as text, by Rust's own formatting.
fn two_values(array: &arrow_array::ArrayRef) -> String {
    use arrow_array::types::*;
    fn one(array: &arrow_array::ArrayRef, row: usize) -> String {
        match array.data_type() {
            DataType::Boolean => format!("{}", array.as_boolean().value(row)),
            DataType::Int8 => format!("{}", array.as_primitive::<Int8Type>().value(row)),
            DataType::Int16 => format!("{}", array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => format!("{}", array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => format!("{}", array.as_primitive::<Int64Type>().value(row)),
            DataType::UInt8 => format!("{}", array.as_primitive::<UInt8Type>().value(row)),
            DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
            DataType::List(_) => {
                let list = array.as_list::<i32>().value(row);
                let items: Vec<_> = (0..list.len()).map(|item| one(&list, item)).collect();
                format!("[{}]", items.join(", "))
            }
            other => panic!("{other} has no place in a part"),
        }
    }
    format!("{}|{}", one(array, 0), one(array, 1))
}

#[test]
fn no_rows_and_no_data_are_empty_columns() {
    let kinds =
        [FieldType::Int64, FieldType::Json, FieldType::FloatVector { dim: 4 }, FieldType::SparseFloatVector];
    let columns: Vec<_> = kinds.iter().map(|kind| column(kind.name(), kind.clone())).collect();
    // A server's last page has no columns at all, or columns without anything in them.
    let bare = |c: &Column| FieldData { field: None, ..field(c, longs(vec![])) };
    let no_data = |c: &Column| match c.kind.is_vector() {
        true => field(c, WireField::Vectors(VectorField::default())),
        false => field(c, WireField::Scalars(ScalarField::default())),
    };
    for reply in [Vec::new(), columns.iter().map(bare).collect(), columns.iter().map(no_data).collect()] {
        let batch = decode(&columns, "Int64", reply).unwrap();
        assert_eq!((batch.num_rows(), batch.schema()), (0, arrow_schema(&columns)));
    }
    // With rows, a column without data is not one of empty values.
    for missing in [bare, no_data] {
        let reply = columns.iter().map(|c| match &c.kind {
            FieldType::Int64 => field(c, longs(vec![1])),
            FieldType::Json => missing(c),
            FieldType::FloatVector { .. } => {
                field(c, vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; 4] })))
            }
            _ => field(c, sparse_vectors(&[vec![]])),
        });
        let error = decode(&columns, "Int64", reply.collect()).unwrap_err();
        assert_eq!(error.to_string(), "field \"JSON\" (JSON): 0 values for 1 rows");
    }
}

// ---- refusals ----

/// The refusal of one bad column beside a good key column. The key stands behind a column that
/// could be mistaken for it, and the bad column behind both.
fn refusal(kind: FieldType, sent: WireField) -> String {
    refusal_of(kind.clone(), |c| field(c, sent.clone()))
}

fn refusal_of(kind: FieldType, sent: impl Fn(&Column) -> FieldData) -> String {
    let columns = [
        column("decoy", FieldType::Int64),
        column(KEY, FieldType::VarChar { max_length: 9 }),
        column("bad", kind),
        column("after", FieldType::Bool),
    ];
    let reply = vec![
        field(&columns[0], longs(vec![10, 20, 30])),
        field(&columns[1], texts(&["k1", "k2", "k3"])),
        sent(&columns[2]),
        field(&columns[3], scalars(Scalars::BoolData(BoolArray { data: vec![true; 3] }))),
    ];
    let error = decode(&columns, KEY, reply).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    error.to_string()
}

#[test]
fn integers_that_do_not_fit_are_named() {
    for (kind, name, limits) in
        [(FieldType::Int8, "Int8", [128, -129]), (FieldType::Int16, "Int16", [32_768, -32_769])]
    {
        for value in limits {
            let expected = format!("field \"bad\" ({name}): {value} does not fit, row with key \"k2\"");
            assert_eq!(refusal(kind.clone(), ints(vec![0, value, 0])), expected);
        }
    }
    let lists = arrays(vec![
        Some(Scalars::IntData(IntArray { data: vec![1, 2] })),
        None,
        Some(Scalars::IntData(IntArray { data: vec![127, 128] })),
    ]);
    assert_eq!(
        refusal(
            FieldType::Array { element: ElementType::Int8, element_nullable: false, max_capacity: 4 },
            lists
        ),
        "field \"bad\" (Array<Int8>(4)): element 128 does not fit, row with key \"k3\""
    );
    let lists = arrays(vec![Some(Scalars::IntData(IntArray { data: vec![40_000] })), None, None]);
    assert_eq!(
        refusal(
            FieldType::Array { element: ElementType::Int16, element_nullable: false, max_capacity: 4 },
            lists
        ),
        "field \"bad\" (Array<Int16>(4)): element 40000 does not fit, row with key \"k1\""
    );
}

#[test]
fn integer_keys_name_rows_too() {
    let columns = [
        column("decoy", FieldType::VarChar { max_length: 9 }),
        column(KEY, FieldType::Int64),
        column("bad", FieldType::Int8),
    ];
    let reply = vec![
        field(&columns[0], texts(&["x", "y"])),
        field(&columns[1], longs(vec![-7, i64::MAX])),
        field(&columns[2], ints(vec![0, 1000])),
    ];
    let error = decode(&columns, KEY, reply).unwrap_err();
    assert_eq!(
        error.to_string(),
        "field \"bad\" (Int8): 1000 does not fit, row with key 9223372036854775807"
    );
}

#[test]
fn every_column_has_a_value_for_every_row() {
    for count in [0, 2, 4] {
        assert_eq!(
            refusal(FieldType::Int64, longs(vec![0; count])),
            format!("field \"bad\" (Int64): {count} values for 3 rows")
        );
        assert_eq!(
            refusal(FieldType::SparseFloatVector, sparse_vectors(&vec![vec![]; count])),
            format!("field \"bad\" (SparseFloatVector): {count} values for 3 rows")
        );
        let kind = FieldType::Array { element: ElementType::Bool, element_nullable: false, max_capacity: 4 };
        assert_eq!(
            refusal(kind, arrays(vec![None; count])),
            format!("field \"bad\" (Array<Bool>(4)): {count} values for 3 rows")
        );
    }
}

#[test]
fn vectors_have_their_length() {
    for values in [0, 3, 11, 13, 16] {
        let sent = vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; values] }));
        assert_eq!(
            refusal(FieldType::FloatVector { dim: 4 }, sent),
            format!("field \"bad\" (FloatVector(4)): {values} values are not 3 vectors of 4")
        );
    }
    for (kind, wrap) in [
        (FieldType::BinaryVector { dim: 16 }, Vectors::BinaryVector as fn(Vec<u8>) -> Vectors),
        (FieldType::Float16Vector { dim: 1 }, Vectors::Float16Vector),
        (FieldType::BFloat16Vector { dim: 1 }, Vectors::Bfloat16Vector),
    ] {
        for count in [5, 7, 8] {
            assert_eq!(
                refusal(kind.clone(), vectors(kind.dim().unwrap(), wrap(vec![0; count]))),
                format!("field \"bad\" ({kind}): {count} values are not 3 vectors of 2")
            );
        }
    }
    // Alone, without a key to count by.
    let columns = [column("v", FieldType::FloatVector { dim: 4 })];
    let sent = vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; 7] }));
    let error = decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap_err();
    assert_eq!(error.to_string(), "field \"v\" (FloatVector(4)): 7 values are not whole vectors of 4");
}

#[test]
fn sparse_vectors_are_checked_pair_by_pair() {
    let contents = |second: Vec<u8>| {
        let data =
            Vectors::SparseFloatVector(SparseFloatArray { contents: vec![vec![], second, vec![]], dim: 0 });
        vectors(0, data)
    };
    let pairs = |pairs: &[(u32, f32)]| {
        pairs.iter().flat_map(|(i, v)| [i.to_le_bytes(), v.to_le_bytes()].concat()).collect::<Vec<_>>()
    };
    for (bytes, what) in [
        (vec![0; 7], "7 bytes are not whole pairs of index and value"),
        (vec![0; 12], "12 bytes are not whole pairs of index and value"),
        (pairs(&[(5, 1.0), (4, 1.0)]), "index 4 does not ascend"),
        (pairs(&[(5, 1.0), (5, 1.0)]), "index 5 does not ascend"),
        (pairs(&[(u32::MAX, 1.0)]), "index 4294967295 is too large"),
        (pairs(&[(1, 0.0), (2, f32::NAN)]), "the value NaN at index 2 is not finite"),
        (pairs(&[(1, f32::INFINITY)]), "the value inf at index 1 is not finite"),
        (pairs(&[(1, f32::NEG_INFINITY)]), "the value -inf at index 1 is not finite"),
    ] {
        let expected = format!("field \"bad\" (SparseFloatVector): {what}, row with key \"k2\"");
        assert_eq!(refusal(FieldType::SparseFloatVector, contents(bytes)), expected);
    }
}

#[test]
fn json_is_text() {
    let error = refusal(FieldType::Json, jsons(&[b"{}", b"{}", b"\"\xff\""]));
    assert!(error.starts_with("field \"bad\" (JSON): invalid UTF-8, row with key \"k3\": "), "{error}");
    // What JSON text says is not judged: the server let it in, and its bytes are what is kept.
    let columns = [column("j", FieldType::Json)];
    let sent = vec![field(&columns[0], jsons(&[b"", b"not json"]))];
    assert_eq!(encode(&columns, &decode(&columns, KEY, sent.clone()).unwrap()).unwrap(), sent);
}

#[test]
fn nulls_are_refused_wherever_servers_say_them() {
    let null = "null in a field that cannot be null, row with key \"k2\"";
    // Until 2.5 beside the values, later within them; during a rolling upgrade both.
    let places: [(&[bool], &[bool]); 3] =
        [(&[true, false, true], &[]), (&[], &[true, false, true]), (&[true; 3], &[true, false, true])];
    for (outer, inner) in places {
        let (valid_data, nested) = (outer.to_vec(), inner.to_vec());
        let scalar = refusal_of(FieldType::Int64, |c| FieldData {
            valid_data: valid_data.clone(),
            field: Some(WireField::Scalars(ScalarField {
                data: Some(Scalars::LongData(LongArray { data: vec![1, 0, 3] })),
                valid_data: nested.clone(),
            })),
            ..field(c, longs(vec![]))
        });
        assert_eq!(scalar, format!("field \"bad\" (Int64): {null}"));
        let vector = refusal_of(FieldType::FloatVector { dim: 1 }, |c| FieldData {
            valid_data: valid_data.clone(),
            field: Some(WireField::Vectors(VectorField {
                dim: 1,
                // Servers leave out the values of null vectors.
                data: Some(Vectors::FloatVector(FloatArray { data: vec![1.0, 3.0] })),
                valid_data: nested.clone(),
            })),
            ..field(c, longs(vec![]))
        });
        assert_eq!(vector, format!("field \"bad\" (FloatVector(1)): {null}"));
    }
    let list = ScalarField {
        data: Some(Scalars::LongData(LongArray { data: vec![1, 0] })),
        valid_data: vec![true, false],
    };
    let lists = vec![ScalarField::default(), ScalarField::default(), list];
    assert_eq!(
        refusal(
            FieldType::Array { element: ElementType::Int64, element_nullable: false, max_capacity: 4 },
            scalars(Scalars::ArrayData(ArrayArray { data: lists, element_type: 0 }))
        ),
        "field \"bad\" (Array<Int64>(4)): null among the elements, row with key \"k3\""
    );
}

#[test]
fn another_type_than_declared_is_refused() {
    for (number, kind) in [
        (WireType::Int64 as i32, FieldType::Int32),
        (WireType::Double as i32, FieldType::Float),
        (WireType::String as i32, FieldType::VarChar { max_length: 9 }),
        (WireType::Float16Vector as i32, FieldType::BFloat16Vector { dim: 1 }),
        (WireType::None as i32, FieldType::Bool),
        (9_999, FieldType::Json),
        (-1, FieldType::SparseFloatVector),
    ] {
        let error = refusal_of(kind.clone(), |c| FieldData { r#type: number, ..field(c, longs(vec![0; 3])) });
        assert_eq!(error, format!("field \"bad\" ({kind}): the server sent type number {number}"));
    }
    // The number is right and the values are not.
    let floats = || Scalars::FloatData(FloatArray { data: vec![0.0; 3] });
    let bytes = || Vectors::Float16Vector(vec![0; 6]);
    let array = FieldType::Array { element: ElementType::Int64, element_nullable: false, max_capacity: 4 };
    let mixed = arrays(vec![Some(Scalars::LongData(LongArray { data: vec![1] })), Some(floats()), None]);
    for (kind, sent) in [
        (FieldType::Int64, scalars(floats())),
        (FieldType::Bool, ints(vec![0; 3])),
        (FieldType::Double, scalars(floats())),
        (FieldType::VarChar { max_length: 9 }, jsons(&[b"", b"", b""])),
        (FieldType::Json, texts(&["", "", ""])),
        (FieldType::Int64, vectors(1, bytes())),
        (FieldType::FloatVector { dim: 1 }, scalars(floats())),
        (FieldType::FloatVector { dim: 1 }, vectors(1, bytes())),
        (FieldType::BFloat16Vector { dim: 1 }, vectors(1, bytes())),
        (FieldType::SparseFloatVector, vectors(1, bytes())),
        (array.clone(), longs(vec![0; 3])),
        (array.clone(), arrays(vec![Some(floats()), None, None])),
        (array, mixed),
    ] {
        let error = refusal(kind.clone(), sent);
        assert_eq!(error, format!("field \"bad\" ({kind}): the server sent values of another type"));
    }
    let structs = WireField::StructArrays(StructArrayField::default());
    assert_eq!(
        refusal(FieldType::Int64, structs),
        "field \"bad\" (Int64): the server sent values of another type"
    );
}

#[test]
fn a_missing_column_is_named() {
    let columns =
        [column(KEY, FieldType::Int64), column("gone", FieldType::Bool), column("$meta", FieldType::Json)];
    let sent = vec![field(&columns[0], longs(vec![1])), field(&columns[2], jsons(&[b"{}"]))];
    let error = decode(&columns, KEY, sent.clone()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Integrity, "field \"gone\" (Bool): the server's reply does not have it".into())
    );
    let error = decode(&columns[..1], KEY, sent[1..].to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "field \"the key\" (Int64): the server's reply does not have it");
    let error = decode(
        &columns[1..],
        KEY,
        vec![field(&columns[1], scalars(Scalars::BoolData(BoolArray { data: vec![true] })))],
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "field \"$meta\" (JSON): the server's reply does not have it");
}

#[test]
fn a_part_that_does_not_fit_its_fields_is_not_sent() {
    use arrow_array::{ArrayRef, Float32Array, ListArray};
    let refused = |kind: FieldType, array: ArrayRef| {
        let columns = [column("bad", kind)];
        let fields = vec![ArrowField::new("bad", array.data_type().clone(), true)];
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), vec![array]).unwrap();
        let error = encode(&columns, &batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        error.to_string()
    };
    let lists = |lengths: &[usize]| {
        let values = Float32Array::from(vec![0.5; lengths.iter().sum()]);
        let offsets = arrow_buffer::OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::new(list_field(DataType::Float32, false), offsets, Arc::new(values), None))
    };
    assert_eq!(
        refused(FieldType::FloatVector { dim: 3 }, lists(&[3, 2, 4])),
        "field \"bad\" (FloatVector(3)): a vector of 2 values instead of 3 in row 1 of a batch"
    );
    assert_eq!(
        refused(FieldType::Int64, Arc::new(arrow_array::Int64Array::from(vec![Some(1), None]))),
        "field \"bad\" (Int64): null in a field that cannot be null"
    );
    for text in [
        "",
        "{",
        "}",
        "[]",
        "null",
        "{1:2}",
        "{\"1\":2,}",
        "{\"1\":\"2\"}",
        "{\"1\":2}x",
        "{\"-1\":2}",
        "{\"1.0\":2}",
        "{\"4294967295\":1}",
        "{\"99999999999\":1}",
        "{\"2\":1,\"1\":1}",
        "{\"1\":1,\"1\":2}",
        "{\"1\":NaN}",
        "{\"1\":inf}",
        "{\"1\":1e39}",
        "{\"1\":{}}",
        "{\"indices\":[1],\"values\":[2]}",
    ] {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["{}", text]));
        let error = refused(FieldType::SparseFloatVector, text);
        assert!(error.starts_with("field \"bad\" (SparseFloatVector): "), "{error}");
    }
}

#[test]
fn the_size_of_an_insert_is_known_beforehand() {
    let columns = [
        column(KEY, FieldType::Int64),
        column("v", FieldType::FloatVector { dim: 512 }),
        column("t", FieldType::VarChar { max_length: 9 }),
    ];
    let rows = 300;
    let sent = vec![
        field(&columns[0], longs((0..rows).collect())),
        field(
            &columns[1],
            vectors(512, Vectors::FloatVector(FloatArray { data: vec![0.5; 512 * rows as usize] })),
        ),
        field(&columns[2], texts(&vec!["some text"; rows as usize])),
    ];
    let real: usize = sent.iter().map(Message::encoded_len).sum();
    let batch = decode(&columns, KEY, sent).unwrap();
    let guess = wire_bytes(&batch);
    assert!(guess.abs_diff(real) < real / 100, "{guess} for {real}");
    // A slice shares its buffers with the whole and must not be taken for it.
    let slice = wire_bytes(&batch.slice(100, 30));
    assert!(slice.abs_diff(guess / 10) < guess / 100, "{slice} of {guess}");
}

// ---- keys ----

#[test]
fn keys_out_of_order_are_found() {
    let ints = |values: &[i64]| decode_keys_of(FieldType::Int64, longs(values.to_vec()));
    let text = |values: &[&str]| decode_keys_of(FieldType::VarChar { max_length: 9 }, texts(values));
    let broken = |batch: &RecordBatch, after: Option<Key>| {
        Keys::of(batch, KEY).unwrap().first_out_of_order(after.as_ref())
    };
    assert_eq!(broken(&ints(&[]), Some(Key::Int(5))), None);
    assert_eq!(broken(&ints(&[6, 7, 8]), Some(Key::Int(5))), None);
    assert_eq!(broken(&ints(&[5, 7]), Some(Key::Int(5))), Some(0), "the key of the page before");
    assert_eq!(broken(&ints(&[1, 2, 2]), None), Some(2));
    assert_eq!(broken(&ints(&[i64::MIN, i64::MAX, 0]), None), Some(2));
    assert_eq!(
        broken(&text(&["", "\0", "a", "b\u{ffff}", "b\u{10000}"]), None),
        None,
        "by bytes, not by UTF-16"
    );
    assert_eq!(broken(&text(&["a", "B"]), None), Some(1));
    assert_eq!(broken(&text(&["b"]), Some(Key::Text("b".into()))), Some(0));
}

fn decode_keys_of(kind: FieldType, sent: WireField) -> RecordBatch {
    let columns = [column(KEY, kind)];
    decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap()
}

#[test]
fn the_digest_of_keys_follows_the_format() {
    let digest = |batches: &[RecordBatch]| {
        let mut hasher = Hasher::default();
        batches.iter().for_each(|batch| Keys::of(batch, KEY).unwrap().hash_into(&mut hasher));
        hasher.finish()
    };
    let by_hand = crate::digest::Sha256::of;
    let ints = |values: &[i64]| decode_keys_of(FieldType::Int64, longs(values.to_vec()));
    assert_eq!(
        digest(&[ints(&[1, -2])]),
        by_hand(&[1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255])
    );
    assert_eq!(
        digest(&[ints(&[1]), ints(&[]), ints(&[-2])]),
        digest(&[ints(&[1, -2])]),
        "pages do not matter"
    );
    let text = |values: &[&str]| decode_keys_of(FieldType::VarChar { max_length: 9 }, texts(values));
    assert_eq!(digest(&[text(&["", "ü"])]), by_hand(b"\0\0\0\0\x02\0\0\0\xc3\xbc"));
    assert_ne!(digest(&[text(&["ab", "c"])]), digest(&[text(&["a", "bc"])]));
}

#[test]
fn counts_are_read_and_nonsense_is_not() {
    let count =
        |field: WireField| decode_counts(vec![FieldData { field: Some(field), ..Default::default() }]);
    assert_eq!(count(longs(vec![7])).unwrap(), 7);
    for wrong in [longs(vec![]), longs(vec![-1]), ints(vec![7])] {
        assert_eq!(count(wrong).unwrap_err().kind(), ErrorKind::Integrity);
    }
    assert!(decode_counts(Vec::new()).is_err());
}
